-- name: tenant
-- A tenant's number.
SELECT tenant FROM tenants WHERE name = ?;

-- name: policy
-- What a tenant set for itself.
SELECT consent, addresses, gpc, retention_days, hosts FROM tenants WHERE tenant = ?;

-- name: campaign_id
-- A campaign's number.
SELECT campaign FROM campaigns WHERE tenant = ? AND name = ?;

-- name: campaigns_of
-- Campaigns by their numbers, a JSON list.
SELECT c.campaign, c.name FROM json_each(?2) AS k
CROSS JOIN campaigns AS c ON c.tenant = ?1 AND c.campaign = k.value;

-- name: links_of
-- Links by their numbers, a JSON list.
SELECT l.link, l.url, l.label, l.part FROM json_each(?2) AS k
CROSS JOIN links AS l ON l.tenant = ?1 AND l.link = k.value;

-- name: campaigns
-- Campaigns, newest first, but for those that came with a batch which is not there yet.
SELECT c.campaign, c.name FROM campaigns AS c
WHERE c.tenant = ?1 AND c.campaign < ?2
    AND NOT (
        EXISTS (SELECT 1 FROM pending AS p WHERE p.tenant = ?1 AND p.last_campaign < c.campaign)
        AND NOT EXISTS (SELECT 1 FROM days AS d
            WHERE d.tenant = ?1 AND d.scope = 1 AND d.id = c.campaign)
    )
ORDER BY c.campaign DESC LIMIT ?3;

-- name: links
-- Links, newest first.
SELECT link, url, label, part FROM links WHERE tenant = ? AND link < ? ORDER BY link DESC LIMIT ?;

-- name: events
-- Events by their numbers, a JSON list, where their emails are still there; or where they name none.
SELECT e.seq, e.at, nullif(e.email, 0), e.kind, e.class, e.reasons, e.address,
    iif(e.email, coalesce(a.user_agent, '(other)'), NULL), coalesce(l.url, '(other)'), l.label,
    m.subject, m.recipient, e.n, e.flags, e.client, e.prev
FROM json_each(?2) AS k
CROSS JOIN events AS e ON e.tenant = ?1 AND e.seq = k.value
LEFT JOIN emails AS m ON m.tenant = e.tenant AND m.email = e.email
LEFT JOIN agents AS a ON a.tenant = e.tenant AND a.agent = e.agent
LEFT JOIN links AS l ON l.tenant = e.tenant AND l.link = e.link
WHERE e.email = 0 OR m.email IS NOT NULL;

-- name: log_below
-- The event that is so many rows older than another.
SELECT seq FROM events WHERE tenant = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT 1 OFFSET ?3;

-- name: log_above
-- The event that is so many rows newer than another.
SELECT seq FROM events WHERE tenant = ?1 AND seq > ?2 ORDER BY seq LIMIT 1 OFFSET ?3;

-- name: events_before
-- Events of a span of the log, newest first.
SELECT seq FROM events
WHERE tenant = ?1 AND seq >= ?2 AND seq < ?3
    AND (?5 IS NULL OR kind = ?5) AND (?6 IS NULL OR class = ?6) AND (?7 IS NULL OR email = ?7)
    AND kind <= ?8
ORDER BY seq DESC LIMIT ?4;

-- name: events_after
-- Events of a span of the log, oldest first.
SELECT seq FROM events
WHERE tenant = ?1 AND seq > ?2 AND seq <= ?3
    AND (?5 IS NULL OR kind = ?5) AND (?6 IS NULL OR class = ?6) AND (?7 IS NULL OR email = ?7)
    AND kind <= ?8
ORDER BY seq LIMIT ?4;

-- name: heads
-- The newest open and the newest click of an email that exists.
SELECT s.head_open, s.head_click FROM states AS s
WHERE s.tenant = ?1 AND s.email = ?2 AND NOT EXISTS (SELECT 1 FROM pending AS p
    WHERE p.tenant = ?1 AND p.first <= ?2 AND p.last >= ?2);

-- name: chain
-- Events of one email (?3) and kind from one (?2) back to another, the newest first.
WITH RECURSIVE chain (seq, prev, class) AS (
    SELECT seq, prev, class FROM events
    WHERE tenant = ?1 AND seq = ?2 AND seq > ?5 AND email = ?3 AND kind = ?4
    UNION ALL
    SELECT e.seq, e.prev, e.class FROM chain AS c
    CROSS JOIN events AS e ON e.tenant = ?1 AND e.seq = c.prev
    WHERE e.seq > ?5 AND e.seq < c.seq AND e.email = ?3 AND e.kind = ?4
    LIMIT ?6
)
SELECT seq, prev, class FROM chain;

