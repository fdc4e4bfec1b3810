import warnings

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from sklearn_ckm import ConcreteKMeans
from sklearn_ckm.augmentation import ImageAugmentation, TableAugmentation
from sklearn_ckm.augmentation._resolve import AUGMENTATIONS, resolve_augmentation

IMAGE, COLOR_IMAGE, TABLE = (1, 16, 16), (3, 16, 16), (5,)


def changes_color(augmentation):
    values = [getattr(augmentation, name) for name in ("brightness", "contrast", "blur")]
    assert all(values) == any(values)
    return all(values)


@pytest.mark.parametrize(
    ("name", "input_shape", "kind", "is_colored"),
    [
        ("auto", TABLE, TableAugmentation, None),
        ("auto", IMAGE, ImageAugmentation, False),
        ("auto", COLOR_IMAGE, ImageAugmentation, True),
        ("auto", (2, 16, 16), ImageAugmentation, True),
        ("auto", (1, 8, 8), ImageAugmentation, False),
        ("auto", (1, 7, 28), TableAugmentation, None),
        ("auto", (3, 28, 7), TableAugmentation, None),
        ("affine", COLOR_IMAGE, ImageAugmentation, False),
        ("affine", (1, 4, 4), ImageAugmentation, False),
        ("affine-color", IMAGE, ImageAugmentation, True),
        ("noise", COLOR_IMAGE, TableAugmentation, None),
        ("noise", TABLE, TableAugmentation, None),
    ],
)
def test_name_and_input_give_the_augmentation(name, input_shape, kind, is_colored):
    augmentation = resolve_augmentation(name, input_shape)
    assert type(augmentation) is kind
    if is_colored is not None:
        assert changes_color(augmentation) == is_colored
    augmentation.check_settings()


@pytest.mark.parametrize("input_shape", [IMAGE, COLOR_IMAGE, (1, 1, 1), (2, 3, 20)])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_name_gives_views_of_images(device, name, input_shape):
    x = torch.rand(4, *input_shape, device=device)
    view = resolve_augmentation(name, input_shape)(x, torch.Generator(device).manual_seed(0))
    assert view.shape == x.shape
    assert torch.isfinite(view).all()


def test_color_is_all_that_differs():
    affine, color = (resolve_augmentation(f"affine{end}", IMAGE) for end in ("", "-color"))
    assert affine.get_params() == ImageAugmentation().get_params()
    stays = ("rotation", "scale", "shear", "translation")
    assert all(getattr(affine, name) == getattr(color, name) for name in stays)


@pytest.mark.parametrize("input_shape", [IMAGE, TABLE])
def test_none_and_callables_are_as_given(input_shape):
    def augmentation(x, generator):
        return x

    assert resolve_augmentation(None, input_shape) is None
    assert resolve_augmentation(augmentation, input_shape) is augmentation


@pytest.mark.parametrize("given", [ImageAugmentation(rotation=3.0), TableAugmentation(noise=0.7)])
def test_an_estimator_is_copied(given):
    augmentation = resolve_augmentation(given, IMAGE)
    assert augmentation is not given
    assert type(augmentation) is type(given)
    assert augmentation.get_params() == given.get_params()
    augmentation.set_params(**dict.fromkeys(given.get_params(), 0.0))
    assert given.get_params() != augmentation.get_params()


def test_an_estimator_without_settings_to_check_is_copied():
    class Negative(BaseEstimator):
        def __call__(self, x, generator):
            return 1 - x

    given = Negative()
    augmentation = resolve_augmentation(given, TABLE)
    assert augmentation is not given
    assert type(augmentation) is Negative


@pytest.mark.parametrize("name", ["affin", "", "AUTO"])
def test_unknown_name_raises(name):
    with pytest.raises(ValueError, match=rf"'augmentation' among \('auto', .*got '{name}'"):
        resolve_augmentation(name, IMAGE)


@pytest.mark.parametrize("name", ["affine", "affine-color"])
def test_images_asked_for_where_there_is_a_table_raise(name):
    message = f"Expected images for augmentation='{name}', got a table of 5 features.*image_shape"
    with pytest.raises(ValueError, match=message):
        resolve_augmentation(name, TABLE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ImageAugmentation(rotation=-1.0), "'rotation' of ImageAugmentation .*got -1.0"),
        (TableAugmentation(corruption=2), "'corruption' of TableAugmentation .*got 2"),
    ],
)
def test_settings_that_make_no_sense_raise(given, message):
    with pytest.raises(ValueError, match=message):
        resolve_augmentation(given, IMAGE)


class Scale(torch.nn.Module):
    """A module with a parameter, and a count of its calls."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(4))
        self.n_calls = 0

    def forward(self, x, generator):
        self.n_calls += 1
        return x * self.factor


def in_place(x, generator):
    return x.add_(torch.randn(x.shape, generator=generator))


def out_of_place(x, generator):
    return x + torch.randn(x.shape, generator=generator)


ROWS = np.random.default_rng(0).normal(size=(60, 4))


def small(augmentation):
    kwargs = {"pretrain_epochs": 2, "max_epochs": 4, "batch_size": 60, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ConcreteKMeans(3, augmentation=augmentation, **kwargs).fit(ROWS)


def test_a_module_is_neither_trained_nor_called_itself():
    module = Scale()
    first, second = small(module), small(module)
    assert module.n_calls == 0
    assert torch.equal(module.factor, torch.ones(4))
    np.testing.assert_array_equal(first.cluster_centers_, second.cluster_centers_)


def test_a_module_is_moved_to_the_device_of_the_fit(monkeypatch):
    moved = []
    monkeypatch.setattr(
        Scale, "to", lambda self, device: moved.append((self, device)), raising=False
    )
    module = Scale()
    small(module)
    ((copied, device),) = moved
    assert copied is not module
    assert device == torch.device("cpu")


def test_augmentation_that_works_in_place_is_as_good_as_one_that_does_not():
    assert small(in_place).history_ == small(out_of_place).history_


@pytest.mark.parametrize(
    ("augmentation", "error", "match"),
    [
        (lambda x, generator: x[:, :2], ValueError, r"tensor of shape \(8, 4\), got \(8, 2\)"),
        (lambda x, generator: x.numpy(), TypeError, "torch.float32 tensor, got ndarray"),
        (lambda x, generator: x.double(), TypeError, "torch.float32 tensor, got torch.float64"),
        (lambda x, generator: x / 0, ValueError, "Expected finite views, got NaN or infinity"),
        (ImageAugmentation, TypeError, r"class ImageAugmentation. Pass ImageAugmentation\(\)"),
        (ImageAugmentation(), ValueError, "Expected images for ImageAugmentation.*of 4 features"),
    ],
)
def test_augmentations_that_cannot_serve_raise_before_training(augmentation, error, match):
    class NoTraining(Callback):
        def on_train_begin(self, net, **kwargs):
            raise AssertionError("trained")

    model = ConcreteKMeans(3, augmentation=augmentation, callbacks=[NoTraining()])
    with pytest.raises(error, match=match):
        model.fit(ROWS)
