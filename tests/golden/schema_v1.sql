-- The database of tests/support/sweep_batches WholeSweep(), as schema version 1 wrote it.
PRAGMA application_id=1903392624;
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE artifact (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
  size INTEGER NOT NULL CHECK (size >= 0),
  data BLOB NOT NULL,
  CHECK (length(data) = size)
) STRICT;
INSERT INTO "artifact" VALUES(X'6D1C06C9E7E9C693F53201ADFF4EAC38D9698CC939A89EFD9A03D5D014CF87E8',115,X'0A03656E6712350A0131120E54657874203120696E20656E672E1A20EB203DFCC5E43DBD73FC08CDF471FC1BFD3A5186F74B9E034253717164501E1212350A0132120E54657874203220696E20656E672E1A20C2CF1AB94DB43B872F743ACA5219C6D8F409495DEA32F2944A053220A200B275');
INSERT INTO "artifact" VALUES(X'0B106F6DDB15BFA1336309133D28289DBE01D8C4DC7F67E463E7CECCFAAADB1E',115,X'0A0366726112350A0131120E54657874203120696E206672612E1A2093E0F2132D229FC39734D25FA6193C096EE4BA246A57299AB06E75932C3377E512350A0132120E54657874203220696E206672612E1A20CE2346C8A7DEFAA3FC4DBDA1B971B21F772FBF7B470BF1D65DB24A213F9B2A21');
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  time_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL,
  count INTEGER NOT NULL CHECK (count > 0)  -- calls it stands for
) STRICT;
CREATE TABLE codes (
  id INTEGER PRIMARY KEY,
  configuration INTEGER NOT NULL REFERENCES configuration (id),
  digest BLOB NOT NULL CHECK (length(digest) = 32),
  UNIQUE (configuration, digest)
) STRICT;
INSERT INTO "codes" VALUES(1,3,X'64A7994C6FEB92D40F0C88D34E120CF1A01B6E36AF329AB2F2444A8C0E4A2043');
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
INSERT INTO "configuration" VALUES(1,X'8BA8496A2525AE171FFD104D632DEDE6EF418D9B95962A9D88E2FCDBC8D48D24',X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','fp','all','fp32',1);
INSERT INTO "configuration" VALUES(2,X'140BEDBF9C3F6D56A9846D2BA7088798683F4DA0C248231336E6A05679E4FDFE',X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','rtn:bits=4','none','fp32',0);
INSERT INTO "configuration" VALUES(3,X'929172FAE51E7C4FEDC288349B430C1CA2EE1B35F6A9493F3CA7C83B44786791',X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','rtn:bits=4','L0','fp32',0);
CREATE TABLE coordinator (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch INTEGER NOT NULL CHECK (epoch >= 0)  -- grows at each start
) STRICT;
INSERT INTO "coordinator" VALUES(1,1);
CREATE TABLE corpus (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
  name TEXT NOT NULL,  -- the first it was added under
  body BLOB NOT NULL  -- Corpus
) STRICT;
INSERT INTO "corpus" VALUES(X'6B17B8FCC411A533C822A5117E33CF73FA6766739D7D36AC86DC4BEA883AF4FE','texts',X'0A05746578747312206B17B8FCC411A533C822A5117E33CF73FA6766739D7D36AC86DC4BEA883AF4FE1A770A03656E6712206D1C06C9E7E9C693F53201ADFF4EAC38D9698CC939A89EFD9A03D5D014CF87E818024201314201324A20EB203DFCC5E43DBD73FC08CDF471FC1BFD3A5186F74B9E034253717164501E124A20C2CF1AB94DB43B872F743ACA5219C6D8F409495DEA32F2944A053220A200B27552020E0E1A770A0366726112200B106F6DDB15BFA1336309133D28289DBE01D8C4DC7F67E463E7CECCFAAADB1E18024201314201324A2093E0F2132D229FC39734D25FA6193C096EE4BA246A57299AB06E75932C3377E54A20CE2346C8A7DEFAA3FC4DBDA1B971B21F772FBF7B470BF1D65DB24A213F9B2A2152020E0E');
CREATE TABLE corpus_document (
  corpus BLOB NOT NULL REFERENCES corpus (digest),
  language TEXT NOT NULL,
  ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
  document_id TEXT NOT NULL,
  document INTEGER NOT NULL REFERENCES document (id),
  PRIMARY KEY (corpus, language, ordinal)
) STRICT;
INSERT INTO "corpus_document" VALUES(X'6B17B8FCC411A533C822A5117E33CF73FA6766739D7D36AC86DC4BEA883AF4FE','eng',0,'1',1);
INSERT INTO "corpus_document" VALUES(X'6B17B8FCC411A533C822A5117E33CF73FA6766739D7D36AC86DC4BEA883AF4FE','eng',1,'2',2);
INSERT INTO "corpus_document" VALUES(X'6B17B8FCC411A533C822A5117E33CF73FA6766739D7D36AC86DC4BEA883AF4FE','fra',0,'1',3);
INSERT INTO "corpus_document" VALUES(X'6B17B8FCC411A533C822A5117E33CF73FA6766739D7D36AC86DC4BEA883AF4FE','fra',1,'2',4);
CREATE TABLE corpus_name (
  name TEXT PRIMARY KEY CHECK (name <> ''),
  corpus BLOB NOT NULL REFERENCES corpus (digest)
) STRICT;
INSERT INTO "corpus_name" VALUES('texts',X'6B17B8FCC411A533C822A5117E33CF73FA6766739D7D36AC86DC4BEA883AF4FE');
CREATE TABLE document (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32)
) STRICT;
INSERT INTO "document" VALUES(1,X'EB203DFCC5E43DBD73FC08CDF471FC1BFD3A5186F74B9E034253717164501E12');
INSERT INTO "document" VALUES(2,X'C2CF1AB94DB43B872F743ACA5219C6D8F409495DEA32F2944A053220A200B275');
INSERT INTO "document" VALUES(3,X'93E0F2132D229FC39734D25FA6193C096EE4BA246A57299AB06E75932C3377E5');
INSERT INTO "document" VALUES(4,X'CE2346C8A7DEFAA3FC4DBDA1B971B21F772FBF7B470BF1D65DB24A213F9B2A21');
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
CREATE TABLE duplicate_row (
  duplicate INTEGER NOT NULL REFERENCES duplicate_result (id),
  ordinal INTEGER NOT NULL,
  configuration BLOB NOT NULL CHECK (length(configuration) = 32),
  document BLOB NOT NULL CHECK (length(document) = 32),
  row BLOB NOT NULL,  -- Measurement
  PRIMARY KEY (duplicate, ordinal)
) STRICT;
CREATE TABLE evaluation (
  id INTEGER PRIMARY KEY,
  text TEXT NOT NULL UNIQUE CHECK (text <> '')
) STRICT;
INSERT INTO "evaluation" VALUES(1,'aligned@1;tok=00');
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
INSERT INTO "event" VALUES(1,1700000030000001,1,1,NULL,'box-1','task_done','leased','done',0,'');
INSERT INTO "event" VALUES(2,1700000030000002,1,2,NULL,'box-1','task_done','leased','done',0,'');
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
INSERT INTO "job" VALUES(1,X'CC5EBC646150889D82AFA36A0F8EBCF0',X'42A5DF92F3BF46E8592F9FEC32A1E895F9208440A535D538D9266367DEDB3397','sweep-1','layer_sweep','ada','{"team":"a"}','succeeded','all measured',X'6B17B8FCC411A533C822A5117E33CF73FA6766739D7D36AC86DC4BEA883AF4FE',X'0801120773776565702D311A090A047465616D120161420574657874735203656E6760016A0208027007','{"kind":"JOB_KIND_LAYER_SWEEP","name":"sweep-1","labels":{"team":"a"},"corpus":"texts","reference":"eng","compute":"COMPUTE_FP32","policy":{"priority":2},"seed":"7"}',X'080310041802200C3002',1,2,1700000001000000,1700000050000000,0);
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
INSERT INTO "job_configuration" VALUES(1,0,1,'fp','all','all',0,NULL,0.0,0.0,0.0,0.0);
INSERT INTO "job_configuration" VALUES(1,1,2,'rtn:bits=4','none','none',1,NULL,0.0,0.0,0.0,0.0);
INSERT INTO "job_configuration" VALUES(1,2,3,'rtn:bits=4','L0','L0',0,0,0.0,0.5,0.0,0.0);
CREATE TABLE job_document (
  job INTEGER NOT NULL REFERENCES job (number),
  ordinal INTEGER NOT NULL,
  eval_index INTEGER NOT NULL,
  language TEXT NOT NULL,
  document_id TEXT NOT NULL,
  document INTEGER NOT NULL REFERENCES document (id),
  PRIMARY KEY (job, ordinal)
) STRICT, WITHOUT ROWID;
INSERT INTO "job_document" VALUES(1,0,0,'eng','1',1);
INSERT INTO "job_document" VALUES(1,1,0,'fra','1',3);
INSERT INTO "job_document" VALUES(1,2,0,'eng','2',2);
INSERT INTO "job_document" VALUES(1,3,0,'fra','2',4);
CREATE TABLE job_evaluation (
  job INTEGER NOT NULL REFERENCES job (number),
  ordinal INTEGER NOT NULL,
  model BLOB NOT NULL REFERENCES model (digest),
  eval_index INTEGER NOT NULL,  -- into JobSpec.evals
  evaluation INTEGER NOT NULL REFERENCES evaluation (id),
  PRIMARY KEY (job, ordinal)
) STRICT;
INSERT INTO "job_evaluation" VALUES(1,0,X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4',0,1);
CREATE TABLE job_model (
  job INTEGER NOT NULL REFERENCES job (number),
  ordinal INTEGER NOT NULL,
  model BLOB NOT NULL REFERENCES model (digest),
  PRIMARY KEY (job, ordinal)
) STRICT;
INSERT INTO "job_model" VALUES(1,0,X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4');
CREATE TABLE job_task (
  job INTEGER NOT NULL REFERENCES job (number),
  task INTEGER NOT NULL REFERENCES task (id),
  measurements INTEGER NOT NULL,  -- of the job's that the task brings
  PRIMARY KEY (job, task)
) STRICT, WITHOUT ROWID;
INSERT INTO "job_task" VALUES(1,1,6);
INSERT INTO "job_task" VALUES(1,2,6);
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
INSERT INTO "lease" VALUES(1,1,X'77777777777777777777777777777777',X'73737373737373737373737373737373','token-1',1700000011000000,1700000021000000,'committed',7000000,0,'engine-1','cpu',X'0A08656E67696E652D311203637075420D0948AFBC9AF2D77A3E1002181E');
INSERT INTO "lease" VALUES(2,1,X'77777777777777777777777777777777',X'73737373737373737373737373737373','token-1',1700000012000000,1700000022000000,'committed',7000000,0,'engine-1','cpu',X'0A08656E67696E652D311203637075420D0948AFBC9AF2D78A3E1002181E');
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
INSERT INTO "measurement" VALUES(1,1,1,'ok',1.1,1.1,40.25,6,20,18,20,0.0,5,0,NULL,1,1,1700000021000000);
INSERT INTO "measurement" VALUES(2,1,1,'ok',2.1,1.1,40.25,6,20,18,20,0.3,5,0,NULL,1,1,1700000021000000);
INSERT INTO "measurement" VALUES(3,1,1,'ok',3.1,1.1,40.25,6,20,18,20,0.6,5,0,1,1,1,1700000021000000);
INSERT INTO "measurement" VALUES(1,1,2,'ok',1.1,1.1,40.25,6,20,18,20,0.0,5,0,NULL,1,1,1700000021000000);
INSERT INTO "measurement" VALUES(2,1,2,'ok',2.1,1.1,40.25,6,20,18,20,0.3,5,0,NULL,1,1,1700000021000000);
INSERT INTO "measurement" VALUES(3,1,2,'ok',3.1,1.1,40.25,6,20,18,20,0.6,5,0,1,1,1,1700000021000000);
INSERT INTO "measurement" VALUES(1,1,3,'ok',2.1,2.1,40.25,6,20,18,20,0.0,5,0,NULL,2,1,1700000022000000);
INSERT INTO "measurement" VALUES(2,1,3,'ok',3.1,2.1,40.25,6,20,18,20,0.3,5,0,NULL,2,1,1700000022000000);
INSERT INTO "measurement" VALUES(3,1,3,'ok',4.1,2.1,40.25,6,20,18,20,0.6,5,0,1,2,1,1700000022000000);
INSERT INTO "measurement" VALUES(1,1,4,'one_token',NULL,NULL,NULL,0,20,0,20,NULL,NULL,0,NULL,2,1,1700000022000000);
INSERT INTO "measurement" VALUES(2,1,4,'one_token',NULL,NULL,NULL,0,20,0,20,NULL,NULL,0,NULL,2,1,1700000022000000);
INSERT INTO "measurement" VALUES(3,1,4,'one_token',NULL,NULL,NULL,0,20,0,20,NULL,NULL,0,NULL,2,1,1700000022000000);
CREATE TABLE model (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
  name TEXT NOT NULL,
  description BLOB NOT NULL  -- ModelDescription
) STRICT;
INSERT INTO "model" VALUES(X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','tiny',X'0A209372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E418025A0474696E79');
CREATE TABLE noise_floor (
  model BLOB NOT NULL CHECK (length(model) = 32),
  compute TEXT NOT NULL,
  engine TEXT NOT NULL,
  nll_per_token REAL NOT NULL CHECK (nll_per_token >= 0),  -- nats
  documents INTEGER NOT NULL CHECK (documents > 0),
  tokens INTEGER NOT NULL CHECK (tokens > 0),
  PRIMARY KEY (model, compute, engine)
) STRICT, WITHOUT ROWID;
INSERT INTO "noise_floor" VALUES(X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','fp32','engine-1',2.0e-07,4,60);
CREATE TABLE speed (
  model BLOB NOT NULL CHECK (length(model) = 32),
  operation TEXT NOT NULL,
  device TEXT NOT NULL,
  number INTEGER NOT NULL,   -- by age, without gaps
  value REAL NOT NULL CHECK (value > 0),
  PRIMARY KEY (model, operation, device, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "speed" VALUES(X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','','cpu',1,0.5);
INSERT INTO "speed" VALUES(X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','aligned@1','cpu',1,41.0);
INSERT INTO "speed" VALUES(X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','aligned@1','cpu',2,42.0);
INSERT INTO "speed" VALUES(X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4','weights','cpu',1,2000000000.0);
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
INSERT INTO "task" VALUES(1,1,X'943BE81E20336C53DE2C8AB40991839CA3B88BCB4F854F03CDBD69825EB369B6',X'EB203DFCC5E43DBD73FC08CDF471FC1BFD3A5186F74B9E034253717164501E1200000000C2CF1AB94DB43B872F743ACA5219C6D8F409495DEA32F2944A053220A200B27500000000',12.5,'done','',0,0,0,0,1,X'75F3AE1057C197610E33633C630A4E0000DD997F095592BB90CF797202A92B07',NULL,0);
INSERT INTO "task" VALUES(2,1,X'8F0BB9074424C864D7074DC166D7089147B061E4FA275BD2DFCCDD7424A54C3A',X'93E0F2132D229FC39734D25FA6193C096EE4BA246A57299AB06E75932C3377E501000000CE2346C8A7DEFAA3FC4DBDA1B971B21F772FBF7B470BF1D65DB24A213F9B2A2101000000',12.5,'done','',0,0,0,0,1,X'B96B2AE937A0D587B9890DBAD2E7E98D5E9898ED940EC10A7518A14D4FB4B60C',NULL,0);
CREATE TABLE task_group (
  id INTEGER PRIMARY KEY CHECK (id > 0),
  model BLOB NOT NULL REFERENCES model (digest),
  prototype BLOB NOT NULL  -- TaskSpec
) STRICT;
INSERT INTO "task_group" VALUES(1,X'9372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E4',X'22209372C470EEADD5ECD9C3C74C2B3CB633F8E2F2FAD799250A0F70D652B6B825E42A10616C69676E656440313B746F6B3D303030013A2B0A208BA8496A2525AE171FFD104D632DEDE6EF418D9B95962A9D88E2FCDBC8D48D24120266701A03616C6C3A340A20140BEDBF9C3F6D56A9846D2BA7088798683F4DA0C248231336E6A05679E4FDFE120A72746E3A626974733D341A046E6F6E653A320A20929172FAE51E7C4FEDC288349B430C1CA2EE1B35F6A9493F3CA7C83B44786791120A72746E3A626974733D341A024C3042270A03656E6712206D1C06C9E7E9C693F53201ADFF4EAC38D9698CC939A89EFD9A03D5D014CF87E842270A0366726112200B106F6DDB15BFA1336309133D28289DBE01D8C4DC7F67E463E7CECCFAAADB1E');
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
INSERT INTO "worker" VALUES(X'77777777777777777777777777777777',3,'token-1',X'1A04746573743A05626F782D3142050A03637075','box-1',0.0,'open','',0,2,100000000,1700000005000000,1700000006000000);
CREATE INDEX corpus_document_by_document ON corpus_document (document);
CREATE INDEX job_open ON job (number)
  WHERE state NOT IN ('succeeded', 'failed', 'cancelled');
CREATE INDEX job_purged ON job (number) WHERE purged = 1;
CREATE INDEX job_document_by_document ON job_document (job, document);
CREATE INDEX task_by_group ON task (task_group);
CREATE INDEX job_task_by_task ON job_task (task);
CREATE INDEX lease_open ON lease (task) WHERE ended_at_us IS NULL;
CREATE INDEX lease_by_worker ON lease (worker);
CREATE INDEX measurement_skipped ON measurement
  (evaluation, document, configuration) WHERE status <> 'ok';
CREATE INDEX duplicate_by_attempt ON duplicate_result (task, epoch);
CREATE UNIQUE INDEX event_by_job ON event (job, job_seq) WHERE job IS NOT NULL;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'the audit is append-only'); END;
CREATE VIEW measurements_v1 AS
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
LEFT JOIN codes AS q ON q.id = m.codes;
CREATE VIEW job_measurements_v1 AS
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
WHERE j.purged = 0 AND j.state <> 'planning';
CREATE VIEW jobs_v1 AS
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
FROM job AS j WHERE j.purged = 0 AND j.state <> 'planning';
CREATE VIEW tasks_v1 AS
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
    WHERE jt.task = t.id AND j.state <> 'planning'));
CREATE VIEW attempts_v1 AS
SELECT l.task, l.epoch, w.name AS worker, l.end_reason AS outcome,
  l.held_us / 1e6 AS held_seconds, l.load_us / 1e6 AS load_seconds,
  l.held_us / 3.6e9 * w.usd_per_hour AS usd,
  l.end_reason IS 'committed' AS useful, l.device,
  strftime('%Y-%m-%dT%H:%M:%SZ', l.granted_at_us / 1000000, 'unixepoch')
    AS granted_at,
  strftime('%Y-%m-%dT%H:%M:%SZ', l.ended_at_us / 1000000, 'unixepoch')
    AS ended_at
FROM lease AS l JOIN worker AS w ON w.uuid = l.worker;
CREATE VIEW workers_v1 AS
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
  FROM worker AS u) AS l ON l.uuid = w.uuid;
CREATE VIEW events_v1 AS
SELECT e.seq,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.time_us / 1000000.0, 'unixepoch') AS time,
  e.job, e.job_seq, e.task, e.worker, e.kind, e.from_state, e.to_state,
  e.epoch, e.reason
FROM event AS e;
CREATE VIEW audit_v1 AS
SELECT a.seq,
  strftime('%Y-%m-%dT%H:%M:%fZ', a.time_us / 1000000.0, 'unixepoch') AS time,
  a.actor, a.action, a.subject, a.detail, a.count
FROM audit AS a;
COMMIT;
