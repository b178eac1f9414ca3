#!/bin/bash
# One run on TPUs of Google Kubernetes Engine by XPK; /shared is a file system that the cluster mounts. Not tested.
#
#   CLUSTER=my-cluster IMAGE=my-image bash docs/launchers/xpk.sh --config=configs/b0_full_split.py \
#       --workdir=/shared/runs/first --config.data.path=/shared/images --config.data.labels=/shared/labels.csv
exec xpk workload create --cluster="$CLUSTER" --workload=stochconv --tpu-type=v5litepod-16 --num-slices=1 \
  --max-restarts=10 --docker-image="$IMAGE" --command="cd /stochconv_jax && python main.py $(printf '%q ' "$@")"
