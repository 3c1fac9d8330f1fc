"""The variational autoencoder: shapes, parameters, draws, densities and gradients."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

from vae_lessons.vae import VAE, Decoder, Encoder, mean_image_logits

D, H, L = 12, 7, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_vae(**options):
    torch.manual_seed(0)
    return VAE(D, H, L, **options)


def pixels(num, seed=0):
    return torch.rand(num, D, generator=seeded(seed))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


# Shapes


@pytest.mark.parametrize("num", [0, 1, 5])
def test_shapes(num):
    model, x = small_vae(), pixels(num)
    logits, mu, log_var = model(x)
    z, log_qz_x = model.sample_posterior(x)
    assert (logits.shape, mu.shape, log_var.shape) == ((num, D), (num, L), (num, L))
    assert (z.shape, log_qz_x.shape) == ((num, L), (num,))
    assert model.decode(z).shape == (num, D)
    assert (model.log_pz(z).shape, model.log_px_z(x, z).shape) == ((num,), (num,))


@pytest.mark.parametrize("shape", [(D,), (2, D + 1), (2, 3, 4), (2, 1, D)])
def test_refuses_images_of_another_shape(shape):
    for part in (small_vae(), Encoder(D, H, L), small_vae().encode):
        with pytest.raises(ValueError, match=r"but \(B, 12\) is wanted") as caught:
            part(torch.zeros(shape))
        assert f"x has shape {shape}" in str(caught.value)


@pytest.mark.parametrize("shape", [(L,), (2, L + 1)])
def test_refuses_latents_of_another_shape(shape):
    for part in (Decoder(L, H, D), small_vae().decode):
        with pytest.raises(ValueError, match=r"but \(B, 3\) is wanted") as caught:
            part(torch.zeros(shape))
        assert f"z has shape {shape}" in str(caught.value)


@pytest.mark.parametrize("sizes", [(0, H, L), (D, 0, L), (D, H, 0), (D, H, -1), (D, H, 2.0)])
def test_refuses_sizes(sizes):
    for kind in (VAE, Encoder, Decoder):
        with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
            kind(*sizes)


# What it is made of


def test_parameters_of_the_classic_model():
    encoder = 784 * 400 + 400 + 2 * (400 * 20 + 20)
    decoder = 20 * 400 + 400 + 400 * 784 + 784
    model = VAE(784, 400, 20)
    assert (count(model.encoder), count(model.decoder)) == (encoder, decoder)
    assert count(model) == 652_824


def test_parameters_of_a_deeper_model():
    encoder = D * H + H + 2 * (H * H + H) + 2 * (H * L + L)
    decoder = L * H + H + 2 * (H * H + H) + H * D + D
    assert count(small_vae(layers=3)) == encoder + decoder


def test_default_activation_and_the_keyword():
    def activations(model):
        kinds = {type(each) for each in model.modules() if not list(each.children())}
        return kinds - {nn.Linear}

    assert activations(small_vae()) == {nn.ReLU}
    assert activations(small_vae(activation=nn.GELU)) == {nn.GELU}
    assert activations(Encoder(D, H, L, activation=nn.Tanh)) == {nn.Tanh}
    assert activations(Decoder(L, H, D, activation=nn.Tanh)) == {nn.Tanh}


def test_encoder_by_hand():
    model, x = small_vae().encoder, pixels(4)
    h = torch.clamp(x @ model.hidden[0].weight.T + model.hidden[0].bias, min=0)
    mu, log_var = model(x)
    torch.testing.assert_close(mu, h @ model.mu.weight.T + model.mu.bias)
    torch.testing.assert_close(log_var, h @ model.log_var.weight.T + model.log_var.bias)


def test_decoder_by_hand():
    """It gives logits: any real number, no sigmoid."""
    model, z = small_vae().decoder, 100 * torch.randn(4, L, generator=seeded())
    h = torch.clamp(z @ model.hidden[0].weight.T + model.hidden[0].bias, min=0)
    torch.testing.assert_close(model(z), h @ model.logits.weight.T + model.logits.bias)
    assert model(z).min() < -1 and model(z).max() > 1


def test_output_bias_is_where_the_last_bias_starts():
    bias = torch.linspace(-2, 2, D)
    for decoder in (small_vae(output_bias=bias).decoder, Decoder(L, H, D, output_bias=bias)):
        assert decoder.logits.bias.equal(bias)
        assert decoder.logits.bias.requires_grad
    bias += 1
    assert not decoder.logits.bias.equal(bias), "the parameter is a copy"


@pytest.mark.parametrize("shape", [(D - 1,), (1, D), ()])
def test_refuses_an_output_bias_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"but \(12,\) is wanted") as caught:
        small_vae(output_bias=torch.zeros(shape))
    assert f"output_bias has shape {shape}" in str(caught.value)


# Draws and densities


def test_same_seed_same_output():
    model, x = small_vae(), pixels(3)
    first, again, other = (model(x, seeded(seed))[0] for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)
    assert model.sample_posterior(x, seeded(1))[0].equal(model.sample_posterior(x, seeded(1))[0])
    for mine, theirs in zip(model.parameters(), small_vae().parameters()):
        assert mine.equal(theirs)


def test_forward_draws_z_from_q_and_decodes_it():
    model, x = small_vae(), pixels(3)
    logits, mu, log_var = model(x, seeded(5))
    z, _ = model.sample_posterior(x, seeded(5))
    assert logits.equal(model.decode(z))
    assert mu.equal(model.encode(x)[0]) and log_var.equal(model.encode(x)[1])
    assert not z.equal(mu), "drawn, not taken at its mean"


def test_sample_posterior_has_the_moments_of_q():
    model, num = small_vae(), 50_000
    mu, log_var = (each.detach() for each in model.encode(pixels(1)))
    z, _ = model.sample_posterior(pixels(1).expand(num, -1), seeded())
    z, sigma = z.detach(), torch.exp(log_var / 2)
    assert ((z.mean(dim=0) - mu).abs() < 6 * sigma / num**0.5).all()
    assert ((z.var(dim=0) / sigma**2 - 1).abs() < 6 * (2 / num) ** 0.5).all()


def test_densities_against_torch_distributions():
    model, x = small_vae(), pixels(4).round()
    z, log_qz_x = model.sample_posterior(x, seeded())
    mu, log_var = model.encode(x)
    wanted = Normal(mu, torch.exp(log_var / 2)).log_prob(z).sum(dim=1)
    torch.testing.assert_close(log_qz_x, wanted)
    torch.testing.assert_close(model.log_pz(z), Normal(0.0, 1.0).log_prob(z).sum(dim=1))
    wanted = Bernoulli(logits=model.decode(z)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(model.log_px_z(x, z), wanted)


def test_gradients_reach_every_parameter():
    model = small_vae(layers=2, activation=nn.Tanh)
    logits, mu, log_var = model(pixels(8))
    (logits.square().sum() + mu.sum() + log_var.sum()).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_gradient_of_the_reconstruction_passes_through_the_draw():
    model, x = small_vae(activation=nn.Tanh), pixels(8)
    z, _ = model.sample_posterior(x)
    model.log_px_z(x, z).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_saved_and_loaded(tmp_path):
    model, other = small_vae(), VAE(D, H, L)
    torch.save(model.state_dict(), tmp_path / "vae.pt")
    other.load_state_dict(torch.load(tmp_path / "vae.pt", weights_only=True))
    x = pixels(3)
    assert model(x, seeded())[0].equal(other(x, seeded())[0])


# The mean image


def test_mean_image_logits():
    images = pixels(50)
    logits = mean_image_logits(images)
    assert logits.shape == (D,)
    torch.testing.assert_close(logits.sigmoid(), images.mean(dim=0))


def test_mean_image_logits_of_paper_and_ink_are_finite():
    logits = mean_image_logits(torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(logits.sigmoid(), torch.tensor([0.001, 0.999]))


@pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 2, 2)])
def test_mean_image_logits_refuses(shape):
    with pytest.raises(ValueError, match=r"but \(N, D\) is wanted") as caught:
        mean_image_logits(torch.zeros(shape))
    assert f"images have shape {shape}" in str(caught.value)
