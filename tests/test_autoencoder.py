"""Principal components and the plain autoencoder."""

import pytest
import torch
from torch import nn

from vae_lessons.autoencoder import (
    Autoencoder,
    PrincipalComponents,
    negative_squared_error,
    principal_components,
)


def pictures(num=200, dtype=torch.float64):
    """Random points, with another spread along each of six mixed directions."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator, dtype=dtype)
    return torch.randn(num, 6, generator=generator, dtype=dtype) @ mixing + 3


def squared_error(pca, x):
    return (pca.decode(pca.encode(x)) - x).square().sum(dim=1).mean().item()


# Principal components


def test_directions_are_orthonormal():
    pca = principal_components(pictures(), 4)
    assert isinstance(pca, PrincipalComponents)
    assert (pca.mean.shape, pca.directions.shape) == ((6,), (4, 6))
    torch.testing.assert_close(pca.directions @ pca.directions.T, torch.eye(4).double())
    torch.testing.assert_close(pca.mean, pictures().mean(dim=0))


@pytest.mark.parametrize("code_dim", [1, 2, 5, 6])
def test_reconstruction_is_the_best_of_this_rank(code_dim):
    """The error is that of the truncated singular value decomposition (Eckart & Young)."""
    x = pictures()
    values = torch.linalg.svdvals(x - x.mean(dim=0))
    wanted = values[code_dim:].square().sum().item() / len(x)
    assert squared_error(principal_components(x, code_dim), x) == pytest.approx(wanted, abs=1e-10)


def test_codes_are_uncorrelated_and_the_first_varies_most():
    codes = principal_components(pictures(), 3).encode(pictures())
    covariance = codes.T.cov()
    spread = covariance.diagonal()
    torch.testing.assert_close(covariance, torch.diag(spread))
    assert spread[0] > spread[1] > spread[2]


def test_round_trips():
    pca = principal_components(pictures(), 3)
    z = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(pca.encode(pca.decode(z)), z)
    whole = principal_components(pictures(), 6)
    torch.testing.assert_close(whole.decode(whole.encode(pictures())), pictures())


@pytest.mark.parametrize("num", [0, 1])
def test_principal_components_of_few_examples(num):
    pca = principal_components(pictures(), 2)
    assert pca.decode(pca.encode(pictures(num))).shape == (num, 6)


@pytest.mark.parametrize("code_dim", [0, -1, 7, 2.0])
def test_refuses_code_dims(code_dim):
    with pytest.raises(ValueError, match=f"code_dim is {code_dim}"):
        principal_components(pictures(), code_dim)


def test_principal_components_refuse_other_shapes():
    pca = principal_components(pictures(), 2)
    with pytest.raises(ValueError, match=r"x has shape \(3, 5\), but \(B, 6\) is wanted"):
        pca.encode(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"z has shape \(3, 1\), but \(B, 2\) is wanted"):
        pca.decode(torch.zeros(3, 1))


# The autoencoder


@pytest.mark.parametrize("num", [0, 1, 5])
def test_shapes(num):
    model, x = Autoencoder(6, 5, 2), torch.rand(num, 6)
    assert (model.encode(x).shape, model(x).shape) == ((num, 2), (num, 6))
    assert negative_squared_error(model, x).shape == (num,)


def test_parameters_by_arithmetic():
    model = Autoencoder(6, 5, 2, layers=2)
    encoder, decoder = 6 * 5 + 5 + 5 * 5 + 5 + 5 * 2 + 2, 2 * 5 + 5 + 5 * 5 + 5 + 5 * 6 + 6
    assert sum(parameter.numel() for parameter in model.parameters()) == encoder + decoder


def test_values_by_hand():
    model, x = Autoencoder(6, 5, 2), torch.rand(3, 6)
    (_, to_code), (_, to_pixels, _) = model.encoder, model.decoder
    code = to_code(torch.clamp(model.encoder[0][0](x), min=0))
    assert model.encode(x).equal(code)
    logits = to_pixels(torch.clamp(model.decoder[0][0](code), min=0))
    torch.testing.assert_close(model(x), 1 / (1 + torch.exp(-logits)))


def test_activation():
    model = Autoencoder(6, 5, 2, activation=nn.GELU)
    assert sum(isinstance(each, nn.GELU) for each in model.modules()) == 2


def test_pixels_lie_between_zero_and_one():
    pixels = Autoencoder(6, 5, 2).decode(20 * torch.randn(100, 2))
    assert pixels.min() >= 0 and pixels.max() <= 1


def test_negative_squared_error_by_hand():
    model, x = Autoencoder(6, 5, 2), torch.rand(3, 6)
    wanted = [-sum((a - b) ** 2 for a, b in zip(row, out)) for row, out in
              zip(x.tolist(), model(x).tolist())]
    torch.testing.assert_close(negative_squared_error(model, x), torch.tensor(wanted))


@pytest.mark.parametrize("use", [negative_squared_error, lambda model, x: model(x)])
def test_gradients_reach_every_parameter(use):
    model = Autoencoder(6, 5, 2, activation=nn.Tanh)
    use(model, torch.rand(4, 6)).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("sizes", [(0, 5, 2), (6, 0, 2), (6, 5, 0)])
def test_refuses_sizes(sizes):
    with pytest.raises(ValueError, match="is 0: it must be a whole number"):
        Autoencoder(*sizes)


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"x has shape \(3, 5\), but \(B, 6\) is wanted"):
        Autoencoder(6, 5, 2)(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"z has shape \(2,\), but \(B, 2\) is wanted"):
        Autoencoder(6, 5, 2).decode(torch.zeros(2))
