"""Fits to all folds at all strengths: one batch of lanes (response, fold), warm from strong to weak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np

from bayesglm import _families, observation_models, rows, solvers
from bayesglm._objective import Gram, Objective
from bayesglm.glm import _dispersion, _fitting, _results, _solve, _start
from bayesglm.glm._folds import NO_FOLD, Folds
from bayesglm.glm._problem import Problem
from bayesglm.glm._settings import Settings
from bayesglm.prior import LanePrior, Prior

# Steps to the next strength from which on second moments are taken anew.
_FEW_STEPS = 4
# Matrices with an entry per pair of features that a lane has beside it, and what those of a batch may take, in bytes.
_MATRICES_PER_LANE, _BATCH_BYTES = 6, 1 << 30


class Grid(NamedTuple):
    """Fits to the rows that each fold trains with, at each strength; NaN for what could not be fitted."""

    coef: np.ndarray  # (strengths, folds, features, *outputs)
    intercept: np.ndarray  # (strengths, folds, *outputs)
    scale: np.ndarray  # (strengths, folds, neurons): dispersion
    score: (
        np.ndarray
    )  # (strengths, folds, neurons): mean log-likelihood of the rows that a fold tests
    weight: np.ndarray  # (folds, neurons): of these
    converged: np.ndarray  # (strengths, folds, neurons)


@dataclass(frozen=True, eq=False)
class Lanes:
    """Pairs of a fold and a neuron that can be fitted.

    Parameters
    ----------
    which, left_out : int arrays (lanes,)
        Neuron and fold.
    n, power : arrays (lanes,)
        Sum of the weights, and mean square of the response.
    null : array (lanes, columns, features + 1)
        Zero coefficients, and the intercepts that match the mean response.
    """

    which: np.ndarray
    left_out: np.ndarray
    n: np.ndarray
    power: np.ndarray
    null: np.ndarray

    @classmethod
    def of(cls, problem: Problem, folds: Folds) -> Lanes:
        """Return the lanes of a problem."""
        found = []
        shift = _offset_shift(problem)
        for k in range(folds.count):
            part = folds.training(problem, k)
            n = part.rows.n
            null = problem.layout.by_neuron(*part.initial()) + shift
            which = np.flatnonzero(np.isfinite(null).all(axis=(1, 2)) & (n > 0))
            power = part.mean(np.square(problem.rows.share, dtype=float))
            some = (a[which] for a in (n.astype(float), power, null))
            found.append((which, np.full(len(which), k), *some))
        return cls(*map(np.concatenate, zip(*found, strict=True)))

    def objectives(self, problem: Problem, folds: Folds) -> tuple[Objective, Objective]:
        """Return what the solvers minimise, but for the prior: of these lanes, and of the neurons with all rows."""
        filled = replace(problem, rows=problem.rows.filled())
        more = len(filled.rows.y) - len(problem.rows.y)
        lines = np.pad(folds.lines, ((0, 0), (0, more)), constant_values=NO_FOLD)
        whole = filled.objective()
        whole = replace(whole, shards=whole.shards.with_folds(lines))
        mask = whole.mask if len(whole.mask) == 1 else whole.mask[self.which]
        found = replace(
            whole, shards=whole.shards.naming(self.which, self.left_out), n=self.n,
            response_power=self.power, mask=mask,
        )  # fmt: skip
        return found.with_scale(problem.dispersion[self.which][:, None]), whole

    def table(self, values, shape, filling=0.0) -> np.ndarray:
        """Return what lanes have as (neurons, folds, ...)."""
        found = np.full((*shape, *values.shape[1:]), filling)
        found[self.which, self.left_out] = values
        return found


@dataclass(eq=False)
class _Curvature:
    """The second moments of each neuron, which serve all of its folds, and strengths for as long as steps are few.

    It stands where solvers take the objective of a sample, of which they ask this and the attributes.
    """

    whole: Objective
    lanes: Lanes
    shape: tuple[int, int]
    found: Gram | None = None

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def gram(self, theta, shared: bool, dense: bool) -> Gram:
        """Return the moments at the mean of the parameters of a neuron, for each of its lanes."""
        if self.found is None:
            count = self.lanes.table(np.ones(len(theta)), self.shape).sum(axis=1)
            total = self.lanes.table(theta, self.shape).sum(axis=1)
            mean = total / np.maximum(count, 1.0)[:, None, None]
            self.found = self.whole.gram(mean, False, dense)
        return Gram(*(a[self.lanes.which] for a in self.found))


def _offset_shift(problem: Problem) -> np.ndarray:
    """Return how the best intercepts differ from those that match the mean response at the mean offset."""
    null = problem.layout.by_neuron(*problem.initial())
    if problem.rows.offset is None:
        return np.zeros_like(null)
    return np.nan_to_num(_start.null(problem, problem.objective(), null) - null)


@solvers.numerics()
def search(problem: Problem, settings: Settings, folds: Folds, priors: list[Prior]) -> Grid:
    """Fit all neurons to all folds with all priors, each beginning where the one before has ended.

    Parameters
    ----------
    priors
        In the order in which they are fitted: from strong to weak, as coefficients leave zero one after the other.

    Raises
    ------
    ValueError
        If neurons depend on each other, or no neuron can be fitted to any fold.
    """
    if problem.layout.tied:
        raise ValueError(
            "Groups that tie neurons together have no folds of their own for each neuron. Search over the strength "
            "with scikit-learn's `GridSearchCV`."
        )
    if problem.prior.absolute and _families.has_free_scale(problem.observation_model):
        raise ValueError(
            "A prior in absolute units is weighed against a dispersion that is to be estimated: use scikit-learn's "
            "`GridSearchCV`, or a family without one."
        )
    _results.check_weights(problem)
    solver = _solver(problem, settings)
    shape = len(priors), folds.count, problem.n_neurons
    columns, width = problem.n_classes or 1, problem.mask.shape[0] + 1
    theta = np.full((*shape, columns, width), np.nan)
    scale, score = (np.full(shape, np.nan) for _ in range(2))
    weight, converged = np.zeros(shape[1:]), np.zeros(shape, bool)
    for panel in _panels(problem, folds.count):
        part = problem.select(panel)
        lanes = Lanes.of(part, folds)
        if not len(lanes.which):
            continue
        where = lanes.left_out, panel[lanes.which]
        each = (prior.in_lanes(problem.n_neurons) for prior in priors)
        penalties = (_spread(prior, where[1]) for prior in each)
        for s, found in enumerate(_path(part, solver, folds, lanes, penalties)):
            theta[s][where], scale[s][where] = _solve.centred(problem, found.theta), found.scale
            score[s][where], converged[s][where] = found.score, found.converged
            weight[where] = found.weight
    if not np.isfinite(theta).any():
        raise ValueError(
            "No neuron can be fitted to any fold: no finite intercept gives the mean response. Check `y`, or choose "
            "another inverse link."
        )
    coef, intercept = _of_user(problem, theta)
    return Grid(coef, intercept, scale, score, weight, converged)


def _of_user(problem: Problem, theta):
    """Turn (strengths, folds, neurons, columns, features + 1) into coefficients and intercepts of the user's shape."""
    found = [[problem.params(one) for one in of_strength] for of_strength in theta]
    return tuple(np.array([[pair[i] for pair in row] for row in found]) for i in (0, 1))


