"""What a weight on the KL term trades: closed form, floor, and measures of what the latents hold.

The weight itself is the argument ``kl_weight`` of ``training.fit``.
"""

from typing import NamedTuple

import torch

from vae_lessons.elbo import Terms
from vae_lessons.kl import kl_per_dimension
from vae_lessons.reparameterization import reparameterize


class LinearUnits(NamedTuple):
    """What the units of the best linear VAE do, one value for each principal direction, (L,).

    ``mu_variance`` is how far the centres vary over the data and ``cloud_variance`` the variance
    of each cloud, both in squared latent units; ``kl`` is the mean KL in nats;
    ``squared_error`` is what the decoder misses along the direction, in squared pixel units.
    """

    mu_variance: torch.Tensor
    cloud_variance: torch.Tensor
    kl: torch.Tensor
    squared_error: torch.Tensor


def linear_optimum(eigenvalues, beta, variance):
    """The optimum of the beta-weighted ELBO of a linear VAE with fixed Gaussian pixel noise.

    The unit of a direction in which the data have the variance ``eigenvalue`` lives if that
    exceeds ``beta * variance``. A model with L latents has the L largest eigenvalues.

    Shapes: eigenvalues (L,) -> LinearUnits of four (L,).
    Raises: ValueError unless the eigenvalues are (L,), beta and variance positive.
    Source: Lucas et al. (2019); Tipping & Bishop (1999); chapter "beta_vae".
    """
    if eigenvalues.ndim != 1:
        raise ValueError(f"eigenvalues have shape {tuple(eigenvalues.shape)}, but (L,) is wanted")
    if not (beta > 0 and variance > 0):
        raise ValueError(f"beta {beta} and variance {variance} must both be positive")
    noise = torch.full_like(eigenvalues, beta * variance)
    water = torch.maximum(eigenvalues, noise)
    return LinearUnits(
        mu_variance=1 - noise / water, cloud_variance=noise / water,
        kl=0.5 * (water / noise).log(), squared_error=torch.minimum(eigenvalues, noise),
    )


def with_free_bits(floor):
    """The objective ``elbo_terms`` with a floor of ``floor`` nats under the KL of each unit.

    A unit whose mean KL over the batch lies below the floor is charged the floor and feels no
    pull towards the prior. The KL of one example therefore depends on the rest of its batch.

    Shapes: the objective gives Terms of two (B,).  Units: nats.
    Raises: ValueError if floor is negative.
    Source: Kingma et al. (2016); chapter "beta_vae".
    """
    if not floor >= 0:
        raise ValueError(f"floor is {floor}: it must be 0 or more nats")

    def objective(model, x, generator=None):
        mu, log_var = model.encode(x)
        z = reparameterize(mu, log_var, generator)
        kl = kl_per_dimension(mu, log_var)  # (B, L)
        charged = torch.where(kl.mean(dim=0) > floor, kl, floor)
        return Terms(model.log_px_z(x, z), charged.sum(dim=1))

    return objective


@torch.no_grad()
def swap_cost(model, x, generator=None):
    """What it costs to decode each image from the latent of another, in log-likelihood.

    The latent of image b goes to image b + 1, the last one's to the first. A decoder that
    ignores z, or clouds that are all alike, give a mean of 0. Otherwise the mean overstates
    what z is worth, since a false z misleads.

    Shapes: x (B, D) -> (B,).  Units: nats.
    Raises: ValueError if there are fewer than two images.
    Source: chapter "beta_vae".
    """
    if len(x) < 2:
        raise ValueError(f"got {len(x)} images: a swap needs at least two")
    z, _ = model.sample_posterior(x, generator)
    return model.log_px_z(x, z) - model.log_px_z(x, z.roll(1, dims=0))


def mutual_information(codes, factors, bins=20):
    """The mutual information of each latent and each factor, from counts in equally full bins.

    Counting overestimates: two independent columns give about ``(bins - 1) ** 2 / (2 N)``.

    Shapes: codes (N, L), factors (N, F) -> (L, F).  Units: nats.
    Raises: ValueError unless both are tables with the same number of rows, at least ``bins``.
    Source: Cover & Thomas (2006); chapter "beta_vae".
    """
    _check_tables(codes, factors, bins)
    table = codes.new_zeros(codes.shape[1], factors.shape[1])
    columns = [_bin_numbers(column, bins) for column in factors.T]
    for i, code in enumerate(codes.T):
        rows = bins * _bin_numbers(code, bins)
        for j, column in enumerate(columns):
            joint = torch.bincount(rows + column, minlength=bins * bins).view(bins, bins)
            table[i, j] = _information(joint.double() / len(codes))
    return table


def mutual_information_gap(codes, factors, bins=20):
    """How far the best latent of each factor is ahead of the second best, between 0 and 1.

    The difference of their mutual information with the factor, divided by the factor's entropy.
    It is 1 where one latent tells the factor and no other knows anything of it.

    Shapes: codes (N, L), factors (N, F) -> (F,).
    Raises: ValueError as ``mutual_information``, and for fewer than two latents.
    Source: Chen et al. (2018); chapter "beta_vae".
    """
    if codes.ndim == 2 and codes.shape[1] < 2:
        raise ValueError("a gap needs a second latent: codes must be (N, L) with L of 2 or more")
    first, second = mutual_information(codes, factors, bins).topk(2, dim=0).values
    entropy = mutual_information(factors, factors, bins).diagonal()
    return (first - second) / entropy


def _check_tables(codes, factors, bins):
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise ValueError(
            f"codes have shape {tuple(codes.shape)} and factors {tuple(factors.shape)}: "
            "(N, L) and (N, F) are wanted, a row for each image"
        )
    if not 2 <= bins <= len(codes):
        raise ValueError(f"bins is {bins}: it must lie between 2 and the {len(codes)} rows")


def _bin_numbers(column, bins):
    """The number of the bin of each value, 0 to bins - 1; equal values share a bin."""
    column = column.detach().contiguous()
    edges = column.sort().values[torch.arange(1, bins) * len(column) // bins]
    return torch.bucketize(column, edges, right=True)


def _information(joint):
    """The mutual information of a table of probabilities (R, C), in nats."""
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    return torch.where(joint > 0, joint * (joint / apart).log(), 0.0).nansum()
