"""Models that several chapters use: trained once, then found again in a cache.

Whoever opens one chapter alone waits for its training and gets the same model. The key of a
stored model holds the recipe, the data, the source of the modules that the recipe names and of
all behind them, the version of torch, and the parameters of the models that this one is built on,
so that a change in any of them trains anew.
"""

import copy
import hashlib
import inspect
import pathlib
import re

import torch
from filelock import FileLock
from torch import nn

from vae_lessons.autoencoder import Autoencoder, negative_squared_error
from vae_lessons.classifier import Classifier, fit_classifier
from vae_lessons.conditional_vae import ConditionalVAE
from vae_lessons.conv_vae import ConvVAE
from vae_lessons.data import as_vectors, binarize
from vae_lessons.elbo import elbo_terms
from vae_lessons.grey_vae import GreyVAE, mean_mixture
from vae_lessons.hierarchical_vae import GaussianVAE, HierarchicalVAE
from vae_lessons.mlp import start_bias_at
from vae_lessons.mnist import data_folder
from vae_lessons.progress import Progress
from vae_lessons.training import Epoch, cosine, fit, history_line, matmul_precision, warm_up
from vae_lessons.vae import VAE, mean_image_logits
from vae_lessons.vq_vae import (
    NUM_POSITIONS,
    VQVAE,
    CausalPrior,
    log_frequencies,
    restart_entries,
    vq_objective,
)

PACKAGE = pathlib.Path(__file__).parent


def plane_vae(train, test):
    """A VAE with a 2-D latent space, and its history; binarised pixels.

    Shapes: train, test are ``data.Digits``.  Source: chapter "latent_space".
    """
    def build(x):
        return VAE(x.shape[1], 400, 2, layers=2, activation=nn.GELU,
                   output_bias=mean_image_logits(x))

    def learn(model, x, test_x):
        return fit(model, x, elbo_terms, epochs=10, learning_rate=3e-3, schedule=cosine(),
                   binarized=True, test_images=test_x, precision="medium", name="plane_vae")

    return train_once("plane_vae", build, learn, train, test)


def improved_vae(train, test):
    """The classic VAE, 784-400-20, trained better in as many steps; binarised pixels.

    Shapes: train, test are ``data.Digits``.  Source: chapter "training".
    """
    def build(x):
        return VAE(x.shape[1], 400, 20, activation=nn.GELU, output_bias=mean_image_logits(x))

    def learn(model, x, test_x):
        return fit(model, x, elbo_terms, epochs=10, learning_rate=5e-3, schedule=cosine(),
                   binarized=True, test_images=test_x, precision="medium", name="improved_vae")

    return train_once("improved_vae", build, learn, train, test)


def plane_autoencoder(train, test):
    """A plain autoencoder with a code of two numbers, and its history; grey pixels.

    Shapes: train, test are ``data.Digits``.  Source: chapter "autoencoder".
    """
    def build(x):
        return Autoencoder(x.shape[1], 400, 2, layers=2, activation=nn.GELU)

    def learn(model, x, test_x):
        return fit(model, x, negative_squared_error, epochs=6, learning_rate=2e-3,
                   schedule=cosine(), test_images=test_x, precision="medium",
                   name="plane_autoencoder")

    return train_once("plane_autoencoder", build, learn, train, test)


def deep_vae(train, test):
    """A VAE with two hidden layers each way and the KL warmed up, and its history; binarised.

    Shapes: train, test are ``data.Digits``.  Source: chapter "evaluation".
    """
    def build(x):
        return VAE(x.shape[1], 400, 40, layers=2, activation=nn.GELU,
                   output_bias=mean_image_logits(x))

    def learn(model, x, test_x):
        return fit(model, x, elbo_terms, epochs=14, learning_rate=3e-3, schedule=cosine(),
                   kl_weight=warm_up(0.2), binarized=True, test_images=test_x,
                   precision="medium", name="deep_vae")

    return train_once("deep_vae", build, learn, train, test)


