r"""Proximal gradients in a metric: minimisation with penalties that have kinks.

Each step solves, for every lane,

.. math:: \min_w\; g'(w - w_0) + \tfrac{c}{2} (w - w_0)' M (w - w_0) + penalty(w)

and searches along the difference on cached predictors. `M` is the curvature of the loss (dense, so that
the problem above lives in feature space and costs no pass over the rows) or, for many features, its
diagonal, where the solution is a closed-form prox. The factor `c` follows the curvature met along the way.

References: Lee, Sun, Saunders (2014) doi:10.1137/130921428; Wright, Nowak, Figueiredo (2009)
doi:10.1109/TSP.2009.2016892.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from bayesglm._objective import Objective
from bayesglm.prior import LanePrior
from bayesglm.solvers import _line, _metric
from bayesglm.solvers._line import Direction, Line
from bayesglm.solvers._metric import dot
from bayesglm.solvers._run import (
    LONG_PATIENCE,
    PATIENCE,
    Solver,
    State,
    distance_of,
    judge,
    pick,
    unmoved,
)
from bayesglm.solvers._subproblem import shifted, subproblem

# Share of the distance left by a step, from which on a new metric pays.
_SLOW = 0.2
# Values of the last steps that a non-monotone search may return to.
_HISTORY = 8


class Memory(NamedTuple):
    """What a proximal solver carries from pass to pass."""

    metric: _metric.Metric
    factor: Any  # (lanes,) of the metric
    values: Any  # (lanes, history) last objectives
    next: Direction
    line: Line
    # Dense metric that measures the distance where steps use another one.
    ruler: _metric.Metric | None

    @property
    def slack(self):
        """How far the objective may rise, (lanes,)."""
        return self.values.max(axis=1) - self.values[:, -1]


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
        Largest number of passes over the rows.
    stepsize
        A fixed step in the Euclidean metric (the classical method) instead of metric and line search.
    acceleration
        Whether the factor of the metric follows the curvature met along the way.

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

    def init(self, objective: Objective, theta, pilot: Objective | None = None) -> State:
        """Return the state at the parameters `theta`; see :meth:`Solver.init`."""
        point = objective.evaluate(theta)
        if self.newton or self._classical:
            metric = self._metric(objective, theta, shared=False)
        else:
            dense = False if self.diagonal_only else None
            metric = _metric.first_metric(objective, theta, pilot, dense)
        ruler = None if metric.dense else self._ruler(objective, theta, pilot)
        memory = Memory(metric, np.ones(len(theta)), None, None, None, ruler)
        # The curvature at the optimum of a sample serves longer than that at zero coefficients.
        return self._from(objective, point, memory, 0)._replace(refreshed=int(pilot is not None))

    def step(self, objective: Objective, state: State) -> State:
        """Take one pass over the rows: a trial step in every lane that is not done."""
        point, progress, memory, iter_num, refreshed = state
        dense, ahead = memory.metric.dense, memory.next
        # Beyond length 1 the penalty is no longer bounded by the line.
        trial, good, failed, line = _line.attempt(
            objective, point, ahead, memory.line, slack=0.0 if dense else memory.slack,
            left=0.7 if dense else np.inf, longest=np.inf if objective.prior.smooth else 1.0,
        )  # fmt: skip
        if self.stepsize is not None:
            good, failed = _line.all_of(good)
        if not self._classical:
            trial = trial._replace(theta=shifted(objective, trial.theta))
        good, failed = good & ~progress.done, failed & ~progress.done
        new = pick(good, trial, point)
        memory = self._follow(memory, objective.prior, point, new, good)
        if self.newton or (dense and self._slow(state)):
            metric, refreshed = self._metric(objective, new.theta, shared=False), iter_num
            memory = memory._replace(metric=metric, factor=np.ones_like(memory.factor))
        fresh = good | failed
        ahead = self._solve(objective, memory, new, progress.distance, fresh, ahead)
        line = pick(fresh, self._line(new, ahead), line)
        patience = PATIENCE if dense else LONG_PATIENCE
        distance = distance_of(new, self._promised(objective, memory, new, ahead))
        progress = judge(progress, new, distance, good, failed, self.tol, objective, patience)
        memory = memory._replace(next=ahead, line=line)
        return State(new, progress, memory, iter_num + 1, refreshed)

    def resume(self, objective: Objective, state: State) -> State:
        """Return the state after one step on other rows, with the metric of the earlier ones."""
        point = objective.evaluate(state.point.theta)
        return self.step(objective, self._from(objective, point, state.memory, state.iter_num))

    def _from(self, objective, point, memory, iter_num) -> State:
        value = point.loss + objective.prior.value(point.theta[..., :-1])
        values = np.full((len(value), _HISTORY), -np.inf)
        values[:, -1] = value
        every = np.ones(len(value), bool)
        ahead = self._solve(objective, memory, point, np.full(len(value), np.inf), every, None)
        memory = memory._replace(values=values, next=ahead, line=self._line(point, ahead))
        distance = distance_of(point, self._promised(objective, memory, point, ahead))
        return State(point, unmoved(distance), memory, iter_num)

    @property
    def _classical(self) -> bool:
        """Whether steps are those of a fixed Euclidean metric."""
        return self.stepsize is not None and not self.newton

    def _line(self, point, ahead) -> Line:
        fixed = self.stepsize is not None and self.newton
        return _line.first_line(point, ahead, float(self.stepsize) if fixed else 1.0)

    def _follow(self, memory: Memory, prior: LanePrior, old, new, good) -> Memory:
        """Take in a step: the factor of the metric along it, and the history of objectives."""
        value = new.loss + prior.value(new.theta[..., :-1])
        values = np.concatenate([memory.values[:, 1:], value[:, None]], axis=1)
        memory = memory._replace(values=pick(good, values, memory.values))
        if not self.acceleration or self._classical:
            return memory
        step = new.theta - old.theta
        model = _metric.curvature(memory.metric, step)
        met = dot(step, new.gradient - old.gradient) + prior.curvature_along(step[..., :-1])
        known = good & (model > 0)
        ratio = np.clip(met / np.where(known, model, 1.0), 1e-3, 1e3)
        return memory._replace(factor=np.where(known, ratio, memory.factor))

    def _promised(self, objective, memory, point, ahead):
        """Twice the decrease to the optimum, (lanes,), by the best metric at hand."""
        if memory.ruler is None:
            return ahead.decrement
        one = np.ones_like(memory.factor)
        prior, mask = objective.prior, objective.mask
        return subproblem(memory.ruler, one, prior, mask, point, 0.0, self.tol).decrement

    @staticmethod
    def _ruler(objective, theta, pilot):
        ruler = _metric.first_metric(objective, theta, pilot)
        return ruler if ruler.dense else None

    def _metric(self, objective, theta, shared):
        if self._classical:
            return _euclidean(objective, theta.shape[:2], self.stepsize, self.proximal)
        dense = False if self.diagonal_only else None
        return _metric.metric_at(objective, theta, shared, dense)

    def _solve(self, objective, memory, point, distance, which, ahead) -> Direction:
        """Return where to go next, in those lanes that need to know."""
        n_lanes, which = len(which), np.flatnonzero(which)
        prior, mask, metric, factor = (
            objective.prior,
            objective.mask,
            memory.metric,
            memory.factor,
        )
        if len(which) == 0:
            return ahead
        if len(which) < n_lanes:
            some = lambda a: a[which] if len(a) == n_lanes else a  # noqa: E731
            parts = metric, factor, mask, point, distance
            metric, factor, mask, point, distance = jax.tree.map(some, parts)
            prior = prior.select(which)
        new = subproblem(metric, factor, prior, mask, point, distance, self.tol)
        if len(which) == n_lanes:
            return new
        ahead = Direction(*map(np.copy, ahead))
        for old, part in zip(ahead, new, strict=True):
            old[which] = part
        return ahead

    @staticmethod
    def _slow(state: State) -> bool:
        """Whether the metric is due: after the first step, and later where steps gain too little."""
        progress, since = state.progress, state.iter_num - state.refreshed
        if state.iter_num <= 1:
            return state.iter_num > state.refreshed
        waiting = ~progress.done & (progress.waited > 0)
        slow = ~progress.done & (progress.gain > _SLOW)
        return since >= 2 and bool(waiting.any() or 4 * slow.sum() > (~progress.done).sum())

    #: Whether the metric is taken anew in every step.
    newton = False


class GradientDescent(ProximalGradient):
    """Gradient descent with spectral steps, scaled by the diagonal of the curvature.

    Parameters
    ----------
    tol
        A lane stops at this estimated distance from its optimum, in standard errors of its coefficients.
    maxiter
        Largest number of passes over the rows.
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
    weight = np.full(full, 1.0 / stepsize)
    if proximal:
        weight = weight + objective.prior.diagonal(full, coupled=False)
    return _metric.Metric(
        np.zeros(full), np.full(shape, 1.0 / stepsize), weight, None, np.sqrt(weight)
    )


