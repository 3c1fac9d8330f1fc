"""The Fréchet distance, against closed forms and against the root of the product itself."""

import math

import pytest
import torch

from vae_lessons.frechet import frechet_distance


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cloud(num=400, dim=5, seed=0):
    """Features with a covariance of their own."""
    generator = seeded(seed)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return torch.randn(num, dim, generator=generator, dtype=torch.float64) @ mixing


def exact_cloud(mean, deviations):
    """Few points whose sample mean and covariance are exactly these: diagonal and no other."""
    mean, deviations = (torch.tensor(each, dtype=torch.float64) for each in (mean, deviations))
    size = len(mean)
    corners = torch.diag(deviations) * math.sqrt((2 * size - 1) / 2)
    return torch.cat([mean + corners, mean - corners])


def test_one_dimension_by_hand():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    value = frechet_distance(exact_cloud([1.0], [2.0]), exact_cloud([4.0], [0.5]))
    assert value == pytest.approx(9.0 + 1.5**2, rel=1e-12)


def test_diagonal_covariances_add_up_over_dimensions():
    first = exact_cloud([0.0, 1.0, -1.0], [1.0, 2.0, 3.0])
    second = exact_cloud([1.0, 1.0, 1.0], [2.0, 2.0, 0.5])
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + 1 + 0 + 2.5**2, rel=1e-12)


def test_against_the_eigenvalues_of_the_product():
    """The root of S1 S2, which is not symmetric, by a general eigenvalue routine."""
    first, second = cloud(seed=1), cloud(300, seed=2) + 1.0
    s1, s2 = first.T.cov(), second.T.cov()
    roots = torch.linalg.eigvals(s1 @ s2).real.sqrt().sum()
    wanted = (first.mean(0) - second.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * roots
    assert frechet_distance(first, second) == pytest.approx(wanted.item(), rel=1e-9)


def test_properties_of_a_distance():
    first, second = cloud(seed=1), cloud(seed=2)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    there, back = frechet_distance(first, second), frechet_distance(second, first)
    assert there == pytest.approx(back, rel=1e-9) and there > 1
    assert frechet_distance(first, first + 2.0) == pytest.approx(4.0 * 5, rel=1e-9)
    turned = torch.linalg.qr(cloud(5, seed=3)).Q
    assert frechet_distance(first @ turned, second @ turned) == pytest.approx(there, rel=1e-9)


def test_fewer_rows_than_features():
    """Covariances without full rank, as from a dead unit or few images."""
    first, second = cloud(3, 6, seed=1), cloud(4, 6, seed=2)
    assert math.isfinite(frechet_distance(first, second))
    assert frechet_distance(torch.zeros(4, 3), torch.zeros(5, 3)) == 0


def test_float32_features_are_measured_in_float64():
    first, second = cloud(seed=1), cloud(seed=2)
    value = frechet_distance(first.float() + 1000, second.float() + 1000)
    assert value == pytest.approx(frechet_distance(first, second), rel=1e-3)


@pytest.mark.parametrize(("shape", "other"), [
    ((5,), (5, 2)), ((5, 2), (5, 3)), ((1, 2), (5, 2)), ((5, 2), (0, 2)), ((5, 2, 1), (5, 2, 1)),
])
def test_refuses(shape, other):
    with pytest.raises(ValueError, match=r"\(N, F\) and \(M, F\) are wanted") as caught:
        frechet_distance(torch.zeros(shape), torch.zeros(other))
    assert str(shape) in str(caught.value) and str(other) in str(caught.value)
