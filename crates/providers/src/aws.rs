//! Amazon's credentials, and signatures by them (Signature Version 4).
//!
//! A signature is over the method, the path, the headers that stand in it, the body, the second,
//! the region and the service. Invariant: the secret leaves this module only as a signature, and
//! the session token only as its own header, marked sensitive. It must not know what it signs.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::fmt;
use std::fmt::Write;

use ::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use ::http::{Request, Uri};
use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};
use types::Secret;
use types::clock::Timestamp;

/// The name of the scheme.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The last part of a signature's scope.
const TERMINATOR: &str = "aws4_request";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// Headers that are signed where they are there. Others may be added or changed on the way.
const SIGNED: [&str; 4] = ["content-type", "host", "x-amz-date", "x-amz-security-token"];
/// What stands in a signed path as it is. A path that is encoded already is encoded again.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    /// The id of the access key.
    pub access_key_id: Secret,
    /// Its secret.
    pub secret_access_key: Secret,
    /// What goes with temporary keys.
    pub session_token: Option<Secret>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

impl Credentials {
    /// Every text that nobody may be shown.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        [&self.access_key_id, &self.secret_access_key].into_iter().chain(&self.session_token)
    }

    /// Whether all of it can stand in headers.
    pub(crate) fn can_be_sent(&self) -> bool {
        let visible = |secret: &Secret| {
            let text = secret.expose();
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        self.secrets().all(visible)
    }
}

/// Who signs, and for which region and service.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) credentials: Credentials,
    pub(crate) region: String,
    pub(crate) service: &'static str,
}

/// What could not be put into a header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsendable;

impl Signer {
    /// Signs a request as it is now: neither its path, its body nor a signed header may change
    /// afterwards.
    pub(crate) fn sign<B>(
        &self,
        request: &mut Request<B>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Unsendable> {
        let date = amz_date(now);
        let headers = request.headers_mut();
        headers.insert(DATE, header(&date)?);
        if let Some(token) = &self.credentials.session_token {
            let mut token = header(token.expose())?;
            token.set_sensitive(true);
            headers.insert(TOKEN, token);
        }
        let authorization = self.authorization(request, body, &date);
        let mut authorization = header(&authorization)?;
        authorization.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, authorization);
        Ok(())
    }

    fn authorization<B>(&self, request: &Request<B>, body: &[u8], date: &str) -> String {
        let (names, lines) = canonical_headers(request.headers());
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{}",
            request.method(),
            canonical_path(request.uri()),
            canonical_query(request.uri()),
            hash(body)
        );
        let day = date.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/{TERMINATOR}", self.region, self.service);
        let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hash(canonical.as_bytes()));
        let signature = HEXLOWER.encode(&keyed(&self.key(day), to_sign.as_bytes()));
        let id = self.credentials.access_key_id.expose();
        format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }

    /// The key of one day, region and service.
    fn key(&self, day: &str) -> Vec<u8> {
        let secret = format!("AWS4{}", self.credentials.secret_access_key.expose());
        let parts = [day, &self.region, self.service, TERMINATOR];
        parts.iter().fold(secret.into_bytes(), |key, part| keyed(&key, part.as_bytes()))
    }
}

fn keyed(key: &[u8], text: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text).as_ref().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn header(text: &str) -> Result<HeaderValue, Unsendable> {
    HeaderValue::from_str(text).map_err(|_| Unsendable)
}

fn canonical_path(uri: &Uri) -> String {
    match uri.path() {
        "" => "/".to_owned(),
        path => utf8_percent_encode(path, PLAIN).to_string(),
    }
}

fn canonical_query(uri: &Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(&str, &str)> =
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The names of the signed headers, and a line of each.
fn canonical_headers(headers: &HeaderMap) -> (String, String) {
    let mut names: Vec<&str> = Vec::with_capacity(SIGNED.len());
    let mut lines = String::new();
    for name in SIGNED {
        let values: Vec<String> = headers.get_all(name).iter().map(plain_value).collect();
        if !values.is_empty() {
            names.push(name);
            // Writing into a string can't fail.
            let _ok = writeln!(lines, "{name}:{}", values.join(","));
        }
    }
    (names.join(";"), lines)
}

/// A value without spaces around it, and with one where there were several.
fn plain_value(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.split_ascii_whitespace().collect::<Vec<&str>>().join(" ")
}

/// A time as `20150830T123600Z`.
fn amz_date(now: Timestamp) -> String {
    let seconds = now.seconds();
    let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The date that is so many days after 1970-01-01.
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The region in the name of one of Bedrock's hosts, such as
/// `bedrock-runtime.eu-central-1.amazonaws.com` or `bedrock-mantle.us-east-1.api.aws`.
pub(crate) fn region_of(host: &str) -> Option<&str> {
    let mut labels = host.split('.');
    let hosts = ["bedrock-runtime", "bedrock-mantle"];
    labels.find(|label| hosts.iter().any(|host| label.starts_with(host)))?;
    labels.next().filter(|region| is_region(region) && labels.next().is_some())
}

/// Whether a text can be the name of a region.
pub(crate) fn is_region(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests;
