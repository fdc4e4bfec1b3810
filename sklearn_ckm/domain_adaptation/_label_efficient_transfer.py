"""Label-efficient transfer: adversarial alignment and transfer by similarities."""

import copy
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval

from .._training._adaptation_criteria import TransferCriterion
from .._training._inference import embed, forward_in_blocks
from .._training._phases import class_means
from ..modules import MultiLayerDiscriminator, last_layers
from ._few_shot_classifier import BaseFewShotClassifier


class LabelEfficientTransfer(BaseFewShotClassifier):
    """Classify a target from few labels by label-efficient transfer (LET) from a source.

    A network is trained to classify the source, and a copy of its encoder becomes the target's
    own. That is trained, together with a classifier of the target's classes and a discriminator of
    the domains, on

    .. math:: L_{sup}(X_t^l, y_t^l) + \\alpha L_{DT}(X_s, X_t) + \\beta L_{ST}(X_s, X_t, X_t^l).

    :math:`L_{DT}` makes the domains indistinguishable in the last two layers of the encoders.
    :math:`L_{ST}` makes the similarities of target rows to the source's classes, and those to the
    target's labelled classes, low in entropy, and classifies the labelled rows by their
    similarities.

    With ``lambda_adversarial=0, lambda_transfer=0`` it is the fine-tuning of a source classifier on
    the labelled target rows.

    Parameters
    ----------
    n_components : int, default=10
        Width of the embedding.
    encoder : {"auto", "mlp", "mlp-small", "conv"} or callable, default="auto"
        The network, as in :class:`~sklearn_ckm.ConcreteKMeans`; its decoder is not used.
    image_shape : tuple of int, default=None
        ``(channels, height, width)`` of images that come flattened to rows.
    lambda_adversarial : float, default=0.1
        Weight alpha of the domain transfer, in nats.
    lambda_transfer : float, default=0.1
        Weight beta of the semantic transfer, in nats.
    source_temperature : float, default=2.0
        Temperature of the similarities to the source's classes.
    target_temperature : float, default=1.0
        Temperature of the similarities to the target's classes.
    gate : float, default=0.1
        Weight gamma, in [0, 1], of a discriminator's answer in the next layer's.
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
        ``classification``, ``discrimination``, ``confusion`` and ``transfer``; those of weight 0
        are left out.
    n_features_in_ : int
        Number of features, ``channels * height * width`` for images.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where the input has names.

    See Also
    --------
    sklearn_ckm.CKMSemiSupervisedAdapter : Names clusters by few labels, and aligns nothing.

    Notes
    -----
    The discriminator reads the code and, of an encoder that ends in a stack of layers with a dense
    one last (both of the package do), the hidden layer before it: the second last and the third
    last layer of a classifier, as the paper takes them where the classes of the domains differ.
    Both players of the domain transfer are updated in one step.

    *Differences from the source.* The similarities to the source are to its class means, which the
    paper allows, computed once, as the source's network does not change. The paper's ``L_sup`` and
    its metric cross-entropy of the labelled rows are both means over these rows; its sums over
    data sets are means here. The hidden width of the discriminator, 100, is ours.

    References
    ----------
    .. [1] Z. Luo, Y. Zou, J. Hoffman, L. Fei-Fei. Label Efficient Learning of Transferable
       Representations across Domains and Tasks. NeurIPS 2017.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm.datasets import keep_few_labels
    >>> from sklearn_ckm.domain_adaptation import LabelEfficientTransfer
    >>> X, y = make_blobs(200, centers=5, n_features=4, random_state=0)
    >>> source, target = y < 3, y >= 3
    >>> y_few = keep_few_labels(y[target], 2, random_state=0)
    >>> model = LabelEfficientTransfer(pretrain_epochs=5, max_epochs=5, random_state=0)
    >>> model.fit(X[source], y[source], X_tgt=X[target], y_tgt=y_few).classes_
    array([3, 4])
    """

    _parameter_constraints: dict = {
        **BaseFewShotClassifier._parameter_constraints,
        "lambda_adversarial": [Interval(Real, 0, None, closed="left")],
        "lambda_transfer": [Interval(Real, 0, None, closed="left")],
        "source_temperature": [Interval(Real, 0, None, closed="neither")],
        "target_temperature": [Interval(Real, 0, None, closed="neither")],
        "gate": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        *,
        n_components: int = 10,
        encoder: str | Callable[..., Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        lambda_adversarial: float = 0.1,
        lambda_transfer: float = 0.1,
        source_temperature: float = 2.0,
        target_temperature: float = 1.0,
        gate: float = 0.1,
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
        self.lambda_adversarial = lambda_adversarial
        self.lambda_transfer = lambda_transfer
        self.source_temperature = source_temperature
        self.target_temperature = target_temperature
        self.gate = gate
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

    def predict_source(self, X: ArrayLike) -> np.ndarray:
        """Classify rows with the source's own network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the source.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Elements of ``source_classes_``.
        """
        X = self._check_X(X)
        model = self._net.module_.eval()

        def logits(x):
            return model.classifier(model.source_encoder(x))

        answers = forward_in_blocks(logits, X, self._net.device, self._scaler.to_tensor)
        return self.source_classes_[answers.argmax(1).cpu().numpy()]

    def _add_heads(self, model, run):
        super()._add_heads(model, run)
        sample = torch.zeros(1, *self._input_shape)
        with torch.no_grad():
            widths = [layer.shape[1] for layer in last_layers(model.encoder.eval(), sample)]
        model.encoder.train()
        model.discriminator = MultiLayerDiscriminator(widths, float(self.gate))

    def _adapt(self, model, run, net):
        model.source_encoder = copy.deepcopy(model.encoder).requires_grad_(False)
        model.classifier.requires_grad_(False)
        z = embed(model, run.data.source, run.settings.device)
        criterion = TransferCriterion(
            float(self.lambda_adversarial),
            float(self.lambda_transfer),
            float(self.source_temperature),
            float(self.target_temperature),
            class_means(z, run.data.y_source).to(z.device),
            len(run.domains.target_classes),
        )
        return self._adapt_jointly(model, run, criterion)
