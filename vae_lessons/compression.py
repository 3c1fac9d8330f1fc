"""A lossless codec for images: bits-back coding with asymmetric numeral systems.

A file is a header, the shape of the images, the words of the coder's stack, and a digest of all
that stands before it.
"""

import copy
import hashlib
import math
import struct

import constriction
import numpy as np
import torch

from vae_lessons.grey_vae import LEVELS, GreyVAE, log_mass
from vae_lessons.latent_model import LatentModel

AnsCoder = constriction.stream.stack.AnsCoder

BINS_PER_UNIT = 16  # the bins of a latent are 1/16 wide
LAST_BIN = 6 * BINS_PER_UNIT  # and lie from -6 to 6, where N(0, 1) has all but 2e-9 of its mass
GAUSSIAN = constriction.stream.model.QuantizedGaussian(-LAST_BIN, LAST_BIN)
PRIOR = constriction.stream.model.QuantizedGaussian(-LAST_BIN, LAST_BIN, 0.0, BINS_PER_UNIT)
COIN = constriction.stream.model.Bernoulli(perfect=False)

BLOCK = 64  # images that pass through the network together
GRID = 2.0**-12  # what the network answers is rounded to multiples of this
LARGEST_ANSWER = 16.0  # and kept within this; as a logit, one chance in nine million

MAGIC, VERSION = b"VAEz", 1
HEADER = struct.Struct("<4s4BI8s8s")  # then the shape of the images, 4 bytes for each axis
DIGEST_SIZE = 8


def compress(model, images):
    """The images as a file, from which ``decompress`` makes the same images with the same model.

    A model with Bernoulli pixels wants black and white images, of values 0 and 255; a
    ``GreyVAE`` takes all values. The model stays as it is, and is not in the file.

    Shapes: images (N, ...) uint8, N >= 0, each with as many pixels as the model has -> bytes.
    Raises: ValueError for images of another type, width or kind, and for a model without a
    Gaussian q, the prior N(0, I) and discrete pixels, or with NaN in its answers.
    Source: Townsend, Bird & Barber (2019); chapter "compression".
    """
    _check_images(images)
    codec = Codec(model, math.prod(images.shape[1:]))
    levels, stack, singles = codec.levels(images), AnsCoder(), 0
    while singles < len(levels) and stack.num_bits() < codec.bits_for_a_block:
        codec.push(stack, levels[singles:singles + 1], bits_back=singles > 0)
        singles += 1
    for block in levels[singles:].split(BLOCK):
        codec.push(stack, block)
    header = HEADER.pack(MAGIC, VERSION, codec.num_levels - 1, images.ndim, BLOCK, singles,
                         model_digest(model), _pixel_digest(images))
    shape = struct.pack(f"<{images.ndim}I", *images.shape)
    body = header + shape + stack.get_compressed().astype("<u4").tobytes()
    return body + _digest(body)


def decompress(model, data):
    """The images of a file that ``compress`` made with the same model.

    Shapes: bytes -> (N, ...) uint8.
    Raises: ValueError for data that are no such file, for a damaged file, for another model than
    the one that wrote it, and where this machine's arithmetic gives other pixels.
    Source: Townsend, Bird & Barber (2019); chapter "compression".
    """
    _check_file(data)
    _, _, top, num_axes, block, singles, of_model, of_pixels = HEADER.unpack_from(data)
    start = HEADER.size + 4 * num_axes
    num, *sides = struct.unpack_from(f"<{num_axes}I", data, HEADER.size)
    _check_model_of_file(model, of_model, top, sides)
    codec = Codec(model, math.prod(sides))
    stack = AnsCoder(np.frombuffer(data[start:-DIGEST_SIZE], "<u4").astype(np.uint32))
    sizes = [1] * singles + [min(block, num - i) for i in range(singles, num, block)]
    blocks = [codec.pop(stack, size) for size in sizes[:0:-1]]
    blocks += [codec.pop(stack, 1, bits_back=False)] if num else []
    images = codec.images(blocks[::-1]).view(num, *sides)
    if not stack.is_empty() or _pixel_digest(images) != of_pixels:
        raise ValueError(OTHER_ARITHMETIC)
    return images


