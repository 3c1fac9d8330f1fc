"""The vector-quantised VAE: a few discrete codes in place of a cloud, and priors over codes.

A VQ-VAE has a contract of its own. Its encoder picks one sequence of codes for each image, so
there is no density q and no ``sample_posterior``. With P positions and a codebook of C entries,
each of length M, it answers

- ``encode_codes(x) -> codes``: (B, D) -> (B, P) of whole numbers from 0 to C - 1
- ``decode_codes(codes) -> logits``: (B, P) -> (B, D)
- ``log_px_codes(x, codes)``: (B, D), (B, P) -> (B,) in nats

A prior over codes is another model, trained afterwards. It never sees a pixel, and answers

- ``log_prob(codes)``: (B, P) -> (B,) in nats
- ``sample(num, generator=None) -> codes``: (num, P)
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from vae_lessons.likelihoods import bernoulli_log_likelihood
from vae_lessons.mlp import check_rows, check_sizes, start_bias_at

SIDE = 4  # code positions along an edge of the image
NUM_POSITIONS = SIDE * SIDE
COMMITMENT_WEIGHT = 0.25


def nearest_entries(vectors, codebook):
    """The number of the codebook entry nearest to each vector.

    ``|v - e|^2 = |v|^2 - 2 v e + |e|^2``, and ``|v|^2`` is the same for every entry.

    Shapes: vectors (..., M), codebook (C, M) -> (...) of whole numbers from 0 to C - 1.
    Raises: ValueError if vectors and entries differ in length.
    Source: van den Oord, Vinyals & Kavukcuoglu (2017), equation 1; chapter "vq_vae".
    """
    if codebook.ndim != 2 or vectors.shape[-1:] != codebook.shape[1:]:
        raise ValueError(
            f"vectors have shape {tuple(vectors.shape)} and the codebook "
            f"{tuple(codebook.shape)}: (..., M) and (C, M) are wanted, with one M"
        )
    return (codebook.square().sum(dim=1) - 2 * vectors @ codebook.T).argmin(dim=-1)


def straight_through(vectors, entries):
    """The value of the entries, with a gradient that passes to the vectors unchanged.

    Shapes: vectors, entries of one shape -> the same.
    Source: Bengio, Léonard & Courville (2013); chapter "vq_vae".
    """
    return vectors + (entries - vectors).detach()


class VQVAE(nn.Module):
    """A convolutional VQ-VAE for 28 x 28 Bernoulli pixels, with 4 x 4 codes.

    ``output_bias`` (784,) is where the bias of the pixels starts, such as the logits of the mean
    image; by default zero.

    Shapes: x (B, 784) -> codes (B, 16) -> logits (B, 784).
    Raises: ValueError for sizes below 1, a bias that is not (784,), and where an x is not
    (B, 784), vectors are not (B, 16, code_dim) or codes not (B, 16).
    Source: van den Oord, Vinyals & Kavukcuoglu (2017), section 3; chapter "vq_vae".
    """

    def __init__(self, codebook_size, code_dim=8, width=32, output_bias=None):
        super().__init__()
        check_sizes(codebook_size=codebook_size, code_dim=code_dim, quarter_width=width // 4)
        self.code_dim = code_dim
        self.encoder = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, width // 4, 4, stride=2, padding=1), nn.GELU(),  # 14 x 14
            nn.Conv2d(width // 4, width, 4, stride=2, padding=1), nn.GELU(),  # 7 x 7
            nn.Conv2d(width, width, SIDE), nn.GELU(),  # 4 x 4
            nn.Conv2d(width, code_dim, 1),
        )
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(code_dim, width, SIDE), nn.GELU(),  # 7 x 7
            nn.Conv2d(width, 4 * (width // 4), 3, padding=1), nn.PixelShuffle(2), nn.GELU(),
            nn.Conv2d(width // 4, 4, 3, padding=1), nn.PixelShuffle(2), nn.Flatten(),
        )
        self.bias = nn.Parameter(torch.zeros(784))
        start_bias_at(self.bias, output_bias)

    def vectors(self, x):
        """What the encoder says at each position, of mean 0 and variance 1: -> (B, P, M)."""
        check_rows(x, 784)
        vectors = self.encoder(x).flatten(2).transpose(1, 2)
        return F.layer_norm(vectors, (self.code_dim,))

    def decode(self, vectors):
        """Logits of the pixels: vectors (B, P, M) -> (B, D)."""
        if vectors.ndim != 3 or vectors.shape[1:] != (NUM_POSITIONS, self.code_dim):
            raise ValueError(
                f"vectors have shape {tuple(vectors.shape)}, but (B, {NUM_POSITIONS}, "
                f"{self.code_dim}) is wanted: one vector for each position"
            )
        return self.decoder(vectors.transpose(1, 2).unflatten(2, (SIDE, SIDE))) + self.bias

    def encode_codes(self, x):
        """The number of the entry nearest to each vector: (B, D) -> (B, P)."""
        return nearest_entries(self.vectors(x), self.codebook)

    def decode_codes(self, codes):
        """Logits of the pixels of p(x given codes): (B, P) -> (B, D)."""
        check_rows(codes, NUM_POSITIONS, "codes")
        return self.decode(self.codebook[codes])

    def log_px_codes(self, x, codes):
        """Log-likelihood of x given its codes: (B, D), (B, P) -> (B,) in nats."""
        return bernoulli_log_likelihood(x, self.decode_codes(codes))


class VQTerms(NamedTuple):
    """The terms of a VQ-VAE's objective, one value per example, (B,).

    The reconstruction is in nats; the other two are squared distances, and equal in value: they
    differ in what their gradient moves.
    """

    reconstruction: torch.Tensor
    codebook: torch.Tensor
    commitment: torch.Tensor


def vq_terms(model, x):
    """The reconstruction, and the squared distances that teach codebook and encoder.

    The codebook term moves entries to the vectors that chose them; the commitment term moves
    vectors to the entries they chose.

    Shapes: x (B, D) -> VQTerms of three (B,).
    Source: van den Oord, Vinyals & Kavukcuoglu (2017), equation 3; chapter "vq_vae".
    """
    vectors = model.vectors(x)
    entries = model.codebook[nearest_entries(vectors, model.codebook)]
    logits = model.decode(straight_through(vectors, entries))
    return VQTerms(
        reconstruction=bernoulli_log_likelihood(x, logits),
        codebook=(entries - vectors.detach()).square().sum(dim=(1, 2)),
        commitment=(vectors - entries.detach()).square().sum(dim=(1, 2)),
    )


def vq_objective(model, x, generator=None):
    """What a VQ-VAE's training maximises; no bound on log p(x), and nothing in it is drawn.

    Shapes: x (B, D) -> (B,).
    Source: van den Oord, Vinyals & Kavukcuoglu (2017), equation 3; chapter "vq_vae".
    """
    terms = vq_terms(model, x)
    return terms.reconstruction - terms.codebook - COMMITMENT_WEIGHT * terms.commitment


def perplexity(counts):
    """How many entries, equally used, would have the entropy of these counts: exp(entropy).

    Shapes: counts (C,) -> float from 1 to C.
    Raises: ValueError if nothing was counted.
    Source: chapter "vq_vae".
    """
    if counts.sum() == 0:
        raise ValueError("all counts are zero: there is no use of the codebook to speak of")
    shares = counts.double() / counts.sum()
    return torch.special.entr(shares).sum().exp().item()


@torch.no_grad()
def restart_entries(model, x, which, generator=None):
    """Puts the chosen entries of the codebook where vectors of these images are, drawn by chance.

    Shapes: x (B, D), which (C,) of bool.
    Raises: ValueError if the images have fewer vectors than there are entries to place.
    Source: chapter "vq_vae".
    """
    vectors = model.vectors(x).flatten(0, 1)
    wanted = int(which.sum())
    if len(vectors) < wanted:
        raise ValueError(f"{len(vectors)} vectors are too few for {wanted} entries: give more x")
    chosen = torch.randperm(len(vectors), generator=generator)[:wanted]
    model.codebook[which] = vectors[chosen]


class IndependentPrior(nn.Module):
    """A prior that draws each position on its own; with equal logits the uniform prior.

    Shapes: logits (P, C); codes (B, P).
    Source: chapter "vq_vae".
    """

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def log_prob(self, codes):
        """Log probability of each sequence of codes: (B, P) -> (B,) in nats."""
        check_rows(codes, len(self.logits), "codes")
        return self.logits.log_softmax(dim=1).T.gather(0, codes).sum(dim=1)

    @torch.no_grad()
    def sample(self, num, generator=None):
        """Sequences of codes, drawn position by position: (num, P)."""
        probabilities = self.logits.softmax(dim=1)
        return torch.multinomial(probabilities, num, replacement=True, generator=generator).T


def log_frequencies(codes, codebook_size):
    """Log of how often each entry stood at each position, all counts raised by one.

    Shapes: codes (N, P) -> (P, C), rows whose exponentials add up to 1.
    """
    counts = torch.stack([column.bincount(minlength=codebook_size) for column in codes.T]) + 1.0
    return (counts / counts.sum(dim=1, keepdim=True)).log()


class CausalPrior(nn.Module):
    """A prior that draws the codes in order, each given all codes before it.

    One pass gives all P conditional distributions, since the matrix that mixes positions has zeros
    wherever a code would reach its own or an earlier position. ``output_bias`` (P, C) is where the
    last bias starts; by default zero.

    Shapes: codes (B, P) -> logits (B, P, C).
    Raises: ValueError for sizes below 1, codes that are not (B, P) or a bias that is not (P, C).
    Source: Bengio & Bengio (2000); Germain et al. (2015); chapter "vq_vae".
    """

    def __init__(
        self, num_positions, codebook_size, *,
        code_dim=8, width=64, hidden_dim=128, output_bias=None,
    ):
        super().__init__()
        check_sizes(num_positions=num_positions, codebook_size=codebook_size, code_dim=code_dim,
                    width=width, hidden_dim=hidden_dim)
        self.shape = (num_positions, codebook_size)
        self.embedding = nn.Embedding(codebook_size, code_dim)
        self.mixing = nn.Linear(num_positions * code_dim, num_positions * width)
        earlier = torch.ones(num_positions, num_positions).tril(diagonal=-1)
        mask = earlier.repeat_interleave(width, 0).repeat_interleave(code_dim, 1)
        self.register_buffer("mask", mask, persistent=False)
        self.each = nn.Sequential(
            nn.GELU(), nn.Linear(width, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, codebook_size)
        )
        self.bias = nn.Parameter(torch.zeros(self.shape))
        start_bias_at(self.bias, output_bias)

    def logits(self, codes):
        """Logits of the code at each position, given the codes before it: (B, P) -> (B, P, C)."""
        return self.each(self._mixed(codes)) + self.bias

    def log_prob(self, codes):
        """Log probability of each sequence of codes: (B, P) -> (B,) in nats."""
        log_probs = self.logits(codes).log_softmax(dim=2)
        return log_probs.gather(2, codes[:, :, None]).sum(dim=(1, 2))

    @torch.no_grad()
    def sample(self, num, generator=None):
        """Sequences of codes, drawn in order: (num, P)."""
        codes = self.embedding.weight.new_zeros(num, self.shape[0], dtype=torch.long)
        for position in range(self.shape[0]):
            logits = self.each(self._mixed(codes)[:, position]) + self.bias[position]
            drawn = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)
            codes[:, position] = drawn[:, 0]
        return codes

    def _mixed(self, codes):
        """What each position is told of the codes before it: (B, P) -> (B, P, width)."""
        check_rows(codes, self.shape[0], "codes")
        weight = self.mixing.weight * self.mask
        mixed = F.linear(self.embedding(codes).flatten(1), weight, self.mixing.bias)
        return mixed.unflatten(1, (self.shape[0], -1))


def log_px_bound(model, prior, x):
    """``log p(codes) + log p(x given codes)`` with the encoder's codes: never above log p(x).

    Shapes: x (B, D) -> (B,).  Units: nats.
    Source: chapter "vq_vae".
    """
    codes = model.encode_codes(x)
    return prior.log_prob(codes) + model.log_px_codes(x, codes)
