"""How do time and memory of a fit grow with the number of rows?

One fit a size, each in a process of its own: one epoch of pretraining and two of fine-tuning on
random float32 rows of 64 features, one thread. Peak memory is that of the whole process; what the
interpreter and its imports take is measured before the data are made.

    python benchmarks/bench_scaling.py [--sizes 10000 100000 1000000]
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from _common import RESULTS, append_row, environment

from sklearn_ckm import ConcreteKMeans

N_FEATURES = 64
ALLOWANCE_MB = 1500  # above the data


def peak_mb():
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n_samples):
    """Fit once and describe it."""
    torch.set_num_threads(1)
    imports_mb = peak_mb()
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(5, N_FEATURES)).astype(np.float32) * 3
    X = rng.standard_normal((n_samples, N_FEATURES), dtype=np.float32)
    for start in range(0, n_samples, 10_000):
        X[start : start + 10_000] += centers[rng.integers(5, size=len(X[start : start + 10_000]))]
    data_mb = X.nbytes / 2**20
    start = time.perf_counter()
    kwargs = {"augmentation": None, "pretrain_epochs": 1, "max_epochs": 2, "tol": 0}
    model = ConcreteKMeans(5, **kwargs, random_state=0).fit(X)
    fit_seconds = time.perf_counter() - start
    start = time.perf_counter()
    model.predict(X)
    return {
        "n_samples": n_samples,
        "n_features": N_FEATURES,
        "fit_seconds": round(fit_seconds, 2),
        "fit_microseconds_per_row": round(1e6 * fit_seconds / n_samples, 2),
        "predict_seconds": round(time.perf_counter() - start, 2),
        "data_mb": round(data_mb),
        "imports_mb": round(imports_mb),
        "peak_mb": round(peak_mb()),
        "peak_minus_data_mb": round(peak_mb() - data_mb),
        "allowed_minus_data_mb": ALLOWANCE_MB,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", type=int, help="measure this size in this process, print JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        sys.exit()
    for size in arguments.sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)
        append_row(RESULTS / "scaling.csv", {**row, **environment()})
        print(row, flush=True)
