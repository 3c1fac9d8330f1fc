"""Checks of the exercises on building and training a VAE."""

import copy
import math
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from vae_lessons.checks.verdict import (
    Wrong,
    agree,
    as_number,
    as_parts,
    as_tensor,
    as_tensors,
    ask,
    ask_with,
    check,
    compare,
    expect,
    expect_seeded,
)


@check(points=1)
def parameter_count(answer):
    """Exercise: the number of parameters of the classic VAE, three sizes -> a number."""
    for sizes in ((11, 7, 3), (784, 400, 20)):
        D, H, L = sizes
        layers = [(D, H), (H, L), (H, L), (L, H), (H, D)]
        model = nn.ModuleList(nn.Linear(*layer, device="meta") for layer in layers)
        wanted = sum(each.numel() for each in model.parameters())
        got = as_tensor(ask(answer, *sizes), "the number")
        if got.numel() != 1:
            raise Wrong("One number is wanted: the sum over all layers.")
        if got.item() == wanted:
            continue
        encoder = sum(each.numel() for layer in model[:3] for each in layer.parameters())
        head = H * L + L
        hint = {
            wanted - sum(outputs for _, outputs in layers):
                "These are the weights alone: each output of a layer has a bias as well.",
            wanted - 1 * head: "How many layers read the hidden units of the encoder?",
            encoder: "This is the encoder alone.",
            wanted - encoder: "This is the decoder alone.",
            2 * encoder: "The decoder is not the encoder's double: how many layers start at z, "
                         "and how many biases do the logits have?",
            wanted - sum(outputs for _, outputs in layers) + sum(inputs for inputs, _ in layers):
                "A layer has a bias for each output, not for each input.",
            D + 2 * H + 3 * L: "A layer joins each input with each output.",
        }.get(got.item(), "Go through the five layers, one by one: weights, and biases.")
        raise Wrong(f"For the sizes {sizes} you say {got.item():,}, which is not right. {hint}")


@check(points=1)
def logits_by_hand(answer):
    """Exercise: logits of a VAE from its five layers, (B, D), (B, L), layers -> (B, D)."""
    D, H, L = 9, 6, 3
    sizes = {"hidden": (D, H), "mu": (H, L), "log_var": (H, L), "back": (L, H), "out": (H, D)}
    layers = {
        name: (torch.randn(outputs, inputs) / inputs**0.5, torch.randn(outputs) / 2)
        for name, (inputs, outputs) in sizes.items()
    }

    def built(bends=("hidden", "back"), width=lambda log_var: (0.5 * log_var).exp(),
              noise=1.0, biases=1.0, last=lambda logits: logits):
        def of(x, eps, layers):
            def through(value, name):
                W, b = layers[name]
                value = F.linear(value, W, biases * b)
                return F.relu(value) if name in bends else value

            h = through(x, "hidden")
            z = through(h, "mu") + noise * width(through(h, "log_var")) * eps
            return last(through(through(z, "back"), "out"))
        return of

    expect(answer, (torch.rand(4, D), torch.randn(4, L), layers), built(), {
        "The ReLU after the encoder's hidden layer is missing.": built(bends=("back",)),
        "The ReLU after the decoder's hidden layer is missing.": built(bends=("hidden",)),
        "Both ReLUs are missing.": built(bends=()),
        "A ReLU follows the heads of the encoder. A centre may be negative, a log variance too.":
            built(bends=("hidden", "mu", "log_var", "back")),
        "A ReLU follows the head for the centre. A centre may be negative.":
            built(bends=("hidden", "mu", "back")),
        "A ReLU follows the last layer. A logit may be negative.":
            built(bends=("hidden", "back", "out")),
        "You take exp(log_var) for the width. It is the variance.": built(width=torch.exp),
        "You take log_var for the width. It is the logarithm of the variance.":
            built(width=lambda log_var: log_var),
        "The noise is added with a width of one. How wide is the cloud?":
            built(width=torch.ones_like),
        "The noise is not used: you decode the centre of the cloud.": built(noise=0.0),
        "The biases are missing.": built(biases=0.0),
        "These are probabilities. The logits are wanted.": built(last=torch.sigmoid),
    }, what="the logits")


