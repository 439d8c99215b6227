"""The dispersion of a negative binomial is estimated where that is asked for, and held where a number is given."""

import warnings

import jax
import numpy as np
import pytest
import statsmodels.api as sm
import tables
from reference import fitted
from scipy import optimize, stats
from sklearn.base import clone

import bayesglm as nmo

X, N, NEURONS = tables.X, tables.N_SAMPLES, tables.N_NEURONS
Y = tables.RESPONSES["NegativeBinomial"]
NegativeBinomial = nmo.observation_models.NegativeBinomialObservations
#: Fits stop at 1e-6 standard errors, which are about 0.1 for coefficients and 0.3 for the log of the dispersion.
ATOL = 1e-6


def population(kind="UnRegularized", scale="estimate"):
    strength = tables.REGULARIZERS[kind]
    return nmo.glm.PopulationGLM(NegativeBinomial(scale), None, kind, strength)


def scale_of(model):
    with jax.enable_x64(True):
        return np.asarray(model.scale_)


@pytest.mark.oracle
def test_estimates_are_those_of_statsmodels():
    """Its optimiser is given a start at ours, and tightened; it ends at 1e-5 at most of the maximum."""
    model = population().fit(X, Y)
    coef, intercept = fitted(model)
    for k in range(NEURONS):
        start = np.r_[intercept[k], coef[:, k], scale_of(model)[k]]
        problem = sm.NegativeBinomial(Y[:, k], sm.add_constant(X), loglike_method="nb2")
        found = problem.fit(
            start_params=0.9 * start,
            method="bfgs",
            gtol=1e-7,
            maxiter=500,
            disp=0,
            warn_convergence=False,
        )
        np.testing.assert_allclose(start, found.params, rtol=1e-4, atol=1e-5)
        own = nmo.glm.GLM(NegativeBinomial("estimate")).fit(X, Y[:, k])
        np.testing.assert_allclose(float(own.score(X, Y[:, k])) * N, found.llf, rtol=1e-6)


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_coefficients_and_dispersion_are_optimal_given_each_other(kind):
    """The dispersion maximises SciPy's likelihood at the coefficients, which are those of a fit that holds it."""
    model = population(kind).fit(X, Y)
    coef, intercept = fitted(model)
    for k in range(NEURONS):
        scale = scale_of(model)[k]
        mean = np.exp(X @ coef[:, k] + intercept[k])

        def energy(log_scale, mean=mean, y=Y[:, k]):
            size = np.exp(-log_scale)
            return -np.sum(stats.nbinom.logpmf(y, size, size / (size + mean)))

        best = optimize.minimize_scalar(energy, bracket=(-1, 1), options={"xtol": 1e-10})
        # the minimum of a function is known to the root of its rounding
        np.testing.assert_allclose(np.log(scale), best.x, atol=1e-5)
        held = nmo.glm.GLM(NegativeBinomial(scale), None, kind, tables.REGULARIZERS[kind])
        held.fit(X, Y[:, k])
        np.testing.assert_allclose(fitted(held)[0], coef[:, k], rtol=0, atol=ATOL)
        np.testing.assert_allclose(fitted(held)[1], intercept[[k]], rtol=0, atol=ATOL)


def test_a_population_has_the_dispersions_of_its_neurons(rng):
    """With weights and offsets: a weight of two is a row twice."""
    weight, offset = rng.permutation(np.repeat([0, 1, 2], [50, 100, 50])), 0.3 * rng.normal(size=N)
    together = population().fit(X, Y, sample_weight=weight, offset=offset)
    rows = np.repeat(np.arange(N), weight)
    for k in range(NEURONS):
        alone = nmo.glm.GLM(NegativeBinomial("estimate"))
        alone.fit(X[rows], Y[rows, k], offset=offset[rows])
        np.testing.assert_allclose(scale_of(alone), scale_of(together)[[k]], rtol=ATOL * 10)
        np.testing.assert_allclose(fitted(alone)[0], fitted(together)[0][:, k], rtol=0, atol=ATOL)


