"""Ranks by counting pairs, intervals by coverage, densities by their sum, thresholds by trials."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MultivariateNormal, Normal

from vae_lessons import anomaly_detection
from vae_lessons.anomaly_detection import (
    Costs,
    Detector,
    Mixture,
    StrokeModel,
    auroc,
    bootstrap_counts,
    costs,
    fit_detector,
    fit_mixture,
    fit_strokes,
    middle,
    normal_vae,
    share_interval,
    threshold_for,
)
from vae_lessons.data import Digits, as_vectors
from vae_lessons.elbo import elbo_terms
from vae_lessons.evaluation import log_marginal_likelihood
from vae_lessons.training import fit
from vae_lessons.vae import VAE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs_won(scores, is_anomaly):
    """AUROC by the definition: every anomaly against every normal image."""
    won = [1.0 if a > n else 0.5 if a == n else 0.0
           for a in scores[is_anomaly].tolist() for n in scores[~is_anomaly].tolist()]
    return sum(won) / len(won)


# Ranks


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("num_anomalies", [1, 7, 29])
def test_auroc_counts_pairs(levels, num_anomalies):
    scores = torch.randint(levels, (30,), generator=seeded(levels)).float()
    is_anomaly = torch.randperm(30, generator=seeded()) < num_anomalies
    assert auroc(scores, is_anomaly).item() == pytest.approx(pairs_won(scores, is_anomaly))


def test_auroc_of_the_extremes():
    is_anomaly = torch.tensor([False, False, True, True])
    assert auroc(torch.tensor([1.0, 2.0, 3.0, 4.0]), is_anomaly) == 1
    assert auroc(torch.tensor([3.0, 4.0, 1.0, 2.0]), is_anomaly) == 0
    assert auroc(torch.full((4,), 7.0), is_anomaly) == 0.5
    assert auroc(torch.tensor([-math.inf, 0.0, 1.0, math.inf]), is_anomaly) == 1


def test_auroc_sees_the_order_alone_and_the_sign():
    scores, is_anomaly = torch.randn(50, generator=seeded()), torch.arange(50) < 20
    assert auroc(scores.exp() * 3, is_anomaly) == auroc(scores, is_anomaly)
    assert auroc(-scores, is_anomaly).item() == pytest.approx(1 - auroc(scores, is_anomaly).item())


def test_auroc_with_counts_is_that_of_the_repeated_images():
    scores = torch.randint(6, (25,), generator=seeded()).float()
    is_anomaly = torch.arange(25) % 3 == 0
    counts = torch.randint(4, (5, 25), generator=seeded(1))
    areas = auroc(scores, is_anomaly, counts)
    assert areas.shape == (5,)
    for row, area in zip(counts, areas):
        many = scores.repeat_interleave(row), is_anomaly.repeat_interleave(row)
        assert area.item() == pytest.approx(pairs_won(*many))


def test_auroc_refuses():
    scores, is_anomaly = torch.arange(4.0), torch.arange(4) < 2
    with pytest.raises(ValueError, match="one number and one bool"):
        auroc(scores[:3], is_anomaly)
    with pytest.raises(ValueError, match="one number and one bool"):
        auroc(scores, is_anomaly.long())
    with pytest.raises(ValueError, match="1 scores are NaN"):
        auroc(torch.tensor([0.0, 1.0, math.nan, 2.0]), is_anomaly)
    with pytest.raises(ValueError, match=r"\(R, 4\) is wanted"):
        auroc(scores, is_anomaly, torch.ones(3, 5))
    for everyone in (torch.zeros(4), torch.ones(4)):
        with pytest.raises(ValueError, match="at least one anomaly and one normal"):
            auroc(scores, everyone.bool())


# Intervals


def test_bootstrap_counts_keep_the_size_of_each_stratum():
    strata = torch.tensor([5, 5, 2, 5, 2, 9])
    counts = bootstrap_counts(strata, 40, seeded())
    assert counts.shape == (40, 6)
    for stratum, size in [(5, 3), (2, 2), (9, 1)]:
        assert (counts[:, strata == stratum].sum(dim=1) == size).all()


def test_bootstrap_counts_are_multinomial():
    """Mean 1 and variance 1 - 1 / n for each image of a stratum of n."""
    counts = bootstrap_counts(torch.zeros(10, dtype=torch.int64), 20_000, seeded())
    assert ((counts.mean(dim=0) - 1).abs() < 6 * (0.9 / 20_000) ** 0.5).all()
    assert ((counts.var(dim=0) - 0.9).abs() < 0.1).all()
    again = bootstrap_counts(torch.zeros(10, dtype=torch.int64), 20_000, seeded())
    assert again.equal(counts), "the generator decides"


def test_the_interval_covers_a_known_area():
    """Anomalies N(1, 1) among normal N(0, 1): the area is Phi(1 / sqrt 2)."""
    truth = Normal(0.0, 1.0).cdf(torch.tensor(2**-0.5)).item()
    is_anomaly, generator, trials = torch.arange(120) < 60, seeded(), 400
    covered = 0
    for _ in range(trials):
        scores = torch.randn(120, generator=generator) + is_anomaly
        counts = bootstrap_counts(is_anomaly, 200, generator)
        low, high = middle(auroc(scores, is_anomaly, counts))
        covered += low < truth < high
    error = (0.95 * 0.05 / trials) ** 0.5
    assert abs(covered / trials - 0.95) < 5 * error


def test_middle():
    values = torch.arange(101.0)[torch.randperm(101, generator=seeded())]
    assert middle(values, 0.9) == pytest.approx((5, 95))
    assert middle(values) == pytest.approx((2.5, 97.5))


def test_share_interval_solves_wilsons_equation():
    """Its ends are the p for which the share lies 1.96 standard errors away."""
    hits = torch.arange(200) < 13
    for p in share_interval(hits):
        assert abs(13 / 200 - p) == pytest.approx(1.96 * (p * (1 - p) / 200) ** 0.5)
    low, high = share_interval(torch.zeros(50, dtype=torch.bool))
    assert low == pytest.approx(0, abs=1e-12) and 0.05 < high < 0.1
    with pytest.raises(ValueError, match="nothing to take a share of"):
        share_interval(torch.zeros(0, dtype=torch.bool))


# Strokes


def pictures(num, side=6, seed=0):
    return (torch.rand(num, side * side, generator=seeded(seed)) < 0.4).float()


def test_a_stroke_model_is_a_probability_of_pictures():
    """Over all 512 pictures of 3 x 3 pixels it adds up to 1."""
    everything = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9)))
    for model in (fit_strokes(pictures(20)), StrokeModel(torch.randn(1024, generator=seeded()))):
        total = model.log_px(everything).double().exp().sum().item()
        assert total == pytest.approx(1, abs=1e-5)


def test_strokes_by_hand():
    """A pattern's share of ink is counted with a loop over pixels that reads line by line."""
    x, side = pictures(15), 6
    seen, inked = {}, {}
    def pattern_at(image, row, column):
        def pixel(up, left):
            r, c = row - up, column - left
            return int(image[r, c]) if 0 <= r < side and 0 <= c < side else 0
        places = [(0, 1), (0, 2), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2),
                  (2, -1), (2, 0), (2, 1)]
        return tuple(pixel(*place) for place in places)

    places = list(itertools.product(range(side), range(side)))
    images = x.view(-1, side, side)
    for image in images:
        for row, column in places:
            pattern = pattern_at(image, row, column)
            seen[pattern] = seen.get(pattern, 0) + 1
            inked[pattern] = inked.get(pattern, 0) + int(image[row, column])
    wanted = []
    for image in images[:3]:
        total = 0.0
        for row, column in places:
            pattern = pattern_at(image, row, column)
            ink = (inked[pattern] + 0.5) / (seen[pattern] + 1)
            total += math.log(ink if image[row, column] else 1 - ink)
        wanted.append(total)
    torch.testing.assert_close(fit_strokes(x).log_px(x[:3]), torch.tensor(wanted))


