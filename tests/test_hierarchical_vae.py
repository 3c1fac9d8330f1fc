"""Two layers of latents and a bent posterior: densities, bounds and exact answers."""

import copy
import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

from vae_lessons.elbo import elbo, elbo_terms, log_importance_weights
from vae_lessons.hierarchical_vae import FlowVAE, GaussianVAE, HierarchicalVAE
from vae_lessons.linear_gaussian import LinearGaussian
from vae_lessons.vae import VAE

D, H, L1, L2 = 12, 7, 3, 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(num, seed=0):
    return torch.rand(num, D, generator=seeded(seed)).round()


def gaussian_vae():
    torch.manual_seed(0)
    return GaussianVAE(L1, H, L2)


def two_layers():
    torch.manual_seed(0)
    return HierarchicalVAE(VAE(D, H, L1), GaussianVAE(L1, H, L2))


def bent_vae(size=0.5, dim=2):
    """A FlowVAE whose flow is far from the identity that it begins as."""
    torch.manual_seed(0)
    model = FlowVAE(VAE(D, H, dim), dim, H, 3).double()
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=seeded(1)))
    return model.requires_grad_(False)


def normal(mu, log_var):
    return Independent(Normal(mu, torch.exp(log_var / 2)), 1)


def standard(z):
    return normal(torch.zeros_like(z), torch.zeros_like(z)).log_prob(z)


MODELS = {"two layers": (two_layers, L1 + L2), "flow": (lambda: bent_vae().float(), 2)}
each_model = pytest.mark.parametrize("name", MODELS)


# The contract


@each_model
@pytest.mark.parametrize("num", [0, 1, 5])
def test_shapes(name, num):
    (build, width), x = MODELS[name], pixels(num)
    model = build()
    z, log_qz_x = model.sample_posterior(x, seeded())
    assert (z.shape, log_qz_x.shape) == ((num, width), (num,))
    assert model.log_pz(z).shape == model.log_px_z(x, z).shape == (num,)
    assert model.decode(z).shape == (num, D)
    assert elbo(model, x).shape == (num,)
    assert log_importance_weights(model, x, 4).shape == (num, 4)


@each_model
def test_promises_no_gaussian(name):
    """With ``encode`` the measures would take the closed form of the KL, which is false here."""
    assert not hasattr(MODELS[name][0](), "encode")


@each_model
def test_same_seed_same_draw(name):
    model, x = MODELS[name][0](), pixels(3)
    first, again, other = (model.sample_posterior(x, seeded(seed))[0] for seed in (1, 1, 2))
    assert first.equal(again) and not first.isclose(other).any()


@each_model
def test_gradients_reach_every_parameter(name):
    model = MODELS[name][0]().requires_grad_(True)
    elbo(model, pixels(64), seeded()).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


# A VAE of vectors


@pytest.mark.parametrize("num", [0, 1, 4])
def test_gaussian_vae_shapes(num):
    model, x = gaussian_vae(), torch.randn(num, L1, generator=seeded())
    (mean, log_var), mu, _ = model(x)
    assert (mean.shape, log_var.shape, mu.shape) == ((num, L1), (num, L1), (num, L2))
    assert elbo(model, x).shape == (num,)


def test_gaussian_vae_likelihood_against_torch_distributions():
    model, x = gaussian_vae(), torch.randn(4, L1, generator=seeded())
    z, _ = model.sample_posterior(x, seeded(1))
    mean, log_var = model.decode(z)
    assert log_var.std() > 0 and not mean.equal(log_var)
    torch.testing.assert_close(model.log_px_z(x, z), normal(mean, log_var).log_prob(x))


@pytest.mark.parametrize("shape", [(L1,), (2, L1 + 1), (2, 1, L1)])
def test_gaussian_vae_refuses_shapes(shape):
    with pytest.raises(ValueError, match=r"x has shape .* but \(B, 3\) is wanted"):
        gaussian_vae().encode(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"z has shape .* but \(B, 2\) is wanted"):
        gaussian_vae().decode(torch.zeros(shape))


@pytest.mark.parametrize("sizes", [(0, H, L2), (L1, 0, L2), (L1, H, 0), (L1, H, 2.0)])
def test_gaussian_vae_refuses_sizes(sizes):
    with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
        GaussianVAE(*sizes)


# Two layers


