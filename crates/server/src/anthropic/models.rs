//! `GET /v1/models[/{model}]` for clients of Anthropic's API, which page through the list.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming as HyperBody;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::Model;
use types::{ErrorCode, Failure, Timestamp};

use crate::app::App;
use crate::body::Body;
use crate::{errors, models, request};

/// Models on one page unless the client asks for another number, as Anthropic has it.
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1_000;
const DAY_SECONDS: i64 = 24 * 60 * 60;

#[derive(Debug, Default, Deserialize)]
struct Page {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    after_id: Option<String>,
    #[serde(default)]
    before_id: Option<String>,
}

/// A page of the models that the key may use.
pub(crate) async fn list(app: Arc<App>, request: Request<HyperBody>) -> Response<Body> {
    let answer = match page_of(request.uri().query().unwrap_or_default()) {
        Ok(page) => all(&app, &request).await.map(|models| page.of(&models)),
        Err(failure) => Err(failure),
    };
    respond(&app, answer)
}

/// One model.
pub(crate) async fn get(
    app: Arc<App>,
    request: Request<HyperBody>,
    name: String,
) -> Response<Body> {
    let answer = all(&app, &request).await.and_then(|models| {
        let missing = || {
            let message = format!("the model {name} does not exist for this key");
            Failure::new(ErrorCode::ModelNotFound, message)
        };
        models
            .iter()
            .find(|model| model.name == name)
            .map(|model| render(model))
            .ok_or_else(missing)
    });
    respond(&app, answer)
}

async fn all(app: &App, request: &Request<HyperBody>) -> Result<Vec<Arc<Model>>, Failure> {
    let principal = app.pipeline.authenticate(&request::credential(request.headers())).await?;
    Ok(models::listed(&app.directory, &principal))
}

fn page_of(query: &str) -> Result<Page, Failure> {
    let page: Page = serde_urlencoded::from_str(query)
        .map_err(|_| Failure::invalid("limit", format!("must be from 1 to {LIMIT_MAX}")))?;
    match page.limit {
        Some(limit) if !(1..=LIMIT_MAX).contains(&limit) => {
            Err(Failure::invalid("limit", format!("must be from 1 to {LIMIT_MAX}")))
        }
        _ => Ok(page),
    }
}

impl Page {
    /// The models behind `after_id`, or the last ones before `before_id`.
    fn of(&self, models: &[Arc<Model>]) -> Value {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        let place = |id: &String| models.iter().position(|model| model.name == *id);
        let end = self.before_id.as_ref().and_then(place);
        let begin = self.after_id.as_ref().and_then(place).map_or(0, |place| place + 1);
        let (begin, end) = match end {
            Some(end) => (begin.max(end.saturating_sub(limit)), end),
            None => (begin, models.len().min(begin.saturating_add(limit))),
        };
        let has_more = match self.before_id {
            Some(_) => begin > 0,
            None => end < models.len(),
        };
        let page = models.get(begin..end).unwrap_or_default();
        json!({
            "data": page.iter().map(|model| render(model)).collect::<Vec<_>>(),
            "has_more": has_more,
            "first_id": page.first().map(|model| &model.name),
            "last_id": page.last().map(|model| &model.name),
        })
    }
}

fn render(model: &Model) -> Value {
    json!({
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": rfc3339(model.created_at),
        "max_input_tokens": model.context_tokens,
        "max_tokens": model.output_tokens_max,
    })
}

/// A time as RFC 3339 writes it, in UTC and whole seconds.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let (days, second) =
        (time.seconds().div_euclid(DAY_SECONDS), time.seconds().rem_euclid(DAY_SECONDS));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a number of days since the epoch. Years are counted from March, so that a
/// leap day ends one; eras have 400 of them.
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
const fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

fn respond(app: &App, answer: Result<Value, Failure>) -> Response<Body> {
    match answer {
        Ok(value) => {
            let mut response = Response::new(Body::whole(value.to_string()));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(failure) => errors::response(super::ERRORS, &errors::refused(&app.ids, failure)),
    }
}

#[cfg(test)]
mod tests;
