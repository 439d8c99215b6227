"""Priors with a kink where a group of coefficients is zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm.distributions import GroupLaplace as GroupLaplacePrior
from bayesglm.prior._kinked import columns_of
from bayesglm.prior._terms import Bend, Mixable, Term, namespace

# Rounds of Weiszfeld's reweighting.
_REWEIGHTINGS = 20


class GroupLaplace(Term):
    r"""Group prior: :math:`\sum_g a_g \lVert w_g \rVert_2`.

    Parameters
    ----------
    rate : array (groups,)
        The rates a; a group with a rate of zero is flat.
    group : int array (features, *outputs)
        Group of each coefficient, -1 for none.
    features, unit
        As for :class:`Term`.

    References
    ----------
    Yuan, Lin (2006) doi:10.1111/j.1467-9868.2005.00532.x; Kyung, Gill, Ghosh, Casella (2010) doi:10.1214/10-BA607
    """

    arrays = ("rate", "group")
    smooth = False
    degree = 1.0
    _held = ("column",)

    def __init__(self, rate, group, *, features=None, unit="row"):
        super().__init__(rate, group, features=features, unit=unit)
        self.column = None

    @property
    def strengths(self):
        """Names of the arrays that are zero where it is flat."""
        return ("rate",)

    # -- at the edge -------------------------------------------------------------------------------

    def of_shape(self, shape):
        """Return the term with groups that have a rate only."""
        group, rate = np.asarray(self.group), np.asarray(self.rate, float)
        rate = self.checked_strengths(rate, rate.shape)
        if group.shape != tuple(shape):
            raise ValueError(f"`group` has shape {group.shape}, but the coefficients have {shape}.")
        group = np.where(np.append(rate, 0.0)[group] > 0, group, -1)
        return self.replace(rate=rate, group=group)

    def select(self, neurons):
        """Return the term of some of the neurons."""
        return self.replace(group=self.group[:, neurons])

    def proper(self, mask):
        """Return where a group is."""
        return mask & (self.group >= 0)

    def covers_unused(self):
        """Return False."""
        return False

    def ties(self, n_neurons):
        """Return whether a group has coefficients of several neurons."""
        ids = self.group.reshape(len(self.group), n_neurons, -1)
        found = [set(np.unique(ids[:, k])) - {-1} for k in range(n_neurons)]
        return sum(map(len, found)) > len(set().union(*found))

    def distribution(self, n_kappa, mask, zero_sum):
        """Return the NumPyro distribution of coefficients (features, *outputs)."""
        # A group lies within one neuron unless a mask ties neurons together, where weights must agree: that of any
        # member will do.
        group = np.where(mask, self.group, -1)
        member = np.array([np.argmax(group.ravel() == g) for g in range(len(self.rate))], int)
        n_kappa = jnp.broadcast_to(jnp.asarray(n_kappa), mask.shape).ravel()[member]
        rate = np.where(self.rate > 0, self.rate, 1.0)
        return GroupLaplacePrior(rate if self.unit == "absolute" else n_kappa * rate, group)

    def in_lanes(self, to_lanes, mask):
        """Return the term in lane form: groups are numbered within their lane, rates (lanes, groups)."""
        groups = to_lanes(np.where(mask, self.group, -1))
        local, rates, columns = np.full_like(groups, -1), [], []
        for lane, ids in enumerate(groups):
            found = np.unique(ids[ids >= 0])
            local[lane] = np.where(ids >= 0, np.searchsorted(found, ids), -1)
            rates.append(self.rate[found])
            by_feature = ids.T  # the order in which the distribution looks for a member
            first = [np.argwhere(by_feature == g)[0, 1] for g in found]
            columns.append(np.array(first, int))
        width = max(1, *map(len, rates))
        rate, column = (
            np.stack([np.pad(a, (0, width - len(a))) for a in each]) for each in (rates, columns)
        )
        return self.replace(rate=rate, group=local, column=column)

    # -- of lanes ----------------------------------------------------------------------------------

    def _norms(self, coef):
        return group_norms(coef, self.group, self.rate.shape[-1])

    def rates(self, n_kappa):
        """Return the rates in units of the log-density, and the groups."""
        if self.unit == "absolute":
            return self.rate, self.group
        own = namespace(n_kappa).take_along_axis(n_kappa[..., 0], self.column, axis=-1)
        return own * self.rate, self.group

    def total(self, coef, rate, group):
        """Return the penalty of each lane."""
        return namespace(coef).sum(rate * self._norms(coef), axis=-1)

    def prox(self, coef, step):
        """Return the minimiser of the term plus half the squared distance over the step, constant within a group."""
        xp = namespace(coef)
        threshold = step * of_group(self.rate, self.group)
        norm = of_group(self._norms(coef), self.group)
        factor = xp.where(norm > threshold, 1.0 - threshold / xp.where(norm > 0, norm, 1.0), 0.0)
        return xp.where(self.group >= 0, factor, 1.0) * coef

    def sizes(self):
        """Return the number of coefficients in each group."""
        return _sums(namespace(self.group).ones(self.group.shape), self.group, self.rate.shape[-1])

    def power(self, mask, responses):
        """Return the power of each response's n kappa in the normalisation, (lanes, responses)."""
        found = np.zeros((len(mask), responses))
        if self.unit == "row":
            response = self.column * responses // mask.shape[1]
            lane, column, feature = np.nonzero(self.group >= 0)
            np.add.at(found, (lane, response[lane, self.group[lane, column, feature]]), 1.0)
        return found

    def log_prob(self, coef, n_kappa, mask, zero_sum):
        """Return the log-density, normalised, of the coefficients in use."""
        rate, group = self.rates(n_kappa)
        rate = jnp.where(rate > 0, rate, 1.0)
        return GroupLaplacePrior(rate, group).log_prob(coef)

    def stand_in(self, coef, n_kappa, mask, normalised):
        """Return the energy of a normal prior of the same variance: a group of m has (m + 1) over the squared rate."""
        rate, group = self.rates(n_kappa)
        precision = jnp.square(rate) / (self.sizes() + 1.0)
        each = jnp.where(group >= 0, precision[group], 0.0)
        return 0.5 * jnp.sum(each * jnp.square(coef))

    def mixable(self, mask):
        """Return the scale mixture: one mixing variable for each group (Kyung et al. 2010)."""
        return Mixable(self.group, 0.5 * (self.sizes() + 1.0), self.rate, self.column)

    def bend(self, coef):
        """Return curvature and slope away from the kink."""
        group = self.group
        norms = of_group(self._norms(coef), group)
        outside = group < 0
        rate = np.where(outside, 0.0, of_group(self.rate, group))
        positive = norms > 0
        ratio = np.where(positive, rate / np.where(positive, norms, 1.0), 0.0)
        unit = np.where(positive, coef / np.where(positive, norms, 1.0), 0.0)
        same = (group[..., :, None] == group[..., None, :]) & ~outside[..., None]
        curved = np.eye(coef.shape[-1]) * ratio[..., None]
        extra = curved - np.where(same, (ratio * unit)[..., :, None] * unit[..., None, :], 0.0)
        return Bend(positive | outside, ratio * coef, extra)

    def crossing(self, new, old):
        """Nowhere: a group turns, and does not stop at zero."""
        return np.zeros(new.shape, bool)

    def level(self, diagonal):
        """Raise a diagonal to its largest entry within each group, as the prox needs."""
        group = np.broadcast_to(self.group, diagonal.shape)
        diagonal = diagonal.copy()
        for k in range(self.rate.shape[-1]):
            inside = group == k
            top = np.where(inside, diagonal, 0.0).max(axis=(1, 2), keepdims=True)
            diagonal = np.where(inside, top, diagonal)
        return diagonal

    def recentred(self, coef, free):
        """Shift by reweighting, after Weiszfeld; Beck, Sabach (2015), doi:10.1007/s10957-014-0586-7."""
        shape = coef.shape
        for _ in range(_REWEIGHTINGS):
            norms = self._norms(columns_of(coef))
            top = np.max(norms, -1, keepdims=True)
            rate = self.rate / np.maximum(norms, 1e-12 * top + 1e-300)
            v = np.where(self.group < 0, 0.0, of_group(rate, self.group)).reshape(shape)
            total = v.sum(2, keepdims=True)
            shift = (v * coef).sum(2, keepdims=True) / np.where(total > 0, total, 1.0)
            coef = coef - np.where(free & (total > 0), shift, 0.0)
        return coef


