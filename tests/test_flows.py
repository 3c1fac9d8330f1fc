"""Flows: round trips, log-determinants by autograd, and densities that integrate to 1."""

import math

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import Independent, Normal

from vae_lessons.flows import AffineCoupling, CouplingFlow, standard_normal_log_density

C, H = 3, 8
KINDS = {
    "coupling": lambda dim: AffineCoupling(dim, C, H),
    "flow": lambda dim: CouplingFlow(dim, C, H, 3),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def bent(kind="flow", dim=2, size=0.7):
    """A map with random weights, far from the identity that it begins as."""
    torch.manual_seed(0)
    flow = KINDS[kind](dim).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=seeded(1)))
    return flow.requires_grad_(False)


def points(num, dim=2, seed=0):
    return torch.randn(num, dim, generator=seeded(seed), dtype=torch.float64)


def contexts(num, seed=2):
    return torch.randn(num, C, generator=seeded(seed), dtype=torch.float64)


def plane(half_width, step):
    axis = torch.arange(-half_width, half_width, step, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), step**2


# Shapes


@each_kind
@pytest.mark.parametrize("dim", [2, 3, 5])
@pytest.mark.parametrize("num", [0, 1, 4])
def test_shapes(kind, dim, num):
    z, log_det = bent(kind, dim)(points(num, dim), contexts(num))
    assert (z.shape, log_det.shape) == ((num, dim), (num,))
    assert bent(kind, dim).inverse(z, contexts(num)).shape == (num, dim)
    assert bent("flow", dim).log_density(z, contexts(num)).shape == (num,)
    assert standard_normal_log_density(z).shape == (num,)


@each_kind
@pytest.mark.parametrize("dim", [0, 1])
def test_refuses_fewer_than_two_dimensions(kind, dim):
    with pytest.raises(ValueError, match=f"latent_dim is {dim}: a coupling needs at least 2"):
        KINDS[kind](dim)


# The map


@each_kind
def test_begins_as_the_identity_up_to_the_order_of_coordinates(kind):
    torch.manual_seed(0)
    eps, context = points(6, 4).float(), contexts(6).float()
    z, log_det = KINDS[kind](4)(eps, context)
    assert z.equal(eps if kind == "coupling" else eps.flip(1))  # three flips are one
    assert log_det.eq(0).all()


@each_kind
@pytest.mark.parametrize("dim", [2, 3, 5])
def test_round_trip(kind, dim):
    flow, eps, context = bent(kind, dim), points(50, dim), contexts(50)
    z, _ = flow(eps, context)
    assert (z - eps).abs().max() > 0.5
    torch.testing.assert_close(flow.inverse(z, context), eps, rtol=0, atol=1e-9)


@each_kind
@pytest.mark.parametrize("dim", [2, 3, 5])
def test_log_determinant_against_the_jacobian_of_autograd(kind, dim):
    flow, eps, context = bent(kind, dim), points(5, dim), contexts(5)
    _, log_det = flow(eps, context)
    for b in range(5):
        def one(v, b=b):
            return flow(v[None], context[b : b + 1])[0][0]

        sign, wanted = torch.linalg.slogdet(jacobian(one, eps[b]))
        assert abs(wanted) > 1e-3
        torch.testing.assert_close(log_det[b], wanted)
        assert sign.abs() == 1


def test_a_coupling_keeps_the_first_half_and_stretches_within_bounds():
    coupling = bent("coupling", 5, size=30.0)
    z, log_det = coupling(points(200, 5), contexts(200))
    assert z[:, :2].equal(points(200, 5)[:, :2])
    assert not z[:, 2:].isclose(points(200, 5)[:, 2:]).any(dim=1).all()
    assert log_det.abs().max() <= 3 * 2 and log_det.abs().max() > 5


@each_kind
def test_every_example_has_its_own_context(kind):
    flow, eps = bent(kind), points(1).expand(4, 2)
    z, log_det = flow(eps, contexts(4))
    assert len(z.unique(dim=0)) == 4 and len(log_det.unique()) == 4


def test_three_couplings_move_every_coordinate():
    """Each coordinate of the result depends on each coordinate of the start."""
    flow, context = bent(dim=4), contexts(1)
    slopes = jacobian(lambda v: flow(v[None], context)[0][0], points(1, 4)[0])
    assert slopes.ne(0).all()


@each_kind
def test_gradients_reach_every_parameter(kind):
    flow = bent(kind, 4).requires_grad_(True)
    z, log_det = flow(points(20, 4), contexts(20))
    (z.square().sum() + log_det.sum()).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in flow.parameters())


# The density


def test_standard_normal_log_density_against_torch_distributions():
    z = points(20, 3)
    wanted = Independent(Normal(torch.zeros(3).double(), 1.0), 1).log_prob(z)
    torch.testing.assert_close(standard_normal_log_density(z), wanted)


@pytest.mark.parametrize("size", [0.3, 0.5])
def test_density_integrates_to_one(size):
    flow, (z, area) = bent(size=size), plane(16.0, 0.08)
    log_density = flow.log_density(z, contexts(1).expand(len(z), -1))
    assert (log_density.exp().sum() * area).item() == pytest.approx(1, abs=1e-3)


def test_a_log_determinant_counted_for_each_dimension_is_caught():
    """The fault: (B, 1) broadcast over (B, L), so that the sum over L counts it L times."""
    flow, (z, area) = bent(size=0.5), plane(16.0, 0.08)
    context = contexts(1).expand(len(z), -1)
    eps = flow.inverse(z, context)
    _, log_det = flow(eps, context)
    each = -0.5 * (eps.square() + math.log(2 * math.pi))  # (B, L)
    wrong = (each - log_det[:, None]).sum(dim=1)
    assert abs((wrong.exp().sum() * area).item() - 1) > 0.2


def test_density_has_the_moments_of_its_draws():
    flow, num, (z, area) = bent(size=0.5), 50_000, plane(16.0, 0.08)
    context = contexts(1)
    draws, _ = flow(points(num, seed=5), context.expand(num, -1))
    density = flow.log_density(z, context.expand(len(z), -1)).exp() * area
    for of in (lambda v: v, torch.sin, lambda v: v.prod(dim=1, keepdim=True).tanh()):
        wanted, values = (density[:, None] * of(z)).sum(dim=0), of(draws)
        error = values.std(dim=0) / num**0.5
        assert ((values.mean(dim=0) - wanted).abs() < 6 * error + 1e-3).all()
