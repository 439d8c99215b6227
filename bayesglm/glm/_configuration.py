"""Constructor arguments of the estimators: resolved when set, so that a wrong one fails at once."""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator

from bayesglm import _design, links, observation_models, regularizer, solvers
from bayesglm._input import Names
from bayesglm.labels import LabelEncoder

# What a fit is made with, under the names by which an estimator holds it.
_SETTINGS = (
    "_observation_model", "_inverse_link_function", "_regularizer", "_named_regularizer",
    "_regularizer_strength", "_default_strength", "_solver_name", "_solver_kwargs", "_feature_mask",
)  # fmt: skip


# Families whose responses cannot be negative.
_POSITIVE = (
    observation_models.PoissonObservations,
    observation_models.GammaObservations,
    observation_models.NegativeBinomialObservations,
)


def of_fit(method):
    """Run a method with the settings of the fit: to change one later changes nothing about an earlier fit."""

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        return method(self._as_fitted(), *args, **kwargs)

    return call


class Configuration(BaseEstimator):
    """Arguments of an estimator, their defaults and the rules between them."""

    #: Whether `y` has one column per neuron.
    _population = False
    #: Whether `y` holds class labels.
    _classifier = False

    _encoder: LabelEncoder | None = None
    _proba_output = "log-proba"

    def _configure(
        self,
        observation_model,
        inverse_link_function,
        regularizer,
        regularizer_strength,
        solver_name,
        solver_kwargs,
        feature_mask=None,
    ) -> None:
        self._coef = self._intercept = None
        self._forget_fit()
        self._solver_name, self._solver_kwargs = None, {}
        self.observation_model = observation_model
        self.inverse_link_function = inverse_link_function
        # A default that the user did not choose is not worth a warning.
        self._named_regularizer = regularizer is not None
        self._regularizer = self._resolve_regularizer(regularizer)
        self.regularizer_strength = regularizer_strength
        self.solver_name = solver_name
        self.solver_kwargs = solver_kwargs
        self._feature_mask = None
        if feature_mask is not None:
            self._set_mask(feature_mask)

    def _forget_fit(self) -> None:
        self._scale = self._dof_resid = self._n_train = None
        self.solver_state_ = None
        self.aux_ = None
        self._solver = None
        self._posterior = None
        # settings of the fit, and whether its parameters were set by hand since
        self._fitted_with, self._edited = None, False
        self._names = Names()

    def __getstate__(self):
        state = dict(super().__getstate__())
        link = "_inverse_link_function"
        state[link] = links.named(state[link])  # JAX's own functions cannot be pickled
        if state["_fitted_with"] is not None:
            fitted = state["_fitted_with"]
            state["_fitted_with"] = fitted | {link: links.named(fitted[link])}
        if not isinstance(
            self._solver, solvers.Solver
        ):  # the user's own may hold compiled functions
            state["_solver"] = None
        return state

    def _settings_now(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in _SETTINGS}

    def _as_fitted(self):
        """Return the estimator with the settings that its fit was made with, whatever was set since."""
        with_ = self._fitted_with
        if with_ is None or all(self.__dict__[name] is value for name, value in with_.items()):
            return self
        fitted = copy.copy(self)
        fitted.__dict__.update(with_)
        return fitted

    @property
    def observation_model(self):
        """The distribution of the response; always an instance."""
        return self._observation_model

    @observation_model.setter
    def observation_model(self, value):
        model = observation_models.resolve(value)
        is_categorical = isinstance(model, observation_models.CategoricalObservations)
        if is_categorical and not self._classifier:
            name = "ClassifierPopulationGLM" if self._population else "ClassifierGLM"
            raise TypeError(
                f"{type(self).__name__} does not take CategoricalObservations; use `bayesglm.glm.{name}`."
            )
        self._observation_model = model

    @property
    def inverse_link_function(self):
        """The map from the linear predictor to the mean; always a function."""
        return self._inverse_link_function

    @inverse_link_function.setter
    def inverse_link_function(self, value):
        if value is None:
            value = self.observation_model.default_inverse_link_function
        self._inverse_link_function = self._check_link(links.resolve(value))

    def _check_link(self, link):
        return link

    @property
    def regularizer(self):
        """The penalty on the coefficients, and the prior it stands for; always an instance."""
        return self._regularizer

    @regularizer.setter
    def regularizer(self, value):
        new = self._resolve_regularizer(value)
        default = self._default_strength or self._regularizer_strength is None
        strength = new.default_strength if default else self._regularizer_strength
        pair = isinstance(strength, tuple) and not isinstance(new, regularizer.ElasticNet)
        if pair and not isinstance(new, regularizer.UnRegularized):
            raise ValueError(
                f"The strength {strength!r} is a pair for ElasticNet; give {type(new).__name__} one of its own: "
                "`set_params(regularizer=..., regularizer_strength=...)`."
            )
        strength = new.check_strength(strength)
        name, kwargs = self._solver_name, self._solver_kwargs
        if not self._solver_serves(new):
            warnings.warn(
                f"The solver {self.solver_name!r} or its arguments are not allowed for "
                f"{type(new).__name__}; falling back to its default, {new.default_solver!r}.",
                UserWarning,
                stacklevel=2,
            )
            name, kwargs = None, {}
        self._named_regularizer = value is not None
        self._regularizer, self._regularizer_strength = new, strength
        self._default_strength = default
        self._solver_name, self._solver_kwargs = name, kwargs

    def _resolve_regularizer(self, value):
        return regularizer.resolve("Ridge" if value is None and self._classifier else value)

    def _solver_serves(self, new) -> bool:
        """Whether the present solver and its arguments go with a regularizer."""
        name = new.default_solver if self._solver_name is None else self._solver_name
        known = solvers.get_accepted_arguments(name)
        allowed = solvers.get_solver(name).algo_name in new.allowed_solvers
        return allowed and set(self._solver_kwargs) <= known

    @property
    def regularizer_strength(self):
        """Strength of the penalty: a number, an array or a pytree; (strength, ratio) for ElasticNet."""
        return self._regularizer_strength

    @regularizer_strength.setter
    def regularizer_strength(self, value):
        default = value is None
        value = self._regularizer.default_strength if default else value
        self._regularizer_strength = self._regularizer.check_strength(value)
        self._default_strength = default

    @property
    def solver_name(self) -> str:
        """Name of the solver; the default of the regularizer unless one was named."""
        return self._regularizer.default_solver if self._solver_name is None else self._solver_name

    @solver_name.setter
    def solver_name(self, value):
        if value is not None:
            spec = solvers.get_solver(value)
            self._regularizer.check_solver(spec.algo_name)
            value = spec.shortest_name
        name = self._regularizer.default_solver if value is None else value
        solvers.check_arguments(name, self._solver_kwargs)
        self._solver_name = value

    @property
    def solver_spec(self) -> solvers.SolverSpec:
        """Name, backend and class of the solver."""
        return solvers.get_solver(self.solver_name)

    @property
    def solver_kwargs(self) -> dict:
        """Arguments of the solver."""
        return self._solver_kwargs

    @solver_kwargs.setter
    def solver_kwargs(self, value):
        value = {} if value is None else value
        if not isinstance(value, dict):
            raise TypeError(f"`solver_kwargs` must be a dict, but {value!r} was given.")
        solvers.check_arguments(self.solver_name, value)
        self._solver_kwargs = dict(value)

    def _set_mask(self, value):
        if self._coef is not None and self._intercept is not None:
            raise AttributeError(
                f"`feature_mask` of {type(self).__name__} cannot be set after fitting. Use a new estimator, "
                "or `sklearn.base.clone` this one."
            )
        mask = None if value is None else _design.check_mask_values(value)
        if isinstance(mask, np.ndarray) and not self._classifier and mask.ndim != 2:
            raise TypeError(
                "`feature_mask` must be an array (features, neurons), or a pytree in the structure of X, but has the "
                f"shape {mask.shape}."
            )
        self._feature_mask = mask

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor arguments.

        Parameters
        ----------
        deep
            Also those of observation model and regularizer, as ``regularizer__mask``.
        """
        params = super().get_params(deep=False)
        if deep:
            for name in ("observation_model", "regularizer"):
                inner = getattr(params.get(name), "get_params", None)
                params.update({f"{name}__{k}": v for k, v in (inner() if inner else {}).items()})
        return dict(sorted(params.items()))

    def set_params(self, **params):
        """Set constructor arguments.

        The regularizer goes first: without a strength beside it, the strength returns to its default.

        Raises
        ------
        ValueError
            If a name is unknown. Nothing is changed when an argument is refused.
        """
        known = self.get_params(deep=False)
        unknown = sorted(name for name in params if name.split("__")[0] not in known)
        if unknown:
            raise ValueError(
                f"Invalid parameters {unknown} for {type(self).__name__}. "
                f"Valid are {sorted(self.get_params())}."
            )
        before = dict(self.__dict__)
        try:
            self._apply(dict(params))
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _apply(self, params: dict) -> None:
        # What is replaced below is not held against what is set first.
        if "solver_name" in params:
            self._solver_name = None
        if "solver_kwargs" in params:
            self._solver_kwargs = {}
        if "regularizer" in params:
            self._default_strength = True
            self.regularizer = params.pop("regularizer")
        order = ["observation_model", "regularizer_strength", "solver_name", "solver_kwargs"]
        for name in sorted(params, key=lambda n: (order.index(n) if n in order else len(order), n)):
            if "__" in name:
                # Components may be shared with other estimators, so a changed one is a copy.
                component, inner = name.split("__", 1)
                changed = copy.copy(getattr(self, component))
                if not hasattr(changed, "set_params"):
                    raise ValueError(f"Invalid parameter {name!r}: {changed!r} has no parameters.")
                try:
                    changed.set_params(**{inner: params[name]})
                except ValueError as error:
                    raise ValueError(f"Invalid parameter {name!r}: {error}") from error
                setattr(self, f"_{component}", changed)
            else:
                setattr(self, name, params[name])

    def __sklearn_clone__(self):
        arguments = {name: getattr(self, name) for name in self._argument_names()}
        if self._default_strength:
            arguments["regularizer_strength"] = None
        if not self._named_regularizer:
            arguments["regularizer"] = None
        if self._solver_name is None and "solver_name" in arguments:
            arguments["solver_name"] = None
        clone = type(self)(**arguments)
        clone._proba_output = self._proba_output
        if hasattr(self, "_metadata_request"):
            clone._metadata_request = copy.deepcopy(self._metadata_request)
        return clone

    @classmethod
    def _argument_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def __repr__(self, **kwargs):
        lines = []
        for name in self._argument_names():
            value = getattr(self, name)
            if callable(value) and hasattr(value, "__name__"):
                value = value.__name__
            elif any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in jax.tree.leaves(value)):
                continue
            elif isinstance(value, str):
                value = repr(value)
            if value or value == 0:
                lines.append(f"    {name}={value}")
        return f"{type(self).__name__}(\n" + ",\n".join(lines) + "\n)"

    def __sklearn_tags__(self):
        from sklearn.utils import ClassifierTags, RegressorTags

        tags = super().__sklearn_tags__()
        tags.estimator_type = "classifier" if self._classifier else "regressor"
        tags.classifier_tags = ClassifierTags() if self._classifier else None
        tags.regressor_tags = None if self._classifier else RegressorTags()
        tags.non_deterministic = getattr(self.solver_spec.implementation, "stochastic", False)
        if self._classifier:
            tags.classifier_tags.multi_class = self._encoder.n_classes > 2
        tags.input_tags.allow_nan = True
        tags.target_tags.positive_only = isinstance(self.observation_model, _POSITIVE)
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = self._classifier and not self._population
        tags.target_tags.two_d_labels = self._classifier and self._population
        tags.target_tags.multi_output = self._population
        tags.target_tags.single_output = not self._population
        return tags
