"""
Tables from two instruments
===========================

Rows of 64 sensor readings come from two instruments of one make. The channels of the second have
other gains and offsets, and it has been used on other samples: no class is in both tables. The
readings here are the pixels of scikit-learn's digits, taken as a table; gains, offsets and noise
are drawn.
"""

# License: BSD-3-Clause

import matplotlib.pyplot as plt
import numpy as np
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
X_src, y_src = readings[is_source], y[is_source]

gains = rng.uniform(0.5, 1.5, size=64)
offsets = rng.normal(scale=4.0, size=64)
X_tgt, y_tgt = readings[~is_source] * gains + offsets, y[~is_source]
print("source", X_src.shape, "target", X_tgt.shape)

figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
axes.plot(X_src.mean(axis=0), "o-", color="#0072B2", markersize=4, label="instrument 1")
axes.plot(X_tgt.mean(axis=0), "s--", color="#D55E00", markersize=4, label="instrument 2")
axes.set(xlabel="channel", ylabel="mean reading")
axes.legend()
plt.show()

# %%
# Scale each domain for itself?
# -----------------------------
#
# A ``StandardScaler`` that sees both tables at once leaves the offsets where they are, as a
# difference between the domains. Scaling each table by its own means and deviations takes gains and
# offsets away, as far as a channel's mean and spread come from the instrument and not from the
# classes. Here the classes differ too, so that neither is right. Both are tried: tables that are
# scaled one by one, and a pipeline whose steps see both domains.

settings = {"n_clusters": 5, "pretrain_epochs": 20, "max_epochs": 40, "random_state": 0}
Z_src, Z_tgt = StandardScaler().fit_transform(X_src), StandardScaler().fit_transform(X_tgt)

labels = {
    "k-means, target alone": KMeans(5, n_init=20, random_state=0).fit_predict(Z_tgt),
    "ConcreteKMeans, target alone": ConcreteKMeans(**settings).fit_predict(Z_tgt),
}

adapter = CKMDomainAdapter(**settings).fit(Z_src, y_src, X_tgt=Z_tgt)
labels["CKMDomainAdapter, each scaled by itself"] = adapter.labels_

pipeline = make_domain_pipeline(StandardScaler(), CKMDomainAdapter(**settings))
pipeline.fit(X_src, y_src, X_tgt=X_tgt)
labels["CKMDomainAdapter, scaled together"] = pipeline.predict(X_tgt)

# %%
# The labels of the target serve to see how well the clusters match the classes.

for name, clusters in labels.items():
    print(f"{name:42}{clustering_accuracy(y_tgt, clusters):.3f}")

# %%
# Deep clustering gains much over k-means on these noisy readings. The source does not: in this run
# the target alone is best, whichever way the source is scaled, and one run cannot tell more. Nor
# would a user without labels see these numbers. What can be done without: fit the target alone as
# well, and compare by the criteria of :doc:`/choosing_settings`.
