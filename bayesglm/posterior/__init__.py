"""Posterior draws: their container, and what follows from them."""

from bayesglm._sampling._psis import good_k
from bayesglm.posterior._convergence import Convergence, convergence, relative_efficiency
from bayesglm.posterior._loo import MAX_CELLS, Pointwise, elpd_data, pointwise
from bayesglm.posterior._predict import (
    Draws,
    draw_responses,
    interval,
    mean_and_sd,
    mean_probability,
    replicate,
)
from bayesglm.posterior._summary import (
    asymptotic,
    convergences,
    importance_ess,
    of_draws,
    parameter_names,
)
from bayesglm.posterior._tree import to_tree

__all__ = [
    "MAX_CELLS",
    "Convergence",
    "Draws",
    "Pointwise",
    "asymptotic",
    "convergence",
    "convergences",
    "draw_responses",
    "elpd_data",
    "good_k",
    "importance_ess",
    "interval",
    "mean_and_sd",
    "mean_probability",
    "of_draws",
    "parameter_names",
    "pointwise",
    "relative_efficiency",
    "replicate",
    "to_tree",
]
