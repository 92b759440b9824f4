//! What a request holds while it is under way.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;

use super::{Accounts, Scope, Standing, Whose};
use crate::cap::{Cap, Caps, Claim, Decision, Meter, Obstacle, Tick, decide, fits};
use crate::sync::MutexGuard;

/// The most that a request can come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Worst {
    /// In micro-dollars.
    pub cost: u64,
    /// Those that count by the minute, as far as they can be told.
    pub tokens: u64,
    /// Tokens of its prompt at the most, and of its answer, where what it comes to says something of the next one.
    pub bound: Option<[u64; 2]>,
}

/// A request that began. It has to be settled: dropped before, it gives back what it holds as if it had cost nothing.
#[derive(Debug)]
pub struct Reservation {
    over: Vec<Arc<Scope>>,
    day: Date,
    held: u64,
    tokens: u64,
    began: Tick,
    clock: Instant,
    bound: Option<[u64; 2]>,
}

/// Why a request may not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortfall {
    /// It does not fit a cap.
    By {
        whose: Whose,
        name: Arc<str>,
        cap: Cap,
        /// When the budget begins anew.
        resets: Option<Timestamp>,
        /// It would have fitted, had others ended in time.
        waited: bool,
    },
    /// What was used cannot be known.
    Unknown(Arc<str>),
    /// Its key lets in no more.
    Past(String),
}

fn locked(scope: &Scope) -> MutexGuard<'_, Meter> {
    scope.tally.meter.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Accounts {
    /// Lets a request begin, once it fits all caps over it; it waits no longer than `patience` for what others hold.
    ///
    /// Dropped meanwhile, nothing is held.
    ///
    /// # Errors
    ///
    /// [`Shortfall`] if it does not fit.
    pub async fn begin(
        &self,
        standing: &Standing,
        worst: Worst,
        at: Timestamp,
        patience: Duration,
    ) -> Result<Reservation, Shortfall> {
        let day = self.day(at);
        // Nearly always it fits at once, and nothing is set up to wait.
        let over = standing.scopes();
        self.check_ready(&over)?;
        match self.try_begin(&over, day, worst) {
            Ok(reservation) => Ok(reservation),
            Err(Decision::Refuse(obstacle)) => Err(self.refused(&over, obstacle, day, false)),
            Err(_) => self.wait_to_begin(standing.clone(), worst, day, patience).await,
        }
    }

    fn check_ready(&self, over: &[Arc<Scope>]) -> Result<(), Shortfall> {
        if over.iter().any(|scope| !scope.caps.is_nothing()) {
            self.ready().map_err(Shortfall::Unknown)?;
        }
        Ok(())
    }

    async fn wait_to_begin(
        &self,
        mut standing: Standing,
        worst: Worst,
        day: Date,
        patience: Duration,
    ) -> Result<Reservation, Shortfall> {
        let late = tokio::time::sleep(patience);
        let mut late = std::pin::pin!(late);
        let mut is_late = false;
        loop {
            let over = standing.scopes();
            self.check_ready(&over)?;
            let mut freed: Vec<_> =
                over.iter().map(|scope| Box::pin(scope.tally.freed.notified())).collect();
            for one in &mut freed {
                one.as_mut().enable();
            }
            let obstacle = match self.try_begin(&over, day, worst) {
                Ok(reservation) => return Ok(reservation),
                Err(Decision::Wait(obstacle)) if !is_late => obstacle,
                Err(Decision::Wait(obstacle)) => {
                    return Err(self.refused(&over, obstacle, day, true));
                }
                Err(Decision::Refuse(obstacle)) => {
                    return Err(self.refused(&over, obstacle, day, false));
                }
                Err(Decision::Begin) => continue,
            };
            let one = freed.swap_remove(obstacle.whose);
            tokio::select! {
                () = one => {}
                () = &mut late => is_late = true,
            }
            // Its caps may be others by now, and its key no more.
            standing = self.of(&standing.key.scope.name).unwrap_or(standing);
            if let Some(why) = standing.key.row.past(Timestamp::now()) {
                return Err(Shortfall::Past(why));
            }
        }
    }

    /// Decides, and holds what it takes, in one: the key first, then its team.
    fn try_begin(
        &self,
        over: &[Arc<Scope>],
        day: Date,
        worst: Worst,
    ) -> Result<Reservation, Decision> {
        let claim = Claim { day, now: self.now(), worst: worst.cost, tokens: worst.tokens };
        let mut meters: Vec<_> = over.iter().map(|scope| locked(scope)).collect();
        let caps: Vec<(&Caps, &Meter)> =
            over.iter().zip(&meters).map(|(scope, meter)| (&*scope.caps, &**meter)).collect();
        let decision = decide(&caps, &claim);
        if decision != Decision::Begin {
            return Err(decision);
        }
        for (scope, meter) in over.iter().zip(&mut meters) {
            meter.hold(&scope.caps, &claim);
        }
        drop(meters);
        Ok(Reservation {
            over: over.to_vec(),
            day,
            held: worst.cost,
            tokens: worst.tokens,
            bound: worst.bound,
            began: claim.now,
            clock: self.began,
        })
    }

    fn refused(
        &self,
        over: &[Arc<Scope>],
        obstacle: Obstacle,
        day: Date,
        waited: bool,
    ) -> Shortfall {
        let resets = match obstacle.cap {
            Cap::Budget { budget, .. } => budget.period.next(day).and_then(|day| self.begins(day)),
            Cap::Requests { .. } | Cap::Tokens { .. } | Cap::Concurrent { .. } => None,
        };
        Shortfall::By {
            whose: if obstacle.whose == 0 { Whose::Key } else { Whose::Team },
            name: over[obstacle.whose].name.clone(),
            cap: obstacle.cap,
            resets,
            waited,
        }
    }

    /// Holds more for a request that began, where another upstream or model is dearer than the first.
    ///
    /// # Errors
    ///
    /// [`Shortfall`] if that does not fit; what was held is held still.
    pub fn raise(&self, reservation: &mut Reservation, worst: Worst) -> Result<(), Shortfall> {
        let cost = worst.cost;
        reservation.bound = worst.bound;
        let Some(more) = cost.checked_sub(reservation.held).filter(|more| *more > 0) else {
            return Ok(());
        };
        let over = reservation.over.clone();
        let mut meters: Vec<_> = over.iter().map(|scope| locked(scope)).collect();
        let caps: Vec<(&Caps, &Meter)> =
            over.iter().zip(&meters).map(|(scope, meter)| (&*scope.caps, &**meter)).collect();
        // It runs already, so that rates are no question.
        match fits(&caps, reservation.day, more) {
            Decision::Begin => {}
            Decision::Wait(obstacle) => {
                return Err(self.refused(&over, obstacle, reservation.day, true));
            }
            Decision::Refuse(obstacle) => {
                return Err(self.refused(&over, obstacle, reservation.day, false));
            }
        }
        for meter in &mut meters {
            meter.raise(reservation.day, more);
        }
        reservation.held += more;
        Ok(())
    }
}

