"""Checks of the exercises on latent spaces, evaluation and the weight of the KL."""

import math
import statistics

import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from vae_lessons.checks.verdict import (
    Wrong,
    agree,
    as_number,
    as_parts,
    as_tensor,
    as_tensors,
    ask,
    check,
    compare,
    expect,
    expect_gradient,
)


@check(points=1)
def squared_length_on_line(answer):
    """Exercise: mean of ``|(1 - t) a + t b|^2`` for a, b from N(0, I), (T,), int -> (T,)."""
    def truth(t, latent_dim):
        # A coin of -1 and 1 has the mean and the variance of N(0, 1): all four throws of two.
        throws = [(a, b) for a in (-1, 1) for b in (-1, 1)]
        return latent_dim * sum(((1 - t) * a + t * b) ** 2 for a, b in throws) / 4

    t = torch.tensor([0.0, 0.15, 0.5, 0.7, 0.9, 1.0])
    for latent_dim in (7, 20):
        expect(answer, (t, latent_dim), truth, {
            "You give the length all along as that of the ends. Two draws of the prior do not "
            "point the same way: how far from 0 is the mean of two independent numbers?":
                lambda t, latent_dim: torch.full_like(t, latent_dim),
            "You return a length, and its square is asked for.":
                lambda t, latent_dim: truth(t, latent_dim).sqrt(),
            "You return the mean square of one coordinate. How many are added up?":
                lambda t, latent_dim: truth(t, 1),
            "You add the shares 1 − t and t as they are. What happens to a variance when the "
            "number is multiplied by t?": lambda t, latent_dim: latent_dim * (1 - t + t),
            "Your two ends cancel, as if b were −a. But they are independent.":
                lambda t, latent_dim: latent_dim * (1 - 2 * t) ** 2,
            "One of the two ends is missing: at t = 0 and at t = 1 a draw of the prior is left.":
                lambda t, latent_dim: latent_dim * (1 - t) ** 2,
        })


