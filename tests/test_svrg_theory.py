"""SVRG's batch size and step: check values, bounds by dense linear algebra, and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesglm.solvers import _svrg_theory as theory


def design(n=60, p=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)) * np.arange(1, p + 1), rng.poisson(2.0, size=n)


@pytest.mark.parametrize("y", [0.0, 1.0, 7.0, 500.0])
def test_curvature_bound_holds_for_every_linear_predictor(y):
    with jax.enable_x64(True):
        eta = jnp.linspace(-30.0, 50.0, 8001)
        loss = lambda x: jax.nn.softplus(x) - y * jnp.log(jax.nn.softplus(x))  # noqa: E731
        curvature = np.asarray(jax.vmap(jax.grad(jax.grad(loss)))(eta))
    bound = theory.curvature_bounds(np.array([y]))[0]
    assert curvature.max() <= bound
    # and is tight enough to be of use: both of its terms are nearly reached, though apart
    assert curvature.max() >= 0.9 * max(0.25, 0.17 * y)


def test_constants_equal_those_of_dense_linear_algebra():
    X, y = design()
    c = 0.17 * y + 0.25
    smoothness, max_smoothness = theory.smoothness_constants(X, theory.curvature_bounds(y))
    exact = np.linalg.eigvalsh(X.T @ (c[:, None] * X) / len(X))[-1]
    # The error of the eigenvalue falls as (second / first)^(2 * 20); allclose stops at 1e-5.
    assert smoothness == pytest.approx(exact, rel=1e-6)
    assert max_smoothness == pytest.approx(np.max(c * np.sum(X**2, axis=1)), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_constants_are_ordered(seed):
    """L_max / n <= L <= L_max, and power iteration approaches L from below."""
    X, y = design(n=15, p=6, seed=seed)
    c = theory.curvature_bounds(y)
    smoothness, max_smoothness = theory.smoothness_constants(X, c)
    exact = np.linalg.eigvalsh(X.T @ (c[:, None] * X) / len(X))[-1]
    assert smoothness <= exact * (1 + 1e-12)
    assert max_smoothness / len(X) <= exact <= max_smoothness


def test_blocks_do_not_change_the_constants(monkeypatch):
    X, y = design()
    c = theory.curvature_bounds(y)
    whole = theory.smoothness_constants(X, c)
    monkeypatch.setattr(theory, "_BLOCK_ENTRIES", 7 * X.shape[1])
    np.testing.assert_allclose(theory.smoothness_constants(X, c), whole, rtol=1e-10)


def test_integer_and_float32_designs_are_computed_in_float64():
    """Squares of int8 overflow at 12, and float32 ones at 1e20."""
    X = np.round(10 * design()[0])
    c = np.ones(len(X))
    expected = theory.smoothness_constants(X, c)
    for dtype in (np.int8, np.float32):
        np.testing.assert_allclose(theory.smoothness_constants(X.astype(dtype), c), expected)


def test_rows_that_sum_to_zero_do_not_hide_the_curvature():
    """The all-ones start of the power iteration lies in the null space of contrasts."""
    X = np.array([[1.0, -1.0], [2.0, -2.0], [-1.0, 1.0]])
    smoothness, _ = theory.smoothness_constants(X, np.ones(3))
    assert smoothness == pytest.approx(np.linalg.eigvalsh(X.T @ X / 3)[-1], rel=1e-12)


def test_population_is_bound_by_the_largest_count():
    y = np.array([[1, 5], [3, 2]])
    np.testing.assert_array_equal(
        theory.curvature_bounds(y), theory.curvature_bounds(np.array([5, 3]))
    )


@pytest.mark.parametrize(
    ("n", "l_max", "l_mean", "expected"),
    [(100, 10, 2, 2.8697202), (121, 11, 1, 4.690416)],
)
def test_unconstrained_batch_size_check_values(n, l_max, l_mean, expected):
    found = theory._unconstrained_batch_size(n, l_max, l_mean)
    # Eight digits are given.
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("n", "l_max", "l_mean", "mu", "expected"),
    [(100, 10, 2, 0.1, 3.4146341), (121, 11, 1, 0.4, 0.67692308)],
)
def test_strongly_convex_batch_size_check_values(n, l_max, l_mean, mu, expected):
    found = theory._strongly_convex_batch_size(n, l_max, l_mean, mu)
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("n", "l_max", "l_mean", "mu", "expected"),
    [
        (100, 10, 2, None, 1),
        (100, 10, 2, 0.8, 1),
        (100, 10, 2, 0.1, 2),
        (100, 5, 0.2, 0.1, 1),
        (100, 10, 0.2, 0.01, 27),
        (100, 5, 0.05, 0.1, 1),
        (100, 5, 0.5, 0.005, 4),
        (100, 18, 0.5, 0.005, 100),
    ],
)
def test_batch_size_check_values(n, l_max, l_mean, mu, expected):
    assert theory.optimal_batch_size(n, l_max, l_mean, mu) == expected


@pytest.mark.parametrize("n", [2, 10, 1000])
@pytest.mark.parametrize("ratio", [1.0, 3.0, 50.0])
@pytest.mark.parametrize("mu", [1e-6, 1e-3, 0.1, 10.0])
def test_batch_size_lies_between_one_and_all_samples(n, ratio, mu):
    size = theory.optimal_batch_size(n, min(ratio, n), 1.0, mu)
    assert type(size) is int
    assert 1 <= size <= n


def test_step_of_full_batches_is_that_of_gradient_descent_halved():
    assert theory.optimal_stepsize(100, 10.0, 2.0, 100) == pytest.approx(1 / (2 * 2.0))


def test_step_of_single_samples_is_bound_by_the_hardest_one():
    assert theory.optimal_stepsize(100, 10.0, 2.0, 1) == pytest.approx(1 / (6 * 10.0))


def test_step_grows_with_the_batch():
    steps = [theory.optimal_stepsize(100, 10.0, 2.0, size) for size in range(1, 101)]
    assert np.all(np.diff(steps) > 0)


@pytest.mark.parametrize("y_shape", [(60,), (60, 3)])
def test_step_shrinks_as_the_square_of_the_scale(y_shape):
    """Scaling X by 10 scales both constants by 100."""
    X = design()[0]
    y = np.random.default_rng(0).poisson(2.0, size=y_shape)
    batch, step = theory.batch_size_and_stepsize(X, y)
    scaled_batch, scaled_step = theory.batch_size_and_stepsize(10 * X, y)
    assert batch == scaled_batch == 1
    assert scaled_step == pytest.approx(step / 100, rel=1e-10)


def test_strong_convexity_reaches_the_batch_size():
    X, y = design(n=400)
    smoothness, max_smoothness = theory.smoothness_constants(X, theory.curvature_bounds(y))
    mu = 2 * smoothness / len(X)
    batch, step = theory.batch_size_and_stepsize(X, y, strong_convexity=mu)
    assert batch == theory.optimal_batch_size(400, max_smoothness, smoothness, mu) > 1
    assert step == theory.optimal_stepsize(400, max_smoothness, smoothness, batch)


def test_given_values_are_kept():
    X, y = design()
    assert theory.batch_size_and_stepsize(X, y, batch_size=7, stepsize=0.5) == (7, 0.5)
    batch, step = theory.batch_size_and_stepsize(X, y, batch_size=7)
    constants = theory.smoothness_constants(X, theory.curvature_bounds(y))
    assert (batch, step) == (7, theory.optimal_stepsize(60, *constants[::-1], 7))
    assert theory.batch_size_and_stepsize(X, y, stepsize=0.5) == (1, 0.5)


@pytest.mark.parametrize(
    ("X", "given_values", "expected"),
    [
        (np.zeros((5, 2)), {}, (1, 1e-3)),
        (np.ones((1, 2)), {}, (1, 1e-3)),
        (np.full((5, 2), np.nan), {}, (1, 1e-3)),
        (np.zeros((5, 2)), {"batch_size": 3}, (3, 1e-3)),
        (np.ones((5, 2)), {"batch_size": 40}, (40, 1e-3)),
    ],
)
def test_useless_theory_falls_back_with_a_warning(X, given_values, expected):
    """One sample: 0 / 0; no curvature: 1 / 0; batches far larger than the sample: may be < 0."""
    y = np.ones(len(X))
    if given_values.get("batch_size") == 40:
        # n (b - 1) L > 3 (b - n) L_max, unless one sample has all the curvature
        X = X * np.array([1.0, 0, 0, 0, 0])[:, None]
    with pytest.warns(UserWarning, match="cannot be used"):
        assert theory.batch_size_and_stepsize(X, y, **given_values) == expected
