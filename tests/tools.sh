#!/usr/bin/env bash
# Gets the programs that check the configurations of the documents and of deploy/: nginx, promtool
# (Debian's package prometheus), systemd-analyze and openssl. Tests print `SKIPPED: …` for one that is missing.
#
# nginx and prometheus are unpacked into target/tools/debian and not installed: their packages would
# start services.
set -euo pipefail
cd "$(dirname "$0")/.."
debian="$PWD/target/tools/debian"

has() { # command
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "$debian/usr/sbin/$1" ] || [ -x "$debian/usr/bin/$1" ]
}
missing=()
for program in nginx promtool systemd-analyze openssl; do has "$program" || missing+=("$program"); done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Not installed: ${missing[*]}. The tests that need them are left out."
    exit 0
fi

echo "Getting ${missing[*]} for the tests of the documents"
apt-get update -qq >/dev/null
unpack() { # package
    local folder
    folder="$(mktemp -d)"
    chmod 755 "$folder"
    (cd "$folder" && apt-get download -qq "$1" >/dev/null 2>&1)
    mkdir -p "$debian"
    dpkg-deb -x "$folder"/*.deb "$debian"
    rm -rf "$folder"
}
for program in "${missing[@]}"; do
    case "$program" in
        nginx) unpack nginx ;;
        promtool) unpack prometheus ;;
        systemd-analyze) DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd >/dev/null ;;
        openssl) DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssl >/dev/null ;;
    esac
    has "$program" || { echo "apt-get has no $program" >&2; exit 1; }
done
