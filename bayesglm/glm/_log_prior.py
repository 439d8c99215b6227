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
import numpyro.distributions as dist

from bayesglm._sampling import _target
from bayesglm._sampling._target import Family, Lane, Shared
from bayesglm.distributions import GroupLaplace
from bayesglm.model import Model, coefficient_prior, weak_log_priors

# Draws that are evaluated at once: at most so many, and so many bytes of coefficients. Every chunk has
# the same shape, so that another number of draws compiles nothing.
_CHUNK, _CHUNK_BYTES = 1024, 1 << 24


def at_draws(model: Model, family: Family, shared: Shared, lanes: Lane, drawn):
    """Return the log-density of the prior of each parameter at draws.

    Densities are normalised (given the dispersion, on which the prior of the coefficients depends). A coefficient or
    an intercept with a flat prior contributes nothing, and a parameter that is flat throughout is left out.

    Parameters
    ----------
    model
        The same posteriors as those of the lanes.
    drawn : tuple
        Coefficients (..., lanes, columns, features), intercepts (..., lanes, columns) and log scales (..., lanes,
        responses or none).

    Returns
    -------
    : dict of arrays (..., neurons)
        Summed over features and classes. Neurons that a group of the penalty ties together share one prior: each has
        the value of the whole.
    """
    names = proper(model)
    if not names:
        return {}
    lead = drawn[0].shape[:-3]
    drawn = [a.reshape(math.prod(lead), *a.shape[len(lead) :]) for a in drawn]
    energies = _energies(family, shared, lanes, *drawn)
    # The sampler's energies lack constants, which the model knows.
    exact = at_point(model, *_of_user(model, *(a[0] for a in drawn)))
    found = {}
    for name in names:
        energy = energies[name].reshape(*lead, -1)
        found[name] = exact[name].ravel() + energies[name][0].ravel() - energy
    return found


def _of_user(model: Model, coef, intercept, log_scale):
    """Turn one draw into coefficients, intercepts and dispersions of the model."""
    coef = np.moveaxis(coef, -1, 0).reshape(model.mask.shape)
    scale = np.exp(log_scale).reshape(model.neurons) if log_scale.size else None
    return coef, intercept.reshape(model.outputs), scale


def _energies(family: Family, shared: Shared, lanes: Lane, *drawn) -> dict[str, np.ndarray]:
    """Return minus the log-priors up to constants, each (draws, lanes, responses)."""
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
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


@partial(jax.jit, static_argnames="family")
def _of_chunk(family: Family, shared: Shared, lanes: Lane, coef, intercept, log_scale):
    def one(lane, coef, intercept, log_scale):
        log_phi = log_scale if family.sampled else lane.log_scale
        by_response = coef.reshape(family.responses, family.classes, -1)
        precision = lane.precision[:, :1] if family.zero_sum else lane.precision
        of_coef = _target.penalty_energy(family, lane, coef, log_phi, smooth=False)
        of_coef += 0.5 * jnp.sum(precision * jnp.square(by_response))
        found = {
            "coef": jnp.broadcast_to(of_coef, (family.responses,)),
            "intercept": _target.intercept_energy(family, shared, lane, coef, intercept),
        }
        if family.sampled:
            found["scale"] = _target.scale_energy(shared, lane, log_phi)
        return found

    each = jax.vmap(one, (_target.axes(lanes), 0, 0, 0))
    return jax.vmap(each, (None, 0, 0, 0))(lanes, coef, intercept, log_scale)


# -- as the model has it ---------------------------------------------------------------------------


def proper(model: Model) -> list[str]:
    """Return the parameters of which some part has a proper prior."""
    penalty, weak = model.penalty, model.weak is not None
    strengths = [penalty.l2, penalty.l1, penalty.group_strength]
    penalised = any(np.any(np.asarray(term) > 0) for term in strengths if term is not None)
    which = {
        "coef": weak or penalised,
        "intercept": weak or model.intercept_prior is not None,
        "scale": isinstance(model.scale, dist.Distribution),
    }
    return [name for name, holds in which.items() if holds]


def at_point(model: Model, coef, intercept, scale=None) -> dict:
    """Return the log-density of the prior of each parameter at one point, each (*neurons).

    Parameters
    ----------
    coef, intercept, scale : arrays (features, *outputs), (*outputs) and (*neurons)
    """
    if model.weak is not None:
        of_coef, of_intercept = weak_log_priors(model.weak, coef, intercept, len(model.neurons))
        of_coef = _by_neuron(model, jnp.where(model.mask, of_coef, 0.0))
    else:
        of_coef = _of_coefficients(model, coef, model.scale if scale is None else scale)
        own = model.intercept_prior
        of_intercept = jnp.zeros(model.outputs) if own is None else own.log_prob(intercept)
    found = {"coef": of_coef, "intercept": _by_neuron(model, of_intercept[None])}
    if scale is not None:
        found["scale"] = model.scale.log_prob(scale)
    return {name: np.asarray(found[name]) for name in proper(model)}


def _of_coefficients(model: Model, coef, scale):
    prior = coefficient_prior(model, jnp.asarray(scale))
    if isinstance(prior, GroupLaplace):
        return (_members(model) @ prior.log_prob_by_group(coef)).reshape(model.neurons)
    if not isinstance(prior, dist.Independent):  # flat
        return jnp.zeros(model.neurons)
    # densities of single coefficients, or of those of all classes where these sum to zero
    used = model.mask[..., 0] if model.zero_sum else model.mask
    return _by_neuron(model, jnp.where(used, prior.base_dist.log_prob(coef), 0.0))


def _by_neuron(model: Model, values):
    """Sum (features, *neurons[, classes]) over all but the neurons."""
    return values.reshape(len(values), *model.neurons, -1).sum(axis=(0, -1))


def _members(model: Model) -> np.ndarray:
    """Return which groups count for which neuron, (neurons, groups) of zeros and ones."""
    group = np.asarray(model.penalty.group)
    by_neuron = group.reshape(len(group), math.prod(model.neurons), -1)
    members = np.zeros((by_neuron.shape[1], len(model.penalty.group_strength)))
    _, neuron, _ = np.nonzero(by_neuron >= 0)
    members[neuron, by_neuron[by_neuron >= 0]] = 1.0
    tied = (members.sum(axis=0) > 1).any()
    return np.ones_like(members) if tied else members
