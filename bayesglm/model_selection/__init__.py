"""Choosing the strength of a penalty by cross-validation, for all neurons at once."""

from bayesglm.model_selection._blocks import BlockedKFold
from bayesglm.model_selection._strength import StrengthSearchCV

__all__ = ["BlockedKFold", "StrengthSearchCV"]
