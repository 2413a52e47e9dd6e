-- name: begin
-- One tick's transaction; IMMEDIATE, so that it never turns BUSY half way.
BEGIN IMMEDIATE;

-- name: commit
-- The one sync of a tick.
COMMIT;

-- name: rollback
-- Nothing of a failed tick stays.
ROLLBACK;

-- name: unscoped_tenants
-- All tenants, for the memory of the fast lane.
SELECT tenant, name, salt, consent, addresses, gpc, retention_days, hosts,
    last_email, last_seq, last_agent, last_link, last_campaign
FROM tenants;

-- name: insert_tenant
-- A tenant is created by its first email.
INSERT INTO tenants (tenant, name, created_at, rules) VALUES (?, ?, ?, ?);

-- name: update_tenant
-- The last numbers handed out.
UPDATE tenants
SET last_email = ?2, last_seq = ?3, last_agent = ?4, last_link = ?5, last_campaign = ?6
WHERE tenant = ?1;

-- name: insert_email
-- What was sent.
INSERT INTO emails (tenant, email, subject, recipient, metadata) VALUES (?, ?, ?, ?, ?);

-- name: insert_state
-- Nothing became of it yet.
INSERT INTO states (tenant, email, created_at, campaign, consent, flags) VALUES (?, ?, ?, ?, ?, ?);

-- name: select_state
-- What became of one email.
SELECT created_at, campaign, consent, flags, opens, machine_opens, clicks, machine_clicks,
    first_open, last_open, first_machine_open, last_machine_open,
    first_click, last_click, first_machine_click, last_machine_click, head_open, head_click
FROM states WHERE tenant = ? AND email = ?;

-- name: select_states
-- The same of many, each with its key behind it.
SELECT created_at, campaign, consent, flags, opens, machine_opens, clicks, machine_clicks,
    first_open, last_open, first_machine_open, last_machine_open,
    first_click, last_click, first_machine_click, last_machine_click, head_open, head_click,
    tenant, email
FROM states WHERE tenant = ? AND email = ?;

-- name: update_state
-- What became of one email, anew.
UPDATE states
SET flags = ?, opens = ?, machine_opens = ?, clicks = ?, machine_clicks = ?,
    first_open = ?, last_open = ?, first_machine_open = ?, last_machine_open = ?,
    first_click = ?, last_click = ?, first_machine_click = ?, last_machine_click = ?,
    head_open = ?, head_click = ?
WHERE tenant = ? AND email = ?;

-- name: update_opens
-- The same where it was opened alone.
UPDATE states
SET opens = ?, machine_opens = ?, first_open = ?, last_open = ?,
    first_machine_open = ?, last_machine_open = ?, head_open = ?
WHERE tenant = ? AND email = ?;

-- name: insert_event
-- One line of the log.
INSERT INTO events
    (tenant, seq, at, email, kind, flags, agent, link, address, prev, class, reasons, rules, n,
    client)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_aggregate
-- One line of the log that names no email, address or user agent.
INSERT INTO events
    (tenant, seq, at, email, kind, flags, link, class, reasons, rules, client, campaign)
VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: select_click
-- One click of a chain.
SELECT at, link, address, prev, class, reasons, client FROM events WHERE tenant = ? AND seq = ?;

-- name: revise_event
-- A judgement that a later event changed; the rest of it is still that of its own rules.
UPDATE events SET class = ?, reasons = ? WHERE tenant = ? AND seq = ?;

-- name: grow_cap
-- More hits that one capped row stands for.
UPDATE events SET n = n + ? WHERE tenant = ? AND seq = ?;

-- name: select_email_link
-- How one link of one email was followed.
SELECT clicks, machine_clicks, first_click FROM email_links
WHERE tenant = ? AND email = ? AND link = ?;

-- name: upsert_email_link
-- The same, anew.
INSERT INTO email_links (tenant, email, link, clicks, machine_clicks, first_click)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, email, link) DO UPDATE SET
    clicks = excluded.clicks,
    machine_clicks = excluded.machine_clicks,
    first_click = excluded.first_click;