def _sums(values, group, n_groups: int):
    """Sum over each group: (..., groups) of arrays (..., columns, features)."""
    values = values.reshape(*values.shape[:-2], -1)
    ids = group.reshape(*group.shape[:-2], -1)
    if not isinstance(values, np.ndarray):
        ids = jnp.where(ids < 0, n_groups, ids)
        one = lambda v, i: jax.ops.segment_sum(v, i, n_groups + 1)  # noqa: E731
        for _ in range(values.ndim - 1):
            one = jax.vmap(one)
        return one(values, ids)[..., :n_groups]
    lanes, width = len(values), n_groups + 1
    ids = np.where(ids < 0, n_groups, ids) + width * np.arange(lanes)[:, None]
    total = np.bincount(ids.ravel(), values.ravel(), minlength=lanes * width)
    return total.reshape(lanes, width)[:, :n_groups]


def of_group(per_group, group):
    """Return what belongs to the group of each coefficient; anything where that is -1."""
    xp = namespace(per_group)
    ids = xp.where(group < 0, 0, group).reshape(len(group), -1)
    return xp.take_along_axis(per_group, ids, axis=1).reshape(group.shape)


def group_norms(coef, group, n_groups: int):
    """Return the Euclidean norm of each group, (..., groups), with a zero derivative at zero.

    Parameters
    ----------
    coef, group : arrays (..., columns, features)
        A group of -1 is left out.
    """
    xp = namespace(coef)
    squared = _sums(coef * coef, group, n_groups)
    return xp.where(squared > 0, xp.sqrt(xp.where(squared > 0, squared, 1.0)), 0.0)
