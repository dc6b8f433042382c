//! [`Template`]: the text of `--template`, with places for the parts of a notification.

use serde_json::Value;

use crate::record::{Item, push_data};

/// The names between braces.
const NAMES: [(&str, Part); 7] = [
    ("channel", Part::Channel),
    ("payload", Part::Payload),
    ("topic", Part::Topic),
    ("pid", Part::ProcessId),
    ("received_at", Part::ReceivedAt),
    ("sequence", Part::Sequence),
    ("epoch", Part::Epoch),
];

/// How similar a name must be so that it is proposed: of 0 to 1.
const SIMILAR: f64 = 0.7;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Channel,
    Payload,
    Topic,
    ProcessId,
    ReceivedAt,
    Sequence,
    Epoch,
    /// A place in a payload that is JSON: a JSON Pointer, RFC 6901.
    Pointer(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

impl Template {
    /// Parses `{channel} {/order/id}\t{payload}`. `{{` and `}}` are braces, and `\n`, `\t` and `\\` are escapes.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}', '\\']) {
            let (plain, tail) = rest.split_at(at);
            literal.push_str(plain);
            let (escape, after) =
                [("{{", "{"), ("}}", "}"), ("\\n", "\n"), ("\\t", "\t"), ("\\\\", "\\")]
                    .iter()
                    .find_map(|(from, to)| tail.strip_prefix(from).map(|after| (*to, after)))
                    .unwrap_or(("", tail));
            rest = after;
            if !escape.is_empty() {
                literal.push_str(escape);
            } else if let Some(inner) = tail.strip_prefix('{') {
                let (name, after) = inner
                    .split_once('}')
                    .ok_or("expected } after {; a brace itself is written {{ or }}")?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(named(name)?);
                rest = after;
            } else if tail.starts_with('}') {
                return Err("expected { before }; a brace itself is written {{ or }}".to_owned());
            } else {
                return Err("expected \\n, \\t or \\\\ after a backslash".to_owned());
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Appends a record. Hidden characters of the notification are escaped, so that a line of the template is a line of output.
    pub(crate) fn push(&self, item: &Item<'_>, received_at: &str, out: &mut Vec<u8>) {
        // It is parsed once, and only if it is needed.
        let mut json = None;
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Channel => push_data(item.channel, |_| false, out),
                Part::Payload => push_data(item.payload, |_| false, out),
                Part::Topic => push_data(item.topic.unwrap_or_default(), |_| false, out),
                Part::ProcessId => out.extend_from_slice(item.process_id.to_string().as_bytes()),
                Part::ReceivedAt => out.extend_from_slice(received_at.as_bytes()),
                Part::Sequence => out.extend_from_slice(item.sequence.to_string().as_bytes()),
                Part::Epoch => out.extend_from_slice(item.epoch.to_string().as_bytes()),
                Part::Pointer(pointer) => {
                    let json = json.get_or_insert_with(|| parsed(item.payload));
                    let found = json.as_ref().and_then(|value| value.pointer(pointer));
                    push_data(&text_of(found), |_| false, out);
                }
            }
        }
        out.push(b'\n');
    }
}

/// Returns a payload that is JSON.
pub(super) fn parsed(payload: &str) -> Option<Value> {
    serde_json::from_str(payload).ok()
}

/// Returns the content of a string, the JSON of another value, and nothing for null and for no value.
pub(super) fn text_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn named(name: &str) -> Result<Part, String> {
    if name.starts_with('/') {
        return Ok(Part::Pointer(name.to_owned()));
    }
    if let Some((_, part)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(part.clone());
    }
    let likeness = |known: &str| strsim::jaro(known, name);
    let nearest =
        NAMES.iter().map(|(known, _)| *known).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let names: Vec<_> = NAMES.iter().map(|(known, _)| *known).collect();
    Err(match nearest.filter(|known| likeness(known) >= SIMILAR) {
        Some(nearest) => format!("there is no {{{name}}}; did you mean {{{nearest}}}?"),
        None => format!(
            "there is no {{{name}}}: expected {}, or a place in JSON such as {{/order/id}}",
            names.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Item<'static> = Item {
        channel: "orders",
        payload: "{\"order\":{\"id\":7,\"name\":\"a\\nb\"},\"list\":[1,true,null]}",
        topic: Some("eu"),
        process_id: 4711,
        sequence: 3,
        epoch: 1,
    };

    fn printed(template: &str, item: &Item<'_>) -> String {
        let mut out = Vec::new();
        Template::parse(template).unwrap().push(item, "12:00", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_and_places_in_json_are_replaced() {
        for (template, expected) in [
            (
                "{channel} {pid} {sequence} {epoch} {topic} {received_at}",
                "orders 4711 3 1 eu 12:00",
            ),
            ("{/order/id}\\t{/list}", "7\t[1,true,null]"),
            ("{/order/name}", "a\\nb"),
            ("{/list/1}{/list/2}{/none}|", "true|"),
            ("{{{channel}}} \\\\ \\n", "{orders} \\ \n"),
            ("", ""),
        ] {
            assert_eq!(printed(template, &ITEM), format!("{expected}\n"), "{template}");
        }
        let text = Item { payload: "not JSON\x1b[2J", ..ITEM };
        assert_eq!(printed("{/order}<{payload}>", &text), "<not JSON\\u{1b}[2J>\n");
    }

    #[test]
    fn a_wrong_template_says_what_is_wrong() {
        for (template, expected) in [
            ("{chanel}", "there is no {chanel}; did you mean {channel}?"),
            ("{payloads}", "there is no {payloads}; did you mean {payload}?"),
            ("{x}", "there is no {x}: expected channel, payload, "),
            ("{", "expected } after {"),
            ("a}", "expected { before }"),
            ("\\x", "expected \\n, \\t or \\\\ after a backslash"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.starts_with(expected), "{template}: {error}");
        }
    }
}
