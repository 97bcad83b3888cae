#!/usr/bin/env bash
# Ends what an earlier run has left behind and checks that the files can be read: prepare_instance.sh v1 CATEGORY ONNX VNNLIB
# Exit status: 0 ready, otherwise the instance is to be skipped.
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/instance" prepare "$@"
