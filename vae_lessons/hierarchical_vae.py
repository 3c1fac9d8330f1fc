"""More than one Gaussian cloud: a second layer of latents, and a posterior bent by a flow."""

import torch
from torch import nn

from vae_lessons.flows import CouplingFlow
from vae_lessons.kl import gaussian_log_density
from vae_lessons.latent_model import LatentModel
from vae_lessons.mlp import check_rows, check_sizes, hidden_layers
from vae_lessons.reparameterization import reparameterize


class GaussianVAE(LatentModel):
    """A VAE of real vectors: p(x given z) is a Gaussian with a centre and widths of its own.

    Shapes: x (B, input_dim), z (B, latent_dim).
    Raises: ValueError for sizes below 1 or an x that is not (B, input_dim).
    Source: Kingma & Welling (2014), appendix C.2; chapter "hierarchical_vae".
    """

    def __init__(self, input_dim, hidden_dim, latent_dim):
        super().__init__()
        check_sizes(latent_dim=latent_dim)
        self.input_dim, self.latent_dim = input_dim, latent_dim
        self.encoder = _two_heads(input_dim, hidden_dim, latent_dim)
        self.decoder = _two_heads(latent_dim, hidden_dim, input_dim)

    def encode(self, x):
        """Centre and log variance of q(z given x): (B, D) -> two of (B, L)."""
        check_rows(x, self.input_dim)
        return self.encoder(x).chunk(2, dim=1)

    def decode(self, z):
        """Centre and log variance of p(x given z): (B, L) -> two of (B, D)."""
        check_rows(z, self.latent_dim, "z")
        return self.decoder(z).chunk(2, dim=1)

    def log_px_z(self, x, z):
        """Log density of x given z: (B, D), (B, L) -> (B,) in nats."""
        return gaussian_log_density(x, *self.decode(z))


class HierarchicalVAE(nn.Module):
    """Two layers of latents: p(x given z1) p(z1 given z2) p(z2), q(z1 given x) q(z2 given z1).

    ``lower`` is a model of images x with latents z1; ``upper``, a model of z1 with latents z2,
    takes the place of its prior. Here z stands for z1 and z2 side by side.

    Shapes: x (B, D), z (B, L1 + L2).
    Source: Rezende, Mohamed & Wierstra (2014); Burda et al. (2016); chapter "hierarchical_vae".
    """

    def __init__(self, lower, upper):
        super().__init__()
        self.lower, self.upper = lower, upper

    def split(self, z):
        """The layers of z: (B, L1 + L2) -> z1 (B, L1), z2 (B, L2)."""
        sizes = [self.upper.input_dim, self.upper.latent_dim]
        check_rows(z, sum(sizes), "z")
        return z.split(sizes, dim=1)

    def sample_posterior(self, x, generator=None):
        """A draw from q and its log density: (B, D) -> (B, L1 + L2), (B,) in nats."""
        z1, log_qz1_x = self.lower.sample_posterior(x, generator)
        z2, log_qz2_z1 = self.upper.sample_posterior(z1, generator)
        return torch.cat([z1, z2], dim=1), log_qz1_x + log_qz2_z1

    def log_pz(self, z):
        """log p(z1 given z2) + log p(z2): (B, L1 + L2) -> (B,) in nats."""
        z1, z2 = self.split(z)
        return self.upper.log_px_z(z1, z2) + self.upper.log_pz(z2)

    def log_px_z(self, x, z):
        """Log-likelihood of x given z1: (B, D), (B, L1 + L2) -> (B,) in nats."""
        z1, _ = self.split(z)
        return self.lower.log_px_z(x, z1)

    def decode(self, z):
        """Logits of the pixels: (B, L1 + L2) -> (B, D)."""
        return self.lower.decode(self.split(z)[0])

    def draw_lower(self, z2, generator=None):
        """z2 with a draw z1 from p(z1 given z2) before it: (B, L2) -> (B, L1 + L2)."""
        return torch.cat([reparameterize(*self.upper.decode(z2), generator), z2], dim=1)


class FlowVAE(nn.Module):
    """A model with a Gaussian encoder, whose cloud a flow bends: q(z given x) is no Gaussian.

    ``z = mu + sigma * flow(eps)`` with ``eps ~ N(0, I)``. The flow is told mu and log_var, so that
    each image can have a shape of its own. It begins as the Gaussian q of ``gaussian``.

    Shapes: x (B, D), z (B, latent_dim).
    Raises: ValueError for fewer than two latent dimensions.
    Source: Rezende & Mohamed (2015); Kingma et al. (2016); chapter "hierarchical_vae".
    """

    def __init__(self, gaussian, latent_dim, hidden_dim, couplings):
        super().__init__()
        self.gaussian = gaussian
        self.flow = CouplingFlow(latent_dim, 2 * latent_dim, hidden_dim, couplings)

    def sample_posterior(self, x, generator=None):
        """A draw z from q and its log density: (B, D) -> (B, L), (B,) in nats."""
        mu, log_var = self.gaussian.encode(x)
        zero = torch.zeros_like(mu)
        eps = reparameterize(zero, zero, generator)
        bent, log_det = self.flow(eps, torch.cat([mu, log_var], dim=1))
        log_det = log_det + 0.5 * log_var.sum(dim=1)  # of mu + sigma * bent
        return mu + torch.exp(0.5 * log_var) * bent, gaussian_log_density(eps, zero, zero) - log_det

    def log_qz_x(self, x, z):
        """Log density of q at a z that was given: (B, D), (B, L) -> (B,) in nats."""
        mu, log_var = self.gaussian.encode(x)
        bent = (z - mu) * torch.exp(-0.5 * log_var)
        log_density = self.flow.log_density(bent, torch.cat([mu, log_var], dim=1))
        return log_density - 0.5 * log_var.sum(dim=1)

    def log_pz(self, z):
        """Log density of z under the prior of ``gaussian``: (B, L) -> (B,) in nats."""
        return self.gaussian.log_pz(z)

    def log_px_z(self, x, z):
        """Log-likelihood of x given z: (B, D), (B, L) -> (B,) in nats."""
        return self.gaussian.log_px_z(x, z)

    def decode(self, z):
        """Logits of the pixels: (B, L) -> (B, D)."""
        return self.gaussian.decode(z)


def _two_heads(input_dim, hidden_dim, output_dim):
    """One hidden layer, then a centre and a log variance side by side."""
    return nn.Sequential(
        hidden_layers(input_dim, hidden_dim, 1, nn.GELU), nn.Linear(hidden_dim, 2 * output_dim)
    )
