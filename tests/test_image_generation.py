"""Densities for latents, measures for heaps of images, and steps that change one attribute."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vae_lessons.classifier import Classifier, class_probabilities
from vae_lessons.data import Digits, as_vectors
from vae_lessons.digits import draw_digits
from vae_lessons.frechet import frechet_distance
from vae_lessons.image_generation import (
    RIDGE,
    Mixture,
    Verdict,
    Yardstick,
    attribute_direction,
    fit_belonging,
    fit_mixture,
    judge_features,
    make_yardstick,
    neighbour_radii,
    slant,
    slerp,
    stroke_width,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def three():
    """Three Gaussians of the plane with tilts of their own, in float64."""
    roots = torch.tensor([[[0.5, 0.0], [0.2, 0.3]], [[1.0, 0.0], [-0.6, 0.5]],
                          [[0.2, 0.0], [0.0, 0.9]]], dtype=torch.float64)
    means = torch.tensor([[-2.0, 0.0], [1.5, 1.0], [0.5, -2.0]], dtype=torch.float64)
    return Mixture(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), means, roots)


def oracle(mixture):
    components = MultivariateNormal(mixture.means, scale_tril=mixture.roots)
    return MixtureSameFamily(Categorical(mixture.shares), components)


def single(mixture):
    return Mixture(*(part.float() for part in mixture))


# The mixture


def test_density_is_that_of_torch():
    z = 3 * torch.randn(50, 2, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(three().log_prob(z), oracle(three()).log_prob(z))


def test_density_integrates_to_1():
    axis = torch.arange(-9, 9, 0.05, dtype=torch.float64)
    density = three().log_prob(torch.cartesian_prod(axis, axis)).exp()
    assert abs(density.sum() * 0.05**2 - 1) < 1e-6


def test_joint_is_share_times_component():
    z = torch.randn(7, 2, generator=seeded(), dtype=torch.float64)
    joint = three().log_joint(z)
    assert joint.shape == (7, 3)
    for c in range(3):
        alone = MultivariateNormal(three().means[c], scale_tril=three().roots[c]).log_prob(z)
        torch.testing.assert_close(joint[:, c], alone + three().shares[c].log())


def test_draws_have_the_moments_of_the_mixture():
    mixture, num = three(), 200_000
    z = single(mixture).sample(num, seeded()).double()
    distribution = oracle(mixture)
    error = distribution.variance.sqrt() / math.sqrt(num)
    assert ((z.mean(dim=0) - distribution.mean).abs() < 6 * error).all()
    means, roots = mixture.means - distribution.mean, mixture.roots
    covariance = sum(share * (root @ root.T + torch.outer(mean, mean))
                     for share, mean, root in zip(mixture.shares, means, roots, strict=True))
    torch.testing.assert_close(z.T.cov(), covariance, rtol=0, atol=0.05)
    log_prob = mixture.log_prob(z)  # of draws: on average minus the entropy
    other = mixture.log_prob(distribution.sample((num,)))
    spread = (log_prob.var() + other.var()).sqrt() / math.sqrt(num)
    assert abs(log_prob.mean() - other.mean()) < 6 * spread


def test_draws_follow_the_generator():
    mixture = single(three())
    assert mixture.sample(5, seeded(1)).equal(mixture.sample(5, seeded(1)))
    assert not mixture.sample(5, seeded(1)).equal(mixture.sample(5, seeded(2)))
    assert mixture.sample(0).shape == (0, 2)


def test_cooling_draws_each_component_to_its_mean():
    mixture = single(three())
    warm, cold = mixture.sample(9, seeded()), mixture.cooled(0.5).sample(9, seeded())
    centres = mixture.cooled(0.0).sample(9, seeded())
    assert all(centre in mixture.means for centre in centres)
    assert len(centres.unique(dim=0)) > 1
    torch.testing.assert_close(cold - centres, 0.5 * (warm - centres))


def test_one_component_alone():
    z = torch.randn(6, 2, generator=seeded())
    alone = single(three()).only(2)
    wanted = MultivariateNormal(alone.means[0], scale_tril=alone.roots[0]).log_prob(z)
    torch.testing.assert_close(alone.log_prob(z), wanted)
    torch.testing.assert_close(alone.means[0], single(three()).means[2])


def test_wrong_width_of_codes():
    with pytest.raises(ValueError, match=r"z has shape \(4, 3\), but \(N, 2\) is wanted"):
        three().log_prob(torch.zeros(4, 3))


# Fitting


def test_gaussian_of_all_points():
    z = torch.randn(40, 3, generator=seeded(), dtype=torch.float64) @ torch.randn(
        3, 3, generator=seeded(1), dtype=torch.float64)
    fitted = fit_belonging(z, torch.ones(40, 1, dtype=torch.float64))
    torch.testing.assert_close(fitted.means[0], z.mean(dim=0))
    covariance = z.T.cov(correction=0) + RIDGE * torch.eye(3)
    torch.testing.assert_close(fitted.roots[0] @ fitted.roots[0].T, covariance)
    assert fitted.shares.tolist() == [1.0]


def test_one_gaussian_for_each_class():
    z = torch.randn(60, 2, generator=seeded())
    labels = torch.arange(60) % 3
    fitted = fit_belonging(z, torch.eye(3)[labels])
    for k in range(3):
        torch.testing.assert_close(fitted.means[k], z[labels == k].mean(dim=0))
    torch.testing.assert_close(fitted.shares, torch.full((3,), 1 / 3))


def test_weights_count_like_copies():
    z = torch.randn(12, 2, generator=seeded(), dtype=torch.float64)
    times = torch.arange(1, 13) % 4
    once = fit_belonging(z, times[:, None].double())
    copied = z.repeat_interleave(times, dim=0)
    for ours, wanted in zip(once, fit_belonging(copied, torch.ones(len(copied), 1).double())):
        torch.testing.assert_close(ours, wanted)


def test_em_finds_the_mixture_that_was_drawn_from():
    z, truth = single(three()).sample(20_000, seeded(3)), single(three())
    starts = [fit_mixture(z, 3, seeded(seed), rounds=60) for seed in range(4)]
    fitted = max(starts, key=lambda each: each.log_prob(z).mean())  # some stop at a lower peak
    fresh = truth.sample(20_000, seeded(4))
    lost = (truth.log_prob(fresh) - fitted.log_prob(fresh)).double()
    assert lost.mean() < 0.003
    order = fitted.means[:, 0].argsort()
    wanted = truth.means[:, 0].argsort()
    torch.testing.assert_close(fitted.means[order], truth.means[wanted], rtol=0, atol=0.06)
    torch.testing.assert_close(fitted.shares[order], truth.shares[wanted], rtol=0, atol=0.02)


def test_em_never_falls():
    """Each round is at least as good for its own points, but for the ridge."""
    z = single(three()).sample(500, seeded(3)).double()
    heights = [fit_mixture(z, 6, seeded(1), rounds=rounds).log_prob(z).mean().item()
               for rounds in range(1, 15)]
    assert all(after > before - 1e-3 for before, after in zip(heights, heights[1:], strict=False))
    assert heights[-1] > heights[0] + 0.01


def test_one_component_needs_one_round():
    z = torch.randn(30, 2, generator=seeded())
    for ours, wanted in zip(fit_mixture(z, 1, rounds=1), fit_belonging(z, torch.ones(30, 1))):
        torch.testing.assert_close(ours, wanted)


def test_fit_follows_the_generator():
    z = torch.randn(200, 2, generator=seeded())
    again = fit_mixture(z, 5, seeded(1)), fit_mixture(z, 5, seeded(1))
    assert again[0].means.equal(again[1].means)
    assert not again[0].means.equal(fit_mixture(z, 5, seeded(2)).means)


def test_equal_points_do_not_break_the_fit():
    z = torch.cat([torch.zeros(50, 2), torch.ones(50, 2)])
    fitted = fit_mixture(z, 10, seeded())  # some components get no point at all
    assert len(fitted.shares) <= 2
    assert fitted.log_prob(z).isfinite().all()


def test_what_cannot_be_fitted():
    z = torch.randn(10, 2, generator=seeded())
    for components, rounds in ((0, 5), (11, 5), (3, 0)):
        with pytest.raises(ValueError, match=f"{components} components, {rounds} rounds and 10"):
            fit_mixture(z, components, rounds=rounds)
    with pytest.raises(ValueError, match=r"z has shape \(10,\), but \(N, L\)"):
        fit_mixture(z[:, 0], 2)
    with pytest.raises(ValueError, match=r"\(10, 2\) and belongs \(9, 1\)"):
        fit_belonging(z, torch.ones(9, 1))
    with pytest.raises(ValueError, match="nothing belongs to component 1"):
        fit_belonging(z, torch.tensor([[1.0, 0.0]]).expand(10, -1))


# Between two points


def test_arc_of_a_circle():
    start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    for weight in (0.0, 0.25, 0.5, 1.0):
        angle = weight * math.pi / 2
        wanted = 2 * torch.tensor([math.cos(angle), math.sin(angle)])
        torch.testing.assert_close(slerp(start, end, weight), wanted)


def test_arc_keeps_the_length_and_an_even_pace():
    start, end = torch.nn.functional.normalize(
        torch.randn(2, 5, 7, generator=seeded(), dtype=torch.float64), dim=-1)
    weights = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None, None]
    walk = slerp(start, end, weights)
    assert walk.shape == (6, 5, 7)
    torch.testing.assert_close(walk.norm(dim=-1), torch.ones(6, 5, dtype=torch.float64))
    steps = (walk[1:] - walk[:-1]).norm(dim=-1)
    torch.testing.assert_close(steps, steps[:1].expand(5, -1))


def test_arc_between_points_of_two_lengths_meets_both():
    start, end = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 3.0, 1.0]])
    torch.testing.assert_close(slerp(start, end, 0.0), start)
    torch.testing.assert_close(slerp(start, end, 1.0), end)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_no_arc_along_one_line(factor):
    start = torch.tensor([1.0, 2.0])
    wanted = torch.lerp(start, factor * start, 0.25)
    torch.testing.assert_close(slerp(start, factor * start, 0.25), wanted)


# The yardstick


def digits(num, seed):
    images, labels, *_ = draw_digits(num, seed)
    return Digits(images, labels, "drawn digits")


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return Classifier().eval()


@pytest.fixture(scope="module")
def test_digits():
    return digits(120, 1)


@pytest.fixture(scope="module")
def yardstick(judge, test_digits):
    return make_yardstick(judge, test_digits)


def test_unit_is_the_mean_over_ten_halvings(judge, test_digits, yardstick):
    with torch.no_grad():
        features = judge.features(as_vectors(test_digits.images))
    distances = []
    for seed in range(10):
        order = torch.randperm(120, generator=seeded(seed))
        distances.append(frechet_distance(features[order[:60]], features[order[60:]]))
    assert yardstick.unit == pytest.approx(sum(distances) / 10)
    assert yardstick.features.equal(features[torch.randperm(120, generator=seeded(0))[:60]])
    assert isinstance(yardstick, Yardstick)


def test_multiple_of_the_other_half(judge, test_digits, yardstick):
    order = torch.randperm(120, generator=seeded(0))
    images = as_vectors(test_digits.images)
    first, other = images[order[:60]], images[order[60:]]
    assert yardstick.multiple(first) < 1e-6
    features = judge_features(judge, other)
    wanted = frechet_distance(yardstick.features, features) / yardstick.unit
    assert yardstick.multiple(other) == pytest.approx(wanted)
    assert 0.2 < wanted < 5
    assert yardstick.verdict(other).multiple == pytest.approx(wanted)
    assert yardstick.multiple(1 - other) > 20 * wanted


def inside(points, centres, radii):
    """The share of points that lie within a radius of some centre, one at a time."""
    found = [any((point - centre).norm() <= radius for centre, radius in zip(centres, radii))
             for point in points]
    return sum(found) / len(found)


def test_precision_recall_and_coverage_by_hand(judge, yardstick):
    made = as_vectors(digits(60, 7).images)
    made[:20] = 1 - made[:20]  # a third of them strange
    features = judge_features(judge, made)
    radii = torch.stack([(features - one).norm(dim=1).sort().values[3] for one in features])
    torch.testing.assert_close(neighbour_radii(features), radii, rtol=0, atol=1e-3)
    verdict = yardstick.verdict(made)
    precision = inside(features, yardstick.features, yardstick.radii)
    assert verdict.precision == pytest.approx(precision, abs=0.02)
    recall = inside(yardstick.features, features, neighbour_radii(features))
    assert verdict.recall == pytest.approx(recall, abs=0.02)
    reached = [any((made - centre).norm() <= radius for made in features)
               for centre, radius in zip(yardstick.features, yardstick.radii)]
    coverage = sum(reached) / len(reached)
    assert verdict.coverage == pytest.approx(coverage, abs=0.02)
    assert precision <= 2 / 3 and recall != pytest.approx(precision, abs=0.02)
    assert coverage != pytest.approx(precision, abs=0.02)


class Reader(torch.nn.Module):
    """A judge whose features are the points of a plane that it is given."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(2, 3)

    def features(self, x):
        return x


