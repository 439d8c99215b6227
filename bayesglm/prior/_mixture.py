r"""Priors with a kink as scale mixtures of normals, for where they dominate the likelihood.

.. math:: \beta_g = t_g \sqrt{2 \gamma_g} / \lambda_g, \quad t \sim N(0, 1), \quad
          \gamma_g \sim \mathrm{Gamma}((m_g + 1) / 2, 1).

References
----------
Park, Casella (2008) doi:10.1198/016214508000000337 (one coefficient); Kyung, Gill, Ghosh, Casella (2010)
doi:10.1214/10-BA607 (groups); Li, Lin (2010) doi:10.1214/10-BA506 (elastic net).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import digamma, polygamma

from bayesglm.distributions import ElasticNet
from bayesglm.prior._lanes import LanePrior, index_of
from bayesglm.prior._terms import Mixable


class Mixing(NamedTuple):
    """Scale mixtures of lanes; (lanes, columns, features), or one entry for each of the mixing variables."""

    member: Any  # index of the mixing variable of each coefficient, -1 for none
    unit: Any  # prior standard deviation of each coefficient, by which it is scaled
    shape: Any
    strength: Any
    column: Any  # whose n kappa counts; -1 where the strength is absolute
    location: Any  # mean and standard deviation of the log of a mixing variable under the prior
    spread: Any
    ridge: Any  # quadratic rate of a coefficient beside its kink, or None
    ridge_row: Any  # whether it counts per row

    def rate(self, n_kappa):
        """Return the rate of each mixing variable, given n times kappa (..., columns, 1)."""
        xp = np if isinstance(n_kappa, np.ndarray) else jnp
        own = xp.take_along_axis(n_kappa[..., 0], xp.maximum(self.column, 0), axis=-1)
        rate = xp.where(self.column >= 0, own, 1.0) * self.strength
        return xp.where(rate > 0, rate, 1.0)


def mixing_of(prior: LanePrior, mask, n_kappa) -> Mixing | None:
    """Return the kinked terms of a prior as scale mixtures; None without one.

    Parameters
    ----------
    mask : bool array (lanes, columns, features)
    n_kappa : array (lanes, columns, 1)
        n times kappa at the mode, in whose units coefficients are scaled.
    """
    found = []
    for term in prior.terms:
        index = index_of(term.features)
        mixable = term.mixable(mask[..., index])
        if mixable is not None:
            found.append((term, index, mixable))
    if not found:
        return None
    member, ridge = np.full(mask.shape, -1), None
    ridge_row = np.ones(mask.shape, bool)
    counts = np.cumsum([0, *(m.shape.shape[-1] for *_, m in found)])
    for (term, index, each), first in zip(found, counts, strict=False):
        member[..., index] = np.where(each.member >= 0, each.member + first, -1)
        if each.ridge is not None:
            ridge = np.zeros(mask.shape) if ridge is None else ridge
            ridge[..., index] = each.ridge
            ridge_row[..., index] = term.unit == "row"
    shape, strength = (
        np.concatenate([np.broadcast_to(getattr(m, name), (len(mask), m.shape.shape[-1]))
                        for *_, m in found], axis=1) for name in ("shape", "strength")
    )  # fmt: skip
    column = np.concatenate(
        [np.where(term.unit == "row", m.column, -1) * np.ones((len(mask), 1), int) for term, _, m in found], axis=1
    )  # fmt: skip
    mixing = Mixing(
        member, None, shape, strength, column, digamma(shape), np.sqrt(polygamma(1, shape)),
        ridge, None if ridge is None else ridge_row,
    )  # fmt: skip
    sd = np.where(member >= 0, kink_scale(mixing, n_kappa)[1], 1.0)
    return mixing._replace(unit=sd)


def kink_scale(mixing: Mixing, n_kappa):
    """Return rate and standard deviation of the prior of each coefficient with a kink, (lanes, columns, features)."""
    each, inside = (
        mixing.rate(n_kappa),
        np.maximum(mixing.member, 0).reshape(len(mixing.member), -1),
    )
    spread_out = lambda a: np.take_along_axis(a, inside, axis=1).reshape(mixing.member.shape)  # noqa: E731
    rate, m = spread_out(each), 2.0 * spread_out(mixing.shape) - 1.0
    rate = np.where(mixing.member >= 0, rate, 1.0)
    return rate, np.sqrt(m + 1.0) / rate


def power(prior: LanePrior, mixing: Mixing, mask, responses: int) -> np.ndarray:
    """Return the power of n kappa that is left in the normalisation, (lanes, responses)."""
    total = prior.power(mask, responses, kinked=False)
    if mixing.ridge is None:
        return total
    rest = mask & (mixing.member < 0) & (mixing.ridge > 0) & mixing.ridge_row
    return total + 0.5 * rest.reshape(len(rest), responses, -1).sum(axis=-1)


def mixed(prior: LanePrior, mixing: Mixing, coef, log_mixing, n_kappa, mask):
    """Return coefficients from their normal coordinates, and minus the log-prior of both, of one lane."""
    rate = mixing.rate(n_kappa)
    inside = mixing.member >= 0
    t = coef / mixing.unit
    variance = (2.0 * jnp.exp(log_mixing) / jnp.square(rate))[mixing.member]
    energy = jnp.sum(jnp.exp(log_mixing) - mixing.shape * log_mixing)
    b = jnp.zeros(())
    if mixing.ridge is not None:
        b = jnp.where(mixing.ridge_row, n_kappa, 1.0) * mixing.ridge
        both = ElasticNet(jnp.where(inside, rate[mixing.member], 1.0), jnp.where(inside, b, 1.0))
        each = 0.5 * jnp.log1p(b * variance) + jnp.log(both.l1) - both.log_prob(0.0)
        energy += jnp.sum(jnp.where(inside, each, 0.0))
        variance = variance / (1.0 + b * variance)
    energy += 0.5 * jnp.sum(jnp.where(inside, jnp.square(t), b * jnp.square(coef) * mask))
    rest = LanePrior(tuple(term for term in prior.terms if term.smooth))
    energy += rest.energy(jnp.where(mask, coef, 0.0), n_kappa, mask, True)
    return jnp.where(inside, t * jnp.sqrt(jnp.where(inside, variance, 1.0)), coef), energy


__all__ = ["Mixable", "Mixing", "kink_scale", "mixed", "mixing_of", "power"]
