"""The torch module that attacks evaluate: it is the network, and its gradient is right."""

import numpy as np
import pytest
import scipy.sparse as sparse
import torch

from problems.maps import Dense, Sparse
from problems.network import sequential
from tests.verifier.attack_cases import graph_network, random_network, tensor
from verifier.attacks.module import as_module, one_thread


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_the_module_evaluates_the_network(dtype: torch.dtype, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    for network in (graph_network(rng), random_network(rng, 7, 5, 4)):
        x = rng.normal(size=(6, network.input_size))
        module = as_module(network, "cpu", dtype)
        logits = module(torch.tensor(x, dtype=dtype)).numpy()
        assert np.abs(logits - network.forward(x)).max() <= tolerance * (1 + np.abs(logits).max())
        assert not list(module.parameters())
        assert as_module(network, "cpu", dtype) is module


def test_the_module_of_a_large_sparse_map_has_the_right_gradient() -> None:
    rng = np.random.default_rng(1)
    matrix = sparse.random(1500, 900, density=0.004, random_state=rng, format="csr")
    network = sequential([Sparse(matrix), Dense(rng.normal(size=(2, 1500)))], [rng.normal(size=1500), np.zeros(2)])
    x = rng.normal(size=(3, 900))
    points = tensor(x).requires_grad_()
    logits = as_module(network)(points)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), points)
    active = network.values(x)[2] > 0
    assert np.allclose(logits.detach().numpy(), network.forward(x))
    assert np.allclose(gradient.numpy(), (active * network.nodes[3].maps[0].weights[0]) @ matrix.toarray())


def test_a_torch_module_is_wrapped_and_left_alone() -> None:
    inner = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    wrapped = as_module(inner, "cpu", torch.float64, (1, 4, 4))
    x = torch.rand(5, 16, dtype=torch.float64)
    assert torch.allclose(wrapped(x).float(), inner(x.float().reshape(5, 1, 4, 4)), atol=1e-5)
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in inner.parameters())


def test_the_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    inside = []

    def interrupted() -> None:
        with one_thread():
            inside.append(torch.get_num_threads())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert inside == [1]
    assert torch.get_num_threads() == before
