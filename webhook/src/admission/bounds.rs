//! Limits how much of a review is kept in memory.
//!
//! A body may have 8 MiB, and the parsed value must not take many times as much. For example, a
//! list of empty strings takes twelve times as much memory as its JSON.

use std::collections::BTreeMap;
use std::fmt;

use policy::exclusion;
use policy::well_known::{CHAOS, is_near_halt, is_ours};
use runtime::text::cut;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The longest name of a user or an object, in bytes. The user name of a ServiceAccount has at most
/// 340 bytes, the name of an object at most 253.
pub const LONGEST_NAME: usize = 1_024;
/// The most groups of a user. Also the most keys and values in the extra fields of a user.
const MOST_OF_USER: usize = 1_000;
/// The most annotations of ours that a Namespace may have. There are far fewer settings, so an
/// opt-in with more annotations is denied.
pub const MOST_ANNOTATIONS: usize = 64;
/// Longer values of our annotations are cut to this many bytes. No setting has a longer valid
/// value.
const LONGEST_VALUE: usize = 4 * 1024;

/// Passes a string of any length to `read`, and keeps no copy of the string. If `read` finds the
/// string too long, `read` returns the limit in bytes.
fn visit<'de, D, T>(deserializer: D, read: impl FnOnce(&str) -> Result<T, usize>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    struct Text<F>(F);
    impl<T, F: FnOnce(&str) -> Result<T, usize>> Visitor<'_> for Text<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            let long =
                |most| E::custom(format_args!("a text of {} bytes, above the limit of {most}", text.len()));
            (self.0)(text).map_err(long)
        }
    }
    deserializer.deserialize_str(Text(read))
}

/// Reads a name.
///
/// # Errors
/// Returns an error if the name is longer than [`LONGEST_NAME`].
pub fn short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    visit(
        deserializer,
        |text| {
            if text.len() <= LONGEST_NAME { Ok(text.to_owned()) } else { Err(LONGEST_NAME) }
        },
    )
}

/// Reads a name that may be missing.
///
/// # Errors
/// Returns the errors of [`short`].
pub fn maybe_short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Short>::deserialize(deserializer)?.map(|Short(text)| text))
}

/// A name of at most [`LONGEST_NAME`] bytes.
#[derive(Deserialize)]
pub struct Short(#[serde(deserialize_with = "short")] pub String);

/// Reads the groups of a user.
///
/// The webhook asks for the rights of the whole user or does not ask at all. So a review with too
/// many groups is refused, instead of losing some of them.
///
/// # Errors
/// Returns an error if there are too many groups, or if one of them is too long.
pub fn groups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let Groups(groups) = Groups::deserialize(deserializer)?;
    Ok(groups)
}

struct Groups(Vec<String>);

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Few;
        impl<'de> Visitor<'de> for Few {
            type Value = Groups;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Groups, S::Error> {
                let mut groups = Vec::new();
                while let Some(Short(group)) = list.next_element()? {
                    if groups.len() == MOST_OF_USER {
                        return Err(too_many());
                    }
                    groups.push(group);
                }
                Ok(Groups(groups))
            }
        }
        deserializer.deserialize_seq(Few)
    }
}

/// Reads the extra fields of a user, which an authenticator adds to name, UID and groups. As with
/// [`groups`], too many of them are refused.
///
/// # Errors
/// Returns an error if there are too many keys and values, or if one of them is too long.
pub fn extra<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = BTreeMap<String, Vec<String>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("lists of strings by their names")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let (mut extra, mut count) = (BTreeMap::new(), 0);
            while let Some((Short(key), Groups(values))) = map.next_entry()? {
                count += 1 + values.len();
                if count > MOST_OF_USER {
                    return Err(too_many());
                }
                extra.insert(key, values);
            }
            Ok(extra)
        }
    }
    deserializer.deserialize_map(Few)
}

fn too_many<E: Error>() -> E {
    E::custom("a user with too many groups or extra values")
}

/// Reads a list of strings, and returns whether one of them is `All`, as in `dryRun`.
///
/// # Errors
/// Returns an error if the value is neither a list of strings nor null.
pub fn any_is_all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Words;
    impl<'de> Visitor<'de> for Words {
        type Value = bool;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of strings")
        }
        fn visit_unit<E>(self) -> Result<bool, E> {
            Ok(false)
        }
        fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<bool, S::Error> {
            let mut found = false;
            while let Some(IsAll(is_all)) = list.next_element()? {
                found |= is_all;
            }
            Ok(found)
        }
    }
    deserializer.deserialize_any(Words)
}

struct IsAll(bool);

