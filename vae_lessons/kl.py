"""Kullback-Leibler divergences between Gaussians, in nats."""

import math


def _check_same_shape(mu, log_var):
    if mu.ndim != 2 or mu.shape != log_var.shape:
        raise ValueError(
            f"got mu {tuple(mu.shape)} and log_var {tuple(log_var.shape)}: "
            "both must be (B, L), a row for each example"
        )


def kl_per_dimension(mu, log_var):
    """KL from ``N(mu, exp(log_var))`` to ``N(0, 1)``, of each latent dimension on its own.

    Shapes: mu, log_var (B, L) -> (B, L).  Units: nats.
    Raises: ValueError if the shapes differ or are not (B, L).
    Source: Kingma & Welling (2014), appendix B; chapter "kl".
    """
    _check_same_shape(mu, log_var)
    # expm1(x) is exp(x) - 1 without its rounding error, which would let tiny KLs fall below zero
    return 0.5 * (mu.square() + log_var.expm1() - log_var)


def kl_to_standard_normal(mu, log_var):
    """KL from ``N(mu, diag exp(log_var))`` to ``N(0, I)``, of each example.

    Shapes: mu, log_var (B, L) -> (B,).  Units: nats.
    Raises: ValueError if the shapes differ or are not (B, L).
    Source: Kingma & Welling (2014), appendix B; chapter "kl".
    """
    return kl_per_dimension(mu, log_var).sum(dim=1)


def gaussian_log_density(z, mu, log_var):
    """Log density of ``N(mu, diag exp(log_var))`` at z, summed over the last axis.

    Shapes: z, mu, log_var (B, L), or any that broadcast -> (B,).  Units: nats.
    Source: chapter "kl".
    """
    squares = (z - mu).square() / log_var.exp()
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(dim=-1)
