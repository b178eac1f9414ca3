#!/bin/bash
# One run in COUNT processes on this machine. From the checkout's folder:
#
#   COUNT=2 bash docs/launchers/processes.sh --config=configs/quickstart.py --workdir=runs/two
#
# On several hosts, start one process on each host with the command below, and give the address of process 0 instead of
# `localhost`. The script's exit code is the highest of its processes.
COUNT=${COUNT:-2}
for ((i = 0; i < COUNT; i++)); do
  "${PYTHON:-.venv/bin/python}" main.py "$@" --config.distributed.coordinator="localhost:${PORT:-12355}" \
    --config.distributed.num_processes="$COUNT" --config.distributed.process_id="$i" &
done
trap 'kill -TERM $(jobs -p)' TERM INT
code=0
for process in $(jobs -p); do
  # A signal interrupts `wait` while the process is still saving, so wait again.
  until wait "$process"; ended=$?; ! kill -0 "$process" 2>/dev/null; do :; done
  ((ended > code)) && code=$ended
done
exit "$code"
