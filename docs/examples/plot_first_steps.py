"""
First steps: group the digits of an unlabelled domain
=====================================================

The source has the digits 0 to 4, drawn over photos, with labels. The target has plain digits 5 to
9, without. No class is shared, so no classifier of the source can name them; the target is to be
divided into five groups.
"""

# License: BSD-3-Clause

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.datasets import load_digits_on_photos
from sklearn_ckm.metrics import clustering_accuracy

data = load_digits_on_photos()
print("source", data.X_src.shape, "target", data.X_tgt.shape)

# %%
# Fit
# ---
#
# ``fit`` takes the labelled source and, as ``X_tgt``, the target. 20 epochs of each phase keep this
# page quick to build; the defaults are 50 and at most 100.

adapter = CKMDomainAdapter(n_clusters=5, pretrain_epochs=20, max_epochs=20, random_state=0)
adapter.fit(data.X_src, data.y_src, X_tgt=data.X_tgt)

print("clusters of the target's rows:", adapter.labels_[:10])
print("training ended:", adapter.stop_reason_)

# %%
# The fitted estimator also takes rows that it has not seen. ``transform`` gives their embedding,
# ``predict_proba`` how near they are to each centre, and ``predict_source`` what the classifier of
# the source's classes answers.

print(adapter.predict(data.X_tgt[:3]))
print(adapter.transform(data.X_tgt[:3]).shape)
print(adapter.predict_proba(data.X_tgt[:3]).round(2))
print(adapter.predict_source(data.X_src[:3]), "is", data.y_src[:3])

# %%
# Compare
# -------
#
# Does the source help? Two estimators that do not know it tell: k-means on the pixels, and
# :class:`~sklearn_ckm.ConcreteKMeans`, the same deep clustering of the target alone. The accuracy
# is that of the best one-to-one matching of clusters and digits; the target's labels are read here
# for the first time.

alone = ConcreteKMeans(n_clusters=5, pretrain_epochs=20, max_epochs=20, random_state=0)
alone.fit(data.X_tgt)
pixels = KMeans(5, n_init=20, random_state=0).fit(data.X_tgt.reshape(len(data.X_tgt), -1))

for name, model in (("k-means", pixels), ("target alone", alone), ("with the source", adapter)):
    print(f"{name:16}{clustering_accuracy(data.y_tgt, model.labels_):.3f}")

# %%
# One run of each decides nothing, but the source does not always help: it must be reconstructed
# too, takes its part of a narrow embedding, and a small target may do better alone. Compare with
# ``ConcreteKMeans`` before you rely on adaptation. Where no label is at hand, ``score`` compares
# the clusters with neighbourhoods of the pixels. It is a rough guide: differences of a hundredth
# mean nothing, and here it does not prefer the better one.

print(f"target alone    {alone.score(data.X_tgt):.3f}")
print(f"with the source {adapter.score(data.X_tgt):.3f}")

# %%
# Look
# ----
#
# Clusters have numbers and no names. The rows that are surest of their centre show what a cluster
# holds, and those that are least sure show where it ends.

confidence = adapter.predict_proba(data.X_tgt).max(axis=1)
figure = plt.figure(figsize=(9, 3.6), layout="constrained")
for part, title in zip(figure.subfigures(1, 2), ("surest rows", "least sure rows"), strict=True):
    part.suptitle(title)
    for k, panels in enumerate(part.subplots(5, 8)):
        members = np.flatnonzero(adapter.labels_ == k)
        order = np.argsort(confidence[members])
        chosen = order[::-1][:8] if title == "surest rows" else order[:8]
        for axes, row in zip(panels, members[chosen], strict=True):
            axes.imshow(data.X_tgt[row, 0], cmap="gray")
            axes.set(xticks=[], yticks=[])
        panels[0].set_ylabel(f"cluster {k}", rotation=0, ha="right", va="center")
plt.show()
