"""Who may call, and over what: TLS, client certificates, tokens, their limits, and what changes while it serves."""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import time

import certificates
import grpc
import harness
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SHORT = dict(max_tokens=4, ignore_eos=True, temperature=0)
LONG = dict(max_tokens=150000, ignore_eos=True, temperature=0)
RELOAD_TIMEOUT = 10.0


@pytest.fixture
def authority(tmp_path):
    return certificates.Authority(tmp_path)


def tls_flags(files, client_ca=None):
    flags = [f"--tls_cert_file={files[0]}", f"--tls_key_file={files[1]}"]
    return flags + ([f"--tls_client_ca_file={client_ca}"] if client_ca else [])


def trusting(authority, certificate=None, key=None):
    return grpc.ssl_channel_credentials(authority.pem, key, certificate)


def failure_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def reaches(server, credentials=None, token=None):
    """The code of a call over a new connection."""
    with contextlib.closing(harness.connect(server.address, credentials, token)) as channel:
        stub = channel.unary_unary(f"/{harness.SERVICE}/GetLoad", lambda raw: raw, lambda raw: raw)
        try:
            stub(b"", timeout=10)
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            return error.code()


def health(address, credentials=None):
    with contextlib.closing(harness.connect(address, credentials)) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=""), timeout=10).status


