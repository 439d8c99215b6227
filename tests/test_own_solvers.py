"""Solvers of the user's own: registered by name, they fit every estimator; what cannot work is refused."""

import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import own_solvers
import pytest
import tables
from sklearn.base import clone

import bayesglm as nmo
from bayesglm import solvers
from bayesglm.regularizer import GroupLasso, Lasso, Regularizer, Ridge, UnRegularized
from bayesglm.solvers import _registry

X = tables.X
MASK = np.ones((tables.N_FEATURES, tables.N_NEURONS), int)
MASK[0, 1] = 0


@pytest.fixture(autouse=True)
def registered():
    """Both solvers, for as long as a test lasts."""
    with own_solvers.registry_kept():
        solvers.register("ScipyBFGS", own_solvers.Scipy, backend="scipy")
        solvers.register("Fista", own_solvers.Fista)
        for kind in (UnRegularized, Ridge):
            kind.allow_solver("ScipyBFGS")
        Regularizer.allow_solver("Fista")
        yield


def estimators():
    counts = tables.RESPONSES["Poisson"]
    return {
        "one neuron": (nmo.glm.GLM(), X, counts[:, 0]),
        "population": (nmo.glm.PopulationGLM(feature_mask=MASK), X, counts),
        "tree": (nmo.glm.PopulationGLM("Bernoulli"), {"a": X[:, :1], "b": X[:, 1:]},
                 tables.RESPONSES["Bernoulli"]),
        "dispersion": (nmo.glm.GLM("Gamma", "exp"), X, tables.RESPONSES["Gamma"][:, 0]),
        "trials": (nmo.glm.PopulationGLM("Binomial"), X, tables.RESPONSES["Binomial"]),
        "classes": (nmo.glm.ClassifierGLM(3), X, tables.LABELS[:, 0]),
        "classes of many": (nmo.glm.ClassifierPopulationGLM(3), X, tables.LABELS[:, :2]),
    }  # fmt: skip


def close(found, expected, atol=2e-5):
    for one, other in zip(np_leaves(found), np_leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


def np_leaves(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((model.coef_, model.intercept_))]


@pytest.mark.parametrize("name", estimators())
def test_every_estimator_is_fitted_by_a_solver_of_the_users_own(name):
    model, X, y = estimators()[name]
    model.set_params(regularizer="Ridge", regularizer_strength=0.1)
    ours = clone(model).fit(X, y)
    model.set_params(solver_name="ScipyBFGS").fit(X, y)
    # gradients of 1e-9 in a loss whose curvature is at least the strength, 0.1
    close(model, ours, 1e-6)
    np.testing.assert_allclose(model.scale_, ours.scale_, rtol=1e-5)
    assert isinstance(model.solver, own_solvers.Scipy)
    state = model.solver_state_
    assert isinstance(state.solver_state, own_solvers.State)
    assert state.stats.num_steps == state.solver_state.iter_num > 0
    assert state.converged.all()
    assert (state.distance < 1e-3).all()
    assert not state.reached_max_steps


@pytest.mark.parametrize("kind", [k for k in tables.REGULARIZERS if k != "UnRegularized"])
def test_a_proximal_solver_of_the_users_own_minimises_every_penalty(kind):
    """Also where a mask leaves coefficients out of a group."""
    y = tables.RESPONSES["Poisson"]
    model = nmo.glm.PopulationGLM(
        regularizer=kind, regularizer_strength=tables.REGULARIZERS[kind], feature_mask=MASK
    )
    ours = clone(model).fit(X, y)
    model.set_params(solver_name="Fista").fit(X, y)
    close(model, ours)
    np.testing.assert_array_equal(np.asarray(model.coef_)[0, 1], 0)


def test_weights_offsets_missing_rows_and_silent_neurons_reach_it():
    y, features = tables.RESPONSES["Poisson"].copy(), X.copy()
    features[3], y[5, 0], y[:, 2] = np.nan, np.nan, 0
    rng = np.random.default_rng(0)
    more = {
        "sample_weight": rng.integers(0, 3, y.shape).astype(float),
        "offset": 0.3 * rng.normal(size=y.shape),
    }
    found = []
    for name in (None, "ScipyBFGS"):
        model = nmo.glm.PopulationGLM(solver_name=name)
        with pytest.warns(RuntimeWarning, match="Neurons 2: could not be fitted"):
            model.fit(features, y, **more)
        found.append(model)
    close(*found, atol=1e-5)


def test_a_result_far_from_the_optimum_is_named():
    y = tables.RESPONSES["Poisson"]
    model = nmo.glm.PopulationGLM(solver_name="ScipyBFGS", solver_kwargs={"max_steps": 1})
    with pytest.warns(RuntimeWarning, match="0.1 standard errors from the optimum where Scipy"):
        model.fit(X, y)
    assert not model.solver_state_.converged.any()
    assert model.solver_state_.reached_max_steps


def test_nothing_finite_is_an_error_and_leaves_the_estimator_as_it_was():
    class Broken(own_solvers.Scipy):
        def run(self, init_params, *args):
            coef, intercept = init_params
            return (coef * jnp.nan, intercept), self.init_state(init_params), None

    solvers.register("Broken", Broken)
    Ridge.allow_solver("Broken")
    model = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=1.0, solver_name="Broken")
    with pytest.raises(ValueError, match="Broken ended in NaN"):
        model.fit(X, tables.RESPONSES["Poisson"][:, 0])
    assert model.coef_ is None
    assert model.solver is None


