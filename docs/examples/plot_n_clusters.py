"""
How many classes has the target?
================================

``n_clusters="auto"`` estimates the number. The estimate comes with the curves that it was read
from: look at these before you rely on it.
"""

# License: BSD-3-Clause

import matplotlib.pyplot as plt

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.datasets import load_digits_on_photos
from sklearn_ckm.inspection import NClustersDisplay
from sklearn_ckm.metrics import clustering_accuracy

# %%
# Two targets, one of three digits and one of six. Before the fit, each number of clusters from two
# on is tried in a fine-tuning of its own, so this takes several times as long as the fit.

targets = {"three classes": (5, 6, 7), "six classes": (4, 5, 6, 7, 8, 9)}
# one start, for speed: others compete after the counting, which they do not change
one_start = {"init": "k-means", "pretraining": "reconstruction", "source_in_pretraining": True}
settings = {"encoder": "mlp-small", "pretrain_epochs": 40, "random_state": 0, **one_start}
models = {}
for name, digits in targets.items():
    data = load_digits_on_photos(source_classes=(0, 1, 2, 3), target_classes=digits)
    model = CKMDomainAdapter("auto", max_epochs=20, **settings)
    models[name] = model.fit(data.X_src, data.y_src, X_tgt=data.X_tgt)
    accuracy = clustering_accuracy(data.y_tgt, model.labels_)
    print(f"{name}: the estimate is {model.n_clusters_}, the accuracy {accuracy:.3f}")

# %%
# Above is what the clusters of an image tell of those of its view, a small turn or shift of it, in
# nats. Up to the number of classes, each further cluster adds to that; past it, a class is divided
# along a line that views cross. Below, three quarters of what a cluster could add are taken off:
# the highest point is the estimate. Grey bands mark the true numbers.

figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), sharex=True, layout="constrained")
for panels, (name, model) in zip(axes.T, models.items(), strict=True):
    for panel in panels:
        panel.axvline(len(targets[name]), color="#CCCCCC", linewidth=8, zorder=0)
    NClustersDisplay.from_estimator(model, ax=panels)
    panels[0].set_title(f"target of {name}")
plt.show()

# %%
# A single sharp peak is a good sign; two bumps or a flat top are a reason to ask someone who knows
# the data. :doc:`The page on choosing settings </choosing_settings>` counts how often the estimate
# was right. Where the number is known, give it.
#
# On tables, without views and with ``max_epochs=0``, two criteria of the pretrained embedding
# decide instead, the silhouette of k-means and the BIC of a Gaussian mixture. They take seconds and
# are right less often, and may be off by several.

model = CKMDomainAdapter("auto", max_epochs=0, **settings)
model.fit(data.X_src, data.y_src, X_tgt=data.X_tgt)
print(f"six classes, in the embedding: the estimate is {model.n_clusters_}")
NClustersDisplay.from_estimator(model)
plt.show()
