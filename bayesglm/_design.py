"""The design matrix at the edge: pytrees, dtypes, missing values, masks.

Outside, X may be any pytree of arrays (samples, features) and the coefficients mirror it. Inside there is one
matrix and one array of coefficients (features, *outputs).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from bayesglm import _process
from bayesglm._input import column_names, refuse_iterator, to_numeric

__all__ = ["Design"]

# Bytes that are read from a file at a time.
_READ_BYTES = 1 << 25
# Stretches of rows that a sample is made of: few enough to be read quickly, and from all over the recording.
_STRETCHES = 64


class Stored:
    """A matrix in a file, of which a slice of rows is read at a time.

    Parameters
    ----------
    source
        What has a `shape`, a `dtype` and slices of rows: a NumPy memory map, an HDF5 or a zarr array.
    dtype
        Precision of what is read; by default that of the source.
    bad : bool array (samples,), optional
        Rows with entries that are not finite, which are read as zero.
    """

    ndim = 2

    def __init__(self, source, dtype=None, bad: np.ndarray | None = None):
        self.source, self.shape, self.bad = source, tuple(source.shape), bad
        self.dtype = np.dtype(to_numeric(source[:0], "X").dtype if dtype is None else dtype)
        self.itemsize = self.dtype.itemsize
        self.nbytes = self.itemsize * self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        """Return a slice of rows, or rows by their indices; of these some columns, as the second of two indices."""
        if isinstance(rows, tuple):
            rows, columns = rows
            found = [self[some][:, columns] for some in pieces(self)]
            return np.concatenate(found)[rows]
        if not isinstance(rows, slice):
            return self._taken(np.asarray(rows))
        block = np.ascontiguousarray(self.source[rows], self.dtype)
        if self.bad is None or not self.bad[rows].any():
            return block
        return np.where(np.isfinite(block), block, 0)

    def _taken(self, index: np.ndarray) -> np.ndarray:
        index = np.flatnonzero(index) if index.dtype == bool else index
        found = np.empty((len(index), self.shape[1]), self.dtype)
        for some in pieces(self):
            inside = (index >= some.start) & (index < some.stop)
            if inside.any():
                found[inside] = self[some][index[inside] - some.start]
        return found

    def astype(self, dtype, copy: bool = True) -> Stored:
        """Return the same matrix in another precision."""
        return Stored(self.source, dtype, self.bad)

    def zeroed(self, bad: np.ndarray) -> Stored:
        """Return the same matrix with zeros for what is not finite in some rows."""
        return Stored(self.source, self.dtype, bad)


def pieces(X) -> list[slice]:
    """Return the slices of rows in which a matrix is read, or gone through."""
    size = max(1, _READ_BYTES // (X.dtype.itemsize * max(1, X.shape[1])))
    return [slice(a, min(a + size, len(X))) for a in range(0, len(X), size)]


def is_stored(X) -> bool:
    """Return whether an array should be left in its file."""
    if isinstance(X, np.memmap):
        return X.ndim == 2 and min(X.shape) > 0
    is_array = isinstance(X, (np.ndarray, jax.Array)) or hasattr(X, "__array_interface__")
    file_like = all(hasattr(X, name) for name in ("shape", "dtype", "chunks", "__getitem__"))
    return file_like and not is_array and len(X.shape) == 2 and min(X.shape) > 0


def stretches(n_rows: int, wanted: int) -> list[slice]:
    """Return stretches of rows, `wanted` in all, evenly spread."""
    if wanted >= n_rows:
        return [slice(0, n_rows)]
    length = -(-wanted // _STRETCHES)
    begins = np.linspace(0, n_rows - length, _STRETCHES).astype(int)
    return [slice(int(a), int(a) + length) for a in begins]


@dataclass(frozen=True)
class Design:
    """One matrix and the pytree that it came from.

    Parameters
    ----------
    matrix : array (samples, features)
        float32 or float64; may be left in a file (:class:`Stored`).
    structure
        Tree structure of X.
    widths
        Number of features of each leaf.
    names
        Names of the columns of each leaf, None for one that has none.
    """

    matrix: np.ndarray | Stored
    structure: Any
    widths: tuple[int, ...]
    names: tuple[tuple[str, ...] | None, ...]

    @classmethod
    def of(cls, X, name: str = "X") -> Design:
        """Return the design of a matrix, which is left in its file if it comes from one, or a pytree of matrices.

        Raises
        ------
        TypeError
            If a leaf is not numeric.
        ValueError
            If a leaf is not two-dimensional, or leaves differ in their number of samples.
        """
        _process.check()
        if is_stored(X):
            return cls(Stored(X), jax.tree.structure(0), (X.shape[1],), (None,))
        refuse_iterator(X)
        leaves, structure = jax.tree.flatten(X)
        if isinstance(X, (list, tuple)) and leaves and all(np.isscalar(leaf) for leaf in leaves):
            leaves, structure = jax.tree.flatten(np.asarray(X))
        if not leaves:
            raise ValueError(
                f"`{name}` is empty; expected an array (samples, features) or a pytree of these."
            )
        names = tuple(column_names(leaf, name) for leaf in leaves)
        leaves = [to_numeric(leaf, name) for leaf in leaves]
        for leaf in leaves:
            if leaf.ndim != 2:
                raise ValueError(_of_wrong_dimension(name, leaf.shape))
        if len({len(leaf) for leaf in leaves}) > 1:
            raise ValueError(
                f"The leaves of `{name}` have differing numbers of samples: {[len(leaf) for leaf in leaves]}."
            )
        shape = (len(leaves[0]), sum(leaf.shape[1] for leaf in leaves))
        if 0 in shape:
            empty, kind = (0, "sample") if shape[0] == 0 else (1, "feature")
            raise ValueError(
                f"`{name}` has no {kind}s: {shape[empty]} {kind}(s) (shape={shape}) while a minimum of 1 is required."
            )
        matrix = leaves[0] if len(leaves) == 1 else np.concatenate(leaves, axis=1)
        widths = tuple(leaf.shape[1] for leaf in leaves)
        return cls(np.ascontiguousarray(matrix), structure, widths, names)

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.matrix.shape[0]

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.matrix.shape[1]

    @property
    def slices(self) -> list[slice]:
        """Columns of each leaf."""
        return leaf_slices(self.widths)

    def with_matrix(self, matrix) -> Design:
        """Return the design with other values."""
        return replace(self, matrix=matrix)


def _of_wrong_dimension(name: str, shape) -> str:
    if len(shape) == 1:
        advice = (
            f"Reshape your data with `{name}[:, None]` if it is a single feature, or `{name}[None]` if it is a single "
            "sample."
        )
    elif len(shape) == 0:
        advice = "A scalar has no samples."
    else:
        advice = (
            f"Put all features of a sample into one row, `{name}.reshape(len({name}), -1)`; to keep them apart, use a "
            "dict with one matrix for each kind."
        )
    return (
        f"`{name}` must be 2-dimensional, (samples, features), or a pytree of such arrays, but an array of shape "
        f"{shape} was given. {advice}"
    )


def leaf_slices(widths) -> list[slice]:
    """Return the features of each leaf, given their numbers."""
    ends = np.cumsum(widths)
    return [slice(int(end - width), int(end)) for end, width in zip(ends, widths, strict=True)]


def split(structure, widths, coef: np.ndarray):
    """Return coefficients (features, *outputs) in the structure of X."""
    return jax.tree.unflatten(structure, [coef[rows] for rows in leaf_slices(widths)])


def to_double(value, name: str) -> np.ndarray:
    """Return parameters as a float64 array.

    Raises
    ------
    TypeError, ValueError
        If they are not numeric.
    """
    try:
        return to_numeric(value, name).astype(np.float64)
    except TypeError as error:
        raise TypeError(f"`{name}` cannot be converted to an array of numbers. {error}") from error


def join(coef, name: str = "coef"):
    """Return coefficients in the structure of X as (structure, widths, array (features, *outputs)).

    Raises
    ------
    TypeError
        If they are not numeric.
    ValueError
        If leaves disagree beyond their first dimension.
    """
    refuse_iterator(coef)
    leaves, structure = jax.tree.flatten(coef)
    leaves = [to_double(leaf, name) for leaf in leaves]
    if not leaves or any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(
            f"`{name}` must hold arrays (features, ...), but scalars or nothing was given."
        )
    if len({leaf.shape[1:] for leaf in leaves}) > 1:
        raise ValueError(
            f"The leaves of `{name}` must agree beyond their first dimension, but have shapes "
            f"{[leaf.shape for leaf in leaves]}."
        )
    return structure, tuple(len(leaf) for leaf in leaves), np.concatenate(leaves, axis=0)


def per_coefficient(value, structure, widths, outputs: tuple[int, ...], name: str) -> np.ndarray:
    """Spread scalars, arrays or a pytree of them over the coefficients: (features, *outputs).

    Raises
    ------
    TypeError
        If a pytree is not of the structure of the coefficients.
    ValueError
        If an array has not the shape of its coefficients.
    """
    leaves, given = jax.tree.flatten(value)
    shapes = [(width, *outputs) for width in widths]
    if given == structure and len(leaves) == len(widths):
        values = leaves
    elif len(leaves) == 1 and np.ndim(leaves[0]) == 0 and given == jax.tree.structure(0):
        values = leaves * len(widths)
    else:
        raise (ValueError if given == jax.tree.structure(0) else TypeError)(
            f"`{name}` must be a number or mirror the structure of the coefficients, {structure}, "
            f"but has the structure {given}."
        )
    for leaf, shape in zip(values, shapes, strict=True):
        if np.ndim(leaf) and np.shape(leaf) != shape:
            raise ValueError(
                f"`{name}` has shape {np.shape(leaf)}; expected a number or shape {shape}."
            )
    return np.concatenate(
        [np.broadcast_to(np.asarray(v, float), s) for v, s in zip(values, shapes, strict=True)]
    )


def feature_labels(structure, widths, names=None) -> list[str]:
    """Return one label per feature: its name or index, beside the key of its leaf if there is one."""
    names = (None,) * len(widths) if names is None else names
    labels = []
    for key, width, inside in zip(leaf_names(structure), widths, names, strict=True):
        inside = range(width) if inside is None else inside
        labels += [f"{key}[{each}]" if key else str(each) for each in inside]
    return labels


def leaf_names(structure) -> list[str]:
    """Return the path to each leaf of X as text, no two the same; empty where X is a single matrix.

    A key that could be taken for a path, such as ``"a.b"``, stands in quotes.
    """
    return [".".join(map(_key, path)) for path in _entries(structure)]


def leaf_paths(structure) -> list[tuple]:
    """Return the keys that lead to each leaf of X; none where X is a single matrix."""
    return [tuple(map(_plain_key, path)) for path in _entries(structure)]


def _entries(structure) -> list[tuple]:
    order = jax.tree.unflatten(structure, list(range(structure.num_leaves)))
    return [path for path, _ in jax.tree_util.tree_leaves_with_path(order)]


def _plain_key(entry):
    """Return what indexes a dict, a sequence or a named tuple."""
    return next(getattr(entry, name) for name in ("key", "idx", "name") if hasattr(entry, name))


def _key(entry) -> str:
    text = jax.tree_util.keystr((entry,), simple=True)
    plain = text.isprintable() and not set(text) & set(".[") and text[:1] not in ("", "'", '"')
    return text if plain else repr(text)


def check_mask_values(mask, name: str = "feature_mask"):
    """Return a mask with its leaves as arrays of 0 and 1.

    Raises
    ------
    TypeError
        If a leaf is not array-like.
    ValueError
        If a value is neither 0 nor 1.
    """

    def one(leaf):
        array = np.asarray(leaf)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"`{name}` must hold arrays of 0 and 1, but has dtype {array.dtype}.")
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"`{name}` must hold only 0 and 1.")
        return array.astype(np.int32)

    refuse_iterator(mask)
    if isinstance(mask, (list, tuple)) and all(np.isscalar(leaf) for leaf in jax.tree.leaves(mask)):
        mask = np.asarray(mask)
    return jax.tree.map(one, mask)


def coefficient_mask(mask, structure, widths, outputs: tuple[int, ...]) -> np.ndarray:
    """Return a mask over all coefficients, (features, *outputs), bool.

    A leaf may have the shape of its coefficients, or, for a pytree, one entry per neuron.

    Raises
    ------
    TypeError
        If the structure differs from that of the coefficients.
    ValueError
        If a shape differs.
    """
    if mask is None:
        return np.ones((sum(widths), *outputs), dtype=bool)
    leaves, given = jax.tree.flatten(mask)
    if given != structure:
        raise TypeError(
            f"`feature_mask` must have the structure of X, {structure}, but has the structure {given}."
        )
    parts = []
    is_tree = structure != jax.tree.structure(0)
    for leaf, width in zip(leaves, widths, strict=True):
        shape = (width, *outputs)
        if leaf.shape == shape:
            parts.append(leaf.astype(bool))
        elif is_tree and leaf.shape == outputs[:1]:
            per_neuron = leaf.reshape((1, -1) + (1,) * (len(outputs) - 1))
            parts.append(np.broadcast_to(per_neuron, shape).astype(bool))
        else:
            expected = f"{shape} or {outputs[:1]}" if is_tree else f"{shape}"
            raise ValueError(f"`feature_mask` has shape {leaf.shape}, but {expected} was expected.")
    return np.concatenate(parts, axis=0)
