"""Posteriors that do not exist: found before anything is sampled, and named.

A flat prior leaves it to the responses to make the posterior proper. They cannot where a neuron is silent, where
features are linearly dependent, where responses can be told apart without error, or where the likelihood does not
vanish as the intercept goes to infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bayesglm import _families, links
from bayesglm._design import pieces
from bayesglm.rows import triangle

_REMEDY = (
    "Use a penalty such as Ridge, or `prior='auto'` with an UnRegularized model, which also gives the "
    "intercept a proper prior."
)
# Smallest singular value of standardised features, of which float64 keeps the square in a curvature to about a tenth,
# and below which rounding alone can be behind it.
_LEAST_SINGULAR, _EXACT = 1e-7, 1e-11
# Features by which a combination is named.
_NAMED = 3
# Standard error of the predictor, per standard deviation of the features, beyond which there is no information.
_NO_INFORMATION = 100.0


class ImproperPosteriorError(ValueError):
    """The posterior cannot be normalised."""


class View(NamedTuple):
    """What decides."""

    observation_model: Any
    inverse_link: Callable
    X: np.ndarray
    y: np.ndarray  # (samples, neurons), class indices of labels
    weight: np.ndarray  # (samples, neurons)
    n_classes: int | None
    flat: np.ndarray  # bool (features, neurons)
    intercept: np.ndarray  # (neurons, classes), not finite where a neuron is silent
    flat_intercept: bool
    labels: list[str]
    neurons: list | None  # labels, of a population
    directions: list  # of each neuron, flat combinations of other features, (features, directions)
    unseen: (
        np.ndarray
    )  # bool (neurons,): neither softmax nor prior see some change common to all classes

    @property
    def is_flat(self) -> np.ndarray:
        """Whether a prior is flat along some direction, (neurons,)."""
        combined = [bool(each.shape[1]) for each in self.directions]
        return self.flat.any(axis=0) | combined

    def basis(self, k: int) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Return features with a flat prior, names of all flat directions, and those that combine features."""
        features = np.flatnonzero(self.flat[:, k])
        combined = self.directions[k]
        names = [self.labels[j] for j in features]
        return features, names + [_combination(each, self.labels) for each in combined.T], combined


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
    _check_shifts(view)
    _check_rank(view)


def _named(view: View, neurons) -> str:
    if view.neurons is None:
        return ""
    shown = ", ".join(str(view.neurons[k]) for k in neurons[:10])
    return f" of neurons {shown}{', ...' if len(neurons) > 10 else ''}"


def _check_link(view: View) -> None:
    model, used = view.observation_model, view.weight > 0
    flat = _families.is_flat_at_infinity(
        model, view.inverse_link, view.y, view.weight, view.n_classes
    )
    # where responses do not vary, the link is not to blame
    varies = np.where(used, view.y, -np.inf).max(axis=0) > np.where(used, view.y, np.inf).min(
        axis=0
    )
    improper = np.flatnonzero(flat & varies)
    if len(improper):
        raise ImproperPosteriorError(
            f"The posterior{_named(view, improper)} is improper: with {type(model).__name__} "
            f"and the inverse link {links.inverse_link_name(view.inverse_link)} the likelihood does not vanish as the "
            "intercept goes to infinity, and the intercept's prior is flat. Use `prior='auto'` with an UnRegularized "
            "model, pass a proper `intercept_prior`, or use another link."
        )


def _check_silent(view: View) -> None:
    silent = np.flatnonzero(~np.isfinite(view.intercept).all(axis=1))
    if len(silent):
        raise ImproperPosteriorError(
            f"The posterior{_named(view, silent)} is improper: no finite intercept gives the mean response (a silent "
            "neuron, or a class that never occurs), and the intercept's prior is flat. Leave such neurons out, or use "
            "`prior='auto'` with an UnRegularized model, or pass a proper `intercept_prior`."
        )


def _check_shifts(view: View) -> None:
    if view.unseen.any():
        raise ImproperPosteriorError(
            f"The posterior{_named(view, np.flatnonzero(view.unseen))} is improper: a change of coefficients that is "
            "the same for all classes changes neither the likelihood nor the prior, which has no strength along it. "
            "Give every feature a positive strength and a precision that is not singular, or use Ridge."
        )


