"""Laws of the inverse links: link and inverse undo each other, and logarithms keep their digits in the tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from bayesglm import links

#: Each named link with predictors on which its mean has digits left, and far ones.
NAMED = {
    "exp": (links.exp, np.linspace(-20, 20, 41), (-800.0, 700.0)),
    "softplus": (links.softplus, np.linspace(-20, 30, 51), (-800.0, 1e8)),
    "logistic": (links.logistic, np.linspace(-15, 15, 31), (-800.0, 800.0)),
    "norm_cdf": (links.norm_cdf, np.linspace(-5, 5, 21), (-200.0, 200.0)),
    "identity": (links.identity, np.linspace(0.1, 5, 21), (1e-200, 1e200)),
    "one_over_x": (links.one_over_x, np.linspace(0.1, 10, 21), (1e-100, 1e100)),
}
PROBABILITIES = ("logistic", "norm_cdf")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", NAMED)
def test_link_undoes_the_inverse_link(name):
    link, eta, _ = NAMED[name]
    # a probability near one leaves 1e-16 / (1 - p) of the predictor: 1e-9 at logistic(15)
    np.testing.assert_allclose(links.link_value(link, link(eta)), eta, rtol=1e-8, atol=1e-12)


def test_link_of_class_frequencies_is_centred(rng):
    eta = rng.normal(size=(5, 4))
    found = links.link_value(links.log_softmax, np.exp(links.log_softmax(eta)))
    np.testing.assert_allclose(found, eta - eta.mean(axis=1, keepdims=True), atol=1e-13)


@pytest.mark.parametrize("mean", [0.0, -1.0])
@pytest.mark.parametrize("name", ["exp", "softplus", "logistic", "norm_cdf"])
def test_a_mean_outside_the_range_has_no_finite_predictor(name, mean):
    assert not np.isfinite(links.link_value(NAMED[name][0], mean))


@pytest.mark.parametrize("name", NAMED)
def test_stable_logarithms_are_the_plain_ones_in_the_bulk(name):
    link, eta, _ = NAMED[name]
    mean = np.asarray(link(eta))
    np.testing.assert_allclose(links.log_mean(link, eta), np.log(mean), rtol=1e-9, atol=1e-14)
    if name in PROBABILITIES:
        # here it is the plain form that loses digits
        np.testing.assert_allclose(
            links.log_complement(link, eta), np.log1p(-mean), rtol=1e-8, atol=1e-14
        )


@pytest.mark.parametrize("name", NAMED)
def test_logarithms_and_their_derivatives_are_finite_far_out(name):
    link, _, far = NAMED[name]
    functions = [links.log_mean] + [links.log_complement] * (name in PROBABILITIES)
    for function in functions:
        for eta in far:
            value, slope = jax.value_and_grad(lambda x, f=function: f(link, x))(eta)
            assert np.isfinite(value)
            assert np.isfinite(slope)


def test_logarithm_of_softplus_is_smooth_where_its_form_changes():
    eta = -30.0 + np.linspace(-1e-3, 1e-3, 101)
    value = np.asarray(links.log_mean(links.softplus, eta))
    slope = jax.vmap(jax.grad(lambda x: links.log_mean(links.softplus, x)))(eta)
    # both forms agree to e^-30
    np.testing.assert_allclose(value, eta, rtol=1e-13)
    np.testing.assert_allclose(slope, 1.0, rtol=1e-12)


JAX_FUNCTIONS = {
    "exp": [jnp.exp, jax.lax.exp],
    "softplus": [jax.nn.softplus],
    "logistic": [jax.nn.sigmoid, jax.lax.logistic, jax.scipy.special.expit, links.expit],
    "norm_cdf": [jax.scipy.stats.norm.cdf, jax.scipy.special.ndtr],
    "identity": [jax.nn.identity],
}


@pytest.mark.parametrize("name", JAX_FUNCTIONS)
def test_functions_of_jax_are_as_accurate_as_the_named_ones(name):
    link, _, far = NAMED[name]
    for function in JAX_FUNCTIONS[name]:
        assert links.resolve(function) is function
        for eta in far:
            np.testing.assert_array_equal(links.log_mean(function, eta), links.log_mean(link, eta))
        assert links.inverse_link_name(function) == name


NAMES = {
    links.exp: ["exp", "jax.numpy.exp", "jax._src.numpy.ufuncs.exp"],
    links.softplus: ["softplus", "jax.nn.softplus", "jax._src.nn.functions.softplus"],
    links.logistic: [
        "logistic",
        "expit",
        "jax.lax.logistic",
        "jax.scipy.special.expit",
        "jax._src.lax.lax.logistic",
        "jax._src.scipy.special.expit",
        "nemos.inverse_link_function_utils.logistic",
    ],
    links.norm_cdf: [
        "norm.cdf",
        "norm_cdf",
        "jax.scipy.stats.norm.cdf",
        "jax._src.scipy.stats.norm.cdf",
        "nemos.inverse_link_function_utils.norm_cdf",
    ],
    links.identity: ["identity", "nemos.inverse_link_function_utils.identity"],
    links.one_over_x: ["one_over_x", "nemos.utils.one_over_x", "bayesglm.links.one_over_x"],
    links.log_softmax: ["log_softmax", "jax.nn.log_softmax"],
}


@pytest.mark.parametrize(
    ("link", "name"), [(link, name) for link, all_ in NAMES.items() for name in all_]
)
def test_documented_names_are_known(link, name):
    assert links.resolve(name) is link


@pytest.mark.parametrize(
    "name", ["log", "logit", "tanh", "numpy.exp", "scipy.special.expit", "Exp", ""]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="Known names: exp, expit"):
        links.resolve(name)


@pytest.mark.parametrize("value", [None, 1, np.ones(3), ["exp"]])
def test_what_is_neither_name_nor_function_is_refused(value):
    with pytest.raises(TypeError, match="must be a name or a function"):
        links.resolve(value)


BAD_FUNCTIONS = {
    "numpy": np.exp,
    "scipy": scipy.special.expit,
    "returns numpy": lambda x: np.ones(np.shape(x)),
    "sums": jnp.sum,
    "fails": lambda x: x["a"],
    "adds an axis": lambda x: jnp.asarray(x)[..., None],
    "has no derivative at one": lambda x: jnp.sqrt(jnp.asarray(x) - 1.0),
}


@pytest.mark.parametrize("case", BAD_FUNCTIONS)
def test_functions_that_jax_cannot_use_are_refused_with_advice(case):
    with pytest.raises(ValueError, match="Write it with `jax.numpy`"):
        links.resolve(BAD_FUNCTIONS[case])


OWN = {
    "square": (lambda x: x**2, [0.5, 2.0, 9.0, 4e4]),
    "shifted exponential": (lambda x: jnp.exp(x) + 1.0, [1.5, 3.0, 50.0]),
    "bounded domain": (lambda x: jnp.sqrt(x - 2.0) * 3.0, [2.0, 50.0]),
    "falling": (lambda x: 1.0 / jnp.log1p(jnp.exp(x)), [0.05, 1.0, 1e3]),
    "scaled logistic": (lambda x: 10.0 * jax.nn.sigmoid(x), [0.1, 5.0, 9.5]),
}


@pytest.mark.parametrize("case", OWN)
def test_a_link_of_your_own_is_inverted_by_search(case):
    link, means = OWN[case]
    assert not links.is_known(link)
    eta = links.link_value(link, means)
    # sixty bisections leave rounding only
    np.testing.assert_allclose(link(eta), means, rtol=1e-12)


def test_a_search_without_solution_says_so():
    assert np.isnan(links.link_value(OWN["shifted exponential"][0], 0.5))
    assert np.isnan(links.link_value(lambda x: jnp.sign(x) + 2.0, 2.5))  # a jump is no root
    mixed = links.link_value(OWN["square"][0], [[4.0, -1.0]])
    assert mixed.shape == (1, 2)
    np.testing.assert_array_equal(np.isfinite(mixed), [[True, False]])
