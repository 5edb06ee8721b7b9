"""A server in the image's root file system, on the manifest's own addresses: run it in a network namespace of its own."""

import os
import re
import signal
import subprocess
import threading
import time

import container
import grpc
import harness
from grpc_health.v1 import health_pb2, health_pb2_grpc

USER = 65532


class Process:
    """The container's process, whose output is collected. `with` kills what is left."""

    def __init__(self, root, mounts, program):
        for _, target in mounts:
            os.makedirs(f"{root}{target}", exist_ok=True)
        self.errors = harness.Output()
        command = container.command(root, USER, mounts, program)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.errors.file)

    def log(self):
        return self.errors.text()

    def terminate(self):
        """SIGTERM to the container's process 1, as a runtime sends it: not to unshare, which waits for it."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children, encoding="utf-8") as file:
            (child,) = file.read().split()
        os.kill(int(child), signal.SIGTERM)

    def wait(self, timeout):
        return self.process.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()  # and with it what it started
        self.process.wait()
        self.errors.close()


class Probe(threading.Thread):
    """One of the kubelet's gRPC probes, by its fields in the manifest: `ok` follows its thresholds."""

    def __init__(self, fields, ok):
        super().__init__(daemon=True)
        self.fields = fields
        self.ok = ok
        self.ended = threading.Event()
        self.failures = 0  # in a row
        self.successes = 0
        self.changes = []  # (time, ok)

    def check(self):
        """As the kubelet does: a new connection each time, in plaintext."""
        address = f"127.0.0.1:{self.fields['grpc']['port']}"
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        try:
            with grpc.insecure_channel(address, options=options) as channel:
                request = health_pb2.HealthCheckRequest(service=self.fields["grpc"].get("service", ""))
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=self.fields["timeoutSeconds"])
                return answer.status == health_pb2.HealthCheckResponse.SERVING
        except grpc.RpcError:
            return False

    def look(self):
        good = self.check()
        self.successes = self.successes + 1 if good else 0
        self.failures = 0 if good else self.failures + 1
        before = self.ok
        if good and self.successes >= self.fields.get("successThreshold", 1):
            self.ok = True
        if not good and self.failures >= self.fields["failureThreshold"]:
            self.ok = False
        if self.ok != before:
            self.changes.append((time.monotonic(), self.ok))

    def run(self):
        while not self.ended.is_set():
            self.look()
            self.ended.wait(self.fields["periodSeconds"])

    def stop(self):
        self.ended.set()
        self.join()


def await_startup(fields, process, period=0.2):
    """Until the startup probe succeeds; asks more often than the manifest says, within the time it allows."""
    probe = Probe(fields, ok=False)
    end = time.monotonic() + fields["periodSeconds"] * fields["failureThreshold"]
    while not probe.ok:
        assert process.process.poll() is None, process.log()
        assert time.monotonic() < end, f"not started: {process.log()}"
        probe.look()
        time.sleep(0 if probe.ok else period)


def with_threads(arguments):
    """The manifest's arguments with what the node puts in: as many threads as this machine has cores, or the limit."""
    cores = str(len(os.sched_getaffinity(0)))
    return [re.sub(r"\$\(CPU_LIMIT\)", cores, argument) for argument in arguments]
