"""Checks of the exercises on tighter bounds, convolutions and conditional models."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, Normal

from vae_lessons.checks.verdict import (
    Wrong,
    agree,
    as_number,
    as_parts,
    as_tensor,
    as_tensors,
    ask,
    check,
    compare,
    expect,
    expect_gradient,
    steady,
)


@check(points=1)
def pick_by_weight(answer):
    """Exercise: draws of each image, picked by weight, (B, K, L), (B, K), int n -> (B, n, L)."""
    batch, size, num = 4000, 3, 4
    two_kinds = torch.tensor([0.3, 1.6, -1.4, 0.0, 0.9, -0.6]).expand(batch, -1).clone()
    two_kinds[::2] = two_kinds[::2].flip(1)  # two kinds of images, in turns
    z = torch.randn(batch, two_kinds.shape[1], size)
    picked, got = _picked(answer, z, two_kinds, num)
    again, other = _picked(answer, z, two_kinds, num)
    if (picked == two_kinds.argmax(dim=1, keepdim=True)).all() and picked.equal(again):
        raise Wrong("You always pick the draw with the largest weight. Others have a chance, too.")
    if all((picked[start::2] == picked[start]).all() for start in (0, 1)):
        raise Wrong("One random number serves all images. Each image has a choice of its own.")
    if (picked == picked[:, :1]).all():
        raise Wrong(f"The {num} picks of an image are all the same. Each is a choice of its own.")
    if (picked.sort(dim=1).values.diff(dim=1) > 0).all():
        raise Wrong("You never pick a draw of an image twice, so a pick depends on those before "
                    "it. They are to be independent.")
    _check_shares(picked, two_kinds[:2], {
        "All draws are picked equally often, whatever their weights.": torch.zeros(2, 6),
        "The draws with small weights are picked most often: look at the sign.": -two_kinds[:2],
    }, "The draws are not picked as often as their weights say. Is the sum of the weights taken "
       "over the draws of each image?")
    twice = two_kinds[0].softmax(dim=0).square().sum().item()  # how often two picks are the same
    found = (picked[:, 0] == picked[:, 1]).double().mean().item()
    if abs(found - twice) > 6 * (twice * (1 - twice) / batch) ** 0.5:
        raise Wrong(f"The picks of an image depend on each other: its first two are the same in "
                    f"{found:.0%} of images. Of independent ones {twice:.0%} would be.")
    if got.equal(other):
        raise Wrong("Two calls make the same choice. It is to be a new one each time.")
    far = torch.tensor([-90.0, -90, -250, -250, -900, -900]).repeat(batch // 6 + 1)[:batch, None]
    hint = ("In a batch with log weights near −90, −250 and −900 {}. Their exp is 0 for whole "
            "images, even if the batch's largest is subtracted before. How are shares formed "
            "without that?")
    try:
        picked, _ = _picked(answer, z, two_kinds + far, num)
    except (RuntimeError, ValueError, IndexError):
        raise Wrong(hint.format("there is an error")) from None
    _check_shares(picked, two_kinds[:2], {}, hint.format(
        "the draws are not picked as often as their weights say"))


def _picked(answer, z, log_weights, num):
    """Which of its own draws an answer picks for each image, (B, n), and what it returned."""
    batch, _, size = z.shape
    got = as_tensor(ask(answer, z, log_weights, num), "the picked draws").detach().to(z)
    mean = (log_weights.softmax(dim=1)[..., None] * z).sum(dim=1)
    if got.shape == mean.shape and agree(got, mean) or got.shape == (batch, num, size) and agree(
            got, mean[:, None].expand(-1, num, -1)):
        raise Wrong("You average the draws by their weights. An average of good draws need not be "
                    "a good draw: pick.")
    if got.shape != (batch, num, size):
        raise Wrong(f"The shape of what was picked is {tuple(got.shape)}; {num} draws for each "
                    f"image are wanted, {(batch, num, size)}.")
    is_own = (got[:, :, None] == z[:, None]).all(dim=3)  # (B, n, K)
    if not is_own.any(dim=2).all():
        if (got[:, :, None] == z[0]).all(dim=3).any(dim=2).all():
            raise Wrong("All images are given draws of the first one.")
        raise Wrong("Some of what you return is none of that image's own draws.")
    return is_own.double().argmax(dim=2), got


def _check_shares(picked, log_weights, mistakes, hint):
    """Whether images of two kinds, in turns, were given their draws as often as they should."""
    number = picked[::2].numel()
    shares = torch.stack([picked[start::2].flatten().bincount(minlength=log_weights.shape[1])
                          for start in (0, 1)]) / number
    for said, logits in ({"": log_weights} | mistakes).items():
        wanted = logits.softmax(dim=1)
        if ((shares - wanted).abs() < 6 * (wanted * (1 - wanted) / number).sqrt()).all():
            if said:
                raise Wrong(said)
            return
    raise Wrong(hint)


@check(points=2)
def loss_with_shares(answer):
    """Exercise: a number with the gradient of the mean of -L_K, (B, K) -> ()."""
    losses = 90 + 2 * torch.randn(3, 5)

    def gradient(function, losses=losses):
        leaf = losses.clone().requires_grad_()
        value = as_tensor(function(leaf * 1), "the loss")
        if value.numel() != 1:
            raise Wrong(f"One number is wanted, and the shape of yours is {tuple(value.shape)}.")
        if not value.requires_grad:
            raise Wrong("No gradient passes through your number. The shares are to be held "
                        "fixed, and the losses are not.")
        return torch.autograd.grad(value.sum(), leaf)[0]

    def truth(losses):
        return -(-losses).logsumexp(dim=1).mean()

    def with_shares(sign, fixed, axis=1, mean=torch.mean):
        def number(losses):
            shares = (sign * losses).softmax(dim=axis)
            shares = shares.detach() if fixed else shares
            return mean((shares * losses).sum(dim=1))
        return number

    ask(answer, losses)  # says so if nothing comes back
    compare(gradient(answer), gradient(truth), {
        "Both faults are still there.": gradient(with_shares(1, False)),
        "The gradient does not pass through the shares any more. But the draw with the largest "
        "*loss* still has most to say.": gradient(with_shares(1, True)),
        "The shares are the right way up. But they depend on the losses, and the gradient still "
        "passes through them.": gradient(with_shares(-1, False)),
        "Your number climbs: the sign of the gradient is wrong. A loss is to be minimised.":
            -gradient(with_shares(-1, True)),
        "You take the losses for the logs of the weights: the largest *loss* has most to say, and "
        "the whole climbs as well.": -gradient(with_shares(1, True)),
        "The shares of the draws of one image add up to 1. Yours add up to 1 over the images.":
            gradient(with_shares(-1, True, axis=0)),
        "Each draw has the same say. That is the ELBO again, with less noise.":
            gradient(torch.mean),
        "You add up the images; their mean is wanted.":
            gradient(with_shares(-1, True, mean=torch.sum)),
        "You average over the draws after weighing them. The shares add up to 1 already.":
            gradient(with_shares(-1, True)) / 5,
    }, tolerance=1e-4, what="the gradient")
    far = losses + torch.tensor([[0.0], [160.0], [810.0]])
    got = gradient(answer, far)
    if not agree(got, gradient(truth, far)):
        raise Wrong("With losses of about 90, 250 and 900 in one batch the gradient is wrong, or "
                    "NaN. exp of minus such a loss is 0, even if the batch's smallest is "
                    "subtracted before. How are shares formed without that?")


@check(points=3)
def predicted_gap(answer):
    """Exercise: Var(w / p(x)) / 2K for clouds, (N,), (N,), int, int -> (N,) in nats."""
    def second_moment(c, d):
        z = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
        log_values = 2 * Normal(0.0, 1.0).log_prob(z) - Normal(float(d), float(c)).log_prob(z)
        return (log_values.exp().sum() * (z[1] - z[0])).item()

    def truth(width, miss, latent_dim, num_draws):
        return torch.tensor([(second_moment(c, d) ** latent_dim - 1) / (2 * num_draws)
                             for c, d in zip(width, miss, strict=True)])

    sizes = (1, 2), (4, 5)  # few draws, so that the numbers are not small beside the tolerance
    width = torch.tensor([1.3, 0.6, 0.8, 2.0, 0.5, 1.0, 0.95])
    miss = torch.tensor([0.6, 0.3, 0.2, 1.5, 0.0, 0.7, -0.4])
    infinite = width < 0.5**0.5
    for latent_dim, num_draws in sizes:
        got = as_tensor(ask(answer, width, miss, latent_dim, num_draws), "the gap").detach()
        if got.shape != width.shape:
            compare(got, width, what="the gap")
        if not got[width > 1.5].isfinite().any() and got[infinite].isfinite().all():
            raise Wrong("The variance is infinite for wide clouds in yours, and finite for narrow "
                        "ones. Which of the two densities is squared, the posterior or q?")
        if got[~infinite].isinf().any():
            raise Wrong("You give infinity for a cloud whose weights have a finite variance. How "
                        "narrow may it be, beside the posterior?")
        if got[infinite].isnan().any():
            raise Wrong("For a narrow cloud you get NaN. What does the integrand do far out, where "
                        "the posterior is wider than q? A root says it before the integral does.")
        if not got[infinite].isposinf().all():
            raise Wrong("For a cloud that is far too narrow you give a finite number. Look at the "
                        "integrand far out: which exponent wins?")
        inputs = width[~infinite], miss[~infinite], latent_dim, num_draws
        usual = _mistaken_gaps(*inputs, truth)
        compare(got[~infinite], truth(*inputs), usual, tolerance=5e-4, what="the gap")


def _mistaken_gaps(width, miss, latent_dim, num_draws, truth):
    """What comes out if one thing is forgotten: hint -> (N,)."""
    wanted, centred = (truth(width, each, latent_dim, num_draws) for each in (miss, 0 * miss))
    one = 2 * num_draws * truth(width, miss, 1, num_draws)  # the variance of one latent
    of_width = (2 * num_draws * centred + 1) / (2 * num_draws)
    return {
        "The variance is the mean square less the squared mean. What is the mean of w / p(x)?":
            wanted + 1 / (2 * num_draws),
        "The miss does not count in yours: this is the gap of a cloud that hits the centre.":
            centred,
        "The width counts rightly. For the miss you take the integrand at the posterior's centre. "
        "Where is its peak, and how high is that? Complete the square.":
            of_width * (latent_dim * miss**2 / (2 * width**2)).exp() - 1 / (2 * num_draws),
        "The width counts rightly. The miss counts along one latent in yours. The cloud misses by "
        "as much along each of them.": of_width * (one + 1) / (
            2 * num_draws * truth(width, 0 * miss, 1, num_draws) + 1) - 1 / (2 * num_draws),
        "For several latents you add up. The weight is a product over the latents, and what is "
        "the mean of a product of independent numbers?": latent_dim * one / (2 * num_draws),
        "You take the variance of one latent to the power L. But it is the mean square that is "
        "multiplied, latent by latent.": one**latent_dim / (2 * num_draws),
        "The number of latents does not count in yours.": one / (2 * num_draws),
        "This is the variance of one weight. How does the gap fall with K?":
            2 * num_draws * wanted,
        "Is the factor one half missing?": 2 * wanted,
        "This is a standard deviation, not a variance.":
            (2 * num_draws * wanted).sqrt() / (2 * num_draws),
    }


@check(points=2)
def dreg_gradient(answer):
    """Exercise: the doubly reparameterised gradient, four inputs -> two of (B, L)."""
    batch, num, size = 4, 5, 3
    log_weights = -900 + torch.randn(batch, num)
    slope, eps = torch.randn(2, batch, num, size)
    log_var = torch.randn(batch, size) - 1

    def gradients(weigh, over=torch.sum):
        """By autograd: each z_k is pulled by its slope, times what ``weigh`` makes of shares."""
        mu, logs = torch.zeros(batch, size, requires_grad=True), log_var.clone().requires_grad_()
        z = mu[:, None] + (0.5 * logs)[:, None].exp() * eps
        pull = weigh(log_weights.softmax(dim=1))[..., None] * slope
        return torch.stack(torch.autograd.grad(over((pull * z).sum(dim=2), dim=1).sum(),
                                               (mu, logs)))

    got = as_tensors(ask(answer, log_weights, slope, eps, log_var),
                     "the gradient for mu", "the gradient for log_var")
    if all(each.shape == (batch, size) for each in got) and any(
            not each.isfinite().all() for each in got):
        raise Wrong("There are NaN or infinite values. Log weights near −900 have an exp of 0: "
                    "form the shares without it.")
    wanted = gradients(torch.square)
    usual = {
        "This is the plain gradient with one door closed and nothing put in its place: each "
        "share counts once. How does it count in equation 4?": gradients(lambda shares: shares),
        "You weigh with share − share². That is what the second door is worth; what is left "
        "when it is subtracted?": gradients(lambda shares: shares - shares**2),
        "Each draw has the same say in yours. Where are the shares?":
            gradients(lambda shares: torch.full_like(shares, 1 / num)),
        "Each draw counts in full in yours. Where are the shares?": gradients(torch.ones_like),
        "You square the weights and then make shares of them. It is the share that is squared.":
            gradients(lambda shares: shares**2 / (shares**2).sum(dim=1, keepdim=True)),
        "You average over the draws. The shares have divided already.":
            gradients(torch.square, over=torch.mean),
        "The shares of the draws of one image add up to 1. Yours add up over the images.":
            gradients(lambda shares: log_weights.softmax(dim=0) ** 2),
        "The draws with the smallest weights have most to say: look at the sign.":
            gradients(lambda shares: (-log_weights).softmax(dim=1) ** 2),
        "The sign of the whole is wrong: this is the gradient of the bound, which is to climb.":
            -wanted,
    }
    if got[0].shape == (batch, size) and agree(got[0], wanted[0]):
        half = torch.einsum("bk,bkl,bkl->bl", log_weights.softmax(dim=1) ** 2, slope, eps)
        spread = (0.5 * log_var).exp()
        usual_spread = {
            "The gradient for mu is right. In that for log_var the derivative of σ = exp(½ "
            "log_var) lacks its one half.": half * spread,
            "The gradient for mu is right. In that for log_var the width is missing: how does z "
            "move with log_var?": 0.5 * half,
            "The gradient for mu is right. Yours for log_var is that for σ.": half,
            "The gradient for mu is right. For log_var you take exp(log_var) for σ.":
                0.5 * half * spread**2,
            "The gradient for mu is right. That for log_var lacks the draw eps.":
                0.5 * wanted[0] * spread,
            "The gradient for mu is right. For log_var you add up the draws first and multiply by "
            "eps afterwards. Each draw has an eps of its own.":
                0.5 * wanted[0] * spread * eps.sum(dim=1),
            "The gradient for mu is right. For log_var you add up the draws first and multiply by "
            "the mean eps afterwards. Each draw has an eps of its own.":
                0.5 * wanted[0] * spread * eps.mean(dim=1),
            "The gradient for mu is right. For log_var you add the entropy's ½: the second door "
            "is closed.": 0.5 * half * spread + 0.5,
        }
        return compare(got[1], wanted[1], usual_spread, what="the gradient for log_var")
    compare(got[0], wanted[0], {hint: each[0] for hint, each in usual.items()},
            what="the gradient for mu")


@check(points=1)
def side_and_field(answer):
    """Exercise: side of the last map and of its receptive field, int, list -> int, int."""
    def measured(side, layers):
        """One axis of real convolutions, with weights of 1."""
        row = torch.ones(1, 1, side)
        pixels = torch.zeros(1, 1, 400, requires_grad=True)
        seen = pixels
        for size, stride, padding, gap in layers:
            weight = torch.ones(1, 1, size)
            row = F.conv1d(row, weight, stride=stride, padding=padding, dilation=gap)
            seen = F.conv1d(seen, weight, stride=stride, dilation=gap)
        seen[0, 0, seen.shape[2] // 2].backward()
        field = pixels.grad[0, 0].nonzero()
        return [row.shape[2], int(field.max() - field.min()) + 1]

    def mistaken(side, layers, *, frames=2, lost=0, upwards=False, reach=None, grows=None):
        field, step = 1, 1
        for size, stride, padding, gap in layers:
            long = reach(size, gap) if reach else (size - 1) * gap
            places = (side + frames * padding - long - 1) / stride
            side = (math.ceil(places) if upwards else math.floor(places)) + 1 - lost
            field += grows(long, stride, step) if grows else long * step
            step *= stride
        return [side, field]

    of_the_gaps = {
        "The numbers of a filter stand `gap` places apart. It reaches further than its size.":
            {"reach": lambda size, gap: size - 1},
        "A filter of k numbers has k − 1 gaps between them, and nothing behind the last.":
            {"reach": lambda size, gap: size * gap - 1},
        "With a gap of 1 the numbers are neighbours: a gap counts the steps from one number to "
        "the next, not the places that are left out.":
            {"reach": lambda size, gap: (size - 1) * (gap + 1)},
    }
    for side, layers in (
            (34, [(5, 2, 3, 1), (3, 2, 3, 3), (2, 1, 2, 1)]),  # tells the mistakes apart
            (28, [(4, 2, 1, 1), (4, 2, 1, 1)]), (28, [(3, 1, 1, 1)]),
            (30, [(7, 1, 0, 1), (2, 2, 0, 3), (3, 2, 1, 1), (3, 3, 1, 1)]),
            (12, [(3, 1, 2, 2), (3, 1, 4, 4), (3, 1, 8, 8)])):
        got = [as_number(each) for each in as_parts(
            ask(answer, side, layers), "the side of the map", "the side of its field")]
        wanted = measured(side, layers)
        if got == wanted[::-1]:
            raise Wrong("Both are right, and the other way round: the side of the map comes first.")
        compare(got[0], wanted[0], {hint: mistaken(side, layers, **how)[0] for hint, how in ({
            "Padding stands at both borders.": {"frames": 1},
            "You leave the padding out.": {"frames": 0},
            "The filter's first place is a place as well: one is missing in each layer.":
                {"lost": 1},
            "Where the stride does not come out even, the filter may not reach over the border: "
            "round down.": {"upwards": True},
        } | of_the_gaps).items()}, what="the side of the last map")
        if got[1] == side < wanted[1]:
            raise Wrong("The side of the map is right. But you cut the field at the side of the "
                        "image. Count as if the image had no end.")
        compare(got[1], wanted[1], {hint: mistaken(side, layers, **how)[1] for hint, how in ({
            "A step in a deep map is longer than a pixel. Which strides make it so?":
                {"grows": lambda long, stride, step: long},
            "A layer's own stride moves the places of its map apart. How far its filter reaches "
            "depends on the strides before it.":
                {"grows": lambda long, stride, step: long * step * stride},
            "You multiply by the stride of the layer itself. A step in the map that it reads is as "
            "long as all strides before it together.":
                {"grows": lambda long, stride, step: long * stride},
            "You add up the sides of the filters. But the place under a filter's first number is "
            "counted already.": {"grows": lambda long, stride, step: long + 1},
            "A filter of side k adds less than k steps.":
                {"grows": lambda long, stride, step: (long + 1) * step},
        } | of_the_gaps).items()} | {
            "A step in the map that a layer reads is as long as *all* strides before it together, "
            "not as the last of them.": 1 + sum(
                (size - 1) * gap * before for (size, _, _, gap), (_, before, *_) in zip(
                    layers, [(1, 1)] + layers, strict=False)),
            "You multiply the sides of the filters. Each layer *adds* to the field.":
                math.prod((size - 1) * gap + 1 for size, _, _, gap in layers),
            "You go through the layers from the first to the last, with a rule that goes from the "
            "last to the first.": mistaken(side, layers[::-1])[1],
            "A map with no layer sees one pixel, not none.": wanted[1] - 1,
        }, what="the side of the receptive field")


@check(points=2)
def stamps_per_pixel(answer):
    """Exercise: stamps on a pixel by row and column modulo the stride, int, int -> (s, s)."""
    def measured(size, stride):
        large = F.conv_transpose2d(torch.ones(1, 1, 12, 12), torch.ones(1, 1, size, size),
                                   stride=stride)[0, 0]
        start = 5 * stride  # in the middle, and at a remainder of 0
        return large[start:start + stride, start:start + stride]

    def along(size, stride):
        return measured(size, stride).diagonal().sqrt()

    def alike(number):
        return lambda size, stride: torch.full((stride, stride), float(number(size, stride) ** 2))

    for size, stride in ((3, 2), (5, 3), (4, 2), (7, 3), (3, 1)):
        _expect_shape(answer, (size, stride), measured, {
            "One axis is right, but stamps stand side by side and one below the other. How many "
            "pairs of a row and a column reach a pixel?": along,
            "Only pixels on the diagonal get stamps in yours. A pixel's row and its column are "
            "free of each other.": lambda size, stride: along(size, stride).diag(),
            "You add the stamps of the row and of the column. Each row of stamps holds a whole "
            "row of them.": lambda size, stride: along(size, stride)[:, None]
                + along(size, stride),
            "You count as if the last rows of the filter fell on the first remainder. On which "
            "row of the large map does the first row of a stamp lie?":
                lambda size, stride: measured(size, stride).flip(0, 1),
            "All remainders are alike in yours. Where the stride does not divide the size, some "
            "pixels get a stamp more.": alike(lambda size, stride: -(-size // stride)),
            "All remainders are alike in yours. Where the stride does not divide the size, some "
            "pixels get a stamp more. (And no stamp lies on a pixel by halves.)":
                alike(lambda size, stride: size / stride),
            "All remainders are alike in yours, and some pixels get more.":
                alike(lambda size, stride: size // stride),
            "This is the corner of the large map. Asked for is the middle, where stamps come "
            "from all sides.": lambda size, stride: F.conv_transpose2d(
                torch.ones(1, 1, 12, 12), torch.ones(1, 1, size, size),
                stride=stride)[0, 0, :stride, :stride],
        }, what="the table")
    for size, stride in ((2, 3), (1, 4)):
        got = as_tensor(ask(answer, size, stride), "the table")
        if not agree(got, measured(size, stride)):
            raise Wrong(f"For a filter of {size} and a stride of {stride} the table is wrong. A "
                        "filter smaller than the stride: some pixels get no stamp at all.")


def _expect_shape(answer, inputs, truth, mistakes, what):
    """As ``expect``, for results in which nothing is summed: of a wrong shape it says no more."""
    got, wanted = as_tensor(ask(answer, *inputs), what).detach(), truth(*inputs)
    usual = {hint: of(*inputs) for hint, of in mistakes.items()}
    if got.shape != wanted.shape and not any(agree(got, each) for each in usual.values()):
        raise Wrong(f"The shape of {what} is {tuple(got.shape)}, but {tuple(wanted.shape)} is "
                    "wanted.")
    compare(got, wanted, usual, what=what)


@check(points=2)
def channels_to_pixels(answer):
    """Exercise: the shuffle, (B, r r C, H, W), int r -> (B, C, r H, r W)."""
    def pictures(maps, r):
        """Number by number, as the formula says."""
        batch, channels, height, width = maps.shape
        colours = channels // r**2
        large = maps.new_zeros(batch, colours, r * height, r * width)
        for row, column in itertools.product(range(r * height), range(r * width)):
            (i, a), (j, c) = divmod(row, r), divmod(column, r)
            start = (r * a + c) * colours
            large[:, :, row, column] = maps[:, start:start + colours, i, j]
        return large

    def in_order(order):
        def shuffled(maps, r):
            batch, channels, height, width = maps.shape
            parts = maps.reshape(batch, r, r, -1, height, width)
            return parts.permute(["bacvij".index(each) for each in order]).reshape(
                batch, -1, r * height, r * width)
        return shuffled

    mistakes = {
        "You only give the numbers a new shape. They stay in their old order in memory, so a "
        "whole small map becomes a few rows of the large one.": lambda maps, r: maps.reshape(
            len(maps), -1, r * maps.shape[2], r * maps.shape[3]),
        "You put the channels last and then give the numbers a new shape. That reads each place "
        "as one run of numbers, and not as r rows of r.": lambda maps, r: maps.permute(
            0, 2, 3, 1).reshape(len(maps), -1, r * maps.shape[2], r * maps.shape[3]),
        "You read the channels as PyTorch's own shuffle does, with v as the slowest part of their "
        "number. Here it is the fastest: (r a + c) C + v.": F.pixel_shuffle,
        "Rows and columns within a place are exchanged: which of a and c belongs to the rows?":
            in_order("bvicja"),
        "The pictures stand side by side as tiles. In the result the rows of a place come after "
        "each other, before the next place: which axis is the slower one, i or a?":
            in_order("bvaicj"),
        "The rows are right, but each column of places stands as a tile. Which axis is the "
        "slower one in a row, j or c?": in_order("bviacj"),
        "The columns are right, but the rows stand as tiles. Which axis is the slower one in a "
        "column, i or a?": in_order("bvaijc"),
        "Both places stand before both parts, i j a c. A reshape joins neighbours only: which two "
        "belong to a row's number, and which two to a column's?": in_order("bvijac"),
        "Both parts stand before both places, a c i j. A reshape joins neighbours only: which two "
        "belong to a row's number, and which two to a column's?": in_order("bvacij"),
    }
    for shape, r in (((2, 12, 3, 5), 2), ((3, 18, 4, 2), 3), ((1, 32, 2, 3), 4)):
        _expect_shape(answer, (torch.randn(shape), r), pictures, mistakes, "the pictures")

    def squared(maps):
        return pictures(maps, 2) ** 2

    try:
        expect_gradient(lambda maps: as_tensor(answer(maps, 2)) ** 2, (torch.randn(2, 8, 2, 3),),
                        squared)
    except RuntimeError:  # numpy refuses a tensor that wants a gradient
        raise Wrong("The pictures are right, but no gradient can pass: you leave torch on the "
                    "way.") from None


@check(points=2)
def PooledEncoder(answer):  # noqa: N802
    """Exercise: an encoder with the mean over places, (B, side * side) -> two of (B, L)."""
    channels, latent_dim = 3, 5
    if isinstance(answer, nn.Module):
        raise Wrong("You give an encoder that is built. Give the class: its name, no brackets.")
    model = ask(answer, channels, latent_dim)
    if not isinstance(model, nn.Module):
        raise Wrong("Give the class itself, a subclass of nn.Module: the check builds one.")
    convolutions = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
    heads = [each for each in model.modules() if isinstance(each, nn.Linear)]
    if len(convolutions) != 2 or len(heads) != 2:
        raise Wrong(f"The check finds {len(convolutions)} nn.Conv2d and {len(heads)} nn.Linear in "
                    "your encoder. Two of each are wanted. (A Python list does not register "
                    "layers.)")
    _check_convolutions(convolutions, channels)
    wide = heads[0].in_features
    if wide != 2 * channels:
        raise Wrong(f"Your heads read {wide} numbers. After the mean over all places, one number "
                    f"for each map is left: {2 * channels} here.")
    for side in (28, 20, 40):
        x = torch.rand(4, side, side)
        hint = (f"It works for images of 28 × 28, and not for {side} × {side}. Where does a size "
                "come from?")
        try:
            mu, log_var = (each.detach() for each in as_tensors(
                ask(model, x.flatten(1)), "mu", "log_var"))
        except (RuntimeError, ValueError):
            if side == 28:
                raise
            raise Wrong(hint) from None
        for name, each in (("mu", mu), ("log_var", log_var)):
            if each.shape != (4, latent_dim):
                raise Wrong(f"The shape of {name} is {tuple(each.shape)}, for 4 images of "
                            f"{side} × {side} and {latent_dim} latents.")
        if agree(mu, log_var):
            raise Wrong("mu and log_var are the same numbers. Each needs a head of its own.")
        try:
            _check_pooling(convolutions, heads, x, mu, log_var)
        except Wrong:
            if side == 28:
                raise
            raise Wrong(hint) from None
    leaf_sum = sum(as_tensor(each).square().sum() for each in model(x.flatten(1)))
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not leaf_sum.requires_grad or any(each is None for each in torch.autograd.grad(
            leaf_sum, wanted, allow_unused=True)):
        raise Wrong("The numbers are right, but the gradient does not reach every parameter.")


def _check_convolutions(convolutions, channels):
    """Whether two layers are the convolutions that the exercise asks for."""
    convolutions.sort(key=lambda each: each.in_channels)
    for layer, (few, many) in zip(convolutions, ((1, channels), (channels, 2 * channels))):
        about = (f"from {layer.in_channels} to {layer.out_channels} channels with a "
                 f"{layer.kernel_size[0]} × {layer.kernel_size[1]} filter and stride "
                 f"{layer.stride[0]}")
        wanted = f"from {few} to {many} channels with a 4 × 4 filter and stride 2"
        if about != wanted:
            raise Wrong(f"One of your convolutions goes {about}. Wanted is {wanted}.")


def _check_pooling(convolutions, heads, x, mu, log_var):
    """Compares with what the model's own layers give when they are put together anew."""
    pools = {"mean": lambda maps: maps.mean(dim=(2, 3)), "sum": lambda maps: maps.sum(dim=(2, 3)),
             "largest": lambda maps: maps.amax(dim=(2, 3))}
    bends = {"GELU": F.gelu, "no": lambda maps: maps, "ReLU": F.relu, "tanh": torch.tanh}
    frames = {"circular": {"mode": "circular"}, "zeros": {}, "reflect": {"mode": "reflect"},
              "replicate": {"mode": "replicate"}}  # what stands round the image and round the map

    def numbers(layer):
        return layer.weight.double(), None if layer.bias is None else layer.bias.double()

    def agrees(pool="mean", first="GELU", second="GELU", frame=("circular",) * 2, images=x):
        maps = images[:, None].double()
        for layer, bend, mode in zip(convolutions, (first, second), frame, strict=True):
            maps = F.pad(maps, (1, 1, 1, 1), **frames[mode])
            maps = bends[bend](F.conv2d(maps, *numbers(layer), stride=2))
        one, other = (F.linear(pools[pool](maps), *numbers(head)) for head in heads)
        return (agree(mu, one) and agree(log_var, other)
                or agree(mu, other) and agree(log_var, one))

    with torch.no_grad():
        if agrees():
            return
        if agrees(images=x.transpose(1, 2)):
            raise Wrong("Rows and columns of the images are exchanged.")
        alike = [(mode, mode) for mode in frames]
        for how in itertools.product(pools, bends, bends, [
                *alike, ("circular", "zeros"), ("zeros", "circular")]):
            if agrees(*how):
                _name_the_pooling(*how)
    raise Wrong("Two convolutions, each with GELU, the mean over the places, two heads: put "
                "together from your layers, that gives other numbers than yours. In which order "
                "do you use them, what stands in the frame, and over which axes do you average?")


