"""Precision matrices as operators: what a normal prior needs of them, at the price of their structure.

They may be singular: a prior is flat on the null space of its precision.
"""

from __future__ import annotations

import abc
import math
from functools import cached_property

import jax
import numpy as np
from scipy.linalg import eigvals_banded

# Rounding of a matrix that is symmetric and has no negative eigenvalue, relative to its largest entry or eigenvalue.
_ROUNDING = 1e-10


class Precision(abc.ABC):
    """A symmetric matrix without negative eigenvalues.

    ``P @ x`` and :meth:`along` take NumPy and JAX arrays. Arrays of an operator may have a leading axis of length one,
    as all arrays of priors in lane form have.
    """

    _arrays: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_node(cls, cls._flatten, cls._unflatten)

    def _flatten(self):
        return tuple(getattr(self, name) for name in self._arrays), ()

    @classmethod
    def _unflatten(cls, _, arrays):
        new = object.__new__(cls)
        new.__dict__.update(zip(cls._arrays, arrays, strict=True))
        return new

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of rows."""

    @abc.abstractmethod
    def along(self, x):
        """Return the product with the last axis of an array."""

    @abc.abstractmethod
    def diagonal(self):
        """Return the diagonal, (size,)."""

    @abc.abstractmethod
    def dense(self):
        """Return the matrix, (size, size)."""

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues in any order."""
        return np.linalg.eigvalsh(self.dense())

    def __matmul__(self, x):
        """Return the product with the first axis of an array."""
        xp = np if isinstance(x, np.ndarray) else jax.numpy
        return xp.moveaxis(self.along(xp.moveaxis(x, 0, -1)), -1, 0)

    def _positive(self) -> np.ndarray:
        values = self.eigenvalues
        return values[values > len(values) * np.finfo(float).eps * np.max(values, initial=0.0)]

    @cached_property
    def rank(self) -> int:
        """Number of eigenvalues that are not zero."""
        return len(self._positive())

    def log_det(self, strength=1.0):
        """Return the log-determinant on the range, of `strength` times the matrix; of the shape of `strength`."""
        own = float(np.sum(np.log(self._positive())))
        with np.errstate(divide="ignore"):
            return own + self.rank * np.log(strength) if self.rank else 0.0 * np.asarray(strength)

    def null_space(self) -> np.ndarray:
        """Return orthonormal columns that span the null space, (size, size - rank)."""
        return np.linalg.eigh(self.dense())[1][:, : self.size - self.rank]

    def trace(self, covariance):
        """Return the trace of the product with symmetric matrices (..., size, size)."""
        return np.sum(np.asarray(self.dense()) * covariance, axis=(-2, -1))

    def restricted(self, used) -> Precision:
        """Return the operator on some of the rows, given as a bool array: that given that the others are zero."""
        if np.all(used):
            return self
        return Dense(np.asarray(self.dense())[np.ix_(used, used)])

    def _check(self) -> None:
        values = self.eigenvalues
        if np.min(values, initial=0.0) < -_ROUNDING * np.max(np.abs(values), initial=0.0):
            raise ValueError(
                f"A precision must have no negative eigenvalue, but that of size {self.size} has {values.min():.4g} "
                f"(the largest is {values.max():.4g}). Use a matrix of the form A.T @ A."
            )


def _numbers(values, name: str, ndim: int) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != ndim or not np.isfinite(values).all():
        raise ValueError(
            f"{name} must be {ndim}-dimensional and finite, but has shape {values.shape} and "
            f"{np.sum(~np.isfinite(values))} entries that are not finite."
        )
    return values


def _plain(array, ndim: int):
    """Drop leading axes of length one."""
    return array.reshape(array.shape[-ndim:])


class Diagonal(Precision):
    """A diagonal matrix.

    Parameters
    ----------
    values : array (size,)
        Non-negative.
    """

    _arrays = ("values",)

    def __init__(self, values):
        self.values = _numbers(values, "A diagonal precision", 1)
        self._check()

    @property
    def size(self):
        """Number of rows."""
        return self.values.shape[-1]

    @cached_property
    def eigenvalues(self):
        """The diagonal."""
        return np.asarray(self.diagonal())

    def along(self, x):
        """Return the product with the last axis of an array."""
        return self.diagonal() * x

    def diagonal(self):
        """Return the diagonal, (size,)."""
        return _plain(self.values, 1)

    def dense(self):
        """Return the matrix, (size, size)."""
        return np.diag(self.diagonal())


class Dense(Precision):
    """A matrix, entry by entry.

    Parameters
    ----------
    matrix : array (size, size)
        Symmetric, without negative eigenvalues.
    """

    _arrays = ("matrix",)

    def __init__(self, matrix):
        matrix = _numbers(matrix, "A precision", 2)
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"A precision must be square, but has shape {matrix.shape}.")
        off = np.max(np.abs(matrix - matrix.T), initial=0.0)
        if off > _ROUNDING * np.max(np.abs(matrix), initial=0.0):
            raise ValueError(
                f"A precision must be symmetric, but differs from its transpose by up to {off:.4g}. "
                "Use (P + P.T) / 2 if only the quadratic form matters."
            )
        self.matrix = 0.5 * (matrix + matrix.T)
        self._check()

    @property
    def size(self):
        """Number of rows."""
        return self.matrix.shape[-1]

    def along(self, x):
        """Return the product with the last axis of an array."""
        return x @ self.dense()

    def diagonal(self):
        """Return the diagonal, (size,)."""
        return self.dense().diagonal()

    def dense(self):
        """Return the matrix, (size, size)."""
        return _plain(self.matrix, 2)


