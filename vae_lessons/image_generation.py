"""New images from a trained model: densities for its latents, measures for heaps, steering."""

import math
from typing import NamedTuple

import torch

from vae_lessons.data import as_vectors
from vae_lessons.frechet import frechet_distance
from vae_lessons.plots import as_pictures

RIDGE = 1e-3  # added to each variance, so that no component can become flat
K_MEANS_ROUNDS = 10
NEIGHBOURS = 3
SHUFFLES = 10


class Mixture(NamedTuple):
    """A mixture of C Gaussians in L dimensions: a density that can be fitted, asked and drawn.

    ``roots[c]`` is lower triangular, and ``roots[c] @ roots[c].T`` the covariance of component c.

    Shapes: shares (C,), positive, with the sum 1; means (C, L); roots (C, L, L).
    Source: Dempster, Laird & Rubin (1977); chapter "image_generation".
    """

    shares: torch.Tensor
    means: torch.Tensor
    roots: torch.Tensor

    def log_joint(self, z):
        """log p(z, c) = log share + log N(z; mean, covariance): (B, L) -> (B, C) in nats."""
        _check_codes(z, self.means.shape[1])
        columns, inverses = [], torch.linalg.inv(self.roots)
        for share, mean, inverse in zip(self.shares, self.means, inverses, strict=True):
            white = inverse @ (z - mean).T  # (L, B): N(0, I) if z comes from this component
            log_scale = inverse.diagonal().log().sum() - 0.5 * len(mean) * math.log(2 * math.pi)
            columns.append(share.log() + log_scale - 0.5 * white.square().sum(dim=0))
        return torch.stack(columns, dim=1)

    def log_prob(self, z):
        """Log density of the mixture: (B, L) -> (B,) in nats."""
        return self.log_joint(z).logsumexp(dim=1)

    def sample(self, num, generator=None):
        """``num`` draws: a component by its share, then a point of its Gaussian: (num, L)."""
        chance = torch.rand(num, generator=generator)
        chosen = torch.searchsorted(self.shares.cumsum(dim=0)[:-1], chance, right=True)
        eps = torch.randn(num, self.means.shape[1], generator=generator)
        return self.means[chosen] + (self.roots[chosen] @ eps[:, :, None])[:, :, 0]

    def cooled(self, temperature):
        """The mixture with each component drawn together to its mean; 1 leaves it as it is."""
        return self._replace(roots=temperature * self.roots)

    def only(self, component):
        """One component as a mixture of its own."""
        chosen = slice(component, component + 1)
        return Mixture(torch.ones(1), self.means[chosen], self.roots[chosen])


def fit_belonging(z, belongs):
    """The mixture that fits best if ``belongs[n, c]`` says how much point n belongs to c.

    Weighted shares, means and covariances: the second half of each round of EM. With a single
    column of ones it is the Gaussian of all points; with one-hot rows, a Gaussian for each class.

    Shapes: z (N, L), belongs (N, C) -> Mixture.
    Raises: ValueError unless there is one row of weights for each point, or if nothing belongs
    to a component.
    Source: Dempster, Laird & Rubin (1977); chapter "image_generation".
    """
    amounts = _check_belonging(z, belongs)  # (C,)
    means = belongs.T @ z / amounts[:, None]
    ridge = RIDGE * torch.eye(z.shape[1], dtype=z.dtype)
    roots = []
    for mean, weight, amount in zip(means, belongs.T, amounts, strict=True):
        apart = z - mean
        covariance = (weight[:, None] * apart).T @ apart / amount
        roots.append(torch.linalg.cholesky(covariance + ridge))
    return Mixture(amounts / amounts.sum(), means, torch.stack(roots))


def fit_mixture(z, components, generator=None, rounds=10):
    """A mixture of Gaussians, fitted by ten rounds of k-means and then ``rounds`` of EM.

    The first centres are points of the data, drawn by chance. In k-means each point belongs to the
    nearest centre, and each centre moves to the mean of its points. In EM a point belongs to all
    components, by their posterior. A component to which less than a thousandth of a point belongs
    is left out.

    Shapes: z (N, L) -> Mixture of at most ``components`` Gaussians.
    Raises: ValueError for points that are not (N, L), fewer points than components, or less than
    one component or round.
    Source: Dempster, Laird & Rubin (1977); chapter "image_generation".
    """
    _check_fit(z, components, rounds)
    centres = z[torch.randperm(len(z), generator=generator)[:components]]
    for _ in range(K_MEANS_ROUNDS):
        nearest = torch.cdist(z, centres).argmin(dim=1)
        belongs = (nearest[:, None] == torch.arange(components)).to(z.dtype)
        centres = belongs.T @ z / belongs.sum(dim=0).clamp(min=1)[:, None]
    for _ in range(rounds):
        mixture = fit_belonging(z, belongs[:, belongs.sum(dim=0) > 1e-3])
        belongs = mixture.log_joint(z).softmax(dim=1)
    return mixture


