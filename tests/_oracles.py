"""Naive reference implementations, in float64 numpy and with loops, and small shared helpers."""

import math
from contextlib import contextmanager

import numpy as np
import torch


def loop_squared_distances(z, centers):
    distances = np.zeros((len(z), len(centers)))
    for i, row in enumerate(z):
        for j, center in enumerate(centers):
            distances[i, j] = sum((a - b) ** 2 for a, b in zip(row, center, strict=True))
    return distances


def loop_softmax(logits):
    rows = []
    for row in logits:
        exponentials = [math.exp(value - max(row)) for value in row]
        rows.append([value / sum(exponentials) for value in exponentials])
    return np.array(rows)


def loop_kmeans_loss(z, centers):
    """Mean squared distance to the nearest centre."""
    return sum(min(row) for row in loop_squared_distances(z, centers)) / len(z)


def loop_kmeans_gradients(z, centers, choice):
    """Gradients of the mean squared distance to the chosen centre, the choice held fixed."""
    z_gradient, center_gradient = np.zeros_like(z), np.zeros_like(centers)
    for i, j in enumerate(choice):
        z_gradient[i] += 2 * (z[i] - centers[j]) / len(z)
        center_gradient[j] -= 2 * (z[i] - centers[j]) / len(z)
    return z_gradient, center_gradient


def loop_assignment_gradient(z, centers, choice, form):
    """Gradient of one sample's loss with respect to its assignment, row by row."""
    gradient = np.zeros((len(z), len(centers)))
    for i, c in enumerate(choice):
        for j, center in enumerate(centers):
            if form == "A":
                gradient[i, j] = -2 * (z[i] - centers[c]) @ center
            else:
                gradient[i, j] = np.sum((z[i] - center) ** 2)
    return gradient


def softmax_pullback(soft, gradient):
    """Transposed Jacobian of the softmax (value `soft`) times a gradient, row by row."""
    return np.array([p * (a - p @ a) for p, a in zip(soft, gradient, strict=True)])


def expected_distance_gradient(logits, distances):
    """Gradient of ``sum_j pi_j d_j`` with respect to the logits, the distances held fixed."""
    return softmax_pullback(loop_softmax(logits), distances)


def loop_reconstruction_loss(x, reconstruction):
    total = 0.0
    for row, answer in zip(x, reconstruction, strict=True):
        total += sum((a - b) ** 2 for a, b in zip(row.ravel(), answer.ravel(), strict=True))
    return total / len(x)


def loop_cross_entropy(logits, y):
    """Mean over the labelled rows (``y >= 0``), 0 where there is none."""
    losses = [
        -math.log(row[label])
        for row, label in zip(loop_softmax(logits), y, strict=True)
        if label >= 0
    ]
    return sum(losses) / max(len(losses), 1)


def random_clusters(n_samples=12, n_clusters=4, n_components=3, *, scale=1.5, seed=0):
    """Random float64 embeddings and centres, as numpy arrays."""
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=scale, size=(n_samples, n_components))
    return z, rng.normal(scale=scale, size=(n_clusters, n_components))


def leaves(device, *arrays):
    """Tensors of the arrays that record gradients."""
    return [torch.tensor(array, device=device, requires_grad=True) for array in arrays]


def to_numpy(tensor):
    return tensor.detach().cpu().numpy()


@contextmanager
def torch_state_unchanged():
    """Fail where the block draws from torch's global CPU generator."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())


def early_balance(i, max_epochs):
    """Factor on the weight of the balance in epoch `i` of the fine-tuning, counted from 0."""
    return 3.0 ** max(0.0, 1 - 2 * i / max_epochs)
