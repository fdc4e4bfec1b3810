"""What the training loop asks of a clustering objective."""

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
        Squared distances to the centres.
    logits : Tensor of shape (n_samples, n_clusters)
        Log-probabilities of the clusters; their softmax is what ``predict_proba`` gives.
    choice : Tensor of shape (n_samples,)
        The cluster whose centre each sample was drawn to in this step.
    """

    loss: torch.Tensor
    distances: torch.Tensor
    logits: torch.Tensor
    choice: torch.Tensor


class BaseClusteringObjective(BaseEstimator):
    """Base of the clustering objectives.

    An objective holds settings and no learned state, so that ``clone`` copies it and a search
    reaches its parameters as ``objective__...``. Subclasses define :meth:`step`, and
    :meth:`log_probabilities` where their assignment is not the one below.

    Think twice before adding to this class: it is what every further objective must obey.
    """

    reseed_empty = False  # whether centres without rows are moved, see ConcreteKMeansObjective

    def check_settings(self):
        """Raise ``ValueError`` where a setting makes no sense; called once per fit."""

    def log_probabilities(self, distances, temperature):
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

    def step(self, z, centers, temperature, *, progress, generator):
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

        Returns
        -------
        step : ClusteringStep
        """
        raise NotImplementedError(f"{type(self).__name__} does not define 'step'.")
