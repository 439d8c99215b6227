"""Which arguments and settings are refused, with which exception, and that nothing changes."""

import jax.numpy as jnp
import numpy as np
import pytest
from refused import assert_same_state, state_of, zeros
from tables import N_FEATURES

import bayesglm as nmo
from bayesglm import solvers
from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM

BAD_CONSTRUCTIONS = {
    "unknown observation model": (lambda: GLM("Student"), ValueError, "Student"),
    "class of an observation model": (
        lambda: GLM(nmo.observation_models.PoissonObservations),
        TypeError,
        "instance",
    ),
    "object that is no observation model": (lambda: GLM(3), AttributeError, "lacks"),
    "Categorical by name": (lambda: GLM("Categorical"), TypeError, r"ClassifierGLM"),
    "Categorical by instance": (
        lambda: GLM(nmo.observation_models.CategoricalObservations()),
        TypeError,
        "ClassifierGLM",
    ),
    "Categorical for a population": (
        lambda: PopulationGLM("Categorical"),
        TypeError,
        "ClassifierPopulationGLM",
    ),
    "unknown link": (lambda: GLM(inverse_link_function="log"), ValueError, "log"),
    "link not callable": (lambda: GLM(inverse_link_function=3), TypeError, "inverse_link_function"),
    "link of NumPy": (lambda: GLM(inverse_link_function=np.exp), ValueError, "jax.numpy"),
    "link that reduces": (lambda: GLM(inverse_link_function=jnp.sum), ValueError, "shape"),
    "link without derivative": (
        lambda: GLM(inverse_link_function=lambda x: jnp.sqrt(x - 1.0)),
        ValueError,
        "derivative",
    ),
    "unknown regularizer": (lambda: GLM(regularizer="Bridge"), ValueError, "Bridge"),
    "class of a regularizer": (
        lambda: GLM(regularizer=nmo.regularizer.Ridge),
        TypeError,
        "instance",
    ),
    "number as regularizer": (lambda: GLM(regularizer=1.0), TypeError, "regularizer"),
    "negative strength": (
        lambda: GLM(regularizer="Ridge", regularizer_strength=-1.0),
        ValueError,
        "non-negative",
    ),
    "NaN strength": (
        lambda: GLM(regularizer="Ridge", regularizer_strength=np.nan),
        ValueError,
        "finite",
    ),
    "strength a string": (
        lambda: GLM(regularizer="Ridge", regularizer_strength="a"),
        TypeError,
        "number",
    ),
    "strength with a string inside": (
        lambda: GLM(regularizer="Ridge", regularizer_strength={"a": "b"}),
        TypeError,
        "number",
    ),
    "ElasticNet with three numbers": (
        lambda: GLM(regularizer="ElasticNet", regularizer_strength=(1.0, 0.5, 0.5)),
        TypeError,
        "pair",
    ),
    "ElasticNet with a large ratio": (
        lambda: GLM(regularizer="ElasticNet", regularizer_strength=(1.0, 1.5)),
        ValueError,
        "ratio",
    ),
    "ElasticNet with a negative ratio": (
        lambda: GLM(regularizer="ElasticNet", regularizer_strength=(1.0, -0.5)),
        ValueError,
        "ratio",
    ),
    "group strengths in a matrix": (
        lambda: GLM(regularizer="GroupLasso", regularizer_strength=np.ones((2, 2))),
        ValueError,
        "n_groups",
    ),
    "unknown solver": (lambda: GLM(solver_name="Simplex"), ValueError, "Simplex"),
    "solver not a name": (lambda: GLM(solver_name=solvers.LBFGS), TypeError, "solver_name"),
    "smooth solver for Lasso": (
        lambda: GLM(regularizer="Lasso", regularizer_strength=1.0, solver_name="LBFGS"),
        ValueError,
        "ProximalGradient",
    ),
    "unknown solver argument": (
        lambda: GLM(solver_kwargs={"tolerance": 1}),
        NameError,
        "tolerance",
    ),
    "argument of another solver": (
        lambda: GLM(solver_name="LBFGS", solver_kwargs={"batch_size": 1}),
        NameError,
        "batch_size",
    ),
    "solver arguments not a dict": (lambda: GLM(solver_kwargs=[1]), TypeError, "dict"),
    "negative tolerance": (lambda: GLM(solver_kwargs={"tol": -1.0}), ValueError, "tol"),
    "NaN tolerance": (lambda: GLM(solver_kwargs={"tol": np.nan}), ValueError, "tol"),
    "tolerance a string": (lambda: GLM(solver_kwargs={"tol": "small"}), ValueError, "tol"),
    "no iterations": (lambda: GLM(solver_kwargs={"maxiter": 0}), ValueError, "maxiter"),
    "half an iteration": (lambda: GLM(solver_kwargs={"maxiter": 1.5}), ValueError, "integer"),
    "negative memory": (lambda: GLM(solver_kwargs={"memory_size": -1}), ValueError, "memory_size"),
    "half a row in a batch": (
        lambda: GLM(solver_name="SVRG", solver_kwargs={"batch_size": 1.5}),
        ValueError,
        "integer",
    ),
    "negative step": (lambda: GLM(solver_kwargs={"stepsize": -1}), ValueError, "stepsize"),
    "empty batch": (
        lambda: GLM(solver_name="SVRG", solver_kwargs={"batch_size": 0}),
        ValueError,
        "batch_size",
    ),
    "mask with other values": (lambda: PopulationGLM(feature_mask=[[0, 2]]), ValueError, "0 and 1"),
    "mask with NaN": (lambda: PopulationGLM(feature_mask=[[0, np.nan]]), ValueError, "0 and 1"),
    "mask of strings": (lambda: PopulationGLM(feature_mask=[["a"]]), TypeError, "0 and 1"),
    "mask for one neuron": (lambda: GLM(feature_mask=[[1]]), TypeError, "feature_mask"),
    "unknown argument": (lambda: PopulationGLM(penalty="l1"), TypeError, "penalty"),
    "one class": (lambda: ClassifierGLM(1), ValueError, "2"),
    "half a class": (lambda: ClassifierGLM(2.5), ValueError, "2.5"),
    "classes not a number": (lambda: ClassifierPopulationGLM("three"), ValueError, "three"),
    "observation model of a classifier": (
        lambda: ClassifierGLM(observation_model="Poisson"),
        TypeError,
        "observation_model",
    ),
    "group mask with a coefficient in two groups": (
        lambda: nmo.regularizer.GroupLasso(np.ones((2, 3))),
        ValueError,
        "one group",
    ),
    "group mask empty": (lambda: nmo.regularizer.GroupLasso(zeros(2, 3)), ValueError, "empty"),
    "group mask a vector": (lambda: nmo.regularizer.GroupLasso([0, 1]), ValueError, "shape"),
    "group mask with other values": (
        lambda: nmo.regularizer.GroupLasso(np.full((1, 2), 0.5)),
        ValueError,
        "zeros and ones",
    ),
    "group mask of strings": (lambda: nmo.regularizer.GroupLasso([["a"]]), TypeError, "array"),
}


