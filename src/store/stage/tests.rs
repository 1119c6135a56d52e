use super::*;

struct Stored(&'static str);

impl Lookup for Stored {
    fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(Some(self.0.into()))
    }
}

fn at(stage: &Stage<'_>, family: Family, key: &str) -> Option<Bytes> {
    stage.get(family, key.as_bytes()).unwrap().map(Found::into_bytes)
}

fn record(stage: &Stage<'_>, key: &str) -> Option<Bytes> {
    at(stage, Family::Records, key)
}

fn listed(changes: &Changes) -> Vec<(Family, Bytes, Option<Bytes>)> {
    let owned = |value: Option<Value<'_>>| value.map(Value::to_bytes);
    changes.iter().map(|(family, key, value)| (family, Bytes::copy_from_slice(key), owned(value))).collect()
}

#[test]
fn a_discarded_change_leaves_what_was_kept_before_it() {
    let stored = Stored("stored");
    let mut stage = Stage::new(&stored);
    stage.put(Family::Records, b"a", b"kept");
    stage.put(Family::Blobs, b"a", b"kept");
    stage.keep();
    stage.put(Family::Records, b"a", b"once, and longer");
    stage.delete(Family::Records, b"a");
    stage.delete(Family::Records, b"b");
    stage.delete(Family::Blobs, b"a");
    assert_eq!((record(&stage, "a"), record(&stage, "b")), (None, None));
    stage.discard();
    assert_eq!((record(&stage, "a"), record(&stage, "b")), (Some("kept".into()), Some("stored".into())));
    let kept = |family| (family, "a".into(), Some("kept".into()));
    assert_eq!(listed(&stage.into_changes()), [kept(Family::Records), kept(Family::Blobs)]);
}

#[test]
fn a_change_that_is_discarded_leaves_what_an_earlier_group_said() {
    let stored = Stored("stored");
    let mut stage = Stage::new(&stored);
    stage.put(Family::Usage, b"a", b"1");
    stage.keep();
    stage.hand_over(Changes::default());
    stage.put(Family::Usage, b"a", b"2");
    stage.discard();
    assert_eq!(at(&stage, Family::Usage, "a"), Some("1".into()));
    assert!(stage.is_empty());
}

#[test]
fn of_what_is_looked_up_the_last_word_is_written_once_and_all_else_in_its_order() {
    let stored = Stored("stored");
    let mut stage = Stage::new(&stored);
    for count in ["1", "2", "300"] {
        stage.put(Family::Usage, b"a", count.as_bytes());
        stage.put_shared(Family::Blobs, b"a", &Bytes::from(count));
        stage.delete(Family::Blobs, b"a");
        stage.keep();
    }
    let changes = stage.hand_over(Changes::default());
    let counts: Vec<_> = listed(&changes).into_iter().filter(|(family, ..)| *family == Family::Usage).collect();
    assert_eq!(counts, [(Family::Usage, "a".into(), Some("300".into()))]);
    let blobs = listed(&changes).into_iter().filter(|(family, ..)| *family == Family::Blobs);
    let values: Vec<_> = blobs.map(|(_, _, value)| value).collect();
    assert_eq!(values, [Some("1".into()), None, Some("2".into()), None, Some("300".into()), None]);
}

#[test]
fn a_group_sees_the_one_that_is_being_written_and_none_that_failed() {
    let stored = Stored("stored");
    let mut stage = Stage::new(&stored);
    stage.put(Family::Messages, b"a", b"staged");
    stage.delete(Family::Messages, b"b");
    stage.keep();
    stage.hand_over(Changes::default());
    let seen = |stage: &Stage<'_>| ["a", "b", "c"].map(|key| at(stage, Family::Messages, key));
    assert_eq!(seen(&stage), [Some("staged".into()), None, Some("stored".into())]);
    stage.put(Family::Messages, b"c", b"over it");
    stage.keep();
    stage.failed();
    assert_eq!(seen(&stage), [const { Some(Bytes::from_static(b"stored")) }; 3]);
    assert!(stage.is_empty());
}

#[test]
fn counts_are_remembered_longer_than_all_else_but_not_for_ever() {
    let stored = Stored("stored");
    let mut stage = Stage::new(&stored);
    let group = |stage: &mut Stage<'_>, keys: std::ops::Range<u32>| {
        for key in keys {
            for family in [Family::Usage, Family::Records] {
                stage.put(family, key.to_string().as_bytes(), b"staged");
            }
        }
        stage.keep();
        stage.hand_over(Changes::default());
    };
    let seen = |stage: &Stage<'_>| [Family::Usage, Family::Records].map(|family| at(stage, family, "0").unwrap());
    group(&mut stage, 0..1);
    assert_eq!(seen(&stage), ["staged", "staged"], "it is being written");
    group(&mut stage, 1..2);
    assert_eq!(seen(&stage), ["staged", "stored"]);
    for first in [2, 100_000, 200_000] {
        group(&mut stage, first..first + 50_000);
    }
    assert_eq!(seen(&stage), ["stored", "stored"]);
}

#[test]
fn a_prefix_ends_where_no_key_has_it() {
    assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
    assert_eq!(prefix_end(&[1, u8::MAX]), Some(vec![2]));
    assert_eq!(prefix_end(&[u8::MAX]), None);
    assert_eq!(prefix_end(&[]), None);
}