@check(points=2)
def TwoHeadedEncoder(answer):
    """Exercise: an encoder whose clouds begin as the prior, (B, D) -> mu, log_var of (B, L)."""
    model = ask_with(answer, 9, 32, 3)
    if not isinstance(model, nn.Module):
        raise Wrong("Your class should be derived from nn.Module, so that an optimiser finds its "
                    "weights.")
    wanted = (9 * 32 + 32) + 2 * (32 * 3 + 3)
    found = sum(each.numel() for each in model.parameters())
    begins = as_tensors(ask_with(model, torch.randn(50, 9)), "mu", "log_var")
    hidden_at_start = [each.detach().clone() for each in model.parameters() if 32 in each.shape[:1]]
    with torch.no_grad():
        for each in model.parameters():
            each.normal_()
    x = torch.randn(200, 9)
    mu, log_var = as_tensors(ask(model, x), "mu", "log_var")
    number = (f"With the sizes (9, 32, 3) your encoder has {found} parameters, but {wanted} are "
              "expected.")
    if found < wanted:
        raise Wrong(f"{number} Is a head missing, or a bias? Do layers hide in a plain list?")
    if found > wanted:
        raise Wrong(f"{number} One hidden layer is enough: both heads read the same one.")
    for name, each in (("mu", mu), ("log_var", log_var)):
        if each.shape != (200, 3):
            raise Wrong(f"For 200 examples and 3 latent dimensions {name} has the shape "
                        f"{tuple(each.shape)}, but (200, 3) is wanted.")
        if not each.isfinite().all():
            raise Wrong(f"In {name} there are infinite values or NaN.")
        if not each.any():
            raise Wrong(f"Your {name} is zero whatever the parameters are. Nothing can be learned "
                        "so: set numbers to zero where the encoder is built, not whenever it is "
                        "asked.")
        if (each >= 0).all():
            raise Wrong(f"Your {name} is never negative. What may a centre be, and what may the "
                        "logarithm of a variance be? The bend belongs after the hidden layer only.")
        if each.abs().max() <= 1:
            raise Wrong(f"Your {name} stays between -1 and 1. It may be any number: a bend belongs "
                        "after the hidden layer only.")
    if agree(mu, log_var):
        raise Wrong("Both answers are the same. Each has a layer of its own.")
    again = as_tensors(model(x), "mu", "log_var")
    if not (torch.equal(mu, again[0]) and torch.equal(log_var, again[1])):
        raise Wrong("Two calls with the same images differ. The encoder says where the cloud is; "
                    "the draw comes later.")
    halves = as_tensors(model((x[:100] + x[100:]) / 2), "mu", "log_var")
    if agree(halves[0], (mu[:100] + mu[100:]) / 2, 1e-3):
        raise Wrong("Your encoder draws straight lines: two layers with no bend between them are "
                    "one layer.")
    _expect_relu(model, x)
    for name, each in zip(("mu", "log_var"), begins):
        if each.any():
            raise Wrong(f"The encoder is right, but at its birth {name} is not zero for every "
                        "image: which numbers of the heads are to start at zero?")
    if not any(each.any() for each in hidden_at_start):
        raise Wrong("The hidden layer starts at zero, too. If all its units begin alike and silent "
                    "and the heads do not listen, nothing can ever be learned.")
    mu, log_var = as_tensors(model(x), "mu", "log_var")
    (mu.sum() + log_var.sum()).backward()
    if any(each.grad is None or not each.grad.any() for each in model.parameters()):
        raise Wrong("No gradient reaches some of the parameters. Is one of the layers not used, or "
                    "is there a `.detach()` on the way?")


def _expect_relu(model, x):
    """Wrong unless the bend behind the hidden layer is a ReLU, and no other bend follows."""
    biases = [each for each in model.parameters() if each.ndim == 1]
    kept = [each.detach().clone() for each in biases]

    def with_biases(value, x):
        with torch.no_grad():
            for each, before in zip(biases, kept):
                each.copy_(before if value is None else torch.full_like(each, value))
        return as_tensors(model(x), "mu", "log_var")

    with torch.no_grad():
        once, thrice = with_biases(0.0, x), with_biases(0.0, 3 * x)
        silent = with_biases(-1e4, x)
        with_biases(None, x)
    for name, one, three, low in zip(("mu", "log_var"), once, thrice, silent):
        if not agree(three, 3 * one, 1e-3) or not agree(low, torch.full_like(low, -1e4)):
            raise Wrong(f"Something is no ReLU on the way to {name}. With all biases at zero, "
                        "three times the image should give three times the result, and where "
                        "all hidden units get large negative numbers, only the bias of the head "
                        "is left.")


