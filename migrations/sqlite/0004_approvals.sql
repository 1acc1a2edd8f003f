-- What people do with approval requests.

-- Set by the verdict's trigger, never by a program.
ALTER TABLE approvals ADD COLUMN decided INTEGER NOT NULL DEFAULT 0 CHECK (decided IN (0, 1));
-- 1: whoever may approve decides it; 2: it was overdue, the second role does.
ALTER TABLE approvals ADD COLUMN level INTEGER NOT NULL DEFAULT 1 CHECK (level IN (1, 2));
ALTER TABLE approvals ADD COLUMN claimed_by TEXT;
ALTER TABLE approvals ADD COLUMN claimed_until INTEGER;

UPDATE approvals SET decided = 1 WHERE event IN (SELECT event FROM verdicts);

-- list_approvals, newest event first; count_approvals and approvals_to_escalate read all of it. What
-- is decided leaves it.
CREATE INDEX approvals_open ON approvals (event) WHERE decided = 0;

-- What happened to a request, in order. act: 0 claimed, 1 released, 2 escalated, 3 commented; until is
-- a claim's, text is a comment's. Primary key: reading by event.
CREATE TABLE approval_history (
    event BLOB    NOT NULL REFERENCES approvals (event) ON DELETE CASCADE,
    nth   INTEGER NOT NULL CHECK (nth >= 1),
    at    INTEGER NOT NULL,
    by    TEXT    NOT NULL,
    act   INTEGER NOT NULL CHECK (act BETWEEN 0 AND 3),
    until INTEGER CHECK ((until IS NOT NULL) = (act = 0)),
    text  TEXT    CHECK ((text IS NOT NULL) = (act = 3)),
    PRIMARY KEY (event, nth)
) STRICT, WITHOUT ROWID;

-- A verdict stands on an open request, whoever writes it, and closes it.
CREATE TRIGGER verdicts_need_a_request BEFORE INSERT ON verdicts
WHEN NOT EXISTS (SELECT 1 FROM approvals WHERE event = NEW.event AND decided = 0)
BEGIN
    SELECT RAISE(ABORT, 'no approval of this event is open');
END;

CREATE TRIGGER verdicts_close_a_request AFTER INSERT ON verdicts
BEGIN
    UPDATE approvals SET decided = 1 WHERE event = NEW.event;
END;

CREATE TRIGGER verdicts_are_final BEFORE UPDATE ON verdicts
BEGIN
    SELECT RAISE(ABORT, 'a verdict is final');
END;
