"""MNIST in the cache folder: found, repaired, downloaded or missed.

No test here reaches a real host: the mirrors are on the loopback address, and the MNIST they
serve is made of 12 + 7 small random pictures.
"""

import gzip
import hashlib
import http.server
import os
import pickle
import socket
import struct
import threading
import time

import pytest
import torch
from torchvision.datasets import MNIST

from vae_lessons import mnist
from vae_lessons.mnist import MnistUnavailable, data_folder, how_to_get_mnist, read_mnist

REAL_FOLDER = data_folder() / "MNIST" / "raw"
NAMES = list(mnist.UNPACKED_MD5)
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
    monkeypatch.setattr(mnist, "UNPACKED_MD5", {n: md5(c) for n, c in FILES.items()})
    monkeypatch.setattr(mnist, "GIVE_UP_AFTER", 0.4)
    monkeypatch.setattr(mnist, "_failed_downloads", {})
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


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


def assert_small_mnist():
    for split, part in (("train", slice(0, 12)), ("test", slice(12, 19))):
        images, labels = read_mnist(split)
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert torch.equal(images.long(), IMAGES[part])
        assert torch.equal(labels, LABELS[part])


def assert_folder_is_sound(raw, archives=True):
    """All four files are there, whole, and nothing else beside the archives."""
    wanted = {**FILES, **ARCHIVES} if archives else FILES
    assert {p.name: md5(p.read_bytes()) for p in raw.iterdir()} == {
        name: md5(content) for name, content in wanted.items()
    }


def test_environment_names_the_folder(monkeypatch, tmp_path):
    assert data_folder() == tmp_path / "cache"
    monkeypatch.delenv("VAE_LESSONS_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".cache" / "vae_lessons"


def test_wrong_split_is_named(raw):
    put(raw, FILES)
    with pytest.raises(ValueError, match="split is 'valid'; choose one of 'train', 'test'"):
        read_mnist("valid")


def test_message_holds_the_reason_and_what_to_do():
    error = MnistUnavailable("the moon is full.")
    assert error.reason == "the moon is full."
    assert str(error) == f"MNIST could not be had: the moon is full.\n{how_to_get_mnist()}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # from another process


def test_how_to_get_mnist_names_the_folder_and_the_archives(raw, monkeypatch):
    monkeypatch.setenv("HOME", str(raw.parents[2]))
    advice = how_to_get_mnist()
    assert "connect to the internet" in advice
    assert os.path.join("~", "cache", "MNIST", "raw") in advice and str(raw) not in advice
    assert all(name in advice for name in ARCHIVES)


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
        read_mnist("train")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == kept


@pytest.mark.parametrize("split", ["train", "test"])
def test_both_splits_are_of_one_source(raw, split):
    put(raw, {name: FILES[name] for name in NAMES[:2]})  # the training split alone
    with pytest.raises(MnistUnavailable):
        read_mnist(split)


def test_files_of_torchvisions_old_format_are_not_trusted(raw):
    put(raw, FILES)
    processed = raw.parent / "processed"
    processed.mkdir()
    wrong = (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.long))
    for name in ("training.pt", "test.pt"):
        torch.save(wrong, processed / name)
    assert_small_mnist()


def test_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(MnistUnavailable, match="cannot be used .*VAE_LESSONS_DATA"):
        read_mnist("train")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("contents", [{}, ARCHIVES], ids=["empty", "archives"])
def test_folder_that_cannot_be_written(raw, contents):
    put(raw, contents)
    raw.chmod(0o500)
    try:
        with pytest.raises(MnistUnavailable, match="cannot be used"):
            read_mnist("train")
    finally:
        raw.chmod(0o700)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_can_only_be_read(raw):
    put(raw, FILES)
    raw.chmod(0o500)
    try:
        assert_small_mnist()
    finally:
        raw.chmod(0o700)


# The download


def test_download(raw, serve, capfd):
    server = serve(ARCHIVES)
    assert_small_mnist()
    assert sorted(server.asked) == sorted(ARCHIVES)
    assert_folder_is_sound(raw)
    assert capfd.readouterr() == ("Downloading MNIST (11 MB in all) ...\n", "")


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
        read_mnist("train")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == {
        name: ARCHIVES[name] for name in list(ARCHIVES)[:3]
    }


def test_second_mirror_helps_out(raw, serve, capfd):
    first, second = serve({list(ARCHIVES)[0]: ARCHIVES[list(ARCHIVES)[0]]}), serve(ARCHIVES)
    assert_small_mnist()
    assert first.asked == list(ARCHIVES)[:2]
    assert second.asked == list(ARCHIVES)[1:]
    assert capfd.readouterr().out.count("Downloading") == 1


def test_missing_on_the_server(serve):
    server = serve({})
    with pytest.raises(MnistUnavailable, match="404"):
        read_mnist("train")
    assert len(server.asked) == 1


def test_refused_connection_is_told_in_plain_words(raw):
    with pytest.raises(MnistUnavailable) as caught:
        read_mnist("train")
    assert "127.0.0.1: Connection refused" in caught.value.reason
    assert "Errno" not in caught.value.reason
    assert list(raw.iterdir()) == []


def test_silent_server_is_given_up(raw, monkeypatch):
    listener, url = silent_server()
    with listener:
        monkeypatch.setattr(MNIST, "mirrors", [url])
        start = time.monotonic()
        with pytest.raises(MnistUnavailable, match="no answer|timed out"):
            read_mnist("train")
        assert time.monotonic() - start < 5
    assert list(raw.iterdir()) == []


def test_host_name_that_is_looked_up_for_ever_is_given_up(monkeypatch):
    look_up = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: look_up.wait(20) and [])
    start = time.monotonic()
    with pytest.raises(MnistUnavailable, match="127.0.0.1: no answer for 0.4 seconds"):
        read_mnist("train")
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
        read_mnist("train")
    assert list(raw.iterdir()) == []
    held[0].close()


def test_failed_download_is_not_tried_again(raw, serve, capfd):
    server = serve({})
    for split in ("train", "test", "train"):
        with pytest.raises(MnistUnavailable, match="404"):
            read_mnist(split)
    assert len(server.asked) == 1
    assert capfd.readouterr() == ("Downloading MNIST (11 MB in all) ...\n", "")
    put(raw, ARCHIVES)  # as the message advises
    assert_small_mnist()


def test_https_without_certificates_falls_back_on_http(serve, monkeypatch):
    server = serve(ARCHIVES)
    monkeypatch.setattr(MNIST, "mirrors", [server.url.replace("http:", "https:")])
    server.http.handle_error = lambda *args: None  # it cannot speak TLS
    assert_small_mnist()


def test_interrupt_leaves_nothing_behind(raw, serve, monkeypatch):
    serve(ARCHIVES)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(mnist.shutil, "copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_mnist("train")
    monkeypatch.undo()
    assert {path.name for path in raw.iterdir()} == set(ARCHIVES)


def test_two_at_once(raw, serve):
    serve(ARCHIVES)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(read_mnist("train")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [torch.equal(images.long(), IMAGES[:12]) for images, _ in results] == [True] * 4
    assert_folder_is_sound(raw)


@pytest.mark.skipif(
    not all((REAL_FOLDER / f"{name}.gz").exists() for name in NAMES),
    reason="the cache folder holds no MNIST",
)
def test_real_mnist(monkeypatch):
    monkeypatch.undo()
    (images, labels), (test_images, test_labels) = read_mnist("train"), read_mnist("test")
    assert images.shape == (60_000, 28, 28) and test_images.shape == (10_000, 28, 28)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(images.double().mean() / 255 - 0.1307) < 1e-4
