#!/bin/bash
# One run under Open MPI, one process on each host of the file HOSTS (one name per line). From the checkout's folder:
#
#   HOSTS=hosts.txt bash docs/launchers/openmpi.sh --config=configs/b0_full_split.py --workdir=/shared/runs/first \
#       --config.data.path=/shared/images --config.data.labels=/shared/labels.csv
#
# Without --bind-to none each process would be limited to one core.
first=$(awk '{print $1; exit}' "$HOSTS")
exec "${MPIRUN:-mpirun}" --hostfile "$HOSTS" --map-by ppr:1:node --bind-to none \
  "${PYTHON:-.venv/bin/python}" main.py "$@" --config.distributed.coordinator="$first:12355"
