"""Other people's programs run as their users run them, and what the server counted of their requests meanwhile."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess

import harness
import pytest

DEPS = pathlib.Path(os.environ["ADAMOE_DEPS_DIR"])
DEMO = harness.SOURCE / "deploy" / "demo_model"

# What each load generator is asked to send.
REQUESTS = 40
PROMPT_TOKENS = 64
OUTPUT_TOKENS = 32


def run(program, *arguments, folder, timeout=300, **environment):
    """What it prints; its home and working folder is `folder`."""
    # Datasets and models of theirs would come from a hub that is not there.
    environment = os.environ | dict(HOME=str(folder), HF_HOME=str(folder / "hub")) | environment
    done = subprocess.run(
        [program, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@dataclasses.dataclass
class Counted:
    """Of the requests of one run."""

    requests: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    first_token: float = 0  # means, in seconds
    inter_token: float = 0
    duration: float = 0

    def check_latencies(self, first_token, duration, inter_token=None):
        """Means as the client saw them: the server's and the way between, longer where the client waits for a core too."""
        pairs = [(first_token, self.first_token), (duration, self.duration)]
        for seen, counted in pairs + ([] if inter_token is None else [(inter_token, self.inter_token)]):
            assert 0.8 * counted < seen < 3 * counted + 0.5, (self, first_token, duration, inter_token)
        assert first_token < duration


@contextlib.contextmanager
def counted(server):
    """Yields a Counted that is filled at the end; every request must have succeeded."""
    result = Counted()
    before = server.idle()
    yield result
    after = server.idle()

    def grown(name, **labels):
        return after.sum(name, **labels) - before.sum(name, **labels)

    def mean(name):
        return grown(f"{name}_sum") / max(grown(f"{name}_count"), 1)

    result.requests = grown("requests_total", outcome="ok")
    assert grown("requests_total") == result.requests > 0, after.samples
    result.prompt_tokens = grown("prompt_tokens_total")
    result.generated_tokens = grown("generated_tokens_total")
    result.first_token = mean("time_to_first_token_seconds")
    result.inter_token = mean("inter_token_latency_seconds")
    result.duration = mean("request_duration_seconds")


@pytest.fixture(scope="module")
def server():
    with harness.Server(DEMO, "--http_listen=127.0.0.1:0") as server:
        yield server
