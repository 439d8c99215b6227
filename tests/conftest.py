"""Settings of the test run: one compilation cache, and fixed data shared by all tests."""

import os
import tempfile
from pathlib import Path

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


def memory_maps():
    """Share of the memory maps that a process may have which this one has; all of them where nobody says."""
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        return Path("/proc/self/maps").read_bytes().count(b"\n") / limit
    except OSError:
        return 1.0


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Free compiled programs after a file where they hold many memory maps, of which a process has a limited number.

    Otherwise the next file has them: to trace and load them again costs as much as most tests.
    """
    yield
    if memory_maps() > 0.15:
        jax.clear_caches()
