"""The training loop, its schedules and its checks."""

import contextlib
import math
import time
from typing import NamedTuple

import torch

from vae_lessons.data import binarize, check_pixels
from vae_lessons.progress import Progress, markdown_table, text_table

ROWS_SHOWN = 10


class Epoch(NamedTuple):
    """One pass over the training images: means in nats per image, and its seconds.

    The training terms are averages over the pass, while the model was changing; the test terms
    were measured after it. They are NaN where no test images were given.
    """

    number: int
    reconstruction: float
    kl: float
    test_reconstruction: float
    test_kl: float
    seconds: float

    @property
    def loss(self):
        """KL minus reconstruction on the training images: the mean of -ELBO."""
        return self.kl - self.reconstruction

    @property
    def test_loss(self):
        """KL minus reconstruction on the test images: the mean of -ELBO."""
        return self.test_kl - self.test_reconstruction


def constant(done):
    """The schedule that does nothing: a factor of 1 all the way."""
    return 1.0


def warm_up(fraction):
    """A schedule that climbs from 0 to 1 over the first ``fraction`` of the training.

    Raises: ValueError if fraction does not lie between 0 (excluded) and 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}: it must be above 0 and at most 1")
    return lambda done: min(1.0, done / fraction)


def cosine(warm_up_fraction=0.02):
    """A schedule that climbs from 0 to 1, then falls to 0 along half a cosine wave.

    Source: Loshchilov & Hutter (2017), equation 5, without restarts.
    """

    def factor(done):
        if done < warm_up_fraction:
            return done / warm_up_fraction
        rest = (done - warm_up_fraction) / (1 - warm_up_fraction)
        return 0.5 * (1 + math.cos(math.pi * rest))

    return factor


def fit(
    model, images, objective, *, epochs, batch_size=128, learning_rate=1e-3,
    schedule=constant, kl_weight=constant, binarized=False, test_images=None, labels=None,
    test_labels=None, device=None, precision="highest", seed=0, name=None,
    after_epoch=lambda number: None,
):
    """Trains the model with Adam and returns the history: an ``Epoch`` for each epoch.

    ``objective(model, x, generator)`` gives what to maximise for each example, in nats: (B,),
    or a pair (reconstruction, kl) of which the difference is maximised. ``schedule`` and
    ``kl_weight`` turn the part of the training that is done, from 0 to 1, into a factor for the
    learning rate and for the KL. ``binarized`` draws black and white pixels anew for each batch.
    With ``labels`` the objective is given ``model.given(y)``, the model bound to the labels of
    the batch, and with test images ``test_labels`` are wanted as well.
    ``device``, such as "cuda", moves the model and the images there. ``precision`` is that of
    matrix products, as in ``torch.set_float32_matmul_precision``: "medium" allows the fastest
    routine there is, which on some processors rounds the factors. ``after_epoch(number)`` is
    called when an epoch is done. Progress leaves a table; with a ``name``, one line that begins
    with it.

    Shapes: images, test_images (N, D), values in [0, 1]; labels, test_labels (N,).
    Raises: ValueError for images of another shape, none at all, NaN or values outside [0, 1],
    for other than one label for each image, and for settings that make no sense;
    FloatingPointError if the loss is no number any more.
    Source: Kingma & Welling (2014), algorithm 1; chapter "training".
    """
    _check_settings(epochs, batch_size, learning_rate)
    device = torch.device(device) if device else next(model.parameters()).device
    model.to(device)
    images, test_images = _on_device(images, device), _on_device(test_images, device)
    labels = _labels_on_device(labels, images, device)
    if test_images is not None and (labels is None) != (test_labels is None):
        raise ValueError("give labels for both, the training and the test images, or for neither")
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed)
    progress = Progress(epochs * math.ceil(len(images) / batch_size))
    history, step = [], 0
    with matmul_precision(precision):
        for number in range(1, epochs + 1):
            started, sums = time.perf_counter(), torch.zeros(2, device=device)
            model.train()
            order = torch.randperm(len(images), generator=generator, device=device)
            for chosen in order.split(batch_size):
                done = (step + 0.5) / progress.total_steps
                optimizer.param_groups[0]["lr"] = learning_rate * schedule(done)
                x = images.index_select(0, chosen)  # (B, D)
                x = binarize(x, generator) if binarized else x
                bound = _bound(model, labels, chosen)
                reconstruction, kl = _pair(objective(bound, x, generator))
                loss = (kl_weight(done) * kl - reconstruction).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                sums += torch.stack([reconstruction.detach().sum(), kl.detach().sum()])
                if progress.due():
                    progress.show(step, _one_line(number, epochs, reconstruction, kl))
            train = (sums / len(images)).tolist()
            test = _test_means(model, test_images, objective, binarized, test_labels)
            history.append(Epoch(number, *train, *test, time.perf_counter() - started))
            _check_finite(history[-1], learning_rate)
            after_epoch(number)
    model.eval()
    progress.finish(*([history_line(history, name)] if name else history_tables(history)))
    return history


def per_image(
    model, images, objective, *, binarized=False, labels=None, batch_size=1000, seed=0
):
    """What the objective gives for each image, without gradients: reconstruction and KL.

    The latents, and with ``binarized`` the pixels, are drawn from a generator with this seed.
    With ``labels`` the objective is given ``model.given(y)``, as in ``fit``.

    Shapes: images (N, D), values in [0, 1], labels (N,) -> two of (N,).  Units: nats.
    Raises: ValueError for images of another shape, none at all, NaN or values outside [0, 1],
    and for other than one label for each image.
    """
    images = _on_device(images, next(model.parameters()).device)
    labels = _labels_on_device(labels, images, images.device)
    generator = torch.Generator(images.device).manual_seed(seed)
    model.eval()
    with torch.no_grad():
        parts = []
        for chosen in torch.arange(len(images), device=images.device).split(batch_size):
            x = binarize(images[chosen], generator) if binarized else images[chosen]
            parts.append(_pair(objective(_bound(model, labels, chosen), x, generator)))
    reconstructions, kls = zip(*parts, strict=True)
    return torch.cat(reconstructions), torch.cat(kls)


def mean_and_error(values):
    """The mean of the values and its standard error: (N,) -> two floats.

    Raises: ValueError if there are fewer than two values, which say nothing of their spread.
    """
    if len(values) < 2:
        raise ValueError(f"got {len(values)} values: a standard error needs at least two")
    values = values.double()
    return values.mean().item(), (values.std() / math.sqrt(len(values))).item()


@contextlib.contextmanager
def matmul_precision(precision):
    """Multiplies float32 matrices in this precision while the block runs."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def history_line(history, name):
    """The history of the model with this name, in one line."""
    last, seconds = history[-1], sum(epoch.seconds for epoch in history)
    what, unit = ("−ELBO", " nats") if last.kl else ("loss", "")
    tested = "" if math.isnan(last.test_loss) else f", on test images {last.test_loss:.2f}"
    epochs = "1 epoch" if last.number == 1 else f"{last.number} epochs"
    return (f"{name}: trained for {epochs} in {seconds:.0f} s, {what} "
            f"{last.loss:.2f}{unit} per image{tested}.")


