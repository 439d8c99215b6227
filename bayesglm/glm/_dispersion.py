"""Coefficients together with a dispersion that is part of the loss: each in turn, to their joint optimum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesglm import _profile, solvers
from bayesglm._objective import Objective

_ROUNDS = 50
# Distance in standard errors at which rounding may leave a dispersion, as it may the coefficients.
_FLOOR = 1e-3


class Fitted(NamedTuple):
    """A joint optimum: the objective has its dispersions (lanes, responses)."""

    objective: Objective
    state: solvers.State
    scale: np.ndarray


def fit(solver, objective: Objective, null, run) -> Fitted:
    """Return the optimum of coefficients and dispersions.

    Neither step can lower the penalised likelihood, of which the result is a maximum in both.

    Parameters
    ----------
    null : array (lanes, columns, features + 1)
        Zero coefficients, at which the first dispersions are found.
    run : callable
        ``(objective, theta) -> state``, with None for where a fit starts.
    """
    log_scale = _profile.maximise(objective, null, np.zeros(null.shape[:2]), 0.1).log_scale
    theta, steps = None, 0
    for _ in range(_ROUNDS):
        scale = np.exp(log_scale)
        objective = objective.with_scale(scale)
        state = run(objective, theta)
        theta, steps = state.point.theta, steps + state.iter_num
        profile = _profile.maximise(objective, theta, log_scale, solver.tol)
        moved = np.abs(profile.log_scale - log_scale) > 1e-8
        far = moved & (profile.distance > solver.tol)
        if not far.any():
            break
        log_scale = np.where(far, profile.log_scale, log_scale)
    settled = (profile.distance <= max(solver.tol, _FLOOR)).all(axis=1)
    progress = state.progress._replace(converged=state.progress.converged & settled)
    return Fitted(objective, state._replace(progress=progress, iter_num=steps), scale)
