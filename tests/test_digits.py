"""Drawn digits, with their factors measured back from the pixels."""

import pytest
import torch

from vae_lessons.digits import DrawnDigits, draw_digits

CENTRES = torch.arange(28) + 0.5


@pytest.fixture(scope="module")
def drawn():
    return draw_digits(3000, seed=5)


def moments(images):
    """Centre of mass (N,) in x and y, and the shear of the ink: -cov(x, y) / var(y)."""
    ink = images.double() / 255
    mass = ink.sum((1, 2))
    x = (ink.sum(1) * CENTRES).sum(1) / mass
    y = (ink.sum(2) * CENTRES).sum(1) / mass
    dx, dy = CENTRES - x[:, None], CENTRES - y[:, None]
    covariance = torch.einsum("nyx,ny,nx->n", ink, dy, dx) / mass
    variance = (ink.sum(2) * dy**2).sum(1) / mass
    return x, y, -covariance / variance


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1]


def test_shapes_and_types(drawn):
    assert drawn.images.shape == (3000, 28, 28) and drawn.images.dtype == torch.uint8
    assert drawn.labels.shape == (3000,) and drawn.labels.dtype == torch.int64
    assert drawn.slant.shape == drawn.width.shape == (3000,)


@pytest.mark.parametrize("num", [0, 1, 33])
def test_any_number_of_digits(num):
    assert draw_digits(num).images.shape == (num, 28, 28)


@pytest.mark.parametrize("num", [-1, 2.5])
def test_impossible_number_is_refused(num):
    with pytest.raises(ValueError, match=str(num)):
        draw_digits(num)


def test_seed_alone_decides():
    torch.manual_seed(0)
    first = draw_digits(50, seed=3)
    assert isinstance(first, DrawnDigits)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, draw_digits(50, seed=3), strict=True))
    assert not torch.equal(first.images, draw_digits(50, seed=4).images)


def test_callers_randomness_is_left_alone():
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    draw_digits(10)
    assert torch.equal(torch.rand(1), wanted)


def test_number_of_threads_is_left_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    draw_digits(10)
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == 2


def test_classes_are_balanced_and_mixed(drawn):
    assert drawn.labels.bincount().tolist() == [300] * 10
    assert drawn.labels[:300].bincount(minlength=10).min() > 10


def test_mass_lies_in_the_middle(drawn):
    x, y, _ = moments(drawn.images)
    for place in (x, y):  # MNIST's own mean is 14.5, its spread 0.29
        assert abs(place.mean() - 14.5) < 0.05
        assert place.std() < 0.35


def test_digits_fill_a_box_of_20_pixels(drawn):
    ink = drawn.images > 127
    sides = torch.stack([ink.any(1).sum(1), ink.any(2).sum(1)]).amax(0).float()
    assert 19.5 < sides.mean() < 20.5
    assert sides.min() >= 18 and sides.max() <= 22


def test_slant_is_found_in_the_pixels():
    ones = draw_digits(2000, seed=6)
    chosen = ones.labels == 1
    measured = moments(ones.images[chosen])[2]
    drawn_slant = ones.slant[chosen].double()
    assert correlation(measured, drawn_slant) > 0.9
    slope = ((measured - measured.mean()) * drawn_slant).mean() / drawn_slant.var()
    assert 0.9 < slope < 1.1  # the tangent itself, not something that only grows with it


def test_slant_is_found_in_every_class(drawn):
    measured = moments(drawn.images)[2]
    for label in range(10):
        chosen = drawn.labels == label
        assert correlation(measured[chosen], drawn.slant[chosen]) > 0.6


def test_width_is_found_in_the_pixels(drawn):
    """A row cuts the stem of a 1 aslant: it holds width / cos(angle) of ink."""
    ones = drawn.labels == 1
    rows = drawn.images[ones].double().sum(2)[:, 9:19] / 255  # clear of serif and foot
    width = drawn.width[ones].double()
    measured = rows.median(1).values / (1 + drawn.slant[ones] ** 2).sqrt()
    assert correlation(measured, width) > 0.95
    assert abs((measured / width).median() - 1) < 0.06


def test_ink_resembles_mnist(drawn):
    pixels = drawn.images.double() / 255
    assert abs(pixels.mean() - 0.1307) < 0.015  # MNIST: mean 0.1307, deviation 0.3081
    assert abs(pixels.std() - 0.3081) < 0.015
    assert abs((pixels > 0).double().mean() - 0.19) < 0.03
    assert (drawn.images.flatten(1).amax(1) == 255).double().mean() > 0.95


def test_strokes_have_grey_edges_and_no_gaps():
    """Along a 1, every row between its ends is inked, in more than black and white."""
    digits = draw_digits(1000, seed=7)
    for image in digits.images[digits.labels == 1]:
        rows = image.amax(1)
        inked = (rows > 60).nonzero()[:, 0]
        assert len(inked) == inked[-1] - inked[0] + 1
        assert len(image.unique()) > 5


def test_hands_differ(drawn):
    """One 1 in nineteen stands on a foot, one 7 in five has a bar: more ink below the middle."""
    ones = drawn.images[drawn.labels == 1] > 127
    on_a_foot = ones[:, 18:].sum(2).amax(1) > 8
    assert 0.02 < on_a_foot.double().mean() < 0.10
    sevens = drawn.images[drawn.labels == 7] > 127
    with_a_bar = sevens[:, 12:18].sum(2).amax(1) > 7
    assert 0.15 < with_a_bar.double().mean() < 0.40


def test_classes_can_be_told_apart(drawn):
    """A nearest-neighbour judge, blind to how the digits are made, reads new ones."""
    new = draw_digits(300, seed=8)
    known, unknown = (d.images.flatten(1).float() for d in (drawn, new))
    nearest = torch.cdist(unknown, known).argmin(1)
    assert (drawn.labels[nearest] == new.labels).double().mean() > 0.9
