#!/usr/bin/env bash
# Installs what a fresh Debian 12 lacks to build and test Corefold. Does nothing where nothing is missing.
#
#   scripts/setup.sh
#
# Needed besides Rust: a C compiler with the C library's headers (three dependencies compile C: glommio its copy of
# liburing, zstd, and a stack probe of the SQL parser; rustc links with it too), git (glommio's build script calls it)
# and the certificates with which cargo trusts crates.io. Packages come from apt-get, as root or through sudo. Rust
# itself is not installed: https://rustup.rs does that.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf 'setup.sh: %s\n' "$*"; }
fail() {
  printf 'setup.sh: %s\n' "$*" >&2
  exit 1
}

# Whether a C program that uses the library's and the kernel's headers compiles and links.
compiles_c() {
  printf '#include <stdio.h>\n#include <linux/types.h>\nint main(void) { return puts("") < 0; }\n' |
    "${CC:-cc}" -x c -o /dev/null - >/dev/null 2>&1
}

packages=()
compiles_c || packages+=(gcc libc6-dev)
command -v git >/dev/null || packages+=(git)
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ -n "${SSL_CERT_FILE:-}" ] || packages+=(ca-certificates)

if [ ${#packages[@]} -gt 0 ]; then
  say "missing: ${packages[*]}"
  command -v apt-get >/dev/null ||
    fail "this is no Debian; install a C compiler with headers, git and CA certificates by other means"
  if [ "$(id -u)" -eq 0 ]; then
    as_root=(env DEBIAN_FRONTEND=noninteractive)
  elif command -v sudo >/dev/null; then
    as_root=(sudo env DEBIAN_FRONTEND=noninteractive)
  else
    fail "run as root: apt-get install --no-install-recommends ${packages[*]}"
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}"
  compiles_c || fail "'${CC:-cc}' still cannot compile a C program; try it by hand"
fi

# rustup's usual place, for shells that have not read its profile yet.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
  say "cargo is in ~/.cargo/bin, which is not in PATH; put it there: . ~/.cargo/env"
fi
command -v cargo >/dev/null || fail "there is no cargo; install Rust from https://rustup.rs"

wanted="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")"
[ -n "$wanted" ] || fail "Cargo.toml names no rust-version"
found="$(cd "$root" && rustc --version | cut -d ' ' -f 2)"
if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
  fail "Rust $wanted or later is needed, this is $found; with rustup: rustup update stable"
fi

# The formatter and the linter are for scripts/check.sh; the program is built without them.
for component in rustfmt clippy; do
  if ! (cd "$root" && cargo "${component/rustfmt/fmt}" --version) >/dev/null 2>&1; then
    if command -v rustup >/dev/null; then
      (cd "$root" && rustup component add "$component")
    else
      say "cargo lacks $component, which scripts/check.sh needs; there is no rustup to add it with"
    fi
  fi
done

say "everything is there (Rust $found)"
