"""A pipeline and a grid search: smooth tuning curves, with the penalty chosen by cross-validation.

A place-cell-like neuron fires where its animal is. The position goes through splines and a scaler into a GLM; the grid
covers penalties and their strengths. Fits that differ only in the strength share one compiled program.
Run as ``python examples/pipeline.py [folder for the picture]``.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

import bayesglm as nmo

BINS = 600
PENALTIES = ("Ridge", "Lasso")
STRENGTHS = np.geomspace(1e-4, 1.0, 9)


def true_rate(position):
    """Return the mean count of a bin: a bump, and a ramp beside it."""
    return 0.2 + 1.5 * np.exp(-0.5 * ((position - 0.3) / 0.08) ** 2) + 0.5 * (position > 0.6)


def simulate(bins=BINS, seed=0):
    """Return positions (bins, 1) and counts (bins,)."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(size=(bins, 1))
    return position, rng.poisson(true_rate(position[:, 0])).astype(float)


def search(X, y):
    """Return the grid search, fitted; folds of equal length compile once."""
    model = make_pipeline(
        SplineTransformer(n_knots=20, include_bias=False),
        StandardScaler(),
        nmo.glm.GLM("Poisson", regularizer="Ridge", regularizer_strength=1.0),
    )
    grid = {"glm__regularizer": PENALTIES, "glm__regularizer_strength": STRENGTHS}
    folds = KFold(5, shuffle=True, random_state=0)
    return GridSearchCV(model, grid, cv=folds, return_train_score=True).fit(X, y)


def plot(found, X, y, path):
    """Plot the scores along the strengths, and the tuning curve of the best model."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    results = found.cv_results_
    for colour, penalty in zip(("C0", "C1"), PENALTIES, strict=True):
        rows = results["param_glm__regularizer"] == penalty
        score, sd = results["mean_test_score"][rows], results["std_test_score"][rows]
        error = sd / np.sqrt(found.n_splits_)
        left.plot(STRENGTHS, score, "o-", color=colour, label=f"{penalty}, held out")
        left.fill_between(STRENGTHS, score - error, score + error, color=colour, alpha=0.2)
        train = results["mean_train_score"][rows]
        left.plot(STRENGTHS, train, ":", color=colour, label=f"{penalty}, training")
    left.axvline(found.best_params_["glm__regularizer_strength"], color="0.7", zorder=0)
    left.set(xscale="log", xlabel="strength", ylabel="log-likelihood of a bin")
    left.legend()
    grid = np.linspace(X.min(), X.max(), 200)[:, None]
    right.plot(grid, true_rate(grid), "k--", linewidth=1, label="truth")
    right.plot(grid, found.predict(grid), label="best model")
    right.set(xlabel="position", ylabel="spikes per bin", title="Tuning curve")
    right.legend()
    figure.savefig(path, dpi=150)


def main(folder="."):
    """Run the example; return the fitted grid search."""
    X, y = simulate()
    found = search(X, y)
    best = found.best_params_
    print(f"{len(found.cv_results_['params'])} candidates, {found.n_splits_} folds, {len(y)} bins")
    print(f"Best: {best['glm__regularizer']}, strength {best['glm__regularizer_strength']:.3g}")
    print(f"Held-out log-likelihood of a bin: {found.best_score_:.4f}")
    path = Path(folder, "pipeline.png")
    plot(found, X, y, path)
    print(f"Picture: {path}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
