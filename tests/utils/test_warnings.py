import subprocess
import sys

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import ConcreteKMeans
from sklearn_ckm.utils._warnings import warn_user

POINT = np.repeat(np.random.default_rng(0).normal(size=(1, 3)), 40, axis=0)
SETTINGS = {"n_components": 2, "encoder": "mlp-small", "pretrain_epochs": 1, "max_epochs": 1}
COLLAPSING = ConcreteKMeans(2, **SETTINGS, random_state=0)
GRID = {"concretekmeans__lambda_clustering": [0.1, 0.2]}
CALLS = {
    "fit": COLLAPSING.fit,
    "fit_predict": COLLAPSING.fit_predict,
    "fit_transform": COLLAPSING.fit_transform,
    "a Pipeline": make_pipeline(StandardScaler(), COLLAPSING).fit,
    "a search": GridSearchCV(make_pipeline(StandardScaler(), COLLAPSING), GRID, cv=2).fit,
}


@pytest.mark.parametrize("call", CALLS)
def test_warning_points_at_the_line_of_the_user(call):
    with pytest.warns(ConvergenceWarning, match="centres that cannot be trusted") as caught:
        CALLS[call](POINT)
    assert {warning.filename for warning in caught} == {__file__}


def test_warning_of_a_process_points_into_the_package():
    code = f"""
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn_ckm import ConcreteKMeans
model = ConcreteKMeans(2, **{SETTINGS}, random_state=0)
search = GridSearchCV(model, {{"lambda_clustering": [0.1, 0.2]}}, cv=2, n_jobs=2, refit=False)
search.fit(np.ones((40, 3)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    places = [line for line in run.stderr.splitlines() if "ConvergenceWarning" in line]
    assert places
    assert all("sklearn_ckm" in place.split(":")[0] for place in places)


def test_category_and_message_are_kept():
    with pytest.warns(DeprecationWarning, match="^Soon gone.$") as caught:
        warn_user("Soon gone.", DeprecationWarning)
    assert caught[0].filename == __file__


def test_library_of_a_like_name_is_not_passed_over():
    namespace = {"__name__": "torchlike.module", "warn_user": warn_user}
    code = compile("def call():\n    warn_user('Here.')", "torchlike.py", "exec")
    exec(code, namespace)
    with pytest.warns(UserWarning, match="Here") as caught:
        namespace["call"]()
    assert (caught[0].filename, caught[0].lineno) == ("torchlike.py", 2)
