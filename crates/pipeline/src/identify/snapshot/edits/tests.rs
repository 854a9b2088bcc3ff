use std::sync::Arc;

use storage::budgets::Origin;
use storage::{Budget, Key, Scope, WindowKind, Zone};
use types::clock::FakeClock;
use types::ids::{BudgetId, KeyId};
use types::principal::Role;
use types::{Ids, Money, Timestamp};

use super::*;

const ACCOUNTS: [&str; 2] = ["1", "2"];

struct Make(Ids);

impl Make {
    fn new(seed: u64) -> Self {
        Self(Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), seed))
    }

    fn pick(&self, most: usize) -> usize {
        let bytes = self.0.hex("", 4);
        usize::try_from(u32::from_str_radix(&bytes, 16).unwrap()).unwrap() % most
    }

    fn key(&self) -> Key {
        let (name, user) = (self.pick(6), self.pick(3));
        let account = ACCOUNTS[self.pick(2)];
        Key {
            // One id for each name, as the directory has it.
            id: KeyId::parse(&format!("key_{account}_{name}")).unwrap(),
            account: account.to_owned(),
            name: format!("k{name}"),
            user: format!("u{user}"),
            role: Role::Member,
            secret_sha256: [u8::try_from(self.pick(200)).unwrap(); 32],
            hint: String::new(),
            output_cap_default: None,
            origin: Origin::Api,
            created_at: Timestamp(0),
        }
    }

    fn budget(&self) -> Budget {
        let scopes = [
            Scope::Account,
            Scope::Key(format!("k{}", self.pick(6))),
            Scope::User(format!("u{}", self.pick(3))),
            Scope::Session("sess_x".to_owned()),
            Scope::Session(format!("s{}", self.pick(2))),
            Scope::Task("t".to_owned()),
            Scope::Metadata { name: "team".to_owned(), value: format!("v{}", self.pick(2)) },
            Scope::Model("p/m".to_owned()),
        ];
        Budget {
            id: BudgetId::parse(&format!("bud_{}", self.pick(20))).unwrap(),
            account: ACCOUNTS[self.pick(2)].to_owned(),
            scope: scopes[self.pick(scopes.len())].clone(),
            limit: Money::ZERO,
            window: WindowKind::Total,
            zone: Zone::UTC,
            rule: None,
            version: 1,
            origin: Origin::Api,
            created_at: Timestamp(0),
        }
    }
}

fn ids(list: &[Arc<Budget>]) -> Vec<String> {
    list.iter().map(|budget| budget.id.to_string()).collect()
}

/// All that can be asked of a snapshot's keys and budgets.
fn asked(snapshot: &Snapshot) -> Vec<String> {
    let mut all = Vec::new();
    for (id, known) in snapshot.by_key.iter() {
        let same = snapshot.by_secret(&snapshot.rows.keys.get(id).unwrap().secret_sha256);
        assert!(Arc::ptr_eq(known, &same.unwrap()), "{id}");
        all.push(format!("{id}: {} {:?}", known.principal.user, ids(&known.budgets)));
    }
    for budget in snapshot.rows.budgets.values() {
        let on = snapshot.scopes.on(&budget.account, &budget.scope);
        all.push(format!("{} {}: {:?}", budget.account, budget.scope, ids(&on)));
    }
    for account in ACCOUNTS {
        for (name, user) in (0..2).flat_map(|name| (0..3).map(move |user| (name, user))) {
            let id = crate::named_session(account, &format!("u{user}"), &format!("s{name}"));
            // Whose user is gone nobody asks for.
            let is_used = |key: &Arc<Key>| key.account == account && key.user == format!("u{user}");
            if snapshot.rows.keys.values().any(is_used) {
                let on = snapshot.scopes.on(account, &Scope::Session(id.to_string()));
                all.push(format!("{account} s{name} of u{user}: {:?}", ids(&on)));
            }
        }
    }
    let names = snapshot.key_names.iter().map(|(name, id)| format!("{name} = {id}"));
    all.extend(names);
    all.sort();
    all
}

/// With this key, unless its secret is another's.
fn with_key(before: &Snapshot, key: Key) -> Edits {
    let mut edits = Edits::of(before);
    if edits.put_keys(vec![key]).is_ok() { edits } else { Edits::of(before) }
}

#[test]
fn what_is_changed_bit_by_bit_is_as_if_it_were_made_at_once() {
    for seed in 0..8 {
        let make = Make::new(seed);
        let mut snapshot = Snapshot::default();
        for _ in 0..40 {
            let mut edits = Edits::of(&snapshot);
            for _ in 0..=make.pick(2) {
                match make.pick(6) {
                    0 | 1 => edits = with_key(&edits.done(), make.key()),
                    2 | 3 => edits.put_budget(&Arc::new(make.budget())),
                    4 => edits.remove_budget(&make.budget().id),
                    _ => edits.remove_key(&make.key().id),
                }
            }
            snapshot = edits.done();
            let mut whole = Edits::default();
            for budget in snapshot.rows.budgets.values() {
                whole.put_budget(budget);
            }
            let keys = snapshot.rows.keys.values().map(|key| Key::clone(key));
            whole.put_keys(keys.collect()).unwrap();
            assert_eq!(asked(&snapshot), asked(&whole.done()), "seed {seed}");
        }
    }
}

#[test]
fn two_keys_may_exchange_their_secrets_and_none_takes_anothers() {
    let make = Make::new(1);
    let key = |name: &str, secret: u8| Key {
        id: KeyId::parse(&format!("key_{name}")).unwrap(),
        name: name.to_owned(),
        secret_sha256: [secret; 32],
        ..make.key()
    };
    let mut edits = Edits::default();
    edits.put_keys(vec![key("a", 1), key("b", 2)]).unwrap();
    edits.put_keys(vec![key("a", 2), key("b", 1)]).unwrap();
    let snapshot = edits.done();
    assert_eq!(&*snapshot.by_secret(&[1; 32]).unwrap().principal.key_name, "b");
    assert_eq!(Edits::of(&snapshot).put_keys(vec![key("c", 2)]), Err("c".to_owned()));
    assert_eq!(&*snapshot.by_secret(&[2; 32]).unwrap().principal.key_name, "a");
}
