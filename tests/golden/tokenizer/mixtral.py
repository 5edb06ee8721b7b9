"""Mixtral's tokenizer.json from the SentencePiece model that mistral-common carries.

SentencePiece's BPE merges any two neighbours whose concatenation is in the vocabulary, best score first. Written as a
list of merges that is: every way to cut a piece into two pieces, in the order of the whole's score.
"""

import importlib.resources
import json
import pathlib

from sentencepiece import sentencepiece_model_pb2

_NORMAL, _CONTROL_OR_UNKNOWN = 1, (2, 3)


def _pieces():
    data = importlib.resources.files("mistral_common") / "data" / "tokenizer.model.v1"
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(data.read_bytes())
    return model.pieces


def _merges(pieces, vocab):
    mergeable = {piece.piece for piece in pieces if piece.type == _NORMAL}
    merges = []
    for piece in pieces:
        if piece.type != _NORMAL:
            continue
        whole = piece.piece
        cuts = [(whole[:i], whole[i:]) for i in range(1, len(whole))]
        cuts = [(a, b) for a, b in cuts if a in mergeable and b in mergeable]
        cuts.sort(key=lambda cut: (vocab[cut[0]], vocab[cut[1]]))
        merges += [(piece.score, cut) for cut in cuts]
    merges.sort(key=lambda merge: -merge[0])
    return [cut for _, cut in merges]


def _legacy_text_rules():
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
    }


def _metaspace_text_rules():
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return {"normalizer": None, "pre_tokenizer": metaspace}


def tokenizer_json(merges_as_pairs=False, metaspace=False):
    """The file's text; with `metaspace` in the form that later conversions have."""
    pieces = _pieces()
    vocab = {piece.piece: index for index, piece in enumerate(pieces)}
    merges = _merges(pieces, vocab)
    control = [p.piece for p in pieces if p.type in _CONTROL_OR_UNKNOWN]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[token], "content": token, **flags} for token in control],
        **(_metaspace_text_rules() if metaspace else _legacy_text_rules()),
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, bos, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [vocab["<s>"]], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(cut) for cut in merges] if merges_as_pairs else [" ".join(cut) for cut in merges],
        },
    }
    return json.dumps(document, ensure_ascii=False)


def write(folder, **options):
    """Writes FOLDER/tokenizer.json."""
    path = pathlib.Path(folder) / "tokenizer.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tokenizer_json(**options), encoding="utf-8")
