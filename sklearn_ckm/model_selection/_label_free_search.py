"""Search over parameters by criteria that need no label of the target."""

import time
from collections.abc import Callable
from functools import partial
from itertools import combinations
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.utils import metadata_routing
from sklearn.utils._param_validation import Interval
from sklearn.utils.metadata_routing import MetadataRouter
from sklearn.utils.validation import _num_samples, check_is_fitted

from ..utils._domains import check_calling_style, check_sample_domain, split_domains
from ..utils._labels import UNLABELLED, check_labels, encode_labels
from ..utils._last_estimator_mixin import LastEstimatorMixin
from ..utils._random import check_local_random_state
from ..utils._stack_domains import stack_domains
from ..utils._tag_params import (
    last_estimator,
    last_step_name,
    reach_last_estimator,
    tag_params,
    takes_argument,
)
from ..utils._validation import fit_context
from ._hidden_classes import HiddenClasses
from ._scorers import (
    LABEL_FREE_CRITERIA,
    BaseDomainScorer,
    LabelFreeScorer,
    make_label_free_scorer,
)
from ._search_progress import SearchTasks, rating_bar
from ._target_split import TargetSplit

_LARGEST_SEED = np.iinfo(np.int32).max
_FEWEST_TESTED = 2  # rows of a fold: the criteria say nothing of a single row


