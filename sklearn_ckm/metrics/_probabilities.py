"""Label-free measures of soft assignments."""

# License: BSD-3-Clause

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, logsumexp
from sklearn.utils import check_array, check_scalar

_BLOCK_ROWS = 1024  # of the similarity matrix that is held at once


def information_maximization_score(probabilities: ArrayLike, *, normalize: bool = False) -> float:
    """Mutual information of rows and clusters: sure assignments, all clusters used alike.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_clusters)
        Probability of each cluster, rows sum to one.
    normalize : bool, default=False
        Whether to divide by ``log(n_clusters)``, so that different numbers of clusters compare;
        the score of a single cluster is then 0.

    Returns
    -------
    score : float
        In nats, between 0 and ``log(n_clusters)``, or between 0 and 1; larger is better.

    Raises
    ------
    ValueError
        If a row is no distribution.

    Notes
    -----
    With :math:`p_i` the row and :math:`H` the entropy, :math:`H(\\frac1n\\sum_i p_i) -
    \\frac1n\\sum_i H(p_i)` [1]_. It rewards balance: a target with rare classes is scored low for
    finding them. It also grows as the logits grow, whether or not the clusters are right.

    References
    ----------
    .. [1] J. S. Bridle, A. J. R. Heading, D. J. C. MacKay. Unsupervised classifiers, mutual
       information and 'phantom targets'. NeurIPS 1991.

    Examples
    --------
    >>> from sklearn_ckm.metrics import information_maximization_score
    >>> round(information_maximization_score([[1.0, 0.0], [0.0, 1.0]]), 3)
    0.693
    """
    p = _check_probabilities(probabilities)
    score = max(0.0, float(entr(p.mean(axis=0)).sum() - entr(p).sum(axis=1).mean()))
    if not normalize:
        return score
    return min(1.0, score / np.log(p.shape[1])) if p.shape[1] > 1 else 0.0


def nuclear_norm_score(probabilities: ArrayLike) -> float:
    """Nuclear norm of the assignments: sure, and not all the same.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_clusters)
        Probability of each cluster, rows sum to one.

    Returns
    -------
    score : float
        Between 0 and 1; larger is better.

    Raises
    ------
    ValueError
        If a row is no distribution.

    Notes
    -----
    :math:`\\|P\\|_* / \\sqrt{n \\min(n, k)}` for the (n, k) matrix of the probabilities [1]_. It
    is largest for one-hot rows in clusters of equal size, so that it rewards balance as well.

    References
    ----------
    .. [1] S. Cui, S. Wang, J. Zhuo, L. Li, Q. Huang, Q. Tian. Towards Discriminability and
       Diversity: Batch Nuclear-norm Maximization under Label Insufficient Situations. CVPR 2020.

    Examples
    --------
    >>> from sklearn_ckm.metrics import nuclear_norm_score
    >>> nuclear_norm_score([[1.0, 0.0], [0.0, 1.0]])
    1.0
    """
    p = _check_probabilities(probabilities)
    norm = np.linalg.norm(p, ord="nuc") / np.sqrt(len(p) * min(p.shape))
    return min(1.0, float(norm))


def soft_neighborhood_density_score(
    probabilities: ArrayLike, *, temperature: float = 0.05
) -> float:
    """Soft neighbourhood density: how many others each row resembles in its assignment.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_clusters)
        Probability of each cluster, rows sum to one; at least two rows.
    temperature : float, default=0.05
        Smaller values look at nearer neighbours.

    Returns
    -------
    score : float
        In nats, between 0 and ``log(n_samples - 1)``; larger is better. Compare only scores of
        equally many rows.

    Raises
    ------
    ValueError
        If a row is no distribution, or there is one row only.

    Notes
    -----
    With :math:`f_i = p_i / \\|p_i\\|_2` and :math:`D_{ij} \\propto \\exp(f_i^T f_j / \\tau)`, rows
    of D summing to one and its diagonal left out, :math:`-\\frac1n\\sum_{ij} D_{ij}\\log D_{ij}`
    [1]_. The matrix is computed in blocks of rows. A collapsed clustering, all rows alike, scores
    highest: use it beside a measure of balance.

    References
    ----------
    .. [1] K. Saito, D. Kim, P. Teterwak, S. Sclaroff, T. Darrell, K. Saenko. Tune it the Right
       Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood Density. ICCV 2021.

    Examples
    --------
    >>> from sklearn_ckm.metrics import soft_neighborhood_density_score
    >>> round(soft_neighborhood_density_score([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), 3)
    0.693
    """
    check_scalar(temperature, "temperature", Real, min_val=0, include_boundaries="neither")
    if not np.isfinite(temperature):
        raise ValueError(f"Expected a finite temperature, got {temperature!r}.")
    p = _check_probabilities(probabilities)
    if len(p) < 2:
        raise ValueError(f"Expected at least 2 rows of probabilities, got {len(p)}.")
    f = p / np.linalg.norm(p, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, len(f), _BLOCK_ROWS):
        logits = f[start : start + _BLOCK_ROWS] @ f.T / temperature  # (n_block, n_samples)
        own = np.arange(len(logits))
        logits[own, start + own] = -np.inf
        density = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        total += entr(density).sum()
    return float(total / len(f))


def _check_probabilities(probabilities):
    p = check_array(probabilities, dtype=np.float64, input_name="probabilities")
    sums = p.sum(axis=1)
    if p.min() < 0 or np.abs(sums - 1).max() > 1e-4:
        raise ValueError(
            "Expected rows of probabilities that are non-negative and sum to one, got values from "
            f"{p.min():g} to {p.max():g} and sums from {sums.min():g} to {sums.max():g}."
        )
    return p / sums[:, np.newaxis]
