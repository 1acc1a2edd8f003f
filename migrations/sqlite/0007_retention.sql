-- Tenants of whom something is set, and the days whose events are gone. A day is a number: days since
-- 1970-01-01 (UTC).

-- A tenant has a row once somebody has set something of it. retention_days NULL: the fleet's; 0: for
-- ever.
CREATE TABLE tenants (
    tenant         TEXT    PRIMARY KEY NOT NULL,
    created_at     INTEGER NOT NULL,
    retention_days INTEGER CHECK (retention_days BETWEEN 0 AND 36500),
    legal_hold     INTEGER NOT NULL DEFAULT 0 CHECK (legal_hold IN (0, 1)),
    hold_reason    TEXT,
    held_by        TEXT,
    held_at        INTEGER,
    CHECK (legal_hold = (held_at IS NOT NULL) AND legal_hold = (held_by IS NOT NULL)
           AND legal_hold = (hold_reason IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Whose events a day holds: written once the day lies wholly below the mark, where nothing is added
-- any more.
CREATE TABLE day_tenants (
    day    INTEGER NOT NULL,
    tenant TEXT    NOT NULL,
    events INTEGER NOT NULL CHECK (events >= 1),
    PRIMARY KEY (day, tenant)
) STRICT, WITHOUT ROWID;

-- The days that are gone: every id from first_id to last_id. unfinished: rows of the day are still to
-- be deleted; nobody counts on them any more.
CREATE TABLE expired_days (
    day        INTEGER PRIMARY KEY NOT NULL,
    first_id   BLOB    NOT NULL CHECK (length(first_id) = 16),
    last_id    BLOB    NOT NULL CHECK (length(last_id) = 16),
    events     INTEGER NOT NULL CHECK (events >= 0),
    decisions  INTEGER NOT NULL CHECK (decisions >= 0),
    at         INTEGER NOT NULL,
    unfinished INTEGER NOT NULL CHECK (unfinished IN (0, 1))
) STRICT;
