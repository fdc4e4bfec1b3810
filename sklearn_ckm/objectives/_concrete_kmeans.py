"""Concrete k-means as an objective of the training loop."""

from collections.abc import Callable
from numbers import Real

import torch

from ..losses import concrete_kmeans_loss, squared_distances, straight_through_assignment
from ..losses._concrete_kmeans import ESTIMATORS, FORMS
from ._base import BaseClusteringObjective, ClusteringStep, current_temperature
from ._schedules import Schedule, check_schedule, is_schedule, scheduled


class ConcreteKMeansObjective(BaseClusteringObjective):
    """Concrete k-means: hard assignments trained by gradient.

    Minimises, over the encoder and the centres,

    .. math:: \\frac{1}{n} \\sum_i \\| z_i - h_i M \\|^2,

    where the one-hot row :math:`h_i` marks the largest of the logits
    :math:`-\\|z_i - \\mu_j\\|^2 / T`, plus Gumbel noise of scale `noise`, and carries a relaxed
    gradient.

    Parameters
    ----------
    form : {"A", "B"}, default="B"
        ``"A"`` is the loss as printed in the paper, :math:`\\|z - hM\\|^2`; ``"B"`` is
        :math:`\\sum_j h_j \\|z - \\mu_j\\|^2`. For one-hot rows they agree in value and differ in
        the gradient through the assignment.
    estimator : {"gumbel", "straight-through", "reinmax", "detached", "soft"}, default="reinmax"
        The backward pass, see :func:`~sklearn_ckm.losses.straight_through_assignment`.
        ``"gumbel"`` is the paper's, ``"detached"`` the gradient of mini-batch k-means, ``"soft"``
        the exact expectation, whose rows are not one-hot: with form B it is soft k-means.
    relaxation : float, pair of floats or callable, default=1.0
        Temperature tau of the relaxed backward pass. A pair is a start and an end, interpolated
        geometrically over the epochs, all of which are run then (`tol` has no effect); a
        callable maps the progress in [0, 1) to a value.
    noise : float, pair of floats or callable, default=0.0
        Scale nu of the Gumbel noise; a pair is interpolated linearly. 1 draws assignments with
        the probabilities of the logits, as in the paper; 0 takes the nearest centre, as prediction
        does.
    reseed_empty : bool, default=False
        Whether a centre without any target row after an epoch moves to the row that lies farthest
        from its own centre. Each such move is counted in ``history_`` under ``"n_reseeded"``.

    See Also
    --------
    sklearn_ckm.ConcreteKMeans : The estimator that trains it.

    Notes
    -----
    The loss is a mean over samples of a sum over features.

    *Differences from the paper.* The paper's loss is form A with straight-through Gumbel-softmax
    samples at an unpublished relaxation. At ``relaxation=1`` the gradient through that
    assignment points the wrong way once the logits are a few nats apart, so the defaults are
    form B with ReinMax, whose expected gradient is exact at unit noise. And noise on logits of one
    common scale confuses the two closest centres most, and can draw them together: the default
    is none (``benchmarks/ablation_objective.py`` compares). The literal loss is
    ``ConcreteKMeansObjective(form="A", estimator="gumbel", relaxation=(1.0, 0.1), noise=1.0)``
    with ``temperature=1.0`` on the estimator; it is known to collapse when the embedding shrinks.

    References
    ----------
    .. [1] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering with Concrete K-Means.
       ICASSP 2020.
    .. [2] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering for Domain Adaptation.
       ICASSP 2020, Eq. 2.

    Examples
    --------
    >>> from sklearn_ckm.objectives import ConcreteKMeansObjective
    >>> ConcreteKMeansObjective(noise=(1.0, 0.0)).get_params()["noise"]
    (1.0, 0.0)
    """

    def __init__(
        self,
        *,
        form: str = "B",
        estimator: str = "reinmax",
        relaxation: Schedule = 1.0,
        noise: Schedule = 0.0,
        reseed_empty: bool = False,
    ) -> None:
        self.form = form
        self.estimator = estimator
        self.relaxation = relaxation
        self.noise = noise
        self.reseed_empty = reseed_empty

    @property
    def is_scheduled(self) -> bool:
        """Whether a setting changes over the epochs, of which all are run then."""
        return is_schedule(self.relaxation) or is_schedule(self.noise)

    def check_settings(self) -> None:
        """Raise ``ValueError`` where a setting makes no sense.

        Raises
        ------
        ValueError
            If `form` or `estimator` is unknown, a relaxation is not positive or a noise negative.
        """
        if self.form not in FORMS:
            raise ValueError(f"Expected 'form' among {FORMS}, got {self.form!r}.")
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"Expected 'estimator' among {ESTIMATORS}, got {self.estimator!r}.")
        check_schedule(self.relaxation, "relaxation", is_valid=_is_positive, wanted="positive")
        check_schedule(self.noise, "noise", is_valid=_is_nonnegative, wanted="at least 0")

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
        assignment, choice = straight_through_assignment(
            logits,
            relaxation=scheduled(self.relaxation, progress, geometric=True),
            noise=scheduled(self.noise, progress),
            estimator=self.estimator,
            generator=generator,
        )
        loss = concrete_kmeans_loss(z, centers, assignment, form=self.form, distances=distances)
        return ClusteringStep(loss, distances, logits, choice)


def _is_positive(value):
    return isinstance(value, Real) and 0 < value < float("inf")


def _is_nonnegative(value):
    return isinstance(value, Real) and 0 <= value < float("inf")
