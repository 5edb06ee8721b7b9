"""adamoe_client and adamoe_bench against a real server, and stubs as protoc makes them."""

import gzip
import json
import os
import pty
import re
import subprocess
import sys

import grpc
import harness
import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
SAMPLING = ["--max_tokens=12", "--temperature=0", "--ignore_eos"]


def run(binary, server, *arguments, status=0, stdin="", environment=None):
    result = subprocess.run(
        [binary, f"--target={server.address}", *arguments],
        input=stdin, capture_output=True, text=True, timeout=60, env={**os.environ, "no_proxy": "*", **(environment or {})},
    )
    assert result.returncode == status, (result.returncode, result.stdout, result.stderr)
    return result.stdout if status == 0 else result.stderr


def ask(server, *arguments, **options):
    return run(harness.CLIENT, server, *arguments, **options)


def test_generate_prints_the_text_and_a_line_of_usage(server, client):
    expected = client.generate(prompt="Hello", sampling=dict(max_tokens=12, temperature=0, ignore_eos=True))
    output = ask(server, "generate", *SAMPLING, "Hello")
    assert output.startswith(expected.text)
    usage = output.splitlines()[-1]
    assert f"{expected.usage.prompt_tokens} prompt tokens" in usage and "12 tokens in" in usage and "tok/s" in usage
    saved = 100 * (1 - expected.usage.executed_expert_flops / expected.usage.baseline_expert_flops)
    fresh = ask(server, "generate", *SAMPLING, "--prompt_logprobs", "Hello").splitlines()[-1]
    assert f"{saved:.1f} % of expert FLOPs saved against the baseline" in fresh


def test_a_prompt_may_come_from_standard_input(server):
    by_argument = ask(server, "generate", *SAMPLING, "two\nlines")
    by_input = ask(server, "generate", *SAMPLING, stdin="two\nlines\n")
    assert by_argument.splitlines()[:-1] == by_input.splitlines()[:-1]


def test_colours_paint_the_same_text(server):
    plain = ask(server, "generate", *SAMPLING, "Hello")
    painted = ask(server, "generate", *SAMPLING, "--show_experts", "--color=always", "Hello")
    legend, rest = painted.split("\n", 1)
    assert len(set(re.findall(r"38;5;(\d+)m", legend))) > 5
    assert "experts per token and layer" in legend
    assert len(re.findall(r"\x1b\[38;5;\d+m", rest)) >= 10, rest
    assert ESCAPES.sub("", rest).rsplit("\n", 2)[0] == plain.rsplit("\n", 2)[0]


def test_without_a_terminal_or_with_no_color_there_are_no_escapes(server):
    output = ask(server, "generate", *SAMPLING, "--show_experts", "Hello")
    assert "\x1b" not in output
    assert len(re.findall(r"\[\d\.\d\d\]", output)) >= 10
    assert "\x1b" not in at_terminal(server, "generate", *SAMPLING, "--show_experts", "Hi", environment={"NO_COLOR": "1"})


def at_terminal(server, *arguments, typed="", environment=None):
    """The client's output at a pseudo-terminal."""
    controller, terminal = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [harness.CLIENT, f"--target={server.address}", *arguments],
        stdin=terminal, stdout=terminal, stderr=terminal,
        env={**variables, "TERM": "xterm", "no_proxy": "*", **(environment or {})},
    )
    os.close(terminal)
    os.write(controller, typed.encode())
    output = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # the client has closed its end
            break
        if not chunk:
            break
        output += chunk
    os.close(controller)
    assert process.wait(timeout=60) == 0, output
    return output.decode(errors="replace")


def test_a_terminal_gets_colours(server):
    assert re.search(r"\x1b\[38;5;\d+m", at_terminal(server, "generate", *SAMPLING, "--show_experts", "Hi"))


def test_a_conversation_remembers(server):
    output = at_terminal(server, "chat", *SAMPLING, "--system=Be brief.", typed="Hi\nWho are you?\n\x04")
    prompts = [int(count) for count in re.findall(r"(\d+) prompt tokens", output)]
    assert len(prompts) == 2
    assert prompts[1] > prompts[0] + 12, "the second turn did not hold the first"


def test_chat_answers_one_message(server, client):
    expected = client.generate(
        messages=dict(messages=[dict(role="user", content="Hi")]),
        sampling=dict(max_tokens=12, temperature=0, ignore_eos=True),
    )
    assert ask(server, "chat", *SAMPLING, "Hi").startswith(expected.text)
    assert ask(server, "chat", *SAMPLING, stdin="Hi\n").startswith(expected.text)


