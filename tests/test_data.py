"""The book's digits: MNIST, or drawn ones in its place; pixels as numbers."""

import subprocess
import sys

import pytest
import torch

from vae_lessons import data
from vae_lessons.data import (
    SPLITS,
    Digits,
    announce,
    as_vectors,
    binarize,
    check_choice,
    check_pixels,
    load_digits,
)
from vae_lessons.mnist import MnistUnavailable, how_to_get_mnist

IMAGES = torch.randint(0, 256, (19, 28, 28), generator=torch.Generator().manual_seed(0))
IMAGES, LABELS = IMAGES.to(torch.uint8), torch.arange(19) % 10
PARTS = {"train": (IMAGES[:12], LABELS[:12]), "test": (IMAGES[12:], LABELS[12:])}

DRAWN_DIGITS = "Data: drawn digits (not MNIST: expect other numbers than the text gives)"


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A process that has printed nothing, with an empty cache folder; few digits are drawn."""
    monkeypatch.setattr(data, "DRAWN", {"train": (40, 0), "test": (20, 1)})
    monkeypatch.setattr(data, "_said", set())
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("VAE_LESSONS_SOURCE", raising=False)


@pytest.fixture
def with_mnist(monkeypatch):
    monkeypatch.setattr(data, "read_mnist", PARTS.__getitem__)


@pytest.fixture
def without_mnist(monkeypatch):
    def refuse(split):
        raise MnistUnavailable("the cable is cut.")

    monkeypatch.setattr(data, "read_mnist", refuse)


# Where the digits come from


@pytest.mark.parametrize("source", ["mnist", "auto", None])
@pytest.mark.parametrize("split", SPLITS)
def test_mnist_where_it_can_be_had(with_mnist, split, source):
    digits = load_digits(split, source=source)
    assert digits.source == "MNIST"
    assert digits.images is PARTS[split][0] and digits.labels is PARTS[split][1]


def test_drawn_digits_when_asked(with_mnist, capfd):
    train, test = load_digits(source="drawn"), load_digits("test", source="drawn")
    assert train.source == test.source == "drawn digits"
    assert train.images.shape == (40, 28, 28) and test.images.shape == (20, 28, 28)
    assert not torch.equal(train.images[:20], test.images)
    out, err = capfd.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"{DRAWN_DIGITS}, 40 training images of 28 x 28 grey pixels.",
        f"{DRAWN_DIGITS}, 20 test images of 28 x 28 grey pixels.",
    ]


def test_environment_names_the_source(without_mnist, monkeypatch):
    monkeypatch.setenv("VAE_LESSONS_SOURCE", "drawn")
    assert load_digits().source == "drawn digits"
    monkeypatch.setenv("VAE_LESSONS_SOURCE", "mnist")
    with pytest.raises(MnistUnavailable):
        load_digits()
    assert load_digits(source="drawn").source == "drawn digits"


@pytest.mark.parametrize("wrong", [{"split": "valid"}, {"source": "cifar"}])
def test_wrong_choice_is_named(wrong):
    with pytest.raises(ValueError, match="'(valid|cifar)'; choose one of '"):
        load_digits(**wrong)


def test_each_line_is_said_once(with_mnist, capfd):
    for _ in range(2):
        load_digits()
        load_digits("test")
    assert capfd.readouterr() == (
        "Data: MNIST, 12 training images of 28 x 28 grey pixels.\n"
        "Data: MNIST, 7 test images of 28 x 28 grey pixels.\n",
        "",
    )


def test_missing_mnist_is_told_loudly_and_once(without_mnist, capfd):
    for split in ("train", "test", "train"):
        assert load_digits(split).source == "drawn digits"
    out, err = capfd.readouterr()
    assert err == ""
    assert out.count("MNIST COULD NOT BE HAD: the cable is cut.\n") == 1
    assert "draws its own" in out and how_to_get_mnist() in out
    assert out.splitlines()[-2:] == [
        f"{DRAWN_DIGITS}, 40 training images of 28 x 28 grey pixels.",
        f"{DRAWN_DIGITS}, 20 test images of 28 x 28 grey pixels.",
    ]


def test_missing_mnist_is_an_error_where_it_was_asked_for(without_mnist, capfd):
    with pytest.raises(MnistUnavailable, match="(?s)the cable is cut.*four archives"):
        load_digits(source="mnist")
    assert capfd.readouterr() == ("", "")


def test_check_choice():
    assert check_choice("colour", "red", ("red", "blue")) is None
    with pytest.raises(ValueError, match="colour is 'green'; choose one of 'red', 'blue'"):
        check_choice("colour", "green", ("red", "blue"))


def test_announce_names_the_source_the_number_and_the_size(capfd):
    images = torch.zeros(1200, 6, 5, 3, dtype=torch.uint8)
    for split in ("train", "test", "train"):
        announce(Digits(images, torch.zeros(1200), 'folder "cats"'), split)
    assert capfd.readouterr().out.splitlines() == [
        'Data: folder "cats", 1,200 training images of 6 x 5 colour pixels.',
        'Data: folder "cats", 1,200 test images of 6 x 5 colour pixels.',
    ]


# As a program


def test_program_draws_where_mnist_is_not_to_be_had():
    """A fresh process: status 0, nothing on stderr, and a last line that names the source."""
    code = (
        "import runpy; from torchvision.datasets import MNIST;"
        "MNIST.mirrors = [];"
        "runpy.run_module('vae_lessons.data', None, '__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "MNIST COULD NOT BE HAD" in done.stdout
    last = f"{DRAWN_DIGITS}, 20,000 training images of 28 x 28 grey pixels."
    assert done.stdout.splitlines()[-1] == last


def test_import_is_light():
    """torchvision takes a second to import; only who loads digits pays for it."""
    code = "import sys, vae_lessons.data; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Pixels as numbers


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((4, 3, 5), 15), ((4, 3, 5, 3), 45), ((4, 7), 7), ((0, 28, 28), 784)],
)
def test_as_vectors(shape, dim):
    images = torch.randint(0, 256, shape).to(torch.uint8)
    x = as_vectors(images)
    assert x.dtype == torch.float32 and x.shape == (shape[0], dim)
    assert torch.equal((x * 255).round().to(torch.uint8), images.flatten(1))


def test_as_vectors_spans_0_to_1():
    images = torch.tensor([[[0, 255, 51]]], dtype=torch.uint8)
    assert as_vectors(images).tolist() == [[0, 1, pytest.approx(0.2)]]


@pytest.mark.parametrize("images", [torch.rand(2, 28, 28), torch.zeros(5, dtype=torch.uint8)])
def test_as_vectors_refuses(images):
    with pytest.raises(ValueError, match="wants uint8"):
        as_vectors(images)


def test_binarize_draws_each_pixel_with_its_own_probability():
    p = torch.tensor([[0.0, 0.1, 0.5, 0.9, 1.0]])
    draws = binarize(p.expand(20_000, 5), torch.Generator().manual_seed(0))
    assert draws.dtype == p.dtype and set(draws.unique().tolist()) == {0, 1}
    assert torch.allclose(draws.mean(0), p[0], atol=4 * (0.25 / 20_000) ** 0.5)
    assert draws[:, 0].max() == 0 and draws[:, 4].min() == 1


def test_binarize_follows_its_generator():
    x = torch.rand(3, 784)
    first, again, other = (binarize(x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("x", [torch.rand(3, 4), torch.tensor([[0.0, 1.0]]), torch.zeros(0, 784)])
def test_check_pixels_accepts(x):
    assert check_pixels(x) is None
    assert check_pixels(x.double()) is None


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.rand(3, 2, 2), r"shape \(3, 2, 2\); wanted .*\(B, D\)"),
        (torch.rand(3), r"shape \(3,\); wanted"),
        (torch.zeros(3, 4, dtype=torch.uint8), "uint8 .*as_vectors"),
        (torch.tensor([[0.5, float("nan")]]), "1 NaN"),
        (torch.tensor([[0.0, 255.0]]), r"from 0 to 255; .*Divide by 255"),
        (torch.tensor([[-0.25, 0.5]]), "from -0.25 to 0.5"),
        (torch.tensor([[0.5, float("inf")]]), "from 0.5 to inf"),
    ],
)
def test_check_pixels_refuses(x, words):
    with pytest.raises(ValueError, match=words):
        check_pixels(x)
