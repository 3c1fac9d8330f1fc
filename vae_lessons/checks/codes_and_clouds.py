"""Checks of the exercises on codes, clouds, and draws that a gradient can pass."""

import itertools

import torch
from torch import nn
from torch.distributions import Gumbel, MultivariateNormal, Normal

from vae_lessons.checks.verdict import (
    Wrong,
    agree,
    as_parts,
    as_tensor,
    ask,
    check,
    compare,
    expect,
    steady,
)

HALF = "You use exp(log_var) as the width. It is the variance; what is its square root?"


def _width(log_var):
    return (0.5 * log_var).exp()


@check(points=2)
def pca_copies(answer):
    """Exercise: copies of the images by PCA, (N, D), int -> (N, D)."""
    images = torch.randn(40, 6) * torch.tensor([4.0, 0.1, 1.6, 0.25, 0.7, 0.05])
    images = images @ torch.linalg.qr(torch.randn(6, 6)).Q + torch.tensor([4, -3, 2, 0, 1, 5])
    mean = images.mean(dim=0)

    def around(centre, rows_of=None):
        off = images - centre
        rows = torch.linalg.svd(off).Vh if rows_of is None else rows_of
        return centre + off @ rows[:size].T @ rows[:size]

    for size in (2, 3, 1):
        got = as_tensor(ask(answer, images, size))
        if got.shape == (len(images), size):
            raise Wrong("These are the codes, one short list for each image. Decode them, too.")
        right, columns = around(mean), torch.linalg.eigh(images.T.cov()).eigenvectors
        compare(got, right, {
            "The mean image is missing from your copies. What was taken off must be put back.":
                right - mean,
            "Your sheet lies where the images spread least. In which order do the eigenvalues or "
            "singular values come?": around(mean, torch.linalg.svd(images - mean).Vh.flip(0)),
            "Your sheet is laid through the point 0. It should go through the mean image.":
                around(torch.zeros(6)),
            "Your directions come from images that were not centred first.":
                around(mean, torch.linalg.svd(images).Vh),
            "You project onto the rows of the matrix of eigenvectors. Where does `eigh` put them?":
                around(mean, columns.flip(0)),
            "You centre with one number, the mean of all pixels of all images. The mean image has "
            "one for each pixel.": around(images.mean()),
            "You take the mean over the pixels of each image. The mean image is one over images.":
                around(images.mean(dim=1, keepdim=True)),
        }, tolerance=1e-3, what="the copies")
    compare(ask(answer, images, 0), mean.expand_as(images), {
        "With codes of no numbers you return the images themselves. What does `[-0:]` take?":
            images,
    }, tolerance=1e-3, what="the copies for codes of no numbers, which are all the mean image,")


@check(points=2)
def pca_errors(answer):
    """Exercise: mean squared error of PCA for codes of 0 to D numbers, (D,), int -> (D + 1,)."""
    images = torch.randn(30, 5) @ torch.randn(5, 5) + 2
    centred = images - images.mean(dim=0)
    left, lengths, right = torch.linalg.svd(centred, full_matrices=False)
    copies = [(left[:, :size] * lengths[:size]) @ right[:size] for size in range(6)]
    truth = torch.stack([(copy - centred).square().sum(dim=1).mean() for copy in copies])
    roots = torch.stack([lengths[size:].sum() for size in range(6)])
    got = as_tensor(ask(answer, lengths, 30))
    if got.shape == (5,):
        raise Wrong("There are 5 values and 6 are wanted: codes of 0 numbers and of 5 count, too.")
    compare(got, truth, {
        "That is what is kept. What is lost?": truth[0] - truth,
        "The squared error is made of squared singular values.": roots / 30,
        "That is the sum over all images. Wanted is the mean over them.": truth * 30,
        "You divide by the number of pixels, too. The chapter sums over the pixels.": truth / 5,
        "You divide by N − 1. Here it is a plain mean over N images.": truth * 30 / 29,
        "You took the root. The squared error is wanted.": truth.clamp(min=0).sqrt(),
        "The right values, from the longest code to the shortest. Turn them round.": truth.flip(0),
        "That is the share of the spread that is lost. The error itself is wanted.":
            truth / truth[0],
    }, tolerance=1e-3, what="the errors")


