"""lm-eval's local-completions against a server with the demo model: its numbers are the server's own."""

import json

import programs
import pytest

QUESTIONS = [
    ("What did the dog do?", ["ran away", "sang a very long song about the sea"], 0),
    ("Where did Lily play?", ["in a boat", "in the garden", "on the moon"], 1),
    ("Lily was", ["sad", "sad because her little dog had run away", "blue", "under"], 1),
    ("The caf\u00e9 \u2014", ["was open", "war offen"], 0),
]
MAX_TOKENS = 24
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
doc_to_text: "{{{{question}}}}"
metadata:
  version: 1
"""
CHOICES = """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer_index}}"
metric_list:
  - metric: acc
"""
STORIES = f"""
output_type: generate_until
doc_to_target: "{{{{choices[answer_index]}}}}"
generation_kwargs:
  until: ["."]
  max_gen_toks: {MAX_TOKENS}
  temperature: 0
  do_sample: false
metric_list:
  - metric: exact_match
"""


def evaluate(folder, url):
    """Runs both tasks: (results, {task: samples in order})."""
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(dict(question=q, choices=c, answer_index=a)) + "\n" for q, c, a in QUESTIONS))
    tasks = folder / "tasks"
    tasks.mkdir()
    for name, rest in (("choices", CHOICES), ("stories", STORIES)):
        (tasks / f"{name}.yaml").write_text(TASK.format(name=f"adamoe_{name}", data=data) + rest)
    arguments = dict(model="demo_model", base_url=f"{url}/v1/completions", tokenizer_backend="remote", num_concurrent=4, max_length=1024)
    programs.run(
        programs.DEPS / "clients" / "lm_eval" / "bin" / "lm_eval", "--model", "local-completions",
        "--model_args", ",".join(f"{k}={v}" for k, v in arguments.items()), "--include_path", tasks,
        "--tasks", "adamoe_choices,adamoe_stories", "--output_path", folder / "out", "--log_samples",
        folder=folder, timeout=500, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1",
    )  # fmt: skip
    (results,) = (folder / "out").rglob("results_*.json")
    samples = {}
    for path in (folder / "out").rglob("samples_*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        samples[path.name.split("_20")[0].removeprefix("samples_")] = sorted(rows, key=lambda row: row["doc_id"])
    return json.loads(results.read_text())["results"], samples


def test_lm_eval_reports_what_the_server_does(server, tmp_path):
    with programs.counted(server) as counted:
        results, samples = evaluate(tmp_path, server.http_url())
    assert counted.requests == sum(len(choices) for _, choices, _ in QUESTIONS) + len(QUESTIONS)

    num_right = 0
    with server.client() as client:

        def tokens(text):  # as its remote tokenizer has them: without BOS
            return list(client.call("Tokenize", text=text, add_special_tokens=False).ids)

        for (question, choices, answer), sample in zip(QUESTIONS, samples["adamoe_choices"], strict=True):
            context = tokens(question)
            rest = [tokens(f"{question} {choice}")[len(context) :] for choice in choices]
            scores = client.call("Score", context_tokens=dict(ids=context), continuations=[dict(tokens=dict(ids=ids)) for ids in rest]).scores
            got = [(float(value), greedy == "True") for ((value, greedy),) in sample["resps"]]
            for (logprob, greedy), score in zip(got, scores, strict=True):
                assert logprob == pytest.approx(score.logprob, rel=1e-5)
                assert greedy == score.is_greedy
            best = max(range(len(choices)), key=lambda i: scores[i].logprob)
            num_right += best == answer
        for (question, _, _), sample in zip(QUESTIONS, samples["adamoe_stories"], strict=True):
            sampling = dict(max_tokens=MAX_TOKENS, temperature=0, stop=["."])
            assert sample["resps"] == [[client.generate(prompt_tokens=dict(ids=tokens(question)), sampling=sampling).text]]
    assert results["adamoe_choices"]["acc,none"] == pytest.approx(num_right / len(QUESTIONS))
