"""Holds rendered manifests against the schemas of Kubernetes and against our own rules.

    check_manifests.py [--self-test] RENDERED.yaml...

Reads the repository's README (which settings there are) and the example Secrets (which keys). Asks no
cluster. With --self-test every rule must find what is broken on purpose in a copy. Never changes a file.
"""

import copy
import functools
import json
import re
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

# The oldest that has the `sleep` of preStop, and the newest whose schema is at hand.
VERSIONS = ["1.30", "1.33", "1.37"]

ROOT = Path(__file__).resolve().parent.parent
SECRETS = "/etc/riskfleet/secrets/"

# For how often its drain timeout a program may go on after SIGTERM: src/wiring/servers.rs, src/worker.
DRAINS = {"ingest": 2, "worker": 2, "console": 3}
# Which of them answer callers, who must hear that a pod goes before it goes.
CALLED = {"ingest", "console"}


def strict(required, **properties):
    """An object with these keys and no others; `required` names the first ones that must be there."""
    keys = list(properties)
    return {"type": "object", "properties": properties, "required": keys[:required], "additionalProperties": False}


TEXT, COUNT, ANY = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}, {}
TEXTS = {"type": "object", "additionalProperties": TEXT}
DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h|d))+$"}


def some(items):
    return {"type": "array", "items": items, "minItems": 1}


RULE = {
    "oneOf": [
        strict(2, record=TEXT, expr=TEXT),
        strict(4, alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": DURATION}),
    ]
}

# What no cluster has by itself: the parts of these resources that are used here, and no other key.
# (keda.sh/docs/2.15/reference/scaledobject-spec, prometheus-operator.dev/docs/api-reference/api.)
CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"): strict(
        4,
        scaleTargetRef=strict(1, name=TEXT),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        triggers=some(
            strict(
                4,
                type={"const": "metrics-api"},
                # With Value the number would be multiplied by the replicas that there are.
                metricType={"const": "AverageValue"},
                metadata=strict(
                    4,
                    url={"type": "string", "pattern": "^http"},
                    valueLocation=TEXT,
                    targetValue={"type": "string", "pattern": r"^\d+$"},
                    authMode={"const": "bearer"},
                ),
                authenticationRef=strict(1, name=TEXT),
            )
        ),
        pollingInterval=COUNT,
        fallback=strict(2, failureThreshold=COUNT, replicas=COUNT),
        advanced=strict(1, horizontalPodAutoscalerConfig=strict(1, behavior=ANY)),
    ),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): strict(
        1, secretTargetRef=some(strict(3, parameter={"const": "token"}, name=TEXT, key=TEXT))
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): strict(
        3,
        selector=strict(1, matchLabels=TEXTS, matchExpressions=ANY),
        podMetricsEndpoints=some(
            strict(
                3,
                port=TEXT,
                path=TEXT,
                interval=DURATION,
                relabelings=some(strict(2, sourceLabels=some(TEXT), targetLabel=TEXT)),
                authorization=strict(1, credentials=strict(2, name=TEXT, key=TEXT)),
            )
        ),
        jobLabel=TEXT,
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): strict(1, groups=some(strict(2, name=TEXT, rules=some(RULE)))),
}


class Set:
    """All objects of one rendering, and what they may refer to."""

    def __init__(self, objects, known, secrets):
        self.objects, self.known, self.secrets = objects, known, secrets

    def of(self, *kinds):
        return [o for o in self.objects if o["kind"] in kinds]

    def named(self, kind, name):
        return next((o for o in self.of(kind) if o["metadata"]["name"] == name), None)

    def pods(self):
        """Every pod that these objects make: its owner, its labels, its spec."""
        for owner in self.of("Deployment", "Job"):
            template = owner["spec"]["template"]
            yield owner, template["metadata"]["labels"], template["spec"]

    def selected(self, selector):
        return [pod for pod in self.pods() if matches(selector, pod[1])]

    def settings(self, container):
        """The environment of a container: name and value, None where it is no plain value."""
        found = {}
        for source in container.get("envFrom", []):
            settings = self.named("ConfigMap", source.get("configMapRef", {}).get("name"))
            found.update(settings["data"] if settings else {"(a ConfigMap that is not there)": None})
        found.update({e["name"]: e.get("value") for e in container.get("env", [])})
        return found


def matches(selector, labels):
    for e in selector.get("matchExpressions", []):
        there = labels.get(e["key"])
        if e["operator"] != "In" or there not in e["values"]:
            return False
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


