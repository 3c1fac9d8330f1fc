"""Likelihoods of pixels: densities integrate to 1, probabilities add up to 1."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, ContinuousBernoulli, Normal

from vae_lessons.likelihoods import (
    bernoulli_log_likelihood,
    bits_per_pixel,
    continuous_bernoulli_log_likelihood,
    continuous_bernoulli_log_normalizer,
    discretized_logistic_log_likelihood,
    gaussian_log_likelihood,
)

LOGITS = [0.0, 1e-6, -1e-6, 0.1, 0.2, -0.2, 0.2001, 3.0, -50.0, 50.0, 500.0, -500.0]
FUNCTIONS = {
    "bernoulli": bernoulli_log_likelihood,
    "gaussian": lambda x, mean: gaussian_log_likelihood(x, mean, -1.0),
    "continuous Bernoulli": continuous_bernoulli_log_likelihood,
    "discretized logistic": lambda x, mean: discretized_logistic_log_likelihood(x, mean, -2.0),
}


def uniform(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, dtype=torch.float64, generator=generator)


def quadrature(function, start=0.0, end=1.0, pieces=2000):
    """The integral of a function of a float64 vector, by 5-point Gauss rules."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(5))
    width = (end - start) / pieces
    centres = start + width * (torch.arange(pieces, dtype=torch.float64) + 0.5)
    points = (centres[:, None] + nodes * width / 2).flatten()
    return (function(points) * weights.repeat(pieces)).sum().item() * width / 2


# What all of them share


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("num", [0, 1, 3])
def test_one_value_for_each_example(name, num):
    assert FUNCTIONS[name](torch.zeros(num, 5), torch.zeros(num, 5)).shape == (num,)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_adds_up_over_pixels_and_keeps_examples_apart(name):
    x, parameter = (uniform(3, 4) * 255).round() / 255, 2 * uniform(3, 4, seed=1) - 1
    values = FUNCTIONS[name](x, parameter)
    for row in range(3):
        by_pixel = [FUNCTIONS[name](x[row, i].view(1, 1), parameter[row, i].view(1, 1)).item()
                    for i in range(4)]
        assert values[row].item() == pytest.approx(sum(by_pixel), rel=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shapes", [((4, 2), (4, 1)), ((4, 2), (2,)), ((4,), (4,)),
                                    ((2, 3, 1), (2, 3, 1))])
