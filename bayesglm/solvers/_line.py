"""Line searches of all lanes at once, none of which waits for another.

Each pass over the rows tries one step in every lane. Where the trial is good the lane goes on to its next
direction, where it is not it tries another length in the next pass. Values decide only as far as they
are above rounding; beyond that slopes do, which keep their precision (Hager, Zhang 2005,
doi:10.1137/030601880).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayesglm._objective import Objective, Point
from bayesglm.solvers._metric import dot, per_lane

_ARMIJO = 1e-4
_MAX_TRIALS = 30
# Trials after which half of what there is to gain serves: where the mean of a row runs to zero, a line has a wall or a
# kink that no slope gets flat before.
_ENOUGH = 12


class Direction(NamedTuple):
    """Where to go, and the penalty along the way: ``linear * t + quadratic * t**2 / 2``, or less."""

    direction: Any  # as theta
    linear: Any  # (lanes,)
    quadratic: Any  # (lanes,)
    decrement: Any  # (lanes,) decrease that the metric promises, twice: g' H^-1 g


class Line(NamedTuple):
    """A search along a direction; arrays (lanes,)."""

    t: Any  # length to try next
    low: Any  # longest length seen that goes down and not far enough
    value: Any  # change of the objective there
    slope: Any  # derivative there
    high: Any  # shortest length seen that goes too far
    start: Any  # derivative at length zero
    trials: Any


def start_of(slope, first) -> Line:
    """Return the start of a search.

    Parameters
    ----------
    slope, first : (lanes,)
        Derivative at length zero, and the first length to try.
    """
    zero = np.zeros(slope.shape)
    first = np.broadcast_to(np.asarray(first, float), slope.shape)
    return Line(first, zero, zero, slope, np.full_like(zero, np.inf), slope, zero)


def first_line(point: Point, ahead: Direction, first=1.0) -> Line:
    """Return the start of a search along a direction."""
    return start_of(dot(point.gradient, ahead.direction) + ahead.linear, first)


def attempt(objective: Objective, point: Point, ahead: Direction, line: Line, **how):
    """Try the next length in every lane; see :func:`decide` for `how`.

    Returns
    -------
    trial : Point
    good, failed : bool arrays (lanes,)
    line
    """
    t = line.t
    trial = objective.evaluate(point.theta + per_lane(t) * ahead.direction)
    change = trial.loss - point.loss + ahead.linear * t + 0.5 * ahead.quadratic * t**2
    slope = dot(trial.gradient, ahead.direction) + ahead.linear + ahead.quadratic * t
    noise = 4.0 * objective.precision * np.abs(point.loss)
    return trial, *decide(line, change, slope, noise=noise, **how)


def decide(line: Line, change, slope, *, noise, slack=0.0, left=0.5, longest=np.inf):
    """Judge the trial at length `line.t`.

    Parameters
    ----------
    change, slope : (lanes,)
        Change of the objective since length zero, and its derivative.
    noise : (lanes,)
        Rounding of `change`.
    slack : scalar or (lanes,)
        Increase that is accepted beyond.
    left : float
        Share of the initial derivative that may be left, in absolute value.
    longest : float
        Longest length allowed.

    Returns
    -------
    good, failed : bool arrays (lanes,)
        Lanes whose search has ended, with a step or without one.
    line
        With the lengths to try next in the others.
    """
    t = line.t
    finite = np.isfinite(change) & np.isfinite(slope)
    lower = finite & (change <= noise + slack + _ARMIJO * t * line.start)
    flat = (np.abs(slope) <= left * np.abs(line.start)) | ((t >= longest) & (slope <= 0))
    # Where the gain is below rounding there is nothing to search for: the metric knows better.
    bracketed = np.isfinite(line.high)
    room = np.where(slope > 0, t - line.low, np.where(bracketed, line.high - t, 0.0))
    half = (slope <= line.start) | (np.abs(slope) * room <= -change)
    half &= bracketed & (line.trials >= _ENOUGH)
    good = lower & (flat | half | (t * np.abs(line.start) <= noise))
    if good.all():
        return good, ~good, line
    return good, *_next(line, change, slope, good, lower, longest)


def all_of(good):
    """Return what :func:`decide` would if every trial were good, as steps of a fixed length are taken to be."""
    return np.ones_like(good), np.zeros_like(good)


def _next(line: Line, change, slope, good, lower, longest):
    """Return the lanes that have failed, and the lengths to try next."""
    t = line.t
    finite = np.isfinite(change) & np.isfinite(slope)
    far = ~lower | (slope > 0)
    high = np.where(far, t, line.high)
    width = t - line.low
    secant = t - slope * width / np.where(slope == line.slope, np.inf, slope - line.slope)
    cubic = _cubic(line, t, change, slope)
    # Within a bracket; halved at least where the value went up, as secants crawl back along an exponential.
    inside = np.where(lower, secant, np.where(np.isfinite(cubic), cubic, secant))
    share = np.where(lower, 0.9, 0.5)
    inside = np.where(finite, inside, line.low + 0.1 * width)
    inside = np.clip(inside, line.low + 0.05 * width, line.low + share * width)
    bracket = np.where(np.isfinite(line.high), line.high, 4.0 * t)
    beyond = np.where(secant > t, secant, bracket)
    top = np.where(np.isfinite(line.high), t + 0.9 * (bracket - t), 4.0 * t)
    beyond = np.minimum(np.clip(beyond, t + 0.05 * (bracket - t), top), longest)
    low, value, at_low = (
        np.where(far, old, new)
        for old, new in ((line.low, t), (line.value, change), (line.slope, slope))
    )
    new = Line(np.where(far, inside, beyond), low, value, at_low, high, line.start, line.trials + 1)
    failed = ~good & ((new.trials >= _MAX_TRIALS) | ~(line.start < 0))
    return failed, new


def _cubic(line: Line, t, change, slope):
    """Minimiser of the cubic through value and slope at both ends; Nocedal, Wright (2006), equation 3.59."""
    width = t - line.low
    first = line.slope + slope - 3.0 * (line.value - change) / np.where(width == 0, 1.0, -width)
    root = np.sqrt(np.maximum(first**2 - line.slope * slope, 0.0))
    bottom = slope - line.slope + 2.0 * root
    return t - width * (slope + root - first) / np.where(bottom == 0, np.inf, bottom)
