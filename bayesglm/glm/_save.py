"""Models in files: what is stored of settings and fit, and how these are made again.

Files hold numbers and names, never code: nothing is unpickled, classes are looked up in tables, and what is not in the
tables comes from the caller.
"""

from __future__ import annotations

import difflib
import importlib.metadata
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesglm import io, labels, links, observation_models, regularizer
from bayesglm._component import parameters
from bayesglm._input import Names
from bayesglm._messages import Message
from bayesglm.glm._learned import Learned
from bayesglm.glm._settings import Settings
from bayesglm.glm._values import Fit
from bayesglm.prior import Scale

_FITTED = ("coef_", "intercept_", "scale_", "dof_resid_", "classes_")
_BESIDE = ("names", "proba_output", "learned")
_PACKAGES = ("jax", "jaxlib", "numpyro", "numpy", "scikit-learn")
_NATIVE = {
    "observation_model": {
        kind: getattr(observation_models, kind)
        for kind in observation_models.__all__
        if kind.endswith("Observations") and kind != "Observations"
    },
    "regularizer": regularizer.REGULARIZERS,
}


class Saved(NamedTuple):
    """What a file says of an estimator."""

    kind: type
    arguments: dict[str, Any]
    named_regularizer: bool
    fitted: dict[str, Any]
    messages: tuple[Message, ...]
    filename: Any


