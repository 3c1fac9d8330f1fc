"""The exactly solved model, against quadrature, Bayes on a grid and numerical optimisation."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from vae_lessons.elbo import elbo
from vae_lessons.linear_gaussian import LinearGaussian, Optimum, ppca_optimum, train_on_all

D, L = 4, 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_model(latent_dim=L):
    """A model with random parameters, which are not the best for anything."""
    torch.manual_seed(0)
    model = LinearGaussian(D, latent_dim)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model


def examples(num=5):
    return torch.rand(num, D, generator=seeded(), dtype=torch.float64)


def data(num=60):
    """Points with another spread in each direction."""
    mixing = torch.randn(D, D, generator=seeded(1), dtype=torch.float64)
    return torch.randn(num, D, generator=seeded(2), dtype=torch.float64) @ mixing + 1


def joint_on_a_line(model, x):
    """A fine line of z and log p(x, z) of each example there, by torch.distributions."""
    z = torch.linspace(-20, 20, 8001, dtype=torch.float64)
    mean = z[:, None] * model.weight[:, 0] + model.bias  # (Z, D)
    log_px_z = Normal(mean, torch.exp(model.log_var / 2)).log_prob(x[:, None]).sum(dim=2)
    return z, log_px_z + Normal(0.0, 1.0).log_prob(z)


# Exact answers


def test_log_px_against_quadrature():
    model, x = random_model(latent_dim=1), examples()
    z, log_joint = joint_on_a_line(model, x)
    wanted = torch.trapezoid(log_joint.exp(), z, dim=1).log()
    torch.testing.assert_close(model.log_px(x), wanted, rtol=1e-10, atol=1e-10)


def test_log_px_against_another_multivariate_normal():
    model, x = random_model(), examples()
    scale = torch.cat([model.weight, torch.exp(model.log_var / 2) * torch.eye(D).double()], dim=1)
    wanted = MultivariateNormal(model.bias, scale @ scale.T).log_prob(x)
    torch.testing.assert_close(model.log_px(x), wanted, rtol=1e-12, atol=1e-12)


def test_exact_posterior_by_bayes_on_a_grid():
    model, x = random_model(latent_dim=1), examples()
    z, log_joint = joint_on_a_line(model, x)
    posterior = log_joint.softmax(dim=1)
    mean = posterior @ z
    variance = (posterior * (z - mean[:, None]).square()).sum(dim=1)
    exact_mean, exact_covariance = model.exact_posterior(x)
    torch.testing.assert_close(exact_mean[:, 0], mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(exact_covariance.expand(5, 1)[:, 0], variance, rtol=1e-9, atol=1e-9)


def test_bayes_rule_at_any_latent():
    """log p(z given x) = log p(x given z) + log p(z) - log p(x), in the plane too."""
    model, x = random_model(), examples()
    z = torch.randn(5, L, generator=seeded(), dtype=torch.float64)
    posterior = MultivariateNormal(*model.exact_posterior(x)).log_prob(z)
    wanted = model.log_px_z(x, z) + model.log_pz(z) - model.log_px(x)
    torch.testing.assert_close(posterior, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_bound_plus_gap_is_log_px(latent_dim):
    model, x = random_model(latent_dim), examples()
    total = model.analytic_elbo(x) + model.gap(x)
    torch.testing.assert_close(total, model.log_px(x), rtol=0, atol=1e-10)
    assert (model.gap(x) > 0).all()


def test_gap_is_the_kl_from_q_to_the_posterior_and_not_the_reverse():
    model, x = random_model(latent_dim=1), examples()
    z, log_joint = joint_on_a_line(model, x)
    mu, log_var = model.encode(x)
    log_q = Normal(mu, torch.exp(log_var / 2)).log_prob(z)
    log_posterior = log_joint - model.log_px(x)[:, None]
    wanted = torch.trapezoid(log_q.exp() * (log_q - log_posterior), z, dim=1)
    torch.testing.assert_close(model.gap(x), wanted, rtol=1e-7, atol=1e-7)


def test_analytic_elbo_against_random_draws():
    model, x, num = random_model(), examples(), 20_000
    with torch.no_grad():
        draws = elbo(model, x.repeat(num, 1), seeded()).view(num, 5)
        error = draws.std(dim=0) / num**0.5
        assert ((draws.mean(dim=0) - model.analytic_elbo(x)).abs() < 6 * error).all()


def test_analytic_elbo_gradients():
    model, x = random_model(), examples(2)
    values = tuple(model.parameters())

    def value(*parameters):
        names = [name for name, _ in model.named_parameters()]
        given = dict(zip(names, parameters))
        return torch.func.functional_call(Bound(model), {f"model.{n}": given[n] for n in names}, x)

    assert torch.autograd.gradcheck(value, values)


class Bound(torch.nn.Module):
    """The analytic ELBO as the forward pass of a module."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.analytic_elbo(x)


# The questions every model answers


