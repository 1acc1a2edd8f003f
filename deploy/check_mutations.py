"""What `check_manifests.py --self-test` breaks, one thing at a time, and what must then be said.

Each: what is broken, a part of what is found, the kind and name of the object, and the change of it (given
the object and all of its rendering). Never touches more than the copy that it is given.
"""


def put(path, value):
    """Sets what stands at `path` (keys and places, joined by dots); None takes it away."""

    def change(o, _all):
        *way, last = [int(p) if p.isdigit() else p for p in path.split(".")]
        for part in way:
            o = o[part]
        if value is None:
            del o[last]
        else:
            o[last] = value

    return change


def also(*changes):
    def change(o, all_of_it):
        for one in changes:
            one(o, all_of_it)

    return change


def without(o, all_of_it):
    all_of_it.objects.remove(o)


def twice(o, all_of_it):
    all_of_it.objects.append(o)


def add(obj):
    return lambda _o, all_of_it: all_of_it.objects.append(obj)


def environment(name, value):
    return lambda o, _all: o["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": name, **value})


def data(name, value):
    """In the ConfigMap, whose name ends in a hash."""

    def change(_o, all_of_it):
        settings = next(o for o in all_of_it.objects if o["kind"] == "ConfigMap")
        settings["data"][name] = value

    return change


POD = "spec.template.spec"
ONE = f"{POD}.containers.0"
WORKER, INGEST, CONSOLE = (("Deployment", f"riskfleet-{role}") for role in ("worker", "ingest", "console"))
JOB = ("Job", "riskfleet-migrate")
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "riskfleet"}, "stringData": {"master-key": "x"}}

