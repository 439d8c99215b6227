"""What a softmax does not see: a change of a feature's coefficients that is the same for all classes.

Along such a shift only the penalty changes. A metric made of one matrix per class takes it for a direction as steep as
any other, and would creep along it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayesglm import links
from bayesglm._objective import Objective


class Shift(NamedTuple):
    """Where shifts are free, and how the quadratic penalty curves along them."""

    free: Any  # (lanes, responses, 1, features + 1)
    # inverse curvature per class, zero where there is none: likewise, or (lanes, responses, 1, features, features)
    inverse: Any


def classes_of(objective: Objective) -> int | None:
    """Return the number of classes that a shift is common to, or None where the loss sees it."""
    spec = objective.spec
    return spec.n_classes if spec.inverse_link is links.log_softmax else None


def by_class(array, n_classes: int):
    """Shape (lanes, columns, ...) as (lanes, responses, classes, ...)."""
    return array.reshape(len(array), -1, n_classes, *array.shape[2:])


def shift_of(prior, mask, n_classes: int) -> Shift:
    """Return the shifts of coefficients (lanes, columns, features) under the quadratic part of a prior."""
    free = by_class(mask, n_classes).all(2, keepdims=True)
    last = [(0, 0)] * 3 + [(0, 1)]
    curvature = by_class(prior.diagonal(mask.shape), n_classes).mean(2, keepdims=True)
    whole = np.pad(free, last, constant_values=True)
    if prior.couples:
        matrix = prior.add_coupling(np.zeros((*mask.shape, mask.shape[-1])), mask)
        matrix = by_class(matrix, n_classes).mean(2, keepdims=True)
        matrix = matrix * (free[..., :, None] & free[..., None, :])
        plain = by_class(prior.diagonal(mask.shape, coupled=False), n_classes).mean(
            2, keepdims=True
        )
        matrix = matrix + np.eye(mask.shape[-1]) * np.where(free, plain, 0.0)[..., None]
        return Shift(whole, np.linalg.pinv(matrix, rcond=1e-12, hermitian=True))
    curved = free & (curvature > 0)
    inverse = np.where(curved, 1.0 / np.where(curved, curvature, 1.0), 0.0)
    return Shift(whole, np.pad(inverse, last))


def times_inverse(shift: Shift, common):
    """Return the inverse curvature times what is common to the classes."""
    if shift.inverse.ndim == common.ndim:
        return common * shift.inverse
    coef = np.matmul(shift.inverse, common[..., :-1, None])[..., 0]
    return np.concatenate([coef, 0.0 * common[..., -1:]], axis=-1)


def apart(shift: Shift, theta):
    """Return the part of `theta` that is common to the classes, (lanes, responses, 1, features + 1), and the rest."""
    parts = theta.reshape(len(theta), shift.free.shape[1], -1, theta.shape[-1])
    common = np.where(shift.free, parts.mean(2, keepdims=True), 0.0)
    return common, (parts - common).reshape(theta.shape)
