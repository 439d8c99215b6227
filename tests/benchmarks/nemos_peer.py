"""NeMoS in an environment of its own: a process that holds the data and fits when it is told to.

`entry` is the side of the benchmark. Run as a script, by the Python that has NeMoS, this file is the other side; it
imports nothing of the benchmark. (Its name must not be that of the package, which it would hide.)
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np


class Server:
    """The other process, started when needed and ended when a fit is interrupted."""

    def __init__(self, python):
        self.python, self.process, self.problem = python, None, None
        self.folder = tempfile.TemporaryDirectory()

    def fit(self, problem, tol):
        """Fit there; the answer holds the parameters."""
        try:
            if self.process is None:
                command = [self.python, __file__]
                pipe = subprocess.PIPE
                self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            if self.problem is not problem:
                self._ask({"load": self._save(problem)})
                self.problem = problem
            return self._ask({"tol": tol})
        except BaseException:
            self.end()
            raise

    def end(self):
        """End the process; the next fit starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = self.problem = None

    def _ask(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "NeMoS ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def _save(self, problem):
        path = Path(self.folder.name, "problem.npz")
        mask = np.zeros((len(problem.groups), problem.X.shape[1]))
        for row, group in zip(mask, problem.groups, strict=True):
            row[group] = 1
        y = problem.y[:, 0] if problem.n_responses == 1 else problem.y
        settings = {"penalty": problem.penalty, "strength": problem.strength}
        np.savez(path, X=problem.X, y=y, mask=mask, **settings)
        return str(path)


def _params(answer):
    coef = np.array(answer["coef"])
    return coef.reshape(len(coef), -1), np.array(answer["intercept"])


def entry(python):
    """Return NeMoS as an entry of the benchmark."""
    from .peers import TOLERANCES, Entry

    kinds = ("Ridge", "Lasso", "GroupLasso")
    return Entry("NeMoS", "", Server(python).fit, _params, False, TOLERANCES, kinds)


def _model(nemos, data, tol):
    penalty = str(data["penalty"])
    regularizer = nemos.regularizer.GroupLasso(data["mask"]) if len(data["mask"]) else penalty
    kind = nemos.glm.GLM if data["y"].ndim == 1 else nemos.glm.PopulationGLM
    return kind(
        regularizer=regularizer,
        regularizer_strength=float(data["strength"]),
        solver_kwargs={"tol": tol, "maxiter": 10000},
    )


def _serve():
    import jax

    jax.config.update("jax_enable_x64", True)
    import nemos

    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed is no answer
    warnings.simplefilter("ignore")
    data = None
    for line in sys.stdin:
        message = json.loads(line)
        answer = {}
        try:
            if "load" in message:
                data = dict(np.load(message["load"]))
            else:
                model = _model(nemos, data, message["tol"]).fit(data["X"], data["y"])
                coef, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
                answer = {"coef": coef.tolist(), "intercept": intercept.tolist()}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
