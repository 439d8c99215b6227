"""The interface around draws: container, predictions, scores, tables, refusals and errors."""

import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
import xarray as xr
from arviz_stats import compare, psense
from arviz_stats import loo as arviz_loo
from arviz_stats.base import array_stats
from scipy import stats
from sklearn.base import clone

import bayesglm as nmo
from bayesglm._sampling import _psis
from bayesglm.posterior import _predict

X = tables.X
COUNTS = tables.RESPONSES["Poisson"]
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.1}
QUIET = {"progress_bar": False}
TREE = {"position": X[:, :3], "speed": X[:, 3:]}


@pytest.fixture(scope="module")
def population():
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    return model.sample_posterior(TREE, COUNTS, num_samples=200, **QUIET)


@pytest.fixture(scope="module")
def single():
    model = nmo.glm.GLM("Gaussian", **RIDGE)
    return model.sample_posterior(X, tables.RESPONSES["Gaussian"][:, 0], num_samples=200, **QUIET)


@pytest.fixture(scope="module")
def classifier():
    model = nmo.glm.ClassifierGLM(3, **RIDGE)
    return model.sample_posterior(
        X, np.array(["a", "b", "c"])[tables.LABELS[:, 0]], num_samples=100, **QUIET
    )


def pooled(model, name):
    values = model.posterior_["posterior"][name].values
    return values.reshape(-1, *values.shape[2:])


# -- container -------------------------------------------------------------------------------------


