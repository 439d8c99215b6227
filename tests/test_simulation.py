"""Simulation against the model's formula written as loops, and laws of causality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import gamma

from bayesglm import simulation
from bayesglm.simulation import difference_of_gammas, regress_filter, simulate_recurrent

T, N, W, B, I = 12, 3, 4, 2, 2  # noqa: E741


def network(seed=0, bins=T):
    """Draw a small network with asymmetric coupling (arguments of `simulate_recurrent`)."""
    rng = np.random.default_rng(seed)
    return {
        "coupling_coef": 0.3 * rng.normal(size=(N, N, B)),
        "feedforward_coef": rng.normal(size=(N, I)),
        "intercepts": rng.normal(size=N),
        "random_key": jax.random.key(seed),
        "feedforward_input": rng.normal(size=(bins, N, I)),
        "coupling_basis_matrix": rng.uniform(size=(W, B)),
        "init_y": rng.poisson(2.0, size=(W, N)).astype(float),
    }


def rates_given_spikes(net, spikes, link):
    """Return the means by the formula, one number at a time."""
    history = np.concatenate([net["init_y"], spikes])
    rates = np.empty((len(spikes), N))
    for t in range(len(spikes)):
        for n in range(N):
            eta = net["intercepts"][n] + net["feedforward_coef"][n] @ net["feedforward_input"][t, n]
            for m in range(N):
                for lag in range(1, W + 1):
                    weight = net["coupling_coef"][n, m] @ net["coupling_basis_matrix"][lag - 1]
                    eta += weight * history[W + t - lag, m]
            rates[t, n] = link(eta)
    return rates


@pytest.mark.parametrize(
    ("link", "numpy_link"), [(None, lambda x: np.logaddexp(0, x)), (jnp.exp, np.exp)]
)
def test_rates_follow_the_formula_given_the_spikes(link, numpy_link):
    net = network()
    # Inhibition only: with exp, excitation that feeds on itself overflows within a few bins.
    net["coupling_coef"] = -np.abs(net["coupling_coef"])
    chosen = {} if link is None else {"inverse_link_function": link}
    with jax.enable_x64(True):
        spikes, rates = simulate_recurrent(**net, **chosen)
    assert rates.dtype == np.float64
    assert np.issubdtype(spikes.dtype, np.integer)
    assert spikes.shape == rates.shape == (T, N)
    # Two float64 evaluations of sums of some twenty terms of order one.
    expected = rates_given_spikes(net, np.asarray(spikes), numpy_link)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_precision_is_the_current_default():
    spikes, rates = simulate_recurrent(**network())
    assert rates.dtype == np.float32
    # float32 keeps 6e-8; the linear predictors are sums of some twenty terms of order one.
    expected = rates_given_spikes(network(), np.asarray(spikes), lambda x: np.logaddexp(0, x))
    np.testing.assert_allclose(rates, expected, rtol=1e-4)


def test_the_future_does_not_change_the_past():
    net, cut = network(), 5
    before = simulate_recurrent(**net)
    net["feedforward_input"][cut:] += 1.0
    after = simulate_recurrent(**net)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one[:cut], other[:cut])
    assert not np.array_equal(before[1][cut:], after[1][cut:])


def test_coupling_runs_from_sender_to_receiver():
    """Only neuron 0 listens, only to neuron 2."""
    net = network()
    net["coupling_coef"] = np.zeros((N, N, B))
    silent = simulate_recurrent(**net)[1]
    net["coupling_coef"][0, 2] = 1.0
    rates = simulate_recurrent(**net)[1]
    np.testing.assert_array_equal(rates[:, 1:], silent[:, 1:])
    assert np.all(rates[0, 0] > silent[0, 0])


def test_first_basis_row_weighs_the_latest_bin():
    net = network(bins=1)
    net["coupling_basis_matrix"] = np.eye(W)[:, :1]
    net["coupling_coef"] = np.ones((N, N, 1))
    net["init_y"] = np.zeros((W, N))
    base = simulate_recurrent(**net)[1]
    net["init_y"][:-1] = 5.0
    np.testing.assert_array_equal(simulate_recurrent(**net)[1], base)
    net["init_y"][-1] = 5.0
    assert np.all(simulate_recurrent(**net)[1] > base)


def test_spikes_are_poisson_with_the_returned_rates():
    net = network(bins=2000)
    spikes, rates = (np.asarray(a, dtype=float) for a in simulate_recurrent(**net))
    # Martingale differences of mean 0 and variance 1: their sum is within 5 sd but for 6e-7.
    z = (spikes - rates) / np.sqrt(rates)
    assert abs(z.sum()) < 5 * np.sqrt(z.size)
    # (s - r)^2 / r has mean 1 and variance 2 + 1/r, given the past.
    dispersion = z**2 - 1
    assert abs(dispersion.sum()) < 5 * np.sqrt(np.sum(2 + 1 / rates))


def test_same_key_same_spikes_and_another_key_others():
    net = network()
    first = simulate_recurrent(**net)[0]
    np.testing.assert_array_equal(first, simulate_recurrent(**net)[0])
    net["random_key"] = jax.random.key(1)
    assert not np.array_equal(first, simulate_recurrent(**net)[0])


def test_new_data_of_the_same_shape_compile_nothing():
    simulate_recurrent(**network(0))
    before = simulation._simulate._cache_size()
    simulate_recurrent(**network(1))
    assert simulation._simulate._cache_size() == before


def test_lists_and_integers_are_accepted():
    net = {name: np.round(a) for name, a in network().items() if name != "random_key"}
    key = jax.random.key(0)
    expected = simulate_recurrent(random_key=key, **net)[1]
    lists = {name: a.astype(int).tolist() for name, a in net.items()}
    np.testing.assert_array_equal(simulate_recurrent(random_key=key, **lists)[1], expected)


@pytest.mark.parametrize("name", [name for name in network() if name != "random_key"])
def test_wrong_dimensions_are_named(name):
    net = network()
    net[name] = net[name][None]
    with pytest.raises(ValueError, match=f"`{name}`.*dimension"):
        simulate_recurrent(**net)


@pytest.mark.parametrize("name", [name for name in network() if name != "random_key"])
@pytest.mark.parametrize("value", ["text", None, [["a"]], np.array([None]), [[1], [1, 2]], 1j])
def test_non_numeric_inputs_are_type_errors(name, value):
    net = network()
    net[name] = value
    with pytest.raises(TypeError, match=f"`{name}`"):
        simulate_recurrent(**net)


@pytest.mark.parametrize(
    ("name", "axis", "what"),
    [
        ("coupling_coef", 0, "neurons"),
        ("coupling_coef", 1, "neurons"),
        ("coupling_coef", 2, "basis"),
        ("feedforward_coef", 0, "neurons"),
        ("feedforward_coef", 1, "inputs"),
        ("intercepts", 0, "neurons"),
        ("feedforward_input", 1, "neurons"),
        ("feedforward_input", 2, "inputs"),
        ("coupling_basis_matrix", 0, "window"),
        ("coupling_basis_matrix", 1, "basis"),
        ("init_y", 0, "window"),
        ("init_y", 1, "neurons"),
    ],
)
def test_inconsistent_lengths_are_named(name, axis, what):
    net = network()
    net[name] = np.delete(net[name], 0, axis=axis)
    with pytest.raises(ValueError, match=f"Inconsistent .*{what}.*`{name}`"):
        simulate_recurrent(**net)


def test_link_must_be_callable():
    with pytest.raises(TypeError, match="callable"):
        simulate_recurrent(**network(), inverse_link_function="softplus")


def test_difference_of_gammas_is_the_normalised_difference_of_scipy_densities():
    found = difference_of_gammas(50, 0.95, inhib_a=1.5, excit_a=3.0, inhib_b=0.5, excit_b=2.0)
    inhibition, excitation = gamma(1.5, scale=2.0), gamma(3.0, scale=0.5)
    lags = np.linspace(0, max(inhibition.ppf(0.95), excitation.ppf(0.95)), 50)
    expected = excitation.pdf(lags) - inhibition.pdf(lags)
    # Unnormalised, the two differ by one positive factor; rounding of special functions.
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-9, atol=1e-12)


def test_default_filter_inhibits_first_and_then_excites():
    """At lag 0 the exponential has density 1 and the Gamma of shape 2 density 0."""
    found = difference_of_gammas(100)
    assert found[0] < 0 < found.max()
    assert np.argmin(found) < np.argmax(found)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ws": 0},
        {"ws": 2.5},
        {"upper_percentile": 1.0},
        {"upper_percentile": -0.1},
        {"inhib_a": 0.5},
        {"excit_a": np.nan},
        {"inhib_b": 0.0},
        {"excit_b": -1.0},
        {"inhib_a": 2.0, "excit_b": 1.0},
    ],
    ids=str,
)
def test_difference_of_gammas_refuses_parameters_outside_their_range(wrong):
    with pytest.raises(ValueError, match="Gamma|ws|percentile"):
        difference_of_gammas(**{"ws": 10, **wrong})


def test_regress_filter_recovers_the_weights_of_filters_in_the_span():
    rng = np.random.default_rng(0)
    basis, weights = rng.normal(size=(20, 3)), rng.normal(size=(4, 4, 3))
    filters = np.einsum("wb,ijb->wij", basis, weights)
    # Exact but for rounding times the condition number of a 20 x 3 normal matrix (below 5).
    np.testing.assert_allclose(regress_filter(filters, basis), weights, atol=1e-12)


def test_regress_filter_leaves_a_residual_orthogonal_to_the_basis():
    rng = np.random.default_rng(1)
    basis, filters = rng.normal(size=(20, 3)), rng.normal(size=(20, 2, 2))
    residual = filters - np.einsum("wb,ijb->wij", basis, regress_filter(filters, basis))
    np.testing.assert_allclose(np.einsum("wb,wij->bij", basis, residual), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("filters", "basis", "error"),
    [
        (np.ones((5, 2)), np.ones((5, 3)), ValueError),
        (np.ones((5, 2, 2)), np.ones(5), ValueError),
        (np.ones((5, 2, 2)), np.ones((4, 3)), ValueError),
        (np.full((5, 2, 2), "a"), np.ones((5, 3)), TypeError),
    ],
)
def test_regress_filter_refuses_wrong_inputs(filters, basis, error):
    with pytest.raises(error, match="coupling_filters|eval_basis"):
        regress_filter(filters, basis)
