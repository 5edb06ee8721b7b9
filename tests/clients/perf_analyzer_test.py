"""perf_analyzer, Triton's load generator, over gRPC: what it reports is what the server counted."""

import json
import re

import programs
from programs import OUTPUT_TOKENS, REQUESTS

PROMPTS = ["Once upon a time", "Lily went to the park and"]


def test_perf_analyzer_reports_what_the_server_counted(server, tmp_path):
    sampling = json.dumps(dict(max_tokens=OUTPUT_TOKENS, ignore_eos=True))
    data = tmp_path / "data.json"
    asked = dict(stream=[True], sampling_parameters=[sampling], return_num_input_tokens=[True], return_num_output_tokens=[True])
    data.write_text(json.dumps(dict(data=[dict(text_input=[prompt], **asked) for prompt in PROMPTS])))
    folder = programs.DEPS / "perf_analyzer"
    with programs.counted(server) as counted:
        printed = programs.run(
            folder / "bin" / "perf_analyzer", "-m", "demo_model", "-u", server.address, "-i", "grpc", "--streaming", "--async",
            f"--input-data={data}", f"--request-count={REQUESTS}", "--concurrency-range=4",
            f"--profile-export-file={tmp_path / 'report.json'}", folder=tmp_path,
            LD_LIBRARY_PATH=str(folder / "nvidia" / "cuda_runtime" / "lib"),
        )  # fmt: skip
    assert re.search(rf"Request count: {REQUESTS}\n", printed), printed
    (experiment,) = json.loads((tmp_path / "report.json").read_text())["experiments"]
    requests = experiment["requests"]
    assert len(requests) == REQUESTS == counted.requests
    outputs = [request["response_outputs"] for request in requests]
    assert sum(answers[-1]["num_input_tokens"] for answers in outputs) == counted.prompt_tokens
    assert sum(answer["num_output_tokens"] for answers in outputs for answer in answers) == counted.generated_tokens
    assert counted.generated_tokens == REQUESTS * OUTPUT_TOKENS
    # In nanoseconds.
    firsts = [request["response_timestamps"][0] - request["timestamp"] for request in requests]
    durations = [request["response_timestamps"][-1] - request["timestamp"] for request in requests]
    counted.check_latencies(sum(firsts) / REQUESTS / 1e9, sum(durations) / REQUESTS / 1e9)