def history_tables(history):
    """A history as a table, thinned out to about ten epochs: for a terminal, and in Markdown."""
    every = math.ceil(len(history) / ROWS_SHOWN)
    shown = [e for e in history if e.number == 1 or e.number % every == 0 or e is history[-1]]
    has_kl = any(e.kl for e in history)
    header = ["epoch", *(["reconstruction", "KL", "−ELBO", "test −ELBO"] if has_kl
                         else ["loss", "test loss"]), "seconds"]
    rows = [_row(epoch, has_kl) for epoch in shown]
    return text_table(header, rows), markdown_table(header, rows)


def _row(epoch, has_kl):
    terms = [epoch.reconstruction, epoch.kl] if has_kl else []
    values = [*terms, epoch.loss, epoch.test_loss]
    numbers = ["–" if math.isnan(value) else f"{value:.2f}".replace("-", "−") for value in values]
    return [str(epoch.number), *numbers, f"{epoch.seconds:.1f}"]


def _check_settings(epochs, batch_size, learning_rate):
    for name, value in [("epochs", epochs), ("batch_size", batch_size)]:
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be a whole number of 1 or more")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is {learning_rate!r}: it must be positive")


def _on_device(images, device):
    if images is None:
        return None
    check_pixels(images)
    if len(images) == 0:
        raise ValueError("there are no images: nothing to train on or to measure")
    return images.to(device)


def _labels_on_device(labels, images, device):
    if labels is None:
        return None
    if labels.shape != (len(images),):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, but ({len(images)},) is wanted: "
            "one label for each image"
        )
    return labels.to(device)


def _bound(model, labels, chosen):
    """The model, bound to the labels of the chosen images where there are labels."""
    return model if labels is None else model.given(labels[chosen])


def _pair(terms):
    """(reconstruction, kl) as it is; a bare objective (B,) with a KL of zero."""
    return terms if isinstance(terms, tuple) else (terms, torch.zeros_like(terms))


def _one_line(number, epochs, reconstruction, kl):
    reconstruction, kl = reconstruction.mean().item(), kl.mean().item()
    return (f"epoch {number} of {epochs}: reconstruction {reconstruction:.1f}, KL {kl:.1f}, "
            f"−ELBO {kl - reconstruction:.1f} nats")


def _test_means(model, test_images, objective, binarized, test_labels):
    if test_images is None:
        return math.nan, math.nan
    terms = per_image(
        model, test_images, objective, binarized=binarized, labels=test_labels
    )
    return [term.mean().item() for term in terms]


def _check_finite(epoch, learning_rate):
    if not math.isfinite(epoch.loss):
        raise FloatingPointError(
            f"the loss is {epoch.loss} after epoch {epoch.number}: training has diverged. "
            f"Try a learning rate below {learning_rate:g}, or look for a log of zero in the model."
        )
