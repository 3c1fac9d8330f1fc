"""Estimates of log p(x), judged by a model whose log p(x) is known exactly."""

import math

import pytest
import torch

from vae_lessons import evaluation
from vae_lessons.evaluation import (
    Settled,
    active_units,
    best_gaussian,
    cut_in_four,
    gaussian_elbo,
    log_joint_on_grid,
    log_marginal_from_prior,
    log_marginal_likelihood,
    log_marginal_on_grid,
    log_marginal_refined,
    log_marginal_settled,
    plane_grid,
)
from vae_lessons.linear_gaussian import LinearGaussian
from vae_lessons.vae import VAE

D, L = 4, 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(num=3, dtype=torch.float64):
    return torch.rand(num, D, generator=seeded(), dtype=dtype)


def rough_model(dtype=torch.float64):
    """A decoder with some structure, and an encoder that is too wide and off the centre."""
    torch.manual_seed(0)
    model = LinearGaussian(D, L, dtype)
    with torch.no_grad():
        model.weight.normal_(std=0.5)
        model.bias.fill_(0.4)
        model.log_var.fill_(-1.5)
        model.encoder_weight.normal_(std=0.3)
        model.encoder_log_var.fill_(-0.5)
    return model


def exact_encoder_model():
    """A model whose encoder is the exact posterior, so that all weights are alike."""
    model = rough_model()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.qr(model.weight).Q)
    model.use_exact_posterior()
    return model


class Counting:
    """A model whose k-th draw of example b has the log weight k + 10 b."""

    def __init__(self, num_examples):
        self.num_examples, self.drawn, self.rows = num_examples, 0, []

    def sample_posterior(self, x, generator=None):
        self.rows.append(len(x))
        copies = len(x) // self.num_examples
        k = torch.arange(self.drawn, self.drawn + copies, dtype=x.dtype)
        self.drawn += copies
        assert x.equal(x[: self.num_examples].repeat(copies, 1))
        b = torch.arange(self.num_examples, dtype=x.dtype)
        return (k[:, None] + 10 * b).flatten(), torch.full((len(x),), 2.0)

    def log_px_z(self, x, z):
        return z - 1.0

    def log_pz(self, z):
        return torch.full((len(z),), 3.0)


# Importance weighting


def test_with_the_exact_posterior_one_draw_is_enough():
    model, x = exact_encoder_model(), pixels()
    for num_samples in (1, 2, 50):
        value = log_marginal_likelihood(model, x, num_samples)
        torch.testing.assert_close(value, model.log_px(x).detach(), rtol=0, atol=1e-10)


def test_converges_to_log_px():
    model, x = rough_model(), pixels()
    value = log_marginal_likelihood(model, x, 200_000, seeded())
    assert (value - model.log_px(x)).abs().max() < 0.01


def test_is_the_log_of_the_mean_weight_and_above_the_elbo_of_the_same_draws():
    """The bound of Jensen holds for every set of draws, without any tolerance."""
    model, x = rough_model(), pixels()
    with torch.no_grad():
        for seed in range(10):
            many = x.repeat(50, 1)
            z, log_qz_x = model.sample_posterior(many, seeded(seed))
            log_weights = model.log_px_z(many, z) + model.log_pz(z) - log_qz_x
            log_weights = log_weights.view(50, 3)
            value = log_marginal_likelihood(model, x, 50, seeded(seed))
            torch.testing.assert_close(value, log_weights.exp().mean(dim=0).log())
            assert (value >= log_weights.mean(dim=0)).all()


def test_never_exceeds_log_px_on_average_and_rises_with_more_samples():
    model, x, repeats = rough_model(), pixels(1), 4000
    exact, before = model.log_px(x).item(), model.analytic_elbo(x).item()
    for num_samples in (1, 4, 16):
        values = log_marginal_likelihood(model, x.repeat(repeats, 1), num_samples, seeded())
        mean, error = values.mean().item(), values.std().item() / repeats**0.5
        assert mean < exact + 6 * error
        assert mean > before - 6 * error
        before = mean
    assert mean > model.analytic_elbo(x).item() + 6 * error, "it is no ELBO under another name"


