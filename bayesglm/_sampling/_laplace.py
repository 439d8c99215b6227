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

from bayesglm._sampling import _passes, _psis, _target
from bayesglm._sampling._target import Family, Lane, Shared
from bayesglm.prior import LanePrior
from bayesglm.solvers._subproblem import minimise

_MAX_STEPS = 60
# Squared Newton step, in posterior standard deviations, at which the mode is found.
_CLOSE = 1e-8
# The same where the mode is what an estimator reports, and not a place to start from.
CLOSER = 1e-12
# Proposals for each draw: with so many, hardly any is drawn twice where the approximation is good.
_PROPOSALS = 3
# Smallest eigenvalue of the curvature relative to the largest, after scaling to a unit diagonal.
_FLOOR = 1e-15


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
def prior_curvature(family: Family, lanes: Lane):
    """Return the curvature of the priors of the coefficients, made smooth, at the dispersions of the lanes.

    Returns
    -------
    : array (lanes, columns, features), or (lanes, columns, features, features) where features are coupled
        Zero where a prior is flat.
    """

    def one(lane):
        energy = partial(_target.prior_energy, family, lane, log_phi=lane.log_scale, smooth=True)
        # the smooth energy is quadratic, and columns are independent
        slope = jax.grad(lambda coef: jnp.sum(energy(coef)))
        ones = jnp.ones(lane.mask.shape)
        if not lane.prior.couples:
            return slope(ones) - slope(0.0 * ones)
        along = lambda e: jax.jvp(slope, (ones,), (jnp.broadcast_to(e, ones.shape),))[1]  # noqa: E731
        return jnp.moveaxis(lax.map(along, jnp.eye(ones.shape[-1])), 0, -2)

    return jax.vmap(one, (_target.axes(lanes),))(lanes)


