r"""The composite penalty that every regularizer is, as solvers and priors see it.

.. math:: \tfrac12 \sum_j b_j w_j^2 + \sum_j a_j |w_j| + \sum_g s_g \lVert w_g \rVert_2
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Penalty", "group_norms", "penalty_prox", "penalty_value"]


class Penalty(NamedTuple):
    """The composite penalty. `None` stands for an absent term.

    Arrays broadcast to the coefficients, (features, *outputs) at the edge and (lanes, columns, features) in the
    solvers, except for `group_strength`: (groups,) at the edge, (lanes, groups) in the solvers.
    """

    l2: jax.Array | np.ndarray | None = None
    l1: jax.Array | np.ndarray | None = None
    group_strength: jax.Array | np.ndarray | None = None  # with the square root of the group's size
    group: jax.Array | np.ndarray | None = None  # group of each coefficient, -1 for none

    @property
    def smooth(self) -> bool:
        """Whether the penalty is differentiable everywhere."""
        return self.l1 is None and self.group is None


def group_norms(coef, group, n_groups: int):
    """Return the Euclidean norm of each group, with a zero derivative at zero.

    Parameters
    ----------
    coef, group : arrays of one shape
        A group of -1 is left out.
    """
    ids = jnp.where(group < 0, n_groups, group).ravel()
    squared = jax.ops.segment_sum(jnp.square(coef).ravel(), ids, n_groups + 1)[:n_groups]
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def penalty_value(penalty: Penalty, coef):
    """Return the penalty of one lane's coefficients."""
    value = jnp.zeros((), coef.dtype)
    if penalty.l2 is not None:
        value += 0.5 * jnp.sum(penalty.l2 * jnp.square(coef))
    if penalty.l1 is not None:
        value += jnp.sum(penalty.l1 * jnp.abs(coef))
    if penalty.group is not None:
        norms = group_norms(coef, penalty.group, penalty.group_strength.shape[-1])
        value += jnp.sum(penalty.group_strength * norms)
    return value


def penalty_prox(penalty: Penalty, coef, step):
    r"""Return the minimiser over `w` of :math:`\sum_j (w_j - c_j)^2 / (2 t_j) + penalty(w)`.

    Parameters
    ----------
    coef : array
        The point c of one lane.
    step : scalar or array of the shape of `coef`
        The step t; constant within a group.

    References
    ----------
    Parikh, Boyd (2013), Proximal Algorithms, section 6.5. doi:10.1561/2400000003
    """
    if penalty.l1 is not None:
        coef = jnp.sign(coef) * jnp.maximum(jnp.abs(coef) - step * penalty.l1, 0.0)
    if penalty.group is not None:
        n_groups = penalty.group_strength.shape[-1]
        norms = group_norms(coef, penalty.group, n_groups)
        inside = penalty.group >= 0
        ids = jnp.where(inside, penalty.group, 0)
        threshold = step * penalty.group_strength[ids]
        norm = norms[ids]
        factor = jnp.where(norm > threshold, 1.0 - threshold / jnp.where(norm > 0, norm, 1.0), 0.0)
        coef = jnp.where(inside, factor, 1.0) * coef
    if penalty.l2 is not None:
        coef = coef / (1.0 + step * penalty.l2)
    return coef
