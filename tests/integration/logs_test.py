"""The server's log: one line per request whatever its end, and no bytes that break a line."""

import json
import re
import signal
import subprocess

import grpc
import harness
import pytest

LONG = dict(max_tokens=150000, ignore_eos=True, temperature=0)
SHORT = dict(max_tokens=6, ignore_eos=True, temperature=0)
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
HOSTILE = 'id\n{"level":"error"}\r\x1b[31m\u009b\u2028\x00"\\'


def entries(server):
    """Every line of the log, each of which must be an object."""
    lines = server.log().split("\n")
    assert lines.pop() == ""
    found = [json.loads(line) for line in lines]
    for entry in found:
        assert TIME.fullmatch(entry["time"]) and entry["level"] and "message" in entry
    return found


def requests(server):
    return [entry for entry in entries(server) if entry["message"] == "request"]


def entry_of(server, **fields):
    """The one line with these fields, which may take a moment."""

    def found():
        return [e for e in requests(server) if all(e.get(key) == value for key, value in fields.items())]

    matching = harness.eventually(found, f"a line with {fields}")
    assert len(matching) == 1, matching
    return matching[0]


@pytest.fixture(scope="module")
def server(models):
    flags = ["--log_format=json", "--max_running_requests=1", "--max_queued_requests=1"]
    with harness.Server(models["long"], *flags) as running:
        yield running


def code_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value.code()


def seconds(duration):
    return duration.seconds + duration.nanos / 1e9


def assert_usage(entry, usage, layers):
    for field in (
        "prompt_tokens", "cached_prompt_tokens", "completion_tokens", "true_slots", "null_slots", "dropped_slots",
    ):
        assert entry[field] == getattr(usage, field), field
    for name in ("queue", "prefill", "decode"):
        assert entry[f"{name}_seconds"] == pytest.approx(seconds(getattr(usage, f"{name}_time")), abs=1e-6)
    slots = usage.true_slots + usage.null_slots + usage.dropped_slots
    positions = slots / 3 / layers
    assert entry["experts_per_token"] == pytest.approx(usage.true_slots / positions / layers, abs=1e-4)
    assert entry["duration_seconds"] >= entry["prefill_seconds"]


def test_a_stream_that_ends_well(server, client):
    usage = client.generate(prompt="Hello there", request_id="well", sampling=SHORT).usage
    entry = entry_of(server, request_id="well")
    assert (entry["rpc"], entry["outcome"], entry["code"], entry["level"]) == ("Generate", "ok", "OK", "info")
    assert entry["completion_tokens"] == 6
    assert_usage(entry, usage, layers=4)
    assert re.fullmatch(r"ipv4:127\.0\.0\.1:\d+", entry["peer"])
    assert not {"status", "token", "trace_id", "prompt"} & set(entry)


def test_a_score(server, client):
    answer = client.call(
        "Score", request_id="scored", context="Hello", continuations=[dict(text=" you"), dict(text=" me")]
    )
    entry = entry_of(server, request_id="scored")
    assert (entry["rpc"], entry["outcome"]) == ("Score", "ok")
    assert_usage(entry, answer.usage, layers=4)


def test_an_id_of_the_servers_making_is_the_streams(server, client):
    stream = client.generate(prompt="x", sampling=SHORT)
    assert entry_of(server, request_id=stream.messages[0].request_id)["outcome"] == "ok"


def test_invalid_requests(server, client):
    assert code_of(client.stream(prompt="x", request_id="bad", sampling=dict(top_p=7))) == grpc.StatusCode.INVALID_ARGUMENT
    entry = entry_of(server, request_id="bad")
    assert (entry["outcome"], entry["code"]) == ("invalid", "INVALID_ARGUMENT")
    assert entry["status"].startswith("sampling.top_p: 7")
    before = len(requests(server))
    assert code_of(client.send("Generate", b"\xff\xff\xff")) == grpc.StatusCode.INVALID_ARGUMENT
    harness.eventually(lambda: len(requests(server)) == before + 1, "a line for bytes that are no request")
    assert requests(server)[-1]["request_id"] == ""
    with pytest.raises(grpc.RpcError):
        client.call("Score", request_id="bad score", context="x")
    assert entry_of(server, request_id="bad score")["outcome"] == "invalid"


def test_deadline_cancelled_and_rejected(server, client):
    late = client.stream(prompt="x", request_id="late", sampling=LONG, timeout=0.4)
    assert code_of(late) == grpc.StatusCode.DEADLINE_EXCEEDED
    entry = entry_of(server, request_id="late")
    assert (entry["outcome"], entry["code"]) == ("deadline", "DEADLINE_EXCEEDED")
    assert entry["completion_tokens"] > 0 and 0.3 < entry["duration_seconds"] < 5

    running = client.stream(prompt="x", request_id="left", sampling=LONG)
    next(running)
    waiting = client.stream(prompt="x", request_id="left waiting", sampling=LONG)
    harness.eventually(lambda: server.metrics().get("requests_waiting") == 1, "a waiting request")
    refused = client.stream(prompt="x", request_id="refused", sampling=LONG)
    assert code_of(refused) == grpc.StatusCode.RESOURCE_EXHAUSTED
    entry = entry_of(server, request_id="refused")
    assert (entry["outcome"], entry["code"]) == ("rejected", "RESOURCE_EXHAUSTED")
    assert "queue is full" in entry["status"]
    waiting.cancel()  # first: it would run once the other has gone
    assert entry_of(server, request_id="left waiting")["completion_tokens"] == 0
    running.cancel()
    assert entry_of(server, request_id="left")["outcome"] == "cancelled"


