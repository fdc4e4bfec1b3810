"""scikit-learn's own checks of an estimator; none is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans

SMALL = {
    "n_clusters": 2,
    "n_components": 2,
    "encoder": "mlp-small",
    "pretrain_epochs": 2,
    "max_epochs": 2,
}

# The data of some checks hold fewer groups than n_clusters, which the estimators say.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks(
    [ConcreteKMeans(**SMALL), CKMDomainAdapter(**SMALL)], expected_failed_checks=lambda _: {}
)
def test_small_estimator_passes_every_check(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [ConcreteKMeans(), CKMDomainAdapter()], expected_failed_checks=lambda _: {}
)
def test_default_estimator_passes_every_check(estimator, check):
    check(estimator)
