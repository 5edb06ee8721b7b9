"""Models and servers that the tests of a file share."""

import harness
import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Name -> model folder, each written when first asked for."""
    options = {
        # AdaMoE in small: text at thousands of tokens a second.
        "small": dict(layers=2, experts=4, null_experts=4, k=3, vocab=400, max_positions=2048),
        # Slower, and with room for streams that last.
        "long": dict(layers=4, hidden=64, experts=4, null_experts=4, k=3, vocab=400, max_positions=200000),
        "plain": dict(layers=2, experts=4, null_experts=0, k=2, vocab=400, max_positions=512),
    }
    root = tmp_path_factory.mktemp("models")
    made = {}

    class Models(dict):
        def __missing__(self, name):
            self[name] = harness.make_checkpoint(root / name, **options[name])
            return self[name]

    return Models(made)


@pytest.fixture(scope="module")
def server(models):
    with harness.Server(models["small"]) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with server.client() as connected:
        yield connected
