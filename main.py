"""Runs the program from the checkout, whether it is installed or not: the same as `python -m stochconv_jax`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("stochconv_jax", run_name="__main__", alter_sys=True)
