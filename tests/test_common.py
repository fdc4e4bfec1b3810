"""scikit-learn's own checks of an estimator; none is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans

SMALL = {
    "n_components": 2,
    "encoder": "mlp-small",
    "pretrain_epochs": 2,
    "max_epochs": 2,
}

# The data of some checks hold fewer groups than n_clusters, and some give a classifier fewer
# clusters than classes; the estimators say both.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Expected n_clusters of at least:UserWarning"),
]


@parametrize_with_checks(
    [
        ConcreteKMeans(2, **SMALL),
        CKMDomainAdapter(2, **SMALL),
        CKMSemiSupervisedAdapter(**SMALL),
    ],
    expected_failed_checks=lambda _: {},
)
def test_small_estimator_passes_every_check(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [ConcreteKMeans(), CKMDomainAdapter(), CKMSemiSupervisedAdapter()],
    expected_failed_checks=lambda _: {},
)
def test_default_estimator_passes_every_check(estimator, check):
    check(estimator)
