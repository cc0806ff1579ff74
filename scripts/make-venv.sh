#!/usr/bin/env bash
# make-venv.sh DIRECTORY any|3.N: an empty virtual environment there, unless a working one of that version is there already.
set -euo pipefail
here=$(dirname "$0")
venv=${1:?usage: make-venv.sh DIRECTORY any|3.N}
want=${2:?usage: make-venv.sh DIRECTORY any|3.N}

if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then exit 0; fi
python=$("$here/find-python.sh" "$want")
# Debian splits venv out of Python; a machine that has only python3 gets the rest here.
"$python" -c 'import ensurepip, venv' 2>/dev/null || "$here/install-debian-packages.sh" python3-venv
"$python" -m venv --clear "$venv"
