"""What the estimators do with their data: shapes, parameters set by hand, starts, refits, labels."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from faces import COUNTS, FACES, INTERCEPT, ONE_LABEL, SHOWN, Y, both, by_hand
from scipy import special, stats
from sklearn.exceptions import NotFittedError
from tables import COEF, FAMILY_LINKS, N_FEATURES, N_NEURONS, N_SAMPLES, RESPONSES, X

from bayesglm.glm import GLM, ClassifierGLM, PopulationGLM

TREE = {"slow": X[:, :1], "fast": [X[:, 1:3], X[:, 3:]]}


# attributes and shapes


@pytest.mark.parametrize("face", FACES)
def test_nothing_is_fitted_at_first(face):
    estimator = FACES[face][0]()
    for name in ("coef_", "intercept_", "scale_", "dof_resid_", "solver_state_", "aux_", "solver"):
        assert getattr(estimator, name) is None
    for name in ("optimizer_init_state", "optimizer_update", "optimizer_run"):
        assert getattr(estimator, name) is None
    assert getattr(estimator, "classes_", None) is None
    assert isinstance(estimator, GLM)
    assert isinstance(estimator, PopulationGLM) == ("Population" in face)


@pytest.mark.parametrize("structure", ["array", "pytree"])
@pytest.mark.parametrize("face", FACES)
def test_fit_gives_the_documented_shapes(face, structure):
    make, y, outputs = FACES[face]
    rows = X if structure == "array" else TREE
    estimator = make()
    assert estimator.fit(rows, y) is estimator
    assert jax.tree.map(np.shape, estimator.coef_) == jax.tree.map(
        lambda leaf: (leaf.shape[1], *outputs), rows
    )
    assert estimator.intercept_.shape == (outputs or (1,))
    assert estimator.scale_.shape == estimator.dof_resid_.shape == (y.shape[1:] or (1,))
    assert isinstance(estimator.intercept_, jax.Array)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(estimator.coef_))
    assert estimator.predict(rows).shape == y.shape
    assert estimator.score(rows, y).shape == ()
    for drawn in estimator.simulate(jax.random.key(1), rows):
        assert drawn.shape == y.shape
    if face.startswith("Classifier"):
        assert estimator.predict_proba(rows).shape == (*y.shape, 3)
    state = estimator.solver_state_
    assert state.stats.converged.all()
    assert state.stats.num_steps > 0
    assert not state.stats.reached_max_steps
    assert isinstance(estimator.solver, estimator.solver_spec.implementation)


def test_pytree_is_fitted_as_its_concatenation():
    for face in FACES:
        make, y, _ = FACES[face]
        tree, matrix = (
            make().fit(TREE, y),
            make().fit(np.hstack([TREE["fast"][0], TREE["fast"][1], TREE["slow"]]), y),
        )
        # leaves come in the order of sorted keys, so the two see the very same matrix
        np.testing.assert_array_equal(
            np.concatenate(jax.tree.leaves(tree.coef_)), np.asarray(matrix.coef_)
        )


def test_lists_and_data_frames_are_arrays():
    expected = GLM().fit(X, COUNTS)
    frame = pd.DataFrame(X, columns=list("abcd"))
    series = pd.Series(COUNTS)
    for rows, y in ((X.tolist(), COUNTS.tolist()), (frame, series), (jnp.asarray(X), COUNTS)):
        found = GLM().fit(rows, y)
        # jnp.asarray rounds to single precision; its fit stops within 1e-2 standard errors, about 1e-3
        tolerance = 1e-3 if isinstance(rows, jax.Array) else 0
        np.testing.assert_allclose(both(found), both(expected), atol=tolerance, rtol=0)
        assert found.predict(rows).shape == COUNTS.shape
    frames = PopulationGLM().fit(frame, pd.DataFrame(Y))
    np.testing.assert_array_equal(frames.coef_, PopulationGLM().fit(X, Y).coef_)


# parameters set by hand


def test_parameters_set_by_hand_serve_prediction():
    eta = X @ COEF + INTERCEPT
    population = by_hand(PopulationGLM, COEF, INTERCEPT)
    np.testing.assert_allclose(population.predict(X), np.exp(eta), **SHOWN)
    single = by_hand(GLM, COEF[:, 0], INTERCEPT[:1])
    np.testing.assert_allclose(single.predict(X), np.exp(eta[:, 0]), **SHOWN)
    classes = by_hand(FACES["ClassifierGLM"][0], COEF, INTERCEPT, classes=["a", "b", "c"])
    np.testing.assert_array_equal(classes.predict(X), np.array(["a", "b", "c"])[eta.argmax(axis=1)])
    np.testing.assert_allclose(classes.predict_proba(X), special.log_softmax(eta, axis=1), **SHOWN)
    proba = classes.predict_proba(X, return_type="proba")
    np.testing.assert_allclose(proba, special.softmax(eta, axis=1), **SHOWN)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILY_LINKS)
def test_every_link_maps_the_predictor_to_the_mean(family):
    links = {
        "exp": np.exp, "softplus": lambda x: np.logaddexp(0, x), "identity": lambda x: x,
        "logistic": special.expit, "norm_cdf": special.ndtr, "one_over_x": lambda x: 1 / x,
    }  # fmt: skip
    eta = X @ COEF + 3.0
    for link in FAMILY_LINKS[family]:
        estimator = PopulationGLM(family, link)
        estimator.coef_, estimator.intercept_ = COEF, np.full(N_NEURONS, 3.0)
        np.testing.assert_allclose(estimator.predict(X), links[link](eta), rtol=2e-6, atol=1e-6)


def test_to_take_the_coefficients_away_is_to_forget_the_fit():
    estimator = GLM("Gaussian").fit(X, RESPONSES["Gaussian"][:, 0])
    estimator.coef_ = None
    assert estimator.scale_ is estimator.dof_resid_ is estimator.solver_state_ is None
    with pytest.raises(NotFittedError):
        estimator.predict(X)


def test_mask_hides_coefficients_set_by_hand():
    mask = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 1], [1, 1, 0]])
    estimator = PopulationGLM(feature_mask=mask)
    estimator.coef_, estimator.intercept_ = COEF, INTERCEPT
    np.testing.assert_allclose(estimator.predict(X), np.exp(X @ (COEF * mask) + INTERCEPT), **SHOWN)


def test_offset_is_added_to_the_predictor():
    offset = np.linspace(-1, 1, N_SAMPLES)
    estimator = by_hand(PopulationGLM, COEF, INTERCEPT)
    rate = np.exp(X @ COEF + INTERCEPT + offset[:, None])
    np.testing.assert_allclose(estimator.predict(X, offset=offset), rate, **SHOWN)
    scores = estimator.score(X, Y, offset=offset)
    assert scores == pytest.approx(stats.poisson.logpmf(Y, rate).mean(), rel=1e-6)
    _, rates = estimator.simulate(jax.random.key(0), X, offset=offset)
    np.testing.assert_allclose(rates, rate, **SHOWN)


# starts, weights, refitting


def test_initial_parameters_lead_to_the_same_optimum():
    expected = PopulationGLM().fit(X, Y)
    start = (COEF + 0.3, INTERCEPT - 0.5)
    np.testing.assert_allclose(both(PopulationGLM().fit(X, Y, start)), both(expected), **SHOWN)
    again = PopulationGLM().fit(X, Y, init_params=(expected.coef_, expected.intercept_))
    assert again.solver_state_.iter_num <= expected.solver_state_.iter_num


def test_initial_parameters_are_zero_and_match_the_mean_response():
    for make, y, outputs in FACES.values():
        estimator = make()
        if hasattr(estimator, "n_classes"):
            estimator.set_classes(y)
        coef, intercept = estimator.initialize_params(TREE, y)
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(coef))
        assert intercept.shape == (outputs or (1,))
        if hasattr(estimator, "n_classes"):
            share = np.mean(y[..., None] == np.arange(3), axis=0)
            np.testing.assert_allclose(special.softmax(intercept, axis=-1), share, rtol=1e-6)
            np.testing.assert_allclose(np.sum(intercept, axis=-1), 0, atol=1e-6)
        else:
            np.testing.assert_allclose(np.exp(intercept), np.atleast_1d(y.mean(axis=0)), rtol=1e-6)


def test_second_fit_replaces_the_first():
    estimator = PopulationGLM().fit(X, Y)
    estimator.fit(X[::-1], Y[:, ::-1])
    expected = PopulationGLM().fit(X[::-1], Y[:, ::-1])
    np.testing.assert_array_equal(both(estimator), both(expected))
    classifier = ClassifierGLM(3).fit(X, ONE_LABEL)
    classifier.fit(X, np.array(["a", "b", "c"])[ONE_LABEL])
    assert classifier.classes_.tolist() == ["a", "b", "c"]


def test_neuron_with_all_features_masked_has_its_mean_only():
    mask = np.ones((N_FEATURES, N_NEURONS))
    mask[:, 1] = 0
    estimator = PopulationGLM(feature_mask=mask).fit(X, Y)
    assert np.all(estimator.coef_[:, 1] == 0)
    np.testing.assert_allclose(np.exp(estimator.intercept_[1]), Y[:, 1].mean(), rtol=1e-6)
    assert estimator.dof_resid_.tolist() == [N_SAMPLES - 5, N_SAMPLES - 1, N_SAMPLES - 5]


def test_default_strength_is_announced_if_a_regularizer_was_named():
    with pytest.warns(UserWarning, match="regularizer_strength.*Ridge.*1.0"):
        found = GLM(regularizer="Ridge").fit(X, COUNTS)
    expected = GLM(regularizer="Ridge", regularizer_strength=1.0).fit(X, COUNTS)
    np.testing.assert_array_equal(found.coef_, expected.coef_)


# labels


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "b", "c"],
        [5, 10, 15],
        [-1, 0, 1],
        [0.0, 1.0, 2.0],
        [0.5, 1.5, 7.25],
        np.array([b"x", b"y", b"z"]),
        np.array(["u", "v", "w"], dtype=object),
        np.array([1, 2, 255], dtype=np.uint8),
    ],
    ids=["strings", "steps", "signed", "integral floats", "floats", "bytes", "objects", "unsigned"],
)
def test_fit_does_not_depend_on_what_the_classes_are_called(labels):
    labels = np.asarray(labels)
    expected = ClassifierGLM(3).fit(X, ONE_LABEL)
    found = ClassifierGLM(3).fit(X, labels[ONE_LABEL])
    np.testing.assert_array_equal(both(found), both(expected))
    np.testing.assert_array_equal(found.classes_, labels)
    np.testing.assert_array_equal(found.predict(X), labels[np.asarray(expected.predict(X))])
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    assert found.score(X, labels[ONE_LABEL]) == expected.score(X, ONE_LABEL)
    mine, _ = found.simulate(jax.random.key(0), X)
    theirs, _ = expected.simulate(jax.random.key(0), X)
    np.testing.assert_array_equal(mine, labels[np.asarray(theirs)])


def test_columns_follow_the_order_of_the_labels():
    order = np.array([2, 0, 1])
    expected = ClassifierGLM(3).fit(X, ONE_LABEL)
    found = ClassifierGLM(3).fit(X, np.array(["a", "b", "c"])[order[ONE_LABEL]])
    # the same optimum, to 1e-6 standard errors, seen in single precision
    np.testing.assert_allclose(found.coef_[:, order], expected.coef_, **SHOWN)


def test_booleans_are_two_classes():
    parameters = (lambda: ClassifierGLM(2), COEF[:, :2], INTERCEPT[:2])
    found = by_hand(*parameters, classes=ONE_LABEL > 0).predict(X)
    expected = by_hand(*parameters, classes=[0, 1]).predict(X)
    assert found.dtype == bool
    assert jnp.issubdtype(expected.dtype, jnp.integer)
    np.testing.assert_array_equal(found, expected)


def test_new_number_of_classes_forgets_the_labels():
    estimator = ClassifierGLM(2).set_classes([0, 1])
    estimator.n_classes = np.array([3.0])
    assert estimator.n_classes == 3
    assert estimator.classes_ is None
    estimator.classes_ = ["a", "b", "c"]
    assert estimator.classes_.tolist() == ["a", "b", "c"]
    estimator.classes_ = None
    assert estimator.classes_ is None


def test_batches_may_lack_classes_once_they_are_set():
    estimator = ClassifierGLM(3).set_classes(["a", "b", "c"])
    labels = np.array(["a", "b"])[(ONE_LABEL > 0).astype(int)]
    params = estimator.initialize_params(X, labels)
    state = estimator.initialize_optimizer_and_state(params, X, labels)
    assert estimator.classes_.tolist() == ["a", "b", "c"]
    (coef, _), _ = estimator.update(params, state, X, labels)
    assert np.isfinite(coef).all()


def test_initialisation_of_the_solver_infers_classes_where_they_are_unset():
    estimator = ClassifierGLM(3)
    params = (np.zeros((4, 3)), np.zeros(3))
    estimator.initialize_optimizer_and_state(params, X, np.array([5, 10, 15])[ONE_LABEL])
    assert estimator.classes_.tolist() == [5, 10, 15]


def test_no_warning_is_hidden_in_a_plain_fit():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for make, y, _ in FACES.values():
            make().fit(X, y)
    assert not caught
