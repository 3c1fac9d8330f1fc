"""A VAE that knows which pixels are neighbours: convolutions for square images."""

import torch
from torch import nn

from vae_lessons.latent_model import LatentModel
from vae_lessons.mlp import check_rows, check_sizes, start_bias_at

SHRINK = 4  # the sides of the innermost feature maps are this much shorter than the image's


class ConvEncoder(nn.Module):
    """Two convolutions with stride 2, then dense layers to the centre and the log variance.

    Shapes: x (B, side * side), the rows of each image one after another -> mu, log_var, each
    (B, latent_dim).
    Raises: ValueError for sizes below 1, a side that is no multiple of 4, or an x of another
    shape.
    Source: LeCun et al. (1998), section II; chapter "conv_vae".
    """

    def __init__(self, channels=16, hidden_dim=128, latent_dim=20, *, side=28):
        super().__init__()
        inner = _inner_side(side)
        check_sizes(channels=channels, hidden_dim=hidden_dim, latent_dim=latent_dim)
        self.input_dim = side * side
        self.maps = nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            nn.Conv2d(1, channels, 4, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1), nn.GELU(),
        )
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(2 * channels * inner * inner, hidden_dim), nn.GELU(),
        )
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)

    def forward(self, x):
        check_rows(x, self.input_dim)
        h = self.dense(self.maps(x))
        return self.mu(h), self.log_var(h)


class ConvDecoder(nn.Module):
    """Dense layers to small feature maps, two convolutions, and a shuffle of channels to pixels.

    ``output_bias`` (side * side,) is where the bias of the pixels starts, such as the logits of
    the mean image; by default zero. It is one number for each place and shared by none.

    Shapes: z (B, latent_dim) -> logits (B, side * side).
    Raises: ValueError for sizes below 1, a side that is no multiple of 4, a z that is not
    (B, latent_dim) or a bias of another shape.
    Source: Shi et al. (2016), section 3.2, for the shuffle; chapter "conv_vae".
    """

    def __init__(self, channels=16, hidden_dim=128, latent_dim=20, *, side=28, output_bias=None):
        super().__init__()
        inner = _inner_side(side)
        check_sizes(channels=channels, hidden_dim=hidden_dim, latent_dim=latent_dim)
        self.latent_dim = latent_dim
        maps = 2 * channels
        self.dense = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim), nn.GELU(),
            nn.Linear(hidden_dim, maps * inner * inner), nn.GELU(),
            nn.Unflatten(1, (maps, inner, inner)),
        )
        self.maps = nn.Sequential(
            nn.Conv2d(maps, maps, 3, padding=1), nn.GELU(),
            nn.Conv2d(maps, SHRINK * SHRINK, 3, padding=1, bias=False),
            nn.PixelShuffle(SHRINK), nn.Flatten(),
        )
        self.output_bias = nn.Parameter(torch.zeros(side * side))
        start_bias_at(self.output_bias, output_bias)

    def forward(self, z):
        check_rows(z, self.latent_dim, "z")
        return self.maps(self.dense(z)) + self.output_bias


class ConvVAE(LatentModel):
    """A VAE for square images, with a Gaussian encoder, the prior N(0, I) and Bernoulli pixels.

    Shapes: x (B, side * side) -> logits (B, side * side), mu and log_var (B, latent_dim).
    Raises: ValueError for sizes below 1, a side that is no multiple of 4, or an x of another
    shape.
    Source: Kingma & Welling (2014); chapter "conv_vae".
    """

    def __init__(self, channels=16, hidden_dim=128, latent_dim=20, *, side=28, output_bias=None):
        super().__init__()
        sizes = channels, hidden_dim, latent_dim
        self.encoder = ConvEncoder(*sizes, side=side)
        self.decoder = ConvDecoder(*sizes, side=side, output_bias=output_bias)

    def encode(self, x):
        """Centre and log variance of q(z given x): (B, D) -> two of (B, L)."""
        return self.encoder(x)

    def decode(self, z):
        """Logits of the pixels of p(x given z): (B, L) -> (B, D)."""
        return self.decoder(z)


def _inner_side(side):
    """The side of the innermost feature maps for images of this side."""
    check_sizes(side=side)
    if side % SHRINK:
        raise ValueError(f"side is {side}: it must be a multiple of {SHRINK}, as 28 is")
    return side // SHRINK
