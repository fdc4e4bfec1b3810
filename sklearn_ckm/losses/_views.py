"""Agreement of two views of the same samples, and of the clusters' sizes with a prior."""

from math import log

import torch


def view_consistency_loss(log_p: torch.Tensor, log_p_view: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between the cluster probabilities of two views, both ways.

    Parameters
    ----------
    log_p, log_p_view : Tensor of shape (n_samples, n_clusters)
        Finite log-probabilities of the same samples in two views, in nats. The gradient flows
        through both, as targets too: each view is drawn to be confident, not only to agree.

    Returns
    -------
    loss : Tensor of shape ()
        ``-mean_i sum_j (p_ij log q_ij + q_ij log p_ij) / 2``, at least 0.

    References
    ----------
    .. [1] M. Caron et al. Unsupervised Learning of Visual Features by Contrasting Cluster
       Assignments. NeurIPS 2020 (the swapped prediction).
    .. [2] W. Hu et al. Learning Discrete Representations via Information Maximizing
       Self-Augmented Training. ICML 2017.
    """
    cross = log_p.exp() * log_p_view + log_p_view.exp() * log_p
    return -cross.sum() / (2 * len(log_p))


def class_consistency_loss(log_p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between the cluster probabilities of samples of one class, both ways.

    Where classes are known, samples of one class are views of each other. Each labelled sample is
    compared with the next one of its class in the batch.

    Parameters
    ----------
    log_p : Tensor of shape (n_samples, n_clusters)
        Finite log-probabilities, in nats.
    y : Tensor of shape (n_samples,)
        Class indices; negative ones mean "unlabelled" and do not count.

    Returns
    -------
    loss : Tensor of shape ()
        Mean over the pairs, at least 0; 0 where no two samples have a class in common.

    References
    ----------
    .. [1] Y.-C. Hsu, Z. Lv, Z. Kira. Learning to Cluster in Order to Transfer Across Domains and
       Tasks. ICLR 2018 (similar pairs as what is transferred).
    """
    order = y.argsort(stable=True)
    log_p, y = log_p[order], y[order]
    is_pair = (y[1:] == y[:-1]) & (y[1:] >= 0)
    first, second = log_p[:-1], log_p[1:]
    cross = (first.exp() * second + second.exp() * first).sum(1)
    return (-cross * is_pair).sum() / (2 * is_pair.sum().clamp_min(1))


def balance_loss(log_p: torch.Tensor, log_prior: torch.Tensor | None = None) -> torch.Tensor:
    """Divergence of the mean cluster probability of a batch from a prior.

    Parameters
    ----------
    log_p : Tensor of shape (n_samples, n_clusters)
        Finite log-probabilities, in nats.
    log_prior : Tensor of shape (n_clusters,), default=None
        Logarithm of the expected share of each cluster; None expects equal shares.

    Returns
    -------
    loss : Tensor of shape ()
        ``sum_j m_j (log m_j - log prior_j)`` with ``m = mean_i p_i``: zero where the shares are
        as expected, and near ``log n_clusters`` where one of equally expected clusters holds all.

    References
    ----------
    .. [1] A. Krause, P. Perona, R. Gomes. Discriminative Clustering by Regularized Information
       Maximization. NeurIPS 2010.
    """
    log_mean = log_p.logsumexp(0) - log(len(log_p))  # (n_clusters,)
    expected = -log(log_p.shape[1]) if log_prior is None else log_prior
    return (log_mean.exp() * (log_mean - expected)).sum()
