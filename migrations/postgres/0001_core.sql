-- The core of a fleet. Runs with search_path set to the fleet's schema.
--
-- What is only stored and read back whole is bytea or text. Every index is a primary key and is
-- named with the query that needs it.

CREATE TABLE fleet (
    only_row    boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions  smallint NOT NULL CHECK (partitions BETWEEN 1 AND 4096),
    pack_secret bytea    NOT NULL CHECK (length(pack_secret) = 32),
    -- The mark W: every event below it has a disposition; the totals count what lies below it.
    mark        uuid     NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    accepted    bigint   NOT NULL DEFAULT 0,
    decided     bigint   NOT NULL DEFAULT 0,
    dead        bigint   NOT NULL DEFAULT 0
);

-- Primary key: the idempotency check of every accept.
CREATE TABLE keys (
    tenant_id text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    event_id  uuid             NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

-- Primary key: reading by id, and the range scans above W. Range-partitioned by the time in the id.
CREATE TABLE events (
    event_id       uuid             NOT NULL,
    partition      smallint         NOT NULL,
    tenant_id      text COLLATE "C" NOT NULL,
    correlation_id text             NOT NULL,
    body           bytea            NOT NULL,
    PRIMARY KEY (event_id)
) PARTITION BY RANGE (event_id);
CREATE TABLE events_default PARTITION OF events DEFAULT;

-- One disposition an event: outcome 0 APPROVED, 1 REQUIRE_APPROVAL, 2 REJECTED, 3 dead letter.
-- body: the decision's canonical text; of a dead letter {"class","error","attempts"}.
-- timings: microseconds by stage, u32 little-endian.
-- Primary key: exactly once; reading by id; the anti-joins above W.
CREATE TABLE decisions (
    event_id  uuid             NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    outcome   smallint         NOT NULL CHECK (outcome BETWEEN 0 AND 3),
    epoch     bigint           NOT NULL,
    worker_id uuid             NOT NULL,
    at        timestamptz      NOT NULL,
    body      bytea            NOT NULL,
    timings   bytea            NOT NULL,
    PRIMARY KEY (event_id)
) PARTITION BY RANGE (event_id);
CREATE TABLE decisions_default PARTITION OF decisions DEFAULT;

-- Stream 0 workflow, 1 control. Primary key: a chain cannot fork; its head is its last row.
CREATE TABLE audit (
    tenant_id text COLLATE "C" NOT NULL,
    stream    smallint         NOT NULL CHECK (stream IN (0, 1)),
    seq       bigint           NOT NULL CHECK (seq >= 1),
    prev_hash bytea            NOT NULL CHECK (length(prev_hash) = 32),
    hash      bytea            NOT NULL CHECK (length(hash) = 32),
    body      text             NOT NULL,
    PRIMARY KEY (tenant_id, stream, seq)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only: % refused', TG_OP USING ERRCODE = 'RF002';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Primary key: one request an event; reading by id.
CREATE TABLE approvals (
    event_id  uuid             NOT NULL PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    opened_at timestamptz      NOT NULL
);

-- A person's verdict is one more row. Primary key: the first one wins.
CREATE TABLE verdicts (
    event_id   uuid             NOT NULL PRIMARY KEY,
    tenant_id  text COLLATE "C" NOT NULL,
    verdict    smallint         NOT NULL CHECK (verdict IN (0, 2)),
    decided_at timestamptz      NOT NULL,
    decided_by text             NOT NULL,
    reason     text             NOT NULL
);

-- Kind 0: an accept, to be published as packs; 1: a commit, to be published as outcomes.
-- A row lives for milliseconds, so the table stays small and is scanned when somebody looks for
-- what was left behind. Primary key: settling.
CREATE TABLE outbox (
    id         uuid        NOT NULL PRIMARY KEY,
    kind       smallint    NOT NULL CHECK (kind IN (0, 1)),
    touched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    n          integer     NOT NULL CHECK (n >= 1),
    events     uuid[]      NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE partitions (
    partition smallint NOT NULL PRIMARY KEY,
    epoch     bigint   NOT NULL DEFAULT 0,
    owner     uuid
);

CREATE TABLE workers (
    id         uuid        NOT NULL PRIMARY KEY,
    version    text        NOT NULL,
    partitions smallint[]  NOT NULL,
    draining   boolean     NOT NULL,
    seen_at    timestamptz NOT NULL
);

CREATE TABLE inbox_rejected (
    id     uuid        NOT NULL PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text        NOT NULL,
    body   bytea       NOT NULL
);

-- The floor of a millisecond among UUIDv7s: its 48 bits, the rest zeros.
CREATE FUNCTION id_floor(millis bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(millis), 12, '0') || '00000000000000000000')::uuid
$$;

-- True when both ends of a range of id times lie within 2 s of the store's clock and above the
-- mark; else an error that carries the distance.
CREATE FUNCTION ids_are_fresh(first_ms bigint, last_ms bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now_ms   bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    distance bigint := CASE WHEN abs(first_ms - now_ms) > abs(last_ms - now_ms)
                            THEN first_ms - now_ms ELSE last_ms - now_ms END;
BEGIN
    IF abs(distance) > 2000 THEN
        RAISE EXCEPTION '%', distance USING ERRCODE = 'RF001';
    END IF;
    -- Only after the clock was set back: nothing may appear below the mark, whatever the clock says.
    IF id_floor(first_ms) < (SELECT mark FROM fleet) THEN
        RAISE EXCEPTION '%', first_ms - now_ms USING ERRCODE = 'RF001';
    END IF;
    RETURN true;
END $$;

-- Makes the time partitions of `days` days (UTC), today the first. Called by migrate and, once a
-- day, by whoever moves the mark: ahead of time, so that the DEFAULT partitions stay empty.
CREATE FUNCTION make_partitions(days integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    day    date;
    parent text;
    child  text;
BEGIN
    FOR i IN 0 .. days - 1 LOOP
        day := (clock_timestamp() AT TIME ZONE 'UTC')::date + i;
        FOREACH parent IN ARRAY ARRAY['events', 'decisions'] LOOP
            child := parent || '_' || to_char(day, 'YYYYMMDD');
            IF to_regclass(format('%I', child)) IS NULL THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
                    id_floor(extract(epoch FROM day)::bigint * 1000),
                    id_floor(extract(epoch FROM day + 1)::bigint * 1000));
            END IF;
        END LOOP;
    END LOOP;
END $$;
