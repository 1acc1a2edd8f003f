-- Versions of models and prompts under four eyes, and what is active.
--
-- What is promised of a version is held here too, against whoever goes past the program: it is
-- registered pending under the next number, its content never changes, its author never decides on
-- it, it is decided once, and only an approved one becomes active.

-- kind: 0 model, 1 prompt; state: 0 pending, 1 approved, 2 rejected.
-- Primary key: reading one, and the pages by name and number.
CREATE TABLE versions (
    tenant          TEXT    NOT NULL,
    kind            INTEGER NOT NULL CHECK (kind IN (0, 1)),
    name            TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 64 AND name NOT GLOB '*[^a-z0-9_-]*'),
    version         INTEGER NOT NULL CHECK (version >= 1),
    sha256          BLOB    NOT NULL CHECK (length(sha256) = 32),
    content         BLOB    NOT NULL CHECK (length(content) BETWEEN 1 AND 1048576),
    author          TEXT    NOT NULL CHECK (author <> ''),
    reason          TEXT    NOT NULL CHECK (reason <> ''),
    created_at      INTEGER NOT NULL,
    state           INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
    decided_by      TEXT,
    decided_at      INTEGER,
    decision_reason TEXT,
    PRIMARY KEY (tenant, kind, name, version),
    CONSTRAINT versions_four_eyes CHECK (decided_by <> author),
    CONSTRAINT versions_decided CHECK (CASE state
        WHEN 0 THEN decided_by IS NULL AND decided_at IS NULL AND decision_reason IS NULL
        WHEN 1 THEN decided_by IS NOT NULL AND decided_at IS NOT NULL
        ELSE decided_by IS NOT NULL AND decided_at IS NOT NULL AND decision_reason IS NOT NULL END)
) STRICT;

CREATE TRIGGER versions_are_registered_pending BEFORE INSERT ON versions WHEN NEW.state <> 0
BEGIN
    SELECT RAISE(ABORT, 'a version is registered pending');
END;

-- Also keeps INSERT OR REPLACE from replacing one, which would fire no other trigger.
CREATE TRIGGER versions_are_counted BEFORE INSERT ON versions
WHEN NEW.version <> 1 + coalesce((SELECT max(version) FROM versions
    WHERE tenant = NEW.tenant AND kind = NEW.kind AND name = NEW.name), 0)
BEGIN
    SELECT RAISE(ABORT, 'versions of a name are counted without gaps');
END;

CREATE TRIGGER versions_never_change BEFORE UPDATE ON versions
WHEN (NEW.tenant, NEW.kind, NEW.name, NEW.version, NEW.sha256, NEW.content, NEW.author, NEW.reason, NEW.created_at)
    IS NOT (OLD.tenant, OLD.kind, OLD.name, OLD.version, OLD.sha256, OLD.content, OLD.author, OLD.reason, OLD.created_at)
BEGIN
    SELECT RAISE(ABORT, 'a version never changes');
END;

CREATE TRIGGER versions_are_decided_once BEFORE UPDATE ON versions WHEN OLD.state <> 0 OR NEW.state = 0
BEGIN
    SELECT RAISE(ABORT, 'a version is decided once');
END;

CREATE TRIGGER versions_are_kept BEFORE DELETE ON versions
BEGIN
    SELECT RAISE(ABORT, 'versions are never removed');
END;

-- What is active of a kind; name, version and sha256 NULL: nothing is, any more. The one writer gives
-- generations out in their order.
-- Primary key: reading a tenant's. Unique generation: what came since.
CREATE TABLE activations (
    tenant     TEXT    NOT NULL,
    kind       INTEGER NOT NULL CHECK (kind IN (0, 1)),
    name       TEXT,
    version    INTEGER,
    sha256     BLOB,
    generation INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (tenant, kind),
    FOREIGN KEY (tenant, kind, name, version) REFERENCES versions (tenant, kind, name, version),
    CHECK ((name IS NULL) = (version IS NULL) AND (name IS NULL) = (sha256 IS NULL))
) STRICT;

CREATE TRIGGER activations_begin_approved BEFORE INSERT ON activations
WHEN NEW.name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM versions WHERE tenant = NEW.tenant AND kind = NEW.kind
    AND name = NEW.name AND version = NEW.version AND sha256 = NEW.sha256 AND state = 1)
BEGIN
    SELECT RAISE(ABORT, 'only an approved version becomes active');
END;

CREATE TRIGGER activations_change_to_approved BEFORE UPDATE ON activations
WHEN NEW.name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM versions WHERE tenant = NEW.tenant AND kind = NEW.kind
    AND name = NEW.name AND version = NEW.version AND sha256 = NEW.sha256 AND state = 1)
BEGIN
    SELECT RAISE(ABORT, 'only an approved version becomes active');
END;
