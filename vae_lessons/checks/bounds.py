"""Checks of the exercises on the marginal likelihood and its lower bound."""

import math

import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from vae_lessons.checks.verdict import (
    Wrong,
    as_tensor,
    as_tensors,
    ask,
    check,
    compare,
    expect,
    expect_gradient,
    steady,
)

STANDARD = Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())


def _log_mean(values, dim):
    return values.double().exp().mean(dim=dim).log()  # only for values that exp can take


def _expect_shifted(answer, inputs, shift, truth):
    """The same question with all log probabilities moved by ``shift``, which moves the answer."""
    got = as_tensor(ask(answer, inputs[0] + shift, *inputs[1:])).detach()
    lost = ~((got - truth - shift).abs() < 100) if got.shape == truth.shape else torch.zeros(1)
    if lost.any():  # inf and nan are lost, too
        raise Wrong(f"With log probabilities near {shift} you get {got[lost][0].item():.4g}. "
                    "Their exponentials cannot be held: what can be taken off beforehand and "
                    "added again at the end?")
    compare(got, truth + shift, what=f"the result for log probabilities near {shift}")


@check(points=1)
def log_mean_exp(answer):
    """Exercise: log of the mean of exp(log_weights) over the draws, (B, K) -> (B,) in nats."""
    log_weights = 2 * torch.randn(5, 7)
    truth = _log_mean(log_weights, 1)
    expect(answer, (log_weights,), lambda logs: _log_mean(logs, 1), {
        "That is the mean of the logarithms. The logarithm of the mean is wanted.":
            lambda logs: logs.mean(dim=1),
        "That is the logarithm of the sum. How does the mean differ from it?":
            lambda logs: logs.logsumexp(dim=1),
        "The number of draws goes into the logarithm, too: log(sum / K) is not log(sum) / K.":
            lambda logs: logs.logsumexp(dim=1) / 7,
        "You average over the images. Which axis counts the draws?":
            lambda logs: _log_mean(logs, 0),
        "You divide by the number of images, not by that of the draws.":
            lambda logs: logs.logsumexp(dim=1) - math.log(5),
        "One number came out for all images; one for each is wanted.":
            lambda logs: _log_mean(logs, (0, 1)),
        "That is the mean itself. Its logarithm is wanted.": lambda logs: logs.exp().mean(dim=1),
        "What was subtracted before the exponential must be added at the end.":
            lambda logs: _log_mean(logs - logs.amax(dim=1, keepdim=True), 1),
        "That is the largest logarithm. The other weights count, too.":
            lambda logs: logs.amax(dim=1),
    })
    for shift in (-1000, 1000):
        _expect_shifted(answer, (log_weights,), shift, truth)
    spread = log_weights + torch.tensor([-1000.0, -500, 0, 500, 1000])[:, None]
    compare(ask(answer, spread), truth + torch.tensor([-1000, -500, 0, 500, 1000]), {
        "You take one number off all images. Each image needs its own largest.":
            _log_mean_with_one_shift(spread),
    }, what="the result for images whose log weights lie far apart")
    far = log_weights.clone()
    far[:, 2] -= 1000
    far[:, 4] += 1000
    got = as_tensor(ask(answer, far))
    if not got.isfinite().all():
        raise Wrong("Now the weights of one image lie far apart, with logarithms from -1000 to "
                    "1000, and an exponential is still too large to be held. Is what you take off "
                    "the right one of the K logarithms?")
    compare(got, far[:, 4] - math.log(7),
            what="the result for an image whose log weights lie far apart")


def _log_mean_with_one_shift(logs):
    return logs.max() + (logs - logs.max()).exp().mean(dim=1).log()


def _centres(half_width, side, dim):
    """Centres (G, L) of the cubes with edge ``side`` that fill a box around 0."""
    axis = torch.arange(-half_width + side / 2, half_width, side)
    return torch.cartesian_prod(*[axis] * dim).view(-1, dim)


