"""Right and wrong answers to the exercises on bugs."""

import math

import torch
import torch.nn.functional as F


def terms(model, x, eps, sigma=lambda log_var: torch.exp(log_var / 2), cut=lambda z: z):
    mu, log_var = model.encode(x)
    errors = F.binary_cross_entropy_with_logits(
        model.decode(cut(mu + sigma(log_var) * eps)), x, reduction="none")
    return -errors, (mu**2 + log_var.exp() - log_var - 1) / 2


def objective(pixels, latents, **named):
    def answer(model, x, eps):
        likelihood, kl = terms(model, x, eps, **named)
        return pixels(likelihood) - latents(kl)
    return answer


def total(t):
    return t.sum(1)


def average(t):
    return t.mean(1)


def objective_image_by_image(model, x, eps):
    values = []
    for row, noise in zip(x.double(), eps.double()):
        mu, log_var = (each[0].double() for each in model.encode(row[None].float()))
        logits = model.decode((mu + (log_var / 2).exp() * noise)[None].float())[0]
        value = sum(-F.softplus(-a) if b > 0 else -F.softplus(a) for a, b in zip(logits, row))
        for m, s in zip(mu, log_var):
            value = value - (m * m + s.exp() - s - 1) / 2
        values.append(value)
    return values


def step(model, optimizer, loss_of, parts):
    optimizer.zero_grad()
    num, mean = sum(len(part[0]) for part in parts), 0.0
    for part in parts:
        loss = loss_of(model, part) * len(part[0]) / num
        loss.backward()
        mean += loss.item()
    optimizer.step()
    return mean


def step_in_one_go(model, optimizer, loss_of, parts):
    sizes = torch.tensor([float(len(x)) for x, _ in parts])
    losses = torch.stack([loss_of(model, part) for part in parts])
    loss = (losses * sizes).sum() / sizes.sum()
    loss.backward()
    optimizer.step()
    for parameter in model.parameters():
        parameter.grad = None
    return loss


def step_with(weight=lambda part, num: len(part[0]) / num, clear="first", returned=None):
    def answer(model, optimizer, loss_of, parts):
        if clear == "first":
            optimizer.zero_grad()
        num, mean = sum(len(part[0]) for part in parts), 0.0
        for part in parts:
            if clear == "each":
                optimizer.zero_grad()
            loss = loss_of(model, part) * weight(part, num)
            loss.backward()
            mean += loss.item()
        if clear == "late":
            optimizer.zero_grad()
        optimizer.step()
        return mean if returned is None else returned
    return answer


def step_that_returns_nothing(model, optimizer, loss_of, parts):
    step(model, optimizer, loss_of, parts)


def rows(pixels):
    return pixels.permute(2, 0, 1).reshape(pixels.shape[2], -1).double() / 255


def rows_one_by_one(pixels):
    return [pixels[..., n].flatten() / 255 for n in range(pixels.shape[-1])]


def split(images, labels, num_test, generator):
    order = torch.randperm(len(images), generator=generator)
    train, test = order[num_test:], order[:num_test]
    return images[train], labels[train], images[test], labels[test]


def split_by_dealing(images, labels, num_test, generator):
    keys = torch.rand(len(images), generator=generator)
    chosen = set(keys.argsort()[:num_test].tolist())
    train = [n for n in range(len(images)) if n not in chosen]
    return [[images[n] for n in train], [labels[n] for n in train],
            [images[n] for n in chosen], [int(labels[n]) for n in chosen]]


def split_with(order):
    """A split from the order that ``order(num, generator)`` gives for training and for test."""
    def answer(images, labels, num_test, generator):
        first, second = order(len(images), generator)
        train, test = first[num_test:], second[:num_test]
        return images[train], labels[train], images[test], labels[test]
    return answer


def split_in_the_wrong_order(images, labels, num_test, generator):
    parts = split(images, labels, num_test, generator)
    return parts[2:] + parts[:2]


def split_without_generator(images, labels, num_test, generator):
    return split(images, labels, num_test, None)


def split_with_a_leak(images, labels, num_test, generator):
    return images, labels, *split(images, labels, num_test, generator)[2:]


def split_apart_from_labels(images, labels, num_test, generator):
    mine, theirs = (torch.randperm(len(images), generator=generator) for _ in range(2))
    return (images[mine[num_test:]], labels[theirs[num_test:]],
            images[mine[:num_test]], labels[theirs[:num_test]])


