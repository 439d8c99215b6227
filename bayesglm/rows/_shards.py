"""The rows of a design, cut into shards: one for each core, or as many as fit a file that is read piece by piece.

JAX takes an array in memory without copying it if its address is a multiple of 64 bytes, which NumPy does
not promise. A :class:`Matrix` therefore consists of the aligned part of the memory of X, and of copies of
its first and last rows, where alignment cuts something off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from tqdm.auto import tqdm

_ALIGNMENT = 64
#: Longest row block.
MAX_BLOCK_ROWS = 1024
# Rows of the copies at both ends: what a block may touch beyond the aligned part, which misses up to 16 entries.
_END_ROWS = MAX_BLOCK_ROWS + 16
# Work (rows times features and lanes) below which starting a second thread does not pay.
_WORK_PER_SHARD = 400_000
# Lanes that are computed together; finished ones stop costing in units of this.
_CHUNK_LANES = 32
# Bytes up to which rows are copied in order to fill them up: in less time than a program takes to compile.
_FILL_BYTES = 1 << 25
# Seconds that a pass over a file takes before there is a bar of it.
_DELAY = 1.0


def filled_length(n_rows: int, n_bytes: int) -> int:
    """Return the number of rows to compute with, so that a few lengths, and programs, serve all.

    It is the next of eight lengths between powers of two, at most an eighth more; beyond 32 MB each length is its own.
    """
    if n_bytes > _FILL_BYTES:
        return n_rows
    step = 1 << max(0, (n_rows - 1).bit_length() - 4)
    return -(-n_rows // step) * step


def fill(array: np.ndarray, n_rows: int, value=None) -> np.ndarray:
    """Return an array filled up to `n_rows` rows with its last row, or with a value."""
    if len(array) == n_rows:
        return array
    more = array[-1:] if value is None else np.asarray(value, array.dtype)
    more = np.broadcast_to(more, (n_rows - len(array), *array.shape[1:]))
    return np.concatenate([array, more])


class Matrix(NamedTuple):
    """Rows (rows, features) in memory, of which JAX needs no copy."""

    first: Any  # the first rows, or all of them
    last: Any = None  # as many of the last rows
    flat: Any = None  # entries from the first aligned address on
    lead: Any = None  # number of entries before it

    @classmethod
    def of(cls, X: np.ndarray) -> Matrix:
        """Return the matrix of a C-contiguous array."""
        if len(X) <= 2 * _END_ROWS:
            return cls(X)
        step = _ALIGNMENT // X.itemsize
        lead = -X.ctypes.data % _ALIGNMENT // X.itemsize
        # Of one length wherever the memory begins, so that nothing is compiled anew.
        flat = X.reshape(-1)[lead : lead + X.size - step]
        return cls(X[:_END_ROWS], X[-_END_ROWS:], flat, np.int32(lead))

    def rows(self, start, size: int, n_rows: int):
        """Return `size` rows from `start` on, of all `n_rows`."""
        if self.flat is None:
            return lax.dynamic_slice_in_dim(self.first, start, size, 0)
        n_features = self.first.shape[1]
        # Position of the first row of each part; 64 bits, as a flat array may have more than 2**31 entries.
        last = n_rows - _END_ROWS

        def middle():
            begin = start.astype(jnp.int64) * n_features - self.lead
            block = lax.dynamic_slice_in_dim(self.flat, begin, size * n_features)
            return block.reshape(size, n_features)

        which = jnp.where(start + size <= _END_ROWS, 0, jnp.where(start >= last, 1, 2))
        return lax.switch(
            which,
            [
                lambda: lax.dynamic_slice_in_dim(self.first, start, size, 0),
                lambda: lax.dynamic_slice_in_dim(self.last, start - last, size, 0),
                middle,
            ],
        )


class Data(NamedTuple):
    """The rows of a shard. Shapes: X (rows, features), the others with the rows last.

    Lanes are the entries of y, weight and offset in order; or, with `which`, each lane names its entry. What rows a
    lane leaves out, `fold` says with a byte a row: rows that bear its number, in any line of `fold`.
    """

    X: Matrix
    y: Any  # (lanes, responses, rows)
    weight: Any  # (lanes or 1, responses or 1, rows)
    offset: Any  # (lanes or 1, columns or 1, rows), or None
    scale: Any  # (lanes, responses, 1): dispersion of the family where it enters the loss
    which: Any = None  # (lanes,): entry of y, weight and offset; None where these are the lanes
    left_out: Any = None  # (lanes,): number of a fold, -1 for none; beside `which` only
    fold: Any = None  # (lines, rows), bytes: the fold that tests a row, and others that do not train with it

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and features."""
        return self.y.shape[-1], self.X.first.shape[1]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), "bayesglm")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuts(n_rows: int, work_per_row: int) -> int:
    """Return the number of shards that pays for so many rows in memory."""
    most = min(cores(), n_rows // (4 * MAX_BLOCK_ROWS), n_rows * work_per_row // _WORK_PER_SHARD)
    return max(1, most)


def chunks_of(lanes: int) -> int:
    """Return the number of chunks that so many lanes are cut into."""
    return -(-lanes // _CHUNK_LANES)


def even(n_rows: int, pieces: int) -> list[tuple[int, int, int]]:
    """Cut rows into pieces of one length: begin, end, and the first row that no earlier piece has."""
    size = -(-n_rows // pieces)
    return [
        (min(new, n_rows - size), min(new + size, n_rows), new) for new in range(0, n_rows, size)
    ]


# Programs with the shapes that they have been compiled for. Two threads would compile the same one twice.
_compiled: set = set()


@dataclass(frozen=True)
class Shards:
    """All rows of a number of lanes.

    Parameters
    ----------
    parts
        Rows of each shard, all of one shape; or functions that read them from a file.
    n_rows
        Number of rows of all shards together.
    width, n_chunks
        Number of lanes in the parts, of which only the first may be in use, and of chunks that they consist of.
    dtype
        Precision of the rows.
    centre : (features,)
        Something close to the mean of the features.
    small
        Whether the rows are so few that they are left to NumPy, and passes over them compile nothing.
    named : bool
        Whether lanes name their responses; see :class:`Data`.
    """

    parts: tuple[Data | Callable[[], Data], ...]
    n_rows: int
    width: int
    n_chunks: int
    dtype: np.dtype
    centre: np.ndarray
    small: bool = False
    named: bool = False

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.centre)

    @property
    def stored(self) -> bool:
        """Whether the rows are read from a file in every pass."""
        return callable(self.parts[0])

    @property
    def chunk(self) -> int:
        """Number of lanes that are computed together."""
        return self.width // self.n_chunks

    def padded(self, array):
        """Return an array of the lanes in use with as many as the parts have."""
        extra = self.width - len(array)
        if not extra:
            return np.asarray(array)
        return np.pad(array, [(0, extra)] + [(0, 0)] * (np.ndim(array) - 1))

    def map(self, program: Callable, combine: Callable, key):
        """Return the combined results of a program on each shard, as NumPy arrays.

        Parameters
        ----------
        program
            Function of a shard.
        combine
            Function of two results.
        key
            What the program is compiled for, rows aside.
        """

        def run(part):
            # These scopes belong to a thread.
            with jax.enable_x64(True), np.errstate(all="ignore"):
                data = part() if callable(part) else part
                return jax.tree.map(np.asarray, program(data))

        if len(self.parts) == 1:
            return run(self.parts[0])
        length = self.n_rows if self.stored else self.parts[0].shape[0]
        key = (*key, self.n_features, self.dtype, length, len(self.parts), self.named)
        # Two threads would compile the same program twice.
        alone = 0 if key in _compiled else 1
        results = [run(part) for part in self.parts[:alone]]
        _compiled.add(key)
        results += self._side_by_side(run, self.parts[alone:])
        return reduce(combine, results)

    def _side_by_side(self, run, parts) -> list:
        jobs = _pool().map(run, parts[:-1])
        last = run(parts[-1])
        if not self.stored:
            return [*jobs, last]
        bar = tqdm(
            total=self.n_rows, unit="rows", unit_scale=True, leave=False, disable=None, delay=_DELAY
        )  # fmt: skip
        with bar:
            results = [last]
            for result in jobs:
                results.append(result)
                bar.update(self.n_rows // len(parts))
        return results

    def with_scale(self, scale) -> Shards:
        """Return the rows with other dispersions (width, responses)."""
        return self._having([{"scale": np.asarray(scale[..., None], self.dtype)}] * len(self.parts))

    def _having(self, changes) -> Shards:
        """Return the rows with other arrays, one dictionary of these for each part."""
        if not self.small:
            changes = jax.device_put(changes)
        parts = (
            partial(_read_changed, part, more) if callable(part) else part._replace(**more)
            for part, more in zip(self.parts, changes, strict=True)
        )
        return replace(self, parts=tuple(parts))

    def with_folds(self, fold) -> Shards:
        """Return the rows with their folds, uint8 (lines, rows with those that fill them up); see :class:`Data`."""
        ends = even(fold.shape[1], len(self.parts))
        return self._having([{"fold": fold[:, begin:end]} for begin, end, _ in ends])

    def naming(self, which, left_out) -> Shards:
        """Return the rows of lanes each of which names its response, and the fold that it leaves out.

        Responses, weights and offsets are kept once. Dispersions are to follow: :meth:`with_scale`.

        Parameters
        ----------
        which, left_out : int arrays (lanes,)
            Response, and fold or -1.
        """
        n_chunks = chunks_of(len(which))
        extra = -len(which) % n_chunks
        names = {"which": which, "left_out": left_out}
        names = {k: np.resize(a, len(a) + extra).astype(np.int32) for k, a in names.items()}
        found = self._having([names] * len(self.parts))
        return replace(found, width=len(which) + extra, n_chunks=n_chunks, named=True)

    def select(self, keep) -> Shards:
        """Return the shards with the given lanes first."""
        rest = np.setdiff1d(np.arange(self.width), keep)
        order = np.concatenate([keep, rest])
        parts = (
            partial(_read_lanes, part, order) if callable(part) else _lanes(part, order)
            for part in self.parts
        )
        return replace(self, parts=tuple(parts))


# What lanes have, one entry each: where they name their rows, these need not move.
_PER_LANE = ("y", "weight", "offset", "scale")
_NAMED = ("scale", "which", "left_out")


@jax.jit
def _taken(array, order):
    return jnp.take(array, order, axis=0)


def _take(array, order):
    return array[order] if isinstance(array, np.ndarray) else _taken(array, order)


def _lanes(data: Data, order) -> Data:
    """Return the rows with their lanes in another order."""
    names = _PER_LANE if data.which is None else _NAMED
    arrays = {name: getattr(data, name) for name in names}
    some = lambda a: a if a is None or a.shape[0] == 1 else _take(a, order)  # noqa: E731
    return data._replace(**{name: some(array) for name, array in arrays.items()})


def _read_changed(part, changes) -> Data:
    return part()._replace(**changes)


def _read_lanes(part, order) -> Data:
    return _lanes(part(), order)
