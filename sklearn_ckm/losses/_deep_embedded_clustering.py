"""Deep embedded clustering: Student's t assignments drawn towards a sharper target."""

import torch


def student_t_log_probabilities(distances: torch.Tensor, *, alpha: float = 1.0) -> torch.Tensor:
    """Logarithm of the Student's t assignment to centres.

    Parameters
    ----------
    distances : Tensor of shape (n_samples, n_clusters)
        Squared distances to the centres.
    alpha : float, default=1.0
        Degrees of freedom, positive; larger values have lighter tails.

    Returns
    -------
    log_q : Tensor of shape (n_samples, n_clusters)
        In nats: :math:`\\log q_{ij}` with
        :math:`q_{ij} \\propto (1 + d_{ij} / \\alpha)^{-(\\alpha + 1) / 2}`.

    References
    ----------
    .. [1] J. Xie, R. Girshick, A. Farhadi. Unsupervised Deep Embedding for Clustering Analysis.
       ICML 2016, Eq. 1.
    """
    return (-(alpha + 1) / 2 * (distances / alpha).log1p()).log_softmax(1)


def target_distribution(log_q: torch.Tensor) -> torch.Tensor:
    """Target distribution of deep embedded clustering: assignments squared, clusters balanced.

    Parameters
    ----------
    log_q : Tensor of shape (n_samples, n_clusters)
        Logarithm of the assignments of the *whole* data: the cluster masses are sums over the
        rows, and those of a batch would give another target.

    Returns
    -------
    p : Tensor of shape (n_samples, n_clusters)
        :math:`p_{ij} \\propto q_{ij}^2 / \\sum_i q_{ij}`; rows sum to one.

    References
    ----------
    .. [1] J. Xie, R. Girshick, A. Farhadi. Unsupervised Deep Embedding for Clustering Analysis.
       ICML 2016, Eq. 3.
    """
    return (2 * log_q - log_q.logsumexp(0)).softmax(1)


def deep_embedded_clustering_loss(log_q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the assignments from their target.

    Parameters
    ----------
    log_q : Tensor of shape (n_samples, n_clusters)
        Logarithm of the assignments.
    p : Tensor of shape (n_samples, n_clusters)
        Target distribution of the same rows; a constant.

    Returns
    -------
    loss : Tensor of shape ()
        In nats: mean over samples, sum over clusters of :math:`p \\log (p / q)`.

    References
    ----------
    .. [1] J. Xie, R. Girshick, A. Farhadi. Unsupervised Deep Embedding for Clustering Analysis.
       ICML 2016, Eq. 2.
    """
    return (p.xlogy(p) - p * log_q).sum() / len(p)
