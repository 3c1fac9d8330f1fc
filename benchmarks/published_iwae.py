"""Trains the one-layer models of table 1 in Burda, Grosse & Salakhutdinov (2016) as published.

    OMP_NUM_THREADS=1 python benchmarks/published_iwae.py K [--epochs 3280] [--device cuda]

K is the number of importance samples: 1 (the VAE), 5 or 50. The networks have 2 x 200 tanh units
each way and 50 latents; Adam with epsilon 1e-4 takes batches of 20 through eight stages of 1, 3, 9,
... 2187 epochs, 3,280 in all, with a learning rate that falls from 1e-3 to 1e-4. Pixels are
binarised anew each time. The likelihood of the 10,000 test images takes 5,000 samples for each.
Where the paper is silent the authors' own program (github.com/yburda/iwae) decides: the start of
the weights, the output bias at the mean image, and the rounded learning rates.

Three things differ from that program. It trains on the first 59,600 images, always in the same
order; here all 60,000 are shuffled anew in each epoch. It has an Adam of its own, which keeps 0.99
of the mean gradient (here 0.9) and starts the mean square at 1 (here 0). And it counts the active
units on 500 training images, here on the test images.

The state is stored once a minute, so that the same command goes on where it was interrupted.
``--epochs`` ends it sooner, after that many in all. What was run goes into
vae_lessons/published_iwae.json with its settings, versions, device and seconds, one entry for each
K and number of epochs, and the chapter "iwae" shows it. Several K may run at once.
"""

import argparse
import json
import operator
import platform
import time
from pathlib import Path

import torch
from filelock import FileLock
from torch import nn

from vae_lessons.data import as_vectors, binarize, load_digits
from vae_lessons.elbo import elbo
from vae_lessons.evaluation import active_units, log_marginal_likelihood
from vae_lessons.iwae import iwae_bound
from vae_lessons.mlp import start_bias_at
from vae_lessons.mnist import data_folder
from vae_lessons.training import mean_and_error, per_image
from vae_lessons.vae import VAE, mean_image_logits

RESULT = Path(__file__).resolve().parents[1] / "vae_lessons" / "published_iwae.json"
SETTINGS = {"hidden": "2 x 200 tanh", "latent_dim": 50, "batch_size": 20, "adam_epsilon": 1e-4,
            "likelihood_samples": 5000, "seed": 0}
EPOCHS = [3**stage for stage in range(8)]
RATES = [1e-4 * round(10 ** (1 - stage / 7), 1) for stage in range(8)]
SECONDS_BETWEEN_CHECKPOINTS = 60


def build(images):
    """The model at its start: Glorot's uniform weights, biases zero but for the output's."""
    torch.manual_seed(SETTINGS["seed"])
    model = VAE(784, 200, SETTINGS["latent_dim"], layers=2, activation=nn.Tanh)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    start_bias_at(model.decoder.logits.bias, mean_image_logits(images))
    return model


class Run:
    """A training that can be stored and taken up again in the middle of an epoch."""

    def __init__(self, num_samples, images, device):
        self.num_samples, self.images = num_samples, images.to(device)
        self.model = build(images).to(device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), eps=SETTINGS["adam_epsilon"], fused=True
        )
        self.generator = torch.Generator(device).manual_seed(SETTINGS["seed"])
        self.epoch = self.batch = 0
        self.seconds = 0.0
        self.order = None
        self.file = data_folder() / "published_iwae" / f"k{num_samples}.pt"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if self.file.exists():
            self._load()

    def train(self, until_epoch):
        """Trains up to the end of that epoch, storing the state once a minute."""
        stored = started = time.perf_counter()
        while self.epoch < until_epoch:
            if self.order is None:
                self.order = torch.randperm(
                    len(self.images), generator=self.generator, device=self.images.device
                )
            self.optimizer.param_groups[0]["lr"] = rate_of(self.epoch)
            for chosen in self.order.split(SETTINGS["batch_size"])[self.batch :]:
                x = binarize(self.images[chosen], self.generator)
                loss = -iwae_bound(self.model, x, self.num_samples, self.generator).mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.batch += 1
                now = time.perf_counter()
                if now - stored > SECONDS_BETWEEN_CHECKPOINTS:
                    self.seconds, started, stored = self.seconds + now - started, now, now
                    self.store()
            self.epoch, self.batch, self.order = self.epoch + 1, 0, None
        self.seconds += time.perf_counter() - started
        self.store()

    def store(self):
        """Puts the whole state into the file; the old one stays until the new one is whole."""
        unfinished = self.file.with_suffix(".unfinished")
        torch.save({
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(), "order": self.order,
            "epoch": self.epoch, "batch": self.batch, "seconds": self.seconds,
        }, unfinished)
        unfinished.replace(self.file)
        print(f"k = {self.num_samples}: epoch {self.epoch} + {self.batch} batches, "
              f"{self.seconds:.0f} s", flush=True)

    def _load(self):
        stored = torch.load(self.file, weights_only=True, map_location=self.images.device)
        self.model.load_state_dict(stored["model"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.generator.set_state(stored["generator"].cpu())
        self.order, self.epoch, self.batch = stored["order"], stored["epoch"], stored["batch"]
        self.seconds = stored["seconds"]


def rate_of(epoch):
    """The learning rate of an epoch, counted from 0."""
    ends = [sum(EPOCHS[: stage + 1]) for stage in range(8)]
    return next(rate for rate, end in zip(RATES, ends, strict=True) if epoch < end)


def measure(run, test_images):
    """The likelihood, the one-draw bound and the active units of a model, on test images."""
    device = run.images.device
    generator = torch.Generator(device).manual_seed(SETTINGS["seed"])
    x = binarize(test_images.to(device), generator)
    started, samples = time.perf_counter(), SETTINGS["likelihood_samples"]
    values = torch.cat([log_marginal_likelihood(run.model, part, samples, generator)
                        for part in x.split(100)])
    nll, error = mean_and_error(-values)
    bound, _ = per_image(run.model, x, elbo, seed=SETTINGS["seed"])
    return {"nll": nll, "nll_standard_error": error, "negative_elbo": -bound.mean().item(),
            "active_units": int(active_units(run.model, x).sum()),
            "measuring_seconds": time.perf_counter() - started}


def device_name(device):
    """What computes, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.machine()])[0]}, {torch.get_num_threads()} thread(s)"


def write(result):
    """Puts a result into the file, in place of one of the same K and epochs if there is one."""
    lock = data_folder() / "published_iwae" / "result.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
        which = operator.itemgetter("num_samples", "epochs")
        results = [other for other in results if which(other) != which(result)] + [result]
        RESULT.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main():
    """Trains up to the wanted epoch, measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("k", type=int, choices=[1, 5, 50])
    parser.add_argument("--epochs", type=int, choices=range(1, sum(EPOCHS) + 1), metavar="N",
                        default=sum(EPOCHS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    train, test = (as_vectors(load_digits(split, source="mnist").images)
                   for split in ("train", "test"))
    device = torch.device(arguments.device)
    run = Run(arguments.k, train, device)
    run.train(arguments.epochs)
    result = {
        "num_samples": arguments.k, "epochs": run.epoch, "training_seconds": run.seconds,
        **measure(run, test),
        "settings": SETTINGS, "device": device_name(device), "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    write(result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
