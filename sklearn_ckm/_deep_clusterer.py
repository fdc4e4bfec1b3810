"""What the deep clustering estimators share: the phases of a fit and their learned state."""

import copy
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from os import PathLike, fspath

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight

from ._base import BaseDeepEstimator
from ._networks import NetworksMixin
from ._training._batches import as_float
from ._training._checkpoint import Checkpoint
from ._training._counting import count_clusters
from ._training._criteria import JointCriterion
from ._training._diagnosis import find_center_problems
from ._training._finetuning import FineTuning
from ._training._fit_tasks import FitTasks
from ._training._hash import hash_fit
from ._training._history import epoch_records
from ._training._inference import describe_centers, distances_in_blocks, embed_training_rows
from ._training._interrupts import HeldInterrupts
from ._training._n_clusters import FEWEST_ROWS
from ._training._phases import (
    Pretrained,
    start_centers,
    strip_net,
)
from ._training._starts import SCORED_ROWS, choose_start, neighborhood_agreement
from .augmentation._resolve import check_views, resolve_augmentation
from .objectives._resolve import resolve_objective
from .utils._device import resolve_device
from .utils._domains import check_target_rows
from .utils._random import (
    check_seed,
    fixed_sample,
    make_generator,
    phase_seed,
    torch_seed,
)
from .utils._warnings import warn_user

_TRIED_ROWS = 8  # of the target, that an augmentation is tried on before training
_NOT_IN_RESULT = ("checkpoint", "memory", "verbose", "random_state", "device")


def _check_n_rows(n_target, n_clusters):
    """Raise ``ValueError`` where there are fewer rows than clusters, or too few to count them."""
    if n_clusters == "auto":
        if n_target < FEWEST_ROWS:
            raise ValueError(
                f"Expected at least {FEWEST_ROWS} target rows for n_clusters='auto', got "
                f"{n_target}. Set n_clusters."
            )
    elif n_target < n_clusters:
        raise ValueError(
            f"Expected at least as many target rows as clusters, got n_samples={n_target} and "
            f"n_clusters={n_clusters}."
        )


