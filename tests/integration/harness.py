"""A real server process, and a client that knows of it only what reflection tells."""

import collections
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["ADAMOE_BUILD_DIR"])
DEPS = pathlib.Path(os.environ.get("ADAMOE_DEPS_DIR", pathlib.Path.home() / ".cache" / "adamoe"))
SERVER = BUILD / "server" / "adamoe_server"
CLIENT = BUILD / "client" / "adamoe_client"
BENCH = BUILD / "client" / "adamoe_bench"
TRAIN = BUILD / "train" / "adamoe_train"
MAKE_CHECKPOINT = BUILD / "tests" / "fakes" / "make_checkpoint"

SERVICE = "adamoe.v1.Inference"
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # one connection per channel
]
START_TIMEOUT = 60.0


def make_checkpoint(folder, **options):
    """Writes a folder of a random model; options are make_checkpoint's flags."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    subprocess.run([MAKE_CHECKPOINT, f"--out={folder}", *flags], check=True)
    return pathlib.Path(folder)


def eventually(condition, what, timeout=20.0):
    """Waits until condition() is true; returns what it returned."""
    end = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.02)


class Output:
    """What a process writes to `file`, read while it writes: the place where it goes on writing is the file's own."""

    def __init__(self):
        self.file = tempfile.TemporaryFile()

    def text(self):
        descriptor = self.file.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()

    def close(self):
        self.file.close()


class Server:
    """The server on free ports; stops, and checks how it ended, when the `with` block does."""

    def __init__(self, model, *flags):
        self.errors = Output()
        self.process = subprocess.Popen(
            [
                SERVER,
                f"--model={model}",
                "--listen=127.0.0.1:0",
                "--metrics_listen=127.0.0.1:0",
                "--activation_dtype=float32",
                "--threads=2",
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=self.errors.file,
            text=True,
        )
        self.lines = []
        self._terminated = False
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ready.wait(START_TIMEOUT)
        listening = [line for line in self.lines if "listening on " in line]
        if len(listening) != 1:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"no address in {self.lines}; standard error: {self.log()}")
        self.address = re.search(r"listening on (\S+:\d+)", listening[0]).group(1)
        self.metrics_address = re.search(r"metrics at http://(\S+:\d+)/metrics", self.log()).group(1)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if "listening on " in line:
                self._ready.set()
        self._ready.set()

    def log(self):
        return self.errors.text()

    def client(self, **options):
        return Client(self.address, **options)

    def http_url(self):
        return re.search(r"http at (https?://[\w.:]+)", self.log()).group(1)

    def log_address(self, what):
        """HOST:PORT that the log says `what` is at."""
        return re.search(rf"{what} at (\S+:\d+)", self.log()).group(1)

    def terminate(self):
        """Asks it to end, once: a second signal would mean at once."""
        if not self._terminated:
            self.process.send_signal(signal.SIGTERM)
        self._terminated = True

    def wait(self, timeout=60.0):
        return self.process.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        try:
            if self.process.poll() is None:
                self.terminate()
                code = self.wait()
            else:
                code = self.process.returncode
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "killed: SIGTERM did not end it"
        log = self.log()
        self._reader.join()
        self.process.stdout.close()
        self.errors.close()
        if failure is None:
            assert code == 0, f"the server ended with {code}: {log[-4000:]}"

    def metrics(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.metrics_address}/metrics", timeout=10) as answer:
            return Metrics(answer.read().decode())

    def idle(self):
        """Waits until nothing runs, waits or holds a KV block; returns that scrape."""

        def calm():
            metrics = self.metrics()
            busy = ("requests_running", "requests_waiting", "kv_cache_usage_ratio")
            return metrics if all(metrics.get(name) == 0 for name in busy) else None

        return eventually(calm, "an idle server with all its KV blocks free")


