//! What is asked in place of what a client asks for, near a cap over it or the limit of a plan, and at it.

use std::sync::Arc;

use seaway_wire::messages::Change;

use super::{Exchange, Model};
use crate::config::{RouteWhen, UpstreamName};
use crate::fault::{Fault, FaultKind};
use crate::route;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;

/// From this share of a budget on, in ten-thousandths.
const SPILL_AT: u64 = 9_500;

/// Another model, other upstreams, or both.
#[derive(Debug)]
pub(super) struct Spill {
    /// The reason on the receipt.
    pub(super) reason: &'static str,
    pub(super) model: Option<String>,
    /// Empty: those that the model leads to.
    pub(super) upstreams: Vec<UpstreamName>,
}

impl Exchange {
    /// What is asked in place of a model, near a cap or where the plan that would be asked nears its limit.
    pub(super) fn near(&self, asked: &str) -> Option<Spill> {
        if let Some(spill) = self.by_budget(asked).filter(|_| self.is_pressed()) {
            return Some(spill);
        }
        // Nearly no gateway has a plan that is to be spared.
        if !self.snapshot.upstreams.iter().any(|upstream| upstream.may_spill()) {
            return None;
        }
        let meant = self.meant(asked);
        let first = self.snapshot.led_to(asked, meant).into_iter().next()?;
        let spares = first.spares(meant);
        spares.then(|| self.by_route("plan", asked)).flatten()
    }

    fn is_pressed(&self) -> bool {
        let accounts = self.state.ledger.accounts();
        let most = self.standing.as_ref().and_then(|key| accounts.pressing(key));
        most.is_some_and(|(most, _)| most.share() >= SPILL_AT)
    }

    /// The same at a cap: where what was asked for did not fit.
    pub(super) fn at_cap(&self, asked: &str, fault: &Fault) -> Option<Spill> {
        let over = fault.kind == FaultKind::OverBudget;
        over.then(|| self.by_budget(asked)).flatten()
    }

    /// What a key says goes before what a route does.
    fn by_budget(&self, asked: &str) -> Option<Spill> {
        let reason = "budget";
        let own = self.standing.as_ref()?.key.row.settings.spill.clone();
        let own = own.map(|model| Spill { reason, model: Some(model), upstreams: Vec::new() });
        own.or_else(|| self.by_route(reason, asked))
    }

    fn by_route(&self, reason: &'static str, asked: &str) -> Option<Spill> {
        let config = &self.snapshot.config;
        let route = route::fitting(config, RouteWhen::Budget, asked, self.meant(asked))?;
        let (model, upstreams) = (route.ask_model.clone(), route.upstreams.clone());
        Some(Spill { reason, model, upstreams })
    }

    /// What a client's name for a model stands for.
    fn meant<'n>(&'n self, asked: &'n str) -> &'n str {
        route::alias(&self.snapshot.config.aliases, asked).unwrap_or(asked)
    }
}

/// The upstreams to ask, in their order, and the plan that was put behind others for what is used of it.
pub(super) fn targets<'s>(
    snapshot: &'s Snapshot,
    model: &Model<'_>,
    spill: Option<&Spill>,
) -> (Vec<&'s Arc<Upstream>>, Option<&'s Arc<Upstream>>) {
    let meant = model.alias.unwrap_or(model.asked);
    let targets: Vec<_> = match spill {
        Some(spill) if !spill.upstreams.is_empty() => {
            spill.upstreams.iter().filter_map(|name| snapshot.upstream(name)).collect()
        }
        _ => snapshot.led_to(model.asked, meant),
    };
    let spared = targets.first().copied().filter(|first| first.spares(meant));
    let targets = route::healthy_first(targets, |upstream| upstream.spares(meant));
    (route::healthy_first(targets, |upstream| upstream.health.rests()), spared)
}

/// What the client is told of an upstream that is asked in place of another.
pub(super) fn moved(
    upstream: &Upstream,
    spill: Option<&Spill>,
    spared: Option<&Arc<Upstream>>,
) -> Option<Change> {
    let reason = match (spill, spared) {
        (Some(spill), _) if !spill.upstreams.is_empty() => spill.reason,
        (_, Some(spared)) if spared.name != upstream.name => "plan",
        _ => return None,
    };
    Some(Change { name: reason.into(), path: "upstream".into() })
}

impl Upstream {
    fn may_spill(&self) -> bool {
        self.program().is_some_and(|program| program.setting().spill_at.is_some())
    }

    /// True for a plan of which so much is used that others are asked first.
    fn spares(&self, model: &str) -> bool {
        self.program().is_some_and(|program| program.spills(model))
    }
}
