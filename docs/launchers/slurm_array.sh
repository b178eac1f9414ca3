#!/bin/bash
# All runs of an ablation under SLURM, as a job array of which each task makes its share. From the checkout's folder:
#
#   sbatch docs/launchers/slurm_array.sh --config=configs/ablations/integration.py --workdir=$HOME/runs/integration \
#       --config.data.path=$HOME/images --config.data.labels=$HOME/labels.csv
#
# Options of sbatch before the script's name hold in place of these; the shares are as many as the array has tasks, which
# are to be numbered from 1.
#SBATCH --array=1-8 --ntasks=1 --time=12:00:00
#SBATCH --signal=TERM@120 --requeue --open-mode=append
srun "${PYTHON:-.venv/bin/python}" main.py --mode=sweep "$@" \
  --config.sweep.shard="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
code=$?
# 75: stopped and saved. 143: stopped where there was nothing to save. The task waits for its next turn and goes on.
if [[ $code == 75 || $code == 143 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
