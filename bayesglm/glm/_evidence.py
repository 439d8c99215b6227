r"""The evidence of data: their density with all coefficients integrated out, by Laplace's method, lane by lane.

.. math::
   \log p(y \mid s, \phi) \approx \log p(y \mid \hat\theta, \phi) + \log p(\hat\theta \mid s, \phi)
   + \tfrac d2 \log 2\pi - \tfrac12 \log |H|

Directions with a flat prior are integrated over as they are: with a normal response this is restricted likelihood.

References
----------
Tierney, Kadane (1986). doi:10.1080/01621459.1986.10478240; Wood, Fasiolo (2017). doi:10.1111/biom.12666
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _families, rows
from bayesglm._likelihood import kappa, response_distribution
from bayesglm._objective import Objective
from bayesglm._sampling._target import zero_sum_basis
from bayesglm.distributions import PredictorDistribution
from bayesglm.glm._problem import Problem
from bayesglm.prior import LanePrior, index_of

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class Model:
    """What the evidence of some lanes is made of, beside parameters and strengths.

    A lane has `size` parameters: those of each column (class) in turn, its intercept last.

    Parameters
    ----------
    objective : Objective
        With the strengths that factors of one stand for.
    member : array (groups, size)
        Which parameters each factor belongs to, zero or one.
    used : bool array (lanes, size)
    rank : array (lanes, groups)
        Proper dimensions of each group.
    base : pair of arrays (lanes, values), or None
        Responses that stand for all where the predictor does not matter, and how many; None to leave that part out.
    directions : array (size, directions) or None
        Orthonormal; those that the density has, None for all.
    share : float
        Part of the dimensions of a coefficient that its classes have.
    free : bool
        Whether a dispersion multiplies the whole of the loss.
    """

    objective: Objective
    member: np.ndarray
    used: np.ndarray
    rank: np.ndarray
    base: tuple[np.ndarray, np.ndarray] | None
    held: np.ndarray
    directions: np.ndarray | None
    share: float
    free: bool

    @classmethod
    def of(cls, problem: Problem, groups, whole: bool = False) -> Model:
        """Return the model of a problem.

        Parameters
        ----------
        groups : array (groups, features)
            Which features each factor belongs to, zero or one.
        whole : bool
            Whether what depends neither on strengths nor on a free dispersion counts too.
        """
        objective = replace(problem.objective(), wide=True)
        columns = problem.n_classes or 1
        mask = np.broadcast_to(objective.mask, (problem.n_lanes, columns, problem.mask.shape[0]))
        ones = np.ones((problem.n_lanes, columns, 1), bool)
        used = np.concatenate([mask, ones], axis=2).reshape(problem.n_lanes, -1)
        none = np.zeros((len(groups), 1))
        member = np.tile(np.concatenate([groups, none], axis=1), (1, columns))
        zero_sum = problem.prior.zero_sum(problem.n_classes)
        share = (columns - 1) / columns if zero_sum else 1.0
        rank = share * _ranks(objective.prior, mask, groups)
        directions = _directions(problem, zero_sum)
        free, base = _families.has_free_scale(problem.observation_model), None
        weight = np.broadcast_to(problem.rows.weight, problem.rows.y.shape).astype(float)
        of_trials = problem.base_of_trials()
        held = np.zeros(problem.n_lanes)
        if of_trials is not None:
            held = np.sum(weight * of_trials, axis=0)
        elif whole or free:
            base = _families.kind_of(problem.observation_model).stand_ins(problem.rows.y, weight)
        return cls(objective, member, used, rank, base, held, directions, share, free)

    def select(self, keep) -> Model:
        """Return the model of some of the lanes."""
        base = None if self.base is None else tuple(part[keep] for part in self.base)
        return replace(
            self, objective=self.objective.select(keep), used=self.used[keep],
            rank=self.rank[keep], base=base, held=self.held[keep],
        )  # fmt: skip

    @property
    def columns(self) -> int:
        """Columns of a lane."""
        return self.objective.spec.n_classes or 1

    @property
    def lost(self) -> np.ndarray:
        """Dimensions that the prior leaves flat, (lanes,)."""
        return self.dimensions - self.all_ranks

    @property
    def dimensions(self) -> np.ndarray:
        """Dimensions of the density, (lanes,)."""
        n_features = self.objective.n_features
        coef = self.used.reshape(len(self.used), self.columns, -1)[..., :n_features].sum((1, 2))
        intercepts = 1 if self.directions is None else self.columns - 1
        return self.share * coef + intercepts

    @property
    def all_ranks(self) -> np.ndarray:
        """Proper dimensions of the prior, (lanes,)."""
        return self.share * sum(
            (2.0 * t.degree * _dimensions(t, self._mask_of(t)) for t in self.objective.prior.terms),
            np.zeros(len(self.used)),
        )

    def _mask_of(self, term):
        by_column = self.used.reshape(len(self.used), self.columns, -1)[..., :-1]
        return by_column[..., index_of(term.features)]

    def weight(self, log_scale) -> np.ndarray:
        """Return n times kappa at dispersions (lanes,)."""
        model = self.objective.spec.observation_model
        return self.objective.n * np.asarray(kappa(model, np.exp(log_scale)))

    def with_factors(self, factors) -> Objective:
        """Return the objective at strengths with other factors (lanes, groups)."""
        return replace(self.objective, prior=self.prior(factors))

    def prior(self, factors) -> LanePrior:
        """Return the prior at strengths with other factors."""
        rest = 1.0 - self.member.max(axis=0, initial=0.0)
        each = (factors @ self.member + rest).reshape(len(factors), self.columns, -1)[..., :-1]
        terms = self.objective.prior.terms
        return LanePrior(
            tuple(t.replace(strength=t.strength * each[..., index_of(t.features)]) for t in terms)
        )

    def precision(self, prior: LanePrior) -> np.ndarray:
        """Return the curvature of a prior, per row, as matrices (lanes, size, size)."""
        n_features = self.objective.n_features
        shape = len(self.used), self.columns, n_features
        mask = self.used.reshape(*shape[:2], -1)[..., :-1]
        diagonal = np.where(mask, prior.diagonal(shape, coupled=False), 0.0)
        blocks = prior.add_coupling(diagonal[..., None] * np.eye(n_features), mask)
        size = n_features + 1
        whole = np.zeros((shape[0], self.columns, size, self.columns, size))
        for k in range(self.columns):
            whole[:, k, :-1, k, :-1] = blocks[:, k]
        return whole.reshape(shape[0], self.columns * size, -1)

    def log_base(self, log_scale):
        """Return the part of the log-likelihood without the predictor, and two derivatives in the log dispersion."""
        spec = self.objective.spec
        if self.base is None:
            return self.held, *(np.zeros(len(self.used)),) * 2
        # of one shape whichever lanes are left, so that nothing is compiled anew
        many = self.objective.shards.width
        fill = lambda a: np.concatenate([a, np.repeat(a[:1], many - len(a), axis=0)])  # noqa: E731
        (y, weight), t = tuple(map(fill, self.base)), fill(np.asarray(log_scale, float))
        some = response_distribution(spec.observation_model, jnp.zeros(1), spec.inverse_link)
        if self.columns > 1 or not isinstance(some, PredictorDistribution):
            return (np.zeros(len(self.used)),) * 3

        def value(t):
            family = spec.observation_model, jnp.zeros(y.shape), spec.inverse_link
            found = response_distribution(*family, jnp.exp(t)[:, None])
            return jnp.sum(jnp.where(weight > 0, weight * found.log_base(y), 0.0), axis=1)

        slope = lambda t: jax.jvp(value, (t,), (jnp.ones_like(t),))[1]  # noqa: E731
        t = jnp.asarray(t)
        found = (value(t), np.zeros(many), np.zeros(many))
        if self.free:
            found = value(t), slope(t), jax.jvp(slope, (t,), (jnp.ones_like(t),))[1]
        return tuple(np.asarray(a)[: len(self.used)] for a in found)


def _dimensions(term, mask) -> np.ndarray:
    """Return the number of proper dimensions of a normal term, (lanes,)."""
    if term.rank is not None:
        return np.where(term.strength[..., 0] > 0, term.rank, 0.0).sum(axis=1) + np.zeros(len(mask))
    return (mask & (term.strength > 0)).sum(axis=(1, 2))


def _ranks(prior: LanePrior, mask, groups) -> np.ndarray:
    """Return the proper dimensions of each group of features, (lanes, groups)."""
    found = np.zeros((len(mask), len(groups)))
    for term in prior.terms:
        inside, part = groups[:, index_of(term.features)], mask[..., index_of(term.features)]
        if term.rank is not None:
            found += _dimensions(term, part)[:, None] * inside.max(axis=1, initial=0.0)
        else:
            found += (part & (term.strength > 0)).sum(axis=1) @ inside.T
    return found


def _directions(problem: Problem, zero_sum: bool):
    """Return the directions that classes have: not the shift of all that a softmax does not see."""
    if problem.n_classes is None:
        return None
    classes, size = problem.n_classes, problem.mask.shape[0] + 1
    basis, parts = zero_sum_basis(classes), []
    for place in range(size):
        some = basis if zero_sum or place == size - 1 else np.eye(classes)
        whole = np.zeros((classes, size, some.shape[1]))
        whole[:, place] = some
        parts.append(whole.reshape(classes * size, -1))
    return np.concatenate(parts, axis=1)


class Inverse(NamedTuple):
    """A curvature inverted."""

    covariance: np.ndarray  # (lanes, size, size), zero where nothing is in use
    log_det: np.ndarray  # (lanes,); infinite where it is not positive definite


def invert(model: Model, hessian) -> Inverse:
    """Invert curvatures (lanes, size, size) among the directions and the parameters in use."""
    both = model.used[:, :, None] & model.used[:, None, :]
    sound = np.isfinite(hessian).all(axis=(1, 2))
    hessian = np.where(both & sound[:, None, None], hessian, np.eye(hessian.shape[-1]))
    if model.directions is not None:
        hessian = model.directions.T @ hessian @ model.directions
    scale = np.sqrt(np.maximum(np.diagonal(hessian, axis1=1, axis2=2), np.finfo(float).tiny))
    unit = hessian / (scale[:, :, None] * scale[:, None, :])
    try:
        root = np.linalg.cholesky(unit)
        values = np.square(np.diagonal(root, axis1=1, axis2=2))
        inverse = np.linalg.inv(unit)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(unit)
        least = np.finfo(float).eps * values.shape[-1] * values[:, -1:]
        sound &= values[:, 0] > least[:, 0]
        values = np.maximum(values, least)
        inverse = (vectors / values[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    log_det = np.where(sound, np.log(values).sum(axis=1) + 2.0 * np.log(scale).sum(axis=1), np.inf)
    inverse /= scale[:, :, None] * scale[:, None, :]
    if model.directions is not None:
        inverse = model.directions @ inverse @ model.directions.T
    return Inverse(np.where(both, 0.5 * (inverse + np.swapaxes(inverse, 1, 2)), 0.0), log_det)


class Local(NamedTuple):
    """The evidence of each lane at some factors, at the mode that these have."""

    factors: np.ndarray  # (lanes, groups)
    log_scale: np.ndarray  # (lanes,)
    theta: np.ndarray  # (lanes, columns, features + 1)
    curvature: np.ndarray  # (lanes, size, size), of the loss of all rows at a dispersion of one
    precision: np.ndarray  # (lanes, size, size), of the prior, per row
    inverse: Inverse  # of the curvature with the prior, at the dispersion
    penalised: np.ndarray  # (lanes,) mean loss with penalty
    log_evidence: np.ndarray  # (lanes,)


def evidence(model: Model, factors, log_scale, theta, loss) -> Local:
    """Return the evidence at a mode: one pass over the rows.

    Parameters
    ----------
    loss : array (lanes,)
        The mean loss there.
    """
    shards, spec = model.objective.shards, model.objective.spec
    curvature = rows.observed_at(spec, shards, theta, np.dtype(float))
    prior, weight = model.prior(factors), model.weight(log_scale)
    precision = model.precision(prior)
    penalised = loss + prior.value(theta[..., :-1])
    inverse = invert(model, joint(model, curvature, precision, weight))
    local = Local(factors, log_scale, theta, curvature, precision, inverse, penalised, None)
    return _valued(model, local, weight)


def joint(model: Model, curvature, precision, weight) -> np.ndarray:
    """Return the curvature of minus the log joint density, given n times kappa."""
    factor = weight / model.objective.n
    return factor[:, None, None] * curvature + weight[:, None, None] * precision


def _valued(model: Model, local: Local, weight) -> Local:
    n_features = model.objective.n_features
    mask = model.used.reshape(len(weight), model.columns, -1)[..., :n_features]
    terms = model.prior(local.factors).log_det(mask)
    log_det = model.share * sum((t.sum(axis=1) for t in terms), np.zeros(len(weight)))
    value = (
        model.log_base(local.log_scale)[0] - weight * local.penalised
        + 0.5 * (log_det + model.all_ranks * (np.log(weight) - LOG_2PI))
        + 0.5 * (model.dimensions * LOG_2PI - local.inverse.log_det)
    )  # fmt: skip
    return local._replace(log_evidence=np.where(np.isnan(value), -np.inf, value))


def at_scale(model: Model, local: Local, log_scale) -> Local:
    """Return the evidence at other dispersions, where the mode does not depend on these."""
    weight = model.weight(log_scale)
    ratio = weight / model.weight(local.log_scale)
    inverse = Inverse(
        local.inverse.covariance / ratio[:, None, None],
        local.inverse.log_det + model.dimensions * np.log(ratio),
    )
    return _valued(model, local._replace(log_scale=log_scale, inverse=inverse), weight)


class Slopes(NamedTuple):
    """Derivatives of the log evidence in the logs of the prior's standard deviations, at a given dispersion."""

    gradient: np.ndarray  # (lanes, groups), exact
    hessian: np.ndarray  # (lanes, groups, groups), with the curvature of the loss held
    quadratic: np.ndarray  # (lanes, groups): w' S w, of n kappa times the precision S
    trace: np.ndarray  # (lanes, groups): tr(H^-1 S)
    shift: np.ndarray  # (lanes, size, groups): derivative of the mode
    bend: np.ndarray  # (lanes, size): tr(H^-1 dH)


