"""Fitting: from data to coefficients, at once or step by step."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _design, links, observation_models, solvers
from bayesglm._input import Names, to_labels
from bayesglm.glm import _results, _solve, _traced
from bayesglm.glm._parameters import Parameters
from bayesglm.glm._problem import Problem, Rows, check_rows
from bayesglm.labels import LabelEncoder

_log = logging.getLogger(__name__)


class Fitting(Parameters):
    """An estimator that can be fitted: written once, for one or many neurons, responses or classes."""

    @property
    def solver(self) -> solvers.Solver | None:
        """The solver in use, or None before `fit` or `initialize_optimizer_and_state`."""
        return self._solver

    @property
    def optimizer_init_state(self) -> Callable | None:
        """Function ``(params, X, y) -> state``, or None without a solver."""
        return None if self._solver is None else self._optimizer_init_state

    @property
    def optimizer_update(self) -> Callable | None:
        """Function ``(params, state, X, y) -> (params, state, aux)``, or None without a solver."""
        return None if self._solver is None else self._optimizer_update

    @property
    def optimizer_run(self) -> Callable | None:
        """Function ``(params, X, y) -> (params, state, aux)``, or None without a solver."""
        return None if self._solver is None else self._optimizer_run

    def _rows(self, X, y, encoder, sample_weight=None, offset=None, stored=False) -> Rows:
        return check_rows(
            X, y, population=self._population, encoder=encoder, observation_model=self.observation_model,
            sample_weight=sample_weight, offset=offset, stored=stored,
        )  # fmt: skip

    def _checked(self, X, y, sample_weight, offset) -> tuple[Rows, Problem]:
        """Return rows and problem of new training data, with the classes that these have."""
        previous, self._encoder = self._encoder, self._new_encoder(y)
        try:
            rows = self._rows(X, y, self._encoder, sample_weight, offset)
            return rows, self._problem(rows)
        finally:
            self._encoder = previous

    def _problem(self, rows: Rows) -> Problem:
        """Join checked rows with the configuration.

        Raises
        ------
        TypeError, ValueError
            If strengths or masks do not fit the features.
        """
        design, outputs = rows.design, self._outputs(rows.y.shape[1])
        shape = (design.structure, design.widths, outputs)
        mask = _design.coefficient_mask(self._feature_mask, *shape)

        def broadcast(strength):
            return _design.per_coefficient(strength, *shape, "regularizer_strength")

        prior = self.regularizer.prior(self.regularizer_strength, mask, broadcast, design.slices)
        n_classes = self._encoder.n_classes if self._classifier else None
        return Problem(
            rows,
            self.observation_model,
            self.inverse_link_function,
            n_classes,
            outputs,
            prior,
        )

    def _given_scale(self, problem: Problem) -> Problem:
        """Return the problem at the fitted dispersion, where that is part of the loss and estimated.

        Raises
        ------
        ValueError
            Before `fit`, which alone estimates it.
        """
        if not problem.estimates_scale:
            return problem
        return replace(problem, scale=np.broadcast_to(self._loss_scale(), (problem.n_neurons,)))

    def _loss_scale(self):
        """Return the dispersion that enters the loss: one for all, or one for each neuron."""
        if not getattr(self.observation_model, "estimates_scale", False):
            return float(getattr(self.observation_model, "scale", None) or 1.0)
        if self._scale is None:
            raise ValueError(
                "The dispersion is part of the loss, and `scale='estimate'` is known after `fit` only: call that "
                "first, or give the observation model a number."
            )
        return self._scale

    def _make_solver(self, problem: Problem) -> solvers.Solver:
        kwargs = dict(self.solver_kwargs)
        kind = self.solver_spec.implementation
        if kind.stochastic and self._has_theory():
            rows = problem.rows
            strength = self.regularizer_strength
            convexity = problem.prior.convexity() if isinstance(strength, float) else None
            kwargs["batch_size"], kwargs["stepsize"] = solvers.batch_size_and_stepsize(
                rows.design.matrix[:],
                rows.y,
                convexity,
                kwargs.get("batch_size"),
                kwargs.get("stepsize"),
            )
        return solvers.make_solver(self.solver_name, kwargs)

    def _has_theory(self) -> bool:
        return isinstance(
            self.observation_model, observation_models.PoissonObservations
        ) and self.inverse_link_function in (links.softplus, jax.nn.softplus)

    def _warn_default_strength(self) -> None:
        if (
            self._default_strength
            and self._named_regularizer
            and self._regularizer_strength is not None
        ):
            warnings.warn(
                f"No `regularizer_strength` was given for {type(self.regularizer).__name__}; "
                f"using {self._regularizer_strength}. Pass it to silence this warning.",
                UserWarning,
                stacklevel=3,
            )

    def fit(self, X, y, init_params=None, *, sample_weight=None, offset=None):
        """Fit coefficients and intercepts: the mode of the posterior.

        Parameters
        ----------
        X : array (samples, features), or a pytree of these
            Rows with a NaN or Inf are left out. A matrix in a file (a NumPy memory map, an HDF5 or zarr array) is
            read piece by piece, and may be larger than memory.
        y : array (samples,) or (samples, neurons)
            Responses or class labels. A missing (NaN) response is left out for its neuron.
        init_params : tuple (coef, intercept), optional
            Where to start; by default zero coefficients and the intercepts that match the mean response.
        sample_weight : array (samples,) or (samples, neurons), optional
            A weight of 2 counts a row twice.
        offset : array (samples,) or (samples, neurons), optional
            Added to the linear predictor (log exposure, say).

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If input is not numeric, or its structure does not fit.
        ValueError
            If shapes disagree, a response is outside the support of the family, or no neuron can be fitted.

        Warns
        -----
        RuntimeWarning
            Naming the neurons that could not be fitted (their coefficients are NaN), did not converge, or whose
            optimum is at infinity.
        """
        with solvers.numerics():
            encoder = self._new_encoder(y)
            previous, self._encoder = self._encoder, encoder
            try:
                fitted = self._fit(X, y, init_params, sample_weight, offset)
            except BaseException:
                self._encoder = previous
                raise
        self._keep(fitted)
        return self

    def _new_encoder(self, y) -> LabelEncoder | None:
        if not self._classifier:
            return None
        encoder = LabelEncoder(self._encoder.n_classes)
        encoder.set_classes(to_labels(y))
        return encoder

    def _fit(self, X, y, init_params, sample_weight, offset, bar=True) -> dict[str, Any]:
        begin = time.perf_counter()
        rows = self._rows(X, y, self._encoder, sample_weight, offset, stored=True)
        problem = self._problem(rows)
        _results.check_weights(problem)
        names = self._names_of(rows.design, y)
        _log_left_out(rows, names)
        initial, given = problem.initial(), None
        if init_params is not None:
            given = self._check_params(init_params, rows.design, problem.n_neurons)
        self._warn_default_strength()
        usable = _solve.usable_neurons(problem, initial[1], given and given[1])
        solver = self._make_solver(problem.select(np.flatnonzero(usable)))
        start = (problem.by_neuron(*initial), given and problem.by_neuron(*given))
        outcome = _solve.solve(problem, usable, *start, solver, bar)
        _solve.warn(
            outcome, names.of_neurons(problem.n_neurons if self._population else None), solver
        )
        coef, intercept = problem.params(outcome.theta)
        design = rows.design
        dof = _results.residual_dof(problem, coef)
        _log.info(
            "fitted %d neurons in %d steps of %s and %.3g s: %d converged", problem.n_neurons,
            outcome.iter_num, self.solver_name, time.perf_counter() - begin, outcome.converged.sum(),
        )  # fmt: skip
        return {
            "_coef": (design.structure, design.widths, coef),
            "_intercept": np.atleast_1d(intercept),
            "_dof_resid": dof,
            "_n_train": rows.n,
            "_scale": _results.scale(
                problem, outcome.residual, outcome.scale, dof, coef, intercept
            ),
            "_solver": solver,
            "solver_state_": outcome.state,
            "_metadata": _results.neuron_labels(y),
            "_names": names,
        }

    def initialize_params(self, X, y):
        """Return the parameters at which `fit` starts.

        Returns
        -------
        : tuple (coef, intercept)
            Zero coefficients and the intercepts that match the mean response.

        Raises
        ------
        RuntimeError
            If a classifier does not know its classes yet.
        ValueError
            If no finite intercept gives the mean of a neuron.
        """
        self._require_classes("initialize_params")
        with solvers.numerics():
            problem = self._problem(self._rows(X, y, self._encoder))
            coef, intercept = problem.initial()
            if not np.isfinite(intercept).all():
                raise ValueError(
                    "Failed to initialise the intercept: no finite value gives the mean response of "
                    f"{'neurons ' if self._population else ''}{_results.bad_neurons(intercept)}. "
                    "Leave these neurons out or provide initial parameters."
                )
        return self._user_params(problem.rows.design, coef, intercept)

    def initialize_optimizer_and_state(self, init_params, X, y):
        """Set up the solver for `update`.

        Parameters
        ----------
        init_params : tuple (coef, intercept)
            As :meth:`initialize_params` returns it.
        X, y
            The first rows, or all of them.

        Returns
        -------
        state
            To be passed to :meth:`update`.
        """
        encoder = self._encoder
        if self._classifier and encoder.classes_ is None:
            encoder = self._new_encoder(y)
        with solvers.numerics():
            problem = self._given_scale(self._problem(self._rows(X, y, encoder)))
            params = self._check_params(init_params, problem.rows.design, problem.n_neurons)
            solver = self._make_solver(problem)
            state = solver.init(problem.objective(whole=True), problem.theta(*params))
            state = _results.keep(state)
        self._solver, self._encoder = solver, encoder
        return state

    def update(self, params, opt_state, X, y, *args, n_samples=None, **kwargs):
        """Take one step of the solver on these rows, and keep the parameters.

        Parameters
        ----------
        params : tuple (coef, intercept)
            Current parameters.
        opt_state
            State of the solver, from :meth:`initialize_optimizer_and_state` or the last update.
        X, y
            Rows of this step (a mini-batch, say). Rows with a NaN are left out.
        n_samples : int, optional
            Number of rows that the residual degrees of freedom refer to, if not those of this step.

        Returns
        -------
        : tuple (params, state)

        Raises
        ------
        ValueError
            If :meth:`initialize_optimizer_and_state` has not been called, or the step ends in NaN.
        TypeError
            If `n_samples` is not an integer.
        """
        if n_samples is not None and not isinstance(n_samples, (int, np.integer)):
            raise TypeError(
                f"`n_samples` must be an int or None, but {type(n_samples).__name__} was given."
            )
        if self._solver is None:
            raise ValueError(
                "No solver yet: call `initialize_optimizer_and_state` before `update`."
            )
        if not isinstance(opt_state, solvers.State):
            raise TypeError(
                "`opt_state` must come from `initialize_optimizer_and_state` or the last `update`, "
                f"but {type(opt_state).__name__} was given."
            )
        self._require_classes("update")
        with solvers.numerics():
            new, state, problem, outcome = self._one_step(params, opt_state, X, y)
            if not all(np.isfinite(p).all() for p in new):
                raise ValueError(
                    "The update ended in NaN parameters. Use a smaller `stepsize` in `solver_kwargs`."
                )
            dof = _results.residual_dof(problem, new[0], n_samples)
            scale = _results.scale(problem, outcome, problem.dispersion, dof, *new)
        design = problem.rows.design
        self._coef = (design.structure, design.widths, new[0])
        self._intercept = np.atleast_1d(new[1])
        self._dof_resid, self._scale, self.solver_state_ = dof, scale, state
        self._posterior, self._fitted_with, self._edited = None, self._settings_now(), False
        self._names = self._names_of(design, y)
        self._n_train = None  # these may be rows of many
        return self._user_params(design, *new), state

    def _one_step(self, params, state, X, y):
        problem = self._given_scale(self._problem(self._rows(X, y, self._encoder)))
        coef, intercept = self._check_params(params, problem.rows.design, problem.n_neurons)
        theta = problem.theta(coef, intercept)
        kept = np.asarray(state.point.theta)
        # Parameters are shown in JAX's default dtype; where they are those of the state, its precision is kept.
        if kept.shape == theta.shape and np.array_equal(
            theta.astype(np.float32), kept.astype(np.float32)
        ):
            theta = kept
        point = state.point._replace(theta=theta)
        state = self._solver.resume(problem.objective(whole=True), state._replace(point=point))
        residual = np.asarray(state.point.residual)
        return problem.params(state.point.theta), _results.keep(state), problem, residual

    def _optimizer_init_state(self, params, X, y):
        return self.initialize_optimizer_and_state(params, X, y)

    def _optimizer_update(self, params, state, X, y):
        self._require_classes("optimizer_update")
        with solvers.numerics():
            new, state, problem, _ = self._one_step(params, state, X, y)
        return self._user_params(problem.rows.design, *new), state, None

    def _optimizer_run(self, params, X, y):
        self._require_classes("optimizer_run")
        with solvers.numerics():
            problem = self._given_scale(self._problem(self._rows(X, y, self._encoder)))
            params = self._check_params(params, problem.rows.design, problem.n_neurons)
            objective = problem.objective(whole=self._solver.stochastic)
            state = solvers.run(self._solver, objective, problem.theta(*params))
            new = problem.params(state.point.theta)
        return self._user_params(problem.rows.design, *new), _results.keep(state), None

    def compute_loss(self, params, X, y, *args, **kwargs):
        """Return the loss without penalty: the mean over samples, summed over neurons.

        Parameters
        ----------
        params : tuple (coef, intercept)
        X, y
            Rows; those with a NaN are left out.

        Returns
        -------
        : scalar
            Negative log-likelihood up to terms without the parameters (Gaussian: mean squared error). JAX can
            differentiate it in `params`, X and y.
        """
        self._require_classes("compute_loss")
        if _traced.is_traced(params, X, y):
            return _traced.loss(self, params, X, y)
        with solvers.numerics():
            problem = self._given_scale(self._problem(self._rows(X, y, self._encoder)))
            params = self._check_params(params, problem.rows.design, problem.n_neurons)
            objective = problem.objective()
            point = objective.evaluate(problem.theta(*params) * _results.lane_mask(problem))
            loss = point.loss.sum()
        return jnp.asarray(loss)


def _log_left_out(rows: Rows, names: Names) -> None:
    text = rows.left_out(names.neurons)
    if text:
        _log.info(text)
