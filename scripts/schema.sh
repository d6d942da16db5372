#!/usr/bin/env bash
# Generates shards/src/batch/batch_generated.rs from shards/schema/batch.fbs. Not part of the build.
#
#   scripts/schema.sh           write the generated code
#   scripts/schema.sh --check   exit 1 when the committed code differs from what the schema says
#
# flatc is compiled once, from the sources that a crates.io package carries, with a C++ compiler and nothing
# else; cargo checks the package against its checksum. FLATC=/path/to/flatc uses another one.
set -euo pipefail

mode="${1:-}"
if [ $# -gt 1 ] || { [ -n "$mode" ] && [ "$mode" != "--check" ]; }; then
  echo "usage: scripts/schema.sh [--check]" >&2
  exit 2
fi

flatc_package="flatc-fork"
flatc_version="0.6.0+25.12.19-2026-02-06-03fffb2"   # the release of the `flatbuffers` crate in Cargo.toml
rust_edition="2024"

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
schema="$root/shards/schema/batch.fbs"
committed="$root/shards/src/batch/batch_generated.rs"
cache="${CARGO_TARGET_DIR:-$root/target}/flatc-${flatc_version%%-*}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Directory of the flatbuffers sources, fetched by cargo.
flatc_sources() {
  mkdir -p "$work/fetch/src"
  cat >"$work/fetch/Cargo.toml" <<TOML
[package]
name = "fetch-flatc"
version = "0.0.0"
edition = "$rust_edition"
[dependencies]
$flatc_package = "=$flatc_version"
[workspace]
TOML
  : >"$work/fetch/src/lib.rs"
  cargo metadata --quiet --format-version 1 --manifest-path "$work/fetch/Cargo.toml" |
    grep -o "\"manifest_path\":\"[^\"]*/$flatc_package-[^\"]*/Cargo.toml\"" |
    head -n 1 | sed 's/^"manifest_path":"//; s|/Cargo.toml"$|/flatbuffers|'
}

build_flatc() {
  local sources list
  sources="$(flatc_sources)"
  if [ ! -d "$sources/src" ]; then
    echo "schema.sh: no sources in package $flatc_package $flatc_version (looked in '$sources')" >&2
    exit 1
  fi
  # The list that flatbuffers' own build compiles.
  list="$(sed -n '/^set(FlatBuffers_Library_SRCS/,/^)/p; /^set(FlatBuffers_Compiler_SRCS/,/^)/p' \
    "$sources/CMakeLists.txt" | grep -oE '[A-Za-z0-9_/]+\.(cpp|cc)$' | sort -u)"
  echo "schema.sh: compiling flatc (once, about two minutes) into $cache" >&2
  (
    cd "$sources"
    printf '%s\n' $list | xargs -P "$(nproc)" -I{} sh -c \
      '"${CXX:-c++}" -std=c++17 -O0 -Iinclude -Igrpc -I. -Isrc -DFLATBUFFERS_LOCALE_INDEPENDENT=1 -c "$1" \
        -o "$2/$(printf %s "$1" | tr / _).o"' _ {} "$work"
  )
  mkdir -p "$cache"
  "${CXX:-c++}" "$work"/*.o -o "$work/flatc"
  mv "$work/flatc" "$cache/flatc"
}

flatc="${FLATC:-$cache/flatc}"
if [ ! -x "$flatc" ]; then
  if [ -n "${FLATC:-}" ]; then
    echo "schema.sh: FLATC=$FLATC is not an executable file" >&2
    exit 1
  fi
  build_flatc
fi

"$flatc" --rust -o "$work/out" "$schema"
generated="$work/out/batch_generated.rs"
rustfmt --edition "$rust_edition" --config-path "$root/rustfmt.toml" "$generated"

if [ "$mode" = "--check" ]; then
  if ! diff -u "$committed" "$generated"; then
    echo "schema.sh: shards/src/batch/batch_generated.rs is not what shards/schema/batch.fbs says; run scripts/schema.sh" >&2
    exit 1
  fi
  echo "schema.sh: batch_generated.rs is up to date"
else
  cp "$generated" "$committed"
  echo "schema.sh: wrote shards/src/batch/batch_generated.rs"
fi
