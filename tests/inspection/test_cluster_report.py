import copy
import inspect
import sys
import typing

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    silhouette_samples,
)

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter
from sklearn_ckm.datasets import keep_few_labels
from sklearn_ckm.inspection import _cluster_report, cluster_report
from sklearn_ckm.metrics import clustering_accuracy


class Line(BaseEstimator):
    """Three clusters on a line, of which nobody is in the third; embeds nothing."""

    def __init__(self, has_centers=True):
        self.has_centers = has_centers

    def fit(self, X, y=None):
        self.fitted_ = True
        if self.has_centers:
            self.cluster_centers_ = np.array([[0.0], [10.0], [50.0]])
        return self

    def predict(self, X):
        return (X[:, 0] > 5).astype(int)

    def predict_proba(self, X):
        p = np.where(X[:, 0] > 5, 0.9, 0.6)
        return np.stack([1 - p, p, 0 * p], axis=1)

    def transform(self, X):
        return X


X = np.array([[0.0], [1.0], [2.0], [10.0], [12.0]])
Y = ["a", "a", "b", "b", "b"]
X_SRC, Y_SRC = np.array([[-4.0], [0.0], [9.0], [60.0]]), ["p", "p", "q", "r"]


def report_of(*args, model=None, **kwargs):
    return cluster_report(model or Line().fit(X), *args, output_dict=True, **kwargs)


def test_by_hand_clusters():
    report = report_of(X, X_src=X_SRC, y_src=Y_SRC)
    assert report["n_samples"] == 5
    first, second, third = report["clusters"].values()
    assert list(report["clusters"]) == [0, 1, 2]
    # silhouettes (b - a) / max(a, b): a from the own cluster, b from the other
    assert first.pop("silhouette") == pytest.approx(
        np.mean([(11 - 1.5) / 11, (10 - 1) / 10, (9 - 1.5) / 9])
    )
    assert second.pop("silhouette") == pytest.approx(np.mean([(9 - 2) / 9, (11 - 2) / 11]))
    assert np.isnan(third.pop("silhouette")) and np.isnan(third.pop("confidence"))
    assert first.pop("confidence") == pytest.approx(0.6)
    assert second.pop("confidence") == pytest.approx(0.9)
    # the means of the source classes are -2, 9 and 60
    assert first == {"size": 3, "share": 0.6, "nearest_source_class": "p"}
    assert second == {"size": 2, "share": 0.4, "nearest_source_class": "q"}
    assert third == {"size": 0, "share": 0.0, "nearest_source_class": "r"}


def test_by_hand_classes():
    report = report_of(X, Y)
    assert report["accuracy"] == pytest.approx(4 / 5)
    assert report["classes"] == {
        "a": {"cluster": 0, "recall": 1.0, "precision": pytest.approx(2 / 3), "support": 2},
        "b": {"cluster": 1, "recall": pytest.approx(2 / 3), "precision": 1.0, "support": 3},
    }
    labels = [0, 0, 0, 1, 1]
    assert report["adjusted_rand"] == pytest.approx(adjusted_rand_score(Y, labels))
    nmi = normalized_mutual_info_score(Y, labels)
    assert report["normalized_mutual_info"] == pytest.approx(nmi)


def test_by_hand_class_without_a_cluster():
    report = report_of(X, ["a", "a", "z", "b", "b"])
    row = report["classes"]["z"]
    assert (row["cluster"], row["recall"], row["support"]) == (None, 0.0, 1)
    assert np.isnan(row["precision"])
    assert report["accuracy"] == pytest.approx(4 / 5)


def test_unlabelled_rows_count_as_rows_of_clusters_only():
    report = report_of(X, ["a", None, None, "b", None])
    assert report["n_samples"] == 5 and report["n_labelled"] == 2
    assert report["clusters"][0]["size"] == 3
    assert report["accuracy"] == 1.0
    assert "accuracy" not in report_of(X, [None] * 5)


def test_means_stand_in_for_missing_centres():
    model = Line(has_centers=False).fit(X)
    X_src = np.array([[1.2], [10.4]])  # means of the clusters are 1 and 11, the centres 0 and 10
    report = report_of(X, X_src=X_src, y_src=["p", "q"], model=model)
    assert list(report["clusters"]) == [0, 1]
    assert [row["nearest_source_class"] for row in report["clusters"].values()] == ["p", "q"]


def test_one_cluster_has_no_silhouette():
    report = report_of(X[:3])
    assert all(np.isnan(row["silhouette"]) for row in report["clusters"].values())


