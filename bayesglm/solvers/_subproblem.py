"""The quadratic model that a proximal step minimises: curvature of the loss plus penalty, for all lanes.

It lives in feature space, whatever the number of rows. Quadratic penalties have a closed form, as kinks
have in a diagonal metric; in a dense one, accelerated steps find which coefficients are zero, and Newton
steps finish.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayesglm._penalty import Penalty, penalty_prox, penalty_value
from bayesglm.solvers._descent import penalised
from bayesglm.solvers._metric import dot, multiply, solve, spread
from bayesglm.solvers._shift import classes_of, least_penalty

_INNER_STEPS = 20  # accelerated steps between two attempts at an exact solution
_INNER_ROUNDS = 60


class Subproblem(NamedTuple):
    """Solution of the quadratic model, and the penalty along the way to it."""

    direction: Any  # as theta
    bound: Any  # (lanes,) change of the penalty, quadratic part included, at length 1
    decrement: Any  # (lanes,) decrease that the model promises, twice


def for_lanes(penalty: Penalty, shape) -> Penalty:
    """Broadcast the terms of a penalty to (lanes, columns, features)."""

    def full(term):
        return None if term is None else jnp.broadcast_to(term, shape)

    return Penalty(full(penalty.l2), full(penalty.l1), penalty.group_strength, full(penalty.group))


def values_of(penalty: Penalty, coef):
    """Penalty of each lane."""
    return jax.vmap(penalty_value)(for_lanes(penalty, coef.shape), coef)


def prox_of(penalty: Penalty, coef, step):
    """Prox of each lane."""
    return jax.vmap(penalty_prox)(for_lanes(penalty, coef.shape), coef, step)


def shifted(objective, theta):
    """Return `theta` where a shift that the loss does not see has made the penalty least."""
    n_classes = classes_of(objective)
    if n_classes is None or objective.penalty.smooth:
        return theta
    return _shifted(objective.penalty, objective.mask, theta, n_classes)


@partial(jax.jit, static_argnames="n_classes")
def _shifted(penalty, mask, theta, n_classes):
    coef = theta[..., :-1]
    return theta.at[..., :-1].set(
        least_penalty(for_lanes(penalty, coef.shape), mask, coef, n_classes)
    )


def _group_constant(penalty: Penalty, diagonal):
    """Raise a diagonal to its largest entry within each group, as a group's prox needs."""
    if penalty.group is None:
        return diagonal

    def one(diagonal, group, strength):
        n_groups = strength.shape[0]
        ids = jnp.where(group < 0, n_groups, group)
        top = jax.ops.segment_max(diagonal.ravel(), ids.ravel(), n_groups + 1)
        return jnp.where(group < 0, diagonal, top[ids])

    group = jnp.broadcast_to(penalty.group, diagonal.shape)
    return jax.vmap(one)(diagonal, group, penalty.group_strength)


def _kinks(penalty: Penalty) -> Penalty:
    return penalty._replace(l2=None)


@jax.jit
def subproblem(metric, scale, penalty: Penalty, mask, point, distance, tol) -> Subproblem:
    """Solve the quadratic model of each lane.

    Parameters
    ----------
    scale : (lanes,)
        Factor c of the metric.
    distance : scalar or (lanes,)
        From the optimum, in standard errors; the model is solved to a hundredth of it.
    tol
        The distance that is asked for; the model is solved to no more than a tenth of it.
    """
    if penalty.smooth:
        return _newton(metric, scale, penalty, mask, point)
    theta, gradient = point.theta, point.gradient
    accuracy = jnp.minimum(jnp.maximum(1e-2 * distance, 0.1 * tol) / point.unit, 1e-2)
    coef, g, g_0 = theta[..., :-1], gradient[..., :-1], gradient[..., -1]
    metric_mean = metric.mean
    g = (g - metric_mean * g_0[..., None]) * mask
    if penalty.l2 is not None:
        g = g + penalty.l2 * coef * mask
    kinks = _kinks(penalty)
    start = jnp.where(mask, coef, 0.0)
    if not metric.dense:
        diagonal = spread(scale) * _group_constant(kinks, metric.hessian)
        new = prox_of(kinks, start - g / diagonal, 1.0 / diagonal) * mask
        curvature = dot(new - start, diagonal * (new - start))
    else:
        new = _inner(metric, scale, kinks, mask, start, g, accuracy)
        curvature = scale * dot(new - start, multiply(metric, new - start))
    d = new - start
    d_0 = -g_0 / (spread(scale)[..., 0] * metric.total)
    direction = jnp.concatenate([d, (d_0 - jnp.sum(metric_mean * d, -1))[..., None]], axis=-1)
    bound = values_of(penalty, new) - values_of(penalty, start)
    kink_change = values_of(kinks, new) - values_of(kinks, start)
    curvature_0 = scale * jnp.sum(metric.total * d_0**2, -1)
    promised = -(dot(g, d) + kink_change) + curvature_0
    decrement = jnp.maximum(promised, curvature + curvature_0)
    return Subproblem(direction, bound, decrement)


