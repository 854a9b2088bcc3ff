//! A provider: a configured upstream.
//!
//! What is wrong with its configuration is found when it is made, not when the first Call meets it.

use std::sync::Arc;

use ::http::Uri;
use ::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use ::http::uri::Scheme;
use types::{ErrorCode, Secret};

use crate::aws::{Credentials, Signer, is_region, region_of};
use crate::http::Timeouts;
use crate::redact::Redactor;
use crate::vendor::{Auth, Vendor, vendor, vendors};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// The service for which requests are signed, where the vendor's row names no other.
const BEDROCK: &str = "bedrock";
/// Keys of one provider at most: each is looked at when another fails.
const KEYS_MAX: usize = 32;

/// A configured upstream.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name; models are asked for as `name/model`.
    pub name: Arc<str>,
    /// The kind of upstream.
    pub vendor: &'static Vendor,
    /// Where it is reached, checked.
    base_url: Uri,
    /// Its credentials, each as good as another; local servers often have none.
    api_keys: Vec<Secret>,
    /// Who signs its requests, where it is told no key.
    signer: Option<Signer>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// The part of traces that is kept, if it is told of the span that a request is below.
    pub(crate) trace_sampling: Option<f64>,
}

/// What is wrong with a provider's configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The catalogue has no such row.
    #[error("vendor '{0}' is not known; there are: {known}", known = known_vendors())]
    UnknownVendor(String),
    /// The vendor has no usual address.
    #[error("vendor '{0}' needs a base_url")]
    NoBaseUrl(String),
    /// The address can't be used.
    #[error("base_url '{url}' can't be used: {why}")]
    BadBaseUrl {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The key has characters that no header can carry.
    #[error("api_key has characters that can't be sent in a header")]
    BadKey,
    /// Several keys, which can't be used as they are.
    #[error("api_keys {0}")]
    BadKeys(&'static str),
    /// The vendor's servers have no keys: one that is set would never be sent.
    #[error("vendor '{0}' takes no api_key")]
    NoKeyTaken(String),
    /// Amazon's credentials can't be used.
    #[error("aws {0}")]
    BadAws(&'static str),
}

impl ConfigError {
    /// The class of the error.
    pub const fn code(&self) -> ErrorCode {
        ErrorCode::InvalidRequest
    }
}

impl Provider {
    /// A provider of a vendor, at the vendor's own address unless `base_url` says otherwise.
    ///
    /// # Errors
    /// [`ConfigError`]: an unknown vendor, an address that can't be used, a key that can't be sent.
    pub fn new(
        name: &str,
        vendor_name: &str,
        base_url: Option<&str>,
        api_key: Option<Secret>,
    ) -> Result<Self, ConfigError> {
        let vendor = vendor(vendor_name)
            .ok_or_else(|| ConfigError::UnknownVendor(vendor_name.to_owned()))?;
        let base_url = base_url
            .or(vendor.base_url.as_deref())
            .ok_or_else(|| ConfigError::NoBaseUrl(vendor_name.to_owned()))?;
        let base_url = check_url(base_url)?;
        let api_keys = api_key.into_iter().filter(|key| !key.expose().is_empty()).collect();
        let (name, timeouts) = (name.into(), Timeouts::default());
        let (signer, trace_sampling) = (None, None);
        let provider = Self { name, vendor, base_url, api_keys, signer, timeouts, trace_sampling };
        provider.credential_headers()?;
        Ok(provider)
    }

    /// The same provider, which is told of the span that a request is below; `sampling` is the part
    /// of traces that is kept where a Call's caller has not decided.
    #[must_use]
    pub const fn told_of_traces(mut self, sampling: f64) -> Self {
        self.trace_sampling = Some(sampling);
        self
    }

    /// The same provider with several keys instead of one: Calls are spread over them.
    ///
    /// # Errors
    /// [`ConfigError::BadKeys`]: there is another key already, or one of these is empty or there
    /// twice, or they are too many; [`ConfigError::BadKey`]: one of them can't be sent.
    pub fn with_keys(mut self, keys: Vec<Secret>) -> Result<Self, ConfigError> {
        if !self.api_keys.is_empty() {
            return Err(ConfigError::BadKeys("and an api_key are given: choose one"));
        }
        if keys.len() > KEYS_MAX {
            return Err(ConfigError::BadKeys("are more than 32"));
        }
        if keys.iter().any(|key| key.expose().is_empty()) {
            return Err(ConfigError::BadKeys("must not be empty texts"));
        }
        let mut texts: Vec<&str> = keys.iter().map(Secret::expose).collect();
        texts.sort_unstable();
        if texts.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(ConfigError::BadKeys("have the same key twice"));
        }
        self.api_keys = keys;
        self.credential_headers()?;
        Ok(self)
    }

    /// The same provider, whose requests are signed by these credentials of Amazon's. `region` is
    /// needed where the host's name does not say it.
    ///
    /// # Errors
    /// [`ConfigError::BadAws`]: the vendor takes no signatures, there is a key too, the credentials
    /// can't be sent, or nobody says which region it is.
    pub fn signed_by(
        mut self,
        credentials: Credentials,
        region: Option<&str>,
    ) -> Result<Self, ConfigError> {
        if self.vendor.auth != Auth::Aws {
            return Err(ConfigError::BadAws("credentials are taken by no such vendor"));
        }
        if !self.api_keys.is_empty() {
            return Err(ConfigError::BadAws("credentials and an api_key are given: choose one"));
        }
        if !credentials.can_be_sent() {
            return Err(ConfigError::BadAws("credentials can't be sent in a header"));
        }
        let host = self.base_url.host().unwrap_or_default();
        let region = region_of(host).or(region).map(str::to_owned);
        let Some(region) = region.filter(|region| is_region(region)) else {
            return Err(ConfigError::BadAws("needs a region, such as us-east-1"));
        };
        let service = self.vendor.aws_service.as_deref().unwrap_or(BEDROCK);
        self.signer = Some(Signer { credentials, region, service });
        Ok(self)
    }

    /// Who signs its requests, if somebody does.
    pub(crate) const fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// The same provider with other limits of time.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Where it is reached.
    pub const fn base_url(&self) -> &Uri {
        &self.base_url
    }

    /// What keeps its credentials out of what it says.
    pub(crate) fn redactor(&self) -> Redactor {
        let signs = self.signer.iter().flat_map(|signer| signer.credentials.secrets());
        Redactor::new(self.api_keys.iter().chain(signs))
    }

    /// The headers that tell the provider a key, one for each key; their values are marked
    /// sensitive.
    pub(crate) fn credential_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
        self.api_keys.iter().map(|key| self.credential_header(key)).collect()
    }

    fn credential_header(&self, key: &Secret) -> Result<(HeaderName, HeaderValue), ConfigError> {
        let bare = || HeaderValue::from_str(key.expose());
        let (name, value) = match self.vendor.auth {
            Auth::Bearer | Auth::Aws => {
                (AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", key.expose())))
            }
            Auth::XApiKey => (X_API_KEY, bare()),
            Auth::XGoogApiKey => (X_GOOG_API_KEY, bare()),
            Auth::ApiKey => (API_KEY, bare()),
            Auth::None => return Err(ConfigError::NoKeyTaken(self.vendor.name.clone())),
        };
        let mut value = value.map_err(|_| ConfigError::BadKey)?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

fn known_vendors() -> String {
    let names: Vec<&str> = vendors().iter().map(|vendor| vendor.name.as_str()).collect();
    names.join(", ")
}

fn check_url(url: &str) -> Result<Uri, ConfigError> {
    let bad = |why| ConfigError::BadBaseUrl { url: url.to_owned(), why };
    let parsed: Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
    if parsed.scheme() != Some(&Scheme::HTTP) && parsed.scheme() != Some(&Scheme::HTTPS) {
        return Err(bad("it must begin with http:// or https://"));
    }
    let authority = parsed.authority().ok_or_else(|| bad("it has no host"))?;
    if authority.host().is_empty() {
        return Err(bad("it has no host"));
    }
    if authority.as_str().contains('@') {
        // Without the address: it holds a password.
        let why = "it must not hold a user name or password: use api_key";
        return Err(ConfigError::BadBaseUrl { url: "…".to_owned(), why });
    }
    if parsed.query().is_some() {
        return Err(bad("it must not have a query"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests;
