"""Cases drawn by Hypothesis, and what must hold for each: laws of input, settings and files.

A law is a strategy, which draws a case (a named tuple of words and small numbers, so that it can be read), and a check.
All cases have one shape, and come from few families unless `wide`, so that few programs are compiled. The tests run a
few thousand of them (tests/test_generated.py), ``python -m tests.studies.generated`` as many as are asked for.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io as textio
import pickle
import re
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import containers
import jax
import made_up
import numpy as np
import pandas as pd
import scipy.sparse
import sklearn.base
import tables
from hypothesis import strategies as st
from problems import layout_of

import bayesglm as nmo
from bayesglm import io

N, P, NEURONS, CLASSES = 40, tables.N_FEATURES, tables.N_NEURONS, tables.N_CLASSES
# quarters, which are exact in every precision: all containers hold the same numbers
VALUES = {
    "quarters": np.round(4 * tables.X[:N]) / 4,
    "whole": np.round(2 * tables.X[:N]),
    "truths": (tables.X[:N] > 0) * 1.0,
}
RESPONSES = {name: np.round(4 * y[:N]) / 4 for name, y in tables.RESPONSES.items()}
RESPONSES["Gamma"] = np.maximum(RESPONSES["Gamma"], 0.25)
LINKS = {"Gamma": "exp"}
FACES = {
    "GLM": nmo.glm.GLM,
    "PopulationGLM": nmo.glm.PopulationGLM,
    "ClassifierGLM": nmo.glm.ClassifierGLM,
    "ClassifierPopulationGLM": nmo.glm.ClassifierPopulationGLM,
}
#: Faces and families of which programs are compiled, and which of these in single precision too.
FEW = [
    ("GLM", "Poisson"), ("GLM", "Gamma"), ("PopulationGLM", "Poisson"), ("PopulationGLM", "Gaussian"),
    ("ClassifierGLM", "Categorical"), ("ClassifierPopulationGLM", "Categorical"),
]  # fmt: skip
FEW_SINGLE = [("PopulationGLM", "Poisson"), ("ClassifierGLM", "Categorical")]
ALL = [(face, family) for face in ("GLM", "PopulationGLM") for family in RESPONSES]
ALL += [pair for pair in FEW if pair[1] == "Categorical"]
#: Sorted labels of three classes, of every kind.
ALPHABETS = {
    "indices": [0, 1, 2],
    "integers": [-3, 5, 1000],
    "floats": [-0.5, 0.25, 7.0],
    "strings": ["left", "right", "stop"],
    "unlike strings": ["", "Größe ☃, \n", "N/A"],
}
#: Errors of other kinds that are documented.
DOCUMENTED = "|".join((
    "AttributeError.*The observation model", "AttributeError.*`feature_mask` of", "NameError.*`solver_kwargs`",
    "NotImplementedError.*`score_type` must be", "FileNotFoundError", "IsADirectoryError",
))  # fmt: skip
PACKAGE = Path(nmo.__file__).parent


class Law(NamedTuple):
    """A strategy for cases, from whether they are to be wide; what must hold for one; cases of the tests."""

    cases: Callable
    check: Callable
    count: int


class Outcome(NamedTuple):
    """What a call came to."""

    value: Any
    error: Exception | None
    warnings: list[str]


def outcome(call) -> Outcome:
    """Call, and hold that what goes wrong is said by this package, in a sentence."""
    value = error = None
    with warnings.catch_warnings(record=True) as caught, heard() as ours:
        warnings.simplefilter("always")
        try:
            value = call()
        except Exception as raised:
            error = raised
    said = sorted(str(each.message) for each in caught)
    assert ours.issuperset(said), set(said) - ours
    if error is not None:
        assert_ours(error)
    return Outcome(value, error, said)


@contextlib.contextmanager
def heard():
    """Give the set of warnings that this package gives; those of NumPy do not go through Python."""
    ours, warn = set(), warnings.warn

    def listen(message, *args, **kwargs):
        if is_ours(sys._getframe(1).f_code.co_filename):
            ours.add(str(message))
        return warn(message, *args, **kwargs)

    warnings.warn = listen
    try:
        yield ours
    finally:
        warnings.warn = warn


def is_ours(file) -> bool:
    """Return whether a file is of this package, or has scikit-learn's rules."""
    return PACKAGE in Path(file).parents or Path(file).match("sklearn/utils/validation.py")


