"""
A few labels: name the classes of the target
============================================

Someone has looked at three rows of each class of the target. That is too little to train a
classifier on, but enough to give clusters their names, and to move them where they were wrong.
"""

# License: BSD-3-Clause

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from sklearn_ckm import CKMSemiSupervisedAdapter
from sklearn_ckm.datasets import keep_few_labels, load_digits_on_photos
from sklearn_ckm.inspection import ClusterConfusionDisplay, cluster_report

data = load_digits_on_photos()  # labelled digits 0-4 over photos, plain digits 5-9
X_train, X_test, y_train, y_test = train_test_split(
    data.X_tgt, data.y_tgt, test_size=0.3, stratify=data.y_tgt, random_state=0
)
y_few = keep_few_labels(y_train, 3, random_state=0)  # three rows of each class, -1 elsewhere
print(np.sum(y_few != -1), "of", len(y_few), "rows have a label")

# %%
# ``predict`` gives names of target classes, ``score`` is the accuracy. The test rows took no part
# in the training, neither their labels nor their pixels.

settings = {"encoder": "mlp-small", "pretrain_epochs": 20, "max_epochs": 40, "random_state": 0}
model = CKMSemiSupervisedAdapter(**settings)
model.fit(data.X_src, data.y_src, X_tgt=X_train, y_tgt=y_few)
print("classes:", model.classes_)
print(f"accuracy on unseen rows: {model.score(X_test, y_test):.3f}")

# %%
# The least that one would do without this package is to ask the nearest labelled row.

flat = X_train.reshape(len(X_train), -1)
nearest = KNeighborsClassifier(1).fit(flat[y_few != -1], y_few[y_few != -1])
print(f"nearest labelled row: {nearest.score(X_test.reshape(len(X_test), -1), y_test):.3f}")

# %%
# A class that nobody has looked at
# ---------------------------------
#
# Now no 9 is among the labelled rows. With ``n_clusters=5`` there is a fifth centre without a name;
# rows that are nearest to it are predicted as ``-1`` (``unknown_label``).

y_four = np.where(y_few == 9, -1, y_few)
open_model = CKMSemiSupervisedAdapter(n_clusters=5, **settings)
open_model.fit(data.X_src, data.y_src, X_tgt=X_train, y_tgt=y_four)
print("classes:", open_model.classes_)

y_known = np.where(y_test == 9, -1, y_test)  # what a right answer is here
print(f"accuracy on unseen rows: {accuracy_score(y_known, open_model.predict(X_test)):.3f}")

# %%
# On the left every class had three labels; on the right the 9 had none, and its rows should be in
# the column ``-1``, of the centre without a name.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
ClusterConfusionDisplay.from_estimator(model, X_test, y_test, ax=left)
ClusterConfusionDisplay.from_estimator(open_model, X_test, y_test, ax=right)
left.set_title("three labels of each class")
right.set_title("three labels of 5, 6, 7 and 8")
plt.show()

# %%
# ``cluster_report`` first tells what can be known without labels, then how classes and clusters
# agree. Some class of the source is always nearest, also where none is alike.

print(cluster_report(open_model, X_test, y_test, X_src=data.X_src, y_src=data.y_src))
