"""All members of each kind, with data on which each is well posed. Laws run over these tables.

There is one design for all families, so that compiled programs are shared.
"""

import numpy as np

N_SAMPLES, N_FEATURES, N_NEURONS, N_CLASSES = 200, 4, 3, 3

_rng = np.random.default_rng(7)
X = _rng.normal(size=(N_SAMPLES, N_FEATURES))
COEF = np.array([[0.4, -0.2, 0.0], [-0.3, 0.1, 0.2], [0.0, 0.3, -0.2], [0.2, 0.0, 0.1]])
ETA = 0.2 + X @ COEF
RATE = np.exp(ETA)

#: Responses (samples, neurons) of each family; those of Binomial are pairs.
RESPONSES = {
    "Poisson": _rng.poisson(RATE).astype(float),
    "Gamma": _rng.gamma(2.0, RATE / 2.0),
    "Gaussian": ETA + 0.7 * _rng.normal(size=ETA.shape),
    "Bernoulli": _rng.binomial(1, 1 / (1 + np.exp(-ETA))).astype(float),
    "NegativeBinomial": _rng.poisson(RATE * _rng.gamma(1.0, 1.0, size=ETA.shape)).astype(float),
}
_trials = np.random.default_rng(8)
_N = _trials.integers(1, 6, size=ETA.shape)
_K = _trials.binomial(_N, 1 / (1 + np.exp(-ETA)))
# Successes and failures, on the last axis.
RESPONSES["Binomial"] = np.stack([_K, _N - _K], axis=-1).astype(float)
#: Class indices (samples, neurons).
LABELS = np.stack(
    [np.argmax(ETA + _rng.gumbel(size=ETA.shape), axis=1) for _ in range(N_NEURONS)], axis=1
)

#: Pairs of family and inverse link whose mean stays in the support, the default link first.
FAMILY_LINKS = {
    "Poisson": ("exp", "softplus"),
    "Gamma": ("one_over_x", "exp", "softplus"),
    "Gaussian": ("identity", "exp", "softplus"),
    "Bernoulli": ("logistic", "norm_cdf"),
    "NegativeBinomial": ("exp", "softplus"),
    "Binomial": ("logistic", "norm_cdf"),
}
NOT_CONVEX = {("Gaussian", "exp"), ("Gaussian", "softplus"), ("Gamma", "softplus")}

#: Regularizers with a strength at which some coefficients of these data are zero and some are not.
REGULARIZERS = {
    "UnRegularized": None,
    "Ridge": 0.1,
    "Lasso": 0.03,
    "ElasticNet": (0.05, 0.5),
    "GroupLasso": 0.03,
}
SMOOTH = ("UnRegularized", "Ridge")
SOLVERS = {
    "GradientDescent": SMOOTH,
    "BFGS": SMOOTH,
    "LBFGS": SMOOTH,
    "NonlinearCG": SMOOTH,
    "Newton": SMOOTH,
    "ProximalGradient": tuple(REGULARIZERS),
    "ProxNewton": tuple(REGULARIZERS),
    "SVRG": SMOOTH,
    "ProxSVRG": tuple(REGULARIZERS),
}