@check(points=2)
def prior_samples(answer):
    """Exercise: pictures decoded from the prior, -> probabilities of ink (num_samples, D)."""
    decoder, num_samples = _Decoder(), 2000

    def drawn(generator):
        decoder.seen.clear()
        result = as_tensor(ask_with(answer, decoder, num_samples, 4, generator), "the pictures")
        if not decoder.seen:
            raise Wrong("Your function did not ask the decoder.")
        new = [z for z, last in zip(decoder.seen, [None, *decoder.seen])  # it may ask twice
               if last is None or not torch.equal(z, last)]
        return result, torch.cat(new)

    pictures, z = drawn(torch.Generator().manual_seed(1))
    if z.shape != (num_samples, 4):
        raise Wrong(f"The decoder got codes of the shape {tuple(z.shape)}, but ({num_samples}, 4) "
                    "is wanted: one row for each picture.")
    with torch.no_grad():
        logits = decoder(z)
    compare(pictures, logits.sigmoid(), {
        "These are logits. The probabilities of ink are wanted.": logits,
        "The sigmoid is applied twice.": logits.sigmoid().sigmoid(),
        "These are pixels made black or white. The probabilities are wanted: they look better.":
            pictures.round() if ((pictures == 0) | (pictures == 1)).all() else logits,
    }, what="the pictures")
    if pictures.requires_grad:
        raise Wrong("The pictures are right, but a gradient hangs on them, and with it all that "
                    "the decoder has computed. They are only for looking at.")
    expect_seeded(lambda generator: drawn(generator)[1])
    if (z == z[0]).all():
        raise Wrong("All pictures have the same code.")
    if (z == z[:, :1]).all():
        raise Wrong("The latent dimensions of a picture are all the same number. In the prior they "
                    "are independent.")
    if z.min() >= 0:
        raise Wrong("Your codes are never negative. The prior is a standard normal: is that `rand` "
                    "or `randn`?")
    size = z.numel()
    if abs(z.mean()) > 6 / size**0.5 or abs(z.std() - 1) > 6 / (2 * size) ** 0.5:
        raise Wrong(f"Your codes have mean {z.mean():.2f} and standard deviation {z.std():.2f}. "
                    "Those of the prior have 0 and 1.")
    if abs(z.pow(4).mean() - 3) > 6 * (96 / size) ** 0.5:
        raise Wrong("Your codes have the mean and the width of the prior, but not its shape.")


@check(points=2)
def landmarks(answer):
    """Exercise: nats per image of fair coins and of the mean image, (N, D) -> two numbers."""
    images = torch.rand(30, 12).square()
    images[:, 3], images[:, 7] = 0, 1

    def cost(x, says):
        return -(torch.xlogy(x, says) + torch.xlogy(1 - x, 1 - says)).sum(dim=1).mean()

    mean = images.double().mean(dim=0)
    x, everywhere = images.double(), mean.mean().expand(images.shape)
    wanted_coins, wanted = 12 * math.log(2), cost(x, mean.expand(images.shape))
    coins, of_mean = as_tensors(ask(answer, images), "fair coins", "the mean image")
    compare(coins, wanted_coins, {
        "This is in bits. Nats are wanted.": 12,
        "This is the cost of one pixel. An image has D of them.": math.log(2),
        "This is the cost of all images together.": 30 * wanted_coins,
        "The sign is that of a log-likelihood. A cost is positive.": -wanted_coins,
        "You count the images where you should count the pixels.": 30 * math.log(2),
    }, tolerance=1e-3, what="fair coins")
    if not of_mean.isfinite().all():
        raise Wrong("The cost of the mean image is infinite or NaN. Some pixels have a mean of "
                    "exactly 0 or 1, and 0 times the log of 0 is 0 here.")
    compare(of_mean, wanted, {
        "The sign is that of a log-likelihood. A cost is positive.": -wanted,
        "This is the cost of one pixel, on average. An image has D of them.": wanted / 12,
        "This is the cost of all images together.": 30 * wanted,
        "Is this in bits? Nats are wanted.": wanted / math.log(2),
        "This is what perfect reconstructions cost. The model is to answer each image with one and "
        "the same picture.": cost(x, x),
        "You give all pixels the same probability. The mean image has one for each pixel.":
            cost(x, everywhere),
        "The mean image holds probabilities, and something here takes them for logits.":
            cost(x, mean.sigmoid().expand(images.shape)),
        "Blank pixels cost something too: is the second half of the cross-entropy missing?":
            -torch.xlogy(mean, mean).sum(),
        "Each image is rounded to black and white here. The cross-entropy takes grey ones.":
            cost(x.round(), x.round().mean(dim=0).expand(images.shape)),
    }, tolerance=1e-3, what="the mean image")


