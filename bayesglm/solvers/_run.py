"""The one driver of all solvers, and the rule by which a lane stops.

A solver has ``init(objective, theta) -> State`` and ``step(objective, state) -> State``. The loop is on the host:
the compiled programs are shared between solvers, a fit can be interrupted, and finished lanes leave the batch.
"""

from __future__ import annotations

import abc
import contextlib
import copy
import inspect
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesglm._objective import Objective, Point
from bayesglm.rows import chunks_of

# Distance, in standard errors, below which a lane that no longer improves is at the floor of its precision.
_FLOOR = 1e-3
# Steps without improvement after which it is: for methods that settle, and for those that wander.
PATIENCE = 5
LONG_PATIENCE = 100


class Progress(NamedTuple):
    """Convergence of each lane; arrays (lanes,)."""

    distance: Any  # estimated distance to the optimum in standard errors
    gain: Any  # share of it that the last step has left
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
    #: A fixed step in place of a search; None for a search.
    stepsize: float | None = None

    @abc.abstractmethod
    def init(self, objective: Objective, theta, pilot: Objective | None = None) -> State:
        """Return the state at the parameters `theta`.

        Parameters
        ----------
        pilot
            Objective of some of the rows, if `theta` is its optimum.
        """

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


@contextlib.contextmanager
def numerics():
    """Scope of all solving: double precision, and no warnings from trials that overflow."""
    with jax.enable_x64(True), np.errstate(all="ignore"):
        yield


def unmoved(distance) -> Progress:
    """Return the progress of lanes that have not moved yet."""
    zero = np.zeros(distance.shape, int)
    no = np.zeros(distance.shape, bool)
    return Progress(
        distance, np.ones_like(distance), np.full_like(distance, np.inf), zero, zero, no, no
    )


def distance_of(point: Point, decrement):
    """Return the estimated distance of each lane to its optimum in standard errors, from g' H^-1 g.

    A metric that is indefinite promises less than nothing, and knows no distance.
    """
    return point.unit * np.sqrt(np.where(decrement < 0, np.inf, decrement))


def judge(
    progress: Progress, point: Point, distance, moved, stuck, tol, objective, patience
) -> Progress:
    """Return the progress after a pass over the rows.

    Parameters
    ----------
    distance : (lanes,)
        Estimated distance to the optimum in standard errors: ``sqrt(n kappa g' H^-1 g)``.
    moved, stuck : bool arrays (lanes,)
        Lanes that have taken a step, and lanes whose search has found none; the others still search.
    """
    # What the rounding of the rows may add up to: closer than this, distances mean nothing.
    tol = np.maximum(tol, objective.precision * np.sqrt(objective.n))
    judged = (moved | stuck) & ~progress.done
    distance = np.where(judged, distance, progress.distance)
    gain = np.where(judged, distance / progress.distance, progress.gain)
    better = distance < 0.9 * progress.best
    waited = np.where(judged, np.where(better, 0, progress.waited + 1), progress.waited)
    times_stuck = np.where(judged, np.where(stuck, progress.stuck + 1, 0), progress.stuck)
    waiting = waited >= patience
    at_floor = (distance <= _FLOOR) & (waiting | (times_stuck > 0))
    converged = progress.converged | (judged & ((distance <= tol) | at_floor))
    done = progress.done | converged | (times_stuck > 1) | (judged & ~np.isfinite(distance))
    if objective.dtype != float:  # what rounding hides is left to more digits: see `refined`
        hidden = point.unit * np.sqrt(objective.precision * np.abs(point.loss))
        hidden = (waiting & (distance <= hidden)) | (waited >= 4 * patience)
        done = done | (judged & hidden)
    # Only a tenth counts, so that many small gains add up to one.
    best = np.where(judged & better, distance, progress.best)
    return Progress(distance, gain, best, waited, times_stuck, done, converged)