class BaseDeepClusterer(NetworksMixin, CallbackSupportMixin, BaseDeepEstimator):
    """Base of the clustering estimators: an autoencoder whose embedding has centres.

    It runs the phases: pretraining, placing the centres, fine-tuning. What a domain is, and what
    the labels mean, belongs to the subclasses. Think twice before adding to it.
    """

    _parameter_constraints: dict = {
        **BaseDeepEstimator._parameter_constraints,
        "n_clusters": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "objective": [str, HasMethods(["step"])],
        "augmentation": [str, callable, None],
        "lambda_clustering": [Interval(Real, 0, None, closed="left")],
        "lambda_consistency": [Interval(Real, 0, None, closed="left")],
        "lambda_balance": [Interval(Real, 0, None, closed="left")],
        "temperature": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "init": [StrOptions({"auto", "k-means", "whitened-k-means"})],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "memory": [str, PathLike, HasMethods(["cache"]), None],
        "checkpoint": [str, PathLike, None],
        "warm_start": ["boolean"],
    }

    def predict(self, X: ArrayLike) -> np.ndarray:
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

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each cluster, as the objective defines it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of either domain.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters)
            Rows sum to one: the softmax of the negated squared distances over T, or Student's t of
            the distances with ``objective="dec"``. The scale T follows the median margin of the
            target rows (``temperature="auto"``) and is not a calibrated confidence.
        """
        return self._center_probabilities(self._embed(self._check_X(X)))

    def _score_rows(self, X, sample_weight=None, sample_domain=None):
        """Agreement of the clusters with neighbourhoods in the input space."""
        X = self._check_X(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        rows = np.arange(len(X))
        if sample_domain is not None:
            rows = np.flatnonzero(check_target_rows(sample_domain, len(X)))
        rows = rows[fixed_sample(len(rows), SCORED_ROWS)]
        return neighborhood_agreement(
            self._net.module_,
            self._scaler.to_tensor(X[rows]),
            None if sample_weight is None else sample_weight[rows],
        )

    def _nearest_centers(self, z):
        distances = distances_in_blocks(z, self._net.module_.centers.positions)
        return distances.argmin(1).cpu().numpy().astype(np.int32)

    def _center_probabilities(self, z):
        centers = self._net.module_.centers
        distances = distances_in_blocks(z, centers.positions)
        logits = self._objective.log_probabilities(distances.double(), centers.temperature)
        return logits.softmax(1).cpu().numpy()

    def _predict(self, z):
        """Labels of embeddings: the nearest centre, unless a subclass names the centres."""
        return self._nearest_centers(z)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _fit(
        self,
        X_target,
        X_source=None,
        y_source=None,
        n_classes=0,
        *,
        y_target=None,
        n_clusters=None,
        tunes_source=True,
    ):
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
        y_target : ndarray of shape (n_target,) or None
            Class indices, -1 where unlabelled.
        n_clusters : int, "auto" or None
            Number of centres, where it is not the parameter.
        tunes_source : bool
            Whether the source takes part in the fine-tuning too.
        """
        n_clusters = self.n_clusters if n_clusters is None else n_clusters
        is_started = self.warm_start and hasattr(self, "_net")
        if is_started and n_clusters == "auto":
            n_clusters = self.n_clusters_
        _check_n_rows(len(X_target), n_clusters)
        seed = check_seed(self.random_state)
        device = resolve_device(self.device)
        objective = resolve_objective(self.objective)
        settings = self._training_settings(device, X_target, X_source)
        augmentation = resolve_augmentation(self.augmentation, self._input_shape)
        make_criterion = partial(
            JointCriterion,
            objective,
            augmentation=augmentation,
            starts_soft=not is_started,
            **self._lambdas(),
        )
        scaler = self._scaler if is_started else None
        scaler, data = self._prepare_data(X_target, X_source, y_source, y_target, device, scaler)
        if augmentation is not None:
            if isinstance(augmentation, torch.nn.Module):
                augmentation.to(device)
            rows = as_float(data.target[:_TRIED_ROWS])
            with torch_seed(0, device):
                check_views(augmentation, rows, make_generator(0, device))

        learned = {"_scaler": scaler, "_objective": objective}
        n_starts = 1 if is_started else int(self.n_init)
        pretrain = partial(self._pretrain, data, n_classes if tunes_source else 0, augmentation)
        tuned = data if tunes_source else replace(data, source=None, y_source=None)
        finetuning = self._make_finetuning(
            tuned,
            make_criterion,
            pretrain_other=None if is_started or X_source is None or n_clusters == 1 else pretrain,
        )
        tasks = FitTasks(self, X_target, (1 + finetuning.most_phases) * n_starts, learned)
        settings = replace(settings, tasks=tasks)
        with self._make_checkpoint(data, seed) or nullcontext() as checkpoint:
            if checkpoint is not None:
                seed = checkpoint.keep_seed(seed)
                settings = replace(settings, checkpoint=checkpoint)

            vars(self).pop("init_scores_", None)
            if is_started:
                pretrained = self._continue_from(
                    self._net.module_, n_clusters, n_classes if tunes_source else 0, device
                )
            else:
                pretrained = pretrain(settings, seed)
                for name in ("n_clusters_curve_", "pretraining_", "source_in_pretraining_"):
                    vars(self).pop(name, None)
                if n_clusters == "auto":
                    n_clusters = self._estimate_n_clusters(
                        pretrained, data.target, settings, make_criterion(), seed
                    )
                    n_clusters = self._adopt_n_clusters(n_clusters)
            with HeldInterrupts() as interrupts:  # from here on, they leave a fitted model
                settings = replace(settings, interrupts=interrupts)
                finetune = partial(finetuning.run, n_clusters=int(n_clusters))
                fitted = finetune(pretrained, settings, seed)
                if n_starts > 1:
                    fitted, learned["init_scores_"] = choose_start(
                        fitted,
                        pretrain,
                        finetune,
                        data.target,
                        n_init=n_starts,
                        settings=settings,
                        seed=seed,
                    )
                vars(self).update(learned)
                self._set_learned(*fitted, tuned)
                tasks.finish()
                is_interrupted = interrupts.is_pending or self.stop_reason_ == "interrupted"
                if checkpoint is not None and not is_interrupted:
                    checkpoint.clear()
        self._tell_interrupt(interrupts)
        return self

    def _make_checkpoint(self, data, seed):
        """Where this fit keeps its state, by all that the result depends on; None if not wanted."""
        if self.checkpoint is None:
            return None
        if not fspath(self.checkpoint):
            raise ValueError("Expected 'checkpoint' to be a folder, got ''.")
        given = {n: v for n, v in self.get_params(deep=False).items() if n not in _NOT_IN_RESULT}
        is_started = self.warm_start and hasattr(self, "_net")
        before = self._net.module_.state_dict() if is_started else {}
        tensors = {**vars(data), **before}
        parts = {
            "arrays": {n: None if t is None else t.cpu().numpy() for n, t in tensors.items()},
            "device": data.target.device.type,
            "seed": None if self.random_state is None else seed,
        }
        types = [type(self)]
        return Checkpoint(
            self.checkpoint, hash_fit(parts, given, types=types, parameter="checkpoint")
        )

    def _inits(self, criterion):
        """How centres start: two ways, where views tell which was the better."""
        if self.init != "auto":
            return [self.init]
        is_compared = criterion.compares_views and self.max_epochs
        return ["k-means", "whitened-k-means"] if is_compared else ["k-means"]

    def _make_finetuning(self, data, make_criterion, *, pretrain_other):
        """What the fine-tunings of this fit have in common; Eqs. 4 and 8."""
        criterion = make_criterion()
        inits, others = self._inits(criterion), ()
        if pretrain_other is not None and len(inits) > 1:
            others = self._other_networks(data, criterion, pretrain_other)
        return FineTuning(
            data,
            make_criterion,
            place_centers=self._initial_centers,
            inits=inits,
            temperature=self.temperature,
            max_epochs=int(self.max_epochs),
            net_kwargs={
                "is_balanced": getattr(self, "source_sampling", None) == "balanced",
                "tol": float(self.tol),
                "n_iter_no_change": int(self.n_iter_no_change),
            },
            others=others,
        )

    def _estimate_n_clusters(self, pretrained, target, settings, criterion, seed):
        """Number of clusters; the curve that it was read from becomes an attribute."""
        n_clusters, self.n_clusters_curve_ = count_clusters(
            pretrained,
            target,
            settings,
            criterion.augmentation if criterion.compares_views else None,
            batch_size=self.batch_size,
            temperature=self.temperature,
            max_epochs=int(self.max_epochs),
            seed=phase_seed(seed, "n_clusters"),
        )
        if not self.n_clusters_curve_.get("mutual_information", np.ones(1)).any():
            warn_user(
                f"The estimate of n_clusters, {n_clusters}, says nothing: with no number of "
                "clusters do those of rows and of their views agree. Train for more epochs, or set "
                "n_clusters.",
                ConvergenceWarning,
            )
        elif n_clusters == self.n_clusters_curve_["n_clusters"][-1]:
            warn_user(
                f"The estimate of n_clusters, {n_clusters}, is the largest number that is looked "
                f"at on {len(target)} rows: there may be more clusters. Set n_clusters if you know "
                "better.",
            )
        return n_clusters

    def _adopt_n_clusters(self, n_clusters):
        """Take over an estimate; return the number of centres that it leads to."""
        return n_clusters

    def _continue_from(self, previous, n_clusters, n_classes, device):
        """Return a copy of an earlier fit's model, for a warm start."""
        n_before = 0 if previous.classifier is None else previous.classifier.out_features
        got = (*previous.centers.positions.shape, n_before)
        wanted = (n_clusters, self.n_components, n_classes)
        if got != wanted:
            raise ValueError(
                "Expected the same n_clusters, n_components and number of source classes as in "
                f"the fit that warm_start continues, {got}, got {wanted}. Set warm_start=False."
            )
        model = copy.deepcopy(previous).to(device)
        model.centers.set_temperature(self.temperature)
        pretraining = getattr(self, "pretraining", None)
        if pretraining == "auto":  # as the network was trained last
            pretraining = getattr(self, "pretraining_", None)
        return Pretrained(
            model,
            has_source=getattr(self, "source_in_pretraining_", None),
            follows_classes=pretraining == "classification",
        )

    def _lambdas(self):
        """Weights of the joint loss; an estimator without a term has no parameter for it."""
        terms = ("clustering", "classification", "kshot", "consistency", "balance", "source")
        names = [f"lambda_{term}" for term in terms]
        return {name: float(getattr(self, name, 0.0)) for name in names}

    def _initial_centers(self, z, data, n_clusters, seed, init):
        """Centres of k-means in the embedding, the best of twenty runs."""
        return start_centers(z, n_clusters, seed=seed, is_whitened=init == "whitened-k-means")

    def _set_learned(self, net, start, data):
        """Set the learned attributes, and warn where the centres cannot be trusted."""
        tuned = epoch_records(net)
        vars(self).update(start.learned)
        self.history_ = start.pretrained.history + tuned
        self.n_iter_ = len(tuned)
        self.stop_reason_ = net.stop_reason or "max_epochs"
        self._net = strip_net(net)
        z = embed_training_rows(net.module_, data.target, net.device, phase="finetune", lr=self.lr)
        self.labels_ = self._predict(z)
        vars(self).update(describe_centers(net.module_))
        nearest = self._nearest_centers(z)
        problems = find_center_problems(z.cpu().numpy(), self.cluster_centers_, nearest)
        if problems:
            if self.stop_reason_ != "interrupted":
                self.stop_reason_ = "collapsed"
            warn_user(
                f"{type(self).__name__} ended with centres that cannot be trusted: "
                f"{'; '.join(problems)}. Try more epochs, another random_state, a larger n_init, "
                "fewer clusters, a smaller lambda_clustering or "
                "ConcreteKMeansObjective(reseed_empty=True).",
                ConvergenceWarning,
            )

    def _tell_interrupt(self, interrupts):
        """Warn where Ctrl-C was pressed in the fine-tuning, or after it."""
        if interrupts.is_pending:
            self.stop_reason_ = "interrupted"
        if self.stop_reason_ == "interrupted":
            n_ended = len(getattr(self, "init_scores_", ()))
            if 0 < n_ended < self.n_init:
                state = f"in start {n_ended + 1} of {self.n_init}, and is the best of those before"
            else:
                state = (
                    f"after {self.n_iter_} epochs of fine-tuning of {self.max_epochs}, and is "
                    "fitted as it was then"
                )
            warn_user(
                f"{type(self).__name__} was interrupted {state}.",
                ConvergenceWarning,
            )
