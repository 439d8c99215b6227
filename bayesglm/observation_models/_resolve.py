"""Observation models by name, and what serves as one."""

from __future__ import annotations

from bayesglm._component import Component
from bayesglm._input import did_you_mean
from bayesglm.observation_models._base import Observations
from bayesglm.observation_models._families import (
    BernoulliObservations,
    BinomialObservations,
    CategoricalObservations,
    GammaObservations,
    GaussianObservations,
    NegativeBinomialObservations,
    PoissonObservations,
    ZeroInflatedPoissonObservations,
)

_NATIVE = {
    "Poisson": PoissonObservations,
    "Gamma": GammaObservations,
    "Gaussian": GaussianObservations,
    "Bernoulli": BernoulliObservations,
    "Binomial": BinomialObservations,
    "NegativeBinomial": NegativeBinomialObservations,
    "ZeroInflatedPoisson": ZeroInflatedPoissonObservations,
    "Categorical": CategoricalObservations,
}

_REQUIRED = (
    "_negative_log_likelihood",
    "log_likelihood",
    "likelihood",
    "pseudo_r2",
    "deviance",
    "estimate_scale",
    "sample_generator",
    "default_inverse_link_function",
)


def resolve(observation_model):
    """Return the observation model that a name or an object stands for, checked.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If a class was given instead of an instance.
    """
    if isinstance(observation_model, str):
        name = observation_model.rsplit(".", 1)[-1].removesuffix("Observations")
        if name not in _NATIVE:
            raise ValueError(
                f"Unknown observation model {observation_model!r}. Known: {', '.join(_NATIVE)}; "
                f"or pass an instance of your own.{did_you_mean(name, _NATIVE)}"
            )
        return _NATIVE[name]()
    if isinstance(observation_model, type):
        raise TypeError(
            f"`observation_model` must be an instance, but the class {observation_model.__name__} was given. "
            "Add parentheses."
        )
    check_observation_model(observation_model)
    return observation_model


def check_observation_model(observation_model) -> None:
    """Check that an object can serve as an observation model.

    Raises
    ------
    AttributeError
        If it lacks one of the required members.
    TypeError
        If one of them is not callable.
    """
    if isinstance(observation_model, Observations):
        return
    for name in _REQUIRED:
        if not hasattr(observation_model, name):
            raise AttributeError(
                f"The observation model {observation_model!r} lacks `{name}`. Subclass "
                "`bayesglm.observation_models.Observations` to get everything but the distribution for free."
            )
        if not callable(getattr(observation_model, name)):
            raise TypeError(f"`{name}` of {observation_model!r} must be callable.")


def is_native(observation_model) -> bool:
    """Return whether a model is one of this module, and not of the user's own."""
    kind = type(observation_model)
    return _NATIVE.get(kind.__name__.removesuffix("Observations")) is kind


def static(observation_model):
    """Return the hashable object that stands for the family in compiled programs.

    The models of this module keep no state but the dispersion, which is passed as data; so all their instances
    share the programs of their class.
    """
    if is_native(observation_model):
        return type(observation_model)
    return (
        observation_model.frozen()
        if isinstance(observation_model, Component)
        else observation_model
    )
