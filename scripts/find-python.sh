#!/usr/bin/env bash
# Prints the path of a Python interpreter, or fails with a sentence.
#   find-python.sh any     the first of python3, python3.13, 3.12, 3.11 that is at least 3.11
#   find-python.sh 3.13    exactly that minor version: on the PATH, in pyenv, or else installed from Debian
set -euo pipefail
here=$(dirname "$0")
want=${1:?usage: find-python.sh any|3.N}

real() { # the interpreter behind a name or path, if it runs and its version fits: shims may exist without one behind them
  "$1" - "$want" 2>/dev/null <<'PYTHON'
import sys
want = sys.argv[1]
have = sys.version_info[:2]
fits = have >= (3, 11) if want == "any" else have == tuple(map(int, want.split(".")))
if not fits:
    sys.exit(1)
print(sys.executable)
PYTHON
}

candidates() {
  if [ "$want" = any ]; then
    printf '%s\n' python3 python3.13 python3.12 python3.11
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9]*/bin/python3 2>/dev/null || true
  else
    echo "python$want"
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$want".*/bin/python3 2>/dev/null || true
  fi
}

look() {
  local name
  while read -r name; do real "$name" && return 0; done < <(candidates)
  return 1
}

look && exit 0
if [ "$want" != any ] && apt-cache show "python$want-venv" >/dev/null 2>&1; then
  "$here/install-debian-packages.sh" "python$want-venv" >&2
  look && exit 0
fi
if [ "$want" = any ]; then need="Python 3.11 or newer"; else need="Python $want"; fi
echo "$need is needed and was found neither on the PATH nor in pyenv nor in Debian's packages (pyenv install ${want/any/3.11} is one way)" >&2
exit 1
