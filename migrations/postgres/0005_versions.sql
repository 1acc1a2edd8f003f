-- Versions of models and prompts under four eyes, and what is active. Runs with search_path set to
-- the fleet's schema; adds only.
--
-- What is promised of a version is held here too, against whoever goes past the program: it is
-- registered pending under the next number, its content never changes, its author never decides on
-- it, it is decided once, and only an approved one becomes active.

-- kind: 0 model, 1 prompt; state: 0 pending, 1 approved, 2 rejected.
-- Primary key: reading one, and the pages by name and number.
CREATE TABLE versions (
    tenant_id       text COLLATE "C" NOT NULL,
    kind            smallint         NOT NULL CHECK (kind IN (0, 1)),
    name            text COLLATE "C" NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,64}$'),
    version         integer          NOT NULL CHECK (version >= 1),
    sha256          bytea            NOT NULL,
    content         bytea            NOT NULL CHECK (length(content) BETWEEN 1 AND 1048576),
    author          text             NOT NULL CHECK (author <> ''),
    reason          text             NOT NULL CHECK (reason <> ''),
    created_at      timestamptz      NOT NULL,
    state           smallint         NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
    decided_by      text,
    decided_at      timestamptz,
    decision_reason text,
    PRIMARY KEY (tenant_id, kind, name, version),
    CONSTRAINT versions_four_eyes CHECK (decided_by <> author),
    CONSTRAINT versions_decided CHECK (CASE state
        WHEN 0 THEN num_nonnulls(decided_by, decided_at, decision_reason) = 0
        WHEN 1 THEN num_nonnulls(decided_by, decided_at) = 2
        ELSE num_nonnulls(decided_by, decided_at, decision_reason) = 3 END),
    CONSTRAINT versions_sha256 CHECK (sha256 = sha256(content))
);

CREATE FUNCTION guard_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 0 THEN
            RAISE EXCEPTION 'a version is registered pending' USING ERRCODE = 'check_violation';
        END IF;
        IF NEW.version <> 1 + coalesce((SELECT max(version) FROM versions
                WHERE (tenant_id, kind, name) = (NEW.tenant_id, NEW.kind, NEW.name)), 0) THEN
            RAISE EXCEPTION 'versions of a name are counted without gaps' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.tenant_id, NEW.kind, NEW.name, NEW.version, NEW.sha256, NEW.content, NEW.author, NEW.reason,
            NEW.created_at)
        IS DISTINCT FROM (OLD.tenant_id, OLD.kind, OLD.name, OLD.version, OLD.sha256, OLD.content, OLD.author,
            OLD.reason, OLD.created_at) THEN
        RAISE EXCEPTION 'a version never changes' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.state <> 0 OR NEW.state = 0 THEN
        RAISE EXCEPTION 'a version is decided once' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER versions_are_guarded BEFORE INSERT OR UPDATE ON versions
    FOR EACH ROW EXECUTE FUNCTION guard_versions();

CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'versions are never removed: % refused', TG_OP USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER versions_are_kept BEFORE DELETE OR TRUNCATE ON versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();

-- The generation that the next change of what is active gets: its row is locked to the end of the
-- change, so that generations become visible in their order.
CREATE TABLE activation_clock (
    only_row   boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    generation bigint  NOT NULL DEFAULT 0
);
INSERT INTO activation_clock DEFAULT VALUES;

-- What is active of a kind; name, version and sha256 NULL: nothing is, any more.
-- Primary key: reading a tenant's. Unique generation: what came since.
CREATE TABLE activations (
    tenant_id  text COLLATE "C" NOT NULL,
    kind       smallint         NOT NULL CHECK (kind IN (0, 1)),
    name       text COLLATE "C",
    version    integer,
    sha256     bytea,
    generation bigint           NOT NULL UNIQUE,
    PRIMARY KEY (tenant_id, kind),
    FOREIGN KEY (tenant_id, kind, name, version) REFERENCES versions,
    CHECK (num_nulls(name, version, sha256) IN (0, 3))
);

CREATE FUNCTION guard_activations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM versions
            WHERE (tenant_id, kind, name, version, sha256, state)
                = (NEW.tenant_id, NEW.kind, NEW.name, NEW.version, NEW.sha256, 1)) THEN
        RAISE EXCEPTION 'only an approved version becomes active' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER activations_are_guarded BEFORE INSERT OR UPDATE ON activations
    FOR EACH ROW EXECUTE FUNCTION guard_activations();
