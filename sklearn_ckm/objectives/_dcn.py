"""Deep clustering network as an objective of the training loop."""

from collections.abc import Callable
from numbers import Real

import torch
from torch.nn.functional import one_hot

from ..losses import squared_distances
from ._base import BaseClusteringObjective, ClusteringStep, current_temperature


class DCNObjective(BaseClusteringObjective):
    """Deep clustering network: the encoder and the centres are updated in turn.

    The encoder minimises, with assignments and centres held fixed,

    .. math:: \\frac{1}{2n} \\sum_i \\min_j \\| z_i - \\mu_j \\|^2.

    After each of its updates, every row of the batch moves its nearest centre towards itself,

    .. math:: c_j \\leftarrow c_j + 1, \\quad \\mu_j \\leftarrow \\mu_j - (\\mu_j - z_i) / c_j,

    where :math:`c_j` counts the rows that the centre has seen since the fine-tuning began.

    Parameters
    ----------
    initial_count : float, default=100.0
        Rows that each centre counts as seen at the start, at least 0. Larger values make the
        centres slower.

    See Also
    --------
    ConcreteKMeansObjective : Trains the centres by gradient, with the encoder.

    Notes
    -----
    Both this loss and the reconstruction are means over samples of sums over features. The
    assignments of a batch are made once, before its rows move the centres, so the rule has the
    closed form :math:`\\mu_j \\leftarrow (c_j \\mu_j + \\sum_i z_i) / (c_j + n_j)`.

    No gradient of the clustering term reaches the centres; that of views does, and in the
    semi-supervised estimator that of the labelled rows.

    *Differences from the source.* The authors' code starts k-means anew every ten epochs; this
    class follows the paper, where the rule alone moves the centres. The count of 100 is from the
    code, not from the paper.

    References
    ----------
    .. [1] B. Yang, X. Fu, N. D. Sidiropoulos, M. Hong. Towards K-means-friendly Spaces:
       Simultaneous Deep Learning and Clustering. ICML 2017, Eqs. 4, 6 and 8.

    Examples
    --------
    >>> from sklearn_ckm.objectives import DCNObjective
    >>> DCNObjective().get_params()
    {'initial_count': 100.0}
    """

    moves_centers = True

    def __init__(self, *, initial_count: float = 100.0) -> None:
        self.initial_count = initial_count

    def check_settings(self) -> None:
        """Raise ``ValueError`` where a setting makes no sense.

        Raises
        ------
        ValueError
            If `initial_count` is negative or infinite.
        """
        if not (isinstance(self.initial_count, Real) and 0 <= self.initial_count < float("inf")):
            raise ValueError(
                f"Expected 'initial_count' to be a finite number of at least 0, got "
                f"{self.initial_count!r}."
            )

    def start(self, centers: torch.Tensor) -> dict[str, torch.Tensor]:
        """Start the counts; see :class:`BaseClusteringObjective`."""
        shape, device = len(centers), centers.device
        return {"counts": torch.full((shape,), float(self.initial_count), device=device)}

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
        distances = squared_distances(z, centers)  # of which views have a gradient for the centres
        choice = distances.detach().argmin(1)
        loss = (z - centers.detach()[choice]).square().sum() / (2 * len(z))
        logits = self.log_probabilities(distances, current_temperature(temperature, distances))
        return ClusteringStep(loss, distances, logits, choice)

    @torch.no_grad()
    def move_centers(
        self, state: dict[str, torch.Tensor], z: torch.Tensor, centers: torch.Tensor
    ) -> None:
        """Move each centre to its running mean; see :class:`BaseClusteringObjective`."""
        nearest = squared_distances(z, centers).argmin(1)
        members = one_hot(nearest, len(centers)).to(z.dtype)  # (n, k)
        n_new = members.sum(0)
        counts = state["counts"]
        shift = members.T @ z - n_new.unsqueeze(1) * centers  # relative: exact for far centres too
        centers.add_(shift / (counts + n_new).clamp_min(1).unsqueeze(1))
        counts.add_(n_new)
