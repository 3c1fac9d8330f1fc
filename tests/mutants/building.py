"""Right and wrong answers to the exercises on building and training a VAE."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vae_lessons.complete_implementation import VAE
from vae_lessons.elbo import loss_function


def count_by_building(input_dim, hidden_dim, latent_dim):
    return sum(each.numel() for each in VAE(input_dim, hidden_dim, latent_dim).parameters())


def count_in_one_line(D, H, L):
    return torch.tensor(2 * D * H + 3 * H * L + D + 2 * H + 2 * L)


def logits_in_loops(x, eps, layers):
    def linear(row, name):
        W, b = layers[name]
        return [sum(w * v for w, v in zip(weights, row)) + c for weights, c in zip(W, b)]

    rows = []
    for image, noise in zip(x, eps):
        h = [max(each, torch.tensor(0.0)) for each in linear(image, "hidden")]
        pairs = zip(linear(h, "mu"), linear(h, "log_var"), noise)
        z = [m + torch.exp(v / 2) * e for m, v, e in pairs]
        back = [max(each, torch.tensor(0.0)) for each in linear(z, "back")]
        rows.append(torch.stack(linear(back, "out")))
    return torch.stack(rows)


def logits_in_numpy(x, eps, layers):
    x, eps = x.numpy().astype(np.float64), eps.numpy()
    layers = {name: (W.numpy(), b.numpy()) for name, (W, b) in layers.items()}

    def linear(value, name):
        return value @ layers[name][0].T + layers[name][1]

    h = np.maximum(linear(x, "hidden"), 0)
    z = linear(h, "mu") + np.sqrt(np.exp(linear(h, "log_var"))) * eps
    return linear(np.maximum(linear(z, "back"), 0), "out")


def logits_with(bends=("hidden", "back"), width=lambda v: torch.exp(0.5 * v), noise=1, biases=1):
    def answer(x, eps, layers):
        def linear(value, name):
            W, b = layers[name]
            value = torch.einsum("bi,oi->bo", value, W) + biases * b
            return value.relu() if name in bends else value

        h = linear(x, "hidden")
        z = linear(h, "mu") + noise * width(linear(h, "log_var")) * eps
        return linear(linear(z, "back"), "out")
    return answer


def encoder_with(
    bend=F.relu, of_mu=lambda m: m, of_log_var=lambda v: v, heads=2, own_hidden=False,
    hidden_in_list=False, bias=True, draws=False, swap_axes=False, zero=("mu", "log_var"),
    how=nn.init.zeros_,
):
    class Encoder(nn.Module):
        def __init__(self, input_dim, hidden_dim, latent_dim):
            super().__init__()
            hidden = nn.Linear(input_dim, hidden_dim, bias=bias)
            self.hidden = [hidden] if hidden_in_list else nn.ModuleList([hidden])
            if own_hidden:
                self.hidden.append(nn.Linear(input_dim, hidden_dim))
            self.mu = nn.Linear(hidden_dim, latent_dim)
            self.log_var = nn.Linear(hidden_dim, latent_dim) if heads == 2 else self.mu
            for name in zero:
                for each in getattr(self, name).parameters():
                    how(each)

        def forward(self, x):
            mu = self.mu(bend(self.hidden[0](x)))
            log_var = of_log_var(self.log_var(bend(self.hidden[-1](x))))
            if draws:
                mu = mu + torch.randn_like(mu)
            return (mu.T, log_var.T) if swap_axes else (of_mu(mu), log_var)

    return Encoder


class EncoderWithOneWideHead(nn.Module):
    def __init__(self, input_dim, hidden_dim, latent_dim):
        super().__init__()
        wide = nn.Linear(hidden_dim, 2 * latent_dim)
        wide.load_state_dict({name: 0 * each for name, each in wide.state_dict().items()})
        self.net = nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.ReLU(), wide)

    def forward(self, x):
        return self.net(x).chunk(2, dim=-1)


class CarefulEncoder(nn.Module):
    def __init__(self, input_dim, hidden_dim, latent_dim):
        super().__init__()
        self.body = nn.Linear(input_dim, hidden_dim).double().float()
        self.heads = nn.ModuleDict({"a": nn.Linear(hidden_dim, latent_dim)})
        self.heads["b"] = nn.Linear(hidden_dim, latent_dim)
        nn.init.zeros_(self.body.bias)
        with torch.no_grad():
            for each in self.heads.parameters():
                each.mul_(0)

    def forward(self, x):
        h = torch.maximum(self.body(x), torch.zeros(()))
        return [head(h) for head in self.heads.values()]


class EncoderThatForgets(EncoderWithOneWideHead):
    def forward(self, x):
        for each in self.net[2].parameters():
            nn.init.zeros_(each)
        return super().forward(x)


class PlainEncoder:
    def __init__(self, input_dim, hidden_dim, latent_dim):
        self.net = EncoderWithOneWideHead(input_dim, hidden_dim, latent_dim)

    def __call__(self, x):
        return self.net(x)


def samples_one_by_one(decoder, num_samples, latent_dim, generator):
    rows = []
    with torch.inference_mode():
        for _ in range(num_samples):
            rows.append(torch.sigmoid(decoder(torch.randn(1, latent_dim, generator=generator)))[0])
    return rows


def samples_with_a_look(decoder, num_samples, latent_dim, generator):
    z = torch.randn(num_samples, latent_dim, generator=generator)
    str(decoder(z).shape)  # as one does to find a bug
    with torch.no_grad():
        return decoder(z).sigmoid()


def samples_by_normal(decoder, num_samples, latent_dim, generator):
    z = torch.normal(0.0, 1.0, (num_samples, latent_dim), generator=generator)
    return 1 / (1 + (-decoder(z).detach()).exp())


def samples_with(draw=torch.randn, shape=lambda n, d: (n, d), last=torch.sigmoid, z_of=lambda z: z):
    def answer(decoder, num_samples, latent_dim, generator):
        z = z_of(draw(shape(num_samples, latent_dim), generator=generator))
        with torch.no_grad():
            return last(decoder(z.expand(num_samples, latent_dim)))
    return answer


def samples_with_gradient(decoder, num_samples, latent_dim, generator):
    return decoder(torch.randn(num_samples, latent_dim, generator=generator)).sigmoid()


def landmarks_in_numpy(images):
    x = images.numpy().astype(np.float64)
    mean = x.mean(axis=0)
    some = mean[(mean > 0) & (mean < 1)]
    entropy = -(some * np.log(some) + (1 - some) * np.log(1 - some))
    return x.shape[1] * np.log(2), entropy.sum()


def landmarks_from_logits(images):
    logits = torch.logit(images.mean(dim=0), eps=1e-6).expand_as(images)
    cost = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
    coins = F.binary_cross_entropy_with_logits(torch.zeros_like(images), images, reduction="sum")
    return [coins / len(images), cost]


def landmarks_with(coins=lambda x: x.shape[1] * np.log(2), change=lambda cost, x: cost):
    def answer(images):
        return coins(images), change(landmarks_in_numpy(images)[1], images)
    return answer


def mean_image_naively(images):
    m = images.mean(dim=0)
    cost = -(images * m.log() + (1 - images) * (1 - m).log()).sum(dim=1).mean()
    return images.shape[1] * np.log(2), cost


def cost_of(x, says):
    return F.binary_cross_entropy(says, x, reduction="sum") / len(x)


def step_with(
    scale=lambda x: 1 / len(x), clear="before", moves=True, says=lambda loss, x: loss.item(),
    guard=torch.isfinite, mode=lambda model: model,
):
    def answer(model, optimizer, x):
        mode(model)
        loss = scale(x) * loss_function(*model(x)[:1], x, *model(x)[1:])
        if clear == "before":
            optimizer.zero_grad()
        loss.backward()
        if clear == "between":
            model.zero_grad()
        if moves and guard(loss):
            optimizer.step()
        if clear == "after":
            optimizer.zero_grad(set_to_none=False)
        return says(loss, x)
    return answer


def step_by_hand(model, optimizer, x):
    optimizer.zero_grad()
    logits, mu, log_var = model(x)
    total = 0
    for each in range(len(x)):
        one = slice(each, each + 1)
        total = total + loss_function(logits[one], x[one], mu[one], log_var[one]) / len(x)
    for parameter, gradient in zip(
        model.parameters(), torch.autograd.grad(total, list(model.parameters()))
    ):
        parameter.grad = gradient
    if total == total:
        optimizer.step()
    return float(total.detach().numpy())


def step_by_exception(model, optimizer, x):
    logits, mu, log_var = model(x)
    loss = loss_function(logits, x, mu, log_var) / len(x)
    if not loss.isfinite():
        return loss.item()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def step_that_keeps_a_bad_gradient(model, optimizer, x):
    logits, mu, log_var = model(x)
    loss = loss_function(logits, x, mu, log_var) / len(x)
    loss.backward()
    if loss.isfinite():
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def step_that_gives_up(model, optimizer, x):
    result = step_with()(model, optimizer, x)
    if result != result:
        optimizer.param_groups[0]["lr"] = 0.0
    return result


def loss_after_the_step(model, optimizer, x):
    step_with()(model, optimizer, x)
    logits, mu, log_var = model(x)
    return (loss_function(logits, x, mu, log_var) / len(x)).item()


def step_on_the_elbo(model, optimizer, x):
    return -step_with(scale=lambda x: -1 / len(x))(model, optimizer, x)


def test_loss_with(
    finish=lambda sums, sizes, n: sum(sums) / sum(sizes), size_of=lambda n: n, drop_last=False,
    mode="eval", gradients=False, centre=False,
):
    def answer(model, images, batch_size):
        if mode == "eval":
            model.eval()
        sums, sizes = [], []
        with torch.set_grad_enabled(gradients):
            for x in torch.utils.data.DataLoader(images, size_of(batch_size), drop_last=drop_last):
                logits, mu, log_var = model(x)
                logits = model.decode(mu) if centre else logits
                sums.append(loss_function(logits, x, mu, log_var).item())
                sizes.append(len(x))
        return finish(sums, sizes, len(images))
    return answer


@torch.inference_mode()
def test_loss_by_index(model, images, batch_size):
    was = model.training
    model.train(False)
    losses = []
    for start in range(0, len(images), batch_size):
        x = images[start:start + batch_size]
        logits, mu, log_var = model(x)
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        losses.append(bce + 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum(1))
    model.train(was)
    return torch.cat(losses).double().mean().numpy()[()]


def epochs_with(
    shuffle="epoch", adam="once", weigh="images", steps="mean", clear=True, drop_last=False,
    seeded=True, rng=lambda generator: generator, kind=torch.optim.Adam,
):
    def answer(model, images, epochs, batch_size, generator):
        generator, history = rng(generator) if seeded else None, []
        order = torch.randperm(len(images), generator=generator)
        optimizer = kind(model.parameters(), lr=0.01)
        for epoch in range(epochs):
            if shuffle == "epoch" and epoch:
                order = torch.randperm(len(images), generator=generator)
            if shuffle == "never":
                order = torch.arange(len(images))
            if shuffle == "with replacement":
                order = torch.randint(len(images), (len(images),), generator=generator)
            if adam == "epoch":
                optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            losses, sizes = [], []
            for chosen in order.split(batch_size):
                x = images[chosen]
                if drop_last and len(x) < batch_size:
                    break
                if adam == "step":
                    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
                total = loss_function(*_all_of(model, x))
                divisor = {"mean": len(x), "sum": 1, "batch_size": batch_size}[steps]
                if clear:
                    optimizer.zero_grad()
                (total / divisor).backward()
                optimizer.step()
                losses.append(total.item() / len(x))
                sizes.append(len(x))
            images_weigh = sum(a * b for a, b in zip(losses, sizes))
            history.append({"images": images_weigh / len(images), "last": losses[-1],
                            "batches": sum(losses) / len(losses), "sum": images_weigh}[weigh])
        return history
    return answer


def _all_of(model, x):
    logits, mu, log_var = model(x)
    return logits, x, mu, log_var


def epochs_by_index(model, images, epochs, batch_size, generator):
    adam = torch.optim.Adam(list(model.parameters()), 1e-2, foreach=False)
    history = torch.zeros(epochs, dtype=torch.double)
    for epoch in range(epochs):
        shuffled = images[torch.rand(len(images), generator=generator).argsort()]
        for start in range(0, len(images), batch_size):
            x = shuffled[start:start + batch_size]
            loss = loss_function(*_all_of(model, x)) / x.shape[0]
            loss.backward()
            adam.step()
            adam.zero_grad()
            history[epoch] += loss.item() * x.shape[0] / len(images)
    return history


def binary_by_bernoulli(images, generator):
    return torch.bernoulli(images.reshape(-1, 784).double() / 255, generator=generator)


def binary_one_by_one(images, generator):
    rows = []
    for image in images:
        coins = torch.rand(28, 28, generator=generator) * 255
        rows.append(torch.where(coins < image, 1.0, 0.0).view(784))
    return rows


def binary_with(coins=(12, 784), scale=255, threshold=None, turn=False, kind=torch.float32,
                rows=lambda images: images.flatten(1), draw=torch.rand, seeded=True):
    def answer(images, generator):
        ink = rows(images) / scale
        drawn = draw(coins, generator=generator if seeded else None)
        drawn = threshold if threshold else drawn
        return ((drawn > ink) if turn else (drawn < ink)).expand(ink.shape).to(kind)
    return answer


def seeded_with(
    eps=lambda mu, generator: torch.randn(mu.shape, generator=generator),
    width=lambda log_var: torch.exp(0.5 * log_var), last=lambda logits: logits, detach=False,
    order=lambda logits, mu, log_var: (logits, mu, log_var),
):
    class Seeded(VAE):
        def forward(self, x, generator=None):
            h = F.relu(self.hidden(x))
            mu, log_var = self.mu(h), self.log_var(h)
            z = mu + width(log_var) * eps(mu, generator)
            return order(last(self.decoder(z.detach() if detach else z)), mu, log_var)

    return Seeded


class SeededByEmpty(VAE):
    def forward(self, x, generator=None):
        h = self.hidden(x).clamp(min=0)
        mu, log_var = self.mu(h), self.log_var(h)
        eps = torch.empty_like(mu).normal_(generator=generator)
        return [self.decoder(eps.mul_(log_var.exp().sqrt()).add_(mu)), mu, log_var]


class SeededByForking(VAE):
    """Puts the global dice where the generator is, lets both move on, and puts them back."""

    moves_on = True

    def forward(self, x, generator=None):
        if generator is None:
            return super().forward(x)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(generator.get_state())
            result = super().forward(x)
            if self.moves_on:
                generator.set_state(torch.get_rng_state())
            return result


class SeededByForkingOnce(SeededByForking):
    moves_on = False


def from_the_seed(generator):
    return torch.Generator().manual_seed(generator.initial_seed())


def from_dice_of_its_own(mu, generator):
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    return torch.randn(mu.shape, generator=generator)


def with_global_seed(mu, generator):
    if generator is not None:
        torch.manual_seed(torch.randint(1000, (), generator=generator).item())
    return torch.randn_like(mu)


def resumed_with(
    keep=("model", "optimizer"), of_model=lambda model: model.state_dict(), strict=True,
    parameters_of="new", save_object=False, same=False, rate=None, write=True,
):
    def answer(model, optimizer, make_model, make_optimizer, file):
        state = {"model": of_model(model), "optimizer": optimizer.state_dict()}
        if write:
            torch.save({"model": model} if save_object else state, file)
            state = state if save_object else torch.load(file, weights_only=True)
        if same:
            return model, optimizer
        new = make_model()
        if "model" in keep:
            new.load_state_dict(copy.deepcopy(state["model"]), strict=strict)
        moved = new if parameters_of == "new" else model
        new_optimizer = make_optimizer(moved.parameters())
        if "optimizer" in keep:
            new_optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        if rate:
            new_optimizer.param_groups[0]["lr"] = rate
        return new, new_optimizer
    return answer


def resumed_from_bytes(model, optimizer, make_model, make_optimizer, file):
    with open(file, "wb") as opened:
        torch.save([model.state_dict(), optimizer.state_dict()], opened)
    model = make_model()
    optimizer = make_optimizer(list(model.parameters()))
    with open(file, "rb") as opened:
        for each, state in zip([model, optimizer], torch.load(opened)):
            each.load_state_dict(state)
    return [model, optimizer]


def resumed_as_objects(model, optimizer, make_model, make_optimizer, file):
    torch.save((model, optimizer), file)
    return torch.load(file, weights_only=False)


def resumed_from_a_copy(model, optimizer, make_model, make_optimizer, file):
    torch.save({}, file)
    new = copy.deepcopy(model)
    new_optimizer = make_optimizer(new.parameters())
    new_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return new, new_optimizer


def resumed_from_two_files(model, optimizer, make_model, make_optimizer, file):
    torch.save(model.state_dict(), file)
    torch.save(optimizer.state_dict(), f"{file}.opt")
    new = make_model()
    new.load_state_dict(torch.load(file))
    new_optimizer = make_optimizer(new.parameters())
    new_optimizer.load_state_dict(torch.load(f"{file}.opt"))
    return new, new_optimizer


def only_parameters(model):
    return {name: each for name, each in model.named_parameters()}


# exercise -> right answers, written in different ways
RIGHT = {
    "parameter_count": [count_by_building, count_in_one_line],
    "logits_by_hand": [logits_in_loops, logits_in_numpy, logits_with()],
    "TwoHeadedEncoder": [EncoderWithOneWideHead, CarefulEncoder, encoder_with()],
    "prior_samples": [samples_one_by_one, samples_by_normal, samples_with_a_look],
    "landmarks": [landmarks_in_numpy, landmarks_from_logits],
    "training_step": [step_with(), step_by_hand, step_with(clear="after"), step_by_exception],
    "mean_test_loss": [test_loss_with(), test_loss_by_index],
    "train_epochs": [epochs_with(), epochs_by_index],
    "binary_rows": [binary_by_bernoulli, binary_one_by_one, binary_with()],
    "SeededVAE": [seeded_with(), SeededByEmpty, SeededByForking],
    "resumed_training": [resumed_with(), resumed_from_bytes],
}

# exercise -> (kind of mistake, words of the hint, wrong answer)
WRONG = {
    "parameter_count": [
        ("term", "a bias as well", lambda D, H, L: 2 * D * H + 3 * H * L),
        ("term", "How many layers read", lambda D, H, L:
            count_by_building(D, H, L) - H * L - L),
        ("term", "encoder alone", lambda D, H, L: D * H + H + 2 * (H * L + L)),
        ("term", "decoder alone", lambda D, H, L: L * H + H + H * D + D),
        ("value", "double", lambda D, H, L: 2 * (D * H + H + 2 * (H * L + L))),
        ("axis", "not for each input", lambda D, H, L: 2 * D * H + 3 * H * L + D + 3 * H + L),
        ("value", "one by one", lambda D, H, L: count_by_building(D, H, L) + 1),
        ("shape", "One number", lambda *sizes: list(sizes)),
    ],
    "logits_by_hand": [
        ("term", "after the encoder's", logits_with(bends=("back",))),
        ("term", "after the decoder's", logits_with(bends=("hidden",))),
        ("term", "Both ReLUs", logits_with(bends=())),
        ("value", "follows the heads", logits_with(("hidden", "mu", "log_var", "back"))),
        ("value", "follows the last", logits_with(("hidden", "back", "out"))),
        ("σ or variance", "exp(log_var) for the width", logits_with(width=torch.exp)),
        ("σ or variance", "logarithm of the variance", logits_with(width=lambda v: v)),
        ("randomness", "not used", logits_with(noise=0)),
        ("scale", "width of one", logits_with(width=torch.ones_like)),
        ("term", "biases", logits_with(biases=0)),
        ("value", "probabilities", lambda *each: logits_with()(*each).sigmoid()),
        ("axis", "RuntimeError", lambda x, eps, layers: x @ layers["hidden"][0]),
    ],
    "TwoHeadedEncoder": [
        ("term", "straight lines", encoder_with(bend=lambda h: h)),
        ("value", "mu is never negative", encoder_with(of_mu=F.relu)),
        ("σ or variance", "log_var is never negative", encoder_with(of_log_var=torch.exp)),
        ("σ or variance", "log_var is never negative", encoder_with(of_log_var=F.softplus)),
        ("scale", "between -1 and 1", encoder_with(of_mu=torch.tanh)),
        ("term", "a head missing", encoder_with(heads=1)),
        ("term", "plain list", encoder_with(hidden_in_list=True)),
        ("term", "or a bias", encoder_with(bias=False)),
        ("term", "One hidden layer is enough", encoder_with(own_hidden=True)),
        ("randomness", "the draw comes later", encoder_with(draws=True)),
        ("axis", "has the shape", encoder_with(swap_axes=True)),
        ("gradient", "No gradient", encoder_with(of_log_var=torch.detach)),
        ("type", "derived from nn.Module", PlainEncoder),
        ("type", "2 results", lambda *sizes: nn.Linear(9, 3)),
        ("value", "no ReLU on the way to mu", encoder_with(bend=torch.tanh)),
        ("value", "no ReLU on the way to mu", encoder_with(bend=F.gelu)),
        ("value", "no ReLU on the way to mu", encoder_with(bend=F.leaky_relu)),
        ("value", "no ReLU on the way to mu", encoder_with(bend=F.softplus)),
        ("value", "no ReLU on the way to log_var",
         encoder_with(of_log_var=lambda v: F.softplus(v).log())),
        ("value", "at its birth mu is not", encoder_with(zero=())),
        ("value", "at its birth mu is not", encoder_with(zero=("log_var",))),
        ("value", "at its birth log_var is not", encoder_with(zero=("mu",))),
        ("σ or variance", "at its birth mu is not", encoder_with(how=nn.init.ones_)),
        ("term", "The hidden layer starts", encoder_with(zero=("mu", "log_var", "hidden"))),
        ("side effect", "where the encoder is built", EncoderThatForgets),
    ],
    "prior_samples": [
        ("value", "logits", samples_with(last=lambda logits: logits)),
        ("value", "twice", samples_with(last=lambda logits: logits.sigmoid().sigmoid())),
        ("value", "black or white",
         samples_with(last=lambda logits: torch.bernoulli(logits.sigmoid()))),
        ("gradient", "gradient hangs", samples_with_gradient),
        ("randomness", "never negative", samples_with(draw=torch.rand)),
        ("randomness", "not its shape",
         samples_with(draw=torch.rand, z_of=lambda z: 12**0.5 * (z - 0.5))),
        ("randomness", "same code", samples_with(shape=lambda n, d: (1, d))),
        ("randomness", "all the same number", samples_with(shape=lambda n, d: (n, 1))),
        ("randomness", "same seed",
         lambda decoder, n, d, generator: samples_with()(decoder, n, d, None)),
        ("scale", "standard deviation 2", samples_with(z_of=lambda z: 2 * z)),
        ("axis", "of the shape", lambda decoder, n, d, generator:
            decoder(torch.randn(2 * n, d, generator=generator)).sigmoid().detach()[:n]),
        ("randomness", "one after the other", lambda decoder, n, d, generator:
            samples_with()(decoder, n, d, from_the_seed(generator))),
        ("type", "did not ask", lambda decoder, n, d, generator: torch.rand(n, 5)),
    ],
    "landmarks": [
        ("scale", "bits", landmarks_with(coins=lambda x: x.shape[1])),
        ("sum or mean", "one pixel", landmarks_with(coins=lambda x: np.log(2))),
        ("axis", "count the images", landmarks_with(coins=lambda x: len(x) * np.log(2))),
        ("sign", "log-likelihood", landmarks_with(coins=lambda x: -x.shape[1] * np.log(2))),
        ("stability", "infinite or NaN", mean_image_naively),
        ("sum or mean", "one pixel, on average", landmarks_with(change=lambda cost, x: cost / 12)),
        ("sum or mean", "all images together", landmarks_with(change=lambda cost, x: cost * 30)),
        ("sign", "log-likelihood", landmarks_with(change=lambda cost, x: -cost)),
        ("value", "perfect reconstructions",
         landmarks_with(change=lambda cost, x: cost_of(x, x))),
        ("value", "takes them for logits", landmarks_with(
            change=lambda cost, x: cost_of(x, x.mean(dim=0).sigmoid().expand_as(x)))),
        ("axis", "same probability",
         landmarks_with(change=lambda cost, x: cost_of(x, x.mean().expand_as(x)))),
        ("term", "second half", landmarks_with(
            change=lambda cost, x: -torch.xlogy(x.mean(0), x.mean(0)).sum())),
        ("type", "2 results", lambda images: landmarks_in_numpy(images)[1]),
    ],
    "training_step": [
        ("side effect", "is still in it", step_with(clear="never")),
        ("side effect", "do not move", step_with(clear="between")),
        ("side effect", "do not move", step_with(moves=False)),
        ("sum or mean", "sum over the batch", step_with(scale=lambda x: 1)),
        ("sum or mean", "the step is that of the sum",
         step_with(scale=lambda x: 1, says=lambda loss, x: loss.item() / len(x))),
        ("sum or mean", "pixels as well", step_with(scale=lambda x: 1 / x.numel())),
        ("sign", "uphill", step_on_the_elbo),
        ("sign", "This is the ELBO", step_with(scale=lambda x: -1 / len(x))),
        ("order", "after the step", loss_after_the_step),
        ("gradient", "whole graph", step_with(says=lambda loss, x: loss)),
        ("type", "still a tensor", step_with(says=lambda loss, x: loss.detach())),
        ("value", "is wanted", step_with(says=lambda loss, x: round(loss.item(), 2))),
        ("side effect", "evaluation mode", step_with(mode=nn.Module.eval)),
        ("stability", "has changed the model", step_with(guard=lambda loss: True)),
        ("stability", "still there", step_that_keeps_a_bad_gradient),
        ("stability", "stands still", step_that_gives_up),
        ("type", "None", step_with(says=lambda loss, x: None)),
    ],
    "mean_test_loss": [
        ("sum or mean", "mean of the means", test_loss_with(
            lambda sums, sizes, n: np.mean([a / b for a, b in zip(sums, sizes)]))),
        ("sum or mean", "number of batches",
         test_loss_with(lambda sums, sizes, n: sum(sums) / len(sums))),
        ("sum or mean", "sum over all", test_loss_with(lambda sums, sizes, n: sum(sums))),
        ("sum or mean", "the sum of the means", test_loss_with(
            lambda sums, sizes, n: sum(a / b for a, b in zip(sums, sizes)))),
        ("term", "smaller batch are left out", test_loss_with(drop_last=True)),
        ("term", "leave out the images", test_loss_with(
            lambda sums, sizes, n: sum(sums) / n, drop_last=True)),
        ("scale", "by batch_size",
         test_loss_with(lambda sums, sizes, n: sum(sums) / 4 / len(sums))),
        ("term", "last batch is counted",
         test_loss_with(lambda sums, sizes, n: sums[-1] / sizes[-1])),
        ("randomness", "flatters", test_loss_with(centre=True)),
        ("sign", "ELBO", test_loss_with(lambda sums, sizes, n: -sum(sums) / n)),
        ("side effect", "at once", test_loss_with(size_of=lambda n: 100)),
        ("side effect", "gradients are kept", test_loss_with(gradients=True)),
        ("side effect", "training mode", test_loss_with(mode="as it is")),
        ("type", "still a tensor",
         test_loss_with(lambda sums, sizes, n: torch.tensor(sum(sums) / n))),
    ],
    "train_epochs": [
        ("randomness", "same order as the first", epochs_with(shuffle="once")),
        ("randomness", "same order as the first", epochs_with(shuffle="never")),
        ("randomness", "came twice", epochs_with(shuffle="with replacement")),
        ("randomness", "same seed", epochs_with(seeded=False)),
        ("randomness", "Another seed",
         epochs_with(rng=lambda generator: torch.Generator().manual_seed(0))),
        ("randomness", "one after the other", epochs_with(rng=from_the_seed)),
        ("value", "AdamW", epochs_with(kind=torch.optim.AdamW)),
        ("side effect", "every step", epochs_with(adam="step")),
        ("side effect", "every epoch", epochs_with(adam="epoch")),
        ("side effect", "still in those", epochs_with(clear=False)),
        ("sum or mean", "that of the sum", epochs_with(steps="sum")),
        ("sum or mean", "divided by batch_size", epochs_with(steps="batch_size")),
        ("sum or mean", "count too much", epochs_with(weigh="batches")),
        ("sum or mean", "sums over the images", epochs_with(weigh="sum")),
        ("value", "last batch only", epochs_with(weigh="last")),
        ("term", "images in all", epochs_with(drop_last=True)),
        ("shape", "one number for each", lambda *each: epochs_with()(*each)[-1:]),
    ],
    "binary_rows": [
        ("scale", "became ink", binary_with(scale=1)),
        ("sign", "exchanged", binary_with(turn=True)),
        ("randomness", "You round", binary_with(threshold=0.5)),
        ("randomness", "coin of its own", binary_with(coins=(1, 784))),
        ("randomness", "far too much ink", binary_with(coins=(12, 1))),
        ("randomness", "same seed", binary_with(seeded=False)),
        ("randomness", "Another seed", lambda images, generator:
            binary_with()(images, torch.Generator().manual_seed(3))),
        ("randomness", "one after the other", lambda images, generator:
            binary_with()(images, from_the_seed(generator))),
        ("value", "always be 1", binary_with(draw=torch.randn)),
        ("type", "not implemented for", lambda images, generator:
            torch.bernoulli(images.flatten(1), generator=generator)),
        ("value", "neither 0 nor 1", lambda images, generator: images.flatten(1) / 255),
        ("axis", "Rows and columns", binary_with(rows=lambda images: images.mT.flatten(1))),
        ("shape", "shape", lambda images, generator:
            binary_with()(images, generator).view(12, 28, 28)),
        ("type", "floating point", binary_with(kind=torch.bool)),
        ("value", "share of", lambda images, generator:
            binary_with()(images / 255 * images, generator)),
    ],
    "SeededVAE": [
        ("randomness", "same seed", seeded_with(eps=lambda mu, generator: torch.randn_like(mu))),
        ("randomness", "Is there a draw", seeded_with(eps=lambda mu, generator: 0 * mu)),
        ("randomness", "All images get the same noise",
         seeded_with(eps=lambda mu, generator: torch.randn(mu.shape[1:], generator=generator))),
        ("randomness", "All latent dimensions",
         seeded_with(eps=lambda mu, generator: torch.randn(len(mu), 1, generator=generator))),
        ("randomness", "do not lie around",
         seeded_with(eps=lambda mu, generator: torch.rand(mu.shape, generator=generator))),
        ("randomness", "not Gaussian", seeded_with(eps=lambda mu, generator:
            12**0.5 * (torch.rand(mu.shape, generator=generator) - 0.5))),
        ("side effect", "global dice have moved", seeded_with(eps=with_global_seed)),
        ("randomness", "Without a generator", seeded_with(eps=lambda mu, generator:
            torch.randn(mu.shape, generator=generator or torch.Generator().manual_seed(0)))),
        ("randomness", "one after the other", SeededByForkingOnce),
        ("randomness", "one after the other", seeded_with(eps=lambda mu, generator:
            torch.randn(mu.shape, generator=generator and from_the_seed(generator)))),
        ("randomness", "does not rule yours", seeded_with(eps=from_dice_of_its_own)),
        ("σ or variance", "That is the variance", seeded_with(width=torch.exp)),
        ("scale", "scatter as wide", seeded_with(width=torch.ones_like)),
        ("value", "never negative", seeded_with(last=torch.sigmoid)),
        ("order", "changed places",
         seeded_with(order=lambda logits, mu, log_var: (logits, log_var, mu))),
        ("gradient", "No gradient", seeded_with(detach=True)),
        ("type", "3 results", seeded_with(order=lambda logits, *rest: logits)),
    ],
    "resumed_training": [
        ("term", "forgotten its running means", resumed_with(keep=("model",))),
        ("term", "weights of the old one", resumed_with(keep=("optimizer",))),
        ("term", "batch normalisation", resumed_with(of_model=only_parameters, strict=False)),
        ("order", "Whose parameters", resumed_with(parameters_of="old")),
        ("type", "weights_only=True", resumed_as_objects),
        ("type", "weights_only=True", resumed_with(save_object=True)),
        ("side effect", "what you were given", resumed_with(same=True)),
        ("side effect", "Nothing was written", resumed_with(write=False)),
        ("value", "learning rate that it had", resumed_with(rate=0.05)),
        ("side effect", "hold all of the weights", resumed_from_a_copy),
        ("side effect", "what Adam remembers", resumed_from_two_files),
        ("type", "2 results", lambda model, *rest: model.state_dict()),
    ],
}
