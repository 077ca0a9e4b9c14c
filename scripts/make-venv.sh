#!/usr/bin/env bash
# Makes a virtual environment: make-venv.sh PYTHON FOLDER [OPTIONS OF VENV]. Where a Debian lacks ensurepip, root mends it with apt;
# anyone else is told what to install. Touches nothing else.
set -euo pipefail
python=$1
folder=$2
shift 2

if ! command -v "$python" >/dev/null; then
  echo "make: no $python here; install Python 3.10 or later (Debian: apt-get install python3 python3-venv)" >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
  echo "make: $("$python" --version) is too old; name a Python 3.10 or later: make PYTHON=python3.11 ..." >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  package=$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "make: this Python has no ensurepip: apt-get install $package" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
  else
    echo "make: this Python has no ensurepip; as root: apt-get install $package" >&2
    exit 1
  fi
fi
"$python" -m venv --clear "$@" "$folder"
