"""Tables of estimates: from draws, or from the curvature at the fit.

References
----------
Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), Rank-normalization, folding, and localization: an improved R-hat.
doi:10.1214/20-BA1221
White (1980), A heteroskedasticity-consistent covariance matrix estimator. doi:10.2307/1912934
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri

if TYPE_CHECKING:
    import pandas as pd

_STATISTICS = {"ess_bulk": "bulk", "ess_tail": "tail"}


def of_draws(tree, prob: float) -> pd.DataFrame:
    """Return mean, standard deviation, equal-tailed interval, effective sizes and R-hat of every parameter."""
    import pandas as pd

    data = tree["posterior"].dataset
    rows, index = [], []
    for name, values in data.data_vars.items():
        stacked = np.moveaxis(values.values, (0, 1), (-2, -1))
        for where in np.ndindex(stacked.shape[:-2]):
            label = [values[d].values[i] for d, i in zip(values.dims[2:], where, strict=True)]
            index.append(_label(name, label))
            rows.append(_row(stacked[where], prob))
    return pd.DataFrame(rows, index=pd.Index(index, name="parameter"))


def _label(name: str, labels) -> str:
    return f"{name}[{', '.join(map(str, labels))}]" if labels else name


def _row(draws, prob: float) -> dict:
    from arviz_stats.base import array_stats  # late: importing it takes longer than most fits

    low, high = np.quantile(draws, [0.5 - prob / 2, 0.5 + prob / 2])
    row = {"mean": draws.mean(), "sd": draws.std(ddof=1), "low": low, "high": high}
    if np.ptp(draws) == 0:  # a masked coefficient
        return row | {"ess_bulk": np.nan, "ess_tail": np.nan, "r_hat": np.nan}
    where = {"chain_axis": 0, "draw_axis": 1}
    for name, method in _STATISTICS.items():
        extra = {"prob": (0.05, 0.95)} if method == "tail" else {}
        row[name] = float(array_stats.ess(draws, method=method, **extra, **where))
    many = len(draws) > 1
    return row | {"r_hat": float(array_stats.rhat(draws, **where)) if many else np.nan}


def asymptotic(coef, intercept, coef_error, intercept_error, names, prob: float, tests: bool):
    """Return estimates, standard errors and intervals; with `tests` also z and p-values.

    Parameters
    ----------
    coef, coef_error : arrays (features, *outputs)
    intercept, intercept_error : arrays (outputs)
    names : dict
        Labels of feature, neuron and class.
    """
    import pandas as pd

    labels = list(names.values())
    index = [_label("coef", each) for each in itertools.product(*labels)]
    index += [_label("intercept", each) for each in itertools.product(*labels[1:])]
    estimate = np.concatenate([np.ravel(coef), np.ravel(intercept)])
    error = np.concatenate([np.ravel(coef_error), np.ravel(intercept_error)])
    reach = ndtri(0.5 + prob / 2) * error
    table = {
        "estimate": estimate,
        "std_error": error,
        "low": estimate - reach,
        "high": estimate + reach,
    }
    if tests:
        with np.errstate(invalid="ignore", divide="ignore"):
            z = estimate / error
        table |= {"z": z, "p_value": 2.0 * ndtr(-np.abs(z))}
    return pd.DataFrame(table, index=pd.Index(index, name="parameter"))
