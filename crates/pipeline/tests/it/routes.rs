//! The names of routes, and what they stand for.

use std::time::Duration;

use pipeline::RouteInfo;
use storage::models::DatedPrice;
use types::call::{Credential, RoutePolicy};
use types::{ErrorCode, Price, Secret};

use super::world::{MORNING, Node, model, node_with, price, request};

fn route(name: &str, targets: &[&str]) -> RouteInfo {
    RouteInfo {
        name: name.to_owned(),
        aliases: vec![format!("{name}-alias")],
        targets: targets.iter().map(ToString::to_string).collect(),
        choice: None,
        policy: RoutePolicy::OF_ROUTE,
    }
}

fn targets(node: &Node, name: &str) -> Result<Vec<String>, ErrorCode> {
    let plan = node.pipeline.plan(&Credential::Key(Secret::new("hf_ci")), name);
    let plan = plan.map_err(|failure| failure.code)?;
    Ok(plan.targets.iter().map(|target| target.name.as_ref().to_owned()).collect())
}

#[tokio::test]
async fn a_route_is_asked_for_by_each_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let both = ["paid/m", "open/anything", "nobody/m"];
    let node = node_with(&folder, vec![route("fast", &both), route("gone", &["paid/x"])]).await;
    for name in ["route/fast", "dynamic/fast", "fast-alias"] {
        assert_eq!(targets(&node, name).unwrap(), ["paid/m", "open/anything"], "{name}");
    }
    let plan = node.pipeline.plan(&Credential::Key(Secret::new("hf_ci")), "fast-alias").unwrap();
    assert_eq!((&*plan.name, &plan.policy), ("route/fast", &RoutePolicy::OF_ROUTE));
    for name in ["fast", "route/gone", "gone-alias", "route/nothing"] {
        assert_eq!(targets(&node, name), Err(ErrorCode::ModelNotFound), "{name}");
    }
    let listed = |node: &Node| {
        let routes = node.directory.routes().into_iter();
        routes.map(|route| route.name).collect::<Vec<_>>()
    };
    assert_eq!(listed(&node), ["fast"]);
    // Its model comes, and goes again.
    node.directory.put_model(model("paid", "x", None)).await.unwrap();
    assert_eq!(targets(&node, "route/gone").unwrap(), ["paid/x"]);
    assert_eq!(listed(&node), ["fast", "gone"]);
    node.directory.delete_model("paid/x").await.unwrap();
    assert_eq!(listed(&node), ["fast"]);
    let refused = node.pipeline.run(request("ci", "route/gone", None)).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::ModelNotFound);
    node.stop().await;
}

#[tokio::test]
async fn a_targets_price_holds_from_its_day_on_in_a_route_too() {
    let folder = tempfile::tempdir().unwrap();
    let node = node_with(&folder, vec![route("r", &["paid/m", "local/demo"])]).await;
    let mut dated = model("paid", "m", Some(price()));
    let since = MORNING.plus(Duration::from_secs(3_600));
    dated.prices.push(DatedPrice { since, price: Price::free("gift@1") });
    node.directory.put_model(dated).await.unwrap();
    let versions = || {
        let credential = Credential::Key(Secret::new("hf_ci"));
        let plan = node.pipeline.plan(&credential, "route/r").unwrap();
        let prices = plan.targets.iter().filter_map(|target| target.price.as_ref());
        prices.map(|price| price.version.clone()).collect::<Vec<_>>()
    };
    assert_eq!(versions(), ["test@1", "unpriced@free"]);
    node.clock.jump_to(since);
    assert_eq!(versions(), ["gift@1", "unpriced@free"]);
    node.stop().await;
}
