import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.inspection import EmbeddingDisplay
from sklearn_ckm.pipeline import make_domain_pipeline


def legend_texts(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def sorted_rows(points):
    return points[np.lexsort(points.T)]


def test_points_are_principal_components_of_both_domains(adapter, data):
    display = EmbeddingDisplay.from_estimator(
        adapter, data.X_tgt, X_src=data.X_src, method="pca", max_samples=None
    )
    z = np.concatenate([adapter.transform(data.X_tgt), adapter.transform(data.X_src)])
    expected = PCA(2, svd_solver="full").fit(z)
    shown = np.concatenate([display.points, display.source_points])
    np.testing.assert_allclose(
        sorted_rows(np.abs(shown)), sorted_rows(np.abs(expected.transform(z))), atol=1e-6
    )
    np.testing.assert_allclose(
        np.abs(display.center_points),
        np.abs(expected.transform(adapter.cluster_centers_)),
        atol=1e-6,
    )
    share = expected.explained_variance_ratio_[0]
    assert display.ax_.get_xlabel() == f"component 1 ({share:.0%} of the variance)"


def test_labels_belong_to_their_points(adapter, data):
    display = EmbeddingDisplay.from_estimator(adapter, data.X_tgt, method="pca")
    # the blobs are far apart: the label of each point is that of its nearest cluster mean
    means = np.stack([display.points[display.labels == k].mean(0) for k in range(2)])
    distances = np.linalg.norm(display.points[:, None] - means, axis=2)
    np.testing.assert_array_equal(distances.argmin(1), display.labels)
    np.testing.assert_array_equal(np.bincount(display.labels), np.bincount(adapter.labels_))


def test_both_styles_show_the_same(adapter, data):
    direct = EmbeddingDisplay.from_estimator(
        adapter, data.X_tgt, data.y_tgt, X_src=data.X_src, y_src=data.y_src, method="pca"
    )
    stacked = EmbeddingDisplay.from_estimator(
        adapter, data.X_stacked, data.y_stacked, sample_domain=data.sample_domain, method="pca"
    )
    for name in ("points", "labels", "source_points", "source_labels", "center_points"):
        np.testing.assert_allclose(getattr(direct, name), getattr(stacked, name), atol=1e-9)
    assert direct.names == stacked.names == ["class c", "class d"]
    assert direct.source_names == stacked.source_names == ["a", "b"]


def test_legend_names_clusters_centres_and_source(adapter, data):
    display = EmbeddingDisplay.from_estimator(
        adapter, data.X_tgt, X_src=data.X_src, y_src=data.y_src, method="pca"
    )
    expected = ["cluster 0", "cluster 1", "centre", "source a", "source b"]
    assert legend_texts(display) == expected
    assert [text.get_text() for text in display.centers_] == ["0", "1"]
    assert len(display.target_) == 1 and len(display.source_) == 2
    display.figure_.draw_without_rendering()


def test_source_without_labels_and_unlabelled_rows(adapter, data):
    y, y_src = data.y_tgt.astype(object), data.y_src.astype(object)
    y[:3] = y_src[:3] = None
    display = EmbeddingDisplay.from_estimator(
        adapter, data.X_tgt, y, X_src=data.X_src, y_src=y_src, method="pca"
    )
    assert np.sum(display.labels == -1) == 3
    assert "unlabelled" in legend_texts(display)
    assert legend_texts(display)[-1] == "source, unlabelled"
    display = EmbeddingDisplay.from_estimator(adapter, data.X_tgt, X_src=data.X_src, method="pca")
    assert legend_texts(display)[-1] == "source"


def test_no_target_label_at_all_shows_clusters(adapter, data):
    display = EmbeddingDisplay.from_estimator(
        adapter, data.X_tgt, np.full(len(data.X_tgt), np.nan), method="pca"
    )
    assert display.names == ["cluster 0", "cluster 1"]


def test_centres_carry_the_names_of_a_semi_supervised_model(named, data):
    display = EmbeddingDisplay.from_estimator(named, data.X_tgt, method="pca")
    names = ["c", "unknown (1)", "unknown (2)"]
    assert [text.get_text() for text in display.centers_] == names
    assert display.names == [f"cluster {name}" for name in names]


def test_samples_are_drawn_of_each_domain_and_by_the_seed(adapter, data):
    def draw(seed):
        return EmbeddingDisplay.from_estimator(
            adapter, data.X_tgt, X_src=data.X_src, method="pca", max_samples=9, random_state=seed
        )

    first, again, other = draw(0), draw(0), draw(1)
    assert first.points.shape == first.source_points.shape == (9, 2)
    np.testing.assert_array_equal(first.points, again.points)
    assert not np.array_equal(first.points, other.points)


def test_transformer_of_the_user_is_cloned_and_may_lack_transform(adapter, data):
    tsne = TSNE(perplexity=5, max_iter=250, init="random", random_state=0)
    display = EmbeddingDisplay.from_estimator(adapter, data.X_tgt, method=tsne)
    assert not hasattr(tsne, "embedding_")
    assert display.center_points is None
    assert display.centers_ == []
    assert display.ax_.get_xlabel() == "TSNE 1"
    pipeline = make_pipeline(StandardScaler(), PCA(2))
    display = EmbeddingDisplay.from_estimator(adapter, data.X_tgt, method=pipeline)
    assert display.center_points.shape == (2, 2)


class FakeUMAP:
    """Keeps the first two columns; stands in for the class of umap-learn."""

    def __init__(self, n_components, n_jobs, random_state):
        self.random_state = random_state

    def fit_transform(self, z):
        return self.transform(z)

    def transform(self, z):
        return z[:, :2]


def test_another_module_of_that_name_is_not_umap(monkeypatch, adapter, data):
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace())
    display = EmbeddingDisplay.from_estimator(adapter, data.X_tgt)
    assert display.ax_.get_xlabel().startswith("component 1")