def test_strokes_never_seen_cost_an_even_coin():
    blank = fit_strokes(torch.zeros(4, 9))
    assert blank.log_odds_of_ink.shape == (1024,)
    assert blank.log_odds_of_ink[1:].abs().max() < 1e-6
    assert blank.log_px(torch.zeros(0, 9)).shape == (0,)
    assert blank.log_px(torch.zeros(1, 9)).shape == (1,)


def test_strokes_refuse_grey_and_what_is_no_square():
    with pytest.raises(ValueError, match="pixels 0 and 1"):
        fit_strokes(torch.full((2, 9), 0.5))
    with pytest.raises(ValueError, match=r"x has shape \(2, 10\)"):
        fit_strokes(torch.zeros(2, 10))
    with pytest.raises(ValueError, match="wanted are values in"):
        fit_strokes(torch.full((2, 9), 2.0))


# Mixtures


def a_mixture():
    torch.manual_seed(0)
    roots = torch.eye(2) + 0.3 * torch.randn(3, 2, 2).tril()
    return Mixture(torch.tensor([0.5, 0.2, 0.3]).log(), 4 * torch.randn(3, 2), roots @ roots.mT)


def test_mixture_against_torch_distributions():
    mixture, z = a_mixture(), 5 * torch.randn(9, 2, generator=seeded())
    parts = MultivariateNormal(mixture.means, mixture.covariances).log_prob(z[:, None])
    wanted = parts + mixture.log_weights
    torch.testing.assert_close(mixture.log_joint(z), wanted)
    torch.testing.assert_close(mixture.log_density(z), wanted.logsumexp(dim=1))
    assert mixture.log_density(z[:0]).shape == (0,)


