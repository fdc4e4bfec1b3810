"""Concrete k-means: straight-through one-hot assignments and the loss that they give."""

import torch
from torch.nn.functional import one_hot

from ._distances import squared_distances

ESTIMATORS = ("gumbel", "straight-through", "reinmax", "detached", "soft")
FORMS = ("A", "B")
_SMALLEST = 1e-20  # exponential draws are kept above it, so that their logarithm stays finite


def standard_gumbel_like(
    logits: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Standard Gumbel noise of the shape, dtype and device of `logits`.

    Parameters
    ----------
    logits : Tensor
        float32 or float64; half precision has too few distinct values for this.
    generator : torch.Generator, default=None
        Source of randomness, on the device of `logits`.

    Returns
    -------
    noise : Tensor
        Independent draws of ``-log E``, ``E ~ Exp(1)``.
    """
    exponential = torch.empty_like(logits).exponential_(generator=generator)
    return exponential.clamp_min_(_SMALLEST).log_().neg_()


def straight_through_assignment(
    logits: torch.Tensor,
    *,
    relaxation: float = 1.0,
    noise: float = 1.0,
    estimator: str = "reinmax",
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One-hot assignments whose gradient reaches the logits.

    The forward value is exactly one-hot (for ``"soft"``: the softmax); the backward pass is that
    of a relaxation.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_clusters)
        Unnormalised log-probabilities, float32 or float64.
    relaxation : float, default=1.0
        Temperature tau of the relaxed backward pass, positive. Smaller values bring the gradient
        of ``"gumbel"`` nearer to the truth and raise its variance.
    noise : float, default=1.0
        Scale nu of the Gumbel noise. 1 samples from ``softmax(logits)``, 0 takes the largest.
    estimator : {"gumbel", "straight-through", "reinmax", "detached", "soft"}, default="reinmax"
        The backward pass. ``"gumbel"``: softmax of the noisy logits over tau (straight-through
        Gumbel-softmax). ``"straight-through"``: softmax of the logits over tau, without the
        noise. ``"reinmax"``: second-order accurate; exact in expectation for losses that are
        quadratic in the assignment, at tau = nu = 1. ``"detached"``: no gradient, the k-means
        rule. ``"soft"``: no sampling at all, forward and backward are the softmax.
    generator : torch.Generator, default=None
        Source of the noise.

    Returns
    -------
    assignment : Tensor of shape (n_samples, n_clusters)
        Rows sum to one.
    choice : Tensor of shape (n_samples,)
        Index of the cluster that was chosen.

    Raises
    ------
    ValueError
        If `relaxation` is not positive, `noise` is negative or `estimator` is unknown.

    References
    ----------
    .. [1] E. Jang, S. Gu, B. Poole. Categorical Reparameterization with Gumbel-Softmax. ICLR 2017.
    .. [2] C. J. Maddison, A. Mnih, Y. W. Teh. The Concrete Distribution. ICLR 2017.
    .. [3] L. Liu et al. Bridging Discrete and Backpropagation: Straight-Through and Beyond.
       NeurIPS 2023.
    """
    if not relaxation > 0:
        raise ValueError(f"Expected a positive relaxation, got {relaxation!r}.")
    if not noise >= 0:
        raise ValueError(f"Expected a noise scale of at least 0, got {noise!r}.")
    if estimator not in ESTIMATORS:
        raise ValueError(f"Expected an estimator among {ESTIMATORS}, got {estimator!r}.")

    if estimator == "soft":
        soft = (logits / relaxation).softmax(1)
        return soft, logits.argmax(1)
    noisy = logits
    if noise > 0:
        noisy = logits.detach() + noise * standard_gumbel_like(logits, generator)
    choice = noisy.detach().argmax(1)
    hard = one_hot(choice, logits.shape[1]).to(logits.dtype)
    if estimator == "detached":
        return hard, choice
    if estimator == "reinmax":
        return _reinmax(logits, hard, relaxation), choice
    if estimator == "gumbel":
        # the noise is a constant of the backward pass
        soft = ((logits + (noisy - logits).detach()) / relaxation).softmax(1)
    else:
        soft = (logits / relaxation).softmax(1)
    return hard - soft.detach() + soft, choice


def _reinmax(logits, hard, relaxation):
    """Straight-through surrogate with the gradient ``J(pi_D)^T 2a - J(pi)^T a / 2``."""
    soft = logits.softmax(1)
    middle = ((logits / relaxation).softmax(1).detach() + hard) / 2
    # a softmax of value `middle`, with the identity as inner derivative
    shift = middle.clamp_min(_SMALLEST).log() - logits.detach()
    surrogate = 2 * (logits + shift).softmax(1) - soft / 2
    return hard - surrogate.detach() + surrogate


def concrete_kmeans_loss(
    z: torch.Tensor,
    centers: torch.Tensor,
    assignment: torch.Tensor,
    *,
    form: str = "B",
    distances: torch.Tensor | None = None,
) -> torch.Tensor:
    """Concrete k-means loss: mean over samples, sum over features.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        Embeddings.
    centers : Tensor of shape (n_clusters, n_components)
        Cluster centres.
    assignment : Tensor of shape (n_samples, n_clusters)
        One-hot rows of :func:`straight_through_assignment`.
    form : {"A", "B"}, default="B"
        ``"A"``: ``mean_i |z_i - h_i M|^2``, as the paper prints it. ``"B"``:
        ``mean_i sum_j h_ij |z_i - mu_j|^2``. Equal in value for one-hot rows; their gradients
        with respect to the assignment differ.
    distances : Tensor of shape (n_samples, n_clusters), default=None
        Squared distances, where they are at hand already (form B only).

    Returns
    -------
    loss : Tensor of shape ()
        Mean over samples of the sum over features.

    Raises
    ------
    ValueError
        If `form` is unknown.

    References
    ----------
    .. [1] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering for Domain Adaptation.
       ICASSP 2020, Eq. 2.
    """
    if form == "A":
        dtype = assignment.dtype
        return (z.to(dtype) - assignment @ centers.to(dtype)).square().sum() / len(z)
    if form != "B":
        raise ValueError(f"Expected a form among {FORMS}, got {form!r}.")
    if distances is None:
        distances = squared_distances(z, centers)
    return (assignment * distances).sum() / len(z)
