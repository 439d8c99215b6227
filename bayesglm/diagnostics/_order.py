"""The order of rows: whether they are a time series, and where it is interrupted."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayesglm._input import epochs, time_indexed

# Steps of time, in units of the median one, that are a gap.
_GAP = 1.5


class Order(NamedTuple):
    """Rows in order of time.

    Attributes
    ----------
    rows : int array (samples,)
        Their places in the data.
    stretch : int array (samples,)
        Number of the stretch without interruption that a row, in order of time, belongs to.
    trial : int array (samples,), or None
        Number of its trial, where trials were told.
    words : str
        Where the order is from.
    """

    rows: np.ndarray
    stretch: np.ndarray
    trial: np.ndarray | None
    words: str


def order_of(time, trials, n_rows: int, series=()) -> Order | None:
    """Return the order of rows that the user, or the time index of the data, says; None if nothing does.

    Parameters
    ----------
    time : True, False, None or array (samples,)
    trials : array (samples,) or None
    series : sequence
        Data that may be pynapple objects.

    Raises
    ------
    TypeError
        If `time` is neither of these.
    ValueError
        If a shape is wrong, times are not finite or twice the same, or trials are interrupted by others.
    """
    trial = None if trials is None else _labels(trials, n_rows)
    indexed = time_indexed(*series)
    if time is None and indexed is not None and len(indexed.t) == n_rows:
        epoch = epochs(indexed)
        trial = trial if trial is not None else (epoch if len(np.unique(epoch)) > 1 else None)
        found = _by_time(np.asarray(indexed.t, float), trial)
        return found._replace(words="time index of the data")
    if time is not None and not isinstance(time, (bool, np.bool_)):
        return _by_time(_times(time, n_rows), trial)
    if time is False or (time is None and trial is None):
        if trial is not None:
            raise ValueError("`trials` say that rows are in order of time: leave `time=False` out.")
        return None
    if trial is None:
        return Order(np.arange(n_rows), np.zeros(n_rows, int), None, "rows in order of time")
    begins = np.flatnonzero(np.diff(trial, prepend=trial[0] - 1))
    if len(begins) > len(np.unique(trial)):
        raise ValueError(
            "The rows of a trial must stand together, in order of time, but `trials` comes back to an earlier label. "
            "Sort the rows, or pass the times of all rows as `time`."
        )
    return Order(np.arange(n_rows), trial, trial, "rows in order of time, within trials")


def _labels(trials, n_rows: int) -> np.ndarray:
    labels = np.asarray(trials)
    if labels.shape != (n_rows,):
        raise ValueError(
            f"`trials` must have one label for each of {n_rows} rows, but has shape {labels.shape}."
        )
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def _times(time, n_rows: int) -> np.ndarray:
    times: Any = np.asarray(time)
    if times.dtype.kind in "mM":
        times = (times - times.min()) / np.timedelta64(1, "ns")
    if times.dtype.kind not in "fiu":
        raise TypeError(
            "`time` must be True (rows are in order of time) or an array of times, but "
            f"{type(time).__name__} with dtype {times.dtype} was given."
        )
    if times.shape != (n_rows,):
        raise ValueError(
            f"`time` must have a time for each of {n_rows} rows, but has shape {times.shape}."
        )
    if not np.isfinite(times).all():
        raise ValueError("`time` must be finite.")
    return times.astype(float)


def _by_time(times, trial) -> Order:
    """Return rows sorted by time, within trials in order of their first times."""
    label = np.zeros(len(times), int) if trial is None else trial
    first = np.full(label.max() + 1, np.inf)
    np.minimum.at(first, label, times)
    rows = np.lexsort((times, label, first[label]))
    ordered = label[rows]
    step, same = np.diff(times[rows]), np.diff(ordered) == 0
    if (step[same] <= 0).any():
        raise ValueError(
            "Two rows of a trial have the same time. Pass `trials` beside `time` where rows are of several."
        )
    usual = np.median(step[same]) if same.any() else np.inf
    stretch = np.concatenate([[0], np.cumsum(~same | (step > _GAP * usual))])
    words = "rows by the times given" + ("" if trial is None else ", within trials")
    return Order(rows, stretch, None if trial is None else ordered, words)
