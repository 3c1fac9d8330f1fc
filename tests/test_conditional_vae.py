"""The conditional VAE: labels, shapes, densities, a whole batch several times over, training."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from vae_lessons.conditional_vae import ConditionalVAE, GivenLabels, one_hot
from vae_lessons.elbo import elbo, elbo_terms, log_importance_weights
from vae_lessons.evaluation import log_marginal_likelihood, log_marginal_on_grid
from vae_lessons.latent_model import LatentModel
from vae_lessons.latent_space import sample_prior
from vae_lessons.training import fit, per_image

D, H, L, C = 12, 7, 3, 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_model(**options):
    torch.manual_seed(0)
    return ConditionalVAE(D, H, L, C, **options)


def pixels(num, seed=0):
    return torch.rand(num, D, generator=seeded(seed))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


# Labels


def test_one_hot():
    rows = one_hot(torch.tensor([2, 0, 3, 2]), 4)
    wanted = [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert rows.dtype == torch.float32 and rows.tolist() == wanted
    assert one_hot(torch.empty(0, dtype=torch.int64), 4).shape == (0, 4)
    assert one_hot(torch.tensor([1], dtype=torch.uint8), 2).tolist() == [[0, 1]]


@pytest.mark.parametrize("y", [
    torch.tensor([1.0, 2.0]), torch.tensor([True, False]), torch.tensor(1), torch.tensor([[1, 2]]),
])
def test_refuses_labels_of_another_type_or_shape(y):
    for function in (small_model().given, lambda y: one_hot(y, C)):
        with pytest.raises(ValueError, match=r"whole numbers of shape \(B,\) are wanted") as caught:
            function(y)
        assert f"{y.dtype} of shape {tuple(y.shape)}" in str(caught.value)


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0], [-1, 4]])
def test_refuses_labels_out_of_range(labels):
    with pytest.raises(ValueError, match="labels from 0 to 3 are wanted") as caught:
        small_model().given(torch.tensor(labels))
    assert f"from {min(labels)} to {max(labels)}" in str(caught.value)


# Shapes


@pytest.mark.parametrize("num", [0, 1, 5])
def test_shapes(num):
    model, x = small_model().given(torch.arange(num) % C), pixels(num)
    assert isinstance(model, LatentModel) and isinstance(model, GivenLabels)
    logits, mu, log_var = model(x)
    z, log_qz_x = model.sample_posterior(x)
    assert (logits.shape, mu.shape, log_var.shape) == ((num, D), (num, L), (num, L))
    assert (z.shape, log_qz_x.shape) == ((num, L), (num,))
    assert model.decode(z).shape == (num, D)
    assert (model.log_pz(z).shape, model.log_px_z(x, z).shape) == ((num,), (num,))


@pytest.mark.parametrize(("labels", "rows"), [(3, 4), (3, 2), (2, 5), (0, 1)])
def test_refuses_a_batch_that_is_no_multiple_of_the_labels(labels, rows):
    model = small_model().given(torch.zeros(labels, dtype=torch.int64))
    for part, width in ((model.encode, D), (model.decode, L)):
        with pytest.raises(ValueError, match="a whole multiple is wanted") as caught:
            part(torch.zeros(rows, width))
        assert f"got {rows} rows for {labels} labels" in str(caught.value)


def test_an_empty_batch_for_any_labels():
    model = small_model().given(torch.arange(3))
    assert model.encode(pixels(0))[0].shape == (0, L)
    assert model.decode(torch.zeros(0, L)).shape == (0, D)


def test_refuses_rows_of_another_width():
    model = small_model().given(torch.arange(2))
    for shape in [(D,), (2, D + 1), (2, 1, D)]:
        with pytest.raises(ValueError, match=r"x has shape .* but \(B, 12\) is wanted"):
            model.encode(torch.zeros(shape))
    for shape in [(L,), (2, L + C)]:
        with pytest.raises(ValueError, match=r"z has shape .* but \(B, 3\) is wanted"):
            model.decode(torch.zeros(shape))


@pytest.mark.parametrize("sizes", [
    (0, H, L, C), (D, 0, L, C), (D, H, 0, C), (D, H, L, 0), (D, H, L, 2.0),
])
def test_refuses_sizes(sizes):
    with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
        ConditionalVAE(*sizes)


@pytest.mark.parametrize("shape", [(D - 1,), (1, D), ()])
def test_refuses_an_output_bias_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"but \(12,\) is wanted") as caught:
        small_model(output_bias=torch.zeros(shape))
    assert f"output_bias has shape {shape}" in str(caught.value)


# What it is made of


def test_parameters():
    encoder = (D + C) * H + H + 2 * (H * L + L)
    decoder = (L + C) * H + H + H * D + D
    assert count(small_model()) == encoder + decoder
    assert count(small_model(layers=2)) == encoder + decoder + 2 * (H * H + H)
    assert count(small_model().given(torch.arange(2))) == encoder + decoder, "bound, not copied"


def test_options():
    def activations(model):
        return {type(each) for each in model.modules()} & {nn.ReLU, nn.GELU}

    assert activations(small_model()) == {nn.ReLU}
    assert activations(small_model(activation=nn.GELU)) == {nn.GELU}
    bias = torch.linspace(-2, 2, D)
    model = small_model(output_bias=bias)
    assert model.logits.bias.equal(bias) and model.logits.bias.requires_grad
    bias += 1
    assert not model.logits.bias.equal(bias), "the parameter is a copy"


def test_encoder_and_decoder_by_hand():
    """A one-hot label picks one column of the first weights: it is a bias for each class."""
    model, y, x = small_model(), torch.tensor([1, 3, 1]), pixels(3)
    first, labels = model.encoder[0].weight[:, :D], model.encoder[0].weight[:, D:]
    h = torch.clamp(x @ first.T + labels.T[y] + model.encoder[0].bias, min=0)
    mu, log_var = model.given(y).encode(x)
    torch.testing.assert_close(mu, h @ model.mu.weight.T + model.mu.bias)
    torch.testing.assert_close(log_var, h @ model.log_var.weight.T + model.log_var.bias)

    z = torch.randn(3, L, generator=seeded())
    first, labels = model.decoder[0].weight[:, :L], model.decoder[0].weight[:, L:]
    h = torch.clamp(z @ first.T + labels.T[y] + model.decoder[0].bias, min=0)
    wanted = h @ model.logits.weight.T + model.logits.bias
    torch.testing.assert_close(model.given(y).decode(z), wanted)


# Draws and densities


def test_densities_against_torch_distributions():
    model, x = small_model().given(torch.tensor([0, 3, 1, 1])), pixels(4).round()
    z, log_qz_x = model.sample_posterior(x, seeded())
    mu, log_var = model.encode(x)
    q = Normal(mu, torch.exp(log_var / 2))
    torch.testing.assert_close(log_qz_x, q.log_prob(z).sum(dim=1))
    torch.testing.assert_close(model.log_pz(z), Normal(0.0, 1.0).log_prob(z).sum(dim=1))
    likelihood = Bernoulli(logits=model.decode(z))
    torch.testing.assert_close(model.log_px_z(x, z), likelihood.log_prob(x).sum(dim=1))
    terms = elbo_terms(model, x, seeded())
    torch.testing.assert_close(terms.kl, kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1))
    torch.testing.assert_close(terms.reconstruction, model.log_px_z(x, z))


def test_probabilities_given_a_label_add_up_to_one():
    """All 2^4 images of four pixels, for each label: exp(log p(x given y)) sums to 1."""
    torch.manual_seed(0)
    model = ConditionalVAE(4, 5, 2, 3).double().requires_grad_(False)
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).double()
    sums, first = [], []
    for label in range(3):
        log_px_y = log_marginal_on_grid(model.given(torch.tensor([label])), images, 8.0, 0.1)
        sums.append(log_px_y.exp().sum().item())
        first.append(log_px_y[0].item())
    assert sums == pytest.approx([1.0] * 3, abs=1e-6)
    assert len({round(value, 6) for value in first}) == 3, "each label has its own distribution"


def test_elbo_is_a_bound_on_log_px_given_y():
    torch.manual_seed(0)
    model = ConditionalVAE(4, 5, 2, 3).requires_grad_(False)
    x, y = torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.tensor([2])
    exact = log_marginal_on_grid(model.given(y), x, 8.0, 0.1).item()
    draws = elbo(model.given(y), x.repeat(20_000, 1), seeded()).double()
    assert draws.mean() < exact + 6 * draws.std() / len(draws) ** 0.5
    estimate = log_marginal_likelihood(model.given(y), x, 20_000, seeded()).item()
    assert estimate == pytest.approx(exact, abs=0.02)


# A batch several times over


def test_labels_are_repeated_as_a_whole():
    model, y, x = small_model(), torch.tensor([0, 1, 3]), pixels(3)
    z = torch.randn(6, L, generator=seeded())
    for one, many in zip(model.given(y).encode(x), model.given(y).encode(x.repeat(2, 1))):
        torch.testing.assert_close(many, one.repeat(2, 1))
    twice = model.given(y).decode(z)
    for row in range(6):
        alone = model.given(y[row % 3 : row % 3 + 1]).decode(z[row : row + 1])
        torch.testing.assert_close(twice[row : row + 1], alone)


def test_one_label_serves_any_number_of_rows():
    model, x = small_model(), pixels(5)
    one, five = model.given(torch.tensor([2])), model.given(torch.full((5,), 2))
    assert one.encode(x)[0].equal(five.encode(x)[0])
    assert sample_prior(one, 5, L, seeded()).equal(sample_prior(five, 5, L, seeded()))


def test_importance_weights_keep_each_image_with_its_label():
    """Every weight, from the same draw, with its image and its label on their own."""
    model, y, x = small_model().requires_grad_(False), torch.tensor([3, 0, 1]), pixels(3).round()
    together = log_importance_weights(model.given(y), x, 5, seeded())
    eps = torch.randn(5 * 3, L, generator=seeded()).view(5, 3, L)
    for k in range(5):
        for b in range(3):
            bound, image = model.given(y[b : b + 1]), x[b : b + 1]
            mu, log_var = bound.encode(image)
            z = mu + torch.exp(log_var / 2) * eps[k, b]
            log_qz_x = Normal(mu, torch.exp(log_var / 2)).log_prob(z).sum(dim=1)
            alone = bound.log_px_z(image, z) + bound.log_pz(z) - log_qz_x
            torch.testing.assert_close(together[b, k], alone[0])


# Training


def test_gradients_reach_every_parameter():
    model, y = small_model(activation=nn.Tanh), torch.arange(8) % C
    elbo(model.given(y), pixels(8)).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_same_seed_same_output():
    y, x = torch.arange(3), pixels(3)
    first, again, other = (small_model().given(y)(x, seeded(seed))[0] for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)


def test_learns_what_the_label_says_and_keeps_it_out_of_z():
    """Images that are their label and nothing else: what is drawn obeys, and z stays idle."""
    y = torch.arange(400) % C
    x = torch.eye(C)[y].repeat_interleave(3, dim=1)  # (400, D): three pixels for each class
    model = small_model(activation=nn.Tanh)
    fit(model, x, elbo_terms, epochs=20, batch_size=40, learning_rate=3e-2, labels=y)
    drawn = sample_prior(model.given(y), len(y), L, seeded())
    assert (drawn.round() == x).all()
    reconstruction, kl = per_image(model, x, elbo_terms, labels=y)
    assert -reconstruction.mean() < 0.5, "far below log 4, the cost of a class untold"
    assert kl.mean() < 0.1
    wrong = per_image(model, x, elbo_terms, labels=(y + 1) % C)
    assert (wrong[0] - wrong[1]).mean() < -10


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_labels_follow_the_type_of_the_rows(dtype):
    bound = small_model().to(dtype).given(torch.tensor([1]))
    z, log_qz_x = bound.sample_posterior(pixels(2).to(dtype), seeded())
    assert z.dtype == log_qz_x.dtype == bound.decode(z).dtype == dtype


def test_saved_and_loaded(tmp_path):
    model, other = small_model(), ConditionalVAE(D, H, L, C)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    y, x = torch.arange(3), pixels(3)
    assert model.given(y)(x, seeded())[0].equal(other.given(y)(x, seeded())[0])
