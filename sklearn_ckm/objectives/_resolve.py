"""From the parameter ``objective`` to an objective."""

from sklearn.base import clone

from ._base import BaseClusteringObjective
from ._concrete_kmeans import ConcreteKMeansObjective
from ._dcn import DCNObjective
from ._dec import DECObjective
from ._soft_kmeans import SoftKMeansObjective

OBJECTIVES = {
    "ckm": ConcreteKMeansObjective,
    "dec": DECObjective,
    "dcn": DCNObjective,
    "soft-kmeans": SoftKMeansObjective,
}


def resolve_objective(objective):
    """Return an objective of the fit's own: by name with its defaults, or a clone.

    Parameters
    ----------
    objective : {"ckm", "dec", "dcn", "soft-kmeans"} or BaseClusteringObjective
        The parameter of an estimator.

    Returns
    -------
    objective : BaseClusteringObjective
        With checked settings.

    Raises
    ------
    ValueError
        If the name is unknown or a setting makes no sense.
    TypeError
        If it is neither a name nor an objective.
    """
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            raise ValueError(
                f"Expected 'objective' among {sorted(OBJECTIVES)} or an objective of "
                f"sklearn_ckm.objectives, got {objective!r}."
            )
        resolved = OBJECTIVES[objective]()
    elif isinstance(objective, BaseClusteringObjective):
        resolved = clone(objective)
    else:
        raise TypeError(
            f"Expected 'objective' to be a name among {sorted(OBJECTIVES)} or an instance of "
            f"BaseClusteringObjective, got {objective!r}."
        )
    resolved.check_settings()
    return resolved
