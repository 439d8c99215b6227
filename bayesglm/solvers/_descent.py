"""Smooth minimisation: a direction, a line search on cached predictors, and memory, for all lanes at once.

LBFGS, BFGS and nonlinear conjugate gradients are one skeleton with different direction rules. Each
starts from the inverse metric (:mod:`bayesglm.solvers._metric`), which makes the number of steps all but
independent of how the features are scaled and correlated.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesglm._objective import Objective
from bayesglm.solvers import _metric
from bayesglm.solvers._metric import dot, solve, spread
from bayesglm.solvers._run import PATIENCE, Solver, State, begin, floor_of, judge, refresh_due


class Direction(NamedTuple):
    """A descent direction and the penalty along it."""

    direction: Any  # as theta
    linear: Any  # (lanes,)
    quadratic: Any  # (lanes,)
    decrement: Any  # (lanes,) g' H^-1 g


class Memory(NamedTuple):
    """What a descent solver carries from step to step."""

    rule: Any
    metric: _metric.Metric
    next: Direction


def penalised(gradient, theta, l2, mask):
    """Gradient of loss plus quadratic penalty, zero where masked."""
    coef = gradient[..., :-1]
    if l2 is not None:
        coef = coef + l2 * theta[..., :-1]
    return jnp.concatenate([coef * mask, gradient[..., -1:]], axis=-1)


@dataclass(frozen=True)
class _LBFGSRule:
    """Two-loop recursion; Liu, Nocedal (1989), doi:10.1007/BF01589116."""

    memory_size: int

    def start(self, metric, mask, gradient):
        pairs = jnp.zeros((self.memory_size, *gradient.shape))
        rho = jnp.zeros((self.memory_size, len(gradient)))
        return pairs, pairs, rho, jnp.ones(len(gradient))

    def push(self, memory, metric, mask, s, y, reset):
        old_s, old_y, rho, scale = memory
        sy = dot(s, y)
        # Without curvature along s (a finished lane, rounding, a loss that is not convex there) the pair is void.
        good = sy > 1e-10 * jnp.sqrt(dot(s, s) * dot(y, y))
        new_rho = jnp.where(good, 1.0 / jnp.where(good, sy, 1.0), 0.0)
        yhy = dot(y, solve(metric, mask, y))
        scale = jnp.where(good, sy / jnp.where(yhy > 0, yhy, 1.0), scale)
        rho = jnp.where(reset, 0.0, jnp.concatenate([rho[1:], new_rho[None]]))
        s, y = jnp.concatenate([old_s[1:], s[None]]), jnp.concatenate([old_y[1:], y[None]])
        return s, y, rho, jnp.where(reset, 1.0, scale)

    def rescale(self, memory):
        """Return the memory for another metric: the pairs hold, the scale of the metric does not."""
        return (*memory[:3], jnp.ones_like(memory[3]))

    def direction(self, memory, metric, mask, gradient):
        s, y, rho, scale = memory

        def back(q, pair):
            s, y, rho = pair
            alpha = rho * dot(s, q)
            return q - spread(alpha) * y, alpha

        def forth(r, pair):
            s, y, rho, alpha = pair
            return r + spread(alpha - rho * dot(y, r)) * s, None

        q, alpha = jax.lax.scan(back, gradient, (s, y, rho), reverse=True)
        r = spread(scale) * solve(metric, mask, q)
        r, _ = jax.lax.scan(forth, r, (s, y, rho, alpha))
        return -r


@dataclass(frozen=True)
class _BFGSRule:
    """Dense inverse Hessian; Nocedal, Wright (2006), section 6.1, doi:10.1007/978-0-387-40065-5."""

    def start(self, metric, mask, gradient):
        lanes, *shape = gradient.shape
        size = gradient[0].size
        basis = jnp.eye(size).reshape(size, 1, *shape)
        columns = jax.vmap(lambda e: solve(metric, mask, jnp.broadcast_to(e, gradient.shape)))(
            basis
        )
        return jnp.moveaxis(columns.reshape(size, lanes, size), 0, 2)

    def push(self, inverse, metric, mask, s, y, reset):
        fresh = self.start(metric, mask, s)
        s, y = s.reshape(len(s), -1), y.reshape(len(y), -1)
        sy = jnp.sum(s * y, -1)
        good = sy > 1e-10 * jnp.sqrt(jnp.sum(s * s, -1) * jnp.sum(y * y, -1))
        rho = jnp.where(good, 1.0 / jnp.where(good, sy, 1.0), 0.0)[:, None, None]
        hy = jnp.einsum("lij,lj->li", inverse, y)
        yhy = jnp.sum(y * hy, -1)[:, None, None]
        cross = s[:, :, None] * hy[:, None, :]
        outer = s[:, :, None] * s[:, None, :]
        updated = inverse - rho * (cross + jnp.swapaxes(cross, 1, 2)) + (rho + rho**2 * yhy) * outer
        return jnp.where(reset[:, None, None], fresh, updated)

    def direction(self, inverse, metric, mask, gradient):
        flat = gradient.reshape(len(gradient), -1)
        return -jnp.einsum("lij,lj->li", inverse, flat).reshape(gradient.shape)


@dataclass(frozen=True)
class _ConjugateRule:
    """Preconditioned Polak-Ribiere directions with restart; Nocedal, Wright (2006), section 5.2."""

    def start(self, metric, mask, gradient):
        zero = jnp.zeros_like(gradient)
        return zero, zero, jnp.zeros(len(gradient))

    def push(self, memory, metric, mask, s, y, reset):
        # The gradient itself is known when the direction is asked for; the change of it suffices here.
        moved = dot(s, s) > 0
        keep = (moved & ~reset).astype(s.dtype)
        return s, y, keep

    def rescale(self, memory):
        """Return the memory for another metric."""
        return memory

    def direction(self, memory, metric, mask, gradient):
        s, y, keep = memory
        z = solve(metric, mask, gradient)
        # s is the last direction up to its length, which cancels against the slope y' s in this form of beta
        sy = dot(s, y)
        beta = dot(z, y) / jnp.where(sy > 0, sy, 1.0)
        step = -z + spread(keep * (sy > 0) * beta) * s
        downhill = dot(step, gradient) < 0
        return jnp.where(spread(downhill), step, -z)


@partial(jax.jit, static_argnames="rule")
def _start(rule, metric, l2, mask, point):
    """Memory, first direction and progress at the point where a run begins."""
    total = penalised(point.gradient, point.theta, l2, mask)
    memory = rule.start(metric, mask, total)
    ahead = _direction(rule, memory, metric, l2, mask, point.theta, total)
    return Memory(memory, metric, ahead), begin(_distance(point, ahead))


@partial(jax.jit, static_argnames="rule")
def _resume(rule, memory, l2, mask, point):
    """Memory and progress at a point on new rows."""
    total = penalised(point.gradient, point.theta, l2, mask)
    ahead = _direction(rule, memory.rule, memory.metric, l2, mask, point.theta, total)
    return memory._replace(next=ahead), begin(_distance(point, ahead))


@partial(jax.jit, static_argnames="rule")
def _advance(rule, memory, l2, mask, old, new, length, progress, tol, floor):
    """Take in the last step, from `old` to `new`, and prepare the next one."""
    before = penalised(old.gradient, old.theta, l2, mask)
    after = penalised(new.gradient, new.theta, l2, mask)
    stuck = length == 0
    learned = rule.push(
        memory.rule, memory.metric, mask, new.theta - old.theta, after - before, stuck
    )
    ahead = _direction(rule, learned, memory.metric, l2, mask, new.theta, after)
    progress = judge(progress, _distance(new, ahead), ~stuck, tol, floor, PATIENCE)
    idle = spread(jnp.where(progress.done, 0.0, 1.0))
    return Memory(
        learned, memory.metric, ahead._replace(direction=ahead.direction * idle)
    ), progress


def _distance(point, ahead):
    return point.unit * jnp.sqrt(jnp.maximum(ahead.decrement, 0.0))


def _direction(rule, memory, metric, l2, mask, theta, gradient):
    step = rule.direction(memory, metric, mask, gradient)
    decrement = -dot(gradient, step)
    # Never uphill, whatever the memory holds.
    plain = -solve(metric, mask, gradient)
    use_plain = ~(decrement > 0) | ~jnp.isfinite(decrement)
    step = jnp.where(spread(use_plain), plain, step)
    decrement = jnp.where(use_plain, -dot(gradient, plain), decrement)
    zero = jnp.zeros(len(gradient))
    if l2 is None:
        return Direction(step, zero, zero, decrement)
    coef, d = theta[..., :-1], step[..., :-1]
    return Direction(step, dot(l2 * coef, d), dot(l2 * d, d), decrement)


class Descent(Solver):
    """Line-search descent; members differ in :attr:`rule`.

    Parameters
    ----------
    tol
        A lane stops at this estimated distance from its optimum, in standard errors of its coefficients.
    maxiter
        Largest number of steps.
    stepsize
        A fixed step along each direction instead of a line search.
    """

    def __init__(self, tol=1e-6, maxiter=500, stepsize=None):
        self.tol, self.maxiter, self.stepsize = tol, maxiter, stepsize

    @property
    @abc.abstractmethod
    def rule(self):
        """The hashable rule that gives directions."""

    def init(self, objective: Objective, theta) -> State:
        """Return the state at the parameters `theta`."""
        point = objective.evaluate(theta)
        metric = _metric.metric_at(objective, point.eta, shared=True)
        memory, progress = _start(self.rule, metric, objective.penalty.l2, objective.mask, point)
        return State(point, progress, memory, 0)

    def step(self, objective: Objective, state: State) -> State:
        """Take one step with every lane that is not done."""
        point, progress, memory, iter_num, refreshed = state
        first = 1.0 if self.unit_steps and iter_num > 0 else math.nan
        first = first if self.stepsize is None else -float(self.stepsize)
        new, step = objective.search(
            point, *memory.next[:3], first=first, longest=math.inf, slack=0.0, exact=True
        )
        if self.uses_metric and refresh_due(state):
            metric = _metric.metric_at(objective, new.eta, shared=False)
            memory = memory._replace(metric=metric, rule=self.rule.rescale(memory.rule))
            refreshed = iter_num
        memory, progress = _advance(
            self.rule, memory, objective.penalty.l2, objective.mask, point, new, step.length, progress,
            self.tol, floor_of(objective),
        )  # fmt: skip
        return State(new, progress, memory, iter_num + 1, refreshed)

    def resume(self, objective: Objective, state: State) -> State:
        """Return the state after one step on other rows, with the memory of the earlier ones."""
        point = objective.evaluate(state.point.theta)
        memory, progress = _resume(
            self.rule, state.memory, objective.penalty.l2, objective.mask, point
        )
        return self.step(objective, state._replace(point=point, memory=memory, progress=progress))

    #: Whether a step of length one is a good first trial once the memory holds something.
    unit_steps = True
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

    def __init__(self, tol=1e-6, maxiter=10000, stepsize=None):
        super().__init__(tol, maxiter, stepsize)

    @property
    def rule(self):
        """Conjugate directions."""
        return _ConjugateRule()
