use jiff::ToSpan;
use jiff::civil::date;
use proptest::prelude::*;

use super::*;

const DOLLAR: u64 = 1_000_000;

fn budget(text: &str) -> Budget {
    text.parse().unwrap()
}

fn caps(budgets: &[&str]) -> Caps {
    Caps { budgets: budgets.iter().map(|text| budget(text)).collect(), ..Caps::default() }
}

fn claim(day: Date, worst: u64) -> Claim {
    Claim { day, now: Tick(0), worst, tokens: 0 }
}

#[test]
fn a_budget_is_read_as_people_write_it() {
    for (text, amount, period, shown) in [
        ("20/day", 20 * DOLLAR, Period::Day, "20/day"),
        (" $0.5 / Week ", DOLLAR / 2, Period::Week, "0.50/week"),
        ("200.123456/month", 200_123_456, Period::Month, "200.123456/month"),
        (".000001/total", 1, Period::Total, "0.000001/total"),
        ("7", 7 * DOLLAR, Period::Total, "7/total"),
        ("0/day", 0, Period::Day, "0/day"),
    ] {
        let read = budget(text);
        assert_eq!((read.amount, read.period), (amount, period), "{text}");
        assert_eq!(read.to_string(), shown);
        assert_eq!(budget(shown), read);
    }
    for wrong in [
        "",
        "/day",
        "x/day",
        "1/year",
        "-1/day",
        "1e3/day",
        "1.0000001/day",
        ".",
        "1/",
        "99999999999999999999/day",
    ] {
        assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
    }
}

#[test]
fn periods_are_those_of_the_calendar() {
    // 2026-11-30 is a Monday.
    for (period, day, first, next) in [
        (Period::Day, date(2026, 11, 30), date(2026, 11, 30), Some(date(2026, 12, 1))),
        (Period::Week, date(2026, 11, 30), date(2026, 11, 30), Some(date(2026, 12, 7))),
        (Period::Week, date(2026, 11, 29), date(2026, 11, 23), Some(date(2026, 11, 30))),
        (Period::Month, date(2028, 2, 29), date(2028, 2, 1), Some(date(2028, 3, 1))),
        (Period::Month, date(2026, 12, 31), date(2026, 12, 1), Some(date(2027, 1, 1))),
        (Period::Total, date(2026, 12, 31), Date::MIN, None),
    ] {
        assert_eq!((period.first(day), period.next(day)), (first, next), "{period:?} of {day}");
    }
}

#[test]
fn what_is_spent_refuses_and_what_is_held_waits() {
    let day = date(2026, 11, 30);
    let caps = caps(&["1/day", "3/month"]);
    let mut meter = Meter::default();
    meter.add(date(2026, 11, 2), 2 * DOLLAR);
    meter.raise(day, DOLLAR / 2);
    let decided = |meter: &Meter, day, worst| match decide(&[(&caps, meter)], &claim(day, worst)) {
        Decision::Begin => "begin",
        Decision::Wait(_) => "wait",
        Decision::Refuse(Obstacle { cap: Cap::Budget { budget, .. }, .. }) => budget.period.name(),
        Decision::Refuse(_) => "?",
    };
    for (at, worst, expect) in [
        (day, 0, "begin"),
        (day, DOLLAR / 2, "begin"),
        (day, DOLLAR / 2 + 1, "wait"),
        (day, DOLLAR, "wait"),
        (day, DOLLAR + 1, "day"),
        (day - 1.day(), DOLLAR, "wait"),
        (date(2026, 12, 1), DOLLAR, "begin"),
        (date(2026, 11, 2), 1, "day"),
        (date(2026, 10, 1), DOLLAR, "begin"),
    ] {
        assert_eq!(decided(&meter, at, worst), expect, "{worst} on {at}");
    }
    meter.settle(day, DOLLAR / 2, DOLLAR);
    assert_eq!(decided(&meter, day, 1), "day");
    assert_eq!(decided(&meter, day - 1.day(), 1), "month");
    assert_eq!(decided(&meter, day, 0), "begin", "what costs nothing");
    let pressure = pressing(&[(&caps, &meter)], day - 1.day()).unwrap();
    assert_eq!((pressure.budget.period, pressure.share()), (Period::Month, 10_000));
}

#[test]
fn a_request_has_to_fit_the_caps_of_its_key_and_of_its_team() {
    let (day, key, team) = (date(2026, 11, 30), caps(&["5/day"]), caps(&["1/day"]));
    let (own, mut all) = (Meter::default(), Meter::default());
    all.add(day, DOLLAR);
    let Decision::Refuse(obstacle) = decide(&[(&key, &own), (&team, &all)], &claim(day, 1)) else {
        panic!("the team has nothing left");
    };
    assert_eq!(obstacle.whose, 1);
    assert_eq!(decide(&[(&key, &own)], &claim(day, 1)), Decision::Begin);
}

