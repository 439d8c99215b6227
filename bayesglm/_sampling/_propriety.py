"""Posteriors that do not exist: found before anything is sampled, and named.

A flat prior leaves it to the responses to make the posterior proper. They cannot where a neuron is silent, where
features are linearly dependent, where responses can be told apart without error, or where the likelihood does not
vanish as the intercept goes to infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bayesglm import links
from bayesglm.observation_models import (
    BernoulliObservations,
    CategoricalObservations,
    GammaObservations,
    GaussianObservations,
    NegativeBinomialObservations,
    PoissonObservations,
)

_REMEDY = (
    "Use a penalty such as Ridge, or `prior='auto'` with an UnRegularized model, which also gives the "
    "intercept a proper prior."
)
# Standard error of the predictor, per standard deviation of the features, beyond which there is no information.
_NO_INFORMATION = 100.0


class ImproperPosteriorError(ValueError):
    """The posterior cannot be normalised."""


class View(NamedTuple):
    """What decides."""

    observation_model: Any
    inverse_link: Callable
    X: np.ndarray
    weight: np.ndarray  # (samples, neurons)
    flat: np.ndarray  # bool (features, neurons)
    intercept: np.ndarray  # (neurons, classes), not finite where a neuron is silent
    flat_intercept: bool
    labels: list[str]
    population: bool


def check(view: View) -> None:
    """Raise if a posterior is improper whatever its mode.

    Raises
    ------
    ImproperPosteriorError
        Naming neurons or features.
    """
    if view.flat_intercept:
        _check_link(view)
        _check_silent(view)
    _check_rank(view)


def _named(view: View, neurons) -> str:
    shown = ", ".join(str(int(k)) for k in neurons[:10]) + (", ..." if len(neurons) > 10 else "")
    return f" of neurons {shown}" if view.population else ""


def _check_link(view: View) -> None:
    link = links.canonical(view.inverse_link)
    bounded = link in (links.logistic, links.norm_cdf)
    model = view.observation_model
    counts = (PoissonObservations, NegativeBinomialObservations, GammaObservations)
    improper = isinstance(model, counts) and bounded
    improper |= isinstance(model, GaussianObservations) and link in (
        links.exp, links.softplus, links.logistic, links.norm_cdf, links.one_over_x,
    )  # fmt: skip
    if improper:
        raise ImproperPosteriorError(
            f"The posterior{_named(view, np.arange(view.weight.shape[1]))} is improper: with {type(model).__name__} "
            f"and the inverse link {links.inverse_link_name(link)} the likelihood does not vanish as the intercept "
            "goes to infinity, and the intercept's prior is flat. Use `prior='auto'` with an UnRegularized model, "
            "pass a proper `intercept_prior`, or use another link."
        )


def _check_silent(view: View) -> None:
    silent = np.flatnonzero(~np.isfinite(view.intercept).all(axis=1))
    if len(silent):
        raise ImproperPosteriorError(
            f"The posterior{_named(view, silent)} is improper: no finite intercept gives the mean response (a silent "
            "neuron, or a class that never occurs), and the intercept's prior is flat. Leave such neurons out, or use "
            "`prior='auto'` with an UnRegularized model, or pass a proper `intercept_prior`."
        )


def _check_rank(view: View) -> None:
    if not view.flat.any():
        return
    shared = (view.weight == view.weight[:, :1]).all()
    seen: dict[bytes, np.ndarray] = {}
    for k in range(view.flat.shape[1]):
        pattern = view.flat[:, k].tobytes() + (b"" if shared else view.weight[:, k].tobytes())
        if pattern not in seen:
            seen[pattern] = _dependent(view, k)
        if len(seen[pattern]):
            same = [
                j
                for j in range(k, view.flat.shape[1])
                if (view.flat[:, j] == view.flat[:, k]).all()
            ]
            names = ", ".join(view.labels[j] for j in seen[pattern][:10])
            raise ImproperPosteriorError(
                f"The posterior{_named(view, np.array(same))} is improper: features {names} are linearly dependent "
                f"on others or on the intercept, and their prior is flat. Leave them out. {_REMEDY}"
            )


def _dependent(view: View, k: int) -> np.ndarray:
    """Return the features with a flat prior that add nothing to those before them."""
    features = np.flatnonzero(view.flat[:, k])
    rows = view.weight[:, k] > 0
    X = view.X[rows][:, features].astype(float)
    if view.flat_intercept:
        X = X - X.mean(axis=0)
    scale = np.sqrt(np.mean(np.square(X), axis=0))
    size = np.sqrt(np.mean(np.square(view.X[rows][:, features]), axis=0))
    constant = scale <= 1e-10 * np.maximum(size, 1e-300)
    X = X / np.where(constant, 1.0, scale)
    gram = X.T @ X / max(len(X), 1)
    if not constant.any() and len(X) > len(features) and np.linalg.eigvalsh(gram)[0] > 1e-9:
        return features[:0]
    # Cholesky of the Gram matrix, in order: a pivot of zero is a dependent feature
    left, dependent = gram.copy(), []
    for j in range(len(features)):
        pivot = left[j, j]
        if constant[j] or pivot < 1e-9:
            dependent.append(features[j])
            continue
        left -= np.outer(left[:, j], left[j]) / pivot
    return np.array(dependent, int)


def check_information(view: View, spread: np.ndarray) -> None:
    """Raise for neurons whose predictor is not known along some direction.

    Parameters
    ----------
    spread : array (neurons,)
        Largest standard error of the predictor at the mode, per standard deviation of the features.
    """
    families = (
        PoissonObservations, NegativeBinomialObservations, BernoulliObservations, CategoricalObservations,
    )  # fmt: skip
    if not isinstance(view.observation_model, families):
        return
    bad = np.flatnonzero(~(spread < _NO_INFORMATION))
    if len(bad):
        raise ImproperPosteriorError(
            f"The posterior{_named(view, bad)} is improper: along some direction the responses can be predicted "
            f"without error (separation), so that nothing bounds the coefficients. {_REMEDY}"
        )
