"""Checks of the exercises on the KL term and the likelihoods."""

import math

import numpy
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from vae_lessons.checks.verdict import (
    Wrong,
    agree,
    as_tensor,
    as_tensors,
    ask,
    ask_with,
    check,
    compare,
    expect,
    expect_gradient,
    expect_seeded,
)


@check(points=1)
def kl_between_gaussians(answer):
    """Exercise: KL(N(mu, sigma^2) || N(m, s^2)), four tensors of one shape -> that shape."""
    def truth(mu, sigma, m, s):
        return kl_divergence(Normal(mu, sigma), Normal(m, s))

    def built(log_ratio, top, bottom):
        return log_ratio + top / (2 * bottom) - 0.5

    mu, m = torch.randn(2, 7)
    sigma, s = 0.4 + 2 * torch.rand(2, 7)
    expect(answer, (mu, sigma, m, s), truth, {
        "This is the colleague's formula, or one that equals it. Which of her numbers are widths, "
        "and where does the formula want variances?":
            lambda mu, sigma, m, s: built(torch.log(s / sigma), sigma + (mu - m) ** 2, s),
        "Half of it is repaired: in one place a width still stands for a variance.":
            lambda mu, sigma, m, s: built(torch.log(s / sigma), sigma**2 + (mu - m) ** 2, s),
        "Half of it is repaired: one width still stands for a variance.":
            lambda mu, sigma, m, s: built(torch.log(s / sigma), sigma + (mu - m) ** 2, s**2),
        "The logarithm was right as it stood: it holds widths, not variances.":
            lambda mu, sigma, m, s: built(2 * torch.log(s / sigma), sigma**2 + (mu - m) ** 2, s**2),
        "The ratio inside the logarithm is upside down.":
            lambda mu, sigma, m, s: built(torch.log(sigma / s), sigma**2 + (mu - m) ** 2, s**2),
        "This is the KL from the second to the first. Whose draws is the average over?":
            lambda mu, sigma, m, s: truth(m, s, mu, sigma),
        "One number came out; one for each entry is wanted.": lambda *each: truth(*each).sum(),
    })


@check(points=2)
def kl_to_prior(answer):
    """Exercise: KL(N(mu, diag exp(log_var)) || N(0, I)), (B, L), (B, L) -> (B,) in nats."""
    def truth(mu, log_var):
        q = Normal(mu, (0.5 * log_var).exp())
        return kl_divergence(q, Normal(torch.zeros_like(mu), 1.0)).sum(dim=1)

    def formula(mu, log_var):
        return 0.5 * (mu**2 + log_var.exp() - log_var - 1)

    inputs = torch.randn(5, 3), torch.randn(5, 3)
    inputs[1][0].abs_()  # one example for those who take a logarithm of it
    expect(answer, inputs, truth, {
        "Your KL is negative. A KL never is: look at the sign of the whole.":
            lambda mu, log_var: -formula(mu, log_var).sum(dim=1),
        "You average over the latent dimensions. The KL of independent dimensions is their sum.":
            lambda mu, log_var: formula(mu, log_var).mean(dim=1),
        "You sum over the batch. Each example has a KL of its own: which axis counts the examples?":
            lambda mu, log_var: formula(mu, log_var).sum(dim=0),
        "One number for the whole batch came out; one for each example is wanted.":
            lambda mu, log_var: formula(mu, log_var).sum(),
        "You have not summed over the latent dimensions.": formula,
        "Is the factor one half missing?":
            lambda mu, log_var: 2 * formula(mu, log_var).sum(dim=1),
        "You take log_var for the log of σ. What is the variance, then?":
            lambda mu, log_var: formula(mu, 2 * log_var).sum(dim=1),
        "You take exp(½ log_var) for the variance. It is the width σ.":
            lambda mu, log_var: 0.5 * (mu**2 + (0.5 * log_var).exp() - log_var - 1).sum(dim=1),
        "The logarithm has the wrong sign. Should a very narrow cloud cost much or little?":
            lambda mu, log_var: 0.5 * (mu**2 + log_var.exp() + log_var - 1).sum(dim=1),
        "Is a centre at −1 cheaper than one at 1? Look at the power of μ.":
            lambda mu, log_var: 0.5 * (mu + log_var.exp() - log_var - 1).sum(dim=1),
        "You take the logarithm of log_var, which is a logarithm already.":
            lambda mu, log_var: 0.5 * (mu**2 + log_var.exp() - log_var.log() - 1).sum(dim=1),
        "You take log_var for the variance. It is its logarithm.":
            lambda mu, log_var: 0.5 * (mu**2 + log_var - log_var.log() - 1).sum(dim=1),
    })
    log_var = torch.tensor([[-30.0, 0.5], [-12.0, -3.0], [0.2, 4.0], [9.0, -1.0]])
    _expect_finite(answer, (torch.randn(4, 2), log_var), truth,
                   "For a very narrow or a very wide cloud your KL is infinite or NaN.",
                   "For clouds of usual widths your KL is right, and for very narrow or wide ones "
                   "it is not. Does something cut log_var off, or keep it above a floor?")
    expect_gradient(answer, inputs, truth)


