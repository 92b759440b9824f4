use std::time::Duration;

use jiff::civil::date;

use super::*;
use crate::cap::{Cap, Period};

fn row(name: &str, hash: KeyHash, settings: KeySettings) -> KeyRow {
    let created = Timestamp::UNIX_EPOCH;
    let settings = Arc::new(settings);
    KeyRow { name: name.into(), hash: Some(hash), old: None, settings, created, revoked: None }
}

fn accounts() -> Arc<Accounts> {
    let accounts = Accounts::new(Some(Pepper([7; 32])), TimeZone::UTC);
    accounts.load(Ledgers::default());
    accounts
}

fn hash(accounts: &Accounts, key: &str) -> KeyHash {
    accounts.pepper().unwrap().hash(key)
}

fn with_budget(budgets: &[&str]) -> KeySettings {
    let budgets = budgets.iter().map(|text| text.parse().unwrap()).collect();
    let caps = Arc::new(Caps { budgets, ..Caps::default() });
    KeySettings { caps, ..KeySettings::default() }
}

#[test]
fn a_key_is_known_by_its_hash_until_it_is_past() {
    let accounts = accounts();
    let now = Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    let own = |key| hash(&accounts, key);
    let sha256 = KeyHash { kind: HashKind::Sha256, bytes: Sha256::digest("sk-theirs").into() };
    let expired = KeySettings { expires: Some(now - hour), ..KeySettings::default() };
    for row in [
        row("good", own("one"), KeySettings::default()),
        row("theirs", sha256, KeySettings::default()),
        row("late", own("two"), expired),
        KeyRow { revoked: Some(now), ..row("gone", own("three"), KeySettings::default()) },
        KeyRow {
            old: Some(Box::new((own("old"), now + hour))),
            ..row("new", own("four"), KeySettings::default())
        },
        KeyRow {
            old: Some(Box::new((own("older"), now - hour))),
            ..row("newer", own("five"), KeySettings::default())
        },
    ] {
        accounts.put(row);
    }
    let shown = |key: &str| match accounts.shown(key.as_bytes()) {
        Some(Shown::Good(name)) => name.to_string(),
        Some(Shown::SignedIn { name, .. }) => format!("signed in as {name}"),
        Some(Shown::Past(why)) => format!("past: {why}"),
        None => "-".to_owned(),
    };
    for (key, expect) in [
        ("one", "good"),
        ("sk-theirs", "theirs"),
        ("two", "past: the key `late` has expired"),
        ("three", "past: the key `gone` was revoked"),
        ("four", "new"),
        ("old", "new"),
        ("five", "newer"),
        ("older", "past: the key `newer` was replaced"),
        ("six", "-"),
        ("", "-"),
    ] {
        assert!(shown(key).starts_with(expect), "{key}: {}", shown(key));
    }
    accounts.put(row("good", own("another"), KeySettings::default()));
    assert_eq!((shown("one").as_str(), shown("another").as_str()), ("-", "good"));
    assert!(accounts.holds(b"sk-theirs") && !accounts.holds(b"sk-nobodys"));
}

#[tokio::test(start_paused = true)]
async fn who_would_fit_waits_for_what_others_hold_and_no_longer_than_it_may() {
    let accounts = accounts();
    accounts.put(row("ann", hash(&accounts, "k"), with_budget(&["1/day"])));
    let standing = accounts.of("ann").unwrap();
    let now = Timestamp::now();
    let worst = |cost| Worst { cost, ..Worst::default() };
    let patience = Duration::from_secs(60);
    let first = accounts.begin(&standing, worst(700_000), now, patience).await.unwrap();
    let waits = accounts.begin(&standing, worst(400_000), now, Duration::from_secs(5)).await;
    assert!(matches!(waits, Err(Shortfall::By { waited: true, .. })), "{waits:?}");
    let second = tokio::spawn({
        let (accounts, standing) = (accounts.clone(), standing.clone());
        async move { accounts.begin(&standing, worst(400_000), now, patience).await }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    first.settle(500_000, 0);
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.held(), 400_000);
    // Dropped, it gives back what it held.
    drop(second);
    let refused = accounts.begin(&standing, worst(600_000), now, patience).await;
    let Err(Shortfall::By { cap: Cap::Budget { spent, held, budget }, waited: false, .. }) =
        refused
    else {
        panic!("it can never fit: {refused:?}");
    };
    assert_eq!((spent, held, budget.period), (500_000, 0, Period::Day));
}

#[tokio::test(start_paused = true)]
async fn nobody_with_a_budget_begins_before_it_is_known_what_was_spent() {
    let accounts = Accounts::new(Some(Pepper([7; 32])), TimeZone::UTC);
    let key = row("ann", hash(&accounts, "k"), with_budget(&["1/month"]));
    accounts.put(key.clone());
    let worst = Worst { cost: 1, ..Worst::default() };
    let now = Timestamp::now();
    let begun = |accounts: Arc<Accounts>| async move {
        let standing = accounts.of("ann").unwrap();
        accounts.begin(&standing, worst, now, Duration::from_secs(1)).await
    };
    assert!(matches!(begun(accounts.clone()).await, Err(Shortfall::Unknown(_))));
    let used = |day, spent| UsedRow { whose: Whose::Key, name: "ann".into(), day, spent };
    let today = accounts.day(now);
    let known = Ledgers {
        keys: vec![key],
        used: vec![used(today, 999_999), used(date(2020, 1, 1), 5_000_000)],
        ..Ledgers::default()
    };
    accounts.load(known);
    begun(accounts.clone()).await.unwrap().settle(1, 0);
    assert!(matches!(begun(accounts).await, Err(Shortfall::By { waited: false, .. })));
}

#[test]
fn what_an_upstream_adds_is_learned_from_what_it_told() {
    let accounts = accounts();
    let of = |model| accounts.excess("up", model);
    assert_eq!(of("m"), None);
    accounts.learn("up", "m", [100, 10], [90, 10]);
    assert_eq!(of("m"), Some([0, 0]));
    accounts.learn("up", "m", [100, 10], [1_100, 12]);
    accounts.learn("up", "m", [100, 10], [500, 3]);
    assert_eq!((of("m"), of("n")), (Some([1_000, 2]), None));
}
