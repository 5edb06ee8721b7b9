"""What clients get: streams, scores, tokens, and the numbers that come with them."""

import concurrent.futures
import math
import random
import time

import grpc
import harness
import pytest

LAYERS, K = 2, 3
GREEDY = dict(temperature=0, max_tokens=24, ignore_eos=True)


def random_prompt(seed, length):
    return dict(ids=random.Random(seed).choices(range(3, 400), k=length))


def test_streams_tokens_as_they_are_made(client):
    sampling = dict(GREEDY, max_tokens=1500)
    result = client.generate(prompt="Once upon a time", sampling=sampling, request_id="mine")
    assert {message.request_id for message in result.messages} == {"mine"}
    assert len(result.tokens) == 1500
    assert len(result.messages) > 2, "the tokens came in one piece"
    assert result.reason == "LENGTH"
    assert result.usage.completion_tokens == 1500
    assert all(0 <= token.experts <= LAYERS * K for token in result.tokens)
    assert not any(token.HasField("logprob") for token in result.tokens)


def test_every_message_is_whole_utf8_and_adds_up_to_the_detokenized_text(client):
    # Byte tokens drawn at random: most are no characters, many are parts of one.
    for seed in range(20):
        bias = {0xE6 + 3: 8, 0x97 + 3: 8, 0xA5 + 3: 8, 0xC3 + 3: 8, 0xA9 + 3: 8}
        result = client.generate(
            prompt="x", sampling=dict(max_tokens=60, seed=seed, ignore_eos=True, logit_bias=bias)
        )
        text = client.call("Detokenize", ids=result.ids).text
        assert result.text == text or result.text == " " + text
        assert any(ord(c) > 127 for c in result.text)


def test_experts_per_layer_add_up(client):
    result = client.generate(prompt="abc", sampling=GREEDY, experts_per_layer=True)
    for token in result.tokens:
        assert len(token.experts_per_layer) == LAYERS
        assert sum(token.experts_per_layer) == token.experts
        assert max(token.experts_per_layer) <= K
    assert len({token.experts for token in result.tokens}) > 1, "every token used as many experts"


def test_the_same_seed_gives_the_same_text_and_others_do_not(client):
    def sample(seed):
        return client.generate(prompt="abc", sampling=dict(max_tokens=30, seed=seed, ignore_eos=True)).ids

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_greedy_equals_itself_whatever_else_is_running(client):
    prompts = [random_prompt(seed, random.Random(seed).randint(1, 300)) for seed in range(24)]
    alone = [client.generate(prompt_tokens=prompt, sampling=GREEDY) for prompt in prompts]
    delays = [random.Random(number).random() * 0.2 for number in range(72)]

    def together(number):
        time.sleep(delays[number])
        return client.generate(prompt_tokens=prompts[number % len(prompts)], sampling=GREEDY)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for number, result in enumerate(pool.map(together, range(72))):
            expected = alone[number % len(prompts)]
            assert result.ids == expected.ids
            assert [t.experts for t in result.tokens] == [t.experts for t in expected.tokens]


def test_stop_strings_end_the_text_and_are_not_sent(client):
    whole = client.generate(prompt="tell me", sampling=GREEDY).text
    assert len(whole) > 12
    stop = whole[8:11]
    first = whole.index(stop)
    result = client.generate(prompt="tell me", sampling=dict(**GREEDY, stop=["\0never\0", stop]))
    assert result.reason == "STOP_SEQUENCE"
    assert result.text == whole[:first]
    assert result.messages[-1].finish.stop_sequence == stop


def test_stop_tokens_count_and_end_the_text(client):
    ids = client.generate(prompt="tell me", sampling=GREEDY).ids
    stop = ids[10]
    first = ids.index(stop)
    result = client.generate(prompt="tell me", sampling=dict(**GREEDY, stop_token_ids=[stop]))
    assert result.reason == "STOP_TOKEN"
    assert result.ids == ids[: first + 1]
    assert result.usage.completion_tokens == first + 1
    later = client.generate(prompt="tell me", sampling=dict(**GREEDY, stop_token_ids=[stop], min_tokens=first + 2))
    assert len(later.ids) >= first + 2


