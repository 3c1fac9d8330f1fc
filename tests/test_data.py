"""The book's data: MNIST found, repaired, downloaded or missed; drawn digits; own pictures.

No test here reaches a real host: the mirrors are on the loopback address, and the MNIST they
serve is made of 12 + 7 small random pictures.
"""

import gzip
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST

from vae_lessons import data
from vae_lessons.data import (
    MnistUnavailable,
    as_vectors,
    binarize,
    check_pixels,
    data_folder,
    load_digits,
    load_pictures,
)

REAL_FOLDER = data_folder() / "MNIST" / "raw"
NAMES = list(data.UNPACKED_MD5)
IMAGES = torch.randint(0, 256, (19, 28, 28), generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(19) % 10


def idx(values):
    """The bytes of an idx file, as the MNIST page describes the format."""
    sizes = struct.pack(f">{values.dim()}I", *values.shape)
    return bytes([0, 0, 8, values.dim()]) + sizes + bytes(values.flatten().tolist())


PARTS = (IMAGES[:12], LABELS[:12], IMAGES[12:], LABELS[12:])
FILES = {name: idx(part) for name, part in zip(NAMES, PARTS, strict=True)}
ARCHIVES = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in FILES.items()}


def md5(content):
    return hashlib.md5(content).hexdigest()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(autouse=True)
def small_mnist(tmp_path, monkeypatch):
    """A small MNIST in MNIST's place, an empty cache folder, and mirrors that refuse."""
    monkeypatch.setattr(MNIST, "resources", [(n, md5(c)) for n, c in ARCHIVES.items()])
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{free_port()}/"])
    monkeypatch.setattr(data, "UNPACKED_MD5", {n: md5(c) for n, c in FILES.items()})
    monkeypatch.setattr(data, "DRAWN", {"train": (40, 0), "test": (20, 1)})
    monkeypatch.setattr(data, "GIVE_UP_AFTER", 0.4)
    monkeypatch.setattr(data, "_said", set())
    monkeypatch.setattr(data, "_failed_downloads", {})
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("VAE_LESSONS_SOURCE", raising=False)


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "cache" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


def put(raw, contents):
    for name, content in contents.items():
        (raw / name).write_bytes(content)


