"""The reports of the benchmarks on choosing settings, by hand on rows that are made up."""

import importlib
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="needs a checkout")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def rows_of_a_grid(module, run):
    """Accuracy rises from setting to setting; each criterion is a function of it."""
    settings = list(product(*module.GRID.values()))
    for i, values in enumerate(settings):
        accuracy = 0.5 + i / 100
        row = {"pair": "usps-mnist", "run": run, "settings": json.dumps(module.SETTINGS)}
        row["settings"] = json.dumps(module.SETTINGS, sort_keys=True)
        row |= dict(zip(module.GRID, map(str, values), strict=True))
        row["accuracy"] = str(accuracy)
        for name in (*module.SCORERS, *module.SEARCHES):
            row[name] = str(-accuracy)
        row["silhouette"] = str(accuracy)
        row["stability"] = str(min(accuracy, 0.5 + (len(settings) - 2) / 100))  # a tie at the top
        yield row


def test_criteria_are_rated_by_rank_and_by_what_is_lost(load):
    module = load("label_free_criteria")
    rows = list(rows_of_a_grid(module, "0"))
    results = module.summarize(rows + list(rows_of_a_grid(module, "1"))[:-1])  # one is incomplete
    n = len(rows)

    def only(name):
        (value,) = results[name]["usps-mnist"]
        return value

    assert only("silhouette") == pytest.approx((1, 0))
    assert only("seed_stability") == pytest.approx((-1, n - 1))
    rho, lost = only("stability")
    assert 0.99 < rho < 1
    assert lost == pytest.approx(0.5)  # the mean of the best and the second
    assert np.isnan(only("default")[0])
    default = [
        i
        for i, row in enumerate(rows)
        if all(float(row[key]) == value for key, value in module.DEFAULT.items())
    ]
    assert only("default")[1] == pytest.approx(n - 1 - default[0])
    assert only("random")[1] == pytest.approx((n - 1) / 2)
    assert module.cell(results["silhouette"]["usps-mnist"]) == "1.00; 0.0 ± 0.0"
    assert module.cell([(np.nan, 1.0), (np.nan, 3.0)]) == "2.0 ± 1.4"


def test_counts_are_rated_by_their_errors(load):
    module = load("n_clusters")
    row = {"pair": "bundled", "n_source": "4", "seed": "300"}
    row["settings"] = module.settings_of("mlp-small")
    answers = {"auto": "3", "embedding": "4", "bic": "9", "silhouette": "5", "dtc": "1"}
    rows = [{**row, **answers, "n_target": "3"}, {**row, **answers, "n_target": "7"}]
    rows.append({**rows[0], "settings": module.settings_of("auto")})
    assert module.summarize(rows, "auto") == {("bundled", 3): module.summarize(rows)["bundled", 3]}
    errors = module.summarize(rows)
    assert errors["bundled", 3] == {
        "auto": [0],
        "embedding": [1],
        "bic": [6],
        "silhouette": [2],
        "dtc": [-2],
        "five": [2],
        "n_source": [1],
    }
    assert errors["bundled", 7]["auto"] == [-4]
    assert module.cell([0, -1, 2, 3]) == "2 of 4; 1.5"


def test_constrained_kmeans_finds_the_clusters_beside_the_anchors(load):
    module = load("n_clusters")
    rng = np.random.default_rng(0)
    y = np.arange(7 * 40) % 7
    z = 20 * np.eye(7)[y] + rng.normal(size=(len(y), 7))
    z[y < 2] += 100  # the anchors are far away
    anchors = [z[y == 0], z[y == 1]]
    labels = module.constrained_kmeans(z[y >= 2], anchors, 5, np.random.default_rng(0))
    assert adjusted_rand_score(y[y >= 2], labels) == 1
    assert labels.min() == 2  # no row went to an anchor
    with_rows = np.vstack([z[y >= 2], z[y == 1] + 0.1])
    labels = module.constrained_kmeans(with_rows, anchors, 5, np.random.default_rng(0))
    assert (labels[-40:] == 1).all()  # rows at an anchor join it


def test_rule_of_deep_transfer_clustering_by_hand(load, monkeypatch):
    module = load("n_clusters")
    monkeypatch.setattr(module, "_MOST_CLUSTERS", 6)
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], 10)
    is_probe = np.isin(y, np.random.default_rng(0).choice(4, 2, replace=False))
    codes = np.unique(y[is_probe], return_inverse=True)[1]
    z_target = np.repeat([[0.0], [5.0], [10.0]], 10, axis=0) + rng.normal(size=(30, 1)) / 10
    target = np.repeat([2, 3, 4], 10)

    def cluster(free, anchors, k, rng):
        probes = codes if k >= 4 else np.zeros_like(codes)  # the probes are right from 4 on
        return np.concatenate([probes, target if k == 5 else np.minimum(target, 3)])

    monkeypatch.setattr(module, "constrained_kmeans", cluster)
    # (4 for the probes + 5 for the silhouette) / 2, minus two classes of probes: 2.5, to even
    assert module.deep_transfer_clustering_rule(np.zeros((40, 1)), y, z_target, 0) == 2


