use super::*;

#[test]
fn a_sessions_id_depends_on_account_user_and_name() {
    let id = named_session("a", "u", "name");
    assert_eq!(id, named_session("a", "u", "name"));
    for other in [("b", "u", "name"), ("a", "v", "name"), ("a", "u", "other"), ("au", "", "name")] {
        assert_ne!(id, named_session(other.0, other.1, other.2), "{other:?}");
    }
    // It is stored: a new release must find the sessions of the old one.
    assert_eq!(id.as_str(), "sess_4ysxge7xqzy1ce2vwfqtd63kyg");
}

#[test]
fn each_door_has_its_class() {
    assert_eq!(&*default_class(Door::OpenaiChat), "interactive");
    assert_eq!(&*default_class(Door::Session), "agent");
}