def test_json_is_one_object_per_message(server, client):
    lines = ask(server, "--json", "generate", *SAMPLING, "--experts_per_layer", "Hello").splitlines()
    messages = [json.loads(line) for line in lines]
    tokens = [token for message in messages for token in message["tokens"]]
    assert len(tokens) == 12
    assert all(sum(token["experts_per_layer"]) == token["experts"] for token in tokens)
    assert messages[-1]["finish"]["reason"] == "LENGTH"
    assert messages[-1]["finish"]["usage"]["completion_tokens"] == 12
    info = json.loads(ask(server, "--json", "info"))
    assert info["vocab_size"] == client.call("GetModelInfo").vocab_size


def test_flags_reach_the_server(server):
    biased = ask(server, "--json", "generate", *SAMPLING, "--logit_bias=77:100", "--logprobs=2", "Hello")
    tokens = [token for line in biased.splitlines() for token in json.loads(line)["tokens"]]
    assert {token["id"] for token in tokens} == {77}
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    none = ask(server, "--json", "generate", *SAMPLING, "--null_bias=1000", "Hello")
    assert all(token["experts"] == 0 for line in none.splitlines() for token in json.loads(line)["tokens"])
    by_ids = ask(server, "--json", "generate", *SAMPLING, "--prompt_tokens=1,5,6")
    assert json.loads(by_ids.splitlines()[-1])["finish"]["usage"]["prompt_tokens"] == 3


def test_stop_may_be_repeated(server, client):
    text = client.generate(prompt="Hello", sampling=dict(max_tokens=12, temperature=0, ignore_eos=True)).text
    stop = text[4]
    escaped = stop.replace("\\", "\\\\").replace(",", "\\,").replace("\n", "\\n")
    output = ask(server, "--json", "generate", *SAMPLING, f"--stop={escaped}", "--stop=never\\, ever", "Hello")
    messages = [json.loads(line) for line in output.splitlines()]
    assert messages[-1]["finish"]["reason"] == "STOP_SEQUENCE"
    assert "".join(message["text"] for message in messages) == text[: text.index(stop)]


def test_logprobs_are_printed(server):
    output = ask(server, "generate", *SAMPLING, "--logprobs=1", "--prompt_logprobs", "Hello")
    assert "log-probabilities of the prompt:" in output
    after = output.split("log-probabilities of the output:")[1]
    assert len(re.findall(r"^ +-\d+\.\d{4}  \"", after, re.MULTILINE)) == 12


def test_score_tokenize_detokenize_info_and_load(server, client):
    table = ask(server, "score", "the cat", " sat", " flew")
    assert " sat" in table.splitlines()[1] and " flew" in table.splitlines()[2]
    assert "prompt tokens" in table.splitlines()[-1]
    ids = ask(server, "tokenize", "Hello, wörld").split()
    assert [int(i) for i in ids] == list(client.call("Tokenize", text="Hello, wörld").ids)
    assert ask(server, "detokenize", *ids) == "Hello, wörld\n"
    assert ask(server, "detokenize", stdin=" ".join(ids)) == "Hello, wörld\n"
    assert ask(server, "tokenize", "--add_special_tokens=false", "Hello, wörld").split() == ids[1:]
    assert re.search(r"^num_null_experts +4$", ask(server, "info"), re.MULTILINE)
    assert re.search(r"^kv_blocks_total +[1-9]\d*$", ask(server, "load"), re.MULTILINE)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["generate", "--top_p=7", "x"], "INVALID_ARGUMENT: sampling.top_p"),
        (["generate", "--max_tokens=3", "--min_tokens=4", "x"], "field sampling.min_tokens"),
        (["detokenize", "999999"], "INVALID_ARGUMENT"),
        (["generate", "--timeout=1ms", "--max_tokens=1000", "--ignore_eos", "x"], "DEADLINE_EXCEEDED"),
        (["--target=127.0.0.1:1", "info"], "UNAVAILABLE"),
        (["--color=red", "info"], "--color"),
        (["--timeout=-1s", "info"], "--timeout"),
        (["dance"], "unknown command 'dance'"),
    ],
)
def test_errors_are_one_clear_line(server, arguments, message):
    errors = ask(server, *arguments, status=1)
    assert errors.startswith("adamoe_client: ") and message in errors
    assert len(errors.splitlines()) == 1


def test_help_explains_itself():
    for binary in (harness.CLIENT, harness.BENCH):
        result = subprocess.run([binary, "--help"], capture_output=True, text=True, timeout=30)
        assert result.returncode == 0 and "--target=127.0.0.1:50051" in result.stdout
        assert str(harness.SOURCE) not in result.stdout


def bench(server, tmp_path, *arguments):
    report = tmp_path / "report.json"
    table = run(harness.BENCH, server, f"--json={report}", *arguments)
    return json.loads(report.read_text()), table


