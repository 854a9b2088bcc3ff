//! Signatures, against Amazon's own test suite and against the SDK for Python.

use ::http::Method;

use super::*;

/// 2015-08-30T12:36:00Z, the second of Amazon's suite.
const NOW: Timestamp = Timestamp(1_440_938_160_000_000);

fn signer(service: &'static str, token: Option<&str>) -> Signer {
    Signer {
        credentials: Credentials {
            access_key_id: Secret::new("AKIDEXAMPLE"),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: token.map(Secret::new),
        },
        region: "us-east-1".to_owned(),
        service,
    }
}

fn request(method: Method, url: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// The value of `authorization`.
fn signed(signer: &Signer, mut request: Request<()>, body: &[u8]) -> String {
    signer.sign(&mut request, body, NOW).unwrap();
    assert_eq!(request.headers()["x-amz-date"], "20150830T123600Z");
    assert!(request.headers()["authorization"].is_sensitive());
    request.headers()["authorization"].to_str().unwrap().to_owned()
}

const HOST: (&str, &str) = ("host", "example.amazonaws.com");

#[test]
fn signatures_are_those_of_amazons_suite() {
    let form = ("content-type", "application/x-www-form-urlencoded");
    let plain: &[(&'static str, &str)] = &[HOST];
    let cases = [
        (
            Method::GET,
            "/",
            plain,
            b"".as_slice(),
            "SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            Method::GET,
            "/?Param2=value2&Param1=value1",
            plain,
            b"".as_slice(),
            "SignedHeaders=host;x-amz-date, \
             Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            Method::POST,
            "/",
            plain,
            b"".as_slice(),
            "SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            Method::POST,
            "/",
            &[HOST, form],
            b"Param1=value1",
            "SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ];
    for (method, url, headers, body, end) in cases {
        // The suite has the cases `get-vanilla`, `get-vanilla-query-order-key-case`,
        // `post-vanilla` and `post-x-www-form-urlencoded`.
        let signed = signed(&signer("service", None), request(method, url, headers), body);
        let scope =
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
        assert_eq!(signed, format!("{scope}, {end}"));
    }
}

#[test]
fn a_path_that_is_encoded_is_encoded_again_and_the_token_is_signed() {
    // The signature is botocore's for the same request.
    let host = ("host", "bedrock-runtime.us-east-1.amazonaws.com");
    let kind = ("content-type", "application/json");
    let path = "/model/anthropic.claude-v2%3A1/converse";
    let other = ("x-client-request-id", "not signed");
    let asked = request(Method::POST, path, &[kind, host, other]);
    let signed = signed(&signer("bedrock", Some("token/+=")), asked, br#"{"messages":[]}"#);
    assert_eq!(
        signed,
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
         Signature=956a27438b479439caa5b48d722760c37806c5f841cbc5e93f410d8e27bab708"
    );
}

#[test]
fn a_signature_is_over_everything_that_matters() {
    let plain = || request(Method::POST, "/a", &[HOST]);
    let of = |asked: Request<()>, body: &[u8], signer: &Signer| signed(signer, asked, body);
    let one = signer("bedrock", None);
    let base = of(plain(), b"x", &one);
    let mut elsewhere = one.clone();
    elsewhere.region = "eu-west-1".to_owned();
    let others = [
        of(plain(), b"y", &one),
        of(request(Method::PUT, "/a", &[HOST]), b"x", &one),
        of(request(Method::POST, "/b", &[HOST]), b"x", &one),
        of(request(Method::POST, "/a?q", &[HOST]), b"x", &one),
        of(request(Method::POST, "/a", &[("host", "x")]), b"x", &one),
        of(plain(), b"x", &elsewhere),
        of(plain(), b"x", &signer("other", None)),
        of(plain(), b"x", &signer("bedrock", Some("t"))),
    ];
    for other in others {
        let signature = |text: &str| text.rsplit('=').next().unwrap().to_owned();
        assert_ne!(signature(&other), signature(&base), "{other}");
    }
}

#[test]
fn values_are_signed_without_needless_spaces() {
    let asked = |host: &str| request(Method::GET, "/", &[("host", host)]);
    let signer = signer("service", None);
    let plain = signed(&signer, asked("a b"), b"");
    assert_eq!(signed(&signer, asked("  a   b "), b""), plain);
}

#[test]
fn times_are_written_as_amazon_reads_them() {
    let cases = [
        (0, "19700101T000000Z"),
        (951_782_399, "20000228T235959Z"),
        (951_782_400, "20000229T000000Z"),
        (1_740_787_199, "20250228T235959Z"),
        (1_740_787_200, "20250301T000000Z"),
        (4_102_444_799, "20991231T235959Z"),
    ];
    for (seconds, text) in cases {
        assert_eq!(amz_date(Timestamp(seconds * 1_000_000 + 999_999)), text);
    }
}

#[test]
fn nothing_of_the_credentials_is_shown() {
    let signer = signer("bedrock", Some("session-token-text"));
    let mut asked = request(Method::POST, "/", &[HOST]);
    signer.sign(&mut asked, b"", NOW).unwrap();
    let shown = format!("{signer:?} {asked:?}");
    for secret in signer.credentials.secrets() {
        assert!(!shown.contains(secret.expose()), "{shown}");
    }
    // The secret itself is in no header at all.
    let secret = signer.credentials.secret_access_key.expose();
    assert!(asked.headers().values().all(|value| !value.to_str().unwrap().contains(secret)));
}

#[test]
fn credentials_that_no_header_can_carry_are_known() {
    assert!(signer("s", Some("a/+=")).credentials.can_be_sent());
    for token in ["", "a b", "a\n", "é"] {
        assert!(!signer("s", Some(token)).credentials.can_be_sent(), "{token:?}");
    }
}

#[test]
fn a_region_stands_in_the_name_of_a_host() {
    let cases = [
        ("bedrock-runtime.us-east-1.amazonaws.com", Some("us-east-1")),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
        ("bedrock-mantle.us-east-1.api.aws", Some("us-east-1")),
        ("vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
        ("127.0.0.1", None),
        ("example.com", None),
        ("bedrock-runtime", None),
        ("bedrock-runtime.com", None),
        ("bedrock-runtime.REGION.amazonaws.com", None),
    ];
    for (host, region) in cases {
        assert_eq!(region_of(host), region, "{host}");
    }
}
