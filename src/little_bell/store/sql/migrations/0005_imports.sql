-- What was imported, so that nothing of it counts twice.

-- An import is known by a hash of its rows, and stands with the tenant of the first of them. How far
-- it came is written with the rows.
CREATE TABLE imports (
    tenant INTEGER NOT NULL,
    import BLOB NOT NULL, -- 16 bytes of SHA-256 over its rows
    done INTEGER NOT NULL, -- rows of it that are in, or were left out
    total INTEGER NOT NULL, -- rows that it has
    at INTEGER NOT NULL, -- milliseconds since the epoch, UTC
    PRIMARY KEY (tenant, import)
) STRICT, WITHOUT ROWID;