def find_modes(
    family: Family, shared: Shared, lanes: Lane, u, kinks: LanePrior | None = None, close=_CLOSE
):  # fmt: skip
    """Climb from `u` (lanes, size) to the modes by damped Newton steps.

    Parameters
    ----------
    kinks : LanePrior, optional
        Terms in u, (lanes, 1, size), that the priors of the lanes leave out.
    close : float
        Squared distance to the mode, in posterior standard deviations, at which it is found.

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
        found, gradient, hessian = _passes.curvature(family, shared, lanes, trial)
        if kinks is not None:
            found = found + kinks.value(trial[:, None])
        rounding = 1e-9 * np.maximum(1.0, np.abs(np.where(np.isfinite(value), value, 0.0)))
        better = open_ & np.isfinite(gradient).all(axis=1) & (found <= value + rounding)
        if not np.isfinite(value[open_]).any():
            better |= open_ & np.isfinite(found)
        u[better], value[better] = trial[better], found[better]
        if better.any():
            w, smallest = invert(hessian[better])
            whiten[better], least[better] = w, smallest
            if kinks is None:
                step[better], size = _newton(w, gradient[better])
            else:
                some = kinks.select(better)
                step[better], size = _proximal(hessian[better], gradient[better], u[better], some)
            # far from the mode a full step can overshoot; no step leaves the trust region
            length[better] = np.minimum(1.0, 30.0 / np.sqrt(np.maximum(size, 1e-300)))
            open_[np.flatnonzero(better)[size < close]] = False
        worse = open_ & ~better
        length[worse] *= 0.25
        open_ &= length > 1e-10
        if not open_.any():
            break
    return u, whiten, least


def _newton(whiten, gradient):
    """Return steps and their squared lengths in posterior standard deviations."""
    along = np.einsum("lji,lj->li", whiten, gradient)
    return -np.einsum("lij,lj->li", whiten, along), np.sum(np.square(along), axis=1)


def _proximal(hessian, gradient, u, kinks: LanePrior):
    """Return the steps to the minimum of the quadratic model plus kinks, and what they promise."""
    values, vectors = np.linalg.eigh(hessian)
    convex = np.einsum("lij,lj,lkj->lik", vectors, np.abs(values), vectors)
    hessian = np.where((values[:, 0] > 0)[:, None, None], hessian, convex)
    new = minimise(hessian, gradient, u, kinks, np.full(len(u), 0.1 * np.sqrt(CLOSER)))
    gain = kinks.value(u[:, None]) - kinks.value(new[:, None])
    return new - u, gain - np.sum(gradient * (new - u), axis=1)


@partial(jax.jit, static_argnames=("size", "count"))
def _propose(keys, size: int, count: int):
    """Draw z (lanes, count, size) around the mode; return it and its log-density, up to a constant.

    The proposal has the curvature of the normal approximation, but the tails of Student's t: those of a posterior can
    be exponential (at a kink, or where a count is zero), and weights of normal proposals would have no variance.
    """

    def one(key):
        dof = (
            5.0 + 0.5 * size
        )  # at the same dof, the weights of a normal posterior would degenerate with the dimension
        of_z, of_radius = jax.random.split(key)
        mixing = 2.0 * jax.random.gamma(of_radius, 0.5 * dof, (count, 1)) / dof
        z = jax.random.normal(of_z, (count, size)) / jnp.sqrt(mixing)
        return z, -0.5 * (dof + size) * jnp.log1p(jnp.sum(jnp.square(z), axis=1) / dof)

    return jax.vmap(one)(keys)


def draw(family, shared, lanes, keys, count: int):
    """Draw from around the mode, resampled by importance.

    Proposals around the mode give weighted moments, around which the proposals proper are made: a skewed posterior has
    its mean beside the mode, and is wider than the curvature there says. These are resampled with replacement, with
    Pareto-smoothed weights. The number of copies of a proposal is its expected number rounded up or down (systematic
    resampling in random order), which has the mean of independent resampling and less noise.

    Returns
    -------
    : tuple
        Draws of z (lanes, count, size), Pareto k-hat (lanes,), energies (lanes, count), and the effective number of
        draws (lanes,): copies are worth one draw together.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling. arXiv:1507.02646
    Douc, Cappe, Moulines (2005), Comparison of resampling schemes for particle filtering. arXiv:cs/0507025
    Cappe, Guillin, Marin, Robert (2004), Population Monte Carlo. doi:10.1198/106186004X12803
    """
    first = jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys)
    z, _, weights, _ = _weighted(family, shared, lanes, first, count)
    centre, root = _moments(z, np.exp(weights))
    moved = lanes._replace(
        centre=lanes.centre + np.einsum("lij,lj->li", lanes.whiten, centre),
        whiten=lanes.whiten @ root,
    )
    z, energies, weights, k = _weighted(family, shared, moved, keys, count)
    z = centre[:, None] + np.einsum("lij,lnj->lni", root, z)
    noise = np.asarray(_resampling_noise(keys, count))
    chosen = np.stack([_systematic(*each) for each in zip(np.exp(weights), noise, strict=True)])
    copies = np.stack([np.bincount(each, minlength=weights.shape[1]) for each in chosen])
    effective = count**2 / np.sum(np.square(copies), axis=1, dtype=float)
    z = np.take_along_axis(z, chosen[..., None], axis=1)
    return z, k, np.take_along_axis(energies, chosen, axis=1), effective


def _weighted(family, shared, lanes, keys, count: int):
    """Return proposals z for `count` draws, their energies and log weights, and Pareto k-hat."""
    proposed = _propose(keys, lanes.centre.shape[1], _PROPOSALS * count)
    energies = _passes.energies(family, shared, lanes, proposed[0])
    z, log_q = map(np.asarray, proposed)
    ratios = -energies - log_q
    ratios = np.where(np.isnan(ratios), -np.inf, ratios)
    return z, energies, *_psis.smooth(ratios - ratios.max(axis=1, keepdims=True))


def _moments(z, weights):
    """Return weighted means (lanes, size), and roots of the weighted covariances (lanes, size, size)."""
    mean = np.einsum("ln,lni->li", weights, z)
    off = z - mean[:, None]
    covariance = np.einsum("ln,lni,lnj->lij", weights, off, off, optimize=True)
    values, vectors = np.linalg.eigh(covariance)
    # few proposals may carry all the weight; then the curvature at the mode is all that is known
    effective = 1.0 / np.sum(np.square(weights), axis=1)
    poor = (effective < 10 * z.shape[2]) | (values[:, 0] <= 0)
    root = vectors * np.sqrt(np.where(poor[:, None], 1.0, values))[:, None]
    return np.where(poor[:, None], 0.0, mean), np.where(
        poor[:, None, None], np.eye(z.shape[2]), root
    )


@partial(jax.jit, static_argnames="count")
def _resampling_noise(keys, count: int):
    """Return uniform numbers (lanes, count + 1)."""
    return jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), (count + 1,)))(keys)


def _systematic(weights, noise):
    """Return indices, in random order, in which each weight has its expected number of copies, rounded."""
    count = len(noise) - 1
    ends = np.cumsum(weights)
    found = np.searchsorted(ends, (np.arange(count) + noise[0]) / count * ends[-1], side="right")
    return np.minimum(found, len(weights) - 1)[np.argsort(noise[1:])]
