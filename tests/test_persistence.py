"""What is saved comes back: families, links, regularizers, strengths, masks, labels, settings."""

import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved import (
    T,
    X,
    assert_same_model,
    assert_same_value,
    round_trip,
    with_parameters,
)
from sklearn.base import clone
from tables import FAMILY_LINKS, LABELS, N_FEATURES, N_NEURONS, REGULARIZERS, RESPONSES

import bayesglm as nmo
from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM
from bayesglm.regularizer import GroupLasso

Y = RESPONSES["Poisson"][:T]
_rng = np.random.default_rng(5)
CLASSES = LABELS[:T]
STRINGS = np.array(["left", "right", "stop"])[CLASSES]
TREES = {
    "dict": {"b": X[:, :1], "a": X[:, 1:]},
    "list": [X[:, :1], X[:, 1:]],
    "tuple": (X[:, :1], X[:, 1:]),
    "nested": {"slow": {"x": X[:, :1], "y": [X[:, 1:2]]}, "fast": (X[:, 2:],)},
    "integer keys": {1: X[:, :1], 0: X[:, 1:]},
}
FACES = {
    "GLM": (GLM, ()),
    "PopulationGLM": (PopulationGLM, (N_NEURONS,)),
    "ClassifierGLM": (lambda **config: ClassifierGLM(3, **config), (3,)),
    "ClassifierPopulationGLM": (
        lambda **config: ClassifierPopulationGLM(3, **config),
        (N_NEURONS, 3),
    ),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


@pytest.mark.parametrize("face", ["GLM", "PopulationGLM"])
@pytest.mark.parametrize(
    "link", [(family, link) for family in FAMILY_LINKS for link in FAMILY_LINKS[family]]
)
@pytest.mark.parametrize("is_fitted", [False, True])
def test_round_trip_of_every_family_and_link(face, link, is_fitted, path):
    make, outputs = FACES[face]
    estimator = make(observation_model=link[0], inverse_link_function=link[1])
    if is_fitted:
        with_parameters(estimator, outputs)
    assert_same_model(round_trip(estimator, path), estimator)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("strength", ["given", "default"])
def test_round_trip_of_every_estimator_and_regularizer(face, regularizer, strength, path):
    make, outputs = FACES[face]
    value = REGULARIZERS[regularizer] if strength == "given" else None
    estimator = with_parameters(make(regularizer=regularizer, regularizer_strength=value), outputs)
    assert_same_model(round_trip(estimator, path), estimator)


STRENGTHS = {
    "array": lambda shape: ("Ridge", _rng.uniform(size=shape)),
    "JAX array": lambda shape: ("Lasso", jnp.ones(shape)),
    "dict": lambda shape: ("Ridge", {"a": 0.1, "b": np.float32(0.2)}),
    "pair of arrays": lambda shape: ("ElasticNet", (np.full(shape, 0.3), 0.7)),
    "pair of dicts": lambda shape: ("ElasticNet", ({"a": 0.3, "b": 0.1}, {"a": 0.7, "b": 0.2})),
    "per group": lambda shape: (GroupLasso(np.eye(4)[:2].reshape(2, 4)), [0.3, 0.7]),
    "per group of a dict": lambda shape: (
        GroupLasso({"a": np.ones((1, 3)), "b": jnp.zeros((1, 1))}),
        0.5,
    ),
}


@pytest.mark.parametrize("kind", STRENGTHS)
def test_round_trip_of_strengths_and_group_masks(kind, path):
    regularizer, strength = STRENGTHS[kind]((N_FEATURES,))
    estimator = GLM(regularizer=regularizer, regularizer_strength=strength)
    found = round_trip(estimator, path)
    assert_same_model(found, estimator)
    if isinstance(regularizer, GroupLasso):
        assert_same_value(found.regularizer.mask, jax.tree.map(np.asarray, regularizer.mask))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("face", FACES)
def test_round_trip_of_coefficients_in_a_pytree(tree, face, path):
    make, outputs = FACES[face]
    estimator = with_parameters(make(), outputs, TREES[tree])
    assert_same_model(round_trip(estimator, path), estimator, TREES[tree])


@pytest.mark.parametrize(
    "mask",
    [
        np.eye(N_FEATURES, N_NEURONS),
        jnp.eye(N_FEATURES, N_NEURONS) > 0,
        {"a": np.array([1, 0, 1]), "b": np.array([0, 1, 1])},
    ],
    ids=["array", "JAX array", "dict"],
)
def test_round_trip_of_feature_masks(mask, path):
    rows = TREES["dict"] if isinstance(mask, dict) else X
    estimator = with_parameters(PopulationGLM(feature_mask=mask), (N_NEURONS,), rows)
    assert_same_model(round_trip(estimator, path), estimator, rows)


@pytest.mark.parametrize(
    "labels",
    [
        [2, 5, 9],
        [0, 1, 2],
        [0.5, 1.5, 2.5],
        ["cat", "dog", "éléphant"],
        np.array([b"a", b"b", b"c"]),
    ],
    ids=["integers", "default", "floats", "strings", "bytes"],
)
def test_round_trip_of_class_labels(labels, path):
    estimator = with_parameters(FACES["ClassifierGLM"][0](), (3,), labels=labels)
    found = round_trip(estimator, path)
    assert_same_model(found, estimator)
    assert found.classes_.dtype == estimator.classes_.dtype


@pytest.mark.parametrize("face", ["ClassifierGLM", "ClassifierPopulationGLM"])
@pytest.mark.parametrize("output", ["log-proba", "proba"])
def test_round_trip_of_what_probabilities_are_returned(face, output, path):
    make, outputs = FACES[face]
    model = with_parameters(make(), outputs).set_proba_output(output)
    found = round_trip(model, path)
    assert_same_model(found, model)  # predict_proba among others
    sums = np.asarray(found.predict_proba(X)).sum(axis=-1)
    assert np.allclose(sums, 1.0, rtol=1e-5) == (output == "proba")
    assert_same_model(round_trip(clone(found), path), clone(model))


@pytest.mark.parametrize("link", [jax.nn.softplus, jnp.exp])
def test_estimators_with_a_link_of_jax_can_be_pickled(link):
    estimator = with_parameters(GLM(inverse_link_function=link), ())
    found = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(found.predict(X), estimator.predict(X))
    assert found.inverse_link_function.__name__ == link.__name__
    assert estimator.inverse_link_function is link


def test_round_trip_of_a_fit(path):
    for estimator, y in (
        (GLM("Gaussian", regularizer="Ridge", regularizer_strength=0.1), Y[:, 0]),
        (ClassifierGLM(3), STRINGS[:, 0]),
    ):
        estimator.fit(X, y)
        found = round_trip(estimator, path)
        assert_same_model(found, estimator)
        with jax.enable_x64(True):
            assert found.score(X, y) == estimator.score(X, y)


@pytest.mark.parametrize(
    ("solver", "kwargs"),
    [
        (None, {"tol": 1e-9, "maxiter": 7}),
        ("GradientDescent", {"stepsize": 0.1, "acceleration": False}),
        ("SVRG", {"batch_size": 3, "stepsize": np.float32(0.5)}),
    ],
)
def test_round_trip_of_solver_arguments(solver, kwargs, path):
    estimator = GLM(solver_name=solver, solver_kwargs=kwargs)
    assert_same_model(round_trip(estimator, path), estimator)


def test_random_key_of_a_solver_comes_back_as_its_numbers(path):
    key = jax.random.key(3)
    estimator = GLM(solver_name="SVRG", solver_kwargs={"key": key})
    found = round_trip(estimator, path).solver_kwargs["key"]
    # two keys are the same if they draw the same
    assert np.array_equal(jax.random.bits(jnp.asarray(found)), jax.random.bits(key))


def test_what_was_not_chosen_stays_open_after_loading(path):
    found = round_trip(GLM(), path)
    found.regularizer = "Lasso"
    assert found.solver_name == "ProximalGradient"
    assert found.regularizer_strength == 1.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ClassifierGLM(3).fit(X, CLASSES[:, 0])
        round_trip(ClassifierGLM(3), path).fit(X, CLASSES[:, 0])
    assert not caught  # no regularizer was named, so its default strength is not worth a word


def test_suffix_is_appended_and_paths_may_be_strings(tmp_path):
    GLM().save_params(str(tmp_path / "model"))
    assert repr(nmo.load_model(str(tmp_path / "model.npz"))) == repr(GLM())
    with pytest.raises(FileNotFoundError):
        nmo.load_model(tmp_path / "other.npz")
