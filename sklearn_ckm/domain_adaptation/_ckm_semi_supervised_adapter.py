"""Semi-supervised adaptation: a few labelled target rows name the clusters."""

from collections.abc import Callable
from numbers import Real
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from joblib import Memory
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions

from .._deep_clusterer import BaseDeepClusterer
from .._training._phases import class_means, start_centers_apart
from ..objectives import BaseClusteringObjective
from ..utils._validation import fit_context
from ..utils._warnings import warn_user
from ._center_names import name_centers
from ._target_classifier import TargetClassifierMixin


class CKMSemiSupervisedAdapter(TargetClassifierMixin, BaseDeepClusterer):
    """Classify a target domain from a few labels, with a labelled source of other classes.

    An autoencoder is pretrained on both domains (or otherwise, see `pretraining`); the centres
    start at the class means of the labelled target rows; then one sum is minimised over encoder,
    decoder, centres and a classifier of the source's classes:

    .. math:: L_{AE}(X_s \\cup X_t) + \\lambda_1 L_{CKM}(X_t) + \\lambda_2 L_{CE}(X_s, y_s)
              + \\lambda_3 L_{kshot}(X_t^l, y_t^l).

    The last term is the cross-entropy of the centres as a classifier,
    :math:`r_j(z) \\propto \\exp(-\\|z - \\mu_j\\|^2 / T)`, on the labelled target rows: the same
    centres group the unlabelled rows and name them. The domains need not share a class.

    Parameters
    ----------
    n_clusters : int or "auto", default=None
        Number of centres. ``None`` takes one for each labelled target class, and so does, with a
        warning, a number below that. A larger one adds unnamed centres for classes of which no row
        is labelled; rows there are predicted as `unknown_label`. ``"auto"`` estimates the number,
        as in :class:`CKMDomainAdapter`, and takes one for each labelled class at least.
    n_components : int, default=10
        Width of the embedding.
    encoder : {"auto", "mlp", "mlp-small", "conv"} or callable, default="auto"
        The network, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    image_shape : tuple of int, default=None
        ``(channels, height, width)`` of images that come flattened to rows.
    objective : {"ckm", "dec", "dcn", "soft-kmeans"} or BaseClusteringObjective, default="ckm"
        The clustering loss of the target, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    augmentation : {"auto", "affine", "affine-color", "noise"}, callable or None, default="auto"
        Views of the rows in the fine-tuning, as in :class:`~sklearn_ckm.ConcreteKMeans`. None
        leaves views out, as the paper does.
    lambda_clustering : float, default=0.1
        Weight of the clustering term (lambda 1). All terms are means over samples of sums over
        features or classes.
    lambda_classification : float, default=1.0
        Weight of the source's cross-entropy in nats (lambda 2).
    lambda_kshot : float, default=1.0
        Weight of the cross-entropy of the labelled target rows in nats (lambda 3). 0 uses the
        labels for the start of the centres and for their names alone.
    lambda_consistency : float, default=10.0
        Weight of the agreement of the target's rows with their views, in nats. Not used without
        views.
    lambda_balance : float, default=10.0
        Weight of the divergence of the clusters' mean probabilities in a batch from equal shares,
        in nats; three times as strong at first. Much below `lambda_consistency`, clusters fall
        empty; much above, unequal classes are cut to equal shares. Not used without views.
    lambda_source : float, default=0.3
        Weight of what the source's labels ask of its clusters, as in :class:`CKMDomainAdapter`.
    unknown_label : object, default="auto"
        Name of the rows at unnamed centres, if there are any; no labelled row may carry it.
        ``"auto"`` is -1 for numeric classes and ``"unknown"`` for others.
    temperature : "auto" or float, default="auto"
        Scale T of the logits, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    source_sampling : {"balanced", "natural"}, default="balanced"
        ``"balanced"`` draws every source class equally often in fine-tuning, ``"natural"`` as
        often as it occurs.
    pretraining : {"auto", "reconstruction", "classification"}, default="reconstruction"
        What the network learns before there are centres, as in :class:`CKMDomainAdapter`. In a
        network that learns the source's classes, two labelled rows of a class place its centre
        badly at times, and clusters may end with each other's names.
    source_in_pretraining : "auto" or bool, default="auto"
        Whether the network is pretrained on the source too, as in :class:`CKMDomainAdapter`.
    init : {"auto", "k-means", "whitened-k-means"}, default="auto"
        How the centres without a labelled row start, as in :class:`CKMDomainAdapter`; the others
        start at the means of their classes' rows. Where all have labels, there is one start, unless
        another network joins it (`pretraining`).
    n_init : int, default=1
        Starts from new weights, each of which runs both phases, of which the best is kept, as in
        :class:`~sklearn_ckm.ConcreteKMeans`; with views, the loss of the labelled target rows
        counts too.
    pretrain_epochs : int, default=50
        Epochs of the pretraining. An epoch passes once over the larger domain.
    max_epochs : int, default=100
        Most epochs of the fine-tuning. 0 leaves the centres at the class means.
    tol : float, default=1e-3
        Fine-tuning stops when less than this share of the target rows changes its centre, in each
        of `n_iter_no_change` epochs in a row; with views not in the first half of `max_epochs`,
        unless it is a warm start. 0 never stops early.
    n_iter_no_change : int, default=10
        See `tol`.
    batch_size : int or "auto", default="auto"
        Rows of each domain in a batch; a domain with fewer rows gives all it has. ``"auto"`` is
        one sixty-fourth of the larger domain, at least 32 and at most 256. The labelled target
        rows come on top: all in every batch, or 256 at a time where there are more.
    lr : float, default=1e-3
        Learning rate of both phases.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        Name or class of a torch optimiser.
    device : str or torch.device, default="auto"
        Where to train and predict; ``"auto"`` is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic of the network in training.
    memory : str, path or joblib.Memory, default=None
        Where to keep pretrained networks, which depend neither on the lambdas nor on the target's
        labels; :class:`~sklearn_ckm.CKMDomainAdapter` shares them, and its notes on the parameter
        hold here too.
    checkpoint : str or path, default=None
        Folder from which a broken fit goes on, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    warm_start : bool, default=False
        Whether a further ``fit`` skips the pretraining and trains on from the last one: network,
        centres and input scale stay, and what is not read is as in :class:`CKMDomainAdapter`.
    callbacks : list, default=None
        skorch callbacks, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    verbose : int, default=0
        1 shows a progress bar for each phase and start, 2 prints a line for each epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the batches, the unnamed centres and the noise.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labelled target classes, sorted; `unknown_label` comes last where there are unnamed
        centres.
    labels_ : ndarray of shape (n_target,)
        Class of each target row of ``fit`` in its order, equal to ``predict`` on it.
    n_clusters_ : int
        Number of centres.
    n_clusters_curve_ : dict of str to ndarray
        What the number was read from, where it is ``"auto"``, as in :class:`CKMDomainAdapter`.
    cluster_centers_ : ndarray of shape (n_clusters, n_components)
        Centres in the embedding: those of the labelled classes in their order, then the unnamed.
    source_classes_ : ndarray of shape (n_source_classes,)
        Classes of the source, sorted; empty where no source row was labelled.
    init_ : str
        ``"k-means"`` or ``"whitened-k-means"``: how the centres without a labelled row started, in
        the start that the fit went on from.
    pretraining_ : str
        ``"reconstruction"`` or ``"classification"``, as in :class:`CKMDomainAdapter`.
    source_in_pretraining_ : bool
        Whether the network of that start was pretrained on the source too.
    init_scores_ : ndarray of shape (n_ended,)
        Score by which the start was chosen (`n_init`), of each that ended, where there are several;
        higher is better, minus infinity where a further one diverged.
    temperature_ : float
        Scale T of the logits.
    n_iter_ : int
        Epochs of fine-tuning.
    history_ : list of dict
        One dict per epoch, as in :class:`CKMDomainAdapter`, with the further loss term ``kshot``,
        whose part of the gradient of the centres counts as indirect.
    stop_reason_ : {"max_epochs", "converged", "callback", "interrupted", "collapsed"}
        Why training ended; the last two come with a ``ConvergenceWarning``. An interrupt (Ctrl-C)
        in the fine-tuning or after it leaves the model of the last whole epoch, one before that no
        model.
    n_features_in_ : int
        Number of features, ``channels * height * width`` for images.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where the input has names.

    See Also
    --------
    CKMDomainAdapter : Needs no target label, and gives clusters no names.

    Notes
    -----
    *Differences from the paper.* Algorithm 2 leaves the cross-entropy of both domains out of the
    encoder's update and prints that of the target in the decoder's, which it cannot reach; Eq. 8
    decides otherwise, and so does this class. Eq. 6 is a class mean only where all classes have
    equally many labelled rows; here the centres start at the class means in any case. Eq. 5 has
    unit temperature; here it has that of the clustering term. Where half of the target's rows or
    more are labelled, these take part in its reconstruction and clustering too. The further
    differences of :class:`~sklearn_ckm.ConcreteKMeans` hold here as well.

    References
    ----------
    .. [1] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering for Domain Adaptation.
       ICASSP 2020, Eqs. 5 to 8 and Algorithm 2.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm import CKMSemiSupervisedAdapter
    >>> from sklearn_ckm.datasets import keep_few_labels
    >>> X, y = make_blobs(200, centers=5, n_features=4, random_state=0)
    >>> source, target = y < 3, y >= 3
    >>> y_few = keep_few_labels(y[target], 2, random_state=0)
    >>> model = CKMSemiSupervisedAdapter(pretrain_epochs=5, max_epochs=5, random_state=0)
    >>> model.fit(X[source], y[source], X_tgt=X[target], y_tgt=y_few).classes_
    array([3, 4])
    """

    _parameter_constraints: dict = {
        **BaseDeepClusterer._parameter_constraints,
        "n_clusters": [*BaseDeepClusterer._parameter_constraints["n_clusters"], None],
        "lambda_classification": [Interval(Real, 0, None, closed="left")],
        "lambda_source": [Interval(Real, 0, None, closed="left")],
        "lambda_kshot": [Interval(Real, 0, None, closed="left")],
        "unknown_label": "no_validation",
        "source_sampling": [StrOptions({"balanced", "natural"})],
        "pretraining": [StrOptions({"auto", "reconstruction", "classification"})],
        "source_in_pretraining": ["boolean", StrOptions({"auto"})],
    }

    def __init__(
        self,
        n_clusters: int | str | None = None,
        *,
        n_components: int = 10,
        encoder: str | Callable[..., Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        objective: str | BaseClusteringObjective = "ckm",
        augmentation: str | Callable[..., Any] | None = "auto",
        lambda_clustering: float = 0.1,
        lambda_classification: float = 1.0,
        lambda_kshot: float = 1.0,
        lambda_consistency: float = 10.0,
        lambda_balance: float = 10.0,
        lambda_source: float = 0.3,
        unknown_label: Any = "auto",
        temperature: float | str = "auto",
        source_sampling: str = "balanced",
        pretraining: str = "reconstruction",
        source_in_pretraining: bool | str = "auto",
        init: str = "auto",
        n_init: int = 1,
        pretrain_epochs: int = 50,
        max_epochs: int = 100,
        tol: float = 1e-3,
        n_iter_no_change: int = 10,
        batch_size: int | str = "auto",
        lr: float = 1e-3,
        optimizer: str | Callable[..., Any] = "adam",
        device: str | torch.device = "auto",
        precision: str = "float32",
        memory: str | PathLike[str] | Memory | None = None,
        checkpoint: str | PathLike[str] | None = None,
        warm_start: bool = False,
        callbacks: list[Any] | tuple[Any, ...] | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.encoder = encoder
        self.image_shape = image_shape
        self.objective = objective
        self.augmentation = augmentation
        self.lambda_clustering = lambda_clustering
        self.lambda_classification = lambda_classification
        self.lambda_kshot = lambda_kshot
        self.lambda_consistency = lambda_consistency
        self.lambda_balance = lambda_balance
        self.lambda_source = lambda_source
        self.unknown_label = unknown_label
        self.temperature = temperature
        self.source_sampling = source_sampling
        self.pretraining = pretraining
        self.source_in_pretraining = source_in_pretraining
        self.init = init
        self.n_init = n_init
        self.pretrain_epochs = pretrain_epochs
        self.max_epochs = max_epochs
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.device = device
        self.precision = precision
        self.memory = memory
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        y_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
    ) -> Self:
        """Learn the target's classes from few labels and the source.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            The source's rows where `X_tgt` is given; else both domains stacked, told apart by
            `sample_domain`; without either, every row is target, and source too if labelled.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows of `X`, of any dtype; ``NaN`` and ``None`` mean unlabelled, and so
            does ``-1`` in rows that are tagged target; in a source row ``-1`` is a class.
        X_tgt : array-like of shape (n_target, n_features) or (n_target, channels, height, width)
            The target's rows, labelled and unlabelled, in direct calls. In a Pipeline, which would
            not transform them, or a search, which would cut them, stack both domains
            (:func:`~sklearn_ckm.utils.stack_domains`) and use `sample_domain`.
        y_tgt : array-like of shape (n_target,), default=None
            Classes of the rows of `X_tgt`, of any dtype; ``-1``, ``NaN`` and ``None`` mean
            unlabelled, and so does the text ``"-1"``, as numpy writes it among strings.
        sample_domain : array-like of shape (n_samples,), default=None
            Integers: ``>= 0`` for source rows, ``< 0`` for target rows.

        Returns
        -------
        self : CKMSemiSupervisedAdapter
            The fitted estimator.

        Raises
        ------
        ValueError
            If no target row is labelled, a labelled class has the name `unknown_label`, a domain is
            empty, the domains' images differ in shape, dtype or range, both `X_tgt` and
            `sample_domain` are given, training diverges, ``pretraining="classification"`` has no
            two labelled classes to tell apart or lacks the source, or something that `memory`
            depends on cannot be hashed.
        TypeError
            If the labels are of mixed types.
        OSError
            If `checkpoint` is no folder that can be written to.

        Warns
        -----
        ConvergenceWarning
            If a centre ends dead, doubled, collapsed or away from the data, if training is
            interrupted, or if it diverges once and goes on at a tenth of the learning rate.
        UserWarning
            If `n_clusters` is smaller than the number of labelled classes.
        """
        with self._as_before_on_error():
            domains = self._read_labelled_domains(X, y, X_tgt, y_tgt, sample_domain)
            named = domains.target_classes
            n_clusters = self._check_n_clusters(named)
            self._check_same_classes(domains.source_classes)
            self._check_pretraining(domains.source_classes)
            self._n_named = len(named)
            if n_clusters == "auto":
                name_centers(named, len(named) + 1, self.unknown_label)  # refused before training
                self.classes_ = named  # until the centres are counted
            else:
                classes = name_centers(named, n_clusters, self.unknown_label)
                self._check_same_classes(classes, "classes_", "target")
                self.classes_ = classes
            self.source_classes_ = domains.source_classes
            self._fit(
                domains.X_target,
                domains.X_source,
                domains.y_source,
                len(domains.source_classes),
                y_target=domains.y_target,
                n_clusters=n_clusters,
            )
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Name the class of each row by its nearest centre.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Elements of ``classes_``. This is the most probable one of :meth:`predict_proba`, unless
            several unnamed centres together outweigh the nearest one, which is named.
        """
        return self._predict(self._embed(self._check_X(X)))

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each class: Eq. 5, with the temperature and assignments of the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``; that of `unknown_label` is the sum over the
            unnamed centres. Rows sum to one.
        """
        return self._class_probabilities(self._embed(self._check_X(X)))

    def predict_cluster(self, X: ArrayLike) -> np.ndarray:
        """Assign each row to its nearest centre.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target.

        Returns
        -------
        clusters : ndarray of shape (n_samples,), int32
            Indices into ``cluster_centers_``. Those from the number of labelled classes on have no
            name, and can be told apart here.
        """
        return self._nearest_centers(self._embed(self._check_X(X)))

    def predict_cluster_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each centre.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters)
            Columns in the order of ``cluster_centers_``. Rows sum to one.
        """
        return self._center_probabilities(self._embed(self._check_X(X)))

    def _predict(self, z):
        return self.classes_[np.minimum(self._nearest_centers(z), len(self.classes_) - 1)]

    def _class_probabilities(self, z):
        probabilities = self._center_probabilities(z)
        if len(self.classes_) == self._n_named:
            return probabilities
        unnamed = probabilities[:, self._n_named :].sum(1, keepdims=True)
        return np.hstack([probabilities[:, : self._n_named], unnamed])

    def _initial_centers(self, z, data, n_clusters, seed, init):
        """Class means of the labelled rows (Eq. 6), then centres for the rows far from them."""
        named = class_means(z, data.y_target)
        n_unnamed = n_clusters - len(named)
        if not n_unnamed:
            return named
        unnamed = start_centers_apart(
            z, named, n_unnamed, seed=seed, is_whitened=init == "whitened-k-means"
        )
        return torch.cat([named, unnamed])

    def _adopt_n_clusters(self, n_clusters):
        """At least one for each labelled class; name them all."""
        n_clusters = max(n_clusters, self._n_named)
        self.classes_ = name_centers(self.classes_, n_clusters, self.unknown_label)
        return n_clusters

    def _check_n_clusters(self, named):
        """Resolve the number of centres, except where it has yet to be estimated."""
        if self.n_clusters == "auto":
            return self.n_clusters_ if self.warm_start and hasattr(self, "_net") else "auto"
        n_clusters = len(named) if self.n_clusters is None else int(self.n_clusters)
        if n_clusters < len(named):
            warn_user(
                f"Expected n_clusters of at least {len(named)}, the number of labelled target "
                f"classes {named.tolist()}, got {n_clusters}: each of them has a centre all the "
                "same. Leave it None for one centre each.",
            )
        return max(n_clusters, len(named))
