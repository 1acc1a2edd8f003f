-- What decisions cost, and the tenants' budgets. Runs with search_path set to the fleet's schema; adds only.
-- Money is in millionths of the fleet's currency unit.

-- What a decision used and cost; NULL: nothing, so that rows that cost nothing hold no figures.
ALTER TABLE decisions ADD COLUMN tokens bigint, ADD COLUMN cost_micros bigint;

-- The decisions of a day (UTC, by their commit) summed by tenant and model, written with them in one
-- transaction. Half of each page is left free: a row of today is updated by every commit of its tenant, and stays
-- on its page without a new index entry.
-- Primary key: the upsert of a commit; a tenant's month.
CREATE TABLE costs (
    tenant_id   text COLLATE "C" NOT NULL,
    day         date             NOT NULL,
    model       text COLLATE "C" NOT NULL,
    decisions   bigint           NOT NULL CHECK (decisions >= 1),
    tokens      bigint           NOT NULL CHECK (tokens >= 0),
    cost_micros bigint           NOT NULL CHECK (cost_micros >= 0),
    PRIMARY KEY (tenant_id, day, model)
) WITH (fillfactor = 50);

-- noted_month, noted_state (1 warned, 2 exhausted): the last crossing that stands in the audit; NULL: none since
-- the budget was set. Primary key: a tenant's budget, and the pages by tenant.
CREATE TABLE budgets (
    tenant_id      text COLLATE "C" NOT NULL PRIMARY KEY,
    monthly_micros bigint           NOT NULL CHECK (monthly_micros >= 0),
    warn_percent   smallint         NOT NULL CHECK (warn_percent BETWEEN 1 AND 100),
    stop           boolean          NOT NULL,
    set_at         timestamptz      NOT NULL,
    set_by         text             NOT NULL,
    noted_month    date,
    noted_state    smallint         CHECK (noted_state IN (1, 2)),
    CHECK ((noted_month IS NULL) = (noted_state IS NULL))
);
