"""Similarities to a support set, and the entropy of what they say."""

import torch
from torch.nn.functional import normalize


def support_similarity(query: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Inner products of queries with supports of unit length.

    Parameters
    ----------
    query : Tensor of shape (n_samples, n_components)
        Embeddings; their length counts.
    support : Tensor of shape (n_support, n_components)
        Embeddings or class means; their length does not count.

    Returns
    -------
    similarity : Tensor of shape (n_samples, n_support)
        :math:`\\langle s / \\|s\\|, t \\rangle`.

    References
    ----------
    .. [1] Z. Luo, Y. Zou, J. Hoffman, L. Fei-Fei. Label Efficient Learning of Transferable
       Representations across Domains and Tasks. NeurIPS 2017, section 3.3.
    """
    return query @ normalize(support, dim=1).T


def entropy_loss(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Mean entropy of the softmax of logits over a temperature.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Unnormalised log-probabilities.
    temperature : float, default=1.0
        Larger values make the softmax more even.

    Returns
    -------
    loss : Tensor of shape ()
        In nats, from 0 to ``log(n_classes)``; a mean over samples.

    References
    ----------
    .. [1] Z. Luo, Y. Zou, J. Hoffman, L. Fei-Fei. Label Efficient Learning of Transferable
       Representations across Domains and Tasks. NeurIPS 2017, section 3.3.
    """
    log_p = (logits / temperature).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()
