-- Keys, privacy, and what is switched off.

-- What a tenant set for itself; NULL: the server's setting holds.
ALTER TABLE tenants ADD COLUMN consent INTEGER CHECK (consent BETWEEN 0 AND 2); -- full, aggregate, none
ALTER TABLE tenants ADD COLUMN addresses INTEGER CHECK (addresses BETWEEN 0 AND 2); -- full, truncate, none
ALTER TABLE tenants ADD COLUMN gpc INTEGER CHECK (gpc BETWEEN 0 AND 2); -- as consent: what Sec-GPC means
ALTER TABLE tenants ADD COLUMN retention_days INTEGER; -- of events; 0: for ever
ALTER TABLE tenants ADD COLUMN hosts TEXT; -- JSON list: where links may lead
ALTER TABLE tenants ADD COLUMN salt BLOB; -- of the hashes in optouts

-- Who may manage a tenant. Only a hash of a key is kept; a revoked one stays, so that a tenant that
-- ever had a key is closed.
CREATE TABLE keys (
    tenant INTEGER NOT NULL,
    key INTEGER NOT NULL, -- its number
    name TEXT NOT NULL,
    role INTEGER NOT NULL CHECK (role BETWEEN 0 AND 1), -- read, write
    hash BLOB NOT NULL, -- SHA-256
    created_at INTEGER NOT NULL, -- milliseconds since the epoch, UTC
    revoked_at INTEGER,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

-- Recipients who are not tracked, in mail already sent too: salted hashes, so that they can be
-- erased and still be left alone. While many emails are still to be marked, the address stands beside.
CREATE TABLE optouts (
    tenant INTEGER NOT NULL,
    recipient BLOB NOT NULL, -- 16 bytes of SHA-256 over the tenant's salt and the address in lower case
    at INTEGER NOT NULL, -- milliseconds since the epoch, UTC
    going INTEGER NOT NULL DEFAULT 0 CHECK (going BETWEEN 0 AND 1), -- 1: opted in, marks are taken away
    address TEXT, -- as it was told; NULL: all emails are marked
    next_email INTEGER, -- from this one down they are not
    PRIMARY KEY (tenant, recipient)
) STRICT, WITHOUT ROWID;

-- What is switched off: hits do not count, links lead nowhere.
CREATE TABLE blocks (
    tenant INTEGER NOT NULL,
    block INTEGER NOT NULL, -- its number
    kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2), -- the tenant, an email, a link
    email INTEGER,
    url TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, block)
) STRICT, WITHOUT ROWID;

-- An event of an email with consent `aggregate` names none (email is 0): its campaign stands here.
ALTER TABLE events ADD COLUMN campaign INTEGER;

-- What an email's state says of events that left the log while the email stayed: from here a
-- recount of the state begins. Their figures are in balances, all but the uniques, which follow from
-- the state.
CREATE TABLE closed_states (
    tenant INTEGER NOT NULL,
    email INTEGER NOT NULL,
    flags INTEGER NOT NULL, -- as in states
    opens INTEGER NOT NULL,
    machine_opens INTEGER NOT NULL,
    clicks INTEGER NOT NULL,
    machine_clicks INTEGER NOT NULL,
    first_open INTEGER,
    last_open INTEGER,
    first_machine_open INTEGER,
    last_machine_open INTEGER,
    first_click INTEGER,
    last_click INTEGER,
    first_machine_click INTEGER,
    last_machine_click INTEGER,
    PRIMARY KEY (tenant, email)
) STRICT, WITHOUT ROWID;

-- The same of its links.
CREATE TABLE closed_links (
    tenant INTEGER NOT NULL,
    email INTEGER NOT NULL,
    link INTEGER NOT NULL,
    clicks INTEGER NOT NULL,
    machine_clicks INTEGER NOT NULL,
    first_click INTEGER,
    PRIMARY KEY (tenant, email, link)
) STRICT, WITHOUT ROWID;

-- Recipients that are being erased: it is taken up again after a crash. What is numbered higher is
-- newer than the request.
CREATE TABLE erasures (
    erasure INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    recipient TEXT, -- NULL once no row holds it: then the file is cleaned
    last_email INTEGER NOT NULL,
    last_agent INTEGER NOT NULL,
    last_link INTEGER NOT NULL,
    last_campaign INTEGER NOT NULL
) STRICT;
