"""Laws of the observation models: likelihoods, deviances, scores, draws, and families of your own."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
from numpyro.infer.util import log_density
from scipy import stats
from scipy.special import gammaln

from bayesglm.glm import GLM, PopulationGLM
from bayesglm.observation_models import (
    BernoulliObservations,
    CategoricalObservations,
    GammaObservations,
    GaussianObservations,
    NegativeBinomialObservations,
    Observations,
    PoissonObservations,
    check_observation_model,
    resolve,
)

SCALE = 0.6
MODELS = {
    "Poisson": PoissonObservations(),
    "Gamma": GammaObservations(),
    "Gaussian": GaussianObservations(),
    "Bernoulli": BernoulliObservations(),
    "NegativeBinomial": NegativeBinomialObservations(SCALE),
}
#: Frozen SciPy distributions of a mean and a dispersion.
SCIPY = {
    "Poisson": lambda m, s: stats.poisson(m).logpmf,
    "Gamma": lambda m, s: stats.gamma(1 / s, scale=s * m).logpdf,
    "Gaussian": lambda m, s: stats.norm(m, np.sqrt(s)).logpdf,
    "Bernoulli": lambda m, s: stats.bernoulli(m).logpmf,
    "NegativeBinomial": lambda m, s: stats.nbinom(1 / s, 1 / (1 + s * m)).logpmf,
}
N_SAMPLES = 30
SHAPES = [(N_SAMPLES,), (N_SAMPLES, 3)]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def rates(name, rng, shape):
    return rng.uniform(0.1, 0.9, shape) if name == "Bernoulli" else rng.uniform(0.5, 4.0, shape)


def responses(name, rng, shape):
    return {
        "Poisson": lambda: rng.poisson(2.0, shape).astype(float),
        "Gamma": lambda: rng.gamma(2.0, 1.0, shape),
        "Gaussian": lambda: rng.normal(2.0, 1.0, shape),
        "Bernoulli": lambda: rng.integers(0, 2, shape).astype(float),
        "NegativeBinomial": lambda: rng.poisson(3.0, shape).astype(float),
    }[name]()


def each(scores):
    return scores


# -- likelihoods and scores ------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_log_likelihood_is_that_of_scipy(name, shape, rng):
    y, rate = responses(name, rng, shape), rates(name, rng, shape)
    expected = SCIPY[name](rate, SCALE)(y)
    model = MODELS[name]
    np.testing.assert_allclose(model.log_likelihood(y, rate, SCALE, each), expected, rtol=1e-11)
    total = expected.mean(axis=0).sum()
    np.testing.assert_allclose(model.log_likelihood(y, rate, SCALE), total, rtol=1e-11)
    np.testing.assert_allclose(model.likelihood(y, rate, SCALE), np.exp(total), rtol=1e-11)
    by_neuron = model.log_likelihood(y, rate, SCALE, lambda s: jnp.mean(s, axis=0))
    np.testing.assert_allclose(by_neuron, expected.mean(axis=0), rtol=1e-11)


@pytest.mark.parametrize("name", MODELS)
def test_fitting_loss_is_the_log_likelihood_without_its_constants(name, rng):
    # with the factor kappa between them, at the dispersion of the model
    y, first, second = (
        responses(name, rng, SHAPES[1]),
        *(rates(name, rng, SHAPES[1]) for _ in range(2)),
    )
    model, kappa = MODELS[name], 0.5 if name == "Gaussian" else 1.0
    change = model._negative_log_likelihood(y, first) - model._negative_log_likelihood(y, second)
    expected = [SCIPY[name](rate, model.scale)(y).mean(axis=0).sum() for rate in (second, first)]
    np.testing.assert_allclose(kappa * change, np.subtract(*expected), rtol=1e-10)


def statsmodels_family(name):
    import statsmodels.api as sm

    return {
        "Poisson": sm.families.Poisson,
        "Gamma": sm.families.Gamma,
        "Gaussian": sm.families.Gaussian,
        "Bernoulli": sm.families.Binomial,
        "NegativeBinomial": lambda: sm.families.NegativeBinomial(alpha=SCALE),
    }[name]()


@pytest.mark.oracle
@pytest.mark.parametrize("name", MODELS)
def test_deviance_is_that_of_statsmodels(name, rng):
    y, rate = responses(name, rng, N_SAMPLES), rates(name, rng, N_SAMPLES)
    expected = statsmodels_family(name).deviance(y, rate)
    # where y is 0 either side puts about 1e-16 in its place
    np.testing.assert_allclose(MODELS[name].deviance(y, rate).sum(), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["Gamma", "Gaussian"])
def test_deviance_is_in_units_of_the_dispersion(name, rng):
    y, rate = responses(name, rng, N_SAMPLES), rates(name, rng, N_SAMPLES)
    unit = MODELS[name].deviance(y, rate)
    np.testing.assert_allclose(MODELS[name].deviance(y, rate, SCALE), unit / SCALE, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_deviance_is_positive_and_zero_where_the_mean_is_the_response(name, shape, rng):
    y = responses(name, rng, shape)
    deviance = np.asarray(MODELS[name].deviance(y, rates(name, rng, shape), SCALE))
    assert deviance.shape == shape
    assert (deviance > 0).all()
    np.testing.assert_allclose(MODELS[name].deviance(y, y, SCALE), 0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["Poisson", "Bernoulli", "NegativeBinomial"])
def test_integers_are_as_good_as_floats(name, rng):
    y = responses(name, rng, N_SAMPLES).astype(int)
    model, rate = MODELS[name], rates(name, rng, N_SAMPLES)
    for method in (model.deviance, model.log_likelihood, model.likelihood):
        np.testing.assert_array_equal(method(y, rate), method(y.astype(float), rate))
        np.testing.assert_array_equal(method(y, y), method(y.astype(float), y.astype(float)))
    for score_type in ("pseudo-r2-McFadden", "pseudo-r2-Cohen"):
        found = model.pseudo_r2(y, rate, score_type=score_type)
        np.testing.assert_allclose(
            found, model.pseudo_r2(y.astype(float), rate, score_type), rtol=1e-14
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_pseudo_r2_compares_with_the_mean_of_each_neuron(name, shape, rng):
    y, rate = responses(name, rng, shape), rates(name, rng, shape)
    null = np.broadcast_to(y.mean(axis=0), shape)
    model, log = MODELS[name], SCIPY[name]
    scale = SCALE if name in ("Gamma", "Gaussian", "NegativeBinomial") else 1.0
    expected = 1 - log(rate, scale)(y).mean() / log(null, scale)(y).mean()
    found = model.pseudo_r2(y, rate, "pseudo-r2-McFadden", scale)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    total, residual = (np.mean(model.deviance(y, r)) for r in (null, rate))
    np.testing.assert_allclose(
        model.pseudo_r2(y, rate, "pseudo-r2-Cohen"), (total - residual) / total, rtol=1e-12
    )
    by_neuron = model.pseudo_r2(y, rate, aggregate_sample_scores=lambda s: jnp.mean(s, axis=0))
    assert by_neuron.shape == shape[1:]


def test_pseudo_r2_of_gaussian_responses_is_the_share_of_variance_explained(rng):
    y, rate = rng.normal(size=N_SAMPLES), rng.normal(size=N_SAMPLES)
    expected = 1 - np.sum((y - rate) ** 2) / np.sum((y - y.mean()) ** 2)
    found = MODELS["Gaussian"].pseudo_r2(y, rate, "pseudo-r2-Cohen")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_cohens_r2_is_one_for_a_perfect_and_zero_for_the_null_model(name, rng):
    y = responses(name, rng, N_SAMPLES)
    model = MODELS[name]
    for rate, value in ((y, 1.0), (np.full(N_SAMPLES, y.mean()), 0.0)):
        np.testing.assert_allclose(model.pseudo_r2(y, rate, "pseudo-r2-Cohen"), value, atol=1e-12)


def test_other_scores_are_refused():
    with pytest.raises(NotImplementedError, match="pseudo-r2-Cohen"):
        MODELS["Poisson"].pseudo_r2(np.ones(3), np.ones(3), score_type="accuracy")


# -- dispersion and draws --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_dispersion_is_a_sum_of_squares_over_the_degrees_of_freedom(shape, rng):
    dof = np.full(shape[1:], 25.0)
    y, rate = responses("Gamma", rng, shape), rates("Gamma", rng, shape)
    expected = {"Gaussian": (y - rate) ** 2, "Gamma": (y - rate) ** 2 / rate**2}
    for name, squares in expected.items():
        found = MODELS[name].estimate_scale(y, rate, dof)
        np.testing.assert_allclose(found, squares.sum(axis=0) / 25.0, rtol=1e-12)
    for name in ("Poisson", "Bernoulli"):
        ones = MODELS[name].estimate_scale(y, rate, dof)
        np.testing.assert_array_equal(ones, np.ones(shape[1:] or 1))
    assert MODELS["NegativeBinomial"].estimate_scale(y, rate, dof) == SCALE


KINDS = {"Poisson": "iu", "Gamma": "f", "Gaussian": "f", "Bernoulli": "b", "NegativeBinomial": "iu"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_draws_have_the_shape_of_the_mean_and_the_type_of_the_response(name, shape, rng):
    drawn = np.asarray(
        MODELS[name].sample_generator(jax.random.key(0), rates(name, rng, shape), SCALE)
    )
    assert drawn.shape == shape
    assert drawn.dtype.kind in KINDS[name]
    MODELS[name].check_support(drawn.astype(float))


VARIANCE = {
    "Poisson": lambda m, s: m,
    "Gamma": lambda m, s: s * m**2,
    "Gaussian": lambda m, s: s,
    "Bernoulli": lambda m, s: m * (1 - m),
    "NegativeBinomial": lambda m, s: m + s * m**2,
}


@pytest.mark.parametrize("name", MODELS)
def test_draws_have_the_mean_and_variance_of_the_likelihood(name):
    rate = np.full(20_000, 0.7)
    drawn = np.asarray(MODELS[name].sample_generator(jax.random.key(1), rate, 0.4), float)
    squared = (drawn - 0.7) ** 2
    # four standard errors: one key in ten thousand fails
    for values, expected in ((drawn, 0.7), (squared, VARIANCE[name](0.7, 0.4))):
        assert abs(values.mean() - expected) <= 4 * values.std() / np.sqrt(len(values))


def test_dispersion_of_a_negative_binomial_is_a_parameter():
    model = NegativeBinomialObservations(0.5)
    assert repr(model) == "NegativeBinomialObservations(scale=0.5)"
    assert model.set_params(scale=2).get_params() == {"scale": 2.0}
    for wrong in (0.0, -1.0, np.nan, np.inf, "a", None):
        with pytest.raises(ValueError, match="positive number"):
            NegativeBinomialObservations(wrong)
    with pytest.raises(ValueError, match=r"Invalid.*shape.*Valid are.*scale"):
        model.set_params(shape=1.0)


# -- classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_categorical_scores_read_indices_and_one_hot_rows(shape, rng):
    model = CategoricalObservations()
    log_proba = jax.nn.log_softmax(rng.normal(size=(*shape, 3)))
    y = rng.integers(0, 3, shape)
    picked = np.take_along_axis(np.asarray(log_proba), y[..., None], -1)[..., 0]
    share = np.stack([(y == k).mean(axis=0) for k in range(3)], axis=-1)
    null = np.take_along_axis(np.broadcast_to(np.log(share), (*shape, 3)), y[..., None], -1)[..., 0]
    for given in (y, np.eye(3)[y]):
        np.testing.assert_allclose(model.log_likelihood(given, log_proba, None, each), picked)
        np.testing.assert_allclose(model.deviance(given, log_proba), -2 * picked)
        loss = model._negative_log_likelihood(given, log_proba)
        np.testing.assert_allclose(loss, -picked.mean(axis=0).sum())
        expected = np.exp(picked.mean(axis=0)).prod()
        np.testing.assert_allclose(model.likelihood(given, log_proba), expected)
        for score_type in (
            "pseudo-r2-McFadden",
            "pseudo-r2-Cohen",
        ):  # the same, as no constant is dropped
            found = model.pseudo_r2(given, log_proba, score_type)
            np.testing.assert_allclose(found, 1 - picked.mean() / null.mean())
    np.testing.assert_array_equal(model.estimate_scale(y, log_proba, 1.0), np.ones(shape[1:] or 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_categorical_draws_are_one_hot_rows(shape, rng):
    log_proba = jax.nn.log_softmax(rng.normal(size=(*shape, 3)))
    drawn = CategoricalObservations().sample_generator(jax.random.key(0), log_proba)
    assert drawn.shape == (*shape, 3)
    np.testing.assert_array_equal(np.sort(drawn, axis=-1)[..., :2], 0)
    np.testing.assert_array_equal(drawn.sum(axis=-1), 1)


# -- names, support, checks ------------------------------------------------------------------------


def test_models_are_known_by_name():
    for name, model in {**MODELS, "Categorical": CategoricalObservations()}.items():
        for spelling in (
            name,
            f"{name}Observations",
            f"nemos.observation_models.{name}Observations",
        ):
            assert type(resolve(spelling)) is type(model)
        assert resolve(model) is model
    for wrong in ("poisson", "Probit", ""):
        with pytest.raises(ValueError, match="Known: Poisson, Gamma"):
            resolve(wrong)
    with pytest.raises(TypeError, match="Add parentheses"):
        resolve(PoissonObservations)


#: Family: a response outside its support, and how the support is named.
OUTSIDE = {
    "Poisson": (-1.5, "non-negative"),
    "NegativeBinomial": (-2.0, "non-negative"),
    "Gamma": (0.0, "positive"),
    "Bernoulli": (0.5, "0 or 1"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_response_outside_the_support_is_refused_by_name_and_place(name):
    value, support = OUTSIDE[name]
    y = np.ones((6, 2))
    y[1, 0], y[4, 1], y[5, 0] = np.nan, value, value
    with pytest.raises(
        ValueError, match=rf"{name} response must be {support}, but `y\[\(4, 1\)\]` is {value}"
    ):
        MODELS[name].check_support(y)
    with pytest.raises(ValueError, match=rf"`y\[4\]` is {value}"):
        MODELS[name].check_support(y[:, 1])
    with pytest.raises(ValueError, match=support):
        PopulationGLM(name).fit(np.zeros((6, 1)), y)


@pytest.mark.parametrize("name", ["Poisson", "NegativeBinomial"])
def test_counts_may_be_non_negative_reals(name):
    MODELS[name].check_support(np.array([0.0, 0.3, 7.5, np.nan]))
    MODELS["Gaussian"].check_support(np.array([-1e9, 0.0]))


class NumpyroPoisson(Observations):
    """A family of one's own: nothing but a NumPyro distribution."""

    default_inverse_link_function = staticmethod(jnp.exp)

    @staticmethod
    def distribution(eta, inverse_link_function, scale=1.0):
        return dist.Poisson(inverse_link_function(eta))


