"""Estimators as fits and samplers leave them, from random numbers: without the time of one."""

import jax
import numpy as np
from problems import layout_of, settings_of
from tables import N_NEURONS

from bayesglm import _families, posterior
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
    settings = settings_of(estimator)
    outputs = (N_NEURONS,) * settings.population + (len(classes),) * settings.classifier
    estimator.coef_ = {name: _rng.normal(size=(1, *outputs)) for name in names}
    estimator.intercept_ = _rng.normal(size=outputs or (1,))
    if settings.classifier:
        estimator.set_classes(classes)
    return estimator


def drawn(estimator):
    """Draws as `sample_posterior` leaves them, without the time of it."""
    settings, leaves = settings_of(estimator), jax.tree.leaves(estimator.coef_)
    widths, outputs = tuple(len(leaf) for leaf in leaves), leaves[0].shape[1:]
    n_features = sum(widths)
    n_neurons = outputs[0] if settings.population else 1
    columns = settings.n_classes or 1
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
        log_scale=_rng.normal(size=(*lead, int(not settings.classifier))),
        stats=stats, khat=_rng.random(n_neurons), effective=np.full(n_neurons, 8.0),
        mixture=no, retried=no, settled=~no, mode=None,
    )  # fmt: skip
    names = layout_of(estimator).labels()
    attrs = _attach.settings(settings) | {
        "n_train": np.full(n_neurons, 7.0), "num_warmup": -1, "random_key": np.array([0, 3]),
        "step_size": np.nan, "resampled_neurons": np.array([], int), "prior": "penalty",
    }  # fmt: skip
    given = _rng.poisson(1.0, size=(ROWS, n_neurons)), _rng.integers(1, 3, size=(ROWS, n_neurons))
    given = [(a if settings.population else a[:, 0]).astype(float) for a in given]
    log_prior = {"coef": _rng.normal(size=lead)}
    y, weight = given
    constant = {"sample_weight": weight}
    parameter = _families.parameter(settings.observation_model)
    tree = posterior.to_tree(
        draws, outputs, n_neurons, names, attrs, y, constant, log_prior, parameter
    )
    _attach.seal(tree)
    return tree
