"""Mode and curvature of every lane: where chains start, in which metric they move, and the normal approximation.

Priors with a kink are replaced by normal ones of the same variance, for this purpose only: the curvature at a kink says
nothing about the width of the posterior.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm._sampling import _psis, _target
from bayesglm._sampling._target import Family, Lane, Shared

# Directions in which the curvature is taken at once.
DIRECTIONS = 8
_MAX_STEPS = 60
# Squared Newton step, in posterior standard deviations, at which the mode is found.
_CLOSE = 1e-8
# Smallest eigenvalue of the curvature relative to the largest, after scaling to a unit diagonal.
_FLOOR = 1e-10


@partial(jax.jit, static_argnames="family")
def _curvature(family: Family, shared: Shared, lanes: Lane, u):
    """Return energies (lanes,), gradients and Hessians with priors made smooth."""

    def one(lane, u):
        slopes = partial(_target.surrogate_slopes, family, shared, lane)
        along = jax.vmap(lambda e: jax.jvp(slopes, (u,), (e,)))
        size = u.shape[0]
        padded = jnp.eye(-(-size // DIRECTIONS) * DIRECTIONS, size)
        (value, gradient), (_, hessian) = lax.map(along, padded.reshape(-1, DIRECTIONS, size))
        return value[0, 0], gradient[0, 0], hessian.reshape(-1, size)[:size]

    return jax.vmap(one, (_target.axes(lanes), 0))(lanes, u)


def invert(hessian):
    """Return (W, smallest scaled eigenvalue) of each matrix, with ``W @ W.T`` its inverse, made positive definite."""
    scale = np.sqrt(np.maximum(np.abs(np.diagonal(hessian, axis1=-2, axis2=-1)), 1e-300))
    scaled = hessian / (scale[..., :, None] * scale[..., None, :])
    scaled = np.where(np.isfinite(scaled), scaled, 0.0)
    values, vectors = np.linalg.eigh(0.5 * (scaled + np.swapaxes(scaled, -1, -2)))
    floor = _FLOOR * np.maximum(values[..., -1:], 1e-300)
    safe = np.maximum(np.abs(values), floor)
    return vectors / np.sqrt(safe)[..., None, :] / scale[..., :, None], values[..., 0]


@partial(jax.jit, static_argnames="family")
def prior_precision(family: Family, lanes: Lane):
    """Return the precision of the priors of the coefficients, made smooth, (lanes, columns, features); 0 where flat."""

    def one(lane):
        energy = partial(_target.penalty_energy, family, lane, log_phi=lane.log_scale, smooth=True)
        # the smooth energy is quadratic, with a diagonal curvature: its slope at ones
        return jax.grad(energy)(jnp.ones(lane.mask.shape))

    return jax.vmap(one, (_target.axes(lanes),))(lanes)


def find_modes(family: Family, shared: Shared, lanes: Lane, u):
    """Climb from `u` (lanes, size) to the modes by damped Newton steps.

    Returns
    -------
    : tuple
        Modes, whitening matrices, and the smallest eigenvalue of each scaled Hessian.
    """
    u, step = np.array(u), np.zeros_like(u)
    value = np.full(len(u), np.inf)
    length, open_ = np.ones(len(u)), np.ones(len(u), bool)
    whiten, least = np.zeros((*u.shape, u.shape[1])), np.zeros(len(u))
    for _ in range(_MAX_STEPS):
        trial = u + length[:, None] * step
        found, gradient, hessian = map(np.asarray, _curvature(family, shared, lanes, trial))
        rounding = 1e-9 * np.maximum(1.0, np.abs(np.where(np.isfinite(value), value, 0.0)))
        better = open_ & np.isfinite(gradient).all(axis=1) & (found <= value + rounding)
        if not np.isfinite(value[open_]).any():
            better |= open_ & np.isfinite(found)
        u[better], value[better] = trial[better], found[better]
        if better.any():
            w, smallest = invert(hessian[better])
            along = np.einsum("lji,lj->li", w, gradient[better])
            whiten[better], least[better] = w, smallest
            step[better] = -np.einsum("lij,lj->li", w, along)
            size = np.sum(np.square(along), axis=1)
            # far from the mode a full step can overshoot; no step leaves the trust region
            length[better] = np.minimum(1.0, 30.0 / np.sqrt(np.maximum(size, 1e-300)))
            open_[np.flatnonzero(better)[size < _CLOSE]] = False
        worse = open_ & ~better
        length[worse] *= 0.25
        open_ &= length > 1e-10
        if not open_.any():
            break
    return u, whiten, least


@partial(jax.jit, static_argnames=("family", "count"))
def _propose(family: Family, shared: Shared, lanes: Lane, keys, count: int):
    """Draw z from a standard normal; return it and the log importance ratios."""

    def one(lane, key):
        z = jax.random.normal(key, (count, lane.centre.shape[0]))
        value = lax.map(partial(_target.energy, family, shared, lane), z, batch_size=32)
        return z, 0.5 * jnp.sum(jnp.square(z), axis=1) - value

    return jax.vmap(one, (_target.axes(lanes), 0))(lanes, keys)


def draw(family, shared, lanes, keys, count: int):
    """Draw from the normal approximation, resampled by importance.

    Proposals of twice the number of draws are resampled without replacement, with Pareto-smoothed weights.

    Returns
    -------
    : tuple
        Draws of z (lanes, count, size), Pareto k-hat (lanes,), and energies (lanes, count).

    References
    ----------
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling. arXiv:1507.02646
    """
    z, ratios = map(np.asarray, _propose(family, shared, lanes, keys, 2 * count))
    ratios = np.where(np.isnan(ratios), -np.inf, ratios)
    weights, k = _psis.smooth(ratios - ratios.max(axis=1, keepdims=True))
    # the largest keys of the Gumbel trick are a sample without replacement
    noise = np.asarray(
        jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, 1), (2 * count,)))(keys)
    )
    chosen = np.argsort(-(weights + noise), axis=1, kind="stable")[:, :count]
    log_target = ratios - 0.5 * np.sum(np.square(z), axis=2)
    take = lambda a: np.take_along_axis(a, chosen, axis=1)  # noqa: E731
    return np.take_along_axis(z, chosen[..., None], axis=1), k, -take(log_target)
