"""A VAE that is told the class of each image: p(x given y) in place of p(x)."""

import torch
from torch import nn

from vae_lessons.latent_model import LatentModel
from vae_lessons.mlp import check_rows, check_sizes, hidden_layers, start_bias_at

WHOLE_NUMBERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def one_hot(y, num_classes):
    """Each label as a row of zeros with a single one, at the place of the label.

    Shapes: y (B,) of whole numbers from 0 to num_classes - 1 -> (B, num_classes) float32.
    Raises: ValueError for labels of another shape, another type or another range.
    Source: chapter "conditional_vae".
    """
    if y.ndim != 1 or y.dtype not in WHOLE_NUMBERS:
        raise ValueError(
            f"y is {y.dtype} of shape {tuple(y.shape)}, but whole numbers of shape (B,) are "
            "wanted: one label for each example"
        )
    if len(y) and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"y runs from {y.min()} to {y.max()}, but labels from 0 to {num_classes - 1} are wanted"
        )
    return (y[:, None] == torch.arange(num_classes, device=y.device)).float()


class ConditionalVAE(nn.Module):
    """A VAE whose encoder and decoder read the label beside what they read anyway.

    Without a label it answers nothing: bind it first, ``model.given(y)``. ``output_bias``
    (input_dim,) is where the bias of the last layer starts; by default PyTorch's own draw.

    Raises: ValueError for sizes below 1 or a bias of another shape.
    Source: Sohn, Lee & Yan (2015), section 4; Kingma et al. (2014), model M2; chapter
    "conditional_vae".
    """

    def __init__(
        self, input_dim, hidden_dim, latent_dim, num_classes, *,
        layers=1, activation=nn.ReLU, output_bias=None,
    ):
        super().__init__()
        check_sizes(input_dim=input_dim, latent_dim=latent_dim, num_classes=num_classes)
        self.input_dim, self.latent_dim, self.num_classes = input_dim, latent_dim, num_classes
        self.encoder = hidden_layers(input_dim + num_classes, hidden_dim, layers, activation)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)
        self.decoder = hidden_layers(latent_dim + num_classes, hidden_dim, layers, activation)
        self.logits = nn.Linear(hidden_dim, input_dim)
        start_bias_at(self.logits.bias, output_bias)

    def given(self, y):
        """The model bound to these labels, which answers what any ``LatentModel`` answers.

        Shapes: y (B,) of whole numbers from 0 to num_classes - 1.
        Raises: ValueError for labels of another shape, another type or another range.
        """
        return GivenLabels(self, y)


class GivenLabels(LatentModel):
    """A conditional VAE with its labels: p(x given z, y), q(z given x, y), the prior N(0, I).

    A batch may hold the examples of the labels several times over, as a whole, which is how
    measures with K draws ask: row b then has the label ``y[b % len(y)]``. A single label thus
    serves any number of rows.

    Shapes: x (K B, D) -> mu, log_var (K B, L); z (K B, L) -> logits (K B, D), for B labels.
    Raises: ValueError for a batch that is no whole multiple of B or rows of another width.
    Source: Sohn, Lee & Yan (2015), section 4; chapter "conditional_vae".
    """

    def __init__(self, model, y):
        super().__init__()
        self.model = model
        self.labels = one_hot(y, model.num_classes)

    def encode(self, x):
        """Centre and log variance of q(z given x, y): (K B, D) -> two of (K B, L)."""
        check_rows(x, self.model.input_dim)
        h = self.model.encoder(self._with_labels(x))
        return self.model.mu(h), self.model.log_var(h)

    def decode(self, z):
        """Logits of the pixels of p(x given z, y): (K B, L) -> (K B, D)."""
        check_rows(z, self.model.latent_dim, "z")
        return self.model.logits(self.model.decoder(self._with_labels(z)))

    def _with_labels(self, rows):
        """Each row with its label behind it, the labels repeated as a whole."""
        copies = len(rows) // max(1, len(self.labels))
        if copies * len(self.labels) != len(rows):
            raise ValueError(
                f"got {len(rows)} rows for {len(self.labels)} labels: a whole multiple is "
                "wanted, the batch of the labels once or several times over"
            )
        return torch.cat([rows, self.labels.to(rows).repeat(copies, 1)], dim=1)