def test_steps_one_by_one_lead_where_a_run_does():
    y = tables.RESPONSES["Poisson"][:, 0]
    kwargs = {"solver_name": "Fista", "regularizer": "Lasso", "regularizer_strength": 0.03}
    model = nmo.glm.GLM(**kwargs)
    params = model.initialize_params(X, y)
    state = model.initialize_optimizer_and_state(params, X, y)
    for _ in range(60):
        params, state = model.update(params, state, X, y)
    close(model, nmo.glm.GLM(**kwargs).fit(X, y), 1e-3)
    assert model.scale_ is not None
    assert model.solver_state_ is state
    run, _, aux = model.optimizer_run(params, X, y)
    close(model, nmo.glm.GLM(**kwargs).fit(X, y, init_params=run), 1e-3)
    assert aux is None


def test_a_fitted_estimator_is_copied_and_sampled_as_any_other():
    y = tables.RESPONSES["Poisson"][:, 0]
    model = nmo.glm.GLM(solver_name="ScipyBFGS").fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    close(again, model, 0)
    assert again.solver_name == clone(model).solver_name == "ScipyBFGS"
    assert again.solver is None  # compiled functions are not pickled
    model.sample_posterior(X, y, method="laplace", num_samples=10, num_chains=2)
    assert isinstance(model.solver, own_solvers.Scipy)


def test_a_file_names_it_and_whoever_loads_registers_it(tmp_path):
    y = tables.RESPONSES["Poisson"][:, 0]
    model = nmo.glm.GLM(solver_name="ScipyBFGS", solver_kwargs={"max_steps": 100}).fit(X, y)
    model.save_params(tmp_path / "own.npz")
    loaded = nmo.load_model(tmp_path / "own.npz")
    assert loaded.solver_spec.implementation is own_solvers.Scipy
    assert loaded.solver_kwargs == {"max_steps": 100}
    close(loaded, model, 0)
    del _registry._REGISTRY["ScipyBFGS"]
    with pytest.raises(ValueError, match=r"ScipyBFGS.*solvers\.register"):
        nmo.load_model(tmp_path / "own.npz")


# -- the registry ----------------------------------------------------------------------------------


def test_names_are_those_given():
    assert solvers.get_solver("ScipyBFGS").full_name == "ScipyBFGS[scipy]"
    assert "ScipyBFGS" in solvers.list_available_algorithms()
    assert "Fista[custom]" in solvers.list_available_solvers()
    assert solvers.list_algo_backends("Fista") == ["custom"]
    assert solvers.get_accepted_arguments("Fista") == {"steps", "stepsize"}
    assert "max_steps=200" in solvers.get_solver_documentation("ScipyBFGS")


def test_another_backend_is_used_by_its_full_name_until_it_is_the_default(tmp_path):
    solvers.register("LBFGS", own_solvers.Scipy, backend="scipy")
    model = nmo.glm.GLM(solver_name="LBFGS[scipy]")
    model.save_params(tmp_path / "backend.npz")
    for same in (model, clone(model), nmo.load_model(tmp_path / "backend.npz")):
        assert same.solver_spec.implementation is own_solvers.Scipy
    assert nmo.glm.GLM(solver_name="LBFGS").solver_spec.implementation is solvers.LBFGS
    solvers.set_default_backend("LBFGS", "scipy")
    assert nmo.glm.GLM(solver_name="LBFGS").solver_spec.implementation is own_solvers.Scipy
    solvers.register("LBFGS", own_solvers.Fista, backend="fista", default=True)
    assert nmo.glm.GLM(solver_name="LBFGS").solver_spec.implementation is own_solvers.Fista