class LabelFreeSearchCV(LastEstimatorMixin, GridSearchCV):
    """Grid search that chooses settings for a target without labels.

    Parameters
    ----------
    estimator : estimator object
        An estimator of two domains, or a pipeline that ends with one. For ``ConcreteKMeans`` use
        ``GridSearchCV`` with :func:`make_label_free_scorer`.
    param_grid : dict or list of dict
        As in :class:`sklearn.model_selection.GridSearchCV`.
    criterion : str, HiddenClasses or callable, default="information_maximization"
        What decides; larger is better. The default followed the truth best on digits, whose
        classes are of about equal size; it punishes rare classes.

        - a name of :func:`make_label_free_scorer`, or a scorer: mean over `n_splits` folds of the
          target's rows, as :class:`TargetSplit` makes them; the source is always in training, and
          so are the few labelled target rows of a classifier where the criterion reads no label.
        - ``"hidden_classes"``, or :class:`HiddenClasses` with other settings: `n_splits` times,
          some classes of the source are hidden and must be recovered. It cannot choose
          ``n_clusters``.
        - ``"seed_stability"``: mean pairwise adjusted Rand index of the target's clusters in
          `n_splits` fits of different seeds.
    n_splits : int, default=3
        Fits of each candidate.
    n_jobs : int, default=None
        Candidates that are fitted at a time.
    refit : bool, default=True
        Whether to fit the best candidate on all rows.
    verbose : int, default=0
        1 shows a progress bar over candidates and splits, more prints the fits as ``GridSearchCV``
        does.
    pre_dispatch : int or str, default="2*n_jobs"
        As in ``GridSearchCV``.
    error_score : "raise" or float, default=np.nan
        Score of a fit that fails.
    random_state : int, RandomState instance or None, default=None
        Draws hidden classes, folds and seeds; not the seed of the estimator.

    Attributes
    ----------
    best_params_ : dict
        Parameters of the candidate with the best mean score.
    best_score_ : float
        That score.
    best_index_ : int
        Its row in ``cv_results_``.
    cv_results_ : dict of str to ndarray
        As in ``GridSearchCV``; `split0_test_score` and so on are the scores of the splits.
    best_estimator_ : estimator object
        Fitted on source and real target with the best parameters, where `refit` is set.
    hidden_classes_ : list of ndarray
        Names of the classes hidden in each split; only with that criterion.
    n_splits_ : int
        Scores of each candidate: `n_splits`, but 1 for ``"seed_stability"``, which is one of them.
    refit_time_ : float
        Seconds of the last fit, where `refit` is set.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where the input has names and `refit` is set.

    See Also
    --------
    make_label_free_scorer : The same criteria for ``GridSearchCV``.

    Notes
    -----
    Set ``memory`` of the estimator: candidates that differ in the lambdas, the objective or
    ``n_clusters`` then share their pretraining.

    Callbacks of scikit-learn (``set_callbacks``) are handed on as by ``GridSearchCV``, with a level
    between: the candidates are tasks of a grid search, and this, or one for each set of hidden
    classes, is a task here. The further fits of ``"seed_stability"`` are not told.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm import CKMDomainAdapter
    >>> from sklearn_ckm.model_selection import LabelFreeSearchCV
    >>> X, y = make_blobs(350, centers=7, n_features=4, random_state=0)
    >>> source, target = y < 4, y >= 4
    >>> model = CKMDomainAdapter(3, pretrain_epochs=5, max_epochs=20, random_state=0)
    >>> search = LabelFreeSearchCV(model, {"lambda_clustering": [0.01, 0.1]}, random_state=0)
    >>> search.fit(X[source], y[source], X_tgt=X[target]).best_estimator_.labels_.shape
    (150,)
    """

    _parameter_constraints: dict = {
        **{
            name: constraint
            for name, constraint in GridSearchCV._parameter_constraints.items()
            if name not in ("scoring", "cv", "return_train_score")
        },
        "criterion": [str, HiddenClasses, callable],
        "n_splits": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "random_state": ["random_state"],
    }

    # the one request of this class; X_tgt and y_tgt are for direct calls
    __metadata_request__fit = {
        "sample_domain": True,
        "X_tgt": metadata_routing.UNUSED,
        "y_tgt": metadata_routing.UNUSED,
    }
    __metadata_request__score = {"sample_domain": True}

    def __init__(
        self,
        estimator: Any,
        param_grid: dict[str, Any] | list[dict[str, Any]],
        *,
        criterion: str | HiddenClasses | Callable[..., Any] = "information_maximization",
        n_splits: int = 3,
        n_jobs: int | None = None,
        refit: bool = True,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: float | str = np.nan,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            n_jobs=n_jobs,
            refit=refit,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
        )
        self.criterion = criterion
        self.n_splits = n_splits
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        y_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
    ) -> Self:
        """Rate every candidate, and fit the best one on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            The source's rows where `X_tgt` is given, else both domains stacked.
        y : array-like of shape (n_samples,), default=None
            Labels of `X` as in the estimator's ``fit``. Those of target rows are never read, except
            by an estimator that reads few, and by a scorer of one's own.
        X_tgt : array-like of shape (n_target, n_features) or (n_target, channels, height, width)
            The target's rows.
        y_tgt : array-like of shape (n_target,), default=None
            Few labels, for an estimator that reads them.
        sample_domain : array-like of shape (n_samples,), default=None
            Tags of stacked rows: ``>= 0`` for source rows, ``< 0`` for target rows.

        Returns
        -------
        self : LabelFreeSearchCV
            The fitted search.

        Raises
        ------
        ValueError
            If there are not two domains, or the criterion is unknown or cannot be computed, such
            as hidden classes where the source has fewer than four.
        TypeError
            If the estimator does not take two domains, or lacks what the criterion reads, such as
            ``predict_proba``.
        """
        if not takes_argument(last_estimator(self.estimator), "sample_domain"):
            raise TypeError(
                f"Expected an estimator whose fit takes sample_domain, got {self.estimator!r}. "
                "GridSearchCV with make_label_free_scorer searches over others."
            )
        criterion = self._check_criterion()
        X, y, tags = _read_domains(X, y, X_tgt, y_tgt, sample_domain)
        rng = check_local_random_state(self.random_state)
        for name in ("best_estimator_", "refit_time_", "feature_names_in_", "hidden_classes_"):
            vars(self).pop(name, None)  # of a fit before that had them
        n_searches = self.n_splits if isinstance(criterion, HiddenClasses) else 1
        n_ratings = 1 if criterion == "seed_stability" else self.n_splits
        tasks = SearchTasks(self, X, y, n_searches + self.refit)
        with rating_bar(len(ParameterGrid(self.param_grid)) * n_ratings, self.verbose) as bars:
            rate = partial(self._rate, tasks, bars)
            if isinstance(criterion, HiddenClasses):
                results = self._hide_classes(criterion, rate, X, y, tags, rng)
            elif criterion == "seed_stability":
                results = self._compare_seeds(rate, X, y, tags, rng)
            else:
                results = self._cross_validate(criterion, rate, X, y, tags, rng)
        self._set_results(results)
        if self.refit:
            start = time.perf_counter()
            best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
            self.best_estimator_ = tasks.fit(
                best, X, y, task_name="refit-with-best-params", **tag_params(best, tags)
            )
            self.refit_time_ = time.perf_counter() - start
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        tasks.finish()
        return self

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
    ) -> float:
        """Score of the best estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Read by classifiers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags; where given, only target rows count.

        Returns
        -------
        score : float
            That of ``best_estimator_``.
        """
        given = {"sample_weight": sample_weight, "sample_domain": sample_domain}
        given = {name: values for name, values in given.items() if values is not None}
        self._unfitted()
        estimator = self._fitted()
        if sample_domain is not None and not get_config()["enable_metadata_routing"]:
            # a Pipeline of scikit-learn would drop the tags
            estimator, X = reach_last_estimator(estimator, X)
        return estimator.score(X, y, **given)

    def get_metadata_routing(self) -> MetadataRouter:
        """Metadata that this search asks for: ``sample_domain``.

        Returns
        -------
        routing : MetadataRouter
            What scikit-learn's metadata routing asks for.
        """
        return MetadataRouter(owner=self).add_self_request(self)

    def _unfitted(self):
        if not self.refit:
            raise AttributeError(
                "Expected a search with refit=True, got refit=False: there is no estimator that "
                "answers. best_params_ has the settings to fit one with."
            )
        return self.estimator

    def _fitted(self):
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_

    def _check_criterion(self):
        """Resolve the criterion: an object, ``"seed_stability"`` or a scorer."""
        criterion = self.criterion
        known = sorted([*LABEL_FREE_CRITERIA, "hidden_classes", "seed_stability"])
        if criterion == "hidden_classes":
            criterion = HiddenClasses()
        elif isinstance(criterion, str) and criterion in LABEL_FREE_CRITERIA:
            criterion = make_label_free_scorer(criterion)
            criterion.check_estimator(self.estimator)
        elif isinstance(criterion, str) and criterion != "seed_stability":
            raise ValueError(f"Expected criterion to be one of {known}, got {criterion!r}.")
        elif isinstance(criterion, type):
            raise TypeError(f"Expected an object as criterion, got the class {criterion.__name__}.")
        if not isinstance(criterion, HiddenClasses) and self.n_splits < 2:
            raise ValueError(
                f"Expected n_splits of at least 2 for criterion={self.criterion!r}, got "
                f"{self.n_splits}."
            )
        return criterion

    def _rate(self, tasks, bars, estimator, scorer, splits, X, y, tags):
        """Rate all candidates on splits of one data set."""
        search = GridSearchCV(
            estimator,
            self.param_grid,
            scoring=scorer,
            cv=splits,
            n_jobs=self.n_jobs,
            refit=False,
            verbose=self.verbose if self.verbose > 1 else 0,
            pre_dispatch=self.pre_dispatch,
            error_score=self.error_score,
        )
        search.set_callbacks(*bars)
        params = tag_params(estimator, tags)
        return tasks.fit(search, X, y, task_name="grid-search", **params).cv_results_

    def _hide_classes(self, criterion, rate, X, y, tags, rng):
        name = last_step_name(self.estimator, "n_clusters")
        keys = {key for candidate in ParameterGrid(self.param_grid) for key in candidate}
        setters = [key for key in keys if f"{name}__".startswith(f"{key}__")]  # a step sets it too
        if setters:
            raise ValueError(
                f"Expected no {setters[0]!r} in param_grid: recovering hidden classes says nothing "
                f"of the target's {name}. Use n_clusters='auto' or another criterion."
            )
        estimator, n_shots = clone(self.estimator), 0
        if is_classifier(estimator):
            n_shots = criterion.resolve_n_shots(y[tags >= 0], y[tags < 0])
        metric = "accuracy" if is_classifier(estimator) else "clustering_accuracy"
        scorer = criterion.resolve_scorer(metric)
        tasks = criterion.make_tasks(
            X, y, tags, n_splits=self.n_splits, n_shots=n_shots, random_state=rng
        )
        results, self.hidden_classes_ = [], []
        for task in tasks:
            if estimator.get_params().get(name) is not None:
                estimator.set_params(**{name: len(task.hidden)})
            split = [(task.train, task.test)]
            results.append(rate(estimator, scorer, split, task.X, task.y, task.sample_domain))
            self.hidden_classes_.append(task.hidden)
        return _merge(results)

    def _compare_seeds(self, rate, X, y, tags, rng):
        scorer = _SeedStability(X, y, tags, rng.randint(_LARGEST_SEED, size=self.n_splits - 1))
        split = [(np.arange(len(tags)), np.flatnonzero(tags < 0))]
        return rate(self.estimator, scorer, split, X, y, tags)

    def _cross_validate(self, scorer, rate, X, y, tags, rng):
        seed, split_tags = int(rng.randint(_LARGEST_SEED)), tags.copy()
        if is_classifier(self.estimator) and isinstance(scorer, LabelFreeScorer):
            # few labels are needed in every fit, and none in a test fold
            target = np.flatnonzero(tags < 0)
            is_labelled = encode_labels(y[target], unlabelled=UNLABELLED)[0] >= 0
            if (~is_labelled).sum() >= _FEWEST_TESTED * self.n_splits:
                split_tags[target[is_labelled]] = 1
        n_tested, fewest = (split_tags < 0).sum(), _FEWEST_TESTED * self.n_splits
        if n_tested < fewest:
            raise ValueError(
                f"Expected n_splits of at most {n_tested // _FEWEST_TESTED}, for {_FEWEST_TESTED} "
                f"target rows in each test fold, got {self.n_splits} for {n_tested} rows to test "
                "on."
            )
        splits = list(TargetSplit(self.n_splits, random_state=seed).split(X, y, split_tags))
        return rate(self.estimator, scorer, splits, X, y, tags)

    def _set_results(self, results):
        if np.isnan(results["mean_test_score"]).all():
            raise ValueError(
                f"Expected a candidate that criterion={self.criterion!r} could rate, got none "
                "among them. The warnings above, or error_score='raise', tell why."
            )
        self.cv_results_ = results
        self.multimetric_ = False
        self.n_splits_ = sum(f"split{i}_test_score" in results for i in range(self.n_splits))
        self.best_index_ = int(results["rank_test_score"].argmin())
        self.best_score_ = float(results["mean_test_score"][self.best_index_])
        self.best_params_ = results["params"][self.best_index_]


