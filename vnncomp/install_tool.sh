#!/usr/bin/env bash
# Sets tightcert up for the verification competition: install_tool.sh v1
# Python 3.11 and make are installed where they are missing (Debian and Ubuntu); everything else is the Makefile's work.
set -euo pipefail

if [ "${1-}" != v1 ]; then
	echo "install_tool.sh: the first argument is the version v1, not '${1-}'." >&2
	exit 1
fi
ROOT="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"

python_of_the_machine() {
	for name in python3.11 python3.12 python3.13 python3; do
		if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
			echo "$name"
			return
		fi
	done
}

install() {
	local as_root=()
	[ "$(id -u)" = 0 ] || as_root=(sudo)
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@"
}

if [ -z "$(python_of_the_machine)" ] || ! command -v make >/dev/null; then
	install update
	install install --yes make python3.11 python3.11-venv || install install --yes make python3 python3-venv
fi
make -C "$ROOT" PYTHON="$(python_of_the_machine)" setup
