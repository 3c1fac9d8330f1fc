"""Models that are trained once: what the key of a stored model holds, and what comes back."""

import shutil
import threading
import time

import pytest
import torch
from torch import nn

from vae_lessons import recipes
from vae_lessons.autoencoder import Autoencoder
from vae_lessons.classifier import Classifier
from vae_lessons.conditional_vae import ConditionalVAE
from vae_lessons.conv_vae import ConvVAE
from vae_lessons.data import Digits, as_vectors
from vae_lessons.elbo import elbo_terms
from vae_lessons.grey_vae import GreyVAE
from vae_lessons.hierarchical_vae import HierarchicalVAE
from vae_lessons.mnist import data_folder
from vae_lessons.recipes import (
    conditional_vae,
    conv_vae,
    deep_vae,
    grey_vae,
    improved_vae,
    judge,
    plane_autoencoder,
    plane_vae,
    stacked_vae,
    train_once,
    two_layer_vae,
    vq_prior,
    vq_vae,
)
from vae_lessons.training import Epoch
from vae_lessons.vae import VAE
from vae_lessons.vq_vae import VQVAE, CausalPrior


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "cache"))


def digits(num=12, seed=0, side=4):
    generator = torch.Generator().manual_seed(seed)
    two = torch.randint(0, 256, (2, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.arange(num) % 2
    return Digits(two[labels], labels, "two random pictures")


TRAIN, TEST = digits(), digits(6, seed=1)
LEARNED = []  # one entry for each training


@pytest.fixture(autouse=True)
def nothing_learned():
    LEARNED.clear()


def build(x):
    return nn.Linear(x.shape[1], 2)


def learn(model, x, test_x):
    LEARNED.append((x, test_x))
    with torch.no_grad():
        next(model.parameters()).add_(x.mean())
    return [Epoch(1, -3.0, 1.0, -4.0, 1.5, 0.25)]


def trained(name="tiny", build=build, learn=learn, train=TRAIN, test=TEST):
    return train_once(name, build, learn, train, test)


def values(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def stored(pattern="*.pt"):
    return sorted(file.name for file in (data_folder() / "models").glob(pattern))


# Once


def test_the_second_call_loads_the_same_model():
    model, history = trained()
    again, same_history = trained()
    assert len(LEARNED) == 1
    assert values(model).equal(values(again))
    assert history == same_history == [Epoch(1, -3.0, 1.0, -4.0, 1.5, 0.25)]
    assert isinstance(same_history[0], Epoch)
    assert not again.training
    assert len(stored()) == 1 and stored("*.unfinished") == []


def test_learns_from_the_images_as_rows():
    trained()
    x, test_x = LEARNED[0]
    assert x.equal(as_vectors(TRAIN.images)) and test_x.equal(as_vectors(TEST.images))


def test_the_start_does_not_depend_on_what_was_drawn_before(monkeypatch, tmp_path):
    torch.manual_seed(1)
    model, _ = trained()
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "another"))
    torch.manual_seed(2)
    assert values(trained()[0]).equal(values(model))
    assert len(LEARNED) == 2


def test_a_stored_model_says_how_it_was_trained(capsys):
    trained()
    assert capsys.readouterr().out == ""
    trained()
    assert capsys.readouterr().out == (
        "tiny: trained for 1 epoch in 0 s, −ELBO 4.00 nats per image, on test images 5.50.\n")


def test_a_model_without_a_history():
    def silent(model, x, test_x):
        LEARNED.append(x)
        return []

    assert trained(learn=silent)[1] == trained(learn=silent)[1] == []
    assert len(LEARNED) == 1


# The key


def test_other_data_are_another_model():
    trained()
    trained(train=digits(seed=5))
    trained(test=digits(6, seed=5))
    trained(train=TRAIN._replace(labels=TRAIN.labels.flip(0)))
    trained(test=TEST._replace(labels=TEST.labels.flip(0)))
    assert len(LEARNED) == len(stored()) == 5


def test_another_name_is_another_model():
    trained("one")
    trained("two")
    assert [name.split("-")[0] for name in stored()] == ["one", "two"]


def test_another_recipe_is_another_model():
    def other_build(x):
        return nn.Linear(x.shape[1], 3)

    def other_learn(model, x, test_x):
        return learn(model, 2 * x, test_x)

    trained()
    trained(build=other_build)
    trained(learn=other_learn)
    assert len(LEARNED) == len(stored()) == 3


def test_another_model_behind_it_is_another_model():
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    with torch.no_grad():
        second.bias.copy_(first.bias)  # they differ in the weight alone
    for behind in ((), (first,), (second,), (first, second), (first,)):
        train_once("tiny", build, learn, TRAIN, TEST, *behind)
    assert len(LEARNED) == len(stored()) == 4


def test_another_torch_is_another_model(monkeypatch):
    trained()
    monkeypatch.setattr(torch, "__version__", "99.0")
    trained()
    assert len(LEARNED) == 2


@pytest.fixture
def copied_package(tmp_path, monkeypatch):
    folder = tmp_path / "vae_lessons"
    shutil.copytree(recipes.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(recipes, "PACKAGE", folder)
    return folder


ALWAYS = ["data", "digits", "mnist", "progress", "training"]
BEHIND_A_VAE = [*ALWAYS, "elbo", "kl", "latent_model", "likelihoods", "mlp", "reparameterization",
                "vae"]
ASIDE = ["autoencoder", "classifier", "plots", "show", "evaluation", "linear_gaussian", "recipes"]


def build_vae(x):
    return VAE(x.shape[1], 3, 2)


def learn_elbo(model, x, test_x):
    """Names an objective in an inner function only."""
    def objective():
        return elbo_terms(model, x)

    assert callable(objective)
    return learn(model, x, test_x)


@pytest.mark.parametrize(
    ("build", "learn", "word", "trainings"),
    [(build_vae, learn_elbo, word, 2) for word in BEHIND_A_VAE]
    + [(build_vae, learn_elbo, word, 1) for word in ASIDE]
    + [(build, learn, word, 2) for word in ALWAYS]
    + [(build, learn, word, 1) for word in ("elbo", "vae")]
    + [(build, learn_elbo, "elbo", 2), (build_vae, learn, "elbo", 1)],
)
def test_a_model_is_trained_anew_where_a_source_behind_it_changed(
    copied_package, build, learn, word, trainings
):
    trained(build=build, learn=learn)
    with (copied_package / f"{word}.py").open("a") as file:
        file.write("# edited\n")
    trained(build=build, learn=learn)
    assert len(LEARNED) == trainings


# Accidents


def test_an_interrupted_training_leaves_nothing_behind():
    def interrupted(model, x, test_x):
        LEARNED.append(x)
        if len(LEARNED) == 1:
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt):
        trained(learn=interrupted)
    assert stored() == []
    trained(learn=interrupted)
    assert len(stored()) == 1


def test_an_interrupted_write_leaves_no_broken_model(monkeypatch):
    def half(content, file):
        file.write_bytes(b"half a model")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            trained()
    assert stored() == []
    model, _ = trained()
    assert values(trained()[0]).equal(values(model))
    assert len(LEARNED) == 2


def test_two_at_once_train_once():
    """The second waits for the first, and then finds its model."""
    results = []

    def slow(model, x, test_x):
        time.sleep(0.3)
        return learn(model, x, test_x)

    def one():
        results.append(trained(learn=slow))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(LEARNED) == 1
    assert values(results[0][0]).equal(values(results[1][0]))


# The book's own recipes


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("recipe", "kind", "epochs", "parameters"), [
    (plane_vae, VAE, 10, 784 * 400 + 400 + 160_400 + 4 * 400 + 4 + 1200 + 160_400
     + 400 * 784 + 784),
    (improved_vae, VAE, 10, 652_824),
    (deep_vae, VAE, 14, 784 * 400 + 400 + 160_400 + 2 * (400 * 40 + 40) + 40 * 400 + 400 + 160_400
     + 400 * 784 + 784),
    (conditional_vae, ConditionalVAE, 6, 794 * 300 + 300 + 90_300 + 600 * 20 + 40
     + 30 * 300 + 300 + 90_300 + 300 * 784 + 784),
    (conv_vae, ConvVAE, 6, 434_088),
    (grey_vae, GreyVAE, 6, 784 * 300 + 300 + 2 * 90_300 + 2 * (300 * 30 + 30) + 30 * 300 + 300
     + 300 * 3920 + 3920),
    (plane_autoencoder, Autoencoder, 6, 784 * 400 + 400 + 160_400 + 802 + 1200 + 160_400
     + 400 * 784 + 784),
    (vq_vae, VQVAE, 2, 64 * 8 + 8 * 16 + 8 + 32 * 8 * 16 + 32 + 32 * 32 * 16 + 32 + 8 * 32 + 8
     + 32 * 8 * 16 + 32 + 32 * 32 * 9 + 32 + 4 * 8 * 9 + 4 + 784),
])
def test_recipes(recipe, kind, epochs, parameters):
    train, test = digits(200, side=28), digits(10, side=28)
    model, history = recipe(train, test)
    assert isinstance(model, kind) and count(model) == parameters
    assert [epoch.number for epoch in history] == list(range(1, epochs + 1))
    assert history[-1].loss < history[0].loss
    assert stored()[0].startswith(recipe.__name__)
    again, same_history = recipe(train, test)
    assert values(model).equal(values(again)) and str(history) == str(same_history)  # NaN too


