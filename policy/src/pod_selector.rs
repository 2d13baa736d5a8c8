//! Label selectors in the form of `kubectl get --selector`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube::core::{Expression, Selector, SelectorExt};

/// The form of a selector, for error messages.
pub const EXPECTED: &str = "a label selector, such as `app=web,tier in (front,back),!legacy`";

/// A label selector for the Pods that may be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets(Selector);

impl Targets {
    /// Reads a selector with at least one term.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut terms = Vec::new();
        let mut rest = text;
        loop {
            // A comma between parentheses separates values, not terms.
            let values_end = rest.find(')').filter(|_| rest.find('(') < rest.find(','));
            let comma =
                rest[values_end.unwrap_or(0)..].find(',').map(|comma| comma + values_end.unwrap_or(0));
            terms.push(parse_term(&rest[..comma.unwrap_or(rest.len())])?);
            match comma {
                Some(comma) => rest = &rest[comma + 1..],
                None => return Some(Self(terms.into_iter().collect())),
            }
        }
    }

    /// Whether at least one term demands a label. The author of such a selector named the Pods with
    /// that label.
    #[must_use]
    pub fn demand_a_label(&self) -> bool {
        let demands = |term: &Expression| {
            matches!(term, Expression::In(..) | Expression::Equal(..) | Expression::Exists(_))
        };
        self.0.clone().into_iter().any(|term| demands(&term))
    }

    /// Whether the selector matches a Pod with these labels.
    #[must_use]
    pub fn cover(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn parse_term(text: &str) -> Option<Expression> {
    let text = text.trim();
    if let Some(key) = text.strip_prefix('!') {
        return parse_key(key).map(Expression::DoesNotExist);
    }
    if let Some((left, values)) = text.split_once('(') {
        let values: BTreeSet<String> =
            values.strip_suffix(')')?.split(',').map(parse_value).collect::<Option<_>>()?;
        let [key, operator] = <[&str; 2]>::try_from(left.split_whitespace().collect::<Vec<_>>()).ok()?;
        return match operator {
            "in" => Some(Expression::In(parse_key(key)?, values)),
            "notin" => Some(Expression::NotIn(parse_key(key)?, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Expression::NotEqual(parse_key(key)?, parse_value(value)?));
    }
    match text.split_once("==").or_else(|| text.split_once('=')) {
        Some((key, value)) => Some(Expression::Equal(parse_key(key)?, parse_value(value)?)),
        None => parse_key(text).map(Expression::Exists),
    }
}

/// Reads the key of a label: a name, or a DNS subdomain, `/` and a name.
fn parse_key(text: &str) -> Option<String> {
    let text = text.trim();
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            let is_label =
                |label: &str| is_word(label, b"-") && label.bytes().all(|byte| !byte.is_ascii_uppercase());
            (prefix.len() <= 253 && prefix.split('.').all(is_label)).then_some(name)?
        }
        None => text,
    };
    is_word(name, b"-_.").then(|| text.to_owned())
}

fn parse_value(text: &str) -> Option<String> {
    let text = text.trim();
    (text.is_empty() || is_word(text, b"-_.")).then(|| text.to_owned())
}

/// Whether the text is 1 to 63 letters and digits, with characters of `others` allowed between
/// them.
fn is_word(text: &str, others: &[u8]) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Targets::parse(selector).unwrap_or_else(|| panic!("{selector}")).cover(&labels)
    }

    #[test]
    fn forms() {
        let web = [("app", "web"), ("tier", "front")];
        for (selector, expected) in [
            ("app=web", true),
            ("app==web", true),
            (" app = web , tier=front ", true),
            ("app=web,tier=back", false),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (web,db)", true),
            ("tier notin (front, back)", false),
            ("app in (web), tier in (front,back)", true),
            ("tier,app in (db,web)", true),
            ("app", true),
            ("!app", false),
            ("!legacy,app", true),
            ("example.com/app", false),
        ] {
            assert_eq!(covers(selector, &web), expected, "{selector}");
        }
        for wrong in [
            "",
            ",",
            "app=web,",
            "=web",
            "app=we b",
            "app in web",
            "app in (web",
            "app of (web)",
            "app=-web",
            "App/=x",
            "a/b/c=x",
            "EXAMPLE.com/app=x",
            "app=web)",
            "!",
            "app in (web) x",
            "app)in(a,b",
        ] {
            assert_eq!(Targets::parse(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "!?[ab]{1,2}( in \\([ab,]{1,5}\\)|!?=[ab]{0,2})?(,[cd]{1,2}(=x)?)?") {
            if let Some(targets) = Targets::parse(&text) {
                prop_assert_eq!(Targets::parse(&targets.to_string()), Some(targets));
            }
        }

        #[test]
        fn nothing_panics(text in "[a(), =!né/.-]{0,16}") {
            prop_assert!(Targets::parse(&text).is_none_or(|targets| Targets::parse(&targets.to_string()) == Some(targets)));
        }
    }
}
