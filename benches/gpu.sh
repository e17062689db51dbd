#!/usr/bin/env bash
# Measures a physical GPU for RESULTS.md: prefill and decode of synthetic models with published shapes, in every tier,
# at long context depths, in batches of eight, and single ops. Prints tables for RESULTS.md.
#
#   cargo build --release --features cli
#   benches/gpu.sh                                   # needs 8 GB of disk for the largest model
#   benches/gpu.sh tiny-qwen3:Q4_0                   # other models, each as SHAPE:TYPES
#   LLAMA_BENCH=.../llama-bench benches/gpu.sh       # llama.cpp, too
#   DEPTHS=0,512 FIRELIGHT=target/debug/firelight benches/gpu.sh tiny-qwen3:Q4_0
set -euo pipefail
cd "$(dirname "$0")/.."
firelight="${FIRELIGHT:-target/release/firelight}"
depths="${DEPTHS:-0,4096,16384}"
models=("$@")
[ ${#models[@]} -gt 0 ] || models=(qwen3-0.6b:Q4_0 llama-3.2-1b:Q4_K_M llama-3.1-8b:Q4_0 llama-3.1-8b:Q4_K_M qwen3-30b-a3b:Q4_K_M)
longest="${depths##*,}"

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"$firelight" devices
"$firelight" devices --tune
for tier in subgroups f16 int8 cooperative; do "$firelight" bench --ops --tier "$tier" || echo "tier $tier does not run here"; done
for model in "${models[@]}"; do
    file="$folder/model.gguf"
    "$firelight" synth "${model%%:*}" "${model##*:}" "$file" > "$folder/log"
    echo
    echo "## $model"
    for tier in baseline subgroups f16 int8 cooperative; do
        "$firelight" bench "$file" --tier "$tier" -p 512 -n 64 -r 5 || echo "tier $tier does not run here"
    done
    # The same file in llama.cpp, if requested. On a software adapter, its Vulkan needs GGML_VK_VISIBLE_DEVICES=0.
    if [ -n "${LLAMA_BENCH:-}" ]; then "$LLAMA_BENCH" -m "$file" -ngl 99 -p 512 -n 64 -r 5; fi
    "$firelight" bench "$file" -p 512 -n 64 -d "$depths" --context "$((longest + 600))" -r 3
    "$firelight" bench "$file" -p 0 -n 64 -b 1,8 -r 3
    "$firelight" bench "$file" -p 0 -n 16 -r 1 --profile || echo "no timestamps here"
done
