"""Estimators saved without pickle: what comes back, and what is refused."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal, assert_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.callback import ScoringMonitor
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from skorch.callbacks import Callback
from torch import nn

import sklearn_ckm
from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans, load
from sklearn_ckm.augmentation import TableAugmentation
from sklearn_ckm.domain_adaptation import (
    CommonFactorClassifier,
    DomainAdversarialClusterer,
    LabelEfficientTransfer,
    ProgressiveClusterer,
)
from sklearn_ckm.modules import ConvEncoder, DenseEncoder
from sklearn_ckm.objectives import (
    BaseClusteringObjective,
    ConcreteKMeansObjective,
    DCNObjective,
    DECObjective,
    SoftKMeansObjective,
)
from sklearn_ckm.persistence import _files
from sklearn_ckm.persistence._values import Encoder, UnstorableError, decode

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"n_components": 3, "encoder": "mlp-small", "pretrain_epochs": 1, "max_epochs": 2}
DEEP = [ConcreteKMeans, CKMDomainAdapter, CKMSemiSupervisedAdapter]
ALL = [
    *DEEP,
    DomainAdversarialClusterer,
    ProgressiveClusterer,
    LabelEfficientTransfer,
    CommonFactorClassifier,
]
X, Y = make_blobs(n_samples=60, centers=8 * np.eye(5), random_state=0)
TAGS = np.where(Y < 3, 0, -1)
IMAGES = np.random.default_rng(0).random((40, 2, 8, 8)).astype(np.float32)


def make(cls, **params):
    if "n_clusters" in cls._parameter_constraints and cls is not CKMSemiSupervisedAdapter:
        params = {"n_clusters": 2, **params}
    return cls(**{**SMALL, "random_state": 0, **params})


def fit(model, X=X, y=Y, tags=TAGS):
    if isinstance(model, ConcreteKMeans):
        return model.fit(X)
    return model.fit(X, y, sample_domain=tags)


def assert_same(first, second, X=X):
    """Same class, parameters, attributes with their dtypes, and answers to the last bit."""
    assert type(first) is type(second)
    assert repr(first) == repr(second)
    attributes, others = vars(first), vars(second)
    assert attributes.keys() == others.keys()
    for name, value in attributes.items():
        if name in ("_net", "_objective", "_scaler", "_metadata_request"):
            continue
        if isinstance(value, BaseEstimator):
            assert repr(others[name]) == repr(value)
            continue
        assert_equal(others[name], value, name)  # NaN equals itself
        assert type(others[name]) is type(value), name
        if isinstance(value, np.ndarray):
            assert others[name].dtype == value.dtype, name
    for method in ("predict", "transform", "predict_proba", "predict_source", "predict_cluster"):
        if hasattr(first, method) and hasattr(second, method):
            if method == "predict_source" and first._net.module_.classifier is None:
                continue
            answer, other = getattr(first, method)(X), getattr(second, method)(X)
            assert_array_equal(other, answer)
            assert other.dtype == answer.dtype


@pytest.fixture(scope="module")
def models():
    """One fitted model of each class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {cls: fit(make(cls)) for cls in ALL}


