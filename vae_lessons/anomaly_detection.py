"""Scores that say how little an image belongs, how well they rank, and when to raise an alarm."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from vae_lessons.data import check_pixels
from vae_lessons.elbo import elbo_terms
from vae_lessons.kl import gaussian_log_density, kl_to_standard_normal
from vae_lessons.recipes import train_once
from vae_lessons.reparameterization import reparameterize
from vae_lessons.training import cosine, fit
from vae_lessons.vae import VAE, mean_image_logits

ROWS_AT_ONCE = 2_000  # more do not fit into the cache of a processor, which is slower


def normal_vae(normal, aside, name):
    """A VAE that has seen normal images alone: 784-400-20, trained on 48,000 binarised pictures.

    A picture counts as often as it is shown, so few images make many epochs. ``aside`` are other
    normal images, for the line that the training leaves.

    Shapes: normal, aside are ``data.Digits``.  Source: chapter "anomaly_detection".
    """
    def build(x):
        return VAE(x.shape[1], 400, 20, activation=nn.GELU, output_bias=mean_image_logits(x))

    def learn(model, x, aside_x):
        return fit(model, x, elbo_terms, epochs=max(1, round(48_000 / len(x))),
                   learning_rate=4e-3, schedule=cosine(), binarized=True, test_images=aside_x,
                   precision="medium", name=name)

    model, _ = train_once(name, build, learn, normal, aside)
    return model.requires_grad_(False)


class Costs(NamedTuple):
    """What a VAE charges for each image: the higher, the stranger.  Three of (B,), in nats.

    ``negative_log_px`` is the importance-weighted estimate of -log p(x).
    """

    reconstruction: torch.Tensor
    kl: torch.Tensor
    negative_log_px: torch.Tensor

    @property
    def negative_elbo(self):
        """-ELBO of each image: (B,) in nats."""
        return self.reconstruction + self.kl


@torch.no_grad()
def costs(model, x, num_samples=4, generator=None):
    """The two terms of -ELBO and the estimate of -log p(x), all from the same draws from q.

    For a model with ``encode``, so the KL is exact.

    Shapes: x (B, D) -> Costs of three (B,).  Units: nats.
    Raises: ValueError for pixels that are not (B, D) in [0, 1] or for num_samples below 1.
    Source: Kingma & Welling (2014), equation 7; Burda, Grosse & Salakhutdinov (2016), equation 8.
    """
    check_pixels(x)
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}: at least one sample is needed")
    batches = x.split(max(1, ROWS_AT_ONCE // num_samples))
    parts = [_costs_of_batch(model, batch, num_samples, generator) for batch in batches]
    return Costs(*map(torch.cat, zip(*parts, strict=True)))


def _costs_of_batch(model, x, num_samples, generator):
    q = model.encode(x)
    mu, log_var = (each.repeat(num_samples, 1) for each in q)
    z = reparameterize(mu, log_var, generator)
    log_px_z = model.log_px_z(x.repeat(num_samples, 1), z)
    log_weights = log_px_z + model.log_pz(z) - gaussian_log_density(z, mu, log_var)
    log_mean = log_weights.view(num_samples, -1).logsumexp(dim=0) - math.log(num_samples)
    reconstruction = -log_px_z.view(num_samples, -1).mean(dim=0)
    return Costs(reconstruction, kl_to_standard_normal(*q), -log_mean)


# How well a score ranks


def auroc(scores, is_anomaly, counts=None):
    """The probability that a random anomaly has a higher score than a random normal image.

    Ties count one half. ``counts`` says how often each image occurs in each of R resampled sets,
    as ``bootstrap_counts`` draws them; without it every image occurs once.

    Shapes: scores (N,), is_anomaly (N,) bool, counts (R, N) -> (), or (R,) with counts.
    Raises: ValueError for other shapes, NaN, or where anomalies or normal images are missing.
    Source: Hanley & McNeil (1982); chapter "anomaly_detection".
    """
    _check_scores(scores, is_anomaly, counts)
    how_often = torch.ones(1, len(scores)) if counts is None else counts
    normal, order = scores[~is_anomaly].sort()
    normals = F.pad(how_often[:, ~is_anomaly][:, order].double().cumsum(dim=1), (1, 0))
    anomalies, of_anomalies = how_often[:, is_anomaly].double(), scores[is_anomaly]
    below = normals[:, torch.searchsorted(normal, of_anomalies)]
    not_above = normals[:, torch.searchsorted(normal, of_anomalies, right=True)]
    pairs_won = (anomalies * (below + not_above) / 2).sum(dim=1)
    areas = pairs_won / (anomalies.sum(dim=1) * normals[:, -1])
    return areas[0] if counts is None else areas


def _check_scores(scores, is_anomaly, counts):
    if scores.ndim != 1 or scores.shape != is_anomaly.shape or is_anomaly.dtype != torch.bool:
        raise ValueError(
            f"scores have shape {tuple(scores.shape)} and is_anomaly is {is_anomaly.dtype} of "
            f"shape {tuple(is_anomaly.shape)}: one number and one bool are wanted for each image"
        )
    if counts is not None and (counts.ndim != 2 or counts.shape[1] != len(scores)):
        raise ValueError(
            f"counts have shape {tuple(counts.shape)}, but (R, {len(scores)}) is wanted: "
            "a row for each resampled set"
        )
    if scores.isnan().any():
        raise ValueError(f"{int(scores.isnan().sum())} scores are NaN and can't be ranked")
    if not is_anomaly.any() or is_anomaly.all():
        raise ValueError(
            f"{int(is_anomaly.sum())} of {len(scores)} images are anomalies: at least one anomaly "
            "and one normal image are needed for a pair"
        )


def bootstrap_counts(strata, repeats, generator=None):
    """How often each image occurs in each of ``repeats`` sets drawn with replacement.

    Each stratum, such as a class, is drawn from on its own, so that its size stays what it is.

    Shapes: strata (N,) of whole numbers -> (repeats, N).
    Source: Efron & Tibshirani (1993); chapter "anomaly_detection".
    """
    counts = torch.zeros(repeats, len(strata))
    for stratum in strata.unique():
        members = (strata == stratum).nonzero()[:, 0]
        drawn = torch.randint(len(members), (repeats, len(members)), generator=generator)
        counts.scatter_add_(1, members[drawn], torch.ones(drawn.shape))
    return counts


def middle(values, level=0.95):
    """The interval that holds the middle ``level`` of the values: (R,) -> two floats."""
    tail = (1 - level) / 2
    low, high = values.quantile(torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return low, high


# Two models that know little: of strokes, and of codes


class StrokeModel(NamedTuple):
    """Black and white pictures of which only neighbouring pixels are known.

    Each pixel is a coin whose bias depends on the ten pixels around it that a reader, line by
    line, has already met. A probability by the chain rule: over all pictures it adds up to 1.

    Shapes: log_odds_of_ink (1024,), one for each pattern of ten pixels.
    Source: the kind of template that JBIG codes fax pages with; chapter "anomaly_detection".
    """

    log_odds_of_ink: torch.Tensor

    def log_px(self, x):
        """Log probability of each picture: (B, D) of 0 and 1, D a square -> (B,) in nats."""
        log_p = F.logsigmoid(torch.stack([-self.log_odds_of_ink, self.log_odds_of_ink], dim=1))
        return log_p.flatten()[2 * _patterns(x) + x.long()].sum(dim=1)


# The place of each neighbour in the number of the pattern; the pixel itself is the dot.
TEMPLATE = torch.tensor([
    [-1, 9, 8, 7, -1],
    [6, 5, 4, 3, 2],
    [1, 0, -1, -1, -1],  # 1 0 .
])


def fit_strokes(x):
    """The stroke model of these pictures: for each pattern, how often ink followed it.

    One half is added to both counts, so that nothing is impossible.

    Shapes: x (N, D) of 0 and 1, D a square -> StrokeModel.
    Raises: ValueError for grey pixels or rows that are no square pictures.
    Source: chapter "anomaly_detection".
    """
    patterns, num = _patterns(x).flatten(), 1024
    seen = torch.bincount(patterns, minlength=num) + 1.0
    inked = torch.bincount(patterns, weights=x.flatten(), minlength=num) + 0.5
    return StrokeModel(torch.logit(inked / seen).float())


def _patterns(x):
    """The number of the pattern of neighbours of each pixel: (B, D) -> (B, D) of 0 to 1023."""
    check_pixels(x)
    side = math.isqrt(x.shape[1])
    if side * side != x.shape[1] or not ((x == 0) | (x == 1)).all():
        raise ValueError(
            f"x has shape {tuple(x.shape)}: rows are wanted that are square pictures of pixels "
            "0 and 1. Grey digits become such by vae_lessons.data.binarize."
        )
    paper_around = F.pad(x.view(-1, side, side).short(), (2, 2, 2, 0))
    patterns = torch.zeros_like(paper_around[:, 2:, 2:-2])
    for place in range(10):
        down, right = TEMPLATE.eq(place).nonzero()[0].tolist()
        patterns += paper_around[:, down : down + side, right : right + side] << place
    return patterns.flatten(1).long()


class Mixture(NamedTuple):
    """A density that is a weighted sum of Gaussians.

    Shapes: log_weights (C,), means (C, L), covariances (C, L, L).
    Source: Dempster, Laird & Rubin (1977); chapter "anomaly_detection".
    """

    log_weights: torch.Tensor
    means: torch.Tensor
    covariances: torch.Tensor

    def log_joint(self, z):
        """Log of weight times density, of each Gaussian: (B, L) -> (B, C)."""
        roots = torch.linalg.cholesky(self.covariances)  # (C, L, L)
        whiten = torch.linalg.inv(roots)
        eps = (z - self.means[:, None]) @ whiten.mT  # (C, B, L): how many widths away
        log_stretch = roots.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        log_standard = -0.5 * (eps.square().sum(dim=2) + z.shape[1] * math.log(2 * math.pi))
        return self.log_weights - log_stretch + log_standard.T

    def log_density(self, z):
        """Log density of the whole sum: (B, L) -> (B,) in nats."""
        return self.log_joint(z).logsumexp(dim=1)


def fit_mixture(z, num_gaussians, *, steps=15, floor=1e-2, generator=None):
    """The mixture of Gaussians that expectation-maximisation finds for these points.

    It starts at points drawn at random, each with the covariance of all. ``floor`` is added to
    every variance, so that no Gaussian shrinks on to a single point.

    Shapes: z (N, L) -> Mixture.
    Raises: ValueError for fewer points than Gaussians.
    Source: Dempster, Laird & Rubin (1977); chapter "anomaly_detection".
    """
    if not 1 <= num_gaussians <= len(z):
        raise ValueError(
            f"num_gaussians is {num_gaussians} for {len(z)} points: at least 1 is wanted, and "
            "at least one point for each"
        )
    chosen = torch.randperm(len(z), generator=generator)[:num_gaussians]
    spread = floor * torch.eye(z.shape[1]).to(z)
    everywhere = (torch.cov(z.T, correction=0) + spread).expand(num_gaussians, -1, -1)
    mixture = Mixture(z.new_full((num_gaussians,), -math.log(num_gaussians)), z[chosen], everywhere)
    squares = (z[:, :, None] * z[:, None]).flatten(1)  # (N, L L)
    for _ in range(steps):
        shares = mixture.log_joint(z).softmax(dim=1).T  # (C, N): whose is each point?
        sizes = shares.sum(dim=1, keepdim=True).clamp(min=1e-6)
        means = shares @ z / sizes
        mean_squares = (shares @ squares / sizes).view_as(everywhere)
        covariances = mean_squares - means[:, :, None] * means[:, None]
        mixture = Mixture((sizes[:, 0] / len(z)).log(), means, covariances + spread)
    return mixture


# One score


class Detector(NamedTuple):
    """Says how little an image belongs, from what normal images alone have taught.

    Two opinions, each in widths of its spread over normal images, added up: how many times as
    much the VAE charges for the image as the stroke model, and how unusual its code is.
    """

    model: nn.Module
    strokes: StrokeModel
    codes: Mixture
    centres: torch.Tensor  # (2,)
    widths: torch.Tensor  # (2,)

    def opinions(self, x, generator=None):
        """-ELBO over the stroke model's cost, and minus the log density of mu: -> (B, 2)."""
        dearness = costs(self.model, x, generator=generator).negative_elbo / -self.strokes.log_px(x)
        return torch.stack([dearness, -self.codes.log_density(self.model.encode(x)[0])], dim=1)

    def score(self, x, generator=None):
        """The higher, the stranger: (B, D) of 0 and 1 -> (B,)."""
        return ((self.opinions(x, generator) - self.centres) / self.widths).sum(dim=1)


