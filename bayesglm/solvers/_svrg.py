"""Stochastic variance-reduced gradients, with and without a prox.

An epoch takes the full gradient at an anchor and then as many mini-batch steps as there are batches; the predictors at
the anchor are kept, so a step costs one pass over its batch for the new point and one for the gradient.

References: Johnson, Zhang (2013), NeurIPS 26; Xiao, Zhang (2014) doi:10.1137/140961791.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm._objective import (
    Data,
    Objective,
    Spec,
    _losses,
    _per_column,
    _predict,
    _transpose,
    _where_weighted,
)
from bayesglm._penalty import Penalty
from bayesglm.solvers import _metric
from bayesglm.solvers._descent import penalised
from bayesglm.solvers._run import LONG_PATIENCE, Solver, State, begin, floor_of, judge
from bayesglm.solvers._subproblem import distance_of, prox_of, shifted, subproblem

# Epochs between two looks at the rate of convergence, and how far beyond `maxiter` it may point before giving up.
_LOOK_EVERY = 50
_HOPELESS = 1.5
# Epochs after which the metric that measures the distance is taken again.
_METRIC_EVERY = 10


class Memory(NamedTuple):
    """What SVRG carries from epoch to epoch."""

    key: Any
    reference_point: Any  # as theta
    full_gradient: Any  # of the loss at the reference point, without penalty
    metric: _metric.Metric
    earlier: Any  # (lanes,) distance at the last look


def _slopes(spec: Spec, data: Data, y, weight, eta):
    losses, pullback = jax.vjp(lambda e: _losses(spec, y, e, data.scale), eta)
    return _where_weighted(_per_column(weight, eta.shape[1]), pullback(jnp.ones_like(losses))[0])


@partial(jax.jit, static_argnames=("spec", "proximal", "batch_size"))
def _epoch(spec, data, point, penalty: Penalty, mask, key, stepsize, frozen, proximal, batch_size):
    """Mini-batch steps from the anchor `point`; lanes that are frozen stay."""
    n_rows = data.X.shape[0]
    n_steps = -(-n_rows // batch_size)
    share = (n_rows / batch_size) / data.n[:, None, None]
    move = jnp.where(frozen, 0.0, stepsize)[:, None, None]

    def take(array, index):
        return array if array.shape[-1] == 1 else jnp.take(array, index, axis=-1)

    def step(_, carry):
        theta, key = carry
        key, draw = jax.random.split(key)
        index = jax.random.randint(draw, (batch_size,), 0, n_rows)
        X, y, weight = data.X[index], take(data.y, index), take(data.weight, index)
        eta = _predict(X, theta)
        if data.offset is not None:
            eta = eta + take(data.offset, index)
        change = _slopes(spec, data, y, weight, eta)
        change = change - _slopes(spec, data, y, weight, take(point.eta, index))
        gradient = share * _transpose(X, change) + point.gradient
        return _move(theta, gradient, penalty, mask, move, proximal), key

    theta, _ = lax.fori_loop(0, n_steps, step, (point.theta, key))
    return theta


def _move(theta, gradient, penalty, mask, move, proximal):
    """One gradient step, followed by the prox or with the gradient of the quadratic penalty."""
    new = theta - move * penalised(gradient, theta, None if proximal else penalty.l2, mask)
    if proximal:
        new = jnp.concatenate([prox_of(penalty, new[..., :-1], move), new[..., -1:]], axis=-1)
    return new


_single = jax.jit(_move, static_argnames="proximal")


class SVRG(Solver):
    """Stochastic variance-reduced gradients for smooth penalties.

    Parameters
    ----------
    tol
        A lane stops at this estimated distance from its optimum, in standard errors of its coefficients.
    maxiter
        Largest number of epochs. A run whose rate of convergence cannot get there stops before.
    stepsize
        Step of each mini-batch gradient.
    batch_size
        Rows in a mini-batch, drawn with replacement.
    key
        JAX random key.

    References
    ----------
    Johnson, Zhang (2013), Accelerating stochastic gradient descent using predictive variance reduction, NeurIPS 26.
    """

    proximal = False
    stochastic = True

    def __init__(self, tol=1e-6, maxiter=10000, stepsize=1e-3, batch_size=1, key=None):
        self.tol, self.maxiter = tol, maxiter
        self.stepsize, self.batch_size, self.key = stepsize, batch_size, key

    def init(self, objective: Objective, theta) -> State:
        """Return the state at the parameters `theta`, its anchor."""
        point = objective.evaluate(theta)
        metric = _metric.metric_at(objective, point.eta, shared=True)
        key = jax.random.key(123) if self.key is None else self.key
        distance = self._distance(objective, metric, point)
        memory = Memory(key, theta, point.gradient, metric, distance)
        return State(point, begin(distance), memory, 0)

    def step(self, objective: Objective, state: State) -> State:
        """Run one epoch."""
        point, progress, memory, iter_num, _ = state
        key, draw = jax.random.split(memory.key)
        theta = _epoch(
            objective.spec, objective.data, point, objective.penalty, objective.mask, draw,
            self.stepsize, progress.done, self.proximal, min(self.batch_size, objective.n_rows),
        )  # fmt: skip
        new = objective.evaluate(shifted(objective, theta))
        metric = memory.metric
        if (iter_num + 1) % _METRIC_EVERY == 0:
            metric = _metric.metric_at(objective, new.eta, shared=True)
        distance = self._distance(objective, metric, new)
        moved = jnp.ones(len(theta), bool)
        progress = judge(progress, distance, moved, self.tol, floor_of(objective), LONG_PATIENCE)
        memory = Memory(key, new.theta, new.gradient, metric, memory.earlier)
        if (iter_num + 1) % _LOOK_EVERY == 0:
            hopeless = self._hopeless(memory.earlier, progress.distance, iter_num + 1)
            progress = progress._replace(done=progress.done | hopeless)
            memory = memory._replace(earlier=progress.distance)
        return State(new, progress, memory, iter_num + 1)

    def resume(self, objective: Objective, state: State) -> State:
        """Return the state after one step on a mini-batch, with the anchor that the state holds."""
        memory = state.memory
        if memory.full_gradient is None:
            raise ValueError(
                "SVRG needs the gradient over all rows at its reference point: set `memory.full_gradient` and "
                "`memory.reference_point` of the state, or call `initialize_optimizer_and_state` with all rows."
            )
        here = objective.evaluate(state.point.theta)
        there = objective.evaluate(memory.reference_point)
        gradient = here.gradient - there.gradient + memory.full_gradient
        move = jnp.full((len(here.theta), 1, 1), self.stepsize)
        theta = _single(
            here.theta, gradient, objective.penalty, objective.mask, move, self.proximal
        )
        return state._replace(point=here._replace(theta=theta), iter_num=state.iter_num + 1)

    def _hopeless(self, earlier, distance, iter_num):
        """Lanes that at the present rate would need several times the epochs that are left."""
        earlier, distance = np.asarray(earlier), np.asarray(distance)
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.log(distance / earlier) / _LOOK_EVERY
            needed = np.where(rate < 0, np.log(self.tol / distance) / rate, math.inf)
        return jnp.asarray(needed > _HOPELESS * (self.maxiter - iter_num))

    def _distance(self, objective, metric, point):
        ones = jnp.ones(len(point.loss))
        model = subproblem(metric, ones, objective.penalty, objective.mask, point, 0.0, self.tol)
        return distance_of(point, model.decrement)


class ProxSVRG(SVRG):
    """Stochastic variance-reduced gradients with a prox, for every penalty.

    References
    ----------
    Xiao, Zhang (2014). doi:10.1137/140961791
    """

    proximal = True