def test_refuses_other_shapes(name, shapes):
    with pytest.raises(ValueError, match=r"both must be \(B, D\)") as caught:
        FUNCTIONS[name](torch.zeros(shapes[0]), torch.zeros(shapes[1]))
    assert all(str(shape) in str(caught.value) for shape in shapes)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_by_finite_differences(name):
    x = torch.tensor([[0.0, 1.0, 0.2]], dtype=torch.float64)
    parameter = torch.tensor([[0.7, -1.0, 0.05]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: FUNCTIONS[name](x, p), (parameter,))


# Bernoulli


def test_bernoulli_against_torch_distributions():
    x, logits = uniform(4, 6).round(), 20 * uniform(4, 6, seed=1) - 10
    wanted = Bernoulli(logits=logits).log_prob(x).sum(dim=1)
    torch.testing.assert_close(bernoulli_log_likelihood(x, logits), wanted)


def test_bernoulli_probabilities_of_all_images_add_up_to_one():
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    logits = (6 * uniform(1, 6) - 3).expand(64, 6)
    assert bernoulli_log_likelihood(images, logits).exp().sum().item() == pytest.approx(1)


def test_bernoulli_of_grey_pixels_is_minus_the_cross_entropy():
    x, logits = uniform(4, 6), 20 * uniform(4, 6, seed=1) - 10
    wanted = F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(dim=1)
    torch.testing.assert_close(bernoulli_log_likelihood(x, logits), -wanted)


def test_bernoulli_of_grey_pixels_does_not_integrate_to_one():
    def density(x):
        return bernoulli_log_likelihood(x[:, None], torch.full((len(x), 1), 2.0)).exp()

    assert quadrature(density) == pytest.approx((math.e**2 - 1) / 2 / (1 + math.e**2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [15.0, 200.0, 1000.0])
def test_bernoulli_is_exact_far_out(logit, dtype):
    """The logarithm of a sigmoid would be infinite, or cut off at 100."""
    x = torch.tensor([[0.0], [1.0]], dtype=dtype)
    logits = torch.tensor([[logit], [-logit]], dtype=dtype, requires_grad=True)
    value = bernoulli_log_likelihood(x, logits)
    wanted = -logit - math.log1p(math.exp(-logit))
    torch.testing.assert_close(value, torch.full((2,), wanted, dtype=dtype))
    value.sum().backward()
    torch.testing.assert_close(logits.grad, x - logits.detach().sigmoid())


# Gaussian


@pytest.mark.parametrize("shape", [(), (6,), (4, 6), (4, 1)])
def test_gaussian_against_torch_distributions(shape):
    x, mean, log_var = uniform(4, 6), uniform(4, 6, seed=1), 4 * uniform(*shape, seed=2) - 3
    wanted = Normal(mean, torch.exp(log_var / 2)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(gaussian_log_likelihood(x, mean, log_var), wanted)


def test_gaussian_takes_a_plain_number_without_losing_digits():
    x, mean = uniform(2, 3), uniform(2, 3, seed=1)
    wanted = Normal(mean, math.exp(0.35)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(gaussian_log_likelihood(x, mean, 0.7), wanted, rtol=1e-14, atol=0)


def test_gaussian_integrates_to_one_and_may_exceed_zero():
    def log_density(x):
        return gaussian_log_likelihood(x[:, None], torch.full((len(x), 1), 0.4), -4.0)

    assert quadrature(lambda x: log_density(x).exp(), -5, 5) == pytest.approx(1, abs=1e-9)
    assert log_density(torch.tensor([0.4])).item() > 1


def test_gaussian_gradient_of_the_variance():
    x, mean = uniform(2, 3), uniform(2, 3, seed=1)
    log_var = torch.tensor(-0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: gaussian_log_likelihood(x, mean, s), (log_var,))


# Continuous Bernoulli


def exact_log_normalizer(logit):
    """log of the integral of exp(logit x) over [0, 1], in closed form, for any logit."""
    if logit == 0:
        return 0.0
    size = abs(logit)
    outer = size if logit > 0 else 0.0  # the largest exponent, taken out
    return outer + math.log(-math.expm1(-size) / size)


def exact_mean(logit):
    """The mean of the continuous Bernoulli, which is the slope of the normaliser."""
    if abs(logit) < 1e-3:
        return 0.5 + logit / 12 - logit**3 / 720
    return -1 / math.expm1(-logit) - 1 / logit if logit > -700 else -1 / logit


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-7), (torch.float64, 1e-14)])
def test_log_normalizer_is_exact(logit, dtype, tolerance):
    value = continuous_bernoulli_log_normalizer(torch.tensor(logit, dtype=dtype)).item()
    assert value == pytest.approx(exact_log_normalizer(logit), abs=tolerance * max(1, abs(logit)))


@pytest.mark.parametrize("logit", [0.0, 1e-6, -0.2, 0.2, 3.0, -50.0, 500.0])
def test_log_normalizer_against_quadrature(logit):
    largest = max(logit, 0.0)
    integral = quadrature(lambda x: torch.exp(logit * x - largest))
    value = continuous_bernoulli_log_normalizer(torch.tensor(logit, dtype=torch.float64)).item()
    assert value == pytest.approx(largest + math.log(integral), abs=1e-12)


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-12)])
def test_log_normalizer_has_the_mean_as_its_slope(logit, dtype, tolerance):
    logits = torch.tensor(logit, dtype=dtype, requires_grad=True)
    continuous_bernoulli_log_normalizer(logits).backward()
    assert logits.grad.item() == pytest.approx(exact_mean(logit), abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_normalizer_stays_finite(dtype):
    logits = torch.cat([torch.linspace(-1, 1, 4001), torch.logspace(0, 5, 200)]).to(dtype)
    logits = torch.cat([logits, -logits]).requires_grad_()
    values = continuous_bernoulli_log_normalizer(logits)
    values.sum().backward()
    assert values.isfinite().all()
    assert (logits.grad >= 0).all() and (logits.grad <= 1).all()


def test_log_normalizer_has_any_shape():
    assert continuous_bernoulli_log_normalizer(torch.zeros(2, 0, 3)).shape == (2, 0, 3)


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_integrates_to_one(logit):
    def density(x):
        logits = torch.full((len(x), 1), logit, dtype=torch.float64)
        return continuous_bernoulli_log_likelihood(x[:, None], logits).exp()

    assert quadrature(density) == pytest.approx(1, abs=1e-9)


def test_continuous_bernoulli_against_torch_distributions():
    x, logits = uniform(5, 4), 10 * uniform(5, 4, seed=1) + 1
    wanted = ContinuousBernoulli(logits=logits).log_prob(x).sum(dim=1)
    torch.testing.assert_close(continuous_bernoulli_log_likelihood(x, logits), wanted)


# Discretized logistic


def level_probabilities(mean, log_scale, levels=256, dtype=torch.float64):
    x = torch.arange(levels, dtype=dtype)[:, None] / (levels - 1)
    mean = torch.full((levels, 1), mean, dtype=dtype)
    return discretized_logistic_log_likelihood(x, mean, log_scale, levels)


@pytest.mark.parametrize("mean", [0.5, 0.0, 1.0, 0.003, -0.4, 1.3])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 2.0])
@pytest.mark.parametrize("levels", [256, 16, 2])
def test_probabilities_of_all_levels_add_up_to_one(mean, log_scale, levels):
    total = level_probabilities(mean, log_scale, levels).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


