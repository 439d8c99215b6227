"""The sampler of rows in files: its transitions by themselves, what rows tell it, and its draws beside known ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tables
from arviz_stats.base import array_stats
from containers import Guarded
from numpyro.infer import hmc_util as hmc
from problems import problem_of
from scipy import special, stats

import bayesglm as nmo
from bayesglm import _design
from bayesglm._sampling import _nuts, _passes, _sampler, _streamed, _target
from bayesglm.glm import _lanes

PLAN = _nuts.Plan(30, 0.8, 0.0, False, 4, 7)
PIECE = 100
X, COUNTS = tables.X, tables.RESPONSES["Poisson"]
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.1}
QUIET = {"progress_bar": False}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(_design, "_READ_BYTES", tables.N_FEATURES * 8 * PIECE)
    monkeypatch.setattr("bayesglm.glm._problem._CENTRE_ROWS", PIECE)


# -- transitions -----------------------------------------------------------------------------------


def keys(lanes, chains):
    return _nuts.chain_keys(jax.random.key(3), np.arange(lanes), chains)


def normal(precision):
    def evaluate(z):
        gradient = z @ precision
        return 0.5 * np.sum(z * gradient, axis=-1), gradient

    return evaluate


def skewed(z):
    """The logarithm of a Gamma variable of shape 1.5, in every coordinate."""
    return np.sum(np.exp(z) - 1.5 * z, axis=-1), np.exp(z) - 1.5


def last_draws(evaluate, size):
    """One draw of each of many chains, which know nothing of each other."""
    with jax.enable_x64(True):
        return _streamed.run(evaluate, keys(1500, 1), size, PLAN, 4).z[-1, :, 0]


def test_chains_on_a_correlated_normal_density_end_in_it():
    """Independent draws: the tests have their nominal levels. Starts are twice too wide, and of no correlation."""
    covariance = np.array([[1.0, 0.9 * 3.0, 0.0], [0.9 * 3.0, 9.0, 0.5], [0.0, 0.5, 0.25]])
    z = last_draws(normal(np.linalg.inv(covariance)), 3)
    white = np.linalg.solve(np.linalg.cholesky(covariance), z.T)
    for k, each in enumerate(white):
        assert stats.kstest(each, "norm").pvalue > 1e-3
        for other in white[
            :k
        ]:  # products of independent standard normal variables have variance one
            assert abs(np.sum(each * other)) < 4.0 * np.sqrt(len(each))


def test_chains_on_a_skewed_density_end_in_it():
    for each in np.exp(last_draws(skewed, 2)).T:
        assert stats.kstest(each, "gamma", (1.5,)).pvalue > 1e-3


def test_one_long_chain_has_the_moments_of_a_skewed_density():
    with jax.enable_x64(True):
        draws = _streamed.run(skewed, keys(1, 4), 1, PLAN, 1500)
    z = np.moveaxis(draws.z[:, 0, :, 0], 0, 1)
    mean, variance = special.digamma(1.5), special.polygamma(1, 1.5)
    for values, expected in ((z, mean), (np.square(z - mean), variance)):
        error = array_stats.mcse(values, chain_axis=0, draw_axis=1)
        assert abs(values.mean() - expected) < 4.0 * error
    # what a step of the adapted size is accepted with is what was asked for, within the noise of the adaptation
    assert abs(draws.acceptance[np.arange(1500) % 8 != 7].mean() - PLAN.acceptance) < 0.1
    np.testing.assert_allclose(_energy(draws.z), draws.energy, rtol=1e-12)
    assert (draws.hamiltonian[1:] >= draws.energy[:-1]).all()


def _energy(z):
    return skewed(z)[0]


def test_trees_grow_on_either_side_as_often():
    """Without a force no tree turns back: of seven leaves the first, second and fourth begin a half."""
    seen = []

    def flat(z):
        seen.append(z[:, 0, 0])
        return np.zeros(z.shape[:2]), np.zeros_like(z)

    with jax.enable_x64(True):
        _streamed.run(flat, keys(400, 1), 1, PLAN._replace(early_depth=3), 1)
    start, first, second, _, third = (np.sign(z - seen[0]) for z in seen[:5])
    assert not start.any()
    for one, other in ((first, second), (first, third), (second, third)):
        assert abs(np.sum(one * other)) < 4.0 * np.sqrt(400)


def test_no_draw_depends_on_the_lanes_beside_it():
    few = np.array([1, 3])
    with jax.enable_x64(True):
        all_, some = (
            _streamed.run(skewed, keys(5, 2)[which], 2, PLAN, 20) for which in (slice(None), few)
        )
    for one, other in zip(all_, some, strict=True):
        np.testing.assert_array_equal(one[:, few], other)


@pytest.mark.parametrize("step", [0.2, 0.45])
def test_trees_have_as_many_leaves_as_those_of_numpyro(step):
    """From the same points, at one step size; so do their parts tell when to stop."""
    plan, count = (
        _nuts.Plan(10, 9.0, step, False, 1, 6),
        1000,
    )  # an acceptance that only the least step serves
    precision = np.array([1.0, 4.0, 0.3])

    def potential(z):
        return 0.5 * jnp.sum(precision * z**2)

    def leaves(key, start):
        of_momentum, of_tree = jax.random.split(key)
        kinetic = hmc.euclidean_kinetic_energy
        _, update = hmc.velocity_verlet(potential, kinetic)
        momentum = jax.random.normal(of_momentum, (3,))
        state = hmc.IntegratorState(start, momentum, potential(start), jax.grad(potential)(start))
        tree = hmc.build_tree(update, kinetic, state, jnp.ones(3), step, of_tree, max_tree_depth=6)
        return tree.num_proposals

    with jax.enable_x64(True):
        draws = _streamed.run(normal(np.diag(precision)), keys(count, 1), 3, plan, 9)
        each = jax.random.split(jax.random.key(0), count)
        theirs = np.asarray(jax.jit(jax.vmap(leaves))(each, draws.z[5, :, 0]))
    ours = draws.steps[6, :, 0]
    assert (draws.step_size[6] == step).all()
    assert len(np.unique(ours)) > 3
    for one, other in ((ours, theirs), (ours**2, theirs**2)):
        error = np.sqrt((one.var() + other.var()) / count)
        assert abs(one.mean() - other.mean()) < 4.0 * error


def test_a_trajectory_off_a_cliff_diverges_or_has_left_the_domain():
    def half(z):
        energy, gradient = skewed(z)
        out = z.min(axis=-1) < -0.5
        return np.where(out, np.nan, energy), np.where(out[..., None], np.nan, gradient)

    with jax.enable_x64(True):
        plain, edged = (
            _streamed.run(half, keys(3, 2), 2, PLAN, 60, 0, edge) for edge in (False, True)
        )
    np.testing.assert_array_equal(plain.z, edged.z)
    assert plain.diverging.any()
    np.testing.assert_array_equal(edged.exited, edged.diverging)
    assert not plain.exited.any()
    assert (plain.z >= -0.5).all()


# -- what rows tell --------------------------------------------------------------------------------

CASES = [
    *[(name, links[0], "ElasticNet", True) for name, links in tables.FAMILY_LINKS.items()],
    ("Gamma", "exp", "Lasso", False),
    ("Gaussian", "identity", "GroupLasso", True),
    ("NegativeBinomial", "exp", "GroupLasso", False),
    ("classes", None, "Ridge", False),
    ("classes", None, "Lasso", True),
]


@pytest.mark.parametrize(("name", "link", "kind", "mixed"), CASES)
def test_energies_and_gradients_of_pieces_are_those_of_the_density(name, link, kind, mixed, rng):
    mask, how = np.ones((4, 3), int), {}
    mask[0, 1] = 0
    if name == "classes":
        y = tables.LABELS
        model = nmo.glm.ClassifierPopulationGLM(3, link, kind, tables.REGULARIZERS[kind])
    else:
        y = tables.RESPONSES[name]
        model = nmo.glm.PopulationGLM(
            name, link, kind, tables.REGULARIZERS[kind], feature_mask=mask
        )
        how = {"weight": rng.integers(3, size=len(X)).astype(float), "offset": 0.1 * X[:, :3]}
    with jax.enable_x64(True):
        problem = problem_of(model, Guarded(X, PIECE), y, **how)
        priors = _lanes.priors_of(problem, "sample", np.ones(3), None, None, None)
        family, shared, lanes = _lanes.build(problem, priors, 2)
        if mixed:
            family, lanes = _sampler.as_mixture(family, lanes)
        size = lanes.centre.shape[-1] + _nuts.n_mixing(lanes)
        z = 0.3 * rng.normal(size=(3, 2, size))
        found = _passes.slopes_of(family, shared, lanes)(z)
        shared = shared._replace(X=X)
        density = jax.value_and_grad(lambda lane, z: _target.energy(family, shared, lane, z), 1)
        of_chains = jax.vmap(density, (None, 0))
        expected = jax.jit(jax.vmap(of_chains, (_target.axes(lanes), 0)))(lanes, z)
    if link == "one_over_x":
        assert np.isinf(expected[0]).any()  # outside the domain
    # sums of some hundred terms in another order
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


# -- draws -----------------------------------------------------------------------------------------


def flat(estimator):
    """All parameters of one draw beside one another, (chains, draws, parameters)."""
    drawn = estimator.posterior_["posterior"]
    drawn = [drawn[name].values for name in drawn.data_vars]
    return np.concatenate([a.reshape(*a.shape[:2], -1) for a in drawn], axis=-1)


def mcse(values):
    each = np.moveaxis(values, -1, 0)
    return np.array([array_stats.mcse(a, chain_axis=0, draw_axis=1) for a in each])


def test_draws_of_a_file_have_the_exact_moments_of_a_gaussian_posterior():
    y, strength = tables.RESPONSES["Gaussian"], 0.3
    model = nmo.glm.PopulationGLM("Gaussian", None, "Ridge", strength)
    model.sample_posterior(Guarded(X, PIECE), y, scale="plugin", num_samples=500, **QUIET)
    n, ones = len(X), np.column_stack([X, np.ones(len(X))])
    precision = ones.T @ ones + np.diag([n * strength / 2] * 4 + [0.0])
    mean = np.linalg.solve(precision, ones.T @ y)
    sd = np.sqrt(np.diag(np.linalg.inv(precision))[:, None] * np.asarray(model.scale_))
    drawn = model.posterior_["posterior"]
    found = np.concatenate([drawn["coef"].values, drawn["intercept"].values[:, :, None]], axis=2)
    standard = ((found - mean) / sd).reshape(*found.shape[:2], -1)
    # the largest of fifteen each
    assert (np.abs(standard.mean((0, 1))) < 4.0 * mcse(standard)).all()
    squares = np.square(standard)
    assert (np.abs(squares.mean((0, 1)) - 1.0) < 4.0 * mcse(squares)).all()
    assert not model.posterior_["sample_stats"]["diverging"].values.any()


def beside(name):
    if name == "classes":
        mask = np.ones((4, 1, 3), int)
        mask[1] = 0
        model = nmo.glm.ClassifierPopulationGLM(3, None, "Ridge", 0.1, feature_mask=mask)
        return model, tables.LABELS[:, :1]
    link, kind, strength = {
        "Gamma": ("one_over_x", "Lasso", 0.02),
        "NegativeBinomial": ("exp", "Lasso", 0.3),
    }[name]
    return nmo.glm.GLM(name, link, kind, strength), tables.RESPONSES[name][:, 0]


@pytest.mark.parametrize("name", ["Gamma", "NegativeBinomial", "classes"])
def test_draws_of_a_file_have_the_moments_and_statistics_of_those_of_memory(name):
    """Direct and as a mixture, with a domain, a dispersion, classes and a mask."""
    models = []
    for source in (X, Guarded(X, PIECE)):
        model, y = beside(name)
        models.append(model.sample_posterior(source, y, num_samples=200, **QUIET))
    mixture = [m.posterior_["posterior"].attrs["mixture_neurons"] for m in models]
    assert len(mixture[0]) == len(mixture[1]) == (name == "NegativeBinomial")
    memory, file = map(flat, models)
    for one, other in ((memory, file), (memory**2, file**2)):
        error = np.hypot(mcse(one), mcse(other))
        gap = np.abs(one.mean((0, 1)) - other.mean((0, 1)))
        assert (gap <= 4.0 * error).all()  # masked ones are zero in both
    memory, file = (m.posterior_["sample_stats"] for m in models)
    assert set(memory.data_vars) == set(file.data_vars)
    for stat in memory.data_vars:
        assert (memory[stat].dtype, memory[stat].shape) == (file[stat].dtype, file[stat].shape)
    # both adapt towards the same acceptance, to step sizes that scatter by a tenth or so
    ratio = memory["step_size"].values.mean() / file["step_size"].values.mean()
    assert 0.7 < ratio < 1.4
    assert 0.7 < memory["n_steps"].values.mean() / file["n_steps"].values.mean() < 1.4


def test_all_neurons_and_chains_share_a_pass_and_batches_change_no_draw():
    """Rounding alone differs between batches; three batches of one neuron read the file about three times as often."""
    draws, reads = [], []
    for size in (None, 1):
        source = Guarded(X, PIECE)
        model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
        model.sample_posterior(
            source, COUNTS, num_samples=20, num_warmup=30, neuron_batch_size=size, **QUIET
        )
        draws.append(flat(model))
        reads.append(source.reads)
    np.testing.assert_allclose(*draws, rtol=1e-6, atol=1e-8)
    # whose trees are of no one length
    assert reads[1] > 1.8 * reads[0]


def test_neurons_that_fail_their_checks_are_sampled_again_from_the_file(monkeypatch):
    monkeypatch.setattr(_sampler, "_fails", lambda found: np.array([False, True, True]))
    monkeypatch.setattr(_nuts, "AGAIN", _nuts.AGAIN._replace(warmup=30))
    runs, run = [], _streamed.run

    def counted(evaluate, keys, size, plan, *args):
        runs.append((keys.shape, plan.acceptance))
        return run(evaluate, keys, size, plan, *args)

    monkeypatch.setattr(_streamed, "run", counted)
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    model.sample_posterior(Guarded(X, PIECE), COUNTS, num_samples=20, num_warmup=30, **QUIET)
    assert runs == [((3, 4), _nuts.SMOOTH.acceptance), ((2, 4), _nuts.AGAIN.acceptance)]
    np.testing.assert_array_equal(model.posterior_["posterior"].attrs["resampled_neurons"], [1, 2])


def test_an_interrupt_while_a_file_is_read_leaves_the_estimator_as_it_was(monkeypatch):
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE).fit(X, COUNTS)
    before = dict(model.__dict__)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_streamed._Trees, "grow", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.sample_posterior(Guarded(X, PIECE), COUNTS, num_samples=20, **QUIET)
    assert model.__dict__ == before
