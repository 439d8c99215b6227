"""Compiled programs survive the process, where the user asks for that."""

import os
import subprocess
import sys

import pytest

import bayesglm as nmo

SCRIPT = """
import sys
import jax
import numpy as np

events = []
jax.monitoring.register_event_listener(lambda event, **details: events.append(event.rsplit("/", 1)[-1]))
jax.numpy.ones(3).sum()  # JAX has compiled something before it is told
import bayesglm as nmo

before = jax.config.jax_compilation_cache_dir
folder = nmo.enable_compilation_cache(*sys.argv[1:])
rng = np.random.default_rng(0)
X, y = rng.normal(size=(60_000, 2)), rng.poisson(1.0, 60_000)  # few rows compile nothing
nmo.glm.GLM().fit(X, y)
print(before, folder, events.count("cache_hits"), events.count("cache_misses"))
"""


def run(*arguments, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMP", "JAX_PERS"))}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, *arguments]
    done = subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, check=True
    )
    before, folder, hits, misses = done.stdout.split()
    return before, folder, int(hits), int(misses)


@pytest.mark.slow
def test_the_second_process_compiles_nothing(tmp_path):
    folder = tmp_path / "new" / "programs"
    before, used, hits, misses = run(str(folder))
    assert before == "None"  # nothing is kept unless asked for
    assert used == str(folder)
    assert hits == 0 < misses
    _, _, hits, misses = run(str(folder))
    assert misses == 0 < hits


@pytest.mark.slow
def test_the_default_is_the_cache_folder_of_the_user(tmp_path):
    _, used, _, _ = run(XDG_CACHE_HOME=str(tmp_path))
    assert used == str(tmp_path / "bayesglm")
    assert any((tmp_path / "bayesglm").iterdir())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        nmo.enable_compilation_cache(tmp_path / "file" / "below")
