"""What a softmax does not see: a change of a feature's coefficients that is the same for all classes.

Along such a shift only the penalty changes. A metric made of one matrix per class takes it for a direction as steep as
any other, and would creep along it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayesglm import links
from bayesglm._objective import Objective
from bayesglm._penalty import Penalty, group_norms, of_group, penalty_value

_REWEIGHTINGS = 20


class Shift(NamedTuple):
    """Where shifts are free, and how the quadratic penalty curves along them."""

    free: Any  # (lanes, responses, 1, features + 1)
    inverse: Any  # likewise: inverse curvature per class, zero where there is none


def classes_of(objective: Objective) -> int | None:
    """Return the number of classes that a shift is common to, or None where the loss sees it."""
    spec = objective.spec
    return spec.n_classes if spec.inverse_link is links.log_softmax else None


def by_class(array, n_classes: int):
    """Shape (lanes, columns, ...) as (lanes, responses, classes, ...)."""
    return array.reshape(len(array), -1, n_classes, *array.shape[2:])


def shift_of(l2, mask, n_classes: int) -> Shift:
    """Return the shifts of coefficients with these quadratic penalties, both (lanes, columns, features)."""
    free = by_class(mask, n_classes).all(2, keepdims=True)
    curvature = by_class(l2, n_classes).mean(2, keepdims=True)
    curved = free & (curvature > 0)
    inverse = np.where(curved, 1.0 / np.where(curved, curvature, 1.0), 0.0)
    last = [(0, 0)] * 3 + [(0, 1)]
    return Shift(np.pad(free, last, constant_values=True), np.pad(inverse, last))


def split(shift: Shift, theta):
    """Return the part of `theta` that is common to the classes, (lanes, responses, 1, features + 1), and the rest."""
    parts = theta.reshape(len(theta), shift.free.shape[1], -1, theta.shape[-1])
    common = np.where(shift.free, parts.mean(2, keepdims=True), 0.0)
    return common, (parts - common).reshape(theta.shape)


def least_penalty(penalty: Penalty, mask, coef, n_classes: int):
    """Return `coef` shifted to the least penalty: exactly for elementwise penalties, closer to it for groups.

    Parameters
    ----------
    penalty
        In lane form, all terms of the shape of the coefficients (lanes, columns, features).
    """
    free = by_class(np.broadcast_to(mask, coef.shape), n_classes).all(2, keepdims=True)
    if penalty.group is None:
        shift = np.where(free, _elementwise(penalty, coef, n_classes), 0.0)
        new = (by_class(coef, n_classes) - shift).reshape(coef.shape)
    else:
        new = _grouped(penalty, coef, free, n_classes)
    old_value, new_value = (penalty_value(penalty, w) for w in (coef, new))
    # Rounding must not move what has no better place.
    better = new_value < old_value * (1.0 - 1e-14)
    return np.where(better[:, None, None], new, coef)


def _elementwise(penalty, coef, n_classes):
    """Minimiser of the penalty over shifts: at a kink, or where the slope between two kinks vanishes."""

    def term(value):
        return by_class(np.zeros_like(coef) if value is None else value, n_classes)

    w, l1, l2 = term(coef), term(penalty.l1), term(penalty.l2)
    order = np.argsort(w, axis=2)
    ranked = np.take_along_axis(l1, order, axis=2)
    below = np.pad(np.cumsum(ranked, axis=2), [(0, 0), (0, 0), (1, 0), (0, 0)])
    pull = below[:, :, -1:] - 2.0 * below
    curvature = l2.sum(2, keepdims=True)
    flat = np.where(curvature > 0, curvature, 1.0)
    between = np.where(curvature > 0, ((l2 * w).sum(2, keepdims=True) + pull) / flat, 0.0)
    candidates = np.concatenate([w, between], axis=2)

    def value(shift):
        moved = w - shift[:, :, None]
        return (l1 * np.abs(moved) + 0.5 * l2 * moved**2).sum(2)

    values = np.stack([value(shift) for shift in np.moveaxis(candidates, 2, 0)], 2)
    return np.take_along_axis(candidates, np.argmin(values, 2)[:, :, None], axis=2)


def _grouped(penalty, coef, free, n_classes):
    """Shift by reweighting, after Weiszfeld; Beck, Sabach (2015), doi:10.1007/s10957-014-0586-7."""
    strength, group = penalty.group_strength, penalty.group
    for _ in range(_REWEIGHTINGS):
        norms = group_norms(coef, group, strength.shape[-1])
        rate = strength / np.maximum(norms, 1e-12 * np.max(norms, -1, keepdims=True) + 1e-300)
        v = by_class(np.where(group < 0, 0.0, of_group(rate, group)), n_classes)
        total = v.sum(2, keepdims=True)
        moved = by_class(coef, n_classes)
        shift = (v * moved).sum(2, keepdims=True) / np.where(total > 0, total, 1.0)
        coef = (moved - np.where(free & (total > 0), shift, 0.0)).reshape(coef.shape)
    return coef
