//! Routes that the API makes, removes and rolls back: each change is the next version of the set.

use pipeline::{Change, Upstreams};
use server::{Refusal, RoutePut};
use storage::budgets::Origin;
use storage::{Route, RouteVersion};
use types::{ErrorCode, Failure};

use super::{Control, Stored, infos_of, unreadable, wrong};
use crate::config::{self, ROUTE_BYTES_MAX};
use crate::wire::objects::fingerprint;
use crate::wire::routes::{self, KIND};

impl Control {
    /// Makes a route, or replaces the one of its name.
    pub(super) async fn put(&self, put: RoutePut, author: String) -> Result<Route, Refusal> {
        let _changing = self.changing.lock().await;
        let stored = self.stored().await?;
        let former = stored.routes.iter().find(|route| route.name == put.name);
        if let Some(former) = former.filter(|_| put.is_new) {
            return Err(exists(former).into());
        }
        let route = Route {
            name: put.name,
            settings: put.settings,
            origin: Origin::Api,
            version: stored.number + 1,
            changed_at: self.parts.clock.now(),
        };
        let said = |route: &Route| (route.settings.clone(), route.origin);
        if let Some(same) = former.filter(|former| said(former) == said(&route)) {
            return Ok(same.clone());
        }
        let others: Vec<&Route> =
            stored.routes.iter().filter(|other| other.name != route.name).collect();
        self.check(&route, &others)?;
        let verb = if former.is_some() { "changed" } else { "added" };
        let what = format!("{verb} {}", route.name);
        let mut set: Vec<Route> = others.into_iter().cloned().collect();
        set.push(route.clone());
        self.keep(stored.number, set, (author, what)).await?;
        Ok(route)
    }

    /// What is wrong with a route beside the others.
    fn check(&self, route: &Route, others: &[&Route]) -> Result<(), Refusal> {
        let set: Vec<&Route> = others.iter().copied().chain([route]).collect();
        if let Some(message) = config::too_large(set.iter().map(|route| &route.settings)) {
            let message = format!("with this one, all routes {message}: delete one");
            return Err(Failure::new(ErrorCode::Conflict, message).into());
        }
        if route.settings.to_string().len() > ROUTE_BYTES_MAX {
            let message = format!("a route's settings have {ROUTE_BYTES_MAX} bytes at most");
            return Err(Failure::invalid("body", message).into());
        }
        if let Some((alias, other)) = routes::clash(route, others) {
            let message = format!(
                "the alias \"{alias}\" is the route {}'s, {}: a name leads to one route",
                other.name,
                from(other)
            );
            let failure = Failure::new(ErrorCode::Conflict, message);
            return Err(Failure { param: Some("aliases".into()), ..failure }.into());
        }
        let all_wrong = routes::checked(&self.running(), &set).wrong.into_iter();
        let own: Vec<_> = all_wrong
            .filter(|(name, _)| *name == route.name)
            .map(|(_, problem)| routes::told(problem))
            .collect();
        if own.is_empty() { Ok(()) } else { Err(wrong(own)) }
    }

    /// Removes a route; `false` if there is none of that name.
    pub(super) async fn delete(&self, name: &str, author: String) -> Result<bool, Refusal> {
        let _changing = self.changing.lock().await;
        let Stored { number, mut routes, .. } = self.stored().await?;
        let before = routes.len();
        routes.retain(|route| route.name != name);
        if routes.len() == before {
            return Ok(false);
        }
        self.keep(number, routes, (author, format!("removed {name}"))).await?;
        Ok(true)
    }

    /// Makes a former set the one in force.
    pub(super) async fn roll_back(
        &self,
        number: u64,
        author: String,
    ) -> Result<RouteVersion, Refusal> {
        let _changing = self.changing.lock().await;
        let former = self.parts.store.route_version(number).await;
        let former = former.map_err(|error| unreadable(&error))?.ok_or_else(|| {
            let message = format!("there is no version {number} of the routes any more, or yet");
            Failure::new(ErrorCode::NotFound, message)
        })?;
        let stored = self.stored().await?;
        let all: Vec<&Route> = former.routes.iter().collect();
        let told = |(name, mut problem): (String, config::Problem)| {
            problem.at = format!("{name}.{}", problem.at);
            routes::told(problem)
        };
        let problems: Vec<_> =
            routes::checked(&self.running(), &all).wrong.into_iter().map(told).collect();
        if !problems.is_empty() {
            return Err(wrong(problems));
        }
        let set = former.routes.into_iter().map(|route| as_of_now(route, &stored));
        let set: Vec<Route> = set.collect();
        self.keep(stored.number, set, (author, format!("rolled back to {number}"))).await
    }

    /// Makes a set durable as the version after `last`, then sends Calls by it.
    async fn keep(
        &self,
        last: u64,
        mut routes: Vec<Route>,
        (author, what): (String, String),
    ) -> Result<RouteVersion, Refusal> {
        routes.sort_by(|left, right| left.name.cmp(&right.name));
        let (infos, warnings, _) = infos_of(&self.running(), &routes);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let (number, at) = (last + 1, self.parts.clock.now());
        let version = RouteVersion { number, at, author, what, routes };
        let former = self.parts.directory.upstreams();
        let upstreams = Upstreams { routes: infos, ..Upstreams::clone(&former) };
        let change = Change {
            routes: Some(version.clone()),
            upstreams: Some(upstreams),
            ..Change::default()
        };
        self.parts.directory.change(|_| Ok(change)).await?;
        let RouteVersion { number, author, what, .. } = &version;
        tracing::info!(number, %author, "routes: {what}");
        Ok(version)
    }
}

/// A route of a former set: it is the file's if that is what was last taken from the file.
fn as_of_now(route: Route, stored: &Stored) -> Route {
    let now = stored.routes.iter().find(|now| now.name == route.name);
    if let Some(now) = now.filter(|now| now.settings == route.settings) {
        return now.clone();
    }
    let taken = stored.taken.get(&(KIND.to_owned(), route.name.clone()));
    let is_files = fingerprint(&route.settings).is_ok_and(|sha256| taken == Some(&sha256));
    let origin = if is_files { Origin::File } else { Origin::Api };
    Route { origin, version: stored.number + 1, ..route }
}

fn exists(route: &Route) -> Failure {
    let message = format!(
        "there is a route {} already, {}: PUT /api/routes/{} replaces it",
        route.name,
        from(route),
        route.name
    );
    Failure { param: Some("name".into()), ..Failure::new(ErrorCode::Conflict, message) }
}

fn from(route: &Route) -> &'static str {
    match route.origin {
        Origin::File => "from the configuration file",
        Origin::Api => "made through the API",
    }
}
