"""Pictures of fits that ArviZ does not have.

Each takes plain arrays (or a table of :meth:`bayesglm.glm.GLM.summary`), draws into matplotlib axes and returns them.
Pictures of draws are ArviZ's: ``arviz_plots.plot_forest(model.posterior_)``, ``plot_trace``, ``plot_rank`` and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesglm import _residuals, observation_models

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "calibration",
    "coefficients",
    "ecdf_difference",
    "neurons",
    "residuals",
    "time_rescaling",
]

_BAND = 0.99
_LABELLED = 30


def calibration(
    y, rate, *, observation_model="Poisson", scale=1.0, sample_weight=None, n_bins=10, ax=None
) -> Axes:
    """Plot observed against expected means, in bins of the expected mean.

    Parameters
    ----------
    y, rate : arrays (samples,)
        Responses of one neuron and their means, as `predict` returns them.
    observation_model : str or Observations
    scale : float
        Dispersion.
    sample_weight : array (samples,), optional
    n_bins : int
        At most; each holds about the same variance (counts), or the same number of rows.
    ax : matplotlib axes, optional

    Returns
    -------
    : matplotlib axes
        Bars are two standard errors under the model.

    Raises
    ------
    ValueError
        If shapes differ.
    NotImplementedError
        For an observation model whose variance is not known.
    """
    model, y, rate = _checked(observation_model, y, rate)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
    found = _residuals.calibration_bins(model, y, rate, scale, weight, n_bins)
    return bins(found, ax)


def bins(found: _residuals.Bins, ax=None) -> Axes:
    """Plot bins that :func:`bayesglm._residuals.calibration_bins` made."""
    ax = _axes(ax)
    ends = [
        np.min([found.expected.min(), found.observed.min()]),
        np.max([found.expected.max(), found.observed.max()]),
    ]
    ax.plot(ends, ends, color="0.5", linewidth=1, zorder=1)
    ax.errorbar(
        found.expected, found.observed, 2.0 * found.error, fmt="o", markersize=4, linewidth=1
    )
    ax.set_xlabel("expected mean")
    ax.set_ylabel("observed mean")
    return ax


def residuals(y, rate, *, observation_model="Poisson", scale=1.0, seed=0, ax=None) -> Axes:
    """Plot how far randomised quantile residuals are from uniform.

    Parameters
    ----------
    y, rate : arrays (samples,)
        Responses of one neuron and their means.
    observation_model : str or Observations
    scale : float
        Dispersion.
    seed : int
        Of the numbers that randomise counts.
    ax : matplotlib axes, optional

    Returns
    -------
    : matplotlib axes

    References
    ----------
    Dunn, Smyth (1996), Randomized quantile residuals. doi:10.1080/10618600.1996.10474708
    """
    model, y, rate = _checked(observation_model, y, rate)
    found = _residuals.transforms(model, y, rate, scale, np.ones(len(y)))
    ax = ecdf_difference(_within(found, seed), ax=ax)
    ax.set_xlabel("randomised quantile residual")
    return ax


def time_rescaling(y, rate, *, observation_model="Poisson", scale=1.0, seed=0, ax=None) -> Axes:
    """Plot the Kolmogorov-Smirnov plot of spikes in rescaled time: a diagonal if the model holds.

    Parameters
    ----------
    y, rate : arrays (samples,)
        Spike counts of one neuron in consecutive bins, and their means.
    observation_model : str or Observations
        Poisson, Bernoulli or NegativeBinomial.
    scale : float
        Dispersion.
    seed : int
        Of the numbers that place spikes within their bins.
    ax : matplotlib axes, optional

    Returns
    -------
    : matplotlib axes

    References
    ----------
    Brown, Barbieri, Ventura, Kass, Frank (2002). doi:10.1162/08997660252741149
    Haslinger, Pipa, Brown (2010). doi:10.1162/NECO_a_00015
    """
    model, y, rate = _checked(observation_model, y, rate)
    one = np.ones(len(y))
    found = _residuals.rescaled_intervals(model, y, rate, scale, one > 0, np.zeros(len(y), int))
    values = _within(found, seed)
    return ks(_residuals.Intervals(values, values, found.weight), ax)


def _within(found: _residuals.Intervals, seed: int) -> np.ndarray:
    """Return random values in their intervals."""
    uniform = np.random.default_rng(seed).random(len(found.lower))
    return found.lower + uniform * (found.upper - found.lower)


def ks(found: _residuals.Intervals, ax=None) -> Axes:
    """Plot the distribution function of values that should be uniform, with its band."""
    ax = _axes(ax)
    n = max(found.weight.sum(), 1.0)
    grid = np.array([0.0, 1.0])
    ax.fill_between(grid, grid - _reach(n), grid + _reach(n), color="0.5", alpha=0.2, linewidth=0)
    ax.plot(grid, grid, color="0.5", linewidth=1)
    if len(found.weight):
        at, value = _residuals.distribution(found)
        thin = np.unique(np.linspace(0, len(at) - 1, 1000).astype(int))
        ax.plot(at[thin], value[thin])
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="rescaled interval", ylabel="distribution function")
    return ax


def ecdf_difference(values, *, ax=None) -> Axes:
    """Plot the empirical distribution function minus that of the uniform distribution.

    Parameters
    ----------
    values : array (n,)
        Numbers between 0 and 1, such as those of :meth:`bayesglm.glm.GLM.loo_pit`.
    ax : matplotlib axes, optional

    Returns
    -------
    : matplotlib axes
        The band holds 99 % of such curves if the values are uniform.

    References
    ----------
    Massart (1990), The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality. doi:10.1214/aop/1176990746
    """
    values = np.asarray(values, float).ravel()
    values = values[np.isfinite(values)]
    return difference(_residuals.Intervals(values, values, np.ones(len(values))), ax)


def difference(found: _residuals.Intervals, ax=None) -> Axes:
    """Plot the distribution function of values, or of intervals, minus the uniform one, with its band."""
    ax = _axes(ax)
    n = max(found.weight.sum(), 1.0)
    ax.fill_between([0, 1], -_reach(n), _reach(n), color="0.5", alpha=0.2, linewidth=0)
    ax.axhline(0.0, color="0.5", linewidth=1)
    grid = np.linspace(0.0, 1.0, 400)
    if (found.weight > 0).any():
        at, value = _residuals.distribution(found.of(found.weight > 0))
        ax.plot(grid, np.interp(grid, at, value, left=0.0, right=1.0) - grid)
    ax.set(xlim=(0, 1), xlabel="probability integral transform", ylabel="observed - uniform")
    return ax


def along(found: _residuals.Curve, name: str, ax=None) -> Axes:
    """Plot mean residuals in bins along a feature, or along time."""
    ax = _axes(ax)
    ax.axhline(0.0, color="0.5", linewidth=1)
    ax.errorbar(found.at, found.mean, 2.0 * found.error, fmt="o", markersize=4, linewidth=1)
    ax.set(xlabel=name, ylabel="mean residual (sd)")
    return ax


def correlations(values, error, ax=None) -> Axes:
    """Plot correlations of residuals at lags from one on, with their standard errors for independent rows."""
    ax = _axes(ax)
    lag = np.arange(1, len(values) + 1)
    ax.fill_between(lag, -2.0 * error, 2.0 * error, color="0.5", alpha=0.2, linewidth=0, step="mid")
    ax.axhline(0.0, color="0.5", linewidth=1)
    ax.vlines(lag, 0.0, values)
    ax.plot(lag, values, "o", markersize=3)
    ax.set(xlabel="rows apart", ylabel="correlation")
    return ax


def _reach(n: float) -> float:
    return float(np.sqrt(np.log(2.0 / (1.0 - _BAND)) / (2.0 * n)))


def coefficients(table, *, ax=None) -> Axes:
    """Plot parameters with their intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        Of :meth:`bayesglm.glm.GLM.summary`, or some of its rows.
    ax : matplotlib axes, optional

    Returns
    -------
    : matplotlib axes
    """
    ax = _axes(ax)
    middle = table["mean"] if "mean" in table else table["estimate"]
    place = np.arange(len(table))[::-1]
    ax.axvline(0.0, color="0.5", linewidth=1)
    ax.hlines(place, table["low"], table["high"])
    ax.plot(middle, place, "o", markersize=4)
    some = slice(None, None, -(-len(table) // _LABELLED))
    ax.set_yticks(place[some], table.index[some])
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.set_xlabel("coefficient")
    return ax


def neurons(values, *, caution=None, fail=None, labels=None, ax=None) -> Axes:
    """Plot one number for each neuron, with limits.

    Parameters
    ----------
    values : array (neurons,)
    caution, fail : float, optional
        Limits, drawn as lines.
    labels : sequence of str, optional
        Names of the neurons; by default their indices.
    ax : matplotlib axes, optional

    Returns
    -------
    : matplotlib axes
    """
    ax = _axes(ax)
    values = np.asarray(values, float)
    ax.plot(np.arange(len(values)), values, "o", markersize=3)
    shown = values[np.isfinite(values)]
    top = max((abs(shown).max() if len(shown) else 0.0), 1e-9)
    for limit, style in ((caution, "--"), (fail, "-")):
        if (
            limit is not None and limit <= 3.0 * top
        ):  # a limit that is far away would hide the numbers
            ax.axhline(limit, color="0.5", linestyle=style, linewidth=1)
    ax.set_xlabel("neuron")
    if labels is not None:
        some = np.unique(np.linspace(0, len(values) - 1, 8).astype(int))
        ax.set_xticks(some, [str(labels[k]) for k in some])
    return ax


def _axes(ax) -> Axes:
    import matplotlib.pyplot as plt  # late: importing it takes longer than most fits

    return plt.subplots()[1] if ax is None else ax


def _checked(observation_model, y, rate):
    y, rate = np.asarray(y, float), np.asarray(rate, float)
    if y.ndim != 1 or y.shape != rate.shape:
        raise ValueError(
            f"`y` and `rate` must be one-dimensional and of one length, but have shapes {y.shape} and {rate.shape}. "
            "Choose one neuron of a population."
        )
    known = np.isfinite(y) & np.isfinite(rate)
    if not known.all():
        raise ValueError("`y` and `rate` must be finite: leave rows with missing values out.")
    return observation_models.resolve(observation_model), y, rate
