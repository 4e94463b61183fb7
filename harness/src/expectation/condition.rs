//! Conditions on one value: of a span's attribute, or of an answer.
//!
//! A condition is written as the plain value that it must be, or as a mapping of what must hold of it; the same form is
//! read from scenario files and from saved runs.

use std::fmt;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// Longest part of a value that a message shows, in characters.
const SHOWN: usize = 120;

/// Conditions on a value: all that are given must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// The value is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// The value's text has a part that this regular expression matches; `^` and `$` stand for its ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Pattern>,
    /// The value's text contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Whether it is there at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    /// Type of the value.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub value_type: Option<ValueType>,
    /// The value is a number, and no less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The value is a number, and no more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

/// [`Conditions`] that are sound: some are given, and they do not exclude one another.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Conditions);

/// Type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueType {
    /// A text.
    Text,
    /// A number; of a text, one that reads as a number.
    Number,
    /// True or false; of a text, one that reads so.
    Boolean,
    /// A list; of a text, one that is a list in JSON.
    List,
    /// A mapping of keys; of a text, one that is an object in JSON.
    Object,
    /// JSON's null.
    Null,
}

impl ValueType {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Null => "null",
        }
    }
}

/// A regular expression, shown and compared by its text.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Regex::new(text).map(Self).map_err(|error| {
            // The library draws the place over several lines; its last one says what it is.
            let reported = error.to_string();
            let last = reported.lines().last().unwrap_or_default();
            let reason = last.trim_start_matches("error: ");
            format!(
                "`{text}` is not a valid regular expression ({reason}); escape literal characters with `\\`"
            )
        })
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "regex" })
    }
}

/// Error of [`Conditions`] that can decide nothing.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidCondition {
    /// None is given.
    #[error(
        "empty condition: give at least one of `equals`, `matches`, `contains`, `exists`, `type`, `at_least` and `at_most`"
    )]
    Empty,
    /// A value that is not there cannot be anything.
    #[error("`exists: false` stands alone: what is not there has no value")]
    AbsentWithValue,
    /// No number is in the range.
    #[error("`at_most` ({most}) is less than `at_least` ({least})")]
    EmptyRange {
        /// Lower bound.
        least: f64,
        /// Upper bound.
        most: f64,
    },
}

impl TryFrom<Conditions> for Condition {
    type Error = InvalidCondition;

    fn try_from(all: Conditions) -> Result<Self, Self::Error> {
        let without = Conditions { exists: None, ..all.clone() };
        if all == Conditions::default() {
            return Err(InvalidCondition::Empty);
        }
        if all.exists == Some(false) && without != Conditions::default() {
            return Err(InvalidCondition::AbsentWithValue);
        }
        if let (Some(least), Some(most)) = (all.at_least, all.at_most)
            && most < least
        {
            return Err(InvalidCondition::EmptyRange { least, most });
        }
        Ok(Self(all))
    }
}

impl Condition {
    /// Creates the condition that a value equals `value`.
    pub fn equals(value: impl Into<Value>) -> Self {
        Self(Conditions { equals: Some(value.into()), ..Conditions::default() })
    }

    /// Returns whether the condition requires the value to be absent.
    pub fn is_of_absence(&self) -> bool {
        self.0.exists == Some(false)
    }

    /// Returns what is wrong with a JSON value; `None` if it meets the condition. Numbers are compared by value,
    /// everything else by form.
    pub fn wrong_with(&self, got: Option<&Value>) -> Option<String> {
        self.wrong(got.map(Got::Json))
    }

    /// Returns what is wrong with a textual value, which numeric conditions parse as a number; `None` if it meets the
    /// condition.
    pub fn wrong_with_text(&self, got: Option<&str>) -> Option<String> {
        self.wrong(got.map(Got::Text))
    }

