"""Posterior draws: their container, and what follows from them."""

from bayesglm.posterior._efficiency import relative_efficiency
from bayesglm.posterior._loo import MAX_CELLS, elpd_data, pointwise
from bayesglm.posterior._predict import (
    Posterior,
    draw_responses,
    interval,
    mean_and_sd,
    mean_probability,
)
from bayesglm.posterior._summary import asymptotic, of_draws
from bayesglm.posterior._tree import to_tree

__all__ = [
    "MAX_CELLS",
    "Posterior",
    "asymptotic",
    "draw_responses",
    "elpd_data",
    "interval",
    "mean_and_sd",
    "mean_probability",
    "of_draws",
    "pointwise",
    "relative_efficiency",
    "to_tree",
]
