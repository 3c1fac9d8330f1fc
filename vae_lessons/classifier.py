"""A small network that reads digits: the judge of samples."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from vae_lessons.mlp import check_rows
from vae_lessons.training import cosine


class Classifier(nn.Module):
    """A convolutional network for 28 x 28 grey images of ten classes.

    Shapes: x (B, 784) in [0, 1] -> logits (B, 10); features (B, 64).
    Raises: ValueError if x is not (B, 784).
    """

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(),
        )
        self.head = nn.Linear(64, 10)

    def features(self, x):
        """What the last hidden layer says of each image: (B, 784) -> (B, 64)."""
        check_rows(x, 784)
        return self.body(x)

    def forward(self, x):
        return self.head(self.features(x))


def fit_classifier(model, images, labels, *, epochs, batch_size=128, learning_rate=4e-3, seed=0):
    """Trains the classifier on the cross-entropy, with Adam and the cosine schedule.

    Shapes: images (N, 784), labels (N,) from 0 to 9.
    Raises: ValueError if images and labels differ in number or there are none.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            f"got {len(images)} images and {len(labels)} labels: "
            "give one label for each image, and at least one"
        )
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    schedule, step = cosine(), 0
    total_steps = epochs * math.ceil(len(images) / batch_size)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
            optimizer.param_groups[0]["lr"] = learning_rate * schedule((step + 0.5) / total_steps)
            step += 1
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


@torch.no_grad()
def class_probabilities(model, images):
    """What the judge believes of each image: (N, 784) -> (N, 10), rows that add up to 1."""
    return torch.cat([model(x).softmax(dim=1) for x in images.split(1000)])
