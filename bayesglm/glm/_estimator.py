"""What all estimators are: arguments, parameters, and fitting, at once or step by step."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from bayesglm import labels, solvers
from bayesglm._layout import as_shown, shown
from bayesglm._messages import tell
from bayesglm.glm import _attach, _fitting, _grid_search, _save, _settings, _traced
from bayesglm.glm._edge import known, problem_of, rows_of
from bayesglm.glm._problem import Problem
from bayesglm.glm._rows import new_classes
from bayesglm.glm._settings import Settings
from bayesglm.glm._values import Fit, Posterior, numbers


def argument(name: str) -> property:
    """Return a constructor argument as an attribute that is resolved and checked when it is set."""

    def set_(self, value):
        self._take(*self._settings.having(name, value), {name})

    get = lambda self: getattr(self._settings, name)  # noqa: E731
    return property(get, set_, doc=_settings.DESCRIPTIONS[name])


def learned(name: str, doc: str) -> property:
    """Return something of the strengths that `fit` has learned as an attribute."""
    return property(lambda self: self._held.of_learned(name), doc=doc)


class Estimator(BaseEstimator):
    """An estimator holds settings, and what came out of data: a fit and a posterior, which are values.

    What follows from a fit uses the settings of that fit: to set an argument changes the next one.
    """

    _settings: Settings
    _fit: Fit | None = None
    _posterior: Posterior | None = None

    observation_model = argument("observation_model")
    inverse_link_function = argument("inverse_link_function")
    regularizer = argument("regularizer")
    regularizer_strength = argument("regularizer_strength")
    solver_name = argument("solver_name")
    solver_kwargs = argument("solver_kwargs")

    def _configure(self, **arguments) -> None:
        self._settings = Settings.of(type(self).__name__, **arguments)

    @property
    def solver_spec(self) -> solvers.SolverSpec:
        """Name, backend and class of the solver."""
        return solvers.get_solver(self.solver_name)

    def _take(self, settings: Settings, told, changed) -> None:
        """Hold other settings, of which some were changed."""
        if "feature_mask" in changed and self.__sklearn_is_fitted__():
            raise AttributeError(
                f"`feature_mask` of {type(self).__name__} cannot be set after fitting. Use a new estimator, "
                "or `sklearn.base.clone` this one."
            )
        tell(told)
        self._settings = settings
        if "n_classes" in changed and self._fit is not None:
            self._hold(self._fit.with_classes(settings.n_classes, None))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor arguments.

        Parameters
        ----------
        deep
            Also those of observation model and regularizer, as ``regularizer__mask``, and strengths of leaves, as
            ``regularizer_strength__history``.
        """
        params = super().get_params(deep=False)
        if deep:
            for name in ("observation_model", "regularizer"):
                inner = getattr(params.get(name), "get_params", None)
                params.update({f"{name}__{k}": v for k, v in (inner() if inner else {}).items()})
            if hasattr(self.regularizer, "strength_params"):
                each = self.regularizer.strength_params(self.regularizer_strength or {})
                params.update({f"regularizer_strength__{k}": v for k, v in each.items()})
        return dict(sorted(params.items()))

    def set_params(self, **params):
        """Set constructor arguments.

        The regularizer goes first: without a strength beside it, the strength returns to its default.

        Raises
        ------
        ValueError
            If a name is unknown. Nothing is changed when an argument is refused.
        """
        _settings.check_names(params, self.get_params(), type(self).__name__)
        ours = {k: v for k, v in params.items() if k.split("__")[0] in _settings.NAMES}
        self._take(*self._settings.changed(**ours), ours)
        for name in params.keys() - ours.keys():  # of a subclass
            setattr(self, name, params[name])
        return self

    def __sklearn_clone__(self):
        clone = type(self)(**self._arguments(self._settings))
        clone._settings = replace(clone._settings, proba_output=self._settings.proba_output)
        if hasattr(self, "_metadata_request"):
            clone._metadata_request = copy.deepcopy(self._metadata_request)
        return clone

    @classmethod
    def _argument_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def _arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the constructor arguments of an estimator with these settings; those of a subclass are its own."""
        return {
            name: settings.argument(name) if name in _settings.NAMES else getattr(self, name)
            for name in self._argument_names()
        }

    def __repr__(self, **kwargs):
        lines = (_settings.shown(name, getattr(self, name)) for name in self._argument_names())
        return f"{type(self).__name__}(\n" + ",\n".join(filter(None, lines)) + "\n)"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        _settings.describe(tags, self._settings)
        return tags

    # -- parameters --------------------------------------------------------------------------------

    @property
    def coef_(self):
        """Coefficients in the structure of X, each (features, *outputs); None before `fit`."""
        return None if self._held.coef is None else jax.tree.map(shown, self._held.coef_tree)

    @coef_.setter
    def coef_(self, value):
        self._fit, self._posterior = self._held.with_coef(value), None

    @property
    def intercept_(self):
        """Intercepts: (1,), (neurons,), (classes,) or (neurons, classes); None before `fit`."""
        return shown(self._held.intercept)

    @intercept_.setter
    def intercept_(self, value):
        self._fit, self._posterior = self._held.with_intercept(value), None

    @property
    def scale_(self):
        """Dispersion of the response; None before `fit`."""
        return shown(self._held.scale)

    @scale_.setter
    def scale_(self, value):
        self._fit, self._posterior = replace(self._held, scale=numbers(value, "scale_")), None

    @property
    def gate_(self):
        """Share of zeros that the features do not explain, of a family that has one; None before `fit`."""
        return shown(self._held.gate(self._settings))

    @property
    def dof_resid_(self):
        """Residual degrees of freedom; None before `fit`."""
        return shown(self._held.dof)

    @dof_resid_.setter
    def dof_resid_(self, value):
        self._hold(replace(self._held, dof=numbers(value, "dof_resid_")))

    @property
    def solver_state_(self):
        """How the fit ended; None before `fit`."""
        return self._held.state

    strength_ = learned(
        "strength", "Strengths that `fit` has learned, or None; a dict by leaf of X."
    )
    prior_sd_ = learned("sd", "Standard deviations of the prior that these stand for.")

    @property
    def aux_(self) -> None:
        """What solvers of the documented system return beside their state: always None."""
        return None

    @property
    def posterior_(self):
        """Draws of :meth:`sample_posterior` as an `xarray.DataTree` in the ArviZ schema; None without.

        Draws that were written to a file can be set, as a tree or by the name of the file, beside the fit that they
        belong to; those of another model, and those that are not what their checksum says, are refused with a
        ValueError.
        """
        return None if self._posterior is None else self._posterior.tree

    @posterior_.setter
    def posterior_(self, value):
        if value is None:
            self._posterior = None
            return
        fit = self._fitted()
        self._fit, self._posterior = fit, Posterior(fit, _attach.checked(fit, value))

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns of X (features,), where `fit` saw a data frame; as in scikit-learn."""
        names = self._held.layout.names.features
        if names is None or len(names) != 1 or names[0] is None:
            raise AttributeError(
                f"{type(self).__name__} has no `feature_names_in_`: it was not fitted to a data frame."
            )
        return np.array(names[0], dtype=object)

    @property
    def n_features_in_(self) -> int:
        """Number of features, over all leaves of X."""
        if self._held.coef is None:
            raise AttributeError(f"{type(self).__name__} has no `n_features_in_` before `fit`.")
        return len(self._held.coef)

    def __sklearn_is_fitted__(self) -> bool:
        return self._held.complete

    @property
    def _held(self) -> Fit:
        """The fit, or what is known without one: nothing."""
        return Fit(self._settings.layout()) if self._fit is None else self._fit

    def _hold(self, fit: Fit) -> None:
        """Take over a fit that differs in nothing that draws depend on."""
        self._fit = fit
        if self._posterior is not None:
            self._posterior = replace(self._posterior, fit=fit)

    def _keep(self, fit: Fit, posterior: Posterior | None = None) -> None:
        """Take over a fit, and draws beside it."""
        self._fit, self._posterior = fit, posterior

    def _fitted(self, method: str | None = None) -> Fit:
        """Return the fit with the settings that it goes with.

        Parameters
        ----------
        method
            Name of a method that needs the classes.
        """
        if not self._held.complete:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call `fit`, or set `coef_` and `intercept_`."
            )
        if method is not None:
            self._require_classes(method)
        settings = self._held.settings
        return replace(self._held, settings=self._settings) if settings is None else self._held

    def _require_classes(self, method: str) -> np.ndarray | None:
        """Return the known classes of a classifier."""
        known = self._held.layout.classes
        return labels.require(known, method) if self._settings.classifier else None

    # -- fitting -----------------------------------------------------------------------------------

    def _problem(self, X, y, sample_weight, offset) -> Problem:
        """Return the problem of training rows, with the classes that these have."""
        rows = X, y, new_classes(self._settings, y), sample_weight, offset
        return problem_of(self._settings, *rows)

    def fit(self, X, y, init_params=None, *, sample_weight=None, offset=None):
        """Fit coefficients and intercepts: the mode of the posterior.

        Parameters
        ----------
        X : array (samples, features), or a pytree of these
            Rows with a NaN or Inf are left out. A matrix in a file (a NumPy memory map, an HDF5 or zarr array) is
            read piece by piece, and may be larger than memory.
        y : array (samples,) or (samples, neurons)
            Responses or class labels; of Binomial (samples, 2) or (samples, neurons, 2), numbers of successes and of
            failures. A missing (NaN) response is left out for its neuron.
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
            problem = self._problem(X, y, sample_weight, offset)
            given = None if init_params is None else problem.layout.accept(init_params)
            fit = _fitting.fit(problem, self._settings, given)
        tell(fit.messages)
        self._keep(fit)
        return self

    def __strength_search__(self, X, y, strengths, splits, *rest) -> _grid_search.Found:
        """Fit to all folds at all strengths: see :class:`bayesglm.model_selection.StrengthSearchCV`."""
        with solvers.numerics():
            problem = self._problem(X, y, *rest)
            return _grid_search.search(problem, self._settings, strengths, splits)

    def log_evidence(self, X, y, *, sample_weight=None, offset=None):
        """Return the log of the evidence, one number or (neurons,): the density of y given strengths and dispersion.

        Coefficients and intercepts are integrated out by Laplace's method, over a flat prior where they have no other.

        Parameters
        ----------
        X, y, sample_weight, offset
            The training data, as in :meth:`fit`.
        """
        fit = self._fitted()
        return _fitting.log_evidence(rows_of(fit, X, y, sample_weight, offset), fit)

    @property
    def solver(self) -> Any:
        """The solver in use, or None before `fit` or `initialize_optimizer_and_state`."""
        return self._held.solver

    @property
    def optimizer_init_state(self) -> Callable | None:
        """Function ``(params, X, y) -> state``, or None without a solver."""
        return None if self.solver is None else self.initialize_optimizer_and_state

    @property
    def optimizer_update(self) -> Callable | None:
        """Function ``(params, state, X, y) -> (params, state, aux)``, or None without a solver."""
        return None if self.solver is None else self._optimizer_update

    @property
    def optimizer_run(self) -> Callable | None:
        """Function ``(params, X, y) -> (params, state, aux)``, or None without a solver."""
        return None if self.solver is None else self._optimizer_run

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
        classes = self._require_classes("initialize_params")
        with solvers.numerics():
            problem = problem_of(self._settings, X, y, classes)
            params = _fitting.first_params(problem)
        return as_shown(problem.layout, params)

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
        """
        classes = self._held.layout.classes
        if self._settings.classifier and classes is None:
            classes = new_classes(self._settings, y)
        with solvers.numerics():
            problem, params = self._at(init_params, X, y, classes)
            solver, state = _fitting.first_state(problem, self._settings, params)
        known = replace(self._held.layout, classes=classes)
        self._hold(replace(self._held, layout=known, solver=solver))
        return state

    def update(self, params, opt_state, X, y, *args, n_samples=None, **kwargs):
        """Take one step of the solver on these rows, keep the parameters, and return (params, state).

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

        Raises
        ------
        ValueError
            If :meth:`initialize_optimizer_and_state` has not been called, or the step ends in NaN.
        TypeError
            If `n_samples` is not an integer.
        """
        classes, solver = self._require_classes("update"), self.solver
        _fitting.check_step(solver, opt_state, n_samples, (args, kwargs))
        with solvers.numerics():
            problem, params = self._at(params, X, y, classes)
            now = problem, self._settings, solver
            found = _fitting.step(*now, params, opt_state, *args, **kwargs)
            fit = _fitting.after_step(*now, *found, n_samples)
        self._keep(fit)
        return as_shown(problem.layout, found[0]), fit.state

    def _at(self, params, X, y, classes) -> tuple[Problem, tuple]:
        """Return the problem of some rows, at the dispersion of the fit, and parameters of the user."""
        problem = known(problem_of(self._settings, X, y, classes), self._held)
        problem = _fitting.with_scale(problem, self._settings, self._held.scale)
        return problem, problem.layout.accept(params)

    def _optimizer_update(self, params, state, X, y):
        classes = self._require_classes("optimizer_update")
        with solvers.numerics():
            problem, params = self._at(params, X, y, classes)
            params, state, _ = _fitting.step(problem, self._settings, self.solver, params, state)
        return as_shown(problem.layout, params), state, None

    def _optimizer_run(self, params, X, y):
        classes = self._require_classes("optimizer_run")
        with solvers.numerics():
            problem, params = self._at(params, X, y, classes)
            params, state, aux = _fitting.run(problem, self._settings, self.solver, params)
        return as_shown(problem.layout, params), state, aux

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
        classes = self._require_classes("compute_loss")
        _fitting.check_further(args, kwargs)
        if _traced.is_traced(params, X, y):
            scale = _fitting.loss_scale(self._settings, self._held.scale)
            return _traced.loss(self._settings, classes, scale, params, X, y)
        with solvers.numerics():
            loss = _fitting.loss(*self._at(params, X, y, classes))
        return shown(loss)

    def save_params(self, filename) -> None:
        """Save constructor arguments and fitted parameters for :func:`bayesglm.load_model`.

        Parameters
        ----------
        filename : str or Path
            Of an .npz file; ``.npz`` is appended where it is missing.
        """
        settings = self._held.settings or self._settings
        _save.save(self._arguments(settings), settings, self._fit, filename)

    @classmethod
    def _restored(cls, saved: _save.Saved):
        estimator = _save.make(saved)
        estimator._settings, estimator._fit = _save.values(saved, estimator._settings)
        return estimator