@check(points=2)
def training_step(answer):
    """Exercise: one step on the mean of -ELBO over the batch, -> this mean, a float."""
    batches = [torch.rand(5, 6), torch.rand(3, 6), torch.rand(5, 6)]
    model = _Tiny().train()
    start = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    right = _steps(start, batches)
    before = _vector(model)
    for number, x in enumerate(batches, start=1):
        loss = _plain(ask_with(answer, model, optimizer, x.clone()))
        wanted, parameters = right[number - 1]
        after = _loss(*copy.deepcopy(model)(x)[:1], x, *model.encode(x)).mean().detach()
        compare(loss, wanted, {
            "This is the sum over the batch. The mean is wanted.": wanted * len(x),
            "This is the ELBO. The loss is its negative.": -wanted,
            "This is the loss after the step.": after,
            "This is a mean over pixels as well. An image is the sum of its pixels.": wanted / 6,
        }, what="the loss")
        if not all(call.training for call in model.calls):
            raise Wrong("The model was asked in evaluation mode: a dropout layer would do nothing. "
                        "This is training.")
        got = _vector(model)
        if agree(got, before, 1e-6):
            raise Wrong("The parameters do not move. Is `optimizer.step()` there, and does the "
                        "gradient still exist when it is called?")
        others = {
            "The first step is right, the second is not: the gradient of the first is still in it.":
                {"keep": True},
            "The step goes uphill: it makes the loss larger.": {"scale": lambda x: -1.0},
            "The number that you return is a mean, but the step is that of the sum over the batch.":
                {"scale": len},
        }
        others = {hint: _steps(start, batches, **how)[number - 1][1]
                  for hint, how in others.items() if number > 1 or "keep" not in how}
        compare(got, parameters, others, what=f"the parameters after step number {number}")
        before = got
    broken = batches[0].clone()
    broken[1, 2] = torch.nan
    if math.isfinite(_plain(ask_with(answer, model, optimizer, broken.clone()))):
        raise Wrong("For a batch with a broken pixel the loss is NaN, and you return a number.")
    if not torch.equal(_vector(model), before):
        raise Wrong("A batch with a broken pixel has changed the model: one such step, and every "
                    "number in it is NaN for good. Where the loss is not finite, take no step.")
    ask_with(answer, model, optimizer, batches[0].clone())
    if not _vector(model).isfinite().all():
        raise Wrong("The broken batch changes nothing, but the good one after it does: the broken "
                    "gradient was still there.")
    if agree(_vector(model), before, 1e-6):
        raise Wrong("After a batch with a broken pixel the training stands still for good.")


@check(points=2)
def mean_test_loss(answer):
    """Exercise: the mean of -ELBO over test images, in batches, (N, D) -> a float in nats."""
    images = torch.cat([0.3 * torch.rand(8, 6), 0.7 + 0.3 * torch.rand(3, 6)])
    model = _Tiny()
    reference = copy.deepcopy(model)
    with torch.no_grad():
        each = _loss(*reference(images)[:1], images, *reference.encode(images))
        mu, log_var = reference.encode(images)
        at_centre = _loss(reference.decode(mu), images, mu, log_var)
    model.train()
    result = _plain(ask_with(answer, model, images.clone(), 4))
    means = torch.stack([part.mean() for part in each.split(4)])
    compare(result, each.mean(), {
        "You take the mean of the means of the batches. The last batch is smaller, so its images "
        "count too much.": means.mean(),
        "You divide a sum by the number of batches. How many images are there?": each.sum() / 3,
        "This is the sum over all images.": each.sum(),
        "This is the sum of the means of the batches.": means.sum(),
        "The images of the last, smaller batch are left out.": each[:8].mean(),
        "You leave out the images of the last batch and divide by the number of all.":
            each[:8].sum() / 11,
        "You divide each batch by batch_size, and the last one is smaller.":
            each.sum() / 12,
        "Only the last batch is counted.": each[8:].mean(),
        "Only the first batch is counted.": each[:4].mean(),
        "You decode the centre of the cloud. That number flatters, and is no bound.":
            at_centre.mean(),
        "This is the ELBO. The loss is its negative.": -each.mean(),
    }, what="the loss")
    if any(len(call.x) > 4 for call in model.calls):
        raise Wrong(f"The number is right, but the model got {max(len(c.x) for c in model.calls)} "
                    "images at once, where batch_size is 4.")
    if any(call.gradients for call in model.calls):
        raise Wrong("The number is right, but gradients are kept while nothing is learned.")
    if any(call.training for call in model.calls):
        raise Wrong("The number is right, but the model was in training mode: a dropout layer "
                    "would have thrown away units.")


