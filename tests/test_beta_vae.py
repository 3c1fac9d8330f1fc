"""The price of rate: a closed form against a search, and scores of latents that were made."""

import math

import pytest
import torch
from torch.distributions import Normal

from vae_lessons.beta_vae import (
    LinearUnits,
    linear_optimum,
    mutual_information,
    mutual_information_gap,
    swap_cost,
    with_free_bits,
)
from vae_lessons.elbo import elbo_terms
from vae_lessons.kl import kl_per_dimension, kl_to_standard_normal
from vae_lessons.linear_gaussian import LinearGaussian, ppca_optimum, train_on_all
from vae_lessons.vae import VAE

D, H, L = 12, 8, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_vae():
    torch.manual_seed(0)
    return VAE(D, H, L)


def pixels(num=6):
    return torch.rand(num, D, generator=seeded()).round()


def stretched_data(variances, num=400):
    """Points whose covariance has exactly these eigenvalues, along turned axes."""
    dim = len(variances)
    white = torch.randn(num, dim, generator=seeded(1), dtype=torch.float64)
    white = torch.linalg.qr(white - white.mean(dim=0)).Q * math.sqrt(num)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=seeded(2), dtype=torch.float64)).Q
    return white * torch.tensor(variances, dtype=torch.float64).sqrt() @ turn


class Weighted(LinearGaussian):
    """The linear VAE with a weight on its KL, for train_on_all."""

    beta = 1.0

    def analytic_elbo(self, x):
        return super().analytic_elbo(x) - (self.beta - 1) * kl_to_standard_normal(*self.encode(x))


# The closed form


@pytest.mark.parametrize(("beta", "variance"), [(1.0, 0.5), (3.0, 0.5), (0.5, 2.5), (4.0, 1.3)])
def test_linear_optimum_against_training(beta, variance):
    """Random weights, no closed form, four pixels: the search ends where the formula says."""
    eigenvalues = [4.0, 2.0, 1.0, 0.3]
    x = stretched_data(eigenvalues)
    torch.manual_seed(3)
    model = Weighted(4, 3)
    model.beta = beta
    model.log_var.requires_grad_(False).fill_(math.log(variance))
    train_on_all(model, x, iterations=300)
    mu, log_var = (each.detach() for each in model.encode(x))
    order = mu.var(dim=0).argsort(descending=True)
    wanted = linear_optimum(torch.tensor(eigenvalues[:3], dtype=torch.float64), beta, variance)
    close = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(mu.var(dim=0, correction=0)[order], wanted.mu_variance, **close)
    torch.testing.assert_close(log_var.exp().mean(dim=0)[order], wanted.cloud_variance, **close)
    kl = kl_per_dimension(mu, log_var).mean(dim=0)
    torch.testing.assert_close(kl[order], wanted.kl, **close)
    spread = (log_var.exp() @ model.weight.square().sum(dim=0)).mean()
    error = (x - model.decode(mu)).square().sum(dim=1).mean() + spread
    torch.testing.assert_close(error.detach(), wanted.squared_error.sum() + 0.3, **close)


def test_linear_optimum_against_a_grid():
    """One direction, by looking at every (w, v, s) on a fine grid."""
    lam, variance, beta = 2.0, 0.5, 1.5
    w = torch.linspace(0, 2, 201, dtype=torch.float64)[:, None, None]
    v = torch.linspace(0, 1.5, 301, dtype=torch.float64)[None, :, None]
    s = torch.linspace(0.005, 1.5, 300, dtype=torch.float64)
    error = (1 - w * v) ** 2 * lam + w**2 * s
    loss = error / (2 * variance) + beta / 2 * (v**2 * lam + s - s.log() - 1)
    units = linear_optimum(torch.tensor([lam], dtype=torch.float64), beta, variance)
    at_formula = units.squared_error / (2 * variance) + beta * units.kl
    assert at_formula <= loss.min() + 1e-12
    assert loss.min() - at_formula < 1e-3
    best = (loss == loss.min()).nonzero()[0]
    assert abs(s[best[2]] - units.cloud_variance) < 0.02
    assert abs(v[0, best[1], 0] ** 2 * lam - units.mu_variance) < 0.02


def test_linear_optimum_at_the_noise_of_ppca():
    """At beta 1 and the variance that pPCA finds, the KL and centres of its exact posterior."""
    x = stretched_data([5.0, 3.0, 1.0, 0.5])
    best = ppca_optimum(x, 2)
    model = LinearGaussian(4, 2).requires_grad_(False)
    model.weight.copy_(best.weight)
    model.bias.copy_(best.bias)
    model.log_var.copy_(best.log_var)
    model.use_exact_posterior()
    mu, log_var = model.encode(x)
    eigenvalues = torch.tensor([3.0, 5.0], dtype=torch.float64)  # as ppca_optimum orders them
    units = linear_optimum(eigenvalues, 1.0, best.log_var.exp().item())
    torch.testing.assert_close(units.mu_variance, mu.var(dim=0, correction=0))
    torch.testing.assert_close(units.kl, kl_per_dimension(mu, log_var).mean(dim=0))


