"""Structured output through real gRPC: what comes out has the form asked for, and no form harms anyone else."""

import json
import re
import subprocess
import threading
import time

import grpc
import harness
import jsonschema
import pytest

DEMO = harness.SOURCE / "deploy" / "demo_model"
PROMPT = "Once upon a time there was a little fox. "


@pytest.fixture(scope="module")
def server():
    with harness.Server(DEMO, "--grammar_compile_timeout=6s", "--max_running_requests=32") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with server.client() as connected:
        yield connected


def sample(client, structured, *, seed=1, max_tokens=900, temperature=1.0, prompt=PROMPT, **fields):
    sampling = dict(max_tokens=max_tokens, temperature=temperature, seed=seed, **fields.pop("sampling", {}))
    return client.generate(prompt=prompt, sampling=sampling, structured=structured, **fields)


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1},
            },
            "required": ["value"],
        }
    },
    "$ref": "#/$defs/node",
}
UNION = {
    "anyOf": [
        {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]},
        {"type": "array", "items": {"type": "boolean"}, "maxItems": 4},
        {"type": "null"},
    ]
}
DATED = {
    "type": "object",
    "properties": {"day": {"type": "string", "pattern": "^[0-9]{4}-[01][0-9]$"}, "ok": {"type": "boolean"}},
    "required": ["day", "ok"],
}
NUMBERS = {"type": "array", "items": {"type": "integer", "minimum": -20, "maximum": 1000}, "minItems": 2, "maxItems": 5}


@pytest.mark.parametrize("schema", [PERSON, TREE, UNION, DATED, NUMBERS], ids=["person", "tree", "union", "dated", "numbers"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_json_is_valid_under_its_schema(client, schema, temperature):
    complete = 0
    for seed in range(5 if temperature else 1):
        answer = sample(client, dict(json_schema=json.dumps(schema)), seed=seed, temperature=temperature)
        if answer.reason == "LENGTH":  # a model of this size may write white space or digits until it is cut
            continue
        assert answer.reason == "STOP_TOKEN"
        jsonschema.validate(json.loads(answer.text), schema)
        complete += 1
    assert complete >= (3 if temperature else 0)


def test_any_json_object(client):
    done = [sample(client, dict(json_object=True), seed=seed) for seed in range(6)]
    done = [answer for answer in done if answer.reason == "STOP_TOKEN"]
    assert done
    for answer in done:
        assert isinstance(json.loads(answer.text), dict)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{3}-\d{4}",
        r"(yes|no|maybe)( (yes|no|maybe)){0,3}",
        r"[A-Z][a-z]{2,8} [A-Z][a-z]{2,8}\.",
        r"[a-f0-9]{8}(-[a-f0-9]{4}){3}-[a-f0-9]{12}",
        r"(ü|é|日本|😀){2,5}",
        r"\s?[^\n]{5,40}!",
    ],
)
def test_a_regex_matches_the_whole_output(client, pattern):
    for seed in range(4):
        answer = sample(client, dict(regex=pattern), seed=seed)
        assert answer.reason == "STOP_TOKEN"
        assert re.fullmatch(pattern, answer.text), answer.text


def test_choice(client):
    choices = ["the fox", "the bear", 'a "quoted" one', "back\\slash", "two\nlines", "日本語", "the fox and the bear"]
    seen = set()
    for seed in range(12):
        answer = sample(client, dict(choice=dict(choices=choices)), seed=seed, temperature=3.0)
        assert answer.reason == "STOP_TOKEN"
        assert answer.text in choices
        seen.add(answer.text)
    assert len(seen) > 1


def test_grammar(client):
    grammar = 'root ::= sum\nsum ::= term (" + " term){1,3}\nterm ::= [1-9] [0-9]{0,2} | "(" sum ")"\n'
    for seed in range(6):
        answer = sample(client, dict(grammar=grammar), seed=seed, max_tokens=400)
        assert re.fullmatch(r"[0-9 +()]+", answer.text)
        if answer.reason == "STOP_TOKEN":
            eval(answer.text)  # digits, + and parentheses only: it is arithmetic, or raises


