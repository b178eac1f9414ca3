#!/bin/bash
# One run in COUNT processes of this machine, started by hand. From the checkout's folder:
#
#   COUNT=2 bash docs/launchers/processes.sh --config=configs/quickstart.py --workdir=runs/two
#
# On several hosts each starts its own process so, and `localhost` is the address of process 0. Ends with the highest
# exit code.
COUNT=${COUNT:-2}
for ((i = 0; i < COUNT; i++)); do
  "${PYTHON:-.venv/bin/python}" main.py "$@" --config.distributed.coordinator="localhost:${PORT:-12355}" \
    --config.distributed.num_processes="$COUNT" --config.distributed.process_id="$i" &
done
trap 'kill -TERM $(jobs -p)' TERM INT
code=0
for process in $(jobs -p); do
  # A wait that a signal interrupts is none: the process is still saving.
  until wait "$process"; ended=$?; ! kill -0 "$process" 2>/dev/null; do :; done
  ((ended > code)) && code=$ended
done
exit "$code"