-- name: add_figures
-- What one tick adds to a bucket.
INSERT INTO figures
    (tenant, scope, id, bucket, sent, opens, machine_opens, unique_opens, inferred_opens,
    clicks, machine_clicks, unique_clicks)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, scope, id, bucket) DO UPDATE SET
    sent = sent + excluded.sent,
    opens = opens + excluded.opens,
    machine_opens = machine_opens + excluded.machine_opens,
    unique_opens = unique_opens + excluded.unique_opens,
    inferred_opens = inferred_opens + excluded.inferred_opens,
    clicks = clicks + excluded.clicks,
    machine_clicks = machine_clicks + excluded.machine_clicks,
    unique_clicks = unique_clicks + excluded.unique_clicks;

-- name: add_days
-- The same by day.
INSERT INTO days
    (tenant, scope, id, day, sent, opens, machine_opens, unique_opens, inferred_opens,
    clicks, machine_clicks, unique_clicks)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, scope, id, day) DO UPDATE SET
    sent = sent + excluded.sent,
    opens = opens + excluded.opens,
    machine_opens = machine_opens + excluded.machine_opens,
    unique_opens = unique_opens + excluded.unique_opens,
    inferred_opens = inferred_opens + excluded.inferred_opens,
    clicks = clicks + excluded.clicks,
    machine_clicks = machine_clicks + excluded.machine_clicks,
    unique_clicks = unique_clicks + excluded.unique_clicks;

-- name: select_agent
-- The number of a user agent.
SELECT agent FROM agents WHERE tenant = ? AND user_agent = ?;

-- name: insert_agent
-- A user agent seen for the first time.
INSERT INTO agents (tenant, agent, user_agent) VALUES (?, ?, ?);

-- name: select_link
-- The number of a link.
SELECT link FROM links WHERE tenant = ? AND url = ? AND label = ? AND part = ?;

-- name: insert_link
-- A link followed for the first time.
INSERT INTO links (tenant, link, url, label, part) VALUES (?, ?, ?, ?, ?);

-- name: select_campaign
-- The number of a campaign.
SELECT campaign FROM campaigns WHERE tenant = ? AND name = ?;

-- name: insert_campaign
-- A campaign is created by its first email.
INSERT INTO campaigns (tenant, campaign, name) VALUES (?, ?, ?);

-- name: unscoped_pending
-- The batch that was being written, if any.
SELECT tenant, first, last, last_campaign FROM pending;

-- name: insert_pending
-- A batch begins.
INSERT INTO pending (tenant, first, last, last_campaign) VALUES (?, ?, ?, ?);

-- name: delete_pending
-- A batch is over: its emails exist, or they are gone.
DELETE FROM pending WHERE tenant = ? AND first = ?;

-- name: last_of_batch
-- The last emails of a batch, and how long their texts are.
SELECT email, ifnull(octet_length(subject), 0) + ifnull(octet_length(recipient), 0)
    + ifnull(octet_length(metadata), 0)
FROM emails WHERE tenant = ? AND email BETWEEN ? AND ?
ORDER BY email DESC LIMIT ?;

-- name: delete_emails
-- Emails of a batch that came to nothing.
DELETE FROM emails WHERE tenant = ? AND email BETWEEN ? AND ?;

-- name: delete_states
-- And their states.
DELETE FROM states WHERE tenant = ? AND email BETWEEN ? AND ?;

-- name: delete_unused_campaigns
-- Campaigns that came with a batch and that nobody else used.
DELETE FROM campaigns AS c WHERE tenant = ?1 AND campaign > ?2
    AND NOT EXISTS (SELECT 1 FROM figures AS f
        WHERE f.tenant = c.tenant AND f.scope = 1 AND f.id = c.campaign);

-- name: select_idempotency
-- What a request with this key created.
SELECT digest, first, count, at FROM idempotency WHERE tenant = ? AND key = ?;

-- name: insert_idempotency
-- What a request with this key created; in place of one that expired.
INSERT OR REPLACE INTO idempotency (tenant, key, digest, first, count, at)
VALUES (?, ?, ?, ?, ?, ?);

-- name: unscoped_expire_idempotency
-- A few of the oldest keys go once their time is over, or where a clock ran far ahead.
DELETE FROM idempotency WHERE number IN (
    SELECT number FROM (SELECT number, at FROM idempotency ORDER BY number LIMIT ?3)
    WHERE at NOT BETWEEN ?1 AND ?2
);

