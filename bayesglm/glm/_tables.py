"""Tables of parameters: from draws, or from the curvature at a fit."""

from __future__ import annotations

import numpy as np

from bayesglm import _families, posterior
from bayesglm._input import is_one_of
from bayesglm._messages import Message
from bayesglm.glm import _asymptotics, _leaving_out, _robust
from bayesglm.glm._asymptotics import Local
from bayesglm.glm._edge import fitted_problem
from bayesglm.glm._problem import Problem
from bayesglm.glm._rows import Rows
from bayesglm.glm._values import Fit, Posterior

_KINDS = ("mean", "response")


def of_draws(found: Posterior, prob: float, convergence=None):
    """Return the table of draws.

    Parameters
    ----------
    convergence : dict, optional
        Their convergence statistics by variable, where these are known.
    """
    table = posterior.of_draws(found.tree, prob, convergence)
    table.attrs["interval"] = f"equal-tailed posterior interval of probability {prob}"
    table.attrs["dispersion"] = dispersion(found.fit, found)
    return table


def of_rows(rows: Rows, fit: Fit, found: Posterior | None, how, prob: float):
    """Return the table of a fit from its training rows in float64, and what to tell the user.

    Parameters
    ----------
    how : tuple
        Robust, groups, trials, lags and features, as :func:`bayesglm.glm._robust.asked` takes them.

    Raises
    ------
    ValueError
        If rows are not those of the fit, or `how` does not fit them.
    """
    _leaving_out.check_trained(rows, fit, found)
    *how, X = how
    sandwich = _robust.asked(*how, rows.weight, X)
    problem = fitted_problem(rows, fit)
    at = _asymptotics.local(problem, fit, fit.dispersion)
    return of_fit(problem, fit, found, at, sandwich, prob)


def of_fit(
    problem: Problem, fit: Fit, found: Posterior | None, at: Local, sandwich, prob: float
) -> tuple[object, tuple[Message, ...]]:
    """Return the table of a fit, and what to tell the user.

    Parameters
    ----------
    problem
        The training rows, in float64.
    at
        The normal approximation at the fit.
    """
    told, *errors = _asymptotics.standard_errors(problem, fit, at, sandwich)
    tests = problem.prior.flat
    estimates = fit.coef, fit.intercept
    table = posterior.asymptotic(estimates, *errors, fit.layout.labels(), prob, tests)
    dof = np.concatenate([np.ravel(part) for part in errors[1]])
    table.attrs["interval"] = _asymptotics.meaning(problem.prior, sandwich, dof, prob)
    if fit.learned is not None:
        table.attrs["interval"] += "; strengths are held at what was learned, as if they were known"
        table.attrs["learned"] = fit.learned.in_words(fit.layout)
    table.attrs["dispersion"] = dispersion(fit, found)
    return table, told


def dispersion(fit: Fit, found: Posterior | None) -> dict:
    """Return what the family has beside the predictor, and where it comes from, in plain numbers and words."""
    model = fit.settings.observation_model
    parameter = _families.parameter(model)
    if found is not None and found.parameter is not None:
        value = np.asarray(found.parameter).tolist()
        return {"name": parameter.name, "value": value, "how": "sampled"}
    try:
        value = np.ravel(parameter.of_scale(fit.dispersion))
    except ValueError:  # of a fit set by hand
        return {"name": parameter.name, "value": None, "how": "unknown"}
    return {
        "name": parameter.name,
        "value": value.tolist() if len(value) > 1 else float(value[0]),
        "how": getattr(model, "scale_origin", "estimated by fit"),
    }


def check_prob(prob) -> None:
    """Raise a ValueError for what is no probability of an interval."""
    if isinstance(prob, bool) or not np.isscalar(prob) or not 0.0 < prob < 1.0:
        raise ValueError(f"`prob` must lie between 0 and 1, but {prob!r} was given.")


def check_interval(prob, kind, classifier: bool) -> None:
    """Raise a ValueError for an interval that there is not."""
    check_prob(prob)
    if not is_one_of(kind, _KINDS):
        raise ValueError(f"`kind` must be one of {_KINDS}, but {kind!r} was given.")
    if classifier and kind == "response":
        raise ValueError("Labels have no interval; use `kind='mean'` for class probabilities.")


def check_without_rows(found: Posterior | None, robust, *of_rows) -> None:
    """Raise a ValueError if a table needs rows."""
    if found is None:
        raise ValueError(
            "`summary` needs the training data where nothing was sampled: `summary(X, y)`."
        )
    if robust is not False or any(each is not None for each in of_rows):
        raise ValueError("`robust` is for standard errors of a fit: pass X and y.")
