"""The museum: each bug is wrong in just the said way, its repair is one, its check finds it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Categorical, Independent, MixtureSameFamily, Normal

from vae_lessons import debugging
from vae_lessons.data import as_vectors, check_pixels
from vae_lessons.debugging import (
    MUSEUM,
    OBJECTIVE_CHECKS,
    Bug,
    ReluOnMu,
    at_the_mean,
    binarised_anew,
    draw_without_gradient,
    draws_fit_the_cloud,
    eval_forgotten,
    grey_to_255,
    half_forgotten,
    ink_alone,
    integral_over_plane,
    iwae_upside_down,
    kl_agrees_with_torch,
    kl_averaged,
    kl_from_one_draw,
    kl_upside_down,
    latents_decoded,
    likelihood_agrees_with_torch,
    log_det_broadcast,
    mean_of_logs,
    mixture_by_dimension,
    never_shuffled,
    pixels_averaged,
    pixels_reach_the_encoder,
    reshaped_not_permuted,
    rows_in_common,
    sigmoid_twice,
    split_with_leak,
    starts_at_fair_coins,
    step_that_adds_up,
    terms_have_their_signs,
    uniform_draws,
)
from vae_lessons.elbo import elbo, elbo_terms, log_importance_weights
from vae_lessons.evaluation import log_marginal_likelihood
from vae_lessons.flows import CouplingFlow
from vae_lessons.iwae import iwae_bound
from vae_lessons.vae import VAE, Encoder

D, H, L = 12, 7, 3
BUGS = {bug.name: bug for bug in MUSEUM}
SAME_AS_ELBO_TERMS = [
    pixels_averaged, kl_averaged, kl_upside_down, ink_alone, sigmoid_twice, half_forgotten,
    draw_without_gradient, at_the_mean, kl_from_one_draw,
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fresh():
    torch.manual_seed(0)
    return VAE(D, H, L)


def settled():
    """A model whose clouds are narrow and lie apart, as after some training."""
    model = fresh()
    with torch.no_grad():
        model.encoder.log_var.bias -= 1.5
        model.encoder.mu.weight *= 6
        model.decoder.logits.weight *= 4
    return model


def black_and_white(num=200, seed=0):
    """Images that are mostly paper, as digits are."""
    return (torch.rand(num, D, generator=seeded(seed)) < 0.2).float()


def repaired(broken):
    return BUGS[broken.__name__].repaired()


def gradients(model, value):
    model.zero_grad()
    value.sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


# The catalogue


def test_the_museum_holds_every_broken_thing_once():
    names = [bug.name for bug in MUSEUM]
    assert len(set(names)) == len(names) == 22
    assert all(bug.symptom and bug.wrong != bug.right for bug in MUSEUM)
    checks = {check.__name__ for check in OBJECTIVE_CHECKS} | {
        "Bug", "latents_decoded", "integral_over_plane", "rows_in_common"}
    here = {name for name, thing in vars(debugging).items()
            if getattr(thing, "__module__", "") == debugging.__name__ and name[0] != "_"}
    assert here == set(names) | checks


@pytest.mark.parametrize("bug", MUSEUM, ids=lambda bug: bug.name)
def test_the_diff_takes_out_and_puts_in(bug):
    lines = bug.diff().splitlines()
    assert (lines[0], lines[-1]) == ("```diff", "```")
    taken = [line for line in lines if line.startswith("- ")]
    put = [line for line in lines if line.startswith("+ ")]
    assert len(taken) + len(put) == len(lines) - 2
    assert len(put) == 1 and len(taken) <= 1, "a repair of one line"
    assert bug.right.splitlines()[0] in "\n".join(put)


def test_a_repair_that_does_not_fit_is_refused():
    for wrong, count in [("no such words", 0), ("mu", 3)]:
        bug = Bug(pixels_averaged, "", wrong, "x")
        with pytest.raises(ValueError, match=f"occurs {count} times in pixels_averaged, not once"):
            bug.repaired()


# The objectives: how far each is from the healthy one


@pytest.mark.parametrize("broken", SAME_AS_ELBO_TERMS, ids=lambda broken: broken.__name__)
def test_repaired_objectives_are_the_terms_of_the_bound(broken):
    model, x = settled(), black_and_white()
    mine, wanted = repaired(broken)(model, x, seeded()), elbo_terms(model, x, seeded())
    torch.testing.assert_close(mine, wanted)
    for one, other in zip(gradients(model, mine[0] - mine[1]),
                          gradients(model, wanted[0] - wanted[1])):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_pixels_averaged_divides_by_the_pixels():
    model, x = settled(), black_and_white()
    wrong, right = pixels_averaged(model, x, seeded()), elbo_terms(model, x, seeded())
    torch.testing.assert_close(D * wrong.reconstruction, right.reconstruction)
    torch.testing.assert_close(wrong.kl, right.kl)


def test_kl_averaged_divides_by_the_latents():
    model, x = settled(), black_and_white()
    wrong, right = kl_averaged(model, x, seeded()), elbo_terms(model, x, seeded())
    torch.testing.assert_close(L * wrong.kl, right.kl)
    torch.testing.assert_close(wrong.reconstruction, right.reconstruction)


def test_kl_upside_down_pays_for_distance():
    model, x = settled(), black_and_white()
    torch.testing.assert_close(kl_upside_down(model, x).kl, -elbo_terms(model, x).kl)


def test_ink_alone_forgets_the_paper():
    model, x = settled(), black_and_white()
    z, wrong = latents_decoded(ink_alone, model, x, seeded())
    right = elbo_terms(model, x, seeded())
    paper = ((1 - x) * Bernoulli(logits=model.decode(z)).probs.neg().log1p()).sum(dim=1)
    torch.testing.assert_close(wrong.reconstruction + paper, right.reconstruction)


def test_ink_alone_is_no_distribution_over_images():
    """Added over all images, its probabilities make the product of 1 + the chance of ink."""
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    torch.manual_seed(0)
    model, logits = VAE(4, H, L), torch.tensor([0.5, -1.0, 2.0, 0.0])
    model.decode = lambda z: logits.expand(len(z), 4)
    assert (ink_alone(model, every).reconstruction <= 0).all(), "a test for the sign is content"
    total = ink_alone(model, every).reconstruction.exp().sum()
    torch.testing.assert_close(total, (1 + logits.sigmoid()).prod())
    total = repaired(ink_alone)(model, every).reconstruction.exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0))


def test_sigmoid_twice_cannot_believe_in_paper():
    model, x = settled(), black_and_white()
    z, wrong = latents_decoded(sigmoid_twice, model, x, seeded())
    believed = Bernoulli(probs=model.decode(z).sigmoid().sigmoid())
    torch.testing.assert_close(wrong.reconstruction, believed.log_prob(x).sum(dim=1))
    floor = x.sum(dim=1) * F.softplus(torch.tensor(-1.0)) + (1 - x).sum(dim=1) * math.log(2)
    assert (-wrong.reconstruction > floor).all()


def test_half_forgotten_draws_with_the_variance():
    model, x = settled(), black_and_white()
    z, wrong = latents_decoded(half_forgotten, model, x, seeded())
    right, _ = latents_decoded(elbo_terms, model, x, seeded())
    mu, log_var = model.encode(x)
    torch.testing.assert_close(z - mu, (right - mu) * torch.exp(log_var / 2))
    torch.testing.assert_close(wrong.kl, elbo_terms(model, x).kl)


def test_draw_without_gradient_has_the_right_value_and_no_gradient():
    model, x = settled(), black_and_white()
    wrong, right = draw_without_gradient(model, x, seeded()), elbo_terms(model, x, seeded())
    torch.testing.assert_close(wrong, right)
    for value, moves in [(wrong.reconstruction, False), (right.reconstruction, True)]:
        model.zero_grad()
        value.sum().backward()
        found = [p.grad is not None and p.grad.any() for p in model.encoder.parameters()]
        assert any(found) == moves
        assert all(p.grad.any() for p in model.decoder.parameters())


def test_iwae_upside_down_weighs_the_worst_most():
    model, x = settled(), black_and_white(20)
    log_weights = log_importance_weights(model, x, 4, seeded())
    wrong = iwae_upside_down(model, x, seeded(), num_samples=4)
    by_hand = torch.stack([
        sum((-each).exp() * each for each in row) / sum((-each).exp() for each in row)
        for row in log_weights.double()])
    torch.testing.assert_close(wrong.double(), by_hand, rtol=1e-4, atol=1e-4)
    assert (wrong < log_weights.mean(dim=1)).all()
    assert (repaired(iwae_upside_down)(model, x, seeded(), 4) > log_weights.mean(dim=1)).all()


def test_iwae_repaired_has_the_gradient_of_the_bound():
    model, x = settled(), black_and_white(20)
    wanted = gradients(model, iwae_bound(model, x, 5, seeded()))
    right = gradients(model, repaired(iwae_upside_down)(model, x, seeded()))
    wrong = gradients(model, iwae_upside_down(model, x, seeded()))
    for one, other in zip(right, wanted):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert any((one - other).abs().max() > 0.1 for one, other in zip(wrong, wanted))


# The loop and the network


def test_step_that_adds_up():
    x, results = black_and_white(), {}
    for name, step in [("wrong", step_that_adds_up), ("right", repaired(step_that_adds_up))]:
        model = settled()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        loss = step(model, optimizer, x, seeded())
        once = [parameter.grad.clone() for parameter in model.parameters()]
        step(model, optimizer, x, seeded())
        results[name] = [(p.grad, one) for p, one in zip(model.parameters(), once)]
        assert loss == pytest.approx(-elbo(model, x, seeded()).mean().item())
    for twice, once in results["wrong"]:
        torch.testing.assert_close(twice, 2 * once)
    for again, once in results["right"]:
        torch.testing.assert_close(again, once)


@pytest.mark.parametrize("make", [lambda: step_that_adds_up, lambda: repaired(step_that_adds_up)])
def test_steps_move_the_model(make):
    model, x = settled(), black_and_white()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = nn.utils.parameters_to_vector(model.parameters())
    wanted = before - 0.01 * torch.cat([g.flatten() for g in gradients(
        model, -elbo(model, x, seeded()).mean())])
    model.zero_grad()
    make()(model, optimizer, x, seeded())
    torch.testing.assert_close(nn.utils.parameters_to_vector(model.parameters()), wanted)


def test_never_shuffled():
    wrong = never_shuffled(10, 4, seeded())
    assert [each.tolist() for each in wrong] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    right = torch.cat(repaired(never_shuffled)(10, 4, seeded()))
    assert right.tolist() != list(range(10)) == sorted(right.tolist())
    assert [len(each) for each in repaired(never_shuffled)(10, 4, seeded())] == [4, 4, 2]


def test_relu_on_mu():
    x = black_and_white()
    encoders = {}
    for name, kind in [("wrong", ReluOnMu), ("right", repaired(ReluOnMu)), ("twin", Encoder)]:
        torch.manual_seed(0)
        encoders[name] = kind(D, H, L)
    mu, log_var = encoders["twin"](x)
    torch.testing.assert_close(encoders["wrong"](x), (mu.clamp(min=0), log_var))
    torch.testing.assert_close(encoders["right"](x), (mu, log_var))
    assert mu.min() < 0 == encoders["wrong"](x)[0].min()


# Densities


def bent_flow():
    torch.manual_seed(1)
    flow = CouplingFlow(2, 0, 8, 2).requires_grad_(False)
    for parameter in flow.parameters():
        parameter.copy_(0.7 * torch.randn(parameter.shape, generator=seeded(parameter.numel())))
    return flow


def test_log_det_broadcast():
    flow = bent_flow()
    z = torch.randn(50, 2, generator=seeded())
    context = torch.zeros(50, 0)
    jacobians = torch.stack([
        torch.autograd.functional.jacobian(lambda e: flow(e[None], context[:1])[0][0], eps)
        for eps in flow.inverse(z, context)])
    log_det = jacobians.det().abs().log()
    right = Normal(0.0, 1.0).log_prob(flow.inverse(z, context)).sum(dim=1) - log_det
    options = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(repaired(log_det_broadcast)(flow, z, context), right, **options)
    torch.testing.assert_close(flow.log_density(z, context), right, **options)
    torch.testing.assert_close(log_det_broadcast(flow, z, context), right - log_det, **options)


def test_log_det_broadcast_does_not_integrate_to_one():
    flow = bent_flow()

    def density_of(log_density):
        return lambda z: log_density(flow, z, torch.zeros(len(z), 0))

    right = integral_over_plane(density_of(repaired(log_det_broadcast)), 12.0, 0.08)
    wrong = integral_over_plane(density_of(log_det_broadcast), 12.0, 0.08)
    assert abs(right - 1) < 2e-3
    eps, context = torch.randn(100_000, 2, generator=seeded()), torch.zeros(100_000, 0)
    inverse_det = torch.exp(-flow(eps, context)[1])  # the wrong density over the right one
    error = inverse_det.std().item() / 100_000**0.5
    assert abs(wrong - inverse_det.mean().item()) < 6 * error + 0.01
    assert abs(wrong - 1) > 0.2


CENTRES = torch.tensor([[-2.0, -1.0], [2.0, 2.0], [0.0, 3.0]])


def test_mixture_by_dimension_is_a_product_of_mixtures():
    z = 3 * torch.randn(50, 2, generator=seeded())
    thirds = Categorical(torch.ones(3))
    right = MixtureSameFamily(thirds, Independent(Normal(CENTRES, 1.0), 1)).log_prob(z)
    torch.testing.assert_close(repaired(mixture_by_dimension)(z, CENTRES), right)
    apart = [MixtureSameFamily(thirds, Normal(CENTRES[:, d], 1.0)).log_prob(z[:, d])
             for d in range(2)]
    wrong = sum(apart) + math.log(3)  # each of the two would have its own log 3 taken away
    torch.testing.assert_close(mixture_by_dimension(z, CENTRES), wrong)


def test_mixture_by_dimension_integrates_to_the_number_of_clouds():
    """K clouds in L dimensions: K to the power of L - 1, so here 3."""
    wrong = integral_over_plane(lambda z: mixture_by_dimension(z, CENTRES), 10.0)
    right = integral_over_plane(lambda z: repaired(mixture_by_dimension)(z, CENTRES), 10.0)
    assert abs(wrong - 3) < 1e-4 and abs(right - 1) < 1e-4


def test_integral_over_plane():
    def density(z):
        return Normal(0.5, 2.0).log_prob(z).sum(dim=1)

    assert abs(integral_over_plane(density, 14.0, 0.1) - 1) < 1e-6
    inside = Normal(0.5, 2.0).cdf(torch.tensor([1.05, -1.05])).diff().item() ** 2
    assert abs(integral_over_plane(density, 1.0, 0.1) - inside) < 1e-3


def test_uniform_draws():
    num = 50_000
    wrong, right = uniform_draws(num, 2, seeded()), repaired(uniform_draws)(num, 2, seeded())
    for draws, mean, variance in [(wrong, 0.5, 1 / 12), (right, 0.0, 1.0)]:
        assert draws.shape == (num, 2)
        assert (draws.mean(dim=0) - mean).abs().max() < 6 * (variance / num) ** 0.5
        assert (draws.var(dim=0) / variance - 1).abs().max() < 6 * (2 / num) ** 0.5
    assert right.equal(torch.randn(num, 2, generator=seeded()))


# Measures


def test_at_the_mean_uses_no_draw():
    model, x = settled(), black_and_white()
    z, wrong = latents_decoded(at_the_mean, model, x, seeded())
    assert z.equal(model.encode(x)[0])
    assert wrong.reconstruction.equal(at_the_mean(model, x, seeded(1)).reconstruction)
    wanted = Bernoulli(logits=model.decode(z)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(wrong.reconstruction, wanted)


def test_kl_from_one_draw_is_right_on_average_and_noisy():
    model, x = settled(), black_and_white(1)
    kls = kl_from_one_draw(model, x.expand(20_000, -1), seeded()).kl
    exact = elbo_terms(model, x).kl.item()
    assert abs(kls.mean().item() - exact) < 6 * kls.std().item() / 20_000**0.5
    assert kls.std() > 0.5


def test_mean_of_logs_does_not_move_with_the_draws():
    model, x = settled(), black_and_white(1).expand(4000, -1)
    with torch.no_grad():
        few, many = mean_of_logs(model, x, 1, seeded()), mean_of_logs(model, x, 20, seeded())
        bound = -elbo(model, x, seeded(1))
        right = repaired(mean_of_logs)(model, x, 20, seeded())
    for values in (few, many):
        error = (values.var() / 4000 + bound.var() / 4000).sqrt()
        assert abs(values.mean() - bound.mean()) < 6 * error, "-ELBO under another name"
    assert right.mean() < many.mean() - 0.1
    torch.testing.assert_close(right, -iwae_bound(model, x, 20, seeded()))
    wanted = -log_marginal_likelihood(model, x[:100], 20, seeded())
    torch.testing.assert_close(repaired(mean_of_logs)(model, x[:100], 20, seeded()), wanted)


def test_binarised_anew_jitters():
    torch.manual_seed(0)
    model, grey = settled().requires_grad_(False), torch.rand(50, D, generator=seeded())
    assert not binarised_anew(model, grey).equal(binarised_anew(model, grey))
    right = repaired(binarised_anew)
    assert right(model, grey).equal(right(model, grey))
    x = (torch.rand(grey.shape, generator=seeded(1)) < grey).float()
    assert right(model, grey).equal(-elbo(model, x, seeded()))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(H), nn.Dropout(0.5)])
def test_eval_forgotten(layer):
    model, x = settled(), black_and_white()
    model.encoder.hidden.append(layer)
    eps_of_one = x[:1].expand(2, -1)
    model.train()
    wrong = eval_forgotten(model, torch.cat([eps_of_one, x]), seeded())
    other = eval_forgotten(model, torch.cat([eps_of_one, 1 - x]), seeded())
    assert model.training and not wrong.requires_grad
    assert isinstance(layer, nn.Dropout) or not torch.allclose(wrong[0], other[0])
    right = repaired(eval_forgotten)(model, x, seeded())
    assert not model.training and not right.requires_grad
    assert right.equal(-elbo(model, x, seeded()))
    model.train()
    assert not torch.allclose(eval_forgotten(model, x, seeded()), right)


# Data


def test_grey_to_255():
    images = torch.randint(0, 256, (5, 4, 4), generator=seeded(), dtype=torch.uint8)
    torch.testing.assert_close(grey_to_255(images), 255 * as_vectors(images))
    assert repaired(grey_to_255)(images).equal(as_vectors(images))
    with pytest.raises(ValueError, match="wanted are values in"):
        check_pixels(grey_to_255(images))


def test_reshaped_not_permuted():
    images = torch.arange(2 * 3 * 5).view(5, 2, 3)
    stored_last = torch.stack(list(images), dim=2)  # (H, W, N), as some files have it
    wrong, right = reshaped_not_permuted(stored_last), repaired(reshaped_not_permuted)(stored_last)
    assert right.equal(images.flatten(1))
    assert wrong.shape == right.shape and not wrong.equal(right)
    assert wrong.flatten().sort().values.equal(right.flatten().sort().values)


def test_split_with_leak():
    images = black_and_white(20) + torch.arange(20)[:, None]
    train, test = split_with_leak(images, 5)
    assert rows_in_common(train, test) == len(test) == 5
    train, test = repaired(split_with_leak)(images, 5)
    assert rows_in_common(train, test) == 0
    assert torch.cat([test, train]).equal(images)


def test_rows_in_common_counts():
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    others = torch.tensor([[3.0, 4.0], [4.0, 3.0], [3.0, 4.0]])
    assert rows_in_common(rows, others) == 2
    assert rows_in_common(rows, others[:0]) == rows_in_common(rows[:0], others) == 0


# The checks: whom each accuses, and that it does not accuse the healthy objective


ACCUSED = {
    starts_at_fair_coins: {pixels_averaged, ink_alone, sigmoid_twice},
    terms_have_their_signs: {kl_upside_down, kl_from_one_draw},
    kl_agrees_with_torch: {kl_averaged, kl_upside_down, kl_from_one_draw},
    likelihood_agrees_with_torch: {pixels_averaged, ink_alone, sigmoid_twice},
    draws_fit_the_cloud: {half_forgotten, at_the_mean},
    pixels_reach_the_encoder: {draw_without_gradient},
}


@pytest.mark.parametrize("check", OBJECTIVE_CHECKS, ids=lambda check: check.__name__)
def test_each_check_accuses_the_guilty_and_nobody_else(check):
    x = black_and_white()
    make = fresh if check is starts_at_fair_coins else settled
    assert check(elbo_terms, make(), x, seeded())
    accused = {each for each in SAME_AS_ELBO_TERMS if not check(each, make(), x, seeded())}
    assert accused == ACCUSED[check]
    assert all(check(repaired(each), make(), x, seeded()) for each in accused)


def test_a_negative_kl_and_a_positive_log_likelihood_are_both_refused():
    def positive(model, x, generator):
        terms = elbo_terms(model, x, generator)
        return terms._replace(reconstruction=-terms.reconstruction)

    assert not terms_have_their_signs(positive, settled(), black_and_white(), seeded())
    assert not terms_have_their_signs(kl_upside_down, settled(), black_and_white(), seeded())


@pytest.mark.parametrize(("kl", "passes"), [(-1e-6, True), (-1e-3, False)])
def test_a_kl_of_zero_may_be_rounded(kl, passes):
    def constant(model, x, generator):
        return elbo_terms(model, x, generator)._replace(kl=torch.full((len(x),), kl))

    assert terms_have_their_signs(constant, settled(), black_and_white(), seeded()) == passes


def test_a_sigmoid_inside_the_decoder_is_seen_by_the_first_loss_alone():
    model, x = fresh(), black_and_white()
    model.decoder = nn.Sequential(model.decoder, nn.Sigmoid())
    assert likelihood_agrees_with_torch(elbo_terms, model, x, seeded())
    assert not starts_at_fair_coins(elbo_terms, model, x, seeded())


def test_draws_of_a_model_never_trained_do_not_show_the_forgotten_half():
    assert draws_fit_the_cloud(half_forgotten, fresh(), black_and_white(), seeded())


def test_latents_decoded_leaves_no_hook():
    model, x = settled(), black_and_white(4)
    z, terms = latents_decoded(elbo_terms, model, x, seeded())
    assert z.equal(model.sample_posterior(x, seeded())[0])
    torch.testing.assert_close(terms, elbo_terms(model, x, seeded()))
    with pytest.raises(ValueError, match="wanted"):
        latents_decoded(elbo_terms, model, x[:, 1:], seeded())
    assert not model.decoder._forward_pre_hooks
