//! A provider's endpoint as AI Gateway names it, and the door that answers it here.
//!
//! A path below a provider is that of the provider's own API, with or without its version; which
//! door it is depends on its end alone. A slug of AI Gateway stands for the provider of that name,
//! else for the first one of that vendor.

use std::sync::Arc;

use bytes::Bytes;
use formats::cloudflare_gateway::{addressed, renamed};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use types::format::Format;
use types::{ErrorCode, Failure};

use super::super::headers::{self, Asked};
use super::super::run;
use super::Incoming;
use crate::app::App;
use crate::body::Body;
use crate::delivery::Deliveries;
use crate::{anthropic, gemini, openai};

/// The endpoint of OpenAI's form for every provider.
const COMPAT: &str = "compat";
/// Cloudflare's own models: their names are whole, and lead where routes' aliases say.
const WORKERS_AI: &str = "workers-ai";
/// What AI Gateway puts before the name of a provider that its user configured.
const CUSTOM: &str = "custom-";
/// AI Gateway's names of providers whose endpoints say more than the path of an API.
const AZURE: &str = "azure-openai";
const AZURE_VENDOR: &str = "azure";
const VERTEX: &str = "google-vertex-ai";
/// What stands before Gemini's path at Vertex.
const VERTEX_PUBLISHER: &str = "/publishers/google/";
/// Vendors that AI Gateway calls otherwise.
const SLUGS: [(&str, &str); 6] = [
    ("aws-bedrock", "bedrock"),
    ("azure-openai", "azure"),
    ("google-ai-studio", "gemini"),
    ("google-vertex-ai", "vertex"),
    ("grok", "xai"),
    ("perplexity-ai", "perplexity"),
];

/// A door that answers an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Door {
    Chat,
    Embeddings,
    Responses,
    Messages,
    CountTokens,
    /// Gemini's, which has model and method in its path.
    Gemini {
        model: String,
        method: String,
    },
    /// `ai/run` with its model.
    Run(String),
}

/// How the model in a body is called here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// By its own name.
    Whole,
    /// It begins with a provider as AI Gateway names it.
    Slugged,
    /// It is this provider's.
    Of(String),
}

/// What an endpoint is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    door: Door,
    names: Names,
    /// The model, where the address says it and not the body.
    model: Option<String>,
    /// The query that stands in an endpoint of the universal endpoint.
    query: Option<String>,
}

/// What an endpoint of a provider is here.
///
/// # Errors
/// `not_found` for a provider that nobody configured and an endpoint that no door answers.
pub(super) fn find(app: &App, provider: &str, endpoint: &str) -> Result<Endpoint, Failure> {
    let (endpoint, query) = endpoint.split_once('?').unwrap_or((endpoint, ""));
    let query = (!query.is_empty()).then(|| query.to_owned());
    let endpoint = openai::percent_decoded(endpoint);
    let endpoint = endpoint.trim_matches('/');
    if provider == WORKERS_AI {
        let door = door(endpoint).unwrap_or_else(|| {
            Door::Run(endpoint.strip_prefix("run/").unwrap_or(endpoint).to_owned())
        });
        return Ok(Endpoint { door, names: Names::Whole, model: None, query });
    }
    let names = if provider == COMPAT {
        Names::Slugged
    } else {
        let found = provider_of(app, provider).ok_or_else(|| unknown(app, provider))?;
        Names::Of(found)
    };
    let Native { provider: own, model, rest } = native(provider, endpoint);
    let names = match own.and_then(|own| named(app, own)) {
        Some(own) => Names::Of(own),
        None => names,
    };
    let door = door(rest).ok_or_else(|| {
        let text = format!(
            "'{endpoint}' of {provider} is not offered: chat/completions, responses, embeddings, \
             messages, messages/count_tokens and Gemini's models/{{model}}:{{method}} are, of Azure \
             below {{resource}}/{{deployment}}, of Vertex below \
             v1/projects/{{project}}/locations/{{location}}/publishers/google"
        );
        Failure::new(ErrorCode::NotFound, text)
    })?;
    Ok(Endpoint { door, names, model: model.map(str::to_owned), query })
}

