"""The networks that come with the package: small ReLU classifiers of the handwritten digits of scikit-learn.

    digits-16x2    64-16-16-10, 32 ReLU neurons
    digits-32x2    64-32-32-10, 64 ReLU neurons
    digits-conv    1x8x8, two 3x3 convolutions of stride 2 (6 and 8 channels), one dense layer, 128 ReLU neurons

Inputs are pixels in [0, 1] (`problems.data`, digits); outputs are ten logits. `problems.bundled.train` made them and reproduces them.
"""

from pathlib import Path

from problems.errors import NetworkError

FOLDER = Path(__file__).resolve().parent


def names() -> tuple[str, ...]:
    """The names that stand for a bundled network wherever a network is asked for."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.onnx")))


def path(name: str) -> Path:
    """The ONNX file of the bundled network `name`; NetworkError where there is none of that name."""
    if name not in names():
        raise NetworkError(name, "is not a bundled network.", f"The bundled networks are {', '.join(names())}.")
    return FOLDER / f"{name}.onnx"
