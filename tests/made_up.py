"""Estimators as fits and samplers leave them, from random numbers: without the time of one."""

import numpy as np
from tables import N_NEURONS

from bayesglm import posterior
from bayesglm._sampling._sampler import Sampled
from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM, _attach

CHAINS, DRAWS, ROWS = 2, 5, 7
FACES = {
    "GLM": lambda n: GLM("Gaussian", regularizer="Ridge", regularizer_strength=0.1),
    "PopulationGLM": lambda n: PopulationGLM(),
    "ClassifierGLM": ClassifierGLM,
    "ClassifierPopulationGLM": ClassifierPopulationGLM,
}
_rng = np.random.default_rng(3)


def fitted(face, names=("speed", "head", "place"), classes=("left", "right")):
    """An estimator with parameters, one for each name and class."""
    estimator = FACES[face](len(classes))
    outputs = (N_NEURONS,) * estimator._population + (len(classes),) * estimator._classifier
    estimator.coef_ = {name: _rng.normal(size=(1, *outputs)) for name in names}
    estimator.intercept_ = _rng.normal(size=outputs or (1,))
    if estimator._classifier:
        estimator.set_classes(classes)
    return estimator


def drawn(estimator):
    """Draws as `sample_posterior` leaves them, without the time of it."""
    n_features, *outputs = estimator._coef[2].shape
    n_neurons = outputs[0] if estimator._population else 1
    columns = estimator.n_classes if estimator._classifier else 1
    lead = (CHAINS, DRAWS, n_neurons)
    stats = {
        "lp": _rng.normal(size=lead),
        "diverging": _rng.random(lead) < 0.1,
        "n_steps": _rng.integers(1, 8, lead),
    }
    no = np.zeros(n_neurons, bool)
    draws = Sampled(
        coef=_rng.normal(size=(*lead, columns, n_features)),
        intercept=_rng.normal(size=(*lead, columns)),
        log_scale=_rng.normal(size=(*lead, int(not estimator._classifier))),
        stats=stats, khat=_rng.random(n_neurons), effective=np.full(n_neurons, 8.0),
        mixture=no, retried=no, settled=~no, mode=None,
    )  # fmt: skip
    attrs = _attach.settings(estimator) | {
        "n_train": np.full(n_neurons, 7.0), "num_warmup": -1, "random_key": np.array([0, 3]),
        "step_size": np.nan, "resampled_neurons": np.array([], int), "prior": "penalty",
    }  # fmt: skip
    given = _rng.poisson(1.0, size=(ROWS, n_neurons)), _rng.integers(1, 3, size=(ROWS, n_neurons))
    given = [(a if estimator._population else a[:, 0]).astype(float) for a in given]
    log_prior = {"coef": _rng.normal(size=lead)}
    tree = posterior.to_tree(
        draws, outputs, n_neurons, estimator._labels(), attrs, *given, log_prior
    )
    _attach.seal(tree)
    return tree