def _newton(metric, scale, penalty: Penalty, mask, point) -> Subproblem:
    """Solve the quadratic model where the penalty is quadratic too."""
    gradient = penalised(point.gradient, point.theta, penalty.l2, mask)
    direction = -solve(metric, mask, gradient) / spread(scale)
    change = jnp.zeros_like(scale)
    if penalty.l2 is not None:
        coef, d = point.theta[..., :-1], direction[..., :-1]
        change = dot(penalty.l2 * (coef + 0.5 * d), d)
    return Subproblem(direction, change, -dot(gradient, direction))


class _Inner(NamedTuple):
    w: Any
    previous: Any
    momentum: Any
    residual: Any
    round: Any


def _inner(metric, scale, kinks, mask, start, g, accuracy):
    """Solve :func:`_blocks` for coefficients (lanes, columns, features)."""
    shape, blocks = start.shape, metric.scale.shape
    n_classes = shape[1] // blocks[1]
    kinks, mask = for_lanes(kinks, shape), jnp.broadcast_to(mask, shape)
    blocked = Penalty(*(t if t is None or t.ndim < 3 else t.reshape(blocks) for t in kinks))

    def reshift(w):
        return least_penalty(kinks, mask, w.reshape(shape), n_classes).reshape(blocks)

    start, g, mask_b = (a.reshape(blocks) for a in (start, g, mask))
    new = _blocks(
        metric, scale, blocked, mask_b, start, g, accuracy, reshift if n_classes > 1 else None
    )
    return new.reshape(shape)


