"""Give an estimator draws that were kept in a file."""

from __future__ import annotations

from typing import Any

import numpy as np

_SETTINGS = ("observation_model", "inverse_link", "regularizer", "regularizer_strength")


def checked(estimator, tree) -> Any:
    """Return draws as a tree in memory, if they are of this estimator.

    Parameters
    ----------
    tree : xarray.DataTree, str or Path

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If groups or variables are missing, or the draws are those of another model.
    """
    import xarray as xr  # late: importing it takes longer than most fits

    if not isinstance(tree, xr.DataTree):
        if not isinstance(tree, str) and not hasattr(tree, "__fspath__"):
            raise TypeError(
                f"`posterior_` must be an xarray.DataTree or a file, but {type(tree).__name__} was given."
            )
        with xr.open_datatree(tree) as opened:
            tree = opened.load()
    for group, names in {
        "posterior": ("coef", "intercept"),
        "sample_stats": (),
        "observed_data": ("y",),
    }.items():
        missing = [name for name in names if name not in tree.get(group, {})]
        if group not in tree.children or missing:
            raise ValueError(
                f"`posterior_` must have the group {group!r} with {list(names)}, as `sample_posterior` makes it; "
                f"there are the groups {list(tree.children)}."
            )
    _check_dimensions(estimator, tree["posterior"].dataset)
    _check_settings(estimator, tree["posterior"].attrs)
    return tree


def _check_dimensions(estimator, data) -> None:
    coef = estimator._coef[2]
    neurons, classes = ("neuron",) * estimator._population, ("class",) * estimator._classifier
    expected = ("chain", "draw", "feature", *neurons, *classes)
    if data["coef"].dims != expected or data["coef"].shape[2:] != coef.shape:
        raise ValueError(
            f"The draws are of another model: `coef` has the dimensions {data['coef'].dims} and the shape "
            f"{data['coef'].shape}, but {expected} with {coef.shape} after chain and draw was expected."
        )
    for name, mine in estimator._labels().items():
        theirs = data[name].values
        if [str(label) for label in theirs] != [str(label) for label in mine]:
            raise ValueError(
                f"The draws are of another model: the labels of `{name}` are {_few(theirs)}, but {_few(mine)} "
                "were expected."
            )


def _few(labels) -> str:
    return f"{list(map(str, labels[:5]))}{' ...' if len(labels) > 5 else ''}"


def _check_settings(estimator, attrs) -> None:
    mine = settings(estimator._as_fitted())
    for name in _SETTINGS:
        if name in attrs and str(np.asarray(attrs[name])) != mine[name]:
            raise ValueError(
                f"The draws are of another model: its {name.replace('_', ' ')} is {attrs[name]}, that of this "
                f"estimator {mine[name]}."
            )


def settings(estimator) -> dict[str, str]:
    """Return what draws say of the estimator that they belong to."""
    return {
        "observation_model": type(estimator.observation_model).__name__,
        "inverse_link": getattr(estimator.inverse_link_function, "__name__", "custom"),
        "regularizer": type(estimator.regularizer).__name__,
        "regularizer_strength": repr(estimator.regularizer_strength),
    }
