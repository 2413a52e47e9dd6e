-- name: done
-- How far an import came, of how many rows.
SELECT done, total FROM imports WHERE tenant = ? AND import = ?;

-- name: note
-- It came so far.
INSERT OR REPLACE INTO imports (tenant, import, done, total, at) VALUES (?, ?, ?, ?, ?);

-- name: insert_email
-- What was sent, long ago.
INSERT INTO emails (tenant, email, subject, recipient, metadata) VALUES (?, ?, ?, ?, ?);

-- name: insert_state
-- Nothing became of it yet.
INSERT INTO states (tenant, email, created_at, campaign, consent, flags) VALUES (?, ?, ?, ?, ?, ?);

-- name: email_there
-- When an email was created, if it is there.
SELECT created_at FROM states WHERE tenant = ? AND email = ?;

-- name: unscoped_tenant_number
-- The number of a tenant.
SELECT tenant FROM tenants WHERE name = ?;

-- name: known_email
-- An email as an import would tell it.
SELECT s.created_at, m.subject, m.recipient, c.name, m.metadata, s.consent
FROM states AS s JOIN emails AS m ON m.tenant = s.tenant AND m.email = s.email
LEFT JOIN campaigns AS c ON c.tenant = s.tenant AND c.campaign = s.campaign
WHERE s.tenant = ? AND s.email = ?;

-- name: heads
-- Where the chains of an email begin, and up to when its events were purged.
SELECT s.head_open, s.head_click, max(ifnull(c.last_open, 0), ifnull(c.last_machine_open, 0)),
    max(ifnull(c.last_click, 0), ifnull(c.last_machine_click, 0))
FROM states AS s LEFT JOIN closed_states AS c ON c.tenant = s.tenant AND c.email = s.email
WHERE s.tenant = ? AND s.email = ?;

-- name: moments
-- When the events of a chain (from ?2 on, of email ?3 and kind ?4) were.
WITH RECURSIVE chain (seq, prev, at) AS (
    SELECT seq, prev, at FROM events WHERE tenant = ?1 AND seq = ?2 AND email = ?3 AND kind = ?4
    UNION ALL
    SELECT e.seq, e.prev, e.at FROM chain AS c
    CROSS JOIN events AS e ON e.tenant = ?1 AND e.seq = c.prev
    WHERE e.seq < c.seq AND e.email = ?3 AND e.kind = ?4
)
SELECT at, count(*) FROM chain GROUP BY at;
