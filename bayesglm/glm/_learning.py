"""Strengths that are learned: from a problem that does not say them to one that does."""

from __future__ import annotations

import logging

import numpy as np

from bayesglm import _families, _profile, links, solvers
from bayesglm._layout import Layout
from bayesglm._messages import Message
from bayesglm.glm import _evidence, _search
from bayesglm.glm._evidence import Model
from bayesglm.glm._learned import Learned
from bayesglm.glm._problem import Problem
from bayesglm.glm._search import Hyper
from bayesglm.glm._values import Fit
from bayesglm.prior import BOUNDS, Flat, Gaussian, index_of
from bayesglm.rows import gram, moments

_log = logging.getLogger(__name__)

# Standard deviation of the effects at which the search begins, in its unit, and the least that a sample is believed.
_BEGIN, _LEAST_BELIEVED = 0.3, 0.1
# Rows of a sample on which the search begins, and how many times as many there must be.
_PILOT_ROWS, _PILOT_ROWS_PER_FEATURE, _PILOT_PAYS, _PILOT_TOL = 4_000, 40, 4, 0.3
# Bytes of matrices, of which a lane has so many at a time.
_PANEL_BYTES, _MATRICES_PER_LANE = 1 << 30, 12
# What is said of standard deviations at their bounds, for so many groups of features at most.
_AT_LOW = (
    "no sign of an effect, so that the standard deviation of the prior is at its lower bound, and coefficients are "
    "as good as zero"
)
_AT_HIGH = (
    "nothing holds the coefficients, so that the standard deviation of the prior is at its upper bound; give the "
    "strength a number"
)
_NAMED = 10
# Share of a bound within which a standard deviation is at it.
_AT_BOUND = 1e-6
# Effective degrees of freedom below which features have no effect.
_NO_EFFECT = 1e-3


def groups_of(problem: Problem) -> tuple[np.ndarray, tuple]:
    """Return which features each strength to be learned belongs to, (groups, features), and how it is learned.

    Raises
    ------
    ValueError
        If a prior cannot be learned.
    """
    if not problem.prior.smooth:
        raise ValueError(
            "A strength cannot be learned beside a leaf whose prior has a kink: the mode says little of the evidence. "
            "Give such leaves Ridge or another normal prior, or choose strengths by cross-validation "
            "(`bayesglm.model_selection.StrengthSearchCV`)."
        )
    groups, scales, n = [], [], len(problem.mask)
    for term, scale in zip(problem.prior.terms, problem.scales, strict=True):
        if scale is None or isinstance(term, Flat):
            continue
        if not isinstance(term, Gaussian) or term.unit != "row":
            raise ValueError(
                f"A strength is learned for normal priors that count per row, but {type(term).__name__} is none. "
                "Give it a number, or choose one by cross-validation (`bayesglm.model_selection.StrengthSearchCV`)."
            )
        if scale.per_feature and term.couples:
            raise ValueError(
                "`Scale(per_feature=True)` is for priors of independent coefficients, such as Ridge; one whose "
                "precision couples them has one strength. Use `per_feature=False`."
            )
        rows = np.arange(n)[index_of(term.features)]
        for some in np.split(rows, len(rows)) if scale.per_feature else [rows]:
            groups.append(np.isin(np.arange(n), some).astype(float))
            scales.append(scale)
    return np.reshape(groups, (-1, n)).astype(float), tuple(scales)


def learn(problem: Problem, usable, theta) -> tuple[Learned, np.ndarray]:
    """Return the learned strengths of the usable neurons, and parameters at their mode.

    Parameters
    ----------
    usable : bool array (neurons,)
    theta : array (neurons, columns, features + 1)
        Zero coefficients, and the intercepts that match the mean response.
    """
    groups, scales = groups_of(problem)
    _check(problem, scales)
    n, many = problem.n_neurons, len(groups)
    blank = lambda *shape: np.full(shape, np.nan)  # noqa: E731
    no = lambda: np.zeros((many, n), bool)  # noqa: E731
    found = Learned(
        groups, blank(many, n), blank(many, n), no(), no(), no(), blank(many, n), blank(n), blank(n)
    )
    theta = theta.copy()
    shared = any(scale.shared for scale in scales)
    for panel in _panels(problem, np.flatnonzero(usable), shared):
        some = problem.select(panel)
        hyper = _hyper(some, groups, scales)
        log_scale = np.log(_first_scale(some))
        start = np.log(_BEGIN) + hyper.unit
        mode, model = _learned(some, groups, hyper, start, log_scale, theta[panel])
        # noise is not told from effects, and the dispersion may vanish: steps end where there is no mode
        enough = model.dimensions < some.rows.n if model.free else True
        mode = mode._replace(converged=mode.converged & enough)
        _write(found, panel, model, hyper, mode)
        theta[panel] = mode.theta
    return found, theta


