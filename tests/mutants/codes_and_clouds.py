"""Right and wrong answers to the exercises on codes and clouds."""

import math

import numpy as np
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal


def pca_by_svd(images, code_dim):
    mean = images.mean(0)
    rows = torch.linalg.svd(images - mean, full_matrices=False).Vh[:code_dim]
    return (images - mean) @ rows.T @ rows + mean


def pca_in_numpy(images, code_dim):
    x = images.numpy().astype(float)
    x -= x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    best = vectors[:, np.argsort(values)[::-1][:code_dim]]
    copies = np.zeros(x.shape) + images.numpy().mean(axis=0)
    for u in best.T:
        copies += np.outer(x @ u, u)
    return copies


def pca_around(centre, images, code_dim):
    rows = torch.linalg.svd(images - centre, full_matrices=False).Vh[:code_dim]
    return (images - centre) @ rows.T @ rows + centre


def pca_with_raw_directions(images, code_dim):
    mean = images.mean(0)
    rows = torch.linalg.svd(images, full_matrices=False).Vh[:code_dim]
    return (images - mean) @ rows.T @ rows + mean


def pca_along(choose):
    def copies(images, code_dim):
        mean = images.mean(0)
        rows = choose(torch.linalg.eigh(images.T.cov()).eigenvectors, code_dim)
        return (images - mean) @ rows.T @ rows + mean
    return copies


def pca_code(images, code_dim):
    mean = images.mean(0)
    return (images - mean) @ torch.linalg.svd(images - mean).Vh[:code_dim].T


def errors_in_a_loop(singular_values, num_images):
    lost, errors = 0.0, [0.0]
    for value in reversed(singular_values.tolist()):
        lost += value**2 / num_images
        errors.insert(0, lost)
    return errors


def errors_by_difference(singular_values, num_images):
    kept = torch.cat([torch.zeros(1), singular_values.double().square().cumsum(0)])
    return (kept[-1] - kept) / num_images


def holes_by_logarithm(num_codes, cells, code_dim):
    return math.exp(num_codes * math.log1p(-float(cells) ** -code_dim))


def holes_in_a_loop(num_codes, cells, code_dim):
    share = torch.tensor(1.0, dtype=torch.float64)
    for _ in range(num_codes):
        share *= 1 - 1 / cells**code_dim
    return share


def bell_with(scale, centre=lambda codes: codes.mean(0)):
    def draws(codes, noise):
        return codes.mean(0) + scale(codes) * noise @ (codes - centre(codes))
    return draws


def right_scale(codes):
    return len(codes) ** -0.5


def bell_row_by_row(codes, noise):
    return [codes.mean(0) + sum(luck * (code - codes.mean(0)) for luck, code in zip(row, codes))
            / (len(codes) - 1) ** 0.5 for row in noise]


def bell_with_centred_luck(codes, noise):
    noise = noise.double() - noise.double().mean(1, keepdim=True)
    return codes.double().mean(0) + noise @ codes.double() / math.sqrt(len(codes))


def bell_along_the_axes(codes, noise):
    values, vectors = torch.linalg.eigh(torch.cov(codes.double().T, correction=0))
    best = slice(-noise.shape[1], None)  # the others are 0
    return codes.double().mean(0) + (
        noise.double() * values[best].clamp(min=0).sqrt()) @ vectors.T[best]


def length_in_a_loop(mu, log_var):
    return [sum(m**2 + math.exp(s) for m, s in zip(*row))
            for row in zip(mu.tolist(), log_var.tolist())]


def length_in_place(mu, log_var):
    return mu.square_().add_(log_var.exp_()).double().sum(-1)


def length_by_drawing(mu, log_var):
    return Normal(mu, (log_var / 2).exp()).sample((10_000,)).square().sum(2).mean(0)


def covariance_of_pairs(mu, log_var):
    centred = mu.double() - mu.double().mean(0)
    total = torch.zeros(mu.shape[1], mu.shape[1]).double()
    for each, logs in zip(centred, log_var):
        total += torch.outer(each, each) + torch.diag(logs.double().exp())
    return total / len(mu)


