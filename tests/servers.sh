#!/usr/bin/env bash
# Private Postgres, Redis and RabbitMQ servers for tests and measurements: on free loopback ports,
# in a temporary folder, from the installed programs, stopped by pid.
#
# Sourced:  servers_start starts what the environment does not name and exports
#           RISKFLEET_TEST_DATABASE_URL, RISKFLEET_TEST_REDIS_URL and RISKFLEET_TEST_AMQP_URL;
#           servers_stop stops what servers_start started, and removes the folder.
# Run:      tests/servers.sh hold     starts them, prints NAME=VALUE lines and READY, and stops them
#                                     when its standard input ends or it is told to end.
#
# A server whose RISKFLEET_TEST_…_URL is set is taken as it is and never stopped.
# RISKFLEET_TEST_FSYNC=off makes Postgres forgetful and fast: for functional tests only.

servers_dir=""
servers_pids=()   # in the order of starting; stopped in the reverse order
servers_guard=""

servers_say() { printf 'servers: %s\n' "$*" >&2; }

servers_fail() {
  printf 'servers: %s\n' "$1" >&2
  if [[ -n "${2:-}" && -s "$2" ]]; then
    printf 'servers: the last lines of %s:\n' "$2" >&2
    tail -n 25 "$2" | sed 's/^/    /' >&2
  fi
  return 1
}

# ---- what is installed ------------------------------------------------------------------------

servers_postgres_bin() {
  local dir
  for dir in $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -rV); do
    [[ -x "$dir/initdb" && -x "$dir/postgres" ]] && { echo "$dir"; return 0; }
  done
  dir=$(dirname "$(command -v postgres 2>/dev/null || echo /)")
  [[ -x "$dir/initdb" ]] && echo "$dir"
}

# The script in /usr/sbin changes the user; the one beside the release does not.
servers_rabbit_sbin() {
  local dir
  for dir in $(ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin 2>/dev/null | sort -rV); do
    [[ -x "$dir/rabbitmq-server" ]] && { echo "$dir"; return 0; }
  done
  dir=$(dirname "$(readlink -f "$(command -v rabbitmq-server 2>/dev/null || echo /)")")
  [[ "$dir" != /usr/sbin && -x "$dir/rabbitmq-server" ]] && echo "$dir"
}

servers_missing() {
  local missing=()
  [[ -n "${RISKFLEET_TEST_DATABASE_URL:-}" || -n "$(servers_postgres_bin)" ]] || missing+=(postgresql)
  [[ -n "${RISKFLEET_TEST_REDIS_URL:-}" ]] || command -v redis-server >/dev/null || missing+=(redis-server)
  if [[ -z "${RISKFLEET_TEST_AMQP_URL:-}" ]]; then
    [[ -n "$(servers_rabbit_sbin)" ]] && command -v epmd >/dev/null && command -v erl >/dev/null || missing+=(rabbitmq-server)
  fi
  # Without it the test that scrapes a fleet says "skipped".
  [[ "$(id -u)" != 0 ]] || command -v prometheus >/dev/null || missing+=(prometheus)
  # The fleet test drives a Python producer in an environment of its own.
  python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
  echo "${missing[*]}"
}

servers_install() {
  local missing policy=/usr/sbin/policy-rc.d ours=""
  missing=$(servers_missing)
  [[ -z "$missing" ]] && return 0
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    servers_fail "not installed: $missing. Install these (Debian: sudo apt-get install $missing), or name running servers in RISKFLEET_TEST_DATABASE_URL, RISKFLEET_TEST_REDIS_URL and RISKFLEET_TEST_AMQP_URL."
    return 1
  fi
  servers_say "installing $missing (apt-get)"
  # The packages would start servers of their own on the standard ports: only the programs are wanted.
  if [[ ! -e $policy ]]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  fi
  # shellcheck disable=SC2086 # a list of names
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } \
    >"$servers_dir/apt.log" 2>&1
  local status=$?
  [[ -n "$ours" ]] && rm -f "$policy"
  if [[ $status != 0 ]]; then
    servers_fail "apt-get could not install $missing" "$servers_dir/apt.log"
    return 1
  fi
  missing=$(servers_missing)
  [[ -z "$missing" ]] || servers_fail "still not found after apt-get: $missing"
}

# ---- ports and pids ---------------------------------------------------------------------------

# A port below the range from which the kernel takes the ports of outgoing connections.
servers_free_port() {
  local port
  for _ in $(seq 200); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return 0
    fi
  done
  servers_fail "no free port between 20000 and 32000"
}

