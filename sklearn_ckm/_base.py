"""What the estimators share: input checks, seeds, phases and learned state."""

import copy
import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ._training._criteria import JointCriterion
from ._training._diagnosis import find_center_problems
from ._training._inference import distances_in_blocks
from ._training._optimizers import resolve_optimizer
from ._training._phases import (
    Pretrained,
    TrainingData,
    TrainingSettings,
    embed,
    epoch_records,
    pretrain,
    set_centers,
    start_centers,
    start_finetuning,
    strip_net,
)
from ._training._pretraining_cache import cached_pretraining
from .metrics import neighborhood_agreement_score
from .modules import ClusteringModel, build_autoencoder
from .objectives._resolve import resolve_objective
from .utils._device import resolve_device
from .utils._domains import check_target_rows
from .utils._input import ACCEPTED_DTYPES, InputScaler, as_rows, check_image_shape
from .utils._random import check_seed, phase_seed, torch_seed

_SCORED_ROWS = 2000
_FEWEST_SCORED = 3
_BATCHES_PER_EPOCH = 32  # wanted by batch_size="auto", within these limits of its size
_BATCH_LIMITS = 32, 256
_SHORT_TUNING = 5  # one part in five of the epochs decides between several starts


def _scored_rows(n_samples):
    """A fixed sample of the rows, so that scores of one data set compare."""
    if n_samples <= _SCORED_ROWS:
        return np.arange(n_samples)
    return np.sort(np.random.default_rng(0).choice(n_samples, _SCORED_ROWS, replace=False))


