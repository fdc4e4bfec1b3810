"""scikit-learn's callbacks reach the phases and epochs of a fit, in searches and pipelines too."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(60, 6)) + np.repeat(np.eye(3, 6) * 6, 20, 0)).astype(np.float32)
Y_FEW = np.full(60, -1)
Y_FEW[[0, 20, 40]] = [5, 6, 7]
SMALL = {
    "n_clusters": 3,
    "n_components": 2,
    "pretrain_epochs": 2,
    "max_epochs": 3,
    "random_state": 0,
}
FITS = {
    "clusterer": lambda model: model.fit(X),
    "adapter": lambda model: model.fit(X[:40] + 1, np.arange(40) % 2, X_tgt=X),
    "semi-supervised": lambda model: model.fit(X[:40], np.arange(40) % 2, X_tgt=X, y_tgt=Y_FEW),
}
CLASSES = {
    "clusterer": ConcreteKMeans,
    "adapter": CKMDomainAdapter,
    "semi-supervised": CKMSemiSupervisedAdapter,
}


class Recorder:
    """Notes the tasks, and what the estimators that it is handed would predict."""

    max_propagation_depth = None

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.begun, self.ended, self.estimators, self.is_torn_down = [], [], [], 0

    def setup(self, estimator, context):
        self.is_torn_down -= 1

    def teardown(self, estimator, context):
        self.is_torn_down += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append((context.task_name, context.task_id))
        self.estimators.append(fitted_estimator)
        phase = None if context.parent is None else context.parent.task_name
        return (phase, *self.ended[-1]) == self.stop_at


EPOCHS = {
    phase: [("epoch", i) for i in range(n)] for phase, n in (("pretrain", 2), ("finetune", 3))
}
TASKS = [
    *EPOCHS["pretrain"],
    ("pretraining", 0),
    *EPOCHS["finetune"],
    ("fine-tuning", 1),
    ("fit", 0),
]


@pytest.mark.parametrize("kind", FITS)
def test_phases_and_epochs_are_tasks(kind):
    recorder = Recorder()
    plain = FITS[kind](CLASSES[kind](**SMALL))
    model = FITS[kind](CLASSES[kind](**SMALL).set_callbacks(recorder))
    assert recorder.ended == TASKS
    assert sorted(recorder.begun) == sorted(TASKS)
    assert recorder.is_torn_down == 0
    assert_array_equal(model.transform(X), plain.transform(X))
    assert model.history_ == plain.history_


@pytest.mark.parametrize("kind", FITS)
def test_handed_estimators_are_as_if_training_had_stopped_there(kind):
    recorder = Recorder()
    FITS[kind](CLASSES[kind](**SMALL).set_callbacks(recorder))
    assert recorder.estimators[:3] == [None] * 3  # of the pretraining: there are no centres yet
    for i, handed in enumerate(recorder.estimators[3:6]):
        stopped = CLASSES[kind](**SMALL)
        stopped = FITS[kind](stopped.set_callbacks(Recorder(("fine-tuning", "epoch", i))))
        assert stopped.n_iter_ == i + 1
        assert_array_equal(handed.transform(X), stopped.transform(X))
        assert_array_equal(handed.predict(X), stopped.predict(X))
        assert_array_equal(handed.predict_proba(X), stopped.predict_proba(X))
        assert_array_equal(handed.cluster_centers_, stopped.cluster_centers_)
        assert handed.n_clusters_ == 3
        assert_array_equal(handed.labels_, stopped.labels_)
        assert handed.history_ == stopped.history_
        assert handed.n_iter_ == i + 1
    assert_array_equal(recorder.estimators[-1].labels_, recorder.estimators[5].predict(X))


def test_handed_histories_are_independent_of_the_fit():
    class Spoils(Recorder):
        def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
            if context.task_name == "epoch" and fitted_estimator is not None:
                for record in fitted_estimator.history_:
                    record.clear()
                fitted_estimator.labels_[:] = -7

    plain = ConcreteKMeans(**SMALL).fit(X)
    model = ConcreteKMeans(**SMALL).set_callbacks(Spoils()).fit(X)
    assert model.history_ == plain.history_
    assert_array_equal(model.labels_, plain.labels_)


def test_handed_estimators_of_several_starts_have_the_history_of_theirs():
    recorder = Recorder()
    ConcreteKMeans(**SMALL, n_init=2).set_callbacks(recorder).fit(X)
    handed = [model for model in recorder.estimators if model is not None]
    phases = [[record["phase"] for record in model.history_] for model in handed]
    expected = [["pretrain"] * 2 + ["finetune"] * n for n in (1, 2, 3, 3)]  # and after the phase
    assert phases == [*expected, *expected, expected[-1]]


def test_starts_that_compete_are_phases_and_hand_estimators_of_their_own():
    rows = np.random.default_rng(0).uniform(size=(90, 4))  # no obvious clusters
    params = {**SMALL, "n_clusters": 5, "n_components": 3, "max_epochs": 6, "tol": 0.0}
    kept = set()
    for seed in range(8):
        recorder = Recorder()
        model = ConcreteKMeans(**{**params, "random_state": seed})
        model.set_callbacks(recorder).fit(rows)
        kept.add(model.init_)
        starts = ("k-means", "fine-tuning"), ("whitened-k-means", "second start")
        phases = [task for task in recorder.ended if task[0] not in ("epoch", "fit")]
        expected = [("fine-tuning", 1), ("second start", 2)]
        is_second = model.init_ == starts[1][0]
        assert phases == [("pretraining", 0), *expected[:: 1 if is_second else -1]]
        for init, phase in starts:
            alone = ConcreteKMeans(**{**params, "random_state": seed, "init": init}).fit(rows)
            handed = [
                fitted
                for (name, _), fitted in zip(recorder.ended, recorder.estimators, strict=True)
                if fitted is not None and name in ("epoch", phase) and fitted.init_ == init
            ]
            n_epochs = 6 if init == model.init_ else 4
            lengths = [len(fitted.history_) - 2 for fitted in handed]
            assert lengths == [*range(1, n_epochs + 1), n_epochs]  # and after the phase
            for fitted in handed:
                assert fitted.history_ == alone.history_[: len(fitted.history_)]
            stops = Recorder(("fine-tuning", "epoch", n_epochs - 1))
            stopped = ConcreteKMeans(**{**params, "random_state": seed, "init": init})
            stopped.set_callbacks(stops).fit(rows)
            assert_array_equal(handed[-1].transform(rows), stopped.transform(rows))
    assert kept == {"k-means", "whitened-k-means"}


def test_network_without_the_source_is_a_phase_and_hands_estimators_of_its_own():
    rows = np.random.default_rng(0).uniform(size=(90, 4))  # no obvious clusters
    params = {**SMALL, "n_clusters": 5, "n_components": 3, "max_epochs": 6, "tol": 0.0}
    source = np.random.default_rng(1).uniform(size=(60, 4))
    domains = {"X": source, "y": np.arange(60) % 2, "X_tgt": rows}
    won = set()
    for seed in range(12):
        params["random_state"] = seed
        recorder = Recorder()
        model = CKMDomainAdapter(**params).set_callbacks(recorder).fit(**domains)
        won.add(model.source_in_pretraining_)
        phases = [name for name, _ in recorder.ended if name not in ("epoch", "fit")]
        expected = ["pretraining", "fine-tuning", "second start", "third start"]
        assert sorted(phases) == sorted([*expected, "pretraining of the target"])
        alone = CKMDomainAdapter(**params, init="whitened-k-means", source_in_pretraining=False)
        alone.fit(**domains)
        handed = [fitted for fitted in recorder.estimators if fitted is not None]
        handed = [fitted for fitted in handed[:-1] if not fitted.source_in_pretraining_]
        assert len(handed) == (5 if model.source_in_pretraining_ else 7)  # and after the phase
        for fitted in handed:
            assert fitted.init_ == "whitened-k-means"
            assert fitted.history_ == alone.history_[: len(fitted.history_)]
        if won == {True, False}:
            return
    pytest.fail(f"only {won} won")


def test_callback_can_stop_a_phase():
    recorder = Recorder(stop_at=("pretraining", "epoch", 0))
    model = ConcreteKMeans(**SMALL).set_callbacks(recorder).fit(X)
    assert [row["phase"] for row in model.history_] == ["pretrain", *["finetune"] * 3]
    assert model.stop_reason_ == "max_epochs"


def test_several_starts_are_phases():
    recorder = Recorder()
    ConcreteKMeans(**SMALL, n_init=2).set_callbacks(recorder).fit(X)
    phases = [task for task in recorder.ended if task[0] != "epoch"]
    names = ["pretraining", "fine-tuning"] * 2
    assert phases == [*((name, i) for i, name in enumerate(names)), ("fit", 0)]


def test_epoch_that_is_trained_again_is_one_task():
    recorder = Recorder()
    model = ConcreteKMeans(**{**SMALL, "pretrain_epochs": 0}, optimizer="sgd", lr=1.0)
    diverged = []
    with pytest.warns(ConvergenceWarning, match="Training diverged"):
        for exponent in range(8):  # a rate at which it diverges, and a tenth at which it does not
            recorder = Recorder()
            try:
                clone(model).set_params(lr=10.0**exponent).set_callbacks(recorder).fit(X)
            except ValueError:
                break
            diverged.append(recorder.ended)
    assert all(tasks == [*EPOCHS["finetune"], ("fine-tuning", 0), ("fit", 0)] for tasks in diverged)
    assert recorder.is_torn_down == 0  # also after the fit that failed
    assert sorted(set(recorder.begun)) == sorted(recorder.begun)


def test_failed_fit_ends_the_callbacks_and_leaves_no_trace():
    recorder = Recorder()
    model = ConcreteKMeans(**SMALL, lr=1e30).set_callbacks(recorder)
    with pytest.raises(ValueError, match="Training diverged"):
        model.fit(X)
    assert recorder.is_torn_down == 0
    assert set(vars(model)) - set(model.get_params(deep=False)) == {"_skl_callbacks"}


def test_callbacks_of_a_search_reach_the_epochs():
    recorder = Recorder()
    model = ConcreteKMeans(**SMALL, init="k-means")
    search = GridSearchCV(model, {"lambda_clustering": [0.1, 1.0]}, cv=2)
    search.set_callbacks(recorder).fit(X)
    n_fits = 2 * 2 + 1
    assert recorder.ended.count(("epoch", 2)) == n_fits
    assert sum(name == "fine-tuning" for name, _ in recorder.ended) == n_fits
    assert recorder.is_torn_down == 0


def test_callbacks_of_a_pipeline_reach_the_epochs():
    recorder = Recorder()
    pipeline = make_pipeline(StandardScaler(), ConcreteKMeans(**SMALL, init="k-means"))
    pipeline.set_callbacks(recorder).fit(X)
    assert recorder.ended.count(("epoch", 2)) == 1


def test_scores_are_monitored():
    monitor = ScoringMonitor(scoring=None)
    model = ConcreteKMeans(**SMALL).set_callbacks(monitor).fit(X)
    assert monitor.get_logs() is not None
    assert np.isfinite(model.score(X))


def test_callbacks_survive_clone_and_pickle():
    recorder = Recorder()
    model = ConcreteKMeans(**SMALL).set_callbacks(recorder)
    assert clone(model)._skl_callbacks == [recorder]
    fitted = pickle.loads(pickle.dumps(model.fit(X)))
    assert_array_equal(fitted.predict(X), model.labels_)