def test_sampled_silhouette_keeps_small_clusters():
    rng = np.random.default_rng(0)
    many = np.concatenate([rng.normal(0, 1, (3000, 1)), rng.normal(12, 1, (5, 1))])
    report = report_of(many, max_samples=200)
    exact = silhouette_samples(many[-1005:], (many[-1005:, 0] > 5).astype(int))
    assert report["clusters"][1]["silhouette"] == pytest.approx(exact[-5:].mean(), abs=0.02)
    assert report["clusters"][0]["size"] == 3000
    np.testing.assert_equal(report, report_of(many, max_samples=200))  # a fixed draw
    assert report["clusters"][0] != report_of(many, max_samples=200, random_state=1)["clusters"][0]


def test_agrees_with_the_estimator(adapter, data):
    report = report_of(data.X_tgt, data.y_tgt, X_src=data.X_src, y_src=data.y_src, model=adapter)
    sizes = [row["size"] for row in report["clusters"].values()]
    assert sizes == np.bincount(adapter.labels_).tolist()
    assert report["accuracy"] == clustering_accuracy(data.y_tgt, adapter.labels_)
    confidence = adapter.predict_proba(data.X_tgt).max(1)
    for k, row in report["clusters"].items():
        assert row["confidence"] == pytest.approx(confidence[adapter.labels_ == k].mean())
        assert row["nearest_source_class"] in ("a", "b")
    is_right = adapter.predict_source(data.X_src) == data.y_src
    assert report["source_accuracy"] == pytest.approx(is_right.mean())
    y_src = [name if i % 2 else None for i, name in enumerate(data.y_src)]
    half = report_of(data.X_tgt, X_src=data.X_src, y_src=y_src, model=adapter)
    assert half["source_accuracy"] == pytest.approx(is_right[1::2].mean())
    text = cluster_report(adapter, data.X_tgt, X_src=data.X_src, y_src=data.y_src, digits=4)
    assert f"accuracy on the source  {is_right.mean():.4f}" in text.splitlines()


def test_model_without_a_source_classifier_has_no_accuracy_there(adapter, data):
    model = clone(adapter).fit(data.X_src, X_tgt=data.X_tgt)
    report = report_of(data.X_tgt, X_src=data.X_src, y_src=data.y_src, model=model)
    assert "nearest_source_class" in report["clusters"][0]
    assert "source_accuracy" not in report


def test_both_styles_report_the_same(adapter, data):
    direct = cluster_report(
        adapter, data.X_tgt, data.y_tgt, X_src=data.X_src, y_src=data.y_src, digits=6
    )
    stacked = cluster_report(
        adapter, data.X_stacked, data.y_stacked, sample_domain=data.sample_domain, digits=6
    )
    assert direct == stacked


def test_clusters_of_a_semi_supervised_model_have_its_names(named, data):
    report = report_of(data.X_tgt, model=named)
    assert list(report["clusters"]) == ["c", "unknown (1)", "unknown (2)"]
    clusters = named.predict_cluster(data.X_tgt)
    sizes = [row["size"] for row in report["clusters"].values()]
    assert sizes == np.bincount(clusters, minlength=3).tolist()


def test_cluster_without_a_name_does_not_take_that_of_a_class(named, data):
    taken = copy.copy(named)
    taken.classes_ = np.array(["unknown (1)", "unknown"], dtype=object)
    report = report_of(data.X_tgt, model=taken)
    assert list(report["clusters"]) == ["unknown (1)", "unknown (1)'", "unknown (2)"]
    assert sum(row["size"] for row in report["clusters"].values()) == len(data.X_tgt)


TEXT = """\
cluster  size  share  silhouette  confidence  nearest source class

      0     3    0.6         0.9         0.6                     p
      1     2    0.4         0.8         0.9                     q
      2     0    0.0           -           -                     r

4 of 5 rows are labelled

              accuracy  1.0
normalized mutual info  1.0
         adjusted rand  1.0

class  cluster  recall  precision  support

    a        0     1.0        1.0        2
    b        1     1.0        1.0        2
"""


def test_mark_of_unlabelled_rows_is_no_class_of_a_classifier(data):
    few = keep_few_labels(data.y_tgt, 3, random_state=0)  # names, and -1 elsewhere
    model = CKMSemiSupervisedAdapter(n_components=3, pretrain_epochs=3, random_state=0)
    model.fit(data.X_src, data.y_src, X_tgt=data.X_tgt, y_tgt=few)
    report = report_of(data.X_tgt, few, model=model)
    assert report["n_labelled"] == 6 and list(report["classes"]) == ["c", "d"]
    is_labelled = few != -1
    alone = report_of(data.X_tgt[is_labelled], few[is_labelled], model=model)
    assert report["classes"] == alone["classes"]
    assert model.score(data.X_tgt, few) == model.score(data.X_tgt[is_labelled], few[is_labelled])