@check(points=3)
def train_epochs(answer):
    """Exercise: a loop with Adam, (N, D) -> the mean loss per image of each epoch."""
    images, epochs, size = torch.rand(11, 6, dtype=torch.double), 3, 4
    images[:, 5] = torch.arange(11) / 11  # tells the images apart
    start = _Tiny().double()

    def run(generator):
        model = copy.deepcopy(start)
        result = ask_with(answer, model, images.clone(), epochs, size, generator)
        batches = [call.x for call in model.calls if call.gradients]
        return model, as_tensor(result, "the history").detach(), batches

    model, history, batches = run(torch.Generator().manual_seed(1))
    if history.shape != (epochs,):
        raise Wrong(f"The history should hold one number for each of {epochs} epochs; its shape is "
                    f"{tuple(history.shape)}.")
    if any(len(x) > size for x in batches):
        raise Wrong(f"The model got {max(map(len, batches))} images at once, where batch_size is "
                    f"{size}.")
    order = torch.cat([x[:, 5] for x in batches] or [torch.zeros(0)])
    if len(order) != 11 * epochs:
        raise Wrong(f"In {epochs} epochs with 11 images the model got {len(order)} images in all. "
                    "Each image comes once in each epoch, those of the last, smaller batch too.")
    order = order.view(epochs, 11)
    if not agree(order.sort(dim=1).values, images[:, 5].expand(epochs, 11)):
        raise Wrong("In an epoch some images came twice and others not at all.")
    if (order[0] == order[1]).all():
        raise Wrong("The second epoch takes the images in the same order as the first. They should "
                    "be shuffled anew.")
    expect_seeded(lambda generator: torch.cat([x[:, 5] for x in run(generator)[2]]))
    parameters, losses = _adam(start, batches)
    compare(_vector(model), parameters, {
        "Adam forgets: its running means begin anew with every step.":
            _adam(start, batches, fresh=1)[0],
        "Adam forgets: its running means begin anew with every epoch.":
            _adam(start, batches, fresh=3)[0],
        "This is AdamW, which lets the weights shrink as well. The loop takes Adam.":
            _adam(start, batches, kind=torch.optim.AdamW)[0],
        "Gradients of earlier steps are still in those of later ones.":
            _adam(start, batches, keep=True)[0],
        "Each step should be that of the mean over its batch. Yours is that of the sum, or of the "
        "sum divided by batch_size: the last, smaller batch then pulls less.":
            _adam(start, batches, scale=len)[0],
        "The parameters have not moved.": _vector(start),
    }, what="the parameters after the last step")
    sizes = torch.tensor([float(len(x)) for x in batches])
    means, epoch = losses.view(epochs, 3), (losses * sizes).view(epochs, 3)
    compare(history, epoch.sum(dim=1) / 11, {
        "The steps are right, the history is not yet: the images of the last, smaller batch count "
        "too much.": means.mean(dim=1),
        "The steps are right. The history holds the sums over the images.": epoch.sum(dim=1),
        "The steps are right. The history holds sums of means.": means.sum(dim=1),
        "The steps are right. You divide by what the number of images would be if all batches were "
        "full.": epoch.sum(dim=1) / 12,
        "The steps are right. The history holds the loss of the last batch only.": means[:, -1],
    }, what="the history")


