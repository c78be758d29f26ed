# shellcheck shell=bash
# Sourced by the scripts beside it.
set -euo pipefail
# What is made here does not depend on the caller's: containers run as a user of their own, and read some of it.
umask 022

# The physical path, for it is what tells one checkout from another.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
build=$(dirname "$here")/build # git-ignored: all that is made on this machine
env_file=${BRAID_ENV_FILE:-$here/.env}

# A variable of the shell, or of .env, as compose itself reads it, or else its default.
setting() {
    local name=$1 value=${!1:-}
    if [[ -z $value && -r $env_file ]]; then
        value=$(sed -nE "s/^(export )?$name=[\"']?([^\"'# ]*).*/\2/p" "$env_file" | tail -n 1)
    fi
    echo "${value:-$2}"
}

project=$(setting COMPOSE_PROJECT_NAME braid)
export COMPOSE_PROJECT_NAME=$project

# Talk goes to stderr; stdout is for results.
say() { echo "braid: $*" >&2; }
stop() { say "$*"; exit 1; }

# Compose would make a name of its own of any other, and mean another project than we look for.
[[ $project =~ ^[a-z0-9][a-z0-9_-]*$ ]] ||
    stop "COMPOSE_PROJECT_NAME=$project is no name for a stack: small letters, digits, - and _, a letter or digit first"

# Whether a variable says yes: FULL=0, FULL=no and FULL= do not.
is_said() { [[ ! ${!1:-} =~ ^(0|no|false|off)?$ ]]; }

engine() { "$here/engine" "$@"; }
compose() { "$here/engine" compose "$@"; }
ask() { "$here/engine" ask "$@"; }

# Between these two no archiver runs; it is there again however the script ends.
stop_archiver() { compose stop archiver >&2; trap 'compose start archiver >&2' EXIT; }
start_archiver() { compose start archiver >&2; trap - EXIT; }

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
