//! Routes: `GET|POST /api/routes`, `GET|PUT|DELETE /api/routes/{name}`, their versions, and the way
//! back to one.
#![expect(
    unused_qualifications,
    reason = "utoipa writes the parameters' type into code of its own"
)]

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use storage::objects::ROUTE_VERSIONS_MAX;
use storage::{Route, RouteVersion};
use types::Failure;
use utoipa::{IntoParams, ToSchema};

use super::config::{Refused, origin};
use super::keys::Deleted;
use super::{ApiError, ApiFailure, Json, Operator, Parameters, Shared, not_found};
use crate::app::App;
use crate::control::RoutePut;

/// Versions that are listed unless more are asked for.
const VERSIONS_LISTED: usize = 20;

/// A route.
#[derive(Serialize, ToSchema)]
pub(crate) struct RouteView {
    /// Its name: asked for as `route/NAME`.
    name: String,
    /// `file` or `api`: where its present text came from.
    origin: &'static str,
    /// The version of the routes in which it got its present text.
    version: u64,
    /// When that was, in seconds since the epoch.
    changed_at: i64,
    /// Its settings, as the file has them.
    #[schema(value_type = Object)]
    settings: Value,
    /// The models that it stands for now; those that nobody offers are left out.
    targets: Vec<TargetView>,
}

/// A target of a route.
#[derive(Serialize, ToSchema)]
pub(crate) struct TargetView {
    /// The model.
    model: String,
    /// `well`, or `cooling`: it failed, and is asked last for a while.
    state: &'static str,
}

impl RouteView {
    fn of(app: &App, route: Route) -> Self {
        let targets = app.pipeline.targets_of_route(&route.name).into_iter();
        let target = |(model, is_well)| TargetView {
            model,
            state: if is_well { "well" } else { "cooling" },
        };
        Self {
            origin: origin(route.origin),
            version: route.version,
            changed_at: route.changed_at.seconds(),
            targets: targets.map(target).collect(),
            name: route.name,
            settings: route.settings,
        }
    }
}

/// Routes.
#[derive(Serialize, ToSchema)]
pub(crate) struct RouteList {
    /// The version in force; 0 = there never was a route.
    version: u64,
    /// All, by name.
    data: Vec<RouteView>,
}

async fn in_force(app: &App) -> Result<(u64, Vec<Route>), ApiFailure> {
    let newest = app.store.route_versions(1).await?.pop();
    Ok(newest.map_or((0, Vec::new()), |newest| (newest.number, newest.routes)))
}

/// All routes, and which of their targets are well.
#[utoipa::path(get, path = "/api/routes", responses((status = 200, body = RouteList)))]
pub(crate) async fn list(
    State(app): Shared,
    _operator: Operator,
) -> Result<axum::Json<RouteList>, ApiFailure> {
    let (version, routes) = in_force(&app).await?;
    let data = routes.into_iter().map(|route| RouteView::of(&app, route)).collect();
    Ok(axum::Json(RouteList { version, data }))
}

/// One route.
#[utoipa::path(get, path = "/api/routes/{name}", responses((status = 200, body = RouteView), (status = 404, body = ApiError)))]
pub(crate) async fn get(
    State(app): Shared,
    _operator: Operator,
    Path(name): Path<String>,
) -> Result<axum::Json<RouteView>, ApiFailure> {
    let (_, routes) = in_force(&app).await?;
    let found = routes.into_iter().find(|route| route.name == name);
    let route = found.ok_or_else(|| not_found("route", &name))?;
    Ok(axum::Json(RouteView::of(&app, route)))
}

/// Makes a route. The body is one of the file's `[[routes]]`, as JSON.
#[utoipa::path(post, path = "/api/routes", request_body = Object, responses((status = 200, body = RouteView), (status = 400, body = ApiError)))]
pub(crate) async fn create(
    State(app): Shared,
    operator: Operator,
    Json(mut settings): Json<Map<String, Value>>,
) -> Result<axum::Json<RouteView>, Refused> {
    let Some(Value::String(name)) = settings.shift_remove("name") else {
        return Err(Failure::invalid("name", "name the route: \"name\"").into());
    };
    let put = RoutePut { name, settings: Value::Object(settings), is_new: true };
    let route = app.control.put_route(put, operator.0.key_name.to_string()).await?;
    Ok(axum::Json(RouteView::of(&app, route)))
}

