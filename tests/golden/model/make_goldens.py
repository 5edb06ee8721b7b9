#!/usr/bin/env python3
"""Writes the folders beside this script: tiny random checkpoints and what they must answer (expected.json).

    python3 -m venv V && V/bin/pip install -r requirements.txt && V/bin/python make_goldens.py

Plain Mixtral is answered by Hugging Face's own model, AdaMoE by reference.py, both in float32 over the weights as saved.
Prompts are drawn again until every router decision and every greedy token has a clear margin, so that float32 on another
machine decides the same.
"""
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

import reference

HERE = pathlib.Path(__file__).resolve().parent
ROUTER_MARGIN = 2e-3  # of logits
GREEDY_MARGIN = 2e-2
NUM_GREEDY = 24
TOP = 4
DIALS = [(0.0, 0), (0.0, 0), (1.25, 0), (-1.5, 0), (0.0, 1), (-3.0, 2)]  # (null_bias, max_experts), one prompt each

BASE = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2, rms_norm_eps=1e-5, rope_theta=10000.0,
            sliding_window=None, tie_word_embeddings=False, max_position_embeddings=128, bos_token_id=1,
            eos_token_id=2)
SMALL = dict(hidden_size=24, intermediate_size=40, num_attention_heads=2, num_key_value_heads=1, num_local_experts=4,
             vocab_size=80)

CASES = {
    "mixtral_grouped_bf16": dict(config={}, dtype=torch.bfloat16),
    "mixtral_head_dim_f32": dict(config={**SMALL, "head_dim": 16, "rms_norm_eps": 1e-6}, dtype=torch.float32),
    "mixtral_window_f16": dict(config={**SMALL, "num_key_value_heads": 2, "sliding_window": 7, "rope_theta": 1e6},
                               dtype=torch.float16),
    "mixtral_tied_sharded_bf16": dict(
        config={**SMALL, "num_hidden_layers": 3, "num_local_experts": 5, "num_experts_per_tok": 3,
                "tie_word_embeddings": True, "rope_theta": 5e5, "head_dim": 8, "num_attention_heads": 6,
                "num_key_value_heads": 3},
        dtype=torch.bfloat16, shards=3, rope_parameters=True),
    "adamoe_m8k3_bf16": dict(config={"num_experts_per_tok": 3}, dtype=torch.bfloat16, m=8),
    "adamoe_m16k4_f32": dict(config={**SMALL, "num_local_experts": 8, "num_experts_per_tok": 4}, dtype=torch.float32,
                             m=16),
    "adamoe_mostly_null_bf16": dict(config={**SMALL, "num_experts_per_tok": 2}, dtype=torch.bfloat16, m=13),
    "adamoe_few_null_bf16": dict(config={**SMALL, "num_local_experts": 6, "num_experts_per_tok": 3,
                                         "sliding_window": 9}, dtype=torch.bfloat16, m=2),
    "adamoe_adapter_bf16": dict(config={**SMALL}, dtype=torch.bfloat16, adapter_m=8, k=3),
    "adamoe_adapter_on_merged_f32": dict(config={**SMALL, "num_experts_per_tok": 3}, dtype=torch.float32, m=6,
                                         adapter_m=6),
}


def random_tensors(c, m, generator):
    """A checkpoint in float32: unit-scale activations throughout, router logits of standard deviation 2."""
    def normal(rows, cols, scale):
        return torch.randn(rows, cols, generator=generator) * scale / cols**0.5

    def norm(size):
        return 1 + 0.1 * torch.randn(size, generator=generator)

    hidden, inter, n = c["hidden_size"], c["intermediate_size"], c["num_local_experts"]
    head_dim = c.get("head_dim") or hidden // c["num_attention_heads"]
    tensors = {"model.embed_tokens.weight": normal(c["vocab_size"], hidden, hidden**0.5),
               "model.norm.weight": norm(hidden)}
    if not c["tie_word_embeddings"]:
        tensors["lm_head.weight"] = normal(c["vocab_size"], hidden, 2.5)
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        tensors[at + "input_layernorm.weight"] = norm(hidden)
        tensors[at + "post_attention_layernorm.weight"] = norm(hidden)
        for name, heads in [("q", "num_attention_heads"), ("k", "num_key_value_heads"), ("v", "num_key_value_heads")]:
            tensors[f"{at}self_attn.{name}_proj.weight"] = normal(c[heads] * head_dim, hidden, 1.5)
        tensors[at + "self_attn.o_proj.weight"] = normal(hidden, c["num_attention_heads"] * head_dim, 1.5)
        tensors[at + "block_sparse_moe.gate.weight"] = normal(n, hidden, 2.0)
        if m:
            tensors[at + "block_sparse_moe.gate2.weight"] = normal(m, hidden, 2.0)
        for j in range(n):
            expert = f"{at}block_sparse_moe.experts.{j}."
            tensors[expert + "w1.weight"] = normal(inter, hidden, 1.5)
            tensors[expert + "w3.weight"] = normal(inter, hidden, 1.5)
            tensors[expert + "w2.weight"] = normal(hidden, inter, 2.0)
    return tensors