def covariance_in_numpy(mu, log_var):
    return np.cov(mu.numpy(), rowvar=False) + np.diag(np.exp(log_var.numpy()).mean(axis=0))


def covariance_with(within):
    return lambda mu, log_var: mu.T.cov() + within(log_var)


def layers_in_a_row(layer, matrix, shift):
    back = nn.Linear(len(shift), len(shift))
    back.weight.data = torch.linalg.inv(matrix)
    back.bias.data = -torch.linalg.solve(matrix, shift)
    return nn.Sequential(back, layer)


def layer_by_solving(layer, matrix, shift):
    new = nn.Linear(layer.in_features, layer.out_features, dtype=torch.float64)
    weight = torch.linalg.solve(matrix.double().T, layer.weight.double().T).T
    new.weight.data = weight.detach()
    new.bias.data = (layer.bias.double() - weight @ shift.double()).detach()
    return new


def layer_by_solving_in_float32(layer, matrix, shift):
    return layer_by_solving(layer, matrix, shift).float()


def layer_with(weight_of, bias_of):
    def changed(layer, matrix, shift):
        new = nn.Linear(layer.in_features, layer.out_features)
        new.weight.data = weight_of(layer.weight, torch.linalg.inv(matrix)).detach()
        new.bias.data = bias_of(layer.bias, new.weight, layer.weight, shift).detach()
        return new
    return changed


def layer_changed_in_place(layer, matrix, shift):
    with torch.no_grad():
        layer.weight.copy_(layer.weight @ torch.linalg.inv(matrix))
        layer.bias.sub_(layer.weight @ shift)
    return layer


def log_area(root):
    return root.diagonal(dim1=1, dim2=2).log().sum(1)


def best_with(log_weights, normalise=lambda logs: torch.softmax(logs, dim=1),
              undo=lambda root: root):
    def answers(z, mu, root, images):
        luck = torch.linalg.solve(undo(root), (z[:, None] - mu)[..., None])[..., 0]
        return normalise(log_weights(-0.5 * luck.square().sum(2), root)) @ images
    return answers


def best_right(logs, root):
    return logs - log_area(root)


def best_in_a_loop(z, mu, root, images):
    answers = []
    for point in z.double():
        logs = []
        for centre, each in zip(mu.double(), root.double()):
            covariance = each @ each.T
            off = point - centre
            logs.append(-0.5 * off @ covariance.inverse() @ off - 0.5 * covariance.det().log())
        weights = [torch.exp(each - max(logs)) for each in logs]
        answers.append(sum(w * x for w, x in zip(weights, images)) / sum(weights))
    return answers


def best_by_the_library(z, mu, root, images):
    logs = MultivariateNormal(mu, scale_tril=root).log_prob(z[:, None])
    return (logs - logs.logsumexp(1, keepdim=True)).exp() @ images


def without_slant(root):
    return root.diagonal(dim1=1, dim2=2).diag_embed()


def divided_by_sum(small):
    def normalise(logs):
        weights = logs.exp()
        return weights / (weights.sum(dim=1, keepdim=True) + small)
    return normalise


def draw_by_the_library(mu, log_var):
    return Normal(mu, log_var.exp().sqrt()).rsample()


def draw_in_a_loop(mu, log_var):
    return torch.stack([m + torch.exp(s / 2) * torch.randn(len(m)) for m, s in zip(mu, log_var)])


def draw_with(luck, width=lambda log_var: torch.exp(0.5 * log_var)):
    return lambda mu, log_var: mu + width(log_var) * luck(mu)


def loss_with(draw, finish=lambda errors: errors.sum(dim=1)):
    def loss(encode, decode, x, eps):
        mu, log_var = encode(x)
        return finish((decode(draw(mu, log_var, eps)) - x) ** 2)
    return loss


def loss_in_a_loop(encode, decode, x, eps):
    losses = []
    for image, luck in zip(x, eps):
        mu, log_var = encode(image[None])
        z = mu + log_var.exp().sqrt() * luck
        losses.append((decode(z)[0] - image).pow(2).sum())
    return losses


