"""The quadratic model that a proximal step minimises: curvature of the loss plus penalty, for all lanes.

It lives in feature space, whatever the number of rows. Quadratic penalties have a closed form, as kinks
have in a diagonal metric; in a dense one, accelerated steps find which coefficients are zero, and Newton
steps finish.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesglm.prior import LanePrior
from bayesglm.solvers._descent import penalised, smooth_direction
from bayesglm.solvers._line import Direction
from bayesglm.solvers._metric import Metric, dot, multiply, per_lane, solve, times
from bayesglm.solvers._shift import classes_of

_INNER_STEPS = 20  # accelerated steps between two attempts at an exact solution
_INNER_ROUNDS = 60


def shifted(objective, theta):
    """Return `theta` where a shift that the loss does not see has made the penalty least."""
    n_classes = classes_of(objective)
    if n_classes is None or objective.prior.smooth:
        return theta
    best = objective.prior.recentred(objective.mask, theta[..., :-1], n_classes)
    return np.concatenate([best, theta[..., -1:]], axis=-1)


def subproblem(metric, factor, prior: LanePrior, mask, point, distance, tol) -> Direction:
    """Solve the quadratic model of each lane.

    Parameters
    ----------
    factor : (lanes,)
        Factor c of the metric.
    distance : scalar or (lanes,)
        From the optimum, in standard errors; the model is solved to a hundredth of it.
    tol
        The distance that is asked for; the model is solved to no more than a tenth of it.
    """
    if prior.smooth:
        return _newton(metric, factor, prior, mask, point)
    theta, gradient = point.theta, point.gradient
    accuracy = np.minimum(np.maximum(1e-2 * distance, 0.1 * tol) / point.unit, 1e-2)
    coef, g, g_0 = theta[..., :-1], gradient[..., :-1], gradient[..., -1]
    metric_mean = metric.mean
    g = (g - metric_mean * g_0[..., None]) * mask
    g = g + prior.pull(coef) * mask
    kinks = prior.kinks
    start = np.where(mask, coef, 0.0)
    if not metric.dense:
        diagonal = per_lane(factor) * kinks.level(metric.hessian)
        new = kinks.prox(start - g / diagonal, 1.0 / diagonal) * mask
        curvature = dot(new - start, diagonal * (new - start))
    else:
        new = _inner(metric, factor, kinks, mask, start, g, accuracy)
        curvature = factor * dot(new - start, multiply(metric, new - start))
    d = new - start
    d_0 = -g_0 / (per_lane(factor)[..., 0] * metric.total)
    direction = np.concatenate([d, (d_0 - np.sum(metric_mean * d, -1))[..., None]], axis=-1)
    bound = prior.value(new) - prior.value(start)
    kink_change = kinks.value(new) - kinks.value(start)
    curvature_0 = factor * np.sum(metric.total * d_0**2, -1)
    promised = -(dot(g, d) + kink_change) + curvature_0
    decrement = np.maximum(promised, curvature + curvature_0)
    return Direction(direction, bound, np.zeros_like(bound), decrement)


def _newton(metric, factor, prior: LanePrior, mask, point) -> Direction:
    """Solve the quadratic model where the penalty is quadratic too."""
    gradient = penalised(point.gradient, point.theta, prior, mask)
    direction = -solve(metric, mask, gradient) / per_lane(factor)
    return smooth_direction(prior, point.theta, direction, -dot(gradient, direction))


class _Model(NamedTuple):
    """Minimise ``g'(w - start) + c/2 (w - start)'H(w - start) + kinks(w)``; shapes (lanes, blocks, size)."""

    hessian: np.ndarray
    diagonal: np.ndarray  # of the Hessian, constant within groups
    c: np.ndarray  # (lanes,)
    g: np.ndarray
    start: np.ndarray
    kinks: LanePrior
    mask: np.ndarray
    weight: np.ndarray  # metric in which a prox step is certain to go down

    def select(self, lanes) -> _Model:
        """Return the models of some of the lanes."""
        some = lambda a: None if a is None else a[lanes]  # noqa: E731
        return _Model(*map(some, self[:5]), self.kinks.select(lanes), *map(some, self[6:]))

    def slope(self, w):
        """Return the derivative of the smooth part."""
        return (self.g + per_lane(self.c) * times(self.hessian, w - self.start)) * self.mask

    def value(self, w):
        """Return the model at `w`, per lane."""
        d = w - self.start
        smooth = dot(self.g, d) + 0.5 * self.c * dot(d, times(self.hessian, d))
        return smooth + self.kinks.value(w)

    def forward(self, w):
        """Return the end of one prox step."""
        return self.kinks.prox(w - self.slope(w) / self.weight, 1.0 / self.weight) * self.mask

    def lower(self, new, w):
        """Return `new` for the lanes in which it is lower."""
        value = self.value(new)
        return np.where(per_lane(np.isfinite(value) & (value <= self.value(w))), new, w)


def _inner(metric: Metric, factor, kinks, mask, start, g, accuracy):
    """Solve the model for coefficients (lanes, columns, features)."""
    shape, blocks = start.shape, metric.root.shape
    n_classes = shape[1] // blocks[1]
    mask = np.broadcast_to(mask, shape)
    blocked = kinks.blocked((n_classes, shape[2]), blocks[2])
    start, g, mask_b = (a.reshape(blocks) for a in (start, g, mask))
    diagonal = blocked.level(metric.root**2)
    root = np.sqrt(diagonal)
    # Row sums of the scaled matrix bound its largest eigenvalue.
    sums = np.abs(metric.hessian / root[..., None, :]).sum(-1) / root
    weight = per_lane(factor * sums.max(axis=(1, 2))) * diagonal
    model = _Model(metric.hessian, diagonal, factor, g, start, blocked, mask_b, weight)

    def reshift(w, lanes):
        some = kinks.select(lanes)
        moved = some.recentred(mask[lanes], w.reshape(-1, *shape[1:]), n_classes)
        return moved.reshape(w.shape)

    return _solved(model, accuracy, reshift if n_classes > 1 else None).reshape(shape)


def minimise(hessian, g, start, kinks: LanePrior, accuracy):
    """Return the minimum of a convex quadratic plus kinks, (lanes, size).

    Parameters
    ----------
    hessian, g : arrays (lanes, size, size) and (lanes, size)
        Curvature, and slope at `start`.
    kinks
        Terms (lanes, 1, size).
    accuracy : (lanes,)
        Distance to the minimum in the metric of the curvature.
    """
    hessian, g, start = hessian[:, None], g[:, None], start[:, None]
    diagonal = kinks.level(np.diagonal(hessian, axis1=-2, axis2=-1).copy())
    root = np.sqrt(diagonal)
    sums = np.abs(hessian / root[..., None, :]).sum(-1) / root
    weight = sums.max(axis=(1, 2), keepdims=True) * diagonal
    used, one = np.ones(start.shape, bool), np.ones(len(start))
    model = _Model(hessian, diagonal, one, g, start, kinks, used, weight)
    return _solved(model, accuracy, None)[:, 0]


def _solved(model: _Model, accuracy, reshift):
    """Minimise a model by accelerated steps and exact finishes; lanes that are done leave.

    The steps find which coefficients are zero; given these the problem is smooth, and one Newton step
    usually ends it, however ill-conditioned the features are.
    """
    found = model.start.copy()
    accuracy = np.broadcast_to(accuracy, len(found))
    lanes = np.arange(len(found))
    for _ in range(_INNER_ROUNDS):
        part = model if len(lanes) == len(found) else model.select(lanes)
        w = _accelerated(part, found[lanes])
        if reshift is not None:
            # Among classes that are all active, the smooth problem below would be flat.
            w = part.lower(reshift(w, lanes), w)
        w, _ = _finish(part, w)
        after = part.forward(w)
        far = np.sqrt(dot(w - after, part.weight * (w - after))) > accuracy[lanes]
        # A finished step leaves the coefficients it cannot free at zero; `after` may free them.
        found[lanes] = after
        near = np.flatnonzero(~far)
        if len(near):
            # A prox step is short where features are near-copies of each other, whatever the distance.
            found[lanes[near]], left = _finish(part.select(near), after[near])
            far[near] = left > accuracy[lanes[near]]
        lanes = lanes[far]
        if not len(lanes):
            break
    return found


def _accelerated(model: _Model, w):
    """Take accelerated prox steps; O'Donoghue, Candes (2015), doi:10.1007/s10208-013-9150-3."""
    previous, momentum = w, np.ones(len(w))
    for _ in range(_INNER_STEPS):
        grown = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = w + per_lane((momentum - 1.0) / grown) * (w - previous)
        new = model.forward(ahead)
        # restart where the momentum points uphill
        uphill = dot(model.weight * (ahead - new), new - w) > 0
        w, previous, momentum = new, w, np.where(uphill, 1.0, grown)
    return w


