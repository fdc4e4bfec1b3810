"""A network that learns the source's classes competes within one fit, on images."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_digits

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, _networks, load
from sklearn_ckm._training import _nets, _phases
from sklearn_ckm._training._divergence import DivergenceError
from sklearn_ckm.augmentation import TableAugmentation
from sklearn_ckm.datasets import keep_few_labels

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS = load_digits()
IMAGES = (DIGITS.images[:, None] / 16).astype(np.float32)
RNG = np.random.default_rng(0)
SOURCE = RNG.permutation(np.flatnonzero(DIGITS.target < 3))[:90]
TARGET = RNG.permutation(np.flatnonzero(DIGITS.target > 6))[:120]
X_SRC, Y_SRC = IMAGES[SOURCE], DIGITS.target[SOURCE]
X_TGT, Y_TGT = IMAGES[TARGET], DIGITS.target[TARGET]
Y_FEW = keep_few_labels(Y_TGT, 2, random_state=0)
SMALL = {
    "n_components": 4,
    "encoder": "mlp-small",
    "pretrain_epochs": 2,
    "max_epochs": 4,
    "batch_size": 64,
    "tol": 0.0,
    "random_state": 0,
}
CLASSES = {"pretraining": "classification", "init": "whitened-k-means"}
NOISE = RNG.uniform(size=(90, 1, 8, 8)).astype(np.float32)  # labels that cannot be learned


def make_adapter(X_src=X_SRC, y_src=Y_SRC, X_tgt=X_TGT, **params):
    model = CKMDomainAdapter(**{**SMALL, "n_clusters": 3, **params})
    return model.fit(X_src, y_src, X_tgt=X_tgt)


def make_few_label_adapter(X_src=X_SRC, y_src=Y_SRC, X_tgt=X_TGT, **params):
    model = CKMSemiSupervisedAdapter(**{**SMALL, "pretraining": "auto", **params})
    return model.fit(X_src, y_src, X_tgt=X_tgt, y_tgt=Y_FEW)


KINDS = make_adapter, make_few_label_adapter


def assert_same_fit(first, second):
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    assert first.history_ == second.history_
    for name in ("init_", "pretraining_", "source_in_pretraining_", "temperature_"):
        assert getattr(first, name) == getattr(second, name)


def left(model):
    epoch = model.history_[SMALL["pretrain_epochs"] + SMALL["max_epochs"] // 2]
    terms = "consistency", "balance", "source_consistency", "source_balance", "kshot"
    return sum(epoch.get(term, 0.0) for term in terms)


@pytest.fixture
def pretrained(monkeypatch):
    """What the pretrainings of a fit learn, as they begin."""
    seen = []

    def pretrain(*args, **kwargs):
        learns_classes = kwargs.get("criterion") is not None
        seen.append("classes" if learns_classes else kwargs["has_source"])
        return _phases.pretrain(*args, **kwargs)

    monkeypatch.setattr(_networks, "pretrain", pretrain)
    return seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", [(X_SRC, Y_SRC), (NOISE, np.arange(90) % 2)], ids=["3", "noise"])
def test_fit_is_that_of_the_network_with_least_left(kind, source):
    reconstructs = {"pretraining": "reconstruction"}
    rivals = [kind(*source, **reconstructs, source_in_pretraining=True), kind(*source, **CLASSES)]
    if kind is make_adapter:  # where names place the centres, there is no doubt
        alone = {"source_in_pretraining": False, "init": "whitened-k-means"}
        rivals.append(kind(*source, **reconstructs, **alone))
    model = kind(*source)
    best = rivals[int(np.argmin([left(rival) for rival in rivals]))]
    assert_same_fit(model, best)
    assert model.pretraining_ == best.pretraining


ONE_NETWORK, WITHOUT_SOURCE = [True], [True, False]
WITH_CLASSES, WITH_BOTH = [True, "classes"], [True, "classes", False]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, WITH_BOTH),
        ({"source_in_pretraining": True}, WITH_CLASSES),
        ({"n_init": 2}, 2 * WITH_BOTH),
        ({"n_clusters": "auto", "max_epochs": 1}, WITH_BOTH),
        ({"pretraining": "reconstruction"}, WITHOUT_SOURCE),
        ({"pretraining": "classification"}, ["classes"]),
        ({"source_in_pretraining": False}, [False]),
        ({"source_in_finetuning": False}, WITHOUT_SOURCE),
        ({"lambda_classification": 0.0, "lambda_source": 0.0}, WITHOUT_SOURCE),
        ({"lambda_classification": 0.0}, WITH_BOTH),
        ({"lambda_source": 0.0}, WITH_BOTH),
        ({"augmentation": TableAugmentation()}, WITHOUT_SOURCE),
        ({"augmentation": None}, ONE_NETWORK),
        ({"init": "k-means"}, ONE_NETWORK),
        ({"max_epochs": 0}, ONE_NETWORK),
        ({"n_clusters": 1}, ONE_NETWORK),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The estimate of n_clusters:UserWarning")
def test_networks_that_are_pretrained(params, expected, pretrained):
    make_adapter(**params)
    assert pretrained == expected


@pytest.mark.parametrize(
    "y_src",
    [None, np.zeros(90), np.where(np.arange(90) < 9, 1.0, np.nan)],
    ids=["none", "1", "few"],
)
def test_no_classes_to_tell_apart(y_src, pretrained):
    model = make_adapter(y_src=y_src)
    assert pretrained == WITHOUT_SOURCE
    assert all("source_balance" not in record for record in model.history_)


def test_no_classes_are_learned_on_tables(pretrained):
    tables = {"X_src": X_SRC.reshape(90, -1), "X_tgt": X_TGT.reshape(120, -1)}
    make_adapter(**tables)
    assert pretrained == WITHOUT_SOURCE
    pretrained.clear()
    make_adapter(**tables, image_shape=(1, 8, 8))
    assert pretrained == WITH_BOTH


def test_classes_are_asked_where_the_first_network_leaves_no_doubt(pretrained):
    bright = X_TGT[:40] / 20 + np.float32(0.9) * (np.arange(40) % 2)[:, None, None, None]
    kwargs = {"X_tgt": bright.astype(np.float32), "n_clusters": 2}
    make_adapter(**kwargs, pretraining="reconstruction")
    assert pretrained == ONE_NETWORK
    pretrained.clear()
    make_adapter(**kwargs)
    assert pretrained == WITH_CLASSES


def test_network_of_classes_that_diverges_does_not_compete(monkeypatch):
    def pretrain(*args, **kwargs):
        if kwargs.get("criterion") is not None:
            raise DivergenceError("Too far.")
        return _phases.pretrain(*args, **kwargs)

    one = make_adapter(pretraining="reconstruction")
    monkeypatch.setattr(_networks, "pretrain", pretrain)
    assert_same_fit(make_adapter(), one)


def classes_win(**params):
    """A fit in which they do."""
    for seed in range(20):
        model = make_adapter(random_state=seed, **params)
        if model.pretraining_ == "classification":
            return model
    return pytest.fail("never won")


def test_fit_in_which_classes_win_is_that_of_their_network():
    model = classes_win()
    seed = model.random_state
    assert left(model) < left(make_adapter(pretraining="reconstruction", random_state=seed))
    assert_same_fit(model, make_adapter(**CLASSES, random_state=seed))


def test_warm_start_goes_on_as_the_network_was_pretrained(pretrained):
    model = classes_win()
    temperature = model.temperature_
    pretrained.clear()
    model.set_params(warm_start=True).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert pretrained == []
    assert (model.pretraining_, model.temperature_) == ("classification", temperature)
    assert all("reconstruction" not in record for record in model.history_)
    again = make_adapter(pretraining="reconstruction", source_in_pretraining=True)
    again.set_params(pretraining="auto", warm_start=True).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert all("reconstruction" in record for record in again.history_)


def test_warm_starts_tell_what_the_network_follows():
    model = make_adapter(pretraining="classification", warm_start=True)
    for given, expected in [
        ("auto", "classification"),
        ("reconstruction", "reconstruction"),
        ("auto", "reconstruction"),
        ("classification", "classification"),
        ("auto", "classification"),
    ]:
        model.set_params(pretraining=given).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
        assert model.pretraining_ == expected
        reconstructs = {"reconstruction" in record for record in model.history_}
        assert reconstructs == {expected == "reconstruction"}


def test_fit_without_a_source_forgets_what_one_taught():
    model = make_adapter(pretraining="classification")
    model.set_params(pretraining="auto").fit(X_TGT)
    assert not hasattr(model, "pretraining_")
    assert not hasattr(model, "source_in_pretraining_")
    model.set_params(warm_start=True).fit(X_TGT)
    assert all("reconstruction" in record for record in model.history_)


def test_network_of_classes_that_wins_is_kept_and_saved(tmp_path):
    model = classes_win(memory=str(tmp_path / "cache"))
    same = make_adapter(random_state=model.random_state, memory=str(tmp_path / "cache"))
    assert_same_fit(same, model)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.pretraining_ == "classification"
    assert_array_equal(loaded.predict(X_TGT), model.labels_)


def test_network_of_classes_is_told_of(capsys):
    seed = classes_win().random_state
    capsys.readouterr()
    make_adapter(random_state=seed, verbose=2)
    told = [t for t in capsys.readouterr().out.splitlines() if t.startswith("Going on")]
    assert len(told) == 3
    for line in told[1:]:
        assert line.startswith(
            "Going on from whitened-k-means in the network of the source's class"
        )


def test_views_that_cannot_be_hashed_raise_before_any_training(tmp_path, monkeypatch):
    class Views:
        def __init__(self):
            self.file = open(__file__)  # noqa: SIM115

        def __deepcopy__(self, memo):
            return self

        def __call__(self, x, generator):
            return x

    views = Views()
    trained = []
    monkeypatch.setattr(_networks, "cached_pretraining", lambda *a, **k: trained.append(a))
    kwargs = {"augmentation": views, "memory": str(tmp_path)}
    with views.file:
        with pytest.raises(ValueError, match=r"\(augmentation\) that can be hashed when 'mem"):
            make_adapter(**kwargs)
        assert trained == []
        monkeypatch.undo()
        for fewer in ({"pretraining": "reconstruction"}, {"init": "k-means"}, {"max_epochs": 0}):
            make_adapter(**kwargs, **fewer)  # no network of classes


class Broken(Exception):
    pass


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.95])
def test_broken_fit_goes_on(share, tmp_path, monkeypatch):
    done, last = [], None
    epoch = _nets.PhaseNet.on_epoch_end

    def breaking(self, *args, **kwargs):
        epoch(self, *args, **kwargs)
        done.append(self)
        if len(done) == last:
            raise Broken

    monkeypatch.setattr(_nets.PhaseNet, "on_epoch_end", breaking)
    whole = make_adapter()
    n_epochs, last = len(done), 1 + int(share * len(done))
    assert n_epochs > 2 * (SMALL["pretrain_epochs"] + 3)  # of both networks
    done.clear()
    with pytest.raises(Broken):
        make_adapter(checkpoint=tmp_path)
    assert_same_fit(make_adapter(checkpoint=tmp_path), whole)
    assert len(done) == n_epochs + 1  # an epoch that breaks is made again
    assert not list(tmp_path.iterdir())
