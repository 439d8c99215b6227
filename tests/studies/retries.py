"""What skewed and barely known posteriors cost: seconds, neurons sampled again, divergences, effective draws.

    python -m tests.studies.retries [--quick] [--only NAME]

The shared step size suits most neurons of a population; those that it does not suit are sampled again, together. Each
line is one call of `sample_posterior` with default arguments.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

import bayesglm as nmo

SEED = 0


def gamma(neurons: int):
    """Few responses whose mean is the inverse of the predictor, which has an edge at zero."""
    rng = np.random.default_rng(SEED)
    X = rng.uniform(0.0, 1.0, (25, 2))
    mean = 1.0 / (1.0 + X @ rng.uniform(0.5, 1.5, (2, neurons)))
    y = rng.gamma(2.0, mean / 2.0)
    model = nmo.glm.PopulationGLM(
        "Gamma", "one_over_x", regularizer="Ridge", regularizer_strength=0.1
    )
    return model, X, y


def spikes(neurons: int):
    """Spike counts with a few spikes for each of many coefficients."""
    rng = np.random.default_rng(SEED)
    X = rng.normal(size=(500, 10))
    y = rng.poisson(np.exp(X @ rng.normal(scale=0.3, size=(10, neurons)) - 3.5)).astype(float)
    return nmo.glm.PopulationGLM(regularizer="Lasso", regularizer_strength=0.01), X, y


def published(name: str):
    """Return a data set of statsmodels, with standardised features, and a Gamma model of it."""
    import statsmodels.api as sm

    data = getattr(sm.datasets, name).load_pandas()
    X = np.asarray(data.exog, float)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = np.asarray(data.endog, float)
    return nmo.glm.GLM("Gamma", "exp"), X, y


CASES = {
    "Gamma 1/x, 25 rows": lambda quick: gamma(20 if quick else 400),
    "Poisson Lasso, low rates": lambda quick: spikes(20 if quick else 250),
    "strikes": lambda quick: published("strikes"),
    "scotland": lambda quick: published("scotland"),
}


def measure(case, quick: bool) -> dict:
    """Return the numbers of one line."""
    model, X, y = case(quick)
    begin, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.sample_posterior(X, y, num_samples=200 if quick else 1000, progress_bar=False)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    stats = model.posterior_["sample_stats"]
    table = model.summary()
    return {
        "neurons": 1 if y.ndim == 1 else y.shape[1],
        "seconds": seconds,
        "cpu": cpu,
        "again": int(np.size(model.posterior_.attrs["resampled_neurons"])),
        "divergent": int(np.asarray(stats["diverging"]).sum()),
        "ess": float(np.nanmin(np.asarray(table["ess_bulk"], float))),
        "ess_tail": float(np.nanmin(np.asarray(table["ess_tail"], float))),
        "warnings": len(caught),
    }


def main(arguments=None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few neurons and draws")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    chosen = parser.parse_args(arguments)
    print(
        "| case | neurons | seconds | CPU seconds | sampled again | divergent | least ESS bulk | tail | warnings |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, case in CASES.items():
        if chosen.only in name:
            line = measure(case, chosen.quick)
            numbers = " | ".join(
                f"{v:.1f}" if isinstance(v, float) else str(v) for v in line.values()
            )
            print(f"| {name} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
