#!/usr/bin/env python3
"""Draws the pictures of ../README.md: runs a server on the demo model under a load that changes, with a Prometheus that
watches it, and draws what the dashboards' queries find.

    ~/.cache/adamoe/pictures/bin/python deploy/grafana/pictures/make.py    # deploy/install_deps.sh observe pictures

Takes about four minutes. The server and the load generator are those of build/release, or of $ADAMOE_BUILD_DIR.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[2]
BUILD = pathlib.Path(os.environ.get("ADAMOE_BUILD_DIR", SOURCE / "build" / "release"))
sys.path[:0] = [str(HERE.parent), str(SOURCE / "deploy" / "prometheus")]
import draw  # noqa: E402
import local  # noqa: E402
import queries  # noqa: E402

LIMIT_KB = 300  # of a picture
PHASE = 30  # seconds of each load
LOADS = [
    "--concurrency=2",
    "--concurrency=8",
    "--concurrency=8 --null_bias=1",
    "--concurrency=8 --null_bias=-1",
    "--concurrency=8 --max_experts_per_token=1",
    "--rate=10 --prompt_tokens=400 --timeout=4s",
    "--concurrency=4",
]
PICTURES = {
    "service_traffic.png": ("service", ["At a glance", "Traffic", "Errors and objectives"]),
    "service_latency.png": ("service", ["Latency", "Saturation"]),
    "experts_null.png": ("experts", ["At a glance", "Experts per token", "Null experts"]),
    "experts_flops.png": ("experts", ["FLOPs", "Load of the experts", "Effect on latency"]),
}


class Server:
    """adamoe_server on the demo model, small enough to be seen at its limits."""

    def __enter__(self):
        self.log = tempfile.TemporaryFile(mode="a+")
        self.process = subprocess.Popen(
            [
                BUILD / "server" / "adamoe_server",
                f"--model={SOURCE / 'deploy' / 'demo_model'}",
                "--listen=127.0.0.1:0",
                "--metrics_listen=127.0.0.1:0",
                "--per_expert_metrics",
                "--max_running_requests=12",
                "--max_queued_requests=8",
                "--kv_cache_tokens=4096",
            ],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        line = self.process.stdout.readline()
        self.log.seek(0)
        log = self.log.read()
        if "listening on " not in line:
            self.__exit__()
            raise SystemExit(f"the server did not start: {log}")
        self.address = line.split("listening on ")[1].strip()
        self.metrics_address = re.search(r"metrics at http://(\S+)/metrics", log).group(1)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()
        self.log.close()


def load(server, flags):
    began = time.monotonic()
    subprocess.run(
        [
            BUILD / "client" / "adamoe_bench",
            f"--target={server.address}",
            "--requests=0",
            f"--duration={PHASE}s",
            "--prompt_tokens=64",
            "--output_tokens=64",
            "--temperature=0.7",
            *flags.split(),
        ],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    if time.monotonic() - began > PHASE + 15:
        raise SystemExit("the machine stood still or is overloaded: no pictures from such a run")


def main():
    with Server() as server, local.Prometheus(server.metrics_address, scrape_interval="1s") as prometheus:
        time.sleep(2)
        start = time.time()
        for flags in LOADS:
            print(f"load: {flags}", flush=True)
            load(server, flags)
        end = time.time()
        data = draw.Data(prometheus, start + 5, end, step=2)
        for name, (dashboard, rows) in PICTURES.items():
            path = HERE / name
            draw.draw(queries.dashboards()[dashboard], rows, data, path)
            print(f"{path}: {draw.size_kb(path)} kB")
            if draw.size_kb(path) > LIMIT_KB:
                raise SystemExit(f"{path} is larger than {LIMIT_KB} kB")


if __name__ == "__main__":
    main()
