"""Checks of a fit, without draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bayesglm import _families, _residuals
from bayesglm.diagnostics import _dependence, _scores
from bayesglm.diagnostics._check import Check, grade
from bayesglm.diagnostics._evidence import Evidence, Responses
from bayesglm.observation_models import (
    BernoulliObservations,
)

# Residual degrees of freedom, per row, from which the distribution of residuals is judged.
_LEAST_DOF = 0.8
# Mean of one over the number of trials, above which most successes are those of single trials.
_MOST_SINGLE = 0.5


def checks(evidence: Evidence) -> Iterator[Check]:
    """Yield the checks for which there is evidence."""
    labels, finite = evidence.labels, evidence.finite
    yield grade("estimable", ~finite * 1.0, labels, grades=np.where(finite, 0, 2))
    if evidence.converged is not None:
        distance = np.where(np.isfinite(evidence.distance), evidence.distance, np.inf)
        yield grade(
            "convergence",
            np.where(finite, np.where(evidence.converged, 0.0, distance), np.nan),
            labels,
        )
    if evidence.separable:
        yield from _separation(evidence)
    curvature = evidence.curvature
    if curvature is not None:
        yield grade(
            "conditioning",
            np.where(finite, curvature.condition, np.nan),
            labels,
            where=curvature.collinear,
        )
    found = evidence.responses
    if found is not None and (found.classes or _families.is_known(found.model)):
        judged = _varies(found)
        if judged.any():
            yield _dispersion(evidence, found, judged)
        yield _calibration(evidence, found)
        yield from _of_means(evidence, found)
        yield from _of_distribution(evidence, found)
        yield from _of_order(evidence, found)


def _separation(evidence: Evidence) -> Iterator[Check]:
    curvature, separated, finite = evidence.curvature, evidence.separated, evidence.finite
    if curvature is not None:
        judged = curvature.flat & evidence.dimensionless
        error = np.where(judged, curvature.predictor_error, 0.0)
        if separated is not None:
            error = np.where(separated, np.inf, error)
        yield grade("separation", np.where(finite, error, np.nan), evidence.labels)
    elif separated is not None:
        grades = np.where(separated, 2, np.where(finite, 0, -1))
        yield grade("separation", separated * 1.0, evidence.labels, grades=grades)


def _varies(found: Responses) -> np.ndarray:
    """Return for which neurons squared residuals say something: single trials vary as they must."""
    if not _families.has_trials(found.model):
        return np.full(found.y.shape[1], _families.is_count(found.model))
    total = np.maximum(found.weight.sum(axis=0), np.finfo(float).tiny)
    return np.sum(found.weight * found.scale, axis=0) / total <= _MOST_SINGLE


def _dispersion(evidence: Evidence, found: Responses, judged: np.ndarray) -> Check:
    dof = np.maximum(found.dof, 1.0)
    ratio = _residuals.dispersion(found.model, found.y, found.mean, found.scale, found.weight, dof)
    over = ratio.size > 1
    with np.errstate(divide="ignore"):
        either = np.where(judged, np.fmax(ratio.size, 1.0 / ratio.size), np.nan)
    # intervals that are too wide do not mislead as those that are too narrow do
    return grade(
        "dispersion", either, evidence.labels, p_value=ratio.p_value, most=np.where(over, 2, 1),
        where=np.where(over, "over-dispersed", "under-dispersed"),
    )  # fmt: skip


def graded(name: str, evidence: Evidence, found, most=2) -> Check:
    """Grade the deviations of all neurons: their sizes, p-values, and where they are."""
    sizes, p_values, *where = zip(*found, strict=True)
    return grade(
        name, np.array(sizes, float), evidence.labels, p_value=np.array(p_values, float), most=most,
        where=where[0] if where else None,
    )  # fmt: skip


def transforms(found: Responses, k: int) -> _residuals.Intervals:
    """Return the quantile residuals of one neuron, uniform if the model holds."""
    return _residuals.transforms(
        found.model, found.y[:, k], found.mean[:, k], found.scale[:, k], found.weight[:, k]
    )


def rescaled(found: Responses, k: int) -> _residuals.Intervals:
    """Return the rescaled intervals between the spikes of one neuron, uniform if the model holds."""
    order = found.order
    return _residuals.rescaled_intervals(
        found.model, found.y[order.rows, k], found.mean[order.rows, k], found.scale[order.rows, k],
        found.weight[order.rows, k] > 0, order.stretch,
    )  # fmt: skip


def bins(found: Responses, k: int, along=None) -> _residuals.Bins:
    """Return the calibration of one neuron; of a classifier, that of all class probabilities together."""
    y, mean, weight = found.y[:, k], found.mean[:, k], found.weight[:, k]
    if found.classes:
        n_classes = mean.shape[1]
        y = (y[:, None] == np.arange(n_classes)).astype(float).ravel()
        mean, weight = mean.ravel(), np.repeat(weight, n_classes)
        family, scale = BernoulliObservations(), 1.0  # each class against the others
    else:
        family, scale = found.model, found.scale[:, k]
    return _residuals.calibration_bins(family, y, mean, scale, weight, along=along)


def _calibration(evidence: Evidence, found: Responses) -> Check:
    each = [_residuals.miscalibration(bins(found, k)) for k in range(evidence.n_neurons)]
    return graded("calibration", evidence, each)


def _of_distribution(evidence: Evidence, found: Responses) -> Iterator[Check]:
    """Yield checks of the shape of the distribution; zeros and ones have no shape."""
    if found.classes:
        return
    each = [transforms(found, k) for k in range(evidence.n_neurons)]
    if evidence.tree is None and not _families.is_binary(found.model):
        # where many parameters were estimated, residuals are smaller than the errors that they stand for
        few = found.dof >= _LEAST_DOF * found.weight.sum(axis=0)
        unknown = _residuals.Deviation(np.nan, np.nan)
        values = [_residuals.from_uniform(a) if few[k] else unknown for k, a in enumerate(each)]
        yield graded("residuals", evidence, values)
    yield graded("outliers", evidence, [_residuals.outlier(a) for a in each])


def _of_means(evidence: Evidence, found: Responses) -> Iterator[Check]:
    """Yield the score tests: of curves, products, the link and the spread."""
    n_classes, spread = _scores.columns(found), _families.has_free_scale(found.model)
    result: dict[str, list] = {name: [] for name in ("linearity", "interactions", "link", "spread")}
    order = []
    for shared, neurons in _scores.designs(found):
        for k in neurons:
            each: dict[str, list] = {name: [] for name in result}
            for c in range(n_classes):
                fitted = shared.fitted(_scores.cells(found, k, c))
                effect = found.coef[:, k].reshape(len(found.coef), -1)[:, c] * shared.sd
                for name, value in _tests(fitted, shared, effect, found.names, spread):
                    each[name].append(value)
            order.append(k)
            for name, values in each.items():
                result[name].append(_strongest(values))
    back = np.argsort(order)
    for name, values in result.items():
        if name != "spread" or spread:
            yield graded(name, evidence, [values[k] for k in back])


def _tests(fitted, shared, effect, names, spread: bool):
    """Yield the name of a check, and size, p-value and place of its strongest test."""
    share, p_value, at = _scores.worst(_scores.of_features(fitted, shared))
    yield "linearity", (share, p_value, names[at])
    found, pairs = _scores.of_pairs(fitted, shared, effect)
    share, p_value, at = _scores.worst(found)
    yield "interactions", (share, p_value, " x ".join(names[j] for j in pairs[at]) if pairs else "")
    yield "link", (*_scores.worst(_scores.of_link(fitted))[:2], "")
    if spread:
        size, p_value, at = _scores.worst(_scores.of_spread(fitted, shared))
        yield "spread", (size, p_value, [*names, "the expected mean"][at])


def _strongest(values):
    """Return the most significant of size, p-value and place, with a p-value for all together."""
    known = [value for value in values if np.isfinite(value[0])]
    if not known:
        return np.nan, np.nan, ""
    size, p_value, where = min(known, key=lambda value: (value[1], -value[0]))
    return size, min(1.0, p_value * len(known)), where


def _of_order(evidence: Evidence, found: Responses) -> Iterator[Check]:
    """Yield the checks of rows that are alike, and, where rows are a time series, of their order."""
    n_neurons, result = evidence.n_neurons, {}
    group = _dependence.alike(found.matrix, found.weight)
    series = None if found.order is None else _dependence.Series.of(found)
    for k in range(n_neurons):
        each: dict[str, list] = {}
        for c in range(_scores.columns(found)):
            cells = _scores.cells(found, k, c)
            if group is not None:
                found_here = _dependence.within_groups(cells, group)
                each.setdefault("repeated_rows", []).append(found_here)
            for name, value in series.tests(cells) if series is not None else ():
                each.setdefault(name, []).append(value)
        for name, values in each.items():
            result.setdefault(name, [(np.nan, np.nan, "")] * n_neurons)[k] = _strongest(values)
    for name, values in result.items():
        # rows that are spread evenly make errors too large, which does not mislead
        even = np.array([where == _dependence.EVEN for _, _, where in values])
        yield graded(name, evidence, values, most=np.where(even, 1, 2))
    spikes = _residuals.is_spike_train(found.model, found.y, found.weight) & (not found.classes)
    if series is not None and spikes.any():
        each = [
            _residuals.from_uniform(rescaled(found, k)) if spikes[k] else (np.nan, np.nan)
            for k in range(n_neurons)
        ]
        yield graded("time_rescaling", evidence, each)
