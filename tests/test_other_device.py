"""Whole fits on a device that is not the CPU, emulated: same answers, few readings, kept models."""

import copy
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from _emulated_device import NAME, EmulatedTensor
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from torch import nn

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans, load
from sklearn_ckm._training._nets import PhaseNet
from sklearn_ckm.domain_adaptation import (
    CommonFactorClassifier,
    DomainAdversarialClusterer,
    LabelEfficientTransfer,
    ProgressiveClusterer,
)
from sklearn_ckm.inspection import ClusterSheetDisplay, EmbeddingDisplay, cluster_report
from sklearn_ckm.persistence import to_exported_program

pytestmark = [
    pytest.mark.usefixtures("emulated"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

TABLE, Y = make_blobs(n_samples=90, centers=8 * np.eye(5), random_state=0)
TABLE = TABLE.astype(np.float32)
NAMES = np.array(list("abcde"))
IMAGES, DIGITS = load_digits(return_X_y=True)
IS_USED = DIGITS < 5
IMAGES = IMAGES[IS_USED][:90].reshape(-1, 1, 8, 8).astype(np.float32) / 16
DIGITS = DIGITS[IS_USED][:90]
SETTINGS = {
    "n_components": 3,
    "pretrain_epochs": 2,
    "max_epochs": 2,
    "batch_size": 16,
    "random_state": 0,
    "device": NAME,
}


def fit(estimator, X=TABLE, y=Y):
    is_target = y > 2
    if isinstance(estimator, ConcreteKMeans):
        return estimator.fit(X[is_target])
    return estimator.fit(X, NAMES[y], sample_domain=np.where(is_target, -1, 0))


def network(model):
    return model._net.module_


def assert_on_device(model):
    assert {tensor.device.type for tensor in network(model).state_dict().values()} == {NAME}


def assert_answers_as(model, other, X=TABLE):
    """The devices compute alike but for the blocks that rows are passed in."""
    assert_array_equal(model.predict(X), other.predict(X))
    z = other.transform(X)
    assert_allclose(model.transform(X), z, atol=2e-3 * np.abs(z).max())


# the device itself --------------------------------------------------------------------------------


def test_tensors_of_two_devices_do_not_mix(emulated):
    ours = torch.ones(3, device=emulated)
    assert ours.device.type == NAME
    assert (ours + 1).cpu().tolist() == [2, 2, 2]
    assert (ours + torch.tensor(1.0)).device.type == NAME  # a scalar of the CPU is none
    for operation in (torch.add, torch.dot, torch.nn.functional.mse_loss):
        with pytest.raises(RuntimeError, match="same device"):
            operation(ours, torch.ones(3))
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3).add_(ours)
    with pytest.raises(TypeError, match="can't convert"):
        ours.numpy()
    with pytest.raises(TypeError, match="can't convert"):
        np.asarray(ours)


def test_draws_need_a_generator_of_the_device(emulated):
    def draw(where, seed=0):
        generator = torch.Generator(device=where).manual_seed(seed)
        return torch.rand(3, generator=generator, device=emulated).tolist()

    assert draw(emulated) == draw(emulated) != draw(emulated, 1)
    with pytest.raises(RuntimeError, match="generator of the device"):
        draw("cpu")


def test_readings_are_counted(emulated):
    x, before = torch.ones(3, device=emulated), EmulatedTensor.n_readings
    _ = (x * 2).sum() + x[1:].max()
    assert EmulatedTensor.n_readings == before
    x.sum().item(), x.cpu(), x.tolist(), bool(x[0] > 0)
    assert EmulatedTensor.n_readings == before + 4


def test_layers_train_and_autocast_lowers_their_precision(emulated):
    layer, x = nn.Linear(2, 1).to(emulated), torch.ones(4, 2, device=emulated)
    with torch.autocast(NAME, dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        assert x.exp().dtype == torch.float32
    before = layer.weight.detach().cpu()
    layer(x).sum().backward()
    assert layer.weight.grad.tolist() == [[4, 4]]
    torch.optim.SGD(layer.parameters(), lr=0.5).step()
    assert_allclose(layer.weight.detach().cpu(), before - 2)


# fits ---------------------------------------------------------------------------------------------

CASES = {
    "clustering": lambda: ConcreteKMeans(2, **SETTINGS),
    "adapter": lambda: CKMDomainAdapter(2, **SETTINGS),
    "few labels": lambda: CKMSemiSupervisedAdapter(**SETTINGS),
    "adversarial": lambda: DomainAdversarialClusterer(2, **SETTINGS),
    "progressive": lambda: ProgressiveClusterer(2, **SETTINGS),
    "transfer": lambda: LabelEfficientTransfer(**SETTINGS),
    "factors": lambda: CommonFactorClassifier(**SETTINGS),
    "dec": lambda: CKMDomainAdapter(2, objective="dec", **SETTINGS),
    "dcn": lambda: CKMDomainAdapter(2, objective="dcn", **SETTINGS),
    "soft-kmeans": lambda: CKMDomainAdapter(2, objective="soft-kmeans", **SETTINGS),
    "no views": lambda: CKMDomainAdapter(2, augmentation=None, **SETTINGS),
    "sgd": lambda: CKMDomainAdapter(2, optimizer="sgd", **SETTINGS),
    "starts": lambda: CKMDomainAdapter(2, n_init=2, **SETTINGS),
    "counted": lambda: CKMDomainAdapter("auto", **SETTINGS),
}


@pytest.mark.parametrize("name", CASES)
def test_fit_equals_that_on_the_cpu(name):
    model = fit(CASES[name]())
    assert_on_device(model)
    on_cpu = fit(CASES[name]().set_params(device="cpu"))
    assert_answers_as(model, on_cpu)
    assert {kept for kept, value in vars(model).items() if isinstance(value, torch.Tensor)} == set()
    for record, other in zip(model.history_, on_cpu.history_, strict=True):
        assert record.keys() == other.keys()
        assert record["loss"] == pytest.approx(other["loss"], rel=2e-2, abs=1e-3)
    if hasattr(model, "predict_proba"):
        assert_allclose(model.predict_proba(TABLE).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("encoder", ["auto", "mlp-small"])
def test_images_and_their_views_stay_on_the_device(encoder):
    model = fit(CKMDomainAdapter(2, encoder=encoder, **SETTINGS), IMAGES, DIGITS)
    assert_on_device(model)
    color = np.repeat(IMAGES, 3, axis=1)
    model = fit(CKMDomainAdapter(2, encoder=encoder, **SETTINGS), color, DIGITS)
    assert model.predict(color).shape == DIGITS.shape
    as_bytes = (255 * IMAGES).astype(np.uint8)
    model = fit(ConcreteKMeans("auto", encoder=encoder, **SETTINGS), as_bytes, DIGITS)
    ClusterSheetDisplay.from_estimator(model, as_bytes)


def test_bfloat16():
    model = fit(CKMDomainAdapter(2, precision="bfloat16", **SETTINGS))
    assert_on_device(model)
    assert {tensor.dtype for tensor in network(model).parameters()} == {torch.float32}


class OwnEncoder(nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.2))
        self.register_buffer("shift", torch.ones(8))
        self.last = nn.Linear(8, n_components)

    def forward(self, x):
        return self.last(self.layers(x) - self.shift)


class OwnView(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.full((5,), 0.1))

    def forward(self, x, generator):
        return x + self.scale * torch.randn(x.shape, generator=generator, device=x.device)


def test_own_modules_are_moved():
    model = fit(CKMDomainAdapter(2, encoder=OwnEncoder, augmentation=OwnView(), **SETTINGS))
    assert_on_device(model)
    assert model.augmentation.scale.device.type == "cpu"  # the parameter is the user's


def test_equal_seeds_give_equal_fits():
    one, two = (fit(CKMDomainAdapter(2, **SETTINGS)) for _ in range(2))
    assert_array_equal(one.transform(TABLE), two.transform(TABLE))


@pytest.mark.parametrize("name", ["clustering", "adapter", "few labels", "dec", "no views"])
def test_readings_do_not_grow_with_the_batches(name):
    """A GPU is waited for once an epoch, not once a batch."""

    def n_readings(batch_size):
        before = EmulatedTensor.n_readings
        fit(CASES[name]().set_params(batch_size=batch_size))
        return EmulatedTensor.n_readings - before

    assert n_readings(batch_size=4) == n_readings(batch_size=16)


def test_warm_start_and_metrics_go_on_there():
    model = fit(CKMDomainAdapter(2, warm_start=True, **SETTINGS))
    model.set_params(max_epochs=1)
    assert_on_device(fit(model))
    assert np.isfinite(model.score(TABLE[Y > 2]))


def test_pretraining_is_kept_and_taken_from_disk(tmp_path):
    one, two = (fit(CKMDomainAdapter(2, memory=str(tmp_path), **SETTINGS)) for _ in range(2))
    assert_on_device(two)
    assert_array_equal(one.transform(TABLE), two.transform(TABLE))


def test_broken_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    model = CKMDomainAdapter(2, **SETTINGS).set_params(max_epochs=4)
    whole = fit(clone(model))
    model.set_params(checkpoint=tmp_path / "fit")
    end_of_epoch = PhaseNet.on_epoch_end

    def fail(net, *args, **kwargs):
        if net.phase == "finetune" and len(net.history) == 3:
            raise RuntimeError("the power is gone")
        end_of_epoch(net, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="the power is gone"):
        patch.setattr(PhaseNet, "on_epoch_end", fail)
        fit(clone(model))
    resumed = fit(clone(model))
    assert_on_device(resumed)
    assert_array_equal(resumed.transform(TABLE), whole.transform(TABLE))


# after the fit ------------------------------------------------------------------------------------


def test_report_and_pictures_read_it():
    model = fit(CKMDomainAdapter(2, **SETTINGS))
    assert "confidence" in str(cluster_report(model, TABLE[Y > 2]))
    EmbeddingDisplay.from_estimator(model, TABLE, sample_domain=np.where(Y > 2, -1, 0))


def test_exported_program_runs_on_the_cpu():
    model = fit(CKMDomainAdapter(2, **SETTINGS))
    answers = to_exported_program(model).module()(torch.from_numpy(TABLE))
    assert_array_equal(answers[0], model.predict(TABLE))
    assert_on_device(model)


def test_model_comes_back_to_its_device_and_goes_to_the_cpu(tmp_path):
    model = fit(CKMDomainAdapter(2, **SETTINGS))
    model.save(tmp_path / "saved")
    joblib.dump(model, tmp_path / "dumped")
    for copied in (
        load(tmp_path / "saved"),
        joblib.load(tmp_path / "dumped"),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
    ):
        assert_on_device(copied)
        assert_array_equal(copied.transform(TABLE), model.transform(TABLE))
    on_cpu = load(tmp_path / "saved", device="cpu")
    assert {tensor.device.type for tensor in network(on_cpu).state_dict().values()} == {"cpu"}
    assert_answers_as(on_cpu, model)
    on_cpu.save(tmp_path / "again")
    there = load(tmp_path / "again", device=NAME)
    assert_on_device(there)
    assert_array_equal(there.transform(TABLE), model.transform(TABLE))


WITHOUT_THE_DEVICE = """
import pickle, sys, warnings
from pathlib import Path
import numpy as np
from sklearn_ckm import load
folder, rows = sys.argv[1], np.load(sys.argv[1] + "/rows.npy")
for number, read in enumerate([
    lambda: load(folder + "/saved"), lambda: pickle.loads(Path(folder, "pickled").read_bytes())
]):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = read()
    assert ["does not exist here" in str(w.message) for w in caught] == [True], caught
    np.savez(f"{folder}/{number}.npz", labels=model.predict(rows), z=model.transform(rows))
"""


def test_model_answers_where_its_device_is_missing(tmp_path):
    model = fit(CKMDomainAdapter(2, **SETTINGS))
    model.save(tmp_path / "saved")
    (tmp_path / "pickled").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "rows.npy", TABLE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_DEVICE, str(tmp_path)], check=True, env=environment
    )
    for number in range(2):
        answers = np.load(tmp_path / f"{number}.npz")
        assert_array_equal(answers["labels"], model.predict(TABLE))
        assert_allclose(answers["z"], model.transform(TABLE), rtol=1e-3, atol=1e-4)
