"""The density that the sampler runs on is that of the NumPyro model, dispersion and normalising constants included."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
from numpyro.handlers import seed, trace
from numpyro.infer.util import log_density
from problems import problem_of

import bayesglm as nmo
from bayesglm._sampling import _passes, _sampler, _target
from bayesglm.glm import _lanes
from bayesglm.glm._joint import weakly

# Sums of a few hundred terms of order one to a hundred: rounding leaves about 1e-13 of them.
RTOL = 1e-10
N_ROWS = 24
X = tables.X[:N_ROWS]
MASK = np.ones((tables.N_FEATURES, tables.N_NEURONS), int)
MASK[0, 1] = MASK[2, 2] = 0
SCALED = ("Gaussian", "Gamma", "NegativeBinomial")
PAIRS = [(family, names[-1]) for family, names in tables.FAMILY_LINKS.items()] + [
    ("Gamma", "one_over_x")
]


def build(
    estimator, y, *, X=X, scale="sample", intercept=None, weak=False, weight=None, offset=None
):
    problem = _lanes.double(problem_of(estimator, X, y, weight, offset))
    if weak:
        problem, weak = weakly(problem)
    priors = _lanes.priors_of(problem, scale, np.ones(1), None, intercept, weak or None)
    return problem, *_lanes.build(problem, priors, 1)


def energies(problem, family, shared, lanes, points):
    """Sum over lanes of the sampler's energy at points u (lanes, size)."""
    axes = (_target.axes(lanes), 0)
    each = jax.jit(jax.vmap(lambda lane, u: _target.energy(family, shared, lane, u), axes))
    return [float(each(lanes, jnp.asarray(u)).sum()) for u in points]


def log_joint(model, problem, family, u):
    """The NumPyro model at the same point, in the coordinates of the sampler: with the Jacobian of the log."""
    n_features = len(problem.mask)
    coordinates, ends, log_phi = _target.split(family, u, n_features)
    coef, intercept = _target.to_columns(family, coordinates, ends)
    theta = np.concatenate([coef, intercept[..., None]], axis=-1)
    both = np.moveaxis(theta, -1, 0).reshape(n_features + 1, *problem.outputs)
    params = {"coef": jnp.asarray(both[:-1]), "intercept": jnp.asarray(both[-1])}
    if family.sampled:
        neurons = problem.outputs if problem.n_classes is None else problem.outputs[:-1]
        params["scale"] = jnp.asarray(np.exp(log_phi).reshape(neurons))
    value = float(log_density(model, (), {}, params)[0])
    return value + (float(log_phi.sum()) if family.sampled else 0.0)


def coordinates_of(family, lanes):
    return family.responses * family.coef_dims * lanes.mask.shape[-1]


def unmasked(family, lanes):
    by_class = lanes.mask.reshape(len(lanes.mask), family.responses, family.classes, -1)
    return by_class[:, :, : family.coef_dims].reshape(len(lanes.mask), -1)


def assert_same_density(estimator, y, rng, link=None, X=X, **how):
    model_how = {"sample_weight": how.get("weight"), "offset": how.get("offset")}
    if how.get("scale") == "plugin":
        model_how["scale"] = 1.0
    if "intercept" in how:
        model_how["intercept_prior"] = how["intercept"]
    if how.get("weak"):
        model_how["prior"] = "auto"
    with jax.enable_x64(True):
        model = estimator.numpyro_model(X, y, **model_how)
        problem, family, shared, lanes = build(estimator, y, X=X, **how)
        points = []
        for _ in range(3):
            u = 0.3 * rng.normal(size=lanes.centre.shape)
            if link == "one_over_x":
                coef, ends, log_phi = _target.split(family, 0.2 * u, len(problem.mask))
                lead = (len(u), -1)
                u = np.concatenate(
                    [coef.reshape(*lead), 2.0 + ends.reshape(*lead), 5.0 * log_phi.reshape(*lead)],
                    1,
                )
            # what stands in for a masked coefficient is nobody's business
            u[:, : coordinates_of(family, lanes)] *= unmasked(family, lanes)
            points.append(u)
        ours = energies(problem, family, shared, lanes, points)
        theirs = [-log_joint(model, problem, family, u) for u in points]
    assert np.ptp(ours) > 1e-3
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=RTOL, atol=1e-9)


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_the_sampler_has_the_density_of_the_model(name, link, kind, rng):
    estimator = nmo.glm.PopulationGLM(
        name, link, kind, tables.REGULARIZERS[kind], feature_mask=MASK
    )
    assert_same_density(estimator, tables.RESPONSES[name][:N_ROWS], rng, link)


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_so_it_has_for_classes(kind, rng):
    estimator = nmo.glm.ClassifierPopulationGLM(3, None, kind, tables.REGULARIZERS[kind])
    assert_same_density(estimator, tables.LABELS[:N_ROWS], rng)


