//! The tables, as an append-only list of migrations keyed on SQLite's `user_version`: a migration that has
//! been released is never edited, a change is a new one at the end.
//!
//! Times are microseconds since 1970, durations microseconds. Indexes are partial, so that a job is only in
//! those that its state needs: what waits, what runs and what has ended cost nothing to each other. An index
//! ends with the row's id without saying so.

use rusqlite::Connection;

/// "pool": tells our databases from those of other programs.
pub const APPLICATION_ID: i32 = 0x706f_6f6c;

/// Migration `n` leads from version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[
    "
    -- One row. The first ids that were never given out; `probe` is for finding out whether there is room on the disk.
    CREATE TABLE meta (next_job INTEGER NOT NULL, next_callback INTEGER NOT NULL, probe BLOB) STRICT;
    INSERT INTO meta (next_job, next_callback) VALUES (1, 1);

    -- `value`: JSON; `hash`: its SHA-256.
    CREATE TABLE environments (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, value TEXT NOT NULL) STRICT;

    -- `argv`: JSON. `attempt`: attempts made so far. `result`: while the state is stopping, what it is going to be.
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        state TEXT NOT NULL DEFAULT 'queued',
        pool TEXT NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0,
        name TEXT,
        argv TEXT NOT NULL,
        cwd TEXT NOT NULL,
        environment INTEGER NOT NULL,
        stdin TEXT,
        timeout_us INTEGER,
        kill_after_us INTEGER NOT NULL,
        submitted_us INTEGER NOT NULL,
        slot INTEGER,
        worker_pid INTEGER,
        pid INTEGER,
        started_us INTEGER,
        result TEXT,
        exit_code INTEGER,
        signal INTEGER,
        reason TEXT,
        user_s REAL,
        sys_s REAL,
        max_rss_bytes INTEGER,
        stdout_bytes INTEGER,
        stderr_bytes INTEGER,
        ended_us INTEGER
    ) STRICT;
    CREATE INDEX jobs_queue ON jobs (pool) WHERE state IN ('queued', 'retrying');
    CREATE INDEX jobs_active ON jobs (id) WHERE state IN ('running', 'stopping');
    -- The bytes are in it so that their sum is read from the index alone.
    CREATE INDEX jobs_history ON jobs (ended_us, stdout_bytes, stderr_bytes) WHERE ended_us IS NOT NULL;
    CREATE INDEX jobs_environment ON jobs (environment);

    -- `due_us` and `ended_us`, when its job ended, are set once that has happened.
    CREATE TABLE callbacks (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        kind TEXT NOT NULL,
        command TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'waiting',
        attempts INTEGER NOT NULL DEFAULT 0,
        exit_code INTEGER,
        due_us INTEGER,
        ended_us INTEGER
    ) STRICT;
    CREATE INDEX callbacks_job ON callbacks (job);
    CREATE INDEX callbacks_outbox ON callbacks (ended_us) WHERE state IN ('pending', 'running');
",
    "
    CREATE INDEX jobs_stdin ON jobs (stdin) WHERE stdin IS NOT NULL AND ended_us IS NULL;
",
    "
    -- Processes with a start time are of this boot.
    ALTER TABLE meta ADD COLUMN boot_id TEXT;

    -- `tie`: client, job:ID or pool. `start_ticks`: the start of the process `pid`, in clock ticks since the boot.
    ALTER TABLE jobs ADD COLUMN tie TEXT;
    ALTER TABLE jobs ADD COLUMN on_crash TEXT NOT NULL DEFAULT 'requeue';
    ALTER TABLE jobs ADD COLUMN start_ticks INTEGER;
    ALTER TABLE jobs ADD COLUMN memory_peak_bytes INTEGER;
    -- `key`: of one job at most, so that a repeated submission is known; `round`: the one that it was submitted in.
    ALTER TABLE jobs ADD COLUMN key TEXT;
    ALTER TABLE jobs ADD COLUMN round TEXT;
    CREATE UNIQUE INDEX jobs_key ON jobs (key) WHERE key IS NOT NULL;
    CREATE INDEX jobs_tied ON jobs (tie) WHERE tie IS NOT NULL AND ended_us IS NULL;
    CREATE INDEX jobs_held ON jobs (id) WHERE state = 'held';
",
    "
    -- How the latest attempt died that a crash has taken along and that was followed by another.
    ALTER TABLE jobs ADD COLUMN last_crash TEXT;
