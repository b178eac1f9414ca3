#!/bin/bash
# One run on all hosts of a TPU slice, with the checkout and its environment `.venv` in the home folder of each host. Not tested.
#
#   NAME=my-tpu ZONE=us-central2-b bash docs/launchers/tpu_vm.sh --config=configs/b0_full_split.py \
#       --workdir=/mnt/shared/runs/first --config.data.path=/mnt/shared/images --config.data.labels=/mnt/shared/labels.csv
exec gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
  --command="cd stochconv_jax && .venv/bin/python main.py $(printf '%q ' "$@")"
