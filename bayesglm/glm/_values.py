"""What comes out of data: a fit, and a posterior. Neither holds data, neither changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from bayesglm import _design, _families, _process, observation_models, posterior, solvers
from bayesglm._input import Names
from bayesglm._layout import Layout, shown
from bayesglm._messages import Message
from bayesglm.glm._learned import Learned
from bayesglm.glm._settings import Settings


def numbers(value, name: str):
    """Return what a user sets as an array, None for None."""
    return None if value is None else _design.to_double(value, name)


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters, and what they were found with. A part may be missing: users set parameters one after the other.

    Parameters
    ----------
    layout : Layout
        With the names and classes of the data.
    settings : Settings or None
        None for parameters that were only set by hand: they go with any.
    coef : array (features, *outputs) or None
    intercept : array (*outputs), (1,) without outputs, or None
        In the precision in which they were computed, as are the other arrays.
    scale : array or None
        Dispersion of each neuron.
    dof : array or None
        Residual degrees of freedom of each neuron.
    n_train : array (neurons,) or None
        Sum of the weights of the training rows; None where these may be some of many.
    state, solver
        How the solver ended, and the solver.
    messages : tuple of Message
        What the user is told of it.
    learned : Learned or None
        Strengths that were learned with it.
    edited : bool
        Whether parameters were set by hand since.
    """

    layout: Layout
    settings: Settings | None = None
    coef: np.ndarray | None = None
    intercept: np.ndarray | None = None
    scale: np.ndarray | None = None
    dof: np.ndarray | None = None
    n_train: np.ndarray | None = None
    state: Any = None
    solver: Any = None
    messages: tuple[Message, ...] = ()
    learned: Learned | None = None
    edited: bool = False

    def __getstate__(self):
        state = dict(self.__dict__)
        if not isinstance(self.solver, solvers.Solver):
            state["solver"] = None  # one of the user's own holds functions, which cannot be pickled
        return state

    @property
    def complete(self) -> bool:
        """Whether there are coefficients and intercepts."""
        return self.coef is not None and self.intercept is not None

    @property
    def coef_tree(self):
        """Coefficients in the structure of X, or None."""
        return None if self.coef is None else self.layout.tree(self.coef)

    @property
    def used(self) -> np.ndarray:
        """Which coefficients are in use, bool (features, *outputs)."""
        return self.settings.mask(self.layout)

    @property
    def dispersion(self):
        """What to score and simulate with.

        Raises
        ------
        ValueError
            If that is not known.
        """
        return dispersion(self.settings.observation_model, self.scale)

    def params(self) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients, zero where masked, and intercepts: (features, *outputs) and (*outputs)."""
        return self.coef * self.used, self.intercept.reshape(self.layout.outputs)

    def gate(self, settings: Settings):
        """Return the share of zeros of a family that has such a parameter; None where there is no fit.

        Raises
        ------
        AttributeError
            If the family has none.
        """
        model = (self.settings or settings).observation_model
        parameter = _families.parameter(model)
        if parameter.name != "gate":
            raise AttributeError(f"{model!r} has no gate, and so no `gate_`.")
        return None if self.scale is None else parameter.of_scale(self.scale)

    def of_learned(self, name: str):
        """Return something of the strengths that were learned, as the user sees it; None where there are none."""
        found = self.learned
        if found is None:
            return None
        return jax.tree.map(shown, found.shown(getattr(found, name), self.layout))

    def theta(self, layout: Layout) -> np.ndarray:
        """Return finite parameters as lanes, (lanes, columns, features + 1)."""
        return layout.theta(np.nan_to_num(self.coef), np.nan_to_num(self.intercept))

    def check(self, design: _design.Design) -> None:
        """Check that features are those of the parameters, and parameters those of their kind of model.

        Raises
        ------
        TypeError, ValueError
            If not.
        """
        given = replace(self.layout, structure=design.structure, widths=design.widths)
        given.accept((self.coef_tree, self.intercept))

    def with_coef(self, value) -> Fit:
        """Return the fit with other coefficients, in the structure of X; None for none."""
        old = None if self.coef is None else self.coef.shape[1:]
        if value is None:
            return replace(self._edited(old, None), coef=None)
        structure, widths, coef = _design.join(value, "coef_")
        fit = self._edited(old, coef.shape[1:])
        n_neurons = coef.shape[1] if fit.layout.population and coef.ndim > 1 else 1
        names, before = fit.layout.names, (fit.layout.structure, fit.layout.widths)
        if self.coef is None or (structure, widths) != before:
            names = names._replace(features=None)
        layout = replace(
            fit.layout, structure=structure, widths=widths, n_neurons=n_neurons, names=names
        )
        return replace(fit, coef=coef, layout=layout)

    def with_intercept(self, value) -> Fit:
        """Return the fit with other intercepts; None for none."""
        value = None if value is None else np.atleast_1d(_design.to_double(value, "intercept_"))
        old = None if self.intercept is None else self.intercept.shape
        fit = self._edited(old, None if value is None else value.shape)
        return replace(fit, intercept=value)

    def _edited(self, old_shape, shape) -> Fit:
        """Return what holds beside parameters set by hand: the dispersion, unless it is that of other neurons."""
        if old_shape is None or old_shape == shape:
            return replace(self, edited=True)
        layout = replace(self.layout, names=Names(), frame={})
        return Fit(layout, coef=self.coef, intercept=self.intercept)

    def with_classes(self, n_classes: int, classes) -> Fit:
        """Return the fit with other class labels; None for none."""
        return replace(self, layout=replace(self.layout, n_classes=n_classes, classes=classes))


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws, and the fit that they belong to.

    Parameters
    ----------
    tree : xarray.DataTree
        In the ArviZ schema.
    messages : tuple of Message
        What the user is told of fit and draws.
    """

    fit: Fit
    tree: Any
    messages: tuple[Message, ...] = ()

    @property
    def variables(self):
        """The draws as a dataset."""
        return self.tree["posterior"].dataset

    @property
    def parameter(self) -> np.ndarray | None:
        """Posterior mean of what the family has beside the predictor, as a user sees it; None where it is fixed."""
        name = _families.parameter(self.fit.settings.observation_model).name
        drawn = self.variables.get(name)
        return None if drawn is None else drawn.mean(("chain", "draw")).values

    @property
    def attrs(self) -> dict:
        """How they were drawn."""
        return self.tree["posterior"].attrs

    @property
    def shape(self) -> tuple[int, int]:
        """Number of chains, and of draws of each."""
        return self.tree["posterior"]["intercept"].shape[:2]

    def thinned(self, num_draws) -> np.ndarray:
        """Return the places of some draws of each chain, evenly spaced; of all for None.

        Raises
        ------
        ValueError
            If there are not so many.
        """
        available = self.shape[1]
        count = available if num_draws is None else num_draws
        if not isinstance(count, (int, np.integer)) or not 1 <= count <= available:
            raise ValueError(
                f"`num_draws` must be an integer from 1 to {available}, but {num_draws!r} was given."
            )
        return np.linspace(0, available - 1, count).astype(int)

    def draws(self, thin=None) -> posterior.Draws:
        """Return the draws beside their family; `thin` selects draws of each chain."""
        settings = self.fit.settings
        return posterior.Draws.of(
            self.tree, np.asarray(self.fit.dispersion, float), settings.observation_model,
            settings.inverse_link_function, settings.classifier, thin,
        )  # fmt: skip


def needed(found: Posterior | None, what: str) -> Posterior:
    """Return a posterior, or raise a ValueError that says what needs it."""
    if found is None:
        raise ValueError(f"`{what}` needs posterior draws: call `sample_posterior` first.")
    _process.check()
    return found


def dispersion(model, fitted):
    """Return the dispersion to score and simulate with: the fitted one of families that have one.

    Raises
    ------
    ValueError
        If that is not known.
    """
    free = _families.has_free_scale(model) or _families.estimates_scale(model)
    own = not observation_models.is_native(model)
    if not free and (fitted is None or not own):
        return getattr(model, "scale", 1.0)
    if fitted is None:
        raise ValueError(
            "The dispersion is unknown: call `fit`, or set `scale_` beside `coef_` and `intercept_`."
        )
    return np.asarray(fitted)
