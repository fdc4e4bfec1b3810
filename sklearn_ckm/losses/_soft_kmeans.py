"""Soft k-means: distances weighted by the probabilities of the centres."""

import torch


def soft_kmeans_loss(distances: torch.Tensor, log_probabilities: torch.Tensor) -> torch.Tensor:
    """Expected squared distance to a centre.

    Parameters
    ----------
    distances : Tensor of shape (n_samples, n_clusters)
        Squared distances to the centres.
    log_probabilities : Tensor of shape (n_samples, n_clusters)
        Logarithm of the assignments, through which the gradient flows too.

    Returns
    -------
    loss : Tensor of shape ()
        Mean over samples of :math:`\\sum_j p_{ij} \\|z_i - \\mu_j\\|^2`.

    References
    ----------
    .. [1] M. Moradi Fard, T. Thonet, E. Gaussier. Deep k-Means: Jointly Clustering with k-Means
       and Learning Representations. Pattern Recognition Letters 138, 2020, Eq. 3.
    """
    return (log_probabilities.exp() * distances).sum() / len(distances)
