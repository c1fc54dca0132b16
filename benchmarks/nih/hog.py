"""The classical peer of benchmarks/nih: grey-level histogram + HOG + logistic regression.

    hog.py TASK.json SHRINK
TASK.json lists images: {"file", "split", "positive"}; they are averaged over squares of SHRINK pixels. Standard output gets
{"probability": {file: p of the test images}, "c": the inverse strength of regularisation that was best on validation}. It sees the
pixels of the published file and nothing else, and is fitted again to train and validate together, which the networks are not.
"""

import json
import sys

import numpy as np
from skimage.feature import hog
from skimage.io import imread
from skimage.transform import downscale_local_mean
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def features(path, shrink):
    """[1796] of one image of 256x256: 7x7 blocks of 2x2 of its 8x8 cells with 9 orientations, and 32 grey levels."""
    a = downscale_local_mean(imread(path, as_gray=True), (shrink, shrink))
    cell = (32 // shrink, 32 // shrink)
    grey = np.histogram(a, bins=32, range=(0, 256), density=True)[0]
    return np.concatenate([hog(a, orientations=9, pixels_per_cell=cell, cells_per_block=(2, 2)), grey])


def fit(x, y, c):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)).fit(x, y)


def main(path, shrink):
    with open(path) as f:
        images = json.load(f)
    x = np.stack([features(i["file"], shrink) for i in images])
    y = np.array([i["positive"] for i in images])
    split = np.array([i["split"] for i in images])
    train, validate, test = (split == s for s in ("train", "validate", "test"))

    def auroc(c):
        return roc_auc_score(y[validate], fit(x[train], y[train], c).decision_function(x[validate]))

    best = max((10.0**e for e in range(-6, 2)), key=auroc)
    p = fit(x[~test], y[~test], best).predict_proba(x[test])[:, 1]
    files = [i["file"] for i, t in zip(images, test) if t]
    json.dump({"probability": dict(zip(files, p.tolist())), "c": best}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
