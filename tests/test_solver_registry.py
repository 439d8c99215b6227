"""Solvers by name: what they accept, that it is honoured, and single steps against formulas."""

import contextlib
import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tables
from reference import Problem, fitted

import bayesglm as nmo
from bayesglm import solvers

X, Y = tables.X, tables.RESPONSES["Poisson"][:, 0]
NAMES = list(tables.SOLVERS)


@pytest.mark.parametrize("name", NAMES)
def test_a_solver_is_found_by_its_name_with_or_without_backend(name):
    spec = solvers.get_solver(name)
    assert solvers.get_solver(f"{name}[bayesglm]") == spec
    assert spec.algo_name == spec.implementation.__name__ == name
    assert spec.full_name == f"{name}[{spec.backend}]" == f"{name}[bayesglm]"
    assert isinstance(spec, solvers.SolverSpec)


def test_the_lists_hold_every_solver():
    assert sorted(solvers.list_available_algorithms()) == sorted(NAMES)
    assert sorted(solvers.list_available_solvers()) == sorted(f"{name}[bayesglm]" for name in NAMES)


@pytest.mark.parametrize(
    "name",
    ["LBFGS[optax+optimistix]", "BFGS[optimistix]", "SVRG[nemos]", "ProximalGradient[jaxopt]"],
)
def test_documented_backends_mean_our_own(name):
    spec = solvers.get_solver(name)
    assert spec.full_name == f"{name.partition('[')[0]}[bayesglm]"
    assert nmo.glm.GLM(solver_name=name).solver_name == spec.algo_name


@pytest.mark.parametrize("name", ["", "lbfgs", "LBFGS[elsewhere]", "LBFGS[bayesglm", "Newton's"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="LBFGS"):
        solvers.get_solver(name)


def test_a_name_that_is_no_string_is_refused():
    with pytest.raises(TypeError, match="string"):
        solvers.get_solver(3)


@pytest.mark.parametrize("name", NAMES)
def test_accepted_arguments_are_those_of_the_constructor(name):
    kind = solvers.get_solver(name).implementation
    accepted = solvers.get_accepted_arguments(name)
    assert (
        accepted == solvers.get_accepted_arguments(kind) == set(inspect.signature(kind).parameters)
    )
    assert {"tol", "maxiter", "stepsize"} <= accepted
    assert ("batch_size" in accepted) == kind.stochastic


@pytest.mark.parametrize("name", NAMES)
def test_documentation_names_every_argument_and_is_printed_on_request(name, capsys):
    text = solvers.get_solver_documentation(name)
    assert capsys.readouterr().out == ""
    assert (
        solvers.get_solver_documentation(solvers.get_solver(name).implementation, show_help=True)
        == text
    )
    assert text in capsys.readouterr().out
    for argument in solvers.get_accepted_arguments(name):
        assert argument in text


@pytest.mark.parametrize("name", NAMES)
def test_an_estimator_shows_its_solver(name):
    model = nmo.glm.GLM(
        regularizer="Ridge", regularizer_strength=1.0, solver_name=f"{name}[bayesglm]"
    )
    assert model.solver_spec == solvers.get_solver(name)
    assert model.solver_name == name
    assert model.solver is None


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_only_solvers_that_handle_the_penalty_are_allowed(kind):
    for name, kinds in tables.SOLVERS.items():
        if kind in kinds:
            nmo.glm.GLM(regularizer=kind, solver_name=name)
        else:
            with pytest.raises(ValueError, match="not allowed"):
                nmo.glm.GLM(regularizer=kind, solver_name=name)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_argument_is_refused(name):
    with pytest.raises(NameError, match="no_such_thing"):
        nmo.glm.GLM(solver_name=name, solver_kwargs={"no_such_thing": 1})


@pytest.mark.parametrize(
    "kwargs",
    [
        {"tol": -1e-3},
        {"tol": "small"},
        {"maxiter": 0},
        {"stepsize": -1.0},
        {"maxiter": None, "tol": True},
    ],
)
def test_a_value_that_cannot_be_used_is_refused(kwargs):
    with pytest.raises(ValueError, match="must be a number of at least"):
        nmo.glm.GLM(solver_kwargs=kwargs)


def model_with(name, kind="Ridge", strength=0.1, link=None, **kwargs):
    return nmo.glm.GLM("Poisson", link, kind, strength, solver_name=name, solver_kwargs=kwargs)


@pytest.mark.parametrize("name", NAMES)
def test_a_looser_tolerance_takes_no_more_steps_and_ends_within_it(name):
    tight = model_with(name, tol=1e-3).fit(X, Y)
    loose = model_with(name, tol=1.0).fit(X, Y)
    assert loose.solver_state_.iter_num < tight.solver_state_.iter_num
    problem = Problem("Poisson", "exp", X, Y, "Ridge", 0.1)
    optimum = problem.stationary_point(problem.start(0.0))
    for model, tol in ((tight, 1e-3), (loose, 1.0)):
        # The estimate comes from an approximate Hessian, which is within a factor of two of the true one here.
        assert problem.distance(problem.theta(*fitted(model)), optimum) <= 2 * tol


@pytest.mark.parametrize("name", NAMES)
def test_running_out_of_steps_is_a_warning_that_names_the_solver(name):
    model = model_with(name, maxiter=1)
    with pytest.warns(RuntimeWarning, match=f"did not converge in 1 steps of {name}"):
        model.fit(X, Y)
    assert model.solver_state_.iter_num == 1
    assert not model.solver_state_.converged.any()


@pytest.mark.parametrize("name", NAMES)
def test_the_solver_of_a_fit_has_the_arguments_given(name):
    model = model_with(name, tol=0.5, maxiter=77, stepsize=0.02)
    assert model.solver is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, Y)
    assert type(model.solver).__name__ == name
    assert (model.solver.tol, model.solver.maxiter, model.solver.stepsize) == (0.5, 77, 0.02)


