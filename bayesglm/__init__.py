"""Generalized linear models in which every penalty is a NumPyro prior."""

import logging as _logging
from importlib.metadata import version as _version

from bayesglm import (
    diagnostics,
    glm,
    links,
    model_selection,
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