class Codec:
    """A model made ready for coding: a copy in float64, on the CPU, in evaluation mode.

    What two machines compute may differ in the last digits, and so may what one machine computes
    for batches of two sizes. So blocks are the same in both directions, and what the network
    answers is rounded to multiples of ``GRID`` before the coder sees it.

    Shapes: levels (B, num_pixels), whole numbers below num_levels, in float64.
    Raises: ValueError for a model that this codec can't use, or one of another width.
    Source: Townsend, Bird & Barber (2019), section 2; chapter "compression".
    """

    def __init__(self, model, num_pixels):
        _check_model(model)
        self.model = copy.deepcopy(model).cpu().double().eval()
        self.num_pixels = num_pixels
        self.num_levels = LEVELS if isinstance(model, GreyVAE) else 2
        mu, _ = self.model.encode(torch.zeros(0, num_pixels, dtype=torch.float64))
        self.latent_dim = mu.shape[1]
        # more than the latents of a block can take from the stack
        self.bits_for_a_block = BLOCK * self.latent_dim * math.log2(2 * LAST_BIN + 1)

    def push(self, stack, levels, bits_back=True):
        """Puts a block of images on the stack. What lies there chooses z, and so pays for it.

        The first image finds an empty stack: without ``bits_back`` its z is the centre of q.
        """
        mean, std = self._posterior(levels)
        bins = stack.decode(GAUSSIAN, mean, std) if bits_back else _nearest_bins(mean)
        self._push_pixels(stack, bins, levels)
        stack.encode_reverse(bins, PRIOR)

    def pop(self, stack, num, bits_back=True):
        """Takes ``num`` images off the stack: the steps of ``push`` undone, from the last."""
        bins = stack.decode(PRIOR, num * self.latent_dim)
        levels = self._pop_pixels(stack, bins)
        mean, std = self._posterior(levels)
        if bits_back:
            stack.encode_reverse(bins, GAUSSIAN, mean, std)
        return levels

    def levels(self, images):
        """What the coder counts with: (N, ...) uint8 -> (N, num_pixels), checked."""
        if self.num_levels == 2 and not ((images == 0) | (images == 255)).all():
            raise ValueError(NOT_BLACK_AND_WHITE)
        return images.cpu().flatten(1).double() // (256 // self.num_levels)

    def images(self, levels):
        """The inverse of ``levels``, from a list of blocks: (N, num_pixels) uint8."""
        nothing = torch.zeros(0, self.num_pixels, dtype=torch.float64)
        return (torch.cat([nothing, *levels]) * 255 / (self.num_levels - 1)).to(torch.uint8)

    @torch.no_grad()
    def _posterior(self, levels):
        """Centre and width of q for each latent of the block, counted in bins."""
        mu, log_var = self.model.encode(levels / (self.num_levels - 1))
        std = torch.exp(0.5 * _rounded(log_var))
        return [(BINS_PER_UNIT * each).flatten().numpy() for each in (_rounded(mu), std)]

    def _push_pixels(self, stack, bins, levels):
        answers, asked = levels.flatten(), []

        def answer(chance, pixels, threshold):
            asked.append((answers[pixels] >= threshold, chance))
            return asked[-1][0]

        self.find_levels(bins, answer)
        for yes, chance in reversed(asked):
            stack.encode_reverse(yes.int().numpy(), COIN, chance)

    def _pop_pixels(self, stack, bins):
        def answer(chance, pixels, threshold):
            return torch.from_numpy(stack.decode(COIN, chance)).bool()

        return self.find_levels(bins, answer).view(-1, self.num_pixels)

    @torch.no_grad()
    def find_levels(self, bins, answer):
        """The level of every pixel of the block, found by asking: is it at least so much?

        The first threshold is 1, ink or none; each further one halves what is left.
        ``answer(chance, pixels, threshold)`` is told how likely each yes is.
        """
        z = torch.from_numpy(bins / BINS_PER_UNIT).view(-1, self.latent_dim)
        decoded = self.model.decode(z).flatten(0, 1)
        low = torch.zeros(len(decoded), dtype=torch.float64)
        high = torch.full_like(low, self.num_levels)
        pixels = torch.arange(len(decoded))  # those whose level is not known yet
        while len(pixels):
            below, above = low[pixels], high[pixels]
            threshold = torch.where(below == 0, 1.0, ((below + above) / 2).floor())
            logits = _rounded(_log_odds(decoded[pixels], below, threshold, above))
            yes = answer(torch.sigmoid(logits).numpy(), pixels, threshold)
            low[pixels] = torch.where(yes, threshold, below)
            high[pixels] = torch.where(yes, above, threshold)
            pixels = pixels[high[pixels] - low[pixels] > 1]
        return low