def _solver(problem: Problem, settings: Settings):
    """Return the solver of the settings, or the default where that one does not take lanes."""
    kind = solvers.get_solver(settings.solver_name).implementation
    if solvers.is_ours(kind) and not kind.stochastic:
        return _fitting.solver_of(problem, settings)
    return solvers.make_solver(settings.regularizer.default_solver, {})


def _panels(problem: Problem, n_folds: int) -> Iterator[np.ndarray]:
    """Cut the neurons into panels whose lanes fit into memory."""
    n_rows, n_features = problem.rows.design.matrix.shape
    each = 8 * _MATRICES_PER_LANE * n_folds * (problem.n_classes or 1)
    each *= min(n_features, solvers.DENSE_LIMIT) ** 2
    size = max(1, _BATCH_BYTES // each)
    for first in range(0, problem.n_neurons, size):
        yield np.arange(first, min(first + size, problem.n_neurons))


class _Stage(NamedTuple):
    """Fits with one prior, per lane."""

    theta: np.ndarray
    scale: np.ndarray
    score: np.ndarray
    weight: np.ndarray
    converged: np.ndarray


def _path(problem: Problem, solver, folds: Folds, lanes: Lanes, penalties) -> Iterator[_Stage]:
    shape = problem.n_neurons, folds.count
    objective, whole = lanes.objectives(problem, folds)
    pilot, theta = _Curvature(whole, lanes, shape), lanes.null
    of_trials = _of_trials(problem, folds)
    for penalty in penalties:
        if problem.prior.absolute:
            penalty = penalty.per_row(_units(problem, lanes))
        objective = replace(objective, prior=penalty)
        objective, state, within = _solved(problem, solver, objective, theta, lanes.null, pilot)
        found = state.point.theta
        scale = _scales(problem, folds, lanes, state, within)
        finite = np.isfinite(found).all(axis=(1, 2))
        tables = (
            lanes.table(np.where(finite, found.T, 0.0).T, shape),
            lanes.table(np.where(finite, scale, 1.0), shape, 1.0),
        )
        sums = rows.scores_at(objective.spec, whole.shards, *tables)
        if of_trials is not None:
            sums = sums[0] + of_trials[0], of_trials[1]
        score, weight = (a[lanes.which, lanes.left_out] for a in sums)
        score = np.where(finite & (weight > 0), score, np.nan) / np.where(weight > 0, weight, 1.0)
        yield _Stage(found, scale, score, weight, state.progress.converged)
        theta = np.where(finite, found.T, lanes.null.T).T
        if finite.all() and not problem.estimates_scale:
            objective = replace(objective, known=state.point)
        if state.iter_num > _FEW_STEPS:
            pilot.found = None


def _of_trials(problem: Problem, folds: Folds):
    """Return what log-densities of successes have beside those of shares, and the rows tested, (neurons, folds)."""
    base = problem.base_of_trials()
    if base is None:
        return None
    tested = np.stack([folds.tests(k) for k in range(folds.count)], axis=1).astype(float)
    base = base - problem.rows.trials * problem.base_of_shares()
    weight = np.broadcast_to(problem.rows.weight, base.shape)
    return (weight * base).T @ tested, weight.T @ tested


def _spread(prior: LanePrior, which) -> LanePrior:
    """Return the prior of lanes, given that of neurons."""
    shared = len(which) if prior.couples else 0  # a precision that all share is not repeated
    return jax.tree.map(lambda a: a if len(a) < 2 <= shared else a[which], prior)


def _units(problem: Problem, lanes: Lanes) -> np.ndarray:
    """Return n times kappa of each lane, (lanes, 1, 1)."""
    of_all = problem.units().reshape(problem.n_neurons, -1)[:, 0] / problem.rows.n
    return (of_all[lanes.which] * lanes.n)[:, None, None]


def _solved(problem: Problem, solver, objective: Objective, theta, null, pilot):
    """Return the objective at its dispersions, how the solver ended, and these, (lanes,)."""

    def run(objective, again=None):
        state = solvers.run(solver, objective, theta if again is None else again, pilot)
        if not state.progress.converged.all() and solver.stepsize is None:
            state = _solve.second_chance(solver, objective, null, state)
        return solvers.refined(solver, objective, state)

    if problem.estimates_scale:
        objective, state, scale = _dispersion.fit(solver, objective, null, run)
        return objective, state, scale[:, 0]
    return objective, run(objective), None


def _scales(problem: Problem, folds: Folds, lanes: Lanes, state, within) -> np.ndarray:
    """Return the dispersion of each lane, as a fit to its rows alone has it."""
    model, point = problem.observation_model, state.point
    native = observation_models.is_native(model)
    if within is not None:
        return within
    found = np.empty(len(lanes.which))
    for k in np.unique(lanes.left_out):
        mine = np.flatnonzero(lanes.left_out == k)
        some = lanes.which[mine]
        part = problem if native else folds.training(problem, k)
        part, n = part.select(some), lanes.n[mine]
        coef, intercept = part.params(point.theta[mine])
        dof = _results.residual_dof(part, coef, n)
        scale = _results.scale(part, point.residual[mine], part.dispersion, dof, coef, intercept, n)
        found[mine] = np.broadcast_to(scale, len(some))
    return found
