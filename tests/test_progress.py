"""What fits and samplers say while they run: records for the log, and bars where someone watches."""

import io
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
import tables

import bayesglm as nmo
from bayesglm import _progress

X, COUNTS = tables.X, tables.RESPONSES["Poisson"]
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.1}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def messages(caplog, level, module):
    name = f"bayesglm.{module}"
    return [r.getMessage() for r in caplog.records if r.levelno == level and r.name == name]


def test_a_fit_logs_one_line_with_neurons_steps_and_how_many_converged(caplog):
    caplog.set_level(logging.INFO, "bayesglm")
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE).fit(X, COUNTS)
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.INFO, "bayesglm.glm._fitting")
    steps = model.solver_state_.iter_num
    assert re.fullmatch(
        rf"fitted 3 neurons in {steps} steps of LBFGS and \S+ s: 3 converged", record.getMessage()
    )


@pytest.mark.filterwarnings("ignore:Neurons 0")
def test_what_did_not_converge_does_not_count(caplog):
    caplog.set_level(logging.INFO, "bayesglm")
    how = {"solver_kwargs": {"maxiter": 1, "tol": 1e-12}, **RIDGE}
    nmo.glm.PopulationGLM("Poisson", **how).fit(X, COUNTS)
    assert caplog.messages[0].endswith("0 converged")


def test_every_step_of_a_fit_is_there_for_debugging(caplog):
    caplog.set_level(logging.DEBUG, "bayesglm")
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE).fit(X, COUNTS)
    steps = messages(caplog, logging.DEBUG, "_progress")
    assert len(steps) == model.solver_state_.iter_num > 1
    assert steps[0].startswith("step 1: ")
    assert "3 neurons" in steps[0]
    assert "0 neurons open" in steps[-1]
    assert messages(caplog, logging.DEBUG, "glm._solve") == ["panel 0: 3 neurons"]


def test_a_sampler_logs_neurons_chains_draws_and_how_many_were_sampled_again(caplog):
    caplog.set_level(logging.INFO, "bayesglm")
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    model.sample_posterior(X, COUNTS, num_samples=200, progress_bar=False)
    (line,) = messages(caplog, logging.INFO, "glm._sampling")
    again = len(model.posterior_.posterior.attrs["resampled_neurons"])
    assert re.fullmatch(
        r"sampled 3 neurons in \S+ s: 4 chains of 200 draws by nuts, a median step size of \S+, "
        rf"{again} neurons again",
        line,
    )


def test_a_short_fit_is_silent(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    nmo.glm.PopulationGLM("Poisson", **RIDGE).fit(X, COUNTS)
    assert sys.stderr.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_a_long_fit_has_a_bar_on_a_terminal_that_vanishes(monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    nmo.glm.PopulationGLM("Poisson", **RIDGE).fit(X, COUNTS)
    shown = sys.stderr.getvalue()
    assert "fitting:" in shown
    assert "/3" in shown
    assert not shown.rpartition("\r")[0].rpartition("\r")[2].strip()  # blanks over the last of it


def test_a_long_fit_has_no_bar_in_a_file_nor_within_a_sampler_told_to_be_silent(monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    nmo.glm.PopulationGLM("Poisson", **RIDGE).fit(X, COUNTS)
    assert sys.stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    model.sample_posterior(X, COUNTS, num_samples=200, progress_bar=False)
    assert sys.stderr.getvalue() == ""


def test_the_bar_of_a_sampler_names_its_phases(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE)
    model.sample_posterior(X, COUNTS, num_samples=200)
    shown = sys.stderr.getvalue()
    for phase in ("fitting", "modes", "warm-up", "sampling"):
        assert phase in shown


def test_a_bar_counts_neurons_of_earlier_panels(monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    none = np.zeros(2, bool)
    progress = type("Progress", (), {"done": none, "distance": np.array([0.5, np.nan])})
    with _progress.Watch(10) as watch:
        watch.panel(6)
        watch(1, 1, progress)
    assert "7/10" in sys.stderr.getvalue()


def test_the_folder_of_compiled_programs_is_logged_and_nothing_is_printed_unasked(tmp_path):
    code = (
        "import logging, sys, bayesglm\n"
        "bayesglm.enable_compilation_cache(sys.argv[1])\n"
        "logging.getLogger('bayesglm').warning('unheard')\n"
        "logging.basicConfig(level='INFO', format='%(name)s %(message)s', stream=sys.stdout)\n"
        "bayesglm.enable_compilation_cache(sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "unheard" not in done.stderr
    ours = [line for line in done.stdout.splitlines() if line.startswith("bayesglm")]
    assert ours == [f"bayesglm._cache compiled programs are kept in {tmp_path}"]
