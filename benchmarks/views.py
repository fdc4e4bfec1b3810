"""What views give: accuracy of the defaults, what each part is worth, what the source gives.

A few questions, one CSV. ``accuracy``: the defaults on every pair, without labels and with two a
class, on up to 10,000 images of either domain, and on 500 of the target. ``ablation``: one part
changed at a time, on 2,000 and on 1,000 images of either domain. ``source``: the target alone
against the target with the source, for targets of several sizes. ``misuse``: targets and settings
that the method does not expect. ``of the target``: all of this with networks that reconstruct, and
nothing asked of the source's clusters; ``one network``: of these starts, those in the network of
both domains alone; ``one start``: with k-means in it as the only start. ``source classes``: a
network that learns the source's classes first, on a pair with photos behind both domains and on one
without. Classes and test splits are those of table1.py (but in ``misuse``); a run draws its rows
anew and seeds everything. Accuracy is that of the last epoch, never of the best one. Rows are
written as they end: an interrupted script resumes.

    python benchmarks/views.py --data FOLDER [--parts ablation] [--pairs usps-mnist] [--runs 0 1]
"""

import argparse
import json
import os
import time
import warnings
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import RESULTS, append_row, environment, read_rows
from _digit_pairs import N_CLUSTERS, PAIRS, SOURCE, TARGET, load_task
from _tables import clustering_row, summarize
from scipy.optimize import linear_sum_assignment
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.metrics.cluster import contingency_matrix
from skorch.callbacks import Callback
from threadpoolctl import threadpool_limits

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm._training._inference import distances_in_blocks, embed
from sklearn_ckm.datasets import keep_few_labels
from sklearn_ckm.metrics import clustering_accuracy

N_PIXELS = 16
PHASES = "pretrain_epochs", "max_epochs"
EPOCHS = {name: ConcreteKMeans().get_params()[name] for name in PHASES}
SETTINGS = json.dumps({"n_pixels": N_PIXELS, **EPOCHS}, sort_keys=True)
MILESTONES = 0.95, 0.98  # accuracies whose first epoch is noted
SCORES = "consistency", "balance", "source_consistency", "source_balance"  # need no target label
N_BINS = 15  # of the calibration error
SMALL, N_SOURCE_OF_SMALL = 1000, 2000  # targets below have a source of that many rows


@dataclass(frozen=True)
class Arm:
    """One way to fit."""

    params: dict[str, Any] = field(default_factory=dict)
    has_source: bool = True
    n_shots: int = 0
    n_clusters: int = N_CLUSTERS
    classes: tuple = TARGET
    ratio: float = 1.0  # of the largest to the smallest class of the target

    @property
    def has_rivals(self):
        """Whether starts compete in it: with views, and centres that are not class means."""
        given = {"init", "source_in_pretraining", "augmentation"} & set(self.params)
        return not given and not self.n_shots

    def less(self, params):
        """Another one, with such of these parameters as there are for it."""
        if not self.has_source:
            params = {"init": params["init"]}
        return replace(self, params={**self.params, **params})

    def key(self):
        """Text of what makes it another arm."""
        plain = vars(Arm())
        always = ("params", "has_source", "n_shots")
        changed = {k: v for k, v in vars(self).items() if k in always or v != plain[k]}
        return json.dumps(changed, sort_keys=True)


