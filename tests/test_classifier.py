"""The judge of samples: shapes, probabilities, and a small problem that it must learn."""

import math

import pytest
import torch
import torch.nn.functional as F

from vae_lessons.classifier import Classifier, class_probabilities, fit_classifier


def two_halves(num=64, seed=0):
    """Noisy images that are bright above (class 0) or below (class 1)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 2
    images = 0.5 * torch.rand(num, 28, 28, generator=generator)
    for image, label in zip(images, labels):
        image[14 * label : 14 * label + 14] += 0.5
    return images.flatten(1), labels


def classifier(seed=0):
    torch.manual_seed(seed)
    return Classifier()


@pytest.mark.parametrize("num", [0, 1, 3])
def test_shapes(num):
    model, x = classifier(), torch.rand(num, 784)
    assert (model(x).shape, model.features(x).shape) == ((num, 10), (num, 64))
    assert class_probabilities(model, x).shape == (num, 10)


def test_parameters_by_arithmetic():
    wanted = (16 * 25 + 16) + (32 * 16 * 25 + 32) + (32 * 7 * 7 * 64 + 64) + (64 * 10 + 10)
    assert sum(parameter.numel() for parameter in classifier().parameters()) == wanted


def test_logits_are_read_from_the_features():
    model, x = classifier(), torch.rand(2, 784)
    assert model.features(x).min() >= 0
    torch.testing.assert_close(model(x), model.head(model.features(x)))


@pytest.mark.parametrize("shape", [(784,), (2, 783), (2, 28, 28), (2, 1, 28, 28)])
def test_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"but \(B, 784\) is wanted") as caught:
        classifier()(torch.zeros(shape))
    assert f"x has shape {shape}" in str(caught.value)


def test_probabilities():
    model, x = classifier(), torch.rand(1005, 784)
    probabilities = class_probabilities(model, x)
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(1005))
    odds = model(x[-3:]).detach()
    odds = odds.exp() / odds.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(probabilities[-3:], odds)


def test_learns():
    model, (images, labels) = classifier(), two_halves()
    fit_classifier(model, images, labels, epochs=6, batch_size=16)
    new_images, new_labels = two_halves(seed=1)
    assert class_probabilities(model, new_images).argmax(dim=1).equal(new_labels)
    assert not model.training


def test_equals_a_loop_by_hand():
    """The same shuffles, the cosine after a warm-up over 2 %, Adam and the cross-entropy."""
    model, other, (images, labels) = classifier(), classifier(), two_halves(40)
    fit_classifier(model, images, labels, epochs=2, batch_size=16, learning_rate=1e-2, seed=5)
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-2)
    generator, step = torch.Generator().manual_seed(5), 0
    for _ in range(2):
        order = torch.randperm(40, generator=generator)
        for chosen in (order[:16], order[16:32], order[32:]):
            rest = ((step + 0.5) / 6 - 0.02) / 0.98
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * rest)) / 2
            step += 1
            log_probabilities = F.log_softmax(other(images[chosen]), dim=1)
            loss = -log_probabilities[torch.arange(len(chosen)), labels[chosen]].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for mine, theirs in zip(model.parameters(), other.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_seed_decides():
    images, labels = two_halves(32)
    models = [classifier() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2)):
        fit_classifier(model, images, labels, epochs=1, batch_size=16, seed=seed)
    first, again, other = (class_probabilities(model, images) for model in models)
    assert first.equal(again) and not first.equal(other)


def test_trains_a_model_that_was_set_to_evaluation():
    model = classifier().eval()
    seen = []
    model.register_forward_hook(lambda module, *_: seen.append(module.training))
    fit_classifier(model, *two_halves(8), epochs=1)
    assert seen == [True]


@pytest.mark.parametrize(("num_images", "num_labels"), [(8, 7), (0, 0), (0, 8)])
def test_refuses_another_number_of_labels(num_images, num_labels):
    images, labels = two_halves(8)
    with pytest.raises(ValueError, match=f"got {num_images} images and {num_labels} labels"):
        fit_classifier(classifier(), images[:num_images], labels[:num_labels], epochs=1)
