"""Soft k-means as an objective of the training loop."""

from collections.abc import Callable
from numbers import Real

import torch

from ..losses import soft_kmeans_loss, squared_distances
from ._base import BaseClusteringObjective, ClusteringStep, current_temperature
from ._schedules import Schedule, check_schedule, is_schedule, scheduled


class SoftKMeansObjective(BaseClusteringObjective):
    """Soft k-means (deep k-means): every row is drawn to all centres, as likely as they are.

    Minimises, over the encoder and the centres,

    .. math:: \\frac{1}{n} \\sum_i \\sum_j p_{ij} \\| z_i - \\mu_j \\|^2, \\quad
              p_{ij} \\propto \\exp(-\\alpha \\| z_i - \\mu_j \\|^2 / T),

    with the gradient through :math:`p` as well.

    Parameters
    ----------
    sharpness : float, pair of floats or callable, default=1.0
        The factor alpha on the logits. A pair is a start and an end, interpolated geometrically
        over the epochs, all of which are run then; a callable maps the progress in [0, 1) to a
        value. Large values approach the hard k-means loss.

    See Also
    --------
    ConcreteKMeansObjective : Hard assignments.

    Notes
    -----
    The loss is a mean over samples of a sum over features.

    *Differences from the source.* The paper's alpha multiplies raw squared distances; here it
    multiplies logits on the estimator's `temperature` T, so that its effect does not hang on the
    scale of the embedding. ``temperature=1.0`` is the literal form.

    References
    ----------
    .. [1] M. Moradi Fard, T. Thonet, E. Gaussier. Deep k-Means: Jointly Clustering with k-Means
       and Learning Representations. Pattern Recognition Letters 138, 2020.

    Examples
    --------
    >>> from sklearn_ckm.objectives import SoftKMeansObjective
    >>> SoftKMeansObjective(sharpness=(0.1, 10.0)).get_params()
    {'sharpness': (0.1, 10.0)}
    """

    def __init__(self, *, sharpness: Schedule = 1.0) -> None:
        self.sharpness = sharpness

    @property
    def is_scheduled(self) -> bool:
        """Whether a setting changes over the epochs, of which all are run then."""
        return is_schedule(self.sharpness)

    def check_settings(self) -> None:
        """Raise ``ValueError`` where a setting makes no sense.

        Raises
        ------
        ValueError
            If a sharpness is not positive.
        """
        check_schedule(self.sharpness, "sharpness", is_valid=_is_positive, wanted="positive")

    def step(
        self,
        z: torch.Tensor,
        centers: torch.Tensor,
        temperature: torch.Tensor | Callable[[torch.Tensor], torch.Tensor],
        *,
        progress: float = 0.0,
        generator: torch.Generator | None = None,
        index: torch.Tensor | None = None,
        state: dict[str, torch.Tensor] | None = None,
    ) -> ClusteringStep:
        """Loss of one batch; see :meth:`BaseClusteringObjective.step`."""
        distances = squared_distances(z, centers)
        logits = self.log_probabilities(distances, current_temperature(temperature, distances))
        sharpness = scheduled(self.sharpness, progress, geometric=True)
        if not sharpness > 0:  # a callable is not checked before
            raise ValueError(f"Expected a positive sharpness, got {sharpness!r}.")
        loss = soft_kmeans_loss(distances, (sharpness * logits).log_softmax(1))
        return ClusteringStep(loss, distances, logits, logits.detach().argmax(1))


def _is_positive(value):
    return isinstance(value, Real) and 0 < value < float("inf")
