"""Estimators with data that are right, and what a refusal must leave as it was."""

import jax
import numpy as np
from tables import LABELS, RESPONSES
from tables import X as ALL_ROWS

from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM

T = 40
X = ALL_ROWS[:T]
Y = RESPONSES["Poisson"][:T]
CLASSES = LABELS[:T]
ONE = Y[:, 0]
TREE = {"a": X[:, :1], "b": X[:, 1:]}
STRINGS = np.array(["left", "right", "stop"])[CLASSES]


def zeros(*shape):
    return np.zeros(shape)


ESTIMATORS = {
    "GLM": lambda **config: GLM(**config),
    "PopulationGLM": lambda **config: PopulationGLM(**config),
    "ClassifierGLM": lambda **config: ClassifierGLM(3, **config),
    "ClassifierPopulationGLM": lambda **config: ClassifierPopulationGLM(3, **config),
}
RIGHT_Y = {
    "GLM": ONE,
    "PopulationGLM": Y,
    "ClassifierGLM": CLASSES[:, 0],
    "ClassifierPopulationGLM": CLASSES,
}


def state_of(estimator):
    """All that a user can see of an estimator."""
    names = (
        "coef_",
        "intercept_",
        "scale_",
        "dof_resid_",
        "solver_state_",
        "aux_",
        "classes_",
        "solver",
    )
    seen = {name: getattr(estimator, name, None) for name in names}
    return {**seen, "params": estimator.get_params()}


def assert_same_state(found, expected):
    (leaves, structure), (others, other_structure) = map(jax.tree.flatten, (found, expected))
    assert structure == other_structure
    for one, other in zip(leaves, others, strict=True):
        assert one is other or np.array_equal(one, other)


def fitted_estimators():
    """One fitted estimator of each kind; labels are strings, so that new ones would be seen."""
    ys = {**RIGHT_Y, "ClassifierGLM": STRINGS[:, 0], "ClassifierPopulationGLM": STRINGS}
    return {kind: ESTIMATORS[kind]().fit(X, ys[kind]) for kind in ESTIMATORS}
