"""guidellm, vLLM's load generator, over HTTP: what it reports is what the server counted."""

import json

import programs
import pytest
from programs import OUTPUT_TOKENS, PROMPT_TOKENS, REQUESTS


@pytest.mark.parametrize("endpoint", ["/v1/completions", "/v1/chat/completions"])
def test_guidellm_reports_what_the_server_counted(server, tmp_path, endpoint):
    with programs.counted(server) as counted:
        programs.run(
            programs.DEPS / "clients" / "guidellm" / "bin" / "guidellm", "run",
            f"--backend=kind=openai_http,target={server.http_url()},request_format={endpoint}",
            "--profile=kind=concurrent,streams=4", f"--constraint=kind=max_requests,count={REQUESTS}",
            f"--tokenizer=kind=huggingface_auto,model={programs.DEMO}",
            f"--data=kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={OUTPUT_TOKENS}",
            f"--output=kind=json,path={tmp_path / 'report.json'}", "--disable-console-interactive", folder=tmp_path,
        )  # fmt: skip
    (benchmark,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    metrics = benchmark["metrics"]
    totals = metrics["request_totals"]
    assert (totals["successful"], totals["errored"], totals["incomplete"]) == (REQUESTS, 0, 0)
    assert counted.requests == REQUESTS

    def successful(name):
        return metrics[name]["successful"]

    assert successful("prompt_token_count")["total_sum"] == counted.prompt_tokens >= REQUESTS * PROMPT_TOKENS
    assert successful("output_token_count")["total_sum"] == counted.generated_tokens == REQUESTS * OUTPUT_TOKENS
    counted.check_latencies(
        successful("time_to_first_token_ms")["mean"] / 1000,
        successful("request_latency")["mean"],
        successful("inter_token_latency_ms")["mean"] / 1000,
    )
