"""aiperf, NVIDIA's load generator, over HTTP: what it reports is what the server counted."""

import json

import programs
import pytest
from programs import OUTPUT_TOKENS, PROMPT_TOKENS, REQUESTS


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_aiperf_reports_what_the_server_counted(server, tmp_path, endpoint):
    with programs.counted(server) as counted:
        programs.run(
            programs.DEPS / "clients" / "aiperf" / "bin" / "aiperf", "profile", "--model=demo_model",
            f"--url={server.http_url()}", f"--endpoint-type={endpoint}", "--streaming",
            f"--tokenizer={programs.DEMO}", "--use-server-token-count", f"--request-count={REQUESTS}", "--concurrency=4",
            f"--synthetic-input-tokens-mean={PROMPT_TOKENS}", f"--output-tokens-mean={OUTPUT_TOKENS}",
            "--extra-inputs=ignore_eos:true", "--server-metrics-formats=json", f"--artifact-dir={tmp_path}", folder=tmp_path,
        )  # fmt: skip
    report = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    assert report["error_summary"] == []
    assert report["request_count"]["avg"] == REQUESTS == counted.requests
    assert report["total_usage_prompt_tokens"]["avg"] == counted.prompt_tokens
    assert report["total_usage_completion_tokens"]["avg"] == counted.generated_tokens == REQUESTS * OUTPUT_TOKENS
    if endpoint == "completions":
        assert counted.prompt_tokens == REQUESTS * PROMPT_TOKENS

    def seconds(name):
        assert report[name]["unit"] == "ms"
        return report[name]["avg"] / 1000

    counted.check_latencies(seconds("time_to_first_token"), seconds("request_latency"), seconds("inter_token_latency"))
    # It has read the server's metrics by itself.
    metrics = json.loads((tmp_path / "server_metrics_export.json").read_text())["metrics"]
    (series,) = metrics["adamoe_generated_tokens"]["series"]
    assert series["stats"]["total"] == counted.generated_tokens
