//! What any store has to do, whatever it is built on. Each test is given one to try.

use std::path::Path;
use std::time::Duration;

use seaway_wire::Dialect;
use seaway_wire::messages::{Change, Summary};
use seaway_wire::responses::Memory;

use std::collections::HashSet;

use super::row::JournalRow;
use super::shapes::Shapes;
use super::*;
use crate::auth::Caller;
use crate::config::UpstreamName;
use crate::record::{Carried, Outcome};
use crate::trusted::Modes;

const DAY: Duration = Duration::from_secs(86_400);

fn setting(path: &Path, retention: Duration) -> config::StoreConfig {
    config::StoreConfig {
        path: Some(path.to_owned()),
        retention,
        sync: config::StoreSync::Normal,
        modes: Modes::Strict,
    }
}

fn on_disk(path: &Path, retention: Duration) -> Store {
    Store::start(setting(path, retention), Arc::default(), Opened::unheard(), |error| {
        panic!("{error}")
    })
}

/// Runs a test on every engine.
macro_rules! every_engine {
    ($($name:ident)*) => { $(
        mod $name {
            #[tokio::test]
            async fn in_memory() {
                super::$name(super::Store::in_memory()).await;
            }

            #[tokio::test]
            async fn on_disk() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(super::on_disk(&folder.path().join("seaway.db"), std::time::Duration::MAX)).await;
            }
        }
    )* };
}

