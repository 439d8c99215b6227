r"""Proximal gradients in a metric: minimisation with penalties that have kinks.

Each step solves, for every lane,

.. math:: \min_w\; g'(w - w_0) + \tfrac{c}{2} (w - w_0)' M (w - w_0) + penalty(w)

and searches along the difference on cached predictors. `M` is the curvature of the loss (dense, so that
the problem above lives in feature space and costs no pass over the rows) or, for many features, its
diagonal, where the solution is a closed-form prox. The scale `c` follows the curvature met along the way.

References: Lee, Sun, Saunders (2014) doi:10.1137/130921428; Wright, Nowak, Figueiredo (2009)
doi:10.1109/TSP.2009.2016892.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm._objective import Objective
from bayesglm._penalty import Penalty
from bayesglm.solvers import _metric
from bayesglm.solvers._metric import dot, multiply, spread
from bayesglm.solvers._run import LONG_PATIENCE, PATIENCE, Solver, State, begin, floor_of, judge
from bayesglm.solvers._subproblem import Subproblem, distance_of, shifted, subproblem, values_of

# Values of the last steps that a non-monotone search may return to.
_HISTORY = 8


class Memory(NamedTuple):
    """What a proximal solver carries from step to step."""

    metric: _metric.Metric
    scale: Any  # (lanes,) of the metric
    values: Any  # (history, lanes) last objectives
    slack: Any  # (lanes,) how far the objective may rise
    zero: Any  # (lanes,)
    next: Subproblem
    # Dense metric that measures the distance where steps use another one.
    ruler: _metric.Metric | None


class ProximalGradient(Solver):
    """Proximal gradients in the metric of the curvature: the default for penalties with kinks.

    With up to 1024 features (and no more than rows) the metric is dense and refreshed where progress is
    slow, which makes this a proximal Newton method with a lagged Hessian; beyond, it is the diagonal, with
    spectral steps.

    Parameters
    ----------
    tol
        A lane stops at this estimated distance from its optimum, in standard errors of its coefficients.
    maxiter
        Largest number of steps.
    stepsize
        A fixed step in the Euclidean metric (the classical method) instead of metric and line search.
    acceleration
        Whether the scale of the metric follows the curvature met along the way.

    References
    ----------
    Lee, Sun, Saunders (2014). doi:10.1137/130921428
    Wright, Nowak, Figueiredo (2009). doi:10.1109/TSP.2009.2016892
    """

    proximal = True
    #: Whether to use the diagonal of the curvature whatever the number of features.
    diagonal_only = False

    def __init__(self, tol=1e-6, maxiter=500, stepsize=None, acceleration=True):
        self.tol, self.maxiter = tol, maxiter
        self.stepsize, self.acceleration = stepsize, acceleration

    def init(self, objective: Objective, theta) -> State:
        """Return the state at the parameters `theta`."""
        point = objective.evaluate(theta)
        metric = self._metric(objective, point.eta, shared=True)
        values, zero = _history(objective.penalty, point)
        ruler = None if metric.dense else self._ruler(objective, point)
        memory = Memory(metric, jnp.ones_like(zero), values, zero, zero, None, ruler)
        return self._begin(objective, point, memory, 0)

    def step(self, objective: Objective, state: State) -> State:
        """Take one step with every lane that is not done."""
        point, progress, memory, iter_num, _ = state
        dense = memory.metric.dense
        # Beyond length 1 the penalty is no longer bounded by the line.
        ahead = memory.next
        new, step = objective.search(
            point, ahead.direction, ahead.bound, memory.zero, first=1.0 if self.stepsize is None else -1.0,
            longest=1.0, slack=0.0 if dense else memory.slack, exact=dense,
        )  # fmt: skip
        if self.stepsize is None:
            new = new._replace(theta=shifted(objective, new.theta))
        follow = self.acceleration and self.stepsize is None
        memory = _follow(memory, objective.penalty, new, ahead.direction, step, follow)
        if dense and self._slow(progress, iter_num):
            metric = self._metric(objective, new.eta, shared=False)
            memory = memory._replace(metric=metric, scale=jnp.ones_like(memory.scale))
        ahead = self._solve(objective, memory, new, progress.distance)
        patience = PATIENCE if dense else LONG_PATIENCE
        promised = self._promised(objective, memory, new, ahead)
        progress, ahead = _judge(
            progress, new, ahead, promised, step.length, self.tol, floor_of(objective), patience
        )
        return State(new, progress, memory._replace(next=ahead), iter_num + 1)

    def resume(self, objective: Objective, state: State) -> State:
        """Return the state after one step on other rows, with the metric of the earlier ones."""
        point = objective.evaluate(state.point.theta)
        values, zero = _history(objective.penalty, point)
        memory = state.memory._replace(values=values, slack=zero)
        return self.step(objective, self._begin(objective, point, memory, state.iter_num))

    def _begin(self, objective, point, memory, iter_num) -> State:
        ahead = self._solve(objective, memory, point, jnp.inf)
        progress = _begin(point, self._promised(objective, memory, point, ahead))
        return State(point, progress, memory._replace(next=ahead), iter_num)

    def _promised(self, objective, memory, point, ahead):
        """Twice the decrease to the optimum, (lanes,), by the best metric at hand."""
        if memory.ruler is None:
            return ahead.decrement
        return subproblem(
            memory.ruler,
            jnp.ones_like(memory.scale),
            objective.penalty,
            objective.mask,
            point,
            0.0,
            self.tol,
        ).decrement

    @staticmethod
    def _ruler(objective, point):
        ruler = _metric.metric_at(objective, point.eta, shared=True)
        return ruler if ruler.dense else None

    def _metric(self, objective, eta, shared):
        if self.stepsize is not None:
            return _euclidean(objective, eta.shape[:2], self.stepsize, self.proximal)
        return _metric.metric_at(
            objective, eta, shared, dense=False if self.diagonal_only else None
        )

    def _solve(self, objective, memory, point, distance) -> Subproblem:
        return subproblem(
            memory.metric,
            memory.scale,
            objective.penalty,
            objective.mask,
            point,
            distance,
            self.tol,
        )

    @staticmethod
    def _slow(progress, iter_num) -> bool:
        """Whether the metric is due: early on, and where a lane has not come closer in the last step."""
        waiting = ~np.asarray(progress.done) & (np.asarray(progress.waited) > 0)
        return bool(waiting.any()) or iter_num in (1, 3, 7)


class GradientDescent(ProximalGradient):
    """Gradient descent with spectral steps, scaled by the diagonal of the curvature.

    Parameters
    ----------
    tol
        A lane stops at this estimated distance from its optimum, in standard errors of its coefficients.
    maxiter
        Largest number of steps.
    stepsize
        A fixed step in the Euclidean metric instead of scaling and line search.
    acceleration
        Whether steps follow the curvature met along the way.

    References
    ----------
    Raydan (1997). doi:10.1137/S1052623494266365
    """

    proximal = False
    diagonal_only = True


def _euclidean(objective, shape, stepsize, proximal) -> _metric.Metric:
    """Metric of the classical method: the identity over the step, intercept included.

    With the curvature of the quadratic penalty in it, a step is that penalty's prox.
    """
    full = (*shape, objective.n_features)
    weight = jnp.full(full, 1.0 / stepsize)
    if proximal and objective.penalty.l2 is not None:
        weight = weight + objective.penalty.l2
    return _metric.Metric(
        jnp.zeros(full), jnp.full(shape, 1.0 / stepsize), weight, None, jnp.sqrt(weight)
    )


@jax.jit
def _begin(point, promised):
    return begin(distance_of(point, promised))


@jax.jit
def _judge(progress, point, ahead: Subproblem, promised, length, tol, floor, patience):
    """Progress after a step, and the next one for those lanes that go on."""
    progress = judge(progress, distance_of(point, promised), length > 0, tol, floor, patience)
    on = jnp.where(progress.done, 0.0, 1.0)
    return progress, Subproblem(spread(on) * ahead.direction, on * ahead.bound, ahead.decrement)


@jax.jit
def _history(penalty: Penalty, point):
    """Objectives of the last steps, of which there is one, and zeros."""
    value = point.loss + values_of(penalty, point.theta[..., :-1])
    return jnp.full((_HISTORY, len(value)), -jnp.inf).at[-1].set(value), jnp.zeros_like(value)


@partial(jax.jit, static_argnames="acceleration")
def _follow(memory: Memory, penalty: Penalty, point, direction, step, acceleration: bool) -> Memory:
    """Take in a step: the scale of the metric along it, and the history of objectives."""
    coef, d_0 = direction[..., :-1], direction[..., -1]
    centred = d_0 + jnp.sum(memory.metric.mean * coef, -1)
    model = dot(coef, multiply(memory.metric, coef)) + jnp.sum(memory.metric.total * centred**2, -1)
    met = step.curvature
    if penalty.l2 is not None:
        met = met + dot(penalty.l2 * coef, coef)
    ratio = jnp.clip(met / jnp.where(model > 0, model, 1.0), 1e-3, 1e3)
    known = (model > 0) & (step.length > 0)
    scale = jnp.where(known, ratio, memory.scale) if acceleration else memory.scale
    value = point.loss + values_of(penalty, point.theta[..., :-1])
    values = jnp.concatenate([memory.values[1:], value[None]])
    return memory._replace(scale=scale, values=values, slack=jnp.max(values, axis=0) - value)
