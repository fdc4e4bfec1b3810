from itertools import pairwise

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_ckm import ConcreteKMeans
from sklearn_ckm.inspection import NClustersDisplay

CURVE = {"n_clusters": [2, 3, 4], "bic": [10.0, 30.0, 20.0], "silhouette": [0.2, 0.3, 0.6]}


def test_by_hand_curves_their_maxima_and_the_choice():
    display = NClustersDisplay(CURVE, n_clusters=3).plot()
    for ax, key, best in zip(display.axes_, ("bic", "silhouette"), (3, 4), strict=True):
        line = display.lines_[key]
        assert line in ax.lines
        assert list(line.get_xdata()) == CURVE["n_clusters"]
        assert list(line.get_ydata()) == CURVE[key]
        assert ax.collections[0].get_offsets()[0, 0] == best
        assert list(ax.lines[1].get_xdata()) == [3, 3]
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names[-1] == "chosen: 3"
    assert display.ax_ is display.axes_[0]
    display.figure_.draw_without_rendering()


def test_curves_by_views():
    curve = {
        "n_clusters": [2, 3, 4],
        "mutual_information": [0.6, 1.0, 1.1],
        "gain": [0.1, 0.3, 0.2],
    }
    display = NClustersDisplay(curve, n_clusters=3).plot()
    assert list(display.lines_) == ["mutual_information", "gain"]
    for ax, (key, line) in zip(display.axes_, display.lines_.items(), strict=True):
        assert list(line.get_ydata()) == curve[key]
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names == ["one fine-tuning each", "its maximum", "chosen: 3"]
    display.figure_.draw_without_rendering()


@pytest.mark.parametrize(("largest", "step"), [(13, 1), (14, 2), (20, 2), (40, 4)])
def test_ticks_have_room(pyplot, largest, step):
    candidates = list(range(2, largest + 1))
    curve = {"n_clusters": candidates, "bic": candidates, "silhouette": candidates}
    axes = pyplot.subplots(2, 2, figsize=(9, 5))[1]
    display = NClustersDisplay(curve, n_clusters=3).plot(ax=axes[:, 0])
    display.figure_.draw_without_rendering()
    lower = display.axes_[1]
    assert list(lower.get_xticks()) == candidates[::step]
    boxes = [label.get_window_extent() for label in lower.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_estimator_draws_its_curve(counted):
    display = NClustersDisplay.from_estimator(counted)
    assert display.n_clusters == counted.n_clusters_
    curve = counted.n_clusters_curve_
    np.testing.assert_array_equal(display.lines_["bic"].get_ydata(), curve["bic"])
    np.testing.assert_array_equal(display.lines_["silhouette"].get_xdata(), curve["n_clusters"])


def test_given_axes_and_keywords(pyplot, counted):
    figure, ax = pyplot.subplots()
    display = NClustersDisplay.from_estimator(counted, ax=ax, ls=":")
    assert display.figure_ is figure
    assert display.lines_["bic"].get_linestyle() == ":"


def test_invalid_input_raises(adapter):
    message = r"n_clusters='auto', which has n_clusters_curve_, got CKMDomainAdapter with .*=2"
    with pytest.raises(ValueError, match=message):
        NClustersDisplay.from_estimator(adapter)
    with pytest.raises(NotFittedError):
        NClustersDisplay.from_estimator(ConcreteKMeans("auto"))


def test_missing_matplotlib_is_named(without_matplotlib, counted):
    with pytest.raises(ImportError, match=r"NClustersDisplay\.from_estimator requires matplotlib"):
        NClustersDisplay.from_estimator(counted)
    with pytest.raises(ImportError, match=r"NClustersDisplay\.plot requires matplotlib"):
        NClustersDisplay(CURVE, n_clusters=3).plot()