def _cubes(dim, parts):
    """Centres (G, L) and edges (G,) of cubes of three sizes that fill the box from -6 to 6."""
    z, side = _centres(6, 1.0, dim), 1 / parts
    outer = z.abs().amax(dim=1) > 4
    inner = (z[~outer, None] + _centres(0.5, side, dim)).flatten(0, 1)
    right = inner[:, 0] > 0.5  # off the middle, so that no size holds half of the prior
    fine = (inner[right, None] + _centres(side / 2, side / 2, dim)).flatten(0, 1)
    groups = [(fine, side / 2), (z[outer], 1.0), (inner[~right], side)]
    edges = [torch.full((len(group),), edge) for group, edge in groups]
    return torch.cat([group for group, _ in groups]), torch.cat(edges)


@check(points=2)
def log_px_on_grid(answer):
    """Exercise: log p(x) by a sum over cubes, (B, G), (G, L), (G,) -> (B,) in nats."""
    for dim, parts in [(2, 5), (1, 10), (3, 2)]:
        z, side = _cubes(dim, parts)
        weight, x = torch.randn(3, dim), torch.randn(4, 3)
        log_px_z = Normal(z @ weight.T, 0.7).log_prob(x[:, None]).sum(dim=2)
        covariance = (weight @ weight.T + 0.49 * torch.eye(3)).double()
        truth = MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(x.double())
        log_pz = STANDARD.log_prob(z).sum(dim=1)
        joint, volume, circle = log_px_z + log_pz, dim * side.log(), 0.5 * math.log(2 * math.pi)
        usual = {
            "The prior is missing: p(x) is an integral over p(x given z) times p(z).":
                (log_px_z + volume).logsumexp(dim=1),
            "The sizes of the cubes are missing. Each point stands for all of its cube.":
                joint.logsumexp(dim=1),
            "Prior and sizes of the cubes are missing.": log_px_z.logsumexp(dim=1),
            "`side` is the length of an edge. What is the size of a cube in 2 dimensions?":
                (joint + side.log()).logsumexp(dim=1),
            "You take each cube for a square. How large is a cube in one dimension?":
                (joint + 2 * side.log()).logsumexp(dim=1),
            "You give all cubes one size, the mean one. But they differ: what stands for more?":
                joint.logsumexp(dim=1) + volume.exp().mean().log(),
            "You give all cubes one edge, the mean one. But they differ: what stands for more?":
                joint.logsumexp(dim=1) + dim * side.mean().log(),
            "Your prior is not a density: what it integrates to is not 1.":
                (joint + volume).logsumexp(dim=1) + dim * circle,
            "Your prior is normalised for one dimension only.":
                (joint + volume).logsumexp(dim=1) + (dim - 1) * circle,
            "You average over the points. An integral is a sum, and each point in it stands for "
            "the size of its cube.": joint.logsumexp(dim=1) - math.log(len(z)),
            "You average over the box. An integral is not divided by the size of the box.":
                (joint + volume).logsumexp(dim=1) - dim * math.log(12),
            "You average p(x given z) over the points. They are laid out by hand, and not drawn "
            "from the prior.": log_px_z.logsumexp(dim=1) - math.log(len(z)),
            "You add up logarithms. Add up the densities.": (joint + volume).sum(dim=1),
            "That is p(x). Its logarithm is wanted.": truth.exp(),
            "You take the size of a cube off. Does it multiply or divide?":
                (joint - volume).logsumexp(dim=1),
        }
        compare(ask(answer, log_px_z, z, side), truth, usual, tolerance=3e-3, what="log p(x)")
        _expect_shifted(answer, (log_px_z, z, side), -900, truth)


