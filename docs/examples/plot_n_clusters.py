"""
How many classes has the target?
================================

``n_clusters="auto"`` estimates the number from the pretrained embedding. The estimate comes with
the curves that it was read from: look at these before you rely on it.
"""

# License: BSD-3-Clause

import matplotlib.pyplot as plt

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.datasets import load_digits_on_photos
from sklearn_ckm.inspection import NClustersDisplay
from sklearn_ckm.metrics import clustering_accuracy

# %%
# Two targets, one of three digits and one of six. ``max_epochs`` can be 0 as long as the number is
# all that is asked for: it is estimated after the pretraining.

targets = {"three classes": (5, 6, 7), "six classes": (4, 5, 6, 7, 8, 9)}
settings = {"encoder": "mlp-small", "pretrain_epochs": 40, "random_state": 0}
models = {}
for name, digits in targets.items():
    data = load_digits_on_photos(source_classes=(0, 1, 2, 3), target_classes=digits)
    model = CKMDomainAdapter("auto", max_epochs=0, **settings)
    models[name] = model.fit(data.X_src, data.y_src, X_tgt=data.X_tgt)
    print(f"{name}: the estimate is {model.n_clusters_}")

# %%
# Two criteria are computed for each number, on five draws of the rows: the silhouette of k-means,
# and the BIC of a Gaussian mixture. The estimate is the mean of the numbers at which they are best
# (that of the silhouette alone where it exceeds one half). Both are drawn so that larger is better;
# grey bands mark the true numbers.

figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), sharex=True, layout="constrained")
for panels, (name, model) in zip(axes.T, models.items(), strict=True):
    for panel in panels:
        panel.axvline(len(targets[name]), color="#CCCCCC", linewidth=8, zorder=0)
    NClustersDisplay.from_estimator(model, ax=panels)
    panels[0].set_title(f"target of {name}")
plt.show()

# %%
# A single sharp peak that both curves share is a good sign; two bumps, a flat top or curves that
# disagree are a reason to ask someone who knows the data. :doc:`The page on choosing settings
# </choosing_settings>` counts how often the estimate was right: often on these digits, seldom on
# MNIST. Where the number is known, give it.
#
# With the number settled, the fit goes on as usual.

model = CKMDomainAdapter("auto", max_epochs=20, **settings)
model.fit(data.X_src, data.y_src, X_tgt=data.X_tgt)
accuracy = clustering_accuracy(data.y_tgt, model.labels_)
print(f"{model.n_clusters_} clusters of six classes: accuracy {accuracy:.3f}")