@check(points=2)
def arc_between(answer):
    """Exercise: points at even angles and even lengths, (L,), (L,), int -> (steps, L)."""
    def fractions(steps):
        return torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]

    def lengths(start, end, steps):
        return (1 - fractions(steps)) * start.norm() + fractions(steps) * end.norm()

    def truth(start, end, steps):
        start, end = start.double(), end.double()
        q, r = torch.linalg.qr(torch.stack([start, end], dim=1))  # the plane of both
        u, v = (each / each.norm() for each in r.T)
        angle = torch.atan2((u[0] * v[1] - u[1] * v[0]), u @ v)
        quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
        turned = torch.stack([
            torch.matrix_exp(t * angle * quarter) @ u for t in fractions(steps).flatten()])
        return lengths(start, end, steps) * (turned @ q.T)

    def line(start, end, steps):
        return (1 - fractions(steps)) * start + fractions(steps) * end

    def pushed_line(start, end, steps):
        points = line(start, end, steps)
        return lengths(start, end, steps) * points / points.norm(dim=1, keepdim=True)

    def unit_line(start, end, steps):
        return pushed_line(start / start.norm(), end / end.norm(), steps) * lengths(
            start, end, steps)

    def sines(start, end, steps, a=None, b=None):
        """The usual formula; with other ends the angle stays that of the first pair."""
        a, b = start if a is None else a, end if b is None else b
        t, angle = fractions(steps), torch.arccos(start @ end / start.norm() / end.norm())
        return (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()

    def without_lengths(start, end, steps):
        return sines(start, end, steps, start / start.norm(), end / end.norm())

    start = torch.tensor([1.5, -0.4, 0.3, 0.2])
    end = torch.tensor([-0.3, 0.9, -2.5, 1.1])
    for inputs in ((start, end, 7), (end[:3], start[:3], 4), (3 * start, end, 2)):
        got = as_tensor(ask(answer, *inputs), "the points")
        usual = {
            "This is the straight line: its middle lies nearer to the origin than its ends.":
                line(*inputs),
            "The lengths are right, but the angles between neighbours are not even: you push "
            "the points of the straight line out.": pushed_line(*inputs),
            "The lengths are right, but the angles between neighbours are not even: you push "
            "the points of a straight line between the two directions out.": unit_line(*inputs),
            "The directions are right, but all points lie at the distance 1 from the origin.":
                without_lengths(*inputs),
            "The directions are right, but all points have the length of the start.":
                without_lengths(*inputs) * inputs[0].norm(),
            "You turn two vectors of different lengths. Then neither the angles nor the lengths "
            "are even: turn the directions, and give each point its length afterwards.":
                sines(*inputs),
        }
        wanted = truth(*inputs)
        if got.shape == wanted.shape and not got.isfinite().all():
            raise Wrong("There are NaN or infinite values. An arccos wants a number between −1 "
                        "and 1: of which two vectors did you take the product?")
        if got.shape == (inputs[2] - 2, len(inputs[0])):
            raise Wrong("The two ends are missing: they count among the points.")
        if got.shape == wanted.shape and not any(agree(got, each, 1e-3) for each in usual.values()):
            _check_walk(got.double(), wanted)
        compare(got, wanted, usual, tolerance=1e-3, what="the points")


def _check_walk(got, wanted):
    """Says which property a walk lacks: its ends, its plane, its lengths or its angles."""
    for end, name in ((0, "start"), (-1, "end")):
        if not agree(got[end], wanted[end], 1e-3):
            raise Wrong(f"The {'first' if end == 0 else 'last'} point is not the {name}. "
                        + ("" if end == 0 else "By which angle do you turn in all, and have the "
                           "directions that you turn between the length 1?"))
    if not agree(got.norm(dim=1), wanted.norm(dim=1), 1e-3):
        raise Wrong("The walk begins and ends where it should, but the lengths between are not "
                    "even.")


@check(points=1)
def neighbours_agree(answer):
    """Exercise: share of the nearest other codes with the same label, (N, L), (N,), int -> ()."""
    def votes(codes, labels, keep):
        """The labels of all codes in the order of distance, cut by ``keep``, against its own."""
        shares = []
        for i, code in enumerate(codes.double()):
            order = (codes.double() - code).square().sum(dim=1).argsort()
            shares.append(labels[keep(order, i)] == labels[i])
        return torch.stack(shares).double()

    def truth(codes, labels, neighbours):
        return votes(codes, labels, lambda order, i: order[order != i][:neighbours]).mean()

    def with_itself(codes, labels, neighbours):
        return votes(codes, labels, lambda order, i: order[:neighbours]).mean()

    def one_too_few(codes, labels, neighbours):
        return votes(codes, labels, lambda order, i: order[1:neighbours]).mean()

    def one_too_many(codes, labels, neighbours):
        return votes(codes, labels, lambda order, i: order[:neighbours + 1]).mean()

    def skips_the_nearest(codes, labels, neighbours):
        return votes(codes, labels, lambda order, i: order[2:neighbours + 2]).mean()

    def farthest(codes, labels, neighbours):
        return votes(codes, labels, lambda order, i: order.flip(0)[:neighbours]).mean()

    def without_distance_zero(codes, labels, neighbours):
        distances = (codes.double()[:, None] - codes.double()).norm(dim=2)
        distances[distances == 0] = torch.inf
        nearest = distances.topk(neighbours, largest=False).indices
        return (labels[nearest] == labels[:, None]).double().mean()

    def most_agree(codes, labels, neighbours):
        agreeing = votes(codes, labels, lambda order, i: order[order != i][:neighbours])
        return (agreeing.mean(dim=1) > 0.5).double().mean()

    labels = torch.randint(0, 3, (41,))
    codes = torch.randn(41, 2) + labels[:, None]
    codes[30:36], labels[30:36] = codes[:6], labels[:6]  # some lie at the same place
    for neighbours in (4, 7):
        expect(answer, (codes, labels, neighbours), truth, {
            "The share is still too high. Which code is the nearest of all to a code?":
                with_itself,
            "No code votes for itself any more, but each asks one neighbour too few.":
                one_too_few,
            "You ask for one neighbour more, and then do not leave the first one out.":
                one_too_many,
            "You leave out one neighbour too many: the nearest of the others is missing.":
                skips_the_nearest,
            "You leave out whatever lies at the distance 0. But two codes may lie at the same "
            "place; only the code itself is to be left out.": without_distance_zero,
            "You ask the codes that are farthest away.": farthest,
            "You count the codes of which most neighbours agree. Asked for is the share of all "
            "neighbours.": most_agree,
            "You count how many agree; the share is asked for.":
                lambda codes, labels, neighbours: 41 * neighbours * truth(
                    codes, labels, neighbours),
            "You leave a code out, but still divide by all that you looked up, itself included.":
                lambda codes, labels, neighbours: truth(
                    codes, labels, neighbours) * neighbours / (neighbours + 1),
        })


@check(points=1)
def difference_and_error(answer):
    """Exercise: how much better B is, and its standard error, (N,), (N,) -> two, in nats."""
    hard = 100 + 40 * torch.randn(60)
    loss_a, loss_b = hard + 9 * torch.randn(60), hard - 5 + 7 * torch.randn(60)
    _expect_gain(answer, loss_a, loss_b)
    _expect_gain(answer, loss_b, loss_a)


def _expect_gain(answer, loss_a, loss_b):
    got = _two_numbers(ask(answer, loss_a, loss_b))
    a, b = loss_a.tolist(), loss_b.tolist()
    gains = [each - other for each, other in zip(a, b)]
    mean = statistics.fmean(gains)
    for correction in (1, 0):  # N - 1 or N: both are right here
        error, of_a, of_b = (_error(each, correction) for each in (gains, a, b))
        if agree(got, torch.tensor([mean, error])):
            return
        _name_the_mistake(got, {
            "Here A is the better one. Then the mean is below zero.": [abs(mean), error],
            "The sign: B is better where its loss is lower, and then the mean is positive.":
                [-mean, error],
            "The mean is right. Its error is that of two means from two sets of images. But both "
            "models saw the same images, and what is hard for one is hard for the other.":
                [mean, math.hypot(of_a, of_b)],
            "The mean is right. What stands beside it is the spread of single images. How much "
            "less does a mean of N images scatter?": [mean, error * len(a) ** 0.5],
            "The mean is right. What stands beside it is a variance, in squared nats.":
                [mean, error**2],
            "The mean is right, but the spread of single images is divided by N. How does the "
            "error of a mean fall with N?": [mean, error / len(a) ** 0.5],
            "The mean is right. Beside it stands the difference of the two models' errors. Take "
            "the difference of the losses first, image by image.": [mean, of_a - of_b],
            "The mean is right. Beside it stands the sum of the two models' errors. Take the "
            "difference of the losses first, image by image.": [mean, of_a + of_b],
            "First the mean, then its error: yours are the other way round.": [error, mean],
        })
    compare(got, [mean, error], what="the pair (mean, error)")


@check(points=1)
def units_in_use(answer):
    """Exercise: which units are active, with the threshold 0.01, (N, L), (N, L) -> (L,)."""
    def truth(mu, log_var):
        columns = mu.T.tolist()
        return torch.tensor([statistics.variance(column) > 0.01 for column in columns])

    def mean_kl(mu, log_var):
        return kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).mean(dim=0)

    # Speaks, is silent, stands still off 0, hardly moves, has a KL but stands still, speaks,
    # stands still off 0 and is as wide as the prior.
    spread = torch.tensor([0.9, 0.0, 0.001, 0.05, 0.0, 0.2, 0.0])
    offset = torch.tensor([0.1, 0.0, 0.8, 0.0, 0.0, -0.1, 0.5])
    mu = offset + spread * torch.randn(70, 7)
    log_var = torch.tensor([-1.5, 0.05, -0.5, 0.05, -1.2, -0.1, 0.05]) + 0.01 * torch.randn(70, 7)

    def drawn(mu, log_var):
        return (mu + (0.5 * log_var).exp() * torch.randn_like(mu)).var(dim=0) > 0.01

    expect(answer, (mu, log_var), truth, {
        "All units come out as active. A draw from a cloud moves even if the cloud says "
        "nothing of the image. What stands still, then?": drawn,
        "You look at the standard deviation, but the threshold is one for the variance.":
            lambda mu, log_var: mu.std(dim=0) > 0.01,
        "You look at the KL. A unit that gives the same cloud for every image can have a KL and "
        "says nothing.": lambda mu, log_var: mean_kl(mu, log_var) > 0.01,
        "You look at the widths. A cloud may be narrow and stand at the same place for every "
        "image.": lambda mu, log_var: log_var.exp().mean(dim=0) < 0.99,
        "You take the mean square for the variance. A unit may stand still away from 0.":
            lambda mu, log_var: mu.square().mean(dim=0) > 0.01,
        "One answer for each image came out; one for each unit is wanted. Over which axis does "
        "the centre have to move?": lambda mu, log_var: mu.var(dim=1) > 0.01,
        "Variances came out. Asked for is yes or no for each unit.":
            lambda mu, log_var: mu.var(dim=0),
        "The number of active units came out. Asked for is yes or no for each unit.":
            lambda mu, log_var: truth(mu, log_var).sum(),
        "Yes and no are the wrong way round.": lambda mu, log_var: ~truth(mu, log_var),
    }, what="the active units")


