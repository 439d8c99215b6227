"""Values as users have them: arrays of any kind, masked or nullable, and data frames; and the names of their columns.

Data frames are read through narwhals, which knows pandas, polars and others. Everything becomes NumPy here.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = [
    "Names", "check_names", "check_texts", "column_names", "did_you_mean", "epochs", "is_missing", "is_one_of",
    "neuron_names", "refuse_iterator", "require_y", "strengths", "time_indexed", "to_labels", "to_numeric",
]  # fmt: skip


def to_numeric(value, name: str) -> np.ndarray:
    """Return `value` as a floating-point array: float32 stays, everything else numeric becomes float64.

    Missing entries (masked, None, NA) become NaN. Booleans are zeros and ones.

    Parameters
    ----------
    value : array-like, data frame or series
    name
        What to call it in errors.

    Raises
    ------
    TypeError
        If it is not numeric; the error names the columns of a data frame.
    """
    if _is_sparse(value):
        raise TypeError(
            f"`{name}` is a sparse matrix, but dense data is required. Pass `{name}.toarray()`."
        )
    native = _narwhals(value, name)
    if native is not None:
        return _of_frame(native, name) if hasattr(native, "columns") else _of_series(native, name)
    if isinstance(value, np.ma.MaskedArray):
        whole = _numbers(value.filled(), name)
        return np.where(np.ma.getmaskarray(value), whole.dtype.type(np.nan), whole)
    return _numbers(np.asarray(value), name)


def to_labels(value) -> np.ndarray:
    """Return class labels as an array; what is masked becomes None.

    Raises
    ------
    ValueError
        If there are none.
    """
    require_y(value)
    native = _narwhals(value, "y")
    if native is not None:
        return native.to_numpy()
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        return np.where(np.ma.getmaskarray(value), None, value.data.astype(object))
    return np.asarray(value)


def require_y(y) -> None:
    """Raise a ValueError if there are no responses."""
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")


def refuse_iterator(value) -> None:
    """Raise a TypeError for a generator and the like, of which JAX's trees know nothing."""
    if isinstance(value, Iterator):
        raise TypeError(
            f"A {type(value).__name__} was given, which is gone after one pass. Pass an array, `np.array(list(...))`."
        )


def is_one_of(value: Any, known: Iterable) -> bool:
    """Return whether a value is one of a few words, truths and None; anything may be asked, arrays and frames too."""
    return any(value is each or (isinstance(value, str) and value == each) for each in known)


def _is_sparse(value) -> bool:
    # scipy.sparse may not be loaded: then nothing of it can have come here
    return type(value).__module__.startswith("scipy.sparse") and hasattr(value, "toarray")


def _narwhals(value, name: str):
    """Return a data frame or a series as narwhals sees it, None for anything else."""
    array = isinstance(value, (np.ndarray, jax.Array, list, tuple, dict, int, float))
    if array or value is None or hasattr(value, "time_support"):
        return None
    import narwhals as nw

    if hasattr(value, "columns") and not hasattr(value, "collect"):
        _refuse_twice(list(value.columns), name)
    found = nw.from_native(value, pass_through=True, allow_series=True)
    if isinstance(found, nw.LazyFrame):
        found = found.collect()
    return found if isinstance(found, (nw.DataFrame, nw.Series)) else None


def _of_frame(frame, name: str) -> np.ndarray:
    if not frame.columns:
        return np.empty(frame.shape)
    columns = [_of_series(each, f"{name}[{each.name!r}]") for each in frame.iter_columns()]
    return np.stack(columns, axis=1) if len(columns) > 1 else columns[0][:, None]


def _of_series(series, name: str) -> np.ndarray:
    import narwhals as nw

    kind = series.dtype
    if kind.is_numeric() or kind == nw.Boolean:
        width = nw.Float32 if kind == nw.Float32 else nw.Float64
        values = series.cast(width).to_numpy()
        return _numbers(values, name)
    if kind == nw.Object:
        return _numbers(series.to_numpy(), name)
    raise TypeError(
        f"`{name}` must be numeric, but has dtype {kind}. Encode categories as numbers first, "
        "for instance with `pandas.get_dummies` or `sklearn.preprocessing.OneHotEncoder`."
    )


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind == "O":
        array = _of_objects(array, name)
    if array.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: `{name}` has dtype {array.dtype}. Pass its real part, or modulus and phase "
            "as two features."
        )
    if array.dtype.kind not in "fiub" and str(array.dtype) != "bfloat16":
        raise TypeError(
            f"`{name}` must be array-like with a numeric dtype, but has dtype {array.dtype}. "
            "Encode categories as numbers first."
        )
    low = array.dtype.itemsize <= 4 and array.dtype.kind not in "iub"
    return np.asarray(array, dtype=np.float32 if low else np.float64)


def _of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Return objects that are numbers, or missing, as float64."""
    flat = np.empty(array.size)
    for i, each in enumerate(array.flat):
        if is_missing(each):
            flat[i] = np.nan
        elif isinstance(each, (numbers.Real, np.bool_)):
            flat[i] = _float(each, name)
        else:
            raise TypeError(
                f"`{name}` must be array-like with a numeric dtype, but has dtype object and holds {each!r}. "
                "Each argument must be a number (a string that looks like a number is made one by `astype(float)`); "
                "encode categories as numbers first."
            )
    return flat.reshape(array.shape)


def _float(each, name: str) -> float:
    try:
        return float(each)
    except OverflowError as error:
        raise ValueError(f"`{name}` holds an integer that is too large for float64.") from error


def is_missing(each: Any) -> bool:
    """Return whether an object stands for a missing value: None, NaN, or pandas' NA and NaT."""
    if each is None or type(each).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(each, (float, np.floating)) and bool(np.isnan(each))


