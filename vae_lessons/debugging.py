"""A museum of bugs: code that is wrong in one place, and the checks that find it.

Nothing in the museum is to be imitated but the checks at the end. Each exhibit is a function or
a class of a few lines; ``MUSEUM`` holds them with the symptom, the wrong words and the right
ones. ``bug.repaired()`` is the same code with those words exchanged.
"""

import inspect
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from vae_lessons.data import binarize
from vae_lessons.elbo import Terms, elbo, log_importance_weights
from vae_lessons.evaluation import plane_grid
from vae_lessons.kl import kl_to_standard_normal
from vae_lessons.likelihoods import bernoulli_log_likelihood
from vae_lessons.mlp import hidden_layers
from vae_lessons.reparameterization import reparameterize
from vae_lessons.show import source_without_docstring

# Objectives, for ``fit``: (model, x, generator) -> Terms of two (B,), in nats.


def pixels_averaged(model, x, generator=None):
    """An objective with the mean over the pixels where a sum belongs; the KL is whole."""
    mu, log_var = model.encode(x)
    z = reparameterize(mu, log_var, generator)
    errors = F.binary_cross_entropy_with_logits(model.decode(z), x, reduction="none")
    return Terms(-errors.mean(dim=1), kl_to_standard_normal(mu, log_var))


def kl_averaged(model, x, generator=None):
    """An objective with the mean over the latent dimensions where a sum belongs."""
    mu, log_var = model.encode(x)
    z = reparameterize(mu, log_var, generator)
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).mean(dim=1)
    return Terms(model.log_px_z(x, z), kl)


def kl_upside_down(model, x, generator=None):
    """An objective in which the minus in front of the KL formula is lost."""
    mu, log_var = model.encode(x)
    z = reparameterize(mu, log_var, generator)
    kl = 0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(dim=1)
    return Terms(model.log_px_z(x, z), kl)


def ink_alone(model, x, generator=None):
    """An objective with half a Bernoulli likelihood: nobody pays for ink where there is none."""
    mu, log_var = model.encode(x)
    logits = model.decode(reparameterize(mu, log_var, generator))
    reconstruction = (x * F.logsigmoid(logits)).sum(dim=1)
    return Terms(reconstruction, kl_to_standard_normal(mu, log_var))


def sigmoid_twice(model, x, generator=None):
    """An objective that gives probabilities to a likelihood that wants logits."""
    mu, log_var = model.encode(x)
    z = reparameterize(mu, log_var, generator)
    logits = model.decode(z).sigmoid()
    return Terms(bernoulli_log_likelihood(x, logits), kl_to_standard_normal(mu, log_var))


def half_forgotten(model, x, generator=None):
    """An objective that takes the variance for the width when it draws."""
    mu, log_var = model.encode(x)
    eps = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
    z = mu + torch.exp(log_var) * eps
    return Terms(model.log_px_z(x, z), kl_to_standard_normal(mu, log_var))


def draw_without_gradient(model, x, generator=None):
    """An objective whose draw no gradient passes through."""
    mu, log_var = model.encode(x)
    sigma = torch.exp(0.5 * log_var)
    z = torch.normal(mu, sigma, generator=generator)
    return Terms(model.log_px_z(x, z), kl_to_standard_normal(mu, log_var))


def iwae_upside_down(model, x, generator=None, num_samples=5):
    """A surrogate for the importance-weighted bound that gives the worst draws most weight.

    Shapes: x (B, D) -> (B,).  Its value is no bound; only its gradient was meant to be right.
    """
    loss = -log_importance_weights(model, x, num_samples, generator)  # (B, K)
    weights = torch.softmax(loss.detach(), dim=1)
    return -(weights * loss).sum(dim=1)


# The loop and the network


def step_that_adds_up(model, optimizer, x, generator=None):
    """A training step that does not clear the gradients of the step before; returns -ELBO."""
    loss = -elbo(model, x, generator).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def never_shuffled(num_images, batch_size, generator=None):
    """The images of each batch, in the order of the file: -> tuple of (batch_size,) numbers."""
    order = torch.arange(num_images)
    return order.split(batch_size)