@check(points=1)
def nll_of_all(answer):
    """Exercise: mean NLL of all images and its error, (N,), (M,), (M,) -> two, in nats."""
    elbo_loss = 100 + 25 * torch.randn(300)
    chosen = torch.randperm(300)[:45]
    nll = elbo_loss[chosen] - 6 - 2.5 * torch.randn(45)
    got = _two_numbers(ask(answer, elbo_loss, chosen, nll))
    of_all, of_chosen, dear = elbo_loss.tolist(), elbo_loss[chosen].tolist(), nll.tolist()
    gaps = [cheap - other for cheap, other in zip(of_chosen, dear)]
    first = [cheap - other for cheap, other in zip(of_all, dear)]
    whole, gap = statistics.fmean(of_all), statistics.fmean(gaps)
    ratio = statistics.fmean(dear) / statistics.fmean(of_chosen)
    slope = statistics.linear_regression(of_chosen, dear).slope
    mixed = (sum(of_all) - sum(gaps)) / 300
    for correction in (1, 0):  # M - 1 or M: both are right here
        mean, error, of_nll, of_elbo = whole - gap, *(
            _error(each, correction) for each in (gaps, dear, of_all))
        if agree(got, torch.tensor([mean, error])):
            return
        _name_the_mistake(got, {hint: [mean, wrong] for hint, wrong in {
            "The mean is right, but its error is that of the few images' NLL alone. What have "
            "you averaged over the few?": of_nll,
            "The mean is right. Its error holds the scatter of all images as well: that would "
            "be for other test images than these.": math.hypot(of_elbo, error),
            "The mean is right. Its error is that of two means from different images. But a gap "
            "is the difference of two numbers of one image.": math.hypot(
                _error(of_chosen, correction), of_nll),
            "The mean is right. What stands beside it is the spread of single gaps.":
                error * len(gaps) ** 0.5,
            "The mean is right, but only M images have a gap, and you divide by the root of N.":
                error * (len(gaps) / len(of_all)) ** 0.5,
            "The mean is right. Its error is that of the mean −ELBO. But that is known of all "
            "images. What is known of a few only?": of_elbo,
        }.items()})
    wrong_means = {
        "Your mean is that of the few images alone. Nothing then corrects for their being harder "
        "or easier than the rest.": statistics.fmean(dear),
        "You add the gap. The NLL is smaller than −ELBO.": whole + gap,
        "You have put the NLL in the place of the −ELBO of the images that have one, and left "
        "the others as they are. What is the gap of those?": mixed,
        "You compare `nll` with the first M images. Which images does it belong to?":
            whole - statistics.fmean(first),
        "You scale −ELBO by a ratio. The gap is a difference in nats, and hardly depends on how "
        "hard the image is.": whole * ratio,
        "You draw a line through the few images. The mean gap is asked for, with the slope 1.":
            statistics.fmean(dear) + slope * (whole - statistics.fmean(of_chosen)),
        "Your mean is that of −ELBO.": whole,
        "Your mean is the mean gap. Asked for is the mean NLL of all images.": gap,
    }
    for hint, wrong in wrong_means.items():
        if agree(got[0], torch.tensor(wrong)):
            raise Wrong(hint)
    compare(got, [mean, error], what="the pair (mean, error)")


