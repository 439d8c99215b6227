"""What a model is made with: constructor arguments, resolved and checked, and the rules between them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from bayesglm import _design, _families, labels, links, observation_models, regularizer, solvers
from bayesglm._layout import Layout
from bayesglm._messages import Message


@dataclass(frozen=True, eq=False)
class Settings:
    """What a model is made with. Changed settings are new ones.

    Parameters
    ----------
    kind : str
        Name of the estimator.
    population : bool
        Whether responses have a column for each neuron.
    n_classes : int or None
        Number of classes of a classifier.
    observation_model, inverse_link_function, regularizer
        Always instances and functions.
    regularizer_strength
        A number, an array or a pytree; (strength, ratio) for ElasticNet.
    named_solver : str or None
        None for the default of the regularizer.
    solver_kwargs : dict
    feature_mask : array, pytree or None
    named_regularizer, default_strength : bool
        Whether the regularizer was named, and whether its strength was not.
    proba_output : str
        What class probabilities are given as.
    """

    kind: str
    population: bool
    n_classes: int | None
    observation_model: Any
    inverse_link_function: Any
    regularizer: Any
    regularizer_strength: Any
    named_solver: str | None = None
    solver_kwargs: dict = None  # type: ignore[assignment]
    feature_mask: Any = None
    named_regularizer: bool = True
    default_strength: bool = False
    proba_output: str = "log-proba"

    @classmethod
    def of(
        cls, kind: str, *, population=False, n_classes=None, observation_model="Categorical",
        inverse_link_function=None, regularizer=None, regularizer_strength=None, solver_name=None,
        solver_kwargs=None, feature_mask=None,
    ) -> Settings:  # fmt: skip
        """Return the settings that constructor arguments stand for.

        Raises
        ------
        TypeError, ValueError, AttributeError, NameError
            If one is refused.
        """
        classifier = n_classes is not None
        n_classes = labels.check_count(n_classes) if classifier else None
        model = _observation_model(observation_model, kind, population, classifier)
        link = _inverse_link(inverse_link_function, model)
        found = cls(
            kind, population, n_classes, model, link, _regularizer(regularizer, classifier), None,
            None, {}, None, regularizer is not None,
        )  # fmt: skip
        given = {
            "regularizer_strength": regularizer_strength,
            "solver_name": solver_name,
            "solver_kwargs": solver_kwargs,
            "feature_mask": feature_mask,
        }
        for name, value in given.items():
            found, _ = found.having(name, value)
        return found

    def __getstate__(self):
        # JAX's own functions cannot be pickled
        named = links.named(self.inverse_link_function)
        return self.__dict__ | {"inverse_link_function": named}

    @property
    def solver_name(self) -> str:
        """Name of the solver; the default of the regularizer unless one was named."""
        return self.regularizer.default_solver if self.named_solver is None else self.named_solver

    @property
    def classifier(self) -> bool:
        """Whether responses are class labels."""
        return self.n_classes is not None

    def layout(self, classes=None) -> Layout:
        """Return what is known of the layout before data are."""
        return Layout(self.population, self.n_classes, classes)

    def mask(self, layout: Layout) -> np.ndarray:
        """Return which coefficients are in use, bool (features, *outputs).

        Raises
        ------
        TypeError, ValueError
            If the mask does not fit.
        """
        return _design.coefficient_mask(
            self.feature_mask, layout.structure, layout.widths, layout.outputs
        )

    def having(self, name: str, value) -> tuple[Settings, tuple[Message, ...]]:
        """Return settings with another value of one argument, and what to tell the user."""
        change = _CHANGES.get(name)
        if change is None:
            raise AttributeError(f"{name!r} is no setting.")
        return change(self, value)

    def changed(self, **arguments) -> tuple[Settings, tuple[Message, ...]]:
        """Return settings with other arguments, and what to tell the user.

        The regularizer goes first: without a strength beside it, the strength returns to its default.
        """
        found, told = self, ()
        # What is replaced below is not held against what is set first.
        if "solver_name" in arguments:
            found = replace(found, named_solver=None)
        if "solver_kwargs" in arguments:
            found = replace(found, solver_kwargs={})
        parts = any(name.startswith("regularizer__") for name in arguments)
        if "regularizer" in arguments or (parts and "regularizer_strength" in arguments):
            found = replace(found, default_strength=True)
        for name in sorted(arguments, key=_place):
            change = found.having_part if "__" in name else found.having
            found, more = change(name, arguments[name])
            told += more
        return found, told

    def having_part(self, name: str, value) -> tuple[Settings, tuple[Message, ...]]:
        """Return settings with another parameter of a component, named as ``regularizer__mask``.

        Components may be shared with other estimators, so a changed one is a copy.
        """
        component, inner = name.split("__", 1)
        if component == "regularizer_strength":
            return self._having_strength(name, inner, value)
        changed = copy.copy(getattr(self, component))
        if not hasattr(changed, "set_params"):
            raise ValueError(f"Invalid parameter {name!r}: {changed!r} has no parameters.")
        try:
            changed.set_params(**{inner: value})
        except ValueError as error:
            raise ValueError(f"Invalid parameter {name!r}: {error}") from error
        if component == "regularizer":  # its strengths and solver must go with it
            return _with_regularizer(self, changed)
        return replace(self, **{component: changed}), ()

    def _having_strength(self, name: str, inner: str, value):
        """Return settings with another strength of one leaf, named as ``regularizer_strength__history``."""
        if not hasattr(self.regularizer, "with_strength_of"):
            raise ValueError(
                f"Invalid parameter {name!r}: `regularizer` is {self.regularizer!r}, with one strength for all of X. "
                "Give a dict with a regularizer for each leaf."
            )
        try:
            new = self.regularizer.with_strength_of(self.regularizer_strength or {}, inner, value)
            return _with_strength(self, new)
        except ValueError as error:
            raise ValueError(f"Invalid parameter {name!r}: {error}") from error

    def argument(self, name: str):
        """Return a constructor argument as it was given: None where a default was left to us."""
        left = {
            "regularizer_strength": self.default_strength,
            "solver_name": self.named_solver is None,
            "regularizer": not self.named_regularizer,
        }
        return None if left.get(name, False) else getattr(self, name)


def _observation_model(value, kind: str, population: bool, classifier: bool):
    model = observation_models.resolve(value)
    if _families.is_labels(model) and not classifier:
        other = "ClassifierPopulationGLM" if population else "ClassifierGLM"
        raise TypeError(f"{kind} does not take {type(model).__name__}; use `bayesglm.glm.{other}`.")
    return model


def _inverse_link(value, model):
    return links.resolve(model.default_inverse_link_function if value is None else value)


def _regularizer(value, classifier: bool):
    return regularizer.resolve("Ridge" if value is None and classifier else value)


def _with_observation_model(settings: Settings, value):
    like = settings.kind, settings.population, settings.classifier
    model = _observation_model(value, *like)
    return replace(settings, observation_model=model), ()


def _with_link(settings: Settings, value):
    link = _inverse_link(value, settings.observation_model)
    return replace(settings, inverse_link_function=link), ()


def _with_regularizer(settings: Settings, value):
    new = _regularizer(value, settings.classifier)
    default = settings.default_strength or settings.regularizer_strength is None
    strength = new.default_strength if default else settings.regularizer_strength
    pair = isinstance(strength, tuple) and not isinstance(new, regularizer.ElasticNet)
    if pair and not isinstance(new, regularizer.UnRegularized):
        raise ValueError(
            f"The strength {strength!r} is a pair for ElasticNet; give {type(new).__name__} one of its own: "
            "`set_params(regularizer=..., regularizer_strength=...)`."
        )
    strength = new.check_strength(strength)
    told = ()
    if not _serves(settings, new):
        text = (
            f"The solver {settings.solver_name!r} or its arguments are not allowed for "
            f"{type(new).__name__}; falling back to its default, {new.default_solver!r}."
        )
        told = (Message(UserWarning, text),)
        settings = replace(settings, named_solver=None, solver_kwargs={})
    return replace(
        settings, regularizer=new, regularizer_strength=strength, default_strength=default,
        named_regularizer=value is not None,
    ), told  # fmt: skip


def _serves(settings: Settings, new) -> bool:
    """Return whether the present solver and its arguments go with a regularizer."""
    name = new.default_solver if settings.named_solver is None else settings.named_solver
    known = solvers.get_accepted_arguments(name)
    allowed = solvers.get_solver(name).algo_name in new.allowed_solvers
    return allowed and set(settings.solver_kwargs) <= known


def _with_strength(settings: Settings, value):
    default = value is None
    value = settings.regularizer.default_strength if default else value
    value = settings.regularizer.check_strength(value)
    return replace(settings, regularizer_strength=value, default_strength=default), ()


def _with_solver(settings: Settings, value):
    if value is not None:
        spec = solvers.get_solver(value)
        settings.regularizer.check_solver(spec.algo_name)
        value = spec.shortest_name
    found = replace(settings, named_solver=value)
    solvers.check_arguments(found.solver_name, settings.solver_kwargs)
    return found, ()


def _with_solver_kwargs(settings: Settings, value):
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise TypeError(f"`solver_kwargs` must be a dict, but {value!r} was given.")
    solvers.check_arguments(settings.solver_name, value)
    return replace(settings, solver_kwargs=dict(value)), ()


def _with_mask(settings: Settings, value):
    mask = None if value is None else _design.check_mask_values(value)
    if isinstance(mask, np.ndarray) and not settings.classifier and mask.ndim != 2:
        raise TypeError(
            "`feature_mask` must be an array (features, neurons), or a pytree in the structure of X, but has the "
            f"shape {mask.shape}."
        )
    return replace(settings, feature_mask=mask), ()


def _with_n_classes(settings: Settings, value):
    return replace(settings, n_classes=labels.check_count(value)), ()


# In the order in which several are changed.
_CHANGES = {
    "regularizer": _with_regularizer,
    "observation_model": _with_observation_model,
    "regularizer_strength": _with_strength,
    "solver_name": _with_solver,
    "solver_kwargs": _with_solver_kwargs,
    "feature_mask": _with_mask,
    "inverse_link_function": _with_link,
    "n_classes": _with_n_classes,
}
NAMES = frozenset(_CHANGES)


#: What arguments are, for the attributes of estimators.
DESCRIPTIONS = {
    "observation_model": "The distribution of the response; always an instance.",
    "inverse_link_function": "The map from the linear predictor to the mean; always a function.",
    "regularizer": "The penalty on the coefficients, and the prior it stands for; always an instance.",
    "regularizer_strength": "Strength of the penalty: a number, an array or a pytree; (strength, ratio) for "
    "ElasticNet; 'auto' or a Scale to learn it.",
    "solver_name": "Name of the solver; the default of the regularizer unless one was named.",
    "solver_kwargs": "Arguments of the solver.",
    "feature_mask": "Which features predict which neuron, or None for all; not set after `fit`.",
    "n_classes": "Number of classes. Setting it discards the labels.",
}


def _place(name: str) -> tuple[int, str]:
    """Return the place of an argument among those to be changed: parts of one follow it."""
    order, outer = list(_CHANGES), name.partition("__")[0]
    return (order.index(outer) if outer in order else len(order), name)


def check_names(given, known, kind: str) -> None:
    """Raise a ValueError if there are arguments, or parameters of arguments, with unknown names."""
    outer = {name for name in known if "__" not in name}
    unknown = sorted(name for name in given if name.split("__")[0] not in outer)
    if unknown:
        raise ValueError(f"Invalid parameters {unknown} for {kind}. Valid are {sorted(known)}.")


def shown(name: str, value) -> str | None:
    """Return an argument as ``repr`` shows it; None for one that it leaves out."""
    if callable(value) and hasattr(value, "__name__"):
        value = value.__name__
    elif any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in jax.tree.leaves(value)):
        return None
    elif isinstance(value, str):
        value = repr(value)
    return f"    {name}={value}" if value or value == 0 else None


def describe(tags, settings: Settings) -> None:
    """Write into scikit-learn's tags of an estimator what settings say."""
    from sklearn.utils import ClassifierTags, RegressorTags

    classifier, population = settings.classifier, settings.population
    tags.estimator_type = "classifier" if classifier else "regressor"
    tags.classifier_tags = ClassifierTags() if classifier else None
    tags.regressor_tags = None if classifier else RegressorTags()
    solver = solvers.get_solver(settings.solver_name).implementation
    tags.non_deterministic = getattr(solver, "stochastic", False)
    if classifier:
        tags.classifier_tags.multi_class = settings.n_classes > 2
    tags.input_tags.allow_nan = True
    tags.target_tags.positive_only = _families.is_positive(settings.observation_model)
    tags.target_tags.required = True
    tags.target_tags.one_d_labels = classifier and not population
    tags.target_tags.two_d_labels = classifier and population
    tags.target_tags.multi_output = population
    tags.target_tags.single_output = not population