    fn wrong(&self, got: Option<Got<'_>>) -> Option<String> {
        let Some(got) = got else {
            return (!self.is_of_absence()).then(|| format!("{self}, is not there"));
        };
        if self.is_of_absence() {
            return Some(format!("should not be there, is {}", got.shown()));
        }
        let all = &self.0;
        let text = got.text();
        let number = got.number();
        let within = number.is_some_and(|number| {
            all.at_least.is_none_or(|least| number >= least)
                && all.at_most.is_none_or(|most| number <= most)
        });
        let ranged = all.at_least.is_some() || all.at_most.is_some();
        // Only what does not hold is reported.
        let failed = Conditions {
            equals: all.equals.clone().filter(|equals| !got.is(equals)),
            matches: all.matches.clone().filter(|pattern| !pattern.0.is_match(&text)),
            contains: all.contains.clone().filter(|part| !text.contains(part.as_str())),
            exists: None,
            value_type: all.value_type.filter(|wanted| !got.is_of(*wanted)),
            at_least: all.at_least.filter(|_| ranged && !within),
            at_most: all.at_most.filter(|_| ranged && !within),
        };
        (failed != Conditions::default()).then(|| format!("{}, is {}", Self(failed), got.shown()))
    }
}

/// As messages begin: ``should be `new` ``, `should be a number and at least 3`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = &self.0;
        let mut reported = Vec::new();
        reported.extend(all.equals.as_ref().map(|value| format!("be `{}`", text_of(value))));
        reported
            .extend(all.matches.as_ref().map(|pattern| format!("match `{}`", pattern.0.as_str())));
        reported.extend(all.contains.as_ref().map(|part| format!("contain `{part}`")));
        reported.extend(all.value_type.map(|wanted| format!("be {}", wanted.name())));
        reported.extend(all.at_least.map(|least| format!("be at least {least}")));
        reported.extend(all.at_most.map(|most| format!("be at most {most}")));
        match (reported.is_empty(), self.is_of_absence()) {
            (_, true) => write!(f, "should not be there"),
            (true, false) => write!(f, "should be there"),
            (false, false) => write!(f, "should {}", reported.join(" and ")),
        }
    }
}

/// A value as it was found.
#[derive(Clone, Copy)]
enum Got<'a> {
    Json(&'a Value),
    Text(&'a str),
}

impl Got<'_> {
    fn text(self) -> String {
        match self {
            Self::Json(value) => text_of(value),
            Self::Text(text) => text.to_owned(),
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Json(value) => value.as_f64(),
            Self::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }

    fn is(self, wanted: &Value) -> bool {
        match self {
            Self::Json(value) => match (value.as_f64(), wanted.as_f64()) {
                (Some(got), Some(wanted)) => got == wanted,
                _ => value == wanted,
            },
            // What was written without quotes is meant as the text that it is.
            Self::Text(text) => text == text_of(wanted),
        }
    }

    fn is_of(self, wanted: ValueType) -> bool {
        let parsed;
        let value = match self {
            Self::Json(value) => value,
            Self::Text(_) if wanted == ValueType::Text => return true,
            Self::Text(_) if wanted == ValueType::Number => return self.number().is_some(),
            Self::Text(text) => match serde_json::from_str(text) {
                Ok(value) => {
                    parsed = value;
                    &parsed
                }
                Err(_) => return false,
            },
        };
        match wanted {
            ValueType::Text => value.is_string(),
            ValueType::Number => value.is_number(),
            ValueType::Boolean => value.is_boolean(),
            ValueType::List => value.is_array(),
            ValueType::Object => value.is_object(),
            ValueType::Null => value.is_null(),
        }
    }

    fn shown(self) -> String {
        format!("`{}`", shortened(&self.text(), SHOWN))
    }
}

/// A value of JSON as the text that it stands for: without the quotes where it is a text.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The beginning of a text that is too long to be shown whole.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Conditions {
                equals: Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))),
                matches: None,
                contains: None,
                exists: None,
                value_type: None,
                at_least: None,
                at_most: None,
            } => value.serialize(serializer),
            all => all.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Reads either form.
struct Written;

