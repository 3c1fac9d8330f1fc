"""Checks of the exercises on bugs: code to be mended, and tests to be written."""

import math

import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)

from vae_lessons.checks.verdict import (
    Wrong,
    agree,
    as_number,
    as_tensor,
    ask,
    ask_with,
    check,
    compare,
    expect,
)


class _Model(nn.Module):
    """A small model with the answers that the exercises need; its dropout is lively."""

    def __init__(self, pixels=6, latents=2, dropout=0.0):
        super().__init__()
        self.heads, self.decoder = nn.Linear(pixels, 2 * latents), nn.Linear(latents, pixels)
        self.dropout = nn.Dropout(dropout)

    def encode(self, x):
        return self.heads(self.dropout(x)).chunk(2, dim=1)

    def decode(self, z):
        return 2 * self.decoder(z)


def _terms(model, x, eps):
    """The reconstruction term and the KL, each in every pixel or dimension: (B, D), (B, L)."""
    mu, log_var = model.encode(x)
    q = Normal(mu, (0.5 * log_var).exp())
    likelihood = Bernoulli(logits=model.decode(q.mean + q.stddev * eps))
    return likelihood.log_prob(x), kl_divergence(q, Normal(torch.zeros_like(mu), 1.0))


@check(points=2)
def mended_objective(answer):
    """Exercise: the ELBO of each image with two faults mended, -> (B,) in nats."""
    model, x = _Model(), torch.rand(5, 6).round()
    eps = torch.randn(5, 2)

    def wrong_width(model, x, eps):
        mu, log_var = model.encode(x)
        likelihood = Bernoulli(logits=model.decode(mu + log_var.exp() * eps)).log_prob(x)
        return likelihood.sum(1) - _terms(model, x, eps)[1].sum(1)

    def made_of(pixels, latents):
        def of(model, x, eps):
            likelihood, kl = _terms(model, x, eps)
            return pixels(likelihood) - latents(kl)
        return of

    total, average = (lambda t: t.sum(1)), (lambda t: t.mean(1))
    with torch.no_grad():
        expect(answer, (model, x, eps), made_of(total, total), {
            "Nothing has changed: both faults are still there.":
                made_of(average, lambda t: -t.sum(1)),
            "One fault is left. Put μ = 2 and σ = 1 into your KL. Which sign comes out?":
                made_of(total, lambda t: -t.sum(1)),
            "One fault is left. How many nats should the first loss of an untrained model be?":
                made_of(average, total),
            "Both terms are averages now. Each of them is a sum, over what?":
                made_of(average, average),
            "The pixels are summed now; the latent dimensions are averaged. Why should they be?":
                made_of(total, average),
            "The sign of the whole is turned: the objective is to be maximised.":
                made_of(lambda t: -t.sum(1), lambda t: -t.sum(1)),
            "The draw was right before: σ is the square root of the variance.": wrong_width,
        })
    value = as_tensor(answer(model, x, eps)).sum()
    if not value.requires_grad:
        raise Wrong("The values are right, and no gradient passes. Nothing would be learned.")
    heads, = torch.autograd.grad(value, [model.heads.weight], allow_unused=True)
    wanted, = torch.autograd.grad(
        made_of(total, total)(model, x, eps).sum(), [model.heads.weight])
    if heads is None or not agree(heads, wanted, 1e-3):
        raise Wrong("The values are right, but not the gradient in the encoder. Is z cut off?")


