-- Figures by client and by day; emails found by recipient and by campaign; emails that change.

-- Which mail client it was and on what device (tracking/clients.py); revisable, as class is.
ALTER TABLE events ADD COLUMN client INTEGER;

-- As before, but for the scope of clients.
CREATE TABLE wider_figures (
    tenant INTEGER NOT NULL,
    scope INTEGER NOT NULL CHECK (scope BETWEEN 0 AND 3), -- tenant, campaign, link, client
    id INTEGER NOT NULL, -- 0, or of campaigns or links, or a client's number
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
INSERT INTO wider_figures SELECT * FROM figures;
DROP TABLE figures;
ALTER TABLE wider_figures RENAME TO figures;

-- The same by days UTC: long periods are sums of few rows, and a day's campaigns, links and clients
-- are found together.
CREATE TABLE days (
    tenant INTEGER NOT NULL,
    scope INTEGER NOT NULL CHECK (scope BETWEEN 0 AND 3),
    id INTEGER NOT NULL,
    day INTEGER NOT NULL, -- milliseconds since the epoch / 86,400,000
    sent INTEGER NOT NULL,
    opens INTEGER NOT NULL,
    machine_opens INTEGER NOT NULL,
    unique_opens INTEGER NOT NULL,
    inferred_opens INTEGER NOT NULL,
    clicks INTEGER NOT NULL,
    machine_clicks INTEGER NOT NULL,
    unique_clicks INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope, id, day)
) STRICT, WITHOUT ROWID;
INSERT INTO days
SELECT tenant, scope, id, bucket / 96, sum(sent), sum(opens), sum(machine_opens),
    sum(unique_opens), sum(inferred_opens), sum(clicks), sum(machine_clicks), sum(unique_clicks)
FROM figures GROUP BY tenant, scope, id, bucket / 96;
CREATE INDEX days_by_day ON days (tenant, scope, day, id);

-- Closing balances: what emails counted for that were deleted. A recount begins with them.
CREATE TABLE balances (
    tenant INTEGER NOT NULL,
    scope INTEGER NOT NULL CHECK (scope BETWEEN 0 AND 3),
    id INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
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

-- Emails whose events are too many for one transaction: those from next_open and next_click down
-- their chains are still to be deleted (kind 0), or still count for this campaign (kind 1).
-- Kind 2: a whole tenant, whose rows are still to be deleted; email is 0.
CREATE TABLE unfinished (
    tenant INTEGER NOT NULL,
    email INTEGER NOT NULL,
    kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2),
    campaign INTEGER,
    next_open INTEGER,
    next_click INTEGER,
    PRIMARY KEY (tenant, email)
) STRICT, WITHOUT ROWID;

-- The version of the rules that judged the oldest judgement of a tenant's log.
ALTER TABLE tenants ADD COLUMN rules INTEGER NOT NULL DEFAULT 1;

-- Both are written when an email is created or changed, never by a hit.
CREATE INDEX emails_by_recipient ON emails (tenant, recipient COLLATE NOCASE, email DESC)
WHERE recipient IS NOT NULL;
CREATE INDEX states_by_campaign ON states (tenant, campaign, email) WHERE campaign IS NOT NULL;