@pytest.fixture(params=ALL, ids=lambda cls: cls.__name__)
def model(request, models):
    return models[request.param]


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory):
    """A folder with a saved model, which no test changes."""
    folder = tmp_path_factory.mktemp("saved")
    models[CKMSemiSupervisedAdapter].save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it for one test."""
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def weights_file(folder):
    (path,) = Path(folder).glob("*.safetensors")
    return path


def edit(folder, change, *, is_forged=True):
    """Change the description, and, as an attacker can, its digest."""
    path = Path(folder) / "estimator.json"
    document = json.loads(path.read_text())
    change(document)
    if is_forged:
        document["sha256"] = _files._content_digest(document)
    path.write_text(json.dumps(document))


# what comes back ----------------------------------------------------------------------------------


def test_model_comes_back_with_everything(model, tmp_path):
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert_same(model, loaded)
    assert loaded.history_ == model.history_
    if hasattr(model, "score"):
        assert loaded.score(X, Y) == model.score(X, Y)
    assert loaded.get_params() == model.get_params()
    assert not loaded._net.module_.training


def test_loaded_model_can_be_cloned_pickled_saved_and_fitted(model, tmp_path):
    model.save(tmp_path / "first")
    loaded = load(tmp_path / "first")
    loaded.save(tmp_path / "second")
    assert_same(model, load(tmp_path / "second"))
    assert_same(model, pickle.loads(pickle.dumps(loaded)))
    again = clone(loaded)
    assert not hasattr(again, "labels_")
    assert_same(model, fit(again))
    assert [path.read_bytes() for path in sorted((tmp_path / "first").iterdir())] == [
        path.read_bytes() for path in sorted((tmp_path / "second").iterdir())
    ]


@pytest.mark.parametrize("cls", DEEP)
def test_loaded_model_goes_on_in_a_warm_start(cls, tmp_path):
    model = fit(make(cls, warm_start=True, tol=0))
    model.save(tmp_path)
    assert_same(fit(load(tmp_path)), fit(model))


def test_folder_is_small_and_only_of_two_files(model, tmp_path):
    model.save(tmp_path)
    n_bytes = sum(4 * weight.numel() for weight in model._net.module_.parameters())
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < n_bytes + 20_000
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "estimator.json"
    digest = hashlib.sha256(weights_file(tmp_path).read_bytes()).hexdigest()
    assert names[1:] == [f"weights-{digest[:16]}.safetensors"]


def test_files_are_json_and_safetensors_alone(model, tmp_path):
    model.save(tmp_path)
    json.loads((tmp_path / "estimator.json").read_bytes())
    data = weights_file(tmp_path).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    end = max(entry["data_offsets"][1] for entry in header.values() if "data_offsets" in entry)
    assert len(data) == 8 + int.from_bytes(data[:8], "little") + end  # arrays, nothing behind


def test_loading_leaves_random_states_and_default_dtype_alone(saved):
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    torch.set_default_dtype(torch.float64)
    try:
        loaded = load(saved)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert_array_equal(torch.get_rng_state(), before[0])
    assert pickle.dumps(np.random.get_state()) == before[1]  # noqa: NPY002
    assert {weight.dtype for weight in loaded._net.module_.parameters()} == {torch.float32}


def test_loading_in_inference_mode_leaves_a_model_that_can_be_trained(models, tmp_path):
    fit(make(ConcreteKMeans, warm_start=True)).save(tmp_path)
    with torch.inference_mode():
        loaded = load(tmp_path)
    fit(loaded)


NAMES = {
    "ints": np.arange(5),
    "strings": np.array(["Äpfel", "b", "c", "d\U0001f600", 'e"\\']),
    "floats": np.array([0.5, 1.5, 2.5, 3.5, 4.5]).astype("U"),
    "objects": np.array(["a", "b", "c", "d", "longer"], dtype=object),
    "bytes": np.array([b"a", b"b", b"c", b"\xff", b"e"]),
    "int8": np.arange(5, dtype=np.int8),
    "big endian": np.arange(5, dtype=">i2"),
    "huge": np.array([2**70 + i for i in range(5)], dtype=object),
}


@pytest.mark.parametrize("cls", [CKMSemiSupervisedAdapter, CommonFactorClassifier])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_class_names_keep_their_dtype(cls, names, tmp_path):
    model = fit(make(cls, max_epochs=1), y=names[Y])
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert_same(model, loaded)
    assert [type(name) for name in loaded.classes_.tolist()] == [
        type(name) for name in model.classes_.tolist()
    ]


def test_bool_classes_and_unnamed_centres_come_back(tmp_path):
    y = Y == 4
    for unknown in ("auto", "other", None, -5, 0.5):
        model = make(CKMSemiSupervisedAdapter, n_clusters=3, unknown_label=unknown, max_epochs=1)
        fit(model, y=y).save(tmp_path)
        assert_same(model, load(tmp_path))


def test_names_of_features_the_curve_and_settings_of_the_output_come_back(tmp_path):
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = ConcreteKMeans("auto", **SMALL, random_state=0).fit(frame)
    model.set_output(transform="pandas").save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.feature_names_in_.dtype == object
    for name, values in model.n_clusters_curve_.items():
        assert_array_equal(loaded.n_clusters_curve_[name], values)
        assert loaded.n_clusters_curve_[name].dtype == values.dtype
    pd.testing.assert_frame_equal(loaded.transform(frame), model.transform(frame))


def test_metadata_requests_come_back(tmp_path):
    with config_context(enable_metadata_routing=True):
        model = make(CKMDomainAdapter).set_fit_request(sample_domain="domain")
        model.set_score_request(sample_weight=True)
        model.fit(X, Y, sample_domain=TAGS).save(tmp_path)
        loaded = load(tmp_path)
        assert str(loaded.get_metadata_routing()) == str(model.get_metadata_routing())
        assert str(clone(loaded).get_metadata_routing()) == str(model.get_metadata_routing())


PARAMS = {
    "path of a cache": {"memory": "folder"},
    "device": {"device": torch.device("cpu")},
    "tuple": {"image_shape": (1, 1, 5)},
    "list": {"image_shape": [1, 1, 5]},
    "array": {"image_shape": np.array([1, 1, 5])},
    "numpy numbers": {"lr": np.float32(1e-3), "max_epochs": np.int64(1)},
    "encoder of the package": {"encoder": DenseEncoder},
    "augmentation": {"augmentation": TableAugmentation(noise=0.25)},
    "no views": {"augmentation": None},
    "objective": {"objective": ConcreteKMeansObjective(noise=(1.0, 0.5), form="A")},
    "DEC": {"objective": DECObjective(alpha=2.0)},
    "DCN": {"objective": DCNObjective(initial_count=3)},
    "soft k-means": {"objective": SoftKMeansObjective(sharpness=(0.1, 1.0))},
    "by name": {"objective": "dec"},
}


@pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS)
def test_parameters_come_back_with_their_types(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the cache
    model = fit(make(ConcreteKMeans, **params))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save("saved")
        loaded = load("saved")
    assert_same(model, loaded)
    for name, value in params.items():
        other = getattr(loaded, name)
        assert type(other) is type(value)
        assert str(other) == str(value)
    assert vars(loaded._objective) == vars(model._objective)
    assert vars(loaded._scaler).keys() == vars(model._scaler).keys()


def test_what_is_not_finite_comes_back_in_the_history(models, tmp_path):
    model = clone(models[ConcreteKMeans])
    fit(model).history_ += [
        {"loss": float("nan"), "gap": float("-inf"), "numpy": np.float32("nan"), "n": np.int8(3)},
        {"array": np.array([np.inf, 1.0]), "$": "dollar", "text": "\ud800", "date": (1, [None])},
    ]
    model.save(tmp_path)
    loaded = load(tmp_path).history_
    assert_equal(loaded, model.history_)
    for record, other in zip(model.history_, loaded, strict=True):
        assert list(record) == list(other)
        assert [type(value) for value in record.values()] == [type(v) for v in other.values()]


def test_parameters_changed_after_the_fit_do_not_change_the_network(models, tmp_path):
    model = fit(make(CKMDomainAdapter))
    model.set_params(encoder="mlp", n_components=7, n_clusters=9, objective="dec", temperature=3.0)
    model.save(tmp_path)
    assert_same(model, load(tmp_path))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_convolutions_keep_their_bits(as_bytes, tmp_path):
    images = (255 * IMAGES).astype(np.uint8) if as_bytes else IMAGES
    model = make(ConcreteKMeans, encoder="conv").fit(images)
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert_same(model, loaded, images)
    strides = [weight.stride() for weight in model._net.module_.parameters()]
    assert [weight.stride() for weight in loaded._net.module_.parameters()] == strides


# code of the user's own ---------------------------------------------------------------------------


class Wide(nn.Module):
    """An encoder with batch statistics, dropout and no decoder of its own."""

    def __init__(self, input_shape, n_components, width=7):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(int(np.prod(input_shape)), width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(width, n_components),
        )

    def forward(self, x):
        return self.layers(x)


class Own(BaseClusteringObjective):
    """Twice as sure as k-means."""

    def log_probabilities(self, distances, temperature):
        return super().log_probabilities(2 * distances, temperature)

    def step(self, *args, **kwargs):
        return ConcreteKMeansObjective().step(*args, **kwargs)


class Silent(Callback):
    """Does nothing."""


def noisy(x, generator):
    return x + 0.01


def constant(progress):
    return 1.0


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("encoder", [Wide, partial(Wide, width=3)], ids=["class", "partial"])
def test_own_encoder_is_given_again(cls, encoder, tmp_path):
    model = fit(make(cls, encoder=encoder))
    model.save(tmp_path)
    loaded = load(tmp_path, encoder=encoder)
    assert_same(model, loaded)
    assert loaded.encoder is encoder
    with pytest.raises(ValueError, match=r"the encoder of the fit, '(Wide|partial)', whose code"):
        load(tmp_path)


def test_encoder_that_does_not_fit_is_refused(tmp_path):
    fit(make(ConcreteKMeans, encoder=Wide)).save(tmp_path)
    with pytest.raises(ValueError, match=r"'Wide', but the weights '.*' have the shape \(7"):
        load(tmp_path, encoder=partial(Wide, width=8))
    with pytest.raises(ValueError, match=r"'Wide', but the weights .* None in the file"):
        load(tmp_path, encoder=lambda *shape: nn.Sequential(nn.Flatten(), nn.Linear(5, 3)))
    with pytest.raises(TypeError, match="got an instance of Wide"):
        load(tmp_path, encoder=Wide((5,), 3))
    with pytest.raises(TypeError, match=r"to return a torch\.nn\.Module"):
        load(tmp_path, encoder=lambda input_shape, n_components: None)


def test_encoder_that_nothing_asks_for_is_refused(saved):
    with pytest.raises(ValueError, match=r"Expected no encoder for .* the package's own"):
        load(saved, encoder=Wide)


@pytest.mark.parametrize("factory", [partial(ConvEncoder, n_hidden=20), ConvEncoder])
def test_factory_of_an_encoder_of_the_package(factory, tmp_path):
    model = make(ConcreteKMeans, encoder=factory).fit(IMAGES)
    model.save(tmp_path)
    given = {} if factory is ConvEncoder else {"encoder": factory}
    assert_same(model, load(tmp_path, **given), IMAGES)


SCRIPT = """
import sys
import numpy as np
from sklearn_ckm import load
from torch import nn

