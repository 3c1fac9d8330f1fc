"""Estimates of log p(x), its exact value where the latent space is a plane, and what q loses."""

import itertools
import math
from typing import NamedTuple

import torch

from vae_lessons.data import check_pixels
from vae_lessons.elbo import log_importance_weights
from vae_lessons.kl import kl_to_standard_normal
from vae_lessons.reparameterization import reparameterize
from vae_lessons.training import cosine

ROWS_AT_ONCE = 2_000  # more do not fit into the cache of a processor, which is slower


def log_marginal_likelihood(model, x, num_samples, generator=None):
    """The importance-weighted estimate of log p(x), with draws from the encoder's q.

    ``log mean_k p(x given z_k) p(z_k) / q(z_k given x)``; on average never above log p(x), and
    rising to it as ``num_samples`` grows.

    Shapes: x (B, D) -> (B,).  Units: nats.
    Raises: ValueError for pixels that are not (B, D) in [0, 1] or for num_samples below 1.
    Source: Burda, Grosse & Salakhutdinov (2016), equation 8; chapter "marginal_likelihood".
    """
    def log_weights(count):
        return log_importance_weights(model, x, count, generator)

    return _log_mean_over_samples(log_weights, x, num_samples)


def log_marginal_from_prior(model, x, num_samples, latent_dim, generator=None):
    """The naive Monte Carlo estimate of log p(x), with draws from the prior N(0, I).

    Shapes: x (B, D) -> (B,).  Units: nats.
    Raises: ValueError for pixels that are not (B, D) in [0, 1] or for num_samples below 1.
    Source: chapter "marginal_likelihood".
    """
    def log_likelihoods(count):
        copies = x.repeat(count, 1)
        z = torch.randn(
            len(copies), latent_dim, generator=generator, device=x.device, dtype=x.dtype
        )
        return model.log_px_z(copies, z).view(count, len(x)).T

    return _log_mean_over_samples(log_likelihoods, x, num_samples)


@torch.no_grad()
def _log_mean_over_samples(log_weights, x, num_samples):
    """Log of the mean of exp(log weight), drawn in chunks: log_weights(K) -> (B, K)."""
    check_pixels(x)
    _check_num_samples(num_samples)
    total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    for count in _chunks(num_samples, len(x)):
        total = torch.logaddexp(total, log_weights(count).double().logsumexp(dim=1))
    return (total - math.log(num_samples)).to(x.dtype)


def _check_num_samples(num_samples):
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}: at least one sample is needed")


