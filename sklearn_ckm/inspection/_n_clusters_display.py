"""Picture of how the number of clusters was chosen."""

# License: BSD-3-Clause

from typing import Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._plotting import _validate_style_kwargs

from ._fitted_rows import FittedClusterer
from ._plotting import COLORS, DARK_GREY, check_two_axes, line_style

_BY_EMBEDDING = {
    "bic": "BIC of a Gaussian mixture\n(negated)",
    "silhouette": "silhouette of k-means",
}
_BY_VIEWS = {
    "mutual_information": "information shared\nwith a view (nats)",
    "gain": "information less\nits penalty (nats)",
}
_MOST_TICKS = 12


class NClustersDisplay:
    """Both criteria by which ``n_clusters="auto"`` chose, and the number it chose.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    curve : dict of str to ndarray of shape (n_candidates,)
        ``n_clusters``, and either ``mutual_information`` and ``gain`` or ``bic`` and
        ``silhouette``, as in the attribute ``n_clusters_curve_`` of the estimators; larger is
        better.
    n_clusters : int
        The number that was chosen.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The upper axes.
    axes_ : ndarray of shape (2,)
        Axes of either criterion.
    figure_ : matplotlib Figure
        Figure of the axes.
    lines_ : dict of str to matplotlib Line2D
        Line of either criterion.

    See Also
    --------
    TrainingCurveDisplay : What happened in each epoch.

    Notes
    -----
    Where views of images decided, the number is that at which the lower curve is highest: up to it,
    a further cluster told more of a row's view. Elsewhere the curves are means over five draws of
    rows, and the number is a mean of those that were best in each draw (see
    :class:`~sklearn_ckm.ConcreteKMeans`), and need not be that at which a curve is highest. A curve
    without a clear peak says that the estimate is worth little.

    Examples
    --------
    >>> from sklearn_ckm.inspection import NClustersDisplay
    >>> curve = {"n_clusters": [2, 3, 4], "bic": [10, 30, 20], "silhouette": [0.2, 0.6, 0.5]}
    >>> NClustersDisplay(curve, n_clusters=3).plot()
    <...>
    """

    def __init__(self, curve: dict[str, np.ndarray], *, n_clusters: int) -> None:
        self.curve = curve
        self.n_clusters = n_clusters

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw how a fitted estimator chose the number of clusters.

        Parameters
        ----------
        estimator : object
            Fitted with ``n_clusters="auto"``; also at the end of a pipeline or in a search.
        ax : matplotlib Axes or array-like of two Axes, default=None
            As in :meth:`plot`.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : NClustersDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If it was given its number of clusters.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        model = FittedClusterer(estimator).last
        if not hasattr(model, "n_clusters_curve_"):
            got = getattr(model, "n_clusters", None)
            raise ValueError(
                "Expected an estimator that was fitted with n_clusters='auto', which has "
                f"n_clusters_curve_, got {type(model).__name__} with n_clusters={got!r}."
            )
        return cls(model.n_clusters_curve_, n_clusters=model.n_clusters_).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw both curves.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of two Axes, default=None
            Axes to draw on, one for each criterion; a single one is divided in two. None makes a
            figure.
        **kwargs
            Keywords of ``plot`` for both lines.

        Returns
        -------
        display : NClustersDisplay
            The display itself.
        """
        self.axes_ = check_two_axes(ax, type(self).__name__, figsize=(6.4, 5.6))
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure
        self.lines_ = {}
        candidates = np.asarray(self.curve["n_clusters"])
        is_by_views = "mutual_information" in self.curve
        criteria = _BY_VIEWS if is_by_views else _BY_EMBEDDING
        label = "one fine-tuning each" if is_by_views else "mean of the draws"
        for i, (panel, (key, name)) in enumerate(zip(self.axes_, criteria.items(), strict=True)):
            values = np.asarray(self.curve[key])
            style = {**line_style(i), "marker": "o", "markersize": 4, "linestyle": "-"}
            style = _validate_style_kwargs({**style, "label": label}, kwargs)
            (self.lines_[key],) = panel.plot(candidates, values, **style)
            best = values.argmax()
            style = {"marker": "o", "s": 110, "facecolor": "none", "edgecolor": DARK_GREY}
            panel.scatter(candidates[best], values[best], label="its maximum", **style)
            style = {"color": COLORS[4], "linestyle": "--", "linewidth": 1.5}
            panel.axvline(self.n_clusters, label=f"chosen: {self.n_clusters}", **style)
            panel.set(ylabel=name)
            panel.grid(alpha=0.3)
            panel.legend(loc="best", fontsize="small")
        self.axes_[1].set(xlabel="number of clusters", xticks=_ticks(candidates))
        return self


def _ticks(candidates):
    """Every candidate, or every second or third: their numbers must not run together."""
    return candidates[:: 1 + (len(candidates) - 1) // _MOST_TICKS]
