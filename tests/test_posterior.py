"""Draws against what is known exactly, against NumPyro, and against each other."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS, Predictive
from scipy import stats

import bayesglm as nmo
from bayesglm._sampling import _nuts, _sampler

X = tables.X
COUNTS = tables.RESPONSES["Poisson"]
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.1}
QUIET = {"progress_bar": False}


def draws(estimator, name="coef"):
    """(chains, draws, ...)."""
    return estimator.posterior_["posterior"][name].values


def flat(estimator):
    """Coefficients and intercepts of one draw beside one another, (chains, draws, parameters, neurons)."""
    coef, intercept = draws(estimator), draws(estimator, "intercept")
    if intercept.ndim == 2:
        coef, intercept = coef[..., None], intercept[..., None]
    return np.concatenate([coef, intercept[:, :, None]], axis=2)


def mcse(values):
    return float(array_stats.mcse(values, chain_axis=0, draw_axis=1))


def scores(values, expected):
    """Deviation of means from what is expected, in Monte Carlo standard errors."""
    return np.array([
        (values[(..., *k)].mean() - expected[k]) / mcse(values[(..., *k)]) for k in np.ndindex(values.shape[2:])
    ])  # fmt: skip


# -- exact posteriors ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_neurons", [1, 50])
def test_gaussian_ridge_draws_have_the_exact_mean_and_covariance(n_neurons, rng):
    n, strength, phi = 40, 0.3, 1.7
    X = rng.normal(size=(n, 3)) * [1.0, 3.0, 0.2] + 0.5
    Y = X @ rng.normal(size=(3, n_neurons)) + 2.0 + np.sqrt(phi) * rng.normal(size=(n, n_neurons))
    model = nmo.glm.PopulationGLM("Gaussian", regularizer="Ridge", regularizer_strength=strength)
    model.sample_posterior(X, Y, scale="plugin", num_samples=250, **QUIET)
    ones = np.column_stack([X, np.ones(n)])
    precision = ones.T @ ones + np.diag([n * strength / 2] * 3 + [0.0])
    mean = np.linalg.solve(precision, ones.T @ Y)
    found = flat(model)
    assert np.abs(scores(found, mean)).max() < 4.5  # the largest of two hundred
    phi = np.asarray(model.scale_, dtype=float)
    centred = found - mean
    squares = np.einsum("cdik,cdjk->cdijk", centred, centred)
    covariance = np.linalg.inv(precision)[..., None] * phi
    assert np.abs(scores(squares, covariance)).max() < 5.0  # of eight hundred, with skewed errors
    assert model.posterior_["sample_stats"]["diverging"].values.sum() == 0


@pytest.mark.parametrize("name", ["Gaussian", "Poisson"])
def test_a_flat_posterior_of_collinear_features_is_that_of_an_orthogonal_design(name, rng):
    """Two features that differ by a millionth: a condition number of about two millions."""
    n, gap = 40, 1e-6
    Z = rng.normal(size=(n, 2))
    collinear = np.column_stack([Z[:, 0], Z[:, 0] + gap * Z[:, 1]])
    eta = 0.5 + 0.4 * Z[:, 0]
    y = {"Gaussian": eta + rng.normal(size=n), "Poisson": rng.poisson(np.exp(eta)) * 1.0}[name]
    both = [
        nmo.glm.GLM(name).sample_posterior(design, y, scale="plugin", num_samples=250, **QUIET)
        for design in (collinear, Z)
    ]
    ours, theirs = flat(both[0])[..., 0], flat(both[1])[..., 0]
    ours = ours @ np.array([[1, 1, 0], [0, gap, 0], [0, 0, 1]]).T
    for a, b in [(ours, theirs), (ours**2, theirs**2)]:
        for j in range(3):
            error = np.hypot(mcse(a[..., j]), mcse(b[..., j]))
            assert abs(a[..., j].mean() - b[..., j].mean()) < 4.5 * error  # of six, twice


# -- calibration -----------------------------------------------------------------------------------

N_SETS = 500
INTERCEPT = dist.Normal(0.3, 0.5)
FAMILIES = {
    "Poisson": (None, None),
    "Bernoulli": (None, None),
    "Gamma": ("exp", dist.LogNormal(-1.0, 0.4)),
    "NegativeBinomial": (None, dist.LogNormal(-1.0, 0.4)),
    "Gaussian": (None, dist.LogNormal(-1.0, 0.4)),
    "Categorical": (None, None),
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "strength"), [("Ridge", 0.1), ("Lasso", 0.1)])
@pytest.mark.parametrize("name", FAMILIES)
def test_ranks_of_true_parameters_are_uniform(name, kind, strength):
    """Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788): each simulated data set is a neuron."""
    link, scale_prior = FAMILIES[name]
    X = tables.X[:30, :2]
    priors = {"intercept_prior": INTERCEPT, "scale_prior": scale_prior}
    if name == "Categorical":
        estimator = nmo.glm.ClassifierPopulationGLM(3, link, kind, strength)
        y = np.tile(np.arange(3), 10)[:, None].repeat(N_SETS, axis=1)
    else:
        estimator = nmo.glm.PopulationGLM(name, link, kind, strength)
        y = np.ones((30, N_SETS))
    with jax.enable_x64(True):
        model = estimator.numpyro_model(X, y, **priors)
        truth = Predictive(model, num_samples=1)(jax.random.key(4), y=None)
        truth = {site: np.asarray(value)[0] for site, value in truth.items()}
    estimator.sample_posterior(X, truth["y"], num_samples=100, **priors, **QUIET)
    for site in ("coef", "intercept", *(["scale"] if scale_prior is not None else [])):
        values = draws(estimator, site).reshape(400, *truth[site].shape)
        ranks = (values < truth[site]).sum(axis=0)
        by_set = np.moveaxis(ranks, 1 if site == "coef" else 0, -1).reshape(-1, N_SETS)
        for each in by_set:
            uniform = (each + np.random.default_rng(0).uniform(size=N_SETS)) / 401
            assert stats.kstest(uniform, "uniform").pvalue > 1e-4
            covered = ((uniform > 0.05) & (uniform < 0.95)).mean()
            assert abs(covered - 0.9) < 4 * np.sqrt(0.9 * 0.1 / N_SETS)


# -- other samplers, other batches -----------------------------------------------------------------


@pytest.fixture(scope="module")
def population():
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    return model.sample_posterior(X, COUNTS, num_samples=200, **QUIET)


@pytest.mark.slow
def test_numpyro_draws_the_same_from_the_model_itself(population):
    with jax.enable_x64(True):
        mcmc = MCMC(
            NUTS(nmo.glm.PopulationGLM("Poisson", **RIDGE).numpyro_model(X, COUNTS)),
            num_warmup=300, num_samples=800, progress_bar=False,
        )  # fmt: skip
        mcmc.run(jax.random.key(1))
        theirs = np.asarray(mcmc.get_samples(group_by_chain=True)["coef"])
    ours = draws(population)
    for j, k in np.ndindex(ours.shape[2:]):
        error = np.hypot(mcse(ours[..., j, k]), mcse(theirs[..., j, k]))
        assert abs(ours[..., j, k].mean() - theirs[..., j, k].mean()) < 4 * error
        np.testing.assert_allclose(ours[..., j, k].std(), theirs[..., j, k].std(), rtol=0.2)


def test_one_neuron_alone_agrees_with_the_population(population):
    alone = nmo.glm.GLM("Poisson", **RIDGE).sample_posterior(
        X, COUNTS[:, 1], num_samples=200, random_key=jax.random.key(9), **QUIET
    )
    ours, theirs = flat(population)[..., 1], flat(alone)[..., 0]
    for j in range(ours.shape[-1]):
        error = np.hypot(mcse(ours[..., j]), mcse(theirs[..., j]))
        assert abs(ours[..., j].mean() - theirs[..., j].mean()) < 4 * error


def test_batches_and_the_other_neurons_do_not_change_a_draw(rng):
    """Keys and step sizes belong to neurons; rounding alone differs between batches."""
    y = rng.poisson(np.exp(0.3 * rng.normal(size=20)), size=(40, 20)).astype(float)
    X = rng.normal(size=(40, 2))
    runs = [
        nmo.glm.PopulationGLM("Poisson", **RIDGE).sample_posterior(
            X, y, num_samples=20, num_warmup=30, neuron_batch_size=size, **QUIET
        )
        for size in (None, 8, 8)
    ]
    np.testing.assert_array_equal(draws(runs[1]), draws(runs[2]))
    np.testing.assert_allclose(draws(runs[0]), draws(runs[1]), rtol=1e-6, atol=1e-8)


def test_step_size_is_frozen_and_trees_stay_shallow(population):
    found = population.posterior_["sample_stats"]
    for steps in np.moveaxis(found["step_size"].values, 2, 0):
        # one size for each neuron, and a smaller one for every eighth transition
        assert len(np.unique(steps)) == 2
        assert (steps == steps[:1]).all()
    assert found["n_steps"].values.max() <= 15
    assert found["diverging"].values.sum() == 0
    assert 0.5 < found["acceptance_rate"].values.mean() < 0.95


def test_neurons_that_fail_their_checks_are_sampled_again_together(monkeypatch):
    plain = nmo.glm.PopulationGLM("Poisson", **RIDGE).sample_posterior(
        X, COUNTS, num_samples=50, **QUIET
    )
    monkeypatch.setattr(_sampler, "_fails", lambda found: np.array([False, True, True]))
    runs, run = [], _nuts.run

    def counted(family, shared, lanes, keys, plan, *args):
        runs.append((keys.shape[0], plan.acceptance))
        return run(family, shared, lanes, keys, plan, *args)

    monkeypatch.setattr(_nuts, "run", counted)
    monkeypatch.setattr(_nuts, "AGAIN", _nuts.AGAIN._replace(warmup=50))
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    model.sample_posterior(X, COUNTS, num_samples=50, **QUIET)
    # one batch of three, then one of two, with smaller steps
    assert runs == [(3, _nuts.SMOOTH.acceptance), (2, _nuts.AGAIN.acceptance)]
    np.testing.assert_array_equal(draws(model)[..., 0], draws(plain)[..., 0])
    np.testing.assert_array_equal(model.posterior_["posterior"].attrs["resampled_neurons"], [1, 2])
    mean, sd = draws(model).mean(axis=(0, 1)), draws(model).std(axis=(0, 1))
    assert np.abs((mean - np.asarray(model.coef_)) / sd).max() < 0.5
    accepted = model.posterior_["sample_stats"]["acceptance_rate"].values
    assert accepted[..., 1:].mean() > accepted[..., 0].mean()


def test_neurons_of_very_different_dispersion_are_sampled_at_the_first_try(rng):
    """Few rows, and dispersions from a twentieth to two: with one step size for all, a third fails."""
    X = rng.normal(size=(25, 3))
    phi = np.exp(np.linspace(-3.0, 0.7, 24))
    y = rng.gamma(1 / phi, np.exp(0.5 * X @ rng.normal(size=(3, 24))) * phi)
    model = nmo.glm.PopulationGLM("Gamma", "exp", "Ridge", 0.05)
    model.sample_posterior(X, y, num_samples=200, **QUIET)
    assert len(model.posterior_["posterior"].attrs["resampled_neurons"]) <= 1


def test_the_edge_of_a_domain_is_no_reason_to_sample_again(rng):
    """A mean of 1 / eta near its edge stops a trajectory at any step size."""
    X = np.abs(rng.normal(size=(25, 2)))
    eta = 0.3 + X @ np.abs(rng.normal(size=(2, 24)))
    y = rng.gamma(2.0, 0.5 / eta)
    model = nmo.glm.PopulationGLM("Gamma", "one_over_x", "Ridge", 0.05)
    model.sample_posterior(X, y, num_samples=200, **QUIET)
    stats = model.posterior_["sample_stats"]
    assert stats["left_domain"].values.sum() > 0
    assert stats["diverging"].values.sum() == 0
    assert len(model.posterior_["posterior"].attrs["resampled_neurons"]) <= 1


def test_a_summary_of_masked_coefficients_has_no_interval_and_no_warning():
    mask = np.ones((4, 3), int)
    mask[1, 2] = 0
    table = nmo.glm.PopulationGLM("Poisson", **RIDGE, feature_mask=mask).fit(X, COUNTS)
    table = table.summary(X, COUNTS)
    lower = [name for name in table.columns if "%" in str(name)]
    assert np.isnan(table.loc["coef[1, 2]", lower].astype(float)).all()
    assert "dof" not in table.columns  # a normal distribution


def test_masked_coefficients_are_zero_and_a_mask_deletes_a_column():
    mask = np.ones((4, 3), int)
    mask[1, 2] = 0
    masked = nmo.glm.PopulationGLM("Poisson", **RIDGE, feature_mask=mask)
    masked.sample_posterior(X, COUNTS, num_samples=200, **QUIET)
    assert (draws(masked)[:, :, 1, 2] == 0).all()
    left = nmo.glm.GLM("Poisson", **RIDGE).sample_posterior(
        np.delete(X, 1, axis=1), COUNTS[:, 2], num_samples=200, **QUIET
    )
    ours = np.delete(draws(masked)[..., 2], 1, axis=2)
    for j in range(3):
        error = np.hypot(mcse(ours[..., j]), mcse(draws(left)[..., j]))
        assert abs(ours[..., j].mean() - draws(left)[..., j].mean()) < 4 * error


# -- normal approximation --------------------------------------------------------------------------


def test_copies_among_laplace_draws_cost_effective_size(population):
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    model.sample_posterior(X, COUNTS, method="laplace", num_samples=200, **QUIET)
    assert (model.posterior_["sample_stats"]["khat"].values < 0.5).all()
    values, found = draws(model), model.posterior_["sample_stats"]["importance_ess"].values
    for k in range(3):
        _, copies = np.unique(values[:, :, 0, k], return_counts=True)
        np.testing.assert_allclose(found[k], 800**2 / np.square(copies).sum())
    model.posterior_["sample_stats"]["importance_ess"].values[:] = [7.0, 90.0, 1e9]
    table = model.summary()
    assert (table["ess_bulk"][["coef[0, 0]", "intercept[0]"]] == 7.0).all()
    assert (table["ess_tail"][["coef[3, 1]", "intercept[1]"]] == 90.0).all()
    assert table["ess_bulk"]["coef[1, 2]"] > 90.0
    assert model.report().checks["ess_bulk"].values[0] == 7.0 / 4


def test_laplace_warns_where_the_posterior_is_far_from_normal():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(12, 6))
    y = (rng.uniform(size=12) < 0.5).astype(float)
    model = nmo.glm.GLM("Bernoulli", **RIDGE | {"regularizer_strength": 1e-4})
    with pytest.warns(RuntimeWarning, match="k-hat"):
        model.sample_posterior(X, y, method="laplace", num_samples=100, **QUIET)


# -- progress and interruption ---------------------------------------------------------------------


def test_an_interrupt_leaves_the_estimator_as_it_was(monkeypatch, population):
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE).fit(X, COUNTS)
    before = dict(model.__dict__)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_nuts, "advance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.sample_posterior(X + 1.0, COUNTS, num_samples=200, **QUIET)
    assert model.__dict__ == before


def test_progress_is_shown_and_can_be_silenced(capsys, population):
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    model.sample_posterior(X, COUNTS, num_samples=200)
    assert "sampling" in capsys.readouterr().err
    model.sample_posterior(X, COUNTS, num_samples=200, **QUIET)
    assert capsys.readouterr().err == ""