@pytest.mark.parametrize("name", ["Gaussian", "NegativeBinomial"])
def test_so_it_has_with_weights_offsets_missing_responses_and_priors_of_the_user(name, rng):
    y = tables.RESPONSES[name][:N_ROWS].copy()
    y[3, 1] = np.nan
    estimator = nmo.glm.PopulationGLM(name, None, "Ridge", 0.1)
    how = {"weight": rng.integers(0, 3, N_ROWS).astype(float), "offset": rng.normal(size=y.shape)}
    assert_same_density(estimator, y, rng, intercept=dist.Normal(0.3, 0.8), **how)


@pytest.mark.parametrize("name", ["Poisson", "Gaussian"])
def test_so_it_has_under_automatic_priors(name, rng):
    estimator = nmo.glm.PopulationGLM(name, feature_mask=MASK)
    assert_same_density(estimator, tables.RESPONSES[name][:N_ROWS], rng, weak=True)


def test_so_it_has_where_a_group_ties_neurons_together(rng):
    groups = np.zeros((2, tables.N_FEATURES, tables.N_NEURONS))
    groups[0, :2], groups[1, 2:] = 1, 1
    estimator = nmo.glm.PopulationGLM(
        "Gaussian", regularizer=nmo.regularizer.GroupLasso(groups), regularizer_strength=0.05
    )
    assert_same_density(estimator, tables.RESPONSES["Gaussian"][:N_ROWS], rng)


@pytest.mark.parametrize("kind", ["Lasso", "ElasticNet", "GroupLasso"])
@pytest.mark.parametrize("name", ["Poisson", "Gaussian"])
def test_mixing_variables_integrate_out_to_the_prior(name, kind, rng):
    """With one feature, the mixture's density summed over its mixing variable is the direct one, at any dispersion."""
    strength = tables.REGULARIZERS[kind]
    estimator = nmo.glm.GLM(name, None, kind, strength)
    y = tables.RESPONSES[name][:N_ROWS, 0]
    with jax.enable_x64(True):
        problem = _lanes.double(problem_of(estimator, X[:, :1], y))
        priors = _lanes.priors_of(problem, "sample", None, None, None, None)
        family, shared, lanes = _lanes.build(problem, priors, 1)
        mixed_family, mixed = _sampler.as_mixture(family, lanes)
        lane, mixed = (jax.tree.map(lambda a: jnp.asarray(a[0]), each) for each in (lanes, mixed))
        direct = jax.jit(lambda u: _target.energy(family, shared, lane, u))
        mixture = jax.jit(jax.vmap(lambda z: _target.energy(mixed_family, shared, mixed, z)))
        # the coefficient is t * factor: at fixed coefficient, the density in t picks up 1 / factor
        grid = np.linspace(-35.0, 5.0, 8001)
        found = []
        for beta in (0.05, 0.4):
            for phi in (-0.4, 0.5)[: 1 + family.sampled]:
                u = np.array([beta, 0.1, phi][: lanes.centre.shape[1]])
                log_phi = jnp.asarray([phi] if family.sampled else [0.0])
                one = jnp.full((1, 1), 1.0)

                def factor_of(s, log_phi=log_phi, one=one):
                    return _target.mixed(mixed_family, mixed, one, s[None], log_phi)[0][0, 0]

                factor = np.asarray(jax.vmap(factor_of)(jnp.asarray(grid)))
                z = np.tile(u, (len(grid), 1))
                z[:, 0] = beta / factor
                spread, location = float(mixed.mixing.spread[0]), float(mixed.mixing.location[0])
                z = np.column_stack([z, (grid - location) / spread])
                log_p = -np.asarray(mixture(jnp.asarray(z))) - np.log(factor)
                top = log_p.max()
                total = top + np.log(np.exp(log_p - top).sum() * (grid[1] - grid[0]))
                found.append(total + float(direct(jnp.asarray(u))))
    np.testing.assert_allclose(found, found[0], atol=1e-6)


