#include "coordinator/store/schema.h"

#include <iterator>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/store/sqlite.h"

namespace qsweep {
namespace {

// Migration N brings version N-1 to N. Append only: a migration that was
// released never changes, tests/golden/ holds a database of each version.
//
// Digests are 32 bytes, UUIDs 16, times microseconds of Unix time, protos their
// serialized bytes. Measurements use the small integer ids of configuration,
// evaluation and document: they are the largest table, and its key is the cache
// of everything that was ever measured. Lists of words are written with OR: for
// IN SQLite builds a table of them with each row that is written.
constexpr const char* kMigrations[] = {
    R"sql(
CREATE TABLE coordinator (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch INTEGER NOT NULL CHECK (epoch >= 0)  -- grows at each start
) STRICT;
INSERT INTO coordinator (id, epoch) VALUES (1, 0);

CREATE TABLE artifact (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
  size INTEGER NOT NULL CHECK (size >= 0),
  data BLOB NOT NULL,
  CHECK (length(data) = size)
) STRICT;

CREATE TABLE model (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
  name TEXT NOT NULL,
  description BLOB NOT NULL  -- ModelDescription
) STRICT;

CREATE TABLE corpus (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
  name TEXT NOT NULL,  -- the first it was added under
  body BLOB NOT NULL  -- Corpus
) STRICT;
CREATE TABLE corpus_name (
  name TEXT PRIMARY KEY CHECK (name <> ''),
  corpus BLOB NOT NULL REFERENCES corpus (digest)
) STRICT;

CREATE TABLE document (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32)
) STRICT;
-- Where a text stands: its language and aligned id are the corpus's, not its own.
CREATE TABLE corpus_document (
  corpus BLOB NOT NULL REFERENCES corpus (digest),
  language TEXT NOT NULL,
  ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
  document_id TEXT NOT NULL,
  document INTEGER NOT NULL REFERENCES document (id),
  PRIMARY KEY (corpus, language, ordinal)
) STRICT;
CREATE INDEX corpus_document_by_document ON corpus_document (document);

CREATE TABLE configuration (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
  model BLOB NOT NULL REFERENCES model (digest),
  -- Canonical: what it does, not how a job wrote it; job_configuration has that.
  quantizer TEXT NOT NULL,
  layer_set TEXT NOT NULL,  -- 'all' for the baseline
  compute TEXT NOT NULL,
  baseline INTEGER NOT NULL CHECK (baseline IN (0, 1))
) STRICT;
CREATE TABLE evaluation (
  id INTEGER PRIMARY KEY,
  text TEXT NOT NULL UNIQUE CHECK (text <> '')
) STRICT;

CREATE TABLE job (
  number INTEGER PRIMARY KEY CHECK (number > 0),
  uuid BLOB NOT NULL UNIQUE CHECK (length(uuid) = 16),
  spec_digest BLOB NOT NULL CHECK (length(spec_digest) = 32),
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  owner TEXT NOT NULL,
  labels TEXT NOT NULL,  -- JSON
  state TEXT NOT NULL CHECK (state = 'planning' OR state = 'queued' OR
    state = 'running' OR state = 'paused' OR state = 'stopping' OR
    state = 'succeeded' OR state = 'failed' OR state = 'cancelled'),
  reason TEXT NOT NULL,
  corpus BLOB NOT NULL REFERENCES corpus (digest),
  spec BLOB NOT NULL,       -- JobSpec
  spec_json TEXT NOT NULL,
  plan BLOB NOT NULL,       -- JobPlan
  documents_skipped INTEGER NOT NULL,  -- so far: a row of its is not 'ok'
  priority INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  finished_at_us INTEGER,
  -- 1: it is gone for everybody; what is left of it is being deleted
  purged INTEGER NOT NULL DEFAULT 0 CHECK (purged IN (0, 1))
) STRICT;
CREATE INDEX job_open ON job (number)
  WHERE state NOT IN ('succeeded', 'failed', 'cancelled');
CREATE INDEX job_purged ON job (number) WHERE purged = 1;

-- What a job asks for: for each evaluation of a model, the model's
-- configurations x the documents of that evaluation (eval_index).
CREATE TABLE job_model (
  job INTEGER NOT NULL REFERENCES job (number),
  ordinal INTEGER NOT NULL,
  model BLOB NOT NULL REFERENCES model (digest),
  PRIMARY KEY (job, ordinal)
) STRICT;
CREATE TABLE job_configuration (
  job INTEGER NOT NULL REFERENCES job (number),
  ordinal INTEGER NOT NULL,
  configuration INTEGER NOT NULL REFERENCES configuration (id),
  quantizer TEXT NOT NULL,
  layer_set TEXT NOT NULL,  -- as written
  resolved TEXT NOT NULL,   -- on the model; 'all' for the baseline
  unprotected INTEGER NOT NULL CHECK (unprotected IN (0, 1)),
  single_layer INTEGER,     -- when exactly one whole layer is protected
  overhead_params REAL NOT NULL,
  overhead_layers REAL NOT NULL,
  overhead_kept REAL NOT NULL,
  overhead_bytes REAL NOT NULL,
  PRIMARY KEY (job, ordinal),
  UNIQUE (job, configuration)
) STRICT;
CREATE TABLE job_evaluation (
  job INTEGER NOT NULL REFERENCES job (number),
  ordinal INTEGER NOT NULL,
  model BLOB NOT NULL REFERENCES model (digest),
  eval_index INTEGER NOT NULL,  -- into JobSpec.evals
  evaluation INTEGER NOT NULL REFERENCES evaluation (id),
  PRIMARY KEY (job, ordinal)
) STRICT;
CREATE TABLE job_document (
  job INTEGER NOT NULL REFERENCES job (number),
  ordinal INTEGER NOT NULL,
  eval_index INTEGER NOT NULL,
  language TEXT NOT NULL,
  document_id TEXT NOT NULL,
  document INTEGER NOT NULL REFERENCES document (id),
  PRIMARY KEY (job, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_document_by_document ON job_document (job, document);

-- What the tasks of one plan share: a TaskSpec without documents.
CREATE TABLE task_group (
  id INTEGER PRIMARY KEY CHECK (id > 0),
  model BLOB NOT NULL REFERENCES model (digest),
  prototype BLOB NOT NULL  -- TaskSpec
) STRICT;
CREATE TABLE task (
  id INTEGER PRIMARY KEY CHECK (id > 0),
  task_group INTEGER NOT NULL REFERENCES task_group (id),
  -- SHA-256; no two live tasks share one, which State sees to: an index over
  -- random keys would rewrite a page for each task of a large submit
  content_key BLOB NOT NULL CHECK (length(content_key) = 32),
  -- 36 bytes each: digest, index of its language, little endian
  documents BLOB NOT NULL CHECK (length(documents) % 36 = 0),
  estimated_seconds REAL NOT NULL,
  state TEXT NOT NULL CHECK (state = 'blocked' OR state = 'ready' OR
    state = 'leased' OR state = 'backoff' OR state = 'quarantined' OR
    state = 'done' OR state = 'cancelled'),
  reason TEXT NOT NULL DEFAULT '',
  failed INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
  lost INTEGER NOT NULL DEFAULT 0 CHECK (lost >= 0),
  preempted INTEGER NOT NULL DEFAULT 0 CHECK (preempted >= 0),
  backoff_us INTEGER NOT NULL DEFAULT 0 CHECK (backoff_us >= 0),
  result_epoch INTEGER,
  result_digest BLOB CHECK (length(result_digest) = 32),
  audit_of INTEGER CHECK (audit_of > 0),  -- the task whose result it checks
  -- 1: of purged jobs only, kept for the measurements it brought
  archived INTEGER NOT NULL DEFAULT 0 CHECK (archived IN (0, 1)),
  CHECK ((state = 'done') = (result_epoch IS NOT NULL)),
  CHECK ((result_epoch IS NULL) = (result_digest IS NULL))
) STRICT;
CREATE INDEX task_by_group ON task (task_group);

CREATE TABLE job_task (
  job INTEGER NOT NULL REFERENCES job (number),
  task INTEGER NOT NULL REFERENCES task (id),
  measurements INTEGER NOT NULL,  -- of the job's that the task brings
  PRIMARY KEY (job, task)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_task_by_task ON job_task (task);

CREATE TABLE worker (
  uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
  boot_seq INTEGER NOT NULL,
  credential TEXT NOT NULL,
  hello BLOB NOT NULL,  -- Hello
  name TEXT NOT NULL,
  usd_per_hour REAL NOT NULL,
  mode TEXT NOT NULL DEFAULT 'open'
    CHECK (mode = 'open' OR mode = 'draining' OR mode = 'quarantined'),
  mode_reason TEXT NOT NULL DEFAULT '',
  blamed INTEGER NOT NULL DEFAULT 0 CHECK (blamed >= 0),
  tasks_done INTEGER NOT NULL DEFAULT 0,
  attached_us INTEGER NOT NULL DEFAULT 0 CHECK (attached_us >= 0),
  first_seen_us INTEGER NOT NULL,
  last_seen_us INTEGER NOT NULL
) STRICT;

-- Ended rows stay: the epochs that were granted, and what each cost.
CREATE TABLE lease (
  task INTEGER NOT NULL REFERENCES task (id),
  epoch INTEGER NOT NULL CHECK (epoch > 0),
  worker BLOB NOT NULL REFERENCES worker (uuid),
  session BLOB NOT NULL CHECK (length(session) = 16),
  credential TEXT NOT NULL,  -- who may commit
  granted_at_us INTEGER NOT NULL,
  ended_at_us INTEGER,
  end_reason TEXT,
  -- While it was the oldest lease its worker held, by a clock that never jumps.
  held_us INTEGER CHECK (held_us >= 0),
  load_us INTEGER,           -- of it, for a result: loading the model
  engine TEXT,               -- of the rows it brought
  device TEXT,
  report BLOB,               -- TaskReport
  PRIMARY KEY (task, epoch),
  CHECK ((ended_at_us IS NULL) = (end_reason IS NULL))
) STRICT;
CREATE INDEX lease_open ON lease (task) WHERE ended_at_us IS NULL;
CREATE INDEX lease_by_worker ON lease (worker);

-- What the newest attempts took, so that a restart foresees as before: work per
-- second of an operation; operation '': seconds that a load took; operation
-- 'weights': bytes of weights read a second.
CREATE TABLE speed (
  model BLOB NOT NULL CHECK (length(model) = 32),
  operation TEXT NOT NULL,
  device TEXT NOT NULL,
  number INTEGER NOT NULL,   -- by age, without gaps
  value REAL NOT NULL CHECK (value > 0),
  PRIMARY KEY (model, operation, device, number)
) STRICT, WITHOUT ROWID;

-- How far the order of sums alone moves a model's baseline, by compute mode and
-- engine: the largest over what tasks told.
CREATE TABLE noise_floor (
  model BLOB NOT NULL CHECK (length(model) = 32),
  compute TEXT NOT NULL,
  engine TEXT NOT NULL,
  nll_per_token REAL NOT NULL CHECK (nll_per_token >= 0),  -- nats
  documents INTEGER NOT NULL CHECK (documents > 0),
  tokens INTEGER NOT NULL CHECK (tokens > 0),
  PRIMARY KEY (model, compute, engine)
) STRICT, WITHOUT ROWID;

-- What calibrated configurations were measured with: one each, unless workers
-- disagree.
CREATE TABLE codes (
  id INTEGER PRIMARY KEY,
  configuration INTEGER NOT NULL REFERENCES configuration (id),
  digest BLOB NOT NULL CHECK (length(digest) = 32),
  UNIQUE (configuration, digest)
) STRICT;
CREATE TABLE measurement (
  configuration INTEGER NOT NULL REFERENCES configuration (id),
  evaluation INTEGER NOT NULL REFERENCES evaluation (id),
  document INTEGER NOT NULL REFERENCES document (id),
  status TEXT NOT NULL
    CHECK (status = 'ok' OR status = 'one_token' OR status = 'too_long' OR
    status = 'empty'),
  nll_sum REAL,          -- nats; NULL unless status is ok
  nll_fp_sum REAL,
  unigram_nll_sum REAL,
  tokens INTEGER NOT NULL CHECK (tokens >= 0),
  bytes INTEGER NOT NULL CHECK (bytes >= 0),
  bytes_scored INTEGER NOT NULL CHECK (bytes_scored >= 0),
  chars INTEGER NOT NULL CHECK (chars >= 0),
  kl_sum REAL,
  top1 INTEGER,
  nonfinite INTEGER NOT NULL CHECK (nonfinite >= 0),
  codes INTEGER REFERENCES codes (id),  -- NULL: not calibrated
  task INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  -- A task brings some documents under many configurations: its rows stand
  -- together, and a commit writes few pages.
  PRIMARY KEY (evaluation, document, configuration),
  FOREIGN KEY (task, epoch) REFERENCES lease (task, epoch),
  CHECK ((status = 'ok') = (nll_sum IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX measurement_skipped ON measurement
  (evaluation, document, configuration) WHERE status <> 'ok';

-- A result that came second: compared, never used.
CREATE TABLE duplicate_result (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  payload_digest BLOB NOT NULL CHECK (length(payload_digest) = 32),
  evaluation TEXT NOT NULL,
  compared INTEGER NOT NULL CHECK (compared >= 0),    -- rows
  differing INTEGER NOT NULL CHECK (differing >= 0),  -- rows
  engine TEXT NOT NULL,
  worker BLOB NOT NULL REFERENCES worker (uuid),
  created_at_us INTEGER NOT NULL,
  FOREIGN KEY (task, epoch) REFERENCES lease (task, epoch)
) STRICT;
CREATE INDEX duplicate_by_attempt ON duplicate_result (task, epoch);
CREATE TABLE duplicate_row (
  duplicate INTEGER NOT NULL REFERENCES duplicate_result (id),
  ordinal INTEGER NOT NULL,
  configuration BLOB NOT NULL CHECK (length(configuration) = 32),
  document BLOB NOT NULL CHECK (length(document) = 32),
  row BLOB NOT NULL,  -- Measurement
  PRIMARY KEY (duplicate, ordinal)
) STRICT;

CREATE TABLE event (
  seq INTEGER PRIMARY KEY CHECK (seq > 0),
  time_us INTEGER NOT NULL,
  job INTEGER REFERENCES job (number),
  job_seq INTEGER,
  task INTEGER REFERENCES task (id),
  worker TEXT NOT NULL,
  kind TEXT NOT NULL,
  from_state TEXT NOT NULL,
  to_state TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  reason TEXT NOT NULL,
  CHECK ((job IS NULL) = (job_seq IS NULL))
) STRICT;
CREATE UNIQUE INDEX event_by_job ON event (job, job_seq) WHERE job IS NOT NULL;

-- Secrets are 256 random bits: their SHA-256 needs no salt.
CREATE TABLE token (
  id INTEGER PRIMARY KEY CHECK (id > 0),
  secret_sha256 BLOB NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
  kind TEXT NOT NULL CHECK (kind IN ('access', 'join')),
  role TEXT NOT NULL CHECK (role = 'read' OR role = 'submit' OR
    role = 'worker' OR role = 'admin'),
  name TEXT NOT NULL,
  reusable INTEGER NOT NULL CHECK (reusable IN (0, 1)),
  lifetime_us INTEGER CHECK (lifetime_us > 0),  -- join: of what it gives
  joined_with INTEGER REFERENCES token (id),
  created_by TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  expires_at_us INTEGER,
  revoked_at_us INTEGER
) STRICT;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  time_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL,
  count INTEGER NOT NULL CHECK (count > 0)  -- calls it stands for
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'the audit is append-only'); END;
)sql",
};

constexpr ViewDefinition kViews[] = {
    // One row per measurement and place of its text in a corpus. Configurations
    // in their canonical spelling, which is no job's.
    {"measurements_v1", R"sql(
SELECT lower(hex(c.model)) AS model, lower(hex(c.digest)) AS configuration,
  c.layer_set, c.quantizer, c.compute, e.text AS evaluation,
  k.name AS corpus, lower(hex(k.digest)) AS corpus_digest,
  cd.language AS lang,
  cd.document_id AS document, lower(hex(d.digest)) AS document_digest,
  m.status, m.nll_sum, m.nll_fp_sum, m.unigram_nll_sum, m.tokens, m.bytes,
  m.bytes_scored, m.chars, m.kl_sum, m.top1, m.nonfinite,
  lower(hex(q.digest)) AS codes, l.engine, l.device,
  m.task, m.epoch, w.name AS worker,
  strftime('%Y-%m-%dT%H:%M:%SZ', m.created_at_us / 1000000, 'unixepoch')
    AS created_at
FROM measurement AS m
JOIN configuration AS c ON c.id = m.configuration
JOIN evaluation AS e ON e.id = m.evaluation
JOIN document AS d ON d.id = m.document
JOIN corpus_document AS cd ON cd.document = m.document
JOIN corpus AS k ON k.digest = cd.corpus
JOIN lease AS l ON l.task = m.task AND l.epoch = m.epoch
JOIN worker AS w ON w.uuid = l.worker
LEFT JOIN codes AS q ON q.id = m.codes)sql"},
    // The rows of each job, its configurations as it wrote them. CROSS JOIN:
    // SQLite would read all measurements of the evaluation, where a job's keys
    // are looked up.
    {"job_measurements_v1", R"sql(
SELECT j.number AS job, lower(hex(c.model)) AS model,
  lower(hex(c.digest)) AS configuration, jc.resolved AS layer_set,
  jc.layer_set AS written, jc.quantizer, c.compute, e.text AS evaluation,
  k.name AS corpus, jd.language AS lang, jd.document_id AS document,
  lower(hex(d.digest)) AS document_digest, m.status, m.nll_sum, m.nll_fp_sum,
  m.unigram_nll_sum, m.tokens, m.bytes, m.bytes_scored, m.chars, m.kl_sum,
  m.top1, m.nonfinite
FROM job AS j
JOIN corpus AS k ON k.digest = j.corpus
JOIN job_configuration AS jc ON jc.job = j.number
JOIN configuration AS c ON c.id = jc.configuration
JOIN job_evaluation AS je ON je.job = j.number AND je.model = c.model
JOIN evaluation AS e ON e.id = je.evaluation
JOIN job_document AS jd ON jd.job = j.number AND jd.eval_index = je.eval_index
JOIN document AS d ON d.id = jd.document
CROSS JOIN measurement AS m ON m.configuration = jc.configuration
  AND m.evaluation = je.evaluation AND m.document = jd.document
WHERE j.purged = 0 AND j.state <> 'planning')sql"},
    // Of a job whose plan is not whole nothing is seen.
    {"jobs_v1", R"sql(
SELECT j.number, lower(hex(j.uuid)) AS uuid, j.name, j.kind, j.state, j.reason,
  j.owner, j.labels,
  strftime('%Y-%m-%dT%H:%M:%SZ', j.created_at_us / 1000000, 'unixepoch')
    AS created_at,
  strftime('%Y-%m-%dT%H:%M:%SZ', j.finished_at_us / 1000000, 'unixepoch')
    AS finished_at,
  (SELECT count(jc.configuration) FROM job_configuration AS jc
    JOIN configuration AS c ON c.id = jc.configuration
    JOIN job_evaluation AS je ON je.job = jc.job AND je.model = c.model
    JOIN job_document AS jd ON jd.job = jc.job
      AND jd.eval_index = je.eval_index
    WHERE jc.job = j.number) AS measurements_total,
  (SELECT count(m.document) FROM job_configuration AS jc
    JOIN configuration AS c ON c.id = jc.configuration
    JOIN job_evaluation AS je ON je.job = jc.job AND je.model = c.model
    JOIN job_document AS jd ON jd.job = jc.job
      AND jd.eval_index = je.eval_index
    CROSS JOIN measurement AS m ON m.configuration = jc.configuration
      AND m.evaluation = je.evaluation AND m.document = jd.document
    WHERE jc.job = j.number) AS measurements_done,
  (SELECT count(m.document) FROM job_configuration AS jc
    JOIN configuration AS c ON c.id = jc.configuration
    JOIN job_evaluation AS je ON je.job = jc.job AND je.model = c.model
    JOIN job_document AS jd ON jd.job = jc.job
      AND jd.eval_index = je.eval_index
    CROSS JOIN measurement AS m ON m.configuration = jc.configuration
      AND m.evaluation = je.evaluation AND m.document = jd.document
    WHERE jc.job = j.number AND NOT EXISTS (SELECT t.task FROM job_task AS t
      WHERE t.job = j.number AND t.task = m.task)) AS measurements_reused,
  (SELECT count(t.id) FROM job_task AS jt JOIN task AS t ON t.id = jt.task
    WHERE jt.job = j.number) AS tasks,
  (SELECT count(t.id) FROM job_task AS jt JOIN task AS t ON t.id = jt.task
    WHERE jt.job = j.number AND t.state = 'done') AS tasks_done,
  (SELECT count(t.id) FROM job_task AS jt JOIN task AS t ON t.id = jt.task
    WHERE jt.job = j.number AND t.state = 'leased') AS tasks_leased,
  (SELECT count(t.id) FROM job_task AS jt JOIN task AS t ON t.id = jt.task
    WHERE jt.job = j.number AND t.state IN ('blocked', 'ready', 'backoff'))
    AS tasks_waiting,
  (SELECT count(t.id) FROM job_task AS jt JOIN task AS t ON t.id = jt.task
    WHERE jt.job = j.number AND t.state = 'quarantined') AS tasks_quarantined,
  (SELECT count(t.id) FROM job_task AS jt JOIN task AS t ON t.id = jt.task
    WHERE jt.job = j.number AND t.state = 'cancelled') AS tasks_cancelled,
  j.spec_json AS spec
FROM job AS j WHERE j.purged = 0 AND j.state <> 'planning')sql"},
    // worker: of the newest lease.
    {"tasks_v1", R"sql(
SELECT t.id, t.state, t.reason, lower(hex(g.model)) AS model,
  length(t.documents) / 36 AS documents,
  (SELECT count(l.epoch) FROM lease AS l WHERE l.task = t.id) AS epoch,
  t.failed, t.lost, t.preempted,
  (SELECT w.name FROM lease AS l JOIN worker AS w ON w.uuid = l.worker
    WHERE l.task = t.id ORDER BY l.epoch DESC LIMIT 1) AS worker,
  (SELECT group_concat(jt.job) FROM job_task AS jt WHERE jt.task = t.id)
    AS jobs,
  t.estimated_seconds,
  (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', l.ended_at_us / 1000000, 'unixepoch')
    FROM lease AS l WHERE l.task = t.id AND l.epoch = t.result_epoch)
    AS finished_at
FROM task AS t JOIN task_group AS g ON g.id = t.task_group
WHERE t.archived = 0 AND (
  NOT EXISTS (SELECT 1 FROM job_task AS jt WHERE jt.task = t.id)
  OR EXISTS (SELECT 1 FROM job_task AS jt JOIN job AS j ON j.number = jt.job
    WHERE jt.task = t.id AND j.state <> 'planning')))sql"},
    // What each grant cost. An attempt that ended was useful when its result is
    // the one that is stored.
    {"attempts_v1", R"sql(
SELECT l.task, l.epoch, w.name AS worker, l.end_reason AS outcome,
  l.held_us / 1e6 AS held_seconds, l.load_us / 1e6 AS load_seconds,
  l.held_us / 3.6e9 * w.usd_per_hour AS usd,
  l.end_reason IS 'committed' AS useful, l.device,
  strftime('%Y-%m-%dT%H:%M:%SZ', l.granted_at_us / 1000000, 'unixepoch')
    AS granted_at,
  strftime('%Y-%m-%dT%H:%M:%SZ', l.ended_at_us / 1000000, 'unixepoch')
    AS ended_at
FROM lease AS l JOIN worker AS w ON w.uuid = l.worker)sql"},
    {"workers_v1", R"sql(
SELECT lower(hex(w.uuid)) AS uuid, w.name, w.mode, w.mode_reason, w.blamed,
  w.usd_per_hour,
  (SELECT count(l.epoch) FROM lease AS l WHERE l.worker = w.uuid) AS leases,
  (SELECT count(l.epoch) FROM lease AS l
    WHERE l.worker = w.uuid AND l.ended_at_us IS NULL) AS leases_open,
  w.tasks_done,
  strftime('%Y-%m-%dT%H:%M:%SZ', w.first_seen_us / 1000000, 'unixepoch')
    AS first_seen,
  strftime('%Y-%m-%dT%H:%M:%SZ', w.last_seen_us / 1000000, 'unixepoch')
    AS last_seen,
  w.attached_us / 1e6 AS attached_seconds, l.held_us / 1e6 AS busy_seconds,
  max(0, w.attached_us - l.held_us) / 1e6 AS idle_seconds
FROM worker AS w JOIN (SELECT u.uuid,
  (SELECT ifnull(sum(held_us), 0) FROM lease WHERE worker = u.uuid) AS held_us
  FROM worker AS u) AS l ON l.uuid = w.uuid)sql"},
    {"events_v1", R"sql(
SELECT e.seq,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.time_us / 1000000.0, 'unixepoch') AS time,
  e.job, e.job_seq, e.task, e.worker, e.kind, e.from_state, e.to_state,
  e.epoch, e.reason
FROM event AS e)sql"},
    {"audit_v1", R"sql(
SELECT a.seq,
  strftime('%Y-%m-%dT%H:%M:%fZ', a.time_us / 1000000.0, 'unixepoch') AS time,
  a.actor, a.action, a.subject, a.detail, a.count
FROM audit AS a)sql"},
};

// A cache: another version is dropped, never migrated.
constexpr int64_t kAnalysisVersion = 1;
constexpr const char* kAnalysisSchema = R"sql(
DROP TABLE IF EXISTS result;
DROP TABLE IF EXISTS result_set;
CREATE TABLE result_set (
  job INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  response BLOB NOT NULL  -- GetResultsResponse
) STRICT;
CREATE TABLE result (
  job INTEGER NOT NULL,
  configuration TEXT NOT NULL,
  model TEXT NOT NULL,
  layer_set TEXT NOT NULL,
  resolved TEXT NOT NULL,
  layer INTEGER,
  quantizer TEXT NOT NULL,
  compute TEXT NOT NULL,
  evaluation TEXT NOT NULL,
  lang TEXT NOT NULL,
  reference TEXT NOT NULL,
  n INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  metric TEXT NOT NULL,
  higher_is_better INTEGER NOT NULL,
  value REAL,
  stderr REAL,
  ci_low REAL,
  ci_high REAL,
  flags TEXT NOT NULL,
  status TEXT NOT NULL,
  overhead_params REAL NOT NULL,
  overhead_layers REAL NOT NULL,
  overhead_kept REAL NOT NULL,
  overhead_bytes REAL NOT NULL
) STRICT;
CREATE INDEX result_by_job ON result (job, metric);
)sql";

absl::Status CreateViews(Database& database) {
  for (const ViewDefinition& view : kViews) {
    QSWEEP_RETURN_IF_ERROR(database.Execute(
        absl::StrCat("DROP VIEW IF EXISTS ", view.name, ";CREATE VIEW ",
                     view.name, " AS ", view.select)));
  }
  return absl::OkStatus();
}

// DATA_LOSS QS4006: a reference that does not hold.
absl::Status CheckForeignKeys(Database& database, const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(Statement check,
                          database.Prepare("PRAGMA foreign_key_check"));
  QSWEEP_ASSIGN_OR_RETURN(const bool broken, check.Step());
  if (broken) {
    return MakeError(
        kDamagedDatabase,
        absl::StrCat(path, ": a broken reference in table ", check.Text(0)),
        path, "restore a backup");
  }
  return absl::OkStatus();
}

absl::Status ToVersion(Database& database, int64_t version, const char* sql,
                       const std::string& path) {
  QSWEEP_RETURN_IF_ERROR(database.Execute(sql));
  QSWEEP_RETURN_IF_ERROR(CheckForeignKeys(database, path));
  QSWEEP_RETURN_IF_ERROR(CreateViews(database));
  return database.Execute(absl::StrCat("PRAGMA application_id=", kApplicationId,
                                       ";PRAGMA user_version=", version,
                                       ";COMMIT"));
}

}  // namespace

Migrations CurrentMigrations() { return kMigrations; }

int64_t CurrentSchemaVersion() { return std::ssize(kMigrations); }

std::span<const ViewDefinition> DocumentedViews() { return kViews; }

const ViewDefinition kResultsView = {"results_v1", R"sql(
SELECT job, configuration, model, layer_set, resolved, layer, quantizer,
  compute, evaluation, lang, reference, n, tokens, metric, higher_is_better,
  value, stderr, ci_low, ci_high, flags, status, overhead_params,
  overhead_layers, overhead_kept, overhead_bytes
FROM analysis.result AS r
WHERE EXISTS
  (SELECT 1 FROM main.job AS j WHERE j.number = r.job AND j.purged = 0))sql"};

absl::Status CreateAnalysisSchema(Database& database) {
  QSWEEP_ASSIGN_OR_RETURN(const int64_t version,
                          database.QueryInteger("PRAGMA user_version"));
  if (version == kAnalysisVersion) {
    return absl::OkStatus();
  }
  return database.Execute(absl::StrCat("BEGIN;", kAnalysisSchema,
                                       "PRAGMA user_version=", kAnalysisVersion,
                                       ";COMMIT"));
}

absl::StatusOr<int64_t> ReadVersion(Database& database, const std::string& path,
                                    int64_t newest) {
  QSWEEP_ASSIGN_OR_RETURN(const int64_t application,
                          database.QueryInteger("PRAGMA application_id"));
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t tables,
      database.QueryInteger("SELECT count(*) FROM sqlite_schema"));
  if (application != kApplicationId && (application != 0 || tables != 0)) {
    return MakeError(kDamagedDatabase,
                     absl::StrCat(path, " is a database of another program"),
                     path, "start on another directory");
  }
  QSWEEP_ASSIGN_OR_RETURN(const int64_t version,
                          database.QueryInteger("PRAGMA user_version"));
  if (version > newest) {
    return MakeError(
        kNewerDatabase,
        absl::StrCat(path, " has schema version ", version,
                     "; this program knows versions up to ", newest),
        path, "start the newer version, or restore a backup of the older one");
  }
  return version;
}

absl::Status Migrate(Database& database, const std::string& path,
                     Migrations migrations) {
  QSWEEP_ASSIGN_OR_RETURN(const int64_t version,
                          ReadVersion(database, path, std::ssize(migrations)));
  for (int64_t next = version + 1; next <= std::ssize(migrations); ++next) {
    QSWEEP_RETURN_IF_ERROR(database.Execute("BEGIN IMMEDIATE"));
    if (absl::Status status = ToVersion(
            database, next, migrations[static_cast<size_t>(next - 1)], path);
        !status.ok()) {
      // The caller gives the connection up, which rolls back too.
      database.Execute("ROLLBACK").IgnoreError();
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace qsweep
