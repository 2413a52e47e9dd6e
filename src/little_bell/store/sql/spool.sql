-- name: unscoped_schema
-- Rows of an import, in a file of its own: whose `left_out` is NULL are to be written.
CREATE TABLE names (tenant INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE mails (
    tenant INTEGER NOT NULL, -- of names
    email INTEGER NOT NULL,
    line INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    subject TEXT,
    recipient TEXT,
    campaign TEXT,
    metadata TEXT,
    consent INTEGER NOT NULL,
    left_out TEXT,
    PRIMARY KEY (tenant, email)
) STRICT, WITHOUT ROWID;
CREATE TABLE hits (
    at INTEGER NOT NULL,
    line INTEGER NOT NULL,
    tenant INTEGER NOT NULL,
    email INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    user_agent TEXT NOT NULL,
    address BLOB,
    url TEXT,
    label TEXT NOT NULL,
    left_out TEXT,
    PRIMARY KEY (at, line)
) STRICT, WITHOUT ROWID;

-- name: unscoped_index
-- The events of one email together.
CREATE INDEX hits_by_email ON hits (tenant, email, kind, at, line);

-- name: unscoped_begin
-- All of it is one transaction, and never committed to a disk.
BEGIN;

-- name: unscoped_commit
-- It can be read now.
COMMIT;

-- name: unscoped_name
-- A tenant.
INSERT INTO names (tenant, name) VALUES (?, ?);

-- name: add_mail
-- An email.
INSERT INTO mails (tenant, email, line, created_at, subject, recipient, campaign, metadata, consent)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: same_mail
-- What was read of an email before.
SELECT line, created_at, subject, recipient, campaign, metadata, consent FROM mails
WHERE tenant = ? AND email = ?;

-- name: add_hit
-- An open or a click.
INSERT INTO hits (tenant, email, at, line, kind, flags, user_agent, address, url, label)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: unscoped_mails
-- Emails in the order in which they are written, after so many.
SELECT n.name, m.email, m.created_at, m.subject, m.recipient, m.campaign, m.metadata, m.consent,
    m.left_out, m.line
FROM mails AS m JOIN names AS n USING (tenant) ORDER BY m.tenant, m.email LIMIT -1 OFFSET ?;

-- name: unscoped_hits
-- Events in the order in which they are written, that of time, after so many.
SELECT n.name, h.email, h.kind, h.at, h.flags, h.user_agent, h.address, h.url, h.label, h.left_out
FROM hits AS h CROSS JOIN names AS n USING (tenant) ORDER BY h.at, h.line LIMIT -1 OFFSET ?;

-- name: unscoped_emails_hit
-- Emails of which there are events, and where the first of them stands.
SELECT n.name, h.tenant, h.email, h.kind, min(h.line), count(*)
FROM hits AS h INDEXED BY hits_by_email CROSS JOIN names AS n USING (tenant)
GROUP BY h.tenant, h.email, h.kind;

-- name: leave_mail
-- An email is not written.
UPDATE mails SET left_out = ?3 WHERE tenant = ?1 AND email = ?2;

-- name: leave_hits
-- Some of the events of an email at one time are not written.
UPDATE hits SET left_out = ?6 WHERE (at, line) IN (
    SELECT at, line FROM hits
    WHERE tenant = ?1 AND email = ?2 AND kind = ?3 AND at = ?4 AND left_out IS NULL
    ORDER BY line LIMIT ?5
);

-- name: leave_older
-- Those up to a time are not.
UPDATE hits SET left_out = ?5 WHERE (at, line) IN (
    SELECT at, line FROM hits WHERE tenant = ?1 AND email = ?2 AND kind = ?3 AND at <= ?4
);
