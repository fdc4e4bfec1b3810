import warnings

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm._training._monitors import MONITORS
from sklearn_ckm.domain_adaptation import DomainAdversarialClusterer
from sklearn_ckm.inspection import TrainingCurveDisplay

HISTORY = [
    {"phase": "pretrain", "epoch": 1, "loss": 4.0, "reconstruction": 4.0},
    {"phase": "pretrain", "epoch": 2, "loss": 2.0, "reconstruction": 2.0},
    {"phase": "finetune", "epoch": 1, "loss": 5.0, "reconstruction": 2.0, "clustering": 30.0,
     "label_change": 0.5, "temperature": 7.0},
    {"phase": "finetune", "epoch": 2, "loss": 3.0, "reconstruction": 2.0, "clustering": 10.0,
     "label_change": 0.25, "temperature": 6.0},
]  # fmt: skip


def points(line):
    return line.get_xdata().tolist(), line.get_ydata().tolist()


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_by_hand_lines_are_broken_where_the_phase_changes():
    display = TrainingCurveDisplay.from_history(HISTORY)
    nan = pytest.approx(np.nan, nan_ok=True)
    assert points(display.lines_["loss"]) == ([1, 2, nan, 3, 4], [4.0, 2.0, nan, 5.0, 3.0])
    assert points(display.lines_["clustering"]) == ([3, 4], [30.0, 10.0])
    assert points(display.lines_["label_change"]) == ([3, 4], [0.5, 0.25])
    assert "temperature" not in display.lines_ and "epoch" not in display.lines_


def test_terms_and_monitors_have_panels_of_their_own():
    display = TrainingCurveDisplay.from_history(HISTORY, weights={"clustering": 0.1})
    terms, monitors = display.axes_
    assert display.ax_ is terms and display.figure_ is terms.figure
    names = [text.get_text() for text in terms.get_legend().get_texts()]
    assert names == ["loss (weighted sum)", "reconstruction", "clustering (weight 0.1)"]
    names = [text.get_text() for text in monitors.get_legend().get_texts()]
    assert names == ["label change"]
    assert terms.get_yscale() == "log" and monitors.get_yscale() == "linear"
    display.figure_.draw_without_rendering()


def test_phases_are_named_and_separated():
    for ax in TrainingCurveDisplay.from_history(HISTORY).axes_:
        assert texts(ax)[:2] == ["pretraining", "fine-tuning"]
        assert ax.get_xlim() == (0.5, 4.5)
        boundaries = [line for line in ax.lines if list(line.get_xdata()) == [2.5, 2.5]]
        assert len(boundaries) == 1


def test_many_short_phases_are_marked_by_points_and_not_named():
    history = [{"phase": f"round {i}", "epoch": 1, "loss": 1.0 + i} for i in range(10)]
    display = TrainingCurveDisplay.from_history(history)
    assert texts(display.ax_) == []
    assert display.lines_["loss"].get_marker() == "."
    assert texts(display.axes_[1]) == ["none recorded"]


def test_losses_that_are_not_positive_have_a_linear_scale():
    history = [{"phase": "pretrain", "loss": 1.0}, {"phase": "pretrain", "loss": -1.0}]
    assert TrainingCurveDisplay.from_history(history).ax_.get_yscale() == "linear"


def test_estimator_draws_its_history_and_weights(adapter):
    display = TrainingCurveDisplay.from_estimator(adapter)
    for key in ("loss", "reconstruction", "clustering", "classification"):
        drawn = display.lines_[key].get_ydata()
        drawn = np.asarray(drawn)[~np.isnan(drawn)]
        expected = [row[key] for row in adapter.history_ if key in row]
        np.testing.assert_array_equal(drawn, expected)
    assert display.weights["clustering"] == 0.1
    assert not set(display.weights) & {"loss", "reconstruction"}


def test_extremes_leave_the_other_lines_readable(pyplot):
    history = [
        {"phase": "finetune", "loss": 1.0, "consistency": 10.0**-k, "within_over_variance": w}
        | {"label_change": 0.5}
        for k, w in ((0, 0.3), (30, 900.0))
    ]
    terms, monitors = TrainingCurveDisplay.from_history(history).axes_
    lowest, highest = terms.get_ylim()
    assert 1e-10 < lowest < 1e-7 and highest > 1
    assert monitors.get_yscale() == "symlog"
    calm = TrainingCurveDisplay.from_history(history[:1])
    assert calm.axes_[1].get_yscale() == "linear"


def test_values_that_are_not_finite_are_left_out(pyplot):
    history = [
        {"phase": "finetune", "loss": 1.0, "clustering": np.inf, "label_change": np.nan},
        {"phase": "finetune", "loss": 0.5, "clustering": 0.1, "label_change": np.nan},
    ]
    display = TrainingCurveDisplay.from_history(history)
    assert np.isfinite(display.ax_.get_ylim()).all()


