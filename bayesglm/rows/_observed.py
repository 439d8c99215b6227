"""Observed curvature of the likelihood over all parameters of a lane, and how it bends: what evidence is made of.

Both are about the centre of the features, where the last parameter is the predictor at that centre: a change of
coordinates with determinant one.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm.rows._kernels import (
    KHATRI_RAO_FROM,
    KHATRI_RAO_PAIRS,
    Spec,
    added,
    block_of,
    block_size,
    losses,
    over_lanes,
    over_rows,
    per_column,
    where_weighted,
)
from bayesglm.rows._shards import Data, Shards


def observed_at(spec: Spec, shards: Shards, theta, dtype) -> np.ndarray:
    """Return the second derivatives of the summed loss of each lane, (lanes, size, size).

    Parameters
    ----------
    theta : array (lanes, columns, features + 1)
        Its parameters in this order, `size` in all.
    """
    many, columns, size = theta.shape
    padded, how = shards.padded(theta), {"lanes": shards.chunk, "dtype": dtype}
    chunks, shift = -(-many // shards.chunk), shards.centre
    found = shards.map(
        lambda data: _observed(spec, data, padded, shift, chunks, **how),
        np.add,
        (_observed, spec, padded.shape, *how.values()),
    )
    first, second = np.triu_indices(columns)
    row, column = np.triu_indices(size)
    found = found.reshape(len(padded), len(first), len(row))[:many]
    whole = np.empty((many, columns, size, columns, size))
    for pair, (one, other) in enumerate(zip(first, second, strict=True)):
        for a, b in ((one, other), (other, one)):
            whole[:, a, row, b, column] = whole[:, a, column, b, row] = found[:, pair]
    return whole.reshape(many, columns * size, columns * size)


def bends_at(spec: Spec, shards: Shards, theta, covariance, dtype) -> np.ndarray:
    r"""Return the gradient of :math:`\mathrm{tr}(C H(\theta))` for the H of :func:`observed_at` and a fixed C.

    Parameters
    ----------
    theta : array (lanes, columns, features + 1)
    covariance : array (lanes, size, size)
        Symmetric.
    """
    many, columns, size = theta.shape
    blocks = covariance.reshape(many, columns, size, columns, size)
    pairs = np.transpose(np.triu_indices(columns))
    # an entry off the diagonal of the classes stands for two
    some = [
        blocks[:, one, :, other] + (one != other) * blocks[:, other, :, one] for one, other in pairs
    ]
    blocks, padded = np.stack(some, axis=1), shards.padded(theta)
    if _pays(size, shards.chunk * len(pairs)):
        i, j = np.triu_indices(size)
        blocks = blocks[..., i, j] * (1.0 + (i != j))
    blocks = shards.padded(blocks)
    how = {"lanes": shards.chunk, "dtype": dtype}
    chunks, shift = -(-many // shards.chunk), shards.centre
    found = shards.map(
        lambda data: _bends(spec, data, padded, blocks, shift, chunks, **how),
        np.add,
        (_bends, spec, padded.shape, *how.values()),
    )
    return found[:many]


def _second(spec: Spec, y, eta, scale):
    """Return the second derivatives of each loss, for pairs of columns: (lanes, pairs, rows)."""

    def slope(e):
        return jax.grad(lambda e: jnp.sum(losses(spec, y, e, scale)))(e)

    columns, found = eta.shape[1], []
    for k in range(columns):
        tangent = jnp.zeros_like(eta).at[:, k].set(1.0)
        found.append(jax.jvp(slope, (eta,), (tangent,))[1][:, k:])
    return jnp.concatenate(found, axis=1)


def _inside(block, columns: int):
    """Return whether rows have weight, and a predictor that is in the domain of the link where they have none."""
    used = per_column(block.weight, columns) > 0
    return jnp.where(used, block.eta, 1.0)


def _joined(X, shift):
    """Return the features about their centre with a column of ones."""
    return jnp.concatenate([X - shift.astype(X.dtype), jnp.ones((len(X), 1), X.dtype)], axis=1)


def _products(Z, lanes: int):
    """Return the products of all pairs of features where one product of these with all lanes pays, else None."""
    i, j = np.triu_indices(Z.shape[1])
    return Z[:, i] * Z[:, j] if _pays(Z.shape[1], lanes) else None


def _pays(size: int, lanes: int) -> bool:
    return lanes >= KHATRI_RAO_FROM and size * (size + 1) // 2 <= KHATRI_RAO_PAIRS


def _heavy(data: Data, lanes: int) -> int:
    size = data.shape[1] + 1
    return size * (size + 1) // 2 if _pays(size, lanes) else 0


@partial(jax.jit, static_argnames=("spec", "lanes", "dtype"))
def _observed(spec: Spec, data: Data, theta, shift, chunks, lanes: int, dtype):
    """Second derivatives summed over the rows of a shard, (lanes times pairs of columns, pairs of parameters)."""
    width, columns, size = theta.shape
    n_pairs = columns * (columns + 1) // 2
    upper = np.triu_indices(size)

    def rows(carry, X, start, fresh):
        X = X.astype(dtype)
        Z = _joined(X, shift)
        products = _products(Z, lanes * n_pairs)

        def chunk(first, carry):
            block = block_of(data, theta, first, lanes, X, start, fresh)
            second = _second(spec, block.y, _inside(block, columns), block.scale)
            w = where_weighted(block.weight, second).reshape(lanes * n_pairs, -1)
            if products is None:
                more = lax.map(lambda row: ((Z * row[:, None]).T @ Z)[upper], w)
            else:
                more = w @ products
            return added(carry, more.astype(jnp.float64), first * n_pairs)

        return over_lanes(chunks, lanes, width, chunk, carry)

    block = block_size(data, columns, lanes, _heavy(data, lanes * n_pairs))
    return over_rows(data, block, rows, jnp.zeros((width * n_pairs, len(upper[0]))))


@partial(jax.jit, static_argnames=("spec", "lanes", "dtype"))
def _bends(spec: Spec, data: Data, theta, blocks, shift, chunks, lanes: int, dtype):
    """Third derivatives against matrices, summed over the rows of a shard: (lanes, columns, features + 1)."""
    width, columns, size = theta.shape
    n_pairs = blocks.shape[1]

    def rows(carry, X, start, fresh):
        X = X.astype(dtype)
        Z = _joined(X, shift)
        products = _products(Z, lanes * n_pairs)

        def chunk(first, carry):
            block = block_of(data, theta, first, lanes, X, start, fresh)
            some = lax.dynamic_slice_in_dim(blocks, first, lanes, 0).astype(dtype)
            some = some.reshape(lanes * n_pairs, *some.shape[2:])
            if products is None:
                spread = lax.map(lambda m: jnp.sum((Z @ m) * Z, axis=1), some)
            else:
                spread = some @ products.T
            spread = spread.reshape(lanes, n_pairs, -1)

            def trace(eta):
                return jnp.sum(spread * _second(spec, block.y, eta, block.scale))

            bend = jax.grad(trace)(_inside(block, columns))
            bend = where_weighted(block.weight, bend).reshape(lanes * columns, -1)
            more = (bend @ Z).reshape(lanes, columns, size)
            return added(carry, more.astype(jnp.float64), first)

        return over_lanes(chunks, lanes, width, chunk, carry)

    block = block_size(data, columns, lanes, _heavy(data, lanes * n_pairs))
    return over_rows(data, block, rows, jnp.zeros(theta.shape))
