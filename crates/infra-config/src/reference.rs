//! What the settings are, for people and for editors: made from the declarations.
//!
//! Backends that are not part of this version, and the settings that only they use, are left out.

use std::fmt::Write as _;

use crate::builtin::BACKEND_FEATURES;
use crate::setting::{Choice, Kind, Required, Secrecy, Setting};

/// A Markdown table of settings.
pub fn markdown(settings: &[Setting]) -> String {
    let mut text =
        String::from("| variable | value | default | reload | about |\n|---|---|---|---|---|\n");
    for setting in present(settings) {
        let value = setting
            .kind
            .expected_with(BACKEND_FEATURES)
            .replace('|', "\\|");
        let default = setting
            .default
            .map_or_else(String::new, |text| format!("`{text}`"));
        let reload = if setting.reloadable { "yes" } else { "restart" };
        let about = about(setting).replace('|', "\\|");
        let name = setting.name;
        push(
            &mut text,
            format_args!("| `{name}` | {value} | {default} | {reload} | {about} |"),
        );
    }
    text
}

/// A `.env` file in which every setting stands as a comment, with its default.
pub fn env_example(settings: &[Setting]) -> String {
    let mut text = String::from("# Every setting with its default. Remove the `#` to set one.\n");
    for setting in present(settings) {
        text.push('\n');
        let expected = setting.kind.expected_with(BACKEND_FEATURES);
        push(&mut text, format_args!("# {}", about(setting)));
        push(&mut text, format_args!("# Expected: {expected}."));
        let default = setting.default.unwrap_or_default();
        push(
            &mut text,
            format_args!("#{}={}", setting.name, quote(default)),
        );
    }
    text
}

/// A JSON schema of an object with the settings as keys. Numbers may be numbers or text.
pub fn json_schema(settings: &[Setting]) -> String {
    let properties: Vec<String> = present(settings).map(property).collect();
    let required: Vec<String> = present(settings)
        .filter(|setting| setting.required == Required::Always)
        .map(|setting| json(setting.name))
        .collect();
    format!(
        "{{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \
         \"type\": \"object\",\n  \"additionalProperties\": false,\n  \
         \"required\": [{}],\n  \"properties\": {{\n{}\n  }}\n}}\n",
        required.join(", "),
        properties.join(",\n")
    )
}

/// The settings that something in this version uses.
fn present(settings: &[Setting]) -> impl Iterator<Item = &Setting> {
    let find = |name: &str| settings.iter().find(|other| other.name == name);
    settings
        .iter()
        .filter(move |setting| is_in_use(setting, find))
}

/// Whether something in this version uses the setting; `find` finds others by name.
pub(crate) fn is_in_use<'a>(setting: &Setting, find: impl Fn(&str) -> Option<&'a Setting>) -> bool {
    let Some(selection) = setting.used_with else {
        return true;
    };
    let Some(Kind::Choice(choices)) = find(selection.setting).map(|other| other.kind) else {
        return true;
    };
    let mut in_use = choices.iter().filter(in_version);
    in_use.any(|choice| selection.values.contains(&choice.word))
}

fn in_version(choice: &&Choice) -> bool {
    choice.is_present(BACKEND_FEATURES)
}

/// The documentation and what else is declared, in sentences.
fn about(setting: &Setting) -> String {
    let mut text = setting.doc.to_owned();
    match setting.required {
        Required::No => {}
        Required::Always => text.push_str(" Required."),
        Required::InEnvironment(name) => {
            let _ = write!(text, " Required when `INFRA_ENV` is `{name}`.");
        }
        Required::With(selection) => {
            let (other, values) = (selection.setting, selection.values.join("`, `"));
            let _ = write!(text, " Required when `{other}` is `{values}`.");
        }
    }
    if let Some(limit) = setting.at_most {
        let _ = write!(text, " At most `{limit}`.");
    }
    if setting.secrecy == Secrecy::Secret {
        text.push_str(" Never printed.");
    }
    text.trim_start().to_owned()
}

fn property(setting: &Setting) -> String {
    let mut members = vec![format!("\"description\": {}", json(&about(setting)))];
    members.extend(constraints(&setting.kind));
    if let Some(default) = setting.default {
        members.push(format!("\"default\": {}", json(default)));
    }
    if setting.secrecy != Secrecy::Plain {
        members.push("\"writeOnly\": true".to_owned());
    }
    let members = members.join(",\n      ");
    format!("    {}: {{\n      {members}\n    }}", json(setting.name))
}

fn constraints(kind: &Kind) -> Vec<String> {
    let number = |json_type, min: String, max: String| {
        let types = format!("\"type\": [\"{json_type}\", \"string\"]");
        vec![
            types,
            format!("\"minimum\": {min}"),
            format!("\"maximum\": {max}"),
        ]
    };
    let text = |pattern: &str| {
        vec![
            "\"type\": \"string\"".to_owned(),
            format!("\"pattern\": {}", json(pattern)),
        ]
    };
    match kind {
        Kind::Text | Kind::LogLevel | Kind::Custom { .. } => {
            vec!["\"type\": \"string\"".to_owned()]
        }
        Kind::Integer { min, max } => number("integer", min.to_string(), max.to_string()),
        Kind::Number { min, max } => number("number", min.to_string(), max.to_string()),
        Kind::Boolean => vec!["\"type\": [\"boolean\", \"string\"]".to_owned()],
        Kind::Duration { .. } => text("^[0-9]+(\\.[0-9]+)? *(us|ms|s|m|h|d)$"),
        Kind::Size { .. } => text("^[0-9]+(\\.[0-9]+)? *([kKmMgG]i?)?[bB]$"),
        Kind::Choice(choices) => {
            let words: Vec<String> = choices
                .iter()
                .filter(in_version)
                .map(|choice| json(choice.word))
                .collect();
            vec![
                "\"type\": \"string\"".to_owned(),
                format!("\"enum\": [{}]", words.join(", ")),
            ]
        }
        Kind::Url { schemes } => {
            let schemes = schemes.join("|").replace('+', "[+]");
            text(&format!("^({schemes})://"))
        }
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{line}");
}

/// The value as a `.env` file writes it.
fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+=".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let escaped = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('$', "\\$");
    format!("\"{}\"", escaped.replace('\n', "\\n").replace('\r', "\\r"))
}

/// The text as a JSON string.
fn json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