class Banded(Precision):
    """A band matrix: the diagonal and a few below it, of which those above are the mirror.

    Parameters
    ----------
    bands : array (bands, size)
        Row k holds the entries k below the diagonal; its last k entries are not used.
    """

    _arrays = ("bands",)

    def __init__(self, bands):
        bands = _numbers(bands, "The bands of a precision", 2)
        if len(bands) > bands.shape[1]:
            raise ValueError(
                f"{len(bands)} bands are more than the {bands.shape[1]} rows of the matrix."
            )
        self.bands = bands
        self._check()

    @property
    def size(self):
        """Number of rows."""
        return self.bands.shape[-1]

    @cached_property
    def eigenvalues(self):
        """Eigenvalues in ascending order."""
        return eigvals_banded(np.asarray(_plain(self.bands, 2)), lower=True)

    def along(self, x):
        """Return the product with the last axis of an array."""
        xp = np if isinstance(x, np.ndarray) else jax.numpy
        bands, n = _plain(self.bands, 2), self.size
        pad = lambda a, left, right: xp.pad(a, [(0, 0)] * (x.ndim - 1) + [(left, right)])  # noqa: E731
        total = bands[0] * x
        for k in range(1, len(bands)):
            band = bands[k, : n - k]
            total = total + pad(band * x[..., k:], 0, k) + pad(band * x[..., : n - k], k, 0)
        return total

    def diagonal(self):
        """Return the diagonal, (size,)."""
        return _plain(self.bands, 2)[0]

    def dense(self):
        """Return the matrix, (size, size)."""
        bands, n = np.asarray(_plain(self.bands, 2)), self.size
        below = sum(np.diag(bands[k, : n - k], -k) for k in range(1, len(bands)))
        return np.diag(bands[0]) + below + np.transpose(below)


class Pinned(Precision):
    r"""A precision that leaves a common change of all features free, and a curvature along that: :math:`P + a 11'`.

    Parameters
    ----------
    precision : Precision
        P, with ``P @ 1 = 0``.
    rate : float
        The factor a, positive.
    """

    _arrays = ("precision", "rate")

    def __init__(self, precision: Precision, rate: float):
        self.precision, self.rate = precision, np.asarray(float(rate))

    @property
    def size(self):
        """Number of rows."""
        return self.precision.size

    def _positive(self):
        # not found among those of the matrix, by which small ones might be taken for rounding
        return np.append(self.precision._positive(), float(_plain(self.rate, 0)) * self.size)

    def along(self, x):
        """Return the product with the last axis of an array."""
        return self.precision.along(x) + _plain(self.rate, 0) * x.sum(axis=-1, keepdims=True)

    def diagonal(self):
        """Return the diagonal, (size,)."""
        return self.precision.diagonal() + _plain(self.rate, 0)

    def dense(self):
        """Return the matrix, (size, size)."""
        return np.asarray(self.precision.dense()) + np.asarray(_plain(self.rate, 0))

    def null_space(self):
        """Return orthonormal columns that span the null space, (size, size - rank)."""
        inner = self.precision.null_space()
        inner = inner - inner.mean(axis=0)
        return np.linalg.svd(inner, full_matrices=False)[0][:, : self.size - self.rank]


class Kronecker(Precision):
    r"""Kronecker sum or product of precisions, for features that lie on a grid, the last axis fastest.

    The sum :math:`A \otimes I + I \otimes B` penalises each axis for itself, such as differences in time and in space.

    Parameters
    ----------
    *factors : Precision
        One for each axis.
    kind : "sum" or "product"
    """

    def __init__(self, *factors: Precision, kind: str = "sum"):
        if kind not in ("sum", "product") or not factors:
            raise ValueError(
                f"`kind` must be 'sum' or 'product' of at least one factor, but {kind!r} of {len(factors)} was given."
            )
        self.factors, self.kind = factors, kind

    def _flatten(self):
        return self.factors, self.kind

    @classmethod
    def _unflatten(cls, kind, factors):
        new = object.__new__(cls)
        new.factors, new.kind = tuple(factors), kind
        return new

    @property
    def size(self):
        """Number of rows."""
        return math.prod(factor.size for factor in self.factors)

    @cached_property
    def eigenvalues(self):
        """Sums, or products, of the eigenvalues of the factors."""
        return self._outer([factor.eigenvalues for factor in self.factors])

    def _outer(self, values):
        combine = np.add if self.kind == "sum" else np.multiply
        total = np.asarray(values[0])
        for more in values[1:]:
            total = combine.outer(total, np.asarray(more))
        return total.ravel()

    def along(self, x):
        """Return the product with the last axis of an array."""
        xp = np if isinstance(x, np.ndarray) else jax.numpy
        grid = x.reshape(*x.shape[:-1], *(factor.size for factor in self.factors))
        total, start = None, x.ndim - 1
        for axis, factor in enumerate(self.factors, start):
            source = grid if total is None or self.kind == "sum" else total
            moved = xp.moveaxis(factor.along(xp.moveaxis(source, axis, -1)), -1, axis)
            total = moved if total is None or self.kind == "product" else total + moved
        return total.reshape(x.shape)

    def diagonal(self):
        """Return the diagonal, (size,)."""
        return self._outer([factor.diagonal() for factor in self.factors])

    def dense(self):
        """Return the matrix, (size, size)."""
        return np.asarray(self.along(np.eye(self.size)))
