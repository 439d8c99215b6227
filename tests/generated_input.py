"""Generated cases of what is passed to methods and set on estimators, and their laws: see generated.py."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import pickle
import re
import tempfile
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
from generated_base import (
    ALL,
    ALPHABETS,
    CLASSES,
    FACES,
    FEW,
    FEW_SINGLE,
    NEURONS,
    RESPONSES,
    VALUES,
    N,
    P,
    makes,
    outcome,
    results,
    same,
)
from hypothesis import strategies as st

import bayesglm as nmo

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
    "regularizer": (None, *tables.REGULARIZERS, nmo.regularizer.Lasso(), "Bridge", "Smooth",
                    nmo.regularizer.Normal(0.1, 2.0), {"a": "Ridge", "b": nmo.regularizer.Laplace()}, {"a": "Bridge"}),
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
                model.regularizer,
                (
                    nmo.regularizer.UnRegularized,
                    nmo.regularizer.ElasticNet,
                    nmo.regularizer.PerLeaf,
                ),
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