/// What an endpoint says before the path of its API, where AI Gateway has a form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Native<'a> {
    /// The provider's own name for where the model is, such as Azure's resource.
    provider: Option<&'a str>,
    /// The model.
    model: Option<&'a str>,
    /// The path of the API.
    rest: &'a str,
}

/// Reads it. What it says of a project and a location is the operator's business here.
fn native<'a>(slug: &str, endpoint: &'a str) -> Native<'a> {
    let plain = Native { provider: None, model: None, rest: endpoint };
    let found = match slug {
        // azure-openai/{resource}/{deployment}/chat/completions
        AZURE if door(endpoint).is_none() => azure(endpoint),
        // google-vertex-ai/v1/projects/{project}/locations/{location}/publishers/google/models/…
        VERTEX => endpoint.split_once(VERTEX_PUBLISHER).map(|(_, rest)| Native { rest, ..plain }),
        _ => None,
    };
    found.unwrap_or(plain)
}

fn azure(endpoint: &str) -> Option<Native<'_>> {
    let (resource, below) = endpoint.split_once('/')?;
    let (deployment, rest) = below.split_once('/')?;
    let named = !resource.is_empty() && !deployment.is_empty();
    named.then_some(Native { provider: Some(resource), model: Some(deployment), rest })
}

/// The door whose path an endpoint ends with, behind a version or none.
fn door(endpoint: &str) -> Option<Door> {
    let versions = ["v1/", "v1beta/", "openai/v1/", "api/v1/", "inference/v1/"];
    let path = versions.iter().find_map(|version| endpoint.strip_prefix(version));
    let path = path.unwrap_or(endpoint);
    if let Some((model, method)) = path.strip_prefix("models/").and_then(|at| at.rsplit_once(':')) {
        return Some(Door::Gemini { model: model.to_owned(), method: method.to_owned() });
    }
    match path {
        // The binding's documentation has the second spelling.
        "chat/completions" | "chat/completion" => Some(Door::Chat),
        "embeddings" => Some(Door::Embeddings),
        "responses" => Some(Door::Responses),
        "messages" => Some(Door::Messages),
        "messages/count_tokens" => Some(Door::CountTokens),
        _ => None,
    }
}

/// The configured provider of Azure's that has the name of a resource.
fn named(app: &App, resource: &str) -> Option<String> {
    let upstreams = app.directory.upstreams();
    let mut own = upstreams.providers.iter().filter(|provider| provider.vendor == AZURE_VENDOR);
    own.find(|provider| provider.name == resource).map(|provider| provider.name.clone())
}

/// The configured provider that a slug stands for.
fn provider_of(app: &App, slug: &str) -> Option<String> {
    let slug = slug.strip_prefix(CUSTOM).unwrap_or(slug);
    let vendor = SLUGS.iter().find(|(known, _)| *known == slug).map_or(slug, |(_, vendor)| vendor);
    let upstreams = app.directory.upstreams();
    let providers = &upstreams.providers;
    let named = |name: &str| providers.iter().find(|provider| provider.name == name);
    let of_vendor = || providers.iter().find(|provider| provider.vendor == vendor);
    let found = named(slug).or_else(|| named(vendor)).or_else(of_vendor)?;
    Some(found.name.clone())
}

/// All configured providers that a slug can stand for.
pub(in super::super) fn providers_of(app: &App, slug: &str) -> Vec<String> {
    let slug = slug.strip_prefix(CUSTOM).unwrap_or(slug);
    let vendor = SLUGS.iter().find(|(known, _)| *known == slug).map_or(slug, |(_, vendor)| vendor);
    let upstreams = app.directory.upstreams();
    let fits = |name: &str, of: &str| name == slug || name == vendor || of == vendor;
    let all = upstreams.providers.iter();
    all.filter(|it| fits(&it.name, &it.vendor)).map(|it| it.name.clone()).collect()
}