def _name_the_pooling(pool, first, second, frame):
    if pool == "sum":
        raise Wrong("You add up the places. A larger image would then shout: take the mean.")
    if pool == "largest":
        raise Wrong("You take the largest place of each map; the mean is wanted.")
    for bend, which in ((first, "first"), (second, "second")):
        if bend == "no":
            raise Wrong(f"There is no activation behind the {which} convolution.")
        if bend != "GELU":
            raise Wrong(f"Behind the {which} convolution stands {bend}, where GELU is wanted.")
    stands = {"zeros": "zeros stand", "reflect": "a mirror image of the border stands",
              "replicate": "the border itself, repeated, stands"}[max(frame)]
    raise Wrong(f"All is right but the frame of {'both layers' if frame[0] == frame[1] else 'one'}"
                f": {stands} there. An image that goes round the borders "
                "looks otherwise to the filters then. What should they find there?")


@check(points=1)
def class_posterior(answer):
    """Exercise: p(y given N pictures) from bounds, (B, N, C), (C,) -> (B, C)."""
    counts = torch.tensor([600.0, 50, 250, 1000])
    bounds = -3 + torch.randn(5, 3, 4)

    def truth(bounds, counts):
        """Shares as odds against each other: no sum of small numbers."""
        logs = bounds.double().sum(dim=1) + counts.double().log()
        return 1 / (logs[:, None, :] - logs[:, :, None]).exp().sum(dim=2)

    def prior(counts):
        return counts / counts.sum()

    def joint(bounds, counts):
        return bounds.sum(dim=1) + prior(counts).log()

    mistakes = {
        "The prior is missing: a rare class needs a better fit to be as likely.":
            lambda bounds, counts: bounds.sum(dim=1).softmax(dim=1),
        "You count the prior once for each picture. How often was the digit chosen?":
            lambda bounds, counts: (bounds + counts.log()).sum(dim=1).softmax(dim=1),
        "You average the bounds of the pictures. What is the probability of several independent "
        "pictures, given the class?":
            lambda bounds, counts: (bounds.mean(dim=1) + counts.log()).softmax(dim=1),
        "You average what each picture says alone. Three witnesses who agree are surer than one: "
        "what is the probability of all pictures, given the class?":
            lambda bounds, counts: (bounds + counts.log()).softmax(dim=2).mean(dim=1),
        "You multiply what each picture says alone, and the product is not normalised.":
            lambda bounds, counts: (bounds + counts.log()).softmax(dim=2).prod(dim=1),
        "You add the probabilities of the pictures. Independent ones are multiplied.":
            lambda bounds, counts: (bounds.logsumexp(dim=1) + counts.log()).softmax(dim=1),
        "You add the prior to a logarithm. A product becomes a sum of two logarithms.":
            lambda bounds, counts: (bounds.sum(dim=1) + prior(counts)).softmax(dim=1),
        "You add the counts to a logarithm. A product becomes a sum of two logarithms.":
            lambda bounds, counts: (bounds.sum(dim=1) + counts).softmax(dim=1),
        "You multiply the posterior by the prior at the end: now the classes of one digit do not "
        "add up to 1.": lambda bounds, counts: bounds.sum(dim=1).softmax(dim=1) * prior(counts),
        "An answer for each picture came out. The pictures of one digit share one.":
            lambda bounds, counts: (bounds + counts.log()).softmax(dim=2),
        "The product is not normalised: what do the classes of one digit add up to?":
            lambda bounds, counts: joint(bounds, counts).exp(),
        "You normalise over the batch. Which axis holds the labels?":
            lambda bounds, counts: joint(bounds, counts).softmax(dim=0),
        "You multiply bounds by probabilities. Bounds are logarithms.":
            lambda bounds, counts: (bounds.sum(dim=1) * prior(counts)).softmax(dim=1),
        "The prior is turned round: you divide by it.":
            lambda bounds, counts: (bounds.sum(dim=1) - counts.log()).softmax(dim=1),
        "The bounds have the wrong sign: the class that fits worst is the most probable.":
            lambda bounds, counts: (counts.log() - bounds.sum(dim=1)).softmax(dim=1),
        "Everything has the wrong sign: the least probable class is the most probable.":
            lambda bounds, counts: (-joint(bounds, counts)).softmax(dim=1),
        "This is the logarithm of the posterior. The probability itself is asked for.":
            lambda bounds, counts: joint(bounds, counts).log_softmax(dim=1),
        "The most probable label came out. Asked for is the probability of each.":
            lambda bounds, counts: joint(bounds, counts).argmax(dim=1),
        "Only the most probable label has a probability in yours. How sure is it?":
            lambda bounds, counts: F.one_hot(joint(bounds, counts).argmax(dim=1), 4),
    }
    expect(answer, (bounds, counts), truth, mistakes, what="the posterior")
    far = bounds + torch.tensor([-90.0, -250, -900, 400, -90])[:, None, None]
    got = as_tensor(ask(answer, far, counts), "the posterior")
    if got.shape == (5, 4) and not (got.sum(dim=1) - 1).abs().max() < 1e-3:
        raise Wrong("In a batch with bounds near −90, −250, −900 and 400 the classes of a digit do "
                    "not add up to 1. exp of such numbers is 0, or too large for a float, even if "
                    "the batch's largest is subtracted before.")
    compare(got, truth(far, counts), tolerance=1e-3, what="the posterior")


