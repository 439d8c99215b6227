"""What checks are made from. Arrays have an entry, or a last axis, for each neuron."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bayesglm import _families
from bayesglm._residuals import Intervals
from bayesglm.diagnostics._order import Order
from bayesglm.diagnostics._remedies import Facts
from bayesglm.posterior import Convergence, Pointwise


class Responses(NamedTuple):
    """Training responses beside what the fit expects of them.

    Attributes
    ----------
    y, weight : arrays (samples, neurons)
        Class indices for a classifier.
    mean : array (samples, neurons), for a classifier probabilities (samples, neurons, classes)
    scale : array (samples, neurons)
        Dispersions.
    dof, pseudo_r2, deviance_explained : arrays (neurons,)
    predictor : array (samples, neurons[, classes])
        Linear predictor, offset included.
    slope : array (samples, neurons)
        Derivative of the mean with it.
    matrix : array (samples, features)
    mask : bool array (features, neurons[, classes])
        Coefficients in use.
    coef : array (features, neurons[, classes])
    names : list of str
        Of the features.
    order : Order or None
        The rows as a time series, where they are said to be one.
    """

    model: Any
    y: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    dof: np.ndarray
    pseudo_r2: np.ndarray
    deviance_explained: np.ndarray
    predictor: np.ndarray
    slope: np.ndarray
    matrix: np.ndarray
    mask: np.ndarray
    coef: np.ndarray
    names: list[str]
    order: Order | None = None

    @property
    def classes(self) -> bool:
        """Whether responses are labels."""
        return self.mean.ndim == 3


class Curvature(NamedTuple):
    """What the curvature of the log-posterior at the fit says; arrays (neurons,).

    Attributes
    ----------
    flat
        Whether some coefficient has a flat prior.
    predictor_error
        Largest standard error of the predictor, per standard deviation of the features.
    condition
        Condition index.
    collinear : list of str
        The features with the largest variance inflation, of each neuron.
    prior_share
        Share of the information on the coefficients that comes from their prior.
    prior_sd_min, prior_sd_max
        Smallest and largest standard deviation of the proper priors of the coefficients.
    """

    flat: np.ndarray
    predictor_error: np.ndarray
    condition: np.ndarray
    collinear: list[str]
    prior_share: np.ndarray
    prior_sd_min: np.ndarray
    prior_sd_max: np.ndarray


class Loo(NamedTuple):
    """Leave-one-out.

    Attributes
    ----------
    cells
        What is known of each cell (rows, neurons).
    transforms
        Probability integral transforms of each neuron; None where the family is not known.
    n_all : array (neurons,)
        Sums of the weights, of which those of the cells may be a part.
    """

    cells: Pointwise
    transforms: list[Intervals] | None
    n_all: np.ndarray
    good_k: float


class Replicates(NamedTuple):
    """Statistics (neurons,) of the responses, and of data drawn from the posterior (draws, neurons), by name."""

    observed: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]


@dataclass(frozen=True)
class Evidence:
    """Everything that a report is made from.

    Parameters
    ----------
    labels : array (neurons,), or None for a model of one
    settings : dict
        How the numbers came about.
    facts : Facts
        What remedies depend on.
    finite : bool array (neurons,)
        Neurons with finite parameters.
    converged, distance, separated : arrays (neurons,) or None
        How the solver ended.
    tree : xarray.DataTree or None
        Posterior draws.
    convergence : dict or None
        Their convergence statistics, by variable.
    estimates : pandas.DataFrame
        Table of parameters.
    """

    labels: np.ndarray | None
    settings: dict[str, Any]
    facts: Facts
    finite: np.ndarray
    converged: np.ndarray | None = None
    distance: np.ndarray | None = None
    separated: np.ndarray | None = None
    responses: Responses | None = None
    curvature: Curvature | None = None
    tree: Any = None
    convergence: dict[str, Convergence] | None = None
    loo: Loo | None = None
    replicates: Replicates | None = None
    estimates: Any = field(default=None, repr=False)

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return len(self.finite)

    @property
    def separable(self) -> bool:
        """Whether some features may predict responses without error, so that nothing bounds their coefficients."""
        return not _families.has_free_scale(self.facts.model)

    @property
    def dimensionless(self) -> bool:
        """Whether the predictor has no units: that of counts and labels."""
        return _families.is_discrete(self.facts.model) or _families.is_labels(self.facts.model)