@check(points=1)
def share_of_holes(answer):
    """Exercise: expected share of cells without a code, int, int, int -> float."""
    for num, each, dim in [(4, 3, 2), (5, 3, 1), (4, 2, 3)]:
        cells = each**dim
        ways = list(itertools.product(range(cells), repeat=num))  # where each code may fall
        truth = sum(1 - len(set(way)) / cells for way in ways) / len(ways)
        compare(ask(answer, num, each, dim), truth, {
            "That is the share of cells that hold a code.": 1 - truth,
            "That is the number of empty cells. Divide by the number of all cells.": truth * cells,
            "Two codes may fall into the same cell, so they do not fill a cell each.":
                1 - num / cells,
            "The number of all cells is not that along an axis times the axes. Count them for 2 "
            "cells along each of 3 axes.": (1 - 1 / (each * dim)) ** num,
            "You want every code to miss the cell along every axis. A code misses it already when "
            "it lies elsewhere along one axis.": (1 - 1 / each) ** (num * dim),
            "That is the limit for very many cells. With few it is a little too large.":
                torch.tensor(-num / cells).exp(),
            "That is the chance that one given cell is hit by every code. It must be missed by "
            "every code.": cells**-num,
        }, what=f"the share for {num} codes in {each} cells along each of {dim} axes")
    compare(ask(answer, 60_000, 2, 32), 1 - 60_000 / 2**32,
            what="the share for 60,000 codes of 32 numbers, with 2 cells along each axis")


@check(points=2)
def fitted_bell(answer):
    """Exercise: draws with the mean and covariance of the codes, (N, L), (K, N) -> (K, L)."""
    codes = torch.randn(12, 20) * (0.5 + torch.rand(20)) + 3 * torch.randn(20)
    codes[:, 1] += codes[:, 0]
    # For a draw of the form m + A eps: eps = 0 gives m, and the unit vectors give A's columns.
    probe = torch.cat([torch.zeros(1, 12), torch.eye(12)])
    got = steady(answer, codes, probe, hint="The luck is given, as noise.").double()
    if got.shape != (13, 20):
        raise Wrong(f"For 13 rows of noise the shape of the draws is {tuple(got.shape)}; (13, 20) "
                    "is wanted, one new code for each row of noise.")
    mean, squares = codes.double().mean(dim=0), codes.double().T @ codes.double()
    compare(got[0], mean, {
        "The mean of the codes is missing from the draws.": torch.zeros(20),
    }, tolerance=0.01, what="the draw for a noise of zeros, which is the mean,")
    columns, wanted = (got[1:] - got[0]).T, codes.double().T.cov(correction=0)
    found = columns @ columns.T
    if not agree(found, wanted * 12 / 11, 0.01):
        compare(found, wanted, {
            "That is still the covariance of the function above.": squares / 12**2,
            "Right in form, but by far too narrow. N independent terms add up: how many times the "
            "variance of one has their sum?": wanted / 12,
            "The scale is right now. But you mix the codes as seen from 0, and a covariance is "
            "about how they lie around their mean.": squares / 12,
            "Right in form, but by far too wide: you add up N spreads.": wanted * 12,
            "You mix the codes as seen from 0, and you add up N spreads.": squares,
            "You divide by the root of the number of coordinates. How many terms add up?":
                wanted * 12 / 20,
            "You give each coordinate its spread, but they do not vary together.":
                wanted.diag().diag(),
        }, tolerance=0.01, what="the covariance of the draws")
    noise = torch.randn(7, 12)
    compare(ask(answer, codes, noise), got[0] + noise.double() @ columns.T, tolerance=0.01,
            what="the draws for a random noise")


