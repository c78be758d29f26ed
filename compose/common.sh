# shellcheck shell=bash
# Sourced by the scripts beside it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(dirname "$here")/build # git-ignored: all that is made on this machine
# shellcheck disable=SC2034  # for those that source this
project=${COMPOSE_PROJECT_NAME:-braid}

# Talk goes to stderr; stdout is for results.
say() { echo "braid: $*" >&2; }
stop() { say "$*"; exit 1; }

engine() { "$here/engine" "$@"; }
compose() { "$here/engine" compose "$@"; }

# Changing the machine: only as root, only on a Debian, only if not forbidden.
may_install() {
    [[ $EUID == 0 && ${BRAID_INSTALL_ENGINE:-yes} != no ]] && grep -qsE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release
}

apt_install() {
    mkdir -p "$build"
    {
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@"
    } </dev/null >"$build/apt.log" 2>&1 || stop "installing $* failed; the reason is at the end of build/apt.log"
}

# The machine's own Debian mirror, which may be the only one it reaches.
debian_mirror() {
    local found
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        sed -nE 's/^(URIs:|deb( \[[^]]*\])?) *(https?:[^ ]*\/debian)\/?( .*)?$/\3/p' | head -n 1)
    echo "${found:-http://deb.debian.org/debian}"
}
