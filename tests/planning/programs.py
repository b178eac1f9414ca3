"""Made up programs, as if compiled for four chips of a TPU."""

from stochconv_jax.planning import cost
from stochconv_jax.planning.targets import CHIPS, GIB

V5E = CHIPS["v5e"]


def program(batch=8, total=GIB, moved=(), refusal="", **costs):
    memory = {"total": total, "beside": 0}
    costs = {"flops": 1e9, "bytes": 1e6} | costs
    return cost.Program(batch, 4, 1, memory, {} if refusal else costs, list(moved), 60.0, refusal)