@pytest.mark.parametrize("stepsize", [None, 0.0])
@pytest.mark.parametrize("name", NAMES)
def test_no_stepsize_means_the_default(name, stepsize):
    model = model_with(name, stepsize=stepsize, tol=1.0).fit(X, Y)
    default = inspect.signature(type(model.solver)).parameters["stepsize"].default
    assert model.solver.stepsize == default


def updates(model, coef, intercept):
    """Parameters after each of three `update`s from the given ones on all rows, in float64."""
    with jax.enable_x64(True):
        params = (jnp.asarray(coef), jnp.asarray(intercept))
        state = model.initialize_optimizer_and_state(params, X, Y)
        for _ in range(3):
            params, state = model.update(params, state, X, Y)
            yield tuple(np.asarray(p) for p in params)


START = (np.array([0.1, -0.2, 0.0, 0.3]), np.array([0.2]))
# Two float64 evaluations of a mean over 200 rows.
RTOL = 1e-10


def gradient(coef, intercept):
    """Gradient of the mean loss."""
    residual = np.exp(X @ coef + intercept) - Y
    return X.T @ residual / len(X), residual.mean()


def soft(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0.0)


@pytest.mark.parametrize("name", ["GradientDescent", "SVRG"])
def test_fixed_steps_are_gradient_steps(name):
    """Those of SVRG have the full gradient where every batch holds all rows."""
    stepsize, strength = 0.05, 0.3
    coef, intercept = START
    for found in updates(model_with(name, "Ridge", strength, stepsize=stepsize), *START):
        slope, slope_0 = gradient(coef, intercept)
        coef = coef - stepsize * (slope + strength * coef)
        intercept = intercept - stepsize * slope_0
        np.testing.assert_allclose(found[0], coef, rtol=RTOL)
        np.testing.assert_allclose(found[1], intercept, rtol=RTOL)


def group_soft(x, threshold):
    return x * max(1 - 2 * threshold / np.linalg.norm(x), 0.0)  # a group of four


PROX = {
    "UnRegularized": (None, lambda x, t: x),
    "Ridge": (0.3, lambda x, t: x / (1 + t * 0.3)),
    "Lasso": (0.3, lambda x, t: soft(x, t * 0.3)),
    "ElasticNet": ((0.3, 0.4), lambda x, t: soft(x, t * 0.3 * 0.4) / (1 + t * 0.3 * 0.6)),
    "GroupLasso": (0.3, lambda x, t: group_soft(x, t * 0.3)),
}