-- name: delete_email_link
-- No click of the log is behind it.
DELETE FROM email_links WHERE tenant = ? AND email = ? AND link = ?;

-- name: unscoped_unfinished
-- What edits left for later.
SELECT tenant, email, kind, campaign, next_open, next_click FROM unfinished;

-- name: upsert_unfinished
-- So much of it is left.
INSERT OR REPLACE INTO unfinished (tenant, email, kind, campaign, next_open, next_click)
VALUES (?, ?, ?, ?, ?, ?);

-- name: delete_unfinished
-- Nothing is left of it.
DELETE FROM unfinished WHERE tenant = ? AND email = ?;

-- name: select_email
-- What was sent.
SELECT subject, recipient, metadata FROM emails WHERE tenant = ? AND email = ?;

-- name: update_email
-- What was sent, as its sender tells it now.
UPDATE emails SET subject = ?, recipient = ?, metadata = ? WHERE tenant = ? AND email = ?;

-- name: delete_email
-- An email goes.
DELETE FROM emails WHERE tenant = ? AND email = ?;

-- name: delete_state
-- And what became of it.
DELETE FROM states WHERE tenant = ? AND email = ?;

-- name: delete_email_links
-- And how some of its links were followed.
DELETE FROM email_links WHERE tenant = ? AND email = ? AND link <= ?;

-- name: delete_closed_state
-- And what is known of its purged events.
DELETE FROM closed_states WHERE tenant = ? AND email = ?;

-- name: delete_closed_links
-- The same of some of its links.
DELETE FROM closed_links WHERE tenant = ? AND email = ? AND link <= ?;

-- name: first_clicks
-- When people first followed the first links of an email.
SELECT link, first_click FROM email_links
WHERE tenant = ? AND email = ? ORDER BY link LIMIT ?;

-- name: campaign_name
-- The name of a campaign.
SELECT name FROM campaigns WHERE tenant = ? AND campaign = ?;

-- name: update_consent
-- How much of an email's hits may be stored.
UPDATE states SET consent = ? WHERE tenant = ? AND email = ?;

-- name: mark_opted_out
-- An email's recipient is left alone.
UPDATE states SET flags = flags | 2 WHERE tenant = ? AND email = ?;

-- name: unmark_opted_out
-- Or is not any more.
UPDATE states SET flags = flags & ~2 WHERE tenant = ? AND email = ?;

-- name: select_recipient
-- To whom an email went.
SELECT recipient FROM emails WHERE tenant = ? AND email = ?;

-- name: emails_to_mark
-- The newest emails to a recipient, from one on down.
SELECT email FROM emails INDEXED BY emails_by_recipient
WHERE tenant = ? AND recipient = ? COLLATE NOCASE AND email <= ? ORDER BY email DESC LIMIT ?;

-- name: update_policy
-- What a tenant sets for itself.
UPDATE tenants SET consent = ?2, addresses = ?3, gpc = ?4, retention_days = ?5, hosts = ?6
WHERE tenant = ?1;

-- name: update_salt
-- Of the hashes of opted out recipients; made once.
UPDATE tenants SET salt = ?2 WHERE tenant = ?1;

-- name: select_optout
-- When a recipient opted out, unless it is being taken back.
SELECT at FROM optouts WHERE tenant = ? AND recipient = ? AND going = 0;

-- name: insert_optout
-- A recipient opts out; perhaps again, before all marks were taken away.
INSERT OR REPLACE INTO optouts (tenant, recipient, at) VALUES (?, ?, ?);

-- name: retract_optout
-- A recipient opts in again; the row goes once no mark is left.
UPDATE optouts SET going = 1 WHERE tenant = ? AND recipient = ?;

-- name: delete_optout
-- No mark is left.
DELETE FROM optouts WHERE tenant = ? AND recipient = ?;

-- name: update_marking
-- How far an opt-out has come: its address and the next email; neither once all are marked.
UPDATE optouts SET address = ?3, next_email = ?4 WHERE tenant = ?1 AND recipient = ?2;

-- name: unscoped_marking
-- Opt-outs of which emails are still to be marked.
SELECT tenant, recipient, going, address, next_email FROM optouts WHERE address IS NOT NULL;

