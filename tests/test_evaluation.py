"""Estimates of log p(x), judged by a model whose log p(x) is known exactly."""

import math

import pytest
import torch

from vae_lessons import evaluation
from vae_lessons.evaluation import (
    active_units,
    cut_in_four,
    log_joint_on_grid,
    log_marginal_from_prior,
    log_marginal_likelihood,
    log_marginal_on_grid,
    log_marginal_refined,
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
