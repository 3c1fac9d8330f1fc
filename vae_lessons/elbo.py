"""The evidence lower bound, ELBO: what a VAE's training maximises."""

from typing import NamedTuple

import torch

from vae_lessons.kl import gaussian_log_density, kl_to_standard_normal
from vae_lessons.likelihoods import bernoulli_log_likelihood
from vae_lessons.reparameterization import reparameterize


class Terms(NamedTuple):
    """The two terms of the bound, one value per example, (B,), in nats."""

    reconstruction: torch.Tensor
    kl: torch.Tensor


def elbo_terms(model, x, generator=None):
    """The reconstruction term and the KL term of each example, with one draw z from q.

    A model with ``encode`` promises a diagonal Gaussian q and the prior N(0, I), so its KL is
    exact. For any other model the KL is the one-draw estimate ``log q(z given x) - log p(z)``.

    Shapes: x (B, D) -> Terms of two (B,).  Units: nats.
    Source: Kingma & Welling (2014), equation 7; chapter "elbo".
    """
    if hasattr(model, "encode"):
        mu, log_var = model.encode(x)
        z = reparameterize(mu, log_var, generator)
        kl = kl_to_standard_normal(mu, log_var)
    else:
        z, log_qz_x = model.sample_posterior(x, generator)
        kl = log_qz_x - model.log_pz(z)
    return Terms(model.log_px_z(x, z), kl)


def elbo(model, x, generator=None):
    """The evidence lower bound on log p(x), to be maximised, with one draw z from q.

    Shapes: x (B, D) -> (B,).  Units: nats.
    Source: Kingma & Welling (2014), equation 7; chapter "elbo".
    """
    terms = elbo_terms(model, x, generator)
    return terms.reconstruction - terms.kl


def log_importance_weights(model, x, num_samples, generator=None):
    """``log p(x given z) + log p(z) - log q(z given x)`` for several draws z from q.

    Each is a one-draw estimate of the ELBO; the log of the mean of their exponentials is the
    importance-weighted estimate of log p(x). A model with ``encode`` is asked for its Gaussian
    once and the draws are made here, which spares the encoder the copies.

    Shapes: x (B, D) -> (B, num_samples).  Units: nats.
    Raises: ValueError if num_samples is below 1.
    Source: Burda, Grosse & Salakhutdinov (2016), equation 8; chapter "iwae".
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}: at least one sample is needed")
    copies = x.repeat(num_samples, 1)  # (K B, D): the whole batch, again and again
    if hasattr(model, "encode"):
        mu, log_var = (each.repeat(num_samples, 1) for each in model.encode(x))
        z = reparameterize(mu, log_var, generator)
        log_qz_x = gaussian_log_density(z, mu, log_var)
    else:
        z, log_qz_x = model.sample_posterior(copies, generator)
    log_weights = model.log_px_z(copies, z) + model.log_pz(z) - log_qz_x
    return log_weights.view(num_samples, len(x)).T


def loss_function(logits, x, mu, log_var):
    """The negative ELBO, summed over the batch: cross-entropy plus KL, to be minimised.

    Shapes: logits, x (B, D), mu, log_var (B, L) -> ().  Units: nats.
    Raises: ValueError if shapes do not match.
    Source: Kingma & Welling (2014), appendix B and C.1; chapter "vae".
    """
    reconstruction = bernoulli_log_likelihood(x, logits)
    kl = kl_to_standard_normal(mu, log_var)
    if reconstruction.shape != kl.shape:
        raise ValueError(
            f"{len(x)} images but {len(mu)} latents: logits, x, mu and log_var "
            "must hold the same examples"
        )
    return (kl - reconstruction).sum()
