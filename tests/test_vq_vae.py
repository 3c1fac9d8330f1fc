"""The vector-quantised VAE: nearest entries, gradients, use of the codebook, priors, the bound."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical

from vae_lessons.training import fit
from vae_lessons.vq_vae import (
    COMMITMENT_WEIGHT,
    NUM_POSITIONS,
    VQVAE,
    CausalPrior,
    IndependentPrior,
    VQTerms,
    log_frequencies,
    log_px_bound,
    nearest_entries,
    perplexity,
    restart_entries,
    straight_through,
    vq_objective,
    vq_terms,
)

C, M, P, D = 6, 3, NUM_POSITIONS, 784
LETTERS, LENGTH = 3, 4  # of the small sequences that can all be listed


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_model(codebook_size=C, **options):
    torch.manual_seed(0)
    return VQVAE(codebook_size, M, 8, **options)


def pixels(num, seed=0):
    return torch.rand(num, D, generator=seeded(seed)).round()


def random_codes(num, positions=P, letters=C, seed=0):
    return torch.randint(letters, (num, positions), generator=seeded(seed))


def causal_prior(letters=LETTERS, length=LENGTH):
    """A small prior whose weights are large enough for every code to matter."""
    torch.manual_seed(0)
    prior = CausalPrior(length, letters, code_dim=3, width=4, hidden_dim=8)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_()
    return prior


def independent_prior(letters=LETTERS, length=LENGTH):
    return IndependentPrior(torch.randn(length, letters, generator=seeded()))


def all_sequences(letters=LETTERS, length=LENGTH):
    return torch.tensor(list(itertools.product(range(letters), repeat=length)))


# The model


@pytest.mark.parametrize("num", [0, 1, 5])
def test_shapes(num):
    model, x = small_model(), pixels(num)
    codes = model.encode_codes(x)
    assert codes.shape == (num, P) and codes.dtype == torch.long
    assert model.vectors(x).shape == (num, P, M)
    assert model.decode(model.vectors(x)).shape == model.decode_codes(codes).shape == (num, D)
    assert model.log_px_codes(x, codes).shape == (num,)
    assert [term.shape for term in vq_terms(model, x)] == 3 * [(num,)]
    assert vq_objective(model, x).shape == (num,)


def test_codes_lie_in_the_codebook():
    codes = small_model().encode_codes(pixels(50))
    assert codes.min() >= 0 and codes.max() < C


def test_vectors_have_mean_0_and_variance_1():
    vectors = small_model().vectors(pixels(5))
    torch.testing.assert_close(vectors.mean(dim=2), torch.zeros(5, P), rtol=0, atol=1e-6)
    variance = vectors.var(dim=2, correction=0)
    torch.testing.assert_close(variance, torch.ones(5, P), rtol=0, atol=0.02)


@pytest.mark.parametrize("shape", [(D,), (2, D + 1), (2, 28, 28)])
def test_refuses_images_of_another_shape(shape):
    for part in (small_model().vectors, small_model().encode_codes):
        with pytest.raises(ValueError, match=r"but \(B, 784\) is wanted") as caught:
            part(torch.zeros(shape))
        assert f"x has shape {shape}" in str(caught.value)


@pytest.mark.parametrize("shape", [(P,), (2, P + 1), (2, P, 1)])
def test_refuses_codes_of_another_shape(shape):
    parts = [small_model().decode_codes, causal_prior(length=P).log_prob,
             independent_prior(length=P).log_prob]
    for part in parts:
        with pytest.raises(ValueError, match=r"but \(B, 16\) is wanted") as caught:
            part(torch.zeros(shape, dtype=torch.long))
        assert f"codes has shape {shape}" in str(caught.value)


@pytest.mark.parametrize("shape", [(P, M), (2, P, M + 1), (2, P + 1, M)])
def test_refuses_vectors_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"but \(B, 16, 3\) is wanted"):
        small_model().decode(torch.zeros(shape))


@pytest.mark.parametrize("sizes", [(0, M, 4), (C, 0, 4), (C, M, 3), (C, M, 0), (2.0, M, 4)])
def test_refuses_sizes(sizes):
    with pytest.raises(ValueError, match="whole number of 1 or more"):
        VQVAE(*sizes)


def test_output_bias_is_where_the_last_bias_starts():
    bias = torch.linspace(-2, 2, D)
    model = small_model(output_bias=bias)
    codes = random_codes(3)
    added = model.decode_codes(codes) - small_model().decode_codes(codes)
    torch.testing.assert_close(added, bias.expand(3, -1))
    with pytest.raises(ValueError, match=r"but \(784,\) is wanted"):
        small_model(output_bias=torch.zeros(28, 28))


def test_log_px_codes_against_torch_distributions():
    model, x, codes = small_model(), pixels(4), random_codes(4)
    wanted = Bernoulli(logits=model.decode_codes(codes)).log_prob(x).sum(dim=1)
    torch.testing.assert_close(model.log_px_codes(x, codes), wanted)


def test_decodes_the_entries_that_the_codes_name():
    model, codes = small_model(), random_codes(2)
    entries = torch.stack([torch.stack([model.codebook[k] for k in row]) for row in codes])
    assert model.decode_codes(codes).equal(model.decode(entries))
    other = codes.clone()
    other[0, 5] = (codes[0, 5] + 1) % C
    changed = (model.decode_codes(other) - model.decode_codes(codes)).abs().sum(dim=1)
    assert changed[0] > 0 and changed[1] == 0


def test_each_position_sees_its_own_place():
    """A blot in one corner moves the vector of that corner and not that of the opposite one."""
    model, x = small_model(), torch.zeros(1, D)
    blot = x.clone().view(28, 28)
    blot[:4, :4] = 1
    moved = (model.vectors(blot.view(1, D)) - model.vectors(x)).abs().sum(dim=2)[0]
    assert moved[0] > 0 and moved[-1] == 0


@pytest.mark.parametrize(("position", "near", "far"), [
    (0, (0, 0), (27, 27)), (3, (0, 27), (27, 0)), (12, (27, 0), (0, 27)), (15, (27, 27), (0, 0)),
])
def test_each_code_paints_its_own_place(position, near, far):
    """The code of one corner of the grid moves that corner of the picture, not the opposite."""
    model, codes = small_model(), random_codes(1)
    other = codes.clone()
    other[0, position] = (codes[0, position] + 1) % C
    moved = (model.decode_codes(other) - model.decode_codes(codes)).abs().view(28, 28)
    assert moved[near] > 0 and moved[far] == 0


# Nearest entries


@pytest.mark.parametrize("shape", [(M,), (7, M), (2, 5, M), (0, M)])
def test_nearest_entries_by_hand(shape):
    vectors, codebook = torch.randn(shape, generator=seeded()), torch.randn(C, M)
    by_hand = []
    for vector in vectors.view(-1, M):
        distances = [sum((v - e) ** 2 for v, e in zip(vector, entry)).item() for entry in codebook]
        by_hand.append(distances.index(min(distances)))
    assert nearest_entries(vectors, codebook).flatten().tolist() == by_hand


def test_an_entry_is_nearest_to_itself_whatever_its_length():
    codebook = torch.tensor([[0.0, 1.0], [0.0, 10.0], [5.0, 0.0], [0.0, 0.0]])
    assert nearest_entries(codebook, codebook).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("vectors", "codebook"), [((2, M + 1), (C, M)), ((2, M), (M,)),
                                                   ((), (C, M))])
def test_nearest_entries_refuses(vectors, codebook):
    with pytest.raises(ValueError, match=r"\(\.\.\., M\) and \(C, M\) are wanted"):
        nearest_entries(torch.zeros(vectors), torch.zeros(codebook))


# Gradients


def test_straight_through_has_the_value_of_the_entries():
    vectors, entries = torch.randn(2, 5, M), torch.randn(2, 5, M)
    torch.testing.assert_close(straight_through(vectors, entries), entries)


def test_straight_through_hands_the_gradient_on():
    vectors, entries = (torch.randn(5, M).requires_grad_() for _ in range(2))
    weight = torch.randn(5, M)
    (weight * straight_through(vectors, entries)).sum().backward()
    assert vectors.grad.equal(weight) and entries.grad is None


def test_the_reconstruction_gives_the_vectors_the_gradient_of_the_entries(monkeypatch):
    """The definition: d/d vectors of the reconstruction is its gradient at the entries."""
    model, x = small_model(), pixels(3)
    vectors = model.vectors(x).detach().requires_grad_()
    monkeypatch.setattr(model, "vectors", lambda x: vectors)
    vq_terms(model, x).reconstruction.sum().backward()
    entries = model.codebook[model.encode_codes(x)].detach().requires_grad_()
    Bernoulli(logits=model.decode(entries)).log_prob(x).sum().backward()
    torch.testing.assert_close(vectors.grad, entries.grad)
    assert vectors.grad.abs().max() > 0 and model.codebook.grad is None


def test_the_codebook_term_moves_entries_only(monkeypatch):
    model, x = small_model(), pixels(3)
    vectors = model.vectors(x).detach().requires_grad_()
    monkeypatch.setattr(model, "vectors", lambda x: vectors)
    vq_terms(model, x).codebook.sum().backward()
    wanted = torch.zeros(C, M)
    for code, vector in zip(model.encode_codes(x).flatten(), vectors.detach().view(-1, M)):
        wanted[code] += 2 * (model.codebook.detach()[code] - vector)
    torch.testing.assert_close(model.codebook.grad, wanted)
    assert vectors.grad is None


def test_the_commitment_term_moves_vectors_only(monkeypatch):
    model, x = small_model(), pixels(3)
    vectors = model.vectors(x).detach().requires_grad_()
    monkeypatch.setattr(model, "vectors", lambda x: vectors)
    vq_terms(model, x).commitment.sum().backward()
    entries = model.codebook.detach()[model.encode_codes(x)]
    torch.testing.assert_close(vectors.grad, 2 * (vectors - entries).detach())
    assert model.codebook.grad is None


def test_terms_and_objective_by_hand():
    model, x = small_model(), pixels(4)
    terms, codes = vq_terms(model, x), model.encode_codes(x)
    distance = (model.vectors(x) - model.codebook[codes]).square().sum(dim=(1, 2))
    assert isinstance(terms, VQTerms)
    torch.testing.assert_close(terms.reconstruction, model.log_px_codes(x, codes))
    torch.testing.assert_close(terms.codebook, distance)
    torch.testing.assert_close(terms.commitment, distance)
    wanted = terms.reconstruction - (1 + COMMITMENT_WEIGHT) * distance
    torch.testing.assert_close(vq_objective(model, x, seeded()), wanted)


def test_the_weight_stands_at_the_commitment_term():
    """Both distances are equal in value, so only the gradient tells which one is weighted."""
    model, x = small_model(), pixels(3)
    vq_terms(model, x).codebook.sum().backward()
    wanted, model.codebook.grad = model.codebook.grad, None
    vq_objective(model, x).sum().backward()
    torch.testing.assert_close(model.codebook.grad, -wanted)


def test_gradients_reach_every_parameter():
    model = small_model()
    restart_entries(model, pixels(8), torch.ones(C, dtype=torch.bool), seeded())
    vq_objective(model, pixels(8)).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_fit_trains_it():
    """Two pictures, ink on the left and ink on the right, get codes that tell them apart."""
    left = (torch.arange(D) % 28 < 14).float()
    model, x = small_model(), torch.stack([left, 1 - left]).repeat(16, 1)
    restart_entries(model, x, torch.ones(C, dtype=torch.bool), seeded())
    history = fit(model, x, vq_objective, epochs=20, batch_size=8, learning_rate=1e-2)
    assert history[-1].loss < 0.5 * history[0].loss
    assert not model.encode_codes(x[:1]).equal(model.encode_codes(x[1:2]))


# The use of the codebook


def test_perplexity():
    assert perplexity(torch.tensor([7, 7, 7, 7])) == pytest.approx(4)
    assert perplexity(torch.tensor([0, 9, 0])) == pytest.approx(1)
    counts = torch.tensor([5, 0, 3, 1, 11])
    wanted = math.exp(Categorical(probs=counts.double()).entropy())
    assert perplexity(counts) == pytest.approx(wanted)
    with pytest.raises(ValueError, match="all counts are zero"):
        perplexity(torch.zeros(3))


def test_restart_puts_the_chosen_entries_on_vectors():
    model, x = small_model(), pixels(3)
    before, which = model.codebook.detach().clone(), torch.tensor([1, 0, 1, 1, 0, 0]) == 1
    restart_entries(model, x, which, seeded())
    vectors = model.vectors(x).flatten(0, 1)
    assert model.codebook[~which].equal(before[~which])
    rows = [(vectors == entry).all(dim=1).nonzero()[0].item() for entry in model.codebook[which]]
    assert len(set(rows)) == 3, "each on a vector of its own"
    assert model.codebook.requires_grad and model.codebook.is_leaf
    again = small_model()
    torch.manual_seed(1)  # the draw comes from the generator alone
    restart_entries(again, x, which, seeded())
    assert again.codebook.equal(model.codebook)


def test_restart_refuses_too_few_vectors():
    with pytest.raises(ValueError, match="16 vectors are too few for 17 entries"):
        restart_entries(small_model(17), pixels(1), torch.ones(17, dtype=torch.bool))


def test_restart_brings_dead_entries_to_life():
    model, x = small_model(), pixels(30)
    with torch.no_grad():
        model.codebook[1:] = 100.0
    used = model.encode_codes(x).flatten().bincount(minlength=C)
    assert (used > 0).tolist() == [True] + 5 * [False]
    restart_entries(model, x, used == 0, seeded())
    assert (model.encode_codes(x).flatten().bincount(minlength=C)[1:] > 0).all()


# Priors


@pytest.mark.parametrize("prior", [causal_prior(), independent_prior()])
def test_probabilities_of_all_sequences_add_up_to_1(prior):
    total = prior.log_prob(all_sequences()).double().exp().sum().item()
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("prior", [causal_prior(), independent_prior()])
def test_samples_are_as_frequent_as_the_prior_says(prior):
    num, sequences = 40_000, all_sequences()
    samples = prior.sample(num, seeded())
    place = LETTERS ** torch.arange(LENGTH - 1, -1, -1)
    counts = (samples * place).sum(dim=1).bincount(minlength=len(sequences))
    p = prior.log_prob(sequences).double().exp()
    assert ((counts / num - p).abs() < 6 * (p * (1 - p) / num).sqrt() + 1e-4).all()
    assert samples.shape == (num, LENGTH) and samples.dtype == torch.long
    assert prior.sample(9, seeded(1)).equal(prior.sample(9, seeded(1)))


@pytest.mark.parametrize("prior", [causal_prior(), independent_prior()])
def test_priors_of_no_sequences(prior):
    assert prior.log_prob(torch.zeros(0, LENGTH, dtype=torch.long)).shape == (0,)


def test_causal_logits_look_back_only():
    prior, codes = causal_prior(), random_codes(20, LENGTH, LETTERS)
    for position in range(LENGTH):
        other = codes.clone()
        other[:, position] = (codes[:, position] + 1) % LETTERS
        changed = (prior.logits(other) - prior.logits(codes)).abs().amax(dim=(0, 2))
        assert (changed[: position + 1] == 0).all(), "neither itself nor what comes before"
        assert (changed[position + 1 :] > 1e-3).all(), "everything that comes after"


def test_causal_log_prob_is_the_product_of_conditionals():
    prior, codes = causal_prior(), random_codes(5, LENGTH, LETTERS)
    wanted = torch.zeros(5)
    for position in range(LENGTH):
        given = codes.clone()
        given[:, position:] = 0  # not known yet
        conditional = Categorical(logits=prior.logits(given)[:, position])
        wanted += conditional.log_prob(codes[:, position])
    torch.testing.assert_close(prior.log_prob(codes), wanted)


def test_causal_prior_learns_what_an_independent_one_cannot():
    """Second code equals the first: log 2 nats and not 2 log 2."""
    codes = torch.tensor([[0, 0], [1, 1]]).repeat(32, 1)
    torch.manual_seed(0)
    prior = CausalPrior(2, 2, code_dim=2, width=4, hidden_dim=8)
    optimizer = torch.optim.Adam(prior.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        (-prior.log_prob(codes).mean()).backward()
        optimizer.step()
    assert -prior.log_prob(codes).mean().item() == pytest.approx(math.log(2), abs=0.02)
    independent = IndependentPrior(log_frequencies(codes, 2))
    assert -independent.log_prob(codes).mean().item() == pytest.approx(2 * math.log(2))


def test_causal_prior_starts_at_its_bias():
    bias = torch.randn(LENGTH, LETTERS)
    prior = CausalPrior(LENGTH, LETTERS, output_bias=bias)
    without = CausalPrior(LENGTH, LETTERS)
    without.load_state_dict({**prior.state_dict(), "bias": torch.zeros(LENGTH, LETTERS)})
    codes = random_codes(3, LENGTH, LETTERS)
    added = prior.logits(codes) - without.logits(codes)
    torch.testing.assert_close(added, bias.expand(3, -1, -1), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"but \(4, 3\) is wanted"):
        CausalPrior(LENGTH, LETTERS, output_bias=torch.zeros(LETTERS))


@pytest.mark.parametrize("sizes", [(0, LETTERS), (LENGTH, 0), (LENGTH, 2.5)])
def test_causal_prior_refuses_sizes(sizes):
    with pytest.raises(ValueError, match="whole number of 1 or more"):
        CausalPrior(*sizes)


def test_independent_log_prob_against_torch_distributions():
    prior, codes = independent_prior(), random_codes(7, LENGTH, LETTERS)
    wanted = Categorical(logits=prior.logits).log_prob(codes).sum(dim=1)
    torch.testing.assert_close(prior.log_prob(codes), wanted)
    uniform = IndependentPrior(torch.zeros(LENGTH, LETTERS))
    torch.testing.assert_close(
        uniform.log_prob(codes), torch.full((7,), -LENGTH * math.log(LETTERS)))


def test_log_frequencies_count():
    codes = random_codes(50, LENGTH, LETTERS)
    frequencies = log_frequencies(codes, LETTERS + 1).exp()
    for position, letter in itertools.product(range(LENGTH), range(LETTERS + 1)):
        count = codes[:, position].tolist().count(letter)
        assert frequencies[position, letter].item() == pytest.approx((count + 1) / 54)


# The bound


def test_bound_against_the_sum_over_all_codes():
    """With two entries all 2^16 sequences can be listed, and log p(x) is their sum."""
    model, x = small_model(2, output_bias=torch.zeros(D)), pixels(2)
    restart_entries(model, x, torch.ones(2, dtype=torch.bool), seeded())
    with torch.no_grad():
        model.codebook.mul_(3)
    prior = causal_prior(2, P)
    sequences = all_sequences(2, P)
    with torch.no_grad():
        bound, joint = log_px_bound(model, prior, x), []
        for part in sequences.split(8192):
            logits = model.decode_codes(part)
            fits = x @ logits.T - nn.functional.softplus(logits).sum(dim=1)
            joint.append(fits + prior.log_prob(part))
        joint = torch.cat(joint, dim=1).double()
    exact = joint.logsumexp(dim=1)
    assert (bound < exact).all()
    own = (model.encode_codes(x) * 2 ** torch.arange(P - 1, -1, -1)).sum(dim=1)
    torch.testing.assert_close(bound.double(), joint[range(2), own], rtol=1e-5, atol=0)


def test_bound_is_exact_where_there_is_one_sequence_only():
    model, x = small_model(1), pixels(3)
    prior = IndependentPrior(torch.zeros(P, 1))
    wanted = Bernoulli(logits=model.decode_codes(torch.zeros(3, P, dtype=torch.long))).log_prob(x)
    torch.testing.assert_close(log_px_bound(model, prior, x), wanted.sum(dim=1))
    assert log_px_bound(model, prior, pixels(0)).shape == (0,)
