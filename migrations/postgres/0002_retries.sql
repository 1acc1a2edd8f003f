-- Attempt marks, retries, dead letters with their history, and the call for a repair. Runs with
-- search_path set to the fleet's schema; adds only, so that a fleet goes on meanwhile (commits wait
-- while the index of the dead letters is built).

-- An event that was begun and has no disposition. due_at NULL: only a mark of its attempts, its
-- message is in the broker's hands. due_at set: it waits for its next try and is nobody's message;
-- only a disposition ends that. class: 0 VALIDATION_ERROR … 5 UNEXPECTED_ERROR, of its last failure.
-- Primary key: marking, and the deletion by every commit. Small: what ends leaves it.
CREATE TABLE retries (
    event_id  uuid     NOT NULL PRIMARY KEY,
    partition smallint NOT NULL,
    attempts  bigint   NOT NULL CHECK (attempts >= 0),
    -- Who has begun it and not come to an end with it.
    worker_id uuid,
    due_at    timestamptz,
    class     smallint CHECK (class BETWEEN 0 AND 5),
    error     text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- due_retries: the due ones of a partition, the oldest first.
CREATE INDEX retries_due ON retries (partition, due_at, event_id) WHERE due_at IS NOT NULL;

-- Dead letters that somebody has dealt with, in order. act: 0 replayed, 1 discarded; a discarded
-- event keeps its dead disposition. Primary key: reading by event.
CREATE TABLE dead_history (
    event_id uuid        NOT NULL,
    nth      integer     NOT NULL CHECK (nth >= 1),
    died_at  timestamptz NOT NULL,
    class    smallint    NOT NULL CHECK (class BETWEEN 0 AND 5),
    error    text        NOT NULL,
    attempts bigint      NOT NULL CHECK (attempts >= 0),
    act      smallint    NOT NULL CHECK (act IN (0, 1)),
    acted_at timestamptz NOT NULL,
    by       text        NOT NULL,
    reason   text,
    PRIMARY KEY (event_id, nth)
);

-- dead_letters: newest event first. Decisions never enter it.
CREATE INDEX decisions_dead ON decisions (event_id) WHERE outcome = 3;

-- How often a repair was asked for.
ALTER TABLE fleet ADD COLUMN repairs bigint NOT NULL DEFAULT 0;
