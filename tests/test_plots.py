"""Figures: the layout of tiles by hand, labels, and what cannot be drawn."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from vae_lessons.plots import (
    DIGIT_COLOURS,
    as_pictures,
    show_classes,
    show_history,
    show_images,
    show_rows,
    tile,
)
from vae_lessons.training import Epoch


@pytest.fixture(autouse=True)
def closed_figures():
    plt.close("all")
    yield
    plt.close("all")


def numbered(num, height=2, width=3):
    """Image i is filled with the number i + 1, its upper left pixel with -(i + 1)."""
    images = torch.arange(1.0, num + 1).view(-1, 1, 1).repeat(1, height, width)
    images[:, 0, 0] *= -1
    return images


def test_style():
    with plt.style.context("vae_lessons.book"):
        assert plt.rcParams["figure.facecolor"] == "white"
        assert plt.rcParams["image.cmap"] == "gray_r"


def test_as_pictures():
    rows = torch.arange(18.0).view(2, 9)
    assert as_pictures(rows)[1].tolist() == [[9, 10, 11], [12, 13, 14], [15, 16, 17]]
    assert as_pictures(numbered(2)).equal(numbered(2))
    assert as_pictures(rows.T.contiguous().T).equal(as_pictures(rows))
    assert as_pictures(torch.zeros(0, 9)).shape == (0, 3, 3)


@pytest.mark.parametrize("shape", [(9,), (2, 8), (2, 3, 3, 3), (2, 0), ()])
def test_as_pictures_refuses(shape):
    with pytest.raises(ValueError, match=r"give \(N, height, width\), or \(N, D\)") as caught:
        as_pictures(torch.zeros(shape))
    assert f"images have shape {shape}" in str(caught.value)


def test_tile_by_hand():
    """Row by row from the upper left; what is missing stays paper."""
    assert tile(numbered(3), columns=2).tolist() == [
        [-1, 1, 1, -2, 2, 2],
        [1, 1, 1, 2, 2, 2],
        [-3, 3, 3, 0, 0, 0],
        [3, 3, 3, 0, 0, 0],
    ]


@pytest.mark.parametrize(("num", "columns", "shape"), [
    (4, 2, (4, 6)), (1, 1, (2, 3)), (1, 3, (2, 9)), (4, 4, (2, 12)), (5, 4, (4, 12))])
def test_tile_shapes(num, columns, shape):
    assert tile(numbered(num), columns).shape == shape


def test_tile_takes_whole_numbers_and_gradients():
    assert tile(torch.full((1, 2, 2), 255, dtype=torch.uint8), 1).max() == 255
    assert not tile(torch.zeros(1, 2, 2, requires_grad=True), 1).requires_grad


@pytest.mark.parametrize("columns", [0, -1])
def test_tile_refuses_columns(columns):
    for draw in (tile, show_images):
        with pytest.raises(ValueError, match=f"columns is {columns}"):
            draw(numbered(2), columns)


def drawn(axes):
    return torch.tensor(axes.images[0].get_array().filled())


def test_show_images():
    with plt.style.context("vae_lessons.book"):
        axes = show_images(numbered(3), columns=2, title="Three numbers")
    assert drawn(axes).equal(tile(numbered(3), 2))
    assert axes.images[0].get_clim() == (0, 3) and axes.images[0].get_cmap().name == "gray_r"
    assert axes.get_title() == "Three numbers"
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == []
    assert not any(spine.get_visible() for spine in axes.spines.values())


def test_show_images_in_given_axes():
    _, axes = plt.subplots()
    assert show_images(numbered(2), axes=axes) is axes
    assert len(plt.get_fignums()) == 1


def test_show_rows():
    first, second = show_rows({"originals": numbered(5), "copies": numbered(2)}, columns=3)
    assert (first.get_ylabel(), second.get_ylabel()) == ("originals", "copies")
    assert drawn(first).equal(tile(numbered(3), 3)), "the first three"
    assert drawn(second).equal(tile(numbered(2), 3))


def test_show_history():
    axes = show_history([Epoch(1, -100.0, 20.0, -110.0, 22.0, 1.0),
                         Epoch(2, -90.0, 21.0, -95.0, 23.0, 1.0)])
    train, test = axes.lines
    assert list(train.get_xdata()) == list(test.get_xdata()) == [1, 2]
    assert list(train.get_ydata()) == [120, 111] and list(test.get_ydata()) == [132, 118]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "−ELBO (nats per image)")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["training images", "test images"]


def test_show_history_in_given_axes():
    _, axes = plt.subplots()
    assert show_history([Epoch(1, -1.0, 0.0, math.nan, 0.0, 1.0)], axes) is axes
    assert len(axes.lines) == 1, "no curve and no legend entry for test images that there are not"
    assert len(plt.get_fignums()) == 1


def test_show_classes():
    codes = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    axes = show_classes(codes, torch.tensor([7, 3, 7]))
    three, seven = axes.collections
    assert three.get_offsets().tolist() == [[2, 3]]
    assert seven.get_offsets().tolist() == [[0, 1], [4, 5]]
    assert tuple(three.get_facecolor()[0][:3]) == tuple(DIGIT_COLOURS[3])
    assert tuple(seven.get_facecolor()[0][:3]) == tuple(DIGIT_COLOURS[7])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["3", "7"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")
    assert axes.get_aspect() == 1


def test_show_classes_in_given_axes():
    _, axes = plt.subplots()
    assert show_classes(torch.zeros(1, 2, requires_grad=True), torch.zeros(1).long(), axes) is axes
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("shape", [(3, 3), (2,), (2, 2, 2)])
def test_show_classes_refuses(shape):
    with pytest.raises(ValueError, match=r"\(N, 2\) can be drawn in a plane") as caught:
        show_classes(torch.zeros(shape), torch.zeros(3).long())
    assert f"codes have shape {shape}" in str(caught.value)