def save(arguments: dict[str, Any], settings: Settings, fit: Fit | None, filename) -> None:
    """Write settings and fit to a file.

    Parameters
    ----------
    arguments
        Of the constructor of the estimator, None where a default was left to us.
    """
    arguments = arguments | {"regularizer": settings.regularizer}
    tree = {
        "model_class": settings.kind,
        "params": {name: _describe(name, value) for name, value in arguments.items()},
        "named_regularizer": settings.named_regularizer,
        "fitted": _fitted(settings, fit),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    io.write(filename, tree)


def _fitted(settings: Settings, fit: Fit | None) -> dict[str, Any]:
    stored: dict[str, Any] = dict.fromkeys(_FITTED + _BESIDE)
    fit = Fit(settings.layout()) if fit is None else fit
    # nested dicts, lists and tuples of float64 arrays
    stored["coef_"] = None if fit.coef is None else {"tree": fit.coef_tree}
    stored["intercept_"], stored["scale_"], stored["dof_resid_"] = fit.intercept, fit.scale, fit.dof
    stored["classes_"] = fit.layout.classes
    stored["names"] = dict(fit.layout.names._asdict())
    stored["proba_output"] = settings.proba_output
    stored["learned"] = None if fit.learned is None else dict(vars(fit.learned))
    return stored


def _describe(name: str, value):
    """Return a value as plain data; objects and functions as their names and parameters."""
    if isinstance(value, regularizer.PerLeaf):
        return {
            "name": "PerLeaf",
            "ours": True,
            "params": {"leaves": _described(value.regularizers)},
        }
    if name in _NATIVE:
        # a class or a function of the user's own may bear the name of one of ours
        kind = type(value)
        params = value.get_params() if hasattr(value, "get_params") else parameters(value)
        return {
            "name": kind.__name__,
            "ours": _NATIVE[name].get(kind.__name__) is kind,
            "params": {k: _function(v) if callable(v) else _host(v) for k, v in params.items()},
        }
    if name == "regularizer_strength":
        return _of_scales(value)
    if callable(value):
        return _function(value)
    if isinstance(value, dict) and name == "solver_kwargs":
        return {key: _host(value[key]) for key in sorted(value)}  # in the documented order
    return _host(value)


def _described(regularizers):
    """Return regularizers of leaves as plain data."""
    if isinstance(regularizers, dict):
        return {key: _described(value) for key, value in regularizers.items()}
    return _describe("regularizer", regularizers)


def _of_scales(strength):
    """Return a strength, or those of leaves, as plain data."""
    if isinstance(strength, Scale):
        return {"scale": strength.plain()}
    if isinstance(strength, dict):
        return {key: _of_scales(value) for key, value in strength.items()}
    return _host(strength)


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


def read(filename, classes: dict[str, type], mapping_dict: dict | None) -> Saved:
    """Return what a file says.

    Raises
    ------
    ValueError
        If it is not one of ours, or something in it is neither known nor in `mapping_dict`.
    """
    tree = io.read(filename)
    _check_tree(tree, classes, filename)
    mapping = _check_mapping(mapping_dict, tree)
    arguments = {
        name: _restore(name, value, mapping, filename) for name, value in tree["params"].items()
    }
    text = (
        f"Parameters replaced by `mapping_dict` when loading {str(filename)!r}: {sorted(mapping)}."
    )
    told = (Message(UserWarning, text),) if mapping else ()
    kind = classes[tree["model_class"]]
    return Saved(kind, arguments, bool(tree["named_regularizer"]), tree["fitted"], told, filename)


def make(saved: Saved):
    """Return a new estimator of the class and the arguments that a file says.

    Raises
    ------
    ValueError
        If the class does not take them.
    """
    try:
        return saved.kind(**saved.arguments)
    except Exception as error:
        raise ValueError(
            f"The parameters in {str(saved.filename)!r} do not make a {saved.kind.__name__}: {error} "
            "Look at them with `bayesglm.inspect_npz`."
        ) from error


def values(saved: Saved, settings: Settings) -> tuple[Settings, Fit | None]:
    """Return the settings, as far as they are no arguments too, and the fit that a file says.

    Parameters
    ----------
    settings
        Those that the arguments stand for.

    Raises
    ------
    ValueError
        If parameters do not fit together, or no model of this kind has them.
    """
    output = saved.fitted.get("proba_output") or settings.proba_output
    settings = replace(settings, named_regularizer=saved.named_regularizer, proba_output=output)
    if all(saved.fitted[name] is None for name in _FITTED):
        return settings, None
    try:
        return settings, _fit_of(saved.fitted, settings)
    except Exception as error:
        raise ValueError(
            f"The fitted parameters in {str(saved.filename)!r} are not accepted: {error}"
        ) from error


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
        known += _parameter_names(name, tree["params"].get(name))
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


def _parameter_names(name: str, described) -> list[str]:
    """Return what `mapping_dict` calls the parameters of an object, and for leaves the objects themselves."""
    if not _is_object(described):
        return []
    if not _is_per_leaf(described):
        return [f"{name}__{parameter}" for parameter in described["params"]]
    found = []
    for path, each in _leaf_items(described["params"]["leaves"]):
        leaf = "__".join((name, *map(str, path)))
        found += [leaf, *_parameter_names(leaf, each)]
    return found


def _is_per_leaf(described) -> bool:
    return described["name"] == "PerLeaf" and isinstance(described["params"].get("leaves"), dict)


def _leaf_items(tree, path=()):
    """Return the descriptions in a dict of dicts by their path."""
    for key, value in tree.items():
        if isinstance(value, dict) and not _is_object(value):
            yield from _leaf_items(value, (*path, key))
        else:
            yield (*path, key), value


def _restore(name: str, value, mapping, filename):
    if name in _NATIVE:
        return _restore_object(name, value, mapping, filename)
    if name in mapping:
        return mapping[name]
    if name == "inverse_link_function":
        return _restore_link(value, filename)
    if name == "regularizer_strength":
        return _restore_scales(value, filename)
    return value


def _restore_scales(value, filename):
    if not isinstance(value, dict):
        return value
    if set(value) != {"scale"} or not isinstance(value["scale"], dict):
        return {key: _restore_scales(one, filename) for key, one in value.items()}
    try:
        return Scale.of_plain(value["scale"])
    except Exception as error:
        raise ValueError(
            f"The 'regularizer_strength' in {str(filename)!r} is not accepted: {error}"
        ) from error


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
    if _is_per_leaf(value) and name not in mapping:
        return _restore_leaves(name, value["params"]["leaves"], mapping, filename)
    kind = mapping.get(
        name, _NATIVE[name.partition("__")[0]].get(value["name"]) if value["ours"] is True else None
    )
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


def _restore_leaves(name: str, leaves, mapping, filename) -> dict:
    """Return a dict of regularizers in the structure of X."""
    found = {}
    for key, value in leaves.items():
        leaf = f"{name}__{key}"
        inner = isinstance(value, dict) and not _is_object(value)
        restore = _restore_leaves if inner else _restore_object
        found[key] = restore(leaf, value, mapping, filename)
    return found


def _fit_of(fitted: dict[str, Any], settings: Settings) -> Fit:
    classes = fitted["classes_"]
    if classes is not None:
        classes = labels.classes_of(classes, settings.n_classes)
    coef, intercept = fitted["coef_"], fitted["intercept_"]
    found = Fit(settings.layout(classes))
    found = found if coef is None else found.with_coef(coef["tree"])
    found = found if intercept is None else found.with_intercept(intercept)
    _check_shapes(found)
    scale, dof = (
        None if fitted[name] is None else np.asarray(fitted[name], float)
        for name in ("scale_", "dof_resid_")
    )
    names = fitted.get("names")
    names = Names() if names is None else Names(*(_as_tuple(names[k]) for k in Names._fields))
    if found.coef is not None:
        _check_names(names, found)
    layout, learned = replace(found.layout, names=names), fitted.get("learned")
    if learned is not None:
        learned = Learned(**learned)
        learned.check(found.coef)
    return replace(
        found, layout=layout, settings=settings, scale=scale, dof=dof, learned=learned, edited=False
    )


def _as_tuple(value):
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value


def _check_names(names: Names, fit: Fit) -> None:
    """Refuse names that are not one for each feature and neuron."""
    (features, neurons), widths = names, fit.layout.widths
    if features is not None and [
        len(n or range(w)) for n, w in zip(features, widths, strict=True)
    ] != list(widths):
        raise ValueError(f"there are names of {features} for {widths} features.")
    if neurons is not None and len(neurons) != fit.layout.n_neurons:
        raise ValueError(
            f"there are names of {len(neurons)} neurons, but coefficients of {fit.layout.n_neurons}."
        )


def _check_shapes(fit: Fit) -> None:
    """Refuse coefficients and intercepts that no model of this kind has, or not together."""
    if fit.coef is None:
        return
    outputs = fit.coef.shape[1:]
    if len(outputs) != len(fit.layout.dims):
        raise ValueError(
            f"coefficients (features, *{outputs}) were given, but a model of this kind has the axes "
            f"{('feature', *fit.layout.dims)}."
        )
    if fit.intercept is not None and fit.intercept.shape != (outputs or (1,)):
        raise ValueError(
            f"the intercepts have the shape {fit.intercept.shape}, but the coefficients (features, *{outputs})."
        )