def profile(problem: Problem, usable, theta) -> np.ndarray:
    """Return the most likely dispersions at parameters, where these are part of the loss; as they are for others."""
    keep = np.flatnonzero(usable)
    objective = problem.select(keep).objective()
    log_scale = np.log(problem.dispersion[keep])[:, None]
    found = problem.dispersion.copy()
    found[keep] = np.exp(_profile.maximise(objective, theta[keep], log_scale, 1e-4).log_scale[:, 0])
    return found


def log_evidence(problem: Problem, fit: Fit) -> np.ndarray:
    """Return the log evidence of the rows of a fit, (neurons,).

    Raises
    ------
    ValueError
        If the prior has a kink, or the family is not one of ours.
    """
    if not problem.prior.smooth:
        raise ValueError(
            "There is no evidence by Laplace's method under a prior with a kink. Use a normal prior (Ridge), or "
            "compare models by cross-validation or, after `sample_posterior`, by `loo`."
        )
    theta = problem.layout.by_neuron(fit.coef, fit.intercept)
    scale = np.broadcast_to(np.asarray(fit.dispersion, float), (problem.n_neurons,))
    keep = np.flatnonzero(np.isfinite(theta).all(axis=(1, 2)) & (scale > 0))
    found = np.full(problem.n_neurons, np.nan)
    some = problem.select(keep).at_scale(scale[keep])
    model = Model.of(some, np.zeros((0, len(problem.mask))), whole=True)
    loss = model.objective.evaluate(theta[keep]).loss
    none = np.zeros((len(keep), 0))
    found[keep] = _evidence.evidence(
        model, none, np.log(scale[keep]), theta[keep], loss
    ).log_evidence
    return found


def _check(problem: Problem, scales) -> None:
    if any(scale.shared for scale in scales) and _families.has_free_scale(
        problem.observation_model
    ):
        raise ValueError(
            f"`Scale(shared=True)` is for families without a dispersion of each neuron's own, but "
            f"{type(problem.observation_model).__name__} has one. Use `shared=False`."
        )


