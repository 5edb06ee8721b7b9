"""Deadlines, cancellations, readers that vanish or do not read, a full queue, and the end of the server."""

import concurrent.futures
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import grpc
import harness
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

ENDLESS = dict(max_tokens=150000, ignore_eos=True, temperature=0)
SHORT = dict(max_tokens=8, ignore_eos=True, temperature=0)


@pytest.fixture(scope="module")
def server(models):
    with harness.Server(models["long"], "--kv_cache_tokens=1000000") as running:
        yield running


def code_of(stream):
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_health_and_reflection(server, client):
    health = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", harness.SERVICE):
        assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == 1
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    services = ProtoReflectionDescriptorDatabase(client.channel).get_services()
    assert {harness.SERVICE, "grpc.health.v1.Health"} <= set(services)
    assert {method.name for method in client.service.methods} == {
        "Generate", "Score", "Tokenize", "Detokenize", "GetModelInfo", "GetLoad",
    }


def test_a_deadline_ends_a_stream(server, client):
    start = time.monotonic()
    stream = client.stream(prompt="x", sampling=ENDLESS, timeout=0.5)
    texts = []
    with pytest.raises(grpc.RpcError) as caught:
        texts.extend(message.text for message in stream)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert texts, "nothing came before the deadline"
    assert 0.4 < time.monotonic() - start < 5
    server.idle()


def test_a_cancelled_stream_gives_back_its_memory(server, client):
    streams = [client.stream(prompt=str(n), sampling=ENDLESS) for n in range(8)]
    for stream in streams:
        next(stream)
    # The step that hands out a token says what runs when it has ended.
    harness.eventually(lambda: server.metrics().get("requests_running") == 8, "eight running requests")
    assert server.metrics().get("kv_cache_usage_ratio") > 0
    for stream in streams:
        stream.cancel()
        assert code_of(stream) == grpc.StatusCode.CANCELLED
    server.idle()


VANISHING = """
import sys, harness
client = harness.Client(sys.argv[1])
stream = client.stream(prompt="x", sampling=dict(max_tokens=150000, ignore_eos=True))
next(stream)
print("streaming", flush=True)
for message in stream:
    pass
"""


