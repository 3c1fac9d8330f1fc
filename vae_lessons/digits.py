"""Handwritten-looking digits, drawn by a pen that follows splines.

They take MNIST's place where it cannot be had, and they come with factors that are known
exactly: class, slant and pen width.  The pictures are made the way MNIST was made: each digit
is scaled into a box of 20 x 20 pixels and centred by its mass in 28 x 28.
"""

import math
from typing import NamedTuple

import torch

SIZE = 28  # pixels on each side of a picture
BOX = 20  # pixels on the longer side of a digit
POSITIONS = 96  # where the pen stands while it draws one digit
EDGE = 1.15  # pixels from black to white across the edge of a stroke
CHUNK = 32  # pictures rasterised at once: their distances fit into a processor's cache

# A way to write a digit: how often it is chosen, the points that the pen passes (x to the right,
# y downwards, about 1 high), and its strokes as indices of points.  Strokes that share an end
# meet in a corner.
# fmt: off
WAYS = {
    0: [
        (7, [(.56, .02), (.26, .10), (.08, .48), (.20, .88), (.50, 1.), (.80, .84), (.92, .46),
             (.78, .10), (.52, .01)], [range(9)]),
        (3, [(.72, .10), (.40, .00), (.12, .30), (.10, .72), (.42, 1.), (.82, .78), (.88, .36),
             (.66, .06), (.40, .10)], [range(9)]),
    ],
    1: [
        (16, [(.50, .00), (.50, .50), (.50, 1.)], [range(3)]),
        (2, [(.34, .18), (.52, .00), (.51, .50), (.50, 1.)], [(0, 1), (1, 2, 3)]),
        (1, [(.24, .24), (.52, .00), (.51, .50), (.50, 1.), (.18, 1.), (.84, .99)],
         [(0, 1), (1, 2, 3), (4, 3, 5)]),
    ],
    2: [
        (5, [(.10, .22), (.32, .01), (.68, .04), (.78, .28), (.58, .60), (.10, .98), (.50, .96),
             (.96, .96)], [range(6), (5, 6, 7)]),
        (5, [(.10, .16), (.42, .00), (.76, .14), (.68, .48), (.40, .82), (.14, .98), (.06, .84),
             (.24, .76), (.52, .92), (.98, .94)], [range(10)]),
    ],
    3: [
        (6, [(.12, .14), (.42, .00), (.74, .14), (.66, .36), (.36, .47), (.70, .58), (.80, .80),
             (.50, 1.), (.08, .92)], [range(5), range(4, 9)]),
        (4, [(.10, .10), (.46, .00), (.76, .16), (.60, .40), (.40, .46), (.62, .52), (.82, .72),
             (.58, .98), (.06, .92)], [range(9)]),
    ],
    4: [
        (6, [(.16, .02), (.10, .30), (.14, .54), (.46, .58), (.84, .48), (.82, .00), (.76, .48),
             (.70, 1.)], [range(5), (5, 6, 7)]),
        (2, [(.62, .00), (.34, .30), (.04, .64), (.50, .64), (.96, .60), (.60, .50), (.58, 1.)],
         [range(3), (2, 3, 4), (0, 5, 6)]),
        (2, [(.14, .06), (.12, .40), (.44, .52), (.76, .40), (.78, .04), (.74, .50), (.68, 1.)],
         [range(5), (4, 5, 6)]),
    ],
    5: [
        (7, [(.88, .02), (.56, .03), (.30, .05), (.20, .40), (.58, .42), (.80, .66), (.62, .94),
             (.32, 1.), (.06, .88)], [(0, 1, 2), (2, 3), range(3, 9)]),
        (3, [(.94, .00), (.58, .04), (.36, .08), (.24, .38), (.56, .52), (.72, .74), (.50, .98),
             (.08, .92)], [range(8)]),
    ],
    6: [
        (7, [(.66, .00), (.32, .26), (.12, .64), (.26, .96), (.62, .96), (.76, .72), (.54, .56),
             (.26, .68), (.18, .80)], [range(9)]),
        (3, [(.50, .00), (.22, .40), (.16, .78), (.44, 1.), (.76, .82), (.62, .58), (.34, .62),
             (.18, .78)], [range(8)]),
    ],
    7: [
        (6, [(.06, .08), (.46, .06), (.88, .04), (.68, .42), (.46, 1.)], [(0, 1, 2), (2, 3, 4)]),
        (2, [(.06, .22), (.10, .06), (.50, .07), (.84, .05), (.76, .36), (.44, 1.)],
         [(0, 1), (1, 2, 3), (3, 4, 5)]),
        (2, [(.06, .06), (.46, .06), (.88, .04), (.66, .46), (.44, 1.), (.32, .54), (.88, .48)],
         [(0, 1, 2), (2, 3, 4), (5, 6)]),
    ],
    8: [
        (7, [(.76, .12), (.46, .00), (.22, .16), (.42, .44), (.72, .70), (.58, .97), (.26, .94),
             (.24, .70), (.56, .44), (.78, .20), (.70, .08)], [range(11)]),
        (3, [(.50, .47), (.24, .24), (.50, .00), (.76, .20), (.50, .47), (.20, .76), (.48, 1.),
             (.80, .76), (.50, .47)], [range(9)]),
    ],
    9: [
        (6, [(.75, .14), (.50, .00), (.23, .17), (.30, .40), (.57, .37), (.76, .15), (.72, .58),
             (.64, 1.)], [range(6), (5, 6, 7)]),
        (4, [(.75, .10), (.46, .00), (.20, .18), (.33, .42), (.63, .35), (.77, .13), (.76, .56),
             (.56, .92), (.20, .96)], [range(9)]),
    ],
}
# fmt: on