def split_that_loses(images, labels, num_test, generator):
    order = torch.randperm(len(images), generator=generator)
    train, test = order[2 * num_test:], order[:num_test]
    return images[train], labels[train], images[test], labels[test]


def split_with_a_fixed_seed(images, labels, num_test, generator):
    return split(images, labels, num_test, torch.Generator().manual_seed(0))


def split_that_repeats(images, labels, num_test, generator):
    order = torch.randperm(len(images), generator=generator)
    train, test = torch.cat([order[num_test:], order[-3:]]), order[:num_test]
    return images[train], labels[train], images[test], labels[test]


def flow(eps, log_dets):
    return -0.5 * (eps**2 + math.log(2 * math.pi)).sum(1) - log_dets.sum(0)


def flow_layer_by_layer(eps, log_dets):
    values = torch.distributions.Normal(0.0, 1.0).log_prob(eps.double()).sum(-1)
    for log_det in log_dets:
        values -= log_det
    return list(values)


def each_cloud(z, centres):
    return -0.5 * ((z[:, None] - centres) ** 2 + math.log(2 * math.pi))


def mixture(z, centres, weights):
    return (each_cloud(z, centres).sum(-1) + weights.log()).logsumexp(1)


def mixture_in_a_loop(z, centres, weights):
    values = []
    for point in z:
        logs = [-0.5 * ((point - c) ** 2).sum() - len(point) / 2 * math.log(2 * math.pi)
                for c in centres]
        top = max(logs)
        total = sum(w * (each - top).exp() for w, each in zip(weights, logs))
        values.append(top + torch.log(total))
    return torch.stack(values)


def loss_with(
    chance=1, evaluate=True, back="was", grad=False, draw=True, negative=True,
    mean=False,
):
    def answer(model, images):
        training = model.training
        if evaluate:
            model.eval()
        luck = torch.Generator().manual_seed(chance) if chance else None
        x = (torch.rand(images.shape, generator=luck) < images).float()
        eps = torch.randn(len(x), 2, generator=torch.Generator().manual_seed(0))
        with torch.set_grad_enabled(grad):
            likelihood, kl = terms(model, x, eps if draw else 0 * eps)
        if back == "was":
            model.train(training)
        elif back == "train":
            model.train()
        elif back == "flag":
            model.training = training
        value = total(kl) - total(likelihood)
        value = value if negative else -value
        return value.mean() if mean else value
    return answer


