"""
Tables from two instruments
===========================

Rows of 64 sensor readings come from two instruments of one make. The channels of the second have
other gains and offsets, and it has been used on other samples: no class is in both tables. The
readings here are the pixels of scikit-learn's digits, taken as a table; gains, offsets and noise
are drawn.
"""

# License: BSD-3-Clause

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.pipeline import make_domain_pipeline

# %%
# Classes 0 to 4 were measured by the first instrument and labelled, classes 5 to 9 by the second.

rng = np.random.default_rng(0)
readings, y = load_digits(return_X_y=True)
readings = readings + rng.normal(scale=1.0, size=readings.shape)  # both instruments are noisy
is_source = y < 5
names = [f"channel_{i:02}" for i in range(64)]
X_src, y_src = pd.DataFrame(readings[is_source], columns=names), y[is_source]

gains = rng.uniform(0.5, 1.5, size=64)
offsets = rng.normal(scale=4.0, size=64)
X_tgt, y_tgt = pd.DataFrame(readings[~is_source] * gains + offsets, columns=names), y[~is_source]
print("source", X_src.shape, "target", X_tgt.shape)

# %%
# Scale each domain for itself?
# -----------------------------
#
# A ``StandardScaler`` that sees both tables at once leaves the offsets where they are, as a
# difference between the domains. Scaling each table by its own means and deviations takes gains and
# offsets away, as long as a channel's mean and spread come from the instrument and not from the
# classes. The classes differ here, so that this is right in part only. Both are tried below:
# a pipeline whose steps see both domains, and tables that were scaled one by one.

settings = {"n_clusters": 5, "pretrain_epochs": 20, "max_epochs": 40, "random_state": 0}


def scaled(X):
    """Scale a table by itself."""
    return StandardScaler().set_output(transform="pandas").fit_transform(X)


labels = {
    "k-means, target alone": KMeans(5, n_init=20, random_state=0).fit_predict(scaled(X_tgt)),
    "ConcreteKMeans, target alone": ConcreteKMeans(**settings).fit_predict(scaled(X_tgt)),
}

adapter = CKMDomainAdapter(**settings)
adapter.fit(scaled(X_src), y_src, X_tgt=scaled(X_tgt))
labels["CKMDomainAdapter, each scaled by itself"] = adapter.labels_

pipeline = make_domain_pipeline(
    StandardScaler().set_output(transform="pandas"), CKMDomainAdapter(**settings)
)
pipeline.fit(X_src, y_src, X_tgt=X_tgt)
labels["CKMDomainAdapter, scaled together"] = pipeline.predict(X_tgt)

# %%
# The labels of the target serve to see how well the clusters match the classes.

for name, clusters in labels.items():
    print(f"{name:42}{clustering_accuracy(y_tgt, clusters):.3f}")
