//! A request under the caps over its caller: what it may ask for, what it takes at the most, and what its client is told.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use seaway_wire::bound::PromptBound;
use seaway_wire::model::ModelTraits;
use seaway_wire::{Endpoint, Request, Usage};

use super::Exchange;
use crate::account::{Accounts, Shortfall, Standing, Worst};
use crate::cap::{Budget, Cap, Period, Pressure, dollars};
use crate::config;
use crate::fault::{Fault, FaultKind};
use crate::record::characters;
use crate::upstream::{Target, Upstream};

/// How long a request waits for what others hold that have not ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// Why a request was refused that costs more than is left.
pub(super) struct OverBudget {
    /// None where what was spent cannot be known.
    budget: Option<(Budget, Option<Timestamp>)>,
}

impl Exchange {
    /// Checks that a caller may use an upstream.
    pub(super) fn may_use(&self, upstream: &Upstream) -> Result<(), Fault> {
        let Some(standing) = &self.standing else { return Ok(()) };
        let (name, settings) = (&standing.key.scope.name, &standing.key.row.settings);
        if settings.may_use(&upstream.name.0) {
            return Ok(());
        }
        let message = format!(
            "the key `{name}` may not use the upstream `{}`; it may use {}",
            upstream.name,
            listed(&settings.upstreams)
        );
        Err(Fault::new(FaultKind::Forbidden, message))
    }

    /// Checks that a caller may ask this of an upstream.
    pub(super) fn may(&self, upstream: &Upstream, asked: &str, wanted: &str) -> Result<(), Fault> {
        self.may_use(upstream)?;
        let Some(standing) = &self.standing else { return Ok(()) };
        let (name, settings) = (&standing.key.scope.name, &standing.key.row.settings);
        let spilled = settings.spill.as_deref() == Some(asked);
        if !(spilled || settings.may_ask(asked) || settings.may_ask(wanted)) {
            let message = format!(
                "the key `{name}` may not ask for the model `{asked}`; it may ask for {}",
                listed(&settings.models)
            );
            return Err(Fault::new(FaultKind::Forbidden, message)
                .param("model")
                .code("model_not_allowed"));
        }
        Ok(())
    }

    /// Checks that a caller may send something on that is not looked into.
    pub(super) fn may_relay(&self, method: &Method, target: &Target) -> Result<(), Fault> {
        let Some(standing) = &self.standing else { return Ok(()) };
        let costs = method == Method::POST && !matches!(target.family(), Some(Endpoint::Files));
        let message = if costs && standing.has_budget() {
            "what is sent on without a look into it, such as a batch, cannot be held to a budget; send its requests one by one"
        } else if costs && !standing.key.row.settings.models.is_empty() {
            "what is sent on without a look into it, such as a batch, is not for a key that may ask for some models alone; send its requests one by one"
        } else {
            return Ok(());
        };
        Err(Fault::new(FaultKind::Forbidden, message))
    }

    /// Holds what a request takes at the most, before an upstream is asked for a model with this body.
    pub(super) async fn hold(
        &mut self,
        upstream: &Upstream,
        body: &Bytes,
        request: &Request<'_>,
        [model, asked]: [&str; 2],
    ) -> Result<(), Fault> {
        let Some(standing) = self.standing.clone().filter(Standing::is_capped) else {
            return Ok(());
        };
        let text = characters(body);
        let (worst, floor) = if self.client.endpoint.counts() {
            (Worst::default(), 0)
        } else {
            let same = body.as_ptr() == self.client.body.as_ptr();
            let limit = if same {
                limit_of(request)
            } else {
                Request::parse(body).ok().as_ref().and_then(limit_of)
            };
            self.worst(&standing, upstream, [model, asked], (body, text), limit)?
        };
        let accounts = self.state.ledger.accounts().clone();
        let entry = &mut self.watch.entry;
        if let Some(reservation) = entry.reservation() {
            let raised = accounts.raise(reservation, worst);
            raised.map_err(|refused| self.refused(refused))?;
            self.watch.entry.holds_for(model, &upstream.name, floor);
            return Ok(());
        }
        let reservation = accounts.begin(&standing, worst, entry.at(), PATIENCE).await;
        let reservation = reservation.map_err(|refused| self.refused(refused))?;
        let noted = self.watch.entry.hold(reservation, model, &upstream.name, floor, text);
        noted.map_err(|error| {
            Fault::new(FaultKind::StoreDown, "what the request takes of its budget cannot be noted at the moment; ask again, and see the gateway's log").because(error)
        })
    }

