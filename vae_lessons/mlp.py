"""The hidden layers that encoders and decoders are made of."""

import torch
from torch import nn


def check_sizes(**sizes):
    """Raises ValueError unless every named size is a whole number of 1 or more."""
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is {size!r}: it must be a whole number of 1 or more")


def check_rows(x, width, name="x"):
    """Raises ValueError unless x is (B, width): one row for each example."""
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}, but (B, {width}) is wanted: one row for each "
            f"example. Images become rows with vae_lessons.data.as_vectors."
        )


def start_bias_at(bias, output_bias):
    """Lets the bias of a last layer start at ``output_bias``; None leaves it as it is.

    Shapes: two of one shape.
    Raises: ValueError if they differ in shape.
    """
    if output_bias is None:
        return
    if output_bias.shape != bias.shape:
        raise ValueError(
            f"output_bias has shape {tuple(output_bias.shape)}, but {tuple(bias.shape)} is "
            "wanted: one logit for each output"
        )
    with torch.no_grad():
        bias.copy_(output_bias)


def hidden_layers(input_dim, hidden_dim, layers, activation):
    """``layers`` times Linear and activation, the first from input_dim to hidden_dim.

    Shapes: (B, input_dim) -> (B, hidden_dim).
    Raises: ValueError if a size is not a whole number of 1 or more.
    """
    check_sizes(input_dim=input_dim, hidden_dim=hidden_dim, layers=layers)
    widths = [input_dim] + [hidden_dim] * layers
    stack = []
    for width_in, width_out in zip(widths, widths[1:], strict=False):
        stack += [nn.Linear(width_in, width_out), activation()]
    return nn.Sequential(*stack)