def test_counts_without_overdispersion_are_poisson_at_the_documented_bound(rng):
    y = rng.binomial(4, 0.25, size=(N, NEURONS)).astype(float)  # less than Poisson variance
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = population().fit(X, y)
    np.testing.assert_allclose(scale_of(model), 1e-6, rtol=1e-9)
    poisson = nmo.glm.PopulationGLM().fit(X, y)
    # a dispersion of 1e-6 changes the variance of these counts by a millionth
    np.testing.assert_allclose(fitted(model)[0], fitted(poisson)[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.score(X, y), poisson.score(X, y), rtol=1e-4)


def test_a_silent_neuron_leaves_the_dispersions_of_the_others_as_they_are():
    plain = scale_of(population().fit(X, Y))
    with pytest.warns(RuntimeWarning, match="Neurons 1: could not be fitted"):
        model = population().fit(X, Y * [1, 0, 1])
    np.testing.assert_allclose(scale_of(model)[[0, 2]], plain[[0, 2]], rtol=ATOL)
    assert np.isnan(scale_of(model)[1])


def test_scores_and_simulations_use_the_estimate():
    model = population().fit(X, Y)
    held = population(scale=1.0).fit(X, Y)
    mean = np.asarray(model.predict(X), float)
    size = 1 / scale_of(model)
    expected = stats.nbinom.logpmf(Y, size, size / (size + mean)).mean()
    np.testing.assert_allclose(model.score(X, Y), expected, rtol=1e-5)
    assert model.score(X, Y) > held.score(X, Y)
    deviance = lambda mu: np.sum(  # noqa: E731
        stats.nbinom.logpmf(Y, size, size / (size + np.maximum(Y, 1e-300)))
        - stats.nbinom.logpmf(Y, size, size / (size + mu))
    )
    cohen = 1 - deviance(mean) / deviance(np.broadcast_to(Y.mean(axis=0), Y.shape))
    np.testing.assert_allclose(model.score(X, Y, "pseudo-r2-Cohen"), cohen, rtol=1e-4)
    draws, _ = model.simulate(jax.random.key(0), np.repeat(X[:1], 20_000, axis=0))
    variance = mean[0] + scale_of(model) * mean[0] ** 2
    # the standard error of a variance of 20,000 draws with this kurtosis is 3 per cent at most
    np.testing.assert_allclose(np.var(draws, axis=0), variance, rtol=0.15)


def test_the_estimate_travels_with_the_estimator(tmp_path):
    model = nmo.glm.GLM(NegativeBinomial("estimate")).fit(X, Y[:, 0])
    assert "scale='estimate'" in repr(model)
    assert clone(model).observation_model.scale == "estimate"
    assert model.get_params()["observation_model__scale"] == "estimate"
    model.save_params(tmp_path / "model.npz")
    loaded = nmo.load_model(tmp_path / "model.npz")
    assert loaded.observation_model.scale == "estimate"
    np.testing.assert_array_equal(scale_of(loaded), scale_of(model))
    np.testing.assert_allclose(loaded.score(X, Y[:, 0]), model.score(X, Y[:, 0]), rtol=1e-12)
    other = clone(model).set_params(observation_model__scale=2.0).fit(X, Y[:, 0])
    assert float(other.scale_) == 2.0


def test_where_the_dispersion_comes_from_is_said():
    assert "not estimated" in NegativeBinomial().scale_origin
    assert "estimated" in NegativeBinomial("estimate").scale_origin
    assert "residuals" in nmo.observation_models.GammaObservations().scale_origin
    assert repr(NegativeBinomial(0.5)) == "NegativeBinomialObservations(scale=0.5)"


def test_what_needs_the_dispersion_before_a_fit_says_so():
    model = nmo.glm.GLM(NegativeBinomial("estimate"))
    params = (np.zeros(X.shape[1]), np.zeros(1))
    with pytest.raises(ValueError, match="known after `fit` only"):
        model.compute_loss(params, X, Y[:, 0])
    with pytest.raises(ValueError, match="known after `fit` only"):
        model.initialize_optimizer_and_state(params, X, Y[:, 0])
    with pytest.raises(ValueError, match="known after `fit` only"):
        model.observation_model.log_likelihood(Y, np.ones_like(Y))
    model.fit(X, Y[:, 0])
    held = nmo.glm.GLM(NegativeBinomial(float(scale_of(model)[0])))
    np.testing.assert_allclose(
        model.compute_loss(params, X, Y[:, 0]), held.compute_loss(params, X, Y[:, 0]), rtol=1e-6
    )


def test_the_family_estimates_the_dispersion_at_given_means():
    model = population().fit(X, Y)
    with jax.enable_x64(True):
        found = model.observation_model.estimate_scale(Y, model.predict(X), None)
        np.testing.assert_allclose(found, scale_of(model), rtol=1e-4)


def test_sampling_starts_from_the_estimate_and_samples_the_dispersion():
    model = nmo.glm.GLM(NegativeBinomial("estimate"))
    how = {"method": "laplace", "num_samples": 200, "num_chains": 2, "progress_bar": False}
    model.sample_posterior(X, Y[:, 0], **how)
    drawn = np.log(model.posterior_["posterior"]["scale"].values)
    # the prior is weak; the standard deviation of the log is about 0.2
    assert abs(drawn.mean() - np.log(scale_of(model)[0])) < 2 * drawn.std()
    assert np.isfinite(model.predict_interval(X[:5])).all()
    plugin = nmo.glm.GLM(NegativeBinomial("estimate"))
    plugin.sample_posterior(X, Y[:, 0], scale="plugin", **how)
    assert "scale" not in plugin.posterior_["posterior"]
    prior = nmo.glm.GLM(NegativeBinomial("estimate"))
    prior.sample_posterior(X, Y[:, 0], prior="auto", **how)
    assert np.isfinite(prior.posterior_["posterior"]["scale"].values).all()


def test_a_second_estimate_of_the_same_shape_compiles_nothing(rng):
    from test_compiling import compiled

    population().fit(X, Y)
    with compiled() as seen:
        population().fit(X, rng.permutation(Y))
    assert seen == []
