"""Observation models: how the response is distributed around its mean.

Each model names one NumPyro distribution of the linear predictor; losses, likelihoods, deviances,
scores and simulations are all read from it.
"""

from bayesglm.observation_models._base import SCORE_TYPES, Observations
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
from bayesglm.observation_models._resolve import (
    check_observation_model,
    is_native,
    resolve,
    static,
)

__all__ = [
    "SCORE_TYPES",
    "BernoulliObservations",
    "BinomialObservations",
    "CategoricalObservations",
    "GammaObservations",
    "GaussianObservations",
    "NegativeBinomialObservations",
    "Observations",
    "PoissonObservations",
    "ZeroInflatedPoissonObservations",
    "check_observation_model",
    "is_native",
    "resolve",
    "static",
]
