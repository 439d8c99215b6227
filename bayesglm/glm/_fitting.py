"""Fitting: from a problem to a fit, at once or step by step."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import jax
import numpy as np

from bayesglm import _families, links, observation_models, solvers
from bayesglm._layout import shown
from bayesglm._messages import Message
from bayesglm.glm import _learning, _own_solver, _results, _solve
from bayesglm.glm._edge import fitted_problem
from bayesglm.glm._problem import Problem
from bayesglm.glm._settings import Settings
from bayesglm.glm._values import Fit

_log = logging.getLogger(__name__)

# Rounds in which a mode and its dispersion settle, and the relative change of the dispersion at which they have.
_ROUNDS, _SAME, _SAME_PROFILE = 50, 1e-7, 1e-4


@solvers.numerics()
def fit(problem: Problem, settings: Settings, given=None, bar: bool = True) -> Fit:
    """Return the mode of the posterior.

    Parameters
    ----------
    given : tuple of arrays (features, *outputs) and (*outputs), optional
        Where to start; by default zero coefficients and the intercepts that match the mean response.
    bar : bool
        Whether a progress bar may appear.

    Raises
    ------
    ValueError
        If no neuron can be fitted.
    """
    begin, layout = time.perf_counter(), problem.layout
    _results.check_weights(problem)
    text = problem.rows.left_out(layout.names.neurons)
    if text:
        _log.info(text)
    initial = problem.initial()
    usable = _solve.usable_neurons(problem, initial[1], given and given[1])
    learned = None
    if problem.scales is not None:
        learned, problem, given = _learned(problem, usable, given or initial)
        settings_of_solver = _resolved(settings, learned, layout)
    else:
        settings_of_solver = settings
    for count in range(_ROUNDS):
        solver, outcome, text = _solved(problem, settings_of_solver, usable, initial, given, bar)
        coef, intercept = problem.params(outcome.theta)
        dof = _results.residual_dof(problem, coef)
        scale = _results.scale(problem, outcome.residual, outcome.scale, dof, coef, intercept)
        if not (problem.prior.absolute and _families.has_free_scale(problem.observation_model)):
            break
        # the mode moves with the dispersion that an absolute prior is weighed against
        good = np.isfinite(scale) & (scale > 0)
        moved = good & (np.abs(scale / problem.dispersion - 1.0) > _SAME)
        if count and not moved.any():
            break
        problem = replace(problem, scale=np.where(good, scale, problem.dispersion))
        given = tuple(np.where(np.isfinite(a), a, 0.0) for a in (coef, intercept))
    _log.info(
        "fitted %d neurons in %d steps of %s and %.3g s: %d converged", problem.n_neurons,
        outcome.iter_num, settings.solver_name, time.perf_counter() - begin, outcome.converged.sum(),
    )  # fmt: skip
    told = default_strength(settings) + _solve.messages(outcome, layout, text)
    if learned is not None:
        told += _learning.messages(learned, layout)
        dof = (
            layout.each(problem.rows.n - learned.dof)
            if np.ndim(dof) == 0
            else problem.rows.n - learned.dof
        )
        if _families.has_free_scale(problem.observation_model):
            scale = learned.scale
    return Fit(
        layout, settings, coef, np.atleast_1d(intercept), scale, dof, problem.rows.n,
        outcome.state, solver, told, learned,
    )  # fmt: skip


def _learned(problem: Problem, usable, start):
    """Return learned strengths, the problem with them, and parameters at its mode."""
    theta = problem.layout.by_neuron(*start)
    theta = np.where(np.isfinite(theta), theta, 0.0)
    for _ in range(_ROUNDS):
        learned, theta = _learning.learn(problem, usable, theta)
        found = problem.with_factors(learned.factors(problem.outputs))
        if not problem.estimates_scale:
            break
        profile = _learning.profile(found, usable, theta)
        moved = np.abs(profile / problem.dispersion - 1.0) > _SAME_PROFILE
        problem = problem.at_scale(profile)
        if not moved.any():
            break
    return learned, found, problem.params(theta)


def _resolved(settings: Settings, learned, layout) -> Settings:
    """Return settings with strengths that are numbers, for a solver of the user's own."""
    factors = layout.tree(learned.factors(layout.outputs))
    strength = settings.regularizer.resolved(settings.regularizer_strength, factors)
    return replace(settings, regularizer_strength=strength)


