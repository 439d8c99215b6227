"""Which fits are refused, with which exception, and that a refused fit changes nothing."""

import copy

import numpy as np
import pytest
from refused import (
    CLASSES,
    ESTIMATORS,
    ONE,
    RIGHT_Y,
    TREE,
    T,
    X,
    Y,
    assert_same_state,
    fitted_estimators,
    state_of,
    zeros,
)
from tables import N_FEATURES, N_NEURONS

import bayesglm as nmo
from bayesglm import solvers


def changed(array, index, value):
    array = np.array(array, dtype=object if isinstance(value, str) else float)
    array[index] = value
    return array


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


@pytest.fixture
def no_solver(monkeypatch):
    """Fail where a fit would begin to compute."""

    def run(*args):
        pytest.fail("the solver was started")

    monkeypatch.setattr(solvers, "run", run)


@pytest.fixture(scope="module")
def fitted():
    return fitted_estimators()


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