every_engine! {
    a_session_is_its_owners_until_it_expires
    a_response_is_its_owners_until_it_is_deleted_or_old
    what_was_made_is_found_where_it_was_made
    what_is_promised_is_found_at_once
    a_task_is_whose_lease_lasts
    records_are_found_and_summed
    requests_are_listed
    many_records_are_all_there
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

async fn a_session_is_its_owners_until_it_expires(store: Store) {
    for (name, age) in [("new", 5), ("old", 100_000), ("newer", 0)] {
        let session = Session {
            upstream: "cc".into(),
            owner: "me".into(),
            name: name.into(),
            program_id: "id".into(),
            model: "m".into(),
            folder: None,
            turns: 1,
            used: now() - age,
        };
        store.keep_session(session).await.unwrap();
    }
    assert!(store.session("cc", "me", "new", DAY).await.unwrap().is_some());
    assert!(store.session("cc", "you", "new", DAY).await.unwrap().is_none());
    assert!(store.session("cc", "me", "old", DAY).await.unwrap().is_none(), "expired on read");
    let names: Vec<String> =
        store.sessions("me", DAY).await.unwrap().into_iter().map(|session| session.name).collect();
    assert_eq!(names, ["newer", "new"]);
    assert_eq!(store.forget_session("me", "new").await.unwrap().len(), 1);
    assert!(store.forget_session("me", "new").await.unwrap().is_empty());
}

fn response(id: &str, age: i64) -> Response {
    Response {
        id: id.into(),
        owner: "me".into(),
        created: now() - age,
        object: r#"{"output":[{"id":"msg_1_0","a": 1.0}]}"#.into(),
        items: vec![r#"{"id":"msg_1_in_0"}"#.into()],
        memory: Memory { system: String::new(), turns: "[]".into(), model: "m".into() },
    }
}

async fn a_response_is_its_owners_until_it_is_deleted_or_old(store: Store) {
    let kept = response("resp_1", 5);
    store.keep_response(kept.clone()).await.unwrap();
    store.keep_response(response("resp_2", 100_000)).await.unwrap();
    let found = async |owner: &str, id: &str| store.response(owner, id, DAY).await.unwrap();
    assert_eq!(found("me", "resp_1").await, Some(kept));
    assert_eq!(found("you", "resp_1").await, None);
    assert_eq!(found("me", "resp_2").await, None, "too old");
    let item = async |id: &str| store.response_item("me", id, DAY).await.unwrap();
    assert_eq!(item("msg_1_0").await.as_deref(), Some(r#"{"id":"msg_1_0","a": 1.0}"#));
    assert_eq!(item("msg_1_in_0").await.as_deref(), Some(r#"{"id":"msg_1_in_0"}"#));
    assert_eq!(item("msg_9_0").await, None);
    assert!(
        store.forget_response("me", "resp_1").await.unwrap()
            && !store.forget_response("me", "resp_1").await.unwrap()
    );
    store.sweep_responses(DAY, 1 << 20).await.unwrap();
    assert!(!store.forget_response("me", "resp_2").await.unwrap(), "what is old was deleted");
    for number in 0..100 {
        store.keep_response(response(&format!("resp_{number}"), 100 - number)).await.unwrap();
    }
    // Each is 59 bytes with its input; so much room have the last two.
    store.sweep_responses(DAY, 150).await.unwrap();
    let mut left = Vec::new();
    for number in 0..100 {
        left.extend(found("me", &format!("resp_{number}")).await.map(|_| number));
    }
    assert_eq!(left, [98, 99], "the oldest made room");
}

async fn what_was_made_is_found_where_it_was_made(store: Store) {
    let made =
        |upstream: &str, owner: &str| MadeAt { upstream: upstream.into(), owner: owner.into() };
    for (id, upstream, owner) in
        [("file_1", "a", "me"), ("batch_1", "b", "you"), ("file_1", "c", "me"), ("old", "c", "")]
    {
        store.keep_made(id.into(), made(upstream, owner)).await.unwrap();
    }
    let at = async |id: &str| store.made_at(id).await.unwrap();
    assert_eq!(
        (at("file_1").await, at("batch_1").await, at("file_2").await),
        (Some(made("c", "me")), Some(made("b", "you")), None)
    );
    assert_eq!(store.made_for("me").await.unwrap(), HashSet::from(["file_1".to_owned()]));
    let another = async |ids: &[&str]| {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        store.made_for_another(ids, "me").await.unwrap()
    };
    assert_eq!(another(&["file_1", "nobodys", "old"]).await, None);
    assert_eq!(another(&["file_1", "batch_1"]).await.as_deref(), Some("batch_1"));
    store.forget_made("file_1").await.unwrap();
    assert_eq!((at("file_1").await, at("batch_1").await), (None, Some(made("b", "you"))));
}

async fn what_is_promised_is_found_at_once(store: Store) {
    for number in 0..1000 {
        let id = format!("resp_{number}");
        store.keep_response(response(&id, 0)).await.unwrap();
        assert!(store.response("me", &id, DAY).await.unwrap().is_some(), "{id}");
    }
}

async fn a_task_is_whose_lease_lasts(store: Store) {
    let task = |id: &str, status: TaskStatus| Task {
        id: id.into(),
        owner: "me".into(),
        status,
        created: 1,
        started: None,
        ended: status.is_over().then(|| now() * 1000),
        answer: None,
        error: None,
    };
    for (id, status) in
        [("a", TaskStatus::Running), ("b", TaskStatus::Completed), ("c", TaskStatus::Queued)]
    {
        store.keep_task(task(id, status), "one").await.unwrap();
    }
    let status = async |id: &str| store.task("me", id).await.unwrap().unwrap().status;
    assert!(store.task("you", "a").await.unwrap().is_none());
    store.settle_tasks("another").await.unwrap();
    assert_eq!((status("a").await, status("c").await), (TaskStatus::Running, TaskStatus::Queued));
    store.keep(|database| database.execute("UPDATE task SET lease = 5", [])).await.unwrap();
    store.renew_task("c", "another").await.unwrap();
    store.settle_tasks("one").await.unwrap();
    assert_eq!(
        (status("a").await, status("c").await),
        (TaskStatus::Running, TaskStatus::Queued),
        "its own gateway knows better"
    );
    store.renew_task("a", "one").await.unwrap();
    store.settle_tasks("another").await.unwrap();
    assert_eq!(
        (status("a").await, status("b").await, status("c").await),
        (TaskStatus::Running, TaskStatus::Completed, TaskStatus::Failed)
    );
    let left = store.task("me", "c").await.unwrap().unwrap();
    assert!(left.error.unwrap().contains("server_restart") && left.ended.is_some());
    assert_eq!(store.tasks("me", Duration::from_secs(3600)).await.unwrap().len(), 3);
    assert!(
        store.forget_task("me", "a").await.unwrap()
            && !store.forget_task("you", "b").await.unwrap()
    );
}

/// One exchange that took four tokens.
fn record(request_id: Option<&str>, model: &str) -> Record {
    let id = crate::answer::own_id();
    let mut summary = Summary { model: Some(model.to_owned()), ..Summary::default() };
    (summary.usage.input, summary.usage.output) = (3, 1);
    Record {
        request_id: request_id.map_or_else(|| id.clone(), str::to_owned),
        id,
        at: jiff::Timestamp::now(),
        day: jiff::civil::date(2026, 11, 30),
        caller: Caller("me".into()),
        team: None,
        asker: crate::record::Asker::default(),
        dialect: Dialect::Messages,
        endpoint: "messages",
        upstream: Some(UpstreamName("up".into())),
        asked: "sonnet".into(),
        wanted: None,
        sent: true,
        stream: false,
        status: 200,
        outcome: Outcome::Completed,
        summary,
        cost: Some(24),
        book: Some("2026-11-29".into()),
        reckoned: 0,
        fault: None,
        attempts: 1,
        first_byte: Some(Duration::from_micros(5)),
        total: Duration::from_micros(7),
        bodies: Carried::of(blake3::hash(b"in"), blake3::hash(b"in")),
        changes: vec![Change { name: "alias".into(), path: "model".into() }],
        claim: None,
    }
}

async fn records_are_found_and_summed(store: Store) {
    let (named, own) = (record(Some("req_up"), "m"), record(None, "m"));
    let (own_id, named_id) = (own.id.clone(), named.id.clone());
    let counting = Record { endpoint: "count_tokens", ..record(None, "m") };
    let failed = Record {
        cost: None,
        outcome: Outcome::Truncated,
        status: 502,
        fault: Some("bad_reply".into()),
        ..record(None, "n")
    };
    for record in [named, own, counting, failed] {
        store.record(Box::new(record));
    }
    store.flush().await;
    let rows = store.usage(Filter::default()).await.unwrap();
    let sums = |row: &Row| (row.requests, row.failed, row.input, row.output);
    let told: Vec<_> =
        rows.iter().map(|row| (row.model.as_str(), row.caller.as_str(), sums(row))).collect();
    assert_eq!(told, [("m", "me", (2, 0, 6, 2)), ("n", "me", (1, 1, 3, 1))]);
    let costs: Vec<_> =
        rows.iter().map(|row| (row.cost, row.estimated, row.unpriced, row.known_cost())).collect();
    assert_eq!(costs, [(48, 0, 0, Some(48)), (0, 0, 1, None)]);
    assert_eq!(rows[0].day, jiff::Timestamp::now().strftime("%Y-%m-%d").to_string());
    assert_eq!(store.usage(Filter { since: i64::MAX }).await.unwrap(), []);
    let receipts = store.report(move |database| {
        Ok([
            explain(database, &own_id)?,
            explain(database, "req_up")?,
            explain(database, &named_id)?,
            explain(database, "nobody")?,
        ])
    });
    let [own, named, same, nobody] = receipts.await.unwrap();
    assert_eq!((&named, nobody), (&same, None));
    let (own, named) = (own.unwrap(), named.unwrap());
    assert_eq!((own.request_id, named.request_id.as_str()), (own.id, "req_up"));
    let hash = Some(blake3::hash(b"in").to_hex().to_string());
    assert_eq!(
        (named.body_in, named.body_out, named.changes),
        (hash.clone(), hash, vec![("alias".to_owned(), "model".to_owned())])
    );
    assert_eq!(
        (
            named.caller.as_str(),
            named.upstream.as_deref(),
            named.asked.as_str(),
            named.sent,
            named.cost
        ),
        ("me", Some("up"), "sonnet", Some(true), Some(24))
    );
}

async fn requests_are_listed(store: Store) {
    let failed = Record { outcome: Outcome::Truncated, ..record(None, "n") };
    for record in [record(None, "m"), record(None, "m"), record(Some("req_up"), "m"), failed] {
        store.record(Box::new(record));
    }
    store.flush().await;
    let listed = async |wanted: RequestFilter| {
        store.report(move |database| requests(database, &wanted)).await.unwrap().len()
    };
    assert_eq!(listed(RequestFilter { limit: 10, ..RequestFilter::default() }).await, 4);
    assert_eq!(
        listed(RequestFilter {
            limit: 10,
            failed: true,
            model: Some("n".into()),
            ..RequestFilter::default()
        })
        .await,
        1
    );
    assert_eq!(
        listed(RequestFilter { limit: 10, since: i64::MAX, ..RequestFilter::default() }).await,
        0
    );
}

async fn many_records_are_all_there(store: Store) {
    const COUNT: u64 = 20_000;
    for number in 0..COUNT {
        store.room().await;
        store.record(Box::new(record(None, if number % 2 == 0 { "m" } else { "n" })));
    }
    store.flush().await;
    let rows = store.usage(Filter::default()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), COUNT);
    let count = store.report(|database| {
        database.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, u64>(0))
    });
    assert_eq!((count.await.unwrap(), store.dropped().get()), (COUNT, 0));
}

#[tokio::test]
async fn a_record_takes_95_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seaway.db");
    let store = on_disk(&path, Duration::MAX);
    let size = |store: &Store| {
        store.keep(|database| {
            database.query_row(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
                [],
                |row| row.get::<_, u64>(0),
            )
        })
    };
    let before = size(&store).await.unwrap();
    for _ in 0..20_000 {
        store.record(Box::new(record(None, "claude-sonnet-4-5")));
    }
    store.flush().await;
    let each = (size(&store).await.unwrap() - before) / 20_000;
    assert!(each <= 95, "{each} bytes");
}

#[tokio::test]
async fn what_is_old_makes_room_without_holding_anybody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seaway.db");
    let store = on_disk(&path, Duration::MAX);
    let old = jiff::Timestamp::UNIX_EPOCH;
    for number in 0..20_000_u32 {
        let id = format!("req_sw_{:012x}7{:019x}", 1000, number);
        store.record(Box::new(Record { at: old, request_id: id.clone(), id, ..record(None, "m") }));
    }
    store.record(Box::new(record(None, "m")));
    store.flush().await;
    drop(store);
    let store = on_disk(&path, DAY);
    let count = async || {
        store
            .report(|database| {
                database.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, u64>(0))
            })
            .await
            .unwrap()
    };
    while count().await > 1 {
        store.keep_response(response("resp_1", 0)).await.unwrap();
    }
    let rows = store.usage(Filter::default()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), 20_001, "sums outlive records");
    let free = "SELECT freelist_count FROM pragma_freelist_count";
    while store
        .keep(move |database| database.query_row(free, [], |row| row.get::<_, u64>(0)))
        .await
        .unwrap()
        > 200
    {
        tokio::task::yield_now().await;
    }
}

