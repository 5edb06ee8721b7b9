"""Speed of a Mixtral training step in plain PyTorch, the peer of `adamoe_train pretrain`: experts in a Python loop over
gathered rows, bfloat16 autocast, fused AdamW, random tokens. Prints tokens per second.

  python3 train/bench/plain_pytorch.py [--seconds=60] [--compute=bfloat16|float32]
"""
import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F

VOCAB, HIDDEN, LAYERS, HEADS, KV_HEADS = 4096, 256, 6, 8, 4
EXPERTS, INNER, TOP_K, CONTEXT, BATCH = 8, 512, 2, 256, 16
HEAD_DIM = HIDDEN // HEADS


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1 = nn.Linear(HIDDEN, INNER, bias=False)
        self.w2 = nn.Linear(INNER, HIDDEN, bias=False)
        self.w3 = nn.Linear(HIDDEN, INNER, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_norm = nn.RMSNorm(HIDDEN, eps=1e-5)
        self.post_norm = nn.RMSNorm(HIDDEN, eps=1e-5)
        self.q = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.k = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.v = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.o = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.gate = nn.Linear(HIDDEN, EXPERTS, bias=False)
        self.experts = nn.ModuleList(Expert() for _ in range(EXPERTS))

    def attention(self, x, cos, sin):
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, HEADS, HEAD_DIM).transpose(1, 2)
        k = self.k(x).view(batch, length, KV_HEADS, HEAD_DIM).transpose(1, 2)
        v = self.v(x).view(batch, length, KV_HEADS, HEAD_DIM).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k = k.repeat_interleave(HEADS // KV_HEADS, dim=1)
        v = v.repeat_interleave(HEADS // KV_HEADS, dim=1)
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        return self.o(out.transpose(1, 2).reshape(batch, length, HIDDEN))

    def moe(self, x):
        flat = x.reshape(-1, HIDDEN)
        probabilities = self.gate(flat).float().softmax(-1)
        weights, picks = probabilities.topk(TOP_K, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            tokens, slots = torch.where(picks == i)
            rows = expert(flat[tokens]) * weights[tokens, slots, None]
            out.index_add_(0, tokens, rows.to(out.dtype))
        return out.view_as(x)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.input_norm(x), cos, sin)
        return x + self.moe(self.post_norm(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(HIDDEN, eps=1e-5)
        angles = torch.outer(torch.arange(CONTEXT), 1e4 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM))
        self.register_buffer("cos", torch.cat((angles, angles), -1).cos())
        self.register_buffer("sin", torch.cat((angles, angles), -1).sin())

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.linear(self.norm(x), self.embed.weight)


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--compute", choices=("bfloat16", "float32"), default="bfloat16")
    options = parser.parse_args()
    torch.manual_seed(1)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {torch.get_num_threads()} threads")
    seconds = []
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        ids = torch.randint(VOCAB, (BATCH, CONTEXT + 1))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.compute == "bfloat16"):
            logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.monotonic() - begin)
    typical = sorted(seconds)[len(seconds) // 2]
    print(f"{len(seconds)} steps, median {typical:.3f} s: {BATCH * CONTEXT / typical:.0f} tokens/s, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