def _blocks(metric, scale, kinks, mask, start, g, accuracy, reshift):
    """Minimise ``g'(w - w0) + c/2 (w - w0)'M(w - w0) + kinks(w)``: accelerated steps and exact finishes.

    The steps find which coefficients are zero; given these the problem is smooth, and one Newton step
    usually ends it, however ill-conditioned the features are.
    """
    c = spread(scale)
    hessian = metric.hessian
    diagonal = _group_constant(kinks, metric.scale**2)
    root = jnp.sqrt(diagonal)
    # Row sums of the scaled matrix bound its largest eigenvalue.
    bound = jnp.max(
        jnp.sum(jnp.abs(hessian) / (root[..., :, None] * root[..., None, :]), -1), (-2, -1)
    )
    weight = c * spread(bound) * diagonal
    step = 1.0 / weight

    def slope(w):
        return (g + c * multiply(metric, w - start)) * mask

    def value(w):
        d = w - start
        return dot(g, d) + 0.5 * scale * dot(d, multiply(metric, d)) + values_of(kinks, w)

    def forward(w):
        return prox_of(kinks, w - step * slope(w), step) * mask

    def accelerated(_, carry):
        w, previous, momentum = carry
        grown = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2))
        ahead = w + spread((momentum - 1.0) / grown) * (w - previous)
        new = forward(ahead)
        # O'Donoghue, Candes (2015), doi:10.1007/s10208-013-9150-3: restart where the momentum points uphill
        uphill = dot(weight * (ahead - new), new - w) > 0
        return new, w, jnp.where(uphill, 1.0, grown)

    def finish(w):
        """Newton step among the non-zero coefficients, kept where it goes down."""
        active, extra, pull = _smooth_part(kinks, w, mask)
        rhs = jnp.where(active, slope(w) + pull, 0.0)
        both = active[..., :, None] & active[..., None, :]
        eye = jnp.eye(w.shape[-1], dtype=bool)
        matrix = jnp.where(both, c[..., None] * hessian + extra, 0.0)
        floor = jnp.where(active, 1e-12 * c * diagonal, 1.0)
        matrix = matrix + jnp.where(eye, floor[..., None], 0.0)
        inverse_root = jax.lax.rsqrt(jnp.diagonal(matrix, axis1=-2, axis2=-1))
        unit = matrix * inverse_root[..., :, None] * inverse_root[..., None, :]
        factor = jnp.linalg.cholesky(unit)
        move = _cholesky_solve(factor, rhs * inverse_root) * inverse_root
        new = jnp.where(active, w - move, w)
        if kinks.l1 is not None:
            new = jnp.where((new * w < 0) & (kinks.l1 > 0), 0.0, new)
        return lower(new, w)

    def lower(new, w):
        better = jnp.isfinite(value(new)) & (value(new) <= value(w))
        return jnp.where(spread(better), new, w)

    def rounds(state: _Inner) -> _Inner:
        w, previous, momentum = lax.fori_loop(
            0, _INNER_STEPS, accelerated, (state.w, state.previous, state.momentum)
        )
        if reshift is not None:
            # Among classes that are all active, the smooth problem below would be flat.
            w = lower(reshift(w), w)
        w = finish(w)
        after = forward(w)
        residual = jnp.sqrt(dot(w - after, weight * (w - after)))
        # A finished step leaves the coefficients it cannot free at zero; `after` may free them.
        return _Inner(after, after, jnp.ones_like(momentum), residual, state.round + 1)

    init = _Inner(start, start, jnp.ones_like(scale), jnp.full_like(scale, jnp.inf), 0)
    keep_on = lambda s: jnp.any(s.residual > accuracy) & (s.round < _INNER_ROUNDS)  # noqa: E731
    return lax.while_loop(keep_on, rounds, init).w


def _cholesky_solve(factor, g):
    z = lax.linalg.triangular_solve(factor, g[..., None], left_side=True, lower=True)
    z = lax.linalg.triangular_solve(factor, z, left_side=True, lower=True, transpose_a=True)
    return z[..., 0]


def _smooth_part(kinks: Penalty, w, mask):
    """Active coefficients, curvature and slope of the kinked penalty where it is smooth."""
    features = w.shape[-1]
    active = jnp.broadcast_to(mask, w.shape)
    extra = jnp.zeros((*w.shape, features))
    pull = jnp.zeros_like(w)
    if kinks.l1 is not None:
        active = active & ((w != 0) | (kinks.l1 == 0))
        pull = pull + kinks.l1 * jnp.sign(w)
    if kinks.group is not None:

        def one(w, group, strength):
            n_groups = strength.shape[0]
            ids = jnp.where(group < 0, n_groups, group)
            squared = jax.ops.segment_sum(jnp.square(w).ravel(), ids.ravel(), n_groups + 1)
            norm = jnp.sqrt(squared)[ids]
            rate = jnp.append(strength, 0.0)[ids]
            inside = (norm > 0) | (group < 0)
            ratio = jnp.where(norm > 0, rate / jnp.where(norm > 0, norm, 1.0), 0.0)
            unit = jnp.where(norm > 0, w / jnp.where(norm > 0, norm, 1.0), 0.0)
            same = (group[..., :, None] == group[..., None, :]) & (group[..., :, None] >= 0)
            curved = jnp.eye(features) * ratio[..., None]
            curved = curved - jnp.where(
                same, ratio[..., None] * unit[..., :, None] * unit[..., None, :], 0.0
            )
            return inside, curved, ratio * w

        inside, curved, slope = jax.vmap(one)(
            w, jnp.broadcast_to(kinks.group, w.shape), kinks.group_strength
        )
        active, extra, pull = active & inside, extra + curved, pull + slope
    return active, extra, pull


def distance_of(point, decrement):
    """Return the estimated distance of each lane to its optimum in standard errors."""
    return point.unit * jnp.sqrt(jnp.maximum(decrement, 0.0))