@check(points=2)
def draws_for_one(answer):
    """Exercise: draws from the prior for one effective draw, float, int -> float."""
    z = torch.linspace(-12, 12, 240_001).double()

    def one_dimension(sigma, finish):
        posterior, prior = Normal(0.0, sigma).log_prob(z).exp(), STANDARD.log_prob(z).exp()
        return finish(posterior, prior).sum().item() * 1e-4

    for sigma, dim in [(0.5, 1), (0.3, 3), (0.05, 20)]:
        one = one_dimension(sigma, lambda posterior, prior: posterior**2 / prior)
        got = steady(answer, sigma, dim)
        if got.numel() != 1:
            raise Wrong("One number is wanted.")
        compare(got, one**dim, {
            "That is the share of the draws that count. How many does one cost?": one**-dim,
            "In several dimensions the averages of w² multiply, for they are independent.":
                one * dim,
            "That is the price in one dimension. In which way does it depend on their number?": one,
            "That is how many times wider the prior is, to the power of L. It is too many: draws "
            "beside the middle of the cloud count a little, too. Do the integral.": sigma**-dim,
            "The mean of w² is taken over draws from the prior. You take it over an even line.":
                one_dimension(sigma, lambda posterior, prior: (posterior / prior) ** 2) ** dim,
            "You integrate the square of the posterior. Where is the prior?":
                one_dimension(sigma, lambda posterior, prior: posterior**2) ** dim,
            "You take sigma for the variance of the posterior. It is its standard deviation.":
                (sigma * (2 - sigma)) ** (-dim / 2),
            "That is the root of it, or a square is missing.": one ** (dim / 2),
        }, tolerance=0.01, what=f"the number for sigma = {sigma} in {dim} dimensions")


def _by_a_coin(dim, spread):
    """Draws from clouds or prior, by a coin: (K, B), (K, B, L), (B, L), (B, L)."""
    mu, log_var = spread * torch.randn(5, dim), spread * torch.randn(5, dim)
    eps, heads = torch.randn(7, 5, dim), torch.rand(7, 5, 1) < 0.5
    return 2 * torch.randn(7, 5), torch.where(heads, mu + (0.5 * log_var).exp() * eps, eps), \
        mu, log_var