@pytest.mark.parametrize("rows_at_once", [1, 7, 20_000])
def test_chunks_cover_every_sample_once(monkeypatch, rows_at_once):
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", rows_at_once)
    model, x = Counting(3), pixels()
    value = log_marginal_likelihood(model, x, 5)
    one = math.log(sum(math.exp(k) for k in range(5)) / 5)
    wanted = torch.tensor([one, one + 10, one + 20], dtype=torch.float64)
    torch.testing.assert_close(value, wanted)
    assert model.drawn == 5
    assert max(model.rows) <= max(3, rows_at_once)


def test_the_generator_decides():
    model, x = rough_model(), pixels()
    first, again, other = (log_marginal_likelihood(model, x, 5, seeded(s)) for s in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)


def test_huge_weights_do_not_overflow():
    class Unlikely(Counting):
        def log_px_z(self, x, z):
            return z - 5000.0

    value = log_marginal_likelihood(Unlikely(1), pixels(1), 5)
    assert value.item() == pytest.approx(math.log(sum(map(math.exp, range(5))) / 5) - 4999)


# The naive estimate


def test_from_prior_converges_to_log_px():
    model, x = rough_model(), pixels()
    value = log_marginal_from_prior(model, x, 200_000, L, seeded())
    assert (value - model.log_px(x)).abs().max() < 0.03


def test_from_prior_is_the_log_of_the_mean_likelihood_of_prior_draws():
    model, x = rough_model(), pixels()
    value = log_marginal_from_prior(model, x, 6, L, seeded(1))
    z = torch.randn(18, L, generator=seeded(1), dtype=torch.float64)
    likelihoods = model.log_px_z(x.repeat(6, 1), z).view(6, 3).exp()
    torch.testing.assert_close(value, likelihoods.mean(dim=0).log())


# The grid


def test_plane_grid_by_hand():
    wanted = [[-1, -1], [0, -1], [1, -1], [-1, 0], [0, 0], [1, 0], [-1, 1], [0, 1], [1, 1]]
    assert plane_grid(1.0, 1.0).tolist() == wanted


@pytest.mark.parametrize(("half_width", "step"), [(6.0, 0.05), (6.0, 0.07), (1.0, 3.0)])
def test_plane_grid_is_centred_and_has_the_step_it_is_asked_for(half_width, step):
    axis = plane_grid(half_width, step)[:, 0].unique()
    assert axis.mean().item() == pytest.approx(0, abs=1e-6)
    assert (axis.diff() - step).abs().max() < 1e-5 if len(axis) > 1 else axis.item() == 0
    assert abs(axis.max().item() - half_width) <= step / 2 or len(axis) == 1


@pytest.mark.parametrize(("half_width", "step"), [(0, 0.1), (6, 0), (-1, 0.1), (6, -0.1),
                                                  (math.nan, 0.1), (6, math.nan)])
def test_plane_grid_refuses(half_width, step):
    with pytest.raises(ValueError, match=f"half_width {half_width} and step {step}"):
        plane_grid(half_width, step)