@check(points=2)
def mended_step(answer):
    """Exercise: one training step on a batch in parts of several sizes, -> the mean loss."""
    sizes = [4, 4, 1]
    x, eps = torch.rand(9, 6).round(), torch.randn(9, 2)
    parts = list(zip(x.split(sizes), eps.split(sizes), strict=True))

    def loss_of(model, part):
        likelihood, kl = _terms(model, *part)
        return (kl.sum(1) - likelihood.sum(1)).mean()

    def plain(weights, remember=False):
        def step(model, optimizer, loss_of, parts):
            optimizer.zero_grad(set_to_none=True) if not remember else None
            loss = sum(w * loss_of(model, part) for w, part in zip(weights, parts, strict=True))
            loss.backward()
            optimizer.step()
            return loss.item()
        return step

    def run(step, steps):
        torch.manual_seed(1)
        model = _Model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = [_asked(step, model, optimizer, loss_of, parts) for _ in range(steps)]
        return losses, torch.cat([each.detach().flatten() for each in model.parameters()])

    fair = [size / 9 for size in sizes]
    wanted, end = run(plain(fair), 3)
    losses, reached = run(answer, 3)
    if torch.equal(reached, run(plain(fair), 0)[1]):
        raise Wrong("The parameters have not moved. Which call moves them?")
    usual = {
        "The gradients pile up from step to step. Who clears them, and when?":
            plain(fair, remember=True),
        "Nothing has changed: both faults are still there.": plain([1, 1, 1], remember=True),
        "The parts are added up. The loss of a batch is a mean over its images.": plain([1, 1, 1]),
        "Only the last part has moved the parameters. Where are the other gradients lost?":
            plain([0, 0, 1]),
        "Only the last part has moved the parameters, and by its share. Where are the others lost?":
            plain([0, 0, 1 / 9]),
        "Every part counts the same. But the last holds one image, and the others four.":
            plain([1 / 3] * 3),
    }
    compare(reached, end, {hint: run(step, 3)[1] for hint, step in usual.items()},
            what="the parameters after three steps")
    compare(losses, wanted, {hint: run(step, 3)[0] for hint, step in usual.items()},
            what="the loss that you return")


def _asked(answer, *inputs):
    """The loss that the answer gives for these very inputs, which it is to change."""
    return as_number(ask_with(answer, *inputs), "the loss")


@check(points=1)
def mended_rows(answer):
    """Exercise: pixels (H, W, N) from 0 to 255 as rows from 0 to 1, -> (N, H * W)."""
    def truth(pixels):
        return torch.stack([pixels[:, :, n].flatten() for n in range(pixels.shape[2])]) / 255.0

    pixels = torch.randint(0, 240, (2, 3, 4), dtype=torch.uint8)
    expect(answer, (pixels,), truth, {
        "Each row has the right size and holds a bit of every image. Which axis counts the images?":
            lambda pixels: pixels.reshape(4, -1) / 255.0,
        "The images are right now, but not the range of their values.":
            lambda pixels: truth(pixels) * 255.0,
        "Rows and columns are exchanged: every image lies on its side.":
            lambda pixels: pixels.permute(2, 1, 0).flatten(1) / 255.0,
        "Nothing has changed: both faults are still there.":
            lambda pixels: pixels.reshape(4, -1).float(),
        "Divide by 255, whatever the largest pixel is: or one grey means two things.":
            lambda pixels: truth(pixels) * 255 / pixels.max(),
        "White is 255 in the file and must be 1 in the rows.":
            lambda pixels: truth(pixels) * 255 / 256,
    })


@check(points=2)
def mended_split(answer):
    """Exercise: training and test images that share none, with their labels, drawn by chance."""
    def split(num, num_test, seed):
        images, labels = torch.arange(num)[:, None] * torch.ones(3), torch.arange(num) % 7
        generator = torch.Generator().manual_seed(seed)
        parts = ask(answer, images, labels, num_test, generator)
        try:
            numbers = [[int(torch.as_tensor(row).flatten()[0]) for row in part] for part in parts]
            train, train_labels, test, test_labels = numbers
        except (TypeError, ValueError, IndexError):
            raise Wrong("Return four things in this order: training images, training labels, test "
                        "images, test labels.") from None
        for images, labels in ((train, train_labels), (test, test_labels)):
            if [each % 7 for each in images] != labels:
                raise Wrong("The images have lost their labels. Must both be shuffled in one way?")
        return train, test

    train, test = split(50, 10, 0)
    if both := set(train) & set(test):
        raise Wrong(f"{len(both)} images are in both parts. Then the test loss says how well the "
                    "model remembers.")
    if len(test) != 10:
        raise Wrong(f"{len(test)} test images came back, where num_test is 10.")
    if len(set(train + test)) < len(train + test):
        raise Wrong("Some images came back twice.")
    if len(train + test) < 50:
        raise Wrong(f"Of 50 images {50 - len(train + test)} are lost.")
    if max(test) - min(test) == 9:
        raise Wrong("The test images are neighbours in the file. If it is sorted by writer, they "
                    "are of few. How do you take them by chance?")
    if split(50, 10, 0) != (train, test):
        raise Wrong("The same generator gives another split. Draw with the one you are given.")
    if set(split(50, 10, 1)[1]) == set(test):
        raise Wrong("Another generator gives the same split.")