@check(points=1)
def mean_squared_length(answer):
    """Exercise: E[z_1^2 + ... + z_L^2] for z from each cloud, (B, L), (B, L) -> (B,)."""
    inputs = torch.randn(5, 3) + 0.5, torch.randn(5, 3)

    def truth(mu, log_var):  # Simpson's rule, over twelve widths to either side
        eps = torch.linspace(-12, 12, 2401)[:, None, None].double()
        density = Normal(0.0, 1.0).log_prob(eps).exp() * 0.01
        return ((mu + _width(log_var) * eps).square() * density).sum(dim=(0, 2))

    def each(mu, log_var):
        return mu**2 + log_var.exp()

    steady(answer, *inputs)
    expect(answer, inputs, truth, {
        "That is where the cloud's centre lies. The width throws further out.":
            lambda mu, log_var: (mu**2).sum(dim=1),
        "One number came out for each latent, not for each image: which axis counts the latents?":
            lambda mu, log_var: each(mu, log_var).sum(dim=0),
        "You have not summed over the latent dimensions.": each,
        "You average over the latent dimensions. A squared length is a sum.":
            lambda mu, log_var: each(mu, log_var).mean(dim=1),
        "You add the width where its square is wanted.":
            lambda mu, log_var: (mu**2 + _width(log_var)).sum(dim=1),
        "You square the variance. It is a square already.":
            lambda mu, log_var: (mu**2 + (2 * log_var).exp()).sum(dim=1),
        "You add 1 for each latent, as if all clouds had the width 1.":
            lambda mu, log_var: (mu**2 + 1).sum(dim=1),
        "You square mu + σ as a whole. Centre and luck are added, and the luck has mean 0.":
            lambda mu, log_var: (mu + _width(log_var)).square().sum(dim=1),
        "log_var is the logarithm of the variance, not the variance.":
            lambda mu, log_var: (mu**2 + log_var).sum(dim=1),
        "That is the root of what is wanted.":
            lambda mu, log_var: each(mu, log_var).sum(dim=1).sqrt(),
        "That is the variance of the draw. A mean square is more than a variance.":
            lambda mu, log_var: log_var.exp().sum(dim=1),
        "One number for the whole batch came out; one for each image is wanted.":
            lambda mu, log_var: each(mu, log_var).sum(),
    })


@check(points=2)
def aggregate_covariance(answer):
    """Exercise: covariance of a draw from a random cloud, (B, L), (B, L) -> (L, L)."""
    mu = torch.randn(600, 3) @ torch.tensor([[1.0, 0.8, -0.3], [0.0, 0.5, 0.4], [0.0, 0.0, 1.2]])
    mu, log_var = mu + torch.tensor([2.0, 0.0, -1.0]), torch.randn(600, 3) * 0.7 - 0.5

    # Two points for each axis of each cloud, sqrt(3) widths out, have its mean and covariance.
    steps = 3**0.5 * _width(log_var)[:, None] * torch.eye(3)
    points = torch.cat([mu[:, None] + steps, mu[:, None] - steps]).flatten(0, 1)
    within, between = log_var.exp().mean(dim=0), mu.T.cov()
    got = steady(answer, mu, log_var)
    if got.shape == (600, 600):
        raise Wrong("The matrix has one row for each image; one for each latent is wanted. "
                    "What does `torch.cov` take for a variable, a row or a column?")
    if got.shape == (3,):
        raise Wrong("These are variances, one for each latent. The whole matrix is wanted.")
    compare(got, points.double().T.cov(), {
        "That is the covariance of the centres. A draw also leaves its centre.": between,
        "That is the mean spread inside a cloud. The centres lie apart, too.": within.diag(),
        "You add the mean of the widths. What adds up are variances.":
            between + _width(log_var).mean(dim=0).diag(),
        "You take exp(log_var) for the width and square it. It is the variance already.":
            between + (2 * log_var).exp().mean(dim=0).diag(),
        "You average the log variances. It is the variances that must be averaged.":
            between + log_var.mean(dim=0).exp().diag(),
        "You add the spread inside the clouds to every entry of a column. Inside a cloud two "
        "different coordinates are independent: where does it belong?": between + within,
        "Take the mean off first: a covariance is about the distance from the mean.":
            mu.T @ mu / 600 + within.diag(),
        "The entries off the diagonal are missing. Are the centres independent?":
            between.diag().diag() + within.diag(),
        "You add up the variances of all clouds. The mean over the images is wanted.":
            between + log_var.exp().sum(dim=0).diag(),
    }, tolerance=5e-3, what="the covariance")


