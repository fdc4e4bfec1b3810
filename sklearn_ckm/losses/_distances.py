"""Squared Euclidean distances between embeddings and centres."""

import torch


def squared_distances(z: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distance of each embedding to each centre.

    Differences are formed explicitly: the expansion ``|z|^2 - 2 z.m + |m|^2`` loses all digits in
    float32 when the norms are much larger than the spread. Half precision is raised to float32,
    also under autocast.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        Embeddings.
    centers : Tensor of shape (n_clusters, n_components)
        Cluster centres.

    Returns
    -------
    distances : Tensor of shape (n_samples, n_clusters)
        Squared distances, float32 or float64.
    """
    dtype = torch.promote_types(torch.promote_types(z.dtype, centers.dtype), torch.float32)
    difference = z.to(dtype).unsqueeze(1) - centers.to(dtype).unsqueeze(0)  # (n, k, d)
    return difference.square().sum(-1)
