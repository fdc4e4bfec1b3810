"""
Digits of one domain, grouped with what other digits of another domain teach
============================================================================

The digits 0 to 4 of one domain are labelled; the digits 5 to 9 of another domain are not, and no
class is shared. Four ways to group the second domain are compared, from k-means on the pixels to
:class:`~sklearn_ckm.CKMDomainAdapter`, which alone uses the first domain. The labels of the target
serve the report only: its scores, and the names, colours and frames in the pictures.

Without arguments the data are those of :func:`~sklearn_ckm.datasets.load_digits_on_photos`, which
come with scikit-learn: about 900 rows of 8x8 pixels a domain. With ``--data FOLDER`` the source is
USPS and the target a random part of MNIST, from files in that folder
(:func:`~sklearn_ckm.datasets.load_usps` and :func:`~sklearn_ckm.datasets.load_mnist` say which);
the epochs are fewer there, so that it ends within ten minutes.

One seed serves everything, each method runs once, and all have the same settings. A single run
shows what comes out, not which method is better: try other values of ``--seed`` before believing a
difference. Another kind of processor rounds sums differently, and the scores differ too.
"""

# License: BSD-3-Clause
# sphinx_gallery_thumbnail_path = "images/demo_clusters.png"

import argparse
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from threadpoolctl import threadpool_limits

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.datasets import load_digits_on_photos, load_mnist, load_usps
from sklearn_ckm.inspection import ClusterSheetDisplay, EmbeddingDisplay, TrainingCurveDisplay
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.preprocessing import ImageFormatter

SOURCE_DIGITS = (0, 1, 2, 3, 4)
TARGET_DIGITS = (5, 6, 7, 8, 9)
N_CLUSTERS = len(TARGET_DIGITS)
N_MNIST_ROWS = 4000
# (pretrain_epochs, max_epochs); those of the embedded data are the defaults of the estimators
EPOCHS = {"embedded": (50, 100), "files": (20, 40), "quick": (8, 3)}
KMEANS_STARTS = 20  # as many as the estimators take for their first centres

N_PLOTTED_ROWS = 1000
N_EXAMPLES = 16


@dataclass
class Task:
    """A labelled source, a target, and the digits of the target for the report."""

    X_src: np.ndarray
    y_src: np.ndarray
    X_tgt: np.ndarray
    y_tgt: np.ndarray
    source_name: str
    target_name: str


def main(argv=None):
    """Run the four methods, print the table and write the pictures."""
    parser = make_parser()
    options = parser.parse_args(argv)
    try:
        task = load_task(options.data, options.seed)
        check_writable(options.output)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        parser.error(str(error))  # exits with code 2
    limit_threads()
    data_kind = "embedded" if options.data is None else "files"
    pretrain_epochs, max_epochs = EPOCHS["quick" if options.quick else data_kind]
    print_settings(task, options.seed, pretrain_epochs, max_epochs)
    model = compare_methods(task, make_methods(options.seed, pretrain_epochs, max_epochs))
    figures = {
        "training_curves.png": TrainingCurveDisplay.from_estimator(model).figure_,
        "embedding.png": draw_embedding(model, task),
        "clusters.png": draw_clusters(model, task, options.seed),
    }
    save_figures(figures, options.output)


def make_parser():
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(description="Cluster the digits of an unlabelled domain.")
    parser.add_argument("--data", metavar="FOLDER", help="USPS and MNIST files; none needed")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, default="demo_output", help="default: %(default)s"
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="few epochs: shows that it runs")
    return parser


