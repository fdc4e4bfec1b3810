"""Pipelines whose every step sees both domains."""

from typing import Any, Self

import numpy as np
from joblib import Memory
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import _safe_indexing, metadata_routing
from sklearn.utils.metaestimators import available_if

from .utils import stack_domains
from .utils._domains import check_calling_style
from .utils._last_estimator_mixin import LastEstimatorMixin
from .utils._tag_params import last_estimator, reach_last_estimator, tag_params, takes_argument

__all__ = ["DomainPipeline", "make_domain_pipeline"]


def _pipeline_has(name):
    """Whether scikit-learn's Pipeline offers a method, which depends on its last step."""
    return lambda self: hasattr(super(DomainPipeline, self), name)


class DomainPipeline(LastEstimatorMixin, Pipeline):
    """A scikit-learn Pipeline that is called like the estimators of this package.

    Two arrays or one stack with tags: either way every step is fitted on the rows of both domains,
    and the last step is told which row belongs to which. The calls are the same whether metadata
    routing is enabled or not. Without domains it is scikit-learn's Pipeline.

    Parameters
    ----------
    steps : list of tuple
        Names and estimators, as in :class:`~sklearn.pipeline.Pipeline`. ``fit`` of the last
        estimator, which may stand at the end of a nested pipeline, takes `sample_domain`.
    transform_input : list of str, default=None
        As in :class:`~sklearn.pipeline.Pipeline`.
    memory : str or joblib.Memory, default=None
        Where to keep fitted transformers, as in :class:`~sklearn.pipeline.Pipeline`.
    verbose : bool, default=False
        Whether to print the time of each step.

    See Also
    --------
    make_domain_pipeline : The same without naming the steps.

    Notes
    -----
    *Why not two arrays in a plain Pipeline.* ``pipeline.fit(X, y, adapt__X_tgt=X_tgt)`` runs, and
    is wrong: the steps before the last transform `X` alone, and `X_tgt` reaches the last step raw,
    on another scale. In searches, over this pipeline too, stack the domains and pass
    `sample_domain`: ``GridSearchCV(pipeline, grid).fit(X, y, X_tgt=X_tgt)`` silently cuts `X_tgt`
    like `X` where both have the same number of rows.

    With metadata routing disabled `sample_domain` reaches the last step only; enabled, each step
    that requests it. A step before the last that reads `y` takes the mark of unlabelled target rows
    for a class.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_ckm import CKMDomainAdapter
    >>> from sklearn_ckm.pipeline import DomainPipeline
    >>> X, y = make_blobs(200, centers=5, n_features=4, random_state=0)
    >>> source, target = y < 3, y >= 3
    >>> model = CKMDomainAdapter(2, pretrain_epochs=5, max_epochs=5, random_state=0)
    >>> pipeline = DomainPipeline([("scale", StandardScaler()), ("adapt", model)])
    >>> pipeline.fit(X[source], y[source], X_tgt=X[target]).predict(X[target]).shape
    (80,)
    """

    # the steps make requests, the pipeline makes none
    __metadata_request__fit = dict.fromkeys(
        ["X_tgt", "y_tgt", "sample_domain"], metadata_routing.UNUSED
    )
    __metadata_request__score = {"sample_domain": metadata_routing.UNUSED}

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        y_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Fit each step on the rows of both domains.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The source's rows where `X_tgt` is given; else both domains stacked, told apart by
            `sample_domain`; without either, what scikit-learn's Pipeline takes.
        y : array-like of shape (n_samples,), default=None
            Labels of the rows of `X`, as in the last step.
        X_tgt : array-like of shape (n_target, ...), default=None
            The target's rows, in direct calls.
        y_tgt : array-like of shape (n_target,), default=None
            Labels of the rows of `X_tgt`, for a last step that takes `y_tgt`.
        sample_domain : array-like of shape (n_samples,), default=None
            Integers: ``>= 0`` for source rows, ``< 0`` for target rows.
        **params : dict
            Further parameters, as in :class:`~sklearn.pipeline.Pipeline`.

        Returns
        -------
        self : DomainPipeline
            The fitted pipeline.

        Raises
        ------
        ValueError
            If both `X_tgt` and `sample_domain` are given, or `y_tgt` without `X_tgt`.
        TypeError
            If the last step does not take `sample_domain`, or `y_tgt` where that is given, or the
            target is given to a step.
        """
        X, y, _, params = self._read(X, y, X_tgt, y_tgt, sample_domain, params)
        return super().fit(X, y, **params)

    @available_if(_pipeline_has("fit_transform"))
    def fit_transform(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        y_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
        **params: Any,
    ) -> Any:
        """Fit, and return the transformed rows of `X`.

        Parameters
        ----------
        X, y, X_tgt, y_tgt, sample_domain : array-like
            As in :meth:`fit`.
        **params : dict
            As in :meth:`fit`.

        Returns
        -------
        Z : array-like of shape (n_samples, n_components)
            One row for each row of `X`, none for those of `X_tgt`, as in the estimators.
        """
        X, y, tags, params = self._read(X, y, X_tgt, y_tgt, sample_domain, params)
        Z = super().fit_transform(X, y, **params)
        return Z if X_tgt is None else _safe_indexing(Z, np.flatnonzero(tags >= 0))

    @available_if(_pipeline_has("fit_predict"))
    def fit_predict(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        y_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
        **params: Any,
    ) -> np.ndarray:
        """Fit, and return the labels of the last step.

        Parameters
        ----------
        X, y, X_tgt, y_tgt, sample_domain : array-like
            As in :meth:`fit`.
        **params : dict
            As in :meth:`fit`.

        Returns
        -------
        labels : ndarray of shape (n_target,) or (n_samples,)
            One label for each row of `X_tgt` where that is given, else for each row of `X`.
        """
        X, y, tags, params = self._read(X, y, X_tgt, y_tgt, sample_domain, params)
        labels = super().fit_predict(X, y, **params)
        return labels if X_tgt is None else labels[tags < 0]

    @available_if(_pipeline_has("score"))
    def score(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        **params: Any,
    ) -> float:
        """Score of the last step on transformed rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Labels, as in ``score`` of the last step.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags; where given, only target rows count.
        **params : dict
            Further parameters, as in :class:`~sklearn.pipeline.Pipeline`.

        Returns
        -------
        score : float
            That of the last step.
        """
        if sample_domain is None or get_config()["enable_metadata_routing"]:
            tags = {} if sample_domain is None else {"sample_domain": sample_domain}
            return super().score(X, y, sample_weight, **tags, **params)
        # with routing disabled scikit-learn's Pipeline drops what it does not know, here the tags
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        estimator, X = reach_last_estimator(self, X)
        return estimator.score(X, y, sample_domain=sample_domain, **weights)

    def _read(self, X, y, X_tgt, y_tgt, sample_domain, params):
        """Stack the domains, and name the tags as scikit-learn's Pipeline hands them on."""
        check_calling_style(X_tgt, y_tgt, sample_domain)
        for name in params:
            if name.endswith(("__X_tgt", "__y_tgt")):
                raise TypeError(
                    f"Expected the target as X_tgt and y_tgt of the pipeline itself, got {name}, "
                    "which would reach its step untransformed."
                )
        if X_tgt is None and sample_domain is None:
            return X, y, None, params
        if not self.steps:
            raise ValueError("Expected at least one step, got an empty pipeline.")
        last = last_estimator(self)
        for name in ["sample_domain"] if y_tgt is None else ["sample_domain", "y_tgt"]:
            if not takes_argument(last, name):
                given = "X_tgt" if name == "sample_domain" and X_tgt is not None else name
                raise TypeError(
                    f"Expected a last step whose fit takes {name}, got {last!r}. Put an estimator "
                    f"that takes it last, or leave {given} out."
                )
        if X_tgt is not None:
            X, y, sample_domain = stack_domains(X, y, X_tgt, y_tgt)
        return X, y, sample_domain, dict(**params, **tag_params(self, sample_domain))


def make_domain_pipeline(
    *steps: Any,
    transform_input: list[str] | None = None,
    memory: str | Memory | None = None,
    verbose: bool = False,
) -> DomainPipeline:
    """Make a :class:`DomainPipeline` whose steps are named after their classes.

    Parameters
    ----------
    *steps : estimator
        Estimators in their order.
    transform_input : list of str, default=None
        As in :class:`~sklearn.pipeline.Pipeline`.
    memory : str or joblib.Memory, default=None
        As in :class:`DomainPipeline`.
    verbose : bool, default=False
        As in :class:`DomainPipeline`.

    Returns
    -------
    pipeline : DomainPipeline
        Its steps named after their classes, in lower case.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_ckm import CKMDomainAdapter
    >>> from sklearn_ckm.pipeline import make_domain_pipeline
    >>> pipeline = make_domain_pipeline(StandardScaler(), CKMDomainAdapter(2))
    >>> [name for name, _ in pipeline.steps]
    ['standardscaler', 'ckmdomainadapter']
    """
    named = make_pipeline(*steps).steps
    return DomainPipeline(named, transform_input=transform_input, memory=memory, verbose=verbose)
