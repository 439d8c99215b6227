"""The joint density as NumPyro sees it.

Inference runs on it, priors are proper where they claim to be, and `fit` is its mode.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
from jax.flatten_util import ravel_pytree
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.util import log_density, potential_energy, unconstrain_fn
from scipy import stats
from scipy.integrate import simpson

import bayesglm as nmo
from bayesglm.model import default_scale_prior

X = tables.X
N_ROWS, N_FEATURES = X.shape
NORMAL = dist.Normal(0.0, 0.5)


def count(k=0):
    return tables.RESPONSES["Poisson"][:, k]


# -- fit is the mode -------------------------------------------------------------------------------

MASK = np.ones((N_FEATURES, tables.N_NEURONS), int)
MASK[0, 1] = MASK[2, 2] = 0
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.1}
#: Estimator, responses, and the dispersion at which the density is taken.
SMOOTH = {
    "Poisson, flat": (nmo.glm.GLM(), count(), 1.0),
    "Poisson, ridge": (nmo.glm.GLM(**RIDGE), count(), 1.0),
    "Gaussian, ridge": (nmo.glm.GLM("Gaussian", **RIDGE), tables.RESPONSES["Gaussian"][:, 0], 2.3),
    "Gamma, ridge": (nmo.glm.GLM("Gamma", "exp", **RIDGE), tables.RESPONSES["Gamma"][:, 0], 0.4),
    "population, masked": (
        nmo.glm.PopulationGLM(**RIDGE, feature_mask=MASK), tables.RESPONSES["Poisson"], 1.0
    ),
    "softmax, ridge": (nmo.glm.ClassifierGLM(3, **RIDGE), tables.LABELS[:, 0], 1.0),
    "softmax population, ridge": (nmo.glm.ClassifierPopulationGLM(3, **RIDGE), tables.LABELS, 1.0),
}  # fmt: skip


def slow(cases):
    """Mark what compiles longest."""
    marks = {"softmax population, ridge": pytest.mark.slow}
    return [pytest.param(case, marks=marks.get(case, ())) for case in cases]


@pytest.mark.parametrize("case", slow(SMOOTH))
def test_fit_is_the_mode_of_the_density(case):
    estimator, y, scale = SMOOTH[case]
    with jax.enable_x64(True):
        estimator.set_params(solver_kwargs={"tol": 1e-8}).fit(X, y)
        model = estimator.numpyro_model(X, y, scale=scale)
        params = {"coef": estimator.coef_, "intercept": estimator.intercept_}
        if case.startswith(("Poisson", "Gaussian", "Gamma")):
            params["intercept"] = params["intercept"][0]
        # an unconstrained point: orthonormal coordinates where parameters sum to zero
        point, restore = ravel_pytree(unconstrain_fn(model, (), {}, params))

        def potential(z):
            return potential_energy(model, (), {}, restore(z))

        gradient = np.asarray(jax.jit(jax.grad(potential))(point))
        hessian = np.asarray(jax.jit(jax.hessian(potential))(point))
    # The length of the Newton step in posterior standard deviations. The solver stops below 1e-8 of
    # them by its own estimate (at another dispersion they change by a factor of order one).
    assert np.sqrt(gradient @ np.linalg.solve(hessian, gradient)) < 1e-6


# -- normalisation ---------------------------------------------------------------------------------


def log_joint(model, **params):
    with jax.enable_x64(True):
        return float(log_density(model, (), {}, jax.tree.map(jnp.asarray, params))[0])


def test_density_keeps_its_constants_when_the_dispersion_varies(rng):
    # the whole log-density in closed form, so that a sampled dispersion sees likelihood and prior normalised
    y, strength, coef, intercept = (
        tables.RESPONSES["Gaussian"][:, 0],
        0.2,
        rng.normal(size=N_FEATURES),
        0.3,
    )
    eta = X @ coef + intercept
    priors = {
        "Ridge": lambda phi: stats.norm(0, np.sqrt(2 * phi / (N_ROWS * strength))),
        "Lasso": lambda phi: stats.laplace(0, 2 * phi / (N_ROWS * strength)),
    }
    for kind, prior in priors.items():
        model = nmo.glm.GLM(
            "Gaussian", regularizer=kind, regularizer_strength=strength
        ).numpyro_model(X, y, scale_prior=dist.LogNormal(0.2, 0.7))
        for phi in (0.3, 1.9):
            expected = (
                stats.norm(eta, np.sqrt(phi)).logpdf(y).sum()
                + prior(phi).logpdf(coef).sum()
                + stats.lognorm(0.7, scale=np.exp(0.2)).logpdf(phi)
            )
            found = log_joint(model, coef=coef, intercept=intercept, scale=phi)
            np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
@pytest.mark.parametrize("name", ["Gaussian", "Gamma"])
def test_prior_given_the_dispersion_integrates_to_one(name, kind):
    # one feature that does not enter the likelihood, and one row: what is left is the prior
    y = tables.RESPONSES[name][:, 0]
    weight = np.zeros(N_ROWS)
    weight[0] = 1.0
    estimator = nmo.glm.GLM(name, "exp", regularizer=kind, regularizer_strength=0.8)
    one = np.zeros((N_ROWS, 1))
    model = estimator.numpyro_model(
        one, y, scale_prior=dist.LogNormal(0.0, 1.0), sample_weight=weight
    )
    grid = np.linspace(-60, 60, 24_001)
    for phi in (0.5, 3.0):
        with jax.enable_x64(True):
            density = jax.jit(
                jax.vmap(
                    lambda w, phi=phi: log_density(
                        model,
                        (),
                        {},
                        {"coef": w[None], "intercept": jnp.array(0.1), "scale": jnp.array(phi)},
                    )[0]
                )
            )(jnp.asarray(grid))
        kappa = {"Gaussian": 0.5, "Gamma": 1.0}[name] / phi
        likelihood = {
            "Gaussian": stats.norm(np.exp(0.1), np.sqrt(phi)).logpdf,
            "Gamma": stats.gamma(1 / phi, scale=phi * np.exp(0.1)).logpdf,
        }[name](y[0])
        total = simpson(np.exp(np.asarray(density) - likelihood), x=grid)
        # the kink at zero lies on the grid; beyond 60 lies exp(-60 * 0.8 * kappa)
        expected = stats.lognorm(1.0).pdf(phi)
        np.testing.assert_allclose(total, expected, rtol=1e-6 + 3 * np.exp(-48 * kappa))


@pytest.mark.parametrize("name", ["Gaussian", "Gamma", "NegativeBinomial"])
def test_weak_priors_of_the_dispersion_integrate_to_one(name):
    with jax.enable_x64(True):
        model = nmo.glm.GLM(name).observation_model
        prior = default_scale_prior(model, np.array([0.5, 3.0]))
        log_scale = np.linspace(-120, 60, 40_001)[:, None]
        density = np.exp(np.asarray(prior.log_prob(np.exp(log_scale))) + log_scale)
    # tails fall like a power of the dispersion, at least 0.4: e^-48 and e^-24 are left out
    np.testing.assert_allclose(simpson(density, x=log_scale[:, 0], axis=0), 1.0, atol=1e-8)


def test_other_families_have_no_dispersion_to_sample():
    assert default_scale_prior(nmo.observation_models.PoissonObservations(), 1.0) is None


@pytest.mark.parametrize("name", tables.RESPONSES)
def test_dispersion_is_a_site_where_the_family_has_one_and_it_is_sampled(name):
    y = tables.RESPONSES[name]
    estimator = nmo.glm.PopulationGLM(name, "exp" if name in ("Gamma", "Gaussian") else None)
    params = {"coef": np.zeros((N_FEATURES, 3)), "intercept": np.full(3, 0.2)}
    has_one = name in ("Gaussian", "Gamma", "NegativeBinomial")
    scale = {"scale": np.array([0.5, 1.0, 2.0])} if has_one else {}
    assert np.isfinite(log_joint(estimator.numpyro_model(X, y), **params, **scale))
    trace = log_density(estimator.numpyro_model(X, y, scale=1.0), (), {}, params)[1]
    assert "scale" not in trace
    if has_one:
        trace = log_density(estimator.numpyro_model(X, y), (), {}, {**params, **scale})[1]
        assert trace["scale"]["fn"].event_shape == (3,)


def test_missing_responses_do_not_enter_the_prior_of_the_dispersion():
    y = 50.0 + tables.RESPONSES["Gaussian"][:, 0]
    spoiled, rows = y.copy(), np.arange(0, N_ROWS, 2)
    spoiled[rows] = np.nan
    estimator = nmo.glm.GLM("Gaussian")
    params = {"coef": np.zeros(N_FEATURES), "intercept": 50.0, "scale": 0.7}
    without = estimator.numpyro_model(np.delete(X, rows, axis=0), np.delete(y, rows))
    found = log_joint(estimator.numpyro_model(X, spoiled), **params)
    np.testing.assert_allclose(found, log_joint(without, **params), rtol=1e-12)


def test_plug_in_dispersion_is_that_of_the_fit():
    for kind, y in (
        (nmo.glm.GLM, tables.RESPONSES["Gaussian"][:, 0]),
        (nmo.glm.PopulationGLM, tables.RESPONSES["Gaussian"]),
    ):
        estimator = kind("Gaussian")
        with pytest.raises(ValueError, match="call it first"):
            estimator.numpyro_model(X, y, scale="plugin")
        with jax.enable_x64(True):
            estimator.fit(X, y)
            params = {
                "coef": estimator.coef_,
                "intercept": estimator.intercept_.reshape(y.shape[1:]),
            }
            scale = estimator.scale_ if y.ndim > 1 else estimator.scale_[0]
        models = [estimator.numpyro_model(X, y, scale=s) for s in ("plugin", np.asarray(scale))]
        np.testing.assert_allclose(*(log_joint(m, **params) for m in models), rtol=1e-14)
    with pytest.raises(ValueError, match="'sample', 'plugin' or a number"):
        estimator.numpyro_model(X, y, scale="other")


@pytest.mark.parametrize("name", ["Poisson", "NegativeBinomial"])
def test_counts_that_are_not_integers_have_no_joint_density(name):
    with pytest.raises(ValueError, match="not integers"):
        nmo.glm.GLM(name).numpyro_model(X, count() + 0.5)


# -- drawing from the model ------------------------------------------------------------------------


def prior_draws(estimator, y, n_draws=400, **kwargs):
    with jax.enable_x64(True):
        model = estimator.numpyro_model(X, y, intercept_prior=NORMAL, **kwargs)
        drawn = Predictive(model, num_samples=n_draws)(jax.random.key(2), y=None)
    return {name: np.asarray(values) for name, values in drawn.items()}


STRENGTH = 0.05
PRIOR_VARIANCE = {  # of a coefficient at the rate n * strength
    "Ridge": lambda rate: 1 / rate,
    "Lasso": lambda rate: 2 / rate**2,
    "GroupLasso": lambda rate: (N_FEATURES + 1) / (rate**2 * N_FEATURES),
}


@pytest.mark.parametrize("kind", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
def test_prior_predictive_draws_parameters_and_responses(kind):
    estimator = nmo.glm.GLM(regularizer=kind, regularizer_strength=STRENGTH)
    drawn = prior_draws(estimator, count())
    assert {k: v.shape for k, v in drawn.items()} == {
        "coef": (400, N_FEATURES), "intercept": (400,), "y": (400, N_ROWS)
    }  # fmt: skip
    assert (drawn["y"] >= 0).all()
    if kind in PRIOR_VARIANCE:
        squared = (drawn["coef"] ** 2).ravel()
        # coefficients of one group share a radius: the error is that of the draws, not of all coefficients
        error = squared.std() / np.sqrt(400)
        assert abs(squared.mean() - PRIOR_VARIANCE[kind](N_ROWS * STRENGTH)) < 4 * error


def test_responses_follow_the_drawn_parameters():
    estimator = nmo.glm.PopulationGLM("Gaussian", **RIDGE)
    drawn = prior_draws(estimator, tables.RESPONSES["Gaussian"], scale_prior=dist.Uniform(0.5, 2.0))
    eta = np.einsum("if,dfk->dik", X, drawn["coef"]) + drawn["intercept"][:, None]
    z = (drawn["y"] - eta) / np.sqrt(drawn["scale"][:, None])
    assert stats.kstest(z.ravel()[::7], stats.norm.cdf).pvalue > 1e-4
    prior = drawn["coef"] * np.sqrt(N_ROWS * 0.1 * 0.5 / drawn["scale"][:, None])
    assert stats.kstest(prior.ravel(), stats.norm.cdf).pvalue > 1e-4


def test_masked_coefficients_do_not_touch_the_response():
    estimator = nmo.glm.PopulationGLM("Gaussian", **RIDGE, feature_mask=MASK)
    drawn = prior_draws(estimator, tables.RESPONSES["Gaussian"], scale=1e-12)
    eta = np.einsum("if,dfk->dik", X, drawn["coef"] * MASK) + drawn["intercept"][:, None]
    np.testing.assert_allclose(drawn["y"], eta, atol=1e-4)
    masked = drawn["coef"][:, MASK == 0].ravel()  # stand-ins, standard normal whatever the strength
    assert stats.kstest(masked, stats.norm.cdf).pvalue > 1e-4


@pytest.mark.parametrize("kind", ["UnRegularized", "Ridge"])
def test_flat_priors_cannot_be_drawn(kind):
    estimator = nmo.glm.GLM(regularizer=kind, regularizer_strength=STRENGTH)
    model = estimator.numpyro_model(X, count())
    with pytest.raises(NotImplementedError):
        Predictive(model, num_samples=2)(jax.random.key(0), y=None)


def test_softmax_coefficients_of_a_ridge_sum_to_zero_over_the_classes():
    estimator = nmo.glm.ClassifierPopulationGLM(3, **RIDGE)
    with jax.enable_x64(True):
        model = estimator.numpyro_model(X, tables.LABELS)
        prior = log_density(
            model, (), {}, {"coef": jnp.zeros((N_FEATURES, 3, 3)), "intercept": jnp.zeros((3, 3))}
        )[1]["coef"]["fn"]
        drawn = np.asarray(prior.sample(jax.random.key(0), (2000,)))
    np.testing.assert_allclose(drawn.sum(axis=-1), 0.0, atol=1e-12)
    # the projection of a normal with precision n * strength: a share 2/3 of its variance is left
    squared = drawn.ravel() ** 2
    error = squared.std() / np.sqrt(len(squared) / 3)
    assert abs(squared.mean() - 2 / 3 / (N_ROWS * 0.1)) < 4 * error


# -- inference -------------------------------------------------------------------------------------


def sample(estimator, y, **kwargs):
    mcmc = MCMC(
        NUTS(estimator.numpyro_model(X, y, **kwargs)),
        num_warmup=60,
        num_samples=60,
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0))
    return {name: np.asarray(values) for name, values in mcmc.get_samples().items()}


@pytest.mark.slow
def test_numpyro_samples_the_posterior_of_counts():
    estimator = nmo.glm.GLM(**RIDGE)
    drawn = sample(estimator, count())
    fitted = estimator.fit(X, count())
    assert drawn["coef"].shape == (60, N_FEATURES)
    # sixty draws place the mean within a standard deviation of the mode with ease: a wrong model is off by many
    distance = (drawn["coef"].mean(axis=0) - np.asarray(fitted.coef_)) / drawn["coef"].std(axis=0)
    assert np.abs(distance).max() < 1.0


@pytest.mark.slow
def test_numpyro_samples_classes_in_the_subspace_that_sums_to_zero():
    drawn = sample(nmo.glm.ClassifierGLM(3, **RIDGE), tables.LABELS[:, 0])
    for values in (drawn["coef"], drawn["intercept"]):
        assert np.isfinite(values).all()
        assert (values.std(axis=0) > 0).all()
        np.testing.assert_allclose(values.sum(axis=-1), 0.0, atol=1e-5)  # single precision


@pytest.mark.slow
def test_numpyro_samples_the_dispersion_of_a_masked_population():
    estimator = nmo.glm.PopulationGLM(
        "Gaussian", regularizer="GroupLasso", regularizer_strength=0.02, feature_mask=MASK
    )
    drawn = sample(estimator, tables.RESPONSES["Gaussian"])
    assert drawn["scale"].shape == (60, 3)
    # the responses have noise of variance 0.49; their number leaves ten per cent
    assert np.abs(drawn["scale"].mean(axis=0) / 0.49 - 1.0).max() < 0.4


@pytest.mark.slow
def test_one_data_set_serves_inference_in_single_precision_and_a_fit_in_double():
    features = X.copy()
    estimator = nmo.glm.GLM(**RIDGE)
    mcmc = MCMC(
        NUTS(estimator.numpyro_model(features, count())),
        num_warmup=2,
        num_samples=2,
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0))
    assert np.isfinite(estimator.fit(features, count()).coef_).all()
