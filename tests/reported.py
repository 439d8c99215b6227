"""Counts of three neurons, and settings of their models."""

import numpy as np

RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.005}
QUIET = {"num_samples": 150, "progress_bar": False}
N, N_NEURONS = 400, 3
_rng = np.random.default_rng(11)
X = _rng.normal(size=(N, 3))
COEF = np.array([[0.4, -0.2, 0.0], [-0.3, 0.1, 0.2], [0.0, 0.3, -0.2]])
RATE = np.exp(X @ COEF - 0.3)
COUNTS = _rng.poisson(RATE).astype(float)


def tripped(report):
    return {name for name, check in report.checks.items() if check.status in ("caution", "fail")}
