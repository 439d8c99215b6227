"""Stochastic variance-reduced gradients, with and without a prox.

An epoch takes the full gradient at an anchor and then as many mini-batch steps as there are batches. Rows in a file are
taken piece by piece in random order, all mini-batches of a piece while that is in memory: what they add to the full
gradient vanishes at the optimum, whatever rows they are of.

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

from bayesglm._objective import Objective
from bayesglm.rows import Data, Spec, even, predict, slopes, transpose
from bayesglm.solvers import _metric
from bayesglm.solvers._run import LONG_PATIENCE, Solver, State, distance_of, judge, unmoved
from bayesglm.solvers._subproblem import shifted, subproblem

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


@partial(jax.jit, static_argnames=("spec", "proximal", "batch_size"))
def _steps(
    spec: Spec, data: Data, theta, anchor, full, n, prior, mask, key, move, first, total,
    proximal, batch_size,
):  # fmt: skip
    """Mini-batch steps on the rows of a shard from the `first` on, where the gradient of all at the anchor is `full`.

    Parameters
    ----------
    n, move : (lanes, 1, 1)
        Sum of the weights, and step: zero for lanes that are to stay.
    total
        Number of rows of all shards.
    """
    n_rows = data.y.shape[-1]
    n_steps = -(-(n_rows - first) // batch_size)

    def take(array, index):
        array = array[: len(theta)]  # there may be more lanes, so that chunks are of one length
        return array if array.shape[-1] == 1 else jnp.take(array, index, axis=-1)

    def step(_, carry):
        now, key = carry
        key, draw = jax.random.split(key)
        index = jax.random.randint(draw, (batch_size,), first, n_rows)
        X, y, weight = data.X.first[index], take(data.y, index), take(data.weight, index)
        offset = 0.0 if data.offset is None else take(data.offset, index)
        here, there = (
            slopes(spec, y, weight, predict(X, at) + offset, data.scale[: len(theta)])[1]
            for at in (now, anchor)
        )
        gradient = transpose(X, here - there) * (total / batch_size) / n + full
        return _move(now, gradient, prior, mask, move, proximal), key

    theta, _ = lax.fori_loop(0, n_steps, step, (theta, key))
    return theta


def _move(theta, gradient, prior, mask, move, proximal):
    """One gradient step, followed by the prox or with the gradient of the quadratic penalty."""
    coef, g = theta[..., :-1], gradient[..., :-1]
    g = g + (prior.coupled_pull(coef) if proximal else prior.pull(coef))
    coef = coef - move * g * mask
    if proximal:
        coef = prior.prox(coef, move)
    intercept = theta[..., -1:] - move * gradient[..., -1:]
    return jnp.concatenate([coef, intercept], axis=-1)


_single = jax.jit(_move, static_argnames="proximal")


def _in_random_order(count: int, key):
    """Return the indices of pieces, and a random key for each."""
    if count == 1:
        return [(0, key)]
    of_order, key = jax.random.split(key)
    return zip(jax.random.permutation(of_order, count).tolist(), jax.random.split(key, count), strict=True)  # fmt: skip


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

    def init(self, objective: Objective, theta, pilot: Objective | None = None) -> State:
        """Return the state at the parameters `theta`, its anchor."""
        point = objective.evaluate(theta)
        metric = _metric.metric_at(objective, theta, shared=True)
        key = jax.random.key(123) if self.key is None else self.key
        distance = self._distance(objective, metric, point)
        memory = Memory(key, point.theta, point.gradient, metric, distance)
        return State(point, unmoved(distance), memory, 0)

    def step(self, objective: Objective, state: State) -> State:
        """Run one epoch."""
        point, progress, memory, iter_num, _ = state
        key, draw = jax.random.split(memory.key)
        move = np.where(_metric.per_lane(progress.done), 0.0, self.stepsize)
        theta = self._epoch(objective, point, draw, move)
        new = objective.evaluate(shifted(objective, np.asarray(theta)))
        metric = memory.metric
        if (iter_num + 1) % _METRIC_EVERY == 0:
            metric = _metric.metric_at(objective, new.theta, shared=True)
        distance = self._distance(objective, metric, new)
        every = np.ones(len(theta), bool)
        progress = judge(progress, new, distance, every, ~every, self.tol, objective, LONG_PATIENCE)
        memory = Memory(key, new.theta, new.gradient, metric, memory.earlier)
        if (iter_num + 1) % _LOOK_EVERY == 0:
            hopeless = self._hopeless(memory.earlier, progress.distance, iter_num + 1)
            progress = progress._replace(done=progress.done | hopeless)
            memory = memory._replace(earlier=progress.distance)
        return State(new, progress, memory, iter_num + 1)

    def _epoch(self, objective: Objective, point, key, move):
        """Return where an epoch from its anchor leads."""
        theta = point.theta
        n_rows, parts = objective.n_rows, objective.shards.parts
        for k, own in _in_random_order(len(parts), key):
            data = parts[k]() if callable(parts[k]) else parts[k]
            # the last piece begins with rows that the one before it has as well
            begin, _, new = even(n_rows, len(parts))[k]
            theta = _steps(
                objective.spec, data, theta, point.theta, point.gradient,
                _metric.per_lane(objective.n), objective.prior, objective.mask, own, move,
                new - begin, n_rows, self.proximal, min(self.batch_size, n_rows),
            )  # fmt: skip
        return theta

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
        move = np.full((len(here.theta), 1, 1), self.stepsize)
        theta = _single(here.theta, gradient, objective.prior, objective.mask, move, self.proximal)
        point = here._replace(theta=np.asarray(theta))
        return state._replace(point=point, iter_num=state.iter_num + 1)

    def _hopeless(self, earlier, distance, iter_num):
        """Lanes that at the present rate would need several times the epochs that are left."""
        rate = np.log(distance / earlier) / _LOOK_EVERY
        needed = np.where(rate < 0, np.log(self.tol / distance) / rate, math.inf)
        return needed > _HOPELESS * (self.maxiter - iter_num)

    def _distance(self, objective, metric, point):
        ones = np.ones(len(point.loss))
        model = subproblem(metric, ones, objective.prior, objective.mask, point, 0.0, self.tol)
        return distance_of(point, model.decrement)


class ProxSVRG(SVRG):
    """Stochastic variance-reduced gradients with a prox, for every penalty.

    References
    ----------
    Xiao, Zhang (2014). doi:10.1137/140961791
    """

    proximal = True