class DuckPoisson:
    """A family of one's own in the documented form: no base class, everything written out."""

    scale = 1.0

    @staticmethod
    def default_inverse_link_function(eta):
        return jnp.exp(eta)

    def _negative_log_likelihood(
        self, y, rate, aggregate_sample_scores=lambda s: jnp.sum(jnp.mean(s, axis=0))
    ):
        return aggregate_sample_scores(rate - y * jnp.log(rate))

    def log_likelihood(self, y, rate, scale=1.0, aggregate_sample_scores=jnp.mean):
        return aggregate_sample_scores(
            y * jnp.log(rate) - rate - jax.scipy.special.gammaln(y + 1.0)
        )

    def likelihood(self, y, rate, scale=1.0, aggregate_sample_scores=jnp.mean):
        return jnp.exp(self.log_likelihood(y, rate, scale, aggregate_sample_scores))

    def deviance(self, y, rate, scale=1.0):
        return 2.0 * (jax.scipy.special.xlogy(y, y / rate) - (y - rate))

    def estimate_scale(self, y, rate, dof_resid):
        return jnp.ones(y.shape[1:] or 1)

    def sample_generator(self, key, rate, scale=1.0):
        return jax.random.poisson(key, rate)

    def pseudo_r2(self, y, rate, **kwargs):
        return 0.0