/// More than may be held back.
const MANY: u64 = 30_000;

/// A disk that is full, as SQLite sees it: the database may not grow.
#[tokio::test]
async fn a_full_disk_costs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let store = on_disk(&folder.path().join("seaway.db"), Duration::MAX);
    let limit = |pages: u32| {
        store.keep(move |database| {
            database.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| {
                row.get::<_, u32>(0)
            })
        })
    };
    limit(1).await.unwrap();
    for _ in 0..MANY {
        // New requests do not wait for a disk that is full.
        store.room().await;
        store.record(Box::new(record(None, "m")));
    }
    let kept = store
        .keep_response(Response { object: "x".repeat(1 << 20), ..response("resp_1", 0) })
        .await;
    assert!(matches!(kept, Err(StoreError::Failed(_))), "nobody is told that it is kept: {kept:?}");
    assert_eq!(
        store.response("me", "resp_1", DAY).await.unwrap(),
        None,
        "it can be read all the same"
    );
    while store.trouble() != Some(StoreTrouble::Unwritable) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    limit(1 << 30).await.unwrap();
    store.flush().await;
    assert_eq!(store.trouble(), None, "it is well again");
    let rows = store.usage(Filter::default()).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.requests, row.input, row.cost)).collect::<Vec<_>>(),
        [(MANY, 3 * MANY, 24 * MANY)]
    );
    assert!(store.dropped().get() > 0, "not every record could be held back");
    assert_eq!(store.unkept().get(), 1, "nor could the response be kept");
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seaway.db");
    std::fs::write(&path, "this is no database, and long enough to be looked at").unwrap();
    let (tell, told) = channel();
    let store =
        Store::start(setting(&path, DAY), Arc::default(), Opened::unheard(), move |error| {
            tell.send(error.to_string()).unwrap();
        });
    assert!(matches!(store.response("me", "resp_1", DAY).await, Err(StoreError::Gone)));
    assert!(matches!(store.keep_response(response("resp_1", 0)).await, Err(StoreError::Gone)));
    store.record(Box::new(record(None, "m")));
    assert!(!store.flush().await, "nobody is told that it is written");
    assert_eq!(store.trouble(), Some(StoreTrouble::OutOfUse));
    assert!(told.recv().unwrap().contains("cannot use the store"));
    std::fs::remove_file(&path).unwrap();
    while store.trouble().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rows = store.usage(Filter::default()).await.unwrap();
    assert_eq!((rows[0].requests, store.dropped().get()), (1, 0), "it was held back");
}