@check(points=2)
def mended_flow_log_density(answer):
    """Exercise: log density behind a flow of K layers, (B, L), (K, B) -> (B,) in nats."""
    def base(eps):
        return Normal(0.0, 1.0).log_prob(eps)

    expect(answer, (torch.randn(5, 3), torch.randn(4, 5)), lambda e, d: base(e).sum(1) - d.sum(0), {
        "The log-determinants are counted once for every dimension. They belong to whole maps.":
            lambda e, d: base(e).sum(1) - 3 * d.sum(0),
        "The sign of the log-determinants is turned. A map that stretches makes the density lower.":
            lambda e, d: base(e).sum(1) + d.sum(0),
        "The log-determinants are gone.": lambda e, d: base(e).sum(1),
        "The layers act one after the other. What happens to their determinants, and to the logs?":
            lambda e, d: base(e).sum(1) - d.mean(0),
        "Nothing has changed: both faults are still there.":
            lambda e, d: base(e).sum(1) - 3 * d.mean(0),
        "Only one of the layers is counted.": lambda e, d: base(e).sum(1) - d[-1],
        "The log-determinants are right. The base density is averaged over the dimensions.":
            lambda e, d: base(e).mean(1) - d.sum(0),
        "The constant of the Gaussian is missing: ½ log 2π for every dimension.":
            lambda e, d: base(e).sum(1) - d.sum(0) + 1.5 * math.log(2 * math.pi),
    })


@check(points=2)
def mended_mixture_log_density(answer):
    """Exercise: log density of a mixture of clouds, (B, L), (K, L), (K,) -> (B,) in nats."""
    def each(z, centres):
        return Normal(centres, 1.0).log_prob(z[:, None])  # (B, K, L)

    def truth(z, centres, weights):
        clouds = Independent(Normal(centres, torch.ones_like(centres)), 1)
        return MixtureSameFamily(Categorical(weights), clouds).log_prob(z)

    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    expect(answer, (2 * torch.randn(5, 3), 2 * torch.randn(4, 3), weights), truth, {
        "A cloud is still chosen anew in each dimension. Which sum has to be taken first?":
            lambda z, c, w: (each(z, c) + w.log()[:, None]).logsumexp(1).sum(1),
        "The weight of a cloud is counted once for every dimension.":
            lambda z, c, w: (each(z, c) + w.log()[:, None]).sum(2).logsumexp(1),
        "The clouds have no weights: as it stands, the density adds up to K.":
            lambda z, c, w: each(z, c).sum(2).logsumexp(1),
        "All clouds have the same weight in your density.":
            lambda z, c, w: each(z, c).sum(2).logsumexp(1) - math.log(4),
        "Logs are added, and weights multiply: you add a weight to a log.":
            lambda z, c, w: (each(z, c).sum(2) + w).logsumexp(1),
        "You average the logs of the clouds. Which comes first, the mean or the log?":
            lambda z, c, w: (each(z, c).sum(2) * w).sum(1),
    })
    far = 60 + torch.zeros(1, 3), torch.zeros(4, 3), weights
    expect(answer, far, truth, what="the log density of a point far from every cloud")


@check(points=2)
def mended_test_loss(answer):
    """Exercise: -ELBO of a test set that comes out the same each time, (N, D) -> (N,) in nats."""
    model, images = _Model(dropout=0.5), torch.rand(7, 6)
    model.train()
    got = [_test_loss(answer, model, images) for _ in range(2)]
    if not torch.equal(*got):
        raise Wrong("Asked twice, it gives two answers. What is still drawn anew: the coins of the "
                    "pixels, the neurons that dropout leaves out?")
    if got[0].requires_grad:
        raise Wrong("The loss carries its whole graph with it. Nobody will call backward here.")
    if not all(module.training for module in model.modules()):
        raise Wrong("The model came in training mode and leaves in evaluation mode, or a part of "
                    "it does. Put it back with model.train(...).")
    model.eval()
    x = (torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) < images).float()
    eps = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    compare(got[0], _loss(model, x, eps), {
        "z lies at the mean of the cloud. Then it is no bound: draw it, with the generator.":
            _loss(model, x, 0 * eps),
        "This is the ELBO. The loss is its negative.": -_loss(model, x, eps),
        "One number for the whole set came out. Each image has a loss of its own.":
            _loss(model, x, eps).mean(),
    }, what="the loss")
    _test_loss(answer, model, images)
    if any(module.training for module in model.modules()):
        raise Wrong("The model came in evaluation mode and leaves in training mode.")