@check(points=2)
def kl_gradient(answer):
    """Exercise: derivatives of KL(N(mu, sigma^2) || N(0, 1)), two of (B, L) -> two of (B, L)."""
    mu, sigma = torch.randn(5, 3), 0.2 + 2 * torch.rand(5, 3)
    leaves = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
    kl = kl_divergence(Normal(*leaves), Normal(torch.zeros_like(mu), 1.0))
    wanted = torch.autograd.grad(kl.sum(), leaves)
    result = ask(answer, mu, sigma)
    of_mu, of_sigma = as_tensors(result, "the derivative for mu", "the derivative for sigma")
    if agree(of_mu, wanted[1]) and agree(of_sigma, wanted[0]):
        raise Wrong("The two are right, in the other order: first for mu, then for sigma.")
    compare(of_mu, wanted[0], {
        "The derivative for mu has the wrong sign. Which way does the KL rise?": -mu,
        "The derivative for mu is twice too large. Is the half there?": 2 * mu,
        "The derivative for mu is that of the KL divided by something. The numbers stand each for "
        "itself: no mean is taken.": mu / mu.numel(),
    }, what="the derivative for mu")
    compare(of_sigma, wanted[1], {
        "This is the derivative with respect to log σ². Here the network says σ itself: use the "
        "chain rule, or differentiate anew.": (sigma**2 - 1) / 2,
        "This is the derivative with respect to log σ. Here the network says σ itself.":
            sigma**2 - 1,
        "This is the derivative with respect to the variance σ². Here it is σ.":
            (1 - sigma**-2) / 2,
        "What is the derivative of log σ? It depends on σ.": sigma - 1,
        "log σ² is twice log σ: one of the two terms is off by a factor of two.":
            sigma - 0.5 / sigma,
        "A term is missing: the KL has a logarithm of σ in it too.": sigma,
        "The derivative for sigma has the wrong sign: going down the slope must make a narrow "
        "cloud wider.": 1 / sigma - sigma,
    }, what="the derivative for sigma")


