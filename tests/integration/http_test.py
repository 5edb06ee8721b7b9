"""OpenAI's own client against the HTTP front end, beside gRPC in the same server."""

import json
import math
import re
import socket
import ssl
import threading
import time

import certificates
import grpc
import harness
import httpx2
import jsonschema
import openai
import pytest

DEMO = harness.SOURCE / "deploy" / "demo_model"
PROMPT = "Once upon a time there was a little fox. "
GREEDY = dict(temperature=0, max_tokens=24)


def connect(server, url=None):
    """OpenAI's client; no proxy of the environment, no retries."""
    return openai.OpenAI(
        base_url=(url or server.http_url()) + "/v1", api_key="none", max_retries=0,
        http_client=httpx2.Client(trust_env=False, timeout=60),
    )


def counted(before, after, name, **labels):
    return after.sum(name, **labels) - before.sum(name, **labels)


@pytest.fixture(scope="module")
def server():
    with harness.Server(DEMO, "--http_listen=127.0.0.1:0", "--max_running_requests=64") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with connect(server) as connected:
        yield connected


@pytest.fixture(scope="module")
def over_grpc(server):
    with server.client() as connected:
        yield connected


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def test_models(client, model):
    assert model == "demo_model"
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_a_completion_is_what_grpc_generates(client, model, over_grpc):
    expected = over_grpc.generate(prompt=PROMPT, sampling=GREEDY)
    whole = client.completions.create(model=model, prompt=PROMPT, **GREEDY)
    assert whole.choices[0].text == expected.text
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 24
    assert whole.usage.prompt_tokens == expected.usage.prompt_tokens
    chunks = list(client.completions.create(model=model, prompt=PROMPT, stream=True, **GREEDY))
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected.text
    assert len(chunks) > 10
    assert all(chunk.usage is None for chunk in chunks)
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "length"]


def test_chat(client, model, over_grpc):
    messages = [{"role": "system", "content": "Tell a story."}, {"role": "user", "content": "About a fox."}]
    expected = over_grpc.generate(messages={"messages": messages}, sampling=GREEDY, logprobs=3)
    whole = client.chat.completions.create(model=model, messages=messages, logprobs=True, top_logprobs=3, **GREEDY)
    assert whole.choices[0].message.content == expected.text
    content = whole.choices[0].logprobs.content
    assert [entry.logprob for entry in content] == [token.logprob for token in expected.tokens]
    for entry, token in zip(content, expected.tokens):
        assert [top.logprob for top in entry.top_logprobs] == [top.logprob for top in token.top_logprobs]
    stream = client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True},
        max_completion_tokens=24, temperature=0,
    )
    *chunks, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected.text
    assert last.choices == [] and last.usage.completion_tokens == len(expected.tokens)


def test_usage_is_what_metrics_count(server, client, model):
    before = server.idle()
    answer = client.completions.create(
        model=model, prompt="The wolf and the seven little goats", max_tokens=30, seed=3, extra_body={"ignore_eos": True}
    )
    after = server.idle()
    usage = answer.usage
    experts = usage.model_extra["experts"]
    assert usage.completion_tokens == counted(before, after, "generated_tokens_total") == 30
    assert usage.prompt_tokens == counted(before, after, "prompt_tokens_total")
    assert usage.prompt_tokens_details.cached_tokens == counted(before, after, "cached_prompt_tokens_total")
    for kind in ("true", "null", "dropped"):
        assert experts[f"{kind}_slots"] == counted(before, after, "expert_slots_total", kind=kind)
    for kind in ("executed", "saved", "baseline"):
        assert experts[f"{kind}_flops"] == counted(before, after, f"expert_flops_{kind}_total")
    assert counted(before, after, "requests_total", outcome="ok") == 1
    assert experts["executed_flops"] > 0 and experts["null_slots"] > 0


