"""adamoe_train evaluate: the same numbers in its own process and through a server."""

import json
import subprocess

import pytest

import harness

MODEL = harness.SOURCE / "deploy" / "demo_model"
TEXT = (
    "Once upon a time there was a little girl named Lily. She liked to play in the garden with her dog.\n"
    "One day the dog ran away, and Lily was very sad. She looked under the tree and behind the house.\n"
) * 12
DOCUMENTS = TEXT + "<|endoftext|>\nThe sun was warm — and the caf\u00e9 was open.\n<|endoftext|>\n" + TEXT[:500]
QUESTIONS = [
    ("What did the dog do?", ["ran away", "sang a very long song about the sea"], 0),
    ("Where did Lily play?", ["in a boat", "in the garden", "on the moon"], 1),
    ("Lily was", ["sad", "sad because her little dog had run away", "blue", "under"], 1),
    (TEXT[:700] + "Who was sad?", ["Lily", "the tree"], 0),
]


@pytest.fixture(scope="module")
def server():
    with harness.Server(MODEL) as server:
        yield server


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(DOCUMENTS)
    return path


@pytest.fixture
def choices(tmp_path):
    path = tmp_path / "choices.jsonl"
    rows = [dict(question=q, choices=c, answer_index=a) for q, c, a in QUESTIONS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*flags):
    return subprocess.run(
        [harness.TRAIN, "evaluate", f"--model={MODEL}", "--threads=2", *flags],
        capture_output=True,
        text=True,
        timeout=200,
    )


def evaluate(tmp_path, *flags):
    out = tmp_path / "out.json"
    result = run(f"--json={out}", *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(out.read_text())


def assert_agree(here, there):
    assert here.keys() == there.keys()
    for key, value in here.items():
        if key.startswith(("num_", "accuracy")):
            assert there[key] == value, key
        else:
            assert there[key] == pytest.approx(value, rel=1e-3), key


@pytest.mark.parametrize("flags", [[], ["--context=17"], ["--limit=2"]], ids=str)
def test_a_text_scores_alike(server, tmp_path, text, flags):
    here = evaluate(tmp_path, f"--text={text}", *flags)
    assert_agree(here, evaluate(tmp_path, f"--text={text}", f"--target={server.address}", *flags))
    parts = [part.strip("\n") for part in DOCUMENTS.split("<|endoftext|>")]
    if "--limit=2" in flags:
        assert here["num_bytes"] == len("".join(parts[:2]).encode())
    assert 0 < here["load"] < 3 and here["expert_flops_ratio"] == pytest.approx(here["load"] / 2)
    assert here["num_tokens"] > 200 and 0 < here["bits_per_byte"] < 8


@pytest.mark.parametrize("flags", [[], ["--context=40"], ["--limit=2"]], ids=str)
def test_choices_score_alike(server, tmp_path, choices, flags):
    here = evaluate(tmp_path, f"--choices={choices}", *flags)
    # Twice: what the server has cached changes nothing.
    for _ in range(2):
        assert_agree(here, evaluate(tmp_path, f"--choices={choices}", f"--target={server.address}", *flags))
    assert here["num_questions"] == (2 if "--limit=2" in flags else len(QUESTIONS))
    assert 0 <= here["accuracy"] <= 1 and here["loss"] > 0


def test_k_can_be_chosen(tmp_path, choices):
    loads = [evaluate(tmp_path, f"--choices={choices}", f"--experts_per_token={k}")["load"] for k in (1, 3, 16)]
    assert loads[0] < loads[1] < loads[2] == pytest.approx(8)


def test_what_is_wrong_is_said(server, tmp_path, text, choices):
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"b\xff")
    empty = tmp_path / "empty.txt"
    empty.touch()
    cases = [
        ([], "one of --text and --choices"),
        ([f"--text={text}", f"--choices={choices}"], "one of --text and --choices"),
        ([f"--text={tmp_path / 'none.txt'}"], "none.txt: cannot be opened"),
        ([f"--text={empty}"], "empty.txt: has no text"),
        ([f"--text={broken}"], "broken.txt: document 1"),
        ([f"--choices={text}"], "text.txt: line 1: not JSON"),
        ([f"--text={text}", "--context=1025"], "expected 0 to 1024"),
        ([f"--text={text}", "--context=-1"], "--context=-1"),
        ([f"--text={text}", "--experts_per_token=17"], "experts_per_token is 17, expected 1 to 16"),
        ([f"--text={text}", f"--adapter={tmp_path / 'none'}"], "none"),
        ([f"--text={text}", f"--target={server.address}", "--experts_per_token=2"], "where --target is given"),
        ([f"--text={text}", f"--target={server.address}", "--baseline_experts_per_token=4"], "compares with 2"),
        ([f"--text={text}", "--target=127.0.0.1:1"], "127.0.0.1:1: UNAVAILABLE"),
    ]
    for flags, words in cases:
        result = run(*flags)
        assert result.returncode == 1, flags
        assert words in result.stderr and result.stderr.count("\n") == 1, result.stderr
        assert result.stdout == ""


@pytest.mark.parametrize("dtype, limit", [("int8", 0.01), ("int4", 0.04)])
def test_quantised_weights_keep_the_perplexity(server, tmp_path, dtype, limit):
    text = MODEL / "README.md"  # prose that does not repeat itself
    expected = evaluate(tmp_path, f"--text={text}", f"--target={server.address}")
    with harness.Server(MODEL, f"--weight_dtype={dtype}") as quantised, quantised.client() as client:
        assert client.call("GetModelInfo").weight_dtype == dtype
        actual = evaluate(tmp_path, f"--text={text}", f"--target={quantised.address}")
    change = actual["perplexity"] / expected["perplexity"] - 1
    assert change != 0 and abs(change) < limit
    assert actual["load"] == pytest.approx(expected["load"], rel=0.05)