@check(points=3)
def split_gap(answer):
    """Exercise: approximation and amortisation, (B, L) three times, (L, L) -> (), (B,)."""
    size, batch = 3, 5
    root = torch.randn(size, size, dtype=torch.float64)
    covariance = (root @ root.T + 0.3 * torch.eye(size)).double()
    mean, mu = torch.randn(2, batch, size, dtype=torch.float64)
    log_var = torch.randn(batch, size, dtype=torch.float64) - 1

    def along_axes(centre, variances):
        return MultivariateNormal(centre, torch.diag_embed(variances))

    posterior = MultivariateNormal(mean, covariance.expand(batch, -1, -1))
    best = 1 / torch.linalg.inv(covariance).diagonal()
    q, q_best, q_wide = (along_axes(*each) for each in (
        (mu, log_var.exp()), (mean, best.expand_as(mean)),
        (mean, covariance.diagonal().expand_as(mean))))
    q_inverse = along_axes(mean, (1 / best).expand_as(mean))
    gap, least = kl_divergence(q, posterior), kl_divergence(q_best, posterior)
    wide = kl_divergence(q_wide, posterior)
    inputs = tuple(each.float() for each in (mu, log_var, mean, covariance))
    first, second = as_tensors(ask(answer, *inputs), "the approximation", "the amortisation")
    if first.numel() == 1:
        first = first.reshape(1).expand(batch)
    compare(first, least, {
        "As the variances of the best cloud you take those of the posterior along each axis. "
        "That cloud covers places where the posterior is not. Which variances minimise the KL "
        "from q?": wide,
        "As the variances of the best cloud you take the diagonal of the precision Σ⁻¹ itself. Is "
        "a precise thing wide or narrow?": kl_divergence(q_inverse, posterior),
        "Your approximation is the KL in the other direction. The gap is the KL *from* q *to* "
        "the posterior.": kl_divergence(posterior, q_best),
        "Your approximation is the KL in the other direction, and with its best cloud. The gap "
        "is the KL *from* q *to* the posterior.": kl_divergence(posterior, q_wide),
        "Your approximation is the whole gap of the encoder's cloud. What does the *best* cloud "
        "along the axes lose?": gap,
        "Your first part is the amortisation. The approximation comes first.": gap - least,
        "Is the factor one half missing in the approximation?": 2 * least,
        "Your approximation is negative. A KL never is.": -least,
    }, tolerance=2e-3, what="the approximation")
    compare(second, gap - least, {
        "Your amortisation is the whole gap. What no cloud along the axes can do is not the "
        "encoder's fault.": gap,
        "Your amortisation is the KL from the encoder's cloud to the best one. But what it loses "
        "is measured against the posterior, which is not along the axes.":
            kl_divergence(q, q_best),
        "Your amortisation is negative. The best cloud cannot lose more than the encoder's.":
            least - gap,
        "Your amortisation is against a cloud with the posterior's own variances, and that is "
        "not the best one.": gap - wide,
        "You average the amortisation over the images. Each image has its own.":
            (gap - least).mean(),
    }, tolerance=2e-3, what="the amortisation")


