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
_EXCESS_KURTOSIS = {
    PoissonObservations: lambda mean, scale: 1.0 / mean,
    GammaObservations: lambda mean, scale: 6.0 * scale + 0.0 * mean,
    GaussianObservations: lambda mean, scale: 0.0 * mean,
    BernoulliObservations: lambda mean, scale: 1.0 / (mean * (1.0 - mean)) - 6.0,
    NegativeBinomialObservations: lambda mean, scale: 6.0 * scale + 1.0 / (mean + scale * mean**2),
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

# NumPy draws counts as 64-bit integers.
_LARGEST_COUNT = 1e15
_DRAW = {
    PoissonObservations: lambda rng, mean, scale: rng.poisson(mean),
    GammaObservations: lambda rng, mean, scale: rng.gamma(1.0 / scale, scale * mean),
    GaussianObservations: lambda rng, mean, scale: rng.normal(mean, np.sqrt(scale)),
    BernoulliObservations: lambda rng, mean, scale: rng.random(mean.shape) < mean,
    NegativeBinomialObservations: lambda rng, mean, scale: rng.negative_binomial(
        1.0 / scale, 1.0 / (1.0 + scale * mean)
    ),
}


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


def excess_kurtosis(model, mean, scale):
    """Return the excess kurtosis of responses with the given means.

    Raises
    ------
    NotImplementedError
        For an observation model of the user's own.
    """
    return _of(_EXCESS_KURTOSIS, model, "kurtosis")(mean, scale)


def cdf(model, y, mean, scale):
    """Return the probability of a response of at most `y`.

    Raises
    ------
    NotImplementedError
        For an observation model of the user's own.
    """
    value = _of(_CDF, model, "distribution function")(y, mean, scale)
    return np.where(np.asarray(y) < 0, 0.0, value) if is_discrete(model) else value


def draw(model, rng, mean, scale):
    """Draw responses, as floats: quickly, where nothing else depends on the numbers drawn. NaN for impossible means.

    Raises
    ------
    NotImplementedError
        For an observation model of the user's own.
    """
    known = np.isfinite(mean)
    if not isinstance(model, GaussianObservations):
        known &= (mean >= 0) & (mean < _LARGEST_COUNT)
    drawn = _of(_DRAW, model, "distribution")(rng, np.where(known, mean, 1.0), scale)
    return np.where(known, drawn, np.nan)


def is_known(model) -> bool:
    """Return whether variance and distribution function are known in closed form."""
    return isinstance(model, tuple(_CDF))


def is_discrete(model) -> bool:
    """Return whether responses are counts."""
    return isinstance(model, _DISCRETE)
