"""Sets by name and a reader's own pictures: what is read, how it is split, what is refused.

No test reaches a real host. The sets are made of 12 + 7 small random pictures.
"""

import gzip
import hashlib
import http.server
import socket
import struct
import threading
import time

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from vae_lessons import data, mnist, pictures
from vae_lessons.data import Digits
from vae_lessons.pictures import ImagesUnavailable, load_images, load_pictures


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(data, "_said", set())


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


# Sets by name


def idx(values):
    """The bytes of an idx file, as the MNIST page describes the format."""
    sizes = struct.pack(f">{values.dim()}I", *values.shape)
    return bytes([0, 0, 8, values.dim()]) + sizes + bytes(values.flatten().tolist())


def set_of(seed):
    """Small images and labels, and the four archives that hold them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (19, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (19,), generator=generator)
    parts = {"train": slice(0, 12), "t10k": slice(12, 19)}
    archives = {}
    for stem, part in parts.items():
        archives[f"{stem}-images-idx3-ubyte.gz"] = gzip.compress(idx(images[part]), mtime=0)
        archives[f"{stem}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels[part]), mtime=0)
    return images, labels, archives


SETS = {"FashionMNIST": set_of(1), "KMNIST": set_of(2)}
every_set = pytest.mark.parametrize("name", SETS)


class Server:
    """A mirror on the loopback address that serves ``files`` and counts what it was asked for."""

    def __init__(self, files):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path.lstrip("/"))
                if asked[-1] not in files:
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(len(files[asked[-1]])))
                self.end_headers()
                self.wfile.write(files[asked[-1]])

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


def refusing():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def small_sets(tmp_path, monkeypatch):
    """Small sets in the place of the real ones, an empty cache folder, mirrors that refuse."""
    for name, (_, _, archives) in SETS.items():
        known = getattr(torchvision.datasets, name)
        sums = [(file, hashlib.md5(content).hexdigest()) for file, content in archives.items()]
        monkeypatch.setattr(known, "resources", sums)
        monkeypatch.setattr(known, "mirrors", [refusing()])
    monkeypatch.setattr(mnist, "GIVE_UP_AFTER", 0.4)
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(name, files):
        servers.append(Server(files))
        urls = [server.url for server in servers]
        monkeypatch.setattr(getattr(torchvision.datasets, name), "mirrors", urls)
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def put(tmp_path, name, archives):
    folder = tmp_path / "cache" / name / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in archives.items():
        (folder / file).write_bytes(content)
    return folder


def assert_loaded(name):
    images, labels, _ = SETS[name]
    for split, part in (("train", slice(0, 12)), ("test", slice(12, 19))):
        loaded = load_images(name, split)
        assert isinstance(loaded, Digits) and loaded.source == name
        assert loaded.images.dtype == torch.uint8 and loaded.labels.dtype == torch.int64
        assert loaded.images.equal(images[part]) and loaded.labels.equal(labels[part])


@every_set
def test_set_from_archives_in_the_cache_folder(tmp_path, capfd, name):
    folder = put(tmp_path, name, SETS[name][2])
    assert_loaded(name)
    assert capfd.readouterr().out.splitlines() == [
        f"Data: {name}, 12 training images of 28 x 28 grey pixels.",
        f"Data: {name}, 7 test images of 28 x 28 grey pixels.",
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(SETS[name][2])


@every_set
def test_missing_set_is_downloaded_once(tmp_path, serve, name):
    server = serve(name, SETS[name][2])
    assert_loaded(name)
    assert_loaded(name)
    assert sorted(server.asked) == sorted(SETS[name][2])
    folder = tmp_path / "cache" / name / "raw"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == SETS[name][2]


def test_damaged_archive_is_fetched_anew(tmp_path, serve):
    archives = SETS["KMNIST"][2]
    file = next(iter(archives))
    put(tmp_path, "KMNIST", {**archives, file: archives[file][:-3] + b"???"})
    server = serve("KMNIST", archives)
    assert_loaded("KMNIST")
    assert server.asked == [file]


def test_the_archives_of_another_set_are_not_taken(tmp_path):
    put(tmp_path, "KMNIST", SETS["FashionMNIST"][2])
    with pytest.raises(ImagesUnavailable, match="KMNIST could not be had"):
        load_images("KMNIST")


def test_second_mirror_takes_over(serve):
    first = serve("KMNIST", {})
    second = serve("KMNIST", SETS["KMNIST"][2])
    assert_loaded("KMNIST")
    assert len(first.asked) == 1 and len(second.asked) == 4


def test_mirror_that_delivers_something_else_is_named(tmp_path, serve):
    serve("KMNIST", SETS["FashionMNIST"][2])
    with pytest.raises(ImagesUnavailable, match="127.0.0.1: .* arrived damaged"):
        load_images("KMNIST")
    assert list((tmp_path / "cache" / "KMNIST" / "raw").iterdir()) == []


def test_silent_mirror_is_left_after_a_moment(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", [url])
        started = time.monotonic()
        with pytest.raises(ImagesUnavailable, match="no answer|timed out"):
            load_images("KMNIST")
        assert time.monotonic() - started < 5


@every_set
def test_message_says_which_archives_to_put_where(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ImagesUnavailable) as caught:
        load_images(name)
    message = str(caught.value)
    assert f"~/cache/{name}/raw" in message and "connect to the internet" in message
    assert all(file in message for file in SETS[name][2])


def test_cache_folder_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "file"))
    with pytest.raises(ImagesUnavailable, match="cannot be read or written.*(?s:.*)VAE_LESSONS"):
        load_images("KMNIST")


def test_mnist_by_name_is_the_books_digits(monkeypatch):
    asked = []
    monkeypatch.setattr(pictures, "load_digits", lambda split: asked.append(split) or "the digits")
    assert load_images() == load_images("MNIST", "test") == "the digits"
    assert asked == ["train", "test"]


def test_wrong_name_and_split():
    with pytest.raises(ValueError, match="name is 'CIFAR'; choose one of 'MNIST', 'Fashion"):
        load_images("CIFAR")
    with pytest.raises(ValueError, match="split is 'all'"):
        load_images("KMNIST", "all")
