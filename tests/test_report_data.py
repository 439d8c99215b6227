"""The report: data that do not go with their model trip the check for it, healthy data trip none."""

import jax
import numpy as np
import pytest
from reported import COUNTS, N_NEURONS, QUIET, RATE, RIDGE, N, X, tripped

import bayesglm as nmo
from bayesglm import _families, _residuals, diagnostics

# -- healthy models ----------------------------------------------------------------------------------

MANY = 60
FAMILIES = {
    "Poisson": (None, lambda rng, mean: rng.poisson(mean)),
    "Bernoulli": (None, lambda rng, mean: rng.binomial(1, mean)),
    "Gaussian": (None, lambda rng, mean: mean + 0.5 * rng.normal(size=mean.shape)),
    "Gamma": ("exp", lambda rng, mean: rng.gamma(2.0, mean / 2.0)),
    "NegativeBinomial": (
        None,
        lambda rng, mean: rng.poisson(mean * rng.gamma(1.0, 1.0, mean.shape)),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_no_check_trips_for_many_healthy_neurons(name, rng):
    link, draw = FAMILIES[name]
    model = nmo.glm.PopulationGLM(name, link)
    eta = X @ rng.normal(size=(3, MANY)) * 0.4 - 0.2
    with jax.enable_x64(True):
        mean = np.asarray(model.inverse_link_function(eta))
    y = draw(rng, mean).astype(float)
    report = model.fit(X, y).report(X, y)
    assert report.ok, str(report)
    assert len(report.table) == MANY
    # by chance alone: less than one in a hundred reports has a check that trips
    assert diagnostics.PROBABILITY * len(report.checks) < 0.01


def test_healthy_labels_trip_no_check(rng):
    labels = np.argmax(X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(N, 3)), axis=1)
    report = nmo.glm.ClassifierGLM(3, regularizer_strength=1e-3).fit(X, labels).report(X, labels)
    assert report.ok, str(report)
    assert {"convergence", "calibration", "conditioning"} <= set(report.checks)


# -- data that do not go with the model ----------------------------------------------------------------


def test_separated_data_trip_separation(rng):
    y = (X[:, 0] > 0) * 1.0
    model = nmo.glm.GLM("Bernoulli")
    with pytest.warns(RuntimeWarning, match="separation"):
        model.fit(X, y)
    for report in (model.report(), model.report(X, y)):
        # near the optimum at infinity, curvature is lost altogether
        assert {"separation"} <= tripped(report) <= {"separation", "conditioning", "convergence"}
        assert report.verdict == "DO NOT USE"


def test_a_silent_neuron_trips_its_own_row_only():
    y = np.where(np.arange(N_NEURONS) == 1, 0.0, COUNTS)
    model = nmo.glm.PopulationGLM(**RIDGE)
    with pytest.warns(RuntimeWarning, match="silent"):
        model.fit(X, y)
    report = model.report(X, y)
    assert tripped(report) == {"estimable"}
    assert report.checks["estimable"].neurons == (1,)
    assert report.table["verdict"].tolist() == ["DO NOT USE", "OK", "OK"]


def test_overdispersed_counts_trip_dispersion_and_residuals_and_name_the_way_out(rng):
    y = rng.poisson(4.0 * RATE[:, 0] * rng.gamma(0.7, 1 / 0.7, size=N)).astype(float)
    report = nmo.glm.GLM().fit(X, y).report(X, y)
    assert {"dispersion"} <= tripped(report) <= {"dispersion", "residuals", "outliers"}
    assert "NegativeBinomial" in report.checks["dispersion"].remedy
    assert "over" in report.checks["dispersion"].message
    way_out = nmo.observation_models.NegativeBinomialObservations(scale=1 / 0.7)
    assert nmo.glm.GLM(way_out).fit(X, y).report(X, y).ok


def test_underdispersed_counts_are_a_caution(rng):
    y = np.round(8.0 * RATE[:, 0])
    report = nmo.glm.GLM().fit(X, y).report(X, y)
    assert report.checks["dispersion"].status == "caution"
    assert "under" in report.checks["dispersion"].message


def test_a_wrong_link_trips_calibration(rng):
    features = rng.uniform(-1, 1, size=(3000, 1))
    y = rng.poisson(np.log1p(np.exp(6.0 * features[:, 0]))).astype(float)
    wrong = nmo.glm.GLM(inverse_link_function="exp").fit(features, y).report(features, y)
    assert "calibration" in tripped(wrong)
    assert "link" in tripped(wrong)
    assert tripped(wrong) <= {
        "calibration",
        "dispersion",
        "residuals",
        "linearity",
        "link",
        "outliers",
    }
    right = nmo.glm.GLM(inverse_link_function="softplus").fit(features, y).report(features, y)
    assert right.ok, str(right)


def test_collinear_features_are_named(rng):
    features = {"a": X[:, :1], "b": X[:, 1:2], "c": X[:, :1] + 0.005 * rng.normal(size=(N, 1))}
    report = nmo.glm.GLM().fit(features, COUNTS[:, 0]).report(features, COUNTS[:, 0])
    assert tripped(report) == {"conditioning"}
    message = report.checks["conditioning"].message
    assert "a[0]" in message
    assert "c[0]" in message
    assert "b[0]" not in message
    # a penalty settles how much of the weight each gets
    settled = nmo.glm.GLM(**RIDGE).fit(features, COUNTS[:, 0]).report(features, COUNTS[:, 0])
    assert "conditioning" not in tripped(settled)


def test_a_solver_that_stopped_early_trips_convergence():
    model = nmo.glm.GLM("Gamma", "exp", solver_kwargs={"maxiter": 1})
    y = 100.0 * RATE[:, 0] ** 3
    with pytest.warns(RuntimeWarning, match="converge"):
        model.fit(X, y)
    assert "convergence" in tripped(model.report())


def test_bursts_trip_time_rescaling(rng):
    n = 20_000
    features = rng.normal(size=(n, 1))
    rate = np.exp(0.3 * features[:, 0] - 3.0)
    poisson = rng.poisson(rate).astype(float)
    bursting = poisson.copy()
    bursting[1:] = np.maximum(bursting[1:], (poisson[:-1] > 0) * (rng.random(n - 1) < 0.5))
    for y, trips in ((poisson, set()), (bursting, {"time_rescaling", "serial_dependence"})):
        y = np.minimum(y, 1)
        model = nmo.glm.GLM("Bernoulli").fit(features, y)
        assert tripped(model.report(features, y, time=True)) == trips
        assert model.report(features, y).ok  # what is not said to be in order is not read in order


def test_a_prior_against_the_data_trips_its_sensitivity(rng):
    y = rng.poisson(np.exp(1.5 * X[:, 0])).astype(float)
    strong = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=1.0)
    report = strong.sample_posterior(X, y, **QUIET).report(X, y)
    assert "prior_sensitivity" in tripped(report)
    assert "coef[0]" in report.checks["prior_sensitivity"].message
    assert report.numbers["prior_share"][0] > 0.05
    np.testing.assert_allclose(report.numbers["prior_sd_max"], 1 / np.sqrt(N), rtol=1e-6)