    /// The same for what is not looked into, and costs nothing that could be told: rates are over it too.
    pub(super) async fn hold_unseen(&mut self) -> Result<(), Fault> {
        let Some(standing) = self.standing.clone().filter(Standing::is_capped) else {
            return Ok(());
        };
        let accounts = self.state.ledger.accounts().clone();
        let at = self.watch.entry.at();
        let reservation = accounts.begin(&standing, Worst::default(), at, PATIENCE).await;
        let reservation = reservation.map_err(|refused| self.refused(refused))?;
        self.watch.entry.hold_unseen(reservation);
        Ok(())
    }

    /// The most that a request can come to, and the least.
    fn worst(
        &self,
        standing: &Standing,
        upstream: &Upstream,
        models: [&str; 2],
        (body, text): (&[u8], u64),
        limit: Option<u64>,
    ) -> Result<(Worst, u64), Fault> {
        let least = text / 4;
        let output = limit.unwrap_or_else(|| ModelTraits::of(models[0]).max_output.max(1));
        let tokens = least.saturating_add(output.min(least.max(1000)));
        if !standing.has_budget() {
            return Ok((Worst { tokens, ..Worst::default() }, 0));
        }
        let prices = &self.snapshot.config.prices;
        let day = config::day(self.watch.entry.at());
        let bound = PromptBound { output, ..PromptBound::of(body) };
        // What a count has been above its bound is added to the next one.
        let learns = bound.searches == 0;
        let known = [bound.longest, output];
        let excess = self.state.ledger.accounts().excess(&upstream.name.0, models[0]);
        let [more_in, more_out] = excess.unwrap_or([UNKNOWN, 0]);
        let bound = PromptBound {
            input: bound.input.saturating_add(more_in),
            longest: bound.longest.saturating_add(more_in),
            output: output.saturating_add(more_out),
            ..bound
        };
        let floor = Usage { input: least, ..Usage::default() };
        let found = models.iter().find_map(|model| {
            let worst = prices.worst(model, &bound, Some(&upstream.name), day)?;
            Some((worst, prices.of_sum(model, &floor, day).unwrap_or_default()))
        });
        let (cost, floor) = found.ok_or_else(|| {
            let message = format!(
                "the model `{0}` has no price, so that a key with a budget cannot ask for it; the gateway's owner can set one (`[price.\"{0}\"]`)",
                models[0]
            );
            Fault::new(FaultKind::Forbidden, message).param("model")
        })?;
        Ok((Worst { cost, tokens, bound: learns.then_some(known) }, floor))
    }