class ReluOnMu(nn.Module):
    """An encoder whose centres cannot be negative.

    Shapes: x (B, input_dim) -> mu, log_var, each (B, latent_dim).
    """

    def __init__(self, input_dim, hidden_dim, latent_dim):
        super().__init__()
        self.hidden = hidden_layers(input_dim, hidden_dim, 1, nn.ReLU)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)

    def forward(self, x):
        h = self.hidden(x)
        return self.mu(h).relu(), self.log_var(h)


# Densities, and draws from them


def log_det_broadcast(flow, z, context):
    """Log density of a flow whose log-determinant is subtracted in each latent dimension.

    Shapes: z (B, L), context (B, C) -> (B,).  ``flow`` is a ``flows.CouplingFlow``.
    """
    eps = flow.inverse(z, context)
    _, log_det = flow(eps, context)  # (B,)
    log_base = -0.5 * (eps.square() + math.log(2 * math.pi))  # (B, L)
    return (log_base - log_det[:, None]).sum(dim=1)


def mixture_by_dimension(z, centres):
    """Log density of a mixture of K equal clouds N(centre, I), mixed in each dimension apart.

    Shapes: z (B, L), centres (K, L) -> (B,).
    """
    squares = (z[:, None] - centres).square()  # (B, K, L)
    log_each = -0.5 * (squares + math.log(2 * math.pi))
    return log_each.logsumexp(dim=1).sum(dim=1) - math.log(len(centres))


def uniform_draws(num, latent_dim, generator=None):
    """Draws from another prior than the one that was trained with: (num, latent_dim)."""
    return torch.rand(num, latent_dim, generator=generator)


# Measures


def at_the_mean(model, x, generator=None):
    """Both terms of the bound with z at the centre of the cloud, which makes no bound."""
    mu, log_var = model.encode(x)
    z = mu
    return Terms(model.log_px_z(x, z), kl_to_standard_normal(mu, log_var))


def kl_from_one_draw(model, x, generator=None):
    """Both terms of the bound with the KL guessed from one draw, where it has a formula."""
    z, log_qz_x = model.sample_posterior(x, generator)
    kl = log_qz_x - model.log_pz(z)
    return Terms(model.log_px_z(x, z), kl)


def mean_of_logs(model, x, num_samples, generator=None):
    """What is reported as -log p(x) and is -ELBO, however many draws: (B, D) -> (B,)."""
    log_weights = log_importance_weights(model, x, num_samples, generator)  # (B, K)
    return -log_weights.mean(dim=1)


def binarised_anew(model, images):
    """-ELBO of grey images whose coins are tossed anew at each call: (B, D) -> (B,)."""
    x = binarize(images)
    return -elbo(model, x, torch.Generator().manual_seed(0))


def eval_forgotten(model, x, generator=None):
    """-ELBO of a model that may still be in training mode: (B, D) -> (B,)."""
    with torch.no_grad():
        return -elbo(model, x, generator)


# Data


def grey_to_255(images):
    """Pixels as they lie in the file: uint8 (N, H, W) -> (N, D) from 0 to 255."""
    return images.flatten(1).float()


def reshaped_not_permuted(pixels):
    """Rows of pixels from a file that stores the images last: (H, W, N) -> (N, D), scrambled."""
    return pixels.reshape(pixels.shape[2], -1)


def split_with_leak(images, num_test):
    """Training and test images, of which the first hold the second: -> two (.., D)."""
    return images, images[:num_test]


# The catalogue


class Bug(NamedTuple):
    """An exhibit: broken code, what one sees of it, the wrong words in it and the right ones."""

    broken: Callable
    symptom: str
    wrong: str
    right: str

    @property
    def name(self):
        """The name of the broken function or class."""
        return self.broken.__name__

    def repaired(self):
        """The broken function or class with its wrong words replaced by the right ones.

        Raises: ValueError unless the wrong words occur exactly once.
        """
        source = source_without_docstring(self.broken)
        count = source.count(self.wrong)
        if count != 1:
            raise ValueError(f"{self.wrong!r} occurs {count} times in {self.name}, not once")
        namespace = dict(vars(inspect.getmodule(self.broken)))
        exec(source.replace(self.wrong, self.right), namespace)
        return namespace[self.name]

    def diff(self):
        """The repair in Markdown: the lines to take out and the lines to put in."""
        before = source_without_docstring(self.broken).splitlines()
        after = source_without_docstring(self.broken).replace(self.wrong, self.right).splitlines()
        lines = [f"- {line}" for line in before if line not in after]
        lines += [f"+ {line}" for line in after if line not in before]
        return "\n".join(["```diff", *lines, "```"])


