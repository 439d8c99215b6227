"""Strengths that were learned: a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        return {name: self.shown(each, layout).tolist() for name, each in values.items()}

    def shown(self, values, layout: Layout) -> np.ndarray:
        """Return values (groups, neurons) in the shape of the user: without an axis for one group, or one neuron."""
        values = values if layout.population else values[:, 0]
        return values[0] if len(self.groups) == 1 else values
