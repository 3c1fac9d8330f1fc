"""The hidden layers, and the checks of sizes and shapes that every model makes."""

import pytest
import torch
from torch import nn

from vae_lessons.mlp import check_rows, check_sizes, hidden_layers, start_bias_at


@pytest.mark.parametrize("size", [0, -2, 2.0, "3", None])
def test_check_sizes_refuses(size):
    with pytest.raises(ValueError, match=r"latent_dim is .*: .* whole number of 1 or more"):
        check_sizes(hidden_dim=3, latent_dim=size)


def test_check_sizes_accepts():
    check_sizes(hidden_dim=1, latent_dim=400)


@pytest.mark.parametrize("shape", [(3, 4), (5,), (5, 3), (2, 5, 3), ()])
def test_check_rows_refuses(shape):
    with pytest.raises(ValueError, match=r"but \(B, 5\) is wanted") as caught:
        check_rows(torch.zeros(shape), 5, "codes")
    assert f"codes has shape {shape}" in str(caught.value)


@pytest.mark.parametrize("num", [0, 1, 7])
def test_check_rows_accepts(num):
    check_rows(torch.zeros(num, 5), 5)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_and_their_order(layers):
    network = hidden_layers(5, 7, layers, nn.Tanh)
    sizes = [(each.in_features, each.out_features) for each in network[::2]]
    assert sizes == [(5, 7), *[(7, 7)] * (layers - 1)]
    assert len(network) == 2 * layers
    assert all(isinstance(each, nn.Tanh) for each in network[1::2])


def test_values_by_hand():
    network = hidden_layers(3, 4, 2, nn.ReLU)
    (first, first_bias), (second, second_bias) = (each.parameters() for each in network[::2])
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    h = torch.clamp(x @ first.T + first_bias, min=0)
    torch.testing.assert_close(network(x), torch.clamp(h @ second.T + second_bias, min=0))


@pytest.mark.parametrize(("sizes", "name"), [((0, 4, 1), "input_dim"), ((3, 0, 1), "hidden_dim"),
                                             ((3, 4, 0), "layers")])
def test_hidden_layers_refuses(sizes, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        hidden_layers(*sizes, nn.ReLU)


def test_start_bias_at_copies_or_leaves_as_it_is():
    bias, wanted = nn.Parameter(torch.zeros(2, 3)), torch.arange(6.0).view(2, 3)
    start_bias_at(bias, None)
    assert bias.equal(torch.zeros(2, 3))
    start_bias_at(bias, wanted)
    assert bias.equal(wanted) and bias.requires_grad and bias.grad_fn is None
    wanted += 1
    assert not bias.equal(wanted), "it is a copy"


def test_start_bias_at_refuses_what_would_only_broadcast():
    with pytest.raises(ValueError, match=r"has shape \(3,\), but \(2, 3\) is wanted"):
        start_bias_at(nn.Parameter(torch.zeros(2, 3)), torch.zeros(3))
