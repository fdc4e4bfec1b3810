"""Which form and which gradient should concrete k-means have by default?

Every arm trains the same pretrained autoencoders with another objective, over seeds, on three
development data sets that no reported table uses: the bundled digits with the roles of the classes
swapped (source 5-9 on photos, target 0-4); points of five clusters in ten dimensions seen through a
random tanh layer of 40 units; and five round groups in four dimensions, two of them four standard
deviations apart. The last two are clustered alone. Arms have unit noise unless they say
otherwise. Accuracy is by optimal matching at the last epoch; "collapsed" counts the runs that ended
with a warning about their centres. Finished rows are kept: an interrupted run resumes.

    python benchmarks/ablation_objective.py [--seeds 5]
"""

import argparse
import tempfile
import time
import warnings

import numpy as np
import torch
from _common import RESULTS, append_row, environment, read_rows
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import normalized_mutual_info_score

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.datasets import load_digits_on_photos
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.objectives import ConcreteKMeansObjective

TABLE = RESULTS / "ablation_objective.csv"
AUTO, LITERAL = "auto", 1.0
ARMS = {
    "A gumbel tau=1, literal logits": (dict(form="A", estimator="gumbel"), LITERAL),
    "A gumbel tau=1": (dict(form="A", estimator="gumbel"), AUTO),
    "A gumbel tau 1 to 0.1": (dict(form="A", estimator="gumbel", relaxation=(1.0, 0.1)), AUTO),
    "B gumbel tau=0.5": (dict(form="B", estimator="gumbel", relaxation=0.5), AUTO),
    "A reinmax": (dict(form="A", estimator="reinmax"), AUTO),
    "B reinmax": (dict(form="B", estimator="reinmax"), AUTO),
    "B reinmax, noise 1 to 0": (dict(form="B", estimator="reinmax", noise=(1.0, 0.0)), AUTO),
    "B reinmax, noise 0.5 to 0": (dict(form="B", estimator="reinmax", noise=(0.5, 0.0)), AUTO),
    "B reinmax, noise 0": (dict(form="B", estimator="reinmax", noise=0.0), AUTO),
    "B straight-through": (dict(form="B", estimator="straight-through"), AUTO),
    "soft (no sampling)": (dict(form="B", estimator="soft"), AUTO),
    "detached, noise 0 (k-means)": (dict(estimator="detached", noise=0.0), AUTO),
    "no clustering term": (None, AUTO),
}


def digits(seed, **kwargs):
    """Fit of the adapter on the digits; returns it with the target's truth."""
    data = load_digits_on_photos(
        source_classes=(5, 6, 7, 8, 9), target_classes=(0, 1, 2, 3, 4), random_state=0
    )
    model = CKMDomainAdapter(5, augmentation=None, random_state=seed, **kwargs)
    return model.fit(data.X_src, data.y_src, X_tgt=data.X_tgt), data.y_tgt


def planted(seed, **kwargs):
    """Fit of the clustering on planted points; returns it with the truth."""
    rng = np.random.default_rng(1000 + seed)
    y = rng.integers(5, size=2000)
    latent = rng.normal(size=(5, 10))[y] * 1.5 + rng.normal(size=(2000, 10))
    X = np.tanh(latent @ rng.normal(size=(10, 40)) / 3)
    return ConcreteKMeans(5, augmentation=None, random_state=seed, **kwargs).fit(X), y


def close_pair(seed, **kwargs):
    """Fit on five groups in four dimensions, two of them close; returns it with the truth."""
    rng = np.random.default_rng(2000 + seed)
    centers = rng.uniform(-10, 10, size=(5, 4))
    direction = rng.normal(size=4)
    centers[1] = centers[0] + 4 * direction / np.linalg.norm(direction)
    y = rng.integers(5, size=1000)
    return ConcreteKMeans(5, augmentation=None, random_state=seed, **kwargs).fit(
        centers[y] + rng.normal(size=(1000, 4))
    ), y


DATA = {"digits 5-9 on photos to 0-4": digits, "planted tanh": planted, "a close pair": close_pair}


def run(data, arm, seed, memory):
    """Fit one arm and return its row."""
    settings, temperature = ARMS[arm]
    kwargs = {"temperature": temperature, "tol": 0, "memory": memory}
    if settings is None:
        kwargs["lambda_clustering"] = 0.0
    else:
        kwargs["objective"] = ConcreteKMeansObjective(**{"noise": 1.0, **settings})
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model, y = DATA[data](seed, **kwargs)
    last = model.history_[-1]
    return {
        "data": data,
        "arm": arm,
        "seed": seed,
        "accuracy": round(clustering_accuracy(y, model.labels_), 4),
        "nmi": round(normalized_mutual_info_score(y, model.labels_), 4),
        "min_cluster_fraction": round(last["min_cluster_fraction"], 4),
        "collapsed": int(model.stop_reason_ == "collapsed"),
        "seconds": round(time.perf_counter() - start, 1),
        **environment(),
    }


def summary(rows):
    """Print mean and standard deviation over the seeds."""
    for data in DATA:
        print(f"\n{data}\n{'arm':32} {'accuracy':>14} {'NMI':>6} {'collapsed':>10}")
        for arm in ARMS:
            mine = [row for row in rows if row["data"] == data and row["arm"] == arm]
            if mine:
                accuracy = 100 * np.array([float(row["accuracy"]) for row in mine])
                nmi = np.mean([float(row["nmi"]) for row in mine])
                collapsed = sum(int(row["collapsed"]) for row in mine)
                spread = accuracy.std(ddof=1) if len(mine) > 1 else 0.0
                print(
                    f"{arm:32} {accuracy.mean():7.1f} ± {spread:4.1f} {nmi:6.3f} "
                    f"{collapsed:6d} of {len(mine)}"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    done = {(row["data"], row["arm"], int(row["seed"])) for row in read_rows(TABLE)}
    with tempfile.TemporaryDirectory() as memory:
        for seed in range(arguments.seeds):
            for data in DATA:
                for arm in ARMS:
                    if (data, arm, seed) not in done:
                        append_row(TABLE, run(data, arm, seed, memory))
    summary(read_rows(TABLE))
