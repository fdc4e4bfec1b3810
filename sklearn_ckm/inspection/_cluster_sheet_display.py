"""Sheet of example images, a row for each cluster."""

# License: BSD-3-Clause

from math import prod
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import assert_all_finite, check_consistent_length, check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._plotting import _validate_style_kwargs

from ..metrics._clustering_accuracy import _check_labels
from ..utils._input import as_rows, check_image_shape
from ..utils._labels import UNLABELLED, check_labels, encode_labels
from ..utils._random import check_local_random_state
from ._fitted_rows import FittedClusterer, read_domain_rows
from ._plotting import (
    COLORS,
    LETTER_INCHES,
    LINE_INCHES,
    as_text,
    check_axes,
    shorten_names,
    text_size,
    wrap_text,
)

_ORDERS = ("central", "random")
_LINE = 40  # letters of a line of a name
_NARROW_LINE = 24  # beside given axes, which cannot grow
_SHARES = 0.5, 1.0  # least and most size of the letters there, of the usual one
_INCHES = 0.6  # height of an image on the page, where names have few lines
_MARGIN = 0.6  # below the images, in inches


def _check_images(X, image_shape, name="X"):
    """Return images (n_samples, channels, height, width) of one or three channels."""
    rows, shape = as_rows(X, image_shape, name)
    rows = np.asarray(rows)
    if shape is None:
        raise ValueError(
            f"Expected images (n_samples, channels, height, width) in {name}, got the shape "
            f"{rows.shape}. Pass image_shape=(channels, height, width) for images that come "
            "flattened; tables have no pictures."
        )
    check_image_shape(shape, rows.shape[1], name)
    if shape[0] not in (1, 3) and shape[2] in (1, 3):
        raise ValueError(
            f"Expected images (n_samples, channels, height, width), got {name} of shape "
            f"{(len(rows), *shape)!r}. If the channels come last, pass "
            f"{name}.transpose(0, 3, 1, 2)."
        )
    if shape[0] not in (1, 3):
        raise ValueError(
            f"Expected images of 1 or 3 channels, got {shape[0]}. Choose some, as X[:, :1], and "
            "use ClusterSheetDisplay.from_predictions."
        )
    assert_all_finite(rows, input_name=name)
    return rows.reshape(len(rows), *shape)


def _image_shape_of(model):
    """Shape of the images that the estimator was fitted on, None for a table."""
    shape = getattr(model.last, "_input_shape", ())
    return shape if len(shape) == 3 else None


def _check_order(order, n_images):
    check_scalar(n_images, "n_images", Integral, min_val=1)
    if order not in _ORDERS:
        raise ValueError(f"Expected one of {list(_ORDERS)} in order, got {order!r}.")


def _to_unit_range(images):
    """Bytes and floats as floats in [0, 1], by the range of all of them."""
    if images.dtype == np.uint8:
        return images / 255.0
    images = images.astype(np.float64)
    low, high = min(0.0, images.min(initial=0.0)), max(1.0, images.max(initial=0.0))
    if low == 0.0 and high == 1.0:
        return images
    low, high = images.min(), images.max()
    return (images - low) / ((high - low) or 1.0)


def _choose(labels, n_clusters, distances, n_images, random_state):
    """Rows to show of each cluster: the nearest, or drawn at random where there is no distance."""
    random_state = check_local_random_state(random_state)
    chosen = []
    for k in range(n_clusters):
        members = np.flatnonzero(labels == k)
        if distances is None:
            members = random_state.permutation(members)
        else:
            members = members[np.argsort(distances[members], kind="stable")]
        chosen.append(members[:n_images])
    return chosen


def _caption(name, codes, classes):
    """Name and size of a cluster, and its most frequent class where classes are known."""
    text = f"{name}, {len(codes)} rows"
    labelled = codes[codes >= 0]
    if not len(labelled):
        return text
    majority = _majority(codes)
    share = 100 * np.count_nonzero(labelled == majority) // len(labelled)  # 100 if all are
    return f"{text}\n{share}% of class {classes[majority]}"


def _majority(codes):
    return np.bincount(codes[codes >= 0], minlength=1).argmax()


def _share_that_fits(ax, shape, name_width, name_height):
    """Size of the letters, as a share of the usual one, at which all names are as high as images.

    Images of `shape` are as high as the axes, or as wide as the names leave room.
    """
    width, height = ax.get_window_extent().size / ax.figure.dpi
    ratio = shape[0] / shape[1]
    return min(height / name_height, width * ratio / (name_height + name_width * ratio))


