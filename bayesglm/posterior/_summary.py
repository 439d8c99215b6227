"""Tables of estimates: from draws, or from the curvature at the fit.

References
----------
Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), Rank-normalization, folding, and localization: an improved R-hat.
doi:10.1214/20-BA1221
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bayesglm.posterior._convergence import Convergence, convergence

if TYPE_CHECKING:
    import pandas as pd


def of_draws(tree, prob: float, found: dict[str, Convergence] | None = None) -> pd.DataFrame:
    """Return mean, standard deviation, equal-tailed interval, effective sizes and R-hat of every parameter.

    Parameters
    ----------
    found : dict, optional
        The convergence statistics of each variable, where they are known.
    """
    import pandas as pd

    found = convergences(tree) if found is None else found
    ends = [0.5 - prob / 2, 0.5 + prob / 2]
    parts = []
    for name, values in tree["posterior"].dataset.data_vars.items():
        draws = values.values
        low, high = np.quantile(draws, ends, axis=(0, 1))
        columns = {
            "mean": draws.mean(axis=(0, 1)),
            "sd": draws.std(axis=(0, 1), ddof=1),
            "low": low,
            "high": high,
        }
        columns |= {each: getattr(found[name], each) for each in ("ess_bulk", "ess_tail", "r_hat")}
        index = pd.Index(parameter_names(values), name="parameter")
        parts.append(pd.DataFrame({k: np.ravel(v) for k, v in columns.items()}, index=index))
    return pd.concat(parts)


def convergences(tree) -> dict[str, Convergence]:
    """Return the convergence statistics of each variable, in the shape of one of its draws.

    Effective sizes are at most those of the importance weights, where draws were resampled: the order of draws does not
    show copies.
    """
    data, most = tree["posterior"].dataset.data_vars, importance_ess(tree)
    return {
        name: _capped(convergence(values.values), values, most) for name, values in data.items()
    }


def importance_ess(tree) -> np.ndarray:
    """Return the effective number of draws that were resampled by importance, () or (neurons,); infinite for others."""
    stats = tree["sample_stats"].dataset if "sample_stats" in tree else {}
    return np.asarray(stats["importance_ess"].values if "importance_ess" in stats else np.inf)


def _capped(found: Convergence, values, most) -> Convergence:
    if not np.isfinite(most).any():
        return found
    if most.ndim:
        axis = values.dims.index("neuron") - 2
        most = most.reshape([-1 if d == axis else 1 for d in range(found.mcse.ndim)])
    draws = values.values
    with np.errstate(invalid="ignore"):  # NaN stays
        least = draws.std(axis=(0, 1), ddof=1) / np.sqrt(most)
        return found._replace(
            ess_bulk=np.minimum(found.ess_bulk, most),
            ess_tail=np.minimum(found.ess_tail, most),
            mcse=np.maximum(found.mcse, least),
        )


def parameter_names(values) -> list[str]:
    """Return a name for each entry of an array with dimensions (chain, draw, ...), in C order."""
    labels = itertools.product(*(values[d].values for d in values.dims[2:]))
    return [_label(str(values.name), each) for each in labels]


def _label(name: str, labels) -> str:
    return f"{name}[{', '.join(map(str, labels))}]" if labels else name


def asymptotic(estimate, error, dof, maxlags, names, prob: float, tests: bool):
    """Return estimates, standard errors and intervals; with `tests` also z (or t) and p-values.

    Where the reference is Student's t, its degrees of freedom are a column.

    Parameters
    ----------
    estimate, error, dof, maxlags : tuples of arrays (features, *outputs) and (*outputs)
        For coefficients and intercepts; infinite degrees of freedom for the normal distribution, None without lags.
    names : dict
        Labels of feature, neuron and class.
    """
    import pandas as pd

    labels = list(names.values())
    index = [_label("coef", each) for each in itertools.product(*labels)]
    index += [_label("intercept", each) for each in itertools.product(*labels[1:])]
    flat = lambda pair: np.concatenate([np.ravel(part) for part in pair])  # noqa: E731
    estimate, error, dof = flat(estimate), flat(error), flat(dof)
    reach = stats.t.ppf(0.5 + prob / 2, dof) * error
    table = {
        "estimate": estimate,
        "std_error": error,
        "low": estimate - reach,
        "high": estimate + reach,
    }
    student = np.isfinite(dof).any()
    if tests:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = estimate / error
        table |= {"t" if student else "z": ratio, "p_value": 2.0 * stats.t.sf(np.abs(ratio), dof)}
    if student:
        table["dof"] = dof
    if maxlags is not None:
        table["maxlags"] = flat(maxlags)
    return pd.DataFrame(table, index=pd.Index(index, name="parameter"))