def _finish(model: _Model, w):
    """Newton step among the non-zero coefficients, kept where it goes down, and how long it is in the model's metric.

    A step that crosses kinks ends there in these coefficients, or, where that goes up, at the first of them.
    """
    active, pull, extra = model.kinks.bend(w, model.mask)
    rhs = np.where(active, model.slope(w) + pull, 0.0)
    both = active[..., :, None] & active[..., None, :]
    matrix = np.where(both, model.c[:, None, None, None] * model.hessian, 0.0)
    if extra is not None:
        matrix = matrix + np.where(both, extra, 0.0)
    size = w.shape[-1]
    diagonal = matrix.reshape(*matrix.shape[:-2], -1)[..., :: size + 1]
    diagonal += np.where(active, 1e-12 * per_lane(model.c) * model.diagonal, 1.0)
    root = 1.0 / np.sqrt(diagonal)
    unit = matrix * root[..., :, None] * root[..., None, :]
    try:
        move = np.linalg.solve(unit, (rhs * root)[..., None])[..., 0] * root
    except np.linalg.LinAlgError:
        return w, np.full(len(w), np.inf)
    length = np.sqrt(np.maximum(dot(rhs, move), 0.0))
    new = w - move
    crossing = model.kinks.crossing(new, w)
    if not crossing.any():
        return model.lower(new, w), length
    share = np.where(crossing, w / np.where(crossing, move, 1.0), np.inf)
    first = np.minimum(share.min(axis=(1, 2), keepdims=True), 1.0)
    short = model.lower(np.where(crossing & (share <= first), 0.0, w - first * move), w)
    return model.lower(np.where(crossing, 0.0, new), short), length
