"""The four estimators, each with data, and parameters set by hand."""

import numpy as np
from tables import LABELS, N_NEURONS, RESPONSES, X

from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM

Y = RESPONSES["Poisson"]
COUNTS = Y[:, 0]
ONE_LABEL = LABELS[:, 0]
INTERCEPT = np.array([0.2, -0.1, 0.3])
FACES = {
    "GLM": (GLM, COUNTS, ()),
    "PopulationGLM": (PopulationGLM, Y, (N_NEURONS,)),
    "ClassifierGLM": (lambda **config: ClassifierGLM(3, **config), ONE_LABEL, (3,)),
    "ClassifierPopulationGLM": (
        lambda **config: ClassifierPopulationGLM(3, **config),
        LABELS,
        (N_NEURONS, 3),
    ),
}
# Coefficients are shown in single precision, whose spacing at 1 is 1.2e-7.
SHOWN = {"rtol": 1e-6, "atol": 1e-6}


def by_hand(make, coef, intercept, scale=None, classes=None):
    estimator = make()
    estimator.coef_, estimator.intercept_ = coef, intercept
    estimator.scale_ = scale
    return estimator if classes is None else estimator.set_classes(classes)


def both(estimator):
    return np.concatenate([np.ravel(estimator.coef_), np.ravel(estimator.intercept_)])


def with_holes():
    rows, y = X.copy(), Y.copy()
    rows[3, 1], rows[50, 0] = np.nan, np.inf
    # as many in each neuron, so that one compiled program serves all the single fits
    y[[7, 8, 90], [0, 1, 2]] = y[[9, 10, 11], [0, 1, 2]] = np.nan
    return rows, y
