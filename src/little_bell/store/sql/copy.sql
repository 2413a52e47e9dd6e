-- name: read
-- Begins a read transaction.
SELECT count(*) FROM sqlite_schema;

-- name: unscoped_last_emails
-- The last numbers that were handed out.
SELECT name, created_at, last_email, last_seq FROM tenants;

-- name: raise_last_numbers
-- What was handed out since a backup is not used again.
UPDATE tenants SET last_email = max(last_email, ?2), last_seq = max(last_seq, ?3) WHERE name = ?1;

-- name: unscoped_skip_emails
-- The same where nobody knows how many there were.
UPDATE tenants SET last_email = last_email + ?;

-- name: add_tenant
-- A tenant that came since the backup.
INSERT OR IGNORE INTO tenants (tenant, name, created_at)
VALUES ((SELECT ifnull(max(tenant), 0) + 1 FROM tenants), ?, ?);
