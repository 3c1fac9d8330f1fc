"""Right and wrong answers to the exercises on the KL term and the likelihoods."""

import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F


def kl_entry_by_entry(mu, sigma, m, s):
    entries = zip(mu.tolist(), sigma.tolist(), m.tolist(), s.tolist())
    return [math.log(b / a) + (a * a + (u - v) ** 2) / (2 * b * b) - 0.5 for u, a, v, b in entries]


def kl_from_variances(mu, sigma, m, s):
    var, of_p = sigma.double().square_(), s.double().square_()
    ratio = var / of_p
    return 0.5 * (ratio - ratio.log() - 1 + (mu - m) ** 2 / of_p)


def colleagues_kl(mu, sigma, m, s):
    return torch.log(s / sigma) + (sigma + (mu - m) ** 2) / (2 * s) - 0.5


def kl_in_a_loop(mu, log_var):
    values = []
    for centres, logs in zip(mu, log_var):
        value = 0
        for m, s in zip(centres, logs):
            value = value + (m * m + torch.exp(s) - s - 1) / 2
        values.append(value)
    return torch.stack(values)


def kl_in_place(mu, log_var):
    mu.square_().add_(log_var.exp()).sub_(log_var).sub_(1)
    return mu.double().sum(-1) / 2


def kl_without_gradient(mu, log_var):
    return kl_in_a_loop(mu, log_var).detach()


def kl_of_a_detached_mu(mu, log_var):
    return kl_in_a_loop(mu.detach(), log_var)


def kl_with(size=torch.exp, logs=lambda log_var: -log_var, square=torch.square):
    return lambda mu, log_var: 0.5 * (square(mu) + size(log_var) + logs(log_var) - 1).sum(1)


def gradient_in_numpy(mu, sigma):
    mu, sigma = mu.numpy(), sigma.numpy().astype(np.float64)
    return [mu, (sigma**2 - 1) / sigma]


def gradient_by_hand(mu, sigma):
    return torch.stack([mu, sigma.sub_(sigma.reciprocal())])


def sampled_one_by_one(mu, log_var, num_samples, generator):
    ratios = []
    for _ in range(num_samples):
        eps = torch.randn(mu.shape, generator=generator)
        z = mu + torch.exp(log_var / 2) * eps
        ratios.append(((z**2 - eps**2 - log_var) / 2).sum(dim=1))
    ratios = torch.stack(ratios)
    return ratios.mean(0), (ratios.var(0) / num_samples) ** 0.5


def sampled_by_torch(
    mu, log_var, num_samples, generator, *,
    width=lambda log_var: (0.5 * log_var).exp(), shared=False, from_prior=False, alike=False,
):
    mu, log_var = mu.double(), log_var.double()
    q = torch.distributions.Normal(mu, (0.5 * log_var).exp())
    p = torch.distributions.Normal(torch.zeros_like(mu), 1)
    shape = (num_samples, 1 if alike else len(mu), 1 if shared else mu.shape[1])
    eps = torch.randn(shape, generator=generator, dtype=mu.dtype)
    z = eps if from_prior else mu + width(log_var) * eps
    ratio = (q.log_prob(z) - p.log_prob(z)).sum(dim=2)
    return ratio.mean(dim=0), ratio.std(dim=0, correction=0) / num_samples**0.5


def sampled_with(change):
    def answer(mu, log_var, num_samples, generator):
        mean, error = sampled_by_torch(mu, log_var, num_samples, generator)
        return change(mean, error)
    return answer


def sampled_without_generator(mu, log_var, num_samples, generator):
    return sampled_by_torch(mu, log_var, num_samples, None)


def closed_form_in_disguise(mu, log_var, num_samples, generator):
    _, error = sampled_by_torch(mu, log_var, num_samples, generator)
    return kl_in_a_loop(mu, log_var), error


def sampled_by_seed(mu, log_var, num_samples, generator):
    own = torch.Generator().manual_seed(generator.initial_seed())
    return sampled_by_torch(mu, log_var, num_samples, own)