-- name: events_there
-- Those of two events that are still in the log.
SELECT seq FROM events WHERE tenant = ?1 AND (seq = ?2 OR seq = ?3);

-- name: purged_events
-- How many events of an email were purged.
SELECT opens + machine_opens + clicks + machine_clicks FROM closed_states
WHERE tenant = ? AND email = ?;

-- name: pending
-- The emails of a tenant that do not exist yet, or no more.
SELECT first, last FROM pending WHERE tenant = ? LIMIT 1;

-- name: emails_of
-- Emails by their ids, a JSON list, and what became of them.
SELECT s.email, s.created_at, m.subject, m.recipient, c.name, m.metadata,
    s.opens, s.machine_opens, s.clicks, s.machine_clicks,
    s.first_open, s.last_open, s.first_machine_open, s.last_machine_open,
    s.first_click, s.last_click, s.first_machine_click, s.last_machine_click, s.consent
FROM json_each(?2) AS k
CROSS JOIN states AS s ON s.tenant = ?1 AND s.email = k.value
CROSS JOIN emails AS m ON m.tenant = s.tenant AND m.email = s.email
LEFT JOIN campaigns AS c ON c.tenant = s.tenant AND c.campaign = s.campaign
WHERE NOT EXISTS (SELECT 1 FROM pending AS p
    WHERE p.tenant = ?1 AND p.first <= k.value AND p.last >= k.value);

-- name: emails_below
-- The email that is so many older than another, in a span.
SELECT email FROM states WHERE tenant = ?1 AND email >= ?2 AND email < ?3
ORDER BY email DESC LIMIT 1 OFFSET ?4;

-- name: emails
-- Emails of a span, newest first: those whose subject holds ?5, that were opened (?6) and clicked
-- (?7) by people or not, of a campaign (?8).
SELECT s.email FROM states AS s
WHERE s.tenant = ?1 AND s.email >= ?2 AND s.email < ?3
    AND (?6 IS NULL OR (s.opens + s.clicks > 0) = ?6)
    AND (?7 IS NULL OR (s.clicks > 0) = ?7)
    AND (?8 IS NULL OR s.campaign = ?8)
    AND (?5 IS NULL OR instr(casefold((SELECT m.subject FROM emails AS m
        WHERE m.tenant = ?1 AND m.email = s.email)), ?5))
ORDER BY s.email DESC LIMIT ?4;

-- name: emails_in_campaign_below
-- The email that is so many older than another, in a span and a campaign (?5).
SELECT email FROM states INDEXED BY states_by_campaign
WHERE tenant = ?1 AND campaign = ?5 AND email >= ?2 AND email < ?3
ORDER BY email DESC LIMIT 1 OFFSET ?4;

-- name: emails_in_campaign
-- The same as `emails`, found by their campaign.
SELECT s.email FROM states AS s INDEXED BY states_by_campaign
WHERE s.tenant = ?1 AND s.campaign = ?8 AND s.email >= ?2 AND s.email < ?3
    AND (?6 IS NULL OR (s.opens + s.clicks > 0) = ?6)
    AND (?7 IS NULL OR (s.clicks > 0) = ?7)
    AND (?5 IS NULL OR instr(casefold((SELECT m.subject FROM emails AS m
        WHERE m.tenant = ?1 AND m.email = s.email)), ?5))
ORDER BY s.email DESC LIMIT ?4;

-- name: emails_to_below
-- The email that is so many older than another, in a span and to one recipient (?5).
SELECT email FROM emails INDEXED BY emails_by_recipient
WHERE tenant = ?1 AND recipient = ?5 COLLATE NOCASE AND email >= ?2 AND email < ?3
ORDER BY email DESC LIMIT 1 OFFSET ?4;

-- name: emails_to
-- The same as `emails`, found by their recipient (?9).
SELECT m.email FROM emails AS m INDEXED BY emails_by_recipient
CROSS JOIN states AS s ON s.tenant = ?1 AND s.email = m.email
WHERE m.tenant = ?1 AND m.recipient = ?9 COLLATE NOCASE AND m.email >= ?2 AND m.email < ?3
    AND (?6 IS NULL OR (s.opens + s.clicks > 0) = ?6)
    AND (?7 IS NULL OR (s.clicks > 0) = ?7)
    AND (?8 IS NULL OR s.campaign = ?8)
    AND (?5 IS NULL OR instr(casefold(m.subject), ?5))
ORDER BY m.email DESC LIMIT ?4;