@check(points=2)
def binary_rows(answer):
    """Exercise: black and white pixels drawn by chance, uint8 (N, 28, 28) -> float (N, 784)."""
    images = torch.randint(0, 256, (12, 28, 28)).to(torch.uint8)
    images[0] = 255 * (torch.rand(28, 28) < 0.3)
    images[2] = images[1]

    def drawn(generator):
        return as_tensor(ask_with(answer, images.clone(), generator), "the pixels")

    rows = drawn(torch.Generator().manual_seed(1))
    if rows.shape != (12, 784):
        raise Wrong(f"For 12 images the shape is {tuple(rows.shape)}, but (12, 784) is wanted.")
    if not rows.is_floating_point():
        raise Wrong(f"Your pixels are of type {rows.dtype}. A loss multiplies them with logits: "
                    "they should be floating point numbers.")
    if not ((rows == 0) | (rows == 1)).all():
        raise Wrong("Some pixels are neither 0 nor 1.")
    grey = images.flatten(1).double() / 255
    if agree(rows, (grey > 0).double()):
        raise Wrong("Whatever is not blank became ink. From where to where do the grey values go "
                    "in the file, and where does a probability end?")
    if agree(1 - rows[0], grey[0]):
        raise Wrong("Ink and paper are exchanged: a pixel of 255 should always be 1.")
    if agree(rows[0], (images[0].T.flatten() / 255)):
        raise Wrong("Rows and columns of the image are exchanged.")
    if not agree(rows[0], grey[0]):
        raise Wrong("A pixel of 255 should always be 1, and a pixel of 0 always 0. Yours are not.")
    if agree(rows, grey.round()):
        raise Wrong("You round. A grey of 0.4 is then never ink, and it should be in four of ten "
                    "draws.")
    expect_seeded(drawn)
    if torch.equal(rows[1], rows[2]):
        raise Wrong("The same image stands twice in the batch, and both became the same. Each "
                    "pixel of each image has a coin of its own.")
    rest, p = rows[1:].double(), grey[1:]
    too_much = (rest - p).sum(dim=1)
    spread = (p * (1 - p)).sum(dim=1).sqrt()
    if ((too_much - too_much.mean()).abs() > 6 * spread).any():
        raise Wrong("The pixels of an image hang together: some images have far too much ink. Each "
                    "pixel has a coin of its own.")
    for part in (slice(0, 85), slice(85, 170), slice(170, 256)):
        here = (images.flatten(1)[1:] >= part.start) & (images.flatten(1)[1:] < part.stop)
        error = (p * (1 - p))[here].sum().sqrt() / here.sum()
        if abs(rest[here].mean() - p[here].mean()) > 6 * error:
            raise Wrong(f"Of the pixels with a grey value of {part.start} to {part.stop - 1} a "
                        f"share of {rest[here].mean():.2f} became ink; {p[here].mean():.2f} is "
                        "wanted.")


