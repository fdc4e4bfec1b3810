"""Losses of a space of binary factors."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ._distances import squared_distances


def factorization_loss(factor_logits: torch.Tensor) -> torch.Tensor:
    """Entropy of independent binary factors: small where each is close to on or off.

    Parameters
    ----------
    factor_logits : Tensor of shape (n_samples, n_factors)
        Logits of the factors.

    Returns
    -------
    loss : Tensor of shape ()
        In nats: mean over samples, sum over factors of the binary entropy, from 0 to
        ``n_factors * log(2)``.
    """
    p = factor_logits.sigmoid()
    entropy = binary_cross_entropy_with_logits(factor_logits, p, reduction="none")
    return entropy.sum(1).mean()


def graph_loss(z: torch.Tensor, affinity: torch.Tensor) -> torch.Tensor:
    """Laplacian smoothness: similar rows should have close embeddings.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        Embeddings.
    affinity : Tensor of shape (n_samples, n_samples)
        Symmetric, non-negative weights of the pairs.

    Returns
    -------
    loss : Tensor of shape ()
        ``sum_ij a_ij |z_i - z_j|^2 / n_samples``, which is twice the trace of ``z.T @ L @ z`` with
        the Laplacian L, over ``n_samples``.
    """
    return (affinity * squared_distances(z, z)).sum() / len(z)