def test_linear_optimum_slope_is_minus_beta():
    eigenvalues = torch.tensor([4.0, 2.0, 1.0, 0.3], dtype=torch.float64)

    def curve(beta):
        units = linear_optimum(eigenvalues, beta, 0.2)
        return units.squared_error.sum() / 0.4, units.kl.sum()

    for beta in [0.5, 2.0, 7.0, 15.0]:
        (low_d, low_r), (high_d, high_r) = curve(beta - 1e-5), curve(beta + 1e-5)
        assert abs((high_d - low_d) / (high_r - low_r) + beta) < 1e-6 * beta


def test_linear_optimum_dead_units():
    units = linear_optimum(torch.tensor([3.0, 1.0, 0.99, 0.0]), 2.0, 0.5)
    assert isinstance(units, LinearUnits)
    assert (units.mu_variance > 0).tolist() == [True, False, False, False]
    assert units.kl[1:].tolist() == [0, 0, 0] and units.cloud_variance[1:].tolist() == [1, 1, 1]
    torch.testing.assert_close(units.squared_error, torch.tensor([1.0, 1.0, 0.99, 0.0]))
    assert linear_optimum(torch.zeros(0), 1.0, 1.0).kl.shape == (0,)


def test_linear_optimum_refuses():
    with pytest.raises(ValueError, match=r"shape \(2, 2\), but \(L,\) is wanted"):
        linear_optimum(torch.eye(2), 1.0, 1.0)
    for beta, variance in [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0)]:
        with pytest.raises(ValueError, match="must both be positive"):
            linear_optimum(torch.ones(2), beta, variance)


# Free bits


def test_with_free_bits_charges_the_larger_of_mean_and_floor():
    model, x = small_vae(), pixels(40)
    kl = kl_per_dimension(*model.encode(x)).mean(dim=0)
    floor = kl.sort().values[1].item() * 1.01  # one unit above it, two below
    terms = with_free_bits(floor)(model, x, seeded())
    wanted = sum(max(floor, value) for value in kl.tolist())
    assert terms.kl.shape == (40,)
    assert abs(terms.kl.mean().item() - wanted) < 1e-5
    assert wanted > kl.sum() + 1e-6, "the floor is felt"


def test_with_free_bits_of_zero_is_the_plain_objective():
    model, x = small_vae(), pixels()
    ours, plain = with_free_bits(0.0)(model, x, seeded(3)), elbo_terms(model, x, seeded(3))
    torch.testing.assert_close(ours.kl, plain.kl)
    torch.testing.assert_close(ours.reconstruction, plain.reconstruction)


def test_with_free_bits_pulls_only_above_the_floor():
    model, x = small_vae(), pixels(40)
    kl = kl_per_dimension(*model.encode(x)).mean(dim=0)
    order = kl.argsort()
    floor = kl.sort().values[1].item() * 1.01
    with_free_bits(floor)(model, x, seeded()).kl.mean().backward()
    grad = model.encoder.mu.bias.grad
    assert grad[order[:2]].tolist() == [0, 0], "below: no pull"
    assert grad[order[2]].abs() > 1e-6, "above: the pull of the KL"
    mu = model.encode(x)[0].mean(dim=0)
    torch.testing.assert_close(grad[order[2]], mu[order[2]].detach())  # d KL / d mu, on average


def test_with_free_bits_of_none_and_one():
    model = small_vae()
    assert with_free_bits(0.1)(model, pixels(0)).kl.shape == (0,)
    assert with_free_bits(0.1)(model, pixels(1)).kl.shape == (1,)


@pytest.mark.parametrize("floor", [-0.1, math.nan])
def test_with_free_bits_refuses(floor):
    with pytest.raises(ValueError, match="0 or more nats"):
        with_free_bits(floor)


# The swap


def test_swap_cost_against_closed_form():
    """A linear model: the mean cost has a formula, and the draws must meet it."""
    model = LinearGaussian(4, 2).requires_grad_(False)
    model.encoder_log_var.fill_(-1.0)
    x = stretched_data([4.0, 2.0, 1.0, 0.3])
    costs = torch.stack([swap_cost(model, x, seeded(seed)) for seed in range(40)])
    mean = model.decode(model.encode(x)[0])
    wanted = ((x - mean.roll(1, 0)).square().sum(1) - (x - mean).square().sum(1)).mean() / 2
    error = costs.mean(dim=1).std() / 40**0.5
    assert error > 0 and abs(costs.mean() - wanted) < 6 * error


