"""Give a fit draws that were kept in a file, if they are whole, and those of this fit."""

from __future__ import annotations

import hashlib
import mmap
import os
from typing import Any

import numpy as np

from bayesglm import _families
from bayesglm._layout import Layout
from bayesglm.glm._settings import Settings
from bayesglm.glm._values import Fit

_SETTINGS = ("observation_model", "inverse_link", "regularizer", "regularizer_strength")
_REQUIRED = {"posterior": ("coef", "intercept"), "sample_stats": (), "observed_data": ("y",)}
_DRAWS = ("chain", "draw")
# Draws are as good as random, so that a file compressed by its owner is not much smaller than they are.
_MOST_COMPRESSION = 100
_DEPTH = 4
_HEAP = b"GCOL\1\0\0\0"  # how a heap of an HDF5 file begins


def checked(fit: Fit, tree) -> Any:
    """Return draws as a tree in memory, if they are of this fit.

    Parameters
    ----------
    tree : xarray.DataTree, str or Path

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If it is neither a tree nor a file.
    ValueError
        If the file is damaged, groups or variables are missing or not as `sample_posterior` makes them, the draws are
        not those of their checksum, or they are those of another model.
    """
    import xarray as xr  # late: importing it takes longer than most fits

    if isinstance(tree, xr.DataTree):
        _check(fit, tree)
        return tree
    if not isinstance(tree, str) and not hasattr(tree, "__fspath__"):
        raise TypeError(
            f"`posterior_` must be an xarray.DataTree or a file, but {type(tree).__name__} was given."
        )
    with open(tree, "rb") as stream:  # what is wrong with the name is no damage
        size = stream.seek(0, os.SEEK_END)
    try:
        _check_size(tree, size)
        with xr.open_datatree(tree, engine="h5netcdf") as opened:
            found = opened.load()
        _check(fit, found)
    # A damaged file fails in a dozen ways (h5py, h5netcdf, xarray, ...).
    except Exception as error:
        raise ValueError(
            f"The draws in {os.fspath(tree)!r} are not taken: {str(error)[:500] or type(error).__name__}"
        ) from error
    return found


def seal(tree) -> None:
    """Write into each group of a tree the checksum of what stands in it."""
    for group in tree.children.values():
        names = [*sorted(map(str, group.variables)), *sorted(group.attrs)]
        group.attrs["checksum"] = f"{','.join(names)}:{_checksum(group.dataset, names)}"


def _checksum(data, names) -> str:
    """Return the SHA-256 of variables and attributes, the same before and after a file."""
    digest = hashlib.sha256()
    for name in names:
        variable = data.variables.get(name)
        values = np.atleast_1d(data.attrs[name] if variable is None else variable.values)
        dims = () if variable is None else variable.dims
        digest.update(repr((name, dims, values.shape)).encode())
        if values.dtype.kind in "biuf":
            values = np.ascontiguousarray(values, "<f8")
            missing = np.isnan(values)  # of which there are many kinds
            digest.update(np.where(missing, np.nan, values) if missing.any() else values)
        else:
            digest.update("\0".join(map(str, values.ravel())).encode())
    return digest.hexdigest()


def _check_size(path, size: int) -> None:
    """Refuse a file that claims arrays far beyond its size, before they are made."""
    import h5py  # late, as xarray

    with open(path, "rb") as stream:
        if size:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_heaps(content)
    with h5py.File(path, "r") as file:
        claimed = _claimed(file)
    if claimed > _MOST_COMPRESSION * size:
        raise ValueError(f"it claims {claimed} bytes of arrays in a file of {size} bytes")


