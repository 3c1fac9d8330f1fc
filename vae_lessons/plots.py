"""Figures that several chapters draw. ``plt.style.use("vae_lessons.book")`` sets their look."""

import math

import matplotlib.pyplot as plt
import torch

DIGIT_COLOURS = plt.get_cmap("tab10").colors


def as_pictures(images):
    """Images as (N, height, width): rows of pixels, (N, D), become squares.

    Raises: ValueError for rows whose length is no square number or another number of axes.
    """
    images = images.detach().cpu()
    if images.ndim == 3:
        return images
    side = math.isqrt(images.shape[-1]) if images.ndim == 2 else 0
    if side == 0 or side * side != images.shape[1]:
        raise ValueError(
            f"images have shape {tuple(images.shape)}: give (N, height, width), "
            "or (N, D) rows that are square pictures"
        )
    return images.view(-1, side, side)


def tile(images, columns):
    """One picture of all images side by side, ``columns`` to a row: -> (height, width).

    Shapes: images (N, D) or (N, height, width).
    Raises: ValueError for a shape that is no image or for columns below 1.
    """
    if columns < 1:
        raise ValueError(f"columns is {columns}: at least one is needed")
    pictures = as_pictures(images).float()
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures.shape[1:]
    blank = torch.zeros(rows * columns - len(pictures), height, width)
    grid = torch.cat([pictures, blank]).view(rows, columns, height, width)
    return grid.transpose(1, 2).reshape(rows * height, columns * width)


def show_images(images, columns=10, title=None, axes=None):
    """Draws images side by side, black ink on white, and returns the axes.

    Shapes: images (N, D) or (N, height, width), with 0 for paper and the largest value for ink.
    Raises: ValueError for a shape that is no image or for columns below 1.
    """
    picture = tile(images, columns)
    if axes is None:
        width = 0.62 * columns
        _, axes = plt.subplots(figsize=(width, width * picture.shape[0] / picture.shape[1] + 0.3))
    axes.imshow(picture.numpy(), vmin=0)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)
    return axes


def show_rows(rows, columns=10):
    """Draws one labelled row of images for each entry of ``{label: images}``; returns the axes.

    Shapes: each entry (N, D) or (N, height, width); the first ``columns`` images are shown.
    """
    figure, all_axes = plt.subplots(
        len(rows), 1, figsize=(0.62 * columns + 1, 0.66 * len(rows)), squeeze=False
    )
    for axes, (label, images) in zip(all_axes[:, 0], rows.items(), strict=True):
        show_images(images[:columns], columns, axes=axes)
        axes.set_ylabel(label, rotation=0, ha="right", va="center")
    return all_axes[:, 0]


def show_history(history, axes=None):
    """Draws −ELBO by epoch for training images and test images, if any; returns the axes."""
    if axes is None:
        _, axes = plt.subplots(figsize=(6, 3))
    numbers = [epoch.number for epoch in history]
    axes.plot(numbers, [epoch.loss for epoch in history], "o-", label="training images")
    tested = [epoch.test_loss for epoch in history]
    if not any(map(math.isnan, tested)):
        axes.plot(numbers, tested, "s--", label="test images")
    axes.set(xlabel="epoch", ylabel="−ELBO (nats per image)")
    axes.legend()
    return axes


def show_classes(codes, labels, axes=None, size=2):
    """Draws points of a plane, coloured by their label 0 to 9, and returns the axes.

    Shapes: codes (N, 2), labels (N,).
    Raises: ValueError if codes are not points of a plane.
    """
    if codes.ndim != 2 or codes.shape[1] != 2:
        raise ValueError(f"codes have shape {tuple(codes.shape)}: (N, 2) can be drawn in a plane")
    if axes is None:
        _, axes = plt.subplots(figsize=(5.4, 5))
    for label in labels.unique().tolist():
        x, y = codes[labels == label].detach().cpu().numpy().T
        axes.scatter(x, y, s=size, color=DIGIT_COLOURS[label % 10], label=str(label), alpha=0.6)
    axes.legend(title="class", markerscale=5, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return axes
