"""A search over the strength of an estimator's penalty: which strengths, and how well each predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesglm._design import leaf_slices
from bayesglm._layout import Layout
from bayesglm.glm import _grid
from bayesglm.glm._folds import Folds
from bayesglm.glm._grid import Grid
from bayesglm.glm._problem import Problem
from bayesglm.glm._settings import Settings
from bayesglm.regularizer import PerLeaf

# Strengths of a path, and the share of its beginning at which one of a kinked penalty ends: with fewer rows than
# features, less is left to be found below a hundredth. Friedman, Hastie, Tibshirani (2010), doi:10.18637/jss.v033.i01.
_STRENGTHS = 20
_END, _END_FEW_ROWS = 1e-4, 1e-2
# Times that the curvature of a quadratic penalty outweighs that of the data at the beginning of a path; and at its end
# its share of what one row tells of a feature, in the mean: a normal prior three times as wide as that is unsure.
_OUTWEIGHED, _OF_A_ROW = 10.0, 0.1
# Halvings of the interval, in the logarithm, in which the strength lies at which all coefficients vanish.
_HALVINGS = 50


@dataclass(frozen=True, eq=False)
class Found:
    """Fits to all folds at all strengths.

    Parameters
    ----------
    strengths : array (strengths,)
        From strong to weak.
    grid
        The fits.
    layout
        Of the data.
    settings
        What was fitted, the strength aside.
    """

    strengths: np.ndarray
    grid: Grid
    layout: Layout
    settings: Settings

    def argument(self, values):
        """Return the `regularizer_strength` of an estimator with one strength for all, or one for each neuron."""
        layout, strength = self.layout, self.settings.regularizer_strength
        regularizer = self.settings.regularizer
        if np.ndim(values) == 0:
            return regularizer.with_strength(float(values), strength)
        like = np.reshape(values, (1, -1) + (1,) * (len(layout.outputs) - 1))
        full = np.broadcast_to(like, (layout.n_features, *layout.outputs)).copy()
        return regularizer.of_coefficients(full, strength, layout.tree, leaf_slices(layout.widths))


def search(problem: Problem, settings: Settings, strengths, splits) -> Found:
    """Fit to the rows that each fold trains with, at each strength.

    Parameters
    ----------
    strengths : array (strengths,) or None
        Positive numbers; by default a path.
    splits : list of pairs of int arrays
        Rows that train and test.

    Raises
    ------
    ValueError
        If there is no penalty, folds are none, or nothing can be fitted.
    """
    folds = Folds.of(splits, len(problem.rows.y))
    _check(settings.regularizer)

    def at(strength) -> Problem:
        value = settings.regularizer.with_strength(float(strength), settings.regularizer_strength)
        changed, _ = settings.having("regularizer_strength", value)
        return Problem.of(problem.rows, problem.layout, changed)

    if strengths is None:
        strengths = path(at(1.0))
    strengths = np.sort(strengths)[::-1]
    problems = [at(strength) for strength in strengths]
    grid = _grid.search(problems[0], settings, folds, [each.prior for each in problems])
    return Found(strengths, grid, problem.layout, settings)


def _check(regularizer) -> None:
    """Raise a ValueError if there is not one strength to search for."""
    if isinstance(regularizer, PerLeaf):
        raise ValueError(
            "A search over one strength does not say those of several leaves. Search them by scikit-learn's "
            "`GridSearchCV` over `regularizer_strength__leaf`, through `bayesglm.Leaves`, or learn those of normal "
            "priors: 'auto'."
        )
    if regularizer.flat or regularizer.default_strength is None:
        raise ValueError(
            f"{type(regularizer).__name__} has no strength to search for. Choose another `regularizer`."
        )


def path(problem: Problem) -> np.ndarray:
    """Return strengths from one that leaves nothing of the coefficients to one that hardly holds them.

    A penalty with kinks begins where all coefficients vanish. Under a quadratic one they never do: it begins where its
    curvature is ten times that of the data, along any direction, which leaves less than a tenth of each coefficient,
    and ends where it says of a coefficient a tenth of what one row of the data does.

    Parameters
    ----------
    problem
        At a strength of one.
    """
    objective, n = problem.objective(), problem.rows.n
    theta = problem.theta(*problem.initial())
    known = np.isfinite(theta).all(axis=(1, 2)) & (objective.n > 0)
    theta = np.nan_to_num(theta, neginf=0.0, posinf=0.0)
    strongest = _vanishing(objective, theta)
    end = np.full(
        len(theta), _END if len(problem.rows.y) > problem.mask.shape[0] else _END_FEW_ROWS
    )
    curvature = np.sum(objective.gram(theta, False, False).centred * objective.mask, axis=-1)
    quadratic = np.isnan(strongest)
    strongest = np.where(quadratic, _OUTWEIGHED * curvature.max(axis=1), strongest)
    rows = np.maximum(objective.n, 2.0) * np.maximum(objective.mask.sum(axis=-1).max(axis=-1), 1)
    end = np.where(quadratic, _OF_A_ROW / (_OUTWEIGHED * rows), end)
    known &= np.isfinite(strongest) & (strongest > 0)
    if not known.any():
        raise ValueError(
            "No strengths can be chosen: the coefficients of no neuron can differ from zero (constant responses or "
            f"features, or {n.max():g} rows). Pass `strengths`."
        )
    weakest = (strongest * end)[known].min()
    return np.geomspace(strongest[known].max(), weakest, _STRENGTHS)


def _vanishing(objective, theta) -> np.ndarray:
    """Return the least strength at which all coefficients with a kink are zero, per lane; NaN without a kink.

    Zero is the optimum where the prox of a step against the gradient leads back to it.
    """
    mask, prior = objective.mask, objective.prior
    step = -objective.evaluate(theta).gradient[..., :-1] * mask
    low = np.full(len(theta), np.finfo(float).tiny)
    top = np.linalg.norm(step, axis=(1, 2)) / np.finfo(float).eps
    high = np.maximum(top, low)
    kinked = (prior.prox(step, high[:, None, None]) == 0) & (step != 0)
    if prior.smooth or not kinked.any():
        return np.full(len(theta), np.nan)
    for _ in range(_HALVINGS):
        middle = np.sqrt(low) * np.sqrt(high)
        gone = (~kinked | (prior.prox(step, middle[:, None, None]) == 0)).all(axis=(1, 2))
        low, high = np.where(gone, low, middle), np.where(gone, middle, high)
    return np.where(kinked.any(axis=(1, 2)), high, 0.0)