def test_each_ball_has_the_radius_of_its_own_heap():
    """A grid with balls that reach the next points, and a tight heap inside one of its squares."""
    wide = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    tight = torch.tensor([3.5, 3.5]) + 1e-3 * torch.randn(64, 2, generator=seeded())
    for real, made, shares in ((wide, tight, (1.0, 0.0, 4 / 64)), (tight, wide, (0.0, 1.0, 0.0))):
        verdict = Yardstick(Reader(), real, neighbour_radii(real), 1.0).verdict(made)
        assert (verdict.precision, verdict.recall, verdict.coverage) == shares


def test_coverage_of_a_heap_like_the_real_one():
    """A ball stays empty if the three nearest of 2N points are old ones: one time in eight."""
    number = 2000
    expected = 1 - math.prod((number - each) / (2 * number - each) for each in (1, 2, 3))
    real, made = torch.randn(2, number, 2, generator=seeded())
    verdict = Yardstick(Reader(), real, neighbour_radii(real), 1.0).verdict(made)
    assert verdict.coverage == pytest.approx(expected, abs=6 * (1 / number) ** 0.5 * 0.35)
    assert expected == pytest.approx(7 / 8, abs=1e-3)


def test_far_points_have_recall_but_no_coverage():
    """Four lone smudges have balls that hold all real points, and lie in no real one's ball."""
    real = torch.randn(64, 2, generator=seeded())
    far = torch.tensor([[100.0, 0.0]]) + 1e-3 * torch.randn(64, 2, generator=seeded(1))
    far[:4] = torch.tensor([[30.0, 30.0], [-30.0, 30.0], [30.0, -30.0], [-30.0, -30.0]])
    verdict = Yardstick(Reader(), real, neighbour_radii(real), 1.0).verdict(far)
    assert (verdict.precision, verdict.recall, verdict.coverage) == (0.0, 1.0, 0.0)