class Server:
    """A mirror on the loopback address that serves ``files`` and counts what it was asked for."""

    def __init__(self, files):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.lstrip("/")
                asked.append(name)
                if name not in files:
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(len(ARCHIVES[name])))
                self.end_headers()
                self.wfile.write(files[name])

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(files):
        servers.append(Server(files))
        monkeypatch.setattr(MNIST, "mirrors", [server.url for server in servers])
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def silent_server():
    """A socket that accepts connections and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}/"


def assert_small_mnist(source="mnist"):
    for split, part in (("train", slice(0, 12)), ("test", slice(12, 19))):
        digits = load_digits(split, source=source)
        assert digits.source == "MNIST"
        assert digits.images.dtype == torch.uint8 and digits.labels.dtype == torch.int64
        assert torch.equal(digits.images.long(), IMAGES[part])
        assert torch.equal(digits.labels, LABELS[part])


def assert_folder_is_sound(raw, archives=True):
    """All four files are there, whole, and nothing else beside the archives."""
    wanted = {**FILES, **ARCHIVES} if archives else FILES
    assert {p.name: md5(p.read_bytes()) for p in raw.iterdir()} == {
        name: md5(content) for name, content in wanted.items()
    }


# Where the digits come from


def test_drawn_digits_when_asked(capfd):
    train, test = load_digits(source="drawn"), load_digits("test", source="drawn")
    assert train.source == test.source == "drawn digits"
    assert train.images.shape == (40, 28, 28) and test.images.shape == (20, 28, 28)
    assert not torch.equal(train.images[:20], test.images)
    out, err = capfd.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "Data: drawn digits, 40 training images of 28 x 28 grey pixels.",
        "Data: drawn digits, 20 test images of 28 x 28 grey pixels.",
    ]


def test_environment_names_the_source(monkeypatch):
    monkeypatch.setenv("VAE_LESSONS_SOURCE", "drawn")
    assert load_digits().source == "drawn digits"
    monkeypatch.setenv("VAE_LESSONS_SOURCE", "mnist")
    with pytest.raises(MnistUnavailable):
        load_digits()
    assert load_digits(source="drawn").source == "drawn digits"


def test_environment_names_the_folder(monkeypatch, tmp_path):
    assert data_folder() == tmp_path / "cache"
    monkeypatch.delenv("VAE_LESSONS_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".cache" / "vae_lessons"


@pytest.mark.parametrize("wrong", [{"split": "valid"}, {"source": "cifar"}])
def test_wrong_choice_is_named(wrong):
    with pytest.raises(ValueError, match="'(valid|cifar)'; choose one of '"):
        load_digits(**wrong)


def test_each_line_is_said_once(raw, capfd):
    put(raw, FILES)
    for _ in range(2):
        load_digits()
        load_digits("test")
    assert capfd.readouterr() == (
        "Data: MNIST, 12 training images of 28 x 28 grey pixels.\n"
        "Data: MNIST, 7 test images of 28 x 28 grey pixels.\n",
        "",
    )


# The cache folder and its repair


def test_archives_alone(raw):
    put(raw, ARCHIVES)
    assert_small_mnist()
    assert_folder_is_sound(raw)


def test_unpacked_files_alone(raw):
    put(raw, FILES)
    assert_small_mnist()
    assert_folder_is_sound(raw, archives=False)


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {"flipped": flip, "cut": lambda content: content[:-5], "empty": lambda content: b""}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_repaired_from_its_archive(raw, name, damage):
    put(raw, {**FILES, **ARCHIVES, name: DAMAGES[damage](FILES[name])})
    assert_small_mnist()
    assert_folder_is_sound(raw)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_archive_does_not_matter_beside_sound_files(raw, damage):
    archive = ARCHIVES[NAMES[0] + ".gz"]
    put(raw, {**FILES, NAMES[0] + ".gz": DAMAGES[damage](archive)})
    assert_small_mnist()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_archive_and_file_are_fetched_anew(raw, serve, damage):
    name, broken = NAMES[0], DAMAGES[damage]
    put(raw, {**FILES, **ARCHIVES, name: broken(FILES[name])})
    put(raw, {f"{name}.gz": broken(ARCHIVES[f"{name}.gz"])})
    server = serve(ARCHIVES)
    assert_small_mnist()
    assert server.asked == [f"{name}.gz"]
    assert_folder_is_sound(raw)


def test_damage_without_a_server_is_explained_and_the_rest_kept(raw):
    name = NAMES[0]
    kept = {**FILES, **ARCHIVES, name: flip(FILES[name])}
    kept[f"{name}.gz"] = flip(ARCHIVES[f"{name}.gz"])
    put(raw, kept)
    with pytest.raises(MnistUnavailable, match="(?s)refused.*four archives"):
        load_digits(source="mnist")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == kept


def test_both_splits_are_of_one_source(raw):
    put(raw, {name: FILES[name] for name in NAMES[:2]})  # the training split alone
    assert load_digits("train").source == load_digits("test").source == "drawn digits"


def test_files_of_torchvisions_old_format_are_not_trusted(raw):
    put(raw, FILES)
    processed = raw.parent / "processed"
    processed.mkdir()
    wrong = (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.long))
    for name in ("training.pt", "test.pt"):
        torch.save(wrong, processed / name)
    assert_small_mnist()


def test_folder_that_cannot_be_made(tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "file" / "cache"))
    assert load_digits().source == "drawn digits"
    assert "VAE_LESSONS_DATA" in capfd.readouterr().out
    with pytest.raises(MnistUnavailable, match="cannot be used"):
        load_digits(source="mnist")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("contents", [{}, ARCHIVES, FILES], ids=["empty", "archives", "files"])
def test_folder_that_cannot_be_written(raw, contents):
    put(raw, contents)
    raw.chmod(0o500)
    try:
        wanted = "MNIST" if contents is FILES else "drawn digits"
        assert load_digits().source == wanted
    finally:
        raw.chmod(0o700)


# The download


def test_download(raw, serve, capfd):
    server = serve(ARCHIVES)
    assert_small_mnist()
    assert sorted(server.asked) == sorted(ARCHIVES)
    assert_folder_is_sound(raw)
    out, err = capfd.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "Downloading MNIST (11 MB in all) ...",
        "Data: MNIST, 12 training images of 28 x 28 grey pixels.",
        "Data: MNIST, 7 test images of 28 x 28 grey pixels.",
    ]


def test_download_into_a_folder_that_is_not_there_yet(tmp_path, serve):
    serve(ARCHIVES)
    assert_small_mnist()
    assert_folder_is_sound(tmp_path / "cache" / "MNIST" / "raw")


def test_only_what_is_missing_is_fetched(raw, serve):
    put(raw, {name: ARCHIVES[name] for name in list(ARCHIVES)[:3]})
    server = serve(ARCHIVES)
    assert_small_mnist()
    assert server.asked == list(ARCHIVES)[3:]


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_download_puts_nothing_broken_in_place(raw, serve, damage):
    last = list(ARCHIVES)[3]
    serve({**ARCHIVES, last: DAMAGES[damage](ARCHIVES[last])})
    with pytest.raises(MnistUnavailable, match=f"{last} arrived damaged"):
        load_digits(source="mnist")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == {
        name: ARCHIVES[name] for name in list(ARCHIVES)[:3]
    }


def test_second_mirror_helps_out(raw, serve):
    first, second = serve({list(ARCHIVES)[0]: ARCHIVES[list(ARCHIVES)[0]]}), serve(ARCHIVES)
    assert_small_mnist()
    assert first.asked == list(ARCHIVES)[:2]
    assert second.asked == list(ARCHIVES)[1:]


def test_missing_on_the_server(serve, capfd):
    server = serve({})
    assert load_digits().source == "drawn digits"
    assert "404" in capfd.readouterr().out
    assert len(server.asked) == 1


def test_refused_connection_is_told_loudly_and_once(raw, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(raw.parents[2]))
    for split in ("train", "test", "train"):
        assert load_digits(split).source == "drawn digits"
    out, err = capfd.readouterr()
    assert err == ""
    assert out.count("MNIST COULD NOT BE HAD") == 1
    assert "Errno" not in out
    assert "refused" in out and "draws its own" in out and "connect to the internet" in out
    assert os.path.join("~", "cache", "MNIST", "raw") in out and str(raw) not in out
    assert all(name in out for name in ARCHIVES)
    assert out.splitlines()[-1].startswith("Data: drawn digits, 20 test images")
    assert list(raw.iterdir()) == []


def test_silent_server_is_given_up(raw, monkeypatch):
    listener, url = silent_server()
    with listener:
        monkeypatch.setattr(MNIST, "mirrors", [url])
        start = time.monotonic()
        with pytest.raises(MnistUnavailable, match="no answer|timed out"):
            load_digits(source="mnist")
        assert time.monotonic() - start < 5
    assert list(raw.iterdir()) == []


def test_host_name_that_is_looked_up_for_ever_is_given_up(monkeypatch):
    look_up = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: look_up.wait(20) and [])
    start = time.monotonic()
    with pytest.raises(MnistUnavailable, match="127.0.0.1: no answer for 0.4 seconds"):
        load_digits(source="mnist")
    assert time.monotonic() - start < 5
    look_up.set()


def test_server_that_falls_silent_half_way_is_given_up(raw, monkeypatch):
    listener, url = silent_server()
    monkeypatch.setattr(MNIST, "mirrors", [url])
    held = []

    def answer():
        held.append(listener.accept()[0])
        held[0].sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 9999\r\n\r\n" + b"x" * 50)

    threading.Thread(target=answer, daemon=True).start()
    with listener, pytest.raises(MnistUnavailable, match="no answer|timed out"):
        load_digits(source="mnist")
    assert list(raw.iterdir()) == []
    held[0].close()


def test_failed_download_is_not_tried_again(raw, serve):
    server = serve({})
    for _ in range(2):
        load_digits()
        load_digits("test")
    assert len(server.asked) == 1
    put(raw, ARCHIVES)  # as the message advises
    assert_small_mnist(source="auto")


def test_https_without_certificates_falls_back_on_http(serve, monkeypatch):
    server = serve(ARCHIVES)
    monkeypatch.setattr(MNIST, "mirrors", [server.url.replace("http:", "https:")])
    server.http.handle_error = lambda *args: None  # it cannot speak TLS
    assert_small_mnist()


def test_interrupt_leaves_nothing_behind(raw, serve, monkeypatch):
    serve(ARCHIVES)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.shutil, "copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_digits()
    monkeypatch.undo()
    assert {path.name for path in raw.iterdir()} == set(ARCHIVES)


def test_two_at_once(raw, serve):
    serve(ARCHIVES)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(load_digits(source="mnist")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [torch.equal(r.images.long(), IMAGES[:12]) for r in results] == [True] * 4
    assert_folder_is_sound(raw)


# As a program


def test_program_draws_where_mnist_is_not_to_be_had(tmp_path):
    """A fresh process: status 0, nothing on stderr, and a last line that names the source."""
    code = (
        "import runpy; from torchvision.datasets import MNIST;"
        f"MNIST.mirrors = {MNIST.mirrors!r};"
        "runpy.run_module('vae_lessons.data', None, '__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "MNIST COULD NOT BE HAD" in done.stdout
    last = "Data: drawn digits, 20,000 training images of 28 x 28 grey pixels."
    assert done.stdout.splitlines()[-1] == last


def test_import_is_light():
    """torchvision takes a second to import; only who loads digits pays for it."""
    code = "import sys, vae_lessons.data; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(
    not all((REAL_FOLDER / f"{name}.gz").exists() for name in NAMES),
    reason="the cache folder holds no MNIST",
)
def test_real_mnist(monkeypatch):
    monkeypatch.undo()
    train, test = load_digits(source="mnist"), load_digits("test", source="mnist")
    assert train.images.shape == (60_000, 28, 28) and test.images.shape == (10_000, 28, 28)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(train.images.double().mean() / 255 - 0.1307) < 1e-4


# A reader's own folder


def save(folder, name, picture):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(path)
    return path


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save_many(folder, num=7, shape=(6, 5), suffix="png"):
    pictures = [noise(*shape, seed=k) for k in range(num)]
    for k, picture in enumerate(pictures):
        save(folder, f"{k:03}.{suffix}", picture)
    return torch.from_numpy(np.stack(pictures))


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_pictures_come_back_and_are_split(tmp_path, capfd, shape, suffix):
    wanted = save_many(tmp_path / "cats", 15, shape, suffix)
    train, test = load_pictures(tmp_path / "cats"), load_pictures(tmp_path / "cats", "test")
    assert train.source == test.source == 'folder "cats"'
    assert torch.equal(test.images, wanted[[6, 13]])
    assert torch.equal(train.images, wanted[[0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 14]])
    assert train.images.dtype == torch.uint8 and train.labels.tolist() == [0] * 13
    colour = "grey" if len(shape) == 2 else "colour"
    assert capfd.readouterr().out.splitlines() == [
        f'Data: folder "cats", 13 training images of 6 x 5 {colour} pixels.',
        f'Data: folder "cats", 2 test images of 6 x 5 {colour} pixels.',
    ]


def test_jpeg_and_webp_come_back_nearly(tmp_path):
    for k, suffix in enumerate(["jpg", "JPEG", "webp", "jpg", "jpg", "jpg", "webp"]):
        save(tmp_path, f"{k}.{suffix}", np.full((8, 8, 3), [200, 100, 50], dtype=np.uint8))
    images = load_pictures(tmp_path).images.int()
    assert images.shape == (6, 8, 8, 3)
    assert (images - torch.tensor([200, 100, 50])).abs().max() < 12


def test_subfolders_are_classes(tmp_path):
    for k in range(14):
        save(tmp_path, f"{'ba'[k % 2]}/deeper/{k:02}.png", noise(4, 4, seed=k))
    digits = load_pictures(tmp_path)
    assert digits.labels.tolist() == [0] * 6 + [1] * 6
    assert torch.equal(digits.images[0], torch.from_numpy(noise(4, 4, seed=1)))  # of "a"
    assert load_pictures(tmp_path, "test").labels.tolist() == [0, 1]


def test_hidden_files_are_ignored(tmp_path):
    wanted = save_many(tmp_path, 8)
    for name in (".DS_Store", "Thumbs.db", ".ipynb_checkpoints/copy.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    assert torch.equal(load_pictures(tmp_path, "test").images, wanted[[6]])


def one_of(tmp_path, picture, name="a.png", **options):
    """The picture as load_pictures reads it, from a folder that holds seven copies."""
    for k in range(7):
        picture.save(tmp_path / f"{k}{name}", **options)
    return load_pictures(tmp_path).images[0]


def test_transparent_parts_are_laid_on_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    image = one_of(tmp_path, Image.fromarray(pixels))
    assert image.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_grey_with_transparency_stays_grey(tmp_path):
    pixels = np.array([[[10, 255], [10, 0], [0, 51]]], dtype=np.uint8)
    assert one_of(tmp_path, Image.fromarray(pixels)).tolist() == [[10, 255, 204]]


def test_palette_in_colour(tmp_path):
    pixels = np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)
    image = one_of(tmp_path, Image.fromarray(pixels).quantize(4))
    assert image.tolist() == pixels.tolist()


def test_palette_of_greys_is_grey(tmp_path):
    pixels = np.array([[7, 200, 90]], dtype=np.uint8)
    image = one_of(tmp_path, Image.fromarray(pixels), "a.gif")
    assert image.tolist() == pixels.tolist()


def test_black_and_white(tmp_path):
    pixels = np.array([[True, False]])
    assert one_of(tmp_path, Image.fromarray(pixels)).tolist() == [[255, 0]]


def test_16_bits_become_8(tmp_path):
    pixels = np.array([[0, 257, 30_000, 65_535]], dtype=np.uint16)
    assert one_of(tmp_path, Image.fromarray(pixels)).tolist() == [[0, 1, 117, 255]]


def test_photograph_is_turned_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise shows it upright
    picture = Image.fromarray(np.array([[10, 20, 30]], dtype=np.uint8))
    assert one_of(tmp_path, picture, exif=exif).tolist() == [[10], [20], [30]]


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        load_pictures(tmp_path / "nowhere")


def test_file_in_place_of_a_folder(tmp_path):
    path = save(tmp_path, "cat.png", noise(4, 4))
    with pytest.raises(ValueError, match="cat.png is a file; give the folder"):
        load_pictures(path)


def test_folder_without_pictures(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        load_pictures(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_too_few_pictures_to_split(tmp_path, split):
    save_many(tmp_path, 6)
    with pytest.raises(ValueError, match="holds 6 pictures; at least 7"):
        load_pictures(tmp_path, split)


def test_wrong_split_of_pictures(tmp_path):
    with pytest.raises(ValueError, match="split is 'all'"):
        load_pictures(tmp_path, "all")


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (noise(6, 4), "odd.png is 6 x 4 pixels, grey, but .*000.png is 6 x 5 pixels, grey"),
        (noise(6, 5, 3), "odd.png is 6 x 5 pixels, in colour, but .*6 x 5 pixels, grey"),
    ],
    ids=["size", "colour"],
)
def test_picture_that_differs_is_named(tmp_path, odd, words):
    save_many(tmp_path)
    save(tmp_path, "odd.png", odd)
    with pytest.raises(ValueError, match=words):
        load_pictures(tmp_path)


def test_file_that_is_no_picture_is_named(tmp_path):
    save_many(tmp_path)
    (tmp_path / "notes.txt").write_text("cats of 2026")
    with pytest.raises(ValueError, match="notes.txt is not a picture .* move it"):
        load_pictures(tmp_path)


def test_damaged_picture_is_named(tmp_path):
    save_many(tmp_path, shape=(40, 40))
    path = tmp_path / "003.png"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="003.png is damaged"):
        load_pictures(tmp_path)


def test_picture_of_fractions_is_named(tmp_path):
    with pytest.raises(ValueError, match="0a.tiff .*fractions"):
        one_of(tmp_path, Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "a.tiff")


# Pixels as numbers


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((4, 3, 5), 15), ((4, 3, 5, 3), 45), ((4, 7), 7), ((0, 28, 28), 784)],
)
def test_as_vectors(shape, dim):
    images = torch.randint(0, 256, shape).to(torch.uint8)
    x = as_vectors(images)
    assert x.dtype == torch.float32 and x.shape == (shape[0], dim)
    assert torch.equal((x * 255).round().to(torch.uint8), images.flatten(1))


def test_as_vectors_spans_0_to_1():
    images = torch.tensor([[[0, 255, 51]]], dtype=torch.uint8)
    assert as_vectors(images).tolist() == [[0, 1, pytest.approx(0.2)]]


@pytest.mark.parametrize("images", [torch.rand(2, 28, 28), torch.zeros(5, dtype=torch.uint8)])
def test_as_vectors_refuses(images):
    with pytest.raises(ValueError, match="wants uint8"):
        as_vectors(images)


def test_binarize_draws_each_pixel_with_its_own_probability():
    p = torch.tensor([[0.0, 0.1, 0.5, 0.9, 1.0]])
    draws = binarize(p.expand(20_000, 5), torch.Generator().manual_seed(0))
    assert draws.dtype == p.dtype and set(draws.unique().tolist()) == {0, 1}
    assert torch.allclose(draws.mean(0), p[0], atol=4 * (0.25 / 20_000) ** 0.5)
    assert draws[:, 0].max() == 0 and draws[:, 4].min() == 1


def test_binarize_follows_its_generator():
    x = torch.rand(3, 784)
    first, again, other = (binarize(x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("x", [torch.rand(3, 4), torch.tensor([[0.0, 1.0]]), torch.zeros(0, 784)])
def test_check_pixels_accepts(x):
    assert check_pixels(x) is None
    assert check_pixels(x.double()) is None


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.rand(3, 2, 2), r"shape \(3, 2, 2\); wanted .*\(B, D\)"),
        (torch.rand(3), r"shape \(3,\); wanted"),
        (torch.zeros(3, 4, dtype=torch.uint8), "uint8 .*as_vectors"),
        (torch.tensor([[0.5, float("nan")]]), "1 NaN"),
        (torch.tensor([[0.0, 255.0]]), r"from 0 to 255; .*Divide by 255"),
        (torch.tensor([[-0.25, 0.5]]), "from -0.25 to 0.5"),
        (torch.tensor([[0.5, float("inf")]]), "from 0.5 to inf"),
    ],
)
def test_check_pixels_refuses(x, words):
    with pytest.raises(ValueError, match=words):
        check_pixels(x)
