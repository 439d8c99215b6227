"""The dispersion that is part of the loss, estimated by maximum likelihood: given the coefficients, for all lanes.

The negative binomial's is all but orthogonal to its coefficients (Lawless 1987, doi:10.2307/3314912), so that taking
turns converges in a few rounds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesglm import rows
from bayesglm._likelihood import SCALE_BOUNDS
from bayesglm._objective import Objective

_MAX_STEPS = 60
_LONGEST_STEP = 2.0


class Profile(NamedTuple):
    """Dispersions given the coefficients; arrays (lanes, responses)."""

    log_scale: np.ndarray
    distance: (
        np.ndarray
    )  # of the log to its optimum in standard errors; zero at a bound that it would cross


def maximise(objective: Objective, theta, log_scale, tol: float) -> Profile:
    """Return the most likely dispersions at the coefficients `theta`, and how far off those given were.

    Newton's steps in the log, bisected where they leave what the signs of the slope have left.

    Parameters
    ----------
    log_scale : (lanes, responses)
        Where to start.
    tol
        Distance to the optimum in standard errors at which to stop.
    """
    low, high = (np.full(log_scale.shape, np.log(bound)) for bound in SCALE_BOUNDS)
    least, most = low.copy(), high.copy()
    t, first, active = np.clip(log_scale, low, high), None, True
    for _ in range(_MAX_STEPS):
        slope, curvature = rows.of_log_scale(objective.spec, objective.shards, theta, t)
        # where the likelihood is not concave in the log, it is far from its optimum
        concave = curvature < 0
        distance = np.where(concave, np.abs(slope) / np.sqrt(np.abs(curvature)), np.inf)
        outward = ((t <= least) & (slope <= 0)) | ((t >= most) & (slope >= 0))
        distance = np.where(outward | (slope == 0), 0.0, distance)
        first = distance if first is None else first
        active = active & (distance > tol)
        if not active.any():
            break
        low, high = np.where(slope > 0, t, low), np.where(slope > 0, high, t)
        step = np.where(concave, -slope / np.where(concave, curvature, 1.0), np.sign(slope))
        new = t + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        # a bound is tried itself before it is crossed
        new = np.clip(new, least, most)
        inside = (new >= low) & (new <= high) & (new != t)
        new = np.where(active, np.where(inside, new, 0.5 * (low + high)), t)
        active = np.abs(new - t) > 1e-9  # else rounding decides
        t = new
    return Profile(t, first)


__all__ = ["Profile", "maximise"]
