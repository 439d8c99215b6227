"""Forked processes: JAX computes in threads, which a fork leaves behind, so that the child would wait for ever."""

from __future__ import annotations

import os
import sys


class _Fork:
    """Whether JAX had started when this process was forked."""

    started = False
    lame = False

    def before(self) -> None:
        """Look, in the parent, whether JAX has threads."""
        # also where it was used without this package; the name is JAX's own, and may go
        known = getattr(
            sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", lambda: False
        )
        self.started = self.started or known()

    def in_child(self) -> None:
        """Keep in mind, in the child, what was seen."""
        self.lame = self.started


_fork = _Fork()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_fork.before, after_in_child=_fork.in_child)


def check() -> None:
    """Refuse to compute where that would hang; called before anything is.

    Raises
    ------
    RuntimeError
        In a process that was forked after JAX had computed something.
    """
    if _fork.lame:
        raise RuntimeError(
            "This process was forked from one in which JAX had already computed something; here JAX would wait for "
            "ever for threads that were left behind. Start processes with `multiprocessing.get_context('spawn')` (or "
            "'forkserver'), with joblib's default backend 'loky' (as scikit-learn's `n_jobs` does), or before the "
            "first fit."
        )
    _fork.started = True
