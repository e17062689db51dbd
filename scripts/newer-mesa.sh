#!/usr/bin/env bash
# Unpacks a newer Mesa than Debian 12 has into a cache folder and leaves the system unchanged. Its lavapipe is 1.2 to 3
# times as fast (benches/RESULTS.md) and has cooperative matrices (VK_KHR_cooperative_matrix), so that this tier is
# tested without a GPU. On a machine without a GPU, `firelight` restarts itself with it (src/cli/drivers.rs). Prints
# shell commands for `eval`:
#
#   eval "$(scripts/newer-mesa.sh)"
#   $NEWER_MESA target/debug/firelight devices
set -euo pipefail

SUITE=trixie
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/firelight/mesa-$SUITE"
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
RUN="$CACHE/run"

die() { printf 'newer-mesa: %s\n' "$*" >&2; exit 1; }

fetch() {
  command -v apt-get >/dev/null || die "this needs apt-get"
  printf '\n== no GPU: fetching the fastest software Vulkan (Mesa of Debian %s, 61 MB)\n' "$SUITE" >&2
  local tmp="$CACHE.new"; rm -rf "$tmp"; mkdir -p "$tmp"/{lists/partial,archives/partial,unpacked}
  # The Debian archive that this machine is configured for.
  local from; from=$(grep -hoE '(https?|file)://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -1) || true
  [ -n "$from" ] || die "no Debian archive in /etc/apt"
  for suite in "$SUITE" "$SUITE-backports"; do echo "deb [signed-by=$KEYS] ${from% } $suite main"; done > "$tmp/sources.list"
  : > "$tmp/status"
  cat > "$tmp/apt.conf" <<EOF
Dir::State::Lists "$tmp/lists";
Dir::State::status "$tmp/status";
Dir::Etc::SourceList "$tmp/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Cache "$tmp";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Retries "3";
EOF
  export APT_CONFIG="$tmp/apt.conf"
  apt-get update -qq >&2
  apt-get install -y -qq --download-only -t "$SUITE-backports" mesa-vulkan-drivers libvulkan1 >&2
  for package in "$tmp"/archives/*.deb; do dpkg-deb -x "$package" "$tmp/unpacked"; done
  rm -rf "$tmp"/{lists,archives,sources.list,status,apt.conf} "$tmp"/{*.bin,lock*}
  local libraries="$CACHE/unpacked/usr/lib/x86_64-linux-gnu" driver="$tmp/unpacked/usr/share/vulkan/icd.d/lvp_icd.json"
  [ -f "$driver" ] || die "Mesa has no lavapipe"
  sed -i "s#\"library_path\": *\"#&$libraries/#" "$driver"
  cat > "$tmp/run" <<EOF
#!/bin/sh
# Runs a program with the libraries of this folder.
export VK_DRIVER_FILES="$CACHE/unpacked/usr/share/vulkan/icd.d/lvp_icd.json"
exec "$CACHE/unpacked/usr/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" "\$@"
EOF
  chmod +x "$tmp/run"
  rm -rf "$CACHE"; mv "$tmp" "$CACHE"
}

[ "$(uname -sm)" = "Linux x86_64" ] || die "only Linux on x86_64 is supported"
[ -x "$RUN" ] || fetch
printf 'export NEWER_MESA=%q\n' "$RUN"
