-- Schema 3: who stands in whose place. A role outlives its device; money does not move with it.

ALTER TABLE devices ADD COLUMN replaced_by TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN settings_of TEXT NOT NULL DEFAULT '';
