"""Ways to look at what a trained VAE has learned."""

import torch


def reconstruct(model, x, generator=None):
    """Each image encoded, drawn from its cloud and decoded: (B, D) -> pixel means (B, D)."""
    with torch.no_grad():
        z, _ = model.sample_posterior(x, generator)
        return torch.sigmoid(model.decode(z))


def sample_prior(model, num, latent_dim, generator=None):
    """Pixel means of ``num`` draws z from the prior N(0, I): (num, D)."""
    z = torch.randn(num, latent_dim, generator=generator).to(next(model.parameters()).device)
    with torch.no_grad():
        return torch.sigmoid(model.decode(z))


def interpolate(start, end, steps):
    """Points on the straight line from start to end, both included: (L,), (L,) -> (steps, L).

    Raises: ValueError if the ends differ in shape or steps is below 2.
    """
    if start.shape != end.shape or start.ndim != 1:
        raise ValueError(
            f"the ends have shapes {tuple(start.shape)} and {tuple(end.shape)}: "
            "both must be one latent, (L,)"
        )
    if steps < 2:
        raise ValueError(f"steps is {steps}: a line has at least its two ends")
    weight = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    return (1 - weight) * start + weight * end


def traverse(z, dimension, values):
    """Copies of one latent with one coordinate set to each value: (L,), (V,) -> (V, L).

    Raises: ValueError if z is not (L,) or has no such dimension.
    """
    if z.ndim != 1 or not 0 <= dimension < len(z):
        raise ValueError(
            f"z has shape {tuple(z.shape)} and dimension is {dimension}: "
            "z must be one latent (L,), and the dimension lie between 0 and L - 1"
        )
    copies = z.repeat(len(values), 1)
    copies[:, dimension] = values
    return copies


def quantile_grid(side):
    """A square grid that is even in probability: z (side * side, 2), row by row from the top.

    Each coordinate runs over the quantiles ``(i + 1/2) / side`` of N(0, 1), so that every point
    stands for an equal share of the prior.

    Raises: ValueError if side is below 1.
    Source: Kingma & Welling (2014), figure 4; chapter "latent_space".
    """
    if side < 1:
        raise ValueError(f"side is {side}: a grid has at least one point")
    axis = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    return torch.cartesian_prod(-axis, axis).flip(1)


def nearest_neighbour_accuracy(codes, labels, test_codes, test_labels, neighbours=15):
    """The share of test codes whose nearest neighbours, by majority, have the right label.

    Shapes: codes (N, L), labels (N,), test_codes (M, L), test_labels (M,) -> float.
    Raises: ValueError if there are fewer codes than neighbours, or not one label for each code.
    """
    if len(codes) < neighbours:
        raise ValueError(f"{len(codes)} codes are too few for {neighbours} neighbours")
    if len(test_codes) != len(test_labels) or len(test_codes) == 0:
        raise ValueError(
            f"got {len(test_codes)} test codes and {len(test_labels)} test labels: "
            "give one label for each code, and at least one"
        )
    right = 0
    for part, wanted in zip(test_codes.split(500), test_labels.split(500), strict=True):
        nearest = torch.cdist(part, codes).topk(neighbours, largest=False).indices
        right += (labels[nearest].mode(dim=1).values == wanted).sum().item()
    return right / len(test_labels)
