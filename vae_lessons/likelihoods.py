"""Log-likelihoods of images given what a decoder says: one value per example, in nats."""

import math

import torch
import torch.nn.functional as F


def _check_same_shape(x, parameter, name):
    if x.ndim != 2 or x.shape != parameter.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and {name} {tuple(parameter.shape)}: "
            "both must be (B, D), a row of pixels for each example"
        )


def bernoulli_log_likelihood(x, logits):
    """Log-likelihood of x under independent Bernoulli pixels with these logits.

    For grey x in [0, 1] it is the negative cross-entropy, which is no log-likelihood of grey
    pixels: its exponential does not integrate to 1 (chapter "likelihoods").

    Shapes: x, logits (B, D) -> (B,).  Units: nats.
    Raises: ValueError if the shapes differ or are not (B, D).
    Source: Kingma & Welling (2014), appendix C.1; chapter "likelihoods".
    """
    _check_same_shape(x, logits, "logits")
    return (x * logits - F.softplus(logits)).sum(dim=1)


def gaussian_log_likelihood(x, mean, log_var):
    """Log density of x under independent Gaussian pixels.

    Shapes: x, mean (B, D), log_var broadcasts to them: (), (D,) or (B, D) -> (B,).  Units: nats.
    Raises: ValueError if x and mean differ in shape or are not (B, D).
    Source: Kingma & Welling (2014), appendix C.2; chapter "likelihoods".
    """
    _check_same_shape(x, mean, "mean")
    squares = (x - mean).square() / torch.as_tensor(log_var, dtype=x.dtype).exp()
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(dim=1)


def continuous_bernoulli_log_normalizer(logits):
    """``log((exp(logits) - 1) / logits)``, of any shape, exact for small and large logits.

    With ``a = |logits|`` it is ``max(logits, 0) + log((1 - exp(-a)) / a)``, in which nothing can
    overflow; near zero, where that is 0 / 0, its series takes over.

    Units: nats.
    Source: Loaiza-Ganem & Cunningham (2019); chapter "likelihoods".
    """
    a = logits.abs()
    small = a < 0.2
    series = logits / 2 + a.square() / 24 - a.pow(4) / 2880 + a.pow(6) / 181440
    safe = torch.where(small, 1.0, a)
    direct = logits.clamp(min=0) + torch.log(-torch.expm1(-safe) / safe)
    return torch.where(small, series, direct)


def continuous_bernoulli_log_likelihood(x, logits):
    """Log density of x in [0, 1] under independent continuous Bernoulli pixels.

    The density of a pixel is ``exp(logit * x)`` divided by its integral over [0, 1].

    Shapes: x, logits (B, D) -> (B,).  Units: nats.
    Raises: ValueError if the shapes differ or are not (B, D).
    Source: Loaiza-Ganem & Cunningham (2019); chapter "likelihoods".
    """
    _check_same_shape(x, logits, "logits")
    return (x * logits - continuous_bernoulli_log_normalizer(logits)).sum(dim=1)


def discretized_logistic_log_likelihood(x, mean, log_scale, levels=256):
    """Log probability of grey levels under a logistic density cut into bins.

    The levels 0, 1, ..., levels - 1 lie at ``x = level / (levels - 1)``. Each owns the bin that
    reaches half-way to its neighbours; the first and the last also own the tails, so that the
    probabilities of all levels add up to 1.

    Shapes: x, mean (B, D), log_scale broadcasts to them -> (B,).  Units: nats.
    Raises: ValueError if x and mean differ in shape or are not (B, D).
    Source: Salimans et al. (2017), section 2.1; chapter "likelihoods".
    """
    _check_same_shape(x, mean, "mean")
    half_bin = 0.5 / (levels - 1)
    inverse_scale = torch.exp(-torch.as_tensor(log_scale, dtype=x.dtype))
    upper = (x - mean + half_bin) * inverse_scale
    lower = (x - mean - half_bin) * inverse_scale
    # sigmoid(b) - sigmoid(a) = sigmoid(b) * sigmoid(-a) * (1 - exp(a - b)), without cancellation
    log_below_upper = torch.where(x > 1 - half_bin, 0.0, F.logsigmoid(upper))
    log_above_lower = torch.where(x < half_bin, 0.0, F.logsigmoid(-lower))
    inner = (x >= half_bin) & (x <= 1 - half_bin)
    log_inner = torch.log(-torch.expm1(-2 * half_bin * inverse_scale))
    log_mass = log_below_upper + log_above_lower + torch.where(inner, log_inner, 0.0)
    return log_mass.sum(dim=1)


def bits_per_pixel(log_likelihood, num_pixels):
    """``-log_likelihood`` in bits for each pixel.

    Shapes: log_likelihood (B,) in nats -> (B,).  Units: bits per pixel.
    Raises: ValueError if num_pixels is not positive.
    Source: chapter "likelihoods". Only probabilities of discrete pixels give a code length.
    """
    if num_pixels < 1:
        raise ValueError(f"num_pixels is {num_pixels}: an image has at least one pixel")
    return -log_likelihood / (num_pixels * math.log(2))