    /// What the client is told.
    fn refused(&mut self, refused: Shortfall) -> Fault {
        let (whose, name, cap, resets, waited) = match refused {
            Shortfall::By { whose, name, cap, resets, waited } => {
                (whose, name, cap, resets, waited)
            }
            Shortfall::Past(why) => return Fault::new(FaultKind::Unauthenticated, why),
            Shortfall::Unknown(why) => {
                self.over_budget = Some(OverBudget { budget: None });
                let message =
                    format!("whether the request fits the limits of its key cannot be told: {why}");
                return Fault::new(FaultKind::OverBudget, message)
                    .retry_after(Duration::from_secs(60));
            }
        };
        let whose = format!("the {} `{name}`", whose.name());
        match cap {
            Cap::Budget { budget, spent, held } if waited => {
                let message = format!(
                    "{whose} has {} dollars of its budget of {} left, and requests that are under way hold {} of it; ask again when they have ended",
                    dollars(budget.amount.saturating_sub(spent)),
                    said(budget),
                    dollars(held)
                );
                Fault::new(FaultKind::RateLimited, message).retry_after(Duration::from_secs(1))
            }
            Cap::Budget { budget, spent, .. } => {
                self.over_budget = Some(OverBudget { budget: Some((budget, resets)) });
                over(&whose, budget, spent, resets)
            }
            Cap::Requests { limit, wait } => {
                let message = format!("{whose} may send {limit} requests a minute");
                Fault::new(FaultKind::RateLimited, message).retry_after(whole(wait))
            }
            Cap::Tokens { limit, wait } => {
                let message = format!("{whose} may use {limit} tokens a minute");
                Fault::new(FaultKind::RateLimited, message).retry_after(whole(wait))
            }
            Cap::Concurrent { limit } => {
                let message =
                    format!("{whose} may have {limit} requests under way at once, and has");
                Fault::new(FaultKind::RateLimited, message).retry_after(Duration::from_secs(1))
            }
        }
    }
}

/// Whole seconds, rounded up: who comes then is let in.
fn whole(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// `20 dollars a day`.
fn said(budget: Budget) -> String {
    let amount = dollars(budget.amount);
    match budget.period {
        Period::Total => format!("{amount} dollars"),
        period => format!("{amount} dollars a {}", period.name()),
    }
}

/// The fault of a request that costs more than is left.
fn over(whose: &str, budget: Budget, spent: u64, resets: Option<Timestamp>) -> Fault {
    let left = budget.amount.saturating_sub(spent);
    let used = if left == 0 {
        format!("{whose} has used up its budget of {}", said(budget))
    } else {
        format!(
            "{whose} has {} dollars of its budget of {} left, which this request could exceed; ask for less (`max_tokens`)",
            dollars(left),
            said(budget)
        )
    };
    let message = match resets {
        Some(at) => format!("{used}; it begins anew at {}", at.strftime("%Y-%m-%dT%H:%M:%SZ")),
        None => format!("{used}; its owner can raise it"),
    };
    let fault = Fault::new(FaultKind::OverBudget, message);
    match resets {
        Some(at) => {
            let wait = at.as_second().saturating_sub(Timestamp::now().as_second()).max(1);
            fault.retry_after(Duration::from_secs(wait.unsigned_abs()))
        }
        None => fault,
    }
}

/// The most tokens that a request lets its answer have.
fn limit_of(request: &Request<'_>) -> Option<u64> {
    let names = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    let told = names.iter().filter_map(|name| request.object.get(name)?.as_u64());
    told.max()
}

/// What an upstream may add to a prompt that has told nothing of the model yet.
const UNKNOWN: u64 = 2_000;

impl Standing {
    /// True where a cap is over it.
    fn is_capped(&self) -> bool {
        !self.key.scope.caps.is_nothing()
            || self.team.as_ref().is_some_and(|team| !team.caps.is_nothing())
    }
}

/// Tells Claude Code how much of its caller's budget is used, as its own API does of a plan's.
pub(super) fn tell(
    headers: &mut HeaderMap,
    accounts: &Accounts,
    standing: &Standing,
    over_budget: Option<&OverBudget>,
) {
    let said = match over_budget {
        Some(over) => rejected(over),
        None => match accounts.pressing(standing) {
            Some((pressure, resets)) => allowed(&pressure, resets),
            None => return,
        },
    };
    // What an upstream says of the owner's plan is none of a key's business.
    let foreign: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(UNIFIED)).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
    headers.extend(said);
}

/// How the names of these headers begin.
const UNIFIED: &str = "anthropic-ratelimit-unified-";

macro_rules! unified {
    ($($name:ident = $text:literal),* $(,)?) => {
        $(const $name: HeaderName = HeaderName::from_static(concat!("anthropic-ratelimit-unified-", $text));)*
    };
}

