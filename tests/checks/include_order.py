#!/usr/bin/env python3
"""Fails on an #include that goes against the order of the folders.

The table says what each folder may include; everything it does not say is refused. Headers of the standard library and
of other projects are not looked at, but for a few rules: gRPC stays in rpc/, protobuf in serving/, rpc/ and http/, both in client/,
train/remote/ and main; Boost stays in http/; torch stays in train/ and the tests; xgrammar stays in structured/.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

MAY_INCLUDE = {
    "server/base": [],
    "server/request": ["server/base"],
    "server/queue": ["server/request", "server/base"],
    "server/kv_cache": ["server/request", "server/base"],
    "server/kernels": ["server/base"],
    "server/weights": ["server/base"],
    "server/tokenizer": ["server/base"],
    "server/metrics": ["server/request", "server/base"],
    "server/log": ["server/request", "server/base"],
    "server/security": ["server/base"],
    "server/structured": ["server/tokenizer", "server/request", "server/base"],
    "server/scheduler": ["server/kv_cache/block_pool", "server/request", "server/base"],
    "server/model": ["server/kernels", "server/kv_cache/kv_store", "server/weights", "server/base"],
    "server/device": ["server/model/model.h", "server/weights/mixtral_weights.h", "server/base"],
    "server/cuda": ["server/device/device_plugin.h", "server/model/model.h", "server/model/step_input.h",
                    "server/kernels/cuda", "server/weights", "server/base", "server/model/dimensions.h"],
    "server/executor": ["server/queue", "server/scheduler", "server/model/model.h", "server/kv_cache/block_pool",
                        "server/request", "server/base"],
    "server/serving": ["server/queue", "server/structured", "server/tokenizer", "server/metrics", "server/log",
                       "server/security", "server/request", "server/base", "proto"],
    "server/rpc": ["server/serving", "server/queue", "server/tokenizer", "server/metrics", "server/log", "server/security",
                   "server/request", "server/base", "proto"],
    "server/http": ["server/serving", "server/queue", "server/tokenizer", "server/metrics", "server/log", "server/security",
                    "server/request", "server/base", "proto"],
    "server/rpc/open_inference": ["server/rpc/grpc_codec.h", "server/rpc/unary_answer.h", "server/serving",
                                  "server/security", "server/base", "proto"],
    "server/rpc/vllm_engine": ["server/rpc/grpc_codec.h", "server/rpc/unary_answer.h", "server/serving",
                               "server/security", "server/base", "proto"],
    "client": ["proto"],
    "train": ["server/weights", "server/tokenizer", "server/base"],
    "train/remote": ["train/scorer.h", "server/weights", "server/base", "client/rpc.h", "proto"],
}
GENERATED = ("adamoe/v1/", "google/rpc/", "open_inference/", "smg/")  # what proto/ makes
FOREIGN = {
    r"(grpc|grpcpp)": ("server/rpc", "server/main", "client", "train/remote", "tests"),
    r"(google/protobuf|google/rpc|adamoe/v1)": ("server/serving", "server/rpc", "server/http", "server/main", "client", "train/remote",
                                                "tests"),
    r"(torch|ATen|c10)": ("train", "tests"),
    r"prometheus": ("server/metrics", "server/main", "tests"),
    r"(open_inference|smg)": ("server/rpc", "tests"),
    r"openssl": ("server/security", "server/http/tls_context", "server/rpc/vllm_engine", "tests"),
    r"boost": ("server/http", "tests"),
    r"(xgrammar|dlpack)": ("server/structured", "tests"),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def folder_of(path):
    """The longest folder of the table that holds `path`, or None (main, tests: free to include anything)."""
    matches = [folder for folder in MAY_INCLUDE if path.startswith(folder + "/")]
    return max(matches, key=len, default=None)


def check(path):
    errors = []
    folder = folder_of(path)
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        included = match.group(1)
        for pattern, allowed in FOREIGN.items():
            if re.match(pattern + r"[/_+.]", included) and not path.startswith(allowed):
                errors.append(f"{path}:{number}: {included} belongs to {', '.join(allowed)}")
        if folder is None:
            continue
        target = "proto/" if included.startswith(GENERATED) else included
        if target.startswith(("server/", "client/", "train/", "tests/", "proto/")) and not target.startswith(folder + "/"):
            if not any(target.startswith(prefix) for prefix in MAY_INCLUDE[folder]):
                errors.append(f"{path}:{number}: {folder} may not include {included}")
    return errors


def main():
    sources = [p.relative_to(ROOT).as_posix() for top in ("server", "client", "train", "tests")
               for p in sorted((ROOT / top).rglob("*")) if p.suffix in (".h", ".cc", ".cu", ".cuh")]
    errors = [error for path in sources for error in check(path)]
    print("\n".join(errors) or f"{len(sources)} files include in order")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
