#!/usr/bin/env bash
# fetch-adyen.sh DIRECTORY: installs Adyen's library for Node there, as pinned in tests/peers/adyen (MIT, tests only, never shipped).
set -euo pipefail
directory=${1:?usage: fetch-adyen.sh DIRECTORY}
peer="$(dirname "$0")/../tests/peers/adyen"

mkdir -p "$directory"
cp "$peer/package.json" "$peer/package-lock.json" "$directory/"
# The lock names no host: npm takes the packages from the registry that it is configured with, and checks their hashes.
cd "$directory"
npm ci --ignore-scripts --omit=dev --omit=optional --no-audit --no-fund --silent
