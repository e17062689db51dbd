#!/usr/bin/env bash
# Builds the chat window as a page in dist/chat. Any static server can serve it, over https or from localhost.
#
#   scripts/chat-web.sh [PROFILE]     (default: web, optimized for size; web-test builds in a fraction of the time)
#
# The page's only JavaScript loads the program; `chat-worker.js` runs the same program as the engine.
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(scripts/setup-wasm.sh)"
profile=${1:-web}
target=${CARGO_TARGET_DIR:-target}/wasm
CARGO_TARGET_DIR=$target cargo $WASM_TOOLCHAIN build --target wasm32-unknown-unknown --profile "$profile" \
  --no-default-features --features chat --example chat
folder=$profile; [ "$profile" = dev ] && folder=debug
out=dist/chat
mkdir -p "$out"
rm -rf "${out:?}"/*
"$WASM_BINDGEN" --target web --no-typescript --remove-name-section --remove-producers-section --out-name chat --out-dir "$out" \
  "$target/wasm32-unknown-unknown/$folder/examples/chat.wasm"
cp assets/chat/index.html assets/chat/chat-worker.js assets/chat/icon.png "$out"
du -h "$out"/* >&2