def slopes(model: Model, local: Local, bend=None) -> Slopes:
    """Return the derivatives at a mode: one pass over the rows.

    Parameters
    ----------
    bend : array (lanes, size), optional
        How the curvature bends, where it is known or nearly so: then there is no pass.
    """
    shards, spec, member = model.objective.shards, model.objective.spec, model.member
    weight = model.weight(local.log_scale)
    covariance = local.inverse.covariance
    if bend is None:
        bend = rows.bends_at(spec, shards, local.theta, covariance, np.dtype(float))
        bend = (weight / model.objective.n)[:, None] * bend.reshape(len(bend), -1)
    precision = weight[:, None, None] * local.precision
    off = _off(model, local.theta)
    pull = times(precision, off)
    spread = precision @ covariance
    quadratic = (off * pull) @ member.T
    trace = np.diagonal(spread, axis1=1, axis2=2) @ member.T
    by_group = pull[:, None, :] * member
    shift = 2.0 * np.swapaxes(by_group @ covariance, 1, 2)
    implicit = -0.5 * np.einsum("ls,lsg->lg", bend, shift)
    gradient = quadratic + trace - model.rank + implicit
    hessian = 2.0 * (by_group @ shift)
    hessian += 2.0 * (member @ (spread * np.swapaxes(spread, 1, 2)) @ member.T)
    hessian -= 2.0 * (quadratic + trace)[:, :, None] * np.eye(len(member))
    return Slopes(gradient, hessian, quadratic, trace, shift, bend)


