use types::principal::Role;

use super::*;

fn principal() -> Principal {
    let key = "key_00000000000000000000000000";
    Principal {
        account: Arc::from(DEFAULT_ACCOUNT),
        key: types::ids::KeyId::parse(key).unwrap(),
        key_name: Arc::from("ci"),
        user: Arc::from(key),
        role: Role::Member,
        output_cap_default: None,
    }
}

#[test]
fn a_path_names_an_account_and_a_place() {
    let at = |rest: &str| {
        let path = format!("/client/v4/accounts/default/ai/{rest}");
        place(&path).map(|(account, place)| (account.to_owned(), format!("{place:?}")))
    };
    let found = |text: &str| Some(("default".to_owned(), text.to_owned()));
    assert_eq!(at("run"), found("Run(None)"));
    assert_eq!(at("run/"), found("Run(None)"));
    assert_eq!(at("run/@cf/meta/llama"), found("Run(Some(\"@cf/meta/llama\"))"));
    assert_eq!(at("v1/chat/completions"), found("OpenApi(\"chat/completions\")"));
    assert_eq!(at("models/search"), found("Models"));
    for rest in ["", "runs", "v1", "finetunes/public"] {
        assert_eq!(at(rest), None, "{rest}");
    }
    for path in ["/client/v4/user", "/client/v4/accounts//ai/run", "/client/v4/accounts/a/b/ai/run"]
    {
        assert_eq!(place(path), None, "{path}");
    }
}

#[test]
fn an_account_is_named_by_its_id_and_the_first_one_by_default() {
    let principal = principal();
    assert!(is_account_of(&principal, DEFAULT_ACCOUNT));
    assert!(is_account_of(&principal, "default"));
    assert!(!is_account_of(&principal, "0000000000000000000000000000000a"));
    assert_eq!(foreign("0000000000000000000000000000000a").code, ErrorCode::PermissionDenied);
    for name in ["Default", "acme", "000000000000000000000000000000001"] {
        assert!(!is_account_of(&principal, name), "{name}");
        assert_eq!(foreign(name).code, ErrorCode::NotFound, "{name}");
    }
}

#[test]
fn errors_are_told_in_the_words_of_the_api_that_the_path_names() {
    let name = |rest: &str| errors_at(&format!("/client/v4/accounts/a/ai/{rest}")).name();
    assert_eq!(name("run/@cf/x"), "cloudflare_run");
    assert_eq!(name("v1/messages"), "anthropic_messages");
    assert_eq!(name("v1/chat/completions"), "openai_chat");
    assert_eq!(errors_at("/client/v4/user").name(), "cloudflare_run");
}
