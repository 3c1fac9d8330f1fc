"""The importance-weighted bound: closer to log p(x) the more draws it averages."""

import json
import math
from pathlib import Path

from vae_lessons.elbo import log_importance_weights
from vae_lessons.kl import gaussian_log_density
from vae_lessons.reparameterization import reparameterize


def iwae_bound(model, x, num_samples, generator=None):
    """``log mean_k w_k`` over ``num_samples`` importance weights: a bound to be maximised.

    With one sample it is the ELBO, estimated with one draw; it rises with more, and on average
    never exceeds log p(x).

    Shapes: x (B, D) -> (B,).  Units: nats.
    Raises: ValueError if num_samples is below 1.
    Source: Burda, Grosse & Salakhutdinov (2016), equation 8; chapter "iwae".
    """
    log_weights = log_importance_weights(model, x, num_samples, generator)  # (B, K)
    return log_weights.logsumexp(dim=1) - math.log(num_samples)


def doubly_reparameterized_bound(model, x, num_samples, generator=None):
    """The same bound, of the same draws, with a less noisy gradient for the encoder.

    Its value is that of ``iwae_bound``, and so is the gradient of all but the encoder. The
    encoder gets the doubly reparameterised gradient, which is the same on average: only the path
    through z counts, and each draw counts with the square of its normalised weight. It asks for a
    model with ``encode`` whose decoder shares no parameters with its encoder.

    Shapes: x (B, D) -> (B,).  Units: nats.
    Raises: ValueError if num_samples is below 1.
    Source: Tucker, Lawson, Gu & Maddison (2019); chapter "iwae".
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}: at least one sample is needed")
    mu, log_var = (each.repeat(num_samples, 1) for each in model.encode(x))
    z = reparameterize(mu, log_var, generator)  # (K B, L)
    log_qz_x = gaussian_log_density(z, mu.detach(), log_var.detach())
    log_weights = model.log_px_z(x.repeat(num_samples, 1), z) + model.log_pz(z) - log_qz_x
    log_weights = log_weights.view(num_samples, len(x))
    share = log_weights.detach().softmax(dim=0).view(-1, 1)  # (K B, 1)
    if z.requires_grad:  # logsumexp weighs with the share once, the hook a second time
        z.register_hook(lambda gradient: share * gradient)
    return log_weights.logsumexp(dim=0) - math.log(num_samples)


def published_runs():
    """What ``benchmarks/published_iwae.py`` has run, in order of K and of epochs: a list of dicts.

    Each has "num_samples" (K), "epochs", "training_seconds", "nll", "nll_standard_error" and
    "negative_elbo" (nats per test image), "active_units", "settings", "device", "torch", "date".
    """
    text = (Path(__file__).parent / "published_iwae.json").read_text(encoding="utf-8")
    return sorted(json.loads(text), key=lambda run: (run["num_samples"], run["epochs"]))
