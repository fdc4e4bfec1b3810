"""Do criteria without target labels deserve trust? Rated against the true accuracy.

CKMDomainAdapter is fitted with every setting of a grid on small samples of the digit pairs. Each
fit is rated by every label-free criterion, and, for the report alone, by its accuracy on test
images. The report gives, for each criterion, the rank correlation with the accuracy over the grid
(Spearman's rho), and the accuracy lost by following it: the best of the grid minus the chosen one,
beside what the default setting and a random one lose. The fits are of the published method,
without views.

    python benchmarks/label_free_criteria.py --data FOLDER [--pairs ...] [--runs 0 1 2] [--report]
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import torch
from _common import RESULTS, append_row, environment, read_rows
from _digit_pairs import PAIRS, load_task
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.model_selection import (
    HiddenClasses,
    LabelFreeSearchCV,
    make_label_free_scorer,
)

SCORERS = (
    "silhouette",
    "information_maximization",
    "nuclear_norm",
    "soft_neighborhood_density",
    "neighborhood_agreement",
    "stability",
)
SEARCHES = {
    "seed_stability": "seed_stability",
    "hidden_classes": HiddenClasses(),
    "hidden_classes_with_target": HiddenClasses(with_target=True),
}
GRID = {
    "lambda_clustering": (0.01, 0.1, 1.0, 10.0),
    "lambda_classification": (0.1, 1.0, 10.0),
    "n_components": (10, 64),
}
DEFAULT = {"lambda_clustering": 0.1, "lambda_classification": 1.0, "n_components": 10}
SETTINGS = {
    "n_pixels": 16,
    "n_rows": 1000,
    "encoder": "mlp-small",
    "pretrain_epochs": 10,
    "max_epochs": 20,
}


def main():
    """Run what is missing, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKLEARN_CKM_DATA") or None)
    parser.add_argument(
        "--pairs", nargs="+", choices=PAIRS, default=["usps-mnist", "mnist-usps", "photos-mnist"]
    )
    parser.add_argument("--runs", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=RESULTS / "label_free_criteria.csv")
    parser.add_argument("--report", action="store_true", help="print the table and end")
    options = parser.parse_args()
    if options.data is None and not options.report:
        parser.error("pass --data FOLDER with the digit files, or set SKLEARN_CKM_DATA")
    torch.set_num_threads(1)
    threadpool_limits(1)
    if not options.report:
        for run, pair in product(options.runs, options.pairs):
            with tempfile.TemporaryDirectory() as memory, warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                rate_grid(options, pair, run, memory)
    report(read_rows(options.results))


def rate_grid(options, pair, run, memory):
    """Write a row for each setting of the grid that has none."""
    settings = json.dumps(SETTINGS, sort_keys=True)
    done = {
        tuple(float(row[name]) for name in GRID)
        for row in read_rows(options.results)
        if (row["pair"], row["run"], row["settings"]) == (pair, str(run), settings)
    }
    task = None
    for values in product(*GRID.values()):
        if tuple(map(float, values)) in done:
            continue
        if task is None:
            task = load_task(
                pair,
                options.data,
                n_pixels=SETTINGS["n_pixels"],
                n_rows=SETTINGS["n_rows"],
                run=run,
            )
        start = time.perf_counter()
        params = dict(zip(GRID, values, strict=True))
        row = {"pair": pair, "run": run, **params, **rate(task, params, run, memory)}
        row = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
        row["seconds"] = round(time.perf_counter() - start, 1)
        append_row(options.results, {**row, "settings": settings, **environment()})
        print(pair, run, *values, row["accuracy"], row["seconds"], "s", flush=True)


def rate(task, params, run, memory):
    """Accuracy and every criterion of one setting."""
    names = "encoder", "pretrain_epochs", "max_epochs"
    fixed = {"augmentation": None, **{name: SETTINGS[name] for name in names}}
    model = CKMDomainAdapter(5, **fixed, **params, tol=0.0, memory=memory, random_state=run)
    model.fit(task.X_src, task.y_src, X_tgt=task.X_tgt)
    row = {"accuracy": clustering_accuracy(task.y_test, model.predict(task.X_test))}
    for name in SCORERS:
        row[name] = make_label_free_scorer(name)(model, task.X_test)
    grid = {name: [value] for name, value in params.items()}
    for name, criterion in SEARCHES.items():
        search = LabelFreeSearchCV(
            model, grid, criterion=criterion, refit=False, error_score="raise", random_state=run
        )
        search.fit(task.X_src, task.y_src, X_tgt=task.X_tgt)
        row[name] = search.best_score_
    return row


def summarize(rows):
    """Rank correlation and lost accuracy of each criterion, for every grid that is complete.

    Returns
    -------
    results : dict of str to dict of str to list
        By criterion and pair, a list of (correlation, accuracy lost in points) a run; "default",
        "random" and "hindsight" have no correlation.
    """
    n_settings = int(np.prod([len(values) for values in GRID.values()]))
    settings = json.dumps(SETTINGS, sort_keys=True)
    grids = {}
    for row in rows:
        if row["settings"] == settings:
            grids.setdefault((row["pair"], row["run"]), []).append(row)
    results = {name: {} for name in (*SCORERS, *SEARCHES, "default", "random")}
    for (pair, _), grid in sorted(grids.items()):
        if len(grid) < n_settings:
            continue
        accuracy = np.array([float(row["accuracy"]) for row in grid])
        is_default = [all(float(row[k]) == v for k, v in DEFAULT.items()) for row in grid]
        lost = 100 * (accuracy.max() - accuracy)
        for name in (*SCORERS, *SEARCHES):
            score = np.array([float(row[name]) for row in grid])
            chosen = lost[score == score.max()].mean()  # of settings that are equally good
            results[name].setdefault(pair, []).append((spearmanr(score, accuracy)[0], chosen))
        results["default"].setdefault(pair, []).append((np.nan, lost[is_default][0]))
        results["random"].setdefault(pair, []).append((np.nan, lost.mean()))
    return results


def report(rows):
    """Print the table; the number of complete grids is in brackets."""
    results = summarize(rows)
    pairs = list(results["default"])
    n_grids = [len(results["default"][pair]) for pair in pairs]
    titles = [f"{pair} ({n})" for pair, n in zip(pairs, n_grids, strict=True)]
    print(f"{'':28}" + "".join(f"{title:>24}" for title in [*titles, "all"]))
    for name, by_pair in results.items():
        cells = [by_pair[pair] for pair in pairs]
        cells.append([value for values in cells for value in values])
        print(f"{name:28}" + "".join(f"{cell(values) if values else '-':>24}" for values in cells))


def cell(values):
    """Mean rank correlation, and mean and standard deviation of the accuracy lost."""
    rho, lost = np.array(values).T
    sd = lost.std(ddof=1) if len(lost) > 1 else 0.0
    correlation = "" if np.isnan(rho).any() else f"{rho.mean():.2f}; "
    return f"{correlation}{lost.mean():.1f} ± {sd:.1f}"


if __name__ == "__main__":
    main()
