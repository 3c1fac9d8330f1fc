"""What every model with a Gaussian encoder answers when a measure asks."""

import torch
from torch import nn

from vae_lessons.kl import gaussian_log_density
from vae_lessons.likelihoods import bernoulli_log_likelihood
from vae_lessons.reparameterization import reparameterize


class LatentModel(nn.Module):
    """A model with a Gaussian encoder, the prior N(0, I) and Bernoulli pixels.

    A subclass gives ``encode(x)``, the centre and the log variance of q(z given x), and
    ``decode(z)``, the logits of p(x given z); what is asked of the densities follows from them.

    Shapes: x (B, D) -> logits (B, D), mu and log_var (B, L).
    Source: Kingma & Welling (2014); chapter "vae".
    """

    def forward(self, x, generator=None):
        mu, log_var = self.encode(x)
        z = reparameterize(mu, log_var, generator)
        return self.decode(z), mu, log_var

    def sample_posterior(self, x, generator=None):
        """A draw z from q(z given x) and its log density: (B, D) -> (B, L), (B,) in nats."""
        mu, log_var = self.encode(x)
        z = reparameterize(mu, log_var, generator)
        return z, gaussian_log_density(z, mu, log_var)

    def log_pz(self, z):
        """Log density of z under the prior N(0, I): (B, L) -> (B,) in nats."""
        return gaussian_log_density(z, torch.zeros_like(z), torch.zeros_like(z))

    def log_px_z(self, x, z):
        """Log-likelihood of x given z: (B, D), (B, L) -> (B,) in nats."""
        return bernoulli_log_likelihood(x, self.decode(z))
