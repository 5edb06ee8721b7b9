"""The stubs that gateways are built with against VllmEngine: the tokens are Generate's, and so are the counts."""

import collections
import hashlib
import io
import json
import zipfile

import grpc
import harness
import pytest
import tokenizers
from smg_grpc_proto import vllm_engine_pb2 as pb
from smg_grpc_proto import vllm_engine_pb2_grpc
from smg_grpc_proto.generated import common_pb2

IDS = [5, 6, 7, 8, 9, 10]
# As a gateway sends it.
PARAMS = dict(max_tokens=24, temperature=1, seed=11, ignore_eos=True, skip_special_tokens=True)


@pytest.fixture(scope="module")
def engine(server):
    with harness.connect(server.address) as channel:
        yield vllm_engine_pb2_grpc.VllmEngineStub(channel)


def request(request_id="", stream=True, ids=IDS, **params):
    return pb.GenerateRequest(
        request_id=request_id,
        tokenized=pb.TokenizedInput(original_text="x", input_ids=ids),
        sampling_params=pb.SamplingParams(**params),
        stream=stream,
    )


def generate(client, **sampling):
    return client.generate(prompt_tokens=dict(ids=IDS), sampling=sampling)


class Answer:
    """A stream read to its end, as a gateway reads it: text from chunks, the rest from the completes."""

    def __init__(self, messages):
        self.ids = collections.defaultdict(list)
        self.chunks, self.completes = [], {}
        for message in messages:
            if message.HasField("chunk"):
                assert message.chunk.completion_tokens == len(message.chunk.token_ids)
                self.ids[message.chunk.index] += message.chunk.token_ids
                self.chunks.append(message.chunk)
            else:
                assert message.complete.index not in self.completes
                self.completes[message.complete.index] = message.complete


def test_chunks_hold_what_generate_makes(server, client, engine):
    expected = generate(client, max_tokens=24, temperature=1, seed=11, ignore_eos=True)
    before = server.idle()
    answer = Answer(engine.Generate(request(**PARAMS), timeout=60))
    after = server.idle()
    assert answer.ids == {0: expected.ids}
    complete = answer.completes[0]
    assert list(complete.output_ids) == expected.ids
    assert complete.finish_reason == "length"
    assert (complete.prompt_tokens, complete.completion_tokens) == (len(IDS), 24)
    assert after.sum("requests_total", outcome="ok") - before.sum("requests_total", outcome="ok") == 1
    assert after.sum("generated_tokens_total") - before.sum("generated_tokens_total") == 24
    whole = Answer(engine.Generate(request(stream=False, **PARAMS), timeout=60))
    assert not whole.chunks and list(whole.completes[0].output_ids) == expected.ids


def test_text_goes_too_and_so_does_a_schema(engine):
    schema = json.dumps(dict(type="object", properties=dict(a=dict(type="integer")), required=["a"]))
    params = pb.SamplingParams(max_tokens=200, temperature=1, seed=2, json_schema=schema)
    answer = Answer(engine.Generate(pb.GenerateRequest(text="Hello", sampling_params=params, stream=True), timeout=60))
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer_files(engine)["tokenizer.json"].decode())
    assert set(json.loads(tokenizer.decode(answer.ids[0]))) >= {"a"} or answer.completes[0].finish_reason == "length"


def test_samples_are_seeded_one_after_the_other(client, engine):
    answer = Answer(engine.Generate(request(**PARAMS, n=4), timeout=60))
    for index in range(4):
        expected = generate(client, max_tokens=24, temperature=1, seed=11 + index, ignore_eos=True)
        assert answer.ids[index] == expected.ids
        assert list(answer.completes[index].output_ids) == expected.ids


def test_logprobs_are_those_of_generate(client, engine):
    expected = client.generate(
        prompt_tokens=dict(ids=IDS), sampling=dict(max_tokens=5, temperature=0, ignore_eos=True), logprobs=3, prompt_logprobs=True
    )
    params = dict(max_tokens=5, temperature=0, ignore_eos=True, logprobs=3, prompt_logprobs=0)
    chunks = Answer(engine.Generate(request(**params), timeout=60)).chunks
    logprobs = [p for chunk in chunks for p in chunk.output_logprobs.token_logprobs]
    tops = [list(top.token_ids) for chunk in chunks for top in chunk.output_logprobs.top_logprobs]
    assert logprobs == [token.logprob for token in expected.tokens]
    assert tops == [[top.id for top in token.top_logprobs] for token in expected.tokens]
    prompt = [p for chunk in chunks for p in chunk.input_logprobs.token_logprobs]
    assert len(prompt) == len(IDS) and not prompt[0].HasField("value")
    assert [p.value for p in prompt[1:]] == [token.logprob for token in expected.prompt[1:]]


def test_stops_are_told(client, engine):
    expected = generate(client, max_tokens=24, temperature=0, ignore_eos=True)
    stop = expected.ids[7]
    answer = Answer(engine.Generate(request(max_tokens=24, temperature=0, ignore_eos=True, stop_token_ids=[stop]), timeout=60))
    complete = answer.completes[0]
    assert complete.finish_reason == "stop" and complete.matched_token_id == stop
    assert list(complete.output_ids) == expected.ids[: expected.ids.index(stop) + 1]


