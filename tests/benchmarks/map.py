"""Time MAP fits beside other packages: ``python -m tests.benchmarks.map [--rows NAME ...] [--output PAGE]``.

Every row runs in a fresh process whose threads are pinned before anything is imported; within a row all packages
take turns in that one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIMED = (
    "small-ridge", "hard-ridge", "iid-ridge", "hard-lasso", "population-ridge", "population-lasso",
    "population-1000", "group-lasso", "history-group-lasso", "history-ridge", "digits",
)  # fmt: skip
APART = ("start", "refits", "memory", "solvers")
THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS",
)  # fmt: skip


def parse(arguments=None):
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.map", description=__doc__)
    add = parser.add_argument
    add("--rows", nargs="+", choices=(*TIMED, *APART, "disk"), metavar="NAME",
        help=f"rows to run; by default all but disk: {', '.join((*TIMED, *APART))}")  # fmt: skip
    add("--repeats", type=int, default=7, help="timed fits of each entry")
    add("--threads", type=int, default=2, help="cores to use, by BLAS, OpenMP, Numba and XLA")
    add("--scale", type=float, default=1.0, help="factor on rows and neurons, to try it out")
    add("--quick", action="store_true", help="the same as --scale 0.02 --repeats 1 --patience 20")
    add("--patience", type=float, default=120.0, help="seconds to search an entry's tolerance")
    add("--budget", type=float, default=60.0, help="seconds after which an entry is not repeated")
    add("--disk", metavar="FOLDER", help="run the row of 8 GB on disk, made in this folder")
    add("--disk-format", choices=("hdf5", "memmap"), default="", help="how X lies there")
    add("--nemos-python", default="", metavar="PATH", help="Python of an environment with NeMoS")
    add("--output", type=Path, metavar="PAGE", help="Markdown page whose marked part is replaced")
    add("--results", type=Path, metavar="FILE",
        help="JSON of what was measured; rows in it that do not run again are kept")  # fmt: skip
    add("--worker", help=argparse.SUPPRESS)
    add("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.scale, options.repeats, options.patience = 0.02, 1, 20.0
    if options.rows and "disk" in options.rows and not options.disk:
        parser.error("the row disk needs --disk FOLDER")
    return options


def selected(options) -> list[str]:
    """Return the names of the rows to run."""
    rows = list(options.rows or (*TIMED, *APART))
    return [*rows, "disk"] if options.disk and "disk" not in rows else rows


def environment(threads) -> dict:
    """Return the environment of a row: pinned threads, one kind of device, no cache of compiled programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return kept | {"JAX_PLATFORMS": "cpu"} | dict.fromkeys(THREADS, str(threads))


def pin(threads) -> None:
    """Keep this process and its children on so many cores; XLA has a thread for each."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))


def busy_cores(seconds=1.0) -> float:
    """Return how many cores other processes keep busy, seen over a moment (Linux; elsewhere NaN)."""

    def idle():
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        return sum(map(int, fields[4:6])) / os.sysconf("SC_CLK_TCK")

    try:
        before, begin = idle(), time.perf_counter()
        time.sleep(seconds)
        idled, passed = idle() - before, time.perf_counter() - begin
    except OSError:
        return float("nan")
    return max(0.0, (os.cpu_count() or 1) - idled / passed)


def run_apart(name, options, arguments) -> dict:
    """Run one row in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-m", "tests.benchmarks.map", *arguments]
        command += ["--worker", name, "--answer", str(answer)]
        done = subprocess.run(command, env=environment(options.threads))
        if done.returncode or not answer.exists():
            return {"error": f"ended with status {done.returncode}"}
        return json.loads(answer.read_text(encoding="utf-8"))


def work(name, options) -> dict:
    """Run one row in this process."""
    from threadpoolctl import threadpool_limits

    from . import disk, processes, rows

    settings = rows.Settings(
        options.scale, options.repeats, options.budget, options.patience, options.nemos_python
    )
    with threadpool_limits(options.threads):
        if name == "disk":
            return disk.run(options.disk, settings, options.disk_format)
        if name in processes.PROCESSES:
            return processes.PROCESSES[name](settings)
        return rows.run(rows.ROWS[name], settings)


def main(arguments=None) -> None:
    """Run the rows and write the tables."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    pin(options.threads)
    if options.worker:
        options.answer.write_text(json.dumps(work(options.worker, options)), encoding="utf-8")
        return
    results = {}
    if options.results and options.results.exists():
        results = json.loads(options.results.read_text(encoding="utf-8"))
    for name in selected(options):
        busy, begin = busy_cores(), time.perf_counter()
        results[name] = run_apart(name, options, arguments) | {"busy": busy}
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
        if options.results:
            options.results.write_text(json.dumps(results, indent=1), encoding="utf-8")
    report(results, options)


def report(results, options) -> None:
    """Write the tables in the order of the rows, whatever order they ran in."""
    from . import table

    order = (*TIMED, *APART, "disk")
    ordered = {name: results[name] for name in order if name in results}
    text = table.render(ordered, table.machine(options.threads))
    if options.output:
        table.insert(options.output, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