def test_overdispersed_counts_trip_what_is_predicted_from_draws(rng):
    y = rng.poisson(6.0 * rng.gamma(0.3, 1 / 0.3, size=N)).astype(float)
    report = nmo.glm.GLM(**RIDGE).sample_posterior(X, y, **QUIET).report(X, y)
    assert {"dispersion", "loo_pit", "predictive"} <= tripped(report)
    assert report.checks["dispersion"].status == "fail"
    assert report.verdict == "CAUTION"
    assert "standard errors, intervals" in report.headline


def test_a_response_that_moves_the_posterior_trips_influence(rng):
    features = np.append(rng.normal(size=60), 6.0)[:, None]
    y = rng.poisson(np.exp(0.3 * features[:, 0])).astype(float)
    y[-1] = 40.0
    report = nmo.glm.GLM(**RIDGE).sample_posterior(features, y, **QUIET).report(features, y)
    assert "pareto_k" in tripped(report)
    assert "1 of 61" in report.checks["pareto_k"].message
    assert report.checks["pareto_k"].status == "caution"  # of the score, not of the draws


# -- residuals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_residuals_and_intervals_of_the_truth_are_uniform(name, rng):
    link, draw = FAMILIES[name]
    model = nmo.observation_models.resolve(name)
    mean = np.full(20_000, 0.15)
    y = draw(rng, mean).astype(float)
    scale = {"Gaussian": 0.25, "Gamma": 0.5}.get(name, 1.0)
    one = np.ones(len(y))
    # limits of chance: one draw in ten thousand would be called different
    assert _residuals.from_uniform(_residuals.transforms(model, y, mean, scale, one)).p_value > 1e-4
    if name in ("Poisson", "Bernoulli", "NegativeBinomial"):
        # short stretches cut long intervals off: what is seen is compared with what could have been seen
        for every in (len(y), 100, 7):
            used, stretch = np.arange(len(y)) % 101 != 0, np.arange(len(y)) // every
            found = _residuals.rescaled_intervals(model, y, mean, scale, used, stretch)
            assert _residuals.from_uniform(found).p_value > 1e-4


def test_replicates_are_draws_of_the_family(rng):
    mean = np.full(20_000, 1.3)
    for name in FAMILIES:
        if name == "Bernoulli":
            mean = np.full(20_000, 0.3)
        model = nmo.observation_models.resolve(name)
        y = _families.draw(model, rng, mean, 0.6)
        found = _residuals.transforms(model, y, mean, 0.6, np.ones(len(y)))
        assert _residuals.from_uniform(found).p_value > 1e-4