def test_probabilities_add_up_in_float32_too():
    total = level_probabilities(0.37, -3.0, dtype=torch.float32).double().exp().sum().item()
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("log_scale", [-3.0, -1.0, 1.0])
def test_levels_against_the_distribution_function(log_scale):
    """Differences of sigmoids, with the tails given to the first and the last level."""
    edges = (torch.arange(1, 256, dtype=torch.float64) - 0.5) / 255
    below = torch.sigmoid((edges - 0.4) / math.exp(log_scale))
    below = torch.cat([torch.zeros(1), below, torch.ones(1)])
    wanted = below.diff().log()
    torch.testing.assert_close(level_probabilities(0.4, log_scale), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_tail_of_a_level_is_exact_where_sigmoids_cancel(dtype):
    """Level 200 with mean 0 and scale exp(-6): both sigmoids round to 1 in float32."""
    scale, half = math.exp(-6), 0.5 / 255
    x = 200 / 255
    wanted = -(x - half) / scale + math.log(-math.expm1(-2 * half / scale))
    value = level_probabilities(0.0, -6.0, dtype=dtype)[200].item()
    assert value == pytest.approx(wanted, rel=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_scale", [-10.0, -5.0, 0.0, 5.0])
def test_discretized_logistic_has_finite_gradients_everywhere(log_scale, dtype):
    levels = torch.arange(256, dtype=dtype) / 255
    x, mean = torch.cartesian_prod(levels, torch.linspace(-1, 2, 31, dtype=dtype)).T[:, :, None]
    mean = mean.clone().requires_grad_()
    log_scale = torch.tensor(log_scale, dtype=dtype, requires_grad=True)
    value = discretized_logistic_log_likelihood(x, mean, log_scale)
    value.sum().backward()
    assert value.isfinite().all() and (value <= 0).all()
    assert mean.grad.isfinite().all() and log_scale.grad.isfinite()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1)])
def test_discretized_logistic_broadcasts_the_scale(shape):
    x, mean = (255 * uniform(2, 3)).round() / 255, uniform(2, 3, seed=1)
    log_scale = (uniform(*shape, seed=2) - 2).requires_grad_()
    value = discretized_logistic_log_likelihood(x, mean, log_scale)
    whole = discretized_logistic_log_likelihood(x, mean, log_scale.expand(2, 3))
    torch.testing.assert_close(value, whole)
    assert torch.autograd.gradcheck(
        lambda s: discretized_logistic_log_likelihood(x, mean, s), (log_scale,)
    )


def test_discretized_logistic_takes_a_plain_number_without_losing_digits():
    x, mean = torch.full((1, 1), 1 / 3, dtype=torch.float64), uniform(1, 1)
    tensor = torch.tensor(-2.3, dtype=torch.float64)
    number = discretized_logistic_log_likelihood(x, mean, -2.3)
    assert number.equal(discretized_logistic_log_likelihood(x, mean, tensor))


# Bits


def test_bits_per_pixel_of_equally_likely_levels():
    """256 equally likely levels cost 8 bits, whatever the number of pixels."""
    log_likelihood = torch.tensor([-784 * math.log(256.0), -784 * math.log(2.0)])
    torch.testing.assert_close(bits_per_pixel(log_likelihood, 784), torch.tensor([8.0, 1.0]))
    assert bits_per_pixel(torch.zeros(0), 784).shape == (0,)


@pytest.mark.parametrize("num_pixels", [0, -3])
def test_bits_per_pixel_wants_pixels(num_pixels):
    with pytest.raises(ValueError, match=f"num_pixels is {num_pixels}: .* at least one"):
        bits_per_pixel(torch.zeros(2), num_pixels)


@pytest.mark.parametrize("logit", [-500.0, -50.0])
def test_log_normalizer_keeps_its_digits_in_float32(logit):
    value = continuous_bernoulli_log_normalizer(torch.tensor(logit)).item()
    assert value == pytest.approx(-math.log(-logit), abs=1e-6)
