"""The importance-weighted bound and its gradients, judged by a model that is solved exactly."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from vae_lessons import iwae
from vae_lessons.elbo import log_importance_weights
from vae_lessons.iwae import doubly_reparameterized_bound, iwae_bound, published_runs
from vae_lessons.linear_gaussian import LinearGaussian
from vae_lessons.vae import VAE

both = pytest.mark.parametrize("bound", [iwae_bound, doubly_reparameterized_bound])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rough_model(latent_dim=1):
    """A linear model whose cloud is off the centre and too wide, but not by much."""
    torch.manual_seed(1)
    model = LinearGaussian(3, latent_dim)
    with torch.no_grad():
        model.weight.normal_(std=0.8)
        model.encoder_weight.copy_(0.1 * model.weight.T)
        model.encoder_log_var.fill_(-0.6)
    return model


def pixels(num=1, dim=3):
    return torch.rand(num, dim, generator=seeded(), dtype=torch.float64)


def small_vae():
    torch.manual_seed(0)
    return VAE(6, 5, 2).double()


def gradients(value, model):
    return torch.autograd.grad(value, list(model.parameters()))


# The value


@both
def test_against_torch_distributions(bound):
    """log of the mean of the weights, with no exponential so small that it is lost."""
    model, x, num = small_vae(), pixels(4, 6).round(), 7
    value = bound(model, x, num, seeded(3))
    eps = torch.randn(num, 4, 2, generator=seeded(3), dtype=x.dtype)
    mu, log_var = model.encode(x)
    q = Normal(mu, torch.exp(log_var / 2))
    weights = []
    for z in q.mean + q.stddev * eps:
        ink = torch.distributions.Bernoulli(logits=model.decode(z))
        log_weight = ink.log_prob(x).sum(dim=1)
        log_weight += (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(dim=1)
        weights.append(log_weight.exp())
    torch.testing.assert_close(value, torch.stack(weights).mean(dim=0).log())


def test_both_bounds_have_one_value():
    model, x = small_vae(), pixels(4, 6)
    ours = doubly_reparameterized_bound(model, x, 5, seeded(2))
    torch.testing.assert_close(ours, iwae_bound(model, x, 5, seeded(2)), rtol=0, atol=1e-12)


@both
def test_weights_that_no_float_can_hold(bound):
    model, x = small_vae(), pixels(2, 6).round()
    with torch.no_grad():
        model.decoder.logits.bias.fill_(-3000.0)
    assert bound(model, x, 5, seeded()).isfinite().all()


def test_one_draw_is_the_elbo():
    model, x, num = rough_model(), pixels(2), 20_000
    with torch.no_grad():
        draws = iwae_bound(model, x.repeat(num, 1), 1, seeded()).view(num, 2)
        error = draws.std(dim=0) / num**0.5
        assert ((draws.mean(dim=0) - model.analytic_elbo(x)).abs() < 6 * error).all()


def test_rises_with_the_draws_to_log_px_and_not_above():
    model, x, num = rough_model(), pixels(1), 40_000
    with torch.no_grad():
        log_weights = log_importance_weights(model, x.repeat(num, 1), 16, seeded())
        before, exact = model.analytic_elbo(x), model.log_px(x)
        for size in (2, 4, 16):
            bounds = log_weights[:, :size].logsumexp(dim=1) - math.log(size)
            error = bounds.std() / num**0.5
            assert before + 6 * error < bounds.mean() < exact
            before = bounds.mean()


@both
def test_an_exact_posterior_leaves_no_gap(bound):
    model, x = rough_model(), pixels(3)
    model.use_exact_posterior()
    for num in (1, 3, 20):
        torch.testing.assert_close(bound(model, x, num), model.log_px(x), rtol=0, atol=1e-12)


def test_two_draws_against_quadrature():
    """The bound with two draws is an integral over a plane of noise."""
    model, x, num = rough_model(), pixels(1), 100_000
    with torch.no_grad():
        draws = iwae_bound(model, x.repeat(num, 1), 2, seeded())
        assert abs(draws.mean() - bound_by_quadrature(model, x)) < 6 * draws.std() / num**0.5


@both
@pytest.mark.parametrize("num", [0, 1, 5])
def test_one_value_for_each_example(bound, num):
    assert bound(small_vae(), pixels(num, 6), 3).shape == (num,)


@both
@pytest.mark.parametrize("num_samples", [0, -1])
def test_refuses_no_samples(bound, num_samples):
    with pytest.raises(ValueError, match=f"num_samples is {num_samples}: at least one"):
        bound(small_vae(), pixels(2, 6), num_samples)


@both
def test_examples_do_not_touch_each_other(bound):
    model, x = small_vae(), pixels(4, 6).requires_grad_()
    bound(model, x, 3, seeded())[1].backward()
    assert x.grad[1].abs().min() > 0
    assert x.grad[[0, 2, 3]].abs().max() == 0


@both
def test_same_seed_same_bound(bound):
    model, x = small_vae(), pixels(4, 6)
    assert bound(model, x, 3, seeded(1)).equal(bound(model, x, 3, seeded(1)))
    assert not bound(model, x, 3, seeded(1)).equal(bound(model, x, 3, seeded(2)))


@both
def test_without_gradients(bound):
    with torch.no_grad():
        assert not bound(small_vae(), pixels(2, 6), 3).requires_grad
    assert not bound(small_vae().requires_grad_(False), pixels(2, 6), 3).requires_grad


# Its gradient


def test_gradient_is_the_mean_under_the_normalised_weights():
    """The softmax of the log weights, not of their negatives."""
    model, x = small_vae(), pixels(1, 6).round()
    with torch.no_grad():
        model.decoder.logits.weight.mul_(10)
    ours = gradients(iwae_bound(model, x, 4, seeded(1)).sum(), model)
    log_weights = log_importance_weights(model, x, 4, seeded(1))[0]
    weights = log_weights.detach().exp()
    of_each = [torch.autograd.grad(log_weight, list(model.parameters()), retain_graph=True)
               for log_weight in log_weights]
    for parameter, gradient in enumerate(ours):
        wanted = sum(weight * each[parameter] for weight, each in zip(weights, of_each))
        torch.testing.assert_close(gradient, wanted / weights.sum())
    assert weights.max() > 2 * weights.min(), "else the sign could not be told"


def test_doubly_reparameterized_gradient_by_hand():
    """Each draw with its squared weight, and only the path through z, into the encoder."""
    model, x, num = small_vae(), pixels(1, 6).round(), 4
    ours = gradients(doubly_reparameterized_bound(model, x, num, seeded(1)).sum(), model)
    z, mu, log_var = draws_of(model, x, num, seeded(1))
    fixed_z = z.detach().requires_grad_()
    log_q = Normal(mu.detach(), torch.exp(log_var.detach() / 2)).log_prob(fixed_z).sum(dim=1)
    log_weights = model.log_px_z(x.expand(num, -1), fixed_z) + model.log_pz(fixed_z) - log_q
    share = (log_weights - log_weights.logsumexp(dim=0)).exp().detach()
    slopes, = torch.autograd.grad(log_weights.sum(), fixed_z, retain_graph=True)
    encoder = torch.autograd.grad(z, list(model.encoder.parameters()), share[:, None] ** 2 * slopes)
    decoder = torch.autograd.grad((share * log_weights).sum(), list(model.decoder.parameters()))
    for gradient, wanted in zip(ours, encoder + decoder):
        torch.testing.assert_close(gradient, wanted)


def draws_of(model, x, num, generator):
    mu, log_var = (each.expand(num, -1) for each in model.encode(x))
    eps = torch.randn(mu.shape, generator=generator, dtype=mu.dtype)
    return mu + torch.exp(log_var / 2) * eps, mu, log_var


def test_decoder_gradients_are_those_of_the_plain_bound():
    model, x = small_vae(), pixels(4, 6)
    plain, ours = (gradients(bound(model, x, 5, seeded(2)).sum(), model)
                   for bound in (iwae_bound, doubly_reparameterized_bound))
    num = len(list(model.encoder.parameters()))
    for mine, theirs in zip(ours[num:], plain[num:]):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert not torch.allclose(ours[0], plain[0])


@both
def test_mean_gradient_of_two_draws_against_quadrature(bound):
    """Every parameter of encoder and decoder; the judge differentiates an integral."""
    model, x, runs = rough_model(), pixels(1), 200
    wanted = gradients(bound_by_quadrature(model, x), model)
    each = [gradients(bound(model, x.repeat(200, 1), 2, seeded(seed)).mean(), model)
            for seed in range(runs)]
    for exact, estimates in zip(wanted, zip(*each)):
        estimates = torch.stack(estimates)
        error = estimates.std(dim=0) / runs**0.5
        assert ((estimates.mean(dim=0) - exact).abs() < 6 * error + 1e-12).all()
    assert max(part.abs().max() for part in wanted) > 20 * error.max(), "else it would see nothing"


def bound_by_quadrature(model, x):
    """The bound of one example with two draws of one latent, by Gauss-Hermite quadrature."""
    nodes, node_weights = (torch.from_numpy(each) for each in
                           np.polynomial.hermite_e.hermegauss(60))
    mu, log_var = model.encode(x)
    z = mu + torch.exp(log_var / 2) * nodes[:, None]
    log_weights = model.log_px_z(x.expand(60, -1), z) + Normal(0.0, 1.0).log_prob(z)[:, 0]
    log_weights = log_weights - Normal(mu, torch.exp(log_var / 2)).log_prob(z)[:, 0]
    pairs = torch.logaddexp(log_weights[:, None], log_weights[None, :]) - math.log(2)
    return node_weights @ pairs @ node_weights / (2 * math.pi)


def test_mean_gradients_agree_where_the_posterior_cannot_be_matched():
    """Two latents with correlated posterior, five draws: both estimators have one mean."""
    model, x, runs = rough_model(2), pixels(2), 150
    means, errors = [], []
    for bound in (iwae_bound, doubly_reparameterized_bound):
        each = []
        for seed in range(runs):
            mean = bound(model, x.repeat(100, 1), 5, seeded(seed)).mean()
            each.append(torch.cat([part.flatten() for part in gradients(mean, model)]))
        means.append(torch.stack(each).mean(dim=0))
        errors.append(torch.stack(each).std(dim=0) / runs**0.5)
    assert ((means[0] - means[1]).abs() < 6 * errors[0].hypot(errors[1]) + 1e-12).all()


def test_with_an_exact_posterior_the_encoder_gets_no_noise():
    model, x = rough_model(), pixels(3)
    model.use_exact_posterior()
    encoder = [model.encoder_weight, model.encoder_log_var]
    for num in (1, 5):
        calm = torch.autograd.grad(
            doubly_reparameterized_bound(model, x, num, seeded()).sum(), encoder)
        noisy = torch.autograd.grad(iwae_bound(model, x, num, seeded()).sum(), encoder)
        assert max(part.abs().max() for part in calm) < 1e-12
        assert max(part.abs().max() for part in noisy) > 1e-2


def test_more_draws_drown_the_plain_gradient_but_not_the_other():
    """Signal to noise of the encoder's gradient, with one draw and with 32."""
    model, x, runs = rough_model(), pixels(1), 4000
    mu, log_var = (each.detach() for each in model.encode(x))

    def signal_to_noise(bound, num):
        """The encoder's answer is a leaf of its own for each of many copies of the image."""
        answer = [each.expand(runs, -1).clone().requires_grad_() for each in (mu, log_var)]
        copies = Answered(model, answer)
        value = bound(copies, x.repeat(runs, 1), num, seeded())
        gradient, = torch.autograd.grad(value.sum(), answer[0])
        return (gradient.mean() / gradient.std()).abs()

    assert signal_to_noise(iwae_bound, 32) < 0.5 * signal_to_noise(iwae_bound, 1)
    calm = [signal_to_noise(doubly_reparameterized_bound, num) for num in (1, 32)]
    assert calm[1] > 2 * calm[0]