def test_swap_cost_gives_each_image_the_latent_of_its_neighbour():
    model, x = small_vae(), pixels(4)
    z, _ = model.sample_posterior(x, seeded(2))
    costs = swap_cost(model, x, seeded(2))
    for b in range(4):
        right = model.log_px_z(x[b : b + 1], z[b : b + 1])
        wrong = model.log_px_z(x[b : b + 1], z[[(b - 1) % 4]])
        torch.testing.assert_close(costs[b : b + 1], (right - wrong).detach())


def test_swap_cost_of_a_decoder_that_ignores_z_is_zero():
    model = small_vae()
    with torch.no_grad():
        model.decoder.logits.weight.zero_()
    assert swap_cost(model, pixels(5)).tolist() == [0] * 5


@pytest.mark.parametrize("num", [0, 1])
def test_swap_cost_refuses_fewer_than_two(num):
    with pytest.raises(ValueError, match=f"got {num} images"):
        swap_cost(small_vae(), pixels(num))


# Information


def gaussian_pair(correlation, num=200_000):
    first, noise = torch.randn(2, num, generator=seeded(), dtype=torch.float64)
    return first, correlation * first + math.sqrt(1 - correlation**2) * noise


def binned_gaussian_information(correlation, bins):
    """The information that equally full bins of a Gaussian pair share, by quadrature."""
    edges = torch.special.ndtri(torch.arange(bins + 1, dtype=torch.float64) / bins)
    inner = torch.linspace(0, 1, 4001, dtype=torch.float64)
    mids = (inner[1:] + inner[:-1]) / 2
    a = torch.special.ndtri((torch.arange(bins)[:, None] + mids) / bins)  # (bins, 4000)
    conditional = Normal(correlation * a, math.sqrt(1 - correlation**2))
    below = conditional.cdf(edges[:, None, None].clamp(-40, 40)).mean(dim=2)  # (bins + 1, bins)
    joint = below.diff(dim=0) / bins
    return (joint * (joint * bins * bins).clamp(min=1e-300).log()).sum().item()


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_mutual_information_of_gaussians_against_quadrature(correlation):
    first, second = gaussian_pair(correlation)
    found = mutual_information(first[:, None], second[:, None], bins=10).item()
    wanted = binned_gaussian_information(correlation, 10)
    assert abs(found - wanted) < 0.01
    assert found <= -0.5 * math.log(1 - correlation**2) + 0.005, "bins can only lose information"


def test_mutual_information_of_a_column_with_itself_is_its_entropy():
    values = torch.randperm(2000, generator=seeded())[:, None].double()
    found = mutual_information(values, -values.pow(3), bins=20)
    assert abs(found.item() - math.log(20)) < 1e-9
    coin = torch.arange(2000)[:, None].remainder(4).eq(0).double()  # a quarter of them ones
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert abs(mutual_information(coin, coin).item() - entropy) < 1e-9


def test_mutual_information_has_a_row_for_each_latent():
    factors = torch.randn(3000, 2, generator=seeded())
    codes = torch.stack([factors[:, 1], torch.randn(3000, generator=seeded(1)), factors[:, 0]], 1)
    table = mutual_information(codes, factors)
    assert table.shape == (3, 2)
    assert table.argmax(dim=0).tolist() == [2, 0]
    independent = table[1]
    assert (independent - 19**2 / 6000).abs().max() < 0.03, "what counting overestimates"


def test_mutual_information_gap_of_made_latents():
    factors = torch.randn(4000, 2, generator=seeded(), dtype=torch.float64)
    noise = torch.randn(4000, generator=seeded(1), dtype=torch.float64)
    aligned = torch.stack([noise, factors[:, 1] ** 3, -factors[:, 0]], dim=1)
    assert (mutual_information_gap(aligned, factors) > 0.97).all()
    double = torch.cat([factors, factors], dim=1)
    assert mutual_information_gap(double, factors).abs().max() < 1e-12, "two know it equally"
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
    assert mutual_information_gap(factors @ turn, factors).max() < 0.03, "turned by 45 degrees"


def test_mutual_information_gap_divides_by_the_entropy_of_the_factor():
    coin = torch.arange(2000)[:, None].remainder(2).double()
    codes = torch.cat([coin, torch.randn(2000, 1, generator=seeded()).double()], dim=1)
    assert 0.97 < mutual_information_gap(codes, coin).item() <= 1


def test_mutual_information_refuses():
    with pytest.raises(ValueError, match=r"\(N, L\) and \(N, F\) are wanted"):
        mutual_information(torch.zeros(30, 2), torch.zeros(29, 2))
    with pytest.raises(ValueError, match=r"\(N, L\) and \(N, F\) are wanted"):
        mutual_information_gap(torch.zeros(30), torch.zeros(30, 2))
    for bins in (1, 31):
        with pytest.raises(ValueError, match="between 2 and the 30 rows"):
            mutual_information(torch.zeros(30, 2), torch.zeros(30, 2), bins)
    with pytest.raises(ValueError, match="a gap needs a second latent"):
        mutual_information_gap(torch.zeros(30, 1), torch.zeros(30, 2))
