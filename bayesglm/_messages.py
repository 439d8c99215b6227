"""What a user is to be told beside a result: collected as data where it is found, said by whom the user called."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_PACKAGE = str(Path(__file__).parent)


class Message(NamedTuple):
    """A warning that was not given yet."""

    category: type[Warning]
    text: str


def tell(messages: Iterable[Message]) -> None:
    """Warn, at the line that called into this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    for each in messages:
        warnings.warn(each.text, each.category, stacklevel=level)
