"""
Digits of one domain, grouped with what other digits of another domain teach
============================================================================

The digits 0 to 4 of one domain are labelled; the digits 5 to 9 of another domain are not, and no
class is shared. Four ways to group the second domain are compared, from k-means on the pixels to
:class:`~sklearn_ckm.CKMDomainAdapter`, which alone uses the first domain. The labels of the target
serve the report only: its scores, and the names and colours in the pictures.

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
from matplotlib.lines import Line2D
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from threadpoolctl import threadpool_limits

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.datasets import load_digits_on_photos, load_mnist, load_usps
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.preprocessing import ImageFormatter

SOURCE_DIGITS = (0, 1, 2, 3, 4)
TARGET_DIGITS = (5, 6, 7, 8, 9)
N_CLUSTERS = len(TARGET_DIGITS)
N_MNIST_ROWS = 4000
# (pretrain_epochs, max_epochs); those of the embedded data are the defaults of the estimators
EPOCHS = {"embedded": (50, 100), "files": (20, 40), "quick": (8, 3)}
KMEANS_STARTS = 20  # as many as the estimators take for their first centres

# Okabe and Ito's colours, which stay apart under the common kinds of colour blindness.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
SOURCE_COLOR = "#8C8C8C"
MARKERS = "os^Dv"
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
    rng = np.random.default_rng(options.seed)
    figures = {
        "training_curves.png": draw_training_curves(model),
        "embedding.png": draw_embedding(model, task, rng),
        "clusters.png": draw_clusters(model.labels_, task, rng),
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


def draw_training_curves(model):
    """Loss terms and monitors of each epoch, the two phases marked."""
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    terms_axes, monitor_axes = figure.subplots(2, 1, sharex=True)
    terms = {
        "loss": "loss (weighted sum)",
        "reconstruction": "reconstruction (weight 1)",
        "clustering": f"clustering (weight {model.lambda_clustering:g})",
        "classification": f"classification (weight {model.lambda_classification:g})",
    }
    monitors = {
        "mean_max_probability": "mean of the largest cluster probability",
        "within_over_variance": "distance to the centre / variance",
        "label_change": "share of rows that changed cluster",
        "max_cluster_fraction": "share of the largest cluster",
        "min_cluster_fraction": "share of the smallest cluster",
    }
    draw_lines(terms_axes, model.history_, terms)
    draw_lines(monitor_axes, model.history_, monitors)
    terms_axes.set(yscale="log", ylabel="mean over samples")
    terms_axes.set_title("CKMDomainAdapter: loss terms, each before its weight")
    monitor_axes.set(xlabel="epoch (both phases)", ylabel="share or ratio")
    monitor_axes.set_title("Monitors of the clusters")
    for axes in (terms_axes, monitor_axes):
        axes.margins(y=0.12)  # room for the names of the phases
        mark_phases(axes, model.history_)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    monitor_axes.set_ylim(bottom=0)
    return figure


def draw_lines(axes, history, labels):
    """Draw a line for each key of the history, over the epochs that have it."""
    styles = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
    for color, style, (key, label) in zip(COLORS, styles, labels.items(), strict=False):
        points = [(epoch, row[key]) for epoch, row in enumerate(history, start=1) if key in row]
        axes.plot(*np.transpose(points), color=color, linestyle=style, linewidth=1.8, label=label)
    axes.grid(alpha=0.3)


def mark_phases(axes, history):
    """Shade the pretraining and name both phases at the top of the axes."""
    end = sum(row["phase"] == "pretrain" for row in history) + 0.5
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.axvspan(0.5, end, color="#EEEEEE", zorder=0)
    axes.axvline(end, color="#444444", linewidth=1)
    transform = axes.get_xaxis_transform()
    style = {"transform": transform, "va": "top", "ha": "center", "color": "#444444"}
    axes.text((0.5 + end) / 2, 0.98, "pretraining", **style)
    axes.text((end + len(history) + 0.5) / 2, 0.98, "fine-tuning", **style)


def draw_embedding(model, task, rng):
    """Both domains' embeddings in two dimensions; then the target alone, by cluster and digit."""
    rows_src, rows_tgt = draw_rows(len(task.X_src), rng), draw_rows(len(task.X_tgt), rng)
    z_src, z_tgt = model.transform(task.X_src[rows_src]), model.transform(task.X_tgt[rows_tgt])
    digits = matched_digits(task.y_tgt, model.labels_)
    labels, y_tgt = model.labels_[rows_tgt], task.y_tgt[rows_tgt]
    by_cluster = {f"cluster {k}, matched to {digit}": labels == k for k, digit in digits.items()}
    by_digit = {f"digit {digit}": y_tgt == digit for digit in TARGET_DIGITS}
    figure = Figure(figsize=(18, 7), layout="constrained")
    both, clusters, truth = figure.subplots(1, 3)
    pca = PCA(2, svd_solver="full").fit(np.concatenate([z_src, z_tgt]))
    draw_source(both, pca.transform(z_src), task.y_src[rows_src])
    draw_target(both, pca, z_tgt, by_cluster)
    draw_centers(both, pca.transform(model.cluster_centers_), size=40)
    pca = PCA(2, svd_solver="full").fit(z_tgt)
    for axes, groups in ((clusters, by_cluster), (truth, by_digit)):
        draw_target(axes, pca, z_tgt, groups)
        draw_centers(axes, pca.transform(model.cluster_centers_), size=190, is_numbered=True)
    add_legends(both, {clusters: by_cluster, truth: by_digit})
    both.set_title("Both domains, target coloured by cluster")
    clusters.set_title("Target alone, coloured by cluster")
    truth.set_title("Target alone, coloured by true digit")
    figure.suptitle(
        "CKMDomainAdapter: principal components of the embedding, "
        f"{len(z_src)} source and {len(z_tgt)} target rows\n"
        "(numbered: centres of the clusters; a cluster has the colour of the digit matched to it)"
    )
    return figure