-- name: update_campaign
-- An email belongs to another campaign.
UPDATE states SET campaign = ? WHERE tenant = ? AND email = ?;

-- name: select_event
-- One event of a chain, as figures need it.
SELECT at, link, client, class, prev FROM events WHERE tenant = ? AND seq = ?;

-- name: delete_event
-- An event leaves the log.
DELETE FROM events WHERE tenant = ? AND seq = ?;

-- name: oldest_events
-- The log from one event (?2) on, and whether the event before each in its chain is still there.
SELECT e.seq, e.at, e.email, e.kind, e.class, e.client, e.link, e.campaign,
    CASE WHEN EXISTS (SELECT 1 FROM events AS p WHERE p.tenant = ?1 AND p.seq = e.prev)
        THEN e.prev END
FROM events AS e WHERE e.tenant = ?1 AND e.seq > ?2 ORDER BY e.seq LIMIT ?3;

-- name: closing_states
-- Emails by their ids, a JSON list: their campaigns, and what is known of their purged events.
SELECT s.email, s.campaign, c.flags, c.opens, c.machine_opens, c.clicks, c.machine_clicks,
    c.first_open, c.last_open, c.first_machine_open, c.last_machine_open,
    c.first_click, c.last_click, c.first_machine_click, c.last_machine_click
FROM json_each(?2) AS k
CROSS JOIN states AS s ON s.tenant = ?1 AND s.email = k.value
LEFT JOIN closed_states AS c ON c.tenant = s.tenant AND c.email = s.email;

-- name: keep_closed_state
-- What is known of an email's purged events, anew.
INSERT OR REPLACE INTO closed_states
    (tenant, email, flags, opens, machine_opens, clicks, machine_clicks,
    first_open, last_open, first_machine_open, last_machine_open,
    first_click, last_click, first_machine_click, last_machine_click)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: closed_clicks
-- When people first and last clicked, of an email's purged events.
SELECT first_click, last_click FROM closed_states WHERE tenant = ? AND email = ?;

-- name: closed_link
-- What is known of purged clicks of a link of an email.
SELECT clicks, machine_clicks, first_click FROM closed_links
WHERE tenant = ? AND email = ? AND link = ?;

-- name: keep_closed_link
-- The same, anew.
INSERT OR REPLACE INTO closed_links (tenant, email, link, clicks, machine_clicks, first_click)
VALUES (?, ?, ?, ?, ?, ?);

-- name: purge_events
-- Events of a span leave the log.
DELETE FROM events WHERE tenant = ? AND seq BETWEEN ? AND ?;

-- name: renumber_tenant
-- A tenant begins anew.
UPDATE tenants SET tenant = ? WHERE tenant = ?;

-- name: add_balances
-- What figures of events that leave the log were.
INSERT INTO balances
    (tenant, scope, id, bucket, sent, opens, machine_opens, unique_opens, inferred_opens,
    clicks, machine_clicks, unique_clicks)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, scope, id, bucket) DO UPDATE SET
    sent = sent + excluded.sent,
    opens = opens + excluded.opens,
    machine_opens = machine_opens + excluded.machine_opens,
    unique_opens = unique_opens + excluded.unique_opens,
    inferred_opens = inferred_opens + excluded.inferred_opens,
    clicks = clicks + excluded.clicks,
    machine_clicks = machine_clicks + excluded.machine_clicks,
    unique_clicks = unique_clicks + excluded.unique_clicks;

