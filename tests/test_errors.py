"""What is refused, with which exception, and that a refused fit changes nothing."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from tables import LABELS, N_FEATURES, N_NEURONS, RESPONSES
from tables import X as ALL_ROWS

import bayesglm as nmo
from bayesglm import solvers
from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM

T = 40
X = ALL_ROWS[:T]
Y = RESPONSES["Poisson"][:T]
CLASSES = LABELS[:T]
ONE = Y[:, 0]
TREE = {"a": X[:, :1], "b": X[:, 1:]}
STRINGS = np.array(["left", "right", "stop"])[CLASSES]


def changed(array, index, value):
    array = np.array(array, dtype=object if isinstance(value, str) else float)
    array[index] = value
    return array


def zeros(*shape):
    return np.zeros(shape)


ESTIMATORS = {
    "GLM": lambda **config: GLM(**config),
    "PopulationGLM": lambda **config: PopulationGLM(**config),
    "ClassifierGLM": lambda **config: ClassifierGLM(3, **config),
    "ClassifierPopulationGLM": lambda **config: ClassifierPopulationGLM(3, **config),
}
RIGHT_Y = {
    "GLM": ONE,
    "PopulationGLM": Y,
    "ClassifierGLM": CLASSES[:, 0],
    "ClassifierPopulationGLM": CLASSES,
}
RIGHT_PARAMS = {
    "GLM": (zeros(N_FEATURES), zeros(1)),
    "PopulationGLM": (zeros(N_FEATURES, N_NEURONS), zeros(N_NEURONS)),
    "ClassifierGLM": (zeros(N_FEATURES, 3), zeros(3)),
    "ClassifierPopulationGLM": (zeros(N_FEATURES, N_NEURONS, 3), zeros(N_NEURONS, 3)),
}


def bad(kind, exception, word, *, config=None, X=X, y=None, **arguments):
    """One refused fit: the arguments that differ from good ones."""
    y = RIGHT_Y[kind] if y is None else y
    return kind, config or {}, (X, y), arguments, exception, word


BAD_FITS = {
    # shapes of X and y
    "X with one dimension": bad("GLM", ValueError, "2-dimensional", X=X[:, 0]),
    "X with three dimensions": bad("PopulationGLM", ValueError, "2-dimensional", X=X[None]),
    "X without rows": bad("GLM", ValueError, "no samples", X=X[:0], y=ONE[:0]),
    "X without columns": bad("GLM", ValueError, "no features", X=X[:, :0]),
    "X an empty pytree": bad("GLM", ValueError, "empty", X={}),
    "X None": bad("GLM", ValueError, "empty", X=None),
    "y a matrix for one neuron": bad("GLM", ValueError, "1-dimensional", y=Y),
    "y a vector for a population": bad("PopulationGLM", ValueError, "2-dimensional", y=ONE),
    "y a number": bad("GLM", ValueError, "1-dimensional", y=3.0),
    "labels a matrix": bad("ClassifierGLM", ValueError, "1-dimensional", y=CLASSES),
    "labels a vector": bad("ClassifierPopulationGLM", ValueError, "2-dimensional", y=CLASSES[:, 0]),
    "y too short": bad("GLM", ValueError, f"same number of samples.*{T} and {T - 1}", y=ONE[1:]),
    "labels too short": bad("ClassifierGLM", ValueError, "same number", y=CLASSES[1:, 0]),
    "leaves of different lengths": bad(
        "GLM", ValueError, "differing numbers of samples", X={"a": X, "b": X[1:]}
    ),
    "ragged lists": bad("GLM", ValueError, "inhomogeneous|2-dimensional", X=[[1.0, 2.0], [3.0]]),
    # contents
    "X of strings": bad("GLM", TypeError, "numeric", X=X.astype(str)),
    "X of objects": bad("GLM", TypeError, "numeric", X=changed(X, (0, 0), "a")),
    "X complex": bad("GLM", ValueError, "[Cc]omplex", X=X + 1j),
    "y of strings": bad("GLM", TypeError, "numeric", y=ONE.astype(str)),
    "X all NaN": bad("GLM", ValueError, "all sample points", X=np.full_like(X, np.nan)),
    "X infinite in each row": bad(
        "GLM", ValueError, "all sample points", X=changed(X, (..., 1), np.inf)
    ),
    "y all NaN": bad("PopulationGLM", ValueError, "all sample points", y=np.full_like(Y, np.nan)),
    "Poisson y negative": bad(
        "GLM", ValueError, r"Poisson.*non-negative.*`y\[3\]`", y=changed(ONE, 3, -1)
    ),
    "NegativeBinomial y negative": bad(
        "GLM",
        ValueError,
        "non-negative",
        config={"observation_model": "NegativeBinomial"},
        y=-ONE - 1,
    ),
    "Gamma y zero": bad(
        "PopulationGLM",
        ValueError,
        r"Gamma.*positive.*`y\[\(2, 1\)\]` is 0",
        config={"observation_model": "Gamma"},
        y=changed(Y + 1, (2, 1), 0),
    ),
    "Bernoulli y two": bad(
        "GLM",
        ValueError,
        "Bernoulli.*0 or 1",
        config={"observation_model": "Bernoulli"},
        y=changed(ONE > 0, 0, 2),
    ),
    "silent neuron": bad("GLM", ValueError, "non-positive", y=np.zeros(T)),
    "silent population": bad("PopulationGLM", ValueError, "non-positive", y=np.zeros((T, 2))),
    "Bernoulli y constant": bad(
        "GLM",
        ValueError,
        "mean",
        config={"observation_model": "Bernoulli", "inverse_link_function": None},
        y=np.ones(T),
    ),
    # labels
    "too few labels": bad("ClassifierGLM", ValueError, "Found 2 unique", y=CLASSES[:, 0] > 0),
    "too many labels": bad(
        "ClassifierPopulationGLM", ValueError, "Found 4 unique", y=CLASSES + (Y > 2)
    ),
    "labels of several kinds": bad(
        "ClassifierGLM", TypeError, "sortable", y=changed(CLASSES[:, 0], 0, "a")
    ),
    # initial parameters
    "initial parameters not a tuple": bad("GLM", TypeError, "length two", init_params=zeros(2)),
    "initial parameters of length three": bad(
        "GLM", ValueError, "length two", init_params=(0, 0, 0)
    ),
    "initial parameters not numeric": bad(
        "GLM", TypeError, "converted", init_params=(["a"] * N_FEATURES, zeros(1))
    ),
    "initial intercept not numeric": bad(
        "GLM", TypeError, "converted", init_params=(zeros(N_FEATURES), "a")
    ),
    "initial coefficients a matrix": bad(
        "GLM", ValueError, "dimensionality", init_params=(zeros(N_FEATURES, 2), zeros(1))
    ),
    "initial intercept a matrix": bad(
        "GLM", ValueError, r"shape \(1,\)", init_params=(zeros(N_FEATURES), zeros(1, 1))
    ),
    "initial intercept too long": bad(
        "GLM", ValueError, r"shape \(1,\)", init_params=(zeros(N_FEATURES), zeros(2))
    ),
    "initial coefficients empty": bad(
        "GLM", ValueError, "features", init_params=(zeros(0), zeros(1))
    ),
    "initial coefficients of other features": bad(
        "GLM", ValueError, "number of features", init_params=(zeros(N_FEATURES + 1), zeros(1))
    ),
    "initial coefficients of other neurons": bad(
        "PopulationGLM", ValueError, "expected", init_params=(zeros(N_FEATURES, 2), zeros(2))
    ),
    "initial coefficients of other classes": bad(
        "ClassifierGLM", ValueError, "expected", init_params=(zeros(N_FEATURES, 2), zeros(2))
    ),
    "initial coefficients a dict": bad(
        "GLM", TypeError, "structure", init_params=({"a": zeros(N_FEATURES)}, zeros(1))
    ),
    "initial coefficients with other keys": bad(
        "GLM",
        TypeError,
        "structure",
        X=TREE,
        init_params=({"a": zeros(1), "c": zeros(3)}, zeros(1)),
    ),
    # strengths that do not fit the coefficients
    "strength of another shape": bad(
        "GLM",
        ValueError,
        "regularizer_strength",
        config={"regularizer": "Ridge", "regularizer_strength": [1.0, 2.0]},
    ),
    "strength a dict": bad(
        "GLM",
        TypeError,
        "structure",
        config={"regularizer": "Ridge", "regularizer_strength": {"a": 1.0, "b": 1.0}},
    ),
    "strength with other keys": bad(
        "GLM",
        TypeError,
        "structure",
        X=TREE,
        config={"regularizer": "Lasso", "regularizer_strength": {"a": 1.0, "c": 1.0}},
    ),
    "ratio of another shape": bad(
        "GLM",
        ValueError,
        "shape",
        config={"regularizer": "ElasticNet", "regularizer_strength": (1.0, np.full(2, 0.5))},
    ),
    "strength per group": bad(
        "PopulationGLM",
        ValueError,
        "3 groups",
        config={"regularizer": "GroupLasso", "regularizer_strength": [1.0, 2.0]},
    ),
    "group mask of another shape": bad(
        "GLM",
        ValueError,
        "GroupLasso",
        config={
            "regularizer": nmo.regularizer.GroupLasso(np.eye(3)),
            "regularizer_strength": 1.0,
        },
    ),
    # feature masks that do not fit the coefficients
    "mask of another shape": bad(
        "PopulationGLM",
        ValueError,
        "feature_mask",
        config={"feature_mask": np.ones((2, N_NEURONS))},
    ),
    "mask without classes": bad(
        "ClassifierPopulationGLM",
        ValueError,
        "feature_mask",
        config={"feature_mask": np.ones((N_FEATURES, N_NEURONS))},
    ),
    "mask a dict": bad(
        "PopulationGLM", TypeError, "structure", config={"feature_mask": {"a": np.ones(N_NEURONS)}}
    ),
    "mask an array for a dict": bad(
        "PopulationGLM",
        TypeError,
        "structure",
        X=TREE,
        config={"feature_mask": np.ones((N_FEATURES, N_NEURONS))},
    ),
    "mask with other keys": bad(
        "PopulationGLM",
        TypeError,
        "structure",
        X=TREE,
        config={"feature_mask": {"a": np.ones(N_NEURONS), "c": np.ones(N_NEURONS)}},
    ),
    "mask with too many neurons": bad(
        "PopulationGLM",
        ValueError,
        "feature_mask",
        X=TREE,
        config={"feature_mask": {"a": np.ones(N_NEURONS), "b": np.ones(N_NEURONS + 1)}},
    ),
    # weights and offsets
    "weight negative": bad("GLM", ValueError, "non-negative", sample_weight=-np.ones(T)),
    "weight NaN": bad("GLM", ValueError, "finite", sample_weight=np.full(T, np.nan)),
    "weight too short": bad("GLM", ValueError, "sample_weight", sample_weight=np.ones(T - 1)),
    "weight of strings": bad("GLM", TypeError, "sample_weight", sample_weight=np.array(["a"] * T)),
    "weight of other neurons": bad(
        "PopulationGLM", ValueError, "sample_weight", sample_weight=np.ones((T, N_NEURONS + 1))
    ),
    "weight zero": bad("GLM", ValueError, "weight of zero", sample_weight=np.zeros(T)),
    "offset too short": bad("GLM", ValueError, "offset", offset=np.ones(T - 1)),
    "offset of other neurons": bad("PopulationGLM", ValueError, "offset", offset=np.ones((T, 2))),
    "offset infinite": bad("GLM", ValueError, "finite", offset=np.full(T, np.inf)),
    "offset of strings": bad("GLM", TypeError, "offset", offset=np.array(["a"] * T)),
}


def state_of(estimator):
    """All that a user can see of an estimator."""
    names = (
        "coef_",
        "intercept_",
        "scale_",
        "dof_resid_",
        "solver_state_",
        "aux_",
        "classes_",
        "solver",
    )
    seen = {name: getattr(estimator, name, None) for name in names}
    return {**seen, "params": estimator.get_params()}


def assert_same_state(found, expected):
    (leaves, structure), (others, other_structure) = map(jax.tree.flatten, (found, expected))
    assert structure == other_structure
    for one, other in zip(leaves, others, strict=True):
        assert one is other or np.array_equal(one, other)


@pytest.fixture(scope="module")
def fitted():
    """One fitted estimator of each kind; labels are strings, so that new ones would be seen."""
    ys = {**RIGHT_Y, "ClassifierGLM": STRINGS[:, 0], "ClassifierPopulationGLM": STRINGS}
    return {kind: ESTIMATORS[kind]().fit(X, ys[kind]) for kind in ESTIMATORS}


@pytest.fixture
def no_solver(monkeypatch):
    """Fail where a fit would begin to compute."""

    def run(*args):
        pytest.fail("the solver was started")

    monkeypatch.setattr(solvers, "run", run)


@pytest.mark.parametrize("case", BAD_FITS.values(), ids=BAD_FITS)
def test_bad_fit_is_refused_before_any_computation_and_changes_nothing(case, no_solver):
    kind, config, data, arguments, exception, word = case
    estimator = ESTIMATORS[kind](**config)
    before = state_of(estimator)
    with pytest.raises(exception, match=f"(?s){word}"):
        estimator.fit(*data, **arguments)
    assert_same_state(state_of(estimator), before)


@pytest.mark.parametrize(
    "case", [case for case in BAD_FITS.values() if "feature_mask" not in case[1]],
    ids=[name for name, case in BAD_FITS.items() if "feature_mask" not in case[1]],
)  # fmt: skip
def test_bad_fit_keeps_the_earlier_one(case, fitted, no_solver):
    kind, config, data, arguments, exception, _ = case
    estimator = copy.deepcopy(fitted[kind]).set_params(**config)
    before = state_of(estimator)
    with pytest.raises(exception):
        estimator.fit(*data, **arguments)
    assert before["coef_"] is not None
    assert_same_state(state_of(estimator), before)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("was_fitted", [False, True])
def test_interrupted_fit_changes_nothing(kind, was_fitted, fitted, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    estimator = copy.deepcopy(fitted[kind]) if was_fitted else ESTIMATORS[kind]()
    before = state_of(estimator)
    monkeypatch.setattr(solvers, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, RIGHT_Y[kind])
    assert_same_state(state_of(estimator), before)


def test_solution_with_nan_is_refused_with_advice_and_changes_nothing(fitted):
    estimator = copy.deepcopy(fitted["GLM"])
    # a step so long that the rates overflow at once
    estimator.set_params(solver_name="GradientDescent", solver_kwargs={"stepsize": 1e300})
    before = state_of(estimator)
    with pytest.raises(ValueError, match="stepsize"):
        estimator.fit(X, ONE)
    assert_same_state(state_of(estimator), before)


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


def test_feature_mask_cannot_be_set_after_fit(fitted):
    for kind in ("PopulationGLM", "ClassifierPopulationGLM"):
        estimator = copy.deepcopy(fitted[kind])
        with pytest.raises(AttributeError, match="after fitting"):
            estimator.feature_mask = np.ones(np.shape(estimator.coef_))
        assert estimator.feature_mask is None


CALLS = {
    "predict": lambda estimator, y: estimator.predict(X),
    "score": lambda estimator, y: estimator.score(X, y),
    "simulate": lambda estimator, y: estimator.simulate(jax.random.key(0), X),
    "predict_proba": lambda estimator, y: estimator.predict_proba(X),
}


@pytest.mark.parametrize(
    ("kind", "method"),
    [(k, m) for k in ESTIMATORS for m in CALLS if hasattr(type(ESTIMATORS[k]()), m)],
)
@pytest.mark.parametrize("half", [None, "coef_", "intercept_"])
def test_methods_of_a_fitted_model_ask_for_a_fit(kind, method, half):
    estimator = ESTIMATORS[kind]()
    if half is not None:
        setattr(estimator, half, RIGHT_PARAMS[kind][half == "intercept_"])
    with pytest.raises(NotFittedError, match="fit"):
        CALLS[method](estimator, RIGHT_Y[kind])


@pytest.mark.parametrize("kind", ["ClassifierGLM", "ClassifierPopulationGLM"])
@pytest.mark.parametrize("method", [*CALLS, "compute_loss", "initialize_params", "update"])
def test_methods_of_a_classifier_ask_for_classes(kind, method):
    estimator, params, y = ESTIMATORS[kind](), RIGHT_PARAMS[kind], RIGHT_Y[kind]
    calls = {
        **CALLS,
        "compute_loss": lambda estimator, y: estimator.compute_loss(params, X, y),
        "initialize_params": lambda estimator, y: estimator.initialize_params(X, y),
        "update": lambda estimator, y: estimator.update(params, state, X, y),
    }
    state = estimator.initialize_optimizer_and_state(params, X, y)
    estimator.coef_, estimator.intercept_ = params
    state_again = estimator.initialize_optimizer_and_state(params, X, y)
    assert type(state) is type(state_again)
    estimator.classes_ = None
    with pytest.raises(RuntimeError, match=f"set_classes.*{method}"):
        calls[method](estimator, y)


@pytest.mark.parametrize("method", ["predict", "score", "simulate"])
@pytest.mark.parametrize(
    ("new", "exception", "word"),
    [
        (X[:, 0], ValueError, "2-dimensional"),
        (X[:, :2], ValueError, "number of features"),
        (TREE, TypeError, "structure"),
        (X.astype(str), TypeError, "numeric"),
    ],
    ids=["vector", "features", "dict", "strings"],
)
def test_new_rows_must_be_like_those_of_the_fit(method, new, exception, word, fitted):
    calls = {
        "predict": lambda: fitted["PopulationGLM"].predict(new),
        "score": lambda: fitted["PopulationGLM"].score(new, Y),
        "simulate": lambda: fitted["PopulationGLM"].simulate(jax.random.key(0), new),
    }
    with pytest.raises(exception, match=word):
        calls[method]()


def test_score_refuses_what_it_cannot_score(fitted):
    glm, population = fitted["GLM"], fitted["PopulationGLM"]
    with pytest.raises(NotImplementedError, match="pseudo-r2-McFadden"):
        glm.score(X, ONE, score_type="r2")
    with pytest.raises(ValueError, match="neurons"):
        population.score(X, Y[:, :2])
    with pytest.raises(ValueError, match="same number"):
        glm.score(X, ONE[1:])
    with pytest.raises(ValueError, match="1-dimensional"):
        glm.score(X, Y)
    with pytest.raises(ValueError, match="non-negative"):
        glm.score(X, -1 - ONE)
    with pytest.raises(ValueError, match="offset"):
        glm.score(X, ONE, offset=np.ones(3))
    with pytest.raises(ValueError, match="aggregate"):
        glm.score(X, ONE, aggregate_sample_scores=jnp.sum, sample_weight=np.ones(T))


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("labels", ["default", "others"])
def test_unseen_labels_are_value_errors_whatever_the_array(convert, labels):
    known = np.arange(3) if labels == "default" else np.array([2, 5, 9])
    estimator = ClassifierGLM(3).set_classes(known)
    params = (zeros(N_FEATURES, 3), zeros(3))
    estimator.coef_, estimator.intercept_ = params
    unseen = convert(np.where(np.arange(T) == 4, 7, known[CLASSES[:, 0]]))
    for call in (
        lambda: estimator.score(X, unseen),
        lambda: estimator.compute_loss(params, X, unseen),
        lambda: estimator.initialize_params(X, unseen),
        lambda: estimator.initialize_optimizer_and_state(params, X, unseen),
    ):
        with pytest.raises(ValueError, match="Unrecognized class labels.*7"):
            call()


def test_probabilities_come_in_two_forms_only(fitted):
    with pytest.raises(ValueError, match="log-proba"):
        fitted["ClassifierGLM"].predict_proba(X, return_type="logits")


def test_number_of_labels_must_be_that_of_the_classes():
    estimator = ClassifierGLM(3).set_classes(["a", "b", "c"])
    with pytest.raises(ValueError, match="Found 2 unique"):
        estimator.set_classes(["a", "b"])
    assert estimator.classes_.tolist() == ["a", "b", "c"]


def test_update_needs_a_solver_and_its_state(fitted):
    params = RIGHT_PARAMS["GLM"]
    estimator = GLM()
    with pytest.raises(ValueError, match="initialize_optimizer_and_state"):
        estimator.update(params, None, X, ONE)
    state = estimator.initialize_optimizer_and_state(params, X, ONE)
    for wrong in (None, fitted["GLM"].solver_state_):
        with pytest.raises(TypeError, match="opt_state"):
            estimator.update(params, wrong, X, ONE)
    for wrong in (10.0, "10", X):
        with pytest.raises(TypeError, match="n_samples"):
            estimator.update(params, state, X, ONE, n_samples=wrong)
    assert estimator.coef_ is None


def test_parameters_of_a_step_are_checked():
    estimator = GLM()
    state = estimator.initialize_optimizer_and_state(RIGHT_PARAMS["GLM"], X, ONE)
    with pytest.raises(ValueError, match="number of features"):
        estimator.update((zeros(2), zeros(1)), state, X, ONE)
    with pytest.raises(ValueError, match="length two"):
        estimator.initialize_optimizer_and_state((zeros(4),), X, ONE)
    with pytest.raises(ValueError, match="length two"):
        estimator.compute_loss((zeros(4),), X, ONE)


def test_refused_initialisation_of_the_solver_leaves_classes_and_solver_unset():
    estimator = ClassifierGLM(3)
    with pytest.raises(ValueError, match="2-dimensional"):
        estimator.initialize_optimizer_and_state(
            RIGHT_PARAMS["ClassifierGLM"], X[:, 0], CLASSES[:, 0]
        )
    assert estimator.classes_ is None
    assert estimator.solver is None


def test_start_of_a_silent_neuron_is_refused_by_name():
    y = np.array(Y)
    y[:, 1] = 0
    with pytest.raises(ValueError, match=r"neurons \[1\]"):
        PopulationGLM().initialize_params(X, y)


@pytest.mark.parametrize("attribute", ["coef_", "intercept_"])
def test_parameters_that_are_no_numbers_cannot_be_set(attribute, fitted):
    estimator = copy.deepcopy(fitted["GLM"])
    before = state_of(estimator)
    with pytest.raises((TypeError, ValueError)):
        setattr(estimator, attribute, ["a", "b"])
    assert_same_state(state_of(estimator), before)


@pytest.mark.parametrize("value", ["a", None, -1.0, 0.0, np.inf])
def test_dispersion_of_a_negative_binomial_must_be_positive(value):
    with pytest.raises(ValueError, match="positive"):
        nmo.observation_models.NegativeBinomialObservations(scale=value)
    estimator = GLM("NegativeBinomial")
    with pytest.raises(ValueError, match="positive"):
        estimator.set_params(observation_model__scale=value)
    assert estimator.observation_model.scale == 1.0


def test_gaussian_score_without_dispersion_says_what_is_missing():
    estimator = GLM("Gaussian")
    estimator.coef_, estimator.intercept_ = RIGHT_PARAMS["GLM"]
    with pytest.raises(ValueError, match="scale_"):
        estimator.score(X, ONE)
    estimator.scale_ = 1.0
    assert np.isfinite(estimator.score(X, ONE))
