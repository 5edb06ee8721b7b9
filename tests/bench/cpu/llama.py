"""llama.cpp's own benchmarks on the same weights, and its server driven by the same load as ours."""
import contextlib
import http.client
import json
import random
import statistics
import subprocess
import threading
import time

from cpu import machine, models, ours


def run(options, model, tool, *flags):
    arguments = [options.llama_bin / tool, "-m", model, "-t", str(options.threads), *flags]
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def measure(options, model):
    tests = json.loads(run(options, model, "llama-bench", "-p", str(ours.PREFILL_TOKENS), "-n", str(ours.OUTPUT_TOKENS), "-r", "3", "-o", "json"))
    result = {}
    for test in tests:
        result["prefill" if test["n_gen"] == 0 else "llama_bench_decode"] = test["avg_ts"]
    context = max(ours.STREAMS) * (ours.PROMPT_TOKENS + ours.OUTPUT_TOKENS)
    lines = run(options, model, "llama-batched-bench", "-c", str(context), "-b", "2048", "-ub", "512", "-npp", str(ours.PROMPT_TOKENS),
                "-ntg", str(ours.OUTPUT_TOKENS), "-npl", ",".join(map(str, ours.STREAMS)), "--output-format", "jsonl")
    for line in lines.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            result[f"decode_{row['pl']}"] = row["speed_tg"]
    return {**result, **serve(options, model)}


@contextlib.contextmanager
def server(options, model):
    """Yields the port of a llama-server that is ready; stops it."""
    port = machine.free_port()
    context = ours.CLIENTS * (ours.PROMPT_TOKENS + ours.OUTPUT_TOKENS)
    process = subprocess.Popen(
        [options.llama_bin / "llama-server", "-m", model, "-t", str(options.threads), "-c", str(2 * context), "-np", str(ours.CLIENTS),
         "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"llama-server ended with {process.returncode}")
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def stream(port, tokens):
    """(seconds to the first token, tokens) of one streamed completion."""
    body = {"prompt": tokens, "n_predict": ours.OUTPUT_TOKENS, "stream": True, "ignore_eos": True, "cache_prompt": False}
    begin = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    first, generated = None, 0
    for line in connection.getresponse():
        if line.startswith(b"data: "):
            first = first or time.monotonic() - begin
            generated = json.loads(line[len(b"data: "):]).get("tokens_predicted", generated)
    if generated != ours.OUTPUT_TOKENS:
        raise RuntimeError(f"llama-server generated {generated} of {ours.OUTPUT_TOKENS} tokens")
    return first, generated


def serve(options, model):
    """llama-server under the clients that ours has: tokens per second, and the median time to the first."""
    finished = []

    def client(seed):
        ids = random.Random(seed)
        for _ in range(ours.REQUESTS_PER_CLIENT):
            finished.append(stream(port, [ids.randrange(3, models.SHAPE["vocab"]) for _ in range(ours.PROMPT_TOKENS)]))

    with server(options, model) as port:
        stream(port, list(range(3, 3 + ours.PROMPT_TOKENS)))  # warms up
        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(ours.CLIENTS)]
        begin = time.monotonic()
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        seconds = time.monotonic() - begin
    if len(finished) != ours.CLIENTS * ours.REQUESTS_PER_CLIENT:
        raise RuntimeError("a request to llama-server failed")
    return {"served": sum(tokens for _, tokens in finished) / seconds,
            "time_to_first_token": statistics.median(first for first, _ in finished)}