def test_the_end(client):
    digits = dict(regex="[0-9]{4}")
    whole = sample(client, digits)
    assert (whole.reason, len(whole.text)) == ("STOP_TOKEN", 4)
    assert whole.tokens[-1].text == ""  # the model's end of sequence
    cut = sample(client, digits, max_tokens=2)
    assert (cut.reason, cut.text) == ("LENGTH", whole.text[: len(cut.text)])
    # Nothing may follow, so min_tokens gives way; and a bias does not get the better of the form.
    longer = sample(client, digits, sampling=dict(min_tokens=50, logit_bias={whole.ids[-1]: -100, whole.ids[0]: 100}))
    assert (longer.reason, bool(re.fullmatch("[0-9]{4}", longer.text))) == ("STOP_TOKEN", True)
    # Where the form allows more, min_tokens holds.
    more = sample(client, dict(regex="[0-9]{1,200}"), sampling=dict(min_tokens=100))
    assert more.usage.completion_tokens >= 100
    # Without a stop token the output ends all the same.
    no_eos = sample(client, digits, sampling=dict(ignore_eos=True))
    assert (no_eos.reason, bool(re.fullmatch("[0-9]{4}", no_eos.text))) == ("STOP_TOKEN", True)
    assert no_eos.tokens[-1].text != ""
    stopped = sample(client, dict(regex="[0-9]{4} [0-9]{4}"), sampling=dict(stop=[" "]))
    assert (stopped.reason, bool(re.fullmatch("[0-9]{4}", stopped.text))) == ("STOP_SEQUENCE", True)


def test_log_probabilities_are_the_models_own(client):
    free = client.generate(prompt=PROMPT, sampling=dict(max_tokens=1, temperature=0), logprobs=20)
    bound = sample(client, dict(regex="[0-9]{4}"), temperature=0, logprobs=20)
    assert [(t.id, t.logprob) for t in bound.tokens[0].top_logprobs] == [
        (t.id, t.logprob) for t in free.tokens[0].top_logprobs
    ]
    assert bound.tokens[0].logprob <= bound.tokens[0].top_logprobs[-1].logprob or bound.ids[0] in [
        t.id for t in bound.tokens[0].top_logprobs
    ]


