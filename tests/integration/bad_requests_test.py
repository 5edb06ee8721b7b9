"""Every limit of inference.proto is kept, with an error that names the field; nothing a client sends harms the server."""

import math
import random

import grpc
import harness
import pytest

P = dict(prompt="x")
NAN = math.nan


def sampling(**fields):
    return dict(prompt="x", sampling=fields)


GENERATE = [
    ("input", {}),
    ("prompt_tokens", dict(prompt_tokens=dict(ids=[]))),
    ("prompt_tokens.ids[1]", dict(prompt_tokens=dict(ids=[5, 400]))),
    ("prompt_tokens.ids[0]", dict(prompt_tokens=dict(ids=[4294967295]))),
    ("prompt_tokens", dict(prompt_tokens=dict(ids=[5] * 2048))),
    ("prompt", dict(prompt="x " * 3000)),
    ("messages", dict(messages=dict(messages=[]))),
    ("messages", dict(messages=dict(messages=[dict(role="wizard", content="x")]))),
    ("messages", dict(messages=dict(messages=[dict(role="assistant", content="x")]))),
    ("messages", dict(messages=dict(messages=[dict(role="user", content="x")] * 2))),
    ("request_id", dict(**P, request_id="i" * 129)),
    ("sampling.max_tokens", sampling(max_tokens=0)),
    ("sampling.max_tokens", sampling(max_tokens=4294967295)),
    ("sampling.min_tokens", sampling(max_tokens=3, min_tokens=4)),
    *[("sampling.temperature", sampling(temperature=t)) for t in (-0.1, 100.5, NAN, math.inf)],
    *[("sampling.top_p", sampling(top_p=p)) for p in (0, -1, 1.01, NAN)],
    *[("sampling.min_p", sampling(min_p=p)) for p in (-0.01, 1.01, NAN)],
    *[("sampling.repetition_penalty", sampling(repetition_penalty=p)) for p in (0, -1, 101, NAN)],
    *[("sampling.presence_penalty", sampling(presence_penalty=p)) for p in (-2.1, 2.1, NAN)],
    *[("sampling.frequency_penalty", sampling(frequency_penalty=p)) for p in (-2.1, 2.1, NAN)],
    ("sampling.stop", sampling(stop=["s"] * 17)),
    ("sampling.stop[1]", sampling(stop=["s", ""])),
    ("sampling.stop[0]", sampling(stop=["s" * 257])),
    ("sampling.stop_token_ids", sampling(stop_token_ids=[3] * 65)),
    ("sampling.stop_token_ids[0]", sampling(stop_token_ids=[400])),
    ("sampling.logit_bias", sampling(logit_bias={i: 1 for i in range(1025)})),
    ("sampling.logit_bias[400]", sampling(logit_bias={400: 1})),
    *[("sampling.logit_bias[5]", sampling(logit_bias={5: b})) for b in (-100.5, 100.5, NAN)],
    ("logprobs", dict(**P, logprobs=21)),
    *[("compute.null_bias", dict(**P, compute=dict(null_bias=b))) for b in (-1000.5, 1000.5, NAN)],
    ("compute.max_experts_per_token", dict(**P, compute=dict(max_experts_per_token=0))),
]

ONE = [dict(text="y")]
SCORE = [
    ("input", dict(continuations=ONE)),
    ("context_tokens", dict(context_tokens=dict(ids=[]), continuations=[dict(tokens=dict(ids=[5]))])),
    ("context_tokens.ids[0]", dict(context_tokens=dict(ids=[400]), continuations=[dict(tokens=dict(ids=[5]))])),
    ("continuations", dict(context="x")),
    ("continuations", dict(context="x", continuations=ONE * 1025)),
    ("continuations[0]", dict(context="x", continuations=[{}])),
    ("continuations[1]", dict(context="x", continuations=[*ONE, dict(text="")])),
    ("continuations[0]", dict(context="x", continuations=[dict(tokens=dict(ids=[]))])),
    ("continuations[0].tokens.ids[1]", dict(context="x", continuations=[dict(tokens=dict(ids=[5, 400]))])),
    ("continuations[0].text", dict(context_tokens=dict(ids=[5]), continuations=ONE)),
    ("continuations[0]", dict(context="x", continuations=[dict(tokens=dict(ids=[5] * 2048))])),
    ("compute.null_bias", dict(context="x", continuations=ONE, compute=dict(null_bias=NAN))),
    ("compute.max_experts_per_token", dict(context="x", continuations=ONE, compute=dict(max_experts_per_token=0))),
    ("request_id", dict(context="x", continuations=ONE, request_id="i" * 129)),
]