@pytest.mark.parametrize("rows_at_once", [2, 20_000])
def test_joint_on_grid_by_a_loop(monkeypatch, rows_at_once):
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", rows_at_once)
    model, x = rough_model(), pixels()
    z = torch.randn(7, L, generator=seeded(), dtype=torch.float64)
    joint = log_joint_on_grid(model, x, z)
    assert joint.shape == (3, 7)
    for b in range(3):
        for g in range(7):
            at, where = x[b : b + 1], z[g : g + 1]
            wanted = model.log_px_z(at, where) + model.log_pz(where)
            assert joint[b, g].item() == pytest.approx(wanted.item(), abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
@pytest.mark.parametrize("step", [0.1, 0.07, 0.23])
def test_marginal_on_grid_is_exact(dtype, tolerance, step):
    model, x = rough_model(dtype), pixels(dtype=dtype)
    value = log_marginal_on_grid(model, x, step=step)
    assert value.dtype == torch.float64
    assert (value - model.log_px(x)).abs().max() < tolerance


def test_marginal_on_grid_agrees_with_importance_weighting_for_a_vae():
    torch.manual_seed(0)
    model, x = VAE(D, 8, 2), pixels(dtype=torch.float32)
    value = log_marginal_on_grid(model, x, step=0.1)
    estimate = log_marginal_likelihood(model, x, 50_000, seeded())
    assert (value - estimate).abs().max() < 0.02


# What all of them share

ESTIMATES = {
    "importance weighted": lambda model, x: log_marginal_likelihood(model, x, 4),
    "from the prior": lambda model, x: log_marginal_from_prior(model, x, 4, L),
    "on a grid": lambda model, x: log_marginal_on_grid(model, x, step=1.0),
    "refined": lambda model, x: log_marginal_refined(model, x, step=1.0, halvings=2),
    "settled": lambda model, x: log_marginal_settled(model, x, step=1.0).log_px,
}


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("num", [0, 1, 3])
def test_one_value_for_each_example_and_no_gradient(name, num):
    value = ESTIMATES[name](rough_model(), pixels(num))
    assert value.shape == (num,)
    assert not value.requires_grad


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize(("x", "message"), [
    (torch.zeros(2, D, dtype=torch.uint8), r"uint8 of shape \(2, 4\)"),
    (torch.zeros(D), r"of shape \(4,\)"),
    (torch.full((2, D), math.nan), "8 NaN"),
    (torch.full((2, D), 1.5), "from 1.5 to 1.5"),
    (torch.full((2, D), -0.1), "from -0.1 to -0.1"),
])
def test_refuses_what_are_no_pixels(name, x, message):
    with pytest.raises(ValueError, match=message):
        ESTIMATES[name](rough_model(torch.float32), x)


@pytest.mark.parametrize("num_samples", [0, -1])
def test_refuses_no_samples(num_samples):
    for estimate in (lambda *given: log_marginal_likelihood(*given, num_samples),
                     lambda *given: log_marginal_from_prior(*given, num_samples, L)):
        with pytest.raises(ValueError, match=f"num_samples is {num_samples}: at least one"):
            estimate(rough_model(), pixels())


def test_keeps_the_type_of_the_pixels():
    x = pixels(dtype=torch.float32)
    assert log_marginal_likelihood(rough_model(torch.float32), x, 2).dtype == torch.float32


# Refinement


def test_cut_in_four_by_hand():
    centres = torch.tensor([[0.0, 1.0], [10.0, 20.0]])
    wanted = [[-1, 0], [1, 0], [-1, 2], [1, 2], [9, 19], [11, 19], [9, 21], [11, 21]]
    assert cut_in_four(centres, 4.0).tolist() == wanted


@pytest.mark.parametrize("noise", [-1.5, -6.0, -7.0])
def test_refined_is_exact_for_posteriors_far_narrower_than_the_first_grid(noise):
    model, x = rough_model(), pixels()
    with torch.no_grad():
        model.log_var.fill_(noise)
    assert (log_marginal_refined(model, x) - model.log_px(x)).abs().max() < 1e-6


def test_refined_with_no_halving_is_the_even_grid():
    model, x = rough_model(), pixels()
    even = log_marginal_on_grid(model, x, step=0.3)
    torch.testing.assert_close(log_marginal_refined(model, x, step=0.3, halvings=0), even)


def test_refined_halves_its_squares_as_often_as_it_is_asked(monkeypatch):
    sides = []

    def noting(centres, side):
        sides.append(side)
        return cut_in_four(centres, side)

    monkeypatch.setattr(evaluation, "cut_in_four", noting)
    log_marginal_refined(rough_model(), pixels(1), step=0.4, halvings=3)
    assert sides == [0.4, 0.2, 0.1]


# Halving until it moves no more


@pytest.mark.parametrize("noise", [-1.5, -4.0, -7.0])
def test_settled_is_exact_and_says_so(noise):
    model, x = rough_model(), pixels()
    with torch.no_grad():
        model.log_var.fill_(noise)
    settled = log_marginal_settled(model, x)
    assert isinstance(settled, Settled)
    error = (settled.log_px - model.log_px(x)).abs()
    assert (error <= settled.moved + 1e-6).all() and (settled.moved < 1e-4).all()


def test_settled_stops_at_the_first_small_move_from_the_second_halving_on():
    model, x = rough_model(), pixels()
    with torch.no_grad():
        model.log_var.fill_(-8.0)
    values = torch.stack([log_marginal_refined(model, x, halvings=h) for h in range(7)], dim=1)
    moves = values.diff(dim=1).abs()
    settled = log_marginal_settled(model, x, tolerance=1e-3)
    for b in range(len(x)):
        last = next(h for h in range(2, 7) if moves[b, h - 1] < 1e-3)
        assert settled.side[b].item() == pytest.approx(0.2 / 2**last)
        assert settled.log_px[b].item() == values[b, last].item()
        assert settled.moved[b].item() == pytest.approx(moves[b, last - 1].item(), abs=1e-12)


def test_settled_gives_up_after_as_many_halvings_as_it_is_allowed():
    settled = log_marginal_settled(rough_model(), pixels(), tolerance=0.0, most_halvings=3)
    assert (settled.side - 0.025).abs().max() < 1e-12


def test_settled_halves_twice_whatever_the_tolerance():
    settled = log_marginal_settled(rough_model(), pixels(), tolerance=1e9)
    assert (settled.side - 0.05).abs().max() < 1e-12


def test_settled_gives_each_image_squares_of_its_own():
    narrow_and_wide = NarrowWhereThereIsInk()
    settled = log_marginal_settled(narrow_and_wide, torch.tensor([[0.0], [1.0]]).double())
    assert settled.side[1] < settled.side[0]
    assert settled.log_px.abs().max() < 1e-6


class NarrowWhereThereIsInk:
    """p(x, z) is a Gaussian of z alone, so log p(x) is 0; its width depends on the pixel."""

    def log_pz(self, z):
        return torch.zeros(len(z), dtype=z.dtype)

    def log_px_z(self, x, z):
        width = torch.where(x > 0.5, 0.02, 1.0)
        return torch.distributions.Normal(0.05 * x, width).log_prob(z).sum(dim=1)


# A Gaussian of its own for each image


def best_by_hand(model, x):
    """The diagonal Gaussian nearest to a Gaussian posterior: its mean, its conditional widths."""
    mean, covariance = model.exact_posterior(x)
    precision = torch.linalg.inv(covariance).diagonal()
    return mean.detach(), (-precision.log()).detach().expand_as(mean)


def exact_elbo(model, x, mu, log_var):
    """log p(x) less the KL to the posterior, by torch.distributions."""
    mean, covariance = model.exact_posterior(x)
    normal = torch.distributions.MultivariateNormal
    q, posterior = normal(mu, torch.diag_embed(log_var.exp())), normal(mean, covariance)
    return (model.log_px(x) - torch.distributions.kl_divergence(q, posterior)).detach()


@pytest.mark.parametrize("rows_at_once", [40, 20_000])
def test_gaussian_elbo_is_log_px_less_the_kl_to_the_posterior(monkeypatch, rows_at_once):
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", rows_at_once)
    model, x = rough_model(), pixels()
    mu, log_var = torch.full((3, L), 0.3).double(), torch.full((3, L), -1.0).double()
    with torch.no_grad():
        runs = [gaussian_elbo(model, x, mu, log_var, 50, seeded(seed)) for seed in range(400)]
    runs = torch.stack(runs)
    off = runs.mean(dim=0) - exact_elbo(model, x, mu, log_var)
    assert (off.abs() < 6 * runs.std(dim=0) / 400**0.5).all()


def test_gaussian_elbo_of_one_draw_is_reconstruction_less_kl():
    model, x = rough_model(), pixels()
    mu, log_var = model.encode(x)
    z = mu + (0.5 * log_var).exp() * torch.randn(3, L, generator=seeded(4), dtype=torch.float64)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mu, (0.5 * log_var).exp()), normal(0.0, 1.0))
    wanted = model.log_px_z(x, z) - kl.sum(dim=1)
    torch.testing.assert_close(gaussian_elbo(model, x, mu, log_var, 1, seeded(4)), wanted)


