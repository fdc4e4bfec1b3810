"""Clustering and fine-tuning in turn."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from .._training._adaptation_criteria import ClassificationCriterion
from .._training._batches import DomainBatches
from .._training._history import epoch_records
from .._training._inference import distances_in_blocks, embed
from .._training._phases import run_phase
from ..utils._random import layers_seed, make_generator, phase_seed
from ._feature_clusterer import BaseFeatureClusterer


class ProgressiveClusterer(BaseFeatureClusterer):
    """Cluster a target by rounds of k-means and fine-tuning on the rows nearest to their centre.

    A network is trained to classify the source. Then, in rounds: k-means clusters the embedding of
    the target; of each cluster the rows nearest to its centre are kept; the encoder and a fresh
    classifier are trained on them with their clusters as labels. A last k-means gives the answer.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters of the target.
    n_components : int, default=10
        Width of the embedding.
    encoder : {"auto", "mlp", "mlp-small", "conv"} or callable, default="auto"
        The network, as in :class:`~sklearn_ckm.ConcreteKMeans`; its decoder is not used.
    image_shape : tuple of int, default=None
        ``(channels, height, width)`` of images that come flattened to rows.
    kept_share : float, default=0.5
        Share of the rows of each cluster that are kept as labels, in (0, 1]; at least one row.
    epochs_per_round : int, default=5
        Epochs of fine-tuning between two clusterings.
    pretrain_epochs : int, default=50
        Epochs of the source's classifier.
    max_epochs : int, default=100
        Epochs of all rounds together.
    batch_size : int or "auto", default="auto"
        Rows in a batch, as in :class:`~sklearn_ckm.CKMDomainAdapter`.
    lr : float, default=1e-3
        Learning rate of both phases.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        Name or class of a torch optimiser.
    device : str or torch.device, default="auto"
        Where to train and predict; ``"auto"`` is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic of the network in training.
    callbacks : list, default=None
        skorch callbacks, as in :class:`~sklearn_ckm.ConcreteKMeans`; every round has copies.
    verbose : int, default=0
        1 shows a progress bar for each round, 2 prints a line for each epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the batches and k-means.

    Attributes
    ----------
    labels_ : ndarray of shape (n_target,)
        Cluster of each target row of ``fit`` in its order, equal to ``predict`` on it.
    cluster_centers_ : ndarray of shape (n_clusters, n_components)
        Centres in the embedding.
    source_classes_ : ndarray of shape (n_classes,)
        Classes of the source, sorted.
    n_iter_ : int
        Epochs of all rounds.
    history_ : list of dict
        One dict per epoch: ``phase`` ("pretrain" or "round <number>"), ``loss`` and
        ``classification``.
    n_features_in_ : int
        Number of features, ``channels * height * width`` for images.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where the input has names.

    See Also
    --------
    sklearn_ckm.CKMDomainAdapter : Trains the network and the centres together.

    Notes
    -----
    *Differences from the source.* The paper keeps the rows whose cosine similarity to their centre
    exceeds a threshold; a share of each cluster does not hang on the scale of the similarities and
    leaves no cluster empty. Rounds end after `max_epochs`, not when the number of kept rows
    settles. ``predict_source`` uses the encoder as it is after the last round.

    References
    ----------
    .. [1] H. Fan, L. Zheng, C. Yan, Y. Yang. Unsupervised Person Re-identification: Clustering and
       Fine-tuning. ACM Transactions on Multimedia Computing 14, 2018.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm.domain_adaptation import ProgressiveClusterer
    >>> X, y = make_blobs(200, centers=5, n_features=4, random_state=0)
    >>> source, target = y < 3, y >= 3
    >>> model = ProgressiveClusterer(2, pretrain_epochs=5, max_epochs=5, random_state=0)
    >>> model.fit(X[source], y[source], X_tgt=X[target]).labels_.shape
    (80,)
    """

    _parameter_constraints: dict = {
        **BaseFeatureClusterer._parameter_constraints,
        "kept_share": [Interval(Real, 0, 1, closed="right")],
        "epochs_per_round": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_components: int = 10,
        encoder: str | Callable[..., Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        kept_share: float = 0.5,
        epochs_per_round: int = 5,
        pretrain_epochs: int = 50,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        lr: float = 1e-3,
        optimizer: str | Callable[..., Any] = "adam",
        device: str | torch.device = "auto",
        precision: str = "float32",
        callbacks: list[Any] | tuple[Any, ...] | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.encoder = encoder
        self.image_shape = image_shape
        self.kept_share = kept_share
        self.epochs_per_round = epochs_per_round
        self.pretrain_epochs = pretrain_epochs
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state

    def _adapt(self, model, run, net):
        n_left, history, i = int(self.max_epochs), [], 0
        self._place_centers(model, run)
        while n_left:
            n_epochs = min(n_left, int(self.epochs_per_round))
            net = self._run_round(model, run, i, n_epochs)
            history += epoch_records(net)
            self._place_centers(model, run)
            n_left, i = n_left - n_epochs, i + 1
        return net, history

    def _run_round(self, model, run, i, n_epochs):
        """Fine-tune on the rows nearest to their centres."""
        device, seed = run.settings.device, phase_seed(run.seed, "round", i)
        z = embed(model, run.data.target, device)
        distances = distances_in_blocks(z, model.centers.positions.detach())
        kept, labels = nearest_rows(distances, float(self.kept_share))
        with layers_seed(seed):
            model.cluster_classifier = torch.nn.Linear(z.shape[1], int(self.n_clusters))
        model.cluster_classifier.to(device, torch.float32)
        batches = DomainBatches(
            run.data.target[kept],
            batch_size=run.settings.batch_size,
            generator=make_generator(seed, device),
        )
        return run_phase(
            model,
            ClassificationCriterion(labels, head="cluster_classifier"),
            batches,
            run.settings,
            phase=f"round {i + 1}",
            max_epochs=n_epochs,
            seed=seed,
        )


def nearest_rows(distances, kept_share):
    """Return, of each cluster, the share of rows nearest to its centre.

    Parameters
    ----------
    distances : Tensor of shape (n_samples, n_clusters)
        Squared distances to the centres.
    kept_share : float
        Share of the rows of a cluster, in (0, 1].

    Returns
    -------
    rows : Tensor of shape (n_kept,)
        Sorted indices of rows, at least one of each cluster that has rows.
    labels : Tensor of shape (n_kept,)
        Their clusters.
    """
    nearest = distances.min(1)
    kept = []
    for j in nearest.indices.unique():
        rows = (nearest.indices == j).nonzero().flatten()
        n_kept = max(1, int(kept_share * len(rows)))
        kept.append(rows[nearest.values[rows].argsort(stable=True)[:n_kept]])
    rows = torch.cat(kept).sort().values
    return rows, nearest.indices[rows]
