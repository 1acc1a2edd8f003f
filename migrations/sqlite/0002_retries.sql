-- Attempt marks, retries, dead letters with their history, and the call for a repair.

-- An event that was begun and has no disposition. due_at NULL: only a mark of its attempts, its
-- message is in the broker's hands. due_at set: it waits for its next try and is nobody's message;
-- only a disposition ends that. worker: who has begun it and not come to an end with it.
CREATE TABLE retries (
    event     BLOB    PRIMARY KEY NOT NULL REFERENCES events (id),
    partition INTEGER NOT NULL,
    attempts  INTEGER NOT NULL CHECK (attempts >= 0),
    worker    BLOB,
    due_at    INTEGER,
    class     INTEGER,
    error     TEXT
) STRICT;

-- due_retries: the due ones of a partition, the oldest first.
CREATE INDEX retries_due ON retries (partition, due_at, event) WHERE due_at IS NOT NULL;

-- Dead letters that somebody has dealt with, in order. act: 0 replayed, 1 discarded; a discarded
-- event keeps its dead disposition. Primary key: reading by event.
CREATE TABLE dead_history (
    event    BLOB    NOT NULL REFERENCES events (id),
    nth      INTEGER NOT NULL CHECK (nth >= 1),
    died_at  INTEGER NOT NULL,
    class    INTEGER NOT NULL,
    error    TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    act      INTEGER NOT NULL CHECK (act IN (0, 1)),
    acted_at INTEGER NOT NULL,
    by       TEXT    NOT NULL,
    reason   TEXT,
    PRIMARY KEY (event, nth)
) STRICT, WITHOUT ROWID;

-- dead_letters: newest event first. Decisions never enter it.
CREATE INDEX decisions_dead ON decisions (event) WHERE class IS NOT NULL;

-- How often a repair was asked for.
ALTER TABLE fleet ADD COLUMN repairs INTEGER NOT NULL DEFAULT 0;
-- How often an end came or went that a step of the mark, which counts on a reader, may have missed.
ALTER TABLE fleet ADD COLUMN upsets INTEGER NOT NULL DEFAULT 0;
