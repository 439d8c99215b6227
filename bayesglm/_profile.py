"""The dispersion that is part of the loss, estimated by maximum likelihood: given the coefficients, for all lanes.

The negative binomial's is all but orthogonal to its coefficients (Lawless 1987, doi:10.2307/3314912), so that taking
turns converges in a few rounds.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm._likelihood import SCALE_BOUNDS, response_distribution
from bayesglm._objective import (
    Objective,
    Spec,
    added,
    block_of,
    block_size,
    over_lanes,
    over_rows,
    where_weighted,
)
from bayesglm._shards import Data

_MAX_STEPS = 60
_LONGEST_STEP = 2.0


class Profile(NamedTuple):
    """Dispersions given the coefficients; arrays (lanes, responses)."""

    log_scale: np.ndarray
    distance: (
        np.ndarray
    )  # of the log to its optimum in standard errors; zero at a bound that it would cross


@partial(jax.jit, static_argnames=("spec", "lanes"))
def _derivatives(spec: Spec, data: Data, theta, log_scale, chunks, lanes: int):
    """First and second derivatives of the log-likelihood in the log of the dispersion: sums over rows."""
    width, columns, _ = theta.shape

    def rows(carry, X, start, fresh):
        def chunk(first, carry):
            block = block_of(data, theta, first, lanes, X, start, fresh)
            y, eta = (a.astype(jnp.float64) for a in (block.y, block.eta))
            at = lax.dynamic_slice_in_dim(log_scale, first, lanes, 0)[..., None]

            def value(t):
                family = spec.observation_model, eta, spec.inverse_link, jnp.exp(t)
                return response_distribution(*family).log_prob(y)

            def slope(t):
                return jax.jvp(value, (t,), (jnp.ones_like(t),))[1]

            both = jax.jvp(slope, (at,), (jnp.ones_like(at),))
            weight = block.weight.astype(jnp.float64)
            sums = [where_weighted(weight, d).sum(-1) for d in both]
            return added(carry, sums, first)

        return over_lanes(chunks, lanes, width, chunk, carry)

    carry = [jnp.zeros(log_scale.shape), jnp.zeros(log_scale.shape)]
    return over_rows(data, block_size(data, columns, lanes), rows, carry)


def derivatives(objective: Objective, theta, log_scale):
    """Return the first and second derivative of the log-likelihood in `log_scale` (lanes, responses): one pass."""
    lanes, padded = objective.chunk, objective.padded(theta)
    extra = len(padded) - len(log_scale)
    scales = np.pad(log_scale, [(0, extra), (0, 0)])
    key = (_derivatives, objective.spec, lanes, padded.shape)
    chunks = -(-len(theta) // lanes)
    found = objective.shards.map(
        lambda data: _derivatives(objective.spec, data, padded, scales, chunks, lanes=lanes),
        partial(jax.tree.map, np.add),
        key,
    )
    return [a[: len(theta)] for a in found]


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
        slope, curvature = derivatives(objective, theta, t)
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


__all__ = ["Profile", "derivatives", "maximise"]