DEFAULT = Arm()
OF_TARGET = {"lambda_source": 0.0, "pretraining": "reconstruction"}
SHORT_STARTS = {"n_init": 3, "pretrain_epochs": 20, "max_epochs": 40}  # about as long
PARTS = {
    "accuracy": {
        "defaults": DEFAULT,
        "three starts": Arm({"n_init": 3}),
        "three starts of 20 + 40 epochs": Arm(SHORT_STARTS),
        "defaults, 2 labels a class": Arm(n_shots=2),
    },
    "ablation": {
        "defaults": DEFAULT,
        "no views": Arm({"augmentation": None}),
        "no consistency": Arm({"lambda_consistency": 0.0}),
        "no balance": Arm({"lambda_balance": 0.0}),
        "no clustering term": Arm({"lambda_clustering": 0.0}),
        "lambda_source=0": Arm({"lambda_source": 0.0}),
        'pretraining="reconstruction"': Arm({"pretraining": "reconstruction"}),
        "source_in_pretraining=True": Arm({"source_in_pretraining": True}),
        "the same, lambda_source=1": Arm({"lambda_source": 1.0, "source_in_pretraining": True}),
        "lambda_source=0, reconstruction": Arm(OF_TARGET),
        "no source labels": Arm({**OF_TARGET, "lambda_classification": 0.0}),
        "no source": Arm(has_source=False),
        "no pretraining": Arm({"pretrain_epochs": 0}),
        "lambda_source=0, one network": Arm({**OF_TARGET, "source_in_pretraining": True}),
        "lambda_source=0, one start": Arm({**OF_TARGET, "init": "k-means"}),
        "code of 64": Arm({"n_components": 64}),
    },
    "source": {
        "with the source": DEFAULT,
        "target alone": Arm(has_source=False),
        "with the source, code of 64": Arm({"n_components": 64}),
        "target alone, code of 64": Arm({"n_components": 64}, has_source=False),
    },
    "misuse": {
        "as it is meant": DEFAULT,
        "three clusters": Arm(n_clusters=3),
        "eight clusters": Arm(n_clusters=8),
        "classes of 10 : 1": Arm(ratio=10.0),
        "classes of 10 : 1, lambda_balance 5": Arm({"lambda_balance": 5.0}, ratio=10.0),
        "lambda_balance 5": Arm({"lambda_balance": 5.0}),
        "one class": Arm(classes=(5,)),
        "target classes 3-7, two of the source": Arm(classes=(3, 4, 5, 6, 7)),
    },
}
SOURCE_CLASSES = {
    "defaults": DEFAULT,
    "lambda_source=0, reconstruction": Arm(OF_TARGET),
    "target alone": Arm(has_source=False),
    'pretraining="classification"': Arm({"pretraining": "classification"}),
    "classification, lambda_source=1": Arm({"lambda_source": 1.0, "pretraining": "classification"}),
}
LESS = {
    "of the target": OF_TARGET,
    "one network": {**OF_TARGET, "source_in_pretraining": True},
    "one start": {**OF_TARGET, "init": "k-means"},
}
_first = {}  # parts share arms
for _arms in PARTS.values():
    for _name, _arm in _arms.items():
        _first.setdefault(_arm.key(), (_name, _arm))
for _part, _params in LESS.items():
    _less = {}  # some are the same with less
    for _name, _arm in _first.values():
        if not (_arm.has_rivals or (_part == "of the target" and _arm.n_shots)):
            continue
        if _arm.has_source or _part == "one start":
            _as_named = _name.replace("defaults", "all else as it is by default")
            _less.setdefault(_arm.less(_params).key(), (_as_named, _arm.less(_params)))
    PARTS[_part] = dict(_less.values())
PARTS["source classes"] = SOURCE_CLASSES
SIZES = {
    "accuracy": (10_000, 2000, 500),
    "ablation": (2000, 1000),
    "of the target": (10_000, 2000, 1000, 500, 200),
    "one network": (10_000, 2000, 1000, 500, 200),
    "one start": (10_000, 2000, 1000, 500, 200),
    "source": (200, 500, 2000, 10_000),
    "misuse": (2000,),
    "source classes": (2000, 1000),
}


class TestAccuracy(Callback):
    """Notes the accuracy on the test split after every epoch; nothing is chosen by it."""

    def __init__(self, X_test, y_test):
        self.X_test = X_test
        self.y_test = y_test

    def on_epoch_end(self, net, **kwargs):
        if net.phase == "finetune":
            model = net.module_
            z = embed(model, self.X_test, net.device)
            labels = distances_in_blocks(z, model.centers.positions.detach()).argmin(1)
            accuracy = clustering_accuracy(self.y_test, labels.cpu().numpy())
            net.history.record("test_accuracy", float(accuracy))