impl<'de> Deserialize<'de> for IsAll {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        visit(deserializer, |word| Ok(word == "All")).map(Self)
    }
}

/// Reads the annotations that the rules need: those that are ours, those that
/// [matter](exclusion::matters) on a Pod, and those that may be meant as a halt.
///
/// All other annotations are dropped, because a Namespace may have 256 KiB of them, and a review
/// contains the Namespace twice. A value that is too long is cut, and no setting accepts a cut
/// value. If there are too many annotations of ours, one more than [`MOST_ANNOTATIONS`] is kept, so
/// that the rules see that there are too many.
///
/// # Errors
/// Returns an error if the value of any annotation is not a string.
pub fn ours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Ours;
    impl<'de> Visitor<'de> for Ours {
        type Value = BTreeMap<String, String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("annotations")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let (mut annotations, mut count, mut others) = (BTreeMap::new(), 0, 0);
            let mut is_kept = |key: &String| {
                // No limit applies to `chaos` itself, nor to the few keys of others that matter on
                // a Pod.
                let is_counted = key != CHAOS && is_ours(key);
                let is_other = !is_ours(key) && !exclusion::matters(key);
                count += usize::from(is_counted);
                others += usize::from(is_other);
                (!is_counted || count <= MOST_ANNOTATIONS + 1) && (!is_other || others <= MOST_ANNOTATIONS)
            };
            while let Some(OurKey(key)) = map.next_key()? {
                match key.filter(&mut is_kept) {
                    Some(key) => {
                        let Value(value) = map.next_value()?;
                        annotations.insert(key, value);
                    }
                    // The value is not kept, but it must be a string: otherwise the review is not
                    // valid.
                    None => {
                        map.next_value::<Text>()?;
                    }
                }
            }
            Ok(annotations)
        }
    }
    deserializer.deserialize_any(Ours)
}

struct OurKey(Option<String>);

impl<'de> Deserialize<'de> for OurKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        visit(deserializer, |key| {
            let is_asked_about = is_ours(key) || exclusion::matters(key) || is_near_halt(key);
            Ok(is_asked_about.then(|| cut(key, LONGEST_NAME)))
        })
        .map(Self)
    }
}

struct Value(String);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        visit(deserializer, |value| Ok(cut(value, LONGEST_VALUE))).map(Self)
    }
}

struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        visit(deserializer, |_| Ok(Self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_user_is_read_whole_or_not_at_all() {
        let user = json!({"scopes": ["a", "b"]});
        assert_eq!(extra(&user).unwrap()["scopes"], ["a", "b"]);
        let many = |count| json!(vec!["g"; count]);
        assert_eq!(groups(&many(MOST_OF_USER)).unwrap().len(), MOST_OF_USER);
        assert!(groups(&many(MOST_OF_USER + 1)).is_err());
        assert!(extra(&json!({"a": many(MOST_OF_USER - 2), "b": ["c"]})).is_err());
        let text = "x".repeat(LONGEST_NAME + 1);
        assert!(short(&json!(text)).is_err() && groups(&json!([text])).is_err());
        assert!(extra(&json!({&text: []})).is_err() && maybe_short(&json!(text)).is_err());
        assert_eq!(maybe_short(&json!(null)).unwrap(), None);
    }

    #[test]
    fn of_ours_too_many_are_known_as_such_and_long_values_are_not_understood() {
        let many: BTreeMap<String, String> =
            (0..5_000).map(|number| (format!("purechaos.dev/{number:04}"), "x".to_owned())).collect();
        assert_eq!(ours(&json!(many)).unwrap().len(), MOST_ANNOTATIONS + 1);
        let long = json!({"team": "a", "purechaos.dev/targets": "x".repeat(100_000), "PureChaos.dev/x": "y"});
        let kept = ours(&long).unwrap();
        assert_eq!(kept.len(), 2);
        assert!(kept["purechaos.dev/targets"].ends_with('…'));
        assert_eq!(kept["purechaos.dev/targets"].len(), LONGEST_VALUE);
        assert!(ours(&json!({"team": 7})).is_err());
        // Keys of others that may be meant as a halt take no room from ours.
        let mut halts: BTreeMap<String, String> =
            (0..5_000).map(|number| (format!("a.dev/halt{number:04}"), "x".to_owned())).collect();
        halts.insert("purechaos.dev/limit".to_owned(), "1".to_owned());
        let kept = ours(&json!(halts)).unwrap();
        assert!(kept.len() == MOST_ANNOTATIONS + 1 && kept.contains_key("purechaos.dev/limit"));
    }
}
