-- name: tenant
-- A tenant's number.
SELECT tenant FROM tenants WHERE name = ?;

-- name: figures
-- The sum of a tenant's figures in a span of buckets.
SELECT total(sent), total(opens), total(machine_opens), total(unique_opens),
    total(inferred_opens), total(clicks), total(machine_clicks), total(unique_clicks)
FROM figures WHERE tenant = ?1 AND scope = ?2 AND id = ?3 AND bucket >= ?4 AND bucket < ?5;

-- name: newest_events
-- The newest events of a tenant.
SELECT e.seq, e.at, e.email, e.kind, e.class, e.reasons, e.address, e.n,
    coalesce(a.user_agent, '(other)') AS user_agent,
    coalesce(l.url, '(other)') AS url,
    m.subject, m.recipient
FROM events AS e
LEFT JOIN agents AS a ON a.tenant = e.tenant AND a.agent = e.agent
LEFT JOIN links AS l ON l.tenant = e.tenant AND l.link = e.link
LEFT JOIN emails AS m ON m.tenant = e.tenant AND m.email = e.email
WHERE e.tenant = ?
ORDER BY e.seq DESC LIMIT ?;
