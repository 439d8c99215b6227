"""Variance and distribution function of each family, given mean and dispersion."""

from __future__ import annotations

import numpy as np
from scipy import special

from bayesglm.observation_models import (
    BernoulliObservations,
    GammaObservations,
    GaussianObservations,
    NegativeBinomialObservations,
    PoissonObservations,
)

_VARIANCE = {
    PoissonObservations: lambda mean, scale: mean,
    GammaObservations: lambda mean, scale: scale * mean**2,
    GaussianObservations: lambda mean, scale: scale + 0.0 * mean,
    BernoulliObservations: lambda mean, scale: mean * (1.0 - mean),
    NegativeBinomialObservations: lambda mean, scale: mean + scale * mean**2,
}
_CDF = {
    PoissonObservations: lambda y, mean, scale: special.pdtr(np.floor(y), mean),
    GammaObservations: lambda y, mean, scale: special.gammainc(
        1.0 / scale, np.maximum(y, 0.0) / (scale * mean)
    ),
    GaussianObservations: lambda y, mean, scale: special.ndtr((y - mean) / np.sqrt(scale)),
    BernoulliObservations: lambda y, mean, scale: np.where(y < 1, 1.0 - mean, 1.0),
    NegativeBinomialObservations: lambda y, mean, scale: special.betainc(
        1.0 / scale, np.floor(y) + 1.0, 1.0 / (1.0 + scale * mean)
    ),
}
_DISCRETE = (PoissonObservations, BernoulliObservations, NegativeBinomialObservations)


def _of(table, model, what: str):
    for kind, function in table.items():
        if isinstance(model, kind):
            return function
    raise NotImplementedError(
        f"The {what} of {type(model).__name__} is not known in closed form. Use `posterior_predictive`."
    )


def variance(model, mean, scale):
    """Return the variance of responses with the given means.

    Raises
    ------
    NotImplementedError
        For an observation model of the user's own.
    """
    return _of(_VARIANCE, model, "variance")(mean, scale)


def cdf(model, y, mean, scale):
    """Return the probability of a response of at most `y`.

    Raises
    ------
    NotImplementedError
        For an observation model of the user's own.
    """
    value = _of(_CDF, model, "distribution function")(y, mean, scale)
    return np.where(np.asarray(y) < 0, 0.0, value) if is_discrete(model) else value


def is_discrete(model) -> bool:
    """Return whether responses are counts."""
    return isinstance(model, _DISCRETE)
