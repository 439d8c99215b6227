"""The log-density of the priors at posterior draws, neuron by neuron: what power-scaling sensitivity needs.

References
----------
Kallioinen, Paananen, Buerkner, Vehtari (2024), Detecting and diagnosing prior and likelihood sensitivity with
power-scaling. doi:10.1007/s11222-023-10366-5
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm._sampling import _target
from bayesglm._sampling._target import Family, Lane, Shared

# Draws that are evaluated at once: at most so many, and so many bytes of coefficients. Every chunk has
# the same shape, so that another number of draws compiles nothing.
_CHUNK, _CHUNK_BYTES = 1024, 1 << 24


def at_draws(family: Family, shared: Shared, lanes: Lane, drawn):
    """Return the log-density of the prior of each parameter at draws.

    Densities are normalised (given the dispersion, on which the prior of the coefficients depends). A coefficient or
    an intercept with a flat prior contributes nothing, and a parameter that is flat throughout is left out.

    Parameters
    ----------
    drawn : tuple
        Coefficients (..., lanes, columns, features), intercepts (..., lanes, columns) and log scales (..., lanes,
        responses or none).

    Returns
    -------
    : dict of arrays (..., neurons)
        Summed over features and classes. Neurons that a group of the penalty ties together share one prior: each has
        the value of the whole.
    """
    names = _proper(family, shared, lanes)
    if not names:
        return {}
    lead = drawn[0].shape[:-3]
    drawn = [a.reshape(math.prod(lead), *a.shape[len(lead) :]) for a in drawn]
    lanes = lanes._replace(  # nothing that belongs to rows, so that their number compiles nothing
        y=lanes.y[..., :1], weight=None, offset=None, base_y=None, base_weight=None, whiten=None
    )
    shared = shared._replace(X=None)
    count, each = len(drawn[0]), drawn[0][0].nbytes
    size = int(np.clip(_CHUNK_BYTES // each, 1, _CHUNK))
    parts = []
    for first in range(0, count, size):
        rows = np.minimum(np.arange(first, first + size), count - 1)
        found = _of_chunk(family, shared, lanes, *(a[rows] for a in drawn))
        parts.append(jax.tree.map(np.asarray, found))
    whole = {name: np.concatenate([part[name] for part in parts])[:count] for name in names}
    return {name: values.reshape(*lead, -1) for name, values in whole.items()}


def _proper(family: Family, shared: Shared, lanes: Lane) -> list[str]:
    """Return the parameters of which some part has a proper prior."""
    which = {
        "coef": lanes.prior.informs,
        "intercept": shared.intercept_prior is not None,
        "scale": family.sampled,
    }
    return [name for name, holds in which.items() if holds]


@partial(jax.jit, static_argnames="family")
def _of_chunk(family: Family, shared: Shared, lanes: Lane, coef, intercept, log_scale):
    def one(lane, coef, intercept, log_scale):
        log_phi = log_scale if family.sampled else lane.log_scale
        weight = _target.weights(family, lane, log_phi)
        of_coef = lane.prior.log_prob(coef, weight, lane.mask, family.zero_sum)
        of_intercept = _target.intercept_energy(family, shared, lane, coef, intercept)
        if shared.intercept_prior is not None:
            of_intercept += family.classes * jnp.log(lane.intercept_unit)
        found = {
            "coef": jnp.broadcast_to(of_coef, (family.responses,)),
            "intercept": -of_intercept,
        }
        if family.sampled:
            found["scale"] = -_target.scale_energy(shared, lane, log_phi)
            found["scale"] -= jnp.log(lane.scale_unit)
        return found

    each = jax.vmap(one, (_target.axes(lanes), 0, 0, 0))
    return jax.vmap(each, (None, 0, 0, 0))(lanes, coef, intercept, log_scale)
