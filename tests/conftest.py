"""Settings of the test run: one compilation cache, and fixed data shared by all tests."""

import os
import tempfile

import jax
import numpy as np
import pytest

# Compiling dominates the tests: programs are kept for the run (or across runs, where the caller names a folder).
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp(prefix="bayesglm-jax-"))
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
