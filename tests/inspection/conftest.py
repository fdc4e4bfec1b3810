"""A fitted model of each kind, fitted once, and pictures that are closed again."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.utils import stack_domains

SMALL = {"n_components": 3, "encoder": "mlp-small", "pretrain_epochs": 3, "random_state": 0}


@pytest.fixture(autouse=True)
def pyplot():
    """pyplot without a window, and without figures left open."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    yield plt
    plt.close("all")


@pytest.fixture
def without_matplotlib(monkeypatch):
    """As scikit-learn's own tests: an import of matplotlib fails."""
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)


class Data:
    """Four blobs: two are the labelled source, two the target."""

    X, y = make_blobs(80, centers=8 * np.eye(4), random_state=0)
    X_src, y_src = X[y < 2], np.array(["a", "b"])[y[y < 2]]
    X_tgt, y_tgt = X[y >= 2], np.array(["c", "d"])[y[y >= 2] - 2]
    X_stacked, y_stacked, sample_domain = stack_domains(X_src, y_src, X_tgt, y_tgt)


@pytest.fixture(scope="session")
def data():
    return Data


@pytest.fixture(scope="session")
def adapter(data):
    model = CKMDomainAdapter(2, max_epochs=2, **SMALL)
    return model.fit(data.X_src, data.y_src, X_tgt=data.X_tgt)


@pytest.fixture(scope="session")
def named(data):
    """Three centres, one of which has a name."""
    y_few = np.full(len(data.y_tgt), "-1")
    y_few[data.y_tgt == "c"] = "c"
    model = CKMSemiSupervisedAdapter(3, max_epochs=0, **SMALL)
    return model.fit(data.X_src, data.y_src, X_tgt=data.X_tgt, y_tgt=y_few)


@pytest.fixture(scope="session")
def counted(data):
    return ConcreteKMeans("auto", max_epochs=0, **SMALL).fit(data.X)


@pytest.fixture(scope="session")
def of_images(data):
    """Dark and bright images of 4x4 pixels."""
    rng = np.random.default_rng(0)
    images = rng.random((40, 1, 4, 4)) * 0.2 + 0.8 * (np.arange(40) % 2)[:, None, None, None]
    model = ConcreteKMeans(2, max_epochs=0, **SMALL).fit(images)
    return model, images


LONG_NAMES = [
    "a rather long name of a class with spaces in it",
    "Cyanobacteria_Prochlorococcus_marinus_subspecies",
    "x",
    "left-ventricular hypertrophy with secondary repolarisation abnormality",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
]


@pytest.fixture
def assert_names_fit():
    """A function that looks whether all text of a figure is in it, and beside its neighbours."""

    def check(display):
        from matplotlib.text import Text

        figure, ax = display.figure_, display.ax_
        figure.draw_without_rendering()
        labels = {"x": ax.get_xticklabels(), "y": ax.get_yticklabels()}
        texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *labels["x"], *labels["y"]]
        for text in filter(Text.get_text, texts):
            box = text.get_window_extent()
            assert min(box.x0, box.y0) >= 0, text
            assert box.x1 <= figure.bbox.x1, text
            assert box.y1 <= figure.bbox.y1, text
        for names in labels.values():
            boxes = [name.get_window_extent() for name in names if name.get_text()]
            for i, box in enumerate(boxes):
                assert not box.overlaps(ax.get_window_extent())
                assert not any(box.overlaps(other) for other in boxes[:i])

    return check


@pytest.fixture
def long_names():
    return LONG_NAMES
