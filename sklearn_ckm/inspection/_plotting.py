"""What the displays share: colours that stay apart, axes, legends."""

import re
from textwrap import TextWrapper

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

# Okabe and Ito's colours without yellow, which is too pale on white: they stay apart under the
# common kinds of colour blindness. Further groups have the same colours and another marker.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = "o^sDvPX*"
N_STYLES = len(COLORS) * len(MARKERS)
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)))
GREY = "#8C8C8C"
DARK_GREY = "#444444"
PALE_GREY = "#EEEEEE"
LETTER_INCHES = 0.09  # width of a letter of a name, on average
LINE_INCHES = 0.165  # height of a line of names
_MOST_COLUMNS = 4  # of a legend
_PAD = 0.15  # in inches; the layout of images is some pixels off in the first drawing


def group_style(i):
    """Colour and marker of the i-th group: no two of the first N_STYLES have both in common."""
    return {
        "color": COLORS[i % len(COLORS)],
        "marker": MARKERS[i // len(COLORS) % len(MARKERS)],
    }


def line_style(i):
    """Colour and dashes of the i-th line."""
    shift = i // len(COLORS)
    return {
        "color": COLORS[i % len(COLORS)],
        "linestyle": LINE_STYLES[(i + shift) % len(LINE_STYLES)],
    }


def check_axes(ax, caller, **figure_kwargs):
    """Return the axes to draw on, those of a new figure where `ax` is None.

    Parameters
    ----------
    ax : matplotlib Axes or None
        As the user gave it.
    caller : str
        Name of the display, for the message where matplotlib is missing.
    **figure_kwargs
        Of a new figure.

    Returns
    -------
    ax : matplotlib Axes
    """
    check_matplotlib_support(f"{caller}.plot")
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(layout="constrained", **figure_kwargs)
    ax.set_anchor("SW")  # the layout leaves too little for names beside an image in the middle
    figure.get_layout_engine().set(w_pad=_PAD)
    return ax


def check_two_axes(ax, caller, **figure_kwargs):
    """Return two axes, one above the other, that share the horizontal direction.

    Parameters
    ----------
    ax : matplotlib Axes, array-like of two Axes, or None
        As the user gave it. A single one is divided in two.
    caller : str
        Name of the display, for messages.
    **figure_kwargs
        Of a new figure.

    Returns
    -------
    axes : ndarray of shape (2,)

    Raises
    ------
    ValueError
        If another number of axes is given.
    """
    check_matplotlib_support(f"{caller}.plot")
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.subplots(2, 1, sharex=True, layout="constrained", **figure_kwargs)[1]
    axes = np.ravel(np.asarray(ax, dtype=object))
    if len(axes) == 1:
        bounding_ax = axes[0]
        bounding_ax.set_axis_off()
        lower = bounding_ax.inset_axes([0, 0, 1, 0.44])
        return np.array([bounding_ax.inset_axes([0, 0.56, 1, 0.44], sharex=lower), lower])
    if len(axes) != 2:
        raise ValueError(
            f"Expected one axes or two in ax of {caller}.plot, got {len(axes)}. Pass one, which is "
            "divided, or one for either panel."
        )
    return axes


def place_legend(ax, **kwargs):
    """Put the legend to the right of the axes, where it hides nothing."""
    style = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "frameon": False}
    return ax.legend(**{**style, **kwargs})


def place_long_legend(ax, *, may_grow, **kwargs):
    """Put a legend to the right, in so many columns that it is no higher than the axes.

    Parameters
    ----------
    ax : matplotlib Axes
        Axes beside which it stands.
    may_grow : bool
        Whether the figure becomes wider by the further columns, and higher where they are too few.
        Else letters are smaller where one column does not do.
    **kwargs
        Of the legend.

    Returns
    -------
    legend : matplotlib Legend
    """
    legend = place_legend(ax, **kwargs)
    room = ax.get_window_extent().height
    first = legend.get_window_extent()
    if first.height <= room:
        return legend
    if not may_grow:
        kwargs = {"fontsize": "x-small", "title_fontsize": "x-small", "columnspacing": 1, **kwargs}
    for n_columns in range(2 if may_grow else 1, _MOST_COLUMNS + 1):
        legend = place_legend(ax, ncols=n_columns, **kwargs)
        box = legend.get_window_extent()
        if box.height <= room:
            break
    if may_grow:
        more = np.array([box.width - first.width, max(0.0, box.height - room)])
        ax.figure.set_size_inches(ax.figure.get_size_inches() + more / ax.figure.dpi)
    return legend


def as_text(name):
    """Return a name as matplotlib draws it as it stands: a dollar is no formula."""
    return str(name).replace("$", r"\$")


class _NameWrapper(TextWrapper):
    """Breaks lines after underscores and slashes, too."""

    wordsep_re = re.compile(r"(\s+|[^\s_/-]*[_/-]+)")


def wrap_text(name, n_letters):
    """Return a name as lines of at most so many letters, words whole where they are shorter."""
    wrapper = _NameWrapper(n_letters)
    return "\n".join(line for part in str(name).splitlines() for line in wrapper.wrap(part))


def shorten_names(names, n_letters):
    """Names with each line broken in at most two: what is between those is left out.

    Names that would then be the same stay whole, as in :func:`wrap_text`.
    """
    whole = [wrap_text(name, n_letters) for name in names]
    short = [
        "\n".join(_first_and_last(wrap_text(line, n_letters)) for line in str(name).splitlines())
        for name in names
    ]
    return [s if short.count(s) == whole.count(w) else w for s, w in zip(short, whole, strict=True)]


def _first_and_last(text):
    lines = text.splitlines()
    return text if len(lines) <= 2 else f"{lines[0]}\N{HORIZONTAL ELLIPSIS}\n{lines[-1]}"


def text_size(names):
    """Most letters of a line, and most lines of a name."""
    lines = [str(name).splitlines() for name in names]
    return max((len(line) for name in lines for line in name), default=0), max(map(len, lines))