def sampled_2000_times(mu, log_var, num_samples, generator):
    return sampled_by_torch(mu, log_var, 2000, generator)


def leaning_in_a_loop(mu, cholesky):
    values = []
    for centre, factor in zip(mu, cholesky):
        value = torch.zeros(())
        for i in range(len(centre)):
            value = value + 0.5 * (centre[i] ** 2 - 1) - torch.log(factor[i, i])
            for j in range(i + 1):
                value = value + 0.5 * factor[i, j] ** 2
        values.append(value)
    return values


def leaning_by_slogdet(mu, cholesky, log_det=None):
    sigma = cholesky.double() @ cholesky.double().mT
    log_det = torch.linalg.slogdet(sigma).logabsdet if log_det is None else log_det(sigma)
    trace = torch.einsum("bii->b", sigma)
    return ((mu * mu).sum(1) + trace - mu.size(1) - log_det) / 2


def leaning_with(trace, constant=None, factor=2):
    def answer(mu, cholesky):
        diagonal = torch.diagonal(cholesky, dim1=-2, dim2=-1)
        rest = (mu.shape[1] if constant is None else constant) + factor * diagonal.log().sum(1)
        return 0.5 * (mu.pow(2).sum(1) + trace(cholesky, diagonal) - rest)
    return answer


def squares(cholesky, diagonal):
    return (cholesky**2).sum((1, 2))


def nats_in_numpy(mse, num_pixels, sigma):
    mse = mse.numpy()
    return num_pixels / 2 * (mse / sigma**2 + np.log(2 * np.pi * sigma**2))


def nats_one_by_one(mse, num_pixels, sigma):
    constant = num_pixels * math.log(sigma * math.sqrt(2 * math.pi))
    return [(num_pixels * each / 2 / sigma / sigma + constant).item() for each in mse]


def nats_with(scale=1.0, of_error=1.0, constant=1.0):
    def answer(mse, num_pixels, sigma):
        log = constant * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
        return scale * num_pixels * (of_error * mse / (2 * sigma**2) + log)
    return answer


def bernoulli_by_logsigmoid(x, logits):
    each = x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)
    return each.double().sum(-1)


def bernoulli_in_a_loop(x, logits):
    totals = []
    for pixels, says in zip(x, logits):
        total = 0
        for pixel, logit in zip(pixels, says):
            # log(1 + e^l) = max(l, 0) + log(1 + e^-|l|)
            total = total + pixel * logit - logit.clamp(min=0) - torch.log1p(torch.exp(-abs(logit)))
        totals.append(total)
    return torch.stack(totals)


def bernoulli_in_place(x, logits):
    price = torch.logaddexp(logits, torch.zeros_like(logits))
    return x.mul_(logits).sub_(price).sum(1)


def bernoulli_of_probabilities(x, logits, floor=0.0):
    pi = torch.sigmoid(logits).clamp(floor, 1 - floor)
    return (x * torch.log(pi) + (1 - x) * torch.log(1 - pi)).sum(dim=1)


def bernoulli_overflows(x, logits):
    return (x * logits - torch.log1p(torch.exp(logits))).sum(dim=1)


def bernoulli_with_conditions(x, logits, is_ink=lambda x: x == 1):
    ink = torch.where(is_ink(x), F.logsigmoid(logits), F.logsigmoid(-logits))
    return ink.sum(dim=1)


def beta_from_a_table(pixels, latents, num_pixels, num_latents):
    table = {
        ("sum", "sum"): 1, ("mean", "sum"): num_pixels,
        ("sum", "mean"): 1 / num_latents, ("mean", "mean"): num_pixels / num_latents,
    }
    return table[pixels, latents]


def beta_as_a_fraction(pixels, latents, num_pixels, num_latents):
    return Fraction(num_pixels if pixels == "mean" else 1, num_latents if latents == "mean" else 1)