MUSEUM = (
    Bug(pixels_averaged, "the loss is below 1, KL 0, all samples alike",
        "errors.mean(dim=1)", "errors.sum(dim=1)"),
    Bug(ink_alone, "the loss goes to zero, all reconstructions are black",
        "(x * F.logsigmoid(logits))",
        "(x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits))"),
    Bug(sigmoid_twice, "the loss stays at the price of fair coins, reconstructions are grey",
        "model.decode(z).sigmoid()", "model.decode(z)"),
    Bug(kl_upside_down, "the loss falls below zero and goes on falling",
        "kl = 0.5 *", "kl = -0.5 *"),
    Bug(kl_averaged, "fine reconstructions, a large KL, poor samples",
        "- 1).mean(dim=1)", "- 1).sum(dim=1)"),
    Bug(half_forgotten, "the loss is some nats better, and nothing was improved",
        "torch.exp(log_var)", "torch.exp(0.5 * log_var)"),
    Bug(iwae_upside_down, "training with more draws makes the model worse",
        "torch.softmax(loss.detach(), dim=1)", "torch.softmax(-loss.detach(), dim=1)"),
    Bug(draw_without_gradient, "KL 0, the loss of the mean image, all samples alike",
        "torch.normal(mu, sigma, generator=generator)",
        "mu + sigma * torch.randn(mu.shape, generator=generator)"),
    Bug(step_that_adds_up, "the loss falls, then climbs and swings",
        "    loss.backward()", "    optimizer.zero_grad()\n    loss.backward()"),
    Bug(never_shuffled, "the loss jumps at regular places",
        "torch.arange(num_images)", "torch.randperm(num_images, generator=generator)"),
    Bug(ReluOnMu, "half of every latent axis is empty",
        "self.mu(h).relu()", "self.mu(h)"),
    Bug(eval_forgotten, "the loss of an image depends on its neighbours in the batch",
        "    with torch.no_grad():", "    model.eval()\n    with torch.no_grad():"),
    Bug(log_det_broadcast, "the density of a flow does not add up to 1",
        "(log_base - log_det[:, None]).sum(dim=1)", "log_base.sum(dim=1) - log_det"),
    Bug(mixture_by_dimension, "the prior has clouds where nobody put one",
        "log_each.logsumexp(dim=1).sum(dim=1)", "log_each.sum(dim=2).logsumexp(dim=1)"),
    Bug(uniform_draws, "reconstructions are good, samples are of few kinds",
        "torch.rand(", "torch.randn("),
    Bug(at_the_mean, "the test loss is some nats better, and no seed moves it",
        "z = mu", "z = reparameterize(mu, log_var, generator)"),
    Bug(mean_of_logs, "the NLL is the negative ELBO, and more draws do not lower it",
        "-log_weights.mean(dim=1)", "math.log(num_samples) - log_weights.logsumexp(dim=1)"),
    Bug(kl_from_one_draw, "the KL of some images is negative",
        "log_qz_x - model.log_pz(z)", "kl_to_standard_normal(*model.encode(x))"),
    Bug(binarised_anew, "the test loss is another one each time",
        "binarize(images)", "binarize(images, torch.Generator().manual_seed(1))"),
    Bug(grey_to_255, "the loss is astronomical, or NaN",
        ".float()", ".float() / 255"),
    Bug(reshaped_not_permuted, "nothing is learned but a grey haze",
        "pixels.reshape(pixels.shape[2], -1)", "pixels.permute(2, 0, 1).flatten(1)"),
    Bug(split_with_leak, "the test loss keeps up with the training loss, however long one trains",
        "return images,", "return images[num_test:],"),
)