def loss_image_by_image(model, images):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    x = torch.rand(images.shape, generator=torch.Generator().manual_seed(1)).lt(images).float()
    eps = torch.randn(len(x), 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        rows = [terms(model, x[[n]], eps[[n]]) for n in range(len(x))]
    for module, mode in modes:
        module.training = mode
    return [(kl.sum() - likelihood.sum()).clone() for likelihood, kl in rows]


def every_image(num_pixels, levels):
    return torch.cartesian_prod(*[torch.arange(levels)] * num_pixels)


def adds_up(log_likelihood, num_pixels, levels):
    return abs(log_likelihood(every_image(num_pixels, levels)).exp().sum() - 1) < 1e-4


def adds_up_in_a_loop(log_likelihood, num_pixels, levels):
    total = 0.0
    for number in range(levels**num_pixels):
        digits = [number // levels**k % levels for k in range(num_pixels)]
        total += math.exp(log_likelihood(torch.tensor([digits])).item())
    return math.isclose(total, 1, abs_tol=1e-3)


def is_negative(log_likelihood, num_pixels, levels):
    return bool((log_likelihood(every_image(num_pixels, levels)) <= 0).all())


def adds_up_exactly(log_likelihood, num_pixels, levels):
    total = sum(log_likelihood(every_image(num_pixels, levels)).exp().tolist())
    return total == 1.0


def adds_up_black_and_white(log_likelihood, num_pixels, levels):
    return adds_up(log_likelihood, num_pixels, 2)


def adds_up_for_three(log_likelihood, num_pixels, levels):
    return adds_up(log_likelihood, 3, levels)


def adds_up_at_most(log_likelihood, num_pixels, levels):
    return bool(log_likelihood(every_image(num_pixels, levels)).exp().sum() <= 1.0001)


def adds_up_roughly(log_likelihood, num_pixels, levels):
    return bool(abs(log_likelihood(every_image(num_pixels, levels)).exp().sum() - 1) < 0.5)


def adds_up_in_logs(log_likelihood, num_pixels, levels):
    return bool(abs(log_likelihood(every_image(num_pixels, levels)).sum() - 1) < 1e-3)


CLOUDS = [([1.0, -0.5], [0.7, -1.0]), ([0.3, 2.0], [-2.0, 0.0])]


def deviation(log_var):
    return (log_var / 2).exp()


def by_draws(kl, generator, clouds=CLOUDS, draws=20_000, errors=6.0, width=deviation):
    for mu, log_var in clouds:
        mu, log_var = torch.tensor([mu]), torch.tensor([log_var])
        eps = torch.randn(draws, mu.shape[1], generator=generator)
        z = mu + width(log_var) * eps
        logs = (0.5 * z**2 - 0.5 * eps**2 - 0.5 * log_var).sum(1)
        if abs(logs.mean() - kl(mu, log_var)) > errors * logs.std() / draws**0.5:
            return False
    return True


def by_draws_of_torch(kl, generator):
    torch.manual_seed(int(torch.randint(1000, (1,), generator=generator)))
    mu, log_var = torch.randn(8, 3), torch.randn(8, 3)
    q = torch.distributions.Normal(mu, log_var.exp().sqrt())
    z = q.sample((10_000,))
    logs = (q.log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)).sum(-1)
    allowed = 6 * logs.std(0) / 100
    return ((logs.mean(0) - kl(mu, log_var)).abs() < allowed).all()


def by_the_formula(kl, generator):
    mu, log_var = torch.randn(4, 2), torch.randn(4, 2)
    wanted = (mu**2 + log_var.exp() - log_var - 1).sum(1) / 2
    return torch.allclose(kl(mu, log_var), wanted, rtol=1e-3)


# exercise -> right answers, written in different ways
RIGHT = {
    "mended_objective": [objective(total, total), objective_image_by_image],
    "mended_step": [step, step_in_one_go],
    "mended_rows": [rows, rows_one_by_one],
    "mended_split": [split, split_by_dealing],
    "mended_flow_log_density": [flow, flow_layer_by_layer],
    "mended_mixture_log_density": [mixture, mixture_in_a_loop],
    "mended_test_loss": [loss_with(), loss_image_by_image],
    "adds_up_to_one": [adds_up, adds_up_in_a_loop],
    "kl_passes_monte_carlo": [by_draws, by_draws_of_torch],
}

# exercise -> (kind of mistake, words of the hint, wrong answer)
WRONG = {
    "mended_objective": [
        ("value", "both faults are still there", objective(average, lambda t: -t.sum(1))),
        ("sign", "Which sign", objective(total, lambda t: -t.sum(1))),
        ("sum or mean", "first loss", objective(average, total)),
        ("sum or mean", "latent dimensions are averaged", objective(total, average)),
        ("sum or mean", "averages now", objective(average, average)),
        ("σ or variance", "square root", objective(total, total, sigma=torch.exp)),
        ("axis", "shape", objective(lambda t: t.sum(0), lambda t: t.sum())),
        ("gradient", "cut off", objective(total, total, cut=torch.Tensor.detach)),
        ("gradient", "no gradient passes",
         lambda *inputs: objective(total, total)(*inputs).detach()),
    ],
    "mended_step": [
        ("side effect", "pile up", step_with(clear="never")),
        ("value", "both faults", step_with(lambda part, num: 1, clear="never")),
        ("sum or mean", "added up", step_with(lambda part, num: 1)),
        ("scale", "counts the same", step_with(lambda part, num: 1 / 3)),
        ("order", "not moved", step_with(clear="late")),
        ("order", "by its share", step_with(clear="each")),
        ("order", "other gradients lost", step_with(lambda part, num: 1, clear="each")),
        ("type", "return", step_that_returns_nothing),
        ("value", "loss that you return", step_with(returned=1.0)),
    ],
    "mended_rows": [
        ("axis", "a bit of every image", lambda p: p.reshape(p.shape[2], -1) / 255),
        ("scale", "range", lambda p: rows(p) * 255),
        ("scale", "whatever the largest pixel", lambda p: rows(p) * 255 / p.max()),
        ("scale", "White", lambda p: rows(p) * 255 / 256),
        ("axis", "on its side", lambda p: p.permute(2, 1, 0).flatten(1) / 255),
        ("value", "both faults", lambda p: p.reshape(p.shape[2], -1).float()),
        ("shape", "shape", lambda p: p.permute(2, 0, 1) / 255),
        ("type", "are zero", lambda p: rows(p).floor()),
    ],
    "mended_split": [
        ("value", "in both parts", split_with_a_leak),
        ("randomness", "in both parts", split_with(lambda num, generator: [
            torch.randperm(num, generator=generator) for _ in range(2)])),
        ("order", "lost their labels", split_apart_from_labels),
        ("order", "neighbours", split_with(lambda num, generator: [torch.arange(num)] * 2)),
        ("randomness", "same generator", split_without_generator),
        ("randomness", "Another generator", split_with_a_fixed_seed),
        ("value", "are lost", split_that_loses),
        ("value", "twice", split_that_repeats),
        ("type", "four things", lambda images, labels, num_test, generator: images),
        ("order", "test images came back", split_in_the_wrong_order),
    ],
    "mended_flow_log_density": [
        ("shape", "once for every dimension", lambda e, d: flow(e, e.shape[1] * d)),
        ("sign", "stretches", lambda e, d: flow(e, -d)),
        ("term", "are gone", lambda e, d: flow(e, 0 * d)),
        ("sum or mean", "one after the other", lambda e, d: flow(e, d / len(d))),
        ("value", "both faults", lambda e, d: flow(e, e.shape[1] * d / len(d))),
        ("term", "Only one", lambda e, d: flow(e, d[-1:])),
        ("sum or mean", "averaged", lambda e, d: flow(e, 0 * d) / e.shape[1] - d.sum(0)),
        ("term", "½ log 2π", lambda e, d: -0.5 * (e**2).sum(1) - d.sum(0)),
        ("axis", "shape", lambda e, d: flow(e, 0 * d).sum() - d.sum(1)),
    ],
    "mended_mixture_log_density": [
        ("order", "in each dimension",
         lambda z, c, w: (each_cloud(z, c) + w.log()[:, None]).logsumexp(1).sum(1)),
        ("term", "once for every dimension",
         lambda z, c, w: (each_cloud(z, c) + w.log()[:, None]).sum(2).logsumexp(1)),
        ("term", "adds up to K", lambda z, c, w: mixture(z, c, torch.ones(len(c)))),
        ("term", "the same weight", lambda z, c, w: mixture(z, c, torch.full((len(c),), 0.25))),
        ("scale", "weights multiply",
         lambda z, c, w: (each_cloud(z, c).sum(2) + w).logsumexp(1)),
        ("order", "the mean or the log", lambda z, c, w: (each_cloud(z, c).sum(2) * w).sum(1)),
        ("stability", "NaN or infinite",
         lambda z, c, w: (each_cloud(z, c).sum(2).exp() * w).sum(1).log()),
        ("axis", "shape", lambda z, c, w: (each_cloud(z, c).sum(2) + w.log()).logsumexp(0)),
        ("sign", "sign", lambda z, c, w: -mixture(z, c, w)),
    ],
    "mended_test_loss": [
        ("randomness", "two answers", loss_with(chance=None)),
        ("side effect", "two answers", loss_with(evaluate=False)),
        ("side effect", "Put it back", loss_with(back="no")),
        ("side effect", "Put it back", loss_with(back="flag")),
        ("side effect", "leaves in training mode", loss_with(back="train")),
        ("gradient", "graph", loss_with(grad=True)),
        ("value", "at the mean", loss_with(draw=False)),
        ("sign", "negative", loss_with(negative=False)),
        ("sum or mean", "One number", loss_with(mean=True)),
    ],
    "adds_up_to_one": [
        ("value", "says yes", is_negative),
        ("stability", "says no", adds_up_exactly),
        ("shape", "with two it does not", adds_up_for_three),
        ("value", "says no", adds_up_black_and_white),
        ("value", "says yes", adds_up_at_most),
        ("scale", "says yes", adds_up_roughly),
        ("order", "says no", adds_up_in_logs),
    ],
    "kl_passes_monte_carlo": [
        ("randomness", "says no", lambda kl, generator: by_draws(kl, generator, errors=0.5)),
        ("σ or variance", "how z is drawn",
         lambda kl, generator: by_draws(kl, generator, width=torch.exp)),
        ("randomness", "not drawn", by_the_formula),
        ("randomness", "not drawn",
         lambda kl, generator: by_draws(kl, torch.Generator().manual_seed(0))),
        ("value", "says yes",
         lambda kl, generator: by_draws(kl, generator, clouds=[([0.0], [0.0])])),
        ("randomness", "says yes", lambda kl, generator: by_draws(kl, generator, draws=3)),
        ("sign", "says yes", lambda kl, generator: by_draws(
            lambda *cloud: kl(*cloud).abs(), generator)),
    ],
}