def test_one_image_again_and_again_has_no_recall(yardstick):
    made = as_vectors(digits(1, 3).images).expand(60, -1)
    verdict = yardstick.verdict(made)
    assert verdict.recall < 0.05 and verdict.precision in (0.0, 1.0)


def test_doubt_is_the_share_without_a_sure_class(judge, yardstick):
    made = as_vectors(digits(60, 7).images)
    judge.head.weight.data.mul_(200)  # an untrained judge is never sure
    try:
        sure = class_probabilities(judge, made).amax(dim=1)
        wanted = (sure < 0.9).double().mean().item()
        assert 0 < wanted < 1
        verdict = yardstick.verdict(made)
    finally:
        judge.head.weight.data.div_(200)
    assert isinstance(verdict, Verdict) and verdict.doubted == pytest.approx(wanted)


def test_heaps_of_another_size_are_refused(yardstick):
    with pytest.raises(ValueError, match="got 10 images: 60 are wanted"):
        yardstick.multiple(torch.zeros(10, 784))
    with pytest.raises(ValueError, match="got 3 points: more than 3"):
        neighbour_radii(torch.zeros(3, 2))


# Attributes and directions


def sheared(tangent):
    """A thin upright bar that leans by this tangent."""
    down, right = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
    distance = right - 20 + tangent * (down - 20)
    inside = (down - 20).abs() <= 15
    return (torch.exp(-0.5 * distance**2) * inside)[None]