@check(points=2)
def sampled_kl(answer):
    """Exercise: KL(q || N(0, I)) from draws and its standard error, (B, L) -> (B,), (B,)."""
    # The last two are alike, and near the prior, where draws scatter little.
    mu = torch.tensor([[1.5, 0.3], [-0.6, -1.1], [0.2, 2.0], [0.06, -0.05], [0.06, -0.05]])
    log_var = torch.tensor([[-1.0, 0.5], [-2.0, -1.4], [0.6, -0.7], [0.05, -0.05], [0.05, -0.05]])
    num_samples = 2000

    def drawn(generator, num_samples=num_samples):
        result = ask_with(answer, mu.clone(), log_var.clone(), num_samples, generator)
        pair = as_tensors(result, "the estimate", "its error")
        return [each.detach().double() for each in pair]

    estimate, error = drawn(torch.Generator().manual_seed(1))
    if not estimate.shape == error.shape == (len(mu),):
        raise Wrong(f"Both results should have the shape ({len(mu)},), one value for each example; "
                    f"yours have {tuple(estimate.shape)} and {tuple(error.shape)}.")
    expect_seeded(lambda generator: drawn(generator)[0])
    if estimate[-1] == estimate[-2]:
        raise Wrong("Two examples with the same cloud get the very same estimate: they share their "
                    "draws. Each example has draws of its own.")
    var, width = log_var.double().exp(), (0.5 * log_var.double()).exp()
    q, p = Normal(mu.double(), width), Normal(torch.zeros_like(var), 1.0)
    wanted = kl_divergence(q, p).sum(dim=1)
    spread = ((mu * width).square() + 0.5 * (var - 1).square()).sum(dim=1).sqrt()
    wanted_error = spread / math.sqrt(num_samples)

    def near(value, error=wanted_error):
        return ((estimate - value).abs() < 6 * error).all()

    if not near(wanted):
        too_wide = (0.5 * (mu**2 + var.square() - var - log_var)).sum(dim=1)
        under_p = (mu / var).square() + 0.5 * (1 - 1 / var).square()
        for hint, *found in [
            ("The sign is turned: which of the two log densities is subtracted?", -wanted),
            ("You average over draws from the prior. Whose draws does a KL average over?",
             -kl_divergence(p, q).sum(dim=1), (under_p.sum(dim=1) / num_samples).sqrt()),
            ("Your draws are as wide as exp(log_var). Is that the width of the cloud?", too_wide),
            ("You average over the latent dimensions. Log densities of independent numbers add.",
             wanted / mu.shape[1], wanted_error / mu.shape[1]),
            ("The sum over the draws came out, not their average.",
             num_samples * wanted, num_samples * wanted_error),
        ]:
            if near(*found):
                raise Wrong(hint)
        raise Wrong(f"The estimate of the first example is {estimate[0]:.4g}; its KL is "
                    f"{wanted[0]:.4g}, and {num_samples} draws should come within a few times "
                    f"{wanted_error[0]:.2g}.")
    together = (mu * width).sum(dim=1).square() + 0.5 * (var - 1).sum(dim=1).square()
    for hint, value in {
        "": wanted_error,
        "The estimate is right. For the error you return the scatter of a single draw; the mean of "
        "many scatters less.": spread,
        "The estimate is right. The error is off: divide by the square root of the number of "
        "draws, not by the number.": spread / num_samples,
        "The estimate is right. You return the variance of the mean; an error is its root.":
            wanted_error.square(),
        "The estimate is right. You return the variance of a draw, not an error.": spread.square(),
        "The estimate is right, but your draws have the same noise in each latent dimension. "
        "They should be independent.": together.sqrt() / math.sqrt(num_samples),
    }.items():
        if ((error / value - 1).abs() < 0.25).all():
            if hint:
                raise Wrong(hint)
            break
    else:
        raise Wrong(f"The estimate is right. Its error for the first example is {error[0]:.3g}, "
                    f"but {wanted_error[0]:.3g} is wanted: how far does a mean of {num_samples} "
                    "draws scatter?")
    _, of_few = drawn(torch.Generator().manual_seed(3), 500)
    if not ((of_few / error).log() - math.log(2)).abs().max() < 0.4:
        raise Wrong("With 2000 draws all is right. With 500 the error should be twice as large, "
                    f"and yours is {(of_few / error).mean():.2g} times as large. Whose number do "
                    "you use?")


