"""float32 semantics speak of the operations as they are stored, also where the reader merges them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from problems import readers
from problems.errors import InputError
from problems.maps import Dense, Sparse
from problems.network import Network, sequential
from problems.regions.box import Box
from problems.specification import Row, Specification, make_disjunct
from verifier import verify


def stored(path: Path, nodes: list, constants: dict[str, list]) -> Network:
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("x", "y")]
    initializers = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", sides[:1], sides[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return readers.load(path)


def at_least(value: int, low: float, high: float) -> Specification:
    row = Row(((0, Fraction(1)),), Fraction(-value))
    return Specification((make_disjunct(Box(np.array([low]), np.array([high])), [row], output_size=1),), 1, 1)


def test_merged_constants_count(tmp_path: Path) -> None:
    """(x + 1e8) - 1e8 is x for real numbers, and 8 at x = 5 in float32: the proof of y < 7 must not be passed on."""
    nodes = [helper.make_node("Add", ["x", "c"], ["a"]), helper.make_node("Sub", ["a", "c"], ["y"])]
    network = stored(tmp_path / "cancel.onnx", nodes, {"c": [[1e8]]})
    session = onnxruntime.InferenceSession(tmp_path / "cancel.onnx")
    assert session.run(None, {"x": np.array([[5.0]], np.float32)})[0] == 8.0
    specification = at_least(7, 4.1, 6.0)
    assert verify(network, specification, timeout=10.0).verdict == "unsat"
    assert verify(network, specification, timeout=10.0, semantics="float32").verdict == "unknown"
    assert verify(network, at_least(2000, 4.1, 6.0), timeout=10.0, semantics="float32").verdict == "unsat"


def test_overflow_is_refused() -> None:
    network = sequential([Dense(np.array([[3e38]])), Dense(np.array([[1.0]]))], [np.zeros(1), np.zeros(1)])
    with pytest.raises(InputError, match="float32"):
        verify(network, at_least(1, 0.0, 4.0), timeout=10.0, semantics="float32")


def test_replay_that_overflows_is_no_witness() -> None:
    """sat needs both: real logits that violate, and a replay that does; infinity does not count."""
    network = sequential([Dense(np.array([[3e38]])), Dense(np.array([[3e38]]))], [np.zeros(1), np.zeros(1)], precision="float32")
    assert verify(network, at_least(1, 1.0, 2.0), timeout=3.0).verdict in ("unknown", "timed-out")


@pytest.mark.parametrize("divisor", [1e-300, 1e-160, 3.0, 1e200, 1e305])
def test_divisors_of_any_size_are_normalised(divisor: float) -> None:
    """M x / d with M = d: the product must not underflow before it is divided."""
    import scipy.sparse as sparse

    linear = Sparse(sparse.csr_matrix(np.array([[divisor]])), np.array([divisor]))
    assert linear.divisors is not None
    assert 1.0 <= abs(linear.divisors[0]) < 2.0
    x = np.array([1.3e-20])
    assert linear.forward(x) == pytest.approx(x, rel=1e-15)
    assert linear.transpose(x) == pytest.approx(x, rel=1e-15)
