"""Right and wrong answers to the exercises on the marginal likelihood and its bound."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Normal


def log_mean_in_numpy(log_weights):
    logs = log_weights.numpy()
    largest = logs.max(axis=1)
    return largest + np.log(np.exp(logs - largest[:, None]).mean(axis=1))


def log_mean_in_a_loop(log_weights):
    means = []
    for row in log_weights.double().tolist():
        means.append(max(row) + math.log(sum(math.exp(w - max(row)) for w in row) / len(row)))
    return means


def log_mean_less(taken_off):
    """Stable if what is taken off, (B, 1), is the largest."""
    def log_mean(log_weights):
        off = taken_off(log_weights)
        return off[:, 0] + (log_weights - off).exp().mean(1).log()
    return log_mean


def cubes_with(log_prior, size, finish=lambda logs: torch.logsumexp(logs, dim=1)):
    return lambda log_px_z, z, side: finish(log_px_z + log_prior(z) + size(side, z.shape[1]))


def log_prior(z):
    return Normal(0.0, 1.0).log_prob(z).sum(1)


def log_size(side, dim):
    return dim * side.log()


def cubes_in_a_loop(log_px_z, z, side):
    values = []
    for image in log_px_z.double():
        logs = image.clone()
        for axis in z.double().T:
            logs += -axis**2 / 2 - math.log(2 * math.pi) / 2 + side.double().log()
        values.append(logs.max() + (logs - logs.max()).exp().sum().log())
    return values


def cubes_in_numpy(log_px_z, z, side):
    z, side, logs = z.numpy(), side.numpy(), log_px_z.numpy()
    prior = np.exp(-(z**2).sum(axis=1) / 2) / (2 * np.pi) ** (z.shape[1] / 2)
    largest = logs.max(axis=1, keepdims=True)
    return np.log(np.exp(logs - largest) @ (prior * side ** z.shape[1])) + largest[:, 0]


def draws_by_quadrature(sigma, latent_dim):
    z = torch.linspace(-9, 9, 20_001).double()
    weight = (Normal(0.0, sigma).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).exp()
    prior = Normal(0.0, 1.0).log_prob(z).softmax(0)
    return ((prior * weight**2).sum() / (prior * weight).sum() ** 2) ** latent_dim


def draws_in_a_loop(sigma, latent_dim):
    total = 1.0
    for _ in range(latent_dim):
        total /= math.sqrt(2 * sigma**2 - sigma**4)
    return total


def draws_by_drawing(sigma, latent_dim):
    z = torch.randn(100_000, latent_dim)
    weight = (Normal(0.0, sigma).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1).exp()
    return weight.square().mean() / weight.mean() ** 2


def by_the_coin(log_pz, log_q):
    return torch.logaddexp(log_pz, log_q) - math.log(2)


def full_weight(fit, log_pz, log_q):
    return fit + log_pz - by_the_coin(log_pz, log_q)


def importance_with(weight, finish=None, width=lambda log_var: torch.exp(0.5 * log_var)):
    def estimate(log_px_z, z, mu, log_var):
        log_q = Normal(mu, width(log_var)).log_prob(z).sum(2)
        logs = weight(log_px_z, Normal(0.0, 1.0).log_prob(z).sum(2), log_q)
        return logs.logsumexp(0) - math.log(len(logs)) if finish is None else finish(logs)
    return estimate


def importance_in_a_loop(log_px_z, z, mu, log_var):
    total = None
    for fit, point in zip(log_px_z.double(), z.double()):
        ratio = (0.5 * point**2 - 0.5 * (point - mu) ** 2 / log_var.exp() - 0.5 * log_var).sum(1)
        log_w = fit - torch.nn.functional.softplus(ratio)  # log of 1 + q / p
        total = log_w if total is None else torch.logaddexp(total, log_w)
    return total - math.log(len(z)) + math.log(2)


def importance_in_densities(log_px_z, z, mu, log_var):
    pz = Normal(0.0, 1.0).log_prob(z).sum(2).exp()
    q = Normal(mu, torch.exp(0.5 * log_var)).log_prob(z).sum(2).exp()
    return (log_px_z + (2 * pz / (pz + q)).log()).logsumexp(0) - math.log(len(z))


def importance_coordinate_by_coordinate(log_px_z, z, mu, log_var):
    log_q, log_pz = Normal(mu, (log_var / 2).exp()).log_prob(z), Normal(0.0, 1.0).log_prob(z)
    logs = log_px_z + (log_pz - by_the_coin(log_pz, log_q)).sum(2)
    return logs.logsumexp(0) - math.log(len(z))


def importance_without_width(log_px_z, z, mu, log_var):
    log_pz = Normal(0.0, 1.0).log_prob(z).sum(2)
    log_q = Normal(0.0, 1.0).log_prob((z - mu) / (log_var / 2).exp()).sum(2)
    return full_weight(log_px_z, log_pz, log_q).logsumexp(0) - math.log(len(z))


def chunks_put_together(chunks):
    logs = torch.cat(list(chunks), dim=1).double()
    return logs.logsumexp(1) - math.log(logs.shape[1])


def chunks_one_by_one(chunks):
    total, count = torch.full((len(chunks[0]),), -math.inf), 0
    for chunk in chunks:
        total = torch.logaddexp(total, chunk.logsumexp(1))
        count += chunk.shape[1]
    return total - math.log(count)


def means_of(chunks):
    return torch.stack([chunk.logsumexp(1) - math.log(chunk.shape[1]) for chunk in chunks])


def sums_less(count):
    return lambda chunks: torch.cat(chunks, 1).logsumexp(1) - math.log(count(chunks))


def posterior_of_joint(x, weight, bias, variance):
    """From the Gaussian of x and z together, with the covariance of the pixels inverted."""
    covariance = torch.outer(weight, weight) + variance * torch.eye(len(weight))
    gain = torch.linalg.solve(covariance, weight)
    return (x - bias) @ gain, 1 - gain @ weight


def posterior_pixel_by_pixel(x, weight, bias, variance):
    precision, slope = 1.0, torch.zeros(len(x)).double()
    for k in range(x.shape[1]):
        precision += weight[k].item() ** 2 / variance
        slope += (x[:, k] - bias[k]).double() * weight[k].item() / variance
    return slope / precision, torch.full((len(x),), 1 / precision)


def posterior_with(mean, spread):
    def posterior(x, weight, bias, variance):
        along, steep = (x - bias) @ weight, weight.square().sum()
        return mean(along, steep, variance), spread(steep, variance)
    return posterior


def right_mean(along, steep, variance):
    return along / (variance + steep)


def right_spread(steep, variance):
    return variance / (variance + steep)


def elbo_with(finish):
    def value(x, weight, bias, variance, mu, log_var):
        fit = Normal(bias + mu[:, None] * weight, variance**0.5).log_prob(x).sum(1)
        spread = log_var.exp() * (weight @ weight) / (2 * variance)
        return finish(fit, spread, 0.5 * (mu**2 + log_var.exp() - 1 - log_var), log_var)
    return value


def elbo_in_a_loop(x, weight, bias, variance, mu, log_var):
    values = []
    for i in range(len(x)):
        value = -0.5 * (mu[i] ** 2 + log_var[i].exp() - 1 - log_var[i])
        for k in range(len(weight)):
            off = x[i, k] - bias[k] - weight[k] * mu[i]
            square = off**2 + weight[k] ** 2 * log_var[i].exp()
            value = value - square / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)
        values.append(value)
    return torch.stack(values)


def elbo_less_gap(x, weight, bias, variance, mu, log_var):
    """log p(x), less the KL from q to the posterior."""
    covariance = torch.outer(weight, weight) + variance * torch.eye(len(weight))
    log_px = torch.distributions.MultivariateNormal(bias, covariance).log_prob(x)
    mean, spread = posterior_of_joint(x, weight, bias, variance)
    q, posterior = Normal(mu, (log_var / 2).exp()), Normal(mean, spread**0.5)
    return log_px - torch.distributions.kl_divergence(q, posterior)


def elbo_with_a_plain_weight(x, weight, bias, variance, mu, log_var):
    squares = (x - bias - mu[:, None] * weight) ** 2 + log_var.exp()[:, None] * weight
    fit = -0.5 * (squares / variance + math.log(2 * math.pi * variance)).sum(1)
    return fit - 0.5 * (mu**2 + log_var.exp() - 1 - log_var)


def elbo_by_drawing(x, weight, bias, variance, mu, log_var):
    z = mu + (log_var / 2).exp() * torch.randn(5000, len(mu))
    fit = Normal(bias + z[..., None] * weight, variance**0.5).log_prob(x).sum(2).mean(0)
    return fit - 0.5 * (mu**2 + log_var.exp() - 1 - log_var)


def lost_by_the_library(off, factor):
    zeros, ones = torch.zeros_like(off), torch.ones_like(off)
    return torch.distributions.kl_divergence(Normal(off, factor), Normal(zeros, ones))


def lost_in_a_loop(off, factor):
    return [0.5 * m * m + 0.5 * f * f - 0.5 - math.log(f)
            for m, f in zip(off.tolist(), factor.tolist())]


def weight_by_lstsq(x, bias, mean, variance):
    points = torch.cat([mean, torch.tensor([variance * len(mean)]).sqrt()])[:, None]
    wanted = torch.cat([x - bias, torch.zeros(1, x.shape[1])])
    return torch.linalg.lstsq(points, wanted).solution[0]


def weight_pixel_by_pixel(x, bias, mean, variance):
    return [sum(m * (row[k] - bias[k]) for m, row in zip(mean, x))
            / sum(m * m + variance for m in mean) for k in range(x.shape[1])]


def weight_with(below):
    return lambda x, bias, mean, variance: mean @ (x - bias) / below(mean, variance)


def kl_of(mu, log_var):
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var)


def loss_with(finish):
    def loss(logits, x, mu, log_var):
        fit = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return finish(fit, kl_of(mu, log_var))
    return loss


def loss_in_a_loop(logits, x, mu, log_var):
    total = 0
    for row, image, m, s in zip(logits.double(), x, mu, log_var):
        ink = torch.sigmoid(row)
        total = total - torch.where(image == 1, ink, 1 - ink).log().sum() + kl_of(m, s).sum()
    return total / len(x)


# exercise -> right answers, written in different ways
RIGHT = {
    "log_mean_exp": [log_mean_in_numpy, log_mean_in_a_loop,
                     lambda logs: logs.logsumexp(1) - math.log(logs.shape[1])],
    "log_px_on_grid": [cubes_in_a_loop, cubes_in_numpy, cubes_with(log_prior, log_size)],
    "draws_for_one": [draws_by_quadrature, draws_in_a_loop],
    "importance_log_px": [importance_in_a_loop, importance_with(full_weight)],
    "log_px_of_chunks": [chunks_put_together, chunks_one_by_one],
    "posterior_on_a_line": [posterior_of_joint, posterior_pixel_by_pixel],
    "elbo_on_a_line": [elbo_in_a_loop, elbo_less_gap],
    "lost_nats": [lost_by_the_library, lost_in_a_loop],
    "best_weight": [weight_by_lstsq, weight_pixel_by_pixel],
    "loss_per_image": [loss_in_a_loop, loss_with(lambda fit, kl: fit.mean() * 7 + kl.mean() * 3)],
}

# exercise -> (kind of mistake, words of the hint, wrong answer)
WRONG = {
    "log_mean_exp": [
        ("order", "mean of the logarithms", lambda logs: logs.mean(1)),
        ("stability", "cannot be held", lambda logs: logs.exp().mean(1).log()),
        ("stability", "cannot be held", lambda logs: (logs.exp().mean(1) + 1e-12).log()),
        ("stability", "own largest", lambda logs: logs.max() + (
            (logs - logs.max()).exp().mean(1).log())),
        ("stability", "right one of the K",
         log_mean_less(lambda logs: logs.amin(1, keepdim=True))),
        ("stability", "right one of the K",
         log_mean_less(lambda logs: logs.double().mean(1, keepdim=True))),
        ("stability", "right one of the K", log_mean_less(lambda logs: logs[:, :1])),
        ("sum or mean", "logarithm of the sum", lambda logs: logs.logsumexp(1)),
        ("term", "added at the end",
         lambda logs: (logs - logs.amax(1, keepdim=True)).exp().mean(1).log()),
        ("axis", "Which axis", lambda logs: logs.logsumexp(0) - math.log(len(logs))),
        ("scale", "number of images", lambda logs: logs.logsumexp(1) - math.log(len(logs))),
        ("scale", "is not log(sum) / K", lambda logs: logs.logsumexp(1) / logs.shape[1]),
    ],
    "log_px_on_grid": [
        ("term", "prior is missing", cubes_with(lambda z: 0, log_size)),
        ("term", "sizes of the cubes are missing", cubes_with(log_prior, lambda side, dim: 0)),
        ("scale", "in 2 dimensions", cubes_with(log_prior, lambda side, dim: side.log())),
        ("scale", "in one dimension", cubes_with(log_prior, lambda side, dim: 2 * side.log())),
        ("order", "one size", cubes_with(
            log_prior, lambda side, dim: (side**dim).mean().log())),
        ("order", "one edge", cubes_with(log_prior, lambda side, dim: dim * side.mean().log())),
        ("term", "not a density", cubes_with(lambda z: -0.5 * z.square().sum(1), log_size)),
        ("term", "one dimension only", cubes_with(
            lambda z: -0.5 * (z.square().sum(1) + math.log(2 * math.pi)), log_size)),
        ("stability", "cannot be held", cubes_with(
            log_prior, log_size, lambda logs: logs.exp().sum(1).log())),
        ("sum or mean", "average over the points", cubes_with(
            log_prior, lambda side, dim: -math.log(len(side)))),
        ("sum or mean", "average over the box", cubes_with(
            log_prior, lambda side, dim: (side**dim / (side**dim).sum()).log())),
        ("sum or mean", "laid out by hand", cubes_with(
            lambda z: 0, lambda side, dim: -math.log(len(side)))),
        ("sign", "multiply or divide", cubes_with(
            log_prior, lambda side, dim: -dim * side.log())),
    ],
    "draws_for_one": [
        ("order", "share of the draws", lambda sigma, dim: 1 / draws_in_a_loop(sigma, dim)),
        ("value", "multiply", lambda sigma, dim: dim * draws_in_a_loop(sigma, 1)),
        ("value", "too many", lambda sigma, dim: sigma**-dim),
        ("σ or variance", "standard deviation",
         lambda sigma, dim: draws_in_a_loop(sigma**0.5, dim)),
        ("randomness", "so it draws", draws_by_drawing),
        ("value", "price in one dimension", lambda sigma, dim: draws_in_a_loop(sigma, 1)),
        ("term", "Where is the prior", lambda sigma, dim: (2 * math.pi**0.5 * sigma) ** -dim),
        ("shape", "One number", lambda sigma, dim: [1 / sigma] * (dim + 1)),
    ],
    "importance_log_px": [
        ("term", "falls tails", importance_with(lambda fit, p, q: fit + p - q)),
        ("term", "from the prior", importance_with(lambda fit, p, q: fit)),
        ("scale", "integrate to", importance_with(
            lambda fit, p, q: fit + p - torch.logaddexp(p, q))),
        ("order", "logarithms of two", importance_with(lambda fit, p, q: fit + p - (p + q) / 2)),
        ("axis", "each coordinate", importance_coordinate_by_coordinate),
        ("value", "weigh each draw twice", importance_with(
            lambda fit, p, q: by_the_coin(fit + p - q, fit))),
        ("term", "missing above", importance_with(lambda fit, p, q: fit - by_the_coin(p, q))),
        ("sign", "You multiply", importance_with(lambda fit, p, q: fit + p + by_the_coin(p, q))),
        ("order", "a bound", importance_with(full_weight, lambda logs: logs.mean(0))),
        ("sum or mean", "sum of the weights",
         importance_with(full_weight, lambda logs: logs.logsumexp(0))),
        ("axis", "Which axis", importance_with(
            full_weight, lambda logs: logs.logsumexp(1) - math.log(logs.shape[1]))),
        ("σ or variance", "density of q want", importance_with(full_weight, width=torch.exp)),
        ("term", "width in front", importance_without_width),
        ("stability", "cannot be held",
         importance_with(full_weight, lambda logs: logs.exp().mean(0).log())),
        ("stability", "800 latents", importance_in_densities),
        ("stability", "800 latents", lambda *inputs: importance_in_densities(
            *(each.double() for each in inputs))),
    ],
    "log_px_of_chunks": [
        ("order", "function above", lambda chunks: means_of(chunks).mean(0)),
        ("scale", "as much say", lambda chunks: means_of(chunks).logsumexp(0) - math.log(
            len(chunks))),
        ("order", "still average logarithms", lambda chunks: sum(
            chunk.shape[1] * (chunk.logsumexp(1) - math.log(chunk.shape[1])) for chunk in chunks
        ) / sum(chunk.shape[1] for chunk in chunks)),
        ("sum or mean", "sum of all weights. Their mean", sums_less(lambda chunks: 1)),
        ("scale", "number of chunks", sums_less(len)),
        ("scale", "last chunk", sums_less(lambda chunks: chunks[-1].shape[1])),
        ("stability", "Stay with", lambda chunks: torch.cat(chunks, 1).exp().mean(1).log()),
        ("order", "mean of all log weights", lambda chunks: torch.cat(chunks, 1).mean(1)),
    ],
    "posterior_on_a_line": [
        ("term", "pulls it towards 0", posterior_with(
            lambda along, steep, variance: along / steep, right_spread)),
        ("term", "bias is missing", lambda x, weight, bias, variance: posterior_of_joint(
            x, weight, 0 * bias, variance)),
        ("term", "noise of variance 1",
         lambda x, weight, bias, variance: posterior_of_joint(x, weight, bias, 1.0)),
        ("σ or variance", "square `variance`",
         lambda x, weight, bias, variance: posterior_of_joint(x, weight, bias, variance**2)),
        ("σ or variance", "square `variance`", posterior_with(
            right_mean, lambda steep, variance: right_spread(steep, variance**2))),
        ("σ or variance", "by s where", posterior_with(
            lambda along, steep, variance: right_mean(along, steep, variance) * variance**0.5,
            right_spread)),
        ("σ or variance", "That is the width", posterior_with(
            right_mean, lambda *line: right_spread(*line) ** 0.5)),
        ("value", "inverse of the variance", posterior_with(
            right_mean, lambda *line: 1 / right_spread(*line))),
        ("term", "without the prior", posterior_with(
            right_mean, lambda steep, variance: variance / steep)),
        ("type", "2 results", lambda *line: posterior_of_joint(*line)[0]),
    ],
    "elbo_on_a_line": [
        ("term", "spread add", elbo_with(lambda fit, spread, kl, log_var: fit - kl)),
        ("term", "Where is the KL", elbo_with(lambda fit, spread, kl, log_var: fit - spread)),
        ("sign", "it is a charge", elbo_with(lambda fit, spread, kl, log_var: fit - spread + kl)),
        ("sign", "the loss", elbo_with(lambda fit, spread, kl, log_var: kl + spread - fit)),
        ("σ or variance", "width of the cloud", elbo_with(
            lambda fit, spread, kl, log_var: fit - spread / (log_var / 2).exp() - kl)),
        ("σ or variance", "square `variance`", lambda x, weight, bias, variance, *cloud: (
            elbo_in_a_loop(x, weight, bias, variance**2, *cloud))),
        ("scale", "*squared* distance", elbo_with_a_plain_weight),
        ("term", "once for each pixel", lambda x, weight, bias, variance, mu, log_var: (
            elbo_in_a_loop(x, weight, bias, variance, mu, log_var)
            + 2 * math.log(2 * math.pi * variance))),
        ("term", "a step of z", lambda x, weight, bias, variance, mu, log_var: elbo_with(
            lambda fit, spread, kl, log_var: fit - log_var.exp() / (2 * variance) - kl)(
            x, weight, bias, variance, mu, log_var)),
        ("sum or mean", "average over the pixels", elbo_with(
            lambda fit, spread, kl, log_var: (fit - spread) / 4 - kl)),
        ("randomness", "so it draws", elbo_by_drawing),
        ("gradient", "no gradient", lambda *inputs: elbo_in_a_loop(*inputs).detach()),
        ("gradient", "reaches log_var", lambda *inputs: elbo_in_a_loop(
            *inputs[:-1], inputs[-1].detach())),
    ],
    "lost_nats": [
        ("order", "from the posterior to q", lambda off, factor: lost_by_the_library(
            off / factor, 1 / factor)),
        ("sign", "ELBO minus", lambda off, factor: -lost_by_the_library(off, factor)),
        ("scale", "A half", lambda off, factor: 2 * lost_by_the_library(off, factor)),
        ("σ or variance", "ratio of the variances",
         lambda off, factor: lost_by_the_library(off, factor.sqrt())),
        ("sign", "wrong sign", lambda off, factor: 0.5 * (off**2 + factor**2 - 1) + factor.log()),
        ("term", "lose nothing", lambda off, factor: 0.5 * (off**2 + factor**2) - factor.log()),
        ("term", "how wide", lambda off, factor: off**2 / 2),
        ("scale", "halved", lambda off, factor: 0.5 * (off**2 + factor**2 - 1 - factor.log())),
        ("scale", "widths of q", lambda off, factor: lost_by_the_library(off / factor, factor)),
        ("sum or mean", "shape", lambda off, factor: lost_by_the_library(off, factor).sum()),
    ],
    "best_weight": [
        ("term", "mean of z²", weight_with(lambda mean, variance: mean @ mean)),
        ("term", "added once", weight_with(lambda mean, variance: mean @ mean + variance)),
        ("σ or variance", "width of the clouds",
         weight_with(lambda mean, variance: (mean**2 + variance**0.5).sum())),
        ("term", "bias is missing",
         lambda x, bias, mean, variance: mean @ x / (mean**2 + variance).sum()),
        ("scale", "number of images", weight_with(lambda mean, variance: len(mean))),
        ("sum or mean", "average below",
         weight_with(lambda mean, variance: (mean**2 + variance).mean())),
        ("sign", "taken off", weight_with(lambda mean, variance: (mean**2 - variance).sum())),
        ("value", "a square already",
         weight_with(lambda mean, variance: (mean**2 + variance**2).sum())),
        ("shape", "shape", lambda *inputs: torch.outer(
            weight_by_lstsq(*inputs), inputs[2])),
    ],
    "loss_per_image": [
        ("sum or mean", "function above", loss_with(lambda fit, kl: fit.mean() + kl.sum())),
        ("sum or mean", "summed over the images",
         loss_with(lambda fit, kl: fit.sum() / len(fit) + kl.sum())),
        ("sum or mean", "averaged over the pixels",
         loss_with(lambda fit, kl: fit.mean() + kl.sum(1).mean())),
        ("sum or mean", "sum over the batch", loss_with(lambda fit, kl: fit.sum() + kl.sum())),
        ("sum or mean", "everything", loss_with(lambda fit, kl: fit.mean() + kl.mean())),
        ("shape", "one loss for each", loss_with(lambda fit, kl: fit.sum(1) + kl.sum(1))),
        ("sign", "to be maximised", loss_with(lambda fit, kl: -(fit.sum() + kl.sum()) / len(fit))),
        ("sign", "wrong sign", loss_with(lambda fit, kl: (fit.sum() - kl.sum()) / len(fit))),
        ("order", "takes the sigmoid itself", lambda logits, *rest: loss_in_a_loop(
            logits.sigmoid(), *rest)),
        ("gradient", "reaches mu", lambda logits, x, mu, log_var: loss_in_a_loop(
            logits, x, mu.detach(), log_var)),
    ],
}
