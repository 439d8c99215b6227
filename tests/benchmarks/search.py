"""What a search over strengths costs: ``python -m tests.benchmarks.search`` prints it beside one fit and a grid search.

All are timed in turns, in one process, after a first round that compiles; the least of the repeats counts.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.model_selection import GridSearchCV, KFold

import bayesglm as nmo

from .clocks import quiet


def data(n_rows: int, n_features: int, n_neurons: int):
    """Return features and counts, a quarter of the features having an effect."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features))
    coef = 0.2 * rng.normal(size=(n_features, n_neurons)) * (rng.random((n_features, 1)) < 0.25)
    return X, rng.poisson(np.exp(X @ coef - 0.5)).astype(float)


def timed(run) -> tuple[float, object]:
    """Return seconds and the result."""
    begin = time.perf_counter()
    found = run()
    return time.perf_counter() - begin, found


def compare(X, y, penalty: str, folds: int, n_strengths: int, repeats: int, grid: bool) -> dict:
    """Return the seconds of one fit, a search and, on request, a grid search of a population."""
    kind = nmo.glm.PopulationGLM if y.shape[1] > 1 else nmo.glm.GLM
    y = y if y.shape[1] > 1 else y[:, 0]
    top = {"Ridge": 5.0 * X.shape[1], "Lasso": 0.5}[penalty]
    strengths = np.geomspace(top, 1e-4 * top, n_strengths).tolist()
    model = kind(regularizer=penalty, regularizer_strength=strengths[n_strengths // 2])
    how = {"per_neuron": False, "refit": False}
    search = nmo.model_selection.StrengthSearchCV(model, strengths, KFold(folds), **how)
    runs = {"fit": lambda: model.fit(X, y), "search": lambda: search.fit(X, y)}
    if grid:
        slow = GridSearchCV(
            model, {"regularizer_strength": strengths}, cv=KFold(folds), refit=False
        )
        runs["grid"] = lambda: slow.fit(X, y)
    seconds: dict[str, list] = {name: [] for name in runs}
    with quiet():
        for count in range(repeats + 1):
            for name, run in runs.items():
                if name == "grid" and count > 1:
                    continue  # hundreds of fits are a mean already
                passed, _ = timed(run)
                if count or name == "grid":
                    seconds[name].append(passed)
    if grid:
        assert search.best_strength_ == slow.best_params_["regularizer_strength"]
    return {name: min(each) for name, each in seconds.items()}


def main(arguments=None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--neurons", type=int, default=1)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--strengths", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-grid", action="store_true", help="without GridSearchCV")
    args = parser.parse_args(arguments)
    X, y = data(args.rows, args.features, args.neurons)
    print("| penalty | one fit (s) | search / fit | search / grid search |\n|---|---|---|---|")
    for penalty in ("Ridge", "Lasso"):
        how = args.folds, args.strengths, args.repeats, not args.no_grid
        found = compare(X, y, penalty, *how)
        grid = f"{found['search'] / found['grid']:.3f}" if "grid" in found else ""
        print(f"| {penalty} | {found['fit']:.3g} | {found['search'] / found['fit']:.1f} | {grid} |")


if __name__ == "__main__":
    main()
