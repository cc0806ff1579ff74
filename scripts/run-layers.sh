#!/usr/bin/env bash
# run-layers.sh PYTHON LAYER...: the test layers in the order given, each in a process of its own, stopping at the first
# that fails; prints what each took. A layer without tests is a failure (pytest's exit code 5).
set -euo pipefail
python=${1:?usage: run-layers.sh PYTHON LAYER...}
shift

# Hubs, simulators and hubctl are started some thousand times: compile their modules once, whatever the machine's habit is.
unset PYTHONDONTWRITEBYTECODE

# Layers that open thousands of small databases have them in memory, where there is room: what a disk does with them is
# shown in the layers integration and crash, on the machine's disk and on disks of their own.
fast=""
if [ "$(stat --file-system --format %T /dev/shm 2>/dev/null)" = tmpfs ] && [ -w /dev/shm ] &&
  [ "$(df --output=avail --block-size=1M /dev/shm | tail -n 1)" -ge 2048 ]; then
  fast=$(mktemp --directory /dev/shm/hubd-XXXXXX)
  trap 'if [ "${ok:-}" = FAILED ]; then echo "kept: $fast"; else rm -rf "$fast"; fi' EXIT
fi

in_memory() { # runs pytest with its temporary files in memory, or where they always are; sockets need short paths
  if [ -n "$fast" ]; then TMPDIR=$fast "$@" --basetemp="$fast/t"; else "$@"; fi
}

run_layer() {
  # Two tests at a time, or two files of layers whose files have something in common; in the integration layer, then
  # what must be alone. Where tests are few and long, who has nothing left to do takes from the other.
  case "$1" in
    integration)
      "$python" -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not alone" tests/integration &&
        "$python" -m pytest -q -m alone tests/integration ;;
    contract) in_memory "$python" -m pytest -q --numprocesses 2 --dist load tests/contract ;;
    unit) in_memory "$python" -m pytest -q --numprocesses 2 --dist loadfile tests/unit ;;
    simulation | crash | browser) "$python" -m pytest -q --numprocesses 2 --dist worksteal "tests/$1" ;;
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
