-- Signed checkpoints over the audit chains, and anchors of chains that were shortened.

-- text: the exact JSON that was signed.
CREATE TABLE audit_checkpoints (
    number    INTEGER PRIMARY KEY NOT NULL CHECK (number >= 1),
    at        INTEGER NOT NULL,
    key_id    TEXT    NOT NULL,
    text      TEXT    NOT NULL,
    signature BLOB    NOT NULL CHECK (length(signature) = 64)
) STRICT;

CREATE TRIGGER checkpoints_are_never_changed BEFORE UPDATE ON audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'checkpoints are never changed');
END;

CREATE TRIGGER checkpoints_are_never_deleted BEFORE DELETE ON audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'checkpoints are never deleted');
END;

CREATE TRIGGER checkpoints_are_never_replaced BEFORE INSERT ON audit_checkpoints
WHEN EXISTS (SELECT 1 FROM audit_checkpoints WHERE number = NEW.number)
BEGIN
    SELECT RAISE(ABORT, 'checkpoints are never replaced');
END;

-- seq: the last record that was taken away.
CREATE TABLE audit_anchors (
    tenant    TEXT    NOT NULL,
    stream    INTEGER NOT NULL CHECK (stream IN (0, 1)),
    seq       INTEGER NOT NULL CHECK (seq >= 1),
    text      TEXT    NOT NULL,
    signature BLOB    NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (tenant, stream, seq)
) STRICT;

CREATE TRIGGER anchors_are_never_changed BEFORE UPDATE ON audit_anchors
BEGIN
    SELECT RAISE(ABORT, 'anchors are never changed');
END;

CREATE TRIGGER anchors_are_never_deleted BEFORE DELETE ON audit_anchors
BEGIN
    SELECT RAISE(ABORT, 'anchors are never deleted');
END;

-- Holds a row only within the transaction that shortens a chain, and lets its records go up to seq.
CREATE TABLE audit_pruning (
    tenant TEXT    NOT NULL,
    stream INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (tenant, stream)
) STRICT;

DROP TRIGGER audit_is_never_deleted;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
WHEN NOT EXISTS (
    SELECT 1 FROM audit_pruning p JOIN audit_anchors a ON a.tenant = p.tenant AND a.stream = p.stream AND a.seq = p.seq
    WHERE p.tenant = OLD.tenant AND p.stream = OLD.stream AND p.seq >= OLD.seq)
BEGIN
    SELECT RAISE(ABORT, 'audit records are never deleted');
END;