@check(points=2)
def in_new_units(answer):
    """Exercise: a layer that says of A z + m what the layer says of z, nn.Linear -> nn.Linear."""
    layer = nn.Linear(3, 5)
    given = [each.detach().clone() for each in layer.parameters()]
    matrix = torch.tensor([[1.5, -0.4, 0.3], [0.2, 0.8, -0.6], [0.5, 0.1, 1.2]])
    shift = torch.tensor([1.0, -2.0, 0.5])
    z = torch.randn(7, 3)
    new = ask(lambda: answer(layer, matrix.clone(), shift.clone()))
    if any(not torch.equal(*pair) for pair in zip(given, layer.parameters(), strict=True)):
        raise Wrong("Your function changes the layer that it was given. Make a new one.")
    if not isinstance(new, nn.Module):
        raise Wrong("Return a layer, an `nn.Linear` with new weights.")
    moved = (z @ matrix.T + shift).to(next(new.parameters(), z).dtype)  # it may be in float64
    got = as_tensor(new(moved), "what the new layer says")

    def says(weight, bias):
        return (z @ matrix.T + shift) @ weight.T + bias

    (weight, bias), inverse = given, torch.linalg.inv(matrix)
    compare(got, layer(z), {
        "That layer undoes nothing: its weights are still those of the old one.":
            says(weight, bias),
        "The stretch and the turn are undone, the shift is not.": says(weight @ inverse, bias),
        "The shift is undone, the stretch and the turn are not.":
            says(weight, bias - weight @ shift),
        "You apply A once more. It must be undone.":
            says(weight @ matrix, bias - weight @ matrix @ shift),
        "The shift goes the wrong way.": says(weight @ inverse, bias + weight @ inverse @ shift),
        "The new bias must undo the shift with the new weights, not with the old ones.":
            says(weight @ inverse, bias - weight @ shift),
        "You use the inverse transposed. Points are rows: write one of them as a column and "
        "check.": says(weight @ inverse.T, bias - weight @ inverse.T @ shift),
    }, tolerance=1e-3, what="what the new layer says")


@check(points=3)
def best_answer(answer):
    """Exercise: weighted mean of the images, (K, L), (N, L), (N, L, L), (N, D) -> (K, D)."""
    mu, images = torch.randn(6, 2), torch.rand(6, 4)
    root = torch.diag_embed((0.8 * torch.randn(6, 2)).exp())
    root[:, 1, 0] = torch.randn(6)
    near, far = torch.randn(5, 2), torch.tensor([[900.0, -400.0], [-300.0, 800.0]])

    def size(root):  # the logarithm of how much it enlarges an area
        return torch.linalg.slogdet(root.double()).logabsdet

    def logs(z, mu, root):
        return MultivariateNormal(mu.double(), scale_tril=root.double()).log_prob(
            z.double()[:, None])

    def with_logs(change, density=logs):
        return lambda z, mu, root, images: (
            change(density(z, mu, root), root.double()) @ images.double())

    def without_front(undo):
        def density(z, mu, root):
            luck = torch.linalg.solve(undo(root.double()), (z[:, None] - mu).double()[..., None])
            return -0.5 * luck.square().sum(dim=(2, 3)) - size(root)
        return with_logs(lambda logs, root: logs.softmax(1), density)

    def axes(root):  # the logarithm of the area if the cloud were not slanted
        return (root @ root.mT).diagonal(dim1=1, dim2=2).log().sum(dim=1) / 2

    truth = with_logs(lambda logs, root: logs.softmax(1))
    expect(answer, (near, mu, root, images), truth, {
        "Large clouds still get too much say. All clouds hold the same mass: how thin is it where "
        "R has enlarged an area?": with_logs(lambda logs, root: (logs + size(root)).softmax(1)),
        "You count the size of a cloud twice. Is it R or its square that enlarges an area?":
            with_logs(lambda logs, root: (logs - size(root)).softmax(1)),
        "The factor in front is upside down: a large cloud is a thin one.":
            with_logs(lambda logs, root: (logs + 2 * size(root)).softmax(1)),
        "You take the widths along the axes for the size of a cloud. A slanted cloud may be wide "
        "along both axes, and yet cover little.":
            with_logs(lambda logs, root: (logs + size(root) - axes(root)).softmax(1)),
        "You use R transposed.": without_front(lambda root: root.mT),
        "You undo the covariance R Rᵀ. What undoes the step from ε to R ε?":
            without_front(lambda root: root @ root.mT),
        "You leave out that the clouds are slanted.":
            without_front(lambda root: torch.diag_embed(root.diagonal(dim1=1, dim2=2))),
        "Your weights do not add up to 1 at each point: you normalise over the points.":
            with_logs(lambda logs, root: logs.softmax(0)),
        "Your weights do not add up to 1 at each point.":
            with_logs(lambda logs, root: logs.exp()),
        "You weigh all images alike.":
            with_logs(lambda logs, root: torch.full_like(logs, 1 / 6)),
    }, what="the answers near the clouds")
    got = as_tensor(ask(answer, far, mu, root, images))
    if got.isnan().any():
        raise Wrong("Near the clouds the answer is right; far from all of them it is still nan. "
                    "All weights round to 0 there. What may be done to their logarithms first?")
    compare(got, truth(far, mu, root, images), {
        "Near the clouds the answer is right; far from all of them it is 0, because all weights "
        "round to 0. A small number added below the line does not help.": torch.zeros(2, 4),
        "Near the clouds the answer is right; far from all of them it is the mean of all images, "
        "because all weights round to the same.": images.mean(dim=0).expand(2, 4),
    }, what="the answers far from the clouds")


