-- name: unscoped_last_emails
-- The last ids that were handed out.
SELECT name, created_at, last_email FROM tenants;

-- name: raise_last_email
-- Ids that were handed out since a backup are not used again.
UPDATE tenants SET last_email = max(last_email, ?2) WHERE name = ?1;

-- name: unscoped_skip_emails
-- The same where nobody knows how many there were.
UPDATE tenants SET last_email = last_email + ?;

-- name: add_tenant
-- A tenant that came since the backup.
INSERT OR IGNORE INTO tenants (tenant, name, created_at)
VALUES ((SELECT ifnull(max(tenant), 0) + 1 FROM tenants), ?, ?);
