"""Class labels of any kind on the outside, 0 ... K-1 on the inside.

Classifiers compute with class indices; users have strings, arbitrary integers or booleans. The
translation is done once, at the edge, here. Labels that are 0 ... K-1 already need no table.
"""

from __future__ import annotations

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesglm._input import check_texts, is_missing

__all__ = ["MISSING", "LabelEncoder"]

MISSING = -1
"""Code of a missing label; never a class index."""

_NUMERIC = set("biufc")


class LabelEncoder:
    """Two-way table between class labels and the indices 0 ... K-1.

    Parameters
    ----------
    n_classes : int
        Number of classes K, at least 2. Integral floats and arrays of size one are accepted.

    Attributes
    ----------
    n_classes : int
    classes_ : np.ndarray of shape (n_classes,), or None
        Sorted labels; None until `set_classes`. Integers when they equal 0 ... K-1. Objects of one
        plain type (a column of strings) become an array of that type.

    Raises
    ------
    ValueError
        If `n_classes` is not an integer of at least 2.
    """

    n_classes: int
    classes_: NDArray | None

    def __init__(self, n_classes: int):
        self.n_classes = _as_class_count(n_classes)
        self.classes_ = None

    @property
    def is_default(self) -> bool:
        """Whether the classes are the integers 0 ... K-1."""
        # Booleans equal 0 and 1, but whoever gives booleans wants booleans back.
        return (
            self.classes_ is not None
            and self.classes_.dtype.kind in "iuf"
            and np.array_equal(self.classes_, np.arange(self.n_classes))
        )

    def set_classes(self, y: ArrayLike) -> None:
        """Take the sorted distinct labels of `y` as the classes.

        Parameters
        ----------
        y : array of any shape
            Must hold every class. Missing labels (non-finite floats; None or NaN among objects)
            are ignored.

        Raises
        ------
        ValueError
            If `y` does not hold exactly `n_classes` labels, or one of them cannot be written to files; the earlier
            classes then stay.
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
        if classes.size != self.n_classes:
            count = "only one class" if classes.size == 1 else f"{classes.size} unique class labels"
            raise ValueError(
                f"Found {count} in `y` ({_shown(classes)}), but `n_classes` is {self.n_classes}. {_advice(classes)}"
            )
        check_texts(classes.tolist(), "class labels in `y`")
        self.classes_ = _as_plain(classes)
        if self.is_default:
            self.classes_ = np.arange(self.n_classes)

    def encode(self, y: ArrayLike) -> NDArray[np.intp]:
        """Return the class index of every label, and -1 for a missing one.

        Parameters
        ----------
        y : array of any shape
            Labels. Numbers are compared by value, so 2.0 is the class 2.

        Returns
        -------
        np.ndarray, shape of `y`

        Raises
        ------
        ValueError
            If a label is not among `classes_`.
        RuntimeError
            If the classes are not set.
        """
        self.check_classes_is_set("encode")
        y = np.asarray(y)
        index = self._index_of(y)
        unknown = index == MISSING
        if unknown.any():
            unknown &= ~_missing(y)
        if unknown.any():
            raise ValueError(
                f"Unrecognized class labels in `y`: {_shown(_distinct(y[unknown]))}. The known "
                f"classes are {_shown(self.classes_)}. Correct the labels, or call `set_classes` "
                "with labels that contain every class."
            )
        return index

    def decode(self, index: ArrayLike) -> jax.Array | NDArray:
        """Return the label of every class index.

        Parameters
        ----------
        index : integer array of any shape, values in 0 ... K-1

        Returns
        -------
        array, shape of `index`
            A JAX integer array for the default labels 0 ... K-1, else a NumPy array of labels.

        Raises
        ------
        RuntimeError
            If the classes are not set.
        """
        self.check_classes_is_set("decode")
        if self.is_default:
            return jnp.asarray(index)
        return self.classes_[np.asarray(index)]

    def reset(self) -> None:
        """Forget the classes."""
        self.classes_ = None

    def check_classes_is_set(self, method_name: str) -> None:
        """Raise a RuntimeError that names `method_name` if the classes are not set."""
        if self.classes_ is None:
            raise RuntimeError(
                f"Classes are not set. Must call ``set_classes`` before calling ``{method_name}``."
            )

    def __eq__(self, other: object) -> bool:
        """Whether `other` encodes the same labels in the same way."""
        if not isinstance(other, LabelEncoder):
            return NotImplemented
        if self.n_classes != other.n_classes:
            return False
        if self.classes_ is None or other.classes_ is None:
            return self.classes_ is other.classes_
        return np.array_equal(self.classes_, other.classes_)

    def __repr__(self) -> str:
        """Show what tells two encoders apart."""
        return f"LabelEncoder(n_classes={self.n_classes}, classes_={self.classes_!r})"

    def _index_of(self, y: NDArray) -> NDArray[np.intp]:
        """Return the index of each label, -1 where it is none of the classes."""
        classes = self.classes_
        kinds = {y.dtype.kind, classes.dtype.kind}
        if not (kinds <= _NUMERIC or kinds == {"U"} or kinds == {"S"}):
            # Searching, NumPy would cast numbers to strings or refuse to compare.
            return _index_by_hash(y, classes)
        if self.is_default and y.dtype.kind in "biuf":
            # Index 0 stands in for what is outside the range; the comparison below finds it out.
            index = np.where((y >= 0) & (y < self.n_classes), y, 0).astype(np.intp)
        else:
            index = np.minimum(np.searchsorted(classes, y), self.n_classes - 1)
        return np.where(classes[index] == y, index, MISSING)


def _advice(classes: NDArray) -> str:
    if classes.dtype.kind == "f" and (classes != np.round(classes)).any():
        return "The labels are continuous numbers: use `GLM('Gaussian')`, or cut them into classes."
    return "Set `n_classes` to the number of classes, or provide labels that contain every class."


def _as_class_count(value: Any) -> int:
    """Return `value` as an integer of at least 2, or raise."""
    count = np.asarray(value).item() if getattr(value, "size", None) == 1 else value
    is_real = isinstance(count, numbers.Real)
    if not (is_real and 2 <= count < 1 << 31 and float(count).is_integer()):
        raise ValueError(
            "The number of classes must be an integer greater than or equal to 2. "
            f"`n_classes={value!r}` was provided."
        )
    return int(count)


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
