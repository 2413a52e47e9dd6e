-- name: sum_quarters
-- The sum of figures in a span of quarter hours.
SELECT coalesce(sum(sent), 0), coalesce(sum(opens), 0), coalesce(sum(machine_opens), 0),
    coalesce(sum(unique_opens), 0), coalesce(sum(inferred_opens), 0), coalesce(sum(clicks), 0),
    coalesce(sum(machine_clicks), 0), coalesce(sum(unique_clicks), 0)
FROM figures WHERE tenant = ?1 AND scope = ?2 AND id = ?3 AND bucket >= ?4 AND bucket < ?5;

-- name: sum_days
-- The same for a span with whole days in it: quarter hours from ?4 to day ?5, days up to ?6, and
-- quarter hours up to ?7.
SELECT coalesce(sum(sent), 0), coalesce(sum(opens), 0), coalesce(sum(machine_opens), 0),
    coalesce(sum(unique_opens), 0), coalesce(sum(inferred_opens), 0), coalesce(sum(clicks), 0),
    coalesce(sum(machine_clicks), 0), coalesce(sum(unique_clicks), 0)
FROM (
    SELECT sent, opens, machine_opens, unique_opens, inferred_opens, clicks, machine_clicks,
        unique_clicks
    FROM days WHERE tenant = ?1 AND scope = ?2 AND id = ?3 AND day >= ?5 AND day < ?6
    UNION ALL
    SELECT sent, opens, machine_opens, unique_opens, inferred_opens, clicks, machine_clicks,
        unique_clicks
    FROM figures
    WHERE tenant = ?1 AND scope = ?2 AND id = ?3 AND bucket >= ?4 AND bucket < ?5 * 96
    UNION ALL
    SELECT sent, opens, machine_opens, unique_opens, inferred_opens, clicks, machine_clicks,
        unique_clicks
    FROM figures
    WHERE tenant = ?1 AND scope = ?2 AND id = ?3 AND bucket >= ?6 * 96 AND bucket < ?7
);

-- name: first_and_last_day
-- The first and the last day of which a tenant has figures.
SELECT * FROM (SELECT day FROM days WHERE tenant = ?1 AND scope = 0 AND id = 0
    ORDER BY day LIMIT 1)
UNION ALL
SELECT * FROM (SELECT day FROM days WHERE tenant = ?1 AND scope = 0 AND id = 0
    ORDER BY day DESC LIMIT 1);

-- name: top_days
-- Those with the most of a figure (?5: its number; 8: all events) in the newest days of a span.
SELECT id, sum(n) FROM (
    SELECT id,
        CASE ?5 WHEN 0 THEN sent WHEN 1 THEN opens WHEN 2 THEN machine_opens
            WHEN 3 THEN unique_opens WHEN 4 THEN inferred_opens WHEN 5 THEN clicks
            WHEN 6 THEN machine_clicks WHEN 7 THEN unique_clicks
            ELSE opens + machine_opens + clicks + machine_clicks END AS n
    FROM days INDEXED BY days_by_day
    WHERE tenant = ?1 AND scope = ?2 AND day >= ?3 AND day < ?4
    ORDER BY day DESC LIMIT ?6
)
GROUP BY id HAVING sum(n) > 0 ORDER BY 2 DESC, id DESC LIMIT ?7;
