"""Laws of the distributions: densities integrate to one, draws follow them, and tails keep their digits."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
from jax.scipy.special import gammaln
from scipy import stats
from scipy.integrate import cumulative_simpson, simpson

import bayesglm as nmo
from bayesglm import links
from bayesglm._likelihood import sample_loss
from bayesglm.distributions import (
    BernoulliPredictor,
    CategoricalPredictor,
    ElasticNet,
    GammaPredictor,
    GaussianPredictor,
    GroupLaplace,
    HalfStudentT,
    NegativeBinomialPredictor,
    PartlyFlat,
    PoissonPredictor,
)

# Fixed keys make a test repeatable; a correct sampler fails a level of 1e-4 on one key in ten thousand.
KEYS = {"typed": jax.random.key(3), "raw": jax.random.PRNGKey(3)}
LEVEL = 1e-4
N_DRAWS = 20_000
STANDARD_ERRORS = 4.0


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def draws(distribution, shape=(N_DRAWS,), key="typed"):
    return np.asarray(distribution.sample(KEYS[key], shape), dtype=float)


# -- priors ----------------------------------------------------------------------------------------

#: Rates (l1, l2), among them the limits and both sides of where the formulas change.
RATES = [
    (1.0, 1.0),
    (0.3, 5.0),
    (19.9, 1.0),
    (20.1, 1.0),
    (49.9, 1.0),
    (50.1, 1.0),
    (999.0, 1.0),
    (1001.0, 1.0),
    (1e-8, 1e4),
    (1e4, 1e-8),
    (1e-3, 1e-9),
    (0.0, 2.0),
    (3.0, 0.0),
]


def width(l1, l2):
    """Length on which the density falls by a factor e or more."""
    return min(1 / l1 if l1 else np.inf, 1 / np.sqrt(l2) if l2 else np.inf)


def expectation(function, l1, l2):
    """Integral of a function of the absolute value under an elastic net density."""
    # beyond forty lengths lies a share of e^-40; the step of 1/100 leaves 1e-10 of the integral
    value = width(l1, l2) * np.linspace(0, 40, 4001)
    density = np.exp(np.asarray(ElasticNet(l1, l2).log_prob(value)))
    return 2 * simpson(function(value) * density, x=value)


@pytest.mark.parametrize(("l1", "l2"), RATES)
def test_elastic_net_density_integrates_to_one(l1, l2):
    assert expectation(np.ones_like, l1, l2) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("l1", "l2"), RATES)
def test_elastic_net_variance_is_that_of_its_density(l1, l2):
    # the closed form cancels up to where the series takes over: 1e-8 there
    assert float(ElasticNet(l1, l2).variance) == pytest.approx(
        expectation(np.square, l1, l2), rel=1e-7
    )
    assert float(ElasticNet(l1, l2).mean) == 0.0


@pytest.mark.parametrize(("l1", "l2"), RATES[:9])
def test_score_of_elastic_net_rates_is_the_distance_from_their_expectation(l1, l2):
    # d log p / d l1 = E|w| - |w|, d log p / d l2 = (E w^2 - w^2) / 2: what a sampled dispersion needs
    unit = width(l1, l2)
    value = 0.7 * unit
    by_l1, by_l2 = jax.grad(lambda *rates: ElasticNet(*rates).log_prob(value), argnums=(0, 1))(
        l1, l2
    )
    assert float(by_l1) == pytest.approx(expectation(np.abs, l1, l2) - value, abs=1e-7 * unit)
    half_square = 0.5 * (expectation(np.square, l1, l2) - value**2)
    assert float(by_l2) == pytest.approx(half_square, abs=1e-7 * unit**2)


@pytest.mark.parametrize("tiny", [0.0, 1e-14])
def test_elastic_net_is_laplace_and_normal_in_the_limits(tiny, rng):
    value = rng.normal(size=20)
    laplace, normal = dist.Laplace(0.0, 1 / 1.7), dist.Normal(0.0, 1 / np.sqrt(1.7))
    for ours, theirs in ((ElasticNet(1.7, tiny), laplace), (ElasticNet(tiny, 1.7), normal)):
        # a rate of 1e-14 moves the log-density by about as much
        np.testing.assert_allclose(ours.log_prob(value), theirs.log_prob(value), atol=1e-12)
        np.testing.assert_allclose(ours.variance, theirs.variance, rtol=1e-12)


@pytest.mark.parametrize(("l1", "l2"), RATES)
def test_elastic_net_draws_follow_its_density(l1, l2):
    prior, unit = ElasticNet(l1, l2), width(l1, l2)
    grid = unit * np.linspace(-40, 40, 40_001)
    cdf = cumulative_simpson(np.exp(np.asarray(prior.log_prob(grid))), x=grid, initial=0)
    assert stats.kstest(draws(prior), lambda x: np.interp(x, grid, cdf)).pvalue > LEVEL


def test_elastic_net_draws_in_single_precision_are_finite():
    drawn = ElasticNet(1.0, 1.0).sample(KEYS["typed"], (N_DRAWS,))
    with jax.enable_x64(False):
        single = ElasticNet(np.float32(1.0), np.float32(1.0)).sample(KEYS["typed"], (N_DRAWS,))
    assert single.dtype == jnp.float32
    assert np.isfinite(single).all()
    assert stats.ks_2samp(np.asarray(drawn), np.asarray(single)).pvalue > LEVEL


@pytest.mark.parametrize("rate", [0.02, 1.0, 60.0])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_group_laplace_density_integrates_to_one(size, rate, rng):
    prior = GroupLaplace([rate], np.zeros(size, int))
    direction = rng.normal(size=size)
    direction /= np.linalg.norm(direction)
    area = 2 * np.pi ** (size / 2) / np.exp(float(gammaln(size / 2)))

    radius = np.linspace(0, 60 / rate, 6001)  # with a step of 1/100 as above
    density = np.exp(np.asarray(prior.log_prob(radius[:, None] * direction)))
    assert simpson(area * radius ** (size - 1) * density, x=radius) == pytest.approx(1.0, abs=1e-9)


def test_groups_are_independent_and_coefficients_in_none_are_flat(rng):
    group = np.array([[0, 1, -1], [0, 0, 1]])
    rate, value = np.array([0.7, 2.0]), rng.normal(size=group.shape)
    apart = sum(
        GroupLaplace(rate[g : g + 1], np.zeros((group == g).sum(), int)).log_prob(value[group == g])
        for g in range(2)
    )
    np.testing.assert_allclose(GroupLaplace(rate, group).log_prob(value), apart, rtol=1e-13)
    moved = np.where(group < 0, value + 5.0, value)
    assert GroupLaplace(rate, group).log_prob(moved) == GroupLaplace(rate, group).log_prob(value)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_group_laplace_draws_have_the_radius_of_its_density_and_any_direction(size):
    rate = 0.4
    group = np.repeat([0, 1], [size, 1])
    prior = GroupLaplace([rate, 3.0], group)
    drawn = draws(prior)
    radius = np.linalg.norm(drawn[:, :size], axis=1)
    # the density depends on the radius only, and shells grow as radius^(size - 1)
    grid = np.linspace(0, 60 / rate, 20_001)
    points = np.concatenate([np.eye(size)[0] * grid[:, None], np.zeros((len(grid), 1))], axis=1)
    density = grid ** (size - 1) * np.exp(np.asarray(prior.log_prob(points)))
    cdf = cumulative_simpson(density, x=grid, initial=0)
    assert stats.kstest(radius, lambda x: np.interp(x, grid, cdf / cdf[-1])).pvalue > LEVEL
    unit = drawn[:, 0] / radius
    if size == 1:
        assert stats.binomtest(int((unit > 0).sum()), N_DRAWS).pvalue > LEVEL
    elif size == 2:
        angle = np.arctan2(drawn[:, 1], drawn[:, 0])
        assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > LEVEL
    else:  # Archimedes: a coordinate of a uniform point of the sphere is uniform
        assert stats.kstest(unit, stats.uniform(-1, 2).cdf).pvalue > LEVEL
    assert stats.spearmanr(radius, np.abs(drawn[:, -1])).pvalue > LEVEL
    variance = (size + 1) / rate**2
    assert_moments(drawn[:, 0], 0.0, variance)


def test_half_student_t_is_the_absolute_value_of_students(rng):
    prior, reference = HalfStudentT(4.0, 1.7), stats.t(4.0, scale=1.7)
    value = rng.uniform(0, 20, size=20)
    np.testing.assert_allclose(
        prior.log_prob(value), np.log(2) + reference.logpdf(value), rtol=1e-12
    )
    assert stats.kstest(draws(prior), lambda x: 2 * reference.cdf(x) - 1).pvalue > LEVEL


@pytest.mark.parametrize("key", KEYS)
def test_both_kinds_of_random_key_serve(key):
    for prior in (ElasticNet(np.ones(2), 1.0), GroupLaplace([1.0], np.zeros(2, int))):
        assert prior.sample(KEYS[key]).shape == (2,)
        assert prior.sample(KEYS[key], (3, 4)).shape == (3, 4, 2)


def test_a_flat_prior_cannot_be_drawn():
    with pytest.raises(NotImplementedError, match="flat prior"):
        GroupLaplace([1.0], np.array([0, -1])).sample(KEYS["typed"])
    with pytest.raises(NotImplementedError, match="flat prior"):
        PartlyFlat(dist.Normal(np.zeros(2), 1.0), np.array([True, False])).sample(KEYS["typed"])


def test_group_laplace_can_be_drawn_inside_a_compiled_program():
    group = np.array([0, 0, 1])
    drawn = jax.jit(lambda key: GroupLaplace(jnp.ones(2), group).sample(key))(KEYS["typed"])
    np.testing.assert_allclose(drawn, GroupLaplace(jnp.ones(2), group).sample(KEYS["typed"]))


def test_derivative_of_group_laplace_is_finite_where_a_group_is_zero():
    prior = GroupLaplace([1.0, 2.0], np.array([0, 0, 1]))
    gradient = jax.grad(prior.log_prob)(jnp.array([0.0, 0.0, 3.0]))
    np.testing.assert_allclose(gradient, [0.0, 0.0, -2.0])


# -- likelihoods -----------------------------------------------------------------------------------

#: Name: distribution of (eta, link, scale), NumPyro's own of (mean, scale), a link.
LIKELIHOODS = {
    "Poisson-exp": (PoissonPredictor, lambda m, s: dist.Poisson(m), links.exp),
    "Poisson-softplus": (PoissonPredictor, lambda m, s: dist.Poisson(m), links.softplus),
    "Poisson-square": (PoissonPredictor, lambda m, s: dist.Poisson(m), jnp.square),
    "Gamma-exp": (GammaPredictor, lambda m, s: dist.Gamma(1 / s, 1 / (s * m)), links.exp),
    "Gamma-softplus": (GammaPredictor, lambda m, s: dist.Gamma(1 / s, 1 / (s * m)), links.softplus),
    "Gaussian-identity": (
        GaussianPredictor,
        lambda m, s: dist.Normal(m, jnp.sqrt(s)),
        links.identity,
    ),
    "Gaussian-exp": (GaussianPredictor, lambda m, s: dist.Normal(m, jnp.sqrt(s)), links.exp),
    "Bernoulli-logistic": (BernoulliPredictor, lambda m, s: dist.BernoulliProbs(m), links.logistic),
    "Bernoulli-norm_cdf": (BernoulliPredictor, lambda m, s: dist.BernoulliProbs(m), links.norm_cdf),
    "NegativeBinomial-exp": (
        NegativeBinomialPredictor,
        lambda m, s: dist.NegativeBinomial2(m, 1 / s),
        links.exp,
    ),
    "NegativeBinomial-softplus": (
        NegativeBinomialPredictor,
        lambda m, s: dist.NegativeBinomial2(m, 1 / s),
        links.softplus,
    ),
}
SCALES = [0.3, 2.5]
# Whoever has no dispersion ignores the scale.
VARIANCE = {
    "Poisson": lambda m, s: m,
    "Gamma": lambda m, s: s * m**2,
    "Gaussian": lambda m, s: s * np.ones_like(m),
    "Bernoulli": lambda m, s: m * (1 - m),
    "NegativeBinomial": lambda m, s: m + s * m**2,
}


def assert_moments(drawn, mean, variance):
    """Mean and variance over the first axis are those stated, up to sampling error."""
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - mean) <= STANDARD_ERRORS * error).all()
    squared = (drawn - mean) ** 2
    error = squared.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(squared.mean(axis=0) - variance) <= STANDARD_ERRORS * error).all()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_density_is_that_of_numpyro_in_the_bulk(name, scale, rng):
    kind, theirs, link = LIKELIHOODS[name]
    eta = rng.uniform(-2.5, 2.5, size=50)
    theirs = theirs(link(eta), scale)
    value = theirs.sample(jax.random.key(1))
    # NumPyro's negative binomial takes a beta function that is good to 1e-6; the others differ by rounding
    rtol = 1e-5 if name.startswith("NegativeBinomial") else 1e-10
    np.testing.assert_allclose(
        kind(eta, link, scale).log_prob(value), theirs.log_prob(value), rtol=rtol
    )


def test_categorical_log_density_is_that_of_numpyro(rng):
    eta = rng.normal(size=(50, 4))
    value = rng.integers(0, 4, 50)
    ours = CategoricalPredictor(eta, links.log_softmax)
    np.testing.assert_allclose(
        ours.log_prob(value), dist.CategoricalLogits(eta).log_prob(value), rtol=1e-12
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_density_integrates_or_sums_to_one(name, scale):
    kind, _, link = LIKELIHOODS[name]
    distribution = kind(0.8, link, scale)

    def density(value):
        return np.exp(np.asarray(distribution.log_prob(value)))

    if name.startswith(("Poisson", "NegativeBinomial")):
        # the tail of the widest falls by a factor of 0.85 a count
        total = density(np.arange(500.0)).sum()
    elif name.startswith("Bernoulli"):
        total = density(np.arange(2.0)).sum()
    elif name.startswith("Gamma"):  # over log y: the density may be infinite at 0
        grid = np.linspace(-80, 6, 20_001)
        total = simpson(density(np.exp(grid)) * np.exp(grid), x=grid)
    else:
        grid = np.linspace(-20, 25, 2001)
        total = simpson(density(grid), x=grid)
    assert total == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_have_the_stated_mean_and_variance(name, scale):
    kind, _, link = LIKELIHOODS[name]
    eta = np.array([-1.2, 0.3, 1.5])
    mean = np.asarray(link(eta))
    drawn = draws(kind(eta, link, scale))
    assert_moments(drawn, mean, VARIANCE[name.split("-")[0]](mean, scale))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["Poisson-exp", "NegativeBinomial-exp", "Bernoulli-logistic"])
def test_draws_of_counts_follow_the_log_density(name, scale):
    kind, _, link = LIKELIHOODS[name]
    distribution = kind(0.6, link, scale)
    drawn = draws(distribution)
    n_values = 2 if name.startswith("Bernoulli") else 60
    expected = N_DRAWS * np.exp(np.asarray(distribution.log_prob(np.arange(float(n_values)))))
    last = max(i for i in range(n_values) if expected[i] >= 5)  # where chi-square holds
    observed = np.bincount(np.minimum(drawn, last).astype(int), minlength=last + 1)
    expected = np.append(expected[:last], N_DRAWS - expected[:last].sum())
    assert stats.chisquare(observed, expected).pvalue > LEVEL


def test_draws_of_classes_follow_the_log_density(rng):
    distribution = CategoricalPredictor(rng.normal(size=4), links.log_softmax)
    observed = np.bincount(draws(distribution).astype(int), minlength=4)
    expected = N_DRAWS * np.exp([float(distribution.log_prob(k)) for k in range(4)])
    np.testing.assert_allclose(expected.sum(), N_DRAWS, rtol=1e-12)
    assert stats.chisquare(observed, expected).pvalue > LEVEL


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["Gamma-exp", "Gaussian-identity"])
def test_draws_of_reals_follow_the_log_density(name, scale):
    kind, _, link = LIKELIHOODS[name]
    distribution = kind(0.6, link, scale)
    drawn = draws(distribution)
    if name.startswith("Gamma"):  # over log y: the density may be infinite at 0
        grid = np.linspace(-90, 6, 40_001)
        density = np.exp(np.asarray(distribution.log_prob(np.exp(grid))) + grid)
        drawn = np.log(drawn)
    else:
        grid = np.linspace(-30, 30, 20_001)
        density = np.exp(np.asarray(distribution.log_prob(grid)))
    cdf = cumulative_simpson(density, x=grid, initial=0)
    assert stats.kstest(drawn, lambda x: np.interp(x, grid, cdf)).pvalue > LEVEL


LOG_2PI = np.log(2 * np.pi)
#: Distribution, response, log-density and its derivative by eta, all where the mean form has no digits left.
TAILS = {
    "Poisson, no rate, no count": ((PoissonPredictor, -800.0, links.exp), 0, 0.0, 0.0),
    "Poisson, no rate, a count": ((PoissonPredictor, -800.0, links.exp), 3, -2400 - np.log(6), 3.0),
    "Poisson, softplus": ((PoissonPredictor, -60.0, links.softplus), 2, -120 - np.log(2), 2.0),
    "Poisson, softplus, far": ((PoissonPredictor, -900.0, links.softplus), 1, -900.0, 1.0),
    "Bernoulli, surely": ((BernoulliPredictor, 40.0, links.logistic), 1, -np.exp(-40), np.exp(-40)),
    "Bernoulli, surely not": ((BernoulliPredictor, -40.0, links.logistic), 0, -np.exp(-40), -np.exp(-40)),
    "Bernoulli, against": ((BernoulliPredictor, 40.0, links.logistic), 0, -40.0, -1.0),
    "Bernoulli, for": ((BernoulliPredictor, -40.0, links.logistic), 1, -40.0, 1.0),
    # Mills' ratio to third order in 1/1600
    "Bernoulli, probit": (
        (BernoulliPredictor, -40.0, links.norm_cdf),
        1,
        -800 - np.log(40) - LOG_2PI / 2 + np.log1p(-1 / 1600 + 3 / 1600**2 - 15 / 1600**3),
        40 / (1 - 1 / 1600 + 3 / 1600**2 - 15 / 1600**3),
    ),
    "Bernoulli, probit, surely": ((BernoulliPredictor, 40.0, links.norm_cdf), 1, 0.0, 0.0),
    # a share r = 1/scale of the mean's logarithm remains
    "NegativeBinomial, small": (
        (NegativeBinomialPredictor, -800.0, links.exp, 2.0), 2, np.log(0.375) + 2 * (-800 + np.log(2)), 2.0
    ),
    "NegativeBinomial, huge": (
        (NegativeBinomialPredictor, 800.0, links.exp, 2.0), 2, np.log(0.375) - (800 + np.log(2)) / 2, -0.5
    ),
    "Gamma, tiny": ((GammaPredictor, -300.0, links.exp, 0.5), np.exp(-300.0), 300 + 2 * np.log(2) - 2, 0.0),
    "Gamma, huge": ((GammaPredictor, 300.0, links.exp, 0.5), np.exp(301.0),
                    -299 + 2 * np.log(2) - 2 * np.e, 2 * (np.e - 1)),
}  # fmt: skip


@pytest.mark.parametrize("case", TAILS)
def test_tails_are_finite_and_right(case):
    (kind, eta, *arguments), value, log_density, slope = TAILS[case]
    found, found_slope = jax.value_and_grad(lambda eta: kind(eta, *arguments).log_prob(value))(eta)
    np.testing.assert_allclose(found, log_density, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(found_slope, slope, rtol=1e-9, atol=1e-12)


def test_categorical_tails_are_finite():
    distribution = CategoricalPredictor(np.array([0.0, -900.0, 0.0]), links.log_softmax)
    np.testing.assert_allclose(distribution.log_prob(1), -900 - np.log(2), rtol=1e-14)


# -- what NumPyro and JAX ask of a distribution ----------------------------------------------------

MEMBERS = {
    name: lambda shift, kind=kind, link=link: kind(np.array([0.1, 0.4]) + shift, link, 0.7)
    for name, (kind, _, link) in LIKELIHOODS.items()
} | {
    "Categorical": lambda shift: CategoricalPredictor(
        np.array([[0.1, 0.4, 0.0], [1.0, 0.0, 0.3]]) + shift, links.log_softmax
    ),
    "ElasticNet": lambda shift: ElasticNet(np.array([0.5, 2.0]) + shift, 1.5),
    "HalfStudentT": lambda shift: HalfStudentT(np.array([4.0, 3.0]), 0.8 + shift),
    "GroupLaplace": lambda shift: GroupLaplace(np.array([0.5, 2.0]) + shift, np.array([0, 1])),
}
VALUE = np.ones(2)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_distribution_survives_being_taken_apart_and_compiled(name):
    distribution = MEMBERS[name](0.0)
    leaves, structure = jax.tree.flatten(distribution)
    again = jax.tree.unflatten(structure, leaves)
    expected = distribution.log_prob(VALUE)
    np.testing.assert_array_equal(again.log_prob(VALUE), expected)
    assert (again.batch_shape, again.event_shape) == (
        distribution.batch_shape,
        distribution.event_shape,
    )
    compiled = jax.jit(lambda d, v: d.log_prob(v))(distribution, VALUE)
    np.testing.assert_allclose(compiled, expected, rtol=1e-13)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_batch_of_parameters_is_a_loop_over_them(name):
    shifts = jnp.array([0.0, 0.3, 0.9])
    batched = jax.vmap(lambda shift: MEMBERS[name](shift).log_prob(VALUE))(shifts)
    looped = [MEMBERS[name](shift).log_prob(VALUE) for shift in shifts]
    np.testing.assert_allclose(batched, jnp.stack(looped), rtol=1e-13)
    distributions = jax.vmap(MEMBERS[name])(shifts)
    np.testing.assert_allclose(
        jax.vmap(lambda d: d.log_prob(VALUE))(distributions), batched, rtol=1e-13
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_shapes_are_those_numpyro_documents_and_draws_lie_in_the_support(name):
    distribution = MEMBERS[name](0.0)
    drawn = distribution.sample(KEYS["typed"], (5, 3))
    assert drawn.shape == (5, 3, *distribution.batch_shape, *distribution.event_shape)
    assert distribution.log_prob(drawn).shape == (5, 3, *distribution.batch_shape)
    assert np.all(distribution.support(drawn))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_predictor_and_scale_broadcast(name):
    kind, _, link = LIKELIHOODS[name]
    distribution = kind(np.array([0.1, 0.4]), link, np.array([[0.5], [1.0], [2.0]]))
    assert distribution.batch_shape == (3, 2)
    assert distribution.sample(KEYS["typed"]).shape == (3, 2)
    assert distribution.log_prob(np.ones((3, 2))).shape == (3, 2)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_predictor_of_integers_is_one_of_floats(name):
    kind, _, link = LIKELIHOODS[name]
    np.testing.assert_array_equal(kind(1, link, 0.5).log_prob(1), kind(1.0, link, 0.5).log_prob(1))


@pytest.mark.parametrize(
    ("family", "link"),
    [(f, link) for f, several in tables.FAMILY_LINKS.items() for link in several],
)
def test_the_slope_of_a_loss_is_as_exact_as_its_arguments(family, link):
    """No cancellation: in float32 it is off by what rounding of y, of the predictor and of itself explains."""
    model, mean_of = getattr(nmo.observation_models, f"{family}Observations")(), links.resolve(link)
    eta = np.geomspace(1e-3, 1e3, 49) if link == "one_over_x" else np.linspace(-12, 12, 49)
    eta = eta.astype(np.float32)
    near = np.maximum(np.round(np.asarray(mean_of(eta))), 1.0)
    responses = (0, 1) if family == "Bernoulli" else (1, near, 1e4)

    def slope(eta, y):
        return jax.grad(lambda eta: sample_loss(model, y, eta, mean_of).sum())(eta)

    for y in (np.full(eta.shape, value, np.float32) for value in responses):
        found = np.asarray(slope(eta, y), float)
        with jax.enable_x64(True):
            e, r = eta.astype(float), y.astype(float)
            exact, by_eta = jax.jvp(lambda e: slope(e, r), (e,), (np.ones_like(e),))  # noqa: B023
            _, by_y = jax.jvp(lambda r: slope(e, r), (r,), (np.ones_like(r),))  # noqa: B023
            rounding = np.abs(exact) + np.abs(by_eta * e) + np.abs(by_y * r)
            # The normal hazard is an exponential of up to 12**2 / 2, which costs as many roundings.
            allowed = 72 * np.finfo(np.float32).eps * np.asarray(rounding) + 1e-30
            assert (np.abs(found - np.asarray(exact)) <= allowed).all()
