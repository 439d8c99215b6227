"""What needs all of X in memory says so, and is refused where it does not fit."""

import logging

import numpy as np
import own_solvers
import pytest
import tables
from containers import Guarded
from numpyro.infer.util import log_density

import bayesglm as nmo
from bayesglm import _design, _memory

X, COUNTS = tables.X, tables.RESPONSES["Poisson"]
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.1}


@pytest.fixture
def own():
    with own_solvers.registry_kept():
        nmo.solvers.register("Own", own_solvers.Scipy, default=True)
        nmo.regularizer.Ridge.allow_solver("Own")
        yield nmo.glm.PopulationGLM("Poisson", solver_name="Own", **RIDGE)


def log_joint(source):
    model = nmo.glm.PopulationGLM("Poisson", **RIDGE).numpyro_model(source, COUNTS)
    params = {"coef": 0.1 * tables.COEF, "intercept": np.zeros(3)}
    return log_density(model, (), {}, params)[0]


def test_a_numpyro_model_of_a_file_is_loaded_and_said_to_be(caplog):
    caplog.set_level(logging.INFO, "bayesglm")
    np.testing.assert_allclose(log_joint(Guarded(X, len(X))), log_joint(X), rtol=1e-6)
    assert [m for m in caplog.messages if "loads X" in m] == [
        "A NumPyro model loads X, 6.4e-06 GB, into memory"
    ]


def test_a_solver_of_ones_own_fits_a_file_that_is_loaded(caplog, own):
    caplog.set_level(logging.INFO, "bayesglm")
    own.fit(Guarded(X, len(X)), COUNTS)
    assert any("solver of your own loads X" in m for m in caplog.messages)
    memory = nmo.glm.PopulationGLM("Poisson", **RIDGE).fit(X, COUNTS)
    np.testing.assert_allclose(own.coef_, memory.coef_, atol=1e-5)


def test_what_does_not_fit_is_refused_before_it_is_read(monkeypatch, own):
    monkeypatch.setattr(_memory, "free_bytes", lambda: X.nbytes - 1.0)
    monkeypatch.setattr(_design, "_READ_BYTES", X.nbytes // 2)
    before = dict(own.__dict__)
    source = Guarded(X, len(X) // 2)  # whoever reads it whole fails otherwise
    with pytest.raises(MemoryError, match="solver of your own needs all of `X`.*float32"):
        own.fit(source, COUNTS)
    assert own.__dict__ == before
    with pytest.raises(MemoryError, match="NumPyro model needs all of `X`.*are free"):
        own.numpyro_model(source, COUNTS)
    own.fit(X, COUNTS)  # what is in memory is there


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, np.inf),
        ({"memory.max": "max\n", "memory.current": "5\n"}, np.inf),
        ({"meminfo": "MemTotal: 9 kB\nMemAvailable:    3 kB\n"}, 3072.0),
        ({"memory.max": "100\n", "memory.current": "70\n",
          "memory.stat": "anon 50\ninactive_file 20\n"}, 50.0),
    ],
)  # fmt: skip
def test_free_memory_is_that_of_machine_and_container(monkeypatch, tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(_memory, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(_memory, "_CONTAINER", tmp_path)
    assert _memory.free_bytes() == expected
