"""Unsupervised adaptation: cluster a target domain with the help of a labelled source."""

from collections.abc import Callable
from numbers import Real
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from joblib import Memory
from numpy.typing import ArrayLike
from sklearn.base import ClusterMixin
from sklearn.utils import metadata_routing
from sklearn.utils._param_validation import Interval, StrOptions

from .._deep_clusterer import BaseDeepClusterer
from ..objectives import BaseClusteringObjective
from ..utils._validation import fit_context
from ._domain_input import DomainInputMixin


class CKMDomainAdapter(DomainInputMixin, ClusterMixin, BaseDeepClusterer):
    """Cluster a target domain with what a labelled source domain of other classes teaches.

    An autoencoder is pretrained on both domains (or otherwise, see `pretraining`); k-means places
    centres among the target's embeddings; then one sum is minimised over encoder, decoder, centres
    and a classifier of the source's classes:

    .. math:: L_{AE}(X_s \\cup X_t) + \\lambda_1 L_{CKM}(X_t) + \\lambda_2 L_{CE}(X_s, y_s).

    The domains need not share a class. No target label is ever read.

    Parameters
    ----------
    n_clusters : int or "auto", default=8
        Number of clusters of the target. ``"auto"`` estimates it, see Notes; on images it trains
        once for each number, on at most 2,000 rows.
    n_components : int, default=10
        Width of the embedding.
    encoder : {"auto", "mlp", "mlp-small", "conv"} or callable, default="auto"
        The network, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    image_shape : tuple of int, default=None
        ``(channels, height, width)`` of images that come flattened to rows.
    objective : {"ckm", "dec", "dcn", "soft-kmeans"} or BaseClusteringObjective, default="ckm"
        The clustering loss of the target, as in :class:`~sklearn_ckm.ConcreteKMeans`. ``"dec"``
        and ``"dcn"``, with ``augmentation=None``, are DEC-UDA and DCN-UDA of the paper's
        comparison.
    augmentation : {"auto", "affine", "affine-color", "noise"}, callable or None, default="auto"
        Views of the rows in the fine-tuning, as in :class:`~sklearn_ckm.ConcreteKMeans`, and of the
        source's in the pretraining where that reads its labels (`pretraining`). None leaves views
        out, as the paper does.
    lambda_clustering : float, default=0.1
        Weight of the clustering term (lambda 1). All terms are means over samples of sums over
        features.
    lambda_classification : float, default=1.0
        Weight of the source's cross-entropy in nats (lambda 2).
    lambda_consistency : float, default=10.0
        Weight of the agreement of the target's rows with their views, in nats. Not used without
        views.
    lambda_balance : float, default=10.0
        Weight of the divergence of the clusters' mean probabilities in a batch from equal shares,
        in nats; three times as strong at first. Much below `lambda_consistency`, clusters fall
        empty; much above, unequal classes are cut to equal shares. Not used without views.
    lambda_source : float, default=0.3
        Weight of what the source's labels ask of its clusters: consistency, where rows of one class
        are views of each other, and balance. It multiplies `lambda_consistency` and
        `lambda_balance`. What varies within the source's classes shall not divide the target.
        Not used without views, nor with fewer than two labelled classes.
    temperature : "auto" or float, default="auto"
        Scale T of the logits, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    source_sampling : {"balanced", "natural"}, default="balanced"
        ``"balanced"`` draws every source class equally often in fine-tuning, ``"natural"`` as
        often as it occurs.
    pretraining : {"auto", "reconstruction", "classification"}, default="auto"
        What the network learns before there are centres. ``"classification"``: to tell the source's
        classes apart, on views; neither unlabelled rows nor the target take part, and the
        fine-tuning leaves the reconstruction out as well. The temperature is then fitted once, as
        the centres start; a number of one's own easily has the wrong scale here, and the fit may
        end as "collapsed". ``"auto"``: the reconstruction; and on images with views of images,
        where starts compete (`init`) and the source has two labelled classes or more, a second
        network that learns these classes competes with the first. See Notes.
    source_in_pretraining : "auto" or bool, default="auto"
        Whether the network is pretrained on the source too, or on the target alone, with as many
        updates. ``"auto"``: on both, and where starts compete (`init`) another one on the target
        alone, so that a source that spoils the embedding need not be followed.
        ``n_clusters="auto"`` counts in the first. Not with ``pretraining="classification"``.
    source_in_finetuning : bool, default=True
        Whether the source takes part in the fine-tuning. False uses it for the pretraining alone
        and reads no label at all; fine-tuning then minimises reconstruction and clustering of the
        target. With ``augmentation=None`` it is "Src + Targ Clustering" of the paper's comparison.
    init : {"auto", "k-means", "whitened-k-means"}, default="auto"
        How the centres start, as in :class:`~sklearn_ckm.ConcreteKMeans`. Where starts compete,
        with ``"auto"``, further ones do so too, whitened ones in networks of their own: that of the
        source's classes (`pretraining`) and, unless the first two divide the rows alike, of the
        target alone (`source_in_pretraining`).
    n_init : int, default=1
        Starts from new weights, each of which runs both phases; the one that needs no label to be
        called the best is kept, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    pretrain_epochs : int, default=50
        Epochs of the pretraining. An epoch passes once over the larger domain.
    max_epochs : int, default=100
        Most epochs of the fine-tuning. 0 leaves the centres where k-means put them.
    tol : float, default=1e-3
        Fine-tuning stops when less than this share of the target rows changes its cluster, in each
        of `n_iter_no_change` epochs in a row; with views not in the first half of `max_epochs`,
        unless it is a warm start. 0 never stops early.
    n_iter_no_change : int, default=10
        See `tol`.
    batch_size : int or "auto", default="auto"
        Rows of each domain in a batch; a domain with fewer rows gives all it has. ``"auto"`` is
        one sixty-fourth of the larger domain, at least 32 and at most 256.
    lr : float, default=1e-3
        Learning rate of both phases.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        Name or class of a torch optimiser.
    device : str or torch.device, default="auto"
        Where to train and predict; ``"auto"`` is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic of the network in training.
    memory : str, path or joblib.Memory, default=None
        Where to keep pretrained networks, which depend neither on the lambdas nor on `n_clusters`;
        those that learn the source's classes (`pretraining`) depend on `augmentation` and
        `source_sampling` too, and an augmentation must then be one that can be hashed. Not used
        when `random_state` is None. A user's encoder, optimiser and callbacks are known by the
        source of their classes: empty the folder after editing what these call. In a pretraining
        that comes from there no callback is called.
    checkpoint : str or path, default=None
        Folder from which a broken fit goes on, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    warm_start : bool, default=False
        Whether a further ``fit`` skips the pretraining and trains on from the last one: network,
        centres and input scale stay, `encoder`, `init`, `n_init` and `source_in_pretraining` are
        not read, and `pretraining` tells the terms of the fine-tuning alone: ``"auto"`` has those
        of the network at hand (with others, a decoder that was not trained starts anew).
    callbacks : list, default=None
        skorch callbacks, as in :class:`~sklearn_ckm.ConcreteKMeans`.
    verbose : int, default=0
        1 shows a progress bar for each phase and start, 2 prints a line for each epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the batches, k-means and the noise.

    Attributes
    ----------
    labels_ : ndarray of shape (n_target,)
        Cluster of each target row of ``fit`` in its order, equal to ``predict`` on it.
    n_clusters_ : int
        Number of clusters.
    n_clusters_curve_ : dict of str to ndarray of shape (n_candidates,)
        Where `n_clusters` is ``"auto"``: the candidates ``n_clusters`` and two criteria of each;
        larger is better. For images with views, a lower bound of the ``mutual_information`` of the
        clusters of rows and of their views, in nats, and the ``gain`` that decides; else ``bic``
        and ``silhouette``, means over the draws of rows.
    cluster_centers_ : ndarray of shape (n_clusters, n_components)
        Centres in the embedding.
    source_classes_ : ndarray of shape (n_classes,)
        Classes of the source, sorted; empty where no source row was labelled.
    init_ : str
        ``"k-means"`` or ``"whitened-k-means"``: the start that the fit went on from.
    pretraining_ : str
        ``"reconstruction"`` or ``"classification"``: what the network of that start has learned,
        or in a warm start has gone on with. Only where there is a source.
    source_in_pretraining_ : bool
        Whether that was pretrained on the source too. Only where there is a source.
    init_scores_ : ndarray of shape (n_ended,)
        Label-free score of each start that ended, where there are several; higher is better, minus
        infinity where a further one diverged.
    temperature_ : float
        Scale T of the logits.
    n_iter_ : int
        Epochs of fine-tuning.
    history_ : list of dict
        One dict per epoch, as in :class:`~sklearn_ckm.ConcreteKMeans`, with the further loss term
        ``classification`` and, with views, ``source_consistency`` and ``source_balance``; without
        ``reconstruction`` where the network learns the source's classes.
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
    ConcreteKMeans : Clusters a single data set.

    Notes
    -----
    Each batch holds `batch_size` rows of either domain, or all rows of a smaller one, so that a
    large domain does not drown the other in the reconstruction. One pass of the network serves
    both; a module with batch statistics would mix them.

    *Number of clusters.* ``n_clusters="auto"`` looks at the target's rows alone, with the network
    that was pretrained first, in the way of :class:`~sklearn_ckm.ConcreteKMeans`, whose
    notes tell what the estimate is worth.

    *What the source teaches.* An autoencoder keeps whatever varies, and views make only that
    unimportant which they change: where photos lie behind the digits of both domains, or letters
    have any colour, the clusters are backgrounds or hues. If the source's classes vary in the same
    way, its labels tell so: to the clusters by `lambda_source`, as similar pairs [3]_, and to the
    network by learning the classes first [2]_. The latter cannot help where the source does not
    vary so, has few rows or few classes, and costs what the target's classes need and the source's
    do not; so it competes, and the start that leaves the least of consistency and balance, of both
    domains, goes on. On tables autoencoders were better, and none learns the classes unless asked
    to. A module with batch statistics has seen the source alone when centres are placed in such a
    network.

    *Differences from the paper.* Algorithm 1 prints the clustering term on the source and leaves
    the cross-entropy out of the encoder's update; Eq. 4 and the text decide otherwise, and so does
    this class: one sum, one backward pass. The further differences of
    :class:`~sklearn_ckm.ConcreteKMeans` hold here too.

    References
    ----------
    .. [1] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering for Domain Adaptation.
       ICASSP 2020, Eq. 4 and Algorithm 1.
    .. [2] K. Han, A. Vedaldi, A. Zisserman. Learning to Discover Novel Visual Categories via Deep
       Transfer Clustering. ICCV 2019 (labelled classes teach the features first).
    .. [3] Y.-C. Hsu, Z. Lv, Z. Kira. Learning to Cluster in Order to Transfer Across Domains and
       Tasks. ICLR 2018.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm import CKMDomainAdapter
    >>> X, y = make_blobs(200, centers=5, n_features=4, random_state=0)
    >>> source, target = y < 3, y >= 3
    >>> model = CKMDomainAdapter(2, pretrain_epochs=5, max_epochs=5, random_state=0)
    >>> model.fit(X[source], y[source], X_tgt=X[target]).labels_.shape
    (80,)
    """

    _parameter_constraints: dict = {
        **BaseDeepClusterer._parameter_constraints,
        "lambda_classification": [Interval(Real, 0, None, closed="left")],
        "lambda_source": [Interval(Real, 0, None, closed="left")],
        "source_sampling": [StrOptions({"balanced", "natural"})],
        "pretraining": [StrOptions({"auto", "reconstruction", "classification"})],
        "source_in_pretraining": ["boolean", StrOptions({"auto"})],
        "source_in_finetuning": ["boolean"],
    }

    # the one request of this class; X_tgt is for direct calls
    __metadata_request__fit = {"sample_domain": True, "X_tgt": metadata_routing.UNUSED}
    __metadata_request__score = {"sample_domain": True}

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        n_components: int = 10,
        encoder: str | Callable[..., Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        objective: str | BaseClusteringObjective = "ckm",
        augmentation: str | Callable[..., Any] | None = "auto",
        lambda_clustering: float = 0.1,
        lambda_classification: float = 1.0,
        lambda_consistency: float = 10.0,
        lambda_balance: float = 10.0,
        lambda_source: float = 0.3,
        temperature: float | str = "auto",
        source_sampling: str = "balanced",
        pretraining: str = "auto",
        source_in_pretraining: bool | str = "auto",
        source_in_finetuning: bool = True,
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
        self.lambda_consistency = lambda_consistency
        self.lambda_balance = lambda_balance
        self.lambda_source = lambda_source
        self.temperature = temperature
        self.source_sampling = source_sampling
        self.pretraining = pretraining
        self.source_in_pretraining = source_in_pretraining
        self.source_in_finetuning = source_in_finetuning
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
        sample_domain: ArrayLike | None = None,
    ) -> Self:
        """Cluster the target rows with the help of the source rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            The source's rows where `X_tgt` is given; else both domains stacked, told apart by
            `sample_domain`; without either, every row is target, and source too if labelled.
        y : array-like of shape (n_samples,), default=None
            Classes of the source rows, of any dtype; ``NaN`` and ``None`` mean unlabelled. What
            stands in a target row is never read.
        X_tgt : array-like of shape (n_target, n_features) or (n_target, channels, height, width)
            The target's rows, in direct calls. In a Pipeline, which would not transform them, or a
            search, which would cut them, stack both domains
            (:func:`~sklearn_ckm.utils.stack_domains`) and use `sample_domain`.
        sample_domain : array-like of shape (n_samples,), default=None
            Integers: ``>= 0`` for source rows, ``< 0`` for target rows.

        Returns
        -------
        self : CKMDomainAdapter
            The fitted estimator.

        Raises
        ------
        ValueError
            If a domain is empty, the target has fewer rows than clusters, the domains' images
            differ in shape, dtype or range, both `X_tgt` and `sample_domain` are given, training
            diverges, ``pretraining="classification"`` has no two labelled classes to tell apart or
            lacks the source in a phase, or something that `memory` depends on cannot be hashed.
        TypeError
            If the labels are of mixed types.
        OSError
            If `checkpoint` is no folder that can be written to.

        Warns
        -----
        ConvergenceWarning
            If a centre ends dead, doubled, collapsed or away from the data, if training is
            interrupted, or if it diverges once and goes on at a tenth of the learning rate.
        """
        with self._as_before_on_error():
            domains = self._read_domains(X, y, X_tgt, sample_domain=sample_domain)
            if self.source_in_finetuning:
                self._check_same_classes(domains.source_classes)
            self._check_pretraining(domains.source_classes)
            self.source_classes_ = domains.source_classes
            self._fit(
                domains.X_target,
                domains.X_source,
                domains.y_source,
                len(domains.source_classes),
                tunes_source=self.source_in_finetuning,
            )
        return self

    def fit_predict(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
    ) -> np.ndarray:
        """Fit, and return clusters.

        Parameters
        ----------
        X, y, X_tgt, sample_domain : array-like
            As in :meth:`fit`.

        Returns
        -------
        labels : ndarray of shape (n_target,) or (n_samples,)
            ``labels_`` where `X_tgt` is given, else one label per row of `X`.
        """
        self.fit(X, y, X_tgt=X_tgt, sample_domain=sample_domain)
        if X_tgt is not None or sample_domain is None:
            return self.labels_
        return self.predict(X)

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Label-free score: agreement of the clusters with neighbourhoods of the inputs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows, of which at least three are target.
        y : Ignored
            Present by convention.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags; where given, only target rows count. Without it the source's rows count
            too, and a model that merely tells the domains apart scores high. Searches hand it on
            only when metadata routing is enabled.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            :func:`~sklearn_ckm.metrics.neighborhood_agreement_score` in the scaled input space,
            on a fixed sample of at most 2,000 rows: 1 when neighbours always share a cluster, 0 by
            chance. Unlike the loss or the inertia it does not rise when the embedding shrinks. It
            rises where clusters become coarser, right or wrong: searches over decades of
            `lambda_clustering` do better by
            ``make_label_free_scorer("information_maximization")``.
        """
        return self._score_rows(X, sample_weight, sample_domain)
