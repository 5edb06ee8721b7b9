"""After load, the counters add up exactly: with the responses, with each other, and with the model's shape."""

import collections
import concurrent.futures
import random

import grpc
import harness
import pytest

LAYERS, K, BASELINE = 2, 3, 2
FLOPS = 2 * 3 * 32 * 48  # of one true slot: hidden 32, intermediate 48


def generate(client, number):
    """One of several kinds of request; its usage, or None where a Score was asked."""
    rng = random.Random(number)
    prompt = dict(ids=rng.choices(range(3, 400), k=rng.randint(1, 200)))
    if number % 5 == 0:
        prompt = dict(ids=[7] * 100)  # shares its prefix with others
    compute = [{}, dict(null_bias=2), dict(null_bias=-50, max_experts_per_token=1), dict(null_bias=1000)][number % 4]
    sampling = dict(max_tokens=rng.randint(1, 40), seed=number, temperature=rng.choice([0, 1]))
    return client.generate(prompt_tokens=prompt, sampling=sampling, compute=compute).usage


def score(client, number):
    ids = random.Random(number).choices(range(3, 400), k=30)
    answer = client.call(
        "Score",
        context_tokens=dict(ids=ids),
        continuations=[dict(tokens=dict(ids=ids[:3])), dict(tokens=dict(ids=ids[5:9]))],
    )
    return answer.usage


@pytest.fixture(scope="module")
def loaded(models):
    """Usages of every request of a load, and the scrape after it."""
    with harness.Server(models["small"], "--per_expert_metrics") as server, server.client() as client:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            generated = [pool.submit(generate, client, number) for number in range(120)]
            scored = [pool.submit(score, client, number) for number in range(10)]
            usages = [task.result() for task in generated], [task.result() for task in scored]
        yield *usages, server.idle()


def total(usages, field):
    return sum(getattr(usage, field) for usage in usages)


def test_each_responses_slots_are_k_for_every_layer_and_position(loaded):
    generated, scored, _ = loaded
    for usage in generated:
        # The last token is never fed back; positions from the cache do no work.
        positions = usage.prompt_tokens - usage.cached_prompt_tokens + usage.completion_tokens - 1
        assert usage.true_slots + usage.null_slots + usage.dropped_slots == positions * LAYERS * K
        assert usage.baseline_expert_flops == positions * LAYERS * BASELINE * FLOPS
    for usage in generated + scored:
        assert usage.executed_expert_flops == usage.true_slots * FLOPS
        assert usage.saved_expert_flops == (usage.null_slots + usage.dropped_slots) * FLOPS


@pytest.mark.parametrize(
    "field, kind", [("true_slots", "true"), ("null_slots", "null"), ("dropped_slots", "dropped")]
)
def test_the_counted_slots_are_the_responses_slots(loaded, field, kind):
    generated, scored, metrics = loaded
    expected = total(generated + scored, field)
    assert expected > 0
    assert metrics.sum("expert_slots_total", kind=kind) == expected
    assert metrics.sum("layer_expert_slots_total", kind=kind) == expected
    assert len([s for s in metrics.samples if s[0] == "layer_expert_slots_total"]) == LAYERS * 3


def test_the_counted_flops_are_the_responses_flops(loaded):
    generated, scored, metrics = loaded
    for name in ("executed", "saved", "baseline"):
        assert metrics.sum(f"expert_flops_{name}_total") == total(generated + scored, f"{name}_expert_flops")
    for phase in ("prefill", "decode"):
        slots = {kind: metrics.get("expert_slots_total", phase=phase, kind=kind) for kind in ("true", "null", "dropped")}
        assert metrics.get("expert_flops_executed_total", phase=phase) == slots["true"] * FLOPS
        assert metrics.get("expert_flops_saved_total", phase=phase) == (slots["null"] + slots["dropped"]) * FLOPS
        assert metrics.get("expert_flops_baseline_total", phase=phase) == sum(slots.values()) / K * BASELINE * FLOPS


def test_the_flops_outside_the_experts_follow_the_positions(loaded):
    _, _, metrics = loaded
    router = LAYERS * 2 * 32 * 8  # per position: hidden 32, four experts and four null ones
    head = 2 * 32 * 400  # per row of logits: a vocabulary of 400
    for phase in ("prefill", "decode"):
        positions = metrics.sum("expert_slots_total", phase=phase) / LAYERS / K
        assert metrics.get("other_flops_total", phase=phase, part="router") == positions * router
        for part in ("projections", "attention"):
            assert metrics.get("other_flops_total", phase=phase, part=part) > 0
    fed_back = metrics.sum("expert_slots_total", phase="decode") / LAYERS / K
    assert metrics.get("other_flops_total", phase="decode", part="lm_head") == fed_back * head
    assert 0 < metrics.get("other_flops_total", phase="prefill", part="lm_head") < fed_back * head