OWN = {"subclass": NumpyroPoisson, "duck": DuckPoisson}
Y = tables.RESPONSES["Poisson"]


@pytest.mark.parametrize("kind", ["UnRegularized", "Lasso"])
@pytest.mark.parametrize("own", OWN)
def test_a_family_of_your_own_is_fitted_like_the_native_one(own, kind):
    arguments = {"regularizer": kind, "regularizer_strength": tables.REGULARIZERS[kind],
                 "solver_kwargs": {"tol": 1e-8}}  # fmt: skip
    native, ours = (
        PopulationGLM(model, **arguments).fit(tables.X, Y) for model in ("Poisson", OWN[own]())
    )
    # both stop within 1e-8 standard errors, which are about 0.1
    np.testing.assert_allclose(ours.coef_, native.coef_, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, native.intercept_, atol=1e-8)
    np.testing.assert_allclose(ours.scale_, native.scale_)
    np.testing.assert_allclose(ours.predict(tables.X), native.predict(tables.X), rtol=1e-7)
    np.testing.assert_allclose(ours.score(tables.X, Y), native.score(tables.X, Y), rtol=1e-7)
    for score_type in ("pseudo-r2-McFadden", "pseudo-r2-Cohen"):
        scores = [model.score(tables.X, Y, score_type) for model in (ours, native)]
        np.testing.assert_allclose(*scores, rtol=1e-7)
    counts, rate = ours.simulate(jax.random.key(0), tables.X)
    assert counts.shape == rate.shape == Y.shape