def test_abort_ends_a_request_which_says_so(server, engine):
    before = server.idle()
    stream = engine.Generate(request("mine", max_tokens=1800, temperature=1, ignore_eos=True), timeout=60)
    next(stream)
    engine.Abort(pb.AbortRequest(request_ids=["not this one", "mine"]), timeout=10)
    answer = Answer(stream)
    assert answer.completes[0].finish_reason == "abort"
    after = server.idle()
    assert after.sum("requests_total", outcome="cancelled") - before.sum("requests_total", outcome="cancelled") == 1


@pytest.mark.parametrize(
    "named, params",
    [
        ("sampling_params.n", dict(n=1000)),
        ("sampling_params.logprobs", dict(logprobs=-1)),
        ("sampling_params.truncate_prompt_tokens", dict(truncate_prompt_tokens=4)),
        ("sampling_params.structural_tag", dict(structural_tag="{}")),
        ("max_tokens", dict(max_tokens=0)),
        ("temperature", dict(temperature=-1)),
    ],
)
def test_what_cannot_be_done_is_named(engine, named, params):
    with pytest.raises(grpc.RpcError) as caught:
        list(engine.Generate(request(**params), timeout=60))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and named in caught.value.details()


def tokenizer_files(engine):
    chunks = list(engine.GetTokenizer(common_pb2.GetTokenizerRequest(), timeout=60))
    data = b"".join(chunk.data for chunk in chunks)
    assert [chunk.sha256 for chunk in chunks] == [""] * (len(chunks) - 1) + [hashlib.sha256(data).hexdigest()]
    assert all(len(chunk.data) <= 65536 for chunk in chunks)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_tokenizer_comes_as_it_lies_in_the_folder(models, server, engine):
    files = tokenizer_files(engine)
    assert {"tokenizer.json", "config.json"} <= files.keys()
    assert all((models["small"] / name).read_bytes() == data for name, data in files.items())


def test_model_server_and_loads(models, server, engine):
    assert engine.HealthCheck(pb.HealthCheckRequest(), timeout=10).healthy
    model = engine.GetModelInfo(pb.GetModelInfoRequest(), timeout=10)
    assert model.model_path == str(models["small"]) and model.served_model_name == "small"
    assert (model.vocab_size, model.max_context_length, model.is_generation) == (400, 2048, True)
    info = engine.GetServerInfo(pb.GetServerInfoRequest(), timeout=10)
    assert info.uptime_seconds > 0 and info.block_size > 0 and info.max_num_seqs > 0
    stream = engine.Generate(request("busy", max_tokens=1800, temperature=1, ignore_eos=True), timeout=60)
    next(stream)
    load = harness.eventually(
        lambda: [x for x in engine.GetLoads(pb.GetLoadsRequest(), timeout=10).loads if x.num_running_reqs], "a load"
    )[0]
    assert 0 < load.token_usage <= 1 and 0 < load.num_used_tokens <= load.max_total_num_tokens
    stream.cancel()
    server.idle()


@pytest.mark.parametrize("method, message", [("Embed", pb.EmbedRequest()), ("SubscribeKvEvents", common_pb2.SubscribeKvEventsRequest())])
def test_what_is_not_served_says_so(engine, method, message):
    with pytest.raises(grpc.RpcError) as caught:
        answer = getattr(engine, method)(message, timeout=10)
        list(answer if method != "Embed" else [])
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED and method in caught.value.details()


def test_only_its_own_token_aborts_a_request(models, tmp_path):
    secrets = {name: f"secret-of-{name}-0123456789" for name in ("alice", "bob")}
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(f"{name} {secret}\n" for name, secret in secrets.items()))
    tokens.chmod(0o600)
    with harness.Server(models["small"], f"--auth_tokens_file={tokens}") as server:
        with harness.connect(server.address) as channel:
            stranger = vllm_engine_pb2_grpc.VllmEngineStub(channel)
            assert stranger.HealthCheck(pb.HealthCheckRequest(), timeout=10).healthy
            with pytest.raises(grpc.RpcError) as caught:
                list(stranger.Generate(request(**PARAMS), timeout=10))
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        alice, bob = (
            vllm_engine_pb2_grpc.VllmEngineStub(harness.connect(server.address, token=secrets[name]))
            for name in ("alice", "bob")
        )
        stream = alice.Generate(request("mine", max_tokens=1800, temperature=1, ignore_eos=True), timeout=60)
        next(stream)
        bob.Abort(pb.AbortRequest(request_ids=["mine"]), timeout=10)
        next(stream)
        assert server.metrics().sum("requests_total", outcome="cancelled") == 0
        alice.Abort(pb.AbortRequest(request_ids=["mine"]), timeout=10)
        assert Answer(stream).completes[0].finish_reason == "abort"