class DrawnDigits(NamedTuple):
    """Drawn digits and the factors they were drawn with.

    Shapes: images (N, 28, 28) uint8; labels (N,) int64; slant, width (N,) float32.
    Units: ``slant`` is the tangent of the angle between the digit's upright axis and the
    vertical, positive where it leans to the right; ``width`` is the pen's width in pixels.
    """

    images: torch.Tensor
    labels: torch.Tensor
    slant: torch.Tensor
    width: torch.Tensor


def draw_digits(num, seed=0):
    """``num`` drawn digits, the ten classes in equal parts and in random order.

    The same ``num`` and ``seed`` give the same digits.

    Shapes: images (num, 28, 28), labels, slant and width (num,).
    Raises: ValueError if ``num`` is not a whole number of at least 0.
    """
    if not isinstance(num, int) or num < 0:
        raise ValueError(f"num is {num!r}; give a whole number of digits, 0 or more.")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # in steps as small as these, on a busy machine, threads only wait
    try:
        return _draw(num, torch.Generator().manual_seed(seed))
    finally:
        torch.set_num_threads(threads)


def _draw(num, generator):
    labels = (torch.arange(num) % 10)[torch.randperm(num, generator=generator)]
    slant = _normal((num,), 0.15, 0.26, generator).clamp(-0.7, 0.9)
    width = _normal((num,), math.log(2.5), 0.24, generator).exp().clamp(1.4, 4.6)
    paths = _warp(_pen_paths(labels, generator), generator)  # (N, P, 2)
    paths = _fit_box(_lean(paths, slant, generator), width)
    radius = width[:, None] / 2 * _pressure(num, generator)  # (N, P)
    place = SIZE / 2 + torch.rand(num, 1, 2, generator=generator)  # of the centre of mass
    images = torch.empty(num, SIZE, SIZE, dtype=torch.uint8)
    for part in torch.arange(num).split(CHUNK):
        images[part] = _picture(paths[part], radius[part], place[part])
    return DrawnDigits(images, labels, slant, width)


def _normal(shape, mean, std, generator):
    return mean + std * torch.randn(shape, generator=generator)


def _pen_paths(labels, generator):
    """Pen positions (N, P, 2), the points of each way of writing shaken by a small amount."""
    paths = torch.empty(len(labels), POSITIONS, 2)
    for label, ways in WAYS.items():
        members = (labels == label).nonzero()[:, 0]
        choice = _choose(ways, len(members), generator)
        for index, (_, points, strokes) in enumerate(ways):
            chosen = members[choice == index]
            points = torch.tensor(points)
            shaken = points + _normal((len(chosen), *points.shape), 0, 0.042, generator)
            paths[chosen] = _spline(points, strokes) @ shaken
    return paths


def _choose(ways, num, generator):
    """The index of a way of writing (num,), each as often as its share says."""
    shares = torch.tensor([float(share) for share, _, _ in ways])
    chance = torch.rand(num, generator=generator)
    return torch.searchsorted(shares.cumsum(0) / shares.sum(), chance)