class Answered:
    """A model whose encoder gives these answers."""

    def __init__(self, model, answer):
        self.answer, self.log_px_z, self.log_pz = answer, model.log_px_z, model.log_pz

    def encode(self, x):
        return self.answer


def test_subsets_average_to_the_whole():
    """The step of the proof: a mean of logs over all subsets lies below the log of the mean."""
    log_weights = torch.randn(6, generator=seeded(), dtype=torch.float64)
    whole = log_weights.logsumexp(dim=0) - math.log(6)
    subsets = torch.tensor(list(itertools.combinations(range(6), 4)))
    parts = log_weights[subsets].logsumexp(dim=1) - math.log(4)
    torch.testing.assert_close(parts.exp().mean().log(), whole)
    assert parts.mean() < whole


# The stored run


def test_the_stored_runs_are_whole():
    for result in published_runs():
        assert result["num_samples"] in (1, 5, 50)
        assert 1 <= result["epochs"] <= 3280
        assert 60 < result["nll"] < result["negative_elbo"]
        assert 0 < result["nll_standard_error"] < 1
        assert 0 <= result["active_units"] <= result["settings"]["latent_dim"]
        assert result["training_seconds"] > 0
        assert {"device", "torch", "date"} <= set(result)


def test_the_stored_runs_come_in_order_of_k_and_of_epochs(tmp_path, monkeypatch):
    stored = [(50, 1), (5, 40), (5, 13), (1, 3280)]
    text = json.dumps([{"num_samples": k, "epochs": epochs} for k, epochs in stored])
    (tmp_path / "published_iwae.json").write_text(text)
    monkeypatch.setattr(iwae, "__file__", str(tmp_path / "iwae.py"))
    ordered = [(run["num_samples"], run["epochs"]) for run in published_runs()]
    assert ordered == [(1, 3280), (5, 13), (5, 40), (50, 1)]
