-- Tenants of whom something is set, the days whose events are gone, and the one way in which a day
-- goes. Runs with search_path set to the fleet's schema; adds only (accepts wait while the index of
-- the keys is built).

-- A tenant has a row once somebody has set something of it. retention_days NULL: the fleet's; 0: for
-- ever. Primary key: reading by tenant, and the join with `day_tenants`.
CREATE TABLE tenants (
    tenant_id      text COLLATE "C" NOT NULL PRIMARY KEY,
    created_at     timestamptz      NOT NULL,
    retention_days integer CHECK (retention_days BETWEEN 0 AND 36500),
    legal_hold     boolean          NOT NULL DEFAULT false,
    hold_reason    text,
    held_by        text,
    held_at        timestamptz,
    CHECK (legal_hold = (held_at IS NOT NULL) AND legal_hold = (held_by IS NOT NULL)
           AND legal_hold = (hold_reason IS NOT NULL))
);

-- Whose events a day holds: written once the day lies wholly below the mark, where nothing is added
-- any more, so that nobody has to read a day's events again to know it.
CREATE TABLE day_tenants (
    day       date             NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    events    bigint           NOT NULL CHECK (events >= 1),
    PRIMARY KEY (day, tenant_id)
);

-- The days that are gone: every id from first_id to last_id. Primary key: "is this event's day gone?".
CREATE TABLE expired_days (
    day       date        NOT NULL PRIMARY KEY,
    first_id  uuid        NOT NULL,
    last_id   uuid        NOT NULL,
    events    bigint      NOT NULL CHECK (events >= 0),
    decisions bigint      NOT NULL CHECK (decisions >= 0),
    at        timestamptz NOT NULL
);

-- drop_day: the keys of a day. Keys are written in about the order of their events, so a summary of
-- each stretch of pages finds them, and an accept pays next to nothing for it.
CREATE INDEX keys_by_time ON keys USING brin (event_id) WITH (pages_per_range = 32, autosummarize = on);

