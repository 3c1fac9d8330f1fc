"""The pictures of the book: MNIST, drawn digits in its place, or a reader's own folder.

``python -m vae_lessons.data`` fetches and verifies MNIST once, up front.
"""

import gzip
import hashlib
import http.client
import os
import queue
import shutil
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vae_lessons.digits import draw_digits

LEFT_BY_WINDOWS = ("Thumbs.db", "desktop.ini")
SPLITS = ("train", "test")
SOURCES = ("auto", "mnist", "drawn")
DRAWN = {"train": (20_000, 0), "test": (4_000, 1)}  # how many digits, and their seed
GIVE_UP_AFTER = 6  # seconds without a byte from a server

# torchvision knows the MD5 sums of the archives; these are the sums of what is inside.
UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

_said = set()  # lines that this process has printed
_failed_downloads = {}  # cache folder -> why its download failed


class Digits(NamedTuple):
    """Pictures with their labels.

    Shapes: images (N, H, W) uint8, or (N, H, W, 3) in colour; labels (N,) int64.  ``source`` is
    "MNIST", "drawn digits" or, for example, 'folder "cats"'.
    """

    images: torch.Tensor
    labels: torch.Tensor
    source: str


class MnistUnavailable(RuntimeError):
    """MNIST is neither in the cache folder nor to be had from its servers."""


def load_digits(split="train", *, source=None):
    """The book's digits, and one printed line that says what they are.

    ``source`` is "mnist", "drawn", or "auto": MNIST, and drawn digits where it cannot be had.
    Left out, it is what the environment variable ``VAE_LESSONS_SOURCE`` says, or "auto".

    Shapes: images (N, 28, 28) uint8, labels (N,) int64.
    Raises: ValueError for another split or source; MnistUnavailable if "mnist" cannot be had.
    Source: LeCun, Bottou, Bengio & Haffner (1998).
    """
    source = source or os.environ.get("VAE_LESSONS_SOURCE") or "auto"
    _check_choice("split", split, SPLITS)
    _check_choice("source", source, SOURCES)
    digits = None if source == "drawn" else _mnist_or_none(split, required=source == "mnist")
    if digits is None:
        num, seed = DRAWN[split]
        digits = Digits(*draw_digits(num, seed)[:2], "drawn digits")
    _announce(digits, split)
    return digits


def data_folder():
    """The cache folder: ``VAE_LESSONS_DATA`` if it is set, else ``~/.cache/vae_lessons``."""
    return Path(os.environ.get("VAE_LESSONS_DATA") or "~/.cache/vae_lessons").expanduser()


def load_pictures(folder, split="train"):
    """The pictures in a folder of the reader's own, in place of the digits.

    Every file is taken for a picture, except hidden ones (PNG, JPEG, BMP, GIF, WebP, TIFF and
    others); all must have one size and be all grey or all in colour.  Subfolders are classes,
    labelled 0, 1, ... in the order of their names; pictures that lie in ``folder`` itself form
    the first class.  Every seventh picture of the sorted list belongs to the test split.
    Transparent parts are laid on white, 16-bit grey is reduced to 8 bits, a palette without
    colours counts as grey, and of a moving picture the first frame is read.

    Shapes: images (N, H, W) uint8 if grey, (N, H, W, 3) if in colour; labels (N,) int64.
    Raises: FileNotFoundError if there is no such folder; ValueError for files that do not fit.
    """
    _check_choice("split", split, SPLITS)
    folder = Path(folder).expanduser()
    paths, labels = _list_pictures(folder)
    if len(paths) < 7:
        raise ValueError(
            f"{folder} holds {len(paths)} pictures; at least 7 are wanted, because every seventh "
            "goes to the test split. Add some."
        )
    chosen = (torch.arange(len(paths)) % 7 == 6) == (split == "test")
    images = _read_all(paths)[chosen]
    digits = Digits(images, torch.tensor(labels)[chosen], f'folder "{folder.resolve().name}"')
    _announce(digits, split)
    return digits


def as_vectors(images):
    """Each picture as one row of numbers from 0 to 1.

    Shapes: images (N, ...) uint8 -> (N, D) float32.
    Raises: ValueError if the images are not uint8.
    """
    if images.dtype != torch.uint8 or images.dim() < 2:
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; as_vectors wants uint8 "
            "(0 to 255) of shape (N, ...), as load_digits returns them. If yours are already "
            "between 0 and 1, use images.flatten(1)."
        )
    return images.flatten(1).float() / 255


def binarize(x, generator=None):
    """Black or white for each pixel, drawn with its grey value as the probability of white.

    Called anew in each epoch, it gives dynamically binarised digits.  It stands in the training
    loop, so it does not look at the values: ``check_pixels`` does, once.

    Shapes: x of any shape, in [0, 1] -> the same shape, each entry 0 or 1.
    Source: Salakhutdinov & Murray (2008).
    """
    return torch.bernoulli(x, generator=generator)