@check(points=2)
def importance_log_px(answer):
    """Exercise: an estimate of log p(x), (K, B), (K, B, L), (B, L), (B, L) -> (B,) in nats."""
    inputs = _by_a_coin(3, 1.0)

    def truth(log_px_z, z, mu, log_var):
        centres = torch.stack([mu, torch.zeros_like(mu)], dim=1).double()
        logs = torch.stack([log_var, torch.zeros_like(mu)], dim=1).double()
        clouds = Independent(Normal(centres, logs.exp().sqrt()), 1)
        source = MixtureSameFamily(Categorical(torch.ones(5, 2)), clouds)
        log_pz = STANDARD.log_prob(z.double()).sum(dim=2)
        log_weights = log_px_z + log_pz - source.log_prob(z.double())
        return log_weights.logsumexp(dim=0) - math.log(7)

    def log_mean(logs):
        return _log_mean(logs, 0)

    def with_weights(weight, finish=log_mean, width=lambda log_var: log_var.exp().sqrt()):
        def estimate(log_px_z, z, mu, log_var):
            log_q = Normal(mu.double(), width(log_var.double())).log_prob(z.double()).sum(dim=2)
            return finish(weight(log_px_z, STANDARD.log_prob(z.double()).sum(dim=2), log_q))
        return estimate

    def both(log_pz, log_q):
        return (0.5 * log_pz.exp() + 0.5 * log_q.exp()).log()

    def right(fit, log_pz, log_q):
        return fit + log_pz - both(log_pz, log_q)

    def coordinate_by_coordinate(log_px_z, z, mu, log_var):
        log_pz = STANDARD.log_prob(z.double())
        log_q = Normal(mu.double(), log_var.double().exp().sqrt()).log_prob(z.double())
        return log_mean(log_px_z + (log_pz - both(log_pz, log_q)).sum(dim=2))

    def without_width(log_px_z, z, mu, log_var):
        front = 0.5 * log_var.sum(dim=1)
        return with_weights(lambda fit, p, q: right(fit, p, q + front))(log_px_z, z, mu, log_var)

    expect(answer, inputs, truth, {
        "You divide by q alone. Where does a draw come from when the coin falls tails?":
            with_weights(lambda fit, p, q: fit + p - q),
        "The weights are p(x given z) alone. That is right if all draws come from the prior.":
            with_weights(lambda fit, p, q: fit),
        "You add the two densities. What does their sum integrate to?":
            with_weights(lambda fit, p, q: right(fit, p, q) - math.log(2)),
        "You average the logarithms of two densities. The draws fall by an average of the "
        "densities.": with_weights(lambda fit, p, q: fit + p - 0.5 * (p + q)),
        "The coin is tossed once for a draw. You toss it for each coordinate.":
            coordinate_by_coordinate,
        "You weigh each draw twice, as if it came from q and as if it came from the prior, and "
        "average. The coin decides where draws fall: what is their density?":
            with_weights(lambda fit, p, q: fit + (0.5 + 0.5 * (p - q).exp()).log()),
        "You divide by the right density. But the prior is missing above the line.":
            with_weights(lambda fit, p, q: fit - both(p, q)),
        "You draw and do not divide by how often one looks there.":
            with_weights(lambda fit, p, q: fit + p),
        "You multiply by the density of the draws. One divides by how often one looks there.":
            with_weights(lambda fit, p, q: fit + p + both(p, q)),
        "Prior and q are exchanged in your weights.":
            with_weights(lambda fit, p, q: fit + q - both(p, q)),
        "That is the mean of the log weights, a bound. The logarithm of the mean is wanted.":
            with_weights(right, lambda logs: logs.mean(dim=0)),
        "That is the logarithm of the sum of the weights. Their mean is wanted.":
            with_weights(right, lambda logs: logs.logsumexp(dim=0)),
        "You average over the images. Which axis counts the draws?":
            with_weights(right, lambda logs: _log_mean(logs, 1)),
        "You divide by the number of images, not by that of the draws.":
            with_weights(right, lambda logs: logs.logsumexp(dim=0) - math.log(5)),
        "You have not averaged over the draws.": with_weights(right, lambda logs: logs),
        "exp(log_var) is the variance. Which one does the density of q want as its width?":
            with_weights(right, width=torch.exp),
        "In log q a term is missing: the density of a Gaussian has its width in front. In the "
        "prior's that is 1.": without_width,
        "log_var is neither the width nor the variance: it is a logarithm.":
            with_weights(right, width=lambda log_var: log_var.abs()),
    }, what="the estimate")
    _expect_shifted(answer, inputs, -1000, truth(*inputs))
    inputs = _by_a_coin(800, 0.3)
    got = as_tensor(ask(answer, *inputs))
    if not got.isfinite().all():
        raise Wrong("With 800 latents the result is infinite or nan, because the densities of the "
                    "prior and of q round to 0. How are they added without leaving the logarithms?")
    compare(got, truth(*inputs), tolerance=1e-3, what="the estimate with 800 latents")


