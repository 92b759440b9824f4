//! The layout of the store, and how older ones become it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use seaway_wire::Usage;

use super::keys::{HOUR, bound, signed};
use super::{StoreError, made};
use crate::config::{self, PriceBook};
use crate::trusted::Modes;

/// Each step brings the layout to the version that is its place in the list.
const MIGRATIONS: [&str; 14] = [
    "
    CREATE TABLE exchange (
        id TEXT PRIMARY KEY,
        request_id TEXT NOT NULL,
        at INTEGER NOT NULL,            -- milliseconds since the epoch
        caller TEXT NOT NULL,
        dialect TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        upstream TEXT,
        asked TEXT NOT NULL,            -- the model by the client's name
        model TEXT,                     -- the model by the upstream's word
        stream INTEGER NOT NULL,
        status INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        stop_reason TEXT,
        fault TEXT,
        attempts INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        first_byte_us INTEGER,
        total_us INTEGER NOT NULL,
        body_in BLOB,                   -- BLAKE3
        body_out BLOB,                  -- none where it is the same
        changes TEXT NOT NULL           -- JSON: [[name, path], …]
    ) STRICT;
    CREATE INDEX exchange_at ON exchange (at);
",
    "
    CREATE TABLE session (
        upstream TEXT NOT NULL,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        program_id TEXT NOT NULL,       -- the program's own name of it
        model TEXT NOT NULL,
        print TEXT NOT NULL,            -- SHA-256 of what was said; nothing of it is kept here
        folder TEXT,                    -- where a run worked
        turns INTEGER NOT NULL,
        used INTEGER NOT NULL,          -- seconds since the epoch
        PRIMARY KEY (owner, upstream, name)
    ) STRICT;
    CREATE TABLE task (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        status TEXT NOT NULL,           -- queued, running, completed, failed, cancelled
        created INTEGER NOT NULL,       -- milliseconds since the epoch
        started INTEGER,
        ended INTEGER,
        process INTEGER NOT NULL,       -- who works on it
        answer TEXT,                    -- JSON, as a run answers
        error TEXT                      -- JSON: {type, message}
    ) STRICT;
    CREATE INDEX task_owner ON task (owner, created);
",
    "
    CREATE TABLE response (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        created INTEGER NOT NULL,       -- seconds since the epoch
        object TEXT NOT NULL,           -- JSON, as the client got it
        items TEXT NOT NULL,            -- JSON: the input of its request
        system TEXT NOT NULL,           -- JSON: what a later request goes on from, as Messages had it
        turns TEXT NOT NULL,
        model TEXT NOT NULL
    ) STRICT;
    CREATE INDEX response_created ON response (created);
",
    "
    ALTER TABLE exchange ADD COLUMN wanted TEXT;    -- the model that its upstream was asked for
    ALTER TABLE exchange ADD COLUMN sent INTEGER;   -- an upstream got it, or may have; none where that was not noted
",
    "
    CREATE TABLE name (
        id INTEGER PRIMARY KEY,
        text TEXT NOT NULL UNIQUE
    ) STRICT;
    INSERT OR IGNORE INTO name (text)
        SELECT caller FROM exchange UNION SELECT dialect FROM exchange UNION SELECT endpoint FROM exchange UNION SELECT asked FROM exchange UNION SELECT outcome FROM exchange
        UNION SELECT upstream FROM exchange WHERE upstream IS NOT NULL UNION SELECT wanted FROM exchange WHERE wanted IS NOT NULL
        UNION SELECT model FROM exchange WHERE model IS NOT NULL UNION SELECT stop_reason FROM exchange WHERE stop_reason IS NOT NULL
        UNION SELECT fault FROM exchange WHERE fault IS NOT NULL UNION SELECT changes FROM exchange WHERE changes <> '[]' UNION SELECT '';
    CREATE TABLE record (
        id BLOB PRIMARY KEY,            -- UUIDv7: our own id without what stands before it; in the order of time
        at INTEGER NOT NULL,            -- milliseconds since the epoch
        request TEXT,                   -- the id that the client saw; none where it is ours
        caller INTEGER NOT NULL,        -- this and the like: a row of name
        dialect INTEGER NOT NULL,
        endpoint INTEGER NOT NULL,
        upstream INTEGER,
        asked INTEGER NOT NULL,         -- the model by the client's name
        wanted INTEGER,                 -- the model that its upstream was asked for
        model INTEGER,                  -- the model by the upstream's word
        stream INTEGER NOT NULL,
        sent INTEGER,                   -- an upstream got it, or may have; none where that was not noted
        status INTEGER NOT NULL,
        outcome INTEGER NOT NULL,
        stop_reason INTEGER,
        fault INTEGER,
        attempts INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        first_byte_us INTEGER,
        total_us INTEGER NOT NULL,
        body_in BLOB,                   -- BLAKE3
        body_out BLOB,                  -- none where it is the same
        changes INTEGER                 -- JSON: [[name, path], …]; none where there are none
    ) STRICT, WITHOUT ROWID;
    INSERT OR IGNORE INTO record
        SELECT CASE WHEN id GLOB 'req_sw_*' AND length(unhex(substr(id, 8))) = 16 THEN unhex(substr(id, 8)) ELSE unhex(printf('%012x', at) || hex(randomblob(10))) END,
            at, nullif(request_id, id), (SELECT id FROM name WHERE text = caller), (SELECT id FROM name WHERE text = dialect),
            (SELECT id FROM name WHERE text = endpoint), (SELECT id FROM name WHERE text = upstream), (SELECT id FROM name WHERE text = asked),
            (SELECT id FROM name WHERE text = wanted), (SELECT id FROM name WHERE text = model), stream, sent, status,
            (SELECT id FROM name WHERE text = outcome), (SELECT id FROM name WHERE text = stop_reason), (SELECT id FROM name WHERE text = fault),
            attempts, input, output, cache_read, cache_write, cache_write_1h, first_byte_us, total_us, body_in, body_out,
            (SELECT id FROM name WHERE text = nullif(changes, '[]'))
        FROM exchange ORDER BY at;
    CREATE INDEX record_request ON record (request) WHERE request IS NOT NULL;
    CREATE TABLE hourly (               -- what records add up to; it outlives them
        hour INTEGER NOT NULL,          -- since the epoch
        model INTEGER NOT NULL,
        caller INTEGER NOT NULL,
        upstream INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        PRIMARY KEY (hour, model, caller, upstream)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO hourly
        SELECT at / 3600000, (SELECT id FROM name WHERE text = coalesce(model, wanted, asked)), (SELECT id FROM name WHERE text = caller), (SELECT id FROM name WHERE text = coalesce(upstream, '')), count(*), sum(outcome <> 'completed'),
            sum(input), sum(output), sum(cache_read), sum(cache_write), sum(cache_write_1h)
        FROM exchange WHERE endpoint NOT IN ('count_tokens', 'input_tokens') GROUP BY 1, 2, 3, 4;
    DROP TABLE exchange;
    CREATE VIEW exchange AS             -- for people, who read names
        SELECT 'req_sw_' || lower(hex(r.id)) AS id, coalesce(r.request, 'req_sw_' || lower(hex(r.id))) AS request_id, r.at,
            (SELECT text FROM name WHERE id = r.caller) AS caller, (SELECT text FROM name WHERE id = r.dialect) AS dialect,
            (SELECT text FROM name WHERE id = r.endpoint) AS endpoint, (SELECT text FROM name WHERE id = r.upstream) AS upstream,
            (SELECT text FROM name WHERE id = r.asked) AS asked, (SELECT text FROM name WHERE id = r.wanted) AS wanted,
            (SELECT text FROM name WHERE id = r.model) AS model, r.stream, r.sent, r.status,
            (SELECT text FROM name WHERE id = r.outcome) AS outcome, (SELECT text FROM name WHERE id = r.stop_reason) AS stop_reason,
            (SELECT text FROM name WHERE id = r.fault) AS fault, r.attempts, r.input, r.output, r.cache_read, r.cache_write, r.cache_write_1h,
            r.first_byte_us, r.total_us, r.body_in, r.body_out, coalesce((SELECT text FROM name WHERE id = r.changes), '[]') AS changes, r.id AS key
        FROM record AS r;
    ALTER TABLE session DROP COLUMN print;
    CREATE INDEX session_used ON session (used);
    ALTER TABLE task DROP COLUMN process;
    ALTER TABLE task ADD COLUMN instance TEXT NOT NULL DEFAULT '';  -- which gateway works on it
    ALTER TABLE task ADD COLUMN lease INTEGER NOT NULL DEFAULT 0;   -- until when it does for sure, in milliseconds since the epoch
    CREATE INDEX task_under_way ON task (lease) WHERE ended IS NULL;
    ALTER TABLE response ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
    UPDATE response SET size = octet_length(object) + octet_length(items) + octet_length(system) + octet_length(turns);
    DROP INDEX response_created;
    CREATE INDEX response_created ON response (created, size);
",
    "
    ALTER TABLE record ADD COLUMN cost INTEGER;     -- micro-dollars; none where there was no price
    ALTER TABLE hourly ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE hourly ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0; -- the part of cost that was reckoned afterwards
    ALTER TABLE hourly ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0;  -- requests that are not in cost
    DROP VIEW exchange;
    CREATE VIEW exchange AS
        SELECT 'req_sw_' || lower(hex(r.id)) AS id, coalesce(r.request, 'req_sw_' || lower(hex(r.id))) AS request_id, r.at,
            (SELECT text FROM name WHERE id = r.caller) AS caller, (SELECT text FROM name WHERE id = r.dialect) AS dialect,
            (SELECT text FROM name WHERE id = r.endpoint) AS endpoint, (SELECT text FROM name WHERE id = r.upstream) AS upstream,
            (SELECT text FROM name WHERE id = r.asked) AS asked, (SELECT text FROM name WHERE id = r.wanted) AS wanted,
            (SELECT text FROM name WHERE id = r.model) AS model, r.stream, r.sent, r.status,
            (SELECT text FROM name WHERE id = r.outcome) AS outcome, (SELECT text FROM name WHERE id = r.stop_reason) AS stop_reason,
            (SELECT text FROM name WHERE id = r.fault) AS fault, r.attempts, r.input, r.output, r.cache_read, r.cache_write, r.cache_write_1h,
            r.first_byte_us, r.total_us, r.body_in, r.body_out, coalesce((SELECT text FROM name WHERE id = r.changes), '[]') AS changes, r.cost, r.id AS key
        FROM record AS r;
",
    "
    CREATE TABLE made (
        id TEXT PRIMARY KEY,            -- of a file or a batch
        upstream TEXT NOT NULL,
        made INTEGER NOT NULL           -- seconds since the epoch
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX made_at ON made (made);
",
    "
    ALTER TABLE made ADD COLUMN owner TEXT NOT NULL DEFAULT '';    -- the caller; empty where that was not noted
    CREATE INDEX made_owner ON made (owner);
",
    "
    CREATE TABLE audit (
        id BLOB PRIMARY KEY,            -- UUIDv7: in the order of time
        event TEXT NOT NULL,
        who TEXT NOT NULL,              -- the caller; empty for nobody known
        address TEXT,                   -- none from this machine's own sockets and commands
        detail TEXT NOT NULL,
        count INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE spooled (              -- files of records that were taken over, so that none is taken twice
        id TEXT PRIMARY KEY,
        taken INTEGER NOT NULL          -- milliseconds since the epoch
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE record ADD COLUMN book INTEGER;     -- which prices the cost is by; none where they were not noted
    ALTER TABLE record ADD COLUMN reckoned INTEGER NOT NULL DEFAULT 0; -- the part of cost for tokens that nobody told
    DROP VIEW exchange;
    CREATE VIEW exchange AS
        SELECT 'req_sw_' || lower(hex(r.id)) AS id, coalesce(r.request, 'req_sw_' || lower(hex(r.id))) AS request_id, r.at,
            (SELECT text FROM name WHERE id = r.caller) AS caller, (SELECT text FROM name WHERE id = r.dialect) AS dialect,
            (SELECT text FROM name WHERE id = r.endpoint) AS endpoint, (SELECT text FROM name WHERE id = r.upstream) AS upstream,
            (SELECT text FROM name WHERE id = r.asked) AS asked, (SELECT text FROM name WHERE id = r.wanted) AS wanted,
            (SELECT text FROM name WHERE id = r.model) AS model, r.stream, r.sent, r.status,
            (SELECT text FROM name WHERE id = r.outcome) AS outcome, (SELECT text FROM name WHERE id = r.stop_reason) AS stop_reason,
            (SELECT text FROM name WHERE id = r.fault) AS fault, r.attempts, r.input, r.output, r.cache_read, r.cache_write, r.cache_write_1h,
            r.first_byte_us, r.total_us, r.body_in, r.body_out, coalesce((SELECT text FROM name WHERE id = r.changes), '[]') AS changes, r.cost, (SELECT text FROM name WHERE id = r.book) AS book, r.reckoned, r.id AS key
        FROM record AS r;
",
    "
    CREATE TABLE key (                  -- that were given out, and what is set for keys of the configuration
        name TEXT PRIMARY KEY,
        hash BLOB,                      -- BLAKE3 of the key, keyed; none for a key of the configuration
        plain INTEGER NOT NULL,         -- it is SHA-256 instead, as another gateway kept it
        old_hash BLOB,                  -- what it was before it was replaced
        old_plain INTEGER NOT NULL,
        old_until INTEGER,              -- milliseconds since the epoch
        settings TEXT NOT NULL,         -- JSON
        created INTEGER NOT NULL,
        revoked INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX key_hash ON key (hash) WHERE hash IS NOT NULL;
    CREATE TABLE team (
        name TEXT PRIMARY KEY,
        settings TEXT NOT NULL,         -- JSON
        created INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE used (                 -- what was spent, by days as budgets go
        team INTEGER NOT NULL,          -- 1 for a team's, 0 for a caller's
        who INTEGER NOT NULL,           -- a row of name
        day TEXT NOT NULL,              -- 2026-11-30
        spent INTEGER NOT NULL,         -- micro-dollars
        requests INTEGER NOT NULL,
        last INTEGER NOT NULL,          -- milliseconds since the epoch
        PRIMARY KEY (team, who, day)
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE audit ADD COLUMN before TEXT;       -- JSON
    ALTER TABLE audit ADD COLUMN after TEXT;
    ALTER TABLE record ADD COLUMN team INTEGER;     -- a row of name
    ALTER TABLE record ADD COLUMN session TEXT;     -- the client's names, from here on
    ALTER TABLE record ADD COLUMN agent TEXT;
    ALTER TABLE record ADD COLUMN parent_agent TEXT;
    ALTER TABLE record ADD COLUMN prompt TEXT;
    ALTER TABLE record ADD COLUMN class INTEGER;    -- this and the like: a row of name
    ALTER TABLE record ADD COLUMN client INTEGER;
    ALTER TABLE record ADD COLUMN version INTEGER;
    CREATE INDEX record_session ON record (session) WHERE session IS NOT NULL;
    DROP VIEW exchange;
    CREATE VIEW exchange AS
        SELECT 'req_sw_' || lower(hex(r.id)) AS id, coalesce(r.request, 'req_sw_' || lower(hex(r.id))) AS request_id, r.at,
            (SELECT text FROM name WHERE id = r.caller) AS caller, (SELECT text FROM name WHERE id = r.dialect) AS dialect,
            (SELECT text FROM name WHERE id = r.endpoint) AS endpoint, (SELECT text FROM name WHERE id = r.upstream) AS upstream,
            (SELECT text FROM name WHERE id = r.asked) AS asked, (SELECT text FROM name WHERE id = r.wanted) AS wanted,
            (SELECT text FROM name WHERE id = r.model) AS model, r.stream, r.sent, r.status,
            (SELECT text FROM name WHERE id = r.outcome) AS outcome, (SELECT text FROM name WHERE id = r.stop_reason) AS stop_reason,
            (SELECT text FROM name WHERE id = r.fault) AS fault, r.attempts, r.input, r.output, r.cache_read, r.cache_write, r.cache_write_1h,
            r.first_byte_us, r.total_us, r.body_in, r.body_out, coalesce((SELECT text FROM name WHERE id = r.changes), '[]') AS changes, r.cost, (SELECT text FROM name WHERE id = r.book) AS book, r.reckoned,
            (SELECT text FROM name WHERE id = r.team) AS team, r.session, r.agent, r.parent_agent, r.prompt,
            (SELECT text FROM name WHERE id = r.class) AS class, (SELECT text FROM name WHERE id = r.client) AS client, (SELECT text FROM name WHERE id = r.version) AS version,
            r.id AS key
        FROM record AS r;
",
    "
    CREATE TABLE login (                -- programs that signed in with a key
        id INTEGER PRIMARY KEY,         -- random
        name TEXT NOT NULL,             -- whose key
        proof BLOB NOT NULL,            -- of the key as it was then
        program TEXT NOT NULL,          -- as it names itself
        created INTEGER NOT NULL,       -- milliseconds since the epoch
        until INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE telemetry (            -- what programs told of their sessions: numbers and names, no text
        caller INTEGER NOT NULL,        -- a row of name
        session TEXT NOT NULL,
        what TEXT NOT NULL,
        series INTEGER NOT NULL,        -- 0 for what is added up; else a row of growing numbers, of which this is the last
        value REAL NOT NULL,
        at INTEGER NOT NULL,            -- milliseconds since the epoch
        PRIMARY KEY (caller, session, what, series)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX telemetry_at ON telemetry (at);
    CREATE INDEX telemetry_session ON telemetry (session);
",
    "
    CREATE TABLE shape (                -- what many records have in common; texts are rows of name
        id INTEGER PRIMARY KEY,
        caller INTEGER NOT NULL,
        dialect INTEGER NOT NULL,
        endpoint INTEGER NOT NULL,
        upstream INTEGER,
        asked INTEGER NOT NULL,         -- the model by the client's name
        wanted INTEGER,                 -- the model that its upstream was asked for
        model INTEGER,                  -- the model by the upstream's word
        outcome INTEGER NOT NULL,
        stop_reason INTEGER,
        fault INTEGER,
        changes INTEGER,                -- JSON: [[name, path], …]; none where there are none
        book INTEGER,                   -- which prices the cost is by; none where they were not noted
        team INTEGER,
        class INTEGER,
        client INTEGER,
        version INTEGER,
        stream INTEGER NOT NULL,
        sent INTEGER,                   -- an upstream got it, or may have; none where that was not noted
        status INTEGER NOT NULL,
        attempts INTEGER NOT NULL
    ) STRICT;
    INSERT INTO shape (caller, dialect, endpoint, upstream, asked, wanted, model, outcome, stop_reason, fault, changes, book, team, class, client, version, stream, sent, status, attempts)
        SELECT DISTINCT caller, dialect, endpoint, upstream, asked, wanted, model, outcome, stop_reason, fault, changes, book, team, class, client, version, stream, sent, status, attempts FROM record;
    CREATE INDEX shape_known ON shape (asked, caller, outcome, client);
    DROP VIEW exchange;
    DROP INDEX record_request;
    DROP INDEX record_session;
    ALTER TABLE record RENAME TO wide;
    CREATE TABLE record (
        id BLOB PRIMARY KEY,            -- UUIDv7: our own id without what stands before it; in the order of time
        at INTEGER NOT NULL,            -- milliseconds since the epoch
        shape INTEGER NOT NULL,
        request TEXT,                   -- the id that the client saw; none where it is ours
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        first_byte_us INTEGER,
        total_us INTEGER NOT NULL,
        body_in BLOB,                   -- BLAKE3; empty where it went on as it came and was not hashed
        body_out BLOB,                  -- none where it is the same
        cost INTEGER,                   -- micro-dollars; none where there was no price
        reckoned INTEGER NOT NULL,      -- the part of cost for tokens that nobody told
        session TEXT,                   -- the client's names, from here on
        agent TEXT,
        parent_agent TEXT,
        prompt TEXT
    ) STRICT, WITHOUT ROWID;
    INSERT INTO record
        SELECT w.id, w.at, s.id, w.request, w.input, w.output, w.cache_read, w.cache_write, w.cache_write_1h, w.first_byte_us, w.total_us, w.body_in, w.body_out,
            w.cost, w.reckoned, w.session, w.agent, w.parent_agent, w.prompt
        FROM wide AS w CROSS JOIN shape AS s
            ON s.asked = w.asked AND s.caller = w.caller AND s.outcome = w.outcome AND s.client IS w.client AND s.dialect = w.dialect AND s.endpoint = w.endpoint
            AND s.upstream IS w.upstream AND s.wanted IS w.wanted AND s.model IS w.model AND s.stop_reason IS w.stop_reason AND s.fault IS w.fault
            AND s.changes IS w.changes AND s.book IS w.book AND s.team IS w.team AND s.class IS w.class AND s.version IS w.version
            AND s.stream = w.stream AND s.sent IS w.sent AND s.status = w.status AND s.attempts = w.attempts
        ORDER BY w.id;
    DROP TABLE wide;
    CREATE INDEX record_request ON record (request) WHERE request IS NOT NULL;
    CREATE INDEX record_session ON record (session) WHERE session IS NOT NULL;
    CREATE VIEW exchange AS
        SELECT 'req_sw_' || lower(hex(r.id)) AS id, coalesce(r.request, 'req_sw_' || lower(hex(r.id))) AS request_id, r.at,
            (SELECT text FROM name WHERE id = s.caller) AS caller, (SELECT text FROM name WHERE id = s.dialect) AS dialect,
            (SELECT text FROM name WHERE id = s.endpoint) AS endpoint, (SELECT text FROM name WHERE id = s.upstream) AS upstream,
            (SELECT text FROM name WHERE id = s.asked) AS asked, (SELECT text FROM name WHERE id = s.wanted) AS wanted,
            (SELECT text FROM name WHERE id = s.model) AS model, s.stream, s.sent, s.status,
            (SELECT text FROM name WHERE id = s.outcome) AS outcome, (SELECT text FROM name WHERE id = s.stop_reason) AS stop_reason,
            (SELECT text FROM name WHERE id = s.fault) AS fault, s.attempts, r.input, r.output, r.cache_read, r.cache_write, r.cache_write_1h,
            r.first_byte_us, r.total_us, r.body_in, r.body_out, coalesce((SELECT text FROM name WHERE id = s.changes), '[]') AS changes, r.cost, (SELECT text FROM name WHERE id = s.book) AS book, r.reckoned,
            (SELECT text FROM name WHERE id = s.team) AS team, r.session, r.agent, r.parent_agent, r.prompt,
            (SELECT text FROM name WHERE id = s.class) AS class, (SELECT text FROM name WHERE id = s.client) AS client, (SELECT text FROM name WHERE id = s.version) AS version,
            r.id AS key
        FROM record AS r CROSS JOIN shape AS s ON s.id = r.shape;
",
];

/// From this layout on, a record says what it cost.
const COST: i64 = 6;
/// From this one on, sums are kept by callers and days.
const USED: i64 = 11;
const USED_BEFORE: &str = "INSERT INTO used
    SELECT 0, caller, date(hour * 3600, 'unixepoch'), sum(cost), sum(requests), max(hour) * 3600000 FROM hourly GROUP BY 2, 3";

/// Reckons what was used before records had a cost, as well as it can be known from sums: once, by the prices of today.
fn estimate(database: &Connection, prices: &PriceBook) -> rusqlite::Result<()> {
    let mut select =
        database.prepare("SELECT hour, model, caller, upstream, (SELECT text FROM name WHERE id = model), input, output, cache_read, cache_write, cache_write_1h FROM hourly")?;
    let mut update = database.prepare(
        "UPDATE hourly SET cost = coalesce(?5, 0), estimated = coalesce(?5, 0), unpriced = iif(?5 IS NULL, requests, 0)
            WHERE hour = ?1 AND model = ?2 AND caller = ?3 AND upstream = ?4",
    )?;
    let hours = select.query_map([], |row| {
        let key: [i64; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
        let (input, output, cache_read, cache_write, cache_write_1h) =
            (row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?);
        Ok((
            key,
            row.get::<_, String>(4)?,
            Usage { input, output, cache_read, cache_write, cache_write_1h, ..Usage::default() },
        ))
    })?;
    for ([hour, model, caller, upstream], name, usage) in hours.collect::<Result<Vec<_>, _>>()? {
        let at = jiff::Timestamp::from_millisecond(hour.saturating_mul(HOUR)).unwrap_or_default();
        let day = config::day(at);
        update.execute(params![
            hour,
            model,
            caller,
            upstream,
            prices.of_sum(&name, &usage, day).map(signed)
        ])?;
    }
    Ok(())
}

fn version(database: &Connection) -> rusqlite::Result<i64> {
    database.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// How SQLite calls it that free pages can be given back some at a time.
const INCREMENTAL: i64 = 2;

/// The version of the layout that this program knows.
fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Refuses a layout that is newer than this program.
pub(super) fn check(database: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(database)?;
    if found > known() {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: known() });
    }
    Ok(())
}

/// Refuses any other layout than that of this program, for who may not change it.
pub(super) fn check_to_read(database: &Connection, path: &Path) -> Result<(), StoreError> {
    check(database, path)?;
    if version(database)? < known() {
        return Err(StoreError::Older { path: path.to_owned() });
    }
    Ok(())
}

/// How long the copy of an older store is kept, at the most: what is deleted meanwhile is in it still.
const COPY_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Copies an older store, whole, before its layout is touched: `seaway.db.layout-4` holds what `seaway.db` was.
///
/// # Errors
///
/// If there is no room for it; the store is then left as it is.
pub(super) fn copy(database: &Connection, path: &Path, modes: Modes) -> Result<(), StoreError> {
    let found = version(database)?;
    if !(1..known()).contains(&found) {
        return Ok(());
    }
    let named = |end: &str| PathBuf::from(format!("{}.layout-{found}{end}", path.display()));
    let (copy, unfinished) = (named(""), named(&format!(".{}", std::process::id())));
    if copy.exists() {
        return Ok(());
    }
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Copy {
        path: copy.clone(),
        source,
    };
    // A gateway that was killed meanwhile may have had this number.
    let _none = std::fs::remove_file(&unfinished);
    crate::trusted::private_file(&unfinished, modes).map_err(|error| failed(error.into()))?;
    let written = database
        .execute("VACUUM INTO ?1", [unfinished.to_string_lossy()])
        .map_err(|error| failed(error.into()));
    let placed = written
        .and_then(|_| std::fs::rename(&unfinished, &copy).map_err(|error| failed(error.into())));
    if placed.is_err() {
        // Half a copy is of no use, and fills the disk.
        let _gone = std::fs::remove_file(&unfinished);
    }
    placed.inspect(|()| tracing::info!(path = %copy.display(), days = COPY_KEPT.as_secs() / 86_400, "the older store was copied; the copy is deleted in time"))
}

/// Deletes copies of older stores, whole or half, that were kept long enough.
pub(super) fn forget_copies(path: &Path, retention: Duration) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let begins = format!("{}.layout-", name.to_string_lossy());
    for file in std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with(&begins))
    {
        let age =
            file.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age >= COPY_KEPT.min(retention))
            && let Err(error) = std::fs::remove_file(file.path())
        {
            tracing::warn!(%error, path = %file.path().display(), "the copy of an older store could not be deleted");
        }
    }
}

/// Brings the layout up to date, all of it or nothing.
pub(super) fn migrate(
    database: &mut Connection,
    path: &Path,
    prices: &PriceBook,
) -> Result<(), StoreError> {
    let found = version(database)?;
    if found > 0 && found < known() {
        tracing::info!(path = %path.display(), "the store is brought to a newer layout; a large one takes a moment");
    }
    // Of several that start at once, one migrates and the others find it done.
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    check(&transaction, path)?;
    let found = version(&transaction)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    if found < COST {
        estimate(&transaction, prices)?;
    }
    if found < USED {
        transaction.execute_batch(USED_BEFORE)?;
    }
    transaction.pragma_update(None, "user_version", known())?;
    transaction.commit()?;
    let gives_back = database
        .pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))?
        == INCREMENTAL;
    if !gives_back
        && let Err(error) = database.execute_batch("PRAGMA auto_vacuum = incremental; VACUUM")
    {
        tracing::warn!(%error, path = %path.display(), "the store keeps the room of what is deleted, until there is room to write it anew; that is tried at the next start");
    }
    Ok(())
}

/// Records that are deleted at once at most: a promise waits so long.
const SLICE: i64 = 50;
/// Pages that are given back with them.
const PAGES: u32 = 20;

/// Deletes some of what is older than `retention`; true if there may be more.
pub(super) fn forget(database: &mut Connection, retention: Duration) -> rusqlite::Result<bool> {
    let oldest = jiff::Timestamp::now()
        .as_millisecond()
        .saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let records = transaction.execute(
        "DELETE FROM record WHERE id IN (SELECT id FROM record WHERE id < ?1 ORDER BY id LIMIT ?2)",
        params![bound(oldest), SLICE],
    )?;
    let mut more = records > 0;
    // Each slice looks at all tasks, so they have their turn when the records are gone.
    if !more {
        let tasks = transaction.execute(
            "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE ended < ?1 LIMIT ?2)",
            params![oldest, SLICE],
        )?;
        let sessions = transaction.execute("DELETE FROM session WHERE rowid IN (SELECT rowid FROM session WHERE used < ?1 LIMIT ?2)", params![oldest / 1000, SLICE])?;
        let audited = transaction.execute(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ?1 ORDER BY id LIMIT ?2)",
            params![bound(oldest), SLICE],
        )?;
        let told = transaction.execute(
            "DELETE FROM telemetry WHERE (caller, session, what, series) IN (SELECT caller, session, what, series FROM telemetry WHERE at < ?1 LIMIT ?2)",
            params![oldest, SLICE],
        )?;
        more = tasks + sessions + audited + told > 0 || made::forget(&transaction, SLICE)?;
        transaction.execute(
            "DELETE FROM login WHERE until < ?1",
            [jiff::Timestamp::now().as_millisecond()],
        )?;
    }
    transaction.commit()?;
    if more {
        give_back(database)?;
    }
    Ok(more)
}

/// Gives some free pages back to the file system.
pub(super) fn give_back(database: &Connection) -> rusqlite::Result<()> {
    let mut vacuum = database.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut steps = vacuum.query([])?;
    while steps.next()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use seaway_wire::price::{Price, Rates};

    use super::*;
    use crate::config::{Glob, PriceEntry, StoreConfig, StoreSync};

    /// Writes one record as a layout has it.
    fn fill(old: &Connection, from: usize) {
        if from < 5 {
            let columns: usize = old
                .query_row("SELECT count(*) FROM pragma_table_info('exchange')", [], |row| {
                    row.get(0)
                })
                .unwrap();
            // Two of them are hashes, which a number is not.
            let value = |number: usize| {
                if (22..24).contains(&number) { "NULL".to_owned() } else { number.to_string() }
            };
            let values = (0..columns).map(value).collect::<Vec<_>>().join(",");
            old.execute(&format!("INSERT INTO exchange VALUES ({values})"), []).unwrap();
        } else {
            old.execute_batch(&format!(
                "INSERT INTO name VALUES (7, '7'), (8, '8');
                INSERT INTO record VALUES (zeroblob(16), 2, NULL, 8, 8, 8, 8, 7, NULL, 8, 9, NULL, 10, 8, NULL, NULL, 1, 15, 16, 17, 18, 19, NULL, 21, NULL, NULL, NULL{});
                INSERT INTO hourly VALUES (0, 8, 8, 8, 1, 1, 15, 16, 17, 18, 19{});",
                match from {
                    0..6 => "",
                    6..10 => ", 30",
                    10 => ", 30, NULL, 0",
                    _ => ", 30, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
                },
                if from < 6 { "" } else { ", 30, 30, 0" },
            ))
            .unwrap();
        }
    }

    fn copies_are_forgotten_in_time(folder: &Path) {
        let files = || std::fs::read_dir(folder).unwrap().count();
        assert_eq!(files(), 2 * (MIGRATIONS.len() - 1), "no side files, no half copies");
        let (first, second) = (folder.join("1.db"), folder.join("2.db"));
        std::fs::File::options()
            .append(true)
            .open(folder.join("1.db.layout-1"))
            .unwrap()
            .set_modified(std::time::SystemTime::now() - COPY_KEPT)
            .unwrap();
        for path in [&first, &second] {
            forget_copies(path, Duration::MAX);
        }
        assert!(
            !folder.join("1.db.layout-1").exists() && folder.join("2.db.layout-2").exists(),
            "after a week, and not before"
        );
        forget_copies(&second, Duration::ZERO);
        assert_eq!(files(), 2 * (MIGRATIONS.len() - 1) - 2, "nor longer than records");
    }

    #[test]
    fn an_older_store_is_copied_before_it_is_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let rates =
            Rates { input: 2_000_000, output: 0, cache_read: 0, cache_write: 0, cache_write_1h: 0 };
        let since = vec![(jiff::civil::Date::MIN, Price { rates, fast: None, long: None })];
        let entry = PriceEntry { models: Glob("8".into()), own: false, since };
        let prices = PriceBook::new("2026-11-29", vec![entry], Vec::new());
        for from in 1..MIGRATIONS.len() {
            let path = folder.path().join(format!("{from}.db"));
            let old = Connection::open(&path).unwrap();
            for step in &MIGRATIONS[..from] {
                old.execute_batch(step).unwrap();
            }
            old.pragma_update(None, "user_version", i64::try_from(from).unwrap()).unwrap();
            fill(&old, from);
            drop(old);
            let setting = StoreConfig {
                path: Some(path.clone()),
                retention: Duration::MAX,
                sync: StoreSync::Normal,
                modes: Modes::Strict,
            };
            for _ in 0..2 {
                drop(super::super::open::open(&setting, &prices).unwrap());
            }
            let copy = folder.path().join(format!("{from}.db.layout-{from}"));
            let kept = Connection::open(&copy).unwrap();
            let asked = |database: &Connection| {
                database
                    .query_row("SELECT asked FROM exchange", [], |row| row.get::<_, String>(0))
                    .unwrap()
            };
            assert_eq!(
                (version(&kept).unwrap(), asked(&kept)),
                (i64::try_from(from).unwrap(), "7".into())
            );
            let migrated = Connection::open(&path).unwrap();
            assert_eq!((version(&migrated).unwrap(), asked(&migrated)), (known(), "7".into()));
            assert_eq!(
                migrated
                    .pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))
                    .unwrap(),
                INCREMENTAL,
                "its room can be given back"
            );
            let summed: [i64; 5] = migrated
                .query_row(
                    "SELECT requests, input, cost, estimated, unpriced FROM hourly",
                    [],
                    |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]),
                )
                .unwrap();
            assert_eq!(summed, [1, 15, 30, 30, 0], "from {from}");
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&copy.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        copies_are_forgotten_in_time(folder.path());
    }

    #[test]
    fn an_exchange_is_found_without_reading_the_table() {
        let mut database = Connection::open_in_memory().unwrap();
        migrate(&mut database, Path::new("x"), &PriceBook::default()).unwrap();
        let mut plan = database
            .prepare(&format!("EXPLAIN QUERY PLAN {}", super::super::reports::BY_REQUEST))
            .unwrap();
        let steps: Vec<String> =
            plan.query_map(["x"], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(
            steps.iter().any(|step| step.contains("record_request"))
                && !steps.iter().any(|step| step.starts_with("SCAN")),
            "{steps:?}"
        );
    }

    #[test]
    fn a_layout_from_the_future_is_refused() {
        let mut database = Connection::open_in_memory().unwrap();
        migrate(&mut database, Path::new("x"), &PriceBook::default()).unwrap();
        migrate(&mut database, Path::new("x"), &PriceBook::default()).unwrap();
        database.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(
            migrate(&mut database, Path::new("x"), &PriceBook::default()),
            Err(StoreError::Newer { found: 99, .. })
        ));
    }
}
