"""The codec: exact images back, a length near -ELBO, and no wrong picture from any wrong file."""

import copy
import math
import random
import struct

import constriction
import numpy as np
import pytest
import torch
from torch import nn

from vae_lessons import compression
from vae_lessons.compression import (
    BINS_PER_UNIT,
    BLOCK,
    DIGEST_SIZE,
    HEADER,
    LAST_BIN,
    Codec,
    compress,
    decompress,
    model_digest,
)
from vae_lessons.conv_vae import ConvVAE
from vae_lessons.elbo import elbo
from vae_lessons.grey_vae import GreyVAE
from vae_lessons.hierarchical_vae import FlowVAE, GaussianVAE, HierarchicalVAE
from vae_lessons.linear_gaussian import LinearGaussian
from vae_lessons.vae import VAE

D, H, L = 12, 8, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(model, by=0.5):
    """The model with other parameters than it started with, so that z and pixels speak."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=seeded(1))
    return model


def vae(latent_dim=L, kind=VAE):
    torch.manual_seed(0)
    return shaken(kind(D, H, latent_dim))


def grey_vae():
    torch.manual_seed(0)
    return shaken(GreyVAE(D, H, L))


def black_and_white(num, *shape):
    return 255 * torch.randint(0, 2, (num, *(shape or (3, 4))), generator=seeded(num)).byte()


def grey(num, *shape):
    return torch.randint(0, 256, (num, *(shape or (3, 4))), generator=seeded(num)).byte()


KINDS = {"black and white": (vae, black_and_white), "grey": (grey_vae, grey)}
every_kind = pytest.mark.parametrize("kind", KINDS)


def built(kind, num, *shape):
    model, images = KINDS[kind]
    return model(), images(num, *shape)


def signed(body):
    """A file with this content, whose digest fits it: what only somebody on purpose makes."""
    return body + compression._digest(body)


# Exact


@every_kind
@pytest.mark.parametrize("num", [0, 1, 2, 3, BLOCK, 70, 300])
def test_the_same_images_come_back(kind, num):
    model, images = built(kind, num)
    back = decompress(model, compress(model, images))
    assert back.dtype == torch.uint8 and back.shape == images.shape and back.equal(images)


@every_kind
@pytest.mark.parametrize("shape", [(12,), (4, 3), (2, 2, 3), (12, 1, 1, 1)])
def test_images_of_any_shape(kind, shape):
    model, images = built(kind, 5, *shape)
    assert decompress(model, compress(model, images)).equal(images)
    strided = images.transpose(0, -1).contiguous().transpose(0, -1)
    assert compress(model, strided) == compress(model, images)


@pytest.mark.parametrize("level", [0, 1, 127, 128, 254, 255])
def test_every_level_comes_back_however_unlikely(level):
    model = grey_vae()
    with torch.no_grad():
        model.mixture.bias.view(5, D)[1:3] = 20.0  # all mass far above the last level, in vain
    images = torch.full((3, D), level, dtype=torch.uint8)
    assert decompress(model, compress(model, images)).equal(images)


def test_clouds_that_lie_beyond_the_bins_or_are_narrower_than_one():
    for bias, log_var in [(100.0, 0.0), (-7.3, -60.0), (0.3, 60.0)]:
        model = vae()
        with torch.no_grad():
            model.encoder.mu.bias.fill_(bias)
            model.encoder.log_var.bias.fill_(log_var)
        images = black_and_white(30)
        assert decompress(model, compress(model, images)).equal(images)


def test_more_latents_than_the_stack_can_pay_for():
    model, images = vae(latent_dim=200), black_and_white(40)
    assert decompress(model, compress(model, images)).equal(images)


@every_kind
def test_pop_undoes_push_and_leaves_the_stack_as_it_was(kind):
    model, images = built(kind, 9)
    codec, words = Codec(model, D), np.arange(1, 200, dtype=np.uint32)
    stack = constriction.stream.stack.AnsCoder(words)
    levels = codec.levels(images)
    codec.push(stack, levels)
    assert not np.array_equal(stack.get_compressed(), words)
    assert codec.pop(stack, 9).equal(levels)
    assert np.array_equal(stack.get_compressed(), words)
    assert codec.images([levels[:4], levels[4:]]).view(images.shape).equal(images)


def test_both_directions_ask_the_network_in_the_same_blocks():
    sizes = []

    class Watched(VAE):
        def encode(self, x):
            sizes.append(len(x))
            return super().encode(x)

    model = vae(kind=Watched)
    data = compress(model, black_and_white(300))
    there, sizes[:] = sizes[1:], []
    decompress(model, data)
    assert sizes[:0:-1] == there and sum(there) == 300
    assert max(there) == BLOCK and there[:4] == [1, 1, 1, 1], "blocks only when the stack is deep"


def test_the_model_stays_as_it_is():
    model, images = vae().train(), black_and_white(80)
    before = copy.deepcopy(model.state_dict())
    data = compress(model, images)
    decompress(model, data)
    assert model.training and data == compress(model, images), "the same file each time"
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32 and value.equal(before[name])


def test_training_mode_and_precision_do_not_matter():
    torch.manual_seed(0)
    model = vae()
    model.encoder.hidden.append(nn.Dropout(0.5))
    images = black_and_white(20)
    data = compress(model.train(), images)
    assert data == compress(model.eval(), images) == compress(model.double(), images)
    assert decompress(model.train(), data).equal(images)


# Length


def random_stack(seed):
    words = np.random.default_rng(seed).integers(1, 2**32, 4000, dtype=np.uint32)
    return constriction.stream.stack.AnsCoder(words)


@every_kind
def test_the_stack_grows_by_minus_the_elbo(kind):
    """On average over the bits that lie there, within six standard errors."""
    model, images = built(kind, BLOCK)
    codec, grown = Codec(model, D), []
    for seed in range(100):
        stack = random_stack(seed)
        before = stack.num_valid_bits()
        codec.push(stack, codec.levels(images))
        grown.append(stack.num_valid_bits() - before)
    with torch.no_grad():
        exact, x = copy.deepcopy(model).double(), images.flatten(1).double() / 255
        draws = torch.stack([elbo(exact, x, seeded(seed)).sum() for seed in range(1000)])
    grown, bits = torch.tensor(grown).double(), -draws / math.log(2)
    error = (grown.var() / len(grown) + bits.var() / len(bits)).sqrt()
    assert abs(grown.mean() - bits.mean()) < 6 * error and error < 0.01 * bits.mean()


def test_bits_come_back():
    """Without them each latent costs what its bin costs, although z may then be the best."""
    model, images = vae(), black_and_white(400)
    with_bits, codec = compress(model, images), Codec(vae(), D)
    stack = constriction.stream.stack.AnsCoder()
    for levels in codec.levels(images):
        codec.push(stack, levels[None], bits_back=False)
    assert stack.num_bits() - 8 * len(with_bits) > 400 * L


def test_one_image_needs_no_other_start():
    model, image = vae(), black_and_white(1)
    exact, x = copy.deepcopy(model).double(), image.flatten(1).double() / 255
    mu, _ = exact.encode(x)
    z = (mu * BINS_PER_UNIT).round() / BINS_PER_UNIT
    bits = -(exact.log_px_z(x, z) + exact.log_pz(z)) / math.log(2) + L * math.log2(BINS_PER_UNIT)
    payload = len(compress(model, image)) - len(compress(model, image[:0]))
    assert bits < 8 * payload < bits + 32 + 8


def test_the_bins_hold_all_but_nothing_of_the_prior():
    edge = torch.tensor((LAST_BIN + 0.5) / BINS_PER_UNIT, dtype=torch.float64)
    assert 2 * torch.special.ndtr(-edge) < 2e-9


# Damage


@every_kind
def test_every_altered_byte_is_noticed(kind):
    model, images = built(kind, 3)
    data, dice = compress(model, images), random.Random(0)
    for position in range(len(data)):
        for flip in (1, 128, dice.randrange(1, 256)):
            altered = bytearray(data)
            altered[position] ^= flip
            with pytest.raises(ValueError, match="damaged|begin with|version"):
                decompress(model, bytes(altered))


@every_kind
def test_every_cut_and_every_addition_is_noticed(kind):
    model, images = built(kind, 3)
    data = compress(model, images)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="damaged|begin with"):
            decompress(model, data[:length])
        with pytest.raises(ValueError, match="begin with"):
            decompress(model, data[length + 1:])
    for more in (b"\0", b"\0" * 4, data, data[-8:]):
        with pytest.raises(ValueError, match="damaged"):
            decompress(model, data + more)


@every_kind
def test_a_payload_that_was_forged_gives_no_wrong_picture(kind):
    model, images = built(kind, 5)
    body, dice = compress(model, images)[:-DIGEST_SIZE], random.Random(0)
    for _ in range(30):
        altered = bytearray(body)
        altered[dice.randrange(HEADER.size + 12, len(body))] ^= dice.randrange(1, 256)
        with pytest.raises(ValueError, match="computes other numbers|never ends in a zero word"):
            decompress(model, signed(bytes(altered)))
    stack_at, word = HEADER.size + 12, struct.pack("<I", 7)
    other_pixels = body[:HEADER.size - 1] + bytes([body[HEADER.size - 1] ^ 1]) + body[HEADER.size:]
    for forged in (body + word, body[:stack_at] + word + body[stack_at:], other_pixels):
        with pytest.raises(ValueError, match="computes other numbers"):
            decompress(model, signed(forged))


def test_a_forged_file_of_no_images_must_be_empty():
    body = compress(vae(), black_and_white(0))[:-DIGEST_SIZE]
    assert len(decompress(vae(), signed(body))) == 0
    with pytest.raises(ValueError, match="computes other numbers"):
        decompress(vae(), signed(body + struct.pack("<I", 7)))


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(80), b"V", bytes(100)])
def test_refuses_foreign_files(data):
    with pytest.raises(ValueError, match="no file that compress wrote"):
        decompress(vae(), data)


def test_refuses_what_is_no_bytes_and_newer_versions():
    with pytest.raises(ValueError, match="data are str; decompress wants the bytes of a file"):
        decompress(vae(), "VAEz")
    body = bytearray(compress(vae(), black_and_white(2))[:-DIGEST_SIZE])
    body[4] = 2
    with pytest.raises(ValueError, match="of version 2, and this program knows version 1"):
        decompress(vae(), signed(bytes(body)))


# The wrong model, the wrong machine


def conv_vae():
    torch.manual_seed(0)
    return ConvVAE(2, 6, L, side=4)


def other_parameter():
    model = vae()
    with torch.no_grad():
        model.decoder.logits.bias[3] += 1e-4
    return model


def other_activation():
    torch.manual_seed(0)
    return shaken(VAE(D, H, L, activation=nn.GELU))


@pytest.mark.parametrize("other", [
    grey_vae, conv_vae, other_parameter, other_activation, lambda: vae(latent_dim=4),
])
def test_refuses_another_model(other):
    data = compress(vae(), black_and_white(4))
    assert model_digest(other()) != model_digest(vae())
    with pytest.raises(ValueError, match=r"another model: it holds black and white images of "
                                         r"shape \(3, 4\)") as caught:
        decompress(other(), data)
    assert model_digest(vae()).hex() in str(caught.value)


def test_the_digest_of_a_model_does_not_depend_on_its_precision():
    assert model_digest(vae()) == model_digest(vae()) == model_digest(vae().double())
    assert len(model_digest(vae())) == DIGEST_SIZE


class OtherMachine(VAE):
    """A model whose answers differ from call to call in their last digits, or in more."""

    error = 0.0

    def encode(self, x):
        return [part + self.error * torch.randn_like(part) for part in super().encode(x)]

    def decode(self, z):
        logits = super().decode(z)
        return logits + self.error * torch.randn_like(logits)


def test_other_last_digits_do_not_matter():
    model, images = vae(kind=OtherMachine), black_and_white(300)
    torch.manual_seed(0)
    model.error = 1e-9
    assert decompress(model, compress(model, images)).equal(images)


def test_other_arithmetic_is_noticed():
    model, images = vae(kind=OtherMachine), black_and_white(100)
    data = compress(model, images)
    model.error = 1e-3
    with pytest.raises(ValueError, match="the file is whole and the model is the one"):
        decompress(model, data)


# What compress refuses


def test_grey_images_and_a_model_of_black_and_white():
    with pytest.raises(ValueError, match="train a GreyVAE, which knows grey levels"):
        compress(vae(), grey(2))
    with pytest.raises(ValueError, match="0 and 255 by 255"):
        compress(vae(), black_and_white(2) // 255)


def test_a_grey_model_takes_black_and_white_images():
    model, images = grey_vae(), black_and_white(20)
    assert decompress(model, compress(model, images)).equal(images)


@pytest.mark.parametrize("images", [
    torch.zeros(2, D), torch.zeros(2, D, dtype=torch.int64), torch.tensor(3).byte(),
    torch.zeros(D).byte(), np.zeros((2, D), np.uint8), "images", None,
])
def test_refuses_what_is_no_uint8_images(images):
    with pytest.raises(ValueError, match=r"wants a torch tensor of uint8 \(0 to 255\)"):
        compress(vae(), images)


@pytest.mark.parametrize("shape", [(2, 13), (0, 13), (2, 0), (3, 4, 4)])
def test_refuses_images_of_another_width(shape):
    with pytest.raises(ValueError, match=r"but \(B, 12\) is wanted"):
        compress(vae(), torch.zeros(shape).byte())


@pytest.mark.parametrize("model", [
    LinearGaussian(D, L), FlowVAE(VAE(D, H, L), L, hidden_dim=6, couplings=2),
    HierarchicalVAE(VAE(D, H, L), GaussianVAE(L, 5, 2)), GaussianVAE(D, H, L), nn.Linear(D, D),
    "a model",
])
def test_refuses_models_that_it_has_no_bits_back_for(model):
    for call in (lambda: compress(model, black_and_white(1)),
                 lambda: decompress(model, compress(vae(), black_and_white(1)))):
        with pytest.raises(ValueError, match=rf"the model is a {type(model).__name__}; wanted is"):
            call()


@pytest.mark.parametrize("part", ["encoder.mu.bias", "decoder.logits.bias"])
def test_refuses_a_model_with_nan(part):
    model = vae()
    with torch.no_grad():
        model.get_parameter(part)[1] = math.nan
    with pytest.raises(ValueError, match="answers with NaN or infinity"):
        compress(model, black_and_white(3))
