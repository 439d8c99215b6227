"""How well fits to some of the rows predict the others."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm.rows._kernels import (
    Spec,
    added,
    block_size,
    distribution_of,
    of_chunk,
    over_lanes,
    over_rows,
    predict,
    where_weighted,
)
from bayesglm.rows._shards import Data, Shards


def scores_at(spec: Spec, shards: Shards, theta, scale):
    """Return sums over the rows that each fold tests, of fits that have not seen them: one pass.

    Of a row, only the density under the fit of its own fold is computed.

    Parameters
    ----------
    shards
        Of responses in order, with folds.
    theta : array (neurons, folds, columns, features + 1)
    scale : array (neurons, folds)
        Dispersions.

    Returns
    -------
    log_likelihood, weight : (neurons, folds)
        Of the responses, with the constants of the density, and of the rows.
    """
    lanes, padded = shards.chunk, shards.padded(theta)
    scale, chunks = shards.padded(scale), -(-len(theta) // lanes)
    found = shards.map(
        lambda data: _scores(spec, data, padded, scale, chunks, lanes=lanes),
        partial(jax.tree.map, np.add),
        (_scores, spec, padded.shape, lanes),
    )
    return tuple(a[: len(theta)] for a in found)


@partial(jax.jit, static_argnames=("spec", "lanes"))
def _scores(spec: Spec, data: Data, theta, scale, chunks, lanes: int):
    width, n_folds, columns, n_params = theta.shape

    def own(mine, values):
        """Pick what belongs to the fold of each row from (lanes, folds, ..., rows)."""
        return jnp.where(mine, values, 0.0).sum(1)

    def rows(carry, X, start, fresh):
        fold = lax.dynamic_slice_in_dim(data.fold[0], start, len(X))
        mine = fold == jnp.arange(n_folds)[:, None]

        def chunk(first, carry):
            y, weight, *offset = of_chunk(data, first, lanes, start, len(X))
            at, spread = (lax.dynamic_slice_in_dim(a, first, lanes, 0) for a in (theta, scale))
            eta = predict(X, at.reshape(lanes, -1, n_params)).reshape(lanes, n_folds, columns, -1)
            eta = sum(offset, own(mine[:, None], eta)).astype(X.dtype)
            spread = own(mine, spread[..., None])[:, None].astype(X.dtype)
            tested = mine.any(0)
            found = distribution_of(spec, eta, jnp.where(tested, spread, 1.0))
            each = found.log_prob(y.astype(X.dtype))
            weight = jnp.broadcast_to(weight.astype(X.dtype) * fresh * tested, each.shape)
            sums = (where_weighted(weight, each), weight)
            by_fold = (jnp.where(mine, a, 0.0).sum(-1, dtype=jnp.float64) for a in sums)
            return added(carry, tuple(by_fold), first)

        return over_lanes(chunks, lanes, width, chunk, carry)

    zeros = jnp.zeros((width, n_folds))
    size = block_size(data, columns * n_folds, lanes)
    return over_rows(data, size, rows, (zeros, zeros))
