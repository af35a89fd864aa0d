#!/usr/bin/env bash
# Write the versions that are tested together, one file per Python: make constraints, or constraints/compile.sh --upgrade
# Versions that the files hold already stay unless an option of `uv pip compile` says otherwise: --upgrade for all, or
# --upgrade-package NAME. No hashes: with them in a constraints file pip refuses an editable install.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=$(mktemp -d)
trap 'rm -rf "${tools}"' EXIT
"${PYTHON:-python3}" -m venv "${tools}"
"${tools}/bin/python" -m pip install --quiet --disable-pip-version-check uv

for version in 3.10 3.11 3.12 3.13; do
    file=constraints/py${version/./}.txt
    # typing 3.10 is for Pythons before 3.5; uv looks at lower bounds of Python only, pip refuses it. Gradio wants a Pillow before 13,
    # and uv would rather take an old Gradio than an old Pillow.
    printf '%s\n' "typing<3.10" "pillow<13" | "${tools}/bin/uv" pip compile --quiet --no-config --no-header --no-annotate \
        --default-index https://pypi.org/simple --python-platform linux --python-version "${version}" \
        --constraints - --extra all --extra test --extra docs --output-file "${file}" "$@" setup.py
    if grep -nE '[+/@]' "${file}"; then
        echo "compile.sh: error: ${file}: these lines hold for one machine or index only, expected NAME==VERSION" >&2
        exit 1
    fi
done