@pytest.mark.parametrize("tangent", [-0.5, 0.0, 0.3])
def test_slant_of_a_leaning_bar(tangent):
    assert slant(sheared(tangent)).item() == pytest.approx(tangent, abs=0.01)
    moved = sheared(tangent).roll((3, -2), dims=(1, 2))
    assert slant(moved).item() == pytest.approx(tangent, abs=0.01)
    assert slant(0.3 * sheared(tangent)).item() == pytest.approx(tangent, abs=0.01)


@pytest.mark.parametrize("width", [2, 4, 6])
@pytest.mark.parametrize("upright", [True, False])
def test_width_of_a_bar(width, upright):
    bar = torch.zeros(1, 60, 60)
    bar[0, 5:55, 20 : 20 + width] = 1
    bar = bar if upright else bar.transpose(1, 2)
    exact = 2 * 50 * width / (2 * 50 + 2 * width)  # twice the ink over the edge
    assert stroke_width(bar).item() == pytest.approx(exact, rel=0.02)


def test_blur_leaves_the_width_nearly_as_it_is():
    place = torch.arange(60.0)
    for steep in (1.0, 2.0):
        edges = torch.sigmoid((place - 25) * steep) * torch.sigmoid((35 - place) * steep)
        bar = edges.expand(60, -1)[None]
        assert stroke_width(bar).item() == pytest.approx(10 * 60 / 70, rel=0.05)