def test_umap_is_used_where_it_is_installed(monkeypatch, adapter, data):
    module = SimpleNamespace(UMAP=FakeUMAP)
    monkeypatch.setitem(sys.modules, "umap", module)
    for method in ("auto", "umap"):
        display = EmbeddingDisplay.from_estimator(adapter, data.X_tgt, method=method)
        assert display.ax_.get_xlabel() == "UMAP 1"
        np.testing.assert_allclose(display.center_points, adapter.cluster_centers_[:, :2])


def test_without_umap_auto_is_pca_and_umap_is_refused(monkeypatch, adapter, data):
    monkeypatch.setitem(sys.modules, "umap", None)
    display = EmbeddingDisplay.from_estimator(adapter, data.X_tgt)
    assert display.ax_.get_xlabel().startswith("component 1")
    with pytest.raises(ImportError, match="pip install umap-learn"):
        EmbeddingDisplay.from_estimator(adapter, data.X_tgt, method="umap")


def test_embedding_of_one_column(data):
    model = ConcreteKMeans(
        2, n_components=1, encoder="mlp-small", pretrain_epochs=1, max_epochs=0, random_state=0
    ).fit(data.X)
    display = EmbeddingDisplay.from_estimator(model, data.X, method="pca")
    np.testing.assert_allclose(display.points[:, 1], 0, atol=1e-9)
    assert display.center_points.shape == (2, 2)


@pytest.mark.parametrize("convert", [torch.from_numpy, pd.DataFrame, np.ndarray.tolist])
def test_rows_of_any_kind(adapter, data, convert):
    display = EmbeddingDisplay.from_estimator(
        adapter, convert(data.X_stacked), sample_domain=data.sample_domain, method="pca"
    )
    expected = EmbeddingDisplay.from_estimator(
        adapter, data.X_stacked, sample_domain=data.sample_domain, method="pca"
    )
    np.testing.assert_allclose(display.points, expected.points, atol=1e-5)


def test_pipeline_shows_what_its_last_step_shows(data):
    model = CKMDomainAdapter(
        2, n_components=3, encoder="mlp-small", pretrain_epochs=1, max_epochs=1, random_state=0
    )
    pipeline = make_domain_pipeline(StandardScaler(), model)
    pipeline.fit(data.X_src, data.y_src, X_tgt=data.X_tgt)
    display = EmbeddingDisplay.from_estimator(pipeline, data.X_tgt, method="pca")
    X = pipeline[0].transform(data.X_tgt)
    expected = EmbeddingDisplay.from_estimator(pipeline[-1], X, method="pca")
    np.testing.assert_allclose(display.points, expected.points, atol=1e-9)


def test_plot_on_given_axes_with_keywords(pyplot, adapter, data):
    figure, ax = pyplot.subplots()
    display = EmbeddingDisplay.from_estimator(
        adapter, data.X_tgt, X_src=data.X_src, method="pca", ax=ax, s=3, legend=False
    )
    assert display.ax_ is ax and display.figure_ is figure
    assert display.legend_ is None
    assert display.target_[0].get_sizes().tolist() == [3]
    source_kw, center_kw = {"s": 5, "fc": "red"}, {"color": "blue"}
    assert display.plot(source_kw=source_kw, center_kw=center_kw) is display
    assert display.source_[0].get_sizes().tolist() == [5]
    assert display.centers_[0].get_color() == "blue"


