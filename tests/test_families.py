"""What families say of their responses is what their densities say; a family of the user's own says it itself."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
from scipy import stats
from scipy.integrate import cumulative_simpson, simpson

import bayesglm as nmo
from bayesglm import _families, links, observation_models

_counts = np.random.default_rng(2).poisson(0.8, size=(200, 3)) * 1.0
RESPONSES = tables.RESPONSES | {"ZeroInflatedPoisson": _counts}
# of single trials
RESPONSES["Binomial"] = tables.RESPONSES["Bernoulli"]
MEANS = np.array([0.2, 0.7, 0.95])
SCALES = {
    "Poisson": 1.0,
    "Bernoulli": 1.0,
    "Gamma": 0.4,
    "Gaussian": 0.6,
    "NegativeBinomial": 0.8,
    "ZeroInflatedPoisson": 0.6,
    "Binomial": 0.2,  # five trials
}


def density(model, mean, scale):
    """Values of a response, and the density (or probability) of each; (means, values)."""
    if _families.is_binary(model):
        values = np.array([0.0, 1.0])
    elif _families.has_trials(model):
        values = np.arange(np.round(1 / scale) + 1)
    elif _families.is_count(model):
        values = np.arange(400.0)
    else:
        # where the densities of these means have all but 1e-12 of their mass; smooth, so Simpson's rule converges
        low = 1e-9 if _families.is_positive(model) else -12.0
        values = np.linspace(low, 16.0, 200_001)
    with jax.enable_x64(True):
        inside = mean * scale if _families.has_trials(model) else mean
        found = model.distribution(jnp.asarray(inside)[:, None], links.identity, scale)
        return values, np.exp(np.asarray(found.log_prob(jnp.asarray(values))))


def total(model, values, weights):
    return weights.sum(axis=-1) if _families.is_discrete(model) else simpson(weights, x=values)


@pytest.mark.parametrize("family", RESPONSES)
def test_closed_forms_are_those_of_the_density(family):
    model, scale = observation_models.resolve(family), SCALES[family]
    values, p = density(model, MEANS, scale)
    mean = total(model, values, p * values)
    deviation = values - MEANS[:, None]
    variance = total(model, values, p * deviation**2)
    kurtosis = total(model, values, p * deviation**4) / variance**2 - 3.0
    # sums are exact to rounding, integrals to the step to the fourth power: 1e-7 with room
    np.testing.assert_allclose(mean, MEANS, rtol=1e-7)
    np.testing.assert_allclose(_families.variance(model, MEANS, scale), variance, rtol=1e-7)
    np.testing.assert_allclose(
        _families.excess_kurtosis(model, MEANS, scale), kurtosis, rtol=1e-6, atol=1e-6
    )
    upto = (
        p.cumsum(axis=1)
        if _families.is_discrete(model)
        else cumulative_simpson(p, x=values, initial=0)
    )
    some = np.linspace(0, len(values) - 1, 9).astype(int)
    found = _families.cdf(model, values[some], MEANS[:, None], scale)
    np.testing.assert_allclose(found, upto[:, some], atol=1e-7)


@pytest.mark.parametrize("family", RESPONSES)
def test_draws_follow_the_distribution_function(family):
    model, scale = observation_models.resolve(family), SCALES[family]
    rng = np.random.default_rng(0)
    drawn = _families.draw(model, rng, np.full(20_000, MEANS[1]), scale)
    # randomised within the jumps of discrete families, so that the transform is uniform
    upper = _families.cdf(model, drawn, MEANS[1], scale)
    lower = (
        _families.cdf(model, drawn - 1.0, MEANS[1], scale)
        if _families.is_discrete(model)
        else upper
    )
    uniform = lower + (upper - lower) * rng.uniform(size=len(drawn))
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("family", RESPONSES)
def test_stand_ins_have_the_normalisation_of_all_responses(family):
    y = RESPONSES[family]
    weight = np.random.default_rng(1).integers(0, 3, y.shape).astype(float)
    kind = _families.kind_of(observation_models.resolve(family))
    few, count = kind.stand_ins(y, weight)
    with jax.enable_x64(True):
        base = lambda values, scale: kind(jnp.ones(values.shape), links.exp, scale).log_base(values)  # noqa: E731
        known = _families.has_trials(observation_models.resolve(family))
        for scale in (1.0,) if known else (0.3, 2.0):
            whole = np.sum(weight.T * np.asarray(base(jnp.asarray(y.T), scale)), axis=1)
            short = np.sum(count * np.asarray(base(jnp.asarray(few), scale)), axis=1)
            # sums of two hundred numbers in another order
            same = 1e-11 * np.abs(whole).max()
            np.testing.assert_allclose(short, whole, rtol=1e-11, atol=same)


def test_kinds_of_responses_partition_the_families():
    kinds = {
        "Poisson": ("is_discrete", "is_count", "is_positive"),
        "NegativeBinomial": ("is_discrete", "is_count", "is_positive"),
        "ZeroInflatedPoisson": ("is_discrete", "is_count", "is_positive"),
        "Bernoulli": ("is_discrete", "is_binary"),
        "Binomial": ("is_discrete",),
        "Gamma": ("is_positive",),
        "Gaussian": ("is_real",),
        "Categorical": ("is_labels",),
    }
    asked = ("is_discrete", "is_count", "is_binary", "is_positive", "is_real", "is_labels")
    for family, expected in kinds.items():
        model = observation_models.resolve(family)
        said = tuple(name for name in asked if getattr(_families, name)(model))
        assert said == expected, family


class Student(observation_models.GaussianObservations):
    """A subclass that names a distribution of its own."""

    @staticmethod
    def distribution(eta, inverse_link_function, scale=1.0):
        return dist.StudentT(5.0, inverse_link_function(eta), jnp.sqrt(scale))


class Doubled(observation_models.Observations):
    """A family whose distribution has neither variance nor distribution function."""

    default_inverse_link_function = staticmethod(links.identity)

    class _Distribution(dist.Normal):
        @property
        def variance(self):
            raise NotImplementedError

        def cdf(self, value):
            raise NotImplementedError

    def distribution(self, eta, inverse_link_function, scale=1.0):
        return self._Distribution(inverse_link_function(eta), jnp.sqrt(scale))


def test_a_subclass_with_another_distribution_is_not_taken_for_its_parent():
    oracle = stats.t(5.0, loc=0.7, scale=np.sqrt(0.6))
    mean = np.array([0.7])
    # the closed forms of both packages, in float64
    np.testing.assert_allclose(_families.variance(Student(), mean, 0.6), oracle.var(), rtol=1e-12)
    y = np.array([-1.0, 0.5, 3.0])
    np.testing.assert_allclose(_families.cdf(Student(), y, 0.7, 0.6), oracle.cdf(y), rtol=1e-10)
    assert not _families.is_known(Student())
    with pytest.raises(NotImplementedError, match="kurtosis of Student"):
        _families.excess_kurtosis(Student(), mean, 0.6)


def test_what_a_distribution_does_not_know_is_refused_by_name():
    with pytest.raises(NotImplementedError, match="variance of Doubled"):
        _families.variance(Doubled(), np.array([0.7]), 1.0)
    with pytest.raises(NotImplementedError, match="distribution function of Doubled"):
        _families.cdf(Doubled(), np.array([0.7]), 0.7, 1.0)


#: Inverse links that end at a finite mean, where each family has a density.
FLAT = {
    "Poisson": ("logistic", "norm_cdf"),
    "Gamma": ("logistic", "norm_cdf"),
    "NegativeBinomial": ("logistic", "norm_cdf"),
    "ZeroInflatedPoisson": ("logistic", "norm_cdf"),
    "Gaussian": ("exp", "softplus", "logistic", "norm_cdf", "one_over_x"),
    "Bernoulli": (),
    "Binomial": (),
}


@pytest.mark.parametrize("family", RESPONSES)
def test_a_likelihood_is_flat_at_infinity_where_its_link_ends_at_a_possible_mean(family):
    model, y = observation_models.resolve(family), RESPONSES[family]
    for link in ("exp", "softplus", "identity", "one_over_x", "logistic", "norm_cdf"):
        inverse_link = getattr(links, link)
        found = _families.is_flat_at_infinity(model, inverse_link, y, np.ones(y.shape), None)
        assert (found == (link in FLAT[family])).all(), link


@pytest.mark.parametrize(("count", "flat"), [(1.0, True), (2.0, False)])
def test_a_likelihood_that_falls_like_the_reciprocal_cannot_be_integrated(count, flat):
    # with a mean of 1/eta the likelihood of counts that add up to c goes like eta**-c
    y = np.array([[0.0], [count]])
    model = observation_models.resolve("Poisson")
    found = _families.is_flat_at_infinity(model, links.one_over_x, y, np.ones(y.shape), None)
    assert found == [flat]


def test_a_heavy_tailed_family_of_the_users_own_needs_more_than_no_rows():
    # each response takes the likelihood down by eta**-6: one is enough, one without weight is not
    y = np.array([[0.5, 0.5]])
    weight = np.array([[1.0, 0.0]])
    found = _families.is_flat_at_infinity(Student(), links.identity, y, weight, None)
    np.testing.assert_array_equal(found, [False, True])


def test_intervals_of_a_family_of_the_users_own_come_from_its_distribution(rng):
    X = tables.X[:, :2]
    y = X @ [0.5, -0.5] + rng.standard_t(5.0, size=len(X))
    model = nmo.glm.GLM(Student(), regularizer="Ridge", regularizer_strength=0.01)
    model.sample_posterior(
        X, y, method="laplace", num_samples=200, scale="plugin", progress_bar=False
    )
    mean, sd = (np.asarray(a, float) for a in model.predict(X, return_std=True))
    draws = model.posterior_["posterior"]
    mu = np.einsum("cdf,nf->ncd", draws["coef"].values, X) + draws["intercept"].values
    noise = (
        float(model.scale_[0]) * 5.0 / 3.0
    )  # the variance of Student's t with five degrees of freedom
    np.testing.assert_allclose(mean, mu.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sd, np.sqrt(noise + mu.var(axis=(1, 2))), rtol=1e-5)
    low, high = (np.asarray(a, float) for a in model.predict_interval(X, 0.8, kind="response"))
    oracle = stats.t(5.0, mu, np.sqrt(float(model.scale_[0])))
    # ends are shown in single precision
    np.testing.assert_allclose(oracle.cdf(low[:, None, None]).mean(axis=(1, 2)), 0.1, atol=1e-5)
    np.testing.assert_allclose(oracle.cdf(high[:, None, None]).mean(axis=(1, 2)), 0.9, atol=1e-5)
