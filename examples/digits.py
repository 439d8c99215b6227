"""Handwritten digits: class probabilities at the fit, and averaged over the posterior.

With few images and a wide prior the fit is too sure of itself. Averaging the class probabilities over the posterior
takes most of that back. Under a narrow prior the two agree, and neither is sure enough. Both are seen here, with
priors from narrow to wide. To keep it short, the pixels are pooled two by two and 300 images are fitted.
Run as ``python examples/digits.py [folder for the picture]``.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import bayesglm as nmo

TRAIN = 300  # images to fit; the other 1497 are held out
PRIOR_SDS = (
    2.0,
    5.0,
    10.0,
    20.0,
)  # of a coefficient; a feature, pooled brightness, goes from 0 to 1
DRAWS = 250  # of each of four chains
BINS = 10  # of the reliability diagram, with as many images each


def load(train=TRAIN):
    """Return pooled pixels, (images, 16), and labels, of the images to fit and of those held out."""
    images, labels = load_digits(return_X_y=True)
    pooled = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(len(images), -1) / 16
    return train_test_split(pooled, labels, train_size=train, random_state=0, stratify=labels)


def strength_of(prior_sd, n):
    """Return the Ridge strength that is a normal prior of this standard deviation."""
    return 1.0 / (n * prior_sd**2)


def probabilities(model, X):
    """Return the class probabilities of both kinds, by name."""
    averages = {"at the fit": "map", "posterior average": "posterior"}
    return {
        name: np.asarray(model.predict_proba(X, return_type="proba", average=average))
        for name, average in averages.items()
    }


def reliability(proba, labels, classes):
    """Return, bin by bin, how sure the model was and how often it was right."""
    sure, right = proba.max(axis=1), classes[proba.argmax(axis=1)] == labels
    accuracy, stated = calibration_curve(right, sure, n_bins=BINS, strategy="quantile")
    return stated, accuracy


def compare(prior_sd, X, y, X_new, y_new):
    """Return held-out log-loss and reliability of both kinds of probabilities, by name."""
    strength = strength_of(prior_sd, len(y))
    model = nmo.glm.ClassifierGLM(10, regularizer="Ridge", regularizer_strength=strength)
    model.sample_posterior(X, y, num_samples=DRAWS, progress_bar=False)
    classes, scores = np.asarray(model.classes_), {}
    print(f"\nPrior sd {prior_sd:g}, which is Ridge {strength:.2g}")
    for name, proba in probabilities(model, X_new).items():
        stated, accuracy = reliability(proba, y_new, classes)
        scores[name] = log_loss(y_new, proba, labels=classes), stated, accuracy
        print(
            f"  {name + ':':18} log-loss {scores[name][0]:.3f}, "
            f"mean distance of confidence and accuracy {np.abs(stated - accuracy).mean():.3f}"
        )
    return scores


def plot(scores, path):
    """Plot log-loss along the prior, and a reliability diagram at the widest prior."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    right.plot([0, 1], [0, 1], color="0.7", label="calibrated")
    for name, (_, stated, accuracy) in scores[PRIOR_SDS[-1]].items():
        left.plot(PRIOR_SDS, [scores[sd][name][0] for sd in PRIOR_SDS], "o-", label=name)
        right.plot(stated, accuracy, "o-", label=name)
    left.set(xscale="log", xlabel="standard deviation of the prior", ylabel="held-out log-loss")
    left.set_xticks(PRIOR_SDS, [f"{sd:g}" for sd in PRIOR_SDS], minor=False)
    left.minorticks_off()
    right.set(
        xlabel="probability of the most probable class", ylabel="share of these that were right"
    )
    right.set(title=f"Reliability, prior sd {PRIOR_SDS[-1]:g}", xlim=(0.3, 1.01), ylim=(0.3, 1.01))
    right.legend()
    figure.savefig(path, dpi=150)


def main(folder="."):
    """Run the example; return, for each prior, the scores of both kinds of probabilities."""
    X, X_new, y, y_new = load()
    print(f"{len(y)} images to fit, {len(y_new)} held out, {X.shape[1]} features")
    scores = {prior_sd: compare(prior_sd, X, y, X_new, y_new) for prior_sd in PRIOR_SDS}
    path = Path(folder, "digits.png")
    plot(scores, path)
    print(f"\nPicture: {path}")
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:2])
