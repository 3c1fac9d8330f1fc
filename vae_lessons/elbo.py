"""The evidence lower bound, ELBO: what a VAE's training maximises."""

from typing import NamedTuple

import torch

from vae_lessons.kl import kl_to_standard_normal
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
