-- What a worker has done of late, as it reports it: JSON (src/domain/load.rs); NULL of a version that does not say.
-- Runs with search_path set to the fleet's schema.
ALTER TABLE workers ADD COLUMN load json;