@pytest.mark.parametrize("own", OWN)
def test_a_family_of_your_own_has_the_density_of_the_native_one(own, rng):
    params = {"coef": jnp.asarray(rng.normal(size=4)), "intercept": jnp.asarray(0.3)}
    found = [
        log_density(GLM(model).numpyro_model(tables.X, Y[:, 0]), (), {}, params)[0]
        for model in (OWN[own](), "Poisson")
    ]
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_a_family_of_your_own_gets_scores_from_its_distribution(rng):
    y, rate = responses("Poisson", rng, N_SAMPLES), rates("Poisson", rng, N_SAMPLES)
    ours, native = NumpyroPoisson(), MODELS["Poisson"]
    y = y + 1.0  # a saturated rate of zero is NumPyro's to handle
    np.testing.assert_allclose(ours.deviance(y, rate), native.deviance(y, rate), rtol=1e-10)
    np.testing.assert_allclose(ours.log_likelihood(y, rate), native.log_likelihood(y, rate))
    constant = gammaln(y + 1.0).mean()  # a density of one's own keeps its constants in the loss
    found = ours._negative_log_likelihood(y, rate) - constant
    np.testing.assert_allclose(found, native._negative_log_likelihood(y, rate), rtol=1e-12)


MEMBERS = [
    "_negative_log_likelihood", "log_likelihood", "likelihood", "pseudo_r2", "deviance", "estimate_scale",
    "sample_generator", "default_inverse_link_function",
]  # fmt: skip


