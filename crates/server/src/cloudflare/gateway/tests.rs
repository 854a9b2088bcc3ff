use super::*;

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

fn at<'a>(host: &str, path: &'a str) -> Option<[&'a str; 4]> {
    place(host, path).map(|place| [place.account, place.gateway, place.provider, place.endpoint])
}

#[test]
fn an_address_names_account_gateway_provider_and_endpoint() {
    let path = "/ai-gateway/v1/default/default/openai/v1/chat/completions";
    assert_eq!(at("", path), Some(["default", "default", "openai", "v1/chat/completions"]));
    assert_eq!(at("", "/ai-gateway/v1/a/g"), Some(["a", "g", "", ""]));
    assert_eq!(at("", "/ai-gateway/v1/a/g/"), Some(["a", "g", "", ""]));
    assert_eq!(at("", "/ai-gateway/v1/a"), None);
    assert_eq!(at("", "/ai-gateway/v1//g/openai"), None);
}

#[test]
fn a_host_of_its_own_needs_no_prefix() {
    let path = "/v1/a/g/compat/chat/completions";
    for host in ["gateway.localhost:8420", "Gateway.example.org"] {
        assert_eq!(at(host, path), Some(["a", "g", "compat", "chat/completions"]), "{host}");
    }
    for host in ["localhost:8420", "gateways.localhost", "my.gateway.localhost", ""] {
        assert_eq!(at(host, path), None, "{host}");
    }
}

#[test]
fn an_account_below_v1_is_no_door() {
    let path = format!("/v1/{ACCOUNT}/default/openai/responses");
    assert_eq!(at("localhost", &path), Some([ACCOUNT, "default", "openai", "responses"]));
    assert!(at("localhost", "/v1/default/default").is_some());
    for path in ["/v1/chat/completions", "/v1/responses/resp_1/cancel", "/v1/models/a/b", "/v1"] {
        assert_eq!(at("localhost", path), None, "{path}");
    }
}
