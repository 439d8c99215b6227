"""From checked rows to what the solvers see.

A :class:`Problem` has its arrays in the user's orientation; its layout turns them into lanes (see
:mod:`bayesglm._objective`) and back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from bayesglm import _design, _families, links, observation_models
from bayesglm._design import Stored
from bayesglm._layout import Layout
from bayesglm._likelihood import kappa, response_distribution
from bayesglm._objective import Objective
from bayesglm.glm._rows import Rows
from bayesglm.glm._settings import Settings
from bayesglm.prior import Flat, Prior, Scale, index_of
from bayesglm.rows import Data, Matrix, Shards, Spec, chunks_of, cuts, even, fill, is_small

# Rows that the centre of the features is taken from; it only has to be close.
_CENTRE_ROWS = 2048
# Rounding of a sum of features in float32, relative to it.
_SAME = 1e-6


@dataclass(frozen=True)
class Problem:
    """A penalised GLM: rows, family, and the prior with its mask.

    Parameters
    ----------
    prior
        Of coefficients (features, *outputs), and which of these are in use.
    scale : array (neurons,), optional
        Dispersions that enter the loss, in place of the family's, or that an absolute prior is weighed at.
    scales : tuple, optional
        For each term of the prior how its strength is to be learned, in units of the one it has; None if it is known.
    """

    rows: Rows
    layout: Layout
    observation_model: Any
    inverse_link: Any
    prior: Prior
    scale: np.ndarray | None = None
    scales: tuple[Scale | None, ...] | None = None

    @classmethod
    def of(cls, rows: Rows, layout: Layout, settings: Settings) -> Problem:
        """Join checked rows with what the model is made with.

        Raises
        ------
        TypeError, ValueError
            If strengths or masks do not fit the features.
        """
        mask = settings.mask(layout)
        regularizer, strength = settings.regularizer, settings.regularizer_strength
        prior = regularizer.prior(
            regularizer.known(strength), mask, layout.structure, layout.widths,
            "regularizer_strength",
        )  # fmt: skip
        prior = prior.pinned(partial(_sum_of, rows), float(rows.n.mean()))
        scales = regularizer.scales(strength, prior.terms, layout.structure, layout.widths)
        layout = replace(layout, tied=prior.ties(layout.n_neurons))
        family = settings.observation_model, settings.inverse_link_function
        return cls(rows, layout, *family, prior, scales=scales)

    @property
    def mask(self) -> np.ndarray:
        """Coefficients in use, bool (features, *outputs)."""
        return self.prior.mask

    def at_scale(self, scale) -> Problem:
        """Return the problem at a dispersion, where that is part of the loss and estimated."""
        if not self.estimates_scale:
            return self
        return replace(self, scale=np.broadcast_to(scale, (self.n_neurons,)))

    @property
    def dispersion(self) -> np.ndarray:
        """What enters the loss itself, (neurons,): `scale`, or that of the family; one where it is to be estimated."""
        if self.scale is not None:
            return self.scale
        held = 1.0 if self.estimates_scale else _families.held_scale(self.observation_model)
        return np.full(self.n_neurons, held)

    @property
    def estimates_scale(self) -> bool:
        """Whether a dispersion that enters the loss is estimated with the coefficients."""
        return _families.estimates_scale(self.observation_model)

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return self.layout.n_neurons

    @property
    def n_lanes(self) -> int:
        """Number of independent problems."""
        return self.layout.n_lanes

    @property
    def n_classes(self) -> int | None:
        """Number of classes of a classifier."""
        return self.layout.n_classes

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of the intercepts."""
        return self.layout.outputs

    def to_lanes(self, array) -> np.ndarray:
        """Turn (features, *outputs) into (lanes, columns, features)."""
        return self.layout.to_lanes(array)

    def theta(self, coef, intercept) -> np.ndarray:
        """Join coefficients and intercepts to (lanes, columns, features + 1)."""
        return self.layout.theta(coef, intercept)

    def params(self, theta) -> tuple[np.ndarray, np.ndarray]:
        """Split (lanes, columns, features + 1) into coefficients, zero where masked, and intercepts."""
        coef, intercept = self.layout.params(theta)
        return np.where(self.mask, coef, 0.0), intercept

    def with_factors(self, factors) -> Problem:
        """Return the problem with known strengths: those of its prior times factors (features, *outputs)."""
        if self.scales is None:
            return self
        terms = tuple(
            term if scale is None or isinstance(term, Flat)
            else term.replace(strength=term.strength * factors[index_of(term.features)])
            for term, scale in zip(self.prior.terms, self.scales, strict=True)
        )  # fmt: skip
        return replace(self, prior=Prior(terms, self.mask), scales=None)

    def objective(self, whole: bool = False, balanced: bool = True) -> Objective:
        """Return what the solvers minimise.

        Parameters
        ----------
        whole
            Keep rows in memory in one piece, as solvers on mini-batches need them, and pieces of a file as they are.
        balanced
            Whether losses of neurons in one lane are means over rows; otherwise weights are as they were given.
        """
        rows, lanes = self.rows, self.n_lanes
        X = rows.design.matrix
        n, row_weight = rows.n, rows.mass
        if balanced:
            n, row_weight = self.layout.balanced(n, row_weight)
        n_chunks = chunks_of(lanes)
        columns = len(self.mask[0].ravel()) // lanes
        family = observation_models.static(self.observation_model)
        spec = Spec(family, self.inverse_link, self.n_classes)
        small = is_small(spec, *X.shape, lanes * columns)
        # mini-batches are drawn by a program, whose passes over all rows are NumPy's all the same
        how = (
            (Matrix if whole or small else Matrix.of),
            _left if small and not whole else jax.device_put,
        )
        more = self if whole or small else replace(self, rows=rows.filled())
        row_weight = fill(row_weight, len(more.rows.y), 0)
        parts = tuple(
            partial(more._part, *how, row_weight, n_chunks, *ends)
            for ends in more._pieces(whole, 0 if small else X.shape[1] * lanes * columns)
        )
        if not isinstance(X, Stored):
            parts = tuple(part() for part in parts)
        power = self.mean(np.square(rows.share, dtype=float)).reshape(lanes, -1).mean(axis=1)
        width = lanes + -lanes % n_chunks
        shards = Shards(parts, len(X), width, n_chunks, X.dtype, self.centre(), small)
        prior, mask = self.prior.in_lanes(lanes), self.to_lanes(self.mask)
        if self.prior.absolute:
            prior = prior.per_row(self.units().reshape(lanes, -1, 1))
        return Objective(spec, shards, n.astype(float), power, prior, mask)

    def units(self) -> np.ndarray:
        """Return n times kappa of each column."""
        each = np.broadcast_to(kappa(self.observation_model, self.dispersion), self.n_neurons)
        each = np.maximum(self.rows.n, np.finfo(float).tiny) * np.asarray(each)
        return np.repeat(each, self.n_classes or 1)

    def _pieces(self, whole: bool, work_per_row: int) -> list[tuple[int, int, int]]:
        X = self.rows.design.matrix
        if isinstance(X, Stored):
            return even(len(X), len(_design.pieces(X)))
        if whole:
            return [(0, len(X), 0)]
        return even(len(X), cuts(len(X), work_per_row))

    def centre(self) -> np.ndarray:
        """Return something close to the mean of the features."""
        X = self.rows.design.matrix
        some = [X[rows] for rows in _design.stretches(len(X), _CENTRE_ROWS)]
        return np.concatenate(some).mean(axis=0, dtype=float)

    def sample(self, n_rows: int) -> Problem:
        """Return the problem of some of the rows, from all over the data, in memory."""
        where = _design.stretches(len(self.rows.y), n_rows)
        return replace(self, rows=self.rows.at(where))

    def _part(self, matrix, put, row_weight, n_chunks: int, begin: int, end: int, new: int) -> Data:
        """Return the rows of one shard; those before `new` belong to another one."""
        X = matrix(self.rows.design.matrix[begin:end])
        return put(Data(X, *self.in_lanes(row_weight, n_chunks, begin, end, new)))

    def in_lanes(self, row_weight, n_chunks: int = 1, begin: int = 0, end=None, new: int = 0):
        """Return responses, weights, offset and dispersions of some rows, as :class:`bayesglm.rows.Data` has them."""
        rows, lanes = self.rows, self.n_lanes
        end = len(rows.y) if end is None else end
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
        offset = None
        if rows.offset is not None:
            offset = self.layout.offset_in_lanes(rows.offset[begin:end]).astype(dtype)
        data = (full(last(rows.share).reshape(lanes, -1, end - begin)), full(weight.astype(dtype)))
        scale = full(self.dispersion.reshape(lanes, -1, 1).astype(dtype))
        return (*data, None if offset is None else full(offset), scale)

    def select(self, neurons: np.ndarray) -> Problem:
        """Return the problem of the neurons with the given indices."""
        if np.array_equal(neurons, np.arange(self.n_neurons)):
            return self
        rows = self.rows.select(neurons)
        prior = self.prior.select(neurons)
        scale = None if self.scale is None else self.scale[neurons]
        layout = replace(self.layout.select(neurons), tied=prior.ties(len(neurons)))
        return replace(self, rows=rows, layout=layout, prior=prior, scale=scale)

    def mean(self, values) -> np.ndarray:
        """Return the mean over rows, or their trials, of values (samples, neurons), per neuron."""
        mass = self.rows.mass
        total = np.maximum(mass.sum(axis=0, dtype=float), np.finfo(float).tiny)
        weight = np.broadcast_to(mass, values.shape)
        return np.einsum("nk,nk->k", weight, values, dtype=float) / total

    def base_of_trials(self) -> np.ndarray | None:
        """Return what log-densities of successes have beside their loss, (samples, neurons); None without trials."""
        trials = self.rows.trials
        return (
            None if trials is None else self._log_base(self.rows.y, 1.0 / np.asarray(trials, float))
        )

    def base_of_shares(self) -> np.ndarray:
        """Return what the log-densities of shares have beside their loss, (samples, neurons)."""
        return self._log_base(self.rows.share, 1.0)

    def _log_base(self, y, scale) -> np.ndarray:
        family = self.observation_model, np.zeros(y.shape), self.inverse_link
        return np.asarray(response_distribution(*family, scale).log_base(y))

    def mean_response(self) -> np.ndarray:
        """Return the mean response of each neuron, (neurons,), or its class frequencies, (neurons, classes)."""
        y = self.rows.share
        if self.n_classes is None:
            return self.mean(y)
        return np.stack([self.mean(y == k) for k in range(self.n_classes)], -1)

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
            spread = rows.mass if self.n_classes is None else rows.mass[..., None]
            shift = np.sum(spread * rows.offset, axis=0) / np.sum(spread, axis=0)
            intercept = intercept - shift
        intercept = np.where(
            (rows.n > 0).reshape((-1,) + (1,) * (intercept.ndim - 1)), intercept, np.nan
        )
        return np.zeros(self.mask.shape), intercept.reshape(self.outputs)


def _sum_of(rows: Rows, features) -> float | None:
    """Return the number, not zero, that some features sum to in every row in use; None where they do not."""
    X, lowest, highest, size = rows.design.matrix, np.inf, -np.inf, 0.0
    for some in _design.pieces(X):
        used = (rows.weight[some] > 0).any(axis=1)
        block = np.asarray(X[some][:, features], float)[used]
        sums = block.sum(axis=1)
        lowest, highest = sums.min(initial=lowest), sums.max(initial=highest)
        size = max(size, np.abs(block).max(initial=0.0))
        if highest - lowest > _SAME * max(abs(lowest), abs(highest)):
            return None
    return highest if size and abs(highest) > _SAME * size else None


def _left(data: Data) -> Data:
    """Leave rows to NumPy."""
    return data
