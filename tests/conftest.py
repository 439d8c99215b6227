"""Settings of the test run: one compilation cache, and fixed data shared by all tests."""

import os
import tempfile

# Compiling dominates the tests: programs are kept for the run (or across runs, where the caller names a folder), and
# shared by all processes of it, which inherit the variable.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="bayesglm-jax-")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def rng():
    """Random numbers of a test's own; tests must hold for any draw."""
    return np.random.default_rng(20240614)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Free compiled programs between files: each holds memory maps, and a process has a limited number of these."""
    yield
    jax.clear_caches()
