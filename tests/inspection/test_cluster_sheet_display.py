import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_ckm import ConcreteKMeans
from sklearn_ckm.inspection import ClusterSheetDisplay
from sklearn_ckm.inspection._cluster_sheet_display import _Mosaic
from sklearn_ckm.inspection._fitted_rows import FittedClusterer
from sklearn_ckm.preprocessing import ImageFormatter


def numbered(n, channels=1, dtype=np.float64):
    """Images of 8x4 pixels, the i-th filled with i / n or, as bytes, i."""
    values = np.arange(n) if dtype == np.uint8 else np.arange(n) / n
    return np.ones((n, channels, 8, 4), dtype) * values.astype(dtype)[:, None, None, None]


def shown_numbers(display, n):
    return [(images[:, 0, 0, 0] * n).round().astype(int).tolist() for images in display.images]


def captions(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def test_by_hand_nearest_images_come_first():
    display = ClusterSheetDisplay.from_predictions(
        numbered(6),
        ["x", "y", "x", "y", "x", "x"],
        distances=[3.0, 9.0, 1.0, 8.0, 2.0, 0.5],
        n_images=3,
    )
    assert shown_numbers(display, 6) == [[5, 2, 4], [3, 1]]
    assert captions(display) == ["cluster x, 4 rows", "cluster y, 2 rows"]


def test_by_hand_places_in_the_mosaic():
    images = [np.full((2, 1, 8, 4), 0.25), np.full((1, 1, 8, 4), 0.75)]
    canvas = _Mosaic(images).draw()[..., 0]
    assert canvas.shape == (8 + 1 + 8, 4 + 1 + 4)
    assert np.all(canvas[:8, :4] == 0.25) and np.all(canvas[:8, 5:] == 0.25)
    assert np.all(canvas[9:, :4] == 0.75)
    assert np.isnan(canvas).sum() == 17 * 9 - 3 * 8 * 4


def test_random_images_are_members_and_hang_on_the_seed():
    labels = np.arange(60) % 2

    def draw(seed):
        display = ClusterSheetDisplay.from_predictions(
            numbered(60), labels, n_images=10, random_state=seed
        )
        return shown_numbers(display, 60)

    first = draw(0)
    assert first == draw(0) != draw(1)
    for k, numbers in enumerate(first):
        assert len(set(numbers)) == 10
        assert all(number % 2 == k for number in numbers)


def test_by_hand_frames_and_captions_with_classes():
    y = ["a", "a", "b", None, "b", "b"]
    display = ClusterSheetDisplay.from_predictions(
        numbered(6), [0, 0, 0, 0, 1, 1], y, distances=np.arange(6.0)
    )
    assert [framed.tolist() for framed in display.is_framed] == [
        [False, False, True, False],
        [False, False],
    ]
    assert captions(display) == [
        "cluster 0, 4 rows\n66% of class a",
        "cluster 1, 2 rows\n100% of class b",
    ]
    (frame,) = display.frames_  # around the third image: gaps are one pixel wide
    assert frame.get_xy() == (2 * 5 - 0.5, -0.5)
    assert (frame.get_width(), frame.get_height()) == (4, 8)
    display.figure_.draw_without_rendering()


def test_central_images_of_an_estimator(of_images):
    model, X = of_images
    display = ClusterSheetDisplay.from_estimator(model, X, n_images=3)
    z, labels = model.transform(X), model.predict(X)
    distances = np.linalg.norm(z - model.cluster_centers_[labels], axis=1)
    for k, images in enumerate(display.images):
        members = np.flatnonzero(labels == k)
        nearest = members[np.argsort(distances[members])[:3]]
        np.testing.assert_allclose(images, X[nearest])
    shown = ClusterSheetDisplay.from_estimator(model, X, order="random", n_images=3).images
    assert [len(images) for images in shown] == [3, 3]


def test_flattened_and_tagged_images(of_images):
    model, X = of_images
    y = np.arange(40) % 2
    expected = ClusterSheetDisplay.from_estimator(model, X[20:], y[20:])
    flat = ClusterSheetDisplay.from_estimator(model, X[20:].reshape(20, 16), y[20:])
    tags = np.repeat([1, -1], 20)
    tagged = ClusterSheetDisplay.from_estimator(model, torch.from_numpy(X), y, sample_domain=tags)
    for display in (flat, tagged):
        assert captions(display) == captions(expected)
        for images, wanted in zip(display.images, expected.images, strict=True):
            np.testing.assert_allclose(images, wanted)


def test_images_are_drawn_as_a_first_step_brings_them_into_shape():
    X = np.random.default_rng(0).integers(0, 256, size=(30, 12, 14, 3), dtype=np.uint8)
    formatter = ImageFormatter((1, 8, 8))
    model = ConcreteKMeans(2, pretrain_epochs=1, max_epochs=0, random_state=0)
    for first in (formatter, ImageFormatter((1, 8, 8), flatten=True)):
        model.set_params(image_shape=(1, 8, 8))
        pipeline = make_pipeline(first, model).fit(X)
        display = ClusterSheetDisplay.from_estimator(pipeline, X, n_images=2)
        expected = ClusterSheetDisplay.from_estimator(model, formatter.transform(X), n_images=2)
        for images, wanted in zip(display.images, expected.images, strict=True):
            np.testing.assert_array_equal(images, wanted)
    with pytest.raises(ValueError, match=r"got X of shape \(30, 12, 14, 3\)\. If the channels"):
        ClusterSheetDisplay.from_predictions(X, np.zeros(30))


def test_cluster_without_rows_has_an_empty_row(of_images):
    model, X = of_images
    labels = model.predict(X)
    display = ClusterSheetDisplay.from_estimator(model, X[labels == 1])
    assert captions(display)[0] == "cluster 0, 0 rows"
    assert [len(images) > 0 for images in display.images] == [False, True]
    display.figure_.draw_without_rendering()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_colour_has_transparent_gaps(dtype):
    display = ClusterSheetDisplay.from_predictions(numbered(4, 3, dtype), [0, 1, 1, 1])
    canvas = display.im_.get_array()
    assert canvas.shape == (17, 14, 4)
    assert np.sum(canvas[..., 3]) == 4 * 8 * 4
    assert canvas.min() >= 0 and canvas.max() <= 1


@pytest.mark.parametrize(
    "X, expected",
    [
        (numbered(4), [0, 0.75]),  # a range within [0, 1] is shown as it is
        (numbered(4, dtype=np.uint8) * 85, [0, 1]),
        (numbered(4) * 400 - 100, [0, 1]),
        (np.full((4, 1, 8, 4), 7.0), [0, 0]),
    ],
    ids=["unit", "bytes", "floats", "constant"],
)
def test_brightness(X, expected):
    display = ClusterSheetDisplay.from_predictions(X, [0, 0, 1, 1])
    shown = np.concatenate(display.images)
    assert [shown.min(), shown.max()] == expected


def test_flattened_images_and_keywords(pyplot):
    figure, ax = pyplot.subplots()
    display = ClusterSheetDisplay.from_predictions(
        numbered(4).reshape(4, 32), [0, 0, 1, 1], image_shape=(1, 8, 4), ax=ax, alpha=0.5
    )
    assert display.figure_ is figure and display.ax_ is ax
    assert display.im_.get_alpha() == 0.5
    assert display.plot(cmap="viridis").im_.get_cmap().name == "viridis"


def test_invalid_input_raises(adapter, data, of_images):
    model, images = of_images
    draw = ClusterSheetDisplay.from_predictions
    with pytest.raises(ValueError, match=r"Expected images .* got the shape \(40, 4\)"):
        ClusterSheetDisplay.from_estimator(adapter, data.X_tgt)
    with pytest.raises(ValueError, match=r"Expected images .* Pass image_shape"):
        draw(numbered(4).reshape(4, 32), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="Expected 16 features for image_shape"):
        draw(numbered(4).reshape(4, 32), [0, 0, 1, 1], image_shape=(1, 4, 4))
    with pytest.raises(ValueError, match="images of 1 or 3 channels, got 2"):
        draw(numbered(4, 2), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        draw(numbered(4), [0, 0, 1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        draw(numbered(4), [0, 0, 1, 1], distances=[1.0])
    with pytest.raises(ValueError, match="one label per row in y, got 2 labels for 4 rows"):
        draw(numbered(4), [0, 0, 1, 1], ["a", "b"])
    with pytest.raises(ValueError, match="every row of labels, got 1 missing"):
        draw(numbered(4), [0, 0, 1, None])
    with pytest.raises(ValueError, match="n_images == 0"):
        draw(numbered(4), [0, 0, 1, 1], n_images=0)
    with pytest.raises(ValueError, match=r"in order, got 'best'"):
        ClusterSheetDisplay.from_estimator(model, images, order="best")
    with pytest.raises(NotFittedError):
        ClusterSheetDisplay.from_estimator(ConcreteKMeans(2), images)


def test_missing_matplotlib_is_named(without_matplotlib, of_images):
    with pytest.raises(ImportError, match=r"ClusterSheetDisplay\.from_estimator requires"):
        ClusterSheetDisplay.from_estimator(*of_images)
    with pytest.raises(ImportError, match=r"ClusterSheetDisplay\.from_predictions requires"):
        ClusterSheetDisplay.from_predictions(numbered(2), [0, 1])
    with pytest.raises(ImportError, match=r"ClusterSheetDisplay\.plot requires"):
        ClusterSheetDisplay([numbered(2)], ["cluster 0"]).plot()


@pytest.mark.parametrize("n_images", [1, 12])
@pytest.mark.parametrize("n_clusters", [1, 5, 20])
def test_long_names_are_drawn_whole(long_names, assert_names_fit, n_clusters, n_images):
    labels = [f"{long_names[i % 5]} {i}" for i in range(n_clusters)] * 12
    images = np.zeros((len(labels), 1, 6, 6))
    display = ClusterSheetDisplay.from_predictions(images, labels, labels, n_images=n_images)
    assert_names_fit(display)


def test_long_names_are_short_and_apart_on_given_axes(pyplot, long_names):
    figure, ax = pyplot.subplots(layout="constrained")
    X, labels = np.zeros((40, 1, 6, 6)), long_names * 8
    display = ClusterSheetDisplay.from_predictions(X, labels, labels, n_images=4, ax=ax)
    assert "\n" in display.names[0] and "…" not in "".join(display.names)
    figure.draw_without_rendering()
    assert ax.get_window_extent().width > 0.4 * figure.bbox.width
    names = ax.get_yticklabels()
    assert names[0].get_text() == (
        "cluster Cyanobacteria_…\nsubspecies, 8 rows\n100% of class…\nsubspecies"
    )
    boxes = [name.get_window_extent() for name in names]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    wide = ClusterSheetDisplay.from_predictions(np.repeat(X, 3, axis=0), labels * 3, n_images=24)
    wide.plot(pyplot.subplots()[1])
    assert wide.ax_.get_yticklabels()[0].get_fontsize() < 10
    few = ClusterSheetDisplay.from_predictions(
        X, np.arange(40) % 2, n_images=3, ax=pyplot.subplots()[1]
    )
    assert few.ax_.get_yticklabels()[0].get_fontsize() == 10


def test_distances_to_centres_are_euclidean(of_images):
    model = FittedClusterer(of_images[0])
    offsets = np.array([[3.0, 4.0, 0.0], [4.5, 0.0, 0.0]])  # in sums, 7 and 4.5
    distances = model.center_distances(model.centers[[0, 0]] + offsets, np.array([0, 0]))
    np.testing.assert_allclose(distances, [5.0, 4.5], rtol=1e-5)


def test_images_with_missing_pixels_raise():
    X = np.zeros((4, 1, 8, 8))
    X[1, 0, 2, 3] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        ClusterSheetDisplay.from_predictions(X, [0, 0, 1, 1])
