"""The program on one page: short, on its own, and the same model as the package's."""

import ast
import runpy
import struct
import sys
import types
from pathlib import Path

import pytest
import torch
from torchvision import datasets, utils

from vae_lessons import complete_implementation, vae
from vae_lessons.complete_implementation import VAE, load, loss_function, main, test, train
from vae_lessons.elbo import loss_function as loss_of_the_package

test.__test__ = False  # a function of the program, not a test
FILE = Path(complete_implementation.__file__)
TREE = ast.parse(FILE.read_text())


def pixels(num, dim=784, seed=0):
    return torch.rand(num, dim, generator=torch.Generator().manual_seed(seed))


def small_vae():
    torch.manual_seed(0)
    return VAE(12, 7, 3)


def values(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# The page


def test_fits_on_a_page():
    lines = FILE.read_text().splitlines()
    assert len(lines) < 100 and max(map(len, lines)) <= 100


def test_imports_nothing_but_torch_and_torchvision():
    imported = set()
    for node in ast.walk(TREE):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - {"torch", "torchvision"} <= sys.stdlib_module_names


def test_importing_it_does_nothing():
    docstring, *rest, last = TREE.body
    kinds = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef)
    assert all(isinstance(node, kinds) for node in rest)
    assert ast.unparse(last.test) == "__name__ == '__main__'"


# The model and its loss


def test_is_the_classic_model_by_default():
    ours, theirs = VAE(), vae.VAE(784, 400, 20)
    assert len(values(ours)) == len(values(theirs)) == 652_824


def test_same_weights_same_outputs():
    theirs = vae.VAE(12, 7, 3)
    ours = small_vae()
    pairs = [(ours.hidden, theirs.encoder.hidden[0]), (ours.mu, theirs.encoder.mu),
             (ours.log_var, theirs.encoder.log_var), (ours.decoder[0], theirs.decoder.hidden[0]),
             (ours.decoder[2], theirs.decoder.logits)]
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())
    x = pixels(5, 12)
    torch.manual_seed(1)
    outputs = ours(x)
    torch.manual_seed(1)
    for mine, wanted in zip(outputs, theirs(x)):
        torch.testing.assert_close(mine, wanted)
    torch.testing.assert_close(loss_function(outputs[0], x, *outputs[1:]),
                               loss_of_the_package(outputs[0], x, *outputs[1:]))


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_same_loss_as_the_package(scale):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(6, 12, generator=generator)
    mu, log_var = torch.randn(2, 6, 3, generator=generator)
    given = logits, pixels(6, 12), mu, log_var
    torch.testing.assert_close(loss_function(*given), loss_of_the_package(*given))


# Training and testing


def test_a_pass_of_training_by_hand():
    model, other, images = small_vae(), small_vae(), pixels(10, 12)
    torch.manual_seed(3)
    mean = train(model, torch.optim.Adam(model.parameters(), lr=0.01), images, batch_size=4)
    torch.manual_seed(3)
    optimizer, total = torch.optim.Adam(other.parameters(), lr=0.01), 0.0
    order = torch.randperm(10)
    for chosen in (order[:4], order[4:8], order[8:]):
        logits, mu, log_var = other(images[chosen])
        loss = loss_of_the_package(logits, images[chosen], mu, log_var)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    assert mean == pytest.approx(total / 10, rel=1e-6)
    torch.testing.assert_close(values(model), values(other), rtol=1e-4, atol=1e-6)


def test_testing_gives_the_mean_of_one_draw_and_no_gradients():
    model, images = small_vae(), pixels(10, 12)
    needed = []
    model.register_forward_hook(lambda *given: needed.append(given[-1][0].requires_grad))
    torch.manual_seed(3)
    mean = test(model, images)
    assert needed == [False]
    torch.manual_seed(3)
    logits, mu, log_var = model(images)
    wanted = loss_of_the_package(logits, images, mu, log_var).item() / 10
    assert mean == pytest.approx(wanted, rel=1e-6)


# The program


@pytest.fixture
def fake_mnist(monkeypatch):
    """Images of 0s and 255s in place of MNIST, and the list of what was asked for."""
    asked = []

    def fake(folder, train, download):
        asked.append((folder, train, download))
        half = (pixels(150 if train else 40, seed=int(train)) < 0.3).view(-1, 28, 28)
        return types.SimpleNamespace(data=255 * half.to(torch.uint8))

    monkeypatch.setattr(datasets, "MNIST", fake)
    return asked


def test_load(fake_mnist):
    images = load("somewhere", False)
    assert fake_mnist == [("somewhere", False, True)]
    assert (images.shape, images.dtype) == ((40, 784), torch.float32)
    assert images.unique().tolist() == [0, 1]


def size_of_png(file):
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG")
    return struct.unpack(">2I", content[16:24])


def test_main(fake_mnist, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    main("somewhere")
    assert fake_mnist == [("somewhere", True, True), ("somewhere", False, True)]
    *epochs, last = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in epochs] == [
        ["epoch", str(number), "train"] for number in range(1, 11)]
    train_losses = [float(line.split()[3]) for line in epochs]
    assert train_losses[-1] < 0.98 * train_losses[0]
    assert all(line.split()[4] == "test" and float(line.split()[5]) > 0 for line in epochs)
    assert "samples.png" in last
    assert size_of_png(tmp_path / "samples.png") == (8 * 30 + 2, 8 * 30 + 2)


def test_samples_are_pixel_means_and_the_seed_is_fixed(fake_mnist, monkeypatch, capsys):
    saved = []
    monkeypatch.setattr(utils, "save_image", lambda images, file: saved.append(images))
    main("somewhere", epochs=1)
    torch.manual_seed(99)
    main("somewhere", epochs=1)
    assert saved[0].equal(saved[1])
    assert saved[0].shape == (64, 1, 28, 28)
    assert 0 < saved[0].min() < 0.5 < saved[0].max() < 1
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_runs_as_a_program(fake_mnist, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(FILE), "elsewhere"])
    runpy.run_path(str(FILE), run_name="__main__")
    assert fake_mnist[0] == ("elsewhere", True, True)
    assert (tmp_path / "samples.png").exists()