@check(points=1)
def draw_from_clouds(answer):
    """Exercise: a draw from each N(mu, diag exp(log_var)), differentiable, (B, L) twice."""
    num = 1000
    centres, logs = torch.tensor([[3.0, -1.0], [0.5, 2.0], [-4.0, 0.0]]), torch.tensor(
        [[0.8, -1.5], [-0.6, 1.2], [-2.0, 0.4]])
    mu, log_var = (each.repeat(num, 1).requires_grad_() for each in (centres, logs))
    answers = [ask(lambda: answer(mu * 1, log_var * 1)) for _ in range(2)]
    z, again = map(as_tensor, answers)
    if z.shape != mu.shape:
        raise Wrong(f"The shape of the draw is {tuple(z.shape)}; {tuple(mu.shape)} is wanted, one "
                    "point for each cloud.")
    if not z.isfinite().all():
        raise Wrong("Some draws are NaN or infinite.")
    if torch.equal(z, again):
        alike = z.detach().view(num, 3, 2).std(dim=0).max() < 1e-4  # for all images of one cloud
        raise Wrong("Two calls give the same draw. " + (
            "Is anything random in it?" if alike else "Do you fix a seed?"))
    _judge_draws(z.detach().double().view(num, 3, 2), centres.double(), logs.double())
    _judge_gradient(z, mu, log_var)


def _judge_draws(z, centres, logs):
    """z (K, 3, 2) against the Gaussians with these centres and log variances, both (3, 2)."""
    num, width, spread = len(z), _width(logs), z.std(dim=0)
    shared = "Your draws hang together: {} share their luck. How many random numbers are needed?"
    if (spread < 1e-4).any():
        raise Wrong(shared.format("all images"))
    flat = ((z - centres) / width).view(num, 6)
    if (flat.T.corrcoef() - torch.eye(6)).abs().max() > 6 / num**0.5:
        raise Wrong(shared.format("some coordinates, or some images,"))
    if ((z.mean(dim=0) - centres).abs() > 6 * spread / num**0.5).any():
        raise Wrong("The mean of your draws is not mu. What is the mean of your luck?")
    for hint, wrong in {
        HALF: logs.exp(),
        "You use log_var as the width. It is the logarithm of its square.": logs.abs(),
        "All clouds have the width 1. Where is log_var?": torch.ones(3, 2),
        "The widths are the inverse of what they should be.": 1 / width,
    }.items():
        if ((spread / wrong - 1).abs() < 0.1).all():
            raise Wrong(hint)
    if ((spread / width - 1).abs() > 6 / (2 * num) ** 0.5).any():
        raise Wrong(f"The spread of your draws in coordinate 0 of cloud 0 is {spread[0, 0]:.2f}; "
                    f"{width[0, 0]:.2f} is wanted.")
    within = (flat.abs() < 1).double().mean()  # 68.27 % of a normal distribution
    if abs(within - 0.6827) > 6 * 0.47 / (6 * num) ** 0.5:
        raise Wrong("Mean and spread are right, but the draws are not normally distributed.")


def _judge_gradient(z, mu, log_var):
    """dz / dmu must be 1, and dz / dlog_var half the way from the centre to the draw."""
    if not z.requires_grad:
        raise Wrong("No gradient passes through your draw. Look for `.sample()`, `.detach()` or "
                    "`torch.no_grad()`.")
    got = torch.autograd.grad(z.sum(), [mu, log_var], allow_unused=True)
    wanted = torch.ones_like(mu), 0.5 * (z - mu).detach()
    for name, slope, right in zip(("mu", "log_var"), got, wanted, strict=True):
        if slope is None or (slope == 0).all():
            raise Wrong(f"The draws are right, but autograd thinks that {name} makes no difference "
                        "to them. Which function hides its inputs?")
        compare(slope, right, tolerance=1e-3, what=f"the gradient of {name}")


