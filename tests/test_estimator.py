"""What the estimators do with their data: shapes, dtypes, missing values, scores, simulations, updates."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pynapple as nap
import pytest
from scipy import special, stats
from sklearn.exceptions import NotFittedError
from tables import COEF, FAMILY_LINKS, LABELS, N_FEATURES, N_NEURONS, N_SAMPLES, RESPONSES, X

import bayesglm as nmo
from bayesglm import solvers
from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM

Y = RESPONSES["Poisson"]
COUNTS = Y[:, 0]
ONE_LABEL = LABELS[:, 0]
TREE = {"slow": X[:, :1], "fast": [X[:, 1:3], X[:, 3:]]}
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


# dtypes


@pytest.fixture
def set_flag():
    """Set JAX's global flag, and put it back."""
    before = jax.config.jax_enable_x64
    yield lambda value: jax.config.update("jax_enable_x64", value)
    jax.config.update("jax_enable_x64", before)


def everything(estimator, rows, y):
    """Numbers of all public methods."""
    params = estimator.initialize_params(rows, y)
    found = {
        "coef_": estimator.coef_,
        "intercept_": estimator.intercept_,
        "scale_": estimator.scale_,
        "dof_resid_": estimator.dof_resid_,
        "initialize_params": params,
        "compute_loss": estimator.compute_loss(params, rows, y),
        "predict": estimator.predict(rows),
        "score": estimator.score(rows, y),
        "score by neuron": estimator.score(
            rows, y, aggregate_sample_scores=lambda s: jnp.mean(s, axis=0)
        ),
        "McFadden": estimator.score(rows, y, score_type="pseudo-r2-McFadden"),
        "Cohen": estimator.score(rows, y, score_type="pseudo-r2-Cohen"),
        "simulate": estimator.simulate(jax.random.key(0), rows)[1],
    }
    if hasattr(estimator, "predict_proba"):
        found["predict_proba"] = estimator.predict_proba(rows)
        found["proba"] = estimator.predict_proba(rows, return_type="proba")
    return found


PARAMETERS = {"coef_", "intercept_", "scale_", "dof_resid_", "initialize_params"}


