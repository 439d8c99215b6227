"""The log-density of the priors at draws: the joint density without the likelihood, neuron by neuron."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
from numpyro.infer.util import compute_log_probs
from problems import problem_of
from scipy import stats

import bayesglm as nmo
from bayesglm.glm import _lanes, _log_prior
from bayesglm.glm._joint import weakly

N_ROWS, N_DRAWS = 24, 4
X = tables.X[:N_ROWS]
MASK = np.ones((tables.N_FEATURES, tables.N_NEURONS), int)
MASK[0, 1] = MASK[2, 2] = 0
TIED = np.zeros((2, tables.N_FEATURES, tables.N_NEURONS))
TIED[0, :2], TIED[1, 2:] = 1, 1
# Sums of a few hundred terms of order one to a hundred, in float64.
ATOL = 1e-8


def points(model, rng):
    """Draws (coef, intercept, scale or None) anywhere in the support."""
    lead, outputs = (N_DRAWS,), model.outputs
    coef = 0.3 * rng.normal(size=(*lead, len(model.mask), *outputs)) * model.mask
    intercept = 0.3 * rng.normal(size=(*lead, *outputs))
    if model.n_classes is not None:
        coef = coef - coef.mean(axis=-1, keepdims=True) if model.zero_sum else coef
        intercept = intercept - intercept.mean(axis=-1, keepdims=True)
    sampled = isinstance(model.scale, dist.Distribution)
    scale = np.exp(0.5 * rng.normal(size=(*lead, *model.neurons))) if sampled else None
    if model.inverse_link is nmo.links.one_over_x:  # the mean must be positive
        coef, intercept = 0.1 * coef, 3.0 + intercept
    return coef, intercept, scale


def at_draws(estimator, y, draws, intercept_prior=None, scale_prior=None, prior=None, X=X):
    """Log-priors as `sample_posterior` computes them, (draws, neurons) by parameter."""
    problem, weak = _lanes.double(problem_of(estimator, X, y)), None
    if prior is not None:
        problem, weak = weakly(problem)
    scale = np.ones(problem.n_neurons)
    how = _lanes.priors_of(problem, "sample", scale, scale_prior, intercept_prior, weak)
    family, shared, lanes = _lanes.build(problem, how, 1)
    coef, intercept, scale = draws
    theta = np.stack([problem.theta(*each) for each in zip(coef, intercept, strict=True)])
    empty = np.empty((len(coef), problem.n_lanes, 0))
    log_scale = empty if scale is None else np.log(scale).reshape(len(coef), problem.n_lanes, -1)
    drawn = theta[..., :-1], theta[..., -1], log_scale
    return _log_prior.at_draws(family, shared, lanes, drawn)


def compared(estimator, y, rng, X=X, **how):
    """Model, log-priors by parameter, and the log of the joint density without the likelihood, at some draws."""
    with jax.enable_x64(True):
        joint = estimator.numpyro_model(X, y, **how)
        model = joint.args[0]
        draws = coef, intercept, scale = points(model, rng)
        found = at_draws(estimator, y, draws, X=X, **how)
        rest = []
        for k in range(N_DRAWS):
            values = {"coef": coef[k], "intercept": intercept[k]}
            values |= {} if scale is None else {"scale": scale[k]}
            sites = compute_log_probs(joint, (), {}, values)[0]
            rest.append(sum(float(v.sum()) for name, v in sites.items() if name != "y"))
    return model, found, np.array(rest)


def assert_same(found, rest, masked=False, tied=False):
    """Densities agree, normalising constants included, but for those of stand-ins for masked coefficients."""
    total = sum(a[:, 0] if tied and name == "coef" else a.sum(axis=1) for name, a in found.items())
    assert np.ptp(rest) > 1e-3
    if masked:
        total, rest = np.diff(total), np.diff(rest)
    np.testing.assert_allclose(total, rest, rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", [kind for kind in tables.REGULARIZERS if kind != "UnRegularized"])
@pytest.mark.parametrize("family", tables.FAMILY_LINKS)
def test_log_priors_and_likelihood_make_up_the_joint_density(family, kind, rng):
    strength = tables.REGULARIZERS[kind]
    for estimator, y in (
        (nmo.glm.GLM(family, None, kind, strength), tables.RESPONSES[family][:N_ROWS, 0]),
        (
            nmo.glm.PopulationGLM(family, None, kind, strength, feature_mask=MASK),
            tables.RESPONSES[family][:N_ROWS],
        ),
    ):
        model, found, rest = compared(estimator, y, rng)
        assert set(found) == {"coef"} | ({"scale"} if hasattr(model.scale, "log_prob") else set())
        assert all(
            values.shape == (N_DRAWS, tables.N_NEURONS if model.neurons else 1)
            for values in found.values()
        )
        assert_same(found, rest, masked=not model.mask.all())


@pytest.mark.parametrize("kind", ["Ridge", "Lasso", "GroupLasso"])
@pytest.mark.parametrize("population", [False, True])
def test_so_they_do_for_classes(kind, population, rng):
    face = nmo.glm.ClassifierPopulationGLM if population else nmo.glm.ClassifierGLM
    labels = tables.LABELS[:N_ROWS] if population else tables.LABELS[:N_ROWS, 0]
    _, found, rest = compared(face(3, None, kind, tables.REGULARIZERS[kind]), labels, rng)
    assert found["coef"].shape == (N_DRAWS, tables.N_NEURONS if population else 1)
    assert_same(found, rest)


@pytest.mark.parametrize("population", [False, True])
@pytest.mark.parametrize("family", ["Poisson", "Gaussian"])
def test_so_they_do_under_automatic_priors_and_those_of_the_user(family, population, rng):
    face = nmo.glm.PopulationGLM if population else nmo.glm.GLM
    y = tables.RESPONSES[family][:N_ROWS]
    y = y if population else y[:, 0]
    _, found, rest = compared(face(family), y, rng, prior="auto")
    assert {"coef", "intercept"} <= set(found)
    assert_same(found, rest)
    own = {"intercept_prior": dist.Normal(0.3, 0.8), "scale_prior": dist.LogNormal(0.0, 0.5)}
    _, found, rest = compared(face(family, None, "Ridge", 0.1), y, rng, **own)
    assert {"coef", "intercept"} <= set(found)
    assert_same(found, rest)


def test_neurons_that_a_group_ties_together_have_the_value_of_the_whole(rng):
    estimator = nmo.glm.PopulationGLM(
        "Gaussian", regularizer=nmo.regularizer.GroupLasso(TIED), regularizer_strength=0.05
    )
    _, found, rest = compared(estimator, tables.RESPONSES["Gaussian"][:N_ROWS], rng)
    np.testing.assert_array_equal(found["coef"], found["coef"][:, :1].repeat(3, axis=1))
    assert_same(found, rest, tied=True)


@pytest.mark.parametrize("kind", ["Ridge", "ElasticNet", "GroupLasso"])
def test_each_neuron_has_the_log_prior_that_it_has_alone(kind, rng):
    y = tables.RESPONSES["Gaussian"][:N_ROWS]
    with jax.enable_x64(True):
        several = nmo.glm.PopulationGLM("Gaussian", None, kind, tables.REGULARIZERS[kind])
        draws = points(several.numpyro_model(X, y).args[0], rng)
        found = at_draws(several, y, draws)
        for k in range(tables.N_NEURONS):
            one = nmo.glm.GLM("Gaussian", None, kind, tables.REGULARIZERS[kind])
            alone = at_draws(one, y[:, k], [a[..., k] for a in draws])
            for name in ("coef", "scale"):
                np.testing.assert_allclose(found[name][:, k], alone[name][:, 0], rtol=1e-12)


def test_a_quadratic_penalty_has_the_normalised_normal_density(rng):
    strength, y = 0.1, tables.RESPONSES["Gaussian"][:N_ROWS, 0]
    estimator = nmo.glm.GLM("Gaussian", None, "Ridge", strength)
    with jax.enable_x64(True):
        coef, intercept, scale = points(estimator.numpyro_model(X, y).args[0], rng)
        found = at_draws(estimator, y, (coef, intercept, scale))["coef"]
    # n kappa strength, with the Gaussian's kappa of 1 / (2 scale)
    sd = np.sqrt(2.0 * scale / (N_ROWS * strength))
    expected = stats.norm(0.0, sd[:, None]).logpdf(coef).sum(axis=1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)


def test_flat_priors_contribute_nothing(rng):
    y = tables.RESPONSES["Poisson"][:N_ROWS, 0]
    partly = nmo.glm.GLM("Poisson", None, "Ridge", np.array([0.1, 0.0, 0.0, 0.0]))
    with jax.enable_x64(True):
        coef, intercept, _ = points(partly.numpyro_model(X, y).args[0], rng)
        assert at_draws(nmo.glm.GLM(), y, (coef, intercept, None)) == {}
        moved = coef + np.array([0.0, 1.0, 2.0, 3.0])
        found = [at_draws(partly, y, (c, intercept, None))["coef"] for c in (coef, moved)]
    np.testing.assert_array_equal(*found)


def test_the_number_of_draws_at_once_does_not_matter(rng, monkeypatch):
    y = tables.RESPONSES["Gaussian"][:N_ROWS]
    estimator = nmo.glm.PopulationGLM("Gaussian", None, "GroupLasso", 0.1)
    with jax.enable_x64(True):
        draws = points(estimator.numpyro_model(X, y).args[0], rng)
        at_once = at_draws(estimator, y, draws)
        monkeypatch.setattr(_log_prior, "_CHUNK", 3)
        in_parts = at_draws(estimator, y, draws)
    for name, values in at_once.items():
        np.testing.assert_allclose(in_parts[name], values, rtol=1e-12)
