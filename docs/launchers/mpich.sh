#!/bin/bash
# One run under MPICH or Intel MPI, one process on each host of the file HOSTS (one name per line). From the checkout's folder:
#
#   HOSTS=hosts.txt bash docs/launchers/mpich.sh --config=configs/b0_full_split.py --workdir=/shared/runs/first \
#       --config.data.path=/shared/images --config.data.labels=/shared/labels.csv
first=$(awk '{print $1; exit}' "$HOSTS")
exec "${MPIEXEC:-mpiexec}" -n "$(wc -l <"$HOSTS")" -ppn 1 -f "$HOSTS" \
  "${PYTHON:-.venv/bin/python}" main.py "$@" --config.distributed.coordinator="$first:12355"
