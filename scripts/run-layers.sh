#!/usr/bin/env bash
# run-layers.sh PYTHON LAYER...: the test layers in the order given, each in a process of its own, stopping at the first
# that fails; prints what each took. A layer without tests is a failure (pytest's exit code 5).
set -euo pipefail
python=${1:?usage: run-layers.sh PYTHON LAYER...}
shift
version=$("$python" -c 'import platform; print(platform.python_version())')
table=""
for layer in "$@"; do
  echo "== Python $version: tests/$layer"
  start=$SECONDS
  if "$python" -m pytest -q "tests/$layer"; then ok=passed; else ok=FAILED; fi
  table+=$(printf '%-12s %5d s  %s' "$layer" $((SECONDS - start)) "$ok")$'\n'
  [ "$ok" = passed ] || break
done
printf -- '-- Python %s, %d s in all\n%s' "$version" "$SECONDS" "$table"
[ "$ok" = passed ]
