#!/usr/bin/env bash
# Times this project on one GPU: the stem, whole steps, several passes and the input.   Usage: benchmarks/gpu.sh [FOLDER]
#
# Writes the results of each benchmark as JSON into FOLDER (default: gpu_benchmarks), and all tables with the card's name
# into FOLDER/tables.md. PyTorch runs in the same rounds, compiled and in bfloat16, if it is installed. Variables:
#
#   PYTHON   interpreter to use, with the packages of requirements-gpu.txt; not set: that of .venv-gpu, which is made first
#   IMAGES   folder of JPEGs of 1024x1024 or more, for the input; not set: drawn pictures
#   LIMIT    seconds for everything (default 530); a benchmark that has not ended by then is ended and named
#   SMALL=1  tiny networks and images: tries the script within minutes, also without a GPU; its times mean nothing
#
# Ends with 1 if a benchmark failed or had no time; the others are made nevertheless.
set -uo pipefail
folder=$(realpath -m "${1:-gpu_benchmarks}")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
deadline=$((SECONDS + ${LIMIT:-530}))
if [[ -z ${PYTHON:-} ]]; then
  bash environment.sh .venv-gpu requirements-gpu.txt || exit 1
  PYTHON=.venv-gpu/bin/python
fi
export JAX_PLATFORMS=cuda
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.5 # the rest is for PyTorch, which has a process of its own
mkdir -p "$folder" || exit 1
failed=()

# Runs the benchmark $2 with the arguments that follow, and adds its tables under the title $1.
run() {
  local title=$1 name=$2 left=$((deadline - SECONDS))
  shift 2
  printf '\n## %s\n\n    python -m benchmarks.%s %s\n\n' "$title" "$name" "$*" >>"$folder/tables.md"
  : >"$folder/output.txt"
  if ((left <= 0)) || ! timeout "$left" "$PYTHON" -m "benchmarks.$name" "$@" >"$folder/output.txt"; then
    failed+=("$title")
    echo "failed, or not ended in time" >>"$folder/tables.md"
  fi
  grep -vE '^written to ' "$folder/output.txt" >>"$folder/tables.md"
  rm "$folder/output.txt"
}

torch=()
if "$PYTHON" -c 'import torch' 2>/dev/null; then torch=(--torch); fi
if [[ -n ${SMALL:-} ]]; then
  export JAX_PLATFORMS=cpu
  stem=(--batch 1 --size 240 --features 2 --rounds 2)
  configs=(quickstart:control) passes=(--config quickstart --passes 1 3) steps=(--batch_size 4 --rounds 2)
  input=(--size 64 --thumbnail 16 --rounds 2) torch=()
else
  stem=(--batch 64 --size 1024 2048 --rounds 15)
  configs=(b0 b0_full_split) passes=(--config b0_full_split --passes 1 3) steps=(--batch_size 64 --rounds 15)
  input=(--rounds 3)
fi
if [[ -n ${IMAGES:-} ]]; then input+=(--images "$IMAGES"); fi

card=$("$PYTHON" -c 'import jax; print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")') || exit 1
echo "# $card, $(date +%F)" >"$folder/tables.md"
run "The window convolution" stem "${stem[@]}" --json "$folder/stem.json"
run "Whole steps" train_step --configs "${configs[@]}" "${steps[@]}" ${torch[@]+"${torch[@]}"} \
  --json "$folder/train_step.json"
run "Several passes" eval_passes "${passes[@]}" "${steps[@]}" --json "$folder/eval_passes.json"
run "Input, one core" input "${input[@]}" --json "$folder/input.json"
# The program forbids kernels whose sums depend on the order of threads.
XLA_FLAGS=--xla_gpu_exclude_nondeterministic_ops=false \
  run "Steps that need not repeat to the bit" train_step --configs "${configs[0]}" "${steps[@]}" --json "$folder/any_order.json"

cat "$folder/tables.md"
if ((${#failed[@]})); then
  printf 'failed, or not ended in time: %s\n' "${failed[@]}" >&2
  exit 1
fi
