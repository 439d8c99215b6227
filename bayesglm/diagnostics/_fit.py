"""Checks of a fit, without draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bayesglm import _residuals
from bayesglm.diagnostics._check import Check, grade
from bayesglm.diagnostics._evidence import Evidence, Responses
from bayesglm.observation_models import (
    BernoulliObservations,
    NegativeBinomialObservations,
    PoissonObservations,
)
from bayesglm.posterior import families


def checks(evidence: Evidence) -> Iterator[Check]:
    """Yield the checks for which there is evidence."""
    labels, finite = evidence.labels, evidence.finite
    known = np.where(finite, 0, -1)
    yield grade("estimable", ~finite * 1.0, labels, grades=np.where(finite, 0, 2))
    if evidence.converged is not None:
        distance = np.where(np.isfinite(evidence.distance), evidence.distance, np.inf)
        yield grade(
            "convergence",
            np.where(finite, np.where(evidence.converged, 0.0, distance), np.nan),
            labels,
        )
    curvature = evidence.curvature
    separated = evidence.separated
    if curvature is not None:
        error = np.where(curvature.flat, curvature.predictor_error, 0.0)
        if separated is not None:
            error = np.where(separated, np.inf, error)
        yield grade("separation", np.where(finite, error, np.nan), labels)
        yield grade(
            "conditioning",
            np.where(finite, curvature.condition, np.nan),
            labels,
            where=curvature.collinear,
        )
    elif separated is not None:
        yield grade("separation", separated * 1.0, labels, grades=np.where(separated, 2, known))
    if evidence.responses is not None:
        yield from _of_responses(evidence, evidence.responses)


def _of_responses(evidence: Evidence, found: Responses) -> Iterator[Check]:
    model = found.model
    if isinstance(model, (PoissonObservations, NegativeBinomialObservations)):
        yield _dispersion(evidence, found)
    if found.classes or families.is_known(model):
        yield _calibration(evidence, found)
    if found.classes or not families.is_known(model):
        return
    uniform = uniforms(found)
    if evidence.tree is None:
        yield _distance(
            "residuals", evidence, [residuals(found, k, uniform) for k in range(evidence.n_neurons)]
        )
    spikes = _residuals.is_spike_train(model, found.y, found.weight)
    if spikes.any():
        yield _distance(
            "time_rescaling", evidence,
            [intervals(found, k, uniform) if spikes[k] else np.empty(0) for k in range(evidence.n_neurons)],
        )  # fmt: skip


def _dispersion(evidence: Evidence, found: Responses) -> Check:
    dof = np.maximum(found.dof, 1.0)
    ratio = _residuals.dispersion(found.model, found.y, found.mean, found.scale, found.weight, dof)
    over = ratio.size > 1
    with np.errstate(divide="ignore"):
        either = np.fmax(ratio.size, 1.0 / ratio.size)
    check = grade("dispersion", either, evidence.labels, p_value=ratio.p_value)
    # intervals that are too wide do not mislead as those that are too narrow do
    milder = np.where(over, check.grades, np.minimum(check.grades, 1))
    where = np.where(milder > 0, np.where(over, "over-dispersed", "under-dispersed"), "")
    return grade("dispersion", either, evidence.labels, grades=milder, where=where)


def uniforms(found: Responses) -> np.ndarray:
    """Return the numbers that randomise counts, the same for a check and its picture."""
    return np.random.default_rng(0).random(found.y.shape)


def residuals(found: Responses, k: int, uniform) -> np.ndarray:
    """Return the randomised quantile residuals of one neuron, uniform if the model holds."""
    values = _residuals.uniform_residuals(
        found.model, found.y[:, k], found.mean[:, k], found.scale[k], uniform[:, k]
    )
    return values[found.weight[:, k] > 0]


def intervals(found: Responses, k: int, uniform) -> np.ndarray:
    """Return the rescaled intervals of one neuron, uniform if the model holds."""
    return _residuals.rescaled_intervals(
        found.model, found.y[:, k], found.mean[:, k], found.scale[k], uniform[:, k], found.weight[:, k] > 0
    )  # fmt: skip


def _distance(name: str, evidence: Evidence, values) -> Check:
    return graded(name, evidence, [_residuals.from_uniform(each) for each in values])


def graded(name: str, evidence: Evidence, found) -> Check:
    """Grade the deviations of all neurons."""
    sizes, p_values = (np.array(part, float) for part in zip(*found, strict=True))
    return grade(name, sizes, evidence.labels, p_value=p_values)


def bins(found: Responses, k: int) -> _residuals.Bins:
    """Return the calibration of one neuron; of a classifier, that of all class probabilities together."""
    y, mean, weight = found.y[:, k], found.mean[:, k], found.weight[:, k]
    if found.classes:
        n_classes = mean.shape[1]
        y = (y[:, None] == np.arange(n_classes)).astype(float).ravel()
        mean, weight = mean.ravel(), np.repeat(weight, n_classes)
        family, scale = BernoulliObservations(), 1.0  # each class against the others
    else:
        family, scale = found.model, found.scale[k]
    return _residuals.calibration_bins(family, y, mean, scale, weight)


def _calibration(evidence: Evidence, found: Responses) -> Check:
    each = [_residuals.miscalibration(bins(found, k)) for k in range(evidence.n_neurons)]
    return graded("calibration", evidence, each)