def error_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        list(call()) if callable(call) else list(call)
    return caught.value


def assert_names(error, field):
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    assert field in error.details()
    bad = harness.detail(error, "BadRequest")
    assert bad is not None, "no BadRequest detail"
    assert [violation.field for violation in bad.field_violations] == [field]
    assert bad.field_violations[0].description


@pytest.mark.parametrize("field, fields", GENERATE, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_generate_names_its_field(client, field, fields):
    assert_names(error_of(client.stream(**fields)), field)


@pytest.mark.parametrize("field, fields", SCORE, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_score_names_its_field(client, field, fields):
    assert_names(error_of(lambda: [client.call("Score", **fields)]), field)


def test_bad_ids_to_detokenize_name_their_field(client):
    error = error_of(lambda: [client.call("Detokenize", ids=[5, 4000000000])])
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ids" in harness.detail(error, "BadRequest").field_violations[0].field


def test_values_at_their_limits_are_accepted(client):
    edge = dict(
        max_tokens=2, min_tokens=2, temperature=100, top_k=4294967295, top_p=1, min_p=1, repetition_penalty=100,
        presence_penalty=2, frequency_penalty=-2, seed=2**64 - 1, stop=["s" * 256] * 16, stop_token_ids=[399] * 64,
        logit_bias={i % 400: -100 for i in range(400)},
    )
    result = client.generate(
        prompt="x", sampling=edge, logprobs=20, request_id="i" * 128, priority=-(2**31),
        compute=dict(null_bias=-1000, max_experts_per_token=4294967295),
    )
    assert len(result.tokens) == 2
    assert len(result.tokens[0].top_logprobs) == 20
    longest = client.generate(prompt_tokens=dict(ids=[5] * 2047), sampling=dict(max_tokens=1))
    assert longest.usage.prompt_tokens == 2047


# Field 2 of every request but Detokenize is not a message; field 1 is a string. Tag, length, bytes.
def string_field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


BAD_BYTES = [
    ("Generate", string_field(2, b"caf\xe9"), "prompt"),
    ("Generate", string_field(1, b"\xff\xfe"), "request_id"),
    ("Generate", string_field(4, string_field(1, string_field(2, b"\xc3"))), "content"),
    ("Generate", string_field(5, string_field(11, b"\xed\xa0\x80")), "stop"),
    ("Score", string_field(1, b"\x80"), "context"),
    ("Tokenize", string_field(1, b"\xf8\x88\x80\x80\x80"), "text"),
]


@pytest.mark.parametrize("method, data, field", BAD_BYTES)
def test_invalid_utf8_names_its_field(client, method, data, field):
    error = error_of(lambda: client.send(method, data) if method == "Generate" else [client.send(method, data)])
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    assert field in error.details()


@pytest.mark.parametrize("method", ["Generate", "Score", "Tokenize", "Detokenize"])
@pytest.mark.parametrize(
    "data", [b"\xff", b"\x12\x05ab", b"\x0a", b"\x07", b"\x12\xff\xff\xff\xff\x0f", b"\x0b\x0b\x0b" * 200]
)
def test_malformed_bytes_are_an_invalid_argument(client, method, data):
    error = error_of(lambda: client.send(method, data) if method == "Generate" else [client.send(method, data)])
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error


def test_random_bytes_never_harm_the_server(client):
    rng = random.Random(11)
    whole = client.request("Generate", **sampling(max_tokens=2, stop=["a"], logit_bias={5: 1})).SerializeToString()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            list(client.send("Generate", bytes(data[: rng.randint(1, len(data))]), timeout=10))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, (bytes(data), error)
    assert client.generate(**sampling(max_tokens=2)).usage.completion_tokens == 2


def test_a_message_over_the_size_limit_is_refused(client):
    error = error_of(client.stream(prompt="x" * (64 << 20)))
    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
    assert client.generate(**sampling(max_tokens=2)).usage.completion_tokens == 2


def test_invalid_requests_are_counted_and_leave_nothing_behind(server, client):
    before = server.metrics().get("requests_total", outcome="invalid")
    error_of(client.stream(**sampling(top_p=7)))
    error_of(client.send("Generate", b"\xff"))
    error_of(lambda: [client.call("Score", context="x")])
    assert server.idle().get("requests_total", outcome="invalid") == before + 3
