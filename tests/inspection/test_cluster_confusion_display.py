import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.inspection import ClusterConfusionDisplay
from sklearn_ckm.metrics import clustering_accuracy


def display_of(matrix, **kwargs):
    """Draw rows that have this contingency of classes 0, 1, ... and clusters 0, 1, ..."""
    matrix = np.asarray(matrix)
    y_true, y_pred = (
        np.repeat(indices.ravel(), matrix.ravel()) for indices in np.indices(matrix.shape)
    )
    return ClusterConfusionDisplay.from_predictions(y_true, y_pred, **kwargs)


def test_by_hand_clusters_are_ordered_along_the_diagonal():
    display = display_of([[0, 1, 5], [4, 0, 0], [2, 6, 0]])
    assert display.cluster_labels == [2, 0, 1]
    assert display.class_labels == [0, 1, 2]
    np.testing.assert_array_equal(display.confusion_matrix, [[5, 0, 1], [0, 4, 0], [0, 2, 6]])
    assert display.accuracy == pytest.approx(15 / 18)


def test_by_hand_optimal_matching_and_not_the_greedy_one():
    display = display_of([[3, 2], [2, 0]])
    assert display.cluster_labels == [1, 0]
    np.testing.assert_array_equal(display.confusion_matrix, [[2, 3], [0, 2]])


def test_by_hand_spare_clusters_stand_to_the_right_by_the_class_they_hold():
    # clusters 0 and 2 are spare; 0 holds most of class 1, 2 most of class 0
    display = display_of([[0, 9, 3, 0], [2, 0, 1, 8]])
    assert display.cluster_labels == [1, 3, 2, 0]
    np.testing.assert_array_equal(display.confusion_matrix, [[9, 0, 3, 0], [0, 8, 1, 2]])


def test_by_hand_classes_without_a_cluster_stand_below():
    display = display_of([[5, 0], [3, 0], [0, 4]])
    assert display.class_labels == [0, 2, 1]
    assert display.cluster_labels == [0, 1]
    np.testing.assert_array_equal(display.confusion_matrix, [[5, 0], [0, 4], [3, 0]])


def test_match_that_shares_no_row_is_none():
    display = display_of([[5, 2], [3, 0]])  # 5 + 0 and 2 + 3 are equally good
    assert display.accuracy == 0.5
    display = display_of([[9, 1], [3, 0]])  # the best is 9 + 0: class 1 has no cluster
    assert display.class_labels == [0, 1]
    np.testing.assert_array_equal(display.confusion_matrix, [[9, 1], [3, 0]])


@pytest.mark.parametrize("n_clusters", [1, 3, 7])
def test_diagonal_is_the_accuracy_and_all_rows_are_there(n_clusters):
    rng = np.random.default_rng(n_clusters)
    y_true, y_pred = rng.integers(4, size=60), rng.integers(n_clusters, size=60)
    display = ClusterConfusionDisplay.from_predictions(y_true, y_pred)
    assert display.confusion_matrix.shape == (4, n_clusters)
    assert display.confusion_matrix.sum() == 60
    assert display.accuracy == clustering_accuracy(y_true, y_pred)
    assert np.trace(display.confusion_matrix) / 60 == pytest.approx(display.accuracy)


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_predictions_that_carry_the_names_give_the_matrix_of_scikit_learn(normalize):
    rng = np.random.default_rng(0)
    y_true = np.repeat(["ant", "bee", "cat"], 20)
    y_pred = np.where(rng.random(60) < 0.8, y_true, "bee")
    display = ClusterConfusionDisplay.from_predictions(y_true, y_pred, normalize=normalize)
    expected = confusion_matrix(y_true, y_pred, normalize=normalize)
    np.testing.assert_allclose(display.confusion_matrix, expected)
    assert display.class_labels == display.cluster_labels == ["ant", "bee", "cat"]