def check_pixels(x):
    """None if ``x`` is a batch of pixels between 0 and 1, fit for a model.

    Shapes: x (B, D) floating.
    Raises: ValueError if the shape or the type differs, for NaN, and for values outside [0, 1].
    """
    if x.dim() != 2 or not x.is_floating_point():
        raise ValueError(
            f"x is {x.dtype} of shape {tuple(x.shape)}; wanted are floating-point pixels of shape "
            "(B, D). Use as_vectors(images) for uint8 images."
        )
    if x.isnan().any():
        raise ValueError(f"x holds {int(x.isnan().sum())} NaN; repair or drop those examples.")
    if x.numel() and (x.min() < 0 or x.max() > 1):
        raise ValueError(
            f"pixels run from {x.min():.4g} to {x.max():.4g}; wanted are values in [0, 1]. "
            "Divide by 255 if they are grey values from 0 to 255."
        )


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}.")


# What the reader is told


def _announce(digits, split):
    num, height, width = digits.images.shape[:3]
    colour = "colour" if digits.images.dim() == 4 else "grey"
    kind = "training" if split == "train" else "test"
    size = f"{height} x {width} {colour} pixels"
    _say_once(f"Data: {digits.source}, {num:,} {kind} images of {size}.")


def _say_once(text):
    if text not in _said:
        _said.add(text)
        print(text, flush=True)


def _short(path):
    """The path with the reader's home folder written as ``~``."""
    path, home = str(path), str(Path.home())
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def _how_to_get_mnist():
    names = "\n".join(f"      {name}.gz" for name in UNPACKED_MD5)
    return (
        "To get MNIST: connect to the internet, restart the notebook and run it again;\n"
        f"  or put these four archives into the folder {_short(_raw_folder())}:\n{names}"
    )


def _warn_once(reason):
    rule = "=" * 78
    _say_once(
        f"{rule}\nMNIST COULD NOT BE HAD: {reason}\n"
        "The book draws its own handwritten-looking digits instead. It runs as it stands, but\n"
        "what you see will not meet the numbers that the text gives for MNIST.\n"
        f"{_how_to_get_mnist()}\n{rule}"
    )


# MNIST: verified, repaired from its archives, or downloaded


def _mnist_or_none(split, required):
    try:
        _ensure_mnist()
        return _read_mnist(split)
    except MnistUnavailable as error:
        reason = str(error)
    except OSError as error:
        reason = (
            f"the folder {_short(data_folder())} cannot be used ({error.strerror}). Set the "
            "environment variable VAE_LESSONS_DATA to a folder that you can write in."
        )
    if required:
        raise MnistUnavailable(f"MNIST could not be had: {reason}\n{_how_to_get_mnist()}")
    _warn_once(reason)
    return None


def _raw_folder():
    return data_folder() / "MNIST" / "raw"


def _read_mnist(split):
    # The readers behind torchvision's MNIST class. The class itself would prefer files of an
    # old format that may lie beside, and those nobody has verified.
    from torchvision.datasets import mnist  # imported here: it takes a second

    stem = _raw_folder() / ("train" if split == "train" else "t10k")
    images = mnist.read_image_file(f"{stem}-images-idx3-ubyte")
    return Digits(images, mnist.read_label_file(f"{stem}-labels-idx1-ubyte"), "MNIST")


def _ensure_mnist():
    """All four files unpacked and sound; all, so that both splits are of one source."""
    from torchvision.datasets import MNIST

    raw = _raw_folder()
    missing = [name for name, md5 in UNPACKED_MD5.items() if not _is_sound(raw / name, md5)]
    if not missing:
        return
    archive_md5 = dict(MNIST.resources)
    lacking = [f"{n}.gz" for n in missing if not _is_sound(raw / f"{n}.gz", archive_md5[f"{n}.gz"])]
    if lacking:
        _download({name: archive_md5[name] for name in lacking}, MNIST.mirrors)
    for name in missing:
        _unpack(raw / name)


def _is_sound(path, md5):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, _md5).hexdigest() == md5
    except OSError:
        return False


def _md5():
    return hashlib.md5(usedforsecurity=False)


def _unpack(target):
    """The file beside its archive, put in place when it is whole."""
    with _temporary_folder(target.parent) as folder:
        fresh = Path(folder, target.name)
        with gzip.open(f"{target}.gz") as source, open(fresh, "wb") as file:
            shutil.copyfileobj(source, file)
        os.replace(fresh, target)


def _temporary_folder(parent):
    return tempfile.TemporaryDirectory(dir=parent, prefix=".part-", ignore_cleanup_errors=True)