def _check_heaps(content) -> None:
    """Refuse a damaged heap (where texts are kept) over whose objects HDF5 would go without end.

    References
    ----------
    HDF5 File Format Specification 3.0, III.E, Disk Format: Level 1E - Global Heap.
    """
    number = lambda at, size: int.from_bytes(content[at : at + size], "little")  # noqa: E731
    heap = content.find(_HEAP)
    while heap >= 0:
        place, end = heap + 16, heap + number(heap + 8, 8)
        while place + 16 <= min(end, len(content)):
            index, size = number(place, 2), number(place + 8, 8)
            step = 16 + -(-size // 8) * 8 if index else size  # index 0 is free space
            if step < 16 or place + step > end:
                raise ValueError("the texts in it are damaged")
            place += step
        heap = content.find(_HEAP, heap + 1)


def _claimed(group, depth: int = 0) -> int:
    """Return the bytes of all arrays in a group of an HDF5 file."""
    if depth > _DEPTH:
        raise ValueError(f"its groups are nested more than {_DEPTH} deep")
    each = (
        _claimed(child, depth + 1) if hasattr(child, "items") else child.size * child.dtype.itemsize
        for child in group.values()
    )
    return sum(each)


def _check(fit: Fit, tree) -> None:
    for group, names in _REQUIRED.items():
        missing = [name for name in names if name not in tree.get(group, {})]
        if group not in tree.children or missing:
            raise ValueError(
                f"`posterior_` must have the group {group!r} with {list(names)}, as `sample_posterior` makes it; "
                f"there are the groups {list(tree.children)}."
            )
    _check_dimensions(fit, tree["posterior"].dataset)
    _check_settings(fit.settings, tree["posterior"].attrs)
    _check_groups(fit.layout, tree, _families.parameter(fit.settings.observation_model))
    for name, group in tree.children.items():
        _check_seal(name, group.dataset)


def _check_dimensions(fit: Fit, data) -> None:
    coef, expected = fit.coef, (*_DRAWS, "feature", *fit.layout.dims)
    if data["coef"].dims != expected or data["coef"].shape[2:] != coef.shape:
        raise ValueError(
            f"The draws are of another model: `coef` has the dimensions {data['coef'].dims} and the shape "
            f"{data['coef'].shape}, but {expected} with {coef.shape} after chain and draw was expected."
        )
    for name, mine in fit.layout.labels().items():
        theirs = data[name].values
        if [str(label) for label in theirs] != [str(label) for label in mine]:
            raise ValueError(
                f"The draws are of another model: the labels of `{name}` are {_few(theirs)}, but {_few(mine)} "
                "were expected."
            )


def _few(labels) -> str:
    return f"{list(map(str, labels[:5]))}{' ...' if len(labels) > 5 else ''}"


def _check_settings(mine: Settings, attrs) -> None:
    expected = settings(mine)
    for name in _SETTINGS:
        if name in attrs and str(np.asarray(attrs[name])) != expected[name]:
            raise ValueError(
                f"The draws are of another model: its {name.replace('_', ' ')} is {attrs[name]}, that of this "
                f"estimator {expected[name]}."
            )


def _check_groups(layout: Layout, tree, parameter) -> None:
    """Refuse variables with other dimensions or types than `sample_posterior` makes, and draws that are not finite."""
    sizes, coef = tree["posterior"].sizes, tree["posterior"]["coef"].dims
    neuron = ("neuron",) * layout.population
    per_draw = (*_DRAWS, *neuron)
    known = {
        "posterior": {"coef": coef, "intercept": (*_DRAWS, *coef[3:]), parameter.name: per_draw},
        "sample_stats": {
            name: neuron if name in ("khat", "importance_ess") else per_draw for name in tree["sample_stats"].data_vars
        },
        "observed_data": {"y": ("sample", *neuron)},
        "constant_data": dict.fromkeys(("sample_weight", "n_trials"), ("sample", *neuron)),
        "log_prior": {"coef": per_draw, "intercept": per_draw, parameter.name: per_draw},
    }  # fmt: skip
    for group in known.keys() & tree.children.keys():
        expected = known[group]
        for name, values in tree[group].data_vars.items():
            dims = expected.get(name, values.dims)
            if values.dims != dims or any(sizes.get(d, n) != n for d, n in values.sizes.items()):
                raise ValueError(
                    f"`{name}` of the group {group!r} has the dimensions {dict(values.sizes)}, but {dims} was "
                    f"expected, beside {dict(sizes)} of the posterior."
                )
            if name in expected and values.dtype.kind not in "biuf":
                raise ValueError(
                    f"`{name}` of the group {group!r} has the dtype {values.dtype}: no numbers."
                )
    for name in ("coef", "intercept", parameter.name):
        draws = tree["posterior"].get(name)
        if draws is not None and not (draws.size and np.isfinite(draws.values).all()):
            raise ValueError(f"The draws of `{name}` are none, or some are NaN or infinite.")


def _check_seal(name: str, data) -> None:
    names, _, expected = str(data.attrs.get("checksum", "")).rpartition(":")
    if not expected:
        return
    there = {*map(str, data.variables), *data.attrs}
    listed = names.split(",")
    if not there.issuperset(listed) or _checksum(data, listed) != expected:
        raise ValueError(
            f"The group {name!r} is not what `sample_posterior` made: its checksum differs. The file is damaged, or "
            "the draws were changed; if that was you, delete the attribute first: "
            f"`del tree[{name!r}].attrs['checksum']`."
        )


def settings(mine: Settings) -> dict[str, str]:
    """Return what draws say of the model that they belong to."""
    return {
        "observation_model": type(mine.observation_model).__name__,
        "inverse_link": getattr(mine.inverse_link_function, "__name__", "custom"),
        "regularizer": repr(mine.regularizer).removesuffix("()"),
        "regularizer_strength": repr(mine.regularizer_strength),
    }
