"""What all laws over generated cases have in common: see generated.py."""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tables

import bayesglm as nmo

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
# Containers hold one number for each response.
ALL = [
    (face, family)
    for face in ("GLM", "PopulationGLM")
    for family in RESPONSES
    if family != "Binomial"
]
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
