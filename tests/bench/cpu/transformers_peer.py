"""Prints a JSON line of transformers' speed on a model folder: transformers_peer.py MODEL THREADS. bfloat16, eager."""
import json
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM

PREFILL_TOKENS, PROMPT_TOKENS, OUTPUT_TOKENS, STREAMS = 512, 128, 32, (1, 4, 8, 16)


def main():
    torch.set_num_threads(int(sys.argv[2]))
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()
    vocabulary = model.config.vocab_size
    result = {}
    with torch.inference_mode():
        ids = torch.randint(vocabulary, (1, PREFILL_TOKENS))
        times = []
        for _ in range(3):
            begin = time.monotonic()
            model(ids, logits_to_keep=1)
            times.append(time.monotonic() - begin)
        result["prefill"] = PREFILL_TOKENS / statistics.median(times)
        for streams in STREAMS:
            out = model(torch.randint(vocabulary, (streams, PROMPT_TOKENS)), use_cache=True, logits_to_keep=1)
            times = []
            for _ in range(OUTPUT_TOKENS):
                begin = time.monotonic()
                out = model(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
                times.append(time.monotonic() - begin)
            result[f"decode_{streams}"] = streams / statistics.median(times)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