def main():
    """Run what is missing, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKLEARN_CKM_DATA") or None)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--pairs", nargs="+", choices=PAIRS, default=["usps-mnist", "mnist-usps", "photos-mnist"]
    )
    parser.add_argument("--arms", nargs="+", help="default: all of the part")
    parser.add_argument("--sizes", nargs="+", type=int, help="target rows; default: by the part")
    parser.add_argument("--runs", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--results", type=Path, default=RESULTS / "views.csv")
    parser.add_argument("--report", action="store_true", help="print the tables and end")
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    if not options.report:
        if options.data is None and options.pairs != ["bundled"]:
            parser.error("pass --data FOLDER with the digit files, or set SKLEARN_CKM_DATA")
        for run in options.runs:
            for part in options.parts:
                for pair in options.pairs:
                    for size in options.sizes or SIZES[part]:
                        run_arms(options, part, pair, size, run)
    report(reported_rows(read_rows(options.results)), options.parts)


def run_arms(options, part, pair, size, run):
    """Write a row for each arm that has none; arms that do the same share a row."""
    tasks = {}
    for name, arm in PARTS[part].items():
        if options.arms and name not in options.arms:
            continue
        if pair == "bundled" and set(arm.classes) & set(SOURCE):
            continue  # there a digit belongs to one domain
        key = (pair, str(size), arm.key(), str(run), SETTINGS)
        columns = ("pair", "size", "arm", "run", "settings")
        if key in {tuple(row[c] for c in columns) for row in read_rows(options.results)}:
            continue
        target = arm.classes, arm.ratio
        if target not in tasks:
            tasks[target] = load_target_of(pair, options.data, size, run, *target)
        row = {**dict(zip(columns, key, strict=True)), **fit_and_score(tasks[target], arm, run)}
        append_row(options.results, {**row, **environment()})
        print(pair, size, f"run {run}", name, row["accuracy"], row["seconds"], "s", flush=True)


def load_target_of(pair, folder, size, run, classes, ratio):
    """A pair with at most `size` target rows, and as many of the source but where they are few."""
    task = load_task(
        pair, folder, n_pixels=N_PIXELS, n_rows=n_source_of(size), run=run, target=classes
    )
    if ratio > 1:
        task.X_tgt, task.y_tgt = thin_out(task.X_tgt, task.y_tgt, ratio, run)
        task.X_test, task.y_test = thin_out(task.X_test, task.y_test, ratio, run)
    if size < len(task.X_tgt):
        rows = np.random.default_rng(run).choice(len(task.X_tgt), size, replace=False)
        task.X_tgt, task.y_tgt = task.X_tgt[rows], task.y_tgt[rows]
    return task


def n_source_of(size):
    """Most rows of the source beside a target of that size."""
    return N_SOURCE_OF_SMALL if size < SMALL else size


def thin_out(X, y, ratio, run):
    """Rows of which the largest class has `ratio` times the smallest, in geometric steps."""
    classes, counts = np.unique(y, return_counts=True)
    rng = np.random.default_rng(run)
    sizes = (counts.min() * np.geomspace(1, 1 / ratio, len(classes))).astype(int)
    rows = [
        rng.choice(np.flatnonzero(y == c), size, replace=False)
        for c, size in zip(rng.permutation(classes), sizes, strict=True)
    ]
    rows = rng.permutation(np.concatenate(rows))
    return X[rows], y[rows]


def fit_and_score(task, arm, run):
    """Columns of a row that tell how a fit went."""
    watcher = TestAccuracy(torch.from_numpy(task.X_test), task.y_test)
    kwargs = {**EPOCHS, **arm.params, "random_state": run, "callbacks": [watcher]}
    source = {"y": task.y_src, "X_tgt": task.X_tgt}
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if not arm.has_source:
            n_more = n_steps(len(task.X_tgt), len(task.X_src)) / n_steps(len(task.X_tgt))
            for phase in PHASES:  # as many updates as with the source
                kwargs[phase] = round(kwargs[phase] * n_more)
            model = ConcreteKMeans(arm.n_clusters, **kwargs).fit(task.X_tgt)
        elif arm.n_shots:
            y_few = keep_few_labels(task.y_tgt, arm.n_shots, random_state=run)
            model = CKMSemiSupervisedAdapter(**kwargs).fit(task.X_src, **source, y_tgt=y_few)
        else:
            model = CKMDomainAdapter(arm.n_clusters, **kwargs).fit(task.X_src, **source)
    seconds = time.perf_counter() - start
    predicted = model.predict(task.X_test)
    measure = accuracy_score if arm.n_shots else clustering_accuracy
    tuned = [epoch for epoch in model.history_ if epoch["phase"] == "finetune"]
    row = clustering_row(task.y_test, predicted, measure(task.y_test, predicted))
    row["calibration_error"] = round(calibration_error(model, task), 5)
    for milestone in MILESTONES:
        # callbacks see nothing of the first epochs of another start that was the better one
        reached = [i for i, e in enumerate(tuned, 1) if e.get("test_accuracy", 0) >= milestone]
        row[f"epochs_to_{milestone:.0%}"] = reached[0] if reached else ""
    last = tuned[-1]
    row["smallest_share"] = round(last["min_cluster_fraction"], 4)
    for term in SCORES:
        row[term] = round(last[term], 4) if term in last else ""
    row["stop_reason"] = model.stop_reason_
    row["init"] = model.init_
    row["pretraining"] = getattr(model, "pretraining_", "")
    row["source_in_pretraining"] = getattr(model, "source_in_pretraining_", "")
    row["n_source"] = len(task.X_src) if arm.has_source else 0
    row["seconds"] = round(seconds, 1)
    return row


def n_steps(*sizes):
    """Updates of an epoch over domains of these sizes, at the default batch size."""
    batch_size = int(np.clip(max(sizes) // 64, 32, 256))
    return max(-(-n // min(batch_size, n)) for n in sizes)


def calibration_error(model, task):
    """Expected calibration error of the probabilities on the test split, clusters matched."""
    proba = model.predict_proba(task.X_test)
    choice, confidence = proba.argmax(1), proba.max(1)
    table = contingency_matrix(task.y_test, choice)
    rows, columns = linear_sum_assignment(-table)
    classes, clusters = np.unique(task.y_test), np.unique(choice)
    named = dict(zip(clusters[columns], classes[rows], strict=True))
    is_right = np.array([named.get(c) == y for c, y in zip(choice, task.y_test, strict=True)])
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [abs((is_right[bins == b] - confidence[bins == b]).sum()) for b in np.unique(bins)]
    return float(sum(gaps) / len(choice))


def best_of_starts(rows, n_starts=3):
    """Accuracy that several starts would give, with that many of them: mean over all choices.

    Of each choice of rows, which are fits of other draws and seeds, the one with the best of the
    scores by which an estimator chooses among starts counts. NaN where there are fewer rows than
    that, or they have no score.
    """
    scores = [sum(float(row[term] or 0) for term in SCORES) for row in rows if row["consistency"]]
    if len(rows) < n_starts or len(scores) < len(rows) or np.isnan(scores).any():
        return float("nan")
    choices = combinations(range(len(rows)), n_starts)
    chosen = [min(choice, key=scores.__getitem__) for choice in choices]
    return float(np.mean([100 * float(rows[i]["accuracy"]) for i in chosen]))


def reported_rows(rows):
    """Rows of the settings as they are now."""
    return [row for row in rows if row["settings"] == SETTINGS]


def report(rows, parts):
    """Print a table for each part and pair."""
    for part in parts:
        for size in SIZES[part]:
            for pair in PAIRS:
                lines = list(of_arms(rows, part, pair, size))
                if lines:
                    print(f"\n{part}: {PAIRS[pair][0]}, at most {size} target images")
                for name, mine in lines:
                    mean, sd, _, n = summarize(mine)
                    worst = min(100 * float(row["accuracy"]) for row in mine)
                    error = summarize(mine, "calibration_error")[0]
                    print(f"{name:34} {mean:5.1f} ± {sd:4.1f}, worst {worst:5.1f}", end="")
                    print(f", calibration error {error:4.1f}, {n} runs")


def of_arms(rows, part, pair, size):
    """Yield the arms of a part that have rows, with these."""
    for name, arm in PARTS[part].items():
        key = (pair, str(size), arm.key())
        mine = [row for row in rows if (row["pair"], row["size"], row["arm"]) == key]
        if mine:
            yield name, mine


if __name__ == "__main__":
    main()
