"""Smooth minimisation: a direction, a line search, and memory, for all lanes at once.

LBFGS, BFGS and nonlinear conjugate gradients are one skeleton with different direction rules. Each
starts from the inverse metric (:mod:`bayesglm.solvers._metric`), which makes the number of steps all but
independent of how the features are scaled and correlated.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bayesglm._objective import Objective
from bayesglm.solvers import _line, _metric
from bayesglm.solvers._line import Direction, Line
from bayesglm.solvers._metric import dot, per_lane, solve
from bayesglm.solvers._run import (
    PATIENCE,
    Solver,
    State,
    distance_of,
    judge,
    pick,
    refresh_due,
    unmoved,
)


class Memory(NamedTuple):
    """What a descent solver carries from pass to pass."""

    rule: Any
    metric: _metric.Metric
    next: Direction
    line: Line


def penalised(gradient, theta, prior, mask):
    """Gradient of loss plus quadratic penalty, zero where masked."""
    coef = gradient[..., :-1] + prior.pull(theta[..., :-1])
    return np.concatenate([coef * mask, gradient[..., -1:]], axis=-1)


def _inverse_of_product(s, y):
    """One over s'y, and zero for pairs without curvature (rounding, a loss that is not convex there)."""
    sy = dot(s, y)
    good = sy > 1e-10 * np.sqrt(dot(s, s) * dot(y, y))
    return np.where(good, 1.0 / np.where(good, sy, 1.0), 0.0)


class Pairs(NamedTuple):
    """Past steps and changes of the gradient, the latest last, and the factor of the metric."""

    s: Any  # (lanes, memory, columns, features + 1)
    y: Any  # as s
    rho: Any  # (lanes, memory)
    factor: Any  # (lanes,)


@dataclass(frozen=True)
class _LBFGSRule:
    """Two-loop recursion; Liu, Nocedal (1989), doi:10.1007/BF01589116."""

    memory_size: int

    def start(self, metric, mask, gradient):
        pairs = np.zeros((len(gradient), self.memory_size, *gradient.shape[1:]))
        return Pairs(pairs, pairs, pairs[:, :, 0, 0], np.ones(len(gradient)))

    def push(self, memory, metric, mask, s, y):
        rho = _inverse_of_product(s, y)
        yhy = dot(y, solve(metric, mask, y))
        known = (rho > 0) & (yhy > 0)
        factor = np.where(known, 1.0 / np.where(known, rho * yhy, 1.0), memory.factor)
        latest = lambda old, new: np.concatenate([old[:, 1:], new[:, None]], 1)  # noqa: E731
        return Pairs(latest(memory.s, s), latest(memory.y, y), latest(memory.rho, rho), factor)

    def rescale(self, memory):
        """Return the memory for another metric: the pairs hold, the factor of the metric does not."""
        return memory._replace(factor=np.ones_like(memory.factor))

    def direction(self, memory, metric, mask, gradient):
        known = np.flatnonzero(memory.rho.any(axis=0))
        q, alphas = gradient, {}
        for i in known[::-1]:
            alphas[i] = memory.rho[:, i] * dot(memory.s[:, i], q)
            q = q - per_lane(alphas[i]) * memory.y[:, i]
        r = per_lane(memory.factor) * solve(metric, mask, q)
        for i in known:
            beta = memory.rho[:, i] * dot(memory.y[:, i], r)
            r = r + per_lane(alphas[i] - beta) * memory.s[:, i]
        return -r


