#!/usr/bin/env bash
# Builds the npm package in dist/web: the engine as wasm, the JavaScript around it, and the page.
#
#   scripts/web.sh [PROFILE]     (default: web, optimized for size; web-test builds in a fraction of the time)
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=dist/web
TARGET=${CARGO_TARGET_DIR:-target}/wasm
PROFILE=${1:-web}
say() { printf '== %s\n' "$*" >&2; }

eval "$(scripts/setup-wasm.sh)"
say "compiling the engine ($PROFILE)"
CARGO_TARGET_DIR=$TARGET cargo $WASM_TOOLCHAIN rustc --quiet --lib --crate-type cdylib --profile "$PROFILE" \
  --target wasm32-unknown-unknown --no-default-features --features web
mkdir -p $OUT
rm -rf "${OUT:?}"/*
"$WASM_BINDGEN" --target web --no-typescript --remove-name-section --remove-producers-section --out-name engine --out-dir $OUT \
  "$TARGET/wasm32-unknown-unknown/$PROFILE/firelight.wasm"
mv $OUT/engine_bg.wasm $OUT/firelight.wasm
sed -i 's/engine_bg\.wasm/firelight.wasm/' $OUT/engine.js

say "copying the package"
cp assets/js/* LICENSE-MIT LICENSE-APACHE assets/demo/demo.gguf $OUT/

scripts/page.sh

say "done: $OUT, $(gzip -9c $OUT/firelight.wasm | wc -c) bytes of wasm when compressed"
