use super::*;

mod fuzz;

fn problems(text: &str) -> Vec<String> {
    let environment = |name: &str| (name == "GARAGE_KEY").then(|| "garage-secret".to_owned());
    let (_, problems) = parse(text, Path::new("/etc/holdfast"), &environment).unwrap();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_of_the_documentation_is_right() {
    let text = r#"
        [[providers]]
        name = "garage"
        vendor = "openai-compatible"
        base_url = "http://10.0.0.5:8000/v1"
        api_key = "${GARAGE_KEY}"
        models = [{ id = "qwen3-32b", input_usd_per_million = "0.10", output_usd_per_million = "0.40" }]

        [[keys]]
        name = "ci"
        secret = "hf_0123456789abcdef"

        [[budgets]]
        scope = { key = "ci" }
        limit_usd = "5.00"
        window = "day"

        [[mcp_servers]]
        name = "notes"
        command = ["python3", "notes_server.py"]
        keys = ["ci"]
        tools = { add_note = { effect = "write" }, find_note = { effect = "read" } }
        timeout = "30s"
    "#;
    assert_eq!(problems(text), Vec::<String>::new());
}

#[test]
fn all_problems_are_reported_with_their_key_paths() {
    let text = r#"
        [server]
        listen = "nowhere"
        [[providers]]
        name = "local"
        vendor = "acme"
        [[providers]]
        name = "b"
        vendor = "openai-compatible"
        base_url = "ftp://x"
        api_key = "${NOT_SET}"
        [[keys]]
        name = "short"
        secret = "x"
        [[budgets]]
        scope = { key = "short" }
        limit_usd = 5
        [surprise]
    "#;
    let found = problems(text);
    let at = |path: &str| found.iter().any(|problem| problem.starts_with(&format!("{path}: ")));
    for path in [
        "server.listen",
        "providers[0].name",
        "providers[0].vendor",
        "providers[1].base_url",
        "providers[1].api_key",
        "keys[0].secret",
        "budgets[0].limit_usd",
        "surprise",
    ] {
        assert!(at(path), "{path} is missing in {found:#?}");
    }
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_it() {
    let no_toml = |text: &str| {
        let parsed = parse(text, Path::new(""), &|_| None);
        format!("{:#}", parsed.unwrap_err())
    };
    let told = no_toml("[[keys]]\nname = \"ci\"\nsecret = \"hf_hidden\" \"\n");
    assert!(told.starts_with("the file is no TOML at line 3, column 22: "), "{told}");
    assert!(!told.contains("hidden"), "{told}");
    let told = no_toml("# äöü\nö = 1");
    assert!(told.starts_with("the file is no TOML at line 2, column 1: "), "{told}");
    let told = no_toml("[[keys]]\nsecret = hf_hidden\n");
    assert!(!told.contains("hidden") && told.contains("line 2"), "{told}");

    let provider = "[[providers]]\nname = \"a\"\nvendor = \"openai\"\n";
    let wrong = [
        ("[[keys]]\nname = \"ci\"\nsecret = 4711\n", "keys[0].secret: must be a string"),
        (&format!("{provider}api_key = 47.11\n"), "providers[0].api_key: must be a string"),
        (&format!("{provider}api_keys = [4711]\n"), "providers[0].api_keys[0]: must be a string"),
        (
            &format!("{provider}api_keys = \"sk-4711\"\n"),
            "providers[0].api_keys: invalid type: string, expected a sequence",
        ),
        (
            "[telemetry]\notlp_headers = { authorization = 4711 }\n",
            "telemetry.otlp_headers.authorization: must be a string",
        ),
        (
            "[telemetry]\notlp_headers = \"authorization=\\\"4711\\\", expected\"\n",
            "telemetry.otlp_headers: invalid type: string, expected a map",
        ),
        (
            "[[mcp_servers]]\nname = \"a\"\ncommand = [\"b\"]\nenv = { PIN = 4711 }\n",
            "mcp_servers[0].env.PIN: invalid type: integer, expected a string",
        ),
    ];
    for (text, told) in wrong {
        assert_eq!(problems(text), [told], "{text}");
    }
}

#[test]
fn a_secret_of_a_webhook_that_would_sign_otherwise_than_it_says_is_a_problem() {
    let of = |secret: &str| {
        problems(&format!(
            "[[slos]]\nname = \"a\"\nmetric = \"errors\"\nobjective = \"99%\"\n\
             webhook = \"https://alerts.example\"\nwebhook_secret = \"{secret}\"\n"
        ))
    };
    assert_eq!(of("whsec_YSBwbGFpbiBzZWNyZXQ="), Vec::<String>::new());
    assert_eq!(of("plain"), Vec::<String>::new());
    let told = "slos[0].webhook_secret: begins with whsec_, and what follows is not in base 64";
    assert_eq!(of("whsec_no base 64"), [told]);
}

#[test]
fn routes_have_a_name_that_can_be_managed_and_a_size() {
    let route = |name: &str, more: &str| {
        format!("[[routes]]\nname = \"{name}\"\ntargets = [\"local/demo\"]\n{more}")
    };
    for name in ["versions", "rollback"] {
        let told = format!("routes[0].name: \"{name}\" is a path of /api/routes: choose another");
        assert_eq!(problems(&route(name, "")), [told]);
    }
    let large = |name: &str| route(name, &format!("aliases = [\"{}\"]\n", "x".repeat(70_000)));
    let found = problems(&large("large"));
    assert!(
        found.iter().any(|it| it == "routes[0]: has more than 65536 bytes as JSON"),
        "{found:?}"
    );
    let many: String = (0..1_001).map(|index| route(&format!("r{index}"), "")).collect();
    assert_eq!(problems(&many), ["routes: are 1001: 1000 at most"]);
    let many: String = (0..70).map(|index| large(&format!("r{index}"))).collect();
    let found = problems(&many);
    assert!(found.iter().any(|it| it.starts_with("routes: have 49")), "{:?}", found.last());
}

#[test]
fn a_model_that_compacts_or_judges_and_is_not_there_is_a_warning() {
    let text = "[[routes]]\nname = \"a\"\ntargets = [\"local/demo\"]\n[routes.context]\n\
                compact_at_tokens = 9\ncompact_model = \"local/cheap\"\n\
                [routes.cascade.judge]\nmodel = \"local/wise\"\n\
                [routes.auto]\ncheap = [\"local/demo\"]\nstrong = [\"local/demo\"]\n\
                judge = { model = \"local/wise\" }\n";
    let (config, _) = of_text(text);
    let warned = |known: &dyn Fn(&str) -> bool| warnings::of_routes(&config, known);
    assert_eq!(warned(&|_| true), []);
    let found = warned(&|name| name == "local/demo");
    let at: Vec<&str> = found.iter().map(|warning| warning.at.as_str()).collect();
    let judges = ["routes[0].cascade.judge.model", "routes[0].auto.judge.model"];
    assert_eq!(at, ["routes[0].context.compact_model", judges[0], judges[1]]);
}

#[test]
fn only_a_route_with_tiers_has_conditions_on_them() {
    let of = |auto: &str| {
        problems(&format!(
            "[[routes]]\nname = \"a\"\ntargets = [{{ model = \"local/a\", when = \"tier == 'cheap'\" }}, \
             {{ targets = [{{ model = \"local/b\", when = \"score > 80\" }}] }}, \"local/b\"]\n{auto}"
        ))
    };
    let message = "reads tier or score, which a route with [routes.auto] has";
    let at = ["routes[0].targets[0].when", "routes[0].targets[1].targets[0].when"];
    assert_eq!(of(""), at.map(|at| format!("{at}: {message}")));
    let auto = "auto = { cheap = [\"local/a\"], strong = [\"local/b\"] }";
    assert_eq!(of(auto), Vec::<String>::new());
}

#[test]
fn what_a_start_would_refuse_is_a_problem() {
    let of = |base_url: &str, api_key: &str| {
        problems(&format!(
            "[[providers]]\nname = \"a\"\nvendor = \"openai-compatible\"\n\
             base_url = \"{base_url}\"\napi_key = \"{api_key}\""
        ))
    };
    assert_eq!(of("http://10.0.0.5/v1", "k"), Vec::<String>::new());
    let refused =
        ["http://user:secret@10.0.0.5/v1", "http://10.0.0.5/v1?key=1", "ftp://10.0.0.5", "/v1"];
    for base_url in refused {
        let found = of(base_url, "k");
        assert_eq!(found.len(), 1, "{base_url}: {found:?}");
        assert!(found[0].starts_with("providers[0].base_url: "), "{found:?}");
        assert!(!found[0].contains("secret"), "{found:?}");
    }
    assert!(of("http://10.0.0.5/v1", "k\\nx")[0].starts_with("providers[0].api_key: "));
}

#[test]
fn a_provider_has_one_key_or_several() {
    let of = |keys: &str| {
        let text = format!("[[providers]]\nname = \"a\"\nvendor = \"openai\"\n{keys}");
        let environment = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-usual".to_owned());
        let (config, problems) = parse(&text, Path::new(""), &environment).unwrap();
        let entry = config.all_providers(&environment).remove(0);
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        (entry.api_key.is_some(), entry.api_keys.len(), problems)
    };
    assert_eq!(of(""), (true, 0, vec![]));
    assert_eq!(of("api_keys = [\"sk-1\", \"sk-2\"]"), (false, 2, vec![]));
    let (_, _, both) = of("api_key = \"sk-0\"\napi_keys = [\"sk-1\"]");
    assert_eq!(both, ["providers[0].api_keys: and an api_key are given: choose one"]);
    let (_, _, twice) = of("api_keys = [\"sk-1\", \"sk-1\"]");
    assert_eq!(twice, ["providers[0].api_keys: have the same key twice"]);
}

#[test]
fn a_key_of_the_environment_that_cannot_be_sent_is_a_problem() {
    let with = |key: &'static str| {
        let environment = move |name: &str| (name == "OPENAI_API_KEY").then(|| key.to_owned());
        let (_, problems) = parse("", Path::new(""), &environment).unwrap();
        problems.iter().map(|problem| problem.at.clone()).collect::<Vec<_>>()
    };
    assert_eq!(with("sk-good"), Vec::<String>::new());
    assert_eq!(with("sk-bad\n"), ["OPENAI_API_KEY"]);
}

#[test]
fn amazon_is_told_who_signs_and_for_which_region() {
    let of = |entry: &str, variables: &[(&str, &str)]| {
        let text = format!("[[providers]]\nname = \"a\"\nvendor = \"bedrock\"\n{entry}");
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let (_, problems) = parse(&text, Path::new(""), &environment).unwrap();
        problems.iter().map(|problem| problem.at.clone()).collect::<Vec<_>>()
    };
    let given =
        "aws = { region = \"eu-west-1\", access_key_id = \"AK\", secret_access_key = \"s\" }";
    let keys = [("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let region = ("AWS_REGION", "eu-west-1");
    let bearer = ("AWS_BEARER_TOKEN_BEDROCK", "b");
    let none: [&str; 0] = [];
    assert_eq!(of(given, &[]), none);
    assert_eq!(of(given, &[bearer]), none, "the file's own credentials come first");
    assert_eq!(of("aws = { region = \"eu-west-1\" }", &keys), none);
    assert_eq!(of("", &[keys[0], keys[1], region]), none);
    assert_eq!(of("", &[bearer, region]), none);
    assert_eq!(of("base_url = \"https://bedrock-runtime.eu-west-1.amazonaws.com\"", &keys), none);
    assert_eq!(of("", &[region]), ["providers[0].aws"], "nobody signs");
    assert_eq!(of("", &[keys[0], region]), ["providers[0].aws"], "half of the credentials");
    assert_eq!(of("base_url = \"http://127.0.0.1:1\"", &keys), ["providers[0].aws"]);
    assert_eq!(of(&format!("api_key = \"k\"\n{given}"), &[]), ["providers[0].aws"]);
    assert_eq!(of("", &keys), ["providers[0].base_url"]);
}

#[test]
fn settings_that_serve_nobody_are_problems() {
    let text = r#"
        [server]
        max_body_bytes = 0
        max_connections = 0
        [engine]
        sequences = 0
        program = "nowhere/engine"
    "#;
    assert_eq!(
        problems(text),
        [
            "server.max_body_bytes: must be at least 1",
            "server.max_connections: must be at least 1",
            "engine.sequences: must be at least 1",
            "engine.program: /etc/holdfast/nowhere/engine is not a file",
        ]
    );
}

#[test]
fn what_must_be_there_once_is_a_problem_the_second_time() {
    let text = r#"
        [[providers]]
        name = "a"
        vendor = "openai-compatible"
        base_url = "http://10.0.0.5/v1"
        models = [{ id = "m" }, { id = "m" }]
        [[keys]]
        name = "b"
        secret = "hf_0123456789abcdef"
        [[keys]]
        name = "c"
        secret = "hf_0123456789abcdef"
        [[models]]
        name = "x"
        path = "/nowhere/x.gguf"
        [[models]]
        name = "x"
        path = "/nowhere/x.gguf"
    "#;
    let found = problems(text);
    for path in ["providers[0].models[1].id", "keys[1].secret", "models[1].name"] {
        let at = format!("{path}: ");
        assert!(found.iter().any(|problem| problem.starts_with(&at)), "{path}: {found:#?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has nothing else to do meanwhile")]
#[test]
fn a_model_file_that_no_start_could_read_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.gguf");
    std::fs::write(&path, "no model at all").unwrap();
    let of = |path: &Path| problems(&format!("[[models]]\nname = \"m\"\npath = {path:?}"));
    let found = of(&path);
    assert!(
        found[0].starts_with("models[0].path: ") && found[0].contains("broken.gguf"),
        "{found:?}"
    );
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/holdfast-demo-Q8_0.gguf");
    assert_eq!(of(Path::new(demo)), Vec::<String>::new());
}

#[test]
fn a_wrong_type_comes_with_what_to_write() {
    let found = problems(
        "[server]\nlisten = \"localhost:1\"\n[[budgets]]\nscope = \"account\"\nlimit_usd = 5",
    );
    assert!(found[0].ends_with("write an address and a port: \"127.0.0.1:8420\""), "{found:?}");
    assert!(found[1].ends_with("write \"5.00\""), "{found:?}");
    let found = problems(
        "[[providers]]\nname = \"a\"\nvendor = \"openai-compatible\"\nbase_url = \"http://h/v1\"\n\
         models = [{ id = \"m\", input_usd_per_million = 0.1, output_usd_per_million = \"1\" }]",
    );
    assert!(found.iter().any(|problem| problem.contains("write \"0.1\"")), "{found:?}");
}

#[test]
fn the_environment_sets_process_settings() {
    let environment = |name: &str| match name {
        "HOLDFAST_SERVER__LISTEN" => Some("127.0.0.1:9000".to_owned()),
        "HOLDFAST_ENGINE__SEQUENCES" => Some("4".to_owned()),
        _ => None,
    };
    let (config, problems) =
        parse("[server]\nlisten = \"127.0.0.1:1\"", Path::new(""), &environment).unwrap();
    assert_eq!(problems, Vec::new());
    assert_eq!((config.server.listen.port(), config.engine.sequences), (9000, 4));
}

#[test]
fn a_secret_never_shows() {
    let environment = |_: &str| None;
    let (config, _) = parse(
        "[[keys]]\nname = \"a\"\nsecret = \"hf_0123456789abcdef\"",
        Path::new(""),
        &environment,
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

fn with_route(rest: &str) -> String {
    format!(
        "[[providers]]\nname = \"a\"\nvendor = \"openai-compatible\"\n\
         base_url = \"http://h/v1\"\n[[routes]]\nname = \"fast\"\n{rest}"
    )
}

#[test]
fn a_route_says_what_is_done_when_a_target_fails() {
    let route = |rest: &str| {
        let (config, problems) = parse(&with_route(rest), Path::new(""), &|_: &str| None).unwrap();
        assert_eq!(problems, Vec::new());
        config.routes[0].policy()
    };
    assert_eq!(route("targets = [\"a/m\"]"), types::call::RoutePolicy::OF_ROUTE);
    let all = "targets = [\"local/demo\", \"a/m\"]\naliases = [\"claude-x\"]\nattempts = 3\n\
        tries_per_target = 1\nbackoff = \"100ms\"\nwait_max = \"0s\"\n\
        first_token_timeout = \"20s\"\ncooldown = \"1m\"\nlocal_wait_max = \"0s\"\nlocal_queue_max = 0\n\
        keep_alive_after = \"3s\"\ntimeout = \"90s\"\nstrict = true\nhedge = { after = \"800ms\" }";
    let expected = types::call::RoutePolicy {
        attempts_max: 3,
        same_target_max: 1,
        backoff: std::time::Duration::from_millis(100),
        growth: types::call::Growth::Exponential,
        wait_max: std::time::Duration::ZERO,
        first_token: Some(std::time::Duration::from_secs(20)),
        cooldown: std::time::Duration::from_mins(1),
        local_wait_max: std::time::Duration::ZERO,
        local_queue_max: 0,
        hedge_after: Some(std::time::Duration::from_millis(800)),
        hedge_percentile: None,
        keep_alive_after: std::time::Duration::from_secs(3),
        context: None,
        cascade: None,
        auto: None,
        timeout: Some(std::time::Duration::from_secs(90)),
        strict: true,
        of_targets: None,
    };
    assert_eq!(route(all), expected);
}

#[test]
fn what_is_wrong_with_a_route_has_its_place() {
    let of = |rest: &str| problems(&with_route(rest));
    assert_eq!(of(""), ["routes[0].targets: must name at least one model"]);
    assert_eq!(of("targets = []"), ["routes[0].targets: must name at least one model"]);
    let targets = "targets = [\"m\", \"route/x\", \"b/m\", \"a/m\", \"a/m\"]";
    assert_eq!(
        of(targets),
        [
            "routes[0].targets[0]: \"m\" must be a model: provider/model",
            "routes[0].targets[1]: \"route/x\" is a route: name its models here",
            "routes[0].targets[2]: no provider \"b\" is configured",
            "routes[0].targets[4]: \"a/m\" is there twice",
        ]
    );
    let limits = "targets = [\"a/m\"]\nattempts = 9\ntries_per_target = 0\nbackoff = \"0s\"\n\
        first_token_timeout = \"0s\"\ncooldown = \"0ms\"";
    assert_eq!(
        of(limits),
        [
            "routes[0].attempts: must be 1 to 8",
            "routes[0].tries_per_target: must be 1 to 8",
            "routes[0].backoff: must be longer than 0",
            "routes[0].first_token_timeout: must be longer than 0",
            "routes[0].cooldown: must be longer than 0",
        ]
    );
    assert!(of("targets = [\"a/m\"]\nbackoff = 1")[0].starts_with("routes[0].backoff: "));
}

#[test]
fn what_is_wrong_with_a_choice_has_its_place() {
    let of = |rest: &str| problems(&with_route(rest));
    let weights = "order = \"price\"\ntargets = [{ model = \"a/m\", weight = 0 }, \
        { sticky = \"user\", targets = [\"a/n\", { model = \"b/m\", weight = 1000001, when = \"class == 'x'\" }] }, \
        { targets = [], sticky = \"user\" }]";
    assert_eq!(
        of(weights),
        [
            "routes[0].targets[1].targets[1].weight: must be 0 to 1000000",
            "routes[0].targets[1].targets[1]: no provider \"b\" is configured",
            "routes[0].targets[2].targets: must name at least one model",
            "routes[0].order: decides, so that a weight says nothing: choose one",
            "routes[0].targets: need a weight above 0",
        ]
    );
    let when = "targets = [\"a/n\", { model = \"a/m\", when = \"clas == 'x'\" }]";
    let said = of(when).remove(0);
    let begins = "routes[0].targets[1].when: line 1, column 1: there is no \"clas\"; there are: ";
    assert!(said.starts_with(begins), "{said}");
    let deep = (0..9).fold("\"a/m\"".to_owned(), |inner, _| format!("{{ targets = [{inner}] }}"));
    assert!(of(&format!("targets = [{deep}]"))[0].ends_with("lies deeper than 8 tables"));
    let many: Vec<String> = (0..65).map(|n| format!("\"a/{n}\"")).collect();
    let said = of(&format!("targets = [{}]", many.join(", ")));
    assert_eq!(said.last().unwrap(), "routes[0].targets[64]: is one of more than 64");
    let both = "targets = [\"a/m\"]\ncloudflare = { elements = [] }";
    assert!(
        of(both)[0]
            .starts_with("routes[0].cloudflare: needs exactly one element of the type start")
    );
}

#[test]
fn an_alias_leads_to_nothing_else() {
    let of = |aliases: &str| problems(&with_route(&format!("targets = [\"a/m\"]\n{aliases}")));
    assert_eq!(of("aliases = [\"gpt-5\", \"meta/llama:70b\"]"), Vec::<String>::new());
    let wrong = "aliases = [\"a/m\", \"route/x\", \"x\", \"x\", \"\", \"two words\"]";
    let at: Vec<String> =
        of(wrong).iter().map(|problem| problem.split(": ").next().unwrap().to_owned()).collect();
    let places = [0, 1, 3, 4, 5].map(|place| format!("routes[0].aliases[{place}]"));
    assert_eq!(at, places);
    let twice = with_route("targets = [\"a/m\"]\naliases = [\"x\"]")
        + "\n[[routes]]\nname = \"fast\"\ntargets = [\"a/m\"]\naliases = [\"x\"]";
    let found = problems(&twice);
    assert!(found.contains(&"routes[1].name: \"fast\" is there twice".to_owned()), "{found:?}");
    assert!(found.contains(&"routes[1].aliases[0]: \"x\" is there twice".to_owned()), "{found:?}");
}

#[test]
fn a_provider_has_limits_of_time() {
    let of = |rest: &str| {
        let text = format!(
            "[[providers]]\nname = \"a\"\nvendor = \"openai-compatible\"\n\
             base_url = \"http://h/v1\"\n{rest}"
        );
        parse(&text, Path::new(""), &|_: &str| None).unwrap()
    };
    assert_eq!(of("").0.providers[0].timeouts(), providers::Timeouts::default());
    let (config, problems) =
        of("connect_timeout = \"2s\"\nresponse_timeout = \"1m\"\nstall_timeout = \"500ms\"");
    assert_eq!(problems, Vec::new());
    let expected = providers::Timeouts {
        connect: std::time::Duration::from_secs(2),
        first_byte: std::time::Duration::from_mins(1),
        stall: std::time::Duration::from_millis(500),
    };
    assert_eq!(config.providers[0].timeouts(), expected);
    let (_, problems) = of("stall_timeout = \"0s\"");
    assert_eq!(problems[0].to_string(), "providers[0].stall_timeout: must be longer than 0");
}

#[test]
fn models_that_a_start_would_know_are_offered() {
    let text = with_route("targets = [\"a/m\"]")
        + "\n[[providers]]\nname = \"b\"\n\
        vendor = \"openai-compatible\"\nbase_url = \"http://h/v1\"\nmodels = [{ id = \"m\" }]";
    let (config, _) = parse(&text, Path::new(""), &|_: &str| None).unwrap();
    let offered = |name: &str| config.offers(name, &|_| None);
    assert!(offered("local/demo") && offered("a/any") && offered("b/m"));
    assert!(!offered("local/ghost") && !offered("b/any") && !offered("c/m") && !offered("m"));
}

#[test]
fn entries_are_named_by_their_place_in_the_file_whatever_stands_before_them() {
    let text = r#"
        [[slos]]
        name = "unreadable"
        metric = "speed"
        objective = "99%"
        [[slos]]
        name = "well"
        metric = "errors"
        objective = "99%"
        [[slos]]
        name = "unreadable-too"
        metric = "errors"
        objective = "100%"
        [[slos]]
        name = "wrong"
        metric = "errors"
        objective = "99%"
        webhook = "ftp://example/x"
    "#;
    let found = problems(text);
    let at: Vec<_> = found.iter().filter_map(|problem| problem.split(": ").next()).collect();
    assert_eq!(at, ["slos[0].metric", "slos[2].objective", "slos[3].webhook"]);
}
