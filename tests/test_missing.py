"""Missing values are left out, and neurons that cannot be fitted are named and spoil no other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faces import FACES, INTERCEPT, ONE_LABEL, SHOWN, Y, both, by_hand, with_holes
from scipy import stats
from tables import COEF, N_FEATURES, N_NEURONS, N_SAMPLES, RESPONSES, X

from bayesglm.glm import GLM, ClassifierGLM, PopulationGLM


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