fn unknown(app: &App, slug: &str) -> Failure {
    let upstreams = app.directory.upstreams();
    let names = upstreams.providers.iter().map(|provider| provider.name.as_str());
    let names: Vec<&str> = names.collect();
    let text = format!("no provider '{slug}' is configured; there are: {}", names.join(", "));
    Failure::new(ErrorCode::NotFound, text)
}

impl Endpoint {
    /// Renders errors of its door.
    pub(super) fn errors(&self) -> &'static dyn Format {
        match &self.door {
            Door::Run(_) => super::super::ERRORS,
            Door::Gemini { .. } => gemini::ERRORS,
            Door::Messages | Door::CountTokens => anthropic::ERRORS,
            Door::Chat | Door::Embeddings | Door::Responses => openai::ERRORS,
        }
    }

    /// The path of its door.
    fn path(&self, app: &App) -> String {
        let fixed = match &self.door {
            Door::Chat => "/v1/chat/completions",
            Door::Embeddings => "/v1/embeddings",
            Door::Responses => "/v1/responses",
            Door::Messages => "/v1/messages",
            Door::CountTokens => "/v1/messages/count_tokens",
            Door::Run(_) => "/client/v4/accounts/default/ai/run",
            Door::Gemini { model, method } => {
                return format!("/v1beta/models/{}:{method}", self.name_here(app, model));
            }
        };
        fixed.to_owned()
    }

    /// The request as its door takes it.
    pub(super) fn request(
        &self,
        app: &App,
        incoming: Incoming,
        asked: &Asked,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let Incoming { mut head, body } = incoming;
        let body = match &self.door {
            // Their model is in the path; a field of that name would be another's.
            Door::Run(_) | Door::Gemini { .. } => body,
            Door::Chat
            | Door::Embeddings
            | Door::Responses
            | Door::Messages
            | Door::CountTokens => match &self.model {
                Some(model) => addressed(&body, &self.name_here(app, model))?,
                None => renamed(&body, |model| self.name_here(app, model))?,
            },
        };
        let query = self.query.as_deref().or_else(|| head.uri.query());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let uri = Uri::try_from(format!("{}{query}", self.path(app)));
        head.uri = uri.map_err(|_| Failure::invalid("endpoint", "the endpoint is no path"))?;
        head.method = Method::POST;
        head.headers.remove(CONTENT_LENGTH);
        headers::take(&mut head.headers, app)?;
        asked.mark(&mut head.extensions);
        Ok(Request::from_parts(head, Full::new(body)))
    }

    /// A model's name here.
    fn name_here(&self, app: &App, model: &str) -> String {
        match (&self.names, model.split_once('/')) {
            (Names::Of(provider), _) => format!("{provider}/{model}"),
            (Names::Slugged, Some((WORKERS_AI, own))) => own.to_owned(),
            // What no provider's name begins is a route's, or an alias.
            (Names::Slugged, Some((slug, own))) => provider_of(app, slug)
                .map_or_else(|| model.to_owned(), |provider| format!("{provider}/{own}")),
            (Names::Slugged, None) | (Names::Whole, _) => model.to_owned(),
        }
    }

    /// Asks the door.
    pub(super) async fn ask(
        &self,
        app: Arc<App>,
        deliveries: Deliveries,
        request: Request<Full<Bytes>>,
    ) -> Response<Body> {
        match &self.door {
            Door::Chat => openai::chat::create(app, request).await,
            Door::Embeddings => openai::embeddings::create(app, request).await,
            Door::Responses => openai::responses::create(app, deliveries, request).await,
            Door::Messages => anthropic::messages(app, request).await,
            Door::CountTokens => anthropic::count_tokens::create(app, request).await,
            Door::Gemini { .. } => gemini::ask(app, request).await,
            Door::Run(model) => run::answer(app, request, Some(model.clone())).await,
        }
    }
}

#[cfg(test)]
mod tests;