def assert_ours(error) -> None:
    """Hold that an error is a ValueError or a TypeError of this package (or of scikit-learn's rules), with a reason."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    documented = isinstance(error, (ValueError, TypeError)) or re.search(
        DOCUMENTED, repr(error), re.DOTALL
    )
    assert documented, repr(error)
    assert is_ours(last), f"{error!r} is raised in {last}"
    assert len(str(error).split()) > 3, repr(error)


def same(one, other, what="") -> None:
    """Hold that two results are the same to the bit."""
    assert type(one) is type(other), f"{what}: {type(one)}, {type(other)}"
    if isinstance(one, dict):
        assert list(one) == list(other), what
        for name in one:
            same(one[name], other[name], f"{what} {name}")
    else:
        np.testing.assert_array_equal(one, other, err_msg=what)


def makes(face, family, regularizer="Ridge", mask=None):
    """Return a new estimator."""
    strength = tables.REGULARIZERS[regularizer]
    how = {"regularizer": regularizer, "regularizer_strength": strength}
    how |= {"solver_kwargs": {"maxiter": 5}}  # what is read is seen in few steps
    if mask is not None:
        how["feature_mask"] = mask
    if family == "Categorical":
        return FACES[face](CLASSES, **how)
    return FACES[face](family, LINKS.get(family), **how)


def results(model, X, y=None, offset=None) -> dict[str, Any]:
    """Return everything that a fit says, labels as indices."""
    with jax.enable_x64(True):  # as computed: what is shown otherwise is rounded
        coef = np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(model.coef_)])
        intercept = np.asarray(model.intercept_)
    found = {
        "coef": coef,
        "intercept": intercept,
        "scale": np.asarray(model.scale_),
        "dof": np.asarray(model.dof_resid_),
    }
    for name in ("predict", "simulate"):
        found[name] = (
            model.predict(X, offset=offset) if name == "predict" else model.simulate(3, X)[0]
        )
        found[name] = np.asarray(found[name])
        if hasattr(model, "classes_"):
            found[name] = np.vectorize(model.classes_.tolist().index)(found[name])
    if hasattr(model, "classes_"):
        found["predict_proba"] = np.asarray(model.predict_proba(X, offset=offset))
    if y is not None:
        found["score"] = np.asarray(model.score(X, y, offset=offset))
        found["loss"] = np.asarray(model.compute_loss((model.coef_, model.intercept_), X, y))
    return found


# -- containers -------------------------------------------------------------------------------------


class Held(NamedTuple):
    """Data of one fit, and how they are held."""

    face: str
    family: str
    regularizer: str
    values: str
    tree: str
    features: str
    more_features: str  # of every other leaf
    holes: float
    responses: str
    missing: float
    weight: str | None
    weights: str
    offset: str | None
    offsets: str
    mask: str | None
    labels: str
    seed: int


TREES = ("matrix", "matrix", "dict", "list", "nested")
MASKS = {
    "integers": lambda m: m.astype(int),
    "truths": lambda m: m.astype(bool),
    "numbers": lambda m: m.astype(float),
    "jax": jax.numpy.asarray,
}


def names_of(*tables_of):
    """Return a strategy for the names in tables."""
    return st.sampled_from([name for table in tables_of for name in table])


@st.composite
def held(draw, wide=False):
    """Draw data and containers that can hold them."""
    one = lambda *some: draw(st.sampled_from(some))  # noqa: E731
    face, family = draw(st.sampled_from(ALL if wide else FEW))
    classifier = family == "Categorical"
    tree, missing = one(*TREES), one(0.0, 0.1)
    single = wide or (face, family) in FEW_SINGLE
    groups = [(containers.NUMBERS | (containers.SINGLE if single else {}), "quarters")]
    groups += [(containers.WHOLE, "whole"), (containers.TRUTHS, "truths")]
    features, held_by, values = one(*((name, *group) for group in groups for name in group[0]))
    holes, more = one(0.0, 0.02) if values == "quarters" else 0.0, one(*held_by)
    if tree == "matrix":
        more = features
    elif "lists" in features or "lists" in more:  # they would be part of the tree
        tree, more = "matrix", features
    labels = one(*ALPHABETS)
    if classifier:
        forms = [containers.LABELS] + [containers.COMPLETE_LABELS] * (not missing)
        if not missing and labels in ("indices", "integers"):
            forms.append({"jax": 0})
    else:
        forms = [containers.NUMBERS, containers.SINGLE]
        forms += [containers.WHOLE] * (family not in ("Gamma", "Gaussian") and not missing)
        forms += [containers.TRUTHS] * (family == "Bernoulli" and not missing)
    vectors = names_of(containers.NUMBERS, containers.SINGLE)
    # groups are leaves, by default
    penalties = [name for name in tables.REGULARIZERS if tree == "matrix" or name != "GroupLasso"]
    return Held(
        face, family, one(*penalties), values, tree, features, more, holes,
        draw(names_of(*forms)), missing,
        one(None, "rows", "cells", "zeros"), draw(vectors), one(None, "rows", "cells", "classes"),
        draw(vectors), one(None, *MASKS) if "Population" in face else None, labels,
        draw(st.integers(0, 2**16)),
    )  # fmt: skip


def check_held(case: Held) -> None:
    """What says the same thing gives the same fit, or the same error."""
    rng = np.random.default_rng(case.seed)
    population, classifier = "Population" in case.face, case.family == "Categorical"
    shape = (N, NEURONS) if population else (N,)
    X = VALUES[case.values].copy()
    X[rng.random(X.shape) < case.holes] = np.nan
    X[rng.random(N) < case.holes] = np.nan
    gone = rng.random(shape) < case.missing
    weight = _weight(case, rng, shape)
    offset = _offset(case, rng, shape, classifier)
    outputs = shape[1:] + (CLASSES,) * classifier
    mask = None if case.mask is None else rng.random((P, *outputs)) < 0.7
    y, held_y = _responses(case, shape, gone)
    single = {case.features, case.more_features} <= set(containers.SINGLE)
    plain_X = X.astype(np.float32 if single else float)
    held_X = leaves(case.tree, X, ways()[case.features], ways()[case.more_features])
    held_mask = None if mask is None else leaves(case.tree, mask, MASKS[case.mask], axis=0)
    vector = lambda how, a: a if a is None or a.ndim > 2 else ways()[how](a)  # noqa: E731
    plain = {"sample_weight": weight, "offset": offset}
    held_ = {"sample_weight": vector(case.weights, weight), "offset": vector(case.offsets, offset)}

    def run(X, y, mask, **how):
        model = makes(case.face, case.family, case.regularizer, mask).fit(X, y, **how)
        return results(model, X, y, how["offset"])

    expected = outcome(lambda: run(plain_X, y, None if mask is None else mask.astype(int), **plain))
    found = outcome(lambda: run(held_X, held_y, held_mask, **held_))
    assert type(found.error) is type(expected.error), f"{found.error!r}, {expected.error!r}"
    without_names = [re.sub(r"\bc(\d)\b", r"\1", text) for text in found.warnings]
    assert without_names == expected.warnings
    if expected.error is None:
        same(found.value, expected.value)


def ways() -> dict[str, Callable]:
    """Return all ways to hold numbers."""
    return containers.NUMBERS | containers.SINGLE | containers.WHOLE | containers.TRUTHS


def leaves(tree: str, a, hold, hold_more=None, axis=1):
    """Return features in a tree, whose leaves are in its order."""
    more = hold if hold_more is None else hold_more
    cut = lambda begin, end: np.take(a, range(begin, end), axis)  # noqa: E731
    match tree:
        case "matrix":
            return hold(a)
        case "dict":
            return {"b": more(cut(1, P)), "a": hold(cut(0, 1))}
        case "list":
            return [hold(cut(0, 3)), more(cut(3, P))]
    return {"slow": [hold(cut(2, P))], "fast": {"x": hold(cut(0, 1)), "y": (more(cut(1, 2)),)}}


def _weight(case, rng, shape):
    if case.weight is None:
        return None
    size = shape if case.weight == "cells" else (N,)
    return rng.integers(0, 3, size) + 0.5 * (case.weight != "zeros")


def _offset(case, rng, shape, classifier):
    if case.offset is None:
        return None
    size = {"rows": (N,), "cells": shape, "classes": (*shape, CLASSES) if classifier else shape}
    return rng.integers(-3, 4, size[case.offset]) / 4.0


def _responses(case, shape, gone):
    """Return responses as floats (class indices), and as they are held."""
    if case.family != "Categorical":
        y = RESPONSES[case.family]
        y = np.where(gone, np.nan, y if len(shape) > 1 else y[:, 0])
        return y, ways()[case.responses](y)
    index = tables.LABELS[:N] if len(shape) > 1 else tables.LABELS[:N, 0]
    labels = np.array(ALPHABETS[case.labels], dtype=object)[index]
    labels[gone] = None
    if case.responses == "jax":
        return np.where(gone, np.nan, index), jax.numpy.asarray(labels.astype(int))
    how = containers.LABELS | containers.COMPLETE_LABELS
    return np.where(gone, np.nan, index), how[case.responses](labels)


# -- what is refused ----------------------------------------------------------------------------------


@functools.cache
def fitted(face):
    """Return an estimator with a fit and draws, and its data; whoever changes it copies it."""
    family = "Categorical" if "Classifier" in face else "Poisson"
    y = tables.LABELS[:N] if family == "Categorical" else RESPONSES["Poisson"]
    y = y if "Population" in face else y[:, 0]
    model = makes(face, family).set_params(solver_kwargs={}).fit(VALUES["quarters"], y)
    model.posterior_ = made_up.drawn(model)
    return model, VALUES["quarters"], y


def state_of(estimator) -> dict[str, Any]:
    """Return what an estimator holds, arrays as copies."""
    found = {}
    for name, value in vars(estimator).items():
        leaves = jax.tree.leaves(value)
        copies = [np.array(leaf) for leaf in leaves if isinstance(leaf, (np.ndarray, jax.Array))]
        found[name] = value, copies
    return found


def assert_unchanged(estimator, before) -> None:
    """Hold that an estimator holds the same objects, and these the same numbers."""
    after = state_of(estimator)
    assert list(after) == list(before)
    for name, (value, copies) in after.items():
        assert value is before[name][0], name
        for one, other in zip(copies, before[name][1], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


class Junk(NamedTuple):
    """A call of a method with one or two arguments exchanged."""

    face: str
    method: str
    junk: tuple[tuple[str, str], ...]


def _broken(change):
    return lambda a: change(np.array(a, dtype=float))


def _first(value):
    def change(a):
        a.ravel()[0] = value
        return a

    return _broken(change)


#: What an argument may be instead, from what it should be (an array, or None).
JUNK = {
    "None": lambda a: None,
    "text": lambda a: "text",
    "bytes": lambda a: b"bytes",
    "a number": lambda a: 3.5,
    "minus one": lambda a: -1,
    "a truth": lambda a: True,
    "a huge number": lambda a: 10**400,
    "NaN": lambda a: float("nan"),
    "complex": lambda a: np.asarray(a, float) + 1j,
    "a set": lambda a: {1, 2},
    "a dict": lambda a: {"a": a},
    "an empty dict": lambda a: {},
    "an empty list": lambda a: [],
    "an object": lambda a: object(),
    "a class": lambda a: int,
    "a function": lambda a: np.exp,
    "a generator": lambda a: (i for i in range(3)),
    "a slice": lambda a: slice(3),
    "texts": lambda a: np.array(a, dtype=float).astype(str),
    "objects": lambda a: np.full(np.shape(a), "x", dtype=object),
    "dates": lambda a: np.zeros(np.shape(a), "datetime64[s]"),
    "durations": lambda a: pd.DataFrame(np.zeros((N, P), "timedelta64[s]")),
    "records": lambda a: np.zeros(N, [("a", float), ("b", int)]),
    "ragged": lambda a: [[1.0, 2.0], [3.0]],
    "sparse": lambda a: scipy.sparse.csr_array(np.atleast_2d(np.array(a, dtype=float))),
    "categories": lambda a: pd.Series(pd.Categorical(["x", "y"] * (N // 2))),
    "a column of text": lambda a: pd.DataFrame(
        {"a": np.zeros(N), "b": ["x"] * N, "c": 0.0, "d": 1}
    ),
    "one row less": lambda a: np.asarray(a)[:-1],
    "no rows": lambda a: np.asarray(a)[:0],
    "no columns": lambda a: np.zeros((N, 0)),
    "one dimension more": lambda a: np.asarray(a)[..., None],
    "one dimension less": lambda a: np.asarray(a)[..., 0],
    "infinite": _first(np.inf),
    "missing": _first(np.nan),
    "negative": _first(-1.0),
    "huge": _first(1e300),
    "all missing": _broken(lambda a: np.full_like(a, np.nan)),
    "all masked": lambda a: np.ma.array(np.array(a, dtype=float), mask=True),
    "all zero": _broken(np.zeros_like),
    "names twice": lambda a: pd.DataFrame(np.zeros((N, P)), columns=list("abca")),
    "names of two kinds": lambda a: pd.DataFrame(np.zeros((N, P)), columns=["a", 1, "b", 2]),
    "names": lambda a: pd.DataFrame(np.zeros((N, P)), columns=list("abcd")),
    "a path": lambda a: Path("nowhere") / "file",
    "an estimator": lambda a: nmo.glm.GLM(),
}
#: Methods by the arguments that are exchanged.
METHODS = {
    "fit": ("X", "y", "init_params", "sample_weight", "offset"),
    "predict": ("X", "return_std", "offset"),
    "score": ("X", "y", "score_type", "sample_weight", "offset"),
    "simulate": ("random_key", "X", "offset"),
    "predict_proba": ("X", "return_type", "average", "offset"),
    "predict_interval": ("X", "prob", "kind", "offset"),
    "posterior_predictive": ("random_key", "X", "num_draws", "offset"),
    "summary": ("X", "y", "prob", "robust", "groups", "trials", "maxlags", "sample_weight", "offset"),
    "compute_loss": ("params", "X", "y"),
    "initialize_params": ("X", "y"),
    "sample_posterior": (
        "X", "y", "method", "num_samples", "num_chains", "num_warmup", "random_key", "scale",
        "neuron_batch_size", "prior", "scale_prior", "intercept_prior", "sample_weight", "offset",
    ),
    "set_params": (
        "observation_model", "inverse_link_function", "regularizer", "regularizer_strength",
        "solver_name", "solver_kwargs", "feature_mask", "n_classes", "unknown",
    ),
    "save_params": ("filename",),
    "posterior_": ("value",),
    "coef_": ("value",),
    "intercept_": ("value",),
}  # fmt: skip


@st.composite
def junk(draw, wide=False):
    """Draw a call that is wrong, or odd."""
    face = draw(st.sampled_from([*FACES]))
    has = [name for name in METHODS if hasattr(FACES[face], name)]
    method = draw(st.sampled_from(has))
    one = st.tuples(st.sampled_from(METHODS[method]), st.sampled_from([*JUNK]))
    several = draw(st.lists(one, min_size=1, max_size=2, unique_by=lambda pair: pair[0]))
    return Junk(face, method, tuple(several))


def check_junk(case: Junk) -> None:
    """A call does what it says, or is refused in a sentence and changes nothing."""
    model, X, y = fitted(case.face)
    model = copy.copy(model)
    given = {
        "X": X, "y": y, "sample_weight": np.ones(N), "offset": np.zeros(N), "random_key": 1,
        "params": (model.coef_, model.intercept_), "init_params": (model.coef_, model.intercept_),
    }  # fmt: skip
    required = {"X", "y", "random_key", "params"} & set(METHODS[case.method])
    if case.method == "summary" and not any(name in ("X", "y") for name, _ in case.junk):
        required = {"X", "y"}
    arguments = {name: given[name] for name in required}
    for name, kind in case.junk:
        try:
            arguments[name] = JUNK[kind](given.get(name, np.ones(N)))
        except (IndexError, ValueError):  # there is no such thing
            return
    before = state_of(model)
    found = outcome(lambda: _call(model, case.method, arguments))
    if found.error is not None:
        assert_unchanged(model, before)


def _call(model, method, arguments):
    if method == "simulate":
        arguments["feedforward_input"] = arguments.pop("X")
    if method == "sample_posterior":
        arguments = {
            "method": "laplace",
            "num_samples": 4,
            "num_chains": 1,
            "progress_bar": False,
        } | arguments
    if method == "save_params":
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            return model.save_params(arguments["filename"])
    if method in ("posterior_", "coef_", "intercept_"):
        return setattr(model, method, arguments["value"])
    return getattr(model, method)(**arguments)


# -- settings ---------------------------------------------------------------------------------------

#: Values of arguments that are taken, and some that are not.
SETTINGS = {
    "observation_model": (*RESPONSES, nmo.observation_models.NegativeBinomialObservations(0.5), "poison"),
    "inverse_link_function": (None, "exp", "softplus", jax.nn.softplus, np.exp, "log"),
    "regularizer": (None, *tables.REGULARIZERS, nmo.regularizer.Lasso(), "Bridge"),
    "regularizer_strength": (None, 0.5, 1, np.float32(0.5), [0.1, 0.2, 0.3, 0.4], (0.5, 0.5), {"a": 1.0}, -1.0, "1"),
    "solver_name": (None, "LBFGS", "ProximalGradient", "Newton", "LBFGS[jaxopt]", "newton"),
    "solver_kwargs": ({}, None, {"tol": 1e-4}, {"maxiter": 5}, {"tol": -1.0}, {"memory_size": 4}),
    "n_classes": (2, 3, 3.0, np.int64(3), 1, "3"),
}  # fmt: skip


class Settings(NamedTuple):
    """Arguments that are set one after the other, by the number of their value."""

    face: str
    steps: tuple[tuple[tuple[str, int], ...], ...]


@st.composite
def settings(draw, wide=False):
    """Draw what is set."""
    face = draw(st.sampled_from([*FACES]))
    names = [name for name in SETTINGS if name in inspect.signature(FACES[face]).parameters]
    one = st.sampled_from([(name, k) for name in names for k in range(len(SETTINGS[name]))])
    step = st.lists(one, min_size=1, max_size=3, unique_by=lambda pair: pair[0]).map(tuple)
    return Settings(face, tuple(draw(st.lists(step, min_size=1, max_size=3))))


def check_settings(case: Settings) -> None:
    """What is set can be read, copied and cloned, and belongs to the next fit; what is refused changes nothing."""
    model, X, _ = fitted(case.face)
    model = copy.copy(model)
    # other classes are other labels: they start anew
    keeps = not any(name == "n_classes" for step in case.steps for name, _ in step)
    predicted = np.asarray(model.predict(X))
    for step in case.steps:
        given = {name: SETTINGS[name][k] for name, k in step}
        before = state_of(model)
        if outcome(lambda given=given: model.set_params(**given)).error is not None:
            assert_unchanged(model, before)
            continue
        assert_set(model, given)
        if keeps:
            np.testing.assert_array_equal(model.predict(X), predicted)
        for other in (
            sklearn.base.clone(model),
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
        ):
            one, two = model.get_params(), other.get_params()
            assert repr(model) == repr(other)
            for name in one:
                same_setting(two[name], one[name])


def assert_set(model, given) -> None:
    """Hold that arguments are what they were set to."""
    for name, value in given.items():
        found = getattr(model, name)
        if value is None:
            continue
        unused = name == "regularizer_strength" and (
            isinstance(
                model.regularizer, (nmo.regularizer.UnRegularized, nmo.regularizer.ElasticNet)
            )
        )
        if isinstance(value, (int, float, np.generic)) and not unused:
            assert found == value, name
        if isinstance(value, str) and name in ("observation_model", "regularizer"):
            assert type(found).__name__.startswith(value), name
        if name == "solver_name":
            assert value.startswith(found)


def same_setting(one, other) -> None:
    """Hold that two arguments are the same."""
    if isinstance(other, (np.ndarray, jax.Array)):
        np.testing.assert_array_equal(one, other)
    elif callable(other):
        assert one.__name__ == other.__name__  # functions of JAX are pickled as those of ours
    elif isinstance(other, (str, int, float, tuple, dict)) or other is None:
        assert repr(one) == repr(other)
    else:  # observation models and regularizers
        assert type(one) is type(other)
        assert repr(one) == repr(other)


# -- files ------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A fit with any names, which is written and read."""

    face: str
    tree: str
    keys: tuple
    names: tuple | None
    neurons: tuple | None
    labels: tuple
    regularizer: str
    strength: str
    draws: str