@check(points=3)
def kl_full_covariance(answer):
    """Exercise: KL(N(mu, C C^T) || N(0, I)), (B, L), (B, L, L) -> (B,) in nats."""
    def truth(mu, cholesky):
        mu, cholesky = mu.double(), cholesky.double()
        unit = torch.eye(mu.shape[1], dtype=mu.dtype).expand_as(cholesky)
        p = MultivariateNormal(torch.zeros_like(mu), scale_tril=unit)
        return kl_divergence(MultivariateNormal(mu, scale_tril=cholesky), p)

    def built(trace=2.0, constant=1.0, log_det=2.0, diagonal_only=False):
        def of(mu, cholesky):
            diagonal = cholesky.diagonal(dim1=1, dim2=2)
            entries = diagonal if diagonal_only else cholesky.flatten(1)
            size = entries.abs().pow(trace).sum(dim=1)
            rest = constant * mu.shape[1] + log_det * diagonal.log().sum(dim=1)
            return 0.5 * (mu.square().sum(dim=1) + size - rest)
        return of

    lower = torch.randn(5, 3, 3).tril(-1)
    inputs = torch.randn(5, 3), lower + torch.diag_embed(0.3 + torch.rand(5, 3))
    expect(answer, inputs, truth, {
        "You leave out what lies below the diagonal of C. It adds to the variances too.":
            built(diagonal_only=True),
        "The trace of Σ is wanted; you have added up the entries of C, not their squares.":
            built(trace=1.0),
        "You have added up all entries of Σ. The trace is the sum of its diagonal.":
            lambda mu, cholesky: built(trace=0.0)(mu, cholesky) + 0.5 * (
                (cholesky @ cholesky.mT).sum(dim=(1, 2)) - mu.shape[1] ** 2),
        "You take the diagonal of C for the variances. What is the diagonal of C Cᵀ?":
            built(trace=1.0, diagonal_only=True),
        "Your log det is that of C. How is the determinant of C Cᵀ related to it?":
            built(log_det=1.0),
        "The log det has the wrong sign.": built(log_det=-2.0),
        "The number of dimensions is missing: is the KL zero for μ = 0 and C = I?":
            built(constant=0.0),
        "You subtract 1 where the number of dimensions is wanted.": built(constant=1 / 3),
        "One number for the whole batch came out; one for each example is wanted.":
            lambda mu, cholesky: truth(mu, cholesky).sum(),
        "Is the factor one half missing?": lambda *each: 2 * truth(*each),
    })
    narrow = 2e-3 * (torch.eye(40) + 0.1 * torch.randn(2, 40, 40).tril(-1))
    _expect_finite(answer, (torch.randn(2, 40), narrow), truth,
                   "For a narrow cloud in 40 dimensions your KL is infinite or NaN: a determinant "
                   "rounds to zero. A sum of logarithms does not.",
                   "Your KL is right for wide clouds. For a narrow one in 40 dimensions it is not: "
                   "the determinant is lost, and a floor holds it up. A sum of logarithms needs "
                   "none.")
    expect_gradient(lambda mu, cholesky: answer(mu, cholesky.tril()), inputs, truth)


@check(points=1)
def nats_from_mse(answer):
    """Exercise: -log p(x|z) of Gaussian pixels from their mean squared error, (B,) -> (B,)."""
    for sigma in (0.3, 0.05):
        _expect_nats(answer, 50, sigma)