def slerp(start, end, weight):
    """A point between two others, along an arc about zero: the partner of ``torch.lerp``.

    Ends of one length keep it all the way. Where the ends point the same way or opposite ways no
    arc is defined, and the straight line is taken.

    Shapes: start, end (..., L); weight a number or (..., 1) -> (..., L).
    Source: Shoemake (1985); White (2016); chapter "image_generation".
    """
    cosine = torch.cosine_similarity(start, end, dim=-1)[..., None].clamp(-1, 1)
    angle = cosine.acos()
    whole = angle.sin()
    arc = (((1 - weight) * angle).sin() * start + (weight * angle).sin() * end) / whole
    return torch.where(whole > 1e-3, arc, torch.lerp(start, end, weight))


class Verdict(NamedTuple):
    """What a yardstick says of a heap of images.

    ``multiple`` is its Fréchet distance to real images over that of two heaps of real images,
    ``doubted`` the share of images of which the judge is less than 90 % sure. ``precision`` is the
    share of images that lie among real ones, ``recall`` the share of real images that lie among
    these, and ``coverage`` the share of real images that have one of these in their ball.
    """

    multiple: float
    doubted: float
    precision: float
    recall: float
    coverage: float


class Yardstick(NamedTuple):
    """Half of the real test images as the judge sees them, and how far halves lie apart.

    Shapes: features (N, F), radii (N,); unit is the Fréchet distance between two halves, the mean
    of ten shuffles.
    Source: Heusel et al. (2017); Kynkäänniemi et al. (2019); Naeem et al. (2020); chapter
    "image_generation".
    """

    judge: torch.nn.Module
    features: torch.Tensor
    radii: torch.Tensor
    unit: float

    def multiple(self, images):
        """The Fréchet distance to the real images, over ``unit``: (N, D) -> float.

        Raises: ValueError unless there are as many images as real ones in the yardstick.
        """
        return self._multiple(self._features(images))

    def verdict(self, images):
        """All five measures of a heap of as many images: (N, D) -> Verdict.

        Raises: ValueError unless there are as many images as real ones in the yardstick.
        """
        features = self._features(images)
        with torch.no_grad():
            sure = self.judge.head(features).softmax(dim=1).amax(dim=1)
        apart = torch.cdist(features, self.features)  # (made, real)
        in_real = apart <= self.radii
        in_made = apart <= neighbour_radii(features)[:, None]
        found = sure < 0.9, in_real.any(dim=1), in_made.any(dim=0), in_real.any(dim=0)
        return Verdict(self._multiple(features), *(each.double().mean().item() for each in found))

    def _multiple(self, features):
        return frechet_distance(self.features, features) / self.unit

    def _features(self, images):
        if len(images) != len(self.features):
            raise ValueError(
                f"got {len(images)} images: {len(self.features)} are wanted, as many as there are "
                "real ones, because a Fréchet distance depends on their number"
            )
        return judge_features(self.judge, images)


@torch.no_grad()
def judge_features(judge, images):
    """What the judge's last hidden layer says of each image: (N, D) -> (N, F)."""
    return torch.cat([judge.features(part) for part in images.split(1000)])


def neighbour_radii(features):
    """How far each point's third nearest neighbour is: (N, F) -> (N,).

    Raises: ValueError if there are no three others.
    Source: Kynkäänniemi et al. (2019); chapter "image_generation".
    """
    if len(features) <= NEIGHBOURS:
        raise ValueError(f"got {len(features)} points: more than {NEIGHBOURS} are wanted")
    nearest = torch.cdist(features, features).topk(NEIGHBOURS + 1, largest=False).values
    return nearest[:, -1]  # the nearest of all is the point itself


