"""Bits per pixel of programs that chapter "compression" names but does not run.

    pip install imagecodecs brotli pyppmd
    python benchmarks/compression_rivals.py

The images are those of the chapter: MNIST's test images, in 256 levels and tossed to black and
white. JPEG XL and JPEG-LS get one large picture of all digits in a grid. brotli and PPMd get the
pixels as bytes, or, of black and white, eight to a byte and every row filled up. JBIG is measured
if the program ``pbmtojbg`` (of jbigkit) is there. Every program must give the images back, except
JBIG, of which only the length is read.
"""

import shutil
import subprocess

import brotli
import imagecodecs
import numpy as np
import pyppmd
import torch

from vae_lessons.data import as_vectors, binarize, load_digits
from vae_lessons.plots import tile


def sizes(images):
    """Name -> number of bytes, for images (N, 28, 28) of uint8."""
    grid = tile(images, 100).byte().numpy()
    files = {
        "JPEG XL": imagecodecs.jpegxl_encode(grid, lossless=True, effort=9, numthreads=1),
        "JPEG-LS": imagecodecs.jpegls_encode(grid),
    }
    assert np.array_equal(imagecodecs.jpegxl_decode(files["JPEG XL"]), grid)
    assert np.array_equal(imagecodecs.jpegls_decode(files["JPEG-LS"]), grid)
    bits = bool(((images == 0) | (images == 255)).all())
    raw = (np.packbits(images.numpy() > 0, axis=-1) if bits else images.numpy()).tobytes()
    files["brotli"] = brotli.compress(raw, quality=11, lgwin=24)
    files["PPMd"] = pyppmd.compress(raw, max_order=4, mem_size=256 << 20)
    assert brotli.decompress(files["brotli"]) == raw
    assert pyppmd.decompress(files["PPMd"], max_order=4, mem_size=256 << 20) == raw
    if bits and shutil.which("pbmtojbg"):
        head = f"P4\n{grid.shape[1]} {grid.shape[0]}\n".encode()
        picture = head + np.packbits(grid > 0, axis=1).tobytes()
        files["JBIG"] = subprocess.run(["pbmtojbg", "-q"], input=picture, check=True,
                                       stdout=subprocess.PIPE).stdout
    return {name: len(file) for name, file in files.items()}


def main():
    grey = load_digits("test", source="mnist").images
    coins = torch.Generator().manual_seed(0)
    tossed = (255 * binarize(as_vectors(grey), coins)).byte().view(grey.shape)
    for kind, images in (("black and white", tossed), ("grey", grey)):
        for name, size in sizes(images).items():
            print(f"{kind:16s} {name:8s} {8 * size / images.numel():.4f} bits per pixel")


if __name__ == "__main__":
    main()
