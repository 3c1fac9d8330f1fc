"""Draws that a gradient can pass through: their distribution, and both gradients."""

import pytest
import torch

from vae_lessons.reparameterization import reparameterize, score_function_gradient

MU = torch.tensor([-1.5, 0.0, 2.0], dtype=torch.float64)
LOG_VAR = torch.tensor([-2.0, 0.0, 1.2], dtype=torch.float64)
SIGMA = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(num, seed=0):
    return reparameterize(MU.expand(num, -1), LOG_VAR.expand(num, -1), seeded(seed))


def assert_mean(samples, wanted):
    """The mean over the first axis is the wanted one, within six standard errors."""
    error = samples.std(dim=0) / len(samples) ** 0.5
    assert ((samples.mean(dim=0) - wanted).abs() < 6 * error).all()


def test_moments():
    z = draws(100_000)
    assert_mean(z, MU)
    assert_mean((z - MU).square(), LOG_VAR.exp())


def test_whole_distribution():
    quantiles = torch.distributions.Normal(MU, torch.exp(LOG_VAR / 2)).icdf
    for share in (0.02, 0.3, 0.9):
        below = draws(100_000) < quantiles(torch.tensor(share, dtype=torch.float64))
        assert_mean(below.double(), share)


def test_every_example_and_dimension_has_noise_of_its_own():
    z = reparameterize(torch.zeros(2000, 4), torch.zeros(2000, 4), seeded())
    assert len(z.unique()) > 7990
    assert (z.T.corrcoef() - torch.eye(4)).abs().max() < 6 / 2000**0.5


def test_the_generator_decides():
    assert draws(5, seed=1).equal(draws(5, seed=1))
    assert not draws(5, seed=1).equal(draws(5, seed=2))


def test_with_a_generator_the_global_one_is_left_alone():
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    draws(5)
    assert torch.rand(4).equal(wanted)


def test_without_a_generator_the_global_seed_decides():
    torch.manual_seed(4)
    first = reparameterize(MU[None], LOG_VAR[None])
    second = reparameterize(MU[None], LOG_VAR[None])
    torch.manual_seed(4)
    assert reparameterize(MU[None], LOG_VAR[None]).equal(first)
    assert not second.equal(first)


def test_gradients_by_finite_differences():
    inputs = (MU.repeat(2, 1).requires_grad_(), LOG_VAR.repeat(2, 1).requires_grad_())
    assert torch.autograd.gradcheck(lambda mu, log_var: reparameterize(mu, log_var, seeded()),
                                    inputs)


def test_gradients_of_an_expectation():
    """E[z^2] is mu^2 + exp(log_var): its gradients are 2 mu and exp(log_var)."""
    mu = MU.repeat(50_000, 1).requires_grad_()
    log_var = LOG_VAR.repeat(50_000, 1).requires_grad_()
    reparameterize(mu, log_var, seeded()).square().sum().backward()
    assert_mean(mu.grad, 2 * MU)
    assert_mean(log_var.grad, LOG_VAR.exp())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num", [0, 1, 3])
def test_shape_and_type(num, dtype):
    z = reparameterize(torch.zeros(num, 2, dtype=dtype), torch.zeros(num, 2, dtype=dtype))
    assert (z.shape, z.dtype) == ((num, 2), dtype)


def test_no_variance_gives_the_mean():
    assert reparameterize(MU[None], torch.full((1, 3), -torch.inf)).equal(MU[None])


def test_refuses_another_shape():
    with pytest.raises(ValueError, match=r"mu has shape \(3, 2\) and log_var \(2,\).*\(B, L\)"):
        reparameterize(torch.zeros(3, 2), torch.zeros(2))


def score_estimates(baseline=0.0, num=200_000):
    """Gradients of E[sum z^2] by the score function, one for each draw."""
    z = MU + SIGMA * torch.randn(num, 3, dtype=torch.float64, generator=seeded())
    return score_function_gradient(z.square().sum(dim=1), MU, SIGMA, z, baseline)


def test_score_function_gradient_is_unbiased():
    assert_mean(score_estimates(), 2 * MU)


def test_a_baseline_changes_the_spread_and_not_the_mean():
    mean = (MU.square() + SIGMA.square()).sum()
    assert_mean(score_estimates(mean), 2 * MU)
    assert (score_estimates(mean).var(dim=0) < score_estimates().var(dim=0)).all()


def test_score_function_gradient_is_the_loss_times_the_gradient_of_the_log_density():
    mu = MU.clone().requires_grad_()
    z = torch.tensor([0.3, -1.0, 4.0], dtype=torch.float64)
    torch.distributions.Normal(mu, SIGMA).log_prob(z).sum().backward()
    loss = torch.tensor(7.0, dtype=torch.float64)
    torch.testing.assert_close(score_function_gradient(loss, MU, SIGMA, z), 7 * mu.grad)
    torch.testing.assert_close(score_function_gradient(loss, MU, SIGMA, z, 5.0), 2 * mu.grad)


def test_score_function_gradient_of_no_draws():
    assert score_function_gradient(torch.zeros(0), MU, SIGMA, torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (3,), ()])
def test_score_function_gradient_wants_one_loss_for_each_draw(shape):
    with pytest.raises(ValueError, match=r"z \(4, 3\): give one loss for each draw, \(4,\)"):
        score_function_gradient(torch.zeros(shape), MU, SIGMA, torch.zeros(4, 3))
