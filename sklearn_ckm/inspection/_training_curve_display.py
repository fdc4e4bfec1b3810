"""Picture of the epochs of a fit."""

# License: BSD-3-Clause

from itertools import groupby
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._plotting import _validate_style_kwargs

from .._training._monitors import MONITORS
from ._fitted_rows import FittedClusterer
from ._plotting import DARK_GREY, PALE_GREY, check_two_axes, line_style, place_legend

# Those that are shares or ratios of one order; the others would need scales of their own.
_SHOWN_MONITORS = (
    "mean_max_probability",
    "sampled_not_nearest",
    "within_over_variance",
    "label_change",
    "min_cluster_fraction",
    "max_cluster_fraction",
)
_LARGE = 5.0  # a ratio above would press shares to the bottom
_DECADES = 1e9  # of loss terms that are shown; below is rounding
_MARGIN = 0.15  # of the height, above and below
_NOT_DRAWN = ("phase", "epoch")
_PHASE_NAMES = {"pretrain": "pretraining", "finetune": "fine-tuning", "adapt": "adaptation"}


def _check_history(history):
    """Return a list of dicts, one an epoch, at least one of them."""
    if isinstance(history, dict) or not hasattr(history, "__iter__"):
        raise TypeError(f"Expected a list of dict in history, got {type(history).__name__}.")
    history = list(history)
    if not history:
        raise ValueError(
            "Expected at least one epoch in history, got none. Fit with pretrain_epochs or "
            "max_epochs above 0."
        )
    for row in history:
        if not isinstance(row, dict):
            raise TypeError(f"Expected a dict for each epoch of history, got {row!r}.")
    return history


def _columns(history):
    """Keys of numbers, in the order in which they appear."""
    keys = dict.fromkeys(key for row in history for key, value in row.items() if _is_number(value))
    return [key for key in keys if key not in _NOT_DRAWN]


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _phases(history):
    """Name, first and last epoch of each phase, counted through from 1."""
    phases, start = [], 1
    for name, rows in groupby(row.get("phase", "") for row in history):
        n_epochs = len(list(rows))
        phases.append((name, start, start + n_epochs - 1))
        start += n_epochs
    return phases


def _points(history, key):
    """Epochs and values of a column, NaN between two phases, and whether a point stands alone."""
    epochs, values, has_single = [], [], False
    for _, first, last in _phases(history):
        own = [epoch for epoch in range(first, last + 1) if key in history[epoch - 1]]
        if own:
            has_single |= len(own) == 1
            gap = [np.nan] if epochs else []
            epochs += [*gap, *own]
            values += [*gap, *(history[epoch - 1][key] for epoch in own)]
    return epochs, values, has_single


def _largest(line):
    """Largest finite size of the values of a line, 0 where there is none."""
    values = np.abs(np.asarray(line.get_ydata(), dtype=np.float64))
    return values[np.isfinite(values)].max(initial=0.0)


