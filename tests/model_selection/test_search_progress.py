"""A running search is seen: a progress bar, and callbacks of scikit-learn."""

import re

import numpy as np
import pytest
from _cheap import CheapClusterer
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.model_selection import LabelFreeSearchCV

X, Y = make_blobs(n_samples=140, centers=8 * np.eye(7), cluster_std=1.5, random_state=0)
TAGS = np.where(Y < 4, 1, -1)
CRITERIA = {"hidden_classes": 3, "seed_stability": 1, "silhouette": 3}  # scores of a candidate
GRID = {"quality": ["random", "right", "fails"]}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning"),
    pytest.mark.filterwarnings("ignore:.*are non-finite:UserWarning"),
]


def fit(criterion="silhouette", **params):
    search = LabelFreeSearchCV(
        CheapClusterer(3), GRID, criterion=criterion, random_state=0, **params
    )
    return search.fit(X, Y, sample_domain=TAGS)


# progress bar -------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_bar_counts_candidates_and_splits(criterion, n_jobs, capsys):
    search = fit(criterion, n_jobs=n_jobs, verbose=1)
    written = capsys.readouterr()
    n_ratings = len(GRID["quality"]) * CRITERIA[criterion]
    last = written.err.rstrip().split("\r")[-1]
    assert re.match(rf"search: 100%.* {n_ratings}/{n_ratings} ", last)
    assert not written.out
    assert_array_equal(
        search.cv_results_["mean_test_score"], fit(criterion).cv_results_["mean_test_score"]
    )


def test_silent_by_default(capsys):
    fit()
    assert capsys.readouterr() == ("", "")


def test_lines_for_the_very_curious(capsys):
    fit(verbose=2)
    written = capsys.readouterr()
    assert "search:" not in written.err
    assert written.out.startswith("Fitting 3 folds for each of 3 candidates, totalling 9 fits")
    assert written.out.count("END") == 9


def test_bar_is_closed_after_a_failure(capsys):
    with pytest.raises(ValueError, match="It fails as planned"):
        fit(verbose=1, error_score="raise")
    from sklearn.callback import _transport

    assert not _transport._listeners
    assert "search:" in capsys.readouterr().err


# callbacks ----------------------------------------------------------------------------------------


class Recorder:
    """Notes the tasks; it is handed on to what is fitted within."""

    max_propagation_depth = None

    def __init__(self):
        self.begun, self.ended, self.is_set_up = [], [], 0

    def setup(self, estimator, context):
        self.is_set_up += 1

    def teardown(self, estimator, context):
        self.is_set_up -= 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.estimator_name, context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.ended.append((context.estimator_name, context.task_name))


def make_deep(**params):
    epochs = {"pretrain_epochs": 1, "max_epochs": 2}
    model = CKMDomainAdapter(  # with one start, as its tasks are counted
        3, n_components=3, encoder="mlp-small", init="k-means", random_state=0, **epochs
    )
    grid = {"lambda_clustering": [0.01, 10.0]}
    return LabelFreeSearchCV(model, grid, random_state=0, n_splits=2, **params)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("refit", [True, False])
def test_callbacks_reach_searches_candidates_and_epochs(criterion, refit):
    recorder = Recorder()
    search = make_deep(criterion=criterion, refit=refit).set_callbacks(recorder)
    search.fit(X, Y, sample_domain=TAGS)
    n_searches = 2 if criterion == "hidden_classes" else 1
    n_ratings = 2 if criterion == "seed_stability" else 4
    ended = recorder.ended
    assert sorted(recorder.begun) == sorted(ended)
    assert ended[-1] == ("LabelFreeSearchCV", "fit")
    assert ended.count(("GridSearchCV", "fit")) == n_searches
    assert ended.count(("GridSearchCV", "search")) == n_searches
    assert ended.count(("CKMDomainAdapter", "fine-tuning")) == n_ratings + refit
    assert ended.count(("CKMDomainAdapter", "epoch")) == 3 * (n_ratings + refit)
    assert recorder.is_set_up == 0
    plain = make_deep(criterion=criterion, refit=refit).fit(X, Y, sample_domain=TAGS)
    assert_array_equal(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


def test_same_fits_are_told_as_by_grid_search():
    """All that scikit-learn's search tells of the fits, ours does, with a level between."""
    recorder, expected = Recorder(), Recorder()
    search = make_deep(criterion="silhouette").set_callbacks(recorder)
    search.fit(X, Y, sample_domain=TAGS)
    grid = GridSearchCV(clone(search.estimator), search.param_grid, cv=2, scoring=lambda *args: 0.0)
    grid.set_callbacks(expected).fit(X[TAGS < 0])
    ours = [task for task in recorder.ended if task[0] == "CKMDomainAdapter"]
    assert ours == [task for task in expected.ended if task[0] == "CKMDomainAdapter"]


def test_callbacks_and_bar_together(capsys):
    recorder = Recorder()
    search = make_deep(criterion="silhouette", verbose=1).set_callbacks(recorder)
    search.fit(X, Y, sample_domain=TAGS)
    assert recorder.ended.count(("CKMDomainAdapter", "fine-tuning")) == 5
    assert "4/4" in capsys.readouterr().err


def test_failed_search_ends_its_callbacks():
    recorder = Recorder()
    search = make_deep(error_score="raise").set_params(estimator__lr=1e30)
    with pytest.raises(ValueError, match="Training diverged"):
        search.set_callbacks(recorder).fit(X, Y, sample_domain=TAGS)
    assert recorder.is_set_up == 0
    assert not hasattr(search, "_callback_fit_ctx")
    assert clone(search)._skl_callbacks == [recorder]