def test_taken_names_are_refused_unless_replaced():
    with pytest.raises(ValueError, match="replace=True"):
        solvers.register("Fista", own_solvers.Scipy)
    solvers.register("Fista", own_solvers.Scipy, replace=True)
    assert solvers.get_solver("Fista").implementation is own_solvers.Scipy
    with pytest.raises(ValueError, match="package's own"):
        solvers.register("LBFGS", own_solvers.Scipy, backend="bayesglm", replace=True)


def test_a_class_without_the_protocol_is_refused_by_what_is_missing():
    class Empty:
        pass

    with pytest.raises(TypeError, match="`__init__`, `init_state`, `update`, `run`, `get_acc"):
        solvers.register("Empty", Empty)
    assert "Empty" not in solvers.list_available_algorithms()
    assert not issubclass(Empty, solvers.SolverProtocol)
    assert issubclass(own_solvers.Fista, solvers.SolverProtocol)
    with pytest.raises(TypeError, match="must be a class"):
        solvers.register("Instance", Empty())
    for name in (3, None):
        with pytest.raises(TypeError, match="strings"):
            solvers.register(name, own_solvers.Fista)
    with pytest.raises(ValueError, match="without brackets"):
        solvers.register("A[b]", own_solvers.Fista)


def test_wrong_arguments_of_methods_are_named():
    class Wrong(own_solvers.Fista):
        def update(self, theta, state):
            return theta, state, None

    with pytest.raises(ValueError, match=r"`update` must take \(params, state, \*args\)"):
        solvers.register("Wrong", Wrong)
    solvers.register("Wrong", Wrong, validate=False)


@pytest.mark.parametrize("has_aux", [False, True])
def test_a_ridge_regression_tells_a_solver_that_works(has_aux):
    class Lazy(own_solvers.Fista):
        def run(self, init_params, *args):
            return init_params, None, None

    test = {"test_ridge_with_aux" if has_aux else "test_ridge_without_aux": True}
    for kind in (own_solvers.Scipy, own_solvers.Fista):
        solvers.register("Tested", kind, replace=True, **test)
    with pytest.raises(ValueError, match="Lazy does not solve a ridge regression"):
        solvers.register("Lazy", Lazy, **test)


def test_arguments_are_those_that_the_class_accepts():
    with pytest.raises(NameError, match=r"\['tol'\].*max_steps"):
        nmo.glm.GLM(solver_name="ScipyBFGS", solver_kwargs={"tol": 1e-3})


def test_only_regularizers_that_allow_it_take_it():
    with pytest.raises(ValueError, match="ScipyBFGS' is not allowed for Lasso"):
        nmo.glm.GLM(regularizer="Lasso", solver_name="ScipyBFGS")
    assert "Fista" in GroupLasso().allowed_solvers  # allowed for all, whenever that was said
    assert "ScipyBFGS" not in GroupLasso().allowed_solvers

    class Steeper(Ridge):
        pass

    assert "ScipyBFGS" in Steeper().allowed_solvers
    Steeper.allow_solver("Another[custom]")
    Ridge.allow_solver("Third")
    assert {"Another", "Third"} <= set(Steeper().allowed_solvers)
    assert "Another" not in Ridge().allowed_solvers


def test_a_solver_of_ours_is_not_allowed_what_it_cannot_do():
    for name in ("LBFGS", "LBFGS[scipy]"):
        with pytest.raises(ValueError, match="not differentiable"):
            Lasso.allow_solver(name)
    with pytest.raises(TypeError, match="string"):
        Lasso.allow_solver(own_solvers.Fista)


def test_a_dispersion_within_the_loss_is_left_to_ours():
    model = nmo.glm.GLM(
        nmo.observation_models.NegativeBinomialObservations("estimate"), solver_name="ScipyBFGS"
    )
    with pytest.raises(ValueError, match="solvers of this package"):
        model.fit(X, tables.RESPONSES["NegativeBinomial"][:, 0])


def test_another_regularizer_falls_back_from_a_solver_that_it_does_not_allow():
    model = nmo.glm.GLM(solver_name="ScipyBFGS")
    with pytest.warns(UserWarning, match="falling back"):
        model.regularizer = "Lasso"
    assert model.solver_name == "ProximalGradient"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nmo.glm.GLM(solver_name="ScipyBFGS").regularizer = "Ridge"
