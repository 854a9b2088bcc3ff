/// Every public test function of every family is in the macro's list: one that isn't would never
/// run.
#[test]
fn no_forgotten_test() {
    let list = include_str!("../suite.rs");
    let families = [
        ("budgets", include_str!("budgets.rs")),
        ("commits", include_str!("commits.rs")),
        ("journal", include_str!("journal.rs")),
        ("keys", include_str!("keys.rs")),
        ("ledger", include_str!("ledger.rs")),
        ("models", include_str!("models.rs")),
        ("money", include_str!("money.rs")),
        ("objects", include_str!("objects.rs")),
        ("responses", include_str!("responses.rs")),
        ("sessions", include_str!("sessions.rs")),
        ("slos", include_str!("slos.rs")),
    ];
    let mut modules: Vec<&str> = families.iter().map(|(family, _)| *family).collect();
    modules.push("fixtures");
    for line in list.lines() {
        let Some(module) = line.strip_prefix("pub mod ") else { continue };
        assert!(modules.contains(&module.trim_end_matches(';')), "list {module} in this test");
    }
    for (family, source) in families {
        for line in source.lines() {
            let Some(rest) = line.strip_prefix("pub async fn ") else { continue };
            let name = rest.split('(').next().unwrap();
            assert!(list.contains(&format!(" {name},\n")), "{family}::{name} is not in suite!");
        }
    }
}
