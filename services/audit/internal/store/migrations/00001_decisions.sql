-- +goose Up

-- Every numbered record of every boot. A block of the ingester is one part: the partition is the day of the stream's own
-- timestamp, and a token that was inserted once is not inserted again.
CREATE TABLE IF NOT EXISTS decisions (
    recorded_at                DateTime64(6, 'UTC')                 COMMENT 'when it was decided, by the node''s clock' CODEC(Delta, ZSTD),
    kind                       LowCardinality(String)               COMMENT 'decision, or what the log says of itself: opened, closed, dropped',
    account                    LowCardinality(String)               COMMENT '- for what the log says of itself',
    gateway_arn                LowCardinality(String),
    policy_engine_id           LowCardinality(String)               COMMENT 'empty when none was attached',
    engine_source              LowCardinality(String)               COMMENT 'how the engine was found: GATEWAY or REQUEST',
    principal_type             LowCardinality(String),
    principal_id               String                               CODEC(ZSTD),
    principal_tags             Map(LowCardinality(String), String)  CODEC(ZSTD),
    action_type                LowCardinality(String),
    action_id                  LowCardinality(String)               COMMENT '<Target>___<tool>',
    resource_type              LowCardinality(String),
    resource_id                LowCardinality(String),
    context_json               String                               COMMENT 'as typed for evaluation; read it with JSONExtract' CODEC(ZSTD),
    request_digest             String                               COMMENT 'SHA-256, hex' CODEC(ZSTD),
    now                        DateTime64(6, 'UTC')                 COMMENT 'context.system.now' CODEC(Delta, ZSTD),
    decision                   LowCardinality(String)               COMMENT 'ALLOW or DENY: Cedar''s answer',
    proceed                    Bool                                 COMMENT 'what the caller was told to do',
    mode                       LowCardinality(String)               COMMENT 'ENFORCE or LOG_ONLY; empty where no engine decided',
    determining_policies       Array(LowCardinality(String)),
    error_policies             Array(LowCardinality(String))        COMMENT 'policies whose evaluation failed',
    error_messages             Array(String)                        COMMENT 'one for each of error_policies' CODEC(ZSTD),
    log_only_matched           Array(LowCardinality(String)),
    log_only_flipping          Array(LowCardinality(String))        COMMENT 'LOG_ONLY policies that would change the decision',
    log_only_mismatched        Array(LowCardinality(String)),
    log_only_incomplete        Bool,
    reason                     String                               CODEC(ZSTD),
    reason_code                LowCardinality(String),
    revision                   UInt64                               CODEC(Delta, ZSTD),
    log_hash                   String                               COMMENT 'hex' CODEC(ZSTD),
    evaluator_version          LowCardinality(String),
    setting_staleness_bound_ms Nullable(UInt64)                     CODEC(ZSTD),
    setting_on_stale           LowCardinality(String)               COMMENT 'SERVE or DENY',
    setting_strict_forbids     Nullable(Bool)                       CODEC(ZSTD),
    setting_redacted_paths     Array(LowCardinality(String)),
    staleness_us               Nullable(UInt64)                     COMMENT 'NULL: never proved fresh' CODEC(ZSTD),
    stale                      Bool,
    redacted_paths             Array(LowCardinality(String)),
    replayable                 Bool,
    latency_ns                 UInt64                               CODEC(ZSTD),
    request_id                 String                               CODEC(ZSTD),
    trace_id                   String                               COMMENT 'hex' CODEC(ZSTD),
    span_id                    String                               COMMENT 'hex' CODEC(ZSTD),
    dropped                    UInt64                               COMMENT 'of kind dropped: decisions that were not recorded' CODEC(ZSTD),
    build                      LowCardinality(String)               COMMENT 'of kind opened',
    previous_boot              LowCardinality(String)               COMMENT 'of kind opened: the boot before, when it did not close',
    previous_given_out         UInt64                               CODEC(ZSTD),
    previous_is_bound          Bool                                 COMMENT 'previous_given_out is not exact: the machine died',
    node                       LowCardinality(String),
    boot                       LowCardinality(String)               COMMENT 'one start of the node',
    seq                        UInt64                               COMMENT '1, 2, 3, … within the boot' CODEC(Delta, ZSTD),
    given_out                  UInt64                               COMMENT 'the last seq that the boot had given out when this one was sent' CODEC(Delta, ZSTD),
    record_version             UInt32                               CODEC(ZSTD),
    present                    UInt8                                COMMENT 'which parts of the record were there though empty' CODEC(ZSTD),
    raw                        String                               COMMENT 'the whole record, where the columns cannot say all of it' CODEC(ZSTD),
    partition                  UInt16                               CODEC(ZSTD),
    stream_id                  LowCardinality(String),
    stream_sequence            UInt64                               CODEC(Delta, ZSTD),
    stored_at                  DateTime64(6, 'UTC')                 COMMENT 'when the stream took it' CODEC(Delta, ZSTD),
    decision_id                String ALIAS lower(trimRight(base32Encode(concat(tryBase32Decode(concat(upper(boot), '======')), reverse(reinterpretAsFixedString(seq)))), '='))
                                                                    COMMENT 'as callers got it',
    INDEX decision_id_index decision_id TYPE bloom_filter(0.001),
    INDEX boot_index boot TYPE bloom_filter(0.001),
    INDEX stream_index (stream_id, stream_sequence) TYPE minmax
)
ENGINE = MergeTree
PARTITION BY toDate(stored_at)
ORDER BY (account, recorded_at, boot, seq)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What came on a decision stream and is no record.
CREATE TABLE IF NOT EXISTS rejects (
    stored_at       DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    partition       UInt16,
    stream_id       LowCardinality(String),
    stream_sequence UInt64               CODEC(Delta, ZSTD),
    reason          String               CODEC(ZSTD),
    data            String               CODEC(ZSTD)
)
ENGINE = MergeTree
PARTITION BY toDate(stored_at)
ORDER BY (partition, stored_at, stream_sequence)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- How far each partition has got. Of each epoch (a stream made anew) merges keep the newest; readers take the newest of all.
CREATE TABLE IF NOT EXISTS ingest_progress (
    partition UInt16,
    epoch     UInt64,
    stream_id String,
    sequence  UInt64,
    nodes     Array(LowCardinality(String)) COMMENT 'with boots and seqs: the marks, one element each',
    boots     Array(String),
    seqs      Array(UInt64),
    saved_at  DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(sequence)
ORDER BY (partition, epoch)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