def conv_vae(train, test):
    """A convolutional VAE with 20 latents, and its history; binarised pixels.

    Shapes: train, test are ``data.Digits`` of 28 x 28 pixels.  Source: chapter "conv_vae".
    """
    def build(x):
        return ConvVAE(channels=16, hidden_dim=128, latent_dim=20,
                       output_bias=mean_image_logits(x))

    def learn(model, x, test_x):
        return fit(model, x, elbo_terms, epochs=6, learning_rate=6e-3, schedule=cosine(),
                   binarized=True, test_images=test_x, precision="medium", name="conv_vae")

    return train_once("conv_vae", build, learn, train, test)


def conditional_vae(train, test):
    """A VAE that is told the class, trained with beta = 2, and its history; binarised pixels.

    Shapes: train, test are ``data.Digits`` of ten classes.  Source: chapter "conditional_vae".
    """
    def build(x):
        return ConditionalVAE(x.shape[1], 300, 20, 10, layers=2, activation=nn.GELU,
                              output_bias=mean_image_logits(x))

    def learn(model, x, test_x):
        return fit(model, x, elbo_terms, epochs=6, learning_rate=3e-3, schedule=cosine(),
                   kl_weight=lambda done: 2.0, binarized=True, test_images=test_x,
                   labels=train.labels, test_labels=test.labels, precision="medium",
                   name="conditional_vae")

    return train_once("conditional_vae", build, learn, train, test)


def vq_vae(train, test):
    """A VQ-VAE of 64 entries that start on vectors of images, and its history; binarised pixels.

    After the first of two epochs the entries that nobody chooses are restarted.

    Shapes: train, test are ``data.Digits`` of 28 x 28 pixels.  Source: chapter "vq_vae".
    """
    def build(x):
        return VQVAE(codebook_size=64, output_bias=mean_image_logits(x))

    def learn(model, x, test_x):
        generator = torch.Generator().manual_seed(0)
        some = binarize(x[:10_000], generator)
        restart_entries(model, some[:1000], torch.ones(64, dtype=torch.bool), generator)

        def restart_the_dead(number):
            if number == 1:
                dead = torch.ones(64, dtype=torch.bool)
                with torch.no_grad():
                    dead[model.encode_codes(some).unique()] = False
                restart_entries(model, some[:1000], dead, generator)

        return fit(model, x, vq_objective, epochs=2, learning_rate=1e-2, schedule=cosine(),
                   binarized=True, precision="medium", name="vq_vae",
                   after_epoch=restart_the_dead)

    return train_once("vq_vae", build, learn, train, test)


def vq_prior(model, train, test):
    """The causal prior over the codes that a ``vq_vae`` gives the images, and its history.

    It starts near the prior that draws each position on its own.

    Shapes: train, test are ``data.Digits`` of 28 x 28 pixels.  Source: chapter "vq_vae".
    """
    def build(x):
        return CausalPrior(NUM_POSITIONS, len(model.codebook))

    def learn(prior, x, test_x):
        def codes(x):
            with torch.no_grad():
                return torch.cat([model.encode_codes(part) for part in x.split(1000)])

        def log_prob_of_codes(prior, x, generator):
            return prior.log_prob(codes(x))

        tossed = binarize(x, torch.Generator().manual_seed(0))
        start_bias_at(prior.bias, log_frequencies(codes(tossed), len(model.codebook)))

        return fit(prior, x, log_prob_of_codes, epochs=2, learning_rate=1e-2, schedule=cosine(),
                   binarized=True, precision="medium", name="vq_prior")

    return train_once("vq_prior", build, learn, train, test, model)


def stacked_vae(lower, train, test):
    """A second layer of ten latents on a ``deep_vae`` that stays as it is, and its history.

    The KL of the upper layer is warmed up; binarised pixels.

    Shapes: train, test are ``data.Digits``.  Source: chapter "hierarchical_vae".
    """
    def build(x):
        upper = GaussianVAE(input_dim=40, hidden_dim=400, latent_dim=10)
        return HierarchicalVAE(copy.deepcopy(lower), upper)

    def learn(model, x, test_x):
        def upper_terms(model, x, generator):
            with torch.no_grad():
                z1, _ = model.lower.sample_posterior(x, generator)
            return elbo_terms(model.upper, z1, generator)

        return fit(model, x, upper_terms, epochs=2, learning_rate=3e-3, schedule=cosine(),
                   kl_weight=warm_up(0.5), binarized=True, precision="medium",
                   name="stacked_vae")

    return train_once("stacked_vae", build, learn, train, test, lower)


