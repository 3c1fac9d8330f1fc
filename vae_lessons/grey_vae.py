"""A VAE for grey pixels, with a probability for each of their 256 levels."""

import torch
from torch import nn

from vae_lessons.latent_model import LatentModel
from vae_lessons.mlp import check_rows, check_sizes, hidden_layers, start_bias_at

LEVELS = 256
PARAMETERS = 5  # of a pixel: the logit of a share, two shifts and two log slopes
STEEPEST = 7.0  # as a log slope; so steep a logistic lies within one level
SHARE_OF_ANY = 1e-4  # of each pixel's probability, spread evenly, so that no level is impossible


class GreyVAE(LatentModel):
    """A Gaussian encoder, the prior N(0, I), and pixels that take one of 256 grey levels.

    A pixel x is a level divided by 255. Its density is a mixture of two logistic densities, and
    the probability of a level is the mass in the level's bin. ``decode(z)`` gives, for each pixel,
    the logit of the first component's share, two shifts and two log slopes; ``log_mass`` says
    what they mean. ``start`` (input_dim, 5) is where the bias of the last layer starts, such as
    ``mean_mixture``; by default PyTorch's own draw.

    Shapes: x (B, input_dim) -> mu and log_var (B, latent_dim); z -> (B, input_dim, 5).
    Raises: ValueError for sizes below 1, an x that is not (B, input_dim), a z that is not
    (B, latent_dim) or a start of another shape.
    Source: Salimans et al. (2017), section 2.1; chapter "compression".
    """

    def __init__(
        self, input_dim, hidden_dim, latent_dim, *, layers=1, activation=nn.ReLU, start=None
    ):
        super().__init__()
        check_sizes(latent_dim=latent_dim)
        self.input_dim, self.latent_dim = input_dim, latent_dim
        self.encoder = hidden_layers(input_dim, hidden_dim, layers, activation)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)
        self.decoder = hidden_layers(latent_dim, hidden_dim, layers, activation)
        self.mixture = nn.Linear(hidden_dim, PARAMETERS * input_dim)
        start_bias_at(self.mixture.bias.view(PARAMETERS, -1).T, start)

    def encode(self, x):
        """Centre and log variance of q(z given x): (B, D) -> two of (B, L)."""
        check_rows(x, self.input_dim)
        h = self.encoder(x)
        return self.mu(h), self.log_var(h)

    def decode(self, z):
        """The mixture of each pixel: (B, L) -> (B, D, 5)."""
        check_rows(z, self.latent_dim, "z")
        mixture = self.mixture(self.decoder(z))
        return mixture.view(len(z), PARAMETERS, self.input_dim).transpose(1, 2)

    def log_px_z(self, x, z):
        """Log probability of the levels of x given z: (B, D), (B, L) -> (B,) in nats."""
        check_rows(x, self.input_dim)
        level = (x * (LEVELS - 1)).round()
        return log_mass(self.decode(z), level, level + 1).sum(dim=1)


def log_mass(mixture, low, high):
    """Log probability that the level of a pixel is one of low, low + 1, ..., high - 1.

    A component puts the mass ``sigmoid(slope * (t - anchor) - shift)`` below the grey value t.
    The first has its anchor at paper, t = 0, the second at ink, t = 1, so that their shifts are
    logits, on the scale that a network gives with ease. Level 0 owns all that lies below its bin,
    and level 255 all that lies above.

    Shapes: mixture (..., 5), low and high (...), 0 <= low < high <= 256 -> (...).  Units: nats.
    Source: Salimans et al. (2017), section 2.1; chapter "compression".
    """
    share, shift, other_shift, log_slope, other_log_slope = mixture.unbind(dim=-1)
    paper = _mass_between(0.0, shift, log_slope, low, high)
    ink = _mass_between(1.0, other_shift, other_log_slope, low, high)
    mass = torch.sigmoid(share) * paper + torch.sigmoid(-share) * ink
    return torch.log((1 - SHARE_OF_ANY) * mass + SHARE_OF_ANY * (high - low) / LEVELS)


def _mass_between(anchor, shift, log_slope, low, high):
    """The mass of one component in the bins of the levels low to high - 1."""
    slope = torch.exp(log_slope.clamp(max=STEEPEST))
    a = slope * ((low - 0.5) / (LEVELS - 1) - anchor) - shift
    b = slope * ((high - 0.5) / (LEVELS - 1) - anchor) - shift
    a, b = a.masked_fill(low == 0, -torch.inf), b.masked_fill(high == LEVELS, torch.inf)
    # sigmoid(b) - sigmoid(a) = sigmoid(-a) - sigmoid(-b). Where both are nearly 1, the second
    # difference keeps the digits that the first would lose.
    upper = a + b > 0
    a, b = torch.where(upper, -b, a), torch.where(upper, -a, b)
    return torch.sigmoid(b) - torch.sigmoid(a)


def mean_mixture(images):
    """A mixture for each pixel, without a look at z: where a decoder's output bias may begin.

    The first component begins broad and as often at paper as the pixel is empty; the second is
    narrow and has the share of the pixel's full ink.

    Shapes: images (N, D) in [0, 1] -> (D, 5).
    Raises: ValueError for a shape that is not (N, D) or for no images.
    """
    if images.ndim != 2 or len(images) == 0:
        raise ValueError(f"images have shape {tuple(images.shape)}, but (N, D) is wanted, N >= 1")
    ink, full = (torch.logit((images > t).float().mean(dim=0), eps=1e-3) for t in (0.02, 0.95))
    zero = torch.zeros_like(ink)
    return torch.stack([-full, ink, zero, zero + 2, zero + 4], dim=1)
