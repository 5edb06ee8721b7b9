"""Triton's own client against the Open Inference Protocol: the answers are Generate's, and so are the counts."""

import json
import queue

import grpc
import harness
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

MODEL = "small"
SAMPLING = dict(max_tokens=24, temperature=1, seed=11, ignore_eos=True)
LONG = dict(max_tokens=1500, temperature=1, seed=1, ignore_eos=True)


@pytest.fixture(scope="module")
def client_of_triton(server):
    with triton.InferenceServerClient(server.address) as connected:
        yield connected


def tensor(name, value):
    datatype = "BOOL" if isinstance(value, bool) else "BYTES"
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], dtype=bool if datatype == "BOOL" else object))
    return made


def inputs(text, sampling=None, **flags):
    made = [tensor("text_input", text.encode())]
    if sampling is not None:
        made.append(tensor("sampling_parameters", json.dumps(sampling).encode()))
    return made + [tensor(name, value) for name, value in flags.items()]


def text_of(result):
    return result.as_numpy("text_output")[0].decode()


class Stream:
    """A stream of tritonclient; what it calls back with, in order."""

    def __init__(self, address, headers=None):
        self.client = triton.InferenceServerClient(address)
        self.arrived = queue.Queue()
        self.client.start_stream(lambda result, error: self.arrived.put((result, error)), headers=headers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stop_stream()
        self.client.close()

    def ask(self, text, sampling, request_id="", stream=True, **options):
        self.client.async_stream_infer(
            MODEL, inputs(text, sampling, stream=stream), request_id=request_id, **options
        )

    def take(self):
        return self.arrived.get(timeout=60)

    def until_final(self, count):
        """Texts by id, of `count` requests, and the order in which their responses came."""
        texts, order = {}, []
        while count > 0:
            result, error = self.take()
            assert error is None, error
            response = result.get_response()
            assert len(response.outputs) == len(response.raw_output_contents)
            texts[response.id] = texts.get(response.id, "") + text_of(result)
            order.append(response.id)
            count -= response.parameters["triton_final_response"].bool_param
        return texts, order


def test_it_says_what_it_is(server, client_of_triton):
    assert client_of_triton.is_server_live() and client_of_triton.is_server_ready()
    assert client_of_triton.is_model_ready(MODEL)
    assert not client_of_triton.is_model_ready("other")
    assert client_of_triton.get_server_metadata().name == "adamoe"
    metadata = client_of_triton.get_model_metadata(MODEL)
    config = client_of_triton.get_model_config(MODEL).config
    assert [i.name for i in metadata.inputs] == [i.name for i in config.input]
    assert config.model_transaction_policy.decoupled and config.max_batch_size == 0
    assert [i.name for i in config.input if not i.optional] == ["text_input"]


def test_infer_answers_as_generate_does(client, client_of_triton):
    expected = client.generate(prompt="Hello", sampling=SAMPLING)
    result = client_of_triton.infer(MODEL, inputs("Hello", SAMPLING), request_id="one")
    assert text_of(result) == "Hello" + expected.text
    assert result.get_response().id == "one"
    flags = dict.fromkeys(
        ("exclude_input_in_output", "return_finish_reason", "return_num_input_tokens",
         "return_num_output_tokens", "return_cumulative_logprob", "return_logprobs", "return_experts"), True
    )  # fmt: skip
    result = client_of_triton.infer(MODEL, inputs("Hello", dict(SAMPLING, logprobs="2"), **flags))
    assert text_of(result) == expected.text
    assert result.as_numpy("finish_reason")[0] == b"length"
    assert result.as_numpy("num_input_tokens")[0] == expected.usage.prompt_tokens
    assert result.as_numpy("num_output_tokens")[0] == 24
    assert list(result.as_numpy("experts")) == [token.experts for token in expected.tokens]
    logprobs = json.loads(result.as_numpy("logprobs")[0])
    chosen = [entry[str(token.id)]["logprob"] for entry, token in zip(logprobs, expected.tokens, strict=True)]
    assert result.as_numpy("cumulative_logprob")[0] == pytest.approx(sum(chosen), rel=1e-5)


def test_parameters_stand_in_for_the_tensor(client, client_of_triton):
    expected = client.generate(prompt="Hello", sampling=SAMPLING, compute=dict(max_experts_per_token=1))
    parameters = dict(SAMPLING, max_experts_per_token=1)
    result = client_of_triton.infer(MODEL, inputs("Hello"), parameters=parameters)
    assert text_of(result) == "Hello" + expected.text
    # Beside the tensor they still set the compute dial.
    result = client_of_triton.infer(MODEL, inputs("Hello", SAMPLING), parameters=dict(max_experts_per_token=1))
    assert text_of(result) == "Hello" + expected.text


def test_structured_outputs_are_followed(client_of_triton):
    form = json.dumps(dict(choice=["yes", "no"]))
    for seed in range(5):
        sampling = dict(max_tokens="20", seed=seed, structured_outputs=form)
        result = client_of_triton.infer(MODEL, inputs("Hello", sampling, exclude_input_in_output=True))
        assert text_of(result) in ("yes", "no")


def test_requests_of_a_stream_interleave_and_are_counted(server, client):
    prompts = {f"r{i}": "word " * (i + 1) for i in range(6)}
    expected = {
        name: client.generate(prompt=prompt, sampling=dict(SAMPLING, max_tokens=200))
        for name, prompt in prompts.items()
    }
    before = server.idle()
    with Stream(server.address) as stream:
        for name, prompt in prompts.items():
            stream.ask(prompt, dict(SAMPLING, max_tokens=200), name, enable_empty_final_response=True)
        texts, order = stream.until_final(len(prompts))
    assert texts == {name: generation.text for name, generation in expected.items()}
    assert len(set(order[: len(order) // 2])) > 1, "one after the other"
    after = server.idle()

    def grew(name, **labels):
        return after.sum(name, **labels) - before.sum(name, **labels)

    assert grew("requests_total", outcome="ok") == len(prompts)
    assert grew("generated_tokens_total") == 200 * len(prompts)
    prompt_tokens = sum(generation.usage.prompt_tokens for generation in expected.values())
    assert grew("prompt_tokens_total") == prompt_tokens


def test_a_failed_request_leaves_the_stream_open(server, client):
    with Stream(server.address) as stream:
        stream.ask("Hello", dict(max_tokens=0), "bad")
        result, error = stream.take()
        assert result is None and "max_tokens" in error.message()
        stream.ask("Hello", SAMPLING, "good")
        texts, _ = stream.until_final(1)
    assert texts == {"good": client.generate(prompt="Hello", sampling=SAMPLING).text}


def test_with_grpc_errors_the_stream_ends_with_the_status(server):
    with Stream(server.address, headers={"triton_grpc_error": "true"}) as stream:
        stream.ask("Hello", dict(max_tokens=0), "bad")
        result, error = stream.take()
        assert result is None and error.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_cancelled_stream_gives_everything_back(server):
    before = server.idle()
    stream = Stream(server.address)
    for number in range(4):
        stream.ask("Hello", LONG, str(number))
    assert stream.take()[1] is None

    def all_have_come():
        metrics = server.metrics()
        return metrics.get("requests_running") + metrics.get("requests_waiting") == 4

    harness.eventually(all_have_come, "four requests")
    stream.client.stop_stream(cancel_requests=True)
    stream.client.close()
    after = server.idle()
    assert after.sum("requests_total", outcome="cancelled") - before.sum("requests_total", outcome="cancelled") == 4


def test_a_thousand_requests_on_a_stream(models):
    with harness.Server(models[MODEL], "--max_queued_requests=256") as server, Stream(server.address) as stream:
        for number in range(1000):
            stream.ask(f"number {number}", dict(max_tokens=2, temperature=0), str(number), stream=False)
        texts, _ = stream.until_final(1000)
    assert texts.keys() == {str(number) for number in range(1000)}
    assert all(text.startswith(f"number {name}") for name, text in texts.items())


@pytest.mark.parametrize(
    "sampling, named",
    [
        (dict(max_tokens=0), "max_tokens"),
        (dict(max_tokens="many"), "max_tokens"),
        (dict(temperature=-1), "temperature"),
        (dict(n=2), "sampling_parameters.n"),
        (dict(lora_name="x"), "lora_name"),
        (dict(nonsense=1), "nonsense"),
    ],
)
def test_bad_parameters_are_named(client_of_triton, sampling, named):
    with pytest.raises(InferenceServerException, match=named) as caught:
        client_of_triton.infer(MODEL, inputs("Hello", sampling))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_tokens_are_wanted_but_for_readiness(models, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("alice secret-of-alice-0123456789\n")
    tokens.chmod(0o600)
    with harness.Server(models[MODEL], f"--auth_tokens_file={tokens}") as server:
        with triton.InferenceServerClient(server.address) as stranger:
            assert stranger.is_server_live() and stranger.is_server_ready()
            for call in (
                lambda: stranger.get_model_metadata(MODEL),
                lambda: stranger.infer(MODEL, inputs("Hello", SAMPLING)),
            ):
                with pytest.raises(InferenceServerException) as caught:
                    call()
                assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
            headers = {"authorization": "Bearer secret-of-alice-0123456789"}
            assert text_of(stranger.infer(MODEL, inputs("Hello", SAMPLING), headers=headers))
        with Stream(server.address) as stream:
            _, error = stream.take()
            assert error.status() == "StatusCode.UNAUTHENTICATED"
        with Stream(server.address, headers=headers) as stream:
            stream.ask("Hello", SAMPLING)
            stream.until_final(1)


def test_reflection_and_health_know_it(server, client):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    names = ProtoReflectionDescriptorDatabase(client.channel).get_services()
    for name in ("inference.GRPCInferenceService", "vllm.grpc.engine.VllmEngine"):
        assert name in names
        answer = health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError):
        health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(service="inference.Other"))
