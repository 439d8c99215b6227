"""Spike trains: recover history and coupling filters of a network, with their uncertainty.

In a small simulated network a spike makes its own neuron refractory and excites or inhibits others. A population GLM is
fitted to the spike counts of the last bins, projected on a few basis functions, and its posterior is sampled. As the
truth is known, one can count how often the intervals cover it (over networks, that share scatters by some percent).
Run as ``python examples/spike_trains.py [folder for the picture]``.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import bayesglm as nmo
from bayesglm.simulation import difference_of_gammas, regress_filter, simulate_recurrent

NEURONS, BINS, WINDOW, FUNCTIONS = 4, 20_000, 20, 5
RATE = 0.1  # spikes per bin of a neuron that nobody drives
STRENGTH = 0.5  # typical size of a coupling filter; much more, and excitation may feed on itself
PRIOR_SD = 2.0  # of a weight on the basis
PROB = 0.9  # of the intervals


def raised_cosines(window=WINDOW, functions=FUNCTIONS):
    """Return bumps that widen with the lag, (window, functions); Pillow et al. (2008), doi:10.1038/nature07140."""
    warped = np.log1p(np.arange(window))
    centres = np.linspace(0.0, warped[-1], functions)
    distance = (warped[:, None] - centres) / (centres[1] - centres[0])
    return 0.5 * (1.0 + np.cos(np.pi * np.clip(distance, -1.0, 1.0)))


def true_weights(basis, seed=0):
    """Return weights on the basis (receiver, sender, function): self-inhibition, and coupling of either sign."""
    rng = np.random.default_rng(seed)
    shape = difference_of_gammas(WINDOW, inhib_a=1.0, excit_a=2.0)
    refractory = -2.0 * np.exp(-np.arange(WINDOW) / 2.0)
    filters = rng.normal(0.0, STRENGTH, (1, NEURONS, NEURONS)) * shape[:, None, None]
    for neuron in range(NEURONS):
        filters[:, neuron, neuron] = refractory
    return regress_filter(filters, basis)


def simulate(weights, basis, seed=0):
    """Return the spike counts of the network, (bins, neurons)."""
    no_input = np.zeros((BINS, NEURONS, 1))
    spikes, _ = simulate_recurrent(
        weights, np.zeros((NEURONS, 1)), np.full(NEURONS, np.log(RATE)), jax.random.key(seed),
        no_input, basis, np.zeros((WINDOW, NEURONS)), inverse_link_function=jax.numpy.exp,
    )  # fmt: skip
    return np.asarray(spikes, float)


def history_features(spikes, basis):
    """Return the past of each sender on the basis, a dict of arrays (bins - window, functions)."""
    past = np.lib.stride_tricks.sliding_window_view(spikes[:-1], len(basis), axis=0)
    features = past[..., ::-1] @ basis  # row 0 of the basis weighs the most recent bin
    return {f"neuron {sender}": features[:, sender] for sender in range(spikes.shape[1])}


def filters_of(model, basis):
    """Return the draws of all filters, (draws, lags, receivers, senders)."""
    coef = model.posterior_["posterior"]["coef"].stack(sample=("chain", "draw"))
    draws = coef.transpose("sample", "neuron", "feature").values
    by_sender = draws.reshape(*draws.shape[:2], NEURONS, -1)
    return np.einsum("lk,drsk->dlrs", basis, by_sender)


def coverage(model, weights):
    """Return the share of coefficients whose interval covers the truth."""
    draws = model.posterior_["posterior"]["coef"]
    low, high = draws.quantile([(1 - PROB) / 2, (1 + PROB) / 2], ("chain", "draw")).values
    truth = weights.reshape(NEURONS, -1).T  # (features, neurons), as `coef_`
    return np.mean((low <= truth) & (truth <= high))


def plot(model, weights, basis, path):
    """Plot the filters into each neuron: the truth, the posterior mean and its band."""
    draws = filters_of(model, basis)
    low, high = np.quantile(draws, [(1 - PROB) / 2, (1 + PROB) / 2], axis=0)
    truth = np.einsum("lk,rsk->lrs", basis, weights)
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes, lags = figure.subplots(2, NEURONS, sharex=True), np.arange(1, WINDOW + 1)
    for receiver, sender in np.ndindex(axes.shape):
        ax, pick = axes[receiver, sender], np.s_[:, receiver, sender]
        ax.fill_between(lags, low[pick], high[pick], alpha=0.3, label=f"{PROB:.0%} band")
        ax.plot(lags, draws.mean(axis=0)[pick], label="posterior mean")
        ax.plot(lags, truth[pick], "k--", linewidth=1, label="truth")
        ax.axhline(0.0, color="0.8", zorder=0)
        ax.set_title(f"neuron {sender} → neuron {receiver}")
        ax.set_ylim((-3.0, 0.5) if sender == receiver else (-0.8, 0.8))
    axes[0, 0].legend(loc="lower right")
    figure.supxlabel("lag, bins")
    figure.supylabel("effect of a spike on the log rate")
    figure.savefig(path, dpi=150)


def main(folder="."):
    """Run the example; return the model and the share of intervals that cover the truth."""
    basis = raised_cosines()
    weights = true_weights(basis)
    spikes = simulate(weights, basis)
    X, y = history_features(spikes, basis), spikes[WINDOW:]
    strength = 1.0 / (len(y) * PRIOR_SD**2)
    model = nmo.glm.PopulationGLM("Poisson", regularizer="Ridge", regularizer_strength=strength)
    model.sample_posterior(X, y, num_samples=500, progress_bar=False)
    covered = coverage(model, weights)
    r_hat = model.summary()["r_hat"].max()
    print(
        f"{NEURONS} neurons, {len(y)} bins, {spikes.mean():.3f} spikes each; R-hat to {r_hat:.3f}"
    )
    print(f"{PROB:.0%} intervals cover the truth in {covered:.0%} of {weights.size} coefficients")
    plot(model, weights, basis, Path(folder, "spike_trains.png"))
    return model, covered


if __name__ == "__main__":
    main(*sys.argv[1:2])
