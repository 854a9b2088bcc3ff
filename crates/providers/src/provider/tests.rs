use super::*;

fn made(vendor: &str, url: Option<&str>, key: Option<&str>) -> Result<Provider, ConfigError> {
    Provider::new("p", vendor, url, key.map(Secret::new))
}

#[test]
fn a_vendor_brings_its_own_address() {
    let provider = made("openai", None, Some("sk-x")).unwrap();
    assert_eq!(provider.base_url().to_string(), "https://api.openai.com/v1");
}

#[test]
fn a_compatible_server_needs_one() {
    let error = made("openai-compatible", None, None).unwrap_err();
    assert_eq!(error.to_string(), "vendor 'openai-compatible' needs a base_url");
}

#[test]
fn addresses_that_cannot_be_used_are_refused() {
    for url in ["ftp://x/v1", "/v1", "http://x/v1?a=b", "http://u:p@x/v1", "x y"] {
        let error = made("openai-compatible", Some(url), None).unwrap_err();
        assert!(matches!(error, ConfigError::BadBaseUrl { .. }), "{url}: {error}");
        assert!(!error.to_string().contains("u:p"), "{error}");
    }
}

#[test]
fn a_key_that_no_header_can_carry_is_refused() {
    assert_eq!(made("openai", None, Some("a\nb")).unwrap_err(), ConfigError::BadKey);
}

#[test]
fn the_key_is_not_shown() {
    let provider = made("openai", None, Some("sk-secret")).unwrap();
    assert!(!format!("{provider:?}").contains("sk-secret"));
    assert!(!format!("{:?}", provider.credential_headers().unwrap()).contains("sk-secret"));
}

#[test]
fn each_vendor_is_told_the_key_in_its_own_header() {
    let header = |vendor: &str| {
        let (name, value) =
            made(vendor, None, Some("sk-x")).unwrap().credential_headers().unwrap().pop()?;
        assert!(value.is_sensitive());
        Some((name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
    };
    assert_eq!(header("openai"), Some(("authorization".to_owned(), "Bearer sk-x".to_owned())));
    assert_eq!(header("anthropic"), Some(("x-api-key".to_owned(), "sk-x".to_owned())));
    let without = made("anthropic", None, None).unwrap();
    assert_eq!(without.credential_headers().unwrap(), []);
}

/// A provider of a row as it may stand in the catalogue one day.
fn of_row(auth: &str) -> Provider {
    let row = format!(
        "name = \"v\"\nformat = \"openai_chat\"\nauth = \"{auth}\"\nchecked = false\nevidence = []"
    );
    let vendor = Box::leak(Box::new(toml::from_str(&row).unwrap()));
    let base = made("openai", None, Some("sk-x")).unwrap();
    Provider { vendor, ..base }
}

#[test]
fn every_way_to_tell_a_key_has_its_header() {
    for (auth, name, value) in [
        ("bearer", "authorization", "Bearer sk-x"),
        ("x_api_key", "x-api-key", "sk-x"),
        ("x_goog_api_key", "x-goog-api-key", "sk-x"),
        ("api_key", "api-key", "sk-x"),
    ] {
        let (header, sent) = of_row(auth).credential_headers().unwrap().remove(0);
        assert_eq!((header.as_str(), sent.to_str().unwrap()), (name, value), "{auth}");
        assert!(sent.is_sensitive(), "{auth}");
    }
}

#[test]
fn a_key_that_would_never_be_sent_is_refused() {
    let error = of_row("none").credential_headers().unwrap_err();
    assert_eq!(error, ConfigError::NoKeyTaken("v".to_owned()));
}

#[test]
fn an_unknown_vendor_is_told_which_there_are() {
    let error = made("nobody", None, None).unwrap_err();
    let known = error.to_string();
    let known = known.strip_prefix("vendor 'nobody' is not known; there are: ").unwrap();
    let names: Vec<&str> = vendors().iter().map(|vendor| vendor.name.as_str()).collect();
    assert_eq!(known.split(", ").collect::<Vec<_>>(), names);
}

fn with_keys(key: Option<&str>, keys: &[&str]) -> Result<Provider, ConfigError> {
    made("openai", None, key).unwrap().with_keys(keys.iter().map(|key| Secret::new(*key)).collect())
}

#[test]
fn several_keys_are_each_sent_in_a_header_of_its_own() {
    let provider = with_keys(None, &["sk-one", "sk-two-long"]).unwrap();
    let headers = provider.credential_headers().unwrap();
    let sent: Vec<&str> = headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
    assert_eq!(sent, ["Bearer sk-one", "Bearer sk-two-long"]);
    assert!(!format!("{provider:?}").contains("sk-one"));
    assert!(provider.redactor().is_in("the key sk-two-long"), "none of them may be shown");
}

#[test]
fn keys_that_cannot_be_used_together_are_refused() {
    let wrong = |key, keys: &[&str]| with_keys(key, keys).unwrap_err().to_string();
    assert_eq!(wrong(Some("sk-x"), &["a"]), "api_keys and an api_key are given: choose one");
    assert_eq!(wrong(None, &["a", "b", "a"]), "api_keys have the same key twice");
    assert_eq!(wrong(None, &["a", ""]), "api_keys must not be empty texts");
    assert_eq!(with_keys(None, &["a", "b\nc"]).unwrap_err(), ConfigError::BadKey);
    let many: Vec<String> = (0..33).map(|number| format!("key-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(wrong(None, &many), "api_keys are more than 32");
}

#[test]
fn each_of_amazons_endpoints_is_signed_for_its_own_service() {
    for (row, service) in [
        ("bedrock", "bedrock"),
        ("bedrock-openai", "bedrock"),
        ("bedrock-mantle", "bedrock-mantle"),
        ("bedrock-anthropic", "bedrock-mantle"),
    ] {
        let url = vendor(row).unwrap().base_url_in("us-gov-west-1").unwrap();
        let credentials = Credentials {
            access_key_id: Secret::new("AK"),
            secret_access_key: Secret::new("s"),
            session_token: None,
        };
        let provider = made(row, Some(&url), None).unwrap().signed_by(credentials, None).unwrap();
        let signer = provider.signer().unwrap();
        assert_eq!((signer.service, &*signer.region), (service, "us-gov-west-1"), "{row}");
    }
}
