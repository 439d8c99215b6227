"""What a fit has beyond its coefficients: degrees of freedom, dispersion, predictors, scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _families, observation_models
from bayesglm.glm._problem import Problem
from bayesglm.rows import predictor, rank
from bayesglm.solvers import State


def keep(state: State) -> State:
    """Return a state that may leave the float64 scope."""

    def host(leaf):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else np.asarray(leaf)

    return jax.tree.map(host, state)


def lane_mask(problem: Problem) -> np.ndarray:
    """Return the mask as (lanes, columns, features + 1), with the intercept in use."""
    mask = problem.to_lanes(problem.mask)
    return np.concatenate([mask, np.ones((*mask.shape[:2], 1), bool)], axis=-1)


def residual_dof(problem: Problem, coef, n_samples=None) -> np.ndarray:
    """Return the residual degrees of freedom of each neuron.

    Parameters
    ----------
    n_samples : number or array (neurons,), optional
        In place of the sums of the weights.

    References
    ----------
    Zou, Hastie, Tibshirani (2007) for the number of non-zero coefficients. doi:10.1214/009053607000000127
    """
    n = problem.rows.n if n_samples is None else n_samples
    n = np.broadcast_to(np.asarray(n, float), (problem.n_neurons,))
    by_neuron = (len(coef), problem.n_neurons, -1)
    used = problem.mask.reshape(by_neuron).any(axis=-1)
    free = 1 if problem.n_classes is None else problem.n_classes - 1
    if not problem.prior.smooth:
        nonzero = ~np.isclose(coef, 0.0).reshape(by_neuron)
        dof = n - nonzero.sum(axis=(0, 2)) - free
        # the documented shape: a scalar for one neuron without classes
        return dof if len(problem.outputs) else dof[0]
    X = problem.rows.design.matrix
    taken = problem.prior.counted(used, lambda columns: rank(X, columns))
    return n - free * taken - free


def scale(problem: Problem, residual, within, dof, coef, intercept, n=None) -> np.ndarray:
    """Return the dispersion of each neuron.

    Parameters
    ----------
    within : array (neurons,)
        Dispersions that entered the loss.
    n : array (neurons,), optional
        In place of the sums of the weights.
    """
    model = problem.observation_model
    if not observation_models.is_native(model):
        return _own_scale(problem, dof, coef, intercept)
    if model.has_scale:
        with np.errstate(divide="ignore", invalid="ignore"):
            n = problem.rows.n if n is None else n
            return np.atleast_1d(np.asarray(residual) * n / dof)
    if _families.has_scale(model):
        return within if problem.estimates_scale else np.asarray(model.scale)
    return np.ones(problem.n_neurons)


def check_weights(problem: Problem) -> None:
    """Raise a ValueError if an observation model of the user's own cannot estimate a dispersion with these weights."""
    weight, model = problem.rows.weight, problem.observation_model
    ours = observation_models.is_native(model)
    ones = observation_models.Observations.estimate_scale
    if ours or getattr(type(model), "estimate_scale", None) is ones or _whole(weight):
        return
    raise ValueError(
        f"`estimate_scale` of {model!r} sees rows, and a weight of w is a row w times: pass whole numbers as "
        "`sample_weight`."
    )


def _whole(weight) -> bool:
    return bool((weight == np.round(weight)).all())


def _own_scale(problem: Problem, dof, coef, intercept) -> np.ndarray:
    """Ask an observation model of the user's own, with every row as often as its weight says."""
    rows = problem.rows
    given = np.nan_to_num(coef), np.nan_to_num(intercept)
    X = rows.double().design.matrix
    eta = predictor(X, *given, problem.layout.beside(rows.offset))
    rate = np.asarray(problem.inverse_link(jnp.asarray(eta)))
    estimate = problem.observation_model.estimate_scale
    weight = np.broadcast_to(rows.weight, rows.y.shape)
    if (weight == 1).all():
        y = problem.layout.squeeze(rows.y)
        return np.asarray(estimate(jnp.asarray(y), jnp.asarray(rate), jnp.asarray(dof)))
    rate, dof, scales = rate.reshape(rows.y.shape), np.reshape(dof, -1), []
    for k in range(problem.n_neurons):
        often = np.repeat(np.arange(len(rate)), np.round(weight[:, k]).astype(int))
        parts = rows.y[often, k], rate[often, k], dof[k]
        scales.append(np.reshape(estimate(*map(jnp.asarray, parts)), -1))
    return np.concatenate(scales)
