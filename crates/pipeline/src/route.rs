//! The third stage: where to. The plan's first target that somebody can reach.
//!
//! Order, weights, health and caches join here; a plan has one target until they do. It must not
//! know money.

use std::collections::HashMap;
use std::sync::Arc;

use types::call::Target;
use types::{Call, ErrorCode, Execute, Failure};

/// A target and who reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) target: Arc<Target>,
    pub(crate) executor: Arc<dyn Execute>,
}

/// Chooses the target of a Call.
pub(crate) fn route(
    executors: &HashMap<String, Arc<dyn Execute>>,
    call: &Call,
) -> Result<Route, Failure> {
    let reachable = call.plan.targets.iter().find_map(|target| {
        let executor = executors.get(&*target.provider)?;
        Some(Route { target: Arc::clone(target), executor: Arc::clone(executor) })
    });
    reachable.ok_or_else(|| {
        let message = format!("nothing that can serve `{}` is running here", call.plan.name);
        Failure::new(ErrorCode::Unavailable, message)
    })
}
