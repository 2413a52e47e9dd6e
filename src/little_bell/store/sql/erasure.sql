-- name: unscoped_erasures
-- Recipients that are being erased, the first one first.
SELECT erasure, tenant, recipient, last_email, last_agent, last_link, last_campaign
FROM erasures ORDER BY erasure;

-- name: delete_same
-- Notes of an erasure that begins anew.
DELETE FROM erasures WHERE tenant = ? AND recipient = ?;

-- name: insert_erasure
-- An erasure begins: of what there is up to these numbers.
INSERT INTO erasures (tenant, recipient, last_email, last_agent, last_link, last_campaign)
VALUES (?, ?, ?, ?, ?, ?);

-- name: unscoped_forget_recipient
-- No row holds the recipient any more; the file is still to be cleaned.
UPDATE erasures SET recipient = NULL WHERE erasure = ?;

-- name: unscoped_delete_erasure
-- An erasure is over.
DELETE FROM erasures WHERE erasure = ?;

-- name: texts
-- Texts of emails after one and up to another.
SELECT email, subject, recipient, metadata FROM emails
WHERE tenant = ? AND email > ? AND email <= ? ORDER BY email LIMIT ?;

-- name: update_texts
-- An email without what is erased.
UPDATE emails SET subject = ?, recipient = ?, metadata = ? WHERE tenant = ? AND email = ?;

-- name: emails_to
-- Emails to a recipient (?2), up to one.
SELECT email FROM emails INDEXED BY emails_by_recipient
WHERE tenant = ?1 AND recipient = ?2 COLLATE NOCASE AND email <= ?3
ORDER BY email DESC LIMIT ?4;

-- name: created_together
-- What requests with an Idempotency-Key created, and whether an email to a recipient (?2), up to one
-- (?5), is among it.
SELECT i.number, i.count, i.tenant = ?1 AND EXISTS (
    SELECT 1 FROM emails AS m INDEXED BY emails_by_recipient
    WHERE m.tenant = ?1 AND m.recipient = ?2 COLLATE NOCASE
        AND m.email >= i.first AND m.email < i.first + i.count AND m.email <= ?5
)
FROM idempotency AS i WHERE i.number > ?3 ORDER BY i.number LIMIT ?4;

-- name: delete_created
-- What created an email that goes.
DELETE FROM idempotency WHERE tenant = ? AND number = ?;

-- name: forget_digest
-- Nobody can tell what was asked for, but that it was.
UPDATE idempotency SET digest = x'' WHERE tenant = ? AND number = ?;

-- name: agents
-- User agents after one and up to another.
SELECT agent, user_agent FROM agents
WHERE tenant = ? AND agent > ? AND agent <= ? ORDER BY agent LIMIT ?;

-- name: rename_agent
-- A user agent goes; its number stays.
UPDATE OR IGNORE agents SET user_agent = ? WHERE tenant = ? AND agent = ?;

-- name: links
-- Links after one and up to another.
SELECT link, url, label, part FROM links
WHERE tenant = ? AND link > ? AND link <= ? ORDER BY link LIMIT ?;

-- name: rename_link
-- A link's target goes; its number stays.
UPDATE OR IGNORE links SET url = ?, label = ?, part = ? WHERE tenant = ? AND link = ?;

-- name: campaigns
-- Campaigns after one and up to another.
SELECT campaign, name FROM campaigns
WHERE tenant = ? AND campaign > ? AND campaign <= ? ORDER BY campaign LIMIT ?;

-- name: rename_campaign
-- A campaign's name goes; its number stays.
UPDATE OR IGNORE campaigns SET name = ? WHERE tenant = ? AND campaign = ?;

-- name: blocked_links
-- Links that are switched off, after one.
SELECT block, url FROM blocks
WHERE tenant = ? AND block > ? AND url IS NOT NULL ORDER BY block LIMIT ?;

-- name: key_names
-- How keys are called.
SELECT key, name FROM keys WHERE tenant = ?;

-- name: rename_key
-- A key without what is erased.
UPDATE keys SET name = ? WHERE tenant = ? AND key = ?;

-- name: unscoped_hold
-- Reads something, so that the transaction has a snapshot.
SELECT 1 FROM tenants LIMIT 1;

-- name: begin_read
-- A snapshot: as long as all of the write-ahead log is moved, nobody moves more of it meanwhile.
BEGIN;