def model_digest(model):
    """8 bytes that change with the kinds of the model's layers and with its parameters."""
    parts = [f"{name} {type(module).__qualname__}" for name, module in model.named_modules()]
    parts += [f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items()]
    values = [value.cpu().double().numpy().tobytes() for value in model.state_dict().values()]
    return _digest("\n".join(parts).encode(), *values)


def _log_odds(decoded, low, threshold, high):
    """Logit of "at least the threshold", given that the level lies in low, ..., high - 1."""
    if decoded.ndim == 1:  # Bernoulli pixels: there is only one question
        return decoded
    return log_mass(decoded, threshold, high) - log_mass(decoded, low, threshold)


def _rounded(answer):
    """What the network answers without the digits in which two machines may differ."""
    if not answer.isfinite().all():
        raise ValueError("the model answers with NaN or infinity: look at its parameters")
    return (answer.clamp(-LARGEST_ANSWER, LARGEST_ANSWER) / GRID).round() * GRID


def _nearest_bins(mean):
    return np.rint(mean).clip(-LAST_BIN, LAST_BIN).astype(np.int32)


def _digest(*parts):
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _pixel_digest(images):
    return _digest(images.cpu().numpy().tobytes())


def _check_images(images):
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8 or images.ndim < 2:
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            f"images are {kind} of shape {tuple(getattr(images, 'shape', ()))}; compress wants a "
            "torch tensor of uint8 (0 to 255) of shape (N, ...), as load_digits returns them"
        )


NOT_BLACK_AND_WHITE = (
    "the images hold other values than 0 and 255, but this model's pixels are black or white. "
    "Toss a coin for each pixel, (255 * binarize(as_vectors(images))).byte(), which changes the "
    "images; or train a GreyVAE, which knows grey levels. Values 0 and 1 become 0 and 255 by "
    "255 * images."
)
OTHER_ARITHMETIC = (
    "the file is whole and the model is the one that wrote it, and yet other pixels come out: "
    "this machine, or its version of torch or constriction, computes other numbers than the one "
    "that wrote the file. Decompress it where it was written."
)


def _check_model(model):
    """Refuses what has no Gaussian q, no prior N(0, I) or no pixels that are discrete."""
    kind = type(model)
    gaussian = isinstance(model, LatentModel) and hasattr(model, "encode") and all(
        getattr(kind, name) is getattr(LatentModel, name) for name in ("sample_posterior", "log_pz")
    )
    discrete = isinstance(model, GreyVAE) or getattr(kind, "log_px_z", None) is LatentModel.log_px_z
    if not (gaussian and discrete):
        raise ValueError(
            f"the model is a {kind.__name__}; wanted is a LatentModel with a Gaussian encoder, the "
            "prior N(0, I) and Bernoulli pixels, such as VAE or ConvVAE, or a GreyVAE"
        )


def _check_file(data):
    """Refuses what compress did not write, or what has changed since."""
    if not isinstance(data, bytes):
        raise ValueError(f"data are {type(data).__name__}; decompress wants the bytes of a file")
    if data[:len(MAGIC)] != MAGIC:
        raise ValueError(
            f"data begin with {data[:len(MAGIC)]!r} and not with {MAGIC!r}: "
            "this is no file that compress wrote"
        )
    if len(data) > len(MAGIC) and data[len(MAGIC)] > VERSION:
        raise ValueError(
            f"the file is of version {data[len(MAGIC)]}, and this program knows version {VERSION}: "
            "update vae_lessons (or, if you know the file to be older, it is damaged)"
        )
    if len(data) < HEADER.size + DIGEST_SIZE or _digest(data[:-DIGEST_SIZE]) != data[-DIGEST_SIZE:]:
        raise ValueError(
            f"the file of {len(data)} bytes is damaged: its digest does not fit its content. "
            "It was cut off or altered; fetch it again"
        )


def _check_model_of_file(model, of_model, top, sides):
    _check_model(model)
    if model_digest(model) != of_model:
        kind = "black and white" if top == 1 else "grey"
        raise ValueError(
            f"the file was written with another model: it holds {kind} images of shape "
            f"{tuple(sides)} by a model with digest {of_model.hex()}, and this "
            f"{type(model).__name__} has {model_digest(model).hex()}. Load the model that wrote it"
        )