def _off(model: Model, theta) -> np.ndarray:
    """Return coefficients less their location, (lanes, size); intercepts are zero."""
    off = np.concatenate([theta[..., :-1], np.zeros((*theta.shape[:2], 1))], axis=2)
    for term in model.objective.prior.terms:
        if getattr(term, "location", None) is not None:
            where = np.arange(theta.shape[-1] - 1)[index_of(term.features)]
            off[..., where] -= term.location
    return np.where(model.used, off.reshape(len(off), -1), 0.0)


def times(matrix, vector) -> np.ndarray:
    """Return the product of matrices and vectors, lane by lane."""
    return np.matmul(matrix, vector[..., None])[..., 0]


def effective(model: Model, local: Local, groups=None) -> np.ndarray:
    """Return the effective degrees of freedom of groups of parameters (lanes, groups): tr(H^-1 n kappa Gram)."""
    weight = model.weight(local.log_scale) / model.objective.n
    hat = local.inverse.covariance @ (weight[:, None, None] * local.curvature)
    each = np.where(model.used, np.diagonal(hat, axis1=1, axis2=2), 0.0)
    return each @ (model.member if groups is None else groups).T


def centred(model: Model, gradient) -> np.ndarray:
    """Return a gradient in the coordinates of the curvature, (lanes, size)."""
    moved = gradient[..., :-1] - model.objective.shards.centre * gradient[..., -1:]
    whole = np.concatenate([moved, gradient[..., -1:]], axis=2).reshape(len(gradient), -1)
    return np.where(model.used, whole, 0.0)


def to_theta(model: Model, step) -> np.ndarray:
    """Return a step in the coordinates of the curvature as one of theta."""
    step = step.reshape(len(step), model.columns, -1)
    back = step[..., -1] - step[..., :-1] @ model.objective.shards.centre
    return np.concatenate([step[..., :-1], back[..., None]], axis=2)


__all__ = ["Local", "Model", "Slopes", "evidence", "invert", "slopes"]