def test_densities_against_torch_distributions():
    model, x = random_model(), examples()
    z, log_qz_x = model.sample_posterior(x, seeded())
    mu, log_var = model.encode(x)
    wanted = Normal(mu, torch.exp(log_var / 2)).log_prob(z).sum(dim=1)
    torch.testing.assert_close(log_qz_x, wanted)
    torch.testing.assert_close(model.log_pz(z), Normal(0.0, 1.0).log_prob(z).sum(dim=1))
    mean = torch.stack([model.weight @ row + model.bias for row in z])
    torch.testing.assert_close(model.decode(z), mean)
    wanted = Normal(mean, torch.exp(model.log_var / 2)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(model.log_px_z(x, z), wanted)


def test_encoder_by_hand():
    model, x = random_model(), examples()
    mu, log_var = model.encode(x)
    wanted = torch.stack([model.encoder_weight @ (row - model.bias) for row in x])
    torch.testing.assert_close(mu, wanted)
    assert log_var.equal(model.encoder_log_var.expand(5, L))


def test_draws_follow_the_seed():
    model, x = random_model(), examples()
    first, again, other = (model.sample_posterior(x, seeded(seed))[0] for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)


@pytest.mark.parametrize("num", [0, 1])
def test_few_examples(num):
    model, x = random_model(), examples(num)
    z, log_qz_x = model.sample_posterior(x)
    values = [log_qz_x, model.log_pz(z), model.log_px_z(x, z), model.analytic_elbo(x),
              model.log_px(x), model.gap(x)]
    assert all(value.shape == (num,) for value in values)
    assert model.exact_posterior(x)[0].shape == (num, L)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type(dtype):
    model = LinearGaussian(D, L, dtype)
    x = examples().to(dtype)
    values = [model.log_px(x), model.analytic_elbo(x), model.gap(x), model.exact_posterior(x)[0]]
    assert all(value.dtype == dtype for value in values)


@pytest.mark.parametrize("sizes", [(0, 1), (3, 0), (3, 1.0)])
def test_refuses_sizes(sizes):
    with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
        LinearGaussian(*sizes)


@pytest.mark.parametrize("question", ["encode", "log_px", "exact_posterior", "analytic_elbo"])
def test_refuses_other_shapes(question):
    with pytest.raises(ValueError, match=r"x has shape \(3, 5\), but \(B, 4\) is wanted"):
        getattr(random_model(), question)(torch.zeros(3, 5))


def test_decode_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"z has shape \(3, 1\), but \(B, 2\) is wanted"):
        random_model().decode(torch.zeros(3, 1))


# The best encoder and the best model


def orthogonal_model():
    model = random_model()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.qr(model.weight).Q * torch.tensor([2.0, 0.5]))
    return model


def test_use_exact_posterior_closes_the_gap():
    model, x = orthogonal_model(), examples()
    model.use_exact_posterior()
    torch.testing.assert_close(model.analytic_elbo(x), model.log_px(x), rtol=0, atol=1e-10)
    assert model.gap(x).abs().max() < 1e-10


def test_use_exact_posterior_refuses_correlations():
    with pytest.raises(ValueError, match="not orthogonal.*rotate the columns by an SVD"):
        random_model().use_exact_posterior()


def model_at(optimum):
    model = LinearGaussian(*optimum.weight.shape)
    with torch.no_grad():
        model.weight.copy_(optimum.weight)
        model.bias.copy_(optimum.bias)
        model.log_var.copy_(optimum.log_var)
    model.use_exact_posterior()
    return model


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_optimum_says_what_it_reaches(latent_dim):
    optimum = ppca_optimum(data(), latent_dim)
    assert isinstance(optimum, Optimum)
    model = model_at(optimum)
    assert model.log_px(data()).mean().item() == pytest.approx(optimum.log_likelihood, abs=1e-10)
    assert model.analytic_elbo(data()).mean().item() == pytest.approx(optimum.log_likelihood)


def test_no_neighbour_of_the_optimum_is_better():
    best = ppca_optimum(data(), L)
    for seed in range(20):
        model = model_at(best)
        with torch.no_grad():
            for parameter in (model.weight, model.bias, model.log_var):
                noise = torch.randn(parameter.shape, generator=seeded(seed), dtype=torch.float64)
                parameter.add_(0.01 * noise)
        assert model.log_px(data()).mean().item() < best.log_likelihood


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_numerical_optimisation_reaches_the_optimum(latent_dim):
    """L-BFGS on the exact log p(x), which shares no formula with the closed form."""
    torch.manual_seed(0)
    weight = torch.randn(D, latent_dim, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(D, dtype=torch.float64, requires_grad=True)
    log_var = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias, log_var], max_iter=1000, tolerance_grad=1e-10,
                                  tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        covariance = weight @ weight.T + log_var.exp() * torch.eye(D)
        value = -MultivariateNormal(bias, covariance).log_prob(data()).mean()
        value.backward()
        return value

    optimizer.step(loss)
    best = ppca_optimum(data(), latent_dim)
    assert -loss().item() == pytest.approx(best.log_likelihood, abs=1e-6)
    torch.testing.assert_close(log_var.detach(), best.log_var, rtol=0, atol=1e-4)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_train_on_all_reaches_the_optimum(latent_dim):
    torch.manual_seed(0)
    model = LinearGaussian(D, latent_dim)
    reached = train_on_all(model, data())
    best = ppca_optimum(data(), latent_dim).log_likelihood
    assert reached == pytest.approx(best, abs=1e-6) and reached <= best + 1e-12
    assert reached == model.analytic_elbo(data()).mean().item()


def test_train_on_all_stops_after_its_iterations():
    torch.manual_seed(0)
    model = LinearGaussian(D, 1)
    assert train_on_all(model, data(), iterations=1) < ppca_optimum(data(), 1).log_likelihood - 1e-3


@pytest.mark.parametrize("latent_dim", [0, D, -1])
def test_optimum_refuses_latent_dims(latent_dim):
    with pytest.raises(ValueError, match=f"latent_dim is {latent_dim}: .* between 1 and 3"):
        ppca_optimum(data(), latent_dim)


def test_optimum_of_points_without_structure_has_no_weight():
    """Where all directions vary alike there is nothing to explain: W is zero."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * D)
    best = ppca_optimum(corners, 1)
    assert best.weight.abs().max() < 1e-6
    assert best.log_likelihood == pytest.approx(-0.5 * D * (math.log(2 * math.pi) + 1))
