//! [`Printer`]: writes notifications and losses in the form that was asked for.

use std::time::SystemTime;

use pgbell::Loss;

use super::args::{Listen, ListenFormat};
use super::indent::push_indented;
use super::template::Template;
use crate::palette::Palette;
use crate::record::{
    self, Clock, Item, JSON_DECIMALS, TimeStyle, push_data, push_visible, timestamp,
};

#[derive(Debug)]
pub(super) struct Printer {
    layout: Layout,
    clock: Clock,
    palette: Palette,
}

#[derive(Debug)]
enum Layout {
    Text {
        is_pretty: bool,
    },
    /// The payload alone, with escapes.
    Payload,
    Json {
        is_pretty: bool,
    },
    /// The payload as it is, and this byte.
    Raw(u8),
    Template(Template),
}

impl Printer {
    pub(super) fn new(args: &Listen) -> Self {
        let layout = match (&args.template, args.format) {
            (Some(template), _) => Layout::Template(template.clone()),
            (None, _) if args.payload_only => Layout::Payload,
            (None, ListenFormat::Text) => Layout::Text { is_pretty: args.pretty },
            (None, ListenFormat::Json) => Layout::Json { is_pretty: args.pretty },
            (None, ListenFormat::Raw) => Layout::Raw(b'\n'),
            (None, ListenFormat::Nul) => Layout::Raw(0),
        };
        // A template has a place for the time: without a style it is in UTC.
        let style = match (&layout, args.time) {
            (Layout::Template(_), TimeStyle::None) => TimeStyle::Utc,
            (_, style) => style,
        };
        Self { layout, clock: Clock::new(style), palette: Palette::new(args.color) }
    }

    /// Returns whether a loss has a record at its position. In the other layouts it could not be distinguished from a payload.
    pub(super) fn has_losses(&self) -> bool {
        matches!(self.layout, Layout::Text { .. } | Layout::Json { .. })
    }

    /// Returns the text of a time of receipt, which is that of a whole batch.
    pub(super) fn time(&self, at: SystemTime) -> String {
        match self.layout {
            Layout::Json { .. } => timestamp(at, JSON_DECIMALS),
            Layout::Raw(_) | Layout::Payload => String::new(),
            Layout::Text { .. } | Layout::Template(_) => self.clock.text(at),
        }
    }

    pub(super) fn push(&self, item: &Item<'_>, received_at: &str, out: &mut Vec<u8>) {
        match &self.layout {
            Layout::Text { is_pretty: false } if self.palette == Palette::PLAIN => {
                item.push_text(received_at, out);
            }
            Layout::Text { is_pretty } => self.push_for_people(item, received_at, *is_pretty, out),
            Layout::Payload => {
                push_data(item.payload, |_| false, out);
                out.push(b'\n');
            }
            Layout::Json { is_pretty: false } => item.push_json(received_at, out),
            Layout::Json { is_pretty: true } => {
                let mut line = Vec::new();
                item.push_json(received_at, &mut line);
                // It is JSON, whose hidden characters are escaped.
                push_indented(&String::from_utf8_lossy(&line), out);
                out.push(b'\n');
            }
            Layout::Raw(end) => {
                out.extend_from_slice(item.payload.as_bytes());
                out.push(*end);
            }
            Layout::Template(template) => template.push(item, received_at, out),
        }
    }

    /// Appends a record with colours, and JSON over several lines.
    fn push_for_people(
        &self,
        item: &Item<'_>,
        received_at: &str,
        is_pretty: bool,
        out: &mut Vec<u8>,
    ) {
        let Palette { faint, name, end, .. } = self.palette;
        if !received_at.is_empty() {
            out.extend_from_slice(format!("{faint}{received_at}{end} ").as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        push_data(item.channel, |c| c == ' ', out);
        out.extend_from_slice(format!("{end} {faint}#{}{end} ", item.process_id).as_bytes());
        if !(is_pretty && push_indented(item.payload, out)) {
            push_data(item.payload, |_| false, out);
        }
        out.push(b'\n');
    }

    /// Appends the record of a loss, if the layout has one.
    pub(super) fn push_loss(&self, loss: &Loss, out: &mut Vec<u8>) {
        match self.layout {
            Layout::Json { .. } => record::push_json_loss(loss, out),
            Layout::Text { .. } => {
                let Palette { faint, warning, end, .. } = self.palette;
                let at = self.clock.text(record::time_of(loss, SystemTime::now()));
                if !at.is_empty() {
                    out.extend_from_slice(format!("{faint}{at}{end} ").as_bytes());
                }
                out.extend_from_slice(format!("{warning}~ ").as_bytes());
                push_visible(&record::describe(loss), out);
                out.extend_from_slice(end.as_bytes());
                out.push(b'\n');
            }
            Layout::Payload | Layout::Raw(_) | Layout::Template(_) => {}
        }
    }
}
