-- Schema 4: how far each terminal is and who stands behind it. One that was in use before this has no row.

CREATE TABLE terminal_life(
  device           TEXT PRIMARY KEY,
  step             TEXT NOT NULL,
  admin            TEXT NOT NULL DEFAULT '',
  named_seq        INTEGER NOT NULL DEFAULT 0,
  after            TEXT NOT NULL DEFAULT '',
  model            TEXT NOT NULL DEFAULT '',
  providers        TEXT NOT NULL DEFAULT '[]',
  fetched          TEXT NOT NULL DEFAULT '[]',
  default_password INTEGER,
  software         TEXT NOT NULL DEFAULT '',
  needs            TEXT NOT NULL DEFAULT '',
  closed_seq       INTEGER NOT NULL DEFAULT 0,
  totals_differ    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX terminal_life_admin ON terminal_life(admin) WHERE admin <> '';
