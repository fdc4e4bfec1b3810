"""What the training loop asks of a clustering objective."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from sklearn.base import BaseEstimator


class ClusteringStep(NamedTuple):
    """What an objective says about one batch of target embeddings.

    Attributes
    ----------
    loss : Tensor of shape ()
        Attached to the graph.
    distances : Tensor of shape (n_samples, n_clusters)
        Squared distances to the centres, attached to the graph: the terms of the views train
        through them.
    logits : Tensor of shape (n_samples, n_clusters)
        Log-probabilities of the clusters; their softmax is what ``predict_proba`` gives.
    choice : Tensor of shape (n_samples,)
        The cluster whose centre each sample was drawn to in this step.
    """

    loss: torch.Tensor
    distances: torch.Tensor
    logits: torch.Tensor
    choice: torch.Tensor


def current_temperature(temperature, distances):
    """Return the temperature of a batch, which may be a function of its squared distances."""
    return temperature(distances.detach()) if callable(temperature) else temperature


class BaseClusteringObjective(BaseEstimator):
    """Base of the clustering objectives.

    An objective holds settings and no learned state, so that ``clone`` copies it and a search
    reaches its parameters as ``objective__...``. Subclasses define :meth:`step`, and
    :meth:`log_probabilities` where their assignment is not the one below. What an objective must
    remember during a fit stands in the state that :meth:`start` makes and the training loop
    keeps: an objective that reads the whole target now and then defines :meth:`needs_all_rows` and
    :meth:`read_all_rows`, one that moves the centres by a rule of its own sets `moves_centers` and
    defines :meth:`move_centers`.

    Think twice before adding to this class: it is what every further objective must obey.
    """

    reseed_empty = False  # whether centres without rows are moved, see ConcreteKMeansObjective
    moves_centers = False  # whether move_centers is called after each update
    is_scheduled = False  # whether a setting changes over the epochs, of which all are run then

    def check_settings(self) -> None:
        """Raise ``ValueError`` where a setting makes no sense; called once per fit."""

    def start(self, centers: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the state of one fit.

        Parameters
        ----------
        centers : Tensor of shape (n_clusters, n_components)
            The centres as they start.

        Returns
        -------
        state : dict of str to Tensor
            Passed to the other methods; empty by default.
        """
        return {}

    def needs_all_rows(self, epoch: int) -> bool:
        """Whether :meth:`read_all_rows` must be called before an epoch.

        Parameters
        ----------
        epoch : int
            Counted from 0.

        Returns
        -------
        is_needed : bool
            False by default.
        """
        return False

    def read_all_rows(
        self, state: dict[str, torch.Tensor], distances: torch.Tensor, temperature: torch.Tensor
    ) -> None:
        """Look at the whole target, before an epoch.

        Parameters
        ----------
        state : dict of str to Tensor
            Updated in place.
        distances : Tensor of shape (n_target, n_clusters)
            Squared distances of all target rows to the centres, in eval mode, without a graph.
        temperature : Tensor of shape ()
            Scale of the logits.
        """

    def move_centers(
        self, state: dict[str, torch.Tensor], z: torch.Tensor, centers: torch.Tensor
    ) -> None:
        """Move the centres after an update of the network, if `moves_centers` is set.

        Parameters
        ----------
        state : dict of str to Tensor
            Updated in place.
        z : Tensor of shape (n_samples, n_components)
            Embeddings of the batch by the updated network, without a graph.
        centers : Tensor of shape (n_clusters, n_components)
            Changed in place.
        """

    def log_probabilities(self, distances: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
        """Log-probability of each cluster given squared distances, in nats.

        Parameters
        ----------
        distances : Tensor of shape (n_samples, n_clusters)
            Squared distances.
        temperature : Tensor of shape ()
            Scale of the logits, in squared units of the embedding.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_clusters)
            ``log_softmax(-distances / temperature)``.
        """
        return (-distances / temperature).log_softmax(1)

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
        """Loss of one batch.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_components)
            Target embeddings.
        centers : Tensor of shape (n_clusters, n_components)
            Cluster centres.
        temperature : Tensor of shape () or callable
            Scale of the logits, or a function from the squared distances to it.
        progress : float
            Share of the epochs that are done, in [0, 1).
        generator : torch.Generator
            Source of randomness on the device of `z`.
        index : Tensor of shape (n_samples,)
            Where the rows stand in the target.
        state : dict of str to Tensor
            What :meth:`start` made.

        Returns
        -------
        step : ClusteringStep
            The loss, and what the monitors read.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define 'step'.")
