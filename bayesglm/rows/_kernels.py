"""What is computed of a block of rows: predictors, losses and their derivatives, for a chunk of lanes.

A *lane* is one independent problem (a neuron). Its coefficients are `columns` vectors (one for each class; otherwise
one), kept with their intercepts in an array `theta` of shape (lanes, columns, features + 1). Blocks are read as they
lie in memory; what a pass needs of one is taken while it is in cache, so that no array with an entry per row and lane
is ever written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayesglm._likelihood import loss_of, response_distribution
from bayesglm.distributions import PredictorDistribution
from bayesglm.rows._shards import MAX_BLOCK_ROWS, Data

# Bytes of one row block with the predictors of one chunk of lanes, a part of the second-level cache of one core.
_BLOCK_BYTES = 1 << 19

# From this number of columns on, all weighted Grams are one product with the products of pairs of features; these
# have to fit the cache for some rows, which sets an end to the number of pairs.
KHATRI_RAO_FROM, KHATRI_RAO_PAIRS = 8, 20_000


class Spec(NamedTuple):
    """The hashable part of a likelihood."""

    observation_model: Any
    inverse_link: Callable
    n_classes: int | None
    density: bool = False  # whether the loss of a density that is not made of one is minus its log


def distribution_of(spec: Spec, eta, scale):
    """Return the distribution of the responses, (lanes, responses, rows)."""
    if spec.n_classes is not None:
        lanes, _, rows = eta.shape
        eta = jnp.moveaxis(eta.reshape(lanes, -1, spec.n_classes, rows), 2, -1)
    return distribution(spec, eta, scale)


def losses(spec: Spec, y, eta, scale):
    """Loss of each response: (lanes, responses, rows)."""
    return _loss(spec, distribution_of(spec, eta, scale), y)


def loss_of_each(spec: Spec, y, eta, scale):
    """Loss of responses of any shape, with classes on the last axis of the predictors."""
    return _loss(spec, distribution(spec, eta, scale), y)


def _loss(spec: Spec, found, y):
    if spec.density and not is_split(found):
        return -found.log_prob(y)
    return loss_of(found, y)


def distribution(spec: Spec, eta, scale=1.0):
    """Distribution of responses, with classes on the last axis of the predictors."""
    how = (scale,) if spec.n_classes is None else ()
    return response_distribution(spec.observation_model, eta, spec.inverse_link, *how)


def is_split(found) -> bool:
    """Return whether a distribution has its log-density from loss and base, as ours do."""
    return isinstance(found, PredictorDistribution) and (
        type(found).log_prob is PredictorDistribution.log_prob
    )


def squared_residuals(spec: Spec, y, eta):
    """Squared Pearson residuals, for families with a free dispersion; None for the others."""
    if spec.n_classes is not None:
        return None
    unit = distribution(spec, eta)
    return unit.squared_residual(y) if isinstance(unit, PredictorDistribution) else None


def per_column(weight, columns: int):
    """Repeat the weight of a response for each of its classes."""
    responses = weight.shape[1]
    return weight if responses in (1, columns) else jnp.repeat(weight, columns // responses, axis=1)


def where_weighted(weight, value):
    """Weigh what rows have; one without weight may hold anything, NaN included."""
    return jnp.where(weight > 0, weight * value, 0.0)


def predict(X, theta):
    """Return the linear predictor (lanes, columns, rows) of rows X."""
    theta = theta.astype(X.dtype)
    lanes, columns, _ = theta.shape
    coef = theta[..., :-1].reshape(lanes * columns, -1)
    eta = lax.dot_general(coef, X, (((1,), (1,)), ((), ())))
    return eta.reshape(lanes, columns, -1) + theta[..., -1:]


def transpose(X, r):
    """Return the sum of r times [X, 1] over rows: (lanes, columns, features + 1), float64."""
    lanes, columns, rows = r.shape
    coef = lax.dot_general(r.reshape(lanes * columns, rows), X, (((1,), (0,)), ((), ())))
    coef = coef.reshape(lanes, columns, -1).astype(jnp.float64)
    return jnp.concatenate([coef, r.sum(-1, dtype=jnp.float64, keepdims=True)], axis=-1)


def slopes(spec: Spec, y, weight, eta, scale):
    """Return the weighted losses of a block and their derivatives in the predictor, and in the dispersion, summed.

    Shapes: (lanes, responses, rows), (lanes, columns, rows), and that of `scale`, (lanes, responses, 1).
    """
    used = weight > 0
    # A row without weight may also lie outside the domain of the link.
    inside = jnp.where(per_column(used, eta.shape[1]), eta, 1.0)
    each, pullback = jax.vjp(lambda e, s: losses(spec, y, e, s), inside, scale)
    weights = jnp.broadcast_to(jnp.where(used, weight, 0.0), each.shape)
    of_eta, of_scale = pullback(weights.astype(each.dtype))
    r = jnp.where(per_column(used, eta.shape[1]), of_eta, 0.0)
    return where_weighted(weight, each), r, of_scale


def curvatures(spec: Spec, y, eta, scale):
    """Second derivative of each loss in its own predictor: (lanes, columns, rows)."""

    def slope(e):
        return jax.grad(lambda e: jnp.sum(losses(spec, y, e, scale)))(e)

    if spec.n_classes is None:
        return jnp.abs(jax.jvp(slope, (eta,), (jnp.ones_like(eta),))[1])
    chosen = jnp.tile(jnp.eye(spec.n_classes, dtype=eta.dtype), (1, eta.shape[1] // spec.n_classes))

    def own(one_class):
        tangent = jnp.broadcast_to(one_class[None, :, None], eta.shape)
        return jax.jvp(slope, (eta,), (tangent,))[1] * one_class[None, :, None]

    return jnp.abs(lax.map(own, chosen).sum(0))


class Block(NamedTuple):
    """Some rows of a chunk of lanes."""

    X: Any
    y: Any
    weight: Any  # zero for the rows that an earlier block has seen
    eta: Any
    scale: Any


def block_size(data: Data, columns: int, lanes: int, more: int = 0) -> int:
    """Return the rows of a block that stays in cache, with what is computed of it."""
    n_rows, n_features = data.shape
    itemsize = data.X.first.dtype.itemsize
    return min(n_rows, block_rows(n_features + more // 4, columns * lanes, itemsize))


def block_rows(n_features: int, columns: int, itemsize: int = 8) -> int:
    """Return the rows of a block with the predictors of so many columns that stays in cache."""
    rows = _BLOCK_BYTES // (itemsize * (n_features + 3 * columns))
    return min(MAX_BLOCK_ROWS, max(64, rows // 64 * 64))


def over_rows(data: Data, size: int, body: Callable, carry):
    """Run ``carry = body(carry, X, start, fresh)`` over row blocks of one length.

    The last block is moved back to have full length; `fresh` is 0 for rows that an earlier block has seen.
    """
    n_rows, n_features = data.shape
    if data.X.flat is None and size >= n_rows:
        return body(carry, data.X.first, 0, jnp.ones(n_rows, data.X.first.dtype))

    def step(i, carry):
        start = jnp.minimum(i * size, n_rows - size)
        fresh = (jnp.arange(size) + start >= i * size).astype(data.X.first.dtype)
        return body(carry, data.X.rows(start, size, n_rows), start, fresh)

    return lax.fori_loop(0, -(-n_rows // size), step, carry)


def of_chunk(data: Data, first, lanes: int, start, size: int):
    """Return y, weight and, where there is one, offset of some rows, for `lanes` lanes from `first` on."""

    def cut(array):
        if data.which is not None and array.shape[0] > 1:
            return _gathered(array, which, start, size)
        if array.shape[0] > 1 and array.shape[0] > lanes:
            array = lax.dynamic_slice_in_dim(array, first, lanes, 0)
        if array.shape[-1] > size:
            array = lax.dynamic_slice_in_dim(array, start, size, array.ndim - 1)
        return array

    offset = () if data.offset is None else (data.offset,)
    if data.which is None:
        return cut(data.y), cut(data.weight), *map(cut, offset)
    which, left_out = (
        lax.dynamic_slice_in_dim(a, first, lanes, 0) for a in (data.which, data.left_out)
    )
    y = jnp.broadcast_to(cut(data.y), (lanes, data.y.shape[1], size))
    fold = lax.dynamic_slice_in_dim(data.fold, start, size, 1)
    used = (fold != left_out[:, None, None]).all(1, keepdims=True)
    return y, cut(data.weight) * used, *map(cut, offset)


def _gathered(array, which, start, size: int):
    """Return some rows of the entries that lanes name: of each, what is needed and no more."""
    start = jnp.asarray(start, which.dtype)
    one = lambda k: lax.dynamic_slice(array, (k, 0 * k, start), (1, array.shape[1], size))[0]  # noqa: E731
    return jax.vmap(one)(which)


def block_of(data: Data, theta, first, lanes: int, X, start, fresh) -> Block:
    """Cut a block out of the rows, for `lanes` lanes from `first` on, in the precision of X."""
    found = of_chunk(data, first, lanes, start, len(X))
    y, weight, *offset = (a.astype(X.dtype) for a in found)
    eta = predict(X, lax.dynamic_slice_in_dim(theta, first, lanes, 0))
    for shift in offset:
        eta = eta + shift
    scale = data.scale
    if scale.shape[0] > lanes:
        scale = lax.dynamic_slice_in_dim(scale, first, lanes, 0)
    return Block(X, y, weight * fresh, eta, scale.astype(X.dtype))


def over_lanes(chunks, lanes: int, width: int, body: Callable, carry):
    """Run ``carry = body(first, carry)`` over the first `chunks` chunks of lanes."""
    if width == lanes:
        return body(0, carry)
    return lax.fori_loop(0, chunks, lambda k, carry: body(k * lanes, carry), carry)


def added(carry, more, first):
    """Add what belongs to the lanes from `first` on."""

    def add(total, part):
        old = lax.dynamic_slice_in_dim(total, first, len(part), 0)
        return lax.dynamic_update_slice_in_dim(total, old + part, first, 0)

    return jax.tree.map(add, carry, more)


class Sums(NamedTuple):
    """A likelihood and its derivatives, summed over rows."""

    slope: Any  # (lanes, columns, features + 1), in theta
    loss: Any  # (lanes, responses)
    of_scale: Any  # (lanes, responses), derivative in the dispersion

    @classmethod
    def of(cls, spec: Spec, block: Block) -> Sums:
        """Return the sums over a block."""
        each, r, of_scale = slopes(spec, block.y, block.weight, block.eta, block.scale)
        of_scale = of_scale[..., 0].astype(jnp.float64)
        return cls(transpose(block.X, r), each.sum(-1, dtype=jnp.float64), of_scale)


def likelihood(spec: Spec, data: Data, theta, size: int) -> Sums:
    """Return the likelihood of all lanes of a shard and its derivatives, in blocks of `size` rows; for JAX to trace."""
    lanes, responses = len(theta), data.y.shape[1]

    def rows(carry, X, start, fresh):
        more = Sums.of(spec, block_of(data, theta, 0, lanes, X, start, fresh))
        return jax.tree.map(jnp.add, carry, more)

    zero = jnp.zeros((lanes, responses))
    return over_rows(data, size, rows, Sums(jnp.zeros_like(theta), zero, zero))
