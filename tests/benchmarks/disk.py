"""A design larger than memory: 8 GB of float32 on disk, fitted exactly; reads of the file and memory are counted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from . import designs
from .clocks import Peak, quiet
from .objective import Problem, gap, optimum
from .peers import our_fit, our_params

ROWS, FEATURES, CHUNK = 10_000_000, 200, 50_000
STRENGTH = 1e-3


class Counted(np.memmap):
    """A memory map that counts the bytes that are sliced out of it."""

    taken = 0

    def __getitem__(self, index):
        part = super().__getitem__(index)
        Counted.taken += getattr(part, "nbytes", 0)
        return part.view(np.ndarray) if isinstance(part, np.memmap) else part


def open_design(folder: Path, kind: str):
    """Return X as a memory map or a data set of HDF5, and y."""
    y = np.load(folder / "y.npy")
    if kind == "hdf5":
        import h5py

        return h5py.File(folder / "X.h5", "r")["X"], y
    return Counted(folder / "X.bin", np.float32, "r", shape=(len(y), FEATURES)), y


def make(folder: Path, n: int, kind: str) -> None:
    """Write the design and the counts, unless they are there: hard columns, chunk by chunk."""
    name = "X.h5" if kind == "hdf5" else "X.bin"
    there = (folder / "y.npy").exists() and (folder / name).exists()
    if there and len(np.load(folder / "y.npy", mmap_mode="r")) == n:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("reference-*.npz"):
        stale.unlink()
    rng = np.random.default_rng(designs.SEED)
    scales = rng.permutation(np.geomspace(1, 30, FEATURES))
    weights = 0.3 * rng.normal(size=FEATURES) / scales / np.sqrt(FEATURES)
    y = np.empty(n)
    with _writer(folder / name, n, kind) as write:
        for start in range(0, n, CHUNK):
            rows = slice(start, min(start + CHUNK, n))
            noise = rng.normal(size=(rows.stop - start, FEATURES))
            X = (designs.correlated(noise) * scales).astype(np.float32)
            y[rows] = rng.poisson(designs.RATE * np.exp(X @ weights))
            write(rows, X)
    np.save(folder / "y.npy", y)


class _writer:
    """Open the file of X for writing; inside, a function (rows, values)."""

    def __init__(self, path, n, kind):
        self.path, self.shape, self.kind = path, (n, FEATURES), kind

    def __enter__(self):
        if self.kind == "hdf5":
            import h5py

            self.file = h5py.File(self.path, "w")
            data = self.file.create_dataset("X", self.shape, np.float32)
            return data.__setitem__
        self.file = self.path.open("wb")
        return lambda rows, values: values.tofile(self.file)

    def __exit__(self, *error):
        self.file.close()


def run(folder: str, settings, kind="") -> dict:
    """Make the design, find the optimum in passes of our own, and fit it in a fresh process.

    Parameters
    ----------
    kind
        ``"hdf5"``, whose reads are system calls that nobody can hide, or ``"memmap"``, of which slices are counted.
        By default HDF5 where h5py is installed.
    """
    kind = kind or ("hdf5" if importlib.util.find_spec("h5py") else "memmap")
    path, n = Path(folder), settings.rows(ROWS)
    make(path, n, kind)
    X, y = open_design(path, kind)
    problem = Problem(X, y[:, None], "Ridge", STRENGTH)
    best = _reference(path / f"reference-{n}.npz", problem)
    # A gap is half a squared distance in standard errors, over n and the objective; a third, to be sure.
    tol = 0.3 * float(np.sqrt(2 * n * best[0] * 1e-6))
    command = [sys.executable, "-m", "tests.benchmarks.disk", str(path), kind, str(tol)]
    done = subprocess.run(command, capture_output=True, text=True)
    result = {"kind": kind, "shape": [n, FEATURES], "X_bytes": 4 * n * FEATURES, "tol": tol}
    if done.returncode:
        return result | {"note": done.stderr.strip().splitlines()[-1][:150]}
    result |= json.loads(done.stdout.splitlines()[-1])
    coef, intercept = np.array(result.pop("coef")), np.array(result.pop("intercept"))
    return result | {"gap": gap(problem.value(coef[:, None], intercept), best)}


def _reference(path, problem):
    if path.exists():
        return np.load(path)["best"]
    best = optimum(problem)[2]
    np.savez(path, best=best)
    return best


def _characters_read() -> int:
    """Return what this process has got from system calls that read (Linux)."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def fit(folder: str, kind: str, tol: float) -> dict:
    """Fit in this process and meter it; memory counts from before y is loaded."""
    our_fit(designs.problem("iid", 500, 5), None)  # what any first fit loads
    with Peak(0.005) as peak:
        X, y = open_design(Path(folder), kind)
        Counted.taken, begin, clock = 0, _characters_read(), time.perf_counter()
        with quiet():
            model = our_fit(Problem(X, y[:, None], "Ridge", STRENGTH), tol)
        seconds, read = time.perf_counter() - clock, _characters_read() - begin
    read = read if kind == "hdf5" else Counted.taken
    coef, intercept = our_params(model)
    # A memory map that was not sliced has been turned into a plain array, whose reads nobody counts.
    reads = read / (4 * len(y) * FEATURES) or None
    return {
        "reads": reads, "seconds": seconds, "peak": peak.above_start, "highest": peak.highest,
        "coef": coef[:, 0].tolist(), "intercept": intercept.tolist(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(fit(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