@check(points=1)
def warmed_loss(answer):
    """Exercise: the loss in warm-up, (B,), (B,), int, int, float -> () in nats."""
    def weight_at(step, warm_up_steps, beta):
        return beta if step >= warm_up_steps else beta * step / warm_up_steps

    def with_weight(weight):
        def loss(reconstruction, kl, *rest):
            pairs = zip(reconstruction.tolist(), kl.tolist())
            return statistics.fmean(weight(*rest) * nats - bonus for bonus, nats in pairs)
        return loss

    def both_weighted(reconstruction, kl, *rest):
        return (weight_at(*rest) * (kl - reconstruction)).mean()

    def as_given(reconstruction, kl, step, warm_up_steps, beta):
        return (min(beta, step / warm_up_steps) * (kl - reconstruction)).mean()

    mistakes = {
        "Both faults are still there.": as_given,
        "The weight is right, but it multiplies both terms. At step 0 nothing is then learned.":
            both_weighted,
        "The KL alone is weighted now, but the weight does not climb to beta in the time given. "
        "With beta = 4, when is it 4?":
            with_weight(lambda step, steps, beta: min(beta, step / steps)),
        "The weight climbs to 1 and not to beta.":
            with_weight(lambda step, steps, beta: min(1.0, step / steps)),
        "The weight goes on climbing after the warm-up.":
            with_weight(lambda step, steps, beta: beta * step / steps),
        "The weight falls where it should climb.":
            with_weight(lambda step, steps, beta: beta - weight_at(step, steps, beta)),
        "The sign of the whole is wrong: a loss is to be minimised.":
            lambda *inputs: -truth(*inputs),
        "You add up the images of the batch; the faulty function takes their mean, and that was "
        "no fault.": lambda reconstruction, *rest: len(reconstruction) * truth(
            reconstruction, *rest),
        "The reconstruction term has the wrong sign.":
            lambda reconstruction, *rest: truth(-reconstruction, *rest),
        "One number for each image came out; the loss is one number.":
            lambda reconstruction, kl, *rest: weight_at(*rest) * kl - reconstruction,
    }
    truth = with_weight(weight_at)
    terms = -100 + 20 * torch.randn(5), 25 + 5 * torch.rand(5)
    for step in (2500, 0, 250, 700, 1000):  # the first one tells most mistakes apart
        for beta in (4.0, 0.5):
            expect(answer, (*terms, step, 1000, beta), truth, mistakes, what="the loss")
    expect_gradient(lambda *terms: answer(*terms, 250, 1000, 4.0), terms,
                    lambda reconstruction, kl: (kl - reconstruction).mean())


