"""Generated cases: the laws of tests/generated.py over as many cases as are asked for, with seeds of their own.

    python -m tests.studies.generated [--cases 50000] [--workers 2] [--seed 1] [--only LAW] [--quick]

prints a table of the laws, with the number of cases and of failures, and below it an example of each kind of failure,
the shortest that was met; when it is interrupted, of what was seen until then. Cases are wide: all families, and single
precision for each. A worker that dies is counted as a failure of its law.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest does

import generated  # noqa: E402
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import seed as with_seed  # noqa: E402

CHUNK = 250


class Failure(NamedTuple):
    """Failures of one kind."""

    kind: str
    count: int
    example: str


class Found(NamedTuple):
    """What came of some cases of a law."""

    law: str
    count: int
    failures: tuple[Failure, ...]


def run(name: str, count: int, seed: int) -> Found:
    """Check cases of a law, whatever fails."""
    law, failures, seen = generated.LAWS[name], {}, []

    @with_seed(seed)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(law.cases(wide=True))
    def check(case):
        seen.append(None)
        try:
            law.check(case)
        except Exception as error:
            kind = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            failures[kind] = merged(failures.get(kind), Failure(kind, 1, repr(case)))

    check()
    return Found(name, len(seen), tuple(failures.values()))


def merged(one: Failure | None, other: Failure) -> Failure:
    """Add failures of one kind, and keep the shorter example."""
    if one is None:
        return other
    return Failure(one.kind, one.count + other.count, min(one.example, other.example, key=len))


def tasks(cases: int, only: str, seed: int) -> list[tuple[str, int, int]]:
    """Return chunks of the laws that are asked for, in the proportions of the tests."""
    laws = {name: law.count for name, law in generated.LAWS.items() if only in name}
    found = []
    for name, share in laws.items():
        left = -(-cases * share // sum(laws.values()))
        while left > 0:
            found.append((name, min(CHUNK, left), seed + len(found)))
            left -= CHUNK
    # all laws side by side, so that a run that is stopped has seen something of each
    place = {task: k for name in laws for k, task in enumerate(t for t in found if t[0] == name)}
    return sorted(found, key=lambda task: place[task] / laws[task[0]])


def run_all(todo, workers: int):
    """Yield what came of each chunk; a worker that dies takes the chunks that were under way with it."""
    context = multiprocessing.get_context("spawn")
    while todo:
        with ProcessPoolExecutor(workers, context) as pool:
            some = {task: pool.submit(run, *task) for task in todo[: 8 * workers]}
            for task, future in some.items():
                todo.remove(task)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    yield Found(task[0], 0, (Failure("a worker died", 1, repr(task)),))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise


def table(found) -> str:
    """Return the table of all chunks, and the examples."""
    lines = [f"{'law':16} {'cases':>7} {'failures':>9}"]
    kinds = {}
    for name in generated.LAWS:
        mine = [each for each in found if each.law == name]
        failed = [failure for each in mine for failure in each.failures]
        for failure in failed:
            kinds[name, failure.kind] = merged(kinds.get((name, failure.kind)), failure)
        lines.append(
            f"{name:16} {sum(each.count for each in mine):7} {sum(f.count for f in failed):9}"
        )
    for (name, kind), failure in kinds.items():
        lines += ["", f"{name}, {failure.count} times: {kind}", f"    {failure.example}"]
    return "\n".join(lines)


def main(argv=None) -> bool:
    """Print the table; return whether all laws held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="laws whose names contain this")
    parser.add_argument("--quick", action="store_true", help="few cases")
    args = parser.parse_args(argv)
    todo = tasks(500 if args.quick else args.cases, args.only, args.seed)
    found, begin, total = [], time.perf_counter(), len(todo)
    chunks = run_all(todo, args.workers)
    with contextlib.suppress(KeyboardInterrupt):  # what was seen until then is printed
        for each in chunks:
            found.append(each)
            failed = sum(failure.count for failure in each.failures)
            done = f"{len(found)} of {total} chunks, {time.perf_counter() - begin:.0f} s"
            print(
                f"{done}: {each.law}, {each.count} cases, {failed} failures",
                file=sys.stderr,
                flush=True,
            )
    print(table(found))
    return not any(each.failures for each in found)


if __name__ == "__main__":
    raise SystemExit(not main())
