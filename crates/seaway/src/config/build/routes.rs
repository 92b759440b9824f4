//! The routes of a configuration.

use std::sync::Arc;

use super::{ConfigReader, below};
use crate::config::{Glob, Route, RouteWhen, UpstreamConfig};

impl ConfigReader<'_> {
    pub(super) fn routes(&mut self, upstreams: &[Arc<UpstreamConfig>]) -> Vec<Route> {
        let mut routes = Vec::new();
        for name in self.layers.names("route") {
            let to = |rest: &str| below("route", &name, rest);
            let listed = self.get(&to("upstream")).map(|value| value.texts()).unwrap_or_default();
            let when = match self.text_at(&to("when")).as_deref() {
                Some("budget") => RouteWhen::Budget,
                _ => RouteWhen::Always,
            };
            let ask_model = self.text_at(&to("ask_model")).filter(|model| !model.trim().is_empty());
            if ask_model.is_some() && when == RouteWhen::Always {
                let why = "a route asks for another model with `when = \"budget\"` alone; an `[alias]` does so always";
                self.mistake_at(&to("ask_model"), why);
            }
            if listed.is_empty() && (when == RouteWhen::Always || ask_model.is_none()) {
                let origin = self.origin(&to("model"));
                let nowhere = match when {
                    RouteWhen::Always => "this route names no `upstream`",
                    RouteWhen::Budget => {
                        "this route names neither an `upstream` nor an `ask_model`"
                    }
                };
                self.layers.mistake(origin, nowhere);
            }
            let at = to("upstream");
            let targets =
                listed.iter().filter_map(|listed| self.known(&at, listed, upstreams)).collect();
            let model = self.text_at(&to("model")).unwrap_or_default();
            routes.push(Route { model: Glob(model), when, ask_model, upstreams: targets });
        }
        routes
    }
}