@check(points=2)
def free_bits(answer):
    """Exercise: what the units of a batch are charged, (B, L), float -> () in nats."""
    def truth(kl, floor):
        return sum(max(floor, statistics.fmean(unit)) for unit in kl.T.tolist())

    silent, loud, rare = 0.1 * torch.rand(8, 2), 1 + torch.rand(8, 2), torch.zeros(8, 1)
    rare[3] = 7.0  # speaks of one image, and above the floor on average
    kl = torch.cat([silent, loud, rare], dim=1)
    for floor in (0.5, 0.02, 0.0):
        expect(answer, (kl, floor), truth, {
            "You hold the floor under the KL of every image. It is the *mean* over the batch that "
            "is held up: a unit that speaks of one image, and loudly, is not charged for the "
            "others.": lambda kl, floor: kl.clamp(min=floor).mean(dim=0).sum(),
            "You add up the units first and then hold the floor under the sum: one loud unit "
            "pays for the silence of all others. Each unit has its own floor.":
                lambda kl, floor: kl.sum(dim=1).mean().clamp(min=floor),
            "You add up the units of each image and hold the floor under that sum. Each unit has "
            "its own floor.": lambda kl, floor: kl.sum(dim=1).clamp(min=floor).mean(),
            "You charge only what lies above the floor. With a floor, a unit is charged the whole "
            "of its mean KL, or the floor if that is more.":
                lambda kl, floor: (kl.mean(dim=0) - floor).relu().sum(),
            "Yours is a ceiling: a unit is never charged more than the floor.":
                lambda kl, floor: kl.mean(dim=0).clamp(max=floor).sum(),
            "You sum over the batch. A unit is charged its mean over the images.":
                lambda kl, floor: kl.sum(dim=0).clamp(min=floor).sum(),
            "You average over the units. What they are charged is added up.":
                lambda kl, floor: kl.mean(dim=0).clamp(min=floor).mean(),
            "The means run over the units, and the floor is held under each image. Which axis "
            "counts the images?": lambda kl, floor: kl.mean(dim=1).clamp(min=floor).sum(),
            "You have not added up what the units are charged.":
                lambda kl, floor: kl.mean(dim=0).clamp(min=floor),
            "A unit below its floor is charged nothing. It should be charged the floor.":
                lambda kl, floor: torch.where(kl.mean(dim=0) > floor, kl.mean(dim=0), 0).sum(),
        }, what="the charge")
    leaf = kl.clone().requires_grad_()
    value = as_tensor(answer(leaf * 1, 0.5)).sum()
    pull = (torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad
            else None)
    if pull is None or not pull[:, 2:].any():
        raise Wrong("The number is right, but no gradient passes through it. Look for `.item()`, "
                    "`float(...)`, `.tolist()` or `.detach()`.")
    if pull[:, :2].any():
        raise Wrong("The number is right, but a unit below its floor is still pulled.")
    compare(pull[:, 2:], torch.full((8, 3), 1 / 8), what="the pull on the units above the floor")


def _rate_by_training(x, latent_dim, beta, variance):
    """The rate of a linear VAE that was trained on x, in float64 and on all of x at once.

    Shapes: x (N, D), variance (D,) -> a number.
    """
    pixels = x.double() - x.double().mean(dim=0)
    covariance = pixels.T @ pixels / len(pixels)
    identity, size = torch.eye(x.shape[1], dtype=torch.float64), (x.shape[1], latent_dim)
    generator = torch.Generator().manual_seed(0)
    decoder, encoder = (0.3 * torch.randn(*size, generator=generator, dtype=torch.float64)
                        for _ in range(2))
    weights = [decoder, encoder.T.contiguous(), torch.zeros(latent_dim, dtype=torch.float64)]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.LBFGS(weights, max_iter=200, tolerance_grad=1e-6,
                                  tolerance_change=1e-10, line_search_fn="strong_wolfe")

    def rate():
        _, encoder, log_s = weights
        spread = (encoder @ covariance @ encoder.T).diagonal()
        return 0.5 * (spread + log_s.exp() - log_s - 1).sum()

    def loss():
        optimizer.zero_grad()
        decoder, encoder, log_s = weights
        missed = identity - decoder @ encoder
        error = (missed @ covariance @ missed.T).diagonal()
        error = error + (decoder.square() * log_s.exp()).sum(dim=1)  # (D,)
        value = (error / (2 * variance.double())).sum() + beta * rate()
        value.backward()
        return value

    optimizer.step(loss)
    return rate().item()


