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
    """Estimates of the gradient of ``E[loss(z)]`` with respect to mu, one for each draw z.

    The score of ``N(mu, sigma^2)`` is ``(z - mu) / sigma^2``; the estimate is
    ``(loss(z) - baseline) * score`` and needs no derivative of the loss. It stays unbiased as
    long as the baseline does not depend on the draw that it is subtracted for.

    Shapes: z (..., L), loss (...), one for each draw; mu, sigma broadcast to z, baseline to loss
    -> (..., L).
    Raises: ValueError if there is not one loss for each draw.
    Source: Williams (1992); chapter "reparameterization".
    """
    if loss.shape != z.shape[:-1]:
        raise ValueError(
            f"loss has shape {tuple(loss.shape)} and z {tuple(z.shape)}: "
            f"give one loss for each draw, {tuple(z.shape[:-1])}"
        )
    return (loss - baseline)[..., None] * (z - mu) / sigma**2