def test_gaussian_elbo_lets_gradients_through_every_chunk(monkeypatch):
    model, x = rough_model(), pixels()
    slopes = []
    for rows_at_once in (6, 20_000):
        monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", rows_at_once)
        mu = torch.zeros(3, L, dtype=torch.float64, requires_grad=True)
        log_var = torch.full_like(mu, -20.0)  # next to no noise, so that the draws do not matter
        slopes += torch.autograd.grad(gaussian_elbo(model, x, mu, log_var, 8).sum(), mu)
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-3)


def test_gaussian_elbo_refuses():
    model, x, mu = rough_model(), pixels(), torch.zeros(3, L, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"must be \(B, L\)"):
        gaussian_elbo(model, x, mu, mu[:, :1], 1)
    with pytest.raises(ValueError, match="2 images but 3 Gaussians"):
        gaussian_elbo(model, x[:2], mu, mu, 1)
    with pytest.raises(ValueError, match="num_samples is 0: at least one"):
        gaussian_elbo(model, x, mu, mu, 0)


@pytest.mark.parametrize("given", [False, True])
def test_best_gaussian_is_that_of_the_closed_form(given):
    """From the encoder, and from a start of one's own."""
    model, x = rough_model(), pixels()
    start = (torch.full((3, L), 2.0).double(), torch.full((3, L), -3.0).double())
    mu, log_var = best_gaussian(
        model, x, start if given else None, steps=400, num_samples=50, generator=seeded()
    )
    wanted_mu, wanted_log_var = best_by_hand(model, x)
    torch.testing.assert_close(mu, wanted_mu, rtol=0, atol=0.03)
    torch.testing.assert_close(log_var, wanted_log_var, rtol=0, atol=0.08)
    best = exact_elbo(model, x, wanted_mu, wanted_log_var)
    reached = exact_elbo(model, x, mu, log_var)
    assert (best - reached).max() < 1e-3
    assert (reached > exact_elbo(model, x, *model.encode(x))).all()
    assert (model.log_px(x) - best).min() > 0.01, "the posterior is tilted: a gap must stay"


