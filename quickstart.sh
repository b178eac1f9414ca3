#!/usr/bin/env bash
# Trains the quickstart's two networks and compares them.   Usage: quickstart.sh PYTHON
set -euo pipefail
runs=runs/quickstart
"$1" main.py --config=configs/quickstart.py --workdir="$runs/full_split"
"$1" main.py --config=configs/quickstart.py:control --workdir="$runs/thumbnail_only"
"$1" main.py --mode=report --workdir="$runs"
