-- name: unscoped_states
-- What is kept of each email, in the order of their keys.
SELECT tenant, email, created_at, campaign, flags, opens, machine_opens, clicks, machine_clicks,
    first_open, last_open, first_machine_open, last_machine_open,
    first_click, last_click, first_machine_click, last_machine_click, head_open, head_click
FROM states ORDER BY tenant, email;

-- name: unscoped_events
-- The whole log, email by email.
SELECT tenant, email, seq, at, kind, link, class, prev, client, reasons, rules, flags, agent, address
FROM events WHERE kind < 2 AND email > 0 ORDER BY tenant, email, seq;

-- name: unscoped_aggregates
-- Events that name no email.
SELECT tenant, kind, class, client, link, at, campaign FROM events WHERE email = 0 AND kind < 2;

-- name: user_agent
-- The text of one number.
SELECT user_agent FROM agents WHERE tenant = ? AND agent = ?;

-- name: unscoped_email_links
-- How links of emails were followed, in the order of their keys.
SELECT tenant, email, link, clicks, machine_clicks, first_click FROM email_links
ORDER BY tenant, email, link;

-- name: unscoped_closed_states
-- What is known of purged events of emails, in the order of their keys.
SELECT tenant, email, flags, opens, machine_opens, clicks, machine_clicks,
    first_open, last_open, first_machine_open, last_machine_open,
    first_click, last_click, first_machine_click, last_machine_click
FROM closed_states ORDER BY tenant, email;

-- name: unscoped_closed_links
-- The same of their links.
SELECT tenant, email, link, clicks, machine_clicks, first_click FROM closed_links
ORDER BY tenant, email, link;

-- name: event_exists
-- Whether there is an event with this number.
SELECT 1 FROM events WHERE tenant = ? AND seq = ?;

-- name: unscoped_figures
-- All figures.
SELECT tenant, scope, id, bucket, sent, opens, machine_opens, unique_opens, inferred_opens,
    clicks, machine_clicks, unique_clicks
FROM figures;

-- name: unscoped_days
-- The same by days.
SELECT tenant, scope, id, day, sent, opens, machine_opens, unique_opens, inferred_opens,
    clicks, machine_clicks, unique_clicks
FROM days;

-- name: unscoped_balances
-- What figures of events that left the log were.
SELECT tenant, scope, id, bucket, sent, opens, machine_opens, unique_opens, inferred_opens,
    clicks, machine_clicks, unique_clicks
FROM balances;

-- name: unscoped_events_count
-- How long the log is.
SELECT count(*) FROM events;

-- name: unscoped_stateless
-- Emails of which nothing is kept but their texts.
SELECT count(*) FROM emails AS e JOIN tenants AS t USING (tenant)
WHERE NOT EXISTS (SELECT 1 FROM states AS s WHERE s.tenant = e.tenant AND s.email = e.email);

-- name: unscoped_numbers_behind
-- Tenants whose last numbers are lower than what stands in the file.
SELECT name FROM tenants AS t
WHERE last_seq < (SELECT ifnull(max(seq), 0) FROM events AS e WHERE e.tenant = t.tenant)
    OR last_email < (SELECT ifnull(max(email), 0) FROM states AS s WHERE s.tenant = t.tenant);
