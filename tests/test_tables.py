"""The scripts of the tables: every method runs, rows resume, and nothing is chosen by labels."""

import csv
import importlib
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = [
    pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="needs a checkout"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def run_table(table, *arguments):
    command = [sys.executable, str(BENCHMARKS / f"{table}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_tables")


@pytest.mark.parametrize(("table", "n_methods", "n_rows"), [("table1", 15, 15), ("table2", 6, 24)])
def test_every_method_runs_and_rows_resume(table, n_methods, n_rows, tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.delenv("SKLEARN_CKM_DATA", raising=False)
    results = tmp_path / "rows.csv"
    done = run_table(table, "--quick", "--results", results)
    assert done.returncode == 0, done.stderr
    rows = read(results)
    assert len(rows) == n_rows
    assert len({row["method"] for row in rows}) == n_methods
    for row in rows:
        assert 0 < float(row["accuracy"]) <= 1
        assert row["commit"]
        assert json.loads(row["settings"])["name"] == "quick"
        assert row["method"] in done.stdout

    lines = results.read_text().splitlines(keepends=True)
    is_last = f"{rows[-1]['method']}," in lines[-1]
    assert is_last
    kept = lines[:-1]
    results.write_text("".join(kept) + lines[-1][:30])  # as if interrupted in the last row
    again = run_table(table, "--quick", "--results", results)
    assert again.returncode == 0, again.stderr
    resumed = read(results)
    assert results.read_text().startswith("".join(kept))
    assert [r["accuracy"] for r in resumed] == [r["accuracy"] for r in rows]  # and deterministic


def test_rows_of_other_settings_are_not_mixed(tables, tmp_path):
    scale = tables.SCALES["quick"]
    path = tmp_path / "rows.csv"
    common = importlib.import_module("_common")
    for n_rows, run, accuracy in ((scale.n_rows, 0, 0.5), (999, 0, 0.9), (scale.n_rows, 0, 0.7)):
        settings = {**json.loads(scale.settings()), "n_rows": n_rows, "lambda_clustering": accuracy}
        row = {"method": "m", "pair": "bundled", "run": run, "accuracy": accuracy}
        common.append_row(path, {**row, "settings": json.dumps(settings)})
    (row,) = tables.reported_rows(path, scale)
    assert row["accuracy"] == "0.7"  # the later of the same run


def test_rows_of_another_table_are_refused(tables, tmp_path):
    common = importlib.import_module("_common")
    common.append_row(tmp_path / "rows.csv", {"a": 1})
    with pytest.raises(ValueError, match=r"Expected the columns \['b'\]"):
        common.append_row(tmp_path / "rows.csv", {"b": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quick", "--runs", "1000"], "expected runs from 0 to 999"),
        (["--report", "--results", "nowhere.csv"], "no row of scale 'reduced'"),
    ],
)
def test_wrong_arguments_are_told(arguments, message, monkeypatch):
    monkeypatch.delenv("SKLEARN_CKM_DATA", raising=False)
    done = run_table("table1", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("SKLEARN_CKM_DATA", raising=False)
    done = run_table("table1", "--pairs", "usps-mnist", "--methods", "k-means, pixels")
    assert done.returncode == 2
    assert "pass --data FOLDER with the digit files" in done.stderr
    done = run_table(
        "table1", "--pairs", "svhn-mnist", "--methods", "k-means, pixels", "--data", tmp_path
    )
    assert done.returncode == 2
    assert "SVHN" in done.stderr
    assert str(tmp_path) in done.stderr


def test_lambda_is_chosen_by_the_label_free_score(tables, tmp_path, monkeypatch):
    scale = tables.Scale("tiny", 8, 10, 1, 1, 1, (0.01, 0.1, 1.0))
    path = tmp_path / "selection.csv"
    options = SimpleNamespace(scale=scale, data=None, download=False, selection=path)
    tried = []

    class Method:
        def label_free_score(self, task, context):
            tried.append(context.lambda_clustering)
            assert context.run == tables.SELECTION_RUN
            return {0.01: 0.3, 0.1: 0.7, 1.0: 0.5}[context.lambda_clustering]

    for _ in range(2):  # the second time from its rows
        assert tables.choose_lambda(("method", Method()), "bundled", options, None) == 0.1
    assert tried == [0.01, 0.1, 1.0]
    header = read(path)[0]
    assert not {"accuracy", "nmi", "ari"} & set(header)


def test_selection_and_fits_never_see_target_labels(monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    tables, table1 = (importlib.import_module(name) for name in ("_tables", "table1"))
    pairs = importlib.import_module("_digit_pairs")
    task = pairs.load_task("bundled", None, n_pixels=8, n_rows=80, run=0)
    del task.y_tgt, task.y_test
    context = tables.Context(0, tables.Scale("tiny", 8, 80, 1, 1, 1, (0.1,)), 0.1, None)
    for name, method in table1.METHODS.items():
        if method.selection is not None:
            assert np.isfinite(method.label_free_score(task, context)), name
        elif isinstance(method, table1.Deep):
            method.fit(task, context)


def test_few_labels_are_nested_and_balanced(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    table2 = importlib.import_module("table2")
    task = SimpleNamespace(y_tgt=np.repeat([5, 6, 7, 8, 9], 20))
    drawn = [table2.few_labels(task, n_shots, 3) for n_shots in table2.N_SHOTS]
    for n_shots, y_few in zip(table2.N_SHOTS, drawn, strict=True):
        assert np.bincount(y_few[y_few >= 0], minlength=10)[5:].tolist() == [n_shots] * 5
    for fewer, more in pairwise(drawn):
        assert (more[fewer >= 0] >= 0).all()


def test_clusters_are_named_by_the_best_matching(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    name_clusters = importlib.import_module("table2").name_clusters
    clusters = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    y_few = np.array([7, 7, 9, 9, 5, -1, 6, 6, 5, 8])
    assert name_clusters(clusters, y_few).tolist() == [7, 9, 5, 6, 8]


def test_page_of_the_tables_is_up_to_date():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "write_page.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
