"""Normalising flows: invertible maps that carry a simple density into a bent one."""

import math

import torch
from torch import nn


class AffineCoupling(nn.Module):
    """Shifts and stretches the second half of a vector by amounts that the first half decides.

    The first half passes unchanged, so the map can be undone, and its Jacobian is triangular: the
    log-determinant is the sum of the log stretches of one example. ``context`` is what else may
    decide, such as the encoder's answer to an image. It begins as the identity.

    Shapes: z (B, L), context (B, C) -> z (B, L), log-determinant (B,).
    Raises: ValueError for fewer than two dimensions, which have no halves.
    Source: Dinh, Sohl-Dickstein & Bengio (2017), section 3.2; chapter "hierarchical_vae".
    """

    def __init__(self, latent_dim, context_dim, hidden_dim):
        super().__init__()
        if latent_dim < 2:
            raise ValueError(f"latent_dim is {latent_dim}: a coupling needs at least 2 dimensions")
        self.sizes = [latent_dim // 2, latent_dim - latent_dim // 2]
        last = nn.Linear(hidden_dim, 2 * self.sizes[1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(self.sizes[0] + context_dim, hidden_dim), nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim), nn.GELU(), last,
        )

    def forward(self, z, context):
        kept, moved = z.split(self.sizes, dim=1)
        shift, log_scale = self._shift_and_log_scale(kept, context)
        moved = moved * log_scale.exp() + shift
        return torch.cat([kept, moved], dim=1), log_scale.sum(dim=1)

    def inverse(self, z, context):
        """Where z came from: (B, L), (B, C) -> (B, L)."""
        kept, moved = z.split(self.sizes, dim=1)
        shift, log_scale = self._shift_and_log_scale(kept, context)
        return torch.cat([kept, (moved - shift) * torch.exp(-log_scale)], dim=1)

    def _shift_and_log_scale(self, kept, context):
        shift, log_scale = self.network(torch.cat([kept, context], dim=1)).chunk(2, dim=1)
        return shift, 2 * torch.tanh(log_scale / 2)  # between -2 and 2, lest it run away


class CouplingFlow(nn.Module):
    """Couplings one after the other, the coordinates reversed in between so that all are moved.

    Carries N(0, I) into the density whose log is ``log_density``.

    Shapes: eps (B, L), context (B, C) -> z (B, L), log-determinant (B,).
    Raises: ValueError for fewer than two dimensions.
    Source: Rezende & Mohamed (2015); Dinh et al. (2017); chapter "hierarchical_vae".
    """

    def __init__(self, latent_dim, context_dim, hidden_dim, couplings):
        super().__init__()
        self.steps = nn.ModuleList(
            AffineCoupling(latent_dim, context_dim, hidden_dim) for _ in range(couplings)
        )

    def forward(self, eps, context):
        z, log_det = eps, eps.new_zeros(len(eps))
        for step in self.steps:
            z, log_det_of_step = step(z.flip(1), context)
            log_det = log_det + log_det_of_step
        return z, log_det

    def inverse(self, z, context):
        """Where z came from: (B, L), (B, C) -> (B, L)."""
        for step in reversed(self.steps):
            z = step.inverse(z, context).flip(1)
        return z

    def log_density(self, z, context):
        """Log density at z of what N(0, I) has become: (B, L), (B, C) -> (B,) in nats.

        The rule of the change of variables: that of N(0, I) where z came from, less the
        log-determinant.
        """
        eps = self.inverse(z, context)
        _, log_det = self(eps, context)
        return standard_normal_log_density(eps) - log_det


def standard_normal_log_density(eps):
    """Log density of N(0, I): (B, L) -> (B,) in nats."""
    return -0.5 * (eps.square() + math.log(2 * math.pi)).sum(dim=1)
