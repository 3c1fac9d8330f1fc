"""The benchmark that trains as published: its schedule, and that it can be interrupted."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).resolve().parents[1] / "benchmarks" / "published_iwae.py"


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """The program as a module, with a folder and a result file of its own."""
    spec = importlib.util.spec_from_file_location("published_iwae", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path))
    monkeypatch.setattr(module, "RESULT", tmp_path / "result.json")
    monkeypatch.setitem(module.SETTINGS, "likelihood_samples", 3)
    return module


def images(num=50, seed=0):
    return torch.rand(num, 784, generator=torch.Generator().manual_seed(seed))


def parameters_after(run):
    return torch.cat([part.detach().flatten() for part in run.model.parameters()])


class Interrupted(Exception):
    """What a test raises to stop a training in the middle."""


# The schedule


def test_eight_stages_of_3280_epochs_in_all(benchmark):
    assert benchmark.EPOCHS == [1, 3, 9, 27, 81, 243, 729, 2187]
    assert sum(benchmark.EPOCHS) == 3280


def test_learning_rates_are_the_published_ones(benchmark):
    """1e-3 * 10 ** (-stage / 7), rounded as the authors' program rounds it."""
    rounded = [1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4]
    assert all(ours == pytest.approx(theirs) for ours, theirs in zip(benchmark.RATES, rounded))
    for stage, rate in enumerate(benchmark.RATES):
        assert rate == pytest.approx(1e-3 * 10 ** (-stage / 7), rel=0.02)


def test_each_stage_has_its_rate(benchmark):
    first = 0
    for length, rate in zip(benchmark.EPOCHS, benchmark.RATES):
        assert benchmark.rate_of(first) == benchmark.rate_of(first + length - 1) == rate
        first += length


def test_training_uses_the_rate_of_its_epoch(benchmark):
    run = benchmark.Run(1, images(20), torch.device("cpu"))
    for epochs, rate in [(1, 1e-3), (2, 7.2e-4), (4, 7.2e-4), (5, 5.2e-4)]:
        run.train(epochs)
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        assert run.epoch == epochs


# The model


def test_model_as_published(benchmark):
    x = images()
    model = benchmark.build(x)
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    sizes = [(layer.in_features, layer.out_features) for layer in linear]
    assert sizes == [(784, 200), (200, 200), (200, 50), (200, 50), (50, 200), (200, 200),
                     (200, 784)]
    for layer in linear:
        limit = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * limit < layer.weight.abs().max() <= limit
    assert all(layer.bias.abs().max() == 0 for layer in linear[:-1])
    torch.testing.assert_close(linear[-1].bias.sigmoid(), x.mean(dim=0))
    assert sum(isinstance(layer, torch.nn.Tanh) for layer in model.modules()) == 4


# Interrupted and taken up again


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 7])
def test_taken_up_again_it_ends_with_the_same_bits(benchmark, monkeypatch, stop_after):
    """Three batches an epoch, and the state stored after each; a stop between any two."""
    monkeypatch.setattr(benchmark, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    device, straight = torch.device("cpu"), benchmark.Run(5, images(), torch.device("cpu"))
    straight.train(3)
    straight.file.unlink()

    store, stored = benchmark.Run.store, []

    def store_and_stop(run):
        store(run)
        stored.append((run.epoch, run.batch))
        if len(stored) == stop_after:
            raise Interrupted

    monkeypatch.setattr(benchmark.Run, "store", store_and_stop)
    with pytest.raises(Interrupted):
        benchmark.Run(5, images(), device).train(3)
    again = benchmark.Run(5, images(), device)
    epoch, batches_before = divmod(stop_after - 1, 3)
    assert (again.epoch, again.batch) == stored[-1] == (epoch, batches_before + 1)
    again.train(3)
    assert parameters_after(again).equal(parameters_after(straight))
    assert again.epoch == 3 and again.generator.get_state().equal(straight.generator.get_state())


def test_each_epoch_takes_every_image_once_in_a_new_order(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    orders = {}

    def keep_order(run):
        if run.order is not None:
            orders[run.epoch] = run.order.tolist()

    monkeypatch.setattr(benchmark.Run, "store", keep_order)
    benchmark.Run(1, images(), torch.device("cpu")).train(2)
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] != orders[1]


def test_trained_in_two_calls_or_in_one(benchmark):
    once = benchmark.Run(1, images(), torch.device("cpu"))
    once.train(2)
    once.file.unlink()
    benchmark.Run(1, images(), torch.device("cpu")).train(1)
    twice = benchmark.Run(1, images(), torch.device("cpu"))
    assert (twice.epoch, twice.batch) == (1, 0)
    twice.train(2)
    assert parameters_after(twice).equal(parameters_after(once))


def test_a_finished_training_is_not_trained_on(benchmark):
    run = benchmark.Run(1, images(), torch.device("cpu"))
    run.train(2)
    before, seconds = parameters_after(run), run.seconds
    again = benchmark.Run(1, images(), torch.device("cpu"))
    again.train(1)
    assert parameters_after(again).equal(before) and again.epoch == 2
    assert again.seconds == pytest.approx(seconds, abs=0.5)


def test_each_k_has_a_file_of_its_own(benchmark):
    files = {benchmark.Run(k, images(), torch.device("cpu")).file for k in (1, 5, 50)}
    assert len(files) == 3


# What is written


def test_measures(benchmark):
    run = benchmark.Run(1, images(), torch.device("cpu"))
    result = benchmark.measure(run, images(150, seed=1))
    assert 0 < result["nll"] < result["negative_elbo"]
    assert 0 < result["nll_standard_error"] < 5
    assert 0 <= result["active_units"] <= 50 and isinstance(result["active_units"], int)
    assert benchmark.measure(run, images(150, seed=1))["nll"] == result["nll"]


def test_a_result_takes_the_place_of_its_like_and_of_no_other(benchmark):
    def result(num_samples, epochs, nll):
        return {"num_samples": num_samples, "epochs": epochs, "nll": nll}

    for each in [(50, 13, 3.0), (1, 13, 1.0), (50, 40, 2.5), (50, 13, 2.0)]:
        benchmark.write(result(*each))
    written = json.loads(benchmark.RESULT.read_text())
    assert written == [result(1, 13, 1.0), result(50, 40, 2.5), result(50, 13, 2.0)]


def test_device_name_says_what_computes(benchmark):
    assert "thread" in benchmark.device_name(torch.device("cpu"))
