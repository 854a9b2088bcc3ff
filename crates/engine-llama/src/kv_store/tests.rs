use super::*;

fn owner(account: &str, session: &str) -> Owner {
    Owner { account: account.to_owned(), session: session.to_owned() }
}

fn state(size: usize) -> State {
    State { held: vec![1, 2, -3], tail: vec![7], bytes: vec![0xAB; size] }
}

fn store(folder: &Path) -> KvStore {
    KvStore::open(folder.to_owned(), [1; 32], u64::MAX).unwrap()
}

fn only_file(store: &KvStore) -> PathBuf {
    let files = store.files().unwrap();
    assert_eq!(files.len(), 1);
    files[0].path.clone()
}

#[test]
fn what_is_saved_is_loaded_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path()).save(&owner("a", "s"), &state(10)).unwrap();
    let mut next = store(folder.path());
    assert_eq!(next.load(&owner("a", "s")), Found::State(state(10)));
    assert_eq!(next.load(&owner("a", "t")), Found::Nothing);
    assert_eq!(next.load(&owner("b", "s")), Found::Nothing);
    next.drop_session(&owner("a", "s"));
    assert_eq!(next.load(&owner("a", "s")), Found::Nothing);
    assert_eq!(next.bytes(), 0);
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path());
    store.save(&owner("a", "s"), &state(5)).unwrap();
    let path = only_file(&store);
    let whole = fs::read(&path).unwrap();
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        assert_eq!(store.load(&owner("a", "s")), Found::Discarded, "byte {index}");
        assert!(!path.exists(), "it is deleted");
        fs::write(&path, &whole[..index]).unwrap();
        assert_eq!(store.load(&owner("a", "s")), Found::Discarded, "cut at {index}");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(store.load(&owner("a", "s")), Found::State(state(5)));
}

#[test]
fn a_file_of_another_owner_or_model_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = store(folder.path());
    first.save(&owner("a", "s"), &state(5)).unwrap();
    let bytes = fs::read(only_file(&first)).unwrap();
    let victim = first.path(&owner("b", "s"));
    fs::create_dir_all(victim.parent().unwrap()).unwrap();
    fs::write(&victim, &bytes).unwrap();
    assert_eq!(first.load(&owner("b", "s")), Found::Discarded);
    let mut other_model = KvStore::open(folder.path().to_owned(), [2; 32], u64::MAX).unwrap();
    assert_eq!(other_model.load(&owner("a", "s")), Found::Discarded);
}

#[test]
fn accounts_and_sessions_are_no_paths() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for name in ["../x", "/etc/passwd", "", ".", "..", "a/b", "nul\0", &"x".repeat(4_096)] {
        let path = store.path(&owner(name, name));
        assert_eq!(path.components().count(), folder.path().components().count() + 2);
        assert!(path.starts_with(folder.path()), "{name}");
        assert!(!path.to_string_lossy().contains(".."), "{name}");
    }
}

#[test]
fn the_quota_takes_what_was_unused_longest() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = KvStore::open(folder.path().to_owned(), [1; 32], 3_000).unwrap();
    let (old, used, new) = (owner("a", "old"), owner("a", "used"), owner("a", "new"));
    for (index, owner) in [&old, &used].into_iter().enumerate() {
        store.save(owner, &state(1_000)).unwrap();
        let file = fs::File::open(store.path(owner)).unwrap();
        let age = std::time::Duration::from_secs(index as u64);
        file.set_modified(SystemTime::UNIX_EPOCH + age).unwrap();
    }
    assert!(matches!(store.load(&old), Found::State(_)), "a use makes it young");
    store.save(&new, &state(1_000)).unwrap();
    assert_eq!(store.load(&used), Found::Nothing);
    assert!(matches!(store.load(&old), Found::State(_)));
    assert!(matches!(store.load(&new), Found::State(_)));
    assert!(store.bytes() <= 3_000);
}

#[test]
fn what_a_dead_process_left_half_written_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = store(folder.path());
    first.save(&owner("a", "s"), &state(5)).unwrap();
    let half = first.path(&owner("a", "t")).with_extension("tmp");
    fs::write(&half, b"half").unwrap();
    let bytes = first.bytes();
    assert_eq!(store(folder.path()).bytes(), bytes);
    assert!(!half.exists());
}
