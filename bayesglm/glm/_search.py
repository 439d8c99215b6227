"""The search for the mode of strengths: Newton's steps in the logs of standard deviations, all neurons at once.

References
----------
Wood, Fasiolo (2017), A generalized Fellner-Schall method for smoothing parameter optimization.
doi:10.1111/biom.12666; Wood (2011) for Newton's method on the exact gradient. doi:10.1111/j.1467-9868.2010.00749.x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from bayesglm.glm._evidence import (
    Local,
    Model,
    at_scale,
    centred,
    evidence,
    invert,
    joint,
    slopes,
    times,
    to_theta,
)
from bayesglm.prior import Scale

# Distance, in standard errors of the log of a standard deviation, at which the last step is taken, which leaves about
# its square; from where on derivatives have to be exact; and the steps that are most.
TOL, _ROUGH, _STEPS = 1e-2, 0.1, 60
# Distance at which a standard deviation on its way to zero is there: modes are not exact enough to tell.
_VANISHED = 1e-3
# Distance of a mode in its standard errors: the evidence is off by half its square, its derivatives in proportion.
_MODE_TOL, _FLOOR, _MODE_STEPS, _FRESH = 1e-4, 1e-3, 60, 6
# Longest steps up (and how long they may be in any case, where the objective is concave and where not) and down, and
# how often one is shortened, to a quarter.
_UP, _SHORT, _AT_LEAST, _DOWN, _SHORTER = 3.0, 0.3, 1.0, -4.0, 12
# What rounding hides of the objective, as a share of it, and what modes that are not exact do.
_ROUNDING, _INEXACT = 1e-12, 1e-7
_LEAST_CURVATURE = 1e-3


@dataclass(frozen=True)
class Hyper:
    """What is known of standard deviations before the data; arrays (lanes, groups), in logs.

    Parameters
    ----------
    scales : tuple of Scale
        One for each group.
    unit, low, high
        Where the default density has its unit, and the ends of the search.
    """

    scales: tuple[Scale, ...]
    unit: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def select(self, keep) -> Hyper:
        """Return that of some of the lanes."""
        return Hyper(self.scales, self.unit[keep], self.low[keep], self.high[keep])

    @property
    def shared(self) -> np.ndarray:
        """Which groups have one standard deviation for all lanes, bool (groups,)."""
        return np.array([bool(scale.shared) for scale in self.scales])

    def log_density(self, log_sd):
        """Return the log-density of each standard deviation, and its first two derivatives in the log."""
        kinds = list(dict.fromkeys(map(id, self.scales)))
        found = np.zeros((3, *log_sd.shape))
        for kind in kinds:
            some = np.array([id(scale) == kind for scale in self.scales])
            scale = self.scales[int(np.argmax(some))]
            parts = scale.log_density(log_sd[:, some], self.unit[:, some])
            found[:, :, some] = np.stack([np.asarray(part) for part in parts])
        # one density for all lanes that share
        return np.where(self.shared, found / len(log_sd), found)


class Mode(NamedTuple):
    """Standard deviations at the mode; arrays with the lanes first."""

    log_sd: np.ndarray  # (lanes, groups)
    log_scale: np.ndarray  # (lanes,)
    theta: np.ndarray  # (lanes, columns, features + 1)
    curvature: np.ndarray  # (lanes, size, size), of the loss
    gradient: np.ndarray  # (lanes, groups), of evidence and density in the logs
    hessian: np.ndarray  # (lanes, groups, groups)
    converged: np.ndarray  # (lanes,)


class _State(NamedTuple):
    """Where lanes are; all arrays have these first."""

    local: Local
    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    shift: np.ndarray
    bend: np.ndarray
    rise: np.ndarray


def search(
    model: Model, hyper: Hyper, log_sd, log_scale, theta, curvature=None, tol: float = TOL
) -> Mode:
    """Return the modes, from where they are looked for first.

    Parameters
    ----------
    theta, curvature
        Parameters close to the mode at these standard deviations, and the curvature of the loss there, if known.
    tol
        Distance, in standard errors, at which the last step is taken.
    """
    many = len(theta)
    offset = 0.5 * np.log(model.weight(log_scale))[:, None]
    low, high = hyper.low + offset, hyper.high + offset
    place = np.clip(log_sd + offset, low, high)
    state = _first(model, hyper, place, log_scale, theta, curvature)
    found = Mode(
        log_sd.copy(), log_scale.copy(), theta.copy(), state.local.curvature.copy(),
        state.gradient.copy(), state.hessian.copy(), np.zeros(many, bool),
    )  # fmt: skip
    lanes, together = np.arange(many), bool(hyper.shared.any())
    tries = np.zeros(many, int)
    step = np.zeros_like(place)
    for count in range(_STEPS + 1):
        fresh = tries == 0
        new, distance = _proposed(state, place, low, high, hyper.shared)
        step = np.where(fresh[:, None], new, step)
        sound = np.isfinite(state.value) & np.isfinite(distance)
        # on its way to zero, what is near in standard errors may be far
        moving = ((step < -0.5) & (step > _DOWN)).any(axis=1) & (distance > _VANISHED)
        converged = fresh & sound & (distance <= tol) & ~moving
        stuck = (tries > _SHORTER) | ~sound
        over = converged | stuck | (count == _STEPS)
        if together:
            over[:] = (converged | ~sound).all() or stuck.all() or count == _STEPS
        if over.any():
            # the last step is the smallest: what is left after it is of the order of its square
            last = np.where(step < -0.5, low - place, step)  # nothing keeps it from zero
            last = np.where((converged & sound)[:, None], last, 0.0)
            _put(
                found, lanes[over], model, state, np.clip(place + last, low, high), converged, over
            )
            keep = np.flatnonzero(~over)
            if not len(keep):
                return found
            lanes, model, hyper = lanes[keep], model.select(keep), hyper.select(keep)
            state, place, step, tries, low, high = jax.tree.map(
                lambda a, keep=keep: a[keep], (state, place, step, tries, low, high)
            )
        target = np.clip(place + step, low, high)
        trial = _at(model, hyper, target, state, target - place)
        accepted = _accepted(trial.value, state.value, together)
        if accepted.any():
            # on the rough way, how the curvature bends is what it was
            trial = _sloped(model, hyper, trial, state.bend if tol > _ROUGH else None)
        state = _picked(accepted, trial, state)
        place = np.where(accepted[:, None], target, place)
        tries = np.where(accepted, 0, tries + 1)
        step = np.where(accepted[:, None], step, 0.25 * step)
    return found


def _picked(which, new, old):
    def one(a, b):
        return np.where(which.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return new if which.all() else jax.tree.map(one, new, old)


def _accepted(new, old, together: bool):
    if together:
        new, old = (np.broadcast_to(np.sum(a), a.shape) for a in (new, old))
    with np.errstate(invalid="ignore"):
        return new >= old - _ROUNDING * np.abs(old) - _INEXACT


def _put(found: Mode, lanes, model: Model, state: _State, place, converged, over) -> None:
    local = state.local
    offset = 0.5 * np.log(model.weight(local.log_scale))[:, None]
    values = (
        place - offset, local.log_scale, local.theta, local.curvature, state.gradient,
        state.hessian, converged,
    )  # fmt: skip
    for whole, part in zip(found, values, strict=True):
        whole[lanes] = part[over]


def _first(model: Model, hyper: Hyper, place, log_scale, theta, curvature) -> _State:
    factors, weight = np.exp(-2.0 * place), model.weight(log_scale)
    if curvature is None:
        local = evidence(model, factors, log_scale, theta, np.zeros(len(theta)))
        curvature = local.curvature
    theta, loss = _mode(model, factors, weight, theta, curvature)
    local = evidence(model, factors, log_scale, theta, loss)
    return _sloped(model, hyper, _settled(model, hyper, local))


def _at(model: Model, hyper: Hyper, place, state: _State, step) -> _State:
    """Return the state at other standard deviations, without slopes."""
    local, factors = state.local, np.exp(-2.0 * place)
    weight = model.weight(local.log_scale)
    # no further than a prediction can be trusted
    theta = local.theta + to_theta(model, times(state.shift, np.clip(step, -0.5, 0.5)))
    theta, loss = _mode(model, factors, weight, theta, local.curvature)
    return _settled(model, hyper, evidence(model, factors, local.log_scale, theta, loss))


def _mode(model: Model, factors, weight, theta, curvature):
    """Return the modes at other strengths, and the mean losses there; NaN where there is none.

    Newton's steps with one curvature, which is taken anew if they do not converge soon.
    """
    objective, prior = model.with_factors(factors), model.prior(factors)
    precision = model.precision(prior)
    covariance = invert(model, joint(model, curvature, precision, weight)).covariance
    point = objective.evaluate(theta)
    value = weight * (point.loss + prior.value(theta[..., :-1]))
    length, before = np.ones(len(theta)), np.full(len(theta), np.inf)
    gradient = _gradient(model, prior, point, weight)
    for count in range(1, _MODE_STEPS + 1):
        step = -times(covariance, gradient)
        distance = np.sqrt(np.maximum(-np.einsum("ls,ls->l", step, gradient), 0.0))
        floor = (distance <= _FLOOR) & (distance > 0.9 * before)  # of rounding
        waiting = np.isfinite(distance) & (distance > _MODE_TOL) & (length > 1e-6) & ~floor
        before = distance
        if not waiting.any():
            break
        moved = np.where(waiting, length, 0.0)[:, None] * step
        trial = theta + to_theta(model, moved)
        new = objective.evaluate(trial)
        new_value = weight * (new.loss + prior.value(trial[..., :-1]))
        better = new_value <= value + 1e-10 * np.abs(value) + 1e-9
        theta = np.where(better[:, None, None], trial, theta)
        value = np.where(better, new_value, value)
        point = _picked(better, new, point)
        gradient = np.where(better[:, None], _gradient(model, prior, new, weight), gradient)
        length = np.where(better, 1.0, np.where(waiting, 0.25 * length, length))
        if count % _FRESH == 0:
            curvature = evidence(model, factors, np.zeros(len(theta)), theta, point.loss).curvature
            covariance = invert(model, joint(model, curvature, precision, weight)).covariance
    sound = np.isfinite(distance) & (distance <= _FLOOR)
    return theta, np.where(sound, point.loss, np.nan)


def _gradient(model: Model, prior, point, weight):
    slope = point.gradient.copy()
    slope[..., :-1] += prior.pull(point.theta[..., :-1])
    return weight[:, None] * centred(model, slope)


def _log_sd(model: Model, place, log_scale):
    return place - 0.5 * np.log(model.weight(log_scale))[:, None]


def _settled(model: Model, hyper: Hyper, local: Local) -> _State:
    """Return the state with the dispersion at its mode, where it multiplies the whole of the loss."""
    place, t = -0.5 * np.log(local.factors), local.log_scale
    if model.free:
        for _ in range(50):
            slope, bend = _of_scale(model, hyper, local, place, t)
            step = np.where(bend < 0, -slope / np.where(bend < 0, bend, -1.0), np.sign(slope))
            step = np.where(np.isfinite(step), np.clip(step, -1.0, 1.0), 0.0)
            t = t + step
            if (np.abs(step) < 1e-10).all():
                break
        local = at_scale(model, local, t)
    density = hyper.log_density(_log_sd(model, place, t))[0]
    value = local.log_evidence + density.sum(axis=1)
    lanes, groups = place.shape
    size, blank = model.member.shape[1], np.full((lanes, groups), np.nan)
    return _State(
        local, value, blank, np.full((lanes, groups, groups), np.nan),
        np.zeros((lanes, size, groups)), np.zeros((lanes, size)), blank,
    )  # fmt: skip


def _of_scale(model: Model, hyper: Hyper, local: Local, place, t):
    """Return two derivatives of the objective in the log dispersion, strengths per row held."""
    _, base, base_bend = model.log_base(t)
    _, slope, bend = hyper.log_density(_log_sd(model, place, t))
    fit = model.weight(t) * local.penalised
    first = fit + base + 0.5 * model.lost + 0.5 * slope.sum(axis=1)
    return first, -fit + base_bend + 0.25 * bend.sum(axis=1)


def _sloped(model: Model, hyper: Hyper, state: _State, bend_before=None) -> _State:
    """Return the state with its derivatives, those of the dispersion at its mode for each strength."""
    found, local = slopes(model, state.local, bend_before), state.local
    place = -0.5 * np.log(local.factors)
    _, slope, bend = hyper.log_density(_log_sd(model, place, local.log_scale))
    gradient = found.gradient + slope
    hessian = found.hessian + bend[:, :, None] * np.eye(bend.shape[1])
    if model.free:
        cross = 0.5 * bend - found.quadratic
        own = _of_scale(model, hyper, local, place, local.log_scale)[1]
        own = np.where(own < 0, own, -np.inf)[:, None, None]
        hessian = hessian - cross[:, :, None] * cross[:, None, :] / own
    rise = 0.5 * np.log1p(np.maximum(gradient, 0.0) / np.maximum(model.rank - found.trace, 1e-300))
    return state._replace(
        gradient=gradient, hessian=hessian, shift=found.shift, bend=found.bend, rise=rise
    )


def _proposed(state: _State, place, low, high, shared):
    """Return steps, and distances to the mode in standard errors.

    A standard deviation that goes to zero does so in steps of its own, one that grows in steps of its log: the
    evidence is quadratic in the one, and all but linear in the other. From close to zero, where it is not concave,
    Fellner and Schall's step (Wood, Fasiolo 2017) says how far.
    """
    gradient, hessian = state.gradient, state.hessian
    free = ~(((place <= low) & (gradient < 0)) | ((place >= high) & (gradient > 0)))
    both = free[:, :, None] & free[:, None, :]
    eye = np.eye(place.shape[1])
    slope = np.where(free, gradient, 0.0)
    sound = np.isfinite(slope).all(axis=1) & np.isfinite(hessian).all(axis=(1, 2))
    slope = np.where(sound[:, None], slope, 0.0)
    bend = np.where(both & sound[:, None, None], -hessian, eye)
    relative = bend + np.minimum(slope, 0.0)[:, :, None] * eye
    step = _solved(relative, slope, shared)
    distance = np.sqrt(np.maximum(np.sum(slope * _solved(bend, slope, shared), axis=1), 0.0))
    if shared.any():
        distance[:] = np.sqrt(np.square(distance).sum())
    down = np.log(np.maximum(1.0 + np.minimum(step, 0.0), np.exp(_DOWN)))
    concave = np.diagonal(bend, axis1=1, axis2=2) > 0
    far = np.where(
        concave, np.maximum(3.0 * state.rise, _SHORT), np.maximum(1.5 * state.rise, _AT_LEAST)
    )
    up = np.minimum(np.where(concave, step, np.inf), np.minimum(far, _UP))
    step = np.where((step < 0) & (concave | (slope <= 0)), down, up)
    return step, np.where(sound, distance, np.inf)


def _solved(matrix, vector, shared):
    """Return the inverse of the absolute value of matrices times vectors, lane by lane."""
    # a standard deviation that vanishes has next to no curvature, but its own
    scale = np.sqrt(np.abs(np.diagonal(matrix, axis1=1, axis2=2)))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(matrix / (scale[:, :, None] * scale[:, None, :]))
    vectors, values = vectors / scale[:, :, None], np.maximum(np.abs(values), _LEAST_CURVATURE)
    inverse = (vectors / values[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    if not shared.any():
        return times(inverse, vector)
    return _arrow(np.linalg.inv(inverse), vector, shared)


def _arrow(matrix, vector, shared):
    """Return the solution where some entries are the same in all lanes: these first, the others given them."""
    own = ~shared
    inner = np.linalg.inv(matrix[:, own][:, :, own])
    cross = matrix[:, own][:, :, shared]
    carried = np.swapaxes(cross, 1, 2) @ inner
    total = (matrix[:, shared][:, :, shared] - carried @ cross).sum(axis=0)
    right = (vector[:, shared] - times(carried, vector[:, own])).sum(axis=0)
    found = np.zeros_like(vector)
    found[:, shared] = np.linalg.solve(total, right)
    found[:, own] = times(inner, vector[:, own] - times(cross, found[:, shared]))
    return found


__all__ = ["TOL", "Hyper", "Mode", "search"]
