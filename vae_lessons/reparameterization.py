"""Draws that a gradient can pass through."""

import torch


def reparameterize(mu, log_var, generator=None):
    """A draw ``z = mu + exp(log_var / 2) * eps`` with ``eps ~ N(0, I)``, differentiable in both.

    Shapes: mu, log_var (B, L) -> (B, L).  ``log_var`` is the logarithm of the variance.
    Raises: ValueError if the shapes differ.
    Source: Kingma & Welling (2014), section 2.4; chapter "reparameterization".
    """
    if mu.shape != log_var.shape:
        raise ValueError(
            f"mu has shape {tuple(mu.shape)} and log_var {tuple(log_var.shape)}: "
            "give one log variance for each mean, both (B, L)"
        )
    eps = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
    return mu + torch.exp(0.5 * log_var) * eps


def score_function_gradient(loss, mu, sigma, z, baseline=0.0):
    """Estimates of the gradient of ``E[loss(z)]`` with respect to mu, one per draw.

    The score function of ``N(mu, sigma^2)`` is ``(z - mu) / sigma^2``; the estimate is
    ``(loss(z) - baseline) * score`` and needs no derivative of the loss.

    Shapes: loss, z, mu, sigma broadcast against each other, e.g. loss (K, 1) and z (K, L).
    Source: Williams (1992); chapter "reparameterization".
    """
    return (loss - baseline) * (z - mu) / sigma**2