def test_decode_positions_are_the_tokens_fed_back(loaded):
    generated, _, metrics = loaded
    fed_back = sum(usage.completion_tokens - 1 for usage in generated)
    assert metrics.sum("expert_slots_total", phase="decode") == fed_back * LAYERS * K


def test_experts_tokens_are_the_true_slots(loaded):
    _, _, metrics = loaded
    assert metrics.sum("expert_tokens_total") == metrics.sum("expert_slots_total", kind="true")
    for layer in range(LAYERS):
        assert metrics.sum("expert_tokens_total", layer=str(layer)) == metrics.get(
            "layer_expert_slots_total", layer=str(layer), kind="true"
        )


def test_tokens_are_counted_once(loaded):
    generated, scored, metrics = loaded
    assert metrics.get("generated_tokens_total") == total(generated, "completion_tokens")
    cached = total(generated + scored, "cached_prompt_tokens")
    assert cached > 0
    assert metrics.get("cached_prompt_tokens_total") == cached
    assert metrics.sum("request_generated_tokens_sum") == total(generated, "completion_tokens")
    assert metrics.sum("request_prompt_tokens_sum") == total(generated + scored, "prompt_tokens")
    assert metrics.get("preemptions_total") == 0


def test_histograms_count_what_they_say(loaded):
    generated, scored, metrics = loaded
    requests, tokens = len(generated), total(generated, "completion_tokens")
    assert metrics.get("time_to_first_token_seconds_count") == requests
    assert metrics.get("inter_token_latency_seconds_count") == tokens - requests
    assert metrics.get("experts_per_token_count") == tokens
    assert metrics.get("request_duration_seconds_count") == requests + len(scored)
    positions = (metrics.sum("expert_slots_total")) / LAYERS / K
    assert metrics.get("step_tokens_sum") == positions
    assert metrics.sum("step_duration_seconds_count") == metrics.get("step_tokens_count")
    for (name, _), count in metrics.samples.items():
        if name.endswith("_count"):
            assert metrics.sum(name.removesuffix("_count") + "_bucket", le="+Inf") >= count


def test_every_request_has_one_outcome(models):
    flags = ["--max_running_requests=1", "--max_queued_requests=1"]
    with harness.Server(models["long"], *flags) as server, server.client() as client:
        long = dict(max_tokens=100000, ignore_eos=True, temperature=0)
        expected = collections.Counter()

        def outcome(wanted, call):
            expected[wanted] += 1
            try:
                list(call)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        short = dict(max_tokens=3)
        assert outcome("ok", client.stream(prompt="a", sampling=short)) == grpc.StatusCode.OK
        assert outcome("invalid", client.stream(sampling=short)) == grpc.StatusCode.INVALID_ARGUMENT
        late = client.stream(prompt="a", sampling=long, timeout=0.5)
        assert outcome("deadline", late) == grpc.StatusCode.DEADLINE_EXCEEDED
        server.idle()

        running = client.stream(prompt="a", sampling=long)
        next(running)
        waiting = client.stream(prompt="a", sampling=long)
        harness.eventually(lambda: server.metrics().get("requests_waiting") == 1, "a waiting request")
        refused = client.stream(prompt="a", sampling=long)
        assert outcome("rejected", refused) == grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in (running, waiting):
            call.cancel()
            assert outcome("cancelled", call) == grpc.StatusCode.CANCELLED
        server.idle()
        expected["error"] = 0

        # A cancelled stream is counted where it ends, after its blocks went back.
        def counted():
            metrics = server.metrics()
            return {name: metrics.get("requests_total", outcome=name) for name in expected}

        harness.eventually(lambda: sum(counted().values()) >= sum(expected.values()), "all requests counted")
        assert counted() == expected


def test_preempted_requests_answer_alike_and_count_their_recomputation(models):
    # Room for about two of eight requests at a time: sequences give their blocks back and are run again.
    def run(*flags):
        with harness.Server(models["small"], *flags) as server, server.client() as client:
            sampling = dict(max_tokens=200, temperature=0, ignore_eos=True)
            prompts = [dict(ids=random.Random(n).choices(range(3, 400), k=40)) for n in range(8)]
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                calls = [pool.submit(client.generate, prompt_tokens=p, sampling=sampling) for p in prompts]
                results = [call.result() for call in calls]
            return results, server.idle()

    roomy, _ = run()
    tight, metrics = run("--kv_cache_tokens=512")
    assert metrics.get("preemptions_total") > 0
    assert [r.ids for r in tight] == [r.ids for r in roomy]
    slots = sum(r.usage.true_slots + r.usage.null_slots + r.usage.dropped_slots for r in tight)
    assert slots > 8 * 239 * LAYERS * K, "recomputed positions were not counted"
    assert metrics.sum("expert_slots_total") == slots
    assert metrics.get("generated_tokens_total") == 8 * 200
    assert metrics.get("experts_per_token_count") == 8 * 200