def test_mixture_integrates_to_one():
    axis = torch.arange(-25, 25, 0.1)
    total = a_mixture().log_density(torch.cartesian_prod(axis, axis)).exp().sum() * 0.01
    assert total.item() == pytest.approx(1, abs=1e-3)


def drawn_from(mixture, num):
    torch.manual_seed(1)
    whose = Categorical(logits=mixture.log_weights).sample((num,))
    return MultivariateNormal(mixture.means, mixture.covariances).sample((num,))[
        torch.arange(num), whose
    ]


def test_fit_mixture_finds_what_the_points_were_drawn_from():
    truth = Mixture(torch.tensor([0.7, 0.3]).log(), torch.tensor([[-4.0, 0.0], [4.0, 1.0]]),
                    torch.tensor([[[1.0, 0.5], [0.5, 2.0]], [[0.5, 0.0], [0.0, 0.5]]]))
    found = fit_mixture(drawn_from(truth, 20_000), 2, floor=1e-6, generator=seeded())
    order = found.means[:, 0].argsort()
    torch.testing.assert_close(found.log_weights[order].exp(), truth.log_weights.exp(),
                               rtol=0, atol=0.02)
    torch.testing.assert_close(found.means[order], truth.means, rtol=0, atol=0.06)
    torch.testing.assert_close(found.covariances[order], truth.covariances, rtol=0, atol=0.1)


def test_each_step_of_the_fit_raises_the_likelihood():
    z = drawn_from(a_mixture(), 500)
    likelihoods = [fit_mixture(z, 3, steps=steps, floor=0.0, generator=seeded()).log_density(z)
                   .mean().item() for steps in range(8)]
    assert all(later > earlier - 1e-6 for earlier, later in itertools.pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0] + 0.1