impl<'de> de::Visitor<'de> for Written {
    type Value = Condition;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a value, or a mapping of `equals`, `matches`, `contains`, `exists`, `type`, `at_least`, `at_most`"
        )
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Condition, E> {
        Ok(Condition::equals(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Condition, E> {
        Ok(Condition::equals(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Condition, E> {
        Ok(Condition::equals(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Condition, E> {
        Ok(Condition::equals(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Condition, E> {
        Ok(Condition::equals(value))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Condition, A::Error> {
        let all = Conditions::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Condition::try_from(all).map_err(de::Error::custom)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let conditions = generator.subschema_for::<Conditions>();
        schemars::json_schema!({
            "description": "The value that it must be, or conditions on it.",
            "anyOf": [{ "type": ["string", "number", "boolean"] }, conditions]
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(value: Value) -> Condition {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_condition_reports_what_it_wants_and_what_there_is() {
        let cases = [
            (json!("new"), json!("old"), "should be `new`, is `old`"),
            (json!({ "equals": [1] }), json!([2]), "should be `[1]`, is `[2]`"),
            (json!({ "matches": "^[0-9]+$" }), json!("x7"), "should match `^[0-9]+$`, is `x7`"),
            (json!({ "contains": "b" }), json!("ac"), "should contain `b`, is `ac`"),
            (json!({ "exists": false }), json!(1), "should not be there, is `1`"),
            (json!({ "type": "number" }), json!("1"), "should be a number, is `1`"),
            (json!({ "at_least": 2 }), json!(1.5), "should be at least 2, is `1.5`"),
            (
                json!({ "at_least": 2, "at_most": 3 }),
                json!("x"),
                "should be at least 2 and be at most 3, is `x`",
            ),
            (json!({ "contains": "a", "type": "list" }), json!("a"), "should be a list, is `a`"),
        ];
        for (written, got, reported) in cases {
            assert_eq!(
                condition(written.clone()).wrong_with(Some(&got)).as_deref(),
                Some(reported),
                "{written}"
            );
        }
        let missing = condition(json!({ "exists": true })).wrong_with(None);
        assert_eq!(missing.as_deref(), Some("should be there, is not there"));
    }

    #[test]
    fn what_fits_is_not_reported() {
        let cases = [
            (json!("new"), json!("new")),
            (json!(7), json!(7.0)),
            (json!({ "matches": "^a.c$", "contains": "b" }), json!("abc")),
            (json!({ "exists": true }), json!(null)),
            (json!({ "type": "null" }), json!(null)),
            (json!({ "at_least": 1, "at_most": 1 }), json!(1)),
        ];
        for (written, got) in cases {
            assert_eq!(condition(written.clone()).wrong_with(Some(&got)), None, "{written}");
        }
        assert_eq!(condition(json!({ "exists": false })).wrong_with(None), None);
    }

    #[test]
    fn a_text_is_compared_as_text_and_read_where_a_number_is_asked_for() {
        assert_eq!(condition(json!(200)).wrong_with_text(Some("200")), None);
        assert_eq!(condition(json!(true)).wrong_with_text(Some("true")), None);
        assert_eq!(condition(json!({ "at_most": 300 })).wrong_with_text(Some("200")), None);
        for (wanted, text) in
            [("number", "7"), ("boolean", "false"), ("list", "[1]"), ("text", "7")]
        {
            assert_eq!(
                condition(json!({ "type": wanted })).wrong_with_text(Some(text)),
                None,
                "{wanted}"
            );
        }
        let reported = condition(json!({ "type": "boolean" })).wrong_with_text(Some("yes"));
        assert_eq!(reported.as_deref(), Some("should be true or false, is `yes`"));
    }

    #[test]
    fn conditions_that_can_decide_nothing_are_refused() {
        let refused =
            |value: Value| serde_json::from_value::<Condition>(value).unwrap_err().to_string();
        assert!(refused(json!({})).starts_with("empty condition"));
        assert!(refused(json!({ "exists": false, "type": "text" })).contains("stands alone"));
        assert!(refused(json!({ "at_least": 2, "at_most": 1 })).contains("is less than"));
        assert!(
            refused(json!({ "matches": "(" }))
                .starts_with("`(` is not a valid regular expression (unclosed group)")
        );
    }

    #[test]
    fn both_forms_are_written_as_they_are_read() {
        for written in [
            json!("a"),
            json!(1),
            json!(true),
            json!({ "matches": "^a" }),
            json!({ "at_least": 1.5 }),
        ] {
            assert_eq!(serde_json::to_value(condition(written.clone())).unwrap(), written);
        }
    }
}