@check(points=2)
def linear_rate(answer):
    """Exercise: rate of the best linear VAE, (N, D), int, float, (D,) -> () in nats."""
    widths = torch.tensor([2.0, 1.3, 0.8, 0.45, 0.25])
    turn = torch.linalg.qr(torch.randn(5, 5)).Q
    x = 1.5 + (widths * torch.randn(300, 5)) @ turn

    def rate(eigenvalues, latent_dim, noise):
        above = eigenvalues.sort(descending=True).values[:latent_dim] / noise
        return 0.5 * above.clamp(min=1).log().sum()

    def eigenvalues(x):
        return torch.linalg.svdvals((x - x.mean(dim=0)).double()) ** 2 / len(x)

    def of_pixels(x, latent_dim, beta, variance):
        return rate(eigenvalues(x), latent_dim, beta * variance.mean())

    def of_unit(change):
        """A mistake after the right change of units, from the eigenvalues in that unit."""
        def mistaken(x, latent_dim, beta, variance):
            return change(eigenvalues(x / variance.sqrt()), latent_dim, beta)
        return mistaken

    def raw_moments(x, latent_dim, beta, variance):
        x = (x / variance.sqrt()).double()
        return rate(torch.linalg.svdvals(x) ** 2 / len(x), latent_dim, beta)

    def between_images(x, latent_dim, beta, variance):
        x = (x / variance.sqrt()).double()
        x = x - x.mean(dim=1, keepdim=True)
        return rate(torch.linalg.svdvals(x) ** 2 / (x.shape[1] - 1), latent_dim, beta)

    mistakes = {
        "You take one noise for all pixels. A pixel with little noise counts for more: measure "
        "each pixel in a unit in which its noise is 1.": of_pixels,
        "An eigenvalue belongs to a direction, and you divide it by the noise of a single pixel. "
        "Which change of units makes the noise the same in all directions?":
            lambda x, latent_dim, beta, variance: rate(
                eigenvalues(x)[:latent_dim] / variance[:latent_dim], latent_dim, beta),
        "You divide each pixel by its variance. In which unit is its noise 1?":
            lambda x, latent_dim, beta, variance: rate(
                eigenvalues(x / variance), latent_dim, beta),
        "You multiply the pixels where they should be divided: more noise must count for less.":
            lambda x, latent_dim, beta, variance: rate(
                eigenvalues(x * variance.sqrt()), latent_dim, beta),
        "A unit whose direction does not stand out of the noise dies, and a dead unit has the "
        "rate 0. Yours goes below.": of_unit(
            lambda values, latent_dim, beta: 0.5 * (values[:latent_dim] / beta).log().sum()),
        "The mean image is not taken off: that is what the bias stores, for nothing.":
            raw_moments,
        "You take the smallest eigenvalues. `eigvalsh` gives them in rising order.": of_unit(
            lambda values, latent_dim, beta: rate(values[-latent_dim:], latent_dim, beta)),
        "You have the covariance of the images with each other. `torch.cov` takes each *row* for "
        "a variable, and the variables are the pixels.": between_images,
        "All directions that stand out have a rate in yours. How many latents are there?": of_unit(
            lambda values, latent_dim, beta: rate(values, 5, beta)),
        "The price beta is missing.": of_unit(
            lambda values, latent_dim, beta: rate(values, latent_dim, 1)),
        "A high price works like more noise. In yours it works like less.": of_unit(
            lambda values, latent_dim, beta: rate(values, latent_dim, 1 / beta)),
        "You take singular values or widths for variances.": of_unit(
            lambda values, latent_dim, beta: rate(values.sqrt(), latent_dim, beta)),
        "Is the factor one half missing?": of_unit(
            lambda values, latent_dim, beta: 2 * rate(values, latent_dim, beta)),
        "This is the weighted rate, as it stands in the loss. The rate itself has no price.":
            of_unit(lambda values, latent_dim, beta: beta * rate(values, latent_dim, beta)),
        "The rate is in nats; yours is in bits.": of_unit(
            lambda values, latent_dim, beta: rate(values, latent_dim, beta) / math.log(2)),
        "This is the number of living units. How many nats does each of them cost?": of_unit(
            lambda values, latent_dim, beta: (values[:latent_dim] > beta).sum()),
    }
    noise = torch.tensor([0.5, 0.08, 1.1, 0.25, 0.7])
    for latent_dim, beta, variance in ((2, 0.2, noise.flip(0)), (3, 3.0, noise)):
        expect(answer, (x, latent_dim, beta, variance), _rate_by_training, mistakes,
               tolerance=5e-3, what="the rate")