def test_judge():
    train, test = digits(40, side=28), digits(10, side=28)
    model = judge(train, test)
    assert isinstance(model, Classifier) and not model.training
    assert values(judge(train, test)).equal(values(model))
    torch.manual_seed(0)
    assert not values(model).equal(values(Classifier())), "it has learned"


@pytest.mark.parametrize(("recipe", "below", "kind"), [
    (vq_prior, vq_vae, CausalPrior),
    (stacked_vae, deep_vae, HierarchicalVAE),
])
def test_recipes_on_top_of_a_model(recipe, below, kind):
    train, test = digits(200, side=28), digits(10, side=28)
    lower, _ = below(train, test)
    before = values(lower)
    model, history = recipe(lower, train, test)
    assert isinstance(model, kind) and len(history) == 2
    assert history[-1].loss < history[0].loss
    assert values(lower).equal(before), "the model below stays as it is"
    again, same_history = recipe(lower, train, test)
    assert values(model).equal(values(again)) and str(history) == str(same_history)  # NaN too
    assert any(name.startswith(recipe.__name__) for name in stored())


def test_stacked_layers_are_trained_apart_and_then_together():
    train, test = digits(200, side=28), digits(10, side=28)
    lower, _ = deep_vae(train, test)
    stacked, _ = stacked_vae(lower, train, test)
    assert values(stacked.lower).equal(values(lower)), "the lower layer has not moved"
    both, _ = two_layer_vae(stacked, train, test)
    assert not values(both.lower).equal(values(lower))
    assert not values(both.upper).equal(values(stacked.upper))
    assert values(stacked.lower).equal(values(lower))