@solvers.numerics()
def log_evidence(rows, fit: Fit) -> np.ndarray:
    """Return the log evidence of the training rows at a fit, as the user sees it.

    Raises
    ------
    ValueError
        If the prior has a kink.
    """
    problem = fitted_problem(rows.double(), fit)
    return shown(problem.layout.each(_learning.log_evidence(problem, fit)))


def _solved(problem: Problem, settings: Settings, usable, initial, given, bar: bool):
    """Return the solver, what it found, and what to say of neurons that are not at their optimum."""
    if not solvers.is_ours(_kind(settings)):
        task = _own_solver.Task(settings, problem, usable)
        solver, outcome = _own_solver.solve(task, *(given or initial))
        return solver, outcome, _own_solver.unconverged(solver)
    solver = solver_of(problem.select(np.flatnonzero(usable)), settings)
    by_neuron = problem.layout.by_neuron
    start = by_neuron(*initial), given and by_neuron(*given)
    outcome = _solve.solve(problem, usable, *start, solver, bar)
    return solver, outcome, _solve.unconverged(outcome, solver)


def _kind(settings: Settings) -> type:
    return solvers.get_solver(settings.solver_name).implementation


def default_strength(settings: Settings) -> tuple[Message, ...]:
    """Return what the user is told of a strength that was not chosen; a default regularizer is not worth it."""
    given = None if settings.default_strength else settings.regularizer_strength
    left = settings.regularizer.left_to_default(given)
    if not (left and settings.named_regularizer):
        return ()
    text = f"No `regularizer_strength` was given for {left}. Pass it to silence this warning."
    return (Message(UserWarning, text),)


def solver_of(problem: Problem, settings: Settings) -> solvers.Solver:
    """Return the solver of the settings, with what its theory says of steps and batches."""
    kwargs = dict(settings.solver_kwargs)
    if _kind(settings).stochastic and _has_theory(settings):
        rows, strength = problem.rows, settings.regularizer_strength
        convexity = problem.prior.convexity() if isinstance(strength, float) else None
        kwargs["batch_size"], kwargs["stepsize"] = solvers.batch_size_and_stepsize(
            rows.design.matrix, rows.y, convexity, kwargs.get("batch_size"), kwargs.get("stepsize")
        )  # fmt: skip
    return solvers.make_solver(settings.solver_name, kwargs)


def _has_theory(settings: Settings) -> bool:
    poisson = isinstance(settings.observation_model, observation_models.PoissonObservations)
    return poisson and settings.inverse_link_function in (links.softplus, jax.nn.softplus)


# -- step by step ----------------------------------------------------------------------------------


def first_params(problem: Problem):
    """Return the parameters at which a fit starts.

    Raises
    ------
    ValueError
        If no finite intercept gives the mean of a neuron.
    """
    coef, intercept = problem.initial()
    bad = ~np.isfinite(intercept).reshape(problem.n_neurons, -1).all(axis=1)
    if bad.any():
        raise ValueError(
            "Failed to initialise the intercept: no finite value gives the mean response of "
            f"{'neurons ' if problem.layout.population else ''}{np.flatnonzero(bad).tolist()}. "
            "Leave these neurons out or provide initial parameters."
        )
    return coef, intercept


def loss_scale(settings: Settings, scale):
    """Return the dispersion that enters the loss, one for all or one for each neuron, given that of a fit.

    Raises
    ------
    ValueError
        Before `fit`, which alone estimates it.
    """
    model = settings.observation_model
    if not _families.estimates_scale(model):
        return _families.held_scale(model)
    if scale is None:
        raise ValueError(
            "The dispersion is part of the loss, and `scale='estimate'` is known after `fit` only: call that "
            "first, or give the observation model a number."
        )
    return scale


