-- What people do with approval requests. Runs with search_path set to the fleet's schema; adds only.
-- A commit goes on inserting (event_id, tenant_id, opened_at); commits wait while the index is built.

ALTER TABLE approvals
    -- Set by the verdict's trigger, never by a program.
    ADD COLUMN decided       boolean  NOT NULL DEFAULT false,
    -- 1: whoever may approve decides it; 2: it was overdue, the second role does.
    ADD COLUMN level         smallint NOT NULL DEFAULT 1 CHECK (level IN (1, 2)),
    ADD COLUMN claimed_by    text,
    ADD COLUMN claimed_until timestamptz,
    ADD CONSTRAINT a_claim_has_an_end CHECK ((claimed_by IS NULL) = (claimed_until IS NULL));

UPDATE approvals a SET decided = true FROM verdicts v WHERE v.event_id = a.event_id;

-- list_approvals of a tenant, newest event first; count_approvals and approvals_to_escalate read all
-- of it. What is decided leaves it.
CREATE INDEX approvals_open ON approvals (tenant_id, event_id) WHERE NOT decided;

-- What happened to a request, in order. act: 0 claimed, 1 released, 2 escalated, 3 commented; until is
-- a claim's, text is a comment's. Primary key: reading by event.
CREATE TABLE approval_history (
    event_id  uuid             NOT NULL,
    nth       integer          NOT NULL CHECK (nth >= 1),
    tenant_id text COLLATE "C" NOT NULL,
    at        timestamptz      NOT NULL,
    by        text             NOT NULL,
    act       smallint         NOT NULL CHECK (act BETWEEN 0 AND 3),
    until     timestamptz      CHECK ((until IS NOT NULL) = (act = 0)),
    text      text             CHECK ((text IS NOT NULL) = (act = 3)),
    PRIMARY KEY (event_id, nth)
);

-- A verdict stands on an open request of the same tenant, whoever writes it, and closes it.
CREATE FUNCTION close_request() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    closed bigint;
BEGIN
    EXECUTE format('UPDATE %I.approvals SET decided = true WHERE event_id = $1 AND tenant_id = $2 AND NOT decided',
        TG_TABLE_SCHEMA) USING NEW.event_id, NEW.tenant_id;
    GET DIAGNOSTICS closed = ROW_COUNT;
    IF closed <> 1 THEN
        RAISE EXCEPTION 'no approval of event % is open', NEW.event_id USING ERRCODE = 'RF003';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER verdicts_close_a_request AFTER INSERT ON verdicts
    FOR EACH ROW EXECUTE FUNCTION close_request();

CREATE FUNCTION refuse_other_verdict() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a verdict is final: % refused', TG_OP USING ERRCODE = 'RF003';
END $$;
CREATE TRIGGER verdicts_are_final BEFORE UPDATE ON verdicts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_other_verdict();
