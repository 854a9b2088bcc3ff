//! What a key may ask for, as doors list it: models, and routes beside them.
//!
//! A route is listed as a model of a provider `route`: clients ask for either by its name.

use std::sync::Arc;

use pipeline::{Directory, RouteInfo};
use storage::Model;
use storage::budgets::Origin;
use types::{Principal, Timestamp};

/// What routes are listed as a provider of.
const ROUTE: &str = "route";

/// Every name of `directory` that `principal` may ask for.
pub(crate) fn listed(directory: &Directory, principal: &Principal) -> Vec<Arc<Model>> {
    let mut models = directory.models(principal);
    for route in directory.routes() {
        let own = format!("{ROUTE}/{}", route.name);
        let names = std::iter::once(&own).chain(&route.aliases);
        models.extend(names.map(|name| Arc::new(as_model(directory, &route, name))));
    }
    models
}

/// A route under one of its names. Its limits are those that every target keeps to, if all are
/// known; what it costs depends on who answers.
fn as_model(directory: &Directory, route: &RouteInfo, name: &str) -> Model {
    let targets = || route.targets.iter().map(|target| directory.model(target));
    let least = |limit: fn(&Model) -> Option<u64>| {
        targets().map(|model| model.as_deref().and_then(limit)).min().flatten()
    };
    Model {
        name: name.to_owned(),
        provider: ROUTE.to_owned(),
        upstream_model: route.name.clone(),
        path: None,
        sha256: None,
        prices: Vec::new(),
        output_tokens_max: least(|model| model.output_tokens_max),
        context_tokens: least(|model| model.context_tokens),
        origin: Origin::File,
        version: 0,
        created_at: targets().flatten().map(|model| model.created_at).max().unwrap_or(Timestamp(0)),
    }
}
