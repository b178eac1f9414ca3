#!/bin/bash
# One run under SLURM, one process per host. From the checkout's folder:
#
#   sbatch docs/launchers/slurm.sh --config=configs/b0_full_split.py --workdir=$HOME/runs/first \
#       --config.data.path=$HOME/images --config.data.labels=$HOME/labels.csv
#
# Options of sbatch before the script's name replace those below, for example --nodes=8, or --ntasks-per-node=8 with
# --gpus-per-node=8 for one process per GPU. 120 s before the time limit the run gets SIGTERM and saves.
#SBATCH --nodes=4 --ntasks-per-node=1 --time=12:00:00
#SBATCH --signal=TERM@120 --requeue --open-mode=append
srun "${PYTHON:-.venv/bin/python}" main.py "$@"
code=$?
# 75: stopped and saved. 143: stopped where there was nothing to save. The job is requeued and then continues.
if [[ $code == 75 || $code == 143 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
