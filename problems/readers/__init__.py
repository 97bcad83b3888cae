"""Reads networks: ONNX files, torch modules, .npz archives, and the bundled networks by name."""

import sys
from pathlib import Path
from typing import Any

from problems import bundled
from problems.errors import NetworkError
from problems.network import Network


def load(source: Any, *, input_shape: tuple[int, ...] | None = None) -> Network:
    """The network that `source` stands for: a Network itself, a torch module, the path of an ONNX or .npz file, or a bundled name.

    input_shape: shape of one input without the batch axis; only torch modules that do not begin with a Linear layer need it.
    NetworkError for whatever cannot be read, is malformed, or differs from what its own runtime (onnxruntime, torch) computes.
    """
    if isinstance(source, Network):
        return source
    if isinstance(source, str | Path):
        return _from_path(source)
    # Only a program that has imported torch can hold a module: importing torch to ask would cost a second.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        from problems.readers.torch import from_module

        return from_module(source, input_shape=input_shape)
    raise NetworkError("network", f"an object of type {type(source).__name__} is not a network.", _kinds())


def _from_path(source: str | Path) -> Network:
    path = Path(source)
    name = path.name.lower()
    if name.endswith((".onnx", ".onnx.gz")):
        from problems.readers import onnx

        return onnx.read(path)
    if name.endswith(".npz"):
        from problems.readers import npz

        return npz.read(path)
    if str(source) in bundled.names():
        return _from_path(bundled.path(str(source)))
    raise NetworkError(str(source), "is not a kind of network known here.", _kinds())


def _kinds() -> str:
    return f"Give an .onnx file (.onnx.gz too), an .npz archive, a torch module or a bundled network ({', '.join(bundled.names())})."