class _Asked:
    """A log weight that depends on image, label and the number of times that it was asked."""

    def __init__(self, x, y):
        self.x, self.y = x, y
        self.times, self.wrong_labels = [0] * len(x), 0

    def value(self, image, label, time):
        """The log weight of an image (by its number) with a label at its time-th draw."""
        return -80.0 - 7 * image - 11 * (int(label) - int(self.y[image])) ** 2 - 0.5 * time**2

    def log_weight(self, x, y):
        """One value for each row: (R, D), (R,) -> (R,)."""
        x, y = as_tensor(x), as_tensor(y)
        if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
            raise Wrong(f"You call log_weight with x of shape {tuple(x.shape)} and y of shape "
                        f"{tuple(y.shape)}. It wants rows (R, D) and as many labels, (R,).")
        values = []
        for row, label in zip(x, y):
            same = (self.x == row).all(dim=1).nonzero().flatten().tolist()
            if not same:
                raise Wrong("You call log_weight with a row that is none of the images.")
            image = same[0]
            self.wrong_labels += int(label) != int(self.y[image])
            values.append(self.value(image, label, self.times[image]))
            self.times[image] += 1
        return torch.tensor(values)


@check(points=2)
def labelled_bound(answer):
    """Exercise: the mean log weight of each image, function, (B, D), (B,), int -> (B,)."""
    for batch, num in ((5, 3), (3, 4), (2, 1)):
        x, y = torch.randn(batch, 6), torch.arange(batch) * 2 % 7
        asked = _Asked(x, y)

        def log_weight(x, y, asked=asked):  # a function is not copied when the answer is asked
            return asked.log_weight(x, y)

        got = as_tensor(ask(answer, log_weight, x, y, num), "the bounds")
        if asked.wrong_labels:
            raise Wrong(f"{asked.wrong_labels} of {sum(asked.times)} draws were made with the "
                        "label of another image. In which order do the copies of x and of the "
                        "labels stand?")
        if asked.times != [num] * batch:
            raise Wrong(f"The images were drawn {asked.times} times, where num_samples is {num}.")
        table = torch.tensor([[asked.value(image, y[image], time) for time in range(num)]
                              for image in range(batch)])  # (B, K)
        mixed = table.T.reshape(batch, num)  # batch after batch, read as image after image
        compare(got, table.mean(dim=1), {
            "Each image has its own label now. But the means are taken over draws of different "
            "images: in which order do the rows come back?": mixed.mean(dim=1),
            "Each image has its own label now. But the means are taken over draws of different "
            "images: rows that stand together are not always of one image.":
                table.reshape(num, batch).mean(dim=0),
            "You take the log of the mean weight. That is a tighter bound; asked for is the "
            "ELBO.": table.logsumexp(dim=1) - math.log(num),
            "You add up the draws; their mean is wanted.": table.sum(dim=1),
            "You average over the images.": table.mean(dim=0),
            "You average over everything. Each image has its own bound.": table.mean(),
            "You return every draw. Average over them.": table,
            "You return every draw, and the images are the second axis. Average over the draws.":
                table.T,
        }, what="the bounds")


