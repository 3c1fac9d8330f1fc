"""The pictures of the book: MNIST, or drawn digits in its place.

``python -m vae_lessons.data`` fetches and verifies MNIST once, up front.
"""

import os
from typing import NamedTuple

import torch

from vae_lessons.digits import draw_digits
from vae_lessons.mnist import MnistUnavailable, how_to_get_mnist, read_mnist

SPLITS = ("train", "test")
SOURCES = ("auto", "mnist", "drawn")
DRAWN = {"train": (20_000, 0), "test": (4_000, 1)}  # how many digits, and their seed

NOT_MNIST = "drawn digits (not MNIST: expect other numbers than the text gives)"

_said = set()  # lines that this process has printed


class Digits(NamedTuple):
    """Pictures with their labels.

    Shapes: images (N, H, W) uint8, or (N, H, W, 3) in colour; labels (N,) int64.  ``source`` is
    "MNIST", "drawn digits" or, for example, 'folder "cats"'.
    """

    images: torch.Tensor
    labels: torch.Tensor
    source: str


def load_digits(split="train", *, source=None):
    """The book's digits, and one printed line that says what they are.

    ``source`` is "mnist", "drawn", or "auto": MNIST, and drawn digits where it cannot be had.
    Left out, it is what the environment variable ``VAE_LESSONS_SOURCE`` says, or "auto".

    Shapes: images (N, 28, 28) uint8, labels (N,) int64.
    Raises: ValueError for another split or source; MnistUnavailable if "mnist" cannot be had.
    Source: LeCun, Bottou, Bengio & Haffner (1998).
    """
    source = source or os.environ.get("VAE_LESSONS_SOURCE") or "auto"
    check_choice("split", split, SPLITS)
    check_choice("source", source, SOURCES)
    digits = None if source == "drawn" else _mnist_or_none(split, required=source == "mnist")
    if digits is None:
        num, seed = DRAWN[split]
        digits = Digits(*draw_digits(num, seed)[:2], "drawn digits")
    announce(digits, split)
    return digits


def as_vectors(images):
    """Each picture as one row of numbers from 0 to 1.

    Shapes: images (N, ...) uint8 -> (N, D) float32.
    Raises: ValueError if the images are not uint8.
    """
    if images.dtype != torch.uint8 or images.dim() < 2:
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; as_vectors wants uint8 "
            "(0 to 255) of shape (N, ...), as load_digits returns them. If yours are already "
            "between 0 and 1, use images.flatten(1)."
        )
    return images.flatten(1).float() / 255


def binarize(x, generator=None):
    """Ink (1) or paper (0) for each pixel, drawn with its value as the probability of ink.

    Called anew in each epoch, it gives dynamically binarised digits.  It stands in the training
    loop, so it does not look at the values: ``check_pixels`` does, once.

    Shapes: x of any shape, in [0, 1] -> the same shape, each entry 0 or 1.
    Source: Salakhutdinov & Murray (2008).
    """
    # Uniform numbers lie in [0, 1), so 0 stays 0 and 1 stays 1; torch.bernoulli is 3 times slower.
    uniform = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return (uniform < x).to(x.dtype)


def check_pixels(x):
    """None if ``x`` is a batch of pixels between 0 and 1, fit for a model.

    Shapes: x (B, D) floating.
    Raises: ValueError if the shape or the type differs, for NaN, and for values outside [0, 1].
    """
    if x.dim() != 2 or not x.is_floating_point():
        raise ValueError(
            f"x is {x.dtype} of shape {tuple(x.shape)}; wanted are floating-point pixels of shape "
            "(B, D). Use as_vectors(images) for uint8 images."
        )
    if x.numel() == 0:
        return
    low, high = x.aminmax()  # one look at all values; NaN if there is one
    if low.isnan():
        raise ValueError(f"x holds {int(x.isnan().sum())} NaN; repair or drop those examples.")
    if low < 0 or high > 1:
        raise ValueError(
            f"pixels run from {low:.4g} to {high:.4g}; wanted are values in [0, 1]. "
            "Divide by 255 if they are grey values from 0 to 255."
        )


def check_choice(name, value, choices):
    """None if ``value`` is one of ``choices``.

    Raises: ValueError that names the argument ``name``, its value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}.")


def announce(digits, split):
    """Prints, once in a process, the line that says what the ``digits`` of a split are."""
    num, height, width = digits.images.shape[:3]
    colour = "colour" if digits.images.dim() == 4 else "grey"
    kind = "training" if split == "train" else "test"
    size = f"{height} x {width} {colour} pixels"
    source = digits.source if digits.source != "drawn digits" else NOT_MNIST
    _say_once(f"Data: {source}, {num:,} {kind} images of {size}.")


def _say_once(text):
    if text not in _said:
        _said.add(text)
        print(text, flush=True)


def _warn_once(reason):
    rule = "=" * 78
    _say_once(
        f"{rule}\nMNIST COULD NOT BE HAD: {reason}\n"
        "The book draws its own handwritten-looking digits instead. It runs as it stands, but\n"
        "what you see will not meet the numbers that the text gives for MNIST.\n"
        f"{how_to_get_mnist()}\n{rule}"
    )


def _mnist_or_none(split, required):
    try:
        return Digits(*read_mnist(split), "MNIST")
    except MnistUnavailable as error:
        if required:
            raise
        _warn_once(error.reason)
        return None


if __name__ == "__main__":
    load_digits("train")
