"""Fit real data that come with scikit-learn and statsmodels, and compare with both packages.

Handwritten digits as classes, doctor visits as counts, the digits' pixels as a population.
"""

import time

import jax
import numpy as np
import statsmodels.api as sm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import bayesglm as nmo


def timed(function, *args, **kwargs):
    """Return the value of a call and the seconds it took, as text."""
    start = time.perf_counter()
    value = function(*args, **kwargs)
    return value, f"{time.perf_counter() - start:.3f}"


def fitted(model):
    """Return coefficients and intercept in the precision of the fit."""
    with jax.enable_x64(True):
        return np.asarray(model.coef_), np.asarray(model.intercept_)


def largest_difference(model, coef, intercept):
    """Return the largest absolute difference from another package's parameters, as text."""
    ours = fitted(model)
    return f"{max(np.abs(ours[0] - coef).max(), np.abs(ours[1] - intercept).max()):.1e}"


def table(title, header, *rows):
    """Print a table, its first column left-aligned and the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print(f"\n{title}\n")
    for row in (header, ["-" * width for width in widths], *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]))


def digits_as_classes(strength=1e-3):
    """Classify handwritten digits from their 64 pixels, beside scikit-learn."""
    X, y = load_digits(return_X_y=True)
    X, X_new, y, y_new = train_test_split(X / 16, y, test_size=0.25, random_state=0, stratify=y)
    ours = nmo.glm.ClassifierGLM(10, regularizer="Ridge", regularizer_strength=strength)
    theirs = LogisticRegression(C=1 / (len(y) * strength), tol=1e-8, max_iter=10_000)
    first, second = (timed(ours.fit, X, y)[1] for _ in range(2))
    _, seconds = timed(theirs.fit, X, y)
    accuracy = np.mean(ours.predict(X_new) == y_new)
    log_likelihood = -log_loss(y_new, theirs.predict_proba(X_new))
    table(
        f"Digits: {len(y)} images to fit, {len(y_new)} held out, 10 classes, Ridge {strength:g}",
        ["", "held-out accuracy", "held-out log-likelihood", "first fit, s", "second fit, s"],
        ["bayesglm", f"{accuracy:.4f}", f"{ours.score(X_new, y_new):.5f}", first, second],
        ["scikit-learn", f"{theirs.score(X_new, y_new):.4f}", f"{log_likelihood:.5f}", seconds, ""],
    )
    print(f"\nLargest difference: {largest_difference(ours, theirs.coef_.T, theirs.intercept_)}")


def doctor_visits(dispersion=1.0):
    """Regress counts of doctor visits, beside statsmodels."""
    data = sm.datasets.randhie.load_pandas()
    X, y = data.exog.to_numpy(float), data.endog.to_numpy(float)
    negative_binomial = nmo.observation_models.NegativeBinomialObservations(scale=dispersion)
    pairs = (
        ("Poisson", sm.families.Poisson()),
        (negative_binomial, sm.families.NegativeBinomial(alpha=dispersion)),
    )
    measured = "largest difference", "first fit, s", "second fit, s"
    columns = [["intercept", *data.exog.columns, *measured]]
    for observation_model, family in pairs:
        ours = nmo.glm.GLM(observation_model=observation_model)
        first, second = (timed(ours.fit, X, y)[1] for _ in range(2))
        theirs, seconds = timed(sm.GLM(y, sm.add_constant(X), family=family).fit, tol=1e-12)
        coef, intercept = fitted(ours)
        difference = largest_difference(ours, theirs.params[1:], theirs.params[0])
        columns.append([*map("{:.6f}".format, (*intercept, *coef)), difference, first, second])
        columns.append([*map("{:.6f}".format, theirs.params), "", seconds, ""])
    table(
        f"Doctor visits: {len(y)} rows, UnRegularized, NegativeBinomial with scale {dispersion:g}",
        ["", "Poisson", "statsmodels", "NegativeBinomial", "statsmodels"],
        *zip(*columns, strict=True),
    )


def pixels_as_population(strength=1e-3):
    """Predict every pixel's brightness from the digit, all pixels at once, beside scikit-learn."""
    pixels, label = load_digits(return_X_y=True)
    X = np.eye(10)[label][:, 1:]  # digit 0 is the baseline
    X, X_new, y, y_new = train_test_split(X, pixels, test_size=0.25, random_state=0, stratify=label)
    lit = y.sum(axis=0) > 0  # a pixel that is always dark has no finite intercept
    y, y_new = y[:, lit], y_new[:, lit]
    ours = nmo.glm.PopulationGLM(regularizer="Ridge", regularizer_strength=strength)
    first, second = (timed(ours.fit, X, y)[1] for _ in range(2))
    theirs = PoissonRegressor(alpha=strength, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    columns, seconds = timed(
        lambda: [(m.coef_, m.intercept_) for m in (theirs.fit(X, column) for column in y.T)]
    )
    coef, intercept = (np.stack(part, axis=-1) for part in zip(*columns, strict=True))
    pseudo_r2 = ours.score(X_new, y_new, score_type="pseudo-r2-McFadden")
    table(
        f"Pixels: {lit.sum()} Poisson responses (of {lit.size}; {lit.size - lit.sum()} are always "
        f"dark), {len(y)} images, Ridge {strength:g}",
        ["largest difference", "first fit, s", "second fit, s", "scikit-learn, a loop, s"],
        [largest_difference(ours, coef, intercept), first, second, seconds],
    )
    print(f"\nMcFadden's pseudo-R2 on {len(y_new)} held-out images: {pseudo_r2:.4f}")


if __name__ == "__main__":
    digits_as_classes()
    doctor_visits()
    pixels_as_population()
