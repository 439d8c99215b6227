"""Ways to hold the same numbers and labels. The values to be held are exact in every precision."""

import tempfile

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pynapple as nap


class Own:
    """What says by NumPy's protocol that it is an array."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype or self.values.dtype)


class Guarded:
    """Something like an HDF5 data set, which hands out slices of rows, few rows at a time, and counts them."""

    chunks = None

    def __init__(self, X, most):
        self.X, self.shape, self.dtype, self.most, self.reads = X, X.shape, X.dtype, most, 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        part = self.X[rows]
        assert len(part) <= self.most, "read whole"
        self.reads += 1
        return part

    def __array__(self, *_, **__):
        raise AssertionError("read whole")


def frame(values, names=None):
    """Return a data frame of a matrix, a series of a vector, whose index means nothing."""
    values = np.asarray(values)
    index = np.random.default_rng(len(values)).permutation(len(values))
    if values.ndim == 1:
        return pd.Series(values, index=index)
    return pd.DataFrame(values, index, names or [f"c{i}" for i in range(values.shape[1])])


def polar(values, nulls=False):
    """Return a frame or a series of polars."""
    values = np.asarray(values)
    if values.ndim == 1:
        return pl.Series(values, nan_to_null=nulls)
    columns = {f"c{i}": pl.Series(each, nan_to_null=nulls) for i, each in enumerate(values.T)}
    return pl.DataFrame(columns)


def masked(values):
    """Return the same, with garbage where something is missing."""
    missing = np.isnan(values)
    return np.ma.array(np.where(missing, 1e30, values), mask=missing)


def objects(values):
    """Return numbers as Python's own, and None where one is missing."""
    found = np.array(values, dtype=object)
    found[np.isnan(values)] = None
    return found


def on_disk(values):
    """Return a memory map of a file that goes with it."""
    with tempfile.TemporaryFile() as file:
        file.write(np.ascontiguousarray(values).tobytes())
        file.flush()
        return np.memmap(file, values.dtype, "r", shape=values.shape)


def timed(values):
    """Return values on a time axis."""
    kind = nap.Tsd if values.ndim == 1 else nap.TsdFrame
    return kind(t=np.arange(len(values)) / 100.0, d=np.array(values))


def mixed(values):
    """Return truths in columns of several types."""
    held = frame(values)
    return held if held.ndim == 1 else held.astype(dict(zip(held, (bool, "Int8"), strict=False)))


#: Ways to hold numbers, (rows,) or (rows, columns), some of them missing (NaN).
NUMBERS = {
    "float64": lambda a: np.array(a),
    "columns first": lambda a: np.asfortranarray(a),
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: np.array(a[::-1])[::-1],
    "read only": lambda a: np.broadcast_to(a[None], (1, *a.shape))[0],
    "other bytes": lambda a: a.astype(">f8"),
    "long": lambda a: a.astype(np.longdouble),
    "masked": masked,
    "objects": objects,
    "lists": lambda a: a.tolist(),
    "on disk": on_disk,
    "its own kind": Own,
    "pandas": frame,
    "pandas, numbered": lambda a: (pd.Series if a.ndim == 1 else pd.DataFrame)(a),
    "pandas, nullable": lambda a: frame(a).astype("Float64"),
    "pandas, objects": lambda a: frame(objects(a)),
    "polars": polar,
    "polars, nulls": lambda a: polar(a, nulls=True),
    "pynapple": timed,
}
#: Ways that hold them in single precision.
SINGLE = {
    "float32": lambda a: a.astype(np.float32),
    "float16": lambda a: a.astype(np.float16),
    "jax": lambda a: jnp.asarray(a, jnp.float32),
    "bfloat16": lambda a: jnp.asarray(a, jnp.bfloat16),
    "masked float32": lambda a: masked(a).astype(np.float32),
    "pandas float32": lambda a: frame(a).astype("float32"),
    "pandas Float32": lambda a: frame(a).astype("Float32"),
    "polars float32": lambda a: polar(a.astype(np.float32)),
}
#: Ways that hold whole numbers, none of them missing.
WHOLE = {
    "int64": lambda a: a.astype(int),
    "int8": lambda a: a.astype(np.int8),
    "jax int32": lambda a: jnp.asarray(a, int),
    "masked int": lambda a: np.ma.array(a.astype(int)),
    "lists of int": lambda a: a.astype(int).tolist(),
    "objects, int": lambda a: a.astype(int).astype(object),
    "pandas int": lambda a: frame(a).astype("int32"),
    "pandas Int64": lambda a: frame(a).astype("Int64"),
    "polars int": lambda a: polar(a.astype(np.int16)),
}
#: Ways that hold truths.
TRUTHS = {
    "uint8": lambda a: a.astype(np.uint8),
    "bool": lambda a: a.astype(bool),
    "jax bool": lambda a: jnp.asarray(a, bool),
    "masked bool": lambda a: np.ma.array(a.astype(bool)),
    "objects, bool": lambda a: a.astype(bool).astype(object),
    "pandas bool": lambda a: frame(a).astype(bool),
    "pandas boolean": lambda a: frame(a).astype("boolean"),
    "mixed columns": mixed,
    "polars bool": lambda a: polar(a.astype(bool)),
}


def hidden(values):
    """Return labels with garbage under a mask where one is missing."""
    missing = np.vectorize(lambda v: v is None, otypes=[bool])(values)
    some = values[~missing].ravel()[0]
    filled = np.array(np.where(missing, some, values).tolist())
    return np.ma.array(filled, mask=missing)


def categories(values):
    """Return labels as categories of pandas."""
    held = frame(values)
    return held.astype("category")


def polar_labels(values, kind=None):
    """Return labels as a frame or a series of polars."""
    if values.ndim == 1:
        return pl.Series(values.tolist(), dtype=kind)
    return pl.DataFrame(
        {f"c{i}": pl.Series(v.tolist(), dtype=kind) for i, v in enumerate(values.T)}
    )


#: Ways to hold labels of any kind (an object array, None where one is missing).
LABELS = {
    "objects": lambda a: a,
    "lists": lambda a: a.tolist(),
    "NaN": lambda a: np.where(np.equal(a, None), np.nan, a),
    "NA": lambda a: np.where(np.equal(a, None), pd.NA, a),
    "masked": hidden,
    "pandas": lambda a: frame(a),
    "pandas, inferred": lambda a: frame(a).infer_objects(),
    "pandas, nullable": lambda a: frame(a).convert_dtypes(),
    "pandas, categories": categories,
    "polars": polar_labels,
    "polars, categories": lambda a: polar_labels(
        a, pl.Categorical if isinstance(a.ravel()[0], str) else None
    ),
}
#: Ways to hold labels of which none is missing, beside the others.
COMPLETE_LABELS = {
    "array": lambda a: np.array(a.tolist()),
    "Fortran": lambda a: np.asfortranarray(a.tolist()),
}
