"""Images per second through the codec, both ways, against bz2 and xz on the same images.

    OMP_NUM_THREADS=1 python benchmarks/compression_speed.py [images]

The images are shuffled test images of MNIST, black and white ones and grey ones, and the models are
those of the book's recipes (the first run trains them). Times are processor seconds within one run,
and their ratios count; the rate in bits per pixel stands beside them. Every program must give the
images back.
"""

import bz2
import functools
import lzma
import sys
import time

import numpy as np
import torch

from vae_lessons.compression import compress, decompress
from vae_lessons.data import as_vectors, binarize, load_digits
from vae_lessons.recipes import conv_vae, deep_vae, grey_vae


def from_bytes(unpack, shape, bits):
    """The inverse of a byte program: a function from its output to images of this shape."""
    def images(data):
        raw = np.frombuffer(unpack(data), np.uint8)
        levels = 255 * np.unpackbits(raw) if bits else raw
        return torch.from_numpy(levels.copy()).view(shape)

    return images


def programs(images, models):
    """Name -> (pack, unpack) for models, bz2 and xz; black and white images are packed to bits."""
    bits = bool(((images == 0) | (images == 255)).all())
    raw = np.packbits(images.numpy() > 0).tobytes() if bits else images.numpy().tobytes()
    byte_programs = {"bz2": bz2, "xz": lzma}
    return {
        **{name: (functools.partial(compress, model, images), functools.partial(decompress, model))
           for name, model in models.items()},
        **{name: (functools.partial(program.compress, raw),
                  from_bytes(program.decompress, images.shape, bits))
           for name, program in byte_programs.items()},
    }


def timed(work, *arguments):
    """What ``work`` gives, and the processor seconds that it took."""
    started = time.process_time()
    result = work(*arguments)
    return result, time.process_time() - started


def main(num=2000):
    """Times every program on the same images and prints rates, speeds and ratios to xz."""
    train, test = load_digits("train", source="mnist"), load_digits("test", source="mnist")
    generator = torch.Generator().manual_seed(0)
    grey = test.images[torch.randperm(len(test.images), generator=generator)[:num]]
    black_and_white = (255 * binarize(as_vectors(grey), generator)).byte().view(grey.shape)
    binary_models = {"deep_vae": deep_vae(train, test)[0], "conv_vae": conv_vae(train, test)[0]}
    jobs = {"black and white": (black_and_white, binary_models),
            "grey": (grey, {"grey_vae": grey_vae(train, test)[0]})}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {num} images")
    for kind, (images, models) in jobs.items():
        rows = {}
        for name, (pack, unpack) in programs(images, models).items():
            data, there = timed(pack)
            back, back_again = timed(unpack, data)
            assert back.equal(images), f"{name} changed the images"
            rows[name] = there, back_again, 8 * len(data) / images.numel()
        for name, (there, back_again, rate) in rows.items():
            print(f"{kind:16s} {name:9s} {rate:.4f} bits per pixel, {num / there:8,.0f} images per "
                  f"second there, {num / back_again:8,.0f} back "
                  f"(time of xz times {there / rows['xz'][0]:.2f} and "
                  f"{back_again / rows['xz'][1]:.1f})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