class Metrics:
    """One scrape; names without their prefix."""

    def __init__(self, text):
        self.samples = {}
        for line in text.splitlines():
            match = re.fullmatch(r"adamoe_(\w+)(?:\{(.*)\})? (\S+)", line)
            if match:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', match.group(2) or ""))
                self.samples[match.group(1), frozenset(labels.items())] = float(match.group(3))

    def get(self, name, **labels):
        return self.samples[name, frozenset(labels.items())]

    def sum(self, name, **labels):
        """Over every series that has these labels."""
        values = [
            value
            for (sample, have), value in self.samples.items()
            if sample == name and frozenset(labels.items()) <= have
        ]
        assert values, f"{name} {labels} was not scraped"
        return sum(values)


def run_server(*flags):
    """A server that is not to start: what became of the process."""
    flags = ["--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", *map(str, flags)]
    return subprocess.run([SERVER, *flags], capture_output=True, text=True, timeout=60)


class _WithToken(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """Adds a bearer token to every call, over plaintext too."""

    def __init__(self, token):
        self._entry = ("authorization", f"Bearer {token}")

    def _intercept(self, proceed, details, request):
        details = _CallDetails(
            details.method, details.timeout, [*(details.metadata or ()), self._entry], details.credentials,
            details.wait_for_ready, details.compression,
        )
        return proceed(details, request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _intercept


_CallDetails = collections.namedtuple(
    "_CallDetails", "method timeout metadata credentials wait_for_ready compression"
)


def connect(address, credentials=None, token=None):
    """A channel, over TLS where there are credentials."""
    if credentials is None:
        channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    else:
        channel = grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
    return channel if token is None else grpc.intercept_channel(channel, _WithToken(token))


class Client:
    """Messages and methods built from the descriptors that server reflection serves."""

    def __init__(self, address, **options):
        self.channel = connect(address, **options)
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.service = pool.FindServiceByName(SERVICE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def request(self, method, **fields):
        return message_factory.GetMessageClass(self.service.methods_by_name[method].input_type)(**fields)

    def call(self, method, *, timeout=60.0, metadata=None, **fields):
        """A call's answer; a stream's iterator."""
        data = self.request(method, **fields).SerializeToString()
        return self.send(method, data, timeout=timeout, metadata=metadata)

    def send(self, method, data, *, timeout=60.0, metadata=None):
        """The same for bytes, which need not be a message."""
        descriptor = self.service.methods_by_name[method]
        answer = message_factory.GetMessageClass(descriptor.output_type)
        make = self.channel.unary_stream if descriptor.server_streaming else self.channel.unary_unary
        stub = make(
            f"/{SERVICE}/{method}",
            request_serializer=lambda raw: raw,
            response_deserializer=answer.FromString,
        )
        return stub(data, timeout=timeout, metadata=metadata)

    def generate(self, **options):
        return Generation(self.call("Generate", **options))

    def stream(self, **options):
        return self.call("Generate", **options)


class Generation:
    """A whole stream."""

    def __init__(self, messages):
        self.messages = list(messages)
        self.tokens = [token for message in self.messages for token in message.tokens]
        self.ids = [token.id for token in self.tokens]
        self.text = "".join(message.text for message in self.messages)
        self.prompt = [token for message in self.messages for token in message.prompt_tokens_info]
        assert [m.HasField("finish") for m in self.messages].index(True) == len(self.messages) - 1
        finish = self.messages[-1].finish
        self.usage = finish.usage
        self.reason = finish.DESCRIPTOR.fields_by_name["reason"].enum_type.values_by_number[finish.reason].name


def _error_detail_classes():
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(
            [
                "protoc",
                f"-I{DEPS / 'protos'}",
                "--include_imports",
                f"--descriptor_set_out={out.name}",
                "google/rpc/status.proto",
                "google/rpc/error_details.proto",
            ],
            check=True,
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))
        for name in ("Status", "BadRequest", "RetryInfo")
    }


RPC = _error_detail_classes()


def detail(error, name):
    """The google.rpc detail of that name in an RpcError, or None."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for item in RPC["Status"].FromString(value).details:
                if item.type_url == f"type.googleapis.com/google.rpc.{name}":
                    return RPC[name].FromString(item.value)
    return None