def first_state(problem: Problem, settings: Settings, params):
    """Return the solver, and its state at parameters."""
    if not solvers.is_ours(_kind(settings)):
        return _own_solver.begin(_own_solver.Task(settings, problem), params)
    solver = solver_of(problem, settings)
    state = solver.init(problem.objective(whole=True), problem.theta(*params))
    return solver, _results.keep(state)


def check_step(solver, state, n_samples, more) -> None:
    """Raise if arguments of a step are none.

    Parameters
    ----------
    more : tuple and dict
        Further arguments, for a solver of the user's own.

    Raises
    ------
    ValueError
        Without a solver.
    TypeError
        If `n_samples` is not an integer, the state is none of a solver, or one of ours is to take further arguments.
    """
    if n_samples is not None and not isinstance(n_samples, (int, np.integer)):
        raise TypeError(
            f"`n_samples` must be an int or None, but {type(n_samples).__name__} was given."
        )
    if solver is None:
        raise ValueError("No solver yet: call `initialize_optimizer_and_state` before `update`.")
    ours = isinstance(solver, solvers.Solver)
    if ours and any(more):
        raise TypeError(
            f"`update` passes further arguments to the solver, but {type(solver).__name__} takes none; {more[0]} and "
            f"{more[1]} were given."
        )
    if ours and not isinstance(state, solvers.State):
        raise TypeError(
            "`opt_state` must come from `initialize_optimizer_and_state` or the last `update`, "
            f"but {type(state).__name__} was given."
        )


def step(problem: Problem, settings: Settings, solver, params, state, *args, **kwargs):
    """Take one step from parameters; return the new ones, the state, and what scales are estimated from."""
    if not isinstance(solver, solvers.Solver):
        task = _own_solver.Task(settings, problem)
        new, state = _own_solver.step(task, solver, params, state, *args, **kwargs)
        return new, state, problem.objective().evaluate(problem.theta(*new)).residual
    theta, kept = problem.theta(*params), np.asarray(state.point.theta)
    # Parameters are shown in JAX's default dtype; where they are those of the state, its precision is kept.
    if kept.shape == theta.shape and np.array_equal(
        theta.astype(np.float32), kept.astype(np.float32)
    ):
        theta = kept
    state = state._replace(point=state.point._replace(theta=theta))
    state = solver.resume(problem.objective(whole=True), state)
    residual = np.asarray(state.point.residual)
    return problem.params(state.point.theta), _results.keep(state), residual


def after_step(problem: Problem, settings: Settings, solver, params, state, residual, n_samples):
    """Return what is known after a step on rows that may be some of many.

    Raises
    ------
    ValueError
        If parameters are NaN.
    """
    if not all(np.isfinite(p).all() for p in params):
        raise ValueError(
            "The update ended in NaN parameters. Use a smaller `stepsize` in `solver_kwargs`."
        )
    dof = _results.residual_dof(problem, params[0], n_samples)
    scale = _results.scale(problem, residual, problem.dispersion, dof, *params)
    coef, intercept = params[0], np.atleast_1d(params[1])
    return Fit(problem.layout, settings, coef, intercept, scale, dof, None, state, solver)


def run(problem: Problem, settings: Settings, solver, params):
    """Run a solver from parameters; return the last ones, the state, and what a loss returns beside its value."""
    if not isinstance(solver, solvers.Solver):
        return _own_solver.run(_own_solver.Task(settings, problem), solver, params)
    objective = problem.objective(whole=solver.stochastic)
    state = solvers.run(solver, objective, problem.theta(*params))
    return problem.params(state.point.theta), _results.keep(state), None


def check_further(args, kwargs) -> None:
    """Raise a TypeError if a loss is given what it does not take."""
    if args or kwargs:
        raise TypeError(
            f"`compute_loss` takes (params, X, y), but {args} and {kwargs} were given as well."
        )


def loss(problem: Problem, params) -> float:
    """Return the loss without penalty: the mean over samples, summed over neurons."""
    theta = problem.theta(*params) * _results.lane_mask(problem)
    return problem.objective().evaluate(theta).loss.sum()


def with_scale(problem: Problem, settings: Settings, scale) -> Problem:
    """Return the problem at the dispersion of a fit, where that is part of the loss and estimated."""
    return problem.at_scale(loss_scale(settings, scale))