def _spline(points, strokes):
    """The matrix (P, C) that turns C points into P pen positions, evenly along the strokes."""
    fine = torch.cat([_catmull_rom(list(stroke), len(points)) for stroke in strokes])
    steps = (fine @ points).diff(dim=0).norm(dim=1)
    along = torch.cat([torch.zeros(1), steps.cumsum(0)])
    wanted = torch.linspace(0, float(along[-1]), POSITIONS)
    return fine[torch.searchsorted(along, wanted - 1e-6)]


def _catmull_rom(stroke, num_points):
    """Rows (40 for each piece of the stroke) of weights of a curve through its points."""
    t = torch.linspace(0, 1, 40)
    pieces = []
    for k in range(len(stroke) - 1):
        weights = torch.zeros(len(t), num_points)
        before, start = stroke[max(k - 1, 0)], stroke[k]
        end, after = stroke[k + 1], stroke[min(k + 2, len(stroke) - 1)]
        weights[:, before] += (-t + 2 * t**2 - t**3) / 2
        weights[:, start] += (2 - 5 * t**2 + 3 * t**3) / 2
        weights[:, end] += (t + 4 * t**2 - 3 * t**3) / 2
        weights[:, after] += (-(t**2) + t**3) / 2
        pieces.append(weights)
    return torch.cat(pieces)


def _warp(paths, generator):
    """Paths bent by three smooth random waves in each direction: a hand's own proportions."""
    num = len(paths)
    x, y = paths[..., 0:1], paths[..., 1:2]  # (N, P, 1)
    bent = paths.clone()
    for k in (1, 2, 3):
        phase = math.tau * torch.rand(2, num, 1, 1, generator=generator)
        along_y, along_x = _normal((2, num, 1, 2), 0, 0.05 / k, generator)
        bent += along_y * torch.sin(1.5 * k * y + phase[0])
        bent += along_x * torch.sin(1.5 * k * x + phase[1])
    return bent


def _lean(paths, slant, generator):
    """Paths made narrower or wider, then sheared by ``slant``."""
    stretch = _normal((len(paths), 1), -0.13, 0.17, generator).exp()
    x, y = paths[..., 0] * stretch, paths[..., 1]
    return torch.stack([x - slant[:, None] * y, y], dim=-1)


def _pressure(num, generator):
    """The pen's width along its path (N, P), relative to its mean."""
    along = torch.linspace(0, 1, POSITIONS)
    amount = _normal((num, 1), 0, 0.10, generator)
    phase = math.tau * torch.rand(num, 1, generator=generator)
    return 1 + amount.clamp(-0.25, 0.25) * torch.sin(5 * along + phase)


def _fit_box(paths, width):
    """Paths scaled so that the ink fills the box, its middle at (0, 0).  Units: pixels."""
    low, high = paths.amin(1, keepdim=True), paths.amax(1, keepdim=True)  # (N, 1, 2)
    scale = (BOX - width[:, None, None]) / (high - low).amax(2, keepdim=True)
    return (paths - (low + high) / 2) * scale


def _picture(paths, radius, place):
    """Pictures (B, 28, 28) uint8 with the ink's centre of mass at ``place`` (B, 1, 2)."""
    coarse = torch.arange(1 - BOX / 2, BOX / 2, 2)
    ink = _ink(paths, radius, coarse)
    mass = torch.stack([ink.sum(1) @ coarse, ink.sum(2) @ coarse], dim=-1)  # (B, 2)
    mass = mass / ink.sum((1, 2))[:, None]
    middle = SIZE / 2
    ink = _ink(paths - mass[:, None] + place - middle, radius, torch.arange(SIZE) + 0.5 - middle)
    return (255 * ink).round().to(torch.uint8)


def _ink(paths, radius, centres):
    """Ink in [0, 1] that round pens of ``radius`` (B, P) leave around these pixel centres.

    A pixel's distance from a pen is measured in radii, squared, as the product of a row that
    depends on the pen and a column that depends on the pixel: one matrix product for them all.
    """
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    x, y = x.flatten(), y.flatten()
    pixels = torch.stack([x**2 + y**2, x, y, torch.ones_like(x)])  # (4, pixels)
    shift = -2 * paths / radius[..., None] ** 2  # (B, P, 2)
    constant = paths.square().sum(-1) / radius**2
    pens = torch.cat([radius[..., None] ** -2, shift, constant[..., None]], dim=-1)
    nearest = (pens @ pixels).amin(1).clamp(min=0).sqrt()  # (B, pixels), in radii
    depth = (1 - nearest) * radius.mean(1, keepdim=True)  # pixels from the ink's edge inwards
    return (0.5 + depth / EDGE).clamp(0, 1).view(-1, len(centres), len(centres))
