"""What needs a process of its own: starts, many refits, memory. Each function is run by `map` in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

from . import designs
from .clocks import OverTimeError, Peak, anonymous_bytes, compiles, limit, quiet, return_memory
from .objective import Problem, gap, optimum
from .peers import known_solvers, our_fit, our_model, our_params

# Run by a fresh interpreter: imports first, each with its clock, then the first and the second fit.
START = """
import json, sys, time
begin = time.perf_counter()
import jax
imported_jax = time.perf_counter()
import bayesglm as nmo
imported = time.perf_counter()
if sys.argv[1]:
    nmo.enable_compilation_cache(sys.argv[1])
import numpy as np
events = []
listen = lambda event, seconds, **details: events.append(event)
jax.monitoring.register_event_duration_secs_listener(listen)
jax.monitoring.register_event_listener(lambda event, **details: events.append(event))
rng = np.random.default_rng(0)
X = rng.normal(size=(1000, 10))
y = rng.poisson(np.exp(0.2 * X[:, 0] - 0.7)).astype(float)
clocks = [time.perf_counter()]
for _ in range(2):
    model = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=1e-3).fit(X, y)
    jax.block_until_ready(model.coef_)
    clocks.append(time.perf_counter())
compiled = events.count("/jax/core/compile/backend_compile_duration")
hits = events.count("/jax/compilation_cache/cache_hits")
print(json.dumps({
    "import_jax": imported_jax - begin, "import_package": imported - imported_jax,
    "first_fit": clocks[1] - clocks[0], "second_fit": clocks[2] - clocks[1],
    "compiles": compiled - hits, "cache_hits": hits,
}))
"""


def start(settings) -> dict:
    """Time imports and first fits of GLM Ridge 1000 x 10 in fresh processes, without and with the persistent cache."""
    import bayesglm

    cold = [_started("") for _ in range(min(3, settings.repeats))]
    result = {"cold": _medians(cold), "cached": None}
    if hasattr(bayesglm, "enable_compilation_cache"):
        with tempfile.TemporaryDirectory() as folder:
            _started(folder)
            cached = [_started(folder) for _ in range(min(3, settings.repeats))]
        result["cached"] = _medians(cached)
    return result


def _started(folder) -> dict:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, "-c", START, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _medians(runs) -> dict:
    return {name: float(np.median([run[name] for run in runs])) for name in runs[0]}


def refits(settings, fits=300) -> dict:
    """Fit changing data with changing strengths: programs compiled and memory gained after the first fits."""
    rng = np.random.default_rng(designs.SEED)
    fits = max(20, round(fits * min(1.0, settings.scale)))
    settled, memory, begin = 10, 0, 0.0
    with quiet(), compiles() as first:
        _refit(rng)
    with quiet(), compiles() as later:
        for k in range(fits):
            if k == settled:
                return_memory()
                memory, begin = anonymous_bytes(), time.perf_counter()
            _refit(rng)
        seconds = time.perf_counter() - begin
        return_memory()
    gained = anonymous_bytes() - memory
    mean = seconds / (fits - settled)
    return {
        "fits": fits, "first_compiles": len(first), "later_compiles": len(later),
        "gained": gained, "mean_fit": mean,
    }  # fmt: skip


def _refit(rng):
    X = rng.normal(size=(1000, 10))
    y = designs.counts(X, rng, rate=0.5)
    our_fit(Problem(X, y, "Ridge", float(10 ** rng.uniform(-4, -1))), None)


def memory(settings) -> dict:
    """Peak memory of a first and of a warm fit beyond X and y, where X has 1e6 x 50 entries."""
    our_fit(designs.problem("iid", 500, 5), None)  # what any first fit loads
    problem = designs.problem("iid", settings.rows(1_000_000), 50)
    peaks = []
    for _ in range(2):
        with quiet(), Peak() as peak:
            model = our_fit(problem, None)
            del model
        peaks.append(peak.above_start)
    return {"first": peaks[0], "warm": peaks[1], "X_bytes": problem.X.nbytes}


def solvers(settings) -> dict:
    """Fit hard designs by every solver at its default settings: the gap reached, and whether it warned."""
    n = settings.rows(20_000)
    cases = {
        "hard, ridge": designs.problem("hard", n, 50),
        "hard, strongly modulated, ridge": designs.problem("hard", n, 50, modulation=2.5),
        "place cell, ridge": designs.place_cell(n),
        "hard, lasso": designs.problem("hard", n, 50, "Lasso"),
    }
    found = []
    for title, problem in cases.items():
        best = optimum(problem)[2]
        for name in known_solvers():
            if _can(name, problem):
                result = _default_fit(name, problem, best, settings.patience)
                found.append({"design": title, "solver": name, **result})
    return {"fits": found}


def _can(name, problem) -> bool:
    try:
        our_model(problem, name)
    except ValueError:  # a smooth solver does not take a penalty with kinks
        return False
    return True


def _default_fit(name, problem, best, patience) -> dict:
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            with limit(patience):
                model = our_fit(problem, None, name)
        except OverTimeError:
            return {"gap": None, "ended": f"stopped after {patience:.0f} s", "seconds": patience}
        except ValueError as error:
            text = str(error).partition(":")[0][:80]
            return {"gap": None, "ended": f"raised: {text}", "seconds": None}
    seconds = time.perf_counter() - begin
    warned = any(issubclass(w.category, RuntimeWarning) for w in caught)
    achieved = gap(problem.value(*our_params(model)), best)
    return {"gap": achieved, "ended": "warned" if warned else "converged", "seconds": seconds}


PROCESSES = {"start": start, "refits": refits, "memory": memory, "solvers": solvers}
