-- The log, the emails, and the figures that follow from them.
-- Tenant first in every key; nothing is unique across tenants but their names.

-- BETWEEN, not IN: SQLite builds a table for each IN of a CHECK, 6 us a row.
CREATE TABLE tenants (
    tenant INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    -- The last number handed out of each kind; never taken back, so none is used twice.
    last_email INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0,
    last_agent INTEGER NOT NULL DEFAULT 0,
    last_link INTEGER NOT NULL DEFAULT 0,
    last_campaign INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What was sent, as its sender told it.
CREATE TABLE emails (
    tenant INTEGER NOT NULL,
    email INTEGER NOT NULL,
    subject TEXT,
    recipient TEXT,
    metadata TEXT, -- JSON object of strings
    PRIMARY KEY (tenant, email)
) STRICT, WITHOUT ROWID;

-- What became of it: apart from the texts, so that a hit rewrites few bytes.
CREATE TABLE states (
    tenant INTEGER NOT NULL,
    email INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    campaign INTEGER, -- of campaigns
    consent INTEGER NOT NULL DEFAULT 0 CHECK (consent BETWEEN 0 AND 2), -- full, aggregate, none
    flags INTEGER NOT NULL DEFAULT 0, -- 1: hits came out of the order of time
    opens INTEGER NOT NULL DEFAULT 0,
    machine_opens INTEGER NOT NULL DEFAULT 0,
    clicks INTEGER NOT NULL DEFAULT 0,
    machine_clicks INTEGER NOT NULL DEFAULT 0,
    first_open INTEGER,
    last_open INTEGER,
    first_machine_open INTEGER,
    last_machine_open INTEGER,
    first_click INTEGER,
    last_click INTEGER,
    first_machine_click INTEGER,
    last_machine_click INTEGER,
    head_open INTEGER, -- seq of the newest open: the head of its chain
    head_click INTEGER, -- and of the newest click
    PRIMARY KEY (tenant, email)
) STRICT, WITHOUT ROWID;

-- The log. Rows are never changed but for class, reasons, rules (judged again) and a cap's n.
CREATE TABLE events (
    tenant INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL, -- milliseconds since the epoch, UTC
    email INTEGER NOT NULL,
    kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2), -- open, click, capped
    flags INTEGER NOT NULL,
    agent INTEGER, -- of agents; 0 is (other)
    link INTEGER, -- of links; 0 is (other)
    address BLOB, -- 3 or 6 bytes where truncated, 4 or 16 where whole
    prev INTEGER, -- seq of the previous event of the same email and kind
    class INTEGER CHECK (class BETWEEN 0 AND 3), -- human, proxy, machine, unknown
    reasons INTEGER NOT NULL, -- bits
    rules INTEGER NOT NULL, -- version of the rules that said so
    n INTEGER, -- hits that a cap stands for
    PRIMARY KEY (tenant, seq)
) STRICT, WITHOUT ROWID;

-- Dictionaries: big texts are stored once.
CREATE TABLE agents (
    tenant INTEGER NOT NULL,
    agent INTEGER NOT NULL,
    user_agent TEXT NOT NULL,
    PRIMARY KEY (tenant, agent),
    UNIQUE (tenant, user_agent)
) STRICT, WITHOUT ROWID;

CREATE TABLE links (
    tenant INTEGER NOT NULL,
    link INTEGER NOT NULL,
    url TEXT NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    part TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, link),
    UNIQUE (tenant, url, label, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE campaigns (
    tenant INTEGER NOT NULL,
    campaign INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (tenant, campaign),
    UNIQUE (tenant, name)
) STRICT, WITHOUT ROWID;

-- Which links of an email were followed: what a unique click of a link needs.
CREATE TABLE email_links (
    tenant INTEGER NOT NULL,
    email INTEGER NOT NULL,
    link INTEGER NOT NULL,
    clicks INTEGER NOT NULL,
    machine_clicks INTEGER NOT NULL,
    first_click INTEGER, -- by people, milliseconds since the epoch
    PRIMARY KEY (tenant, email, link)
) STRICT, WITHOUT ROWID;

-- Figures by 15 minutes UTC. They follow from states, email_links and events.
CREATE TABLE figures (
    tenant INTEGER NOT NULL,
    scope INTEGER NOT NULL CHECK (scope BETWEEN 0 AND 2), -- tenant, campaign, link
    id INTEGER NOT NULL, -- 0, or of campaigns or links
    bucket INTEGER NOT NULL, -- milliseconds since the epoch / 900,000
    sent INTEGER NOT NULL,
    opens INTEGER NOT NULL,
    machine_opens INTEGER NOT NULL,
    unique_opens INTEGER NOT NULL,
    inferred_opens INTEGER NOT NULL,
    clicks INTEGER NOT NULL,
    machine_clicks INTEGER NOT NULL,
    unique_clicks INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope, id, bucket)
) STRICT, WITHOUT ROWID;