def _expect_nats(answer, num_pixels, sigma):
    x = torch.rand(6, num_pixels)
    mean = x + sigma * torch.randn(6, num_pixels)
    mse = (x - mean).square().mean(dim=1)
    half_log, log_sigma = 0.5 * math.log(2 * math.pi), math.log(sigma)
    size = num_pixels
    expect(answer, (mse, num_pixels, sigma),
           lambda *_: -Normal(mean, sigma).log_prob(x).sum(dim=1), {
        "This is log p(x|z). Minus that is wanted.":
            lambda *_: Normal(mean, sigma).log_prob(x).sum(dim=1),
        "This is the price of one pixel. An image has num_pixels of them, and log-likelihoods "
        "of independent pixels add.":
            lambda mse, *_: mse / (2 * sigma**2) + log_sigma + half_log,
        "A mean squared error is a mean: what is the sum over the pixels?":
            lambda mse, *_: mse / (2 * sigma**2) + size * (log_sigma + half_log),
        "Each pixel has a log σ and a ½ log 2π of its own; you count them once for the image.":
            lambda mse, *_: size * mse / (2 * sigma**2) + log_sigma + half_log,
        "The ½ log 2π of each pixel is missing.":
            lambda mse, *_: size * (mse / (2 * sigma**2) + log_sigma),
        "The log σ of each pixel is missing.":
            lambda mse, *_: size * (mse / (2 * sigma**2) + half_log),
        "Only the squared error is there. A density has a constant in front, which depends on σ.":
            lambda mse, *_: size * mse / (2 * sigma**2),
        "You take sigma for the variance in front of the squared error.":
            lambda mse, *_: size * (mse / (2 * sigma) + log_sigma + half_log),
        "Is a factor one half missing, in front of the squared error?":
            lambda mse, *_: size * (mse / sigma**2 + log_sigma + half_log),
        "In front of the squared error σ is squared, in the logarithm it is not: which of the two "
        "is log σ, and which ½ log σ²?":
            lambda mse, *_: size * (mse / (2 * sigma**2) + 0.5 * log_sigma + half_log),
        "log σ² is twice log σ: is there a half too few?":
            lambda mse, *_: size * (mse / (2 * sigma**2) + 2 * log_sigma + half_log),
        "Where the density is above 1 its −log is negative, and yours is cut off at 0.":
            lambda *_: -Normal(mean, sigma).log_prob(x).sum(dim=1).clamp(max=0),
    })


@check(points=1)
def bernoulli_log_px_z(answer):
    """Exercise: log-likelihood of Bernoulli pixels, (B, D), (B, D) -> (B,) in nats."""
    def each(x, logits):
        return Bernoulli(logits=logits, validate_args=False).log_prob(x)

    def truth(x, logits):
        return each(x, logits).sum(dim=1)

    grey, logits = torch.rand(4, 7), 2 * torch.randn(4, 7)
    x = torch.where(grey < 0.6, (grey < 0.3).float(), grey)
    expect(answer, (x, logits), truth, {
        "This is the cross-entropy: the sign is that of a loss. A log-likelihood is wanted.":
            lambda x, logits: -truth(x, logits),
        "You average over the pixels. The log-likelihoods of independent pixels add.":
            lambda x, logits: each(x, logits).mean(dim=1),
        "You sum over the batch. Each image has a likelihood of its own: which axis counts them?":
            lambda x, logits: each(x, logits).sum(dim=0),
        "One number for the whole batch came out; one for each image is wanted.":
            lambda x, logits: each(x, logits).sum(),
        "You have not summed over the pixels.": each,
        "A sigmoid is applied twice, or something that expects logits is given probabilities.":
            lambda x, logits: truth(x, torch.sigmoid(logits)),
        "Ink and paper are exchanged: the logit is that of ink, x = 1.":
            lambda x, logits: truth(1 - x, logits),
        "Blank pixels cost nothing in your sum. What does a pixel with x = 0 cost?":
            lambda x, logits: (x * logits.sigmoid().log()).sum(dim=1),
        "Grey pixels are missing or rounded in your sum. Use x as a number, not as a condition.":
            lambda x, logits: truth((x == 1).float(), logits),
        "Grey pixels are rounded to black and white in your sum. Use x as it is.":
            lambda x, logits: truth((x > 0.5).float(), logits),
    })
    far = torch.tensor([[200.0, -200.0, 200.0, -200.0, 40.0], [-200.0, 90.0, -150.0, 17.0, -30.0]])
    bits = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0, 0.0]])
    _expect_finite(answer, (bits, far), truth,
                   "At logits as large as ±200 your result is infinite or NaN: an exponential "
                   "overflows, or a probability has rounded to 0 or 1 before its logarithm.",
                   "At logits as large as ±200 your result is wrong: a probability has rounded to "
                   "0 or 1, and something keeps its logarithm finite. Stay with the logits.")
    expect_gradient(lambda logits: answer(x.clone(), logits), (logits,),
                    lambda logits: truth(x, logits))
    expect_gradient(lambda logits: answer(bits.clone(), logits), (far,),
                    lambda logits: truth(bits, logits))


