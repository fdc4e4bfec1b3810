"""The estimator at the end of a pipeline: how it is reached, and is handed its tags."""

from inspect import signature

from sklearn import get_config
from sklearn.pipeline import Pipeline


def last_estimator(estimator):
    """Return the estimator at the end of (nested) pipelines.

    Parameters
    ----------
    estimator : object
        An estimator or a Pipeline.

    Returns
    -------
    estimator : object
    """
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def reach_last_estimator(estimator, X):
    """Return the estimator at the end of fitted (nested) pipelines, and rows as it sees them.

    Parameters
    ----------
    estimator : object
        An estimator or a Pipeline.
    X : array-like of shape (n_samples, ...)
        Rows.

    Returns
    -------
    estimator : object
    X : array-like of shape (n_samples, ...)
    """
    while isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        estimator = estimator[-1]
    return estimator, X


def takes_argument(estimator, name):
    """Whether ``fit`` has a parameter of this name, or hands on any.

    Parameters
    ----------
    estimator : object
        An estimator.
    name : str
        Name of the parameter.

    Returns
    -------
    takes : bool
    """
    if not hasattr(estimator, "fit"):
        return False
    parameters = signature(estimator.fit).parameters.values()
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def last_step_name(estimator, name):
    """Name of a parameter of the estimator at the end of (nested) pipelines.

    Parameters
    ----------
    estimator : object
        An estimator or a Pipeline.
    name : str
        Name of the parameter in that estimator.

    Returns
    -------
    name : str
        With the names of the steps in front: ``"adapt__n_clusters"``.
    """
    steps = []
    while isinstance(estimator, Pipeline):
        step, estimator = estimator.steps[-1]
        steps.append(step)
    return "__".join([*steps, name])


def tag_params(estimator, sample_domain):
    """Keywords that hand domain tags to ``fit``, with metadata routing on or off.

    Parameters
    ----------
    estimator : object
        An estimator or a Pipeline.
    sample_domain : ndarray of shape (n_samples,)
        Domain tags.

    Returns
    -------
    params : dict
    """
    if get_config()["enable_metadata_routing"]:
        return {"sample_domain": sample_domain}
    return {last_step_name(estimator, "sample_domain"): sample_domain}
