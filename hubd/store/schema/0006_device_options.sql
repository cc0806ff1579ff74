-- Schema 6: what people have set of each device. Its secrets are a document, sealed with a key that stays on the hub.

CREATE TABLE device_options(
  device   TEXT PRIMARY KEY,
  seq      INTEGER NOT NULL,
  options  TEXT NOT NULL,
  secrets  TEXT NOT NULL DEFAULT '[]',
  document BLOB
) STRICT, WITHOUT ROWID;
