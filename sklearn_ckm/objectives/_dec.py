"""Deep embedded clustering as an objective of the training loop."""

from collections.abc import Callable
from numbers import Integral, Real

import torch

from ..losses import (
    deep_embedded_clustering_loss,
    squared_distances,
    student_t_log_probabilities,
    target_distribution,
)
from ._base import BaseClusteringObjective, ClusteringStep


class DECObjective(BaseClusteringObjective):
    """Deep embedded clustering: soft assignments learn from a sharper version of themselves.

    Minimises, over the encoder and the centres,

    .. math:: \\frac{1}{n} \\sum_i \\sum_j p_{ij} \\log \\frac{p_{ij}}{q_{ij}},

    with Student's t assignments :math:`q` and the target distribution :math:`p`, which is computed
    from the whole target before every `refresh_every`-th epoch and held constant in between.

    Parameters
    ----------
    alpha : float, default=1.0
        Degrees of freedom of the t distribution, positive.
    refresh_every : int, default=1
        Epochs between two computations of the target distribution.

    See Also
    --------
    ConcreteKMeansObjective : Hard assignments.

    Notes
    -----
    The loss is a mean over samples of a sum over clusters, in nats. The t distribution has unit
    scale, so `temperature` is not read; ``predict_proba`` is :math:`q`. The centres are trained by
    gradient with the encoder.

    *Differences from the source.* The reconstruction stays in the joint loss, as in IDEC [2]_ and
    in the comparison of [3]_; the original drops the decoder. The original refreshes the target
    distribution after a fixed number of batches, about once or twice an epoch.

    References
    ----------
    .. [1] J. Xie, R. Girshick, A. Farhadi. Unsupervised Deep Embedding for Clustering Analysis.
       ICML 2016.
    .. [2] X. Guo, L. Gao, X. Liu, J. Yin. Improved Deep Embedded Clustering with Local Structure
       Preservation. IJCAI 2017.
    .. [3] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering for Domain Adaptation.
       ICASSP 2020, section 4.1.

    Examples
    --------
    >>> from sklearn_ckm.objectives import DECObjective
    >>> DECObjective(refresh_every=2).get_params()
    {'alpha': 1.0, 'refresh_every': 2}
    """

    def __init__(self, *, alpha: float = 1.0, refresh_every: int = 1) -> None:
        self.alpha = alpha
        self.refresh_every = refresh_every

    def check_settings(self) -> None:
        """Raise ``ValueError`` where a setting makes no sense.

        Raises
        ------
        ValueError
            If `alpha` is not positive or `refresh_every` is not a positive int.
        """
        if not (isinstance(self.alpha, Real) and 0 < self.alpha < float("inf")):
            raise ValueError(f"Expected 'alpha' to be a positive number, got {self.alpha!r}.")
        if not (isinstance(self.refresh_every, Integral) and self.refresh_every >= 1):
            raise ValueError(
                f"Expected 'refresh_every' to be a positive int, got {self.refresh_every!r}."
            )

    def needs_all_rows(self, epoch: int) -> bool:
        """Whether the target distribution is due; see :class:`BaseClusteringObjective`."""
        return epoch % self.refresh_every == 0

    def read_all_rows(
        self, state: dict[str, torch.Tensor], distances: torch.Tensor, temperature: torch.Tensor
    ) -> None:
        """Compute the target distribution; see :class:`BaseClusteringObjective`."""
        state["target_distribution"] = target_distribution(self.log_probabilities(distances))

    def log_probabilities(
        self, distances: torch.Tensor, temperature: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logarithm of the Student's t assignments; the temperature is not read.

        Parameters
        ----------
        distances : Tensor of shape (n_samples, n_clusters)
            Squared distances.
        temperature : Ignored
            Present by convention.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_clusters)
            In nats.
        """
        return student_t_log_probabilities(distances, alpha=self.alpha)

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
        if index is None or not state:
            raise ValueError(
                "Expected the state with the target distribution of all rows, and the index of "
                "the batch's rows in it, got none. Call 'start' and 'read_all_rows' first."
            )
        distances = squared_distances(z, centers)
        log_q = self.log_probabilities(distances)
        loss = deep_embedded_clustering_loss(log_q, state["target_distribution"][index])
        return ClusteringStep(loss, distances, log_q, torch.argmax(log_q.detach(), 1))