def greeted_with(server, authority):
    """The serial number of the certificate that the server shows."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        with context.wrap_socket(connection, server_hostname=host) as tls:
            der = tls.getpeercert(binary_form=True)
    return certificates.serial_of(ssl.DER_cert_to_PEM_cert(der).encode())


# TLS


def test_tls_serves_those_who_trust_its_authority(models, authority, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = certificates.Authority(tmp_path / "other")
    with harness.Server(models["small"], *tls_flags(authority.sign_files("server"))) as server:
        with server.client(credentials=trusting(authority)) as client:
            assert len(client.generate(prompt="x", sampling=SHORT).tokens) == 4
        assert reaches(server, trusting(stranger)) == grpc.StatusCode.UNAVAILABLE
        assert reaches(server) == grpc.StatusCode.UNAVAILABLE  # plaintext
        assert health(server.address, trusting(authority)) == health_pb2.HealthCheckResponse.SERVING
        expiry = server.metrics().get("tls_certificate_expiry_timestamp_seconds")
        assert 3000 < expiry - time.time() < 3700


def test_old_protocols_are_refused(models, authority):
    with harness.Server(models["small"], *tls_flags(authority.sign_files("server"))) as server:
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(connection, server_hostname=host)


def test_mutual_tls_wants_a_certificate_of_its_authority(models, authority, tmp_path):
    (tmp_path / "clients").mkdir()
    clients = certificates.Authority(tmp_path / "clients")
    with harness.Server(models["small"], *tls_flags(authority.sign_files("server"), clients.file)) as server:
        with server.client(credentials=trusting(authority, *clients.sign("client"))) as client:
            assert len(client.generate(prompt="x", sampling=SHORT).tokens) == 4
        assert reaches(server, trusting(authority)) == grpc.StatusCode.UNAVAILABLE
        wrong = trusting(authority, *authority.sign("impostor"))
        assert reaches(server, wrong) == grpc.StatusCode.UNAVAILABLE


def test_new_certificates_are_picked_up(models, authority, tmp_path):
    files = authority.sign_files("server")
    with harness.Server(models["small"], *tls_flags(files)) as server:
        with server.client(credentials=trusting(authority)) as client:
            running = client.stream(prompt="x", sampling=dict(LONG, max_tokens=1500))
            next(running)
            first = greeted_with(server, authority)
            assert first == certificates.serial_of(files[0].read_bytes())
            certificate, key = authority.sign("server")
            # As a secret that is mounted changes: file after file, each at once.
            for file, pem in zip(files, (certificate, key)):
                (tmp_path / "next").write_bytes(pem)
                (tmp_path / "next").rename(file)
            new = certificates.serial_of(certificate)
            harness.eventually(lambda: greeted_with(server, authority) == new, "the new certificate", RELOAD_TIMEOUT)
            assert reaches(server, trusting(authority)) == grpc.StatusCode.OK
            list(running)  # what was connected goes on
        assert "TLS: new certificates" in server.log()


def test_broken_certificates_leave_the_last_good_ones(models, authority):
    files = authority.sign_files("server")
    with harness.Server(models["small"], *tls_flags(files)) as server:
        serial = certificates.serial_of(files[0].read_bytes())
        assert server.metrics().get("last_reload_successful", what="tls") == 1
        files[1].write_bytes(authority.sign("another")[1])
        harness.eventually(lambda: "is not the key of the certificate" in server.log(), "an error", RELOAD_TIMEOUT)
        assert server.metrics().get("last_reload_successful", what="tls") == 0
        files[0].write_bytes(b"garbage")
        harness.eventually(lambda: "holds no certificate" in server.log(), "another error", RELOAD_TIMEOUT)
        assert greeted_with(server, authority) == serial
        assert reaches(server, trusting(authority)) == grpc.StatusCode.OK
        time.sleep(2.5)
        assert server.log().count("holds no certificate") == 1
        new = authority.sign_files("server")[0].read_bytes()
        harness.eventually(
            lambda: greeted_with(server, authority) == certificates.serial_of(new), "good ones", RELOAD_TIMEOUT
        )
        assert server.metrics().get("last_reload_successful", what="tls") == 1


def test_a_new_client_authority_is_picked_up(models, authority, tmp_path):
    (tmp_path / "new").mkdir()
    new = certificates.Authority(tmp_path / "new")
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(authority.pem)
    old_client, new_client = (trusting(authority, *a.sign("client")) for a in (authority, new))
    with harness.Server(models["small"], *tls_flags(authority.sign_files("server"), bundle)) as server:
        assert reaches(server, old_client) == grpc.StatusCode.OK
        assert reaches(server, new_client) == grpc.StatusCode.UNAVAILABLE
        bundle.write_bytes(new.pem)
        harness.eventually(lambda: reaches(server, new_client) == grpc.StatusCode.OK, "the new one", RELOAD_TIMEOUT)
        assert reaches(server, old_client) == grpc.StatusCode.UNAVAILABLE


def test_files_are_checked_at_the_start(models, authority, tmp_path):
    model = f"--model={models['small']}"
    certificate, key = authority.sign_files("server")
    other_key = authority.sign_files("other")[1]
    missing = tmp_path / "missing.pem"
    for flags, words in (
        (tls_flags((missing, key)), ["--tls_cert_file", missing]),
        (tls_flags((certificate, missing)), ["--tls_key_file", missing]),
        (tls_flags((certificate, key), missing), ["--tls_client_ca_file", missing]),
        (tls_flags((key, key)), ["--tls_cert_file", key, "PEM"]),
        (tls_flags((certificate, certificate)), ["--tls_key_file", certificate, "PEM"]),
        (tls_flags((certificate, other_key)), ["--tls_key_file", other_key, "is not the key"]),
        ([f"--tls_cert_file={certificate}"], ["--tls_key_file"]),
        ([f"--tls_key_file={key}"], ["--tls_cert_file"]),
        ([f"--tls_client_ca_file={authority.file}"], ["--tls_client_ca_file"]),
        ([f"--auth_tokens_file={missing}"], ["--auth_tokens_file", missing]),
        ([f"--auth_tokens_file={certificate}"], ["--auth_tokens_file", certificate, "line 1"]),
        (["--max_running_requests_per_token=2"], ["--max_running_requests_per_token", "--auth_tokens_file"]),
        (["--max_running_requests_per_token=-2"], ["--max_running_requests_per_token"]),
        (["--health_listen=here"], ["--health_listen"]),
        (["--log_format=xml"], ["--log_format", "text, json"]),
    ):
        result = harness.run_server(model, *flags)
        assert result.returncode == 1 and "listening on" not in result.stdout
        assert all(str(word) in result.stderr for word in words), (flags, result.stderr)


# Plaintext


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_plaintext_stays_on_this_machine(models, authority, address):
    model = f"--model={models['small']}"
    result = harness.run_server(model, f"--listen={address}")
    assert result.returncode == 1
    assert all(word in result.stderr for word in ("--listen", address, "--tls_cert_file", "--insecure")), result.stderr
    for ways_out in (["--insecure"], tls_flags(authority.sign_files("server"))):
        if address.startswith("[") and not socket.has_dualstack_ipv6():
            continue
        with harness.Server(models["small"], f"--listen={address}", *ways_out) as server:
            port = server.address.rsplit(":", 1)[1]
            server.address = f"127.0.0.1:{port}"
            credentials = None if ways_out == ["--insecure"] else trusting(authority)
            assert reaches(server, credentials) == grpc.StatusCode.OK


def test_a_host_name_is_looked_up(models):
    with harness.Server(models["small"], "--listen=localhost:0") as server:
        assert reaches(server) == grpc.StatusCode.OK


# Health


def test_health_alone_on_its_own_listener(models, authority, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\n")
    flags = [*tls_flags(authority.sign_files("server")), f"--auth_tokens_file={tokens}", "--health_listen=127.0.0.1:0"]
    with harness.Server(models["long"], *flags, "--drain_timeout=20s") as server:
        address = server.log_address("health")
        serving = health_pb2.HealthCheckResponse.SERVING
        assert health(address) == health(server.address, trusting(authority)) == serving
        with contextlib.closing(harness.connect(address)) as channel:
            for method in (
                f"/{harness.SERVICE}/GetLoad", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            ):
                for token in (None, "secret"):
                    call = harness.connect(address, token=token).unary_unary(method, lambda raw: raw, lambda raw: raw)
                    assert failure_of(lambda: call(b"", timeout=10)).code() == grpc.StatusCode.UNIMPLEMENTED
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=harness.SERVICE))
            assert next(watch).status == serving
            with server.client(credentials=trusting(authority), token="secret") as client:
                running = client.stream(prompt="x", sampling=dict(LONG, max_tokens=1500))
                next(running)
                server.terminate()
                assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
                assert health(address) == health_pb2.HealthCheckResponse.NOT_SERVING
                list(running)
            watch.cancel()
        assert server.wait() == 0


def test_a_health_address_in_use_is_named(models):
    with harness.Server(models["small"]) as server:
        result = harness.run_server(f"--model={models['small']}", f"--health_listen={server.address}")
        assert result.returncode == 1 and server.address in result.stderr


# Tokens


@pytest.fixture
def tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# who may call\nteam-a first-secret\nsecond-secret\n")
    return file


def test_calls_need_a_token(models, tokens):
    with harness.Server(models["small"], f"--auth_tokens_file={tokens}", "--log_format=json") as server:
        with server.client(token="first-secret") as client:
            assert len(client.generate(prompt="x", sampling=SHORT).tokens) == 4
            methods = {
                "Generate": dict(prompt="x", sampling=SHORT), "Score": dict(context="x", continuations=[dict(text=" y")]),
                "Tokenize": dict(text="x"), "Detokenize": dict(ids=[5]), "GetModelInfo": {}, "GetLoad": {},
            }
            for token, words in ((None, "a token is needed"), ("wrong-secret", "the token is not valid")):
                outsider = harness.Client.__new__(harness.Client)  # does not ask for reflection
                outsider.service = client.service
                with contextlib.closing(harness.connect(server.address, token=token)) as outsider.channel:
                    for method, fields in methods.items():
                        answer = failure_of(lambda: list_of(outsider.call(method, **fields)))
                        assert answer.code() == grpc.StatusCode.UNAUTHENTICATED, method
                        assert words in answer.details() and "secret" not in answer.details()
                    reflected = failure_of(ProtoReflectionDescriptorDatabase(outsider.channel).get_services)
                    assert reflected.code() == grpc.StatusCode.UNAUTHENTICATED
            assert health(server.address) == health_pb2.HealthCheckResponse.SERVING
            assert harness.SERVICE in ProtoReflectionDescriptorDatabase(client.channel).get_services()
            for method, fields in methods.items():
                list_of(client.call(method, **fields))
        metrics = server.metrics()
        assert metrics.get("requests_total", outcome="invalid") == 4  # Generate and Score, without and with a wrong one
        assert metrics.get("requests_total", outcome="ok") == 3
        harness.eventually(lambda: server.log().count('"code":"UNAUTHENTICATED"') == 4, "lines of those refused")
        assert server.log().count('"token":"team-a"') == 3
        assert "secret" not in server.log()


def list_of(answer):
    return list(answer) if hasattr(answer, "__next__") else answer


def test_tokens_change_while_it_serves(models, tokens):
    with harness.Server(models["small"], f"--auth_tokens_file={tokens}") as server:
        assert reaches(server, token="first-secret") == reaches(server, token="second-secret") == grpc.StatusCode.OK
        tokens.write_text("team-a first-secret\nteam-b third-secret\n")
        harness.eventually(
            lambda: reaches(server, token="third-secret") == grpc.StatusCode.OK, "the new token", RELOAD_TIMEOUT
        )
        assert reaches(server, token="second-secret") == grpc.StatusCode.UNAUTHENTICATED
        assert reaches(server, token="first-secret") == grpc.StatusCode.OK
        tokens.write_text("a b c\n")
        harness.eventually(lambda: "line 1: more than" in server.log(), "an error", RELOAD_TIMEOUT)
        assert server.metrics().get("last_reload_successful", what="auth_tokens") == 0
        tokens.unlink()
        harness.eventually(lambda: "cannot be opened" in server.log(), "another error", RELOAD_TIMEOUT)
        assert reaches(server, token="third-secret") == grpc.StatusCode.OK
        tokens.write_text("fourth-secret\n")
        harness.eventually(
            lambda: reaches(server, token="fourth-secret") == grpc.StatusCode.OK, "the last token", RELOAD_TIMEOUT
        )
        assert server.metrics().get("last_reload_successful", what="auth_tokens") == 1
        assert "secret" not in server.log()


def test_a_token_has_so_many_requests_at_a_time(models, tokens):
    flags = [f"--auth_tokens_file={tokens}", "--max_running_requests_per_token=2", "--max_running_requests=1"]
    with harness.Server(models["long"], *flags) as server:
        with server.client(token="first-secret") as client, server.client(token="second-secret") as other:
            running = client.stream(prompt="x", sampling=LONG)
            next(running)
            waiting = client.stream(prompt="x", sampling=LONG)
            harness.eventually(lambda: server.metrics().get("requests_waiting") == 1, "a waiting request")
            for call in (
                lambda: client.generate(prompt="x", sampling=SHORT),
                lambda: client.call("Score", context="x", continuations=[dict(text=" y"), dict(text=" z")]),
            ):
                refused = failure_of(call)
                assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                delay = harness.detail(refused, "RetryInfo").retry_delay
                assert delay.seconds + delay.nanos > 0
            assert server.metrics().get("requests_total", outcome="rejected") == 2
            invalid = failure_of(lambda: client.generate(prompt="x", sampling=dict(top_p=9)))
            assert invalid.code() == grpc.StatusCode.INVALID_ARGUMENT
            client.call("GetLoad")  # takes no place
            queued = other.stream(prompt="x", sampling=SHORT)
            running.cancel()
            waiting.cancel()
            assert len(harness.Generation(queued).tokens) == 4
            server.idle()

            def served():
                try:
                    return client.generate(prompt="x", sampling=SHORT)
                except grpc.RpcError as error:
                    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                    return None

            harness.eventually(served, "the places back")
            # One Score is one request, however many continuations it has.
            client.call("Score", context="x", continuations=[dict(text=f" {n}") for n in range(40)])
            for _ in range(20):
                client.generate(prompt="x", sampling=SHORT)


# The clients


def run_client(binary, *arguments, status=0, environment=None):
    result = subprocess.run(
        [binary, *map(str, arguments)], capture_output=True, text=True, timeout=60, env={**os.environ, **(environment or {})}
    )
    assert result.returncode == status, (result.returncode, result.stdout, result.stderr)
    return result.stdout if status == 0 else result.stderr


def test_client_and_bench_over_mutual_tls_with_a_token(models, authority, tokens, tmp_path):
    flags = [*tls_flags(authority.sign_files("server"), authority.file), f"--auth_tokens_file={tokens}"]
    certificate, key = authority.sign_files("client")
    secret = tmp_path / "secret"
    secret.write_text("second-secret\n")
    with harness.Server(models["small"], *flags) as server:
        target = f"--target={server.address}"
        own = [f"--tls_cert_file={certificate}", f"--tls_key_file={key}"]
        ca, token = f"--tls_ca_file={authority.file}", f"--token_file={secret}"
        assert "small" in run_client(harness.CLIENT, target, ca, *own, token, "info")
        assert "4 tokens in" in run_client(
            harness.CLIENT, target, ca, *own, token, "generate", "--max_tokens=4", "--ignore_eos", "x"
        )
        system = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority.file)}
        run_client(harness.CLIENT, target, "--tls", *own, token, "info", environment=system)
        report = run_client(harness.BENCH, target, ca, *own, token, "--requests=5", "--prompt_tokens=4", "--output_tokens=4")
        assert re.search(r"\b5\b", report)
        for missing, words in (
            ([target, ca, *own], "UNAUTHENTICATED: a token is needed"), ([target, ca, token], "UNAVAILABLE"),
            ([target, token], "UNAVAILABLE"),
        ):
            assert words in run_client(harness.CLIENT, *missing, "--timeout=10s", "info", status=1)
            run_client(harness.BENCH, *missing, "--requests=1", "--timeout=10s", status=1)


def test_client_with_a_token_over_plaintext(models, tokens, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("first-secret")
    with harness.Server(models["small"], f"--auth_tokens_file={tokens}") as server:
        target = f"--target={server.address}"
        assert "small" in run_client(harness.CLIENT, target, f"--token_file={secret}", "info")


def test_client_flags_are_checked(authority, tmp_path):
    empty, spaced = tmp_path / "empty", tmp_path / "spaced"
    empty.write_text(" \n")
    spaced.write_text("two words\n")
    certificate, key = authority.sign_files("client")
    for flags, words in (
        ([f"--tls_ca_file={tmp_path / 'none'}"], ["--tls_ca_file", "none"]),
        ([f"--tls_cert_file={certificate}"], ["--tls_cert_file", "--tls_key_file"]),
        ([f"--tls_cert_file={certificate}", f"--tls_key_file={key}"], ["--tls_cert_file", "--tls"]),
        ([f"--token_file={empty}"], ["--token_file", "empty"]),
        ([f"--token_file={spaced}"], ["--token_file", "one token"]),
    ):
        errors = run_client(harness.CLIENT, *flags, "info", status=1)
        assert all(word in errors for word in words), errors
    for binary in (harness.CLIENT, harness.BENCH):
        help_text = run_client(binary, "--help")
        for flag in ("target", "tls", "tls_ca_file", "tls_cert_file", "tls_key_file", "token_file"):
            assert f"--{flag}" in help_text