#: Texts that mean something to somebody.
WORDS = (
    "", " ", ".", "a.b", "a", "b", "[0]", "0", "'", '"', "/", "..", "\0", "a\0", "\ud800", "N/A", "nan", "None", "coef",
    "chain", "draw", "Größe ☃", "two\nlines", "\x1b[0m", "<b>&", "é", "e\u0301",
)  # fmt: skip
STRENGTHS = ("given", "default", "each")


@st.composite
def kept(draw, wide=False):
    """Draw names, labels and strengths."""
    one = lambda *some: draw(st.sampled_from(some))  # noqa: E731
    text = st.sampled_from(WORDS) | st.text(max_size=5)
    lists = lambda n, what: st.lists(what, min_size=n, max_size=n, unique=True)  # noqa: E731
    several = lambda n, what=text: draw(lists(n, what).map(tuple))  # noqa: E731
    tree = one("matrix", "dict", "nested")
    kinds = [
        text,
        st.integers(-(2**40), 2**40),
        st.floats(-1e9, 1e9),
        st.binary(min_size=1, max_size=3),
    ]
    penalties = [name for name in tables.REGULARIZERS if tree == "matrix" or name != "GroupLasso"]
    face, penalty, draws = one(*FACES), one(*penalties), one(*["none"] * 8, "made up", "sampled")
    if not wide and (face, penalty) != ("PopulationGLM", "Ridge") and draws == "sampled":
        draws = "made up"  # to compile samplers takes long
    return Kept(
        face, tree, several(3, one(text, st.integers())), one(None, several(P)),
        one(None, several(NEURONS), several(NEURONS, st.integers())), several(CLASSES, one(*kinds)),
        penalty, one(*STRENGTHS), draws,
    )  # fmt: skip


