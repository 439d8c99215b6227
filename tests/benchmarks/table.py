"""The Markdown tables, and the machine that they were measured on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .rows import TARGET

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
PACKAGES = ("bayesglm", "jax", "numpyro", "numpy", "scikit-learn", "glum", "skglm", "statsmodels")


def machine(threads) -> str:
    """Describe the machine without its name: processor, cores, memory, versions."""
    processor = _field("/proc/cpuinfo", "model name") or platform.machine()
    kilobytes = _field("/proc/meminfo", "MemTotal").split()
    gigabytes = f", {int(kilobytes[0]) / 2**20:.0f} GB of memory" if kilobytes else ""
    versions = [f"{name} {number}" for name in PACKAGES if (number := _version(name))]
    return (
        f"{processor}, {threads} cores used{gigabytes}, {platform.system()}, "
        f"Python {platform.python_version()}; {', '.join(versions)}."
    )


def _field(path, name) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


def _version(name) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def duration(seconds) -> str:
    """Format a time with two or three digits."""
    if seconds is None or seconds != seconds:
        return "-"
    if seconds < 0.995:
        return f"{1000 * seconds:.{1 if seconds < 0.0995 else 0}f} ms"
    return f"{seconds:.{2 if seconds < 9.95 else 1 if seconds < 99.5 else 0}f} s"


def megabytes(size) -> str:
    """Format a size."""
    return f"{size / 1e6:.0f} MB"


def render(results: dict, description: str) -> str:
    """Return all tables as Markdown.

    Parameters
    ----------
    results
        What each row returned, by name.
    """
    timed = {name: result for name, result in results.items() if "entries" in result}
    busy = max((result.get("busy", 0.0) for result in results.values()), default=0.0)
    parts = [f"{description} Busy with other work before a row began: {busy:.1f} cores at most."]
    if timed:
        parts += [_timed_table(timed), _facts_table(timed)]
    for name, write in _WRITERS.items():
        if name in results and not results[name].get("error"):
            parts.append(write(results[name]))
    failed = [f"- {name}: {r['error']}" for name, r in results.items() if r.get("error")]
    parts += ["Rows that failed:\n\n" + "\n".join(failed)] if failed else []
    return "\n\n".join(parts)


def _markdown(header, rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def verdict(result) -> tuple[str, str]:
    """Return the ratio to the fastest peer that reached the gap, and what was asked with whether it is met."""
    ours, entries = result["entries"]["bayesglm"], result["entries"]
    against = [entries[label] for label in result["against"] if label in entries]
    times = [entry["seconds"] for entry in against if entry["reached"]]
    ratio = ours["seconds"] / min(times) if times and ours["reached"] else None
    asked, met = [], []
    if result["asked"] is not None:
        asked.append(f"{result['asked']:g} x")
        # With no peer at the gap there is nothing to be behind of.
        met.append(ours["reached"] and (ratio is None or ratio <= result["asked"]))
    if result["within"] is not None:
        asked.append(duration(result["within"]))
        met.append(ours["reached"] and ours["seconds"] <= result["within"])
    nobody = "no peer reached the gap" if ours["reached"] else "not reached"
    text = nobody if ratio is None else f"{ratio:.2f}"
    return text, f"{', '.join(asked)}: {'met' if all(met) else '**behind**'}" if asked else "-"


def _cell(entry) -> str:
    if entry is None:
        return ""
    if entry.get("seconds") is None:
        return entry.get("note", "")
    about = "about " if entry.get("extrapolated") else ""
    if entry["reached"]:
        return f"{about}{duration(entry['seconds'])} ({_gap(entry['gap'])})"
    reason = entry.get("note") or "at its tightest tolerance"
    reached = "" if entry["gap"] == float("inf") else f"gap {_gap(entry['gap'])} "
    spent = (
        "" if entry["seconds"] != entry["seconds"] else f" (last fit {duration(entry['seconds'])})"
    )
    return f"not reached: {reached}{reason}{spent}"


def _gap(value) -> str:
    return f"{value:.0e}" if value > 1e-14 else "< 1e-14"


def _timed_table(timed) -> str:
    labels = dict.fromkeys(label for r in timed.values() for label in r["entries"])
    rows = []
    for result in timed.values():
        cells = [_cell(result["entries"].get(label)) for label in labels]
        rows.append([result["title"], *cells, *verdict(result)])
    note = (
        f"Median of a whole `fit` (and its relative gap), each at its loosest tolerance that reaches {TARGET:g}; "
        "empty where a package cannot do it or is not asked for. "
        "The ratio is that of the default solver to the fastest peer that reaches the gap."
    )
    return note + "\n\n" + _markdown(["case", *labels, "ratio", "asked at most"], rows)


def _facts_table(timed) -> str:
    rows = []
    for result in timed.values():
        large = result["X_bytes"] >= 1e7
        share = f"{result['peak'] / result['X_bytes']:.2f} x X" if large else "-"
        n, p, k = result["shape"]
        tol = result["entries"]["bayesglm"]["tol"]
        cells = [f"{n} x {p}, {k}", duration(result["read"]), duration(result["first_fit"])]
        counts = [
            result["compiles"],
            result["warm_compiles"],
            f"{megabytes(result['peak'])}, {share}",
        ]
        rows.append([result["title"], *cells, *counts, f"{tol:.0e}"])
    header = ["case", "rows x features, responses", "one X @ v in NumPy", "first fit of the shape"]
    header += ["programs compiled", "of these when warm", "peak memory of a warm fit", "`tol`"]
    return "What else was seen of `bayesglm`:\n\n" + _markdown(header, rows)


def _start_table(result) -> str:
    asked = {"cold": 1.5, "cached": 0.5}
    rows = []
    for clock, limit in asked.items():
        run = result[clock]
        if run is None:
            rows.append([clock, *["not available"] * 6, f"{limit} s"])
            continue
        names = ("import_jax", "import_package", "first_fit", "second_fit")
        total = run["import_package"] + run["first_fit"]
        met = "met" if total <= limit else "**behind**"
        cells = [duration(run[name]) for name in names]
        compiled = f"{run['compiles']:.0f} ({run['cache_hits']:.0f} read back)"
        rows.append([clock, *cells, duration(total), compiled, f"{limit} s: {met}"])
    header = ["process", "import jax", "then import bayesglm", "first fit", "second fit"]
    header += ["beyond JAX, to the first fit", "programs compiled", "asked at most"]
    total = result["cold"]["import_jax"] + result["cold"]["import_package"]
    met = "met" if total <= 1.5 else "**behind**"
    return (
        "Starts of fresh processes (Poisson ridge, 1000 x 10):\n\n"
        + _markdown(header, rows)
        + f"\n\n`import bayesglm`, JAX included: {duration(total)} (asked: at most 1.5 s, {met})."
    )


def _solver_table(result) -> str:
    rows = []
    for fit in result["fits"]:
        reached = fit["gap"] is not None and fit["gap"] <= TARGET
        may_warn = fit["solver"] in ("GradientDescent", "SVRG", "ProxSVRG")
        met = reached or (may_warn and fit["ended"] != "converged")
        achieved = "-" if fit["gap"] is None else _gap(fit["gap"])
        cells = [fit["design"], fit["solver"], achieved, fit["ended"], duration(fit["seconds"])]
        rows.append([*cells, "met" if met else "**behind**"])
    header = ["design", "solver", "gap", "ended", "first fit, with compiling", f"gap {TARGET:g}"]
    text = "Default settings on hard designs (SVRG and GradientDescent may warn instead):"
    return text + "\n\n" + _markdown(header, rows)


def _refit_text(result) -> str:
    met = result["later_compiles"] == 0 and result["gained"] < 5e6
    return (
        f"{result['fits']} fits of changing data and strength (1000 x 10, Poisson ridge, default tolerance): "
        f"{result['first_compiles']} programs compiled at the first, {result['later_compiles']} after it; memory "
        f"changed by {result['gained'] / 1e6:.1f} MB after the tenth; {duration(result['mean_fit'])} a fit, data "
        f"included (asked: no compile, flat memory: {'met' if met else '**behind**'})."
    )


def _memory_text(result) -> str:
    first, warm = result["first"] / result["X_bytes"], result["warm"] / result["X_bytes"]
    return (
        f"Peak anonymous memory beyond X ({megabytes(result['X_bytes'])}) and y, Poisson ridge, default settings: "
        f"first fit {first:.2f} x X, warm {warm:.2f} x X (asked: at most 0.3 x X: "
        f"{'met' if max(first, warm) <= 0.3 else '**behind**'})."
    )


def _disk_text(result) -> str:
    n, p = result["shape"]
    text = f"{n} x {p} float32 on disk ({megabytes(result['X_bytes'])}, {result['kind']}), Poisson ridge: "
    if "note" in result:
        return text + f"failed, {result['note']} (**behind**)."
    reads = result["reads"]
    met = result["gap"] <= TARGET and reads and reads <= 8 and result["highest"] <= 1e9
    return text + (
        f"gap {result['gap']:.0e} in {f'{reads:.1f}' if reads else 'an unknown number of'} reads of the file and "
        f"{duration(result['seconds'])}; anonymous resident memory {megabytes(result['highest'])} at most "
        f"(asked: 1e-6, 8 reads, 1000 MB: {'met' if met else '**behind**'})."
    )


_WRITERS = {
    "start": _start_table,
    "solvers": _solver_table,
    "refits": _refit_text,
    "memory": _memory_text,
    "disk": _disk_text,
}


def insert(path: Path, text: str) -> None:
    """Replace what stands between the markers of a page.

    Raises
    ------
    ValueError
        If the page does not have both markers.
    """
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path.name} must hold the lines {BEGIN!r} and {END!r}.")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
