"""The convolutional VAE: shapes, parameters, what is shared, what is near, draws and densities."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Normal

from vae_lessons.conv_vae import ConvDecoder, ConvEncoder, ConvVAE
from vae_lessons.vae import mean_image_logits

SIDE, C, H, L = 12, 3, 7, 4
D, INNER = SIDE * SIDE, SIDE // 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_model(**options):
    torch.manual_seed(0)
    return ConvVAE(C, H, L, side=SIDE, **options)


def pixels(num, seed=0):
    return torch.rand(num, D, generator=seeded(seed))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


# Shapes


@pytest.mark.parametrize("num", [0, 1, 5])
def test_shapes(num):
    model, x = small_model(), pixels(num)
    logits, mu, log_var = model(x)
    z, log_qz_x = model.sample_posterior(x)
    assert (logits.shape, mu.shape, log_var.shape) == ((num, D), (num, L), (num, L))
    assert (z.shape, log_qz_x.shape) == ((num, L), (num,))
    assert model.decode(z).shape == (num, D)
    assert (model.log_pz(z).shape, model.log_px_z(x, z).shape) == ((num,), (num,))


def test_sizes_when_none_are_given():
    logits, mu, _ = ConvVAE()(torch.zeros(2, 784))
    assert (logits.shape, mu.shape) == ((2, 784), (2, 20))


@pytest.mark.parametrize("shape", [(D,), (2, D + 1), (2, SIDE, SIDE), (2, 1, D)])
def test_refuses_images_of_another_shape(shape):
    for part in (small_model(), small_model().encoder, small_model().encode):
        with pytest.raises(ValueError, match=r"but \(B, 144\) is wanted") as caught:
            part(torch.zeros(shape))
        assert f"x has shape {shape}" in str(caught.value)


@pytest.mark.parametrize("shape", [(L,), (2, L + 1)])
def test_refuses_latents_of_another_shape(shape):
    for part in (small_model().decoder, small_model().decode):
        with pytest.raises(ValueError, match=r"but \(B, 4\) is wanted") as caught:
            part(torch.zeros(shape))
        assert f"z has shape {shape}" in str(caught.value)


@pytest.mark.parametrize("kind", [ConvVAE, ConvEncoder, ConvDecoder])
@pytest.mark.parametrize("sizes", [(0, H, L), (C, 0, L), (C, H, 0), (C, H, -1), (C, H, 2.0)])
def test_refuses_sizes(kind, sizes):
    with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
        kind(*sizes, side=SIDE)


@pytest.mark.parametrize(("side", "message"), [
    (0, "side is 0: it must be a whole number"), (12.0, "side is 12.0: it must be a whole number"),
    (14, "side is 14: it must be a multiple of 4"), (27, "side is 27: it must be a multiple of 4"),
])
@pytest.mark.parametrize("kind", [ConvVAE, ConvEncoder, ConvDecoder])
def test_refuses_a_side(kind, side, message):
    with pytest.raises(ValueError, match=message):
        kind(C, H, L, side=side)


@pytest.mark.parametrize("shape", [(D - 1,), (1, D), ()])
def test_refuses_an_output_bias_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"but \(144,\) is wanted") as caught:
        small_model(output_bias=torch.zeros(shape))
    assert f"output_bias has shape {shape}" in str(caught.value)


# What it is made of


def test_parameters():
    inner = 2 * C * INNER * INNER
    encoder = 16 * C + C + 16 * C * 2 * C + 2 * C + inner * H + H + 2 * (H * L + L)
    decoder = L * H + H + H * inner + inner + 9 * (2 * C) ** 2 + 2 * C + 9 * 2 * C * 16 + D
    model = small_model()
    assert (count(model.encoder), count(model.decoder)) == (encoder, decoder)
    assert count(ConvVAE()) == 434_088


def test_encoder_by_patches():
    """Each convolution as one matrix product: patches of 4 x 4, two pixels apart, unfolded."""
    model, x = small_model().encoder, pixels(5)
    h = x.view(5, 1, SIDE, SIDE)
    for layer in (model.maps[1], model.maps[3]):
        patches = F.unfold(h, 4, padding=1, stride=2)  # (B, channels in * 16, places)
        h = F.gelu(layer.weight.flatten(1) @ patches + layer.bias[:, None])
        h = h.unflatten(2, (int(h.shape[2] ** 0.5),) * 2)
    h = F.gelu(h.flatten(1) @ model.dense[1].weight.T + model.dense[1].bias)
    mu, log_var = model(x)
    torch.testing.assert_close(mu, h @ model.mu.weight.T + model.mu.bias)
    torch.testing.assert_close(log_var, h @ model.log_var.weight.T + model.log_var.bias)


def test_decoder_by_places():
    """The last channels of a place, sixteen, are the pixels of a 4 x 4 square, row by row."""
    model, z = small_model(output_bias=torch.linspace(-2, 2, D)).decoder, torch.randn(5, L)
    h = F.gelu(z @ model.dense[0].weight.T + model.dense[0].bias)
    h = F.gelu(h @ model.dense[2].weight.T + model.dense[2].bias)
    h = h.view(5, 2 * C, INNER, INNER)
    h = F.gelu(F.conv2d(h, model.maps[0].weight, model.maps[0].bias, padding=1))
    h = F.conv2d(h, model.maps[2].weight, padding=1)
    wanted = torch.empty(5, SIDE, SIDE)
    for row in range(SIDE):
        for column in range(SIDE):
            channel = 4 * (row % 4) + column % 4
            wanted[:, row, column] = h[:, channel, row // 4, column // 4]
    torch.testing.assert_close(model(z), wanted.flatten(1) + torch.linspace(-2, 2, D))


def test_output_bias_is_where_the_bias_starts():
    bias = torch.linspace(-2, 2, D)
    model = small_model(output_bias=bias)
    assert model.decoder.output_bias.equal(bias) and model.decoder.output_bias.requires_grad
    bias += 1
    assert not model.decoder.output_bias.equal(bias), "the parameter is a copy"
    assert small_model().decoder.output_bias.equal(torch.zeros(D))


def test_with_silent_weights_the_decoder_gives_the_mean_image():
    images = pixels(50)
    model = small_model(output_bias=mean_image_logits(images))
    nn.init.zeros_(model.decoder.maps[2].weight)
    probabilities = model.decode(torch.randn(3, L)).sigmoid()
    torch.testing.assert_close(probabilities, images.mean(dim=0).expand(3, -1))


# What convolution promises


def feature_maps(model, picture):
    with torch.no_grad():
        return model.encoder.maps(picture.flatten()[None])[0]  # (2 C, INNER, INNER)


def test_a_shift_by_four_pixels_shifts_the_maps_by_one():
    torch.manual_seed(0)
    model, picture = ConvVAE(C, H, L, side=32), torch.zeros(32, 32)
    picture[10:16, 10:16] = torch.rand(6, 6, generator=seeded())
    before = feature_maps(model, picture)
    after = feature_maps(model, picture.roll((4, 8), (0, 1)))
    torch.testing.assert_close(after[:, 2:-1, 3:-1], before[:, 1:-2, 1:-3])
    assert not after.allclose(before, atol=1e-3), "the picture has been seen"


def test_a_place_of_the_maps_sees_ten_pixels_each_way():
    """Two convolutions of 4 with stride 2: 4 + 3 * 2 = 10, four pixels on for each place."""
    torch.manual_seed(0)
    model = ConvVAE(C, H, L, side=32).encoder
    x = torch.rand(1, 32 * 32, generator=seeded(), requires_grad=True)
    model.maps(x)[0, :, 3, 4].sum().backward()
    seen = x.grad.view(32, 32) != 0
    wanted = torch.zeros(32, 32, dtype=torch.bool)
    wanted[9:19, 13:23] = True  # from 4 * 3 - 3 and 4 * 4 - 3
    assert seen.equal(wanted)


def test_a_pixel_hears_of_five_by_five_places():
    """Two convolutions of 3: a pixel depends on places up to two away, and on no others."""
    torch.manual_seed(0)
    model = ConvVAE(C, H, L, side=32).decoder
    h = torch.randn(1, 2 * C, 8, 8, generator=seeded(), requires_grad=True)
    model.maps(h).view(32, 32)[14, 17].backward()  # in the square of place (3, 4)
    heard = h.grad.abs().sum(dim=(0, 1)) > 0
    wanted = torch.zeros(8, 8, dtype=torch.bool)
    wanted[1:6, 2:7] = True
    assert heard.equal(wanted)


# Draws and densities


def test_same_seed_same_output():
    model, x = small_model(), pixels(3)
    first, again, other = (model(x, seeded(seed))[0] for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)
    for mine, theirs in zip(model.parameters(), small_model().parameters()):
        assert mine.equal(theirs)


def test_each_image_is_answered_alone():
    """No layer mixes the images of a batch."""
    model, x = small_model(), pixels(4)
    mu, log_var = model.encode(x)
    alone = [model.encode(one[None]) for one in x]
    torch.testing.assert_close(mu, torch.cat([each[0] for each in alone]))
    torch.testing.assert_close(log_var, torch.cat([each[1] for each in alone]))
    torch.testing.assert_close(model.decode(mu)[1:2], model.decode(mu[1:2]))


def test_densities_against_torch_distributions():
    model, x = small_model(), pixels(4).round()
    z, log_qz_x = model.sample_posterior(x, seeded())
    mu, log_var = model.encode(x)
    wanted = Normal(mu, torch.exp(log_var / 2)).log_prob(z).sum(dim=1)
    torch.testing.assert_close(log_qz_x, wanted)
    torch.testing.assert_close(model.log_pz(z), Normal(0.0, 1.0).log_prob(z).sum(dim=1))
    wanted = Bernoulli(logits=model.decode(z)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(model.log_px_z(x, z), wanted)


def test_gradient_of_the_reconstruction_reaches_every_parameter():
    model, x = small_model(), pixels(8)
    z, _ = model.sample_posterior(x)
    model.log_px_z(x, z).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_saved_and_loaded(tmp_path):
    model, other = small_model(output_bias=torch.ones(D)), ConvVAE(C, H, L, side=SIDE)
    torch.save(model.state_dict(), tmp_path / "conv_vae.pt")
    other.load_state_dict(torch.load(tmp_path / "conv_vae.pt", weights_only=True))
    assert model(pixels(3), seeded())[0].equal(other(pixels(3), seeded())[0])