def test_rulers_follow_the_factors_of_drawn_digits():
    drawn = draw_digits(1000, seed=3)
    x = as_vectors(drawn.images)
    for ruler, factor in ((slant, drawn.slant), (stroke_width, drawn.width)):
        measured = ruler(x)
        correlation = torch.corrcoef(torch.stack([measured, factor]))[0, 1]
        assert correlation > 0.85
        slope = correlation * measured.std() / factor.std()
        assert 0.85 < slope < 1.1
        assert ruler(drawn.images / 255.0).equal(measured)


def test_direction_is_the_conditional_mean_of_a_gaussian():
    """For Gaussian codes the mean of z, given the attribute, moves along it."""
    root = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [0.0, -0.3, 2.0]]).double()
    slope = torch.tensor([0.5, -1.0, 0.25]).double()
    z = torch.randn(200_000, 3, generator=seeded(), dtype=torch.float64) @ root.T
    values = z @ slope + 3
    covariance = root @ root.T
    wanted = covariance @ slope / (slope @ covariance @ slope)
    direction = attribute_direction(z, values)
    torch.testing.assert_close(direction, wanted, rtol=0, atol=0.03)
    assert (slope @ direction).item() == pytest.approx(1)


def test_a_step_keeps_its_promise_in_spite_of_noise():
    z = torch.randn(5000, 4, generator=seeded(), dtype=torch.float64)
    slope = torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64)
    values = z @ slope + 2 * torch.randn(5000, generator=seeded(1), dtype=torch.float64)
    direction = attribute_direction(z.float(), values)
    assert direction.dtype == torch.float32
    assert (slope @ direction.double()).item() == pytest.approx(1, abs=0.1)


def test_direction_needs_a_value_for_each_point():
    z = torch.randn(10, 3, generator=seeded())
    for codes, values in ((z, torch.zeros(9)), (z[:3], torch.zeros(3)), (z[0], torch.zeros(3))):
        with pytest.raises(ValueError, match="N above L"):
            attribute_direction(codes, values)
