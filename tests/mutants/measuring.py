"""Right and wrong answers to the exercises on latent spaces, evaluation and the KL's weight."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence


def length_expanded(t, latent_dim):
    return [latent_dim * (1 - 2 * share + 2 * share**2) for share in t.tolist()]


def length_from_zero(t, latent_dim):
    return length_expanded(t, latent_dim) + [0.0]


def arc_by_sines(start, end, steps):
    a, b = start.norm(), end.norm()
    angle = torch.acos(start @ end / (a * b))
    points = []
    for i in range(steps):
        t = i / (steps - 1)
        u = (torch.sin((1 - t) * angle) * start / a + torch.sin(t * angle) * end / b)
        points.append(u / torch.sin(angle) * (a + t * (b - a)))
    return points


def arc_in_numpy(start, end, steps):
    a, b = start.numpy().astype(float), end.numpy().astype(float)
    lengths = np.linspace(np.linalg.norm(a), np.linalg.norm(b), steps)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    angle = np.arccos(a @ b)
    side = (b - np.cos(angle) * a) / np.sin(angle)
    angles = np.linspace(0, angle, steps)
    return lengths[:, None] * (np.outer(np.cos(angles), a) + np.outer(np.sin(angles), side))


def shares(steps, ends=True):
    return (torch.linspace(0, 1, steps) if ends else torch.linspace(0, 1, steps + 2)[1:-1])[:, None]


def straight(start, end, steps):
    return (1 - shares(steps)) * start + shares(steps) * end


def straight_and_restored(start, end, steps):
    points = straight(start, end, steps)
    lengths = (1 - shares(steps)) * start.norm() + shares(steps) * end.norm()
    return points * lengths / points.norm(dim=1, keepdim=True)


def slerp(start, end, steps, angle=None):
    t, cosine = shares(steps), torch.cosine_similarity(start, end, dim=0)
    angle = torch.acos(cosine) if angle is None else angle
    return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)


def slerp_without_norms(start, end, steps):
    return slerp(start, end, steps, torch.acos(start @ end))


def quarter_turn(start, end, steps):
    u, v = start / start.norm(), end / end.norm()
    across = v - (u @ v) * u
    angles = shares(steps) * math.pi / 2
    points = torch.cos(angles) * u + torch.sin(angles) * across / across.norm()
    return points * ((1 - shares(steps)) * start.norm() + shares(steps) * end.norm())


def slerp_on_the_unit_sphere(start, end, steps):
    return slerp(start / start.norm(), end / end.norm(), steps)


def arc_without_ends(start, end, steps):
    return torch.stack(arc_by_sines(start, end, steps))[1:-1]


def agree_in_a_loop(codes, labels, neighbours):
    agree, asked = 0, 0
    for i in range(len(codes)):
        distances = [(codes[i] - code).norm().item() for code in codes]
        distances[i] = math.inf
        for j in sorted(range(len(codes)), key=distances.__getitem__)[:neighbours]:
            agree += int(labels[i] == labels[j])
            asked += 1
    return agree / asked


def agree_without_the_first(codes, labels, neighbours):
    order = torch.cdist(codes, codes).argsort(dim=1)[:, 1 : neighbours + 1]
    return (labels[order] == labels[:, None]).float().mean()


def agree_with(cut, largest=False):
    def share(codes, labels, neighbours):
        order = torch.cdist(codes, codes).argsort(dim=1, descending=largest)
        return (labels[order[:, cut(neighbours)]] == labels[:, None]).double().mean()
    return share


def agree_at_a_distance(codes, labels, neighbours):
    distances = (codes[:, None] - codes).norm(dim=2)
    distances[distances == 0] = math.inf
    order = distances.argsort(dim=1)[:, :neighbours]
    return (labels[order] == labels[:, None]).double().mean()


def agree_by_majority(codes, labels, neighbours):
    order = torch.cdist(codes, codes).argsort(dim=1)[:, 1 : neighbours + 1]
    return ((labels[order] == labels[:, None]).double().mean(1) > 0.5).double().mean()


def agree_among_all_but_one(codes, labels, neighbours):
    order = torch.cdist(codes, codes).argsort(dim=1)[:, : neighbours + 1]
    agree = (labels[order] == labels[:, None]).sum() - len(codes)
    return agree / (len(codes) * (neighbours + 1))


def gain_in_numpy(loss_a, loss_b):
    gain = loss_a.numpy() - loss_b.numpy()
    return gain.mean(), gain.std() / np.sqrt(len(gain))


def gain_in_place(loss_a, loss_b):
    gain = loss_a.sub_(loss_b).double()
    return torch.tensor([gain.mean(), (gain.var() / len(gain)).sqrt()])


def error(values):
    return values.std() / len(values) ** 0.5


def gain_with(error_of):
    return lambda a, b: ((a - b).mean(), error_of(a, b))


def units_in_a_loop(mu, log_var):
    return [bool(((unit - unit.mean()) ** 2).mean() > 0.01) for unit in mu.unbind(1)]


def units_by_two_moments(mu, log_var):
    mu = mu.double()
    return (mu.square().mean(0) - mu.mean(0).square()) > 0.01


def kl_of(mu, log_var):
    return 0.5 * (mu**2 + log_var.exp() - log_var - 1)


def nll_in_numpy(elbo_loss, chosen, nll):
    gap = elbo_loss.numpy()[chosen.numpy()] - nll.numpy()
    return elbo_loss.numpy().mean() - gap.mean(), gap.std(ddof=1) / np.sqrt(gap.size)


def nll_by_a_residual(elbo_loss, chosen, nll):
    total, squares = 0.0, 0.0
    for place, value in zip(chosen.tolist(), nll.double()):
        more = value - elbo_loss[place].double()
        total, squares = total + more, squares + more**2
    mean = total / len(nll)
    return elbo_loss.mean() + mean, ((squares / len(nll) - mean**2) / len(nll)).sqrt()


def nll_with(error_of):
    return lambda loss, chosen, nll: (nll_in_numpy(loss, chosen, nll)[0],
                                      error_of(loss, loss[chosen], nll))


def nll_by_a_ratio(elbo_loss, chosen, nll):
    return elbo_loss.mean() * nll.mean() / elbo_loss[chosen].mean(), error(elbo_loss[chosen] - nll)


def nll_by_a_line(elbo_loss, chosen, nll):
    few = elbo_loss[chosen]
    slope = torch.stack([few, nll]).cov()[0, 1] / few.var()
    left = nll - slope * few
    return (nll + slope * (elbo_loss.mean() - few)).mean(), error(left)


def nll_put_in_place(elbo_loss, chosen, nll):
    elbo_loss[chosen] = nll
    return elbo_loss.mean(), error(elbo_loss)


def nll_of_the_first(elbo_loss, chosen, nll):
    gap = elbo_loss[: len(nll)] - nll
    return elbo_loss.mean() - gap.mean(), error(gap)


def normals(centre, variances):
    return MultivariateNormal(centre, torch.diag_embed(variances))


def gaps(mu, log_var, mean, covariance):
    """The posterior, the encoder's q, the best one, and one with the posterior's variances."""
    posterior = MultivariateNormal(mean, covariance)
    best = 1 / torch.linalg.inv(covariance).diagonal()
    return (posterior, normals(mu, log_var.exp()), normals(mean, best.expand_as(mean)),
            normals(mean, covariance.diagonal().expand_as(mean)))


def split_by_kls(mu, log_var, mean, covariance):
    posterior, q, best, _ = gaps(mu, log_var, mean, covariance)
    least = kl_divergence(best, posterior)
    return least, kl_divergence(q, posterior) - least


def split_image_by_image(mu, log_var, mean, covariance):
    covariance = covariance.double()
    precision = covariance.inverse()
    approximation = (precision.diagonal().log().sum() + torch.logdet(covariance)) / 2
    rest = []
    for m, s, wanted in zip(mu.double(), log_var.double().exp(), mean.double()):
        gap = (precision.diagonal() @ s - s.log().sum() - len(m) + torch.logdet(covariance)
               + (m - wanted) @ precision @ (m - wanted)) / 2
        rest.append(gap - approximation)
    return approximation, torch.stack(rest)


def split_with_wide(mu, log_var, mean, covariance):
    posterior, q, _, wide = gaps(mu, log_var, mean, covariance)
    least = kl_divergence(wide, posterior)
    return least, kl_divergence(q, posterior) - least


def split_with_precisions(mu, log_var, mean, covariance):
    posterior, q, _, _ = gaps(mu, log_var, mean, covariance)
    inverse = normals(mean, torch.linalg.inv(covariance).diagonal().expand_as(mean))
    least = kl_divergence(inverse, posterior)
    return least[0], kl_divergence(q, posterior) - least


def split_in_reverse(mu, log_var, mean, covariance):
    posterior, q, best, _ = gaps(mu, log_var, mean, covariance)
    least = kl_divergence(posterior, best)
    return least, kl_divergence(posterior, q) - least


def split_without_a_difference(mu, log_var, mean, covariance):
    posterior, q, best, _ = gaps(mu, log_var, mean, covariance)
    return kl_divergence(best, posterior), kl_divergence(q, posterior)


def split_by_a_triangle(mu, log_var, mean, covariance):
    posterior, q, best, _ = gaps(mu, log_var, mean, covariance)
    return kl_divergence(best, posterior), kl_divergence(q, best)


def split_the_other_way_round(mu, log_var, mean, covariance):
    return split_by_kls(mu, log_var, mean, covariance)[::-1]


def split_into_one(mu, log_var, mean, covariance):
    return sum(split_by_kls(mu, log_var, mean, covariance))


def loss_with(weight):
    def loss(reconstruction, kl, step, warm_up_steps, beta):
        return (weight(step, warm_up_steps, beta) * kl - reconstruction).mean()
    return loss


def loss_in_a_loop(reconstruction, kl, step, warm_up_steps, beta):
    weight = beta if step > warm_up_steps else beta / warm_up_steps * step
    return sum(weight * nats - bonus for bonus, nats in zip(reconstruction, kl)) / len(kl)


def loss_in_place(reconstruction, kl, step, warm_up_steps, beta):
    weight = np.interp(step, [0, warm_up_steps], [0, beta])
    return kl.mul_(float(weight)).sub_(reconstruction).mean().double()


def loss_as_given(reconstruction, kl, step, warm_up_steps, beta):
    return min(beta, step / warm_up_steps) * (kl - reconstruction).mean()


def loss_half_repaired(reconstruction, kl, step, warm_up_steps, beta):
    return beta * min(1, step / warm_up_steps) * (kl - reconstruction).mean()


def bits_in_a_loop(kl, floor):
    charge = 0
    for unit in kl.T:
        mean = unit.double().sum() / len(unit)
        charge = charge + (mean if mean > floor else floor)
    return charge


def bits_by_where(kl, floor):
    return torch.where(kl.mean(0) > floor, kl, floor).sum(1).mean()


def bits_above(kl, floor):
    return F.relu(kl.mean(0) - floor).sum() + floor * kl.shape[1]


def bits_that_still_pull(kl, floor):
    mean = kl.mean(0)
    return (mean + (mean.clamp(min=floor) - mean).detach()).sum()


def eigen(x):
    return torch.linalg.eigvalsh(x.T.cov()).flip(0)


def rate_in_a_loop(x, latent_dim, beta, variance):
    x = x.numpy() / np.sqrt(variance.numpy())
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1][:latent_dim]
    return sum(0.5 * math.log(v / beta) for v in values if v > beta)


def rate_by_svd(x, latent_dim, beta, variance):
    x = x.sub_(x.mean(0)).div_(variance.mul_(beta).sqrt_()).double()
    widths = torch.linalg.svdvals(x)[:latent_dim] / len(x) ** 0.5
    return widths.log().clamp(min=0).sum()


def rate_by_generalised_eigenvalues(x, latent_dim, beta, variance):
    pull = torch.diag(1 / variance) @ x.T.cov()  # not symmetric, but with the same eigenvalues
    values = torch.linalg.eigvals(pull).real.sort(descending=True).values[:latent_dim]
    return torch.where(values > beta, (values / beta).log() / 2, 0.0).sum()


def rate_in_units(change):
    return lambda x, size, beta, variance: change(x / variance.sqrt(), size, beta)


def rate_from(values, noise):
    return 0.5 * (values / noise).clamp(min=1).log().sum()


def information_in_a_loop(z, mu, log_var):
    total = 0.0
    for n in range(len(z)):
        logs = Normal(mu, (0.5 * log_var).exp()).log_prob(z[n]).sum(1)
        total = total + logs[n] - logs.logsumexp(0) + math.log(len(z))
    return total / len(z)


def log_table(z, mu, log_var):
    return Independent(Normal(mu, (0.5 * log_var).exp()), 1).log_prob(z[:, None])


def information_by_softmax(z, mu, log_var):
    table = log_table(z.double(), mu.double(), log_var.double())
    return F.cross_entropy(table, torch.arange(len(z))).neg() + np.log(len(z))


def information_without_logs(z, mu, log_var, floor=0.0):
    table = log_table(z, mu, log_var).exp() + floor
    return (table.diagonal() / table.mean(1)).log().mean()


def information_of_each_latent(z, mu, log_var):
    table = Normal(mu, (0.5 * log_var).exp()).log_prob(z[:, None])
    own = table.diagonal().T
    return (own - table.logsumexp(1) + math.log(len(z))).sum(1).mean()


def information_over_the_draws(z, mu, log_var):
    table = log_table(z, mu, log_var)
    return (table.diagonal() - table.logsumexp(0)).mean() + math.log(len(z))


def information_without_widths(z, mu, log_var):
    table = -0.5 * ((z[:, None] - mu) ** 2 / log_var.exp()).sum(2)
    return (table.diagonal() - table.logsumexp(1)).mean() + math.log(len(z))


def information_against_the_prior(z, mu, log_var):
    return kl_of(mu, log_var).sum(1).mean()


def information_with_averaged_logs(z, mu, log_var):
    table = log_table(z, mu, log_var)
    return (table.diagonal() - table.mean(1)).mean()


# exercise -> right answers, written in different ways
RIGHT = {
    "squared_length_on_line": [
        length_expanded, lambda t, latent_dim: t.double().square().add((1 - t) ** 2) * latent_dim],
    "arc_between": [arc_by_sines, arc_in_numpy],
    "neighbours_agree": [agree_in_a_loop, agree_without_the_first],
    "difference_and_error": [gain_in_numpy, gain_in_place],
    "units_in_use": [units_in_a_loop, units_by_two_moments],
    "nll_of_all": [nll_in_numpy, nll_by_a_residual],
    "split_gap": [split_by_kls, split_image_by_image],
    "warmed_loss": [loss_in_a_loop, loss_in_place],
    "free_bits": [bits_in_a_loop, bits_by_where, bits_above],
    "linear_rate": [rate_in_a_loop, rate_by_svd, rate_by_generalised_eigenvalues],
    "information_in_codes": [information_in_a_loop, information_by_softmax],
}

# exercise -> (kind of mistake, words of the hint, wrong answer)
WRONG = {
    "squared_length_on_line": [
        ("term", "as that of the ends", lambda t, latent_dim: torch.full_like(t, latent_dim)),
        ("scale", "return a length",
         lambda t, latent_dim: (latent_dim * ((1 - t) ** 2 + t**2)).sqrt()),
        ("sum or mean", "one coordinate", lambda t, latent_dim: (1 - t) ** 2 + t**2),
        ("sign", "cancel", lambda t, latent_dim: latent_dim * (1 - 2 * t) ** 2),
        ("term", "one of the two ends is missing".capitalize(),
         lambda t, latent_dim: latent_dim * (1 - t) ** 2),
        ("shape", "shape", length_from_zero),
    ],
    "arc_between": [
        ("value", "straight line: its middle", straight),
        ("term", "push the points of the straight", straight_and_restored),
        ("scale", "distance 1", slerp_on_the_unit_sphere),
        ("scale", "length of the start",
         lambda a, b, steps: slerp_on_the_unit_sphere(a, b, steps) * a.norm()),
        ("order", "different lengths", slerp),
        ("stability", "arccos", slerp_without_norms),
        ("shape", "ends are missing", arc_without_ends),
        ("value", "By which angle", quarter_turn),
        ("order", "first point is not the start", lambda *inputs: arc_by_sines(*inputs)[::-1]),
    ],
    "neighbours_agree": [
        ("value", "nearest of all", agree_with(lambda k: slice(0, k))),
        ("value", "one neighbour too few", agree_with(lambda k: slice(1, k))),
        ("value", "do not leave the first", agree_with(lambda k: slice(0, k + 1))),
        ("value", "one neighbour too many", agree_with(lambda k: slice(2, k + 2))),
        ("sign", "farthest", agree_with(lambda k: slice(0, k), largest=True)),
        ("value", "at the same place", agree_at_a_distance),
        ("sum or mean", "most neighbours", agree_by_majority),
        ("scale", "still divide", agree_among_all_but_one),
        ("sum or mean", "count how many",
         lambda codes, *rest: agree_in_a_loop(codes, *rest) * len(codes) * rest[1]),
    ],
    "difference_and_error": [
        ("sign", "A is the better", lambda a, b: ((a - b).mean().abs(), error(a - b))),
        ("sign", "The sign", lambda a, b: ((b - a).mean(), error(a - b))),
        ("value", "two means",
         gain_with(lambda a, b: (error(a) ** 2 + error(b) ** 2) ** 0.5)),
        ("scale", "single images", gain_with(lambda a, b: (a - b).std())),
        ("scale", "divided by N", gain_with(lambda a, b: (a - b).std() / len(a))),
        ("σ or variance", "variance", gain_with(lambda a, b: (a - b).var() / len(a))),
        ("term", "sum of the two models'", gain_with(lambda a, b: error(a) + error(b))),
        ("term", "difference of the two models'", gain_with(lambda a, b: error(a) - error(b))),
        ("order", "other way round", lambda a, b: (error(a - b), (a - b).mean())),
        ("type", "2 results", lambda a, b: (a - b).mean()),
    ],
    "units_in_use": [
        ("randomness", "A draw from a cloud", lambda mu, log_var: (
            mu + (0.5 * log_var).exp() * torch.randn_like(mu)).var(0) > 0.01),
        ("σ or variance", "standard deviation", lambda mu, log_var: mu.std(0) > 0.01),
        ("value", "look at the KL", lambda mu, log_var: kl_of(mu, log_var).mean(0) > 0.01),
        ("value", "look at the widths", lambda mu, log_var: log_var.exp().mean(0) < 0.99),
        ("value", "mean square", lambda mu, log_var: (mu**2).mean(0) > 0.01),
        ("axis", "each image", lambda mu, log_var: mu.var(1) > 0.01),
        ("type", "Variances", lambda mu, log_var: mu.var(0)),
        ("type", "number of active", lambda mu, log_var: (mu.var(0) > 0.01).sum()),
        ("sign", "wrong way round", lambda mu, log_var: mu.var(0) < 0.01),
    ],
    "nll_of_all": [
        ("value", "of the few images alone", lambda loss, chosen, nll: (nll.mean(), error(nll))),
        ("sign", "You add the gap", lambda loss, chosen, nll: (
            loss.mean() + (loss[chosen] - nll).mean(), error(loss[chosen] - nll))),
        ("value", "in the place", nll_put_in_place),
        ("scale", "by a ratio", nll_by_a_ratio),
        ("scale", "draw a line", nll_by_a_line),
        ("order", "the first M", nll_of_the_first),
        ("term", "mean gap", lambda loss, chosen, nll: (
            (loss[chosen] - nll).mean(), error(loss[chosen] - nll))),
        ("value", "averaged over the few", nll_with(lambda loss, few, nll: error(nll))),
        ("value", "two means", nll_with(lambda loss, few, nll: math.hypot(error(few), error(nll)))),
        ("term", "other test images", nll_with(
            lambda loss, few, nll: math.hypot(error(loss), error(few - nll)))),
        ("scale", "single gaps", nll_with(lambda loss, few, nll: (few - nll).std())),
        ("scale", "root of N", nll_with(lambda loss, few, nll: (few - nll).std() / 300**0.5)),
        ("type", "2 results", lambda loss, chosen, nll: nll_in_numpy(loss, chosen, nll)[0]),
    ],
    "split_gap": [
        ("σ or variance", "variances of the best cloud", split_with_wide),
        ("σ or variance", "diagonal of the precision", split_with_precisions),
        ("value", "is wanted", lambda *inputs: (
            split_by_kls(*inputs)[0] + 0.5, split_by_kls(*inputs)[1])),
        ("order", "other direction", split_in_reverse),
        ("term", "whole gap", split_without_a_difference),
        ("value", "to the best one", split_by_a_triangle),
        ("order", "first part is the amortisation", split_the_other_way_round),
        ("type", "2 results", split_into_one),
        ("scale", "one half", lambda *inputs: [2 * part for part in split_by_kls(*inputs)]),
        ("sum or mean", "average the amortisation",
         lambda *inputs: [part.mean() for part in split_by_kls(*inputs)]),
    ],
    "warmed_loss": [
        ("value", "Both faults", loss_as_given),
        ("term", "multiplies both", loss_half_repaired),
        ("value", "in the time given",
         loss_with(lambda step, steps, beta: min(beta, step / steps))),
        ("scale", "to 1 and not", loss_with(lambda step, steps, beta: min(1, step / steps))),
        ("value", "goes on climbing", loss_with(lambda step, steps, beta: beta * step / steps)),
        ("sign", "falls", loss_with(
            lambda step, steps, beta: beta * (1 - min(1, step / steps)))),
        ("sign", "minimised", lambda *inputs: -loss_in_a_loop(*inputs)),
        ("sum or mean", "add up", lambda *inputs: 5 * loss_in_a_loop(*inputs)),
        ("gradient", "no gradient", lambda *inputs: loss_in_a_loop(*inputs).item()),
        ("shape", "each image", lambda reconstruction, kl, step, steps, beta:
            beta * min(1, step / steps) * kl - reconstruction),
    ],
    "free_bits": [
        ("order", "KL of every image", lambda kl, floor: kl.clamp(min=floor).sum(1).mean()),
        ("order", "first and then hold", lambda kl, floor: kl.sum(1).mean().clamp(min=floor)),
        ("term", "lies above the floor", lambda kl, floor: F.relu(kl.mean(0) - floor).sum()),
        ("sign", "ceiling", lambda kl, floor: kl.mean(0).clamp(max=floor).sum()),
        ("sum or mean", "sum over the batch", lambda kl, floor: kl.sum(0).clamp(min=floor).sum()),
        ("sum or mean", "average over the units",
         lambda kl, floor: kl.mean(0).clamp(min=floor).mean()),
        ("axis", "Which axis", lambda kl, floor: kl.mean(1).clamp(min=floor).sum()),
        ("shape", "added up", lambda kl, floor: kl.mean(0).clamp(min=floor)),
        ("gradient", "still pulled", bits_that_still_pull),
        ("gradient", "no gradient", lambda kl, floor: bits_by_where(kl, floor).item()),
    ],
    "linear_rate": [
        ("term", "one noise for all pixels", lambda x, size, beta, variance: rate_from(
            eigen(x)[:size], beta * variance.mean())),
        ("axis", "noise of a single pixel", lambda x, size, beta, variance: rate_from(
            eigen(x)[:size], beta * variance[:size])),
        ("σ or variance", "In which unit is its noise", lambda x, size, beta, variance: rate_from(
            eigen(x / variance)[:size], beta)),
        ("order", "more noise must count", lambda x, size, beta, variance: rate_from(
            eigen(x * variance.sqrt())[:size], beta)),
        ("term", "Yours goes below", rate_in_units(
            lambda x, size, beta: 0.5 * (eigen(x)[:size] / beta).log().sum())),
        ("term", "bias", rate_in_units(lambda x, size, beta: rate_from(
            torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0)[:size], beta))),
        ("order", "smallest", rate_in_units(
            lambda x, size, beta: rate_from(eigen(x).flip(0)[:size], beta))),
        ("axis", "each *row*", rate_in_units(lambda x, size, beta: rate_from(
            torch.linalg.eigvalsh(x.cov()).flip(0)[:size], beta))),
        ("axis", "How many latents", rate_in_units(
            lambda x, size, beta: rate_from(eigen(x), beta))),
        ("scale", "beta is missing", rate_in_units(
            lambda x, size, beta: rate_from(eigen(x)[:size], 1))),
        ("scale", "A high price", rate_in_units(
            lambda x, size, beta: rate_from(eigen(x)[:size], 1 / beta))),
        ("scale", "one half", lambda *inputs: 2 * rate_in_a_loop(*inputs)),
        ("value", "weighted rate", lambda x, size, beta, variance: beta * rate_in_a_loop(
            x, size, beta, variance)),
    ],
    "information_in_codes": [
        ("stability", "NaN or infinite", information_without_logs),
        ("stability", "keeps its log finite",
         lambda *inputs: information_without_logs(*inputs, floor=1e-30)),
        ("sum or mean", "divided by something",
         lambda z, mu, log_var: information_in_a_loop(z, mu, log_var) - math.log(len(z))),
        ("order", "product first", information_of_each_latent),
        ("axis", "average over the draws", information_over_the_draws),
        ("value", "This is the rate", information_against_the_prior),
        ("order", "logs of the densities", information_with_averaged_logs),
        ("sum or mean", "add up over the images",
         lambda *inputs: len(inputs[0]) * information_in_a_loop(*inputs)),
        ("σ or variance", "log of σ",
         lambda z, mu, log_var: information_in_a_loop(z, mu, 2 * log_var)),
        ("term", "height", information_without_widths),
    ],
}