def test_logprobs_are_of_the_chosen_token_and_the_likeliest(client):
    result = client.generate(prompt="logprobs", sampling=GREEDY, logprobs=3)
    for token in result.tokens:
        assert len(token.top_logprobs) == 3
        likelihoods = [other.logprob for other in token.top_logprobs]
        assert likelihoods == sorted(likelihoods, reverse=True)
        assert token.top_logprobs[0].id == token.id
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob, abs=1e-6)
        assert sum(map(math.exp, likelihoods)) < 1
    assert all(t.HasField("logprob") and not t.top_logprobs for t in
               client.generate(prompt="logprobs", sampling=GREEDY, logprobs=0).tokens)


def test_prompt_logprobs_agree_with_score(client):
    context = [1, 40, 41, 42, 43]
    continuation = [50, 60, 70, 80]
    generated = client.generate(
        prompt_tokens=dict(ids=context + continuation), sampling=dict(max_tokens=1, temperature=0), prompt_logprobs=True
    )
    assert [token.id for token in generated.prompt] == context + continuation
    assert not generated.prompt[0].HasField("logprob")
    assert all(token.HasField("logprob") for token in generated.prompt[1:])
    assert all(0 <= token.experts <= LAYERS * K for token in generated.prompt)
    scores = client.call(
        "Score",
        context_tokens=dict(ids=context),
        continuations=[dict(tokens=dict(ids=continuation)), dict(tokens=dict(ids=continuation[:2]))],
    ).scores
    expected = [token.logprob for token in generated.prompt[len(context):]]
    assert list(scores[0].token_logprobs) == pytest.approx(expected, abs=1e-5)
    assert scores[0].logprob == pytest.approx(sum(expected), abs=1e-5)
    assert scores[0].num_tokens == 4
    assert scores[1].logprob == pytest.approx(sum(expected[:2]), abs=1e-5)


def test_score_knows_a_greedy_continuation(client):
    context = [1, 90, 91]
    ids = client.generate(prompt_tokens=dict(ids=context), sampling=GREEDY).ids[:5]
    other = ids[:4] + [ids[4] % 300 + 5]
    scores = client.call(
        "Score",
        context_tokens=dict(ids=context),
        continuations=[dict(tokens=dict(ids=ids)), dict(tokens=dict(ids=other))],
    ).scores
    assert [score.is_greedy for score in scores] == [True, False]
    assert scores[0].logprob > scores[1].logprob


def test_score_moves_the_contexts_trailing_space(client):
    with_space = client.call("Score", context="the cat ", continuations=[dict(text="sat")])
    without = client.call("Score", context="the cat", continuations=[dict(text=" sat")])
    assert with_space.scores[0].num_tokens == without.scores[0].num_tokens > 0
    assert with_space.scores[0].logprob == pytest.approx(without.scores[0].logprob, abs=1e-5)


def test_a_null_bias_skips_every_expert_and_text_still_streams(client):
    result = client.generate(prompt="nothing runs", sampling=GREEDY, compute=dict(null_bias=1000))
    assert len(result.tokens) == 24
    # K of the nulls win everywhere.
    assert [token.experts for token in result.tokens] == [0] * 24
    assert result.usage.true_slots == 0 == result.usage.executed_expert_flops
    assert result.usage.null_slots == (result.usage.prompt_tokens + 23 - result.usage.cached_prompt_tokens) * LAYERS * K


def test_a_negative_null_bias_runs_every_pick(client):
    result = client.generate(prompt="everything runs", sampling=GREEDY, compute=dict(null_bias=-1000))
    assert [token.experts for token in result.tokens] == [LAYERS * K] * 24
    assert result.usage.null_slots == 0


def test_a_budget_drops_slots_and_counts_them(client):
    free = client.generate(prompt="on a budget", sampling=GREEDY, prompt_logprobs=True)
    tight = client.generate(
        prompt="on a budget", sampling=GREEDY, prompt_logprobs=True, compute=dict(max_experts_per_token=1)
    )
    assert free.usage.dropped_slots == 0
    assert tight.usage.dropped_slots > 0
    assert all(token.experts <= LAYERS for token in tight.tokens)
    slots = tight.usage.true_slots + tight.usage.null_slots + tight.usage.dropped_slots
    assert slots == (tight.usage.prompt_tokens + 23) * LAYERS * K
    assert tight.usage.saved_expert_flops > free.usage.saved_expert_flops


