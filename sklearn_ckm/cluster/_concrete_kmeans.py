"""Concrete k-means as an estimator."""

from collections.abc import Callable
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from joblib import Memory
from numpy.typing import ArrayLike
from sklearn.base import ClusterMixin

from .._deep_clusterer import BaseDeepClusterer
from ..objectives import BaseClusteringObjective
from ..utils._validation import fit_context


class ConcreteKMeans(ClusterMixin, BaseDeepClusterer):
    """Deep clustering with concrete k-means.

    An autoencoder is pretrained on the data; k-means places centres in its embedding; then
    encoder, decoder and centres are trained together by gradient on

    .. math:: \\frac{1}{n} \\sum_i \\| x_i - g(f(x_i)) \\|^2
              + \\frac{\\lambda_1}{n} \\sum_i \\| f(x_i) - h_i M \\|^2,

    where the one-hot rows :math:`h_i` mark the largest of the logits
    :math:`-\\|f(x_i) - \\mu_j\\|^2 / T`, with Gumbel noise if the objective adds it, and carry a
    straight-through gradient.

    Parameters
    ----------
    n_clusters : int or "auto", default=8
        Number of clusters. ``"auto"`` estimates it, see Notes; on images it trains once for each
        number, on at most 2,000 rows.
    n_components : int, default=10
        Width of the embedding.
    encoder : {"auto", "mlp", "mlp-small", "conv"} or callable, default="auto"
        The network. ``"conv"``: two or more stages of 5x5 convolutions, for images of at least
        8x8 pixels. ``"mlp"``: dense layers of 500, 500 and 2000 units. ``"mlp-small"``: two of 256
        units. ``"auto"``: ``"conv"`` for images of at least 8x8 pixels, else ``"mlp"``, or
        ``"mlp-small"`` up to 256 features. A class or factory is called as
        ``encoder(input_shape, n_components)`` and returns a ``torch.nn.Module``; if that has a
        method ``build_decoder()``, its result is the decoder, else a dense one is used. Decoders
        mirror their encoders.
    image_shape : tuple of int, default=None
        ``(channels, height, width)`` of images that come flattened to rows, so that scikit-learn
        transformers can stand in front. Arrays of four dimensions need none.
    objective : {"ckm", "dec", "dcn", "soft-kmeans"} or BaseClusteringObjective, default="ckm"
        The clustering loss: concrete k-means, deep embedded clustering, deep clustering network or
        soft k-means. Settings of its own are reached as ``objective__...`` when an instance such
        as :class:`~sklearn_ckm.objectives.ConcreteKMeansObjective` is given.
    augmentation : {"auto", "affine", "affine-color", "noise"}, callable or None, default="auto"
        Views of the rows in the fine-tuning, see Notes. ``"affine"`` turns, shears, scales and
        shifts images a little (:class:`~sklearn_ckm.augmentation.ImageAugmentation`);
        ``"affine-color"`` changes brightness, contrast and sharpness too; ``"noise"`` disturbs
        features (:class:`~sklearn_ckm.augmentation.TableAugmentation`). ``"auto"`` is the first for
        grey images, the second for others, and the third for tables and images below 8x8
        pixels. A callable is called as ``augmentation(x, generator)`` on a batch of scaled rows of
        one domain. None leaves views out, as the paper does.
    lambda_clustering : float, default=0.1
        Weight of the clustering term (lambda 1). Both terms are means over samples of sums over
        features. Larger values make tighter clusters, whether or not they are the right ones.
    lambda_consistency : float, default=10.0
        Weight of the agreement of the target's rows with their views, in nats. Not used without
        views.
    lambda_balance : float, default=10.0
        Weight of the divergence of the clusters' mean probabilities in a batch from equal shares,
        in nats; three times as strong at first. Much below `lambda_consistency`, clusters fall
        empty; much above, unequal classes are cut to equal shares. Not used without views.
    temperature : "auto" or float, default="auto"
        Scale T of the logits, in squared units of the embedding. ``"auto"`` keeps the median gap
        between the two nearest centres at six nats. 1.0, without views and
        with the printed form of the objective
        (:class:`~sklearn_ckm.objectives.ConcreteKMeansObjective`), is the literal method of the
        paper, whose centres can collapse onto each other as the embedding shrinks.
    init : {"auto", "k-means", "whitened-k-means"}, default="auto"
        How the centres start. ``"k-means"``: by k-means in the pretrained embedding, as in the
        paper. ``"whitened-k-means"``: at the means of the clusters that k-means finds there after
        whitening by the covariance of the rows, of which a tenth is replaced by that of equal,
        independent features. An autoencoder can stretch its code at will, as its decoder undoes
        it, so distances there may mean little; yet neither start is always the better one.
        ``"auto"`` lets both compete where rows are compared with views: from either, training goes
        until assignments are as sharp as at the end, just beyond half of `max_epochs`; then the one
        with the smaller sum of ``consistency`` and ``balance`` (and ``kshot``) goes on, as if there
        had been no other. Each start has its own copies of `callbacks`; where they stop the first
        until then, it is the fit, and where they stop the second before, it loses, as it does where
        it diverges. Where both divide the rows alike, and without views, it is ``"k-means"`` alone.
    n_init : int, default=1
        Starts from new weights, each of which runs both phases, so that the time is as many times
        that of one. Kept is the one whose views agree and fill the clusters best at the end: the
        least sum of the last ``consistency`` and ``balance`` of `history_`. Without views it is the
        one of the best :meth:`score`. All start from the best of twenty runs of k-means, the first
        with the weights of ``n_init=1``. A further start that diverges is left out.
    pretrain_epochs : int, default=50
        Epochs of the pretraining.
    max_epochs : int, default=100
        Most epochs of the fine-tuning. 0 leaves the centres where k-means put them.
    tol : float, default=1e-3
        Fine-tuning stops when less than this share of the rows changes its cluster, in each of
        `n_iter_no_change` epochs in a row; with views not in the first half of `max_epochs`, unless
        it is a warm start. 0 never stops early.
    n_iter_no_change : int, default=10
        See `tol`.
    batch_size : int or "auto", default="auto"
        Rows in a batch. ``"auto"`` is one sixty-fourth of the rows, at least 32 and at most 256:
        a few hundred rows in batches of 256 would be trained for too few steps.
    lr : float, default=1e-3
        Learning rate of both phases.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        Name or class of a torch optimiser.
    device : str or torch.device, default="auto"
        Where to train and predict; ``"auto"`` is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic of the network in training. Distances and losses are float32 in either case.
    memory : str, path or joblib.Memory, default=None
        Where to keep pretrained autoencoders, which depend neither on the lambdas nor on
        `n_clusters`. Not used when `random_state` is None. A user's encoder, optimiser and
        callbacks are known by the source of their classes: empty the folder after editing what
        these call. In a pretraining that comes from there no callback is called.
    checkpoint : str or path, default=None
        Folder in which a fit keeps its state after every epoch, for as long as it runs. The same
        call after the process was killed, or after an interrupt (but for a `warm_start`), goes on
        from there and ends as the unbroken fit would have. The state holds pickles: use a folder
        of your own. A callback that has an open file or the like starts anew.
    warm_start : bool, default=False
        Whether a further ``fit`` skips the pretraining and trains on from the last one: network,
        centres and input scale stay, `encoder`, `init` and `n_init` are not read.
    callbacks : list, default=None
        skorch callbacks. Each phase, and each start, works on copies of its own; ``net.phase``
        tells which it is, in the fine-tuning ``net.init``, and of networks of the adapters
        ``net.has_source`` whether the source was in their pretraining. ``net.history`` has the
        columns of ``history_`` and ``train_loss``. The trials of ``n_clusters="auto"`` call none.
    verbose : int, default=0
        1 shows a progress bar for each phase and start, 2 prints a line for each epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the batches, k-means and the noise. An int gives the same result, bit
        for bit, on one CPU machine with one number of threads; CUDA kernels may differ in the
        last bits.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each row of ``fit``, equal to ``predict`` on it.
    n_clusters_ : int
        Number of clusters.
    n_clusters_curve_ : dict of str to ndarray of shape (n_candidates,)
        Where `n_clusters` is ``"auto"``: the candidates ``n_clusters`` and two criteria of each;
        larger is better. For images with views, a lower bound of the ``mutual_information`` of the
        clusters of rows and of their views, in nats, and the ``gain`` that decides; else ``bic``
        and ``silhouette``, means over the draws of rows.
    cluster_centers_ : ndarray of shape (n_clusters, n_components)
        Centres in the embedding.
    init_ : str
        ``"k-means"`` or ``"whitened-k-means"``: the start that the fit went on from.
    init_scores_ : ndarray of shape (n_ended,)
        Label-free score of each start that ended, where there are several; higher is better, minus
        infinity where a further one diverged.
    temperature_ : float
        Scale T of the logits.
    n_iter_ : int
        Epochs of fine-tuning.
    history_ : list of dict
        One dict per epoch: ``phase``, ``epoch``, ``loss`` and its terms ``reconstruction`` and
        ``clustering``, with views also ``consistency`` and ``balance``; when fine-tuning also the
        monitors ``mean_max_probability``, ``sampled_not_nearest``, ``embedding_variance``,
        ``within_over_variance``, ``center_spread_over_variance``, ``min_cluster_fraction``,
        ``max_cluster_fraction``, ``label_change``, ``center_gradient_direct``,
        ``center_gradient_indirect`` (norms, last batch of the epoch) and ``temperature``. They are
        taken from the batches in training, and from the rows as they are, not from their views;
        the gradients of the centres are that of k-means with the chosen centres held fixed, and
        what is left, that of `consistency` and `balance` too, over `lambda_clustering`.
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
    CKMDomainAdapter : Clusters one domain with the help of another, labelled one.
    sklearn.cluster.KMeans : k-means on the inputs themselves.

    Notes
    -----
    Inputs are scaled by what ``fit`` saw. Images: bytes are divided by 255, floats mapped to
    [0, 1]. Tables: features are centred, and divided by one common number where their standard
    deviations are of one order (at most ten times the median), else each by its own. Of the former,
    those that spread more than twice the median are cut down to that.

    *Views.* With an augmentation, each batch of the fine-tuning holds its rows as they are and in a
    view, and two terms join the loss: `lambda_consistency` times the cross-entropy, both ways,
    between the cluster probabilities of a row and of its view, and `lambda_balance` times the
    divergence of the mean probabilities from equal shares. With equal weights, and where a row and
    its view agree, their sum is, up to a constant, the negative mutual information of rows and
    clusters. The temperature of these two terms starts at six times `temperature_` (not with
    ``objective="dec"``, whose assignments know no temperature), the weight of the second at three
    times `lambda_balance`, and both fall over the first half of `max_epochs`, but for a warm start:
    soft assignments let rows leave the cluster in which k-means put them, and a strong balance
    keeps two centres from sharing a class while another holds several. With both weights 0 the
    target has no views.
    What a view must not change is a matter of the data: a 6 that is turned around is a 9, and noise
    of a tenth of its spread may be all that a feature tells. Clusters whose sizes differ tenfold
    can be split and merged for the sake of balance: a smaller `lambda_balance` lets them be, at
    the risk of empty clusters.

    *Number of clusters.* For images with views, ``n_clusters="auto"`` fine-tunes the target alone
    for at most 30 epochs with two clusters, three, and so on to 20 or a tenth of the rows, on at
    most 2,000 rows and with the default objective and weights, and measures a lower bound I(k) of
    the mutual information of the clusters of rows and of their views: log k less the last
    ``consistency`` and ``balance`` [5]_. A class that is divided from the others adds nearly as
    much as log k does; to divide a class adds little, for views cross the line. The estimate is
    where I(k) - 0.75 eta log k is largest, eta being the largest I(k) / log k, and the search ends
    four numbers past it. Kinds of one class that no view joins count as classes. For tables,
    without views and with ``max_epochs=0`` it looks at the pretrained embedding, in at most ten
    principal directions. Five times it draws half of the rows, at least 100 and at most 500.
    For 2 to 20 clusters, at most a tenth of the rows drawn, it computes the BIC of a Gaussian
    mixture with full covariances and the silhouette of k-means. The estimate is the mean, rounded,
    of the ten numbers at which these are best; of the five of the silhouette alone where that
    exceeds one half, in clear clusters. It fails where the embedding does: on classes that overlap
    there, that consist of separate kinds, or that have few rows. Look at ``n_clusters_curve_``, and
    take a number you know over an estimate.

    *Differences from the paper.* There are views; ``augmentation=None`` leaves them out. The logits
    are scaled (`temperature`), the loss is form B with
    the ReinMax gradient and no noise (see
    :class:`~sklearn_ckm.objectives.ConcreteKMeansObjective`), losses are means and not sums over
    samples, the fine-tuning goes on with the optimiser's state of the pretraining, and the centres
    start from the best of twenty runs of k-means (on at most 20,000 rows).

    References
    ----------
    .. [1] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering with Concrete K-Means.
       ICASSP 2020.
    .. [2] B. Gao, Y. Yang, H. Gouk, T. M. Hospedales. Deep Clustering for Domain Adaptation.
       ICASSP 2020, Eqs. 1 and 2.
    .. [3] X. Ji, J. F. Henriques, A. Vedaldi. Invariant Information Clustering for Unsupervised
       Image Classification and Segmentation. ICCV 2019 (mutual information between views).
    .. [4] W. Hu, T. Miyato, S. Tokui, E. Matsumoto, M. Sugiyama. Learning Discrete Representations
       via Information Maximizing Self-Augmented Training. ICML 2017.
    .. [5] D. Barber, F. Agakov. The IM Algorithm: a Variational Approach to Information
       Maximization. NeurIPS 2003 (the bound).

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm import ConcreteKMeans
    >>> X, _ = make_blobs(100, centers=3, random_state=0, cluster_std=0.5)
    >>> model = ConcreteKMeans(3, pretrain_epochs=5, max_epochs=5, random_state=0).fit(X)
    >>> model.cluster_centers_.shape
    (3, 10)
    """

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
        lambda_consistency: float = 10.0,
        lambda_balance: float = 10.0,
        temperature: float | str = "auto",
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
        self.lambda_consistency = lambda_consistency
        self.lambda_balance = lambda_balance
        self.temperature = temperature
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
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Cluster the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows to cluster, at least `n_clusters`.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : ConcreteKMeans
            The fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer rows than clusters, the inputs are not finite numbers, or training
            diverges.
        OSError
            If `checkpoint` is no folder that can be written to.

        Warns
        -----
        ConvergenceWarning
            If a centre ends dead, doubled, collapsed or away from the data, if training is
            interrupted, or if it diverges once and goes on at a tenth of the learning rate.
        """
        with self._as_before_on_error():
            return self._fit(self._check_rows(X, reset=True))

    def score(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Label-free score: agreement of the clusters with neighbourhoods of the inputs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows, at least three.
        y : Ignored
            Present by convention.
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
        return self._score_rows(X, sample_weight)