",
    "
    -- A call to a resident program: its method, parameters (JSON), and what came of it (JSON); `argv` is then [].
    ALTER TABLE jobs ADD COLUMN method TEXT;
    ALTER TABLE jobs ADD COLUMN params TEXT;
    ALTER TABLE jobs ADD COLUMN value TEXT;
    ALTER TABLE jobs ADD COLUMN error TEXT;

    -- Pools that were added at run time. `value`: JSON.
    CREATE TABLE pools (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
",
    "
    -- Ids below it may have been given to jobs that are kept in memory alone.
    ALTER TABLE meta ADD COLUMN volatile_below INTEGER NOT NULL DEFAULT 0;
",
    "
    -- `rank`: the priority, negated, so that a queue goes by rank and id. `retried`: failed attempts that were followed by another,
    -- `retries` at most; `due_us`: the next one does not start before, and until then the job is in no queue.
    ALTER TABLE jobs ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN backoff_us INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN retried INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN due_us INTEGER;
    DROP INDEX jobs_queue;
    CREATE INDEX jobs_queue ON jobs (pool, rank) WHERE state IN ('queued', 'retrying') AND due_us IS NULL;
    CREATE INDEX jobs_due ON jobs (due_us) WHERE due_us IS NOT NULL AND ended_us IS NULL;

    -- A call without callbacks needs no environment, and has 0 for it.
    DROP INDEX jobs_environment;
    CREATE INDEX jobs_environment ON jobs (environment) WHERE environment <> 0;
",
    "
    -- Jobs and callbacks (`unit`) that are in no line, until something happens: `until` is time, at `due_us`,
    -- or person, who decides.
    CREATE TABLE waits (
        unit TEXT NOT NULL,
        id INTEGER NOT NULL,
        until TEXT NOT NULL,
        due_us INTEGER,
        PRIMARY KEY (unit, id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO waits SELECT 'job', id, 'time', due_us FROM jobs
        WHERE due_us IS NOT NULL AND ended_us IS NULL AND state IN ('queued', 'retrying');
    INSERT INTO waits SELECT 'job', id, 'person', NULL FROM jobs WHERE state = 'held';
    -- A callback that has not been tried was due with its job's end.
    INSERT INTO waits SELECT 'callback', id, 'time', due_us FROM callbacks
        WHERE state = 'pending' AND due_us > ended_us;
    CREATE INDEX waits_due ON waits (due_us) WHERE until = 'time';

    -- `waits`: whether the job is in the table of waits. `undelivered`: its callbacks that are pending or
    -- running; until there are none, the job is not in the index of what can be removed.
    ALTER TABLE jobs ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN undelivered INTEGER NOT NULL DEFAULT 0;
    UPDATE jobs SET waits = 1 WHERE id IN (SELECT id FROM waits WHERE unit = 'job');
    UPDATE jobs SET undelivered = outgoing.count
        FROM (SELECT job, count(*) AS count FROM callbacks
              WHERE state IN ('pending', 'running') GROUP BY job) AS outgoing
        WHERE jobs.id = outgoing.job;
    DROP INDEX jobs_queue;
    DROP INDEX jobs_due;
    DROP INDEX jobs_held;
    DROP INDEX jobs_history;
    CREATE INDEX jobs_queue ON jobs (pool, rank) WHERE state IN ('queued', 'retrying') AND waits = 0;
    CREATE INDEX jobs_history ON jobs (ended_us, stdout_bytes, stderr_bytes)
        WHERE ended_us IS NOT NULL AND undelivered = 0;
    CREATE INDEX jobs_undelivered ON jobs (undelivered, stdout_bytes, stderr_bytes) WHERE undelivered > 0;
",
    "
    -- Of a job that has ended. `keep`: what it is worth keeping for, 0 (goes first) to 2. `held_bytes`: what its
    -- output takes on disk, and its result and parameters in here. `stripped`: these were removed to make room.
    ALTER TABLE jobs ADD COLUMN keep INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE jobs ADD COLUMN held_bytes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN stripped INTEGER NOT NULL DEFAULT 0;
    UPDATE jobs SET
        keep = CASE WHEN key IS NOT NULL THEN 2
                    WHEN state = 'canceled' THEN 0
                    WHEN state = 'succeeded' THEN tie IS NOT 'client'
                    WHEN tie IS 'client' THEN method IS NULL
                    ELSE 2 END,
        held_bytes = ifnull(stdout_bytes, 0) + ifnull(stderr_bytes, 0) + ifnull(octet_length(value), 0)
                     + ifnull(octet_length(error), 0) + ifnull(octet_length(params), 0)
        WHERE ended_us IS NOT NULL;
    DROP INDEX jobs_history;
    DROP INDEX jobs_undelivered;
    -- The bytes are in it so that their sum is read from the index alone.
    CREATE INDEX jobs_history ON jobs (keep, pool, ended_us, held_bytes)
        WHERE ended_us IS NOT NULL AND undelivered = 0;
    CREATE INDEX jobs_undelivered ON jobs (keep, pool, held_bytes) WHERE undelivered > 0;
    CREATE INDEX jobs_large ON jobs (held_bytes) WHERE held_bytes > 65536;
 ",
    "
    -- Attempts that have begun since the last one that has ended: all but one have died with their daemon.
    ALTER TABLE callbacks ADD COLUMN unended INTEGER NOT NULL DEFAULT 0;
    UPDATE callbacks SET unended = 1 WHERE state = 'running';
",
    "
    -- `unique_name`: of the jobs that have it and have not ended, one at most does not follow another.
    -- `follows`: the job waits until those before it have ended: 1, or 2 where it takes their place, so that
    -- they are to be canceled.
    ALTER TABLE jobs ADD COLUMN unique_name TEXT;
    ALTER TABLE jobs ADD COLUMN follows INTEGER NOT NULL DEFAULT 0;
    CREATE UNIQUE INDEX jobs_unique ON jobs (unique_name)
        WHERE unique_name IS NOT NULL AND follows = 0 AND ended_us IS NULL;
    CREATE INDEX jobs_following ON jobs (unique_name) WHERE follows > 0 AND ended_us IS NULL;

    -- `deadline_us`: the job is to have ended by then, `within_us` after its submission. A job that is being
    -- ended for that has 'deadline' in place of a result.
    ALTER TABLE jobs ADD COLUMN within_us INTEGER;
    ALTER TABLE jobs ADD COLUMN deadline_us INTEGER;
    -- All that is asked of it is in it, so that no row is read.
    CREATE INDEX jobs_deadline ON jobs (deadline_us, id, within_us, ended_us)
        WHERE deadline_us IS NOT NULL AND ended_us IS NULL;

    -- When that boot began, by the clock of what waits.
    ALTER TABLE meta ADD COLUMN boot_began_us INTEGER;

    -- What is listed by its state, and is rare among what is queued and what has succeeded. Not by IN: for a
    -- list of more than two SQLite makes a table each time that a row is written.
    CREATE INDEX jobs_notable ON jobs (state)
        WHERE state = 'failed' OR state = 'canceled' OR state = 'timed_out' OR state = 'lost' OR state = 'held'
            OR state = 'retrying';
",
    "
    -- What a job that has not begun waits for, one after the other: `hold`, somebody releases it; `others`,
    -- so many jobs end; `follows`; `not_before_us`, this time comes, by the clock of what waits.
    ALTER TABLE jobs ADD COLUMN hold INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN others INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN not_before_us INTEGER;
    -- That time by the wall's clock, where it goes by that.
    ALTER TABLE jobs ADD COLUMN at_us INTEGER;
    CREATE INDEX jobs_at ON jobs (at_us)
        WHERE at_us IS NOT NULL AND not_before_us IS NOT NULL AND ended_us IS NULL;
    -- As `started_us`, in microseconds since the boot, so that a later start knows how long it has lasted.
    ALTER TABLE jobs ADD COLUMN started_since_boot_us INTEGER;
    -- How much memory its attempts may use, and what held the latest one to that: 'cgroup' or 'address_space'.
    ALTER TABLE jobs ADD COLUMN memory_limit_bytes INTEGER;
    ALTER TABLE jobs ADD COLUMN memory_limiter TEXT;
    -- An attempt that does nothing for so long is ended; meanwhile its job has 'idle' in place of a result.
    ALTER TABLE jobs ADD COLUMN idle_timeout_us INTEGER;
    CREATE INDEX jobs_blocked ON jobs (pool) WHERE state = 'blocked';
    DROP INDEX jobs_notable;
    CREATE INDEX jobs_notable ON jobs (state)
        WHERE state = 'failed' OR state = 'canceled' OR state = 'timed_out' OR state = 'lost' OR state = 'held'
            OR state = 'retrying' OR state = 'scheduled' OR state = 'blocked';

    -- `job` is to run after `prior` has ended, as it needs: 'done', 'success' or 'failure'. `settled`: that has
    -- come otherwise, and the job is to be canceled.
    CREATE TABLE dependencies (
        prior INTEGER NOT NULL,
        settled INTEGER NOT NULL DEFAULT 0,
        job INTEGER NOT NULL,
        needs TEXT NOT NULL,
        PRIMARY KEY (prior, settled, job)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX dependencies_job ON dependencies (job);
    CREATE INDEX dependencies_settled ON dependencies (job) WHERE settled = 1;
    -- Jobs that have ended, and others are to run after them that nobody has looked at.
    CREATE TABLE resolving (prior INTEGER PRIMARY KEY, succeeded INTEGER NOT NULL) STRICT;

    -- `start_by_us`: the job is to have begun by then, `start_within_us` after its submission.
    ALTER TABLE jobs ADD COLUMN start_within_us INTEGER;
    ALTER TABLE jobs ADD COLUMN start_by_us INTEGER;
    CREATE INDEX jobs_start_by ON jobs (start_by_us, id, start_within_us)
        WHERE start_by_us IS NOT NULL AND attempt = 0 AND ended_us IS NULL;

    -- `jitter`: in thousandths of a backoff, so much longer it may be. `retry_on`: the exit codes that are
    -- followed by another attempt, as 75,100-110; all unless set.
    ALTER TABLE jobs ADD COLUMN jitter INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN retry_on TEXT;

    -- What a job is to run after, as it was submitted: JSON, an id and the kind of end for each. `reruns`: so
    -- often it has been run again after its end.
    ALTER TABLE jobs ADD COLUMN depends_on TEXT;
    ALTER TABLE jobs ADD COLUMN reruns INTEGER NOT NULL DEFAULT 0;
    -- Attempts that have told of earlier ends, before the job was run again.
    ALTER TABLE callbacks ADD COLUMN earlier INTEGER NOT NULL DEFAULT 0;

    -- Pools that are paused, whether of the configuration or added; `uid`: of the user who has paused the
    -- pool.
    CREATE TABLE pauses (pool TEXT PRIMARY KEY, since_us INTEGER NOT NULL, uid INTEGER NOT NULL) STRICT;

    -- The numbers of pools' workers that somebody has set.
    CREATE TABLE pool_workers (pool TEXT PRIMARY KEY, workers INTEGER NOT NULL) STRICT;

    -- Schedules: `definition` is JSON, and null where the configuration has it; `from_us`: its times are
    -- counted from then on; `over_us`: those up to then are over; `last_*`: the latest one that has come, and
    -- what has come of it.
    CREATE TABLE schedules (
        name         TEXT PRIMARY KEY,
        definition   TEXT,
        from_us      INTEGER NOT NULL,
        over_us      INTEGER NOT NULL,
        last_us      INTEGER,
        last_job     INTEGER,
        last_skipped INTEGER,
        paused_us    INTEGER,
        paused_by    INTEGER
    ) STRICT;

    -- In order, each once, with commas between. What waits in one pool with the same labels is one line.
    ALTER TABLE jobs ADD COLUMN labels TEXT NOT NULL DEFAULT '';
    DROP INDEX jobs_queue;
    CREATE INDEX jobs_queue ON jobs (pool, labels, rank) WHERE state IN ('queued', 'retrying') AND waits = 0;
    -- So many jobs of a label run at a time.
    CREATE TABLE limits (label TEXT PRIMARY KEY, running INTEGER NOT NULL) STRICT, WITHOUT ROWID;
",
    "
    -- Of an array its own id, of an element that of its array, with the element's index; so many elements the
    -- array has.
    ALTER TABLE jobs ADD COLUMN array INTEGER;
    ALTER TABLE jobs ADD COLUMN array_index INTEGER;
    ALTER TABLE jobs ADD COLUMN array_elements INTEGER;
    CREATE INDEX jobs_elements ON jobs (array) WHERE array_index IS NOT NULL AND ended_us IS NULL;

    -- `first`: the id of the first element; those of the others follow. `indices`: theirs. `at_once`: so many
    -- run at a time. `callbacks`: those of each element, JSON, with ids from `first_callback` on. `next`: the
    -- place of the first element up to which none is missing here; `made`: so many are here, or were; the
    -- counts are of those that have ended, `worst` is the greatest code with which one has failed. `drops`:
    -- no more are made. `open`: one is here, and the array has not ended.
    CREATE TABLE arrays (
        id             INTEGER PRIMARY KEY,
        first          INTEGER NOT NULL UNIQUE,
        elements       INTEGER NOT NULL,
        indices        TEXT NOT NULL,
        at_once        INTEGER,
        callbacks      TEXT,
        first_callback INTEGER NOT NULL,
        next           INTEGER NOT NULL DEFAULT 0,
        made           INTEGER NOT NULL DEFAULT 0,
        succeeded      INTEGER NOT NULL DEFAULT 0,
        failed         INTEGER NOT NULL DEFAULT 0,
        canceled       INTEGER NOT NULL DEFAULT 0,
        worst          INTEGER NOT NULL DEFAULT 0,
        drops          INTEGER NOT NULL DEFAULT 0,
        open           INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX arrays_open ON arrays (id) WHERE open = 1;
    CREATE TRIGGER arrays_gone AFTER DELETE ON jobs WHEN OLD.array = OLD.id BEGIN
        DELETE FROM early_elements
            WHERE id >= (SELECT first FROM arrays WHERE arrays.id = OLD.id)
                AND id < (SELECT first + elements FROM arrays WHERE arrays.id = OLD.id);
        DELETE FROM arrays WHERE id = OLD.id;
    END;
    -- Elements that were ended before their array had come to them, so that it passes them by.
    CREATE TABLE early_elements (id INTEGER PRIMARY KEY) STRICT;
    -- `labels` of a job are followed by what else it needs (`job::Needs`): `gpu=2` of a resource of its pool,
    -- `=3` slots.

    -- Files of large values. `part`: 'params' or 'answer'. Where a job has them, its params, value or error
    -- is '@BYTES TOKEN' instead.
    CREATE TABLE value_files (
        job INTEGER NOT NULL,
        part TEXT NOT NULL,
        token TEXT NOT NULL,
        PRIMARY KEY (job, part)
    ) STRICT, WITHOUT ROWID;
    -- 'pipe' or 'terminal', where clients write the standard input.
    ALTER TABLE jobs ADD COLUMN input TEXT;
    -- 1: standard error goes where standard output goes.
    ALTER TABLE jobs ADD COLUMN merge INTEGER NOT NULL DEFAULT 0;
    -- Attempts that others have followed; the latest one is in the job's row.
    CREATE TABLE attempts (
        job        INTEGER NOT NULL,
        attempt    INTEGER NOT NULL,
        started_us INTEGER,
        ended_us   INTEGER NOT NULL,
        result     TEXT NOT NULL,
        exit_code  INTEGER,
        signal     INTEGER,
        reason     TEXT,
        PRIMARY KEY (job, attempt)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER attempts_gone AFTER DELETE ON jobs WHEN OLD.attempt > 0 BEGIN
        DELETE FROM attempts WHERE job = OLD.id;
    END;
",
    "
    -- Zeros, as many bytes as the end of the job adds to its row, and then gone: so the row grows in its
    -- place, and the rows beside it need not be moved to other pages.
    ALTER TABLE jobs ADD COLUMN reserve BLOB;

    -- What clients are shown of callbacks: a page of each state is read by id.
    CREATE INDEX callbacks_open ON callbacks (state)
        WHERE state = 'pending' OR state = 'running' OR state = 'failed';
",
];

/// The version that this program writes.
pub fn current() -> usize {
    MIGRATIONS.len()
}

#[cfg(test)]
pub fn texts() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.iter().copied()
}

/// Brings a database of an older version, or an empty one, up to date, within the caller's transaction.
pub fn migrate(connection: &Connection, from: usize) -> rusqlite::Result<()> {
    apply(connection, from, current())
}

/// Leads from one version to a later one.
pub fn apply(connection: &Connection, from: usize, to: usize) -> rusqlite::Result<()> {
    if from == to {
        return Ok(()); // A start on a full disk must not need to write.
    }
    for migration in &MIGRATIONS[from..to] {
        connection.execute_batch(migration)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", to as i64)
}
