-- Data keys, wrapped. generation: how many erasures there were; master: the fingerprint of the master
-- key that wraps new keys, NULL before the first start.
CREATE TABLE vault (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL DEFAULT 0,
    master     BLOB    CHECK (length(master) = 16)
) STRICT;
INSERT INTO vault (id) VALUES (1);

-- tag: whose key within the tenant, 16 zero bytes for the tenant's own; wrapped NULL: destroyed, in the
-- erasure of that generation. master: what a tenant's own key is wrapped by.
CREATE TABLE data_keys (
    tenant     TEXT    NOT NULL,
    tag        BLOB    NOT NULL CHECK (length(tag) = 16),
    id         BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    wrapped    BLOB,
    master     BLOB    CHECK (length(master) = 16),
    generation INTEGER,
    PRIMARY KEY (tenant, tag),
    CHECK ((wrapped IS NULL) = (generation IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX data_keys_erased ON data_keys (generation) WHERE generation IS NOT NULL;

CREATE TRIGGER data_keys_stay_destroyed BEFORE UPDATE ON data_keys WHEN OLD.wrapped IS NULL
BEGIN
    SELECT RAISE(ABORT, 'a destroyed key stays destroyed');
END;