@dataclass(frozen=True)
class _BFGSRule:
    """Dense inverse Hessian; Nocedal, Wright (2006), section 6.1, doi:10.1007/978-0-387-40065-5."""

    def start(self, metric, mask, gradient):
        shape = gradient.shape
        columns = [
            solve(metric, mask, np.broadcast_to(e, shape))
            for e in np.eye(gradient[0].size).reshape(-1, *shape[1:])
        ]
        return np.stack(columns, axis=-1).reshape(len(gradient), gradient[0].size, -1)

    def push(self, inverse, metric, mask, s, y):
        rho = _inverse_of_product(s, y)[:, None, None]
        s, y = s.reshape(len(s), -1), y.reshape(len(y), -1)
        hy = _metric.times(inverse, y)
        yhy = np.sum(y * hy, -1)[:, None, None]
        cross = s[:, :, None] * hy[:, None, :]
        outer = s[:, :, None] * s[:, None, :]
        return inverse - rho * (cross + np.swapaxes(cross, 1, 2)) + (rho + rho**2 * yhy) * outer

    def direction(self, inverse, metric, mask, gradient):
        return -_metric.times(inverse, gradient.reshape(len(gradient), -1)).reshape(gradient.shape)


@dataclass(frozen=True)
class _ConjugateRule:
    """Preconditioned Polak-Ribiere directions with restart; Nocedal, Wright (2006), section 5.2."""

    def start(self, metric, mask, gradient):
        zero = np.zeros_like(gradient)
        return zero, zero

    def push(self, memory, metric, mask, s, y):
        # The gradient itself is known when the direction is asked for; the change of it suffices here.
        return s, y

    def rescale(self, memory):
        """Return the memory for another metric."""
        return memory

    def direction(self, memory, metric, mask, gradient):
        s, y = memory
        z = solve(metric, mask, gradient)
        # s is the last direction up to its length, which cancels against the slope y' s in this form of beta
        sy = dot(s, y)
        beta = np.where(sy > 0, dot(z, y) / np.where(sy > 0, sy, 1.0), 0.0)
        step = -z + per_lane(beta) * s
        return np.where(per_lane(dot(step, gradient) < 0), step, -z)


def _direction(rule, memory, metric, objective: Objective, point) -> Direction:
    prior, mask, theta = objective.prior, objective.mask, point.theta
    gradient = penalised(point.gradient, theta, prior, mask)
    step = rule.direction(memory, metric, mask, gradient)
    decrement = -dot(gradient, step)
    # Never uphill, whatever the memory holds.
    use_plain = ~(decrement > 0) | ~np.isfinite(decrement)
    if use_plain.any():
        plain = -solve(metric, mask, gradient)
        step = np.where(per_lane(use_plain), plain, step)
        decrement = np.where(use_plain, -dot(gradient, plain), decrement)
    return smooth_direction(prior, theta, step, decrement)


def smooth_direction(prior, theta, step, decrement) -> Direction:
    """Return a direction with the quadratic penalty along it."""
    return Direction(step, *prior.along(theta[..., :-1], step[..., :-1]), decrement)