@check(points=2)
def loss_of_draw(answer):
    """Exercise: the squared error of the decoded draw, x (B, D), eps (B, L) -> (B,)."""
    weights = [torch.randn(4, 3) * 0.5, torch.randn(4, 3) * 0.5, torch.randn(3, 4) * 0.5]
    x, eps = torch.rand(6, 4), torch.randn(6, 3)
    names = "the encoder's mu", "the encoder's log_var", "the decoder"

    def put_to(function):
        to_mu, to_log_var, back = leaves = [each.clone().requires_grad_() for each in weights]
        loss = function(lambda x: (x @ to_mu, x @ to_log_var - 1),
                        lambda z: torch.sigmoid(z @ back), x.clone(), eps.clone())
        return loss, leaves

    def with_width(width, finish=lambda errors: errors.sum(dim=1)):
        def loss_with(encode, decode, x, eps):
            mu, log_var = encode(x)
            return finish((decode(mu + width(log_var) * eps) - x).square())
        return put_to(loss_with)

    loss, leaves = put_to(lambda *inputs: ask(lambda: answer(*inputs)))
    loss = as_tensor(loss, "the loss")
    right, right_leaves = with_width(lambda log_var: log_var.exp().sqrt())
    steady(lambda: put_to(answer)[0], hint="The luck is given, as eps.")
    compare(loss, right, {
        HALF: with_width(torch.exp)[0],
        "You use log_var as the width. It is the logarithm of its square.":
            with_width(lambda log_var: log_var)[0],
        "The noise is missing: you decode the centre of the cloud.":
            with_width(torch.zeros_like)[0],
        "The noise is not stretched: where is log_var?": with_width(torch.ones_like)[0],
        "You average over the pixels. The function above sums, and so should yours.":
            with_width(_width, lambda errors: errors.mean(dim=1))[0],
        "You sum over the batch. One number for each image is wanted.":
            with_width(_width, torch.sum)[0],
        "You average over the batch. One number for each image is wanted.":
            with_width(_width, torch.mean)[0],
    }, what="the loss")
    if not loss.requires_grad:
        raise Wrong("The losses are right, but no gradient leaves your function at all.")
    got = torch.autograd.grad(loss.sum(), leaves, allow_unused=True)
    wanted = torch.autograd.grad(right.sum(), right_leaves)
    for name, slope, true in zip(names, got, wanted, strict=True):
        if slope is None:
            raise Wrong(f"The losses are right, but no gradient reaches {name}. Which line cuts "
                        "the thread?")
        compare(slope, true, tolerance=1e-3, what=f"the gradient of {name}")


@check(points=2)
def gumbel_draw(answer):
    """Exercise: a Gumbel draw from uniform luck, differentiable, (B, L) three times -> (B, L)."""
    mu, log_scale = torch.randn(5, 3) + 1, torch.randn(5, 3)
    u = torch.rand(5, 3) * 0.96 + 0.02
    leaves = mu.clone().requires_grad_(), log_scale.clone().requires_grad_()
    z = as_tensor(ask(lambda: answer(leaves[0] * 1, leaves[1] * 1, u.clone())))
    scale = log_scale.exp()
    if z.shape == mu.shape and z.isnan().all():
        raise Wrong("All draws are nan. A logarithm of something negative was taken: u lies "
                    "between 0 and 1, so which sign has its logarithm?")
    bell = Gumbel(mu.double(), scale.double())
    right = [bell.icdf(luck.double()) for luck in (u, 1 - u)]  # 1 - u is luck as good as u
    standard = (right[0] - mu) / scale
    if not agree(z.detach(), right[1], 1e-3):
        compare(z, right[0], {
            "Your draws are mirrored: the long tail should point to large z. Put your z into F "
            "and see whether u comes out.": mu - scale * standard,
            "You use log_scale as the scale.": mu + log_scale * standard,
            "log_scale is the logarithm of the scale itself; it is not halved here.":
                mu + scale.sqrt() * standard,
            "Centre and scale are missing.": standard,
            "The scale is missing.": mu + standard,
            "The centre is missing.": scale * standard,
            "You divide by the scale where it should stretch.": mu + standard / scale,
            "That is F of something. F must be solved for z.": bell.cdf(u.double()),
            "One logarithm is missing: F has two exponentials.": mu - scale * u.log(),
            "One logarithm is missing, and a sign: F has two exponentials.": mu + scale * u.log(),
            "That takes a normal distribution's luck. Here the luck is u.": mu + scale * u,
        }, tolerance=1e-3, what="the draws")
    if not z.requires_grad:
        raise Wrong("The draws are right, but no gradient passes through them.")
    got = torch.autograd.grad(z.sum(), leaves, allow_unused=True)
    for name, slope, true in zip(("mu", "log_scale"), got, (torch.ones(5, 3), z - mu), strict=True):
        if slope is None:
            raise Wrong(f"The draws are right, but no gradient reaches {name}.")
        compare(slope, true, tolerance=1e-3, what=f"the gradient of {name}")


