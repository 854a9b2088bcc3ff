use storage::{Scope, WindowKind, Zone};
use types::ids::{BudgetId, KeyId};
use types::principal::Role;
use types::{Money, Secret, Timestamp};

use super::*;
use crate::config;
use crate::config::BudgetEntry;
use crate::config::file::{PriceEntry, ProviderModel};

fn file() -> Config {
    Config {
        keys: vec![KeyEntry {
            name: "ci".to_owned(),
            secret: Secret::new("hf_0123456789abcdef"),
            user: None,
            output_cap_default: None,
        }],
        budgets: vec![BudgetEntry {
            scope: Scope::Account,
            limit_usd: Money::parse("5").unwrap(),
            window: WindowKind::Total,
            time_zone: Zone::UTC,
        }],
        providers: vec![ProviderEntry {
            name: "garage".to_owned(),
            vendor: "openai-compatible".to_owned(),
            base_url: Some("http://10.0.0.5/v1".to_owned()),
            api_key: None,
            api_keys: Vec::new(),
            aws: None,
            connect_timeout: None,
            response_timeout: None,
            stall_timeout: None,
            on_disconnect: config::file::OnDisconnect::default(),
            drain_max: None,
            propagate_trace: false,
            models: vec![ProviderModel {
                id: "m".to_owned(),
                price: PriceEntry { free: true, ..PriceEntry::default() },
                max_output_tokens: None,
                context_tokens: None,
            }],
        }],
        ..Config::default()
    }
}

/// What the store holds after a start with that file.
fn stored(file: &Config) -> Stored {
    let ids =
        types::Ids::seeded(std::sync::Arc::new(types::clock::FakeClock::new(Timestamp(0))), 1);
    let mut stored = Stored::default();
    let mut took = |kind: &str, name: &str, fingerprint: anyhow::Result<String>| {
        stored.taken.insert((kind.to_owned(), name.to_owned()), fingerprint.unwrap());
    };
    for entry in &file.keys {
        took("key", &entry.name, objects::key_fingerprint(entry));
    }
    for model in &file.providers[0].models {
        took("model", &format!("garage/{}", model.id), objects::fingerprint(model));
    }
    let demo = model("local/demo");
    took("model", "local/demo", objects::local_fingerprint(&local::demo(), &demo));
    stored.keys.push(Key {
        id: KeyId::new(&ids),
        account: DEFAULT_ACCOUNT.to_owned(),
        name: "ci".to_owned(),
        user: "ci".to_owned(),
        role: Role::Member,
        secret_sha256: [0; 32],
        hint: "hf_0123".to_owned(),
        output_cap_default: None,
        origin: Origin::File,
        created_at: Timestamp(0),
    });
    stored.budgets.push(Budget {
        id: BudgetId::new(&ids),
        account: DEFAULT_ACCOUNT.to_owned(),
        scope: Scope::Account,
        limit: Money::parse("5").unwrap(),
        window: WindowKind::Total,
        zone: Zone::UTC,
        rule: None,
        origin: Origin::File,
        version: 1,
        created_at: Timestamp(0),
    });
    stored.models = vec![model("garage/m"), demo];
    stored
}

fn model(name: &str) -> Model {
    let (provider, below) = name.split_once('/').unwrap();
    Model {
        name: name.to_owned(),
        provider: provider.to_owned(),
        upstream_model: below.to_owned(),
        path: None,
        sha256: None,
        prices: Vec::new(),
        output_tokens_max: None,
        context_tokens: None,
        origin: Origin::File,
        version: 1,
        created_at: Timestamp(0),
    }
}

/// The names of what differs, with their origins.
fn differ(file: &Config, stored: &Stored) -> Vec<String> {
    let all = of(file, &self::file(), stored).into_iter();
    let different = all.filter(|object| object.differs_from_file);
    different.map(|object| format!("{} {} ({})", object.kind, object.name, object.origin)).collect()
}

const BUDGET: &str = r#"budget {"scope":"account","window":"total"}"#;

#[test]
fn nothing_differs_after_a_start() {
    let (file, stored) = (file(), stored(&file()));
    assert_eq!(differ(&file, &stored), Vec::<String>::new());
    let kinds: Vec<String> = of(&file, &file, &stored).into_iter().map(|view| view.kind).collect();
    assert_eq!(kinds, ["provider", "key", "budget", "model", "model"]);
}