impl Reservation {
    /// What its prompt and its answer were held to be at the most.
    pub const fn bound(&self) -> Option<[u64; 2]> {
        self.bound
    }

    /// True where a budget is over it.
    pub fn is_budgeted(&self) -> bool {
        self.over.iter().any(|scope| !scope.caps.budgets.is_empty())
    }

    /// What is held, in micro-dollars.
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// Puts what the request cost in the place of what it held, and lets who waits have another look.
    pub fn settle(mut self, cost: u64, tokens: u64) {
        self.end(cost, tokens);
    }

    fn end(&mut self, cost: u64, tokens: u64) {
        let (held, taken) = (std::mem::take(&mut self.held), self.tokens);
        let now = Tick(u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX));
        for scope in self.over.drain(..) {
            let mut meter = locked(&scope);
            meter.settle(self.day, held, cost);
            meter.correct(&scope.caps, self.began, taken, tokens, now);
            drop(meter);
            scope.tally.freed.notify_waiters();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end(0, 0);
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod shuttle_tests {
    use jiff::tz::TimeZone;
    use shuttle::thread;

    use super::super::Ledgers;
    use super::*;

    /// Requests from several threads, of two keys of a team, each of which would use up the cap of the team.
    fn spend() {
        let accounts = Accounts::new(None, TimeZone::UTC);
        accounts.load(Ledgers::default());
        let budget =
            |text: &str| Caps { budgets: vec![text.parse().expect("a budget")], ..Caps::default() };
        let scope = |name: &str, caps| {
            Arc::new(Scope { name: name.into(), caps: Arc::new(caps), tally: Arc::default() })
        };
        let team = scope("team", budget("0.001/day"));
        let day = accounts.day(Timestamp::UNIX_EPOCH);
        let threads: Vec<_> = ["ann", "bob", "cid"]
            .map(|name| {
                let over = [scope(name, budget("1/day")), team.clone()];
                let accounts = accounts.clone();
                thread::spawn(move || {
                    let mut spent = 0;
                    for cost in [300, 400, 0] {
                        let worst = Worst { cost: 400, ..Worst::default() };
                        if let Ok(reservation) = accounts.try_begin(&over, day, worst) {
                            reservation.settle(cost, 0);
                            spent += cost;
                        }
                    }
                    spent
                })
            })
            .into_iter()
            .collect();
        let spent: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let meter = locked(&team);
        assert_eq!(meter.used(crate::cap::Period::Day, day), (spent, 0));
        assert!(spent <= 1000 && meter.running() == 0, "{spent}");
    }

    #[test]
    fn shuttle_finds_no_way_past_a_cap() {
        shuttle::check_random(spend, 2000);
        shuttle::check_pct(spend, 2000, 3);
    }
}
