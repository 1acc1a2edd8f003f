-- API keys.

-- A key: of its text only the SHA-256. tenant NULL: an operator's, and nobody else's. roles: names,
-- joined by commas. Primary key: revoking and listing; hash: every request that shows a key.
CREATE TABLE api_keys (
    id             BLOB    PRIMARY KEY NOT NULL,
    hash           BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    tenant         TEXT,
    roles          TEXT    NOT NULL CHECK (roles <> ''),
    name           TEXT    NOT NULL CHECK (name <> ''),
    created_at     INTEGER NOT NULL,
    created_by     TEXT    NOT NULL,
    expires_at     INTEGER,
    revoked_at     INTEGER,
    revoked_by     TEXT,
    revoked_reason TEXT,
    last_used_at   INTEGER,
    CHECK ((tenant IS NULL) = (roles = 'OPERATOR')),
    CHECK (roles = 'OPERATOR' OR instr(roles, 'OPERATOR') = 0),
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
) STRICT;

-- list_keys of one tenant, newest first.
CREATE INDEX api_keys_tenant ON api_keys (tenant, id);
