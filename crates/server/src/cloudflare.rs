//! The doors of Cloudflare's inference APIs.
//!
//! Below `/client/v4/accounts/{account}/ai`: Workers AI's own (`run`), the same OpenAI and
//! Anthropic doors that stand under `/v1` (`v1/…`), and the models. What is asked there is answered
//! in Cloudflare's envelope, or in the words of the API that the path names.
//!
//! Invariant: an account in a path is the key's own. It must not know how a model is reached.

use std::sync::Arc;
use std::time::Duration;

use formats::cloudflare_run::CLOUDFLARE_RUN;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming as HyperBody;
use types::clock::within;
use types::error::Billed;
use types::format::Format;
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Failure, Principal};

use crate::app::App;
use crate::body::Body;
use crate::delivery::Deliveries;
use crate::openai::percent_decoded;
use crate::{errors, request, router};
use headers::Asked;

pub(crate) mod gateway;
mod headers;
mod models;
mod run;

/// Renders errors of Cloudflare's REST API.
static ERRORS: &dyn Format = &CLOUDFLARE_RUN;

/// What all of Cloudflare's REST API lies under.
const ACCOUNTS: &str = "/client/v4/accounts/";
/// The name that the first account has besides its id.
const DEFAULT_NAME: &str = "default";
/// Hexadecimal digits of an account's id.
const ACCOUNT_DIGITS: usize = 32;

/// Whether a path is one of Cloudflare's REST API.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/client/v4/")
}

/// The format in which a client that asks for such a path reads errors.
pub(crate) fn errors_at(path: &str) -> &'static dyn Format {
    match place(path) {
        Some((_, Place::OpenApi(rest))) => router::errors_at(&format!("/v1/{rest}")),
        Some((_, Place::Run(_) | Place::Models)) | None => ERRORS,
    }
}

/// Answers what lies under `/client/v4/`.
pub(crate) async fn route(
    app: Arc<App>,
    deliveries: Deliveries,
    request: Request<HyperBody>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let Some((account, place)) = place(&path) else { return router::not_found(&app, &path) };
    if place == Place::Models {
        let account = account.to_owned();
        let search = |app, request| models::search(app, request, account);
        return router::only(&app, &Method::GET, request, search).await;
    }
    let asked = match check(&app, request.headers(), account).await {
        Ok(asked) => asked,
        Err(failure) => {
            return errors::response(errors_at(&path), &errors::refused(&app.ids, failure));
        }
    };
    let limit = asked.request_timeout;
    let answer = Box::pin(ask(Arc::clone(&app), deliveries, request, place, &asked));
    let mut response = in_time(&app, limit, answer, errors_at(&path)).await;
    asked.describe(&mut response, 0);
    response
}

/// Who asks, and what with the headers of AI Gateway.
async fn check(app: &App, headers: &HeaderMap, account: &str) -> Result<Asked, Failure> {
    authorize(app, headers, account).await?;
    headers::gateway(headers)?.map(gateway::checked).transpose()?;
    headers::read(headers)
}

/// Hands a request to its door.
async fn ask(
    app: Arc<App>,
    deliveries: Deliveries,
    mut request: Request<HyperBody>,
    place: Place<'_>,
    asked: &Asked,
) -> Response<Body> {
    if let Err(failure) = headers::take(request.headers_mut(), &app) {
        let format = errors_at(request.uri().path());
        return errors::response(format, &errors::refused(&app.ids, failure));
    }
    asked.mark(request.extensions_mut());
    match place {
        Place::Run(model) => {
            let model = model.map(percent_decoded);
            let run = |app, request| run::answer(app, request, model);
            router::only(&app, &Method::POST, request, run).await
        }
        Place::OpenApi(rest) => {
            let path = request.uri().path().to_owned();
            match moved(request, &format!("/v1/{rest}")) {
                Some(request) => router::under_v1(app, deliveries, request).await,
                None => router::not_found(&app, &path),
            }
        }
        Place::Models => router::not_found(&app, request.uri().path()),
    }
}

/// An answer, if it begins within the time that the client gives it. What has not begun by then is
/// dropped: its Call ends there.
async fn in_time(
    app: &App,
    limit: Option<Duration>,
    answer: impl Future<Output = Response<Body>>,
    format: &'static dyn Format,
) -> Response<Body> {
    let Some(limit) = limit else { return answer.await };
    if let Some(response) = within(app.clock.as_ref(), limit, answer).await {
        return response;
    }
    let text = format!("no answer began within {} ms, as the client asked", limit.as_millis());
    let failure = Failure::new(ErrorCode::UpstreamTimeout, text).billed(Billed::Unknown);
    errors::response(format, &errors::refused(&app.ids, failure))
}

/// What lies where below an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    /// `ai/run` or `ai/run/{model}`.
    Run(Option<&'a str>),
    /// `ai/v1/…`: the doors that stand under `/v1` too.
    OpenApi(&'a str),
    /// `ai/models/search`.
    Models,
}

/// The account and the place that a path names.
fn place(path: &str) -> Option<(&str, Place<'_>)> {
    let (account, rest) = path.strip_prefix(ACCOUNTS)?.split_once("/ai/")?;
    if account.is_empty() || account.contains('/') {
        return None;
    }
    let place = match rest.trim_end_matches('/') {
        "run" => Place::Run(None),
        "models/search" => Place::Models,
        rest => match rest.split_once('/')? {
            ("run", model) => Place::Run(Some(model)),
            ("v1", door) => Place::OpenApi(door),
            _ => return None,
        },
    };
    Some((account, place))
}

/// Who asks, if the account that a path names is theirs.
///
/// # Errors
/// `unauthenticated`; `not_found` for what is no account's id, `permission_denied` for another
/// account's.
async fn authorize(
    app: &App,
    headers: &HeaderMap,
    account: &str,
) -> Result<Arc<Principal>, Failure> {
    let principal = app.pipeline.authenticate(&request::credential(headers)).await?;
    match is_account_of(&principal, account) {
        true => Ok(principal),
        false => Err(foreign(account)),
    }
}

fn is_account_of(principal: &Principal, account: &str) -> bool {
    let id = if account == DEFAULT_NAME { DEFAULT_ACCOUNT } else { account };
    id.eq_ignore_ascii_case(&principal.account)
}

/// Two mistakes that look alike to a client and have two remedies.
fn foreign(account: &str) -> Failure {
    if is_account(account) {
        let text = "this key is of another account than the one in the path";
        return Failure::new(ErrorCode::PermissionDenied, text);
    }
    let text = format!(
        "the path names no account: give its {ACCOUNT_DIGITS} hexadecimal digits, or \
         '{DEFAULT_NAME}' for the first one"
    );
    Failure::new(ErrorCode::NotFound, text)
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The same request at another path.
fn moved(mut request: Request<HyperBody>, path: &str) -> Option<Request<HyperBody>> {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{path}{query}")).ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(request)
}

#[cfg(test)]
mod tests;