def beta_by_branches(pixels, latents, num_pixels, num_latents):
    beta = torch.ones(1)
    if pixels == "mean":
        beta *= num_pixels
    if latents == "mean":
        beta /= num_latents
    return beta


def levels_in_a_loop(mean, log_scale):
    rows = []
    for m, s in zip(mean.double(), log_scale.double().exp()):
        row = []
        for k in range(256):
            above = (k + 0.5) / 255
            below = (k - 0.5) / 255
            # a bin right of the centre is seen from the other side, where the tails are small
            turn = -1 if k / 255 > m else 1
            one, other = torch.tensor([above, below]).double().sub(m).div(s) * turn
            low, high = min(one, other), max(one, other)
            end = F.logsigmoid((above - m) / s) if k == 0 else F.logsigmoid(-(below - m) / s)
            ratio = (F.logsigmoid(low) - F.logsigmoid(high)).exp()
            inner = F.logsigmoid(high) + torch.log1p(-ratio)
            row.append(end if k in (0, 255) else inner)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def levels_by_product(mean, log_scale):
    levels = torch.arange(256.0)[None] / 255
    inverse = torch.exp(-log_scale)[:, None]
    upper = (levels + 0.5 / 255 - mean[:, None]) * inverse
    lower = (levels - 0.5 / 255 - mean[:, None]) * inverse
    below, above = -F.softplus(-upper), -F.softplus(lower)
    result = below + above + torch.log(-torch.expm1(lower - upper))
    result[:, 0], result[:, -1] = below[:, 0], above[:, -1]
    return result


def levels_by_difference(mean, log_scale, floor=0.0, low=-0.5, high=0.5, tails=True, size=255):
    levels = torch.arange(256)
    upper = torch.sigmoid(((levels + high) / size - mean[:, None]) / log_scale.exp()[:, None])
    lower = torch.sigmoid(((levels + low) / size - mean[:, None]) / log_scale.exp()[:, None])
    if tails:
        upper[:, -1], lower[:, 0] = 1, 0
    return (upper - lower).clamp(min=floor).log()


def levels_by_density_alone(mean, log_scale):
    u = (torch.arange(256) / 255 - mean[:, None]) / log_scale.exp()[:, None]
    return F.logsigmoid(u) + F.logsigmoid(-u) - log_scale[:, None] - math.log(255)


def levels_by_density(mean, log_scale):
    u = (torch.arange(256) / 255 - mean[:, None]) / log_scale.exp()[:, None]
    result = F.logsigmoid(u) + F.logsigmoid(-u) - log_scale[:, None] - math.log(255)
    true = levels_by_product(mean, log_scale)
    result[:, 0], result[:, -1] = true[:, 0], true[:, -1]
    return result


# exercise -> right answers, written in different ways
RIGHT = {
    "kl_between_gaussians": [kl_entry_by_entry, kl_from_variances],
    "kl_to_prior": [kl_in_a_loop, kl_in_place],
    "kl_gradient": [gradient_in_numpy, gradient_by_hand],
    "sampled_kl": [sampled_one_by_one, sampled_by_torch],
    "kl_full_covariance": [leaning_in_a_loop, leaning_by_slogdet],
    "nats_from_mse": [nats_in_numpy, nats_one_by_one],
    "bernoulli_log_px_z": [bernoulli_by_logsigmoid, bernoulli_in_a_loop, bernoulli_in_place],
    "effective_beta": [beta_from_a_table, beta_by_branches, beta_as_a_fraction],
    "level_log_probabilities": [levels_in_a_loop, levels_by_product],
}