def draw_right(mu, log_var, eps):
    return mu + torch.exp(log_var / 2) * eps


def gumbel_in_place(mu, log_scale, u):
    return mu - torch.exp(log_scale) * u.log_().neg_().log_()


def gumbel_with_the_other_end(mu, log_scale, u):
    return mu.double() - log_scale.double().exp() * (-(1 - u.double()).log()).log()


def gumbel_without_gradient(mu, log_scale, u):
    return gumbel_in_place(mu, log_scale, u).detach()


def width_in_a_loop(loss, mu, log_var, z):
    total, scores = torch.zeros_like(mu), []
    for k in range(len(loss)):
        baseline = sum(loss[j] for j in range(len(loss)) if j != k) / (len(loss) - 1)
        scores.append((z[k] - mu) ** 2 / (2 * log_var.exp()) - 0.5)
        total += (loss[k] - baseline).unsqueeze(1) * scores[-1]
    return scores, total / len(loss)


def width_by_autograd(loss, mu, log_var, z):
    log_var = log_var.double().expand(z.shape).clone().requires_grad_()
    log_q = Normal(mu.double(), (log_var / 2).exp()).log_prob(z.double()).sum()
    (score,) = torch.autograd.grad(log_q, log_var)
    less_mean = loss.double() - loss.double().mean(0)  # off by K / (K - 1), the same for all
    return [score, (less_mean[..., None] * score).sum(0) / (len(loss) - 1)]


def right_score(off, log_var):
    return 0.5 * (off**2 / log_var.exp() - 1)


def width_with(baseline, score=right_score, finish=lambda each: each.mean(0)):
    def estimate(loss, mu, log_var, z):
        scores = score(z - mu, log_var)
        return scores, finish((loss - baseline(loss))[..., None] * scores)
    return estimate


def other_losses(loss):
    return (loss.sum(0) - loss) / (len(loss) - 1)


# exercise -> right answers, written in different ways
RIGHT = {
    "pca_copies": [pca_by_svd, pca_in_numpy],
    "pca_errors": [errors_in_a_loop, errors_by_difference],
    "share_of_holes": [holes_by_logarithm, holes_in_a_loop],
    "fitted_bell": [bell_row_by_row, bell_with_centred_luck, bell_along_the_axes,
                    bell_with(right_scale)],
    "mean_squared_length": [length_in_a_loop, length_in_place],
    "aggregate_covariance": [covariance_of_pairs, covariance_in_numpy],
    "in_new_units": [layers_in_a_row, layer_by_solving, layer_by_solving_in_float32],
    "best_answer": [best_in_a_loop, best_by_the_library, best_with(best_right)],
    "draw_from_clouds": [draw_by_the_library, draw_in_a_loop],
    "loss_of_draw": [loss_in_a_loop, loss_with(draw_right)],
    "gumbel_draw": [gumbel_in_place, gumbel_with_the_other_end],
    "width_gradient": [width_in_a_loop, width_by_autograd],
}

