"""What solvers see: loss and derivatives of many independent problems on one design matrix.

A *lane* is one independent problem (a neuron). Its coefficients are `columns` vectors (one for each
class; otherwise one), kept with their intercepts in an array `theta` of shape (lanes, columns,
features + 1). Everything that touches the rows is one of two compiled programs (:func:`_evaluate` and
:func:`_moments`), which depend on family, link, shapes and dtype only: solvers, penalties, strengths and
tolerances share them. All that has the size of the coefficients is NumPy, float64, and compiles nothing.

The matrix is read in row blocks as it lies in memory; predictor, loss and gradient of a block are taken
while it is in cache, so no array with an entry per row and lane is ever written. The rows are cut into
shards (:mod:`bayesglm._shards`), one for each core, whose sums are added here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm._likelihood import kappa, response_distribution, sample_loss
from bayesglm._shards import MAX_BLOCK_ROWS, Data, Shards
from bayesglm.distributions import PredictorDistribution
from bayesglm.prior import LanePrior

# Bytes of one row block with the predictors of one chunk of lanes, a part of the second-level cache of one core.
_BLOCK_BYTES = 1 << 19
# Lanes that are computed together; finished ones stop costing in units of this.
_CHUNK_LANES = 32
# From this number of columns on, all weighted Grams are one product with the products of pairs of features; these
# have to fit the cache for some rows, which sets an end to the number of pairs.
_KHATRI_RAO_FROM, _KHATRI_RAO_PAIRS = 8, 20_000


# A mean square below which a response is zero, far enough from the smallest number to be divided by.
_NOTHING = 1e-250


class Spec(NamedTuple):
    """The hashable part of an objective."""

    observation_model: Any
    inverse_link: Callable
    n_classes: int | None


class Point(NamedTuple):
    """Loss and gradient at some parameters, per lane; means over rows, without penalty."""

    theta: np.ndarray  # (lanes, columns, features + 1)
    gradient: np.ndarray  # as theta
    loss: np.ndarray  # (lanes,)
    residual: (
        np.ndarray
    )  # (lanes,) mean squared Pearson residual of families with a free dispersion
    reach: np.ndarray  # (lanes,) range of the linear predictor
    # (lanes,) square root of n times kappa: standard errors per unit of the loss's metric
    unit: np.ndarray


class Gram(NamedTuple):
    """Second moments of the features, weighted by the curvature of the loss; per lane and column."""

    mean: np.ndarray  # (lanes, columns, features)
    total: np.ndarray  # (lanes, columns) mean curvature
    # (lanes, columns, features, features), or (lanes, columns, features) for its diagonal only
    centred: np.ndarray


def _losses(spec: Spec, y, eta, scale):
    """Loss of each response: (lanes, responses, rows)."""
    if spec.n_classes is None:
        return sample_loss(spec.observation_model, y, eta, spec.inverse_link, scale)
    lanes, _, rows = eta.shape
    by_class = jnp.moveaxis(eta.reshape(lanes, -1, spec.n_classes, rows), 2, -1)
    return sample_loss(spec.observation_model, y, by_class, spec.inverse_link)


def _residuals(spec: Spec, y, eta):
    """Squared Pearson residuals, for families with a free dispersion; None for the others."""
    if spec.n_classes is not None:
        return None
    unit = response_distribution(spec.observation_model, eta, spec.inverse_link)
    return unit.squared_residual(y) if isinstance(unit, PredictorDistribution) else None


def _per_column(weight, columns: int):
    """Repeat the weight of a response for each of its classes."""
    responses = weight.shape[1]
    return weight if responses in (1, columns) else jnp.repeat(weight, columns // responses, axis=1)


def where_weighted(weight, value):
    # A row without weight may hold anything, NaN included.
    return jnp.where(weight > 0, weight * value, 0.0)


def predict(X, theta):
    """Linear predictor (lanes, columns, rows) of rows X."""
    theta = theta.astype(X.dtype)
    lanes, columns, _ = theta.shape
    coef = theta[..., :-1].reshape(lanes * columns, -1)
    eta = lax.dot_general(coef, X, (((1,), (1,)), ((), ())))
    return eta.reshape(lanes, columns, -1) + theta[..., -1:]


def transpose(X, r):
    """Sum r times [X, 1] over rows: (lanes, columns, features + 1), float64."""
    lanes, columns, rows = r.shape
    coef = lax.dot_general(r.reshape(lanes * columns, rows), X, (((1,), (0,)), ((), ())))
    coef = coef.reshape(lanes, columns, -1).astype(jnp.float64)
    return jnp.concatenate([coef, r.sum(-1, dtype=jnp.float64, keepdims=True)], axis=-1)


def slopes(spec: Spec, y, weight, eta, scale):
    """Weighted losses and their derivatives in the predictor, of one block."""
    losses, pullback = jax.vjp(lambda e: _losses(spec, y, e, scale), eta)
    (slope,) = pullback(jnp.ones_like(losses))
    r = where_weighted(_per_column(weight, eta.shape[1]), slope)
    return where_weighted(weight, losses), r


def _curvatures(spec: Spec, y, eta, scale):
    """Second derivative of each loss in its own predictor: (lanes, columns, rows)."""

    def slope(e):
        return jax.grad(lambda e: jnp.sum(_losses(spec, y, e, scale)))(e)

    if spec.n_classes is None:
        return jnp.abs(jax.jvp(slope, (eta,), (jnp.ones_like(eta),))[1])
    chosen = jnp.tile(jnp.eye(spec.n_classes, dtype=eta.dtype), (1, eta.shape[1] // spec.n_classes))

    def own(one_class):
        tangent = jnp.broadcast_to(one_class[None, :, None], eta.shape)
        return jax.jvp(slope, (eta,), (tangent,))[1] * one_class[None, :, None]

    return jnp.abs(lax.map(own, chosen).sum(0))


class _Block(NamedTuple):
    """Some rows of a chunk of lanes."""

    X: Any
    y: Any
    weight: Any  # zero for the rows that an earlier block has seen
    eta: Any
    scale: Any


def block_size(data: Data, columns: int, lanes: int, more: int = 0) -> int:
    n_rows, n_features = data.shape
    itemsize = data.X.first.dtype.itemsize
    rows = _BLOCK_BYTES // (itemsize * (n_features + 3 * columns * lanes + more // 4))
    return min(n_rows, MAX_BLOCK_ROWS, max(64, rows // 64 * 64))


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


def block_of(data: Data, theta, first, lanes: int, X, start, fresh) -> _Block:
    """Cut a block out of the rows, for `lanes` lanes from `first` on, in the precision of X."""
    size = len(X)

    def cut(array):
        if array.shape[0] > 1 and array.shape[0] > lanes:
            array = lax.dynamic_slice_in_dim(array, first, lanes, 0)
        if array.shape[-1] > size:
            array = lax.dynamic_slice_in_dim(array, start, size, array.ndim - 1)
        return array.astype(X.dtype)

    eta = predict(X, lax.dynamic_slice_in_dim(theta, first, lanes, 0))
    if data.offset is not None:
        eta = eta + cut(data.offset)
    return _Block(X, cut(data.y), cut(data.weight) * fresh, eta, cut(data.scale))


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
            X_b, y, weight, eta, scale = block_of(data, theta, first, lanes, X, start, fresh)
            losses, r = slopes(spec, y, weight, eta, scale)
            loss = losses.sum((1, 2), dtype=jnp.float64)
            residuals = _residuals(spec, y, eta)
            residual = jnp.zeros_like(loss)
            if residuals is not None:
                residual = where_weighted(weight, residuals).sum((1, 2), dtype=jnp.float64)
            sums = added(sums, (transpose(X_b, r), loss, residual), first)
            return sums, _extremes(ends, eta, _per_column(weight, columns), first)

        return over_lanes(chunks, lanes, width, chunk, carry)

    zeros = jnp.zeros(width)
    carry = (jnp.zeros(theta.shape), zeros, zeros), jnp.full((width, 2), -jnp.inf)
    sums, ends = over_rows(data, block_size(data, columns, lanes), rows, carry)
    return sums, ends, _unit_kappa(spec, data)


def _unit_kappa(spec: Spec, data: Data):
    """Return kappa at a dispersion of 1, the power of the dispersion that divides it, and whether it is relative."""
    eta = jnp.zeros((1, spec.n_classes or 1, 1), data.y.dtype)
    free = _residuals(spec, data.y[:1, :1, :1], eta) is not None
    unit = partial(response_distribution, spec.observation_model, eta, spec.inverse_link)
    relative = free and unit().relative_residual
    at_one = kappa(spec.observation_model, 1.0).astype(jnp.float64)
    return jnp.stack([at_one, jnp.float64(free), jnp.float64(relative)])


@partial(jax.jit, static_argnames=("spec", "lanes", "dtype", "shared", "dense"))
def _moments(
    spec: Spec, data: Data, theta, shift, chunks, lanes: int, dtype, shared: bool, dense: bool
):
    """Curvature-weighted moments of the features of a shard, about `shift`: sums over its rows.

    With `shared`, moments weighted by the rows alone serve all lanes.

    Returns
    -------
    total : (width, columns), sum of the curvatures
    mass, mean, moment
        (m,), (m, features), (m, pairs of features), or (m, features) if not `dense`, where m is 1 or
        the number of lanes times columns.
    """
    width, columns, _ = theta.shape
    pairs = np.triu_indices(data.shape[1]) if dense else np.tile(np.arange(data.shape[1]), (2, 1))
    together = lanes * columns >= _KHATRI_RAO_FROM and len(pairs[0]) <= _KHATRI_RAO_PAIRS

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
            curvature = _curvatures(spec, y, eta, scale)
            curvature = where_weighted(_per_column(weight, columns), curvature)
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


@dataclass(frozen=True)
class Objective:
    """Mean loss plus penalty of every lane.

    Parameters
    ----------
    spec
        Family.
    shards
        Rows.
    n, response_power : (lanes,)
        Sum of the weights, and mean square of the response.
    prior
        Its penalty, in units of the loss.
    mask : bool array (lanes or 1, columns or 1, features)
        Coefficients in use.
    wide : bool
        Whether blocks of rows are computed with in float64, whatever they are stored in.
    """

    spec: Spec
    shards: Shards
    n: np.ndarray
    response_power: np.ndarray
    prior: LanePrior
    mask: np.ndarray
    wide: bool = False

    @property
    def n_lanes(self) -> int:
        """Number of lanes."""
        return len(self.n)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.shards.n_rows

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.shards.n_features

    @property
    def dtype(self) -> np.dtype:
        """Precision that the rows are computed with in."""
        return np.dtype(float) if self.wide else self.shards.dtype

    @property
    def precision(self) -> float:
        """Rounding unit of the rows."""
        return float(np.finfo(self.dtype).eps)

    def evaluate(self, theta) -> Point:
        """Return loss and gradient at `theta`: one pass over the rows."""
        lanes, padded = self.chunk, self.padded(theta)
        chunks = -(-len(theta) // lanes)
        how = {"lanes": lanes, "dtype": self.dtype}
        key = (_evaluate, self.spec, padded.shape, *how.values())
        sums, ends, family = self.shards.map(
            lambda data: _evaluate(self.spec, data, padded, chunks, **how), _joined, key
        )
        gradient, loss, residual = (a[: len(theta)] for a in sums)
        low, high = ends[: len(theta)].T
        n, residual = self.n, residual / self.n
        return Point(
            np.asarray(theta), gradient / n[:, None, None], loss / n, residual, low + high,
            self._unit(residual, *family),
        )  # fmt: skip

    def _unit(self, residual, at_one, power, relative):
        """Return the square root of n times kappa at the dispersion that the residuals say.

        A fit without residuals would make every distance infinite; below a millionth of the response it is exact,
        or what rounding hides. Relative residuals above 1 are those of a bad fit rather than noise: a dispersion as
        large would make any start an optimum.
        """
        exact = max(1e-6, 1e3 * self.precision) ** 2
        if relative:
            scale = np.clip(residual, exact, 1.0)
        else:
            scale = np.maximum(residual, exact * self.response_power + _NOTHING)
        # Rates and weights in any units: less than one row, or one count, in all would make any start an optimum.
        mass = self.n if power else self.n * np.sqrt(self.response_power)
        n = np.where((mass > 0) & (mass < 1), self.n / mass, self.n)
        return np.sqrt(n * at_one / scale**power)

    def gram(self, theta, shared: bool, dense: bool) -> Gram:
        """Return the curvature-weighted second moments of the features, about the weighted mean.

        With `shared` one unweighted matrix serves all lanes, scaled by each lane's mean curvature: exact where
        the predictor is constant, as at the start of a fit.
        """
        lanes, padded = self.chunk, self.padded(theta)
        chunks, shift = -(-len(theta) // lanes), self.shards.centre
        how = {"lanes": lanes, "dtype": self.dtype, "shared": shared, "dense": dense}
        key = (_moments, self.spec, padded.shape, *how.values())
        total, moments = self.shards.map(
            lambda data: _moments(self.spec, data, padded, shift, chunks, **how),
            partial(jax.tree.map, np.add),
            key,
        )
        return _centred(total[: len(theta)], moments, self.n, shift, shared)

    def with_scale(self, scale) -> Objective:
        """Return the objective at other dispersions (lanes, responses)."""
        return replace(self, shards=self.shards.with_scale(self.padded(scale)))

    def select(self, keep) -> Objective:
        """Return the objective of some of the lanes, given their positions."""
        some = lambda a: a if a is None or len(a) == 1 else a[keep]  # noqa: E731
        return replace(
            self, shards=self.shards.select(keep), n=self.n[keep],
            response_power=self.response_power[keep], prior=self.prior.select(keep),
            mask=some(self.mask),
        )  # fmt: skip

    @property
    def chunk(self) -> int:
        """Number of lanes that are computed together."""
        return self.shards.width // self.shards.n_chunks

    def padded(self, theta):
        """Return an array of the lanes in use with as many as the rows have."""
        extra = self.shards.width - len(theta)
        return (
            np.pad(theta, [(0, extra)] + [(0, 0)] * (np.ndim(theta) - 1))
            if extra
            else np.asarray(theta)
        )


def _joined(one, other):
    """Join the results of :func:`_evaluate` on two shards."""
    sums = tuple(a + b for a, b in zip(one[0], other[0], strict=True))
    return sums, np.maximum(one[1], other[1]), one[2]


def chunks_of(lanes: int) -> int:
    """Return the number of chunks that so many lanes are cut into."""
    return -(-lanes // _CHUNK_LANES)


def _centred(total, moments, n, shift, shared: bool) -> Gram:
    """Return means over rows, with the second moments about the mean of the features instead of `shift`."""
    lanes, columns = total.shape
    n_features = len(shift)
    mass, mean, moment = (a if shared else a[: lanes * columns] for a in moments)
    mass = np.where(mass > 0, mass, 1.0)[:, None]
    off = mean / mass
    if moment.shape[1] == n_features:
        centred = moment / mass - off**2
    else:
        upper = np.triu_indices(n_features)
        where = np.zeros((n_features, n_features), dtype=int)
        where[upper] = where.T[upper] = np.arange(len(upper[0]))
        centred = (moment / mass - off[:, upper[0]] * off[:, upper[1]])[:, where]
    shape = (lanes, columns) if not shared else (1, 1)
    mean = np.broadcast_to((off + shift).reshape(*shape, -1), (lanes, columns, n_features))
    centred = centred.reshape(*shape, *centred.shape[1:])
    total = total / n[:, None]
    return Gram(mean, total, total.reshape(total.shape + (1,) * (centred.ndim - 2)) * centred)


__all__ = ["Gram", "Objective", "Point", "Spec", "chunks_of"]