@pytest.mark.parametrize("kind", PROX)
@pytest.mark.parametrize("name", ["ProximalGradient", "ProxSVRG"])
def test_fixed_steps_are_proximal_gradient_steps(name, kind):
    stepsize, (strength, prox) = 0.05, PROX[kind]
    coef, intercept = START
    for found in updates(model_with(name, kind, strength, stepsize=stepsize), *START):
        slope, slope_0 = gradient(coef, intercept)
        coef = prox(coef - stepsize * slope, stepsize)
        intercept = intercept - stepsize * slope_0
        np.testing.assert_allclose(found[0], coef, rtol=RTOL, atol=1e-15)
        np.testing.assert_allclose(found[1], intercept, rtol=RTOL)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_diverges_is_an_error_or_a_warning_and_never_a_silent_answer(name):
    model = model_with(name, "UnRegularized", None, stepsize=1e6, maxiter=50)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(ValueError):
            model.fit(X, Y)
    if model.coef_ is None:  # refused: there is nothing left of the attempt
        assert model.intercept_ is None
        assert model.solver is None
    else:
        assert any(issubclass(w.category, RuntimeWarning) for w in caught)


@pytest.mark.parametrize("name", ["GradientDescent", "ProximalGradient", "SVRG", "ProxSVRG"])
def test_an_update_that_diverges_leaves_the_estimator_as_it_was(name):
    model = model_with(name, "UnRegularized", None, stepsize=1e6)
    params = (jnp.zeros(4), jnp.zeros(1))
    state = model.initialize_optimizer_and_state(params, X, Y)

    def diverge(params, state):
        while True:  # numbers run out before steps do
            before.append((model.coef_, model.intercept_))
            params, state = model.update(params, state, X, Y)

    before = []
    with pytest.raises(ValueError, match="stepsize"):
        diverge(params, state)
    np.testing.assert_array_equal(model.coef_, before[-1][0])
    np.testing.assert_array_equal(model.intercept_, before[-1][1])


@pytest.mark.parametrize("name", ["SVRG", "ProxSVRG"])
def test_batch_size_and_step_come_from_theory_for_counts_with_a_softplus(name):
    loose = {"tol": 10.0}
    model = model_with(name, link="softplus", **loose).fit(X, Y)
    batch_size, stepsize = solvers.batch_size_and_stepsize(X, Y, strong_convexity=0.1)
    assert (model.solver.batch_size, model.solver.stepsize) == (batch_size, pytest.approx(stepsize))
    assert stepsize != 1e-3  # the default would be no evidence
    given = model_with(name, link="softplus", stepsize=2e-3, **loose).fit(X, Y)
    assert (given.solver.batch_size, given.solver.stepsize) == (batch_size, 2e-3)
    elsewhere = model_with(name, link="exp", **loose).fit(X, Y)
    assert (elsewhere.solver.batch_size, elsewhere.solver.stepsize) == (1, 1e-3)


def test_arguments_that_no_solver_takes_are_refused():
    model = model_with("LBFGS")
    params = (jnp.zeros(4), jnp.zeros(1))
    state = model.initialize_optimizer_and_state(params, X, Y)
    for args, kwargs in (((1.0,), {}), ((), {"momentum": 0.9})):
        with pytest.raises(TypeError, match="LBFGS takes none"):
            model.update(params, state, X, Y, *args, **kwargs)
        with pytest.raises(TypeError, match="takes .params, X, y."):
            model.compute_loss(params, X, Y, *args, **kwargs)
    assert model.coef_ is None


def test_mini_batches_serve_more_neurons_than_are_computed_together():
    """Chunks of neurons have one length, which 33 neurons do not fill."""
    how = {"solver_name": "SVRG", "solver_kwargs": {"batch_size": 16}}
    how |= {"regularizer": "Ridge", "regularizer_strength": 0.1}
    many, one = (
        nmo.glm.PopulationGLM("Poisson", "softplus", **how).fit(X, np.tile(Y[:, None], count))
        for count in (33, 1)
    )
    # both stop within 1e-6 standard errors
    np.testing.assert_allclose(many.coef_, np.tile(one.coef_, 33), rtol=0, atol=1e-6)
