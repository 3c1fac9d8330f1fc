"""The VAE for grey pixels: probabilities of levels, their sums, and what the model refuses."""

import pytest
import torch
from torch import nn

from vae_lessons.grey_vae import LEVELS, PARAMETERS, SHARE_OF_ANY, GreyVAE, log_mass, mean_mixture
from vae_lessons.latent_model import LatentModel
from vae_lessons.likelihoods import discretized_logistic_log_likelihood

D, H, L = 6, 5, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_vae(**options):
    torch.manual_seed(0)
    return GreyVAE(D, H, L, **options)


def mixtures(num, spread=2.0):
    """Mixtures of all sorts: flat and steep, inside the grey scale and far beyond its ends."""
    return spread * torch.randn(num, PARAMETERS, generator=seeded(), dtype=torch.float64)


def all_levels(mixture):
    """Log masses of the 256 levels: (M, 5) -> (M, 256)."""
    low = torch.arange(LEVELS, dtype=mixture.dtype).expand(len(mixture), -1)
    return log_mass(mixture[:, None].expand(-1, LEVELS, -1), low, low + 1)


# Masses


@pytest.mark.parametrize("spread", [0.5, 2.0, 10.0, 100.0])
def test_the_masses_of_all_levels_add_up_to_one(spread):
    log_masses = all_levels(mixtures(200, spread))
    assert log_masses.isfinite().all()
    torch.testing.assert_close(log_masses.exp().sum(dim=1), torch.ones(200).double(),
                               rtol=0, atol=1e-12)


def test_mass_of_several_levels_is_the_sum_of_theirs():
    mixture = mixtures(50)
    masses = all_levels(mixture).exp()
    for low, high in [(0, 256), (0, 1), (1, 256), (3, 9), (128, 256), (0, 200), (255, 256)]:
        bounds = (torch.full((50,), float(each)).double() for each in (low, high))
        torch.testing.assert_close(log_mass(mixture, *bounds).exp(), masses[:, low:high].sum(dim=1))


@pytest.mark.parametrize("component", [0, 1])
def test_one_component_is_the_discretised_logistic_of_its_centre_and_scale(component):
    """Centre: anchor + shift / slope; scale: 1 / slope."""
    shift, log_slope = mixtures(40, 1.0)[:, :2].T
    mixture = torch.zeros(40, PARAMETERS, dtype=torch.float64)
    mixture[:, 0] = 60.0 if component == 0 else -60.0
    mixture[:, 1 + component], mixture[:, 3 + component] = shift, log_slope
    x = (torch.arange(LEVELS).double() / 255).repeat(40, 1).view(-1, 1)
    centre = (component + shift / log_slope.exp()).repeat_interleave(LEVELS)[:, None]
    masses = discretized_logistic_log_likelihood(
        x, centre, -log_slope.repeat_interleave(LEVELS)[:, None]).exp()
    expected = (1 - SHARE_OF_ANY) * masses.view(40, LEVELS) + SHARE_OF_ANY / LEVELS
    torch.testing.assert_close(all_levels(mixture).exp(), expected)


def test_the_share_weighs_the_first_component():
    mixture = mixtures(30)
    first, second = mixture.clone(), mixture.clone()
    first[:, 0], second[:, 0] = 60.0, -60.0
    weight = torch.sigmoid(mixture[:, :1])
    mixed = weight * all_levels(first).exp() + (1 - weight) * all_levels(second).exp()
    torch.testing.assert_close(all_levels(mixture).exp(), mixed)


def test_float32_keeps_the_digits_of_small_masses():
    mixture = mixtures(300, 6.0)
    mixture[:, 3:] = mixture[:, 3:].clamp(0.0, 3.0)
    exact, rounded = all_levels(mixture), all_levels(mixture.float()).double()
    assert (exact - rounded).abs().max() < 0.005