@torch.no_grad()
def fit_detector(model, x, aside_x, generator=None):
    """The detector of this VAE and the normal images that it was trained on.

    ``aside_x`` are other normal images, which the spread of the opinions is taken from: on its
    own training images a model is too sure of itself. The codes get one Gaussian for every 200.

    Shapes: x (N, D), aside_x (M, D) of 0 and 1 -> Detector.
    Raises: ValueError for fewer than 200 images, fewer than two aside, or grey pixels.
    Source: chapter "anomaly_detection".
    """
    if len(x) < 200 or len(aside_x) < 2:
        raise ValueError(
            f"{len(x)} images and {len(aside_x)} aside: at least 200 and 2 are wanted"
        )
    codes = fit_mixture(model.encode(x)[0], len(x) // 200, generator=generator)
    raw = Detector(model, fit_strokes(x), codes, torch.zeros(2), torch.ones(2))
    opinions = raw.opinions(aside_x, generator)
    return raw._replace(centres=opinions.mean(dim=0), widths=opinions.std(dim=0))


# When to raise an alarm


def threshold_for(normal_scores, false_alarms):
    """The score above which an alarm is raised, from normal scores alone.

    Of a new normal image, exchangeable with these, at most this share raise an alarm: the
    ``ceil((n + 1) (1 - false_alarms))``-th smallest of the n scores.

    Shapes: normal_scores (N,) -> float.
    Raises: ValueError if so few scores can't promise so few false alarms.
    Source: Vovk, Gammerman & Shafer (2005); chapter "anomaly_detection".
    """
    num = len(normal_scores)
    place = math.ceil((num + 1) * (1 - false_alarms) - 1e-9)  # 1e-9: for rounding
    if not 0 < false_alarms < 1 or place > num:
        raise ValueError(
            f"{num} normal scores can't promise a share of {false_alarms} false alarms: wanted "
            "are a share between 0 and 1 and at least 1 / share - 1 scores"
        )
    return normal_scores.sort().values[place - 1].item()


def share_interval(hits, z=1.96):
    """Wilson's 95 % interval for a probability, from independent hits: (N,) bool -> two floats.

    Raises: ValueError if there are none.
    Source: Wilson (1927); chapter "anomaly_detection".
    """
    num = len(hits)
    if num == 0:
        raise ValueError("there are no hits and no misses: nothing to take a share of")
    share = hits.double().mean().item()
    centre = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + (z / (2 * num)) ** 2)
    return centre - half, centre + half
