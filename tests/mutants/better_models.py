"""Right and wrong answers to the exercises on tighter bounds, convolutions and labels."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical


def pick_in_a_loop(z, log_weights, num):
    picked = []
    for draws, logs in zip(z, log_weights.double()):
        shares = (logs - logs.max()).exp()
        picked.append(draws[torch.multinomial(shares / shares.sum(), num, replacement=True)])
    return picked


def numbered(z, numbers):
    return z.gather(1, numbers[:, :, None].expand(-1, -1, z.shape[2]))


def pick_with(logits):
    def pick(z, log_weights, num):
        return numbered(z, Categorical(logits=logits(log_weights)).sample((num,)).T)
    return pick


def pick_with_gumbel(z, log_weights, num):
    gumbel = -torch.empty(num, *log_weights.shape).exponential_().log()
    return numbered(z, (log_weights + gumbel).argmax(dim=2).T)


def pick_from(shares):
    def pick(z, log_weights, num):
        return numbered(z, shares(log_weights).multinomial(num, replacement=True))
    return pick


def pick_by_one_number(z, log_weights, num):
    marks = log_weights.softmax(1).cumsum(1)
    places = torch.rand(num).repeat(len(z), 1)
    return numbered(z, torch.searchsorted(marks, places).clamp(max=marks.shape[1] - 1))


def pick_at_even_steps(z, log_weights, num):
    marks = log_weights.softmax(1).cumsum(1)
    places = (torch.rand(len(z), 1) + torch.arange(num) / num) % 1
    return numbered(z, torch.searchsorted(marks, places).clamp(max=marks.shape[1] - 1))


def pick_one_many_times(z, log_weights, num):
    return numbered(z, log_weights.softmax(1).multinomial(1).expand(-1, num))


def pick_without_return(z, log_weights, num):
    return numbered(z, log_weights.softmax(1).multinomial(num))


def pick_by_a_fixed_seed(z, log_weights, num):
    generator = torch.Generator().manual_seed(0)
    return numbered(z, log_weights.softmax(1).multinomial(num, True, generator=generator))


def pick_no_rare_ones(logs):
    shares = logs.softmax(1)
    return shares * (shares > 0.05)


def pick_first_if_far(z, log_weights, num):
    weights = log_weights.exp()
    weights[weights.sum(1) == 0, 0] = 1.0
    return pick_from(lambda _: weights)(z, log_weights, num)


def pick_without_a_choice(z, log_weights, num):
    return numbered(z, log_weights.argmax(1, keepdim=True).expand(-1, num))


def less_the_largest(logs):
    weights = (logs - logs.max()).exp()
    return weights / weights.sum(1, keepdim=True)


def loss_by_logsumexp(losses):
    return (math.log(losses.shape[1]) - (-losses).logsumexp(1)).sum() / len(losses)


def loss_in_a_loop(losses):
    total = 0
    for each in losses.double():
        weights = (each.min() - each).exp()
        shares = (weights / weights.sum()).tolist()
        total = total + sum(share * loss for share, loss in zip(shares, each))
    return total / len(losses)


def shared(sign, fixed, axis=1):
    def number(losses):
        shares = (sign * losses).softmax(axis)
        return ((shares.detach() if fixed else shares) * losses).sum(1).mean()
    return number


def loss_without_logs(losses, smallest=0.0):
    weights = (smallest - losses).exp().detach()
    return (weights / weights.sum(1, keepdim=True) * losses).sum(1).mean()


def gap_in_a_loop(width, miss, latent_dim, num_draws):
    gaps = []
    for c, d in zip(width.tolist(), miss.tolist()):
        left = 2 * c**2 - 1
        moment = c**2 * left**-0.5 * math.exp(d**2 / left) if left > 0 else math.inf
        gaps.append((moment**latent_dim - 1) / 2 / num_draws)
    return gaps


def gap_in_numpy(width, miss, latent_dim, num_draws):
    c, d = (each.numpy().astype(float) for each in (width, miss))
    with np.errstate(invalid="ignore", over="ignore"):
        moment = (c**2 / np.sqrt(2 * c**2 - 1) * np.exp(d**2 / (2 * c**2 - 1))) ** latent_dim
    return np.where(np.isnan(moment), np.inf, (moment - 1) / (2 * num_draws))


def one_latent(width, miss):
    left = (2 * width**2 - 1).clamp(min=0)
    return torch.where(left > 0, width**2 / left.sqrt() * (miss**2 / left).exp(), torch.inf)


def gap_from(variance, moment=one_latent):
    def gap(width, miss, latent_dim, num_draws):
        return variance(moment(width, miss), latent_dim) / (2 * num_draws)
    return gap


def gap_of(moment):
    return gap_from(lambda one, size: one**size - 1, moment)


def gap_missing_once(width, miss, latent_dim, num_draws):
    centred = one_latent(width, 0 * miss)
    return (centred ** (latent_dim - 1) * one_latent(width, miss) - 1) / (2 * num_draws)


def moment_of_squared_q(width, miss):
    left = 2 - width**2
    return torch.where(left > 0, (miss**2 / left).exp() / (width * left.abs().sqrt()), torch.inf)


def moment_with_nan(width, miss):
    left = 2 * width**2 - 1
    return width**2 / left.sqrt() * (miss**2 / left).exp()


def moment_without_infinity(width, miss):
    left = (2 * width**2 - 1).abs()
    return width**2 / left.sqrt() * (miss**2 / left).exp()


def moment_too_careful(width, miss):
    return torch.where(width < 1, torch.inf, moment_without_infinity(width, miss))


def dreg_by_autograd(log_weights, slope, eps, log_var):
    mu = torch.zeros_like(log_var).requires_grad_()
    log_var = log_var.requires_grad_()
    z = mu[:, None] + (log_var[:, None] / 2).exp() * eps
    shares = log_weights.softmax(1)
    (shares[..., None] ** 2 * slope * z).sum().backward()
    return mu.grad, log_var.grad


def dreg_in_a_loop(log_weights, slope, eps, log_var):
    for_mu, for_log_var = torch.zeros(2, *log_var.shape, dtype=torch.float64)
    for b in range(len(log_weights)):
        weights = [math.exp(w - log_weights[b].max()) for w in log_weights[b].double()]
        for k in range(len(weights)):
            pull = (weights[k] / sum(weights)) ** 2 * slope[b, k]
            for_mu[b] += pull
            for_log_var[b] += pull * eps[b, k] * torch.sqrt(log_var[b].exp()) / 2
    return for_mu, for_log_var


def dreg_with(weigh=lambda logs: logs.softmax(1) ** 2, width=lambda s: 0.5 * (0.5 * s).exp()):
    def gradient(log_weights, slope, eps, log_var):
        pull = weigh(log_weights)[..., None] * slope
        return pull.sum(1), (pull * eps * width(log_var)[:, None]).sum(1)
    return gradient


def dreg_with_one_eps(log_weights, slope, eps, log_var):
    for_mu = dreg_with()(log_weights, slope, eps, log_var)[0]
    return for_mu, for_mu * 0.5 * (0.5 * log_var).exp() * eps.sum(1)


def dreg_without_logs(log_weights, slope, eps, log_var):
    weights = log_weights.exp()
    return dreg_with(lambda logs: (weights / weights.sum(1, keepdim=True)) ** 2)(
        log_weights, slope, eps, log_var)


def sizes_backwards(side, layers):
    for size, stride, padding, gap in layers:
        side = len(range(0, side + 2 * padding - gap * (size - 1), stride))
    field = 1
    for size, stride, _, gap in reversed(layers):
        field = (field - 1) * stride + gap * (size - 1) + 1
    return torch.tensor([side, field])


def sizes_by_hand(side, layers):
    starts, ends, step = 0, 0, 1
    for size, stride, padding, gap in layers:
        side = int((side + 2 * padding - gap * (size - 1) - 1) / stride + 1)
        ends += step * gap * (size - 1)
        step *= stride
    return [side, ends - starts + 1]


def sizes(new_side=None, grow=None, long=lambda k, gap: gap * (k - 1) + 1):
    """With k for how far a filter reaches from its first number to its last."""
    def both(side, layers):
        field, step = 1, 1
        for size, stride, padding, gap in layers:
            k = long(size, gap)
            side = (new_side(side, k, stride, padding) if new_side
                    else (side + 2 * padding - k) // stride + 1)
            field += grow(k, stride, step) if grow else (k - 1) * step
            step *= stride
        return side, field
    return both


def sizes_with_field(field):
    return lambda side, layers: (sizes_by_hand(side, layers)[0], field(side, layers))


def field_of_the_last_stride(side, layers):
    field, before = 1, 1
    for size, stride, _, gap in layers:
        field += gap * (size - 1) * before
        before = stride
    return field


def stamps_in_loops(size, stride):
    table = [[0] * stride for _ in range(stride)]
    for row in range(size):
        for column in range(size):
            table[row % stride][column % stride] += 1
    return table


def stamps_by_rounding(size, stride):
    left = torch.arange(stride)
    along = torch.ceil((size - left).clamp(min=0) / stride)
    return along[:, None] * along


def stamps_along(size, stride):
    return torch.tensor([len(range(left, size, stride)) for left in range(stride)])


def stamps_by_int(size, stride):
    along = torch.tensor([int((size - 1 - left) / stride) + 1 for left in range(stride)])
    return torch.outer(along, along)


def stamps_at_least_one(size, stride):
    return stamps_by_rounding(size, stride).clamp(min=1)


def pixels_in_loops(maps, factor):
    batch, channels, height, width = maps.shape
    colours = channels // factor**2
    large = maps.new_zeros(batch, colours, factor * height, factor * width)
    for a in range(factor):
        for c in range(factor):
            start = (factor * a + c) * colours
            large[:, :, a::factor, c::factor] = maps[:, start:start + colours]
    return large


def pixels_by_stacking(maps, factor):
    parts = maps.chunk(factor**2, dim=1)
    rows = [torch.stack(parts[factor * a : factor * a + factor], dim=4).flatten(3)
            for a in range(factor)]
    return torch.stack(rows, dim=3).flatten(2, 3)


def pixels_by_reordering(maps, factor):
    channels = torch.arange(maps.shape[1]).view(factor**2, -1).T.flatten()
    return F.pixel_shuffle(maps[:, channels], factor)


def pixels_in(order):
    def pictures(maps, r):
        batch, channels, height, width = maps.shape
        parts = maps.view(batch, r, r, channels // r**2, height, width).permute(order)
        return parts.reshape(batch, channels // r**2, r * height, r * width)
    return pictures


class Pooled(nn.Module):
    """The encoder that the exercise asks for, step by step, for its faulty children too."""

    bend, after, head_width, frame = staticmethod(F.gelu), staticmethod(F.gelu), 2, "circular"

    def __init__(self, channels, latent_dim):
        super().__init__()
        self.log_var = nn.Linear(self.head_width * channels, latent_dim)
        self.mu = nn.Linear(self.head_width * channels, latent_dim)
        self.second = nn.Conv2d(channels, 2 * channels, 4, 2, 1, padding_mode=self.frame)
        self.first = nn.Conv2d(1, channels, 4, 2, 1, padding_mode=self.frame)

    def images(self, x):
        side = int(math.sqrt(x.shape[1]))
        return x.view(len(x), 1, side, side)

    def pool(self, maps):
        return maps.flatten(2).mean(-1)

    def forward(self, x):
        h = self.pool(self.after(self.second(self.bend(self.first(self.images(x))))))
        return self.mu(h), self.log_var(h)


class PooledAdaptive(nn.Module):
    def __init__(self, channels, latent_dim):
        super().__init__()
        self.body = nn.Sequential(
            nn.CircularPad2d(1), nn.Conv2d(1, channels, kernel_size=4, stride=2), nn.GELU(),
            nn.CircularPad2d(1), nn.Conv2d(channels, channels * 2, kernel_size=4, stride=2),
            nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.heads = nn.ModuleList([nn.Linear(channels * 2, latent_dim) for _ in range(2)])

    def forward(self, x):
        side = int(x.size(1) ** 0.5 + 0.5)
        h = self.body(x.view(x.size(0), 1, side, side))
        return [head(h) for head in self.heads]


class PooledInDouble(Pooled):
    def __init__(self, channels, latent_dim):
        super().__init__(channels, latent_dim)
        self.double()

    def forward(self, x):
        return super().forward(x.double())


class PooledWithZeros(Pooled):
    frame = "zeros"


class PooledWithZerosInside(Pooled):
    def __init__(self, channels, latent_dim):
        super().__init__(channels, latent_dim)
        self.second = nn.Conv2d(channels, 2 * channels, 4, 2, 1)


class PooledWithAMirror(Pooled):
    frame = "reflect"


class PooledOverFortyNine(Pooled):
    def pool(self, maps):
        return maps.sum(dim=(2, 3)) / 49


class PooledAfterResizing(Pooled):
    def images(self, x):
        return F.interpolate(super().images(x), size=(28, 28))


class PooledInAList(nn.Module):
    def __init__(self, channels, latent_dim):
        super().__init__()
        self.layers = [nn.Conv2d(1, channels, 4, 2, 1), nn.Conv2d(channels, 2 * channels, 4, 2, 1)]
        self.heads = [nn.Linear(2 * channels, latent_dim) for _ in range(2)]


class PooledTurned(Pooled):
    def images(self, x):
        return super().images(x).mT


class PooledBySum(Pooled):
    def pool(self, maps):
        return maps.sum(dim=(2, 3))


class PooledByMaximum(Pooled):
    def pool(self, maps):
        return maps.amax(dim=(2, 3))


class PooledOverRows(Pooled):
    def pool(self, maps):
        return maps.mean(dim=2)[..., 0]


class NotPooled(Pooled):
    head_width = 98

    def pool(self, maps):
        return maps.flatten(1)


class PooledWithoutABend(Pooled):
    after = staticmethod(lambda maps: maps)


class PooledWithReLU(Pooled):
    bend = staticmethod(F.relu)


class PooledForOneSide(Pooled):
    def images(self, x):
        return x.view(-1, 1, 28, 28)


class PooledWithOneHead(Pooled):
    def forward(self, x):
        mu, log_var = super().forward(x)
        return mu, mu


class PooledWithoutGradient(Pooled):
    def forward(self, x):
        mu, log_var = super().forward(x)
        return mu, log_var.detach()


class PooledWithoutStride(Pooled):
    def __init__(self, channels, latent_dim):
        super().__init__(channels, latent_dim)
        self.first = nn.Conv2d(1, channels, 4, padding=1)


class PooledIntoOne(Pooled):
    def forward(self, x):
        return torch.stack(super().forward(x)).sum(0)


def posterior_in_numpy(bounds, counts):
    logs = bounds.numpy().astype(float).sum(1) + np.log(counts.numpy() / counts.numpy().sum())
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def posterior_in_place(bounds, counts):
    bounds[:, 0] += (counts.double() / counts.sum()).log()
    bounds = bounds.sum(1)
    bounds -= bounds.logsumexp(1, keepdim=True)
    return bounds.exp_()


def posterior_picture_by_picture(bounds, counts):
    logs = counts.log().log_softmax(0).expand(len(bounds), -1)
    for picture in range(bounds.shape[1]):  # today's posterior is tomorrow's prior
        logs = (logs + bounds[:, picture]).log_softmax(1)
    return logs.exp()


def posterior_without_logs(bounds, counts):
    joint = bounds.sum(1).exp() * counts / counts.sum()
    return joint / joint.sum(1, keepdim=True)


def posterior_less_the_largest(bounds, counts):
    bounds = bounds.sum(1, keepdim=True)
    return posterior_without_logs(bounds - bounds.max(), counts)


def posterior_of(logs, axis=1):
    return lambda bounds, counts: logs(bounds, counts / counts.sum()).softmax(axis)


def bound_one_by_one(log_weight, x, y, num_samples):
    bounds = []
    for b in range(len(x)):
        draws = [log_weight(x[b : b + 1], y[b : b + 1])[0] for _ in range(num_samples)]
        bounds.append(sum(draws) / num_samples)
    return bounds


def bound_interleaved(log_weight, x, y, num_samples):
    rows = x.repeat_interleave(num_samples, 0), y.repeat_interleave(num_samples)
    return log_weight(*rows).double().reshape(-1, num_samples).mean(1)


def bound_in_passes(log_weight, x, y, num_samples):
    return sum(log_weight(x, y) for _ in range(num_samples)) / num_samples


def bound_with(read, labels=lambda y, num: y.repeat(num)):
    def bound(log_weight, x, y, num_samples):
        values = log_weight(x.repeat(num_samples, 1), labels(y, num_samples))
        return read(values, len(x), num_samples)
    return bound


def bound_interleaved_and_misread(log_weight, x, y, num):
    values = log_weight(x.repeat_interleave(num, 0), y.repeat_interleave(num))
    return values.view(num, len(x)).mean(0)


def unlabelled_in_a_loop(bounds, logits, log_py):
    total = 0
    log_qy = logits - logits.logsumexp(1, keepdim=True)
    for label in range(bounds.shape[1]):
        log_q = log_qy[:, label]
        total = total + log_q.exp() * (bounds[:, label] + log_py[label] - log_q)
    return total


def unlabelled_by_entropy(bounds, logits, log_py):
    q = Categorical(logits=logits.double())
    return (q.probs * (bounds + log_py)).sum(-1) + q.entropy()


def unlabelled_with(q=lambda logits: logits.softmax(1), sign=1.0, prior=True):
    def bound(bounds, logits, log_py):
        entropy = -(q(logits) * q(logits).log()).sum(1)
        return (q(logits) * (bounds + log_py * prior)).sum(1) + sign * entropy
    return bound


def unlabelled_with_a_dead_end(bounds, logits, log_py):
    q = logits.softmax(1)
    return (q * (bounds + log_py)).sum(1) - torch.xlogy(q, q).sum(1)


def unlabelled_that_learns_nothing(bounds, logits, log_py):
    return unlabelled_in_a_loop(bounds, logits.detach(), log_py)


def unlabelled_with_q_held(bounds, logits, log_py):
    log_q = logits.log_softmax(1)
    return (log_q.exp().detach() * (bounds + log_py - log_q)).sum(1)


def unlabelled_with_q_half_held(bounds, logits, log_py):
    q = Categorical(logits=logits)
    return (q.probs.detach() * (bounds + log_py)).sum(1) + q.entropy()


def unlabelled_with_entropy_held(bounds, logits, log_py):
    q = Categorical(logits=logits)
    return (q.probs * (bounds + log_py)).sum(1) + q.entropy().detach()


def unlabelled_in_place(bounds, logits, log_py):
    logits -= logits.logsumexp(1, keepdim=True)
    return (logits.exp() * (bounds + log_py - logits)).sum(1)


def unlabelled_with_one_entropy(bounds, logits, log_py):
    q = Categorical(logits=logits)
    return (q.probs * (bounds + log_py)).sum(1) + q.entropy().sum()


def luck_in_a_loop(variances, num):
    return sum(3 * variance / num for variance in variances.tolist())


def luck_in_numpy(variances, num):
    return 3 * np.sum(variances.numpy()) / num


def luck_by_drawing(variances, num, seed=None, count=4000):
    generator = torch.Generator().manual_seed(torch.seed() if seed is None else seed)
    luck = torch.randn(2, count, num, len(variances), generator=generator)
    heaps = variances.sqrt() * luck
    means, spreads = heaps.mean(2), heaps.std(2)
    return ((means[0] - means[1]) ** 2 + (spreads[0] - spreads[1]) ** 2).sum(1).mean()


# exercise -> right answers, written in different ways
RIGHT = {
    "pick_by_weight": [pick_in_a_loop, pick_with(lambda logs: logs), pick_with_gumbel],
    "loss_with_shares": [loss_by_logsumexp, loss_in_a_loop],
    "predicted_gap": [gap_in_a_loop, gap_in_numpy],
    "dreg_gradient": [dreg_by_autograd, dreg_in_a_loop],
    "side_and_field": [sizes_backwards, sizes_by_hand],
    "stamps_per_pixel": [stamps_in_loops, stamps_by_rounding],
    "channels_to_pixels": [pixels_in_loops, pixels_by_stacking, pixels_by_reordering],
    "PooledEncoder": [Pooled, PooledAdaptive, PooledInDouble],
    "class_posterior": [
        posterior_in_numpy, posterior_in_place, posterior_picture_by_picture],
    "labelled_bound": [bound_one_by_one, bound_interleaved, bound_in_passes],
    "unlabelled_bound": [unlabelled_in_a_loop, unlabelled_by_entropy],
    "frechet_by_luck": [luck_in_a_loop, luck_in_numpy],
}

# exercise -> (kind of mistake, words of the hint, wrong answer)
WRONG = {
    "pick_by_weight": [
        ("randomness", "always pick", pick_without_a_choice),
        ("randomness", "equally often", pick_with(torch.zeros_like)),
        ("sign", "sign", pick_with(torch.neg)),
        ("sum or mean", "average the draws",
         lambda z, log_weights, num: (log_weights.softmax(1)[..., None] * z).sum(1)),
        ("randomness", "One random number", lambda z, log_weights, num: z[
            :, log_weights.softmax(1)[0].multinomial(num, replacement=True)]),
        ("randomness", "One random number", pick_by_one_number),
        ("randomness", "all the same", pick_one_many_times),
        ("randomness", "never pick a draw of an image twice", pick_without_return),
        ("randomness", "depend on each other", pick_at_even_steps),
        ("randomness", "same choice", pick_by_a_fixed_seed),
        ("randomness", "not picked as often", pick_from(pick_no_rare_ones)),
        ("axis", "over the draws of each", pick_with(lambda logs: logs.log_softmax(0))),
        ("stability", "there is an error", pick_from(torch.exp)),
        ("stability", "there is an error", pick_from(less_the_largest)),
        ("stability", "not picked as often", pick_from(lambda logs: logs.exp().clamp(min=1e-30))),
        ("stability", "−900 the draws are not", pick_first_if_far),
        ("shape", "shape", lambda z, log_weights, num: pick_in_a_loop(z, log_weights, 1)),
    ],
    "loss_with_shares": [
        ("sign", "Both faults", shared(1, False)),
        ("sign", "largest *loss*", shared(1, True)),
        ("gradient", "still passes through", shared(-1, False)),
        ("sign", "climbs", lambda losses: -loss_in_a_loop(losses)),
        ("sign", "for the logs of the weights", lambda losses: -losses.logsumexp(1).mean()),
        ("axis", "over the images", shared(-1, True, axis=0)),
        ("sum or mean", "ELBO again", lambda losses: losses.mean()),
        ("sum or mean", "add up the images", lambda losses: 3 * loss_by_logsumexp(losses)),
        ("gradient", "No gradient", lambda losses: loss_in_a_loop(losses).item()),
        ("shape", "One number", lambda losses: -(-losses).logsumexp(1)),
        ("stability", "about 90, 250 and 900", loss_without_logs),
        ("stability", "about 90, 250 and 900",
         lambda losses: loss_without_logs(losses, losses.min().detach())),
    ],
    "predicted_gap": [
        ("term", "squared mean", gap_from(lambda one, size: one**size)),
        ("sum or mean", "add up", gap_from(lambda one, size: size * (one - 1))),
        ("value", "to the power L", gap_from(lambda one, size: (one - 1) ** size)),
        ("term", "does not count in yours.", gap_from(lambda one, size: one - 1)),
        ("term", "miss does not count", gap_of(lambda width, miss: one_latent(width, 0 * miss))),
        ("value", "Complete the square", gap_of(lambda width, miss: one_latent(
            width, 0 * miss) * (miss**2 / (2 * width**2)).exp())),
        ("term", "along one latent", gap_missing_once),
        ("scale", "one half", lambda *inputs: 2 * torch.tensor(gap_in_a_loop(*inputs))),
        ("scale", "fall with K", lambda *inputs: 2 * inputs[3] * torch.tensor(
            gap_in_a_loop(*inputs))),
        ("σ or variance", "standard deviation",
         gap_from(lambda one, size: (one**size - 1).sqrt())),
        ("value", "is squared", gap_of(moment_of_squared_q)),
        ("value", "is squared", gap_of(lambda width, miss: one_latent(1 / width, miss))),
        ("stability", "NaN", gap_of(moment_with_nan)),
        ("value", "finite number", gap_of(moment_without_infinity)),
        ("value", "How narrow", gap_of(moment_too_careful)),
    ],
    "dreg_gradient": [
        ("term", "counts once", dreg_with(lambda logs: logs.softmax(1))),
        ("term", "share − share²", dreg_with(lambda logs: logs.softmax(1) - logs.softmax(1) ** 2)),
        ("term", "same say", dreg_with(lambda logs: torch.full_like(logs, 1 / logs.shape[1]))),
        ("term", "in full", dreg_with(torch.ones_like)),
        ("order", "share that is squared", dreg_with(lambda logs: (2 * logs).softmax(1))),
        ("axis", "over the images", dreg_with(lambda logs: logs.softmax(0) ** 2)),
        ("sign", "sign", dreg_with(lambda logs: (-logs).softmax(1) ** 2)),
        ("sign", "to climb", lambda *inputs: [-each for each in dreg_in_a_loop(*inputs)]),
        ("stability", "NaN", dreg_without_logs),
        ("scale", "one half", dreg_with(width=lambda s: (0.5 * s).exp())),
        ("term", "width is missing", dreg_with(width=lambda s: torch.full_like(s, 0.5))),
        ("σ or variance", "for σ", dreg_with(width=torch.ones_like)),
        ("σ or variance", "exp(log_var)", dreg_with(width=lambda s: 0.5 * s.exp())),
        ("order", "eps of its own", dreg_with_one_eps),
        ("type", "2 results", lambda *inputs: sum(dreg_in_a_loop(*inputs))),
    ],
    "side_and_field": [
        ("term", "both borders", sizes(lambda n, k, s, p: (n + p - k) // s + 1)),
        ("term", "leave the padding out", sizes(lambda n, k, s, p: (n - k) // s + 1)),
        ("term", "one is missing", sizes(lambda n, k, s, p: (n + 2 * p - k) // s)),
        ("value", "round down", sizes(lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1)),
        ("term", "further than its size", sizes(long=lambda k, gap: k)),
        ("term", "k − 1 gaps", sizes(long=lambda k, gap: k * gap)),
        ("term", "left out", sizes(long=lambda k, gap: (k - 1) * (gap + 1) + 1)),
        ("term", "further than its size", lambda side, layers: (
            sizes_by_hand(side, layers)[0], sizes(long=lambda k, gap: k)(side, layers)[1])),
        ("term", "Which strides", sizes(grow=lambda k, s, step: k - 1)),
        ("order", "own stride", sizes(grow=lambda k, s, step: (k - 1) * step * s)),
        ("order", "of the layer itself", sizes(grow=lambda k, s, step: (k - 1) * s)),
        ("term", "the last of them", sizes_with_field(field_of_the_last_stride)),
        ("value", "*adds*", sizes_with_field(lambda side, layers: math.prod(
            gap * (size - 1) + 1 for size, _, _, gap in layers))),
        ("value", "no end", sizes_with_field(
            lambda side, layers: min(side, sizes_by_hand(side, layers)[1]))),
        ("term", "less than k", sizes(grow=lambda k, s, step: k * step)),
        ("order", "other way round", lambda *inputs: sizes_by_hand(*inputs)[::-1]),
        ("order", "from the last", sizes_with_field(
            lambda side, layers: sizes_by_hand(side, layers[::-1])[1])),
        ("value", "not none", sizes_with_field(
            lambda *inputs: sizes_by_hand(*inputs)[1] - 1)),
        ("type", "2 results", lambda *inputs: sizes_by_hand(*inputs)[0]),
    ],
    "stamps_per_pixel": [
        ("shape", "One axis", stamps_along),
        ("value", "diagonal", lambda *inputs: stamps_along(*inputs).diag()),
        ("value", "add the stamps",
         lambda *inputs: stamps_along(*inputs)[:, None] + stamps_along(*inputs)),
        ("order", "last rows", lambda *inputs: stamps_by_rounding(*inputs).flip(0, 1)),
        ("value", "stamp more", lambda size, stride: torch.full(
            (stride, stride), -(-size // stride)) ** 2),
        ("value", "by halves", lambda size, stride: torch.full((stride, stride),
                                                                (size / stride) ** 2)),
        ("value", "some pixels get more", lambda size, stride: torch.full(
            (stride, stride), (size // stride) ** 2)),
        ("value", "a filter of 2 and a stride of 3", stamps_by_int),
        ("value", "no stamp at all", stamps_at_least_one),
    ],
    "channels_to_pixels": [
        ("order", "new shape", lambda maps, r: maps.reshape(
            len(maps), maps.shape[1] // r**2, r * maps.shape[2], r * maps.shape[3])),
        ("order", "one run of numbers", lambda maps, r: maps.permute(0, 2, 3, 1).reshape(
            len(maps), maps.shape[1] // r**2, r * maps.shape[2], r * maps.shape[3])),
        ("order", "PyTorch's own shuffle", F.pixel_shuffle),
        ("order", "exchanged", pixels_in((0, 3, 4, 2, 5, 1))),
        ("order", "side by side as tiles", pixels_in((0, 3, 1, 4, 2, 5))),
        ("order", "j or c", pixels_in((0, 3, 4, 1, 2, 5))),
        ("order", "The columns are right", pixels_in((0, 3, 1, 4, 5, 2))),
        ("order", "i j a c", pixels_in((0, 3, 4, 5, 1, 2))),
        ("order", "a c i j", pixels_in((0, 3, 1, 2, 4, 5))),
        ("shape", "is wanted", lambda maps, r: pixels_in_loops(maps, r).flatten(1)),
        ("gradient", "no gradient", lambda maps, r: pixels_in_loops(maps.detach(), r)),
        ("gradient", "no gradient", lambda maps, r: pixels_in_loops(maps, r).tolist()),
        ("gradient", "leave torch", lambda maps, r: pixels_in_loops(maps, r).numpy()),
    ],
    "PooledEncoder": [
        ("sum or mean", "add up the places", PooledBySum),
        ("value", "largest place", PooledByMaximum),
        ("axis", "which axes", PooledOverRows),
        ("shape", "Your heads read", NotPooled),
        ("term", "no activation behind the second", PooledWithoutABend),
        ("value", "ReLU", PooledWithReLU),
        ("value", "frame of both layers: zeros stand", PooledWithZeros),
        ("value", "of one: zeros stand", PooledWithZerosInside),
        ("value", "mirror", PooledWithAMirror),
        ("shape", "Where does", PooledForOneSide),
        ("scale", "not for 20 × 20", PooledOverFortyNine),
        ("value", "not for 20 × 20", PooledAfterResizing),
        ("order", "Rows and columns", PooledTurned),
        ("term", "head of its own", PooledWithOneHead),
        ("gradient", "gradient", PooledWithoutGradient),
        ("value", "stride 1", PooledWithoutStride),
        ("type", "does not register", PooledInAList),
        ("type", "2 results", PooledIntoOne),
        ("type", "no brackets", Pooled(3, 5)),
    ],
    "class_posterior": [
        ("term", "prior is missing", posterior_of(lambda bounds, prior: bounds.sum(1))),
        ("term", "once for each picture",
         posterior_of(lambda bounds, prior: (bounds + prior.log()).sum(1))),
        ("sum or mean", "average the bounds",
         posterior_of(lambda bounds, prior: bounds.mean(1) + prior.log())),
        ("sum or mean", "says alone",
         lambda bounds, counts: (bounds + counts.log()).softmax(2).mean(1)),
        ("sum or mean", "Independent ones are multiplied", lambda bounds, counts: (
            posterior_without_logs(bounds.logsumexp(1, keepdim=True), counts))),
        ("scale", "says alone, and", lambda bounds, counts: (
            bounds + counts.log()).softmax(2).prod(1)),
        ("shape", "for each picture came",
         lambda bounds, counts: (bounds + counts.log()).softmax(2)),
        ("value", "add the prior", posterior_of(lambda bounds, prior: bounds.sum(1) + prior)),
        ("value", "add the counts", lambda bounds, counts: (bounds.sum(1) + counts).softmax(1)),
        ("order", "at the end",
         lambda bounds, counts: bounds.sum(1).softmax(1) * counts / counts.sum()),
        ("scale", "not normalised",
         lambda bounds, counts: bounds.sum(1).exp() * counts / counts.sum()),
        ("axis", "Which axis",
         posterior_of(lambda bounds, prior: bounds.sum(1) + prior.log(), axis=0)),
        ("sign", "divide by it", posterior_of(lambda bounds, prior: bounds.sum(1) - prior.log())),
        ("sign", "fits worst", posterior_of(lambda bounds, prior: prior.log() - bounds.sum(1))),
        ("sign", "Everything", posterior_of(lambda bounds, prior: -prior.log() - bounds.sum(1))),
        ("stability", "near −90", posterior_without_logs),
        ("stability", "near −90", posterior_less_the_largest),
        ("type", "most probable label came", lambda bounds, counts: (
            bounds.sum(1) + counts.log()).argmax(1)),
        ("type", "Only the most", lambda bounds, counts: F.one_hot(
            (bounds.sum(1) + counts.log()).argmax(1), len(counts))),
    ],
    "labelled_bound": [
        ("order", "label of another", bound_with(
            lambda values, size, num: values.view(size, num).mean(1),
            lambda y, num: y.repeat_interleave(num))),
        ("order", "the copies of x", bound_with(
            lambda values, size, num: values.view(num, size).mean(0),
            lambda y, num: y.repeat_interleave(num))),
        ("order", "rows come back", bound_with(
            lambda values, size, num: values.view(size, num).mean(1))),
        ("order", "stand together", bound_interleaved_and_misread),
        ("value", "were drawn", lambda log_weight, x, y, num: log_weight(x, y)),
        ("sum or mean", "tighter", bound_with(
            lambda values, size, num: values.view(num, size).logsumexp(0) - math.log(num))),
        ("sum or mean", "add up", bound_with(
            lambda values, size, num: values.view(num, size).sum(0))),
        ("axis", "over everything", bound_with(lambda values, size, num: values.mean())),
        ("axis", "every draw", bound_with(lambda values, size, num: values.view(num, size))),
    ],
    "unlabelled_bound": [
        ("sign", "wrong sign", unlabelled_with(sign=-1.0)),
        ("term", "entropy is missing", unlabelled_with(sign=0.0)),
        ("term", "log p(y) is missing", unlabelled_with(prior=False)),
        ("stability", "very sure you get NaN", unlabelled_with()),
        ("gradient", "very sure the number is right", unlabelled_with_a_dead_end),
        ("gradient", "reaches the logits", unlabelled_that_learns_nothing),
        ("gradient", "gradient 0", unlabelled_with_q_held),
        ("gradient", "weighs the bounds", unlabelled_with_q_half_held),
        ("gradient", "entropy is held fixed", unlabelled_with_entropy_held),
        ("side effect", "in place", unlabelled_in_place),
        ("sum or mean", "one number for the whole batch", unlabelled_with_one_entropy),
        ("value", "as well", lambda bounds, logits, log_py: (
            logits * (bounds + log_py - logits)).sum(1)),
        ("value", "negative numbers", lambda bounds, logits, log_py: (
            logits * (bounds + log_py - logits.log())).sum(1)),
        ("value", "no say",
         lambda bounds, logits, log_py: (bounds + log_py).logsumexp(1)),
        ("sum or mean", "their sum", lambda bounds, *rest: unlabelled_in_a_loop(
            bounds, *rest) / bounds.shape[1]),
        ("axis", "over the images", unlabelled_with(lambda logits: logits.softmax(0))),
        ("term", "but for a constant", lambda bounds, logits, log_py: (
            logits.softmax(1) * (bounds + log_py - logits)).sum(1)),
    ],
    "frechet_by_luck": [
        ("term", "One heap", lambda variances, num: 1.5 * variances.sum() / num),
        ("term", "means of both", lambda variances, num: 2 * variances.sum() / num),
        ("term", "spreads of both", lambda variances, num: variances.sum() / num),
        ("scale", "2 below the line", lambda variances, num: 4 * variances.sum() / num),
        ("sum or mean", "average over the features",
         lambda variances, num: 3 * variances.mean() / num),
        ("scale", "nothing is divided", lambda variances, num: 3 * variances.sum()),
        ("scale", "fall as 1/N", lambda variances, num: 3 * variances.sum() / num**0.5),
        ("σ or variance", "standard deviations",
         lambda variances, num: 3 * variances.sqrt().sum() / num),
        ("σ or variance", "made of squares",
         lambda variances, num: 3 * (variances / num).sqrt().sum()),
        ("value", "yours is 0", lambda variances, num: 0.0),
        ("σ or variance", "compare the variances", lambda variances, num: (
            2 * variances / num + 4 * variances**2 / num).sum()),
        ("shape", "for each feature", lambda variances, num: 3 * variances / num),
        ("randomness", "from call to call", luck_by_drawing),
        ("randomness", "another order", lambda *inputs: luck_by_drawing(*inputs, seed=1)),
    ],
}