@functools.cache
def misfits(text):
    """What of an object, as JSON, no schema allows. The same objects come in many renderings."""
    o, found = json.loads(text), []
    spec = CUSTOM.get((o["apiVersion"], o["kind"]))
    if spec:
        for e in jsonschema.Draft202012Validator(spec).iter_errors(o.get("spec")):
            found.append(f"{'/'.join(map(str, e.path))}: {e.message[:200]}")
        return found
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(o, version, strict=True)
        except kubernetes_validate.ValidationError as e:
            found.append(f"Kubernetes {version}: {'/'.join(map(str, e.path))}: {e.message[:200]}")
        except kubernetes_validate.SchemaNotFoundError as e:
            found.append(e.message)
    return found


def schemas(s):
    for o in s.objects:
        for said in misfits(json.dumps(o, sort_keys=True)):
            yield o, said


def objects(s):
    names = [(o["kind"], o["metadata"]["name"]) for o in s.objects]
    namespaces = [o["metadata"].get("namespace") for o in s.objects if o["kind"] != "Namespace"]
    for o in s.objects:
        if o["kind"] != "Namespace" and namespaces.count(o["metadata"].get("namespace")) < len(namespaces):
            yield o, "is not in the others' namespace"
        if names.count((o["kind"], o["metadata"]["name"])) > 1:
            yield o, "is there twice"
        if o["kind"] == "Secret":
            yield o, "is a secret in the repository"
        if o["kind"] != "Namespace" and o["metadata"].get("labels", {}).get("app.kubernetes.io/name") != "riskfleet":
            if o["kind"] != "ConfigMap":
                yield o, "is not labelled as riskfleet's"


def containers(s):
    """What every container promises not to do, and what it may use."""
    for owner, _, pod in s.pods():
        security = pod.get("securityContext", {})
        for c in pod["containers"] + pod.get("initContainers", []):
            own = {**security, **c.get("securityContext", {})}
            if own.get("runAsNonRoot") is not True or not own.get("runAsUser") or not own.get("runAsGroup"):
                yield owner, f"{c['name']} may run as root"
            if own.get("readOnlyRootFilesystem") is not True:
                yield owner, f"{c['name']} may write to its root"
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield owner, f"{c['name']} may gain privileges"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield owner, f"{c['name']} has capabilities"
            if own.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                yield owner, f"{c['name']} has no seccomp profile"
            for bound in ("requests", "limits"):
                if set(c.get("resources", {}).get(bound, {})) < {"cpu", "memory"}:
                    yield owner, f"{c['name']} has no {bound} of cpu and memory"
            tag = c["image"].rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield owner, f"{c['name']} has an image without a version: {c['image']}"
            if "command" not in c:
                yield owner, f"{c['name']} runs whatever the image runs"


def pods(s):
    for owner, _, pod in s.pods():
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield owner, "is in the host's namespaces"
        if pod.get("automountServiceAccountToken") is not False:
            yield owner, "is given a token of the cluster"
        if not s.named("ServiceAccount", pod.get("serviceAccountName")):
            yield owner, "has a service account that is not there"
        # RISKFLEET_CONSOLE_PORT and the like are no settings, and such names stop the start.
        if pod.get("enableServiceLinks") is not False:
            yield owner, "gets variables named after the Services"
        mounted = {m["name"] for c in pod["containers"] for m in c.get("volumeMounts", [])}
        volumes = {v["name"]: v for v in pod.get("volumes", [])}
        if mounted != set(volumes):
            yield owner, f"mounts {sorted(mounted)} of {sorted(volumes)}"
        for v in volumes.values():
            if "hostPath" in v:
                yield owner, f"{v['name']} is a folder of the host"
            claim = v.get("persistentVolumeClaim", {}).get("claimName")
            if claim and not s.named("PersistentVolumeClaim", claim):
                yield owner, f"{v['name']} claims {claim}, which is not there"


