#!/usr/bin/env bash
# Makes or mends the environment FOLDER with what LOCK lists.   Usage: environment.sh FOLDER LOCK...
#
# The Python is PYTHON where that is set; else the newest that runs of python3.14 .. python3.12, python3, pyenv's and uv's;
# with CHOOSE=oldest the oldest of them. An environment that stands is kept where it has an allowed Python (the one that
# PYTHON names, if set) and its last installation ended; otherwise it is made anew. Several LOCKs: the first is installed,
# and holds the others.
set -euo pipefail
OLDEST=3.12 NEWEST=3.14
folder=$1 lock=$2
shift

say() { printf 'stochconv_jax: %s\n' "$*" >&2; }
fail() {
  say "$@"
  exit 1
}

# Prints the version of the interpreter $1, and what it lacks to make an environment, if anything.
describe() {
  "$1" - 2>/dev/null <<'PYTHON'
import importlib.util, platform, sys, sysconfig
lacks = [name for name in ("venv", "ensurepip", "ssl", "zlib", "_ctypes") if not importlib.util.find_spec(name)]
if platform.python_implementation() != "CPython":
    lacks = ["being CPython"]
elif sysconfig.get_config_var("Py_GIL_DISABLED"):
    lacks = ["the global interpreter lock, without which packages are missing"]
print(platform.python_version(), ", ".join(lacks))
PYTHON
}

# Whether the version $1 lies in OLDEST .. ${2:-NEWEST}.
allowed() {
  local minor
  minor=$(cut -d. -f1,2 <<<"$1")
  [[ $(printf '%s\n' "$OLDEST" "$minor" "${2:-$NEWEST}" | sort -V | sed -n 2p) == "$minor" ]]
}

# Prints the interpreter to use; ends with a line that says what was found where there is none.
choose() {
  local candidate version lacks found="" usable=""
  if [[ -n ${PYTHON:-} ]]; then
    read -r version lacks < <(describe "$PYTHON") || fail "PYTHON=$PYTHON does not run; unset it, or name a Python of $OLDEST or newer"
    allowed "$version" 99 || fail "PYTHON=$PYTHON is $version; Python $OLDEST or newer is needed"
    [[ -z $lacks ]] || fail "PYTHON=$PYTHON ($version) cannot make an environment: it lacks $lacks"
    echo "$PYTHON"
    return
  fi
  for candidate in python3.14 python3.13 python3.12 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python \
    "$(uv python dir 2>/dev/null || true)"/*/bin/python3; do
    command -v "$candidate" >/dev/null || continue
    read -r version lacks < <(describe "$candidate") || continue
    if [[ -n $lacks ]]; then
      found+=", $candidate ($version, lacks $lacks)"
    elif allowed "$version"; then
      usable+="$version $candidate"$'\n'
    else
      found+=", $candidate ($version)"
    fi
  done
  [[ -n $usable ]] || fail "no Python from $OLDEST to $NEWEST; found: $(sed 's/^, //' <<<"${found:-, none}"). Get one by 'uv python install 3.13' or 'pyenv install 3.13', or name it: PYTHON=/path/to/python make ..."
  sort -V -s -k1,1 <<<"$usable" | sed '/^$/d' | { [[ ${CHOOSE:-newest} == oldest ]] && head -n 1 || tail -n 1; } | cut -d' ' -f2-
}

# Prints why the environment cannot be kept, or nothing.
fault() {
  local version wanted
  if [[ -e $folder/.installing ]]; then
    echo "its last installation did not end"
  elif ! version=$("$folder/bin/python" -c 'import platform; print(platform.python_version())' 2>/dev/null); then
    echo "its Python does not run"
  elif ! allowed "$version" 99; then
    echo "its Python is $version, and $OLDEST or newer is needed"
  elif [[ -n ${PYTHON:-} ]] && wanted=$(describe "$PYTHON" | cut -d' ' -f1) && [[ $wanted != "$version" ]]; then
    echo "its Python is $version, and PYTHON=$PYTHON is $wanted"
  elif ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "it has no pip"
  fi
}

installed() {
  local file
  for file in "$@"; do
    cmp -s "$file" "$folder/${file##*/}" || return 1
  done
}

[[ -f $lock ]] || fail "there is no $lock here"
if [[ -e $folder ]]; then
  if pid=$(cat "$folder/.installing" 2>/dev/null) && kill -0 "$pid" 2>/dev/null; then
    fail "process $pid is installing into $folder: wait for it, or end it"
  fi
  why=$(fault)
  if [[ -z $why ]] && installed "$lock"; then exit; fi
fi
if [[ ! -e $folder || -n $why ]]; then
  python=$(choose)
  [[ ! -e $folder ]] || say "$folder is made anew: $why"
  rm -rf "$folder"
  mkdir "$folder"
  echo $$ >"$folder/.installing"
  "$python" -m venv "$folder" >"$folder/install.log" 2>&1 || fail "$python cannot make an environment: $(tail -n 1 "$folder/install.log")"
fi
echo $$ >"$folder/.installing"
say "installing $lock into $folder, with Python $("$folder/bin/python" -c 'import platform; print(platform.python_version())'); a few minutes the first time"
if ! "$folder/bin/python" -m pip install --disable-pip-version-check --requirement "$lock" >"$folder/install.log" 2>&1; then
  reason=$(grep -E '^ERROR' "$folder/install.log" | tail -n 1 || true)
  rm "$folder/.installing" # pip has changed nothing
  fail "pip could not install $lock: ${reason:-see the log}; the log is $folder/install.log. Is there a network? The same command tries again"
fi
for file in "$@"; do cp "$file" "$folder/"; done
rm "$folder/.installing"
