-- API keys. Runs with search_path set to the fleet's schema; adds only.

-- A key: of its text only the SHA-256. tenant_id NULL: an operator's, and nobody else's. roles: names,
-- joined by commas. Primary key: revoking and listing; hash: every request that shows a key.
CREATE TABLE api_keys (
    key_id         uuid        NOT NULL PRIMARY KEY,
    hash           bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    tenant_id      text,
    roles          text        NOT NULL CHECK (roles <> ''),
    name           text        NOT NULL CHECK (name <> ''),
    created_at     timestamptz NOT NULL,
    created_by     text        NOT NULL,
    expires_at     timestamptz,
    revoked_at     timestamptz,
    revoked_by     text,
    revoked_reason text,
    last_used_at   timestamptz,
    CHECK ((tenant_id IS NULL) = (roles = 'OPERATOR')),
    CHECK (roles = 'OPERATOR' OR position('OPERATOR' IN roles) = 0),
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);

-- list_keys of one tenant, newest first.
CREATE INDEX api_keys_tenant ON api_keys (tenant_id, key_id);
