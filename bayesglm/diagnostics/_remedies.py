"""What to do about a check that is not ok, for the model at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bayesglm import _families
from bayesglm.diagnostics._check import Check
from bayesglm.observation_models import (
    GammaObservations,
    GaussianObservations,
    NegativeBinomialObservations,
    PoissonObservations,
)

_SHARED = "Add features that say what the trials of a row have in common"
_ROBUST = "`summary(X, y, robust=True)` has standard errors that hold all the same"


class Facts(NamedTuple):
    """What a remedy depends on.

    Attributes
    ----------
    model
        Observation model.
    link : str
        Name of the inverse link.
    penalised, population, has_scale : bool
    prior : str
        That of :meth:`sample_posterior`, empty without draws.
    scale : str
        What became of the dispersion in the draws: "sample", "plugin", or empty.
    positive : bool
        Whether all responses are.
    spikes, trials : bool
        Whether responses are spike trains in time, and whether trials were told.
    """

    model: object
    link: str
    penalised: bool
    population: bool
    prior: str = ""
    scale: str = ""
    positive: bool = False
    spikes: bool = False
    trials: bool = False

    def is_a(self, *families) -> bool:
        """Return whether the observation model is one of some families."""
        return isinstance(self.model, families)


def advise(check: Check, facts: Facts) -> str:
    """Return what to do about a check in sentences; empty where nothing is wrong."""
    return _REMEDIES[check.name](facts, check) if check.status in ("caution", "fail") else ""


def _estimable(facts: Facts, check) -> str:
    who = "Leave such neurons out" if facts.population else "Take another response"
    if _families.is_labels(facts.model):
        who += ", or leave out the class that never occurs"
    return f"{who}." if facts.penalised else f"{who}, or sample with `prior='auto'`."


def _conditioning(facts: Facts, check) -> str:
    last = "raise the strength of the penalty" if facts.penalised else "use Ridge"
    return f"Read sums of coefficients (or predictions) instead of single ones, drop or combine features, or {last}."


def _dispersion(facts: Facts, check: Check) -> str:
    over, under = "over-dispersed" in check.message, "under-dispersed" in check.message
    negative_binomial = facts.is_a(NegativeBinomialObservations)
    found = []
    if over and _families.has_trials(facts.model):
        found.append(f"{_SHARED}; {_ROBUST}.")
    elif over:
        family = (
            "raise the `scale` of NegativeBinomial, or estimate it (`scale='estimate'`, or `sample_posterior`)"
            if negative_binomial
            else "use NegativeBinomial"
        )
        found.append(f"{family[0].upper()}{family[1:]}, or add missing features; {_ROBUST}.")
    if under:
        family = (
            "Lower the `scale` of NegativeBinomial, or use Poisson" if negative_binomial else ""
        )
        history = (
            "add spike history, which makes spikes keep their distance" if facts.spikes else ""
        )
        first = " or ".join(filter(None, (family, history)))
        found.append(f"{first[0].upper()}{first[1:]}; {_ROBUST}." if first else f"{_ROBUST}.")
    return " ".join(found)


_LINKS = {
    "exp": "'softplus'",
    "softplus": "'exp'",
    "logistic": "'norm_cdf'",
    "norm_cdf": "'logistic'",
}


def _link(facts: Facts, check) -> str:
    features = "curves (splines, squares) or products of features"
    if _families.is_labels(facts.model):
        return f"Add {features}: classes have no other inverse link."
    if facts.is_a(GaussianObservations):
        other = " (or `'exp'`, for means that are positive)" if facts.positive else ""
        return f"Add {features}, transform the response, or use another inverse link{other}."
    known = "'exp' or 'softplus'" if facts.link == "one_over_x" else _LINKS.get(facts.link, "")
    if facts.is_a(GammaObservations) and facts.link != "one_over_x":
        known = f"{known} or 'one_over_x'".removeprefix(" or ")
    named = f" ({known}, or a function of your own)" if known else ""
    return f"Try another inverse link{named}, or add {features}."


def _calibration(facts: Facts, check) -> str:
    lower = " If the penalty shrinks predictions, lower its strength." if facts.penalised else ""
    return _link(facts, check) + lower


def _distribution(facts: Facts, check) -> str:
    if facts.is_a(PoissonObservations):
        return "Try NegativeBinomial, or ZeroInflatedPoisson where zeros alone are too many, or add missing features."
    if facts.is_a(NegativeBinomialObservations):
        return (
            "Estimate the `scale` of NegativeBinomial (`scale='estimate'`, or `sample_posterior`), or add missing "
            "features."
        )
    if facts.is_a(GaussianObservations):
        other = "Gamma, or the log of the response" if facts.positive else "a transformed response"
        return f"Look for outliers and heavy tails; try {other}; add missing features."
    if facts.is_a(GammaObservations):
        return "Try the log of the response with Gaussian observations, or add missing features."
    if _families.has_trials(facts.model):
        return f"{_SHARED}, or try another inverse link."
    if _families.is_binary(facts.model):
        return "Add missing features, or try another inverse link."
    return "Try another observation model, or add missing features."


def _spread(facts: Facts, check) -> str:
    if facts.is_a(GaussianObservations):
        other = (
            "If the spread grows with the mean, use Gamma or the log of the response"
            if facts.positive
            else "Transform the response"
        )
        return f"{other}; {_ROBUST}."
    return f"Add missing features; {_ROBUST}."


def _outliers(facts: Facts, check) -> str:
    what = (
        "events that should not be there"
        if _families.is_discrete(facts.model)
        else "wrong units, artefacts"
    )
    other = " If they are right, use NegativeBinomial." if facts.is_a(PoissonObservations) else ""
    return f"Look at the responses that are farthest out ({what}), and leave out (weight 0) what is in error.{other}"


def _repeated(facts: Facts, check) -> str:
    return (
        "Pass each measurement once. Where rows are several measurements of one thing, say which: "
        "`summary(X, y, robust='cluster', groups=...)`."
    )


def _serial(facts: Facts, check) -> str:
    history = (
        "spike history (counts in earlier bins)"
        if facts.spikes
        else "earlier responses, or smooth functions of time,"
    )
    other = "robust='cluster', groups=trials" if facts.trials else "robust='HAC'"
    return f"Add {history} as features. `summary(X, y, {other})` has standard errors that hold all the same."


def _drift(facts: Facts, check: Check) -> str:
    time = "the time within the trial" if "within trials" in check.message else "time"
    return f"Add a few smooth functions of {time} as features, or what changes with it."


def _trials(facts: Facts, check) -> str:
    return (
        "Add features of the trial. `summary(X, y, robust='cluster', groups=trials)` has standard errors that hold all "
        "the same."
    )


def _separation(facts: Facts, check) -> str:
    return (
        "Use a penalty such as Ridge, `sample_posterior(prior='auto')`, or drop the features that predict the "
        "response perfectly."
    )


def _narrower(facts: Facts) -> str:
    if facts.penalised:
        return "Use a stronger penalty"
    return "Use a Ridge" if facts.prior == "auto" else "Use a Ridge or `prior='auto'`"


def _energy(facts: Facts, check) -> str:
    scale = " or a tighter `scale_prior`, `scale='plugin'`," if facts.scale == "sample" else ""
    return f"{_narrower(facts)}{scale or ','} or more draws."


def _r_hat(facts: Facts, check) -> str:
    narrower = _narrower(facts)
    return (
        "Raise `num_warmup` and `num_samples`. If it stays, the posterior has several modes: "
        f"{narrower[0].lower()}{narrower[1:]}."
    )


def _more_draws(facts: Facts, check) -> str:
    return "Raise `num_samples`."


def _influence(facts: Facts, check) -> str:
    tails = (
        ", use NegativeBinomial, whose tails are heavier" if facts.is_a(PoissonObservations) else ""
    )
    return f"Look at these responses (outliers? wrong units?){tails}, or refit without them."


_REMEDIES: dict[str, Callable[[Facts, Check], str]] = {
    "convergence": lambda facts, check: (
        "Raise `maxiter` in `solver_kwargs`, use the default solver, or pass X in float64."
    ),
    "estimable": _estimable,
    "separation": _separation,
    "conditioning": _conditioning,
    "dispersion": _dispersion,
    "calibration": _calibration,
    "linearity": lambda facts, check: (
        "Give the feature that is named more than one column: splines, powers, or indicators of its ranges."
    ),
    "interactions": lambda facts, check: "Add the product of the features that are named as a feature.",
    "link": _link,
    "spread": _spread,
    "residuals": _distribution,
    "outliers": _outliers,
    "repeated_rows": _repeated,
    "serial_dependence": _serial,
    "drift": _drift,
    "trial_dependence": _trials,
    "time_rescaling": lambda facts, check: (
        "Add spike history as features, use finer bins, or add missing features."
    ),
    "divergences": lambda facts, check: (
        f"{_narrower(facts)}, rescale extreme features, or raise `num_warmup`."
    ),
    "tree_depth": lambda facts, check: (
        "Look for collinear features, rescale them, "
        f"{'raise the strength' if facts.penalised else 'use a penalty'}, or raise `num_samples`."
    ),
    "energy": _energy,
    "r_hat": _r_hat,
    "ess_bulk": _more_draws,
    "ess_tail": _more_draws,
    "mcse": _more_draws,
    "laplace": lambda facts, check: "Use `method='nuts'`.",
    "pareto_k": _influence,
    "loo_pit": _distribution,
    "predictive": _distribution,
    "prior_sensitivity": lambda facts, check: (
        "Choose the strength by cross-validation, or report results over a range of strengths."
    ),
}  # fmt: skip
