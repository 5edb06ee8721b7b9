"""The oracle of the goldens: Hugging Face's Mixtral in float32, its MoE block replaced by AdaMoE as written in the paper.

AdaMoE: arXiv 2406.13233. Slow and obvious: one token, one expert at a time.
"""
import torch
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM


class AdamoeBlock(nn.Module):
    """n true experts and m null ones; also the per-token compute dial (null_bias, max_experts)."""

    def __init__(self, gate, gate2, experts, k):
        super().__init__()
        self.gate, self.gate2, self.experts, self.k = gate, gate2, experts, k
        self.null_bias, self.max_experts = 0.0, 0
        self.decisions = []  # of the last forward: one dict per token

    def forward(self, hidden_states):
        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        self.decisions = [self.route(x) for x in tokens]
        outputs = [sum((w * self.experts[i](x) for i, w in d["weights"].items()), torch.zeros_like(x))
                   for x, d in zip(tokens, self.decisions)]
        return torch.stack(outputs).reshape(hidden_states.shape), None

    def route(self, x):
        n = self.gate.shape[0]
        logits = torch.cat([self.gate @ x, self.gate2 @ x + self.null_bias])
        p = torch.softmax(logits, dim=0).tolist()
        order = sorted(range(len(p)), key=lambda i: (-p[i], i))
        true_picks = [i for i in order[:self.k] if i < n]
        kept = true_picks[:self.max_experts] if self.max_experts else true_picks
        total = sum(p[i] for i in kept)
        return {"weights": {i: p[i] / total for i in kept}, "null": self.k - len(true_picks),
                "dropped": len(true_picks) - len(kept), "margin": self.margin(logits, order, true_picks)}

    def margin(self, logits, order, true_picks):
        """How far the logits are from another decision."""
        cuts = [(order[self.k - 1], order[self.k])] if self.k < len(order) else []
        if self.max_experts and len(true_picks) > self.max_experts:
            cuts.append((true_picks[self.max_experts - 1], true_picks[self.max_experts]))
        return min(((logits[a] - logits[b]).item() for a, b in cuts), default=float("inf"))


def build(hf_config, tensors):
    """A float32 model of `tensors` (names as in the checkpoint); AdaMoE where it holds gate2."""
    model = MixtralForCausalLM(MixtralConfig(**hf_config, attn_implementation="eager")).eval()
    state = {name: t.float() for name, t in tensors.items() if ".gate2." not in name}
    if hf_config.get("tie_word_embeddings"):
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model.requires_grad_(False)


def with_adamoe(model, tensors, k):
    for i, layer in enumerate(model.model.layers):
        block = layer.block_sparse_moe
        gate = block.gate.weight
        gate2 = tensors.get(f"model.layers.{i}.block_sparse_moe.gate2.weight", gate[:0]).float()
        layer.block_sparse_moe = AdamoeBlock(gate, gate2, block.experts, k)
    return model


def blocks(model):
    return [layer.block_sparse_moe for layer in model.model.layers]


def logits(model, tokens):
    return model(torch.tensor([tokens]), use_cache=False).logits[0]