def make_yardstick(judge, test):
    """The yardstick of this judge and these test images, cut into halves by ten shuffles.

    The first shuffle gives the real images to which others are compared.

    Shapes: test is ``data.Digits`` of 28 x 28 pixels.
    Source: chapter "conditional_vae".
    """
    features = judge_features(judge, as_vectors(test.images))
    half, halves = len(features) // 2, []
    for seed in range(SHUFFLES):
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
        halves.append((features[order[:half]], features[order[half : 2 * half]]))
    unit = sum(frechet_distance(*pair) for pair in halves) / SHUFFLES
    real = halves[0][0]
    return Yardstick(judge, real, neighbour_radii(real), unit)


def slant(images):
    """How far the ink leans to the right: sideways pixels per pixel upwards, from its moments.

    Shapes: images (N, D) of squares or (N, height, width) -> (N,).  Units: the tangent of the
    angle to the vertical.
    Source: chapter "image_generation".
    """
    ink = as_pictures(images).float()
    share = ink / ink.sum(dim=(1, 2), keepdim=True)
    down, right = (torch.arange(size) - (size - 1) / 2 for size in ink.shape[1:])
    down, right = down[:, None].expand(ink.shape[1:]), right.expand(ink.shape[1:])

    def mean(place):
        return (share * place).sum(dim=(1, 2))

    together = mean(down * right) - mean(down) * mean(right)
    return -together / (mean(down**2) - mean(down) ** 2)


def stroke_width(images):
    """The ink over half the length of its edge: for a long stroke, the width of the pen.

    The edge is measured by the slope of the grey values, which a blurred edge keeps.

    Shapes: images (N, D) of squares in [0, 1] or (N, height, width) -> (N,).  Units: pixels.
    Source: chapter "image_generation".
    """
    ink = torch.nn.functional.pad(as_pictures(images).float(), (1, 1, 1, 1))
    right = ink[:, :-1, 1:] - ink[:, :-1, :-1]
    down = ink[:, 1:, :-1] - ink[:, :-1, :-1]
    edge = torch.hypot(right, down).sum(dim=(1, 2))
    return 2 * ink.sum(dim=(1, 2)) / edge


def attribute_direction(z, values):
    """The step in latent space that goes with one unit more of an attribute.

    Least squares gives the slope w of the attribute over z. Of all steps d with ``w d = 1`` this
    is the likeliest for points spread as these are: the covariance of z times w, scaled.

    Shapes: z (N, L), values (N,) -> (L,).  Units: latent units per unit of the attribute.
    Raises: ValueError unless there is one value for each point, and more points than dimensions.
    Source: chapter "image_generation".
    """
    _check_values(z, values)
    centred, values = (each.double() - each.double().mean(dim=0) for each in (z, values))
    together = centred.T @ values  # N times the covariance of z and the attribute
    slope = torch.linalg.lstsq(centred, values[:, None]).solution[:, 0]
    return (together / (slope @ together)).to(z.dtype)


def _check_codes(z, width=None):
    if z.ndim != 2 or (width is not None and z.shape[1] != width):
        wanted = "(N, L)" if width is None else f"(N, {width})"
        raise ValueError(f"z has shape {tuple(z.shape)}, but {wanted} is wanted: one row each")


def _check_belonging(z, belongs):
    """How much belongs to each component (C,), where every one gets something."""
    if z.ndim != 2 or belongs.ndim != 2 or len(z) != len(belongs):
        raise ValueError(
            f"z has shape {tuple(z.shape)} and belongs {tuple(belongs.shape)}: (N, L) and (N, C) "
            "are wanted, one row of weights for each point"
        )
    amounts = belongs.sum(dim=0)
    if not (amounts > 0).all():
        raise ValueError(f"nothing belongs to component {int(amounts.argmin())}: leave it out")
    return amounts


def _check_fit(z, components, rounds):
    _check_codes(z)
    if not 1 <= components <= len(z) or rounds < 1:
        raise ValueError(
            f"{components} components, {rounds} rounds and {len(z)} points: at least one component "
            "and one round are wanted, and as many points as components"
        )


def _check_values(z, values):
    if z.ndim != 2 or values.shape != (len(z),) or len(z) <= z.shape[1]:
        raise ValueError(
            f"z has shape {tuple(z.shape)} and the values {tuple(values.shape)}: (N, L) and (N,) "
            "are wanted, with N above L"
        )
