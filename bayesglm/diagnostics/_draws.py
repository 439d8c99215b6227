"""Checks of posterior draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from bayesglm import _residuals
from bayesglm.diagnostics import _fit
from bayesglm.diagnostics._check import Check, grade
from bayesglm.diagnostics._definitions import DEFINITIONS
from bayesglm.diagnostics._evidence import Evidence
from bayesglm.diagnostics._sensitivity import sensitivity
from bayesglm.posterior import Convergence, good_k, parameter_names

# Effective draws of a chain at which chance widens the limit of R-hat: with fewer, their number is at fault.
_ENOUGH_PER_CHAIN = 100
_DISTINCT = 0.05
# Share of responses above the limit of k that thousands of healthy ones have.
_RARE = 1e-3


def checks(evidence: Evidence) -> Iterator[Check]:
    """Yield the checks for which there is evidence."""
    if evidence.tree is None:
        return
    yield from _of_sampler(evidence)
    yield from _of_chains(evidence)
    if evidence.loo is not None:
        yield from _of_loo(evidence)
    if evidence.replicates is not None:
        yield _predictive(evidence)
    found = sensitivity(evidence, by_neuron, names_by_neuron)
    if found is not None:
        limit = DEFINITIONS["prior_sensitivity"].caution
        dominated = (found.prior > limit) & (found.likelihood < limit)
        note = "The prior dominates: the likelihood matters less." if dominated.any() else ""
        yield grade("prior_sensitivity", found.prior, evidence.labels, where=found.names, note=note)


def by_neuron(values) -> np.ndarray:
    """Return an array with dimensions (chain, draw, ...) as (chains, draws, neurons, parameters)."""
    if "neuron" in values.dims:
        values = values.transpose("chain", "draw", "neuron", ...)
        return values.values.reshape(*values.shape[:3], -1)
    return values.values.reshape(*values.shape[:2], 1, -1)


def names_by_neuron(values) -> list[str]:
    """Return the names of the parameters of one neuron, in the order of :func:`by_neuron`."""
    return parameter_names(values.isel(neuron=0, drop=True) if "neuron" in values.dims else values)


def _statistic(evidence: Evidence, name: str):
    """Return a statistic of the sampler as (chains, draws, neurons), or None."""
    found = evidence.tree["sample_stats"].dataset
    if name not in found or "draw" not in found[name].dims:
        return None
    return by_neuron(found[name])[..., 0] + np.zeros((1, 1, evidence.n_neurons))


def _of_sampler(evidence: Evidence) -> Iterator[Check]:
    from arviz_stats.base import array_stats

    labels = evidence.labels
    diverging = _statistic(evidence, "diverging")
    if diverging is not None:
        count = int(diverging.sum())
        yield grade(
            "divergences",
            diverging.mean(axis=(0, 1)),
            labels,
            note=f"{count} draws in all." if count else "",
        )
    depths = [
        _statistic(evidence, f"reached_max_{name}") for name in ("treedepth", "tree_depth")
    ]  # ArviZ has both
    depths = [depth.mean(axis=(0, 1)) for depth in depths if depth is not None]
    if depths:
        yield grade("tree_depth", np.max(depths, axis=0), labels)
    energy = _statistic(evidence, "energy")
    if energy is not None and "khat" not in evidence.tree["sample_stats"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = array_stats.bfmi(np.moveaxis(energy, 2, 0), chain_axis=-2, draw_axis=-1)
        yield grade("energy", found.reshape(evidence.n_neurons, -1).min(axis=1), labels)
    if "khat" in evidence.tree["sample_stats"]:
        khat = np.atleast_1d(evidence.tree["sample_stats"]["khat"].values)
        draws = evidence.tree["posterior"]["intercept"]
        yield grade("laplace", khat, labels, caution=good_k(draws.shape[0] * draws.shape[1]))


def statistics(tree, found) -> tuple[Convergence, list[str]]:
    """Return the statistics of all parameters, (neurons, parameters), and the names of the parameters.

    Parameters
    ----------
    found : dict
        As :func:`bayesglm.posterior.convergences` returns them.
    """
    parts, names = [], []
    for name, values in tree["posterior"].dataset.data_vars.items():
        like = values.isel(chain=[0], draw=[0])
        each = (by_neuron(like.copy(data=a[None, None]))[0, 0] for a in found[name])
        parts.append(_repaired(by_neuron(values), Convergence(*each)))
        names += names_by_neuron(values)
    return Convergence(*(np.concatenate(part, axis=1) for part in zip(*parts, strict=True))), names


def _repaired(draws, found: Convergence) -> Convergence:
    """Give draws that are not finite or never move the worst numbers; masked coefficients (all zero) have none."""
    low, high = draws.min(axis=(0, 1)), draws.max(axis=(0, 1))
    broken = ~np.isfinite(low + high) | ((low == high) & (low != 0))
    worst = Convergence(np.inf, 0.0, 0.0, np.inf)
    return Convergence(*(np.where(broken, w, f) for w, f in zip(worst, found, strict=True)))


def _of_chains(evidence: Evidence) -> Iterator[Check]:
    found, names = statistics(evidence.tree, evidence.convergence)
    labels = evidence.labels
    chains = evidence.tree["posterior"].sizes["chain"]
    limit = np.maximum(1.01, _rhat_by_chance(chains, np.isfinite(found.ess_bulk).sum()))
    note = "" if chains > 1 else "At least two chains are needed."
    values, where = _worst(found.r_hat, names)
    yield grade("r_hat", values, labels, caution=limit, where=where, note=note)
    for name, each in (("ess_bulk", found.ess_bulk), ("ess_tail", found.ess_tail)):
        values, where = _worst(-each / chains, names)
        yield grade(name, -values, labels, where=where)
    sd = _standard_deviations(evidence.tree)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(sd > 0, found.mcse / sd, found.mcse)
    values, where = _worst(relative, names)
    yield grade("mcse", values, labels, where=where)


def _standard_deviations(tree):
    data = tree["posterior"].dataset.data_vars.values()
    return np.concatenate([by_neuron(v).std(axis=(0, 1), ddof=1) for v in data], axis=1)


def _worst(values, names):
    """Return the largest number of each neuron (neurons, parameters), and the names of the parameters that have it."""
    known = ~np.isnan(values)
    filled = np.where(known, values, -np.inf)
    where = filled.argmax(axis=1)
    return np.where(known.any(axis=1), filled.max(axis=1), np.nan), [names[k] for k in where]


def _rhat_by_chance(chains: int, parameters: int) -> float:
    """Return an R-hat that chains with enough draws exceed by chance in one of a hundred reports.

    With M half-chains of m effective draws, M m the number that is enough, the variance of their means is that of one
    draw over m, times a chi-square with M - 1 degrees of freedom over these.
    """
    halves = 2 * chains
    per_half = _ENOUGH_PER_CHAIN * chains / halves
    ratio = stats.chi2.isf(0.01 / max(parameters, 1), halves - 1) / (halves - 1)
    return float(np.sqrt(1.0 + ratio / per_half))


def _of_loo(evidence: Evidence) -> Iterator[Check]:
    loo = evidence.loo
    weight, used = loo.cells.weight, loo.cells.weight > 0
    k = np.where(used, loo.cells.k, -np.inf).max(axis=0)
    k = np.where(used.any(axis=0), np.maximum(k, 0.0), np.nan)
    above = np.sum(weight, axis=0, where=(loo.cells.k > loo.good_k) & used)
    often = above > _RARE * weight.sum(axis=0)
    grades = np.where(np.isnan(k), -1, (k > 1.0) | often)
    note = (
        f"{above.sum():g} of {weight.sum():g} responses above {loo.good_k:.2f}."
        if above.any()
        else ""
    )
    yield grade("pareto_k", k, evidence.labels, caution=loo.good_k, grades=grades, note=note)
    if loo.transforms is not None:
        each = [_residuals.from_uniform(values) for values in loo.transforms]
        yield _fit.graded("loo_pit", evidence, each)


def _predictive(evidence: Evidence) -> Check:
    found = evidence.replicates
    # extremes are shown, but their tails are too heavy to judge by
    names = [name for name in found.observed if name not in ("max", "min")]
    size, p_value, where = (
        np.zeros(evidence.n_neurons),
        np.ones(evidence.n_neurons),
        np.zeros(evidence.n_neurons, int),
    )
    for i, name in enumerate(names):
        mean, sd = found.drawn[name].mean(axis=0), found.drawn[name].std(axis=0, ddof=1)
        gap = abs(found.observed[name] - mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(gap > 0, gap / sd, 0.0)
            relative = gap if name == "zeros" else gap / _unit(found, name)
        p = 2.0 * stats.norm.sf(z) * len(names)
        better = (np.where(p < _DISTINCT, relative, 0.0) > size) & np.isfinite(relative)
        size, p_value, where = (
            np.where(better, relative, size),
            np.where(better, p, p_value),
            np.where(better, i, where),
        )
    return grade(
        "predictive", size, evidence.labels, p_value=p_value, where=[names[i] for i in where]
    )


def _unit(found, name):
    """Return what a deviation is relative to: means are measured in standard deviations of the response."""
    return found.drawn["sd"].mean(axis=0) if name == "mean" else found.drawn[name].mean(axis=0)
