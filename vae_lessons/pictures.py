"""Other pictures in place of the digits: sets by name, or a folder of the reader's own."""

import gzip
import shutil
import tempfile
import urllib.parse
from pathlib import Path

import numpy as np
import torch

from vae_lessons.data import SPLITS, Digits, announce, check_choice, load_digits
from vae_lessons.mnist import (
    STEMS,
    _is_sound,
    _read_files,
    _short,
    _temporary_folder,
    _try_mirror,
    data_folder,
)

NAMES = ("MNIST", "FashionMNIST", "KMNIST")
LEFT_BY_WINDOWS = ("Thumbs.db", "desktop.ini")


class ImagesUnavailable(RuntimeError):
    """A set of images is neither in the cache folder nor to be had; the message says what to do."""


def load_images(name="MNIST", split="train"):
    """A set of 28 x 28 grey images in ten classes, by its name in torchvision.

    "MNIST" is what ``load_digits`` gives: drawn digits where MNIST cannot be had. "FashionMNIST"
    holds clothes, "KMNIST" Japanese characters; nothing takes their place. Their archives lie in
    the cache folder, are verified each time, and are downloaded where they are missing.

    Shapes: images (N, 28, 28) uint8, labels (N,) int64.
    Raises: ValueError for another name or split; ImagesUnavailable if the set cannot be had.
    Source: Xiao, Rasul & Vollgraf (2017); Clanuwat et al. (2018).
    """
    check_choice("name", name, NAMES)
    check_choice("split", split, SPLITS)
    if name == "MNIST":
        return load_digits(split)
    try:
        _ensure_archives(name)
        digits = Digits(*_read_archives(_archive_folder(name), STEMS[split]), name)
    except OSError as error:
        raise _unavailable(name, f"a file cannot be read or written ({error.strerror})") from None
    announce(digits, split)
    return digits


def _archive_folder(name):
    return data_folder() / name / "raw"


def _archives(name):
    """Names and MD5 sums of the four archives of a set, and where to find them."""
    from torchvision import datasets  # imported here: it takes a second

    return dict(getattr(datasets, name).resources), getattr(datasets, name).mirrors


def _ensure_archives(name):
    archives, mirrors = _archives(name)
    folder, reasons = _archive_folder(name), []
    lacking = {file: md5 for file, md5 in archives.items() if not _is_sound(folder / file, md5)}
    if not lacking:
        return
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {name} ...", flush=True)
    for mirror in mirrors:
        with _temporary_folder(folder) as part:
            reason = _try_mirror(mirror, lacking, Path(part))
        if reason is None:
            return
        reasons.append(f"{urllib.parse.urlsplit(mirror).hostname}: {reason}")
    raise _unavailable(name, f"the download failed ({'; '.join(reasons)})")


def _read_archives(folder, stem):
    """Images and labels of the split whose files begin with ``stem``, unpacked for the moment."""
    with tempfile.TemporaryDirectory() as unpacked:
        for kind in ("images-idx3", "labels-idx1"):
            file = f"{stem}-{kind}-ubyte"
            with gzip.open(folder / f"{file}.gz") as source, open(Path(unpacked, file), "wb") as to:
                shutil.copyfileobj(source, to)
        return _read_files(Path(unpacked, stem))


def _unavailable(name, reason):
    files = "\n".join(f"      {file}" for file in _archives(name)[0])
    return ImagesUnavailable(
        f"{name} could not be had: {reason}.\n"
        f"To get {name}: connect to the internet and run this again;\n"
        f"  or put these four archives into the folder {_short(_archive_folder(name))}:\n{files}\n"
        "  or set the environment variable VAE_LESSONS_DATA to a folder that holds "
        f"{name}/raw with them."
    )


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
    check_choice("split", split, SPLITS)
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
    announce(digits, split)
    return digits


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
