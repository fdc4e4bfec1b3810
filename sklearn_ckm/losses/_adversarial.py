"""Losses of adversarial alignment."""

import torch
from torch.nn.functional import softplus


def domain_discrimination_loss(
    source_logits: torch.Tensor, target_logits: torch.Tensor
) -> torch.Tensor:
    """Binary cross-entropy of a domain discriminator, each domain on average.

    Parameters
    ----------
    source_logits : Tensor of shape (n_source,)
        Logits of "source" for source rows.
    target_logits : Tensor of shape (n_target,)
        Logits of "source" for target rows.

    Returns
    -------
    loss : Tensor of shape ()
        In nats: ``-mean log d(source) - mean log (1 - d(target))``.

    References
    ----------
    .. [1] Y. Ganin, V. Lempitsky. Unsupervised Domain Adaptation by Backpropagation. ICML 2015.
    """
    return softplus(-source_logits).mean() + softplus(target_logits).mean()


def domain_confusion_loss(target_logits: torch.Tensor) -> torch.Tensor:
    """What an encoder of the target minimises to pass for the source.

    Parameters
    ----------
    target_logits : Tensor of shape (n_target,)
        A discriminator's logits of "source" for target rows.

    Returns
    -------
    loss : Tensor of shape ()
        In nats: ``-mean log d(target)``, the discriminator's loss with the domains swapped.

    References
    ----------
    .. [1] Z. Luo, Y. Zou, J. Hoffman, L. Fei-Fei. Label Efficient Learning of Transferable
       Representations across Domains and Tasks. NeurIPS 2017, section 3.2.
    """
    return softplus(-target_logits).mean()
