"""Run a solver over all neurons, and say which of the answers can be trusted."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bayesglm import links, solvers
from bayesglm._layout import Layout
from bayesglm._messages import Message
from bayesglm._objective import Objective, Point
from bayesglm._progress import Watch
from bayesglm.glm import _dispersion, _start
from bayesglm.glm._problem import Problem

_log = logging.getLogger(__name__)

# What one panel of neurons may take: arrays with an entry per row, and matrices with one per pair of features.
_PANEL_BYTES = 2 << 30
_ARRAYS_PER_ROW, _MATRICES_PER_LANE = 3, 6

# Rows of the sample that a fit of many more rows starts with, and the distance to which it is fitted (standard errors).
_PILOT_ROWS, _PILOT_ROWS_PER_FEATURE = 20_000, 50
_MOST_PILOT_ROWS = 1 << 18
_PILOT_PAYS = 4
_PILOT_TOL = 0.1

# Range of the linear predictor beyond which a fit is looked at for a direction without curvature. There is none
# if less than this share of the curvature at zero coefficients is left, and a standard deviation of the
# features along the direction has more than 100 units of the predictor as its standard error.
_SUSPICIOUS_RANGE = 15.0
_NO_CURVATURE = 1e-6
_NO_INFORMATION = 1e-4


class FitState(NamedTuple):
    """How a fit ended; arrays have one entry per neuron, NaN for those that could not be fitted.

    Attributes
    ----------
    iter_num : int
        Steps taken.
    converged : bool array (neurons,)
    distance : array (neurons,)
        Estimated distance to the optimum in standard errors.
    function_val : array (neurons,)
        Loss without penalty.
    reached_max_steps : bool
    separated : bool array (neurons,)
        Whether the optimum is at infinity along some direction.
    solver_state
        What a solver of the user's own returned as its state.
    """

    iter_num: int
    converged: np.ndarray
    distance: np.ndarray
    function_val: np.ndarray
    reached_max_steps: bool
    separated: np.ndarray | None = None
    solver_state: Any = None

    @property
    def stats(self) -> FitState:
        """The same object, under its documented name."""
        return self

    @property
    def num_steps(self) -> int:
        """Steps taken."""
        return self.iter_num


@dataclass
class Outcome:
    """What was found, neuron by neuron."""

    theta: np.ndarray  # (neurons, columns, features + 1)
    residual: np.ndarray  # (neurons,) mean squared Pearson residual at unit scale
    loss: np.ndarray
    distance: np.ndarray
    usable: np.ndarray
    converged: np.ndarray
    separated: np.ndarray
    absent: np.ndarray  # (neurons,) whether a class never occurs
    scale: np.ndarray  # (neurons,) dispersion that entered the loss
    iter_num: int = 0
    reached_max_steps: bool = False
    solver_state: Any = None

    @property
    def finite(self) -> np.ndarray:
        """Neurons with finite parameters."""
        return np.isfinite(self.theta).all(axis=(1, 2))

    @property
    def state(self) -> FitState:
        """How the fit ended."""
        return FitState(
            self.iter_num, self.converged, self.distance, self.loss, self.reached_max_steps,
            self.separated, self.solver_state,
        )  # fmt: skip


def usable_neurons(problem: Problem, initial: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """Return which neurons can be fitted, (neurons,).

    Parameters
    ----------
    initial, given : arrays (outputs)
        Intercepts that match the mean response, and those that the user starts from, if any.

    Raises
    ------
    ValueError
        If there is none.
    """
    by_neuron = np.reshape(initial, (problem.n_neurons, -1))
    if given is None:
        usable = np.isfinite(by_neuron).all(axis=1)
    else:
        # A start from outside helps where the link could not be inverted, not where the optimum is infinite.
        usable = ~np.isinf(by_neuron).any(axis=1)
        usable &= np.isfinite(np.reshape(given, (problem.n_neurons, -1))).all(axis=1)
    usable &= problem.rows.n > 0
    if not usable.any():
        raise ValueError(
            "Failed to initialise the intercept: no finite value gives the mean response "
            f"(a mean of {_mean_response(problem)}, non-positive or outside the range of the inverse link?). "
            "Check `y`, choose another inverse link, or provide initial parameters."
        )
    return usable


def _mean_response(problem: Problem) -> str:
    mean = problem.mean(problem.rows.share)
    return ", ".join(f"{m:.4g}" for m in mean[:3]) + (", ..." if len(mean) > 3 else "")


def solve(
    problem: Problem, usable: np.ndarray, initial: np.ndarray, given, solver, bar: bool = True
) -> Outcome:
    """Minimise for all usable neurons, in panels that bound the memory.

    Parameters
    ----------
    usable : bool array (neurons,)
    initial, given : arrays (neurons, columns, features + 1)
        Zero coefficients with intercepts that match the mean response, and where the user starts from, or None.
    bar : bool
        Whether a progress bar may appear.

    Raises
    ------
    ValueError
        If no neuron ends in finite parameters.
    """
    n_neurons = problem.n_neurons
    number = lambda: np.full(n_neurons, np.nan)  # noqa: E731
    no = np.zeros(n_neurons, bool)
    outcome = Outcome(
        np.full(initial.shape, np.nan), number(), number(), number(), usable, no.copy(), no.copy(),
        problem.absent, number() if problem.estimates_scale else problem.dispersion,
    )  # fmt: skip
    with Watch(int(usable.sum()), bar) as watch:
        for count, panel in enumerate(_panels(problem, np.flatnonzero(usable))):
            _log.debug("panel %d: %d neurons", count, len(panel))
            watch.panel(count * len(panel))
            _solve_panel(problem, panel, initial, given, solver, outcome, watch)
    # finite parameters at which the loss overflows are as useless as infinite ones
    outcome.theta[~np.isfinite(outcome.loss)] = np.nan
    if not outcome.finite.any():
        raise ValueError(
            "The solver ended in NaN or infinite parameters: an invalid solution. Use a smaller `stepsize` in "
            "`solver_kwargs` (or none, for a line search), or other initial parameters."
        )
    return outcome


def _panels(problem: Problem, neurons: np.ndarray) -> Iterator[np.ndarray]:
    """Cut the neurons into panels of one width, the last one filled up with neurons seen before."""
    columns = problem.n_classes or 1
    n_rows, n_features = problem.rows.design.matrix.shape
    per_row = _ARRAYS_PER_ROW * n_rows * problem.rows.design.matrix.itemsize
    bytes_each = columns * (per_row + 8 * _MATRICES_PER_LANE * min(n_features, n_rows) ** 2)
    n_panels = 1 if problem.layout.tied else max(1, -(-len(neurons) * bytes_each // _PANEL_BYTES))
    width = -(-len(neurons) // n_panels)
    for first in range(0, len(neurons), width):
        panel = neurons[first : first + width]
        yield np.concatenate([panel, neurons[: width - len(panel)]])


def _solve_panel(problem: Problem, panel, initial, given, solver, outcome, watch: Watch) -> None:
    some = problem.select(panel)
    objective = some.objective(whole=solver.stochastic)
    lanes = (some.n_lanes, -1, initial.shape[-1])
    null = initial[panel].reshape(lanes)
    if given is not None:
        given = given[panel].reshape(lanes)
        null = np.where(np.isfinite(null), null, given)
    null = _null(some, objective, null)
    theta, pilot = null if given is None else given, None
    if not solver.stochastic:
        theta, pilot = _pilot(some, theta, solver)

    def run(objective: Objective, again=None):
        state = solvers.run(solver, objective, theta if again is None else again, pilot, watch)
        plain = (
            theta is null or again is not None or solver.stochastic or solver.stepsize is not None
        )
        # a start from a sample is no worse
        if not plain and not (given is None and state.progress.converged.all()):
            state = second_chance(solver, objective, null, state, watch)
        return solvers.refined(solver, objective, state, watch)

    if problem.estimates_scale:
        objective, state, scale = _dispersion.fit(solver, objective, null, run)
        outcome.scale[panel] = scale.reshape(len(panel))
    else:
        state = run(objective)
    point, progress = state.point, state.progress
    per_lane = some.layout.spread
    outcome.theta[panel] = centred(some, point.theta.reshape(len(panel), *initial.shape[1:]))
    outcome.residual[panel] = per_lane(point.residual)
    outcome.loss[panel] = per_lane(point.loss)
    outcome.distance[panel] = per_lane(progress.distance)
    outcome.converged[panel] = per_lane(progress.converged)
    outcome.separated[panel] = per_lane(_separated(objective, null, point)) | outcome.absent[panel]
    outcome.iter_num = max(outcome.iter_num, state.iter_num)
    outcome.reached_max_steps |= not progress.done.all()


def _null(problem: Problem, objective: Objective, theta) -> np.ndarray:
    """Return the best intercepts at zero coefficients, from a sample of the rows where there are many."""
    wanted = _pilot_rows(problem)
    if problem.rows.offset is not None and len(problem.rows.y) >= _PILOT_PAYS * wanted:
        problem = problem.sample(wanted)
        objective = problem.objective()
    return _start.null(problem, objective, theta)


def second_chance(solver, objective: Objective, null, state: solvers.State, watch=None):
    """Run again, from zero coefficients, the lanes that another start has led nowhere.

    No optimum is above the model of a constant mean; far from it gradients vanish where a link saturates, and
    curvatures and dispersions say nothing about the optimum.
    """
    found = state.point
    value = found.loss + objective.prior.value(found.theta[..., :-1])
    lower = value <= objective.evaluate(null).loss
    lanes = np.flatnonzero(~(lower & state.progress.converged) & np.isfinite(null).all(axis=(1, 2)))
    if not len(lanes):
        return state
    part = objective.select(lanes)
    again = solvers.run(solver, part, null[lanes], None, watch)
    value_again = again.point.loss + part.prior.value(again.point.theta[..., :-1])
    better = again.progress.converged | ~(value[lanes] <= value_again)
    solvers.put(state, lanes[better], solvers.select(again, better))
    return state._replace(iter_num=max(state.iter_num, again.iter_num))


def _pilot_rows(problem: Problem) -> int:
    """Return the number of rows of a sample."""
    n_rows, n_features = problem.rows.design.matrix.shape
    wanted = max(_PILOT_ROWS, _PILOT_ROWS_PER_FEATURE * n_features)
    return max(wanted, min(n_rows // 16, _MOST_PILOT_ROWS))


def _pilot(problem: Problem, theta, solver) -> tuple[np.ndarray, Objective | None]:
    """Return a better start from a sample of the rows, and the objective of these, where there are many rows.

    The optimum of the sample is a few standard errors (of the sample) from that of all rows, and its curvature
    differs by little: two to four passes over all rows are left.
    """
    n_rows, wanted = len(problem.rows.y), _pilot_rows(problem)
    if n_rows < _PILOT_PAYS * wanted or solver.stepsize is not None:
        return theta, None
    some = problem.sample(wanted)
    pilot = some.objective()
    rough = copy.copy(solver)
    rough.tol, rough.maxiter = max(solver.tol, _PILOT_TOL), min(solver.maxiter, 50)
    state = solvers.run(rough, pilot, theta)
    found = state.progress.converged & np.isfinite(state.point.theta).all(axis=(1, 2))
    _log.debug(
        "a sample of %d of %d rows %s, after %d steps", len(some.rows.y), n_rows,
        "gives the start" if found.all() else "did not converge and is left", state.iter_num,
    )  # fmt: skip
    if not found.all():
        return theta, None
    return state.point.theta, pilot


def centred(problem: Problem, theta):
    """Take out the shift common to all classes, which a softmax does not see."""
    if problem.n_classes is None or problem.inverse_link is not links.log_softmax:
        return theta
    shift = theta.mean(axis=1, keepdims=True)
    if not (problem.prior.flat and (problem.mask == problem.mask[..., :1]).all()):
        shift[..., :-1] = 0.0
    return theta - shift


def _separated(objective: Objective, null: np.ndarray, point: Point) -> np.ndarray:
    """Return the lanes whose loss has lost its curvature along a direction: their optimum is at infinity.

    Without a penalty, a direction along which the responses can be told apart without error (or a feature that
    is non-zero only where a count is zero) has no finite optimum, while every gradient there looks converged.
    """
    separated = np.zeros(len(point.theta), bool)
    if not objective.prior.flat:
        return separated
    if objective.n_features > min(objective.n_rows, solvers.DENSE_LIMIT):
        return separated
    suspects = np.flatnonzero(point.reach > _SUSPICIOUS_RANGE)
    if not len(suspects):
        return separated
    flat = objective.gram(null, shared=True, dense=True)
    now = objective.gram(point.theta, shared=False, dense=True)
    for lane in suspects:
        initial = flat.total[lane].mean()
        shape = flat.centred[lane, 0] / flat.total[lane, 0]
        if not np.isfinite(shape).all():  # no curvature at zero coefficients either
            continue
        least = min(_least_curvature(shape, hessian) for hessian in now.centred[lane])
        limit = min(_NO_CURVATURE * initial, _NO_INFORMATION / float(objective.n[lane]))
        separated[lane] = least < limit
    return separated


def _least_curvature(shape, hessian) -> float:
    """Smallest curvature relative to the spread of the features, over directions in which they spread."""
    scale = np.sqrt(np.where(np.diag(shape) > 0, np.diag(shape), 1.0))
    values, vectors = np.linalg.eigh(shape / np.outer(scale, scale))
    known = values > 1e-8 * values.max()
    whiten = vectors[:, known] / np.sqrt(values[known]) / scale[:, None]
    return float(np.linalg.eigvalsh(whiten.T @ np.nan_to_num(hessian) @ whiten).min())


def unconverged(outcome: Outcome, solver: solvers.Solver) -> str:
    """Return what a warning says of neurons that are not at their optimum."""
    return (
        f"did not converge in {outcome.iter_num} steps of {type(solver).__name__} (tol {solver.tol:g} standard "
        "errors). Raise `maxiter` in `solver_kwargs`, use LBFGS (smooth penalties) or ProximalGradient with default "
        "arguments, or pass X in float64."
    )


def messages(outcome: Outcome, layout: Layout, unconverged: str) -> tuple[Message, ...]:
    """Return one message that names the neurons whose estimates are not to be trusted, if there are any.

    Parameters
    ----------
    unconverged
        What it says of those that are not at their optimum.
    """
    usable, finite = outcome.usable, outcome.finite
    separated, absent = outcome.separated, outcome.absent
    cases = (
        (
            ~usable,
            "could not be fitted (no finite intercept gives the mean response; silent?), with NaN coefficients. "
            "Leave such neurons out, or use another inverse link.",
        ),
        (
            usable & ~finite,
            "ended in NaN or infinite parameters. Use a smaller `stepsize` or a line search.",
        ),
        (
            finite & absent,
            "without a row of some class, whose intercept has no finite optimum and is arbitrary. Leave the class "
            "out, or give the intercepts a prior (`sample_posterior` with `intercept_prior`).",
        ),
        (
            finite & separated & ~absent,
            "without a finite optimum along some direction (separation): the coefficients are arbitrary there. "
            "Use a penalty such as Ridge, or remove the features that predict the response without error.",
        ),
        (finite & ~separated & ~outcome.converged, unconverged),
    )
    found = [f"{layout.named(which)}: {text}" for which, text in cases if which.any()]
    return (Message(RuntimeWarning, " ".join(found)),) if found else ()
