"""The variational autoencoder: an encoder, a decoder and a draw between them."""

import torch
from torch import nn

from vae_lessons.latent_model import LatentModel
from vae_lessons.mlp import check_rows, check_sizes, hidden_layers, start_bias_at


class Encoder(nn.Module):
    """Answers an image with the centre and the log variance of a Gaussian cloud q(z given x).

    Shapes: x (B, input_dim) -> mu, log_var, each (B, latent_dim).
    Raises: ValueError for sizes below 1 or an x that is not (B, input_dim).
    Source: Kingma & Welling (2014), appendix C.2; chapter "vae".
    """

    def __init__(self, input_dim, hidden_dim, latent_dim, *, layers=1, activation=nn.ReLU):
        super().__init__()
        check_sizes(latent_dim=latent_dim)
        self.input_dim = input_dim
        self.hidden = hidden_layers(input_dim, hidden_dim, layers, activation)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)

    def forward(self, x):
        check_rows(x, self.input_dim)
        h = self.hidden(x)
        return self.mu(h), self.log_var(h)


class Decoder(nn.Module):
    """Answers a latent with the logits of the Bernoulli pixels, p(x given z).

    ``output_bias`` (output_dim,) is where the bias of the last layer starts, such as the logits
    of the mean image; by default PyTorch's own draw.

    Shapes: z (B, latent_dim) -> logits (B, output_dim).
    Raises: ValueError for sizes below 1, a z that is not (B, latent_dim) or a bias of another
    shape.
    Source: Kingma & Welling (2014), appendix C.1; chapter "vae".
    """

    def __init__(
        self, latent_dim, hidden_dim, output_dim, *,
        layers=1, activation=nn.ReLU, output_bias=None,
    ):
        super().__init__()
        check_sizes(output_dim=output_dim)
        self.latent_dim = latent_dim
        self.hidden = hidden_layers(latent_dim, hidden_dim, layers, activation)
        self.logits = nn.Linear(hidden_dim, output_dim)
        start_bias_at(self.logits.bias, output_bias)

    def forward(self, z):
        check_rows(z, self.latent_dim, "z")
        return self.logits(self.hidden(z))


class VAE(LatentModel):
    """A VAE with a Gaussian encoder, the prior N(0, I) and Bernoulli pixels.

    Shapes: x (B, input_dim) -> logits (B, input_dim), mu and log_var (B, latent_dim).
    Raises: ValueError for sizes below 1 or an x that is not (B, input_dim).
    Source: Kingma & Welling (2014); chapter "vae".
    """

    def __init__(
        self, input_dim, hidden_dim, latent_dim, *,
        layers=1, activation=nn.ReLU, output_bias=None,
    ):
        super().__init__()
        shared = {"layers": layers, "activation": activation}
        self.encoder = Encoder(input_dim, hidden_dim, latent_dim, **shared)
        self.decoder = Decoder(
            latent_dim, hidden_dim, input_dim, output_bias=output_bias, **shared
        )

    def encode(self, x):
        """Centre and log variance of q(z given x): (B, D) -> two of (B, L)."""
        return self.encoder(x)

    def decode(self, z):
        """Logits of the pixels of p(x given z): (B, L) -> (B, D)."""
        return self.decoder(z)


def mean_image_logits(images):
    """Logits of the mean image: where a decoder's output bias had best begin.

    Means are kept a little away from 0 and 1, where a logit would be infinite.

    Shapes: images (N, D) in [0, 1] -> (D,).
    Raises: ValueError for a shape that is not (N, D) or for no images.
    """
    if images.ndim != 2 or len(images) == 0:
        raise ValueError(f"images have shape {tuple(images.shape)}, but (N, D) is wanted, N >= 1")
    return torch.logit(images.mean(dim=0), eps=1e-3)
