"""Which calls of a model are refused, with which exception."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refused import (
    CLASSES,
    ESTIMATORS,
    ONE,
    RIGHT_Y,
    TREE,
    T,
    X,
    Y,
    assert_same_state,
    fitted_estimators,
    state_of,
    zeros,
)
from sklearn.exceptions import NotFittedError
from tables import N_FEATURES, N_NEURONS

import bayesglm as nmo
from bayesglm.glm import GLM, ClassifierGLM, PopulationGLM

RIGHT_PARAMS = {
    "GLM": (zeros(N_FEATURES), zeros(1)),
    "PopulationGLM": (zeros(N_FEATURES, N_NEURONS), zeros(N_NEURONS)),
    "ClassifierGLM": (zeros(N_FEATURES, 3), zeros(3)),
    "ClassifierPopulationGLM": (zeros(N_FEATURES, N_NEURONS, 3), zeros(N_NEURONS, 3)),
}


CALLS = {
    "predict": lambda estimator, y: estimator.predict(X),
    "score": lambda estimator, y: estimator.score(X, y),
    "simulate": lambda estimator, y: estimator.simulate(jax.random.key(0), X),
    "predict_proba": lambda estimator, y: estimator.predict_proba(X),
}


@pytest.fixture(scope="module")
def fitted():
    return fitted_estimators()


@pytest.mark.parametrize(
    ("kind", "method"),
    [(k, m) for k in ESTIMATORS for m in CALLS if hasattr(type(ESTIMATORS[k]()), m)],
)
@pytest.mark.parametrize("half", [None, "coef_", "intercept_"])
def test_methods_of_a_fitted_model_ask_for_a_fit(kind, method, half):
    estimator = ESTIMATORS[kind]()
    if half is not None:
        setattr(estimator, half, RIGHT_PARAMS[kind][half == "intercept_"])
    with pytest.raises(NotFittedError, match="fit"):
        CALLS[method](estimator, RIGHT_Y[kind])


@pytest.mark.parametrize("kind", ["ClassifierGLM", "ClassifierPopulationGLM"])
@pytest.mark.parametrize("method", [*CALLS, "compute_loss", "initialize_params", "update"])
def test_methods_of_a_classifier_ask_for_classes(kind, method):
    estimator, params, y = ESTIMATORS[kind](), RIGHT_PARAMS[kind], RIGHT_Y[kind]
    calls = {
        **CALLS,
        "compute_loss": lambda estimator, y: estimator.compute_loss(params, X, y),
        "initialize_params": lambda estimator, y: estimator.initialize_params(X, y),
        "update": lambda estimator, y: estimator.update(params, state, X, y),
    }
    state = estimator.initialize_optimizer_and_state(params, X, y)
    estimator.coef_, estimator.intercept_ = params
    state_again = estimator.initialize_optimizer_and_state(params, X, y)
    assert type(state) is type(state_again)
    estimator.classes_ = None
    with pytest.raises(RuntimeError, match=f"set_classes.*{method}"):
        calls[method](estimator, y)


@pytest.mark.parametrize("method", ["predict", "score", "simulate"])
@pytest.mark.parametrize(
    ("new", "exception", "word"),
    [
        (X[:, 0], ValueError, "2-dimensional"),
        (X[:, :2], ValueError, "number of features"),
        (TREE, TypeError, "structure"),
        (X.astype(str), TypeError, "numeric"),
    ],
    ids=["vector", "features", "dict", "strings"],
)
def test_new_rows_must_be_like_those_of_the_fit(method, new, exception, word, fitted):
    calls = {
        "predict": lambda: fitted["PopulationGLM"].predict(new),
        "score": lambda: fitted["PopulationGLM"].score(new, Y),
        "simulate": lambda: fitted["PopulationGLM"].simulate(jax.random.key(0), new),
    }
    with pytest.raises(exception, match=word):
        calls[method]()


def test_score_refuses_what_it_cannot_score(fitted):
    glm, population = fitted["GLM"], fitted["PopulationGLM"]
    with pytest.raises(NotImplementedError, match="pseudo-r2-McFadden"):
        glm.score(X, ONE, score_type="r2")
    with pytest.raises(ValueError, match="neurons"):
        population.score(X, Y[:, :2])
    with pytest.raises(ValueError, match="same number"):
        glm.score(X, ONE[1:])
    with pytest.raises(ValueError, match="1-dimensional"):
        glm.score(X, Y)
    with pytest.raises(ValueError, match="non-negative"):
        glm.score(X, -1 - ONE)
    with pytest.raises(ValueError, match="offset"):
        glm.score(X, ONE, offset=np.ones(3))
    with pytest.raises(ValueError, match="aggregate"):
        glm.score(X, ONE, aggregate_sample_scores=jnp.sum, sample_weight=np.ones(T))


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("labels", ["default", "others"])
def test_unseen_labels_are_value_errors_whatever_the_array(convert, labels):
    known = np.arange(3) if labels == "default" else np.array([2, 5, 9])
    estimator = ClassifierGLM(3).set_classes(known)
    params = (zeros(N_FEATURES, 3), zeros(3))
    estimator.coef_, estimator.intercept_ = params
    unseen = convert(np.where(np.arange(T) == 4, 7, known[CLASSES[:, 0]]))
    for call in (
        lambda: estimator.score(X, unseen),
        lambda: estimator.compute_loss(params, X, unseen),
        lambda: estimator.initialize_params(X, unseen),
        lambda: estimator.initialize_optimizer_and_state(params, X, unseen),
    ):
        with pytest.raises(ValueError, match="Unrecognized class labels.*7"):
            call()


def test_probabilities_come_in_two_forms_only(fitted):
    with pytest.raises(ValueError, match="log-proba"):
        fitted["ClassifierGLM"].predict_proba(X, return_type="logits")


def test_number_of_labels_must_be_that_of_the_classes():
    estimator = ClassifierGLM(3).set_classes(["a", "b", "c"])
    with pytest.raises(ValueError, match="Found 2 unique"):
        estimator.set_classes(["a", "b"])
    assert estimator.classes_.tolist() == ["a", "b", "c"]


def test_update_needs_a_solver_and_its_state(fitted):
    params = RIGHT_PARAMS["GLM"]
    estimator = GLM()
    with pytest.raises(ValueError, match="initialize_optimizer_and_state"):
        estimator.update(params, None, X, ONE)
    state = estimator.initialize_optimizer_and_state(params, X, ONE)
    for wrong in (None, fitted["GLM"].solver_state_):
        with pytest.raises(TypeError, match="opt_state"):
            estimator.update(params, wrong, X, ONE)
    for wrong in (10.0, "10", X):
        with pytest.raises(TypeError, match="n_samples"):
            estimator.update(params, state, X, ONE, n_samples=wrong)
    assert estimator.coef_ is None


def test_parameters_of_a_step_are_checked():
    estimator = GLM()
    state = estimator.initialize_optimizer_and_state(RIGHT_PARAMS["GLM"], X, ONE)
    with pytest.raises(ValueError, match="number of features"):
        estimator.update((zeros(2), zeros(1)), state, X, ONE)
    with pytest.raises(ValueError, match="length two"):
        estimator.initialize_optimizer_and_state((zeros(4),), X, ONE)
    with pytest.raises(ValueError, match="length two"):
        estimator.compute_loss((zeros(4),), X, ONE)


def test_refused_initialisation_of_the_solver_leaves_classes_and_solver_unset():
    estimator = ClassifierGLM(3)
    with pytest.raises(ValueError, match="2-dimensional"):
        estimator.initialize_optimizer_and_state(
            RIGHT_PARAMS["ClassifierGLM"], X[:, 0], CLASSES[:, 0]
        )
    assert estimator.classes_ is None
    assert estimator.solver is None


def test_start_of_a_silent_neuron_is_refused_by_name():
    y = np.array(Y)
    y[:, 1] = 0
    with pytest.raises(ValueError, match=r"neurons \[1\]"):
        PopulationGLM().initialize_params(X, y)


@pytest.mark.parametrize("attribute", ["coef_", "intercept_"])
def test_parameters_that_are_no_numbers_cannot_be_set(attribute, fitted):
    estimator = copy.deepcopy(fitted["GLM"])
    before = state_of(estimator)
    with pytest.raises((TypeError, ValueError)):
        setattr(estimator, attribute, ["a", "b"])
    assert_same_state(state_of(estimator), before)


@pytest.mark.parametrize("value", ["a", None, -1.0, 0.0, np.inf])
def test_dispersion_of_a_negative_binomial_must_be_positive(value):
    with pytest.raises(ValueError, match="positive"):
        nmo.observation_models.NegativeBinomialObservations(scale=value)
    estimator = GLM("NegativeBinomial")
    with pytest.raises(ValueError, match="positive"):
        estimator.set_params(observation_model__scale=value)
    assert estimator.observation_model.scale == 1.0


def test_gaussian_score_without_dispersion_says_what_is_missing():
    estimator = GLM("Gaussian")
    estimator.coef_, estimator.intercept_ = RIGHT_PARAMS["GLM"]
    with pytest.raises(ValueError, match="scale_"):
        estimator.score(X, ONE)
    estimator.scale_ = 1.0
    assert np.isfinite(estimator.score(X, ONE))


def test_feature_mask_cannot_be_set_after_fit(fitted):
    for kind in ("PopulationGLM", "ClassifierPopulationGLM"):
        estimator = copy.deepcopy(fitted[kind])
        with pytest.raises(AttributeError, match="after fitting"):
            estimator.feature_mask = np.ones(np.shape(estimator.coef_))
        assert estimator.feature_mask is None