def test_weights_equal_repeated_rows():
    y_true, y_pred = np.array([0, 0, 1, 1]), np.array([2, 1, 1, 1])
    weighted = ClusterConfusionDisplay.from_predictions(y_true, y_pred, sample_weight=[1, 2, 3, 0])
    repeated = ClusterConfusionDisplay.from_predictions([0, 0, 0, 1, 1, 1], [2, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(weighted.confusion_matrix, repeated.confusion_matrix)
    assert weighted.accuracy == repeated.accuracy


def test_picture_has_values_names_and_accuracy(pyplot):
    display = display_of([[0, 5], [4, 1]])
    assert display.figure_ is display.ax_.figure
    assert [[text.get_text() for text in row] for row in display.text_] == [["5", "0"], ["1", "4"]]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["1", "0"]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["0", "1"]
    assert display.ax_.get_title() == "clustering accuracy 0.900"
    display.figure_.draw_without_rendering()

    _, ax = pyplot.subplots()
    assert display.plot(ax, include_values=False, colorbar=True, im_kw={"alpha": 0.5}) is display
    assert display.ax_ is ax
    assert display.text_ is None
    assert display.im_.get_alpha() == 0.5


def test_text_stands_out_from_its_cell():
    display = display_of([[10, 0], [0, 9]])
    dark, light = display.im_.cmap(1.0), display.im_.cmap(0.0)
    assert display.text_[0, 0].get_color() == light
    assert display.text_[0, 1].get_color() == dark


def test_estimator_in_both_styles(adapter, data):
    labels = adapter.predict(data.X_tgt)
    expected = ClusterConfusionDisplay.from_predictions(data.y_tgt, labels)
    direct = ClusterConfusionDisplay.from_estimator(adapter, data.X_tgt, data.y_tgt)
    stacked = ClusterConfusionDisplay.from_estimator(
        adapter, data.X_stacked, data.y_stacked, sample_domain=data.sample_domain
    )
    for display in (direct, stacked):
        np.testing.assert_array_equal(display.confusion_matrix, expected.confusion_matrix)
        assert display.cluster_labels == expected.cluster_labels
        assert display.class_labels == ["c", "d"]


def test_weights_belong_to_the_rows_as_given(adapter, data):
    weight = np.zeros(len(data.X_stacked))
    weight[-1] = 2.0
    display = ClusterConfusionDisplay.from_estimator(
        adapter,
        data.X_stacked,
        data.y_stacked,
        sample_domain=data.sample_domain,
        sample_weight=weight,
    )
    assert display.confusion_matrix.sum() == 2.0
    assert display.confusion_matrix[list("cd").index(data.y_tgt[-1])].sum() == 2.0


def test_unlabelled_rows_do_not_count(adapter, data):
    y = data.y_tgt.astype(object)
    y[:7] = None
    y[7] = np.nan
    display = ClusterConfusionDisplay.from_estimator(adapter, data.X_tgt, y)
    assert display.confusion_matrix.sum() == len(y) - 8
    y_stacked = data.y_stacked.astype("U2")
    y_stacked[-5:] = "-1"
    display = ClusterConfusionDisplay.from_estimator(
        adapter, data.X_stacked, y_stacked, sample_domain=data.sample_domain
    )
    assert display.confusion_matrix.sum() == len(y) - 5
    assert "-1" not in display.class_labels


def test_clusters_of_a_semi_supervised_model_have_its_names(named, data):
    display = ClusterConfusionDisplay.from_estimator(named, data.X_tgt, data.y_tgt)
    clusters = named.predict_cluster(data.X_tgt)
    names = np.array(["c", "unknown (1)", "unknown (2)"])
    assert set(display.cluster_labels) == set(names[np.unique(clusters)])
    assert display.accuracy == clustering_accuracy(data.y_tgt, clusters)


def test_pipeline_around_another_clusterer(data):
    model = make_pipeline(StandardScaler(), KMeans(2, n_init=1, random_state=0)).fit(data.X_tgt)
    display = ClusterConfusionDisplay.from_estimator(model, data.X_tgt, data.y_tgt)
    assert display.accuracy == 1.0


def test_invalid_input_raises(adapter, data):
    draw = ClusterConfusionDisplay.from_estimator
    with pytest.raises(NotFittedError):
        draw(CKMDomainAdapter(2), data.X_tgt, data.y_tgt)
    with pytest.raises(ValueError, match="one label per row in y, got 3 labels for 40 rows"):
        draw(adapter, data.X_tgt, [0, 1, 2])
    with pytest.raises(ValueError, match="true classes of the rows in y, got None"):
        draw(adapter, data.X_tgt, None)
    with pytest.raises(ValueError, match="labelled target row in y, got none among 40"):
        draw(adapter, data.X_tgt, np.full(len(data.X_tgt), np.nan))
    with pytest.raises(ValueError, match=r"in normalize, got 'row'"):
        draw(adapter, data.X_tgt, data.y_tgt, normalize="row")
    with pytest.raises(ValueError, match=r"sample_weight of shape \(40,\)"):
        draw(adapter, data.X_tgt, data.y_tgt, sample_weight=[1.0])


@pytest.mark.parametrize(
    "y_true, y_pred, error, message",
    [
        ([0, 1], [0], ValueError, "inconsistent numbers of samples"),
        ([], [], ValueError, "at least one label in y_true"),
        ([0, None], [0, 1], ValueError, "every row of y_true, got 1 missing"),
        (np.array([0, "a"], dtype=object), [0, 1], TypeError, "to be of one type"),
    ],
)
def test_invalid_predictions_raise(y_true, y_pred, error, message):
    with pytest.raises(error, match=message):
        ClusterConfusionDisplay.from_predictions(y_true, y_pred)


def test_missing_matplotlib_is_named(without_matplotlib, adapter, data):
    message = r"ClusterConfusionDisplay\.from_predictions requires matplotlib\. You can install"
    with pytest.raises(ImportError, match=message):
        ClusterConfusionDisplay.from_predictions([0], [0])
    with pytest.raises(ImportError, match=r"from_estimator requires matplotlib"):
        ClusterConfusionDisplay.from_estimator(adapter, data.X_tgt, data.y_tgt)
    display = ClusterConfusionDisplay(np.eye(2), class_labels=[0, 1], cluster_labels=[0, 1])
    with pytest.raises(ImportError, match=r"ClusterConfusionDisplay\.plot requires matplotlib"):
        display.plot()


def test_dollars_in_names_are_drawn_as_they_are():
    names = [r"$\foo$", "price $5"]
    display = ClusterConfusionDisplay.from_predictions(np.repeat(names, 3), np.repeat([0, 1], 3))
    display.figure_.canvas.draw()  # a formula would not parse
    drawn = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert sorted(text.replace(r"\$", "$") for text in drawn) == sorted(names)


@pytest.mark.parametrize("colorbar", [False, True])
@pytest.mark.parametrize("n_classes", [1, 2, 5, 30])
def test_long_names_are_drawn_whole(long_names, assert_names_fit, n_classes, colorbar):
    names = [f"{long_names[i % 5]} {i}" for i in range(n_classes)]
    display = ClusterConfusionDisplay.from_predictions(names, names, colorbar=colorbar)
    assert_names_fit(display)
    drawn = [label.get_text().replace("\n", "") for label in display.ax_.get_yticklabels()]
    for name, text in zip(display.class_labels, drawn, strict=True):
        assert text.replace(" ", "") == name.replace(" ", "")


def test_long_names_of_either_kind_alone_fit(long_names, assert_names_fit):
    codes = np.arange(5)
    assert_names_fit(ClusterConfusionDisplay.from_predictions(codes, long_names))
    assert_names_fit(ClusterConfusionDisplay.from_predictions(long_names, codes))


def test_class_that_matches_nothing_stands_below_wherever_it_was():
    display = display_of([[3, 0], [9, 1]])  # the best is 9 + 0: class 0 has no cluster
    assert display.class_labels == [1, 0]
    np.testing.assert_array_equal(display.confusion_matrix, [[9, 1], [3, 0]])


def test_empty_cluster_does_not_shift_the_names_of_the_others(adapter, data, monkeypatch):
    labels = 2 * adapter.predict(data.X_tgt)  # nobody is in cluster 1
    monkeypatch.setattr(adapter, "predict", lambda X: labels)
    display = ClusterConfusionDisplay.from_estimator(adapter, data.X_tgt, data.y_tgt)
    assert sorted(display.cluster_labels) == [0, 2]


def test_title_over_a_single_cluster_has_two_lines(pyplot):
    display = ClusterConfusionDisplay.from_predictions([0, 1, 2, 3, 4], [0] * 5)
    assert display.ax_.get_title() == "clustering\naccuracy 0.200"
