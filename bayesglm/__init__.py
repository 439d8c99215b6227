"""Generalized linear models in which every penalty is a NumPyro prior."""

import importlib as _importlib
import logging as _logging
from importlib.metadata import version as _version

from bayesglm import (
    diagnostics,
    glm,
    links,
    observation_models,
    plotting,
    prior,
    regularizer,
    simulation,
    solvers,
)
from bayesglm._cache import enable_compilation_cache
from bayesglm.glm import load_model
from bayesglm.io import inspect_npz
from bayesglm.leaves import Leaves

__version__ = _version("bayesglm")
_logging.getLogger(__name__).addHandler(_logging.NullHandler())


def __getattr__(name: str):
    # At first use: it needs parts of scikit-learn that nothing else here does.
    if name == "model_selection":
        return _importlib.import_module("bayesglm.model_selection")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Leaves",
    "__version__",
    "diagnostics",
    "enable_compilation_cache",
    "glm",
    "inspect_npz",
    "links",
    "load_model",
    "model_selection",
    "observation_models",
    "plotting",
    "prior",
    "regularizer",
    "simulation",
    "solvers",
]