def test_echo_scores_as_grpc_does(client, model, over_grpc):
    """What lm-eval's local-completions asks for: the log-likelihood of a continuation, and whether it is greedy."""
    context = list(over_grpc.call("Tokenize", text=PROMPT).ids)
    greedy = over_grpc.generate(prompt_tokens={"ids": context}, sampling=GREEDY).ids[:6]
    other = list(over_grpc.call("Tokenize", text="The king and his ship", add_special_tokens=False).ids)
    answer = client.completions.create(
        model=model, prompt=[context + greedy, context + other], temperature=0, max_tokens=1, logprobs=1, seed=1234, echo=True
    )
    scores = over_grpc.call(
        "Score", context_tokens={"ids": context}, continuations=[{"tokens": {"ids": ids}} for ids in (greedy, other)]
    ).scores
    assert [score.is_greedy for score in scores] == [True, False]
    for choice, score, continuation in zip(answer.choices, scores, (greedy, other)):
        logprobs = choice.logprobs
        assert len(logprobs.tokens) == len(context) + len(continuation) + 1
        assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
        values = logprobs.token_logprobs[len(context):-1]
        assert values == pytest.approx(list(score.token_logprobs), abs=1e-5)
        tops = logprobs.top_logprobs[len(context):-1]
        assert all(value == max(top.values()) for value, top in zip(values, tops)) == score.is_greedy
    for choice in answer.choices:
        # Offsets say where each token's text stands; tokens without text of their own aside.
        for token, offset in zip(choice.logprobs.tokens[2:], choice.logprobs.text_offset[2:]):
            if token.isascii() and "<" not in token:
                assert choice.text[offset:].startswith(token)


def test_lists_of_prompts_and_choices(client, model):
    one = [client.completions.create(model=model, prompt=p, **GREEDY).choices[0].text for p in (PROMPT, "The king ")]
    answer = client.completions.create(model=model, prompt=[PROMPT, "The king "], n=2, **GREEDY)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == [one[0], one[0], one[1], one[1]]
    warm = dict(model=model, prompt=PROMPT, n=3, seed=5, temperature=1, max_tokens=20)
    texts = [choice.text for choice in client.completions.create(**warm).choices]
    assert len(set(texts)) == 3
    assert texts == [choice.text for choice in client.completions.create(**warm).choices]
    stopped = client.completions.create(model=model, prompt=PROMPT, stop=[one[0][5:9]], **GREEDY).choices[0]
    assert stopped.finish_reason == "stop" and stopped.text == one[0][: one[0].index(one[0][5:9])]
    assert stopped.stop_reason == one[0][5:9]


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_structured_output(client, model):
    messages = [{"role": "user", "content": "Who lives in the wood?"}]
    schema = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    chat = client.chat.completions.create(model=model, messages=messages, response_format=schema, max_tokens=400, seed=1)
    assert chat.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(chat.choices[0].message.content), PERSON)
    for form, pattern in (({"regex": "[a-c]{3}-[0-9]{2}"}, "[a-c]{3}-[0-9]{2}"), ({"choice": ["fox", "wolf"]}, "fox|wolf"),
                          ({"grammar": 'root ::= "a" [0-9]{2} "z"'}, "a[0-9]{2}z")):
        answer = client.completions.create(
            model=model, prompt=PROMPT, max_tokens=40, seed=2, extra_body={"structured_outputs": form}
        )
        assert re.fullmatch(pattern, answer.choices[0].text)
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt=PROMPT, extra_body={"structured_outputs": {"regex": "("}})
    assert caught.value.param == "structured_outputs.regex"
    with pytest.raises(openai.BadRequestError) as caught:
        bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
        client.chat.completions.create(model=model, messages=messages, response_format=bad)
    assert caught.value.param == "response_format.json_schema.schema"


def test_the_compute_dial_and_experts(client, model):
    body = {"return_experts": True, "experts_per_layer": True, "ignore_eos": True}
    plain = client.completions.create(model=model, prompt=PROMPT, extra_body=body, **GREEDY)
    cut = client.completions.create(
        model=model, prompt=PROMPT, extra_body=body | {"compute": {"max_experts_per_token": 1}}, **GREEDY
    )
    choice = plain.choices[0].model_extra
    assert len(choice["experts"]) == 24
    assert [sum(layers) for layers in choice["experts_per_layer"]] == choice["experts"]
    assert max(max(layers) for layers in cut.choices[0].model_extra["experts_per_layer"]) <= 1
    assert cut.usage.model_extra["experts"]["dropped_slots"] > 0
    chunks = list(client.completions.create(model=model, prompt=PROMPT, stream=True, extra_body=body, **GREEDY))
    assert sum((chunk.choices[0].model_extra["experts"] for chunk in chunks), []) == choice["experts"]


