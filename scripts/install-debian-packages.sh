#!/usr/bin/env bash
# Installs Debian packages that are not there yet: those named as arguments, or else those of debian-packages.txt.
# Asks for nothing, updates the package lists once and only if something is missing, and fails if anything still is.
set -euo pipefail
list="$(dirname "$0")/debian-packages.txt"

wanted() { # prints "package command" lines
  if [ $# -gt 0 ]; then printf '%s\n' "$@"; else sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$list"; fi
}

missing() {
  local package command
  while read -r package command; do
    if [ -n "$command" ] && command -v "$command" >/dev/null; then continue; fi
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ]; then continue; fi
    echo "$package"
  done < <(wanted "$@")
}

command -v dpkg-query >/dev/null || { echo "make test needs Debian 12 or 13 (no dpkg-query on this machine)" >&2; exit 1; }
mapfile -t todo < <(missing "$@")
[ ${#todo[@]} -eq 0 ] && exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "these Debian packages are missing, and there is no sudo to install them: ${todo[*]}" >&2; exit 1; }
  root=(sudo)
fi
echo "installing from Debian: ${todo[*]}"
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${todo[@]}"

mapfile -t todo < <(missing "$@")
[ ${#todo[@]} -eq 0 ] || { echo "still missing after apt-get install: ${todo[*]}" >&2; exit 1; }
