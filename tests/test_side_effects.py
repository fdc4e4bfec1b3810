"""What a fit must leave as it was, whether it ends well or not; and what decides its result."""

import copy
import pickle
import random
import signal
import warnings

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_array_equal
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.objectives import ConcreteKMeansObjective

SMALL = {
    "n_clusters": 2,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 3,
    "max_epochs": 3,
    "random_state": 0,
}

X, Y = make_blobs(n_samples=100, centers=8 * np.eye(5), random_state=0)
TAGS = np.where(Y < 3, 0, -1)
ADAPTERS = (CKMDomainAdapter, CKMSemiSupervisedAdapter)


def fit(model, X=X, y=Y, tags=TAGS):
    if isinstance(model, ADAPTERS):
        return model.fit(X, y, sample_domain=tags)
    return model.fit(X[tags < 0])


def assert_same_model(first, second):
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    assert first.history_ == second.history_


@pytest.fixture(params=[ConcreteKMeans, *ADAPTERS], ids=lambda cls: cls.__name__)
def make(request):
    """A function that makes an estimator of one class."""
    return lambda **params: request.param(**{**SMALL, **params})


class FailsIn(Callback):
    """Raises at the end of the first epoch of a phase."""

    def __init__(self, phase, error):
        self.phase = phase
        self.error = error

    def on_epoch_end(self, net, **kwargs):
        if net.phase == self.phase:
            raise self.error


class Failure(Exception):
    pass


ENDINGS = {
    "ends well": (None, None),
    "fails in pretraining": ("pretrain", Failure("as planned")),
    "fails in fine-tuning": ("finetune", Failure("as planned")),
    "is interrupted": ("pretrain", KeyboardInterrupt("as planned")),
}


@pytest.fixture(params=ENDINGS.values(), ids=ENDINGS)
def end(request):
    """A function that fits a model, with a callback that may end the fit before its time."""
    phase, error = request.param

    def run(model, *args, **kwargs):
        if phase is None:
            return fit(model, *args, **kwargs)
        model.set_params(callbacks=[*(model.callbacks or []), FailsIn(phase, error)])
        with pytest.raises(type(error), match="as planned"):
            fit(model, *args, **kwargs)
        return model

    return run


# global state -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _torch_is_loaded():
    """Torch imports parts of itself, and sympy with its warning filter, at the first step."""
    weight = torch.zeros(1, requires_grad=True)
    torch.optim.Adam([weight]).step()


def global_state():
    return {
        "python random state": random.getstate(),
        "numpy random state": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "torch random state": torch.get_rng_state().tolist(),
        "torch default dtype": torch.get_default_dtype(),
        "torch threads": torch.get_num_threads(),
        "torch gradients": torch.is_grad_enabled(),
        "torch inference": torch.is_inference_mode_enabled(),
        "torch determinism": torch.are_deterministic_algorithms_enabled(),
        "torch autocast": torch.is_autocast_enabled("cpu"),
        "scikit-learn configuration": sklearn.get_config(),
        "numpy error handling": np.geterr(),
        "interrupts": signal.getsignal(signal.SIGINT),
        "warning filters": list(warnings.filters),
    }


# Without a seed a small model may end with a poor centre; so may one of another seed.
ANY_SEED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@ANY_SEED
@pytest.mark.parametrize("params", [{}, {"n_init": 2}, {"precision": "bfloat16"}, {"verbose": 1}])
@pytest.mark.parametrize("seed", [0, None])
def test_fit_leaves_the_global_state(make, end, params, seed):
    before = global_state()
    end(make(random_state=seed, **params))
    assert global_state() == before


def test_answers_leave_the_global_state(make):
    model = fit(make())
    before = global_state()
    model.predict(X), model.predict_proba(X), model.transform(X), model.score(X, Y)
    assert global_state() == before


@ANY_SEED
@pytest.mark.parametrize(
    "set_globally",
    [
        lambda: torch.manual_seed(7),
        lambda: np.random.seed(7),  # noqa: NPY002
        lambda: random.seed(7),
    ],
    ids=["torch", "numpy", "random"],
)
@pytest.mark.parametrize("seed", [0, None])
def test_global_seeds_decide_nothing(make, set_globally, seed):
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        models = []
        for _ in range(2):
            set_globally()
            models.append(fit(make(random_state=seed)))
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
    if seed is None:
        assert not np.array_equal(models[0].cluster_centers_, models[1].cluster_centers_)
    else:
        assert_same_model(*models)


def test_default_dtype_of_torch_decides_nothing(make):
    expected = fit(make())
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = fit(make())
    finally:
        torch.set_default_dtype(before)
    assert_same_model(model, expected)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradient_mode_of_torch_decides_nothing(make, context):
    expected = fit(make())
    with context():
        model = fit(make())
        labels = model.predict(X)
    assert_same_model(model, expected)
    assert_array_equal(labels, expected.predict(X))


def test_default_device_of_torch_decides_nothing(make):
    expected = fit(make())
    torch.set_default_device("meta")
    try:
        model = pickle.loads(pickle.dumps(fit(make())))
        labels = model.predict(X)
    finally:
        torch.set_default_device(None)
    assert_same_model(model, expected)
    assert_array_equal(labels, expected.predict(X))


def test_surrounding_autocast_decides_nothing(make):
    expected = fit(make())
    with torch.autocast("cpu", torch.bfloat16):
        model = fit(make())
        labels = model.predict(X)
    assert_same_model(model, expected)
    assert_array_equal(labels, expected.predict(X))


def test_augmentation_may_draw_from_the_global_state(make):
    state = torch.get_rng_state()
    models = [fit(make(augmentation=lambda x, generator: x + torch.rand_like(x))) for _ in "12"]
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_model(*models)