def parse_seed(text):
    """Convert the text to an integer that numpy takes as a seed."""
    if not (text.isdecimal() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(
            f"expected an integer from 0 to 4294967295, got {text!r}; pass for example 1"
        )
    return int(text)


def limit_threads():
    """Compute in one thread: scores then hang on no number of cores, and small batches lose little.

    More threads wait for each other at every layer, which takes long where other programs run too.
    """
    torch.set_num_threads(1)
    threadpool_limits(1)


def load_task(folder, seed):
    """Load the embedded domains, or USPS and MNIST from a folder."""
    if folder is not None:
        return load_usps_to_mnist(folder, seed)
    data = load_digits_on_photos(
        source_classes=SOURCE_DIGITS, target_classes=TARGET_DIGITS, random_state=seed
    )
    names = "digits on photos", "plain digits"
    return Task(data.X_src, data.y_src, data.X_tgt, data.y_tgt, *names)


def load_usps_to_mnist(folder, seed):
    """Load all USPS rows and a random part of the MNIST rows, as grey images of 16x16 pixels."""
    X_src, y_src = load_usps(folder, classes=SOURCE_DIGITS)
    X_tgt, y_tgt = load_mnist(folder, classes=TARGET_DIGITS)
    rows = np.random.default_rng(seed).choice(len(X_tgt), N_MNIST_ROWS, replace=False)
    formatter = ImageFormatter((1, 16, 16))
    X_src, X_tgt = formatter.transform(X_src), formatter.transform(X_tgt[rows])
    return Task(X_src, y_src, X_tgt, y_tgt[rows], "USPS", "a random part of MNIST")


def check_writable(folder):
    """Make the folder and raise OSError now, not after the training, if it takes no files."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def make_methods(seed, pretrain_epochs, max_epochs):
    """Return name and unfitted estimator of each row of the table."""
    settings = {"pretrain_epochs": pretrain_epochs, "random_state": seed}
    return {
        "k-means on the pixels": KMeans(N_CLUSTERS, n_init=KMEANS_STARTS, random_state=seed),
        "autoencoder + k-means": ConcreteKMeans(N_CLUSTERS, max_epochs=0, **settings),
        "ConcreteKMeans": ConcreteKMeans(N_CLUSTERS, max_epochs=max_epochs, **settings),
        "CKMDomainAdapter": CKMDomainAdapter(N_CLUSTERS, max_epochs=max_epochs, **settings),
    }


def compare_methods(task, methods):
    """Fit each method, print its row of the table, and return the last one."""
    print(f"\n{'':24}{'accuracy':>9}{'NMI':>8}{'ARI':>8}{'seconds':>9}")
    for name, model in methods.items():
        start = time.perf_counter()
        fit_to_target(model, task)
        seconds = time.perf_counter() - start
        accuracy = clustering_accuracy(task.y_tgt, model.labels_)
        nmi = normalized_mutual_info_score(task.y_tgt, model.labels_)
        ari = adjusted_rand_score(task.y_tgt, model.labels_)
        print(f"{name:24}{accuracy:9.3f}{nmi:8.3f}{ari:8.3f}{seconds:9.1f}", flush=True)
    return model


def fit_to_target(model, task):
    """Cluster the target; the adapter is given the source as well."""
    if isinstance(model, CKMDomainAdapter):
        return model.fit(task.X_src, task.y_src, X_tgt=task.X_tgt)
    if isinstance(model, KMeans):
        return model.fit(task.X_tgt.reshape(len(task.X_tgt), -1))
    return model.fit(task.X_tgt)


def print_settings(task, seed, pretrain_epochs, max_epochs):
    """Print what the data are, and a line of the settings of all methods."""
    size = "x".join(map(str, task.X_tgt.shape[1:]))
    print(f"Source: {task.source_name}, {len(task.X_src)} rows, digits 0-4, labelled, {size}")
    print(f"Target: {task.target_name}, {len(task.X_tgt)} rows, digits 5-9, labels not used")
    print(
        f"Settings: seed {seed}, one thread, {N_CLUSTERS} clusters, "
        f"pretrain_epochs={pretrain_epochs}, max_epochs={max_epochs}, else defaults; one run each",
        flush=True,
    )


def draw_embedding(model, task):
    """Both domains in two dimensions: the target by cluster, then by its true digits."""
    figure = Figure(figsize=(15, 6), layout="constrained")
    figure.suptitle("CKMDomainAdapter: the target by cluster, and by true digit")
    for axes, y in zip(figure.subplots(1, 2), (None, task.y_tgt), strict=True):
        EmbeddingDisplay.from_estimator(
            model,
            task.X_tgt,
            y,
            X_src=task.X_src,
            y_src=task.y_src,
            method="pca",
            max_samples=N_PLOTTED_ROWS,
            ax=axes,
        )
    return figure


def draw_clusters(model, task, seed):
    """Random rows of each cluster; other digits than the usual one framed."""
    display = ClusterSheetDisplay.from_estimator(
        model, task.X_tgt, task.y_tgt, n_images=N_EXAMPLES, order="random", random_state=seed
    )
    return display.figure_


def save_figures(figures, folder):
    """Write the pictures and print where they are."""
    print(f"\nPictures in {folder.resolve()}:")
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=130)
        print(f"  {name}")


if __name__ == "__main__":
    main()