@pytest.mark.parametrize("member", MEMBERS)
def test_a_model_that_lacks_a_member_is_refused_by_its_name(member):
    members = {name: value for name, value in vars(DuckPoisson).items() if name != member}
    incomplete = type("Incomplete", (), members)
    with pytest.raises(AttributeError, match=f"lacks `{member}`"):
        check_observation_model(incomplete())
    with pytest.raises(AttributeError, match=f"lacks `{member}`"):
        GLM(incomplete())
    wrong = type("Wrong", (), {**members, member: 3.0})
    with pytest.raises(TypeError, match=f"`{member}`.*callable"):
        check_observation_model(wrong())


def test_complete_models_pass_the_check():
    for model in (*MODELS.values(), CategoricalObservations(), NumpyroPoisson(), DuckPoisson()):
        assert check_observation_model(model) is None


@pytest.mark.parametrize("unit", [1e-30, 1e-17, 1e20])
@pytest.mark.parametrize("name", ["Gamma", "Gaussian"])
def test_scores_do_not_depend_on_the_units_of_the_response(name, unit, rng):
    """Relative to a dispersion in the same units; in float64, whose rounding unit is 2e-16."""
    model = resolve(name)
    rate = rng.gamma(3.0, size=(50, 2))
    y = rate * rng.gamma(2.0, 0.5, size=rate.shape)
    y[0] *= 1e-12  # tiny among the others, too
    scale = (unit**2 if name == "Gaussian" else 1.0) * 0.5
    with jax.enable_x64(True):
        plain, other = model.deviance(y, rate, 0.5), model.deviance(unit * y, unit * rate, scale)
        # differences of logarithms of up to 70
        np.testing.assert_allclose(other, plain, rtol=1e-9, atol=1e-12)
        if name == "Gamma":
            textbook = 2 * ((y - rate) / rate - np.log(y / rate)) / 0.5
            np.testing.assert_allclose(other, textbook, rtol=1e-9, atol=1e-12)
        cohen = [model.pseudo_r2(c * y, c * rate, "pseudo-r2-Cohen") for c in (1.0, unit)]
        np.testing.assert_allclose(cohen[1], cohen[0], rtol=1e-9)
        density = [
            model.log_likelihood(y, rate, 0.5),
            model.log_likelihood(unit * y, unit * rate, scale) + 2 * np.log(unit),  # of two neurons
        ]
        np.testing.assert_allclose(density[1], density[0], rtol=1e-9)
        dof = np.full(2, 48.0)
        estimates = [model.estimate_scale(c * y, c * rate, dof) for c in (1.0, unit)]
        np.testing.assert_allclose(estimates[1], estimates[0] * scale / 0.5, rtol=1e-9)


