"""The training loop: what it computes, what it reaches, what it refuses."""

import math

import pytest
import torch
from torch import nn

from vae_lessons import training
from vae_lessons.data import binarize
from vae_lessons.elbo import elbo, elbo_terms
from vae_lessons.kl import kl_to_standard_normal
from vae_lessons.likelihoods import bernoulli_log_likelihood
from vae_lessons.linear_gaussian import LinearGaussian, ppca_optimum
from vae_lessons.training import (
    Epoch,
    constant,
    cosine,
    fit,
    history_line,
    history_tables,
    matmul_precision,
    mean_and_error,
    per_image,
    warm_up,
)
from vae_lessons.vae import VAE

D = 6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(num=20, seed=10):
    """Not of seed 0, with which ``fit`` would draw the very same numbers to binarise them."""
    return torch.rand(num, D, generator=seeded(seed))


def small_vae():
    torch.manual_seed(0)
    return VAE(D, 5, 2)


def values(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def without_seconds(history):
    return [epoch._replace(seconds=0.0) for epoch in history]


class Number(nn.Module):
    """A model that is one number, with objectives that note how they are called."""

    def __init__(self, start=0.0):
        super().__init__()
        self.number = nn.Parameter(torch.tensor(start))
        self.seen, self.modes, self.precisions = [], [], []

    def note(self, x):
        self.seen.append(x.clone())
        self.modes.append((self.training, torch.is_grad_enabled()))
        self.precisions.append(torch.get_float32_matmul_precision())

    def sums(self, model, x, generator):
        """The sum of the pixels, whatever the number is."""
        self.note(x)
        return x.sum(dim=1) + 0 * self.number

    def climb(self, model, x, generator):
        """Grows with the number for ever, so that Adam moves it by its learning rate."""
        self.note(x)
        return self.number.expand(len(x))

    def pull(self, model, x, generator):
        """One term pulls the number to 1, the other to 0."""
        self.note(x)
        return -(self.number - 1).square().expand(len(x)), self.number.square().expand(len(x))


# What it computes


@pytest.mark.parametrize("binarized", [False, True])
def test_equals_a_plain_loop(binarized):
    """The same shuffles, noise and steps, written out: the loss is the mean over the batch."""
    model, other, x = small_vae(), small_vae(), pixels(10)
    fit(model, x, elbo, epochs=3, batch_size=4, learning_rate=0.01, binarized=binarized, seed=7)
    optimizer, generator = torch.optim.Adam(other.parameters(), lr=0.01), seeded(7)
    for _ in range(3):
        order = torch.randperm(10, generator=generator)
        for chosen in (order[:4], order[4:8], order[8:]):
            batch = binarize(x[chosen], generator) if binarized else x[chosen]
            mu, log_var = other.encode(batch)
            z = mu + torch.exp(log_var / 2) * torch.randn(mu.shape, generator=generator)
            bound = bernoulli_log_likelihood(batch, other.decode(z))
            loss = -(bound - kl_to_standard_normal(mu, log_var)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(values(model), values(other), rtol=1e-4, atol=1e-6)
    assert (values(model) - values(small_vae())).abs().max() > 0.01


def test_history_of_a_pass():
    """Means over the images, not over the batches, of which the last may be smaller."""
    model, x, test_x = Number(), pixels(5), pixels(3, seed=11)
    first, second = fit(model, x, model.sums, epochs=2, batch_size=4, test_images=test_x)
    assert isinstance(first, Epoch)
    assert (first.number, second.number) == (1, 2)
    assert first.reconstruction == pytest.approx(x.sum().item() / 5)
    assert first.test_reconstruction == pytest.approx(test_x.sum().item() / 3)
    assert (first.kl, first.test_kl) == (0, 0)
    assert first.loss == -first.reconstruction
    assert first.test_loss == -first.test_reconstruction
    assert 0 < first.seconds < 60


def test_loss_of_an_epoch_is_kl_minus_reconstruction():
    epoch = Epoch(1, -100.0, 20.0, -110.0, 25.0, 3.0)
    assert (epoch.loss, epoch.test_loss) == (120, 135)


def test_every_epoch_shows_each_image_once_in_another_order():
    model, x = Number(), pixels(10)
    fit(model, x, model.sums, epochs=2, batch_size=4)
    assert [len(batch) for batch in model.seen] == [4, 4, 2] * 2
    epochs = torch.cat(model.seen[:3]), torch.cat(model.seen[3:])
    for seen in epochs:
        assert sorted(seen.tolist()) == sorted(x.tolist())
    assert not epochs[0].equal(epochs[1]) and not epochs[0].equal(x)


def test_test_terms_are_those_of_the_model_after_the_epoch():
    model, x, test_x = small_vae(), pixels(), pixels(8, seed=11)
    history = fit(model, x, elbo_terms, epochs=2, test_images=test_x, learning_rate=0.01)
    reconstruction, kl = per_image(model, test_x, elbo_terms)
    assert history[-1].test_reconstruction == reconstruction.mean().item()
    assert history[-1].test_kl == kl.mean().item()


def test_test_images_do_not_change_the_training():
    model, other = small_vae(), small_vae()
    fit(model, pixels(), elbo, epochs=2, test_images=pixels(7, seed=11))
    fit(other, pixels(), elbo, epochs=2)
    assert values(model).equal(values(other))


def test_test_terms_are_nan_without_test_images():
    model = Number()
    epoch = fit(model, pixels(), model.sums, epochs=1)[0]
    assert math.isnan(epoch.test_loss) and math.isnan(epoch.test_kl)


def test_modes_and_gradients():
    """It trains in training mode, tests in evaluation mode, and leaves the latter behind."""
    model = Number().eval()
    fit(model, pixels(), model.sums, epochs=2, test_images=pixels(), batch_size=20)
    assert model.modes == [(True, True), (False, False)] * 2
    fit(model, pixels(), model.sums, epochs=1)
    assert model.modes[-1] == (True, True)
    assert not model.training


def test_same_seed_same_history_and_parameters():
    runs = []
    for seed in (1, 1, 2):
        model = small_vae()
        history = fit(model, pixels(), elbo_terms, epochs=2, seed=seed, binarized=True,
                      batch_size=8, test_images=pixels(6, seed=11))
        runs.append((without_seconds(history), values(model)))
    assert runs[0][0] == runs[1][0] and runs[0][1].equal(runs[1][1])
    assert runs[0][0] != runs[2][0]


def test_the_global_generator_plays_no_part():
    models = []
    for seed in (5, 6):
        models.append(small_vae())
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        fit(models[-1], pixels(), elbo, epochs=1, binarized=True, test_images=pixels())
        assert torch.get_rng_state().equal(before)
    assert values(models[0]).equal(values(models[1]))


def test_after_each_epoch_it_is_told():
    """With the number of the epoch, when its steps and its test are done."""
    model, told = Number(), []
    fit(model, pixels(8), model.sums, epochs=3, batch_size=4, test_images=pixels(2),
        after_epoch=lambda number: told.append((number, len(model.seen))))
    assert told == [(1, 3), (2, 6), (3, 9)]


def test_binarized_draws_anew_each_time():
    model, x = Number(), pixels(1)
    fit(model, x, model.sums, epochs=600, binarized=True, name="small")
    seen = torch.cat(model.seen)
    assert ((seen == 0) | (seen == 1)).all()
    error = (x[0] * (1 - x[0]) / 600).sqrt()
    assert ((seen.mean(dim=0) - x[0]).abs() < 6 * error).all()


def test_binarized_test_images_are_the_same_in_each_epoch():
    model = Number()
    history = fit(model, pixels(), model.sums, epochs=2, binarized=True, test_images=pixels(8))
    assert history[0].test_reconstruction == history[1].test_reconstruction
    assert history[0].test_reconstruction * 8 == pytest.approx(
        binarize(pixels(8), seeded()).sum().item())


def test_grey_images_stay_grey():
    model, x = Number(), pixels(3)
    fit(model, x, model.sums, epochs=1)
    assert sorted(model.seen[0].tolist()) == sorted(x.tolist())


# Schedules and weights


def test_schedules_by_hand():
    assert [constant(done) for done in (0, 0.5, 1)] == [1, 1, 1]
    assert [warm_up(0.5)(done) for done in (0, 0.25, 0.5, 0.75, 1)] == [0, 0.5, 1, 1, 1]
    climb_and_fall = cosine(0.2)
    assert [climb_and_fall(done) for done in (0, 0.05, 0.1)] == [0, 0.25, 0.5]
    assert climb_and_fall(0.2) == 1
    assert climb_and_fall(0.4) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert climb_and_fall(0.6) == pytest.approx(0.5)
    assert climb_and_fall(1) == pytest.approx(0)
    assert cosine()(0.01) == 0.5 and cosine()(0.02) == 1
    assert cosine(0.0)(0.0) == 1


def test_schedules_are_asked_in_the_middle_of_each_step():
    asked = {"rate": [], "weight": []}

    def schedule(name):
        return lambda done: asked[name].append(done) or 1.0

    model = Number()
    fit(model, pixels(10), model.pull, epochs=2, batch_size=4, schedule=schedule("rate"),
        kl_weight=schedule("weight"))
    wanted = [(step + 0.5) / 6 for step in range(6)]
    assert asked["rate"] == pytest.approx(wanted) and asked["weight"] == pytest.approx(wanted)


def test_the_schedule_scales_the_learning_rate():
    """On a constant slope each step of Adam is as long as the learning rate."""
    model = Number()
    fit(model, pixels(4), model.climb, epochs=4, learning_rate=0.1, schedule=lambda done: done)
    assert model.number.item() == pytest.approx(0.1 * (0.125 + 0.375 + 0.625 + 0.875), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
def test_the_kl_weight_weighs(weight):
    """-(p - 1)^2 - w p^2 is largest at p = 1 / (1 + w)."""
    model = Number()
    history = fit(model, pixels(1), model.pull, epochs=150, learning_rate=0.1,
                  schedule=cosine(), kl_weight=lambda done: weight, name="small")
    best = 1 / (1 + weight)
    assert model.number.item() == pytest.approx(best, abs=1e-3)
    assert history[-1].kl == pytest.approx(best**2, abs=1e-2), "the history holds it unweighted"


def test_weight_zero_leaves_the_kl_free():
    kls = []
    for weight in (0.0, 1.0):
        model = small_vae()
        history = fit(model, pixels().round(), elbo_terms, epochs=60, learning_rate=0.02,
                      kl_weight=lambda done, weight=weight: weight, name="small")
        kls.append(history[-1].kl)
    assert kls[0] > 5 * kls[1]


# What it reaches


def test_reaches_the_best_constant_image():
    """Free logits: the best are those of the mean image, the loss is its entropy."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(D))

    def log_likelihood(model, x, generator):
        return bernoulli_log_likelihood(x, model.logits.expand_as(x))

    model, x = Constant(), pixels(64)
    history = fit(model, x, log_likelihood, epochs=150, batch_size=64, learning_rate=0.1,
                  schedule=cosine(), name="small")
    mean = x.mean(dim=0)
    torch.testing.assert_close(model.logits.detach().sigmoid(), mean, rtol=0, atol=1e-3)
    entropy = -(mean * mean.log() + (1 - mean) * (1 - mean).log()).sum().item()
    assert history[-1].loss == pytest.approx(entropy, abs=1e-3)
    assert history[0].loss > history[-1].loss + 0.005


def test_a_linear_gaussian_model_approaches_its_closed_form_optimum():
    mixing = torch.tensor([[0.25, 0.15, -0.1], [0.02, -0.05, 0.1]], dtype=torch.float64)
    noise = torch.randn(200, 5, generator=seeded(), dtype=torch.float64)
    x = (0.5 + noise[:, :2] @ mixing + 0.03 * noise[:, 2:]).clamp(0, 1)
    best = ppca_optimum(x, 1).log_likelihood
    torch.manual_seed(0)
    model = LinearGaussian(3, 1)
    fit(model, x, elbo_terms, epochs=250, batch_size=100, learning_rate=0.05, schedule=cosine(),
        name="small")
    reached = model.analytic_elbo(x).mean().item()
    assert best - 0.03 < reached < best


def test_a_small_vae_improves_on_images_it_has_not_seen():
    def stripes(num, seed):
        """Left or right half black."""
        side = torch.randint(0, 2, (num, 1), generator=seeded(seed))
        return torch.cat([side.expand(-1, 3), 1 - side.expand(-1, 3)], dim=1).float()

    model = small_vae()
    history = fit(model, stripes(128, 0), elbo_terms, epochs=60, batch_size=32,
                  learning_rate=0.02, test_images=stripes(64, 1), name="small")
    independent = D * math.log(2)
    assert history[0].test_loss > 0.8 * independent
    assert history[-1].test_loss < 0.5 * independent
    assert history[-1].test_loss > math.log(2), "the entropy of the data bounds every model"


# What it refuses


@pytest.mark.parametrize(("images", "message"), [
    (torch.zeros(4, D, dtype=torch.uint8), r"uint8 of shape \(4, 6\).*as_vectors"),
    (torch.zeros(4, 2, 3), r"shape \(4, 2, 3\)"),
    (torch.full((4, D), math.nan), "24 NaN"),
    (torch.full((4, D), 2.0), "from 2 to 2; wanted are values in"),
    (torch.full((4, D), -0.5), "from -0.5 to -0.5"),
    (torch.zeros(0, D), "no images"),
])
def test_refuses_images(images, message):
    model = Number()
    with pytest.raises(ValueError, match=message):
        fit(model, images, model.sums, epochs=1)
    with pytest.raises(ValueError, match=message):
        fit(model, pixels(), model.sums, epochs=1, test_images=images)
    with pytest.raises(ValueError, match=message):
        per_image(model, images, model.sums)
    assert model.seen == []


def test_refuses_images_of_another_width():
    with pytest.raises(ValueError, match=r"x has shape \(4, 7\), but \(B, 6\) is wanted"):
        fit(small_vae(), torch.zeros(4, 7), elbo, epochs=1)


@pytest.mark.parametrize(("name", "value"), [
    ("epochs", 0), ("epochs", -1), ("epochs", 1.5), ("epochs", "3"),
    ("batch_size", 0), ("batch_size", 2.0),
    ("learning_rate", 0), ("learning_rate", -1e-3), ("learning_rate", math.nan),
])
def test_refuses_settings(name, value):
    model = Number()
    with pytest.raises(ValueError, match=f"{name} is {value!r}: it must be"):
        fit(model, pixels(), model.sums, **{"epochs": 1, name: value})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_says_when_training_diverges(bad):
    model = Number()

    def explodes(model, x, generator):
        return model.sums(model, x, generator) * (bad if len(model.seen) == 4 else 1.0)

    with pytest.raises(FloatingPointError, match="after epoch 2: .* learning rate below 0.25"):
        fit(model, pixels(8), explodes, epochs=5, batch_size=4, learning_rate=0.25)
    assert len(model.seen) == 4, "it stops after the epoch in which it happened"


# Precision and device


def test_precision_holds_while_it_trains():
    before = torch.get_float32_matmul_precision()
    model = Number()
    fit(model, pixels(), model.sums, epochs=1, precision="medium")
    assert torch.get_float32_matmul_precision() == before
    fit(model, pixels(), model.sums, epochs=1)
    assert model.precisions == ["medium", "highest"]


def test_precision_is_restored_after_an_exception():
    before = torch.get_float32_matmul_precision()

    def fails(model, x, generator):
        raise RuntimeError("in the objective")

    with pytest.raises(RuntimeError, match="in the objective"):
        fit(Number(), pixels(), fails, epochs=1, precision="medium")
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyError), matmul_precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("device", [None, "cpu", "cuda"])
def test_device(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    model = small_vae()
    devices = set()

    def objective(model, x, generator):
        devices.update([x.device.type, generator.device.type])
        return elbo_terms(model, x, generator)

    history = fit(model, pixels(), objective, epochs=1, device=device, binarized=True,
                  test_images=pixels())
    assert devices == {device or "cpu"} == {next(model.parameters()).device.type}
    assert math.isfinite(history[0].test_loss)


# Values for each image


def test_per_image_does_not_depend_on_the_batches_when_nothing_is_drawn():
    model, x = Number(), pixels(7)
    whole, kl = per_image(model, x, model.sums)
    parts, _ = per_image(model, x, model.sums, batch_size=3)
    assert whole.equal(parts) and whole.equal(x.sum(dim=1))
    assert kl.equal(torch.zeros(7))
    assert [len(batch) for batch in model.seen] == [7, 3, 3, 1]
    assert model.modes == [(False, False)] * 4


def test_per_image_draws_by_its_seed():
    model, x = small_vae(), pixels()
    for options in ({}, {"binarized": True}):
        first, again, other = (per_image(model, x, elbo_terms, seed=seed, **options)[0]
                               for seed in (1, 1, 2))
        assert first.equal(again) and not first.equal(other)


def test_per_image_draws_z_from_q_and_not_its_mean():
    """The mean over many copies is the analytic ELBO, well below what z = mu would give."""
    torch.manual_seed(0)
    model, num = LinearGaussian(D, 2), 20_000
    with torch.no_grad():
        model.weight.normal_()
    x = pixels(1).double().expand(num, -1)
    reconstruction, kl = per_image(model, x, elbo_terms)
    mean, error = mean_and_error(reconstruction - kl)
    assert abs(mean - model.analytic_elbo(x[:1]).item()) < 6 * error
    at_the_mean = model.log_px_z(x[:1], model.encode(x[:1])[0]) - kl[0]
    assert mean + 6 * error < at_the_mean.item()


def test_per_image_binarizes_the_images():
    model, x = Number(), pixels(500)
    sums, _ = per_image(model, x, model.sums, binarized=True)
    assert sums.equal(sums.round()) and set(torch.cat(model.seen).unique().tolist()) == {0, 1}


def test_mean_and_error_by_hand():
    """Of 1, 2, 3, 4: mean 2.5, standard deviation sqrt(5/3), error half of that."""
    mean, error = mean_and_error(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert (mean, error) == (2.5, pytest.approx(math.sqrt(5 / 3) / 2))


def test_mean_and_error_add_up_in_float64():
    """In float32 the sum would lose the 1."""
    mean, _ = mean_and_error(torch.tensor([2.0**24, 1.0, 0.0, 0.0]))
    assert mean == 2**22 + 0.25


# What is shown


def epochs(num, kl=20.0, test=-120.0):
    return [Epoch(number, -100.0 - number, kl, test, kl, 1.5) for number in range(1, num + 1)]


def test_history_line():
    assert history_line(epochs(3), "plane_vae") == (
        "plane_vae: trained for 3 epochs in 4 s, −ELBO 123.00 nats per image, "
        "on test images 140.00.")
    assert history_line(epochs(2, kl=0.0), "A") == (
        "A: trained for 2 epochs in 3 s, loss 102.00 per image, on test images 120.00.")
    assert history_line(epochs(1, test=math.nan), "A") == (
        "A: trained for 1 epoch in 2 s, −ELBO 121.00 nats per image.")


def test_history_tables():
    text, markdown = history_tables(epochs(2))
    assert text.splitlines()[0].split() == [
        "epoch", "reconstruction", "KL", "−ELBO", "test", "−ELBO", "seconds"]
    assert text.splitlines()[2].split() == [
        "2", "−102.00", "20.00", "122.00", "140.00", "1.5"]
    assert markdown.splitlines()[-1] == "| 2 | −102.00 | 20.00 | 122.00 | 140.00 | 1.5 |"
    _, markdown = history_tables(epochs(1, test=math.nan))
    assert markdown.splitlines()[-1] == "| 1 | −101.00 | 20.00 | 121.00 | – | 1.5 |"


def test_history_tables_without_a_kl():
    text, _ = history_tables(epochs(1, kl=0.0))
    assert text.splitlines()[0].split() == ["epoch", "loss", "test", "loss", "seconds"]
    assert text.splitlines()[1].split() == ["1", "101.00", "120.00", "1.5"]


@pytest.mark.parametrize(("num", "shown"), [
    (1, [1]), (10, list(range(1, 11))), (11, [1, 2, 4, 6, 8, 10, 11]),
    (100, [1, *range(10, 101, 10)]),
])
def test_history_tables_are_thinned_out(num, shown):
    text, markdown = history_tables(epochs(num))
    assert [int(line.split()[0]) for line in text.splitlines()[1:]] == shown
    assert len(markdown.splitlines()) == len(shown) + 2


def test_fit_leaves_a_table_or_one_line(capsys):
    history = fit(small_vae(), pixels(), elbo_terms, epochs=3, test_images=pixels())
    assert capsys.readouterr().out == history_tables(history)[0] + "\n"
    history = fit(small_vae(), pixels(), elbo_terms, epochs=3, name="small", test_images=pixels())
    assert capsys.readouterr().out == history_line(history, "small") + "\n"


def test_in_jupyter_fit_leaves_the_markdown_table(monkeypatch):
    left = []

    class Fake(training.Progress):
        def finish(self, *texts):
            left.append(texts)

    monkeypatch.setattr(training, "Progress", Fake)
    history = fit(small_vae(), pixels(), elbo_terms, epochs=2)
    fit(small_vae(), pixels(), elbo_terms, epochs=1, name="small")
    assert left[0] == history_tables(history)
    assert len(left[1]) == 1


def test_fit_shows_where_it_is(monkeypatch):
    """Every step when it is always due: the step, and what the batch gave."""
    shown = []

    class Fake(training.Progress):
        def due(self):
            return True

        def show(self, step, text):
            shown.append((step, self.total_steps, text))

    monkeypatch.setattr(training, "Progress", Fake)
    model = Number(start=3.0)
    fit(model, pixels(4), model.pull, epochs=2, batch_size=2, learning_rate=1e-9)
    assert [step for step, _, _ in shown] == [1, 2, 3, 4]
    assert shown[-1][1:] == (4, "epoch 2 of 2: reconstruction -4.0, KL 9.0, −ELBO 13.0 nats")


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5])
def test_warm_up_refuses_a_fraction_that_makes_no_sense(fraction):
    with pytest.raises(ValueError, match=str(fraction)):
        warm_up(fraction)


def test_one_value_has_no_standard_error():
    with pytest.raises(ValueError, match="got 1 values"):
        mean_and_error(torch.ones(1))


def test_after_epoch_is_called_when_the_epoch_is_done():
    calls = []
    torch.manual_seed(0)
    model = VAE(4, 3, 2)
    start = model.decoder.logits.bias.clone()

    def note(number):
        calls.append((number, torch.equal(start, model.decoder.logits.bias)))

    fit(model, torch.rand(6, 4), elbo_terms, epochs=2, after_epoch=note)
    assert calls == [(1, False), (2, False)]


# Labels


class Labelled(nn.Module):
    """A model with one number for each label, which notes what it is bound to."""

    def __init__(self):
        super().__init__()
        self.numbers, self.bound_to = nn.Parameter(torch.zeros(3)), []

    def given(self, labels):
        self.bound_to.append(labels)
        return self.numbers[labels]


def meet(bound, x, generator):
    """The best number for a label is the mean of the first pixels of its images."""
    return -(bound - x[:, 0]).square()


def test_labels_go_with_their_images():
    model, x = Labelled(), pixels(6)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    x[:, 0] = torch.tensor([0.0, 0.4, 0.8])[labels]
    history = fit(model, x, meet, epochs=300, batch_size=4, learning_rate=0.03,
                  labels=labels, test_images=x, test_labels=labels)
    torch.testing.assert_close(model.numbers.data, torch.tensor([0.0, 0.4, 0.8]), atol=0.01, rtol=0)
    assert history[-1].test_loss < 1e-3
    assert [len(labels) for labels in model.bound_to[:3]] == [4, 2, 6]


def test_per_image_with_labels():
    model, x, labels = Labelled(), pixels(5), torch.tensor([2, 0, 1, 2, 0])
    with torch.no_grad():
        model.numbers.copy_(torch.tensor([0.1, 0.2, 0.3]))
    values, _ = per_image(model, x, meet, labels=labels, batch_size=2)
    torch.testing.assert_close(values, -(model.numbers.data[labels] - x[:, 0]).square())


@pytest.mark.parametrize("labels", [torch.zeros(5), torch.zeros(6, 1), torch.zeros(())])
def test_refuses_labels_of_another_number(labels):
    for call in (lambda **of: fit(Labelled(), pixels(6), meet, epochs=1, **of),
                 lambda **of: per_image(Labelled(), pixels(6), meet, **of)):
        with pytest.raises(ValueError, match=r"but \(6,\) is wanted: one label for each image"):
            call(labels=labels.long())


def test_refuses_labels_for_one_set_of_images_only():
    x, y = pixels(6), torch.zeros(6, dtype=torch.long)
    for of in ({"labels": y}, {"test_labels": y}):
        with pytest.raises(ValueError, match="give labels for both"):
            fit(Labelled(), x, meet, epochs=1, test_images=x, **of)