def test_the_prefix_cache_saves_work_and_changes_nothing(client):
    prompt = random_prompt("cached", 300)
    first = client.generate(prompt_tokens=prompt, sampling=GREEDY, logprobs=0)
    second = client.generate(prompt_tokens=prompt, sampling=GREEDY, logprobs=0)
    assert first.usage.cached_prompt_tokens == 0
    assert 200 < second.usage.cached_prompt_tokens < 300
    assert second.ids == first.ids
    assert [t.logprob for t in second.tokens] == pytest.approx([t.logprob for t in first.tokens], abs=1e-5)
    positions = 300 + 23 - second.usage.cached_prompt_tokens
    assert second.usage.true_slots + second.usage.null_slots == positions * LAYERS * K


def test_the_prefix_cache_is_not_shared_between_compute_dials(client):
    prompt = random_prompt("dials", 200)
    client.generate(prompt_tokens=prompt, sampling=GREEDY)
    dialled = client.generate(prompt_tokens=prompt, sampling=GREEDY, compute=dict(null_bias=3))
    assert dialled.usage.cached_prompt_tokens == 0


def test_tokenize_and_detokenize(client):
    text = "Hello, wörld 日本 <s> \n"
    ids = list(client.call("Tokenize", text=text).ids)
    assert ids[0] == 1, "no BOS in front"
    assert list(client.call("Tokenize", text=text, add_special_tokens=False).ids) == ids[1:]
    assert client.call("Detokenize", ids=ids).text == text
    assert 1 not in ids[1:], "text that looks like a special token became one"


def test_a_prompt_is_the_tokens_of_tokenize(client):
    text = "the same thing"
    ids = client.call("Tokenize", text=text).ids
    by_text = client.generate(prompt=text, sampling=GREEDY)
    by_ids = client.generate(prompt_tokens=dict(ids=ids), sampling=GREEDY)
    assert by_text.ids == by_ids.ids
    assert by_text.usage.prompt_tokens == len(ids)


def test_messages_make_a_chat_prompt(client):
    result = client.generate(
        messages=dict(
            messages=[
                dict(role="user", content="Hi"),
                dict(role="assistant", content="Hello."),
                dict(role="user", content="Who are you?"),
            ]
        ),
        sampling=GREEDY,
    )
    assert len(result.tokens) == 24
    assert result.usage.prompt_tokens > len("HiHello.Who are you?") / 3


def test_penalties_and_filters_take_effect(client):
    def text(**sampling):
        return client.generate(prompt="again and again", sampling=dict(GREEDY, max_tokens=40, **sampling)).ids

    assert len(set(text(logit_bias={77: 100}))) == 1
    assert len(set(text(logit_bias={77: 10}, frequency_penalty=2))) > 1
    hot = dict(temperature=5, seed=3)
    assert text(**hot, top_k=1) == text()
    assert text(**hot, min_p=1) == text()
    assert text(**hot) != text()


def test_model_info_says_what_is_served(client):
    info = client.call("GetModelInfo")
    assert info.model_name == "small"
    assert info.architecture == "MixtralForCausalLM"
    assert (info.vocab_size, info.num_layers, info.num_experts) == (400, LAYERS, 4)
    assert (info.num_null_experts, info.experts_per_token) == (4, K)
    assert info.max_context_tokens == 2048
    assert (info.weight_dtype, info.activation_dtype, info.device) == ("bfloat16", "float32", "cpu")
    assert info.server_version


def test_load_says_how_busy_the_server_is(server, client):
    client.generate(prompt="load", sampling=dict(GREEDY, max_tokens=200))
    server.idle()
    load = client.call("GetLoad")
    assert load.waiting_requests == load.running_requests == 0
    assert load.kv_blocks_free == load.kv_blocks_total > 0
    assert load.tokens_per_second > 0
    assert 0 < load.experts_per_token <= K


def test_a_plain_mixtral_is_served_too(models):
    with harness.Server(models["plain"]) as server, server.client() as client:
        info = client.call("GetModelInfo")
        assert (info.num_null_experts, info.experts_per_token) == (0, 2)
        result = client.generate(prompt="plain", sampling=GREEDY)
        assert [token.experts for token in result.tokens] == [LAYERS * 2] * 24
        assert result.usage.null_slots == 0
        assert result.usage.executed_expert_flops == result.usage.baseline_expert_flops


def test_the_method_that_does_not_exist(client):
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary("/adamoe.v1.Inference/Sing")(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
