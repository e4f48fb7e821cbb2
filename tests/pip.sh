# Sourced after cached.sh by scripts that install packages of Python.

# pip_install FOLDER REQUIREMENTS: installs these packages into the folder, each with one of its pinned hashes.
pip_install() {
    python3 -m pip --version >/dev/null 2>&1 || fail "Python's pip is missing: run tests/setup.sh."
    python3 -m pip --quiet install --disable-pip-version-check --root-user-action ignore --no-deps --require-hashes \
        --only-binary :all: --target "$1" --requirement "$2" >&2 ||
        fail "pip failed; its own message is above.
${without:-}"
}
