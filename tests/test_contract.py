"""One contract for all models: the questions that every measure asks, put to each of them.

The models are tiny and were never trained, in float64; what is said here holds for any parameters.
"""

import math
from typing import NamedTuple

import pytest
import torch
from torch import nn

from vae_lessons.conditional_vae import ConditionalVAE
from vae_lessons.conv_vae import ConvVAE
from vae_lessons.elbo import elbo, elbo_terms, log_importance_weights
from vae_lessons.evaluation import log_marginal_likelihood
from vae_lessons.grey_vae import GreyVAE
from vae_lessons.hierarchical_vae import FlowVAE, GaussianVAE, HierarchicalVAE
from vae_lessons.iwae import iwae_bound
from vae_lessons.latent_model import LatentModel
from vae_lessons.linear_gaussian import LinearGaussian
from vae_lessons.music import MelodyVAE
from vae_lessons.text import SentenceVAE
from vae_lessons.vae import VAE


class Subject(NamedTuple):
    """How to build a model, the widths of its images and latents, and its number of classes."""

    build: callable
    input_dim: int
    latent_dim: int
    num_classes: int = 0


def vae():
    return VAE(12, 5, 3, activation=nn.Tanh)


SUBJECTS = {
    "linear_gaussian": Subject(lambda: LinearGaussian(12, 3), 12, 3),
    "vae": Subject(vae, 12, 3),
    "conv_vae": Subject(lambda: ConvVAE(2, 6, 3, side=4), 16, 3),
    "conditional_vae": Subject(
        lambda: ConditionalVAE(12, 5, 3, 4, activation=nn.Tanh), 12, 3, num_classes=4
    ),
    "hierarchical_vae": Subject(lambda: HierarchicalVAE(vae(), GaussianVAE(3, 5, 2)), 12, 5),
    "grey_vae": Subject(lambda: GreyVAE(12, 5, 3, activation=nn.Tanh), 12, 3),
    "melody_vae": Subject(lambda: MelodyVAE(5, 3, steps=3, symbols=4), 12, 3),
    "flow_vae": Subject(lambda: FlowVAE(vae(), 3, hidden_dim=6, couplings=2), 12, 3),
    "text": Subject(lambda: SentenceVAE(3, 4, word_dim=4, hidden_dim=5, latent_dim=3), 12, 3),
}
every_model = pytest.mark.parametrize("name", SUBJECTS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def built(name):
    """The model as a module, in float64, always with the same parameters, none of them zero."""
    torch.manual_seed(0)
    model = SUBJECTS[name].build().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def asked(name, num, model=None):
    """The model as the measures ask it, bound to labels if it is conditional, and its images."""
    subject, model = SUBJECTS[name], model or built(name)
    x = torch.rand(num, subject.input_dim, generator=seeded(1), dtype=torch.float64).round()
    if not subject.num_classes:
        return model, x
    return model.given(torch.arange(num) % subject.num_classes), x


# Shapes


@every_model
@pytest.mark.parametrize("num", [4, 1, 0])
def test_one_value_for_each_example(name, num):
    model, x = asked(name, num)
    z, log_qz_x = model.sample_posterior(x, seeded())
    assert z.shape == (num, SUBJECTS[name].latent_dim)
    assert model.decode(z).shape[:2] == (num, SUBJECTS[name].input_dim)
    for value in (log_qz_x, model.log_pz(z), model.log_px_z(x, z), elbo(model, x, seeded()),
                  *elbo_terms(model, x, seeded()), iwae_bound(model, x, 3, seeded()),
                  log_marginal_likelihood(model, x, 3, seeded())):
        assert value.shape == (num,) and value.isfinite().all()
    assert log_importance_weights(model, x, 3, seeded()).shape == (num, 3)


@every_model
def test_an_example_does_not_depend_on_its_neighbours(name):
    module = built(name)
    (model, x), (alone, _) = asked(name, 4, module), asked(name, 1, module)
    z, _ = model.sample_posterior(x, seeded())
    torch.testing.assert_close(model.log_px_z(x, z)[:1], alone.log_px_z(x[:1], z[:1]))
    torch.testing.assert_close(model.log_pz(z)[:1], alone.log_pz(z[:1]))


@every_model
def test_refuses_images_and_latents_of_another_width(name):
    model, x = asked(name, 2)
    with pytest.raises(ValueError, match=r"x has shape \(2, \d+\)"):
        model.sample_posterior(torch.cat([x, x[:, :1]], dim=1))
    with pytest.raises(ValueError, match=r"z has shape \(2, \d+\)"):
        model.decode(torch.zeros(2, SUBJECTS[name].latent_dim + 1, dtype=torch.float64))


# Draws and gradients


@every_model
def test_the_generator_decides_the_draw(name):
    model, x = asked(name, 3)
    first, again, other = (model.sample_posterior(x, seeded(seed)) for seed in (5, 5, 6))
    assert first[0].equal(again[0]) and first[1].equal(again[1])
    assert not first[0].equal(other[0])


@every_model
def test_gradients_are_finite_and_reach_every_parameter(name):
    module = built(name)
    model, x = asked(name, 6, module)
    (elbo(model, x, seeded()).sum() + iwae_bound(model, x, 3, seeded()).sum()).backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, parameter_name


@every_model
def test_a_saved_model_comes_back_the_same(name, tmp_path):
    module = built(name)
    torch.save(module.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(1)
    other = SUBJECTS[name].build().double().eval()
    value = [elbo(*asked(name, 3, each), seeded()) for each in (module, other)]
    assert not value[0].equal(value[1]), "another start"
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert elbo(*asked(name, 3, other), seeded()).equal(value[0])


# Densities


@every_model
def test_prior_and_posterior_are_densities_of_the_same_space(name):
    """The average of p(z) / q(z given x) over draws from q is the integral of p, which is 1."""
    model, x = asked(name, 1)
    with torch.no_grad():
        z, log_qz_x = model.sample_posterior(x.expand(40_000, -1), seeded())
        ratio = (model.log_pz(z) - log_qz_x).exp()
    assert abs(ratio.mean() - 1) < 6 * ratio.std() / 200


@every_model
def test_the_probabilities_of_all_images_add_up_to_one(name):
    model, x = asked(name, 1)
    if name == "linear_gaussian":
        pytest.skip("its pixels are no coins: tests/test_linear_gaussian.py integrates them")
    if name == "text":
        pytest.skip("its pixels are one-hot words: tests/test_text.py adds up all sentences")
    if name == "grey_vae":
        pytest.skip("its pixels have 256 levels: tests/test_grey_vae.py adds up their masses")
    if name == "melody_vae":
        pytest.skip("its rows are one-hot: tests/test_music.py adds up those")
    z, _ = model.sample_posterior(x, seeded())
    dim = SUBJECTS[name].input_dim
    images = ((torch.arange(2**dim)[:, None] >> torch.arange(dim)) & 1).double()
    with torch.no_grad():
        total = model.log_px_z(images, z.expand(len(images), -1)).logsumexp(dim=0)
    assert abs(total) < 1e-9


# The bounds


@every_model
def test_elbo_is_below_the_importance_weighted_bound_of_the_same_draws(name):
    """Jensen's inequality holds for every set of draws, without any tolerance."""
    model, x = asked(name, 5)
    for num_samples in (2, 3, 50):
        log_weights = log_importance_weights(model, x, num_samples, seeded(num_samples))
        bound = iwae_bound(model, x, num_samples, seeded(num_samples))
        assert (log_weights.mean(dim=1) < bound).all(), "the mean of the logs, the log of the mean"
        assert (bound <= log_weights.max(dim=1).values).all()
        assert (bound >= log_weights.max(dim=1).values - math.log(num_samples)).all()


@every_model
def test_with_one_draw_the_bound_is_the_elbo_on_average(name):
    """The closed form of the KL, where there is one, is the mean of the drawn one."""
    model, x = asked(name, 1)
    with torch.no_grad():
        x = x.expand(20_000, -1)
        difference = elbo(model, x, seeded(1)) - iwae_bound(model, x, 1, seeded(2))
    assert difference.std() > 0
    assert abs(difference.mean()) < 6 * difference.std() / 20_000**0.5


def test_latent_model_gives_what_vae_and_linear_gaussian_share():
    for name in ("vae", "linear_gaussian"):
        assert isinstance(built(name), LatentModel)