def test_closed_loop_counts_what_the_server_counts(server, tmp_path):
    before = server.idle()
    report, table = bench(
        server, tmp_path, "--concurrency=8", "--requests=40", "--prompt_tokens=20", "--output_tokens=10"
    )
    after = server.idle()
    assert report["requests_ok"] == 40 and report["requests_failed"] == {}
    assert report["output_tokens"] == 400 and report["prompt_tokens"] == 800
    assert after.get("generated_tokens_total") - before.get("generated_tokens_total") == 400
    for name in ("time_to_first_token_seconds", "inter_token_latency_seconds", "request_duration_seconds"):
        times = report[name]
        assert 0 <= times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
    assert 0 < report["experts_per_token"] <= 3
    delta = {
        name: after.sum(f"expert_flops_{name}_total") - before.sum(f"expert_flops_{name}_total")
        for name in ("executed", "baseline")
    }
    assert report["expert_flops_saved_ratio"] == pytest.approx(1 - delta["executed"] / delta["baseline"])
    assert "40 ok" in table and "saved against the baseline" in table


def test_open_loops_send_at_their_times(server, tmp_path):
    report, _ = bench(
        server, tmp_path, "--rate=100", "--duration=1s", "--requests=0", "--prompt_tokens=5", "--output_tokens=3"
    )
    assert 60 < report["requests_ok"] < 150 and report["requests_failed"] == {}
    trace = tmp_path / "trace.csv.gz"
    with gzip.open(trace, "wt") as out:
        out.write("time,prompt,output\n0,5,3\n0.1,700,2\n0.6,9,10\n")
    report, _ = bench(server, tmp_path, f"--trace={trace}")
    assert report["requests_ok"] == 3 and report["prompt_tokens"] == 714 and report["output_tokens"] == 15
    assert report["duration_seconds"] > 0.6


def test_failures_are_reported_by_code(server, tmp_path):
    result = subprocess.run(
        [harness.BENCH, f"--target={server.address}", "--requests=5", "--prompt_tokens=5000"],
        capture_output=True, text=True, timeout=60,
    )
    assert result.returncode == 1
    assert "0 ok, 5 INVALID_ARGUMENT" in result.stdout and "prompt_tokens" in result.stdout
    assert "no request ended well" in result.stderr
    missing = run(harness.BENCH, server, f"--trace={tmp_path / 'missing.csv'}", status=1)
    assert "missing.csv" in missing


def test_the_stall_probe_measures_running_streams(server, tmp_path):
    report, table = bench(
        server, tmp_path, "--stall_probe", "--concurrency=4", "--prompt_tokens=8", "--probe_prompt_tokens=2000",
        "--probe_interval=500ms", "--probes=2",
    )
    assert report["gaps_before"] > 100 and report["gaps_during"] > 4
    assert report["during_seconds"]["max"] <= report["probe_first_token_seconds"]["max"] * 1.5
    assert report["ratio"]["p99"] == pytest.approx(report["during_seconds"]["p99"] / report["before_seconds"]["p99"])
    assert "during / before" in table
    server.idle()


def test_stubs_as_protoc_makes_them(server, tmp_path):
    plugin = subprocess.run(["which", "grpc_python_plugin"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(
        [
            "protoc", f"-I{harness.SOURCE / 'proto'}", f"--python_out={tmp_path}", f"--grpc_out={tmp_path}",
            f"--plugin=protoc-gen-grpc={plugin}", "adamoe/v1/inference.proto",
        ],
        check=True,
    )
    sys.path.insert(0, str(tmp_path))
    try:
        from adamoe.v1 import inference_pb2, inference_pb2_grpc
    finally:
        sys.path.remove(str(tmp_path))
    with grpc.insecure_channel(server.address, options=harness.CHANNEL_OPTIONS) as channel:
        stub = inference_pb2_grpc.InferenceStub(channel)
        request = inference_pb2.GenerateRequest(
            prompt="Hello", sampling=inference_pb2.Sampling(max_tokens=5, temperature=0, ignore_eos=True)
        )
        messages = list(stub.Generate(request))
        assert sum(len(message.tokens) for message in messages) == 5
        assert messages[-1].finish.reason == inference_pb2.LENGTH
        ids = stub.Tokenize(inference_pb2.TokenizeRequest(text="Hello")).ids
        assert stub.Detokenize(inference_pb2.DetokenizeRequest(ids=ids)).text == "Hello"
        assert stub.GetModelInfo(inference_pb2.GetModelInfoRequest()).num_layers == 2
        assert stub.GetLoad(inference_pb2.GetLoadRequest()).kv_blocks_total > 0
        scores = stub.Score(
            inference_pb2.ScoreRequest(context="a", continuations=[inference_pb2.Continuation(text=" b c")])
        ).scores
        assert scores[0].num_tokens >= 1 and scores[0].logprob < 0
