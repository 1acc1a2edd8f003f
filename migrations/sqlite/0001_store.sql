-- The store of one process. Ids are 16 bytes, moments are milliseconds since the Unix epoch (UTC),
-- outcome: 0 APPROVED, 1 REQUIRE_APPROVAL, 2 REJECTED; class: 0 VALIDATION_ERROR … 5 UNEXPECTED_ERROR;
-- stream: 0 workflow, 1 control; outbox kind: 0 accept, 1 outcome.
-- Every index is a primary key. Status is derived, never a column.

-- One row: the constants, the mark W, and the ledger's totals of the events below W.
CREATE TABLE fleet (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    partitions  INTEGER NOT NULL CHECK (partitions BETWEEN 1 AND 65535),
    pack_secret BLOB    NOT NULL CHECK (length(pack_secret) = 32),
    mark        BLOB    NOT NULL DEFAULT (zeroblob(16)) CHECK (length(mark) = 16),
    accepted    INTEGER NOT NULL DEFAULT 0,
    decided     INTEGER NOT NULL DEFAULT 0,
    dead        INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE events (
    id             BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    tenant         TEXT    NOT NULL,
    partition      INTEGER NOT NULL,
    correlation_id TEXT    NOT NULL,
    body           BLOB    NOT NULL
) STRICT;

CREATE TABLE keys (
    tenant TEXT NOT NULL,
    key    TEXT NOT NULL,
    event  BLOB NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

-- The disposition of an event: a decision (outcome; body is its text) or a dead letter (class,
-- attempts; body is the error). timings: 32-bit little-endian microseconds.
CREATE TABLE decisions (
    event    BLOB    PRIMARY KEY NOT NULL REFERENCES events (id),
    outcome  INTEGER,
    class    INTEGER,
    attempts INTEGER,
    at       INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    worker   BLOB    NOT NULL,
    timings  BLOB    NOT NULL,
    body     BLOB    NOT NULL,
    CHECK ((outcome IS NULL) <> (class IS NULL)),
    CHECK ((class IS NULL) = (attempts IS NULL))
) STRICT;

CREATE TABLE approvals (
    event     BLOB    PRIMARY KEY NOT NULL REFERENCES events (id),
    opened_at INTEGER NOT NULL
) STRICT;

-- A person's verdict, an outcome of 0 or 2, is one more row. Primary key: the first one wins.
CREATE TABLE verdicts (
    event      BLOB    PRIMARY KEY NOT NULL REFERENCES approvals (event),
    verdict    INTEGER NOT NULL CHECK (verdict IN (0, 2)),
    decided_at INTEGER NOT NULL,
    decided_by TEXT    NOT NULL,
    reason     TEXT    NOT NULL
) STRICT;

CREATE TABLE audit (
    tenant    TEXT    NOT NULL,
    stream    INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    prev_hash BLOB    NOT NULL,
    hash      BLOB    NOT NULL,
    body      TEXT    NOT NULL,
    PRIMARY KEY (tenant, stream, seq)
) STRICT;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never changed');
END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never deleted');
END;

-- INSERT OR REPLACE would delete without firing a delete trigger.
CREATE TRIGGER audit_is_never_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE tenant = NEW.tenant AND stream = NEW.stream AND seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'audit records are never replaced');
END;

-- events: the ids, 16 bytes each, in the order in which they were written.
-- touched_at: when the row was written or last taken.
CREATE TABLE outbox (
    id         BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    kind       INTEGER NOT NULL,
    touched_at INTEGER NOT NULL,
    events     BLOB    NOT NULL
) STRICT;

CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    epoch     INTEGER NOT NULL DEFAULT 0,
    owner     BLOB
) STRICT;

-- partitions: a JSON array of numbers.
CREATE TABLE workers (
    id         BLOB    PRIMARY KEY NOT NULL,
    version    TEXT    NOT NULL,
    partitions TEXT    NOT NULL,
    draining   INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE inbox_rejected (
    id     BLOB    PRIMARY KEY NOT NULL,
    at     INTEGER NOT NULL,
    reason TEXT    NOT NULL,
    body   BLOB    NOT NULL
) STRICT;