@pytest.mark.parametrize(
    "values, carried",
    [
        ([f"00-{TRACE}-{PARENT}-01"], True),
        ([f"00-{TRACE.upper()}-{PARENT}-01"], False),
        ([f"00-{'0' * 32}-{PARENT}-01"], False),
        ([f"00-{TRACE}-{PARENT}-01-more"], False),
        ([f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01"], False),
        (["nonsense"], False),
    ],
)
def test_a_trace_context_is_carried_where_it_is_one(server, client, values, carried):
    name = f"traced {values}"[:128]
    metadata = [("traceparent", value) for value in values]
    list(client.stream(prompt="x", request_id=name, sampling=SHORT, metadata=metadata))
    entry = entry_of(server, request_id=name)
    assert entry.get("trace_id") == (TRACE if carried else None)
    assert entry.get("parent_id") == (PARENT if carried else None)
    if carried:
        assert re.fullmatch("[0-9a-f]{16}", entry["span_id"]) and entry["span_id"] != PARENT


def test_hostile_ids_stay_values(server, client):
    client.generate(prompt="x", request_id=HOSTILE, sampling=SHORT)
    assert entry_of(server, request_id=HOSTILE)["outcome"] == "ok"


def test_every_request_is_logged_once(server, client):
    server.idle()
    names = ("ok", "cancelled", "deadline", "rejected", "invalid", "error")

    def counted():
        metrics = server.metrics()
        return {name: metrics.get("requests_total", outcome=name) for name in names}

    def logged():
        return {name: len([e for e in requests(server) if e["outcome"] == name]) for name in names}

    harness.eventually(lambda: counted() == logged(), "as many lines as requests")
    assert counted()["ok"] > 0
    assert server.metrics().get("log_lines_dropped_total") == 0


def test_every_line_of_a_whole_life_is_json(models):
    server = harness.Server(models["long"], "--log_format=json", "--log_level=debug", "--drain_timeout=200ms")
    with server, server.client() as client:
        stream = client.stream(prompt="x", request_id="cut off", sampling=LONG)
        next(stream)
        client.generate(prompt="secret words", sampling=SHORT)
        server.terminate()
        assert code_of(stream) == grpc.StatusCode.UNAVAILABLE
        assert server.wait() == 0
        assert entry_of(server, request_id="cut off")["outcome"] == "rejected"
        messages = [entry["message"] for entry in entries(server)]
        assert messages[-1] == "ended" and any("draining" in message for message in messages)
        assert "secret words" not in server.log()


def test_a_server_that_does_not_start_says_so_in_json(models):
    for flag in ("--listen=nowhere", "--auth_tokens_file=/no/such/file"):
        result = harness.run_server(f"--model={models['small']}", "--log_format=json", flag)
        assert result.returncode == 1
        entry = json.loads(result.stderr.splitlines()[-1])
        assert entry["level"] == "error" and flag.split("=")[0] in entry["message"]


def test_text_lines_hold_no_control_characters(models):
    with harness.Server(models["small"]) as server, server.client() as client:
        client.generate(prompt="secret words", request_id=HOSTILE, sampling=SHORT)
        assert code_of(client.stream(request_id=HOSTILE)) == grpc.StatusCode.INVALID_ARGUMENT
        harness.eventually(lambda: server.log().count(" request request_id=") == 2, "two lines")
        log = server.log()
        assert all(" " <= character <= "~" for line in log.splitlines() for character in line)
        assert all(re.match(r"\[[-0-9 :.]+\] \[adamoe_server\] \[\w+\] ", line) for line in log.splitlines())
        assert 'outcome=ok code=OK prompt_tokens=' in log and "outcome=invalid code=INVALID_ARGUMENT" in log
        assert "secret words" not in log


def test_prompts_are_logged_only_where_asked_for_and_cut(models):
    flags = ["--log_format=json", "--log_prompts"]
    with harness.Server(models["long"], *flags) as server, server.client() as client:
        client.generate(prompt="line\none ä", request_id="text", sampling=SHORT)
        assert entry_of(server, request_id="text")["prompt"] == "line\none ä"
        client.generate(prompt="ä" * 1500, request_id="long", sampling=SHORT)
        assert entry_of(server, request_id="long")["prompt"] == "ä" * 1024 + "..."
        client.generate(prompt_tokens=dict(ids=[5, 6]), request_id="ids", sampling=SHORT)
        assert entry_of(server, request_id="ids")["prompt"] == "[5, 6]"
        client.call("Score", context="ctx", continuations=[dict(text=" y")], request_id="score")
        assert entry_of(server, request_id="score")["prompt"] == "ctx"


def test_request_lines_can_be_turned_off(models):
    with harness.Server(models["small"], "--log_requests=false") as server, server.client() as client:
        client.generate(prompt="x", request_id="quiet", sampling=SHORT)
        server.terminate()
        server.wait()
        assert "quiet" not in server.log() and "ended" in server.log()


def test_a_log_that_nobody_reads_holds_nobody_up(models):
    flags = [
        f"--model={models['small']}", "--listen=127.0.0.1:0", "--metrics_listen=", "--threads=1", "--log_format=json",
        "--log_prompts",
    ]
    process = subprocess.Popen([harness.SERVER, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = re.search(r"listening on (\S+)", process.stdout.readline()).group(1)
    with harness.Client(address) as client:
        # More than a pipe holds: whoever writes to it now waits.
        for number in range(100):
            client.generate(prompt="x" * 1500, request_id=str(number), sampling=dict(max_tokens=1), timeout=10)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    found = [json.loads(line) for line in log.splitlines()]
    assert [e["request_id"] for e in found if e["message"] == "request"] == [str(n) for n in range(100)]
    assert found[-1]["message"] == "ended"
