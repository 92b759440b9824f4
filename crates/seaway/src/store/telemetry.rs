//! What programs tell of their sessions by OTLP: numbers, beside what the records know.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};
use seaway_wire::otlp::Count;

use super::accounts::name_of;
use super::{Promise, Store};

/// Numbers that are kept of one caller; the oldest make room.
const KEPT: u64 = 20_000;

/// What was told of each session, by names.
pub(super) type ToldOf = BTreeMap<String, BTreeMap<String, f64>>;

impl Store {
    /// Adds what a caller's program told of its sessions. It is kept once this resolves well.
    pub fn keep_telemetry(&self, caller: Arc<str>, counts: Vec<Count>) -> Promise<()> {
        self.keep(move |database| add(database, &caller, &counts, Timestamp::now(), KEPT))
    }
}

fn add(
    database: &mut Connection,
    caller: &str,
    counts: &[Count],
    now: Timestamp,
    kept: u64,
) -> rusqlite::Result<()> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let caller = name_of(&transaction, caller)?;
    let mut update = transaction.prepare_cached(
        "UPDATE telemetry SET value = iif(series = 0, value + ?5, max(value, ?5)), at = ?6 WHERE caller = ?1 AND session = ?2 AND what = ?3 AND series = ?4",
    )?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO telemetry (caller, session, what, series, value, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut more = false;
    for Count { session, name, series, value } in counts {
        let row = params![caller, session, name, series, value, now.as_millisecond()];
        if update.execute(row)? == 0 {
            insert.execute(row)?;
            more = true;
        }
    }
    drop((update, insert));
    if !more {
        return transaction.commit();
    }
    let all: u64 = transaction
        .prepare_cached("SELECT count(*) FROM telemetry WHERE caller = ?1")?
        .query_row([caller], |row| row.get(0))?;
    if let Some(beyond) = all.checked_sub(kept).filter(|beyond| *beyond > 0) {
        transaction.execute(
            "DELETE FROM telemetry WHERE (caller, session, what, series) IN
                (SELECT caller, session, what, series FROM telemetry WHERE caller = ?1 ORDER BY at, session, what, series LIMIT ?2)",
            params![caller, beyond],
        )?;
    }
    transaction.commit()
}

/// What was told of sessions by those whose requests they hold: nobody tells of another's.
pub(super) fn told(database: &Connection, since: i64) -> rusqlite::Result<ToldOf> {
    // Whose session it is, is looked up once for each, and not for each number.
    let mut select = database.prepare(
        "WITH told AS MATERIALIZED (SELECT DISTINCT caller, session FROM telemetry WHERE at >= ?1),
            own AS MATERIALIZED (SELECT caller, session FROM told WHERE session = ''
                OR EXISTS (SELECT 1 FROM record AS r JOIN shape AS s ON s.id = r.shape WHERE r.session = told.session AND s.caller = told.caller))
            SELECT session, what, sum(value) FROM own JOIN telemetry USING (caller, session) WHERE at >= ?1 GROUP BY 1, 2",
    )?;
    let mut found = ToldOf::new();
    let mut rows = select.query([since])?;
    while let Some(row) = rows.next()? {
        let session = found.entry(row.get(0)?).or_default();
        session.insert(row.get(1)?, row.get(2)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::config::PriceBook;
    use crate::store::schema;

    #[test]
    fn numbers_add_up_grow_and_make_room() {
        let mut database = Connection::open_in_memory().unwrap();
        schema::migrate(&mut database, Path::new(":memory:"), &PriceBook::default()).unwrap();
        let count = |name: &str, series: i64, value: f64| Count {
            session: "s".into(),
            name: name.into(),
            series,
            value,
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        for (second, counts) in [
            (1, [count("a", 0, 2.0), count("b", 7, 2.0)]),
            (2, [count("a", 0, 3.0), count("b", 7, 5.0)]),
            (3, [count("a", 0, 1.0), count("b", 7, 4.0)]),
            (4, [count("b", 8, 10.0), count("c", 0, 1.0)]),
        ] {
            add(&mut database, "ann", &counts, at(second), 100).unwrap();
        }
        // No request of hers has this session.
        assert_eq!(told(&database, 0).unwrap(), ToldOf::new());
        let values = |database: &Connection| -> Vec<(String, f64)> {
            database
                .prepare("SELECT what, sum(value) FROM telemetry GROUP BY 1")
                .unwrap()
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        let named = |pairs: &[(&str, f64)]| -> Vec<(String, f64)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        assert_eq!(values(&database), named(&[("a", 6.0), ("b", 15.0), ("c", 1.0)]));
        add(&mut database, "ann", &[count("d", 0, 1.0)], at(5), 3).unwrap();
        assert_eq!(values(&database), named(&[("b", 10.0), ("c", 1.0), ("d", 1.0)]));
        add(&mut database, "bob", &[count("a", 0, 1.0)], at(6), 3).unwrap();
        assert_eq!(values(&database).len(), 4, "one's numbers leave another's");
    }
}
