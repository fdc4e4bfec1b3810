"""Adversarial alignment of the domains, then k-means."""

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from .._training._adaptation_criteria import AdversarialCriterion
from ..modules import DomainDiscriminator
from ._feature_clusterer import BaseFeatureClusterer


class DomainAdversarialClusterer(BaseFeatureClusterer):
    """Cluster a target by features that a domain discriminator cannot tell from the source's.

    A network is trained to classify the source; then, against a discriminator of the domains whose
    gradient reaches the encoder reversed (DANN), it goes on with both domains; k-means clusters
    the embedding of the target in the end. This is the aligner to compare with: where the classes
    of the domains differ, domains that cannot be told apart are not what clustering needs.

    With ``max_epochs=0`` it is k-means on the features of a classifier trained on the source.

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
    lambda_adversarial : float, default=1.0
        Weight of the reversed gradient at the end of the training, to which it grows from 0.
    pretrain_epochs : int, default=50
        Epochs of the source's classifier alone.
    max_epochs : int, default=100
        Epochs with both domains. An epoch passes once over the larger domain.
    batch_size : int or "auto", default="auto"
        Rows of each domain in a batch, as in :class:`~sklearn_ckm.CKMDomainAdapter`.
    lr : float, default=1e-3
        Learning rate of both phases.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        Name or class of a torch optimiser.
    device : str or torch.device, default="auto"
        Where to train and predict; ``"auto"`` is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic of the network in training.
    callbacks : list, default=None
        skorch callbacks, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    verbose : int, default=0
        1 shows a progress bar for each phase, 2 prints a line for each epoch.
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
        Epochs with both domains.
    history_ : list of dict
        One dict per epoch: ``phase`` ("pretrain" or "adapt"), ``loss`` and its terms
        ``classification`` and ``discrimination``.
    n_features_in_ : int
        Number of features, ``channels * height * width`` for images.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where the input has names.

    See Also
    --------
    sklearn_ckm.CKMDomainAdapter : Clusters the target while the network is trained; no alignment.

    Notes
    -----
    *Differences from the source.* The paper trains from scratch with a reversed gradient that
    grows by the same schedule; here a classifier of the source comes first. The learning rate does
    not decay. The discriminator reads the code standardised over the batch: a linear code has no
    bounds, and the encoder would win by its scale. The k-means at the end is what disjoint classes
    ask for in place of the source's classifier.

    References
    ----------
    .. [1] Y. Ganin, V. Lempitsky. Unsupervised Domain Adaptation by Backpropagation. ICML 2015.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm.domain_adaptation import DomainAdversarialClusterer
    >>> X, y = make_blobs(200, centers=5, n_features=4, random_state=0)
    >>> source, target = y < 3, y >= 3
    >>> model = DomainAdversarialClusterer(2, pretrain_epochs=5, max_epochs=5, random_state=0)
    >>> model.fit(X[source], y[source], X_tgt=X[target]).labels_.shape
    (80,)
    """

    _parameter_constraints: dict = {
        **BaseFeatureClusterer._parameter_constraints,
        "lambda_adversarial": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_components: int = 10,
        encoder: str | Callable[..., Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        lambda_adversarial: float = 1.0,
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
        self.lambda_adversarial = lambda_adversarial
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

    def _add_heads(self, model, run):
        model.discriminator = DomainDiscriminator(int(self.n_components))

    def _adapt(self, model, run, net):
        criterion = AdversarialCriterion(float(self.lambda_adversarial))
        net, history = self._adapt_jointly(model, run, criterion)
        self._place_centers(model, run)
        return net, history