@pytest.mark.parametrize("n_groups", [2, 7, 8, 12, 30])
def test_no_two_groups_look_alike(n_groups):
    rng = np.random.default_rng(0)
    labels = np.arange(4 * n_groups) % n_groups
    names = [f"cluster {k}" for k in range(n_groups)]
    display = EmbeddingDisplay(rng.random((4 * n_groups, 2)), labels, names).plot()
    styles = {(line.get_color(), line.get_marker()) for line in display.legend_.get_lines()}
    assert len(styles) == n_groups
    assert sum(len(marks.get_offsets()) for marks in display.target_) == 4 * n_groups


def test_invalid_input_raises(adapter, data):
    draw = EmbeddingDisplay.from_estimator
    with pytest.raises(NotFittedError):
        draw(CKMDomainAdapter(2), data.X_tgt)
    with pytest.raises(ValueError, match="one label per row in y, got 1 labels for 40 rows"):
        draw(adapter, data.X_tgt, [0])
    with pytest.raises(ValueError, match="one label per row in y_src, got 1 labels"):
        draw(adapter, data.X_tgt, X_src=data.X_src, y_src=[0])
    with pytest.raises(ValueError, match="either X_src or sample_domain, got both"):
        draw(adapter, data.X_stacked, X_src=data.X_src, sample_domain=data.sample_domain)
    with pytest.raises(ValueError, match="y_src together with X_src, got y_src alone"):
        draw(adapter, data.X_tgt, y_src=data.y_src)
    with pytest.raises(ValueError, match="one domain tag per row"):
        draw(adapter, data.X_tgt, sample_domain=[-1, -1])
    with pytest.raises(ValueError, match="at least two rows to show, got 1"):
        draw(adapter, data.X_tgt[:1])
    with pytest.raises(ValueError, match=r"in method, got 'tsne'"):
        draw(adapter, data.X_tgt, method="tsne")
    with pytest.raises(TypeError, match="an object with fit_transform in method, got 3"):
        draw(adapter, data.X_tgt, method=3)
    with pytest.raises(ValueError, match=r"points of shape \(40, 2\), got \(40, 3\)"):
        draw(adapter, data.X_tgt, method=PCA(3))
    with pytest.raises(ValueError, match="max_samples == 0"):
        draw(adapter, data.X_tgt, max_samples=0)


def test_estimator_without_an_embedding_is_refused(data):
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(2, random_state=0).fit(data.X_tgt)
    with pytest.raises(TypeError, match="an estimator with transform, got GaussianMixture"):
        EmbeddingDisplay.from_estimator(model, data.X_tgt)
    with pytest.raises(TypeError, match="an estimator with predict, got"):
        EmbeddingDisplay.from_estimator(PCA(2).fit(data.X_tgt), data.X_tgt)


def test_centres_in_another_space_are_left_out(data):
    model = KMeans(3, n_init=1, random_state=0).fit(data.X_tgt)  # four features, three distances
    display = EmbeddingDisplay.from_estimator(model, data.X_tgt, method="pca")
    assert display.center_points is None


def test_missing_matplotlib_is_named(without_matplotlib, adapter, data):
    with pytest.raises(ImportError, match=r"EmbeddingDisplay\.from_estimator requires matplotlib"):
        EmbeddingDisplay.from_estimator(adapter, data.X_tgt)


def test_inputs_and_settings_are_left_as_they_were(pyplot, adapter, data):
    before = dict(pyplot.rcParams), data.X_tgt.copy(), sorted(vars(adapter))
    EmbeddingDisplay.from_estimator(adapter, data.X_tgt, data.y_tgt, method="pca")
    assert dict(pyplot.rcParams) == before[0]
    np.testing.assert_array_equal(data.X_tgt, before[1])
    assert sorted(vars(adapter)) == before[2]


def test_long_names_leave_room_for_the_points(long_names):
    points, labels = np.zeros((5, 2)), np.arange(5)
    short = EmbeddingDisplay(points, labels, list("abcde")).plot()
    long = EmbeddingDisplay(points, labels, long_names).plot()
    widths = []
    for display in (short, long):
        display.figure_.draw_without_rendering()
        widths.append(display.ax_.get_window_extent().width)
    assert widths[1] > 0.6 * widths[0]


def many_groups(n_groups, name="cluster {}", **kwargs):
    rng = np.random.default_rng(0)
    labels = np.arange(4 * n_groups) % n_groups
    names = [name.format(k) for k in range(n_groups)]
    return EmbeddingDisplay(rng.random((4 * n_groups, 2)), labels, names, **kwargs)


def assert_legend_fits(display):
    """The legend is whole and beside the axes, and they have kept their size."""
    display.figure_.draw_without_rendering()
    legend, ax = display.legend_.get_window_extent(), display.ax_.get_window_extent()
    page = display.figure_.bbox
    assert min(legend.x0, legend.y0) >= 0
    assert legend.x1 <= page.x1 and legend.y1 <= page.y1
    assert legend.x0 >= ax.x1
    return ax.width / display.figure_.dpi, ax.height / display.figure_.dpi