@check(points=2)
def SeededVAE(answer):
    """Exercise: the page's VAE with a generator, (B, D) -> logits, mu and log_var."""
    model, num = ask_with(answer, 6, 5, 3), 3000
    if not isinstance(model, nn.Module) or not hasattr(model, "decoder"):
        raise Wrong("Extend the class VAE, and keep its layers under their names.")
    x, see = torch.rand(1, 6).repeat(num, 1), nn.Linear(3, 6)
    see.weight.data, model.decoder = torch.eye(6, 3), see  # the first three logits show z
    with torch.no_grad():
        for head, values in ((model.mu, [3.0, -1.0, 0.5]), (model.log_var, [-2.0, 0.7, 1.6])):
            head.weight.mul_(0.1)
            head.bias.copy_(torch.tensor(values))

    def drawn(generator):
        result = ask_with(model, x.clone(), generator=generator)
        return as_tensors(result, "logits", "mu", "log_var")

    before = torch.get_rng_state()
    logits, mu, log_var = drawn(torch.Generator().manual_seed(1))
    left_alone = torch.equal(before, torch.get_rng_state())
    for name, each, width in (("logits", logits, 6), ("mu", mu, 3), ("log_var", log_var, 3)):
        if each.shape != (num, width):
            raise Wrong(f"For {num} images the shape of the {name} is {tuple(each.shape)}, but "
                        f"({num}, {width}) is wanted.")
    h = F.relu(model.hidden(x))
    swapped = {"mu and log_var have changed places.": model.log_var(h)}
    compare(mu, model.mu(h), swapped, what="mu")
    compare(log_var, model.log_var(h), what="log_var")
    if logits.min() >= 0:
        raise Wrong("The logits are never negative. Did a sigmoid or a ReLU get in?")
    expect_seeded(lambda generator: drawn(generator)[0])
    if not left_alone:
        raise Wrong("The global dice have moved, though a generator was given. Another experiment "
                    "in the same program would notice.")
    if torch.equal(drawn(None)[0], drawn(None)[0]):
        raise Wrong("Without a generator two calls give the same numbers. They should come from "
                    "the global dice, as before.")
    torch.manual_seed(5)
    after_seeding, _, _ = drawn(None)
    torch.manual_seed(5)
    if not torch.equal(after_seeding, drawn(None)[0]):
        raise Wrong("Without a generator the draw should come from the global dice, as before. "
                    "`torch.manual_seed` does not rule yours.")
    width = (0.5 * log_var).exp()
    with torch.no_grad():
        z = logits[:, :3] - see.bias[:3]
        eps = (z - mu) / width
    if (eps - eps[0]).abs().max() < 1e-3:
        raise Wrong("All images get the same noise. Each needs a draw of its own.")
    if (eps - eps[:, :1]).abs().max() < 1e-3:
        raise Wrong("All latent dimensions of an image get the same noise. Each needs its own.")
    if ((z - mu) / log_var.exp()).std(dim=0).sub(1).abs().max() < 6 / (2 * num) ** 0.5:
        raise Wrong("The noise is as wide as exp(log_var). That is the variance.")
    if eps.mean(dim=0).abs().max() > 6 / num**0.5:
        raise Wrong("The draws do not lie around mu.")
    if eps.std(dim=0).sub(1).abs().max() > 6 / (2 * num) ** 0.5:
        raise Wrong("The draws do not scatter as wide as log_var says.")
    if abs(eps.pow(4).mean() - 3) > 6 * (96 / eps.numel()) ** 0.5:
        raise Wrong("The draws lie around mu and are as wide as log_var says, but not Gaussian.")
    for head in (model.mu, model.log_var):
        (gradient,) = torch.autograd.grad(logits[:, :3].square().sum(), head.bias,
                                          retain_graph=True, allow_unused=True)
        if gradient is None or not gradient.any():
            raise Wrong("No gradient passes from the logits through the draw to the encoder.")


@check(points=3)
def resumed_training(answer):
    """Exercise: save model and optimiser, build both anew from the file, -> both."""
    def make_model():
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))

    def make_optimizer(parameters):
        return torch.optim.Adam(parameters, lr=0.05)

    def step(model, optimizer, x):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        return _vector(model)

    model = make_model()
    optimizer = make_optimizer(model.parameters())
    for x in torch.randn(4, 8, 4):
        step(model, optimizer, x)
    optimizer.param_groups[0]["lr"] = 0.02  # a schedule has lowered it
    old, old_optimizer = copy.deepcopy((model, optimizer))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "training.pt"
        result = ask_with(answer, model, optimizer, make_model, make_optimizer, file)
        new, new_optimizer = as_parts(result, "the new model", "the new optimiser")
        if not isinstance(new, nn.Module) or not isinstance(new_optimizer, torch.optim.Optimizer):
            raise Wrong("Return the new model and the new optimiser, in this order.")
        if not file.exists():
            raise Wrong("Nothing was written into the file. When the power is out, only the file "
                        "is left.")
        try:
            saved = list(_tensors_in(torch.load(file, weights_only=True)))
        except Exception:
            raise Wrong("The file does not open with weights_only=True. Save what the model and "
                        "the optimiser know, not the objects themselves.") from None
    if new is model or new_optimizer is optimizer:
        raise Wrong("You return what you were given. When the power is out, both are gone: build "
                    "new ones with make_model and make_optimizer.")
    with torch.no_grad():
        for each in (*model.parameters(), *model.buffers()):
            each.zero_()  # the old model is gone
    if not agree(_vector(new), _vector(old)):
        raise Wrong("The new model does not have the weights of the old one. Are they loaded, and "
                    "copied rather than shared?")
    buffers = zip(new.buffers(), old.buffers(), strict=True)
    if not all(agree(one, other) for one, other in buffers):
        raise Wrong("The weights are there, but the running means of the batch normalisation are "
                    "not. The state of a model is more than its parameters.")
    for hint, wanted in (
        ("of the weights of the model", old.state_dict()),
        ("of what Adam remembers of each weight", old_optimizer.state_dict()["state"]),
    ):
        if not all(any(agree(each, one) for one in saved) for each in _tensors_in(wanted)):
            raise Wrong(f"The file does not hold all {hint}. When the power is out, that file is "
                        "all that is left.")
    moves = {id(each) for group in new_optimizer.param_groups for each in group["params"]}
    if moves != {id(each) for each in new.parameters()}:
        raise Wrong("The new optimiser does not move the parameters of the new model. Whose "
                    "parameters was it made with?")
    x = torch.randn(8, 4)
    new.train()
    forgetful = copy.deepcopy(old)
    anew = make_optimizer(forgetful.parameters())
    slowed, same_rate = copy.deepcopy((old, old_optimizer))
    same_rate.param_groups[0]["lr"] = 0.05
    compare(step(new, new_optimizer, x), step(old, old_optimizer, x), {
        "The model is right, but Adam has forgotten its running means: the next step is another "
        "one.": step(forgetful, anew, x),
        "Adam has its running means, but not the learning rate that it had when it was saved.":
            step(slowed, same_rate, x),
    }, what="the parameters after the next step")


