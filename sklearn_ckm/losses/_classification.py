"""Cross-entropy of the source classifier."""

import torch
from torch.nn.functional import cross_entropy


def classification_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats, mean over the labelled samples of a batch.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        The classifier's answer.
    y : Tensor of shape (n_samples,)
        Class indices; negative ones mean "unlabelled" and do not count.

    Returns
    -------
    loss : Tensor of shape ()
        0 where no sample is labelled.

    References
    ----------
    .. [1] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering for Domain Adaptation.
       ICASSP 2020, Eq. 3.
    """
    labelled = y >= 0
    total = cross_entropy(logits, y.where(labelled, -100), ignore_index=-100, reduction="sum")
    return total / labelled.sum().clamp_min(1)