# exercise -> (kind of mistake, words of the hint, wrong answer)
WRONG = {
    "pca_copies": [
        ("term", "mean image is missing", lambda x, size: pca_by_svd(x, size) - x.mean(0)),
        ("term", "through the point 0", lambda x, size: pca_around(0, x, size)),
        ("order", "not centred first", pca_with_raw_directions),
        ("order", "spread least", pca_along(lambda vectors, size: vectors.T[:size])),
        ("axis", "rows of the matrix", pca_along(lambda vectors, size: vectors[-size:])),
        ("shape", "These are the codes", pca_code),
        ("axis", "one over images", lambda x, size: pca_around(
            x.mean(1, keepdim=True), x, size)),
        ("axis", "one number, the mean", lambda x, size: pca_around(x.mean(), x, size)),
        ("value", "values of the copies", lambda x, size: pca_by_svd(x, size + 1)),
        ("value", "[-0:]", pca_along(lambda vectors, size: vectors[:, -size:].T)),
    ],
    "pca_errors": [
        ("order", "what is kept",
         lambda s, n: torch.cat([torch.zeros(1), s.square().cumsum(0)]) / n),
        ("term", "squared singular values",
         lambda s, n: [s[k:].sum() / n for k in range(len(s) + 1)]),
        ("shape", "5 values", lambda s, n: errors_in_a_loop(s, n)[1:]),
        ("sum or mean", "sum over all images", lambda s, n: errors_by_difference(s, 1)),
        ("scale", "N − 1", lambda s, n: errors_by_difference(s, n - 1)),
        ("scale", "number of pixels", lambda s, n: errors_by_difference(s, n * len(s))),
        ("order", "Turn them round", lambda s, n: errors_by_difference(s, n).flip(0)),
        ("value", "share of the spread",
         lambda s, n: errors_by_difference(s, n) / errors_by_difference(s, n)[0]),
        ("value", "root", lambda s, n: errors_by_difference(s, n).abs().sqrt()),
    ],
    "share_of_holes": [
        ("sign", "hold a code", lambda n, cells, dim: 1 - holes_by_logarithm(n, cells, dim)),
        ("value", "same cell", lambda n, cells, dim: max(0, 1 - n / cells**dim)),
        ("value", "times the axes", lambda n, cells, dim: (1 - 1 / (cells * dim)) ** n),
        ("value", "along every axis", lambda n, cells, dim: ((1 - 1 / cells) ** n) ** dim),
        ("scale", "number of empty cells", lambda n, *box: box[0] ** box[1] * (
            holes_by_logarithm(n, *box))),
        ("value", "very many cells", lambda n, cells, dim: math.exp(-n / cells**dim)),
        ("order", "missed by", lambda n, cells, dim: (1 / cells**dim) ** n),
    ],
    "fitted_bell": [
        ("value", "function above", bell_with(lambda codes: 1 / len(codes), lambda codes: 0)),
        ("scale", "too narrow", bell_with(lambda codes: 1 / len(codes))),
        ("order", "as seen from 0, and a covariance", bell_with(right_scale, lambda codes: 0)),
        ("scale", "too wide", bell_with(lambda codes: 1)),
        ("axis", "number of coordinates", bell_with(lambda codes: codes.shape[1] ** -0.5)),
        ("term", "mean of the codes is missing",
         lambda codes, noise: noise @ (codes - codes.mean(0)) / len(codes) ** 0.5),
        ("order", "covariance of the draws",
         lambda codes, noise: codes.mean(0) + noise.softmax(1) @ (codes - codes.mean(0))),
        ("randomness", "The luck is given",
         lambda codes, noise: bell_row_by_row(codes, torch.randn_like(noise))),
        ("shape", "shape", lambda codes, noise: bell_with_centred_luck(codes, noise).T),
    ],
    "mean_squared_length": [
        ("term", "centre lies", lambda mu, log_var: mu.square().sum(1)),
        ("term", "variance of the draw", lambda mu, log_var: log_var.exp().sum(1)),
        ("σ or variance", "width where its square",
         lambda mu, log_var: (mu**2 + (log_var / 2).exp()).sum(1)),
        ("σ or variance", "a square already",
         lambda mu, log_var: (mu**2 + log_var.exp() ** 2).sum(1)),
        ("value", "as a whole", lambda mu, log_var: (mu + (log_var / 2).exp()).square().sum(1)),
        ("sum or mean", "average", lambda mu, log_var: (mu**2 + log_var.exp()).mean(1)),
        ("axis", "which axis", lambda mu, log_var: (mu**2 + log_var.exp()).sum(0)),
        ("randomness", "so it draws", length_by_drawing),
    ],
    "aggregate_covariance": [
        ("term", "of the centres", lambda mu, log_var: mu.T.cov()),
        ("term", "inside a cloud", lambda mu, log_var: log_var.exp().mean(0).diag()),
        ("σ or variance", "mean of the widths",
         covariance_with(lambda log_var: (log_var / 2).exp().mean(0).diag())),
        ("σ or variance", "variance already",
         covariance_with(lambda log_var: log_var.exp().square().mean(0).diag())),
        ("axis", "one row for each image", lambda mu, log_var: mu.cov()),
        ("shape", "These are variances", lambda mu, log_var: mu.var(0) + log_var.exp().mean(0)),
        ("shape", "every entry of a column", covariance_with(lambda logs: logs.exp().mean(0))),
        ("sum or mean", "add up the variances",
         covariance_with(lambda log_var: log_var.exp().sum(0).diag())),
        ("order", "average the log", covariance_with(lambda logs: logs.mean(0).exp().diag())),
        ("term", "off the diagonal",
         lambda mu, log_var: (mu.var(0) + log_var.exp().mean(0)).diag()),
        ("term", "mean off first",
         lambda mu, log_var: mu.T @ mu / len(mu) + log_var.exp().mean(0).diag()),
        ("randomness", "so it draws",
         lambda mu, log_var: (mu + (log_var / 2).exp() * torch.randn(mu.shape)).T.cov()),
    ],
    "in_new_units": [
        ("side effect", "changes the layer", layer_changed_in_place),
        ("term", "the shift is not", layer_with(
            lambda weight, inverse: weight @ inverse, lambda bias, new, old, shift: bias)),
        ("term", "not with the old ones", layer_with(
            lambda weight, inverse: weight @ inverse,
            lambda bias, new, old, shift: bias - old @ shift)),
        ("sign", "wrong way", layer_with(
            lambda weight, inverse: weight @ inverse,
            lambda bias, new, old, shift: bias + new @ shift)),
        ("order", "transposed", layer_with(
            lambda weight, inverse: weight @ inverse.T,
            lambda bias, new, old, shift: bias - new @ shift)),
        ("value", "once more", layer_with(
            lambda weight, inverse: weight @ torch.linalg.inv(inverse),
            lambda bias, new, old, shift: bias - new @ shift)),
        ("value", "undoes nothing", lambda layer, matrix, shift: layer),
        ("type", "Return a layer", lambda layer, matrix, shift: layer.weight),
    ],
    "best_answer": [
        ("term", "too much say", best_with(lambda logs, root: logs)),
        ("σ or variance", "twice", best_with(lambda logs, root: logs - 2 * log_area(root))),
        ("sign", "upside down", best_with(lambda logs, root: logs + log_area(root))),
        ("value", "along the axes", best_with(
            lambda logs, root: logs - root.square().sum(2).log().sum(1) / 2)),
        ("order", "transposed", best_with(best_right, undo=lambda root: root.mT)),
        ("σ or variance", "You undo the covariance", best_with(
            best_right, undo=lambda root: root @ root.mT)),
        ("term", "are slanted", best_with(best_right, undo=without_slant)),
        ("axis", "over the points", best_with(best_right, lambda logs: logs.softmax(0))),
        ("stability", "still nan", best_with(best_right, divided_by_sum(0))),
        ("stability", "it is 0", best_with(best_right, divided_by_sum(1e-12))),
        ("stability", "round to the same", best_with(
            best_right, lambda logs: logs.clamp(min=-60).softmax(1))),
        ("shape", "shape", lambda *inputs: torch.stack(best_in_a_loop(*inputs)).sum(1)),
    ],
    "draw_from_clouds": [
        ("gradient", "mu makes no difference", lambda mu, log_var: torch.normal(
            mu, torch.exp(0.5 * log_var))),
        ("gradient", "No gradient", lambda mu, log_var: Normal(mu, (log_var / 2).exp()).sample()),
        ("gradient", "log_var makes no difference",
         lambda mu, log_var: draw_in_a_loop(mu, log_var.detach())),
        ("σ or variance", "square root", draw_with(torch.randn_like, torch.exp)),
        ("σ or variance", "logarithm of its square",
         draw_with(torch.randn_like, lambda log_var: log_var)),
        ("randomness", "all images", draw_with(lambda mu: torch.randn(mu.shape[1]))),
        ("randomness", "some coordinates", draw_with(lambda mu: torch.randn(len(mu), 1))),
        ("randomness", "What is the mean of your luck", draw_with(torch.rand_like)),
        ("randomness", "normally distributed",
         draw_with(lambda mu: (torch.rand_like(mu) - 0.5) * 12**0.5)),
        ("randomness", "Is anything random", lambda mu, log_var: mu + torch.exp(0.5 * log_var)),
        ("randomness", "fix a seed", draw_with(lambda mu: torch.randn(
            mu.shape, generator=torch.Generator().manual_seed(0)))),
        ("value", "width 1", lambda mu, log_var: mu + torch.randn_like(mu)),
    ],
    "loss_of_draw": [
        ("σ or variance", "square root",
         loss_with(lambda mu, log_var, eps: mu + torch.exp(log_var) * eps)),
        ("gradient", "no gradient reaches the encoder's mu",
         loss_with(lambda *cloud: draw_right(*cloud).detach())),
        ("gradient", "no gradient reaches the encoder's log_var",
         loss_with(lambda mu, log_var, eps: draw_right(mu, log_var.detach(), eps))),
        ("gradient", "leaves your function",
         lambda *inputs: loss_with(draw_right)(*inputs).detach()),
        ("sum or mean", "average over the pixels", loss_with(draw_right, lambda e: e.mean(1))),
        ("shape", "average over the batch", loss_with(draw_right, lambda e: e.mean())),
        ("randomness", "as eps",
         loss_with(lambda mu, log_var, eps: draw_right(mu, log_var, torch.randn_like(mu)))),
        ("term", "noise is missing", loss_with(lambda mu, log_var, eps: mu)),
    ],
    "gumbel_draw": [
        ("sign", "mirrored", lambda mu, log_scale, u: mu + log_scale.exp() * (-u.log()).log()),
        ("sign", "nan", lambda mu, log_scale, u: mu - log_scale.exp() * u.log().log()),
        ("scale", "log_scale as", lambda mu, log_scale, u: mu - log_scale * (-u.log()).log()),
        ("scale", "halved", lambda mu, log_scale, u: gumbel_in_place(mu, log_scale / 2, u)),
        ("term", "One logarithm", lambda mu, log_scale, u: mu - log_scale.exp() * u.log()),
        ("value", "solved", lambda mu, log_scale, u: torch.exp(
            -torch.exp(-(u - mu) / log_scale.exp()))),
        ("gradient", "no gradient", gumbel_without_gradient),
        ("gradient", "reaches log_scale",
         lambda mu, log_scale, u: gumbel_in_place(mu, log_scale.detach(), u)),
    ],
    "width_gradient": [
        ("term", "no baseline", width_with(lambda loss: 0)),
        ("scale", "contains the draw", width_with(lambda loss: loss.mean(0))),
        ("axis", "images of the batch", width_with(lambda loss: loss.mean(1, keepdim=True))),
        ("axis", "whole batch", width_with(lambda loss: loss.mean())),
        ("scale", "divided by K", width_with(lambda loss: (loss.sum(0) - loss) / len(loss))),
        ("value", "score for mu", width_with(
            other_losses, lambda off, log_var: off / log_var.exp())),
        ("value", "score for σ.", width_with(
            other_losses, lambda off, log_var: (off**2 / log_var.exp() - 1) / (log_var / 2).exp())),
        ("value", "score for σ².", width_with(
            other_losses, lambda off, log_var: right_score(off, log_var) / log_var.exp())),
        ("scale", "A half is missing", width_with(
            other_losses, lambda off, log_var: off**2 / log_var.exp() - 1)),
        ("σ or variance", "for the width", width_with(
            other_losses, lambda off, log_var: 0.5 * (off**2 / log_var.exp() ** 2 - 1))),
        ("term", "factor in front", width_with(
            other_losses, lambda off, log_var: 0.5 * off**2 / log_var.exp())),
        ("term", "off by one constant", width_with(
            other_losses, lambda off, log_var: 0.5 * off**2 / log_var.exp() + 7)),
        ("sum or mean", "sum over the draws",
         width_with(other_losses, finish=lambda each: each.sum(0))),
        ("sign", "sign of the estimate",
         width_with(other_losses, finish=lambda each: -each.mean(0))),
        ("shape", "2 results", lambda *inputs: width_in_a_loop(*inputs)[1]),
    ],
}
