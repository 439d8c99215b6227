"""Single steps of a solver, on all rows or on a stream of them."""

import numpy as np
import pytest
from faces import COUNTS, FACES, both, with_holes
from tables import N_FEATURES, N_SAMPLES, X

from bayesglm import solvers
from bayesglm.glm import GLM, PopulationGLM

STREAMS = [
    ("GLM", "LBFGS", "Ridge", {}),
    ("PopulationGLM", "LBFGS", "Ridge", {}),
    ("GLM", "GradientDescent", "Ridge", {}),
    ("PopulationGLM", "ProximalGradient", "Lasso", {}),
    ("PopulationGLM", "SVRG", "Ridge", {"stepsize": 0.05}),
    ("GLM", "ProxSVRG", "Lasso", {"stepsize": 0.05}),
]


def objective(estimator, params, rows, y):
    weight = (
        0.5 * np.square(params[0]) if "Ridge" in repr(estimator.regularizer) else np.abs(params[0])
    )
    return float(estimator.compute_loss(params, rows, y)) + 0.02 * float(np.sum(weight))


@pytest.mark.parametrize(("face", "solver", "regularizer", "kwargs"), STREAMS)
def test_updates_on_a_stream_move_to_the_optimum(face, solver, regularizer, kwargs):
    make, y, _ = FACES[face]
    config = {"regularizer": regularizer, "regularizer_strength": 0.02}
    estimator = make(**config, solver_name=solver, solver_kwargs=kwargs)
    params = estimator.initialize_params(X, y)
    state = estimator.initialize_optimizer_and_state(params, X, y)
    start = objective(estimator, params, X, y)
    best = make(**config).fit(X, y)
    optimum = objective(best, (best.coef_, best.intercept_), X, y)
    batches = [(X[::2], y[::2]), (X[1::2], y[1::2])]
    for i in range(30):
        params, state = estimator.update(params, state, *batches[i % 2], n_samples=N_SAMPLES)
        assert estimator.solver_state_ is state
        np.testing.assert_array_equal(estimator.coef_, params[0])
        np.testing.assert_array_equal(estimator.intercept_, params[1])
    end = objective(estimator, params, X, y)
    # halves of the data pull to optima of their own, so the stream ends near the joint one, not at it
    assert end - optimum < 0.35 * (start - optimum)
    assert estimator.scale_ is not None
    assert np.all(np.asarray(estimator.dof_resid_) < N_SAMPLES)
    assert np.shape(estimator.predict(X)) == y.shape


@pytest.mark.parametrize("solver", ["LBFGS", "GradientDescent", "ProximalGradient"])
def test_updates_on_all_rows_reach_the_fit(solver):
    estimator = GLM(solver_name=solver)
    params = estimator.initialize_params(X, COUNTS)
    state = estimator.initialize_optimizer_and_state(params, X, COUNTS)
    for _ in range(60):
        params, state = estimator.update(params, state, X, COUNTS)
    best = GLM().fit(X, COUNTS)
    # a hundredth of the standard errors, which are about 0.07
    np.testing.assert_allclose(both(estimator), both(best), atol=1e-3)
    np.testing.assert_allclose(estimator.dof_resid_, best.dof_resid_)


def test_update_leaves_out_missing_rows():
    rows, y = with_holes()
    filled = np.where(np.isfinite(rows), rows, 9.0)
    seen = np.isfinite(rows).all(axis=1)[:, None] & np.isfinite(y)
    results = []
    # a row without one of its features is a row without responses
    for data in ((rows, y), (filled, np.where(seen, y, np.nan))):
        estimator = PopulationGLM()
        params = estimator.initialize_params(*data)
        state = estimator.initialize_optimizer_and_state(params, *data)
        params, state = estimator.update(params, state, *data)
        assert np.isfinite(both(estimator)).all()
        results.append(both(estimator))
    np.testing.assert_array_equal(*results)


def test_number_of_samples_of_an_update_sets_the_degrees_of_freedom():
    estimator = GLM()
    params = estimator.initialize_params(X, COUNTS)
    state = estimator.initialize_optimizer_and_state(params, X, COUNTS)
    estimator.update(params, state, X, COUNTS, n_samples=1000)
    assert estimator.dof_resid_.tolist() == [1000 - N_FEATURES - 1]
    estimator.update(params, state, X, COUNTS)
    assert estimator.dof_resid_.tolist() == [N_SAMPLES - N_FEATURES - 1]


def test_optimizer_functions_do_what_the_methods_do():
    estimator = GLM()
    params = estimator.initialize_params(X, COUNTS)
    estimator.initialize_optimizer_and_state(params, X, COUNTS)
    assert isinstance(estimator.solver, solvers.LBFGS)
    state = estimator.optimizer_init_state(params, X, COUNTS)
    (coef, intercept), state, aux = estimator.optimizer_update(params, state, X, COUNTS)
    assert aux is None
    assert estimator.coef_ is None  # unlike `update`
    (again, _), _ = estimator.update(
        params, estimator.optimizer_init_state(params, X, COUNTS), X, COUNTS
    )
    np.testing.assert_array_equal(coef, again)
    (coef, intercept), state, aux = estimator.optimizer_run(params, X, COUNTS)
    best = GLM().fit(X, COUNTS)
    np.testing.assert_array_equal(np.append(coef, intercept), both(best))
    assert aux is None
    assert state.iter_num == best.solver_state_.iter_num


def test_solver_spec_names_the_solver():
    spec = GLM(regularizer="Lasso", regularizer_strength=1.0).solver_spec
    assert (spec.algo_name, spec.implementation) == ("ProximalGradient", solvers.ProximalGradient)
    assert GLM(solver_name=spec.full_name.replace("ProximalGradient", "BFGS")).solver_name == "BFGS"
    assert GLM().solver_name == "LBFGS"
