"""Does adaptation help on tables? Two instruments, and classes of the target that the source lacks.

Tables that come with scikit-learn, their rows divided between a source and a target: on digits by
class, on wine, which has three, the target has all and the source two, each row in one domain. The
target is read by another instrument: each feature has a gain and an offset of its own, noise, and
some features are dead. Both domains are standardised, each alone, which undoes gains and offsets up
to the difference of the classes; all methods see the same rows. A run draws instrument and seeds
anew. No label of the target is used, and no setting was chosen: every method has the defaults of
its estimator.

    python benchmarks/tabular.py [--tables wine] [--methods k-means] [--runs 0 1]
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _common import RESULTS, append_row, environment, read_rows
from _tables import clustering_row, summarize
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.domain_adaptation import DomainAdversarialClusterer
from sklearn_ckm.metrics import clustering_accuracy

GAIN, OFFSET, NOISE = 0.3, 0.3, 0.1  # of the log gain; in standard deviations of a feature


@dataclass(frozen=True)
class Table:
    """Which rows are the source's and which the target's, and how many features are dead."""

    title: str
    load: callable
    source: tuple
    target: tuple
    dead: float = 0.0


TABLES = {
    "digits": Table("digits 0-4 → 5-9, 64 sensors", load_digits, (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)),
    "digits-dead": Table(
        "odd digits → even ones, 64 sensors, 3 in 10 dead",
        load_digits,
        (1, 3, 5, 7, 9),
        (0, 2, 4, 6, 8),
        dead=0.3,
    ),
    "wine": Table(
        "wine of two cultivars → of these and a third, 13 measurements, 1 in 10 dead",
        load_wine,
        (0, 1),
        (0, 1, 2),
        dead=0.1,
    ),
}


def kmeans(data, n_clusters, run):
    """k-means on the target's features."""
    return KMeans(n_clusters, n_init=20, random_state=run).fit(data[2])


def alone(**params):
    """A deep clustering of the target alone."""

    def fit(data, n_clusters, run):
        return ConcreteKMeans(n_clusters, random_state=run, **params).fit(data[2])

    return fit


def with_source(estimator=CKMDomainAdapter, **params):
    """A clustering of the target with all that the source gives."""

    def fit(data, n_clusters, run):
        X_src, y_src, X_tgt = data
        return estimator(n_clusters, random_state=run, **params).fit(X_src, y_src, X_tgt=X_tgt)

    return fit


METHODS = {
    "k-means": kmeans,
    "k-means on features of a source classifier": with_source(
        DomainAdversarialClusterer, max_epochs=0
    ),
    "k-means in the autoencoder of the target": alone(max_epochs=0),
    "k-means in the autoencoder of both domains": with_source(max_epochs=0),
    "DEC, without views": alone(objective="dec", augmentation=None),
    "CKM, target alone, without views": alone(augmentation=None),
    "CKM-UDA, without views": with_source(augmentation=None),
    "ConcreteKMeans, one start": alone(init="k-means"),
    "CKMDomainAdapter, one start": with_source(init="k-means", lambda_source=0.0),
    "CKMDomainAdapter, one network": with_source(source_in_pretraining=True, lambda_source=0.0),
    "CKMDomainAdapter, lambda_source=0": with_source(lambda_source=0.0),
    "ConcreteKMeans, defaults": alone(),
    "CKMDomainAdapter, defaults": with_source(),
}


def main():
    """Run what is missing, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--runs", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--results", type=Path, default=RESULTS / "tabular.csv")
    parser.add_argument("--report", action="store_true", help="print the tables and end")
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    if not options.report:
        for run in options.runs:
            for name in options.tables:
                run_methods(options, name, run)
    report(read_rows(options.results))


def run_methods(options, name, run):
    """Write a row for each method that has none."""
    table = TABLES[name]
    columns = ("table", "method", "run")
    done = {tuple(row[c] for c in columns) for row in read_rows(options.results)}
    *data, y_tgt = draw(table, run)
    for method in options.methods:
        key = (name, method, str(run))
        if key in done:
            continue
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            labels = METHODS[method](data, len(table.target), run).labels_
        row = dict(zip(columns, key, strict=True))
        row.update(clustering_row(y_tgt, labels, clustering_accuracy(y_tgt, labels)))
        row["seconds"] = round(time.perf_counter() - start, 1)
        append_row(options.results, {**row, **environment()})
        print(*key, row["accuracy"], row["seconds"], "s", flush=True)


def draw(table, run):
    """Source and target of a run, standardised, and the target's labels.

    Where a class is in both domains, half of its rows are in each.
    """
    rng = np.random.default_rng(run)
    X, y = table.load(return_X_y=True)
    in_source, in_target = np.isin(y, table.source), np.isin(y, table.target)
    is_half = rng.random(len(y)) < 0.5
    in_source &= ~in_target | is_half
    in_target &= ~in_source
    X_tgt = other_instrument(X[in_target], table.dead, rng)
    X_src, X_tgt = (StandardScaler().fit_transform(rows) for rows in (X[in_source], X_tgt))
    return X_src, y[in_source], X_tgt, y[in_target]


def other_instrument(X, dead, rng):
    """What an instrument of other gains and offsets reads, with noise and dead features."""
    n_features = X.shape[1]
    spread = X.std(axis=0)
    gain = rng.lognormal(0.0, GAIN, n_features)
    read = X * gain + rng.normal(0.0, OFFSET, n_features) * spread
    read += rng.normal(0.0, NOISE, X.shape) * spread
    read[:, rng.permutation(n_features)[: round(dead * n_features)]] = 0.0
    return read


def summarize_tables(rows):
    """Rows of each method, by table, of those that have some."""
    found = {}
    for row in rows:
        found.setdefault(row["table"], {}).setdefault(row["method"], []).append(row)
    return {
        name: {method: found[name][method] for method in METHODS if method in found[name]}
        for name in TABLES
        if name in found
    }


def report(rows):
    """Print a table of each data set."""
    for name, by_method in summarize_tables(rows).items():
        print(f"\n{TABLES[name].title}")
        for method, mine in by_method.items():
            mean, sd, _, n = summarize(mine)
            worst = min(100 * float(row["accuracy"]) for row in mine)
            print(f"{method:44} {mean:5.1f} ± {sd:4.1f}, worst {worst:5.1f}, {n} runs")


if __name__ == "__main__":
    main()
