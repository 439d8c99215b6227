"""Zero-inflated counts: the gate is found with the coefficients, held where it is given, and sampled."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadrature
import statsmodels.api as sm
import tables
from arviz_stats.base import array_stats
from numpyro.distributions import constraints
from numpyro.handlers import seed, substitute, trace
from numpyro.infer.util import log_density
from reference import fitted
from scipy import special, stats
from sklearn.base import clone
from studies import sbc

import bayesglm as nmo

ZeroInflated = nmo.observation_models.ZeroInflatedPoissonObservations
X, N = tables.X, tables.N_SAMPLES
_rng = np.random.default_rng(5)
Y = _rng.poisson(tables.RATE / 0.7) * (_rng.uniform(size=tables.RATE.shape) < 0.7) * 1.0


def odds(model):
    with jax.enable_x64(True):
        return np.asarray(model.scale_)


def log_pmf(y, mean, scale):
    """Written out with SciPy."""
    gate, rate = scale / (1 + scale), mean * (1 + scale)
    poisson = np.log1p(-gate) + stats.poisson.logpmf(y, rate)
    return np.where(y == 0, np.log(gate + (1 - gate) * np.exp(-rate)), poisson)


@pytest.mark.oracle
def test_estimates_and_errors_are_those_of_statsmodels():
    """Its intercepts are those of the rate of the Poisson part; its optimiser starts at ours."""
    for k in range(Y.shape[1]):
        model = nmo.glm.GLM("ZeroInflatedPoisson").fit(X, Y[:, k])
        (coef, intercept), scale = fitted(model), odds(model)[0]
        start = np.r_[np.log(scale), intercept + np.log1p(scale), coef]
        problem = sm.ZeroInflatedPoisson(Y[:, k], sm.add_constant(X), inflation="logit")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = problem.fit(start, method="newton", maxiter=100, disp=0)
        # both stop far below the sixth digit
        np.testing.assert_allclose(found.params, start, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(float(model.score(X, Y[:, k])) * N, found.llf, rtol=1e-6)
        # errors given the gate: those of the Hessian without its row
        hessian = -problem.hessian(found.params)[1:, 1:]
        errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
        table = model.summary(X, Y[:, k])
        np.testing.assert_allclose(table["std_error"][:-1], errors[1:], rtol=1e-4)


def test_density_and_gate_are_those_of_the_textbook(rng):
    mean, scale = rng.gamma(2.0, 1.0, size=50), 0.6
    y = rng.poisson(mean) * rng.integers(0, 2, 50)
    family = ZeroInflated(scale / (1 + scale))
    with jax.enable_x64(True):
        found = family.log_likelihood(y, mean, aggregate_sample_scores=lambda scores: scores)
        np.testing.assert_allclose(found, log_pmf(y, mean, scale), rtol=1e-10)
        # nothing explains a count of y better than a Poisson part of mean y; a zero is explained for certain
        most = np.where(y == 0, 0.0, log_pmf(y, y / (1 + scale), scale))
        np.testing.assert_allclose(
            family.deviance(y, mean), 2 * (most - log_pmf(y, mean, scale)), rtol=1e-8, atol=1e-8
        )
    assert ZeroInflated(0.25).scale == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_penalised_loss_is_the_negative_log_density(kind, rng):
    strength = tables.REGULARIZERS[kind]
    model = nmo.glm.GLM(ZeroInflated(0.3), None, kind, strength)
    y = Y[:40, 0]
    with jax.enable_x64(True):
        joint = model.numpyro_model(X[:40], y, scale=model.observation_model.scale)
        penalised = model.regularizer.penalized_loss(
            model.compute_loss, (np.zeros(4), np.zeros(1)), strength
        )
        values = []
        for _ in range(3):
            coef, intercept = rng.normal(size=4), rng.normal(size=1)
            loss = penalised((jnp.asarray(coef), jnp.asarray(intercept)), X[:40], y)
            sites = {"coef": jnp.asarray(coef), "intercept": jnp.asarray(intercept[0])}
            values.append(40 * float(loss) + float(log_density(joint, (), {}, sites)[0]))
    # sums of forty terms of order one
    np.testing.assert_allclose(values, values[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["UnRegularized", "Ridge", "Lasso"])
def test_a_population_has_the_gates_of_its_neurons_optimal_given_the_coefficients(kind):
    model = nmo.glm.PopulationGLM("ZeroInflatedPoisson", None, kind, tables.REGULARIZERS[kind])
    model.fit(X, Y)
    coef, intercept = fitted(model)
    for k, scale in enumerate(odds(model)):
        held = nmo.glm.GLM(ZeroInflated(scale / (1 + scale)), None, kind, tables.REGULARIZERS[kind])
        held.fit(X, Y[:, k])
        # fits stop at 1e-6 of a standard error, which is about 0.1
        np.testing.assert_allclose(fitted(held)[0], coef[:, k], rtol=0, atol=1e-6)
        mean = np.exp(X @ coef[:, k] + intercept[k])
        around = [log_pmf(Y[:, k], mean, scale * step).sum() for step in (1 - 1e-3, 1.0, 1 + 1e-3)]
        # a concave maximum: a thousandth to either side costs about 1e-6 of the information, a slope much more
        assert around[1] > max(around[0], around[2])
        assert abs(around[2] - around[0]) < 1e-2 * (2 * around[1] - around[0] - around[2])


def test_zeros_that_a_poisson_explains_leave_the_gate_at_its_bound(rng):
    y = rng.binomial(4, 0.5, size=N).astype(float)  # fewer zeros than Poisson
    model = nmo.glm.GLM("ZeroInflatedPoisson").fit(X, y)
    np.testing.assert_allclose(odds(model), 1e-6, rtol=1e-9)
    # a gate of a millionth moves nothing that these rows could show
    np.testing.assert_allclose(model.coef_, nmo.glm.GLM().fit(X, y).coef_, atol=1e-5)


def test_draws_have_the_exact_means_and_variances():
    """Of one coefficient, the intercept and the log odds, by sums over a grid."""
    x, y = np.abs(X[:16, :1]), Y[:16]
    model, prior = nmo.glm.PopulationGLM(ZeroInflated(), None, "Ridge", 0.1), sbc.SCALE_PRIOR
    for method in ("nuts", "laplace"):
        model.sample_posterior(
            x, y, method=method, num_samples=500, progress_bar=False, scale_prior=prior
        )
        data = model.posterior_["posterior"]
        draws = np.stack(
            [
                data["coef"].values[:, :, 0],
                data["intercept"].values,
                special.logit(data["gate"].values),
            ],
            2,
        )
        for k in range(y.shape[1]):
            each = draws[..., k]
            where = each.mean(axis=(0, 1)), each.std(axis=(0, 1))
            alone = nmo.glm.GLM(ZeroInflated(), None, "Ridge", 0.1)
            exact = quadrature.moments(alone, x, y[:, k], *where, scale_prior=prior)
            for j in range(3):
                one = each[..., j]
                ess = min(array_stats.ess(one, chain_axis=0, draw_axis=1, method="mean"), 2000)
                # the largest of thirty-six scores
                assert abs(one.mean() - exact[0][j]) < 4.5 * one.std() / np.sqrt(ess)
                square = np.square(one - exact[0][j])
                assert abs(square.mean() - exact[1][j]) < 4.5 * square.std() / np.sqrt(ess)


def test_it_travels_through_the_tools_and_files(tmp_path):
    model = nmo.glm.GLM(ZeroInflated(0.2)).fit(X, Y[:, 0])
    assert repr(model.observation_model) == "ZeroInflatedPoissonObservations(gate=0.2)"
    assert clone(model).get_params()["observation_model__gate"] == 0.2
    model.save_params(tmp_path / "model.npz")
    loaded = nmo.load_model(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.observation_model.gate == 0.2
    drawn, mean = model.simulate(jax.random.key(0), np.repeat(X[:1], 20_000, axis=0))
    # four standard errors of the mean and of the share of zeros of 20,000 draws
    share = 0.2 + 0.8 * np.exp(-float(mean[0]) / 0.8)
    assert abs(float(jnp.mean(drawn)) - float(mean[0])) < 4 * np.std(drawn) / np.sqrt(20_000)
    assert abs(float(jnp.mean(drawn == 0)) - share) < 4 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize("gate", [0.0, 1.0, -0.1, np.nan, "guess", None])
def test_gates_that_are_no_share_are_refused(gate):
    with pytest.raises(ValueError, match="`gate` must be a number between 0 and 1 or 'estimate'"):
        ZeroInflated(gate)


def test_the_gate_bears_its_name_wherever_it_is_seen(tmp_path):
    x, y = np.abs(X[:16, :1]), Y[:16]
    model = nmo.glm.PopulationGLM(ZeroInflated(), None, "Ridge", 0.1)
    assert model.gate_ is None
    fit = clone(model).fit(x, y)
    # shown in single precision
    np.testing.assert_allclose(fit.gate_, odds(fit) / (1 + odds(fit)), rtol=1e-6)
    said = fit.summary(x, y).attrs["dispersion"]
    assert said["name"] == "gate"
    assert said["how"] == "estimated by profile likelihood"
    np.testing.assert_allclose(said["value"], fit.gate_, rtol=1e-6)
    with jax.enable_x64(True):
        sites = trace(substitute(
            seed(model.numpyro_model(x, y), 0), {"coef": jnp.zeros((1, 3)), "intercept": jnp.zeros(3)}
        )).get_trace()  # fmt: skip
        gate = sites["gate"]["fn"]
        assert "scale" not in sites
        # uniform by default
        np.testing.assert_allclose(gate.log_prob(jnp.array([0.2, 0.5, 0.9])), 0.0, atol=1e-12)
        assert gate.support.base_constraint is constraints.unit_interval
    model.sample_posterior(x, y, num_samples=500, progress_bar=False)
    draws = model.posterior_["posterior"]
    assert set(draws.data_vars) == {"coef", "intercept", "gate"}
    assert ((draws["gate"] > 0) & (draws["gate"] < 1)).all()
    table = model.summary()
    assert [name for name in table.index if "gate" in name] == ["gate[0]", "gate[1]", "gate[2]"]
    assert table.attrs["dispersion"]["name"] == "gate"
    mean = draws["gate"].values.mean(axis=(0, 1))
    np.testing.assert_allclose(table.attrs["dispersion"]["value"], mean)
    # a uniform prior, to whatever power, pulls nowhere
    np.testing.assert_allclose(model.posterior_["log_prior"]["gate"], 0.0, atol=1e-9)
    model.posterior_.to_netcdf(tmp_path / "draws.nc", engine="h5netcdf")
    before = model.loo(x, y).elpd
    model.posterior_ = tmp_path / "draws.nc"
    assert model.loo(x, y).elpd == before
    assert model.report(x, y).checks["loo_pit"].status in ("ok", "caution", "fail")


def test_families_without_a_gate_have_no_such_attribute():
    model = nmo.glm.GLM().fit(X, Y[:, 0])
    with pytest.raises(AttributeError, match=r"PoissonObservations\(\) has no gate"):
        _ = model.gate_
    assert not hasattr(model, "gate_")