/// Locks the file as another program does.
fn lock_out(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.busy_timeout(Duration::from_secs(60)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    other
}

async fn requests_so_far(store: &Store) -> Vec<(u64, u64)> {
    let rows = store.usage(Filter::default()).await.unwrap();
    rows.iter().map(|row| (row.requests, row.cost)).collect()
}

#[tokio::test]
async fn what_a_locked_store_does_not_take_is_taken_over_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seaway.db");
    let store = on_disk(&path, Duration::MAX);
    store.record(Box::new(record(None, "m")));
    assert!(store.flush().await);
    let other = lock_out(&path);
    let ids: Vec<String> = (0..50)
        .map(|_| {
            let record = record(Some("req_up"), "m");
            let id = record.id.clone();
            store.record(Box::new(record));
            id
        })
        .collect();
    store.spool().await;
    assert_eq!(store.dropped().get(), 0);
    drop(store);
    let spooled = || {
        let files = std::fs::read_dir(folder.path()).unwrap().flatten();
        // Another one is empty: room for what may come yet.
        let written = files.filter(|file| {
            std::fs::read(file.path()).is_ok_and(|text| text.starts_with(b"{\"spool\""))
        });
        written
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains(".spool-"))
            .collect::<Vec<_>>()
    };
    assert_eq!(spooled().len(), 1);
    let spool = folder.path().join(&spooled()[0]);
    let copy = std::fs::read(&spool).unwrap();
    drop(other);
    // The thread of the one that was dropped holds file and database for a moment longer: then it is for a later look.
    let mut next = on_disk(&path, Duration::MAX);
    assert!(next.flush().await);
    for _ in 0..200 {
        if !spool.exists() {
            break;
        }
        drop(next);
        tokio::time::sleep(Duration::from_millis(20)).await;
        next = on_disk(&path, Duration::MAX);
        assert!(next.flush().await);
    }
    assert_eq!(requests_so_far(&next).await, [(51, 51 * 24)]);
    let own = ids[7].clone();
    let found = next.report(move |database| explain(database, &own)).await.unwrap().unwrap();
    assert_eq!((found.request_id.as_str(), found.cost), ("req_up", Some(24)));
    assert!(!spool.exists(), "it was taken over");
    // A gateway that was killed between the two steps finds the file again.
    std::fs::write(&spool, copy).unwrap();
    std::fs::set_permissions(&spool, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    drop(next);
    let last = on_disk(&path, Duration::MAX);
    assert!(last.flush().await);
    assert_eq!(requests_so_far(&last).await, [(51, 51 * 24)], "nothing is counted twice");
    assert!(!spool.exists());
}

