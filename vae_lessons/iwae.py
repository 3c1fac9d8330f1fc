"""The importance-weighted bound: closer to log p(x) the more draws it averages."""

import math

from vae_lessons.elbo import log_importance_weights


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
