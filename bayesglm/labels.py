"""Class labels of any kind on the outside, 0 ... K-1 on the inside.

Classifiers compute with class indices; users have strings, arbitrary integers or booleans. The
translation is done once, at the edge, here: the known classes are an array of sorted labels, which
:func:`classes_of` finds, and which are integers when they equal 0 ... K-1.
"""

from __future__ import annotations

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesglm._input import check_texts, is_missing

__all__ = ["MISSING", "check_count", "classes_of", "decode", "encode", "is_default", "require"]

MISSING = -1
"""Code of a missing label; never a class index."""

_NUMERIC = set("biufc")


def classes_of(y: ArrayLike, n_classes: int) -> NDArray:
    """Return the sorted distinct labels of `y`.

    Parameters
    ----------
    y : array of any shape
        Must hold every class. Missing labels (non-finite floats; None or NaN among objects)
        are ignored.

    Returns
    -------
    : array (n_classes,)
        Objects of one plain type (a column of strings) become an array of that type.

    Raises
    ------
    ValueError
        If `y` does not hold exactly `n_classes` labels, or one of them cannot be written to files.
    TypeError
        If the labels cannot be sorted.
    """
    y = np.asarray(y)
    try:
        classes = np.unique(y[~_missing(y)])
    except TypeError as error:
        raise TypeError(
            "Class labels must be of one sortable kind, but `y` mixes kinds "
            f"({error}). Convert them to one type, for instance strings."
        ) from error
    if classes.size != n_classes:
        count = "only one class" if classes.size == 1 else f"{classes.size} unique class labels"
        raise ValueError(
            f"Found {count} in `y` ({_shown(classes)}), but `n_classes` is {n_classes}. {_advice(classes)}"
        )
    check_texts(classes.tolist(), "class labels in `y`")
    classes = _as_plain(classes)
    return np.arange(n_classes) if is_default(classes) else classes


def is_default(classes: NDArray) -> bool:
    """Return whether the classes are the integers 0 ... K-1."""
    # Booleans equal 0 and 1, but whoever gives booleans wants booleans back.
    return classes.dtype.kind in "iuf" and np.array_equal(classes, np.arange(len(classes)))


def encode(classes: NDArray | None, y: ArrayLike) -> NDArray[np.intp]:
    """Return the class index of every label, and -1 for a missing one.

    Parameters
    ----------
    classes : array (n_classes,)
    y : array of any shape
        Labels. Numbers are compared by value, so 2.0 is the class 2.

    Raises
    ------
    ValueError
        If a label is not among the classes.
    RuntimeError
        If the classes are not known.
    """
    classes, y = require(classes, "encode"), np.asarray(y)
    index = _index_of(classes, y)
    unknown = index == MISSING
    if unknown.any():
        unknown &= ~_missing(y)
    if unknown.any():
        raise ValueError(
            f"Unrecognized class labels in `y`: {_shown(_distinct(y[unknown]))}. The known "
            f"classes are {_shown(classes)}. Correct the labels, or call `set_classes` "
            "with labels that contain every class."
        )
    return index


def decode(classes: NDArray | None, index: ArrayLike) -> jax.Array | NDArray:
    """Return the label of every class index: JAX integers for the labels 0 ... K-1, else a NumPy array.

    Raises
    ------
    RuntimeError
        If the classes are not known.
    """
    classes = require(classes, "decode")
    return jnp.asarray(index) if is_default(classes) else classes[np.asarray(index)]


def require(classes: NDArray | None, method_name: str) -> NDArray:
    """Return the classes, or raise a RuntimeError that names a method if they are not known."""
    if classes is None:
        raise RuntimeError(
            f"Classes are not set. Must call ``set_classes`` before calling ``{method_name}``."
        )
    return classes


def _index_of(classes: NDArray, y: NDArray) -> NDArray[np.intp]:
    """Return the index of each label, -1 where it is none of the classes."""
    kinds = {y.dtype.kind, classes.dtype.kind}
    if not (kinds <= _NUMERIC or kinds == {"U"} or kinds == {"S"}):
        # Searching, NumPy would cast numbers to strings or refuse to compare.
        return _index_by_hash(y, classes)
    if is_default(classes) and y.dtype.kind in "biuf":
        # Index 0 stands in for what is outside the range; the comparison below finds it out.
        index = np.where((y >= 0) & (y < len(classes)), y, 0).astype(np.intp)
    else:
        index = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return np.where(classes[index] == y, index, MISSING)


def check_count(value: Any) -> int:
    """Return a number of classes as an integer of at least 2; integral floats and arrays of size one are taken.

    Raises
    ------
    ValueError
        For anything else.
    """
    count = np.asarray(value).item() if getattr(value, "size", None) == 1 else value
    is_real = isinstance(count, numbers.Real)
    if not (is_real and 2 <= count < 1 << 31 and float(count).is_integer()):
        raise ValueError(
            "The number of classes must be an integer greater than or equal to 2. "
            f"`n_classes={value!r}` was provided."
        )
    return int(count)


def _advice(classes: NDArray) -> str:
    if classes.dtype.kind == "f" and (classes != np.round(classes)).any():
        return "The labels are continuous numbers: use `GLM('Gaussian')`, or cut them into classes."
    return "Set `n_classes` to the number of classes, or provide labels that contain every class."


def _as_plain(labels: NDArray) -> NDArray:
    """Return objects and variable-width strings of one plain type as an array of that type."""
    # Such arrays can be compared without hashing, and saved without pickling.
    values = labels.tolist()
    kinds = {type(value) for value in values}
    if labels.dtype.kind in "OT" and any(kinds == {kind} for kind in (str, bool, int, float)):
        return np.array(values)
    return labels


def _missing(y: NDArray) -> NDArray[np.bool_]:
    """Mark the entries of `y` that carry no label."""
    if y.dtype.kind in "fc":
        return ~np.isfinite(y)
    if y.dtype == object:
        return np.array([is_missing(label) for label in y.flat], dtype=bool).reshape(y.shape)
    return np.zeros(y.shape, dtype=bool)


def _index_by_hash(y: NDArray, classes: NDArray) -> NDArray[np.intp]:
    """Look labels up one by one; labels of different kinds are equal only as Python says."""
    table = {label: index for index, label in enumerate(classes.tolist())}
    index = [table.get(label, MISSING) for label in y.ravel().tolist()]
    return np.array(index, dtype=np.intp).reshape(y.shape)


def _distinct(labels: NDArray) -> list:
    """Return distinct labels in order of appearance (objects may not be sortable)."""
    return list(dict.fromkeys(labels.tolist()))


def _shown(labels: NDArray | list, limit: int = 5) -> str:
    """Return the first few labels as text."""
    labels = labels.tolist() if isinstance(labels, np.ndarray) else labels
    more = ", ..." if len(labels) > limit else ""
    return ", ".join(map(repr, labels[:limit])) + more if labels else "none"