@check(points=1)
def unlabelled_bound(answer):
    """Exercise: bound on log p(x) without a label, (B, C), (B, C), (C,) -> (B,) in nats."""
    def truth(bounds, logits, log_py):
        q = Categorical(logits=logits)
        return torch.einsum("bc,bc->b", q.probs, bounds + log_py) + q.entropy()

    def q_of(logits):
        return logits.softmax(dim=1)

    def entropy(logits):
        return Categorical(logits=logits).entropy()

    def expected(bounds, logits, log_py):
        return truth(bounds, logits, log_py) - entropy(logits)

    log_py = torch.tensor([0.5, 0.2, 0.2, 0.1]).log()
    inputs = -4 + 2 * torch.randn(3, 4), 1.5 * torch.randn(3, 4), log_py
    expect(answer, inputs, truth, {
        "The entropy has the wrong sign: a classifier that leaves the label open is paid for it.":
            lambda bounds, logits, log_py: expected(bounds, logits, log_py) - entropy(logits),
        "The entropy is missing.": expected,
        "The entropy is one number for the whole batch in yours. Each image has its own.":
            lambda bounds, logits, log_py: expected(bounds, logits, log_py) + entropy(logits).sum(),
        "The entropy is a mean over the batch in yours. Each image has its own.":
            lambda bounds, logits, log_py: expected(
                bounds, logits, log_py) + entropy(logits).mean(),
        "log p(y) is missing.": lambda bounds, logits, log_py: truth(bounds, logits, 0 * log_py),
        "You average over the labels. They are weighted by q already: take their sum.":
            lambda bounds, logits, log_py: truth(bounds, logits, log_py) / 4,
        "This is log p(x) itself, if the bounds are exact. The classifier has no say in it.":
            lambda bounds, logits, log_py: (bounds + log_py).logsumexp(dim=1),
        "One number for the batch came out; one for each image is wanted.":
            lambda bounds, logits, log_py: truth(bounds, logits, log_py).mean(),
        "You add up over the images. Which axis holds the labels?":
            lambda bounds, logits, log_py: (
                q_of(logits) * (bounds + log_py - q_of(logits).log())).sum(dim=0),
        "You use the logits as if they were probabilities.": lambda bounds, logits, log_py: (
            logits * (bounds + log_py)).sum(dim=1) + entropy(logits),
        "You use the logits as if they were probabilities, and their logs as well.":
            lambda bounds, logits, log_py: (logits * (bounds + log_py - logits)).sum(dim=1),
        "You use the logits as if they were probabilities, and take the log of negative numbers.":
            lambda bounds, logits, log_py: (logits * (bounds + log_py - logits.log())).sum(dim=1),
        "You take the logits for log q(y|x). They are, but for a constant of each image: what "
        "must the q add up to?": lambda bounds, logits, log_py: (
            q_of(logits) * (bounds + log_py - logits)).sum(dim=1),
        "You take log p(y) for p(y), or p(y) for its logarithm.":
            lambda bounds, logits, log_py: truth(bounds, logits, log_py.exp()),
        "The softmax runs over the images.": lambda bounds, logits, log_py: (
            logits.softmax(dim=0) * (bounds + log_py - logits.log_softmax(dim=0))).sum(dim=1),
        "There is one number for each label. Add them up.": lambda bounds, logits, log_py: (
            q_of(logits) * (bounds + log_py - q_of(logits).log())),
    }, what="the bound")
    sure = inputs[0], 300 * inputs[1], log_py
    got = as_tensor(ask(answer, *sure))
    if not got.isfinite().all():
        raise Wrong("For a classifier that is very sure you get NaN or infinity: 0 times the log "
                    "of 0. Can you have log q without q?")
    compare(got, truth(*sure), what="the bound of a sure classifier")

    def slope(function, inputs):
        leaf = inputs[1].clone().requires_grad_()
        value = as_tensor(function(inputs[0] * 1, leaf * 1, inputs[2] * 1)).sum()
        if not value.requires_grad:
            raise Wrong("The number is right, but no gradient reaches the logits. The classifier "
                        "could not learn from it.")
        try:
            return torch.autograd.grad(value, leaf)[0]
        except RuntimeError:
            raise Wrong("The number is right, but autograd cannot go back through it. Do you "
                        "change something in place (`-=`) that it still needs?") from None

    compare(slope(answer, inputs), slope(truth, inputs), {
        "The number is right. But q is held fixed: the logits get the gradient 0, and the "
        "classifier could not learn from it.": torch.zeros(3, 4),
        "The number is right. But the q before the bracket is held fixed where it weighs the "
        "bounds: its gradient has to pass there, too.": slope(
            lambda bounds, logits, log_py: entropy(logits), inputs),
        "The number is right. But the entropy is held fixed: its gradient has to pass, too.":
            slope(expected, inputs),
    }, tolerance=1e-3, what="the gradient for the logits")
    expect_gradient(answer, inputs, truth)
    if not slope(answer, sure).isfinite().all():
        raise Wrong("For a classifier that is very sure the number is right, and its gradient is "
                    "NaN: somewhere the log of 0 is still taken. Can you have log q without q?")


