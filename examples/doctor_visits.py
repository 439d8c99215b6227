"""Doctor visits: fit, posterior, report, and Poisson against negative binomial by leave-one-out.

The data are those of the RAND health insurance experiment, which come with statsmodels: visits to a doctor in a year,
and nine features of a person. A random 3000 of the 20190 rows are used, to keep the example short; drop `ROWS` to use
all. Run as ``python examples/doctor_visits.py [folder for the picture]``.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import statsmodels.api as sm
from arviz_stats import compare
from matplotlib.figure import Figure

import bayesglm as nmo

ROWS = 3000
DRAWS = 250  # of each of four chains
FAMILIES = {
    "Poisson": nmo.observation_models.PoissonObservations(),
    "NegativeBinomial": nmo.observation_models.NegativeBinomialObservations(),
}


def load(rows=ROWS, seed=0):
    """Return standardised features, by name, and the numbers of visits."""
    data = sm.datasets.randhie.load_pandas()
    chosen = np.random.default_rng(seed).permutation(len(data.endog))[:rows]
    features = data.exog.iloc[chosen].astype(float)
    features = (features - features.mean()) / features.std()
    X = {name: features[[name]].to_numpy() for name in features}
    return X, data.endog.to_numpy(float)[chosen]


def fit_and_sample(X, y):
    """Return one model of each family with its posterior; `fit` comes first, and is the posterior's mode."""
    models = {}
    for name, family in FAMILIES.items():
        model = nmo.glm.GLM(family).fit(X, y)
        print(f"{name}: log-likelihood a row at the fit {model.score(X, y):.4f}")
        models[name] = model.sample_posterior(X, y, num_samples=DRAWS, progress_bar=False)
    return models


def shares(counts, most):
    """Return the share of each count from 0 to `most`, for arrays (..., rows): (..., counts)."""
    return np.stack([(counts == k).mean(axis=-1) for k in range(most + 1)], axis=-1)


def plot(models, X, y, path, most=12, num_draws=50):
    """Plot the coefficients of both models, and the counts that they predict beside those that were seen."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    right.bar(np.arange(most + 1), shares(y, most), color="0.85", label="seen")
    for shift, (name, model) in zip((-0.15, 0.15), models.items(), strict=True):
        coef = model.posterior_["posterior"]["coef"]
        place = np.arange(coef.sizes["feature"]) + shift
        middle = coef.mean(("chain", "draw")).values
        ends = np.abs(coef.quantile([0.03, 0.97], ("chain", "draw")).values - middle)
        left.errorbar(middle, place, xerr=ends, fmt="o", markersize=4, label=name)
        counts = model.posterior_predictive(jax.random.key(1), X, num_draws=num_draws)
        predicted = shares(np.asarray(counts), most).reshape(-1, most + 1)
        low, high = np.quantile(predicted, [0.03, 0.97], axis=0)
        centre = predicted.mean(axis=0)
        error = np.abs([low - centre, high - centre])
        right.errorbar(
            np.arange(most + 1) + shift, centre, error, fmt="o", markersize=4, label=name
        )
    names = [label.partition("[")[0] for label in coef["feature"].values]
    left.set_yticks(np.arange(len(names)), names)
    left.axvline(0.0, color="0.7", zorder=0)
    left.set(
        xlabel="coefficient of a standardised feature, 94% interval", title="What drives visits"
    )
    right.set(xlabel="visits", ylabel="share of people", title="Posterior predictive check")
    right.legend()
    figure.savefig(path, dpi=150)


def main(folder="."):
    """Run the example; return the models and the comparison."""
    X, y = load()
    models = fit_and_sample(X, y)
    best = models["NegativeBinomial"]
    print(f"\n{best.summary().round(3).to_string()}")
    comparison = compare({name: model.loo(X, y) for name, model in models.items()})
    print(f"\nLeave-one-out, best first:\n{comparison.round(1).to_string()}")
    report = best.report(X, y)
    print(f"\n{report}")
    path = Path(folder, "doctor_visits.png")
    plot(models, X, y, path)
    print(f"\nPicture: {path}")
    return models, comparison, report


if __name__ == "__main__":
    main(*sys.argv[1:2])