def _check_rank(view: View) -> None:
    if not view.is_flat.any():
        return
    shared = (view.weight == view.weight[:, :1]).all()
    seen: dict[bytes, tuple[np.ndarray, bool]] = {}
    for k in range(view.flat.shape[1]):
        pattern = view.flat[:, k].tobytes() + view.directions[k].tobytes()
        pattern += b"" if shared else view.weight[:, k].tobytes()
        if pattern not in seen:
            seen[pattern] = _dependent(view, k)
        dependent, exact = seen[pattern]
        if len(dependent):
            same = [
                j
                for j in range(k, view.flat.shape[1])
                if (view.flat[:, j] == view.flat[:, k]).all()
                and np.array_equal(view.directions[j], view.directions[k])
            ]
            labels = view.basis(k)[1]
            names = ", ".join(labels[j] for j in dependent[:10])
            so, how = "improper", "linearly"
            if not exact:
                so, how = (
                    "too close to improper for the precision of the numbers",
                    "nearly linearly",
                )
            raise ImproperPosteriorError(
                f"The posterior{_named(view, np.array(same))} is {so}: features {names} are "
                f"{how} dependent on others or on the intercept, and their prior is flat. Leave them out. "
                + _REMEDY
            )


def _dependent(view: View, k: int) -> tuple[np.ndarray, bool]:
    """Return the flat directions that add nothing to those before them, and whether that is exact."""
    features, names, combined = view.basis(k)
    used, directions = view.weight[:, k] > 0, np.arange(len(names))

    def chosen(block, some):
        block = block[used[some]]
        return np.column_stack([block[:, features], block @ combined])

    squares, total = _squares_and_sums(view.X, chosen)
    n_used, size = used.sum(), np.sqrt(squares)
    mean, unit = total / n_used * view.flat_intercept, np.where(size > 0, size, 1.0)
    # of the same singular values and products as all rows
    X = triangle(view.X, lambda block, some: (chosen(block, some) - mean) / unit)
    scale = np.linalg.norm(X, axis=0)
    # what is left of a column after the mean is taken out is known to so many digits only
    constant = scale <= 1e-10
    X = X / np.where(constant, 1.0, scale)
    if not constant.any() and n_used > len(directions):
        if not len(directions) or np.linalg.svd(X, compute_uv=False)[-1] > _LEAST_SINGULAR:
            return directions[:0], True
    return _in_order(X, directions, constant)


def _squares_and_sums(X, chosen) -> np.ndarray:
    """Return sums of squares and sums of what is chosen of the features, (2, directions)."""
    blocks = (chosen(np.asarray(X[some], float), some) for some in pieces(X))
    return sum(np.stack([np.square(block).sum(axis=0), block.sum(axis=0)]) for block in blocks)


def _combination(direction, labels) -> str:
    """Return the name of a combination of features: those that it is made of most."""
    order = np.argsort(-np.abs(direction), kind="stable")[:_NAMED]
    return "a combination of " + " and ".join(labels[j] for j in sorted(order))


def _in_order(X, features, constant) -> tuple[np.ndarray, bool]:
    """Orthogonalise columns one after the other; what is left of a dependent one is next to nothing."""
    basis, dependent, largest = np.zeros((len(X), 0)), [], 0.0
    for j, column in enumerate(X.T):
        left = column
        for _ in range(2):  # once leaves errors along the basis
            left = left - basis @ (basis.T @ left)
        norm = 0.0 if constant[j] or basis.shape[1] == len(X) else np.linalg.norm(left)
        # the smallest singular value is below the smallest remainder, by the root of their number at most in practice
        if norm > _LEAST_SINGULAR * np.sqrt(len(features)):
            basis = np.column_stack([basis, left / norm])
        else:
            dependent.append(features[j])
            largest = max(largest, norm)
    return np.array(dependent, int), largest < _EXACT


def check_information(view: View, spread: np.ndarray) -> None:
    """Raise for neurons whose predictor is not known along some direction.

    Parameters
    ----------
    spread : array (neurons,)
        Largest standard error of the predictor at the mode, per standard deviation of the features.
    """
    model = view.observation_model
    if not (_families.is_discrete(model) or _families.is_labels(model)):
        return  # other responses are not predicted without error, and a predictor in their units has no limit
    bad = np.flatnonzero(~(spread < _NO_INFORMATION))
    if len(bad):
        raise ImproperPosteriorError(
            f"The posterior{_named(view, bad)} is improper: along some direction the responses can be predicted "
            f"without error (separation), so that nothing bounds the coefficients. {_REMEDY}"
        )
