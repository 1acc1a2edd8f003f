#!/usr/bin/env bash
# Holds a running fleet against its own OpenAPI document with schemathesis: ./tests/schemathesis.sh
# No 5xx, no status and no media type that the document does not name, no answer that does not fit
# its schema, no method that it does not name. Authentication is on.
# Needs Python with venv and pip, and a Python package index; without them it says "skipped", why,
# and ends with 0, or with 1 where SCHEMATHESIS=required. About two minutes.
#   SCHEMATHESIS_EXAMPLES=100 ./tests/schemathesis.sh   more examples an operation (default 25)
#   SCHEMATHESIS_SEED=7 ./tests/schemathesis.sh         the examples of another seed (default 1)
set -uo pipefail

version=4.32.5
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
cd "$root" || exit 1

say() { printf 'schemathesis: %s\n' "$*" >&2; }
skip() {
  say "skipped: $*"
  [[ "${SCHEMATHESIS:-}" == required ]] && exit 1
  exit 0
}

work=$(mktemp -d "${TMPDIR:-/tmp}/riskfleet-schemathesis.XXXXXX") || exit 1
fleet=""
finish() {
  local status=$?
  trap - EXIT
  [[ -n "$fleet" ]] && kill -TERM "$fleet" 2>/dev/null && wait "$fleet"
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM HUP
trap 'exit 130' INT

command -v python3 >/dev/null || skip "python3 is not installed"
python3 -m venv "$work/venv" >/dev/null 2>&1 || skip "python3 has no venv (Debian: apt-get install python3-venv)"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version" >"$work/pip.log" 2>&1 ||
  skip "pip cannot install schemathesis $version: $(tail -n 1 "$work/pip.log")"

command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
command -v cargo >/dev/null || { say "cargo is not installed: https://rustup.rs"; exit 1; }
say "building"
# As the tests build it, so that nothing is built twice.
cargo test --locked --quiet --no-run --test it || exit 1
program="${CARGO_TARGET_DIR:-target}/debug/riskfleet"

# A secret of this run, a token of an hour under it, and a free port.
read -r secret port token < <(python3 - <<'PYTHON'
import base64, hashlib, hmac, json, secrets, socket, time

def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

secret = secrets.token_hex(32)
claims = {"sub": "schemathesis", "tenant_id": "acme", "exp": int(time.time()) + 3600,
          "roles": ["ADMIN", "ANALYST", "APPROVER", "VIEWER", "OPERATOR"]}
signed = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
signature = part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    print(secret, free.getsockname()[1], signed + "." + signature)
PYTHON
)

# The rates are another test's matter (tests/it/attack/rates.rs).
env -i PATH="$PATH" HOME="$work" RISKFLEET_AUTH=on RISKFLEET_JWT_SECRET="$secret" RISKFLEET_TENANT_RATE_MAX=0 \
  RISKFLEET_CALLER_REQUESTS_PER_S=0 RISKFLEET_REFUSED_REQUESTS_PER_S=0 \
  "$program" up --data "$work/data" --http "127.0.0.1:$port" >"$work/fleet.log" 2>&1 &
fleet=$!
for _ in {1..100}; do
  python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/health/ready', timeout=2)" 2>/dev/null && break
  kill -0 "$fleet" 2>/dev/null || { say "the fleet has ended:"; cat "$work/fleet.log" >&2; exit 1; }
  sleep 0.2
done

# With something to be found under an id.
sent=$(python3 - "$port" "$token" <<'PYTHON'
import json, sys, urllib.request

request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/v1/risk", b'{"version":"1","event_type":"high_risk"}',
    {"Authorization": f"Bearer {sys.argv[2]}", "Content-Type": "application/json", "X-Idempotency-Key": "first"})
print(json.load(urllib.request.urlopen(request, timeout=10))["event_id"])
PYTHON
) || { say "the fleet takes no event"; tail -n 25 "$work/fleet.log" >&2; exit 1; }
cat >"$work/schemathesis.toml" <<TOML
[parameters]
"path.id" = ["$sent", "019aa5a0-0000-7000-8000-000000000000", "no id"]
TOML

# One event a line, which schemathesis does not know how to write.
cat >"$work/hooks.py" <<'PYTHON'
import json
import schemathesis

@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    return json.dumps(value).encode()
PYTHON

say "running schemathesis $version"
(cd "$work" && SCHEMATHESIS_HOOKS=hooks timeout 175 "$work/venv/bin/schemathesis" --config-file "$work/schemathesis.toml" run \
  "http://127.0.0.1:$port/openapi.json" \
  --header "Authorization: Bearer $token" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method \
  --phases examples,coverage,fuzzing --max-examples "${SCHEMATHESIS_EXAMPLES:-25}" --seed "${SCHEMATHESIS_SEED:-1}" \
  --generation-database none --workers 2 --request-timeout 20 --no-color)
status=$?
[[ $status == 124 ]] && say "it took longer than 175 s: give it fewer SCHEMATHESIS_EXAMPLES"
if [[ $status != 0 ]]; then
  say "the fleet's last lines:"
  grep -v ' INFO ' "$work/fleet.log" | tail -n 20 >&2
  exit 1
fi
kill -0 "$fleet" 2>/dev/null || { say "the fleet has ended"; exit 1; }
say "the API is as its document says"
