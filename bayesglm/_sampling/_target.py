r"""The density that is sampled: many independent posteriors on one design matrix.

A *lane* is one independent posterior (a neuron; several where a group of the penalty ties them together). Its
unconstrained coordinates `u` are the coefficients (for a softmax without a preferred class: in orthonormal coordinates
of the zero-sum subspace), the intercepts, and the log of each sampled dispersion. Energies are minus the log of the
joint density of :mod:`bayesglm.model`, up to a constant; the tests hold the two together.

The sampler moves in whitened coordinates z with ``u = centre + whiten @ z``. Where a prior with a kink dominates the
likelihood, coefficients are written as a scale mixture of normals (:mod:`bayesglm.prior._mixture`), with the log of the
mixing variables appended to z.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.linalg import helmert

from bayesglm import rows
from bayesglm._likelihood import kappa, response_distribution
from bayesglm.prior import LanePrior, Mixing, mixture
from bayesglm.rows import Data, Matrix, Spec, Sums


class Family(NamedTuple):
    """The hashable part: what a compiled program depends on beside shapes."""

    observation_model: Any
    inverse_link: Callable
    n_classes: int | None
    responses: int  # in one lane
    zero_sum: bool  # coefficients that sum to zero over the classes
    zero_sum_intercept: bool
    sampled: bool  # whether the dispersion is sampled
    mixture: bool  # whether coefficients at kinks are scale mixtures
    block: int  # rows in one pass
    edged: bool = (
        False  # whether some predictors have no density, as where a mean would be negative
    )

    @property
    def spec(self) -> Spec:
        """What of it the rows depend on."""
        return Spec(self.observation_model, self.inverse_link, self.n_classes, density=True)

    @property
    def classes(self) -> int:
        """Columns of coefficients of one response."""
        return self.n_classes or 1

    @property
    def coef_dims(self) -> int:
        """Coordinates of one feature of one response."""
        return self.classes - self.zero_sum

    @property
    def intercept_dims(self) -> int:
        """Coordinates of the intercepts of one response."""
        return self.classes - self.zero_sum_intercept

    def size(self, n_features: int) -> int:
        """Return the length of u."""
        each = self.coef_dims * n_features + self.intercept_dims + self.sampled
        return self.responses * each


class Shared(NamedTuple):
    """What all lanes have in common."""

    X: Any  # (rows, features)
    feature_mean: (
        Any  # (features,), where the intercept's prior is that at the mean of the features
    )
    intercept_prior: Any  # a NumPyro distribution of one number, or None for a flat one
    scale_prior: Any


class Lane(NamedTuple):
    """One posterior; with a leading axis for many (of length one where they share an entry)."""

    y: Any  # (responses, rows)
    weight: Any  # (responses or 1, rows)
    offset: Any  # (columns or 1, rows), or None
    n: Any  # (responses,) sum of the weights
    mask: Any  # bool (columns, features)
    prior: LanePrior
    precision: Any  # (responses, coef_dims, features) of stand-ins for coefficients out of use
    power: Any  # (responses,) the prior's normalisation goes with this power of n kappa
    base_y: Any  # (responses, values): responses that stand for all where eta does not matter,
    base_weight: Any  # and how many they stand for
    log_scale: Any  # (responses,) log of the dispersion where it is fixed
    scale_unit: Any  # (responses,) unit in which the dispersion has the prior
    intercept_location: Any  # (responses,) where the intercept's prior is centred,
    intercept_unit: Any  # and its unit
    centre: Any  # (size,)
    whiten: Any  # (size, size)
    mixing: Mixing | None


def axes(lanes: Lane):
    """Return what to map over: None for entries that lanes share."""
    many = lanes.y.shape[0]
    return jax.tree.map(lambda a: 0 if a.shape[0] == many else None, lanes)


def zero_sum_basis(size: int) -> np.ndarray:
    """Return orthonormal columns (size, size - 1) that span the vectors with sum zero."""
    return helmert(size).T


def split(family: Family, u, n_features: int):
    """Return coordinates of the coefficients (responses, coef_dims, features), intercepts and log scales."""
    n_coef = family.responses * family.coef_dims * n_features
    n_both = n_coef + family.responses * family.intercept_dims
    coef = u[..., :n_coef].reshape(*u.shape[:-1], family.responses, family.coef_dims, n_features)
    intercept = u[..., n_coef:n_both].reshape(*u.shape[:-1], family.responses, -1)
    return coef, intercept, u[..., n_both:]


def to_columns(family: Family, coef, intercept):
    """Turn coordinates into coefficients (columns, features) and intercepts (columns)."""
    xp = np if isinstance(coef, np.ndarray) else jnp
    if family.zero_sum:
        coef = xp.einsum("kc,...rcf->...rkf", zero_sum_basis(family.classes), coef)
    if family.zero_sum_intercept:
        intercept = xp.einsum("kc,...rc->...rk", zero_sum_basis(family.classes), intercept)
    lead = coef.shape[:-3]
    return coef.reshape(*lead, -1, coef.shape[-1]), intercept.reshape(*lead, -1)


def from_columns(family: Family, coef, intercept):
    """Invert :func:`to_columns` (project, for coefficients that do not sum to zero)."""
    coef = coef.reshape(*coef.shape[:-2], family.responses, family.classes, coef.shape[-1])
    intercept = intercept.reshape(*intercept.shape[:-1], family.responses, family.classes)
    basis = zero_sum_basis(family.classes) if family.n_classes else None
    if family.zero_sum:
        coef = np.einsum("kc,...rkf->...rcf", basis, coef)
    if family.zero_sum_intercept:
        intercept = np.einsum("kc,...rk->...rc", basis, intercept)
    lead = coef.shape[:-3]
    return np.concatenate([coef.reshape(*lead, -1), intercept.reshape(*lead, -1)], axis=-1)


# -- likelihood ------------------------------------------------------------------------------------


def row_energies(family: Family, y, eta, log_phi):
    """Minus the log-density of each response (responses, rows), without what :func:`_base_energy` counts."""
    found = rows.losses(family.spec, y[None], eta[None], _scale(family, log_phi))[0]
    return _factor(family, log_phi)[:, None] * found


def _scale(family: Family, log_phi):
    return jnp.exp(log_phi)[None, :, None]


def _factor(family: Family, log_phi):
    """Return what minus the log-density is in units of the loss."""
    if family.n_classes is not None or not rows.is_split(_unit(family)):
        return jnp.ones(log_phi.shape)
    return kappa(family.observation_model, jnp.exp(log_phi))


def _unit(family: Family):
    shape = (1, 1) if family.n_classes is None else (1, 1, family.classes)
    return response_distribution(family.observation_model, jnp.ones(shape), family.inverse_link)


def _base_energy(family: Family, lane: Lane, log_phi):
    if not family.sampled:
        return 0.0
    eta = jnp.ones_like(lane.base_y)
    scale = jnp.exp(log_phi)[:, None]
    found = response_distribution(family.observation_model, eta, family.inverse_link, scale)
    if not rows.is_split(found):
        return 0.0
    return -jnp.sum(lane.base_weight * found.log_base(lane.base_y))


def likelihood_slopes(family: Family, shared: Shared, lane: Lane, coef, intercept, log_phi):
    """Return the energy of the responses and its derivatives, in one pass over the rows."""
    data = Data(Matrix(shared.X), lane.y, lane.weight, lane.offset, None)
    found = of_rows(family, data, *joined(coef, intercept, log_phi))
    return energy_slopes(family, log_phi, found)


def of_rows(family: Family, data: Data, theta, scale) -> Sums:
    """Return the loss of the responses of one lane and its derivatives, in one pass over the rows.

    Parameters
    ----------
    data
        Its rows; arrays may lack the axis of lanes.
    theta : (columns, features + 1)
    scale : (responses,)
        Dispersions.
    """
    plain = lambda a: None if a is None else a.reshape(1, *a.shape[-2:])  # noqa: E731
    own = Data(data.X, *map(plain, data[1:4]), scale[None, :, None])
    found = rows.likelihood(family.spec, own, theta[None], family.block)
    return jax.tree.map(lambda a: a[0], found)


def energy_slopes(family: Family, log_phi, found: Sums):
    """Return the energy of what rows add up to, and its derivatives in coefficients, intercepts and log dispersions."""
    slope, loss, of_scale = found
    factor, of_factor = jax.jvp(partial(_factor, family), (log_phi,), (jnp.ones_like(log_phi),))
    slope = _per_column(family, factor) * slope
    of_phi = of_factor * loss + factor * jnp.exp(log_phi) * of_scale
    return jnp.sum(factor * loss), slope[:, :-1], slope[:, -1], of_phi


def _likelihood_energy(family, shared, lane, coef, intercept, log_phi):
    """Energy whose gradient was computed beside its value, so that the rows are read once."""
    here = jax.tree.map(lax.stop_gradient, (coef, intercept, log_phi))
    value, *slopes = likelihood_slopes(family, shared, lane, *here)
    value = outside_infinite(value)
    for slope, argument, fixed in zip(slopes, (coef, intercept, log_phi), here, strict=True):
        value = _add_slope(value, lax.stop_gradient(slope), argument, fixed)
    return value


def outside_infinite(energy):
    """Return an energy that is infinite outside the domain of the link, where a NaN slope marks the exit."""
    return jnp.where(jnp.isnan(energy), jnp.inf, energy)


@jax.custom_jvp
def _add_slope(value, slope, argument, fixed):
    del slope, argument, fixed
    return value


@_add_slope.defjvp
def _add_slope_jvp(primals, tangents):
    value, slope, _, _ = primals
    return value, tangents[0] + jnp.sum(slope * tangents[2])


def has_domain(family: Family) -> bool:
    """Return whether some predictors have no density."""
    if family.n_classes is not None:
        return False
    eta = jnp.array([[-1.0, 1.0]])
    return bool(jnp.isnan(row_energies(family, jnp.ones((1, 2)), eta, jnp.zeros(1))).any())


# -- priors ----------------------------------------------------------------------------------------


def _rates(family: Family, lane: Lane, log_phi):
    """Return n times kappa of each response."""
    if family.n_classes is not None:
        return lane.n
    return lane.n * kappa(family.observation_model, jnp.exp(log_phi))


def weights(family: Family, lane: Lane, log_phi):
    """Return n times kappa of each column, (columns, 1)."""
    return _per_column(family, _rates(family, lane, log_phi))


def _per_column(family: Family, rates):
    return jnp.repeat(rates, family.classes)[:, None]


def prior_energy(family: Family, lane: Lane, coef, log_phi, smooth: bool):
    """Minus the log-prior of the coefficients in use.

    With `smooth` priors with a kink are replaced by normal ones of the same variance.
    """
    c, of_terms = _rates(family, lane, log_phi), lane.prior.energy
    if smooth:
        of_terms = lane.prior.stand_in
    normaliser = -jnp.sum(lane.power * jnp.log(c)) if family.sampled else 0.0
    coef = jnp.where(lane.mask, coef, 0.0)
    return normaliser + of_terms(coef, _per_column(family, c), lane.mask, family.sampled)


def mixed(family: Family, lane: Lane, coef, log_mixing, log_phi):
    """Return coefficients from their normal coordinates, and minus the log-prior of both."""
    c, mask = _rates(family, lane, log_phi), lane.mask
    coef, energy = mixture.mixed(
        lane.prior, lane.mixing, coef, log_mixing, _per_column(family, c), mask
    )
    if family.sampled:
        energy -= jnp.sum(lane.power * jnp.log(c))
    return coef, energy


def intercept_energy(family: Family, shared: Shared, lane: Lane, coef, intercept):
    """Minus the log-prior of the intercepts of each response, zero where it is flat."""
    by_response = intercept.reshape(family.responses, -1)
    if shared.intercept_prior is None:
        return jnp.zeros(family.responses)
    at_mean = by_response + (coef @ shared.feature_mean).reshape(family.responses, -1)
    standard = (at_mean - lane.intercept_location[:, None]) / lane.intercept_unit[:, None]
    return -jnp.sum(shared.intercept_prior.log_prob(standard), axis=1)


def scale_energy(shared: Shared, lane: Lane, log_phi):
    """Minus the log-prior of the dispersion (not of its logarithm) of each response."""
    return -shared.scale_prior.log_prob(jnp.exp(log_phi) / lane.scale_unit)


def _other_energy(family: Family, shared: Shared, lane: Lane, coef, intercept, log_phi):
    """Minus the log-prior of intercepts and log-dispersions, and what of the likelihood goes with these."""
    energy = jnp.sum(intercept_energy(family, shared, lane, coef, intercept))
    if family.sampled:
        energy += jnp.sum(scale_energy(shared, lane, log_phi) - log_phi)
    return energy + _base_energy(family, lane, log_phi)


# -- the whole -------------------------------------------------------------------------------------


def parameters(family: Family, lane: Lane, u, log_mixing=None):
    """Return coefficients (columns, features), intercepts, log scales, and minus the log-prior of scale mixtures."""
    coordinates, intercept, log_phi = split(family, u, lane.mask.shape[-1])
    coef, intercept = to_columns(family, coordinates, intercept)
    if not family.sampled:
        log_phi = lane.log_scale
    energy = 0.5 * jnp.sum(lane.precision * jnp.square(coordinates))
    if log_mixing is not None:
        coef, more = mixed(family, lane, coef, log_mixing, log_phi)
        energy += more
    return jnp.where(lane.mask, coef, 0.0), intercept, log_phi, energy, coef


def from_whitened(family: Family, lane: Lane, z):
    """Return (u, log mixing variables or None) of whitened coordinates."""
    size = lane.centre.shape[-1]
    u = lane.centre + lane.whiten @ z[:size]
    if not family.mixture:
        return u, None
    return u, lane.mixing.location + lane.mixing.spread * z[size:]


def energy(family: Family, shared: Shared, lane: Lane, z):
    """Return minus the log of the joint density at whitened coordinates, up to a constant."""
    value, *arguments = without_rows(family, shared, lane, z)
    return value + _likelihood_energy(family, shared, lane, *arguments)


def without_rows(family: Family, shared: Shared, lane: Lane, z):
    """Return what of the energy is no sum over rows, with coefficients, intercepts and log dispersions."""
    u, log_mixing = from_whitened(family, lane, z)
    coef, intercept, log_phi, value, _ = parameters(family, lane, u, log_mixing)
    if not family.mixture:
        value += prior_energy(family, lane, coef, log_phi, smooth=False)
    value += _other_energy(family, shared, lane, coef, intercept, log_phi)
    return value, coef, intercept, log_phi


def seen(family: Family, lane: Lane, u):
    """Return what the rows see of u: theta (columns, features + 1), and dispersions (responses,)."""
    return joined(*parameters(family, lane, u)[:3])


def joined(coef, intercept, log_phi):
    """Join coefficients and intercepts to theta (columns, features + 1), beside dispersions (responses,)."""
    return jnp.concatenate([coef, intercept[:, None]], axis=1), jnp.exp(log_phi)


def with_priors(family: Family, shared: Shared, lane: Lane, u, found: Sums):
    """Return the energy with priors made smooth and its gradient in u, given what rows add up to there."""

    def prior(u):
        coef, intercept, log_phi, value, _ = parameters(family, lane, u)
        value += prior_energy(family, lane, coef, log_phi, smooth=True)
        return value + _other_energy(family, shared, lane, coef, intercept, log_phi)

    def model(u):
        return parameters(family, lane, u)[:3]

    value, gradient = jax.value_and_grad(prior)(u)
    arguments, pullback = jax.vjp(model, u)
    more, *slopes = energy_slopes(family, arguments[2], found)
    return value + more, gradient + pullback(tuple(slopes))[0]


def surrogate_slopes(family: Family, shared: Shared, lane: Lane, u):
    """Return the energy with priors made smooth, and its gradient in u; differentiable once more."""
    data = Data(Matrix(shared.X), lane.y, lane.weight, lane.offset, None)
    found = of_rows(family, data, *seen(family, lane, u))
    return with_priors(family, shared, lane, u, found)