# arguments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fit_leaves_its_arguments(make, end, dtype):
    rows = (16 * X).clip(0, 255).astype(dtype)
    y, tags = Y.astype(object), TAGS.copy()
    copies = rows.copy(), y.copy(), tags.copy()
    end(make(image_shape=(1, 1, 5)), rows, y, tags)
    for argument, before in zip((rows, y, tags), copies, strict=True):
        assert argument.dtype == before.dtype
        assert_array_equal(argument, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fit_leaves_tensors(make, dtype):
    rows = torch.from_numpy((16 * X).clip(0, 255)).to(dtype)
    before = rows.clone()
    model = make(image_shape=(1, 1, 5))
    fit(model, rows)
    model.transform(rows)
    assert torch.equal(rows, before)


def test_read_only_arguments_are_enough(make):
    rows, y, tags = X.copy(), Y.copy(), TAGS.copy()
    for argument in (rows, y, tags):
        argument.flags.writeable = False
    model = fit(make(), rows, y, tags)
    assert_same_model(model, fit(make()))
    assert_array_equal(model.transform(rows), model.transform(X))


def test_answers_leave_their_arguments(make):
    model, rows = fit(make()), X.astype(np.float32)
    before = rows.copy()
    model.predict(rows), model.predict_proba(rows), model.transform(rows), model.score(rows, Y)
    assert_array_equal(rows, before)


def test_changing_an_answer_changes_no_later_one(make):
    model = fit(make())
    z, labels, centers = model.transform(X), model.predict(X), model.cluster_centers_.copy()
    model.cluster_centers_ += 5
    model.labels_ += 5
    model.transform(X)[:] = 0
    assert_array_equal(model.transform(X), z)
    assert_array_equal(model.predict(X), labels)
    assert not np.array_equal(model.cluster_centers_, centers)


class Stateful(Callback):
    def __init__(self):
        self.n_calls = 0
        self.losses = []

    def on_epoch_end(self, net, **kwargs):
        self.n_calls += 1
        self.losses.append(net.history[-1]["loss"])


@pytest.mark.parametrize("n_init", [1, 2])
def test_fit_leaves_parameters_callbacks_and_objective(make, end, n_init):
    callback, objective = Stateful(), ConcreteKMeansObjective(relaxation=(1.0, 0.5))
    state = copy.deepcopy((vars(callback), vars(objective)))
    model = make(callbacks=[callback], objective=objective, n_init=n_init, device="cpu")
    before = model.get_params(deep=False)
    end(model)
    after = model.get_params(deep=False)
    if len(after["callbacks"]) > 1:  # the one that ended the fit
        before.pop("callbacks"), after.pop("callbacks")
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert (vars(callback), vars(objective)) == state


# a fit that did not end -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "error"),
    [
        ("pretrain", Failure("as planned")),
        ("finetune", Failure("as planned")),
        ("pretrain", KeyboardInterrupt("as planned")),
    ],
)
def test_estimator_whose_fit_failed_is_not_fitted(make, error, phase):
    model = make(callbacks=[FailsIn(phase, error)])
    with pytest.raises(type(error), match="as planned"):
        fit(model)
    for method in (model.predict, model.predict_proba, model.transform):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            method(X)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        model.score(X, Y)


def test_refit_that_failed_keeps_the_last_model(make):
    model = fit(make())
    answers = model.predict(X), model.transform(X), model.labels_, model.cluster_centers_
    model.set_params(callbacks=[FailsIn("finetune", Failure("as planned"))], random_state=1)
    with pytest.raises(Failure):
        fit(model, 2 * X + 1)
    assert_array_equal(model.predict(X), answers[0])
    assert_array_equal(model.transform(X), answers[1])
    assert_array_equal(model.labels_, answers[2])
    assert_array_equal(model.cluster_centers_, answers[3])


def test_warm_start_that_failed_keeps_the_last_model(make):
    model = fit(make(warm_start=True))
    z = model.transform(X)
    model.set_params(callbacks=[FailsIn("finetune", Failure("as planned"))])
    with pytest.raises(Failure):
        fit(model)
    assert_array_equal(model.transform(X), z)


# what decides the result ------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"n_init": 2}, {"batch_size": 16}, {"max_epochs": 0}])
def test_same_seed_gives_the_same_bits(make, params):
    first, second = fit(make(**params)), fit(make(**params))
    assert_same_model(first, second)
    assert_array_equal(first.transform(X), second.transform(X))
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_same_estimator_fitted_twice_gives_the_same_bits(make):
    model = fit(make())
    first = copy.deepcopy(model)
    assert_same_model(fit(model), first)


@ANY_SEED
def test_other_seeds_give_other_models(make):
    first, second = fit(make(random_state=0)), fit(make(random_state=1))
    assert first.history_[0] != second.history_[0]
    assert not np.array_equal(first.cluster_centers_, second.cluster_centers_)


@ANY_SEED
def test_no_seed_gives_another_model_each_time(make):
    first, second = fit(make(random_state=None)), fit(make(random_state=None))
    assert first.history_[0] != second.history_[0]


@ANY_SEED
@pytest.mark.parametrize("as_int", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy_are_seeds(make, as_int):
    assert_same_model(fit(make(random_state=as_int(3))), fit(make(random_state=3)))


@ANY_SEED
def test_random_state_instance_is_used_and_moves_on(make):
    models = [fit(make(random_state=np.random.RandomState(3))) for _ in range(2)]
    assert_same_model(*models)
    state = np.random.RandomState(3)
    first, second = fit(make(random_state=state)), fit(make(random_state=state))
    assert_same_model(first, models[0])
    assert first.history_[0] != second.history_[0]
