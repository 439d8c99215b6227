"""Designs of the benchmark. Every one is made from a seed, in float64 and row by row as NumPy lays it out."""

from __future__ import annotations

import numpy as np

from .objective import Problem

SEED = 20240614
RATE = 0.05  # spikes in a bin


def iid(n, p, rng):
    """Independent standard normal columns."""
    return rng.normal(size=(n, p))


def hard(n, p, rng):
    """Columns that are an AR(1) process with correlation 0.95, scales from 1 to 30 in random order."""
    scales = rng.permutation(np.geomspace(1, 30, p))
    return correlated(rng.normal(size=(n, p))) * scales


def correlated(noise):
    """Turn independent columns into neighbours with correlation 0.95, in place."""
    for j in range(1, noise.shape[1]):
        noise[:, j] = 0.95 * noise[:, j - 1] + np.sqrt(1 - 0.95**2) * noise[:, j]
    return noise


def counts(X, rng, n_responses=1, rate=RATE, modulation=1.0):
    """Poisson counts whose log rates have the given standard deviation and mean rate."""
    eta = X @ (rng.normal(size=(X.shape[1], n_responses)) / X.std(axis=0)[:, None])
    eta *= modulation / eta.std(axis=0)
    eta += np.log(rate) - np.log(np.mean(np.exp(eta), axis=0))
    return rng.poisson(np.exp(eta, out=eta)).astype(float)


def raised_cosines(window, n_basis, stretch=5.0):
    """Return bumps (window, n_basis) that widen with the lag: cosines on a logarithmic axis.

    References
    ----------
    Pillow et al. (2008). doi:10.1038/nature07140
    """
    lag = np.log(np.arange(window) + stretch)
    centres = np.linspace(lag[0], lag[-1], n_basis)
    spacing = centres[1] - centres[0]
    phase = np.clip((lag[:, None] - centres) * np.pi / (2 * spacing), -np.pi, np.pi)
    return (1 + np.cos(phase)) / 2


def spike_trains(n, n_neurons, rng, window=100, rate=RATE):
    """Spikes (n, neurons) of a network: refractory neurons with sparse coupling of both signs."""
    basis = raised_cosines(window, 4)
    weights = rng.normal(0, 0.15, (4, n_neurons, n_neurons))
    weights *= rng.random((n_neurons, n_neurons)) < 0.3
    weights[:, np.arange(n_neurons), np.arange(n_neurons)] = [[-2.0], [-0.5], [0.0], [0.0]]
    filters = np.einsum("wb,bij->wij", basis, weights)[::-1].reshape(window * n_neurons, -1)
    spikes = np.zeros((window + n, n_neurons))
    drawn = rng.random((n, n_neurons))
    for t in range(n):
        eta = np.log(rate) + spikes[t : t + window].ravel() @ filters
        spikes[window + t] = drawn[t] < 1 - np.exp(-np.exp(np.minimum(eta, 0.0)))
    return spikes[window:]


def history(spikes, n_basis, window=100):
    """Return the features (n, neurons * n_basis): past spikes of each neuron, smoothed by each bump."""
    basis = raised_cosines(window, n_basis)
    columns = [np.convolve(train, bump)[: len(train)] for train in spikes.T for bump in basis.T]
    features = np.zeros((len(spikes), len(columns)))
    features[1:] = np.stack(columns, axis=1)[:-1]
    return features


def kink_strength(X, y, fraction=0.05, size=1):
    """Fraction of the strength from which on all coefficients (or groups of this size) are zero."""
    slope = X.T @ (y - y.mean(axis=0)) / len(y)
    norms = np.sqrt(np.sum(slope.reshape(-1, size, y.shape[1]) ** 2, axis=1) / size)
    return float(fraction * np.median(norms.max(axis=0)))


def problem(design, n, p, penalty="Ridge", n_responses=1, rate=RATE, modulation=1.0):
    """Return counts on a design with independent or hard columns; Ridge has strength 0.001."""
    rng = np.random.default_rng(SEED)
    X = {"iid": iid, "hard": hard}[design](n, p, rng)
    y = counts(X, rng, n_responses, rate, modulation)
    strength = 1e-3 if penalty == "Ridge" else kink_strength(X, y)
    return Problem(X, y, penalty, strength)


def grouped(n, n_groups=10, size=20):
    """Return a group lasso on the hard design: neighbouring columns form groups, half of them without effect."""
    rng = np.random.default_rng(SEED)
    X = hard(n, n_groups * size, rng)
    half = n_groups // 2 * size
    y = counts(X[:, :half], rng)
    return _with_groups(X, y, size)


def coupling(n, n_neurons=10, n_basis=20, penalty="GroupLasso", n_responses=1):
    """Return spike history with coupling: one group of features for each sending neuron."""
    rng = np.random.default_rng(SEED)
    spikes = spike_trains(n, n_neurons, rng)
    X, y = history(spikes, n_basis), spikes[:, :n_responses].copy()
    return Problem(X, y, "Ridge", 1e-3) if penalty == "Ridge" else _with_groups(X, y, n_basis)


def _with_groups(X, y, size):
    groups = tuple(np.arange(start, start + size) for start in range(0, X.shape[1], size))
    return Problem(X, y, "GroupLasso", kink_strength(X, y, size=size), groups)


def digits(n):
    """Return the handwritten digits that come with scikit-learn (1797 x 64), scaled to [0, 1]."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return Problem(X[:n] / 16.0, y[:n, None].astype(float), "Ridge", 1e-3, n_classes=10)


def place_cell(n):
    """Return position on a track and its square, never standardised, for a cell with one field."""
    rng = np.random.default_rng(SEED)
    position = 50 + 45 * np.sin(np.cumsum(rng.normal(0, 0.05, n)))
    rate = 0.3 * np.exp(-0.5 * ((position - 70) / 12) ** 2)
    X = np.column_stack([position, position**2])
    return Problem(X, rng.poisson(rate).astype(float)[:, None], "Ridge", 1e-3)
