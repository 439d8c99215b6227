"""The one driver of all solvers, and the rule by which a lane stops.

A solver has ``init(objective, theta) -> State`` and ``step(objective, state) -> State``. The loop is on the host:
the compiled programs are shared between solvers, a fit can be interrupted, and it costs about 0.1 ms an iteration.
"""

from __future__ import annotations

import abc
import inspect
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bayesglm._objective import Objective, Point

# Distances, in standard errors, below which a lane that no longer improves is at the floor of its precision.
_FLOOR = {4: 1e-2, 8: 1e-3}
# Steps without improvement after which it is: for methods that settle, and for those that wander.
PATIENCE = 5
LONG_PATIENCE = 100


class Progress(NamedTuple):
    """Convergence of each lane; arrays (lanes,)."""

    distance: Any  # estimated distance to the optimum in standard errors
    best: Any  # the last distance that was smaller by a tenth
    waited: Any  # steps since the distance last shrank by a tenth
    stuck: Any  # steps in a row that could not go down
    done: Any
    converged: Any


class State(NamedTuple):
    """State of a solver between steps."""

    point: Point
    progress: Progress
    memory: Any  # what this solver carries along
    iter_num: int
    refreshed: int = 0  # step at which the metric was last taken


class Solver(abc.ABC):
    """A method of minimisation: arguments only, all progress is in the :class:`State`."""

    #: Whether it minimises penalties that are not differentiable.
    proximal = False
    #: Whether it works on mini-batches.
    stochastic = False
    tol: float
    maxiter: int

    @abc.abstractmethod
    def init(self, objective: Objective, theta) -> State:
        """Return the state at the parameters `theta`."""

    @abc.abstractmethod
    def step(self, objective: Objective, state: State) -> State:
        """Take one step with every lane that is not done."""

    @abc.abstractmethod
    def resume(self, objective: Objective, state: State) -> State:
        """Return the state after one step on rows that it has not been made for."""

    @classmethod
    def get_accepted_arguments(cls) -> set[str]:
        """Return the names that `solver_kwargs` may hold."""
        return set(inspect.signature(cls).parameters)


def begin(distance) -> Progress:
    """Return the progress of lanes that have not moved yet."""
    zero = jnp.zeros(distance.shape, int)
    no = jnp.zeros(distance.shape, bool)
    return Progress(distance, jnp.full_like(distance, jnp.inf), zero, zero, no, no)


def judge(progress: Progress, distance, moved, tol, floor, patience) -> Progress:
    """Return the progress after a step.

    Parameters
    ----------
    distance : (lanes,)
        Estimated distance to the optimum in standard errors: ``sqrt(n kappa g' H^-1 g)``.
    moved : bool array (lanes,)
        Whether the step went down.
    """
    distance = jnp.where(progress.done, progress.distance, distance)
    better = distance < 0.9 * progress.best
    waited = jnp.where(better, 0, progress.waited + 1)
    stuck = jnp.where(moved, 0, progress.stuck + 1)
    at_floor = (distance <= floor) & ((waited >= patience) | (stuck > 0))
    converged = progress.converged | (~progress.done & ((distance <= tol) | at_floor))
    done = progress.done | converged | (stuck > 1) | ~jnp.isfinite(distance)
    # Only a tenth counts, so that many small gains add up to one.
    best = jnp.where(better, distance, progress.best)
    return Progress(distance, best, waited, stuck, done, converged)


# A run that takes long has a metric that fits badly, for example where the rate has come to vary a lot.
_REFRESH_AT = (10, 20, 40, 80, 160, 320, 640)
_REFRESH_AFTER = 5


def refresh_due(state: State) -> bool:
    """Return whether the metric should be taken anew: on long runs, and before a lane is left at its floor."""
    if state.iter_num in _REFRESH_AT:
        return True
    waiting = ~np.asarray(state.progress.done) & (np.asarray(state.progress.waited) >= 2)
    return bool(waiting.any()) and state.iter_num - state.refreshed >= _REFRESH_AFTER


def floor_of(objective: Objective) -> float:
    """Return the distance that counts as converged once nothing improves."""
    return _FLOOR[objective.data.X.dtype.itemsize]


def run(solver: Solver, objective: Objective, theta) -> State:
    """Run a solver until every lane is done or it is out of iterations."""
    state = solver.init(objective, theta)
    while state.iter_num < solver.maxiter and not np.asarray(state.progress.done).all():
        state = solver.step(objective, state)
    return state
