"""The NumPyro distributions that NumPyro lacks: priors, and the likelihoods of a GLM."""

from bayesglm.distributions._counts import (
    NegativeBinomialPredictor,
    PoissonPredictor,
    ZeroInflatedPoissonPredictor,
)
from bayesglm.distributions._predictor import Parameter, PredictorDistribution
from bayesglm.distributions._priors import ElasticNet, GroupLaplace, HalfStudentT, PartlyFlat
from bayesglm.distributions._responses import (
    BernoulliPredictor,
    BinomialPredictor,
    CategoricalPredictor,
    GammaPredictor,
    GaussianPredictor,
)

__all__ = [
    "BernoulliPredictor",
    "BinomialPredictor",
    "CategoricalPredictor",
    "ElasticNet",
    "GammaPredictor",
    "GaussianPredictor",
    "GroupLaplace",
    "HalfStudentT",
    "NegativeBinomialPredictor",
    "Parameter",
    "PartlyFlat",
    "PoissonPredictor",
    "PredictorDistribution",
    "ZeroInflatedPoissonPredictor",
]
