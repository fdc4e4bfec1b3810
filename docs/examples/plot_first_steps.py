"""
First steps: group the digits of an unlabelled domain
=====================================================

The source has the digits 0 to 4, drawn over photos, with labels. The target has plain digits 5 to
9, without. No class is shared, so no classifier of the source can name them; the target is to be
divided into five groups.
"""

# License: BSD-3-Clause

import matplotlib.pyplot as plt
from sklearn.cluster import KMeans

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.datasets import load_digits_on_photos
from sklearn_ckm.inspection import ClusterSheetDisplay, EmbeddingDisplay
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
# One run of each decides nothing, but the source does not always help: it takes its part of a
# narrow embedding, and a small target may do better alone. Compare with ``ConcreteKMeans`` before
# you rely on adaptation. Where no label is at hand, ``score`` compares the clusters with
# neighbourhoods of the pixels. It is a rough guide: differences of a hundredth mean nothing.

print(f"target alone    {alone.score(data.X_tgt):.3f}")
print(f"with the source {adapter.score(data.X_tgt):.3f}")

# %%
# Look
# ----
#
# Do the clusters stand apart, from each other and from the classes of the source? Two principal
# components show a part of the embedding, on the left for the target alone, on the right for both
# domains: what overlaps there may be apart in other dimensions. Centres are trained with the
# network and need not lie in the middle of their rows; here they are off.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
EmbeddingDisplay.from_estimator(adapter, data.X_tgt, method="pca", legend=False, ax=left)
EmbeddingDisplay.from_estimator(
    adapter, data.X_tgt, X_src=data.X_src, y_src=data.y_src, method="pca", ax=right
)
left.set_title("target alone")
right.set_title("both domains")
plt.show()

# %%
# Clusters have numbers and no names. The rows that are nearest to a centre show what its cluster
# holds, and those that are least sure of theirs show where it ends. With the labels of the target,
# rows of another digit than most of their cluster are framed.

confidence = adapter.predict_proba(data.X_tgt).max(axis=1)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
figure.get_layout_engine().set(w_pad=0.15)
ClusterSheetDisplay.from_estimator(adapter, data.X_tgt, data.y_tgt, n_images=8, ax=left)
ClusterSheetDisplay.from_predictions(
    data.X_tgt, adapter.labels_, data.y_tgt, distances=confidence, n_images=8, ax=right
)
left.set_title("nearest to the centre")
right.set_title("least sure")
right.set_yticks([])  # the same clusters
plt.show()
