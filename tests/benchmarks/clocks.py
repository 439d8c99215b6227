"""Clocks and meters: time limits, alternating repeats, the search for equal gaps, compile counts, memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import signal
import threading
import time
import warnings

import numpy as np

from .objective import gap


class OverTimeError(Exception):
    """A fit took longer than it was given."""


@contextlib.contextmanager
def limit(seconds):
    """Raise OverTimeError after so many seconds; only in the main thread of a process.

    The alarm is repeated, since an exception that is raised while compiled code calls back is lost.
    """

    def ring(number, frame):
        raise OverTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def quiet():
    """Hide the warnings of fits that are stopped early on purpose."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def search(entry, problem, best, target, seconds) -> dict:
    """Find the loosest tolerance of an entry that reaches the target.

    An entry that fits responses one by one is searched one by one, from the tolerance that the last one needed.

    Parameters
    ----------
    best : array (responses,)
        Objectives at the optimum.

    Returns
    -------
    dict
        ``tol``, ``gap`` (the worst of the responses), ``reached``, and the ``seconds`` of the last fit.
    """
    parts = range(problem.n_responses) if entry.looped else [slice(None)]
    last = {"rung": 0, "gap": np.inf, "seconds": np.nan}
    worst, note, begin = -np.inf, "", time.perf_counter()
    try:
        with quiet(), limit(seconds):
            for part in parts:
                which = [part] if entry.looped else part
                _climb(entry, problem.subset(which), best[which], target, last)
                worst = max(worst, last["gap"])
    except Exception as error:  # a peer that fails is a result
        # Compiled code may turn the alarm into an error of its own.
        late = time.perf_counter() - begin >= seconds
        worst = max(worst, last["gap"]) if late else np.inf
        failure = f"{type(error).__name__}: {error}"[:120]
        note = f"stopped after {seconds:.0f} s" if late else failure
    reached = bool(worst <= target) and not note
    tol = entry.ladder[last["rung"]]
    return {"tol": tol, "gap": worst, "reached": reached, "seconds": last["seconds"], "note": note}


def _climb(entry, problem, best, target, last):
    """Tighten from the last rung on until the target is reached; at the end, the tightest."""
    while True:
        begin = time.perf_counter()
        models = entry.fit(problem, entry.ladder[last["rung"]])
        last["seconds"] = time.perf_counter() - begin
        last["gap"] = gap(problem.value(*entry.params(models)), best)
        if last["gap"] <= target or last["rung"] == len(entry.ladder) - 1:
            return
        last["rung"] += 1


def alternate(calls: dict, repeats, budget) -> dict:
    """Time calls in turn: A B A B ...

    Parameters
    ----------
    calls
        Functions without arguments.
    budget
        Seconds after which a call is not repeated any more.

    Returns
    -------
    dict
        ``(times, last result)`` of each.
    """
    times, results = {name: [] for name in calls}, {}
    with quiet():
        for _ in range(repeats):
            for name, call in calls.items():
                if sum(times[name]) > budget:
                    continue
                gc.collect()
                time.sleep(_PAUSE)
                seconds, results[name] = _burst(call)
                times[name].append(seconds)
    return {name: (times[name], results[name]) for name in calls}


# Threads of the package that was timed before may spin for 0.2 s after their last work.
_PAUSE = 0.3
# Calls are repeated for so long, so that short ones are not timed on cold caches.
_BURST_SECONDS, _BURST_CALLS = 0.2, 20


def _burst(call):
    """Return the median time of a call that is repeated while it is short, and its last result."""
    times: list[float] = []
    while True:
        begin = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - begin)
        if sum(times) >= _BURST_SECONDS or len(times) >= _BURST_CALLS:
            return float(np.median(times)), result


_compiles = []


def _listen(event, duration, **details):
    if event == "/jax/core/compile/backend_compile_duration":
        _compiles.append(duration)


@contextlib.contextmanager
def compiles():
    """Count the programs that JAX compiles inside; the count is ``len`` of what is yielded."""
    import jax

    if not getattr(compiles, "listening", False):
        jax.monitoring.register_event_duration_secs_listener(_listen)
        compiles.listening = True
    seen, before = [], len(_compiles)
    try:
        yield seen
    finally:
        seen += _compiles[before:]


def anonymous_bytes() -> int:
    """Return the anonymous resident memory of this process (Linux)."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("RssAnon"):
                return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no RssAnon")


def return_memory():
    """Hand freed memory back to the system, so that what is resident is in use."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class Peak:
    """Largest anonymous resident memory inside a ``with`` block, above that at its beginning."""

    def __init__(self, interval=0.002):
        self._interval, self._stop = interval, threading.Event()

    def __enter__(self):
        return_memory()
        self.start = self.highest = anonymous_bytes()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(self._interval):
            self.highest = max(self.highest, anonymous_bytes())

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()
        self.highest = max(self.highest, anonymous_bytes())
        self.above_start = self.highest - self.start