@check(points=2)
def effective_beta(answer):
    """Exercise: the β that sums or means over pixels and latents amount to -> a number."""
    for num_pixels, num_latents in ((12, 5), (784, 20)):
        for pixels in ("sum", "mean"):
            for latents in ("sum", "mean"):
                result = ask(answer, pixels, latents, num_pixels, num_latents)
                beta = as_tensor(result, "β")
                wanted = _beta(pixels, latents, num_pixels, num_latents)
                case = (f"For pixels={pixels!r} and latents={latents!r}, with {num_pixels} pixels "
                        f"and {num_latents} latent dimensions")
                if agree(beta, wanted):
                    continue
                if agree(beta, 1 / wanted):
                    raise Wrong(f"{case}, your β is upside down. If one term is divided, does the "
                                "other become heavier or lighter beside it?")
                if agree(beta, torch.tensor(1.0)):
                    raise Wrong(f"{case}, you say 1. The two terms are not divided by the same "
                                "number.")
                if pixels == latents == "mean" and agree(beta, torch.tensor(num_pixels)):
                    raise Wrong(f"{case}, you leave out that the KL is divided too.")
                if beta.numel() != 1:
                    raise Wrong(f"{case}, one number is wanted; yours has the shape "
                                f"{tuple(beta.shape)}.")
                raise Wrong(f"{case}, you say {beta.item():.4g}. Write each loss as a multiple of "
                            "the two sums, and pull out the factor of the first.")