@pytest.mark.parametrize("name", ["cluster {}", "cluster of a long name, number {}"])
@pytest.mark.parametrize("n_groups", [5, 30, 60])
def test_legend_of_many_groups_is_whole_and_leaves_room_for_the_points(n_groups, name):
    width, height = assert_legend_fits(many_groups(n_groups, name).plot())
    assert width > 4 and height > 4


def test_legend_of_many_groups_beside_given_axes(pyplot):
    _, axes = pyplot.subplots(1, 2, figsize=(12, 5), layout="constrained")
    size = axes[0].figure.get_size_inches().tolist()
    display = many_groups(30).plot(axes[0])
    width, height = assert_legend_fits(display)
    assert width > 2.5 and height > 3.5
    assert display.figure_.get_size_inches().tolist() == size


@pytest.mark.parametrize("n_groups, says", [(56, ""), (57, "marks repeat after 56 groups")])
def test_legend_says_where_marks_repeat(n_groups, says):
    display = many_groups(n_groups).plot()
    styles = {(line.get_color(), line.get_marker()) for line in display.legend_.get_lines()}
    assert len(styles) == 56
    assert display.legend_.get_title().get_text() == says


def test_long_names_at_centres_are_short_and_not_cut(long_names):
    points = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]])
    display = EmbeddingDisplay(
        points, np.arange(5), long_names, center_points=points, center_names=long_names
    ).plot()
    texts = [text.get_text() for text in display.centers_]
    assert texts[:3] == ["a rather long…\nspaces in it", "Cyanobacteria_…\nsubspecies", "x"]
    display.figure_.draw_without_rendering()
    ax = display.ax_.get_window_extent()
    for text in display.centers_:
        box = text.get_window_extent()
        assert ax.x0 <= box.x0 and box.x1 <= ax.x1, text
        assert text.get_clip_box() is None
    whole = [text.get_text().replace("\n", " ") for text in display.legend_.get_texts()]
    assert whole[0] == long_names[0]


def test_centre_outside_the_axes_is_not_drawn():
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    display = EmbeddingDisplay(points, np.arange(2), ["a", "b"], center_points=points).plot()
    display.ax_.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5))
    display.figure_.draw_without_rendering()
    boxes = [text.get_tightbbox() for text in display.centers_]
    assert [box.width > 0 for box in boxes] == [True, False]


def test_given_embedding_is_drawn_as_that_of_the_estimator(adapter, data):
    expected = EmbeddingDisplay.from_estimator(
        adapter, data.X_tgt, X_src=data.X_src, y_src=data.y_src, method="pca"
    )
    display = EmbeddingDisplay.from_predictions(
        adapter.transform(data.X_tgt),
        [f"cluster {k}" for k in adapter.labels_],
        z_src=adapter.transform(data.X_src),
        y_src=data.y_src,
        centers=adapter.cluster_centers_,
        method="pca",
    )
    for name in ("points", "labels", "source_points", "source_labels", "center_points"):
        assert_array_equal(getattr(display, name), getattr(expected, name))
    assert (display.names, display.source_names) == (expected.names, expected.source_names)
    assert legend_texts(display) == legend_texts(expected)


def test_given_embedding_may_lack_labels_and_source(pyplot):
    z = np.random.default_rng(0).normal(size=(30, 4))
    labels = np.array(["a", None, "b"] * 10, dtype=object)
    display = EmbeddingDisplay.from_predictions(z, labels, z_src=z[:7], method="pca")
    assert display.names == ["a", "b"]
    assert sorted(set(display.labels)) == [-1, 0, 1]
    assert display.source_labels is None and len(display.source_points) == 7
    few = EmbeddingDisplay.from_predictions(z, labels, max_samples=9, method="pca")
    assert few.points.shape == (9, 2) and few.center_points is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"labels": None}, "a label for each row"),
        ({"labels": [0, 1]}, "labels"),
        ({"y_src": [0, 1]}, "y_src beside z_src"),
        ({"z_src": np.ones((5, 3))}, "Expected z_src to have as many columns as z, which has 2"),
        ({"centers": np.ones((5, 3))}, "Expected centers to have as many columns as z"),
        ({"z": [[0.0, np.nan]] * 6}, "Input z contains NaN"),
        ({"z": [[0.0, 1.0]], "labels": [0]}, "at least two rows"),
    ],
)
def test_given_embedding_that_is_invalid_raises(kwargs, message):
    given = {"z": np.arange(12.0).reshape(6, 2), "labels": np.arange(6) % 2, **kwargs}
    with pytest.raises(ValueError, match=message):
        EmbeddingDisplay.from_predictions(**given, method="pca")
