"""Strengths that were learned: a value."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from bayesglm import _design
from bayesglm._layout import Layout


@dataclass(frozen=True)
class Learned:
    """Strengths that were learned; NaN for neurons that could not be fitted.

    Parameters
    ----------
    groups : array (groups, features)
        Which features each strength belongs to, zero or one.
    strength, sd : arrays (groups, neurons)
        Factors of the penalties, and the standard deviations that they stand for.
    low, high, converged : bool arrays (groups, neurons)
        Where the search ended at a bound, and where it found a mode.
    effective : array (groups, neurons)
        Effective degrees of freedom of the features of each strength.
    dof : array (neurons,)
        Effective degrees of freedom of all parameters.
    scale : array (neurons,)
        Dispersions at the mode.
    """

    groups: np.ndarray
    strength: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    converged: np.ndarray
    effective: np.ndarray
    dof: np.ndarray
    scale: np.ndarray

    def check(self, coef) -> None:
        """Raise a ValueError if the arrays do not fit together, or not to coefficients (features, *outputs)."""
        groups, many = np.shape(self.groups), np.shape(self.strength)
        fits = len(groups) == 2 == len(many) and groups[0] == many[0]
        each = (self.sd, self.low, self.high, self.converged, self.effective)
        fits = fits and all(np.shape(a) == many for a in each)
        fits = fits and np.shape(self.dof) == np.shape(self.scale) == many[1:]
        if not fits or coef is None or groups[1] != len(coef) or coef[0].size % many[1]:
            raise ValueError("what was learned does not fit the coefficients.")

    def factors(self, outputs) -> np.ndarray:
        """Return the factor of the strength of each coefficient, (features, *outputs); one where none was learned."""
        known = np.where(np.isfinite(self.strength), self.strength, 1.0)
        each = self.groups.T @ known + (1.0 - self.groups.max(axis=0, initial=0.0))[:, None]
        classes = int(np.prod(outputs, dtype=int)) // each.shape[1]
        return np.repeat(each, classes, axis=1).reshape(-1, *outputs)

    def in_words(self, layout: Layout) -> dict:
        """Return strengths, standard deviations and effective degrees of freedom as plain numbers."""
        values = {
            "strength": self.strength, "prior_sd": self.sd, "effective_dof": self.effective
        }  # fmt: skip
        shown = {name: self.shown(each, layout) for name, each in values.items()}
        return jax.tree.map(lambda array: array.tolist(), shown)

    def shown(self, values, layout: Layout):
        """Return values (groups, neurons) as the user sees them: without an axis for one group, or one neuron.

        They are a dict by leaf where X is made of leaves.
        """
        values = values if layout.population else values[:, 0]
        paths = _design.leaf_paths(layout.structure)
        if () in paths:
            return _one_or_all(values)
        found: dict = {}
        leaf = np.repeat(np.arange(len(paths)), layout.widths)[self.groups.argmax(axis=1)]
        for k in np.unique(leaf):
            place = found
            for key in paths[k][:-1]:
                place = place.setdefault(key, {})
            place[paths[k][-1]] = _one_or_all(values[leaf == k])
        return found


def _one_or_all(values):
    return values[0] if len(values) == 1 else values
