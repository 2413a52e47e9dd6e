-- name: unscoped_begin
-- One snapshot, whatever its server does meanwhile.
BEGIN;

-- name: unscoped_columns
-- The columns that the three tables have.
SELECT m.name || '.' || p.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS p
WHERE m.type = 'table' AND m.name IN ('tenants', 'emails', 'events');

-- name: unscoped_last_email
-- The highest id that there is.
SELECT ifnull(max(id), 0) FROM emails;

-- name: unscoped_sequence
-- The highest one that was ever handed out.
SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'emails';

-- name: unscoped_rows
-- How many rows there are.
SELECT (SELECT count(*) FROM emails) + (SELECT count(*) FROM events);

-- name: unscoped_emails
-- What was sent. Texts as bytes: nobody knows whether they are UTF-8.
SELECT id, CAST(tenant_id AS BLOB), CAST(subject AS BLOB), CAST(recipient AS BLOB),
    CAST(created_at AS BLOB)
FROM emails ORDER BY id;

-- name: unscoped_events
-- And what came of it; an event without its email has no tenant.
SELECT v.id, CAST(m.tenant_id AS BLOB), v.email_id, CAST(v.event_type AS BLOB),
    CAST(v.timestamp AS BLOB), CAST(v.user_agent AS BLOB), CAST(v.ip_address AS BLOB)
FROM events AS v LEFT JOIN emails AS m ON m.id = v.email_id ORDER BY v.id;
