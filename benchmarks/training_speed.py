"""Seconds per epoch of the package's training loop against the classic one, in one run.

    OMP_NUM_THREADS=1 python benchmarks/training_speed.py [rounds]

Both train the classic model (784-400-20, ReLU) with Adam 1e-3 in batches of 128 on the same
images and print the mean −ELBO of the epoch, which must agree to within noise. The classic loop
is the one that most programs have: a DataLoader over torchvision's MNIST with ToTensor, one thread,
``.item()`` at each step. The loops take turns, and the ratio of their medians counts: seconds alone
say more about the machine than about the code.
"""

import statistics
import sys
import time

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from vae_lessons.complete_implementation import loss_function
from vae_lessons.data import as_vectors, load_digits
from vae_lessons.elbo import elbo_terms
from vae_lessons.mnist import data_folder
from vae_lessons.training import fit
from vae_lessons.vae import VAE


def classic_loop(dataset):
    """One epoch as most programs write it: a function from a model to seconds and loss."""
    def run(model):
        loader = DataLoader(dataset, batch_size=128, shuffle=True)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        started, total = time.perf_counter(), 0.0
        for x, _ in loader:
            x = x.view(-1, 784)
            optimizer.zero_grad()
            logits, mu, log_var = model(x)
            loss = loss_function(logits, x, mu, log_var)
            loss.backward()
            total += loss.item()
            optimizer.step()
        return time.perf_counter() - started, total / len(dataset)

    return run


def package_loop(images, precision):
    """One epoch of ``fit`` with this precision: a function from a model to seconds and loss."""
    def run(model):
        epoch, = fit(model, images, elbo_terms, epochs=1, precision=precision, name=precision)
        return epoch.seconds, epoch.loss

    return run


def main(rounds=5):
    """Times the loops in turns and prints medians and ratios."""
    images = as_vectors(load_digits("train", source="mnist").images)
    dataset = MNIST(data_folder(), train=True, transform=transforms.ToTensor())
    loops = {"classic": classic_loop(dataset), "fit": package_loop(images, "highest"),
             'fit, precision="medium"': package_loop(images, "medium")}
    seconds, losses = {name: [] for name in loops}, {name: [] for name in loops}
    for seed in range(rounds):
        for name, loop in loops.items():
            torch.manual_seed(seed)
            for results, value in zip((seconds, losses), loop(VAE(784, 400, 20)), strict=True):
                results[name].append(value)
    classic = statistics.median(seconds["classic"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {rounds} rounds")
    for name in loops:
        median = statistics.median(seconds[name])
        print(f"{name:25s} {median:6.2f} s per epoch, {classic / median:4.1f} times as fast, "
              f"first epoch −ELBO {statistics.mean(losses[name]):.2f} nats")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
