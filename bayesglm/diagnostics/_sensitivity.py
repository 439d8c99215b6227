"""How much the posterior of each neuron changes with the power of its prior, and of its likelihood.

References
----------
Kallioinen, Paananen, Buerkner, Vehtari (2024), Detecting and diagnosing prior and likelihood sensitivity with
power-scaling. doi:10.1007/s11222-023-10366-5
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesglm.diagnostics._evidence import Evidence

_POWERS = (0.99, 1.01)
# Coefficients of each neuron that are looked at: the sensitivity of one takes milliseconds.
_COEFFICIENTS = 3


class Sensitivity(NamedTuple):
    """Largest sensitivities of a coefficient, arrays (neurons,), and its name."""

    prior: np.ndarray
    likelihood: np.ndarray
    names: list[str]


def sensitivity(evidence: Evidence, by_neuron, names_by_neuron) -> Sensitivity | None:
    """Return the sensitivities of the coefficients whose means follow the power of the prior most, or None."""
    if "log_prior" not in evidence.tree.children or evidence.loo is None:
        return None
    prior = sum(
        by_neuron(values)[..., 0]
        for values in evidence.tree["log_prior"].dataset.data_vars.values()
    )
    coef = evidence.tree["posterior"]["coef"]
    draws, names = by_neuron(coef), names_by_neuron(coef)
    chains, n_draws, n_neurons, _ = draws.shape
    likelihood = evidence.loo.cells.log_lik.reshape(chains, n_draws, n_neurons)
    found = Sensitivity(np.full(n_neurons, np.nan), np.full(n_neurons, np.nan), [""] * n_neurons)
    for k in range(n_neurons):
        if not np.isfinite(prior[..., k]).all() or np.ptp(prior[..., k]) == 0:
            continue
        some = _followers(draws[:, :, k], prior[..., k])
        values = _of_powers(draws[:, :, k, some], prior[..., k])
        worst = int(np.argmax(values))
        found.prior[k], found.names[k] = values[worst], names[some[worst]]
        if np.isfinite(likelihood[..., k]).all():
            found.likelihood[k] = _of_powers(
                draws[:, :, k, some[worst : worst + 1]], likelihood[..., k]
            )[0]
    return found


def _followers(draws, log_density) -> np.ndarray:
    """Return the parameters that correlate most with a log-density: to first order, the ones that its power moves."""
    centred = draws - draws.mean(axis=(0, 1))
    sd = np.maximum(draws.std(axis=(0, 1)), np.finfo(float).tiny)
    along = abs(np.tensordot(log_density - log_density.mean(), centred, ([0, 1], [0, 1]))) / sd
    return np.argsort(-along)[:_COEFFICIENTS]


def _of_powers(draws, log_density) -> np.ndarray:
    """Return ArviZ's power-scaling sensitivity of each parameter, draws (chains, draws, parameters)."""
    from arviz_stats.base import array_stats

    weights, found = [], []
    with np.errstate(all="ignore"):  # of draws that are far apart, or tied
        for power in _POWERS:
            log_weight = array_stats.power_scale_lw(log_density, alpha=power, axis=(0, 1))
            weight = np.exp(log_weight - log_weight.max())
            weights.append(weight / weight.sum())
        for j in range(draws.shape[-1]):
            found.append(array_stats.power_scale_sense(
                draws[..., j], *weights, *_POWERS, chain_axis=0, draw_axis=1
            ))  # fmt: skip
    return np.array(found, float).ravel()
