"""How both tables are made: scales, choice of lambda 1, rows that resume, printing."""

import argparse
import json
import os
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from _common import RESULTS, append_row, environment, read_rows
from _digit_pairs import BUNDLED_PIXELS, PAIRS, load_task
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from threadpoolctl import threadpool_limits

SELECTION_RUN = 1000  # data and seed of the runs that choose lambda 1; they are not reported
SELECTION = RESULTS / "lambda_selection.csv"


@dataclass(frozen=True)
class Scale:
    """Sizes and lengths that are the same for every method of a table."""

    name: str
    n_pixels: int
    n_rows: int | None  # of either training split
    pretrain_epochs: int
    max_epochs: int
    n_runs: int
    grid: tuple

    def training(self):
        """Parameters of every estimator; an epoch has 32 batches, not the default's 64."""
        batch_size = 256 if self.n_rows is None else int(np.clip(self.n_rows // 32, 32, 256))
        epochs = {"pretrain_epochs": self.pretrain_epochs, "max_epochs": self.max_epochs}
        return {**epochs, "batch_size": batch_size}

    def settings(self, **more):
        """Text of the settings of a row."""
        return json.dumps({**asdict(self), **more}, sort_keys=True)


SCALES = {
    "quick": Scale("quick", 16, 500, 4, 4, 1, (0.1,)),
    "reduced": Scale("reduced", 16, 2000, 10, 15, 5, (0.01, 0.1, 1.0)),
    "full": Scale("full", 32, None, 50, 100, 10, (0.01, 0.1, 1.0)),
}


def parse_arguments(description, methods):
    """Read the command line of a table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        default=os.environ.get("SKLEARN_CKM_DATA") or None,
        help="digit files; default: the environment variable SKLEARN_CKM_DATA",
    )
    parser.add_argument("--download", action="store_true", help="fetch missing files into FOLDER")
    parser.add_argument("--scale", choices=SCALES, default="reduced", help="default: %(default)s")
    parser.add_argument(
        "--quick", action="store_true", help="all methods on a small sample: shows that it runs"
    )
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, help="default: those without SVHN")
    parser.add_argument("--methods", nargs="+", choices=methods, default=list(methods))
    parser.add_argument("--runs", nargs="+", type=int, help="default: all of the scale")
    parser.add_argument("--select-only", action="store_true", help="choose lambda 1 and end")
    parser.add_argument("--report", action="store_true", help="print the table and end")
    parser.add_argument("--results", type=Path, help="CSV of the rows")
    parser.add_argument("--memory", metavar="FOLDER", help="where to keep pretrained autoencoders")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.quick = options.quick or options.scale == "quick"
    options.scale = SCALES["quick" if options.quick else options.scale]
    if options.pairs is None:
        without_data = options.quick and options.data is None
        options.pairs = (
            ["bundled"] if without_data else ["usps-mnist", "mnist-usps", "photos-mnist"]
        )
    if options.data is None and options.pairs != ["bundled"] and not options.report:
        parser.error(
            "pass --data FOLDER with the digit files, or set SKLEARN_CKM_DATA; --download fetches "
            "them, --quick without a folder takes digits that come with scikit-learn"
        )
    if options.runs is None:
        options.runs = list(range(options.scale.n_runs))
    if not all(0 <= run < SELECTION_RUN for run in options.runs):
        parser.error(f"expected runs from 0 to {SELECTION_RUN - 1}, got {options.runs}")
    is_elsewhere = options.results is not None  # the choice of lambda 1 goes beside the rows
    options.selection = options.results.with_suffix(".selection.csv") if is_elsewhere else SELECTION
    torch.set_num_threads(options.threads)
    threadpool_limits(options.threads)
    return parser, options


def make_table(table, description, methods, report):
    """Run what is missing of a table, a row at a time, and print it.

    Parameters
    ----------
    table : str
        Name of the table and of its CSV.
    description : str
        For the command line.
    methods : dict of str to object
        Each with ``n_shots``, the keys of its rows, and ``rows(task, context, n_shots)``, which
        yields a row for each; ``selection``, a pair of name and method that lambda 1 is chosen
        with, or None.
    report : callable
        Prints rows for a list of pairs.
    """
    parser, options = parse_arguments(description, methods)
    path = options.results or RESULTS / f"{table}{'_quick' * options.quick}.csv"
    if options.report:
        rows = reported_rows(path, options.scale)
        if not {row["pair"] for row in rows} & set(options.pairs):
            parser.error(f"no row of scale {options.scale.name!r} and these pairs in {path}")
        return report(rows, options.pairs)
    with tempfile.TemporaryDirectory() as temporary:
        memory = options.memory or temporary
        try:
            if options.select_only:
                for pair in options.pairs:
                    for name in options.methods:
                        choose_lambda(methods[name].selection, pair, options, memory)
                return None
            for run in options.runs:
                for pair in options.pairs:
                    _run_pair(path, methods, pair, run, options, memory)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    return report(reported_rows(path, options.scale), options.pairs)


@dataclass
class Context:
    """What a method is told beside the data."""

    run: int
    scale: Scale
    lambda_clustering: float | None
    memory: str

    def kwargs(self, **more):
        """Parameters of every estimator of this run."""
        return {**self.scale.training(), "random_state": self.run, **more}

    def adapter_kwargs(self, **more):
        """Parameters of every estimator with an autoencoder and a clustering term: no views."""
        given = self.kwargs(memory=self.memory, tol=0.0, augmentation=None)
        if self.lambda_clustering is not None:
            given["lambda_clustering"] = self.lambda_clustering
        return {**given, **more}


def _run_pair(path, methods, pair, run, options, memory):
    """Run the methods that lack a row for a pair and a run; write each row when it ends."""
    task = None
    for name in options.methods:
        method = methods[name]
        chosen = choose_lambda(method.selection, pair, options, memory)
        settings = options.scale.settings(lambda_clustering=chosen)
        missing = _missing_rows(path, (name, pair, str(run), settings), method.n_shots)
        if not missing:
            continue
        if task is None:
            task = _load(pair, run, options)
        context = Context(run, options.scale, chosen, memory)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for row in method.rows(task, context, missing):
                seconds = time.perf_counter() - start
                append_row(
                    path,
                    {
                        "method": name,
                        "pair": pair,
                        "run": run,
                        **row,
                        "seconds": round(seconds, 1),
                        "n_source": len(task.X_src),
                        "n_target": len(task.X_tgt),
                        "n_test": len(task.X_test),
                        "settings": settings,
                        **environment(),
                    },
                )
                accuracy = 100 * row["accuracy"]
                print(f"{pair:14} run {run} {name:34} {accuracy:5.1f} {seconds:6.1f} s", flush=True)
                start = time.perf_counter()


def _missing_rows(path, key, n_shots):
    """Those of `n_shots` of which a method has no row yet."""
    done = {
        row.get("n_shots", "")
        for row in read_rows(path)
        if (row["method"], row["pair"], row["run"], row["settings"]) == key
    }
    return [n for n in n_shots if str(n) not in done]


def _load(pair, run, options):
    return load_task(
        pair,
        options.data,
        n_pixels=options.scale.n_pixels,
        n_rows=options.scale.n_rows,
        run=run,
        download=options.download,
    )


def choose_lambda(selection, pair, options, memory):
    """Value of the grid with the best label-free score on a run that is not reported.

    The score is the estimator's agreement of clusters with neighbourhoods of the inputs, on the
    target rows of the training split; no label of the target is used.
    """
    if selection is None:
        return None
    name, method = selection
    scale = options.scale
    if len(scale.grid) == 1:
        return scale.grid[0]
    settings, task = scale.settings(), None
    known = {
        float(row["lambda_clustering"]): float(row["score"])
        for row in read_rows(options.selection)
        if (row["method"], row["pair"], row["settings"]) == (name, pair, settings)
    }
    for value in scale.grid:
        if value in known:
            continue
        if task is None:
            task = _load(pair, SELECTION_RUN, options)
        context = Context(SELECTION_RUN, scale, value, memory)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            known[value] = method.label_free_score(task, context)
        row = {
            "method": name,
            "pair": pair,
            "lambda_clustering": value,
            "score": round(known[value], 5),
            "seconds": round(time.perf_counter() - start, 1),
            "settings": settings,
            **environment(),
        }
        append_row(options.selection, row)
        print(f"{pair:14} select {name:32} {value:5} {known[value]:.4f}", flush=True)
    return max(scale.grid, key=lambda value: round(known[value], 5))


def clustering_row(y_true, y_pred, accuracy):
    """Scores of a row."""
    return {
        "accuracy": round(float(accuracy), 5),
        "nmi": round(float(normalized_mutual_info_score(y_true, y_pred)), 5),
        "ari": round(float(adjusted_rand_score(y_true, y_pred)), 5),
    }


def reported_rows(path, scale):
    """Rows of a scale as it is now; of a run that was made twice, the later."""
    wanted = json.loads(scale.settings())
    rows = {}
    for row in read_rows(path):
        settings = json.loads(row["settings"])
        settings.pop("lambda_clustering", None)
        if settings == wanted:
            rows[row["method"], row["pair"], row["run"], row.get("n_shots")] = row
    return list(rows.values())


def summarize(rows, measure="accuracy"):
    """Mean, standard deviation, standard error (in percent) and number of rows."""
    values = 100 * np.array([float(row[measure]) for row in rows])
    sd = values.std(ddof=1) if len(values) > 1 else 0.0
    return values.mean(), sd, sd / np.sqrt(len(values)), len(values)


def pair_title(pair, rows):
    """Heading of a pair: its name and how large the data are."""
    first = rows[0]
    scale = json.loads(first["settings"])
    n_pixels = BUNDLED_PIXELS if pair == "bundled" else scale["n_pixels"]
    return (
        f"{PAIRS[pair][0]}: {first['n_source']} source and {first['n_target']} target images, "
        f"{first['n_test']} test images, {n_pixels} pixels a side, "
        f"{scale['pretrain_epochs']} + {scale['max_epochs']} epochs"
    )
