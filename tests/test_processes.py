"""Processes beside the first one: they compute, or say at once why they cannot."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, KFold
from tables import RESPONSES, X

import bayesglm as nmo

TESTS = Path(__file__).resolve().parent
PROCESSES = """
import multiprocessing
import sys
import warnings

sys.path.insert(0, {tests!r})
warnings.simplefilter("ignore")  # JAX warns of every fork
import jax
import numpy as np
from made_up import drawn, fitted
import bayesglm as nmo

rng = np.random.default_rng(0)
X, y = rng.normal(size=(30, 3)), rng.poisson(1.0, 30)


def run(work, queue):
    try:
        work()
        queue.put("ok")
    except Exception as error:
        queue.put(f"{{type(error).__name__}}: {{error}}")


def forked(work):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=run, args=(work, queue), daemon=True)
    process.start()
    process.join(20)
    result = "hangs" if process.is_alive() else queue.get(timeout=5)
    process.kill()
    return result
"""
AFTER = """
model = fitted("GLM", "abc")
model.scale_ = 1.0
draws = drawn(model)
model.posterior_ = draws
leaves = dict(zip("abc", np.split(X, 3, axis=1)))
key = jax.random.key(0)  # the only thing computed before
file = sys.argv[1]
works = {
    "fit": lambda: nmo.glm.GLM().fit(X, y),
    "population": lambda: nmo.glm.PopulationGLM().fit(X, y[:, None]),
    "classifier": lambda: nmo.glm.ClassifierGLM(2).fit(X, y > 0),
    "predict": lambda: model.predict(leaves),
    "interval": lambda: model.predict_interval(leaves),
    "predictive": lambda: model.posterior_predictive(key, leaves),
    "score": lambda: model.score(leaves, y),
    "simulate": lambda: model.simulate(key, leaves),
    "sample": lambda: nmo.glm.GLM().sample_posterior(X, y),
    "loo": lambda: model.loo(leaves, y),
    "loo_pit": lambda: model.loo_pit(leaves, y),
    "numpyro_model": lambda: model.numpyro_model(leaves, y),
    "report of data": lambda: model.report(leaves, y),
    "coef": lambda: model.coef_,
    "intercept": lambda: model.intercept_,
    "scale": lambda: model.scale_,
    "initialize": lambda: nmo.glm.GLM().initialize_params(X, y),
    "loss": lambda: nmo.glm.GLM().compute_loss((np.zeros(3), np.zeros(1)), X, y),
    "summary": lambda: model.summary(),
    "report of draws": lambda: model.report(),
    "save": lambda: model.save_params(file),
    "load": lambda: nmo.load_model(file),
    "draws": lambda: setattr(model, "posterior_", draws),
    "construct": lambda: nmo.glm.GLM("NegativeBinomial", regularizer="GroupLasso"),
}
model.save_params(file)
for name, work in works.items():
    print(name, "=", forked(work))
"""
BEFORE = """
print(forked(lambda: nmo.glm.GLM().fit(X, y)))
nmo.glm.GLM().fit(X, y)
print(forked(lambda: nmo.glm.GLM().fit(X, y)))
"""


def lines(source, *arguments):
    script = PROCESSES.format(tests=str(TESTS)) + source
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.splitlines()


forks = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


@forks
def test_a_process_forked_after_use_computes_nothing_and_says_so_at_once(tmp_path):
    found = dict(line.split(" = ", 1) for line in lines(AFTER, str(tmp_path / "model.npz")))
    # what asks nothing of JAX works
    fine = {"summary", "report of draws", "save", "load", "draws", "construct"}
    assert {name for name, result in found.items() if result == "ok"} == fine
    for name in found.keys() - fine:
        assert found[name].startswith("RuntimeError: This process was forked"), name
        assert "spawn" in found[name]
        assert "loky" in found[name]


@forks
def test_a_process_forked_before_use_computes():
    before, after = lines(BEFORE)
    assert before == "ok"
    assert after.startswith("RuntimeError")


def test_searches_run_in_processes_of_joblib():
    model = nmo.glm.GLM(regularizer="Ridge")
    strengths = {"regularizer_strength": [0.1, 1.0]}
    y = RESPONSES["Poisson"][:, 0]
    several, one = (
        GridSearchCV(model, strengths, cv=KFold(2), n_jobs=jobs).fit(X, y) for jobs in (2, None)
    )
    scores = [search.cv_results_["mean_test_score"] for search in (several, one)]
    np.testing.assert_array_equal(*scores)
