"""adamoe_server, measured from outside by adamoe_bench.

Prompts are drawn from a seed. The prefix cache is on: decoding is measured with prompts that ran before, so that all
streams start at once and none waits for another's prompt; prefill and served requests have prompts of their own.
"""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request

from cpu import machine

STREAMS = (1, 4, 8, 16, 32)
CLIENTS, REQUESTS_PER_CLIENT = 8, 3
PREFILL_TOKENS, PROMPT_TOKENS, OUTPUT_TOKENS = 512, 128, 64
FIRST_SEED = 1000


@contextlib.contextmanager
def server(options, model, *flags):
    """Yields (address, seconds from start until it listens, address of the metrics); stops the server."""
    environment = dict(os.environ)
    if options.isa:
        environment["ADAMOE_CPU_ISA"] = options.isa
    metrics = f"127.0.0.1:{machine.free_port()}"
    begin = time.monotonic()
    process = subprocess.Popen(
        [options.build / "server/adamoe_server", f"--model={model}", "--listen=127.0.0.1:0", f"--metrics_listen={metrics}",
         f"--threads={options.threads}", "--log_level=warn", "--kv_cache_tokens=16384", *flags],
        stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        seconds = time.monotonic() - begin
        found = re.search(r"listening on (\S+)", line)
        if not found:
            raise RuntimeError(f"adamoe_server did not start: {line!r}")
        yield found.group(1), seconds, metrics
    finally:
        process.terminate()
        process.wait()


def load(options, address, **flags):
    """adamoe_bench's report on a closed loop."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "report.json"
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        subprocess.run([options.build / "client/adamoe_bench", f"--target={address}", f"--json={path}", *arguments],
                       check=True, stdout=subprocess.DEVNULL)
        return json.loads(path.read_text())


def measure(options, model, *flags):
    """{measure: value}: seconds to start, prefill and decode in tokens per second, experts per token and layer."""
    with server(options, model, *flags) as (address, start_seconds, _):
        load(options, address, concurrency=1, requests=1, prompt_tokens=PREFILL_TOKENS, output_tokens=2)  # warms up
        prefill = load(options, address, concurrency=1, requests=3, prompt_tokens=PREFILL_TOKENS, output_tokens=1, seed=FIRST_SEED)
        result = {
            "start_seconds": start_seconds,
            "prefill": PREFILL_TOKENS / prefill["time_to_first_token_seconds"]["p50"],
            "prefill_experts": prefill["experts_per_token"],
        }
        for streams in STREAMS:
            prompts = {"concurrency": streams, "requests": streams, "prompt_tokens": PROMPT_TOKENS, "seed": FIRST_SEED + streams}
            load(options, address, output_tokens=1, **prompts)
            report = load(options, address, output_tokens=OUTPUT_TOKENS, **prompts)
            result[f"decode_{streams}"] = streams / report["inter_token_latency_seconds"]["p50"]
            result[f"decode_{streams}_experts"] = report["experts_per_token"]
        clients = load(options, address, concurrency=CLIENTS, requests=CLIENTS * REQUESTS_PER_CLIENT,
                       prompt_tokens=PROMPT_TOKENS, output_tokens=OUTPUT_TOKENS, seed=2 * FIRST_SEED)
        result["served"] = clients["output_tokens_per_second"]
        result["time_to_first_token"] = clients["time_to_first_token_seconds"]["p50"]
        return result


def overhead(options, model):
    """A model of almost no cost: tokens per second over 32 streams, and what a step takes outside the model."""
    with server(options, model) as (address, _, metrics):
        load(options, address, concurrency=32, requests=32, prompt_tokens=16, output_tokens=64)
        before = scrape(metrics)
        report = load(options, address, concurrency=32, requests=128, prompt_tokens=16, output_tokens=512)
        after = scrape(metrics)
        steps, seconds = (after[f"adamoe_step_overhead_seconds_{part}"] - before[f"adamoe_step_overhead_seconds_{part}"]
                          for part in ("count", "sum"))
        return {"tokens_per_second": report["output_tokens_per_second"],
                "step_seconds": 32 / report["output_tokens_per_second"], "overhead_seconds": seconds / steps}


def scrape(address):
    """The metrics without labels: name -> value."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if "{" not in line and not line.startswith("#"))}