servers_started() {
  servers_pids+=("$1")
  echo "$1" >>"$servers_dir/pids"
}

# Ends a process: a request, ten seconds to follow it, then force.
servers_end() {
  local pid=$1 signal=$2
  kill -0 "$pid" 2>/dev/null || return 0
  kill "-$signal" "$pid" 2>/dev/null
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null
}

servers_stop() {
  local n pid beam
  [[ -n "$servers_dir" ]] || return 0
  # The start script of RabbitMQ may be gone before the machine that it started.
  beam=$(cat "$servers_dir/rabbit/pid" 2>/dev/null)
  [[ -n "$beam" ]] && servers_end "$beam" TERM
  for ((n = ${#servers_pids[@]} - 1; n >= 0; n--)); do
    # For Postgres, INT is the fast shutdown: TERM waits for its clients.
    servers_end "${servers_pids[n]}" "$([[ "${servers_pids[n]}" == "${servers_postgres_pid:-}" ]] && echo INT || echo TERM)"
  done
  [[ -n "$servers_guard" ]] && kill "$servers_guard" 2>/dev/null
  wait 2>/dev/null
  rm -rf "$servers_dir"
  servers_dir="" servers_pids=() servers_guard=""
}

# When this shell dies without a word, nothing of its stays behind.
servers_watch() {
  setsid bash -c '
    while kill -0 "$1" 2>/dev/null; do sleep 1; done
    for pid in $(cat "$2/rabbit/pid" 2>/dev/null) $(cat "$2/pids" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
    rm -rf "$2"' guard "$$" "$servers_dir" </dev/null >/dev/null 2>&1 &
  servers_guard=$!
  disown "$servers_guard"
}

# servers_await SECONDS PID LOG NAME COMMAND…: until the command succeeds.
servers_await() {
  local seconds=$1 pid=$2 log=$3 name=$4 until
  shift 4
  until=$((SECONDS + seconds))
  while ! "$@" >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || { servers_fail "$name ended while it was starting" "$log"; return 1; }
    ((SECONDS < until)) || { servers_fail "$name is not ready after $seconds s" "$log"; return 1; }
    sleep 0.1
  done
}

# ---- the servers ------------------------------------------------------------------------------

servers_launch_postgres() {
  local bin as=() user=postgres dir=$servers_dir/postgres
  bin=$(servers_postgres_bin)
  mkdir "$dir"
  # Postgres refuses to run as root.
  if [[ "$(id -u)" == 0 ]]; then
    id "$user" >/dev/null 2>&1 || user=nobody
    as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --init-groups)
    chown "$user:" "$dir"
    "${as[@]}" test -w "$dir" || { servers_fail "the user $user cannot reach $dir: set TMPDIR to a folder that it can"; return 1; }
  fi
  (cd "$dir" && "${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust --no-sync --locale=C -E UTF8) \
    >"$dir/log" 2>&1 || { servers_fail "initdb failed" "$dir/log"; return 1; }
  servers_postgres_port=$(servers_free_port) || return 1
  (
    cd "$dir" && exec "${as[@]}" "$bin/postgres" -D "$dir/data" -p "$servers_postgres_port" \
      -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 \
      -c shared_buffers=256MB -c max_wal_size=4GB -c "fsync=${RISKFLEET_TEST_FSYNC:-on}"
  ) </dev/null >>"$dir/log" 2>&1 &
  servers_postgres_pid=$!
  servers_started "$servers_postgres_pid"
}

servers_launch_redis() {
  local dir=$servers_dir/redis
  mkdir "$dir"
  servers_redis_port=$(servers_free_port) || return 1
  redis-server --port "$servers_redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$dir" --daemonize no \
    </dev/null >"$dir/log" 2>&1 &
  servers_redis_pid=$!
  servers_started "$servers_redis_pid"
}

servers_launch_rabbit() {
  local dir=$servers_dir/rabbit epmd_port dist_port
  mkdir "$dir"
  servers_rabbit_port=$(servers_free_port) && epmd_port=$(servers_free_port) && dist_port=$(servers_free_port) || return 1
  echo '[].' >"$dir/plugins"
  : >"$dir/rabbitmq.conf"
  # A name server of its own, so that no other Erlang node of this machine is met.
  epmd -address 127.0.0.1 -port "$epmd_port" </dev/null >"$dir/epmd.log" 2>&1 &
  servers_started $!
  cat >"$dir/env" <<ENV
export HOME=$dir RABBITMQ_NODENAME=riskfleet-$$-$epmd_port@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
export RABBITMQ_NODE_PORT=$servers_rabbit_port RABBITMQ_DIST_PORT=$dist_port
export RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/logs RABBITMQ_PID_FILE=$dir/pid
export RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$dir/plugins RABBITMQ_CONF_ENV_FILE=/dev/null
export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$epmd_port
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
ENV
  (
    # shellcheck disable=SC1091 # written above
    source "$dir/env" && cd "$dir" && exec "$(servers_rabbit_sbin)/rabbitmq-server"
  ) </dev/null >"$dir/log" 2>&1 &
  servers_rabbit_script=$!
  servers_started "$servers_rabbit_script"
}

servers_redis_answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$servers_redis_port" && printf 'PING\r\n' >&3 && read -r -t 2 line <&3 && [[ "$line" == +PONG* ]])
}

# The listener opens before all is up: only Connection.Start tells that the broker serves.
servers_rabbit_answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$servers_rabbit_port" && printf 'AMQP\0\0\011\001' >&3 && IFS= read -r -t 2 -N 1 -u 3 frame && [[ "$frame" == $'\001' ]])
}

servers_start() {
  local began=$SECONDS base=${TMPDIR:-/tmp}
  servers_dir=$(mktemp -d "${base%/}/riskfleet-servers.XXXXXX") || { servers_fail "no temporary folder in $base"; return 1; }
  chmod 755 "$servers_dir"
  servers_install || return 1
  servers_watch
  # All three at once: RabbitMQ needs the longest.
  if [[ -z "${RISKFLEET_TEST_AMQP_URL:-}" ]]; then
    servers_say "starting RabbitMQ" && servers_launch_rabbit || return 1
  fi
  if [[ -z "${RISKFLEET_TEST_REDIS_URL:-}" ]]; then
    servers_say "starting Redis" && servers_launch_redis || return 1
  fi
  if [[ -z "${RISKFLEET_TEST_DATABASE_URL:-}" ]]; then
    servers_say "starting Postgres (fsync ${RISKFLEET_TEST_FSYNC:-on})" && servers_launch_postgres || return 1
    servers_await 60 "$servers_postgres_pid" "$servers_dir/postgres/log" Postgres \
      "$(servers_postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$servers_postgres_port" || return 1
    export RISKFLEET_TEST_DATABASE_URL="postgres://postgres@127.0.0.1:$servers_postgres_port/postgres"
    servers_database_pid=$servers_postgres_pid
  fi
  if [[ -z "${RISKFLEET_TEST_REDIS_URL:-}" ]]; then
    servers_await 20 "$servers_redis_pid" "$servers_dir/redis/log" Redis servers_redis_answers || return 1
    export RISKFLEET_TEST_REDIS_URL="redis://127.0.0.1:$servers_redis_port/0"
  fi
  if [[ -z "${RISKFLEET_TEST_AMQP_URL:-}" ]]; then
    servers_await 90 "$servers_rabbit_script" "$servers_dir/rabbit/log" RabbitMQ servers_rabbit_answers || return 1
    export RISKFLEET_TEST_AMQP_URL="amqp://guest:guest@127.0.0.1:$servers_rabbit_port/%2f"
    servers_amqp_pid=$(cat "$servers_dir/rabbit/pid" 2>/dev/null)
  fi
  servers_say "ready after $((SECONDS - began)) s"
}

servers_hold() {
  trap servers_stop EXIT
  trap 'exit 143' TERM HUP
  trap 'exit 130' INT
  servers_start || exit 1
  printf '%s=%s\n' RISKFLEET_TEST_DATABASE_URL "$RISKFLEET_TEST_DATABASE_URL" \
    RISKFLEET_TEST_REDIS_URL "$RISKFLEET_TEST_REDIS_URL" RISKFLEET_TEST_AMQP_URL "$RISKFLEET_TEST_AMQP_URL" \
    POSTGRES_PID "${servers_database_pid:-}" REDIS_PID "${servers_redis_pid:-}" RABBITMQ_PID "${servers_amqp_pid:-}"
  echo READY
  # Ends with the one who holds the other end of the pipe, however that ends.
  while read -r _; do :; done
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  case "${1:-}" in
    hold) servers_hold ;;
    *) echo "usage: tests/servers.sh hold" >&2; exit 2 ;;
  esac
fi