class Descent(Solver):
    """Line-search descent; members differ in :attr:`rule`.

    Parameters
    ----------
    tol
        A lane stops at this estimated distance from its optimum, in standard errors of its coefficients.
    maxiter
        Largest number of passes over the rows.
    stepsize
        A fixed step along each direction instead of a line search.
    """

    def __init__(self, tol=1e-6, maxiter=500, stepsize=None):
        self.tol, self.maxiter, self.stepsize = tol, maxiter, stepsize

    @property
    @abc.abstractmethod
    def rule(self):
        """The hashable rule that gives directions."""

    def init(self, objective: Objective, theta, pilot: Objective | None = None) -> State:
        """Return the state at the parameters `theta`; see :meth:`Solver.init`."""
        point = objective.evaluate(theta)
        metric = _metric.first_metric(objective, theta, pilot)
        gradient = penalised(point.gradient, theta, objective.prior, objective.mask)
        memory = self.rule.start(metric, objective.mask, gradient)
        return self._from(objective, point, Memory(memory, metric, None, None), 0)

    def _from(self, objective, point, memory, iter_num) -> State:
        """Return the state at a point, with the memory of earlier ones."""
        ahead = _direction(self.rule, memory.rule, memory.metric, objective, point)
        memory = memory._replace(next=ahead, line=self._line(point, ahead, memory.metric))
        return State(point, unmoved(distance_of(point, ahead.decrement)), memory, iter_num)

    def _line(self, point, ahead, metric) -> Line:
        if self.stepsize is not None:
            return _line.first_line(point, ahead, float(self.stepsize))
        if self.unit_steps:
            return _line.first_line(point, ahead)
        model = _metric.curvature(metric, ahead.direction)
        first = np.where(model > 0, ahead.decrement / np.where(model > 0, model, 1.0), 1.0)
        return _line.first_line(point, ahead, first)

    def step(self, objective: Objective, state: State) -> State:
        """Take one pass over the rows: a trial step in every lane that is not done."""
        point, progress, memory, iter_num, refreshed = state
        ahead, metric, mask = memory.next, memory.metric, objective.mask
        trial, good, failed, line = _line.attempt(
            objective, point, ahead, memory.line, left=self.slope_left
        )
        if self.stepsize is not None:
            good, failed = _line.all_of(good)
        good, failed = good & ~progress.done, failed & ~progress.done
        new = pick(good, trial, point)
        s = trial.theta - point.theta
        before, after = (
            penalised(p.gradient, p.theta, objective.prior, mask) for p in (point, trial)
        )
        rule = pick(good, self.rule.push(memory.rule, metric, mask, s, after - before), memory.rule)
        if failed.any():
            rule = pick(failed, self.rule.start(metric, mask, after), rule)
        if self.uses_metric and refresh_due(state, _metric.is_few(new.theta)):
            metric, refreshed = _metric.metric_at(objective, new.theta, shared=False), iter_num
            rule = self.rule.rescale(rule)
        fresh = good | failed
        if fresh.any():
            ahead = pick(fresh, _direction(self.rule, rule, metric, objective, new), ahead)
            line = pick(fresh, self._line(new, ahead, metric), line)
        distance = distance_of(new, ahead.decrement)
        progress = judge(progress, new, distance, good, failed, self.tol, objective, PATIENCE)
        memory = Memory(rule, metric, ahead, line)
        return State(new, progress, memory, iter_num + 1, refreshed)

    def resume(self, objective: Objective, state: State) -> State:
        """Return the state after one step on other rows, with the memory of the earlier ones."""
        point = objective.evaluate(state.point.theta)
        return self.step(objective, self._from(objective, point, state.memory, state.iter_num))

    #: Whether a step of length one is a good first trial once the memory holds something.
    unit_steps = True
    #: Share of the slope that a search may leave.
    slope_left = 0.7
    #: Whether directions go on to depend on the metric after the first.
    uses_metric = True


class LBFGS(Descent):
    """Limited-memory BFGS from a shared curvature matrix of the features: the default for smooth penalties.

    Parameters
    ----------
    memory_size
        Number of past steps kept.

    References
    ----------
    Liu, Nocedal (1989). doi:10.1007/BF01589116
    """

    def __init__(self, tol=1e-6, maxiter=500, stepsize=None, memory_size=10):
        super().__init__(tol, maxiter, stepsize)
        self.memory_size = memory_size

    @property
    def rule(self):
        """Two-loop recursion."""
        return _LBFGSRule(self.memory_size)


class BFGS(Descent):
    """BFGS with a dense inverse Hessian for each lane; for few parameters.

    References
    ----------
    Nocedal, Wright (2006), Numerical Optimization, section 6.1. doi:10.1007/978-0-387-40065-5
    """

    uses_metric = False

    def __init__(self, tol=1e-6, maxiter=10000, stepsize=None):
        super().__init__(tol, maxiter, stepsize)

    @property
    def rule(self):
        """Dense inverse update."""
        return _BFGSRule()


class NonlinearCG(Descent):
    """Preconditioned nonlinear conjugate gradients (Polak-Ribiere).

    References
    ----------
    Nocedal, Wright (2006), Numerical Optimization, section 5.2. doi:10.1007/978-0-387-40065-5
    """

    unit_steps = False
    slope_left = 0.2

    def __init__(self, tol=1e-6, maxiter=10000, stepsize=None):
        super().__init__(tol, maxiter, stepsize)

    @property
    def rule(self):
        """Conjugate directions."""
        return _ConjugateRule()