@pytest.mark.parametrize("name", tables.RESPONSES)
def test_a_subclass_of_a_family_has_the_posterior_of_the_family(name, rng):
    family_of = type(nmo.glm.GLM(name).observation_model)
    subclass = type("Own", (family_of,), {})
    link = "exp" if name == "Gamma" else None
    y, found, sites = tables.RESPONSES[name][:N_ROWS], [], []
    u = 0.3 * rng.normal(size=(2, tables.N_NEURONS, tables.N_FEATURES + 2))
    for kind in (family_of, subclass):
        estimator = nmo.glm.PopulationGLM(kind(), link, "Ridge", 0.1)
        with jax.enable_x64(True):
            problem, family, shared, lanes = build(estimator, y)
            points = u[..., : lanes.centre.shape[1]]
            found.append(np.diff(energies(problem, family, shared, lanes, points)))
            model = estimator.numpyro_model(X, y, intercept_prior=dist.Normal())
            sites.append(set(trace(seed(model, jax.random.key(0))).get_trace()))
    np.testing.assert_allclose(*found, rtol=1e-9)
    assert sites[0] == sites[1]
    assert ("scale" in sites[0]) == (name in SCALED)


class Dispersed(nmo.observation_models.Observations):
    """A family with a dispersion of which the package knows nothing."""

    default_inverse_link_function = staticmethod(nmo.links.identity)
    has_scale = True

    @staticmethod
    def distribution(eta, inverse_link_function, scale=1.0):
        return nmo.distributions.GaussianPredictor(eta, inverse_link_function, scale)


def test_a_dispersion_without_a_known_prior_asks_for_one(rng):
    y = tables.RESPONSES["Gaussian"][:N_ROWS, 0]
    estimator = nmo.glm.GLM(Dispersed(), None, "Ridge", 0.1)
    with pytest.raises(ValueError, match="scale_prior"):
        estimator.sample_posterior(X, y, progress_bar=False)
    with pytest.raises(ValueError, match="scale_prior"):
        estimator.numpyro_model(X, y)
    assert_same_density(estimator, y, rng, scale="plugin")
    # of few draws k-hat says nothing
    how = {"method": "laplace", "num_samples": 100, "progress_bar": False}
    estimator.sample_posterior(X, y, scale_prior=dist.LogNormal(0.0, 1.0), **how)
    assert "scale" in estimator.posterior_["posterior"]


def test_the_energy_may_be_summed_in_row_blocks(rng):
    estimator = nmo.glm.PopulationGLM("NegativeBinomial", None, "Ridge", 0.1)
    with jax.enable_x64(True):
        problem, family, shared, lanes = build(
            estimator, tables.RESPONSES["NegativeBinomial"][:N_ROWS]
        )
        u = 0.3 * rng.normal(size=lanes.centre.shape)
        values = [
            energies(problem, family._replace(block=size), shared, lanes, [u])[0]
            for size in (N_ROWS, 7)
        ]
        hessians = [
            np.asarray(_passes.curvature(family._replace(block=size), shared, lanes, u)[2])
            for size in (N_ROWS, 7)
        ]
    np.testing.assert_allclose(*values, rtol=1e-13)
    np.testing.assert_allclose(*hessians, rtol=1e-10, atol=1e-10)