def test_draws_are_labelled_in_the_schema_of_arviz(population, single, classifier, tmp_path):
    data = population.posterior_["posterior"]
    assert data["coef"].dims == ("chain", "draw", "feature", "neuron")
    assert list(data["feature"].values) == ["position[0]", "position[1]", "position[2]", "speed[0]"]
    assert single.posterior_["posterior"]["scale"].dims == ("chain", "draw")
    assert classifier.posterior_["posterior"]["coef"].dims == ("chain", "draw", "feature", "class")
    assert list(classifier.posterior_["posterior"]["class"].values) == ["a", "b", "c"]
    statistics = population.posterior_["sample_stats"]
    assert {"diverging", "energy", "lp", "tree_depth", "n_steps", "step_size", "acceptance_rate",
            "reached_max_treedepth", "reached_max_tree_depth"} <= set(statistics.data_vars)  # fmt: skip
    np.testing.assert_array_equal(population.posterior_["observed_data"]["y"].values, COUNTS)
    population.posterior_.to_netcdf(tmp_path / "draws.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "draws.nc", engine="h5netcdf") as stored:
        np.testing.assert_array_equal(stored["posterior"]["coef"].values, data["coef"].values)


def test_log_priors_of_the_draws_are_there_for_power_scaling(single, population):
    group = single.posterior_["log_prior"]
    assert set(group.data_vars) == {"coef", "scale"}
    assert group["coef"].dims == group["scale"].dims == ("chain", "draw")
    # a penalty of 0.1 with n kappa = n / (2 scale)
    sd = np.sqrt(2.0 * single.posterior_["posterior"]["scale"].values / (len(X) * 0.1))
    density = stats.norm(0.0, sd[..., None])
    expected = density.logpdf(single.posterior_["posterior"]["coef"].values).sum(axis=-1)
    np.testing.assert_allclose(group["coef"].values, expected, rtol=1e-10)
    assert set(population.posterior_["log_prior"].data_vars) == {"coef"}
    assert population.posterior_["log_prior"]["coef"].dims == ("chain", "draw", "neuron")
    for neuron in range(3):
        where = {"neuron": neuron}
        found = psense(population.posterior_, var_names="coef", coords=where, group_coords=where)
        assert (found["coef"].values > 0).all()


def test_flat_priors_have_no_log_prior():
    how = {"method": "laplace", "num_samples": 50, **QUIET}
    model = nmo.glm.GLM().sample_posterior(X, COUNTS[:, 0], **how)
    assert "log_prior" not in model.posterior_.children


def test_softmax_draws_sum_to_zero_over_the_classes(classifier):
    for name in ("coef", "intercept"):
        np.testing.assert_allclose(pooled(classifier, name).sum(axis=-1), 0.0, atol=1e-12)


def test_a_fit_or_new_coefficients_drop_the_draws():
    y = tables.RESPONSES["Gaussian"][:, 0]
    model = nmo.glm.GLM("Gaussian", **RIDGE)
    assert model.posterior_ is None
    for forget in (
        lambda: model.fit(X, y),
        lambda: setattr(model, "coef_", model.coef_),
        lambda: setattr(model, "intercept_", model.intercept_),
    ):
        model.sample_posterior(X, y, num_samples=200, **QUIET)
        assert clone(model).posterior_ is None
        forget()
        assert model.posterior_ is None


def test_the_fit_beside_the_draws_is_that_of_fit(single):
    fitted = nmo.glm.GLM("Gaussian", **RIDGE).fit(X, tables.RESPONSES["Gaussian"][:, 0])
    np.testing.assert_array_equal(np.asarray(single.coef_), np.asarray(fitted.coef_))


def test_the_same_key_gives_the_same_draws_and_another_one_others(single):
    y = tables.RESPONSES["Gaussian"][:, 0]
    runs = [
        nmo.glm.GLM("Gaussian", **RIDGE).sample_posterior(
            X, y, num_samples=200, random_key=key, **QUIET
        )
        for key in (jax.random.key(0), jax.random.PRNGKey(1))
    ]
    np.testing.assert_array_equal(pooled(runs[0], "coef"), pooled(single, "coef"))
    assert (pooled(runs[1], "coef") != pooled(single, "coef")).all()


def test_new_data_strengths_and_keys_of_the_same_shape_compile_nothing(single):
    seen = []
    listen = lambda event, duration, **details: (  # noqa: E731
        seen.append(details.get("fun_name")) if event.startswith("/jax/core/compile/") else None
    )
    rng = np.random.default_rng(1)
    model = nmo.glm.GLM("Gaussian", regularizer="Ridge", regularizer_strength=0.02)
    model.sample_posterior(
        X, X @ rng.normal(size=4) + rng.normal(size=200), num_samples=200, **QUIET
    )
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        model.set_params(regularizer_strength=0.05).sample_posterior(
            X, X @ rng.normal(size=4) + rng.normal(size=200), num_samples=120, num_warmup=70,
            random_key=jax.random.key(5), **QUIET,
        )  # fmt: skip
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert seen == []


# -- predictions -----------------------------------------------------------------------------------


def test_mean_and_standard_deviation_are_those_of_simulated_responses(single, population):
    for model, design in ((single, X[:7]), (population, {k: v[:7] for k, v in TREE.items()})):
        mean, sd = (np.asarray(v, float) for v in model.predict(design, return_std=True))
        key = jax.random.key(0)
        drawn = np.concatenate([
            np.asarray(model.posterior_predictive(k, design), float).reshape(-1, *mean.shape)
            for k in jax.random.split(key, 10)
        ])  # fmt: skip
        error = sd / np.sqrt(len(drawn) / 5)  # the same draws of the parameters each time
        assert (np.abs(drawn.mean(axis=0) - mean) < 4 * error).all()
        np.testing.assert_allclose(drawn.std(axis=0), sd, rtol=0.08)


@pytest.mark.parametrize("kind", ["mean", "response"])
def test_intervals_hold_their_probability(single, population, kind):
    for model, design in ((single, X[:5]), (population, {k: v[:5] for k, v in TREE.items()})):
        low, high = (np.asarray(v, float) for v in model.predict_interval(design, 0.8, kind))
        if kind == "mean":
            eta = np.einsum("if,df...->di...", X[:5], pooled(model, "coef"))
            values = eta + pooled(model, "intercept")[:, None]
            values = values if model is single else np.exp(values)
        else:
            values = np.concatenate([
                np.asarray(model.posterior_predictive(k, design), float).reshape(-1, *low.shape)
                for k in jax.random.split(jax.random.key(0), 5)
            ])  # fmt: skip
        below, upto = (values < low).mean(axis=0), (values <= high).mean(axis=0)
        assert (below < 0.1 + 0.03).all()
        assert (upto > 0.9 - 0.03).all()
        if kind == "mean" or model is single:
            np.testing.assert_allclose(below, 0.1, atol=0.03)


def test_predictions_do_not_depend_on_the_chunks(single, population, monkeypatch):
    before = [
        single.predict_interval(X, kind="response"),
        population.predict(TREE, return_std=True),
    ]
    monkeypatch.setattr(_predict, "_CHUNK_BYTES", 8 * 800 * 30)
    after = [single.predict_interval(X, kind="response"), population.predict(TREE, return_std=True)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5)


def test_class_probabilities_are_averaged_over_draws(classifier):
    averaged = np.asarray(classifier.predict_proba(X[:6], "proba", average="posterior"))
    eta = (
        np.einsum("if,dfk->dik", X[:6], pooled(classifier, "coef"))
        + pooled(classifier, "intercept")[:, None]
    )
    expected = (np.exp(eta) / np.exp(eta).sum(axis=-1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(averaged, expected, rtol=1e-5)
    log = np.asarray(classifier.predict_proba(X[:6], average="posterior"))
    np.testing.assert_allclose(np.exp(log), averaged, rtol=1e-5)
    assert set(np.unique(classifier.posterior_predictive(jax.random.key(0), X[:6]))) <= {
        "a",
        "b",
        "c",
    }


def test_offsets_enter_predictions(single):
    shift = np.linspace(-1, 1, 6)
    plain, moved = (
        np.asarray(single.predict(X[:6], return_std=True, offset=o)[0]) for o in (None, shift)
    )
    np.testing.assert_allclose(moved, plain + shift, atol=1e-5)


# -- leave-one-out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_draws", [100, 900])
def test_smoothed_weights_are_those_of_arviz(n_draws, rng):
    ratios = rng.standard_t(3, size=(30, n_draws)) * rng.uniform(0.1, 4, size=(30, 1))
    weights, k = _psis.smooth(ratios)
    for row in range(len(ratios)):
        theirs, their_k = array_stats.psislw(-ratios[row])
        np.testing.assert_allclose(weights[row], theirs, atol=1e-8)
        np.testing.assert_allclose(k[row], their_k, atol=1e-8)


def test_constant_ratios_need_no_smoothing():
    weights, k = _psis.smooth(np.zeros((1, 400)))
    np.testing.assert_allclose(np.exp(weights), 1 / 400)
    assert k[0] == -np.inf


def with_log_likelihood(model, mean, density, y):
    """The posterior with the log-likelihood of all draws and rows."""
    data = model.posterior_["posterior"]
    eta = np.einsum("if,cdf...->cdi...", X, data["coef"].values)
    eta = eta + data["intercept"].values[:, :, None]
    dims = ("chain", "draw", "sample", "neuron")[: eta.ndim]
    log_lik = xr.Dataset({"y": (dims, density(mean(eta), data)(y))})
    return xr.DataTree.from_dict({"posterior": data.dataset, "log_likelihood": log_lik})


def assert_same_scores(mine, theirs):
    # float64 throughout; the fit of a tail divides by small differences
    for name in ("elpd", "se", "p"):
        np.testing.assert_allclose(mine[name], theirs[name], rtol=0, atol=1e-8)
    np.testing.assert_allclose(mine.elpd_i.values, theirs.elpd_i.values, rtol=0, atol=1e-8)
    np.testing.assert_allclose(mine.pareto_k.values, theirs.pareto_k.values, rtol=0, atol=1e-8)


@pytest.mark.parametrize("reff", [None, 0.7])
def test_leave_one_out_is_that_of_arviz_on_the_whole_matrix(single, population, reff):
    y = tables.RESPONSES["Gaussian"][:, 0]
    normal = lambda mu, data: (  # noqa: E731
        stats.norm(mu, np.sqrt(data["scale"].values)[:, :, None]).logpdf
    )
    whole = with_log_likelihood(single, lambda eta: eta, normal, y)
    assert_same_scores(single.loo(X, y, reff=reff), arviz_loo(whole, pointwise=True, reff=reff))
    counts = lambda mu, data: stats.poisson(mu).logpmf  # noqa: E731
    whole = with_log_likelihood(population, np.exp, counts, COUNTS)
    parts = population.loo(TREE, COUNTS, by_neuron=True, reff=reff)
    for k, part in parts.items():
        one = xr.DataTree.from_dict({n: whole[n].dataset.isel(neuron=k) for n in whole.children})
        assert_same_scores(part, arviz_loo(one, pointwise=True, reff=reff))
    total = population.loo(TREE, COUNTS, reff=reff)
    np.testing.assert_allclose(sum(part.elpd for part in parts.values()), total.elpd)
    if reff is not None:  # by default ArviZ has one efficiency for all neurons
        assert_same_scores(total, arviz_loo(whole, pointwise=True, reff=reff))


@pytest.mark.parametrize("reff", [0.0, -1.0, np.inf, np.nan, True, "auto", [1.0]])
def test_a_relative_efficiency_that_is_no_positive_number_is_refused(single, reff):
    with pytest.raises(ValueError, match="reff"):
        single.loo(X, tables.RESPONSES["Gaussian"][:, 0], reff=reff)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, within ArviZ
def test_arviz_compares_models_by_their_scores():
    y = tables.RESPONSES["Gaussian"][:, 0]
    scores = {}
    for name, strength in (("weak", 0.1), ("strong", 50.0)):
        model = nmo.glm.GLM("Gaussian", regularizer="Ridge", regularizer_strength=strength)
        scores[name] = model.sample_posterior(X, y, num_samples=200, **QUIET).loo(X, y)
    assert compare(scores).index[0] == "weak"


def test_probability_integral_transforms_are_uniform(single, population):
    for model, design, y in (
        (single, X, tables.RESPONSES["Gaussian"][:, 0]),
        (population, TREE, COUNTS),
    ):
        pit = model.loo_pit(design, y)
        assert pit.shape == y.shape
        assert stats.kstest(pit.ravel(), "uniform").pvalue > 1e-3


# -- tables ----------------------------------------------------------------------------------------


def test_a_penalised_fit_has_an_approximate_posterior_interval(single):
    y = tables.RESPONSES["Gaussian"][:, 0]
    fitted = nmo.glm.GLM("Gaussian", **RIDGE).fit(X, y)
    table, drawn = fitted.summary(X, y), single.summary()
    assert "p_value" not in table
    assert "posterior" in table.attrs["interval"]
    np.testing.assert_allclose(table["std_error"], drawn["sd"][: len(table)], rtol=0.2)


def test_the_table_of_draws_has_the_statistics_of_arviz(population):
    table = population.summary(prob=0.9)
    values = population.posterior_["posterior"]["coef"].values[:, :, 3, 1]
    row = table.loc["coef[speed[0], 1]"]
    np.testing.assert_allclose(row["mean"], values.mean())
    np.testing.assert_allclose(row["low"], np.quantile(values, 0.05))
    np.testing.assert_allclose(row["r_hat"], array_stats.rhat(values, chain_axis=0, draw_axis=1))


# -- refusals --------------------------------------------------------------------------------------

SILENT = np.where(np.arange(3) == 1, 0.0, COUNTS)
DEPENDENT = np.column_stack([X, X[:, 0] + X[:, 1]])
REFUSED = {
    "silent neuron": (nmo.glm.PopulationGLM(), X, SILENT, "neurons 1.*silent"),
    "dependent feature": (nmo.glm.GLM(), {"a": DEPENDENT}, COUNTS[:, 0], r"features a\[4\].*dependent"),
    "nearly dependent": (
        nmo.glm.GLM(), DEPENDENT + 1e-9 * np.eye(200, 5), COUNTS[:, 0], "features 4 are nearly linearly dependent"
    ),
    "constant feature": (nmo.glm.GLM(), np.column_stack([X, np.ones(200)]), COUNTS[:, 0], "features 4 "),
    "separation": (nmo.glm.GLM("Bernoulli"), X, (X[:, 0] > 0) * 1.0, "separation"),
    "Gaussian and exp": (nmo.glm.GLM("Gaussian", "exp", **RIDGE), X, COUNTS[:, 0], "does not vanish"),
    "Poisson and logistic": (nmo.glm.GLM("Poisson", "logistic"), X, COUNTS[:, 0], "does not vanish"),
    "missing class": (nmo.glm.ClassifierPopulationGLM(3), X, np.minimum(tables.LABELS, [2, 1, 2]), "neurons 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_improper_posteriors_are_refused_by_name(case):
    estimator, X, y, message = REFUSED[case]
    estimator = clone(estimator)
    with pytest.raises(
        ValueError, match=f"(?s)improper.*{message}|{message}.*improper|{message}"
    ) as caught:
        estimator.sample_posterior(X, y, **QUIET)
    assert "prior='auto'" in str(caught.value) or "Leave" in str(caught.value)
    assert estimator.coef_ is None


def test_automatic_priors_are_the_way_out():
    y = (X[:, 0] > 0) * 1.0
    model = nmo.glm.GLM("Bernoulli").sample_posterior(X, y, prior="auto", num_samples=200, **QUIET)
    values = model.posterior_["posterior"]["coef"].values
    assert values[..., 0].mean() > 1.0
    # the prior's standard deviation bounds what the data do not
    assert (values.std(axis=(0, 1)) < 2.5 / X.std(axis=0)).all()
    assert np.isfinite(np.asarray(model.coef_)).all()


# -- errors ----------------------------------------------------------------------------------------

BAD = {
    "one draw": ({"num_samples": 3}, ValueError, "num_samples"),
    "no chain": ({"num_chains": 0}, ValueError, "num_chains"),
    "half a chain": ({"num_chains": 1.5}, ValueError, "num_chains"),
    "unknown method": ({"method": "vi"}, ValueError, "method"),
    "no key": ({"random_key": "seed"}, TypeError, "random_key"),
    "several keys": ({"random_key": jax.random.split(jax.random.key(0), 3)}, TypeError, "random_key"),
    "unknown scale": ({"scale": "fixed"}, ValueError, "scale"),
    "unknown prior": ({"prior": "weak"}, ValueError, "prior"),
    "automatic and Ridge": ({"prior": "auto"}, ValueError, "UnRegularized"),
    "no batch": ({"neuron_batch_size": 0}, ValueError, "neuron_batch_size"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused_before_anything_is_lost(case, population):
    arguments, error, message = BAD[case]
    before = dict(population.__dict__)
    with pytest.raises(error, match=message):
        population.sample_posterior(TREE, COUNTS, **arguments, **QUIET)
    assert population.__dict__ == before


def test_two_priors_of_one_intercept_are_refused():
    model, y = nmo.glm.GLM(), COUNTS[:, 0]
    two = {"prior": "auto", "intercept_prior": dist.Normal()}
    with pytest.raises(ValueError, match="intercept_prior"):
        model.sample_posterior(X, y, **two, **QUIET)
    with pytest.raises(ValueError, match="intercept_prior"):
        model.numpyro_model(X, y, **two)
    assert model.coef_ is None


def test_bad_data_are_refused_before_anything_is_lost(population):
    before = dict(population.__dict__)
    with pytest.raises(ValueError, match="not integers|integers"):
        population.sample_posterior(TREE, COUNTS + 0.5, **QUIET)
    with pytest.raises(TypeError, match="structure"):
        population.sample_posterior(X, COUNTS, **QUIET)
    with pytest.raises(ValueError, match="integers"):
        population.loo(TREE, COUNTS + 0.5)
    assert population.__dict__ == before


def test_posterior_methods_need_draws(classifier):
    model = nmo.glm.GLM().fit(X, COUNTS[:, 0])
    for call in (
        lambda: model.predict(X, return_std=True),
        lambda: model.predict_interval(X),
        lambda: model.posterior_predictive(jax.random.key(0), X),
        lambda: model.loo(X, COUNTS[:, 0]),
        lambda: model.loo_pit(X, COUNTS[:, 0]),
        lambda: (
            nmo.glm.ClassifierGLM(3)
            .fit(X, tables.LABELS[:, 0])
            .predict_proba(X, average="posterior")
        ),
    ):
        with pytest.raises(ValueError, match="sample_posterior"), np.errstate(all="ignore"):
            call()
    with pytest.raises(ValueError, match="summary"):
        model.summary()
    with pytest.raises(TypeError, match="standard deviation"):
        classifier.predict(X, return_std=True)
    with pytest.raises(ValueError, match="prob"):
        model.predict_interval(X, prob=1.5)
    with pytest.raises(ValueError, match="kind"):
        model.predict_interval(X, kind="both")
    with pytest.raises(ValueError, match="average"):
        classifier.predict_proba(X, average="mean")


def test_coefficients_that_are_all_zero_are_sampled_without_a_foreign_warning():
    """At a strength of one the mode is zero at the first step, and nothing is left to divide by."""
    model = nmo.glm.PopulationGLM(regularizer="Lasso", regularizer_strength=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*k-hat")
        model.sample_posterior(X, COUNTS, method="laplace", num_samples=50, progress_bar=False)
    assert (np.asarray(model.coef_) == 0).all()
