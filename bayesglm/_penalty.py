r"""The composite penalty that every regularizer is, as solvers and priors see it.

.. math:: \tfrac12 \sum_j b_j w_j^2 + \sum_j a_j |w_j| + \sum_g s_g \lVert w_g \rVert_2
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Penalty", "array_namespace", "group_norms", "of_group", "penalty_prox", "penalty_value"]


class Penalty(NamedTuple):
    """The composite penalty. `None` stands for an absent term.

    Arrays broadcast to the coefficients, (features, *outputs) at the edge and (lanes, columns, features) in the
    solvers, except for `group_strength`: (groups,) at the edge, (lanes, groups) in the solvers. The functions below
    take lane form, and `group` of the full shape.
    """

    l2: jax.Array | np.ndarray | None = None
    l1: jax.Array | np.ndarray | None = None
    group_strength: jax.Array | np.ndarray | None = None  # with the square root of the group's size
    group: jax.Array | np.ndarray | None = None  # group of each coefficient, -1 for none

    @property
    def smooth(self) -> bool:
        """Whether the penalty is differentiable everywhere."""
        return self.l1 is None and self.group is None


def _sums(values, group, n_groups: int):
    """Sum over each group: (lanes, groups) of arrays (lanes, ...)."""
    lanes = len(values)
    ids = group.reshape(lanes, -1)
    values = values.reshape(lanes, -1)
    if not isinstance(values, np.ndarray):
        ids = jnp.where(ids < 0, n_groups, ids)
        total = jax.vmap(lambda v, i: jax.ops.segment_sum(v, i, n_groups + 1))(values, ids)
        return total[:, :n_groups]
    width = n_groups + 1
    ids = np.where(ids < 0, n_groups, ids) + width * np.arange(lanes)[:, None]
    total = np.bincount(ids.ravel(), values.ravel(), minlength=lanes * width)
    return total.reshape(lanes, width)[:, :n_groups]


def of_group(per_group, group):
    """Return what belongs to the group of each coefficient; anything where that is -1."""
    xp = array_namespace(per_group)
    ids = xp.where(group < 0, 0, group).reshape(len(group), -1)
    return xp.take_along_axis(per_group, ids, axis=1).reshape(group.shape)


def array_namespace(array):
    """Return NumPy or JAX, whichever the array belongs to."""
    return np if isinstance(array, np.ndarray) else jnp


def group_norms(coef, group, n_groups: int):
    """Return the Euclidean norm of each group, (lanes, groups), with a zero derivative at zero.

    Parameters
    ----------
    coef, group : arrays (lanes, ...) of one shape
        A group of -1 is left out.
    """
    xp = array_namespace(coef)
    squared = _sums(coef * coef, group, n_groups)
    return xp.where(squared > 0, xp.sqrt(xp.where(squared > 0, squared, 1.0)), 0.0)


def penalty_value(penalty: Penalty, coef):
    """Return the penalty of each lane, (lanes,), for coefficients (lanes, ...)."""
    xp = array_namespace(coef)
    inner = tuple(range(1, coef.ndim))
    value = xp.zeros(len(coef), coef.dtype)
    if penalty.l2 is not None:
        value = value + 0.5 * xp.sum(penalty.l2 * coef * coef, axis=inner)
    if penalty.l1 is not None:
        value = value + xp.sum(penalty.l1 * xp.abs(coef), axis=inner)
    if penalty.group is not None:
        norms = group_norms(coef, penalty.group, penalty.group_strength.shape[-1])
        value = value + xp.sum(penalty.group_strength * norms, axis=-1)
    return value


def penalty_prox(penalty: Penalty, coef, step):
    r"""Return the minimiser over `w` of :math:`\sum_j (w_j - c_j)^2 / (2 t_j) + penalty(w)`, lane by lane.

    Parameters
    ----------
    coef : array (lanes, ...)
        The point c.
    step : scalar or array that broadcasts to the shape of `coef`
        The step t; constant within a group.

    References
    ----------
    Parikh, Boyd (2013), Proximal Algorithms, section 6.5. doi:10.1561/2400000003
    """
    xp = array_namespace(coef)
    if penalty.l1 is not None:
        coef = xp.sign(coef) * xp.maximum(xp.abs(coef) - step * penalty.l1, 0.0)
    if penalty.group is not None:
        norms = group_norms(coef, penalty.group, penalty.group_strength.shape[-1])
        threshold = step * of_group(penalty.group_strength, penalty.group)
        norm = of_group(norms, penalty.group)
        factor = xp.where(norm > threshold, 1.0 - threshold / xp.where(norm > 0, norm, 1.0), 0.0)
        coef = xp.where(penalty.group >= 0, factor, 1.0) * coef
    if penalty.l2 is not None:
        coef = coef / (1.0 + step * penalty.l2)
    return coef