-- The day (UTC) of an event.
CREATE FUNCTION day_of(id uuid) RETURNS date LANGUAGE sql IMMUTABLE AS $$
    SELECT date '1970-01-01' + (('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 86400000)::integer
$$;

-- The floor of a day among event ids.
CREATE FUNCTION day_first(day date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT id_floor((day - date '1970-01-01')::bigint * 86400000)
$$;

-- The greatest of a day's event ids.
CREATE FUNCTION day_last(day date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((day + 1 - date '1970-01-01')::bigint * 86400000 - 1), 12, '0') || repeat('f', 20))::uuid
$$;

-- Writes down whose events a day holds. Only for a day wholly below the mark.
CREATE FUNCTION roll_day(gone date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT f.mark < day_first(gone + 1) FROM fleet f) THEN
        RAISE EXCEPTION 'above_mark' USING ERRCODE = 'RF007';
    END IF;
    DELETE FROM day_tenants WHERE day = gone;
    INSERT INTO day_tenants (day, tenant_id, events)
    SELECT gone, e.tenant_id, count(*) FROM events e
    WHERE e.event_id >= day_first(gone) AND e.event_id < day_first(gone + 1)
    GROUP BY e.tenant_id
    -- Two who look at once write the same.
    ON CONFLICT (day, tenant_id) DO UPDATE SET events = excluded.events;
END $$;

-- What speaks for keeping a day. kept_days: the longest retention of a tenant with events in it, the
-- fleet's for a tenant that has none of its own; 0: for ever. held: ten of the tenants at most.
CREATE FUNCTION day_facts(
    gone date, fleet_days integer,
    OUT kept_days integer, OUT waiting bigint, OUT dead bigint, OUT unjudged bigint, OUT unpublished bigint,
    OUT held text[]
) LANGUAGE plpgsql AS $$
DECLARE
    first uuid := day_first(gone);
    past  uuid := day_first(gone + 1);
BEGIN
    SELECT coalesce(CASE WHEN bool_or(k.days = 0) THEN 0 ELSE max(k.days) END, fleet_days) INTO kept_days
    FROM (SELECT coalesce(t.retention_days, fleet_days) AS days
          FROM day_tenants d LEFT JOIN tenants t ON t.tenant_id = d.tenant_id WHERE d.day = gone) k;
    SELECT count(*) INTO waiting FROM retries r WHERE r.event_id >= first AND r.event_id < past;
    SELECT count(*) INTO dead FROM decisions d
    WHERE d.event_id >= first AND d.event_id < past AND d.outcome = 3
      AND NOT EXISTS (SELECT FROM dead_history h WHERE h.event_id = d.event_id AND h.act = 1);
    SELECT count(*) INTO unjudged FROM approvals a
    WHERE a.event_id >= first AND a.event_id < past
      AND NOT EXISTS (SELECT FROM verdicts v WHERE v.event_id = a.event_id);
    SELECT count(*) INTO unpublished FROM outbox o CROSS JOIN LATERAL unnest(o.events) AS e (id)
    WHERE e.id >= first AND e.id < past;
    SELECT coalesce(array_agg(h.tenant_id), '{}') INTO held
    FROM (SELECT d.tenant_id FROM day_tenants d JOIN tenants t ON t.tenant_id = d.tenant_id
          WHERE d.day = gone AND t.legal_hold ORDER BY d.tenant_id LIMIT 10) h;
END $$;

-- The one way in which a day goes: its events and decisions, with everything that hangs on them.
-- Looks at every condition again, whatever its caller has seen, and raises RF007 with the name of the
-- first one that does not hold. Gives no counts for a day that is gone already.
--
-- The time partitions of the day are locked first (EXCLUSIVE: who reads goes on), so that what is
-- looked at stays as it is: a decision, a replay of a dead letter and an end of a retry all write to
-- them. It takes no lock of the mark: W only grows, and the totals below it are not touched.
-- What takes long comes next, still without a lock that an accept or a commit of another day needs.
-- DROP TABLE of a partition needs its parents to itself, as DETACH does (CONCURRENTLY is ruled out by
-- the DEFAULT partitions, and in a function); so that comes last, waits 100 ms at most, since
-- everybody else waits behind it, and is tried again. In the same breath no hold can be set: it
-- either stands before the last look, or comes when the day is gone.
CREATE FUNCTION drop_day(gone date, fleet_days integer, OUT dropped_events bigint, OUT dropped_decisions bigint)
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '3s' AS $$
DECLARE
    first   uuid := day_first(gone);
    past    uuid := day_first(gone + 1);
    own     text[] := '{}';
    stray   boolean;
    keeping text;
    beside  text;
    child   text;
    today   date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
BEGIN
    IF fleet_days IS NULL OR fleet_days NOT BETWEEN 0 AND 36500 THEN
        RAISE EXCEPTION 'a retention of % days', fleet_days USING ERRCODE = '22023';
    END IF;
    IF EXISTS (SELECT FROM expired_days x WHERE x.day = gone) THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(c.relname ORDER BY c.relname DESC), '{}') INTO own
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('events'::regclass, 'decisions'::regclass)
      AND c.relname IN ('events_' || to_char(gone, 'YYYYMMDD'), 'decisions_' || to_char(gone, 'YYYYMMDD'));
    FOREACH child IN ARRAY own LOOP
        EXECUTE format('LOCK TABLE ONLY %I IN EXCLUSIVE MODE', child);
    END LOOP;
    stray := EXISTS (SELECT FROM events_default e WHERE e.event_id >= first AND e.event_id < past);
    IF stray THEN
        LOCK TABLE ONLY events_default, decisions_default IN EXCLUSIVE MODE;
    END IF;

    PERFORM roll_day(gone);
    SELECT CASE WHEN f.kept_days = 0 THEN 'for_ever'
                WHEN gone + 1 + f.kept_days > today THEN 'young'
                WHEN f.waiting > 0 THEN 'waiting'
                WHEN f.dead > 0 THEN 'dead_letters'
                WHEN f.unjudged > 0 THEN 'approvals'
                WHEN f.unpublished > 0 THEN 'unpublished'
                WHEN cardinality(f.held) > 0 THEN 'held' END
    INTO keeping FROM day_facts(gone, fleet_days) f;
    -- The mark says so; here it is looked at.
    IF keeping IS NULL AND EXISTS (
        SELECT FROM events e WHERE e.event_id >= first AND e.event_id < past
          AND NOT EXISTS (SELECT FROM decisions d
                          WHERE d.event_id = e.event_id AND d.event_id >= first AND d.event_id < past)) THEN
        keeping := 'pending';
    END IF;
    IF keeping IS NOT NULL THEN
        RAISE EXCEPTION '%', keeping USING ERRCODE = 'RF007';
    END IF;

    SELECT coalesce(sum(t.events), 0) INTO dropped_events FROM day_tenants t WHERE t.day = gone;
    SELECT count(*) INTO dropped_decisions FROM decisions d WHERE d.event_id >= first AND d.event_id < past;
    -- Everything that hangs on an event of the day, as far as this version has it.
    FOREACH beside IN ARRAY ARRAY['approval_history', 'verdicts', 'approvals', 'dead_history', 'keys'] LOOP
        CONTINUE WHEN to_regclass(beside) IS NULL;
        EXECUTE format('DELETE FROM %I WHERE event_id >= $1 AND event_id < $2', beside) USING first, past;
    END LOOP;
    IF stray THEN
        DELETE FROM decisions_default d WHERE d.event_id >= first AND d.event_id < past;
        DELETE FROM events_default e WHERE e.event_id >= first AND e.event_id < past;
    END IF;
    INSERT INTO expired_days (day, first_id, last_id, events, decisions, at)
    VALUES (gone, first, day_last(gone), dropped_events, dropped_decisions, clock_timestamp());

    PERFORM set_config('lock_timeout', '100ms', true);
    FOR try IN 1 .. 20 LOOP
        BEGIN
            IF cardinality(own) > 0 THEN
                LOCK TABLE ONLY events, decisions IN ACCESS EXCLUSIVE MODE;
            END IF;
            LOCK TABLE tenants IN SHARE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            IF try = 20 THEN
                RAISE;
            END IF;
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
    IF EXISTS (SELECT FROM day_tenants d JOIN tenants t ON t.tenant_id = d.tenant_id
               WHERE d.day = gone AND t.legal_hold) THEN
        RAISE EXCEPTION 'held' USING ERRCODE = 'RF007';
    END IF;
    FOREACH child IN ARRAY own LOOP
        EXECUTE format('DROP TABLE %I', child);
    END LOOP;
    DELETE FROM day_tenants d WHERE d.day = gone;
END $$;

-- Nothing that a caller puts into its own search path is called in the owner's name.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION drop_day(date, integer) SET search_path = %I, pg_temp', current_schema());
END $$;
REVOKE ALL ON FUNCTION drop_day(date, integer) FROM PUBLIC;