def _download(archives, mirrors):
    """Puts the archives (name -> MD5) into the raw folder, from the first mirror that has them."""
    raw = _raw_folder()
    if raw in _failed_downloads:
        raise MnistUnavailable(_failed_downloads[raw])
    raw.mkdir(parents=True, exist_ok=True)
    reasons = []
    for mirror in mirrors:
        with _temporary_folder(raw) as folder:
            _say_once("Downloading MNIST (11 MB in all) ...")
            reason = _try_mirror(mirror, archives, Path(folder))
        if reason is None:
            return
        reasons.append(f"{urllib.parse.urlsplit(mirror).hostname}: {reason}")
    _failed_downloads[raw] = f"the download failed ({'; '.join(reasons)})."
    raise MnistUnavailable(_failed_downloads[raw])


def _try_mirror(mirror, archives, folder):
    """None if the mirror has delivered all archives, else the reason why not.

    A time limit on the socket is not enough: it does not cover the look-up of the host's name,
    and it counts anew for each of the host's addresses.  So a thread does the work, reports
    every piece that arrives, and is left alone when nothing more comes.
    """
    news = queue.Queue()
    work = (mirror, archives, folder, news)
    threading.Thread(target=_fetch_all, args=work, daemon=True).start()
    try:
        while (message := news.get(timeout=GIVE_UP_AFTER)) == "more":
            pass
    except queue.Empty:
        return f"no answer for {GIVE_UP_AFTER} seconds"
    return message


def _fetch_all(mirror, archives, folder, news):
    try:
        for name, md5 in archives.items():
            target = folder.parent / name
            if not _is_sound(target, md5):
                _fetch(mirror + name, folder / name, news)
                if not _is_sound(folder / name, md5):
                    raise OSError(f"{name} arrived damaged")
                os.replace(folder / name, target)
        news.put(None)
    except urllib.error.HTTPError as error:
        news.put(str(error))  # "HTTP Error 404: Not Found"
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        news.put(getattr(cause, "strerror", None) or str(cause))


def _fetch(url, path, news):
    with _open(url) as answer, open(path, "wb") as file:
        while piece := answer.read(1 << 13):
            file.write(piece)
            news.put("more")


def _open(url):
    request = urllib.request.Request(url, headers={"User-Agent": "vae_lessons"})
    try:
        return urllib.request.urlopen(request, timeout=GIVE_UP_AFTER)
    except urllib.error.URLError:
        if not url.startswith("https:"):
            raise
        # No certificates on this machine, perhaps; the MD5 sum is checked anyway.
        return _open("http:" + url.removeprefix("https:"))


# A reader's own folder


def _list_pictures(folder):
    """The picture files of a folder in sorted order, and the label of each."""
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder {folder}; give the path of your pictures.")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder that holds the pictures.")
    files = [p for p in folder.rglob("*") if p.is_file() and not _is_hidden(p, folder)]
    paths = sorted(files, key=lambda path: path.relative_to(folder).parts)
    if not paths:
        raise ValueError(f"{folder} holds no pictures; put PNG, JPEG or other pictures there.")
    classes = [_class_of(path, folder) for path in paths]
    names = sorted(set(classes))
    return paths, [names.index(name) for name in classes]


def _is_hidden(path, folder):
    parts = path.relative_to(folder).parts
    return parts[-1] in LEFT_BY_WINDOWS or any(part.startswith(".") for part in parts)


def _class_of(path, folder):
    return path.relative_to(folder).parts[0] if path.parent != folder else ""


def _read_all(paths):
    images = [_read_picture(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"{path} is {_describe(image)}, but {paths[0]} is {_describe(images[0])}; all "
                "pictures must have one size and be all grey or all in colour. Convert or move "
                "those that differ."
            )
    return torch.from_numpy(np.stack(images))


def _describe(image):
    colour = "in colour" if image.ndim == 3 else "grey"
    return f"{image.shape[0]} x {image.shape[1]} pixels, {colour}"


def _read_picture(path):
    """One picture as a uint8 array, (H, W) if it is grey, else (H, W, 3)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return _pixels(picture)
    except UnidentifiedImageError:
        raise ValueError(
            f"{path} is not a picture that can be read; wanted are PNG, JPEG, BMP, GIF, WebP or "
            "TIFF files. Convert it, or move it out of the folder."
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or of an unusual kind ({error}). Save it anew as PNG, or remove it."
        ) from None


def _pixels(picture):
    from PIL import Image, ImageOps

    mode = picture.mode
    picture = ImageOps.exif_transpose(picture)  # as the camera was held
    if mode.startswith("I"):  # 16 bits
        return (np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8)
    if mode == "F":
        raise ValueError("its pixels are fractions")
    white = Image.new("RGBA", picture.size, "white")
    opaque = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    pixels = np.array(opaque)
    colourless = (pixels == pixels[..., :1]).all()
    is_grey = mode in ("1", "L", "LA") or (mode in ("P", "PA") and colourless)
    return pixels[..., 0].copy() if is_grey else pixels


if __name__ == "__main__":
    load_digits("train")
