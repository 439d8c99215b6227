"""The estimators, and how to load a saved one."""

from __future__ import annotations

from bayesglm._messages import tell
from bayesglm.glm import _save
from bayesglm.glm._faces import KINDS, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM
from bayesglm.glm._glm import GLM

__all__ = ["GLM", "ClassifierGLM", "ClassifierPopulationGLM", "PopulationGLM", "load_model"]


def load_model(filename, mapping_dict=None):
    """Load an estimator that `save_params` wrote.

    Nothing in the file is executed or unpickled.

    Parameters
    ----------
    filename : str or Path
    mapping_dict : dict, optional
        Functions and classes of your own that the file knows by name only, such as
        ``{"inverse_link_function": my_link}``; parameters of components as ``"regularizer__mask"``.

    Returns
    -------
    : GLM, PopulationGLM, ClassifierGLM or ClassifierPopulationGLM

    Raises
    ------
    ValueError
        If the file is not one of ours or was tampered with, or a name in it is unknown.
    FileNotFoundError
        If there is no such file.

    Warns
    -----
    UserWarning
        Naming the parameters that `mapping_dict` replaces.
    """
    saved = _save.read(filename, KINDS, mapping_dict)
    estimator = saved.kind._restored(saved)
    tell(saved.messages)
    return estimator
