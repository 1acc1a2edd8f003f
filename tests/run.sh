#!/usr/bin/env bash
# Runs all tests on private servers: ./tests/run.sh [ARGUMENTS OF cargo test]
#   ./tests/run.sh                         everything
#   ./tests/run.sh --test it store_contract  only what has this in its name
#   ./tests/run.sh -- --nocapture          with the tests' own output
#   SIM_SEEDS=10000 ./tests/run.sh --test simulation   more seeds of the simulation (default 2000)
# Servers named in RISKFLEET_TEST_DATABASE_URL, RISKFLEET_TEST_REDIS_URL or RISKFLEET_TEST_AMQP_URL
# are used as they are; the others are started here and stopped at the end.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
cd "$root" || exit 1
# shellcheck source=tests/servers.sh
source tests/servers.sh

command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
command -v cargo >/dev/null || { echo "run.sh: cargo is not installed: https://rustup.rs" >&2; exit 1; }

tests=""
finish() {
  local status=$?
  trap - EXIT
  [[ -n "$tests" ]] && kill -TERM -- "-$tests" 2>/dev/null && wait "$tests"
  servers_stop
  exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM HUP
trap 'exit 130' INT

# A build that fails needs no servers.
echo "run.sh: building" >&2
build=()
for argument in "$@"; do
  [[ "$argument" == -- ]] && break
  build+=("$argument")
done
cargo test --no-run "${build[@]}" || exit

export RISKFLEET_TEST_FSYNC="${RISKFLEET_TEST_FSYNC:-off}"
servers_start || exit 1

# In the background and in a process group of its own (`set -m`), so that a signal reaches this
# shell at once, and the shell can end the tests with everything that they started.
echo "run.sh: cargo test $*" >&2
set -m
cargo test "$@" </dev/null &
tests=$!
set +m
wait "$tests"
status=$?
tests=""
exit "$status"
