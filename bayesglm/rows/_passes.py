"""The programs that go over the rows of a shard, and what they add up to over all shards.

They depend on family, link, shapes and dtype only: solvers, penalties, strengths and tolerances share them.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm._likelihood import kappa, response_distribution
from bayesglm.rows import _small
from bayesglm.rows._kernels import (
    KHATRI_RAO_FROM,
    KHATRI_RAO_PAIRS,
    Spec,
    Sums,
    added,
    block_of,
    block_size,
    curvatures,
    over_lanes,
    over_rows,
    per_column,
    squared_residuals,
    where_weighted,
)
from bayesglm.rows._shards import Data, Shards


def slopes_at(spec: Spec, shards: Shards, theta, dtype):
    """Return sums over all rows at `theta` (lanes, columns, features + 1), computed in a precision.

    Returns
    -------
    gradient, loss, residual
        (lanes, columns, features + 1) of the loss, (lanes,), and (lanes,) of the squared Pearson residuals of
        families with a free dispersion.
    ends : (lanes, 2)
        Minus the smallest, and the largest linear predictor.
    unit : (3,)
        Kappa at a dispersion of 1, the power of the dispersion that divides it, and whether residuals are relative.
    """
    lanes, padded = shards.chunk, shards.padded(theta)
    chunks, how = -(-len(theta) // lanes), {"lanes": lanes, "dtype": dtype}
    key = (_evaluate, spec, padded.shape, *how.values())
    program = lambda data: _evaluate(spec, data, padded, chunks, **how)  # noqa: E731
    if shards.small:
        program = lambda data: _small.evaluate(spec, data, theta)  # noqa: E731
    sums, ends, unit = shards.map(program, _joined, key)
    return *(a[: len(theta)] for a in sums), ends[: len(theta)], unit


def _joined(one, other):
    """Join the results of :func:`_evaluate` on two shards."""
    sums = tuple(a + b for a, b in zip(one[0], other[0], strict=True))
    return sums, np.maximum(one[1], other[1]), one[2]


def moments_at(spec: Spec, shards: Shards, theta, shared: bool, dense: bool, dtype):
    """Return the curvature-weighted moments of the features about the centre of the shards, summed over all rows.

    With `shared`, moments weighted by the rows alone serve all lanes.

    Returns
    -------
    total : (lanes, columns)
        Of the curvatures.
    mass, mean, moment
        (m,), (m, features), (m, pairs of features), or (m, features) if not `dense`, where m is 1 or
        the number of lanes times columns.
    """
    lanes, padded = shards.chunk, shards.padded(theta)
    chunks, shift = -(-len(theta) // lanes), shards.centre
    how = {"lanes": lanes, "dtype": dtype, "shared": shared, "dense": dense}
    key = (_moments, spec, padded.shape, *how.values())
    program = lambda data: _moments(spec, data, padded, shift, chunks, **how)  # noqa: E731
    if shards.small:
        program = lambda data: _small.moments(spec, data, theta, shift, shared, dense)  # noqa: E731
    total, moments = shards.map(program, partial(jax.tree.map, np.add), key)
    used = 1 if shared else theta.shape[0] * theta.shape[1]
    return total[: len(theta)], tuple(a[:used] for a in moments)


def of_log_scale(spec: Spec, shards: Shards, theta, log_scale):
    """Return the first and second derivative of the log-likelihood in `log_scale` (lanes, responses)."""
    lanes, padded = shards.chunk, shards.padded(theta)
    scales, chunks = shards.padded(log_scale), -(-len(theta) // lanes)
    program = lambda data: _derivatives(spec, data, padded, scales, chunks, lanes=lanes)  # noqa: E731
    if shards.small and _small.formulas(spec).of_log_scale is not None:
        program = lambda data: _small.derivatives(spec, data, theta, log_scale)  # noqa: E731
    key = (_derivatives, spec, lanes, padded.shape)
    found = shards.map(program, partial(jax.tree.map, np.add), key)
    return [a[: len(theta)] for a in found]


def _extremes(carry, eta, weight, first):
    """Take in the smallest and largest predictor of each lane."""
    used = weight > 0
    low = jnp.min(jnp.where(used, eta, jnp.inf), (1, 2))
    high = jnp.max(jnp.where(used, eta, -jnp.inf), (1, 2))
    found = jnp.stack([-low, high], -1).astype(jnp.float64)
    old = lax.dynamic_slice_in_dim(carry, first, len(found), 0)
    return lax.dynamic_update_slice_in_dim(carry, jnp.maximum(old, found), first, 0)


@partial(jax.jit, static_argnames=("spec", "lanes", "dtype"))
def _evaluate(spec: Spec, data: Data, theta, chunks, lanes: int, dtype):
    """Gradient, loss, residual and range of the predictor of a shard: sums over its rows, one pass."""
    width, columns, _ = theta.shape

    def rows(carry, X, start, fresh):
        X = X.astype(dtype)

        def chunk(first, carry):
            sums, ends = carry
            block = block_of(data, theta, first, lanes, X, start, fresh)
            found, weight = Sums.of(spec, block), block.weight
            loss = found.loss.sum(1)
            residuals = squared_residuals(spec, block.y, block.eta)
            residual = jnp.zeros_like(loss)
            if residuals is not None:
                residual = where_weighted(weight, residuals).sum((1, 2), dtype=jnp.float64)
            sums = added(sums, (found.slope, loss, residual), first)
            return sums, _extremes(ends, block.eta, per_column(weight, columns), first)

        return over_lanes(chunks, lanes, width, chunk, carry)

    zeros = jnp.zeros(width)
    carry = (jnp.zeros(theta.shape), zeros, zeros), jnp.full((width, 2), -jnp.inf)
    sums, ends = over_rows(data, block_size(data, columns, lanes), rows, carry)
    return sums, ends, _unit_kappa(spec, data)


def _unit_kappa(spec: Spec, data: Data):
    """Return kappa at a dispersion of 1, the power of the dispersion that divides it, and whether it is relative."""
    eta = jnp.zeros((1, spec.n_classes or 1, 1), data.y.dtype)
    free = squared_residuals(spec, data.y[:1, :1, :1], eta) is not None
    unit = partial(response_distribution, spec.observation_model, eta, spec.inverse_link)
    relative = free and unit().relative_residual
    at_one = kappa(spec.observation_model, 1.0).astype(jnp.float64)
    return jnp.stack([at_one, jnp.float64(free), jnp.float64(relative)])


@partial(jax.jit, static_argnames=("spec", "lanes", "dtype", "shared", "dense"))
def _moments(
    spec: Spec, data: Data, theta, shift, chunks, lanes: int, dtype, shared: bool, dense: bool
):
    """Sum what :func:`moments_at` says over the rows of a shard, about `shift`."""
    width, columns, _ = theta.shape
    pairs = np.triu_indices(data.shape[1]) if dense else np.tile(np.arange(data.shape[1]), (2, 1))
    together = lanes * columns >= KHATRI_RAO_FROM and len(pairs[0]) <= KHATRI_RAO_PAIRS

    def moments(w, X, products):
        return (
            w.sum(-1, dtype=jnp.float64),
            lax.dot_general(w, X, (((1,), (0,)), ((), ()))).astype(jnp.float64),
            _second_moments(w, X, products, dense).astype(jnp.float64),
        )

    def rows(carry, X, start, fresh):
        X = X.astype(dtype)
        centred = X - shift.astype(dtype)
        products = None
        if not dense or (together and not shared):
            products = centred[:, pairs[0]] * centred[:, pairs[1]]

        def chunk(first, carry):
            total, sums = carry
            _, y, weight, eta, scale = block_of(data, theta, first, lanes, X, start, fresh)
            curvature = curvatures(spec, y, eta, scale)
            curvature = where_weighted(per_column(weight, columns), curvature)
            total = added(total, curvature.sum(-1, dtype=jnp.float64), first)
            if not shared:
                more = moments(curvature.reshape(lanes * columns, -1), centred, products)
                sums = added(sums, more, first * columns)
            return total, sums

        total, sums = over_lanes(chunks, lanes, width, chunk, carry)
        if shared:
            weight = block_of(data, theta, 0, lanes, X, start, fresh).weight
            more = moments(weight.mean((0, 1))[None], centred, products)
            sums = jax.tree.map(jnp.add, sums, more)
        return total, sums

    m = 1 if shared else width * columns
    shape = (m, len(pairs[0]))
    zeros = jnp.zeros(m), jnp.zeros((m, data.shape[1])), jnp.zeros(shape)
    heavy = len(pairs[0]) if dense and together and not shared else 0
    size = block_size(data, columns, lanes, heavy)
    return over_rows(data, size, rows, (jnp.zeros((width, columns)), zeros))


def _second_moments(w, X, products, dense: bool):
    """Sum w x x' over the rows of X for each row of w, as its upper triangle, or its diagonal."""
    if products is not None:
        return w @ products
    upper = np.triu_indices(X.shape[1])
    return jnp.stack([((X * row[:, None]).T @ X)[upper] for row in w])


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