def column_names(value, name: str = "X") -> tuple[str, ...] | None:
    """Return the names of the columns of a data frame (or a pynapple frame); None if there are none.

    As in scikit-learn, columns that are all numbered have no names.

    Raises
    ------
    TypeError
        If some names are strings and others are not.
    ValueError
        If two columns have one name.
    """
    if isinstance(value, (np.ndarray, jax.Array)) or not hasattr(value, "columns"):
        return None
    names = list(value.columns)
    strings = [isinstance(each, str) for each in names]
    if not any(strings):
        return None
    if not all(strings):
        kinds = sorted({type(each).__name__ for each in names})
        raise TypeError(
            f"The columns of `{name}` must all have names that are strings, or none, but there are {kinds}. "
            f"Feature names are only supported if all are strings: use `{name}.columns = {name}.columns.astype(str)`."
        )
    _refuse_twice(names, name)
    check_texts(names, f"columns of `{name}`")
    return tuple(map(str, names))


def check_texts(names: Iterable, what: str) -> None:
    """Raise a ValueError for a text that files cannot hold: with a NUL, or with half a surrogate pair."""
    for each in names:
        if isinstance(each, str) and ("\0" in each or any("\ud800" <= c <= "\udfff" for c in each)):
            raise ValueError(
                f"The {what} must have names that can be written to files, but {each!r} has a NUL or half a surrogate "
                "pair in it. Rename it."
            )


def _refuse_twice(names: list, name: str) -> None:
    twice = sorted({str(each) for each in names if names.count(each) > 1})
    if twice:
        raise ValueError(f"`{name}` has more than one column named {_some(twice)}. Rename them.")


def time_indexed(*values):
    """Return the first of some values, or of their leaves, that is a pynapple object with a time index, or None."""
    leaves = (each for value in values for each in (value, *jax.tree.leaves(value)))
    has_times = lambda each: hasattr(each, "time_support") and hasattr(each, "t")  # noqa: E731
    return next(filter(has_times, leaves), None)


def epochs(indexed) -> np.ndarray:
    """Return the index of the epoch of its time support to which each row of a pynapple object belongs."""
    starts = np.asarray(indexed.time_support.start)
    return np.searchsorted(starts, np.asarray(indexed.t), side="right") - 1


class Names(NamedTuple):
    """Names that a fit was given: those of each leaf of X, and those of the neurons; None for none."""

    features: tuple[tuple[str, ...] | None, ...] | None = None
    neurons: tuple | None = None

    def of_neurons(self, n_neurons: int | None) -> list | None:
        """Return a label for each neuron; None for a model of one response."""
        if n_neurons is None:
            return None
        return list(range(n_neurons) if self.neurons is None else self.neurons)


def neuron_names(y) -> tuple | None:
    """Return the labels of the columns of a data frame (or a pynapple frame) of responses; None if just numbered.

    Raises
    ------
    ValueError
        If two columns have one label.
    """
    if isinstance(y, (np.ndarray, jax.Array)) or not hasattr(y, "columns"):
        return None
    labels = [each.item() if isinstance(each, np.generic) else each for each in y.columns]
    if labels == list(range(len(labels))):
        return None
    plain = all(type(each) is int and abs(each) < 1 << 63 for each in labels)
    labels = labels if plain else list(map(str, labels))  # 1 and "1" look the same
    _refuse_twice(labels, "y")
    check_texts(labels, "columns of `y`")
    return tuple(labels)


def check_names(given, fitted, what: str) -> None:
    """Raise a ValueError if names differ from those of the fit; names on one side only pass."""
    if given is None or fitted is None or tuple(given) == tuple(fitted):
        return
    new, gone = [n for n in given if n not in fitted], [n for n in fitted if n not in given]
    if new or gone:
        parts = [f"unknown: {_some(new)}"] * bool(new) + [f"missing: {_some(gone)}"] * bool(gone)
        detail = "; ".join(parts)
    else:
        detail = f"they are in another order, {_some(given)} instead of {_some(fitted)}"
    raise ValueError(
        f"The names of the {what} are not those of the fit: {detail}. Select the columns by name, in the order of "
        "the fit."
    )


def _some(names: Iterable, most: int = 5) -> str:
    names = list(names)
    return ", ".join(repr(n) for n in names[:most]) + (", ..." if len(names) > most else "")


def did_you_mean(name, known: Iterable[str]) -> str:
    """Return a question that names the closest of the known names, or nothing."""
    lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.6)
    return f" Did you mean {lower[close[0]]!r}?" if close else ""


def strengths(value, name: str):
    """Return numbers, arrays, and pytrees of them as floats and float arrays.

    Raises
    ------
    TypeError
        If something is not numeric.
    ValueError
        If a number is negative or not finite.
    """
    if isinstance(value, (list, tuple)):
        value = _as_array(value, name)
    if isinstance(value, dict) or not _is_leaf(value):
        return jax.tree.map(lambda leaf: strengths(leaf, name), value, is_leaf=_is_array_like)
    array = _as_array(value, name)
    if not np.all(np.isfinite(array)) or np.any(array < 0):
        raise ValueError(f"`{name}` must be finite and non-negative, but {value!r} was given.")
    return float(array) if array.ndim == 0 else array


def _is_array_like(value) -> bool:
    return isinstance(value, (list, tuple)) or hasattr(value, "__array__")


def _is_leaf(value) -> bool:
    return jax.tree_util.all_leaves([value])


def _as_array(value, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise TypeError
        return array.astype(float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be a number, an array, or a dict of these that mirrors the coefficients, "
            f"but {value!r} was given."
        ) from error