class _Mosaic:
    """Where each image of a sheet lies, in pixels of the images.

    Parameters
    ----------
    images : list of ndarray of shape (n_shown, channels, height, width)
        Images of each cluster.
    """

    def __init__(self, images):
        self.images = images
        self.n_columns = max(len(row) for row in images)
        self.channels, self.height, self.width = images[0].shape[1:]
        self.gap = max(1, self.height // 8)

    def corner(self, i, j):
        """Top and left of the j-th image of cluster i."""
        return i * (self.height + self.gap), j * (self.width + self.gap)

    def draw(self):
        """All images as one array (height, width, channels); NaN where there is none."""
        bottom, right = self.corner(len(self.images), self.n_columns)
        canvas = np.full((bottom - self.gap, right - self.gap, self.channels), np.nan)
        for i, row in enumerate(self.images):
            for j, image in enumerate(row):
                top, left = self.corner(i, j)
                cell = canvas[top : top + self.height, left : left + self.width]
                cell[:] = np.moveaxis(image, 0, -1)
        return canvas


class ClusterSheetDisplay:
    """Example images of each cluster, a row a cluster.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (n_shown, channels, height, width)
        Images of each cluster, from the left; grey or colour, in [0, 1].
    names : list of str of shape (n_clusters,)
        What stands to the left of each row.
    is_framed : list of ndarray of shape (n_shown,), bool, default=None
        Which images have a frame: those of another class than most of their cluster.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the picture.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        All images as one.
    frames_ : list of matplotlib Rectangle
        Frames of images.

    See Also
    --------
    EmbeddingDisplay : Where the clusters lie.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ckm.inspection import ClusterSheetDisplay
    >>> X = np.repeat(np.linspace(0, 1, 6), 64).reshape(6, 1, 8, 8)
    >>> display = ClusterSheetDisplay.from_predictions(X, [0, 0, 0, 1, 1, 1], n_images=2)
    >>> [images.shape for images in display.images]
    [(2, 1, 8, 8), (2, 1, 8, 8)]
    """

    def __init__(
        self,
        images: list[np.ndarray],
        names: list[Any],
        *,
        is_framed: list[np.ndarray] | None = None,
    ) -> None:
        self.images = images
        self.names = names
        self.is_framed = is_framed

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        n_images: int = 12,
        order: str = "central",
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Predict the clusters of images and draw examples of each.

        Parameters
        ----------
        estimator : object
            Fitted on images, with ``predict``; also at the end of a pipeline or in a search.
        X : array-like of shape (n_samples, channels, height, width) or (n_samples, n_features)
            Images of the target, also flattened where the estimator knows their shape, or as the
            first step of a pipeline takes them; of both domains where `sample_domain` is given.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows of `X`, as in :meth:`ClusterConfusionDisplay.from_estimator`. With
            them, images of another class than most of their cluster are framed.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags; where given, only target rows (``< 0``) are shown.
        n_images : int, default=12
            Most images of a cluster.
        order : {"central", "random"}, default="central"
            ``"central"`` shows the images nearest to the centre of their cluster in the embedding
            (to its mean, where the estimator has no centres), the nearest to the left. They flatter
            a model; ``"random"`` does not.
        random_state : int, RandomState instance or None, default=0
            Draws the images for ``order="random"``.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClusterSheetDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `X` holds no images, lengths differ, no row is target, or `order` is unknown.
        TypeError
            If the estimator has no ``predict``, or no ``transform`` for ``order="central"``.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        _check_order(order, n_images)
        model = FittedClusterer(estimator)
        rows = read_domain_rows(X, y, sample_domain=sample_domain, unlabelled=model.unlabelled)
        X_prepared, shape = model.prepare(rows.X), _image_shape_of(model)
        # those that a step before the estimator brings to its shape are drawn as it brings them
        is_drawn = shape is None or np.shape(rows.X)[1:] in (shape, (prod(shape),))
        images = _check_images(rows.X if is_drawn else X_prepared, shape)
        labels = model.predict(X_prepared)
        names = [f"cluster {name}" for name in model.cluster_names(labels)]
        distances = None
        if order == "central":
            distances = model.center_distances(model.embed(X_prepared), labels)
        chosen = _choose(labels, len(names), distances, n_images, random_state)
        display = cls._from_rows(images, labels, names, chosen, rows.y, rows.classes)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        X: ArrayLike,
        labels: ArrayLike,
        y: ArrayLike | None = None,
        *,
        distances: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        n_images: int = 12,
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw examples of given clusters.

        Parameters
        ----------
        X : array-like of shape (n_samples, channels, height, width) or (n_samples, n_features)
            Images.
        labels : array-like of shape (n_samples,)
            Cluster of each, of any dtype.
        y : array-like of shape (n_samples,), default=None
            Their classes; ``NaN`` and ``None`` mean unlabelled.
        distances : array-like of shape (n_samples,), default=None
            Distance of each image to the centre of its cluster: the nearest are shown. None draws
            images at random.
        image_shape : tuple of int, default=None
            ``(channels, height, width)`` of images that come flattened.
        n_images : int, default=12
            Most images of a cluster.
        random_state : int, RandomState instance or None, default=0
            Draws the images where there are no `distances`.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClusterSheetDisplay

        Raises
        ------
        ValueError
            If `X` holds no images, lengths differ, or a cluster is missing.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        _check_order("random", n_images)
        images = _check_images(X, image_shape)
        labels, clusters = encode_labels(_check_labels(labels, "labels"))
        check_consistent_length(images, labels, distances)
        if distances is not None:
            distances = np.asarray(distances, dtype=np.float64)
        codes, classes = None, None
        if y is not None:
            codes, classes = encode_labels(check_labels(y, len(images)))
        names = [f"cluster {name}" for name in clusters.tolist()]
        chosen = _choose(labels, len(names), distances, n_images, random_state)
        display = cls._from_rows(images, labels, names, chosen, codes, classes)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def _from_rows(cls, images, labels, names, chosen, codes, classes):
        """Take the chosen images, and compare the classes of each cluster."""
        images = _to_unit_range(images)
        codes = np.full(len(images), UNLABELLED) if codes is None else codes
        members = [codes[labels == k] for k in range(len(names))]
        captions = [_caption(*pair, classes) for pair in zip(names, members, strict=True)]
        is_framed = [
            (codes[rows] != UNLABELLED) & (codes[rows] != _majority(own))
            for rows, own in zip(chosen, members, strict=True)
        ]
        return cls([images[rows] for rows in chosen], captions, is_framed=is_framed)

    def plot(self, ax: Any = None, *, cmap: Any = "gray", **kwargs: Any) -> Self:
        """Draw the sheet.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure, in which long names are broken into lines and have
            room. On given axes they are shortened to their beginning and their end, in letters that
            are small where rows are low.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of grey images.
        **kwargs
            Keywords of ``imshow``.

        Returns
        -------
        display : ClusterSheetDisplay
            The display itself.
        """
        mosaic = _Mosaic(self.images)
        canvas = mosaic.draw()
        if ax is None:
            names = [wrap_text(name, _LINE) for name in self.names]
        else:
            names = shorten_names(self.names, _NARROW_LINE)
        n_letters, n_lines = text_size(names)
        margins = np.array([LETTER_INCHES * n_letters + _MARGIN, _MARGIN])
        inches = max(_INCHES, LINE_INCHES * n_lines)
        size = inches * np.array(canvas.shape[1::-1]) / mosaic.height + margins
        self.ax_ = check_axes(ax, type(self).__name__, figsize=size)
        self.figure_ = self.ax_.figure
        style = {"interpolation": "nearest"}
        if mosaic.channels == 1:
            canvas = canvas[..., 0]
            style |= {"cmap": cmap, "vmin": 0, "vmax": 1}
        else:
            is_image = ~np.isnan(canvas).any(axis=-1, keepdims=True)
            canvas = np.concatenate([np.nan_to_num(canvas), is_image], axis=-1)  # transparent gaps
        self.im_ = self.ax_.imshow(canvas, **_validate_style_kwargs(style, kwargs))
        middles = [mosaic.corner(i, 0)[0] + mosaic.height / 2 for i in range(len(self.images))]
        self.ax_.set(
            xticks=[], yticks=np.array(middles) - 0.5, yticklabels=list(map(as_text, names))
        )
        self.ax_.tick_params(axis="y", length=0)
        if ax is not None:
            name_inches = LETTER_INCHES * n_letters, LINE_INCHES * n_lines * len(self.images)
            share = np.clip(_share_that_fits(ax, canvas.shape[:2], *name_inches), *_SHARES)
            for label in self.ax_.get_yticklabels():
                label.set_fontsize(share * label.get_fontsize())
        self.ax_.spines[:].set_visible(False)
        self.frames_ = self._draw_frames(mosaic)
        return self

    def _draw_frames(self, mosaic):
        """Frame what differs from most of its cluster, and say so below."""
        from matplotlib.patches import Rectangle

        frames = []
        for i, is_framed in enumerate(self.is_framed or []):
            for j in np.flatnonzero(is_framed):
                top, left = mosaic.corner(i, j)
                size = mosaic.width, mosaic.height
                style = {"fill": False, "edgecolor": COLORS[4], "linewidth": 2.5, "clip_on": False}
                frames.append(Rectangle((left - 0.5, top - 0.5), *size, **style))
                self.ax_.add_patch(frames[-1])
        if frames:
            self.ax_.set_xlabel("framed: of another class than most of the cluster")
        return frames
