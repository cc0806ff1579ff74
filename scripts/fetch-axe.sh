#!/usr/bin/env bash
# fetch-axe.sh DIRECTORY: puts axe.min.js of the pinned axe-core there (MPL-2.0, used by the browser tests only, never shipped).
set -euo pipefail
directory=${1:?usage: fetch-axe.sh DIRECTORY}
version=4.14.1
integrity=sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
npm pack --silent --pack-destination "$scratch" "axe-core@$version" >/dev/null
have="sha512-$(openssl dgst -sha512 -binary "$scratch/axe-core-$version.tgz" | openssl base64 -A)"
[ "$have" = "$integrity" ] || { echo "axe-core $version is not the package that was pinned: $have" >&2; exit 1; }
mkdir -p "$directory"
tar -xzf "$scratch/axe-core-$version.tgz" -C "$directory" --strip-components=1 package/axe.min.js package/LICENSE
