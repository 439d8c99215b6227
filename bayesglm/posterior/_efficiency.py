"""Effective sample sizes of many parameters at once.

References
----------
Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), Rank-normalization, folding, and localization: an improved R-hat.
doi:10.1214/20-BA1221
Geyer (1992), Practical Markov chain Monte Carlo. doi:10.1214/ss/1177011137
"""

from __future__ import annotations

import numpy as np
from scipy import fft

# Bytes of the draws that are transformed at once.
_CHUNK_BYTES = 1 << 23


def relative_efficiency(data) -> np.ndarray:
    """Return effective draws per draw, averaged over the parameters of each neuron, () or (neurons,).

    It is what ArviZ's `loo` takes by default for one neuron. With a single chain it is one, as there.

    Parameters
    ----------
    data : xarray.Dataset
        Draws.
    """
    parts = []
    for values in data.data_vars.values():
        order = (
            ("neuron", ..., "chain", "draw") if "neuron" in data.dims else (..., "chain", "draw")
        )
        array = values.transpose(*order).values
        lead = array.shape[:1] if "neuron" in data.dims else ()
        parts.append(array.reshape(*lead, -1, *array.shape[-2:]))
    draws = np.concatenate(parts, axis=-3)
    *lead, n_chains, n_draws = draws.shape
    if n_chains == 1:
        return np.ones(lead[:-1])
    found = ess_of_mean(draws.reshape(-1, n_chains, n_draws)).reshape(lead)
    return found.mean(axis=-1) / (n_chains * n_draws)


def ess_of_mean(draws) -> np.ndarray:
    """Return the effective sample size of the mean of each parameter, that of ArviZ, which takes one at a time.

    Parameters
    ----------
    draws : array (parameters, chains, draws)
        At least four draws.
    """
    size = max(1, _CHUNK_BYTES // draws[:1].nbytes)
    parts = [_ess(draws[first : first + size]) for first in range(0, len(draws), size)]
    return np.concatenate(parts)


def _ess(draws):
    half = draws.shape[-1] // 2
    chains = np.concatenate([draws[..., :half], draws[..., -half:]], axis=1)
    count = chains.shape[1] * half
    constant = np.ptp(chains, axis=(1, 2)) < np.finfo(float).resolution
    mean = chains.mean(axis=-1, keepdims=True)
    spectrum = fft.rfft(chains - mean, fft.next_fast_len(2 * half), axis=-1)
    power = np.square(np.abs(spectrum)).mean(axis=1)  # of all chains: transforming back is linear
    covariance = fft.irfft(power, fft.next_fast_len(2 * half), axis=-1)[:, :half] / half
    within = covariance[:, :1] * half / (half - 1.0)
    total = covariance[:, :1] + mean[..., 0].var(axis=1, ddof=1)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = 1.0 - (within - covariance) / total
    rho[:, 0] = 1.0
    tau = np.maximum(_autocorrelation_time(rho), 1.0 / np.log10(count))
    return np.where(constant, count, count / tau)


def _autocorrelation_time(rho):
    """Return the integrated autocorrelation time by Geyer's initial monotone sequence, for rows of correlations."""
    even, odd = rho[:, ::2], rho[:, 1::2]
    # the last lags are not looked at
    most = max(1, -(-(rho.shape[1] - 2) // 2))
    even = even[:, :most]
    pair = even + odd[:, :most]
    ended = pair <= 0
    last = np.where(ended.any(axis=1), ended.argmax(axis=1), most - 1)[:, None]
    before = np.arange(most) < last
    summed = np.sum(np.minimum.accumulate(pair, axis=1), axis=1, where=before)
    at_last = (np.take_along_axis(a, last, axis=1)[:, 0] for a in (even, pair))
    rest, pair = at_last
    return 2.0 * summed - 1.0 + np.where((rest > 0) | (pair >= 0), rest, 0.0)
