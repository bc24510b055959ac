-- The log: one table, append only. What an event is, its body says; the other columns are copies of it, for lookups, and
-- `verdict fsck` compares them.

-- +goose Up
CREATE TABLE verdict.events (
    position         bigint  PRIMARY KEY CHECK (position > 0),
    commits          boolean NOT NULL,
    account          text    NOT NULL,
    account_position bigint  NOT NULL CHECK (account_position > 0),
    stream           text    NOT NULL,
    stream_version   bigint  NOT NULL CHECK (stream_version > 0),
    client_token     text    CHECK (client_token IS NULL OR (client_token <> '' AND commits)), -- only on the last event of a command
    body             bytea   NOT NULL,
    hash             bytea   NOT NULL CHECK (octet_length(hash) = 32),
    key_id           text    NOT NULL,
    signature        bytea   NOT NULL CHECK (octet_length(signature) = 64),
    UNIQUE (account, account_position),
    UNIQUE (account, stream, stream_version)
);

CREATE UNIQUE INDEX events_client_token ON verdict.events (account, client_token) WHERE client_token IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION verdict.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'verdict.events is append only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd

-- Per statement, since a row trigger does not see TRUNCATE, nor a DELETE that finds nothing.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON verdict.events
    FOR EACH STATEMENT EXECUTE FUNCTION verdict.refuse();

-- +goose Down
-- A log is not undone.
SELECT 1/0;
