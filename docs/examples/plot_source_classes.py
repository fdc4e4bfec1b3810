"""
What the source's classes teach
===============================

Digits in two books, printed in any colour on paper of any other: digits 0 to 4, labelled, in the
one, digits 5 to 9 in the other. Colours vary more than shapes. So whatever looks at the second book
alone groups it by hue, and its own views of a digit, turned and shifted, agree with that. Only the
labels of the first book say that a hue is no class.
"""

# License: BSD-3-Clause

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.inspection import ClusterSheetDisplay
from sklearn_ckm.metrics import clustering_accuracy

# %%
# Paper of a random colour, ink of the opposite brightness in each channel.

rng = np.random.default_rng(0)
strokes, y = load_digits(return_X_y=True)
strokes = strokes.reshape(-1, 1, 8, 8) / 16
paper = rng.uniform(size=(len(y), 3, 1, 1))
ink = (paper + 0.5) % 1
X = (paper + (ink - paper) * strokes).astype(np.float32)

is_source = y < 5
X_src, y_src = X[is_source], y[is_source]
X_tgt, y_tgt = X[~is_source], y[~is_source]

# %%
# The target alone, and with the help of the source, whose classes a network learns first. By
# default that network competes with others, and the adapter keeps the one with clusters in which
# views of a digit agree, and digits of one class of the source as well; no label of the target
# takes part. To save time, it is the only one here. ``lambda_source`` is the weight of what is
# asked of the source's digits. Colours stand in the way of all of them, so it is larger than by
# default.

settings = {"n_clusters": 5, "pretrain_epochs": 40, "max_epochs": 50, "random_state": 0}
alone = ConcreteKMeans(**settings).fit(X_tgt)
taught = CKMDomainAdapter(pretraining="classification", lambda_source=1.0, **settings)
taught.fit(X_src, y_src, X_tgt=X_tgt)

# %%
# Rows of pictures are clusters.

for title, model in (("The target alone", alone), ("With the source's classes", taught)):
    display = ClusterSheetDisplay.from_estimator(model, X_tgt)
    display.figure_.suptitle(title)
plt.show()

# %%
# The labels of the target serve to see how well the clusters match the classes; by chance one finds
# a fifth.

for name, model in (("target alone", alone), ("with the source's classes", taught)):
    print(f"{name:28}{clustering_accuracy(y_tgt, model.labels_):.3f}")

# %%
# The first sheet is sorted by colour, the second mostly by digit: sixes, sevens and nines are
# found, and one cluster is still of a hue. The images are small and few, and so are the epochs. On
# larger ones more is gained: :doc:`/views` has numbers for digits on photos.