@check(points=2)
def frechet_by_luck(answer):
    """Exercise: mean Fréchet distance of two heaps from one source, (F,), int -> ()."""
    def measured(variances, num, count=20_000):
        generator = torch.Generator().manual_seed(0)
        luck = torch.randn(2, count, num, len(variances), generator=generator)
        heaps = variances.sqrt() * luck
        means, spreads = heaps.mean(dim=2), heaps.std(dim=2)
        apart = (means[0] - means[1]).square() + (spreads[0] - spreads[1]).square()
        return apart.sum(dim=1).mean()

    for variances, num in ((torch.tensor([9.0, 400.0, 25.0, 100.0]), 60),
                           (torch.tensor([2500.0, 16.0]), 120)):
        total = variances.sum() / num  # the answers below are multiples of it
        got = steady(answer, variances, num, hint="A formula is wanted.")
        spread_total = variances.sqrt().sum() / num
        compare(got, measured(variances, num), {
            "One heap alone is off by as much as that. Here two are, each in its own way.":
                1.5 * total,
            "You have the means of both heaps. Their spreads differ by luck as well.": 2 * total,
            "You have the spreads of both heaps. Their means differ by luck as well.": total,
            "The variance of a measured standard deviation has a 2 below the line.": 4 * total,
            "Of the means you count both heaps, and of the spreads one.": 2.5 * total,
            "You compare the variances of the heaps. The distance compares their standard "
            "deviations.": 2 * total + 4 * variances.square().sum() / num,
            "There is one number for each feature. The distance is a sum over them.":
                3 * variances / num,
            "You average over the features. The distance is a sum over them.":
                3 * total / len(variances),
            "By the number of pictures nothing is divided in yours.": 3 * total * num,
            "You divide by the root of the number. Squared errors fall as 1/N.":
                3 * total * num**0.5,
            "You take the given variances for standard deviations, or the other way round.":
                3 * spread_total,
            "You add standard errors. The distance is made of squares.":
                3 * (variances / num).sqrt().sum(),
        }, tolerance=0.05, what="the distance")
        if not agree(got, as_tensor(ask(answer, variances.flip(0), num)).detach()):
            raise Wrong("With the features in another order the number is another one, so it is "
                        "drawn. A formula is wanted.")
