"""Our tokenizer against its oracles: Hugging Face's tokenizers on thousands of texts and ids, mistral-common on chats."""

import copy
import json
import os
import pathlib
import random
import subprocess
import sys

import pytest
import tokenizers
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

SOURCE = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = SOURCE / "tests" / "golden" / "tokenizer"
BUILD = pathlib.Path(os.environ.get("ADAMOE_BUILD_DIR", SOURCE / "build" / "release"))
CLI = BUILD / "tests" / "fakes" / "tokenizer_cli"
sys.path.insert(0, str(GOLDEN))

import hard_strings  # noqa: E402
import mixtral  # noqa: E402


def ask(folder, questions):
    """The answers of our tokenizer, a dict each."""
    text = "".join(json.dumps(question) + "\n" for question in questions)
    done = subprocess.run([CLI, str(folder)], input=text, capture_output=True, text=True, check=True, timeout=120)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(questions)
    return answers


def read_document(name):
    return json.loads((GOLDEN / name / "tokenizer.json").read_text(encoding="utf-8"))


def part(type_, **fields):
    return {"type": type_, **fields}


def split(pattern, behavior, invert=False):
    return part("Split", pattern=pattern, behavior=behavior, invert=invert)


BYTES = part("ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)


def pre_tokenizers():
    """Name -> a pre-tokenizer for a byte-level vocabulary."""
    rules = {"prefix_space": part("ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True), "none": BYTES}
    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            rules[f"{behavior}_{invert}"] = split({"Regex": r"\p{L}+|[0-9]|(?=!)| "}, behavior, invert)
        rules[f"literal_{behavior}"] = split({"String": " "}, behavior)
        rules[f"punctuation_{behavior}"] = part("Punctuation", behavior=behavior)
    rules["digits"] = part("Digits", individual_digits=False)
    rules["each_digit"] = part("Digits", individual_digits=True)
    rules["whitespace"] = part("WhitespaceSplit")
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            rules[f"metaspace_{scheme}_{cut}"] = part("Metaspace", replacement="_", prepend_scheme=scheme, split=cut)
    return {
        name: rule if rule["type"] == "ByteLevel" else part("Sequence", pretokenizers=[rule, BYTES])
        for name, rule in rules.items()
    }


NORMALIZERS = {
    "nfc": part("NFC"), "nfd": part("NFD"), "nfkc": part("NFKC"), "nfkd": part("NFKD"), "lowercase": part("Lowercase"),
    "replace": part("Sequence", normalizers=[
        part("Replace", pattern={"Regex": r"\s+"}, content=" "), part("Replace", pattern={"String": "a"}, content="<tool>"),
        part("Prepend", prepend="_")]),
}
DECODERS = {
    "metaspace": part("Metaspace", replacement="▁", prepend_scheme="always", split=True),
    "metaspace_never": part("Sequence", decoders=[
        part("ByteFallback"), part("Metaspace", replacement="▁", prepend_scheme="never", split=True)]),
    "strip_tokens": part("Strip", content="▁", start=1, stop=0),
    "replace": part("Sequence", decoders=[part("Replace", pattern={"Regex": "[ab]+"}, content="-"), part("Fuse")]),
    "none": None,
}


def changed(name, **fields):
    document = copy.deepcopy(read_document(name))
    document.update(fields)
    return document


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """Writes a document into a new folder."""
    def write(document):
        folder = tmp_path_factory.mktemp("tokenizer")
        (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
        return folder
    return write


@pytest.fixture(scope="session")
def mixtral_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtral")
    mixtral.write(folder)
    return folder


def texts(seed, count):
    rng = random.Random(seed)
    drawn = [hard_strings.random_string(rng) for _ in range(count)]
    return hard_strings.FIXED + drawn + [hard_strings.any_code_points(rng) for _ in range(count // 4)]


def check_encoding(folder, samples):
    oracle = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    modes = [(add, parse) for add in (False, True) for parse in (False, True)]
    questions = [{"encode": text, "add_special_tokens": add, "parse_special_tokens": parse}
                 for add, parse in modes for text in samples]
    answers = iter(ask(folder, questions))
    for add, parse in modes:
        oracle.encode_special_tokens = not parse
        for text, expected in zip(samples, oracle.encode_batch(samples, add_special_tokens=add)):
            assert next(answers) == {"ids": expected.ids}, (text, add, parse)


def check_decoding(folder, seed, count, encoded=()):
    """Of random ids, of which half are mostly single bytes, and of texts; at once and as a stream."""
    oracle = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    rng = random.Random(seed)
    size = oracle.get_vocab_size()
    ids = [[rng.randrange(rng.choice([300, size])) for _ in range(rng.randint(0, 20))] for _ in range(count)]
    ids += [encoding.ids for encoding in oracle.encode_batch(list(encoded))]
    expected = oracle.decode_batch(ids)
    for row, answer, text in zip(ids, ask(folder, [{"decode": row} for row in ids]), expected):
        assert answer == {"text": text}, row
    for row, answer, text in zip(ids, ask(folder, [{"stream": row, "follows_text": False} for row in ids]), expected):
        assert "".join(answer["pieces"]) == text, row


def test_mixtral_encodes_as_hugging_face(mixtral_folder):
    check_encoding(mixtral_folder, texts(1, 2500))


def test_mixtral_decodes_as_hugging_face(mixtral_folder):
    check_decoding(mixtral_folder, 2, 2000, texts(3, 1000))


def test_mixtral_continues_a_prompt(mixtral_folder):
    """Pieces of generated ids are the text of prompt and ids without the prompt's."""
    oracle = tokenizers.Tokenizer.from_file(str(mixtral_folder / "tokenizer.json"))
    rng = random.Random(4)
    rows = [[rng.randrange(32000) for _ in range(rng.randint(1, 10))] for _ in range(500)]
    prompt = oracle.encode("Once upon a time").ids
    before = oracle.decode(prompt)
    answers = ask(mixtral_folder, [{"stream": row, "follows_text": True} for row in rows])
    for row, answer in zip(rows, answers):
        assert before + "".join(answer["pieces"]) == oracle.decode(prompt + row), row


def test_mixtral_with_metaspace_and_pairs(tmp_path):
    mixtral.write(tmp_path, metaspace=True, merges_as_pairs=True)
    check_encoding(tmp_path, texts(5, 500))


def test_mixtral_is_sentencepiece(mixtral_folder):
    """Typed text has the ids that Mistral's own tokenizer gives it, "<s>" included."""
    oracle = MistralTokenizer.v1().instruct_tokenizer.tokenizer
    samples = [text for text in texts(6, 2000) if text]
    answers = ask(mixtral_folder, [
        {"encode": text, "add_special_tokens": False, "parse_special_tokens": False} for text in samples])
    for text, answer in zip(samples, answers):
        assert answer == {"ids": oracle.encode(text, bos=False, eos=False)}, text


SMALL = [GOLDEN / "byte_level", GOLDEN / "llama_split", GOLDEN / "byte_fallback", SOURCE / "deploy" / "demo_model"]


@pytest.mark.parametrize("folder", SMALL, ids=lambda folder: folder.name)
def test_small_tokenizers(folder):
    samples = texts(7, 1000)
    check_encoding(folder, samples)
    check_decoding(folder, 8, 1000, samples)


@pytest.mark.parametrize("name", sorted(pre_tokenizers()))
def test_pre_tokenizers(name, folder_of):
    check_encoding(folder_of(changed("byte_level", pre_tokenizer=pre_tokenizers()[name])), texts(9, 150))


@pytest.mark.parametrize("name", sorted(NORMALIZERS))
def test_normalizers(name, folder_of):
    check_encoding(folder_of(changed("byte_level", normalizer=NORMALIZERS[name])), texts(10, 300))


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_decoders(name, folder_of):
    check_decoding(folder_of(changed("byte_fallback", decoder=DECODERS[name])), 11, 300, texts(12, 100))


def random_chat(rng):
    """Messages as our API has them."""
    messages = []
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        messages.append({"role": "system", "content": hard_strings.random_string(rng)})
    for _ in range(rng.randint(0, 3)):
        messages.append({"role": "user", "content": hard_strings.random_string(rng)})
        messages.append({"role": "assistant", "content": hard_strings.random_string(rng) or "ok"})
    messages.append({"role": "user", "content": rng.choice(hard_strings.FIXED)})
    return messages


def test_chats_are_mistral_commons(mixtral_folder):
    oracle = MistralTokenizer.v1()
    classes = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}
    rng = random.Random(13)
    chats = [random_chat(rng) for _ in range(500)]
    for chat, answer in zip(chats, ask(mixtral_folder, [{"chat": chat} for chat in chats])):
        messages = [classes[message["role"]](content=message["content"]) for message in chat]
        expected = oracle.encode_chat_completion(ChatCompletionRequest(messages=messages)).tokens
        assert answer == {"ids": expected}, chat