@check(points=2)
def log_px_of_chunks(answer):
    """Exercise: log of the mean weight over all chunks, list of (B, K) -> (B,) in nats."""
    chunks = [2 * torch.randn(4, size) for size in (6, 6, 2)]

    def means(chunks):
        return torch.stack([_log_mean(chunk, 1) for chunk in chunks])

    def truth(chunks):
        return _log_mean(torch.cat(chunks, dim=1), 1)

    expect(answer, (chunks,), truth, {
        "That is what the function above gives. It averages logarithms.":
            lambda chunks: means(chunks).mean(dim=0),
        "No logarithms are averaged any more. But a short chunk now has as much say as a long one.":
            lambda chunks: _log_mean(means(chunks), 0),
        "You still average logarithms, though long chunks now have more say than short ones.":
            lambda chunks: (means(chunks) * torch.tensor([[6.0], [6], [2]])).sum(dim=0) / 14,
        "That is the logarithm of the sum of all weights. Their mean is wanted.":
            lambda chunks: torch.cat(chunks, dim=1).logsumexp(dim=1),
        "You divide the sum of all weights by the number of chunks. By what should it be?":
            lambda chunks: torch.cat(chunks, dim=1).logsumexp(dim=1) - math.log(3),
        "You divide the sum of all weights by the length of one chunk.":
            lambda chunks: torch.cat(chunks, dim=1).logsumexp(dim=1) - math.log(6),
        "You divide the sum of all weights by the length of the last chunk.":
            lambda chunks: torch.cat(chunks, dim=1).logsumexp(dim=1) - math.log(2),
        "You divide by the number of draws twice.":
            lambda chunks: means(chunks).logsumexp(dim=0) - math.log(14),
        "You add up means. The chunks are to be averaged.":
            lambda chunks: means(chunks).logsumexp(dim=0),
        "That is the mean of all log weights. The logarithm of the mean weight is wanted.":
            lambda chunks: torch.cat(chunks, dim=1).mean(dim=1),
    }, what="the estimate")
    low = [chunk - 1000 for chunk in chunks]
    got = as_tensor(ask(answer, low))
    if not got.isfinite().all():
        raise Wrong("With log weights near -1000 the result is infinite or nan. Stay with "
                    "logarithms to the end.")
    compare(got, truth(chunks) - 1000, what="the estimate for log weights near -1000")


def _line():
    """Images on a line with noise: x (6, 4), weight (4,), bias (4,), variance."""
    weight, bias, variance = torch.tensor([1.0, -0.5, 2.0, 0.3]), torch.randn(4), 0.6
    return torch.randn(6, 1) * weight + bias + torch.randn(6, 4), weight, bias, variance


def _log_px_z(x, weight, bias, variance, z):
    """log p(x given z) for z (..., B) -> (..., B)."""
    centre = bias.double() + z[..., None] * weight.double()
    return Normal(centre, variance**0.5).log_prob(x.double()).sum(dim=-1)


@check(points=2)
def posterior_on_a_line(answer):
    """Exercise: mean (B,) and variance of p(z given x), (B, D), (D,), (D,), float."""
    x, weight, bias, variance = _line()
    mean, spread = as_tensors(ask(answer, x, weight, bias, variance), "the mean", "the variance")

    z = torch.linspace(-15, 15, 30_001).double()[:, None].expand(-1, 6)
    joint = _log_px_z(x, weight, bias, variance, z) + STANDARD.log_prob(z)
    posterior = joint.softmax(dim=0)  # on an even row of points
    true_mean = (posterior * z).sum(dim=0)
    true_variance = (posterior * (z - true_mean) ** 2).sum(dim=0)
    along, steep = (x - bias) @ weight, weight.square().sum().item()
    precision = 1 + steep / variance
    compare(mean, true_mean, {
        "That is the best z for the pixels alone. The prior pulls it towards 0.": along / steep,
        "The bias is missing: the picture of z = 0 is not blank.":
            x @ weight / variance / precision,
        "You divide by s where s² belongs.": along / variance**0.5 / precision,
        "Your mean would be right for noise of variance 1.": along / (1 + steep),
        "You square `variance`. It is s² already.": along / (variance**2 + steep),
        "The slope at z = 0 is there. It has to be divided by how much the parabola bends.":
            along / variance,
        "In the mean, one s² is missing: put the pixels' term and the prior's on one scale.":
            along / precision,
    }, tolerance=1e-3, what="the mean")
    if spread.shape == (6,):
        spread = spread[:1] if bool((spread == spread[0]).all()) else spread
    compare(spread, true_variance[:1], {
        "That is the inverse of the variance.": [precision],
        "That is the width. The variance is wanted.": [precision**-0.5],
        "That is the variance without the prior. The prior makes the posterior narrower.":
            [variance / steep],
        "Your variance would be right for noise of variance 1.": [1 / (1 + steep)],
        "You square `variance`. It is s² already.": [1 / (1 + steep / variance**2)],
        "That is the logarithm of the variance.": [-math.log(precision)],
        "That is the variance of the noise.": [variance],
    }, tolerance=1e-3, what="the variance")


