-- What the fleet's roles may do only by these functions, with the rights of the schema's owner.
-- Runs with search_path set to the fleet's schema. Roles, grants and policies follow the tables as
-- they are after all migrations: `riskfleet migrate` sets them (src/adapters/postgres/rights.rs).

-- Makes the time partitions of `days` days (UTC), today the first, and closes the new ones: nobody
-- but the owner has a right on them by their own name.
CREATE FUNCTION keep_partitions(days integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    child regclass;
BEGIN
    PERFORM make_partitions(days);
    FOR child IN
        SELECT c.oid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('events'::regclass, 'decisions'::regclass)
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', child);
        EXECUTE format('CREATE POLICY fleet ON %s TO %I, %I USING (true)', child,
            current_schema() || '_worker', current_schema() || '_retention');
    END LOOP;
END $$;

-- Takes the end of the transaction's tenant's dead letter away, makes its next try due now, and
-- takes the death out of the totals where the mark has passed it. False when there is no such end.
CREATE FUNCTION reopen_dead(event uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM decisions
    WHERE event_id = event AND outcome = 3 AND tenant_id = current_setting('riskfleet.tenant', true);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE fleet SET dead = dead - 1 WHERE mark > event;
    INSERT INTO retries (event_id, partition, attempts, due_at)
    SELECT e.event_id, e.partition, 0, clock_timestamp() FROM events e WHERE e.event_id = event
    ON CONFLICT (event_id) DO UPDATE SET attempts = 0, worker_id = NULL, due_at = excluded.due_at, class = NULL,
        error = NULL;
    RETURN FOUND;
END $$;

-- The kinds of outbox rows that still name an event. The table holds the ids of every tenant.
CREATE FUNCTION outbox_kinds(event uuid) RETURNS SETOF smallint LANGUAGE sql STABLE AS $$
    SELECT DISTINCT kind FROM outbox WHERE events @> ARRAY[event] ORDER BY kind
$$;

-- Who may call them, and the search path that they run with, is set with the other rights.
ALTER FUNCTION keep_partitions(integer) SECURITY DEFINER;
ALTER FUNCTION reopen_dead(uuid) SECURITY DEFINER;
ALTER FUNCTION outbox_kinds(uuid) SECURITY DEFINER;
REVOKE EXECUTE ON FUNCTION keep_partitions(integer), reopen_dead(uuid), outbox_kinds(uuid) FROM PUBLIC;
