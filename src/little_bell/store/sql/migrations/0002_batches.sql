-- Batches of emails, and idempotency keys.

-- The batch that is being written, one at most: its emails do not exist before this row is gone.
CREATE TABLE pending (
    tenant INTEGER NOT NULL,
    first INTEGER NOT NULL, -- email
    last INTEGER NOT NULL,
    last_campaign INTEGER NOT NULL, -- of the tenant, before the batch
    PRIMARY KEY (tenant, first)
) STRICT, WITHOUT ROWID;

-- What was created by requests with an Idempotency-Key, so that they get the same answer again.
CREATE TABLE idempotency (
    number INTEGER PRIMARY KEY, -- grows with time
    tenant INTEGER NOT NULL,
    key BLOB NOT NULL, -- hash of the key
    digest BLOB NOT NULL, -- of the request
    first INTEGER NOT NULL, -- email
    count INTEGER NOT NULL,
    at INTEGER NOT NULL, -- milliseconds since the epoch, UTC
    UNIQUE (tenant, key)
) STRICT;
