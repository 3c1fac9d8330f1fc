"""Compression without probabilities: principal components and the plain autoencoder."""

from typing import NamedTuple

import torch
from torch import nn

from vae_lessons.mlp import check_rows, check_sizes, hidden_layers


class PrincipalComponents(NamedTuple):
    """The mean image (D,) and the orthonormal directions (L, D) in which images vary most."""

    mean: torch.Tensor
    directions: torch.Tensor

    def encode(self, x):
        """Coordinates along the directions: (B, D) -> (B, L)."""
        check_rows(x, len(self.mean))
        return (x - self.mean) @ self.directions.T

    def decode(self, z):
        """The point of the plane with these coordinates: (B, L) -> (B, D)."""
        check_rows(z, len(self.directions), "z")
        return self.mean + z @ self.directions


def principal_components(images, code_dim):
    """The ``code_dim`` principal components of the images, by eigenvectors of their covariance.

    Shapes: images (N, D) -> PrincipalComponents with a mean (D,) and directions (code_dim, D).
    Raises: ValueError if code_dim is not between 1 and D.
    Source: Hotelling (1933); chapter "autoencoder".
    """
    check_sizes(code_dim=code_dim)
    if code_dim > images.shape[1]:
        raise ValueError(f"code_dim is {code_dim}, but an image has only {images.shape[1]} pixels")
    eigenvectors = torch.linalg.eigh(images.T.cov()).eigenvectors  # columns, smallest first
    return PrincipalComponents(images.mean(dim=0), eigenvectors.T.flip(0)[:code_dim])


class Autoencoder(nn.Module):
    """An encoder to a code of a few numbers and a decoder back to pixels between 0 and 1.

    Shapes: x (B, input_dim) -> pixels (B, input_dim); codes (B, code_dim).
    Raises: ValueError for sizes below 1 or an x that is not (B, input_dim).
    Source: Hinton & Salakhutdinov (2006); chapter "autoencoder".
    """

    def __init__(self, input_dim, hidden_dim, code_dim, *, layers=1, activation=nn.ReLU):
        super().__init__()
        check_sizes(code_dim=code_dim)
        self.input_dim, self.code_dim = input_dim, code_dim
        self.encoder = nn.Sequential(
            hidden_layers(input_dim, hidden_dim, layers, activation),
            nn.Linear(hidden_dim, code_dim),
        )
        self.decoder = nn.Sequential(
            hidden_layers(code_dim, hidden_dim, layers, activation),
            nn.Linear(hidden_dim, input_dim),
            nn.Sigmoid(),
        )

    def encode(self, x):
        """The code of each image: (B, D) -> (B, L)."""
        check_rows(x, self.input_dim)
        return self.encoder(x)

    def decode(self, z):
        """The pixels of each code: (B, L) -> (B, D) in (0, 1)."""
        check_rows(z, self.code_dim, "z")
        return self.decoder(z)

    def forward(self, x):
        return self.decode(self.encode(x))


def negative_squared_error(model, x, generator=None):
    """Minus the squared error of each reconstruction, summed over the pixels: to be maximised.

    An objective for ``training.fit``; nothing is drawn, so the generator is not used.

    Shapes: x (B, D) -> (B,).  Units: squared pixel values.
    """
    return -(model.decode(model.encode(x)) - x).square().sum(dim=1)
