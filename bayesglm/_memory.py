"""What has to have all of X in memory, and how much there is."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import numpy as np

from bayesglm._design import Stored

_log = logging.getLogger(__name__)

# Where Linux says what there is, and what a container may take.
_MACHINE, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def loaded(X, what: str) -> np.ndarray:
    """Return a matrix in memory.

    Parameters
    ----------
    what
        What needs all of it, for messages.

    Raises
    ------
    MemoryError
        If it is in a file, and larger than the memory that is free.
    """
    if not isinstance(X, Stored):
        return X
    free = free_bytes()
    if X.nbytes > free:
        raise MemoryError(
            f"{what} needs all of `X`, {X.nbytes / 1e9:.3g} GB, in memory, of which {free / 1e9:.3g} GB are free. Pass "
            "fewer rows or features, or float32. Fits by solvers of this package, `sample_posterior` and all that "
            "follows from them read a file in pieces."
        )
    _log.info("%s loads X, %.3g GB, into memory", what, X.nbytes / 1e9)
    return X[:]


def free_bytes() -> float:
    """Return the memory that this process may still take; infinity where the system does not say."""
    free = np.inf
    with contextlib.suppress(OSError, ValueError, KeyError):
        free = 1024.0 * int(_fields(_MACHINE)["MemAvailable:"])
    with contextlib.suppress(OSError, ValueError, KeyError):  # a limit of "max" is none
        most = int((_CONTAINER / "memory.max").read_text())
        # what it reads of files goes when memory is needed
        used = int((_CONTAINER / "memory.current").read_text())
        kept = int(_fields(_CONTAINER / "memory.stat")["inactive_file"])
        free = min(free, float(most - used + kept))
    return free


def _fields(path: Path) -> dict[str, str]:
    """Return the second word of each line by its first."""
    return dict(line.split()[:2] for line in path.read_text().splitlines())
