#!/bin/bash
# One machine with several GPUs: one process for each. `bash examples/train_torchrun.sh DATA OUT [options of train]`.
#
# The batch is that of all processes together, so the run learns the same with one GPU as with eight: choose one that the
# number of processes divides. Called again after it was killed, it goes on from its last checkpoint with the same data.
# The same with processes on the CPU: GPUS=2 bash examples/train_torchrun.sh DATA OUT --device cpu --batch 8
set -euo pipefail
data=$1 out=$2
shift 2
exec torchrun --standalone --nproc-per-node "${GPUS:-gpu}" --no-python \
    sourceprior train --data "$data" -o "$out" --set drawn=1 "$@"