@check(points=2)
def elbo_on_a_line(answer):
    """Exercise: the exact ELBO, (B, D), (D,), (D,), float, (B,), (B,) -> (B,) in nats."""
    x, weight, bias, variance = _line()
    mu, log_var = torch.randn(6), torch.randn(6) - 0.5
    inputs = x, weight, bias, variance, mu, log_var
    eps = torch.linspace(-12, 12, 2401).double()[:, None]

    def truth(x, weight, bias, variance, mu, log_var):
        z = mu + log_var.exp().sqrt() * eps
        log_q = STANDARD.log_prob(eps) - 0.5 * log_var
        ratio = _log_px_z(x, weight, bias, variance, z) + STANDARD.log_prob(z) - log_q
        return (STANDARD.log_prob(eps).exp() * ratio).sum(dim=0) * 0.01

    def changed(change):
        def other(x, weight, bias, variance, mu, log_var):
            at_centre = _log_px_z(x, weight, bias, variance, mu.double())
            spread = 0.5 * log_var.exp() * weight.square().sum() / variance
            kl = 0.5 * (mu**2 + log_var.exp() - log_var - 1)
            return change(at_centre, spread, kl, log_var.exp())
        return other

    steady(answer, *inputs)
    exact = truth(*inputs)
    compare(ask(answer, *inputs), exact, {hint: of(*inputs) for hint, of in {
        "You reconstruct from the centre of the cloud. What does its spread add to the squares?":
            changed(lambda fit, spread, kl, var: fit - kl),
        "That is the reconstruction. Where is the KL?":
            changed(lambda fit, spread, kl, var: fit - spread),
        "The sign of the KL is wrong: it is a charge.":
            changed(lambda fit, spread, kl, var: fit - spread + kl),
        "The spread of z is added where it makes the fit worse.":
            changed(lambda fit, spread, kl, var: fit + spread - kl),
        "You add the width of the cloud where its square is wanted.":
            changed(lambda fit, spread, kl, var: fit - spread / var.sqrt() - kl),
        "You use exp(log_var) as the width and square it. It is the variance.":
            changed(lambda fit, spread, kl, var: fit - spread * var - kl),
        "What the spread adds is not yet divided by the variance of the noise.":
            changed(lambda fit, spread, kl, var: fit - spread * variance - kl),
        "In what the spread adds, a half is missing.":
            changed(lambda fit, spread, kl, var: fit - 2 * spread - kl),
        "You add the spread of z to the squares as it is. How far does a step of z move a pixel?":
            changed(lambda fit, spread, kl, var: fit - spread / weight.square().sum() - kl),
        "A step of z moves a pixel by its weight. By how much does it raise a *squared* distance?":
            changed(lambda fit, spread, kl, var:
                    fit - spread * weight.sum() / weight.square().sum() - kl),
        "You square `variance`. It is s² already.":
            lambda *given: truth(*given[:3], variance**2, mu, log_var),
        "You add the spread of z to every pixel alike. How far does a step of z move a pixel?":
            changed(lambda fit, spread, kl, var: fit - 4 * spread / weight.square().sum() - kl),
        "That is log p(x given z) of the centre.": changed(lambda fit, spread, kl, var: fit),
        "The constant of the density is missing: 2π s² under the root, once for each pixel.":
            changed(lambda fit, spread, kl, var:
                    fit - spread - kl + 2 * math.log(2 * math.pi * variance)),
        "In the constant of the density s² is missing.":
            changed(lambda fit, spread, kl, var: fit - spread - kl + 2 * math.log(variance)),
        "In the constant of the density 2π is missing.":
            changed(lambda fit, spread, kl, var: fit - spread - kl + 2 * math.log(2 * math.pi)),
        "The constant of the density is there once. Each pixel has it.":
            changed(lambda fit, spread, kl, var:
                    fit - spread - kl + 1.5 * math.log(2 * math.pi * variance)),
        "That is minus the ELBO, the loss.":
            changed(lambda fit, spread, kl, var: kl + spread - fit),
        "You average over the pixels. The log density of a picture is a sum.":
            changed(lambda fit, spread, kl, var: (fit - spread) / 4 - kl),
    }.items()}, what="the ELBO")
    expect_gradient(
        lambda *cloud: answer(x.clone(), weight, bias, variance, *cloud), (mu, log_var),
        lambda mu, log_var: truth(x, weight, bias, variance, mu, log_var))


