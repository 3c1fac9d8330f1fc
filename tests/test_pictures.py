"""A reader's own pictures: what is read, how it is split, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from vae_lessons import data
from vae_lessons.pictures import load_pictures


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
