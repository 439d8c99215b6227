"""How the rows are held does not matter: in shards, at any address, in chunks of neurons, in a file."""

import numpy as np
import pytest
import tables
from reference import Problem, fitted

import bayesglm as nmo
from bayesglm import _design
from bayesglm.glm import _solve
from bayesglm.rows import _shards, _small

# Fits stop within this many standard errors of the optimum, so two of them differ by twice as much at most;
# the standard errors here are below 0.1.
ATOL = 2e-7


@pytest.fixture(autouse=True)
def _nothing_left_to_numpy(monkeypatch):
    """Few rows, which NumPy would take as they are, stand for many here."""
    monkeypatch.setattr(_small, "LARGEST", 0)


def rows_of(n, p=3, neurons=2, seed=0, rate=0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.geomspace(1, 10, p)
    coef = 0.3 * rng.normal(size=(p, neurons)) / X.std(axis=0)[:, None]
    return X, rng.poisson(rate * np.exp(X @ coef)).astype(float)


def population(kind="Ridge", **kwargs):
    return nmo.glm.PopulationGLM(
        regularizer=kind, regularizer_strength=tables.REGULARIZERS[kind], **kwargs
    )


def assert_same(one, other):
    for a, b in zip(fitted(one), fitted(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", ["Ridge", "Lasso"])
def test_shards_change_nothing(monkeypatch, kind):
    # more rows than copies at both ends take, and a number that three shards do not divide
    X, y = rows_of(13_001)
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=y.shape)
    whole = population(kind).fit(X, y, sample_weight=weight, offset=0.1 * X[:, 0])
    monkeypatch.setattr(_shards, "cores", lambda: 3)
    monkeypatch.setattr(_shards, "_WORK_PER_SHARD", 1)
    assert _shards.cuts(len(X), 6) == 3
    parts = population(kind).fit(X, y, sample_weight=weight, offset=0.1 * X[:, 0])
    assert_same(whole, parts)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_matrix_is_read_where_it_lies(dtype):
    """At every address that an allocator may give: all rows come back, and what is aligned is not copied."""
    n, p = 2 * _shards._END_ROWS + 77, 3
    raw = np.zeros(n * p + 32, dtype)
    for lead in range(0, 16, 3):
        X = raw[lead : lead + n * p].reshape(n, p)
        X[:] = np.arange(n * p).reshape(n, p)
        matrix = _shards.Matrix.of(X)
        assert np.shares_memory(matrix.flat, X)
        assert matrix.flat.ctypes.data % 64 == 0
        size = _shards.MAX_BLOCK_ROWS
        for start in (0, 1, 64, _shards._END_ROWS - size, _shards._END_ROWS - size + 1, n - size - 16,
                      n - _shards._END_ROWS - 1, n - _shards._END_ROWS, n - size):  # fmt: skip
            found = matrix.rows(np.int64(start), size, n)
            np.testing.assert_array_equal(found, X[start : start + size])


def test_neurons_in_chunks_are_those_fitted_alone(monkeypatch):
    """More neurons than a chunk holds, of which some need many steps and others few."""
    monkeypatch.setattr(_shards, "_CHUNK_LANES", 4)
    X, y = rows_of(400, neurons=11, rate=np.geomspace(0.05, 20.0, 11))
    for kind in ("Ridge", "Lasso"):
        together = fitted(population(kind).fit(X, y))
        for k in range(11):
            problem = Problem("Poisson", "exp", X, y[:, k], kind, tables.REGULARIZERS[kind])
            theta = problem.theta(together[0][:, k], together[1][k])
            np.testing.assert_allclose(theta, problem.stationary_point(theta), rtol=0, atol=1e-6)


class Slices:
    """Something like an HDF5 data set: slices of rows, and no more. It counts the entries that are read."""

    chunks = None

    def __init__(self, X):
        self.X, self.shape, self.dtype, self.read = X, X.shape, X.dtype, 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        part = self.X[rows]
        self.read += part.size
        return part


@pytest.fixture
def small_reads(monkeypatch):
    monkeypatch.setattr(_design, "_READ_BYTES", 3 * 8 * 300)


@pytest.mark.parametrize("solver", ["LBFGS", "ProximalGradient", "Newton"])
def test_a_file_is_fitted_as_memory_is(small_reads, tmp_path, solver):
    X, y = rows_of(1000)
    X[17, 1] = np.nan
    X[999, 0] = np.inf
    kind = "Lasso" if solver == "ProximalGradient" else "Ridge"
    memory = population(kind, solver_name=solver).fit(X, y)
    assert_same(memory, population(kind, solver_name=solver).fit(Slices(X), y))
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_same(memory, population(kind, solver_name=solver).fit(mapped, y))


def test_a_file_gives_the_same_degrees_of_freedom_and_dispersion(small_reads):
    X, y = rows_of(1000, neurons=1)
    X = np.column_stack([X, X[:, 0]])  # rank deficient
    memory, file = (
        nmo.glm.GLM("Gaussian").fit(source, y[:, 0] + 0.1 * X[:, 1]) for source in (X, Slices(X))
    )
    assert file.dof_resid_ == memory.dof_resid_ == 1000 - 4
    np.testing.assert_allclose(file.scale_, memory.scale_, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Ridge", "Lasso"])
def test_few_reads_of_a_file_reach_the_optimum(monkeypatch, kind):
    """A sample gives start and curvature, one read checks the values, the others are steps."""
    monkeypatch.setattr(_design, "_READ_BYTES", 1 << 19)
    monkeypatch.setattr(_solve, "_PILOT_ROWS", 5_000)
    X, y = rows_of(60_000, p=4, neurons=1, rate=0.05)
    source = Slices(X.astype(np.float32))
    model = nmo.glm.GLM(regularizer=kind, regularizer_strength=1e-3).fit(source, y[:, 0])
    problem = Problem("Poisson", "exp", X, y[:, 0], kind, 1e-3)
    theta = problem.theta(*fitted(model))
    best = problem.stationary_point(theta)
    assert problem.value(theta) - problem.value(best) <= 1e-6 * abs(problem.value(best))
    assert source.read <= 8 * X.size


@pytest.mark.parametrize("kind", ["Ridge", "Lasso"])
def test_starting_from_a_sample_ends_at_the_same_optimum(monkeypatch, kind):
    monkeypatch.setattr(_solve, "_PILOT_ROWS", 200)
    monkeypatch.setattr(_solve, "_PILOT_ROWS_PER_FEATURE", 10)
    X, y = rows_of(2000)
    sampled = population(kind).fit(X, y)
    monkeypatch.setattr(_solve, "_PILOT_PAYS", np.inf)
    assert_same(sampled, population(kind).fit(X, y))


def test_a_sample_that_misleads_does_no_harm(monkeypatch):
    """A feature that is zero, and a neuron that is silent, in all rows of the sample."""
    monkeypatch.setattr(_solve, "_PILOT_ROWS", 200)
    monkeypatch.setattr(_solve, "_PILOT_ROWS_PER_FEATURE", 10)
    X, y = rows_of(2000)
    seen = np.zeros(len(X), bool)
    for rows in _design.stretches(len(X), 200):
        seen[rows] = True
    X[seen, 2] = 0.0
    y[seen, 1] = 0.0
    model = population("Ridge").fit(X, y)
    coef, intercept = fitted(model)
    for k in range(2):
        problem = Problem("Poisson", "exp", X, y[:, k], "Ridge", tables.REGULARIZERS["Ridge"])
        theta = problem.theta(coef[:, k], intercept[k])
        np.testing.assert_allclose(theta, problem.stationary_point(theta), rtol=0, atol=1e-6)