#[test]
fn a_minute_has_so_many_requests_and_tokens_and_says_when_the_next_one_may_come() {
    let limits = Caps { rpm: Some(3), tpm: Some(600), ..Caps::default() };
    let mut meter = Meter::default();
    let second = 1_000_000_000;
    let at = |seconds: u64, tokens| Claim {
        now: Tick(seconds * second),
        tokens,
        ..claim(date(2026, 11, 30), 0)
    };
    let waits = |meter: &Meter, claim: &Claim| match decide(&[(&limits, meter)], claim) {
        Decision::Refuse(Obstacle {
            cap: Cap::Requests { wait, .. } | Cap::Tokens { wait, .. },
            ..
        }) => Some(wait),
        Decision::Begin => None,
        other => panic!("{other:?}"),
    };
    for _ in 0..3 {
        assert_eq!(waits(&meter, &at(7, 100)), None);
        meter.hold(&limits, &at(7, 100));
    }
    assert_eq!(waits(&meter, &at(7, 1)), Some(Duration::from_secs(20)));
    assert_eq!(waits(&meter, &at(26, 1)), Some(Duration::from_secs(1)));
    assert_eq!(waits(&meter, &at(27, 1)), None);
    // 300 of 600 are taken, and come back by ten a second.
    assert_eq!(waits(&meter, &at(27, 500)), None);
    assert_eq!(waits(&meter, &at(27, 600)), Some(Duration::from_secs(10)));
    assert_eq!(waits(&meter, &at(27, 9000)), Some(Duration::from_secs(10)), "no more than all");
    let now = Tick(27 * second);
    // Its time has not passed: that of all three is through at 37 seconds.
    meter.correct(&limits, Tick(27 * second), 100, 0, now);
    assert_eq!(waits(&meter, &at(27, 600)), None);
    meter.correct(&limits, Tick(7 * second), 0, 1200, now);
    assert_eq!(waits(&meter, &at(27, 1)), Some(Duration::from_millis(60_100)));
}

#[test]
fn only_so_many_run_at_once() {
    let limits = Caps { concurrent: Some(1), ..Caps::default() };
    let (mut meter, one) = (Meter::default(), claim(date(2026, 11, 30), 0));
    assert_eq!(decide(&[(&limits, &meter)], &one), Decision::Begin);
    meter.hold(&limits, &one);
    assert!(matches!(decide(&[(&limits, &meter)], &one), Decision::Wait(_)));
    meter.settle(one.day, 0, 0);
    assert_eq!(decide(&[(&limits, &meter)], &one), Decision::Begin);
}

#[test]
fn old_days_are_forgotten_one_by_one_and_count_for_good() {
    let mut meter = Meter::default();
    let first = date(2026, 1, 1);
    for number in 0..300 {
        meter.add(first + number.days(), 1);
    }
    let last = first + 299.days();
    assert_eq!(meter.used(Period::Total, last), (300, 0));
    assert_eq!(meter.used(Period::Day, last), (1, 0));
    assert_eq!(meter.used(Period::Month, last), (27, 0));
    assert_eq!(meter.used(Period::Day, first), (0, 0));
}

/// What a simulated client does.
#[derive(Debug, Clone)]
enum Deed {
    /// Of one of two keys: a request of this worst case, which takes this part of it, in tenths.
    Begin { key: usize, worst: u64, part: u64 },
    /// One of those under way ends.
    End(usize),
    /// The clock jumps by so many days.
    Jump(i64),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        5 => (0..2_usize, 0..400_000_u64, 0..=10_u64).prop_map(|(key, worst, part)| Deed::Begin { key, worst, part }),
        4 => (0..32_usize).prop_map(Deed::End),
        1 => (-40..40_i64).prop_map(Deed::Jump),
    ]
}

proptest! {
    /// Whatever comes in whichever order, and however the clock jumps: nothing is ever above a cap, and what was settled is what was spent.
    #[test]
    fn caps_hold_and_sums_are_kept(deeds in prop::collection::vec(deed(), 1..200)) {
        let keys = [caps(&["1/day", "2.5/month"]), caps(&["0.7/week"])];
        let team = caps(&["1.2/day"]);
        let mut own = [Meter::default(), Meter::default()];
        let mut all = Meter::default();
        let mut day = date(2026, 11, 30);
        let mut running: Vec<(usize, Date, u64, u64)> = Vec::new();
        let mut records: Vec<(usize, Date, u64)> = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Jump(days) => day += days.days(),
                Deed::Begin { key, worst, part } => {
                    let over = [(&keys[key], &own[key]), (&team, &all)];
                    let wanted = claim(day, worst);
                    if decide(&over, &wanted) == Decision::Begin {
                        own[key].hold(&keys[key], &wanted);
                        all.hold(&team, &wanted);
                        running.push((key, day, worst, worst * part / 10));
                    }
                }
                Deed::End(number) if !running.is_empty() => {
                    let (key, day, held, cost) = running.swap_remove(number % running.len());
                    own[key].settle(day, held, cost);
                    all.settle(day, held, cost);
                    records.push((key, day, cost));
                }
                Deed::End(_) => {}
            }
            for (who, (caps, meter)) in keys.iter().zip(&own).chain([(&team, &all)]).enumerate() {
                for (_, day, _) in &records {
                    for budget in &caps.budgets {
                        let (first, next) = (budget.period.first(*day), budget.period.next(*day));
                        let spent: u64 = records.iter()
                            .filter(|(key, at, _)| (who == 2 || *key == who) && *at >= first && next.is_none_or(|next| *at < next))
                            .map(|(_, _, cost)| cost).sum();
                        prop_assert_eq!(meter.used(budget.period, *day).0, spent);
                        prop_assert!(spent <= budget.amount, "{} of {}", spent, budget);
                    }
                }
            }
        }
        let running_now = u32::try_from(running.len()).unwrap();
        prop_assert_eq!(all.running(), running_now);
    }
}