def test_mark_is_a_class_where_it_may_be_one(named, data):
    y = np.where(np.arange(5) < 2, -1, 1)
    assert list(report_of(X, y)["classes"]) == [-1, 1]
    truth = np.where(data.y_tgt == "c", 7, -1)
    model = clone(named).fit(data.X_src, data.y_src, X_tgt=data.X_tgt, y_tgt=truth)
    assert model.classes_.tolist() == [7, -1]  # the second and third centre have no name
    assert list(report_of(data.X_tgt, truth, model=model)["classes"]) == [-1, 7]
    assert model.score(data.X_tgt, truth) == np.mean(model.predict(data.X_tgt) == truth)


def test_text_by_hand():
    y = ["a", "a", None, "b", "b"]
    model = Line().fit(X)
    assert cluster_report(model, X, y, X_src=X_SRC, y_src=Y_SRC, digits=1) == TEXT


def test_text_without_labels_and_source_leaves_them_out():
    text = cluster_report(Line().fit(X), X)
    assert "nearest" not in text and "accuracy" not in text and "class" not in text
    assert text.splitlines()[2].split() == ["0", "3", "0.60", "0.87", "0.60"]


def test_matplotlib_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cluster_report(Line().fit(X), X)


def test_invalid_input_raises(adapter, data):
    with pytest.raises(NotFittedError):
        cluster_report(CKMDomainAdapter(2), data.X_tgt)
    with pytest.raises(TypeError, match=r"a fitted estimator first, got ndarray\. The rows come"):
        cluster_report(data.X_tgt, adapter)
    with pytest.raises(ValueError, match="one label per row in y, got 3 labels for 40 rows"):
        cluster_report(adapter, data.X_tgt, [0, 1, 2])
    with pytest.raises(ValueError, match="either X_src or sample_domain, got both"):
        cluster_report(adapter, X, X_src=X_SRC, sample_domain=[-1] * 5)
    with pytest.raises(ValueError, match="y_src together with X_src"):
        cluster_report(adapter, X, y_src=Y_SRC)
    with pytest.raises(ValueError, match="digits == -1"):
        cluster_report(adapter, data.X_tgt, digits=-1)
    with pytest.raises(ValueError, match="Expected target rows"):
        cluster_report(adapter, data.X_tgt, sample_domain=np.ones(len(data.X_tgt), dtype=int))


def test_white_space_in_names_does_not_break_the_columns():
    y, y_src = ["a\tb", "a\tb", "c\nd", "c\nd", "c\nd"], ["p\r\nq", "p\r\nq", "r  s", "t"]
    model = Line().fit(X)
    text = cluster_report(model, X, y, X_src=X_SRC, y_src=y_src)
    plain = cluster_report(
        model, X, ["a b", "a b", "c d", "c d", "c d"], X_src=X_SRC, y_src=["p q", "p q", "r s", "t"]
    )
    assert text == plain and "c d" in text
    assert list(report_of(X, y)["classes"]) == ["a\tb", "c\nd"]  # numbers have the names as given


def test_type_hints_tell_text_from_numbers():
    answers = {}
    for overload in typing.get_overloads(cluster_report):
        hints = typing.get_type_hints(overload)
        answers[hints["output_dict"]] = hints["return"]
        names = inspect.signature(overload).parameters
        assert list(names) == list(inspect.signature(cluster_report).parameters)
    numbers = dict[str, typing.Any]
    assert answers == {
        typing.Literal[False]: str,
        typing.Literal[True]: numbers,
        bool: str | numbers,
    }


class Gap(Line):
    """Clusters 0 and 2, and nobody in between."""

    def predict(self, X):
        return 2 * super().predict(X)


def test_empty_cluster_does_not_shift_the_names_of_the_others():
    report = report_of(X, Y, model=Gap().fit(X))
    assert [row["cluster"] for row in report["classes"].values()] == [0, 2]


def test_empty_cluster_without_a_centre_has_no_nearest_class():
    model = Gap(has_centers=False).fit(X)
    report = report_of(X, X_src=X_SRC, y_src=Y_SRC, model=model)
    nearest = [row["nearest_source_class"] for row in report["clusters"].values()]
    assert nearest == ["p", None, "q"]


def test_rows_of_the_silhouette_are_as_many_in_all_as_asked_for():
    labels = np.repeat([0, 1, 2], 100)
    rows = _cluster_report._draw_evenly(labels, 30, 0)
    assert np.bincount(labels[rows]).tolist() == [10, 10, 10]


def test_confidence_is_that_of_the_cluster_not_of_the_class(named, data):
    report = report_of(data.X_tgt, model=named)
    labels = named.predict_cluster(data.X_tgt)
    largest = named.predict_cluster_proba(data.X_tgt).max(axis=1)
    for k, row in enumerate(report["clusters"].values()):
        assert row["confidence"] == pytest.approx(largest[labels == k].mean())


def test_source_classes_of_another_kind_raise(adapter, data):
    numbers = np.unique(data.y_src, return_inverse=True)[1]
    with pytest.raises(ValueError, match="Mix of label input types"):
        cluster_report(adapter, data.X_tgt, X_src=data.X_src, y_src=numbers)