@check(points=3)
def width_gradient(answer):
    """Exercise: score and gradient in log_var, of (K, B), (B, L) twice, (K, B, L)."""
    mu, log_var = torch.randn(4, 3), torch.randn(4, 3)
    z = mu + _width(log_var) * torch.randn(7, 4, 3)
    loss = z.square().sum(dim=2) + torch.tensor([5.0, -3.0, 20.0, 1.0])
    inputs = loss, mu, log_var, z

    result = as_parts(ask(answer, *inputs), "the score", "the estimate")
    steady(lambda *inputs: answer(*inputs)[1], *inputs)

    width, copies = _width(log_var), log_var.expand(7, 4, 3).clone().requires_grad_()
    (score,) = torch.autograd.grad(Normal(mu, _width(copies)).log_prob(z).sum(), copies)
    off = (z - mu) / width
    compare(as_tensor(result[0], "the score"), score, {
        "That is the score for mu.": off / width,
        "That is the score for σ. What is the derivative of σ by log σ²?": (off**2 - 1) / width,
        "That is the score for σ². What is the derivative of σ² by log σ²?":
            (off**2 - 1) / width**2 / 2,
        "That is the score for log σ. A half is missing for log σ².": off**2 - 1,
        "Your score has lost what comes from the factor in front of the density. The mean of a "
        "score is 0.": off**2 / 2,
        "The constant of your score is wrong. The mean of a score is 0.": off**2 / 2 - 1,
        "exp(log_var) was taken for the width, and it is the variance.":
            (off**2 / width**2 - 1) / 2,
        "You divide by σ where σ² belongs.": (off**2 * width - 1) / 2,
        "That is the derivative of the density, not of its logarithm.":
            score * Normal(mu, width).log_prob(z).exp(),
        "You have summed over the latents. Each coordinate has its own width, and so its own "
        "score.": score.sum(dim=2),
    }, tolerance=1e-3, what="the score")

    def others(loss):
        rows = [torch.cat([loss[:k], loss[k + 1:]]).mean(dim=0) for k in range(len(loss))]
        return torch.stack(rows)

    def less(baseline):
        return ((loss - baseline)[..., None] * score).mean(dim=0)

    right = (loss - others(loss))[..., None] * score
    compare(as_tensor(result[1], "the estimate"), right.mean(dim=0), {
        "There is no baseline in it.": less(0.0),
        "Your baseline contains the draw that it is subtracted for, which biases the estimate.":
            less(loss.mean(dim=0)),
        "Your baseline is one number for the whole batch. Each image needs one of its own.":
            less(loss.mean()),
        "Your baseline is the mean over the images of the batch. It should be that over the draws "
        "of one image.": less(loss.mean(dim=1, keepdim=True)),
        "Your baseline is the sum of the other losses, not their mean.":
            less(loss.sum(dim=0) - loss),
        "The sum over the other draws is divided by K. How many others are there?":
            less((loss.sum(dim=0) - loss) / 7),
        "You sum over the draws. Their mean is wanted.": right.sum(dim=0),
        "You have not averaged over the draws.": right,
        "You average over the images. Which axis counts the draws?": right.mean(dim=1),
    }, tolerance=1e-3, what="the estimate")
