-- What a worker has done of late, as it reports it: JSON (src/domain/load.rs); NULL of a version that does not say.
ALTER TABLE workers ADD COLUMN load TEXT;
