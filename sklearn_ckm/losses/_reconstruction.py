"""The autoencoder's loss."""

import torch


def reconstruction_loss(x: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """Squared reconstruction error: mean over samples, sum over features.

    Parameters
    ----------
    x : Tensor of shape (n_samples, ...)
        Inputs.
    reconstruction : Tensor of the same shape
        The decoder's answer.

    Returns
    -------
    loss : Tensor of shape ()
        ``mean_i sum_p (x_ip - reconstruction_ip)^2``.

    References
    ----------
    .. [1] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering for Domain Adaptation.
       ICASSP 2020, Eq. 1.
    """
    return (x - reconstruction).square().sum() / len(x)
