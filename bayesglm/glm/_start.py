"""Where a fit starts: the best intercepts at zero coefficients, given the offsets."""

from __future__ import annotations

import numpy as np

from bayesglm import links
from bayesglm._objective import Objective
from bayesglm.glm._problem import Problem

# Halvings of the interval that the offsets leave for an intercept, and steps for the intercepts of classes.
_HALVINGS = 12
# Share of the slopes at both ends below which that at the mean offset is left as it is.
_CLOSE = 0.25


def null(problem: Problem, objective: Objective, theta) -> np.ndarray:
    """Return intercepts near their optimum at zero coefficients, as `theta`.

    Where all offsets are equal, those that match the mean response are it. Otherwise the slope of the loss, which is
    monotone where the loss is convex, is bisected between what the smallest and the largest offset ask for; with
    classes, scaling to the class frequencies goes uphill in every step.

    Parameters
    ----------
    theta : array (lanes, columns, features + 1)
        Zero coefficients and the intercepts that match the mean response at the mean offset.

    References
    ----------
    Darroch, Ratcliff (1972), generalised iterative scaling. doi:10.1214/aoms/1177692379
    """
    offset = problem.rows.offset
    if offset is None or (np.ptp(offset, axis=0) == 0).all():
        return theta
    if problem.n_classes is None:
        found = _bisected(problem, objective, theta)
    elif problem.inverse_link is links.log_softmax:
        found = _scaled(problem, objective, theta)
    else:
        return theta
    before, after = objective.evaluate(theta).loss, objective.evaluate(found).loss
    better = np.isfinite(after) & ~(after >= before)
    return np.where(better[:, None, None], found, theta)


def _slope(objective: Objective, theta, intercept) -> np.ndarray:
    return objective.evaluate(_with(theta, intercept)).gradient[..., -1]


def _with(theta, intercept) -> np.ndarray:
    return np.concatenate([theta[..., :-1], intercept[..., None]], axis=-1)


def _bisected(problem: Problem, objective: Objective, theta) -> np.ndarray:
    rows = problem.rows
    used = np.broadcast_to(rows.weight > 0, rows.y.shape)
    offset = np.broadcast_to(rows.offset, rows.y.shape).astype(float)
    least = np.where(used, offset, np.inf).min(axis=0).reshape(theta.shape[:2])
    most = np.where(used, offset, -np.inf).max(axis=0).reshape(theta.shape[:2])
    mean = problem.mean(offset).reshape(theta.shape[:2])
    start = theta[..., -1]
    low, high = start + mean - most, start + mean - least
    slope, at_low, at_high = (_slope(objective, theta, b) for b in (start, low, high))
    if (np.abs(slope) <= _CLOSE * np.minimum(np.abs(at_low), np.abs(at_high))).all():
        return theta
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        # outside the domain of a link (NaN) predictors are too small: those of the reciprocal are positive
        above = _slope(objective, theta, middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return _with(theta, high)


def _scaled(problem: Problem, objective: Objective, theta) -> np.ndarray:
    share = problem.mean_response().reshape(theta.shape[:2])
    least = np.finfo(float).eps
    intercept = theta[..., -1]
    for _ in range(_HALVINGS):
        # the slope is the mean probability of a class less its frequency
        expected = share + _slope(objective, theta, intercept)
        intercept = intercept + np.log(np.maximum(share, least) / np.maximum(expected, least))
    return _with(theta, intercept)
