#!/usr/bin/env python3
"""A Prometheus for one server on this machine: Debian's, with this folder's configuration and rules, on a free loopback
port. What it stores is gone when it ends.

    deploy/prometheus/local.py --target=127.0.0.1:9464    # runs until SIGINT or SIGTERM
"""

import argparse
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

FOLDER = pathlib.Path(__file__).resolve().parent
START_TIMEOUT = 60.0  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # that end it


class PrometheusError(Exception):
    """It did not start, or refused a query; says why."""


class Api:
    """The HTTP API of the Prometheus at HOST:PORT."""

    def __init__(self, address):
        self.address = address

    def _open(self, path):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.address}{path}", timeout=30) as answer:
            return answer.read().decode()

    def get(self, path, **parameters):
        """The data of an answer of the HTTP API, as /api/v1/rules."""
        try:
            answer = json.loads(self._open(f"{path}?{urllib.parse.urlencode(parameters, doseq=True)}"))
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{path} {parameters}: {error.read().decode()}") from None
        return answer["data"]

    def query(self, expr):
        """Now: pairs of labels and value."""
        return [(s["metric"], float(s["value"][1])) for s in self.get("/api/v1/query", query=expr)["result"]]

    def query_range(self, expr, start, end, step):
        """Between two Unix times, every `step` seconds: pairs of labels and [(time, value)]."""
        data = self.get("/api/v1/query_range", query=expr, start=start, end=end, step=step)
        return [(s["metric"], [(float(t), float(v)) for t, v in s["values"]]) for s in data["result"]]


class Prometheus(Api):
    """Runs while the `with` block does.

    target: HOST:PORT whose /metrics is scraped. scrape_interval: also how often rules are evaluated, as Prometheus writes
    durations; none: as prometheus.yml says.
    """

    def __init__(self, target, scrape_interval=None):
        super().__init__(None)
        self.process = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="adamoe_prometheus_"))
        try:
            self._write_configuration(target, scrape_interval)
            self._start()
        except BaseException:
            self.stop()
            raise

    def _write_configuration(self, target, scrape_interval):
        text = (FOLDER / "prometheus.yml").read_text()
        text, replaced = re.subn(r"targets: \[.*\]", f"targets: [{json.dumps(target)}]", text)
        assert replaced == 1, "prometheus.yml has not the one list of targets"
        if scrape_interval:
            text = re.sub(r"(scrape|evaluation)_interval: .*", rf"\1_interval: {scrape_interval}", text)
        (self.folder / "prometheus.yml").write_text(text)
        shutil.copytree(FOLDER / "rules", self.folder / "rules")

    def _start(self):
        command = [
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        with open(self.folder / "log", "w") as log:
            try:
                self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
            except FileNotFoundError:
                raise PrometheusError("there is no prometheus here: deploy/install_deps.sh observe installs it") from None
        end = time.monotonic() + START_TIMEOUT
        while not (self.address and self._ready()):
            if self.process.poll() is not None or time.monotonic() > end:
                raise PrometheusError(f"Prometheus did not start: {self.log()[-2000:]}")
            time.sleep(0.05)
            found = re.search(r'msg="Listening on" address=(127\.0\.0\.1:[1-9]\d*)', self.log())
            self.address = found and found.group(1)

    def _ready(self):
        try:
            self._open("/-/ready")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def log(self):
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def end(*_):
    """Once: a second signal must not break off the tidying up that the first one began."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def main():
    parser = argparse.ArgumentParser(description="Runs Prometheus beside one server until SIGINT or SIGTERM.")
    parser.add_argument("--target", required=True, help="HOST:PORT of the server's --metrics_listen")
    parser.add_argument("--scrape_interval", help="as 1s or 15s; default: as prometheus.yml says")
    flags = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, end)
    try:
        with Prometheus(flags.target, flags.scrape_interval) as prometheus:
            print(f"prometheus at http://{prometheus.address}", flush=True)
            code = prometheus.process.wait()
            raise PrometheusError(f"Prometheus ended with {code}: {prometheus.log()[-2000:]}")
    except PrometheusError as error:
        print(f"local.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
