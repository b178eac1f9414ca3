#!/bin/bash
# All runs of an ablation under SLURM, as a job array in which each task trains one share. From the checkout's folder:
#
#   sbatch docs/launchers/slurm_array.sh --config=configs/ablations/integration.py --workdir=$HOME/runs/integration \
#       --config.data.path=$HOME/images --config.data.labels=$HOME/labels.csv
#
# Options of sbatch before the script's name replace those below. There are as many shares as the array has tasks; number
# the tasks from 1.
#SBATCH --array=1-8 --ntasks=1 --time=12:00:00
#SBATCH --signal=TERM@120 --requeue --open-mode=append
srun "${PYTHON:-.venv/bin/python}" main.py --mode=sweep "$@" \
  --config.sweep.shard="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
code=$?
# 75: stopped and saved. 143: stopped where there was nothing to save. The task is requeued and then continues.
if [[ $code == 75 || $code == 143 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