@check(points=2)
def level_log_probabilities(answer):
    """Exercise: log probabilities of grey levels, discretised logistic, (B,), (B,) -> (B, 256)."""
    def sigmoids(low, high, tails=True, size=255):
        def of(mean, log_scale):
            scale = log_scale.double().exp()[:, None]
            levels = torch.arange(256, dtype=torch.float64)
            upper = torch.sigmoid(((levels + high) / size - mean[:, None]) / scale)
            lower = torch.sigmoid(((levels + low) / size - mean[:, None]) / scale)
            if tails:
                upper[:, -1], lower[:, 0] = 1, 0
            return (upper - lower).log()
        return of

    def density(mean, log_scale):
        u = (torch.arange(256) / 255 - mean[:, None]) / log_scale.exp()[:, None]
        return torch.nn.functional.logsigmoid(u) + torch.nn.functional.logsigmoid(-u)

    def width_times_density(mean, log_scale):
        return density(mean, log_scale) - log_scale[:, None] - math.log(255)

    narrow, middle = (torch.tensor([0.5]), torch.tensor([0.01]).log()), slice(120, 136)
    got = as_tensor(ask(answer, *narrow)).detach()
    if got.shape == (1, 256):
        got, wanted = got[:, middle], _level_log_probabilities(*narrow)[:, middle]
        if not agree(got, wanted) and agree(got, width_times_density(*narrow)[:, middle]):
            raise Wrong("This is the density at each level times the width of its stretch. That is "
                        "nearly right for a wide bell and wrong for a narrow one. What is the "
                        "probability of a stretch?")

    half = sigmoids(-0.5, 0.5)
    inputs = torch.tensor([0.3, 0.9, -0.1]), torch.tensor([0.25, 0.3, 0.4]).log()
    truth = _level_log_probabilities
    expect(answer, inputs, truth, {
        "These are probabilities; their logarithms are wanted.":
            lambda *each: half(*each).exp(),
        "Your levels lie at k/256. The last one, 255, is to lie at 1.":
            sigmoids(-0.5, 0.5, size=256),
        "Your level k owns the stretch from k/256 to (k + 1)/256. Where does it lie, and how far "
        "is its neighbour?": sigmoids(0, 1, size=256),
        "Your 256 probabilities do not add up to 1: what lies below the first level and above the "
        "last is lost.": sigmoids(-0.5, 0.5, tails=False),
        "Your levels own the stretch from their own place to the next. They lie in the middle of "
        "what they own.": sigmoids(0, 1),
        "Your levels own the stretch up to their own place. They lie in the middle of what they "
        "own.": sigmoids(-1, 0),
        "You take log_scale for the scale itself.":
            lambda mean, log_scale: half(mean, log_scale.double().abs().log()),
        "This is the density at each level. A probability is that of a whole stretch.":
            lambda mean, log_scale: density(mean, log_scale) - log_scale[:, None],
        "The axes are exchanged: a row for each example is wanted, (B, 256).":
            lambda *each: half(*each).T,
    })
    inputs = torch.tensor([0.31, 0.97]), torch.tensor([0.003, 0.012]).log()
    _expect_finite(answer, inputs, truth,
                   "For a narrow bell some log probabilities are infinite or NaN: two sigmoids "
                   "round to the same number, and their difference to zero.",
                   "For a narrow bell your log probabilities are wrong. Has the difference of two "
                   "sigmoids lost its digits, or is it kept above a floor? Or does a density "
                   "times a width stand where the probability of a stretch is wanted?")


def _expect_finite(answer, inputs, truth, not_finite, not_right=""):
    """Compares an answer with the truth at values that are numerically hard.

    Raises: Wrong with the hint ``not_finite`` or ``not_right``, or what differs.
    """
    got, wanted = as_tensor(ask(answer, *inputs)).detach(), truth(*inputs)
    if got.shape == wanted.shape and not got.is_complex() and not agree(got, wanted, 1e-3):
        if not got.isfinite().all():
            raise Wrong(not_finite)
        if not_right:
            raise Wrong(not_right)
    compare(got, wanted, tolerance=1e-3)


def _beta(pixels, latents, num_pixels, num_latents):
    """How much a nat of KL weighs beside a nat of cross-entropy, from the gradient of the loss."""
    cross_entropy = torch.rand(num_pixels, requires_grad=True)
    kl = torch.rand(num_latents, requires_grad=True)
    loss = getattr(cross_entropy, pixels)() + getattr(kl, latents)()
    of_pixels, of_latents = torch.autograd.grad(loss, [cross_entropy, kl])
    return of_latents[0] / of_pixels[0]


def _level_log_probabilities(mean, log_scale):
    """Integrals of the logistic density over the 256 stretches, by Gauss-Legendre quadrature."""
    mean, scale = mean.double()[:, None, None], log_scale.double().exp()[:, None, None]
    nodes, weights = map(torch.from_numpy, numpy.polynomial.legendre.leggauss(32))
    edges = (torch.arange(255, dtype=torch.float64) + 0.5) / 255
    middle, half = (edges[1:] + edges[:-1]) / 2, edges.diff() / 2
    u = (middle[:, None] + half[:, None] * nodes - mean) / scale  # (B, 254, 32)
    softplus = torch.nn.functional.softplus
    log_density = -softplus(u) - softplus(-u) - scale.log()
    inner = (log_density + weights.log() + half.log()[:, None]).logsumexp(dim=2)
    first, last = ((each - mean[:, 0]) / scale[:, 0] for each in (edges[0], edges[-1]))
    return torch.cat([-softplus(-first), inner, -softplus(last)], dim=1)