class Other(nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        widths = int(np.prod(input_shape)), 7
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(*widths), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(7, n_components),
        )

    def forward(self, x):
        return self.layers(x)

try:
    load("saved")
except ValueError as error:
    assert "'Wide', whose code is not in saved" in str(error)
else:
    raise SystemExit("loaded without its encoder")
model = load("saved", encoder=Other)
assert not any(name.startswith("test_") for name in sys.modules)
sys.stdout.write(model.predict_proba(np.load("X.npy")).tobytes().hex())
"""


def test_another_process_needs_no_module_of_the_training(tmp_path):
    model = fit(make(CKMDomainAdapter, encoder=Wide))
    model.save(tmp_path / "saved")
    np.save(tmp_path / "X.npy", X)
    root = str(Path(sklearn_ckm.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
    )
    assert run.returncode == 0, run.stderr
    assert bytes.fromhex(run.stdout) == model.predict_proba(X).tobytes()


def test_own_objective_is_given_again(tmp_path):
    model = fit(make(CKMDomainAdapter, objective=Own()))
    model.save(tmp_path)  # without a warning: loading asks for it
    with pytest.raises(ValueError, match="the objective of the fit, 'Own', whose code is not in"):
        load(tmp_path)
    loaded = load(tmp_path, objective=Own())
    assert_same(model, loaded)
    assert isinstance(loaded.objective, Own)


OWN = {
    "augmentation": noisy,
    "callbacks": [Silent()],
    "optimizer": torch.optim.RMSprop,
    "objective__noise": constant,
}


@pytest.mark.parametrize("name", OWN)
def test_code_that_training_alone_needs_is_left_out_with_a_warning(name, tmp_path):
    model = make(ConcreteKMeans, objective=ConcreteKMeansObjective(form="A"))
    fit(model.set_params(**{name: OWN[name]}))
    with pytest.warns(UserWarning, match=f"without {name}, which JSON cannot hold. Pred") as record:
        model.save(tmp_path)
    assert record[0].filename == __file__
    with pytest.warns(UserWarning, match=f"without {name}, which JSON cannot hold: a") as record:
        loaded = load(tmp_path)
    assert record[0].filename == __file__
    default = ConcreteKMeans(objective=ConcreteKMeansObjective()).get_params()[name]
    assert loaded.get_params()[name] == default
    assert loaded.objective.form == "A"
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    given = load(tmp_path, **{name: OWN[name]})  # no warning
    assert given.get_params()[name] is OWN[name]
    assert_same(fit(given), fit(model))


def test_caches_and_generators_are_left_out_without_a_word(tmp_path):
    memory = joblib.Memory(tmp_path / "cache", verbose=0)
    model = make(ConcreteKMeans, memory=memory, random_state=np.random.RandomState(0))
    fit(model).save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.memory is None
    assert loaded.random_state is None
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_records_of_callbacks_that_are_no_plain_values_are_left_out(models, tmp_path):
    model = fit(clone(models[ConcreteKMeans]))
    model.history_[0]["mine"] = object()
    with pytest.warns(UserWarning, match=r"without history_\['mine'\]"):
        model.save(tmp_path)
    with pytest.warns(UserWarning, match=r"without history_\['mine'\]"):
        loaded = load(tmp_path)
    del model.history_[0]["mine"]
    assert_same(model, loaded)


def test_estimators_and_attributes_of_other_classes_are_refused(tmp_path):
    class Child(ConcreteKMeans):
        pass

    with pytest.raises(TypeError, match=r"Expected an estimator among .*, got Child"):
        fit(Child(2, **SMALL)).save(tmp_path)
    model = fit(make(ConcreteKMeans, max_epochs=0))
    model.note_ = object()
    with pytest.raises(TypeError, match="Expected plain values in the attribute 'note_', got obj"):
        model.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


class Stateful(Wide):
    def get_extra_state(self):
        return {"any": "thing"}

    def set_extra_state(self, state):
        pass


def test_state_that_is_no_tensor_is_refused(tmp_path):
    with pytest.raises(TypeError, match="Expected tensors in the state of the network"):
        fit(make(ConcreteKMeans, encoder=Stateful)).save(tmp_path)


# devices ------------------------------------------------------------------------------------------


def test_device_is_that_of_the_estimator_or_as_given(models, tmp_path):
    models[ConcreteKMeans].save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.device == "auto"
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert loaded._net.module_.centers.positions.device.type == expected
    loaded = load(tmp_path, device="cpu")
    assert loaded.device == "cpu"
    assert loaded._net.module_.centers.positions.device.type == "cpu"
    with pytest.raises(ValueError, match="Expected an available device, got 'cuda:77'"):
        load(tmp_path, device="cuda:77")


@pytest.mark.parametrize("device", ["cuda:77", torch.device("cuda:77")])
def test_model_of_a_device_that_is_not_here_answers_on_the_cpu(device, models, tmp_path):
    model = fit(clone(models[ConcreteKMeans]).set_params(device="cpu"))
    model.set_params(device=device).save(tmp_path)
    with pytest.warns(UserWarning, match="device='cuda:77', which does not exist here") as record:
        loaded = load(tmp_path)
    assert record[0].filename == __file__
    assert loaded.device == device
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert load(tmp_path, device="auto").device == "auto"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_model_of_a_gpu_comes_back_there_and_on_the_cpu(tmp_path):
    model = fit(make(ConcreteKMeans))
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded._net.module_.centers.positions.is_cuda
    assert_array_equal(loaded.transform(X), model.transform(X))
    loaded = load(tmp_path, device="cpu")
    np.testing.assert_allclose(loaded.transform(X), model.transform(X), rtol=1e-3, atol=1e-4)


# what is refused ----------------------------------------------------------------------------------


def test_unfitted_estimator_is_refused(tmp_path):
    for cls in ALL:
        with pytest.raises(NotFittedError):
            make(cls).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_parameter_that_the_estimator_lacks_is_refused(saved):
    with pytest.raises(ValueError, match="Invalid parameter 'n_cluster'"):
        load(saved, n_cluster=3)


def test_missing_files_are_named(folder):
    weights_file(folder).unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected the weights of .* got no such file"):
        load(folder)
    (folder / "estimator.json").unlink()
    with pytest.raises(FileNotFoundError, match="Expected the description of a saved estimator"):
        load(folder)
    with pytest.raises(FileNotFoundError, match="Expected the description of a saved estimator"):
        load(folder / "nowhere")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_file_that_was_cut_off_is_refused(kind, share, folder):
    (path,) = folder.glob(f"*.{kind}")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"as save\(\) wrote it, but .* it was changed or cut off"):
        load(folder)


@pytest.mark.parametrize("place", np.linspace(0, 1, 9))
def test_flipped_bit_is_refused(place, folder):
    path = weights_file(folder)
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its content is not what was saved"):
        load(folder)


def test_any_flipped_bit_of_the_description_is_refused(saved, tmp_path):
    data = (saved / "estimator.json").read_bytes()
    name = weights_file(saved).name
    (tmp_path / name).write_bytes((saved / name).read_bytes())
    for place in np.random.default_rng(0).choice(len(data), 60, replace=False):
        changed = bytearray(data)
        changed[place] ^= 4
        if changed[place : place + 1].isspace() and data[place : place + 1].isspace():
            continue
        (tmp_path / "estimator.json").write_bytes(changed)
        with pytest.raises(ValueError, match=r"changed or cut off|Expected an estimator"):
            load(tmp_path)


def test_edited_description_is_refused(folder):
    edit(folder, lambda document: document["params"].update(lr=0.5), is_forged=False)
    with pytest.raises(ValueError, match="its content is not what was saved"):
        load(folder)


def test_files_of_two_models_do_not_load_together(saved, models, tmp_path):
    models[ConcreteKMeans].save(tmp_path)
    weights_file(tmp_path).unlink()
    name = weights_file(saved).name
    (tmp_path / name).write_bytes((saved / name).read_bytes())
    with pytest.raises(FileNotFoundError, match="Expected the weights"):
        load(tmp_path)


def test_newer_format_is_refused_before_anything_else(folder):
    edit(folder, lambda document: document.update(format_version=2, params=None), is_forged=False)
    with pytest.raises(ValueError, match=r"in the format 2\. Update sklearn-ckm to load it"):
        load(folder)


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.0, True])
def test_version_that_never_was_is_refused(version, folder):
    edit(folder, lambda document: document.update(format_version=version))
    with pytest.raises(ValueError, match="its format_version is"):
        load(folder)


@pytest.mark.parametrize("text", ["[]", "1", "{}", '{"format": "other"}', "[" * 100_000, "NaN"])
def test_other_json_is_refused(text, folder):
    (folder / "estimator.json").write_text(text)
    with pytest.raises(ValueError, match="Expected"):
        load(folder)


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "/etc/passwd", "", None, 3, "A" * 64])
def test_weights_outside_the_folder_are_out_of_reach(digest, folder):
    edit(folder, lambda document: document["weights"].update(sha256=digest))
    with pytest.raises(ValueError, match="its content is not what was saved"):
        load(folder)


def change(*path, to):
    def apply(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return apply


def array(dtype, **entries):
    return {"$": "array", "dtype": dtype, "shape": [1], **entries}


FORGED = {
    "class outside": change("estimator", to="os.system"),
    "base class": change("estimator", to="BaseDeepEstimator"),
    "objective outside": change(
        "params", "objective", to={"$": "settings", "class": "Popen", "params": {"args": "ls"}}
    ),
    "base of objectives' record": change(
        "params", "objective", to={"$": "settings", "class": "ClusteringStep", "params": {}}
    ),
    "encoder outside": change("params", "encoder", to={"$": "encoder", "class": "Wide"}),
    "unknown tag": change("params", "lr", to={"$": "object", "value": "os"}),
    "unknown parameter": change("params", "n_legs", to=4),
    "method": change("attributes", "predict", to=4),
    "class of the instance": change("attributes", "__class__", to="int"),
    "array without data": change("attributes", "labels_", to=array("<i4", tensor="nowhere")),
    "array of another dtype": change("attributes", "n_iter_", to=array("V8", items=[1])),
    "array of another shape": change("attributes", "cluster_centers_", "shape", to=[1, 3]),
    "settings that do not fit": change(
        "params", "objective", to={"$": "settings", "class": "DCNObjective", "params": {"a": 1}}
    ),
    "no dict": change("attributes", to=[1]),
    "request of no method": change("metadata_request", to={"os": {"a": True}}),
    "layer outside": change("network", "heads", "classifier", "class", to="Transformer"),
    "head outside": change("network", "heads", "forward", to={"class": "Sigmoid"}),
    "network outside": change("network", "encoder", "class", to="Wide"),
    "other widths": change("network", "encoder", "settings", "hidden", to=[2, 2]),
    "other centres": change("network", "centers", "shape", to=[5, 5]),
    "no network": change("network", to=None),
    "no encoder": change("network", "encoder", to={}),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_forged_description_reaches_no_other_class(forge, folder):
    edit(folder, forge)
    with pytest.raises(ValueError, match="Expected"):
        load(folder)


# folders ------------------------------------------------------------------------------------------


def test_saved_model_is_replaced_and_other_files_stay(models, folder):
    (folder / "README").write_text("mine")
    models[ConcreteKMeans].save(folder)
    assert_same(models[ConcreteKMeans], load(folder))
    assert len(list(folder.iterdir())) == 3
    models[ConcreteKMeans].save(str(folder))  # the same again
    assert_same(models[ConcreteKMeans], load(str(folder)))


def test_damaged_model_may_be_replaced(models, folder):
    path = folder / "estimator.json"
    path.write_bytes(path.read_bytes()[:500])
    models[ConcreteKMeans].save(folder)
    assert_same(models[ConcreteKMeans], load(folder))


def test_folder_of_something_else_is_refused(models, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"Expected a folder that is new.*'thesis\.tex'"):
        models[ConcreteKMeans].save(tmp_path)
    (tmp_path / "estimator.json").write_text('{"format": "other"}')
    with pytest.raises(FileExistsError, match="Expected a folder that is new"):
        models[ConcreteKMeans].save(tmp_path)
    with pytest.raises(FileExistsError, match="Expected a folder to save to, got the file"):
        models[ConcreteKMeans].save(tmp_path / "thesis.tex")
    assert len(list(tmp_path.iterdir())) == 2


class CrashError(Exception):
    pass


@pytest.mark.parametrize("n_done", range(6))
def test_crash_while_saving_leaves_the_old_model_or_the_new(n_done, models, folder, monkeypatch):
    """Every step that touches the folder is let through or not, one more each time."""
    left = [n_done]

    def counted(function):
        def step(*args, **kwargs):
            if not left[0]:
                raise CrashError
            left[0] -= 1
            return function(*args, **kwargs)

        return step

    old, new = models[CKMSemiSupervisedAdapter], models[ConcreteKMeans]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))  # fails while tidying up, too
        if n_done < 5:
            with pytest.raises(CrashError):
                new.save(folder)
        else:
            new.save(folder)
    assert_same(old if n_done < 4 else new, load(folder))
    new.save(folder)
    assert len(list(folder.iterdir())) == 2  # leftovers are gone
    assert_same(new, load(folder))


def test_crash_in_the_first_save_leaves_a_folder_to_save_to(models, tmp_path, monkeypatch):
    def crash(*args, **kwargs):
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(CrashError):
            models[ConcreteKMeans].save(tmp_path)
    with pytest.raises(FileNotFoundError, match="Expected the description"):
        load(tmp_path)
    models[ConcreteKMeans].save(tmp_path)
    assert_same(models[ConcreteKMeans], load(tmp_path))


# values -------------------------------------------------------------------------------------------

VALUES = [
    None,
    True,
    10**40,
    -0.0,
    "",
    (),
    [(1, [2.5, ("a",)])],
    {1: "a", (1, 2): None},
    {"$": 1, "a.b": np.arange(2), "a": {"b": np.arange(3)}},
    np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
    np.timedelta64(3, "D"),
    np.str_("a"),
    np.bool_(True),
    np.array(3.0),
    np.zeros((2, 0, 3), dtype=np.float16),
    np.array([[1, None], ["a", (2, "b")]], dtype=object),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.array([1, 2**64 - 1], dtype=np.uint64),
]


@pytest.mark.parametrize("value", VALUES, ids=map(repr, VALUES))
def test_values_come_back(value):
    encoder = Encoder()
    encoded = json.loads(json.dumps(encoder.encode(value, "here"), allow_nan=False))
    decoded = decode(encoded, encoder.tensors)
    assert type(decoded) is type(value)
    assert_equal(decoded, value)
    assert str(decoded) == str(value)
    if isinstance(value, np.ndarray):
        assert (decoded.dtype, decoded.shape) == (value.dtype, value.shape)


@pytest.mark.parametrize("value", [len, object(), {1}, b"a", 1j, np.longdouble(1), ConcreteKMeans])
def test_code_and_other_objects_are_no_values(value):
    with pytest.raises(UnstorableError, match="Expected plain values, got"):
        Encoder().encode([value], "here")


def test_callbacks_are_no_part_of_a_saved_estimator(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3))
    settings = {"pretrain_epochs": 1, "max_epochs": 1, "random_state": 0}
    monitor = ScoringMonitor(scoring=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = ConcreteKMeans(2, **settings, checkpoint=tmp_path / "running")
        model.set_callbacks(monitor).fit(X)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert not hasattr(loaded, "_skl_callbacks")
    assert loaded.checkpoint == str(tmp_path / "running")
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_failed_write_leaves_no_part_of_a_file(models, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        models[ConcreteKMeans].save(tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())
