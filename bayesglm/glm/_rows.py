"""Rows: features and responses as the user passed them, checked before any computation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayesglm import _design, _families, labels, rows
from bayesglm._design import Design, Stored
from bayesglm._input import require_y, to_labels
from bayesglm._layout import Layout
from bayesglm.glm._settings import Settings
from bayesglm.labels import MISSING
from bayesglm.rows import fill, filled_length

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
    trials : array (samples, neurons), or None
        Number of trials that a response is the number of successes of.
    """

    design: Design
    y: np.ndarray
    weight: np.ndarray
    offset: np.ndarray | None
    missing: np.ndarray | None = None
    trials: np.ndarray | None = None

    @property
    def share(self) -> np.ndarray:
        """Responses as what the inverse link gives the mean of: shares of successes where there are trials."""
        return self.y if self.trials is None else self.y / self.trials

    @property
    def mass(self) -> np.ndarray:
        """How often the loss of a share counts: the weight of the row times its trials."""
        return self.weight if self.trials is None else self.weight * self.trials

    @property
    def n(self) -> np.ndarray:
        """Sum of the weights of each neuron."""
        return np.broadcast_to(self.weight.sum(axis=0, dtype=float), self.y.shape[1:])

    def filled(self) -> Rows:
        """Return these rows with others of no weight, so that programs compiled for another number of rows serve."""
        X = self.design.matrix
        arrays = [a for a in (X, self.y, self.weight, self.offset, self.trials) if a is not None]
        n = (
            len(X)
            if isinstance(X, Stored)
            else filled_length(len(X), sum(a.nbytes for a in arrays))
        )
        if n == len(X):
            return self
        more = lambda a: None if a is None else fill(a, n)  # noqa: E731
        return replace(
            self, design=self.design.with_matrix(fill(X, n)), y=fill(self.y, n),
            weight=fill(self.weight, n, 0), offset=more(self.offset), trials=more(self.trials),
        )  # fmt: skip

    def double(self) -> Rows:
        """Return these rows in float64."""
        wide = lambda a: None if a is None else np.asarray(a, np.float64)  # noqa: E731
        y, X = self.y if self.y.dtype.kind == "i" else wide(self.y), self.design.matrix
        design = self.design.with_matrix(X.astype(np.float64) if isinstance(X, Stored) else wide(X))
        return replace(
            self, design=design, y=y, weight=wide(self.weight), offset=wide(self.offset),
            trials=wide(self.trials),
        )  # fmt: skip

    def select(self, neurons) -> Rows:
        """Return these rows for the neurons with the given indices."""
        some = lambda a: a if a is None or a.shape[1] == 1 else a[:, neurons]  # noqa: E731
        trials = None if self.trials is None else self.trials[:, neurons]
        return Rows(
            self.design, self.y[:, neurons], some(self.weight), some(self.offset), trials=trials
        )

    def at(self, where) -> Rows:
        """Return some of these rows, in memory, given the slices that they are in."""
        some = lambda a: None if a is None else np.concatenate([a[w] for w in where])  # noqa: E731
        design = self.design.with_matrix(some(self.design.matrix))
        arrays = map(some, (self.y, self.weight, self.offset))
        return Rows(design, *arrays, trials=some(self.trials))

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


def check_y(y: np.ndarray, population: bool, pairs: bool = False) -> np.ndarray:
    """Return the responses as an array (samples, neurons), float or labels; (samples, neurons, 2) of pairs.

    Raises
    ------
    ValueError
        If the number of dimensions is wrong.
    """
    if pairs:
        return _check_pairs(y, population)
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


def _check_pairs(y: np.ndarray, population: bool) -> np.ndarray:
    if y.ndim != 2 + population or y.shape[-1] != 2:
        wanted = "(samples, neurons, 2)" if population else "(samples, 2)"
        raise ValueError(
            f"`y` must hold the numbers of successes and of failures, {wanted}, but has shape {y.shape}. Use "
            "`np.stack([successes, trials - successes], axis=-1)`, or another family for zeros and ones."
        )
    return y if population else y[:, None]


def new_classes(settings: Settings, y) -> np.ndarray | None:
    """Return the classes of training responses, None where these are no labels.

    Raises
    ------
    TypeError, ValueError
        If they cannot be sorted, or their number is not that of the settings.
    """
    return labels.classes_of(to_labels(y), settings.n_classes) if settings.classifier else None


def checked(
    design: Design, y, settings: Settings, classes=None, sample_weight=None, offset=None
) -> tuple[Rows, Layout]:
    """Check responses, weights and offset beside features, and say what they are laid out like.

    Parameters
    ----------
    classes : array (n_classes,), optional
        Known labels, for a classifier.

    Raises
    ------
    TypeError
        If something is not numeric.
    ValueError
        If shapes disagree, a response is outside the support, or no row can be used.
    """
    require_y(y)
    classifier = settings.classifier
    given = to_labels(y) if classifier else _design.to_numeric(y, "y")
    pairs = not classifier and _families.has_trials(settings.observation_model)
    responses = check_y(given, settings.population, pairs)
    if len(responses) != design.n_samples:
        raise ValueError(
            f"`X` and `y` must have the same number of samples, but have {design.n_samples} and {len(responses)}."
        )
    of = _labels if classifier else _numbers
    responses, used = of(responses, settings, classes, design.matrix.dtype)
    dtype, trials = design.matrix.dtype, None
    weight = _check_weight(sample_weight, used.shape).astype(dtype, copy=False)
    if pairs:
        responses, trials = responses[..., 0], responses.sum(axis=-1)
        if (trials == 0).any():
            weight, trials = weight * (trials > 0), np.maximum(trials, dtype.type(1))
    if not used.all():
        weight = weight * used
    finite = rows.finite_rows(design.matrix)
    if finite is not None:
        weight = weight * finite[:, None]
        design = design.with_matrix(_zeroed(design.matrix, ~finite))
    if not (weight > 0).any():
        raise ValueError(
            "No sample can be used: there is a NaN or Inf (or a weight of zero) at all sample points of `X` or `y`."
        )
    missing = None
    if finite is not None or not used.all():
        missing = ~used if finite is None else ~(used & finite[:, None])
    n_neurons = responses.shape[1]
    layout = Layout.of(settings.population, settings.n_classes, classes, design, y, n_neurons)
    shift = layout.offset(offset, design.n_samples, dtype)
    return Rows(design, responses, weight, shift, missing, trials), layout


def _zeroed(X, bad):
    """Return features with zeros for what is not finite in some rows."""
    return X.zeroed(bad) if isinstance(X, Stored) else np.where(np.isfinite(X), X, 0)


def _numbers(y, settings: Settings, _, dtype):
    """Return responses, filled where they are missing, and where they are not; a pair is there or not as a whole."""
    y = np.ascontiguousarray(y, dtype)  # sums depend on the layout, in the last digit
    _refuse_infinite(y)
    used = ~np.isnan(y)
    used = used.all(axis=-1) if y.ndim > 2 else used
    if hasattr(settings.observation_model, "check_support"):
        settings.observation_model.check_support(y if settings.population else y[:, 0])
    if not used.all():
        y = np.where(used if y.ndim == 2 else used[..., None], y, dtype.type(_FILL))
    return y, used


def _labels(y, _, classes, __):
    """Return class indices, filled where they are missing, and where they are not."""
    y = labels.encode(classes, y)
    used = y != MISSING
    return np.where(used, y, 0).astype(np.int32), used


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
