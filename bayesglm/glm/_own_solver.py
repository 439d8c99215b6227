"""Fits by a solver of the user's own: what it is given, and how far from the optimum it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _memory, solvers
from bayesglm._likelihood import sample_loss
from bayesglm.glm import _solve
from bayesglm.glm._problem import Problem
from bayesglm.glm._settings import Settings
from bayesglm.rows import predictor

#: Standard errors from the optimum up to which a solver of the user's own counts as converged.
CLOSE = 0.1


@dataclass(frozen=True, eq=False)
class Loss:
    """Mean loss over rows, summed over neurons, of parameters in the structure of X."""

    problem: Problem

    def __call__(self, params, X, y, weight=None, offset=None):
        """Return the loss; `weight` (samples, 1) or (samples, neurons), `offset` in the shape of the predictor."""
        problem = self.problem
        coef = jnp.concatenate([jnp.asarray(leaf) for leaf in jax.tree.leaves(params[0])])
        matrix = jnp.concatenate([jnp.asarray(leaf) for leaf in jax.tree.leaves(X)], axis=1)
        # the axes of many neurons, whatever the user's are
        coef = jnp.where(problem.mask, coef, 0.0).reshape(len(coef), *_many(problem))
        intercept = jnp.reshape(params[1], _many(problem))
        eta, trials = predictor(matrix, coef, intercept, offset), None
        if problem.rows.trials is not None:  # successes and failures
            y, trials = y[..., 0], jnp.reshape(jnp.sum(y, axis=-1), (len(matrix), -1))
        y = jnp.reshape(y, (len(matrix), -1))
        if weight is not None:  # a predictor at which no family has a loss that is not finite
            used = jnp.broadcast_to(weight > 0, y.shape)
            eta = jnp.where(used.reshape(used.shape + (1,) * (eta.ndim - 2)), eta, 1.0)
        scale = 1.0  # of classes, which have none
        if problem.n_classes is None:
            scale = jnp.asarray(problem.dispersion, eta.dtype) if trials is None else 1.0 / trials
        each = sample_loss(problem.observation_model, y, eta, problem.inverse_link, scale)
        if weight is None:
            return jnp.sum(jnp.mean(each, axis=0))
        total = jnp.sum(jnp.broadcast_to(weight, y.shape), axis=0)
        return jnp.sum(jnp.sum(weight * each, axis=0) / jnp.where(total > 0, total, 1.0))


def _many(problem: Problem) -> tuple[int, ...]:
    """Shape of the outputs with an axis for neurons."""
    return (problem.n_neurons, *(() if problem.n_classes is None else (problem.n_classes,)))


@dataclass(frozen=True)
class Task:
    """A problem as a solver of the user's own meets it.

    Parameters
    ----------
    usable : bool array (neurons,), or True
        Neurons that can be fitted; the others have no weight.
    """

    settings: Settings
    problem: Problem
    usable: Any = True

    def params(self, coef, intercept):
        """Return parameters (features, *outputs), (*outputs) as a tuple in the structure of X."""
        layout, dtype = self.problem.layout, self.problem.rows.design.matrix.dtype
        coef = np.where(self.problem.mask, coef, 0.0).astype(dtype)
        usable = np.reshape(self.usable, (-1,) + (1,) * (len(_many(self.problem)) - 1))
        intercept = np.where(usable, np.reshape(intercept, _many(self.problem)), 1.0)
        coef = jax.tree.map(jnp.asarray, layout.tree(coef))
        return coef, jnp.asarray(intercept.reshape(layout.outputs or (1,)), dtype)

    def arrays(self, params):
        """Return parameters in the structure of X as arrays (features, *outputs), (*outputs)."""
        coef, intercept = self.problem.layout.accept(params)
        return coef * self.problem.mask, intercept

    def data(self):
        """Return what follows the parameters: X and y, and weights and offsets where there are any.

        X is in memory, since JAX traces the loss.
        """
        rows = self.problem.rows
        weight = rows.weight * self.usable
        kept = weight.any(axis=1)
        design = rows.design
        X = _memory.loaded(design.matrix, "A solver of your own")
        X = X if kept.all() else X[kept]
        X = jax.tree.unflatten(
            design.structure, [jnp.asarray(X[:, leaf]) for leaf in design.slices]
        )
        y = rows.y if rows.trials is None else np.stack([rows.y, rows.trials - rows.y], axis=-1)
        y = self.problem.layout.squeeze(y[kept])
        weight = weight[kept]
        if rows.offset is None and (weight == 1).all():
            return X, jnp.asarray(y)
        weight = jnp.asarray(weight, design.matrix.dtype)
        if rows.offset is None:
            return X, jnp.asarray(y), weight
        return X, jnp.asarray(y), weight, jnp.asarray(rows.offset[kept])

    def solver(self, params):
        """Return the solver for parameters like these."""
        settings = self.settings
        if self.problem.estimates_scale:
            raise ValueError(
                "A dispersion that is part of the loss is estimated by the solvers of this package only. Give the "
                "observation model a number, or leave `solver_name` out."
            )
        if self.problem.prior.absolute:
            raise ValueError(
                "A prior of unit 'absolute' is weighed against the rows by the solvers of this package only. Use a "
                "term of unit 'row', or leave `solver_name` out."
            )
        kind = solvers.get_solver(settings.solver_name).implementation
        regularizer = settings.regularizer.within(self.problem.mask)
        strength, how = settings.regularizer_strength, settings.solver_kwargs
        return kind(Loss(self.problem), regularizer, strength, False, params, **how)


def begin(task: Task, params):
    """Return the solver, and its state before the first step."""
    start = task.params(*params)
    solver = task.solver(start)
    return solver, solver.init_state(start, *task.data())


def step(task: Task, solver, params, state, *args, **kwargs):
    """Return parameters (features, *outputs), (*outputs) and state after one step."""
    params, state, _ = solver.update(task.params(*params), state, *task.data(), *args, **kwargs)
    return task.arrays(params), state


def run(task: Task, solver, params):
    """Return parameters, state and what the loss returns beside the number, after all steps."""
    params, state, aux = solver.run(task.params(*params), *task.data())
    return task.arrays(params), state, aux


def solve(task: Task, coef, intercept):
    """Let the solver run from these parameters; return it, and what it found, with the distance from the optimum.

    Raises
    ------
    ValueError
        If no neuron ends in finite parameters.
    """
    problem = task.problem
    start = task.params(coef, intercept)
    solver = task.solver(start)
    found, state, _ = run(task, solver, (coef, intercept))
    theta = problem.layout.by_neuron(*found)
    finite = task.usable & np.isfinite(theta).all(axis=(1, 2))
    if not finite.any():
        raise ValueError(
            f"{type(solver).__name__} ended in NaN or infinite parameters: an invalid solution. Try other "
            "`solver_kwargs`, or other initial parameters."
        )
    null = problem.layout.by_neuron(*problem.initial())
    # No step of it is taken: it tells the distance by the curvature at the parameters found.
    outcome = _solve.solve(
        problem, finite, null, theta, solvers.ProxNewton(maxiter=0, stepsize=1.0), bar=False
    )
    outcome.usable, outcome.converged = task.usable, outcome.distance <= CLOSE
    outcome.iter_num, outcome.reached_max_steps = _of_state(solver, state)
    outcome.solver_state = state
    return solver, outcome


def unconverged(solver) -> str:
    """Return what a warning says of neurons that are not at their optimum."""
    return (
        f"more than {CLOSE:g} standard errors from the optimum where {type(solver).__name__} stopped (by the curvature "
        "there). Let it take more steps, see `solver_kwargs`, or leave `solver_name` out."
    )


def _of_state(solver, state) -> tuple[int, bool]:
    """Return the number of steps and whether there was time for no more, as far as the solver says."""
    if hasattr(solver, "get_optim_info"):
        info = solver.get_optim_info(state)
        return int(info.num_steps), bool(info.reached_max_steps)
    return int(getattr(state, "iter_num", 0)), False