def _panels(problem: Problem, neurons, shared: bool):
    """Cut the neurons so that their matrices fit into memory; those that share a strength stay together."""
    size = (problem.n_classes or 1) * (len(problem.mask) + 1)
    most = max(1, _PANEL_BYTES // (8 * _MATRICES_PER_LANE * size**2))
    count = 1 if shared else -(-len(neurons) // most)
    return np.array_split(neurons, count)


def _learned(problem: Problem, groups, hyper: Hyper, log_sd, log_scale, theta, tol=_search.TOL):
    """Return the mode on all rows, from that on a sample where there are many rows."""
    n_rows, curvature = len(problem.rows.y), None
    wanted = max(_PILOT_ROWS, _PILOT_ROWS_PER_FEATURE * groups.shape[1])
    if n_rows >= _PILOT_PAYS * wanted:
        more = problem.sample(wanted)
        good = (more.rows.n > 0).all() and not more.absent.any()
        if good:
            pilot, model = _learned(more, groups, hyper, log_sd, log_scale, theta, _PILOT_TOL)
            good = pilot.converged.all() and np.isfinite(pilot.theta).all()
        if good:
            # standard deviations do not change with the number of rows, but those that vanish may do so by chance
            log_sd = np.maximum(pilot.log_sd, np.log(_LEAST_BELIEVED) + hyper.unit)
            log_scale, theta = pilot.log_scale, pilot.theta
            curvature = pilot.curvature * (problem.rows.n / more.rows.n)[:, None, None]
    model = Model.of(problem, groups)
    if curvature is None:
        factors = np.exp(-2.0 * log_sd) / model.weight(log_scale)[:, None]
        start = solvers.run(
            solvers.make_solver("LBFGS", {"tol": 1e-2}), model.with_factors(factors), theta
        )
        theta = start.point.theta
    mode = _search.search(model, hyper, log_sd, log_scale, theta, curvature, tol)
    return mode, model


def _write(found: Learned, panel, model: Model, hyper: Hyper, mode) -> None:
    weight = model.weight(mode.log_scale)
    log_factor = -2.0 * mode.log_sd - np.log(weight)[:, None]
    factors = np.exp(log_factor)
    precision = model.precision(model.prior(factors))
    hessian = _evidence.joint(model, mode.curvature, precision, weight)
    covariance = _evidence.invert(model, hessian).covariance
    hat = np.einsum(
        "lij,lji->li", covariance, _evidence.joint(model, mode.curvature, 0.0 * precision, weight)
    )
    hat = np.where(model.used, hat, 0.0)
    found.strength[:, panel], found.sd[:, panel] = factors.T, np.exp(mode.log_sd).T
    effective = hat @ model.member.T
    # on the flat way to the bound there is nothing to follow
    found.low[:, panel] = ((mode.log_sd <= hyper.low + _AT_BOUND) | (effective < _NO_EFFECT)).T
    found.high[:, panel] = (mode.log_sd >= hyper.high - _AT_BOUND).T
    found.converged[:, panel] = mode.converged
    found.effective[:, panel] = effective.T
    found.dof[panel], found.scale[panel] = hat.sum(axis=1), np.exp(mode.log_scale)


def _first_scale(problem: Problem) -> np.ndarray:
    """Return the dispersions at which the search begins: those of constant means, or those that are held."""
    model = problem.observation_model
    if not _families.has_free_scale(model):
        return np.maximum(problem.dispersion, np.finfo(float).tiny)
    mean, spread = moments(problem.rows.y, problem.rows.weight)
    if _families.kind_of(model).relative_residual:
        spread = spread / np.abs(mean)
    return np.maximum(np.square(spread), np.finfo(float).tiny)


def _hyper(problem: Problem, groups, scales) -> Hyper:
    """Return the prior of standard deviations in the units of features and responses."""
    unit = np.log(_units(problem))[:, None] - 0.5 * np.log(_effects(problem, groups))
    shared = np.array([bool(scale.shared) for scale in scales], bool)
    unit = np.where(shared, unit.mean(axis=0), unit)
    low, high = (unit + np.log(bound) for bound in BOUNDS)
    return Hyper(scales, unit, low, high)


def _units(problem: Problem) -> np.ndarray:
    """Return the unit of the predictor of each neuron."""
    link = links.canonical(problem.inverse_link)
    if link is links.one_over_x:
        unit = 1.0 / np.abs(problem.mean_response())
    elif _families.is_real(problem.observation_model) and link is links.identity:
        unit = moments(problem.rows.y, problem.rows.weight)[1]
    else:
        return np.ones(problem.n_neurons)
    return np.where(np.isfinite(unit) & (unit > 0), unit, 1.0)


def _effects(problem: Problem, groups) -> np.ndarray:
    """Return the variance over rows of the effect of each group at a standard deviation of one, (neurons, groups)."""
    X, rows = problem.rows.design.matrix, problem.rows
    weight = np.broadcast_to(rows.weight, rows.y.shape).mean(axis=1)
    # neurons share their features, and so the units of these
    coupled = any(term.couples for term in problem.prior.terms)
    if coupled:
        both = gram(X, weight)
        covariance = both[:-1, :-1] - np.outer(both[-1, :-1], both[-1, :-1])
        variance = np.diagonal(covariance)
    else:
        variance = np.square(moments(X, weight[:, None])[1])
    found = np.zeros((problem.n_neurons, len(groups)))
    for term in problem.prior.terms:
        if not isinstance(term, Gaussian):
            continue
        index = index_of(term.features)
        mask = (
            problem.mask[index]
            .reshape(groups[:, index].shape[1], problem.n_neurons, -1)
            .all(axis=2)
        )
        inside = groups[:, index]
        if term.couples:
            own = inside.any(axis=1)
            part = covariance[index][:, index]
            each = [
                np.sum(
                    np.linalg.pinv(term.precision.dense() * np.outer(u, u), hermitian=True) * part
                )
                for u in np.unique(mask.T, axis=0)
            ]
            which = np.unique(mask.T, axis=0, return_inverse=True)[1].ravel()
            strength = term.strength[0].reshape(problem.n_neurons, -1)[:, 0]
            found += np.array(each)[which][:, None] / strength[:, None] * own
        else:
            strength = term.strength.reshape(*mask.shape, -1)[..., 0]
            ratio = np.where(
                mask & (strength > 0),
                variance[index][:, None] / np.where(strength > 0, strength, 1),
                0,
            )
            found += (inside @ ratio).T
    return np.where(found > 0, found, 1.0)


def messages(learned: Learned, layout: Layout) -> tuple[Message, ...]:
    """Return what the user is told of strengths that the data do not say."""
    told = []
    for which, text in ((learned.low, _AT_LOW), (learned.high, _AT_HIGH)):
        at = [_features(learned, layout, g, which[g]) for g in np.flatnonzero(which.any(axis=1))]
        if at:
            more = f", ... ({len(at)} in all)" if len(at) > _NAMED else ""
            told.append(f"{'; '.join(at[:_NAMED])}{more}: {text}.")
    found = (Message(UserWarning, f"Learned strengths: {' '.join(told)}"),) if told else ()
    lost = (np.isfinite(learned.sd) & ~learned.converged).any(axis=0)
    if lost.any():
        text = (
            f"{layout.named(lost)}: the search of strengths did not converge (with as many coefficients as rows, a "
            "dispersion is hard to tell from effects). Give a `Scale` with a more informative prior, or a number."
        )
        found += (Message(RuntimeWarning, text),)
    return found


def _features(learned: Learned, layout: Layout, group: int, which) -> str:
    """Return the features of a strength, and whose they are."""
    names = layout.feature_labels
    some = [names[k] for k in np.flatnonzero(learned.groups[group])]
    words = f"feature {some[0]}" if len(some) == 1 else f"features {some[0]} to {some[-1]}"
    return f"{words} of {layout.named(which)}" if layout.population else words


__all__ = ["groups_of", "learn", "log_evidence", "messages", "profile"]