def test_densities_of_two_layers_against_torch_distributions():
    model, x = two_layers(), pixels(5)
    z, log_qz_x = model.sample_posterior(x, seeded())
    z1, z2 = z[:, :L1], z[:, L1:]
    wanted = normal(*model.lower.encode(x)).log_prob(z1)
    torch.testing.assert_close(log_qz_x, wanted + normal(*model.upper.encode(z1)).log_prob(z2))
    wanted = normal(*model.upper.decode(z2)).log_prob(z1) + standard(z2)
    torch.testing.assert_close(model.log_pz(z), wanted)
    wanted = Bernoulli(logits=model.lower.decode(z1)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(model.log_px_z(x, z), wanted)
    assert model.decode(z).equal(model.lower.decode(z1))
    assert all(mine.equal(yours) for mine, yours in zip(model.split(z), (z1, z2), strict=True))


@pytest.mark.parametrize("shape", [(L1 + L2,), (2, L1), (2, L1 + L2 + 1)])
def test_refuses_latents_of_another_width(shape):
    model = two_layers()
    for part in (model.split, model.log_pz, model.decode, lambda z: model.log_px_z(pixels(2), z)):
        with pytest.raises(ValueError, match=r"z has shape .* but \(B, 5\) is wanted"):
            part(torch.zeros(shape))


def test_prior_of_two_layers_integrates_to_one():
    torch.manual_seed(0)
    model = HierarchicalVAE(VAE(D, H, 1), GaussianVAE(1, H, 1)).double().requires_grad_(False)
    with torch.no_grad():
        model.upper.decoder[-1].weight.mul_(3)
    axis = torch.arange(-9, 9, 0.02, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    assert model.log_pz(z).exp().sum() * 0.02**2 == pytest.approx(1, abs=1e-6)


def test_posterior_of_two_layers_has_the_density_it_gives():
    """The mean of 1 / q over draws from q is the volume where q lies: here by a box indicator."""
    torch.manual_seed(0)
    model = HierarchicalVAE(VAE(D, H, 1), GaussianVAE(1, H, 1)).double().requires_grad_(False)
    z, log_q = model.sample_posterior(pixels(1).double().expand(100_000, -1), seeded())
    inside = (z - z.mean(dim=0)).abs().lt(0.8 * z.std(dim=0)).all(dim=1)
    values = inside * torch.exp(-log_q)
    volume = (1.6 * z.std(dim=0)).prod()
    assert abs(values.mean() - volume) < 6 * values.std() / 100_000**0.5


def test_draw_lower_draws_from_the_prior_given_z2():
    model, num = two_layers().requires_grad_(False), 50_000
    z2 = torch.tensor([[0.5, -1.0]])
    z = model.draw_lower(z2.expand(num, -1), seeded())
    mean, log_var = model.upper.decode(z2)
    assert z[:, L1:].equal(z2.expand(num, -1))
    assert z.equal(model.draw_lower(z2.expand(num, -1), seeded()))
    off = (z[:, :L1].mean(dim=0) - mean[0]) / torch.exp(log_var[0] / 2)
    assert off.abs().max() < 6 / num**0.5
    assert (z[:, :L1].var(dim=0) / log_var[0].exp() - 1).abs().max() < 6 * (2 / num) ** 0.5


def linear_pair():
    """Two layers of one latent each, everything linear and Gaussian, and its exact log p(x)."""
    torch.manual_seed(0)
    lower, upper = LinearGaussian(2, 1), LinearGaussian(1, 1)
    upper.input_dim = upper.latent_dim = 1
    with torch.no_grad():
        lower.weight.copy_(torch.tensor([[1.0], [-0.5]], dtype=torch.float64))
        upper.weight.copy_(torch.tensor([[0.8]], dtype=torch.float64))
        upper.log_var.copy_(torch.tensor(0.36, dtype=torch.float64).log())
    covariance = lower.weight @ lower.weight.T + torch.eye(2)  # z1 has variance 0.64 + 0.36
    marginal = MultivariateNormal(torch.zeros(2).double(), covariance.double())
    return HierarchicalVAE(lower, upper).requires_grad_(False), marginal


def test_elbo_of_two_layers_is_exact_where_the_posterior_is():
    """The model's p(z1) is N(0, 1) here, so each layer's own posterior is the exact one."""
    model, marginal = linear_pair()
    model.lower.use_exact_posterior()
    model.upper.use_exact_posterior()
    x = torch.randn(6, 2, generator=seeded(), dtype=torch.float64)
    log_weights = log_importance_weights(model, x, 5, seeded(1))
    wanted = marginal.log_prob(x)[:, None].expand(-1, 5)
    torch.testing.assert_close(log_weights, wanted, rtol=0, atol=1e-10)


def test_gap_of_two_layers_is_the_sum_of_the_gaps():
    """log p(x) - ELBO is the KL of the lower layer plus the mean KL of the upper one."""
    model, marginal = linear_pair()
    model.lower.use_exact_posterior()
    model.upper.use_exact_posterior()
    exact = copy.deepcopy(model)
    model.lower.encoder_log_var.add_(0.7)
    model.upper.encoder_weight.mul_(0.6)
    x = torch.tensor([[0.8, 0.3]], dtype=torch.float64)
    bounds = elbo(model, x.expand(100_000, -1), seeded())
    z1 = model.lower.sample_posterior(x.expand(100_000, -1), seeded(1))[0]
    gap = model.lower.gap(x)[0] + model.upper.gap(z1).mean()
    missing = marginal.log_prob(x)[0] - bounds.mean()
    assert gap > 0.1 and exact.upper.gap(z1).max() < 1e-10
    assert abs(missing - gap) < 6 * bounds.std() / 100_000**0.5


def test_a_second_layer_that_says_nothing_leaves_the_bound_as_it_was():
    model, x = two_layers(), pixels(50)
    with torch.no_grad():
        for part in (model.upper.encoder, model.upper.decoder):
            part[-1].weight.zero_()
            part[-1].bias.zero_()
    terms = elbo_terms(model, x, seeded())
    z1, log_qz1_x = model.lower.sample_posterior(x, seeded())
    torch.testing.assert_close(terms.reconstruction, model.lower.log_px_z(x, z1))
    torch.testing.assert_close(terms.kl, log_qz1_x - standard(z1))


# A bent posterior


def test_flow_vae_begins_as_the_gaussian():
    torch.manual_seed(0)
    model, x = FlowVAE(VAE(D, H, 2), 2, H, 2), pixels(4)
    z, log_qz_x = model.sample_posterior(x, seeded())
    wanted, wanted_log_q = model.gaussian.sample_posterior(x, seeded())
    torch.testing.assert_close(z, wanted)
    torch.testing.assert_close(log_qz_x, wanted_log_q)


def test_flow_vae_prior_and_likelihood_are_the_models_own():
    model, x = bent_vae(), pixels(4).double()
    z, _ = model.sample_posterior(x, seeded())
    torch.testing.assert_close(model.log_pz(z), standard(z))
    wanted = Bernoulli(logits=model.decode(z)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(model.log_px_z(x, z), wanted)


def test_flow_vae_density_of_a_draw_and_of_a_given_z_agree():
    model, x = bent_vae(), pixels(50).double()
    z, log_qz_x = model.sample_posterior(x, seeded())
    torch.testing.assert_close(model.log_qz_x(x, z), log_qz_x, rtol=0, atol=1e-8)
    assert (log_qz_x - normal(*model.gaussian.encode(x)).log_prob(z)).abs().max() > 0.5


def test_flow_vae_density_integrates_to_one():
    model, x, step = bent_vae(), pixels(1).double(), 0.08
    axis = torch.arange(-14, 14, step, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    mass = model.log_qz_x(x.expand(len(z), -1), z).exp().sum() * step**2
    assert mass.item() == pytest.approx(1, abs=1e-3)


def test_flow_vae_bends_each_image_in_its_own_way():
    model, x = bent_vae(), pixels(2).double()
    mu, log_var = model.gaussian.encode(x)
    eps = torch.randn(1, 2, generator=seeded(), dtype=torch.float64).expand(2, -1)
    z, log_qz_x = model.sample_posterior(x[:1].expand(2, -1), seeded())
    bent, log_det = model.flow(eps, torch.cat([mu, log_var], dim=1))
    assert not bent[0].isclose(bent[1]).any() and not log_det[0].isclose(log_det[1])
    assert not z[0].isclose(z[1]).any() and not log_qz_x[0].isclose(log_qz_x[1])


def test_flow_vae_bound_stays_below_the_sum_over_the_plane():
    model, x, step = bent_vae(), pixels(3).double(), 0.05
    axis = torch.arange(-7, 7, step, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    for one in x:
        log_joint = model.log_px_z(one.expand(len(z), -1), z) + model.log_pz(z)
        log_px = log_joint.logsumexp(dim=0) + 2 * math.log(step)
        weights = log_importance_weights(model, one[None], 20_000, seeded())[0]
        assert weights.mean() < log_px
        shares = (weights - log_px).exp()  # their mean is 1
        assert abs(shares.mean() - 1) < 6 * shares.std() / 20_000**0.5


def test_flow_vae_refuses_a_line():
    with pytest.raises(ValueError, match="latent_dim is 1: a coupling needs at least 2"):
        FlowVAE(VAE(D, H, 1), 1, H, 2)


def test_a_flow_can_stand_under_a_second_layer():
    model = HierarchicalVAE(bent_vae().float(), GaussianVAE(2, H, 1))
    x = pixels(4)
    z, log_qz_x = model.sample_posterior(x, seeded())
    z1, lower_log_q = model.lower.sample_posterior(x, seeded())
    assert z[:, :2].equal(z1)
    wanted = lower_log_q + normal(*model.upper.encode(z1)).log_prob(z[:, 2:])
    torch.testing.assert_close(log_qz_x, wanted)
