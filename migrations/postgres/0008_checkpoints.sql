-- Signed checkpoints over the audit chains, and anchors of chains that were shortened. Runs with
-- search_path set to the fleet's schema; adds only.

-- text: the exact JSON that was signed. Primary key: reading in order, and the next number.
CREATE TABLE audit_checkpoints (
    number    bigint      NOT NULL PRIMARY KEY CHECK (number >= 1),
    at        timestamptz NOT NULL,
    key_id    text        NOT NULL,
    text      text        NOT NULL,
    signature bytea       NOT NULL CHECK (octet_length(signature) = 64)
);
CREATE TRIGGER checkpoints_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- seq: the last record that was taken away. Primary key: the newest anchor of a chain.
CREATE TABLE audit_anchors (
    tenant_id text COLLATE "C" NOT NULL,
    stream    smallint         NOT NULL CHECK (stream IN (0, 1)),
    seq       bigint           NOT NULL CHECK (seq >= 1),
    text      text             NOT NULL,
    signature bytea            NOT NULL CHECK (octet_length(signature) = 64),
    PRIMARY KEY (tenant_id, stream, seq)
);
CREATE TRIGGER anchors_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_anchors
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Records go only through prune_audit, and only below an anchor.
-- With the path of the schema that it was made in: whoever deletes may have another.
CREATE FUNCTION refuse_delete() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF current_setting('riskfleet.pruning', true) = 'on' AND EXISTS (
        SELECT 1 FROM audit_anchors a
        WHERE a.tenant_id = OLD.tenant_id AND a.stream = OLD.stream AND a.seq >= OLD.seq)
    THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit is append-only: DELETE refused' USING ERRCODE = 'RF002';
END $$;
DROP TRIGGER audit_is_append_only ON audit;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_is_pruned_below_anchors BEFORE DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_delete();

-- The one way in which records go: with its owner's rights, so that no role needs DELETE.
CREATE FUNCTION prune_audit(whose text, which smallint, upto bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM set_config('riskfleet.pruning', 'on', true);
    DELETE FROM audit WHERE tenant_id = whose AND stream = which AND seq <= upto;
    GET DIAGNOSTICS n = ROW_COUNT;
    PERFORM set_config('riskfleet.pruning', 'off', true);
    RETURN n;
END $$;