def test_a_mixed_batch_gives_what_each_gives_alone(client, server):
    forms = [None, dict(regex=r"\d{3}-\d{4}"), dict(json_schema=json.dumps(PERSON)), dict(choice=dict(choices=["a", "b c"]))]

    def run(i):
        form = forms[i % len(forms)]
        more = {} if form is None else dict(structured=form)
        return client.generate(prompt=f"{PROMPT} {i}", sampling=dict(max_tokens=60, temperature=1.0, seed=i), **more)

    count = 16
    alone = [run(i) for i in range(count)]
    together = [None] * count

    def keep(i):
        together[i] = run(i)

    threads = [threading.Thread(target=keep, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together):
        assert (one.ids, one.text, one.reason) == (other.ids, other.text, other.reason)


def repeated(text, count):
    return text * count


MANY_ALTERNATIVES = "root ::= x*\nx ::= " + repeated("[a-z]+ | ", 500) + '" "'
CHAIN = (
    "root ::= r0\n"
    + "".join(f'r{i} ::= r{i + 1} r{i + 1} | ""\n' for i in range(1500))
    + 'r1500 ::= "a"'
)
BAD = ("INVALID_ARGUMENT",)
COSTLY = ("RESOURCE_EXHAUSTED",)
EITHER = BAD + COSTLY
# What comes of each: refused as bad, as too costly, or (OK) fine after all, if only until it is cut.
HOSTILE = {
    "schema, not JSON": (dict(json_schema='{"type"'), BAD),
    "schema, a number": (dict(json_schema="5"), BAD),
    "schema, false": (dict(json_schema="false"), BAD),
    "schema, unknown type": (dict(json_schema='{"type":"wizard"}'), BAD),
    "schema, remote reference": (dict(json_schema='{"$ref":"http://example.com/a.json"}'), BAD),
    "schema, file reference": (dict(json_schema='{"$ref":"file:///etc/passwd"}'), BAD),
    "schema, reference to nothing": (dict(json_schema='{"$ref":"#/$defs/none"}'), BAD),
    "schema, reference to itself": (dict(json_schema='{"$ref":"#"}'), BAD),
    "schema, contradiction": (dict(json_schema='{"type":"integer","minimum":5,"maximum":1}'), BAD),
    "schema, not": (dict(json_schema='{"not":{"type":"string"}}'), BAD),
    "schema, deep": (dict(json_schema=repeated('{"items":', 6000) + "{}" + repeated("}", 6000)), EITHER),
    "schema, brackets": (dict(json_schema=repeated("[", 60000)), BAD),
    "schema, deep text": (dict(json_schema='{"const":' + repeated("[", 20000) + repeated("]", 20000) + "}"), EITHER),
    "schema, nested pattern": (dict(json_schema='{"type":"string","pattern":"((a{1,999}){1,999}){1,999}"}'), EITHER + ("OK",)),
    "schema, too long": (dict(json_schema="{" + repeated(" ", 65536) + "}"), BAD),
    "regex, empty": (dict(regex=""), BAD),
    "regex, parenthesis": (dict(regex="(a"), BAD),
    "regex, class": (dict(regex="[a"), BAD),
    "regex, nothing to repeat": (dict(regex="*a"), BAD),
    "regex, range": (dict(regex="a{5,2}"), BAD),
    "regex, huge number": (dict(regex="a{99999999999999999999}"), BAD),
    "regex, lookahead": (dict(regex="(?=a)b"), BAD),
    "regex, backreference": (dict(regex=r"(a)\1"), BAD),
    "regex, deep": (dict(regex=repeated("(", 30000) + "a" + repeated(")", 30000)), EITHER),
    "regex, long repetition": (dict(regex="a{1,100000}"), EITHER + ("OK",)),
    "regex, nested repetitions": (dict(regex="((.{1,100}){1,100}){1,100}"), COSTLY),
    "regex, exponential": (dict(regex="(a|a)*(a|aa)*(a*)*b"), EITHER + ("OK",)),
    "grammar, no rule": (dict(grammar="hello"), BAD),
    "grammar, no root": (dict(grammar='a ::= "b"'), BAD),
    "grammar, unknown rule": (dict(grammar="root ::= nobody"), BAD),
    "grammar, control bytes": (dict(grammar="\x01\x02 {{{"), BAD),
    "grammar, produces nothing": (dict(grammar="root ::= root"), BAD),
    "grammar, ambiguous": (dict(grammar='root ::= s\ns ::= s s | [^\\x00] | [^\\x00] [^\\x00]'), COSTLY),
    "grammar, ambiguous later": (dict(grammar='root ::= "a"{40} s\ns ::= s s s | s s | [a-z ]'), COSTLY),
    "grammar, deep": (dict(grammar="root ::= " + repeated("(", 30000) + '"a"' + repeated(")", 30000)), EITHER),
    "grammar, all optional": (dict(grammar="root ::=" + repeated(" [a-z ]?", 2000)), COSTLY),
    "grammar, many alternatives": (dict(grammar=MANY_ALTERNATIVES), COSTLY),
    "grammar, chain of nothings": (dict(grammar=CHAIN), EITHER + ("OK",)),
    "grammar, special tokens": (dict(grammar="root ::= Token(1) Token(0)"), EITHER),
    "choice, none": (dict(choice=dict(choices=[])), BAD),
    "choice, empty": (dict(choice=dict(choices=["a", ""])), BAD),
    "choice, too many": (dict(choice=dict(choices=["a"] * 1025)), BAD),
    "choice, long": (dict(choice=dict(choices=["a" * 30000, "b" * 30000])), EITHER + ("OK",)),
    "object, false": (dict(json_object=False), BAD),
    "nothing": ({}, BAD),
}


def test_hostile_forms_harm_nobody(client, server):
    before = client.generate(prompt=PROMPT, sampling=dict(max_tokens=800, temperature=1.0, seed=5, ignore_eos=True))
    gaps, wrong = [], []
    stop = threading.Event()

    def watch():
        """The same stream again and again, with the longest time between two of its messages."""
        while not stop.is_set():
            stream = client.stream(
                prompt=PROMPT, sampling=dict(max_tokens=800, temperature=1.0, seed=5, ignore_eos=True)
            )
            last, ids = time.monotonic(), []
            for message in stream:
                ids += [token.id for token in message.tokens]
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
            if ids != before.ids:
                wrong.append(ids)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for name, (form, expected) in HOSTILE.items():
            try:
                sample(client, form, max_tokens=120)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
                if code == "INVALID_ARGUMENT" and "structured: " not in error.details():
                    violation = harness.detail(error, "BadRequest").field_violations[0]
                    assert violation.field.startswith("structured"), name
                    assert violation.description and len(violation.description) < 400, name
                    assert ".cc:" not in violation.description and "/" + "root" not in violation.description, name
            assert code in expected, f"{name}: {code}"
    finally:
        stop.set()
        watcher.join()
    assert not wrong
    assert len(gaps) > 1000
    assert max(gaps) < 2.0, f"a normal stream stood still for {max(gaps):.2f} s"
    # And the server is as it was.
    assert sample(client, dict(regex=r"\d{4}")).reason == "STOP_TOKEN"
    server.idle()


def test_equal_forms_are_worked_out_once(client, server):
    form = dict(regex=r"once [0-9]{3}")
    before = server.metrics()
    for seed in range(4):
        sample(client, form, seed=seed)
    after = server.metrics()

    def rise(name):
        return after.get(name) - before.get(name)

    assert rise("grammar_cache_misses_total") == 1
    assert rise("grammar_cache_hits_total") == 3
    assert rise("grammar_compile_seconds_count") == 1


def test_a_client_that_leaves_while_its_form_is_worked_out(client, server):
    stream = client.stream(prompt=PROMPT, structured=dict(grammar=MANY_ALTERNATIVES + ' | "#"'))
    time.sleep(0.2)
    stream.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() == grpc.StatusCode.CANCELLED
    with pytest.raises(grpc.RpcError) as caught:
        list(client.stream(prompt=PROMPT, timeout=0.3, structured=dict(grammar=MANY_ALTERNATIVES + ' | "!"')))
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    server.idle()


def children(pid):
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    found = [child for child, parent in pairs if parent == pid]
    return found + [more for child in found for more in children(child)]


def test_its_processes_end_with_the_server():
    with harness.Server(DEMO) as running, running.client() as client:
        sample(client, dict(regex="[0-9]{4}"))
        pids = children(running.process.pid)
        assert len(pids) >= 2
    harness.eventually(lambda: not any(alive(pid) for pid in pids), "no process is left")
    with harness.Server(DEMO) as running, running.client() as client:
        sample(client, dict(regex="[0-9]{4}"))
        pids = children(running.process.pid)
        running.process.kill()
        running.process.wait()
        harness.eventually(lambda: not any(alive(pid) for pid in pids), "no process is left after SIGKILL")
        running.process.returncode = 0  # how it ended is this test's own doing


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_command_line_client(server, tmp_path):
    def run(*flags):
        command = [harness.CLIENT, f"--target={server.address}", "generate", "--seed=3", "--json", *flags, PROMPT]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return done, "".join(message.get("text", "") for message in messages)

    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(NUMBERS))
    jsonschema.validate(json.loads(run(f"--json_schema={schema}")[1]), NUMBERS)
    jsonschema.validate(json.loads(run(f"--json_schema={json.dumps(NUMBERS)}")[1]), NUMBERS)
    assert re.fullmatch("[0-9]{4}", run("--regex=[0-9]{4}")[1])
    assert run("--choice=one,two\\, three")[1] in ("one", "two, three")
    grammar = tmp_path / "grammar.ebnf"
    grammar.write_text('root ::= "a" [bc]{3}\n')
    assert re.fullmatch("a[bc]{3}", run(f"--grammar={grammar}")[1])
    assert run("--json_object", "--max_tokens=1")[1] == "{"
    done, _ = run("--regex=(a")
    assert done.returncode != 0 and "structured.regex" in done.stderr
    done, _ = run("--regex=a", "--json_object")
    assert done.returncode != 0 and "at most one" in done.stderr