def _loss(model, x, eps):
    likelihood, kl = _terms(model, x, eps)
    return kl.sum(1) - likelihood.sum(1)


def _test_loss(answer, model, images):
    return as_tensor(ask_with(answer, model, images.clone()), "the loss")


@check(points=2)
def adds_up_to_one(answer):
    """Exercise: whether a log-likelihood of pixels with grey levels is one, -> bool."""
    def of_levels(levels):
        return torch.log_softmax(2 * torch.randn(3, levels), dim=1)  # (pixels, levels)

    def likelihood(log_probs):
        places = torch.arange(len(log_probs))
        return lambda x: log_probs[places[: x.shape[1]], x.long()].sum(dim=1)

    three, two = of_levels(3), of_levels(2)

    def certain(x):  # one image has all the probability, the others none at all
        return torch.where((x == 1).all(dim=1), 0.0, -math.inf)

    right = {
        "three levels": (likelihood(three), 3), "two levels": (likelihood(two), 2),
        "five levels": (likelihood(of_levels(5)), 5), "all images alike":
            (lambda x: torch.full((len(x),), -3 * math.log(3.0)), 3),
        "a certain image": (certain, 3),
    }
    wrong = {
        "levels that are not normalised": lambda x: likelihood(three - 0.1)(x),
        "the mean over the pixels": lambda x: likelihood(three)(x) / 3,
        "twice the right log-likelihood": lambda x: 2 * likelihood(three)(x),
        "the right one plus 0.01": lambda x: likelihood(three)(x) + 0.01,
    }
    for name, (sound, levels) in right.items():
        if not _yes_or_no(answer, sound, 3, levels):
            raise Wrong(f"Your test says no to a log-likelihood that is right ({name}). Do you "
                        "take all images, with every level in every pixel, and allow for rounding?")
    for name, fault in wrong.items():
        if _yes_or_no(answer, fault, 3, 3):
            raise Wrong(f"Your test says yes to a log-likelihood that is wrong ({name}). What must "
                        "the probabilities of all images add up to?")
    if not _yes_or_no(answer, lambda x: likelihood(three[:2])(x[:, :2]), 2, 3):
        raise Wrong("With three pixels your test works, and with two it does not.")


def _yes_or_no(answer, *inputs):
    return bool(ask_with(answer, *inputs))


@check(points=3)
def kl_passes_monte_carlo(answer):
    """Exercise: whether a function gives the KL to N(0, I), judged by draws alone, -> bool."""
    def kl(mu, log_var):
        return kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(dim=1)

    def says(function, seed):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        before = generator.get_state()
        said = _yes_or_no(answer, function, generator)
        if before.equal(generator.get_state()):
            raise Wrong("Your test has not drawn anything with the generator that it was given.")
        return said

    wrong = {
        "minus the KL": lambda mu, log_var: -kl(mu, log_var),
        "the mean over the dimensions": lambda mu, log_var: kl(mu, log_var) / mu.shape[1],
        "log_var taken for log σ": lambda mu, log_var: kl(mu, 2 * log_var),
        "twice the KL": lambda mu, log_var: 2 * kl(mu, log_var),
        "the KL without μ²": lambda mu, log_var: kl(0 * mu, log_var),
        "the KL the other way round": lambda mu, log_var: kl_divergence(
            Normal(0.0, 1.0), Normal(mu, (0.5 * log_var).exp())).sum(dim=1),
    }
    for seed in range(10):
        if not says(kl, seed):
            raise Wrong("Your test says no to the right formula. How far may a mean of draws lie "
                        "from the truth? Ask its standard error, and allow several of them. If it "
                        "says no whatever you allow, look at how z is drawn.")
    for name, fault in wrong.items():
        if says(fault, 0):
            raise Wrong(f"Your test says yes to a wrong formula ({name}). Try several clouds, none "
                        "of them the prior itself, and more draws.")
