"""Trains the three small tokenizers and answers for them: run it with the Python of deploy/install_deps.sh, anywhere.

Writes, beside itself, byte_level/, llama_split/ and byte_fallback/tokenizer.json, and answers.json: what Hugging Face's
tokenizers makes of each text and of random ids. The same versions write the same files.
"""

import collections
import json
import pathlib
import random

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

import hard_strings

HERE = pathlib.Path(__file__).resolve().parent
VOCAB_SIZE = 900
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus():
    """Made-up words, often repeated, between the fixed texts."""
    rng = random.Random(20)
    syllables = "ka to mi re lu sen der ing tion the and of ber gar pla stu 你 好 при вет สวั สดี été über".split()
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(400)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    lines = [" ".join(rng.choices(words, weights, k=12)) + rng.choice([".", "!", ", 12", "\n\n", "'s"]) for _ in range(1500)]
    plain = [text for text in hard_strings.FIXED if text not in hard_strings.CONTROL_TEXTS]
    return lines + plain * 3


def frequent_characters(texts):
    """The texts without rare characters, which are to fall back to bytes."""
    counts = collections.Counter("".join(texts))
    return ["".join(c for c in text if counts[c] >= 20) for text in texts]


def special(content):
    return tokenizers.AddedToken(content, special=True, normalized=False)


def byte_level():
    """GPT-2's rules, and every kind of added token."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[special("<|endoftext|>")])
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens([
        tokenizers.AddedToken("<tool>", normalized=True),
        tokenizers.AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
        tokenizers.AddedToken("<word>", single_word=True, normalized=False),
        tokenizers.AddedToken("<tool><tool>", normalized=True),
    ])
    return json.loads(tokenizer.to_str())


def llama_split():
    """Llama-3's rules: a Split, ignored merges, BOS by a template."""
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(LLAMA3_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    # Whole words that no merge makes.
    document = json.loads(tokenizer.to_str())
    for word in ["Ġworld", "Hello", "Ġquick", "ĠthisĠnever", "123"]:
        document["model"]["vocab"].setdefault(word, len(document["model"]["vocab"]))
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(document))
    tokenizer.add_special_tokens([special("<|begin_of_text|>"), special("<|eot_id|>")])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))])])
    return json.loads(tokenizer.to_str())


def byte_fallback():
    """Llama-2's rules, over a normal form; BOS and EOS."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Trained on words; in use the text stays whole.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never")
    controls = [special(token) for token in ("<unk>", "<s>", "</s>")]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, show_progress=False, special_tokens=controls + bytes_)
    tokenizer.train_from_iterator(frequent_characters(corpus()), trainer)
    document = json.loads(tokenizer.to_str())
    document["pre_tokenizer"] = None
    document["added_tokens"] = document["added_tokens"][:3]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(document))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return json.loads(tokenizer.to_str())


def answers(name, document):
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(document))
    rng = random.Random(21)
    texts = hard_strings.FIXED + [hard_strings.random_string(rng) for _ in range(40)]
    encodings = []
    for text in texts:
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        parsed = tokenizer.encode(text, add_special_tokens=True).ids
        encodings.append({"text": text, "ids": plain, "with_special": parsed, "decoded": tokenizer.decode(plain)})
    decodings = []
    for _ in range(60):
        top = rng.choice([300, tokenizer.get_vocab_size()])  # the lower ids are single bytes
        ids = [rng.randrange(top) for _ in range(rng.randint(1, 14))]
        decodings.append({"ids": ids, "text": tokenizer.decode(ids)})
    return {"tokenizer": name, "encodings": encodings, "decodings": decodings}


def lines(value, depth):
    """JSON with the outer `depth` levels of lists and objects one element a line."""
    if depth == 0 or not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    if isinstance(value, dict):
        return "{" + ",\n".join(json.dumps(key) + ":" + lines(item, depth - 1) for key, item in value.items()) + "}"
    return "[" + ",\n".join(lines(item, depth - 1) for item in value) + "]"


def main():
    all_answers = []
    for name, make in (("byte_level", byte_level), ("llama_split", llama_split), ("byte_fallback", byte_fallback)):
        document = make()
        document["model"]["merges"] = [list(merge) for merge in document["model"]["merges"]]
        if name != "llama_split":  # the older form
            document["model"]["merges"] = [" ".join(merge) for merge in document["model"]["merges"]]
        (HERE / name).mkdir(exist_ok=True)
        (HERE / name / "tokenizer.json").write_text(lines(document, 1) + "\n", encoding="utf-8")
        all_answers.append(answers(name, document))
    (HERE / "answers.json").write_text(lines(all_answers, 3) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
