"""What solvers see: loss and derivatives of many independent problems on one design matrix.

A *lane* is one independent problem (a neuron). Its coefficients are `columns` vectors (one for each
class; otherwise one), kept with their intercepts in an array `theta` of shape (lanes, columns,
features + 1). Everything that touches the design matrix is one of three compiled programs
(:func:`_evaluate`, :func:`_search`, :func:`_gram`), which depend on family, link, shapes and dtype only:
solvers, penalties, strengths and tolerances share them.

The matrix is read in row blocks as it lies in memory, and the forward and the transposed product are
taken while a block is in cache. Arrays with one entry per row have the dtype of the matrix; sums over
rows and everything of the size of the coefficients are float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm._likelihood import kappa, response_distribution, sample_loss
from bayesglm._penalty import Penalty
from bayesglm.distributions import PredictorDistribution

# Bytes of one row block with its predictors, about the second-level cache of one core.
_BLOCK_BYTES = 1 << 20
# From this number of columns on, all weighted Grams are one product with the row-wise products of features.
_KHATRI_RAO_FROM = 8


class Data(NamedTuple):
    """The rows. Shapes: X (rows, features), the others with the rows last."""

    X: Any
    y: Any  # (lanes, responses, rows)
    weight: Any  # (lanes or 1, responses or 1, rows)
    offset: Any  # (lanes or 1, columns or 1, rows), or None
    scale: Any  # dispersion of the family where it enters the loss
    n: Any  # (lanes,) sum of the weights
    response_power: Any  # (lanes,) mean square of the response


class Spec(NamedTuple):
    """The hashable part of an objective."""

    observation_model: Any
    inverse_link: Callable
    n_classes: int | None


class Point(NamedTuple):
    """Loss and gradient at some parameters, per lane; means over rows, without penalty."""

    theta: Any  # (lanes, columns, features + 1)
    eta: Any  # (lanes, columns, rows)
    gradient: Any  # as theta
    loss: Any  # (lanes,)
    residual: Any  # (lanes,) mean squared Pearson residual of the families with a free dispersion
    unit: (
        Any  # (lanes,) square root of n times kappa: standard errors per unit of the loss's metric
    )


class Step(NamedTuple):
    """What a line search found."""

    length: Any  # (lanes,)
    slope: Any  # (lanes,) derivative of the smooth part at length 0
    curvature: Any  # (lanes,) second derivative there
    decrease: Any  # (lanes,) change of loss and penalty bound, negative if it went down


def _losses(spec: Spec, y, eta, scale):
    """Loss of each response: (lanes, responses, rows)."""
    if spec.n_classes is None:
        return sample_loss(spec.observation_model, y, eta, spec.inverse_link, scale)
    lanes, _, rows = eta.shape
    by_class = jnp.moveaxis(eta.reshape(lanes, -1, spec.n_classes, rows), 2, -1)
    return sample_loss(spec.observation_model, y, by_class, spec.inverse_link, scale)


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


def _block_rows(n_rows: int, n_features: int, columns: int, itemsize: int) -> int:
    rows = _BLOCK_BYTES // (itemsize * (n_features + 6 * columns))
    return min(n_rows, max(64, rows // 64 * 64))


def _for_blocks(n_rows: int, size: int, body: Callable, carry):
    """Run ``carry = body(carry, rows, lanes, fresh)`` over row blocks.

    `rows` and `lanes` cut a block out of an array with the rows first or last. The last block is moved back to
    have full length; `fresh` is 0 for the rows that an earlier block has seen.
    """
    if size >= n_rows:
        return body(carry, lambda a: a, lambda a: a, lambda a, b: b, 1.0)

    def step(i, carry):
        start = jnp.minimum(i * size, n_rows - size)
        fresh = (jnp.arange(size) + start >= i * size).astype(jnp.float32)
        return body(
            carry,
            lambda a: lax.dynamic_slice_in_dim(a, start, size, 0),
            lambda a: lax.dynamic_slice_in_dim(a, start, size, a.ndim - 1),
            lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, a.ndim - 1),
            fresh,
        )

    return lax.fori_loop(0, -(-n_rows // size), step, carry)


def _predict(X, theta):
    """Linear predictor (lanes, columns, rows) of rows X."""
    theta = theta.astype(X.dtype)
    lanes, columns, _ = theta.shape
    coef = theta[..., :-1].reshape(lanes * columns, -1)
    eta = lax.dot_general(coef, X, (((1,), (1,)), ((), ())))
    return eta.reshape(lanes, columns, -1) + theta[..., -1:]


def _transpose(X, r):
    """Sum r times [X, 1] over rows: (lanes, columns, features + 1), float64."""
    lanes, columns, rows = r.shape
    coef = lax.dot_general(r.reshape(lanes * columns, rows), X, (((1,), (0,)), ((), ())))
    coef = coef.reshape(lanes, columns, -1).astype(jnp.float64)
    return jnp.concatenate([coef, r.sum(-1, dtype=jnp.float64, keepdims=True)], axis=-1)


def _where_weighted(weight, value):
    # A row without weight may hold anything, NaN included.
    return jnp.where(weight > 0, weight * value, 0.0)


def _block_size(data: Data, columns: int) -> int:
    n_rows, n_features = data.X.shape
    return _block_rows(n_rows, n_features, columns, data.X.dtype.itemsize)


def _gradient_of_block(spec, data, X, y, weight, eta):
    losses, pullback = jax.vjp(lambda e: _losses(spec, y, e, data.scale), eta)
    (slope,) = pullback(jnp.ones_like(losses))
    r = _where_weighted(_per_column(weight, eta.shape[1]), slope)
    loss = _where_weighted(weight, losses).sum((1, 2), dtype=jnp.float64)
    return _transpose(X, r), loss, _residual_sum(spec, y, weight, eta)


def _residual_sum(spec, y, weight, eta):
    residuals = _residuals(spec, y, eta)
    if residuals is None:
        return jnp.zeros(eta.shape[0])
    return _where_weighted(weight, residuals).sum((1, 2), dtype=jnp.float64)


@partial(jax.jit, static_argnames="spec")
def _evaluate(spec: Spec, data: Data, theta) -> Point:
    """Predictor, loss and gradient in one pass over the rows."""
    lanes, columns, _ = theta.shape
    n_rows = data.X.shape[0]

    def body(carry, rows, last, put, fresh):
        eta, gradient, loss, residual = carry
        X, y = rows(data.X), last(data.y)
        weight = last(data.weight) * jnp.asarray(fresh, data.X.dtype)
        eta_b = _predict(X, theta)
        if data.offset is not None:
            eta_b = eta_b + last(data.offset)
        g, v, s = _gradient_of_block(spec, data, X, y, weight, eta_b)
        return put(eta, eta_b), gradient + g, loss + v, residual + s

    zeros = jnp.zeros(lanes)
    carry = (
        jnp.zeros((lanes, columns, n_rows), data.X.dtype),
        jnp.zeros(theta.shape),
        zeros,
        zeros,
    )
    eta, gradient, loss, residual = _for_blocks(n_rows, _block_size(data, columns), body, carry)
    return _point(spec, data, theta, eta, gradient, loss, residual)


def _point(spec, data, theta, eta, gradient, loss, residual) -> Point:
    """Turn sums over rows into means."""
    n = data.n
    residual = residual / n
    # A fit without residuals would make every distance infinite; below 1e-6 of the response it is exact.
    scale = jnp.maximum(residual, 1e-12 * data.response_power)
    unit = jnp.sqrt(n * kappa(spec.observation_model, scale))
    return Point(theta, eta, gradient / n[:, None, None], loss / n, residual, unit)


class _Line(NamedTuple):
    t: Any
    low: Any
    high: Any
    value: Any
    slope: Any
    curvature: Any
    done: Any
    trial: Any


# Share of the initial slope that may remain where a search stops: enough for quasi-Newton updates, and met by the first
# trial where the metric is good.
_SLOPE_LEFT = 0.1
_ARMIJO = 1e-4
_MAX_TRIALS = 40


@partial(jax.jit, static_argnames="spec")
def _search(
    spec: Spec, data: Data, point: Point, direction, linear, quadratic, first, longest, slack, exact
):
    """Step along a direction: search on cached predictors, then the gradient at the point found.

    Parameters
    ----------
    direction : as theta
    linear, quadratic : (lanes,)
        The penalty along the direction is bounded by ``linear * t + quadratic * t**2 / 2``.
    first : scalar
        First trial; NaN for the Newton step of the restricted problem; negative for the fixed step ``-first``.
    longest : scalar
        Longest step allowed.
    slack : scalar or (lanes,)
        Increase that is still accepted (non-monotone searches).
    exact : bool
        Whether the slope must also have dropped to a tenth.
    """
    lanes, columns, _ = direction.shape
    n, n_rows = data.n, data.X.shape[0]
    size = _block_size(data, columns)
    zeros = jnp.zeros(lanes)
    first = jnp.broadcast_to(jnp.asarray(first, float), (lanes,))

    def along(t, y, weight, eta, delta):
        """Mean loss less that at t = 0, and its first two derivatives, summed over a block."""
        base = _losses(spec, y, eta, data.scale)

        def value(t):
            losses = _losses(spec, y, eta + t[:, None, None].astype(eta.dtype) * delta, data.scale)
            return _where_weighted(weight, losses - base).sum((1, 2), dtype=jnp.float64)

        one = jnp.ones_like(t)
        (v, s), (_, c) = jax.jvp(lambda u: jax.jvp(value, (u,), (one,)), (t,), (one,))
        return v, s, c

    def weight_of(last, fresh):
        return last(data.weight) * jnp.asarray(fresh, data.X.dtype)

    def project(carry, rows, last, put, fresh):
        delta, v, s, c = carry
        delta_b = _predict(rows(data.X), direction)
        more = along(zeros, last(data.y), weight_of(last, fresh), last(point.eta), delta_b)
        return put(delta, delta_b), v + more[0], s + more[1], c + more[2]

    carry = (jnp.zeros((lanes, columns, n_rows), data.X.dtype), zeros, zeros, zeros)
    delta, _, slope_0, curvature_0 = _for_blocks(n_rows, size, project, carry)
    slope_0, curvature_0 = slope_0 / n + linear, curvature_0 / n + quadratic

    def measure(t):
        def body(carry, rows, last, put, fresh):
            more = along(t, last(data.y), weight_of(last, fresh), last(point.eta), last(delta))
            return tuple(a + b for a, b in zip(carry, more, strict=True))

        v, s, c = _for_blocks(n_rows, size, body, (zeros, zeros, zeros))
        return (
            v / n + linear * t + 0.5 * quadratic * t**2,
            s / n + linear + quadratic * t,
            c / n + quadratic,
        )

    # Rounding of the summed differences: what a search must not take for an increase.
    noise = 4.0 * jnp.finfo(data.X.dtype).eps * jnp.abs(point.loss)
    newton_0 = -slope_0 / jnp.where(curvature_0 == 0, 1.0, jnp.abs(curvature_0))
    fixed = first < 0
    start = jnp.where(jnp.isnan(first), newton_0, jnp.abs(first))
    start = jnp.minimum(start, longest)
    idle = ~(slope_0 < 0) & ~fixed  # a finished lane, or no descent

    def trial(line: _Line) -> _Line:
        v, s, c = measure(line.t)
        finite = jnp.isfinite(v) & jnp.isfinite(s) & jnp.isfinite(c)
        lower = finite & (v <= noise + slack + _ARMIJO * line.t * slope_0)
        flat = (jnp.abs(s) <= _SLOPE_LEFT * jnp.abs(slope_0)) | ((line.t >= longest) & (s <= 0))
        accept = line.done | (lower & (flat | ~exact))
        too_far = ~lower | (s > 0)
        low = jnp.where(too_far, line.low, line.t)
        high = jnp.where(too_far, line.t, line.high)
        newton = line.t - s / jnp.where(c == 0, 1.0, jnp.abs(c))
        inside = finite & (
            newton > low + 0.05 * (jnp.minimum(high, 1e300) - low) * jnp.isfinite(high)
        )
        # Far up an exponential, Newton steps crawl back: halve at least.
        inside &= newton < jnp.where(lower, high, low + 0.5 * (high - low))
        middle = low + jnp.where(lower, 0.5, jnp.where(finite, 0.25, 0.1)) * (high - low)
        beyond = jnp.minimum(4.0 * line.t, longest)
        t = jnp.where(
            inside, jnp.minimum(newton, longest), jnp.where(jnp.isfinite(high), middle, beyond)
        )
        keep = partial(jnp.where, accept)
        return _Line(
            keep(line.t, t), keep(line.low, low), keep(line.high, high),
            jnp.where(line.done, line.value, v), jnp.where(line.done, line.slope, s),
            jnp.where(line.done, line.curvature, c), accept, line.trial + 1,
        )  # fmt: skip

    line = _Line(
        jnp.where(idle, 0.0, start),
        zeros,
        jnp.full(lanes, jnp.inf),
        zeros,
        slope_0,
        curvature_0,
        idle | fixed,
        0,
    )
    line = lax.while_loop(lambda ln: ~jnp.all(ln.done) & (ln.trial < _MAX_TRIALS), trial, line)
    # Out of trials: the longest step seen to go down, possibly none.
    t = jnp.where(line.done, line.t, line.low)

    def finish(carry, rows, last, put, fresh):
        eta, gradient, loss, residual = carry
        eta_b = last(point.eta) + t[:, None, None].astype(data.X.dtype) * last(delta)
        g, v, s = _gradient_of_block(
            spec, data, rows(data.X), last(data.y), weight_of(last, fresh), eta_b
        )
        return put(eta, eta_b), gradient + g, loss + v, residual + s

    carry = (point.eta, jnp.zeros(direction.shape), zeros, zeros)
    eta, gradient, loss, residual = _for_blocks(n_rows, size, finish, carry)
    theta = point.theta + t[:, None, None] * direction
    new = _point(spec, data, theta, eta, gradient, loss, residual)
    decrease = new.loss - point.loss + linear * t + 0.5 * quadratic * t**2
    return new, Step(t, slope_0, curvature_0, decrease)


class Gram(NamedTuple):
    """Second moments of the features, weighted by the curvature of the loss; per lane and column."""

    mean: Any  # (lanes, columns, features)
    total: Any  # (lanes, columns) mean curvature
    centred: Any  # (lanes, columns, features, features), or (..., features) for its diagonal only


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


@partial(jax.jit, static_argnames=("spec", "shared", "dense"))
def _gram(spec: Spec, data: Data, eta, shared: bool, dense: bool) -> Gram:
    """Curvature-weighted second moments, about the weighted mean.

    With `shared` one unweighted matrix serves all lanes, scaled by each lane's mean curvature: exact where
    the predictor is constant, as at the start of a fit.
    """
    n, (n_rows, n_features) = data.n, data.X.shape
    lanes, columns = eta.shape[:2]
    size = _block_size(data, columns * (n_features if dense and not shared else 1))
    m = 1 if shared else lanes * columns

    def weights(last, fresh):
        weight = last(data.weight) * jnp.asarray(fresh, data.X.dtype)
        curvature = _curvatures(spec, last(data.y), last(eta), data.scale)
        weighted = _where_weighted(_per_column(weight, columns), curvature)
        rows = weight.mean((0, 1))[None] if shared else weighted.reshape(m, -1)
        return weighted.sum(-1, dtype=jnp.float64), rows

    def first(carry, rows, last, put, fresh):
        total, mass, mean = carry
        curvature, w = weights(last, fresh)
        moment = lax.dot_general(w, rows(data.X), (((1,), (0,)), ((), ()))).astype(jnp.float64)
        return total + curvature, mass + w.sum(-1, dtype=jnp.float64), mean + moment

    carry = (jnp.zeros((lanes, columns)), jnp.zeros(m), jnp.zeros((m, n_features)))
    total, mass, mean = _for_blocks(n_rows, size, first, carry)
    mean = mean / jnp.where(mass > 0, mass, 1.0)[:, None]
    # One shift for all lanes keeps the cancellation small; what is left of each mean is taken off below.
    shift = mean.mean(0)

    def second(moment, rows, last, put, fresh):
        _, w = weights(last, fresh)
        X = rows(data.X) - shift.astype(data.X.dtype)
        return moment + _second_moments(w, X, dense).astype(jnp.float64)

    shape = (m, n_features, n_features) if dense else (m, n_features)
    moment = _for_blocks(n_rows, size, second, jnp.zeros(shape))
    off = mean - shift
    outer = off[:, :, None] * off[:, None, :] if dense else off**2
    spread = (slice(None),) + (None,) * (moment.ndim - 1)
    centred = moment - mass[spread] * outer
    total = total / n[:, None]
    if shared:
        scale = total.reshape(total.shape + (1,) * (centred.ndim - 1))
        centred = scale * (centred / jnp.where(mass > 0, mass, 1.0)[spread])
        mean = jnp.broadcast_to(mean, (lanes, columns, n_features))
    else:
        centred = centred.reshape((lanes, columns) + centred.shape[1:])
        centred = centred / n.reshape((-1,) + (1,) * (centred.ndim - 1))
        mean = mean.reshape(lanes, columns, n_features)
    return Gram(mean, total, centred)


def _second_moments(w, X, dense: bool):
    """Sum w x x' (or its diagonal) over the rows of X, for each row of w."""
    if not dense:
        return lax.dot_general(w, jnp.square(X), (((1,), (0,)), ((), ())))
    n_features = X.shape[1]
    if len(w) < _KHATRI_RAO_FROM:
        return jnp.stack([(X * row[:, None]).T @ X for row in w])
    upper = np.triu_indices(n_features)
    half = w @ (X[:, upper[0]] * X[:, upper[1]])
    index = np.zeros((n_features, n_features), dtype=int)
    index[upper] = np.arange(len(upper[0]))
    index = np.maximum(index, index.T)
    return half[:, index]


@dataclass(frozen=True)
class Objective:
    """Mean loss plus penalty of every lane.

    Parameters
    ----------
    spec, data
        Family and rows.
    penalty
        In lane form: terms broadcast to (lanes, columns, features), `group_strength` (lanes, groups).
    mask : bool array (lanes or 1, columns or 1, features)
        Coefficients in use.
    """

    spec: Spec
    data: Data
    penalty: Penalty
    mask: Any

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.data.X.shape[0]

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.data.X.shape[1]

    @property
    def precision(self) -> float:
        """Rounding unit of the rows."""
        return float(np.finfo(self.data.X.dtype).eps)

    def evaluate(self, theta) -> Point:
        """Return loss and gradient at `theta`."""
        return _evaluate(self.spec, self.data, theta)

    def search(self, point, direction, linear, quadratic, **how) -> tuple[Point, Step]:
        """Return the point found along a direction (see :func:`_search`)."""
        return _search(self.spec, self.data, point, direction, linear, quadratic, **how)

    def gram(self, eta, shared: bool, dense: bool) -> Gram:
        """Return the curvature-weighted second moments of the features."""
        return _gram(self.spec, self.data, eta, shared, dense)
