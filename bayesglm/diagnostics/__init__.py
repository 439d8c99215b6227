"""Whether a fit, and draws from its posterior, can be trusted: checks, their definitions, and the report."""

from bayesglm.diagnostics._check import Check
from bayesglm.diagnostics._definitions import DEFINITIONS, PROBABILITY, Definition
from bayesglm.diagnostics._evidence import (
    Curvature,
    Evidence,
    Loo,
    Replicates,
    Responses,
)
from bayesglm.diagnostics._order import Order, order_of
from bayesglm.diagnostics._remedies import Facts
from bayesglm.diagnostics._report import DiagnosticsReport

__all__ = [
    "DEFINITIONS",
    "PROBABILITY",
    "Check",
    "Curvature",
    "Definition",
    "DiagnosticsReport",
    "Evidence",
    "Facts",
    "Loo",
    "Order",
    "Replicates",
    "Responses",
    "order_of",
]
