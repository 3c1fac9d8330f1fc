"""MNIST in the cache folder: verified, repaired from its archives, or downloaded."""

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

GIVE_UP_AFTER = 6  # seconds without a byte from a server
STEMS = {"train": "train", "test": "t10k"}  # split -> how the names of its files begin

# torchvision knows the MD5 sums of the archives; these are the sums of what is inside.
UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

_failed_downloads = {}  # cache folder -> why its download failed


def data_folder():
    """The cache folder: ``VAE_LESSONS_DATA`` if it is set, else ``~/.cache/vae_lessons``."""
    return Path(os.environ.get("VAE_LESSONS_DATA") or "~/.cache/vae_lessons").expanduser()


class MnistUnavailable(RuntimeError):
    """MNIST is neither in the cache folder nor to be had from its servers.

    ``reason`` says why; the message adds what to do.
    """

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason

    def __str__(self):
        return f"MNIST could not be had: {self.reason}\n{how_to_get_mnist()}"


def read_mnist(split):
    """The images and labels of one split, downloaded first where the cache folder lacks them.

    Shapes: images (N, 28, 28) uint8, labels (N,) int64.
    Raises: ValueError for a split other than "train" and "test"; MnistUnavailable.
    Source: LeCun, Bottou, Bengio & Haffner (1998).
    """
    if split not in STEMS:
        raise ValueError(f"split is {split!r}; choose one of {', '.join(map(repr, STEMS))}.")
    try:
        _ensure_files()
        return _read_files(_raw_folder() / STEMS[split])
    except OSError as error:
        raise MnistUnavailable(
            f"the folder {_short(data_folder())} cannot be used ({error.strerror}). Set the "
            "environment variable VAE_LESSONS_DATA to a folder that you can write in."
        ) from None


def how_to_get_mnist():
    """What a reader can do where MNIST is missing, as text of several lines."""
    names = "\n".join(f"      {name}.gz" for name in UNPACKED_MD5)
    return (
        "To get MNIST: connect to the internet, restart the notebook and run it again;\n"
        f"  or put these four archives into the folder {_short(_raw_folder())}:\n{names}"
    )


def _short(path):
    """The path with the reader's home folder written as ``~``."""
    path, home = str(path), str(Path.home())
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def _raw_folder():
    return data_folder() / "MNIST" / "raw"


def _read_files(stem):
    # The readers behind torchvision's MNIST class. The class itself would prefer files of an
    # old format that may lie beside, and those nobody has verified.
    from torchvision.datasets import mnist  # imported here: it takes a second

    images = mnist.read_image_file(f"{stem}-images-idx3-ubyte")
    return images, mnist.read_label_file(f"{stem}-labels-idx1-ubyte")


def _ensure_files():
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
            if not reasons:
                print("Downloading MNIST (11 MB in all) ...", flush=True)
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
