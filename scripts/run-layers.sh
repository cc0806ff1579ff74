#!/usr/bin/env bash
# run-layers.sh PYTHON LAYER...: the test layers in the order given, each in a process of its own, stopping at the first
# that fails; prints what each took. A layer without tests is a failure (pytest's exit code 5).
set -euo pipefail
python=${1:?usage: run-layers.sh PYTHON LAYER...}
shift

# Hubs, simulators and hubctl are started some thousand times: compile their modules once, whatever the machine's habit is.
unset PYTHONDONTWRITEBYTECODE

run_layer() {
  # Two files of the large layers at a time; in the integration layer, then what must be alone.
  case "$1" in
    integration)
      "$python" -m pytest -q --numprocesses 2 --dist loadfile -m "not alone" tests/integration &&
        "$python" -m pytest -q -m alone tests/integration ;;
    contract) "$python" -m pytest -q --numprocesses 2 --dist load tests/contract ;;
    unit) "$python" -m pytest -q --numprocesses 2 --dist loadfile tests/unit ;;
    *) "$python" -m pytest -q "tests/$1" ;;
  esac
}

version=$("$python" -c 'import platform; print(platform.python_version())')
table=""
for layer in "$@"; do
  echo "== Python $version: tests/$layer"
  start=$SECONDS
  if run_layer "$layer"; then ok=passed; else ok=FAILED; fi
  table+=$(printf '%-12s %5d s  %s' "$layer" $((SECONDS - start)) "$ok")$'\n'
  [ "$ok" = passed ] || break
done
printf -- '-- Python %s, %d s in all\n%s' "$version" "$SECONDS" "$table"
[ "$ok" = passed ]