-- name: recipients_above
-- The email that comes so many behind a recipient (?2) in the order of recipients, then newest.
SELECT recipient, email FROM emails INDEXED BY emails_by_recipient
WHERE tenant = ?1 AND recipient > ?2 COLLATE NOCASE AND recipient < ?3 COLLATE NOCASE
ORDER BY recipient COLLATE NOCASE, email DESC LIMIT 1 OFFSET ?4;

-- name: emails_by_recipient
-- The same as `emails`, of recipients between two (?2, ?3), by recipient, then newest: ?9 are looked
-- at.
SELECT k.recipient, k.email FROM (
    SELECT recipient, email FROM emails INDEXED BY emails_by_recipient
    WHERE tenant = ?1 AND recipient > ?2 COLLATE NOCASE AND recipient < ?3 COLLATE NOCASE
    ORDER BY recipient COLLATE NOCASE, email DESC LIMIT ?9
) AS k
CROSS JOIN states AS s ON s.tenant = ?1 AND s.email = k.email
WHERE NOT EXISTS (SELECT 1 FROM pending AS p
        WHERE p.tenant = ?1 AND p.first <= k.email AND p.last >= k.email)
    AND (?6 IS NULL OR (s.opens + s.clicks > 0) = ?6)
    AND (?7 IS NULL OR (s.clicks > 0) = ?7)
    AND (?8 IS NULL OR s.campaign = ?8)
    AND (?5 IS NULL OR instr(casefold((SELECT m.subject FROM emails AS m
        WHERE m.tenant = ?1 AND m.email = k.email)), ?5))
ORDER BY k.recipient COLLATE NOCASE, k.email DESC LIMIT ?4;

-- name: emails_by_activity
-- The same as `emails`, in a span of the log, each at its newest event, newest first.
SELECT e.seq, e.email FROM events AS e
CROSS JOIN states AS s ON s.tenant = ?1 AND s.email = e.email
WHERE e.tenant = ?1 AND e.seq >= ?2 AND e.seq < ?3
    AND e.seq = max(coalesce(s.head_open, 0), coalesce(s.head_click, 0))
    AND (?6 IS NULL OR (s.opens + s.clicks > 0) = ?6)
    AND (?7 IS NULL OR (s.clicks > 0) = ?7)
    AND (?8 IS NULL OR s.campaign = ?8)
    AND (?9 IS NULL OR EXISTS (SELECT 1 FROM emails AS m
        WHERE m.tenant = ?1 AND m.email = e.email
            AND m.recipient >= ?9 COLLATE NOCASE AND m.recipient < ?10 COLLATE NOCASE))
    AND (?5 IS NULL OR instr(casefold((SELECT m.subject FROM emails AS m
        WHERE m.tenant = ?1 AND m.email = e.email)), ?5))
ORDER BY e.seq DESC LIMIT ?4;

-- name: has_keys
-- Whether a tenant ever had a key.
SELECT EXISTS (SELECT 1 FROM keys WHERE tenant = ?);

-- name: unscoped_keys
-- Keys of all tenants, or of one by its name.
SELECT t.name, k.key, k.name, k.role, k.created_at, k.revoked_at
FROM keys AS k JOIN tenants AS t USING (tenant)
WHERE ?1 IS NULL OR t.name = ?1
ORDER BY t.name, k.key;

-- name: key_hashes
-- What opens a tenant, and what did so before.
SELECT role, hash, revoked_at FROM keys WHERE tenant = ?;

-- name: unscoped_open_tenants
-- Tenants that never had a key.
SELECT name FROM tenants AS t
WHERE NOT EXISTS (SELECT 1 FROM keys AS k WHERE k.tenant = t.tenant)
ORDER BY name;

-- name: blocks
-- What is switched off, newest first.
SELECT block, email, url, at FROM blocks WHERE tenant = ? AND block < ?
ORDER BY block DESC LIMIT ?;

-- name: followed
-- Links of an email that were followed, after one.
SELECT f.link, coalesce(l.url, '(other)'), coalesce(l.label, ''), coalesce(l.part, ''),
    f.clicks, f.machine_clicks, f.first_click
FROM email_links AS f
LEFT JOIN links AS l ON l.tenant = f.tenant AND l.link = f.link
WHERE f.tenant = ?1 AND f.email = ?2 AND f.link > ?3 ORDER BY f.link LIMIT ?4;

-- name: salt
-- What the hashes of a tenant's opt-outs begin with.
SELECT salt FROM tenants WHERE tenant = ?;

-- name: opted_out
-- Since when a recipient, by its hash, is not tracked.
SELECT at FROM optouts WHERE tenant = ? AND recipient = ?;