#[test]
fn what_the_api_made_or_changed_differs() {
    let mut stored = stored(&file());
    stored.keys[0].origin = Origin::Api;
    stored.budgets[0].limit = Money::parse("7").unwrap();
    stored.budgets[0].origin = Origin::Api;
    stored.models[0].origin = Origin::Api;
    stored.models.push(Model { origin: Origin::Api, ..model("garage/new") });
    let budget = format!("{BUDGET} (api)");
    assert_eq!(
        differ(&file(), &stored),
        ["key ci (api)", &budget, "model garage/m (api)", "model garage/new (api)"]
    );
}

#[test]
fn a_route_or_a_limit_of_time_that_was_changed_in_the_file_differs() {
    let with_route = |target: &str| {
        let text = format!("[[routes]]\nname = \"fast\"\ntargets = [\"{target}\"]\n");
        let (read, _) = config::of_text(&text);
        Config { routes: read.routes, text: read.text, ..file() }
    };
    let running = with_route("garage/m");
    let took = objects::fingerprint(&running.text.routes()[0].1).unwrap();
    let mut in_store = stored(&file());
    in_store.taken.insert((routes::KIND.to_owned(), "fast".to_owned()), took);
    in_store.routes.push(Route {
        name: "fast".to_owned(),
        settings: running.text.routes().remove(0).1,
        origin: Origin::File,
        version: 1,
        changed_at: Timestamp(0),
    });
    let objects = |file: &Config| {
        let all = of(file, &running, &in_store).into_iter();
        let different = all.filter(|object| object.differs_from_file);
        different.map(|object| format!("{} {}", object.kind, object.name)).collect::<Vec<_>>()
    };
    assert_eq!(objects(&running), Vec::<String>::new());
    let mut changed = with_route("garage/other");
    changed.providers[0].stall_timeout = Some(std::time::Duration::from_secs(9));
    assert_eq!(objects(&changed), ["provider garage", "route fast"]);
    assert_eq!(objects(&file()), ["route fast"], "a route that the file has no more");

    // One that can't be read says nothing of those after it.
    let text = "[[routes]]\nname = \"broken\"\ntargets = 5\n\
                [[routes]]\nname = \"fast\"\ntargets = [\"garage/m\"]\n";
    let (read, problems) = config::of_text(text);
    assert!(!problems.is_empty());
    let broken = Config { routes: read.routes, text: read.text, ..file() };
    assert_eq!(objects(&broken), ["route broken"]);
}

#[test]
fn a_tool_server_that_changed_since_it_was_taken_differs() {
    let with_server = |program: &str| {
        let text = format!("[[mcp_servers]]\nname = \"notes\"\ncommand = [\"{program}\"]\n");
        Config { mcp_servers: config::of_text(&text).0.mcp_servers, ..file() }
    };
    let (taken, edited) = (with_server("old"), with_server("new"));
    let differs = |taken: &Config| {
        let all = of(&edited, taken, &stored(&file())).into_iter();
        let different = all.filter(|object| object.differs_from_file);
        different.map(|object| object.name).collect::<Vec<_>>()
    };
    assert_eq!(differs(&taken), ["notes"], "the old one runs");
    assert_eq!(differs(&edited), Vec::<String>::new());
}

#[test]
fn a_change_of_the_file_since_it_was_taken_differs() {
    let mut changed = file();
    changed.keys[0].secret = Secret::new("hf_another_secret_");
    changed.budgets[0].limit_usd = Money::parse("6").unwrap();
    changed.providers[0].models[0].max_output_tokens = Some(9);
    changed.providers[0].base_url = Some("http://10.0.0.6/v1".to_owned());
    let budget = format!("{BUDGET} (file)");
    assert_eq!(
        differ(&changed, &stored(&file())),
        ["provider garage (file)", "key ci (file)", &budget, "model garage/m (file)"]
    );
}

#[test]
fn what_only_one_of_them_has_differs() {
    let empty = Config::default();
    let budget = format!("{BUDGET} (file)");
    let all = ["provider garage (file)", "key ci (file)", &budget, "model garage/m (file)"];
    assert_eq!(differ(&empty, &stored(&file())), all);

    // Removed at run time; the provider runs all the same.
    let mut removed = stored(&file());
    removed.keys.clear();
    removed.budgets.clear();
    removed.models.remove(0);
    assert_eq!(differ(&file(), &removed), all[1..]);
}
