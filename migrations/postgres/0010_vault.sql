-- Data keys, wrapped. Runs with search_path set to the fleet's schema; adds only.

-- generation: how many erasures there were; its row is locked to the end of each, so that generations
-- become visible in their order, and shared by who makes keys, so that none is made beside one.
-- master: the fingerprint of the master key that wraps new keys; NULL before the first start.
CREATE TABLE vault (
    only_row   boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    generation bigint  NOT NULL DEFAULT 0,
    master     bytea   CHECK (length(master) = 16)
);
INSERT INTO vault DEFAULT VALUES;

-- tag: whose key within the tenant, 16 zero bytes for the tenant's own; wrapped NULL: destroyed, in
-- the erasure of that generation. master: what a tenant's own key is wrapped by.
-- Primary key: an owner's key. key_id: the key of an envelope. Erased: what is to be forgotten.
-- Masters: what is still wrapped by another master key.
CREATE TABLE data_keys (
    tenant_id  text COLLATE "C" NOT NULL,
    tag        bytea            NOT NULL CHECK (length(tag) = 16),
    key_id     uuid             NOT NULL UNIQUE,
    wrapped    bytea,
    master     bytea            CHECK (length(master) = 16),
    generation bigint,
    PRIMARY KEY (tenant_id, tag),
    CHECK ((wrapped IS NULL) = (generation IS NOT NULL))
);
CREATE INDEX data_keys_erased ON data_keys (generation) WHERE generation IS NOT NULL;
CREATE INDEX data_keys_masters ON data_keys (master) WHERE master IS NOT NULL AND wrapped IS NOT NULL;

CREATE FUNCTION guard_data_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.wrapped IS NULL OR (OLD.tenant_id, OLD.tag, OLD.key_id) <> (NEW.tenant_id, NEW.tag, NEW.key_id) THEN
        RAISE EXCEPTION 'a destroyed key stays destroyed, and a key is nobody else''s'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER data_keys_are_guarded BEFORE UPDATE ON data_keys FOR EACH ROW EXECUTE FUNCTION guard_data_keys();