def settings(s):
    """Every name is a setting; every secret a file, of a key that the example has, mounted where it is read."""
    for owner, _, pod in s.pods():
        files = {}
        for v in pod.get("volumes", []):
            secret = v.get("secret", {})
            for item in secret.get("items", []):
                files[SECRETS + item["path"]] = item["key"]
                if item["key"] not in s.secrets.get(secret["secretName"], []):
                    yield owner, f"the example of {secret['secretName']} has no key {item['key']}"
            if secret and (not secret.get("items") or secret.get("defaultMode") != 0o440):
                yield owner, "mounts more of a secret than it needs, or for everybody to read"
        for c in pod["containers"]:
            environment = s.settings(c)
            for name, value in environment.items():
                if name not in s.known:
                    yield owner, f"{name} is no setting"
                elif value is None:
                    yield owner, f"{name} has no plain value: secrets come as files"
                elif f"{name}_FILE" in s.known:
                    yield owner, f"{name} is a secret: give {name}_FILE"
                elif value.startswith(SECRETS) and value not in files:
                    yield owner, f"{name} is {value}, which is not mounted"
            for path in files.keys() - environment.values():
                yield owner, f"{path} is mounted and not read"
            on_all = environment.get("RISKFLEET_HTTP_ADDR", "").startswith("0.0.0.0")
            if on_all and not {"RISKFLEET_BEHIND_PROXY", "RISKFLEET_TLS_CERT_FILE"} & environment.keys():
                yield owner, "listens everywhere, without TLS and without a proxy"
            if environment.get("RISKFLEET_AUTH") == "off":
                yield owner, "asks nobody for a credential"


def lives(s):
    """Probes, the end, and what may be taken away at once."""
    for o in s.of("Deployment"):
        role, spec = o["metadata"]["labels"]["app.kubernetes.io/component"], o["spec"]
        pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
        if not matches(spec["selector"], labels):
            yield o, "does not select its own pods"
        if [x for x in s.selected(spec["selector"]) if x[0] is not o]:
            yield o, "selects pods of others"
        for c in pod["containers"]:
            for probe, path in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
                asked = c.get(f"{probe}Probe", {}).get("httpGet", {})
                if asked.get("path") != f"/health/{path}" or asked.get("port") not in {
                    p["name"] for p in c.get("ports", [])
                }:
                    yield o, f"{c['name']} has no {probe} probe of /health/{path}"
            waits = c.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if role in CALLED and not waits:
                yield o, f"{c['name']} goes before its callers have heard"
            drain = int(s.settings(c).get("RISKFLEET_DRAIN_TIMEOUT_S") or 30)
            if pod.get("terminationGracePeriodSeconds", 30) <= waits + DRAINS[role] * drain:
                yield o, f"is killed before {waits} + {DRAINS[role]} x {drain} s are over"
        budgets = [b for b in s.of("PodDisruptionBudget") if matches(b["spec"]["selector"], labels)]
        if len(budgets) != 1 or budgets[0]["spec"].get("maxUnavailable") in (None, 0, "0%"):
            yield o, "has no budget for disruptions, or none that lets a node be drained"
        if spec.get("replicas") != 1 and not pod.get("topologySpreadConstraints"):
            yield o, "may stand on one node with all its replicas"
        for spread in pod.get("topologySpreadConstraints", []):
            if not matches(spread["labelSelector"], labels):
                yield o, "spreads other pods than its own"
        claims = any("persistentVolumeClaim" in v for v in pod.get("volumes", []))
        if claims and (spec.get("replicas") != 1 or spec.get("strategy", {}).get("type") != "Recreate"):
            yield o, "has one file and more than one writer of it"


def selectors(s):
    def ports(found):
        return {p["name"] for _, _, pod in found for c in pod["containers"] for p in c.get("ports", [])}

    for o in s.of("Service"):
        found = s.selected({"matchLabels": o["spec"]["selector"]})
        if not found or {p["targetPort"] for p in o["spec"]["ports"]} - ports(found):
            yield o, "leads to no pod, or to none of its ports"
    for o in s.of("PodDisruptionBudget"):
        if not s.selected(o["spec"]["selector"]):
            yield o, "holds for no pod"
    for o in s.of("PodMonitor"):
        found = s.selected(o["spec"]["selector"])
        roles = {labels["app.kubernetes.io/component"] for _, labels, _ in found}
        if roles != set(DRAINS) or {e["port"] for e in o["spec"]["podMetricsEndpoints"]} - ports(found):
            yield o, f"scrapes {sorted(roles)}, or no port of theirs"