def test_best_gaussian_leaves_the_model_and_the_start_alone():
    model, x = rough_model(), pixels()
    before = [parameter.clone() for parameter in model.parameters()]
    start = tuple(part.detach().clone() for part in model.encode(x))
    kept = [part.clone() for part in start]
    best_gaussian(model, x, start, steps=3)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert parameter.equal(old) and parameter.grad is None
    assert start[0].equal(kept[0]) and start[1].equal(kept[1])


def test_best_gaussian_begins_at_the_encoder_or_at_the_start():
    model, x = rough_model(), pixels()
    torch.testing.assert_close(best_gaussian(model, x, steps=0), model.encode(x))
    start = (torch.ones(3, L).double(), torch.zeros(3, L).double())
    torch.testing.assert_close(best_gaussian(model, x, start, steps=0), start)


@pytest.mark.parametrize("num", [0, 1, 3])
def test_best_gaussian_gives_a_pair_for_each_image_and_no_gradient(num):
    parts = best_gaussian(rough_model(), pixels(num), steps=2)
    assert [part.shape for part in parts] == [(num, L), (num, L)]
    assert not any(part.requires_grad for part in parts)


def test_best_gaussian_refuses_what_are_no_pixels_and_follows_its_generator():
    model, x = rough_model(), pixels()
    with pytest.raises(ValueError, match="Divide by 255"):
        best_gaussian(model, 255 * x)
    first, again, other = (best_gaussian(model, x, steps=2, generator=seeded(s))[0]
                           for s in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)


# Active units


class Centres:
    """An encoder whose centres are the pixels themselves, scaled."""

    def __init__(self, scale):
        self.scale = torch.tensor(scale, dtype=torch.float64)

    def encode(self, x):
        return x * self.scale, torch.zeros_like(x)


def test_active_units_are_those_whose_centre_varies():
    x = torch.tensor([[0.0, 0.0, 0.5, 0.0], [1.0, 1.0, 0.5, 1.0]], dtype=torch.float64)
    # the variance of 0 and a is a^2 / 2
    scale = [1.0, 0.1, 100.0, 0.2]
    assert active_units(Centres(scale), x).tolist() == [True, False, False, True]
    assert active_units(Centres(scale), x, threshold=0.1).tolist() == [True, False, False, False]


def test_active_units_refuses_one_image_and_grey_values():
    with pytest.raises(ValueError, match="got 1 images"):
        active_units(Centres([1.0] * D), pixels(1))
    with pytest.raises(ValueError, match="Divide by 255"):
        active_units(Centres([1.0] * D), 255 * pixels())
