#ifndef QSWEEP_COMMON_BASE_ERROR_CODES_H_
#define QSWEEP_COMMON_BASE_ERROR_CODES_H_

#include "common/base/error.h"

namespace qsweep {

// The registry: QS1 specs and selectors, QS2 languages and corpora, QS3 models
// and tokenizers, QS4 coordinator, store, query, QS5 worker, engine, device,
// QS6 access, QS7 files, QS9 defects.
inline constexpr ErrorCode kUnknownField = {
    "QS1001", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The spec has a field that does not exist."};
inline constexpr ErrorCode kMalformedDocument = {
    "QS1002", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The YAML, JSON or text cannot be parsed."};
inline constexpr ErrorCode kMissingField = {
    "QS1003", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A field the job needs is missing."};
inline constexpr ErrorCode kBadValue = {
    "QS1004", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A field has a value of the wrong type or outside its range."};
inline constexpr ErrorCode kDuplicateField = {
    "QS1005", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A field is given twice."};
inline constexpr ErrorCode kBadSelector = {
    "QS1010", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A layer set does not follow the selector grammar."};
inline constexpr ErrorCode kLayerOutOfRange = {
    "QS1011", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A layer set names a layer the model does not have."};
inline constexpr ErrorCode kUnknownComponent = {
    "QS1012", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A layer set names a component the model does not have."};
inline constexpr ErrorCode kKeptOfCalibrated = {
    "QS1013", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A layer set keeps the largest weights of a calibrated quantizer."};
inline constexpr ErrorCode kUnknownMethod = {
    "QS1020", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The quantizer method does not exist or this build does not have it."};
inline constexpr ErrorCode kUnknownQuantizerParameter = {
    "QS1021", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The quantizer has no such parameter."};
inline constexpr ErrorCode kUnsupportedBits = {
    "QS1042", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The quantizer does not support this number of bits."};
inline constexpr ErrorCode kBadGroup = {
    "QS1043", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The group size is not valid for this quantizer or model."};
inline constexpr ErrorCode kNothingToQuantize = {
    "QS1050", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "No tensor of the model is in the quantizer's scope."};
inline constexpr ErrorCode kExpandsTooFar = {
    "QS1051", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The spec expands to more than a job may have: configurations, "
    "measurements, tasks or texts to calibrate on."};
inline constexpr ErrorCode kUnknownEvaluation = {
    "QS1052", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The evaluation does not exist."};
inline constexpr ErrorCode kUnsupportedKind = {
    "QS1053", absl::StatusCode::kUnimplemented, ExitCode::kUsage,
    "This version cannot run jobs of this kind."};
inline constexpr ErrorCode kBadCommandLine = {
    "QS1060", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The command line has an unknown command or flag, or lacks an argument."};
inline constexpr ErrorCode kUnknownTopic = {
    "QS1061", absl::StatusCode::kNotFound, ExitCode::kNotFound,
    "There is no help topic or error code of this name."};
inline constexpr ErrorCode kUnknownLanguage = {
    "QS2101", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The corpus has no such language."};
inline constexpr ErrorCode kAmbiguousLanguage = {
    "QS2103", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The language name fits several languages of the corpus."};
inline constexpr ErrorCode kNoDocuments = {
    "QS2107", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "No documents are left to evaluate."};
inline constexpr ErrorCode kEmptyDocument = {
    "QS2110", absl::StatusCode::kInvalidArgument, ExitCode::kPartial,
    "A document has no text; it is skipped."};
inline constexpr ErrorCode kOneTokenDocument = {
    "QS2111", absl::StatusCode::kInvalidArgument, ExitCode::kPartial,
    "A document has only one token, so nothing can be predicted; it is "
    "skipped."};
inline constexpr ErrorCode kDocumentTooLong = {
    "QS2112", absl::StatusCode::kInvalidArgument, ExitCode::kPartial,
    "A document is longer than the model's context or the evaluation's limit; "
    "it is skipped."};
inline constexpr ErrorCode kUnknownCorpus = {
    "QS2113", absl::StatusCode::kNotFound, ExitCode::kNotFound,
    "The coordinator has no corpus of this name or digest."};
inline constexpr ErrorCode kUnreadableCorpus = {
    "QS2114", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The corpus file or folder cannot be read."};
inline constexpr ErrorCode kDuplicateDocument = {
    "QS2115", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A language has two documents with the same id."};
inline constexpr ErrorCode kCalibrationTooShort = {
    "QS2116", absl::StatusCode::kInvalidArgument, ExitCode::kFailed,
    "The calibration texts have too few tokens for the model."};
inline constexpr ErrorCode kModelNotFound = {
    "QS3001", absl::StatusCode::kNotFound, ExitCode::kNotFound,
    "The model's directory or file does not exist, or holds no model."};
inline constexpr ErrorCode kTruncatedModel = {
    "QS3002", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "A model file is shorter than its header says."};
inline constexpr ErrorCode kCorruptModel = {
    "QS3003", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "A model file's header is damaged."};
inline constexpr ErrorCode kUnsupportedArchitecture = {
    "QS3004", absl::StatusCode::kUnimplemented, ExitCode::kFailed,
    "The model's architecture is not supported."};
inline constexpr ErrorCode kUnsupportedTokenizer = {
    "QS3005", absl::StatusCode::kUnimplemented, ExitCode::kFailed,
    "The tokenizer uses a part that is not supported."};
inline constexpr ErrorCode kNoRopeBase = {
    "QS3006", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "The model's configuration does not say the base of its rotary embedding."};
inline constexpr ErrorCode kNonFiniteWeights = {
    "QS3007", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "A weight tensor holds NaN or infinity."};
inline constexpr ErrorCode kMissingTensor = {
    "QS3008", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "The model lacks a tensor its architecture needs."};
inline constexpr ErrorCode kUnsupportedTensorType = {
    "QS3009", absl::StatusCode::kUnimplemented, ExitCode::kFailed,
    "A tensor is stored in a type that is not supported."};
inline constexpr ErrorCode kModelDigestMismatch = {
    "QS3010", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The model on the worker is not the one the job was submitted with."};
inline constexpr ErrorCode kBadModelConfig = {
    "QS3011", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "The model's configuration file is missing a value or has a wrong one."};
inline constexpr ErrorCode kTensorShapeMismatch = {
    "QS3012", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "A tensor's shape disagrees with the model's configuration."};
inline constexpr ErrorCode kCheckpointDiffers = {
    "QS3013", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "A ready checkpoint is not of the model whose weights it is to replace."};
inline constexpr ErrorCode kUnreachable = {
    "QS4001", absl::StatusCode::kUnavailable, ExitCode::kUnreachable,
    "The coordinator does not answer."};
inline constexpr ErrorCode kPortInUse = {
    "QS4002", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "Another program listens on the address."};
inline constexpr ErrorCode kDirectoryInUse = {
    "QS4003", absl::StatusCode::kFailedPrecondition, ExitCode::kConflict,
    "Another coordinator or worker runs on this directory."};
inline constexpr ErrorCode kDiskFull = {
    "QS4004", absl::StatusCode::kResourceExhausted, ExitCode::kFailed,
    "The coordinator's disk is full."};
inline constexpr ErrorCode kNewerDatabase = {
    "QS4005", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The database was written by a newer version."};
inline constexpr ErrorCode kDamagedDatabase = {
    "QS4006", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "The database is damaged or is not one of qsweep's."};
inline constexpr ErrorCode kNoBackup = {"QS4007", absl::StatusCode::kNotFound,
                                        ExitCode::kNotFound,
                                        "There is no such backup."};
inline constexpr ErrorCode kNotASelect = {
    "QS4010", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "A query must be one SELECT over the documented views."};
inline constexpr ErrorCode kQueryLimit = {
    "QS4011", absl::StatusCode::kDeadlineExceeded, ExitCode::kFailed,
    "The query took longer or returned more than allowed."};
inline constexpr ErrorCode kQueryError = {
    "QS4012", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "SQLite refused the query."};
inline constexpr ErrorCode kJobNotFound = {
    "QS4020", absl::StatusCode::kNotFound, ExitCode::kNotFound,
    "No job matches the selector."};
inline constexpr ErrorCode kTaskNotFound = {
    "QS4021", absl::StatusCode::kNotFound, ExitCode::kNotFound,
    "There is no such task."};
inline constexpr ErrorCode kJobConflict = {
    "QS4022", absl::StatusCode::kAlreadyExists, ExitCode::kConflict,
    "A job with this UUID exists with another spec."};
inline constexpr ErrorCode kWrongState = {
    "QS4023", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The job or task is not in a state that allows this."};
inline constexpr ErrorCode kAmbiguousJob = {
    "QS4024", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The selector fits several jobs."};
inline constexpr ErrorCode kWorkerNotFound = {
    "QS4026", absl::StatusCode::kNotFound, ExitCode::kNotFound,
    "No worker matches the selector."};
inline constexpr ErrorCode kAmbiguousWorker = {
    "QS4027", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The selector fits several workers."};
inline constexpr ErrorCode kNeverFits = {
    "QS4030", absl::StatusCode::kFailedPrecondition, ExitCode::kNeverFits,
    "No worker can ever run this task."};
inline constexpr ErrorCode kOverloaded = {
    "QS4040", absl::StatusCode::kResourceExhausted, ExitCode::kFailed,
    "The coordinator has too much queued; try again later."};
inline constexpr ErrorCode kArtifactNotFound = {
    "QS4041", absl::StatusCode::kNotFound, ExitCode::kFailed,
    "The coordinator does not have the artifact."};
inline constexpr ErrorCode kArtifactMismatch = {
    "QS4042", absl::StatusCode::kInvalidArgument, ExitCode::kFailed,
    "The bytes received do not have the digest announced."};
inline constexpr ErrorCode kMeasurementsMissing = {
    "QS4043", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The job asked to run nothing, but measurements are missing."};
inline constexpr ErrorCode kWaitTimeout = {
    "QS4044", absl::StatusCode::kDeadlineExceeded, ExitCode::kTimeout,
    "The job did not end in the time given; it goes on."};
inline constexpr ErrorCode kResultsPending = {
    "QS4045", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "Results of a job that has just ended are still being computed."};
inline constexpr ErrorCode kResultsTimeout = {
    "QS4046", absl::StatusCode::kDeadlineExceeded, ExitCode::kTimeout,
    "The results did not come in the time given."};
inline constexpr ErrorCode kClusterStart = {
    "QS4050", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "A process of the local cluster did not start."};
inline constexpr ErrorCode kClusterStop = {
    "QS4051", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "A process of the local cluster did not stop."};
inline constexpr ErrorCode kEngineMissing = {
    "QS5001", absl::StatusCode::kNotFound, ExitCode::kFailed,
    "The engine program cannot be started."};
inline constexpr ErrorCode kEngineDied = {
    "QS5002", absl::StatusCode::kUnavailable, ExitCode::kFailed,
    "The engine ended in the middle of a task."};
inline constexpr ErrorCode kEngineStalled = {
    "QS5003", absl::StatusCode::kUnavailable, ExitCode::kFailed,
    "The engine made no progress for too long."};
inline constexpr ErrorCode kSpoolDamaged = {
    "QS5004", absl::StatusCode::kDataLoss, ExitCode::kFailed,
    "A record of the result spool is damaged and was set aside."};
inline constexpr ErrorCode kSelfCheckFailed = {
    "QS5005", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The engine's start-up check found that results would not be "
    "reproducible."};
inline constexpr ErrorCode kOutOfMemory = {
    "QS5006", absl::StatusCode::kResourceExhausted, ExitCode::kFailed,
    "The device does not have enough memory."};
inline constexpr ErrorCode kStaleResult = {
    "QS5007", absl::StatusCode::kAborted, ExitCode::kFailed,
    "The result is not wanted any more."};
inline constexpr ErrorCode kBadResult = {
    "QS5008", absl::StatusCode::kInvalidArgument, ExitCode::kFailed,
    "A result does not fit the task it was sent for."};
inline constexpr ErrorCode kSpoolFull = {
    "QS5009", absl::StatusCode::kResourceExhausted, ExitCode::kFailed,
    "The worker's result spool has no room."};
inline constexpr ErrorCode kWorkerSuperseded = {
    "QS5010", absl::StatusCode::kAborted, ExitCode::kFailed,
    "A newer process or session has this worker's identity."};
inline constexpr ErrorCode kUnknownSession = {
    "QS5011", absl::StatusCode::kNotFound, ExitCode::kFailed,
    "The coordinator does not know the session; the worker attaches again."};
inline constexpr ErrorCode kSingularHessian = {
    "QS5012", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The inputs of a layer do not determine how its weights are to be "
    "quantized."};
inline constexpr ErrorCode kDeviceFailed = {
    "QS5013", absl::StatusCode::kInternal, ExitCode::kFailed,
    "The GPU reported an error."};
inline constexpr ErrorCode kNoDevice = {
    "QS5014", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The device that the engine was asked to use is not there."};
inline constexpr ErrorCode kNotAuthenticated = {
    "QS6001", absl::StatusCode::kUnauthenticated, ExitCode::kNotAllowed,
    "The token is missing or not this coordinator's."};
inline constexpr ErrorCode kNotAllowed = {
    "QS6002", absl::StatusCode::kPermissionDenied, ExitCode::kNotAllowed,
    "The token's role does not allow this."};
inline constexpr ErrorCode kProtocolVersion = {
    "QS6003", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "Worker and coordinator have no protocol version in common."};
inline constexpr ErrorCode kTokenExpired = {
    "QS6004", absl::StatusCode::kUnauthenticated, ExitCode::kNotAllowed,
    "The token has expired."};
inline constexpr ErrorCode kTokenRevoked = {
    "QS6005", absl::StatusCode::kUnauthenticated, ExitCode::kNotAllowed,
    "The token was revoked."};
inline constexpr ErrorCode kTokenUsed = {
    "QS6006", absl::StatusCode::kPermissionDenied, ExitCode::kNotAllowed,
    "The join token was used before and is good for one use."};
inline constexpr ErrorCode kMalformedToken = {
    "QS6007", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The text is not a token."};
inline constexpr ErrorCode kWrongCertificate = {
    "QS6008", absl::StatusCode::kPermissionDenied, ExitCode::kNotAllowed,
    "Who answers at the address is not the coordinator the token or the pinned "
    "certificate names."};
inline constexpr ErrorCode kPlaintext = {
    "QS6009", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "Calls that leave the machine must be encrypted."};
inline constexpr ErrorCode kCertificateExpired = {
    "QS6010", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The coordinator's certificate has expired."};
inline constexpr ErrorCode kBadKeyFile = {
    "QS6011", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "A file with a key, a certificate or a credential is missing or cannot be "
    "used."};
inline constexpr ErrorCode kTokenNotFound = {
    "QS6012", absl::StatusCode::kNotFound, ExitCode::kNotFound,
    "There is no token with this number."};
inline constexpr ErrorCode kUnknownFormat = {
    "QS7001", absl::StatusCode::kInvalidArgument, ExitCode::kUsage,
    "The output format does not exist."};
inline constexpr ErrorCode kCannotWrite = {
    "QS7002", absl::StatusCode::kFailedPrecondition, ExitCode::kFailed,
    "The output file cannot be written."};
inline constexpr ErrorCode kInternal = {"QS9001", absl::StatusCode::kInternal,
                                        ExitCode::kFailed,
                                        "A defect in qsweep."};

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_ERROR_CODES_H_
