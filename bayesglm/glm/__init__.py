"""The estimators, and how to load a saved one."""

from bayesglm.glm._faces import (
    ClassifierGLM,
    ClassifierPopulationGLM,
    PopulationGLM,
    load_model,
)
from bayesglm.glm._glm import GLM

__all__ = ["GLM", "ClassifierGLM", "ClassifierPopulationGLM", "PopulationGLM", "load_model"]
