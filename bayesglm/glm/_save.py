"""Estimators in files: what is stored of one, and how one is made again.

Files hold numbers and names, never code: nothing is unpickled, classes are looked up in tables, and what is not in the
tables comes from the caller.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import warnings
from typing import Any

import jax
import numpy as np

from bayesglm import io, links, observation_models, regularizer
from bayesglm._component import parameters
from bayesglm._design import split
from bayesglm._input import Names

_FITTED = ("coef_", "intercept_", "scale_", "dof_resid_", "classes_")
_BESIDE = ("names", "proba_output")
_PACKAGES = ("jax", "jaxlib", "numpyro", "numpy", "scikit-learn")
_NATIVE = {
    "observation_model": {
        kind: getattr(observation_models, kind)
        for kind in observation_models.__all__
        if kind.endswith("Observations") and kind != "Observations"
    },
    "regularizer": regularizer.REGULARIZERS,
}


def save(estimator, filename) -> None:
    """Write an estimator to a file."""
    arguments = {name: getattr(estimator, name) for name in estimator._argument_names()}
    if estimator._solver_name is None:
        arguments["solver_name"] = None
    if estimator._default_strength:
        arguments["regularizer_strength"] = None
    tree = {
        "model_class": type(estimator).__name__,
        "params": {name: _describe(name, value) for name, value in arguments.items()},
        "named_regularizer": estimator._named_regularizer,
        "fitted": _fitted(estimator),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    io.write(filename, tree)


def _fitted(estimator) -> dict[str, Any]:
    stored: dict[str, Any] = dict.fromkeys(_FITTED + _BESIDE)
    if estimator._coef is not None:
        stored["coef_"] = {"tree": _plain(estimator)}
    if estimator._intercept is not None:
        stored["intercept_"] = estimator._intercept
    stored["scale_"], stored["dof_resid_"] = estimator._scale, estimator._dof_resid
    stored["classes_"] = estimator.classes_ if estimator._classifier else None
    stored["names"] = dict(estimator._names._asdict())
    stored["proba_output"] = estimator._proba_output
    return stored


def _plain(estimator):
    """Coefficients as nested dicts, lists and tuples of float64 arrays."""
    return split(*estimator._coef)


def _describe(name: str, value):
    """Return a value as plain data; objects and functions as their names and parameters."""
    if name in _NATIVE:
        # a class or a function of the user's own may bear the name of one of ours
        kind = type(value)
        params = value.get_params() if hasattr(value, "get_params") else parameters(value)
        return {
            "name": kind.__name__,
            "ours": _NATIVE[name].get(kind.__name__) is kind,
            "params": {k: _function(v) if callable(v) else _host(v) for k, v in params.items()},
        }
    if callable(value):
        return _function(value)
    if isinstance(value, dict) and name == "solver_kwargs":
        return {key: _host(value[key]) for key in sorted(value)}  # in the documented order
    return _host(value)


def _function(value) -> dict[str, Any]:
    return {"function": links.inverse_link_name(value), "ours": links.is_known(value)}


def _is_function(value) -> bool:
    """Whether a description is that of a function."""
    return isinstance(value, dict) and set(value) == {"function", "ours"}


def _host(value):
    """Return JAX arrays in a tree as NumPy arrays, random keys as the numbers they are made of."""

    def one(leaf):
        if not isinstance(leaf, jax.Array):
            return leaf
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(one, value)


def rebuild(tree: dict[str, Any], classes: dict[str, type], mapping_dict: dict | None, filename):
    """Return the estimator that a file describes.

    Raises
    ------
    ValueError
        If the description is not one of ours, or something in it is neither known nor in
        `mapping_dict`.
    """
    _check_tree(tree, classes, filename)
    mapping = _check_mapping(mapping_dict, tree)
    params = {
        name: _restore(name, value, mapping, filename) for name, value in tree["params"].items()
    }
    if mapping:
        warnings.warn(
            "Parameters replaced by `mapping_dict` when loading "
            f"{str(filename)!r}: {sorted(mapping)}.",
            UserWarning,
            stacklevel=3,
        )
    try:
        estimator = classes[tree["model_class"]](**params)
    except Exception as error:
        raise ValueError(
            f"The parameters in {str(filename)!r} do not make a {tree['model_class']}: {error} "
            "Look at them with `bayesglm.inspect_npz`."
        ) from error
    estimator._named_regularizer = bool(tree["named_regularizer"])
    try:
        _restore_fit(estimator, tree["fitted"])
    except Exception as error:
        raise ValueError(
            f"The fitted parameters in {str(filename)!r} are not accepted: {error}"
        ) from error
    return estimator


def _check_tree(tree, classes, filename) -> None:
    expected = {"model_class", "params", "named_regularizer", "fitted", "versions"}
    is_ours = isinstance(tree, dict) and set(tree) == expected
    if not (is_ours and all(isinstance(tree[part], dict) for part in ("params", "fitted"))):
        raise ValueError(f"{str(filename)!r} does not hold an estimator saved by `save_params`.")
    if tree["model_class"] not in list(classes):
        raise ValueError(
            f"{str(filename)!r} holds a {tree['model_class']!r}; known are {sorted(classes)}."
        )
    if not set(_FITTED) <= set(tree["fitted"]) <= {*_FITTED, *_BESIDE}:
        raise ValueError(
            f"{str(filename)!r} holds the fitted attributes {list(tree['fitted'])}; "
            f"expected are {list(_FITTED)}."
        )


def _check_mapping(mapping_dict, tree) -> dict[str, Any]:
    mapping = dict(mapping_dict or {})
    known = list(tree["params"])
    for name in _NATIVE:
        described = tree["params"].get(name)
        if _is_object(described):
            known += [f"{name}__{parameter}" for parameter in described["params"]]
    for name, value in mapping.items():
        if name not in known:
            close = difflib.get_close_matches(str(name), map(str, known), n=3)
            raise ValueError(
                f"`mapping_dict` has the unknown key {name!r}."
                + (f" Did you mean {close}?" if close else f" Known are {sorted(known)}.")
            )
        if not callable(value):
            raise ValueError(
                f"`mapping_dict[{name!r}]` must be a class or a function, but {value!r} was given. "
                "Other parameters can be set after loading, with `set_params`."
            )
    return mapping


def _restore(name: str, value, mapping, filename):
    if name in _NATIVE:
        return _restore_object(name, value, mapping, filename)
    if name in mapping:
        return mapping[name]
    if name == "inverse_link_function":
        return _restore_link(value, filename)
    return value


def _restore_link(value, filename):
    if not _is_function(value):
        raise ValueError(f"{str(filename)!r} has a malformed 'inverse_link_function'.")
    if value["ours"] is not True:
        raise ValueError(
            f"The inverse link {value['function']!r} in {str(filename)!r} is not one of bayesglm's. Pass "
            "it: `load_model(..., mapping_dict={'inverse_link_function': your_function})`."
        )
    return str(value["function"])


def _is_object(value) -> bool:
    """Whether a description of an observation model or a regularizer is well formed."""
    return (
        isinstance(value, dict)
        and set(value) == {"name", "ours", "params"}
        and isinstance(value["name"], str)
        and isinstance(value["params"], dict)
    )


def _restore_object(name, value, mapping, filename):
    if not _is_object(value):
        raise ValueError(f"{str(filename)!r} has a malformed {name!r}.")
    kind = mapping.get(name, _NATIVE[name].get(value["name"]) if value["ours"] is True else None)
    if kind is None:
        raise ValueError(
            f"The class {value['name']!r} of {name!r} in {str(filename)!r} is not one of bayesglm's. "
            f"Pass it: `load_model(..., mapping_dict={{{name!r}: YourClass}})`."
        )
    params = {k: mapping.get(f"{name}__{k}", v) for k, v in value["params"].items()}
    for parameter, v in params.items():
        if _is_function(v):
            key = f"{name}__{parameter}"
            raise ValueError(
                f"The {key!r} in {str(filename)!r} is the function {v['function']!r}. Pass it: "
                f"`load_model(..., mapping_dict={{{key!r}: your_function}})`."
            )
    try:
        return kind(**params) if isinstance(kind, type) else kind
    except Exception as error:
        raise ValueError(
            f"The parameters of {name!r} in {str(filename)!r} are not accepted: {error}"
        ) from error


def _restore_fit(estimator, fitted) -> None:
    if fitted["classes_"] is not None:
        estimator.set_classes(fitted["classes_"])
    if fitted["coef_"] is not None:
        estimator.coef_ = fitted["coef_"]["tree"]
    if fitted["intercept_"] is not None:
        estimator.intercept_ = fitted["intercept_"]
    _check_shapes(estimator)
    estimator.scale_, estimator.dof_resid_ = fitted["scale_"], fitted["dof_resid_"]
    names = fitted.get("names")
    if names is not None:
        estimator._names = Names(*(_as_tuple(names[part]) for part in Names._fields))
        _check_names(estimator)
    estimator._proba_output = fitted.get("proba_output") or estimator._proba_output
    estimator._fitted_with = estimator._settings_now()


def _as_tuple(value):
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value


def _check_names(estimator) -> None:
    """Refuse names that are not one for each feature and neuron."""
    if estimator._coef is None:
        return
    _, widths, coef = estimator._coef
    features, neurons = estimator._names
    if features is not None and [
        len(n or range(w)) for n, w in zip(features, widths, strict=True)
    ] != list(widths):
        raise ValueError(f"there are names of {features} for {widths} features.")
    if neurons is not None and len(neurons) != coef.shape[1]:
        raise ValueError(
            f"there are names of {len(neurons)} neurons, but coefficients of {coef.shape[1]}."
        )


def _check_shapes(estimator) -> None:
    """Refuse coefficients and intercepts that no estimator of this kind has, or not together."""
    coef, intercept = estimator._coef, estimator._intercept
    outputs = () if coef is None else coef[2].shape[1:]
    if coef is not None and len(outputs) != estimator._population + estimator._classifier:
        raise ValueError(
            f"a {type(estimator).__name__} has no coefficients (features, *{outputs})."
        )
    if coef is not None and intercept is not None and intercept.shape != (outputs or (1,)):
        raise ValueError(
            f"the intercepts have the shape {intercept.shape}, but the coefficients (features, *{outputs})."
        )
