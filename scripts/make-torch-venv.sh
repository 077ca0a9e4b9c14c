#!/usr/bin/env bash
# Makes a virtual environment that has torch: make-torch-venv.sh PYTHON FOLDER. MMEngine 0.10 loads checkpoints with a bare
# torch.load, which torch 2.6 changed: torch is older than that. Where the system's Python has one, it is used; on Debian,
# root installs it with apt, which is quick and small; elsewhere pip fetches it for PYTHON (a smaller build without CUDA
# comes with PIP_EXTRA_INDEX_URL). Touches nothing else.
set -euo pipefail
python=$1
folder=$2
scripts=$(dirname "$0")
system=/usr/bin/python3

has_torch() {
  "$system" -c '
import torch, torchvision, sys
sys.exit(tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6))' 2>/dev/null
}

packaged() { # a version that is old enough, by what apt knows
  local version
  version=$(apt-cache policy python3-torch 2>/dev/null | sed -nE 's/^ *Candidate: ([0-9].*)/\1/p')
  [ -n "$version" ] && dpkg --compare-versions "$version" lt 2.6
}

if ! has_torch && [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
  packaged || apt-get update -qq
  if packaged; then
    echo "make: apt-get install python3-torch python3-torchvision" >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      python3-torch python3-torchvision >/dev/null
  fi
fi
if has_torch; then
  bash "$scripts/make-venv.sh" "$system" "$folder" --system-site-packages
else
  bash "$scripts/make-venv.sh" "$python" "$folder"
  "$folder/bin/pip" --disable-pip-version-check --quiet install 'numpy<2' 'torch<2.6' 'torchvision<0.21'
fi