def random_adapter(tensors, m, rank, generator):
    """LoRA pairs for gate, gate2 and every expert: {module: (A, B)}."""
    modules = {name[:-len(".weight")]: t.shape for name, t in tensors.items() if ".block_sparse_moe." in name}
    gates = [name for name in modules if name.endswith(".gate")]
    modules.update({gate + "2": (m, modules[gate][1]) for gate in gates})
    return {name: (torch.randn(rank, cols, generator=generator) / cols**0.5,
                   torch.randn(rows, rank, generator=generator) * (0.3 if ".gate" in name else 0.1))
            for name, (rows, cols) in sorted(modules.items())}


def merge(tensors, adapter, m, scale):
    merged = {name: t.float() for name, t in tensors.items()}
    for name in adapter:
        if name.endswith(".gate2") and name + ".weight" not in merged:
            gate = tensors[name[:-1] + ".weight"].float()
            merged[name + ".weight"] = gate.repeat(m // gate.shape[0], 1)
    for name, (a, b) in adapter.items():
        merged[name + ".weight"] = merged[name + ".weight"] + scale * (b @ a)
    return merged


def write_checkpoint(folder, config, tensors, case):
    written = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu", **config,
               "torch_dtype": str(case["dtype"]).removeprefix("torch.")}
    if case.get("rope_parameters"):  # as transformers 5 writes it
        written["rope_parameters"] = {"rope_theta": written.pop("rope_theta"), "rope_type": "default"}
        written["dtype"] = written.pop("torch_dtype")
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n")
    shards = case.get("shards", 1)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = sorted(tensors), {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in names[s::shards]}, folder / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in names[s::shards]})
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def write_adapter(folder, adapter, rank, alpha):
    folder.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "lora_dropout": 0.05,
              "bias": "none", "target_modules": ["gate", "gate2", "w1", "w2", "w3"]}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {}
    for name, (a, b) in adapter.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def greedy(model, prompt, oracle):
    """The continuation, and the logits of every position fed; None where a decision is too close."""
    tokens = list(prompt)
    for _ in range(NUM_GREEDY):
        rows = oracle(tokens)
        best, second = rows[-1].topk(2).values.tolist()
        if best - second < GREEDY_MARGIN:
            return None
        tokens.append(int(rows[-1].argmax()))
    logits = reference.logits(model, tokens[:-1])
    if min(d["margin"] for block in reference.blocks(model) for d in block.decisions) < ROUTER_MARGIN:
        return None
    assert torch.allclose(logits, oracle(tokens[:-1]), atol=2e-5), "Hugging Face's model disagrees with reference.py"
    return tokens[len(prompt):], torch.log_softmax(oracle(tokens[:-1]).double(), dim=-1)


def expected_of(model, oracle, vocab, dial, length, generator):
    for block in reference.blocks(model):
        block.null_bias, block.max_experts = dial
    for _ in range(2000):
        prompt = torch.randint(3, vocab, (length,), generator=generator).tolist()
        answer = greedy(model, prompt, oracle)
        if answer:
            break
    else:
        raise RuntimeError("no prompt with clear margins")
    continuation, logprobs = answer
    fed = prompt + continuation
    reference.logits(model, fed[:-1])  # leaves the decisions of all positions
    top = logprobs.topk(TOP)
    decisions = [block.decisions for block in reference.blocks(model)]
    return {"prompt": prompt, "null_bias": dial[0], "max_experts": dial[1], "greedy": continuation,
            "next_logprobs": [round(logprobs[t, fed[t + 1]].item(), 6) for t in range(len(fed) - 1)],
            "top_ids": top.indices.tolist(),
            "top_logprobs": [[round(v, 6) for v in row] for row in top.values.tolist()],
            "experts": [[sorted(d["weights"]) for d in layer] for layer in decisions],
            "null": [[d["null"] for d in layer] for layer in decisions],
            "dropped": [[d["dropped"] for d in layer] for layer in decisions]}


def make(name, case, seed):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = {**BASE, **case["config"]}
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: t.to(case["dtype"]) for name, t in random_tensors(config, case.get("m", 0), generator).items()}
    write_checkpoint(folder, config, tensors, case)

    k = case.get("k", config["num_experts_per_tok"])
    run = tensors
    if "adapter_m" in case:
        rank, alpha = 4, 12
        adapter = random_adapter(tensors, case["adapter_m"], rank, generator)
        write_adapter(folder / "adapter", adapter, rank, alpha)
        run = merge(tensors, adapter, case["adapter_m"], alpha / rank)
    model = reference.with_adamoe(reference.build(config, run), run, k)
    num_null = reference.blocks(model)[0].gate2.shape[0]
    # Plain Mixtral is answered by the unchanged model; its dial has no null experts to turn.
    plain = reference.build(config, tensors) if num_null == 0 else None
    oracle = lambda tokens: reference.logits(plain or model, tokens)
    dials = DIALS if num_null else [(0.0, 0)] * 3
    answers = [expected_of(model, oracle, config["vocab_size"], dial, length, generator)
               for dial, length in zip(dials, [13, 1, 6, 9, 5, 8])]
    expected = {"experts_per_token": k, "num_null_experts": num_null, "sequences": answers}
    lines = json.dumps(expected, separators=(",", ":")).replace("},{", "},\n{")
    (folder / "expected.json").write_text(lines + "\n")
    picked = [len(d) for a in answers for layer in a["experts"] for d in layer]
    print(f"{name}: load {sum(picked) / len(picked):.2f}, {picked.count(0)} of {len(picked)} positions all null")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, (case_name, case_spec) in enumerate(CASES.items()):
        make(case_name, case_spec, seed=1000 + number)
