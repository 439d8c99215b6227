"""Draws as an `xarray.DataTree` in the ArviZ schema.

References
----------
https://python.arviz.org/projects/base/en/stable/api/schema.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


def to_tree(
    sampled, outputs, n_neurons: int, names, attrs, observed, constant, log_prior, parameter
) -> xr.DataTree:  # fmt: skip
    """Return draws with named dimensions.

    Parameters
    ----------
    sampled
        Draws (chains, draws, lanes, ...), as the sampler returns them.
    outputs : tuple
        Shape of the intercepts, (), (neurons,), (classes,) or (neurons, classes).
    names : dict
        Labels of feature, neuron and class, where there are such.
    observed : array (samples,) or (samples, neurons)
        Responses.
    constant : dict of such arrays
        What is known of them beside the features: weights, numbers of trials.
    log_prior : dict of arrays (chains, draws, neurons)
        Log-densities of the priors by parameter; empty where all are flat.
    parameter
        What the family has beside the predictor.
    """
    import xarray as xr  # late: importing it takes longer than most fits

    lead = sampled.coef.shape[:2]
    neuron = ("neuron",) if "neuron" in names else ()
    each = neuron + (("class",) if "class" in names else ())
    coords = {name: np.asarray(labels) for name, labels in names.items()}
    coords |= {"chain": np.arange(lead[0]), "draw": np.arange(lead[1])}
    draws = ("chain", "draw")
    coef = np.moveaxis(sampled.coef, -1, 2).reshape(*lead, -1, *outputs)
    values = {
        "coef": ((*draws, "feature", *each), coef),
        "intercept": ((*draws, *each), sampled.intercept.reshape(*lead, *outputs)),
    }
    per_neuron = lead + ((n_neurons,) if neuron else ())
    if sampled.log_scale.size:
        scale = np.exp(sampled.log_scale).reshape(per_neuron)
        values[parameter.name] = ((*draws, *neuron), parameter.of_scale(scale))
    stats = {
        name: ((*draws, *neuron), _per_neuron(value, n_neurons).reshape(per_neuron))
        for name, value in sampled.stats.items()
    }
    if "reached_max_treedepth" in stats:  # ArviZ has two spellings of it
        stats["reached_max_tree_depth"] = stats["reached_max_treedepth"]
    groups = {
        "posterior": xr.Dataset(values, coords, attrs),
        "sample_stats": xr.Dataset(stats, _only(coords, (*draws, *neuron)), attrs),
        "observed_data": xr.Dataset({"y": (("sample", *neuron), observed)}, _only(coords, neuron)),
    }
    known = {name: (("sample", *neuron), a) for name, a in constant.items()}
    if known:
        groups["constant_data"] = xr.Dataset(known, _only(coords, neuron))
    if log_prior:
        values = {
            name: ((*draws, *neuron), each.reshape(per_neuron)) for name, each in log_prior.items()
        }
        groups["log_prior"] = xr.Dataset(values, _only(coords, (*draws, *neuron)), attrs)
    if sampled.khat is not None:
        for name, each in (("khat", sampled.khat), ("importance_ess", sampled.effective)):
            value = np.repeat(each, n_neurons // len(each))
            groups["sample_stats"][name] = (neuron, value if neuron else value[0])
    return xr.DataTree.from_dict(groups)


def _only(coords, dims):
    return {name: coords[name] for name in dims}


def _per_neuron(value, n_neurons: int):
    """Repeat what neurons in one lane share."""
    return np.repeat(value, n_neurons // value.shape[2], axis=2)
