"""A common space of nearly binary factors, after the idea of CFSM."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from .._training._adaptation_criteria import FactorizationCriterion
from ._few_shot_classifier import BaseFewShotClassifier


class CommonFactorClassifier(BaseFewShotClassifier):
    """Classify a target from few labels in factors that it shares with a source (CFSM-like).

    **This is a reconstruction, not the published method**: the text of the paper on the common
    factorised space model (CFSM) [1]_ was not at hand. The Notes say which parts are known. Do not
    report its numbers as CFSM's.

    Both domains are described by the same factors :math:`f = \\sigma(W \\Phi(x))`, of which each
    should be nearly on or off. A network with a classifier of the source on top of the factors is
    trained first; then, with a classifier of the target's classes besides,

    .. math:: L_{CE}(X_s, y_s) + \\lambda_3 L_{CE}(X_t^l, y_t^l)
              + \\lambda_f L_{fact}(X_s \\cup X_t) + \\lambda_g L_{graph}(X_t).

    Parameters
    ----------
    n_components : int, default=10
        Width of the embedding.
    encoder : {"auto", "mlp", "mlp-small", "conv"} or callable, default="auto"
        The network, as in :class:`~sklearn_ckm.ConcreteKMeans`; its decoder is not used.
    image_shape : tuple of int, default=None
        ``(channels, height, width)`` of images that come flattened to rows.
    n_factors : int, default=50
        Number of factors.
    lambda_kshot : float, default=1.0
        Weight of the labelled target rows, in nats (lambda 3).
    lambda_factorization : float, default=0.01
        Weight of the entropy of the factors, in nats, summed over the factors.
    lambda_graph : float, default=0.01
        Weight of the graph's smoothness.
    pretrain_epochs : int, default=50
        Epochs of the source's classifier alone.
    max_epochs : int, default=100
        Epochs with both domains. An epoch passes once over the larger domain.
    batch_size : int or "auto", default="auto"
        Rows of each domain in a batch, as in :class:`~sklearn_ckm.CKMSemiSupervisedAdapter`.
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
        Seeds the weights and the batches.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labelled target classes, sorted.
    labels_ : ndarray of shape (n_target,)
        Class of each target row of ``fit`` in its order, equal to ``predict`` on it.
    source_classes_ : ndarray of shape (n_source_classes,)
        Classes of the source, sorted.
    n_iter_ : int
        Epochs with both domains.
    history_ : list of dict
        One dict per epoch: ``phase`` ("pretrain" or "adapt"), ``loss`` and its terms
        ``classification``, ``kshot``, ``factorization`` and ``graph``.
    n_features_in_ : int
        Number of features, ``channels * height * width`` for images.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where the input has names.

    See Also
    --------
    sklearn_ckm.CKMSemiSupervisedAdapter : Names clusters by few labels.

    Notes
    -----
    Known from the paper's abstract and from papers that cite it: a common factorised space of both
    domains for disjoint classes, low-entropy factors learned by an unsupervised factorisation loss
    on both domains, a graph-based loss, and supervision by the source.

    Assumed here: sigmoid factors of a linear layer, the binary entropy summed over the factors, a
    graph that joins each target row of a batch with its five nearest by the factors, smoothness on
    it of the embedding (over its variance), linear classifiers on the factors, all weights, and
    the pretraining on the source.

    References
    ----------
    .. [1] X. Chang, Y. Yang, T. Xiang, T. M. Hospedales. Disjoint Label Space Transfer Learning
       with Common Factorised Space. AAAI 2019.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm.datasets import keep_few_labels
    >>> from sklearn_ckm.domain_adaptation import CommonFactorClassifier
    >>> X, y = make_blobs(200, centers=5, n_features=4, random_state=0)
    >>> source, target = y < 3, y >= 3
    >>> y_few = keep_few_labels(y[target], 2, random_state=0)
    >>> model = CommonFactorClassifier(pretrain_epochs=5, max_epochs=5, random_state=0)
    >>> model.fit(X[source], y[source], X_tgt=X[target], y_tgt=y_few).classes_
    array([3, 4])
    """

    _parameter_constraints: dict = {
        **BaseFewShotClassifier._parameter_constraints,
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "lambda_kshot": [Interval(Real, 0, None, closed="left")],
        "lambda_factorization": [Interval(Real, 0, None, closed="left")],
        "lambda_graph": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_components: int = 10,
        encoder: str | Callable[..., Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        n_factors: int = 50,
        lambda_kshot: float = 1.0,
        lambda_factorization: float = 0.01,
        lambda_graph: float = 0.01,
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
        self.n_components = n_components
        self.encoder = encoder
        self.image_shape = image_shape
        self.n_factors = n_factors
        self.lambda_kshot = lambda_kshot
        self.lambda_factorization = lambda_factorization
        self.lambda_graph = lambda_graph
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
        """Put both classifiers on top of the same factors."""
        nn, n_factors = torch.nn, int(self.n_factors)
        model.factors = nn.Linear(int(self.n_components), n_factors)
        heads = [
            nn.Sequential(model.factors, nn.Sigmoid(), nn.Linear(n_factors, len(classes)))
            for classes in (run.domains.source_classes, run.domains.target_classes)
        ]
        model.classifier, model.target_classifier = heads

    def _adapt(self, model, run, net):
        criterion = FactorizationCriterion(
            float(self.lambda_kshot), float(self.lambda_factorization), float(self.lambda_graph)
        )
        return self._adapt_jointly(model, run, criterion)
