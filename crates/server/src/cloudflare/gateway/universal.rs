//! The universal endpoint: several providers, each with a body of its own, until one answers.
//!
//! A step is a Call of its own, with its own reservation and its own row in the ledger: a
//! pipeline's attempts are of one request, and these are several. What fails before the first
//! content of its answer was sent gives way to the next step; the last one's failure is the answer.

use std::sync::Arc;

use bytes::Bytes;
use formats::cloudflare_gateway::{Step, StepConfig, steps};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use types::Failure;

use super::super::headers::{self, Asked, CONFIG, Said};
use super::endpoint::{self, Endpoint};
use super::{Incoming, ask};
use crate::app::App;
use crate::body::Body;
use crate::delivery::Deliveries;

/// Headers of a step that are about its own connection, which there is none of.
const CONNECTION: [&str; 7] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "transfer-encoding",
];

/// A step that can be asked.
struct Planned {
    endpoint: Endpoint,
    headers: HeaderMap,
    asked: Asked,
    query: Bytes,
}

/// Asks one step after the other.
pub(super) async fn run(
    app: &Arc<App>,
    deliveries: &Deliveries,
    incoming: Incoming,
    asked: Asked,
) -> Result<Response<Body>, Failure> {
    let Incoming { head, body } = incoming;
    // All of them are checked first: a mistake in the last one must not cost what the first costs.
    let steps: Vec<Planned> = steps(&body)?
        .into_iter()
        .enumerate()
        .map(|(index, step)| {
            plan(app, &head, step, &asked).map_err(|failure| in_step(index, failure))
        })
        .collect::<Result<_, _>>()?;
    let last = steps.len().saturating_sub(1);
    for (index, step) in steps.into_iter().enumerate() {
        let Planned { endpoint, headers, mut asked, query } = step;
        asked.attempts.hold = index < last;
        let incoming = Incoming { head: with_headers(&head, headers), body: query };
        let answered = ask(app, deliveries, &endpoint, incoming, &asked).await;
        let mut response = answered.map_err(|failure| in_step(index, failure))?;
        if response.status().is_success() || index == last {
            asked.describe(&mut response, index);
            return Ok(response);
        }
    }
    Err(Failure::invalid("[0]", "give at least one step"))
}

fn plan(app: &App, head: &Parts, step: Step, asked: &Asked) -> Result<Planned, Failure> {
    let Step { provider, endpoint, headers, config, query } = step;
    let mut merged = head.headers.clone();
    let own = headers
        .iter()
        .filter(|(name, _)| !headers::is_key(name) && !CONNECTION.contains(&name.as_str()));
    for (name, value) in own {
        let wrong = || Failure::invalid("headers", format!("the header {name:?} can't be sent"));
        let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        merged.insert(HeaderName::try_from(name.as_str()).map_err(|_| wrong())?, value);
    }
    // What stands closest to the step counts.
    let asked = asked.clone().overlaid(headers::read(&merged)?).overlaid(of_config(&config)?);
    let endpoint = endpoint::find(app, &provider, &endpoint)?;
    Ok(Planned { endpoint, headers: merged, asked, query })
}

fn of_config(config: &StepConfig) -> Result<Asked, Failure> {
    let said = Said {
        request_timeout: config.request_timeout,
        max_attempts: config.max_attempts,
        retry_delay: config.retry_delay,
        backoff: config.backoff.as_deref(),
    };
    said.read(&CONFIG)
}

/// A failure with the step that it is of.
fn in_step(index: usize, failure: Failure) -> Failure {
    let param = failure.param.as_deref().map(|param| format!("[{index}].{param}").into());
    Failure { message: format!("step {index}: {}", failure.message), param, ..failure }
}

/// The head of a request with these headers.
fn with_headers(head: &Parts, headers: HeaderMap) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.uri = head.uri.clone();
    parts.headers = headers;
    parts
}
