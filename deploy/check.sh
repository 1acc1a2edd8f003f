#!/usr/bin/env bash
# Holds what is deployed against what can be known without a cluster: ./deploy/check.sh
#   kubectl    renders the base with every combination of components, and the example
#   python3    holds what was rendered against the schemas of Kubernetes and our own rules
#              (deploy/check_manifests.py; its packages come from a Python package index)
#   promtool   reads rules, configuration, and runs the rules' tests
#   docker     reads docker-compose.yml
# A tool that is missing is said and passed over, or is an error where DEPLOY_CHECK=required.
#   deploy/check.sh manifests       one part alone; also rules, compose
#   deploy/check.sh --self-test     all of it; also breaks copies in many ways, and each must be found
#   deploy/check.sh --write-rules   writes the rules of components/monitoring from alerts.yml
set -uo pipefail
export PYTHONDONTWRITEBYTECODE=1

kubernetes_validate=1.37.0
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
cd "$root" || exit 1

say() { printf 'deploy: %s\n' "$*" >&2; }
skip() {
  say "skipped: $*"
  [[ "${DEPLOY_CHECK:-}" != required ]] || failed=1
}
fail() { say "failed: $*"; failed=1; }
failed=0

work=$(mktemp -d "${TMPDIR:-/tmp}/riskfleet-deploy.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM HUP
trap 'exit 130' INT

write_rules() {
  local to=deploy/kubernetes/components/monitoring/rules.yaml
  { sed '/^  groups:/,$d' "$to" && sed -n '/^groups:/,$p' deploy/alerts.yml | sed 's/^./  &/'; } >"$work/rules" &&
    cp "$work/rules" "$to"
}

# The base alone, which belongs to no namespace, and with each set of components that a fleet may have.
combinations=("" hpa keda monitoring "hpa monitoring" "keda monitoring")

render() {
  local combination here to
  here=$(realpath --relative-to="$work/x" deploy/kubernetes) || return 1
  for combination in "${combinations[@]}"; do
    to="$work/base${combination:+ $combination}.yaml"
    mkdir -p "$work/x" && {
      printf 'namespace: riskfleet\nresources: [%s/base]\ncomponents:\n' "$here"
      for component in $combination; do printf '  - %s/components/%s\n' "$here" "$component"; done
    } | if [[ -n "$combination" ]]; then cat; else sed '/^resources/!d'; fi >"$work/x/kustomization.yaml"
    kubectl kustomize "$work/x" >"$to" || return 1
  done
  kubectl kustomize deploy/kubernetes/overlays/example >"$work/example.yaml"
}

python() {
  [[ -n "${DEPLOY_CHECK_PYTHON:-}" ]] && return
  command -v python3 >/dev/null || { skip "the manifests: python3 is not installed"; return 1; }
  python3 -m venv "$work/venv" >/dev/null 2>&1 || { skip "the manifests: python3 has no venv"; return 1; }
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$kubernetes_validate" \
    >"$work/pip.log" 2>&1 || { skip "the manifests: pip: $(tail -n 1 "$work/pip.log")"; return 1; }
  DEPLOY_CHECK_PYTHON="$work/venv/bin/python"
}

# Extra arguments go to check_manifests.py.
manifests() {
  kubectl version --client >/dev/null 2>&1 || { skip "the manifests: kubectl is not installed"; return; }
  render || { fail "kubectl can't render the manifests"; return; }
  python || return 0
  "$DEPLOY_CHECK_PYTHON" deploy/check_manifests.py "$@" "$work"/*.yaml || fail "the manifests"
}

rules() {
  promtool --version >/dev/null 2>&1 || { skip "the rules: promtool is not installed (Debian: prometheus)"; return; }
  promtool check rules deploy/alerts.yml >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "promtool check rules"; return; }
  # Its paths are those of the container.
  sed "s,/etc/prometheus/,$root/deploy/,g" deploy/prometheus.yml >"$work/prometheus.yml"
  promtool check config "$work/prometheus.yml" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "promtool check config"; return; }
  promtool test rules deploy/*.test.yml >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "promtool test rules"; }
}

compose() {
  docker compose version >/dev/null 2>&1 || { skip "docker-compose.yml: there is no docker compose"; return; }
  RISKFLEET_MASTER_KEY=x docker compose --file docker-compose.yml config --quiet || fail "docker compose config"
}

# Breaks a copy by `sed EXPRESSION FILE` and expects the copy's own check of a part to fail, saying why.
broken() {
  local part=$1 what=$2 expression=$3 file=$4 expected=$5 copy="$work/copy"
  rm -rf "$copy" && mkdir "$copy" && cp -R deploy README.md docker-compose.yml "$copy/" || return 1
  sed -i "$expression" "$copy/$file" && ! cmp -s "$file" "$copy/$file" || { fail "nothing was broken: $what"; return; }
  if DEPLOY_CHECK_PYTHON="${DEPLOY_CHECK_PYTHON:-}" "$copy/deploy/check.sh" "$part" >"$work/said" 2>&1; then
    fail "not found: $what"
  elif ! grep -q -- "$expected" "$work/said"; then
    cat "$work/said" >&2
    fail "found, but not said: $what"
  fi
}

self_test() {
  local base=deploy/kubernetes/base
  manifests --self-test
  rules
  compose
  if kubectl version --client >/dev/null 2>&1 && [[ -n "${DEPLOY_CHECK_PYTHON:-}" ]]; then
    broken manifests "a file that is not there" 's/- worker.yaml/- workers.yaml/' $base/kustomization.yaml "can't render"
    broken manifests "a field of no schema" 's/minReadySeconds/minimumReadySeconds/' $base/worker.yaml "minimumReadySeconds"
  fi
  if promtool --version >/dev/null 2>&1; then
    broken rules "a query that is none" 's/max(abs(\(riskfleet_ledger_difference\)))/max(abs(\1)/' deploy/alerts.yml "check rules"
    broken rules "another bound" 's/backlog_age_seconds) > 300/backlog_age_seconds) > 3000/' deploy/alerts.yml "test rules"
    broken rules "a key that Prometheus does not know" 's/scrape_interval/scrape_every/' deploy/prometheus.yml "check config"
  fi
  if docker compose version >/dev/null 2>&1; then
    broken compose "a volume that is not declared" 's/^  grafana: {}//' docker-compose.yml "compose config"
  fi
}

case "${1:-}" in
  "") manifests; rules; compose ;;
  manifests | rules | compose) "$1" ;;
  --self-test) self_test ;;
  --write-rules) write_rules || exit 1 ;;
  *) say "$1 is none of manifests, rules, compose, --self-test, --write-rules"; exit 2 ;;
esac
[[ $failed == 0 ]] || exit 1
say "what is deployed is as it should be"
