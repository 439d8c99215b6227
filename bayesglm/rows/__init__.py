"""Rows: everything that is summed over the observations.

A pass is a function of a shard, and a sum over shards (:meth:`Shards.map`). The functions are few programs per family,
link, shape and dtype; solvers, samplers, standard errors and predictions share them. What has the size of the
responses or of the coefficients is NumPy.

A *source* of shards is what rows come from: an array in memory, a file that is read piece by piece. It has

- ``shape``, ``dtype`` (float32 or float64), ``len``, and slices of rows ``source[begin:end]`` as C-contiguous arrays;
- for passes of programs, as many :class:`Data` of one shape as suit it (one for each core, piece or device), or
  functions that return them: the ``parts`` of :class:`Shards`.

Rows on devices, or on other machines, need another source and nothing else.
"""

from bayesglm.rows._kernels import (
    Spec,
    Sums,
    block_rows,
    is_split,
    likelihood,
    losses,
    predict,
    slopes,
    transpose,
)
from bayesglm.rows._observed import bends_at, observed_at
from bayesglm.rows._passes import moments_at, of_log_scale, slopes_at
from bayesglm.rows._reductions import finite_rows, gram, moments, predictor, rank, triangle
from bayesglm.rows._scores import scores_at
from bayesglm.rows._shards import (
    Data,
    Matrix,
    Shards,
    chunks_of,
    cores,
    cuts,
    even,
    fill,
    filled_length,
)
from bayesglm.rows._small import is_small, of_each

__all__ = [
    "Data",
    "Matrix",
    "Shards",
    "Spec",
    "Sums",
    "bends_at",
    "block_rows",
    "chunks_of",
    "cores",
    "cuts",
    "even",
    "fill",
    "filled_length",
    "finite_rows",
    "gram",
    "is_small",
    "is_split",
    "likelihood",
    "losses",
    "moments",
    "moments_at",
    "observed_at",
    "of_each",
    "of_log_scale",
    "predict",
    "predictor",
    "rank",
    "scores_at",
    "slopes",
    "slopes_at",
    "transpose",
    "triangle",
]