def test_a_client_that_vanishes_gives_back_its_memory(server):
    process = subprocess.Popen(
        [sys.executable, "-c", VANISHING, server.address],
        cwd=harness.SOURCE / "tests" / "integration", stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout.readline() == "streaming\n"
    harness.eventually(lambda: server.metrics().get("requests_running") == 1, "a running stream")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    server.idle()


def test_a_reader_that_does_not_read_holds_nobody_up(server, client):
    with server.client() as lazy:
        stuck = [lazy.stream(prompt=str(n), sampling=ENDLESS) for n in range(4)]
        for stream in stuck:
            next(stream)
        started = time.monotonic()
        for n in range(20):
            assert len(client.generate(prompt=f"busy {n}", sampling=SHORT).tokens) == 8
        assert time.monotonic() - started < 20
        for stream in stuck:
            stream.cancel()
    server.idle()


def test_a_reader_that_lags_loses_nothing(server, client):
    sampling = dict(max_tokens=3000, ignore_eos=True, temperature=0)
    stream = client.stream(prompt="lag", sampling=sampling)
    messages = [next(stream)]
    harness.eventually(lambda: server.metrics().get("requests_running") == 0, "generation to end")
    lagged = harness.Generation(messages + list(stream))
    prompt = client.generate(prompt="lag", sampling=sampling)
    assert lagged.ids == prompt.ids
    assert lagged.text == prompt.text
    assert len(lagged.ids) == 3000


def test_higher_priority_goes_sooner(models):
    with harness.Server(models["long"], "--max_running_requests=1") as server, server.client() as client:
        running = client.stream(prompt="x", sampling=ENDLESS, priority=100)  # none of the others preempts it
        next(running)
        ended = []

        def run(priority):
            client.generate(prompt="x", sampling=dict(SHORT, max_tokens=500), priority=priority)
            ended.append(priority)

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for waiting, priority in enumerate((0, -5, 9), start=1):
                pool.submit(run, priority)
                harness.eventually(lambda: server.metrics().get("requests_waiting") == waiting, "a request to wait")
            running.cancel()
        assert ended == [9, 0, -5]


def test_a_full_queue_answers_at_once_when_to_retry(models):
    flags = ["--max_running_requests=2", "--max_queued_requests=3"]
    with harness.Server(models["long"], *flags) as server, server.client() as client:
        running = [client.stream(prompt="x", sampling=ENDLESS) for _ in range(2)]
        for stream in running:
            next(stream)
        waiting = [client.stream(prompt="x", sampling=ENDLESS) for _ in range(3)]
        harness.eventually(lambda: server.metrics().get("requests_waiting") == 3, "a full queue")
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            client.generate(prompt="one too many", sampling=SHORT)
        assert time.monotonic() - start < 1
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        delay = harness.detail(caught.value, "RetryInfo").retry_delay
        assert delay.seconds + delay.nanos > 0
        running.pop().cancel()
        harness.eventually(lambda: server.metrics().get("requests_waiting") == 2, "a place in the queue")
        queued = client.stream(prompt="now there is room", sampling=SHORT)
        for stream in running + waiting:
            stream.cancel()
        assert code_of(queued) == grpc.StatusCode.OK


def test_an_idle_server_ends_at_once(models):
    with harness.Server(models["small"]) as server:
        server.metrics()
        start = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        assert time.monotonic() - start < 1.5


def test_sigterm_lets_streams_end(models):
    with harness.Server(models["long"], "--drain_timeout=30s") as server, server.client() as client:
        watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        sampling = dict(max_tokens=2000, ignore_eos=True, temperature=0)
        streams = [client.stream(prompt=str(n), sampling=sampling) for n in range(4)]
        firsts = [next(stream) for stream in streams]
        server.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for first, stream in zip(firsts, streams):
            assert len(harness.Generation([first, *stream]).tokens) == 2000
        watch.cancel()
        assert server.wait() == 0


def test_requests_are_taken_for_the_drain_delay(models):
    flags = ["--drain_delay=2s", "--drain_timeout=30s"]
    with harness.Server(models["long"], *flags) as server, server.client() as client:
        health = health_pb2_grpc.HealthStub(client.channel)
        start = time.monotonic()
        server.terminate()
        harness.eventually(
            lambda: health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING,
            "NOT_SERVING", timeout=1,
        )
        served = 0
        while time.monotonic() - start < 1.5:
            assert len(client.generate(prompt="late", sampling=SHORT).tokens) == 8
            served += 1
        assert served > 0
        # One that spans the delay and the drain ends as it would have.
        stream = client.stream(prompt="x", sampling=dict(ENDLESS, max_tokens=5000))
        first = next(stream)
        harness.eventually(
            lambda: code_of(client.stream(prompt="later", sampling=SHORT)) == grpc.StatusCode.UNAVAILABLE,
            "new requests refused", timeout=5,
        )
        assert 2 <= time.monotonic() - start < 10
        assert len(harness.Generation([first, *stream]).tokens) == 5000
        assert server.wait() == 0


def codes_while_one_of_two_drains(models, delay, **service_config):
    """What a client that balances between two servers gets for its calls while the first of them drains."""
    flags = [f"--drain_delay={delay}", "--drain_timeout=60s"]
    with harness.Server(models["long"], *flags) as first, harness.Server(models["long"]) as second:
        addresses = f"ipv4:{first.address},{second.address}"
        config = json.dumps(dict(loadBalancingConfig=[dict(round_robin={})], **service_config))
        options = [*harness.CHANNEL_OPTIONS, ("grpc.service_config", config)]
        with first.client() as client, grpc.insecure_channel(addresses, options=options) as both:
            running = client.stream(prompt="x", sampling=dict(ENDLESS, max_tokens=5000))
            next(running)
            balanced = harness.Client(second.address)
            balanced.channel.close()
            balanced.channel = both

            def both_serve():
                balanced.generate(prompt="both", sampling=SHORT)
                return all(server.metrics().get("requests_total", outcome="ok") > 0 for server in (first, second))

            harness.eventually(both_serve, "requests on both servers")
            first.terminate()
            codes = []
            while "draining" not in first.log() or codes[-20:].count(grpc.StatusCode.OK) < 20:
                codes.append(code_of(balanced.stream(prompt="elsewhere", sampling=SHORT)))
                assert len(codes) < 2000
            assert len(list(running)) > 0
            assert first.wait() == 0
    return codes


def test_a_client_that_watches_health_loses_no_call_to_a_drain(models):
    codes = codes_while_one_of_two_drains(models, "1s", healthCheckConfig=dict(serviceName=""))
    assert set(codes) == {grpc.StatusCode.OK}, codes


def test_a_drain_sends_clients_elsewhere(models):
    """Each connection is told. What was sent before it was may be refused: here one call at most."""
    codes = codes_while_one_of_two_drains(models, "0s")
    lost = [code for code in codes if code != grpc.StatusCode.OK]
    assert len(lost) <= 1, codes
    assert set(lost) <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


def test_it_may_open_more_files_than_it_is_given_at_first(models):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = harness.Server(models["small"], "--http_listen=127.0.0.1:0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with server:
        host, port = server.http_url().removeprefix("http://").split(":")
        with contextlib.ExitStack() as open_ones:
            for _ in range(400):
                connection = open_ones.enter_context(socket.create_connection((host, int(port)), timeout=10))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_second_signal_ends_the_delay(models):
    server = harness.Server(models["small"], "--drain_delay=60s")
    for _ in range(2):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert server.wait(5) == 128 + signal.SIGTERM
    server.process.stdout.close()


def test_sigterm_ends_a_server_that_loads(models, tmp_path):
    """With a status of its own: what a signal does by default, it does not do to process 1 of a container."""
    folder = tmp_path / "model"
    shutil.copytree(models["small"], folder)
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    process = subprocess.Popen([harness.SERVER, f"--model={folder}", "--metrics_listen="])

    def reads_the_tokenizer():
        try:
            return os.open(folder / "tokenizer.json", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert process.poll() is None
            return None

    held = harness.eventually(reads_the_tokenizer, "a server that loads")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    os.close(held)


def test_sigterm_refuses_new_requests(models):
    with harness.Server(models["long"], "--drain_timeout=3s") as server, server.client() as client:
        stream = client.stream(prompt="x", sampling=ENDLESS)
        next(stream)
        server.terminate()
        harness.eventually(
            lambda: code_of(client.stream(prompt="late", sampling=SHORT)) == grpc.StatusCode.UNAVAILABLE,
            "new requests refused", timeout=2.5,
        )
        assert code_of(stream) == grpc.StatusCode.UNAVAILABLE


def test_sigterm_cuts_off_what_outlasts_the_drain(models):
    with harness.Server(models["long"], "--drain_timeout=500ms") as server, server.client() as client:
        streams = [client.stream(prompt=str(n), sampling=ENDLESS) for n in range(4)]
        for stream in streams:
            next(stream)
        start = time.monotonic()
        server.terminate()
        for stream in streams:
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert server.wait() == 0
        assert time.monotonic() - start < 8


def test_sigterm_does_not_wait_for_a_reader_that_does_not_read(models):
    with harness.Server(models["long"], "--drain_timeout=1s") as server, server.client() as client:
        stream = client.stream(prompt="x", sampling=ENDLESS)
        next(stream)
        start = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        assert time.monotonic() - start < 10
        stream.cancel()


def soak_request(client, number):
    """One of many kinds of call, which must end as that kind does."""
    endless = dict(ENDLESS, max_tokens=1300)
    rng = random.Random(number)
    ids = dict(ids=rng.choices(range(3, 400), k=rng.choice([1, 5, 20, 100, 700])))
    kind = rng.randrange(10)
    if kind == 0:
        client.call("Score", context_tokens=ids, continuations=[dict(tokens=dict(ids=[5, 6])), dict(tokens=dict(ids=[7]))])
    elif kind == 1:
        assert code_of(client.stream(prompt_tokens=ids, sampling=dict(top_p=9))) == grpc.StatusCode.INVALID_ARGUMENT
    elif kind in (2, 3):
        stream = client.stream(prompt_tokens=ids, sampling=endless)
        for _ in range(rng.randrange(3)):
            next(stream)
        stream.cancel()
        assert code_of(stream) == grpc.StatusCode.CANCELLED
    elif kind == 4:
        late = client.stream(prompt_tokens=ids, sampling=endless, timeout=rng.uniform(0.001, 0.1))
        assert code_of(late) == grpc.StatusCode.DEADLINE_EXCEEDED
    else:
        sampling = dict(max_tokens=rng.randint(1, 30), seed=number, top_k=50, stop=["zz"], presence_penalty=0.5)
        compute = dict(null_bias=rng.uniform(-2, 2), max_experts_per_token=rng.randint(1, 3))
        client.generate(prompt_tokens=ids, sampling=sampling, compute=compute, priority=rng.randint(-1, 1), logprobs=1)


def test_two_thousand_mixed_requests_leave_nothing_behind(models):
    # A KV cache too small for all of them at once: sequences are preempted too.
    flags = ["--kv_cache_tokens=4096", "--max_queued_requests=1000"]
    with harness.Server(models["small"], *flags) as server, server.client() as client:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            for task in [pool.submit(soak_request, client, number) for number in range(2000)]:
                task.result()
        metrics = server.idle()
        outcomes = {
            outcome: metrics.get("requests_total", outcome=outcome)
            for outcome in ("ok", "cancelled", "deadline", "rejected", "invalid", "error")
        }
        assert outcomes["error"] == outcomes["rejected"] == 0, outcomes
        assert 1900 < sum(outcomes.values()) <= 2000, outcomes
        assert outcomes["ok"] > 900
