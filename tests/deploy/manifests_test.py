"""The Kubernetes manifests, rendered offline: valid by the API's schemas, and in agreement with the server and with
themselves."""

import json
import os
import pathlib
import re
import subprocess

import kubernetes_validate
import manifests
import pytest
import yaml
from cloudcoil.models.cert_manager import v1 as cert_manager
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from jsonschema import Draft202012Validator
from manifests import K8S, flags_of, of_kind, only, pod_spec, port_of, quantity, seconds, server_of

SERVER = pathlib.Path(os.environ["ADAMOE_BUILD_DIR"]) / "server" / "adamoe_server"
# From the first release that has all that is used (gRPC probes are on since 1.24) to the newest.
VERSIONS = ["1.25", "1.26", "1.27", "1.28", "1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
OVERLAYS = ["cpu", "gpu"]
FLUSH_SECONDS = 3  # kFlushTimeout in server/main.cc

# Mixtral-8x7B, in bytes.
WEIGHTS_BFLOAT16 = 93.4e9
WEIGHTS_INT4 = 26.5e9
KV_ELEMENTS_PER_TOKEN = 2 * 32 * 8 * 128
H200_BYTES = 139 * 2**30

RENDERINGS = (
    [("base", "base", None)]
    + [(name, f"overlays/{name}", None) for name in OVERLAYS]
    + [(f"{overlay}+{name}", overlay, [name]) for overlay in OVERLAYS for name in COMPONENTS]
    + [(f"{overlay}+all", overlay, [name for name in COMPONENTS if name != "hpa"]) for overlay in OVERLAYS]
    + [(f"example-{name}", f"examples/{name}", None) for name in sorted(path.name for path in (K8S / "examples").iterdir())]
)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """Name -> objects of every overlay, alone, with each component and with all, and of the examples."""
    result = {}
    for name, where, components in RENDERINGS:
        if components is None:
            result[name] = manifests.render(K8S / where)
        else:
            result[name] = manifests.compose(tmp_path_factory.mktemp("overlay"), where, components)
    return result


@pytest.fixture(params=[name for name, _, _ in RENDERINGS])
def objects(request, rendered):
    return rendered[request.param]


def pods(objects):
    """(name, pod spec) of whatever runs pods; a ServingRuntime's containers count as one."""
    found = [(item["metadata"]["name"], item["spec"]["template"]["spec"]) for item in of_kind(objects, "Deployment")]
    return found + [(item["metadata"]["name"], item["spec"]) for item in of_kind(objects, "ServingRuntime")]


# Rendering.


@pytest.mark.parametrize("folder", ["base"] + [f"overlays/{name}" for name in OVERLAYS])
def test_old_and_new_kubectl_render_the_same(folder):
    key = lambda item: (item["kind"], item["metadata"]["name"])  # noqa: E731
    old = sorted(manifests.render(K8S / folder, manifests.OLD_KUBECTL), key=key)
    new = sorted(manifests.render(K8S / folder), key=key)
    assert old == new


def test_every_component_is_in_a_rendering_with_its_objects(rendered):
    kinds = {
        "hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject", "monitor": "PodMonitor", "tls": "Certificate",
        "model-object-store": "ConfigMap", "tokens": None,
    }
    assert sorted(kinds) == COMPONENTS
    for name, kind in kinds.items():
        for overlay in OVERLAYS:
            if kind:
                only(rendered[f"{overlay}+{name}"], kind)
            assert rendered[f"{overlay}+{name}"] != rendered[overlay]


# Schemas.


def test_the_objects_of_the_api_fit_its_schemas(request, objects):
    name = request.node.callspec.params["objects"]
    versions = VERSIONS if name.endswith("+all") or name.startswith("example") else [VERSIONS[0], VERSIONS[-1]]
    for item in objects:
        if "." in item["apiVersion"].split("/")[0] and not item["apiVersion"].split("/")[0].endswith(".k8s.io"):
            continue  # a custom resource
        if item["kind"] in ("InferencePool", "HTTPRoute"):
            continue
        for version in versions:
            kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("change", ["unknown field", "wrong type"])
def test_the_schemas_refuse_what_is_wrong(rendered, change):
    deployment = json.loads(json.dumps(only(rendered["cpu"], "Deployment")))
    container = server_of(deployment["spec"]["template"]["spec"])
    if change == "unknown field":
        container["readynessProbe"] = container.pop("readinessProbe")
    else:
        container["startupProbe"]["grpc"]["port"] = "health"  # a name is not allowed in gRPC probes
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def plain(model):
    return json.loads(model.model_dump_json(by_alias=True, exclude_unset=True))


@pytest.mark.parametrize(
    "rendering, kind, model",
    [
        ("cpu+keda", "ScaledObject", keda.ScaledObject),
        ("cpu+monitor", "PodMonitor", prometheus_operator.PodMonitor),
        ("cpu+tls", "Certificate", cert_manager.Certificate),
    ],
)
def test_custom_resources_fit_their_models(rendered, rendering, kind, model):
    item = only(rendered[rendering], kind)
    # The models drop what they do not know: nothing may get lost.
    assert plain(model.model_validate(item)) == item
    item["spec"]["unheard"] = 1
    assert plain(model.model_validate(item)) != item
    del item["spec"]["unheard"]


def closed(required="", **properties):
    """A JSON schema of an object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}


def listed(item):
    return {"type": "array", "items": item, "minItems": 1}


# The fields that are used here, of resources whose definitions no package has.
SPECS = {
    ("inference.networking.k8s.io/v1", "InferencePool"): closed(
        "selector targetPorts endpointPickerRef",
        selector=closed("matchLabels", matchLabels=LABELS),
        targetPorts=listed(closed("number", number=PORT)),
        appProtocol={"enum": ["http", "kubernetes.io/h2c"]},
        endpointPickerRef=closed(
            "name port", name=NAME, port=closed("number", number=PORT), failureMode={"enum": ["FailOpen", "FailClose"]}
        ),
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): closed(
        "parentRefs rules",
        parentRefs=listed(closed("name", group={"type": "string"}, kind=NAME | {"pattern": "^[A-Z]"}, name=NAME, namespace=NAME)),
        hostnames=listed(NAME),
        rules=listed(
            closed(
                "matches backendRefs",
                matches=listed(
                    closed(path=closed("type value", type={"enum": ["Exact", "PathPrefix", "RegularExpression"]}, value={"type": "string", "pattern": "^/"}))
                ),
                backendRefs=listed(closed("name", group={"type": "string"}, kind={"type": "string"}, name=NAME, port=PORT)),
                timeouts=closed(request={"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"}),
            )
        ),
    ),
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): closed(
        "containers supportedModelFormats",
        multiModel={"type": "boolean"},
        supportedModelFormats=listed(
            closed("name", name=NAME, version={"type": "string"}, autoSelect={"type": "boolean"}, priority={"type": "integer"})
        ),
        annotations=LABELS,
        containers=listed({"type": "object"}),  # checked as those of a pod
    ),
    ("serving.kserve.io/v1beta1", "InferenceService"): closed(
        "predictor",
        predictor=closed(
            "model",
            minReplicas={"type": "integer"},
            maxReplicas={"type": "integer"},
            automountServiceAccountToken={"type": "boolean"},
            terminationGracePeriodSeconds={"type": "integer"},
            model=closed(
                "modelFormat storageUri",
                modelFormat=closed("name", name=NAME, version={"type": "string"}),
                runtime=NAME,
                storageUri={"type": "string", "pattern": "^[a-z0-9]+://"},
            ),
        ),
    ),
}


def test_gateway_and_kserve_resources_use_known_fields(rendered):
    seen = set()
    for name in ("example-inference-gateway", "example-kserve"):
        for item in rendered[name]:
            kind = (item["apiVersion"], item["kind"])
            seen.add(kind)
            Draft202012Validator(SPECS[kind]).validate(item["spec"])
            if item["kind"] == "ServingRuntime":
                pod = {
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runtime"},
                    "spec": {"containers": item["spec"]["containers"]},
                }
                for version in VERSIONS:
                    kubernetes_validate.validate(pod, version, strict=True)
    assert seen == set(SPECS)


# Agreement with the server.


def known_flags():
    text = subprocess.run([SERVER, "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    return set(re.findall(r"^  --(\w+)=", text, re.MULTILINE))


def test_the_server_knows_every_flag(objects):
    known = known_flags()
    for _, spec in pods(objects):
        flags = flags_of(server_of(spec)["args"])
        assert set(flags) <= known, set(flags) - known
        assert ("insecure" in flags) != ("tls_cert_file" in flags)


def test_the_server_takes_every_value(objects):
    """It finds nothing wrong but that there is no model, or a secret's files are missing."""
    for _, spec in pods(objects):
        arguments = [argument.replace("$(CPU_LIMIT)", "2") for argument in server_of(spec)["args"]]
        if any(argument == "--device=cuda" for argument in arguments):
            arguments.remove("--device=cuda")  # refused where there is no GPU
        run = subprocess.run([SERVER, *arguments], capture_output=True, text=True, timeout=60)
        assert run.returncode == 1, run.stderr
        flags = flags_of(arguments)
        paths = [flags["model"]] + [flags[name] for name in ("tls_cert_file", "tls_key_file", "auth_tokens_file") if name in flags]
        assert any(path in run.stderr for path in paths), run.stderr


def test_the_environment_in_arguments_is_defined(objects):
    for _, spec in pods(objects):
        for container in spec["containers"] + spec.get("initContainers", []):
            used = set(re.findall(r"\$\((\w+)\)", " ".join(container.get("args", []))))
            defined = {item["name"] for item in container.get("env", [])}
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    config = next(item for item in of_kind(objects, "ConfigMap") if item["metadata"]["name"] == source["configMapRef"]["name"])
                    defined |= set(config["data"])
            assert used <= defined, used - defined
            for item in container.get("env", []):
                if "resourceFieldRef" in item.get("valueFrom", {}):
                    assert item["valueFrom"]["resourceFieldRef"]["containerName"] == container["name"]


def test_the_grace_period_covers_the_drain(objects):
    for name, spec in pods(objects):
        container = server_of(spec)
        flags = flags_of(container["args"])
        assert "preStop" not in container.get("lifecycle", {})  # --drain_delay is for that; the image has no shell
        if "terminationGracePeriodSeconds" in spec:
            grace = spec["terminationGracePeriodSeconds"]
        else:  # a ServingRuntime has none; the InferenceService that names it has
            service = next(item for item in of_kind(objects, "InferenceService") if item["spec"]["predictor"]["model"]["runtime"] == name)
            grace = service["spec"]["predictor"]["terminationGracePeriodSeconds"]
        needed = seconds(flags["drain_delay"]) + seconds(flags["drain_timeout"]) + FLUSH_SECONDS
        assert needed + 5 <= grace <= needed + 60, (needed, grace)
        # A pod is Terminating before its endpoint is gone everywhere: readiness and proxies need some seconds.
        readiness = container["readinessProbe"]
        assert seconds(flags["drain_delay"]) >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_metrics_that_are_asked_for_exist(rendered):
    source = (manifests.SOURCE / "server" / "metrics" / "server_metrics.cc").read_text()
    known = set(re.findall(r'"(adamoe_\w+)"', source))
    texts = {
        path: path.read_text() for path in K8S.rglob("*.yaml") if re.search(r"\badamoe_[a-z]+_", path.read_text())
    }
    assert len(texts) >= 4
    for path, text in texts.items():
        used = set(re.findall(r"\b(adamoe_[a-z]+_[a-z_]+)\b", text))
        assert used <= known, f"{path}: {used - known}"
    for trigger in only(rendered["cpu+keda"], "ScaledObject")["spec"]["triggers"]:
        assert 'namespace="adamoe"' in trigger["metadata"]["query"]
        float(trigger["metadata"]["threshold"])


def test_the_endpoint_picker_reads_our_metrics():
    values = yaml.safe_load((K8S / "examples" / "inference-gateway" / "endpoint-picker-values.yaml").read_text())
    picker = values["inferenceExtension"]
    config = yaml.safe_load(picker["pluginsCustomConfig"][picker["pluginsConfigFile"]])
    plugins = {plugin["type"]: plugin.get("parameters", {}) for plugin in config["plugins"]}
    referenced = {item["pluginRef"] for profile in config["schedulingProfiles"] for item in profile["plugins"]}
    referenced |= {item["pluginRef"] for item in config["requestHandler"]["parsers"]}
    for source in config["dataLayer"]["sources"]:
        referenced |= {source["pluginRef"]} | {item["pluginRef"] for item in source["extractors"]}
    assert referenced == set(plugins)
    extractor = plugins["core-metrics-extractor"]
    engine = next(item for item in extractor["engineConfigs"] if item["name"] == extractor["defaultEngine"])
    assert engine["queuedRequestsSpec"] == "adamoe_requests_waiting"
    assert engine["runningRequestsSpec"] == "adamoe_requests_running"
    assert engine["kvUsageSpec"] == "adamoe_kv_cache_usage_ratio"
    metrics_port = port_of(flags_of(server_of(pod_spec(manifests.render(K8S / "base")))["args"])["metrics_listen"])
    assert picker["flags"]["model-server-metrics-port"] == metrics_port


# Agreement with themselves.


def test_ports_agree(objects):
    for _, spec in pods(objects):
        container = server_of(spec)
        flags = flags_of(container["args"])
        listens = {name: port_of(flags[f"{name}listen"]) for name in ("", "health_", "http_", "metrics_") if f"{name}listen" in flags}
        assert len(set(listens.values())) == len(listens)
        for name in listens:
            assert not flags[f"{name}listen"].startswith("127.")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"] == {"port": port_of(flags["health_listen"])}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        if "h2c" in ports:  # KServe's name
            assert ports == {"h2c": port_of(flags["listen"])}
            continue
        assert ports == {"grpc": listens[""], "health": listens["health_"], "http": listens["http_"], "metrics": listens["metrics_"]}
        services = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "Service")}
        assert sorted(services) == ["adamoe-server", "adamoe-server-http"]
        assert services["adamoe-server"]["clusterIP"] == "None" and "clusterIP" not in services["adamoe-server-http"]
        for service, name, protocol in (("adamoe-server", "", "kubernetes.io/h2c"), ("adamoe-server-http", "http_", "http")):
            (port,) = services[service]["ports"]
            assert ports[port["targetPort"]] == port["port"] == listens[name]
            assert port["appProtocol"] == ("https" if "tls_cert_file" in flags else protocol)
        for certificate in of_kind(objects, "Certificate"):
            names = certificate["spec"]["dnsNames"]
            assert {f"{service}.adamoe{rest}" for service in services for rest in ("", ".svc", ".svc.cluster.local")} == set(names)
        policy = only(objects, "NetworkPolicy")["spec"]
        by_port = {port["port"]: rule.get("from") for rule in policy["ingress"] for port in rule["ports"]}
        assert set(by_port) == set(listens.values())
        assert all(by_port[listens[name]] for name in ("", "http_", "metrics_"))
        for monitor in of_kind(objects, "PodMonitor"):
            assert [ports[endpoint["port"]] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == [ports["metrics"]]


def test_the_pool_names_the_grpc_port(rendered):
    ports = {port["name"]: port["containerPort"] for port in server_of(pod_spec(rendered["base"]))["ports"]}
    pool = only(rendered["example-inference-gateway"], "InferencePool")["spec"]
    assert pool["targetPorts"] == [{"number": ports["grpc"]}]
    assert pool["selector"]["matchLabels"] == only(rendered["base"], "Deployment")["spec"]["selector"]["matchLabels"]
    route = only(rendered["example-inference-gateway"], "HTTPRoute")
    backend = route["spec"]["rules"][0]["backendRefs"][0]
    assert (backend["kind"], backend["name"]) == ("InferencePool", "adamoe-server")


def test_selectors_match_the_pods(objects):
    if not of_kind(objects, "Deployment"):
        return
    deployment = only(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    selectors += [item["labelSelector"]["matchLabels"] for item in spread]
    selectors += [item["spec"]["selector"]["matchLabels"] for item in of_kind(objects, "PodMonitor")]
    selectors += [item["spec"]["selector"] for item in of_kind(objects, "Service")]
    for selector in selectors:
        assert selector and selector.items() <= labels
    for scaler in of_kind(objects, "HorizontalPodAutoscaler") + of_kind(objects, "ScaledObject"):
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert "replicas" not in deployment["spec"]


def test_everything_is_in_the_namespace(objects):
    for item in objects:
        if item["kind"] == "Namespace":
            assert item["metadata"]["name"] == "adamoe"
        else:
            assert item["metadata"]["namespace"] == "adamoe", item["kind"]


def test_volumes_are_there(objects):
    for deployment in of_kind(objects, "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert len(volumes) == len(spec["volumes"])
        used = {mount["name"] for item in spec["containers"] + spec.get("initContainers", []) for mount in item["volumeMounts"]}
        assert used == set(volumes)
        claims = {item["metadata"]["name"] for item in of_kind(objects, "PersistentVolumeClaim")}
        for volume in volumes.values():
            (source,) = set(volume) - {"name"}
            if source == "persistentVolumeClaim":
                assert volume[source]["claimName"] in claims
            if source == "secret":
                assert volume[source]["defaultMode"] == 0o440
        flags = flags_of(server_of(spec)["args"])
        mounts = [mount["mountPath"] for mount in server_of(spec)["volumeMounts"]]
        for name in ("model", "tls_cert_file", "tls_key_file", "auth_tokens_file"):
            if name in flags:
                assert any(flags[name].startswith(mount + "/") for mount in mounts), flags[name]
        # A file mounted by subPath would not be replaced when its secret changes.
        assert not any("subPath" in mount for mount in server_of(spec)["volumeMounts"])


# What a cluster's policies want.


def test_pods_are_restricted(objects):
    for _, spec in pods(objects):
        pod = spec.get("securityContext", {})
        for container in spec["containers"] + spec.get("initContainers", []):
            context = pod | container["securityContext"]
            assert context["runAsNonRoot"] is True and context["runAsUser"] >= 10000
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            assert not spec.get(field)
    for deployment in of_kind(objects, "Deployment"):
        assert deployment["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
        assert only(objects, "ServiceAccount")["automountServiceAccountToken"] is False
        assert only(objects, "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_images_are_pinned_and_resources_set(objects):
    for _, spec in pods(objects):
        for container in spec["containers"] + spec.get("initContainers", []):
            assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$|@sha256:[0-9a-f]{64}$", container["image"]), container["image"]
            resources = container["resources"]
            for name in ("cpu", "memory"):
                assert quantity(resources["requests"][name]) == quantity(resources["limits"][name]) > 0
        assert quantity(server_of(spec)["resources"]["limits"]["cpu"]).is_integer()  # becomes --threads


def test_the_version_is_the_project_s(rendered):
    version = re.search(r"project\(adamoe VERSION (\S+)", (manifests.SOURCE / "CMakeLists.txt").read_text())[1]
    for name, suffix in (("base", ""), ("cpu", ""), ("gpu", "-cuda"), ("example-kserve", "")):
        for _, spec in pods(rendered[name]):
            assert server_of(spec)["image"].split(":")[-1] == version + suffix


def test_a_pod_has_time_to_load(rendered):
    for name, slowest_disk in (("cpu", 200e6), ("gpu", 60e6)):
        deployment = only(rendered[name], "Deployment")
        probe = server_of(pod_spec(rendered[name]))["startupProbe"]
        allowed = probe["periodSeconds"] * probe["failureThreshold"]
        assert allowed >= WEIGHTS_BFLOAT16 / slowest_disk
        assert deployment["spec"]["progressDeadlineSeconds"] > allowed


def test_memory_holds_weights_and_kv_cache(rendered):
    cpu = server_of(pod_spec(rendered["cpu"]))
    flags = flags_of(cpu["args"])
    assert flags["weight_dtype"] == "int4"
    # 4 bytes an element: processors without AVX-512-BF16 keep float32.
    kv_cache = int(flags["kv_cache_tokens"]) * KV_ELEMENTS_PER_TOKEN * 4
    assert WEIGHTS_INT4 + kv_cache + 4 * 2**30 <= quantity(cpu["resources"]["limits"]["memory"])

    gpu = server_of(pod_spec(rendered["gpu"]))
    flags = flags_of(gpu["args"])
    kv_cache = int(flags["kv_cache_tokens"]) * KV_ELEMENTS_PER_TOKEN * 2
    assert WEIGHTS_BFLOAT16 + kv_cache + 8 * 2**30 <= H200_BYTES
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == gpu["resources"]["requests"]["nvidia.com/gpu"] == 1
    shared = next(volume for volume in pod_spec(rendered["gpu"])["volumes"] if volume["name"] == "shm")["emptyDir"]
    assert shared["medium"] == "Memory"
    assert WEIGHTS_BFLOAT16 + quantity(shared["sizeLimit"]) <= quantity(gpu["resources"]["limits"]["memory"])


def test_autoscaling_looks_at_load_and_is_patient(rendered):
    hpa = only(rendered["cpu+hpa"], "HorizontalPodAutoscaler")["spec"]
    assert {metric["type"] for metric in hpa["metrics"]} == {"Pods"}  # not Resource: CPU and GPU are busy at any load
    scaled = only(rendered["cpu+keda"], "ScaledObject")["spec"]
    assert hpa["behavior"] == scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (scaled["minReplicaCount"], scaled["maxReplicaCount"])
    targets = [quantity(metric["pods"]["target"]["averageValue"]) for metric in hpa["metrics"]]
    assert targets == [float(trigger["metadata"]["threshold"]) for trigger in scaled["triggers"]]
