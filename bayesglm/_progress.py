"""What a long computation says while it runs: records for the log, and bars where someone watches."""

from __future__ import annotations

import logging
import time

import numpy as np
from tqdm.auto import tqdm

_log = logging.getLogger(__name__)

# Seconds after which a fit shows a bar.
DELAY = 5.0


class Watch:
    """What follows the steps of a fit: a record of each at DEBUG, and a bar on a terminal once it takes long.

    Parameters
    ----------
    total : int
        Number of neurons.
    bar : bool
        Whether there may be a bar.
    """

    def __init__(self, total: int, bar: bool = True):
        self._total, self._before, self._bar = total, 0, None
        self._due = time.perf_counter() + (DELAY if bar else np.inf)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def panel(self, before: int) -> None:
        """Say how many neurons were done in earlier panels."""
        self._before = before

    def __call__(self, step: int, finished: int, progress) -> None:
        """Tell of a step.

        Parameters
        ----------
        finished : int
            Neurons that have left the batch.
        progress
            Of those in it, with their distances and which of them are done.
        """
        # a short fit pays for these two questions only
        late = time.perf_counter() >= self._due
        if not late and not _log.isEnabledFor(logging.DEBUG):
            return
        open_ = ~progress.done
        farthest = float(np.max(progress.distance, where=open_, initial=0.0))
        _log.debug(
            "step %d: %d neurons open, at most %.3g standard errors from their optimum",
            step, open_.sum(), farthest,
        )  # fmt: skip
        if late:
            self._show(self._before + finished + int(progress.done.sum()), farthest)

    def _show(self, done: int, farthest: float) -> None:
        done = min(done, self._total)
        if self._bar is None:
            self._bar = tqdm(
                total=self._total, initial=done, desc="fitting", unit="neuron", leave=False, disable=None
            )  # fmt: skip
        self._bar.set_postfix(distance=f"{farthest:.2g}", refresh=False)
        self._bar.update(done - self._bar.n)


class Share:
    """A bar of the share that is done, with the name of the phase; without `shown` it does nothing."""

    def __init__(self, shown: bool):
        self._bar = tqdm(total=100, desc="fitting", unit="%", leave=False, disable=not shown)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def __call__(self, share: float) -> None:
        """Add a share."""
        self._bar.update(min(round(100 * share, 2), self._bar.total - self._bar.n))

    def phase(self, name: str) -> None:
        """Say what is being done."""
        self._bar.set_description(name)