@check(points=3)
def information_in_codes(answer):
    """Exercise: information that z has of the image, (N, L) three times -> () in nats."""
    def clouds(mu, log_var):
        return Independent(Normal(mu.double(), (0.5 * log_var.double()).exp()), 1)

    def own(z, mu, log_var):
        return clouds(mu, log_var).log_prob(z.double())

    def truth(z, mu, log_var):
        average = MixtureSameFamily(Categorical(torch.ones(len(z)).double()), clouds(mu, log_var))
        return (own(z, mu, log_var) - average.log_prob(z.double())).mean()

    def each_latent(z, mu, log_var):
        return sum(truth(*(part[:, [unit]] for part in (z, mu, log_var)))
                   for unit in range(z.shape[1]))

    def table(z, mu, log_var):
        return clouds(mu, log_var).log_prob(z.double()[:, None])  # (draw, cloud)

    def wrong_axis(z, mu, log_var):
        averages = table(z, mu, log_var).logsumexp(dim=0) - math.log(len(z))
        return (own(z, mu, log_var) - averages).mean()

    def without_itself(z, mu, log_var):
        others = table(z, mu, log_var).fill_diagonal_(-torch.inf)
        return (own(z, mu, log_var) - others.logsumexp(dim=1) + math.log(len(z) - 1)).mean()

    def without_widths(z, mu, log_var):
        log_q = -0.5 * ((z.double()[:, None] - mu).square() / log_var.exp()).sum(dim=2)
        return (log_q.diagonal() - log_q.logsumexp(dim=1) + math.log(len(z))).mean()

    def rate(z, mu, log_var):
        return kl_divergence(clouds(mu, log_var), clouds(0 * mu, 0 * mu)).mean()

    def drawn_rate(z, mu, log_var):
        return (own(z, mu, log_var) - clouds(0 * mu, 0 * mu).log_prob(z.double())).mean()

    def mean_of_logs(z, mu, log_var):
        return (own(z, mu, log_var) - table(z, mu, log_var).mean(dim=1)).mean()

    def one_average(z, mu, log_var):
        return own(z, mu, log_var).mean() - table(z, mu, log_var).exp().mean().log()

    mistakes = {
        "You add up the information of each latent by itself. The density of a cloud is a product "
        "over the latents, but the average of all clouds is not: take the product first.":
            each_latent,
        "The average of all clouds is a sum divided by something.":
            lambda z, mu, log_var: truth(z, mu, log_var) - math.log(len(z)),
        "For each cloud you average over the draws. For each draw, average over the clouds.":
            wrong_axis,
        "In the average of all clouds the draw's own cloud is missing.": without_itself,
        "Clouds of different widths differ in height as well: what stands before the exp in the "
        "density of a Gaussian?": without_widths,
        "This is the rate, or an estimate of it: you compare with the prior in place of the "
        "average of all clouds.": rate,
        "This is an estimate of the rate: you compare with the prior in place of the average of "
        "all clouds.": drawn_rate,
        "You average the logs of the densities. q(z) is the average of the densities, and its log "
        "comes last.": mean_of_logs,
        "You take one average over all clouds and all draws. Each draw has a q(z) of its own.":
            one_average,
        "You add up over the images. An average is asked for.":
            lambda z, mu, log_var: len(z) * truth(z, mu, log_var),
        "You take log_var for the log of σ.":
            lambda z, mu, log_var: truth(z, mu, 2 * log_var),
    }
    for distance in (1.0, 300.0):
        mu, log_var = distance * torch.randn(11, 3), torch.randn(11, 3) - 0.5
        z = mu + (0.5 * log_var).exp() * torch.randn(11, 3)
        if distance > 1:  # the draw of one image from far outside its cloud: no density is left
            z[4] = mu[4] + 40 * (0.5 * log_var[4]).exp()
        got = as_tensor(ask(answer, z, mu, log_var), "the information")
        if got.numel() == 1 and not got.isfinite().all():
            raise Wrong("The result is NaN or infinite: somewhere a density has become 0 for lack "
                        "of digits. Keep to logs all the way.")
        if distance > 1 and got.numel() == 1 and not agree(got, truth(z, mu, log_var), 1e-3):
            raise Wrong("For clouds that overlap your number is right. For a draw far from every "
                        "cloud it is not: a density has become 0 for lack of digits, and something "
                        "keeps its log finite. Keep to logs all the way.")
        compare(got, truth(z, mu, log_var),
                {hint: mistake(z, mu, log_var) for hint, mistake in mistakes.items()},
                tolerance=1e-3, what="the information")


def _two_numbers(result):
    """A result that should be a mean and its error, as a tensor of two."""
    pair = as_parts(result, "the mean", "its error")
    return torch.tensor([as_number(each, "the mean and its error") for each in pair])


def _error(values, correction):
    """The standard error of the mean of some numbers, with N - 1 or with N."""
    spread = statistics.stdev if correction else statistics.pstdev
    return spread(values) / math.sqrt(len(values))


def _name_the_mistake(got, mistakes):
    """Raises the hint whose pair of numbers it is, if it is one of them."""
    for hint, pair in mistakes.items():
        if agree(got, torch.tensor(pair)):
            raise Wrong(hint)
