"""deploy/quickstart, from a build that is there: what it shows, and that nothing is left when it ends."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
QUICKSTART = SOURCE / "deploy" / "quickstart"
TIMEOUT = 120


def take_sigint():
    """A shell cannot trap a signal that was ignored when it started, as it is below `nohup` or `&`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Quickstart:
    """A run in a process group of its own, with its temporary files in `folder`."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        self.process = subprocess.Popen(
            [QUICKSTART, *arguments],
            env=os.environ | {"TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=take_sigint,
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.output += line

    def until(self, text):
        end = time.monotonic() + TIMEOUT
        while text not in self.output:
            assert self.process.poll() is None and time.monotonic() < end, f"no '{text}' in: {self.output}"
            time.sleep(0.1)

    def wait(self):
        code = self.process.wait(TIMEOUT)
        self._reader.join()
        self.process.stdout.close()
        return code

    def interrupt(self):
        """Ctrl-C: a signal to everything that runs in the foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.interrupt()
            self.wait()

    def assert_nothing_is_left(self):
        addresses = re.findall(r"127\.0\.0\.1:(\d+)", self.output)
        assert addresses
        for port in set(addresses):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", int(port))) != 0, f"something still listens on {port}"
        assert not list(self.folder.iterdir())


def value(output, name):
    return re.search(rf"^{name} {{2,}}(\S.*)$", output, flags=re.MULTILINE).group(1)


def test_without_flags_it_serves_shows_and_stops(tmp_path):
    with Quickstart(tmp_path) as run:
        assert run.wait() == 0, run.output
    assert "experts per token and layer" in run.output
    assert re.search(r'^adamoe_expert_slots_total\{kind="null",phase="decode"\} [1-9]', run.output, flags=re.MULTILINE)
    assert "Prometheus at" not in run.output
    run.assert_nothing_is_left()


def test_with_prometheus_it_shows_what_was_recorded_and_keeps_it_until_ctrl_c(tmp_path):
    with Quickstart(tmp_path, "--with-prometheus", "--keep", "The little fox") as run:
        run.until("running until Ctrl-C")
        assert 0 < float(value(run.output, "experts per token").split()[0]) < 3
        saved = float(value(run.output, "expert FLOPs saved").split()[0])
        assert 0 < float(value(run.output, "model FLOPs saved").split()[0]) < saved < 100
        assert re.match(r"p50 \S+ m?s, p90 \S+ m?s, p99 \S+ m?s$", value(run.output, "first token"))
        assert re.match(r"none of \d+$", value(run.output, "alerts"))
        page = re.search(r"Prometheus at (http://127\.0\.0\.1:\d+/classic/graph)", run.output).group(1)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(page, timeout=10) as answer:
            assert "Prometheus" in answer.read().decode()
        run.interrupt()
        assert run.wait() == 130
    run.assert_nothing_is_left()


def test_an_interrupt_in_the_middle_leaves_nothing(tmp_path):
    with Quickstart(tmp_path, "--with-prometheus") as run:
        run.until("load: adamoe_bench")
        run.interrupt()
        assert run.wait() != 0
    run.assert_nothing_is_left()


@pytest.mark.parametrize("argument", ["--with-grafana", "-x"])
def test_an_unknown_flag_is_refused(tmp_path, argument):
    done = subprocess.run([QUICKSTART, argument], capture_output=True, text=True)
    assert done.returncode == 2
    assert argument in done.stderr and "--with-prometheus" in done.stderr