MUTATIONS = [
    ("a misspelt field", "replica", *WORKER, put("spec.replica", 3)),
    ("a wrong type", "Kubernetes 1.30", *WORKER, put(f"{POD}.terminationGracePeriodSeconds", "75")),
    ("an API that is gone", "schema", *JOB, put("apiVersion", "batch/v1beta1")),
    ("an object twice", "twice", *WORKER, twice),
    ("a secret among the manifests", "secret in the repository", *WORKER, add(SECRET)),
    ("an object without our label", "not labelled", "Service", "riskfleet-console", put("metadata.labels", {"a": "b"})),
    ("a namespace of its own", "others' namespace", "Service", "riskfleet-console", put("metadata.namespace", "other")),
    # containers
    ("root", "may run as root", *WORKER, put(f"{POD}.securityContext.runAsNonRoot", False)),
    ("root of the job", "may run as root", *JOB, put(f"{POD}.securityContext.runAsUser", None)),
    (
        "a root that can be written",
        "write to its root",
        *CONSOLE,
        put(f"{ONE}.securityContext.readOnlyRootFilesystem", None),
    ),
    ("privileges", "gain privileges", *INGEST, put(f"{ONE}.securityContext.allowPrivilegeEscalation", True)),
    (
        "capabilities",
        "has capabilities",
        *JOB,
        put(f"{ONE}.securityContext.capabilities", {"drop": ["ALL"], "add": ["CHOWN"]}),
    ),
    ("no seccomp", "seccomp", *WORKER, put(f"{POD}.securityContext.seccompProfile", None)),
    ("no limit of memory", "no limits", *WORKER, put(f"{ONE}.resources.limits.memory", None)),
    ("no requests", "no requests", *JOB, put(f"{ONE}.resources.requests", None)),
    ("the latest image", "without a version", *INGEST, put(f"{ONE}.image", "registry:5000/riskfleet:latest")),
    ("any image", "without a version", *INGEST, put(f"{ONE}.image", "registry:5000/riskfleet")),
    ("no command", "whatever the image runs", *WORKER, put(f"{ONE}.command", None)),
    # pods
    ("the host's network", "host's namespaces", *WORKER, put(f"{POD}.hostNetwork", True)),
    ("a token of the cluster", "token of the cluster", *CONSOLE, put(f"{POD}.automountServiceAccountToken", None)),
    ("no such account", "service account", *WORKER, put(f"{POD}.serviceAccountName", "other")),
    ("service links", "named after the Services", *INGEST, put(f"{POD}.enableServiceLinks", None)),
    ("a volume that is not mounted", "mounts", *CONSOLE, put(f"{ONE}.volumeMounts.1", None)),
    (
        "a folder of the host",
        "folder of the host",
        *CONSOLE,
        put(f"{POD}.volumes.1", {"name": "checkpoints", "hostPath": {"path": "/x"}}),
    ),
    ("no such claim", "claims", "PersistentVolumeClaim", "riskfleet-checkpoints", without),
    # settings
    ("no such setting", "RISKFLEET_LANE is no setting", *WORKER, environment("RISKFLEET_LANE", {"value": "2"})),
    ("no such setting for all", "RISKFLEET_COLOUR is no setting", *WORKER, data("RISKFLEET_COLOUR", "red")),
    (
        "a secret in the environment",
        "no plain value",
        *WORKER,
        environment("RISKFLEET_AUDIT_KEY", {"valueFrom": {"secretKeyRef": {"name": "riskfleet", "key": "audit-key"}}}),
    ),
    ("a secret in the manifest", "is a secret", *WORKER, environment("RISKFLEET_JWT_SECRET", {"value": "hunter2"})),
    ("a key that the example lacks", "has no key", *WORKER, put(f"{POD}.volumes.0.secret.items.0.key", "dsn")),
    ("a file that is not mounted", "which is not mounted", *WORKER, put(f"{POD}.volumes.0.secret.items.0.path", "db")),
    ("a secret for nobody", "mounted and not read", *WORKER, put(f"{ONE}.env.3", None)),
    ("all of a secret", "more of a secret", *WORKER, put(f"{POD}.volumes.0.secret.items", None)),
    ("a secret for everybody", "more of a secret", *WORKER, put(f"{POD}.volumes.0.secret.defaultMode", 0o444)),
    ("no authentication", "nobody for a credential", *WORKER, data("RISKFLEET_AUTH", "off")),
    ("no such settings", "ConfigMap that is not there", *WORKER, put(f"{ONE}.envFrom.0.configMapRef.name", "other")),
    # lives
    (
        "pods of another",
        "does not select",
        *WORKER,
        put("spec.selector.matchLabels", {"app.kubernetes.io/component": "x"}),
    ),
    (
        "everybody's pods",
        "selects pods of others",
        *WORKER,
        put("spec.selector.matchLabels", {"app.kubernetes.io/name": "riskfleet"}),
    ),
    ("no startup probe", "no startup probe", *WORKER, put(f"{ONE}.startupProbe", None)),
    (
        "liveness that asks dependencies",
        "no liveness probe",
        *INGEST,
        put(f"{ONE}.livenessProbe.httpGet.path", "/health/ready"),
    ),
    ("a probe of no port", "no readiness probe", *INGEST, put(f"{ONE}.readinessProbe.httpGet.port", "web")),
    ("no time for callers", "before its callers have heard", *INGEST, put(f"{ONE}.lifecycle", None)),
    ("an early kill", "is killed before", *WORKER, put(f"{POD}.terminationGracePeriodSeconds", None)),
    ("a longer drain", "is killed before", *WORKER, data("RISKFLEET_DRAIN_TIMEOUT_S", "60")),
    ("no budget", "no budget", "PodDisruptionBudget", "riskfleet-worker", without),
    (
        "a budget of nothing",
        "lets a node be drained",
        "PodDisruptionBudget",
        "riskfleet-console",
        put("spec.maxUnavailable", 0),
    ),
    (
        "a budget for nobody",
        "holds for no pod",
        "PodDisruptionBudget",
        "riskfleet-ingest",
        put("spec.selector.matchLabels", {"app.kubernetes.io/component": "inlet"}),
    ),
    ("one node for all", "on one node", *INGEST, put(f"{POD}.topologySpreadConstraints", None)),
    (
        "another's spread",
        "spreads other pods",
        *INGEST,
        put(f"{POD}.topologySpreadConstraints.0.labelSelector", {"matchLabels": {"a": "b"}}),
    ),
    (
        "two writers",
        "more than one writer",
        *CONSOLE,
        also(put("spec.replicas", 2), put("spec.strategy", {"type": "RollingUpdate"})),
    ),
    # selectors and networks
    (
        "a service of nothing",
        "leads to no pod",
        "Service",
        "riskfleet-ingest",
        put("spec.selector", {"app.kubernetes.io/component": "inlet"}),
    ),
    ("a service of no port", "leads to no pod", "Service", "riskfleet-ingest", put("spec.ports.0.targetPort", "web")),
    (
        "workers that are not scraped",
        "scrapes",
        "PodMonitor",
        "riskfleet",
        put("spec.selector.matchExpressions.0.values", ["ingest", "console"]),
    ),
    ("no default", "may talk to everybody", "NetworkPolicy", "riskfleet-deny", without),
    (
        "no way to the database",
        "no names or no database",
        "NetworkPolicy",
        "riskfleet-database",
        put("spec.egress.1.ports.0.port", 3306),
    ),
    ("no way to the broker", "RabbitMQ", "NetworkPolicy", "riskfleet-broker", without),
    ("every port", "opens every port", "NetworkPolicy", "riskfleet-monitoring", put("spec.ingress.0.ports", None)),
    (
        "a policy for nobody",
        "holds for no pod",
        "NetworkPolicy",
        "riskfleet-broker",
        put("spec.podSelector.matchExpressions.0.values", ["x"]),
    ),
    # scaling
    (
        "no such target",
        "scales what is not there",
        "HorizontalPodAutoscaler",
        "riskfleet-worker",
        put("spec.scaleTargetRef.name", "workers"),
    ),
    (
        "two masters",
        "both say",
        "HorizontalPodAutoscaler",
        "riskfleet-worker",
        lambda _o, s: s.named("Deployment", "riskfleet-worker")["spec"].update(replicas=2),
    ),
    ("nobody scales it", "by accident", "HorizontalPodAutoscaler", "riskfleet-worker", without),
    ("no number of replicas", "by accident", *INGEST, put("spec.replicas", None)),
    (
        "a number that is multiplied",
        "AverageValue",
        "ScaledObject",
        "riskfleet-worker",
        put("spec.triggers.0.metricType", "Value"),
    ),
    ("a misspelt field of KEDA", "minReplicas", "ScaledObject", "riskfleet-worker", put("spec.minReplicas", 2)),
    (
        "no such service",
        "which is no Service",
        "ScaledObject",
        "riskfleet-worker",
        put("spec.triggers.0.metadata.url", "http://console.riskfleet.svc:8080/v1"),
    ),
    (
        "no such port",
        "which is no Service",
        "ScaledObject",
        "riskfleet-worker",
        put("spec.triggers.0.metadata.url", "http://riskfleet-console.riskfleet.svc:80/v1"),
    ),
    (
        "a name that KEDA looks up at home",
        "which is no Service",
        "ScaledObject",
        "riskfleet-worker",
        put("spec.triggers.0.metadata.url", "http://riskfleet-console:8080/v1"),
    ),
    (
        "another's console",
        "in the namespace 'other'",
        "ScaledObject",
        "riskfleet-worker",
        put("spec.triggers.0.metadata.url", "http://riskfleet-console.other.svc:8080/v1"),
    ),
    ("no credential", "credential that is not there", "TriggerAuthentication", "riskfleet-console", without),
    (
        "a key that KEDA's example lacks",
        "has no key token",
        "TriggerAuthentication",
        "riskfleet-console",
        put("spec.secretTargetRef.0.key", "token"),
    ),
    # monitoring
    (
        "an alert without words",
        "PrometheusRule",
        "PrometheusRule",
        "riskfleet",
        put("spec.groups.0.rules.0.annotations", None),
    ),
    ("no pause", "PrometheusRule", "PrometheusRule", "riskfleet", put("spec.groups.0.rules.0.for", "a while")),
    ("a port by number", "PodMonitor", "PodMonitor", "riskfleet", put("spec.podMetricsEndpoints.0.port", 8080)),
]
