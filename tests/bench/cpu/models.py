"""The models that are measured, and what a step of them must read and compute."""
import subprocess

SHAPE = {"layers": 8, "hidden": 1024, "intermediate": 3584, "heads": 16, "kv_heads": 4, "head_dim": 64, "experts": 8,
         "vocab": 32000, "max_positions": 4096}
FLAGS = {
    "top-2": {**SHAPE, "k": 2, "null_experts": 0},
    "adamoe": {**SHAPE, "k": 3, "null_experts": 8},
    "tiny": {"null_experts": 0, "layers": 1, "hidden": 64, "intermediate": 64, "heads": 2, "kv_heads": 1, "head_dim": 32, "experts": 2, "k": 1,
             "vocab": 512, "max_positions": 4096},
}


DTYPES = ("bfloat16", "int8", "int4")


def subject(name, dtype):
    """What a row of the report is called."""
    return name if dtype == "bfloat16" else f"{name} {dtype}"


def make(build, folder, name):
    """The folder of the model called `name`, made unless it is there."""
    model = folder / name
    if not (model / "tokenizer.json").exists():
        flags = [f"--{flag}={value}" for flag, value in FLAGS[name].items()]
        subprocess.run([build / "tests/fakes/make_checkpoint", f"--out={model}", "--eos=-1", *flags], check=True)
    return model


def parameters_per_token(load):
    """(of the layers, of the head): parameters a token is multiplied with when `load` experts run in each layer."""
    s = SHAPE
    attention = s["hidden"] * s["head_dim"] * (s["heads"] + s["kv_heads"]) * 2
    router = s["hidden"] * s["experts"]
    experts = load * 3 * s["hidden"] * s["intermediate"]
    return s["layers"] * (attention + router + experts), s["hidden"] * s["vocab"]


def decode_bytes(load, bytes_per_parameter=2):
    """Bytes of weights that a token of a single stream must read."""
    layers, head = parameters_per_token(load)
    return bytes_per_parameter * (layers + head)


def prefill_flops(load, tokens):
    """Multiplications and additions of a prompt; the head runs once."""
    layers, head = parameters_per_token(load)
    return 2 * (layers * tokens + head)