def networks(s):
    policies = s.of("NetworkPolicy")
    for owner, labels, _ in s.pods():
        holds = [p["spec"] for p in policies if matches(p["spec"]["podSelector"], labels)]
        if not any(p["policyTypes"] == ["Ingress", "Egress"] and not {"ingress", "egress"} & p.keys() for p in holds):
            yield owner, "may talk to everybody"
        reached = {port["port"] for p in holds for rule in p.get("egress", []) for port in rule["ports"]}
        if not {53, 5432} <= reached:
            yield owner, "reaches no names or no database"
        if labels["app.kubernetes.io/component"] in ("ingest", "worker") and not {5672, 5671, 6379, 6380} <= reached:
            yield owner, "does not reach RabbitMQ or Redis"
    for o in policies:
        found = s.selected(o["spec"]["podSelector"])
        if not found:
            yield o, "holds for no pod"
        if any("ports" not in rule for way in ("ingress", "egress") for rule in o["spec"].get(way, [])):
            yield o, "opens every port"


def scaling(s):
    scalers = s.of("HorizontalPodAutoscaler", "ScaledObject")
    for o in scalers:
        target = s.named("Deployment", o["spec"]["scaleTargetRef"]["name"])
        if target is None:
            yield o, "scales what is not there"
        elif "replicas" in target["spec"]:
            yield o, "and its target both say how many replicas there are"
        if len(scalers) > 1:
            yield o, "is not the only one that scales"
    for o in s.of("Deployment"):
        scaled = any(x["spec"]["scaleTargetRef"]["name"] == o["metadata"]["name"] for x in scalers)
        if not scaled and "replicas" not in o["spec"]:
            yield o, "is one replica by accident"
    for o in s.of("ScaledObject"):
        for trigger in o["spec"].get("triggers", []):
            # KEDA asks from its own namespace: a bare name would be looked up there.
            asked = re.match(r"http://([^:/.]+)\.([^:/.]+)\.svc:(\d+)/", trigger["metadata"]["url"])
            host, namespace, port = asked.groups() if asked else ("", "", "0")
            service = s.named("Service", host)
            if not service or int(port) not in {p["port"] for p in service["spec"]["ports"]}:
                yield o, f"asks {trigger['metadata']['url']}, which is no Service of a namespace"
            if namespace != o["metadata"].get("namespace"):
                yield o, f"asks in the namespace {namespace!r}"
            if not s.named("TriggerAuthentication", trigger["authenticationRef"]["name"]):
                yield o, "shows a credential that is not there"
    for o in s.of("TriggerAuthentication"):
        for ref in o["spec"]["secretTargetRef"]:
            if ref["key"] not in s.secrets.get(ref["name"], []):
                yield o, f"the example of {ref['name']} has no key {ref['key']}"


RULES = [objects, containers, pods, settings, lives, selectors, networks, scaling]


def faults(s):
    # Our own rules read what has the right form.
    found = list(schemas(s)) or [fault for rule in RULES for fault in rule(s)]
    return [f"{o['kind']} {o['metadata']['name']}: {said}" for o, said in found]


def known_settings():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(RISKFLEET_[A-Z0-9_]+)`( \(or `…_FILE`\))?", readme, re.MULTILINE)
    return {name for name, _ in rows} | {f"{name}_FILE" for name, file in rows if file}


def example_secrets():
    examples = [yaml.safe_load(p.read_text()) for p in ROOT.glob("deploy/kubernetes/**/secret.example.yaml")]
    return {e["metadata"]["name"]: list(e["stringData"]) for e in examples}


def self_test(sets):
    """Breaks a copy of all that is rendered, one thing at a time; gives what was not found."""
    from check_mutations import MUTATIONS

    missed = []
    for what, expected, kind, name, change in MUTATIONS:
        s = next((s for s in sets if s.named(kind, name)), None)
        broken = Set(copy.deepcopy(s.objects), s.known, s.secrets) if s else None
        if broken is None:
            missed.append(f"{what}: there is no {kind} {name}")
            continue
        change(broken.named(kind, name), broken)
        found = faults(broken)
        if not any(expected in fault for fault in found):
            missed.append(f"{what}: expected {expected!r}, found {found}")
    print(f"manifests: {len(MUTATIONS) - len(missed)} of {len(MUTATIONS)} broken copies were found out")
    return missed


def main(arguments):
    paths = [Path(a) for a in arguments if a != "--self-test"]
    known, secrets = known_settings(), example_secrets()
    sets = [Set([o for o in yaml.safe_load_all(p.read_text()) if o], known, secrets) for p in paths]
    wrong = [f"{p.stem}: {fault}" for p, s in zip(paths, sets, strict=True) for fault in faults(s)]
    if "--self-test" in arguments:
        wrong += self_test(sets)
    print("\n".join(wrong) or f"manifests: {len(sets)} renderings, {sum(len(s.objects) for s in sets)} objects")
    return 1 if wrong or not sets else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
