"""Adds the network `two_blocks`, the second and the third stage of `tiny`, which takes half the time to trace.

Python imports this module at its start where the folder is in PYTHONPATH, which it is for most processes of
main.py that tests start.
"""

import dataclasses

from stochconv_jax.models import variants

_tiny = variants.get("tiny")
variants.VARIANTS["two_blocks"] = dataclasses.replace(_tiny, name="two_blocks", stages=_tiny.stages[1:3])