class BaseDeepClusterer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the estimators: an autoencoder whose embedding is clustered.

    It owns what is the same whatever the labels: inputs, seeds, phases, prediction. What a domain
    is, and what the labels mean, belongs to the subclasses. Think twice before adding to it.
    """

    _parameter_constraints: dict = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "encoder": [str, callable],
        "image_shape": ["array-like", None],
        "objective": [str, HasMethods(["step"])],
        "lambda_clustering": [Interval(Real, 0, None, closed="left")],
        "temperature": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [str, callable],
        "device": [str, torch.device],
        "precision": [StrOptions({"float32", "bfloat16"})],
        "memory": [str, HasMethods(["cache"]), None],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def predict(self, X):
        """Assign each row to its nearest centre in the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of either domain.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
            Indices of clusters.
        """
        return self._predict(self._embed(self._check_X(X)))

    def predict_proba(self, X):
        """Probability of each cluster: the softmax of the negated squared distances over T.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of either domain.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters)
            Rows sum to one. The scale T of the logits follows the median margin of the target
            rows (``temperature="auto"``) and is not a calibrated confidence.
        """
        z = self._embed(self._check_X(X))
        centers = self._net.module_.centers
        distances = distances_in_blocks(z, centers.positions)
        logits = self._objective.log_probabilities(distances.double(), centers.temperature)
        return logits.softmax(1).cpu().numpy()

    def transform(self, X):
        """Embed the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of either domain.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            float64 for float64 inputs, else float32.
        """
        X = self._check_X(X)
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        return self._embed(X).cpu().numpy().astype(dtype, copy=False)

    def _score_rows(self, X, sample_weight=None, sample_domain=None):
        """Agreement of the clusters with neighbourhoods in the input space."""
        X = self._check_X(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        rows = np.arange(len(X))
        if sample_domain is not None:
            rows = np.flatnonzero(check_target_rows(sample_domain, len(X)))
        rows = rows[_scored_rows(len(rows))]
        return self._agreement(
            self._net.module_,
            self._scaler.to_tensor(X[rows]),
            None if sample_weight is None else sample_weight[rows],
        )

    def _embed(self, X):
        return embed(self._net.module_, X, self._net.device, self._scaler.to_tensor)

    def _predict(self, z):
        distances = distances_in_blocks(z, self._net.module_.centers.positions)
        return distances.argmin(1).cpu().numpy().astype(np.int32)

    @contextmanager
    def _as_before_on_error(self):
        """Leave the estimator as it was where a fit fails or is interrupted."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _check_X(self, X):
        """Validate the inputs of a fitted estimator and return them as rows."""
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        self._scaler.check(X)
        return X

    def _check_rows(self, X, *, reset, name="X"):
        """Return validated rows; `reset` learns the shape of a sample, else it must hold."""
        X, shape = as_rows(X, self.image_shape, name)
        if not reset and shape is not None and shape != self._input_shape:
            raise ValueError(
                f"Expected samples of shape {self._input_shape}, got images of shape {shape} in "
                f"{name}. sklearn_ckm.preprocessing.ImageFormatter brings images to one form."
            )
        checked = check_array(X, dtype=ACCEPTED_DTYPES, order="C", estimator=self, input_name=name)
        validate_data(self, X, reset=reset, skip_check_array=True)  # number and names of features
        X = checked
        if shape is not None:
            check_image_shape(shape, X.shape[1], name)
        if reset:
            self._input_shape = shape or (X.shape[1],)
        return X

    def _check_enough_rows(self, n_target):
        if n_target < self.n_clusters:
            raise ValueError(
                f"Expected at least as many target rows as clusters, got n_samples={n_target} and "
                f"n_clusters={self.n_clusters}."
            )

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _fit(self, X_target, X_source=None, y_source=None, n_classes=0):
        """Run the phases on checked rows and set what is learned.

        Parameters
        ----------
        X_target : ndarray of shape (n_target, n_features)
            Rows to cluster.
        X_source : ndarray of shape (n_source, n_features) or None
            Rows of the source.
        y_source : ndarray of shape (n_source,) or None
            Class indices, -1 where unlabelled.
        n_classes : int
            Number of the source's classes.
        """
        self._check_enough_rows(len(X_target))
        seed = check_seed(self.random_state)
        device = resolve_device(self.device)
        objective = resolve_objective(self.objective)
        settings = TrainingSettings(
            device=device,
            lr=self.lr,
            batch_size=self._resolve_batch_size(X_target, X_source),
            optimizer=resolve_optimizer(self.optimizer, device),
            precision=self.precision,
            callbacks=self.callbacks,
            verbose=int(self.verbose),
        )
        is_started = self.warm_start and hasattr(self, "_net")
        scaler = self._scaler if is_started else None
        scaler, data = self._prepare_data(X_target, X_source, y_source, device, scaler)

        if is_started:
            pretrained = self._continue_from(self._net.module_, n_classes, device)
        else:
            pretrained = self._pretrain(data, settings, n_classes, seed)
        net = self._finetune(pretrained, data, settings, objective, seed)

        self._scaler = scaler
        self._objective = objective
        self._set_learned(net, data, pretrained.history)
        return self

    def _resolve_batch_size(self, X_target, X_source):
        if self.batch_size != "auto":
            return int(self.batch_size)
        n_larger = max(len(X_target), 0 if X_source is None else len(X_source))
        return int(np.clip(n_larger // _BATCHES_PER_EPOCH, *_BATCH_LIMITS))

    def _prepare_data(self, X_target, X_source, y_source, device, scaler=None):
        """Learn the input scale from both domains and put the rows on the device."""
        is_shared = X_source is X_target
        parts = [X_target] if X_source is None or is_shared else [X_target, X_source]
        if scaler is None:
            scaler = InputScaler(self._input_shape).fit(parts, ["the target", "the source"])
        elif scaler.input_shape != self._input_shape:
            raise ValueError(
                f"Expected samples of shape {scaler.input_shape} as in the fit that warm_start "
                f"continues, got {self._input_shape}. Set warm_start=False."
            )
        else:
            for part in parts:
                scaler.check(part)
        target = scaler.to_tensor(X_target).to(device)
        source = None
        if X_source is not None:
            source = target if is_shared else scaler.to_tensor(X_source).to(device)
        if y_source is not None:
            y_source = torch.from_numpy(y_source).to(device)
        return scaler, TrainingData(target, source, y_source)

    def _pretrain(self, data, settings, n_classes, seed):
        """Build the network and train its autoencoder (Eq. 1), or take that from the cache."""
        cpu = torch.device("cpu")
        with torch_seed(phase_seed(seed, "weights"), cpu):
            encoder, decoder = build_autoencoder(
                self.encoder, self._input_shape, int(self.n_components)
            )
        model = ClusteringModel(encoder, decoder)
        kwargs = {"max_epochs": int(self.pretrain_epochs), "seed": phase_seed(seed, "pretrain")}
        if self.memory is None or self.random_state is None:
            history, optimizer_state = pretrain(model, data, settings, **kwargs)
        else:
            history, optimizer_state = cached_pretraining(
                self.memory, model, data, settings, encoder=self.encoder, **kwargs
            )
        model.to(settings.device)
        if n_classes:
            with torch_seed(phase_seed(seed, "classifier"), cpu):
                model.classifier = torch.nn.Linear(int(self.n_components), n_classes)
            model.classifier.to(settings.device, torch.float32)
        return Pretrained(model, history, optimizer_state)

    def _continue_from(self, previous, n_classes, device):
        """Return a copy of an earlier fit's model, for a warm start."""
        n_clusters, n_components = previous.centers.positions.shape
        n_before = 0 if previous.classifier is None else previous.classifier.out_features
        got = (n_clusters, n_components, n_before)
        wanted = (self.n_clusters, self.n_components, n_classes)
        if got != wanted:
            raise ValueError(
                "Expected the same n_clusters, n_components and number of source classes as in "
                f"the fit that warm_start continues, {got}, got {wanted}. Set warm_start=False."
            )
        model = copy.deepcopy(previous).to(device)
        model.centers.set_temperature(self.temperature)
        return Pretrained(model)

    def _finetune(self, pretrained, data, settings, objective, seed):
        """Place the centres and train everything together (Eq. 4).

        With several starts, each is tuned for a fifth of the epochs, and the one whose clusters
        agree best with neighbourhoods in the input space goes on.
        """
        max_epochs = int(self.max_epochs)
        is_started = pretrained.model.centers is not None
        if self.n_init == 1 or is_started or len(data.target) < _FEWEST_SCORED:
            start_seed = phase_seed(seed, "finetune")
            net, batches = self._start(pretrained, data, settings, objective, start_seed)
        else:
            best_score = -np.inf
            for i in range(int(self.n_init)):
                start_seed = phase_seed(seed, "finetune", i)
                trial = self._start(
                    copy.deepcopy(pretrained), data, settings, objective, start_seed
                )
                with torch_seed(phase_seed(seed, "trial", i), settings.device):
                    trial[0].partial_fit(trial[1], epochs=-(-max_epochs // _SHORT_TUNING))
                rows = _scored_rows(len(data.target))
                score = self._agreement(trial[0].module_, data.target[rows])
                if score > best_score:
                    best_score, (net, batches) = score, trial
        with torch_seed(phase_seed(seed, "dropout"), settings.device):
            if net.stop_reason is None:
                net.partial_fit(batches, epochs=max_epochs - len(net.history))
        return net

    def _start(self, pretrained, data, settings, objective, seed):
        """Place the centres, unless an earlier fit left some, and make the net and its batches."""
        model = pretrained.model
        z = embed(model, data.target, settings.device)
        if model.centers is not None:
            labels = distances_in_blocks(z, model.centers.positions.detach()).argmin(1)
        else:
            labels = set_centers(model, z, self._initial_centers(z, seed), self.temperature)
        lambdas = {"lambda_clustering": float(self.lambda_clustering)}
        if model.classifier is not None:
            lambdas["lambda_classification"] = float(self.lambda_classification)
        return start_finetuning(
            model,
            data,
            settings,
            is_balanced=getattr(self, "source_sampling", None) == "balanced",
            seed=seed,
            criterion=JointCriterion(objective, **lambdas),
            labels=labels,
            optimizer_state=pretrained.optimizer_state,
            max_epochs=int(self.max_epochs),
            tol=float(self.tol),
            n_iter_no_change=int(self.n_iter_no_change),
        )

    def _initial_centers(self, z, seed):
        """Centres of k-means in the embedding: the best of twenty runs, or one for each start."""
        if self.n_init > 1:
            return start_centers(z, self.n_clusters, seed=seed, n_starts=1)
        return start_centers(z, self.n_clusters, seed=seed)

    @staticmethod
    def _agreement(model, X, sample_weight=None):
        """Label-free score of a model on rows that are scaled already."""
        z = embed(model, X, model.centers.positions.device)
        labels = distances_in_blocks(z, model.centers.positions.detach()).argmin(1)
        return neighborhood_agreement_score(
            X.flatten(1).float().cpu().numpy(),
            labels.cpu().numpy(),
            sample_size=None,
            sample_weight=sample_weight,
        )

    def _set_learned(self, net, data, pretrain_history):
        """Set the learned attributes, and warn where the centres cannot be trusted."""
        tuned = epoch_records(net)
        self.history_ = pretrain_history + tuned
        self.n_iter_ = len(tuned)
        self.stop_reason_ = net.stop_reason or "max_epochs"
        self._net = strip_net(net)
        z = embed(net.module_, data.target, net.device)
        self.labels_ = self._predict(z)
        self.cluster_centers_ = net.module_.centers.positions.detach().cpu().numpy().copy()
        self.temperature_ = float(net.module_.centers.temperature)
        problems = find_center_problems(z.cpu().numpy(), self.cluster_centers_, self.labels_)
        if problems:
            self.stop_reason_ = "collapsed"
            warnings.warn(
                f"{type(self).__name__} ended with centres that cannot be trusted: "
                f"{'; '.join(problems)}. Try another random_state, a larger n_init, fewer "
                "clusters, a smaller lambda_clustering or "
                "ConcreteKMeansObjective(reseed_empty=True).",
                ConvergenceWarning,
                stacklevel=7,  # the caller of fit, past the context managers
            )

    @property
    def _n_features_out(self):
        return self.cluster_centers_.shape[1]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_net")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
