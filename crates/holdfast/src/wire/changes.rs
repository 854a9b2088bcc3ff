//! What a configuration changes of the objects that the process alone keeps.

use server::ObjectChange;

/// What is added, changed and removed, by name.
pub(super) fn of<T: PartialEq>(
    kind: &str,
    before: &[T],
    after: &[T],
    name: impl Fn(&T) -> String,
) -> Vec<ObjectChange> {
    let change = |name: String, change: &str| ObjectChange {
        kind: kind.to_owned(),
        name,
        change: change.to_owned(),
    };
    let named = |all: &[T], wanted: &str| all.iter().position(|one| name(one) == wanted);
    let mut changes = Vec::new();
    for object in after {
        match named(before, &name(object)) {
            None => changes.push(change(name(object), "added")),
            Some(at) if before[at] != *object => changes.push(change(name(object), "changed")),
            Some(_) => {}
        }
    }
    let gone = before.iter().map(&name).filter(|name| named(after, name).is_none());
    changes.extend(gone.map(|name| change(name, "removed")));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_changed_and_went_is_told_by_name() {
        let (before, after) = ([("a", 1), ("b", 1), ("c", 1)], [("d", 1), ("b", 2), ("a", 1)]);
        let all = of("slo", &before, &after, |object| object.0.to_owned());
        let all: Vec<_> = all.iter().map(|one| (&*one.kind, &*one.name, &*one.change)).collect();
        let told = [("slo", "d", "added"), ("slo", "b", "changed"), ("slo", "c", "removed")];
        assert_eq!(all, told);
    }
}
