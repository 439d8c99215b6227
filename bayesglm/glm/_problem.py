"""From what the user passed to what the solvers see.

Everything is checked here, before any computation. A :class:`Problem` has its arrays in the user's orientation; its
methods turn them into lanes (see :mod:`bayesglm._objective`) and back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from bayesglm import _design, links, observation_models
from bayesglm._design import Design, Stored
from bayesglm._input import require_y, to_labels
from bayesglm._objective import Objective, Spec, chunks_of
from bayesglm._shards import Data, Matrix, Shards, cuts, even, fill, filled_length
from bayesglm.labels import MISSING
from bayesglm.prior import Prior

# Rows that the centre of the features is taken from; it only has to be close.
_CENTRE_ROWS = 2048
# The value that stands in for a missing response; it is in the support of every family, and has no weight.
_FILL = 1.0
# From here on float64 has no room for another row.
_MOST_ROWS = 2.0**53
# Neurons that a message names.
_NAMED = 5


@dataclass(frozen=True)
class Rows:
    """Checked rows.

    Parameters
    ----------
    design
        Features; missing entries are zero.
    y : array (samples, neurons)
        Responses, class indices for a classifier; missing entries are filled.
    weight : array (samples, 1) or (samples, neurons)
        Zero for rows that are not used.
    offset : array broadcastable to (samples, neurons[, classes]), or None
    missing : bool array (samples, neurons), or None if nothing is
        Responses that cannot be used, their own value or a feature being missing.
    """

    design: Design
    y: np.ndarray
    weight: np.ndarray
    offset: np.ndarray | None
    missing: np.ndarray | None = None

    @property
    def n(self) -> np.ndarray:
        """Sum of the weights of each neuron."""
        return np.broadcast_to(self.weight.sum(axis=0, dtype=float), self.y.shape[1:])

    def filled(self) -> Rows:
        """Return these rows with others of no weight, so that programs compiled for another number of rows serve."""
        X = self.design.matrix
        arrays = [a for a in (X, self.y, self.weight, self.offset) if a is not None]
        n = (
            len(X)
            if isinstance(X, Stored)
            else filled_length(len(X), sum(a.nbytes for a in arrays))
        )
        if n == len(X):
            return self
        offset = None if self.offset is None else fill(self.offset, n)
        return replace(
            self, design=self.design.with_matrix(fill(X, n)), y=fill(self.y, n),
            weight=fill(self.weight, n, 0), offset=offset,
        )  # fmt: skip

    def left_out(self, neurons=None) -> str:
        """Return in words what was left out because something is missing; empty if nothing was.

        Parameters
        ----------
        neurons : sequence, optional
            Labels.
        """
        if self.missing is None:
            return ""
        whole = self.missing.all(axis=1)
        text = (
            f"{whole.sum()} of {len(whole)} rows left out for missing values" if whole.any() else ""
        )
        single = (self.missing & ~whole[:, None]).sum(axis=0)
        if single.any():
            labels = range(len(single)) if neurons is None else neurons
            some = [str(label) for label, count in zip(labels, single, strict=True) if count]
            named = ", ".join(some[:_NAMED]) + (", ..." if len(some) > _NAMED else "")
            plural = "response" if single.sum() == 1 else "responses"
            text += f"{' and ' if text else ''}{single.sum()} {plural} left out, of neurons {named}"
        return text


def check_y(y: np.ndarray, population: bool) -> np.ndarray:
    """Return the responses as an array (samples, neurons), float or labels.

    Raises
    ------
    ValueError
        If the number of dimensions is wrong.
    """
    if y.ndim != 1 + population:
        wanted = "2-dimensional, (samples, neurons)" if population else "1-dimensional, (samples,)"
        advice = (
            "Use `y[:, None]` for a population of one, or a model of a single neuron."
            if population
            else "Use a population model for several neurons, or `y[:, 0]`."
        )
        raise ValueError(f"`y` must be {wanted}, but has shape {y.shape}. {advice}")
    if len(y) and y.size == 0:
        raise ValueError(f"`y` has no neurons: its shape is {y.shape}. Give one column for each.")
    return y if population else y[:, None]


def check_rows(
    X, y, *, population, encoder=None, observation_model=None, sample_weight=None, offset=None,
    stored=False,
) -> Rows:  # fmt: skip
    """Check features and responses.

    Parameters
    ----------
    stored
        Whether X is left in its file, if it comes from one.

    Raises
    ------
    TypeError
        If something is not numeric.
    ValueError
        If shapes disagree, a response is outside the support, or no row can be used.
    """
    require_y(y)
    design = Design.of(X, stored=stored)
    y = check_y(_design.to_numeric(y, "y") if encoder is None else to_labels(y), population)
    if len(y) != design.n_samples:
        raise ValueError(
            f"`X` and `y` must have the same number of samples, but have {design.n_samples} and {len(y)}."
        )
    dtype = design.matrix.dtype
    if encoder is None:
        y = np.ascontiguousarray(y, dtype)  # sums depend on the layout, in the last digit
        _refuse_infinite(y)
        used = ~np.isnan(y)
        if hasattr(observation_model, "check_support"):
            known = y if used.all() else np.where(used, y, np.nan)
            observation_model.check_support(known if population else known[:, 0])
        y = y if used.all() else np.where(used, y, dtype.type(_FILL))
    else:
        y = encoder.encode(y)
        used = y != MISSING
        y = np.where(used, y, 0).astype(np.int32)
    weight = _check_weight(sample_weight, used.shape).astype(dtype, copy=False)
    if not used.all():
        weight = weight * used
    rows = _design.finite_rows(design.matrix)
    if rows is not None:
        weight = weight * rows[:, None]
        if isinstance(design.matrix, np.ndarray):
            design = design.with_matrix(np.where(np.isfinite(design.matrix), design.matrix, 0))
    if not (weight > 0).any():
        raise ValueError(
            "No sample can be used: there is a NaN or Inf (or a weight of zero) at all sample points of `X` or `y`."
        )
    missing = None
    if rows is not None or not used.all():
        missing = ~used if rows is None else ~(used & rows[:, None])
    return Rows(design, y, weight, check_offset(offset, y.shape, encoder, dtype), missing)


def _refuse_infinite(y) -> None:
    if np.isinf(y).any():
        where = np.unravel_index(np.argmax(np.isinf(y)), y.shape)
        raise ValueError(
            f"`y` must be finite, or NaN where a response is missing, but `y[{int(where[0])}]` of column "
            f"{int(where[1])} is {y[where]} (in {y.dtype}). Correct it, or set it to NaN to leave it out."
        )


def _check_weight(sample_weight, shape):
    if sample_weight is None:
        return np.broadcast_to(np.float32(1.0), (shape[0], 1))
    weight = _design.to_numeric(sample_weight, "sample_weight")
    if weight.shape not in (shape[:1], shape):
        raise ValueError(
            f"`sample_weight` has shape {weight.shape}; expected {shape[:1]} or, for a population, {shape}."
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("`sample_weight` must be finite and non-negative.")
    if weight.sum(dtype=float) > _MOST_ROWS:
        raise ValueError(
            f"`sample_weight` sums to {weight.sum(dtype=float):.3g}, but a weight is the number of times that a row "
            f"counts, and {_MOST_ROWS:.1g} rows cannot be told from one more. Divide the weights by a constant."
        )
    return weight.reshape(shape[0], -1)


def check_offset(offset, shape, encoder, dtype):
    """Return the offset in a shape that broadcasts to (samples, neurons[, classes]).

    Raises
    ------
    ValueError
        If it does not broadcast to the linear predictor, or is not finite.
    """
    if offset is None:
        return None
    offset = _design.to_numeric(offset, "offset").astype(dtype)
    classes = () if encoder is None else (encoder.n_classes,)
    n_samples, n_neurons = shape
    allowed = {(n_samples,): (n_samples, 1), (n_samples, n_neurons): (n_samples, n_neurons)}
    allowed = {given: (*full, *(1 for _ in classes)) for given, full in allowed.items()}
    if classes:
        allowed[n_samples, n_neurons, *classes] = (n_samples, n_neurons, *classes)
        if n_neurons == 1:
            allowed[n_samples, *classes] = (n_samples, 1, *classes)
    if offset.shape not in allowed:
        raise ValueError(
            f"`offset` has shape {offset.shape}; expected one of {sorted(allowed, key=len)}."
        )
    if not np.isfinite(offset).all():
        raise ValueError("`offset` must be finite.")
    return offset.reshape(allowed[offset.shape])


@dataclass(frozen=True)
class Problem:
    """A penalised GLM: rows, family, and the prior with its mask.

    Parameters
    ----------
    prior
        Of coefficients (features, *outputs), and which of these are in use.
    scale : array (neurons,), optional
        Dispersions that enter the loss, in place of the family's.
    """

    rows: Rows
    observation_model: Any
    inverse_link: Any
    n_classes: int | None
    outputs: tuple[int, ...]
    prior: Prior
    scale: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        """Coefficients in use, bool (features, *outputs)."""
        return self.prior.mask

    @property
    def dispersion(self) -> np.ndarray:
        """What enters the loss itself, (neurons,): `scale`, or that of the family; one where it is to be estimated."""
        if self.scale is not None:
            return self.scale
        fixed = getattr(self.observation_model, "scale", None)
        known = fixed is not None and not self.estimates_scale
        return np.full(self.n_neurons, float(fixed or 1.0) if known else 1.0)

    @property
    def estimates_scale(self) -> bool:
        """Whether a dispersion that enters the loss is estimated with the coefficients."""
        return getattr(self.observation_model, "estimates_scale", False)

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return self.rows.y.shape[1]

    @property
    def joint(self) -> bool:
        """Whether a group of the penalty ties neurons together, so that they are one lane."""
        return self.prior.ties(self.n_neurons)

    @property
    def n_lanes(self) -> int:
        """Number of independent problems."""
        return 1 if self.joint else self.n_neurons

    def to_lanes(self, array) -> np.ndarray:
        """Turn (features, *outputs) into (lanes, columns, features)."""
        array = np.asarray(array)
        return np.moveaxis(array.reshape(len(array), self.n_lanes, -1), 0, -1)

    def theta(self, coef, intercept) -> np.ndarray:
        """Join coefficients and intercepts to (lanes, columns, features + 1)."""
        both = np.concatenate([coef, np.reshape(intercept, (1, *coef.shape[1:]))])
        return np.array(self.to_lanes(both), dtype=float)

    def params(self, theta) -> tuple[np.ndarray, np.ndarray]:
        """Split (lanes, columns, features + 1) into coefficients and intercepts."""
        theta = np.asarray(theta)
        both = np.moveaxis(theta, -1, 0).reshape(theta.shape[-1], *self.outputs)
        return both[:-1] * self.mask, both[-1]

    def objective(self, whole: bool = False) -> Objective:
        """Return what the solvers minimise.

        Parameters
        ----------
        whole
            Keep the rows in one piece, as solvers on mini-batches need them.
        """
        rows, lanes = self.rows, self.n_lanes
        X = rows.design.matrix
        n, row_weight = rows.n, rows.weight
        if self.joint:
            # one lane has one sum of weights: put the difference into the weights
            n, row_weight = n.mean(keepdims=True), row_weight * (n.mean() / np.maximum(n, 1e-300))
        n_chunks = chunks_of(lanes)
        columns = len(self.mask[0].ravel()) // lanes
        matrix = Matrix if whole else Matrix.of
        more = self if whole else replace(self, rows=rows.filled())
        row_weight = fill(row_weight, len(more.rows.y), 0)
        parts = tuple(
            partial(more._part, matrix, row_weight, n_chunks, *ends)
            for ends in more._pieces(whole, X.shape[1] * lanes * columns)
        )
        if whole or not isinstance(X, Stored):
            parts = tuple(part() for part in parts)
        power = self._mean(np.square(rows.y, dtype=float)).reshape(lanes, -1).mean(axis=1)
        width = lanes + -lanes % n_chunks
        shards = Shards(parts, len(X), width, n_chunks, X.dtype, self.centre())
        family = observation_models.static(self.observation_model)
        spec = Spec(family, self.inverse_link, self.n_classes)
        mask = self.to_lanes(self.mask)
        prior = self.prior.in_lanes(lanes)
        return Objective(spec, shards, n.astype(float), power, prior, mask)

    def _pieces(self, whole: bool, work_per_row: int) -> list[tuple[int, int, int]]:
        X = self.rows.design.matrix
        if whole:
            return [(0, len(X), 0)]
        if isinstance(X, Stored):
            return even(len(X), len(X.slices()))
        return even(len(X), cuts(len(X), work_per_row))

    def centre(self) -> np.ndarray:
        """Return something close to the mean of the features."""
        X = self.rows.design.matrix
        some = [X[rows] for rows in _design.stretches(len(X), _CENTRE_ROWS)]
        return np.concatenate(some).mean(axis=0, dtype=float)

    def sample(self, n_rows: int) -> Problem:
        """Return the problem of some of the rows, from all over the data, in memory."""
        rows = self.rows
        where = _design.stretches(len(rows.y), n_rows)
        some = lambda a: None if a is None else np.concatenate([a[w] for w in where])  # noqa: E731
        design = rows.design.with_matrix(some(rows.design.matrix))
        return replace(self, rows=Rows(design, *map(some, (rows.y, rows.weight, rows.offset))))

    def _part(self, matrix, row_weight, n_chunks: int, begin: int, end: int, new: int) -> Data:
        """Return the rows of one shard; those before `new` belong to another one."""
        rows, lanes = self.rows, self.n_lanes
        dtype = rows.design.matrix.dtype
        extra = -lanes % n_chunks  # chunks are of one length

        def last(array):
            array = np.moveaxis(array[begin:end].reshape(end - begin, -1), 0, -1)
            return np.ascontiguousarray(array, dtype)

        def full(array):
            return np.concatenate([array, array[:extra]]) if extra and len(array) > 1 else array

        weight = last(row_weight)
        weight = weight.reshape((lanes, -1, end - begin) if len(weight) > 1 else (1, 1, -1))
        if new > begin:
            weight = weight * (np.arange(begin, end) >= new)
        offset = None if rows.offset is None else self._offset_lanes(last)
        data = (full(last(rows.y).reshape(lanes, -1, end - begin)), full(weight.astype(dtype)))
        scale = full(self.dispersion.reshape(lanes, -1, 1).astype(dtype))
        data = (*data, None if offset is None else full(offset), scale)
        return jax.device_put(Data(matrix(rows.design.matrix[begin:end]), *data))

    def _offset_lanes(self, last):
        offset = self.rows.offset
        if offset[0].size > 1:
            classes = () if self.n_classes is None else (self.n_classes,)
            offset = np.broadcast_to(offset, (len(offset), self.n_neurons, *classes))
        offset = last(offset)
        return offset.reshape(self.n_lanes if len(offset) > 1 else 1, -1, offset.shape[-1])

    def by_neuron(self, coef, intercept) -> np.ndarray:
        """Join coefficients and intercepts to (neurons, columns, features + 1)."""
        theta = self.theta(coef, intercept)
        return theta.reshape(self.n_neurons, -1, theta.shape[-1])

    def select(self, neurons: np.ndarray) -> Problem:
        """Return the problem of the neurons with the given indices."""
        if np.array_equal(neurons, np.arange(self.n_neurons)):
            return self
        rows = self.rows
        some = lambda a: a[:, neurons] if a.shape[1] > 1 else a  # noqa: E731
        offset = None if rows.offset is None else some(rows.offset)
        rows = Rows(rows.design, rows.y[:, neurons], some(rows.weight), offset)
        prior = self.prior.select(neurons)
        scale = None if self.scale is None else self.scale[neurons]
        return replace(self, rows=rows, outputs=prior.mask.shape[1:], prior=prior, scale=scale)

    def _mean(self, values) -> np.ndarray:
        """Return the weighted mean over rows of values (samples, neurons), per neuron."""
        weight = np.broadcast_to(self.rows.weight, values.shape)
        total = np.maximum(self.rows.n, np.finfo(float).tiny)
        return np.einsum("nk,nk->k", weight, values, dtype=float) / total

    def mean_response(self) -> np.ndarray:
        """Return the mean response of each neuron, (neurons,), or its class frequencies, (neurons, classes)."""
        y = self.rows.y
        if self.n_classes is None:
            return self._mean(y)
        return np.stack([self._mean(y == k) for k in range(self.n_classes)], -1)

    @property
    def absent(self) -> np.ndarray:
        """Whether a class never occurs, (neurons,)."""
        if self.n_classes is None:
            return np.zeros(self.n_neurons, bool)
        return (self.mean_response() == 0).any(axis=-1) & (self.rows.n > 0)

    def initial(self) -> tuple[np.ndarray, np.ndarray]:
        """Return zero coefficients and the intercepts that match the mean response at the mean offset.

        An intercept is not finite where no predictor gives that mean.
        """
        rows = self.rows
        intercept = links.link_value(self.inverse_link, self.mean_response())
        if rows.offset is not None:
            spread = rows.weight if self.n_classes is None else rows.weight[..., None]
            shift = np.sum(spread * rows.offset, axis=0) / np.sum(spread, axis=0)
            intercept = intercept - shift
        intercept = np.where(
            (rows.n > 0).reshape((-1,) + (1,) * (intercept.ndim - 1)), intercept, np.nan
        )
        return np.zeros(self.mask.shape), intercept.reshape(self.outputs)
