-- Schema 5: who has a second factor. Its secret and the digests of its recovery codes are a document.

CREATE TABLE second_factors(
  staff    TEXT PRIMARY KEY,
  document BLOB NOT NULL,
  used     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
