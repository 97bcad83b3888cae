#!/usr/bin/env bash
# Decides one instance: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT
# Exit status: 0 if the results file holds an answer (timeout, unknown and error are answers).
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/instance" run "$@"
