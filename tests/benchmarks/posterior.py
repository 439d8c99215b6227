"""Time from call to draws of a minimum bulk ESS of 400, against NumPyro's default sampler on the same model.

Run as ``python -m tests.benchmarks.posterior [case ...]``; cases are those of `CASES`, by default all. Cold times need
a fresh process without a compilation cache: name one case, and leave JAX_COMPILATION_CACHE_DIR unset. Where Bambi is
installed it takes its turn too, with the same priors and a process for each core. Medians are of three data sets.
"""

import importlib.util
import os
import sys
import time

import jax
import numpy as np
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS

import bayesglm as nmo

STRENGTH = 1e-3
#: Rows, features, neurons, correlation of neighbouring columns, draws of each of four chains, and whether NumPyro runs.
CASES = {
    "small": (1000, 10, None, 0.0, 150, True),
    "correlated": (10_000, 50, None, 0.5, 150, True),
    "population": (5000, 20, 100, 0.0, 130, False),
}


def data(n, p, neurons, correlation, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    for j in range(1, p):
        X[:, j] = correlation * X[:, j - 1] + np.sqrt(1 - correlation**2) * X[:, j]
    coef = rng.normal(size=(p, neurons or 1)) * 0.5 / np.sqrt(p)
    y = rng.poisson(np.exp(X @ coef - 0.5)).astype(float)
    return X, y if neurons else y[:, 0]


def least_ess(values):
    """Smallest bulk effective size; values (chains, draws, ...)."""
    flat = values.reshape(*values.shape[:2], -1)
    return min(
        float(array_stats.ess(flat[..., k], chain_axis=0, draw_axis=1))
        for k in range(flat.shape[2])
    )


def ours(case, seed):
    n, p, neurons, correlation, draws, _ = CASES[case]
    X, y = data(n, p, neurons, correlation, seed)
    kind = nmo.glm.PopulationGLM if neurons else nmo.glm.GLM
    model = kind("Poisson", regularizer="Ridge", regularizer_strength=STRENGTH)
    start = time.perf_counter()
    model.sample_posterior(X, y, num_samples=draws, num_warmup=50, progress_bar=False)
    seconds = time.perf_counter() - start
    found = model.posterior_["sample_stats"]
    ess = least_ess(model.posterior_["posterior"]["coef"].values)
    print(
        f"{case:12s} ours, seed {seed}: {seconds:7.2f} s, minimum ESS {ess:6.0f} ({ess / seconds:8.1f} a second), "
        f"{found['n_steps'].values.mean():.1f} leapfrogs a draw, "
        f"{int(found['diverging'].values.sum())} divergences",
        flush=True,
    )
    return (seconds, ess), model, X, y


def numpyro_default(case, model, X, y):
    with jax.enable_x64(True):
        mcmc = MCMC(
            NUTS(model.numpyro_model(X, y)), num_warmup=1000, num_samples=1000, num_chains=4,
            chain_method="vectorized", progress_bar=False,
        )  # fmt: skip
        start = time.perf_counter()
        mcmc.run(jax.random.key(0))
        draws = np.asarray(mcmc.get_samples(group_by_chain=True)["coef"])
        seconds = time.perf_counter() - start
    ess = least_ess(draws)
    print(
        f"{case:12s} NumPyro: {seconds:7.2f} s, minimum ESS {ess:6.0f} ({ess / seconds:8.1f} a second)"
    )
    return seconds, ess


def bambi_default(case, X, y):
    import bambi
    import pandas as pd

    names = [f"x{j}" for j in range(X.shape[1])]
    frame = pd.DataFrame(X, columns=names).assign(y=y)
    normal = bambi.Prior(
        "Normal", mu=0, sigma=1 / np.sqrt(len(y) * STRENGTH)
    )  # what Ridge stands for
    priors = {"Intercept": bambi.Prior("Flat"), **dict.fromkeys(names, normal)}
    model = bambi.Model(
        f"y ~ {' + '.join(names)}", frame, family="poisson", priors=priors, center_predictors=False
    )
    start = time.perf_counter()
    draws = model.fit(draws=1000, tune=1000, chains=4, cores=os.cpu_count(), progressbar=False)
    seconds = time.perf_counter() - start
    ess = min(least_ess(draws.posterior[name].values) for name in names)
    print(
        f"{case:12s} Bambi: {seconds:7.2f} s, minimum ESS {ess:6.0f} ({ess / seconds:8.1f} a second)"
    )
    return seconds, ess


def medians(case, measured):
    """Print the medians over the data sets, and how many times ours each peer took for an effective draw."""
    seconds = {name: np.median([time for time, _ in pairs]) for name, pairs in measured.items()}
    per_draw = {name: np.median([t / ess for t, ess in pairs]) for name, pairs in measured.items()}
    for name in measured:
        print(
            f"{case:12s} median of {len(measured[name])}, {name}: {seconds[name]:.2f} s to the draws, "
            f"{1 / per_draw[name]:.0f} effective draws a second, {per_draw[name] / per_draw['ours']:.1f} x ours"
        )


def main(cases):
    for case in cases or CASES:
        measured = {"ours": []}
        ours(case, 0)  # cold
        for seed in range(3):
            pair, model, X, y = ours(case, seed)
            measured["ours"].append(pair)
            if CASES[case][-1]:
                measured.setdefault("NumPyro", []).append(numpyro_default(case, model, X, y))
                if importlib.util.find_spec("bambi"):
                    measured.setdefault("Bambi", []).append(bambi_default(case, X, y))
        medians(case, measured)


if __name__ == "__main__":
    main(sys.argv[1:])