def test_errors_are_the_clients_exceptions(client, model):
    cases = [
        (dict(temperature=1000), openai.BadRequestError, "temperature"),
        (dict(max_tokens=10**6), openai.BadRequestError, "max_tokens"),
        (dict(prompt=[10**8]), openai.BadRequestError, "prompt[0]"),
        (dict(suffix="x"), openai.BadRequestError, "suffix"),
        (dict(model="another"), openai.NotFoundError, "model"),
    ]
    for fields, kind, param in cases:
        for stream in (False, True):
            with pytest.raises(kind) as caught:
                client.completions.create(**{"model": model, "prompt": PROMPT, "stream": stream} | fields)
            assert caught.value.param == param
            assert caught.value.body["message"]
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        tools = [{"type": "function", "function": {"name": "f"}}]
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}], tools=tools)
    assert caught.value.param == "tools"


def test_the_tokenizer(server, over_grpc):
    with httpx2.Client(base_url=server.http_url(), trust_env=False) as http:
        ids = http.post("/tokenize", json={"prompt": PROMPT}).json()
        assert ids["tokens"] == list(over_grpc.call("Tokenize", text=PROMPT).ids) and ids["count"] == len(ids["tokens"])
        assert http.post("/detokenize", json={"tokens": ids["tokens"]}).json()["prompt"] == PROMPT
        info = http.get("/tokenizer_info").json()
        assert (info["bos_token"], info["eos_token"]) == ("<s>", "</s>")


def test_hostile_bodies_harm_nobody(server, client, model):
    bodies = [
        b"", b"{", b"[]", b"null", b"{" * 100000, b"[" * 1000000, b'{"prompt":' + b"[" * 1000000,
        b'{"prompt":"x","prompt":"y"}', b'{"prompt":"x","temperature":NaN}', b'{"prompt":"x","temperature":1e999}',
        b'{"prompt":"x","max_tokens":' + b"9" * 100000 + b"}", b'{"prompt":"\xff"}', b'{"prompt":"\\ud800"}',
        b'{"prompt":[' + b"1," * 2000000 + b"1]}", b'{"prompt":"' + b"x" * 15000000 + b'"}',
        b'{"prompt":"x","logit_bias":{' + b",".join(b'"%d":1' % i for i in range(300000)) + b"}}",
    ]
    with httpx2.Client(base_url=server.http_url(), trust_env=False, timeout=60) as http:
        for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
            for body in bodies:
                if b"logit_bias" in body and "tokenize" in path:
                    continue  # a field that these do not know
                answer = http.post(path, content=body)
                assert answer.status_code == 400, (path, body[:50], answer.text[:200])
                assert answer.json()["error"]["message"]
        assert http.post("/v1/completions", content=b" " * (17 << 20)).status_code == 413
        # Text that spells escapes and a NUL is text.
        assert http.post("/v1/completions", content=b'{"prompt":"a\\u0000\\n","max_tokens":1}').status_code == 200
    assert client.completions.create(model=model, prompt=PROMPT, max_tokens=1).choices


def test_a_client_that_goes_away_frees_its_blocks(models):
    with harness.Server(models["long"], "--http_listen=127.0.0.1:0") as server, connect(server) as client:
        endless = dict(model="long", prompt=[5, 6, 7], max_tokens=100000, extra_body={"ignore_eos": True})
        stream = client.completions.create(stream=True, **endless)
        next(iter(stream))
        stream.close()
        server.idle()
        assert server.metrics().get("requests_total", outcome="cancelled") == 1
        # One that waits for a whole answer, of which nothing is written.
        host, port = server.http_url().removeprefix("http://").split(":")
        body = json.dumps({"prompt": [5, 6, 7], "max_tokens": 100000, "ignore_eos": True}).encode()
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            harness.eventually(lambda: server.metrics().get("requests_running") == 1, "a request that runs")
        server.idle()
        assert server.metrics().get("requests_total", outcome="cancelled") == 2


def test_sigterm_finishes_what_runs(models):
    flags = ["--http_listen=127.0.0.1:0", "--drain_delay=1s", "--drain_timeout=60s"]
    with harness.Server(models["long"], *flags) as server, connect(server) as client:
        url = server.http_url()
        results = []

        def run():
            answer = client.completions.create(model="long", prompt=[5], max_tokens=6000, extra_body={"ignore_eos": True})
            results.append(answer.usage.completion_tokens)

        thread = threading.Thread(target=run)
        thread.start()
        harness.eventually(lambda: server.metrics().get("requests_running") == 1, "a request that runs")
        with httpx2.Client(trust_env=False) as http:
            assert http.get(url + "/health").status_code == 200
            server.terminate()
            harness.eventually(lambda: http.get(url + "/health").status_code == 503, "health at 503")
        thread.join()
        assert results == [6000]
        assert server.wait() == 0