# A run that takes long has a metric that fits badly, for example where the rate has come to vary a lot.
_REFRESH_AT = (10, 20, 40, 80, 160, 320, 640)
# Where a new metric costs little more than a pass, it pays once the rough way is gone.
_REFRESH_FEW_AT = 3
_REFRESH_AFTER = 5


def refresh_due(state: State, few: bool) -> bool:
    """Return whether the metric should be taken anew: on long runs, and before a lane is left at its floor.

    Parameters
    ----------
    few
        Whether it costs little.
    """
    if state.iter_num in _REFRESH_AT or (few and state.iter_num == _REFRESH_FEW_AT):
        return True
    waiting = ~state.progress.done & (state.progress.waited >= 2)
    return bool(waiting.any()) and state.iter_num - state.refreshed >= _REFRESH_AFTER


def run(
    solver: Solver, objective: Objective, theta, pilot: Objective | None = None, watch=None
) -> State:
    """Run a solver until every lane is done or it is out of iterations.

    Parameters
    ----------
    pilot
        Objective of some of the rows, if `theta` is its optimum.
    watch : callable, optional
        Told, after each step, its number, how many lanes have left the batch, and the progress of the others.

    Returns
    -------
    State
        With the points and the progress of all lanes, and without what the solver carries along.
    """
    state = solver.init(objective, theta, pilot)
    ended = jax.tree.map(np.copy, (state.point, state.progress))
    lanes = np.arange(len(theta))
    while True:
        over = state.iter_num >= solver.maxiter or state.progress.done.all()
        keep = np.flatnonzero(~state.progress.done)
        if over or (not solver.stochastic and chunks_of(len(keep)) < chunks_of(len(lanes))):
            for whole, part in zip(
                jax.tree.leaves(ended), jax.tree.leaves((state.point, state.progress)), strict=True
            ):
                whole[lanes] = part
            if over:
                return State(*ended, None, state.iter_num, state.refreshed)
            lanes, objective = lanes[keep], objective.select(keep)
            state = select(state, keep)
        state = solver.step(objective, state)
        if watch is not None:
            watch(state.iter_num, len(theta) - len(lanes), state.progress)


def refined(solver: Solver, objective: Objective, state: State, watch=None) -> State:
    """Return the state after more steps, in float64, of the lanes that rows in float32 have kept from ending.

    Their rounding is more than a thousandth of a standard error where counts, offsets or means of features are large.

    Parameters
    ----------
    state
        What :func:`run` has returned.
    """
    left = state.progress.done & ~state.progress.converged
    lanes = np.flatnonzero(left & np.isfinite(state.point.theta).all(axis=(1, 2)))
    steps = solver.maxiter - state.iter_num
    if objective.dtype == float or not len(lanes) or steps < 1:
        return state
    solver = copy.copy(solver)
    solver.maxiter = steps
    finer = replace(objective.select(lanes), wide=True)
    again = run(solver, finer, state.point.theta[lanes], None, watch)
    put(state, lanes, again)
    return state._replace(iter_num=state.iter_num + again.iter_num)


def put(state: State, lanes, again: State) -> None:
    """Write how a run of some lanes ended into the state of all."""
    for whole, part in zip(state.point + state.progress, again.point + again.progress, strict=True):
        whole[lanes] = part


def select(state: State, keep) -> State:
    """Return the state of some of the lanes: all arrays have these first."""
    point, progress, memory = jax.tree.map(
        lambda a: a[keep], (state.point, state.progress, state.memory)
    )
    return state._replace(point=point, progress=progress, memory=memory)


def pick(which, new, old):
    """Return `new` for some of the lanes and `old` for the others, in trees of arrays with the lanes first."""
    if which.all():
        return new
    if not which.any():
        return old

    def one(a, b):
        return np.where(which.reshape((-1,) + (1,) * (np.ndim(a) - 1)), a, b)

    return jax.tree.map(one, new, old)