# The checks. The first six accept an objective or find fault with it: True means nothing found.


def starts_at_fair_coins(objective, model, x, generator=None):
    """Whether a model that was never trained costs about D log 2 nats, the price of fair coins.

    For models that begin with logits near zero, as PyTorch's own start does. Within 10 %.
    Source: chapter "vae".
    """
    reconstruction, kl = objective(model, x, generator)
    return abs((kl - reconstruction).mean().item() / (x.shape[1] * math.log(2)) - 1) < 0.1


def terms_have_their_signs(objective, model, x, generator=None):
    """Whether no reconstruction term is above zero and no KL below, as black and white asks.

    A KL of zero may be rounded to a little less: down to -1e-4 passes.
    """
    reconstruction, kl = objective(model, x, generator)
    return bool((reconstruction <= 0).all() and (kl >= -1e-4).all())


def kl_agrees_with_torch(objective, model, x, generator=None):
    """Whether the KL of each image is what ``torch.distributions`` says, to 1 in 1,000."""
    mu, log_var = model.encode(x)
    q = Normal(mu, torch.exp(0.5 * log_var))
    wanted = kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1)
    return torch.allclose(objective(model, x, generator)[1], wanted, rtol=1e-3, atol=1e-3)


def likelihood_agrees_with_torch(objective, model, x, generator=None):
    """Whether the reconstruction term is what ``torch.distributions`` says of the decoder's
    logits, with the z that the objective really gave to the decoder. For black and white x.

    Blind to what goes wrong inside ``decode``, such as a sigmoid as its last layer.
    """
    z, terms = latents_decoded(objective, model, x, generator)
    wanted = Bernoulli(logits=model.decode(z)).log_prob(x).sum(dim=1)
    return torch.allclose(terms[0], wanted, rtol=1e-3, atol=1e-3)


def draws_fit_the_cloud(objective, model, x, generator=None):
    """Whether the z given to the decoder have the width that the encoder states.

    The mean square of ``(z - mu) / sigma`` is 1, give or take ``sqrt(2 / count)``; six of these
    are allowed. Blind where every log variance is near 0, as in a model never trained.
    """
    z, _ = latents_decoded(objective, model, x, generator)
    mu, log_var = model.encode(x)
    eps = (z - mu) / torch.exp(0.5 * log_var)
    return abs(eps.square().mean().item() - 1) < 6 * math.sqrt(2 / eps.numel())


def pixels_reach_the_encoder(objective, model, x, generator=None):
    """Whether the reconstruction term has a gradient in the encoder that is not zero."""
    reconstruction = objective(model, x, generator)[0]
    gradients = torch.autograd.grad(
        reconstruction.sum(), list(model.encoder.parameters()), allow_unused=True
    )
    return any(gradient is not None and gradient.any().item() for gradient in gradients)


OBJECTIVE_CHECKS = (
    starts_at_fair_coins, terms_have_their_signs, kl_agrees_with_torch,
    likelihood_agrees_with_torch, draws_fit_the_cloud, pixels_reach_the_encoder,
)


def latents_decoded(objective, model, x, generator=None):
    """The z that an objective gives to ``model.decoder``, overheard by a hook, and its terms.

    Shapes: x (B, D) -> z (B, L), Terms.
    """
    heard = []
    hook = model.decoder.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0]))
    try:
        terms = objective(model, x, generator)
    finally:
        hook.remove()
    return heard[0], terms


def integral_over_plane(log_density, half_width=8.0, step=0.05):
    """The integral of a density over a square of the plane, which for a whole one is 1.

    Shapes: log_density maps (G, 2) to (G,) -> float.
    Source: the rectangle rule; chapter "marginal_likelihood".
    """
    grid = plane_grid(half_width, step)
    return log_density(grid).double().exp().sum().item() * step**2


def rows_in_common(images, others):
    """How many of the other images occur, pixel for pixel, among the images: (N, D), (M, D)."""
    seen = {row.tobytes() for row in images.numpy()}
    return sum(row.tobytes() in seen for row in others.numpy())