def two_layer_vae(stacked, train, test):
    """Both layers of a ``stacked_vae`` trained together for two more epochs, and the history.

    Shapes: train, test are ``data.Digits``.  Source: chapter "hierarchical_vae".
    """
    def build(x):
        return copy.deepcopy(stacked).requires_grad_(True)

    def learn(model, x, test_x):
        return fit(model, x, elbo_terms, epochs=2, learning_rate=1e-3, schedule=cosine(),
                   binarized=True, precision="medium", name="two_layer_vae")

    return train_once("two_layer_vae", build, learn, train, test, stacked)


def grey_vae(train, test):
    """A VAE for grey pixels with the KL warmed up, and its history.

    Shapes: train, test are ``data.Digits``.  Source: chapter "compression".
    """
    def build(x):
        return GreyVAE(x.shape[1], 300, 30, layers=2, activation=nn.GELU, start=mean_mixture(x))

    def learn(model, x, test_x):
        return fit(model, x, elbo_terms, epochs=6, learning_rate=4e-3, schedule=cosine(),
                   kl_weight=warm_up(0.3), test_images=test_x, precision="medium",
                   name="grey_vae")

    return train_once("grey_vae", build, learn, train, test)


def judge(train, test):
    """The classifier that judges samples throughout the book.

    Shapes: train, test are ``data.Digits`` of 28 x 28 pixels.  Source: chapter "autoencoder".
    """
    def learn(model, x, test_x):
        with matmul_precision("medium"):
            fit_classifier(model, x, train.labels, epochs=3)
        return []

    model, _ = train_once("judge", lambda x: Classifier(), learn, train, test)
    return model


def train_once(name, build, learn, train, test, *behind):
    """The model and history of ``learn(build(x), x, test_x)``, from the cache if they are there.

    ``behind`` are the trained models that this one is built on; for others it is trained anew.
    A lock keeps two notebooks from training the same model at once, and a file is put in place
    only when it is whole.
    """
    x, test_x = as_vectors(train.images), as_vectors(test.images)
    torch.manual_seed(0)
    model = build(x)
    folder = data_folder() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    data = [*train[:2], *test[:2]]
    data += [value for one in behind for value in one.state_dict().values()]
    file = folder / f"{name}-{_key(build, learn, *data)}.pt"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            history = learn(model, x, test_x)
            _store(file, model, history)
            return model, history
    stored = torch.load(file, weights_only=True)
    model.load_state_dict(stored["parameters"])
    history = [Epoch(*epoch) for epoch in stored["history"]]
    if history:
        Progress(1).finish(history_line(history, name))
    return model.eval(), history


def _store(file, model, history):
    unfinished = file.with_suffix(".unfinished")
    parameters = {name: value.cpu() for name, value in model.state_dict().items()}
    history = [list(epoch) for epoch in history]
    torch.save({"parameters": parameters, "history": history}, unfinished)
    unfinished.replace(file)


def _key(build, learn, *data):
    """A digest of everything that a stored model depends on."""
    digest = hashlib.sha256(torch.__version__.encode())
    for part in (build, learn):
        digest.update(inspect.getsource(part).encode())
    named = set().union(*map(_modules_named_in, (build, learn, train_once))) - {"recipes"}
    for source in sorted(set().union(*map(_modules_behind, named))):
        digest.update((PACKAGE / f"{source}.py").read_bytes())
    for tensor in data:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _modules_named_in(function):
    """The modules of this package whose functions and classes a function names."""
    modules, parts = set(), [function.__code__]
    while parts:
        code = parts.pop()
        parts += [inner for inner in code.co_consts if inspect.iscode(inner)]
        things = [function.__globals__.get(name) for name in code.co_names]
        modules |= {getattr(thing, "__module__", None) or "" for thing in things}
    return {name.split(".")[1] for name in modules if name.startswith("vae_lessons.")}


def _modules_behind(word):
    """The names of a module of this package and of all that it imports, near or far."""
    source = (PACKAGE / f"{word}.py").read_text(encoding="utf-8")
    imported = re.findall(r"^from vae_lessons\.(\w+) import", source, re.MULTILINE)
    return {word}.union(*map(_modules_behind, imported))