unified! {
    RESET = "reset",
    OVERAGE_RESET = "overage-reset",
    STATUS = "status",
    OVERAGE_STATUS = "overage-status",
    CLAIM = "representative-claim",
    UTILIZATION = "overage-utilization",
    SURPASSED = "overage-surpassed-threshold",
    PERIOD = "overage-period",
    DISABLED = "overage-disabled-reason",
}

type Told = Vec<(HeaderName, HeaderValue)>;

fn of(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn reset(resets: Option<Timestamp>, told: &mut Told) {
    if let Some(at) = resets {
        let at = HeaderValue::from(at.as_second());
        told.extend([(RESET, at.clone()), (OVERAGE_RESET, at)]);
    }
}

fn allowed(pressure: &Pressure, resets: Option<Timestamp>) -> Told {
    let share = pressure.share().min(9_900);
    let (status, surpassed) = match share {
        9_500.. => ("allowed_warning", Some("0.95")),
        7_500.. => ("allowed_warning", Some("0.75")),
        _ => ("allowed", None),
    };
    let mut used = [b'0', b'.', b'0', b'0'];
    // Two digits each.
    (used[2], used[3]) = (b'0' + (share / 1000) as u8, b'0' + (share / 100 % 10) as u8);
    let mut told = Vec::with_capacity(7);
    reset(resets, &mut told);
    told.extend([(STATUS, of(status)), (OVERAGE_STATUS, of(status)), (CLAIM, of("overage"))]);
    told.extend(HeaderValue::from_bytes(&used).ok().map(|used| (UTILIZATION, used)));
    told.extend(surpassed.map(|share| (SURPASSED, of(share))));
    told
}

/// Without the claim and the status of the overage: with them the program drops our sentence.
fn rejected(over: &OverBudget) -> Told {
    let mut told = vec![(STATUS, of("rejected")), (UTILIZATION, of("1")), (SURPASSED, of("1"))];
    let reason = match over.budget {
        Some((budget, resets)) => {
            reset(resets, &mut told);
            let period = match budget.period {
                Period::Day => Some("daily"),
                Period::Week => Some("weekly"),
                Period::Month => Some("monthly"),
                Period::Total => None,
            };
            told.extend(period.map(|period| (PERIOD, of(period))));
            "org_spend_cap_reached"
        }
        None => "fetch_error",
    };
    told.push((DISABLED, of(reason)));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_budget_is_what_claude_code_reads() {
        let budget: Budget = "10/day".parse().unwrap();
        let resets = Timestamp::from_second(1_800_000_000).ok();
        for (spent, status, share, surpassed) in [
            (0, "allowed", "0.00", None),
            (7_499_999, "allowed", "0.74", None),
            (7_500_000, "allowed_warning", "0.75", Some("0.75")),
            (9_499_999, "allowed_warning", "0.94", Some("0.75")),
            (9_500_000, "allowed_warning", "0.95", Some("0.95")),
            (12_000_000, "allowed_warning", "0.99", Some("0.95")),
        ] {
            let told = allowed(&Pressure { whose: 0, budget, spent }, resets);
            let of = |name: HeaderName| {
                let told = told.iter().find(|(known, _)| *known == name);
                told.and_then(|(_, value)| value.to_str().ok())
            };
            assert_eq!((of(STATUS), of(OVERAGE_STATUS)), (Some(status), Some(status)));
            assert_eq!(of(UTILIZATION), Some(share), "{spent}");
            assert_eq!(of(SURPASSED), surpassed, "{spent}");
            assert_eq!((of(RESET), of(OVERAGE_RESET)), (Some("1800000000"), Some("1800000000")));
        }
        let told = rejected(&OverBudget { budget: Some((budget, resets)) });
        assert!(!told.iter().any(|(name, _)| [CLAIM, OVERAGE_STATUS].contains(name)));
        assert!(told.contains(&(PERIOD, of("daily"))));
        assert!(told.iter().all(|(name, _)| name.as_str().starts_with(UNIFIED)));
    }
}
