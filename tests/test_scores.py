"""Scores, losses and simulated responses are those of independent formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faces import COUNTS, FACES, INTERCEPT, ONE_LABEL, SHOWN, Y, by_hand
from scipy import special, stats
from tables import COEF, N_NEURONS, N_SAMPLES, RESPONSES, X

import bayesglm as nmo
from bayesglm.glm import GLM, ClassifierGLM, PopulationGLM

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
