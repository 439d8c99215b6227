"""The regularizers of the documented interface."""

from __future__ import annotations

import jax
import numpy as np

from bayesglm import prior
from bayesglm._input import strengths
from bayesglm.regularizer._base import Regularizer, is_learned


class UnRegularized(Regularizer):
    """No penalty: a flat prior. Any strength is ignored."""

    @property
    def default_strength(self):
        """None."""
        return None

    @property
    def flat(self):
        """True."""
        return True

    def check_strength(self, strength):
        """Return None: no strength is needed."""

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the flat term."""
        return prior.Flat()


class Ridge(Regularizer):
    """Penalty ``strength / 2 * sum(coef**2)``: a normal prior.

    References
    ----------
    Hoerl, Kennard (1970). doi:10.1080/00401706.1970.10488634
    """

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the normal term."""
        return prior.Gaussian(strength=broadcast(strength))


class Lasso(Regularizer):
    """Penalty ``strength * sum(abs(coef))``: a Laplace prior.

    References
    ----------
    Tibshirani (1996) doi:10.1111/j.2517-6161.1996.tb02080.x; Park, Casella (2008) doi:10.1198/016214508000000337
    """

    smooth = False

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the Laplace term."""
        return prior.Laplace(broadcast(strength))


class ElasticNet(Regularizer):
    """Penalty ``strength * sum((1 - ratio) / 2 * coef**2 + ratio * abs(coef))``.

    The strength of the estimator is a pair (strength, ratio) with ratios in [0, 1]; a single value
    is a strength with the ratio 0.5.

    References
    ----------
    Zou, Hastie (2005). doi:10.1111/j.1467-9868.2005.00503.x
    """

    smooth = False

    @property
    def default_strength(self):
        """``(1.0, 0.5)``."""
        return (1.0, 0.5)

    def check_strength(self, strength):
        """Return the pair (strength, ratio).

        Raises
        ------
        TypeError
            If a tuple does not have two entries, or an entry is not numeric.
        ValueError
            If a ratio is outside [0, 1].
        """
        if is_learned(strength):
            return self.check_scale(strength)
        if not isinstance(strength, tuple):
            strength = (strength, 0.5)
        if len(strength) != 2:
            raise TypeError(
                "`regularizer_strength` of ElasticNet must be a pair (strength, ratio), "
                f"but a tuple of length {len(strength)} was given."
            )
        ratio = strengths(strength[1], "regularizer ratio")
        if any(np.any(np.asarray(leaf) > 1) for leaf in jax.tree.leaves(ratio)):
            raise ValueError(
                f"The ratio of ElasticNet must lie in [0, 1], but {strength[1]!r} was given."
            )
        return (strengths(strength[0], "regularizer_strength"), ratio)

    def with_strength(self, value, strength):
        """Return a pair with the ratio that there was."""
        return value, strength[1]

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the elastic net term."""
        value, ratio = (broadcast(part) for part in strength)
        return prior.ElasticNet(value * ratio, value * (1.0 - ratio))


