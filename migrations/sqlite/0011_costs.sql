-- What decisions cost, and the tenants' budgets. Money is in millionths of the fleet's currency unit; a day is
-- a number: days since 1970-01-01 (UTC).

-- What a decision used and cost; NULL: nothing.
ALTER TABLE decisions ADD COLUMN tokens INTEGER;
ALTER TABLE decisions ADD COLUMN cost_micros INTEGER;

-- The decisions of a day (by their commit) summed by tenant and model, written with them in one transaction.
CREATE TABLE costs (
    tenant      TEXT    NOT NULL,
    day         INTEGER NOT NULL,
    model       TEXT    NOT NULL,
    decisions   INTEGER NOT NULL CHECK (decisions >= 1),
    tokens      INTEGER NOT NULL CHECK (tokens >= 0),
    cost_micros INTEGER NOT NULL CHECK (cost_micros >= 0),
    PRIMARY KEY (tenant, day, model)
) STRICT, WITHOUT ROWID;

-- noted_month (its first day), noted_state (1 warned, 2 exhausted): the last crossing that stands in the audit;
-- NULL: none since the budget was set.
CREATE TABLE budgets (
    tenant         TEXT    PRIMARY KEY NOT NULL,
    monthly_micros INTEGER NOT NULL CHECK (monthly_micros >= 0),
    warn_percent   INTEGER NOT NULL CHECK (warn_percent BETWEEN 1 AND 100),
    stop           INTEGER NOT NULL CHECK (stop IN (0, 1)),
    set_at         INTEGER NOT NULL,
    set_by         TEXT    NOT NULL,
    noted_month    INTEGER,
    noted_state    INTEGER CHECK (noted_state IN (1, 2)),
    CHECK ((noted_month IS NULL) = (noted_state IS NULL))
) STRICT, WITHOUT ROWID;