class OwnGaussian(GaussianObservations):
    """A family whose dispersion is found by a formula of its own."""

    def estimate_scale(self, y, rate, dof_resid):
        return jnp.median(jnp.square(y - rate), axis=0)


def test_a_family_of_your_own_sees_a_row_as_often_as_its_weight_says(rng):
    y = tables.RESPONSES["Gaussian"]
    weight = rng.integers(0, 3, size=y.shape)
    found = PopulationGLM(OwnGaussian()).fit(tables.X, y, sample_weight=weight)
    for k in range(y.shape[1]):
        rows = np.repeat(np.arange(len(y)), weight[:, k])
        alone = GLM(OwnGaussian()).fit(tables.X[rows], y[rows, k])
        np.testing.assert_allclose(found.scale_[k], alone.scale_, rtol=1e-5)  # shown in float32
    model = PopulationGLM(OwnGaussian())
    with pytest.raises(ValueError, match="whole numbers"):
        model.fit(tables.X, y, sample_weight=0.5 * weight)
    assert model.coef_ is None
    PopulationGLM(NumpyroPoisson()).fit(tables.X, Y, sample_weight=0.5 * weight)  # has none


def test_a_missing_response_is_no_row_for_a_family_of_your_own():
    y = tables.RESPONSES["Gaussian"].copy()
    y[::3, 0] = np.nan
    found = PopulationGLM(OwnGaussian()).fit(tables.X, y)
    plain = PopulationGLM(OwnGaussian()).fit(tables.X, tables.RESPONSES["Gaussian"])
    np.testing.assert_allclose(found.scale_[1:], plain.scale_[1:], rtol=1e-6)