# exercise -> (kind of mistake, words of the hint, wrong answer)
WRONG = {
    "kl_between_gaussians": [
        ("σ or variance", "colleague's formula", colleagues_kl),
        ("σ or variance", "Half of it is repaired: in one place",
         lambda mu, sigma, m, s:
             torch.log(s / sigma) + (sigma**2 + (mu - m) ** 2) / (2 * s) - 0.5),
        ("σ or variance", "Half of it is repaired: one width",
         lambda mu, sigma, m, s:
             torch.log(s / sigma) + (sigma + (mu - m) ** 2) / (2 * s**2) - 0.5),
        ("σ or variance", "was right as it stood",
         lambda mu, sigma, m, s: colleagues_kl(mu, sigma**2, m, s**2)),
        ("sign", "upside down", lambda mu, sigma, m, s:
            torch.log(sigma / s) + (sigma**2 + (mu - m) ** 2) / (2 * s**2) - 0.5),
        ("order", "from the second to the first",
         lambda mu, sigma, m, s: kl_from_variances(m, s, mu, sigma)),
        ("term", "one constant", lambda *each: kl_from_variances(*each) + 0.5),
        ("sum or mean", "one for each entry", lambda *each: kl_from_variances(*each).sum()),
        ("value", "first that is not", lambda *each: colleagues_kl(*each).clamp(min=0)),
    ],
    "kl_to_prior": [
        ("sign", "negative", lambda mu, log_var: -kl_in_a_loop(mu, log_var)),
        ("sum or mean", "average", lambda mu, log_var: kl_in_a_loop(mu, log_var) / 3),
        ("axis", "over the batch",
         lambda mu, log_var: 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum(0)),
        ("σ or variance", "log of σ", lambda mu, log_var: kl_in_a_loop(mu, 2 * log_var)),
        ("sign", "logarithm has the wrong sign", kl_with(logs=lambda log_var: log_var)),
        ("σ or variance", "width σ", kl_with(size=lambda log_var: (0.5 * log_var).exp())),
        ("σ or variance", "a logarithm already", kl_with(logs=lambda v: -v.log())),
        ("σ or variance", "log_var for the variance",
         kl_with(size=lambda v: v, logs=lambda v: -v.log())),
        ("value", "power of μ", kl_with(square=lambda mu: mu)),
        ("value", "cut log_var off", lambda mu, log_var: kl_with()(mu, log_var.clamp(-2.5, 2.5))),
        ("value", "cut log_var off", lambda mu, log_var: kl_with()(mu, log_var.clamp(-20, 20))),
        ("stability", "cut log_var off",
         kl_with(logs=lambda log_var: -(log_var.exp() + 1e-8).log())),
        ("stability", "infinite or NaN", kl_with(
            logs=lambda log_var: -(1 + log_var.exp()).sub(1).log())),
        ("gradient", "no gradient passes", kl_without_gradient),
        ("gradient", "no gradient reaches mu", kl_of_a_detached_mu),
        ("gradient", "gradient for log_var is not", lambda mu, log_var:
            kl_with()(mu, log_var + (log_var - log_var.detach()))),
        ("shape", "shape", lambda mu, log_var: kl_in_a_loop(mu, log_var)[:, None]),
    ],
    "kl_gradient": [
        ("σ or variance", "log σ². Here", lambda mu, sigma: (mu, (sigma**2 - 1) / 2)),
        ("σ or variance", "log σ. Here", lambda mu, sigma: (mu, sigma**2 - 1)),
        ("σ or variance", "variance σ²", lambda mu, sigma: (mu, 0.5 - 0.5 / sigma**2)),
        ("value", "derivative of log σ?", lambda mu, sigma: (mu, sigma - 1)),
        ("term", "a logarithm of σ", lambda mu, sigma: (mu, sigma)),
        ("scale", "factor of two", lambda mu, sigma: (mu, sigma - 0.5 / sigma)),
        ("scale", "twice too large", lambda mu, sigma: (2 * mu, sigma - 1 / sigma)),
        ("sign", "mu has the wrong sign", lambda mu, sigma: (-mu, 1 / sigma - sigma)),
        ("sign", "sigma has the wrong sign", lambda mu, sigma: (mu, 1 / sigma - sigma)),
        ("order", "other order", lambda mu, sigma: (sigma - 1 / sigma, mu)),
        ("sum or mean", "shape", lambda mu, sigma: (mu.sum(1), (sigma - 1 / sigma).sum(1))),
        ("type", "2 results", lambda mu, sigma: mu + sigma - 1 / sigma),
    ],
    "sampled_kl": [
        ("sign", "sign is turned", sampled_with(lambda mean, error: (-mean, error))),
        ("order", "draws from the prior",
         lambda *each: sampled_by_torch(*each, from_prior=True)),
        ("σ or variance", "as wide as exp",
         lambda *each: sampled_by_torch(*each, width=torch.exp)),
        ("randomness", "same noise in each",
         lambda *each: sampled_by_torch(*each, shared=True)),
        ("randomness", "same seed", sampled_without_generator),
        ("randomness", "Is there a draw", closed_form_in_disguise),
        ("randomness", "one after the other", sampled_by_seed),
        ("randomness", "share their draws", lambda *each: sampled_by_torch(*each, alike=True)),
        ("value", "Whose number", sampled_2000_times),
        ("term", "should come within",
         sampled_with(lambda mean, error: (mean + 0.05, error))),
        ("scale", "scatter of a single draw",
         sampled_with(lambda mean, error: (mean, error * 2000**0.5))),
        ("scale", "not by the number",
         sampled_with(lambda mean, error: (mean, error / 2000**0.5))),
        ("scale", "error is its root", sampled_with(lambda mean, error: (mean, error**2))),
        ("sum or mean", "average over the latent",
         sampled_with(lambda mean, error: (mean / 2, error / 2))),
        ("sum or mean", "sum over the draws",
         sampled_with(lambda mean, error: (mean * 2000, error))),
        ("shape", "shape", sampled_with(lambda mean, error: (mean.sum(), error.sum()))),
        ("type", "2 results", sampled_with(lambda mean, error: mean)),
    ],
    "kl_full_covariance": [
        ("term", "below the diagonal", leaning_with(lambda c, diagonal: (diagonal**2).sum(1))),
        ("σ or variance", "not their squares",
         leaning_with(lambda c, diagonal: c.abs().sum((1, 2)))),
        ("axis", "all entries of Σ", leaning_with(lambda c, diagonal: (c @ c.mT).sum((1, 2)))),
        ("σ or variance", "diagonal of C for the variances",
         leaning_with(lambda c, diagonal: diagonal.sum(1))),
        ("scale", "log det is that of C", leaning_with(squares, factor=1)),
        ("sign", "log det has the wrong sign", leaning_with(squares, factor=-2)),
        ("term", "number of dimensions is missing", leaning_with(squares, constant=0)),
        ("term", "subtract 1", leaning_with(squares, constant=1)),
        ("stability", "rounds to zero",
         lambda mu, c: leaning_by_slogdet(mu, c, lambda sigma: torch.det(sigma.float()).log())),
        ("stability", "a floor holds it up", lambda mu, c:
            leaning_by_slogdet(mu, c, lambda sigma: (torch.det(sigma) + 1e-8).log())),
        ("sum or mean", "one for each example", lambda mu, c: leaning_by_slogdet(mu, c).sum()),
        ("gradient", "no gradient", lambda mu, c: leaning_by_slogdet(mu, c).detach()),
    ],
    "nats_from_mse": [
        ("sign", "Minus that", nats_with(scale=-1)),
        ("sum or mean", "one pixel", nats_with(scale=1 / 50)),
        ("sum or mean", "a mean: what is the sum", nats_with(of_error=1 / 50)),
        ("sum or mean", "once for the image", nats_with(constant=1 / 50)),
        ("term", "½ log 2π of each",
         lambda mse, d, sigma: d * (mse / (2 * sigma**2) + math.log(sigma))),
        ("term", "log σ of each",
         lambda mse, d, sigma: d * (mse / (2 * sigma**2) + 0.5 * math.log(2 * math.pi))),
        ("term", "a constant in front", nats_with(constant=0)),
        ("σ or variance", "sigma for the variance", nats_with(of_error=0.3)),
        ("scale", "in front of the squared", nats_with(of_error=2)),
        ("σ or variance", "which ½ log σ²",
         lambda mse, d, sigma: d / 2 * (mse / sigma**2 + math.log(2 * math.pi * sigma))),
        ("scale", "a half too few",
         lambda mse, d, sigma: nats_with()(mse, d, sigma) + d * math.log(sigma)),
        ("value", "cut off at 0", lambda *each: nats_with()(*each).clamp(min=0)),
    ],
    "bernoulli_log_px_z": [
        ("sign", "that of a loss", lambda x, logits: -bernoulli_by_logsigmoid(x, logits)),
        ("sum or mean", "average over the pixels",
         lambda x, logits: bernoulli_by_logsigmoid(x, logits) / x.shape[1]),
        ("axis", "over the batch",
         lambda x, logits: bernoulli_by_logsigmoid(x.T, logits.T)),
        ("sum or mean", "whole batch",
         lambda x, logits: bernoulli_by_logsigmoid(x, logits).sum()),
        ("shape", "not summed", lambda x, logits: x * logits - F.softplus(logits)),
        ("stability", "rounded to 0 or 1 before", bernoulli_of_probabilities),
        ("stability", "keeps its logarithm finite",
         lambda x, logits: bernoulli_of_probabilities(x, logits, 1e-6)),
        ("stability", "overflows", bernoulli_overflows),
        ("value", "sigmoid is applied twice",
         lambda x, logits: bernoulli_by_logsigmoid(x, logits.sigmoid())),
        ("value", "Grey pixels are missing", bernoulli_with_conditions),
        ("value", "Grey pixels are rounded",
         lambda x, logits: bernoulli_with_conditions(x, logits, lambda x: x > 0.5)),
        ("term", "Blank pixels",
         lambda x, logits: (x * F.logsigmoid(logits)).sum(1)),
        ("order", "exchanged", lambda x, logits: bernoulli_by_logsigmoid(1 - x, logits)),
        ("gradient", "no gradient",
         lambda x, logits: bernoulli_by_logsigmoid(x, logits.detach())),
    ],
    "effective_beta": [
        ("order", "upside down", lambda *each: 1 / beta_from_a_table(*each)),
        ("value", "you say 1", lambda *each: 1),
        ("term", "KL is divided too", lambda pixels, latents, *sizes:
            beta_from_a_table(pixels, "sum" if pixels == "mean" else latents, *sizes)),
        ("sum or mean", "you say 1", lambda pixels, latents, *sizes:
            1 if pixels == latents else beta_from_a_table(pixels, latents, *sizes)),
        ("value", "you say 3920", lambda pixels, latents, *sizes:
            3920 if max(sizes) == 784 else beta_from_a_table(pixels, latents, *sizes)),
        ("shape", "one number", lambda *each: torch.ones(2)),
    ],
    "level_log_probabilities": [
        ("value", "their logarithms", lambda *each: levels_by_product(*each).exp()),
        ("term", "add up to 1: what lies",
         lambda *each: levels_by_difference(*each, tails=False)),
        ("value", "to the next", lambda *each: levels_by_difference(*each, low=0, high=1)),
        ("value", "up to their own", lambda *each: levels_by_difference(*each, low=-1, high=0)),
        ("value", "density at each level times", levels_by_density),
        ("value", "times the width of its stretch", levels_by_density_alone),
        ("scale", "lie at k/256", lambda *each: levels_by_difference(*each, size=256)),
        ("scale", "from k/256 to",
         lambda *each: levels_by_difference(*each, low=0, high=1, size=256)),
        ("σ or variance", "scale itself", lambda mean, log_scale:
            levels_by_product(mean, log_scale.abs().log())),
        ("stability", "round to the same", levels_by_difference),
        ("stability", "above a floor", lambda *each: levels_by_difference(*each, floor=1e-12)),
        ("axis", "axes", lambda *each: levels_by_product(*each).T),
        ("shape", "shape", lambda *each: levels_by_product(*each).sum(1)),
    ],
}