def test_a_mixture_of_one_is_the_gaussian_with_their_mean_and_covariance():
    z = drawn_from(a_mixture(), 300)
    found = fit_mixture(z, 1, steps=3, floor=0.25)
    torch.testing.assert_close(found.means[0], z.mean(dim=0))
    wanted = torch.cov(z.T, correction=0) + 0.25 * torch.eye(2)
    torch.testing.assert_close(found.covariances[0], wanted)
    assert found.log_weights.item() == pytest.approx(0, abs=1e-6)


def test_the_floor_keeps_equal_points_apart_from_infinity():
    found = fit_mixture(torch.ones(5, 2), 2, generator=seeded())
    assert found.log_density(torch.ones(1, 2)).isfinite().all()
    assert fit_mixture(torch.randn(30, 1), 2).covariances.shape == (2, 1, 1)


@pytest.mark.parametrize("num", [0, 6])
def test_fit_mixture_refuses(num):
    with pytest.raises(ValueError, match=f"num_gaussians is {num} for 5 points"):
        fit_mixture(torch.randn(5, 2), num)


# Thresholds


def test_threshold_is_an_order_statistic():
    scores = torch.randperm(19, generator=seeded()).float() + 1
    assert threshold_for(scores, 0.05) == 19  # ceil(20 * 0.95)
    assert threshold_for(scores, 0.10) == 18
    assert threshold_for(scores, 0.12) == 18  # ceil(17.6)
    assert threshold_for(torch.arange(99.0), 0.45) == 54  # the 55th, though 100 * 0.55 is above 55


@pytest.mark.parametrize("num, share", [(19, 0.05), (30, 0.05), (99, 0.2)])
def test_the_promise_is_kept_on_average(num, share):
    """P(a new score exceeds it) = 1 - place / (n + 1): at most the share, by less than 1/(n+1)."""
    trials = 20_000
    scores = torch.rand(trials, num + 1, generator=seeded())
    alarms = [new > threshold_for(row, share) for new, row in
              zip(scores[:, -1].tolist(), scores[:, :-1])]
    place = math.ceil((num + 1) * (1 - share) - 1e-9)
    wanted = 1 - place / (num + 1)
    assert share - 1 / (num + 1) < wanted <= share + 1e-12
    rate = sum(alarms) / trials
    assert abs(rate - wanted) < 5 * (wanted * (1 - wanted) / trials) ** 0.5


@pytest.mark.parametrize("num, share", [(18, 0.05), (0, 0.5), (10, 0.0), (10, 1.0)])
def test_too_few_scores_can_promise_nothing(num, share):
    with pytest.raises(ValueError, match=f"{num} normal scores can't promise"):
        threshold_for(torch.arange(float(num)), share)


# The model


def small_digits(num, side=4, seed=0):
    shape = (num, side, side)
    images = torch.randint(0, 256, shape, generator=seeded(seed), dtype=torch.uint8)
    return Digits(images, torch.zeros(num, dtype=torch.int64), "noise")


def test_normal_vae_is_trained_once_and_frozen(tmp_path, monkeypatch):
    calls = []

    def recorded(model, x, objective, *, epochs, **options):
        calls.append((x, epochs, options["test_images"]))
        return fit(model, x, objective, epochs=1, **options)

    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path))
    monkeypatch.setattr(anomaly_detection, "fit", recorded)
    normal, aside = small_digits(3_000), small_digits(10, seed=1)
    models = [normal_vae(normal, aside, "noise") for _ in range(2)]
    (x, epochs, aside_x), = calls
    assert x.equal(as_vectors(normal.images)) and aside_x.equal(as_vectors(aside.images))
    assert epochs == 16, "as many as make 48,000 images"
    for first, second in zip(*(model.parameters() for model in models)):
        assert first.equal(second) and not first.requires_grad


def small_vae(pixels=16):
    torch.manual_seed(0)
    return VAE(pixels, 9, 3, activation=nn.Tanh).requires_grad_(False)


