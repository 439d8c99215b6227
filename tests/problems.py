"""Settings and problems as an estimator makes them, from what it shows."""

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
