"""Does a grid of lambdas finish? A cached pretraining, counted and timed.

A grid of 27 settings (lambda 1, lambda 2, number of clusters) over three folds with a refit makes
82 fits of CKMDomainAdapter, on digits that come with scikit-learn. Four data sets occur, three
folds and all rows, so with ``memory`` there must be four pretrainings. The same grid is run without
``memory``, where the phases of every fit are timed; from these come the time of a pretraining and
of everything else in a fit, each alone, and the ideal: four pretrainings and 82 times the rest.

    python benchmarks/bench_grid.py [--max-epochs 10 100]
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from _common import RESULTS, append_row, environment
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from threadpoolctl import threadpool_limits

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.datasets import load_digits_on_photos
from sklearn_ckm.model_selection import TargetSplit
from sklearn_ckm.utils import stack_domains

GRID = {
    "lambda_clustering": [0.01, 0.1, 1.0],
    "lambda_classification": [0.1, 1.0, 10.0],
    "n_clusters": [4, 5, 6],
}
N_FOLDS = 3
N_DATA_SETS = N_FOLDS + 1
N_ROWS = 400  # of either domain


class PretrainingTimer(Callback):
    """Write the seconds of every pretraining to a file; nothing where the cache answers."""

    def __init__(self, path):
        self.path = path

    def on_train_begin(self, net, **kwargs):
        self.start_ = time.perf_counter()

    def on_train_end(self, net, **kwargs):
        if net.phase == "pretrain":
            with Path(self.path).open("a") as file:
                file.write(f"{time.perf_counter() - self.start_}\n")


def main():
    """Run the grid with and without cache, for each number of epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-epochs", nargs="+", type=int, default=[10, 100])
    parser.add_argument("--encoder", default="mlp-small")
    parser.add_argument("--results", type=Path, default=RESULTS / "grid.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    for max_epochs in options.max_epochs:
        row = compare(options.encoder, max_epochs)
        append_row(options.results, {**row, **environment()})
        print(row, flush=True)


def compare(encoder, max_epochs):
    """Both grids, and what the phases of the fits without cache say of the one with it."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        plain, plain_seconds, alone = run(folder / "plain", encoder, max_epochs, memory=None)
        cached, seconds, pretrained = run(
            folder / "cached", encoder, max_epochs, memory=str(folder / "memory")
        )
    n_fits = len(plain.cv_results_["params"]) * N_FOLDS + 1
    fits = plain.cv_results_["mean_fit_time"].sum() * N_FOLDS + plain.refit_time_
    rest = fits - sum(alone)
    ideal = N_DATA_SETS * np.mean(alone) + rest
    return {
        "encoder": encoder,
        "n_rows": N_ROWS,
        "pretrain_epochs": plain.estimator.pretrain_epochs,
        "max_epochs": max_epochs,
        "n_fits": n_fits,
        "n_pretrainings": len(pretrained),
        "n_pretrainings_without": len(alone),
        "is_equal": _is_equal(plain, cached),
        "pretraining_seconds": round(float(np.mean(alone)), 3),
        "rest_of_fit_seconds": round(float(rest) / n_fits, 3),
        "seconds": round(seconds, 1),
        "seconds_without": round(plain_seconds, 1),
        "over_ideal": round(float(seconds / ideal), 3),
        "gain": round(plain_seconds / seconds, 2),
    }


def run(folder, encoder, max_epochs, memory):
    """One search; returns it, its seconds and those of its pretrainings."""
    folder.mkdir()
    data = load_digits_on_photos()
    X, y, tags = stack_domains(
        data.X_src[:N_ROWS], data.y_src[:N_ROWS], data.X_tgt[:N_ROWS], data.y_tgt[:N_ROWS]
    )
    log = folder / "pretrainings"
    model = CKMDomainAdapter(
        encoder=encoder,
        augmentation=None,
        max_epochs=max_epochs,
        memory=memory,
        callbacks=[PretrainingTimer(str(log))],
        random_state=0,
    )
    search = GridSearchCV(model, GRID, cv=TargetSplit(N_FOLDS, random_state=0))
    start = time.perf_counter()
    search.fit(X, y, groups=tags, sample_domain=tags)
    seconds = time.perf_counter() - start
    return search, seconds, [float(line) for line in log.read_text().split()]


def _is_equal(first, second):
    """Whether two searches gave the same scores and the same final model, bit for bit."""
    names = [f"split{i}_test_score" for i in range(N_FOLDS)]
    best, other = first.best_estimator_, second.best_estimator_
    return bool(
        all(np.array_equal(first.cv_results_[n], second.cv_results_[n]) for n in names)
        and np.array_equal(best.cluster_centers_, other.cluster_centers_)
        and np.array_equal(best.labels_, other.labels_)
    )


if __name__ == "__main__":
    main()