def test_costs_against_the_package_with_the_same_draws():
    model, x = small_vae(), pictures(7, side=4)
    found = costs(model, x, 5, seeded())
    assert isinstance(found, Costs)
    terms = elbo_terms(model, x.repeat(5, 1), seeded())
    torch.testing.assert_close(found.reconstruction, -terms.reconstruction.view(5, 7).mean(dim=0))
    torch.testing.assert_close(found.kl, terms.kl[:7])
    torch.testing.assert_close(found.negative_elbo, found.reconstruction + found.kl)
    bound = log_marginal_likelihood(model, x, 5, seeded())
    torch.testing.assert_close(found.negative_log_px, -bound)


def test_costs_in_batches_agree_within_their_noise():
    """2,000 rows at once are 4 images with 500 draws; 7 images make two batches."""
    model, x = small_vae(), pictures(7, side=4)
    many, few = costs(model, x, 500, seeded()), costs(model, x, 200, seeded(1))
    assert (many.negative_elbo - few.negative_elbo).abs().max() < 1
    assert (many.negative_log_px < many.negative_elbo + 0.5).all()
    assert many.kl.equal(few.kl)
    for num in (0, 1):
        assert [part.shape for part in costs(model, x[:num])] == [(num,)] * 3
    with pytest.raises(ValueError, match="num_samples is 0"):
        costs(model, x, 0)
    with pytest.raises(ValueError, match="wanted are values in"):
        costs(model, 2 * x)


def test_detector_by_hand():
    model, x, aside = small_vae(), pictures(450, side=4), pictures(80, side=4, seed=1)
    detector = fit_detector(model, x, aside, seeded())
    assert isinstance(detector, Detector)
    assert detector.codes.means.shape == (2, 3), "one for every 200"
    new = pictures(5, side=4, seed=2)

    def by_hand(images, generator):
        dear = costs(model, images, generator=generator).negative_elbo
        codes = fit_mixture(model.encode(x)[0], 2, generator=seeded())
        return dear / -fit_strokes(x).log_px(images), -codes.log_density(model.encode(images)[0])

    generator = seeded()
    torch.randperm(len(x), generator=generator)  # what the mixture took
    spread = by_hand(aside, generator)
    wanted = sum((opinion - known.mean()) / known.std()
                 for opinion, known in zip(by_hand(new, seeded(3)), spread))
    torch.testing.assert_close(detector.score(new, seeded(3)), wanted, rtol=1e-4, atol=1e-4)
    assert detector.score(new[:0]).shape == (0,) and detector.score(new[:1]).shape == (1,)
    assert detector.score(aside, seeded()).mean().abs() < 0.1


def test_detector_finds_what_does_not_belong():
    """Normal: a bar in the left half of the picture. Strange: the same bar in the right half."""
    def bars(num, columns, seed):
        images = torch.zeros(num, 6, 6)
        chosen = torch.randint(len(columns), (num,), generator=seeded(seed))
        images[torch.arange(num), :, torch.tensor(columns)[chosen]] = 1
        return images.flatten(1)

    torch.manual_seed(0)
    model, normal = VAE(36, 20, 2), bars(400, [0, 1, 2], 0)
    fit(model, normal, elbo_terms, epochs=40, learning_rate=1e-2)
    model.requires_grad_(False)
    detector = fit_detector(model, normal, bars(50, [0, 1, 2], 1), seeded())
    both = torch.cat([bars(20, [0, 1, 2], 2), bars(20, [3, 4, 5], 3)])
    assert auroc(detector.score(both, seeded()), torch.arange(40) >= 20) > 0.95


@pytest.mark.parametrize("num, num_aside", [(199, 50), (300, 1)])
def test_detector_refuses_too_few(num, num_aside):
    with pytest.raises(ValueError, match=f"{num} images and {num_aside} aside"):
        fit_detector(small_vae(), pictures(num, side=4), pictures(num_aside, side=4))
