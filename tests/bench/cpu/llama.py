"""llama.cpp's own benchmarks on the same weights, and its server driven by the same load as ours."""
import json
import subprocess

from cpu import ours


def run(options, tool, *flags):
    arguments = [options.llama_bin / tool, "-m", options.llama_model, "-t", str(options.threads), *flags]
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def measure(options):
    tests = json.loads(run(options, "llama-bench", "-p", str(ours.PREFILL_TOKENS), "-n", str(ours.OUTPUT_TOKENS), "-r", "3", "-o", "json"))
    result = {}
    for test in tests:
        result["prefill" if test["n_gen"] == 0 else "llama_bench_decode"] = test["avg_ts"]
    context = max(ours.STREAMS) * (ours.PROMPT_TOKENS + ours.OUTPUT_TOKENS)
    lines = run(options, "llama-batched-bench", "-c", str(context), "-b", "2048", "-ub", "512", "-npp", str(ours.PROMPT_TOKENS),
                "-ntg", str(ours.OUTPUT_TOKENS), "-npl", ",".join(map(str, ours.STREAMS)), "--output-format", "jsonl")
    for line in lines.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            result[f"decode_{row['pl']}"] = row["speed_tg"]
    return result
