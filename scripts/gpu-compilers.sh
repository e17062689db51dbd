#!/usr/bin/env bash
# Sets up the compilers of real GPUs on a machine that has none. Mesa's Vulkan drivers for AMD (RADV), Intel (ANV),
# NVIDIA (NVK), Qualcomm (Turnip) and Apple (Honeykrisp) run on a "drm-shim": a preloaded library that answers like the
# kernel's driver and executes nothing. So a device can be opened and its pipelines compiled, but all results are
# nonsense. Leaves the system unchanged. Prints shell commands for `eval`:
#
#   eval "$(scripts/gpu-compilers.sh)"
#   $GPU_COMPILERS navi31 target/debug/firelight devices
#   FIRELIGHT_GPUS=navi31,dg2 cargo test --features chat-tests --test compilers
#
# With PIPELINE_STATS=FILE, each pipeline's registers, spills and instructions go to FILE (pipeline_stats.c).
# GPUs: navi31 (RX 7900 XTX), navi21 (RX 6800), gfx1201 (RX 9070); dg2 (Arc A770), mtl (Core Ultra), tgl (Iris Xe);
# nv174, nv164 (RTX 30, 20); fd740, fd660 (Adreno); m1 (Apple M1).
set -euo pipefail

cd "$(dirname "$0")"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/firelight/gpu-compilers"
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
RUN="$CACHE/run"

die() { printf 'gpu-compilers: %s\n' "$*" >&2; exit 1; }

# The drivers are those of scripts/newer-mesa.sh, and the shims those of the same Mesa. Debian does not build Intel's:
# it is compiled from the source of trixie's Mesa.
build() {
  printf '\n== fetching the compilers of real GPUs (160 MB)\n' >&2
  local new="$CACHE.new" from suite; rm -rf "$new"
  mkdir -p "$new"/{lists/partial,archives/partial,shims,drivers,source,headers,stub/dev,stub/common}
  from=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    grep -oE '(https?|file)://[^ ]+/debian/?( |$)' | head -1) || true
  [ -n "$from" ] || die "no Debian archive in /etc/apt"
  for suite in trixie trixie-backports; do
    echo "deb [signed-by=$KEYS] ${from% } $suite main"
  done > "$new/sources.list"
  echo "deb-src [signed-by=$KEYS] ${from% } trixie main" >> "$new/sources.list"
  : > "$new/status"
  cat > "$new/apt.conf" <<EOF
Dir::State::Lists "$new/lists";
Dir::State::status "$new/status";
Dir::Etc::SourceList "$new/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Cache "$new";
APT::Sandbox::User "root";
Acquire::Retries "3";
EOF
  export APT_CONFIG="$new/apt.conf"
  apt-get update -qq >&2
  (cd "$new/archives" && apt-get download -qq mesa-drm-shim/trixie-backports libvulkan-dev libdrm-dev spirv-tools >&2)
  (cd "$new/source" && apt-get source -qq --download-only mesa/trixie >&2)
  local package; for package in "$new"/archives/*.deb; do dpkg-deb -x "$package" "$new/headers"; done
  mv "$new"/headers/usr/lib/x86_64-linux-gnu/*_noop_drm_shim.so "$new/shims"
  build_intel_shim "$new"
  add_validators "$new"
  gcc -O1 -Wall -fPIC -shared -I"$new/headers/usr/include" gpu-compilers/pipeline_stats.c -o "$new/libpipeline_stats.so"
  cat > "$new/pipeline_stats.json" <<EOF
{ "file_format_version": "1.1.2", "layer": { "name": "VK_LAYER_FIRELIGHT_pipeline_stats", "type": "GLOBAL",
  "api_version": "1.4.300", "library_path": "$CACHE/libpipeline_stats.so", "implementation_version": "1",
  "description": "Statistics of pipelines", "functions": { "vkGetInstanceProcAddr": "pipeline_stats_instance_proc",
  "vkGetDeviceProcAddr": "pipeline_stats_device_proc" } } }
EOF
  local driver; for driver in radeon intel nouveau freedreno asahi; do
    sed "s#\"library_path\": *\"#&$LIBRARIES/#" "$MESA/usr/share/vulkan/icd.d/${driver}_icd.json" \
      > "$new/drivers/$driver.json"
  done
  write_run > "$new/run"
  chmod +x "$new/run"
  rm -rf "$new"/{lists,archives,source,headers,stub,sources.list,status,apt.conf} "$new"/{*.bin,lock*}
  rm -rf "$CACHE"; mv "$new" "$CACHE"
}

build_intel_shim() { # FOLDER
  local util
  tar xf "$1"/source/mesa_*.orig.tar.xz -C "$1/source" --strip-components=1 --wildcards '*/include/*' '*/src/util/*' \
    '*/src/c11/*' '*/src/drm-shim/*' '*/src/intel/tools/intel_noop_drm_shim.c'
  # Mesa's own table of Intel's GPUs needs Mesa's code generators.
  cp gpu-compilers/intel_device_info.h "$1/stub/dev/"
  cat > "$1/stub/dev/intel_device_info_serialize.h" <<EOF
