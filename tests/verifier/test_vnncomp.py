"""Instances of the verification competition with published truth: no wrong verdict."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from problems import readers, vnnlib
from problems.exact import evaluate
from problems.readers.agreement import replay
from problems.vnncomp import read_instances
from verifier import verify

# (benchmark, network, property): quick ones, sat and unsat, one and several rows and disjuncts, input and neuron splitting.
QUICK = [
    ("acasxu", "ACASXU_run2a_1_1_batch_2000", "prop_1"),
    ("acasxu", "ACASXU_run2a_1_4_batch_2000", "prop_2"),
    ("acasxu", "ACASXU_run2a_4_1_batch_2000", "prop_2"),
    ("acasxu", "ACASXU_run2a_1_7_batch_2000", "prop_3"),
    ("acasxu", "ACASXU_run2a_4_4_batch_2000", "prop_3"),
    ("acasxu", "ACASXU_run2a_2_1_batch_2000", "prop_4"),
    ("acasxu", "ACASXU_run2a_1_9_batch_2000", "prop_4"),
    ("acasxu", "ACASXU_run2a_5_7_batch_2000", "prop_3"),
    ("mnist_fc", "mnist-net_256x2", "prop_4_0.03"),
    ("mnist_fc", "mnist-net_256x2", "prop_12_0.03"),
    ("mnist_fc", "mnist-net_256x2", "prop_1_0.05"),
    ("mnist_fc", "mnist-net_256x2", "prop_7_0.05"),
]


@pytest.mark.parametrize(("benchmark", "network", "specification"), QUICK)
def test_published_truth(shared_data: Path, benchmark: str, network: str, specification: str) -> None:
    instances = {instance.name: instance for instance in read_instances(shared_data / "vnncomp" / benchmark)}
    instance = instances[f"{network}, {specification}"]
    assert instance.truth in ("sat", "unsat")
    verdict = verify(instance.network, instance.specification, timeout=5.0)
    other = {"sat": "unsat", "unsat": "sat"}[instance.truth]
    assert verdict.verdict != other
    if verdict.verdict == "sat":
        assert verdict.witness is not None
        asked, net = vnnlib.read(instance.specification), readers.load(instance.network)
        assert asked.is_violated(verdict.witness, evaluate(net, verdict.witness))
        assert asked.is_violated(verdict.witness, replay(net, verdict.witness).astype(np.float64))
    if verdict.verdict == "unsat":
        asked, net = vnnlib.read(instance.specification), readers.load(instance.network)
        generator = np.random.default_rng(0)
        for region in asked.input_boxes():
            low, high = region.bounding_box()
            for point in region.clip(low + generator.random((5, len(low))) * (high - low)):
                margin = asked.margin(point, evaluate(net, point))
                assert margin is not None
                assert margin <= Fraction(verdict.bracket.upper)