class TrainingCurveDisplay:
    """Loss terms and monitors of each epoch, the phases of the training marked.

    It is recommended to use :meth:`from_estimator` or :meth:`from_history`. All parameters are
    stored as attributes.

    Parameters
    ----------
    history : list of dict
        One dict an epoch, as in the attribute ``history_`` of the estimators.
    weights : dict of str to float, default=None
        Weights of loss terms in the sum, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the loss terms.
    axes_ : ndarray of shape (2,)
        Axes of the loss terms and of the monitors.
    figure_ : matplotlib Figure
        Figure of the axes.
    lines_ : dict of str to matplotlib Line2D
        Line of each loss term and monitor.

    See Also
    --------
    NClustersDisplay : How the number of clusters was chosen.

    Notes
    -----
    The upper panel has one line a loss term, each as it is before its weight, and ``loss``, their
    weighted sum. Its scale is logarithmic where all values are positive, over nine decades at most.
    The lower panel has the
    monitors, which only the fine-tuning of the clustering estimators records; the docstring of
    :class:`~sklearn_ckm.ConcreteKMeans` lists them. A term that a phase does not have is not drawn
    there, and ``loss`` may jump where the phase changes; lines are broken there.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm import ConcreteKMeans
    >>> from sklearn_ckm.inspection import TrainingCurveDisplay
    >>> X, _ = make_blobs(100, centers=3, random_state=0, cluster_std=0.5)
    >>> model = ConcreteKMeans(3, pretrain_epochs=5, max_epochs=5, random_state=0).fit(X)
    >>> display = TrainingCurveDisplay.from_estimator(model)
    >>> len(display.lines_["clustering"].get_xdata())
    5
    """

    def __init__(
        self, history: list[dict[str, Any]], *, weights: dict[str, float] | None = None
    ) -> None:
        self.history = history
        self.weights = weights

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, monitors: list[str] | None = None, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw the epochs of a fitted estimator.

        Parameters
        ----------
        estimator : object
            Fitted, with ``history_``; also at the end of a pipeline or in a search.
        monitors : list of str, default=None
            As in :meth:`plot`.
        ax : matplotlib Axes or array-like of two Axes, default=None
            As in :meth:`plot`.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no ``history_``.
        ValueError
            If no epoch was trained, or a monitor is unknown.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        model = FittedClusterer(estimator).last
        if not hasattr(model, "history_"):
            raise TypeError(f"Expected an estimator with history_, got {model!r}.")
        history = _check_history(model.history_)
        weights = {key: getattr(model, f"lambda_{key}", None) for key in _columns(history)}
        share = getattr(model, "lambda_source", 0.0)  # of the weights for the target
        for term in ("consistency", "balance"):
            if f"source_{term}" in weights:
                weights[f"source_{term}"] = share * getattr(model, f"lambda_{term}")
        weights = {key: weight for key, weight in weights.items() if weight is not None}
        return cls(history, weights=weights).plot(ax=ax, monitors=monitors, **kwargs)

    @classmethod
    def from_history(
        cls,
        history: list[dict[str, Any]],
        *,
        weights: dict[str, float] | None = None,
        monitors: list[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw given epochs.

        Parameters
        ----------
        history : list of dict
            One dict an epoch: numbers by name, and ``phase``.
        weights : dict of str to float, default=None
            Weights of loss terms in the sum, for the legend.
        monitors : list of str, default=None
            As in :meth:`plot`.
        ax : matplotlib Axes or array-like of two Axes, default=None
            As in :meth:`plot`.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay

        Raises
        ------
        TypeError
            If `history` is no list of dict.
        ValueError
            If it is empty, or a monitor is unknown.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_history")
        history = _check_history(history)
        return cls(history, weights=weights).plot(ax=ax, monitors=monitors, **kwargs)

    def plot(self, ax: Any = None, *, monitors: list[str] | None = None, **kwargs: Any) -> Self:
        """Draw both panels.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of two Axes, default=None
            Axes to draw on, for loss terms and monitors; a single one is divided in two. None makes
            a figure.
        monitors : list of str, default=None
            Which columns to show in the lower panel. None shows the monitors that are shares or
            ratios.
        **kwargs
            Keywords of ``plot`` for all lines.

        Returns
        -------
        display : TrainingCurveDisplay
            The display itself.
        """
        columns = _columns(self.history)
        monitors = self._check_monitors(monitors, columns)
        terms = [key for key in columns if key not in MONITORS and key not in monitors]
        self.axes_ = check_two_axes(ax, type(self).__name__, figsize=(8.5, 6.5))
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure
        self.lines_ = {}
        for panel, keys in zip(self.axes_, (terms, monitors), strict=True):
            self._draw_lines(panel, keys, kwargs)
            self._mark_phases(panel)
        if terms and all(np.nanmin(self.lines_[key].get_ydata()) > 0 for key in terms):
            self.ax_.set_yscale("log")
            highest = max(_largest(self.lines_[key]) for key in terms)
            if self.ax_.get_ylim()[0] < highest / _DECADES:
                self.ax_.set_ylim(highest / _DECADES, highest * _DECADES**_MARGIN)
        if any(_largest(self.lines_[key]) > _LARGE for key in monitors):
            self.axes_[1].set_yscale("symlog", linthresh=1.0)  # shares keep half of the room
        self.ax_.set(ylabel="mean over samples", title="loss terms")
        ylabel = "share or ratio" if set(monitors) <= set(_SHOWN_MONITORS) else "value"
        ylabel = ylabel if monitors else ""
        self.axes_[1].set(xlabel="epoch, of all phases", ylabel=ylabel, title="monitors")
        return self

    def _check_monitors(self, monitors, columns):
        if monitors is None:
            return [key for key in _SHOWN_MONITORS if key in columns]
        unknown = [key for key in monitors if key not in columns]
        if unknown:
            raise ValueError(f"Expected monitors among {columns}, got {unknown}.")
        return list(monitors)

    def _draw_lines(self, ax, keys, kwargs):
        """Draw a line for each column, over the epochs that have it."""
        for i, key in enumerate(keys):
            epochs, values, has_single = _points(self.history, key)
            style = {**line_style(i), "linewidth": 1.8, "label": self._name(key)}
            style["marker"] = "." if has_single else ""
            style = _validate_style_kwargs(style, kwargs)
            (self.lines_[key],) = ax.plot(epochs, values, **style)
        ax.grid(alpha=0.3)
        if keys:
            place_legend(ax)
        else:
            ax.set_yticks([])
            style = {"ha": "center", "va": "center", "color": DARK_GREY}
            ax.text(0.5, 0.5, "none recorded", transform=ax.transAxes, **style)

    def _name(self, key):
        name = key.replace("_", " ")
        if key == "loss":
            return "loss (weighted sum)"
        weight = (self.weights or {}).get(key)
        return name if weight is None else f"{name} (weight {weight:g})"

    def _mark_phases(self, ax):
        """Shade every other phase, and name all at the top of the axes."""
        from matplotlib.ticker import MaxNLocator

        ax.set_xlim(0.5, len(self.history) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        ax.margins(y=_MARGIN)  # room for the names
        style = {"va": "top", "ha": "center", "color": DARK_GREY, "fontsize": "small"}
        phases = _phases(self.history)
        for i, (name, first, last) in enumerate(phases):
            if i % 2 == 0:
                ax.axvspan(first - 0.5, last + 0.5, color=PALE_GREY, zorder=0)
            if i:
                ax.axvline(first - 0.5, color=DARK_GREY, linewidth=1)
            if len(phases) <= 8:
                center = (first + last) / 2
                name = _PHASE_NAMES.get(name, name)
                ax.text(center, 0.98, name, transform=ax.get_xaxis_transform(), **style)
