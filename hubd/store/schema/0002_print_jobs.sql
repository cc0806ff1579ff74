-- Schema 2: print jobs. What is printed is a document; a row says how far it is.

CREATE TABLE print_jobs(
  id              TEXT PRIMARY KEY,
  seq             INTEGER NOT NULL,
  line            BLOB NOT NULL,
  hash            BLOB NOT NULL,
  last_seq        INTEGER NOT NULL,
  state           TEXT NOT NULL,
  title           TEXT NOT NULL,
  printer         TEXT NOT NULL,
  payment         TEXT NOT NULL,
  purpose         TEXT NOT NULL,
  document        BLOB NOT NULL,
  papers          INTEGER NOT NULL,
  till            TEXT NOT NULL,
  staff           TEXT,
  location        TEXT NOT NULL,
  reason          TEXT NOT NULL,
  requested_at_us INTEGER NOT NULL,
  updated_at_us   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX print_jobs_seq ON print_jobs(seq);
CREATE INDEX print_jobs_open ON print_jobs(printer, seq) WHERE state IN ('waiting', 'printing', 'unknown');
CREATE INDEX print_jobs_payment ON print_jobs(payment, purpose) WHERE payment <> '';
