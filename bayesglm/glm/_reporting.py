"""The evidence of a report: gathered here, judged in :mod:`bayesglm.diagnostics`."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _families, _residuals, links, posterior
from bayesglm._sampling import _curvature
from bayesglm.diagnostics import Curvature, Evidence, Facts, Loo, Order, Replicates, Responses
from bayesglm.glm import _asymptotics, _leaving_out, _prediction, _tables
from bayesglm.glm._edge import fitted_problem
from bayesglm.glm._joint import weakly
from bayesglm.glm._problem import Problem
from bayesglm.glm._rows import Rows
from bayesglm.glm._values import Fit, Posterior
from bayesglm.rows import predictor

_PACKAGES = ("bayesglm", "jax", "numpyro", "numpy", "arviz-base", "arviz-stats", "arviz-plots")
# Cells of replicated data, their draws, and numbers in the matrices of the curvature that are worth the while.
_REPLICATED_CELLS, _MOST_DRAWS, _LEAST_DRAWS = 8_000_000, 100, 20
_CURVATURE_NUMBERS = 100_000_000
# Of the intervals of the parameters.
_PROB = 0.94


def check_arguments(X, y, time, trials) -> None:
    """Raise a ValueError if something is missing beside rows, or beside what is said of them."""
    if (X is None) != (y is None):
        raise ValueError(
            f"`report` needs both X and y, or neither, but {'y' if y is None else 'X'} is missing."
        )
    if X is None and (time is not None or trials is not None):
        raise ValueError("`time` and `trials` are about rows: pass X and y.")


def evidence(
    fit: Fit, found: Posterior | None, rows: Rows | None = None,
    order: Order | None = None, loo: bool = True,
) -> Evidence:  # fmt: skip
    """Return what a report is made from.

    Parameters
    ----------
    found
        The draws, where there are any.
    rows : Rows, optional
        The training data.
    order : Order, optional
        Their order, where they are a time series.
    loo : bool
        Whether to leave rows out.

    Raises
    ------
    ValueError
        If rows are not those of the fit.
    """
    layout = fit.layout
    if rows is not None:
        _check_rows(rows, fit, found)
    both = layout.by_neuron(fit.coef, fit.intercept)
    state = None if fit.edited else fit.state  # parameters set by hand have none
    parts: dict[str, Any] = {
        "labels": np.array(layout.neuron_labels) if layout.population else None,
        "settings": _settings(fit, found), "finite": np.isfinite(both).all(axis=(1, 2)),
        "tree": None if found is None else found.tree,
        **{name: _of_state(state, name, layout.n_neurons) for name in ("converged", "distance", "separated")},
    }  # fmt: skip
    if found is not None:
        parts["convergence"] = posterior.convergences(found.tree)
        parts["estimates"] = _tables.of_draws(found, _PROB, parts["convergence"])
    if rows is not None:
        parts["settings"] |= _rows_in_words(rows, parts["labels"], order)
        problem = fitted_problem(rows.double(), fit)
        parts["settings"] |= _pins_in_words(problem)
        parts |= _of_rows(fit, found, problem, order, loo)
    return Evidence(facts=_facts(fit, found, parts.get("responses")), **parts)


def _of_rows(fit: Fit, found: Posterior | None, problem: Problem, order, loo: bool) -> dict:
    """Return the evidence that rows give; the curvature is taken once."""
    responses = _responses(problem, fit, found, order)
    weak, at_prior = None, problem
    if found is not None and found.attrs.get("prior") == "auto":
        at_prior, weak = weakly(problem)
    size = problem.mask.size // problem.n_neurons
    few = (size + 1) ** 2 * problem.n_lanes <= _CURVATURE_NUMBERS
    parts: dict[str, Any] = {"responses": responses}
    at = None
    if few or found is None:
        at = _asymptotics.local(at_prior, fit, _scale(fit, found), weak)
    if few:
        looked = _curvature.look(*at[:3], at.hessian, at.root, fit.layout.feature_labels)
        parts["curvature"] = Curvature(*map(problem.layout.spread, looked))
    if found is None:
        parts["estimates"], _ = _tables.of_fit(problem, fit, None, at, None, _PROB)
        return parts
    parts["replicates"] = _replicates(problem, found)
    if loo:
        parts["loo"] = _leave_one_out(problem, found)
    return parts


def _check_rows(rows: Rows, fit: Fit, found: Posterior | None) -> None:
    """Raise a ValueError if rows are not those that were sampled, or fitted where nothing was sampled."""
    if found is None:
        _leaving_out.check_trained(rows, fit, None)
        return
    trials = found.tree.get("constant_data", {}).get("n_trials")
    _check_same(found.tree["observed_data"]["y"], fit.layout.squeeze(rows.y), "values")
    if rows.trials is not None and trials is not None:
        _check_same(trials, fit.layout.squeeze(rows.trials), "numbers of trials")


def _check_same(sampled, now, what: str) -> None:
    if sampled.shape != now.shape or not np.array_equal(sampled.values, now):
        other = (
            f"has other {what}"
            if sampled.shape == now.shape
            else f"has shape {now.shape}, not {sampled.shape}"
        )
        raise ValueError(
            f"X and y are not the data that were sampled: `y` {other}. Pass the data of `sample_posterior`."
        )


def _rows_in_words(rows: Rows, labels, order: Order | None) -> dict[str, Any]:
    used = (rows.weight > 0).any(axis=1)
    said = {"rows": int(used.sum()), "rows left out": int((~used).sum())}
    if rows.missing is not None:
        said["left out"] = rows.left_out(labels)
    said["order of rows"] = order.words if order else "not said to be a time series"
    if order and order.trial is not None:
        said["trials"] = int(np.unique(order.trial).size)
    return said


def _facts(fit: Fit, found: Posterior | None, given: Responses | None) -> Facts:
    """Return what remedies depend on."""
    settings = fit.settings
    sampled = found is not None and found.parameter is not None
    seen = {} if given is None else {
        "positive": bool((given.y > 0).all(where=given.weight > 0)),
        "spikes": given.order is not None and not given.classes
        and bool(_residuals.is_spike_train(given.model, given.y, given.weight).any()),
        "trials": given.order is not None and given.order.trial is not None,
    }  # fmt: skip
    return Facts(
        settings.observation_model, links.inverse_link_name(settings.inverse_link_function),
        not settings.regularizer.flat, fit.layout.population,
        "" if found is None else str(found.attrs.get("prior", "")), "sample" if sampled else "", **seen,
    )  # fmt: skip


def _settings(fit: Fit, found: Posterior | None) -> dict[str, Any]:
    settings = fit.settings
    said = {
        "model": settings.kind,
        "observation model": repr(settings.observation_model),
        "inverse link": links.inverse_link_name(settings.inverse_link_function),
        "regularizer": repr(settings.regularizer),
        "regularizer strength": _strength_in_words(fit),
        "solver": settings.solver_name,
        "features": len(fit.coef),
        "outputs": list(fit.coef.shape[1:]),
        "versions": {name: _version(name) for name in _PACKAGES},
        "device": str(jax.devices()[0].platform),
    }
    if fit.layout.classifier:
        said["classes"] = [str(label) for label in fit.layout.classes]
    if fit.state is not None:
        said["solver steps"] = int(getattr(fit.state, "iter_num", 0))
    return said if found is None else said | _sampling_settings(found)


def _strength_in_words(fit: Fit) -> Any:
    settings, strength = fit.settings, fit.settings.regularizer_strength
    if fit.learned is not None:
        low, high = np.nanmin(fit.learned.sd), np.nanmax(fit.learned.sd)
        ends = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        return f"learned ({strength!r}): prior standard deviation {ends}"
    if hasattr(settings.regularizer, "strength_params"):
        strength = settings.regularizer.strength_params(strength or {})
    if any(map(np.ndim, jax.tree.leaves(strength))):
        return "one for each coefficient"
    return str(strength) if isinstance(strength, dict) else strength


def _pins_in_words(problem: Problem) -> dict[str, str]:
    """Return the features whose mean is one with the intercept, where the prior leaves that open."""
    labels, said = problem.layout.feature_labels, []
    for features in problem.prior.pins:
        rows = np.arange(len(labels)) if features is None else np.asarray(features)
        said.append(f"{labels[rows[0]]} to {labels[rows[-1]]}")
    return {"mean coefficient of zero": ", ".join(said)} if said else {}


def _sampling_settings(found: Posterior) -> dict[str, Any]:
    chains, draws = found.shape
    said: dict[str, Any] = {"chains": chains, "draws of each chain": draws}
    keys = ("method", "prior", "num_warmup", "random_key", "step_size", "sampling_time")
    said |= {k.replace("_", " "): _plain(found.attrs[k]) for k in keys if k in found.attrs}
    if said.get("num warmup") == -1:
        said["num warmup"] = "default"
    if "sampling time" in said:
        said["sampling time"] = f"{said['sampling time']:.1f} s, compiling included"
    for name in ("resampled_neurons", "mixture_neurons"):
        said[name.replace("_", " ")] = int(np.size(found.attrs.get(name, ())))
    return said


def _responses(problem: Problem, fit: Fit, found: Posterior | None, order) -> Responses:
    rows, layout, model = problem.rows, problem.layout, problem.observation_model
    coef, intercept = _centre(problem, fit, found)
    X = rows.design.matrix
    eta = predictor(X, coef, intercept, layout.beside(rows.offset))
    ones = jnp.ones(eta.shape)
    mean, slope = map(np.asarray, jax.jvp(problem.inverse_link, (jnp.asarray(eta),), (ones,)))
    scale = _scale(fit, found)
    trials = None if rows.trials is None else layout.squeeze(rows.trials)
    weight = np.broadcast_to(rows.weight, rows.y.shape)
    own = layout.squeeze(weight)
    by_neuron = lambda s: np.sum(np.where(own > 0, own * s, 0.0), axis=0) / own.sum(axis=0)  # noqa: E731
    given, shown = (model, layout.squeeze(rows.y), mean, own), np.asarray(layout.each(scale))
    scores = [
        np.atleast_1d(np.asarray(_prediction.score_with(*given, shown, kind, by_neuron, trials)))
        for kind in ("pseudo-r2-McFadden", "pseudo-r2-Cohen")
    ]
    dof = rows.n - len(coef) - 1 if fit.dof is None else fit.dof
    if trials is not None:
        mean, slope, scale = trials * mean, trials * slope, 1.0 / rows.trials
    mean, scale = layout.widen(mean), np.broadcast_to(scale, rows.y.shape)
    return Responses(
        model, rows.y, weight, np.exp(mean) if layout.classifier else mean, scale,
        np.broadcast_to(np.asarray(dof, float).ravel(), (layout.n_neurons,)), *scores,
        layout.widen(eta), layout.widen(slope), X, layout.widen(problem.mask), layout.widen(coef),
        [_called(name) for name in layout.feature_labels], order,
    )  # fmt: skip


def _scale(fit: Fit, found: Posterior | None) -> np.ndarray:
    """Return the dispersions at the posterior means of what the family has, (neurons,), or those of the fit."""
    drawn = None if found is None else found.parameter
    model = fit.settings.observation_model
    scale = fit.dispersion if drawn is None else _families.parameter(model).to_scale(drawn)
    return np.broadcast_to(np.asarray(scale, float).ravel(), (fit.layout.n_neurons,))


def _centre(problem: Problem, fit: Fit, found: Posterior | None):
    """Return the posterior means of coefficients and intercepts, or the fit."""
    if found is None:
        return fit.coef * problem.mask, fit.intercept.reshape(problem.outputs)
    means = found.variables[["coef", "intercept"]].mean(("chain", "draw"))
    return means["coef"].values * problem.mask, means["intercept"].values


def _replicates(problem: Problem, found: Posterior) -> Replicates | None:
    """Return statistics of data drawn from the posterior, and of the data.

    A row of weight w is drawn w times, the last time with what is left of a weight that is not whole.
    """
    if problem.layout.classifier:
        return None
    rows, weight, y = _copies(problem.rows)
    trials = problem.rows.trials
    trials = None if trials is None else problem.layout.squeeze(trials[rows])
    chains, draws = found.shape
    count = np.clip(_REPLICATED_CELLS // max(y.size, 1), _LEAST_DRAWS, _MOST_DRAWS) // chains
    thin = np.linspace(0, draws - 1, max(1, min(count, draws))).astype(int)
    shift = problem.layout.beside(problem.rows.offset)
    shift = None if shift is None else shift[rows]
    drawn = posterior.replicate(
        found.draws(thin), problem.rows.design.matrix[rows], shift, trials=trials
    )
    drawn = drawn.reshape(len(drawn), len(rows), -1)
    statistics = _statistics(problem.observation_model)
    return Replicates(
        {name: f(y[None], weight)[0] for name, f in statistics.items()},
        {name: f(drawn, weight) for name, f in statistics.items()},
    )


def _leave_one_out(problem: Problem, found: Posterior) -> Loo:
    model, n_neurons = problem.observation_model, problem.n_neurons
    key = jax.random.key(0) if _families.is_known(model) else None
    _, cells, n_all = _leaving_out.pointwise(found, problem.rows, None, key)
    shape = (len(cells.elpd), n_neurons)
    uniform = np.asarray(jax.random.uniform(jax.random.key(0), shape))
    cells = posterior.Pointwise(*(
        None if a is None else a.reshape(len(a), n_neurons) for a in cells
    ))  # fmt: skip
    transforms = None if cells.pit is None else _transforms(cells, uniform, model)
    n_all = np.broadcast_to(np.asarray(n_all, float), (n_neurons,))
    return Loo(cells, transforms, n_all, posterior.good_k(np.prod(found.shape)))


def _copies(rows):
    """Return rows as often as their weight says (copies,), weights (copies, neurons) of at most one, and responses.

    Of many, some stand for all.
    """
    weight = np.broadcast_to(np.asarray(rows.weight, float), rows.y.shape)
    count = np.ceil(weight.max(axis=1)).astype(int)
    most = max(1, _REPLICATED_CELLS // (_LEAST_DRAWS * rows.y.shape[1]))
    total, ends = int(count.sum()), np.cumsum(count)
    some = (
        np.arange(total)
        if total <= most
        else np.unique(np.random.default_rng(0).integers(total, size=most))
    )
    row = np.searchsorted(ends, some, side="right")
    before = some - (ends - count)[row]
    return row, np.clip(weight[row] - before[:, None], 0.0, 1.0), rows.y[row]


def _transforms(cells, uniform, model) -> list[_residuals.Intervals]:
    """Return the probability integral transforms of each neuron, the randomness of counts taken out."""
    width = np.exp(cells.elpd) if _families.is_discrete(model) else 0.0 * uniform
    lower = np.clip(cells.pit - uniform * width, 0.0, 1.0)
    upper = np.clip(lower + width, 0.0, 1.0)
    weight = np.where(np.isfinite(upper), cells.weight, 0.0)
    return [
        _residuals.Intervals(*columns) for columns in zip(lower.T, upper.T, weight.T, strict=True)
    ]


def _called(label) -> str:
    """Return a label of a feature that can stand alone."""
    return f"feature {label}" if str(label).isdigit() else str(label)


def _of_state(state, name: str, n_neurons: int):
    """Return an entry of the state of a fit for each neuron, or None."""
    value = getattr(state, name, None)
    return None if value is None or np.size(value) != n_neurons else np.asarray(value).reshape(-1)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _plain(value):
    """Return an attribute as plain numbers and texts."""
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value.tolist()


def _statistics(model):
    """Return functions of responses (draws, rows, neurons) and their weights (rows, neurons)."""

    def mean(y, weight):
        total = np.einsum("drk,rk->dk", y, weight)
        return total / np.maximum(weight.sum(axis=0), np.finfo(float).tiny)

    found = {
        "mean": mean,
        "sd": lambda y, weight: np.sqrt(mean(np.square(y - mean(y, weight)[:, None]), weight)),
    }
    if _families.is_discrete(model):
        found["zeros"] = lambda y, weight: mean(y == 0, weight)
    else:
        found["min"] = lambda y, weight: np.min(np.where(weight > 0, y, np.inf), axis=1)
    return found | {"max": lambda y, weight: np.max(np.where(weight > 0, y, -np.inf), axis=1)}