@pytest.mark.parametrize("face", ["PopulationGLM", "ClassifierGLM"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_results_have_the_default_dtype_and_do_not_depend_on_the_flag(face, precision, set_flag):
    make, y, _ = FACES[face]
    rows = X.astype(precision)
    found = {}
    for flag, dtype in ((False, "float32"), (True, "float64")):
        set_flag(flag)
        estimator = make().fit(rows, y)
        found[flag] = everything(estimator, rows, y)
        assert jax.config.jax_enable_x64 is flag
        assert jnp.zeros(1).dtype == dtype
        for name, value in found[flag].items():
            # what is computed row by row from single precision may stay in it
            by_row = precision == "float32" and name not in PARAMETERS
            for leaf in jax.tree.leaves(value):
                labels = jnp.issubdtype(leaf.dtype, jnp.integer)
                assert labels or str(leaf.dtype) in {dtype, "float32" if by_row else dtype}, name
    for name, value in found[True].items():
        # the same numbers, rounded
        for one, other in zip(
            jax.tree.leaves(value), jax.tree.leaves(found[False][name]), strict=True
        ):
            np.testing.assert_array_equal(np.asarray(one).astype(other.dtype), other, err_msg=name)


@pytest.mark.parametrize("face", FACES)
def test_single_precision_agrees_with_double(face):
    make, y, _ = FACES[face]
    double, single = make().fit(X, y), make().fit(X.astype(np.float32), y)
    # single precision counts as converged at 1e-2 standard errors, which are about 0.1 here
    np.testing.assert_allclose(both(single), both(double), atol=2e-3)
    assert single.score(X, y) == pytest.approx(float(double.score(X, y)), abs=1e-4)


def test_integers_and_booleans_are_computed_in_double_precision():
    whole = np.round(2 * X)
    expected = GLM().fit(whole, COUNTS)
    np.testing.assert_array_equal(
        GLM().fit(whole.astype(int), COUNTS.astype(int)).coef_, expected.coef_
    )
    found = GLM("Bernoulli").fit(X > 0, COUNTS > 0)
    expected = GLM("Bernoulli").fit((X > 0).astype(float), (COUNTS > 0).astype(float))
    np.testing.assert_array_equal(found.coef_, expected.coef_)


# missing values


def with_holes():
    rows, y = X.copy(), Y.copy()
    rows[3, 1], rows[50, 0] = np.nan, np.inf
    # as many in each neuron, so that one compiled program serves all the single fits
    y[[7, 8, 90], [0, 1, 2]] = y[[9, 10, 11], [0, 1, 2]] = np.nan
    return rows, y


def test_missing_feature_drops_the_row_and_missing_response_the_neurons_bin_only():
    rows, y = with_holes()
    population = PopulationGLM("Gaussian").fit(rows, y)
    for k in range(N_NEURONS):
        kept = np.isfinite(rows).all(axis=1) & np.isfinite(y[:, k])
        alone = GLM("Gaussian").fit(rows[kept], y[kept, k])
        # both solved to 1e-6 standard errors, and shown in single precision
        np.testing.assert_allclose(population.coef_[:, k], alone.coef_, **SHOWN)
        np.testing.assert_allclose(population.intercept_[k], alone.intercept_[0], **SHOWN)
        np.testing.assert_allclose(population.scale_[k], alone.scale_[0], rtol=1e-5)
        assert population.dof_resid_[k] == alone.dof_resid_[0] == kept.sum() - N_FEATURES - 1


def test_missing_labels_are_left_out():
    y = ONE_LABEL.astype(float)
    y[[2, 60]] = np.nan
    found = ClassifierGLM(3).fit(X, y)
    expected = ClassifierGLM(3).fit(X, ONE_LABEL, sample_weight=np.isfinite(y))
    np.testing.assert_array_equal(both(found), both(expected))
    np.testing.assert_array_equal(found.classes_, [0, 1, 2])


def test_prediction_keeps_rows_with_missing_features():
    rows, y = with_holes()
    estimator = by_hand(PopulationGLM, COEF, INTERCEPT)
    found, whole = np.asarray(estimator.predict(rows)), np.asarray(estimator.predict(X))
    missing = ~np.isfinite(rows).all(axis=1)
    assert np.isnan(found[3]).all()
    assert not np.isfinite(found[50]).any() or np.isinf(rows[50]).any()
    np.testing.assert_array_equal(found[~missing], whole[~missing])
    _, rates = estimator.simulate(jax.random.key(0), X)
    np.testing.assert_array_equal(rates, whole)
    # the score leaves out what is missing
    used = np.isfinite(y) & ~missing[:, None]
    expected = stats.poisson.logpmf(Y, whole)[used].mean()
    assert estimator.score(rows, y) == pytest.approx(expected, rel=1e-6)


def test_classifier_warns_of_rows_without_a_most_probable_label():
    estimator = by_hand(FACES["ClassifierGLM"][0], COEF, INTERCEPT, classes=["a", "b", "c"])
    rows, _ = with_holes()
    with pytest.warns(RuntimeWarning, match="no most probable label"):
        labels = estimator.predict(rows)
    assert labels.shape == (N_SAMPLES,)
    assert np.isnan(np.asarray(estimator.predict_proba(rows))[3]).all()


# neurons that cannot be fitted


def test_silent_neuron_is_named_and_spoils_no_other():
    y = Y.copy()
    y[:, 1] = 0
    with pytest.warns(RuntimeWarning, match=r"Neurons 1: .*silent") as caught:
        population = PopulationGLM().fit(X, y)
    assert len(caught) == 1
    others = PopulationGLM().fit(X, y[:, [0, 2]])
    assert np.isnan(population.coef_[:, 1]).all()
    assert np.isnan(population.intercept_[1])
    # the same problem: neurons are independent, but sums over a batch of another size may round differently
    np.testing.assert_allclose(population.coef_[:, jnp.array([0, 2])], others.coef_, **SHOWN)
    np.testing.assert_allclose(population.dof_resid_[jnp.array([0, 2])], others.dof_resid_)
    with pytest.warns(RuntimeWarning, match="left out of the score: 1"):
        score = population.score(X, y)
    assert score == pytest.approx(float(others.score(X, y[:, [0, 2]])), rel=1e-5)
    per_neuron = population.score(X, y, aggregate_sample_scores=lambda s: jnp.mean(s, axis=0))
    assert np.isnan(per_neuron).tolist() == [False, True, False]
    drawn, rates = population.simulate(jax.random.key(0), X)
    for found in (population.predict(X), drawn, rates):
        assert np.isnan(found).all(axis=0).tolist() == [False, True, False]


def test_neuron_without_any_response_is_named():
    y = Y.copy()
    y[:, 2] = np.nan
    with pytest.warns(RuntimeWarning, match="Neurons 2: "):
        population = PopulationGLM().fit(X, y)
    assert np.isnan(population.coef_).any(axis=0).tolist() == [False, False, True]


def test_separated_responses_are_reported():
    y = (X[:, 0] > 0.1).astype(float)
    with pytest.warns(RuntimeWarning, match="separation") as caught:
        GLM("Bernoulli").fit(X, y)
    assert len(caught) == 1
    both_kinds = np.stack([RESPONSES["Bernoulli"][:, 0], y, RESPONSES["Bernoulli"][:, 2]], axis=1)
    with pytest.warns(RuntimeWarning, match=r"Neurons 1: .*separation"):
        population = PopulationGLM("Bernoulli").fit(X, both_kinds)
    alone = GLM("Bernoulli").fit(X, both_kinds[:, 0])
    np.testing.assert_allclose(population.coef_[:, 0], alone.coef_, **SHOWN)
    # a penalty makes the optimum finite
    GLM("Bernoulli", regularizer="Ridge", regularizer_strength=0.1).fit(X, y)


@pytest.mark.parametrize("solver", ["LBFGS", "GradientDescent", "BFGS", "NonlinearCG"])
def test_fit_out_of_steps_names_the_neurons_once(solver):
    estimator = PopulationGLM(solver_name=solver, solver_kwargs={"maxiter": 1})
    with pytest.warns(RuntimeWarning, match=r"Neurons 0, 1, 2: did not converge") as caught:
        estimator.fit(X, Y)
    assert len(caught) == 1
    state = estimator.solver_state_.stats
    assert state.reached_max_steps
    assert state.num_steps == 1
    assert not state.converged.any()
    assert np.isfinite(both(estimator)).all()


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


# scores

SCALES = np.array([0.7, 1.3, 0.4])
LOG_DENSITIES = {
    "Poisson": lambda y, mu: stats.poisson.logpmf(y, mu),
    "Gamma": lambda y, mu: stats.gamma.logpdf(y, 1 / SCALES, scale=mu * SCALES),
    "Gaussian": lambda y, mu: stats.norm.logpdf(y, mu, np.sqrt(SCALES)),
    "Bernoulli": lambda y, mu: stats.bernoulli.logpmf(y, mu),
    "NegativeBinomial": lambda y, mu: stats.nbinom.logpmf(y, 1 / 0.6, 1 / (1 + 0.6 * mu)),
}
DEVIANCES = {
    "Gamma": lambda y, mu: 2 * ((y - mu) / mu - np.log(y / mu)),
    "Gaussian": lambda y, mu: (y - mu) ** 2,
}


def scored(family):
    """A model with parameters by hand, and its means."""
    model = nmo.observation_models.NegativeBinomialObservations(0.6)
    estimator = PopulationGLM(model if family == "NegativeBinomial" else family)
    intercept = INTERCEPT + (3.0 if family == "Gamma" else 0.0)  # 1/x stays positive
    estimator.coef_, estimator.intercept_ = COEF, intercept
    estimator.scale_ = 0.6 if family == "NegativeBinomial" else SCALES
    eta = X @ COEF + intercept
    link = {"Gamma": lambda x: 1 / x, "Gaussian": lambda x: x, "Bernoulli": special.expit}
    return estimator, link.get(family, np.exp)(eta)


def deviance(family, y, mu):
    if family in DEVIANCES:
        return DEVIANCES[family](y, mu)
    return 2 * (LOG_DENSITIES[family](y, y) - LOG_DENSITIES[family](y, mu))


@pytest.mark.parametrize("family", LOG_DENSITIES)
def test_scores_are_those_of_independent_formulas(family):
    estimator, mu = scored(family)
    y = RESPONSES[family]
    null = np.broadcast_to(y.mean(axis=0), y.shape)
    log_density = LOG_DENSITIES[family]
    with np.errstate(divide="ignore", invalid="ignore"):
        cohen = 1 - deviance(family, y, mu).mean() / deviance(family, y, null).mean()
    expected = {
        "log-likelihood": log_density(y, mu).mean(),
        "pseudo-r2-McFadden": 1 - log_density(y, mu).mean() / log_density(y, null).mean(),
        "pseudo-r2-Cohen": cohen,
    }
    for score_type, value in expected.items():
        # shown in single precision; the differences from 1 lose a digit
        found = estimator.score(X, y, score_type=score_type)
        assert found == pytest.approx(value, rel=1e-6, abs=1e-6), score_type


def test_scores_of_classes_are_those_of_independent_formulas():
    estimator = by_hand(FACES["ClassifierGLM"][0], COEF, INTERCEPT, classes=[0, 1, 2])
    log_proba = special.log_softmax(X @ COEF + INTERCEPT, axis=1)
    model = log_proba[np.arange(N_SAMPLES), ONE_LABEL].mean()
    null = np.log(np.bincount(ONE_LABEL) / N_SAMPLES)[ONE_LABEL].mean()
    assert estimator.score(X, ONE_LABEL) == pytest.approx(model, rel=1e-6)
    for score_type in ("pseudo-r2-McFadden", "pseudo-r2-Cohen"):
        found = estimator.score(X, ONE_LABEL, score_type=score_type)
        assert found == pytest.approx(1 - model / null, rel=1e-5)


def test_scores_are_aggregated_as_asked():
    estimator, mu = scored("Poisson")
    each = stats.poisson.logpmf(Y, mu)
    mean = estimator.score(X, Y)
    assert mean.ndim == 0
    by_neuron = estimator.score(X, Y, aggregate_sample_scores=lambda s: jnp.mean(s, axis=0))
    assert by_neuron.ndim == 1
    np.testing.assert_allclose(by_neuron, each.mean(axis=0), rtol=1e-6)
    total = estimator.score(X, Y, aggregate_sample_scores=jnp.sum)
    assert total == pytest.approx(each.sum(), rel=1e-6)
    same = estimator.score(X, Y, aggregate_sample_scores=lambda s: jnp.mean(s))
    assert same == pytest.approx(float(mean), rel=1e-6)
    weights = np.arange(N_SAMPLES) % 3
    weighted = estimator.score(X, Y, sample_weight=weights)
    assert weighted == pytest.approx(np.average(each.mean(axis=1), weights=weights), rel=1e-6)
    single = by_hand(GLM, COEF[:, 0], INTERCEPT[:1])
    rows = single.score(X, COUNTS, aggregate_sample_scores=lambda s: s)
    np.testing.assert_allclose(rows, each[:, 0], rtol=1e-5, atol=1e-6)


def test_model_of_the_mean_has_no_pseudo_r2():
    estimator = by_hand(PopulationGLM, np.zeros((4, 3)), np.log(Y.mean(axis=0)))
    for score_type in ("pseudo-r2-McFadden", "pseudo-r2-Cohen"):
        # zero up to rounding: the two models are the same
        assert abs(estimator.score(X, Y, score_type=score_type)) < 1e-6


# loss

KERNELS = {
    "Poisson": lambda y, mu: mu - y * np.log(mu),
    "Gamma": lambda y, mu: y / mu + np.log(mu),
    "Gaussian": lambda y, mu: (y - mu) ** 2,
    "Bernoulli": lambda y, mu: -special.xlogy(y, mu) - special.xlog1py(1 - y, -mu),
    "NegativeBinomial": lambda y, mu: (
        (y + 1 / 0.6) * np.log1p(0.6 * mu) - special.xlogy(y, 0.6 * mu)
    ),
}


@pytest.mark.parametrize("family", KERNELS)
def test_loss_is_the_documented_one_summed_over_neurons(family):
    estimator, mu = scored(family)
    y = RESPONSES[family].copy()
    params = (estimator.coef_, estimator.intercept_)
    expected = KERNELS[family](y, mu).mean(axis=0).sum()
    # the parameters were shown, and so rounded, in single precision
    assert estimator.compute_loss(params, X, y) == pytest.approx(expected, rel=1e-5)
    penalised = PopulationGLM(
        estimator.observation_model, regularizer="Ridge", regularizer_strength=9.0
    )
    assert penalised.compute_loss(params, X, y) == estimator.compute_loss(params, X, y)
    y[:5] = np.nan
    expected = KERNELS[family](y[5:], mu[5:]).mean(axis=0).sum()
    assert estimator.compute_loss(params, X, y) == pytest.approx(expected, rel=1e-5)


def test_loss_of_classes_is_the_cross_entropy():
    estimator = ClassifierGLM(3).set_classes(["a", "b", "c"])
    log_proba = special.log_softmax(X @ COEF + INTERCEPT, axis=1)
    labels = np.array(["a", "b", "c"])[ONE_LABEL]
    found = estimator.compute_loss((COEF, INTERCEPT), X, labels)
    assert found == pytest.approx(-log_proba[np.arange(N_SAMPLES), ONE_LABEL].mean(), rel=1e-6)


def test_fit_minimises_the_loss():
    estimator = PopulationGLM().fit(X, Y)
    best = estimator.compute_loss((estimator.coef_, estimator.intercept_), X, Y)
    assert best < estimator.compute_loss((COEF, INTERCEPT), X, Y)
    assert best < estimator.compute_loss(estimator.initialize_params(X, Y), X, Y)


# simulation


@pytest.mark.parametrize("family", LOG_DENSITIES)
def test_simulated_responses_have_the_mean_and_variance_of_the_model(family):
    estimator, mu = scored(family)
    rows = np.repeat(X, 20, axis=0)
    mu = np.repeat(mu, 20, axis=0)
    drawn, rates = map(np.asarray, estimator.simulate(jax.random.key(3), rows))
    np.testing.assert_allclose(rates, mu, **SHOWN)
    variance = {
        "Poisson": mu, "Gamma": SCALES * mu**2, "Gaussian": SCALES + 0 * mu,
        "Bernoulli": mu * (1 - mu), "NegativeBinomial": mu + 0.6 * mu**2,
    }[family]  # fmt: skip
    z = (drawn - mu) / np.sqrt(variance)
    # 4000 standardised residuals a neuron: their mean has standard error 0.016, the mean of their squares at
    # most sqrt(kurtosis / 4000), about 0.06 with the heaviest tail here; five of each for any draw
    assert np.abs(z.mean(axis=0)).max() < 5 * 0.016
    assert np.abs((z**2).mean(axis=0) - 1).max() < 5 * 0.06
    estimator.observation_model.check_support(drawn.astype(float))
    again, _ = estimator.simulate(jax.random.key(3), rows)
    other, _ = estimator.simulate(jax.random.key(4), rows)
    np.testing.assert_array_equal(again, drawn)
    assert np.any(np.asarray(other) != drawn)


def test_simulated_labels_follow_the_probabilities():
    make = FACES["ClassifierPopulationGLM"][0]
    coef = np.stack([COEF, COEF[::-1], -COEF], axis=1)
    intercept = np.stack([INTERCEPT, -INTERCEPT, INTERCEPT[::-1]])
    estimator = by_hand(make, coef, intercept, classes=["a", "b", "c"])
    rows = np.repeat(X, 20, axis=0)
    labels, log_prob = estimator.simulate(jax.random.key(0), rows)
    assert labels.shape == log_prob.shape == (len(rows), N_NEURONS)
    every = np.asarray(estimator.predict_proba(rows))
    index = np.searchsorted(estimator.classes_, labels)
    np.testing.assert_array_equal(log_prob, np.take_along_axis(every, index[..., None], -1)[..., 0])
    # shares of 4000 draws have standard errors below 0.008; five of them
    share = (index[..., None] == np.arange(3)).mean(axis=0)
    assert np.abs(share - np.exp(every).mean(axis=0)).max() < 5 * 0.008


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


# updates

STREAMS = [
    ("GLM", "LBFGS", "Ridge", {}),
    ("PopulationGLM", "LBFGS", "Ridge", {}),
    ("GLM", "GradientDescent", "Ridge", {}),
    ("PopulationGLM", "ProximalGradient", "Lasso", {}),
    ("PopulationGLM", "SVRG", "Ridge", {"stepsize": 0.05}),
    ("GLM", "ProxSVRG", "Lasso", {"stepsize": 0.05}),
]


def objective(estimator, params, rows, y):
    weight = (
        0.5 * np.square(params[0]) if "Ridge" in repr(estimator.regularizer) else np.abs(params[0])
    )
    return float(estimator.compute_loss(params, rows, y)) + 0.02 * float(np.sum(weight))


@pytest.mark.parametrize(("face", "solver", "regularizer", "kwargs"), STREAMS)
def test_updates_on_a_stream_move_to_the_optimum(face, solver, regularizer, kwargs):
    make, y, _ = FACES[face]
    config = {"regularizer": regularizer, "regularizer_strength": 0.02}
    estimator = make(**config, solver_name=solver, solver_kwargs=kwargs)
    params = estimator.initialize_params(X, y)
    state = estimator.initialize_optimizer_and_state(params, X, y)
    start = objective(estimator, params, X, y)
    best = make(**config).fit(X, y)
    optimum = objective(best, (best.coef_, best.intercept_), X, y)
    batches = [(X[::2], y[::2]), (X[1::2], y[1::2])]
    for i in range(30):
        params, state = estimator.update(params, state, *batches[i % 2], n_samples=N_SAMPLES)
        assert estimator.solver_state_ is state
        np.testing.assert_array_equal(estimator.coef_, params[0])
        np.testing.assert_array_equal(estimator.intercept_, params[1])
    end = objective(estimator, params, X, y)
    # halves of the data pull to optima of their own, so the stream ends near the joint one, not at it
    assert end - optimum < 0.35 * (start - optimum)
    assert estimator.scale_ is not None
    assert np.all(np.asarray(estimator.dof_resid_) < N_SAMPLES)
    assert np.shape(estimator.predict(X)) == y.shape


@pytest.mark.parametrize("solver", ["LBFGS", "GradientDescent", "ProximalGradient"])
def test_updates_on_all_rows_reach_the_fit(solver):
    estimator = GLM(solver_name=solver)
    params = estimator.initialize_params(X, COUNTS)
    state = estimator.initialize_optimizer_and_state(params, X, COUNTS)
    for _ in range(60):
        params, state = estimator.update(params, state, X, COUNTS)
    best = GLM().fit(X, COUNTS)
    # a hundredth of the standard errors, which are about 0.07
    np.testing.assert_allclose(both(estimator), both(best), atol=1e-3)
    np.testing.assert_allclose(estimator.dof_resid_, best.dof_resid_)


def test_update_leaves_out_missing_rows():
    rows, y = with_holes()
    filled = np.where(np.isfinite(rows), rows, 9.0)
    seen = np.isfinite(rows).all(axis=1)[:, None] & np.isfinite(y)
    results = []
    # a row without one of its features is a row without responses
    for data in ((rows, y), (filled, np.where(seen, y, np.nan))):
        estimator = PopulationGLM()
        params = estimator.initialize_params(*data)
        state = estimator.initialize_optimizer_and_state(params, *data)
        params, state = estimator.update(params, state, *data)
        assert np.isfinite(both(estimator)).all()
        results.append(both(estimator))
    np.testing.assert_array_equal(*results)


def test_number_of_samples_of_an_update_sets_the_degrees_of_freedom():
    estimator = GLM()
    params = estimator.initialize_params(X, COUNTS)
    state = estimator.initialize_optimizer_and_state(params, X, COUNTS)
    estimator.update(params, state, X, COUNTS, n_samples=1000)
    assert estimator.dof_resid_.tolist() == [1000 - N_FEATURES - 1]
    estimator.update(params, state, X, COUNTS)
    assert estimator.dof_resid_.tolist() == [N_SAMPLES - N_FEATURES - 1]


def test_optimizer_functions_do_what_the_methods_do():
    estimator = GLM()
    params = estimator.initialize_params(X, COUNTS)
    estimator.initialize_optimizer_and_state(params, X, COUNTS)
    assert isinstance(estimator.solver, solvers.LBFGS)
    state = estimator.optimizer_init_state(params, X, COUNTS)
    (coef, intercept), state, aux = estimator.optimizer_update(params, state, X, COUNTS)
    assert aux is None
    assert estimator.coef_ is None  # unlike `update`
    (again, _), _ = estimator.update(
        params, estimator.optimizer_init_state(params, X, COUNTS), X, COUNTS
    )
    np.testing.assert_array_equal(coef, again)
    (coef, intercept), state, aux = estimator.optimizer_run(params, X, COUNTS)
    best = GLM().fit(X, COUNTS)
    np.testing.assert_array_equal(np.append(coef, intercept), both(best))
    assert aux is None
    assert state.iter_num == best.solver_state_.iter_num


def test_solver_spec_names_the_solver():
    spec = GLM(regularizer="Lasso", regularizer_strength=1.0).solver_spec
    assert (spec.algo_name, spec.implementation) == ("ProximalGradient", solvers.ProximalGradient)
    assert GLM(solver_name=spec.full_name.replace("ProximalGradient", "BFGS")).solver_name == "BFGS"
    assert GLM().solver_name == "LBFGS"


# pynapple

TIME = np.arange(N_SAMPLES) * 0.5
SUPPORT = nap.IntervalSet([0.0, 60.0], [50.0, 100.0])


def on_time(values, **keywords):
    kind = nap.Tsd if values.ndim == 1 else nap.TsdFrame
    return kind(t=TIME, d=values, time_support=SUPPORT, **keywords)


def assert_on_time(found, values):
    rows = on_time(X)
    assert isinstance(found, (nap.Tsd, nap.TsdFrame, nap.TsdTensor))
    np.testing.assert_array_equal(found.t, rows.t)
    np.testing.assert_array_equal(found.time_support.values, rows.time_support.values)
    np.testing.assert_array_equal(np.asarray(found.d), values)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("structure", ["frame", "dict"])
def test_time_series_in_gives_time_series_out(face, structure):
    make, _, outputs = FACES[face]
    coef = np.resize(COEF, (4, *outputs))
    intercept = np.zeros(outputs or 1)
    classes = [0, 1, 2] if "Classifier" in face else None
    rows, plain = on_time(X), np.asarray(on_time(X).d)
    if structure == "dict":
        rows = {"a": on_time(X[:, :3]), "b": on_time(X[:, 3:])}
        plain = {key: np.asarray(value.d) for key, value in rows.items()}
        coef = {"a": coef[:3], "b": coef[3:]}
    estimator = by_hand(make, coef, intercept, 1.0, classes)
    assert_on_time(estimator.predict(rows), estimator.predict(plain))
    key = jax.random.key(0)
    for mine, theirs in zip(
        estimator.simulate(key, rows), estimator.simulate(key, plain), strict=True
    ):
        assert_on_time(mine, theirs)
    if classes:
        assert_on_time(estimator.predict_proba(rows), estimator.predict_proba(plain))
    assert isinstance(estimator.predict(plain), jax.Array)


def test_columns_and_metadata_of_the_responses_come_back():
    y = on_time(Y, columns=["x", "y", "z"], metadata={"area": ["V1", "V1", "MT"]})
    estimator = PopulationGLM().fit(on_time(X), y)
    alone = PopulationGLM().fit(np.asarray(on_time(X).d), np.asarray(y.d))
    np.testing.assert_array_equal(estimator.coef_, alone.coef_)
    for found in (
        estimator.predict(on_time(X)),
        *estimator.simulate(jax.random.key(0), on_time(X)),
    ):
        assert list(found.columns) == ["x", "y", "z"]
        assert list(found["area"]) == ["V1", "V1", "MT"]
    assert estimator.score(on_time(X), y) == alone.score(np.asarray(on_time(X).d), np.asarray(y.d))


def test_no_warning_is_hidden_in_a_plain_fit():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for make, y, _ in FACES.values():
            make().fit(X, y)
    assert not caught
