#!/usr/bin/env bash
# Makes or mends the environment FOLDER with the packages of LOCK.   Usage: environment.sh FOLDER LOCK [CONTAINED...]
#
# The Python is PYTHON where that is set; else the newest that runs of python3.14 .. python3.12, python3, pyenv's and uv's;
# with CHOOSE=oldest the oldest of them. An environment that stands is kept if its Python is allowed, is that of PYTHON
# where PYTHON is set, and its last installation ended; else it is made anew. CONTAINED: locks that LOCK holds.
#
# While FOLDER.installing is there, the process that it names is installing, or was killed while it was.
set -euo pipefail
OLDEST=3.12 NEWEST=3.14
folder=${1%/} lock=$2
shift
marker=$folder.installing log=$folder.log

say() { printf 'stochconv_jax: %s\n' "$*" >&2; }
fail() {
  say "$@"
  exit 1
}

# Prints of the interpreter $1, with tabs between: its version, the interpreter that is behind it if it is an
# environment's, and what it lacks to make an environment, if anything.
describe() {
  "$1" - 2>/dev/null <<'PYTHON'
import importlib.util, platform, sys, sysconfig
lacks = [name for name in ("venv", "ensurepip", "ssl", "zlib", "_ctypes") if not importlib.util.find_spec(name)]
if platform.python_implementation() != "CPython":
    lacks = ["being CPython"]
elif sysconfig.get_config_var("Py_GIL_DISABLED"):
    lacks = ["the global interpreter lock, without which packages are missing"]
behind = sys.executable if sys.prefix == sys.base_prefix else sys._base_executable
print(platform.python_version(), behind, ", ".join(lacks), sep="\t")
PYTHON
}

# Whether the version $1 lies in OLDEST .. ${2:-NEWEST}.
allowed() {
  local minor
  minor=$(cut -d. -f1,2 <<<"$1")
  [[ $(printf '%s\n' "$OLDEST" "$minor" "${2:-$NEWEST}" | sort -V | sed -n 2p) == "$minor" ]]
}

# Prints version and interpreter of PYTHON, with a tab between; ends with a line where it does not do.
named() {
  local version python lacks
  IFS=$'\t' read -r version python lacks < <(describe "$PYTHON") ||
    fail "PYTHON=$PYTHON does not run; unset it, or name a Python of $OLDEST or newer"
  allowed "$version" 99 || fail "PYTHON=$PYTHON is $version; Python $OLDEST or newer is needed"
  [[ -z $lacks ]] || fail "PYTHON=$PYTHON ($version) cannot make an environment: it lacks $lacks"
  printf '%s\t%s\n' "$version" "$python"
}

# Prints the same of the interpreter that is found; ends with a line that says what was where none does.
found() {
  local candidate version python lacks unfit="" usable="" uvs="" managed=()
  if uvs=$(uv python dir 2>/dev/null); then managed=("$uvs"/*/bin/python3); fi
  for candidate in python3.14 python3.13 python3.12 python3 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin/python \
    ${managed[@]+"${managed[@]}"}; do
    command -v "$candidate" >/dev/null || continue
    IFS=$'\t' read -r version python lacks < <(describe "$candidate") || continue
    if [[ -n $lacks ]]; then
      unfit+=", $candidate ($version, lacks $lacks)"
    elif allowed "$version"; then
      usable+="$version"$'\t'"$python"$'\n'
    else
      unfit+=", $candidate ($version)"
    fi
  done
  [[ -n $usable ]] || fail "no Python from $OLDEST to $NEWEST; found: $(sed 's/^, //' <<<"${unfit:-, none}"). Get one" \
    "by 'uv python install 3.13' or 'pyenv install 3.13', or name it: PYTHON=/path/to/python make ..."
  sort -V -s -k1,1 <<<"$usable" | sed '/^$/d' | if [[ ${CHOOSE:-newest} == oldest ]]; then head -n 1; else tail -n 1; fi
}

# Prints why the environment cannot be kept, or nothing. $1: version and interpreter of PYTHON, if that is set.
fault() {
  local version
  if ! version=$("$folder/bin/python" -c 'import platform; print(platform.python_version())' 2>/dev/null); then
    echo "its Python does not run"
  elif ! allowed "$version" 99; then
    echo "its Python is $version, and $OLDEST or newer is needed"
  elif [[ -n $1 && ${1%%$'\t'*} != "$version" ]]; then
    echo "its Python is $version, and PYTHON=$PYTHON is ${1%%$'\t'*}"
  elif ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "it has no pip"
  fi
}

# Makes this process the one that installs; ends with a line where another is at it. Prints "killed" if one was killed.
claim() {
  local pid
  until (set -C && echo $$ >"$marker") 2>/dev/null; do
    for pid in $(cat "$marker" 2>/dev/null); do
      if ps -p "$pid" -o args= 2>/dev/null | grep -qE 'environment\.sh|pip install'; then
        fail "process $pid is installing into $folder: wait for it, or end it"
      fi
    done
    rm "$marker" 2>/dev/null || fail "$marker cannot be written: is the folder writable?"
    echo killed
  done
}

# Runs the command, which ends with this process, and returns its exit code. Its output goes to the log.
logged() {
  "$@" >"$log" 2>&1 &
  local child=$!
  echo "$$ $child" >"$marker"
  trap 'kill "$child" 2>/dev/null; exit 130' INT TERM HUP
  wait "$child"
}

[[ -f $lock ]] || fail "there is no $lock here"
wanted="" why=""
if [[ -n ${PYTHON:-} ]]; then wanted=$(named); fi
if [[ ! -e $marker && -e $folder ]]; then
  why=$(fault "$wanted")
  if [[ -z $why ]] && cmp -s "$lock" "$folder/${lock##*/}"; then exit; fi
fi
if [[ -n $(ls -A "$folder" 2>/dev/null) && ! -e $folder/pyvenv.cfg && ! -e $marker ]]; then
  fail "$folder is no environment, and is left as it is: remove it, or name another folder"
fi
if [[ ! -e $folder || -n $why || -e $marker ]]; then
  chosen=${wanted:-$(found)} # before anything is removed
  killed=$(claim)
  [[ -z $killed ]] || why="its last installation did not end"
  [[ -z $why ]] || say "$folder is made anew: $why"
  rm -rf "$folder"
  logged "${chosen#*$'\t'}" -m venv "$folder" ||
    fail "${chosen#*$'\t'} cannot make an environment: $(tail -n 1 "$log"); the log is $log"
else
  claim >/dev/null
fi
version=$("$folder/bin/python" -c 'import platform; print(platform.python_version())')
say "installing $lock into $folder, with Python $version; a few minutes the first time"
rm -f "$folder"/requirements*.txt
if ! logged "$folder/bin/python" -m pip install --disable-pip-version-check --requirement "$lock"; then
  grep -q '^Installing collected packages' "$log" || rm "$marker" # else pip may have left half of one
  reason=$(grep -E '^ERROR' "$log" | tail -n 1 || true)
  fail "pip could not install $lock: ${reason:-see the log}; the log is $log. Is there a network? The same command goes on"
fi
for file in "$@"; do cp "$file" "$folder/"; done
rm "$marker"
