"""Compiled programs kept on disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import jax

_log = logging.getLogger(__name__)

__all__ = ["enable_compilation_cache"]


def enable_compilation_cache(path: str | os.PathLike | None = None) -> Path:
    """Keep compiled programs on disk, so that the first fit of the next process need not compile them.

    Turns on JAX's persistent cache for this process, with no lower limit on what is kept. The environment variable
    ``JAX_COMPILATION_CACHE_DIR`` does the same, with JAX's limits, without a call.

    Parameters
    ----------
    path
        Folder, made if it does not exist. By default ``bayesglm`` in the user's cache folder
        (``XDG_CACHE_HOME``, or ``~/.cache``). Programs of other JAX versions or machines may share it.

    Returns
    -------
    pathlib.Path
        The folder in use.

    Raises
    ------
    OSError
        If it cannot be made or written to.
    """
    if path is None:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bayesglm"
    folder = Path(path).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(
            f"The cache folder {folder} cannot be written to. Pass another `path`."
        )
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _log.info("compiled programs are kept in %s", folder)
    return folder