@pytest.mark.parametrize("case", BAD_CONSTRUCTIONS.values(), ids=BAD_CONSTRUCTIONS)
def test_bad_argument_is_refused_at_construction(case):
    construct, exception, word = case
    with pytest.raises(exception, match=word):
        construct()


def set_parameter(estimator, name, value):
    estimator.set_params(**{name: value})


SETTINGS = {
    "observation_model": ("Student", ValueError),
    "inverse_link_function": ("log", ValueError),
    "regularizer": ("Bridge", ValueError),
    "regularizer_strength": (-1.0, ValueError),
    "solver_name": ("Simplex", ValueError),
    "solver_kwargs": ({"tolerance": 1}, NameError),
    "feature_mask": ([[2]], ValueError),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("by", [setattr, set_parameter])
def test_bad_setting_is_refused_and_changes_nothing(name, by):
    value, exception = SETTINGS[name]
    estimator = PopulationGLM(
        regularizer="Ridge", regularizer_strength=0.5, feature_mask=np.ones((N_FEATURES, 3))
    )
    before = state_of(estimator)
    with pytest.raises(exception):
        by(estimator, name, value)
    assert_same_state(state_of(estimator), before)


@pytest.mark.parametrize(
    "name", ["alpha", "regularizer__alpha", "solver__tol", "solver_kwargs__tol"]
)
def test_unknown_parameter_is_refused_by_set_params(name):
    with pytest.raises(ValueError, match=name):
        GLM().set_params(**{name: 1})


def test_arguments_of_the_former_solver_are_refused_with_a_new_one():
    estimator = GLM(solver_kwargs={"memory_size": 5})
    with pytest.raises(NameError, match="memory_size"):
        estimator.solver_name = "GradientDescent"
    assert estimator.solver_name == "LBFGS"
    estimator.set_params(solver_name="GradientDescent", solver_kwargs={"maxiter": 5})
    assert estimator.solver_kwargs == {"maxiter": 5}


def test_solver_that_does_not_serve_a_new_regularizer_is_replaced_with_a_warning():
    estimator = GLM(regularizer="Ridge", regularizer_strength=0.3, solver_name="BFGS")
    with pytest.warns(UserWarning, match="ProximalGradient"):
        estimator.regularizer = "Lasso"
    assert estimator.solver_name == "ProximalGradient"
    assert estimator.regularizer_strength == 0.3


def test_arguments_that_a_new_default_solver_lacks_are_dropped_with_a_warning():
    estimator = GLM(solver_kwargs={"memory_size": 5})
    with pytest.warns(UserWarning, match="arguments"):
        estimator.regularizer = "Lasso"
    assert estimator.solver_kwargs == {}


def test_none_among_solver_arguments_means_the_default():
    names = ("tol", "maxiter", "stepsize", "memory_size")
    kwargs = dict.fromkeys(names)
    assert vars(solvers.make_solver("LBFGS", kwargs)) == vars(solvers.make_solver("LBFGS", {}))
    kwargs = {"batch_size": None, "stepsize": None}
    assert vars(solvers.make_solver("SVRG", kwargs)) == vars(solvers.make_solver("SVRG", {}))
    assert type(solvers.make_solver("SVRG", {"batch_size": 4.0}).batch_size) is int