def test_tokens_and_tls(models, tmp_path):
    authority = certificates.Authority(tmp_path)
    certificate, key = authority.sign_files("server")
    tokens = tmp_path / "tokens"
    tokens.write_text("alice secret-of-alice\n")
    flags = ["--http_listen=127.0.0.1:0", f"--tls_cert_file={certificate}", f"--tls_key_file={key}",
             f"--auth_tokens_file={tokens}", "--log_format=json"]
    with harness.Server(models["small"], *flags) as server:
        url = server.http_url()
        assert url.startswith("https://")

        def call(token):
            http = httpx2.Client(verify=ssl.create_default_context(cafile=authority.file), trust_env=False, timeout=60)
            with openai.OpenAI(base_url=url + "/v1", api_key=token, max_retries=0, http_client=http) as client:
                trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
                options = dict(model="small", prompt="x", max_tokens=4, extra_headers=trace)
                assert len(list(client.completions.create(stream=True, **options))) >= 1
                return client.completions.create(**options)

        answer = call("secret-of-alice")
        with pytest.raises(openai.AuthenticationError):
            call("another")
        with httpx2.Client(verify=ssl.create_default_context(cafile=authority.file), trust_env=False) as http:
            refused = http.get(url + "/v1/models")
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
            assert http.post(url + "/tokenize", json={"prompt": "x"}).status_code == 401
            assert http.get(url + "/health").status_code == 200
        with pytest.raises(httpx2.ConnectError), httpx2.Client(trust_env=False) as http:
            http.get(url + "/health")
        assert server.metrics().get("requests_total", outcome="invalid") == 1
        lines = [json.loads(line) for line in server.log().splitlines()]
        mine = [line for line in lines if line.get("request_id") == answer.id]
        assert len(mine) == 1
        assert (mine[0]["rpc"], mine[0]["token"]) == ("completions", "alice")
        assert mine[0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        # New files are what new connections are greeted with.
        other = certificates.Authority(tmp_path, "other")
        renewed, renewed_key = other.sign_files("renewed")
        key.write_bytes(renewed_key.read_bytes())
        certificate.write_bytes(renewed.read_bytes())

        def renewed_is_trusted():
            try:
                with httpx2.Client(verify=ssl.create_default_context(cafile=other.file), trust_env=False) as http:
                    return http.get(url + "/health").status_code == 200
            except httpx2.ConnectError:
                return False

        harness.eventually(renewed_is_trusted, "the renewed certificate")


def test_client_certificates(models, tmp_path):
    authority = certificates.Authority(tmp_path)
    certificate, key = authority.sign_files("server")
    mine = authority.sign_files("client")
    flags = ["--http_listen=127.0.0.1:0", f"--tls_cert_file={certificate}", f"--tls_key_file={key}",
             f"--tls_client_ca_file={authority.file}"]
    with harness.Server(models["small"], *flags) as server:
        url = server.http_url()
        context = ssl.create_default_context(cafile=str(authority.file))
        with httpx2.Client(verify=context, trust_env=False) as http, pytest.raises(httpx2.TransportError):
            http.get(url + "/health")
        context.load_cert_chain(*map(str, mine))
        with httpx2.Client(verify=context, trust_env=False) as http:
            assert http.get(url + "/health").status_code == 200


def test_many_streams_and_health_beside_them(server, model):
    """Health answers at once while the model is busy with all that it can run."""
    url = server.http_url()

    def stream(results):
        with connect(server, url) as client:
            chunks = list(client.completions.create(
                model=model, prompt=PROMPT, stream=True, max_tokens=60, extra_body={"ignore_eos": True}
            ))
            results.append(chunks[-1].choices[0].finish_reason)

    results = []
    threads = [threading.Thread(target=stream, args=(results,)) for _ in range(24)]
    for thread in threads:
        thread.start()
    slowest = 0.0
    with httpx2.Client(trust_env=False) as http:
        while any(thread.is_alive() for thread in threads):
            start = time.monotonic()
            assert http.get(url + "/health").status_code == 200
            slowest = max(slowest, time.monotonic() - start)
    assert results == ["length"] * 24
    assert slowest < 2 and not math.isnan(slowest)