def test_gradients_are_those_of_finite_differences_and_finite_everywhere():
    mixture = mixtures(20, 1.0).requires_grad_()
    low = torch.tensor([0.0, 255.0, 17.0, 128.0]).double().repeat(5)
    assert torch.autograd.gradcheck(lambda m: log_mass(m, low, low + 1), mixture)
    wild = mixtures(400, 100.0).float().requires_grad_()
    all_levels(wild).sum().backward()
    assert wild.grad.isfinite().all()


# The model


def test_log_px_z_adds_up_the_levels_of_the_pixels():
    model, z = small_vae(), torch.randn(4, L, generator=seeded())
    level = torch.randint(0, 256, (4, D), generator=seeded(1))
    mixture = model.decode(z)
    by_hand = torch.zeros(4)
    for b in range(4):
        for d in range(D):
            by_hand[b] += all_levels(mixture[b, d][None])[0, level[b, d]]
    torch.testing.assert_close(model.log_px_z(level / 255, z), by_hand)
    near = level / 255 + 1e-6 * torch.randn(4, D, generator=seeded(2))
    torch.testing.assert_close(model.log_px_z(near, z), by_hand)
    assert isinstance(model, LatentModel)


@pytest.mark.parametrize("num", [0, 1, 5])
def test_shapes(num):
    model, x = small_vae(layers=2, activation=nn.GELU), torch.rand(num, D, generator=seeded())
    decoded, mu, log_var = model(x)
    assert decoded.shape == (num, D, PARAMETERS)
    assert mu.shape == log_var.shape == (num, L)
    assert model.log_px_z(x, mu).shape == (num,)


def test_the_start_is_what_the_decoder_says_before_it_knows_z():
    start = torch.randn(D, PARAMETERS, generator=seeded())
    model = small_vae(start=start)
    with torch.no_grad():
        model.mixture.weight.zero_()
    decoded = model.decode(torch.randn(3, L, generator=seeded()))
    torch.testing.assert_close(decoded, start.expand(3, -1, -1))


def test_mean_mixture_fits_how_often_there_is_paper_and_full_ink():
    share = torch.linspace(0.1, 0.9, D)
    images = (torch.rand(4000, D, generator=seeded()) < share).float()
    masses = all_levels(mean_mixture(images).double()).exp()
    assert mean_mixture(images).shape == (D, PARAMETERS)
    assert ((masses[:, 0] - (1 - share) ** 2).abs() < 0.05).all(), "share of the first, times paper"
    assert (masses[:, 230:].sum(dim=1) > share / 2).all()
    nothing = mean_mixture(torch.zeros(1, D))
    assert nothing.isfinite().all()


def test_learns_levels_that_it_is_shown():
    torch.manual_seed(0)
    levels = torch.tensor([[0, 255, 100, 100, 0, 30]]) / 255
    model = GreyVAE(D, 16, L, start=mean_mixture(levels))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(200):
        losses.append(-model.log_px_z(levels, torch.zeros(1, L)).sum())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("sizes", [(0, H, L), (D, 0, L), (D, H, 0), (D, H, 2.0)])
def test_refuses_sizes_that_are_no_whole_numbers_above_zero(sizes):
    with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
        GreyVAE(*sizes)


def test_refuses_other_shapes():
    model = small_vae()
    for call in (model.encode, lambda x: model.log_px_z(x, torch.zeros(2, L))):
        with pytest.raises(ValueError, match=r"x has shape \(2, 7\), but \(B, 6\) is wanted"):
            call(torch.zeros(2, D + 1))
    with pytest.raises(ValueError, match=r"z has shape \(2, 4\), but \(B, 3\) is wanted"):
        model.decode(torch.zeros(2, L + 1))
    with pytest.raises(ValueError, match=r"output_bias has shape \(5, 6\)"):
        small_vae(start=torch.zeros(PARAMETERS, D))
    for images in (torch.zeros(D), torch.zeros(0, D)):
        with pytest.raises(ValueError, match="N >= 1"):
            mean_mixture(images)