def test_terms_of_the_source_have_their_share_of_the_weight(pyplot):
    X = np.random.default_rng(0).uniform(size=(60, 1, 8, 8))
    model = CKMDomainAdapter(
        2, encoder="mlp-small", pretrain_epochs=1, max_epochs=1, random_state=0, lambda_balance=5.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[:30], np.arange(30) % 2, X_tgt=X[30:])
    weights = TrainingCurveDisplay.from_estimator(model).weights
    assert weights["source_consistency"] == pytest.approx(0.3 * 10)
    assert weights["source_balance"] == pytest.approx(0.3 * 5)


def test_any_monitor_may_be_shown(adapter):
    display = TrainingCurveDisplay.from_estimator(adapter, monitors=list(MONITORS))
    assert set(MONITORS) <= set(display.lines_)
    assert display.axes_[1].get_ylabel() == "value"


def test_other_methods_have_phases_and_terms_of_their_own(data):
    model = DomainAdversarialClusterer(
        2, encoder="mlp-small", pretrain_epochs=1, max_epochs=1, random_state=0
    ).fit(data.X_src, data.y_src, X_tgt=data.X_tgt)
    display = TrainingCurveDisplay.from_estimator(model)
    assert set(display.lines_) == {"loss", "classification", "discrimination"}
    assert texts(display.ax_) == ["pretraining", "adaptation"]


def test_pipeline_and_keywords(data):
    model = ConcreteKMeans(2, encoder="mlp-small", pretrain_epochs=2, max_epochs=0)
    pipeline = make_pipeline(StandardScaler(), model).fit(data.X)
    display = TrainingCurveDisplay.from_estimator(pipeline, lw=5)
    assert display.lines_["loss"].get_linewidth() == 5


def test_one_axes_is_divided_and_two_are_taken(pyplot):
    figure, ax = pyplot.subplots()
    display = TrainingCurveDisplay.from_history(HISTORY, ax=ax)
    assert display.figure_ is figure
    assert all(panel in ax.child_axes for panel in display.axes_)
    figure.draw_without_rendering()
    _, axes = pyplot.subplots(2)
    display = TrainingCurveDisplay.from_history(HISTORY, ax=axes)
    assert list(display.axes_) == list(axes)
    assert display.plot() is display
    with pytest.raises(ValueError, match=r"one axes or two in ax of TrainingCurveDisplay\.plot"):
        display.plot(pyplot.subplots(3)[1])


def test_invalid_input_raises(adapter, data):
    draw = TrainingCurveDisplay.from_history
    with pytest.raises(ValueError, match="at least one epoch in history, got none"):
        draw([])
    with pytest.raises(TypeError, match="a list of dict in history, got dict"):
        draw({"loss": [1.0]})
    with pytest.raises(TypeError, match="a list of dict in history, got int"):
        draw(3)
    with pytest.raises(TypeError, match=r"a dict for each epoch of history, got 1\.0"):
        draw([1.0])
    with pytest.raises(ValueError, match=r"monitors among \['loss', .*got \['speed'\]"):
        draw(HISTORY, monitors=["loss", "speed"])
    with pytest.raises(NotFittedError):
        TrainingCurveDisplay.from_estimator(ConcreteKMeans(2))
    with pytest.raises(TypeError, match="an estimator with history_, got KMeans"):
        TrainingCurveDisplay.from_estimator(KMeans(2, n_init=1).fit(data.X))


def test_missing_matplotlib_is_named(without_matplotlib, adapter):
    with pytest.raises(ImportError, match=r"TrainingCurveDisplay\.from_history requires"):
        TrainingCurveDisplay.from_history(HISTORY)
    with pytest.raises(ImportError, match=r"TrainingCurveDisplay\.from_estimator requires"):
        TrainingCurveDisplay.from_estimator(adapter)
    with pytest.raises(ImportError, match=r"TrainingCurveDisplay\.plot requires"):
        TrainingCurveDisplay(HISTORY).plot()


@pytest.mark.parametrize("n_epochs", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("is_divided", [False, True])
def test_ticks_are_whole_epochs(pyplot, n_epochs, is_divided):
    history = [{"phase": "pretrain", "loss": 1.0, "label_change": 0.5}] * n_epochs
    ax = pyplot.subplots()[1] if is_divided else None
    display = TrainingCurveDisplay.from_history(history, ax=ax)
    display.figure_.draw_without_rendering()
    for panel in display.axes_:
        shown = [tick for tick in panel.get_xticks() if 0.5 <= tick <= n_epochs + 0.5]
        assert shown and all(tick == int(tick) for tick in shown)
