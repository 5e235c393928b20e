#!/bin/sh
# Runs a task of this repository on a machine that may have nothing but sh, apt-get and npm:
#   sh tasks/bootstrap.sh demo
# Finds or installs Deno, installs a software graphics adapter where there is none, and says what it did.
set -eu

DENO_VERSION=2.9.6
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
tools="$root/.cache/tools"

say() { printf 'bootstrap: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    return 1
  fi
}

# Installs Debian packages; the output is shown only when it goes wrong.
install_packages() {
  command -v apt-get >/dev/null 2>&1 || return 1
  log=$(mktemp)
  if as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update && apt-get install -y --no-install-recommends "$@"' sh "$@" >"$log" 2>&1; then
    rm -f "$log"
  else
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
}

# Whether $1 is a Deno that is new enough (same major version, same or later minor version).
is_new_enough() {
  version=$("$1" --version 2>/dev/null | sed -n 's/^deno \([0-9.]*\).*/\1/p')
  [ -n "$version" ] || return 1
  major=${version%%.*}
  minor=${version#*.}
  minor=${minor%%.*}
  [ "$major" -eq "${DENO_VERSION%%.*}" ] && [ "$minor" -ge 9 ]
}

find_deno() {
  for candidate in "$(command -v deno 2>/dev/null || true)" "$tools/bin/deno" "$HOME/.deno/bin/deno"; do
    if [ -n "$candidate" ] && is_new_enough "$candidate"; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  return 1
}

install_deno() {
  if ! command -v npm >/dev/null 2>&1; then
    say "npm is missing, installing it with apt-get"
    install_packages npm || fail "cannot install npm: install Deno $DENO_VERSION yourself and put it on the PATH"
  fi
  if [ "$(id -u)" = 0 ]; then
    say "installing Deno $DENO_VERSION for everybody: npm install -g deno@$DENO_VERSION"
    npm install -g --no-fund --no-audit --loglevel=error "deno@$DENO_VERSION" >&2 || true
  fi
  if ! find_deno >/dev/null; then
    say "installing Deno $DENO_VERSION into $tools"
    npm install -g --prefix "$tools" --no-fund --no-audit --loglevel=error "deno@$DENO_VERSION" >&2 ||
      fail "npm cannot install Deno: install Deno $DENO_VERSION yourself and put it on the PATH"
  fi
}

has_adapter() {
  DENO_WEBGPU_BACKEND=vulkan "$deno" eval --no-config \
    'Deno.exit(await navigator.gpu?.requestAdapter() ? 0 : 1)' >/dev/null 2>&1
}

ensure_adapter() {
  [ "$(uname -s)" = Linux ] || return 0
  if has_adapter; then return 0; fi
  say "no graphics adapter: installing a software one (libvulkan1, mesa-vulkan-drivers) with apt-get"
  install_packages libvulkan1 mesa-vulkan-drivers ||
    fail "cannot install it: install the Vulkan loader and Mesa's Vulkan drivers yourself (root or sudo is needed)"
  has_adapter || fail "there is still no adapter; sh tasks/bootstrap.sh doctor says more"
  say "the software adapter works; a graphics card with its driver is many times faster"
}

# A browser for the test that opens a page: it is skipped without one, so nothing here fails, and nothing asks for a password.
ensure_browser() {
  [ "$(uname -s)" = Linux ] || return 0
  if [ -n "${CHROMIUM-}" ] || command -v chromium >/dev/null 2>&1; then return 0; fi
  if ! command -v apt-get >/dev/null 2>&1; then
    say "no chromium and no apt-get: the test that opens a page in a browser is skipped"
  elif [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    say "no chromium, and not root: the test that opens a page in a browser is skipped (sudo apt-get install chromium)"
  else
    say "no chromium: installing it with apt-get, for the test that opens a page in a browser"
    if install_packages chromium && command -v chromium >/dev/null 2>&1; then
      say "chromium is $(command -v chromium)"
    else
      say "cannot install chromium: the test that opens a page in a browser is skipped"
    fi
  fi
}

# Whether the words after `test` ask for the tests themselves: none does, or `tests`.
runs_tests() {
  [ $# = 0 ] || case " $* " in *' tests '*) ;; *) return 1 ;; esac
}

if ! deno=$(find_deno); then
  install_deno
  deno=$(find_deno) || fail "Deno was installed but does not run here"
fi
say "Deno is $deno ($("$deno" --version | sed -n 's/^deno \([0-9.]*\).*/\1/p'))"
PATH="$(dirname -- "$deno"):$PATH"
export PATH

case "${1-}" in
  '') exec "$deno" task --config "$root/deno.json" ;;
  doctor | compile) ;;
  *) case " $* " in *' --help '* | *' -h '*) ;; *) ensure_adapter ;; esac ;;
esac
if [ "${1-}" = test ] && (shift && runs_tests "$@"); then ensure_browser; fi

ANOMALYDIFFUSION_INVOKED_AS="sh tasks/bootstrap.sh"
export ANOMALYDIFFUSION_INVOKED_AS
exec "$deno" task --quiet --config "$root/deno.json" "$@"