static inline bool intel_device_info_from_json(const char *path, struct intel_device_info *out) { return false; }
EOF
  echo 'enum { INTEL_ENGINE_CLASS_RENDER, INTEL_ENGINE_CLASS_COPY };' > "$1/stub/common/intel_gem.h"
  util=$(printf '../src/util/%s.c ' set hash_table ralloc u_debug anon_file log os_misc simple_mtx memstream vma \
    u_process u_printf u_call_once strtod os_file)
  (cd "$1/source/src" && gcc -O1 -w -fPIC -shared -fvisibility=hidden -ffunction-sections -fdata-sections \
    -I"$1/stub" -I../include -I. -Iintel -I"$1/headers/usr/include" -I"$1/headers/usr/include/libdrm" \
    -D_GNU_SOURCE -DHAVE_PTHREAD -DHAVE_STRUCT_TIMESPEC -DHAVE_MEMFD_CREATE -DUTIL_ARCH_LITTLE_ENDIAN=1 \
    -DUTIL_ARCH_BIG_ENDIAN=0 -DHAVE_ENDIAN_H -DHAVE___BUILTIN_FFS -DHAVE___BUILTIN_FFSLL -DHAVE_SECURE_GETENV \
    -DHAVE_PROGRAM_INVOCATION_NAME -DHAVE_DLADDR -DHAVE_TIMESPEC_GET -DHAVE_FLOCK \
    -DHAVE_FUNC_ATTRIBUTE_VISIBILITY -DNDEBUG \
    drm-shim/device.c drm-shim/drm_shim.c $util intel/tools/intel_noop_drm_shim.c -ldl -lpthread -lm \
    -Wl,-z,defs,--gc-sections -o "$1/shims/libintel_noop_drm_shim.so")
}

# spirv-val, and Direct3D's compiler of HLSL: a Python package has it as a library for Linux.
add_validators() { # FOLDER
  mv "$1/headers/usr/bin/spirv-val" "$1/spirv-val-unwrapped"
  printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' "$MESA/usr/lib64/ld-linux-x86-64.so.2" "$LIBRARIES" \
    "$CACHE/spirv-val-unwrapped" > "$1/spirv-val"
  chmod +x "$1/spirv-val"
  python3 -m venv "$1/source/venv"
  "$1/source/venv/bin/pip" --quiet download --no-deps --no-binary :all: --dest "$1/source" compushady==0.17.5 >&2
  tar xf "$1"/source/compushady-*.tar.gz -C "$1/source" --strip-components=3 --wildcards '*/backends/*'
  mv "$1"/source/libdxcompiler_x86_64.so.* "$1/libdxcompiler.so"
  g++ -O1 -w -fms-extensions -I"$1/source" gpu-compilers/hlsl.cpp -ldl -o "$1/hlsl"
}

write_run() {
  cat <<EOF
#!/bin/sh
# run GPU PROGRAM...: runs a program with the Vulkan driver of a GPU that is not there.
case \$1 in
  dg2|mtl|tgl) shim=intel driver=intel; export INTEL_STUB_GPU_PLATFORM="\$1" ;;
  nv*) shim=nouveau driver=nouveau; export NOUVEAU_CHIPSET="\${1#nv}" ;;
  fd*) shim=freedreno driver=freedreno; export FD_GPU_ID="\${1#fd}" ;;
  m1) shim=asahi driver=asahi ;;
  *) shim=amdgpu driver=radeon; export AMDGPU_GPU_ID="\$1" ;;
esac
shift
# What a program finds out about this GPU must not be kept beside what it found out about real ones.
export XDG_CACHE_HOME="$CACHE/home" XDG_RUNTIME_DIR="$CACHE" MESA_SHADER_CACHE_DISABLE=1
export WGPU_BACKEND=vulkan VK_DRIVER_FILES="$CACHE/drivers/\$driver.json"
export LD_PRELOAD="$CACHE/shims/lib\${shim}_noop_drm_shim.so"
if [ -n "\${PIPELINE_STATS:-}" ]; then
  export WGPU_DEBUG=1 VK_LAYER_PATH="$CACHE" VK_INSTANCE_LAYERS=VK_LAYER_FIRELIGHT_pipeline_stats
fi
exec "$MESA/usr/lib64/ld-linux-x86-64.so.2" --library-path "$LIBRARIES" "\$@"
EOF
}

[ "$(uname -sm)" = "Linux x86_64" ] || die "only Linux on x86_64 is supported"
eval "$(./newer-mesa.sh)"
MESA=$(dirname "$NEWER_MESA")/unpacked
LIBRARIES=$MESA/usr/lib/x86_64-linux-gnu
[ -x "$RUN" ] || build
printf 'export GPU_COMPILERS=%q\n' "$RUN"
