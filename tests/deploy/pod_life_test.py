"""A pod's life by the manifests' own values, on the built image: loading, probes, traffic, the pod's deletion, the drain.

Runs in a network namespace of its own, where the manifest's addresses are free and nothing else is reached."""

import pathlib
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc
import harness
import manifests
import pod
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from manifests import flags_of, pod_spec, port_of, seconds, server_of

GREEDY = dict(temperature=0, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Slow enough that a stream outlasts --drain_delay, with room for it."""
    folder = tmp_path_factory.mktemp("model") / "model"
    return harness.make_checkpoint(
        folder, layers=8, hidden=256, experts=8, null_experts=8, k=3, vocab=400, max_positions=200000
    )


@pytest.fixture(scope="module")
def spec():
    return pod_spec(manifests.render(manifests.K8S / "overlays" / "cpu"))


def start(root, spec, mounts):
    container = server_of(spec)
    assert spec["securityContext"]["runAsUser"] == pod.USER
    return pod.Process(root, mounts, ["/opt/adamoe/adamoe_server", *pod.with_threads(container["args"])])


def request(client, tokens):
    return client.generate(prompt="Once", sampling=dict(GREEDY, max_tokens=tokens))


class Traffic(threading.Thread):
    """Requests one after the other, as long as the endpoint is there."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.client = harness.Client(address)
        self.withdrawn = threading.Event()
        self.times = []
        self.failures = []

    def run(self):
        while not self.withdrawn.is_set():
            try:
                assert len(request(self.client, 8).tokens) == 8
                self.times.append(time.monotonic())
            except grpc.RpcError as error:
                self.failures.append((time.monotonic(), error.code(), error.details()))
                time.sleep(0.05)
        self.client.channel.close()


def health_over_http(flags):
    """The status of GET /health."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port_of(flags['http_listen'])}/health", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def tokens_for(client, duration, most):
    """How many tokens, at most `most`, one stream has after `duration` seconds beside the test's other traffic."""
    stream = client.stream(prompt="Long", sampling=dict(GREEDY, max_tokens=most))
    started, tokens = time.monotonic(), 0
    for message in stream:
        tokens += len(message.tokens)
        if time.monotonic() > started + duration:
            break
    stream.cancel()
    return tokens


def test_a_pod_s_life(root, model, spec):
    container = server_of(spec)
    flags = flags_of(container["args"])
    grace = spec["terminationGracePeriodSeconds"]
    delay = seconds(flags["drain_delay"])
    address = f"127.0.0.1:{port_of(flags['listen'])}"
    with start(root, spec, [(model, flags["model"])]) as process:
        pod.await_startup(container["startupProbe"], process)
        readiness = pod.Probe(container["readinessProbe"], ok=False)
        liveness = pod.Probe(container["livenessProbe"], ok=True)
        readiness.start()
        liveness.start()
        harness.eventually(lambda: readiness.ok, "a ready pod", timeout=container["readinessProbe"]["periodSeconds"] + 5)

        assert health_over_http(flags) == 200
        client = harness.Client(address)
        traffic = Traffic(address)
        traffic.start()
        time.sleep(2)
        # One that ends in the drain: after the delay, within the timeout.
        length = tokens_for(client, delay + 8, int(flags["kv_cache_tokens"]) - 1000)
        stream = client.stream(prompt="Long", sampling=dict(GREEDY, max_tokens=length), timeout=grace)
        first = next(stream)

        # The pod is deleted: the kubelet has no preStop hook to run, stops liveness probes and sends SIGTERM. The endpoint
        # is withdrawn in parallel, which reaches the last proxy some seconds later.
        deleted = time.monotonic()
        liveness.stop()
        process.terminate()
        time.sleep(delay - 5)
        traffic.withdrawn.set()
        traffic.join()
        assert not traffic.failures, traffic.failures[:3]
        assert traffic.times[-1] > deleted + delay - 7, "requests were served after SIGTERM"
        assert readiness.changes[-1][1] is False and readiness.changes[-1][0] < deleted + delay
        assert health_over_http(flags) == 503

        # After the delay new requests are refused at once, and the stream goes on.
        def refused():
            try:
                request(client, 1)
                return False
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE
                return True

        harness.eventually(refused, "new requests refused", timeout=delay)
        assert time.monotonic() > deleted + delay - 1
        assert process.process.poll() is None, "the stream is still under way"
        whole = harness.Generation([first, *stream])
        assert len(whole.tokens) == length
        assert process.wait(deleted + grace - time.monotonic()) == 0, process.log()
        assert time.monotonic() - deleted < grace
        readiness.stop()
        # Until then liveness had nothing against it.
        assert liveness.ok and not liveness.changes
        lines = process.log().splitlines()
        assert all(line.startswith("{") for line in lines), "--log_format=json"
        client.channel.close()


def test_sigterm_while_it_loads_ends_it(root, spec, tmp_path):
    """As process 1, which the kernel spares a signal's default action: or the kubelet would wait the whole grace period."""
    shutil.copytree(manifests.SOURCE / "deploy" / "demo_model", tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    subprocess.run(["mkfifo", tmp_path / "model" / "tokenizer.json"], check=True)
    flags = flags_of(server_of(spec)["args"])
    with start(root, spec, [(tmp_path / "model", flags["model"])]) as process:
        # Nobody writes: it loads forever.
        time.sleep(3)
        assert process.process.poll() is None, process.log()
        probe = pod.Probe(server_of(spec)["startupProbe"], ok=False)
        probe.look()
        assert not probe.ok
        process.terminate()
        assert process.wait(5) == 128 + 15


def certificate(folder, name):
    """A certificate of its own, as a secret's tls.crt and tls.key."""
    folder.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:adamoe-server.adamoe",
         "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "tls.key").chmod(0o644)  # a secret's volume has the pod's group; this folder has not
    return (folder / "tls.crt").read_bytes()


def secret(folder, version):
    """A secret's volume as the kubelet lays it out: names are links through ..data, which one rename replaces."""
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(version)
    (folder / "..data_tmp").rename(folder / "..data")


def secure_client(root_certificate, token):
    """GetModelInfo over TLS with a token; its answer's bytes."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1),
               ("grpc.ssl_target_name_override", "adamoe-server.adamoe")]  # fmt: skip
    credentials = grpc.ssl_channel_credentials(root_certificates=root_certificate)
    with grpc.secure_channel("127.0.0.1:50051", credentials, options=options) as channel:
        call = channel.unary_unary(f"/{harness.SERVICE}/GetModelInfo")
        return call(b"", timeout=10, metadata=[("authorization", f"Bearer {token}")] if token else None)


def test_a_pod_with_tls_and_tokens(root, tmp_path):
    spec = pod_spec(manifests.compose(tmp_path, "cpu", ["tls", "tokens"]))
    container = server_of(spec)
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    tls, tokens = tmp_path / "tls", tmp_path / "tokens"
    tls.mkdir()
    first = certificate(tls / "..1", "first")
    second = certificate(tls / "..2", "second")
    secret(tls, "..1")
    tokens.mkdir()
    (tokens / "tokens").write_text("tester a-token-that-nobody-guesses\n")
    for folder in (tmp_path, tls, tls / "..1", tls / "..2", tokens):
        folder.chmod(0o755)
    mounts = [(tls, paths["tls"]), (tokens, paths["tokens"]),
              (manifests.SOURCE / "deploy" / "demo_model", flags_of(container["args"])["model"])]  # fmt: skip
    with start(root, spec, mounts) as process:
        pod.await_startup(container["startupProbe"], process)  # in plaintext
        assert secure_client(first, "a-token-that-nobody-guesses")
        for token in (None, "another"):
            with pytest.raises(grpc.RpcError) as caught:
                secure_client(first, token)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with grpc.insecure_channel("127.0.0.1:50051", options=[("grpc.enable_http_proxy", 0)]) as channel:
            with pytest.raises(grpc.RpcError):
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)

        # cert-manager renews, the kubelet replaces the files: no restart.
        secret(tls, "..2")

        def greets_with_the_second():
            try:
                return secure_client(second, "a-token-that-nobody-guesses")
            except grpc.RpcError:
                return None

        harness.eventually(greets_with_the_second, "the renewed certificate", timeout=30)
        process.terminate()
        assert process.wait(spec["terminationGracePeriodSeconds"]) == 0, process.log()
    assert pathlib.Path(paths["tls"]) == pathlib.Path(flags_of(container["args"])["tls_cert_file"]).parent