class GroupLasso(Regularizer):
    r"""Penalty :math:`\sum_g strength_g \sqrt{p_g} \lVert w_g \rVert_2`.

    :math:`p_g` counts the coefficients of the group that are in use (not masked).

    Parameters
    ----------
    mask : array (n_groups, *coef shape), or a pytree of these that mirrors the coefficients
        1 where a coefficient belongs to a group; at most one group for each, and coefficients in no group are not
        penalised. By default the features of each leaf of the design form one group for each neuron (and class).

    References
    ----------
    Yuan, Lin (2006). doi:10.1111/j.1467-9868.2005.00532.x
    """

    smooth = False

    def __init__(self, mask=None):
        self.mask = mask

    @property
    def mask(self):
        """Groups, as given."""
        return self._mask

    @mask.setter
    def mask(self, value):
        if isinstance(value, (list, tuple)) and all(map(np.isscalar, jax.tree.leaves(value))):
            value = np.asarray(value)  # nested lists of numbers, not a pytree of scalars
        if value is not None:
            _check_group_mask(value)
        self._mask = value

    def check_strength(self, strength):
        """Return a number or an array (n_groups,).

        Raises
        ------
        ValueError
            If it is an array of more than one dimension.
        """
        value = super().check_strength(strength)
        if not isinstance(value, float) and np.ndim(value) != 1:
            raise ValueError(
                "`regularizer_strength` of GroupLasso must be a number or an array (n_groups,), "
                f"but {strength!r} was given."
            )
        return value

    def _groups(self, shape, leaf_slices):
        """Return the group of each coefficient, -1 for none, and the number of groups."""
        if self.mask is None:
            group = _column_groups(shape, leaf_slices)
            return group, int(group.max()) + 1
        return _groups_of_mask(self.mask, shape, leaf_slices), len(jax.tree.leaves(self.mask)[0])

    def of_coefficients(self, values, strength, tree, leaf_slices):
        """Return the strength of each group."""
        group, n_groups = self._groups(values.shape, leaf_slices)
        found = np.ones(n_groups)
        found[group[group >= 0]] = values[group >= 0]
        return found

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the group term."""
        group, n_groups = self._groups(mask.shape, leaf_slices)
        if not isinstance(strength, float) and strength.shape != (n_groups,):
            raise ValueError(
                f"`regularizer_strength` has shape {strength.shape}, but there are {n_groups} groups; "
                f"expected a number or an array of shape ({n_groups},)."
            )
        size = np.bincount(group[(group >= 0) & mask], minlength=n_groups)
        return prior.GroupLaplace(np.sqrt(size) * strength, np.where(mask, group, -1))


def _column_groups(shape, leaf_slices):
    """One group for each leaf and each column of coefficients."""
    n_columns = int(np.prod(shape[1:], dtype=int))
    group = np.empty((shape[0], n_columns), dtype=int)
    for i, rows in enumerate(leaf_slices):
        group[rows] = i * n_columns + np.arange(n_columns)
    return group.reshape(shape)


def _groups_of_mask(mask, shape, leaf_slices):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mask)]
    widths = [rows.stop - rows.start for rows in leaf_slices] if len(leaves) > 1 else shape[:1]
    expected = [(len(leaves[0]), width, *shape[1:]) for width in widths]
    if [leaf.shape for leaf in leaves] != expected:
        raise ValueError(
            f"The mask of GroupLasso has leaves of shape {[leaf.shape for leaf in leaves]}, but "
            f"{expected} was expected: (n_groups, *coef shape)."
        )
    stacked = np.concatenate(leaves, axis=1).astype(bool)
    return np.where(stacked.any(axis=0), stacked.argmax(axis=0), -1)


def _check_group_mask(mask) -> None:
    leaves = jax.tree.leaves(mask)
    try:
        leaves = [np.asarray(leaf, dtype=float) for leaf in leaves]
    except (TypeError, ValueError) as error:
        raise TypeError("The mask of GroupLasso must be an array or a pytree of arrays.") from error
    if not leaves or any(leaf.ndim < 2 for leaf in leaves):
        raise ValueError("The mask of GroupLasso must have shape (n_groups, *coef shape).")
    if len({len(leaf) for leaf in leaves}) > 1:
        raise ValueError(
            "All leaves of the mask of GroupLasso must have the same number of groups, but they have "
            f"{[len(leaf) for leaf in leaves]}."
        )
    if not all(np.isin(leaf, (0, 1)).all() for leaf in leaves):
        raise ValueError("The mask of GroupLasso must hold zeros and ones only.")
    if any((leaf.sum(axis=0) > 1).any() for leaf in leaves):
        raise ValueError("A coefficient can be in one group of GroupLasso at most.")
    if not any(leaf.any() for leaf in leaves):
        raise ValueError("The mask of GroupLasso is empty: no coefficient is in a group.")
