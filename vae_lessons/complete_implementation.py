"""A variational autoencoder for MNIST on one page; needs torch and torchvision, nothing else.

Run it: python complete_implementation.py [folder for the data]
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import datasets, utils


class VAE(nn.Module):
    """Encoder, draw and decoder: images (B, 784) -> logits (B, 784), mu and log_var (B, 20)."""

    def __init__(self, input_dim=784, hidden_dim=400, latent_dim=20):
        super().__init__()
        self.hidden = nn.Linear(input_dim, hidden_dim)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, input_dim)
        )

    def forward(self, x):
        h = F.relu(self.hidden(x))
        mu, log_var = self.mu(h), self.log_var(h)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        return self.decoder(z), mu, log_var


def loss_function(logits, x, mu, log_var):
    """The negative ELBO, summed over the batch, in nats."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum()
    return cross_entropy + kl


def train(model, optimizer, images, batch_size=128):
    """One epoch; the mean loss in nats per image."""
    total = 0.0
    for chosen in torch.randperm(len(images)).split(batch_size):
        x = images[chosen]
        logits, mu, log_var = model(x)
        loss = loss_function(logits, x, mu, log_var)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(images)


@torch.no_grad()
def test(model, images):
    """The mean loss in nats per image, without training."""
    logits, mu, log_var = model(images)
    return loss_function(logits, images, mu, log_var).item() / len(images)


def load(folder, train):
    """MNIST's images as rows of grey values from 0 to 1: (N, 784)."""
    images = datasets.MNIST(folder, train=train, download=True).data
    return images.view(-1, 784) / 255


def main(folder="data", epochs=10):
    """Trains the model, prints both losses of each epoch, and saves 64 new digits."""
    torch.manual_seed(0)
    train_images, test_images = load(folder, True), load(folder, False)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        train_loss = train(model, optimizer, train_images)
        print(f"epoch {epoch:2d}  train {train_loss:.2f}  test {test(model, test_images):.2f}")
    with torch.no_grad():
        samples = torch.sigmoid(model.decoder(torch.randn(64, 20)))
    utils.save_image(samples.view(-1, 1, 28, 28), "samples.png")
    print("64 new digits are in samples.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
