#ifndef QSWEEP_COORDINATOR_STORE_SQL_H_
#define QSWEEP_COORDINATOR_STORE_SQL_H_

// Every statement on the coordinator's file. Parameters are bound in order;
// tables and their meaning: schema.cc.
namespace qsweep::sql {

inline constexpr const char kBegin[] = "BEGIN IMMEDIATE";
inline constexpr const char kCommit[] = "COMMIT";
inline constexpr const char kRollback[] = "ROLLBACK";

// --- Writes, one group per mutation ---

inline constexpr const char kSetCoordinatorEpoch[] =
    "UPDATE coordinator SET epoch = ?";

inline constexpr const char kAddArtifact[] =
    "INSERT INTO artifact (digest, size, data) VALUES (?1, length(?2), ?2) "
    "ON CONFLICT DO NOTHING";

inline constexpr const char kAddCorpus[] =
    "INSERT INTO corpus (digest, name, body) VALUES (?, ?, ?) "
    "ON CONFLICT DO NOTHING";
inline constexpr const char kSetCorpusName[] =
    "INSERT INTO corpus_name (name, corpus) VALUES (?1, ?2) "
    "ON CONFLICT (name) DO UPDATE SET corpus = ?2";
inline constexpr const char kAddDocument[] =
    "INSERT INTO document (digest) VALUES (?) ON CONFLICT DO NOTHING";
inline constexpr const char kAddCorpusDocument[] =
    "INSERT INTO corpus_document (corpus, language, ordinal, document_id, "
    "document) VALUES (?, ?, ?, ?, (SELECT id FROM document WHERE digest = ?)) "
    "ON CONFLICT DO NOTHING";

inline constexpr const char kAddModel[] =
    "INSERT INTO model (digest, name, description) VALUES (?, ?, ?) "
    "ON CONFLICT DO NOTHING";

inline constexpr const char kAddJob[] =
    "INSERT INTO job (number, uuid, spec_digest, name, kind, owner, labels, "
    "state, reason, corpus, spec, spec_json, plan, documents_skipped, "
    "priority, created_at_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, 'planning', '', ?, ?, ?, ?, ?, ?, ?)";
inline constexpr const char kAddJobModel[] =
    "INSERT INTO job_model (job, ordinal, model) VALUES (?, ?, ?)";
inline constexpr const char kAddConfiguration[] =
    "INSERT INTO configuration (digest, model, quantizer, layer_set, compute, "
    "baseline) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
inline constexpr const char kAddJobConfiguration[] =
    "INSERT INTO job_configuration (job, ordinal, configuration, quantizer, "
    "layer_set, resolved, unprotected, single_layer, overhead_params, "
    "overhead_layers, overhead_kept, overhead_bytes) VALUES (?, ?, (SELECT id "
    "FROM configuration WHERE digest = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?)";
inline constexpr const char kAddEvaluation[] =
    "INSERT INTO evaluation (text) VALUES (?) ON CONFLICT DO NOTHING";
inline constexpr const char kAddJobEvaluation[] =
    "INSERT INTO job_evaluation (job, ordinal, model, eval_index, evaluation) "
    "VALUES (?, ?, ?, ?, (SELECT id FROM evaluation WHERE text = ?))";
inline constexpr const char kAddJobDocument[] =
    "INSERT INTO job_document (job, ordinal, eval_index, language, "
    "document_id, document) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (job, ordinal) DO NOTHING";
inline constexpr const char kSetJobPlan[] =
    "UPDATE job SET plan = ?2, "
    "documents_skipped = ifnull(?3, documents_skipped) WHERE number = ?1";
inline constexpr const char kSetJobState[] =
    "UPDATE job SET state = ?2, reason = ?3, finished_at_us = ?4 "
    "WHERE number = ?1";

// ?2: NULL keeps the plan.
inline constexpr const char kReopenJob[] =
    "UPDATE job SET state = 'planning', reason = '', finished_at_us = NULL, "
    "plan = ifnull(?2, plan) WHERE number = ?1";
// The job is not there any more, and its UUID is free; its rows go later, some
// at a time.
inline constexpr const char kPurgeJob[] =
    "UPDATE job SET purged = 1, uuid = randomblob(16) WHERE number = ?";
inline constexpr const char kFindPurgedJob[] =
    "SELECT number FROM job WHERE purged = 1 LIMIT 1";
inline constexpr const char kPurgeEvents[] =
    "DELETE FROM event WHERE seq IN (SELECT seq FROM event "
    "WHERE job = ?1 LIMIT ?2)";
// Tasks stay for their measurements, out of the way and without documents.
inline constexpr const char kArchiveTasks[] =
    "UPDATE task SET archived = 1, documents = x'' WHERE id IN "
    "(SELECT task FROM job_task WHERE job = ?1 ORDER BY task LIMIT ?2) "
    "AND NOT EXISTS (SELECT 1 FROM job_task AS other JOIN job AS j "
    "ON j.number = other.job WHERE other.task = task.id "
    "AND other.job <> ?1 AND j.purged = 0)";
inline constexpr const char kPurgeJobTasks[] =
    "DELETE FROM job_task WHERE job = ?1 AND task IN "
    "(SELECT task FROM job_task WHERE job = ?1 ORDER BY task LIMIT ?2)";
inline constexpr const char kPurgeJobDocuments[] =
    "DELETE FROM job_document WHERE job = ?1 AND ordinal IN "
    "(SELECT ordinal FROM job_document WHERE job = ?1 LIMIT ?2)";
inline constexpr const char kPurgeJobConfigurations[] =
    "DELETE FROM job_configuration WHERE job = ?1 AND ordinal IN "
    "(SELECT ordinal FROM job_configuration WHERE job = ?1 LIMIT ?2)";
inline constexpr const char kPurgeJobEvaluations[] =
    "DELETE FROM job_evaluation WHERE job = ?1";
inline constexpr const char kPurgeJobModels[] =
    "DELETE FROM job_model WHERE job = ?1";
inline constexpr const char kDeleteJob[] = "DELETE FROM job WHERE number = ?1";
inline constexpr const char kSetJobPriority[] =
    "UPDATE job SET priority = ?2 WHERE number = ?1";

inline constexpr const char kAddTaskGroup[] =
    "INSERT INTO task_group (id, model, prototype) VALUES (?, ?, ?)";
inline constexpr const char kAddTask[] =
    "INSERT INTO task (id, task_group, content_key, documents, "
    "estimated_seconds, audit_of, state) VALUES (?, ?, ?, ?, ?, ?, 'ready')";
inline constexpr const char kAddJobTask[] =
    "INSERT INTO job_task (job, task, measurements) VALUES (?1, ?2, ?3) "
    "ON CONFLICT (job, task) DO UPDATE SET measurements = measurements + ?3";
inline constexpr const char kRemoveJobTask[] =
    "DELETE FROM job_task WHERE job = ? AND task = ?";

inline constexpr const char kAddLease[] =
    "INSERT INTO lease (task, epoch, worker, session, credential, "
    "granted_at_us) VALUES (?, ?, ?, ?, ?, ?)";
inline constexpr const char kSetTaskLeased[] =
    "UPDATE task SET state = 'leased', reason = '' WHERE id = ?";
inline constexpr const char kEndLease[] =
    "UPDATE lease SET ended_at_us = ?3, end_reason = ?4, held_us = ?5 "
    "WHERE task = ?1 AND epoch = ?2 AND ended_at_us IS NULL";
inline constexpr const char kChargeTask[] =
    "UPDATE task SET state = ?2, reason = ?3, backoff_us = ?4, "
    "failed = failed + ?5, lost = lost + ?6, preempted = preempted + ?7 "
    "WHERE id = ?1";
// ?4: 1 with new budgets.
inline constexpr const char kMoveTask[] =
    "UPDATE task SET state = ?2, reason = ?3, backoff_us = 0, "
    "failed = iif(?4, 0, failed), lost = iif(?4, 0, lost), "
    "preempted = iif(?4, 0, preempted) WHERE id = ?1";

inline constexpr const char kForgetTask[] =
    "UPDATE task SET archived = 1, documents = x'' WHERE id = ?";

inline constexpr const char kAddSpeed[] =
    "INSERT INTO speed (model, operation, device, number, value) VALUES "
    "(?1, ?2, ?3, (SELECT ifnull(max(number), 0) + 1 FROM speed "
    "WHERE model = ?1 AND operation = ?2 AND device = ?3), ?4)";
// All but the newest ?4.
inline constexpr const char kDropSpeeds[] =
    "DELETE FROM speed WHERE model = ?1 AND operation = ?2 AND device = ?3 "
    "AND number <= (SELECT max(number) FROM speed "
    "WHERE model = ?1 AND operation = ?2 AND device = ?3) - ?4";

inline constexpr const char kAddNoise[] =
    "INSERT INTO noise_floor (model, compute, engine, nll_per_token, "
    "documents, tokens) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "nll_per_token = max(nll_per_token, excluded.nll_per_token), "
    "documents = documents + excluded.documents, "
    "tokens = tokens + excluded.tokens";

inline constexpr const char kAddMeasurement[] =
    "INSERT INTO measurement (configuration, evaluation, document, status, "
    "nll_sum, nll_fp_sum, unigram_nll_sum, tokens, bytes, bytes_scored, chars, "
    "kl_sum, top1, nonfinite, codes, task, epoch, created_at_us) VALUES "
    "(?1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
    "(SELECT id FROM codes WHERE configuration = ?1 AND digest = ?15), "
    "?, ?, ?)";
inline constexpr const char kAddCodes[] =
    "INSERT INTO codes (configuration, digest) VALUES (?, ?) "
    "ON CONFLICT DO NOTHING";
inline constexpr const char kSetTaskDone[] =
    "UPDATE task SET state = 'done', reason = '', backoff_us = 0, "
    "result_epoch = ?2, result_digest = ?3 WHERE id = ?1";
inline constexpr const char kSetJobSkipped[] =
    "UPDATE job SET documents_skipped = ?2 WHERE number = ?1";
// The attempt that brought the rows; it may have ended as lost before.
inline constexpr const char kSetLeaseCommitted[] =
    "UPDATE lease SET ended_at_us = ?3, end_reason = 'committed', "
    "engine = ?4, device = ?5, report = ?6, held_us = ifnull(held_us, ?7), "
    "load_us = min(?8, ifnull(held_us, ?7)) WHERE task = ?1 AND epoch = ?2";
inline constexpr const char kSupersedeOpenLease[] =
    "UPDATE lease SET ended_at_us = ?2, end_reason = 'superseded', "
    "held_us = ?3 "
    "WHERE task = ?1 AND ended_at_us IS NULL";
inline constexpr const char kCountWorkerTask[] =
    "UPDATE worker SET tasks_done = tasks_done + 1, blamed = blamed - "
    "(blamed > 0 AND (tasks_done + 1) % ?2 = 0) WHERE uuid = ?1";

inline constexpr const char kAddDuplicate[] =
    "INSERT INTO duplicate_result (task, epoch, payload_digest, evaluation, "
    "compared, differing, engine, worker, created_at_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id";
inline constexpr const char kAddDuplicateRow[] =
    "INSERT INTO duplicate_row (duplicate, ordinal, configuration, document, "
    "row) VALUES (?, ?, ?, ?, ?)";

inline constexpr const char kAddEvent[] =
    "INSERT INTO event (seq, time_us, job, job_seq, task, worker, kind, "
    "from_state, to_state, epoch, reason) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

inline constexpr const char kAddWorker[] =
    "INSERT INTO worker (uuid, boot_seq, credential, hello, name, "
    "usd_per_hour, first_seen_us, last_seen_us) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) "
    "ON CONFLICT (uuid) DO UPDATE SET boot_seq = ?2, credential = ?3, "
    "hello = ?4, name = ?5, usd_per_hour = ?6, last_seen_us = ?7";
// Blames are forgotten when the worker is open again.
inline constexpr const char kSetWorkerMode[] =
    "UPDATE worker SET mode = ?2, mode_reason = ?3, "
    "blamed = iif(?2 = 'open', 0, blamed) WHERE uuid = ?1";
inline constexpr const char kAddWorkerTime[] =
    "UPDATE worker SET attached_us = attached_us + ?2, last_seen_us = ?3 "
    "WHERE uuid = ?1";
inline constexpr const char kForgetWorker[] =
    "DELETE FROM worker WHERE uuid = ?";
inline constexpr const char kUnusedWorkers[] =
    "SELECT uuid FROM worker AS w WHERE NOT EXISTS "
    "(SELECT 1 FROM lease WHERE worker = w.uuid) AND uuid NOT IN "
    "(SELECT worker FROM duplicate_result) ORDER BY uuid";
inline constexpr const char kBlameWorker[] =
    "UPDATE worker SET blamed = blamed + 1 WHERE uuid = ?";

inline constexpr const char kAddToken[] =
    "INSERT INTO token (id, secret_sha256, kind, role, name, reusable, "
    "lifetime_us, joined_with, created_by, created_at_us, expires_at_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
inline constexpr const char kRotateToken[] =
    "UPDATE token SET secret_sha256 = ?2 WHERE id = ?1";
inline constexpr const char kRevokeToken[] =
    "UPDATE token SET revoked_at_us = ?2 WHERE id = ?1";
inline constexpr const char kAddAudit[] =
    "INSERT INTO audit (time_us, actor, action, subject, detail, count) "
    "VALUES (?, ?, ?, ?, ?, ?)";

// --- Load ---

inline constexpr const char kReadCoordinatorEpoch[] =
    "SELECT epoch FROM coordinator";
inline constexpr const char kReadLastGroup[] =
    "SELECT ifnull(max(id), 0) FROM task_group";
inline constexpr const char kReadLastTask[] =
    "SELECT ifnull(max(id), 0) FROM task";
inline constexpr const char kReadLastEvent[] =
    "SELECT ifnull(max(seq), 0) FROM event";
inline constexpr const char kReadJobs[] =
    "SELECT number, uuid, spec_digest, owner, state, reason, spec, plan, "
    "documents_skipped, priority, created_at_us, finished_at_us, "
    "(SELECT ifnull(max(e.job_seq), 0) FROM event AS e WHERE e.job = number) "
    "FROM job WHERE purged = 0 ORDER BY number";
// Tasks of jobs that are being purged: with no other job they are not there.
inline constexpr const char kReadPurgedTasks[] =
    "SELECT jt.task FROM job AS j JOIN job_task AS jt ON jt.job = j.number "
    "WHERE j.purged = 1";
inline constexpr const char kReadJobTasks[] =
    "SELECT jt.job, jt.task, jt.measurements FROM job AS j "
    "JOIN job_task AS jt ON jt.job = j.number WHERE j.purged = 0 "
    "ORDER BY jt.job, jt.task";
inline constexpr const char kReadGroups[] =
    "SELECT g.id, g.prototype FROM task_group AS g WHERE EXISTS "
    "(SELECT 1 FROM task AS t WHERE t.task_group = g.id AND t.archived = 0) "
    "OR NOT EXISTS (SELECT 1 FROM task AS t WHERE t.task_group = g.id) "
    "ORDER BY g.id";
inline constexpr const char kReadTasks[] =
    "SELECT id, task_group, content_key, documents, estimated_seconds, state, "
    "reason, failed, lost, preempted, backoff_us, "
    "result_epoch, result_digest, audit_of FROM task WHERE archived = 0 ORDER "
    "BY id";
inline constexpr const char kReadLeases[] =
    "SELECT task, epoch, worker, session, credential, end_reason FROM lease "
    "ORDER BY task, epoch";
inline constexpr const char kReadWorkers[] =
    "SELECT uuid, boot_seq, credential, hello, mode, mode_reason, blamed, "
    "tasks_done, last_seen_us, attached_us FROM worker ORDER BY uuid";
inline constexpr const char kReadSpeeds[] =
    "SELECT model, operation, device, value FROM speed "
    "ORDER BY model, operation, device, number";
inline constexpr const char kReadCorpusNames[] =
    "SELECT name, corpus FROM corpus_name ORDER BY name";
inline constexpr const char kReadModelDigests[] =
    "SELECT digest FROM model ORDER BY digest";

inline constexpr const char kReadTokens[] =
    "SELECT id, secret_sha256, kind, role, name, reusable, lifetime_us, "
    "joined_with, created_by, created_at_us, expires_at_us, revoked_at_us "
    "FROM token ORDER BY id";

// --- Reads of the loop ---

inline constexpr const char kReadDocumentId[] =
    "SELECT id FROM document WHERE digest = ?";
inline constexpr const char kReadDocumentDigest[] =
    "SELECT digest FROM document WHERE id = ?";
inline constexpr const char kReadConfigurationId[] =
    "SELECT id FROM configuration WHERE digest = ?";
inline constexpr const char kReadEvaluationId[] =
    "SELECT id FROM evaluation WHERE text = ?";
// Whether any of these documents has a row under the evaluation.
inline constexpr const char kHasRows[] =
    "SELECT 1 FROM measurement WHERE evaluation = ? AND document BETWEEN ? "
    "AND ? LIMIT 1";
// The rows of one document and some configurations, ascending, in two shapes.
inline constexpr const char kReadStatuses[] =
    "SELECT configuration, status FROM measurement WHERE evaluation = ? AND "
    "document = ? AND configuration BETWEEN ? AND ?";
inline constexpr const char kReadMeasurements[] =
    "SELECT m.configuration, l.engine, l.device, m.status, m.nll_sum, "
    "m.nll_fp_sum, m.unigram_nll_sum, m.tokens, m.bytes, m.bytes_scored, "
    "m.chars, m.kl_sum, m.top1, m.nonfinite, q.digest "
    "FROM measurement AS m "
    "CROSS JOIN lease AS l ON l.task = m.task AND l.epoch = m.epoch "
    "LEFT JOIN codes AS q ON q.id = m.codes "
    "WHERE m.evaluation = ? AND m.document = ? AND "
    "m.configuration BETWEEN ? AND ?";
inline constexpr const char kReadCodes[] =
    "SELECT digest FROM codes WHERE configuration = ?";
// (evaluation, document) of the job with a row that is not OK; only documents
// with such a row, of whatever job, cost more than one look at an index.
inline constexpr const char kReadSkipped[] =
    "SELECT DISTINCT je.evaluation, jd.document FROM job_evaluation AS je "
    "JOIN job_document AS jd ON jd.job = je.job "
    "AND jd.eval_index = je.eval_index "
    "WHERE je.job = ?1 AND EXISTS (SELECT 1 FROM measurement AS m "
    "JOIN configuration AS c ON c.id = m.configuration "
    "AND c.model = je.model "
    "JOIN job_configuration AS jc ON jc.job = ?1 "
    "AND jc.configuration = m.configuration "
    "WHERE m.evaluation = je.evaluation AND m.document = jd.document "
    "AND m.status <> 'ok')";
// Whether the job has such a row of this evaluation and document.
inline constexpr const char kHasSkipped[] =
    "SELECT 1 FROM measurement AS m "
    "JOIN job_configuration AS jc ON jc.job = ?1 "
    "AND jc.configuration = m.configuration "
    "JOIN configuration AS c ON c.id = m.configuration "
    "JOIN job_evaluation AS je ON je.job = ?1 AND je.model = c.model "
    "AND je.evaluation = ?2 "
    "WHERE m.evaluation = ?2 AND m.document = ?3 AND m.status <> 'ok' LIMIT 1";
// Whether a job has the key of a measurement: a configuration, the text of an
// evaluation, a document.
inline constexpr const char kFindJobKey[] =
    "SELECT je.evaluation, jd.document FROM configuration AS c "
    "JOIN job_configuration AS jc ON jc.job = ?1 AND jc.configuration = c.id "
    "JOIN evaluation AS e ON e.text = ?3 "
    "JOIN job_evaluation AS je ON je.job = ?1 AND je.model = c.model "
    "AND je.evaluation = e.id "
    "JOIN document AS d ON d.digest = ?4 "
    "JOIN job_document AS jd ON jd.job = ?1 "
    "AND jd.eval_index = je.eval_index AND jd.document = d.id "
    "WHERE c.digest = ?2 LIMIT 1";
inline constexpr const char kReadTaskSpec[] =
    "SELECT g.prototype, t.content_key, t.documents, t.estimated_seconds "
    "FROM task AS t JOIN task_group AS g ON g.id = t.task_group "
    "WHERE t.id = ?";
inline constexpr const char kReadJob[] =
    "SELECT spec, plan, corpus FROM job WHERE number = ?";
inline constexpr const char kReadJobModels[] =
    "SELECT model FROM job_model WHERE job = ? ORDER BY ordinal";
inline constexpr const char kReadJobLanguages[] =
    "SELECT language FROM job_document WHERE job = ? "
    "GROUP BY language ORDER BY min(ordinal)";
inline constexpr const char kReadModel[] =
    "SELECT description FROM model WHERE digest = ?";
inline constexpr const char kReadCorpus[] =
    "SELECT body FROM corpus WHERE digest = ?";
// By the job's own numbers, which have an index and grow as `seq` does: else
// each page would look at all events of the job. ?2 is mostly one of them.
inline constexpr const char kReadEvents[] =
    "SELECT seq, time_us, job_seq, task, worker, kind, from_state, to_state, "
    "epoch, reason FROM event WHERE job = ?1 AND job_seq > "
    "CASE WHEN ?2 = 0 THEN 0 ELSE coalesce("
    "(SELECT job_seq FROM event WHERE seq = ?2 AND job = ?1), "
    "(SELECT job_seq FROM event WHERE job = ?1 AND seq <= ?2 "
    "ORDER BY job_seq DESC LIMIT 1), 0) END ORDER BY job_seq LIMIT ?3";
inline constexpr const char kHasDuplicate[] =
    "SELECT 1 FROM duplicate_result "
    "WHERE task = ? AND epoch = ? AND payload_digest = ?";
inline constexpr const char kHasArtifact[] =
    "SELECT 1 FROM artifact WHERE digest = ?";

// --- Reads of the reader threads ---

inline constexpr const char kReadArtifact[] =
    "SELECT size, substr(data, ?2 + 1, ?3) FROM artifact WHERE digest = ?1";

// The corpus of a name, or of a digest.
inline constexpr const char kReadNamedCorpus[] =
    "SELECT body FROM corpus WHERE digest = ifnull((SELECT corpus FROM "
    "corpus_name WHERE name = ?1), ?2)";

// Which configurations a job has, in the order of the export.
inline constexpr const char kExportConfigurations[] =
    "SELECT jc.configuration FROM job_configuration AS jc "
    "JOIN configuration AS c ON c.id = jc.configuration WHERE jc.job = ? "
    "ORDER BY c.model, c.digest";
// The documents of a job's configuration in identity order, after one, a page
// of them: the columns of the measurement export, NULL without a row, and the
// document's ordinal. First which documents: only theirs is looked up.
inline constexpr const char kExportMeasurements[] =
    "SELECT lower(hex(c.model)), lower(hex(c.digest)), jc.resolved, "
    "jc.quantizer, c.compute, p.text, k.name, p.language, p.document_id, "
    "lower(hex(d.digest)), l.engine, l.device, m.task, m.epoch, w.name, "
    "m.created_at_us, m.status, m.nll_sum, m.nll_fp_sum, m.unigram_nll_sum, "
    "m.tokens, m.bytes, m.bytes_scored, m.chars, m.kl_sum, m.top1, "
    "m.nonfinite, p.ordinal "
    "FROM (SELECT e.text AS text, je.evaluation AS evaluation, "
    "jd.language AS language, jd.document_id AS document_id, "
    "jd.document AS document, jd.ordinal AS ordinal "
    "FROM configuration AS c "
    "CROSS JOIN job_evaluation AS je ON je.job = ?1 AND je.model = c.model "
    "CROSS JOIN evaluation AS e ON e.id = je.evaluation "
    "CROSS JOIN job_document AS jd ON jd.job = ?1 "
    "AND jd.eval_index = je.eval_index WHERE c.id = ?2 "
    "AND (e.text, jd.language, jd.document_id, jd.ordinal) > (?3, ?4, ?5, ?6) "
    "ORDER BY e.text, jd.language, jd.document_id, jd.ordinal LIMIT ?7) AS p "
    "JOIN job AS j ON j.number = ?1 "
    "JOIN corpus AS k ON k.digest = j.corpus "
    "JOIN configuration AS c ON c.id = ?2 "
    "JOIN job_configuration AS jc ON jc.job = j.number "
    "AND jc.configuration = c.id "
    "JOIN document AS d ON d.id = p.document "
    "LEFT JOIN measurement AS m ON m.configuration = c.id "
    "AND m.evaluation = p.evaluation AND m.document = p.document "
    "LEFT JOIN lease AS l ON l.task = m.task AND l.epoch = m.epoch "
    "LEFT JOIN worker AS w ON w.uuid = l.worker "
    "ORDER BY p.text, p.language, p.document_id, p.ordinal";

inline constexpr const char kReadJobHead[] =
    "SELECT j.spec, k.body, j.plan FROM job AS j JOIN corpus AS k "
    "ON k.digest = j.corpus WHERE j.number = ? AND j.purged = 0";
inline constexpr const char kReadJobModelDescriptions[] =
    "SELECT m.description FROM job_model AS jm JOIN model AS m "
    "ON m.digest = jm.model WHERE jm.job = ? ORDER BY jm.ordinal";
// Of any engine: its rows may be among the job's. 0: not measured.
inline constexpr const char kReadJobNoise[] =
    "SELECT ifnull((SELECT max(n.nll_per_token) FROM noise_floor AS n "
    "WHERE n.model = jm.model AND n.compute = ?2), 0) "
    "FROM job_model AS jm WHERE jm.job = ?1 ORDER BY jm.ordinal";
inline constexpr const char kReadJobConfigurations[] =
    "SELECT jc.ordinal, jm.ordinal, c.digest, jc.quantizer, jc.layer_set, "
    "jc.resolved, c.baseline, jc.unprotected, jc.single_layer, "
    "jc.overhead_params, jc.overhead_layers, jc.overhead_kept, "
    "jc.overhead_bytes "
    "FROM job_configuration AS jc "
    "JOIN configuration AS c ON c.id = jc.configuration "
    "JOIN job_model AS jm ON jm.job = jc.job AND jm.model = c.model "
    "WHERE jc.job = ? ORDER BY jc.ordinal";
inline constexpr const char kReadJobEvaluations[] =
    "SELECT je.ordinal, jm.ordinal, je.eval_index, e.text "
    "FROM job_evaluation AS je "
    "JOIN evaluation AS e ON e.id = je.evaluation "
    "JOIN job_model AS jm ON jm.job = je.job AND jm.model = je.model "
    "WHERE je.job = ? ORDER BY je.ordinal";
inline constexpr const char kReadJobDocuments[] =
    "SELECT jd.ordinal, jd.eval_index, jd.language, jd.document_id, d.digest "
    "FROM job_document AS jd JOIN document AS d ON d.id = jd.document "
    "WHERE jd.job = ? ORDER BY jd.ordinal";
// Positions count from 0 in the three lists above. Of the documents from ?2 to
// below ?3, in the order of the table, so that no page is read twice.
inline constexpr const char kReadJobRows[] =
    "SELECT jc.ordinal, je.ordinal, jd.ordinal, m.status, m.nll_sum, "
    "m.nll_fp_sum, m.unigram_nll_sum, m.tokens, m.bytes, m.bytes_scored, "
    "m.chars, m.kl_sum, m.top1, m.nonfinite "
    "FROM job_evaluation AS je "
    "CROSS JOIN job_document AS jd ON jd.job = je.job "
    "AND jd.eval_index = je.eval_index "
    "AND jd.ordinal >= ?2 AND jd.ordinal < ?3 "
    "CROSS JOIN job_configuration AS jc ON jc.job = je.job "
    "CROSS JOIN configuration AS c ON c.id = jc.configuration "
    "AND c.model = je.model "
    "CROSS JOIN measurement AS m ON m.evaluation = je.evaluation "
    "AND m.document = jd.document AND m.configuration = jc.configuration "
    "WHERE je.job = ?1";

inline constexpr const char kHasJob[] =
    "SELECT 1 FROM job WHERE number = ? AND purged = 0";
inline constexpr const char kReadJobNumbers[] =
    "SELECT number FROM job WHERE purged = 0 ORDER BY number";

// --- The analysis cache, a file of its own ---

inline constexpr const char kFindResults[] =
    "SELECT response FROM result_set WHERE job = ? AND key = ?";
inline constexpr const char kHasResults[] =
    "SELECT 1 FROM result_set WHERE job = ?";
inline constexpr const char kSaveResults[] =
    "INSERT INTO result_set (job, key, response) VALUES (?1, ?2, ?3) "
    "ON CONFLICT (job) DO UPDATE SET key = ?2, response = ?3";
inline constexpr const char kDropResultRows[] =
    "DELETE FROM result WHERE job = ?";
inline constexpr const char kDropResults[] =
    "DELETE FROM result_set WHERE job = ?";
inline constexpr const char kCountUsedBytes[] =
    "SELECT (page_count - freelist_count) * page_size "
    "FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
inline constexpr const char kListResults[] = "SELECT job FROM result_set";
inline constexpr const char kAddResultRow[] =
    "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
    "?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
// For readers: the schema name of kResultsView.
inline constexpr const char kAttachAnalysis[] = "ATTACH ? AS analysis";

}  // namespace qsweep::sql

#endif  // QSWEEP_COORDINATOR_STORE_SQL_H_