/// Makes a route, or replaces the one of that name. The body is one of the file's `[[routes]]`, as
/// JSON.
#[utoipa::path(put, path = "/api/routes/{name}", request_body = Object, responses((status = 200, body = RouteView), (status = 400, body = ApiError)))]
pub(crate) async fn put(
    State(app): Shared,
    operator: Operator,
    Path(name): Path<String>,
    Json(mut settings): Json<Map<String, Value>>,
) -> Result<axum::Json<RouteView>, Refused> {
    if settings.shift_remove("name").is_some_and(|own| own != Value::String(name.clone())) {
        let message = format!("the body names another route than the path, which is {name}");
        return Err(Failure::invalid("name", message).into());
    }
    let put = RoutePut { name, settings: Value::Object(settings), is_new: false };
    let route = app.control.put_route(put, operator.0.key_name.to_string()).await?;
    Ok(axum::Json(RouteView::of(&app, route)))
}

/// Removes a route. Calls that go by it end as they began.
#[utoipa::path(delete, path = "/api/routes/{name}", responses((status = 200, body = Deleted), (status = 404, body = ApiError)))]
pub(crate) async fn delete(
    State(app): Shared,
    operator: Operator,
    Path(name): Path<String>,
) -> Result<axum::Json<Deleted>, Refused> {
    let author = operator.0.key_name.to_string();
    if app.control.delete_route(name.clone(), author).await? {
        return Ok(axum::Json(Deleted { id: name, deleted: true }));
    }
    Err(not_found("route", &name).0.into())
}

/// A set of routes that was in force, or is.
#[derive(Serialize, ToSchema)]
pub(crate) struct VersionView {
    /// Its number.
    number: u64,
    /// Since when, in seconds since the epoch.
    at: i64,
    /// The name of the key that asked for it, or `SIGHUP`, or `file`.
    author: String,
    /// What was changed.
    what: String,
    /// The whole set, by name.
    routes: Vec<RouteOfVersion>,
}

/// A route as it was.
#[derive(Serialize, ToSchema)]
pub(crate) struct RouteOfVersion {
    /// Its name.
    name: String,
    /// `file` or `api`.
    origin: &'static str,
    /// Its settings.
    #[schema(value_type = Object)]
    settings: Value,
}

impl VersionView {
    fn of(version: RouteVersion) -> Self {
        let route = |route: Route| RouteOfVersion {
            name: route.name,
            origin: origin(route.origin),
            settings: route.settings,
        };
        Self {
            number: version.number,
            at: version.at.seconds(),
            author: version.author,
            what: version.what,
            routes: version.routes.into_iter().map(route).collect(),
        }
    }
}

/// Versions of the routes.
#[derive(Serialize, ToSchema)]
pub(crate) struct VersionList {
    /// Newest first; the first is in force.
    data: Vec<VersionView>,
}

/// Which versions.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionsQuery {
    /// How many at most: 20 unless given, 100 at most.
    limit: Option<usize>,
}

/// The newest versions of the routes.
#[utoipa::path(get, path = "/api/routes/versions", params(VersionsQuery), responses((status = 200, body = VersionList)))]
pub(crate) async fn versions(
    State(app): Shared,
    _operator: Operator,
    Parameters(query): Parameters<VersionsQuery>,
) -> Result<axum::Json<VersionList>, ApiFailure> {
    let limit = query.limit.unwrap_or(VERSIONS_LISTED).min(ROUTE_VERSIONS_MAX);
    let versions = app.store.route_versions(limit).await?;
    Ok(axum::Json(VersionList { data: versions.into_iter().map(VersionView::of).collect() }))
}

/// Which version to go back to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rollback {
    /// Its number.
    version: u64,
}

/// Makes a former set of routes the one in force, as a new version.
#[utoipa::path(post, path = "/api/routes/rollback", request_body = Rollback, responses((status = 200, body = VersionView), (status = 400, body = ApiError), (status = 404, body = ApiError)))]
pub(crate) async fn rollback(
    State(app): Shared,
    operator: Operator,
    Json(rollback): Json<Rollback>,
) -> Result<axum::Json<VersionView>, Refused> {
    let author = operator.0.key_name.to_string();
    let version = app.control.rollback(rollback.version, author).await?;
    Ok(axum::Json(VersionView::of(version)))
}