def test_draws_of_classes_are_disjoint(load):
    module = load("n_clusters")
    for n_target, n_source in ((3, 7), (5, 3), (7, 2)):
        X_src, y_src, X_tgt = module.draw("bundled", None, n_source, n_target, seed=300)
        assert len(np.unique(y_src)) == n_source
        assert len(X_src) == len(y_src)
        assert len(X_tgt) > 100 * n_target
        assert not {row.tobytes() for row in X_src} & {row.tobytes() for row in X_tgt}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_grid_pretrains_once_for_each_data_set(load, monkeypatch):
    module = load("bench_grid")
    monkeypatch.setattr(module, "N_ROWS", 60)
    monkeypatch.setattr(module, "GRID", {"lambda_clustering": [0.1, 1.0], "n_clusters": [3]})
    row = module.compare("mlp-small", max_epochs=1)
    assert row["n_pretrainings"] == 4
    assert row["n_fits"] == row["n_pretrainings_without"] == 2 * 3 + 1
    assert row["is_equal"]


def test_unequal_classes_have_the_ratio_asked_for(load):
    module = load("views")
    y = np.repeat([3, 4, 5, 6, 7], [50, 60, 70, 80, 90])
    X, thinned = module.thin_out(np.arange(len(y)), y, 10.0, run=0)
    counts = np.sort(np.unique(thinned, return_counts=True)[1])
    assert counts.tolist() == [5, 8, 15, 28, 50]
    np.testing.assert_array_equal(y[X], thinned)


def test_arms_that_differ_have_keys_that_differ(load):
    module = load("views")
    for arms in module.PARTS.values():
        assert len({arm.key() for arm in arms.values()}) == len(arms)
    keys = [module.PARTS[part][name].key() for part, name in (("ablation", "no source"),)]
    assert keys == [module.PARTS["source"]["target alone"].key()]  # one row serves both


class Answers:
    """A model that is sure to a given degree."""

    def __init__(self, choice, confidence):
        self.proba = np.full((len(choice), 2), 1 - confidence)
        self.proba[np.arange(len(choice)), choice] = confidence

    def predict_proba(self, X):
        return self.proba


@pytest.mark.parametrize("names", [[7, 9], [9, 7]])
def test_calibration_error_is_confidence_less_accuracy_after_matching(load, names):
    module = load("views")
    choice = np.repeat([0, 1], [6, 4])
    y = np.array(names)[choice]
    y[0] = names[1]  # nine of ten are right
    task = module.load_task("bundled", None, n_pixels=8, n_rows=None, run=0)
    task.X_test, task.y_test = np.zeros((10, 1)), y
    assert module.calibration_error(Answers(choice, 0.95), task) == pytest.approx(0.05)
    assert module.calibration_error(Answers(choice, 0.8), task) == pytest.approx(0.1)


def test_target_alone_is_trained_for_as_many_updates(load):
    module = load("views")
    assert module.n_steps(500) == 16  # batches of 32
    assert module.n_steps(500, 2000) == 63  # batches of 32
    assert module.n_steps(10_000, 4000) == 65  # batches of 156
    assert module.n_steps(30_000) == 118  # batches of 256


def test_best_of_starts_is_chosen_by_the_score_and_not_by_the_accuracy(load):
    module = load("views")
    values = [(0.9, 0.1, 0.1), (0.5, 0.05, 0.05), (0.7, 0.2, 0.2), (0.8, 0.3, 0.3)]
    names = "accuracy", "consistency", "balance"
    no_source = {"source_consistency": "", "source_balance": ""}
    rows = [{**no_source, **dict(zip(names, map(str, row), strict=True))} for row in values]
    # of the four choices of three, the three with the second row take it, the other the first
    assert module.best_of_starts(rows, 3) == pytest.approx((3 * 50 + 90) / 4)
    assert module.best_of_starts(rows[:3], 3) == pytest.approx(50)
    assert np.isnan(module.best_of_starts(rows[:2], 3))
    rows[1]["source_balance"] = "0.45"  # now the first has less
    assert module.best_of_starts(rows[:3], 3) == pytest.approx(90)
    for unknown in ("nan", ""):
        rows[0]["consistency"] = unknown
        assert np.isnan(module.best_of_starts(rows, 3))