@check(points=2)
def lost_nats(answer):
    """Exercise: log p(x) - ELBO for a q off its place or too wide, (N,), (N,) -> (N,) in nats."""
    off, factor = torch.tensor([0.0, 0.0, 1.5, -0.7, 2.0]), torch.tensor([2.0, 0.4, 1.0, 0.6, 1.7])

    def truth(off, factor):
        eps = torch.linspace(-12, 12, 2401).double()[:, None]
        log_q = STANDARD.log_prob(eps) - factor.log()
        return (STANDARD.log_prob(eps).exp() * (
            log_q - STANDARD.log_prob(off + factor * eps))).sum(dim=0) * 0.01

    steady(answer, off, factor)
    expect(answer, (off, factor), truth, {
        "That is the KL from the posterior to q. The average is taken over draws from q.":
            lambda off, factor: 0.5 * (off**2 + 1) / factor**2 - 0.5 + factor.log(),
        "The sign is turned: that is ELBO minus log p(x).": lambda off, factor: -truth(off, factor),
        "A half is missing.": lambda off, factor: 2 * truth(off, factor),
        "Your loss knows only where q lies, not how wide it is.":
            lambda off, factor: 0.5 * off**2,
        "Your loss knows only how wide q is, not where it lies.":
            lambda off, factor: truth(torch.zeros(5), factor),
        "You take factor for the ratio of the variances. It is that of the widths.":
            lambda off, factor: truth(off, factor.sqrt()),
        "The logarithm of the factor has the wrong sign.":
            lambda off, factor: truth(off, factor) + 2 * factor.log(),
        "The logarithm is halved once too often: what is log σ² in terms of log σ?":
            lambda off, factor: truth(off, factor) + 0.5 * factor.log(),
        "The distance must be squared.":
            lambda off, factor: truth(off, factor) - 0.5 * off**2 + 0.5 * off,
        "A perfect q, with off 0 and factor 1, must lose nothing. Yours loses something.":
            lambda off, factor: truth(off, factor) + 0.5,
        "You measure the distance in widths of q. It is given in widths of the posterior.":
            lambda off, factor: truth(off / factor, factor),
        "The distance is given in widths of the posterior, as it should count. You multiply it by "
        "the factor.": lambda off, factor: truth(off * factor, factor),
    }, what="the loss")


