"""What learning a strength costs, beside a fit with a known one: ``python -m tests.studies.learned``."""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

import bayesglm as nmo


def ratios(n_rows: int, n_features: int, n_neurons: int, repeats: int) -> list[float]:
    """The time of a fit that learns over that of one that does not, in turn, after one of each that compiles."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features)) / np.sqrt(n_features)
    weights = rng.normal(size=(n_features, n_neurons)) * np.linspace(0.0, 1.0, n_neurons)
    y = rng.poisson(np.exp(X @ weights - 1.0)).astype(float)
    seconds = []
    for _ in range(repeats + 1):
        for strength in ("auto", 1e-3):
            model = nmo.glm.PopulationGLM(regularizer="Ridge", regularizer_strength=strength)
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # neurons without an effect
                model.fit(X, y)
            seconds.append(time.perf_counter() - begin)
    return [auto / known for auto, known in zip(seconds[2::2], seconds[3::2], strict=True)]


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and neurons")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    shape = (2_000, 10, 10) if given.quick else (20_000, 50, 100)
    found = ratios(*shape, given.repeats)
    print("rows, features, neurons:", shape)
    print("learned over known:", ", ".join(f"{ratio:.1f}" for ratio in found))


if __name__ == "__main__":
    main()
