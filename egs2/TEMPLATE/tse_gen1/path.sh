# shellcheck shell=bash
# The search path of the recipe: the environment that `make` builds in the repository's root, if it is there.
_root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../.." && pwd)
if [[ -x ${_root}/.venv/bin/python3 ]]; then
    export PATH=${_root}/.venv/bin:${PATH}
fi
export PYTHONPATH=${_root}${PYTHONPATH:+:${PYTHONPATH}}
export PYTHONIOENCODING=UTF-8
export LC_ALL=C.UTF-8