-- name: delete_some_events
-- Rows of a tenant that is gone.
DELETE FROM events WHERE tenant = ?1 AND seq IN (
    SELECT seq FROM events WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_states
-- Rows of a tenant that is gone.
DELETE FROM states WHERE tenant = ?1 AND email IN (
    SELECT email FROM states WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_email_links
-- Rows of a tenant that is gone.
DELETE FROM email_links WHERE tenant = ?1 AND (email, link) IN (
    SELECT email, link FROM email_links WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_figures
-- Rows of a tenant that is gone.
DELETE FROM figures WHERE tenant = ?1 AND (scope, id, bucket) IN (
    SELECT scope, id, bucket FROM figures WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_days
-- Rows of a tenant that is gone.
DELETE FROM days WHERE tenant = ?1 AND (scope, id, day) IN (
    SELECT scope, id, day FROM days WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_balances
-- Rows of a tenant that is gone.
DELETE FROM balances WHERE tenant = ?1 AND (scope, id, bucket) IN (
    SELECT scope, id, bucket FROM balances WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_closed_states
-- Rows of a tenant that is gone.
DELETE FROM closed_states WHERE tenant = ?1 AND email IN (
    SELECT email FROM closed_states WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_closed_links
-- Rows of a tenant that is gone.
DELETE FROM closed_links WHERE tenant = ?1 AND (email, link) IN (
    SELECT email, link FROM closed_links WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_links
-- Rows of a tenant that is gone.
DELETE FROM links WHERE tenant = ?1 AND link IN (
    SELECT link FROM links WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_agents
-- Rows of a tenant that is gone.
DELETE FROM agents WHERE tenant = ?1 AND agent IN (
    SELECT agent FROM agents WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_campaigns
-- Rows of a tenant that is gone.
DELETE FROM campaigns WHERE tenant = ?1 AND campaign IN (
    SELECT campaign FROM campaigns WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_idempotency
-- Rows of a tenant that is gone.
DELETE FROM idempotency WHERE tenant = ?1 AND number IN (
    SELECT number FROM idempotency WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_optouts
-- Rows of a tenant that is gone.
DELETE FROM optouts WHERE tenant = ?1 AND recipient IN (
    SELECT recipient FROM optouts WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_blocks
-- Rows of a tenant that is gone.
DELETE FROM blocks WHERE tenant = ?1 AND block IN (
    SELECT block FROM blocks WHERE tenant = ?1 LIMIT ?2
);

-- name: delete_some_imports
-- Rows of a tenant that is gone.
DELETE FROM imports WHERE tenant = ?1 AND import IN (
    SELECT import FROM imports WHERE tenant = ?1 LIMIT ?2
);

-- name: judge_event
-- A judgement by newer rules.
UPDATE events SET class = ?, reasons = ?, rules = ?, client = ? WHERE tenant = ? AND seq = ?;

-- name: select_judgement
-- What the rules said of one event.
SELECT class, reasons, rules, client FROM events WHERE tenant = ? AND seq = ? AND email = ?;

-- name: unscoped_judged_by
-- The oldest rules by which something in the file is judged; nothing where nothing is.
SELECT min(rules) FROM tenants;

-- name: unscoped_mark_judged
-- No event is judged by older rules any more.
UPDATE tenants SET rules = ?1 WHERE rules < ?1;

-- name: unscoped_keys
-- All keys, for the memory of the fast lane.
SELECT t.name, k.key, k.role, k.hash, k.revoked_at FROM keys AS k JOIN tenants AS t USING (tenant);

-- name: count_keys
-- How many keys a tenant has, revoked ones too, and the last number.
SELECT count(*), ifnull(max(key), 0) FROM keys WHERE tenant = ?;

-- name: insert_key
-- A new key.
INSERT INTO keys (tenant, key, name, role, hash, created_at) VALUES (?, ?, ?, ?, ?, ?);

-- name: revoke_key
-- A key opens nothing any more.
UPDATE keys SET revoked_at = ? WHERE tenant = ? AND key = ? AND revoked_at IS NULL;

-- name: forget_revoked_key
-- The oldest of the revoked keys makes room.
DELETE FROM keys WHERE tenant = ?1 AND key = (
    SELECT min(key) FROM keys WHERE tenant = ?1 AND revoked_at IS NOT NULL
);

-- name: renumber_keys
-- Keys stay where their tenant begins anew.
UPDATE keys SET tenant = ? WHERE tenant = ?;

-- name: unscoped_blocks
-- What is switched off, for the memory of the fast lane.
SELECT tenant, block, email, url FROM blocks;

-- name: select_block
-- When something was switched off.
SELECT at FROM blocks WHERE tenant = ? AND block = ?;

-- name: insert_block
-- Something is switched off.
INSERT INTO blocks (tenant, block, kind, email, url, at) VALUES (?, ?, ?, ?, ?, ?);

-- name: delete_block
-- And on again.
DELETE FROM blocks WHERE tenant = ? AND block = ?;

-- name: renumber_blocks
-- A tenant begins anew: what was switched off stays so.
UPDATE blocks SET tenant = ? WHERE tenant = ?;
