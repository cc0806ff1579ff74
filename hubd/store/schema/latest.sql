-- Schema 6, compat 1. Written by tests/migrations.

CREATE TABLE cloud_keys(
  key_id     TEXT PRIMARY KEY,
  public_key BLOB NOT NULL,
  seq        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE counters(
  name     TEXT NOT NULL,
  currency TEXT NOT NULL,
  count    INTEGER NOT NULL,
  total    INTEGER NOT NULL,
  PRIMARY KEY (name, currency)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors(
  name  TEXT PRIMARY KEY,
  line  BLOB NOT NULL,
  seq   INTEGER NOT NULL,
  hash  BLOB NOT NULL,
  at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters(
  id      INTEGER PRIMARY KEY,
  source  TEXT NOT NULL,
  subject TEXT NOT NULL,
  hash    BLOB NOT NULL,
  reason  TEXT NOT NULL,
  at_us   INTEGER NOT NULL,
  done    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE device_options(
  device   TEXT PRIMARY KEY,
  seq      INTEGER NOT NULL,
  options  TEXT NOT NULL,
  secrets  TEXT NOT NULL DEFAULT '[]',
  document BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE devices(
  id           TEXT PRIMARY KEY,
  seq          INTEGER NOT NULL,
  kind         TEXT NOT NULL,
  name         TEXT NOT NULL,
  location     TEXT NOT NULL,
  driver       TEXT NOT NULL DEFAULT '',
  device_class TEXT NOT NULL DEFAULT '',
  address      TEXT NOT NULL DEFAULT '',
  identity     TEXT NOT NULL DEFAULT '',
  role         TEXT NOT NULL DEFAULT '',
  active       INTEGER NOT NULL,
  token_sha256 BLOB,
  public_key   BLOB,
  origin       TEXT NOT NULL DEFAULT '',
  language     TEXT NOT NULL DEFAULT 'en',
  paired_by    TEXT NOT NULL DEFAULT '',
  removed      INTEGER NOT NULL DEFAULT 0
, replaced_by TEXT NOT NULL DEFAULT '', leaving INTEGER NOT NULL DEFAULT 0, settings_of TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID;

CREATE TABLE documents(
  id         BLOB PRIMARY KEY,
  class      TEXT NOT NULL,
  salt       BLOB,
  content    BLOB,
  keep_until TEXT NOT NULL DEFAULT '',
  law        TEXT NOT NULL DEFAULT '',
  erased     INTEGER NOT NULL DEFAULT 0,
  erase_when_due INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE down_journal(
  hash  BLOB PRIMARY KEY,
  line  BLOB NOT NULL,
  seq   INTEGER NOT NULL,
  head  BLOB NOT NULL,
  body  BLOB NOT NULL,
  state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE enrolment(
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  tenant   TEXT NOT NULL,
  store    TEXT NOT NULL,
  root_key BLOB NOT NULL,
  seq      INTEGER NOT NULL
) STRICT;

CREATE TABLE grants(
  staff    TEXT NOT NULL,
  location TEXT NOT NULL,
  role     TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  PRIMARY KEY (staff, location, role)
) STRICT, WITHOUT ROWID;

CREATE TABLE journal(
  seq     INTEGER PRIMARY KEY,
  head    BLOB NOT NULL,
  body    BLOB NOT NULL,
  hash    BLOB NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL
) STRICT;

CREATE TABLE journal_cut(
  only_row     INTEGER PRIMARY KEY CHECK (only_row = 1),
  upto_seq     INTEGER NOT NULL,
  upto_hash    BLOB NOT NULL
) STRICT;

CREATE TABLE lines(
  line        BLOB PRIMARY KEY,
  opened_seq  INTEGER NOT NULL,
  reason      TEXT NOT NULL,
  parent_line BLOB,
  parent_seq  INTEGER,
  parent_hash BLOB,
  epoch       INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE locations(
  id       TEXT PRIMARY KEY,
  seq      INTEGER NOT NULL,
  name     TEXT NOT NULL,
  zone     TEXT NOT NULL,
  currency TEXT NOT NULL,
  country  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta(
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE number_series(
  series     TEXT PRIMARY KEY,
  line       BLOB NOT NULL,
  owner      TEXT NOT NULL,
  purpose    TEXT NOT NULL,
  last_used  INTEGER NOT NULL,
  closed     INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE orders(
  seq           INTEGER PRIMARY KEY,
  id            TEXT NOT NULL UNIQUE,
  line          BLOB NOT NULL,
  hash          BLOB NOT NULL,
  last_seq      INTEGER NOT NULL,
  digest        BLOB NOT NULL,
  state         TEXT NOT NULL,
  series        TEXT NOT NULL,
  counter       INTEGER NOT NULL,
  total         INTEGER NOT NULL,
  currency      TEXT NOT NULL,
  lines         TEXT NOT NULL,
  till          TEXT NOT NULL,
  staff         TEXT,
  location      TEXT NOT NULL,
  business_date TEXT NOT NULL,
  zone          TEXT NOT NULL,
  reason        TEXT NOT NULL DEFAULT '',
  placed_at_us  INTEGER NOT NULL,
  updated_at_us INTEGER NOT NULL
) STRICT;

CREATE TABLE outage_terminals(
  outage     TEXT NOT NULL,
  terminal   TEXT NOT NULL,
  used_seq   INTEGER NOT NULL,
  heard_seq  INTEGER,
  closed_seq INTEGER,
  PRIMARY KEY (outage, terminal)
) STRICT, WITHOUT ROWID;

CREATE TABLE outages(
  id            TEXT PRIMARY KEY,
  cause         TEXT NOT NULL,
  started_at_us INTEGER NOT NULL,
  opened_seq    INTEGER NOT NULL,
  ended_at_us   INTEGER,
  closed_seq    INTEGER,
  opened_clock  INTEGER NOT NULL,
  anchor_boot   BLOB NOT NULL,
  anchor_mono_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE payments(
  seq              INTEGER PRIMARY KEY,
  id               TEXT NOT NULL UNIQUE,
  line             BLOB NOT NULL,
  hash             BLOB NOT NULL,
  last_seq         INTEGER NOT NULL,
  digest           BLOB NOT NULL,
  kind             TEXT NOT NULL,
  state            TEXT NOT NULL,
  custody          TEXT,
  manual           TEXT,
  decided_on       TEXT,
  before_reversal  TEXT,
  mode             TEXT NOT NULL,
  tender           TEXT NOT NULL,
  method           TEXT NOT NULL,
  amount           INTEGER NOT NULL,
  tip              INTEGER NOT NULL,
  rounding         INTEGER NOT NULL,
  currency         TEXT NOT NULL,
  order_id         TEXT,
  original_id      TEXT,
  till             TEXT NOT NULL,
  terminal         TEXT,
  staff            TEXT,
  location         TEXT NOT NULL,
  business_date    TEXT NOT NULL,
  zone             TEXT NOT NULL,
  outage           TEXT,
  policy_version   INTEGER,
  series           TEXT,
  counter          INTEGER,
  baseline         TEXT NOT NULL DEFAULT '',
  reason           TEXT NOT NULL DEFAULT '',
  evidence         TEXT NOT NULL DEFAULT '{}',
  receipt_document BLOB,
  deadline_us      INTEGER,
  requested_at_us  INTEGER NOT NULL,
  updated_at_us    INTEGER NOT NULL
) STRICT;

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

CREATE TABLE proofs(
  line      BLOB NOT NULL,
  seq       INTEGER NOT NULL,
  hash      BLOB NOT NULL,
  key_id    TEXT NOT NULL,
  time_us   INTEGER NOT NULL,
  signature BLOB NOT NULL,
  PRIMARY KEY (line, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE replacements(
  hub   BLOB NOT NULL,
  epoch INTEGER NOT NULL,
  word  TEXT NOT NULL,
  stops INTEGER,
  PRIMARY KEY (hub, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE second_factors(
  staff    TEXT PRIMARY KEY,
  document BLOB NOT NULL,
  used     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settings(
  key               TEXT NOT NULL,
  scope             TEXT NOT NULL,
  effective_from_us INTEGER NOT NULL,
  seq               INTEGER NOT NULL,
  version           INTEGER NOT NULL,
  source            TEXT NOT NULL,
  value             TEXT NOT NULL,
  PRIMARY KEY (key, scope, effective_from_us, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE staff(
  id            TEXT PRIMARY KEY,
  seq           INTEGER NOT NULL,
  name_document BLOB NOT NULL,
  pin_document  BLOB NOT NULL,
  language      TEXT NOT NULL,
  active        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE statements(
  id       TEXT PRIMARY KEY,
  outage   TEXT NOT NULL,
  finality TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  replaces TEXT,
  agrees   INTEGER NOT NULL,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

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

CREATE TABLE till_lines(
  till         TEXT PRIMARY KEY,
  start_id     TEXT NOT NULL,
  line         BLOB NOT NULL,
  seq          INTEGER NOT NULL,
  held         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX devices_token ON devices(token_sha256) WHERE token_sha256 IS NOT NULL;

CREATE INDEX documents_due ON documents(keep_until) WHERE erase_when_due = 1 AND erased = 0;

CREATE INDEX documents_undated ON documents(keep_until) WHERE keep_until = '9999-12-31';

CREATE INDEX down_journal_open ON down_journal(state, seq) WHERE state <> 'applied';

CREATE INDEX down_journal_place ON down_journal(line, seq);

CREATE INDEX journal_subject ON journal(subject, seq) WHERE subject <> '';

CREATE UNIQUE INDEX lines_opened ON lines(opened_seq);

CREATE INDEX outage_terminals_unheard ON outage_terminals(terminal) WHERE heard_seq IS NULL AND closed_seq IS NULL;

CREATE UNIQUE INDEX outages_opened ON outages(opened_seq);

CREATE INDEX payments_custody ON payments(custody, deadline_us) WHERE custody IS NOT NULL;

CREATE INDEX payments_offline ON payments(outage, terminal, requested_at_us) WHERE custody IS NOT NULL;

CREATE INDEX payments_open ON payments(state, seq)
  WHERE state = 'requested' OR state = 'in_progress' OR state = 'unknown' OR state = 'reversal_pending' OR state = 'conflict';

CREATE INDEX payments_order ON payments(order_id, seq) WHERE order_id IS NOT NULL;

CREATE INDEX payments_original ON payments(original_id, seq) WHERE original_id IS NOT NULL;

CREATE INDEX payments_outage ON payments(outage, seq) WHERE outage IS NOT NULL;

CREATE INDEX payments_receipt ON payments(terminal, json_extract(evidence, '$.receipt_number'))
  WHERE terminal IS NOT NULL;

CREATE INDEX print_jobs_open ON print_jobs(printer, seq) WHERE state IN ('waiting', 'printing', 'unknown');

CREATE INDEX print_jobs_payment ON print_jobs(payment, purpose) WHERE payment <> '';

CREATE UNIQUE INDEX print_jobs_seq ON print_jobs(seq);

CREATE INDEX statements_outage ON statements(outage, seq);

CREATE INDEX terminal_life_admin ON terminal_life(admin) WHERE admin <> '';

CREATE TRIGGER journal_append BEFORE INSERT ON journal
WHEN NEW.seq <> (SELECT coalesce((SELECT max(seq) FROM journal), (SELECT upto_seq FROM journal_cut)) + 1)
BEGIN SELECT RAISE(ABORT, 'journal: seq must be head + 1'); END;

CREATE TRIGGER journal_cut_forward BEFORE UPDATE ON journal_cut
WHEN NEW.upto_seq < OLD.upto_seq
  OR NOT EXISTS (SELECT 1 FROM journal WHERE kind = 'archive.cut' AND subject = CAST(NEW.upto_seq AS TEXT))
BEGIN SELECT RAISE(ABORT, 'journal: the cut moves forward, and only by an archive.cut entry'); END;

CREATE TRIGGER journal_cut_stays BEFORE DELETE ON journal_cut
BEGIN SELECT RAISE(ABORT, 'journal: the cut is never removed'); END;

CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal
WHEN OLD.seq > (SELECT upto_seq FROM journal_cut)
BEGIN SELECT RAISE(ABORT, 'journal: only archived entries may be deleted'); END;

CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'journal: entries are never changed'); END;
