"""The evidence lower bound against the classic loss, exact models and random draws."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call

from vae_lessons.elbo import Terms, elbo, elbo_terms, log_importance_weights, loss_function
from vae_lessons.linear_gaussian import LinearGaussian
from vae_lessons.vae import VAE

D, L = 6, 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(num, dtype=torch.float32):
    return torch.rand(num, D, generator=seeded(), dtype=dtype)


def small_vae():
    torch.manual_seed(0)
    return VAE(D, 5, L, activation=torch.nn.Tanh)


def linear_gaussian(weight=1.0):
    torch.manual_seed(1)
    model = LinearGaussian(D, L)
    with torch.no_grad():
        model.weight.normal_().mul_(weight)
        model.encoder_log_var.fill_(-1.0)
    return model


class OnlyThreeQuestions:
    """A model without ``encode``: it answers what every model must, and no more."""

    def __init__(self, model):
        self.sample_posterior = model.sample_posterior
        self.log_pz = model.log_pz
        self.log_px_z = model.log_px_z


def outputs(num=4, scale=3.0, dtype=torch.float32):
    """Made-up logits, pixels, mu and log_var."""
    generator = seeded(7)

    def normal(width):
        return torch.randn(num, width, generator=generator, dtype=dtype)

    return scale * normal(D), pixels(num, dtype), normal(L), normal(L)


def classic_loss(logits, x, mu, log_var):
    """Sigmoid, cross-entropy and KL, as they stand in the classic implementation."""
    cross_entropy = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
    return cross_entropy - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())


# The loss


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_loss_equals_the_classic_one_where_that_is_exact(scale, dtype, rtol):
    given = outputs(scale=scale, dtype=dtype)
    assert given[0].abs().max() < 15
    torch.testing.assert_close(loss_function(*given), classic_loss(*given), rtol=rtol, atol=0)


def test_loss_is_right_where_the_classic_one_is_cut_off():
    x, mu, log_var = torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1), torch.zeros(2, 1)
    logits = torch.tensor([[200.0], [-200.0]])
    assert classic_loss(logits, x, mu, log_var).item() == 2 * 100
    assert loss_function(logits, x, mu, log_var).item() == 2 * 200


def test_loss_is_a_sum_over_examples_pixels_and_latents():
    logits, x, mu, log_var = outputs(dtype=torch.float64)
    whole = loss_function(logits, x, mu, log_var)
    parts = [loss_function(*(each[i : i + 1] for each in (logits, x, mu, log_var)))
             for i in range(len(x))]
    torch.testing.assert_close(whole, sum(parts))
    twice_as_wide = loss_function(*(each.repeat(1, 2) for each in (logits, x, mu, log_var)))
    torch.testing.assert_close(twice_as_wide, 2 * whole)
    assert whole.shape == ()


def test_loss_gradients():
    logits, x, mu, log_var = (each.requires_grad_() for each in outputs(dtype=torch.float64))
    assert torch.autograd.gradcheck(
        lambda *given: loss_function(given[0], x.detach(), *given[1:]), (logits, mu, log_var)
    )


def test_loss_is_minus_the_elbo_of_the_same_draw():
    model, x = small_vae(), pixels(5)
    logits, mu, log_var = model(x, seeded(3))
    loss = loss_function(logits, x, mu, log_var)
    torch.testing.assert_close(loss, -elbo(model, x, seeded(3)).sum())


def test_loss_of_no_examples():
    assert loss_function(*outputs(num=0)) == 0


def test_loss_refuses_another_number_of_latents():
    logits, x, mu, log_var = outputs(num=4)
    with pytest.raises(ValueError, match="4 images but 3 latents: .* the same examples"):
        loss_function(logits, x, mu[:3], log_var[:3])
    with pytest.raises(ValueError, match="4 images but 1 latents"):
        loss_function(logits, x, mu[:1], log_var[:1])


def test_loss_refuses_other_shapes():
    logits, x, mu, log_var = outputs(num=4)
    with pytest.raises(ValueError, match=r"x has shape \(4, 6\) and logits \(3, 6\)"):
        loss_function(logits[:3], x, mu, log_var)
    with pytest.raises(ValueError, match=r"mu \(4, 2\) and log_var \(4, 1\)"):
        loss_function(logits, x, mu, log_var[:, :1])


# The bound


@pytest.mark.parametrize("num", [0, 1, 5])
def test_one_value_for_each_example(num):
    for model in (small_vae(), OnlyThreeQuestions(small_vae())):
        terms = elbo_terms(model, pixels(num))
        assert isinstance(terms, Terms)
        assert (terms.reconstruction.shape, terms.kl.shape) == ((num,), (num,))
        assert elbo(model, pixels(num)).shape == (num,)


def test_elbo_is_reconstruction_minus_kl():
    model, x = small_vae(), pixels(5)
    terms = elbo_terms(model, x, seeded(2))
    assert elbo(model, x, seeded(2)).equal(terms.reconstruction - terms.kl)
    z, _ = model.sample_posterior(x, seeded(2))
    assert terms.reconstruction.equal(model.log_px_z(x, z))


def test_the_kl_of_a_gaussian_encoder_is_exact():
    model, x = small_vae(), pixels(5)
    mu, log_var = model.encode(x)
    wanted = kl_divergence(Normal(mu, torch.exp(log_var / 2)), Normal(0.0, 1.0)).sum(dim=1)
    for seed in (1, 2):
        torch.testing.assert_close(elbo_terms(model, x, seeded(seed)).kl, wanted)


def test_any_other_model_gets_the_estimate_of_the_same_draw():
    model, x = small_vae(), pixels(5)
    terms = elbo_terms(OnlyThreeQuestions(model), x, seeded(2))
    z, log_qz_x = model.sample_posterior(x, seeded(2))
    assert terms.kl.equal(log_qz_x - model.log_pz(z))
    assert terms.reconstruction.equal(model.log_px_z(x, z))


@pytest.mark.parametrize("wrap", [lambda model: model, OnlyThreeQuestions])
def test_mean_of_many_draws_is_the_analytic_elbo(wrap):
    model, x, num = linear_gaussian(), pixels(3, torch.float64), 20_000
    with torch.no_grad():
        draws = elbo(wrap(model), x.repeat(num, 1), seeded()).view(num, 3)
        error = draws.std(dim=0) / num**0.5
        assert ((draws.mean(dim=0) - model.analytic_elbo(x)).abs() < 6 * error).all()
        at_the_mean = model.log_px_z(x, model.encode(x)[0]) - elbo_terms(model, x).kl
        assert ((draws.mean(dim=0) - at_the_mean).abs() > 6 * error).all(), "z = mu flatters"


def test_mean_of_many_draws_stays_below_log_px():
    model, x, num = linear_gaussian(), pixels(3, torch.float64), 20_000
    with torch.no_grad():
        draws = elbo(model, x.repeat(num, 1), seeded()).view(num, 3)
        assert (draws.mean(dim=0) < model.log_px(x)).all()


@pytest.mark.parametrize("wrap", [lambda model: model, OnlyThreeQuestions])
def test_gradient_of_many_draws_is_that_of_the_analytic_elbo(wrap):
    """Every parameter, encoder and decoder: nothing is cut off on the way."""
    model, x, num = linear_gaussian(0.5), pixels(1, torch.float64), 300
    wanted = torch.autograd.grad(model.analytic_elbo(x).sum(), list(model.parameters()))
    draws = [torch.autograd.grad(elbo(wrap(model), x.repeat(num, 1), seeded(seed)).mean(),
                                 list(model.parameters())) for seed in range(50)]
    for exact, estimates in zip(wanted, zip(*draws)):
        estimates = torch.stack(estimates)
        error = estimates.std(dim=0) / 50**0.5 + 1e-12
        assert ((estimates.mean(dim=0) - exact).abs() < 6 * error).all()


def test_gradients_by_finite_differences():
    model, x = small_vae().double(), pixels(3, torch.float64)
    names, values = zip(*model.named_parameters())
    wrapped = WithMethod(model, x)

    def value(*parameters):
        return functional_call(wrapped, {f"model.{n}": p for n, p in zip(names, parameters)}, ())

    assert torch.autograd.gradcheck(value, values)


class WithMethod(torch.nn.Module):
    """The ELBO as the forward pass of a module, so that its parameters can be replaced."""

    def __init__(self, model, x):
        super().__init__()
        self.model, self.x = model, x

    def forward(self):
        return elbo(self.model, self.x, seeded(4))


def test_examples_do_not_touch_each_other():
    model, x = small_vae(), pixels(4).requires_grad_()
    elbo(model, x, seeded())[1].backward()
    assert x.grad[1].abs().min() > 0
    assert x.grad[[0, 2, 3]].abs().max() == 0


def test_same_seed_same_bound():
    model, x = small_vae(), pixels(4)
    assert elbo(model, x, seeded(1)).equal(elbo(model, x, seeded(1)))
    assert not elbo(model, x, seeded(1)).equal(elbo(model, x, seeded(2)))


# Importance weights


def test_log_importance_weights_against_torch_distributions():
    model, x = small_vae(), pixels(3)
    log_weights = log_importance_weights(model, x, 4, seeded())
    mu, log_var = model.encode(x)
    eps = torch.randn(12, L, generator=seeded()).view(4, 3, L)
    for k in range(4):
        z = mu + torch.exp(log_var / 2) * eps[k]
        log_px_z = torch.distributions.Bernoulli(logits=model.decode(z), validate_args=False)
        wanted = log_px_z.log_prob(x).sum(dim=1) + Normal(0.0, 1.0).log_prob(z).sum(dim=1)
        wanted = wanted - Normal(mu, torch.exp(log_var / 2)).log_prob(z).sum(dim=1)
        torch.testing.assert_close(log_weights[:, k], wanted)


def test_with_and_without_encode_the_weights_are_the_same():
    model, x = small_vae(), pixels(3)
    torch.testing.assert_close(
        log_importance_weights(model, x, 5, seeded()),
        log_importance_weights(OnlyThreeQuestions(model), x, 5, seeded()),
    )


def test_importance_weights_average_to_the_exact_probability():
    model, x = linear_gaussian(0.5), pixels(2, torch.float64)
    with torch.no_grad():
        log_weights = log_importance_weights(model, x, 40_000, seeded())
    ratio = (log_weights - model.log_px(x)[:, None]).detach().exp()
    error = ratio.std(dim=1) / 200
    assert ((ratio.mean(dim=1) - 1).abs() < 6 * error).all() and (error < 0.05).all()


def test_encode_is_asked_once_for_all_draws():
    model, x = small_vae(), pixels(3)
    rows, encode = [], model.encode
    model.encode = lambda x: rows.append(len(x)) or encode(x)
    log_importance_weights(model, x, 7)
    assert rows == [3]


@pytest.mark.parametrize("num_samples", [0, -1])
def test_log_importance_weights_needs_a_sample(num_samples):
    with pytest.raises(ValueError, match="at least one sample is needed"):
        log_importance_weights(small_vae(), pixels(2), num_samples)