@check(points=3)
def best_weight(answer):
    """Exercise: the weight with the highest ELBO, (B, D), (D,), (B,), float -> (D,)."""
    x, _, bias, _ = _line()
    mean, variance = torch.randn(6), 0.4
    # Least squares at two points for each cloud, one width to either side of its centre.
    ends = torch.cat([mean + variance**0.5, mean - variance**0.5])[:, None].double()
    truth = torch.linalg.lstsq(ends, (x - bias).repeat(2, 1).double()).solution[0]
    product, squares = mean @ (x - bias), mean.square().sum()
    compare(ask(answer, x, bias, mean, variance), truth, {
        "You put each z at the centre of its cloud. What is the mean of z²?": product / squares,
        "The variance is added once. Each of the images has it.": product / (squares + variance),
        "You add the width of the clouds where their variance is wanted.":
            product / (squares + 6 * variance**0.5),
        "You add the square of the variance. It is a square already.":
            product / (squares + 6 * variance**2),
        "The bias is missing: only x − b is explained by z.":
            mean @ x / (squares + 6 * variance),
        "You divide by the number of images. What is the mean of z² over images and draws?":
            product / 6,
        "The sum above the line is not yet divided by anything.": product,
        "You average above the line and sum below it.": product / (squares + 6 * variance) / 6,
        "You sum above the line and average below it.": product / (squares + 6 * variance) * 6,
        "The variance is taken off. A draw has a larger square than its centre, not a smaller one.":
            product / (squares - 6 * variance),
    }, tolerance=1e-3, what="the weight")


@check(points=2)
def loss_per_image(answer):
    """Exercise: minus the mean ELBO, (B, D), (B, D), (B, L), (B, L) -> () in nats."""
    logits, x = 2 * torch.randn(5, 7), (torch.rand(5, 7) < 0.4).float()
    mu, log_var = torch.randn(5, 3), torch.randn(5, 3)
    inputs = logits, x, mu, log_var

    def with_terms(finish):
        def loss(logits, x, mu, log_var):
            fit = -Bernoulli(logits=logits.double()).log_prob(x.double())
            q = Normal(mu.double(), log_var.double().exp().sqrt())
            return finish(fit, kl_divergence(q, STANDARD))
        return loss

    right = with_terms(lambda fit, kl: fit.sum(dim=1).mean() + kl.sum(dim=1).mean())
    expect(answer, inputs, right, {
        "That is what the function above gives.": with_terms(lambda fit, kl: fit.mean() + kl.sum()),
        "The reconstruction is repaired. But the KL is summed over the images.":
            with_terms(lambda fit, kl: fit.sum(dim=1).mean() + kl.sum()),
        "The KL is repaired. But the reconstruction is averaged over the pixels.":
            with_terms(lambda fit, kl: fit.mean() + kl.sum(dim=1).mean()),
        "You average everything over everything. The KL of a cloud is a sum over its latents, and "
        "the reconstruction one over its pixels.":
            with_terms(lambda fit, kl: fit.mean() + kl.mean()),
        "You average the KL over the latents. It is a sum over them.":
            with_terms(lambda fit, kl: fit.sum(dim=1).mean() + kl.mean()),
        "That is the sum over the batch. Nats per image are wanted.":
            with_terms(lambda fit, kl: fit.sum() + kl.sum()),
        "The reconstruction is summed over the images, the KL averaged over them.":
            with_terms(lambda fit, kl: fit.sum() + kl.sum(dim=1).mean()),
        "That is one loss for each image. Their mean is wanted.":
            with_terms(lambda fit, kl: fit.sum(dim=1) + kl.sum(dim=1)),
        "That is the ELBO, to be maximised. The loss is minus that.":
            with_terms(lambda fit, kl: -fit.sum(dim=1).mean() - kl.sum(dim=1).mean()),
        "The KL has the wrong sign: in a loss it is a charge.":
            with_terms(lambda fit, kl: fit.sum(dim=1).mean() - kl.sum(dim=1).mean()),
        "`binary_cross_entropy_with_logits` takes the sigmoid itself, and you take it, too.":
            lambda logits, *rest: right(logits.sigmoid(), *rest),
        "Your loss has lost its KL.": with_terms(lambda fit, kl: fit.sum(dim=1).mean()),
        "Both terms are divided by the number of pixels. Nats per image are wanted.":
            with_terms(lambda fit, kl: fit.mean() + kl.sum(dim=1).mean() / 7),
    }, what="the loss")
    expect_gradient(
        lambda logits, *cloud: answer(logits, x.clone(), *cloud), (logits, mu, log_var),
        lambda logits, mu, log_var: right(logits, x, mu, log_var))