#[test]
fn what_does_not_fit_is_kept_as_sums() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seaway.db");
    let mut spool = spool::Spool::reserve(&path, Modes::Strict).unwrap();
    // A limit of the file's size stands for a disk without room: beyond what was taken nothing can be written.
    let records: std::collections::VecDeque<_> =
        (0..10_000).map(|_| Box::new(record(None, "m"))).collect();
    let spooled = spool.write_within(&records, &mut journal::Owed::default()).unwrap();
    assert!(spooled.rows > 500 && spooled.rows + spooled.summed == 10_000, "{spooled:?}");
    drop(spool);
    let mut database = Connection::open_in_memory().unwrap();
    schema::migrate(&mut database, Path::new("x"), &PriceBook::default()).unwrap();
    let mut journal = journal::Journal::default();
    for _ in 0..2 {
        spool::take_over(&mut journal, &mut database, &path, Modes::Strict);
    }
    let rows = usage(&database, &Filter::default()).unwrap();
    assert_eq!(rows.iter().map(|row| row.requests).collect::<Vec<_>>(), [10_000]);
    let kept: usize =
        database.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, spooled.rows);
}

#[tokio::test]
async fn what_was_deleted_is_gone_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seaway.db");
    let store = on_disk(&path, Duration::MAX);
    let secret = "a plan that nobody should read";
    store
        .keep_response(Response { object: secret.repeat(1000), ..response("resp_1", 0) })
        .await
        .unwrap();
    assert!(store.forget_response("me", "resp_1").await.unwrap());
    drop(store);
    let holds = || {
        std::fs::read_dir(folder.path()).unwrap().flatten().any(|file| {
            std::fs::read(file.path())
                .unwrap_or_default()
                .windows(secret.len())
                .any(|part| part == secret.as_bytes())
        })
    };
    while holds() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn records_share_a_shape_where_all_of_it_is_the_same() {
    let mut database = Connection::open_in_memory().unwrap();
    schema::migrate(&mut database, Path::new("x"), &PriceBook::default()).unwrap();
    let record = record(None, "m");
    let plain = || JournalRow::of(&record);
    let others: [fn(&mut JournalRow<'_>); 22] = [
        |row| row.caller = "x".into(),
        |row| row.dialect = "x".into(),
        |row| row.endpoint = "x".into(),
        |row| row.upstream = Some("x".into()),
        |row| row.upstream = Some("".into()),
        |row| row.asked = "x".into(),
        |row| row.wanted = Some("x".into()),
        |row| row.model = Some("x".into()),
        |row| row.outcome = "x".into(),
        |row| row.stop_reason = Some("x".into()),
        |row| row.fault = Some("x".into()),
        |row| row.changes = Some("x".into()),
        |row| row.book = Some("x".into()),
        |row| row.team = Some("x".into()),
        |row| row.asker.class = Some("x".into()),
        |row| row.asker.client = Some("x".into()),
        |row| row.asker.version = Some("x".into()),
        |row| row.stream ^= true,
        |row| row.sent ^= true,
        |row| row.status += 1,
        |row| row.attempts += 1,
        |row| (row.asked, row.wanted) = ("".into(), Some("m".into())),
    ];
    let (mut known, mut ids) = (Shapes::default(), std::collections::BTreeSet::new());
    ids.insert(known.shape(&database, &plain()).unwrap().id);
    for other in others {
        let mut row = plain();
        other(&mut row);
        let id = known.shape(&database, &row).unwrap().id;
        assert!(ids.insert(id), "{row:?}");
        // Whoever knows nothing yet finds the same.
        assert_eq!(Shapes::default().shape(&database, &row).unwrap().id, id, "{row:?}");
    }
    let mut elsewhere = plain();
    (elsewhere.id, elsewhere.at, elsewhere.total_us) = ([9; 16], 9, 9);
    elsewhere.asker.session = Some("x".into());
    assert!(ids.contains(&known.shape(&database, &elsewhere).unwrap().id));
    let rows: usize =
        database.query_row("SELECT count(*) FROM shape", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, others.len() + 1);
}

#[tokio::test]
async fn a_record_that_is_there_already_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = on_disk(&folder.path().join("seaway.db"), Duration::MAX);
    let first = record(Some("req_1"), "m");
    let id = first.id.clone();
    let second = Record { id: id.clone(), cost: Some(7), ..record(Some("req_2"), "m") };
    store.record(Box::new(first));
    store.record(Box::new(second));
    store.flush().await;
    let found = store.report(move |database| explain(database, &id)).await.unwrap().unwrap();
    assert_eq!((found.request_id.as_str(), found.cost), ("req_2", Some(7)));
    let gone = store.report(|database| explain(database, "req_1")).await.unwrap();
    assert_eq!((gone, store.dropped().get()), (None, 0));
}
