"""A latent variable model that is solved exactly: everything is linear and Gaussian.

The prior is ``z ~ N(0, I)``, the decoder ``x = W z + b + noise`` with noise of variance
``exp(log_var)`` in every pixel. Its marginal, its posterior and its best parameters
(probabilistic principal component analysis) have closed forms, so it can judge every estimate.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from vae_lessons.kl import kl_to_standard_normal
from vae_lessons.latent_model import LatentModel
from vae_lessons.likelihoods import gaussian_log_likelihood
from vae_lessons.mlp import check_rows, check_sizes


class LinearGaussian(LatentModel):
    """The linear VAE: decoder N(W z + b, exp(log_var) I), encoder N(V (x - b), diag exp(s)).

    Shapes: x (B, input_dim), z (B, latent_dim).
    Raises: ValueError for sizes below 1 or an x that is not (B, input_dim).
    Source: Tipping & Bishop (1999); Lucas et al. (2019); chapter "elbo".
    """

    def __init__(self, input_dim, latent_dim, dtype=torch.float64):
        super().__init__()
        check_sizes(input_dim=input_dim, latent_dim=latent_dim)
        self.weight = nn.Parameter(0.1 * torch.randn(input_dim, latent_dim, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(input_dim, dtype=dtype))
        self.log_var = nn.Parameter(torch.zeros((), dtype=dtype))
        self.encoder_weight = nn.Parameter(0.1 * torch.randn(latent_dim, input_dim, dtype=dtype))
        self.encoder_log_var = nn.Parameter(torch.zeros(latent_dim, dtype=dtype))

    def encode(self, x):
        """Centre and log variance of q(z given x): (B, D) -> two of (B, L)."""
        check_rows(x, len(self.bias))
        mu = (x - self.bias) @ self.encoder_weight.T
        return mu, self.encoder_log_var.expand_as(mu)

    def decode(self, z):
        """The mean of p(x given z): (B, L) -> (B, D)."""
        check_rows(z, self.weight.shape[1], "z")
        return z @ self.weight.T + self.bias

    def log_px_z(self, x, z):
        """Log density of x given z: (B, D), (B, L) -> (B,) in nats."""
        return gaussian_log_likelihood(x, self.decode(z), self.log_var)

    def analytic_elbo(self, x):
        """The ELBO with its expectation over q done by hand: (B, D) -> (B,) in nats.

        A squared distance averaged over q is that of the mean plus ``trace(W S W^T)``.
        """
        mu, log_var = self.encode(x)
        spread = log_var.exp() @ self.weight.square().sum(dim=0)
        reconstruction = self.log_px_z(x, mu) - 0.5 * spread / self.log_var.exp()
        return reconstruction - kl_to_standard_normal(mu, log_var)

    def log_px(self, x):
        """The exact log p(x), a Gaussian with covariance ``W W^T + var I``: (B, D) -> (B,)."""
        check_rows(x, len(self.bias))
        identity = torch.eye(len(self.bias), dtype=x.dtype)
        covariance = self.weight @ self.weight.T + self.log_var.exp() * identity
        # torch's own checks would refuse an empty batch
        marginal = MultivariateNormal(self.bias, covariance, validate_args=False)
        return marginal.log_prob(x)

    def exact_posterior(self, x):
        """p(z given x), the same covariance for every x: (B, D) -> mean (B, L), (L, L)."""
        check_rows(x, len(self.bias))
        var, identity = self.log_var.exp(), torch.eye(self.weight.shape[1], dtype=x.dtype)
        covariance = torch.linalg.inv(identity + self.weight.T @ self.weight / var)
        return (x - self.bias) @ self.weight @ covariance / var, covariance

    def gap(self, x):
        """KL from q(z given x) to the exact posterior, in closed form: (B, D) -> (B,) in nats."""
        mu, log_var = self.encode(x)
        mean, covariance = self.exact_posterior(x)
        posterior = MultivariateNormal(mean, covariance, validate_args=False)
        q = MultivariateNormal(mu, torch.diag_embed(log_var.exp()), validate_args=False)
        return kl_divergence(q, posterior)

    @torch.no_grad()
    def use_exact_posterior(self):
        """Sets the encoder to the exact posterior; exact where the columns of W are orthogonal.

        Raises: ValueError if they are not: the posterior then has correlations, and no diagonal
        encoder can equal it.
        """
        _, covariance = self.exact_posterior(self.bias[None])
        off_diagonal = covariance - torch.diag(covariance.diagonal())
        if off_diagonal.abs().max() > 1e-9:
            raise ValueError(
                "the columns of the weight are not orthogonal, so the exact posterior is not "
                "diagonal: use the weight of ppca_optimum, or rotate the columns by an SVD"
            )
        self.encoder_weight.copy_(covariance @ self.weight.T / self.log_var.exp())
        self.encoder_log_var.copy_(covariance.diagonal().log())


class Optimum(NamedTuple):
    """The maximum-likelihood parameters and the mean log p(x) that they reach, in nats."""

    weight: torch.Tensor
    bias: torch.Tensor
    log_var: torch.Tensor
    log_likelihood: float


def ppca_optimum(x, latent_dim):
    """The best linear-Gaussian model of the data, in closed form.

    The noise variance is the mean of the eigenvalues of the covariance that are left out; the
    columns of W are the leading eigenvectors times ``sqrt(eigenvalue - variance)``.

    Shapes: x (N, D) -> weight (D, latent_dim), bias (D,), log_var (), log_likelihood.
    Raises: ValueError if latent_dim is not between 1 and D - 1.
    Source: Tipping & Bishop (1999), section 3.2; chapter "elbo".
    """
    dim = x.shape[1]
    if not 1 <= latent_dim < dim:
        raise ValueError(f"latent_dim is {latent_dim}: it must lie between 1 and {dim - 1}")
    values, vectors = torch.linalg.eigh(x.T.cov(correction=0))
    variance = values[:-latent_dim].mean()
    scale = (values[-latent_dim:] - variance).clamp(min=0).sqrt()
    log_det = values[-latent_dim:].log().sum() + (dim - latent_dim) * variance.log()
    log_likelihood = -0.5 * (dim * math.log(2 * math.pi) + log_det + dim)
    weight = vectors[:, -latent_dim:] * scale
    return Optimum(weight, x.mean(dim=0), variance.log(), log_likelihood.item())


def train_on_all(model, x, *, iterations=500):
    """Maximises the mean analytic ELBO on all data at once with L-BFGS; returns its last value.

    Shapes: x (N, D) in float64.  Units: nats per example.
    Source: Nocedal & Wright (2006), chapter 7, for L-BFGS; chapter "elbo".
    """
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=iterations, history_size=50,
        tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe",
    )

    def loss():
        optimizer.zero_grad()
        value = -model.analytic_elbo(x).mean()
        value.backward()
        return value

    optimizer.step(loss)
    return model.analytic_elbo(x).mean().item()