def check_kept(case: Kept) -> None:
    """Every name is one; a fit that was written, pickled or copied says the same, draws are the same."""
    made = outcome(lambda: _fit_kept(case))
    if made.error is not None:  # names that cannot be written
        return
    model, X, y = made.value
    expected = results(model, X)
    features = layout_of(model).feature_labels
    assert len(set(features)) == P, features
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        assert_saved(model, path)
        others = [nmo.load_model(path), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
        for other in others:
            same(results(other, X), expected)
            assert layout_of(other).names == layout_of(model).names
            assert list(map(str, layout_of(other).feature_labels)) == features
            for name, value in model.get_params().items():
                same_setting(other.get_params()[name], value)
        others[0].save_params(path)
        np.testing.assert_equal(io.read(path), io.read(Path(folder) / "again.npz"))
        if case.draws != "none":
            assert_draws_kept(model, others[0], Path(folder) / "draws.nc", case, X, y)


def _fit_kept(case):
    classifier, population = "Classifier" in case.face, "Population" in case.face
    y = RESPONSES["Poisson"]
    if classifier:
        y = np.array(case.labels)[tables.LABELS[:N]]
    y = y if population else y[:, 0]
    if population and case.neurons is not None:
        y = pd.DataFrame(y, columns=list(case.neurons))
    X = pd.DataFrame(VALUES["quarters"], columns=case.names)
    cut = lambda a, b: X.iloc[:, a:b]  # noqa: E731
    one, two, three = case.keys
    if case.tree == "dict":
        X = {one: cut(0, 2), two: cut(2, P)}
    elif case.tree == "nested":
        X = {one: {two: cut(0, 1), three: cut(1, 2)}, two: cut(2, P)}
    strength = tables.REGULARIZERS[case.regularizer]
    if case.strength == "default":
        strength = None
    elif case.strength == "each" and case.regularizer in ("Ridge", "Lasso"):
        outputs = (NEURONS,) * population + (CLASSES,) * classifier
        strength = jax.tree.map(lambda leaf: np.full((leaf.shape[1], *outputs), 0.1), X)
    model = makes(case.face, "Categorical" if classifier else "Poisson")
    model.set_params(regularizer=case.regularizer, regularizer_strength=strength)
    return model.fit(X, y), X, y


def assert_saved(model, path) -> None:
    """Hold that a file is written, by its name or another, and can be looked at."""
    model.save_params(path)
    model.save_params(str(path.with_name("again")))
    with contextlib.redirect_stdout(textio.StringIO()) as shown:
        nmo.inspect_npz(path)
    assert type(model).__name__ in shown.getvalue()


def assert_draws_kept(model, loaded, path, case, X, y) -> None:
    """Hold that draws are the same in a file."""
    if case.draws == "sampled":
        how = {"method": "laplace", "num_samples": 4, "num_chains": 2, "progress_bar": False}
        # an unregularized posterior may be improper
        if outcome(lambda: model.sample_posterior(X, y, **how)).error is not None:
            return
    else:
        model.posterior_ = made_up.drawn(model)
    model.posterior_.to_netcdf(path)
    loaded.posterior_ = path
    assert_same_draws(loaded.posterior_, model.posterior_)


def assert_same_draws(found, expected) -> None:
    """Hold that two trees hold the same numbers, labels and attributes."""
    assert set(found.children) == set(expected.children)
    for name in expected.children:
        one, two = found[name].dataset, expected[name].dataset
        assert one.drop_attrs().identical(two.drop_attrs())
        for key, value in two.attrs.items():
            assert str(np.ravel(one.attrs[key])) == str(np.ravel(value)), key


class Damage(NamedTuple):
    """What happens to a file, at places given as shares of its length."""

    face: str
    changes: tuple[tuple[str, float, float], ...]


def _flip(content, a, b):
    place = int(a * len(content))
    return content[:place] + bytes([content[place] ^ 1 << int(8 * b)]) + content[place + 1 :]


def _put(content, a, b):
    place = int(a * len(content))
    return content[:place] + bytes([int(256 * b)]) + content[place + 1 :]


def _stretch(a, b):
    """Return begin and length of a stretch: short ones are as likely as long ones."""
    return lambda n: (int(a * n), max(1, int(np.exp(b * np.log(n)))))


def _zero(content, a, b):
    begin, length = _stretch(a, b)(len(content))
    return content[:begin] + bytes(len(content[begin : begin + length])) + content[begin + length :]


def _cut(content, a, b):
    begin, length = _stretch(a, b)(len(content))
    return content[:begin] + content[begin + length :]


def _twice(content, a, b):
    begin, length = _stretch(a, b)(len(content))
    return content[: begin + length] + content[begin : begin + length] + content[begin + length :]


def _exchange(content, a, b):
    begin, length = _stretch(a, b)(len(content) // 2)
    half = len(content) // 2
    one, two = content[begin : begin + length], content[half + begin : half + begin + length]
    return (
        content[:begin] + two + content[begin + len(one) : half + begin] + one
        + content[half + begin + len(two) :]
    )  # fmt: skip


BYTES = {
    "flip": _flip,
    "put": _put,
    "truncate": lambda content, a, b: content[: int(a * len(content))],
    "more": lambda content, a, b: content + content[: int(a * len(content))],
    "zero": _zero,
    "cut": _cut,
    "twice": _twice,
    "exchange": _exchange,
}


def _members(change):
    """Return a change of the members of an .npz file, whose checksums are right again."""

    def apply(content, a, b):
        with zipfile.ZipFile(textio.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        names = list(members)
        change(members, names[int(a * len(names))], names[int(b * len(names))])
        new = textio.BytesIO()
        with zipfile.ZipFile(new, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return new.getvalue()

    def safely(content, a, b):
        with contextlib.suppress(Exception):  # damaged before
            return apply(content, a, b)
        return content

    return safely


def _swap(members, one, two):
    members[one], members[two] = members[two], members[one]


def _from_another(members, one, two):
    with zipfile.ZipFile(textio.BytesIO(saved("GLM", other=True))) as archive:
        if two in archive.namelist():
            members[one] = archive.read(two)


MEMBERS = {
    "swap members": _members(_swap),
    "copy a member": _members(lambda members, one, two: members.update({one: members[two]})),
    "drop a member": _members(lambda members, one, two: members.pop(one)),
    "member of another": _members(_from_another),
}


@functools.cache
def saved(face, other=False) -> bytes:
    """Return the file of a fit."""
    model, X, y = fitted(face)
    if other:
        model = copy.copy(model).fit(X[::-1], y)
    with tempfile.TemporaryDirectory() as folder:
        model.save_params(Path(folder) / "model.npz")
        return (Path(folder) / "model.npz").read_bytes()


@functools.cache
def drawn(face) -> bytes:
    """Return the file of draws."""
    with tempfile.TemporaryDirectory() as folder:
        fitted(face)[0].posterior_.to_netcdf(Path(folder) / "draws.nc")
        return (Path(folder) / "draws.nc").read_bytes()


@st.composite
def damage(draw, changes):
    """Draw one or two changes of a file."""
    share = st.floats(0.0, 1.0, exclude_max=True)
    one = st.tuples(st.sampled_from([*changes]), share, share)
    return Damage(
        draw(st.sampled_from([*FACES])), tuple(draw(st.lists(one, min_size=1, max_size=2)))
    )


def check_damaged_fit(case: Damage) -> None:
    """A damaged file is refused by its name, or the damage does not matter."""
    model, X, y = fitted(case.face)
    content = saved(case.face)
    for kind, a, b in case.changes:
        content = (BYTES | MEMBERS)[kind](content, a, b) if content else content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        path.write_bytes(content)
        found = outcome(lambda: nmo.load_model(path))
    if found.error is not None:
        assert_names(found.error, path)
        return
    same(results(found.value, X, y), results(model, X, y))
    assert repr(found.value) == repr(model)


def check_damaged_draws(case: Damage) -> None:
    """A damaged file of draws is refused by its name, and the estimator is as before; or the damage does not matter."""
    model, _, _ = fitted(case.face)
    model = copy.copy(model)
    content = drawn(case.face)
    for kind, a, b in case.changes:
        content = BYTES[kind](content, a, b) if content else content
    before = state_of(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draws.nc"
        path.write_bytes(content)
        found = outcome(lambda: setattr(model, "posterior_", path))
    if found.error is not None:
        assert_names(found.error, path)
        assert_unchanged(model, before)
        return
    assert_same_draws(model.posterior_, before["_posterior"][0])


def assert_names(error, path) -> None:
    """Hold that an error is a ValueError with the name of a file."""
    assert isinstance(error, ValueError), repr(error)
    assert path.name in str(error), str(error)


#: Laws, and their number of cases in the tests.
LAWS = {
    "containers": Law(held, check_held, 500),
    "junk": Law(junk, check_junk, 700),
    "settings": Law(settings, check_settings, 150),
    "files": Law(kept, check_kept, 100),
    "damaged fits": Law(lambda wide=False: damage(BYTES | MEMBERS), check_damaged_fit, 600),
    "damaged draws": Law(lambda wide=False: damage(BYTES), check_damaged_draws, 100),
}
