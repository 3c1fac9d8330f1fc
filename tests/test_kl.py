"""Kullback-Leibler divergences against torch.distributions, quadrature and random draws."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from vae_lessons.kl import gaussian_log_density, kl_per_dimension, kl_to_standard_normal

MU = torch.tensor([[0.0, -3.0, 0.5], [1.0, 0.2, -0.1], [4.0, 0.0, 2.0]], dtype=torch.float64)
LOG_VAR = torch.tensor([[0.0, -4.0, 1.0], [0.3, -0.2, 2.0], [-1.0, 3.0, 0.0]], dtype=torch.float64)
PRIOR = Normal(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))


def integral(values, points):
    return torch.trapezoid(values, points).item()


def test_against_torch_distributions():
    per_dimension = kl_divergence(Normal(MU, torch.exp(LOG_VAR / 2)), PRIOR)
    torch.testing.assert_close(kl_per_dimension(MU, LOG_VAR), per_dimension)
    torch.testing.assert_close(kl_to_standard_normal(MU, LOG_VAR), per_dimension.sum(dim=1))


@pytest.mark.parametrize(("mu", "log_var"), [(0.0, 0.5), (1.5, -2.0), (-2.0, 1.0)])
def test_against_quadrature(mu, log_var):
    z = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
    log_q = -0.5 * (math.log(2 * math.pi) + log_var + (z - mu) ** 2 / math.exp(log_var))
    log_p = -0.5 * (math.log(2 * math.pi) + z**2)
    wanted = integral(log_q.exp() * (log_q - log_p), z)
    kl = kl_to_standard_normal(torch.tensor([[mu]]), torch.tensor([[log_var]]))
    assert kl.item() == pytest.approx(wanted, abs=1e-6)


def test_against_random_draws():
    q = Independent(Normal(MU, torch.exp(LOG_VAR / 2)), 1)
    torch.manual_seed(0)
    z = q.sample((50_000,))
    draws = q.log_prob(z) - Independent(PRIOR, 1).log_prob(z)
    error = draws.std(dim=0) / 50_000**0.5
    assert ((kl_to_standard_normal(MU, LOG_VAR) - draws.mean(dim=0)).abs() < 6 * error).all()


def test_by_hand():
    """mu 1 and variance 4: (1 + 4 - 1 - log 4) / 2."""
    kl = kl_to_standard_normal(torch.ones(1, 1), torch.full((1, 1), math.log(4)))
    assert kl.item() == pytest.approx(2 - math.log(2))


def test_is_zero_for_the_prior_itself():
    assert kl_to_standard_normal(torch.zeros(2, 5), torch.zeros(2, 5)).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_never_negative_however_close_to_the_prior(dtype):
    tiny = torch.logspace(-12, 0, 500, dtype=dtype)[:, None]
    zero = torch.zeros_like(tiny)
    assert (kl_to_standard_normal(zero, tiny) >= 0).all()
    assert (kl_to_standard_normal(zero, -tiny) >= 0).all()


def test_adds_up_over_dimensions():
    """A hundred equal dimensions cost a hundred times as much: a sum, not a mean."""
    one = kl_to_standard_normal(torch.ones(1, 1), torch.ones(1, 1))
    hundred = kl_to_standard_normal(torch.ones(1, 100), torch.ones(1, 100))
    torch.testing.assert_close(hundred, 100 * one)


def test_gradients():
    mu, log_var = MU.clone().requires_grad_(), LOG_VAR.clone().requires_grad_()
    kl_to_standard_normal(mu, log_var).sum().backward()
    torch.testing.assert_close(mu.grad, MU)
    torch.testing.assert_close(log_var.grad, (LOG_VAR.exp() - 1) / 2)
    assert torch.autograd.gradcheck(kl_per_dimension, (mu, log_var))


@pytest.mark.parametrize("num", [0, 1, 4])
def test_shapes(num):
    assert kl_per_dimension(torch.zeros(num, 3), torch.zeros(num, 3)).shape == (num, 3)
    assert kl_to_standard_normal(torch.zeros(num, 3), torch.zeros(num, 3)).shape == (num,)


@pytest.mark.parametrize("function", [kl_per_dimension, kl_to_standard_normal])
@pytest.mark.parametrize(
    ("mu", "log_var"), [((4, 2), (4, 1)), ((4, 2), (2,)), ((4,), (4,)), ((2, 3, 1), (2, 3, 1))]
)
def test_refuses_other_shapes(function, mu, log_var):
    with pytest.raises(ValueError, match=r"both must be \(B, L\)") as caught:
        function(torch.zeros(mu), torch.zeros(log_var))
    assert f"mu {mu} and log_var {log_var}" in str(caught.value)


def test_density_against_torch_distributions():
    z = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = Normal(MU, torch.exp(LOG_VAR / 2)).log_prob(z).sum(dim=1)
    torch.testing.assert_close(gaussian_log_density(z, MU, LOG_VAR), wanted)


def test_density_integrates_to_one():
    """Over the plane: a log determinant that is counted per dimension would show here."""
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    log_var = torch.tensor([0.5, -1.0], dtype=torch.float64)
    density = gaussian_log_density(z, torch.tensor([0.3, -0.2], dtype=torch.float64), log_var).exp()
    assert (density.sum() * (24 / 600) ** 2).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_density_broadcasts_and_keeps_the_type(dtype):
    z, mu, log_var = torch.ones(5, 4, 3, dtype=dtype), MU[0].to(dtype), LOG_VAR[0].to(dtype)
    density = gaussian_log_density(z, mu, log_var)
    assert (density.shape, density.dtype) == ((5, 4), dtype)
    torch.testing.assert_close(density[2, 1], gaussian_log_density(z[2, 1], mu, log_var))
    assert gaussian_log_density(torch.zeros(0, 3), MU[0], LOG_VAR[0]).shape == (0,)


def test_density_gradients():
    z = torch.full((3, 3), 0.7, dtype=torch.float64, requires_grad=True)
    inputs = (z, MU.clone().requires_grad_(), LOG_VAR.clone().requires_grad_())
    assert torch.autograd.gradcheck(gaussian_log_density, inputs)