class Newton(ProximalGradient):
    """Newton's method for smooth penalties: the curvature of every neuron is taken anew in each step.

    The fewest passes over the rows, each of which also forms a matrix (features x features): for many more rows
    than features, and for rates that vary by orders of magnitude.

    Parameters
    ----------
    tol
        A lane stops at this estimated distance from its optimum, in standard errors of its coefficients.
    maxiter
        Largest number of passes over the rows.
    stepsize
        A fixed share of each Newton step instead of a line search.

    References
    ----------
    Nocedal, Wright (2006), Numerical Optimization, section 3.3. doi:10.1007/978-0-387-40065-5
    """

    proximal = False
    newton = True

    def __init__(self, tol=1e-6, maxiter=500, stepsize=None):
        super().__init__(tol, maxiter, stepsize, acceleration=False)


class ProxNewton(Newton):
    """Proximal Newton method for all penalties: as :class:`Newton`, with the penalty inside each step's model.

    Parameters
    ----------
    tol
        A lane stops at this estimated distance from its optimum, in standard errors of its coefficients.
    maxiter
        Largest number of passes over the rows.
    stepsize
        A fixed share of each step instead of a line search.

    References
    ----------
    Lee, Sun, Saunders (2014). doi:10.1137/130921428
    """

    proximal = True
