"""Ways to look at a trained model: lines, traversals, grids and neighbours."""

import pytest
import torch

from vae_lessons.latent_space import (
    interpolate,
    nearest_neighbour_accuracy,
    quantile_grid,
    reconstruct,
    sample_prior,
    traverse,
)
from vae_lessons.vae import VAE

D, L = 6, 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_vae():
    torch.manual_seed(0)
    return VAE(D, 5, L)


class Wide:
    """A model whose q is N(x, 1) and whose decoder is the identity, so that draws show."""

    def sample_posterior(self, x, generator=None):
        return x + torch.randn(x.shape, generator=generator), None

    def decode(self, z):
        return z


def test_reconstruct_decodes_a_draw_to_means():
    model, x = small_vae(), torch.rand(3, D, generator=seeded())
    z, _ = model.sample_posterior(x, seeded(4))
    wanted = 1 / (1 + torch.exp(-model.decode(z)))
    torch.testing.assert_close(reconstruct(model, x, seeded(4)), wanted.detach())
    assert not reconstruct(model, x).requires_grad


def test_reconstruct_draws_anew():
    x = torch.zeros(4, D)
    assert reconstruct(Wide(), x, seeded(1)).equal(reconstruct(Wide(), x, seeded(1)))
    assert not reconstruct(Wide(), x, seeded(1)).equal(reconstruct(Wide(), x, seeded(2)))


def test_sample_prior_decodes_draws_of_a_standard_normal():
    model = small_vae()
    means = sample_prior(model, 4, L, seeded(3))
    z = torch.randn(4, L, generator=seeded(3))
    torch.testing.assert_close(means, model.decode(z).sigmoid().detach())
    assert not means.requires_grad
    assert not means.equal(sample_prior(model, 4, L, seeded(4)))


@pytest.mark.parametrize("num", [0, 1])
def test_few_examples(num):
    assert reconstruct(small_vae(), torch.rand(num, D)).shape == (num, D)
    assert sample_prior(small_vae(), num, L).shape == (num, D)


def test_interpolate_by_hand():
    line = interpolate(torch.tensor([0.0, 1.0]), torch.tensor([2.0, -3.0]), 5)
    assert line.tolist() == [[0, 1], [0.5, 0], [1, -1], [1.5, -2], [2, -3]]
    start, end = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    line = interpolate(start, end, 2)
    assert line[0].equal(start) and line[1].equal(end) and line.dtype == torch.float64


@pytest.mark.parametrize(("start", "end"), [((3,), (2,)), ((1, 3), (1, 3)), ((), ())])
def test_interpolate_refuses_other_shapes(start, end):
    with pytest.raises(ValueError, match=r"both must be one latent, \(L,\)") as caught:
        interpolate(torch.zeros(start), torch.zeros(end), 5)
    assert f"{start} and {end}" in str(caught.value)


@pytest.mark.parametrize("steps", [1, 0, -2])
def test_interpolate_refuses_too_few_steps(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}"):
        interpolate(torch.zeros(2), torch.ones(2), steps)


def test_traverse_by_hand():
    z = torch.tensor([5.0, 6.0, 7.0])
    path = traverse(z, 1, torch.tensor([-1.0, 0.0]))
    assert path.tolist() == [[5, -1, 7], [5, 0, 7]]
    assert z.tolist() == [5, 6, 7], "the latent itself stays as it was"
    assert traverse(z, 0, torch.zeros(0)).shape == (0, 3)


@pytest.mark.parametrize(("shape", "dimension"), [((3,), 3), ((3,), -1), ((1, 3), 0)])
def test_traverse_refuses(shape, dimension):
    with pytest.raises(ValueError, match=f"dimension is {dimension}") as caught:
        traverse(torch.zeros(shape), dimension, torch.zeros(2))
    assert f"z has shape {shape}" in str(caught.value)


def test_quantile_grid_is_even_in_probability_and_starts_at_the_top_left():
    grid = quantile_grid(4)
    probability = torch.distributions.Normal(0.0, 1.0).cdf(grid)
    steps = torch.tensor([1, 3, 5, 7]) / 8
    wanted = torch.stack([torch.stack([x, y]) for y in steps.flip(0) for x in steps])
    torch.testing.assert_close(probability, wanted)


def test_quantile_grid_of_one_point():
    assert quantile_grid(1).tolist() == [[0, 0]]


@pytest.mark.parametrize("side", [0, -3])
def test_quantile_grid_refuses(side):
    with pytest.raises(ValueError, match=f"side is {side}"):
        quantile_grid(side)


def blobs(num, seed):
    """Points around three far corners, and the number of the corner of each."""
    corners = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    labels = torch.arange(num) % 3
    return corners[labels] + torch.randn(num, 2, generator=seeded(seed)), labels


def test_neighbours_tell_blobs_apart():
    codes, labels = blobs(90, 0)
    test_codes, test_labels = blobs(1201, 1)
    assert nearest_neighbour_accuracy(codes, labels, test_codes, test_labels) == 1
    wrong = test_labels.clone()
    wrong[::4] = 7
    share = nearest_neighbour_accuracy(codes, labels, test_codes, wrong)
    assert share == pytest.approx(900 / 1201)


def test_the_majority_of_the_neighbours_decides():
    codes, labels = torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([4, 6, 6, 4])
    here, truth = torch.tensor([[0.0]]), torch.tensor([4])
    assert nearest_neighbour_accuracy(codes, labels, here, truth, neighbours=1) == 1
    assert nearest_neighbour_accuracy(codes, labels, here, truth, neighbours=3) == 0
    codes, labels = torch.arange(5.0)[:, None], torch.tensor([9, 7, 1, 5, 1])
    assert nearest_neighbour_accuracy(codes, labels, here, torch.tensor([1]), neighbours=5) == 1


def test_neighbour_accuracy_refuses_too_few_codes():
    with pytest.raises(ValueError, match="14 codes are too few for 15 neighbours"):
        nearest_neighbour_accuracy(*blobs(14, 0), *blobs(3, 1))


@pytest.mark.parametrize(("num_codes", "num_labels"), [(0, 0), (3, 2), (3, 1), (0, 3)])
def test_neighbour_accuracy_refuses_another_number_of_labels(num_codes, num_labels):
    test_codes, test_labels = blobs(3, 1)
    with pytest.raises(ValueError, match=f"{num_codes} test codes and {num_labels} test labels"):
        nearest_neighbour_accuracy(*blobs(30, 0), test_codes[:num_codes], test_labels[:num_labels])
