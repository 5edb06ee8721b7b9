"""The image that the Dockerfile makes: what is in it, what is not, and that its server serves."""

import os
import pathlib
import re
import stat
import subprocess

import harness
import image
import manifests
import pod
import pytest

MAX_BYTES = 100e6
DEMO = image.SOURCE / "deploy" / "demo_model"
LISTEN = ["--listen=127.0.0.1:50051", "--health_listen=127.0.0.1:50052", "--metrics_listen=127.0.0.1:9464"]


@pytest.fixture(scope="module")
def config(built):
    return image.configuration(built)


def files(root):
    for folder, _, names in os.walk(root):
        for name in names:
            yield pathlib.Path(folder) / name


def test_it_is_small(root):
    assert sum(path.lstat().st_size for path in files(root)) < MAX_BYTES


def test_its_configuration(config):
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/opt/adamoe/adamoe_server"]
    assert config["StopSignal"] == "SIGTERM"
    flags = manifests.flags_of(manifests.server_of(manifests.pod_spec(manifests.render(manifests.K8S / "base")))["args"])
    ports = {f"{manifests.port_of(flags[name])}/tcp" for name in ("listen", "health_listen", "http_listen", "metrics_listen")}
    assert {port if "/" in port else f"{port}/tcp" for port in config["ExposedPorts"]} == ports
    version = re.search(r"project\(adamoe VERSION (\S+)", (image.SOURCE / "CMakeLists.txt").read_text())[1]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["version"] == version
    assert labels["licenses"] == "Apache-2.0"
    assert {"title", "description", "revision"} <= set(labels)


def test_it_holds_programs_and_their_libraries_only(root):
    executables = [
        path for path in files(root) if path.is_file() and not path.is_symlink() and path.stat().st_mode & stat.S_IXUSR
    ]
    programs = {path for path in executables if ".so" not in path.name}
    assert {path.relative_to(root).as_posix() for path in programs} == {"opt/adamoe/adamoe_server", "opt/adamoe/adamoe_client"}
    names = [path.name for path in files(root)]
    for unwanted in ("sh", "bash", "dash", "busybox", "python3", "apt-get", "dpkg", "perl", "curl"):
        assert unwanted not in names
    for unwanted in ("torch", "libc10", "cuda", "libgtest", "adamoe_train"):
        assert not any(unwanted in name for name in names)
    for path in executables:
        assert not path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH)
        assert path.stat().st_uid == 0  # the server's user cannot change what it runs


def test_licences_and_package_records(root):
    records = {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libssl3", "libgrpc29", "libgrpc++1.51", "libprotobuf32", "ca-certificates"} <= records
    for package in records:
        assert (root / "usr/share/doc" / package / "copyright").stat().st_size > 100
        assert f"Package: {package}\n" in (root / "var/lib/dpkg/status.d" / package).read_text()
    assert (root / "usr/share/common-licenses/Apache-2.0").is_file()
    assert (root / "usr/share/doc/adamoe/LICENSE").read_bytes() == (image.SOURCE / "LICENSE").read_bytes()
    assert (root / "etc/ssl/certs/ca-certificates.crt").stat().st_size > 100000


def test_version(root):
    with_version = pod.container.command(root, pod.USER, [], ["/opt/adamoe/adamoe_server", "--version"])
    run = subprocess.run(with_version, capture_output=True, text=True, timeout=30)
    assert re.search(r"adamoe_server \d+\.\d+\.\d+", run.stdout), run.stderr


@pytest.fixture(scope="module")
def running(root):
    """The server as its user, on a root that cannot be written."""
    program = ["/opt/adamoe/adamoe_server", "--model=/models/model", *LISTEN]
    with pod.Process(root, [(DEMO, "/models/model")], program) as process:
        pod.await_startup({"grpc": {"port": 50052}, "timeoutSeconds": 2, "periodSeconds": 1, "failureThreshold": 60}, process)
        yield process
        process.terminate()
        assert process.wait(30) == 0, process.log()


def test_it_generates(running):
    client = harness.Client("127.0.0.1:50051")
    answer = client.generate(prompt="Once upon a time", sampling=dict(max_tokens=20, temperature=0, ignore_eos=True))
    assert len(answer.tokens) == 20
    assert len(answer.text) > 20
    assert answer.usage.true_slots > 0
    client.channel.close()


def test_the_client_in_it_works_without_a_shell(running, root):
    program = ["/opt/adamoe/adamoe_client", "--target=127.0.0.1:50051", "generate", "--max_tokens=5", "--temperature=0", "Once"]
    run = subprocess.run(pod.container.command(root, pod.USER, [], program), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "5 tokens" in run.stdout + run.stderr


def test_its_process_has_no_privileges(running):
    children = f"/proc/{running.process.pid}/task/{running.process.pid}/children"
    child = pathlib.Path(children).read_text().split()[0]
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{child}/status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65532"] * 4
    assert status["NoNewPrivs"] == "1"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    mounts = pathlib.Path(f"/proc/{child}/mounts").read_text()
    for target in ("/", "/models/model"):
        assert re.search(rf"^\S+ {target} \S+ ro,", mounts, re.MULTILINE), target
