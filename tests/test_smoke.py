"""A quick look at everything: one fit of each estimator, saved, loaded and cloned."""

import jax
import numpy as np
import pytest
from sklearn.base import clone
from tables import LABELS, RESPONSES, X

import bayesglm as nmo

ESTIMATORS = {
    "GLM": (nmo.glm.GLM(), RESPONSES["Poisson"][:, 0]),
    "PopulationGLM": (
        nmo.glm.PopulationGLM(regularizer="Lasso", regularizer_strength=0.03),
        RESPONSES["Poisson"],
    ),
    "ClassifierGLM": (nmo.glm.ClassifierGLM(3), np.array(["a", "b", "c"])[LABELS[:, 0]]),
    # one column, so that the program compiled for ClassifierGLM serves it too
    "ClassifierPopulationGLM": (nmo.glm.ClassifierPopulationGLM(3), LABELS[:, :1]),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimator_fits_predicts_saves_loads_and_clones(name, tmp_path):
    estimator, y = ESTIMATORS[name]
    estimator = clone(estimator).fit(X, y)
    assert np.isfinite(estimator.score(X, y))
    assert np.shape(estimator.predict(X)) == y.shape
    simulated, _ = estimator.simulate(jax.random.key(0), X)
    assert np.shape(simulated) == y.shape

    estimator.save_params(tmp_path / "model.npz")
    loaded = nmo.load_model(tmp_path / "model.npz")
    assert np.array_equal(loaded.predict(X), estimator.predict(X))

    copied = clone(estimator)
    assert repr(copied) == repr(loaded) == repr(estimator)
    assert copied.coef_ is None
