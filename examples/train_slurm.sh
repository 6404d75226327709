#!/bin/bash
#SBATCH --job-name=sourceprior
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
# Several machines under Slurm: `sbatch examples/train_slurm.sh DATA OUT [options of train]`, both on storage that all
# nodes see; DATA may be the address of shards in an object store. torchrun starts one process per GPU on every node.
#
# When a node is lost or the time is over, the job is queued again and goes on from OUT/last.pt, at most 3 minutes (or
# --save-steps) old, with the same order of the data. The batch is that of all processes together.
set -euo pipefail
data=$1 out=$2
shift 2
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=4
# Slurm's warning two minutes before the end reaches the shell, which has the job queued again.
trap 'scontrol requeue "$SLURM_JOB_ID"' TERM
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-gpu}" \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500" --no-python \
    sourceprior train --data "$data" -o "$out" --recipe paper --batch 96 --memory 16 "$@" &
# By its number, so that the job fails where training does: wait alone would hide it.
wait "$!"
