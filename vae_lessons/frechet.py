"""The Fréchet distance between two sets of images, as a judge sees them."""

import torch


def frechet_distance(features, other_features):
    """How far two clouds of features lie apart, each taken for a Gaussian.

    ``|m1 - m2|^2 + trace(S1 + S2 - 2 (S1 S2)^(1/2))`` with their means m and covariances S: the
    squared 2-Wasserstein distance of the two Gaussians. The trace of the root is the sum of the
    square roots of the eigenvalues of ``S1^(1/2) S2 S1^(1/2)``, which is symmetric. The number
    depends on the scale of the features, so it means something only beside another that the same
    judge gave.

    Shapes: features (N, F), other_features (M, F) -> float >= 0.  Units: squared features.
    Raises: ValueError unless both are (N, F) with one F and at least two rows each.
    Source: Dowson & Landau (1982); Heusel et al. (2017); chapter "conditional_vae".
    """
    _check_features(features, other_features)
    first, second = features.double(), other_features.double()
    root, covariance = _square_root(_covariance(first)), _covariance(second)
    eigenvalues = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0)
    traces = root.square().sum() + covariance.trace() - 2 * eigenvalues.sqrt().sum()
    means = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    return (means + traces).clamp(min=0).item()


def _covariance(features):
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


def _square_root(covariance):
    """The symmetric square root of a covariance matrix (F, F)."""
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    return vectors * eigenvalues.clamp(min=0).sqrt() @ vectors.T


def _check_features(features, other_features):
    shapes = tuple(features.shape), tuple(other_features.shape)
    fit = all(len(shape) == 2 and shape[0] > 1 for shape in shapes) and shapes[0][1] == shapes[1][1]
    if not fit:
        raise ValueError(
            f"the features have shapes {shapes[0]} and {shapes[1]}: (N, F) and (M, F) are wanted, "
            "with one F and at least two rows each"
        )
