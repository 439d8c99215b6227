"""Settings and problems as an estimator makes them, from what it shows; and what it does not show or take."""

import copy
from dataclasses import replace

from bayesglm.glm import PopulationGLM, _edge
from bayesglm.glm._rows import new_classes
from bayesglm.glm._settings import Settings


def settings_of(estimator):
    population = isinstance(estimator, PopulationGLM)
    arguments = estimator.get_params(deep=False)
    return Settings.of(type(estimator).__name__, population=population, **arguments)


def problem_of(estimator, X, y, weight=None, offset=None):
    """The problem of training rows."""
    settings = settings_of(estimator)
    return _edge.problem_of(settings, X, y, new_classes(settings, y), weight, offset)


def layout_of(model):
    """The layout of a fit: names and labels that no attribute shows for every kind of X."""
    return model._fit.layout


def with_draws(estimator, tree):
    """A copy of an estimator with other draws, also with such as the attribute refuses."""
    other = copy.copy(estimator)
    other._posterior = replace(estimator._posterior, tree=tree)
    return other