def _plain(value):
    """The loss that an answer returns, which should be a plain number."""
    if torch.is_tensor(value):
        held = " It keeps the whole graph alive, too." if value.requires_grad else ""
        raise Wrong(f"Return a plain Python number. This is still a tensor.{held}")
    return as_number(value, "the loss")


def _tensors_in(saved):
    """All tensors in nested dicts and lists."""
    if torch.is_tensor(saved):
        yield saved
    elif isinstance(saved, dict | list | tuple):
        for each in saved.values() if isinstance(saved, dict) else saved:
            yield from _tensors_in(each)


class _Call:
    """How a model was called: with which images, with gradients or not, in which mode."""

    def __init__(self, x, training):
        self.x, self.training = x.detach().clone(), training
        self.gradients = torch.is_grad_enabled()


class _Tiny(nn.Module):
    """A VAE whose noise is a function of the image, so that all of it can be foretold."""

    def __init__(self):
        super().__init__()
        self.heads, self.decoder, self.calls = nn.Linear(6, 4), nn.Linear(2, 6), []

    def encode(self, x):
        return self.heads(x).chunk(2, dim=1)

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x, generator=None):
        self.calls.append(_Call(x, self.training))
        mu, log_var = self.encode(x)
        return self.decode(mu + torch.exp(0.5 * log_var) * torch.sin(40 * x[:, :2])), mu, log_var


class _Decoder(nn.Module):
    """A decoder that keeps the codes it has seen."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(4, 5), []

    def forward(self, z):
        self.seen.append(z.detach().clone())
        return self.layer(z)


def _loss(logits, x, mu, log_var):
    """-ELBO of each example: two of (B, D), two of (B, L) -> (B,)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)
    q = Normal(mu, (0.5 * log_var).exp())
    return cross_entropy + kl_divergence(q, Normal(torch.zeros_like(mu), 1.0)).sum(dim=1)


def _steps(start, batches, keep=False, scale=lambda x: 1.0):
    """Loss and parameters of each step of plain gradient descent, or of a mistaken one."""
    model, found = copy.deepcopy(start), []
    total = [torch.zeros_like(each) for each in model.parameters()]
    for x in batches:
        loss = _loss(*model(x)[:1], x, *model.encode(x)).mean()
        gradients = torch.autograd.grad(scale(x) * loss, list(model.parameters()))
        total = [old * keep + new for old, new in zip(total, gradients, strict=True)]
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), total, strict=True):
                parameter -= 0.05 * gradient
        found.append((loss.detach(), _vector(model)))
    return found


def _adam(
    start, batches, fresh=0, keep=False, scale=lambda x: 1.0, kind=torch.optim.Adam,
):
    """Parameters at the end and mean loss of each batch, with Adam, anew every ``fresh`` steps."""
    model, losses = copy.deepcopy(start), []
    optimizer = kind(model.parameters(), lr=0.01)
    for number, x in enumerate(batches):
        if fresh and number % fresh == 0:
            optimizer = kind(model.parameters(), lr=0.01)
        loss = _loss(*model(x)[:1], x, *model.encode(x)).mean()
        if not keep:
            optimizer.zero_grad()
        (scale(x) * loss).backward()
        optimizer.step()
        losses.append(loss.detach())
    return _vector(model), torch.stack(losses)


def _vector(model):
    """All parameters of a model in one row."""
    return torch.cat([each.detach().flatten() for each in model.parameters()])
