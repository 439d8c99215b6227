"""Successes in known numbers of trials: a row of m trials is m rows of one, and counts once."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import tables
from numpyro.handlers import seed, substitute, trace
from reference import fitted
from scipy import stats

import bayesglm as nmo

X, N = tables.X, tables.N_SAMPLES
Y = tables.RESPONSES["Binomial"]
TRIALS = Y.sum(axis=-1)
Binomial = nmo.observation_models.BinomialObservations
# Two fits stop within 1e-6 standard errors of their optimum, of about 0.1 each.
ATOL = 1e-6


def pairs(y):
    """Zeros and ones as pairs of single trials."""
    return np.stack([y, 1 - y], axis=-1)


def single_trials(y):
    """Rows of zeros and ones for the successes and failures of one response, and the row that each is of."""
    row = np.repeat(np.arange(len(y)), y.sum(axis=1).astype(int))
    ones = np.concatenate([np.r_[np.ones(int(a)), np.zeros(int(b))] for a, b in y])
    return row, ones


@pytest.fixture(scope="module")
def star98():
    data = sm.datasets.star98.load()
    y, X = np.asarray(data.endog, float), np.asarray(data.exog, float)
    other = sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial()).fit(tol=1e-14)
    return X, y, other, nmo.glm.GLM("Binomial").fit(X, y)


@pytest.mark.oracle
def test_grouped_counts_have_the_numbers_of_statsmodels(star98):
    X, y, other, model = star98
    coef, intercept = fitted(model)
    # relative to their errors: features reach 1e4, and are so close to dependent that digits are lost
    found, errors = np.r_[intercept, coef], np.asarray(other.bse)
    np.testing.assert_allclose((found - other.params) / errors, 0.0, atol=1e-5)
    table = model.summary(X, y)
    np.testing.assert_allclose(np.roll(table["std_error"], 1), errors, rtol=1e-6)
    assert np.ravel(model.dof_resid_) == other.df_resid
    with jax.enable_x64(True):
        mean, each = jnp.asarray(model.predict(X), float), lambda scores: scores
        family = model.observation_model
        deviance = family.deviance(y, mean).sum()
        log_likelihood = family.log_likelihood(y, mean, aggregate_sample_scores=each).sum()
    # means are shown in single precision
    np.testing.assert_allclose(deviance, other.deviance, rtol=1e-6)
    np.testing.assert_allclose(log_likelihood, other.llf, rtol=1e-6)
    np.testing.assert_allclose(float(model.score(X, y)) * len(y), other.llf, rtol=1e-6)
    explained = 1 - other.deviance / other.null_deviance
    np.testing.assert_allclose(model.score(X, y, "pseudo-r2-Cohen"), explained, rtol=1e-6)
    mcfadden = 1 - other.llf / other.llnull
    np.testing.assert_allclose(model.score(X, y, "pseudo-r2-McFadden"), mcfadden, rtol=1e-5)


@pytest.mark.oracle
def test_rows_that_scatter_more_than_their_trials_are_said_to(star98):
    X, y, other, model = star98
    check = model.report(X, y).checks["dispersion"]
    np.testing.assert_allclose(check.value, other.pearson_chi2 / other.df_resid, rtol=1e-5)
    assert check.status == "fail"
    assert "NegativeBinomial" not in check.remedy  # whose counts have no upper end
    assert "robust=True" in check.remedy
    robust = sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial())
    robust = robust.fit(tol=1e-14, cov_type="HC0")
    errors = model.summary(X, y, robust="HC0")["std_error"]
    np.testing.assert_allclose(np.roll(errors, 1), robust.bse, rtol=1e-6)


@pytest.mark.parametrize("robust", [False, "HC3"])
def test_single_trials_are_bernoulli(robust):
    y = tables.RESPONSES["Bernoulli"]
    one = nmo.glm.PopulationGLM("Binomial").fit(X, pairs(y))
    other = nmo.glm.PopulationGLM("Bernoulli").fit(X, y)
    for a, b in zip(fitted(one), fitted(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=ATOL)
    tables_ = one.summary(X, pairs(y), robust=robust), other.summary(X, y, robust=robust)
    np.testing.assert_allclose(*(t["std_error"] for t in tables_), rtol=1e-5)
    for kind in nmo.observation_models.SCORE_TYPES:
        np.testing.assert_allclose(one.score(X, pairs(y), kind), other.score(X, y, kind), rtol=1e-5)
    said = one.report(X, pairs(y)).checks.keys() - other.report(X, y).checks.keys()
    assert said == {"residuals"}  # which Bernoulli has none of


@pytest.mark.parametrize("kind", ["UnRegularized", "Ridge", "Lasso"])
def test_a_row_of_some_trials_is_as_many_rows_of_one_that_depend_on_each_other(kind):
    """The mean of losses is over rows: with more of them, the same prior has less strength."""
    y = Y[:, 0]
    row, ones = single_trials(y)
    strength = tables.REGULARIZERS[kind]
    less = None if strength is None else strength * N / len(row)
    one = nmo.glm.GLM("Binomial", None, kind, strength).fit(X, y)
    other = nmo.glm.GLM("Bernoulli", None, kind, less).fit(X[row], ones)
    for a, b in zip(fitted(one), fitted(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=ATOL)
    both = one.summary(X, y), other.summary(X[row], ones)
    np.testing.assert_allclose(*(t["std_error"] for t in both), rtol=1e-5)
    # a row is one cluster, and HC3 the jackknife of rows without its factor
    robust = one.summary(X, y, robust="HC3")["std_error"].values
    clusters = other.summary(X[row], ones, robust="cluster", groups=row)["std_error"].values
    np.testing.assert_allclose(robust * np.sqrt((N - 1) / N), clusters, rtol=1e-5)
    np.testing.assert_allclose(one.dof_resid_ - N, other.dof_resid_ - len(row))


def test_so_it_is_in_the_joint_density():
    y = Y[:24, 0]
    row, ones = single_trials(y)
    values = []
    with jax.enable_x64(True):
        for _ in range(3):
            point = {
                "coef": jnp.asarray(np.random.default_rng(len(values)).normal(size=4)),
                "intercept": jnp.asarray(0.3),
            }
            each = []
            for family, some, response in (
                ("Binomial", X[:24], y), ("Bernoulli", X[:24][row], ones),
            ):  # fmt: skip
                model = nmo.glm.GLM(family).numpyro_model(some, response)
                site = trace(substitute(seed(model, 0), point)).get_trace()["y"]
                each.append(float(jnp.sum(site["fn"].log_prob(site["value"]))))
            values.append(each[0] - each[1])
    k, m = y[:, 0], y.sum(axis=1)
    orders = np.sum(stats.binom.logpmf(k, m, 0.5) + m * np.log(2))  # log binomial coefficients
    np.testing.assert_allclose(values, orders, rtol=1e-10)


def test_rows_without_trials_and_missing_ones_are_no_rows(rng):
    y = Y.copy()
    gone = rng.permutation(N)[:60]
    y[gone[:20], 0], y[gone[20:40], 0, 0], y[gone[40:], 0, 1] = 0.0, np.nan, np.nan
    model = nmo.glm.PopulationGLM("Binomial").fit(X, y)
    kept = np.setdiff1d(np.arange(N), gone)
    alone = nmo.glm.GLM("Binomial").fit(X[kept], Y[kept, 0])
    for a, b in zip(fitted(model), fitted(alone), strict=True):
        np.testing.assert_allclose(a[..., 0], np.squeeze(b), rtol=0, atol=ATOL)
    np.testing.assert_allclose(model.dof_resid_[0], alone.dof_resid_)
    single = nmo.glm.GLM("Binomial").fit(X, y[:, 0])
    for kind in nmo.observation_models.SCORE_TYPES:
        found, other = single.score(X, y[:, 0], kind), alone.score(X[kept], Y[kept, 0], kind)
        np.testing.assert_allclose(found, other, rtol=1e-5)
    params = (jnp.full(4, 0.1), jnp.zeros(1))
    # in single precision, as JAX traces
    traced = jax.jit(lambda p: single.compute_loss(p, X, y[:, 0]))(params)
    np.testing.assert_allclose(traced, single.compute_loss(params, X, y[:, 0]), rtol=1e-5)


def test_frames_and_masked_arrays_hold_pairs():
    plain = nmo.glm.GLM("Binomial").fit(X, Y[:, 0])
    frame = pd.DataFrame(Y[:, 0], columns=["hits", "misses"])
    masked = np.ma.masked_array(Y[:, 0].astype(int), np.zeros((N, 2), bool))
    for y in (frame, masked, Y[:, 0].tolist()):
        np.testing.assert_array_equal(nmo.glm.GLM("Binomial").fit(X, y).coef_, plain.coef_)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:, 0, 0], r"successes and of failures, \(samples, 2\), but has shape \(200,\)"),
        (TRIALS, r"but has shape \(200, 3\)"),
        (Y[:, 0] - 3, "must be a whole number of successes, or of failures, but"),
        (Y[:, 0] / 2, "must be a whole number of successes, or of failures, but"),
        (np.zeros((N, 2)), "No sample can be used"),
    ],
)
def test_what_is_no_pair_of_counts_is_refused(y, message):
    model = nmo.glm.GLM("Binomial")
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    assert model.coef_ is None


@pytest.fixture(scope="module")
def sampled():
    model = nmo.glm.GLM("Binomial", None, "Ridge", 0.1)
    return model.sample_posterior(X, Y[:, 0], num_samples=250, progress_bar=False)


def test_new_responses_are_successes_out_of_the_trials_asked_for(sampled):
    few, trials = X[:3], np.array([1, 5, 40])
    key = jax.random.key(0)
    drawn = np.asarray(sampled.posterior_predictive(key, few, n_trials=trials))
    probability = np.asarray(sampled.predict(few))
    assert (drawn.max(axis=(0, 1)) <= trials).all()
    data = sampled.posterior_["posterior"]
    eta = data["coef"].values @ few.T + data["intercept"].values[..., None]
    p = 1 / (1 + np.exp(-eta))
    sd = np.sqrt((trials * p * (1 - p)).mean(axis=(0, 1)) + (trials * p).var(axis=(0, 1)))
    # four standard errors of the mean of a thousand draws
    assert (abs(drawn.mean(axis=(0, 1)) - trials * p.mean(axis=(0, 1))) < 4 * sd / 1000**0.5).all()
    low, high = sampled.predict_interval(few, 0.9, "response", n_trials=trials)
    oracle = lambda k: stats.binom.cdf(k, trials, p).mean(axis=(0, 1))  # noqa: E731
    assert ((oracle(np.asarray(high)) >= 0.95) & (oracle(np.asarray(high) - 1) < 0.95)).all()
    assert ((oracle(np.asarray(low)) >= 0.05) & (oracle(np.asarray(low) - 1) < 0.05)).all()
    drawn, mean = sampled.simulate(key, np.repeat(few[:1], 4000, axis=0), n_trials=7)
    np.testing.assert_allclose(np.asarray(mean), probability[0], rtol=1e-5)
    # four standard errors of four thousand draws
    assert abs(drawn.mean() - 7 * probability[0]) < 4 * np.sqrt(7 * 0.25 / 4000)
    assert set(np.unique(sampled.simulate(key, X)[0])) == {0.0, 1.0}  # single trials by default


@pytest.mark.parametrize("n_trials", [0, 2.5, -1, np.nan, [1, 2], "many"])
def test_numbers_that_are_none_of_trials_are_refused(n_trials, sampled):
    with pytest.raises((TypeError, ValueError), match="`n_trials`"):
        sampled.posterior_predictive(jax.random.key(0), X[:3], n_trials=n_trials)


def test_other_families_have_no_trials():
    model = nmo.glm.GLM().fit(X, tables.RESPONSES["Poisson"][:, 0])
    with pytest.raises(ValueError, match=r"`n_trials` is for .* PoissonObservations has no trials"):
        model.simulate(jax.random.key(0), X, n_trials=3)


def test_leaving_out_a_row_leaves_out_all_of_its_trials(sampled):
    """The density of its number of successes, averaged over draws by weights that are about flat for 200 rows."""
    found = sampled.loo(X, Y[:, 0])
    data = sampled.posterior_["posterior"]
    eta = data["coef"].values @ X.T + data["intercept"].values[..., None]
    p = 1 / (1 + np.exp(-eta))
    each = stats.binom.logpmf(Y[:, 0, 0], TRIALS[:, 0], p).reshape(-1, N)
    lppd = np.log(np.exp(each).mean(axis=0)).sum()
    np.testing.assert_allclose(found.elpd + found.p, lppd, rtol=1e-6)
    # importance sampling by the inverse densities, of which the smoothed tails are a part of a percent
    plain = -np.log(np.exp(-each).mean(axis=0)).sum()
    np.testing.assert_allclose(found.elpd, plain, rtol=1e-3)
    pit = sampled.loo_pit(X, Y[:, 0])
    assert stats.kstest(pit, "uniform").pvalue > 1e-4


def test_draws_and_files_keep_the_trials(sampled, tmp_path):
    np.testing.assert_array_equal(sampled.posterior_["constant_data"]["n_trials"], TRIALS[:, 0])
    np.testing.assert_array_equal(sampled.posterior_["observed_data"]["y"], Y[:, 0, 0])
    sampled.save_params(tmp_path / "model.npz")
    sampled.posterior_.to_netcdf(tmp_path / "draws.nc", engine="h5netcdf")
    loaded = nmo.load_model(tmp_path / "model.npz")
    loaded.posterior_ = tmp_path / "draws.nc"
    assert isinstance(loaded.observation_model, Binomial)
    np.testing.assert_array_equal(loaded.predict(X), sampled.predict(X))
    assert loaded.loo(X, Y[:, 0]).elpd == sampled.loo(X, Y[:, 0]).elpd
    report = loaded.report(X, Y[:, 0])
    assert {"dispersion", "loo_pit", "predictive", "residuals"} & set(report.checks)
    more = Y[:, 0] + [0.0, 1.0]
    with pytest.raises(ValueError, match="`y` has other numbers of trials"):
        loaded.report(X, more)


def test_sites_of_the_numpyro_model_are_counts_of_as_many_trials():
    with jax.enable_x64(True):
        model = nmo.glm.PopulationGLM("Binomial").numpyro_model(X, Y)
        point = {"coef": jnp.zeros((4, 3)), "intercept": jnp.zeros(3)}
        site = trace(substitute(seed(model, 0), point)).get_trace()["y"]
        inner = site["fn"].base_dist
        np.testing.assert_array_equal(inner.total_count, TRIALS)
        np.testing.assert_array_equal(site["value"], Y[..., 0])
        drawn = np.asarray(inner.sample(jax.random.key(0), (2000,)))
    assert (drawn <= TRIALS).all()
    # four standard errors of the mean of all cells
    error = np.sqrt(TRIALS.sum() * 0.25 / 2000)
    assert abs(drawn.sum(axis=(1, 2)).mean() - TRIALS.sum() / 2) < 4 * error
