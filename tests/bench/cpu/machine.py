"""The processor: its name, its cores, how fast it reads memory."""
import os
import pathlib
import platform
import socket
import subprocess


def processors():
    return len(os.sched_getaffinity(0))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def read_bandwidth(build, threads):
    """10^9 bytes per second that all threads together read, doing nothing else."""
    out = subprocess.run([build / "tests/bench/read_bandwidth", str(threads)], check=True, capture_output=True, text=True)
    return float(out.stdout)