class _SeedStability(BaseDomainScorer):
    """Scorer: how alike the clusters of the target are in fits of other seeds."""

    def __init__(self, X, y, sample_domain, seeds):
        self.X = X
        self.y = y
        self.sample_domain = sample_domain
        self.seeds = seeds

    def __call__(self, estimator, X, y=None, *, sample_domain=None):
        params = estimator.get_params()
        names = [name for name in params if name.split("__")[-1] == "random_state"]
        labels = [estimator.predict(X)]
        for seed in self.seeds:
            other = clone(estimator).set_params(**dict.fromkeys(names, int(seed)))
            other.fit(self.X, self.y, **tag_params(other, self.sample_domain))
            labels.append(other.predict(X))
        pairs = combinations(labels, 2)
        return float(np.mean([_agreement(a, b) for a, b in pairs]))


def _agreement(labels, others):
    """Adjusted Rand score, and 0 for one cluster, on which all fits would agree."""
    if min(len(np.unique(labels)), len(np.unique(others))) < 2:
        return 0.0
    return adjusted_rand_score(labels, others)


def _read_domains(X, y, X_tgt, y_tgt, sample_domain):
    """Return stacked rows, labels and tags of either calling style."""
    check_calling_style(X_tgt, y_tgt, sample_domain)
    if X_tgt is not None:
        X, y, sample_domain = stack_domains(X, y, X_tgt, y_tgt)
    elif sample_domain is None:
        raise ValueError(
            "Expected two domains: either X_tgt beside the source in X, or sample_domain with "
            "tags of stacked rows, got neither."
        )
    n_samples = _num_samples(X)
    split_domains(n_samples, sample_domain)  # both must have rows
    tags = check_sample_domain(sample_domain, n_samples)
    y = np.full(n_samples, np.nan) if y is None else check_labels(y, n_samples)
    return X, y, tags


def _merge(results):
    """Results of several searches of one grid, as if they were splits of one."""
    scores = np.stack([result["split0_test_score"] for result in results], axis=1)
    merged = {
        key: values
        for key, values in results[0].items()
        if key == "params" or key.startswith("param_")
    }
    for name in ("fit_time", "score_time"):
        times = np.stack([result[f"mean_{name}"] for result in results], axis=1)
        merged[f"mean_{name}"], merged[f"std_{name}"] = times.mean(1), times.std(1)
    for i, column in enumerate(scores.T):
        merged[f"split{i}_test_score"] = column
    mean = scores.mean(axis=1)
    merged["mean_test_score"], merged["std_test_score"] = mean, scores.std(axis=1)
    worst = -np.inf if np.isnan(mean).all() else np.nanmin(mean) - 1
    merged["rank_test_score"] = rankdata(-np.nan_to_num(mean, nan=worst), method="min").astype(
        np.int32
    )
    return merged