def _chunks(num_samples, num_images):
    """How many samples of every image to draw at once, again and again, until all are drawn."""
    at_once = max(1, ROWS_AT_ONCE // max(1, num_images))
    for start in range(0, num_samples, at_once):
        yield min(at_once, num_samples - start)


def gaussian_elbo(model, x, mu, log_var, num_samples, generator=None):
    """The ELBO of each image with a Gaussian q of its own, whatever the encoder says.

    The mean of log p(x given z) over ``num_samples`` draws, less the KL, which is exact for the
    prior N(0, I). Gradients reach mu and log_var.

    Shapes: x (B, D), mu, log_var (B, L) -> (B,).  Units: nats.
    Raises: ValueError if mu and log_var differ in shape or are not (B, L), or for num_samples
    below 1.
    Source: Cremer, Li & Duvenaud (2018); chapter "evaluation".
    """
    kl = kl_to_standard_normal(mu, log_var)
    if len(mu) != len(x):
        raise ValueError(f"{len(x)} images but {len(mu)} Gaussians: give one for each image")
    _check_num_samples(num_samples)
    total = torch.zeros_like(kl)
    for count in _chunks(num_samples, len(x)):
        z = reparameterize(mu.repeat(count, 1), log_var.repeat(count, 1), generator)
        total = total + model.log_px_z(x.repeat(count, 1), z).view(count, len(x)).sum(dim=0)
    return total / num_samples - kl


def best_gaussian(
    model, x, start=None, *, steps=150, num_samples=4, learning_rate=0.1, generator=None
):
    """The diagonal Gaussian with the highest ELBO, searched for each image on its own.

    Climbs ``gaussian_elbo`` with Adam and fresh draws at every step, from ``start``, a pair
    (mu, log_var), or from the encoder's answer. The model stays as it is. It finds a summit, which
    need not be the highest where the posterior has several patches: compare several starts.

    Shapes: x (B, D) -> mu, log_var, each (B, L).
    Raises: ValueError for pixels that are not (B, D) in [0, 1].
    Source: Cremer, Li & Duvenaud (2018); chapter "evaluation".
    """
    check_pixels(x)
    started = model.encode(x) if start is None else start
    q = [part.detach().clone().requires_grad_() for part in started]
    optimizer, schedule = torch.optim.Adam(q, learning_rate), cosine()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * schedule((step + 0.5) / steps)
        loss = -gaussian_elbo(model, x, *q, num_samples, generator).sum()
        for part, gradient in zip(q, torch.autograd.grad(loss, q), strict=True):
            part.grad = gradient
        optimizer.step()
    mu, log_var = (part.detach() for part in q)
    return mu, log_var


@torch.no_grad()
def active_units(model, x, threshold=0.01):
    """Which latent dimensions say something of the images: their centre mu varies over them.

    Shapes: x (N, D) -> (L,) of bool.  ``threshold`` is a variance, in squared latent units.
    Raises: ValueError for pixels that are not (N, D) in [0, 1], or fewer than two images.
    Source: Burda, Grosse & Salakhutdinov (2016), section 5.2; chapter "evaluation".
    """
    check_pixels(x)
    if len(x) < 2:
        raise ValueError(f"got {len(x)} images: a variance needs at least two")
    mu, _ = model.encode(x)
    return mu.var(dim=0) > threshold


def plane_grid(half_width=6.0, step=0.05):
    """The points of a square grid over a 2-D latent space, centred on zero.

    Shapes: -> z (G, 2), row by row from the lower left.
    Raises: ValueError if half_width or step is not positive.
    """
    if not (half_width > 0 and step > 0):
        raise ValueError(f"half_width {half_width} and step {step} must both be positive")
    steps = round(half_width / step)
    axis = step * torch.arange(-steps, steps + 1)
    return torch.cartesian_prod(axis, axis).flip(1)


@torch.no_grad()
def log_joint_on_grid(model, x, z):
    """log p(x given z) + log p(z) of every image at every point of a grid.

    Shapes: x (B, D), z (G, L) -> (B, G).  Units: nats.
    """
    parts = []
    for z_part in z.split(ROWS_AT_ONCE // max(1, len(x)) + 1):
        count = len(z_part)
        log_px_z = model.log_px_z(x.repeat_interleave(count, 0), z_part.repeat(len(x), 1))
        parts.append(log_px_z.view(len(x), count) + model.log_pz(z_part))
    return torch.cat(parts, dim=1)


def log_marginal_on_grid(model, x, half_width=6.0, step=0.05):
    """log p(x) by adding up the joint density over a grid of a 2-D latent space.

    The sum times ``step ** 2`` is the integral, as exact as the step is small beside the width
    of the posterior: halve the step to see what is left to gain.

    Shapes: x (B, D) -> (B,) in float64.  Units: nats.
    Raises: ValueError for pixels that are not (B, D) in [0, 1].
    Source: the rectangle rule; chapter "marginal_likelihood".
    """
    check_pixels(x)
    total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    for z in plane_grid(half_width, step).to(x).split(ROWS_AT_ONCE):
        joint = log_joint_on_grid(model, x, z).double()
        total = torch.logaddexp(total, joint.logsumexp(dim=1))
    return total + 2 * math.log(step)


def log_marginal_refined(model, x, half_width=6.0, step=0.2, halvings=4):
    """log p(x) by adding up the joint density over squares that are small where it is large.

    Begins with a grid over the whole plane; then, image by image, the squares that can matter
    are cut in four, ``halvings`` times. The last ones have the side ``step / 2 ** halvings``.

    Shapes: x (B, D) -> (B,) in float64.  Units: nats.
    Raises: ValueError for pixels that are not (B, D) in [0, 1].
    Source: the rectangle rule; chapter "marginal_likelihood".
    """
    check_pixels(x)
    grid = plane_grid(half_width, step).to(x)
    values = []
    for one in x[:, None]:
        values.append(next(itertools.islice(_halvings(model, one, grid, step), halvings, None)))
    return torch.stack(values) if values else x.new_empty(0, dtype=torch.float64)


class Settled(NamedTuple):
    """log p(x) in nats, how far the last halving moved it, and the last side: three of (B,)."""

    log_px: torch.Tensor
    moved: torch.Tensor
    side: torch.Tensor


def log_marginal_settled(model, x, tolerance=1e-4, half_width=6.0, step=0.2, most_halvings=8):
    """log p(x) by halving the squares of each image until that moves it no more.

    As ``log_marginal_refined``, but an image is done when a halving, the second or a later one,
    moves its log p(x) by less than ``tolerance`` nats, or after ``most_halvings``. ``moved`` says
    by how much the last one did. Once the squares are smaller than the posterior is wide, each
    halving takes away nearly all of the error that is left.

    Shapes: x (B, D) -> three of (B,) in float64.  Units: nats; the side in latent units.
    Raises: ValueError for pixels that are not (B, D) in [0, 1].
    Source: the rectangle rule; chapter "evaluation".
    """
    check_pixels(x)
    grid = plane_grid(half_width, step).to(x)
    rows = []
    for one in x[:, None]:
        values = enumerate(itertools.pairwise(_halvings(model, one, grid, step)), start=1)
        for halving, (before, now) in values:
            moved = (now - before).abs().item()
            if halving >= most_halvings or (halving >= 2 and moved < tolerance):
                break
        rows.append([now.item(), moved, step / 2**halving])
    return Settled(*torch.tensor(rows, dtype=torch.float64, device=x.device).view(-1, 3).T)


def _halvings(model, x, z, step):
    """log p(x) of one image from squares of side ``step`` with centres z, of half that side, ..."""
    for halving in itertools.count():
        joint = log_joint_on_grid(model, x, z)[0]
        yield joint.double().logsumexp(dim=0) + 2 * math.log(step)
        # A narrow peak can stand between coarse centres, so the first look keeps the most.
        keep = joint > joint.max() - max(25.0, 100.0 / 2**halving)
        z = cut_in_four(z[keep], step)
        step = step / 2


def cut_in_four(centres, side):
    """The centres of the four quarters of each square: (G, 2) -> (4 G, 2)."""
    corners = torch.tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]]).to(centres)
    return (centres[:, None] + side / 4 * corners).flatten(0, 1)