def draw_rows(n_rows, rng):
    """Indices of the rows to plot, in random order."""
    return rng.permutation(n_rows)[:N_PLOTTED_ROWS]


def draw_source(axes, points, y):
    """Hollow grey marks, a shape for each class."""
    for digit, marker in zip(SOURCE_DIGITS, MARKERS, strict=True):
        axes.scatter(
            *points[y == digit].T,
            s=20,
            marker=marker,
            facecolors="none",
            edgecolors=SOURCE_COLOR,
            linewidths=0.6,
            label=f"source {digit}",
        )


def draw_target(axes, pca, z, groups):
    """Dots of one colour a group, in random order, so that no group hides another."""
    colors = np.empty(len(z), dtype=object)
    for color, is_member in zip(COLORS, groups.values(), strict=False):
        colors[is_member] = color
    axes.scatter(*pca.transform(z).T, s=12, c=list(colors), alpha=0.85, linewidths=0)
    axes.set(xlabel=component_label(pca, 0), ylabel=component_label(pca, 1))


def draw_centers(axes, points, size, is_numbered=False):
    """White discs, with the number of the cluster where there is room."""
    style = {"facecolors": "white", "edgecolors": "black", "linewidths": 1.6}
    axes.scatter(*points.T, s=size, zorder=3, label="centre", **style)
    for k, point in enumerate(points if is_numbered else ()):
        axes.text(*point, str(k), ha="center", va="center_baseline", weight="bold", zorder=4)


def add_legends(both, groups_of):
    """Name the source classes and the centres under one panel, the groups under the others."""
    for axes, groups in groups_of.items():
        dots = [Line2D([], [], color=color, marker="o", linestyle="") for color in COLORS]
        place_legend(axes, dots[: len(groups)], list(groups))
    place_legend(both, *both.get_legend_handles_labels())


def place_legend(axes, handles, names):
    """Put the legend below the axes."""
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.1), "ncols": 3, "frameon": False}
    axes.legend(handles, names, **place)


def matched_digits(y, labels):
    """Digit of each cluster under the one-to-one matching that the accuracy uses."""
    counts = np.zeros((N_CLUSTERS, N_CLUSTERS), dtype=int)  # (clusters, digits)
    np.add.at(counts, (labels, np.searchsorted(TARGET_DIGITS, y)), 1)
    _, columns = linear_sum_assignment(counts, maximize=True)
    clusters = np.argsort(columns)  # in the order of their digits
    return dict(zip(clusters.tolist(), TARGET_DIGITS, strict=True))


def component_label(pca, component):
    """Axis label with the share of the variance."""
    share = pca.explained_variance_ratio_[component]
    return f"component {component + 1} ({share:.0%} of the variance)"


def draw_clusters(labels, task, rng):
    """Random rows of the source, then of each cluster; other digits than the usual one framed."""
    figure = Figure(figsize=(11, 0.75 * (N_CLUSTERS + 1) + 0.9), layout="constrained")
    grid = figure.subplots(N_CLUSTERS + 1, N_EXAMPLES)
    draw_examples(grid[0], task.X_src, rng)
    label_row(grid[0, 0], f"source, labelled 0-4\n{len(task.X_src)} rows")
    for k, panels in enumerate(grid[1:]):
        rows = np.flatnonzero(labels == k)
        digits = task.y_tgt[rows]
        majority = np.bincount(digits, minlength=10).argmax()
        chosen = draw_examples(panels, task.X_tgt[rows], rng)
        frame_others(panels, digits[chosen] != majority)
        share = f"{np.mean(digits == majority):.0%} are {majority}s" if len(rows) else "empty"
        label_row(panels[0], f"cluster {k}, {len(rows)} rows\n{share}")
    figure.suptitle(
        "CKMDomainAdapter: random images of the source and of each target cluster\n"
        "(framed: not the most frequent digit of the cluster)"
    )
    return figure


def draw_examples(panels, images, rng):
    """Show random images, one a panel, and return their indices; further panels stay empty."""
    chosen = rng.permutation(len(images))[: len(panels)]
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, image in zip(panels, images[chosen], strict=False):
        axes.imshow(np.moveaxis(image, 0, -1), cmap="gray", vmin=0, vmax=1)
    return chosen


def frame_others(panels, is_other):
    """Draw a frame around the panels marked."""
    for axes in np.asarray(panels)[: len(is_other)][is_other]:
        axes.spines[:].set(visible=True, color=COLORS[4], linewidth=3)


def label_row(axes, text):
    """Write the text to the left of a row of images."""
    axes.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=8)


def save_figures(figures, folder):
    """Write the pictures and print where they are."""
    print(f"\nPictures in {folder.resolve()}:")
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=130)
        print(f"  {name}")


if __name__ == "__main__":
    main()
